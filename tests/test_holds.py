"""Holds: the definition play by play, in a whole game, beside Lahman's lines, and what projects them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

import test_retrosheet as rs
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import League
from fullcount.simulated.league import SimulatedLeague
from fullcount.sources import register, retrosheet
from fullcount.sources.holds import kept_lead
from fullcount.sources.lahman import read as read_lahman
from fullcount.sources.seasons import season_lines, with_holds
from fullcount.store import Store

FIRST, LOADED = 1, 7


def kept(*plays: tuple[int, int, int, int, int, int]) -> bool:
    """Of plays as (inning, outs, bases, lead, outs made, runs scored)."""
    columns = ["inning", "outs", "bases", "fld_score", "made", "scored"]
    frame = pl.DataFrame(plays, schema=columns, orient="row").with_columns(bat_score=pl.lit(0), game=pl.lit(1))
    return bool(frame.group_by("game").agg(kept_lead("made", "scored").alias("kept"))["kept"].item())


@pytest.mark.parametrize(
    ("entered", "held"),
    [
        ((8, 0, 0, 3, 1, 0), True),
        ((8, 2, 0, 3, 1, 0), True),  # the ninth is left
        ((9, 1, 0, 3, 1, 0), False),  # less than an inning, and the tying run in the hole
        ((9, 1, 0, 2, 1, 0), True),  # on deck
        ((9, 1, FIRST, 3, 1, 0), True),
        ((7, 0, 0, 4, 1, 0), False),
        ((7, 0, FIRST, 4, 1, 0), False),
        ((7, 0, LOADED, 5, 1, 0), True),
        ((7, 0, LOADED, 6, 1, 0), False),
        ((7, 0, 0, 0, 1, 0), False),  # a tie
        ((6, 0, 0, 1, 1, 0), True),
        ((5, 0, 0, 1, 1, 0), False),  # before the sixth
        ((8, 0, 0, 1, 0, 0), False),  # nobody out
    ],
)
def test_a_save_situation_and_an_out(entered: tuple[int, int, int, int, int, int], held: bool) -> None:
    assert kept(entered) is held


def test_the_lead_is_never_given_up() -> None:
    assert kept((7, 0, 0, 3, 0, 2), (7, 0, 0, 1, 3, 0), (8, 0, 0, 5, 1, 0))
    assert not kept((7, 0, 0, 1, 0, 1), (7, 0, 0, 0, 3, 0), (8, 0, 0, 2, 1, 0))  # tied, then ahead again


OUT = "02,CCC,K"


def game(*changes: tuple[int, int, str, str]) -> str:
    """Plays of a game that the home team wins 1-0, all others struck out.

    `changes`: (inning, outs, pitcher, play) of visitors' innings: who comes in, and what happens before the next out.
    """
    lines, batters = [], [0, 0]
    for inning in range(1, 10):
        for side, nine in enumerate((rs.VISITORS, rs.HOME)):
            if (inning, side) == (9, 1):
                break
            for out in range(3):
                for at, outs, pitcher, play in changes:
                    if (at, outs, side) == (inning, out, 0):
                        lines.append(f'sub,{pitcher},"Home",1,0,1')
                        if play:
                            lines.append(f"play,{inning},0,{nine[batters[0] % 9]},00,X,{play}")
                            batters[0] += 1
                if (inning, side, out) == (1, 1, 0):
                    lines.append(f"play,1,1,{rs.HOME[0]},00,X,HR/F7")
                    batters[1] += 1
                lines.append(f"play,{inning},{side},{nine[batters[side] % 9]},{OUT}")
                batters[side] += 1
    return "\n".join(lines) + "\n"


def read(tmp_path: Path, plays: str, winner: str) -> dict[int, int]:
    """Holds of the home team's pitchers."""
    text = rs.event_file(plays).replace(f"info,wp,{rs.PITCHERS[0]}\n", f"info,wp,{winner}\n")
    text = text.replace(f"info,lp,{rs.PITCHERS[1]}\n", f"info,lp,{rs.PITCHERS[0]}\n")
    tables = retrosheet.read_season(rs.season(tmp_path, text), rs.REGISTER, jobs=1)
    return dict(tables.pitching_games.filter("home").select("player", "HLD").iter_rows())


