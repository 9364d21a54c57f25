"""Playing time: who stops playing is expected to, rates stay a system's own, and the user has the last word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.playing_time import asked, judge, told_apart
from fullcount.projection.marcel import Marcel
from fullcount.projection.playing_time import (
    Given,
    InPlayingTime,
    PlayingTime,
    course,
    read_overrides,
    rescaled,
    spelling,
    standing,
)
from fullcount.projection.registry import make_system
from fullcount.projection.system import EXPOSURE, ROLES, League, Projection, rates
from fullcount.projection.uncertainty import Bands
from fullcount.sources.tables import PITCHING_SEASONS, conform, empty
from fullcount.store import Store
from test_boosted_marcel import SPRING, ageing_league, spoilt


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


def test_who_retires_is_expected_to(league: League) -> None:
    """Everybody's last season is at 34."""
    said = PlayingTime().table("hitters", 2012, league)
    ages = league.players.select("player", age=2012 - pl.col("birth_date").dt.year())
    said = said.join(ages, on="player")
    assert said.filter(pl.col("age") > 34)["plays"].max() < 0.4  # type: ignore[operator]
    assert said.filter(pl.col("age") > 34)["plays"].mean() < 0.1  # type: ignore[operator]
    assert said.filter(pl.col("age").is_between(24, 33))["plays"].mean() > 0.9  # type: ignore[operator]


def test_it_is_better_than_marcels(league: League) -> None:
    systems = [Marcel(), InPlayingTime(Marcel())]
    table = judge(systems, asked(systems, league, [2012, 2013]))
    for role in ROLES:
        marcel, ours = table.filter(role=role, cohort="all").sort("system").iter_rows(named=True)
        assert marcel["system"] == "marcel"
        assert ours["rmse"] < 0.7 * marcel["rmse"]
        assert ours["r"] > marcel["r"] + 0.1
        assert abs(ours["bias"]) < 0.2 * abs(marcel["bias"])


def test_who_plays_and_who_starts_is_judged(league: League) -> None:
    """A system that knows the season; one that says the share of those who play of everybody; one that says nothing."""

    @dataclass(frozen=True)
    class Says:
        name: str
        plays: float | None = None

        def project(self, as_of: date, league: League) -> Projection:
            said, season = Marcel().project(as_of, league), as_of.year
            tables = []
            for role, lines in (("hitters", league.batting_seasons), ("pitchers", league.pitching_seasons)):
                came = pl.col("player").is_in(lines.filter(season=season)["player"].implode()).cast(pl.Float64)
                table = said.hitters if role == "hitters" else said.pitchers
                tables.append(table.with_columns(plays=came if self.plays is None else pl.lit(self.plays)))
            return replace(said, hitters=tables[0], pitchers=tables[1].with_columns(G=30.0, GS=18.0))

    systems = [Says("knows"), Says("even", 0.9), Marcel()]
    table = told_apart(systems, asked(systems, league, [2012, 2013]))
    for role in ROLES:
        knows, even, marcel = (
            table.filter(role=role, system=s).row(0, named=True) for s in ("knows", "even", "marcel")
        )
        assert (knows["plays"], knows["auc"]) == (0, 1)
        assert even["plays"] >= 1
        assert even["auc"] == pytest.approx(0.5)
        assert marcel["plays"] is None
    assert knows["starts"] == 0  # everybody has 15 starts in 30 games: no starter
    assert marcel["starts"] == 1


def test_rates_stay_the_systems(league: League) -> None:
    own, timed = Marcel().project(SPRING, league), InPlayingTime(Marcel()).project(SPRING, league)
    for role in ROLES:
        a, b = rates(own.role(role), role), rates(timed.role(role), role)
        for stat in ("K%", "BB%", "AVG"):
            assert (a[stat] - b[stat]).abs().max() < 1e-9
        assert (a[EXPOSURE[role]] - b[EXPOSURE[role]]).abs().max() > 1  # type: ignore[operator]
    assert (timed.pitchers["GS"] <= timed.pitchers["G"]).all()
    assert (timed.hitters["G"] - 162).abs().max() < 1  # type: ignore[operator]  # nobody there misses a game


