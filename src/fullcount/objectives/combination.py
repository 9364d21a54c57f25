"""Several objectives on one encoder."""

from __future__ import annotations

from math import log
from typing import Literal

import torch
from torch import Tensor, nn

from fullcount.batches import Batch
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import Losses, Objective

Weighting = Literal["fixed", "uncertainty"]


class Combination(Objective):
    """Objectives trained together; each encodes the batch for itself, so a step costs the sum of theirs.

    Losses are named "kind/loss". "fixed": each objective's losses have its weight in the training total.
    "uncertainty": homoscedastic uncertainty (Kendall, Gal & Cipolla 2018) in the form for classification: with s the
    learned log-variance of an objective and L the total of its own losses, exp(-s) L + s / 2 is trained; s begins at
    -log(weight), so that training begins as with fixed weights. Either way the losses themselves are raw. While
    training, s is logged as "kind/log_variance"; it is no loss and no validation figure, so nothing stops by it.

    Args:
        encoder: the one that all objectives were built on.
        objectives: by kind.
        weights: by kind.
        weighting: fixed or learned.
    """

    def __init__(
        self,
        encoder: GamestateTransformer,
        objectives: dict[str, Objective],
        weights: dict[str, float],
        weighting: Weighting = "fixed",
    ) -> None:
        super().__init__()
        self.encoder = encoder  # first, so that its tensors are called `encoder.*`
        self.objectives = nn.ModuleDict(objectives)
        self.weights, self.log_variances = dict(weights), None
        if weighting == "uncertainty":
            self.log_variances = nn.ParameterDict({k: torch.tensor(-log(weights[k])) for k in objectives})

    def forward(self, batch: Batch) -> Losses:
        """All losses of all objectives, raw, with their weights in the training total."""
        losses = Losses()
        for kind, objective in self.objectives.items():
            own: Losses = objective(batch)
            weight: float | Tensor = self.weights[kind]
            if self.log_variances is not None:
                s = self.log_variances[kind]
                weight = torch.exp(-s)
                if self.training:  # its "mean" is s, its part of the total s / 2
                    losses.add(f"{kind}/log_variance", s, torch.ones((), device=s.device), 0.5)
            for name, total in own.sums.items():
                losses.add(f"{kind}/{name}", total, own.counts[name], weight * own.weights[name])
        return losses

    def saved_state(self) -> dict[str, Tensor]:
        """Every tensor once, under its first name: the encoder's as `encoder.*`, whoever else holds it."""
        once: dict[int, tuple[str, Tensor]] = {}
        for name, tensor in self.state_dict(keep_vars=True).items():
            once.setdefault(id(tensor), (name, tensor))
        return dict(once.values())
