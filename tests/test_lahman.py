from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.sources import lahman, register
from fullcount.sources.tables import conform

REGISTER = conform(
    pl.DataFrame(
        {"player": [10, 20, 30], "key_bbref": ["ruthba01", None, "cobbty01"], "key_retro": ["r1", "o1", "c1"]}
    ),
    "players",
)
FILES = {
    "People": """playerID,birthYear,birthMonth,birthDay,nameFirst,nameLast,bats,throws,bbrefID,retroID
ruthba01,1895,2,6,Babe,Ruth,L,L,ruthba01,r1
ohtansh01,1994,7,5,Shohei,Ohtani,L,R,,o1
cobbty01,1886,12,,Ty,Cobb,L,R,cobbty01,c1
oldman01,,,,,Oldman,,,,
""",
    "Batting": """playerID,yearID,stint,teamID,lgID,G,AB,R,H,2B,3B,HR,RBI,SB,CS,BB,SO,IBB,HBP,SH,SF,GIDP
ruthba01,1935,1,NYA,AL,10,30,3,9,2,0,1,5,0,,4,6,,1,2,,
ruthba01,1935,2,BSN,NL,28,72,13,13,0,0,6,12,0,,20,24,,0,0,,2
ohtansh01,2021,1,LAA,AL,158,537,103,138,26,8,46,100,26,10,96,189,20,4,0,2,7
cobbty01,1918,1,DET,AL,9,20,0,5,0,0,0,0,0,0,1,1,,0,0,,
oldman01,1871,1,BS1,,5,20,6,4,0,0,0,3,0,0,1,0,,,,,
""",
    "Pitching": """playerID,yearID,stint,teamID,lgID,W,L,G,GS,SV,IPOuts,H,ER,HR,BB,SO,BFP,GF,R
ohtansh01,2021,1,LAA,AL,9,2,23,23,0,391,98,46,15,44,156,533,0,48
cobbty01,1918,1,DET,AL,0,0,6,0,0,12,6,2,0,2,0,19,2,2
""",
    "Appearances": """yearID,teamID,playerID,G_all,G_p,G_lf,G_rf,G_dh
2021,LAA,ohtansh01,158,23,1,6,126
1935,NYA,ruthba01,10,0,9,1,
1935,BSN,ruthba01,28,0,17,8,
1918,DET,cobbty01,9,6,0,2,
""",
    "Teams": "yearID,teamID,teamIDretro\n2021,LAA,ANA\n1935,NYA,NYA\n1935,BSN,BSN\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def test_seasons(folder: Path) -> None:
    tables = lahman.read(folder, REGISTER)
    made = tables.players.filter(pl.col("last_name") == "Oldman")["player"].item()
    assert made < 0
    columns = ["player", "season", "team", "league", "is_pitcher", "G", "PA", "AB", "SF", "GDP", "CS", "IBB"]
    assert sorted(tables.batting_seasons.select(columns).rows()) == [
        (made, 1871, "BS1", "MLB", False, 5, 21, 20, 0, 0, 0, 0),
        (10, 1935, "BSN", "MLB", False, 38, 129, 102, 0, 2, 0, 0),  # two stints, the longer one's team
        (20, 2021, "ANA", "MLB", False, 158, 639, 537, 2, 7, 10, 20),  # pitches too, and is no pitcher
        (30, 1918, "DET", "MLB", True, 9, 21, 20, 0, 0, 0, 0),
    ]
    ohtani = tables.pitching_seasons.row(by_predicate=pl.col("player") == 20, named=True)
    assert (ohtani["outs"], ohtani["BF"], ohtani["GS"], ohtani["WP"], ohtani["HLD"]) == (391, 533, 23, 0, None)


def test_games_by_position(folder: Path) -> None:
    lines = lahman.read(folder, REGISTER).batting_seasons.filter(pl.col("player") > 0).sort("season")
    assert lines.select("season", "G_P", "G_LF", "G_RF", "G_DH", "G_C").rows() == [
        (1918, 6, 0, 2, None, None),
        (1935, 0, 26, 9, None, None),  # two stints; a column that the file lacks is not known, nor an empty cell
        (2021, 23, 1, 6, 126, None),
    ]


def test_read_again_into_the_same_store(folder: Path) -> None:
    """Two men under one bbrefID: the register's id stays the first one's when his namesake's is in the store, too."""
    twin = "cobbty02,1890,1,1,Ty,Cobb,R,R,cobbty01,c1\n"
    (folder / "People.csv").write_text(FILES["People"] + twin)
    (folder / "Batting.csv").write_text(FILES["Batting"] + "cobbty02,1921,1,DTS,NNL,9,20,0,5,0,0,0,0,0,0,1,1,,0,0,,\n")
    first = lahman.read(folder, REGISTER)
    again = lahman.read(folder, first.players)
    assert_frame_equal(again.batting_seasons, first.batting_seasons)


def test_players(folder: Path) -> None:
    players = lahman.read(folder, REGISTER).players
    assert players.filter(pl.col("player") > 0).select("player", "birth_date", "bats", "throws").rows() == [
        (10, dt.date(1895, 2, 6), "L", "L"),
        (20, dt.date(1994, 7, 5), "L", "R"),
        (30, None, "L", "R"),
    ]
    assert lahman.read(folder, REGISTER).players.equals(players)  # the made-up ids too


def test_without_optional_tables_and_old_spelling(folder: Path) -> None:
    (folder / "Appearances.csv").unlink()
    (folder / "Teams.csv").unlink()
    (folder / "Pitching.csv").write_text(FILES["Pitching"].replace("IPOuts", "IPouts"))
    tables = lahman.read(folder, REGISTER, seasons=[1918, 2021])
    assert tables.batting_seasons.select("player", "team", "is_pitcher").rows() == [
        (20, "LAA", False),
        (30, "DET", True),
    ]


def test_errors(folder: Path) -> None:
    with pytest.raises(FullcountError, match=r"66.7 %.*cobbty01"):
        lahman.read(folder, REGISTER.filter(pl.col("player") != 30))
    (folder / "Batting.csv").write_text(FILES["Batting"].replace("1918", "19x8"))
    with pytest.raises(FullcountError, match=r"Batting.csv: line 5, column 'yearID'"):
        lahman.read(folder, REGISTER)
    (folder / "Pitching.csv").unlink()
    with pytest.raises(FullcountError, match=r"Pitching.csv is missing"):
        lahman.read(folder, REGISTER)


@pytest.mark.real
def test_official_totals(data_dir: Path) -> None:
    names = ("people_mlb.csv.gz", "people_minors_2005on.csv.gz")
    players = register.read([data_dir / "register" / n for n in names]).players
    tables = lahman.read(data_dir / "lahman", players)
    season = tables.batting_seasons.filter(pl.col("season") == 2024, pl.col("league") == "MLB")
    assert season.select(pl.col("HR", "SO", "BB", "SB").sum()).row(0) == (5453, 41197, 14929, 3617)
    ohtani = tables.batting_seasons.filter(pl.col("player") == 660271)
    assert not ohtani["is_pitcher"].any()
    assert ohtani.filter(season=2024).select("G_P", "G_DH").row(0) == (0, 159)
    pitchers = season.filter("is_pitcher")
    assert pitchers["PA"].sum() < 200  # designated hitters everywhere
    assert tables.pitching_seasons.filter(pl.col("season") == 2024)["HR"].sum() == 5453
