"""The contextual model as a System: fitted heads on pre-trained game embeddings give rates, Marcel the playing time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.adaptation.performance import EmbeddingCache, PerformanceTask, SampleSource
from fullcount.adaptation.samples import Samples, is_recent, known
from fullcount.adaptation.schedule import ScheduleName, scheduled
from fullcount.errors import FullcountError
from fullcount.fields import OUTCOMES
from fullcount.priors import EXTRAS, Priors
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import League, Projection, RefusalError, System, added, target_season
from fullcount.store import PlayerRole, Store, day_number
from fullcount.training.jobs import load_task
from fullcount.windows import History


@dataclass(eq=False)
class Contextual:
    """Projects with fitted runs (`fullcount finetune`, season grain), one a role; either may be missing.

    Plate appearances, innings, games, wins and saves are the playing-time system's; a player with no recent events is
    projected by it altogether. Column `system` says which of the two spoke.
    """

    store: Store
    batter: Path | None = None
    pitcher: Path | None = None
    name: str = "contextual"
    playing_time: System = field(default_factory=Marcel)

    def __post_init__(self) -> None:
        self._priors = Priors(self.store)
        self._tasks: dict[PlayerRole, tuple[PerformanceTask, History, EmbeddingCache | None, ScheduleName]] = {}
        self._cutoff: date = date.min
        for role, path in (("batter", self.batter), ("pitcher", self.pitcher)):
            if path is None:
                continue
            fitted = load_task(path)
            config = fitted.config
            if config.role != role or config.grain != "season":
                raise FullcountError(f"{path}: fitted for {config.role}s at {config.grain} grain, not {role}s' seasons")
            history = History(self.store, config.history_window())
            cache = fitted.cache(history, self._priors)
            self._tasks[config.role] = fitted.task, history, cache, config.schedule
            self._cutoff = max(self._cutoff, fitted.cutoff)

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`. FullcountError before the cut-off date of what it was trained on."""
        if as_of < self._cutoff:
            raise RefusalError(f"{self.name} was trained on play up to {self._cutoff}; it may not project {as_of}")
        base = self.playing_time.project(as_of, league)
        hitters = self._speak(base.hitters, "batter", as_of)
        pitchers = self._speak(base.pitchers, "pitcher", as_of)
        return Projection.of(target_season(as_of), _hitters(hitters), _pitchers(pitchers))

    def _speak(self, base: pl.DataFrame, role: PlayerRole, as_of: date) -> pl.DataFrame:
        """`base` with columns r:K, r:BB, ... rates per plate appearance (null where the fallback speaks)."""
        names = [f"r:{o}" for o in (*OUTCOMES[1:], *EXTRAS[role])]
        who = base["player"].to_numpy().astype(np.int64)
        rates = self.rates(role, who, as_of)
        table = pl.DataFrame(rates, schema=names).select(pl.all().fill_nan(None))
        spoke = pl.when(pl.col(names[0]).is_null()).then(pl.lit(self.playing_time.name)).otherwise(pl.lit(self.name))
        return pl.concat([base, table], how="horizontal").with_columns(spoke.alias("system"))

    def rates(self, role: PlayerRole, players: NDArray[np.int64], as_of: date) -> NDArray[np.float64]:
        """[m, 7 + extras] expected rates per plate appearance (batter faced); NaN rows for players it does not know."""
        width = len(OUTCOMES) - 1 + len(EXTRAS[role])
        out = np.full((len(players), width), np.nan)
        if role not in self._tasks:
            return out
        task, history, cache, schedule = self._tasks[role]
        day = np.full(len(players), day_number(as_of))
        first, stop = history.before(players, day)
        chosen = np.flatnonzero(is_recent(history, first, stop, day))
        if not len(chosen):
            return out
        asked = Samples(
            role=role,
            grain="season",
            player=players[chosen],
            day=day[chosen],
            season=np.full(len(chosen), target_season(as_of)),
            game_id=np.zeros(0, dtype=str),
            first=first[chosen],
            stop=stop[chosen],
            targets=known(self._priors, role, players[chosen], day[chosen]),
        )
        asked = scheduled(asked, self.store, self._priors, schedule)
        out[chosen] = SampleSource(task, history, self._priors, asked, cache, progress=False).expected()
        return out


def _said(column: str, otherwise: str) -> pl.Expr:
    """A contextual count where there is one, else the fallback's."""
    return pl.coalesce(pl.col("n") * pl.col(f"r:{column}"), pl.col(otherwise)).alias(otherwise)


def _hitters(table: pl.DataFrame) -> pl.DataFrame:
    table = table.with_columns(pl.col("PA").alias("n"))
    steals = pl.when(pl.col("SB") > 0).then(pl.col("n") * pl.col("r:SB") / pl.col("SB"))
    table = table.with_columns(
        _said("K", "SO"),
        *(_said(c, c) for c in ("BB", "1B", "2B", "3B", "HR", "HBP", "R", "RBI")),
        pl.coalesce(pl.col("CS") * steals, pl.col("CS")).alias("CS"),
        _said("SB", "SB"),
    )
    return table.with_columns(
        added("1B", "2B", "3B", "HR").alias("H"),
        (pl.col("PA") - added("BB", "HBP", "SF", "SH")).alias("AB"),
    ).drop("n", pl.selectors.starts_with("r:"))


def _pitchers(table: pl.DataFrame) -> pl.DataFrame:
    # Innings are the playing-time system's; how many batters it takes to get through them is the model's.
    table = table.with_columns(pl.coalesce(3 * pl.col("IP") / pl.col("r:outs"), pl.col("TBF")).alias("n"))
    hits = pl.col("r:1B") + pl.col("r:2B") + pl.col("r:3B") + pl.col("r:HR")
    runs = pl.when(pl.col("ER") > 0).then(pl.col("R") / pl.col("ER"))  # unearned runs at the fallback's proportion
    return table.with_columns(
        _said("K", "SO"),
        *(_said(c, c) for c in ("BB", "HR", "HBP")),
        pl.coalesce(pl.col("n") * hits, pl.col("H")).alias("H"),
        pl.coalesce(pl.col("n") * pl.col("r:ER") * runs, pl.col("R")).alias("R"),
        _said("ER", "ER"),
        pl.col("n").alias("TBF"),
    ).drop("n", pl.selectors.starts_with("r:"))