def test_percentiles_go_with_their_counts() -> None:
    said = Projection.of(
        2012, pl.DataFrame({"player": [1], "PA": [600.0], "HR": [30.0], "HR_p90": [40.0], "wOBA_p90": [0.4]})
    )
    time = pl.DataFrame({"player": [1], "plays": [1.0], "PA": [300.0]}, schema_overrides={"player": pl.Int32})
    row = rescaled(said.hitters, time, "hitters").row(0, named=True)
    assert (row["PA"], row["HR"], row["HR_p90"], row["wOBA_p90"], row["plays"]) == (300, 15, 20, 0.4, 1)
    stranger = rescaled(said.hitters.with_columns(player=pl.lit(2, dtype=pl.Int32)), time, "hitters").row(0, named=True)
    assert (stranger["PA"], stranger["HR"], stranger["plays"]) == (600, 30, None)


def test_the_future_changes_nothing() -> None:
    asked_before = quitting_catchers()
    InPlayingTime(Marcel()).project(date(2013, 3, 1), asked_before)
    for given in ("playing", "lasting"):
        a, b = (InPlayingTime(Marcel(), PlayingTime(given)).project(SPRING, x)
                for x in (asked_before, spoilt(quitting_catchers(), 2012)))  # fmt: skip
        for role in ROLES:
            assert_frame_equal(a.role(role).drop("Team"), b.role(role).drop("Team"), check_exact=True)


def test_overrides(league: League, tmp_path: Path) -> None:
    plain = InPlayingTime(Marcel()).project(SPRING, league)
    first, second = plain.hitters["player"].to_list()[10:12]
    pitcher = plain.pitchers["player"][3]
    file = tmp_path / "mine.csv"
    file.write_text(f"Name,PA,IP\n p{first} ,123,\nP{second},0,\nP{pitcher},,77\n")
    said = InPlayingTime(Marcel(), PlayingTime(overrides=file)).project(SPRING, league)

    def line(projection: Projection, role: str, player: int) -> dict[str, float]:
        return getattr(projection, role).filter(player=player).row(0, named=True)

    before, after = line(plain, "hitters", first), line(said, "hitters", first)
    assert (after["PA"], after["plays"]) == (123, 1)
    for count in ("HR", "G"):
        assert after[count] / 123 == pytest.approx(before[count] / before["PA"])
    assert (line(said, "hitters", second)["PA"], line(said, "hitters", second)["plays"]) == (0, 0)
    before, after = line(plain, "pitchers", pitcher), line(said, "pitchers", pitcher)
    assert after["IP"] == 77
    assert after["GS"] / 77 == pytest.approx(before["GS"] / before["IP"])
    others = pl.col("player").is_in([first, second]).not_()
    assert_frame_equal(plain.hitters.filter(others), said.hitters.filter(others))
    file.write_text(f"player,PA\n{first},123\n")
    assert (
        line(InPlayingTime(Marcel(), PlayingTime(overrides=file)).project(SPRING, league), "hitters", first)["PA"]
        == 123
    )


def test_overrides_are_of_the_season_asked_for_alone(league: League, tmp_path: Path) -> None:
    """Percentiles learn from seasons in which the man, a recruit, was not there, and from others as they were."""
    recruit = league.batting_seasons.filter(pl.col("season").min().over("player") == 2011)["player"][0]
    file = tmp_path / "mine.csv"
    file.write_text(f"MLBAMID,PA\n{recruit},123\n")
    mine = Bands(InPlayingTime(Marcel(), PlayingTime(overrides=file)), 3, 20)
    plain = Bands(InPlayingTime(Marcel()), 3, 20)
    said, without = (b.project(SPRING, league).hitters for b in (mine, plain))
    assert said.filter(player=recruit)["PA"].item() == 123
    others = pl.col("player") != recruit
    assert_frame_equal(said.filter(others), without.filter(others))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,PA\n1,2\n", "columns MLBAMID or Name, and PA or IP, are needed"),
        ("player,AB\n1,2\n", "columns MLBAMID or Name, and PA or IP, are needed"),
        ("player,PA\n99,500\n", "row 2: player '99' is none of the hitters that are projected"),
        ("Name,PA\nP3,\nTwin,500\n", "row 3: Name 'Twin' is several: give column MLBAMID"),
        ("player,PA\n1,many\n", "row 2, column PA: 'many' is no number from 0 to 999"),
        ("player,PA\n1,-5\n", "'-5' is no number from 0 to 999"),
        ("player,PA\n1,nan\n", "'nan' is no number from 0 to 999"),
        ("player,PA\n1,5\n1,6\n", "a player is listed twice"),
        ("", "not a readable CSV"),
    ],
)
def test_bad_overrides(tmp_path: Path, text: str, message: str) -> None:
    said = Projection.of(
        2012, pl.DataFrame({"player": [1, 2, 3], "Name": ["A", "Twin", "Twin"], "PA": [1.0, 2.0, 3.0]})
    )
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(FullcountError, match=message) as caught:
        read_overrides(file, "hitters", said)
    assert "mine.csv" in str(caught.value)


