"""Who may look at whom."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fullcount.batches import PAD, SLOT, Batch

Context = Literal["window", "game"]


class PlayerAttentionMask:
    """Boolean attention masks of a batch, True where a query (row) may look at a key (column).

    A sequence holds one player's own events, so his slot attends to nothing else, and only they see it back.

    Args:
        context: "window": every token sees the whole window. "game": events see their own game only, and the slot
            sees all of it; a game's encoding then depends on nothing outside it and can be kept.
        causal: no token sees a later one.
    """

    def __init__(self, context: Context = "window", causal: bool = False) -> None:
        self.context, self.causal = context, causal

    def __call__(self, batch: Batch) -> Tensor | None:
        """[B, 1, 1 or S, S] bool; None where padding on the right is all there is to hide from a causal model."""
        real = batch.kind != PAD
        if self.context == "window" and not self.causal:
            return real[:, None, None, :]
        width = batch.kind.shape[1]
        allowed = real[:, None, :].expand(-1, width, -1)
        if self.context == "game":
            slot = batch.kind == SLOT
            same = (batch.game[:, :, None] == batch.game[:, None, :]) & ~slot[:, None, :]
            own = torch.eye(width, dtype=torch.bool, device=real.device)
            allowed = allowed & (same | slot[:, :, None]) | own
        if self.causal:
            if self.context == "window":
                return None
            allowed = allowed & torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
        return allowed[:, None]
