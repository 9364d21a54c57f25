"""Systems against what happened: every season, cohort, statistic and metric in one long table.

Each season is projected as of a day before it began, from the league of that day. Systems are compared on the players
all of them project, and by player-paired bootstrap against the first system named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fullcount.errors import FullcountError
from fullcount.evaluation.ceilings import ceiling
from fullcount.evaluation.cohorts import COHORTS, Cohort, league_mean, outcomes
from fullcount.evaluation.metrics import CATEGORIES, METRICS, Array, interval, resamples, standings
from fullcount.projection.system import COUNTS, EXPOSURE, RATES, League, Projection, Role, System, rates

Bools = npt.NDArray[np.bool_]
Row = dict[str, object]

STATS: dict[Role, tuple[str, ...]] = {
    "hitters": (
        "PA", "H", "HR", "R", "RBI", "SB", "BB", "SO", "AVG", "OBP", "SLG", "wOBA", "K%", "BB%", "HR%", "SB/PA",
        *CATEGORIES,
    ),
    "pitchers": ("IP", "W", "SV", "HLD", "SO", "ERA", "WHIP", "K/9", "BB/9", "HR/9", "K%", "BB%"),
}  # fmt: skip
#: Least projected PA or IP at which a system's rates are read: old files round counts to integers.
RATE_FLOOR: dict[Role, float] = {"hitters": 100.0, "pitchers": 25.0}
#: Metrics with intervals; for rho3 and rho5 it is `spearman`.
INTERVALS = ("r", "rmse")


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """`table`: a row per season, role, cohort, stat, system with n, METRICS, coverage, ceiling, ceiling_share.

    `coverage` is the share of the cohort (by weight) the system projects; `ceiling_share` = (r / ceiling)^2. rho3 and
    rho5 are rows whose `spearman` is the rank correlation.
    `mean`: the same, mean over seasons with equal weight; n is the sum, `seasons` how many.
    `intervals`: per role, cohort, stat, metric, system the mean over seasons `value` with `low`, `high`, and its
    `difference` from the first system with `difference_low`, `difference_high` (95 %, players drawn in pairs).
    """

    reference: str
    table: pl.DataFrame
    mean: pl.DataFrame
    intervals: pl.DataFrame


def backtest(
    systems: Sequence[System],
    league: League,
    seasons: Iterable[int],
    cohorts: Sequence[str | Cohort] = ("A", "B", "C"),
    *,
    common: bool = True,
    bootstrap: int = 2000,
    seed: int = 0,
    playing_time: Literal["own", "reference"] = "own",
    as_of: tuple[int, int] = (3, 1),
    stats: Mapping[Role, Sequence[str]] = STATS,
    rate_floor: Mapping[Role, float] = RATE_FLOOR,
) -> BacktestResult:
    """Project every season with every system as of (month, day) of `as_of` and judge it.

    The first system is the reference: of cohort B, of shared playing time and of paired differences.
    `common`: judge on the players all systems project (a statistic a system never gives counts it out there); else
    each on its own, differences still on shared players. `bootstrap`: draws, 0 for none.
    `playing_time="reference"`: counts become each system's rates in the reference's PA (IP); who the reference does
    not project is then not projected. Rates are read only from `rate_floor` PA (IP) projected on.
    FullcountError for no or repeated systems, unknown cohorts or statistics, a season nobody played.
    """
    systems, seasons = list(systems), sorted(set(seasons))
    names = [s.name for s in systems]
    if not systems or not seasons or len(set(names)) != len(names):
        raise FullcountError(f"a backtest needs seasons and differently named systems, got {names} and {seasons}")
    groups = [_cohort(c) for c in cohorts]
    for role, wanted in stats.items():
        unknown = set(wanted) - set(COUNTS[role]) - set(RATES[role]) - (set(CATEGORIES) if role == "hitters" else set())
        if unknown:
            raise FullcountError(f"no statistic {', '.join(sorted(unknown))} of {role}")

    matches: dict[tuple[Role, str], list[_Match]] = {}
    for season in seasons:
        day = date(season, *as_of)
        actual = outcomes(league, season)
        projected = [s.project(day, league) for s in systems]
        for system, projection in zip(systems, projected, strict=True):
            if projection.season != season:
                raise FullcountError(f"{system.name} projected {projection.season}, asked for {season}")
        for role in stats:
            tables = [_prepared(p, projected[0], role, playing_time, rate_floor[role]) for p in projected]
            for group in groups:
                members = group.members(actual.role(role), projected[0].role(role), role)
                fill = _prepared_mean(league, day, role) if group.everyone else None
                match = _Match(season, role, members, rates(actual.role(role), role), tables, fill)
                matches.setdefault((role, group.name), []).append(match)

    rows: list[Row] = []
    intervals: list[Row] = []
    for (role, cohort), parts in matches.items():
        draws = _Draws(parts, bootstrap, seed) if bootstrap and any(len(m.player) for m in parts) else None
        for stat in stats[role]:
            head: Row = {"role": role, "cohort": cohort, "stat": stat}
            rows += [{"season": m.season, **head, **r} for m in parts for r in m.scores(stat, names, common)]
            if draws is not None:
                intervals += [{**head, **r} for r in _intervals(parts, stat, names, common, draws)]
    return _result(names, rows, intervals)


class _Match:
    """One season, role and cohort: aligned arrays of outcomes and of each system's projections."""

    def __init__(
        self,
        season: int,
        role: Role,
        members: pl.DataFrame,
        actual: pl.DataFrame,
        tables: list[pl.DataFrame],
        fill: pl.DataFrame | None,
    ) -> None:
        self.season, self.role = season, role
        self.player = members["player"].to_numpy()
        self.weight = members["weight"].cast(pl.Float64).to_numpy()
        who = members.select("player")
        self.actual = who.join(actual, on="player", how="left", maintain_order="left")
        self._predicted = [who.join(t, on="player", how="left", maintain_order="left") for t in tables]
        self._fill = fill

    def series(self, table: pl.DataFrame, stat: str, mask: Bools) -> Array:
        """`stat` of the players in `mask`; of rho3 and rho5 the standings among them."""
        if stat not in CATEGORIES:
            return _array(table, stat)[mask]
        return standings({c: _array(table, c)[mask] for c in _needs(stat)}, CATEGORIES[stat])

    def predicted(self, system: int, stat: str) -> pl.DataFrame:
        """A system's table; in the cohort of everyone, who it does not project is given the league mean."""
        table = self._predicted[system]
        if self._fill is None:
            return table
        return table.with_columns(pl.col(c).fill_null(self._fill[c][0]) for c in _needs(stat) if c in table.columns)

    def known(self, system: int, stat: str) -> Bools:
        """Who the system itself projects."""
        return _all([np.isfinite(_array(self._predicted[system], c)) for c in _needs(stat)])

    def usable(self, system: int, stat: str) -> Bools:
        """Who can be judged: projected or filled, and with an outcome."""
        happened = [np.isfinite(_array(self.actual, c)) for c in _needs(stat)]
        known = self.known(system, stat)
        filled = np.full(len(known), self._fill is not None and bool(known.any()))
        return _all([known | filled, *happened, self.weight > 0])

    def shared(self, systems: Iterable[int], stat: str) -> Bools:
        """Who every system can be judged on; one that never gives the statistic has no say."""
        speaking = [u for u in (self.usable(s, stat) for s in systems) if u.any()]
        return _all(speaking) if speaking else np.zeros(len(self.player), bool)

    def scores(self, stat: str, names: Sequence[str], common: bool) -> list[Row]:
        """One row a system."""
        everyone = self.shared(range(len(names)), stat)
        rows: list[Row] = []
        for i, name in enumerate(names):
            usable = self.usable(i, stat)
            mask = everyone if common else usable
            if not usable.any() or not mask.any():
                continue
            x, y = self.series(self.predicted(i, stat), stat, mask), self.series(self.actual, stat, mask)
            w = self.weight[mask]
            row: Row = {"system": name, "n": int(mask.sum())}
            row |= {metric: float(f(x, y, w)) for metric, f in METRICS.items()}
            best = ceiling(self.actual.filter(mask), self.role, stat, y, w)
            share = (max(0.0, float(row["r"])) / best) ** 2 if best > 0 else float("nan")  # type: ignore[arg-type]
            coverage = float(self.weight[self.known(i, stat)].sum() / self.weight.sum())
            rows.append({**row, "coverage": coverage, "ceiling": best, "ceiling_share": share})
        return rows


