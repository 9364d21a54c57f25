"""Inning: which inning was a pitch thrown in, in a game that does not say?"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import EVENT, Batch
from fullcount.fields import BY_NAME, COLUMN
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    generator_of,
    hide_fields,
    segments,
)

#: The inning and what follows from it. Outs and bases stay: to count half innings is work, not copying.
TELLING = frozenset({"inning", "times_through"})


class InningConfig(ObjectiveConfig):
    """Options of inning prediction."""

    kind: Literal["inning"] = "inning"
    rate: float = Field(0.3, gt=0, lt=1)  # share of games that do not show their innings

    def build(self, encoder: GamestateTransformer, data: Data) -> Inning:
        return Inning(encoder, self.rate)


class Inning(Objective):
    """Hide the inning (and the time through the order) in `rate` of the games; predict it at each of their pitches.

    Twelve classes, the last for the twelfth inning and later. The player's other games show theirs: a reliever's
    usual inning is context.

    Args:
        encoder: what is trained.
        rate: share of games.
    """

    def __init__(self, encoder: GamestateTransformer, rate: float = 0.3) -> None:
        super().__init__()
        self.encoder, self.rate = encoder, rate
        self.inning = nn.Linear(encoder.config.d_model, BY_NAME["inning"].capacity - 1)

    def mask(self, batch: Batch) -> Tensor:
        """[B, S] bool: the events of the games drawn, a function of the batch's seed."""
        first, _ = segments(batch.position == 0)
        draws = torch.rand(batch.kind.shape, generator=generator_of(batch)).to(batch.kind.device)
        return (batch.kind == EVENT) & (draws.gather(1, first) < self.rate)

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy (nats) of the inning over the pitches of the drawn games."""
        targets = self.mask(batch)
        states = self.encoder(batch, hide_fields(targets, TELLING))[targets]
        losses = Losses()
        losses.classify("inning", self.inning(states), batch.categorical[targets][:, COLUMN["inning"]].long() - 1)
        return losses
