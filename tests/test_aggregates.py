"""Aggregates: counted again from the canonical tables, blind to the future, null where nothing is known."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import backtest
from fullcount.fields import CALL_CLASS
from fullcount.projection.aggregates import _RATED, MEASURES, WEIGHTS, _turn_sums, _turns, aggregates, recent
from fullcount.projection.boosted import BoostedMarcel
from fullcount.projection.registry import make_system
from fullcount.projection.system import EXPOSURE, ROLES, League
from fullcount.simulated.league import SimulatedLeague
from fullcount.sources.tables import BATTING_COUNTS, Tables, conform
from fullcount.store import Store

PLAY = {"game_type": "R", "league": "MLB", "park": "P", "inning": 1, "top": True, "outs": 0, "bases": 0, "bat_score": 0,
        "fld_score": 0, "batter": 1, "pitcher": 9, "stand": "R", "throws": "R", "lineup_slot": 1, "runs": 0,
        "batter_is_pitcher": False, "event": "field_out", "contact": "ground_ball"}  # fmt: skip


def made(folder: Path, plays: list[dict[str, object]]) -> Store:
    """A store of plate appearances alone, a game a season and home team: `plays` differ from PLAY."""
    rows = []
    for i, play in enumerate(plays):
        season, home = int(str(play.get("season", 2010))), str(play.get("home_team", "AAA"))
        rows.append({**PLAY, "season": season, "date": date(season, 5, 1), "game_id": f"{home}{season}05010",
                     "home_team": home, "away_team": "BBB" if home == "AAA" else "AAA",
                     "pa_number": i % 30_000 + 1, **play})  # fmt: skip
    games = pl.DataFrame(rows).unique("game_id", maintain_order=True)
    return Store.open_or_create(folder).add(Tables.of(plate_appearances=pl.DataFrame(rows), games=games), "made")


def of(table: pl.DataFrame, player: int = 1) -> dict[str, float | None]:
    return table.filter(player=player).row(0, named=True)


def test_pitches_counted_again(sim_store: Store) -> None:
    pitches = sim_store.season(2002).pitches.with_columns(kind=pl.col("call").replace_strict(CALL_CLASS))
    thrown = pitches.filter(pl.col("game_type") == "R", pl.col("kind").is_not_null())
    swung, first = pl.col("kind").is_in(["S", "F", "X"]), (pl.col("balls") == 0) & (pl.col("strikes") == 0)
    for role, player in zip(ROLES, ("batter", "pitcher"), strict=True):
        expressions = {
            "whiff": (pl.col("kind") == "S").filter(swung).mean(),
            "first strike": pl.col("kind").is_in(["C", "S", "F", "X"]).filter(first).mean(),
            "two-strike whiff": (pl.col("kind") == "S").filter(swung & (pl.col("strikes") == 2)).mean(),
            "pitches": pl.len() / first.sum(),
        }
        league = thrown.select(**expressions).row(0, named=True)
        own = thrown.group_by(pl.col(player).alias("player")).agg(n=pl.len(), **expressions)
        both = aggregates(sim_store, role, 2002).join(own, on="player", suffix="_again")
        assert both.height > 20
        for name, mean in league.items():
            assert both[name].to_numpy() == pytest.approx((both[f"{name}_again"] - mean).to_numpy(), nan_ok=True), name
        assert both["n:swing"].to_list() == both["n"].to_list()


def test_they_are_talent_and_last(sim_store: Store, sim_league: SimulatedLeague) -> None:
    """Measures of one season go with those of the next: whiffs, ground balls, speeds are a player's own."""
    for role, names in (("hitters", ("whiff", "ground", "hard")), ("pitchers", ("whiff", "ground", "fastball"))):
        one, two = (aggregates(sim_store, role, s) for s in (2002, 2003))
        both = one.join(two, on="player", suffix="_next").filter(pl.col("n:swing") > 100, pl.col("n:swing_next") > 100)
        for name in names:
            assert np.corrcoef(*both.select(name, f"{name}_next").drop_nulls().to_numpy().T)[0, 1] > 0.3, (role, name)


