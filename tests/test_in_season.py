"""In season: what was played and what is left add up, counts so far count for what they are worth, and no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal
from typer.testing import CliRunner

from fullcount.cli import app
from fullcount.errors import FullcountError
from fullcount.evaluation.in_season import judge
from fullcount.projection.in_season import InSeason, Remainder, totals
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import COUNTS, ROLES, League, Projection, RefusalError
from fullcount.sources.seasons import season_lines
from fullcount.sources.tables import conform
from fullcount.store import Store

Played = tuple[League, tuple[pl.DataFrame, pl.DataFrame]]
DAYS, HALF = 60, date(2012, 5, 31)
SEASONS = range(2006, 2013)
ROOKIE = 900


def played_league(seed: int = 0) -> Played:
    """120 batters and 60 pitchers of six teams, sixty games a season from 1 May on.

    A batter's strikeout rate is drawn anew about his own every season; every fifth batter's season ends after twenty
    games, which ones is drawn every season. Eight men a season are called up after twenty games, strike out every
    other time and are not seen again; ROOKIE of 2012 strikes out every time.
    """
    rng = np.random.default_rng(seed)
    talent, batting, pitching = rng.uniform(0.12, 0.3, 120), [], []
    for season in SEASONS:
        now = np.clip(talent + rng.normal(0, 0.07, 120), 0.02, 0.5)
        until = np.where(rng.random(120) < 0.2, 20, DAYS)
        for day in range(DAYS):
            key = {"season": season, "date": date(season, 5, 1) + timedelta(day), "game_type": "R", "league": "MLB"}
            for i in np.flatnonzero(day < until).tolist():
                so, hr, one = (int(x) for x in rng.multinomial(4, [now[i], 0.04, 0.2, 0.76 - now[i]])[:3])
                batting.append(key | _batted(i, so, hr, one))
            for i in range(8) if day >= 20 else ():
                so = 4 if season == 2012 and not i else int(rng.binomial(4, 0.5))
                batting.append(key | _batted(ROOKIE + 10 * (season - 2012) + i, so, 0, 0))
            for i in range(day % 5, 60, 5):
                so, hits, runs = (int(rng.binomial(n, p)) for n, p in ((25, 0.2), (7, 0.8), (3, 0.5)))
                pitching.append(key | {
                    "player": 200 + i, "team": f"T{i % 6}", "GS": 1, "outs": 18,
                    "BF": 25, "H": hits, "2B": 0, "3B": 0, "HR": hits // 6, "R": runs, "ER": runs, "BB": 25 - 18 - hits,
                    "IBB": 0, "SO": min(so, 18), "HBP": 0, "W": i % 2, "L": 1 - i % 2, "SV": 0, "HLD": 0,
                })  # fmt: skip
    ids = pl.concat_str("team", pl.col("date").dt.strftime("%Y%m%d"), pl.lit("0"))
    games = (
        conform(pl.DataFrame(batting).with_columns(game_id=ids), "batting_games"),
        conform(pl.DataFrame(pitching).with_columns(game_id=ids), "pitching_games"),
    )
    players = [*range(120), *range(200, 260), *range(ROOKIE - 60, ROOKIE + 8)]
    people = pl.DataFrame({"player": players, "last_name": [f"P{i}" for i in players]})
    people = people.with_columns(birth_date=pl.lit(date(1982, 5, 1)))
    return League(*season_lines(*games, "MLB"), conform(people, "players")), games


def _batted(player: int, so: int, hr: int, one: int) -> dict[str, object]:
    zero = dict.fromkeys(("2B", "3B", "BB", "IBB", "HBP", "SH", "SF", "GDP", "SB", "CS"), 0)
    return zero | {"player": player, "team": f"T{player % 6}", "lineup_slot": 3,
                   "starter": True, "is_pitcher": False, "PA": 4, "AB": 4, "H": hr + one, "HR": hr, "R": hr,
                   "RBI": 2 * hr, "SO": so}  # fmt: skip


@pytest.fixture(scope="module")
def played() -> Played:
    return played_league()


@pytest.fixture(scope="module")
def seen(played: Played) -> Remainder:
    league, games = played
    return InSeason(Marcel(), games).on(HALF, league)


def test_what_was_played_and_what_is_left_add_up(seen: Remainder, played: Played) -> None:
    league, games = played
    assert seen.share == 0.5
    before = tuple(g.filter(pl.col("season") == 2012, pl.col("date") < HALF) for g in games)
    for role in ROLES:
        done, rest, whole = (p.role(role) for p in seen[:3])
        summed = totals((before[0], before[1]), role, league.name)
        assert done["player"].to_list() == summed["player"].sort().to_list()
        assert_frame_equal(
            done.select("player", "SO", "HR"), summed.sort("player").select("player", "SO", "HR"), check_row_order=False
        )
        both = whole.join(done, on="player", how="left", suffix=":done").join(rest, on="player", suffix=":rest")
        for c in COUNTS[role]:
            difference = both[c] - both[f"{c}:done"].fill_null(0.0) - both[f"{c}:rest"]
            assert np.abs(difference.to_numpy()).max() < 1e-9, c
            assert rest[c].to_numpy().min() >= 0, c
    hitters, pitchers = seen.rest.hitters, seen.rest.pitchers
    assert_series_equal(hitters["H"], hitters.select(H=pl.sum_horizontal("1B", "2B", "3B", "HR")).to_series())
    assert (pitchers["GS"] <= pitchers["G"]).all()
    assert (pitchers["GS"] > 5.5).all()  # they start every fifth of the thirty games left
    assert (pitchers["IP"] / pitchers["GS"]).is_between(5.5, 6.5).all()


def test_a_changed_strikeout_rate_is_found(played: Played) -> None:
    league, games = played
    table = judge(InSeason(Marcel(), games), league, [2011, 2012], ["05-31"], draws=200)
    for rival in ("preseason", "to date", "half"):
        row = table.filter(role="hitters", stat="K%", day="all", system=rival).row(0, named=True)
        assert row["saved"] > 0, rival
        if rival != "half":  # which happens to be about right here
            assert row["gain_low"] > 0, rival
    assert set(table["day"]) == {"05-31", "all"}


def test_who_has_been_out_stays_out(seen: Remainder, played: Played) -> None:
    _, games = played
    now = games[0].filter(pl.col("season") == 2012)
    out = now.group_by("player").agg(pl.col("date").max()).filter(pl.col("date") < date(2012, 6, 1))["player"]
    rest = seen.rest.hitters.filter(pl.col("player") < 120)
    gone = pl.col("player").is_in(out.to_list())
    assert (rest.filter(gone)["PA"] < 20).all()
    assert (rest.filter(~gone)["PA"] > 100).all()


def test_a_call_up_is_projected_between_his_line_and_the_others(seen: Remainder) -> None:
    row = seen.rest.hitters.filter(player=ROOKIE).row(0, named=True)
    assert row["Name"] == f"P{ROOKIE}"
    others = seen.rest.hitters.filter(pl.col("player") > ROOKIE)
    assert 80 < row["PA"] < 125
    assert (others["SO"] / others["PA"]).is_between(0.35, 0.65).all()
    assert 0.65 < row["SO"] / row["PA"] < 0.98
    assert seen.to_date.hitters.filter(player=ROOKIE)["PA"].item() == 40


def test_the_future_changes_nothing(seen: Remainder, played: Played) -> None:
    league, games = played
    rng = np.random.default_rng(1)
    late = pl.col("date") >= HALF
    noise = [pl.Series(rng.integers(0, 9, g.height), dtype=pl.Int16) for g in games]
    spoilt = tuple(
        g.with_columns(pl.when(late).then(x).otherwise(pl.col(c)).alias(c) for c in ("SO", "HR", "H"))
        for g, x in zip(games, noise, strict=True)
    )
    cut = tuple(g.filter(~late) for g in games)
    shuffled = tuple(g.sample(fraction=1, shuffle=True, seed=3) for g in games)
    for batting, pitching in (spoilt, cut, shuffled):
        other = League(*season_lines(batting, pitching, "MLB"), league.players)
        again = InSeason(Marcel(), (batting, pitching)).on(HALF, other)
        for a, b in zip(seen[:3], again[:3], strict=True):
            for role in ROLES:
                assert_frame_equal(a.role(role), b.role(role), check_exact=True)


def test_before_the_first_game_and_after_the_last(played: Played) -> None:
    league, games = played
    system = InSeason(Marcel(), games)
    assert system.name == "marcel+season"
    early, late = system.on(date(2012, 4, 1), league), system.on(date(2012, 10, 1), league)
    assert_frame_equal(system.project(date(2012, 4, 1), league).hitters, Marcel().project(HALF, league).hitters)
    assert early.to_date.hitters.is_empty()
    assert late.rest.hitters["PA"].max() == 0
    row = late.whole.hitters.filter(player=7).row(0, named=True)
    assert row["SO"] == league.batting_seasons.filter(player=7, season=2012)["SO"].item()
    assert system.project(date(2012, 11, 1), league).season == 2013


@dataclass
class OnlyNow:
    """A system as a CSV is one: unhashable, and with nothing to say of earlier seasons."""

    name: str = "csv"

    def project(self, as_of: date, league: League) -> Projection:
        if as_of.year < 2012:
            raise RefusalError("no file")
        return Marcel().project(as_of, league)


def test_where_the_system_refuses_marcel_is_learned_from(played: Played, seen: Remainder) -> None:
    league, games = played
    said = InSeason(OnlyNow(), games).on(HALF, league)
    for role in ROLES:
        assert_frame_equal(said.rest.role(role), seen.rest.role(role), check_exact=True)


def test_a_season_told_to_be_longer(played: Played, seen: Remainder) -> None:
    league, games = played
    longer = InSeason(Marcel(), games, length=90).on(HALF, league)
    assert longer.share == pytest.approx(1 / 3, abs=0.01)
    assert (longer.rest.hitters["PA"].to_numpy()).sum() > 1.2 * seen.rest.hitters["PA"].to_numpy().sum()


def test_a_short_season_is_no_lesson_in_playing_less(played: Played, seen: Remainder) -> None:
    """A preseason line is of a whole season, so that one cut to a third, as 2020, teaches the same playing time."""
    league, games = played
    cut = (pl.col("season") == 2011) & (pl.col("date") >= date(2011, 5, 21))
    short = tuple(g.filter(~cut) for g in games)
    rest = InSeason(Marcel(), (short[0], short[1])).on(HALF, league).rest.hitters
    both = seen.rest.hitters.join(rest, on="player", suffix=":short").filter(pl.col("player") < 120)
    assert np.abs(both["PA"] - both["PA:short"]).mean() < 6  # type: ignore[operator]


def test_a_traded_player_is_of_his_new_team(played: Played) -> None:
    league, games = played
    moved = (pl.col("player") == 7) & (pl.col("season") == 2012) & (pl.col("date") >= date(2012, 5, 29))
    traded = games[0].with_columns(team=pl.when(moved).then(pl.lit("T5")).otherwise("team"))
    said = InSeason(Marcel(), (traded, games[1])).on(HALF, league)
    assert {p.hitters.filter(player=7)["Team"].item() for p in said[:3]} == {"T5"}


def test_nothing_to_learn_from(played: Played) -> None:
    league, games = played
    with pytest.raises(FullcountError, match="no game lines of a season before 2006"):
        InSeason(Marcel(), games).on(date(2006, 6, 1), replace(league, _before={}))
    for day, said in (("02-01", "not within a season"), ("02-30", "2012-02-30 is no day: write MM-DD")):
        with pytest.raises(FullcountError, match=said):
            judge(InSeason(Marcel(), games), league, [2012], [day])


def test_command(sim_store: Store, tmp_path: Path) -> None:
    run = CliRunner()
    day = str(sim_store.games.filter(season=2003)["date"].sort()[20])
    args = ["project", "2003", "--store", str(sim_store.root), "--out", str(tmp_path / "p")]
    result = run.invoke(app, [*args, "--as-of", day])
    assert result.exit_code == 0, result.output
    rest, whole = (pl.read_csv(tmp_path / "p" / f / "hitters.csv") for f in ("rest_of_season", "updated"))
    assert 0 < rest["PA"].sum() < whole["PA"].sum()
    short = run.invoke(app, [*args, "--as-of", day, "--team-games", "10"])
    assert short.exit_code == 0, short.output
    assert pl.read_csv(tmp_path / "p" / "rest_of_season" / "hitters.csv")["PA"].sum() < 0.8 * rest["PA"].sum()
    assert "give --as-of too" in run.invoke(app, [*args, "--team-games", "10"]).output
    ahead = run.invoke(app, [args[0], "2004", *args[2:], "--as-of", "2004-06-01"])
    assert "no game of 2004 before 2004-06-01" in ahead.output.replace("\n", " ")
    wrong = run.invoke(app, [*args, "--as-of", "2004-06-01"])
    assert wrong.exit_code == 2
    assert "is not in the season 2003" in wrong.output
    bands = run.invoke(app, [*args, "--as-of", day, "--system", "marcel+bands"])
    assert bands.exit_code == 2
    assert "leave +bands away" in bands.output.replace("\n", " ")
