"""One pitch as probabilities: what is thrown and where, who swings and misses, how hard the ball is hit.

The game (`game.py`) draws from these functions, and the truth (`truth.py`) integrates over the same functions, so that
true rates are those of the game. All functions take arrays that broadcast against each other. The constants are tuned
by hand so that an average league looks like the real one.

Places follow Statcast's attack zones: heart, shadow in, shadow out (about a ball's width either side of the edge of
the strike zone), chase, waste.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Ints = NDArray[np.integer]

PLACES = ("heart", "shadow_in", "shadow_out", "chase", "waste")
HEART, SHADOW_IN, SHADOW_OUT, CHASE, WASTE = range(5)

# --- tables by kind of pitch (FF SI FC SL ST CU CH FS), place and count [balls, strikes] ---------------------------
_FAST = np.array([1, 1, 0.6, 0, 0, 0, 0, 0], dtype=np.float32)
_KIND_ZONE = np.array([0.14, 0.14, 0.08, -0.1, -0.12, -0.16, -0.2, -0.3], dtype=np.float32)
_KIND_WHIFF = np.array([-0.12, -0.6, -0.1, 0.38, 0.42, 0.3, 0.3, 0.5], dtype=np.float32)
_KIND_CHASE = np.array([-0.1, -0.1, 0.0, 0.12, 0.05, 0.0, 0.2, 0.3], dtype=np.float32)
_KIND_SPEED = np.array([0.8, 0.8, 0.3, -0.6, -1.2, -0.8, -1.2, -1.0], dtype=np.float32)  # exit velocity, mph
_KIND_ANGLE = np.array([5.0, -7.0, 1.0, 1.5, 4.0, -2.5, -3.0, -5.0], dtype=np.float32)  # launch angle, degrees
_KIND_SAME = np.array([0.0, 0.15, 0.0, 0.3, 0.5, 0.0, -0.6, -0.4], dtype=np.float32)  # used on the same hand more

_PLACE_LOG = np.log(np.array([0.249, 0.204, 0.203, 0.238, 0.106], dtype=np.float32))
_PLACE_ZONE = np.array([1.0, 0.55, -0.15, -0.75, -1.4], dtype=np.float32)  # how a place moves with "more strikes"
_SWING = np.array([0.98, 0.52, -0.22, -1.25, -2.9], dtype=np.float32)
_SWING_DISCIPLINE = np.array([0.03, -0.04, -0.28, -0.46, -0.46], dtype=np.float32)
_SWING_STUFF = np.array([0.0, 0.0, 0.06, 0.12, 0.12], dtype=np.float32)
_WHIFF = np.array([-1.40, -1.15, -0.63, 0.22, 1.05], dtype=np.float32)
_FOUL = np.array([-0.16, -0.02, 0.10, 0.25, 0.40], dtype=np.float32)
_STRIKE = np.array([0.99, 0.80, 0.16, 0.01, 0.0], dtype=np.float32)  # called, when taken
_STRIKE_COMMAND = np.array([0.0, 0.02, 0.03, 0.0, 0.0], dtype=np.float32)  # who hits his spot gets the call
_HIT_BATTER = np.array([0.0, 0.0, 0.0, 0.002, 0.026], dtype=np.float32)
_PLACE_SPEED = np.array([2.2, 0.2, -2.6, -5.0, -8.0], dtype=np.float32)

_COUNT_ZONE = np.array([[0.16, -0.16, -0.48], [0.26, 0.03, -0.26], [0.42, 0.2, -0.02], [0.72, 0.5, 0.32]], np.float32)
_COUNT_SWING = np.array([[-0.8, 0.1, 0.54], [-0.5, 0.3, 0.74], [-0.45, 0.4, 0.94], [-2.4, 0.35, 1.2]], np.float32)
_COUNT_SPIN = np.array([[-0.3, 0.1, 0.35], [-0.4, 0.0, 0.3], [-0.7, -0.2, 0.2], [-1.4, -0.7, -0.1]], np.float32)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


@dataclass(frozen=True)
class Matchup:
    """Batter against pitcher: talents as they bear on a pitch, arrays of one broadcastable shape.

    `same`: 1 where both have the same hand. `fatigue`: 0 the first time through the order, 1 the second, ...
    """

    discipline: Array
    contact: Array
    power: Array
    loft: Array
    speed: Array
    stuff: Array
    command: Array
    grounders: Array
    suppression: Array
    same: Array
    fatigue: Array


def kind_probabilities(usage: Array, balls: Ints, strikes: Ints, same: Array) -> Array:
    """Mix of pitches, usage [..., 8] log-weights -> [..., 8]. Behind in the count pitchers throw fastballs."""
    logit = usage + _COUNT_SPIN[balls, strikes][..., None] * (1 - _FAST) + same[..., None] * _KIND_SAME
    weight = np.exp(logit)
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def place_probabilities(m: Matchup, kind: Ints, balls: Ints, strikes: Ints) -> Array:
    """Where the pitch goes -> [..., 5]. Command finds the zone; pitchers stay away from power."""
    zone = 0.088 * m.command - 0.05 * m.power - 0.03 * m.fatigue + _KIND_ZONE[kind] + _COUNT_ZONE[balls, strikes]
    weight = np.exp(_PLACE_LOG + zone[..., None] * _PLACE_ZONE)
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def swing_probability(m: Matchup, kind: Ints, place: Ints, balls: Ints, strikes: Ints) -> Array:
    return sigmoid(
        _SWING[place]
        + _COUNT_SWING[balls, strikes]
        + _KIND_CHASE[kind] * (place >= SHADOW_OUT)
        + _SWING_DISCIPLINE[place] * m.discipline
        + _SWING_STUFF[place] * (m.stuff + 0.6 * m.same)
    )


def whiff_probability(m: Matchup, kind: Ints, place: Ints, strikes: Ints) -> Array:
    """A swing misses. `contact` and `stuff` are seen in the zone as well as outside."""
    return sigmoid(
        _WHIFF[place]
        + _KIND_WHIFF[kind]
        - 0.43 * m.contact
        + 0.08 * m.power
        + 0.30 * m.stuff
        + 0.14 * (m.same - 0.5)
        - 0.07 * m.fatigue
        - 0.76 * (strikes == 2)
    )


def foul_probability(m: Matchup, place: Ints, strikes: Ints) -> Array:
    """Contact goes foul."""
    return sigmoid(_FOUL[place] + 0.06 * m.stuff - 0.03 * m.contact + 0.2 * (strikes == 2))


def strike_probability(m: Matchup, place: Ints) -> Array:
    """A pitch taken is called a strike."""
    return np.clip(_STRIKE[place] + _STRIKE_COMMAND[place] * m.command, 0, 1)


def hit_batter_probability(place: Ints) -> Array:
    """A pitch taken hits the batter."""
    return _HIT_BATTER[place]


# --- batted balls ---------------------------------------------------------------------------------------------------
SPEED_SD, ANGLE_SD = 12.0, 25.0
GROUND, LINE, FLY, POP = range(4)


def batted_ball_mean(m: Matchup, kind: Ints, place: Ints) -> tuple[Array, Array]:
    """Means of the exit velocity (mph, at the best angle) and of the launch angle (degrees)."""
    speed = 91.1 + 3.0 * m.power - 1.1 * m.suppression - 0.3 * m.stuff - 0.8 * m.same + 0.35 * m.fatigue
    speed = speed + _PLACE_SPEED[place] + _KIND_SPEED[kind]
    angle = 12.5 + 4.4 * m.loft - 4.0 * m.grounders + _KIND_ANGLE[kind]
    return speed, angle


def exit_velocity(mean: Array, angle: Array, noise: Array) -> Array:
    """mph; noise is standard normal. Balls topped or popped up leave the bat slower."""
    return np.clip(mean - 0.13 * np.abs(angle - 12) + SPEED_SD * np.where(noise > 0, 0.85, 1.1) * noise, 25, 119)


def trajectory(angle: Array) -> Ints:
    """GROUND, LINE, FLY or POP from the launch angle."""
    return np.digitize(angle, (10.0, 25.0, 50.0))


def home_run_probability(speed: Array, angle: Array, park: Array) -> Array:
    """`park`: shift in log-odds."""
    return sigmoid(np.maximum((speed - 102.5) / 2.6 - 1.1 * ((angle - 28.0) / 8.5) ** 2 + park, -30))


_HIT = np.array([-1.08, 0.72, -1.95, -4.0])
_HIT_SPEED = np.array([0.045, 0.012, 0.015, 0.0])  # a mph above 88
_HIT_LEGS = np.array([0.09, 0.0, 0.0, 0.0])
_DOUBLE = np.array([-2.6, -0.88, 0.85, -1.0])
_TRIPLE = np.array([-6.0, -3.9, -2.5, -5.0])


def hit_probabilities(speed: Array, angle: Array, legs: Array, park: Array) -> Array:
    """Single, double, triple given that the ball stayed in the park -> [..., 3]."""
    t = trajectory(angle)
    hit = sigmoid(_HIT[t] + _HIT_SPEED[t] * (speed - 88) + _HIT_LEGS[t] * legs + park)
    triple = sigmoid(_TRIPLE[t] + 0.6 * legs)
    double = (1 - triple) * sigmoid(_DOUBLE[t] + 0.02 * (speed - 92) + 0.12 * legs)
    return np.stack([hit * (1 - triple - double), hit * double, hit * triple], axis=-1)
