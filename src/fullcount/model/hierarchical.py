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
ROW = 64  # tokens in a row of the lower level, in which plate appearances stand side by side


class HierarchicalTransformer(GamestateTransformer):
    """Contextual event embeddings, [B, S] tokens -> [B, S, d_model], through a sequence a quarter as long.

    The lower blocks read the pitches of a plate appearance (a separator, the slot) and nothing else. Pooled, these are
    one token of the sequence slot, [SEP] game, [SEP] game, ..., which the upper blocks and the prefix read as in
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
        turned = None if angles is None else [a[:, 0].flatten(0, 1) for a in angles]
        lower = self._lower(x.flatten(0, 1), turned, flags.flatten(), turns)

        game = batch.game.flatten()[turns.first].view(size, count)
        mask = PlayerAttentionMask(self.config.context, self.config.causal)(replace(batch, kind=turns.kind, game=game))
        if turned is not None:
            cos, sin = (a[turns.first].view(size, 1, count, -1) for a in turned)
            angles = cos, sin
        ends = torch.zeros(size * count, dtype=torch.bool, device=x.device)
        ends[turns.owner.flatten()[flags.flatten()]] = True
        pooled = self._pool(lower, turns).view(size, count, -1)
        above = self._through(pooled, mask, angles, ends.view(size, count), batch.task)

        seen = turns.owner - turns.unfinished.long() if self.config.causal else turns.owner
        context = self.context(above).flatten(0, 1).index_select(0, seen.flatten())
        return self.norm_events(lower.index_select(0, turns.cell) + context).view(x.shape)  # type: ignore[no-any-return]

    def _lower(self, tokens: Tensor, angles: list[Tensor] | None, flags: Tensor, turns: Turns) -> Tensor:
        """[C, d_model] what the lower blocks make of the token in each cell.

        Args:
            tokens: [B * S, d_model]. angles, flags: of these, as of `Block`.
        """

        def laid_out(values: Tensor) -> Tensor:
            return values.index_select(0, turns.token).view(-1, ROW, *values.shape[1:])

        turn = turns.turn.view(-1, ROW)
        mask = turn.unsqueeze(2) == turn.unsqueeze(1)
        if self.config.causal:
            mask = mask.tril()
        turned = None
        if angles is not None:
            cos, sin = (laid_out(a).unsqueeze(1) for a in angles)
            turned = cos, sin
        x, ends = laid_out(tokens), laid_out(flags)
        for block in self.pitches:
            x = block(x, mask.unsqueeze(1), False, turned, ends)
        return x.flatten(0, 1)

    def _pool(self, lower: Tensor, turns: Turns) -> Tensor:
        """[B * T, d_model] each turn's weighted mean of its cells."""
        groups = turns.kind.numel() + 1  # the last one is of empty cells
        weight = lower.new_ones(len(lower), 1)
        if self.score is not None:
            score = self.score(lower).float()
            highest = score.new_full((groups, 1), -torch.inf)
            highest = highest.scatter_reduce(0, turns.turn.unsqueeze(1), score.detach(), "amax")
            weight = (score - highest[turns.turn]).exp()
        elif self.config.pooling == "last":
            weight = weight * ~turns.unfinished.flatten()[turns.token].unsqueeze(1)
        total = weight.new_zeros(groups, 1).index_add(0, turns.turn, weight)[:-1]
        weighted = lower if self.config.pooling == "mean" else lower * weight
        summed = weighted.new_zeros(groups, lower.shape[1]).index_add(0, turns.turn, weighted)[:-1]
        mean: Tensor = summed / total.clamp(min=1e-9)
        return mean


@dataclass(frozen=True)
class Turns:
    """Which tokens of a batch are one token of the upper level, and where they stand in the rows of the lower one.

    Upper tokens are plate appearances, and each separator and slot by itself.

    Attributes:
        kind: [B, T] of the upper tokens, as in `Batch`. first: [B * T] where each begins, in the flattened batch.
        owner: [B, S] upper token of each token, in the flattened [B, T].
        unfinished: [B, S] bool, pitches that another one of their plate appearance follows.
        cell: [B * S] of each token; padding's is the first.
        token: [C] of each cell, in the flattened batch; an empty cell's is the first.
        turn: [C] upper token of each cell; an empty cell's is B * T.
    """

    kind: Tensor
    first: Tensor
    owner: Tensor
    unfinished: Tensor
    cell: Tensor
    token: Tensor
    turn: Tensor

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
        place = (batch.kind != PAD).flatten().nonzero()[:, 0]
        own = owner.flatten()[place]
        where = packed(own)
        cells = ROW * (int(where[-1]) // ROW + 1)
        return cls(
            kind.view(size, count),
            first,
            owner,
            unfinished,
            cell=place.new_zeros(batch.kind.numel()).index_copy(0, place, where),
            token=place.new_zeros(cells).index_copy(0, where, place),
            turn=place.new_full((cells,), size * count).index_copy(0, where, own),
        )


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
    """[N] cells of tokens in rows of `ROW`: in order, and no group, of `LONGEST` tokens at most, in two rows.

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