def test_plate_appearances_by_hand(tmp_path: Path) -> None:
    plays: list[dict[str, object]] = [
        {"contact": "fly_ball", "event": "home_run", "throws": "L", "runs": 1, "launch_speed": 106, "launch_angle": 28},
        {"contact": "fly_ball", "launch_speed": 106.5, "launch_angle": 28, "bases": 6},
        {"contact": "line_drive", "event": "double", "launch_speed": 90, "launch_angle": 12},
        {"event": "single", "launch_speed": 80, "launch_angle": -10},
        {"event": "strikeout", "contact": "none", "throws": "L"},
        {"event": "walk", "contact": "none"},
        {"batter": 2, "lineup_slot": 9}, {"batter": 2, "lineup_slot": 9}, {"batter": 2, "event": "truncated_pa"},
        {"batter": 3, "batter_is_pitcher": True, "event": "strikeout", "contact": "none"},
        {"batter": 1, "game_type": "P", "event": "home_run"},
    ]  # fmt: skip
    store = made(tmp_path / "store", plays)
    hitters = aggregates(store, "hitters", 2010)
    assert hitters["player"].to_list() == [1, 2]  # neither the pitcher nor the postseason
    mine = of(hitters)
    assert mine["ground"] == pytest.approx(1 / 4 - 3 / 6)
    assert mine["HR/fly"] == pytest.approx(0)  # all of the league's balls in the air are his
    assert mine["hit/ground"] == pytest.approx(1 - 1 / 3)
    assert mine["left"] == pytest.approx(2 / 6 - 2 / 8)
    assert mine["K left"] == pytest.approx(0)
    assert mine["slot"] == pytest.approx(1 - 3)
    assert mine["on base"] == pytest.approx(2 / 6 - 2 / 8)
    assert mine["expected HR"] == pytest.approx(0)  # both flies, of one speed and angle, are half a home run
    assert mine["n:expected HR"] == 4
    assert mine["n:K left"] == 2
    theirs = of(hitters, 2)
    assert theirs["HR/fly"] is None
    assert theirs["exit speed"] is None
    assert theirs["swing"] is None  # no pitches in this store
    assert of(aggregates(store, "pitchers", 2010), 9)["their K"] == pytest.approx(0)  # the only pitcher is the league


def test_opponents(tmp_path: Path) -> None:
    """Who met the strikeout pitcher has met a better one."""
    plays: list[dict[str, object]] = []
    for i in range(600):
        plays.append({"batter": 1 + i % 2, "pitcher": 8 + i % 2, "event": "strikeout" if i % 4 == 1 else "field_out"})
    store = made(tmp_path / "store", plays)
    table = aggregates(store, "hitters", 2010)
    assert of(table, 2)["their K"] == pytest.approx(0.25 * 300 / 450, rel=1e-3)
    assert of(table, 1)["their K"] == pytest.approx(-0.25 * 300 / 450, rel=1e-3)


def test_parks(tmp_path: Path) -> None:
    """Twice as many home runs where one team is at home: its park is shrunken from 2, the other one's from 1/2."""
    hits = [{"batter": b, "home_team": home, "park": home, "contact": "fly_ball",
             "event": "home_run" if i % every == 0 else "field_out"}
            for b, home, every in ((1, "AAA", 5), (2, "BBB", 10)) for i in range(400)]  # fmt: skip
    table = aggregates(made(tmp_path / "store", hits), "hitters", 2010)
    factors = {1: (2 - 1) * 400 / 6400, 2: (1 / 2 - 1) * 400 / 6400}
    for player, factor in factors.items():
        assert of(table, player)["park HR"] == pytest.approx(factor - sum(factors.values()) / 2)


def test_no_order_of_rows_changes_a_sum(sim_store: Store) -> None:
    """Threads bring rows in another order every time; percentiles would be drawn anew by a last digit."""
    turns = _turns(sim_store.season(2003).plate_appearances)
    rng = np.random.default_rng(0)
    around = {f"{who} {c}": rng.standard_normal(turns.height) for who in ("park", "batter", "pitcher") for c in _RATED}
    turns = turns.with_columns(**{c: pl.Series(x) for c, x in around.items()}, **{"team runs": pl.lit(0.117)})
    for role in ROLES:
        one, other = (
            _turn_sums(t, role).sort("player") for t in (turns, turns.sample(fraction=1, shuffle=True, seed=1))
        )
        assert one["team runs"].n_unique() > 20
        assert_frame_equal(one, other, check_exact=True)


def test_seasons_are_the_same_in_whatever_order_they_are_asked_for(sim_store: Store) -> None:
    late, early = Store.open(sim_store.root), Store.open(sim_store.root)
    for role in ROLES:
        found = {s: aggregates(late, role, s) for s in (2005, 2003, 2002, 2001)}
        for season in (2001, 2002, 2003, 2005):
            assert_frame_equal(found[season], aggregates(early, role, season), check_exact=True)
        assert found[2005].is_empty()
        assert found[2002].height > 20


def test_recent_is_weighted_and_shrunken(tmp_path: Path) -> None:
    plays = [{"season": s, "batter": b, "contact": "fly_ball" if b == 1 and i < n else "ground_ball"}
             for s, n in ((2009, 8), (2010, 4)) for b in (1, 2) for i in range(10)]  # fmt: skip
    store = made(tmp_path / "store", plays)
    strength = MEASURES["fly"].strength[0]
    early, late = WEIGHTS[1] * (8 - 4), WEIGHTS[0] * (4 - 2)
    expected = (early + late) / (10 * (WEIGHTS[0] + WEIGHTS[1]) + strength)
    assert of(recent(store, "hitters", 2011))["a:fly"] == pytest.approx(expected)
    assert of(recent(store, "hitters", 2010))["a:fly"] == pytest.approx((8 - 4) / (10 + strength))
    assert recent(store, "hitters", 2014).is_empty()
    some = recent(store, "hitters", 2011, ("contact",)).columns
    assert some == ["player", *(f"a:{m}" for m, x in MEASURES.items() if x.group == "contact")]


