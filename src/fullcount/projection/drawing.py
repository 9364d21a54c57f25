"""Seasons drawn for players hundreds of times, and their percentiles.

How much somebody plays, from a forest; his talent, round the projected; chance: binomial counts down the tree of a
plate appearance's outcomes, so that rates agree with each other, and clumped Poisson counts for what team mates have a
hand in. Every player's draws are seeded by season, role and player: nobody else changes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from fullcount.projection.facts import matrix
from fullcount.projection.parts import CHANCES, Line, Part, arrays, summed
from fullcount.projection.quantile_forest import Forest
from fullcount.projection.spreads import Spread, excess, own_sd
from fullcount.projection.system import COUNTS, RATES, ROLES, Role, rates

Floats = NDArray[np.float64]

LEVELS = tuple(range(10, 100, 10))
#: What comes with another man's playing time.
CARRIED: dict[Role, tuple[str, ...]] = {"hitters": (), "pitchers": ("G", "GS", "SV", "HLD")}
#: Rates that may be negative.
SIGNED = {"K-BB%"}
#: Chances of a season whose rates are talent's.
_LONG = 600.0


@dataclass(frozen=True, eq=False)
class Learned:
    """What earlier seasons teach about a role."""

    role: Role
    parts: tuple[Part, ...]
    spreads: tuple[Spread, ...]
    mixing: Floats  # [parts, parts]: independent normals to talents'
    playing: Forest
    lasting: Forest  # of those with LEAST and more
    carried: tuple[str, ...]  # those of CARRIED that are known
    features: list[str]
    outs: float  # variance of a pitcher's outs per batter that does not reach base
    width: Mapping[str, float]  # of rates: by how much percentiles must lie further from the median


def percentiles(learned: Learned, asked: pl.DataFrame, draws: int) -> pl.DataFrame:
    """Percentile columns of the players `asked` (see `uncertainty.described`), in their order."""
    role, players = learned.role, _players(learned, asked)
    talents, lasting = _seasons(learned, learned.lasting, players, draws)
    long = np.full((*talents.shape[1:], learned.lasting.carried.shape[1]), _LONG)
    talent = _rates(_line(learned, long, talents, players.outs), role)
    _, counts = _seasons(learned, learned.playing, players, draws)
    columns = _deciles({c: x for c, x in counts.items() if c in COUNTS[role]}, "p", {})
    columns |= _deciles(_rates(lasting, role), "p", learned.width) | _deciles(talent, "tt", learned.width)
    return pl.DataFrame(columns).fill_nan(None)


def widths(learned: Learned, lasted: pl.DataFrame, draws: int) -> dict[str, float]:
    """Of each rate the factor by which its percentiles must lie further from the median to hold on `lasted`.

    What components with the right spread each leave over: tails longer than a normal's, correlations of chance.
    """
    _, lines = _seasons(learned, learned.lasting, _players(learned, lasted), draws)
    happened = summed(arrays(lasted, "y:"), learned.role)
    actual = _rates({c: x[:, None] for c, x in happened.items()}, learned.role)
    found = {}
    for c, x in _rates(lines, learned.role).items():
        low, middle, high = np.quantile(x, [0.1, 0.5, 0.9], axis=1)
        away, y = np.where(actual[c][:, 0] > middle, high - middle, middle - low), actual[c][:, 0]
        far = np.abs(y - middle)[away > 0] / away[away > 0]
        far = far[np.isfinite(far)]
        found[c] = float(np.quantile(far, 0.8) ** (len(far) / (len(far) + 200))) if len(far) else 1.0
    return found


def spare_outs(played: pl.DataFrame) -> float:
    """Variance of outs, round the projected ones, a batter who did not reach: double plays, runners caught, errors."""
    said, happened = arrays(played), arrays(played, "y:")
    chances = _retired(happened)
    away = 3 * happened["IP"] - chances * 3 * said["IP"] / _retired(said)
    return float(np.nansum(away**2) / np.nansum(chances))


def _retired(line: Line) -> Floats:
    return np.asarray(line["TBF"] - line["BIP"] - line["HR"] - line["BB"] - line["HBP"])


class _Players(NamedTuple):
    """m players to draw for: a generator each, features [m, d], talent's mean and sd by part [parts, m], expected
    chances [m], and a pitcher's outs per batter that does not reach base [m]."""

    rngs: list[np.random.Generator]
    features: Floats
    centre: Floats
    deviation: Floats
    expected: Floats
    outs: Floats


