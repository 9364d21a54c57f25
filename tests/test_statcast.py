from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fullcount.errors import FullcountError
from fullcount.fields import CALLS, CONTACTS, EVENTS, PITCH_TYPES
from fullcount.sources import register, statcast
from fullcount.sources.tables import SCHEMAS, Tables

HOME, AWAY = 900, 800  # the pitchers


def row(ab: int, n: int, batter: int, description: str, **more: Any) -> dict[str, Any]:
    """A pitch of a game at Seattle in Savant's columns; visitors bat unless told."""
    top = more.pop("top", True)
    return {
        "game_pk": 1,
        "game_date": "2024-04-01",
        "game_type": "R",
        "home_team": "SEA",
        "away_team": "AZ",
        "game_year": 2024,
        "at_bat_number": ab,
        "pitch_number": n,
        "batter": batter,
        "pitcher": HOME if top else AWAY,
        "inning": 1,
        "inning_topbot": "Top" if top else "Bot",
        **dict.fromkeys(("outs_when_up", "balls", "strikes", "bat_score", "fld_score", "post_bat_score"), 0),
        **dict.fromkeys(("on_1b", "on_2b", "on_3b", "events", "bb_type", "launch_speed", "des")),
        "stand": "L",
        "p_throws": "R",
        "description": description,
        "pitch_type": "FF",
        "release_speed": 95.1,
        **more,
    }


#: A double, an intentional walk without a pitch, a bunt, a strikeout in which a run came home, a caught stealing.
#: At home: one man up, who wins the game.
GAME = [
    row(1, 1, 11, "ball"),
    row(1, 2, 11, "foul", balls=1, pitch_type="FT"),
    row(1, 3, 11, "hit_into_play_no_out", balls=1, strikes=1, events="double", bb_type="fly_ball", launch_speed=99.5),
    row(3, 1, 13, "foul_tip", on_1b=12, on_2b=11),
    row(3, 2, 13, "hit_into_play", strikes=1, on_1b=12, on_2b=11, events="sac_bunt", bb_type="ground_ball"),
    row(4, 1, 14, "swinging_strike_blocked", outs_when_up=1, on_2b=12, on_3b=11, pitch_type="UN"),
    row(4, 2, 14, "automatic_strike", strikes=1, outs_when_up=1, on_2b=12, bat_score=1, post_bat_score=1),
    row(4, 3, 14, "called_strike", strikes=2, outs_when_up=1, on_2b=12, bat_score=1, post_bat_score=1)
    | {"events": "strikeout"},
    row(5, 1, 15, "ball", outs_when_up=2, on_2b=12, bat_score=1, post_bat_score=1, events="caught_stealing_3b"),
    row(6, 1, 21, "ball", top=False, fld_score=1),
    row(6, 2, 21, "hit_into_play", top=False, fld_score=1, balls=1, on_1b=22, post_bat_score=2, events="home_run",
        bb_type="fly_ball"),
]  # fmt: skip


def frame(rows: list[dict[str, Any]] = GAME) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("on_1b", "on_2b", "on_3b").cast(pl.Float64))


def save(path: Path, rows: list[dict[str, Any]] = GAME) -> Path:
    frame(rows).write_parquet(path) if path.suffix == ".parquet" else frame(rows).write_csv(path)
    return path


def test_pitches(tmp_path: Path) -> None:
    pitches = statcast.read(save(tmp_path / "a.csv")).pitches
    columns = ["pa_number", "pitch_number", "call", "contact", "event", "bases", "post_outs", "post_bases", "runs"]
    assert pitches.select(columns).rows() == [
        (1, 1, "ball", "none", "none", 0, 0, 0, 0),
        (1, 2, "foul", "none", "none", 0, 0, 0, 0),
        (1, 3, "in_play", "fly_ball", "double", 0, 0, 2, 0),  # before the intentional walk: only second taken
        (3, 1, "foul_tip", "none", "none", 3, 0, 3, 0),
        (3, 2, "in_play", "bunt", "sac_bunt", 3, 1, 6, 0),
        (4, 1, "swinging_strike", "none", "none", 6, 1, 2, 1),
        (4, 2, "automatic_strike", "none", "none", 2, 1, 2, 0),
        (4, 3, "called_strike", "none", "strikeout", 2, 2, 2, 0),
        (5, 1, "ball", "none", "truncated_pa", 2, 3, 0, 0),
        (6, 1, "ball", "none", "none", 0, 0, 1, 0),
        (6, 2, "in_play", "fly_ball", "home_run", 1, 3, 0, 2),
    ]
    assert pitches["pitch_type"].to_list()[:6] == ["FF", "SI", "FF", "FF", "FF", None]
    assert pitches["release_speed"][0] == pytest.approx(95.1)
    assert set(pitches["game_id"]) == {"SEA202404010"}


