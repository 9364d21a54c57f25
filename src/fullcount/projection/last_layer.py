"""Bayesian last layer: what representations of a player's play add to any system's rates, refitted for every season.

Each rate's log-odds depart from the system's by a linear map of the representation,

    log-odds = log-odds(system) + w . x,    w ~ N(0, a I),

and what a player did in n chances is told from that by binomial noise and by talent that nobody foresaw, of variance t.
The two variances maximise the evidence (MacKay 1992), so that a representation with nothing to say gets no weight
and no strength is to be tuned; w is the posterior mean. One Newton step from the system's rates makes it linear: with
p the system's rate and y what happened, (y/n - p) / (p (1 - p)) has mean w . x and variance 1 / (n p (1 - p)) + t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize, minimize_scalar

Floats = NDArray[np.float64]

#: Usual variances of a weight and of unforeseen talent, and (squared) how far in logs either may be from there
#: without surprise: a weak prior, which keeps them in sight where the evidence is flat.
USUAL_WEIGHT, USUAL_TALENT, SURPRISE = 1e-4, 1e-2, 16.0


class Weights(NamedTuple):
    """The posterior of a last layer of d inputs.

    Attributes:
        mean: [d]. factor: [d, d], covariance = factor @ factor.T. talent: variance of log-odds that nobody foresaw.
    """

    mean: Floats
    factor: Floats
    talent: float

    def shift(self, x: Floats) -> Floats:
        """[m] departures of the log-odds for inputs [m, d]."""
        return np.asarray(x @ self.mean)

    def spread(self, x: Floats) -> Floats:
        """[m] standard deviations of a player's log-odds about the projected ones."""
        return np.asarray(np.sqrt(np.square(x @ self.factor).sum(axis=1) + self.talent))


def fit(x: Floats, z: Floats, noise: Floats, blocks: tuple[int, ...]) -> Weights:
    """The posterior of w for z [n] ~ N(x w, noise [n] + t), x [n, d].

    Args:
        blocks: widths of groups of inputs, each with a variance of its weights of its own; they sum to d.
    """
    group = np.repeat(np.arange(len(blocks)), blocks)

    def best(log_talent: float) -> tuple[float, _Posterior]:
        # Products over rows depend on t alone: the variances of weights are searched for on [d, d].
        products = _products(x, z, noise, log_talent)

        def surprise(logs: Floats) -> float:
            return -_posterior(logs, group, products).evidence + _unusual(logs, USUAL_WEIGHT)

        start = np.full(len(blocks), np.log(USUAL_WEIGHT))
        logs = minimize(surprise, start, method="Nelder-Mead", options={"xatol": 0.05, "fatol": 0.02}).x
        return surprise(logs) + _unusual(np.array([log_talent]), USUAL_TALENT), _posterior(logs, group, products)

    middle = float(np.log(USUAL_TALENT))
    reach = (middle - 2 * SURPRISE**0.5, middle + 2 * SURPRISE**0.5)
    found = minimize_scalar(lambda t: best(t)[0], bounds=reach, method="bounded", options={"xatol": 0.05})
    _, chosen = best(found.x)
    inverse = solve_triangular(chosen.lower, np.eye(x.shape[1]), lower=True).T
    scale = chosen.scale
    return Weights(scale * (inverse @ chosen.half), scale[:, None] * inverse, float(np.exp(found.x)))


class _Posterior(NamedTuple):
    """Log evidence; `scale` [d], prior sd of the weights; of w / scale the Cholesky factor L of its precision [d, d],
    and `half` = L' mean [d]."""

    evidence: float
    lower: Floats
    half: Floats
    scale: Floats


def _products(x: Floats, z: Floats, noise: Floats, log_talent: float) -> tuple[Floats, Floats, float]:
    """x'Px [d, d], x'Pz [d], and the log-likelihood of z where all weights are 0, P = 1 / (noise + t)."""
    precision = 1 / (noise + np.exp(log_talent))
    weighted = (x * precision[:, None]).T
    return weighted @ x, weighted @ z, 0.5 * float((np.log(precision) - precision * z * z).sum())


def _posterior(logs: Floats, group: NDArray[np.int64], products: tuple[Floats, Floats, float]) -> _Posterior:
    """For log variances of weights `logs` [blocks], `group` [d] saying which is a weight's."""
    squares, with_z, none = products
    scale = np.exp(logs / 2)[group]
    lower = np.asarray(np.linalg.cholesky(scale[:, None] * squares * scale + np.eye(len(scale))), dtype=np.float64)
    half = solve_triangular(lower, scale * with_z, lower=True)
    return _Posterior(none - np.log(np.diag(lower)).sum() + 0.5 * half @ half, lower, half, scale)


def _unusual(logs: Floats, usual: float) -> float:
    """How unusual log variances are: minus the log density of their prior, up to a constant."""
    return float(np.square(logs - np.log(usual)).sum()) / (2 * SURPRISE)
