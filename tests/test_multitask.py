"""The multi-task net: it finds what Marcel does not know, whatever its facts are measured in, and stops in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from itertools import islice

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import backtest
from fullcount.projection.marcel import Marcel
from fullcount.projection.multitask import MTLTrainer, MultiTask, MultiTaskNet, Standards
from fullcount.projection.registry import SYSTEMS
from fullcount.projection.system import ROLES, League, Projection
from test_boosted_marcel import SPRING, ageing_league, spoilt

SMALL = MTLTrainer(members=2, hidden=16, most=10, batch=128)
NET = MultiTask(trainer=SMALL)
Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


@pytest.fixture(scope="module")
def said(league: League) -> Projection:
    return NET.project(SPRING, league)


def rows(n: int, noise: float = 0.5, seed: int = 0) -> Rows:
    """Facts of which the first two say the first task without error and the second with it, the third not at all."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=draw)
    known = (x[:, 0] + x[:, 1].abs() - 0.8) / 1.2
    y = torch.stack([known, known + noise * torch.randn(n, generator=draw), torch.randn(n, generator=draw)], dim=1)
    return x, y, torch.ones_like(y)


def test_it_finds_an_ageing_curve_marcel_does_not_know(league: League) -> None:
    net = replace(NET, trainer=replace(SMALL, members=3, hidden=32, most=40))
    result = backtest([Marcel(), net], league, [2012, 2013], ["A"], bootstrap=100)
    for role, stat in (("hitters", "HR%"), ("hitters", "HR"), ("pitchers", "K/9")):
        better = result.intervals.filter(role=role, stat=stat, metric="rmse", system="multitask").row(0, named=True)
        assert better["difference_high"] < 0, (role, stat)


def test_the_future_and_the_order_of_asking_change_nothing(said: Projection) -> None:
    later = spoilt(ageing_league(), 2012)
    NET.project(date(2014, 3, 1), later)
    for role in ROLES:
        assert_frame_equal(NET.project(SPRING, later).role(role), said.role(role), check_exact=True)


def test_same_seed_same_projection_on_any_number_of_threads(said: Projection) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(7)
        again = NET.project(SPRING, ageing_league())
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), torch.manual_seed(7).get_state())
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    other = replace(NET, trainer=replace(SMALL, seed=1)).project(SPRING, ageing_league())
    for role in ROLES:
        assert_frame_equal(again.role(role), said.role(role), check_exact=True)
    assert not other.hitters["HR"].equals(said.hitters["HR"])


def test_lines_add_up(said: Projection) -> None:
    hitters, pitchers = said.hitters, said.pitchers
    assert (hitters["H"] - hitters.select(pl.sum_horizontal("1B", "2B", "3B", "HR")).to_series()).abs().max() < 1e-9
    assert (pitchers["R"] >= pitchers["ER"]).all()
    for table in (hitters, pitchers):
        counts = table.select(pl.col(pl.Float64))
        assert counts.min_horizontal().min() >= 0
        assert counts.null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("shared", [True, False])
def test_too_little_to_learn_from_leaves_marcel(shared: bool) -> None:
    league = ageing_league(range(2000, 2013), players=20)
    for role in ROLES:
        few = replace(NET, shared=shared).project(SPRING, league).role(role)
        assert_frame_equal(few, Marcel().project(SPRING, league).role(role), check_exact=False, rel_tol=1e-9)
    with pytest.raises(FullcountError, match="no season from 2001 on and before 2012"):
        NET.project(SPRING, ageing_league(range(2011, 2013), players=20))


