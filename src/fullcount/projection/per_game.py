"""Season rates without a season head: from per-game predictions, and from play simulated pitch by pitch.

Whatever gives rates becomes a System in `FromRates`, so that ways to a season differ in rates alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from fullcount.adaptation.heads import CountHead
from fullcount.adaptation.performance import EmbeddingCache, PerformanceTask, SampleSource
from fullcount.adaptation.samples import ahead
from fullcount.adaptation.schedule import meetings, newest_team, opponents, park_factors, past_parks
from fullcount.errors import FullcountError
from fullcount.fields import OUTCOMES
from fullcount.priors import EXTRAS, Priors, game_lines
from fullcount.projection.contextual import Contextual
from fullcount.projection.game_plans import plans_ahead
from fullcount.projection.simulation import load_simulator
from fullcount.projection.system import RefusalError, target_season
from fullcount.store import ROLES, PlayerRole, Store, day_number
from fullcount.training.jobs import load_task
from fullcount.training.run import fingerprint
from fullcount.windows import History, Int

Floats = NDArray[np.float64]
#: Rates [m, 7 + extras] per plate appearance of players [m] on a date, rows of NaN for whom nothing is said.
Rates = Callable[[PlayerRole, Int, date], Floats]

_OUT, _K = OUTCOMES.index("OUT"), OUTCOMES.index("K")


@dataclass(eq=False)
class FromRates(Contextual):
    """A System of any `said` rates, on the playing-time system's exposure, which also speaks where there are none."""

    said: Rates | None = None

    def rates(self, role: PlayerRole, players: Int, as_of: date) -> Floats:
        assert self.said is not None
        return self.said(role, players, as_of)


def prior_rates(store: Store) -> Rates:
    """The prior alone: shrunken rates of everybody with a plate appearance (batter faced) before the day."""
    priors = Priors(store)

    def said(role: PlayerRole, players: Int, as_of: date) -> Floats:
        days = np.full(len(players), day_number(as_of))
        found = np.concatenate([priors.rates(role, players, days)[:, 1:], priors.extras(role, players, days)], axis=1)
        known = priors.counts(role, players, days)[:, Priors.COLUMNS.index("exposure")] > 0
        return np.where(known[:, None], found, np.nan)

    return said


class PerGame:
    """Rates by runs fitted at game grain (anchored heads), asked on one day about all games of the season to come.

    Args:
        batter, pitcher: the runs.
        schedule: "average": every game is against the league's average in an average park, so that one stands for all;
            "real": the games of the team he played for last, against those who played for each opponent the season
            before, as good as they are on the day, in parks with the factors of the seasons before.

    Raises:
        FullcountError: a run is not of the role's games, or its head has no outcome mix.
    """

    def __init__(
        self, store: Store, batter: Path, pitcher: Path, schedule: Literal["average", "real"] = "average"
    ) -> None:
        self.store, self.schedule, self.priors = store, schedule, Priors(store)
        self._tasks: dict[PlayerRole, tuple[PerformanceTask, History, EmbeddingCache | None]] = {}
        self._cutoff = date.min
        for role, path in zip(ROLES, (batter, pitcher), strict=True):
            fitted = load_task(path)
            if (fitted.config.role, fitted.config.grain) != (role, "game"):
                raise FullcountError(f"{path}: fitted for {fitted.config.role}s at {fitted.config.grain} grain")
            if not isinstance(fitted.task.head, CountHead):
                raise FullcountError(f"{path}: per-game rates need head = anchored")
            history = History(store, fitted.config.history_window())
            self._tasks[role] = fitted.task, history, fitted.cache(history, self.priors)
            self._cutoff = max(self._cutoff, fitted.cutoff)

    def __call__(self, role: PlayerRole, players: Int, as_of: date) -> Floats:
        """[m, 7 + extras] rates; FullcountError before the cut-off date of what it was trained on."""
        if as_of < self._cutoff:
            raise RefusalError(f"per game: trained on play up to {self._cutoff}; it may not project {as_of}")
        task, history, cache = self._tasks[role]
        day, season = day_number(as_of), target_season(as_of)
        out = np.full((len(players), len(OUTCOMES) - 1 + len(EXTRAS[role])), np.nan)
        chosen, asked = ahead(history, self.priors, "game", players, day, season)
        if not len(chosen):
            return out
        source = SampleSource(task, history, self.priors, asked, cache, progress=False)
        batch = source.take(np.arange(len(asked))).to(task.center.device)
        assert isinstance(task.head, CountHead)
        with torch.no_grad():
            mix = task.head.mix(task.represent(batch), batch.targets).double().cpu().numpy()
        counts = source.expected()
        rates = counts * (mix[:, [_K]] / counts[:, [0]])  # expected counts over expected exposure
        if self.schedule == "real":
            met = season_mix(self.store, self.priors, role, players[chosen], mix, day, season)
            rates[:, : len(OUTCOMES) - 1] = met[:, 1:]
            if role == "pitcher":  # as many outs of each ball that is not safe
                outs = len(OUTCOMES) - 1 + EXTRAS[role].index("outs")
                rates[:, outs] *= met[:, [_OUT, _K]].sum(axis=1) / mix[:, [_OUT, _K]].sum(axis=1)
        out[chosen] = rates
        return out


