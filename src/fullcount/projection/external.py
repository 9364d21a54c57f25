"""Projections downloaded elsewhere: FanGraphs exports of any year, and the project's own exports.

Understood are the export of 2022 on (`...,NameASCII,PlayerId,MLBAMID`), the older ones (`playerid`, columns named
`-1`), the API's names (`xMLBAMID`, `PlayerName`), Steamer's archive (`mlbamid,steamerid,firstname,lastname,...,K,NIBB`)
and lower-case normalised tables (`name,team,fangraphs_id,mlbam_id,...`); plain or gzipped.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from fullcount.errors import FullcountError
from fullcount.projection.system import (
    COUNTS,
    EXPOSURE,
    PERCENTILE,
    ROLES,
    League,
    Projection,
    RefusalError,
    Role,
    conform,
    target_season,
)

#: Header names (compared in lower case) of what is not a statistic.
_NAMES = {
    "mlbam": ("mlbamid", "xmlbamid", "mlbam_id", "player"),
    "fangraphs": ("playerid", "fangraphs_id", "playerids", "steamerid", "fangraphsid"),
    "Name": ("name", "playername", "shortname"),
    "Team": ("team",),
    "first": ("firstname", "first_name"),
    "last": ("lastname", "last_name"),
}
_STATS = {"K": "SO", "BF": "TBF", "HOLDS": "HLD", "GIDP": "GDP", "SAC": "SH"}
_REQUIRED: dict[Role, tuple[str, ...]] = {"hitters": ("PA", "AB", "H", "HR"), "pitchers": ("IP", "H", "BB", "SO")}
#: The statistic whose outcome percentiles FanGraphs calls P10..P90; a pitcher's P10 is his worst, that is high, one.
FANGRAPHS_PERCENTILES: dict[Role, str] = {"hitters": "wOBA", "pitchers": "ERA"}


class SeasonFiles(NamedTuple):
    """The two files of one season; either may be missing."""

    hitters: Path | None = None
    pitchers: Path | None = None


@dataclass(frozen=True)
class External:
    """A System that speaks from files, one pair a season: `External("steamer", {2024: SeasonFiles(hit, pit)})`.

    `min_pa`, `min_ip`: rows with no more than this are minor leaguers listed for completeness and are "not
    projected". Nothing tells when a file was made: that it is older than the season is the user's word.
    Beware: exports before 2022 round counts to integers, so rates of small playing time are noise; `backtest` reads
    rates only from rows with PA >= 100 (IP >= 25), see its `rate_floor`.
    """

    name: str
    files: Mapping[int, SeasonFiles]
    min_pa: float = 1.0
    min_ip: float = 1.0

    @classmethod
    def folder(cls, folder: Path, name: str) -> External:
        """All files `{name}_{season}_{hitters|pitchers}.csv[.gz]` of a folder. FullcountError when there are none."""
        found: dict[int, dict[str, Path]] = {}
        for path in sorted(Path(folder).glob(f"{name}_*.csv*")):
            parts = re.fullmatch(re.escape(name) + r"_(\d{4})_(hitters|pitchers)\.csv(\.gz)?", path.name)
            if parts:
                found.setdefault(int(parts[1]), {})[parts[2]] = path
        if not found:
            raise FullcountError(f"{folder}: no files {name}_<season>_hitters.csv or _pitchers.csv")
        return cls(name, {s: SeasonFiles(p.get("hitters"), p.get("pitchers")) for s, p in found.items()})

    def project(self, as_of: date, league: League) -> Projection:
        """The files' projection of `target_season(as_of)`; FullcountError when there is no file of that season."""
        season = target_season(as_of)
        if season not in self.files:
            raise RefusalError(
                f"{self.name} has projections of {', '.join(map(str, sorted(self.files)))}, not of {season}"
            )
        players = league.before(as_of).players
        tables = {
            role: read_projection(path, role, players, self.min_pa if role == "hitters" else self.min_ip)
            for role, path in zip(ROLES, self.files[season], strict=True)
            if path is not None
        }
        return Projection.of(season, tables.get("hitters"), tables.get("pitchers"))


def read_projection(path: Path, role: Role, players: pl.DataFrame, least: float = 1.0) -> pl.DataFrame:
    """One file as a Projection's table of `role`: rows with more than `least` PA or IP and a player known by id.

    The player is the file's MLBAM id, or the one `players.key_fangraphs` gives for its FanGraphs id. Of a player
    listed twice the row with more playing time counts. FullcountError, naming file and column, for a file that is no
    such table, a value that is no number, and when fewer than half the rows have a known player.
    """
    raw = _read_csv(path)
    names = _columns(raw.columns)
    missing = [c for c in _REQUIRED[role] if c not in names]
    if missing:
        raise FullcountError(f"{path}: no column {', '.join(missing)}; is it a projection of {role}?")
    if "mlbam" not in names and "fangraphs" not in names:
        raise FullcountError(f"{path}: no player id; a column MLBAMID or PlayerId is needed")
    stats = [c for c in names if c in COUNTS[role] or c in ("NIBB", "BB%", "K%") or PERCENTILE.match(c)]
    stats += [c for c in names if re.fullmatch("P[1-9]0", c)]
    frame = raw.select(
        *(_number(raw, names[c], path).alias(c) for c in stats),
        *(_text(names[c]).alias(c) for c in ("mlbam", "fangraphs", "Name", "Team", "first", "last") if c in names),
    )
    frame = _fill(frame, role).filter(pl.col(EXPOSURE[role]) > least)
    if "Name" not in frame.columns and {"first", "last"} <= set(frame.columns):
        frame = frame.with_columns(pl.concat_str("first", "last", separator=" ").alias("Name"))
    frame = _identify(frame, players).drop("mlbam", "fangraphs", "first", "last", strict=False)
    if 2 * frame["player"].null_count() > frame.height:
        raise FullcountError(f"{path}: {frame['player'].null_count()} of {frame.height} rows have no known player id")
    frame = frame.drop_nulls("player").sort(EXPOSURE[role], descending=True, maintain_order=True)
    return conform(frame.unique("player", keep="first", maintain_order=True), role)


