"""Vectors that stand before every sequence: what tells a frozen encoder which task is asked of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prefix(nn.Module):
    """Learned vectors before a sequence, a set for each task (Lester et al. 2021), or keys and values that stand before
    it in every layer (Li & Liang 2021).

    Args:
        tasks: number of tasks; a batch says which one each of its rows belongs to.
        length: P, vectors a task.
        layers, heads, d_model: of the encoder.
        per_layer: keys and values in every layer instead of vectors before the first.
    """

    def __init__(self, tasks: int, length: int, layers: int, heads: int, d_model: int, per_layer: bool) -> None:
        super().__init__()
        self.length, self.heads, self.per_layer = length, heads, per_layer
        shape = (tasks, layers, 2, length, d_model) if per_layer else (tasks, length, d_model)
        self.weight = nn.Parameter(torch.empty(shape).normal_(std=0.5))

    @classmethod
    def joined(cls, prefixes: Sequence[Prefix]) -> Prefix:
        """The tasks of several prefixes of one shape, in order."""
        first = prefixes[0]
        tasks = torch.cat([p.weight.detach() for p in prefixes])
        layers, d_model = (tasks.shape[1] if first.per_layer else 1), tasks.shape[-1]
        both = cls(len(tasks), first.length, layers, first.heads, d_model, first.per_layer)
        both.weight = nn.Parameter(tasks, requires_grad=False)
        return both

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one task's vectors."""
        return tuple(self.weight.shape[1:])

    def forward(self, task: Tensor | None, size: int) -> tuple[Tensor | None, Tensor | None]:
        """Vectors [B, P, d_model], or keys and values [layers, 2, B, heads, P, head_dim], of B = `size` rows.

        `task`: [B] whose row it is; None: the first one's.
        """
        rows = self.weight[:1].expand(size, *self.weight.shape[1:]) if task is None else self.weight[task]
        if not self.per_layer:
            return rows, None
        split = rows.view(*rows.shape[:-1], self.heads, -1)  # [B, layers, 2, P, heads, head_dim]
        return None, split.permute(1, 2, 0, 4, 3, 5)


def behind(
    mask: Tensor | None, stands: int, seen: int, width: int, causal: bool, device: torch.device
) -> Tensor | None:
    """`mask` of a sequence of `width` tokens (see `PlayerAttentionMask`) once a prefix stands before it.

    Every token sees the prefix; the prefix sees itself, and the sequence where that is one context.

    Args:
        stands: prefix tokens that are part of the sequence. seen: keys that only stand before it.
    """
    if mask is None and causal:
        if not seen:
            return None  # what stands first is what every later token may see
        mask = torch.ones(1, 1, width, width, dtype=torch.bool, device=device).tril()
    assert mask is not None
    mask = F.pad(mask, (stands + seen, 0), value=True)
    if stands and mask.shape[2] > 1:
        rows = F.pad(mask.new_zeros(*mask.shape[:2], stands, mask.shape[3] - stands), (stands, 0), value=True)
        mask = torch.cat([rows, mask], dim=2)
    return mask
