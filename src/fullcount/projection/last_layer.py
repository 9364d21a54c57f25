"""Bayesian last layer: what representations of a player's play add to any system's rates, refitted for every season.

Each rate's log-odds depart from the system's by a linear map of the representation,

    log-odds = log-odds(system) + w . x,    w ~ N(0, a I),

and what a player did in n chances is told from that by binomial noise and by talent that nobody foresaw, of variance t.
The two variances maximise the evidence (MacKay 1992), so that a representation with nothing to say gets no weight
and there is nothing to tune; w is the posterior mean. One Newton step from the system's rates makes it linear: with
p the system's rate and y what happened, (y/n - p) / (p (1 - p)) has mean w . x and variance 1 / (n p (1 - p)) + t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]

#: Where the search for the variances of a weight and of unforeseen talent begins, and (squared) how far in logs either
#: may be from there without surprise.
START, SURPRISE = (1e-4, 1e-2), 16.0


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
    start = np.log([*[START[0]] * len(blocks), START[1]])

    def posterior(logs: Floats) -> tuple[float, Floats, Floats, Floats]:
        """Log evidence; and the posterior of w / scale: Cholesky factor of its precision, mean; scale."""
        scale = np.exp(logs[:-1] / 2)[group]
        precision = 1 / (noise + np.exp(logs[-1]))
        scaled = x * scale
        lower = np.linalg.cholesky((scaled * precision[:, None]).T @ scaled + np.eye(len(scale)))
        half = solve_triangular(lower, scaled.T @ (precision * z), lower=True)
        residual = (precision * z * z).sum() - half @ half
        evidence = 0.5 * np.log(precision).sum() - np.log(np.diag(lower)).sum() - 0.5 * residual
        return evidence, lower, half, scale

    def surprise(logs: Floats) -> float:
        return -posterior(logs)[0] + float(np.square(logs - start).sum()) / (2 * SURPRISE)

    found = minimize(surprise, start, method="Nelder-Mead", options={"xatol": 0.05, "fatol": 0.02, "maxiter": 200})
    _, lower, half, scale = posterior(found.x)
    inverse = solve_triangular(lower, np.eye(len(scale)), lower=True).T
    return Weights(scale * (inverse @ half), scale[:, None] * inverse, float(np.exp(found.x[-1])))