def season_mix(
    store: Store, priors: Priors, role: PlayerRole, players: Int, mix: Floats, day: int, season: int
) -> Floats:
    """[m, 8] mean outcome mix of `players` over their teams' games of `season`, as known on `day`.

    Args:
        mix: [m, 8] against the league's average in an average park; kept by who has no team in the schedule.
    """
    games = meetings(store, priors.league_name, season)
    lines = game_lines(store, role, priors.league_name).filter(pl.col("date").cast(pl.Int32) < day)
    factors = park_factors(store, priors.league_name, season)
    who = newest_team(lines, players)
    here = past_parks(store, lines, factors, day)
    past = who.join(here, on="player", how="left", maintain_order="left").select("K", "HR", "R").fill_null(0.0)
    theirs = opponents(store, priors, role, day, season)
    ratios = [f"x{i}" for i in range(len(OUTCOMES) - 1)]
    theirs = theirs.select("opponent", (pl.col(ratios) - pl.col(ratios).mean()) / 3)  # `Priors.features`: 3 log
    kinds = (
        games.group_by("team", "opponent", "park")
        .len()
        .sort("team", "opponent", "park")
        .join(theirs, on="opponent", how="left", maintain_order="left")
        .join(factors, on="park", how="left", maintain_order="left")
        .with_columns(pl.col(*ratios, "K", "HR", "R").fill_null(0.0))
    )
    out = mix.copy()
    for (team,), part in kinds.group_by("team", maintain_order=True):
        mine = np.flatnonzero((who["team"] == team).fill_null(False).to_numpy())
        off = part.select("K", "HR", "R").to_numpy()[None] - past.to_numpy()[mine][:, None]
        log = np.zeros((len(mine), part.height, len(OUTCOMES)))
        log[:, :, 1:] = part.select(ratios).to_numpy()
        log += _of_park(off)
        out[mine] = over_games(mix[mine], np.exp(log), part["len"].to_numpy())
    return out


def over_games(mix: Floats, factors: Floats, times: NDArray[np.integer]) -> Floats:
    """[m, 8] mean of `mix` [m, 8] in kinds of games that make outcomes likelier by `factors` [m, G, 8], each of them
    played `times` [G]."""
    each = mix[:, None] * factors
    each /= each.sum(axis=-1, keepdims=True)
    return np.asarray(np.average(each, axis=1, weights=times))


