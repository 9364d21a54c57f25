"""Marcel with fitted constants: season weights, regression and ageing of each component, on earlier seasons only.

A component's rate relative to the league is forecast as

    (w1 x1 + w2 x2 + w3 x3 + M prior) / (w1 n1 + w2 n2 + w3 n3 + M) * exp(level + a t + b t^2),   w1 = 1,

x_k being what he did k seasons ago in units of the league's average chance, n_k his chances, t his age from 27 in
fives of years; the prior differs for starting pitchers. The eight constants minimise the squared error in units of
binomial noise, with a Gaussian prior around Marcel's own, so that a league without a past has his. ERA is made of the
projected components by a regression of earned runs on them, never from past earned runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import least_squares

from fullcount.projection.facts import base, own_lines
from fullcount.projection.kept import by_role, kept
from fullcount.projection.marcel import people
from fullcount.projection.parts import composed
from fullcount.projection.system import EXPOSURE, League, Projection, Role, added, target_season

Floats = NDArray[np.float64]

#: What a component is a share of. `contact`: no strikeout, walk or hit batter; `play`: nor home run; `first`: single,
#: walk or hit batter. Steals are successes of attempts (`SBA`). `driven in`: RBI beyond a home run's own.
COMPONENTS: dict[Role, dict[str, str]] = {
    "hitters": {"SO": "all", "BB": "all", "HBP": "all", "HR": "contact", "1B": "play", "2B": "play", "3B": "play",
                "R": "all", "driven in": "all", "SBA": "first", "SB": "SBA"},
    "pitchers": {"SO": "all", "BB": "all", "HBP": "all", "HR": "contact", "BIP": "play"},
}  # fmt: skip
#: log w2, log w3, log M, prior, prior of starters, level, a, b: Marcel's, and how far from them is no surprise.
MARCEL: dict[Role, Floats] = {
    "hitters": np.array([np.log(4 / 5), np.log(3 / 5), np.log(240.0), 0, 0, 0, 0, 0]),
    "pitchers": np.array([np.log(2 / 3), np.log(1 / 3), np.log(390.0), 0, 0, 0, 0, 0]),
}
SPREAD = np.array([0.5, 0.7, 1.5, 0.3, 0.3, 0.1, 0.1, 0.05])
#: What earned runs are regressed on; `rest` is balls in play that are outs or errors.
RUNS = ("SO", "BB", "HBP", "HR", "BIP", "rest", "start")


@dataclass(frozen=True)
class MarcelPlus:
    """Fitted Marcel; learns from the last `seasons` seasons. Playing time, and what is no component, are Marcel's.

    Rates are projected relative to the league and given the level of the last season known.
    """

    name: str = "marcel_plus"
    seasons: int = 20

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`; fitted once a season and league."""
        season = target_season(as_of)
        return Projection.of(season, *by_role(lambda role: kept(_projected, league, self.seasons, role, season)))


class Histories(NamedTuple):
    """Three seasons of m players before a season, and the season. c components."""

    player: NDArray[np.int64]  # [m]
    done: Floats  # [m, 3, c], counts over the league's rate in that season
    chances: Floats  # [m, 3, c]
    age: Floats  # [m]
    start: Floats  # [m], share of games started (pitchers)
    outcome: Floats  # [m, c], over the league's rate in the season; 0 where he did not play
    tried: Floats  # [m, c], chances in the season
    noise: Floats  # [m, c], binomial variance of `outcome` with one chance


def _projected(league: League, seasons: int, role: Role, season: int) -> pl.DataFrame:
    marcel, known = base(league, season).role(role), league.before(date(season, 3, 1))
    now = histories(league, role, season)
    past = _pooled([histories(league, role, s) for s in range(season - seasons, season)])
    asked = marcel["player"].to_numpy()
    place = np.searchsorted(now.player, asked).clip(max=max(len(now.player) - 1, 0))
    level = _rates(season_components(known, role), role, season - 1)
    rate = {
        c: np.clip(forecast(fit(past, i, role), now, i)[place] * level[i], 0, 1) for i, c in enumerate(COMPONENTS[role])
    }
    contact = 1 - rate["SO"] - rate["BB"] - rate["HBP"]
    rate["HR"] = rate["HR"] * contact
    for c in (c for c, under in COMPONENTS[role].items() if under == "play"):
        rate[c] = rate[c] * (contact - rate["HR"])
    if role == "pitchers":
        rate = _per_inning(known, seasons, season, rate, now.start[place])
    else:
        attempts = rate.pop("SBA") * (rate["1B"] + rate["BB"] + rate["HBP"])
        rate["SB"] = rate["SB"] * attempts
        rate |= {"CS": attempts - rate["SB"], "RBI": rate.pop("driven in") + rate["HR"]}
    # who batted as a pitcher alone in these seasons stays Marcel's, and what this store does not know stays unknown
    told, n = now.player[place] == asked, marcel[EXPOSURE[role]].to_numpy()
    rate = {c: np.where(told, r, marcel[c].to_numpy() / n) for c, r in rate.items() if not marcel[c].null_count()}
    return composed(marcel, role, rate, n)


