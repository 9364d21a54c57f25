"""Who is judged: the outcomes of a season, and the three groups of players a table is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from fullcount.errors import FullcountError
from fullcount.projection.system import EXPOSURE, HITTER_COUNTS, PITCHER_COUNTS, League, Projection, Role, conform

#: Playing time given to a player nobody projects, as Marcel does: a hitter 200 PA, a pitcher 36 innings.
UNKNOWN_PLAYING_TIME: dict[Role, float] = {"hitters": 200.0, "pitchers": 36.0}


@dataclass(frozen=True)
class Cohort:
    """A rule that picks players: least actual and least projected (by the reference system) PA or IP.

    `everyone`: all players weighted by actual PA or IP; who a system does not project is filled with the league mean.
    """

    name: str
    actual: Mapping[Role, float] = field(default_factory=dict)
    projected: Mapping[Role, float] = field(default_factory=dict)
    everyone: bool = False

    def members(self, actual: pl.DataFrame, reference: pl.DataFrame, role: Role) -> pl.DataFrame:
        """Columns `player`, `weight` of `outcomes` rows that belong, by player."""
        n = pl.col(EXPOSURE[role])
        rows = actual.filter(n >= self.actual.get(role, 0))
        if self.projected:
            rows = rows.join(reference.filter(n >= self.projected.get(role, 0)), on="player", how="semi")
        if self.everyone and role == "hitters":
            rows = rows.filter(~pl.col("is_pitcher").fill_null(False))
        return rows.select("player", (n if self.everyone else pl.lit(1.0)).alias("weight")).sort("player")


#: A: comparable with published tables, but only those who lasted. B: chosen before the season, at least one plate
#: appearance (batter faced). B20: B, pitchers with 20 innings or more, so that one bad inning is not an ERA of 81.
#: C: everyone but pitchers at bat, weighted.
COHORTS: dict[str, Cohort] = {
    "A": Cohort("A", actual={"hitters": 200.0, "pitchers": 50.0}),
    "B": Cohort("B", projected={"hitters": 350.0, "pitchers": 60.0}),
    "B20": Cohort("B20", actual={"hitters": 1.0, "pitchers": 20.0}, projected={"hitters": 350.0, "pitchers": 60.0}),
    "C": Cohort("C", everyone=True),
}


def outcomes(league: League, season: int) -> Projection:
    """What happened, in the columns of a Projection: players of the league with a plate appearance or batter faced.

    Hitters keep `is_pitcher`. FullcountError when the league has no such season.
    """
    mlb = (pl.col("season") == season) & (pl.col("league") == league.name)
    hitters = league.batting_seasons.filter(mlb, pl.col("PA") > 0)
    pitchers = league.pitching_seasons.filter(mlb, pl.col("BF") > 0)
    if hitters.is_empty() and pitchers.is_empty():
        raise FullcountError(f"season {season} is not in the season tables, so nothing can be judged on it")
    hitters = hitters.select("player", pl.col("team").alias("Team"), *_present(HITTER_COUNTS, hitters), "is_pitcher")
    pitchers = pitchers.with_columns(IP=pl.col("outs") / 3, TBF=pl.col("BF"))
    pitchers = pitchers.select("player", pl.col("team").alias("Team"), *_present(PITCHER_COUNTS, pitchers))
    return Projection.of(season, hitters, pitchers)


def league_mean(league: League, as_of: date, role: Role) -> pl.DataFrame:
    """One row, counts of a Projection: the last season known on `as_of`, per UNKNOWN_PLAYING_TIME.

    Pitchers' batting does not count. FullcountError when no season is known.
    """
    known = league.before(as_of)
    seasons = known.batting_seasons if role == "hitters" else known.pitching_seasons
    seasons = seasons.filter(pl.col("league") == league.name)
    if seasons.is_empty():
        raise FullcountError(f"no major-league season is known on {as_of}")
    happened = outcomes(known, int(seasons["season"].max())).role(role)  # type: ignore[arg-type]
    if role == "hitters":
        happened = happened.filter(~pl.col("is_pitcher").fill_null(False))
    counts = [c for c in (HITTER_COUNTS if role == "hitters" else PITCHER_COUNTS) if happened[c].null_count() == 0]
    n = pl.col(EXPOSURE[role]).sum()
    row = happened.select(pl.lit(0, dtype=pl.Int32).alias("player"), *(pl.col(c).sum() / n for c in counts))
    return conform(row.with_columns(pl.col(c) * UNKNOWN_PLAYING_TIME[role] for c in counts), role)


def _present(counts: tuple[str, ...], frame: pl.DataFrame) -> list[str]:
    return [c for c in counts if c in frame.columns]