def _of_park(logs: Floats) -> Floats:
    """[..., 8] what log factors [..., 3] of K, HR and R do to outcomes: to other hits half of what they do to runs."""
    by = {"K": logs[..., 0], "HR": logs[..., 1]} | dict.fromkeys(("1B", "2B", "3B"), 0.5 * logs[..., 2])
    return np.stack([by.get(o, np.zeros(logs.shape[:-1])) for o in OUTCOMES], axis=-1)


class Simulated:
    """Rates in seasons simulated ahead, pitch by pitch under the rules (see `plans_ahead`).

    Args:
        run: a next-event run.
        kept: folder where simulated seasons are kept.
        replays: how often the season is played; rows: games in lockstep (see `Simulator`).
        least: plate appearances (batters faced), over all replays, with which a player is spoken for.

    Raises:
        FullcountError: the run is no next-event run.
    """

    def __init__(
        self, store: Store, run: Path, kept: Path, replays: int = 2, least: int = 300, rows: int = 1024
    ) -> None:
        self._simulator, self._cutoff = load_simulator(run, store, rows=rows)
        self._key = f"{fingerprint(self._simulator.model.state_dict())}-{store.fingerprint()}-{rows}"
        self.store, self.run, self.kept, self.replays, self.least = store, run, kept, replays, least

    def __call__(self, role: PlayerRole, players: Int, as_of: date) -> Floats:
        """[m, 7 + extras] rates; FullcountError before the cut-off date of what the model was trained on."""
        lines = self.lines(role, as_of).filter(pl.col("n") >= self.least)
        names = [*OUTCOMES[1:], *EXTRAS[role]]
        who = pl.DataFrame({"player": players}, schema={"player": pl.Int64})
        found = who.join(lines.cast({"player": pl.Int64}), on="player", how="left", maintain_order="left")
        return found.select(pl.col(names) / pl.col("n")).fill_null(float("nan")).to_numpy().astype(np.float64)

    def lines(self, role: PlayerRole, as_of: date) -> pl.DataFrame:
        """player, n, outcomes and extras over all replays; null what is not simulated (who stole, who scored)."""
        if as_of < self._cutoff:
            raise RefusalError(f"{self.run}: has seen play up to {self._cutoff}, it cannot simulate after {as_of}")
        every = pl.concat([self._replay(role, as_of, seed) for seed in range(self.replays)])
        sums = pl.exclude("player", "seconds").cast(pl.Float64).sum()
        empty = [pl.lit(None, pl.Float64).alias(c) for c in EXTRAS[role] if c not in every.columns]
        return every.group_by("player").agg(sums).with_columns(*empty).sort("player")

    def seconds(self, as_of: date) -> float:
        """What the replays took."""
        return float(sum(self._replay("batter", as_of, seed)["seconds"][0] for seed in range(self.replays)))

    def _replay(self, role: PlayerRole, as_of: date, seed: int) -> pl.DataFrame:
        """Lines of one replay, from the folder or played now."""
        paths = {r: self.kept / f"{self._key}-{as_of}-{seed}-{r}.parquet" for r in ROLES}
        if not all(p.exists() for p in paths.values()):
            began = time.perf_counter()
            played = self._simulator.games(plans_ahead(self.store, as_of, seed), seed)
            seconds = pl.lit(time.perf_counter() - began).alias("seconds")
            hits = pl.col("H") - pl.col("2B") - pl.col("3B") - pl.col("HR")
            shared = (pl.col("SO").alias("K"), "BB", "2B", "3B", "HR", "HBP", seconds)
            self.kept.mkdir(parents=True, exist_ok=True)
            batting = played.batting().select("player", *shared, "1B", "RBI", "pitches", n="PA")
            pitching = played.pitching().select("player", *shared, "outs", "pitches", n="BF", **{"1B": hits})
            for path, lines in zip(paths.values(), (batting, pitching), strict=True):
                part = path.with_suffix(".part")
                lines.write_parquet(part)
                part.replace(path)
        return pl.read_parquet(paths[role])
