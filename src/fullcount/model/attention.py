"""Who may look at whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fullcount.batches import PAD, SLOT, Batch

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older torch pads
    varlen_attn = None  # type: ignore[assignment]

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


@dataclass(frozen=True)
class Packing:
    """Right-padded sequences without their padding, as attention kernels of variable length read them.

    Attributes:
        shape: B, S. place: [T] of the real tokens in the flattened [B, S].
        bounds: [B + 1] int32, where each sequence begins among them, and T.
    """

    shape: tuple[int, int]
    place: Tensor
    bounds: Tensor

    @classmethod
    def of(cls, real: Tensor) -> Packing:
        """Of the tokens [B, S] bool that are no padding."""
        lengths = real.sum(dim=1).cumsum(0)
        bounds = torch.cat([lengths.new_zeros(1), lengths]).to(torch.int32)
        return cls((len(real), real.shape[1]), real.flatten().nonzero()[:, 0], bounds)

    def pack(self, x: Tensor) -> Tensor:
        """[B, heads, S, channels] -> [T, heads, channels]."""
        return x.transpose(1, 2).flatten(0, 1)[self.place]

    def unpack(self, y: Tensor) -> Tensor:
        """[T, heads, channels] -> [B, heads, S, channels]; padding is zero."""
        flat = y.new_zeros(self.shape[0] * self.shape[1], *y.shape[1:]).index_copy(0, self.place, y)
        return flat.view(*self.shape, *y.shape[1:]).transpose(1, 2)


#: Who may look at whom: a boolean mask, or sequences without padding, each of which sees all of itself.
Mask = Tensor | Packing | None


def without_padding(mask: Tensor | None, x: Tensor, channels: int) -> Mask:
    """The mask, or as a `Packing` what hides padding alone, where there is a kernel for that.

    That is on CUDA cards of Ampere's generation or later, in 16 bits, for heads of a multiple of eight channels.

    Args:
        mask: as of `PlayerAttentionMask`. x: [B, S, d_model] what attends. channels: of a head.
    """
    if varlen_attn is None or mask is None or not x.is_cuda or channels % 8:
        return mask
    half = torch.is_autocast_enabled("cuda") or x.dtype in (torch.bfloat16, torch.float16)
    padding_alone = mask.shape[1:] == (1, 1, x.shape[1])
    if half and padding_alone and torch.cuda.get_device_capability(x.device) >= (8, 0):
        return Packing.of(mask[:, 0, 0])
    return mask


def varlen_attend(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, kernel: Callable[..., Any] | None = varlen_attn
) -> Tensor:
    """Attention [B, heads, S, channels] that spends nothing on padding, which gets zeros.

    Args:
        q, k, v: [B, heads, S, channels]. kernel: as `torch.nn.attention.varlen.varlen_attn`.
    """
    assert kernel is not None
    dtype = torch.get_autocast_dtype("cuda") if q.is_cuda and torch.is_autocast_enabled("cuda") else q.dtype
    packed = (packing.pack(x).to(dtype) for x in (q, k, v))
    longest = packing.shape[1]
    return packing.unpack(kernel(*packed, packing.bounds, packing.bounds, longest, longest, scale=scale))
