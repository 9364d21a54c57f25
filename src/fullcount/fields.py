"""What a pitch is: every field of an event, its role, vocabulary or scale, and its missing rule.

This file alone knows the fields. Masked modelling, next-event prediction, generation and simulation loop over
`FIELDS` in the order in which a pitch happens (situation, delivery, call, contact, transition, event), so a field
added here reaches the store, the embedder, the losses and the samplers.

Categorical ids: 0 is always "missing or unknown"; vocabulary entry *i* has id *i + 1*. A hidden (masked) field is not
an id: the model has a learned vector for it. Numeric fields are kept in the unit of the source; NaN means absent
(that is the presence bit), and `(value - center) / spread` with the fixed constants below is what a network reads.
The constants are round physical numbers, fitted to nothing, so that no season leaks into them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray


class Role(StrEnum):
    """When in a pitch's life a field becomes known."""

    SITUATION = "situation"  # before the pitch: count, outs, bases, score, hands, park, league
    DELIVERY = "delivery"  # the pitch as thrown
    RESULT = "result"  # call, contact, plate-appearance event
    TRANSITION = "transition"  # the gamestate delta


@dataclass(frozen=True)
class Field:
    """One field of an event.

    Attributes:
        name: column name in the canonical pitch table and in the store.
        role: when it becomes known.
        vocabulary: categorical values in id order (id = position + 1), or None for a numeric field. An open
            vocabulary (park, league) is empty here and kept by the store, up to `capacity` entries.
        capacity: number of ids the model reserves, id 0 included.
        unit: unit of a numeric field.
        center, spread: fixed scaling of a numeric field.
        dynamic: a situation field in whose later values one can read what a pitch did, be it only that it ended the
            plate appearance (the next batter's hand, a count that starts again). Whoever hides a pitch must hide
            these fields for the rest of the game.
        target: predicted by the objectives that predict fields.
    """

    name: str
    role: Role
    vocabulary: tuple[str, ...] | None = None
    capacity: int = 0
    unit: str = ""
    center: float = 0.0
    spread: float = 1.0
    dynamic: bool = False
    target: bool = False
    ids: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.vocabulary is not None:
            object.__setattr__(self, "capacity", self.capacity or len(self.vocabulary) + 1)
            object.__setattr__(self, "ids", {v: i + 1 for i, v in enumerate(self.vocabulary)})

    @property
    def is_numeric(self) -> bool:
        return self.vocabulary is None

    @property
    def is_open(self) -> bool:
        return self.vocabulary == ()


# --------------------------------------------------------------------------------------------------- vocabularies

PITCH_TYPES = (
    "FF", "SI", "FC", "SL", "ST", "SV", "CU", "KC", "CS", "CH", "FS", "FO", "SC", "KN", "EP", "FA", "PO", "IN",
)  # fmt: skip

#: What became of one pitch. `automatic_*` change the count without a pitch being thrown (clock and no-pitch walks).
CALLS = (
    "ball", "blocked_ball", "intent_ball", "pitchout", "automatic_ball",
    "called_strike", "automatic_strike",
    "swinging_strike", "missed_bunt", "swinging_pitchout", "strike_unspecified",
    "foul", "foul_tip", "foul_bunt", "foul_pitchout", "bunt_foul_tip",
    "in_play", "hit_by_pitch",
)  # fmt: skip
AUTOMATIC_CALLS = ("automatic_ball", "automatic_strike")

#: Six-class pitch result of the anchors: B ball, C called, S swinging, F foul, X in play, H hit batter.
PITCH_CLASSES = ("B", "C", "S", "F", "X", "H")
CALL_CLASS: dict[str, str] = {
    **dict.fromkeys(("ball", "blocked_ball", "intent_ball", "pitchout", "automatic_ball"), "B"),
    **dict.fromkeys(("called_strike", "automatic_strike"), "C"),
    **dict.fromkeys(("swinging_strike", "missed_bunt", "swinging_pitchout", "strike_unspecified", "foul_tip"), "S"),
    **dict.fromkeys(("foul", "foul_bunt", "foul_pitchout", "bunt_foul_tip"), "F"),
    "in_play": "X",
    "hit_by_pitch": "H",
}

