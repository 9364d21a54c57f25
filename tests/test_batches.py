"""Batches: a function of (seed, step, rank), little padding, the exact layout."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import torch

from fullcount.batches import EVENT, PAD, SEPARATOR, SLOT, Batch, Sampler, collate
from fullcount.errors import FullcountError
from fullcount.fields import NUMERIC
from fullcount.priors import Priors
from fullcount.store import day_number
from fullcount.windows import History, Window

WINDOWS = (Window("batter", games=10, events=200), Window("pitcher", games=3, events=200))


def sampler(store, **changes) -> Sampler:
    given = {"before": date(2003, 1, 1), "tokens": 4096, "seed": 5, "block": 16}
    return Sampler(store, WINDOWS, **(given | changes))


def equal(a: Batch, b: Batch) -> bool:
    tensors = [n for n, v in vars(a).items() if isinstance(v, torch.Tensor)]
    return a.seed == b.seed and all(torch.equal(getattr(a, n), getattr(b, n)) for n in tensors)


def test_a_batch_is_a_function_of_seed_step_and_rank(sim_store):
    a = sampler(sim_store)
    for step in (20, 3, 19, 3):  # in any order, from any block
        assert equal(a.batch(step, 1, 2), sampler(sim_store).batch(step, 1, 2))


def test_other_steps_ranks_and_seeds_are_other_batches(sim_store):
    a = sampler(sim_store)
    base = a.batch(4, 0, 2)
    others = [a.batch(5, 0, 2), a.batch(4, 1, 2), sampler(sim_store, seed=6).batch(4, 0, 2), a.batch(4 + 16, 0, 2)]
    assert not any(equal(base, other) for other in others)
    assert len({b.seed for b in (base, *others)}) == 5
    assert not equal(a.batch(4, 0, 1), base)  # the number of processes is part of the plan


def test_little_of_a_batch_is_padding(sim_store):
    a = sampler(sim_store, block=32)
    batches = [a.batch(i) for i in range(32)]
    tokens, cells = sum(b.tokens for b in batches), sum(b.kind.numel() for b in batches)
    assert 1 - tokens / cells < 0.1
    assert tokens / 32 == pytest.approx(4096, rel=0.25)


def test_both_roles_are_drawn(sim_store):
    a = sampler(sim_store)
    roles = [a.batch(i).role.unique().tolist() for i in range(16)]
    assert sorted({tuple(r) for r in roles}) == [(0,), (1,)]


def test_every_batch_has_windows_even_when_one_is_longer_than_a_batch(sim_store):
    a = sampler(sim_store, tokens=64)
    for step in range(32):
        assert a.batch(step).events > 0


def test_no_event_on_or_after_the_cut_off(sim_store):
    cut, since = date(2002, 5, 3), date(2002, 4, 10)
    a = sampler(sim_store, before=cut, since=since, tokens=1024)
    for history, pool in zip(a.histories, a._pools, strict=True):
        assert history.days[pool].max() < day_number(cut)
        assert history.days[pool].min() >= day_number(since)
        assert (history.days >= day_number(cut)).any()
    for step in range(16):
        which, first, stop = a._plan(0, 1)[step]
        newest = a.histories[which].days[stop - 1]
        assert newest.max() < day_number(cut)
        assert len(a.batch(step).player) == len(first)


def test_an_empty_range_of_dates_is_said(sim_store):
    with pytest.raises(FullcountError, match="no windows"):
        sampler(sim_store, before=date(1990, 1, 1))


def test_layout_of_two_windows(sim_store):
    """A window of two games beside a window of one: every token where it belongs."""
    history = History(sim_store, Window("pitcher", games=2))
    events = history.events
    long = int(np.flatnonzero(history.players[1:] == history.players[:-1])[0])  # games `long` and `long + 1` are one's
    short = int(np.flatnonzero(history.players != history.players[long])[0])
    first, stop = np.array([long, short]), np.array([long + 2, short + 1])
    batch = collate(history, first, stop, None, seed=9)
    e0, e1, e2 = events[long], events[long + 1], events[short]
    width = max(3 + e0 + e1, 2 + e2)
    kinds = [
        [SLOT, SEPARATOR, *[EVENT] * e0, SEPARATOR, *[EVENT] * e1],
        [SLOT, SEPARATOR, *[EVENT] * e2],
    ]
    games = [[0, 1, *[1] * e0, 0, *[0] * e1], [0, 0, *[0] * e2]]
    places = [[0, 0, *range(1, e0 + 1), 0, *range(1, e1 + 1)], [0, 0, *range(1, e2 + 1)]]
    for got, want in ((batch.kind, kinds), (batch.game, games), (batch.position, places)):
        assert got.tolist() == [[*row, *[PAD] * (width - len(row))] for row in want]
    for i, (a, b) in enumerate(zip(first, stop, strict=True)):
        rows, _ = history.rows(np.arange(a, b))
        there = batch.kind[i] == EVENT
        assert np.array_equal(batch.categorical[i][there], sim_store.categorical[rows])
        raw = np.array(sim_store.numeric[rows], dtype=np.float32)
        scaled = (raw - [f.center for f in NUMERIC]) / [f.spread for f in NUMERIC]
        assert np.array_equal(batch.present[i][there], ~np.isnan(raw))
        np.testing.assert_allclose(batch.numeric[i][there], np.nan_to_num(scaled).clip(-6, 6), atol=1e-5)
    fields = (batch.categorical, batch.numeric, batch.present)
    assert not any(t[batch.kind != EVENT].any() for t in fields)
    assert batch.player.tolist() == history.players[[long, short]].tolist()
    assert batch.role.tolist() == [1, 1]
    assert (batch.events, batch.tokens) == (e0 + e1 + e2, 5 + e0 + e1 + e2)
    assert batch.seed == 9


def test_the_prior_is_as_of_the_windows_last_game(sim_store):
    priors = Priors(sim_store)
    history = History(sim_store, Window("batter", games=3))
    stop = np.array([40, 50])
    batch = collate(history, stop - 2, stop, priors)
    want = priors.features("batter", history.players[stop - 1], history.days[stop - 1])
    assert np.array_equal(batch.prior.numpy(), want)


def test_no_window_reaches_back_before_since(sim_store):
    """Or what validates a run would have been trained on."""
    since = date(2003, 6, 1)
    windows = (Window("batter", games=15, events=300), Window("pitcher", games=5, events=300))
    sampler = Sampler(sim_store, windows, since=since, before=date(2004, 1, 1), tokens=2000, seed=3)
    for step in range(6):
        which, first, stop = sampler._plan(0, 1)[step]
        history = sampler.histories[which]
        assert (history.days[first] >= day_number(since)).all()
        assert (first < stop).all()


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_players_are_known_as_of_the_game_or_of_the_window(sim_store, role):
    history, priors = History(sim_store, Window(role, games=6, events=300)), Priors(sim_store)
    first, stop = history.ending_at(np.array([200, 330]))
    game, window = (collate(history, first, stop, priors, matchup=m).matchup for m in ("game", "window"))
    batch = collate(history, first, stop, priors)
    oldest = batch.game == (torch.from_numpy(stop - first) - 1)[:, None]
    here = batch.kind == EVENT
    assert torch.equal(game[here & oldest], window[here & oldest])
    # His own half does not change within the window: the next morning's less this one's is what happened in between.
    own = slice(0, Priors.SIDE) if role == "batter" else slice(Priors.SIDE, 2 * Priors.SIDE)
    for row in range(2):
        assert (window[row][here[row]][:, own] == window[row][here[row]][0, own]).all()
        assert not (game[row][here[row]][:, own] == game[row][here[row]][0, own]).all()
