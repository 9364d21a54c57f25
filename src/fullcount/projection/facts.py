"""What season lines say before a season, and what came: the table that trees, nets and playing time learn from."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.projection.kept import kept
from fullcount.projection.marcel import HITTER_AGEING, Marcel, people
from fullcount.projection.system import EXPOSURE, SINGLES, League, Projection, RefusalError, Role

Floats = NDArray[np.float64]

LAGS = (1, 2, 3)
#: Counts of season lines that facts are made of.
LINES: dict[Role, tuple[str, ...]] = {
    "hitters": tuple(HITTER_AGEING),
    "pitchers": ("SO", "BB", "HR", "H", "ER", "R", "HBP", "W", "L", "SV", "GS", "GF"),
}
#: Counts whose rates are learned. The others stay Marcel's, or keep their proportion to one of these (see `composed`).
LEARNED: dict[Role, tuple[str, ...]] = {
    "hitters": ("SO", "BB", "1B", "2B", "3B", "HR", "R", "RBI", "SB", "CS"),
    "pitchers": ("SO", "BB", "HR", "H", "ER", "W", "SV", "HLD"),
}
#: What is learned and no fact: holds read beside saves and games finished told nothing in 2016-19, not even of holds.
UNREAD = {"HLD"}


def facts(league: League, role: Role, season: int) -> pl.DataFrame:
    """What is known before `season` of everyone Marcel projects for it, a row a player, by player.

    Columns: player; Marcel's PA or IP as they were if short seasons had been whole ones (`PA`, `IP`), reliability, and
    his rates per PA or IP (`m:HR`, ...); age; `career` (PA or BF), `debut` (seasons since); and of each of the last
    three seasons k playing time in a season of full length (`n:k`, `G:k`, `outs:k`), per game (`n/G:k`), and rates per
    PA or BF less the league's (`HR:k`). Null: no line.
    """
    return kept(_facts, league, role, season)


def _facts(league: League, role: Role, season: int) -> pl.DataFrame:
    marcel = base(league, season).role(role)
    known = league.before(date(season, 3, 1))
    n = EXPOSURE[role]
    names = [c for c in dict.fromkeys((*LINES[role], *LEARNED[role])) if c in marcel.columns and c != n]
    table = marcel.select("player", n, "reliability", *((pl.col(c) / pl.col(n)).alias(f"m:{c}") for c in names))
    table = table.join(people(known.players, season).select("player", "age"), on="player", how="left")
    lines, under = own_lines(known, role), "PA" if role == "hitters" else "BF"
    lines = lines.join(table.select("player"), on="player", how="semi").sort("season", "player")
    career = lines.group_by("player", maintain_order=True).agg(
        pl.col(under).cast(pl.Float64).sum().alias("career"), (season - pl.col("season").min()).alias("debut")
    )
    table = table.join(career, on="player", how="left")
    recent = lines.filter(pl.col("season") >= season - len(LAGS))
    mean = recent.group_by("season").agg((pl.col(c).sum() / pl.col(under).sum()).alias(f"lg:{c}") for c in LINES[role])
    recent = recent.join(mean, on="season").join(_lengths(known), on="season")
    times = (under, "G") if role == "hitters" else (under, "G", "outs")
    for lag in LAGS:
        line = recent.filter(pl.col("season") == season - lag).select(
            "player",
            *((pl.col(c) * pl.col("length")).alias(f"{'n' if c == under else c}:{lag}") for c in times),
            (pl.col(under) / pl.col("G")).alias(f"n/G:{lag}"),
            pl.col("length").alias(f"length:{lag}"),
            *((pl.col(c) / pl.col(under) - pl.col(f"lg:{c}")).alias(f"{c}:{lag}") for c in LINES[role]),
        )
        table = table.join(line, on="player", how="left")
    done, unit = ("n", 1.0) if role == "hitters" else ("outs", 3.0)
    missed = {k: pl.col(f"{done}:{k}").fill_null(0.0) * (1 - 1 / pl.col(f"length:{k}").fill_null(1.0)) for k in (1, 2)}
    table = table.with_columns(pl.col(n) + (0.5 * missed[1] + 0.1 * missed[2]) / unit)
    return table.drop(f"length:{k}" for k in LAGS).sort("player")


def examples(league: League, role: Role, first: int, season: int) -> pl.DataFrame:
    """`facts` of the seasons `first` .. `season` - 1 beside what happened (`y:PA`, `y:HR`, ...; 0 who did not play).

    `length`: times by which the season was too short. Only what was known before `season` is read.

    Raises:
        RefusalError: none of the seasons has lines and lines before it.
    """
    known = league.before(date(season, 3, 1))
    lines = own_lines(known, role)
    start = max(first, int(lines["season"].min() or season) + 1)  # type: ignore[arg-type]
    parts = [kept(_examples, league, role, s) for s in range(start, season)]
    parts = [p for p in parts if p.height]
    if not parts:
        raise RefusalError(f"no season from {first} on and before {season} has lines and lines before it to learn from")
    return pl.concat(parts, how="diagonal_relaxed")


def _examples(league: League, role: Role, season: int) -> pl.DataFrame:
    known = league.before(date(season + 1, 3, 1))
    n = EXPOSURE[role]
    happened = projected_lines(known, role).filter(pl.col("season") == season)
    if happened.is_empty():
        return pl.DataFrame()
    names = dict.fromkeys([n, "G", *LINES[role], *LEARNED[role]])
    happened = happened.select("player", *(pl.col(c).cast(pl.Float64).alias(f"y:{c}") for c in names))
    length = _lengths(known).filter(pl.col("season") == season)["length"].item()
    unknown = [c for c in happened.columns if happened[c].null_count() == happened.height]
    return (
        facts(league, role, season)
        .join(happened, on="player", how="left")
        .with_columns(pl.col(f"y:{c}").fill_null(0.0) for c in names if f"y:{c}" not in unknown)
        .with_columns(length=pl.lit(length), season=pl.lit(season))
        .sort("player")
    )


def base(league: League, season: int) -> Projection:
    """Marcel's projection of `season`."""
    return kept(_marcel, league, season)