#: Batted-ball trajectory; "none" on a pitch that was not put in play.
CONTACTS = ("none", "ground_ball", "line_drive", "fly_ball", "popup", "bunt")

#: What ended the plate appearance. "none" on every other pitch; "truncated_pa" (the inning ended on the bases)
#: is not a plate appearance and is never counted.
EVENTS = (
    "none",
    "strikeout", "strikeout_double_play",
    "walk", "intent_walk", "hit_by_pitch",
    "single", "double", "triple", "home_run",
    "field_out", "force_out", "grounded_into_double_play", "double_play", "triple_play",
    "fielders_choice", "field_error", "sac_fly", "sac_fly_double_play", "sac_bunt", "catcher_interf",
    "truncated_pa",
)  # fmt: skip
PA_EVENTS = EVENTS[1:-1]

#: Eight-class plate-appearance outcome of the anchors.
OUTCOMES = ("OUT", "K", "BB", "1B", "2B", "3B", "HR", "HBP")
EVENT_OUTCOME: dict[str, str] = {
    **dict.fromkeys(PA_EVENTS, "OUT"),
    **dict.fromkeys(("strikeout", "strikeout_double_play"), "K"),
    **dict.fromkeys(("walk", "intent_walk"), "BB"),
    "single": "1B",
    "double": "2B",
    "triple": "3B",
    "home_run": "HR",
    "hit_by_pitch": "HBP",
}

BASES = tuple(f"{b:03b}" for b in range(8))  # bit 0: first, bit 1: second, bit 2: third; printed "third second first"


def _delta_name(count: str, outs: int, runs: int, first: int, second: int, third: int) -> str:
    return f"{count} o{outs} r{runs} {first:+d}{second:+d}{third:+d}"


def _deltas() -> tuple[str, ...]:
    """Every legal gamestate delta.

    A delta is the change in the count (ball, strike, same, or "end" when the plate appearance is over and the count
    starts again), in outs, in the batting team's score and on each base (Heaton & Mitra 2023). Players are conserved:
    runners gained + outs + runs = 1 when the batter's turn ends (he is on base, out or home) and 0 when only runners
    moved. A third out ends the half inning ("half"), whatever stood on the bases.
    """
    names = ["ball o0 r0 +0+0+0", "strike o0 r0 +0+0+0", "same o0 r0 +0+0+0"]
    moves = list(product((-1, 0, 1), repeat=3))
    for d in moves:
        for outs in range(3):
            runs = 1 - sum(d) - outs
            if 0 <= runs <= 4:
                names.append(_delta_name("end", outs, runs, *d))
    names += [f"half r{runs}" for runs in range(4)]
    for count in ("ball", "strike", "same"):  # runners move during the plate appearance
        for d in moves:
            for outs, runs in ((0, 0), (1, 0), (0, 1)):
                if any(d) and sum(d) + outs + runs == 0:
                    names.append(_delta_name(count, outs, runs, *d))
    return tuple(names)


DELTAS = _deltas()
_DELTA_IDS = {name: i + 1 for i, name in enumerate(DELTAS)}


def _delta_table() -> NDArray[np.int16]:
    """Lookup [count 4, outs 4, runs 5, first 3, second 3, third 3] -> delta id (0 where no legal delta exists)."""
    table = np.zeros((4, 4, 5, 3, 3, 3), dtype=np.int16)
    for c, count in enumerate(("ball", "strike", "same", "end")):
        for outs, runs, *d in product(range(3), range(5), (-1, 0, 1), (-1, 0, 1), (-1, 0, 1)):
            table[(c, outs, runs, *(x + 1 for x in d))] = _DELTA_IDS.get(_delta_name(count, outs, runs, *d), 0)
    for runs in range(5):
        table[:, 3, runs] = _DELTA_IDS[f"half r{min(runs, 3)}"]
    return table


_DELTA_TABLE = _delta_table()


