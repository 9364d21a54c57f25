"""Boosted Marcel: trees that learn from earlier seasons where Marcel is wrong, refitted for every season projected.

Rates and playing time are boosted apart: each rate by the difference from Marcel's, weighted by playing time, and plate
appearances (innings) by the difference from Marcel's among those who lasted. Differences of *counts*, as in the
published `marcel_gb`, reach the same correlations of counts and spoil every rate: they hide playing time in them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from threading import Lock
from typing import Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fullcount.projection.aggregates import recent
from fullcount.projection.marcel import HITTER_AGEING, Marcel, people
from fullcount.projection.system import (
    EXPOSURE,
    ROLES,
    SINGLES,
    League,
    Projection,
    RefusalError,
    Role,
    System,
    target_season,
)
from fullcount.store import Store

Floats = NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")

LAGS = (1, 2, 3)
#: Counts of season lines that facts are made of.
LINES: dict[Role, tuple[str, ...]] = {
    "hitters": tuple(HITTER_AGEING),
    "pitchers": ("SO", "BB", "HR", "H", "ER", "R", "HBP", "W", "L", "SV", "GS", "GF"),
}
#: Rates that are boosted. The others stay Marcel's, or keep their proportion to one of these (see `composed`).
BOOSTED: dict[Role, tuple[str, ...]] = {
    "hitters": ("SO", "BB", "1B", "2B", "3B", "HR", "R", "RBI", "SB", "CS"),
    "pitchers": ("SO", "BB", "HR", "H", "ER", "W", "SV", "HLD"),
}
#: What is boosted and no fact: holds read beside saves and games finished told nothing in 2016-19, not even of holds.
UNREAD = {"HLD"}
#: Those that are boosted from `BoostedMarcel.start`.
STARTED: dict[Role, tuple[str, ...]] = {
    "hitters": BOOSTED["hitters"],
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
    "force_row_wise": True, "num_threads": 1, "verbose": -1,
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

    PA or IP itself: playing time of those who had `least` of it; else rates of BOOSTED, weighted by playing time, those
    that this store and `now` know. Weight 0: not learned from. Weights of rates are the same.
    """
    n = EXPOSURE[role]
    played, length = past[f"y:{n}"].to_numpy(), past["length"].to_numpy()
    learned = {n: (played * length - past[n].to_numpy(), (played * length >= least).astype(np.float64))}
    weight = np.where(played >= _LEAST_LINE[role], played, 0.0)
    for c in BOOSTED[role]:
        if not now[f"m:{c}"].null_count() and not past.filter(weight > 0)[f"y:{c}"].null_count():
            rate = past[f"y:{c}"].to_numpy() / np.maximum(played, 1.0)
            learned[c] = np.where(weight > 0, rate - past[f"m:{c}"].to_numpy(), 0.0), weight
    return learned


def moved(table: pl.DataFrame, now: pl.DataFrame, role: Role, by: dict[str, Floats]) -> pl.DataFrame:
    """Marcel's `table` of a Projection moved `by` differences, by statistic [rows]; playing time from that of `now`."""
    n = EXPOSURE[role]
    rates = {c: np.maximum(now[f"m:{c}"].to_numpy() + d, 0.0) for c, d in by.items() if c != n}
    return composed(table, role, rates, np.maximum(now[n].to_numpy() + by.get(n, 0.0), 1.0))


def composed(table: pl.DataFrame, role: Role, rates: dict[str, Floats], exposure: Floats) -> pl.DataFrame:
    """A Projection's table with new `rates` (per PA or IP, [rows]) in `exposure` PA or IP [rows].

    Counts without a new rate keep theirs or, CS and pitchers' R, their proportion to SB and ER. H, AB and TBF are sums.
    """
    n = EXPOSURE[role]
    table = table.with_columns(n=exposure)
    counts = [c for c in table.columns if c not in ("player", "Name", "Team", "n", "reliability")]
    linked = ("CS", "SB") if role == "hitters" else ("R", "ER")
    proportion = pl.when(pl.col(linked[1]) > 0).then(pl.col(linked[0]) / pl.col(linked[1])).otherwise(0.0)
    if role == "pitchers":
        table = table.with_columns(other=pl.col("TBF") - 3 * pl.col("IP") - pl.sum_horizontal("H", "BB", "HBP"))
        counts.append("other")
    table = table.with_columns(
        proportion.alias("proportion"),
        *(pl.col(c) / pl.col(n) * pl.col("n") for c in counts if c not in rates),
        *(pl.Series(c, rate * exposure) for c, rate in rates.items()),
    )
    if linked[1] in rates and linked[0] not in rates:
        table = table.with_columns((pl.col("proportion") * pl.col(linked[1])).alias(linked[0]))
    if role == "hitters":
        table = table.with_columns(
            H=pl.sum_horizontal("1B", "2B", "3B", "HR"), AB=pl.col("PA") - pl.sum_horizontal("BB", "HBP", "SF", "SH")
        )
    else:
        table = table.with_columns(TBF=3 * pl.col("IP") + pl.sum_horizontal("H", "BB", "HBP", "other"))
    return table.drop("n", "proportion", "other", strict=False)


# ------------------------------------------------------------------------------------------------------------ facts


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
    names = [c for c in dict.fromkeys((*LINES[role], *BOOSTED[role])) if c in marcel.columns and c != n]
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
    happened = own_lines(known, role).filter(pl.col("season") == season)
    if happened.is_empty():
        return pl.DataFrame()
    if role == "pitchers":
        happened = happened.with_columns(IP=pl.col("outs") / 3)
    names = dict.fromkeys([n, *LINES[role], *BOOSTED[role], *(("G",) if role == "pitchers" else ())])
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


def _lengths(known: League) -> pl.DataFrame:
    """Of each season how many times longer the longest of the last ten was (2020: 2.7), by the games of those who
    played most."""
    games = known.batting_seasons.filter(pl.col("league") == known.name).group_by("season").agg(pl.col("G").max())
    longest = games.filter(pl.col("season") > pl.col("season").max() - 10)["G"].max()
    return games.select("season", length=pl.lit(longest) / pl.col("G").cast(pl.Float64)).sort("season")


_KEPT: WeakKeyDictionary[League, dict[Hashable, Future[object]]] = WeakKeyDictionary()
_ASKING = Lock()


def kept(make: Callable[Concatenate[League, P], T], league: League, *dated: P.args, **options: P.kwargs) -> T:
    """`make(league, *dated)`, remembered as long as `league` lives: a backtest asks the same of many seasons.

    `make` may read nothing of the league that `dated` does not date. Threads that ask the same wait for the first.
    """
    key = (make, *dated, *options.items())
    with _ASKING:
        store = _KEPT.setdefault(league, {})
        first = key not in store
        answer = store.setdefault(key, Future())
    if first:
        try:
            answer.set_result(make(league, *dated, **options))
        except BaseException as error:
            del store[key]
            answer.set_exception(error)
    return cast(T, answer.result())


def by_role(make: Callable[[Role], T]) -> list[T]:
    """`make` of hitters and of pitchers, on two cores: trees, tables and matrices let another thread run.

    Each has matrix products of its own on one core; two pools of as many threads as cores wait for one another.
    """
    with threadpool_limits(1), ThreadPoolExecutor(len(ROLES)) as threads:
        return list(threads.map(make, ROLES))
