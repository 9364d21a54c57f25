"""Marcel the Monkey, Tom Tango's forecasting system: three weighted years, regression to the mean, age.

Source: tangotiger.net/archives/stud0346.shtml (2004) and Tango's published files of 2001-2012, which this code
reproduces. It is the least a projection must beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl

from fullcount.projection.system import NAME, SINGLES, League, Projection, added, target_season

#: Regressed rates, and how each moves with the age factor: +1 grows with youth, -1 shrinks with it, 0 stays.
HITTER_AGEING = {
    "1B": 1, "2B": 1, "3B": 1, "HR": 1, "R": 1, "RBI": 1, "BB": 1, "IBB": 1, "HBP": 1, "SF": 1, "SB": 1,
    "SO": -1, "CS": -1, "SH": 0, "GDP": 0,
}  # fmt: skip
PITCHER_AGEING = {
    "SO": 1, "W": 1, "SV": 1, "HLD": 1, "H": -1, "HR": -1, "R": -1, "ER": -1, "BB": -1, "IBB": -1, "HBP": -1,
    "L": -1, "G": 0, "GS": 0, "other": 0,
}  # fmt: skip
HITTER_WEIGHTS = (5, 4, 3)
PITCHER_WEIGHTS = (3, 2, 1)
HITTER_PRIOR = 1200.0  # weighted plate appearances: 100 a unit of weight, 12 units
PITCHER_PRIOR = 804.0  # weighted outs: 134 a unit of weight, 6 units; 134 alone is a known misreading

Rebaseline = Literal["mean", "latest", "none"]


@dataclass(frozen=True)
class Marcel:
    """Marcel, exactly. `project` adds a column `reliability`: the share of a rate that is the player's own.

    `rebaseline`: scale every rate so that the projected total meets the league's rate of the three years weighted
    5/4/3 (3/2/1 for pitchers), as Tango did ("mean"), that of the last year alone ("latest"), or leave it ("none").
    Projected is who has a major-league plate appearance (batter faced) in the last three seasons and, as a hitter,
    was not a pitcher in all of them.
    """

    name: str = "marcel"
    rebaseline: Rebaseline = "mean"

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)` from the three seasons before it."""
        season = target_season(as_of)
        known = league.before(as_of)
        who = people(known.players, season)
        batting = known.batting_seasons.filter(pl.col("league") == known.name, pl.col("PA") > 0).with_columns(SINGLES)
        pitching = known.pitching_seasons.filter(pl.col("league") == known.name, pl.col("BF") > 0).with_columns(
            (pl.col("BF") - pl.col("outs") - pl.col("H") - pl.col("BB") - pl.col("HBP")).alias("other")
        )
        return Projection.of(season, self._hitters(batting, who, season), self._pitchers(pitching, who, season))

    def _hitters(self, batting: pl.DataFrame, who: pl.DataFrame, season: int) -> pl.DataFrame:
        regressed = _regress(
            batting.filter((~pl.col("is_pitcher").fill_null(False)).any().over("player")),
            batting.filter(~pl.col("is_pitcher").fill_null(False)),
            season, "PA", HITTER_WEIGHTS, HITTER_PRIOR, list(HITTER_AGEING),
        )  # fmt: skip
        table = aged(regressed.join(who, on="player", how="left"), HITTER_AGEING).with_columns(
            PA=0.5 * pl.col("n1") + 0.1 * pl.col("n2") + 200
        )
        table = _rebaseline(table, "PA", list(HITTER_AGEING), self.rebaseline)
        return _counts(table, "PA", list(HITTER_AGEING)).select(
            "player", "Name", "Team", "PA",
            (pl.col("PA") - pl.col("BB") - pl.col("HBP") - pl.col("SF") - pl.col("SH")).alias("AB"),
            added("1B", "2B", "3B", "HR").alias("H"),
            *HITTER_AGEING, "reliability",
        ).sort("player")  # fmt: skip

    def _pitchers(self, pitching: pl.DataFrame, who: pl.DataFrame, season: int) -> pl.DataFrame:
        # what is not known of all three seasons (holds, where there are no games) stays null
        regressed = _regress(pitching, pitching, season, "outs", PITCHER_WEIGHTS, PITCHER_PRIOR, list(PITCHER_AGEING))
        table = aged(regressed.join(who, on="player", how="left"), PITCHER_AGEING).with_columns(
            outs=0.5 * pl.col("n1") + 0.1 * pl.col("n2") + 75 + 105 * pl.col("starts") / pl.col("games")
        )
        table = _rebaseline(table, "outs", list(PITCHER_AGEING), self.rebaseline)
        return _counts(table, "outs", list(PITCHER_AGEING)).select(
            "player", "Name", "Team", (pl.col("outs") / 3).alias("IP"),
            added("outs", "H", "BB", "HBP", "other").alias("TBF"),
            *(c for c in PITCHER_AGEING if c != "other"), "reliability",
        ).sort("player")  # fmt: skip


def people(players: pl.DataFrame, season: int) -> pl.DataFrame:
    """`player`, `Name` and `age` (the season less the year of birth; null where no register knows it)."""
    return players.select(
        "player",
        NAME,
        (season - pl.col("birth_date").dt.year()).alias("age"),
    )