def _per_inning(known: League, seasons: int, season: int, rate: dict[str, Floats], start: Floats) -> dict[str, Floats]:
    """Rates per batter faced -> per inning, with hits and earned runs."""
    last = season_components(known, "pitchers").filter(pl.col("season") == season - 1)
    safe = last.select(added("BIP", "HR", "BB", "HBP")).sum().item()
    outs = last["outs"].sum() / (last["all"].sum() - safe)  # a ball in play may make two
    hits = rate["BIP"] + rate["HR"]
    innings = outs * (1 - hits - rate["BB"] - rate["HBP"]) / 3
    parts = {**rate, "rest": 1 - hits - rate["SO"] - rate["BB"] - rate["HBP"], "start": start}
    weights = run_weights(known, seasons, season)
    said = {c: rate[c] / innings for c in ("SO", "BB", "HBP", "HR")}
    return said | {"H": hits / innings, "ER": np.maximum(sum(w * parts[c] for c, w in weights.items()), 0) / innings}


def run_weights(known: League, seasons: int, season: int) -> dict[str, float]:
    """Earned runs of a batter faced by how his turn ends (`start`: more for a starter): least squares on earlier lines.

    Scaled so that last season's lines get last season's earned runs.
    """
    lines = season_components(known, "pitchers").filter(pl.col("season") >= season - seasons)
    lines = lines.with_columns(rest=pl.col("play") - pl.col("BIP"), start=pl.col("GS") / pl.col("G") * pl.col("all"))
    faced = np.sqrt(lines["all"].to_numpy())
    x, y = lines.select(RUNS).to_numpy(), lines["ER"].to_numpy()
    weights = np.linalg.lstsq(x / faced[:, None], y / faced, rcond=None)[0]
    last = (lines["season"] == season - 1).to_numpy()
    weights *= y[last].sum() / (x[last] @ weights).sum()
    return dict(zip(RUNS, weights.tolist(), strict=True))


def fit(past: Histories, component: int, role: Role) -> Floats:
    """The eight constants of a component (see MARCEL)."""
    start = MARCEL[role]
    scale, outcome = np.sqrt(past.tried[:, component] / past.noise[:, component]), past.outcome[:, component]

    def residuals(constants: Floats) -> Floats:
        return np.concatenate([scale * (outcome - forecast(constants, past, component)), (constants - start) / SPREAD])

    def jacobian(constants: Floats) -> Floats:
        return np.concatenate([slopes(constants, past, component) * -scale[:, None], np.diag(1 / SPREAD)])

    return np.asarray(least_squares(residuals, start, jacobian, xtol=1e-6, ftol=1e-6).x)


def _pooled(parts: list[Histories]) -> Histories:
    """Those of all parts who played in the season."""
    played = [p.tried[:, 0] > 0 for p in parts]
    fields = ([f[k] for f, k in zip(field, played, strict=True)] for field in zip(*parts, strict=True))
    return Histories(*(np.asfortranarray(np.concatenate(field)) for field in fields))  # a component is one block


def forecast(constants: Floats, of: Histories, component: int) -> Floats:
    """Rate relative to the league [m]."""
    second, third, strength, prior, starter, level, linear, square = constants
    weight, m = np.exp([0.0, second, third]), np.exp(strength)
    age = (of.age - 27) / 5
    mean = np.exp(prior + starter * of.start)
    shrunk = (of.done[:, :, component] @ weight + m * mean) / (of.chances[:, :, component] @ weight + m)
    return np.asarray(shrunk * np.exp(level + linear * age + square * age**2))


