"""The whole comparison: on an invented league whose answers are known, and on the real one against anchors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import BacktestResult, backtest
from fullcount.evaluation.cohorts import COHORTS, Cohort, league_mean, outcomes
from fullcount.projection.external import External
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import ROLES, League, Projection, Role, target_season
from fullcount.sources.tables import BATTING_COUNTS, PITCHING_COUNTS, conform


def invented(players: int = 150, seasons: range = range(2010, 2016), seed: int = 1) -> League:
    """Players with a home-run talent of their own; odd ones bat, every third pitches too."""
    rng = np.random.default_rng(seed)
    power, speed = rng.beta(3, 90, players), rng.beta(1, 40, players)
    rows, arms = [], []
    for season in seasons:
        pa = rng.integers(50, 700, players)
        for i in range(players):
            ab = int(pa[i] * 0.9)
            hr = int(rng.binomial(pa[i], power[i]))
            rows.append(dict.fromkeys(BATTING_COUNTS, 0) | {
                "player": i, "season": season, "league": "MLB", "team": "AAA", "is_pitcher": i % 10 == 0, "G": 100,
                "PA": int(pa[i]), "AB": ab, "BB": int(pa[i]) - ab, "HR": hr, "H": hr + ab // 5, "2B": ab // 20,
                "SB": int(rng.binomial(pa[i], speed[i])), "SO": int(rng.binomial(ab, 0.2)), "R": 2 * hr, "RBI": 3 * hr,
            })  # fmt: skip
            if i % 3 == 0:
                outs = int(rng.integers(60, 600))
                arms.append(dict.fromkeys(PITCHING_COUNTS, 0) | {
                    "player": i, "season": season, "league": "MLB", "team": "AAA", "G": 30, "GS": 15, "outs": outs,
                    "BF": int(1.45 * outs), "H": outs // 3, "BB": outs // 9, "ER": int(rng.poisson(outs / 7)),
                    "SO": int(rng.binomial(outs, 0.3)), "HR": outs // 27, "W": outs // 60,
                })  # fmt: skip
    people = pl.DataFrame({"player": range(players), "last_name": [f"P{i}" for i in range(players)],
                           "birth_date": [date(1985, 7, 1)] * players})  # fmt: skip
    return League(
        conform(pl.DataFrame(rows), "batting_seasons"), conform(pl.DataFrame(arms), "pitching_seasons"),
        conform(people, "players"),
    )  # fmt: skip


LEAGUE = invented()


@dataclass(frozen=True)
class Oracle:
    """Knows the season (a cheat, for tests), of some players, times a factor, in another's playing time or its own."""

    name: str = "oracle"
    every: int = 1
    factor: float = 1.0
    blind: tuple[str, ...] = ()

    def project(self, as_of: date, league: League) -> Projection:
        truth = outcomes(league, target_season(as_of))
        keep = pl.col("player") % self.every == 0
        tables = {r: truth.role(r).filter(keep) for r in ROLES}
        tables = {
            r: t.with_columns(pl.col(pl.Float64) * self.factor).with_columns(
                pl.lit(None, dtype=pl.Float64).alias(c) for c in self.blind
            )
            for r, t in tables.items()
        }
        return Projection.of(truth.season, tables["hitters"], tables["pitchers"])


def row(result: BacktestResult, frame: str, **keys: str) -> dict[str, float]:
    found = getattr(result, frame).filter(**keys)
    assert found.height == 1
    return found.row(0, named=True)


def test_the_truth_is_perfect() -> None:
    every_rate: dict[Role, float] = {"hitters": 0, "pitchers": 0}
    result = backtest([Oracle(), Marcel()], LEAGUE, [2014, 2015], bootstrap=200, rate_floor=every_rate)
    for cohort in "ABC":
        for role, stat in (("hitters", "HR"), ("hitters", "OBP"), ("pitchers", "ERA")):
            got = row(result, "mean", system="oracle", cohort=cohort, role=role, stat=stat)
            for metric, want in {"r": 1, "spearman": 1, "slope": 1, "sd_ratio": 1, "rmse": 0, "mae": 0}.items():
                assert got[metric] == pytest.approx(want, abs=1e-9)
            assert got["coverage"] == 1
    marcel = row(result, "mean", system="marcel", cohort="A", role="hitters", stat="HR%")
    assert 0.5 < marcel["r"] < marcel["ceiling"] < 1
    assert marcel["ceiling_share"] == pytest.approx((marcel["r"] / marcel["ceiling"]) ** 2, rel=0.1)
    paired = row(result, "intervals", system="marcel", cohort="A", role="hitters", stat="HR", metric="r")
    assert paired["difference_low"] < paired["difference"] < paired["difference_high"] < 0
    assert paired["low"] < paired["value"] < paired["high"]
    self_paired = row(result, "intervals", system="oracle", cohort="A", role="hitters", stat="HR", metric="r")
    assert self_paired["difference"] == self_paired["difference_low"] == 0
    assert row(result, "mean", system="oracle", cohort="A", role="hitters", stat="rho5")["spearman"] == pytest.approx(1)


