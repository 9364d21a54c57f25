"""The hierarchical encoder: what is grouped, what each level reads, and that everything runs on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fullcount.adaptation.methods import ADAPTATIONS
from fullcount.batches import EVENT, PAD, SEPARATOR, SLOT, Batch, Sampler, collate
from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.fields import CATEGORICAL, COLUMN, FIELDS, Role
from fullcount.model.encoders import build_encoder
from fullcount.model.hierarchical import LONGEST, ROW, HierarchicalTransformer, Turns, begins_turn, packed
from fullcount.model.transformer import EncoderConfig
from fullcount.objectives.base import Data, hide
from fullcount.objectives.next_event import NextEvent
from fullcount.objectives.registry import OBJECTIVES
from fullcount.priors import Priors
from fullcount.projection.simulation import Simulator
from fullcount.store import ROLES, Store
from fullcount.training.jobs import finetune, load_task, pretrain
from fullcount.windows import History, Window

TINY = {"d_model": 16, "layers": 2, "heads": 2, "feedforward": 32, "architecture": "hierarchical"}
CAUSAL = {"causal": True, "use_prior": False}
HIDES = (Role.DELIVERY, Role.RESULT, Role.TRANSITION)
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def encoder(**changes: Any) -> HierarchicalTransformer:
    torch.manual_seed(0)
    model = build_encoder(EncoderConfig(**(TINY | changes))).eval()
    assert isinstance(model, HierarchicalTransformer)
    for name, p in model.named_parameters():  # as if trained: no branch is silent
        if name.endswith(("out.weight", "down.weight")):
            torch.nn.init.normal_(p, std=0.3)
    return model


@pytest.fixture(scope="module", params=ROLES)
def batch(request: pytest.FixtureRequest, sim_store: Store) -> Batch:
    history = History(sim_store, Window(request.param, games=4))
    return collate(history, *history.ending_at(np.arange(20, len(history.players), 97)), Priors(sim_store))


def targets_of(batch: Batch, rate: float = 0.15) -> Tensor:
    return (torch.rand(batch.kind.shape, generator=torch.Generator().manual_seed(0)) < rate) & (batch.kind == EVENT)


# ------------------------------------------------------------------------------------------------------ what is grouped


def test_a_turn_is_a_plate_appearance(batch: Batch) -> None:
    begins, real = begins_turn(batch), batch.kind != PAD
    own = (batch.kind == EVENT) & (batch.categorical[..., COLUMN["begin_pa"]] > 0)
    assert torch.equal(begins, own | (batch.kind == SLOT) | (batch.kind == SEPARATOR))
    turns = Turns.of(batch, None)
    assert (turns.kind == EVENT).sum() == own.sum()
    there = turns.kind != PAD
    assert torch.equal(batch.kind.flatten()[turns.first].view_as(turns.kind)[there], turns.kind[there])
    for row, (owner, width) in enumerate(zip(turns.owner, real.sum(dim=1), strict=True)):
        assert torch.equal(owner[:width] - row * turns.kind.shape[1], begins[row, :width].cumsum(0) - 1)
    followed = turns.unfinished[:, :-1]
    pitch = batch.categorical[..., COLUMN["pitch_number"]].int()  # 10: tenth or later
    assert torch.equal(followed, (pitch[:, 1:] == (pitch[:, :-1] + 1).clamp(max=10)) & (pitch[:, :-1] > 0))


def test_where_a_hidden_pitch_ends_a_turn_is_not_seen(batch: Batch) -> None:
    """Hidden ends join two plate appearances; shown ones part them, whatever else is hidden of the game."""
    targets = targets_of(batch)
    begins, told = begins_turn(batch), begins_turn(batch, hide(batch, targets, HIDES))
    after_target = torch.zeros_like(begins)
    after_target[:, 1:] = targets[:, :-1] & (batch.kind[:, 1:] == EVENT)
    place = torch.arange(told.shape[1])
    began = torch.where(told, place, 0).cummax(dim=1).values.roll(1, dims=1)
    full = place - began == LONGEST  # for length alone a group begins
    assert (begins & after_target).any()
    assert torch.equal(told[~after_target & ~full], begins[~after_target & ~full])
    assert torch.equal(told[after_target], full[after_target])


def test_what_is_hidden_does_not_group(batch: Batch) -> None:
    hidden = hide(batch, targets_of(batch), HIDES)
    categorical = batch.categorical.clone()
    for name in ("begin_pa", "event"):
        there = hidden[..., [f.name for f in FIELDS].index(name)]
        categorical[..., COLUMN[name]][there] = torch.randint(0, 4, (int(there.sum()),), dtype=torch.int16)
    other = replace(batch, categorical=categorical)
    assert not torch.equal(begins_turn(batch), begins_turn(other))
    assert torch.equal(begins_turn(batch, hidden), begins_turn(other, hidden))


def test_nothing_shown_groups_by_number(batch: Batch) -> None:
    hidden = torch.ones(*batch.kind.shape, len(FIELDS), dtype=torch.bool)
    events = batch.kind == EVENT
    assert torch.equal(begins_turn(batch, hidden)[events], (batch.position[events] - 1) % LONGEST == 0)


@given(st.lists(st.integers(1, LONGEST), max_size=60))
def test_rows_hold_whole_turns_in_order(lengths: list[int]) -> None:
    group = torch.repeat_interleave(torch.arange(len(lengths)) * 3, torch.tensor(lengths, dtype=torch.long))
    cell = packed(group)
    assert (cell.diff() > 0).all()
    for turn in group.unique():
        assert len((cell[group == turn] // ROW).unique()) == 1
        assert (cell[group == turn].diff() == 1).all()
    if lengths:
        fits = [int((cell // ROW == r).sum()) for r in range(int(cell[-1]) // ROW)]
        assert all(n > ROW - LONGEST for n in fits)


# ------------------------------------------------------------------------------------------------ what each level reads


@pytest.mark.parametrize("changes", [{}, CAUSAL, {"pitch_layers": 2, "event_attention": True}])
def test_the_lower_level_reads_a_plate_appearance_as_if_alone(batch: Batch, changes: dict[str, Any]) -> None:
    model = encoder(**changes)
    with torch.no_grad():
        x, angles, flags = model._read(batch, None)
        turns = Turns.of(batch, None)
        turned = [a[:, 0].flatten(0, 1) for a in angles]
        found = model._lower(x.flatten(0, 1), turned, flags.flatten(), turns)
        for turn in turns.owner.unique()[::7]:
            place = turns.token[turns.turn == turn]
            alone, cos, sin = (t[place].unsqueeze(0) for t in (x.flatten(0, 1), *turned))
            for block in model.pitches:
                alone = block(
                    alone,
                    None,
                    model.config.causal,
                    (cos.unsqueeze(1), sin.unsqueeze(1)),
                    flags.flatten()[place].unsqueeze(0),
                )
            torch.testing.assert_close(found[turns.turn == turn], alone[0], **CLOSE)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_pooling(batch: Batch, pooling: str) -> None:
    model = encoder(pooling=pooling)
    turns = Turns.of(batch, None)
    tokens = torch.randn(len(turns.turn), 16)
    with torch.no_grad():
        found = model._pool(tokens, turns)
        for turn in turns.owner.unique():
            own = tokens[turns.turn == turn]
            if pooling == "attention":
                want = model.score(own).softmax(dim=0).T @ own
            else:
                want = own[-1:] if pooling == "last" else own.mean(dim=0, keepdim=True)
            torch.testing.assert_close(found[turn], want[0], **CLOSE)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_plate_appearances_meet_above_only(batch: Batch, pooling: str) -> None:
    """With the way down cut off, a pitch's state says nothing of other plate appearances; with it, it does."""
    model = encoder(pooling=pooling)
    turns = Turns.of(batch, None)
    row = int((turns.kind == EVENT).sum(dim=1).argmax())
    moved = turns.token[turns.turn == turns.owner[row, 2]]
    numeric, present = batch.numeric.clone(), torch.ones_like(batch.present)
    numeric.flatten(0, 1)[moved] += 2.0
    batch = replace(batch, present=present)
    other = replace(batch, numeric=numeric)
    elsewhere = torch.ones(batch.kind.numel(), dtype=torch.bool)
    elsewhere[moved] = False
    elsewhere &= (batch.kind == EVENT).flatten()
    with torch.no_grad():
        apart = (model(batch) - model(other)).flatten(0, 1)
        assert apart[elsewhere].abs().max() > 1e-3
        model.context.weight.zero_()
        cut = (model(batch) - model(other)).flatten(0, 1)
    assert cut[elsewhere].abs().max() == 0
    assert (cut[moved].abs().amax(dim=1) > 1e-3).all()


