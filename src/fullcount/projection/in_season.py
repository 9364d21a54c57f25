"""In season: what is left of it, and the whole of it, as of any day, from any preseason system and the games so far.

The preseason rate of a component (a share of plate appearances or batters faced) is brought to the season's level and
updated by the player's own counts,

    rate = g (M p + x) / (M + n),     p = L * preseason,     M = exp(a) + exp(b) * past,

x of n being what he did, `past` his plate appearances of the last three seasons (who has many is better known; a
call-up has none, and the mean of earlier call-ups for p), L the league's rate so far over what was projected for the
same men, g what the rest of a season has over its beginning. a, b and g are fitted at the same share of earlier
seasons. How much he plays in what is left is said by trees on how much he played so far (see `course_so_far`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import least_squares

from fullcount.errors import FullcountError
from fullcount.projection.boosted import boost
from fullcount.projection.facts import base, own_lines
from fullcount.projection.kept import kept
from fullcount.projection.marcel import people
from fullcount.projection.playing_time import without_overrides
from fullcount.projection.system import (
    ROLES,
    SINGLES,
    League,
    Projection,
    RefusalError,
    Role,
    System,
    added,
    target_season,
)
from fullcount.projection.uncertainty import Bands
from fullcount.sources.seasons import season_lines
from fullcount.store import Store

log = logging.getLogger("fullcount")

Floats = NDArray[np.float64]
Games = tuple[pl.DataFrame, pl.DataFrame]

#: Counts that are a rate times playing time; the others follow from them (see `_derived`).
COMPONENTS: dict[Role, tuple[str, ...]] = {
    "hitters": ("1B", "2B", "3B", "HR", "R", "RBI", "BB", "IBB", "SO", "HBP", "SF", "SH", "GDP", "SB", "CS"),
    "pitchers": ("outs", "W", "L", "SV", "HLD", "H", "R", "ER", "HR", "BB", "IBB", "HBP", "SO"),
}
#: What is projected per team game; rates are per the first.
TIMES: dict[Role, tuple[str, ...]] = {"hitters": ("PA",), "pitchers": ("TBF", "G", "GS")}
#: What is made of other components: its preseason rate moves with theirs before its own counts are read.
MADE: dict[Role, tuple[str, ...]] = {"hitters": ("R", "RBI"), "pitchers": ("R", "ER")}
PARTS: dict[Role, tuple[str, ...]] = {
    "hitters": ("1B", "2B", "3B", "HR", "BB", "HBP", "SB", "SO"),
    "pitchers": ("H", "HR", "BB", "HBP", "SO"),
}
#: Events of a component at which the season's level is half believed.
LEVEL = 400.0
#: log M of a call-up, log of what a past plate appearance adds to it, and how far from these is no surprise.
START, SPREAD = np.array([5.5, -2.0]), np.array([1.5, 1.5])
WINDOWS = (14, 30)  # days


class Remainder(NamedTuple):
    """A season on a day: `to_date` (played), `rest` (expected to come), `whole` (both); `share`, how much is played."""

    to_date: Projection
    rest: Projection
    whole: Projection
    share: float


@dataclass(frozen=True, eq=False)
class InSeason:
    """A System within a season: its projection is the line so far plus the rest-of-season line (`on` has all three).

    Args:
        system: the preseason system, asked as of 1 March. Where it refuses an earlier season (it was trained on it, or
            has no file), what is learned from that season is learned on Marcel.
        games: canonical batting_games and pitching_games.
        seasons: how many earlier seasons are learned from.
        length: games of a team in the season (60 in 2020); by default as many as in the longest of the `seasons`.

    Projected is whom the system projects and who has appeared this season; before the first game the system speaks.
    """

    system: System
    games: Games
    seasons: int = 12
    length: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.system, Bands):
            raise FullcountError("percentiles are not projected within a season: leave +bands away with --as-of")

    @classmethod
    def of(cls, store: Store, system: System, length: int | None = None) -> InSeason:
        """With the games of a store."""
        return cls(system, (store.table("batting_games"), store.table("pitching_games")), length=length)

    @property
    def name(self) -> str:
        """The preseason system's, with `+season`."""
        return f"{self.system.name}+season"

    def project(self, as_of: date, league: League) -> Projection:
        """The full-season-updated line of `target_season(as_of)`: what was played plus what is expected."""
        return self.on(as_of, league).whole

    def on(self, as_of: date, league: League) -> Remainder:
        """To date, rest of season and whole season, by nothing dated on or after `as_of`.

        Raises:
            FullcountError: the season has begun and no earlier one has game lines to learn from.
        """
        season = target_season(as_of)
        said = self.preseason(season, league)
        begun = _until(self._games(season, league), as_of)
        if begun[0].is_empty():
            return Remainder(Projection.of(season), said, said, 0.0)
        earlier = [s for s in range(season - self.seasons, season) if not self._games(s, league)[0].is_empty()]
        if not earlier:
            raise FullcountError(f"{self.name}: no game lines of a season before {season} to learn from")
        usual = max(kept(_length, league, self, s) for s in earlier)
        length = self.length or usual
        share = round(float(_played(begun[0])["played"].to_numpy().mean()) / length, 2)
        newest = begun[0]["date"].max()
        log.info("%s: %.0f %% of the season played, up to %s; learning from %d-%d", as_of, 100 * share, newest,
                 earlier[0], earlier[-1])  # fmt: skip
        tables = []
        for role in ROLES:
            now = state(league, said, begun, role, as_of, length, usual)
            past = pl.concat(
                [kept(_example, league, self, role, s, share, usual) for s in earlier], how="diagonal_relaxed"
            )
            tables.append(_lines(now, updated(past, now, role), playing_time(past, now, role), role))
        done, rest, both = (Projection.of(season, *pair) for pair in zip(*tables, strict=True))
        return Remainder(done, rest, both, share)

    def preseason(self, season: int, league: League) -> Projection:
        """What the system said of `season` on 1 March; asked once a season and league."""
        return kept(_preseason, league, self, season)

    @cached_property
    def earlier(self) -> InSeason:
        """The same of earlier seasons, of which overrides say nothing."""
        plain = without_overrides(self.system)
        return self if plain is self.system else replace(self, system=plain)

    def _games(self, season: int, league: League) -> Games:
        return kept(_season_games, league, self, season)


