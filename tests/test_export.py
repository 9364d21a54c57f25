"""The CSV files others load: FanGraphs' header, and back again to four decimals."""

from __future__ import annotations

import csv
import re
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import selectors

from fullcount.projection.export import HEADER, export, layout, spelled
from fullcount.projection.external import External, SeasonFiles
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import COUNTS, RATES, ROLES, League, Projection, Role, rates
from fullcount.sources.tables import conform, empty
from fullcount.store import Store

NAMES = ["José Ramírez", 'Ozzie "Oz" Smith, Jr.', "Søren Ångström", "Will Smith", "Will Smith"]
PLAYERS = conform(
    pl.DataFrame({"player": range(1, 6), "key_fangraphs": ["13510", "sa99", None, "19197", "8048"]}), "players"
)


def projection(values: dict[Role, list[list[float]]], extra: dict[str, list[float]] | None = None) -> Projection:
    tables = {}
    for role in ROLES:
        rows = values[role]
        tables[role] = pl.DataFrame(
            {"player": range(1, len(rows) + 1), "Name": NAMES[: len(rows)], "Team": ["CLE"] * len(rows)}
            | {c: [row[i] for row in rows] for i, c in enumerate(COUNTS[role])}
        )
    if extra:
        tables["hitters"] = tables["hitters"].with_columns(**{c: pl.Series(v) for c, v in extra.items()})
    return Projection.of(2025, tables["hitters"], tables["pitchers"])


def simple() -> Projection:
    values: dict[Role, list[list[float]]] = {r: [[10.0 + i] * len(COUNTS[r]) for i in range(5)] for r in ROLES}
    return projection(values, {"HR_p10": [1.5] * 5, "HR_p90": [30.0] * 5, "wOBA_p10": [0.25] * 5})


def test_header_is_fangraphs(tmp_path: Path) -> None:
    hitters, pitchers = export(simple(), tmp_path / "new", PLAYERS)
    raw = hitters.read_bytes()
    assert raw.startswith(b'\xef\xbb\xbf"Name","Team","G","PA"')
    with hitters.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (*HEADER["hitters"], "HR_p10", "HR_p90", "wOBA_p10")
    assert [r["MLBAMID"] for r in rows] == ["5", "4", "3", "2", "1"]  # most playing time first
    assert rows[-1]["Name"] == "José Ramírez"
    assert rows[-1]["NameASCII"] == "Jose Ramirez"
    assert rows[-1]["PlayerId"] == "13510"
    assert rows[2]["PlayerId"] == ""
    assert rows[0]["WAR"] == rows[0]["G"] == ""
    assert rows[0]["P10"] == "0.25"
    assert rows[0]["P20"] == ""
    with pitchers.open(encoding="utf-8-sig", newline="") as file:
        assert tuple(next(csv.reader(file))) == HEADER["pitchers"]
    assert not list(tmp_path.rglob("*.part"))


def test_header_as_written_down() -> None:
    """The header of a 2025 file, typed off."""
    hitters = (
        "Name,Team,G,PA,AB,H,1B,2B,3B,HR,R,RBI,BB,IBB,SO,HBP,SF,SH,GDP,SB,CS,AVG,BB%,K%,BB/K,OBP,SLG,wOBA,OPS,ISO,Spd,"
        "BABIP,UBR,wSB,wRC,wRAA,wRC+,BsR,Fld,Off,Def,WAR,ADP,InterSD,InterSK,IntraSD,Vol,Skew,Dim,FPTS,FPTS/G,SPTS,"
        "SPTS/G,P10,P20,P30,P40,P50,P60,P70,P80,P90,TT10,TT20,TT30,TT40,TT50,TT60,TT70,TT80,TT90,NameASCII,PlayerId,"
        "MLBAMID"
    )
    pitchers = (
        "Name,Team,W,L,QS,ERA,G,GS,SV,HLD,BS,IP,TBF,H,R,ER,HR,BB,IBB,HBP,SO,K/9,BB/9,K/BB,HR/9,K%,BB%,K-BB%,AVG,WHIP,"
        "BABIP,LOB%,GB%,HR/FB,FIP,WAR,RA9-WAR,ADP,InterSD,InterSK,IntraSD,Vol,Skew,Dim,FPTS,FPTS/IP,SPTS,SPTS/IP,"
        "P10,P20,P30,P40,P50,P60,P70,P80,P90,TT10,TT20,TT30,TT40,TT50,TT60,TT70,TT80,TT90,NameASCII,PlayerId,MLBAMID"
    )
    assert ",".join(HEADER["hitters"]) == hitters
    assert ",".join(HEADER["pitchers"]) == pitchers


