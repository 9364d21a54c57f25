"""Lahman's season tables (SABR's release or older ones): batting, pitching and people.

Stints are added up to one row a player, season and league. The leagues that the major leagues count as their own,
the seven Negro leagues among them, are league "MLB"; the others keep their Lahman code.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from fullcount.errors import FullcountError
from fullcount.sources.register import (
    PathLike,
    birth_date,
    integer,
    log,
    merge_players,
    read_csv,
    report_hits,
    require,
)
from fullcount.sources.seasons import sums
from fullcount.sources.tables import PLAYERS, POSITIONS, Tables, empty

#: The hit rate is judged on these; registers know few of the Negro leagues' players by an MLBAM id.
_REGISTERED = ("NL", "AA", "UA", "PL", "AL", "FL")
MAJOR_LEAGUES = ("NA", "NL", "AA", "UA", "PL", "AL", "FL", "NNL", "ECL", "ANL", "EWL", "NSL", "NN2", "NAL")

_TABLES = {
    "People": ("playerID",),
    "Batting": ("playerID", "yearID", "teamID", "G", "AB", "H", "2B", "3B", "HR", "BB", "SO"),
    "Pitching": ("playerID", "yearID", "teamID", "G", "GS", "H", "HR", "BB", "SO"),
    "Appearances": ("playerID", "yearID", "G_all", "G_p"),
    "Teams": ("yearID", "teamID", "teamIDretro"),
}
_OPTIONAL = ("Appearances", "Teams")

_BATTING = {"GIDP": "GDP"} | {
    c: c for c in ("AB", "H", "2B", "3B", "HR", "R", "RBI", "BB", "IBB", "SO", "HBP", "SH", "SF", "SB", "CS")
}
_PITCHING = {"IPouts": "outs", "BFP": "BF"} | {
    c: c for c in ("GS", "H", "HR", "R", "ER", "BB", "IBB", "SO", "HBP", "WP", "BK", "W", "L", "SV", "GF")
}


def _find(source: PathLike | Sequence[PathLike]) -> dict[str, Path]:
    """Table name -> file, whatever the case and with or without .gz."""
    if isinstance(source, str | Path):
        folder = Path(source)
        if not folder.is_dir():
            raise FullcountError(f"{folder}: not a folder; give the folder of Lahman's CSV files")
        files = sorted(folder.iterdir())
    else:
        files = [Path(p) for p in source]
    names = {p.name.lower().removesuffix(".gz").removesuffix(".csv"): p for p in files}
    names.setdefault("people", names.get("master", Path()))  # its name before 2018
    found = {t: names[t.lower()] for t in _TABLES if names.get(t.lower(), Path()) != Path()}
    for table in _TABLES:
        if table not in found and table not in _OPTIONAL:
            raise FullcountError(f"Lahman: {table}.csv is missing; put it beside the other tables")
    return found


def read(source: PathLike | Sequence[PathLike], register: pl.DataFrame, seasons: Sequence[int] | None = None) -> Tables:
    """Lahman's `batting_seasons`, `pitching_seasons` and `players`.

    Args:
        source: the folder, or its files; People, Batting and Pitching are needed, Appearances and Teams are used.
        register: canonical players table, read from the Chadwick register.
        seasons: only these, all by default.

    Players get the register's id by bbrefID, else by retroID. One that the register lacks (some of the 19th century
    and many of the Negro leagues) gets a negative id made from his playerID, the same in every run. FullcountError when
    the register lacks more than one in a hundred of those who played in the AL, NL, AA, UA, PL or FL.
    """
    files = _find(source)
    raw = {t: _load(files[t], t) for t in files}
    played = pl.concat([raw[t].select("playerID", "yearID", "league", "lgID") for t in ("Batting", "Pitching")])
    if seasons is not None:
        for table in ("Batting", "Pitching", "Appearances"):
            if table in raw:
                raw[table] = raw[table].filter(pl.col("yearID").is_in(list(seasons)))
    ids, players = _people(raw["People"], register, played)

    key = ["player", "season", "league"]
    batting = _lines(raw["Batting"], _BATTING, ids, raw.get("Teams"))
    batting = batting.with_columns(PA=pl.sum_horizontal("AB", "BB", "HBP", "SH", "SF"))
    pitching = _lines(raw["Pitching"], _PITCHING, ids, raw.get("Teams"))
    batting_seasons = _seasons(batting, [*_BATTING.values(), "PA"], "PA")
    pitching_seasons = _seasons(pitching, list(_PITCHING.values()), "BF")
    batting_seasons = batting_seasons.join(
        pitching_seasons.select(*key, _g="G"), on=key, how="left", maintain_order="left"
    ).join(_positions(raw.get("Appearances"), ids), on=key, how="left", maintain_order="left")
    # Two-way players pitch in fewer than half of their games.
    is_pitcher = pl.coalesce(pl.col("G_P") > 0.5 * pl.col("_all"), pl.col("_g").fill_null(0) > 0.5 * pl.col("G"))
    return Tables.of(
        batting_seasons=batting_seasons.with_columns(is_pitcher=is_pitcher),
        pitching_seasons=pitching_seasons,
        players=players,
    )


def _load(path: Path, table: str) -> pl.DataFrame:
    frame = read_csv(path, _TABLES[table])
    frame = frame.rename({c: "IPouts" for c in frame.columns if c.lower() == "ipouts"})
    if table == "Pitching":
        require(frame.columns, ("IPouts",), path)
    if table == "People":
        return frame
    year = frame.select(integer("yearID"))["yearID"]
    bad = year.is_null().arg_max() if year.null_count() else None
    if bad is not None:
        raise FullcountError(f"{path}: line {bad + 2}, column 'yearID' is not a year; mend the line")
    if "lgID" not in frame.columns:
        frame = frame.with_columns(lgID=pl.lit(None, dtype=pl.String))
    league = pl.col("lgID").fill_null("NA")
    return frame.with_columns(
        year.cast(pl.Int16),
        league=pl.when(league.is_in(MAJOR_LEAGUES)).then(pl.lit("MLB")).otherwise(league),
    )


def _people(people: pl.DataFrame, register: pl.DataFrame, played: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(playerID, player) of everyone who played, and his players row."""
    missing = [c for c in ("bbrefID", "retroID", "birthYear", "birthMonth", "birthDay", "bats", "throws",
                           "nameFirst", "nameLast") if c not in people.columns]  # fmt: skip
    people = people.with_columns(pl.lit(None, dtype=pl.String).alias(c) for c in missing)
    people = pl.concat(
        [people, played.select("playerID").unique().join(people, on="playerID", how="anti")], how="diagonal"
    ).unique("playerID", keep="first", maintain_order=True)
    known = register.filter(pl.col("player") > 0)  # a store read into before has ids made here, too
    for key, column in (("key_bbref", "bbrefID"), ("key_retro", "retroID")):
        book = known.select(pl.col(key).alias(column), pl.col("player").alias(key)).drop_nulls().unique(column)
        people = people.join(book, on=column, how="left", maintain_order="left")
    people = people.with_columns(player=pl.coalesce("key_bbref", "key_retro"))
    people = people.join(played.select("playerID").unique(), on="playerID", how="semi", maintain_order="left")
    # Two men under one id: it is his whom bbrefID names, else the first's.
    people = people.sort(pl.col("key_bbref").is_null(), maintain_order=True).with_columns(
        player=pl.when(pl.col("player").is_first_distinct()).then("player")
    )
    majors = played.filter(pl.col("lgID").is_in(_REGISTERED)).select("playerID").unique()
    seen = people.join(majors, on="playerID", how="semi")
    lost = seen.filter(pl.col("player").is_null())["playerID"].sort().to_list()
    report_hits(seen.height - len(lost), lost, "Lahman players of the AL, NL, AA, UA, PL and FL")
    unknown = people.filter(pl.col("player").is_null())["playerID"].to_list()
    if unknown:
        log.info("Lahman: %d players without MLBAM id get a negative id (%s, ...)", len(unknown), unknown[0])
    made = pl.DataFrame(
        {"playerID": unknown, "_made": [-1 - (zlib.crc32(p.encode()) >> 2) for p in unknown]},
        schema={"playerID": pl.String, "_made": pl.Int32},
    )
    people = people.join(made, on="playerID", how="left", maintain_order="left").with_columns(
        pl.coalesce("player", "_made").cast(PLAYERS["player"])
    )
    own = people.select(
        "player",
        first_name="nameFirst",
        last_name="nameLast",
        birth_date=birth_date("birthYear", "birthMonth", "birthDay"),
        bats="bats",
        throws=pl.col("throws").replace("S", "B"),
        key_retro="retroID",
        key_bbref="bbrefID",
    )
    theirs = register.join(own, on="player", how="semi")
    return people.select("playerID", "player"), merge_players([theirs, own])


