"""Projections as the CSV files people load elsewhere: FanGraphs' export header, its spelling of players and teams."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from polars import selectors

from fullcount.projection.external import FANGRAPHS_PERCENTILES
from fullcount.projection.system import PERCENTILE, ROLES, Projection, Role, rates
from fullcount.projection.uncertainty import TALENT

_OUTCOME = tuple(f"P{q}0" for q in range(1, 10))
_TALENT = tuple(f"TT{q}0" for q in range(1, 10))
_SPREAD = ("ADP", "InterSD", "InterSK", "IntraSD", "Vol", "Skew", "Dim")
#: What is known a player by, last in every file.
IDS = ("NameASCII", "PlayerId", "MLBAMID")
#: The header of FanGraphs' projection export, 2022-2026.
HEADER: dict[Role, tuple[str, ...]] = {
    "hitters": (
        "Name", "Team", "G", "PA", "AB", "H", "1B", "2B", "3B", "HR", "R", "RBI", "BB", "IBB", "SO", "HBP", "SF",
        "SH", "GDP", "SB", "CS", "AVG", "BB%", "K%", "BB/K", "OBP", "SLG", "wOBA", "OPS", "ISO", "Spd", "BABIP", "UBR",
        "wSB", "wRC", "wRAA", "wRC+", "BsR", "Fld", "Off", "Def", "WAR", *_SPREAD, "FPTS", "FPTS/G", "SPTS", "SPTS/G",
        *_OUTCOME, *_TALENT, *IDS,
    ),
    "pitchers": (
        "Name", "Team", "W", "L", "QS", "ERA", "G", "GS", "SV", "HLD", "BS", "IP", "TBF", "H", "R", "ER", "HR", "BB",
        "IBB", "HBP", "SO", "K/9", "BB/9", "K/BB", "HR/9", "K%", "BB%", "K-BB%", "AVG", "WHIP", "BABIP", "LOB%", "GB%",
        "HR/FB", "FIP", "WAR", "RA9-WAR", *_SPREAD, "FPTS", "FPTS/IP", "SPTS", "SPTS/IP",
        *_OUTCOME, *_TALENT, *IDS,
    ),
}  # fmt: skip
#: Retrosheet's team codes where FanGraphs writes another.
TEAMS = {
    "ANA": "LAA", "CHA": "CHW", "CHN": "CHC", "KCA": "KCR", "LAN": "LAD", "NYA": "NYY", "NYN": "NYM", "SDN": "SDP",
    "SFN": "SFG", "SLN": "STL", "TBA": "TBR", "WAS": "WSN", "FLO": "FLA",
}  # fmt: skip


#: Digits behind the point in files: rates are made of counts again where files are read, and keep six and more.
DECIMALS = 4


def spelled(table: pl.DataFrame, players: pl.DataFrame) -> pl.DataFrame:
    """`table` (player, Name and the store's team codes in `Team`, `opponent` or both) as FanGraphs spells them.

    In place of `player` NameASCII, PlayerId (FanGraphs', null if `players`, canonical, has none) and MLBAMID, last.
    """
    ids = players.select("player", PlayerId="key_fangraphs").unique("player")
    table = table.join(ids, on="player", how="left", maintain_order="left")
    ascii_only = pl.col("Name").str.normalize("NFKD").str.replace_all(r"[^\x00-\x7F]", "")  # accents dropped
    return table.select(
        pl.exclude("player", "PlayerId").name.keep(), ascii_only.alias("NameASCII"), "PlayerId", MLBAMID="player"
    ).with_columns(pl.col("^(Team|opponent)$").replace(TEAMS))


def layout(projection: Projection, role: Role, players: pl.DataFrame) -> pl.DataFrame:
    """The table of `role` in FanGraphs' header, most playing time first, percentile columns trailing.

    Players and teams are `spelled`; what is unknown is null, and a column of the header that the system says nothing of
    stays, as in FanGraphs' own files. IP are decimal innings, percentages fractions. `System`: who spoke of him, and
    `P(plays)`, the probability that he plays at all, where the system says; the line is what is expected if he does.
    P10..P90 are the percentiles of wOBA, and of ERA with the worst first, where the system gives them; TT10..TT90 those
    of true talent.
    """
    frame = spelled(rates(projection.role(role), role), players)
    stat = FANGRAPHS_PERCENTILES[role]
    levels = {
        f"{name}{q}": f"{stat}_{kind}{q if role == 'hitters' else 100 - q}"
        for name, kind in (("P", "p"), ("TT", "tt"))
        for q in range(10, 100, 10)
    }
    frame = frame.with_columns(pl.col(c).alias(name) for name, c in levels.items() if c in frame.columns)
    trailing = [c for c in frame.columns if PERCENTILE.match(c) or TALENT.match(c)]
    own = {"system": "System", "plays": "P(plays)"}
    who = [pl.col(c).alias(name) for c, name in own.items() if c in frame.columns]
    return frame.sort("PA" if role == "hitters" else "IP", "MLBAMID", descending=[True, False]).select(
        *(pl.col(c) if c in frame.columns else pl.lit(None, dtype=pl.Float64).alias(c) for c in HEADER[role]),
        *who,
        *trailing,
    )


def export(projection: Projection, folder: Path, players: pl.DataFrame) -> tuple[Path, Path]:
    """Write `hitters.csv` and `pitchers.csv` into `folder` (made if missing); the two paths."""
    paths = [write(layout(projection, role, players), folder / f"{role}.csv") for role in ROLES]
    return paths[0], paths[1]


def write(table: pl.DataFrame, path: Path) -> Path:
    """Write a table to `path` (its folder is made), whole or not at all; the path.

    UTF-8 with byte-order mark and quoted text, as FanGraphs writes it; numbers to `DECIMALS`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".csv.part")
    table.with_columns(selectors.float().round(DECIMALS)).write_csv(part, include_bom=True, quote_style="non_numeric")
    part.replace(path)
    return path