# --------------------------------------------------------------------------------------------- what is known on a day


def state(
    league: League, said: Projection, games: Games, role: Role, as_of: date, length: int, usual: int
) -> pl.DataFrame:
    """What is known on `as_of` of everybody whom `said` projects or who has appeared, a row a player, by player.

    player, Name, Team (of his newest game); counts so far (COMPONENTS, TIMES); `pre:X`, preseason rates per PA or BF,
    null for whom the system does not project; `past`, PA or BF of the last three seasons; `left`, games his team has
    left; and facts for playing time, `f:X`: PA (BF), games and starts per team game, preseason playing time, age,
    `course_so_far`.

    Args:
        games: the season's game lines before `as_of`.
        length: games of a team in this season. usual: in the whole season that `said` is of, be this one shorter.
    """
    season, n = said.season, TIMES[role][0]
    known = league.before(date(season, 3, 1))
    so_far = totals(games, role, league.name)
    recent = own_lines(known, role).filter(pl.col("season") >= season - 3)
    exposure = pl.col("PA" if role == "hitters" else "BF").cast(pl.Float64)
    recent = recent.group_by("player").agg(
        exposure.sum().alias("past"), exposure.filter(pl.col("season") == season - 1).sum().alias("f:last")
    )
    table = _rates_of(said.role(role), role).join(so_far, on="player", how="full", coalesce=True).sort("player")
    for more in (people(known.players, season).rename({"Name": "registered"}), recent,
                 course_so_far(games[ROLES.index(role)], role, as_of)):  # fmt: skip
        table = table.join(more, on="player", how="left", maintain_order="left")
    table = table.with_columns(pl.coalesce("team", "Team").alias("Team")).drop("team")
    table = table.join(_played(games[0]), left_on="Team", right_on="team", how="left", maintain_order="left")
    team_games = pl.col("played").fill_null(pl.col("played").mean())
    told = [c for c in dict.fromkeys((*COMPONENTS[role], *TIMES[role])) if so_far[c].null_count() < so_far.height]
    per_game = [c for c in (n, "SV", "HLD") if c in told]
    return table.with_columns(
        pl.coalesce("Name", "registered").alias("Name"),
        pl.col(*told, "past", "^f:(last|G|started|recent.*)$").fill_null(0.0),
        (length - team_games).clip(lower_bound=0.0).alias("left"),
        pl.col("age").cast(pl.Float64).alias("f:age"),
        (pl.col("pre") / usual).alias("f:pre"),
        (team_games / length).alias("f:share"),
    ).with_columns(
        pl.col("past").alias("f:past"),
        *((pl.col(c) / team_games).alias(f"f:{c}") for c in per_game),
        pl.col("f:G", "f:started") / team_games,
    ).drop("registered", "age", "played")  # fmt: skip