def _lines(frame: pl.DataFrame, names: dict[str, str], ids: pl.DataFrame, teams: pl.DataFrame | None) -> pl.DataFrame:
    """A stint a row with canonical names; counts that were not kept in old years are 0."""
    frame = frame.with_columns(pl.lit("0").alias(c) for c in names if c not in frame.columns)
    counts = [integer(old).fill_null(0).alias(new) for old, new in names.items()]
    team = pl.col("teamID")
    if teams is not None:
        frame = frame.join(
            teams.select("yearID", "teamID", "teamIDretro").unique(["yearID", "teamID"]),
            on=["yearID", "teamID"],
            how="left",
            maintain_order="left",
        )
        team = pl.coalesce("teamIDretro", "teamID")
    frame = frame.join(ids, on="playerID", how="left", maintain_order="left")
    return frame.select(
        "player", "league", integer("G").fill_null(0), *counts, season="yearID", team=team.cast(pl.String)
    )


def _seasons(lines: pl.DataFrame, counts: list[str], by: str) -> pl.DataFrame:
    """One row a player, season and league; the team is the one with most of `by`."""
    key = ["player", "season", "league"]
    summed = lines.group_by(*key, "team").agg(pl.col("G", *counts).sum())
    summed = summed.sort(*key, by, "G", "team", descending=[False, False, False, True, True, False])
    return summed.group_by(key, maintain_order=True).agg(pl.col("team").first(), pl.col("G", *counts).sum())


def _positions(appearances: pl.DataFrame | None, ids: pl.DataFrame) -> pl.DataFrame:
    """Games at each of POSITIONS, and in all (`_all`); null where Appearances does not know."""
    if appearances is None:
        return empty("batting_seasons").select("player", "season", "league", *POSITIONS, _all="G")
    theirs = {"G_" + c.removeprefix("G_").lower(): c for c in POSITIONS} | {"G_all": "_all"}
    games = appearances.rename(theirs, strict=False).join(ids, on="playerID")
    counts = tuple(c for c in theirs.values() if c in games.columns)
    games = games.with_columns(integer(c) for c in counts)
    return games.group_by("player", "league", season="yearID").agg(sums(counts))
