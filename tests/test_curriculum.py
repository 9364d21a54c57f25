"""The curriculum of the sampler: regulars first, then all; a function of the step; drawn as a figure."""

from __future__ import annotations

import math
import signal
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from fullcount.batches import Batch, CurriculumConfig, Sampler
from fullcount.cli import app
from fullcount.config import PretrainConfig, load
from fullcount.errors import FullcountError
from fullcount.report.figures import curriculum
from fullcount.sources.tables import Tables
from fullcount.store import ROLES, Store, day_number
from fullcount.training.jobs import build_pretraining, pretrain
from fullcount.windows import History, Window

SINCE, BEFORE = date(2001, 6, 1), date(2003, 1, 1)
QUARTER = CurriculumConfig(start=0.25, until=0.5)


@pytest.fixture(scope="module")
def ranked(sim_store) -> dict[str, list[int]]:
    """Players of each role by their pitches of [SINCE, BEFORE), the most first; ties by id."""
    found = {}
    for role in ROLES:
        history = History(sim_store, Window(role))
        within = (history.days >= day_number(SINCE)) & (history.days < day_number(BEFORE))
        pitches = {p: history.events[within & (history.players == p)].sum() for p in history.players[within].tolist()}
        found[role] = sorted(pitches, key=lambda p: (-pitches[p], p))
    return found


def taught(store, **changes) -> Sampler:
    windows = (Window("batter", games=10, events=200), Window("pitcher", games=3, events=200))
    given = {"since": SINCE, "before": BEFORE, "tokens": 4096, "seed": 5, "block": 16, "minimum_events": 1}
    return Sampler(store, windows, **(given | {"curriculum": QUARTER, "steps": 128} | changes))


def equal(a: Batch, b: Batch) -> bool:
    tensors = [n for n, v in vars(a).items() if isinstance(v, torch.Tensor)]
    return a.seed == b.seed and all(torch.equal(getattr(a, n), getattr(b, n)) for n in tensors)


def drawn(a: Sampler, block: int, world: int = 1) -> dict[str, set[int]]:
    """Players of the windows of a block of steps, by role."""
    found: dict[str, set[int]] = {"batter": set(), "pitcher": set()}
    for which, _, stop in a._plan(block, world):
        found[a.histories[which].window.role] |= set(a.histories[which].players[stop - 1].tolist())
    return found


@pytest.mark.parametrize(("block", "share"), [(0, 0.25), (1, 0.4375), (3, 0.8125), (4, 1.0), (6, 1.0)])
def test_the_regulars_of_each_role_are_drawn_first(sim_store, ranked, block, share):
    """16 steps a block, 128 in the run, all in at step 64: the share of a block is that of its first step."""
    for role, players in drawn(taught(sim_store), block).items():
        regulars = ranked[role][: math.ceil(share * len(ranked[role]))]
        assert players <= set(regulars)
        assert len(players) >= 0.9 * len(regulars)  # and not some of them only


