"""A multi-task network that learns from earlier seasons where Marcel is wrong, refitted for every season projected.

It reads the facts of the boosted trees and learns the same differences, all with one trunk and a head for each. Inputs
and differences are standardised, and training stops by the plain error of the last seasons: the weighted loss, which
the learned variances may push below any bound, says nothing of when to stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from fullcount.errors import FullcountError
from fullcount.objectives.combination import Weighting
from fullcount.projection.boosted import LEAST_ROWS, differences, moved
from fullcount.projection.facts import base, examples, fact_names, facts, matrix
from fullcount.projection.kept import kept
from fullcount.projection.system import ROLES, League, Projection, Role, target_season

Floats = NDArray[np.float64]

#: Inputs are cut off so many standard deviations from the mean.
_FAR = 4.0


class Standards(NamedTuple):
    """Mean and standard deviation [facts] of the known, and which facts' absence is an input of its own."""

    mean: Floats
    sd: Floats
    absent: list[int]

    @classmethod
    def of(cls, x: Floats) -> Standards:
        """Those of `x` [rows, facts], NaN where unknown. Facts absent on the same rows have one input together."""
        absent = np.isnan(x)
        rows = (~absent).sum(axis=0).clip(1)
        mean = np.where(absent, 0.0, x).sum(axis=0) / rows
        sd = np.sqrt((np.where(absent, 0.0, x - mean) ** 2).sum(axis=0) / rows)
        first = np.unique(absent, axis=1, return_index=True)[1]
        return cls(mean, np.where(sd > 0, sd, 1.0), [int(i) for i in first if 0 < absent[:, i].mean() < 1])

    def __call__(self, x: Floats) -> Tensor:
        """Inputs [rows, facts + absent]: standardised, the mean (0) where unknown, then 1 for what is absent."""
        absent = np.isnan(x)
        z = np.clip(np.where(absent, 0.0, (x - self.mean) / self.sd), -_FAR, _FAR)
        return torch.tensor(np.concatenate([z, absent[:, self.absent]], axis=1), dtype=torch.float32)


class MultiTaskNet(nn.Module):
    """Several networks of the same shape side by side: two hidden layers, and a linear head a task that begins at 0."""

    def __init__(self, members: int, inputs: int, hidden: int, tasks: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs, hidden, hidden]
        layers = [torch.randn(members, i, o) / i**0.5 for i, o in pairwise(sizes)]
        self.weights = nn.ParameterList([*layers, torch.zeros(members, hidden, tasks)])
        self.biases = nn.ParameterList([torch.zeros(members, 1, w.shape[-1]) for w in self.weights])
        self.log_variances = nn.Parameter(torch.zeros(tasks))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """What each member says of rows `x` [rows, inputs]: [members, rows, tasks]."""
        *trunk, head = zip(self.weights, self.biases, strict=True)
        x = x.expand(len(head[0]), *x.shape)
        for weight, bias in trunk:
            x = dropout(silu(torch.baddbmm(bias, x, weight)), self.dropout, self.training)
        return torch.baddbmm(head[1], x, head[0])

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """The members' mean [rows, tasks]."""
        return torch.mean(self(x), dim=0)


