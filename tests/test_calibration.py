"""Coverage, deciles and CRPS of percentiles whose quality is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, poisson

from fullcount.evaluation.calibration import STATS, below, crps, deciles, judged, pit, shown, summary
from fullcount.projection.drawing import LEVELS
from fullcount.projection.system import COUNTS, RATES, ROLES, League, Projection
from fullcount.report.figures import calibrations
from fullcount.sources.tables import BATTING_COUNTS, conform, empty

LEVEL = np.array(LEVELS) / 100


def test_crps_is_that_of_a_normal() -> None:
    """Closed form (Gneiting & Raftery, JASA 102, 2007, eq. 21): deciles come within two per cent."""
    z = np.random.default_rng(0).standard_normal(4000)
    exact = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)
    ours = crps(3 * z, np.tile(3 * norm.ppf(LEVEL), (len(z), 1)))
    assert ours.mean() == pytest.approx(3 * exact.mean(), rel=0.025)


@given(st.floats(0.2, 40), st.integers(0, 60))
def test_the_transform_holds_the_exact_one(mean: float, y: int) -> None:
    low, high = pit(np.array([float(y)]), poisson.ppf(LEVEL, mean)[None, :])
    assert low[0] <= high[0]
    assert abs(low[0] - poisson.cdf(y - 1, mean)) < 0.0501
    assert abs(high[0] - poisson.cdf(y, mean)) < 0.0501 or low[0] == high[0]


def test_counts_with_many_ties_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    for mean in (0.3, 1.5, 8.0):
        y = rng.poisson(mean, 4000).astype(float)
        low, high = pit(y, np.tile(poisson.ppf(LEVEL, mean), (len(y), 1)))
        assert float((below(low, high, 0.9) - below(low, high, 0.1)).mean()) == pytest.approx(0.8, abs=0.04)


@dataclass(frozen=True)
class Told:
    """Percentiles of a normal of a given width round the truth's centre."""

    width: float
    name: str

    def project(self, as_of: date, league: League) -> Projection:
        tables = {}
        for role in ROLES:
            q = norm.ppf(LEVEL)
            names = dict.fromkeys((*STATS[role], *COUNTS[role], *RATES[role]))
            columns = {
                f"{c}_p{level}": np.full(400, 300 + 50 * self.width * x)
                for c in names
                for level, x in zip(LEVELS, q, strict=True)
            }
            tables[role] = pl.DataFrame({"player": np.arange(400), **columns})
        return Projection.of(as_of.year, tables["hitters"], tables["pitchers"])


def test_too_narrow_is_told_from_right() -> None:
    pa = np.rint(norm.ppf((np.arange(400) + 0.5) / 400, 300, 50)).astype(int)
    lines = [
        dict.fromkeys(BATTING_COUNTS, 0) | {"player": i, "season": 2012, "league": "MLB", "team": "AAA", "G": 100,
                                            "is_pitcher": False, "PA": int(n), "AB": int(n)}
        for i, n in enumerate(pa)
    ]  # fmt: skip
    league = League(conform(pl.DataFrame(lines), "batting_seasons"), empty("pitching_seasons"), empty("players"))
    rows = judged([Told(1.0, "right"), Told(0.5, "narrow")], league, [2012])
    lines_ = summary(rows, draws=200).filter(role="hitters", stat="PA", tier="all")
    right, narrow = lines_.sort("system", descending=True).iter_rows(named=True)
    assert right["coverage"] == pytest.approx(0.8, abs=0.01)
    assert narrow["coverage"] == pytest.approx(2 * norm.cdf(0.5 * 1.2816) - 1, abs=0.01)
    assert narrow["coverage_high"] < right["coverage_low"]
    assert right["gain"] == pytest.approx(0, abs=1e-9)
    assert narrow["gain_high"] < 0
    assert narrow["width"] == pytest.approx(right["width"] / 2)
    shares = deciles(rows)["hitters: PA"]["right"]
    assert all(abs(share - level / 100) < 0.01 for level, share in shares.items())
    table = shown(summary(rows, draws=50), "hitters", "narrow")
    assert table["stat"].to_list()[0] == "PA"
    assert len(calibrations(deciles(rows)).axes) == len(deciles(rows))
