"""Keys and values kept between calls of a causal encoder, so that one more token costs one token's work."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Cache:
    """What the rows of a batch have read so far, per layer, in the encoder's heads.

    Attributes:
        keys, values: per layer [rows, heads, capacity, channels], filled in place; empty before the first tokens.
        length: [rows] tokens of each row that count.
    """

    def __init__(
        self, layers: int, rows: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self.keys = [torch.zeros(rows, 0, 0, 0, dtype=dtype, device=device) for _ in range(layers)]
        self.values = list(self.keys)
        self.length = torch.zeros(rows, dtype=torch.long, device=device)
        self.used = 0  # of the longest row

    def add(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write new tokens [rows, heads, S, channels]; returns what they may look at, and a mask [rows, 1, 1, keys].

        Several tokens at once are for empty rows, one token is for any.
        """
        self._reserve(layer, k)
        keys, values = self.keys[layer], self.values[layer]
        k, v = k.to(keys.dtype), v.to(values.dtype)
        width = k.shape[2]
        if self.used == 0:
            keys[:, :, :width], values[:, :, :width] = k, v
            return k, v, None
        rows = torch.arange(len(k), device=k.device)
        keys[rows, :, self.length], values[rows, :, self.length] = k[:, :, 0], v[:, :, 0]
        seen = torch.arange(self.used + 1, device=k.device) <= self.length.unsqueeze(1)
        return keys[:, :, : self.used + 1], values[:, :, : self.used + 1], seen[:, None, None]

    def advance(self, tokens: Tensor) -> None:
        """`tokens` [rows] more of each row count."""
        self.length = self.length + tokens
        self.used = int(self.length.max()) if len(self.length) else 0

    def _reserve(self, layer: int, k: Tensor) -> None:
        rows, heads, width, channels = k.shape
        capacity = self.keys[layer].shape[2]
        if self.used + width <= capacity:
            return
        more = max(self.used + width, capacity + capacity // 2, 32)
        for held in (self.keys, self.values):
            grown = held[layer].new_zeros(rows, heads, more, channels)
            if capacity:
                grown[:, :, :capacity] = held[layer]
            held[layer] = grown

    def pick(self, rows: Tensor) -> Cache:
        """A cache of some rows, or of one row several times."""
        some = Cache(len(self.keys), 0)
        some.keys, some.values = [k[rows] for k in self.keys], [v[rows] for v in self.values]
        some.length = self.length[rows]
        some.used = int(some.length.max()) if len(rows) else 0
        return some

    def put(self, rows: Tensor, other: Cache) -> None:
        """`rows` [n] become the n rows of `other`."""
        width = other.used
        for layer in range(len(self.keys)):
            missing = width - self.keys[layer].shape[2]
            for held, new in ((self.keys, other.keys), (self.values, other.values)):
                if held[layer].shape[1] == 0:
                    held[layer] = held[layer].new_zeros(len(held[layer]), *new[layer].shape[1:])
                elif missing > 0:
                    held[layer] = F.pad(held[layer], (0, 0, 0, missing))
                held[layer][rows, :, :width] = new[layer][:, :, :width].to(held[layer].dtype)
        self.length = self.length.index_copy(0, rows, other.length)
        self.used = int(self.length.max())
