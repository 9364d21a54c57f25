"""The rules: what may follow what, and what becomes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullcount.fields import BY_NAME, COLUMN, DELTAS, EVENTS
from fullcount.gamestate import KINDS, NEEDS, Gamestate, rules

PITCH = ("call", "contact", "delta", "event")


def situation(n=1, **values):
    start = Gamestate.start(torch.full((n,), 9), torch.zeros(n, dtype=torch.long))
    changed = {k: torch.full((n,), v) if isinstance(v, int) else torch.tensor([v] * n) for k, v in values.items()}
    return Gamestate(**{**start.__dict__, **changed})


def pitch(call, contact, delta, event):
    return {n: torch.tensor([BY_NAME[n].ids[v]]) for n, v in zip(PITCH, (call, contact, delta, event), strict=True)}


def is_legal(state, told):
    before = {}
    for name in PITCH:
        allowed = state.legal(BY_NAME[name], before)
        if allowed is not None and not allowed[0, told[name][0] - 1]:
            return False
        before[name] = told[name]
    return True


def test_every_situation_and_kind_of_pitch_leaves_something_to_happen():
    assert rules().any(dim=-1).any(dim=-1).all()


@pytest.mark.parametrize(
    ("state", "told", "legal"),
    [
        ({}, ("ball", "none", "ball o0 r0 +0+0+0", "none"), True),
        ({"balls": 3}, ("ball", "none", "ball o0 r0 +0+0+0", "none"), False),
        ({"balls": 3}, ("ball", "none", "end o0 r0 +1+0+0", "walk"), True),
        ({"balls": 2}, ("ball", "none", "end o0 r0 +1+0+0", "walk"), False),
        ({"balls": 3, "bases": 1}, ("ball", "none", "end o0 r0 +0+0+1", "walk"), True),  # ball four got away
        ({"balls": 3}, ("ball", "none", "end o1 r0 +0+0+0", "walk"), False),  # nobody there to be put out
        ({"strikes": 1}, ("foul", "none", "strike o0 r0 +0+0+0", "none"), True),
        ({"strikes": 2}, ("foul", "none", "same o0 r0 +0+0+0", "none"), True),
        ({"strikes": 2}, ("foul_bunt", "none", "same o0 r0 +0+0+0", "none"), False),
        ({"strikes": 2}, ("foul_bunt", "none", "end o1 r0 +0+0+0", "strikeout"), True),
        ({"strikes": 2}, ("swinging_strike", "none", "end o0 r0 +1+0+0", "strikeout"), True),  # dropped third strike
        ({"strikes": 2, "bases": 1}, ("swinging_strike", "none", "end o0 r0 +0+1+0", "strikeout"), False),
        ({"bases": 1}, ("ball", "none", "ball o0 r0 -1+1+0", "none"), True),  # a stolen base
        ({"bases": 2}, ("ball", "none", "ball o0 r0 +1-1+0", "none"), False),  # nobody goes back
        ({}, ("hit_by_pitch", "none", "end o0 r0 +0+1+0", "hit_by_pitch"), False),
        ({"outs": 2}, ("in_play", "fly_ball", "half r0", "field_out"), True),
        ({"outs": 1}, ("in_play", "fly_ball", "half r0", "field_out"), False),
        ({"outs": 1, "bases": 1}, ("in_play", "ground_ball", "half r0", "grounded_into_double_play"), True),
        ({"outs": 2, "bases": 4}, ("in_play", "fly_ball", "half r1", "sac_fly"), False),
        ({"bases": 1}, ("in_play", "line_drive", "end o0 r2 -1+0+0", "home_run"), True),
        ({"bases": 1}, ("in_play", "line_drive", "end o0 r1 -1+1+0", "home_run"), False),
        ({"bases": 1}, ("in_play", "ground_ball", "end o0 r0 +0+1+0", "double"), False),
        ({}, ("in_play", "none", "end o0 r0 +1+0+0", "catcher_interf"), True),
        ({}, ("ball", "fly_ball", "ball o0 r0 +0+0+0", "none"), False),
        # The home side wins at once: with one run in the ninth when it is even.
        ({"inning": 9, "top": 0, "bases": 4}, ("in_play", "line_drive", "half r1", "single"), True),
        ({"inning": 9, "top": 0, "bases": 4}, ("in_play", "line_drive", "end o0 r1 +1+0-1", "single"), False),
        ({"inning": 8, "top": 0, "bases": 4}, ("in_play", "line_drive", "half r1", "single"), False),
        ({"inning": 9, "top": 0}, ("in_play", "fly_ball", "half r1", "home_run"), True),
        ({"inning": 9, "top": 0, "bases": 4}, ("ball", "none", "half r1", "truncated_pa"), True),  # a wild pitch
    ],
)
def test_golden_pitches(state, told, legal):
    assert is_legal(situation(**state), pitch(*told)) == legal


def test_the_end_of_games():
    def after(told, **values):
        return situation(**values).apply(pitch(*told))

    homer = ("in_play", "fly_ball", "half r3", "home_run")
    state, play = after(homer, inning=9, top=0, bases=7, score=[3, 0])
    assert play.runs == 4
    assert play.outs == 0
    assert play.game_over
    assert state.score.tolist() == [[3, 4]]
    out = ("in_play", "fly_ball", "half r0", "field_out")
    assert after(out, inning=9, top=1, outs=2, score=[0, 1])[1].game_over  # the home side need not bat
    assert not after(out, inning=9, top=1, outs=2, score=[1, 1])[1].game_over
    assert after(out, inning=9, top=0, outs=2, score=[2, 1])[1].game_over
    state, play = after(out, inning=9, top=0, outs=2, score=[1, 1], runner=1)
    assert not play.game_over
    assert state.inning == 10
    assert state.bases == 2
    assert play.outs == 1
    assert after(out, inning=8, top=0, outs=2, runner=1)[0].bases == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(20, 120))
def test_legal_draws_keep_a_legal_state_and_conserve_runners(seed, pitches):
    rng = np.random.default_rng(seed)
    state = situation(inning=int(rng.integers(8, 11)))
    for _ in range(pitches):
        told = {}
        for name in PITCH:
            field = BY_NAME[name]
            allowed = state.legal(field, told)
            choice = np.arange(len(field.vocabulary)) if allowed is None else np.flatnonzero(allowed[0])
            told[name] = torch.tensor([1 + int(rng.choice(choice))])
        before, (state, play) = state, state.apply(told)
        assert 0 <= state.balls <= 3
        assert 0 <= state.strikes <= 2
        assert 0 <= state.outs <= 2
        assert 0 <= state.bases <= 7
        assert state.score.sum() - before.score.sum() == play.runs >= 0
        runners = [bin(int(s.bases)).count("1") for s in (before, state)]
        batter = int(play.turn_over) if not play.half_over else 0
        if not play.half_over:  # runners and batter are on base, out or home
            assert runners[0] + batter == runners[1] + play.runs + play.outs
            assert state.outs == before.outs + play.outs
        else:
            won = play.game_over and before.top == 0
            assert won or before.outs + play.outs == 3
            assert play.runs <= runners[0] + 1
        assert (state.pitch_number == 1) == bool(play.turn_over)
        if play.game_over:
            assert state.score[0, 0] != state.score[0, 1]
            return


def test_the_leagues_own_pitches_lead_from_situation_to_situation(sim_store):
    """Every stored pitch is legal, and what it makes of its situation is the next one stored."""
    rows = torch.from_numpy(np.asarray(sim_store.categorical).astype(np.int64))
    ids = {n: rows[:, i] for n, i in COLUMN.items()}
    lead, top = ids["score_diff"] - 9, ids["top"] - 1
    # Beyond 7 the stored difference is clipped; where a run wins, the simulated league writes the half's end otherwise.
    close = (lead.abs() < 7) & ((top == 1) | (ids["inning"] < 9))
    score = torch.stack([torch.where(top == 1, lead, 0), torch.where(top == 0, lead, 0)], dim=1)
    n = len(rows)
    told = {name: ids[name] for name in PITCH}
    state = Gamestate(
        ids["inning"], top, ids["outs"] - 1, ids["bases"] - 1, ids["balls"] - 1, ids["strikes"] - 1,
        ids["pitch_number"], score, torch.full((n,), 9), torch.zeros(n, dtype=torch.long),
    )  # fmt: skip
    allowed = torch.ones(n, dtype=torch.bool)
    for name in PITCH:
        mask = state.legal(BY_NAME[name], told)
        if mask is not None:
            allowed &= mask.gather(1, told[name].unsqueeze(1) - 1)[:, 0]
    assert allowed[close].float().mean() == 1
    following, play = state.apply(told)
    goes_on = close & ~play.game_over & (ids["inning"] < 12) & (ids["pitch_number"] < 9)
    goes_on[-1] = False
    later = following.ids()
    for name in ("inning", "top", "outs", "bases", "begin_pa", "balls", "strikes", "pitch_number", "score_diff"):
        assert (later[name][:-1] == ids[name][1:])[goes_on[:-1]].all(), name


def test_the_table_speaks_of_all_it_should():
    assert rules().shape == (3, 8, NEEDS, len(KINDS), len(DELTAS), len(EVENTS))
    assert rules().flatten(0, 4).any(dim=0).all()  # every event can happen