def test_a_season_whose_trajectories_are_not_told_has_none(tmp_path: Path) -> None:
    plays = [{"season": s, "contact": None if s == 2010 and i % 2 else "fly_ball"} for s in (2009, 2010)
             for i in range(10)]  # fmt: skip
    store = made(tmp_path / "store", plays)
    assert of(aggregates(store, "hitters", 2010))["fly"] is None
    assert of(aggregates(store, "hitters", 2009))["fly"] == 0


def test_the_future_changes_nothing(sim_store: Store, sim_league: SimulatedLeague, tmp_path: Path) -> None:
    def spoil(frame: pl.DataFrame, **values: object) -> pl.DataFrame:
        late = pl.col("season") >= 2003
        return frame.with_columns(
            pl.when(late).then(pl.lit(v, frame.schema[n])).otherwise(pl.col(n)).alias(n) for n, v in values.items()
        )

    tables = sim_league.tables
    spoilt = Tables.of(
        pitches=spoil(tables.pitches, call="foul", pitch_type="KN"),
        plate_appearances=spoil(tables.plate_appearances, event="home_run", contact="fly_ball", launch_speed=120.0),
        games=tables.games,
    )
    other = Store.open_or_create(tmp_path / "store").add(spoilt, "spoilt")
    for role in ROLES:
        for season in (2002, 2003):
            assert_frame_equal(recent(sim_store, role, season), recent(other, role, season), check_exact=True)
        assert not recent(sim_store, role, 2004).equals(recent(other, role, 2004))


def test_a_store_without_plate_appearances_says_so(tmp_path: Path) -> None:
    store = made(tmp_path / "store", [{"event": "truncated_pa"}])
    with pytest.raises(FullcountError, match="no plate appearances of the main league's games to aggregate"):
        recent(store, "hitters", 2011)


def test_an_unknown_group_is_refused(sim_store: Store) -> None:
    with pytest.raises(FullcountError, match="no group of measures speeds; there are discipline, contact, hands"):
        recent(sim_store, "hitters", 2003, ("contact", "speeds"))


def test_boosted_marcel_reads_what_lines_hide(tmp_path: Path) -> None:
    """Home-run talent shows in few plate appearances' fly balls better than in the home runs of short lines."""
    rng = np.random.default_rng(0)
    players, seasons = 200, range(2000, 2013)
    power = rng.uniform(0.01, 0.09, players)
    plays: list[dict[str, object]] = []
    lines = []
    for season in seasons:
        for i, p in enumerate(power):
            pa = 250
            hr, so = int(rng.binomial(pa, p)), int(rng.binomial(pa, 0.2))
            lines.append(dict.fromkeys(BATTING_COUNTS, 0) | {
                "player": i, "season": season, "league": "MLB", "team": "AAA", "is_pitcher": False, "G": 162, "PA": pa,
                "AB": pa, "H": hr + 40, "HR": hr, "SO": so,
            })  # fmt: skip
            plays += [{"season": season, "batter": i, "contact": "fly_ball" if k < 200 * p else "ground_ball"}
                      for k in range(18)]  # fmt: skip
    people = pl.DataFrame({"player": range(players), "birth_date": [date(1980, 1, 1)] * players})
    arms = [dict(row) | {"outs": 600, "BF": 800, "GS": 20} for row in lines[:: players // 10]]
    league = League(
        conform(pl.DataFrame(lines), "batting_seasons"), conform(pl.DataFrame(arms), "pitching_seasons"),
        conform(people, "players"),
    )  # fmt: skip
    store = made(tmp_path / "store", plays)
    plain, reads = BoostedMarcel(), make_system("marcel_gb+pitches", store)
    result = backtest([plain, reads], league, [2012], ["A"], bootstrap=100, stats={"hitters": ("HR%",)})
    better = result.intervals.filter(stat="HR%", metric="r", system=reads.name).row(0, named=True)
    assert better["difference_low"] > 0
    early = made(tmp_path / "early", [p for p in plays if int(str(p["season"])) < 2012])
    spring = date(2012, 3, 1)
    for role in ROLES:
        same = make_system("marcel_gb+pitches", early).project(spring, league).role(role)
        table = reads.project(spring, league).role(role)
        assert_frame_equal(table, same, check_exact=True)
        own = plain.project(spring, league).role(role)
        assert table[EXPOSURE[role]].equals(own[EXPOSURE[role]])  # playing time is read in lines alone
    assert "marcel_gb+pitches" in str(make_system("blend:marcel@marcel_gb+pitches", store))
    with pytest.raises(FullcountError, match="only marcel_gb and plus_gb"):
        make_system("marcel+pitches", store)