class _Draws:
    """Bootstrap weights of one role and cohort: players are drawn once for all seasons, systems and statistics."""

    def __init__(self, parts: list[_Match], draws: int, seed: int) -> None:
        players = np.unique(np.concatenate([m.player for m in parts]))
        drawn = resamples(len(players), draws, seed)
        self._all = {m.season: drawn[:, np.searchsorted(players, m.player)] * m.weight for m in parts}
        self._last: dict[int, tuple[Bools, Array]] = {}  # most statistics are judged on the same players

    def weights(self, season: int, mask: Bools) -> Array:
        """(draws, players in mask)."""
        if season not in self._last or not np.array_equal(self._last[season][0], mask):
            self._last[season] = (mask, self._all[season][:, mask])
        return self._last[season][1]


def _intervals(parts: list[_Match], stat: str, names: Sequence[str], common: bool, draws: _Draws) -> list[Row]:
    """Bootstrap rows of one statistic."""
    metrics = ("spearman",) if stat in CATEGORIES else INTERVALS
    points: dict[tuple[int, str], list[tuple[float, float]]] = {}
    spreads: dict[tuple[int, str], list[tuple[Array, Array]]] = {}
    for m in parts:
        reference: dict[str, tuple[Bools, Array, Array]] = {}
        for i in range(len(names)):
            mask = m.shared(range(len(names)) if common else (0, i), stat)
            if not (m.usable(0, stat).any() and m.usable(i, stat).any() and mask.sum() > 2):
                continue
            y, w = m.series(m.actual, stat, mask), draws.weights(m.season, mask)
            x = m.series(m.predicted(i, stat), stat, mask)
            for metric in metrics:
                f = METRICS[metric]
                if metric not in reference or not np.array_equal(reference[metric][0], mask):
                    first = m.series(m.predicted(0, stat), stat, mask)
                    reference[metric] = (mask, f(first, y, m.weight[mask]), f(first, y, w))
                _, point, spread = reference[metric]
                points.setdefault((i, metric), []).append((float(point), float(f(x, y, m.weight[mask]))))
                spreads.setdefault((i, metric), []).append((spread, f(x, y, w) if i else spread))
    rows: list[Row] = []
    for (i, metric), values in points.items():
        (first_value, value), (first_spread, spread) = (np.mean(v, axis=0) for v in (values, spreads[i, metric]))
        own, paired = interval(value, spread), interval(value - first_value, spread - first_spread)
        rows.append({
            "metric": metric, "system": names[i], "reference": names[0], "seasons": len(values),
            "value": own.value, "low": own.low, "high": own.high,
            "difference": paired.value, "difference_low": paired.low, "difference_high": paired.high,
        })  # fmt: skip
    return rows


