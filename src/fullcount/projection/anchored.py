"""Any system's rates, anchored there and moved by what players' pitches say (see `last_layer`), season by season.

Everything is relative: representations to the league's on the day, what happened to the league's departure from the
system in that season. A projection therefore keeps the system's league environment, the latest known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.projection import last_layer
from fullcount.projection.aggregates import GROUPS, recent
from fullcount.projection.facts import projected_lines
from fullcount.projection.kept import by_role, kept
from fullcount.projection.parts import CHANCES, STEALS, Line, Part, arrays, composed, whole
from fullcount.projection.system import (
    COUNTS,
    EXPOSURE,
    League,
    Projection,
    RefusalError,
    Role,
    System,
    target_season,
)
from fullcount.store import Store

Floats = NDArray[np.float64]

#: The outcome mix of a plate appearance (other outs are the rest; BIP: hits in play), and what is counted beside it.
#: Runs as shares of those on base, so that they follow the mix, were worse in 2014-19 (R, RBI .0005, ERA .002).
MIX: dict[Role, tuple[str, ...]] = {
    "hitters": ("SO", "BB", "HBP", "1B", "2B", "3B", "HR"),
    "pitchers": ("SO", "BB", "HBP", "HR", "BIP"),
}
BESIDE: dict[Role, tuple[Part, ...]] = {
    "hitters": (Part("R", "poisson", ("PA",)), Part("RBI", "poisson", ("PA",)), *STEALS),
    "pitchers": (Part("ER", "poisson", ("TBF",)),),
}
#: Least chances of a line that is learned from: who does badly by chance is soon not asked again, so short lines say
#: of everybody that he is worse than he is. Chosen on 2016-2019, like the number of principal components that are kept.
LEAST, DIRECTIONS = 100.0, 64
#: What a system says beside counts and is still true when its rates are moved.
CARRIED = ("reliability", "plays", "G")


class Inputs(Protocol):
    """What is said of players before a season, a row a player.

    `cutoff`: no play on or after this day has taught it anything; it may not project a season that begins earlier.
    """

    @property
    def cutoff(self) -> date: ...

    def of(self, role: Role, as_of: date) -> tuple[NDArray[np.int64], Floats]:
        """Players [m], and numbers [m, width] about everybody's mean; nobody where there is no play to read."""
        ...


@dataclass(frozen=True, eq=False)
class PitchAggregates:
    """Ratios of pitches and plate appearances (see `aggregates`), those of `groups`, as inputs."""

    store: Store
    groups: Sequence[str] = GROUPS
    cutoff: date = date.min  # what is learned in them, strengths, is of 2005-15 and 2022 and as good as a constant

    def of(self, role: Role, as_of: date) -> tuple[NDArray[np.int64], Floats]:
        """Of everybody with a plate appearance in three seasons; 0, everybody's mean, where a measure is unknown."""
        table = recent(self.store, role, target_season(as_of), self.groups)
        return table["player"].to_numpy().astype(np.int64), table.drop("player").fill_null(0.0).to_numpy()


