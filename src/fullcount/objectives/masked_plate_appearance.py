"""Masked plate appearance: hide how a plate appearance ended, tell it from the pitches that led there."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import Batch
from fullcount.fields import OUTCOMES, Role
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    ends_game,
    ends_plate_appearance,
    generator_of,
    hide,
    plate_appearance_outcomes,
)


class MaskedPlateAppearanceConfig(ObjectiveConfig):
    """Options of masked plate appearances."""

    kind: Literal["masked_plate_appearance"] = "masked_plate_appearance"
    rate: float = Field(0.3, gt=0, lt=1)  # share of plate appearances whose outcome is hidden

    def build(self, encoder: GamestateTransformer, data: Data) -> MaskedPlateAppearance:
        return MaskedPlateAppearance(encoder, self.rate)


class MaskedPlateAppearance(Objective):
    """Hide the last pitch of `rate` of the plate appearances and predict the outcome (`fields.OUTCOMES`) from there.

    Only last pitches are ever hidden, so that a pitch is the last is given away for every outcome alike; the count
    before it is context. Its delivery is hidden too: a pitch in the dirt at three balls is a walk, one at the batter's
    ribs has hit him. One target for each hidden plate appearance, read from the state of its last pitch, which
    attends to the others.

    Args:
        encoder: what is trained.
        rate: share of plate appearances hidden.
    """

    hides = (Role.DELIVERY, Role.RESULT, Role.TRANSITION)

    def __init__(self, encoder: GamestateTransformer, rate: float = 0.3) -> None:
        super().__init__()
        self.encoder, self.rate = encoder, rate
        self.outcome = nn.Linear(encoder.config.d_model, len(OUTCOMES))

    def mask(self, batch: Batch) -> Tensor:
        """[B, S] bool: the last pitches of the hidden plate appearances, a function of the batch's seed."""
        draws = torch.rand(batch.kind.shape, generator=generator_of(batch)).to(batch.kind.device)
        known = ends_plate_appearance(batch) & (plate_appearance_outcomes(batch) >= 0)
        return (draws < self.rate) & known & ~ends_game(batch)

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy (nats) of the outcome over the hidden plate appearances."""
        targets = self.mask(batch)
        states = self.encoder(batch, hide(batch, targets, self.hides))[targets]
        losses = Losses()
        losses.classify("outcome", self.outcome(states), plate_appearance_outcomes(batch)[targets])
        return losses
