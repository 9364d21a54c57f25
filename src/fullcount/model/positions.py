"""Where an event stands: within its game, and how long ago that was, in games or in days."""

from __future__ import annotations

import torch
from torch import Tensor

from fullcount.batches import Batch

#: Half a turn of the slowest plane: pitches of a game, games, days. From eight planes on (heads of 32 channels) the
#: others tell longer ways apart too; with four, games 128 apart are alike.
_PITCHES, _GAMES, _DAYS = 256.0, 64.0, 1024.0


def rotary_angles(batch: Batch, head_dim: int, as_of: bool = False) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, S, head_dim / 2] of rotary positions with game boundaries.

    Half of the planes turn with the place within the game, half with the number of games ago. "Three pitches ago in
    this game" and "three pitches ago in another game" therefore differ, and the angles between two events of a game
    are the same whatever came before the game (Su et al. 2021, in two axes).

    Args:
        as_of: days before the as-of date in place of games ago. Plain days, no logarithm: the angle between two games
            is then that of the days between them, whenever the question is asked, and only the slot, which stands at
            the as-of date, sees that move. The speeds, from a day to years, are a logarithmic scale already.
    """
    planes = head_dim // 2
    place = planes // 2
    back, longest = (batch.ago, _DAYS) if as_of else (batch.game, _GAMES)
    speeds = [_speeds(place, _PITCHES), _speeds(planes - place, longest)]
    angles = [
        values.float().unsqueeze(-1) * speed.to(values.device)
        for values, speed in zip((batch.position, back), speeds, strict=True)
    ]
    both = torch.cat(angles, dim=-1).unsqueeze(1)
    return both.cos(), both.sin()


def _speeds(planes: int, longest: float) -> Tensor:
    return torch.pi / longest ** (torch.arange(planes) / max(planes - 1, 1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (i, i + head_dim / 2) of `x` [B, H, S, head_dim] by the given angles."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def sinusoidal(batch: Batch, d_model: int) -> Tensor:
    """[B, S, d_model] fixed sines and cosines (Vaswani et al. 2017): half for the place, half for games ago."""
    quarter = d_model // 4
    parts = []
    for values in (batch.position, batch.game):
        angles = values.float().unsqueeze(-1) * _speeds(quarter, _PITCHES).to(values.device)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1)
