"""How far talent is from what a system projects: learned from what it got wrong in earlier seasons beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln, logit

from fullcount.projection.parts import Part, arrays

Floats = NDArray[np.float64]

#: Prior of a part's constants: what a season's playing time moves, level, spread (log sd of talent), its slope on
#: unreliability, on the system's own sd, and clumping (log of variance over the Poisson's, less 1). Mean, sd.
_PRIOR = {
    "level": (0.0, 0.3), "played": (0.0, 0.3), "spread": (np.log(0.2), 1.0), "unreliable": (0.0, 1.0),
    "own": (0.0, 1.0), "clumped": (np.log(0.2), 1.5),
}  # fmt: skip


class Spread(NamedTuple):
    """What is learned of a part: talent is Normal(projected + level + played * excess, deviation) on its scale.

    The scale is that of log-odds, of logarithms for a Poisson part; of `excess` see there. The logarithm of the
    deviation is spread + unreliable * (unreliability - 1/2) + own * (log of the system's own sd, less its mean).
    """

    level: float
    played: float
    spread: float
    unreliable: float
    own: float
    clumped: float  # log of a Poisson part's variance over the mean, less 1
    mean: float  # the pool's rate: no projected one is taken for less than a twentieth of it
    own_mean: float  # of the logarithm of the system's own sd

    def centre(self, part: Part, table: pl.DataFrame) -> Floats:
        """The projected rate on the part's scale [rows]; NaN where the system does not say."""
        line = arrays(table)
        chances = part.chances(line)
        rate = np.divide(part.counted(line), chances, out=np.full(len(chances), np.nan), where=chances > 0)
        rate = np.clip(rate, self.mean / 20, 0.999 if part.kind == "binomial" else None)
        return np.asarray(logit(rate) if part.kind == "binomial" else np.log(rate))

    def deviation(self, unreliable: Floats, own: Floats) -> Floats:
        """sd of talent on the part's scale [rows]; of `own` see `own_sd`."""
        away = np.nan_to_num(own - self.own_mean)  # who is given none has the usual
        return np.asarray(np.exp(np.minimum(self.spread + self.unreliable * (unreliable - 0.5) + self.own * away, 1.0)))


def own_sd(part: Part, table: pl.DataFrame) -> Floats:
    """Logarithm of the system's own sd of the part's rate [rows]; NaN where it gives none."""
    column = f"{part.stat}_sd"
    if column not in table.columns:
        return np.full(table.height, np.nan)
    return np.asarray(table[column].cast(pl.Float64).log().fill_null(float("nan")).to_numpy())


def excess(chances: Floats, expected: Floats | float) -> Floats:
    """Logarithm of chances over those expected; a dozen games are little."""
    return np.asarray(np.log((chances + 50) / (expected + 50)))


def fit(part: Part, played: pl.DataFrame, more: Floats) -> tuple[Spread, Floats, Floats]:
    """Maximum a posteriori of a beta-binomial, or negative binomial, likelihood of earlier seasons' counts.

    Returns:
        The constants, and of each row how far talent was from its mean, in sd and as far as the counts show it, and the
        share of it that they show; 0 where nothing.
    """
    happened = arrays(played, "y:")
    y, n = part.counted(happened).clip(min=0), part.chances(happened)
    mean = max(float(np.nansum(y) / max(np.nansum(n), 1.0)), 1e-5)
    own = own_sd(part, played)
    heard = bool(len(own)) and bool(np.isfinite(own).mean() > 0.5)
    names = ["level", "played", "spread", "unreliable"] + ["own"] * heard + ["clumped"] * (part.kind == "poisson")
    prior = np.array([_PRIOR[c] for c in names])

    def spread(constants: Floats) -> Spread:
        given = {"own": 0.0, "clumped": -np.inf} | dict(zip(names, constants.tolist(), strict=True))
        return Spread(**given, mean=mean, own_mean=float(np.nanmean(own)) if heard else 0.0)

    start = spread(prior[:, 0])
    used = np.isfinite(start.centre(part, played)) & (n > 0) & np.isfinite(y)
    rows, y, n, moved = played.filter(pl.Series(used)), y[used], n[used], more[used]
    y = np.minimum(y, n) if part.kind == "binomial" else y
    centre, unreliable, own_used = start.centre(part, rows), rows["unreliable"].to_numpy(), own[used]

    def moments(s: Spread) -> tuple[Floats, Floats]:
        x = centre + s.level + s.played * moved
        return expit(x) if part.kind == "binomial" else np.exp(x), s.deviation(unreliable, own_used)

    def loss(constants: Floats) -> float:
        s = spread(constants)
        p, sd = moments(s)
        far = 0.5 * np.sum(((constants - prior[:, 0]) / prior[:, 1]) ** 2)
        if part.kind == "binomial":
            strength = 1 / (p * (1 - p) * sd**2)
            a, b = p * strength, (1 - p) * strength
            return float(far - np.sum(betaln(y + a, n - y + b) - betaln(a, b)))
        k = 1 / (np.expm1(sd**2) + np.exp(s.clumped) / (n * p))
        share = k / (k + n * p)
        return float(far - np.sum(gammaln(y + k) - gammaln(k) + k * np.log(share) + y * np.log1p(-share)))

    near = np.stack([prior[:, 0] - 4 * prior[:, 1], prior[:, 0] + 4 * prior[:, 1]], axis=1)
    best = spread(np.asarray(minimize(loss, prior[:, 0], method="L-BFGS-B", bounds=near).x)) if len(rows) else start
    p, sd = moments(best)
    steep = n * p * (1 - p) if part.kind == "binomial" else n * p
    noise = steep * (1 + np.exp(best.clumped))
    shown, surprise = np.zeros(len(used)), np.zeros(len(used))
    shown[used] = steep**2 * sd**2 / (noise + steep**2 * sd**2)
    surprise[used] = (y - n * p) * shown[used] / (steep * sd)
    return best, surprise, shown


def mixing(surprises: Sequence[Floats], shown: Sequence[Floats]) -> Floats:
    """A root of the talents' correlations: chance does not correlate, so surprises correlate as talents do."""
    x, h = np.stack(surprises), np.stack(shown)
    found = np.clip((x @ x.T) / np.maximum(h @ h.T, 1e-9), -0.95, 0.95)
    np.fill_diagonal(found, 1.0)
    values, vectors = np.linalg.eigh(found)
    root = vectors * np.sqrt(values.clip(min=1e-6))
    return np.asarray(root / np.linalg.norm(root, axis=1, keepdims=True))
