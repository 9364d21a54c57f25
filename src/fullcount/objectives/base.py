"""The objective contract: a module whose forward turns a batch into named losses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fullcount.batches import EVENT, SEPARATOR, Batch, Sampler
from fullcount.fields import COLUMN, EVENT_OUTCOME, EVENTS, FIELDS, OUTCOMES, Role
from fullcount.model.transformer import GamestateTransformer
from fullcount.store import Store

#: Class of the plate-appearance outcome by event id; -1 for no event and for what is no plate appearance.
_OUTCOME = torch.tensor([-1, *(OUTCOMES.index(EVENT_OUTCOME[e]) if e in EVENT_OUTCOME else -1 for e in EVENTS)])


@dataclass
class Losses:
    """Named losses, each a (sum over targets, number of targets) pair, so that processes and batches add up exactly.

    `weights` scale the means in the training total only; what is logged is raw. A weight that is itself learned is a
    scalar tensor.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float | Tensor] = field(default_factory=dict)

    def add(self, name: str, total: Tensor, count: Tensor, weight: float | Tensor = 1.0) -> None:
        """Add a loss: its sum, the number of targets in it, and its weight in the training total."""
        self.sums[name], self.counts[name], self.weights[name] = total, count, weight

    def classify(self, name: str, logits: Tensor, wanted: Tensor, weight: float = 1.0) -> None:
        """Add the cross-entropy (nats) of classes `wanted` [n] under `logits` [n, classes]; -1: no target."""
        total = F.cross_entropy(logits.float(), wanted, ignore_index=-1, reduction="sum")
        self.add(name, total, (wanted >= 0).sum(), weight)

    def include(self, other: Losses) -> None:
        """Add another batch's losses to these, on the CPU."""
        for name, total in other.sums.items():
            total, count, weight = total.cpu(), other.counts[name].cpu(), other.weights[name]
            if name in self.sums:
                total, count = self.sums[name] + total, self.counts[name] + count
            self.add(name, total, count, weight)

    def means(self) -> dict[str, float]:
        """Raw mean of each loss that had targets."""
        return {n: float(s.detach()) / float(self.counts[n]) for n, s in self.sums.items() if self.counts[n] > 0}


class Objective(nn.Module):
    """A pre-training or fitting task. Subclasses own what they alone need: heads, generators, projections."""

    #: Roles of fields hidden at a target, together with what follows from them (see `hide`).
    hides: tuple[Role, ...] = ()

    #: Whether `at_step` changes which parameters train.
    unfreezes = False

    #: Why the batches of a step may not be passed in turn (`train.accumulate`); None: it is the same as side by side.
    whole_step: str | None = None

    def forward(self, batch: Batch) -> Losses:
        """Losses of one batch."""
        raise NotImplementedError

    def saved_state(self) -> dict[str, Tensor]:
        """What of it a run keeps."""
        return self.state_dict()

    def at_step(self, step: int) -> None:
        """Called before each training step: what changes with time is set here, as a function of the step."""


@dataclass(frozen=True)
class Data:
    """What an objective may ask of the training data when it is built.

    Attributes:
        store: opened store. before: the training cut-off; nothing on or after it may be read.
        sampler: of the training batches (say, to count tokens for a unigram generator).
    """

    store: Store
    before: date
    sampler: Sampler


class ObjectiveConfig(BaseModel):
    """Options of one objective, told apart by `kind`. Subclasses add theirs and build the objective."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    weight: float = Field(1.0, gt=0)  # of its losses in a combination

    def build(self, encoder: GamestateTransformer, data: Data) -> Objective:
        """The objective on an encoder."""
        raise NotImplementedError


def generator_of(batch: Batch) -> torch.Generator:
    """A random generator that depends on the batch's seed alone: the same (seed, step, rank), the same masks."""
    return torch.Generator(device="cpu").manual_seed(batch.seed)


def hide(batch: Batch, targets: Tensor, roles: tuple[Role, ...]) -> Tensor:
    """Which fields must not be shown so that nothing visible gives the targets away.

    At a target every field of `roles` is hidden. After it, dynamic situation fields stay hidden for the rest of the
    game: the next count tells a ball from a strike, and a new batter's hand or a new inning tells that the plate
    appearance was over, which is most of what there is to know of a pitch.

    Args:
        targets: [B, S] bool.

    Returns:
        [B, S, len(FIELDS)] bool.
    """
    before = torch.cumsum(targets.int(), dim=1) - targets.int()
    at_start = torch.where(batch.kind == SEPARATOR, before, -1).cummax(dim=1).values.clamp(min=0)
    after = (before > at_start) & (batch.kind == EVENT)
    none = torch.zeros_like(targets)
    columns = [targets if f.role in roles else after if f.dynamic else none for f in FIELDS]
    return torch.stack(columns, dim=-1)


def hide_fields(where: Tensor, names: Collection[str]) -> Tensor:
    """[B, S, len(FIELDS)] bool: the named fields of the tokens `where` [B, S] bool."""
    return where.unsqueeze(-1) & torch.tensor([f.name in names for f in FIELDS], device=where.device)


def segments(begins: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place [B, S] of the segment each token lies in; segments begin where `begins` [B, S] is true."""
    place = torch.arange(begins.shape[1], device=begins.device)
    first = torch.where(begins, place, 0).cummax(dim=1).values
    following = torch.where(begins, place, len(place)).roll(-1, dims=1)
    following[:, -1] = len(place)
    return first, following.flip(1).cummin(dim=1).values.flip(1) - 1


def ends_game(batch: Batch) -> Tensor:
    """[B, S] bool: the last event of each game. That the game ended there says too much of it to be a target."""
    last = batch.kind == EVENT
    last[:, :-1] &= batch.kind[:, 1:] != EVENT
    return last


def ends_plate_appearance(batch: Batch) -> Tensor:
    """[B, S] bool: the events that end a plate appearance (or the inning during one)."""
    return (batch.kind == EVENT) & (batch.categorical[..., COLUMN["event"]] > 1 + EVENTS.index("none"))


def plate_appearance_outcomes(batch: Batch) -> Tensor:
    """[B, S] class (see `fields.OUTCOMES`) of how the plate appearance of each event ends; -1 where that is not seen.

    It is not seen outside events, where the event is missing, and where the player left before the end.
    """
    event = batch.categorical[..., COLUMN["event"]].long()
    here = batch.kind == EVENT
    ends = ends_plate_appearance(batch)
    turn = (here & (batch.categorical[..., COLUMN["begin_pa"]] > 0)).cumsum(dim=1)
    width = event.shape[1]
    place = torch.where(ends, torch.arange(width, device=event.device), width)
    end = place.flip(1).cummin(dim=1).values.flip(1)
    found = end.clamp(max=width - 1)
    same = (turn.gather(1, found) == turn) & (batch.game.gather(1, found) == batch.game)
    outcome = _OUTCOME.to(event.device)[event].gather(1, found)
    return torch.where(here & (end < width) & same, outcome, -1)
