"""True rates: what a player would do against the league's average opponents in a neutral park, without luck.

Exact given the opponents: per pitch the probabilities of `pitch.py` are summed over kinds and places; the count is a
Markov chain of twelve states; batted balls are integrated over exit velocity and launch angle on a grid.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from fullcount.simulated import pitch
from fullcount.simulated.pitch import Matchup
from fullcount.simulated.talent import PITCH_KINDS, Floats, Ints

OUTCOMES = ("K", "BB", "HBP", "1B", "2B", "3B", "HR")  # per plate appearance; the rest are outs in play
_NODES = 25, 121  # of exit velocity and launch angle; the angle needs more, for its steps between trajectories


@cache
def _grid() -> RegularGridInterpolator:
    """(mean exit velocity, mean launch angle, speed talent) -> probabilities of 1B, 2B, 3B, HR of a ball in play."""
    means = np.linspace(66, 110, 23), np.linspace(-30, 50, 21), np.linspace(-4, 4, 5)
    z_speed, z_angle = (np.linspace(-3.6, 3.6, n) for n in _NODES)
    weight = np.outer(np.exp(-(z_speed**2) / 2), np.exp(-(z_angle**2) / 2))
    weight /= weight.sum()
    m_speed, m_angle, legs = (x[..., None, None] for x in np.meshgrid(*means, indexing="ij"))
    angle = m_angle + pitch.ANGLE_SD * z_angle
    speed = pitch.exit_velocity(m_speed, angle, z_speed[:, None])
    angle = np.broadcast_to(angle, speed.shape)
    zero = np.zeros(())
    homer = pitch.home_run_probability(speed, angle, zero)
    hits = pitch.hit_probabilities(speed, angle, np.broadcast_to(legs, speed.shape), zero) * (1 - homer[..., None])
    table = np.einsum("...ij,...ijk->...k", np.broadcast_to(weight, homer.shape), hits)
    table = np.concatenate([table, (homer * weight).sum(axis=(-1, -2))[..., None]], axis=-1)
    return RegularGridInterpolator(means, table, bounds_error=False, fill_value=None)


def rates(m: Matchup, usage: Floats, lively: float = 0.0) -> Floats:
    """True rates per plate appearance in each match-up.

    Args:
        m: match-ups, arrays of shape [players, opponents].
        usage: [players, opponents, 8] log-weights of the pitcher's kinds (either may be 1).
        lively: the season's ball, mph of exit velocity.

    Returns:
        [players, opponents, 7], columns `OUTCOMES`.
    """
    shape = np.broadcast_shapes(*(getattr(m, f.name).shape for f in fields(m)))
    # Axes: player, opponent, kind, place; counts one after the other, since the chain never goes back.
    wide = Matchup(**{f.name: getattr(m, f.name).astype(np.float32)[..., None, None] for f in fields(m)})
    flat = Matchup(**{f.name: getattr(wide, f.name)[..., 0] for f in fields(m)})
    kind, place = np.arange(len(PITCH_KINDS))[:, None], np.arange(len(pitch.PLACES))
    called, hit_by = pitch.strike_probability(wide, place), pitch.hit_batter_probability(place)
    visits = np.zeros((4, 3, *shape), dtype=np.float32)
    visits[0, 0] = 1
    out = np.zeros((*shape, len(OUTCOMES)))
    in_play = np.zeros((*shape, len(PITCH_KINDS), len(pitch.PLACES)), dtype=np.float32)
    for total in range(6):
        for b in range(max(0, total - 2), min(3, total) + 1):
            s = total - b
            balls, strikes = np.full((), b), np.full((), s)
            thrown = pitch.kind_probabilities(usage.astype(np.float32), balls, strikes, m.same.astype(np.float32))
            where = thrown[..., None] * pitch.place_probabilities(flat, kind[:, 0], balls, strikes)
            swing = where * pitch.swing_probability(wide, kind, place, balls, strikes)
            take = where - swing
            whiff = swing * pitch.whiff_probability(wide, kind, place, strikes)
            foul = (swing - whiff) * pitch.foul_probability(wide, place, strikes)
            hbp = take * hit_by
            strike = (whiff + (take - hbp) * called).sum(axis=(-1, -2))
            ball = ((take - hbp) * (1 - called)).sum(axis=(-1, -2))
            fouls = foul.sum(axis=(-1, -2))
            v = visits[b, s] / (1 - fouls if s == 2 else 1)
            in_play += v[..., None, None] * (swing - whiff - foul)
            out[..., 2] += v * hbp.sum(axis=(-1, -2))
            if s == 2:
                out[..., 0] += v * strike
            else:
                visits[b, s + 1] += v * (strike + fouls)
            if b == 3:
                out[..., 1] += v * ball
            else:
                visits[b + 1, s] += v * ball
    speed, angle = pitch.batted_ball_mean(wide, kind, place)
    points = np.stack(np.broadcast_arrays(speed + lively, angle, wide.speed, in_play)[:3], axis=-1)
    out[..., 3:] = np.einsum("pokl,poklc->poc", in_play, _grid()(points))
    return out


def same_hand(bats: NDArray[np.str_], throws: NDArray[np.str_]) -> Floats:
    """1.0 where batter and pitcher have the same hand (a switch hitter never has)."""
    return np.asarray(bats == throws, dtype=np.float64)


def matchup(batter: Floats, pitcher: Floats, same: Floats, fatigue: Floats) -> Matchup:
    """Match-up from talents, batter and pitcher [..., 5] in the order of `talent.py`."""
    discipline, contact, power, loft, speed = (batter[..., i] for i in range(5))
    stuff, command, grounders, suppression = (pitcher[..., i] for i in range(4))
    return Matchup(
        discipline, contact, power, loft, speed, stuff, command, grounders, suppression, same=same, fatigue=fatigue
    )


def systematic(weight: Floats, order: Floats, n: int) -> Ints:
    """`n` players that stand for all: every n-th of the weight, after sorting by `order`."""
    rank = np.argsort(order, kind="stable")
    cumulative = np.cumsum(weight[rank]) / weight.sum()
    return np.asarray(rank[np.searchsorted(cumulative, (np.arange(n) + 0.5) / n)])
