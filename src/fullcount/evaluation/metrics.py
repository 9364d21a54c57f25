"""How close projections came. Every metric is one function of (predicted, actual, weights).

`weights` may have leading axes: (n,) gives one value, (draws, n) gives `draws` of them at once, which is how the
bootstrap works: a resample is a row of whole-number weights. Without weights all players count the same. What is
undefined (fewer than two players, no spread) is nan, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Metric = Callable[[Array, Array, Array | None], Array]


class _Moments(NamedTuple):
    mean_x: Array
    mean_y: Array
    var_x: Array
    var_y: Array
    cov: Array


def pearson(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """Pearson's r."""
    m = _moments(predicted, actual, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(m.cov / np.sqrt(m.var_x * m.var_y), -1, 1)


def spearman(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """Spearman's rho: Pearson's r of mid-ranks; with whole-number weights exactly that of the repeated rows."""
    w = _weights(predicted, weights)
    return pearson(midranks(predicted, w), midranks(actual, w), w)


def rmse(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """Root mean squared error, in the statistic's unit."""
    return np.sqrt(_mean((predicted - actual) ** 2, _weights(predicted, weights)))


def mae(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """Mean absolute error."""
    return _mean(np.abs(predicted - actual), _weights(predicted, weights))


def bias(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """Mean of predicted - actual."""
    return _mean(predicted - actual, _weights(predicted, weights))


def slope(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """Regression of actual on predicted: 1 is calibrated, under 1 says that the projections spread too far."""
    m = _moments(predicted, actual, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return m.cov / m.var_x


def sd_ratio(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """sd(predicted) / sd(actual): near zero is a projection that collapsed to the mean."""
    m = _moments(predicted, actual, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.nan_to_num(m.var_x) / m.var_y)


#: The columns of a backtest's table.
METRICS: dict[str, Metric] = {
    "r": pearson, "spearman": spearman, "rmse": rmse, "mae": mae, "bias": bias, "slope": slope, "sd_ratio": sd_ratio,
}  # fmt: skip


def midranks(x: Array, weights: Array) -> Array:
    """Weighted mid-ranks of `x` (n,), shape of `weights` (..., n): weight below plus half the weight tied."""
    order = np.argsort(x, kind="stable")
    first = np.r_[True, np.diff(x[order]) != 0] if len(x) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    if not len(starts):
        return np.zeros_like(weights)
    tied = np.add.reduceat(weights[..., order], starts, axis=-1)
    ranks = np.cumsum(tied, axis=-1) - tied / 2
    result = np.empty_like(weights)
    result[..., order] = ranks[..., np.cumsum(first) - 1]
    return result


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """One season's projections of the same players by two systems."""

    player: npt.NDArray[np.int32]
    actual: Array
    first: Array
    second: Array
    weights: Array | None = None


def resamples(clusters: int, draws: int = 2000, seed: int = 0) -> Array:
    """How often each of `clusters` players is drawn in each bootstrap sample: (draws, clusters)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(clusters, size=(draws, clusters)) + clusters * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * clusters).reshape(draws, clusters).astype(np.float64)


def paired_bootstrap(metric: Metric, samples: Sequence[Paired], draws: int = 2000, seed: int = 0) -> Interval:
    """metric(second) - metric(first), mean over `samples` (seasons), with its 95 % percentile interval.

    Players are drawn, not player-seasons: a drawn player brings all his seasons, for both systems.
    """
    players = np.unique(np.concatenate([s.player for s in samples]))
    drawn = resamples(len(players), draws, seed)
    points, spread = [], []
    for s in samples:
        base = _weights(s.actual, s.weights)
        w = drawn[:, np.searchsorted(players, s.player)] * base
        points.append(float(metric(s.second, s.actual, base) - metric(s.first, s.actual, base)))
        spread.append(metric(s.second, s.actual, w) - metric(s.first, s.actual, w))
    return interval(float(np.mean(points)), np.mean(spread, axis=0))


def interval(value: float, draws: Array) -> Interval:
    """`value` between the 2.5 and 97.5 % points of its bootstrap draws; draws that are nan do not count."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def spelt_out(figure: float | Interval) -> dict[str, float | None]:
    """Columns value, low and high of a table of figures; bounds are null for a bare number."""
    return figure._asdict() if isinstance(figure, Interval) else {"value": figure, "low": None, "high": None}


def log_loss_gain(
    player: npt.NDArray[np.int32], nats: Array, reference: Array, weights: Array, draws: int, seed: int = 0
) -> dict[str, float]:
    """`nats`, weighted mean of log-losses [n]; `gain`, how much less that is than the reference's; `low`, `high`"""
    happened = np.zeros_like(weights)  # the bias of log-losses against 0 is their mean
    gain = paired_bootstrap(bias, [Paired(player, happened, nats, reference, weights)], draws, seed)
    mean = float(bias(nats, happened, weights))
    return {"nats": mean, "gain": gain.value, "low": gain.low, "high": gain.high}


#: Categories of the rank correlations: rho3 and rho5 of fantasy value.
CATEGORIES = {"rho3": ("HR", "SB", "OBP"), "rho5": ("HR", "R", "RBI", "SB", "OBP")}


def standings(counts: Mapping[str, Array], categories: Sequence[str]) -> Array:
    """Sum of z-scores over `categories` within the pool of players given, population sd.

    OBP counts as a contribution, on-base events above what the pool's rate gives in the same plate appearances:
    (H+BB+HBP) - PA * pool rate. A category without spread adds nothing.
    """
    total = np.zeros_like(counts["PA"])
    for category in categories:
        x = counts[category] if category != "OBP" else counts["H"] + counts["BB"] + np.nan_to_num(counts["HBP"])
        if category == "OBP":
            x = x - counts["PA"] * (x.sum() / counts["PA"].sum())
        sd = x.std()
        if sd > 0:
            total = total + (x - x.mean()) / sd
    return total


def calibration(actual: Array, quantiles: Mapping[int, Array]) -> dict[int, float]:
    """Share of players whose outcome lies below each projected percentile: percentile -> share, p/100 when exact."""
    return {level: float(np.mean(actual < q)) for level, q in sorted(quantiles.items())}


def _weights(like: Array, weights: Array | None) -> Array:
    return np.ones(len(like)) if weights is None else weights


def _mean(x: Array, w: Array) -> Array:
    total = w.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((w @ x if x.ndim == 1 else np.einsum("...i,...i->...", x, w)) / total)


def _moments(x: Array, y: Array, weights: Array | None) -> _Moments:
    """Weighted means, variances, covariance. Values are centred first, so that sums of squares lose no digits."""
    w = _weights(x if x.ndim == 1 else x[0], weights)
    shift_x, shift_y = (v.mean() if v.size else 0.0 for v in (x, y))
    dx, dy = x - shift_x, y - shift_y
    if x.ndim == 1:  # one product for all draws
        sums = w @ np.stack([np.ones_like(dx), dx, dy, dx * dx, dy * dy, dx * dy], axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mx, my, xx, yy, xy = (np.asarray(sums[..., k] / sums[..., 0]) for k in range(1, 6))
    else:
        mx, my, xx, yy, xy = (_mean(v, w) for v in (dx, dy, dx * dx, dy * dy, dx * dy))
    return _Moments(
        shift_x + mx, shift_y + my, _spread(xx - mx**2, x), _spread(yy - my**2, y), np.asarray(xy - mx * my)
    )  # fmt: skip


def _spread(variance: Array, values: Array) -> Array:
    """nan for a variance below the rounding error of the values: it is none at all."""
    scale = float(np.abs(values).max(initial=0.0))
    return np.where(variance > 1e-24 * scale**2, variance, np.nan)
