from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.sources import link, plate_appearances, register, retrosheet, statcast
from fullcount.sources.tables import Tables

DAY = dt.date(2024, 6, 1)
GAME = {"season": 2024, "home_team": "SEA", "away_team": "OAK"}


def games(key: str, *rows: tuple[Any, ...]) -> pl.DataFrame:
    """Rows of (key, day of June, number, home starter, away starter)."""
    return pl.DataFrame(
        [
            {key: k, "date": DAY.replace(day=d), "number": n, "home_starter": h, "away_starter": a, **GAME}
            for k, d, n, h, a in rows
        ]
    ).with_columns(pl.lit(None, dtype=pl.Int16).alias(c) for c in ("home_score", "away_score"))


def test_games_are_linked(caplog: pytest.LogCaptureFixture) -> None:
    a = games("game_pk", (1, 1, 0, 10, 20), (3, 2, 1, 12, 22), (2, 2, 2, 11, 21), (4, 9, 0, 13, 23))
    b = games(
        "game_id",
        ("SEA202406010", 1, 0, 99, 98),  # a change of pitchers does not matter
        ("SEA202406021", 2, 1, 11, 21),  # the double header is the other way round
        ("SEA202406022", 2, 2, 12, 22),
        ("SEA202406050", 5, 0, 13, 23),  # suspended on the 5th, ended on the 9th
        ("SEA202406250", 25, 0, 14, 24),
    )
    with caplog.at_level(logging.INFO, "fullcount"):
        links = link.link_games(a, b)
    assert links.rows() == [(1, "SEA202406010"), (2, "SEA202406021"), (3, "SEA202406022"), (4, "SEA202406050")]
    assert "4 of 4 linked" in caplog.text


def test_home_team_that_bats_first_is_linked() -> None:
    a = games("game_pk", (1, 1, 0, 10, 20)).rename({"home_team": "away_team", "away_team": "home_team"})
    assert link.link_games(a, games("game_id", ("SEA202406011", 1, 1, 20, 10))).rows() == [(1, "SEA202406011")]
    with pytest.raises(FullcountError):  # another game of the two
        link.link_games(a, games("game_id", ("SEA202406011", 1, 1, 21, 10)))


def test_too_few_games() -> None:
    a = games("game_pk", (1, 1, 0, 10, 20), (2, 7, 0, 11, 21))
    b = games("game_id", ("SEA202406010", 1, 0, 10, 20))
    with pytest.raises(FullcountError, match=r"only 50.0 %.*game_pk 2"):
        link.link_games(a, b)
    assert link.link_games(a, b, minimum=0.5).rows() == [(1, "SEA202406010")]


def turn(pa: int, batter: int, event: str, **more: Any) -> dict[str, Any]:
    return {
        "pa_number": pa,
        "batter": batter,
        "event": event,
        "inning": 1,
        "top": True,
        "balls": 0,
        "strikes": 0,
        **more,
    }


def pitch(pa: int, n: int, batter: int, call: str, event: str = "none", **more: Any) -> dict[str, Any]:
    common = {"pa_number": pa, "pitch_number": n, "batter": batter, "call": call, "event": event}
    return {**common, "inning": 1, "top": True, "outs": 0, "bases": 0, "bat_score": 0, "balls": 0, **more}


def season(game_id: str, game_pk: int | None, pas: list[dict[str, Any]], pitches: list[dict[str, Any]]) -> Tables:
    same = {"game_id": game_id, "season": 2024, "date": DAY, "game_type": "R", "league": "MLB", "park": game_id[-1]}
    starters = {"number": 0, "home_starter": 1, "away_starter": 2, "home_team": "SEA", "away_team": "OAK"}
    return Tables.of(
        games=pl.DataFrame([{**same, **starters, "game_pk": game_pk}], schema_overrides={"game_pk": pl.Int32}),
        plate_appearances=pl.DataFrame([{**same, **p} for p in pas], infer_schema_length=None),
        pitches=pl.DataFrame([{**same, **p} for p in pitches], infer_schema_length=None),
    )


