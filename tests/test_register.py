from __future__ import annotations

import datetime as dt
import gzip
import logging
from pathlib import Path

import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.sources import register

KEYS = "key_person,key_mlbam,key_retro,key_bbref,key_fangraphs"
HEADER = f"{KEYS},name_last,name_first,birth_year,birth_month,birth_day,more\n"


def write(path: Path, *rows: str) -> Path:
    text = HEADER + "".join(f"{r}\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_players_of_two_files_are_merged(tmp_path: Path) -> None:
    majors = write(
        tmp_path / "a.csv.gz",
        "x,430911,aardd001,aardsda01,1902,Aardsma,David,1981,12,27,?",
        "x,,nobodn001,,,Nobody,No,1850,1,1,?",  # no MLBAM id
        "x,110001.0,aaroh101,aaronha01,,Aaron,Hank,1934,2,,?",  # id as a float, no day
    )
    minors = write(
        tmp_path / "b.csv",
        "x,110001,,wrong,1000001,Aaron,Henry,1934,2,5,?",  # fills in what is unknown, and only that
        "x,700000,,,,Peña,José,2004,2,30,?",  # no such day
    )
    players = register.read([majors, minors]).players
    assert players.select("player", "first_name", "birth_date", "key_bbref", "key_fangraphs").rows() == [
        (110001, "Hank", dt.date(1934, 2, 5), "aaronha01", "1000001"),
        (430911, "David", dt.date(1981, 12, 27), "aardsda01", "1902"),
        (700000, "José", None, None, None),
    ]


def test_bad_files_are_named(tmp_path: Path) -> None:
    good = write(tmp_path / "a.csv.gz", *["x,1,r,b,f,L,F,1981,12,27,?"] * 50)
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(good.read_bytes()[:-20])
    page = tmp_path / "page.csv"
    page.write_text("\n<!DOCTYPE html><html>503</html>")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("key_retro,name_last,name_first\na,b,c\n")
    for path, words in (
        (cut, "cut short"),
        (page, "web page"),
        (empty, "is empty"),
        (lacking, "'key_mlbam'"),
        (tmp_path / "none.csv", "no such file"),
    ):
        with pytest.raises(FullcountError, match=words) as error:
            register.read(path)
        assert path.name in str(error.value)
    with pytest.raises(FullcountError, match="no file given"):
        register.read([])


def test_join_ids(caplog: pytest.LogCaptureFixture) -> None:
    book = pl.DataFrame({"player": [1, 2], "key_retro": ["a", "b"]}, schema_overrides={"player": pl.Int32})
    frame = pl.DataFrame({"id": ["b", "a", None, "b"]})
    with caplog.at_level(logging.INFO, "fullcount"):
        joined = register.join_ids(frame, "id", book, "key_retro", "batters")
    assert joined["player"].to_list() == [2, 1, None, 2]
    assert "batters: 2 of 2 ids matched (100.00 %)" in caplog.text
    more = pl.DataFrame({"id": ["a", "zz"]})
    with pytest.raises(FullcountError, match=r"50.0 %.*zz"):
        register.join_ids(more, "id", book, "key_retro", "batters")
    assert register.join_ids(more, "id", book, "key_retro", "batters", minimum=0.5)["player"].to_list() == [1, None]


@pytest.mark.real
def test_the_whole_register(data_dir: Path) -> None:
    folder = data_dir / "register"
    players = register.read([folder / "people_mlb.csv.gz", folder / "people_minors_2005on.csv.gz"]).players
    assert players["player"].is_unique().all()
    assert players.height > 70_000
    trout = players.row(by_predicate=pl.col("player") == 545361, named=True)
    assert (trout["key_retro"], trout["birth_date"]) == ("troum001", dt.date(1991, 8, 7))
