"""Two levels: pitches are read within their plate appearance, plate appearances within the window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fullcount.batches import EVENT, PAD, Batch
from fullcount.fields import COLUMN, EVENTS, PLACE
from fullcount.model.attention import PlayerAttentionMask
from fullcount.model.transformer import Block, EncoderConfig, GamestateTransformer, stacked

LONGEST = 16  # pitches that are read together; hardly one plate appearance in a hundred thousand has more
ROW = 64  # pitches in a row of the lower level, in which plate appearances stand side by side


class HierarchicalTransformer(GamestateTransformer):
    """Contextual event embeddings, [B, S] tokens -> [B, S, d_model], through a sequence a quarter as long.

    The lower blocks read the pitches of a plate appearance and nothing else. Pooled, these are one token of the
    sequence slot, [SEP] game, [SEP] game, ..., which the upper blocks and the prefix read as in
    `GamestateTransformer`. A pitch's state is what the lower level makes of it plus a linear map of its plate
    appearance's state above. In a causal encoder it is the state of what stands before its plate appearance, but for
    the last pitch, which has seen it all.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pitches = stacked(config, config.pitch_layers)
        self.score = nn.Linear(config.d_model, 1, bias=False) if config.pooling == "attention" else None
        self.context = nn.Linear(config.d_model, config.d_model, bias=False)
        self.norm_events = nn.LayerNorm(config.d_model)

    @property
    def layers(self) -> list[Block]:
        return [*cast(list[Block], list(self.pitches)), *super().layers]

    @property
    def outlet(self) -> list[nn.Module]:
        return [self.norm, self.context, self.norm_events]

    def forward(self, batch: Batch, hidden: Tensor | None = None) -> Tensor:
        x, angles, flags = self._read(batch, hidden)
        turns = Turns.of(batch, hidden)
        size, count = turns.kind.shape
        tokens, flags = x.flatten(0, 1), flags.flatten()
        turned = None if angles is None else [a[:, 0].flatten(0, 1) for a in angles]

        events = self._lower(tokens, turned, flags, turns)
        tokens = tokens.index_copy(0, turns.event, events.to(tokens.dtype))

        pooled = torch.where((turns.kind == EVENT).view(-1, 1), self._pool(events, turns), tokens[turns.first])
        game = batch.game.flatten()[turns.first].view(size, count)
        mask = PlayerAttentionMask(self.config.context, self.config.causal)(replace(batch, kind=turns.kind, game=game))
        if turned is not None:
            cos, sin = (a[turns.first].view(size, 1, count, -1) for a in turned)
            angles = cos, sin
        ends = torch.zeros(size * count, dtype=torch.bool, device=x.device)
        ends[turns.own[flags[turns.event]]] = True
        above = self._through(pooled.view(size, count, -1), mask, angles, ends.view(size, count), batch.task)

        seen = turns.owner - turns.unfinished.long() if self.config.causal else turns.owner
        states = tokens + self.context(above).flatten(0, 1)[seen.flatten()]
        return self.norm_events(states).view(x.shape)  # type: ignore[no-any-return]

    def _lower(self, tokens: Tensor, angles: list[Tensor] | None, flags: Tensor, turns: Turns) -> Tensor:
        """[N, d_model] states of the events through the lower blocks. `angles`, `flags`: of all tokens, flattened."""
        cell = packed(turns.own)
        rows = int(cell[-1]) // ROW + 1 if len(cell) else 1

        def spread(values: Tensor, fill: int = 0) -> Tensor:
            grid = values.new_full((rows * ROW, *values.shape[1:]), fill).index_copy(0, cell, values)
            return grid.view(rows, ROW, *values.shape[1:])

        whose = spread(turns.own, -1)
        mask = whose.unsqueeze(2) == whose.unsqueeze(1)
        if self.config.causal:
            mask = mask.tril()
        turned = None
        if angles is not None:
            cos, sin = (spread(a[turns.event]).unsqueeze(1) for a in angles)
            turned = cos, sin
        x = spread(tokens[turns.event])
        ends = spread(flags[turns.event])
        for block in self.pitches:
            x = block(x, mask.unsqueeze(1), False, turned, ends)
        states: Tensor = x.flatten(0, 1)[cell]
        return states

    def _pool(self, events: Tensor, turns: Turns) -> Tensor:
        """[B * T, d_model] weighted means of the events of each turn."""
        if self.score is not None:
            score = self.score(events).float()
            highest = score.new_full((turns.kind.numel(), 1), -torch.inf)
            highest = highest.scatter_reduce(0, turns.own.unsqueeze(1), score.detach(), "amax")
            weight = (score - highest[turns.own]).exp()
        elif self.config.pooling == "last":
            weight = (~turns.unfinished.flatten()[turns.event]).unsqueeze(1).float()
        else:
            weight = torch.ones(len(events), 1, device=events.device)
        total = weight.new_zeros(turns.kind.numel(), 1).index_add(0, turns.own, weight)
        summed = events.new_zeros(turns.kind.numel(), events.shape[1]).index_add(0, turns.own, events * weight)
        mean: Tensor = summed / total.clamp(min=1e-9)
        return mean