def course_so_far(games: pl.DataFrame, role: Role, as_of: date) -> pl.DataFrame:
    """How a season's game lines went until `as_of`, a row a player.

    player; `team` of the newest; `f:G`, `f:started` (games); `f:each` (PA or BF a game); `f:slot` (mean place in the
    order, hitters); `f:gap` and `f:since`, days since his last and first game; of the last 14 and 30 days PA or BF and
    starts a day.
    """
    n = pl.col("PA" if role == "hitters" else "BF").cast(pl.Float64)
    started = pl.col("starter" if role == "hitters" else "GS").cast(pl.Float64)
    ago = (pl.lit(as_of) - pl.col("date")).dt.total_days().cast(pl.Float64)
    return games.sort("player", "date", "game_id").group_by("player", maintain_order=True).agg(
        pl.col("team").last(), pl.len().cast(pl.Float64).alias("f:G"), started.sum().alias("f:started"),
        n.mean().alias("f:each"), ago.min().alias("f:gap"), ago.max().alias("f:since"),
        *([pl.col("lineup_slot").cast(pl.Float64).mean().alias("f:slot")] if role == "hitters" else []),
        *((x.filter(ago <= d).sum() / d).alias(f"f:recent{d}:{c}") for d in WINDOWS
          for c, x in (("n", n), ("started", started))),
    )  # fmt: skip


def totals(games: Games, role: Role, league: str) -> pl.DataFrame:
    """Sums of game lines in the words of a Projection, Float64: player, COMPONENTS, TIMES."""
    summed = season_lines(*games, league)[ROLES.index(role)]
    if role == "hitters":
        summed = summed.filter(~pl.col("is_pitcher").fill_null(False), pl.col("PA") > 0).with_columns(SINGLES)
    else:
        summed = summed.filter(pl.col("BF") > 0).rename({"BF": "TBF"})
    counts = list(dict.fromkeys((*COMPONENTS[role], *TIMES[role])))
    return summed.select("player", pl.col(counts).cast(pl.Float64))


def _rates_of(said: pl.DataFrame, role: Role) -> pl.DataFrame:
    """A preseason table as player, Name, Team, `pre` (PA or BF) and `pre:X`, rates; what it does not say is null."""
    if role == "pitchers":
        faced = pl.coalesce("TBF", 3 * pl.col("IP") + pl.col("H") + pl.col("BB") + pl.col("HBP").fill_null(0.0))
        said = said.with_columns(faced.alias("TBF"), (3 * pl.col("IP")).alias("outs"))
    n = pl.col(TIMES[role][0])
    return said.filter(n > 0).select(
        "player", "Name", "Team", n.alias("pre"), *((pl.col(c) / n).alias(f"pre:{c}") for c in COMPONENTS[role])
    )


