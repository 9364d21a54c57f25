"""Raw files into a store: what is in it afterwards, and that bad input leaves every byte of it alone."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import test_lahman
import test_retrosheet as rs
import test_statcast as sc
from fullcount.errors import FullcountError
from fullcount.sources.ingest import INGEST
from fullcount.store import Store

COLUMNS = ["key_mlbam", "key_retro", "key_bbref", "key_fangraphs", "name_last", "name_first"]
COLUMNS += ["birth_year", "birth_month", "birth_day"]
#: Savant's game is one of 2024 at Seattle.
SAVANT_PLAYERS = [11, 12, 13, 14, 15, 21, 22, sc.HOME, sc.AWAY]


def register_file(path: Path) -> Path:
    """A register that holds everybody of the hand-made files."""
    rows = [f"{player},{retro},,,{retro},X,1990,2,3" for retro, player in rs.ID.items()]
    rows += [f"{player},,,,P{player},X,1991,2,3" for player in SAVANT_PLAYERS if player not in rs.ID.values()]
    rows += [f"{p + 5000},{r},{b or ''},,{r},X,1900,2,3" for p, b, r in zip(
        *(test_lahman.REGISTER[c] for c in ("player", "key_bbref", "key_retro")), strict=True)]  # fmt: skip
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def season_zip(path: Path, folder: Path, events: str | None = None) -> Path:
    files = rs.season(folder, events or rs.event_file())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files.iterdir()):
            archive.write(file, file.name)
    return path


def ingest(store: Path, source: str, *paths: Path, **options: Any) -> Store:
    if source == "retrosheet":
        options |= {"jobs": 1}
    return INGEST[source](Store.open_or_create(store), list(paths), **options)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the register."""
    return ingest(tmp_path / "store", "register", register_file(tmp_path / "people.csv")).root


# -------------------------------------------------------------------------------------------------- what it holds then


def test_register_then_retrosheet(store: Path, tmp_path: Path) -> None:
    known = Store.open(store).table("players")
    filled = ingest(store, "retrosheet", season_zip(tmp_path / "2019eve.zip", tmp_path / "2019"))
    filled.verify()
    assert [p["name"] for p in filled.parts] == ["retrosheet 2019eve"]
    assert filled.table("players").equals(known)  # names and birth dates are the register's
    assert filled.games["game_id"].to_list() == ["AAA201904010"]
    pitches = filled.season(2019).pitches
    assert filled.rows == pitches.height > 30
    assert filled.table("plate_appearances").height == 14
    assert filled.table("batting_games").height == 21
    assert filled.table("pitching_games")["player"].sort().to_list() == [rs.VP, rs.HP1, rs.HP2]
    assert int(filled.appearances("pitcher").events.sum()) == pitches.height
    first, stop = filled.appearances("pitcher").slice_of(rs.HP2)
    thrown = pitches.filter(pl.col("pitcher") == rs.HP2).height
    assert int(filled.appearances("pitcher").events[first:stop].sum()) == thrown > 0