@dataclass(frozen=True)
class Turns:
    """Which tokens of a batch are one token of the upper level: the pitches of a plate appearance, a separator, a slot.

    Attributes:
        kind: [B, T] of the upper tokens, as in `Batch`. first: [B * T] where each begins, in the flattened batch.
        owner: [B, S] upper token of each token, in the flattened [B, T].
        unfinished: [B, S] bool, pitches that another one of their plate appearance follows.
        event: [N] places of the events in the flattened batch. own: [N] their upper tokens.
    """

    kind: Tensor
    first: Tensor
    owner: Tensor
    unfinished: Tensor
    event: Tensor
    own: Tensor

    @classmethod
    def of(cls, batch: Batch, hidden: Tensor | None) -> Turns:
        """Those of a batch, as far as what is shown of it tells (see `begins_turn`)."""
        begins = begins_turn(batch, hidden)
        number = begins.cumsum(dim=1) - 1
        size, count = len(begins), int(number.max()) + 1
        owner = number + count * torch.arange(size, device=number.device).unsqueeze(1)
        start = begins.flatten().nonzero()[:, 0]
        at = owner.flatten()[start]
        first = start.new_zeros(size * count).index_copy(0, at, start)
        kind = batch.kind.new_full((size * count,), PAD).index_copy(0, at, batch.kind.flatten()[start])
        here = batch.kind == EVENT
        unfinished = torch.zeros_like(here)
        unfinished[:, :-1] = here[:, :-1] & here[:, 1:] & ~begins[:, 1:]
        event = here.flatten().nonzero()[:, 0]
        return cls(kind.view(size, count), first, owner, unfinished, event, owner.flatten()[event])


def begins_turn(batch: Batch, hidden: Tensor | None = None) -> Tensor:
    """[B, S] bool: slots, separators, and the pitches that begin a plate appearance as far as what is shown tells.

    Where one plate appearance ends and the next begins says that a pitch ended it, which is most of what there is to
    know of a hidden pitch. Grouping therefore reads only what the encoder may: a pitch begins a plate appearance where
    its `begin_pa` is shown, or where the pitch before it is shown to have ended one. A hidden last pitch and the
    plate appearance after it are then one group, up to `LONGEST` pitches.

    Args:
        hidden: [B, S, len(FIELDS)] bool, fields not shown.
    """
    begins = batch.categorical[..., COLUMN["begin_pa"]] > 0
    ends = batch.categorical[..., COLUMN["event"]] > 1 + EVENTS.index("none")
    if hidden is not None:
        begins, ends = begins & ~hidden[..., PLACE["begin_pa"]], ends & ~hidden[..., PLACE["event"]]
    begins = begins | (batch.kind != EVENT)
    begins[:, 1:] |= ends[:, :-1] | (batch.kind[:, :-1] != EVENT)
    real = batch.kind != PAD
    place = torch.arange(real.shape[1], device=real.device)
    first = torch.where(begins, place, 0).cummax(dim=1).values
    return real & ((place - first) % LONGEST == 0)


def packed(group: Tensor) -> Tensor:
    """[N] cells of pitches in rows of `ROW`: in order, and no group, of `LONGEST` pitches at most, in two rows.

    Args:
        group: [N] numbers, ascending.
    """
    lengths = torch.unique_consecutive(group, return_counts=True)[1]
    ends = lengths.cumsum(0).cpu().numpy()
    starts = [0]
    while (fit := int(np.searchsorted(ends, starts[-1] + ROW, side="right"))) < len(ends):
        starts.append(int(ends[fit - 1]))
    begin = torch.tensor(starts, device=group.device)
    place = torch.arange(len(group), device=group.device)
    row = torch.searchsorted(begin, place, right=True) - 1
    return row * ROW + place - begin[row]