def test_inputs_are_standardised() -> None:
    """Facts in other units, shifted and with gaps, are the same inputs; what is unknown is the mean, and said to be."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    x[:40, 1] = x[:40, 2] = x[100:120, 3] = np.nan  # 1 and 2 are absent together
    x[:, 4] = 3.0
    units, shift = np.array([1000.0, 0.01, -1.0, 4096.0, 2.0]), np.array([5.0, 0.0, 2.0, -1.0, 0.0])
    z, other = Standards.of(x)(x), Standards.of(x * units + shift)(x * units + shift)
    assert z.shape == (300, 7)
    assert torch.allclose(z * torch.tensor([1, 1, -1, 1, 1, 1, 1]), other, atol=1e-5)
    assert torch.allclose(z[:, :4].mean(dim=0), torch.zeros(4), atol=0.02)
    assert torch.all(z[:, 4] == 0)
    assert torch.all(z[:40, 1:3] == 0)
    assert sorted(z[:, 5:].sum(dim=0).tolist()) == [20, 40]
    assert Standards.of(x)(np.full((1, 5), 1e9)).abs().max() <= 4
    assert Standards.of(np.full((9, 2), np.nan))(np.ones((1, 2))).isfinite().all()


def test_training_stops_by_the_plain_error_not_by_the_weighted_loss() -> None:
    """The exact task's variance falls on and on and takes the weighted loss along; noise is learned by heart."""
    trainer = MTLTrainer(members=1, hidden=64, dropout=0.0, batch=40, most=60, patience=60)
    (x, y, w), (hx, hy, hw) = rows(120), rows(2000, seed=1)
    plain, weighted = [], []
    for net in islice(trainer.passes(x, y, w), 61):
        error = (hw * (net.mean(hx) - hy) ** 2).mean(dim=0)
        plain.append(float(error.mean()))
        s = net.log_variances.detach()
        weighted.append(float((torch.exp(-s) * error + s).sum()))
    assert trainer.best(trainer.passes(x, y, w), hx, hy, hw) == np.argmin(plain) < np.argmin(weighted)


def test_patience() -> None:
    """No net is asked for that it does not take to stop."""
    errors = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 1.0]
    asked = []

    def nets() -> Iterator[MultiTaskNet]:
        for e in errors:
            asked.append(e)
            net = MultiTaskNet(1, 1, 1, 1, 0.0)
            torch.nn.init.constant_(net.biases[-1], e**0.5)
            yield net

    one = torch.ones(1, 1)
    assert MTLTrainer(patience=2).best(nets(), one, 0 * one, one) == 2
    assert asked == errors[:5]
    assert MTLTrainer(patience=9).best(nets(), one, 0 * one, one) == 6
    assert MTLTrainer(patience=9, most=3).best(nets(), one, 0 * one, one) == 2


def test_what_only_misleads_is_not_learned() -> None:
    x, y, w = rows(400)
    held = torch.arange(400) >= 200
    net = MTLTrainer(members=2, hidden=8, most=5).fit(x, torch.where(held[:, None], -y, y), w, held)
    assert torch.all(net.mean(x) == 0)


@pytest.mark.parametrize("weighting", ["uncertainty", "fixed"])
def test_variances_are_learned_where_they_weight(weighting: str) -> None:
    x, y, w = rows(600)
    trainer = replace(SMALL, weighting=weighting, most=40, batch=64, learning_rate=0.01)  # type: ignore[arg-type]
    net = trainer.fit(x, y, w, torch.arange(600) >= 500)
    exact, noisy, unknown = net.log_variances.tolist()
    assert exact < noisy < unknown if weighting == "uncertainty" else exact == noisy == unknown == 0


def test_unweighted_rows_do_not_matter() -> None:
    x, y, w = rows(300)
    w[:50] = 0
    held = torch.arange(300) >= 250
    spoilt_y = y.clone()
    spoilt_y[:50] = 1e3
    ours, theirs = (SMALL.fit(x, t, w, held).mean(x) for t in (y, spoilt_y))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("all_held", [torch.ones, torch.zeros])
def test_nothing_to_learn_from(all_held: Callable[..., torch.Tensor]) -> None:
    x, y, w = rows(30)
    with pytest.raises(FullcountError, match=r"30 rows, (30|0) of them held"):
        SMALL.fit(x, y, w, all_held(30, dtype=torch.bool))


def test_by_name() -> None:
    assert SYSTEMS["multitask"]() == MultiTask()
