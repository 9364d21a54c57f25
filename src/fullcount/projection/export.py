"""Projections as the two CSV files people load elsewhere: FanGraphs' export header, then our percentile columns."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from fullcount.projection.external import FANGRAPHS_PERCENTILES
from fullcount.projection.system import PERCENTILE, ROLES, Projection, Role, rates
from fullcount.projection.uncertainty import TALENT

_OUTCOME = tuple(f"P{q}0" for q in range(1, 10))
_TALENT = tuple(f"TT{q}0" for q in range(1, 10))
_SPREAD = ("ADP", "InterSD", "InterSK", "IntraSD", "Vol", "Skew", "Dim")
_IDS = ("NameASCII", "PlayerId", "MLBAMID")
#: The header of FanGraphs' projection export, 2022-2026.
HEADER: dict[Role, tuple[str, ...]] = {
    "hitters": (
        "Name", "Team", "G", "PA", "AB", "H", "1B", "2B", "3B", "HR", "R", "RBI", "BB", "IBB", "SO", "HBP", "SF",
        "SH", "GDP", "SB", "CS", "AVG", "BB%", "K%", "BB/K", "OBP", "SLG", "wOBA", "OPS", "ISO", "Spd", "BABIP", "UBR",
        "wSB", "wRC", "wRAA", "wRC+", "BsR", "Fld", "Off", "Def", "WAR", *_SPREAD, "FPTS", "FPTS/G", "SPTS", "SPTS/G",
        *_OUTCOME, *_TALENT, *_IDS,
    ),
    "pitchers": (
        "Name", "Team", "W", "L", "QS", "ERA", "G", "GS", "SV", "HLD", "BS", "IP", "TBF", "H", "R", "ER", "HR", "BB",
        "IBB", "HBP", "SO", "K/9", "BB/9", "K/BB", "HR/9", "K%", "BB%", "K-BB%", "AVG", "WHIP", "BABIP", "LOB%", "GB%",
        "HR/FB", "FIP", "WAR", "RA9-WAR", *_SPREAD, "FPTS", "FPTS/IP", "SPTS", "SPTS/IP",
        *_OUTCOME, *_TALENT, *_IDS,
    ),
}  # fmt: skip
#: Retrosheet's team codes where FanGraphs writes another.
TEAMS = {
    "ANA": "LAA", "CHA": "CHW", "CHN": "CHC", "KCA": "KCR", "LAN": "LAD", "NYA": "NYY", "NYN": "NYM", "SDN": "SDP",
    "SFN": "SFG", "SLN": "STL", "TBA": "TBR", "WAS": "WSN", "FLO": "FLA",
}  # fmt: skip


def layout(projection: Projection, role: Role, players: pl.DataFrame) -> pl.DataFrame:
    """The table of `role` in FanGraphs' header, most playing time first, percentile columns trailing.

    `players` (canonical) gives the FanGraphs id; what is unknown is null. IP are decimal innings, percentages
    fractions. `System`: who spoke of him, where the system says. P10..P90 are the percentiles of wOBA, and of ERA with
    the worst first, where the system gives them; TT10..TT90 those of true talent.
    """
    frame = rates(projection.role(role), role)
    stat = FANGRAPHS_PERCENTILES[role]
    levels = {
        f"{name}{q}": f"{stat}_{kind}{q if role == 'hitters' else 100 - q}"
        for name, kind in (("P", "p"), ("TT", "tt"))
        for q in range(10, 100, 10)
    }
    ids = players.select("player", pl.col("key_fangraphs").alias("PlayerId")).unique("player")
    frame = frame.join(ids, on="player", how="left").with_columns(
        pl.col("player").alias("MLBAMID"),
        pl.col("Team").replace(TEAMS),
        _ascii(pl.col("Name")).alias("NameASCII"),
        *(pl.col(c).alias(name) for name, c in levels.items() if c in frame.columns),
    )
    trailing = [c for c in frame.columns if PERCENTILE.match(c) or TALENT.match(c)]
    who = [pl.col("system").alias("System")] if "system" in frame.columns else []
    return frame.sort("PA" if role == "hitters" else "IP", "player", descending=[True, False]).select(
        *(pl.col(c) if c in frame.columns else pl.lit(None, dtype=pl.Float64).alias(c) for c in HEADER[role]),
        *who,
        *trailing,
    )


def export(projection: Projection, folder: Path, players: pl.DataFrame) -> tuple[Path, Path]:
    """Write `hitters.csv` and `pitchers.csv` into `folder` (made if missing); the two paths.

    UTF-8 with byte-order mark and quoted text, as FanGraphs writes it. Each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for role in ROLES:
        path = folder / f"{role}.csv"
        part = path.with_suffix(".csv.part")
        layout(projection, role, players).write_csv(part, include_bom=True, quote_style="non_numeric")
        part.replace(path)
        paths.append(path)
    return paths[0], paths[1]


def _ascii(name: pl.Expr) -> pl.Expr:
    """Accents dropped: decomposed, then what is not ASCII removed."""
    return name.str.normalize("NFKD").str.replace_all(r"[^\x00-\x7F]", "")