def test_other_tables(tmp_path: Path) -> None:
    tables = statcast.read(save(tmp_path / "a.parquet"))
    columns = [
        "pa_number",
        "batter",
        "event",
        "lineup_slot",
        "bases",
        "balls",
        "strikes",
        "pitches",
        "outs_on_play",
        "runs",
    ]
    assert tables.plate_appearances.select(columns).rows() == [
        (1, 11, "double", 1, 0, 1, 1, 3, 0, 0),
        (2, 12, "intent_walk", 2, 2, None, None, 0, 0, 0),
        (3, 13, "sac_bunt", 3, 3, 0, 1, 2, 1, 0),
        (4, 14, "strikeout", 4, 6, 0, 2, 2, 1, 1),
        (5, 15, "truncated_pa", 5, 2, 0, 0, 1, 1, 0),
        (6, 21, "home_run", 1, 0, 1, 0, 2, 0, 2),
    ]
    game = tables.games.row(0, named=True)
    assert (game["home_team"], game["away_team"], game["number"]) == ("SEA", "ARI", 0)
    assert (game["home_score"], game["away_score"], game["home_starter"], game["away_starter"]) == (2, 1, HOME, AWAY)
    bat = tables.batting_games
    assert bat.filter(pl.col("player") == 13).select("team", "opponent", "home", "PA", "AB", "SH", "SB").row(0) == (
        "ARI", "SEA", False, 1, 0, 1, None,
    )  # fmt: skip
    pitch = tables.pitching_games.sort("player")
    assert pitch.select("player", "team", "outs", "BF", "H", "BB", "IBB", "SO", "HR", "pitches", "GS").rows() == [
        (AWAY, "ARI", 0, 1, 1, 0, 0, 0, 1, 2, 1),
        (HOME, "SEA", 3, 4, 1, 1, 1, 1, 0, 8, 1),
    ]


def test_last_pitch_without_event(tmp_path: Path) -> None:
    """An automatic call without a row ended it: the next situation tells."""
    rows = [
        row(1, 1, 11, "ball", balls=3, strikes=2 - 1),
        row(1, 2, 11, "foul", balls=3, strikes=1),  # now 3-2: an automatic fourth ball
        row(2, 1, 12, "ball", balls=1, on_1b=11),  # waved to first
        row(3, 1, 13, "called_strike", strikes=1, on_1b=12, on_2b=11),  # too slow: third strike
        row(4, 1, 14, "called_strike", outs_when_up=1, on_1b=12, on_2b=11),  # nobody knows
        row(5, 1, 15, "hit_into_play", outs_when_up=2, on_2b=11, events="field_out", bb_type="popup"),
    ]
    tables = statcast.read(save(tmp_path / "a.csv", rows))
    assert tables.plate_appearances["event"].to_list() == ["walk", "intent_walk", "strikeout", None, "field_out"]
    assert tables.pitches["event"].to_list() == ["none", "walk", "intent_walk", "strikeout", None, "field_out"]
    assert tables.plate_appearances["balls"].to_list() == [None, None, None, None, 0]


@pytest.mark.parametrize(("leads", "event"), [(11, "truncated_pa"), (12, "strikeout")])
def test_last_pitch_of_an_inning_without_event(tmp_path: Path, leads: int, event: str) -> None:
    """Who bats first in the next inning tells whether the batter or a runner was out."""
    rows = [
        row(1, 1, 11, "foul", strikes=1, outs_when_up=2, on_1b=10),
        row(2, 1, 21, "ball", top=False),
        row(3, 1, leads, "ball", inning=2),
    ]
    assert statcast.read(save(tmp_path / "a.csv", rows)).plate_appearances["event"][0] == event


