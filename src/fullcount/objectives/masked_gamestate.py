"""Masked gamestate modelling: hide whole pitches, tell from the rest what happened (Heaton & Mitra 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fullcount.batches import EVENT, Batch
from fullcount.fields import COLUMN, Role
from fullcount.model.heads import FieldHeads
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    ends_game,
    generator_of,
    hide,
)


class MaskedGamestateConfig(ObjectiveConfig):
    """Options of masked gamestate modelling."""

    kind: Literal["masked_gamestate"] = "masked_gamestate"
    rate: float = Field(0.15, gt=0, lt=1)  # share of events hidden

    def build(self, encoder: GamestateTransformer, data: Data) -> MaskedGamestate:
        return MaskedGamestate(encoder, self.rate)


class MaskedGamestate(Objective):
    """Hide `rate` of the pitches (delivery, result, transition and what follows from them) and predict their fields.

    Args:
        encoder: what is trained.
        rate: share of events hidden.
        weights: weight of each predicted field in the training total (default 1).
    """

    hides = (Role.DELIVERY, Role.RESULT, Role.TRANSITION)

    def __init__(
        self, encoder: GamestateTransformer, rate: float = 0.15, weights: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.rate, self.weights = encoder, rate, weights or {}
        self.heads = FieldHeads(encoder.config.d_model)

    def mask(self, batch: Batch) -> Tensor:
        """[B, S] bool: the hidden events of this batch; differs at every step, is a function of the batch's seed."""
        draws = torch.rand(batch.kind.shape, generator=generator_of(batch)).to(batch.kind.device)
        return (draws < self.rate) & (batch.kind == EVENT) & ~ends_game(batch)

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy (nats) per predicted field over the hidden events whose field is known."""
        targets = self.mask(batch)
        hidden = hide(batch, targets, self.hides)
        states = self.encoder(batch, hidden)[targets]
        truth = batch.categorical[targets].long()
        losses = Losses()
        for name, logits in self.heads(states).items():
            wanted = truth[:, COLUMN[name]] - 1
            losses.classify(name, logits, wanted, self.weights.get(name, 1.0))
        return losses

    @torch.no_grad()
    def predict(self, batch: Batch, targets: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of each predicted field at the given targets [B, S]."""
        states = self.encoder(batch, hide(batch, targets, self.hides))[targets]
        return {name: logits.float().log_softmax(-1) for name, logits in self.heads(states).items()}