def test_common_players_and_coverage() -> None:
    systems = [Oracle(), Oracle("half", every=2)]
    together = backtest(systems, LEAGUE, [2015], ["A"], bootstrap=0)
    apart = backtest(systems, LEAGUE, [2015], ["A"], common=False, bootstrap=0)
    keys = {"cohort": "A", "role": "hitters", "stat": "HR"}
    both = [row(together, "table", system=s.name, **keys) for s in systems]
    own = [row(apart, "table", system=s.name, **keys) for s in systems]
    assert both[0]["n"] == both[1]["n"] == own[1]["n"] < own[0]["n"]
    assert both[0]["coverage"] == own[0]["coverage"] == 1
    assert both[1]["coverage"] == pytest.approx(own[1]["n"] / own[0]["n"])
    assert together.intervals.is_empty()


def test_a_statistic_nobody_gives_does_not_spoil_the_others() -> None:
    result = backtest([Oracle(), Oracle("mute", blind=("HR",))], LEAGUE, [2015], ["A"],
                      stats={"hitters": ("HR", "PA")}, bootstrap=50)  # fmt: skip
    assert result.mean.filter(stat="HR")["system"].to_list() == ["oracle"]
    assert result.mean.filter(stat="PA")["n"].n_unique() == 1
    assert result.mean.filter(stat="PA").height == 2


def test_cohorts() -> None:
    truth = outcomes(LEAGUE, 2015)
    marcel = Marcel().project(date(2015, 3, 1), LEAGUE)
    a = COHORTS["A"].members(truth.hitters, marcel.hitters, "hitters")
    assert set(a["player"]) == set(truth.hitters.filter(pl.col("PA") >= 200)["player"])
    b = COHORTS["B"].members(truth.hitters, marcel.hitters, "hitters")
    assert set(b["player"]) == set(marcel.hitters.filter(pl.col("PA") >= 350)["player"])
    c = COHORTS["C"].members(truth.hitters, marcel.hitters, "hitters")
    assert c.height == 135  # not the pitchers at bat
    assert c["weight"].sum() == truth.hitters.filter(~pl.col("is_pitcher"))["PA"].sum()


def test_everyone_is_filled_with_the_league_mean() -> None:
    mean = league_mean(LEAGUE, date(2015, 3, 1), "hitters")
    year = LEAGUE.batting_seasons.filter(~pl.col("is_pitcher"), season=2014)
    assert mean["PA"].to_list() == [200]
    assert mean["HR"][0] == pytest.approx(200 * year["HR"].sum() / year["PA"].sum())
    result = backtest([Oracle("half", every=2)], LEAGUE, [2015], ["C"], bootstrap=0)
    hr = row(result, "table", cohort="C", role="hitters", stat="HR")
    assert hr["n"] == 135
    assert 0.4 < hr["coverage"] < 0.6
    assert hr["r"] < 0.99


def test_shared_playing_time() -> None:
    """A truth doubled in every count is the truth again in another's playing time."""
    systems = [Oracle(), Oracle("double", factor=2.0)]
    result = backtest(systems, LEAGUE, [2015], ["A"], playing_time="reference", bootstrap=0)
    assert row(result, "table", system="double", role="hitters", stat="HR")["rmse"] == pytest.approx(0, abs=1e-9)
    own = backtest(systems, LEAGUE, [2015], ["A"], bootstrap=0)
    assert row(own, "table", system="double", role="hitters", stat="HR")["rmse"] > 5
    assert row(own, "table", system="double", role="hitters", stat="OBP")["rmse"] == pytest.approx(0, abs=1e-9)


def test_rates_under_the_floor_are_not_read() -> None:
    strict = backtest([Oracle()], LEAGUE, [2015], ["C"], bootstrap=0, rate_floor={"hitters": 400, "pitchers": 25})
    assert row(strict, "table", role="hitters", stat="OBP")["coverage"] < 0.95
    assert row(strict, "table", role="hitters", stat="HR")["coverage"] == 1


def test_same_seed_same_table_and_seasons_in_any_order() -> None:
    a, b = (
        backtest([Marcel(), Oracle()], LEAGUE, s, ["A"], bootstrap=100, seed=4) for s in ([2014, 2015], [2015, 2014])
    )
    assert a.table.equals(b.table)
    assert a.intervals.equals(b.intervals)


