"""Keys and values kept between calls of a causal encoder, so that one more token costs one token's work."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(x: Tensor) -> Tensor:
    """The same bytes as eight-byte numbers: indexing copies element by element."""
    return x.view(torch.int64)


class Cache:
    """What the rows of a batch have read so far.

    Attributes:
        held: per layer [rows, capacity, 2, heads, channels] keys and values, filled in place; a token's lie together.
        length: [rows] tokens of each row that count. used: of the longest row.
    """

    def __init__(
        self, layers: int, rows: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self.held = [torch.zeros(rows, 0, 2, 0, 0, dtype=dtype, device=device) for _ in range(layers)]
        self.length = torch.zeros(rows, dtype=torch.long, device=device)
        self.used = 0

    def add(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write new tokens [rows, heads, S, channels]; returns what they may look at, and a mask [rows, 1, 1, keys].

        Several tokens at once are for empty rows, one token is for any.
        """
        new = torch.stack([k, v], dim=3).permute(0, 2, 3, 1, 4).to(self.held[layer].dtype)
        width = new.shape[1]
        self._reserve(layer, self.used + width, new)
        held = self.held[layer]
        if self.used == 0:
            held[:, :width] = new
            return k.to(held.dtype), v.to(held.dtype), None
        _wide(held)[torch.arange(len(held), device=held.device), self.length] = _wide(new[:, 0].contiguous())
        seen = torch.arange(self.used + 1, device=held.device) <= self.length.unsqueeze(1)
        keys, values = held[:, : self.used + 1].permute(2, 0, 3, 1, 4)
        return keys, values, seen[:, None, None]

    def advance(self, tokens: Tensor) -> None:
        """`tokens` [rows] more of each row count."""
        self.length = self.length + tokens
        self.used = int(self.length.max())

    def _reserve(self, layer: int, tokens: int, like: Tensor) -> None:
        """Room for `tokens` a row, in the heads of `like`; half as much again when there is too little."""
        held = self.held[layer]
        if tokens <= held.shape[1]:
            return
        if held.shape[1] == 0:
            held = held.new_zeros(len(held), 0, *like.shape[2:])
        more = max(tokens, held.shape[1] * 3 // 2) - held.shape[1]
        self.held[layer] = F.pad(held, (0, 0, 0, 0, 0, 0, 0, more))

    def pick(self, rows: Tensor) -> Cache:
        """A cache of some rows, or of one row several times."""
        some = Cache(0, 0)
        some.length = self.length[rows]
        some.used = int(some.length.max())
        some.held = [_wide(h)[rows, : some.used].view(h.dtype) for h in self.held]
        return some

    def put(self, rows: Tensor, other: Cache) -> None:
        """`rows` [n] become the n rows of `other`."""
        width = other.used
        for layer, new in enumerate(other.held):
            self._reserve(layer, width, new)
            _wide(self.held[layer])[rows, :width] = _wide(new[:, :width])
        self.length = self.length.index_copy(0, rows, other.length)
        self.used = int(self.length.max())