@dataclass(frozen=True, eq=False)
class Anchored:
    """`system`, its rates moved by linear maps of `inputs`; playing time, and who is projected, are the system's.

    Whom no inputs know keeps the system's rates; column `system` says who spoke. Columns `SO_sd`, `HR_sd`, ...: the
    standard deviation of a player's true log-odds (of R, RBI, SBA and ER: logarithms) about the projected ones.
    """

    system: System
    inputs: Sequence[Inputs]
    name: str
    first: int = 2004  # boosted systems learn from 2001 on

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`; the maps are learned from the seasons before it."""
        for one in self.inputs:
            if as_of < one.cutoff:
                raise RefusalError(f"{self.name} was trained on play up to {one.cutoff}; it may not project {as_of}")
        season, said = target_season(as_of), self.system.project(as_of, league)
        return Projection.of(season, *by_role(lambda role: self._moved(said.role(role), role, as_of, league)))

    def _moved(self, table: pl.DataFrame, role: Role, as_of: date, league: League) -> pl.DataFrame:
        """The system's `table` of a role with moved rates; as it is where there is no season to learn from."""
        table = table.filter(pl.col(EXPOSURE[role]) > 0)
        layers = kept(_layers, league, self, role, target_season(as_of))
        if layers is None or not table.height:
            return table
        table = whole(table, role)
        blocks, told = _read(self.inputs, role, as_of, table["player"].to_numpy().astype(np.int64))
        x = _scaled(blocks, layers.maps)
        said = _rates(arrays(table), role)[0]
        new = _departed(said, np.stack([w.shift(x) for w in layers.weights], axis=1), role)
        if role == "hitters":
            new["CS"] = new.pop("SBA") - new["SB"]
        else:
            # As many outs of each ball that is not safe as the system says.
            safe = said[:, 1 : len(MIX[role])].sum(axis=1), sum(new[c] for c in MIX[role] if c != "SO")
            outs = (1 - safe[1]) / (1 - safe[0]) * (3 * table["IP"] / table["TBF"]).to_numpy()
            new["H"] = new.pop("BIP") + new["HR"]
            new = {c: rate / (outs / 3) for c, rate in new.items()}
        inner = table["system"].to_numpy() if "system" in table.columns else self.system.name
        spoke = pl.Series("system", np.where(told, self.name, inner))
        spread = [pl.Series(f"{c}_sd", w.spread(x)) for c, w in zip(_names(role), layers.weights, strict=True)]
        known = {c: rate for c, rate in new.items() if np.isfinite(rate).all() and not table[c].null_count()}
        beside = [c for c in CARRIED if c in table.columns and c not in COUNTS[role]]
        plain = table.select("player", "Name", "Team", *COUNTS[role], *beside)
        return composed(plain, role, known, table[EXPOSURE[role]].to_numpy()).with_columns(spoke, *spread)


class _Layers(NamedTuple):
    """Last layers of a role: one a rate; of each block of inputs the map [width, d] to scaled directions."""

    weights: list[last_layer.Weights]
    maps: list[Floats]


class _Lines(NamedTuple):
    """m players of a season: the system's rates [m, k], the rates that came and their chances, blocks of inputs."""

    said: Floats
    came: Floats
    chances: Floats
    blocks: list[Floats]


def _layers(league: League, system: Anchored, role: Role, season: int) -> _Layers | None:
    """Learned from the seasons before `season`; None where there is none to learn from."""
    parts = [p for s in range(system.first, season) if (p := kept(_lines, league, system, role, s)) is not None]
    if not parts:
        return None
    blocks = [np.concatenate(b) for b in zip(*(p.blocks for p in parts), strict=True)]
    maps = [_directions(b) for b in blocks]
    x = _scaled(blocks, maps)
    widths = tuple(m.shape[1] for m in maps)
    weights = []
    for k in range(parts[0].said.shape[1]):
        z, noise = (np.concatenate(v) for v in zip(*(_departures(p, k, role) for p in parts), strict=True))
        told = np.isfinite(z)  # no attempt, nothing to tell success from
        weights.append(last_layer.fit(x[told], z[told], noise[told], widths))
    return _Layers(weights, maps)


def _lines(league: League, system: Anchored, role: Role, season: int) -> _Lines | None:
    """What the system said before `season` beside what came; None where it refuses, or no play of before is read."""
    day = date(season, 3, 1)
    if not any(len(one.of(role, day)[0]) for one in system.inputs):
        return None
    try:
        said = system.system.project(day, league).role(role).filter(pl.col(EXPOSURE[role]) > 0)
    except RefusalError:
        return None
    came = projected_lines(league.before(date(season + 1, 3, 1)), role).filter(pl.col("season") == season)
    counts = _counts(role)
    came = whole(came, role).filter(pl.col(CHANCES[role]) >= LEAST)
    came = came.select("player", *(pl.col(c).cast(pl.Float64).alias(f"y:{c}") for c in counts))
    both = whole(said, role).join(came, on="player").sort("player")
    blocks, told = _read(system.inputs, role, day, both["player"].to_numpy().astype(np.int64))
    if not told.any():
        return None
    both = both.filter(told)
    rates, chances = _rates(arrays(both, "y:"), role)
    return _Lines(_rates(arrays(both.select(counts)), role)[0], rates, chances, [b[told] for b in blocks])


def _read(
    inputs: Sequence[Inputs], role: Role, as_of: date, players: NDArray[np.int64]
) -> tuple[list[Floats], NDArray[np.bool_]]:
    """What each of `inputs` says of `players` [m] before the day, [m, width], and of whom any says something [m].

    Of whom it says nothing: zeros, that is everybody's mean.
    """
    blocks, told = [], np.zeros(len(players), dtype=bool)
    for one in inputs:
        who, x = one.of(role, as_of)
        order = np.argsort(who)
        place = order[np.searchsorted(who, players, sorter=order).clip(max=max(len(who) - 1, 0))] if len(who) else None
        found = np.zeros(len(players), dtype=bool) if place is None else who[place] == players
        blocks.append(np.zeros((len(players), x.shape[1])))
        if place is not None:
            blocks[-1][found] = x[place[found]]
        told |= found
    return blocks, told


def _scaled(blocks: Sequence[Floats], maps: Sequence[Floats]) -> Floats:
    """Inputs [m, width] of each block in its directions, side by side [m, d]."""
    return np.concatenate([b @ m for b, m in zip(blocks, maps, strict=True)], axis=1)


def _directions(x: Floats) -> Floats:
    """[width, d]: inputs [n, width] to their `DIRECTIONS` principal components in units of their spread."""
    spread = x.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)[:, None]
    scaled = x * scale[:, 0]
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    return np.asarray(scale * vectors[:, np.argsort(-values)[:DIRECTIONS]])


def _names(role: Role) -> tuple[str, ...]:
    return *MIX[role], *(p.stat for p in BESIDE[role])


def _counts(role: Role) -> list[str]:
    """What rates are made of."""
    beside = (c for p in BESIDE[role] for c in (p.stat, *p.of))
    return list(dict.fromkeys([CHANCES[role], *MIX[role], *beside]))


def _rates(line: Line, role: Role) -> tuple[Floats, Floats]:
    """Rates [m, k] of `_names` in lines, and their chances [m, k]; 0 without chances.

    An outcome that is unknown is rare; of what is counted beside the mix NaN.
    """
    counted = [np.nan_to_num(line[c]) for c in MIX[role]] + [p.counted(line) for p in BESIDE[role]]
    chances = [line[CHANCES[role]]] * len(MIX[role]) + [p.chances(line) for p in BESIDE[role]]
    over, under = (np.stack(x, axis=1).clip(min=0) for x in (counted, chances))
    return np.divide(over, under, out=np.where(np.isnan(over + under), np.nan, 0.0), where=under > 0), under


def _departures(lines: _Lines, k: int, role: Role) -> tuple[Floats, Floats]:
    """Of rate k: departures [m] of what came from what was said, on its scale and about their season's mean, and the
    variance of chance in them [m]; NaN without chances, or where one is unknown.

    The scale is log-odds, of Poisson parts logarithms.
    """
    said, chances = lines.said[:, k].clip(1e-5, 1 - 1e-5), lines.chances[:, k]
    slope = np.where(_odds(role)[k], said * (1 - said), said)
    with np.errstate(divide="ignore"):
        noise = 1 / (chances * slope)
    z = np.where(chances > 0, (lines.came[:, k] - said) / slope, np.nan)
    told = np.isfinite(z)
    weight = 1 / (noise[told] + last_layer.USUAL_TALENT)
    return z - (weight @ z[told]) / max(weight.sum(), 1e-9), noise


def _odds(role: Role) -> NDArray[np.bool_]:
    """Whether rates [k] are probabilities, and moved in log-odds."""
    return np.array([True] * len(MIX[role]) + [p.kind == "binomial" for p in BESIDE[role]])


def _departed(said: Floats, shift: Floats, role: Role) -> dict[str, Floats]:
    """Counts of a plate appearance (batter faced), of `_names`, with rates [m, k] moved by `shift` [m, k].

    Outcomes against other outs, so that the mix sums to one; what is counted beside in its new chances.
    """
    mix = len(MIX[role])
    rest = np.maximum(1 - said[:, :mix].sum(axis=1, keepdims=True), 1e-9)
    odds = said[:, :mix] * np.exp(shift[:, :mix])
    line = dict(zip(MIX[role], (odds / (rest + odds.sum(axis=1, keepdims=True))).T, strict=True))
    line[CHANCES[role]] = np.ones(len(said))
    for k, part in enumerate(BESIDE[role], start=mix):
        old = said[:, k]
        rate = np.exp(shift[:, k]) * old
        if part.kind == "binomial":
            rate = rate / (1 - old + rate)
        line[part.stat] = part.chances(line) * rate
    line.pop(CHANCES[role])
    return line