def test_bad_use() -> None:
    for systems, seasons, options, message in (
        ([], [2015], {}, "needs seasons"),
        ([Marcel(), Marcel()], [2015], {}, "differently named"),
        ([Marcel()], [2015], {"cohorts": ["Z"]}, "no cohort 'Z'"),
        ([Marcel()], [2015], {"stats": {"hitters": ["ERA"]}}, "no statistic ERA"),
        ([Marcel()], [2031], {}, "2031"),
        ([External("x", {})], [2015], {}, "not of 2015"),
    ):
        with pytest.raises(FullcountError, match=message):
            backtest(systems, LEAGUE, seasons, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def real_league(data_dir: Path) -> League:
    lahman, register = (pytest.importorskip(f"fullcount.sources.{n}") for n in ("lahman", "register"))
    people = register.read(sorted((data_dir / "register").glob("*.csv.gz"))).players
    tables = lahman.read(data_dir / "lahman", people)
    return League(tables.batting_seasons, tables.pitching_seasons, people)


@pytest.mark.real
def test_anchors_of_marcel(real_league: League) -> None:
    """Marcel 2021-24, players with 200 PA or 50 innings: computed independently, to three decimals."""
    result = backtest([Marcel()], real_league, range(2021, 2025), ["A", "B", Cohort("A100", {"pitchers": 100.0})],
                      bootstrap=0)  # fmt: skip
    hitters = {"HR": 0.633, "SB": 0.668, "OBP": 0.529, "AVG": 0.481, "SLG": 0.501, "K%": 0.786, "BB%": 0.714,
               "PA": 0.525, "HR%": 0.619}  # fmt: skip
    for stat, r in hitters.items():
        got = row(result, "mean", cohort="A", role="hitters", stat=stat)
        assert got["n"] == 1356
        assert got["r"] == pytest.approx(r, abs=0.005), stat
    assert row(result, "mean", cohort="A", role="hitters", stat="rho5")["spearman"] == pytest.approx(0.554, abs=0.005)
    assert row(result, "mean", cohort="A", role="hitters", stat="rho3")["spearman"] == pytest.approx(0.557, abs=0.005)
    assert row(result, "mean", cohort="A", role="hitters", stat="HR")["rmse"] == pytest.approx(7.77, abs=0.02)
    assert row(result, "mean", cohort="A", role="hitters", stat="SB")["rmse"] == pytest.approx(6.75, abs=0.02)
    for stat, r in {"SO": 0.683, "ERA": 0.179, "WHIP": 0.281, "K/9": 0.659, "BB/9": 0.518, "HR/9": 0.255}.items():
        got = row(result, "mean", cohort="A", role="pitchers", stat=stat)
        assert got["n"] == 1262
        assert got["r"] == pytest.approx(r, abs=0.005), stat
    assert row(result, "mean", cohort="A100", role="pitchers", stat="ERA")["r"] == pytest.approx(0.307, abs=0.006)
    before = row(result, "mean", cohort="B", role="hitters", stat="HR")
    assert before["n"] == 969
    assert before["r"] == pytest.approx(0.601, abs=0.005)
    ceilings = {"K%": 0.936, "BB%": 0.880, "HR%": 0.828, "OBP": 0.742, "SLG": 0.740, "AVG": 0.680}
    for stat, best in ceilings.items():
        assert row(result, "mean", cohort="A", role="hitters", stat=stat)["ceiling"] == pytest.approx(best, abs=0.01)
    for stat, best in {"K%": 0.909, "BB%": 0.797, "WHIP": 0.660}.items():
        assert row(result, "mean", cohort="A", role="pitchers", stat=stat)["ceiling"] == pytest.approx(best, abs=0.01)


@pytest.mark.real
def test_anchors_of_steamer(real_league: League, data_dir: Path) -> None:
    steamer = External.folder(data_dir / "projections", "steamer")
    result = backtest([Marcel(), steamer], real_league, range(2021, 2025), ["A"], bootstrap=500)
    hr = row(result, "mean", system="steamer", role="hitters", stat="HR")
    assert 0.673 <= round(hr["r"], 3) <= 0.677
    assert row(result, "mean", system="steamer", role="hitters", stat="rho5")["spearman"] == pytest.approx(
        0.62, abs=0.005
    )
    assert hr["coverage"] > 0.95
    paired = row(result, "intervals", system="steamer", role="hitters", stat="HR", metric="r")
    assert 0 < paired["difference_low"] < paired["difference"] < 0.07