def _regress(
    history: pl.DataFrame,
    pool: pl.DataFrame,
    season: int,
    exposure: str,
    weights: Sequence[int],
    prior: float,
    components: list[str],
) -> pl.DataFrame:
    """One row a player of `history`: regressed rates, `n1`, `n2` (exposure one and two years ago), `reliability`.

    The league rate a player is regressed to is that of `pool` in the three years, weighted by his own weighted
    exposure in each. `lg:` columns hold the league rates of all three years and of the last, for rebaselining.
    """
    weight = pl.lit(0.0)
    for lag, w in enumerate(weights, start=1):
        weight = pl.when(pl.col("season") == season - lag).then(float(w)).otherwise(weight)
    recent = pl.col("season").is_between(season - len(weights), season - 1)
    history, pool = (f.filter(recent).with_columns(w=weight) for f in (history, pool))
    n = pl.col(exposure).cast(pl.Float64)
    components = known_counts(pool, components)
    # rows in order, so that sums come out the same to the last bit
    seasons = (
        pool.sort("season", "player")
        .group_by("season", maintain_order=True)
        .agg(
            n.sum().alias("lg_n"),
            *((pl.col(c).cast(pl.Float64).sum() / n.sum()).alias(f"lg_{c}") for c in components),
        )
    )
    lg = seasons.with_columns(w=weight * pl.col("lg_n")).select(
        *((pl.col(f"lg_{c}") * pl.col("w")).sum().truediv(pl.col("w").sum()).alias(f"mean:{c}") for c in components),
        *(pl.col(f"lg_{c}").sort_by("season").last().alias(f"latest:{c}") for c in components),
    )
    wn = pl.col("w") * n
    own = (
        history.join(seasons, on="season", how="left")
        .sort("season", "player", descending=True)
        .group_by("player", maintain_order=True)
        .agg(
            pl.col("team").first().alias("Team"),
            wn.sum().alias("wn"),
            *(n.filter(pl.col("season") == season - lag).sum().alias(f"n{lag}") for lag in (1, 2)),
            *((pl.col("G").sum().alias("games"), pl.col("GS").sum().alias("starts")) if "GS" in components else ()),
            *((pl.col("w") * pl.col(c)).sum().alias(c) for c in components),
            # exposure may be zero (a pitcher who got nobody out): then the plain mean of his seasons
            *(
                pl.when(wn.sum() > 0)
                .then((wn * pl.col(f"lg_{c}")).sum() / wn.sum())
                .otherwise(pl.col(f"lg_{c}").mean())
                .alias(f"lg_{c}")
                for c in components
            ),
        )
    )
    return own.select(
        "player", "Team", "n1", "n2", *(c for c in ("games", "starts") if c in own.columns),
        *(((pl.col(c) + prior * pl.col(f"lg_{c}")) / (pl.col("wn") + prior)).alias(c) for c in components),
        (pl.col("wn") / (pl.col("wn") + prior)).alias("reliability"),
    ).join(lg, how="cross")  # fmt: skip


def known_counts(lines: pl.DataFrame, counts: Sequence[str]) -> list[str]:
    """Those of `counts` that are known in every season of `lines`, of some players at least."""
    seasons = lines.group_by("season").agg(pl.col(list(counts)).is_not_null().any())
    return [c for c in counts if seasons[c].all()]


def aged(table: pl.DataFrame, ageing: dict[str, int]) -> pl.DataFrame:
    """Rates times Tango's age factor: +0.6 % a year under 29; over 29 divided by 1 + 0.3 % a year.

    `table` has the columns of `people`; a player whose age nobody knows is neither young nor old: 29.
    """
    away = pl.col("age").fill_null(29) - 29
    factor = pl.when(away < 0).then(1 - 0.006 * away).otherwise(1 / (1 + 0.003 * away))
    moves = {c: factor if sign > 0 else 1 / factor for c, sign in ageing.items() if sign and c in table.columns}
    return table.with_columns(*((pl.col(c) * f).alias(c) for c, f in moves.items()))


def _rebaseline(table: pl.DataFrame, exposure: str, components: list[str], how: Rebaseline) -> pl.DataFrame:
    """Rates scaled so that the exposure-weighted projected rate is the league's; a league rate of zero stays zero."""
    if how == "none":
        return table
    n = pl.col(exposure)
    projected = {c: (pl.col(c) * n).sum() / n.sum() for c in components if c in table.columns}
    return table.with_columns(
        *(pl.when(p != 0).then(pl.col(c) * pl.col(f"{how}:{c}") / p).otherwise(pl.col(c)) for c, p in projected.items())
    )


def _counts(table: pl.DataFrame, exposure: str, components: list[str]) -> pl.DataFrame:
    """Rates times exposure; a component the history does not know is null."""
    return table.with_columns(
        *(
            (pl.col(c) * pl.col(exposure) if c in table.columns else pl.lit(None, dtype=pl.Float64)).alias(c)
            for c in components
        )
    )