def test_spelling(sim_store: Store) -> None:
    assert make_system("marcel_plus+pt", sim_store).name == "marcel_plus+pt"
    timed = make_system("marcel+lasting:x.csv", sim_store)
    assert isinstance(timed, InPlayingTime)
    assert (timed.name, timed.system) == ("marcel+lasting", Marcel())
    assert (timed.time.given, timed.time.overrides) == ("lasting", Path("x.csv"))
    assert timed.time.games is not None
    assert timed.time.games[0].equals(sim_store.table("batting_games"))


@pytest.mark.parametrize(
    ("one", "other"),
    [("José Ramírez", "jose ramirez"), ("J. T. Realmuto", "J.T. Realmuto"), ("Bobby Witt Jr.", "Bobby Witt"),
     ("Michael Harris II", "Michael Harris"), (" Mike Trout ", "mike trout")],
)  # fmt: skip
def test_names_are_spelled_in_many_ways(one: str, other: str) -> None:
    a, b = pl.select(spelling(pl.lit(one)), spelling(pl.lit(other)).alias("b")).row(0)
    assert a == b
    assert pl.select(spelling(pl.lit("Bobby Witt"))).item() != pl.select(spelling(pl.lit("Bobby White"))).item()


def game_lines(league: League) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two games a season; a batter starts the second one only if he will play next season."""
    lines = league.batting_seasons.sort("player", "season").with_columns(
        stays=(pl.col("player").shift(-1) == pl.col("player")).fill_null(False)
    )
    games = [
        lines.with_columns(
            date=pl.date(pl.col("season").cast(pl.Int32), month, 1), game_type=pl.lit("R"), game_id=pl.lit(f"{month}"),
            starter=pl.col("stays") | (month == 4), lineup_slot=pl.lit(3), PA=pl.lit(4),
        )
        for month in (4, 9)
    ]  # fmt: skip
    return conform(pl.concat(games), "batting_games"), empty("pitching_games")


def quitting_league() -> League:
    """A third of the hitters stops at no age of theirs."""
    league = ageing_league()
    gone = (pl.col("player") % 3 == 0) & (pl.col("season") >= 2000 + pl.col("player") % 13)
    return replace(league, batting_seasons=league.batting_seasons.filter(~gone), _before={})


def brier(time: PlayingTime, league: League) -> float:
    """Of who plays in 2012."""
    played = league.batting_seasons.filter(season=2012)["player"].to_list()
    said = time.table("hitters", 2012, league)
    return said.select((pl.col("plays") - pl.col("player").is_in(played)).pow(2).mean()).item()  # type: ignore[no-any-return]


def quitting_catchers() -> League:
    """The same; everybody catches in his last season alone."""
    league = quitting_league()
    stays = pl.col("season") < pl.col("season").max().over("player")
    caught = league.batting_seasons.with_columns(G_C=pl.when(stays).then(0).otherwise("G").cast(pl.Int16))
    return replace(league, batting_seasons=caught, _before={})


def test_positions_tell_what_other_facts_do_not() -> None:
    assert brier(PlayingTime(), quitting_catchers()) < 0.5 * brier(PlayingTime(), quitting_league())


def test_standing(league: League) -> None:
    """Shares of the games of those of the last three seasons whose positions are known."""
    games = pl.col("season").replace_strict({2008: 162, 2009: 81, 2011: 0}, default=None, return_dtype=pl.Int16)
    known_so = replace(league, batting_seasons=league.batting_seasons.with_columns(G_1B=games), _before={})
    table = standing(known_so, "hitters", 2012)
    played = league.batting_seasons.group_by("player").agg(
        a=(pl.col("season") == 2009).any(), b=(pl.col("season") == 2011).any()
    )
    expected = pl.when("a", "b").then(0.25).when("a").then(0.5).otherwise(0.0)
    assert table.join(played, on="player").select((pl.col("at:1B") == expected).all()).item()
    assert table["at:1B"].n_unique() == 3
    assert table["at:C"].is_null().all()
    both = table.join(rates(Marcel().project(SPRING, known_so).hitters, "hitters"), on="player")
    assert (both["quality"] * both["PA"]).sum() == pytest.approx(0, abs=1e-9)
    assert (both["wOBA"] - both["quality"]).to_list() == pytest.approx(
        [both["wOBA"][0] - both["quality"][0]] * len(both)
    )
    arms = standing(league, "pitchers", 2012)
    assert [c for c in arms.columns if c.startswith("at:")] == ["at:P"]


@pytest.mark.parametrize("given", ["playing", "lasting"])
def test_position_players_are_no_pitchers(league: League, given: Given) -> None:
    """Every even player pitches a game a year, odd ones thirty of 162."""
    hitter = pl.col("player") % 2 == 0
    batting = league.batting_seasons.with_columns(G_P=pl.when(hitter).then(1).otherwise(30).cast(pl.Int16))
    few = {"G": 1, "GS": 0, "outs": 4, "BF": 6, "H": 2, "HR": 0, "BB": 0, "SO": 1, "R": 1, "ER": 1}
    once = conform(batting.filter(hitter).select("player", "season", "league", "team", **{
        c: pl.lit(few.get(c, 0)) for c in PITCHING_SEASONS if c not in ("player", "season", "league", "team")
    }), "pitching_seasons")  # fmt: skip
    pitching = pl.concat([league.pitching_seasons, once])
    both = replace(league, batting_seasons=batting, pitching_seasons=pitching, _before={})
    said = PlayingTime(given).table("pitchers", 2012, both)
    assert said.filter(hitter).select("IP", "G", "GS").unique().row(0) == pytest.approx((4 / 3, 1, 0))
    assert said.filter(~hitter)["IP"].min() > 15  # type: ignore[operator]
    unknown = replace(both, batting_seasons=league.batting_seasons, _before={})
    assert PlayingTime(given).table("pitchers", 2012, unknown).filter(hitter)["IP"].max() > 1.5  # type: ignore[operator]


def test_games_tell_what_season_lines_do_not() -> None:
    cut = quitting_league()
    games = game_lines(cut)
    plain, told = PlayingTime(), PlayingTime(games=games)
    assert brier(told, cut) < 0.5 * brier(plain, cut)
    later = tuple(g.with_columns(starter=pl.col("starter") & (pl.col("season") < 2012)) if "starter" in g.columns else g
                  for g in games)  # fmt: skip
    again = PlayingTime(games=(later[0], later[1])).table("hitters", 2012, cut)
    assert_frame_equal(again, told.table("hitters", 2012, cut), check_exact=True)


def test_course_of_a_season() -> None:
    dates = [date(2011, 4, 1), date(2011, 4, 3), date(2011, 7, 1), date(2011, 9, 1), date(2011, 9, 30)]
    columns = {"player": [1, 1, 1, 1, 2], "date": dates, "game_id": ["a", "b", "c", "d", "e"], "PA": [4, 1, 4, 4, 3],
               "starter": [True, False, True, True, True], "lineup_slot": [2, None, 4, 6, 9]}  # fmt: skip
    games = pl.DataFrame(columns)
    row = course(conform(games, "batting_games"), "hitters").row(0, named=True)
    assert row == {"player": 1, "started": 0.75, "slot": 4, "late:started": 1, "late:slot": 6, "late:n": 4,
                   "before": 0, "after": 29, "gap": 89}  # fmt: skip
    nobody = course(empty("pitching_games"), "pitchers")
    assert nobody.is_empty()
    assert nobody.schema["gap"] == pl.Float64


def test_no_past() -> None:
    young = ageing_league(range(2011, 2013), players=20)
    with pytest.raises(FullcountError, match="to learn from"):
        PlayingTime().table("hitters", 2012, young)
    few = ageing_league(range(2008, 2013), players=20)
    timed, marcel = (s.project(SPRING, few).hitters for s in (InPlayingTime(Marcel()), Marcel()))
    assert_frame_equal(timed.select("player", "PA", "HR"), marcel.select("player", "PA", "HR"), rel_tol=1e-9)
