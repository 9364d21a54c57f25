"""Reading other people's projections, in every header they have used."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.projection.external import External, SeasonFiles, read_projection
from fullcount.projection.system import League, rates
from fullcount.sources.tables import conform, empty

PLAYERS = conform(
    pl.DataFrame({"player": [545361, 592450, 700001], "key_fangraphs": ["10155", "15640", "sa123456"]}), "players"
)
LEAGUE = League(empty("batting_seasons"), empty("pitching_seasons"), PLAYERS)

VARIANTS = {
    "2022 on": "\ufeff"
    '"Name","Team","G","PA","AB","H","1B","2B","3B","HR","R","RBI","BB","IBB","SO","HBP","SF","SH","GDP","SB","CS","AVG",'
    '"BB%","K%","NameASCII","PlayerId","MLBAMID"\n'
    '"Mike Trout","LAA",130,600,500,140.5,80.5,25,2,33,90,85,85,5,150,10,4,1,9,5.5,1,.281,.1417,.25,"Mike Trout",10155,'
    "545361\n",
    "2021": "Name,Team,G,PA,AB,H,2B,3B,HR,R,RBI,BB,SO,HBP,SB,CS,-1,AVG,OBP,SLG,OPS,wOBA,-1,wRC+,-1,WAR,-1,ADP,"
    "playerid\n"
    "Mike Trout,LAA,130,600,500,140.5,25,2,33,90,85,85,150,10,5.5,1,,.281,.4,.5,.9,.4,,170,,8,,1.5,10155\n",
    "archive": "mlbamid,steamerid,firstname,lastname,Team,PA,AB,H,2B,3B,HR,R,RBI,NIBB,IBB,K,HBP,SB,CS,reliability\n"
    "545361,10155,Mike,Trout,LAA,600,500,140.5,25,2,33,90,85,80,5,150,10,5.5,1,.8\n",
    "normalised": "name,team,fangraphs_id,mlbam_id,G,PA,AB,H,2B,3B,HR,R,RBI,SB,CS,BB,SO,HBP,AVG,OBP,SLG\n"
    "Mike Trout,LAA,10155,,130,600,500,140.5,25,2,33,90,85,5.5,1,85,150,10,.281,,\n",
    "API": "Team,ShortName,PlayerName,G,AB,PA,H,2B,3B,HR,R,RBI,BB,SO,HBP,SB,CS,wBsR,Pos,minpos,xMLBAMID,"
    "playerids,playerid\n"
    "LAA,M. Trout,Mike Trout,130,500,600,140.5,25,2,33,90,85,85,150,10,5.5,1,0.1,OF,OF,545361.0,10155,10155\n",
    "percent": "Name,Team,PA,AB,H,2B,3B,HR,R,RBI,BB%,K%,HBP,SB,CS,PlayerId\n"
    "Mike Trout,LAA,600,500,140.5,25,2,33,90,85,14.1667%,.25,10,5.5,1,10155\n",
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_header(tmp_path: Path, variant: str, zipped: bool) -> None:
    path = write(tmp_path / "a.csv", VARIANTS[variant])
    if zipped:
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(VARIANTS[variant].encode()))
    row = rates(read_projection(path, "hitters", PLAYERS), "hitters").row(0, named=True)
    assert (row["player"], row["Name"], row["Team"]) == (545361, "Mike Trout", "LAA")
    want = {"PA": 600, "H": 140.5, "1B": 80.5, "HR": 33, "BB": 85, "SO": 150, "SB": 5.5, "K%": 0.25, "AVG": 0.281}
    for stat, value in want.items():
        assert row[stat] == pytest.approx(value, rel=1e-4), stat
    assert not any(c.startswith("-1") for c in row)


def test_pitchers_percentiles_and_decimal_innings(tmp_path: Path) -> None:
    text = "Name,Team,W,L,ERA,G,GS,SV,HLD,IP,TBF,H,R,ER,HR,BB,IBB,HBP,SO,P10,P50,P90,PlayerId,MLBAMID\n" \
           "A B,NYY,10,8,2.8,30,30,0,,184.8016,740,150,70,57.5,15,50,1,5,210,4.21,2.99,2.12,sa123456,\n"  # fmt: skip
    row = read_projection(write(tmp_path / "p.csv", text), "pitchers", PLAYERS).row(0, named=True)
    assert row["player"] == 700001
    assert row["IP"] == 184.8016
    assert row["HLD"] is None
    assert (row["ERA_p10"], row["ERA_p50"], row["ERA_p90"]) == (2.12, 2.99, 4.21)  # theirs has the worst first


def test_rows_left_out(tmp_path: Path) -> None:
    head = "Name,PA,AB,H,HR,BB,SO,PlayerId,MLBAMID\n"
    text = head + "a,600,500,140,33,85,150,10155,545361\nb,1,1,0,0,0,0,15640,592450\nc,300,250,60,9,9,9,99999,\n" \
                  "again,20,20,4,1,1,1,10155,545361\n"  # fmt: skip
    path = write(tmp_path / "h.csv", text)
    system = External("x", {2024: SeasonFiles(path)})
    projection = system.project(date(2024, 3, 1), LEAGUE)
    assert projection.hitters["player"].to_list() == [545361]
    assert projection.hitters["PA"].to_list() == [600]
    assert projection.pitchers.is_empty()
    everyone = External("x", {2024: SeasonFiles(path)}, min_pa=0).project(date(2024, 3, 1), LEAGUE)
    assert everyone.hitters["player"].to_list() == [545361, 592450]


def test_another_season_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "zips_2024_hitters.csv", VARIANTS["2021"])
    system = External.folder(tmp_path, "zips")
    assert system.project(date(2023, 11, 15), LEAGUE).season == 2024
    with pytest.raises(FullcountError, match="2024, not of 2023"):
        system.project(date(2023, 10, 1), LEAGUE)
    with pytest.raises(FullcountError, match="no files"):
        External.folder(tmp_path, "steamer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV"),
        ("Name,PA,AB,H,HR,MLBAMID\n", "no rows"),
        ("Name,IP,H,BB,SO,MLBAMID\na,1,2,3,4,5\n", "no column PA, AB, HR"),
        ("Name,PA,AB,H,HR\na,600,500,100,20\n", "no player id"),
        ("Name,PA,AB,H,HR,MLBAMID\na,600,500,100,20,1\nb,many,500,100,20,2\n", "row 3, column PA: 'many'"),
        ("Name,PA,AB,H,HR,MLBAMID\na,600,500,100,inf,1\n", "column HR"),
        ("Name,PA,AB,H,HR,PlayerId\na,600,500,100,20,77\n", "1 of 1 rows have no known player"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(FullcountError, match=message) as caught:
        read_projection(path, "hitters", PLAYERS)
    assert "bad.csv" in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(FullcountError, match="no such file"):
        read_projection(tmp_path / "none.csv", "hitters", PLAYERS)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"Name,PA\n" * 1000)[:30])
    with pytest.raises(FullcountError, match="not a readable CSV"):
        read_projection(tmp_path / "cut.csv.gz", "hitters", PLAYERS)


@pytest.mark.real
def test_all_real_files(data_dir: Path) -> None:
    register = pytest.importorskip("fullcount.sources.register")
    players = register.read(sorted((data_dir / "register").glob("*.csv.gz"))).players
    league = League(empty("batting_seasons"), empty("pitching_seasons"), players)
    for name in ("steamer", "zips", "depthcharts", "atc", "thebat", "thebatx", "fans", "marcel"):
        system = External.folder(data_dir / "projections", name)
        for season, files in system.files.items():
            projection = system.project(date(season, 3, 1), league)
            assert projection.hitters.height > 200
            assert projection.pitchers.height > 100 or files.pitchers is None
