"""The truth as a System: what a projection that knew every player's talent would score."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import polars as pl

from fullcount.projection.marcel import Marcel
from fullcount.projection.system import League, Projection, System, target_season

_COUNTS = {"K%": "SO", "BB%": "BB", "HBP%": "HBP", "1B%": "1B", "2B%": "2B", "3B%": "3B", "HR%": "HR"}


@dataclass(eq=False)
class Oracle:
    """True rates of the projected season (of `SimulatedLeague.true_rates`) on the playing-time system's exposure.

    It breaks the as-of rule on purpose: the distance from it is what is left to gain, the rest is luck.
    """

    true_rates: pl.DataFrame
    name: str = "truth"
    playing_time: System = field(default_factory=Marcel)

    def project(self, as_of: date, league: League) -> Projection:
        """The talent of `target_season(as_of)`; players without a known talent as the playing-time system has them."""
        season = target_season(as_of)
        base = self.playing_time.project(as_of, league)
        truth = self.true_rates.filter(pl.col("season") == season)
        hitters = self._replace(base.hitters, truth.filter(pl.col("role") == "batter"), "PA")
        pitchers = self._replace(base.pitchers, truth.filter(pl.col("role") == "pitcher"), "TBF")
        return Projection.of(season, hitters, pitchers)

    def _replace(self, table: pl.DataFrame, truth: pl.DataFrame, exposure: str) -> pl.DataFrame:
        known = truth.select("player", *(pl.col(c).alias(f"t:{c}") for c in _COUNTS))
        joined = table.join(known, on="player", how="left", maintain_order="left")
        counts = {
            n: pl.coalesce(pl.col(f"t:{r}") * pl.col(exposure), n) for r, n in _COUNTS.items() if n in table.columns
        }
        hits = pl.sum_horizontal([pl.col(f"t:{c}") for c in ("1B%", "2B%", "3B%", "HR%")], ignore_nulls=False)
        joined = joined.with_columns(
            pl.coalesce(hits * pl.col(exposure), "H").alias("H"), *(e.alias(n) for n, e in counts.items())
        )
        return joined.drop(pl.selectors.starts_with("t:"))
