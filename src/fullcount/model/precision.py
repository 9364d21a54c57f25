"""Which arithmetic a device does fast."""

from __future__ import annotations

import torch


def native_bfloat16(device: str) -> bool:
    """Whether `device` ("cuda", "cpu") multiplies bfloat16 matrices natively; elsewhere autocast only costs."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
