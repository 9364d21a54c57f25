"""Blend: it finds who knows what, says who spoke, and learns from earlier seasons alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.cohorts import outcomes
from fullcount.projection.blend import Blend, fit
from fullcount.projection.marcel import Marcel
from fullcount.projection.marcel_plus import MarcelPlus
from fullcount.projection.playing_time import InPlayingTime
from fullcount.projection.registry import make_system
from fullcount.projection.system import COUNTS, ROLES, League, Projection, RefusalError, System, target_season
from fullcount.store import Store
from test_boosted_marcel import SPRING, ageing_league, spoilt


@dataclass(frozen=True)
class Knows:
    """Knows some statistics (a cheat) and gets the others wrong; speaks of every n-th player, from a season on."""

    name: str
    stats: tuple[str, ...]
    every: int = 1
    since: int = 0

    def project(self, as_of: date, league: League) -> Projection:
        season = target_season(as_of)
        if season < self.since:
            raise RefusalError("not trained then")
        truth = outcomes(league, season)
        wrong = np.random.default_rng(season)
        tables = {}
        for role in ROLES:
            table = truth.role(role).filter(pl.col("player") % self.every == 0)
            names = [c for c in COUNTS[role] if c not in (*self.stats, "PA", "IP") and not table[c].null_count()]
            tables[role] = table.with_columns(pl.col(c) * pl.Series(wrong.uniform(0, 2, table.height)) for c in names)
        return Projection.of(season, tables["hitters"], tables["pitchers"])


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


def test_each_statistic_goes_to_who_knows_it(league: League) -> None:
    power, eye = Knows("power", ("HR", "SO")), Knows("eye", ("BB", "2B"))
    weights = Blend([power, eye]).weights("hitters", 2012, league)
    for stat in ("HR", "SO"):
        assert weights[stat][0] > 0.8, stat
    for stat in ("BB", "2B"):
        assert weights[stat][1] > 0.8, stat
    for stat, w in weights.items():
        assert w.sum() == pytest.approx(1), stat
        assert (w >= 0).all(), stat
    assert weights["SB"] == pytest.approx([0.5, 0.5])  # both say the same


def test_fit() -> None:
    rng = np.random.default_rng(0)
    talent = rng.normal(0.1, 0.02, 3000)
    said = np.stack([talent + rng.normal(0, s, 3000) for s in (0.01, 0.02)], axis=1)
    weight = rng.uniform(100, 600, 3000)
    found = fit(said, talent + rng.normal(0, 0.01, 3000), weight)
    assert found == pytest.approx([0.8, 0.2], abs=0.03)  # inverse variances
    few = fit(said[:20], talent[:20], weight[:20])
    assert 0.5 <= few[0] < 0.6
    assert fit(said[:0], talent[:0], weight[:0]) == pytest.approx([0.5, 0.5])
    mute = np.stack([said[:, 0], np.full(3000, np.nan)], axis=1)
    assert fit(mute, talent, weight) == pytest.approx([1, 0])


def test_who_spoke_and_lines_add_up(league: League) -> None:
    systems: list[System] = [Marcel(), Knows("half", ("HR",), every=3)]
    said = Blend(systems).project(SPRING, league)
    alone = [s.project(SPRING, league) for s in systems]
    for role in ROLES:
        table = said.role(role)
        sets = [set(p.role(role)["player"]) for p in alone]
        assert set(table["player"]) == sets[0] | sets[1]
        who = dict(table.select("player", "system").iter_rows())
        for player, spoke in who.items():
            want = "blend" if player in sets[0] & sets[1] else "marcel" if player in sets[0] else "half"
            assert spoke == want
        assert set(who.values()) >= {"blend", "marcel"}
    only = said.hitters.filter(system="marcel")
    marcel = alone[0].hitters.join(only, on="player", how="semi")
    counts = ["PA", "AB", "H", "1B", "HR", "BB", "SO", "SB", "R"]
    assert_frame_equal(only.select("player", *counts), marcel.select("player", *counts))
    hitters = said.hitters
    assert (hitters["H"] - hitters.select(pl.sum_horizontal("1B", "2B", "3B", "HR")).to_series()).abs().max() < 1e-9
    outside = hitters.select(pl.sum_horizontal("BB", "HBP", "SF", "SH")).to_series()
    assert (hitters["PA"] - hitters["AB"] - outside).abs().max() < 1e-9


def test_seasons_a_system_refuses_are_left_out(league: League) -> None:
    late = [Knows("power", ("HR",), since=2011), Knows("eye", ("BB",))]
    assert Blend(late).weights("hitters", 2012, league)["HR"][0] > 0.6
    never = [Knows("power", ("HR",), since=2012), Knows("eye", ("BB",))]
    assert Blend(never).weights("hitters", 2012, league)["HR"] == pytest.approx([0.5, 0.5])


def test_the_future_changes_nothing() -> None:
    asked_before = ageing_league()
    blend = Blend([Marcel(), MarcelPlus()], seasons=2)
    blend.project(date(2013, 3, 1), asked_before)
    a = blend.project(SPRING, asked_before)
    b = Blend([Marcel(), MarcelPlus()], seasons=2).project(SPRING, spoilt(ageing_league(), 2012))
    for role in ROLES:
        assert_frame_equal(a.role(role), b.role(role), check_exact=True)


def test_spelling_and_bad_use(sim_store: Store) -> None:
    blend = make_system("blend:marcel@marcel_plus", sim_store)
    assert isinstance(blend, Blend)
    assert [s.name for s in blend.systems] == ["marcel", "marcel_plus"]
    timed = make_system("blend:marcel@marcel_plus+pt", sim_store)
    assert isinstance(timed, InPlayingTime)
    assert timed.name == "blend+pt"
    for spec in ("blend:marcel", "blend:marcel@marcel"):
        with pytest.raises(FullcountError, match="two differently named systems"):
            make_system(spec, sim_store)
