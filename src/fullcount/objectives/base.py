"""The objective contract: a module whose forward turns a batch into named losses."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fullcount.batches import EVENT, SEPARATOR, Batch
from fullcount.fields import CATEGORICAL, FIELDS, Role, Scope

COLUMN = {f.name: i for i, f in enumerate(CATEGORICAL)}


@dataclass
class Losses:
    """Named losses, each a (sum over targets, number of targets) pair, so that processes and batches add up exactly.

    `weights` scale the means in the training total only; what is logged is raw.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, total: Tensor, count: Tensor, weight: float = 1.0) -> None:
        """Add a loss: its sum, the number of targets in it, and its weight in the training total."""
        self.sums[name], self.counts[name], self.weights[name] = total, count, weight

    def means(self) -> dict[str, float]:
        """Raw mean of each loss."""
        return {n: float(s.detach()) / max(float(self.counts[n]), 1.0) for n, s in self.sums.items()}


class Objective(nn.Module):
    """A pre-training or fitting task. Subclasses own what they alone need: heads, generators, projections."""

    #: Roles of fields hidden at a target, together with what follows from them (see `hide`).
    hides: tuple[Role, ...] = ()

    def forward(self, batch: Batch) -> Losses:
        """Losses of one batch."""
        raise NotImplementedError


def generator_of(batch: Batch, salt: int = 0) -> torch.Generator:
    """A random generator that depends on the batch's seed alone: the same (seed, step, rank), the same masks."""
    return torch.Generator(device="cpu").manual_seed((batch.seed + salt * 0x9E3779B9) & 0x7FFFFFFFFFFFFFFF)


def hide(batch: Batch, targets: Tensor, roles: tuple[Role, ...]) -> Tensor:
    """Which fields must not be shown so that nothing visible gives the targets away.

    At a target every field of `roles` is hidden. After it, situation fields that its outcome can be read from stay
    hidden for their scope: the count to the end of the plate appearance, outs and bases to the end of the half inning,
    the score to the end of the game (the next pitch's count would tell a ball from a strike).

    Args:
        targets: [B, S] bool.

    Returns:
        [B, S, len(FIELDS)] bool.
    """
    changed = _after(batch, targets)
    columns = []
    for f in FIELDS:
        column = targets if f.role in roles else torch.zeros_like(targets)
        columns.append(changed[f.scope] if f.scope is not None else column)
    return torch.stack(columns, dim=-1)


def _after(batch: Batch, targets: Tensor) -> dict[Scope, Tensor]:
    """Per scope, [B, S]: is there a target earlier in the same plate appearance, half inning or game?"""
    c = batch.categorical
    game_starts = batch.kind == SEPARATOR
    half = c[..., COLUMN["inning"]] * 4 + c[..., COLUMN["top"]]
    half_starts = game_starts.clone()
    half_starts[:, 1:] |= half[:, 1:] != half[:, :-1]
    # Plate appearances begin with pitch number one, whoever the batter.
    pa_starts = half_starts | (c[..., COLUMN["pitch_number"]] == 1)
    before = torch.cumsum(targets.int(), dim=1) - targets.int()
    answer: dict[Scope, Tensor] = {}
    scopes: tuple[tuple[Scope, Tensor], ...] = (("pa", pa_starts), ("half", half_starts), ("game", game_starts))
    for scope, starts in scopes:
        at_start = torch.where(starts, before, -1).cummax(dim=1).values.clamp(min=0)
        answer[scope] = (before > at_start) & (batch.kind == EVENT)
    return answer
