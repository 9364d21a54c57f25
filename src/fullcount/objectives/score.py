"""Score: by how much will the batting team lead when the half inning is over?"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import EVENT, PAD, Batch
from fullcount.fields import BY_NAME, COLUMN, DELTAS, FIELDS, Role
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    generator_of,
    hide,
    hide_fields,
    segments,
)

CLASSES = BY_NAME["score_diff"].capacity - 1  # -8 or less ... 8 or more
#: Runs on the pitch that ends a half inning, by delta id; -1 for every other pitch.
_RUNS = torch.tensor([-1, *(int(d[len("half r") :]) if d.startswith("half") else -1 for d in DELTAS)])
_SITUATION = next(i for i, f in enumerate(FIELDS) if f.dynamic)


class ScoreConfig(ObjectiveConfig):
    """Options of score prediction."""

    kind: Literal["score"] = "score"
    rate: float = Field(0.5, gt=0, lt=1)  # share of games that are cut off at a pitch

    def build(self, encoder: GamestateTransformer, data: Data) -> Score:
        return Score(encoder, self.rate)


class Score(Objective):
    """Cut `rate` of the games off at a pitch; predict the score difference at the end of its half inning.

    At the pitch its situation is shown, except the score, which is hidden from the beginning of the half inning; what
    it did is hidden, and nothing of the game is left after it (not even how many pitches were still to come). So the
    score of earlier innings, the runs seen since, and what outs, bases and the players promise tell the answer.

    A window holds one player's events. The end of a half inning is seen where the last of them that he had in it made
    the third out; other half innings (a reliever came in, another batter made the last out, the game was won) have no
    target. Batting minus fielding, clipped at 8 either way, one class each.

    Args:
        encoder: what is trained.
        rate: share of games cut off, of those with such a half inning.
    """

    hides = (Role.DELIVERY, Role.RESULT, Role.TRANSITION)

    def __init__(self, encoder: GamestateTransformer, rate: float = 0.5) -> None:
        super().__init__()
        self.encoder, self.rate = encoder, rate
        self.score = nn.Linear(encoder.config.d_model, CLASSES)

    @staticmethod
    def finals(batch: Batch) -> Tensor:
        """[B, S] class of the score difference at the end of the half inning of each event; -1 where not seen."""
        last = _half_innings(batch)[1]
        score = batch.categorical[..., COLUMN["score_diff"]].long().gather(1, last)
        runs = _RUNS.to(last.device)[batch.categorical[..., COLUMN["delta"]].long()].gather(1, last)
        # The lowest score is "eight behind or more": with runs on top it is not known.
        known = (batch.kind == EVENT) & (score > 0) & (runs >= 0) & ((score > 1) | (runs == 0))
        return torch.where(known, (score - 1 + runs).clamp(max=CLASSES - 1), -1)

    def cut(self, batch: Batch) -> tuple[Batch, Tensor, Tensor]:
        """The batch without what follows the drawn pitches; those pitches [B, S] bool; hidden fields [B, S, fields]."""
        draws = torch.rand(2, *batch.kind.shape, generator=generator_of(batch)).to(batch.kind.device)
        game, _ = segments(batch.position == 0)
        key = torch.where(self.finals(batch) >= 0, draws[0], -1)
        drawn = (key >= 0) & (key == _highest(key, game)) & (draws[1].gather(1, game) < self.rate)
        hidden = hide(batch, drawn, self.hides)
        after = hidden[..., _SITUATION]
        drawn = drawn & ~after
        half, _ = _half_innings(batch)
        hidden |= hide_fields(_highest(drawn.float(), half) > 0, {"score_diff"})
        return replace(batch, kind=batch.kind.masked_fill(after, PAD)), drawn, hidden

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy (nats) of the final score difference at the drawn pitches."""
        shown, drawn, hidden = self.cut(batch)
        losses = Losses()
        losses.classify("score", self.score(self.encoder(shown, hidden)[drawn]), self.finals(batch)[drawn])
        return losses


def _half_innings(batch: Batch) -> tuple[Tensor, Tensor]:
    """First and last place [B, S] of what the window holds of each event's half inning."""
    begins = batch.kind != EVENT
    for name in ("inning", "top"):
        value = batch.categorical[..., COLUMN[name]]
        begins[:, 1:] |= value[:, 1:] != value[:, :-1]
    return segments(begins)


def _highest(values: Tensor, first: Tensor) -> Tensor:
    """[B, S] highest of `values` within the segment that begins at `first`."""
    return torch.full_like(values, -torch.inf).scatter_reduce(1, first, values, "amax").gather(1, first)