def _season_games(league: League, system: InSeason, season: int) -> Games:
    own = (pl.col("season") == season) & (pl.col("league") == league.name) & (pl.col("game_type") == "R")
    return system.games[0].filter(own), system.games[1].filter(own)


def _until(games: Games, day: date) -> Games:
    return games[0].filter(pl.col("date") < day), games[1].filter(pl.col("date") < day)


def _played(batting: pl.DataFrame) -> pl.DataFrame:
    """team, `played`: its games among game lines."""
    return batting.group_by("team").agg(pl.col("game_id").n_unique().cast(pl.Float64).alias("played")).sort("team")


def _length(league: League, system: InSeason, season: int) -> int:
    """Games of a team in an earlier season: the median."""
    return int(_played(kept(_season_games, league, system, season)[0])["played"].median())  # type: ignore[arg-type]


def _preseason(league: League, system: InSeason, season: int) -> Projection:
    return system.system.project(date(season, 3, 1), league)


def _example(league: League, system: InSeason, role: Role, season: int, share: float, usual: int) -> pl.DataFrame:
    """`state` of an earlier season when `share` of it was played, and what came after (`y:X`, TIMES and COMPONENTS)."""
    games, length = kept(_season_games, league, system, season), kept(_length, league, system, season)
    each = games[0].select("team", "game_id", "date").unique()["date"].sort()
    day: date = max(each[min(int(share * len(each)), len(each) - 1)], each[0] + timedelta(1))
    try:
        said = system.earlier.preseason(season, league)
    except RefusalError:
        said = base(league, season)
    now = state(league, said, _until(games, day), role, day, length, usual)
    after = totals((games[0].filter(pl.col("date") >= day), games[1].filter(pl.col("date") >= day)), role, league.name)
    after = after.select("player", pl.exclude("player").name.prefix("y:"))
    return now.join(after, on="player", how="left", maintain_order="left").with_columns(
        pl.col("^y:.*$").fill_null(0.0), season=pl.lit(season)
    )


# -------------------------------------------------------------------------------------------------- what is left of it


def playing_time(past: pl.DataFrame, now: pl.DataFrame, role: Role) -> dict[str, Floats]:
    """Expected TIMES [rows] of `now` in what is left, by trees on the facts.

    Learned per team game left, as a difference from the mean of what was expected before the season and what was so far
    (games and starts: so far).
    """
    facts = [c for c in now.columns if c.startswith("f:")]
    naive = {TIMES[role][0]: pl.mean_horizontal("f:pre", f"f:{TIMES[role][0]}"), "G": pl.col("f:G"),
             "GS": pl.col("f:started")}  # fmt: skip
    then, here = (t.select(e.alias(c) for c, e in naive.items() if c in TIMES[role]) for t in (past, now))
    left = np.maximum(_floats(past, "left"), 1.0)
    more = boost(past.select(facts), now.select(facts), {c: past[f"y:{c}"] / left - then[c] for c in TIMES[role]})
    times = {c: np.maximum(_floats(here, c) + m, 0.0) * _floats(now, "left") for c, m in more.items()}
    if role == "pitchers":
        times["GS"] = np.minimum(times["GS"], times["G"])
    return times