def _read_csv(path: Path) -> pl.DataFrame:
    """All columns as text. The byte-order mark of FanGraphs' files and repeated names (`-1`) are harmless."""
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        frame = pl.read_csv(data.removeprefix(b"\xef\xbb\xbf"), infer_schema=False)
    except FileNotFoundError as error:
        raise FullcountError(f"{path}: no such file") from error
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        raise FullcountError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]})") from error
    if frame.is_empty():
        raise FullcountError(f"{path}: no rows")
    return frame


def _columns(header: list[str]) -> dict[str, str]:
    """Our name of each column -> its name in the file; the first of several wins, unknown ones stay themselves."""
    known = {alias: (order, ours) for ours, aliases in _NAMES.items() for order, alias in enumerate(aliases)}
    found: dict[str, str] = {}
    best: dict[str, int] = {}
    for column in header:
        order, ours = known.get(column.strip().lower(), (0, _STATS.get(column.strip(), column.strip())))
        if not column.startswith("-1") and order < best.get(ours, 99):
            found[ours], best[ours] = column, order
    return found


def _text(column: str) -> pl.Expr:
    text = pl.col(column).str.strip_chars()
    return pl.when(text != "").then(text)


def _number(raw: pl.DataFrame, column: str, path: Path) -> pl.Series:
    """A column as Float64; "12.3%" is .123; blank is null."""
    text = raw.select(_text(column)).to_series()
    percent = text.str.ends_with("%")
    number = text.str.strip_chars_end("% ").cast(pl.Float64, strict=False)
    bad = (number.is_null() & text.is_not_null()) | ~number.is_finite().fill_null(True)
    if bad.any():
        row = int(bad.arg_true()[0])
        raise FullcountError(f"{path}: row {row + 2}, column {column}: {text[row]!r} is not a number")
    return pl.select(pl.when(percent).then(number / 100).otherwise(number)).to_series()


def _fill(frame: pl.DataFrame, role: Role) -> pl.DataFrame:
    """Counts the file gives in other words: walks without the intentional ones, K% and BB% alone, P10 .. P90."""
    if "BB" not in frame.columns and "NIBB" in frame.columns:
        intentional = pl.col("IBB").fill_null(0) if "IBB" in frame.columns else pl.lit(0.0)
        frame = frame.with_columns((pl.col("NIBB") + intentional).alias("BB"))
    faced = "PA" if role == "hitters" else "TBF"
    for share, count in (("BB%", "BB"), ("K%", "SO")):
        if count not in frame.columns and {share, faced} <= set(frame.columns):
            frame = frame.with_columns((pl.col(share) * pl.col(faced)).alias(count))
    stat = FANGRAPHS_PERCENTILES[role]
    levels = [c for c in frame.columns if re.fullmatch("P[1-9]0", c)]
    ours = {c: f"{stat}_p{c[1:] if role == 'hitters' else 100 - int(c[1:])}" for c in levels}
    # our own trailing columns win over FanGraphs' of the same meaning; columns with nothing in them say nothing
    fresh = {c: name for c, name in ours.items() if name not in frame.columns and frame[c].null_count() < frame.height}
    return frame.rename(fresh).drop(c for c in (*levels, "BB%", "K%", "NIBB") if c in frame.columns and c not in fresh)


def _identify(frame: pl.DataFrame, players: pl.DataFrame) -> pl.DataFrame:
    """`frame` with `player`: the file's MLBAM id, else by FanGraphs id, else null."""
    ids = {c: pl.col(c) if c in frame.columns else pl.lit(None, dtype=pl.String) for c in ("mlbam", "fangraphs")}
    # ids pass through spreadsheets: "545361.0" is 545361
    clean = {c: e.str.strip_suffix(".0") for c, e in ids.items()}
    register = (
        players.filter(pl.col("key_fangraphs").is_not_null(), pl.col("key_fangraphs") != "")
        .select(pl.col("key_fangraphs").alias("fangraphs"), pl.col("player").alias("by_fangraphs"))
        .unique("fangraphs", keep="none")
    )
    return (
        frame.with_columns(clean["fangraphs"].alias("fangraphs"))
        .join(register, on="fangraphs", how="left", maintain_order="left")
        .with_columns(pl.coalesce(clean["mlbam"].cast(pl.Int32, strict=False), "by_fangraphs").alias("player"))
        .drop("by_fangraphs")
    )
