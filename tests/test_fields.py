"""What a pitch is: vocabularies, their mappings, and the gamestate deltas."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fullcount.fields import (
    BASES,
    CALL_CLASS,
    CALLS,
    CATEGORICAL,
    DELTAS,
    EVENT_OUTCOME,
    EVENTS,
    FIELDS,
    NUMERIC,
    OUTCOMES,
    PA_EVENTS,
    PITCH_CLASSES,
    Role,
    encode_delta,
)

_DELTA = re.compile(r"(ball|strike|same|end) o(\d) r(\d) ([+-]\d)([+-]\d)([+-]\d)")


def code(**changes: object) -> str:
    """The delta of one pitch, by name ("" where there is none)."""
    given = {
        "ends_pa": False, "ends_half": False, "d_balls": 0, "d_strikes": 0, "d_outs": 0, "runs": 0,
        "bases_before": 0, "bases_after": 0,
    } | changes  # fmt: skip
    found = int(encode_delta(**{n: np.array([v]) for n, v in given.items()})[0])
    return DELTAS[found - 1] if found else ""


def test_players_are_conserved_in_every_delta():
    seen = 0
    for name in DELTAS:
        if name.startswith("half"):
            continue
        count, *numbers = _DELTA.fullmatch(name).groups()
        outs, runs, *bases = map(int, numbers)
        assert sum(bases) + outs + runs == (1 if count == "end" else 0), name
        seen += 1
    assert seen == len(DELTAS) - 4  # a third out with 0 to 3 runs: whoever was on base is gone
    assert len(set(DELTAS)) == len(DELTAS)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"d_balls": 1}, "ball o0 r0 +0+0+0"),
        ({"d_strikes": 1}, "strike o0 r0 +0+0+0"),
        ({}, "same o0 r0 +0+0+0"),  # a foul with two strikes
        ({"ends_pa": True, "d_outs": 1}, "end o1 r0 +0+0+0"),
        ({"ends_pa": True, "bases_after": 1}, "end o0 r0 +1+0+0"),  # a single
        ({"ends_pa": True, "runs": 4, "bases_before": 7}, "end o0 r4 -1-1-1"),  # a grand slam
        ({"ends_pa": True, "d_outs": 2, "bases_before": 1}, "end o2 r0 -1+0+0"),  # a double play
        ({"ends_pa": True, "ends_half": True, "d_outs": 1, "bases_before": 7, "bases_after": 7}, "half r0"),
        ({"ends_pa": True, "ends_half": True, "runs": 4, "bases_before": 7}, "half r3"),  # a walk-off grand slam
        ({"d_strikes": 1, "bases_before": 1, "bases_after": 2}, "strike o0 r0 -1+1+0"),  # a stolen base
        ({"d_balls": 1, "runs": 1, "bases_before": 4}, "ball o0 r1 +0+0-1"),  # a wild pitch
        ({"ends_pa": True, "bases_after": 3}, ""),  # two runners out of one batter
        ({"d_balls": 1, "bases_before": 1}, ""),  # a runner vanishes
    ],
)
def test_delta_of_a_change(changes, name):
    assert code(**changes) == name


def test_every_delta_is_reached_by_some_change():
    grid = np.array(list(np.ndindex(2, 2, 2, 2, 4, 5, 8, 8)))
    ids = encode_delta(
        grid[:, 0] == 1, grid[:, 1] == 1, grid[:, 2], grid[:, 3], grid[:, 4], grid[:, 5], grid[:, 6], grid[:, 7]
    )
    assert set(ids.tolist()) == set(range(len(DELTAS) + 1))


def test_every_call_has_a_class_and_every_event_an_outcome():
    assert set(CALL_CLASS) == set(CALLS)
    assert set(CALL_CLASS.values()) == set(PITCH_CLASSES)
    assert set(EVENT_OUTCOME) == set(PA_EVENTS) == set(EVENTS) - {"none", "truncated_pa"}
    assert set(EVENT_OUTCOME.values()) == set(OUTCOMES)
    safe = {"single", "double", "triple", "home_run", "walk", "intent_walk", "hit_by_pitch"}
    out = {e for e, o in EVENT_OUTCOME.items() if o == "OUT"}
    assert not out & (safe | {"strikeout", "strikeout_double_play"})


def test_ids_leave_zero_for_missing():
    for f in CATEGORICAL:
        assert 0 not in f.ids.values()
        assert f.capacity > max(f.ids.values(), default=0)
        assert len(set(f.vocabulary)) == len(f.vocabulary)
    assert BASES[5] == "101"


def test_fields_stand_in_the_order_in_which_a_pitch_happens():
    order = [Role.SITUATION, Role.DELIVERY, Role.RESULT, Role.TRANSITION]
    first = [next(i for i, f in enumerate(FIELDS) if f.role is r) for r in order]
    assert first == sorted(first)
    assert [f.name for f in FIELDS if f.role is Role.SITUATION] == [f.name for f in FIELDS[: first[1]]]
    assert all(f.role is Role.SITUATION for f in FIELDS if f.dynamic)
    assert len(CATEGORICAL) + len(NUMERIC) == len(FIELDS)