def test_replaced_in_mid_count(tmp_path: Path) -> None:
    rows = [
        row(1, 1, 11, "called_strike", balls=0),
        row(1, 2, 11, "called_strike", strikes=1),
        row(1, 3, 12, "swinging_strike", strikes=2, events="strikeout"),  # the pinch hitter has no strikeout
        row(2, 1, 13, "ball", outs_when_up=1, balls=1),
        row(2, 2, 13, "ball", outs_when_up=1, balls=2, pitcher=901),
        row(2, 3, 13, "ball", outs_when_up=1, balls=3, pitcher=901, events="walk"),  # nor has the reliever a walk
        row(3, 1, 14, "hit_into_play", outs_when_up=1, on_1b=13, pitcher=901, events="single", bb_type="line_drive"),
    ]
    pas = statcast.read(save(tmp_path / "a.csv", rows)).plate_appearances
    assert pas.select("batter", "pitcher").rows() == [(11, HOME), (13, HOME), (14, 901)]


def test_double_header_and_game_types(tmp_path: Path) -> None:
    rows = [{**r, "game_pk": pk, "game_type": t} for pk, t in ((7, "R"), (5, "R"), (9, "D"), (3, "S")) for r in GAME]
    path = save(tmp_path / "a.csv", rows)
    tables = statcast.read(path)
    assert tables.games.select("game_pk", "game_id").rows() == [(5, "SEA202404011"), (7, "SEA202404012")]
    assert statcast.read(path, game_types=("R", "P")).games["game_type"].to_list() == ["R", "R", "P"]
    assert statcast.read(path, game_types=("A",)).pitches.is_empty()


def test_old_and_messy_files(tmp_path: Path) -> None:
    """No post_bat_score, no des, float ids, NA for nulls, repeated and deprecated columns, a time behind the date."""
    old = frame().drop("post_bat_score", "des", "game_year", "pitch_type", "launch_speed")
    old = old.with_columns(
        pl.col("batter", "pitcher", "game_pk").cast(pl.Float64),
        pl.col("game_date") + "T00:00:00",
        pl.col("pitcher").alias("pitcher.1"),
        pl.lit(None, dtype=pl.String).alias("spin_dir"),
    )
    old.write_csv(tmp_path / "old.csv", null_value="NA")
    data = gzip.compress((tmp_path / "old.csv").read_bytes())
    (tmp_path / "old.csv.gz").write_bytes(data)
    new = statcast.read(save(tmp_path / "new.csv")).pitches
    read = statcast.read(tmp_path / "old.csv.gz").pitches
    same = ["game_id", "season", "batter", "pitcher", "call", "event", "contact", "post_outs", "post_bases"]
    assert read.select(same).equals(new.select(same))
    assert read["runs"].to_list()[:-1] == new["runs"].to_list()[:-1]  # what the last hit brought, nobody says
    assert read["runs"][-1] is None
    # Both together: one fills in what the other leaves out.
    both = statcast.read([tmp_path / "old.csv.gz", tmp_path / "new.csv"])
    assert both.pitches.equals(new)


def test_bunt_by_description(tmp_path: Path) -> None:
    rows = [{**r, "des": "He bunts for a double"} if r["at_bat_number"] == 1 else r for r in GAME]
    pitches = statcast.read(save(tmp_path / "a.csv", rows)).pitches
    assert pitches["contact"].to_list()[:3] == ["none", "none", "bunt"]


def same(a: Tables, b: Tables) -> bool:
    return all(getattr(a, n).equals(getattr(b, n)) for n in SCHEMAS)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1), extra=st.lists(st.integers(0, len(GAME) - 1), max_size=8), cut=st.integers(1, 10)
)
def test_repeated_and_shuffled_rows_change_nothing(tmp_path: Path, seed: int, extra: list[int], cut: int) -> None:
    rows = [*GAME, *(GAME[i] for i in extra)]
    random.Random(seed).shuffle(rows)
    parts = [save(tmp_path / "a.csv", rows[:cut]), save(tmp_path / "b.parquet", rows[cut:])]
    assert same(statcast.read(parts), statcast.read(save(tmp_path / "whole.csv")))


def test_conflicting_rows(tmp_path: Path) -> None:
    other = [{**r, "release_speed": 80.0} if r["at_bat_number"] == 4 else r for r in GAME]
    files = [save(tmp_path / "a.csv"), save(tmp_path / "b.parquet", other)]
    with pytest.raises(FullcountError, match=r"a.csv and .*b.parquet disagree on column 'release_speed'") as error:
        statcast.read(files)
    assert "game_pk 1, at_bat_number 4, pitch_number 1" in str(error.value)


