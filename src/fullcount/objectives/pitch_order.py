"""Pitch order: the pitches of a plate appearance are shuffled; say in which place each was thrown."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import EVENT, Batch
from fullcount.fields import CATEGORICAL, COLUMN, FIELDS, Role
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    ends_plate_appearance,
    generator_of,
    hide_fields,
    segments,
)

PLACES = 10  # longer plate appearances (one in ten thousand) stay in order
#: Fields that say in which order pitches came: the count and what else moves on, and the change in it.
TELLING = frozenset(f.name for f in FIELDS if f.dynamic or f.role is Role.TRANSITION)
_MOVED = torch.tensor([f.role is not Role.SITUATION for f in CATEGORICAL])


class PitchOrderConfig(ObjectiveConfig):
    """Options of pitch order."""

    kind: Literal["pitch_order"] = "pitch_order"
    rate: float = Field(0.3, gt=0, lt=1)  # share of plate appearances shuffled

    def build(self, encoder: GamestateTransformer, data: Data) -> PitchOrder:
        return PitchOrder(encoder, self.rate)


class PitchOrder(Objective):
    """Shuffle deliveries and results among the pitches of `rate` of the plate appearances; tell each one's place.

    The last pitch stays where it is: its result says that it was the last. Of those before it the situation that
    changes and the gamestate delta are hidden; the final count, which the last pitch shows, follows from the shuffled
    calls whatever their order was. The places of a plate appearance with n such pitches are told among n, so that
    guessing costs log n.

    Args:
        encoder: what is trained.
        rate: share of plate appearances shuffled, of those with three pitches or more seen from first to last.
    """

    def __init__(self, encoder: GamestateTransformer, rate: float = 0.3) -> None:
        super().__init__()
        self.encoder, self.rate = encoder, rate
        self.place = nn.Linear(encoder.config.d_model, PLACES)

    def shuffle(self, batch: Batch) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """The shuffled batch; [B, S]: which pitches were shuffled, the place within the plate appearance (from 0) of
        the pitch now standing there, and how many pitches it was shuffled among."""
        begins = batch.categorical[..., COLUMN["begin_pa"]] > 0
        first, last = segments(begins | (batch.kind != EVENT))
        count = last - first
        whole = begins.gather(1, first) & ends_plate_appearance(batch).gather(1, last)
        draws = torch.rand(2, *batch.kind.shape, generator=generator_of(batch), dtype=torch.float64).to(first.device)
        place = torch.arange(first.shape[1], device=first.device).expand_as(first)
        shuffled = whole & (place < last) & (count >= 2) & (count <= PLACES) & (draws[0].gather(1, first) < self.rate)
        # A plate appearance's pitches come in order of their draws, within the places they had.
        source = torch.where(shuffled, first + draws[1], place.double()).argsort(dim=1)

        def moved(values: Tensor) -> Tensor:
            return values.gather(1, source.unsqueeze(-1).expand_as(values))

        categorical = torch.where(_MOVED.to(first.device), moved(batch.categorical), batch.categorical)
        changed = replace(batch, categorical=categorical, numeric=moved(batch.numeric), present=moved(batch.present))
        return changed, shuffled, source - first, count

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy (nats) of the place of each shuffled pitch."""
        changed, shuffled, place, count = self.shuffle(batch)
        states = self.encoder(changed, hide_fields(shuffled, TELLING))[shuffled]
        beyond = torch.arange(PLACES, device=states.device) >= count[shuffled].unsqueeze(-1)
        losses = Losses()
        losses.classify("place", self.place(states).float().masked_fill(beyond, -torch.inf), place[shuffled])
        return losses