def test_who_is_between_starter_and_closer_has_it(tmp_path: Path) -> None:
    one, two, three = rs.PITCHERS[1:]
    plays = game((7, 0, two, ""), (8, 1, three, ""))
    assert read(tmp_path / "a", plays, one) == {rs.HP1: 0, rs.HP2: 1, rs.HP3: 0}
    assert read(tmp_path / "b", plays, two)[rs.HP2] == 0  # the scorer gave him the win
    early = game((4, 0, two, ""), (8, 1, three, ""))
    assert read(tmp_path / "c", early, one)[rs.HP2] == 0
    assert read(tmp_path / "d", game((7, 0, two, "S7/L7"), (7, 0, three, "")), one)[rs.HP2] == 0  # nobody out


def line(player: int, season: int, **counts: int | None) -> dict[str, object]:
    zero = dict.fromkeys(("SO", "W", "SV", "H", "HR", "R", "ER", "BB", "IBB", "HBP", "L", "GS"), 0)
    about = {"player": player, "season": season, "league": "MLB", "team": "AAA", "G": 60, "outs": 180, "BF": 240}
    return {**about, **zero, "HLD": None, **counts}


def test_lahmans_lines_take_the_holds_of_games() -> None:
    lines = pl.DataFrame([line(1, 2000), line(2, 2000), line(1, 1950), line(3, 2000, HLD=9)])
    games = pl.DataFrame(
        {
            "player": [1, 1, 1, 3],
            "season": [2000] * 4,
            "league": ["MLB"] * 4,
            "game_type": ["R", "R", "P", "R"],
            "HLD": [1, 1, 1, 1],
        }
    )
    assert with_holds(lines, games)["HLD"].to_list() == [2, 0, None, 9]
    unknown = games.with_columns(HLD=pl.lit(None, dtype=pl.Int16))
    assert with_holds(lines, unknown)["HLD"].to_list() == [None, None, None, 9]


def test_a_store_of_lahman_and_games_has_holds(sim_league: SimulatedLeague, tmp_path: Path) -> None:
    tables = sim_league.tables
    lahman = tables.pitching_seasons.with_columns(HLD=pl.lit(None, dtype=pl.Int16))
    store = Store.open_or_create(tmp_path / "store").add(
        type(tables)(**{**tables.__dict__, "pitching_seasons": lahman}), "sim"
    )
    found = League.of(store).pitching_seasons
    assert found.equals(tables.pitching_seasons)
    assert found["HLD"].sum() > 0


def test_marcel_says_holds_where_all_three_seasons_are_known(sim_store: Store) -> None:
    league = League.of(sim_store)
    said = Marcel().project(date(2004, 3, 1), league).pitchers
    lines = league.pitching_seasons.cast({"HLD": pl.Float64})
    rates = lines.group_by("season").agg(pl.col("HLD").sum() / pl.col("outs").sum(), w=pl.col("outs").sum())
    weight = rates["w"] * (rates["season"].cast(pl.Int32) - 2000)  # 3, 2, 1
    assert said["HLD"].sum() / (3 * said["IP"].sum()) == pytest.approx((rates["HLD"] * weight).sum() / weight.sum())
    partly = lines.with_columns(pl.when(pl.col("season") > 2001).then("HLD").alias("HLD"))
    hidden = Marcel().project(date(2004, 3, 1), League(league.batting_seasons, partly, league.players, league.name))
    assert hidden.pitchers["HLD"].null_count() == hidden.pitchers.height
    assert hidden.pitchers.drop("HLD").equals(said.drop("HLD"))


@pytest.mark.real
def test_published_totals(data_dir: Path) -> None:
    people = register.read(sorted((data_dir / "register").glob("people_m*"), reverse=True)).players
    tables = retrosheet.read_season(data_dir / "retrosheet" / "2019eve.zip", people)
    lines = season_lines(tables.batting_games, tables.pitching_games, "MLB")[1]
    lahman = read_lahman(data_dir / "lahman", people, [2019]).pitching_seasons
    assert with_holds(lahman, tables.pitching_games)["HLD"].sum() == lines["HLD"].sum()
    name = pl.concat_str("first_name", "last_name", separator=" ")
    holds = dict(lines.join(people, on="player").select(name, "HLD").iter_rows())
    published = {"Ryan Pressly": 31, "Craig Stammen": 31, "Zack Britton": 29, "Adam Ottavino": 28, "Aaron Bummer": 27,
                 "Will Harris": 26, "Oliver Drake": 10, "Josh Taylor": 4, "Kirby Yates": 0}  # fmt: skip
    assert {n: holds[n] for n in published} == published
