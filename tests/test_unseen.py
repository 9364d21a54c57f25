"""What training never saw (a new park, speeds where there were none) is not read with weights that say nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
from torch import Tensor

from fullcount.batches import EVENT, Batch, Sampler, collate
from fullcount.config import PretrainConfig
from fullcount.fields import CATEGORICAL, COLUMN, NUMERIC
from fullcount.model.encoders import build_encoder
from fullcount.model.transformer import EncoderConfig
from fullcount.training.jobs import load_encoder, pretrain
from fullcount.training.run import Run
from fullcount.windows import History, Window

SMALL = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32, "use_prior": False}
SPEED = [f.name for f in NUMERIC].index("release_speed")


@pytest.fixture(scope="module")
def sampler(sim_store) -> Sampler:
    windows = (Window("batter", games=5), Window("pitcher", games=3))
    return Sampler(sim_store, windows, before=date(2003, 1, 1), since=date(2002, 1, 1), tokens=2000)


@pytest.fixture(scope="module")
def batch(sim_store) -> Batch:
    history = History(sim_store, Window("pitcher", games=2))
    return collate(history, *history.ending_at(np.arange(20, 300, 40)), None)


def park_of(batch: Batch, park: int) -> Batch:
    categorical = batch.categorical.clone()
    categorical[..., COLUMN["park"]] = torch.where(batch.kind == EVENT, park, 0).to(categorical.dtype)
    return replace(batch, categorical=categorical)


def faster(batch: Batch, by: float) -> Batch:
    numeric, present = batch.numeric.clone(), batch.present.clone()
    numeric[..., SPEED] += by
    present[..., SPEED] = batch.kind == EVENT
    return replace(batch, numeric=numeric, present=present)


def test_what_is_seen_is_counted_in_the_play_of_the_batches(sim_store, sampler):
    seen = sampler.seen()
    games = sim_store.games
    inside = games["date"].is_between(date(2002, 1, 1), date(2003, 1, 1), closed="left")
    pitches = sim_store.table("plate_appearances")
    pitches = pitches.filter(pitches["game_id"].is_in(games.filter(inside)["game_id"].implode()))["pitches"].sum()
    for field in CATEGORICAL:
        assert sum(seen[field.name].values()) == pitches
    assert sum(len(ids) for ids in (seen["park"], seen["stand"])) == games.filter(inside)["park"].n_unique() + 2


def test_a_new_park_is_the_average_park_and_a_new_number_is_none(sampler, batch):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(**SMALL)).eval()
    seen = {name: ids for name, ids in sampler.seen().items() if name != "release_speed"}
    apart = encoder(park_of(batch, 400)) - encoder(park_of(batch, 401))
    assert apart.abs().max() > 1e-3, "two parks nobody has seen say something, which is nothing"
    encoder.embedder.read_unseen_as_usual(seen)
    assert torch.equal(encoder(park_of(batch, 400)), encoder(park_of(batch, 401)))
    assert torch.equal(encoder(faster(batch, 0.0)), encoder(faster(batch, 2.0)))
    table, offset = encoder.embedder.table.weight, int(encoder.embedder.offsets[COLUMN["park"]])
    share = torch.tensor([float(n) for n in seen["park"].values()])
    rows = table[[offset + int(i) for i in seen["park"]]]
    torch.testing.assert_close(table[offset + 400], (share / share.sum()) @ rows)


@pytest.mark.parametrize(
    "changes",
    [{}, {"use_league": False}, {"causal": True}, {"architecture": "hierarchical"}, {"event_attention": True}],
)
def test_training_play_is_read_bit_for_bit_as_in_training(changes, sim_store, sampler):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(**(SMALL | changes))).eval()
    batch = sampler.batch(3)
    before = encoder(batch)
    encoder.embedder.read_unseen_as_usual(sampler.seen())
    assert torch.equal(encoder(batch), before)


def test_what_the_run_before_saw_is_seen(sim_store, tmp_path):
    config = {"encoder": SMALL, "batch_tokens": 1000, "train": {"steps": 1}, "validation_days": 20}
    first = PretrainConfig.model_validate({**config, "before": date(2002, 1, 1)})
    pretrain(first, sim_store, tmp_path / "a", progress=False)
    second = PretrainConfig.model_validate({**config, "before": date(2003, 1, 1), "since": date(2002, 1, 1)})
    pretrain(second, sim_store, tmp_path / "b", progress=False, init=tmp_path / "a")
    a, b = (Run(tmp_path / n).config()["facts"]["seen"] for n in "ab")
    assert a["call"].keys() <= b["call"].keys()
    assert all(b["park"][i] > n for i, n in a["park"].items())


def test_a_run_says_what_it_saw_and_its_encoder_is_loaded_so(sim_store, batch, tmp_path):
    config = PretrainConfig.model_validate(
        {"before": date(2003, 1, 1), "encoder": SMALL, "batch_tokens": 1000, "train": {"steps": 2}}
    )
    pretrain(config, sim_store, tmp_path / "run", progress=False)
    facts = Run(tmp_path / "run").config()["facts"]
    assert 0 < len(facts["seen"]["park"]) < 10
    encoder, _, _ = load_encoder(tmp_path / "run")
    raw = Run(tmp_path / "run").load(tmp_path / "run" / "weights.safetensors")[0]["encoder.embedder.table.weight"]
    offset = int(encoder.embedder.offsets[COLUMN["park"]])
    old = offset + int(next(iter(facts["seen"]["park"])))
    now: Tensor = encoder.embedder.table.weight
    assert torch.equal(now[old], raw[old])
    assert not torch.equal(now[offset + 400], raw[offset + 400])
    assert torch.equal(encoder.eval()(park_of(batch, 400)), encoder(park_of(batch, 401)))