def _marcel(league: League, season: int) -> Projection:
    return Marcel().project(date(season, 3, 1), league)


def fact_names(table: pl.DataFrame) -> list[str]:
    """Columns of `facts` that a model may read."""
    unread = {"player", "season", "length", *(f"m:{c}" for c in UNREAD)}
    return [c for c in table.columns if c not in unread and not c.startswith("y:")]


def matrix(table: pl.DataFrame, names: list[str]) -> Floats:
    """Columns of `table` [rows, names], NaN where unknown."""
    return table.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def own_lines(known: League, role: Role) -> pl.DataFrame:
    """Season lines of the league; pitchers' batting left out."""
    if role == "pitchers":
        return known.pitching_seasons.filter(pl.col("league") == known.name, pl.col("BF") > 0)
    own = known.batting_seasons.filter(
        pl.col("league") == known.name, pl.col("PA") > 0, ~pl.col("is_pitcher").fill_null(False)
    )
    return own.with_columns(SINGLES)


def projected_lines(known: League, role: Role) -> pl.DataFrame:
    """`own_lines` with a Projection's playing time: pitchers' IP and TBF."""
    lines = own_lines(known, role)
    return lines if role == "hitters" else lines.with_columns(IP=pl.col("outs") / 3, TBF=pl.col("BF"))


def _lengths(known: League) -> pl.DataFrame:
    """Of each season how many times longer the longest of the last ten was (2020: 2.7), by the games of those who
    played most."""
    games = known.batting_seasons.filter(pl.col("league") == known.name).group_by("season").agg(pl.col("G").max())
    longest = games.filter(pl.col("season") > pl.col("season").max() - 10)["G"].max()
    return games.select("season", length=pl.lit(longest) / pl.col("G").cast(pl.Float64)).sort("season")
