"""Retrosheet: a small hand-written game row by row, bad input, and the pitch-sequence explosion."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullcount.errors import FullcountError
from fullcount.fields import CALLS, CONTACTS, EVENTS
from fullcount.sources import retrosheet
from fullcount.sources import retrosheet_tables as build
from fullcount.sources.tables import SCHEMAS, Tables, conform

VISITORS = [f"visx{i}001" for i in range(1, 10)]
HOME = [f"homx{i}001" for i in range(1, 10)]
PITCHERS = ["visp0001", "homp0001", "homp0002", "homp0003"]
REGISTER = conform(pl.DataFrame({"key_retro": VISITORS + HOME + PITCHERS, "player": list(range(101, 123))}), "players")
ID = dict(REGISTER.select("key_retro", "player").iter_rows())
V = [ID[v] for v in VISITORS]
H = [ID[h] for h in HOME]
VP, HP1, HP2, HP3 = (ID[p] for p in PITCHERS)

PLAYS = f"""\
play,1,0,{VISITORS[0]},32,BBCFF.B*B,W
play,1,0,{VISITORS[1]},11,C1>B,SB2
play,1,0,{VISITORS[1]},11,C1>B.X,S7/L7.2-H
play,1,0,{VISITORS[2]},00,X,64(1)3/GDP/G6
play,1,0,{VISITORS[3]},20,BB,NP
sub,{PITCHERS[2]},"Home Second, Jr.",1,0,1
play,1,0,{VISITORS[3]},31,BB.BSB,W
play,1,0,{VISITORS[4]},11,C>B,CS2(24)
play,1,1,{HOME[0]},30,VVVV,IW
play,1,1,{HOME[1]},??,,8/F8
play,1,1,{HOME[2]},02,ACS,K
play,1,1,{HOME[3]},00,U*F*BX,HR/F7.1-H
play,1,1,{HOME[4]},10,N.BX,43/G4
play,2,0,{VISITORS[4]},01,FX,8/F8
play,2,0,{VISITORS[5]},02,CLO,K
play,2,0,{VISITORS[6]},01,MH,HP
play,2,0,{VISITORS[7]},00,Y,64(1)/FO/G6
"""


def event_file(plays: str = PLAYS, game: str = "AAA201904010") -> str:
    starts = [f'start,{p},"Vis {p}",0,{i},{i + 1}' for i, p in enumerate(VISITORS, 1) if i < 9]
    starts += [f'start,{VISITORS[8]},"Vis",0,9,10', f'start,{PITCHERS[0]},"Vis P",0,0,1']
    starts += [f'start,{p},"Hom {p}",1,{i},{i + 1}' for i, p in enumerate(HOME, 1) if i < 9]
    starts += [f'start,{HOME[8]},"Hom",1,9,10', f'start,{PITCHERS[1]},"Hom P",1,0,1']
    info = {"visteam": "BBB", "hometeam": "AAA", "site": "AAA01", "date": "2019/04/01", "number": "0"}
    info |= {"usedh": "true", "wp": PITCHERS[0], "lp": PITCHERS[1]}
    head = [f"id,{game}", "version,2", *(f"info,{k},{v}" for k, v in info.items()), *starts]
    return (
        "\n".join(head) + "\n" + plays + f"data,er,{PITCHERS[0]},2\ndata,er,{PITCHERS[1]},1\ndata,er,{PITCHERS[2]},0\n"
    )


def season(folder: Path, events: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "2019AAA.EVA").write_text(events)
    (folder / "TEAM2019").write_text("AAA,A,City,Homes\nBBB,A,Town,Visitors\n")
    for team, players in (("AAA", HOME + PITCHERS[1:]), ("BBB", VISITORS + PITCHERS[:1])):
        lines = [
            f"{p},Last,First,{'B' if p == HOME[2] else 'R'},{'L' if p == 'homp0002' else 'R'},{team},X" for p in players
        ]
        (folder / f"{team}2019.ROS").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = season(tmp_path_factory.mktemp("season") / "2019", event_file())
    return retrosheet.read_season(folder, REGISTER, jobs=1)


def pitches(tables: Tables, pa: int, *columns: str) -> list[tuple[object, ...]]:
    return tables.pitches.filter(pl.col("pa_number") == pa).select(columns).rows()


def test_schemas_and_vocabularies(tables: Tables) -> None:
    for name, schema in SCHEMAS.items():
        assert dict(getattr(tables, name).schema) == schema
    assert set(tables.pitches["call"].drop_nulls()) <= set(CALLS)
    assert set(tables.pitches["event"]) <= set(EVENTS)
    assert set(tables.plate_appearances["contact"].drop_nulls()) <= set(CONTACTS)


def test_count_and_blocked_ball(tables: Tables) -> None:
    calls = ["ball", "ball", "called_strike", "foul", "foul", "ball", "blocked_ball"]
    counts = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (2, 2), (3, 2)]
    expected = [(i + 1, *c, call) for i, (c, call) in enumerate(zip(counts, calls, strict=True))]
    assert pitches(tables, 1, "pitch_number", "balls", "strikes", "call") == expected
    # Marked foul: the mark is on the foul, the ball after it has its own.
    assert [c for (c,) in pitches(tables, 9, "call")] == [None, "foul", "blocked_ball", "in_play"]


def test_steal_during_plate_appearance(tables: Tables) -> None:
    columns = ("call", "bases", "post_bases", "bat_score", "runs", "event", "contact")
    assert pitches(tables, 2, *columns) == [
        ("called_strike", 1, 1, 0, 0, "none", "none"),
        ("ball", 1, 2, 0, 0, "none", "none"),
        ("in_play", 2, 1, 0, 1, "single", "line_drive"),
    ]


def test_double_play(tables: Tables) -> None:
    columns = ("outs", "bases", "post_outs", "post_bases", "fld_score", "bat_score", "event")
    assert pitches(tables, 3, *columns) == [(0, 1, 2, 0, 0, 1, "grounded_into_double_play")]


def test_pitcher_replaced_during_plate_appearance(tables: Tables) -> None:
    assert pitches(tables, 4, "pitcher", "throws", "balls", "strikes") == [
        (HP1, "R", 0, 0),
        (HP1, "R", 1, 0),
        (HP2, "L", 2, 0),
        (HP2, "L", 3, 0),
        (HP2, "L", 3, 1),
    ]
    # Two balls and no strike when he left: the walk is the first pitcher's.
    assert tables.plate_appearances.filter(pl.col("pa_number") == 4)["pitcher"].item() == HP1


def test_caught_stealing_ends_the_inning(tables: Tables) -> None:
    columns = ("batter", "call", "outs", "post_outs", "event")
    assert pitches(tables, 5, *columns) == [
        (V[4], "called_strike", 2, 2, "none"),
        (V[4], "ball", 2, 3, "truncated_pa"),
    ]


def test_automatic_calls_and_missing_sequence(tables: Tables) -> None:
    rows = tables.plate_appearances.select(
        "pa_number", "batter", "event", "pitches", "balls", "strikes", "outs", "bases", "outs_on_play", "runs", "rbi"
    ).filter(pl.col("pa_number") >= 6)
    assert rows.rows() == [
        (6, H[0], "intent_walk", 0, 3, 0, 0, 0, 0, 0, 0),
        (7, H[1], "field_out", None, None, None, 0, 1, 1, 0, 0),
        (8, H[2], "strikeout", 2, 0, 2, 1, 1, 1, 0, 0),
        (9, H[3], "home_run", 3, 1, 1, 2, 1, 0, 2, 2),
        (10, H[4], "field_out", 2, 1, 0, 2, 0, 1, 0, 0),
        (11, V[4], "field_out", 2, 0, 1, 0, 0, 1, 0, 0),
        (12, V[5], "strikeout", 3, 0, 2, 1, 0, 1, 0, 0),
        (13, V[6], "hit_by_pitch", 2, 0, 1, 2, 0, 0, 0, 0),
        (14, V[7], "force_out", 1, 0, 0, 2, 1, 1, 0, 0),
    ]
    assert pitches(tables, 7, "call") == []
    assert [c for (c,) in pitches(tables, 8, "call")] == ["automatic_strike", "called_strike", "swinging_strike"]
    assert pitches(tables, 14, "call", "contact", "post_outs") == [("in_play", "ground_ball", 3)]
    # The switch hitter bats left against a right-hander.
    assert tables.plate_appearances.filter(pl.col("pa_number") == 8)["stand"].item() == "L"


def test_game_and_lines(tables: Tables) -> None:
    game = tables.games.row(0, named=True)
    assert (game["game_id"], game["game_type"], game["number"]) == ("AAA201904010", "R", 0)
    assert (game["home_score"], game["away_score"], game["innings"]) == (2, 1, 2)
    assert (game["home_starter"], game["away_starter"], game["park"]) == (HP1, VP, "AAA01")

    batting = tables.batting_games
    assert len(batting) == 21
    line = batting.filter(pl.col("player") == V[1]).row(0, named=True)
    assert (line["PA"], line["AB"], line["H"], line["RBI"], line["R"]) == (1, 1, 1, 1, 0)
    steal = batting.filter(pl.col("player") == V[0]).row(0, named=True)
    assert (steal["SB"], steal["R"], steal["BB"], steal["AB"]) == (1, 1, 1, 0)
    caught = batting.filter(pl.col("player") == V[3]).row(0, named=True)
    assert (caught["CS"], caught["PA"]) == (1, 1)
    assert batting["PA"].sum() == len(tables.plate_appearances) - 1
    assert batting.filter(pl.col("player") == V[2])["GDP"].item() == 1

    columns = ("player", "GS", "outs", "BF", "BB", "IBB", "SO", "HR", "R", "ER", "pitches", "W", "L", "GF")
    assert sorted(tables.pitching_games.select(columns).rows()) == [
        (VP, 1, 3, 5, 1, 1, 1, 1, 2, 2, None, 1, 0, 0),
        (HP1, 1, 2, 4, 2, 0, 0, 0, 1, 1, 13, 0, 1, 0),
        (HP2, 0, 4, 4, 0, 0, 1, 0, 0, 0, 13, 0, 0, 1),
    ]


def test_zip_and_parallel_reading_give_the_same(tables: Tables, tmp_path: Path) -> None:
    folder = season(tmp_path / "folder", event_file())
    path = tmp_path / "2019eve.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    for read in retrosheet.read([path, folder], REGISTER, jobs=2):
        assert read.pitches.equals(tables.pitches)
        assert read.pitching_games.equals(tables.pitching_games)


def test_postseason_by_file_name(tmp_path: Path) -> None:
    folder = season(tmp_path / "post", event_file())
    (folder / "2019AAA.EVA").rename(folder / "2019ALCS.EVE")
    assert retrosheet.read_season(folder, REGISTER, jobs=1).pitches["game_type"].unique().to_list() == ["P"]


def test_unmatched_ids(tmp_path: Path) -> None:
    folder = season(tmp_path / "season", event_file())
    with pytest.raises(FullcountError, match=r"only 95.2% .* visp0001.* newer Chadwick register"):
        retrosheet.read_season(folder, REGISTER.filter(pl.col("key_retro") != PITCHERS[0]), jobs=1)
    assert retrosheet.stable_id("visp0001") == retrosheet.stable_id("visp0001") < 0


# -------------------------------------------------------------------------------------------------------- bad input


def bad_zip(path: Path, names: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in names.items():
            archive.writestr(name, text)
    return path


def test_bad_files(tmp_path: Path) -> None:
    whole = bad_zip(tmp_path / "2019eve.zip", {"2019AAA.EVA": event_file(), "TEAM2019": "AAA,A,City,Homes\n"})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:-200])
    flipped = tmp_path / "flipped.zip"
    flipped.write_bytes(whole.read_bytes().replace(whole.read_bytes()[200:220], bytes(20)))
    page = tmp_path / "page.zip"
    page.write_text("\n<!DOCTYPE html><html>not found</html>")
    (tmp_path / "empty").mkdir()
    cases = {
        cut: "cut off or damaged",
        flipped: "cut off or damaged",
        page: "web page saved as .zip",
        tmp_path / "missing.zip": "no such file",
        tmp_path / "empty": "no event files",
        bad_zip(tmp_path / "other.zip", {"readme.txt": "hello"}): "not a Retrosheet zip",
        bad_zip(tmp_path / "up.zip", {"../2019AAA.EVA": "id,x"}): "points outside the zip",
        bad_zip(tmp_path / "absolute.zip", {"/tmp/2019AAA.EVA": "id,x"}): "points outside the zip",
        bad_zip(tmp_path / "teamless.zip", {"2019AAA.EVA": event_file()}): "TEAM2019 is missing",
    }
    for path, message in cases.items():
        with pytest.raises(FullcountError, match=message) as error:
            retrosheet.read_season(path, REGISTER, jobs=1)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version,2", "bogus,2", r"2019AAA.EVA line 2: unknown record 'bogus,2'"),
        ("S7/L7.2-H", "ZZ7/L7", r"2019AAA.EVA line \d+ \(game AAA201904010\): unknown event 'ZZ7/L7'"),
        ("BBCFF.B*B", "BBCFF.BW", r"2019AAA.EVA line \d+ \(game AAA201904010\): unknown pitch code 'W'"),
        ("id,AAA201904010", "id,nonsense", r"2019AAA.EVA line 1: 'nonsense' is not a game id"),
    ],
)
def test_bad_records(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = season(tmp_path / "season", event_file().replace(old, new))
    with pytest.raises(FullcountError, match=message):
        retrosheet.read_season(folder, REGISTER, jobs=1)


def test_game_twice(tmp_path: Path) -> None:
    folder = season(tmp_path / "season", event_file() + event_file())
    with pytest.raises(FullcountError, match=r"line \d+: game AAA201904010 stands twice"):
        retrosheet.read_season(folder, REGISTER, jobs=1)


# --------------------------------------------------------------------------------------------------------- property

LETTERS = "BIPVCASMQKTFLROXYHU"
sequences = st.lists(st.text(LETTERS + ".+*>123N", max_size=14), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(turns=sequences, cuts=st.lists(st.integers(0, 14), max_size=4))
def test_explosion(turns: list[str], cuts: list[int]) -> None:
    rows = [(t, s[:c]) for t, s in enumerate(turns) for c in [*sorted(cuts), len(s)]]
    plays = pl.DataFrame(rows, schema={"turn": pl.Int64, "sequence": pl.String}, orient="row").with_row_index("play")
    out = build.explode(plays)
    assert len(out) == sum(c in LETTERS for s in turns for c in s)
    assert out.filter((pl.col("balls") > 3) | (pl.col("strikes") > 2)).is_empty()
    for t, s in enumerate(turns):
        mine = out.filter(pl.col("turn") == t)
        assert mine["pitch_number"].to_list() == list(range(1, len(mine) + 1))
        assert "".join(mine["letter"]).upper() == "".join(c for c in s if c in LETTERS)
        assert mine["play"].is_sorted()
        # Each pitch belongs to the first play whose sequence has it.
        for play, text in plays.filter(pl.col("turn") == t).select("play", "sequence").iter_rows():
            assert mine.filter(pl.col("play") <= play).height >= sum(c in LETTERS for c in text)