@given(start=st.floats(0.01, 1), until=st.floats(0.01, 1), steps=st.integers(1, 10**6))
def test_it_widens_linearly_to_all(start, until, steps):
    curriculum = CurriculumConfig(start=start, until=until)
    shares = [curriculum.share(step / steps) for step in (*range(0, steps, max(1, steps // 50)), steps)]
    assert shares[0] == pytest.approx(start)
    assert shares == sorted(shares)
    assert shares[-1] == curriculum.share(until) == 1
    assert curriculum.share(until / 2) == pytest.approx((1 + start) / 2)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.floats(0.05, 1), until=st.floats(0.1, 1))
def test_the_schedule_is_what_is_drawn(sim_store, ranked, start, until):
    a = taught(sim_store, curriculum=CurriculumConfig(start=start, until=until), tokens=1024)
    schedule = a.schedule()
    assert schedule["step"].unique().sort().to_list() == list(range(0, 129, 16))
    for (role,), part in schedule.partition_by("role", as_dict=True).items():
        assert all(part[column].is_sorted() for column in ("players", "windows", "events"))
        assert (part["events"] >= part["players"] - 1e-9).all()  # regulars have more than their share of the play
        for block, share in enumerate(part["players"][:-1]):
            assert drawn(a, block)[role] <= set(ranked[role][: round(share * len(ranked[role]))])


def test_once_all_are_in_batches_are_those_without_a_curriculum(sim_store):
    a, plain = taught(sim_store, league_balance=0.5), taught(sim_store, curriculum=None, league_balance=0.5)
    assert not equal(a.batch(0), plain.batch(0))
    for step in (64, 100, 127):
        assert equal(a.batch(step), plain.batch(step))


def test_each_role_keeps_its_number_of_batches(sim_store):
    a, plain = taught(sim_store), taught(sim_store, curriculum=None)
    assert sorted(w for w, *_ in a._plan(0, 1)) == sorted(w for w, *_ in plain._plan(0, 1))


def test_a_batch_is_a_function_of_step_and_rank(sim_store, ranked):
    a = taught(sim_store)
    for step in (40, 3, 90, 3):
        for rank in (0, 1):
            assert equal(a.batch(step, rank, 2), taught(sim_store).batch(step, rank, 2))
    assert not equal(a.batch(3, 0, 2), a.batch(3, 1, 2))
    for role, players in drawn(a, 0, world=2).items():
        assert players <= set(ranked[role][: math.ceil(0.25 * len(ranked[role]))])


def test_events_from_the_cut_off_on_do_not_count(sim_store):
    """By their pitches of all seasons others would be the regulars."""
    before = date(2001, 7, 1)
    a = taught(sim_store, before=before)
    for which, role in enumerate(ROLES):
        history = History(sim_store, Window(role))
        ids = np.unique(history.players)
        within = (history.days >= day_number(SINCE)) & (history.days < day_number(before))
        counts = [np.array([history.events[m & (history.players == p)].sum() for p in ids]) for m in (within, True)]
        end = a._drawn_from(which, 0)[0]
        n = len(np.unique(history.players[end]))
        early, whole = (set(ids[np.argsort(-c, kind="stable")[:n]].tolist()) for c in counts)
        assert set(history.players[end].tolist()) == early
        assert early != whole


def test_the_chances_of_leagues_stay_as_they_were(sim_league, tmp_path):
    """Of two windows of regulars, one of each league, either is as much likelier than the other as without."""
    small = sim_league.tables.games["game_id"].to_list()[::7]
    league = pl.when(pl.col("game_id").is_in(small)).then(pl.lit("AAA")).otherwise(pl.lit("SIM")).alias("league")
    tables = {
        name: table.with_columns(league) if {"game_id", "league"} <= set(table.columns) else table
        for name, table in vars(sim_league.tables).items()
    }
    store = Store.open_or_create(tmp_path).add(Tables(**tables), "two leagues")
    a = taught(store, league_balance=1.0)
    whole, regulars = dict(zip(a._pools[0].tolist(), a._chance[0], strict=True)), a._drawn_from(0, 0)
    assert 0 < len(regulars[0]) < len(whole)
    before = np.array([whole[p] for p in regulars[0].tolist()])
    assert len(np.unique(before)) == 2  # windows of either league are among them
    np.testing.assert_allclose(regulars[1], before / before.sum())


@pytest.mark.parametrize("wrong", [{"start": 0}, {"start": 1.1}, {"until": 0}, {"until": 1.5}, {"from": 1}], ids=str)
def test_impossible_curricula_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CurriculumConfig(**wrong)


def test_the_number_of_steps_is_asked_for(sim_store):
    with pytest.raises(FullcountError, match="number of the run's steps"):
        taught(sim_store, steps=0)


# ------------------------------------------------------------------------------------------------- in a run


def tiny(**changes: Any) -> PretrainConfig:
    encoder = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
    train = {"steps": 96, "precision": "32-true", "validate_every": 96}
    return PretrainConfig(encoder=encoder, before=BEFORE, batch_tokens=256, train=train, **changes)


def test_one_line_of_configuration(sim_store):
    def given(*lines: str) -> CurriculumConfig | None:
        return load(PretrainConfig, None, ["before=2003-01-01", *lines]).curriculum

    assert given() is None
    assert given("curriculum={}") == CurriculumConfig(start=0.25, until=0.5)
    assert given("curriculum.start=0.1") == CurriculumConfig(start=0.1, until=0.5)
    with pytest.raises(FullcountError, match=r"curriculum\.start"):
        given("curriculum.start=2")
    _, train, check = build_pretraining(tiny(curriculum={}), sim_store)
    assert (train.curriculum, train.steps) == (CurriculumConfig(), 96)
    assert check.curriculum is None


def test_a_stopped_run_goes_on_with_the_same_batches(sim_store, tmp_path, monkeypatch):
    """Stopped within the schedule, in the middle of a block."""
    pretrain(tiny(curriculum={}), sim_store, tmp_path / "whole", progress=False)
    drawing = Sampler.batch

    def stopping(self: Sampler, step: int, rank: int = 0, world: int = 1) -> Batch:
        if step == 37:
            signal.raise_signal(signal.SIGINT)
        return drawing(self, step, rank, world)

    monkeypatch.setattr(Sampler, "batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny(curriculum={}), sim_store, tmp_path / "stopped", progress=False)
    monkeypatch.undo()
    pretrain(tiny(curriculum={}), sim_store, tmp_path / "stopped", progress=False)
    pretrain(tiny(), sim_store, tmp_path / "plain", progress=False)
    whole, stopped, plain = (
        (tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped", "plain")
    )
    assert whole == stopped
    assert whole != plain


def test_the_schedule_is_drawn(sim_store, tmp_path):
    schedule = taught(sim_store).schedule()
    panels = curriculum(schedule).axes
    assert [axes.get_title("left") for axes in panels] == ["batters", "pitchers"]
    for axes, role in zip(panels, ROLES, strict=True):
        for line in axes.get_lines():
            assert line.get_ydata().tolist() == schedule.filter(role=role)[line.get_label()].to_list()
    lines = ["before=2003-01-01", "batch_tokens=256", "train.steps=2", "encoder.d_model=16", "encoder.layers=1"]
    for name, extra in (("with", ["curriculum={}"]), ("without", [])):
        options = [word for line in (*lines, *extra) for word in ("-o", line)]
        command = ["pretrain", "--store", str(sim_store.root), "--out", str(tmp_path / name), *options]
        assert CliRunner().invoke(app, command).exit_code == 0
        assert (tmp_path / name / "curriculum.png").exists() is (name == "with")