#: Savant lacks the walk of 12 and an automatic ball to 13; 14 was replaced by 24 before the last pitch.
SAVANT = season(
    "SEA202406011",
    7,
    [turn(1, 11, "single"), turn(3, 13, "single"), turn(4, 24, "field_out"), turn(5, 15, "walk", balls=3)],
    [
        pitch(1, 1, 11, "in_play", "single", contact="line_drive", post_bases=3, post_outs=0, release_speed=90.0),
        pitch(3, 2, 13, "in_play", "single", contact="ground_ball", bases=3, release_speed=91.0),
        pitch(4, 1, 14, "ball", release_speed=92.0),
        pitch(4, 2, 24, "in_play", "field_out", release_speed=93.0),
        pitch(5, 1, 15, "ball", "walk", release_speed=94.0),
    ],
)
RETRO = season(
    "SEA202406010",
    None,
    [
        turn(1, 11, "field_error", contact="bunt"),
        turn(2, 12, "intent_walk", bases=1),
        turn(3, 13, "single"),
        turn(4, 14, "field_out", contact="popup"),
        turn(5, 15, "walk", balls=2),
    ],
    [
        pitch(1, 1, 11, "in_play", "field_error"),
        pitch(2, 1, 12, "automatic_ball", bases=1),
        pitch(2, 2, 12, "automatic_ball", "intent_walk", bases=1),
        pitch(3, 1, 13, "automatic_ball", bases=3),
        pitch(3, 2, 13, "in_play", "single", bases=3),
        pitch(4, 1, 14, "ball"),
        pitch(4, 2, 14, "in_play", "field_out"),
        pitch(5, 1, 15, "ball", "walk"),
    ],
)


def test_align() -> None:
    tables = link.align(SAVANT, RETRO)
    columns = ["pa_number", "pitch_number", "batter", "call", "contact", "event", "release_speed"]
    assert tables.pitches.select(columns).rows() == [
        (1, 1, 11, "in_play", "bunt", "field_error", 90.0),
        (2, 1, 12, "automatic_ball", None, "none", None),
        (2, 2, 12, "automatic_ball", None, "intent_walk", None),
        (3, 1, 13, "automatic_ball", None, "none", None),
        (3, 2, 13, "in_play", "ground_ball", "single", 91.0),
        (4, 1, 14, "ball", None, "none", 92.0),
        (4, 2, 24, "in_play", "popup", "field_out", 93.0),
        (5, 1, 15, "ball", None, "walk", 94.0),
    ]
    # Savant saw the bases after the walk; before it there was one man on.
    assert tables.pitches.select("post_bases", "post_outs").row(0) == (1, 0)
    assert set(tables.pitches["game_id"]) == {"SEA202406010"}
    assert set(tables.pitches["park"]) == {"0"}
    assert tables.games["game_pk"].to_list() == [7]
    assert tables.plate_appearances["release_speed"].to_list() == [90.0, None, 91.0, 93.0, 94.0]


def test_games_that_savant_lacks_stay() -> None:
    other = season("SEA202406020", None, [turn(1, 11, "walk")], [pitch(1, 1, 11, "ball", "walk")])
    other.games = other.games.with_columns(home_starter=pl.lit(8, dtype=pl.Int32), number=pl.lit(1, dtype=pl.Int8))
    tables = link.align(SAVANT, Tables.concat([RETRO, other]))
    assert tables.pitches.filter(pl.col("game_id") == "SEA202406020").equals(other.pitches)
    assert tables.games["game_pk"].to_list() == [7, None]


def test_agreement() -> None:
    assert link.agreement(SAVANT, RETRO) == {
        "games": 1,
        "plate_appearances": 5,
        "matched": 0.8,
        "outcome": 0.75,  # a single or an error
        "event": 0.75,
        "count": 0.75,
    }


PA_ROW = {
    "game_date": DAY,
    "season": 2024,
    "game_pk": 7,
    "game_type": "R",
    "record_type": "pitch",
    "home_away_batting": "away",
    "batting_team": "Oakland Athletics",
    "fielding_team": "Seattle Mariners",
    "pitcher_id": 1,
    "bat_side": "L",
    "pitch_hand": "R",
    "rbi": 0,
    "launch_speed": None,
    "launch_angle": None,
    "trajectory": None,
}


def pa_file(path: Path) -> Path:
    def row(index: int, batter: int, event: str, kind: str | None, speed: float | None, **more: Any) -> dict[str, Any]:
        return {
            **PA_ROW,
            "at_bat_index": index,
            "batter_id": batter,
            "event_type": event,
            "pitch_type": kind,
            "speed_mph": speed,
            "spin_rate": 2200,
            **more,
        }

    rows = [
        row(0, 11, "field_error", "Sweeper", 84.0, launch_speed=60.5, launch_angle=-20.0, trajectory="bunt_grounder"),
        row(1, 12, "stolen_base_2b", None, None, record_type="baserunning"),
        row(1, 12, "intent_walk", None, None),
        row(2, 13, "caught_stealing_2b", "Unknown", None),
        row(3, 13, "single", "Sinker", 95.5, launch_speed=101.0, launch_angle=12.0, trajectory="line_drive"),
        row(4, 50, "strikeout", "Changeup", 83.0, home_away_batting="home", batting_team="Seattle Mariners",
            fielding_team="Oakland Athletics", pitcher_id=2),
    ]  # fmt: skip
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return path


