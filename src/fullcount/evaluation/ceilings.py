"""The best r anybody could reach: what is left when only luck separates a forecast from the outcome.

Var(observed) = Var(talent) + mean noise, so a perfect forecast of talent has r_max = sqrt(1 - noise / Var(observed)).
Noise is estimated from each player's own season: p(1-p)/n for a rate per chance, with p(1-p) from the season itself
(x(1-x)/(n-1) is unbiased); the multinomial form for weighted events; for rates an inning the same with the outs
random too; 81 v / IP for ERA. For counts the ceiling takes the chances as known, so it bounds skill, not playing time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from fullcount.evaluation.metrics import Array
from fullcount.projection.system import WOBA, Role

RUN_VARIANCE = 0.95  # of runs an inning allowed by one pitcher, .85 to 1.05

#: Rates of one kind of event a chance: numerator(s), chances.
_SHARES: dict[Role, dict[str, tuple[tuple[str, ...], str]]] = {
    "hitters": {
        "AVG": (("H",), "AB"), "OBP": (("H", "BB", "HBP"), "PA"), "K%": (("SO",), "PA"), "BB%": (("BB",), "PA"),
        "HR%": (("HR",), "PA"), "SB/PA": (("SB",), "PA"),
    },
    "pitchers": {"K%": (("SO",), "TBF"), "BB%": (("BB",), "TBF")},
}  # fmt: skip
#: Rates of weighted events: weight of each, chances.
_WEIGHTED: dict[str, tuple[dict[str, float], str]] = {
    "SLG": ({"1B": 1.0, "2B": 2.0, "3B": 3.0, "HR": 4.0}, "AB"),
    "wOBA": (WOBA, "uPA"),
}
#: Rates an inning: events, how many outs the rate is per, whether the event is itself an out.
_PER_INNING = {
    "K/9": (("SO",), 27.0, True), "BB/9": (("BB",), 27.0, False), "HR/9": (("HR",), 27.0, False),
    "WHIP": (("H", "BB"), 3.0, False),
}  # fmt: skip
#: A ceiling below this (nine tenths of the variance is luck) is itself mostly luck, and not given.
_LEAST = 0.1**0.5
_COUNTED: dict[Role, tuple[str, ...]] = {"hitters": ("HR", "SB", "SO", "BB", "H"), "pitchers": ("SO",)}


def noise(actual: pl.DataFrame, role: Role, stat: str) -> Array | None:
    """Variance by luck of each player's `stat` (n,), from his season's counts; None where no model is at hand."""
    if stat in _SHARES[role]:
        events, chances = _SHARES[role][stat]
        return _multinomial([_column(actual, e) for e in events], [1.0] * len(events), _column(actual, chances))
    if role == "hitters" and stat in _WEIGHTED:
        weights, chances = _WEIGHTED[stat]
        return _multinomial([_column(actual, e) for e in weights], list(weights.values()), _column(actual, chances))
    if stat in _COUNTED[role]:
        n = _column(actual, "PA" if role == "hitters" else "TBF")
        return n**2 * _multinomial([_column(actual, stat)], [1.0], n)
    if role == "pitchers" and stat in _PER_INNING:
        events, per, is_out = _PER_INNING[stat]
        count, outs = sum(_column(actual, e) for e in events), 3 * _column(actual, "IP")
        return per**2 * _ratio(np.asarray(count), outs, is_out)
    if role == "pitchers" and stat == "ERA":
        ip = _column(actual, "IP")
        return np.divide(81 * RUN_VARIANCE, ip, out=np.full_like(ip, np.nan), where=ip > 0)
    return None


def ceiling(
    actual: pl.DataFrame, role: Role, stat: str, values: Array, weights: npt.NDArray[np.float64] | None = None
) -> float:
    """Largest r a forecast of `values` (n,) = `stat` of the players of `actual` can reach; nan where unknown.

    Weighted players (n,) weigh the same in noise and variance.
    """
    spread = noise(actual, role, stat)
    if spread is None or len(values) < 2:
        return float("nan")
    w = np.ones(len(values)) if weights is None else weights
    usable = np.isfinite(spread) & np.isfinite(values) & (w > 0)
    w, x, spread = w[usable], values[usable], spread[usable]
    if len(x) < 2:
        return float("nan")
    mean = np.average(x, weights=w)
    variance = float(np.average((x - mean) ** 2, weights=w))
    if not variance > 0:
        return float("nan")
    best = float(np.sqrt(max(0.0, 1 - float(np.average(spread, weights=w)) / variance)))
    return best if best >= _LEAST else float("nan")


def _column(frame: pl.DataFrame, name: str) -> Array:
    """A count, null as 0; `uBB` and `uPA` are walks and appearances without the intentional ones."""
    if name in ("uBB", "uPA"):
        return np.asarray(_column(frame, name[1:]) - _column(frame, "IBB"))
    return frame[name].cast(pl.Float64).fill_null(0.0).to_numpy().astype(np.float64)


def _ratio(count: Array, outs: Array, is_out: bool) -> Array:
    """Variance of count / outs when batters faced are given (delta method); nan without an out.

    Each batter adds e - rate * o, e and o whether he is the event and an out: mean zero, so squares add up.
    """
    rate = np.divide(count, outs, out=np.full_like(outs, np.nan), where=outs > 0)
    squares = count * (1 - rate * is_out) ** 2 + (outs - count * is_out) * rate**2
    return np.asarray(squares / outs.clip(1) ** 2)


def _multinomial(events: list[Array], weights: list[float], chances: Array) -> Array:
    """(sum w^2 q - (sum w q)^2) / (n - 1), q = events / n; of a single chance, the pool's mean spread."""
    n = np.maximum(chances, 1.0)
    square = sum((w**2 * e for w, e in zip(weights, events, strict=True)), np.zeros_like(n)) / n
    first = sum((w * e for w, e in zip(weights, events, strict=True)), np.zeros_like(n)) / n
    variance = np.asarray(square - first**2)
    # the season of one chance has no spread of its own
    many = chances > 1
    pool = float(np.average(variance[many], weights=chances[many])) if many.any() else 0.0
    return np.where(many, variance / np.maximum(n - 1, 1.0), pool)