def encode_delta(
    ends_pa: NDArray[np.bool_],
    ends_half: NDArray[np.bool_],
    d_balls: NDArray[np.integer],
    d_strikes: NDArray[np.integer],
    d_outs: NDArray[np.integer],
    runs: NDArray[np.integer],
    bases_before: NDArray[np.integer],
    bases_after: NDArray[np.integer],
) -> NDArray[np.int16]:
    """Gamestate-delta ids from changes, all arrays of shape [n]; 0 where the change is not a legal delta.

    Args:
        ends_pa: the pitch was the last of its plate appearance.
        ends_half: the half inning (or the game) ended on it.
        d_balls, d_strikes, d_outs, runs: changes made by the pitch and by what runners did before the next one.
        bases_before, bases_after: occupancy bit masks, 0..7 (bit 0 = first base).
    """
    count = np.select([ends_pa, d_balls > 0, d_strikes > 0], [3, 0, 1], default=2)
    outs = np.where(ends_half, 3, np.clip(d_outs, 0, 3))
    move = [(((bases_after >> b) & 1) - ((bases_before >> b) & 1) + 1) for b in range(3)]
    ids: NDArray[np.int16] = _DELTA_TABLE[count, outs, np.clip(runs, 0, 4), move[0], move[1], move[2]]
    return ids


# --------------------------------------------------------------------------------------------------------- fields


def _span(low: int, high: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(low, high + 1))


S, D, R, T = Role.SITUATION, Role.DELIVERY, Role.RESULT, Role.TRANSITION

#: In the order in which a pitch happens.
FIELDS: tuple[Field, ...] = (
    Field("league", S, (), capacity=16),
    Field("park", S, (), capacity=512),
    Field("stand", S, ("L", "R"), dynamic=True),
    Field("throws", S, ("L", "R"), dynamic=True),
    Field("inning", S, _span(1, 12), dynamic=True),  # 12: twelfth or later
    Field("top", S, ("0", "1")),  # 1: visitors bat
    Field(
        "times_through", S, _span(1, 4), dynamic=True
    ),  # the pitcher's time through the order in this game, 4: fourth or later
    Field("score_diff", S, _span(-8, 8), dynamic=True),  # batting minus fielding, clipped at 8
    Field("outs", S, _span(0, 2), dynamic=True),
    Field("bases", S, BASES, dynamic=True),
    Field("begin_pa", S, BASES, dynamic=True),  # base occupancy on the first pitch of a plate appearance, else missing
    Field("balls", S, _span(0, 3), dynamic=True),
    Field("strikes", S, _span(0, 2), dynamic=True),
    Field("pitch_number", S, _span(1, 10), dynamic=True),  # within the plate appearance, 10: tenth or later
    Field("pitch_type", D, PITCH_TYPES, target=True),
    Field("release_speed", D, unit="mph", center=89.0, spread=6.0),
    Field("release_spin_rate", D, unit="rpm", center=2250.0, spread=350.0),
    Field("pfx_x", D, unit="ft", center=0.0, spread=0.9),
    Field("pfx_z", D, unit="ft", center=0.6, spread=0.75),
    Field("plate_x", D, unit="ft", center=0.0, spread=0.85),
    Field("plate_z", D, unit="ft", center=2.3, spread=1.0),
    Field("release_extension", D, unit="ft", center=6.3, spread=0.5),
    Field("release_pos_x", D, unit="ft", center=0.0, spread=1.9),
    Field("release_pos_z", D, unit="ft", center=5.8, spread=0.6),
    Field("call", R, CALLS, target=True),
    Field("contact", R, CONTACTS, target=True),
    Field("launch_speed", R, unit="mph", center=88.0, spread=14.0),
    Field("launch_angle", R, unit="deg", center=12.0, spread=27.0),
    Field("delta", T, DELTAS, target=True),
    Field("event", R, EVENTS, target=True),
)

CATEGORICAL = tuple(f for f in FIELDS if not f.is_numeric)
NUMERIC = tuple(f for f in FIELDS if f.is_numeric)
TARGETS = tuple(f for f in FIELDS if f.target)
BY_NAME = {f.name: f for f in FIELDS}
#: Column of a field in the categorical or the numeric array of the store and of batches; its place in `FIELDS`.
COLUMN = {f.name: i for fields in (CATEGORICAL, NUMERIC) for i, f in enumerate(fields)}
PLACE = {f.name: i for i, f in enumerate(FIELDS)}