@dataclass(frozen=True)
class MTLTrainer:
    """Trains a `MultiTaskNet`; what is set here was chosen on 2012-2018.

    With L the squared error of a task and s its learned log-variance, exp(-s) L + s is trained, summed over tasks
    (homoscedastic uncertainty, Kendall, Gal & Cipolla 2018, their form for regression); `weighting="fixed"`: L alone.
    Training stops when the plain error of held rows, that of the members' mean over all tasks, has not been lower
    for `patience` passes, and after the `most`.
    """

    members: int = 5
    hidden: int = 64
    dropout: float = 0.2
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    batch: int = 512
    most: int = 40
    patience: int = 4
    weighting: Weighting = "uncertainty"
    seed: int = 0

    def fit(self, x: Tensor, y: Tensor, w: Tensor, held: Tensor) -> MultiTaskNet:
        """A net of all rows, after as many passes as were best on the rows `held` [rows] for one of the others.

        `x` [rows, inputs]; `y`, `w` [rows, tasks]: what is learned, and its weight, both about 1 in size. Does not
        depend on how many threads there are. FullcountError where every row is held or none.
        """
        if held.all() or not held.any():
            raise FullcountError(
                f"{len(held)} rows, {int(held.sum())} of them held: nothing to learn from or to stop by"
            )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                best = self.best(self.passes(x[~held], y[~held], w[~held]), x[held], y[held], w[held])
                return next(islice(self.passes(x, y, w), best, None))
        finally:
            torch.set_num_threads(threads)

    def best(self, passes: Iterable[MultiTaskNet], x: Tensor, y: Tensor, w: Tensor) -> int:
        """Number of the net with the least plain error on these rows; no more is read than it takes to stop."""
        least, best = float("inf"), 0
        for number, net in enumerate(islice(passes, self.most + 1)):
            error = float((w * (net.mean(x) - y) ** 2).mean())
            if error < least:
                least, best = error, number
            elif number - best >= self.patience:
                break
        return best

    def passes(self, x: Tensor, y: Tensor, w: Tensor) -> Iterator[MultiTaskNet]:
        """One net after 0, 1, 2, ... passes over the rows, without end."""
        torch.manual_seed(self.seed)
        net = MultiTaskNet(self.members, x.shape[1], self.hidden, y.shape[1], self.dropout)
        kinds = {"params": [*net.weights]}, {"params": [*net.biases, net.log_variances], "weight_decay": 0.0}
        optimiser = torch.optim.AdamW(kinds, self.learning_rate, weight_decay=self.weight_decay)
        while True:
            yield net.eval()
            net.train()
            for rows in torch.randperm(len(x)).chunk(max(1, len(x) // self.batch)):
                error = (w[rows] * (net(x[rows]) - y[rows]) ** 2).mean(dim=(0, 1))
                if self.weighting == "uncertainty":
                    error = torch.exp(-net.log_variances) * error + net.log_variances
                optimiser.zero_grad()
                error.sum().backward()
                optimiser.step()


@dataclass(frozen=True)
class MultiTask:
    """Marcel plus differences that a `MultiTaskNet` says, learned from the seasons `first` .. the one before.

    Which differences, from whom, and what `least_pa` and `least_ip` are, is said of `BoostedMarcel`. Training stops by
    the last two seasons. `shared`: one trunk for all differences of a role, or a net for each.
    """

    name: str = "multitask"
    least_pa: float = 200.0
    least_ip: float = 50.0
    first: int = 2001
    shared: bool = True
    trainer: MTLTrainer = MTLTrainer()

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`; fitted once a season and league."""
        season = target_season(as_of)
        hitters, pitchers = (kept(_projected, league, self, role, season) for role in ROLES)
        return Projection.of(season, hitters, pitchers)


def _projected(league: League, system: MultiTask, role: Role, season: int) -> pl.DataFrame:
    past, now = examples(league, role, system.first, season), facts(league, role, season)
    learned = differences(past, now, role, system.least_pa if role == "hitters" else system.least_ip)
    return moved(base(league, season).role(role), now, role, _said(system, past, now, learned))


def _said(
    system: MultiTask, past: pl.DataFrame, now: pl.DataFrame, learned: dict[str, tuple[Floats, Floats]]
) -> dict[str, Floats]:
    """What the net says of `now`, by statistic [rows]; none with too few rows to learn from or to stop by."""
    held = past["season"].is_in(past["season"].unique().sort()[-2:]).to_numpy()
    names = fact_names(now)
    learned = {c: (y, w) for c, (y, w) in learned.items() if (w[~held] > 0).sum() >= LEAST_ROWS and w[held].any()}
    said: dict[str, Floats] = {}
    for group in [list(learned)] if learned and system.shared else [[c] for c in learned]:
        y, w = (np.stack([learned[c][k] for c in group], axis=1) for k in (0, 1))
        used = w.any(axis=1)
        x, y, w = matrix(past, names)[used], y[used], w[used] / w[used].mean(axis=0)
        spread = np.sqrt((w * y**2).mean(axis=0))
        spread[spread == 0] = 1.0
        standards = Standards.of(x)
        inputs, label, weight = standards(x), torch.tensor(y / spread).float(), torch.tensor(w).float()
        net = system.trainer.fit(inputs, label, weight, torch.tensor(held[used]))
        by = net.mean(standards(matrix(now, names))).double().numpy() * spread
        said |= dict(zip(group, by.T, strict=True))
    return said