def updated(past: pl.DataFrame, now: pl.DataFrame, role: Role) -> dict[str, Floats]:
    """Rates [rows] of `now` per PA or BF for what is left (see the top of this file); of what is known so far."""
    n, rows = TIMES[role][0], len(past)
    table = pl.concat([past, now.with_columns(season=pl.lit(past["season"].max() + 1))], how="diagonal_relaxed")  # type: ignore[operator]
    tried, before = _floats(table, n), _floats(table, "past")
    came, season = _floats(past, f"y:{n}"), table["season"].to_numpy()
    learned = came > 0
    priors: dict[str, Floats] = {}
    rates: dict[str, Floats] = {}
    said: dict[str, Floats] = {}
    told = [c for c in COMPONENTS[role] if not now[c].null_count() and not past[c].null_count()]
    for c in sorted(told, key=lambda c: c in MADE[role]):
        x, y = _floats(table, c), _floats(past, f"y:{c}")
        p = _at_level(_floats(table, f"pre:{c}"), x, tried, season, rows)
        if c in MADE[role]:
            of = [k for k in PARTS[role] if k in rates]
            weights = _made_of(np.stack([_floats(past, k) for k in of], axis=1), x[:rows], tried[:rows])
            p = np.maximum(p + sum(w * (rates[k] - priors[k]) for w, k in zip(weights, of, strict=True)), 0.0)
        scale = np.sqrt(came[learned] / max(y.sum() / max(came.sum(), 1.0), 1e-5))
        outcome = y[learned] / came[learned]

        def shrunk(constants: Floats, p: Floats = p, x: Floats = x) -> Floats:
            strength = np.exp(constants[0]) + np.exp(constants[1]) * before
            return np.asarray((strength * p + x) / (strength + tried), dtype=np.float64)

        def residuals(
            constants: Floats, rate: Callable[[Floats], Floats] = shrunk, y: Floats = outcome, s: Floats = scale
        ) -> Floats:
            return np.concatenate([s * (y - rate(constants)[:rows][learned]), (constants - START) / SPREAD])

        priors[c], rates[c] = p, shrunk(least_squares(residuals, START, xtol=1e-6, ftol=1e-6).x)
        grows = (y.sum() + LEVEL) / ((rates[c][:rows] * came).sum() + LEVEL)
        said[c] = grows * rates[c][rows:]
    return said


def _at_level(preseason: Floats, x: Floats, tried: Floats, season: NDArray[np.int64], rows: int) -> Floats:
    """Preseason rates at each season's level [m]; who has none is like those of the first `rows` who had none."""
    known = np.isfinite(preseason)

    def level(chosen: NDArray[np.bool_], expected: Floats) -> float:
        return float((x[chosen].sum() + LEVEL) / ((expected * tried)[chosen].sum() + LEVEL))

    at, mean = np.where(known, preseason, 0.0), np.zeros(len(x))
    for s in np.unique(season):
        own = season == s
        mean[own] = (x[own].sum() + 1) / (tried[own].sum() + 1)
        at[own] *= level(own & known, at)
    past = np.arange(len(x)) < rows
    return np.where(known, at, mean * level(past & ~known, mean))


def _made_of(parts: Floats, x: Floats, tried: Floats) -> Floats:
    """Of each part [m, k] how much of `x` [m] it brings: least squares, noise as of plate appearances."""
    scale = 1 / np.sqrt(np.maximum(tried, 1.0))
    design = np.column_stack([parts, tried]) * scale[:, None]
    return np.asarray(np.linalg.lstsq(design, x * scale, rcond=None)[0][:-1])


def _floats(table: pl.DataFrame, column: str) -> Floats:
    return np.asarray(table[column].cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def _lines(
    now: pl.DataFrame, rates: dict[str, Floats], times: dict[str, Floats], role: Role
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Tables of a Projection: to date (who appeared), the rest, both."""
    about, n = ["player", "Name", "Team"], TIMES[role][0]
    counts = [*rates, *(c for c in TIMES[role])]
    done = now.select(*about, *counts)
    expected = {**{c: r * times[n] for c, r in rates.items()}, **times}
    rest = now.select(*about, *(pl.Series(c, expected[c]) for c in counts))
    both = now.select(*about, *(pl.col(c) + pl.Series(expected[c]) for c in counts))
    return _derived(done.filter(pl.col(n) > 0), role), _derived(rest, role), _derived(both, role)


def _derived(table: pl.DataFrame, role: Role) -> pl.DataFrame:
    """With the counts that follow from the others."""
    if role == "pitchers":
        return table.with_columns(IP=pl.col("outs") / 3).drop("outs")
    return table.with_columns(H=added("1B", "2B", "3B", "HR"), AB=pl.col("PA") - added("BB", "HBP", "SF", "SH"))