def _prepared(
    projection: Projection, reference: Projection, role: Role, playing_time: str, floor: float
) -> pl.DataFrame:
    """A projection's counts and rates; rates null under `floor`, counts in the reference's playing time if asked."""
    n = EXPOSURE[role]
    table = rates(projection.role(role).select("player", *COUNTS[role]), role)
    table = table.with_columns(pl.when(pl.col(n) >= floor).then(pl.col(c)).alias(c) for c in RATES[role])
    if playing_time == "reference":
        theirs = reference.role(role).select("player", pl.col(n).alias("theirs"))
        scale = pl.when(pl.col(n) > 0).then(pl.col("theirs") / pl.col(n))
        table = table.join(theirs, on="player").with_columns(pl.col(c) * scale for c in COUNTS[role]).drop("theirs")
    return table


def _prepared_mean(league: League, day: date, role: Role) -> pl.DataFrame:
    return rates(league_mean(league, day, role), role)


def _needs(stat: str) -> tuple[str, ...]:
    """Columns a statistic is made of."""
    if stat not in CATEGORIES:
        return (stat,)
    return (*(c for c in CATEGORIES[stat] if c != "OBP"), "PA", "H", "BB", "HBP")


def _array(table: pl.DataFrame, column: str) -> Array:
    return table[column].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)


def _all(masks: Sequence[Bools]) -> Bools:
    result: Bools = np.logical_and.reduce(masks)
    return result


def _cohort(cohort: str | Cohort) -> Cohort:
    if isinstance(cohort, Cohort):
        return cohort
    if cohort not in COHORTS:
        raise FullcountError(f"no cohort {cohort!r}; there are {', '.join(COHORTS)}")
    return COHORTS[cohort]


def _result(names: Sequence[str], rows: list[Row], intervals: list[Row]) -> BacktestResult:
    keys = ["role", "cohort", "stat", "system"]
    numbers = [*METRICS, "coverage", "ceiling", "ceiling_share"]
    schema = {"season": pl.Int64, **dict.fromkeys(keys, pl.String), "n": pl.Int64, **dict.fromkeys(numbers, pl.Float64)}
    table = pl.DataFrame(rows, schema=schema).with_columns(pl.col(numbers).fill_nan(None))
    mean = table.group_by(keys, maintain_order=True).agg(
        pl.len().alias("seasons"), pl.col("n").sum(), pl.col(numbers).mean()
    )
    bounds = ["value", "low", "high", "difference", "difference_low", "difference_high"]
    intervals_schema = {
        **dict.fromkeys(["role", "cohort", "stat", "metric", "system", "reference"], pl.String),
        "seasons": pl.Int64,
        **dict.fromkeys(bounds, pl.Float64),
    }
    frame = pl.DataFrame(intervals, schema=intervals_schema).with_columns(pl.col(bounds).fill_nan(None))
    return BacktestResult(names[0], table, mean, frame)