def test_plate_appearance_file(tmp_path: Path) -> None:
    pa = plate_appearances.read(pa_file(tmp_path / "pa.parquet"))
    columns = ["home_team", "away_team", "top", "pa_number", "batter", "event", "contact", "pitch_type"]
    assert pa.select(columns).rows() == [
        ("SEA", "OAK", True, 1, 11, "field_error", "bunt", "ST"),
        ("SEA", "OAK", True, 2, 12, "intent_walk", None, None),
        ("SEA", "OAK", True, 3, 13, "truncated_pa", None, None),
        ("SEA", "OAK", True, 4, 13, "single", "line_drive", "SI"),
        ("SEA", "OAK", False, 5, 50, "strikeout", None, "CH"),
    ]
    tables = plate_appearances.enrich(RETRO, pa)
    columns = ["pitch_type", "release_speed", "launch_speed", "contact"]
    assert tables.plate_appearances.select(columns).rows() == [
        ("ST", 84.0, 60.5, "bunt"),
        (None, None, None, None),
        ("SI", 95.5, 101.0, "line_drive"),
        (None, None, None, "popup"),
        (None, None, None, None),
    ]
    last = tables.pitches.filter(pl.col("release_speed").is_not_null())
    assert last.select("pa_number", "pitch_number", "pitch_type", "release_spin_rate").rows() == [
        (1, 1, "ST", 2200.0),
        (3, 2, "SI", 2200.0),
    ]
    assert tables.pitches.height == RETRO.pitches.height
    with pytest.raises(FullcountError, match="no season in common"):
        plate_appearances.enrich(RETRO, pa.with_columns(season=pl.lit(2023, dtype=pl.Int16)))


def test_bad_plate_appearance_files(tmp_path: Path) -> None:
    pl.DataFrame([PA_ROW]).write_parquet(tmp_path / "pa.parquet")
    with pytest.raises(FullcountError, match=r"pa.parquet: required column 'at_bat_index'"):
        plate_appearances.read(tmp_path / "pa.parquet")
    (tmp_path / "not.parquet").write_text("PAR")
    with pytest.raises(FullcountError, match=r"not.parquet: not a readable parquet"):
        plate_appearances.read([tmp_path / "not.parquet"])


@pytest.fixture(scope="module")
def real_2024(data_dir: Path) -> tuple[Tables, Tables]:
    names = ("people_mlb.csv.gz", "people_minors_2005on.csv.gz")
    players = register.read([data_dir / "register" / n for n in names]).players
    rs = retrosheet.read_season(data_dir / "retrosheet" / "2024eve.zip", players)
    return statcast.read(data_dir / "statcast" / "2024.parquet", players), rs


@pytest.mark.real
@pytest.mark.slow
def test_two_sources_agree_on_2024(real_2024: tuple[Tables, Tables]) -> None:
    sc, rs = real_2024
    told = link.agreement(sc, rs)
    assert told["games"] == 2422
    assert min(told["matched"], told["outcome"], told["event"], told["count"]) > 0.998


@pytest.mark.real
@pytest.mark.slow
def test_align_2024(real_2024: tuple[Tables, Tables]) -> None:
    sc, rs = real_2024
    tables = link.align(sc, rs)
    assert tables.batting_games.equals(rs.batting_games)
    key = ["game_id", "pa_number", "pitch_number"]
    assert not tables.pitches.select(key).is_duplicated().any()
    # Every pitch of Savant's is there, and no plate appearance of Retrosheet's has lost its pitches.
    assert tables.pitches["release_pos_x"].count() == sc.pitches["release_pos_x"].count()
    assert rs.pitches.join(tables.pitches, on=key[:2], how="anti").is_empty()
    assert abs(tables.pitches.height - rs.pitches.height) < 20
    ends = tables.pitches.filter(pl.col("event") != "none").select(*key[:2], "event")
    both = ends.join(rs.plate_appearances, on=key[:2])
    assert ends.height == both.height
    assert (both["event"] == both["event_right"]).all()


@pytest.mark.real
@pytest.mark.slow
def test_enrich_2024(real_2024: tuple[Tables, Tables], data_dir: Path) -> None:
    _, rs = real_2024
    tables = plate_appearances.enrich(rs, plate_appearances.read(data_dir / "plate_appearances" / "pa_2024.parquet"))
    pas = tables.plate_appearances.filter(pl.col("event") != "truncated_pa")
    assert pas["release_speed"].count() / pas.height > 0.99
    assert pas["launch_speed"].count() > 120_000
