"""Boosted Marcel: trees that learn from earlier seasons where Marcel is wrong, refitted for every season projected.

Rates and playing time are boosted apart: each rate by the difference from Marcel's, weighted by playing time, and plate
appearances (innings) by the difference from Marcel's among those who lasted. Differences of *counts*, as in the
published `marcel_gb`, reach the same correlations of counts and spoil every rate: they hide playing time in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.projection.aggregates import recent
from fullcount.projection.facts import LEARNED, base, examples, fact_names, facts, matrix
from fullcount.projection.kept import by_role, kept
from fullcount.projection.parts import composed
from fullcount.projection.system import EXPOSURE, League, Projection, Role, System, target_season
from fullcount.store import Store

Floats = NDArray[np.float64]

#: Those that are boosted from `BoostedMarcel.start`.
STARTED: dict[Role, tuple[str, ...]] = {
    "hitters": LEARNED["hitters"],
    "pitchers": ("SO", "BB", "HR", "H", "ER"),
}
#: Groups of aggregates that are read. Hands, opponents, parks and situation added nothing in 2012-18.
READ = ("discipline", "contact")
#: Least playing time of a line whose rates are learned from, in PA and IP.
_LEAST_LINE: dict[Role, float] = {"hitters": 50.0, "pitchers": 20.0}
#: With fewer lines than this to learn from Marcel stays as he is.
LEAST_ROWS = 200
#: Chosen on 2012-2018.
PARAMETERS = {
    "objective": "l2", "learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 50, "bagging_fraction": 0.7,
    "bagging_freq": 1, "feature_fraction": 0.4, "lambda_l2": 20.0, "max_bin": 63, "seed": 0, "deterministic": True,
    "force_col_wise": True, "enable_bundle": False, "num_threads": 1, "verbose": -1,
}  # fmt: skip
TREES = 120


@dataclass(frozen=True)
class BoostedMarcel:
    """Marcel plus boosted differences, learned from the seasons `first` .. the one before the projected.

    `least_pa`, `least_ip`: playing time is learned from those who had at least so much. 200 PA and 50 innings, the
    default, say how much a man plays *if* he keeps his place, which is what published tables (cohort A) judge; 1
    says how much he plays on the whole, which cohort B judges. Rates do not depend on it.
    Whom Marcel projects is projected.
    `start`: whose rates the differences are from, where not Marcel's; wins, saves and holds always are from his.
    `pitches`: a store whose aggregates (see `aggregates.recent`) are read beside the season lines.
    """

    name: str = "marcel_gb"
    least_pa: float = 200.0
    least_ip: float = 50.0
    first: int = 2001
    start: System | None = None
    pitches: Store | None = None

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`; fitted once a season and league."""
        season = target_season(as_of)
        return Projection.of(season, *by_role(lambda role: kept(_boosted, league, self, role, season)))


def _boosted(league: League, system: BoostedMarcel, role: Role, season: int) -> pl.DataFrame:
    lines, line = examples(league, role, system.first, season), facts(league, role, season)
    seasons = lines["season"].unique(maintain_order=True)
    past = pl.concat([kept(_example, league, system, role, s) for s in seasons], how="diagonal_relaxed")
    now = _as_read(line, league, system, role, season)
    n, least = EXPOSURE[role], system.least_pa if role == "hitters" else system.least_ip
    learned = differences(past, now, role, least)
    by, weight = learned.pop(n)
    rows = weight > 0  # pitches and fitted rates say nothing of playing time that lines do not
    said = boost(lines.filter(rows), line, {n: pl.Series(by[rows])})
    if learned:
        weight = next(iter(learned.values()))[1]
        rows = weight > 0
        labels = {c: pl.Series(by[rows]) for c, (by, _) in learned.items()}
        said |= boost(past.filter(rows), now, labels, weight[rows])
    return moved(_started(league, system, season).role(role), now, role, said)


def _started(league: League, system: BoostedMarcel, season: int) -> Projection:
    """What the differences start from."""
    return base(league, season) if system.start is None else system.start.project(date(season, 3, 1), league)


def _example(league: League, system: BoostedMarcel, role: Role, season: int) -> pl.DataFrame:
    return _as_read(examples(league, role, season, season + 1), league, system, role, season)


def _as_read(table: pl.DataFrame, league: League, system: BoostedMarcel, role: Role, season: int) -> pl.DataFrame:
    """`facts` of `season` with the rates that `system` starts from, and its aggregates."""
    n = EXPOSURE[role]
    if system.start is not None:
        said = _started(league, system, season).role(role)
        rates = said.select("player", *((pl.col(c) / pl.col(n)).alias(f"m:{c}") for c in STARTED[role]))
        table = table.update(rates, on="player")
    if system.pitches is None:
        return table
    read = recent(system.pitches, role, season, READ)
    return table.join(read, on="player", how="left", maintain_order="left")


def boost(
    past: pl.DataFrame, now: pl.DataFrame, labels: Mapping[str, pl.Series], weight: Floats | None = None
) -> dict[str, Floats]:
    """What trees on the facts of `past` that learn each of `labels` [rows of past] say of `now` [rows].

    0 with too few rows to learn from.
    """
    if past.height < LEAST_ROWS:
        return {c: np.zeros(now.height) for c in labels}
    names = fact_names(now)
    data, asked, said = lightgbm.Dataset(matrix(past, names), weight=weight), matrix(now, names), {}
    for c, label in labels.items():
        spread = float(label.std() or 0.0) or 1.0  # type: ignore[arg-type]
        data.set_label(label.to_numpy() / spread)
        said[c] = np.asarray(lightgbm.train(PARAMETERS, data, TREES).predict(asked)) * spread
    return said


def differences(past: pl.DataFrame, now: pl.DataFrame, role: Role, least: float) -> dict[str, tuple[Floats, Floats]]:
    """What is learned from `past`: by statistic the difference from Marcel, and its weight [rows].

    PA or IP itself: playing time of those who had `least` of it; else rates of LEARNED, weighted by playing time, those
    that this store and `now` know. Weight 0: not learned from. Weights of rates are the same.
    """
    n = EXPOSURE[role]
    played, length = past[f"y:{n}"].to_numpy(), past["length"].to_numpy()
    learned = {n: (played * length - past[n].to_numpy(), (played * length >= least).astype(np.float64))}
    weight = np.where(played >= _LEAST_LINE[role], played, 0.0)
    for c in LEARNED[role]:
        if not now[f"m:{c}"].null_count() and not past.filter(weight > 0)[f"y:{c}"].null_count():
            rate = past[f"y:{c}"].to_numpy() / np.maximum(played, 1.0)
            learned[c] = np.where(weight > 0, rate - past[f"m:{c}"].to_numpy(), 0.0), weight
    return learned


def moved(table: pl.DataFrame, now: pl.DataFrame, role: Role, by: dict[str, Floats]) -> pl.DataFrame:
    """Marcel's `table` of a Projection moved `by` differences, by statistic [rows]; playing time from that of `now`."""
    n = EXPOSURE[role]
    rates = {c: np.maximum(now[f"m:{c}"].to_numpy() + d, 0.0) for c, d in by.items() if c != n}
    return composed(table, role, rates, np.maximum(now[n].to_numpy() + by.get(n, 0.0), 1.0))