def slopes(constants: Floats, of: Histories, component: int) -> Floats:
    """Derivatives [m, 8] of `forecast` by its constants."""
    second, third, strength, prior, starter, *_ = constants
    weight, m = np.exp([0.0, second, third]), np.exp(strength)
    age, rate = (of.age - 27) / 5, forecast(constants, of, component)
    mean = np.exp(prior + starter * of.start)
    done, chances = of.done[:, :, component], of.chances[:, :, component]
    over, under = done @ weight + m * mean, chances @ weight + m
    pull = m * mean / over
    logs = [weight[k] * (done[:, k] / over - chances[:, k] / under) for k in (1, 2)]  # of the rate's logarithm
    logs += [pull - m / under, pull, of.start * pull, np.ones_like(age), age, age**2]
    return np.asarray((rate * np.stack(logs)).T)


def histories(league: League, role: Role, season: int) -> Histories:
    """Everybody with a line in the three seasons before `season`, by player."""
    return kept(_histories, league, role, season)


def _histories(league: League, role: Role, season: int) -> Histories:
    known, names = league.before(date(season + 1, 3, 1)), list(COMPONENTS[role])
    everybody = season_components(known, role).filter(pl.col("season").is_between(season - 3, season))
    before = everybody.filter(pl.col("season") < season)
    players = np.unique(before["player"].to_numpy()).astype(np.int64)
    lines = everybody.filter(pl.col("player").is_in(players.tolist()))
    count, chances = np.zeros((len(players), 4, len(names))), np.zeros((len(players), 4, len(names)))
    noise = np.ones(len(names))
    for lag in range(4):
        line = lines.filter(pl.col("season") == season - lag)
        mean = _rates(everybody, role, season - lag)
        at = np.searchsorted(players, line["player"].to_numpy())
        count[at, lag] = line.select(names).to_numpy() / mean
        chances[at, lag] = np.stack([line[c].to_numpy() for c in COMPONENTS[role].values()], axis=1)
        if not lag:
            noise = 1 / mean.clip(max=0.99) - 1  # nobody was caught, or nobody counted it
    ages = people(known.players, season).select(pl.col("player").cast(pl.Int64), "age")
    age = pl.DataFrame({"player": players}).join(ages, on="player", how="left", maintain_order="left")["age"]
    starts = dict(before.group_by("player").agg(pl.col("GS").sum() / pl.col("G").sum()).iter_rows())
    return Histories(
        player=players,
        done=count[:, 1:],
        chances=chances[:, 1:],
        age=age.fill_null(29).to_numpy().astype(np.float64),
        start=np.array([starts[p] for p in players.tolist()], dtype=np.float64),
        outcome=np.divide(count[:, 0], chances[:, 0], out=np.zeros_like(count[:, 0]), where=chances[:, 0] > 0),
        tried=chances[:, 0],
        noise=np.broadcast_to(noise, (len(players), len(names))),
    )


def season_components(known: League, role: Role) -> pl.DataFrame:
    """Season lines as Float64, with chances and components (see COMPONENTS); unknown counts are 0."""
    table = own_lines(known, role)
    if role == "hitters":
        steals, first = added("SB", "CS"), added("1B", "BB", "HBP")
        driven = (pl.col("RBI") - pl.col("HR")).clip(0)
        table = table.with_columns(driven.alias("driven in"), GS=pl.lit(0.0), SBA=steals, first=first)
    else:
        table = table.with_columns(BIP=pl.col("H") - pl.col("HR"))
    table = table.with_columns(
        pl.col("PA" if role == "hitters" else "BF").alias("all"), pl.col("SO", "BB", "HBP", "HR").fill_null(0)
    )
    table = table.with_columns(contact=pl.col("all") - pl.col("SO") - pl.col("BB") - pl.col("HBP"))
    table = table.with_columns(play=pl.col("contact") - pl.col("HR"))
    counts = [c for c, t in table.schema.items() if t.is_numeric() and c not in ("player", "season")]
    return table.with_columns(pl.col(counts).cast(pl.Float64).fill_null(0.0)).sort("season", "player")


def _rates(lines: pl.DataFrame, role: Role, season: int) -> Floats:
    """The league's rate of each component in a season of `season_components`; what never happened is taken for rare."""
    lines = lines.filter(pl.col("season") == season)
    sums = lines.select(pl.col(pl.Float64).sum()).row(0, named=True)
    return np.array([max(sums[c], 0.5) / max(sums[under], 1.0) for c, under in COMPONENTS[role].items()])
