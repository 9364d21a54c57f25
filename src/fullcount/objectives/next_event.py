"""Next-event prediction: left to right, the situation is known, the pitch is told field by field as it happens."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import EVENT, Batch
from fullcount.errors import FullcountError
from fullcount.fields import OUTCOMES
from fullcount.model.heads import FieldChain
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    generator_of,
    plate_appearance_outcomes,
)


class NextEventConfig(ObjectiveConfig):
    """Options of next-event prediction."""

    kind: Literal["next_event"] = "next_event"
    components: int = Field(4, gt=0)  # Gaussians in the mixture of each numeric field
    numeric: float = Field(0.1, gt=0)  # weight of each numeric field: there are eleven, with unbounded densities
    unseen: float = Field(0.3, ge=0, le=1)  # share of pitches whose results are predicted without the delivery

    def build(self, encoder: GamestateTransformer, data: Data) -> NextEvent:
        return NextEvent(encoder, self.components, self.unseen, self.numeric)


class NextEvent(Objective):
    """p(pitch | everything before it, its situation), as a chain over fields; and how its plate appearance will end.

    The state of the token before a pitch has read that pitch's situation (`EventEmbedder`, ahead) and nothing of what
    it did. The plate appearance's outcome is asked for at each of its pitches, from the same states.

    Args:
        encoder: a causal one.
        components: see `FieldChain`.
        unseen: share of pitches whose result is predicted without the delivery.
        numeric: weight of each numeric field in the training total.

    Raises:
        FullcountError: the encoder sees what it is to predict.
    """

    def __init__(
        self, encoder: GamestateTransformer, components: int = 4, unseen: float = 0.3, numeric: float = 0.1
    ) -> None:
        super().__init__()
        if not encoder.config.causal:
            raise FullcountError("next_event: the encoder sees later events; set encoder.causal = true")
        self.encoder, self.unseen, self.numeric = encoder, unseen, numeric
        self.chain = FieldChain(encoder.config.d_model, components)
        self.outcome = nn.Linear(encoder.config.d_model, len(OUTCOMES))

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is known before each event: states [n, d_model], and where the events are, [B, S] bool."""
        where = batch.kind == EVENT
        return self.encoder(batch)[:, :-1][where[:, 1:]], where

    def forward(self, batch: Batch) -> Losses:
        """Nats per field over the pitches that have it, and of the plate appearance's outcome over its pitches."""
        states, where = self.states(batch)
        drawn = torch.rand(len(states), generator=generator_of(batch)).to(states.device)
        losses = Losses()
        pitch = batch.categorical[where], batch.numeric[where], batch.present[where]
        mix = None if batch.repertoire is None else batch.repertoire[where]
        for field, total, count in self.chain(states, *pitch, drawn < self.unseen, mix):
            losses.add(field.name, total, count, self.numeric if field.is_numeric else 1.0)
        outcome = plate_appearance_outcomes(batch)[where]
        losses.classify("outcome", self.outcome(states), outcome)
        return losses

    @torch.no_grad()
    def forecast(self, batch: Batch) -> dict[str, Tensor]:
        """Before each event: log-probabilities [events, classes] of its `pitch_type` and `call` (the delivery unseen),
        and of the `outcome` of its plate appearance."""
        states, where = self.states(batch)
        read = {name: self.chain.read[name](states) for name in ("pitch_type", "call")}
        if batch.repertoire is not None:
            read["pitch_type"] = read["pitch_type"] + batch.repertoire[where]
        return {n: x.float().log_softmax(-1) for n, x in (read | {"outcome": self.outcome(states)}).items()}