def test_a_player_without_history_is_his_slot(sim_store: Store) -> None:
    history = History(sim_store, Window("batter"))
    nothing = collate(history, np.array([3, 50]), np.array([3, 50]), None)
    states = encoder()(nothing)
    states.sum().backward()
    assert states.shape == (2, 1, 16)
    assert states.isfinite().all()


def test_the_order_of_players_changes_nothing(batch: Batch) -> None:
    model = encoder()
    order = torch.randperm(len(batch.kind), generator=torch.Generator().manual_seed(0))
    other = Batch(**{n: v[order] for n, v in vars(batch).items() if isinstance(v, Tensor)}, seed=0)
    with torch.no_grad():
        real = other.kind != PAD
        torch.testing.assert_close(model(batch)[order][real], model(other)[real], **CLOSE)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_before_a_pitch_nothing_of_it_or_later_is_read(batch: Batch, pooling: str) -> None:
    """Bit for bit while as many plate appearances end; where others end, up to the order of sums."""
    told = torch.tensor([i for i, f in enumerate(CATEGORICAL) if f.role is not Role.SITUATION])
    alone = Batch(**{n: v[:1] for n, v in vars(batch).items() if isinstance(v, Tensor)}, seed=0)
    model = NextEvent(encoder(pooling=pooling, **CAUSAL)).eval()
    width = int((alone.kind != PAD).sum())
    with torch.no_grad():
        states, where = model.states(alone)
        for cut in range(2, width, 5):
            known = int(where[0, : cut + 1].sum())
            at_cut = (torch.arange(alone.kind.shape[1]) == cut) & where[0]
            later = (torch.arange(alone.kind.shape[1]) > cut) & where[0]
            alike, other = alone.categorical.clone(), alone.categorical.clone()
            alike[:, later] = torch.where(alike[:, later] > 1, 2, alike[:, later])
            alike[0, at_cut] = alike[0, at_cut].index_copy(1, told, alike[0, at_cut][:, told].clamp(max=2))
            other[0, at_cut] = other[0, at_cut].index_fill(1, told, 2)
            other[:, later] = other[:, later].clamp(max=1) + 1
            same, _ = model.states(replace(alone, categorical=alike))
            assert torch.equal(states[:known], same[:known])
            moved, _ = model.states(replace(alone, categorical=other))
            torch.testing.assert_close(states[:known], moved[:known], **CLOSE)
            if known < len(states):
                assert (states[known:] - moved[known:]).abs().max() > 1e-2