def test_team_codes_and_percent_as_fraction() -> None:
    frame = layout(
        Projection.of(2025, pl.DataFrame({"player": [1], "Team": ["NYA"], "PA": [600.0], "SO": [150.0]})),
        "hitters", PLAYERS,
    )  # fmt: skip
    assert frame["Team"].to_list() == ["NYY"]
    assert frame["K%"].to_list() == [0.25]


count = st.floats(1.5, 800.0, allow_nan=False)
rows_of = {r: st.lists(st.lists(count, min_size=len(COUNTS[r]), max_size=len(COUNTS[r])), min_size=1, max_size=5)
           for r in ROLES}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(hitters=rows_of["hitters"], pitchers=rows_of["pitchers"], p10=count)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, hitters: list[list[float]],
                    pitchers: list[list[float]], p10: float) -> None:  # fmt: skip
    before = projection({"hitters": hitters, "pitchers": pitchers}, {"HR_p10": [p10] * len(hitters)})
    files = SeasonFiles(*export(before, tmp_path_factory.mktemp("export"), PLAYERS))
    league = League(empty("batting_seasons"), empty("pitching_seasons"), PLAYERS)
    after = External("again", {2025: files}).project(date(2025, 3, 1), league)
    for role in ROLES:
        columns = ["player", "Name", "Team", *COUNTS[role], *(["HR_p10"] if role == "hitters" else [])]
        rounded = before.role(role).select(columns).with_columns(selectors.float().round(4))
        assert after.role(role).sort("player").select(columns).equals(rounded)


def test_files_say_what_the_projection_said(sim_store: Store, tmp_path: Path) -> None:
    """Four decimals and no more, from which rates come out as they were: no correlation moves."""
    league = League.of(sim_store)
    said = Marcel().project(date(2004, 3, 1), league)
    files = SeasonFiles(*export(said, tmp_path, league.players))
    for path in files:
        with path.open(encoding="utf-8-sig", newline="") as file:  # type: ignore[union-attr]
            cells = {cell for row in csv.DictReader(file) for name, cell in row.items() if name != "Name"}
        digits = {len(c.partition(".")[2]) for c in cells if re.fullmatch(r"-?\d+\.\d+", c)}
        assert max(digits) == 4
    read = External("again", {2004: files}).project(date(2004, 3, 1), league)
    for role in ROLES:
        pair = rates(said.role(role), role).join(rates(read.role(role), role), on="player", suffix=" read")
        assert pair.height == said.role(role).height > 20
        for stat in (*COUNTS[role], *RATES[role]):
            before, after = (pair[c].cast(pl.Float64).to_numpy() for c in (stat, f"{stat} read"))
            assert np.array_equal(np.isnan(before), np.isnan(after))
            known = np.isfinite(before)
            if known.any() and np.ptp(before[known]) > 1e-3:
                assert np.corrcoef(before[known], after[known])[0, 1] > 1 - 1e-6, stat


def test_players_and_teams_are_spelled_in_one_way() -> None:
    table = pl.DataFrame({"player": [1, 3], "Name": NAMES[:3:2], "Team": ["NYA", "T01"], "opponent": ["SDN", "CHA"]})
    assert spelled(table, PLAYERS).to_dicts() == [
        {"Name": "José Ramírez", "Team": "NYY", "opponent": "SDP", "NameASCII": "Jose Ramirez", "PlayerId": "13510",
         "MLBAMID": 1},
        {"Name": "Søren Ångström", "Team": "T01", "opponent": "CHW", "NameASCII": "Sren Angstrom", "PlayerId": None,
         "MLBAMID": 3},
    ]  # fmt: skip