def _players(learned: Learned, asked: pl.DataFrame) -> _Players:
    role, fitted = learned.role, list(zip(learned.parts, learned.spreads, strict=True))
    unreliable = asked["unreliable"].to_numpy()
    pitch = role == "pitchers"
    return _Players(
        [np.random.default_rng([s, ROLES.index(role), p]) for s, p in asked.select("season", "player").iter_rows()],
        matrix(asked, learned.features),
        np.stack([s.centre(p, asked) for p, s in fitted]),
        np.stack([s.deviation(unreliable, own_sd(p, asked)) for p, s in fitted]),
        asked["expected"].to_numpy(),
        3 * asked["IP"].to_numpy() / _retired(arrays(asked)) if pitch else np.zeros(asked.height),
    )


def _seasons(learned: Learned, forest: Forest, of: _Players, draws: int) -> tuple[Floats, dict[str, Floats]]:
    """Talents [parts, m, draws], and counts [m, draws] of seasons as long as `forest` says."""
    carried = forest.draw(of.rngs, of.features, draws)
    talents = _talents(learned, of, carried[..., 0])
    return talents, _line(learned, carried, talents, of.outs, of.rngs)


def _talents(learned: Learned, of: _Players, chances: Floats) -> Floats:
    """[parts, m, draws] chances of success. The mean over talents is the mean rate, on the whole."""
    shape = (len(learned.parts), chances.shape[1])
    talents = np.stack([learned.mixing @ rng.standard_normal(shape) for rng in of.rngs], axis=1)
    more = excess(chances, of.expected[:, None])
    for k, (part, spread) in enumerate(zip(learned.parts, learned.spreads, strict=True)):
        binomial, deviation = part.kind == "binomial", of.deviation[k][:, None]
        mean = (of.centre[k] + spread.level)[:, None] + spread.played * more
        bend = 1 - 2 * expit(mean) if binomial else 1.0
        x = mean + deviation * talents[k] - 0.5 * deviation**2 * bend
        talents[k] = expit(x) if binomial else np.exp(np.minimum(x, 3.0))
    return talents


def _line(
    learned: Learned, carried: Floats, talents: Floats, outs: Floats, rngs: Sequence[np.random.Generator] = ()
) -> dict[str, Floats]:
    """Counts [m, draws] of seasons with these talents; the expected ones without `rngs`."""
    role = learned.role
    line = dict(zip((CHANCES[role], *learned.carried), np.moveaxis(carried, -1, 0), strict=True))
    for part, spread, p in zip(learned.parts, learned.spreads, talents, strict=True):
        n = part.chances(line)
        count = n * p
        clump = np.exp(spread.clumped)
        for i, rng in enumerate(rngs):
            if not np.isfinite(count[i]).all():
                continue
            if part.kind == "binomial":
                count[i] = rng.binomial(n[i].astype(np.int64), p[i])
            else:
                count[i] = rng.poisson(rng.gamma(count[i] / clump, clump))
        line[part.stat] = count + sum(line[c] for c in part.beyond)
    line = summed(line, role)
    if role == "pitchers":
        retired = _retired(line)
        made = retired * outs[:, None]
        for i, rng in enumerate(rngs):
            made[i] = np.rint(made[i] + np.sqrt(learned.outs * retired[i]) * rng.standard_normal(made.shape[1]))
        line["IP"] = np.maximum(made, 0.0) / 3
    return line


def _rates(lines: Mapping[str, Floats], role: Role) -> dict[str, Floats]:
    """Rates [m, draws] of lines [m, draws]."""
    shape = next(iter(lines.values())).shape
    table = pl.DataFrame(
        {c: lines[c].ravel() if c in lines else np.full(shape[0] * shape[1], np.nan) for c in COUNTS[role]}
    )
    found = rates(table, role)
    return {c: found[c].fill_null(float("nan")).to_numpy().reshape(shape) for c in RATES[role]}


def _deciles(drawn: Mapping[str, Floats], suffix: str, width: Mapping[str, float]) -> dict[str, Floats]:
    """`{stat}_{suffix}10` .. of draws [m, draws]: of each the least value with so many draws at or below it.

    `width`: by how much they lie further from the median.
    """
    columns: dict[str, Floats] = {}
    for c, x in drawn.items():
        ordered, known = np.sort(x, axis=1), np.isfinite(x).sum(axis=1)
        at = np.maximum(np.ceil(known[:, None] * np.array(LEVELS) / 100).astype(np.int64) - 1, 0)
        found = np.take_along_axis(ordered, at, axis=1)
        if c in width:
            middle = found[:, [len(LEVELS) // 2]]
            wider = middle + width[c] * (found - middle)
            found = wider if c in SIGNED else np.maximum(wider, 0.0)
        columns |= {f"{c}_{suffix}{level}": found[:, k] for k, level in enumerate(LEVELS)}
    return columns