# ----------------------------------------------------------------------------------------------- everything runs on it


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_objective_trains_both_levels(sim_store: Store, kind: str) -> None:
    changes = CAUSAL if kind == "next_event" else {"matchup": True}
    model = build_encoder(EncoderConfig(**(TINY | changes | {"pooling": "attention"})))
    windows = tuple(Window(role, games=4, events=300) for role in ROLES)
    before = date(2004, 1, 1)
    sampler = Sampler(sim_store, windows, before=before, tokens=1500, priors=Priors(sim_store), **model.config.inputs)
    options = {"minimum_events": 200} if kind == "identity" else {}
    task = OBJECTIVES[kind](**options).build(model, Data(sim_store, before, sampler))
    optimizer = torch.optim.AdamW(task.parameters(), 1e-3)
    for step in range(2):
        losses = task(sampler.batch(step))
        total = torch.stack([losses.weights[n] * s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items()])
        total.sum().backward()
        for block in model.layers:
            assert block.attention.qkv.weight.grad.abs().sum() > 0
            assert block.up.weight.grad.abs().sum() > 0
        assert model.score.weight.grad.abs().sum() > 0
        optimizer.step()
        optimizer.zero_grad()
    assert all(p.isfinite().all() for p in task.parameters())


def test_layers_from_bottom_to_top() -> None:
    model = encoder(pitch_layers=2)
    assert [id(b) for b in model.layers] == [id(b) for b in (*model.pitches, *model.blocks)]
    assert len(model.layers) == 4


@pytest.mark.parametrize("kind", ADAPTATIONS)
def test_every_way_of_fitting_applies_to_both_levels(batch: Batch, kind: str) -> None:
    model = encoder()
    with torch.no_grad():
        before = model(batch)
    model = ADAPTATIONS[kind]().apply(model)
    after = model(batch)
    if kind != "prefix":
        torch.testing.assert_close(after, before, **CLOSE)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert bool(trained) == (kind != "linear")
    if trained:
        after.square().mean().backward()
        reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        assert reached >= ({"prefix"} if kind == "prefix" else {"pitches", "blocks"})


@pytest.fixture(scope="module")
def pretrained(sim_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = {"steps": 2, "precision": "32-true"}
    config = PretrainConfig(encoder=TINY, before=date(2003, 1, 1), batch_tokens=512, train=train)
    out = tmp_path_factory.mktemp("hierarchical") / "run"
    pretrain(config, sim_store, out, progress=False)
    return out


def test_pretrained_fitted_and_loaded(sim_store: Store, pretrained: Path, tmp_path: Path) -> None:
    train = {"steps": 4, "monitor": "total", "validate_every": 2, "precision": "32-true"}
    config = FinetuneConfig(role="batter", grain="game", before=date(2004, 1, 1), batch_samples=32, train=train)
    finetune(config, sim_store, pretrained, tmp_path / "fitted", progress=False)
    assert isinstance(load_task(tmp_path / "fitted").task.encoder, HierarchicalTransformer)


def test_a_run_of_one_architecture_does_not_begin_another(sim_store: Store, pretrained: Path, tmp_path: Path) -> None:
    train = {"steps": 1, "precision": "32-true"}
    flat = PretrainConfig(
        encoder=TINY | {"architecture": "flat"}, before=date(2003, 1, 1), batch_tokens=512, train=train
    )
    with pytest.raises(FullcountError, match=r"holds encoder\.context\.weight, which this configuration has not"):
        pretrain(flat, sim_store, tmp_path / "x", progress=False, init=pretrained)
    pretrain(flat, sim_store, tmp_path / "flat", progress=False)
    tall = flat.model_copy(update={"encoder": EncoderConfig(**TINY)})
    with pytest.raises(FullcountError, match=r"has no encoder\.pitches\.0"):
        pretrain(tall, sim_store, tmp_path / "y", progress=False, init=tmp_path / "flat")


def test_no_simulation_from_whole_plate_appearances(sim_store: Store) -> None:
    with pytest.raises(FullcountError, match=r"simulation: a hierarchical encoder .* encoder\.architecture = flat"):
        Simulator(NextEvent(encoder(**CAUSAL)), sim_store)