def test_lahman_and_statcast(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lahman"
    folder.mkdir()
    for name, text in test_lahman.FILES.items():
        (folder / f"{name}.csv").write_text(text)
    ingest(store, "lahman", folder)
    filled = ingest(store, "statcast", sc.save(tmp_path / "2024.csv"))
    assert filled.table("batting_seasons")["season"].unique().sort().to_list() == [1871, 1918, 1935, 2021]
    assert [p["name"] for p in filled.parts] == ["statcast 2024"]
    assert filled.rows == len(sc.GAME)
    players = filled.table("players")
    assert players["player"].is_unique().all()
    pitcher = players.row(by_predicate=pl.col("player") == sc.HOME, named=True)
    assert (pitcher["last_name"], pitcher["throws"]) == (f"P{sc.HOME}", "R")  # the register's name, Savant's hand


def test_the_postseason_only_when_asked(store: Path, tmp_path: Path) -> None:
    path = sc.save(tmp_path / "d.csv", [{**r, "game_type": "D"} for r in sc.GAME])
    assert not ingest(store, "statcast", path).rows
    assert ingest(store, "statcast", path, postseason=True).games["game_type"].to_list() == ["P"]


def test_seasons_before_a_bad_one_stay(store: Path, tmp_path: Path) -> None:
    good = season_zip(tmp_path / "2019eve.zip", tmp_path / "2019")
    with pytest.raises(FullcountError, match=r"2020eve\.zip: no such file"):
        ingest(store, "retrosheet", good, tmp_path / "2020eve.zip")
    assert Store.open(store).games.height == 1


def savant(tables_of: Store) -> list[dict[str, Any]]:
    """The hand-made Retrosheet game as Savant has it: no automatic calls, all pitches with a speed."""
    said = {"in_play": "hit_into_play", "strike_unspecified": "unknown_strike"}
    season = tables_of.season(2019)
    pitches = season.pitches.filter(~pl.col("call").is_in(["automatic_ball", "automatic_strike"]).fill_null(False))
    rows = []
    for p in pitches.iter_rows(named=True):
        event = {"none": None, "truncated_pa": "caught_stealing_2b"}.get(p["event"], p["event"])
        rows.append(
            sc.row(
                p["pa_number"], p["pitch_number"], p["batter"], said.get(p["call"], p["call"]) or "unknown",
                top=p["top"], game_pk=77, game_date="2019-04-01", game_year=2019, home_team="AAA", away_team="BBB",
                pitcher=p["pitcher"], inning=p["inning"], outs_when_up=p["outs"], balls=p["balls"],
                strikes=p["strikes"], bat_score=p["bat_score"], fld_score=p["fld_score"],
                post_bat_score=p["bat_score"] + p["runs"], events=event, stand=p["stand"] or "R", p_throws=p["throws"],
                bb_type=p["contact"] if p["contact"] in ("fly_ball", "ground_ball", "line_drive") else None,
                release_speed=90.0 + p["pitch_number"],
                **{f"on_{i + 1}b": 101 + i if p["bases"] >> i & 1 else None for i in range(3)},
            )
        )  # fmt: skip
    return rows


def test_both_orders_of_two_sources_give_one_game(store: Path, tmp_path: Path) -> None:
    games = season_zip(tmp_path / "2019eve.zip", tmp_path / "2019")
    other = ingest(tmp_path / "other", "register", tmp_path / "people.csv").root
    alone = ingest(store, "retrosheet", games)
    pitches = sc.save(tmp_path / "2019.csv", savant(alone))
    a = ingest(store, "statcast", pitches)
    ingest(other, "statcast", pitches)
    b = ingest(other, "retrosheet", games)
    one, two = a.season(2019), b.season(2019)
    assert one.pitches.equals(two.pitches)
    assert one.plate_appearances.equals(two.plate_appearances)
    assert one.games.equals(two.games)
    assert one.games.select("game_id", "game_pk").row(0) == ("AAA201904010", 77)
    assert one.batting_games.equals(two.batting_games)
    assert one.pitching_games["ER"].sum() == 3  # Savant does not know
    assert one.pitches["release_speed"].count() > 30  # Retrosheet does not
    assert set(one.pitches["call"].drop_nulls()) >= {"automatic_ball", "automatic_strike"}
    key = ["game_id", "pa_number", "pitch_number"]
    assert not one.pitches.select(key).is_duplicated().any()
    assert one.pitches.select(key).equals(alone_pitches(games, tmp_path).select(key))
    # Either file once more changes nothing.
    for again in (ingest(store, "statcast", pitches), ingest(other, "retrosheet", games)):
        season = again.season(2019)
        assert season.pitches.equals(one.pitches)
        assert season.plate_appearances.equals(one.plate_appearances)
        assert season.games.equals(one.games)
        assert int(again.appearances("batter").events.sum()) == one.pitches.height


def alone_pitches(games: Path, tmp_path: Path) -> pl.DataFrame:
    store = ingest(tmp_path / "alone", "register", tmp_path / "people.csv").root
    return ingest(store, "retrosheet", games).season(2019).pitches


# ----------------------------------------------------------------------------------------------------------- bad input


def written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


PAGE = b"\n<!DOCTYPE html><html><body>503 Service Unavailable</body></html>"
HEADER = ",".join(COLUMNS).encode() + b"\n"


def cut_gzip(folder: Path) -> Path:
    path = folder / "cut.csv.gz"
    path.write_bytes(gzip.compress(register_file(folder / "whole.csv").read_bytes())[:-20])
    return path


def cut_zip(folder: Path) -> Path:
    path = season_zip(folder / "2019eve.zip", folder / "2019")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def archive(names: dict[str, str]) -> Callable[[Path], Path]:
    return lambda folder: rs.bad_zip(folder / "2019eve.zip", names)


def twice(folder: Path) -> Path:
    return season_zip(folder / "2019eve.zip", folder / "2019", rs.event_file() * 2)


def bad_details(folder: Path) -> tuple[Path, dict[str, Any]]:
    details = folder / "pa.parquet"
    pl.DataFrame({"season": [2019]}).write_parquet(details)
    return season_zip(folder / "2019eve.zip", folder / "2019"), {"details": [details]}


def lahman(**changes: str | None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        files = folder / "lahman"
        files.mkdir()
        for name, text in (test_lahman.FILES | changes).items():
            if text is not None:
                (files / f"{name}.csv").write_text(text)
        return files

    return make


def lacking(folder: Path) -> Path:
    path = folder / "lacking.csv"
    sc.frame().drop("on_2b").write_csv(path)
    return path


def conflict(folder: Path) -> Path:
    return sc.save(folder / "two.csv", [*sc.GAME, {**sc.GAME[0], "release_speed": 70.0}])


def strangers(folder: Path) -> Path:
    return sc.save(folder / "strangers.csv", [{**r, "batter": r["batter"] + 7000} for r in sc.GAME])


BAD: list[tuple[str, Callable[[Path], Any], str]] = [
    ("register", written("page.csv", PAGE), "web page"),
    ("register", cut_gzip, "cut short"),
    ("register", written("a.csv", b"key_retro,name_last,name_first\na,b,c\n"), "'key_mlbam' is missing"),
    ("register", written("empty.csv", b""), "is empty"),
    ("register", lambda folder: folder / "none.csv", "no such file"),
    ("lahman", lahman(Batting=PAGE.decode()), "web page"),
    ("lahman", lahman(Pitching=None), "Pitching.csv is missing"),
    ("lahman", lahman(Batting="playerID,yearID\nruthba01,1935\n"), "'teamID' is missing"),
    ("lahman", lambda folder: folder / "none", "not a folder"),
    ("retrosheet", cut_zip, "cut off or damaged"),
    ("retrosheet", written("2019eve.zip", PAGE), "web page"),
    ("retrosheet", archive({"../2019AAA.EVA": "id,x"}), "points outside the zip"),
    ("retrosheet", archive({"readme.txt": "hello"}), "not a Retrosheet zip"),
    ("retrosheet", archive({"2019AAA.EVA": rs.event_file()}), "TEAM2019 is missing"),
    ("retrosheet", twice, "stands twice"),
    ("retrosheet", bad_details, "required column"),
    ("statcast", written("page.csv", PAGE), "web page"),
    ("statcast", lacking, "'on_2b' is missing"),
    ("statcast", conflict, "disagree on column 'release_speed'"),
    ("statcast", strangers, "are in the register"),
    ("statcast", written("cut.parquet", b"PAR1 and no more"), "not a readable parquet"),
]


@pytest.mark.parametrize(("source", "make", "sentence"), BAD, ids=[f"{s}: {w}" for s, _, w in BAD])
def test_bad_input_leaves_the_store_alone(
    store: Path, tmp_path: Path, source: str, make: Callable[[Path], Any], sentence: str
) -> None:
    ingest(store, "statcast", sc.save(tmp_path / "2024.csv"))
    before = hashes(store)
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    made = make(folder)
    path, options = made if isinstance(made, tuple) else (made, {})
    with pytest.raises(FullcountError, match=sentence) as error:
        ingest(store, source, path, **options)
    assert "\n" not in str(error.value)
    assert hashes(store) == before
    assert not (folder.parent / "2019AAA.EVA").exists()
    Store.open(store).verify()


@pytest.mark.parametrize("source", ["lahman", "retrosheet", "statcast"])
def test_the_register_comes_first(tmp_path: Path, source: str) -> None:
    new = tmp_path / "new"
    with pytest.raises(FullcountError, match=r"first `fullcount ingest register PATH\.\.\. --store .*new`"):
        ingest(new, source, sc.save(tmp_path / "2024.csv"))
    assert not new.exists()
