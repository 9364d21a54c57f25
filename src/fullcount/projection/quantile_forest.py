"""Whose season may be a player's, too: a forest of trees that keeps the rows of its leaves.

Meinshausen, Quantile Regression Forests, JMLR 7, 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAVES = 255
_PARAMETERS = {
    "boosting": "rf", "objective": "l2", "num_leaves": _LEAVES, "min_data_in_leaf": 10, "bagging_fraction": 0.6,
    "bagging_freq": 1, "feature_fraction_bynode": 0.5, "max_bin": 63, "deterministic": True, "force_row_wise": True,
    "num_threads": 1, "verbose": -1,
}  # fmt: skip
TREES = 100


class Forest(NamedTuple):
    """Trees, and the rows they were grown on.

    Attributes:
        trees: groups of trees. rows: [trees, n], of each tree its rows, leaf by leaf. first: [trees, leaves + 1], where
            each leaf's rows begin. carried: [n, k], what a drawn row brings.
    """

    trees: list[lightgbm.Booster]
    rows: Ints
    first: Ints
    carried: Floats

    def draw(self, rngs: Sequence[np.random.Generator], x: Floats, draws: int) -> Floats:
        """[m, draws, k]: for features [m, d], of each time a tree at random, and out of its leaf a row at random."""
        leaf = np.concatenate([_leaves(t, x) for t in self.trees])
        tree, place = np.empty((len(x), draws), np.int64), np.empty((len(x), draws))
        for i, rng in enumerate(rngs):
            tree[i], place[i] = rng.integers(len(leaf), size=draws), rng.random(draws)
        own = leaf[tree, np.arange(len(x))[:, None]]
        low, high = self.first[tree, own], self.first[tree, own + 1]
        return np.asarray(self.carried[self.rows[tree, low + (place * (high - low)).astype(np.int64)]])


def grow(x: Floats, carried: Floats) -> Forest:
    """A forest on features [n, d] that splits by the first column of `carried` [n, k], mixed at random with others."""
    spread = carried.std(axis=0)
    data = lightgbm.Dataset(x, free_raw_data=False)
    rng = np.random.default_rng(0)
    trees, rows, first = [], [], []
    for seed in range(TREES // 10):
        weights = np.r_[1.0, 0.5 * rng.exponential(size=carried.shape[1] - 1)]
        data.set_label(carried @ (weights / np.where(spread > 0, spread, 1.0)))
        tree = lightgbm.train(_PARAMETERS | {"seed": seed}, data, 10)
        for leaves in _leaves(tree, x):
            rows.append(np.argsort(leaves, kind="stable"))
            first.append(np.r_[0, np.cumsum(np.bincount(leaves, minlength=_LEAVES))])
        trees.append(tree)
    return Forest(trees, np.stack(rows), np.stack(first), carried)


def _leaves(trees: lightgbm.Booster, x: Floats) -> Ints:
    """[trees, m] number of the leaf."""
    return np.asarray(trees.predict(x, pred_leaf=True), dtype=np.int64).reshape(len(x), -1).T