def test_bad_files(tmp_path: Path) -> None:
    def bad(name: str, text: bytes) -> Path:
        (tmp_path / name).write_bytes(text)
        return tmp_path / name

    csv = save(tmp_path / "a.csv").read_bytes()
    lacking = tmp_path / "lacking.parquet"
    frame().drop("on_2b").write_parquet(lacking)
    strange = [{**r, "description": "abducted"} if r["at_bat_number"] == 3 else r for r in GAME]
    cases = [
        (bad("page.csv", b"<html><body>Bad gateway"), "web page"),
        (bad("none.csv", b""), "is empty"),
        (bad("header.csv", csv.splitlines()[0] + b"\n"), "no rows"),
        (bad("cut.csv.gz", gzip.compress(csv)[:-30]), "cut short"),
        (bad("cut.parquet", b"PAR1 and nothing more"), "parquet"),
        (lacking, "'on_2b'"),
        (save(tmp_path / "strange.csv", strange), "line 5, column 'description': 'abducted'"),
        (
            save(tmp_path / "event.parquet", [GAME[0], {**GAME[2], "events": "homer"}]),
            "row 2, column 'events': 'homer'",
        ),
        (save(tmp_path / "hole.csv", [GAME[0], {**GAME[1], "inning": None}]), "line 3, column 'inning'"),
        (save(tmp_path / "date.csv", [{**r, "game_date": "4/1/24"} for r in GAME]), "line 2, column 'game_date'"),
        (tmp_path / "absent.csv", "cannot be read"),
    ]
    for path, words in cases:
        with pytest.raises(FullcountError, match=words) as error:
            statcast.read(path)
        assert path.name in str(error.value)
    with pytest.raises(FullcountError, match="no file given"):
        statcast.read([])


def test_unknown_description_is_null(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**r, "description": "unknown"} if r["pitch_number"] == 1 else r for r in GAME]
    with caplog.at_level("INFO", "fullcount"):
        pitches = statcast.read(save(tmp_path / "a.csv", rows)).pitches
    assert pitches["call"].null_count() == 5
    assert "5 pitches with no or an unknown description" in caplog.text


def test_register_is_used(tmp_path: Path) -> None:
    ids = sorted({r["batter"] for r in GAME} | {12, HOME, AWAY})
    book = pl.DataFrame({"player": ids, "last_name": [f"P{i}" for i in ids]})
    players = statcast.read(save(tmp_path / "a.csv"), register.merge_players([book])).players
    assert players.filter(pl.col("player").is_in([12, HOME])).select("last_name", "bats", "throws").rows() == [
        ("P12", None, None),
        (f"P{HOME}", None, "R"),
    ]
    with pytest.raises(FullcountError, match="Statcast batters and pitchers"):
        statcast.read(tmp_path / "a.csv", register.merge_players([book.filter(pl.col("player") != 13)]))


@pytest.mark.real
def test_the_season_of_2024(data_dir: Path) -> None:
    tables = statcast.read(data_dir / "statcast" / "2024.parquet")
    pitches = tables.pitches
    assert pitches.height == 707_429
    assert tables.games.height == tables.games["game_id"].n_unique() == 2422
    for column, words in (("call", CALLS), ("contact", CONTACTS), ("event", EVENTS), ("pitch_type", PITCH_TYPES)):
        assert set(pitches[column].drop_nulls()) <= set(words)
    # 7 of 2,429 games are missing: 0.3 % under the official totals.
    totals = tables.batting_games.select(pl.col("PA", "HR", "SO", "BB").sum()).row(0)
    for ours, official in zip(totals, (182_449, 5_453, 41_197, 14_929), strict=True):
        assert 0.994 < ours / official < 1.0
    assert tables.pitching_games["BF"].sum() == totals[0]


@pytest.mark.real
def test_raw_days_agree_with_the_season(data_dir: Path) -> None:
    days = sorted((data_dir / "statcast" / "raw").glob("*.csv.gz"))
    raw = statcast.read(days)
    season = statcast.read(data_dir / "statcast" / "2024.parquet")
    columns = ["game_id", "pa_number", "pitch_number", "call", "event", "batter", "pitcher", "bases", "post_outs"]
    ours = raw.pitches.select(columns)
    whole = season.pitches.select(columns).join(ours.select("game_id").unique(), on="game_id", how="semi")
    both = ours.join(whole, on=columns, nulls_equal=True)
    assert both.height / max(ours.height, whole.height) > 0.999
    assert raw.pitches["contact"].eq("bunt").sum() > 5  # told by `des`
