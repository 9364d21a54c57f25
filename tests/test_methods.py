"""Ways of fitting: what is frozen stays bit for bit, what is added begins as nothing, only that is saved."""

from __future__ import annotations

import copy
import os
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fullcount.adaptation.methods import (
    ADAPTATIONS,
    Adaptation,
    Adapters,
    Discriminative,
    Gradual,
    LoRA,
    PrefixTuning,
    layer_groups,
    merge,
)
from fullcount.adaptation.performance import PerformanceTask, SampleSource
from fullcount.adaptation.samples import samples
from fullcount.batches import Batch, collate
from fullcount.config import FinetuneConfig, PretrainConfig, load
from fullcount.errors import FullcountError
from fullcount.model.encoders import build_encoder
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.priors import Priors
from fullcount.training.jobs import finetune, load_encoder, load_task, pretrain
from fullcount.training.loop import TrainConfig
from fullcount.training.run import Run, fingerprint
from fullcount.windows import History, Window
from test_training import TORCHRUN

SMALL = {"d_model": 16, "layers": 3, "heads": 2, "feedforward": 32, "use_prior": False}
#: What leaves the encoder as it was, and adds something.
ADDING = ("adapters", "prefix", "prefix per layer", "lora")
EVERY = ("linear", "full", "discriminative", "gradual", *ADDING)


def method(name: str, **options: object) -> Adaptation:
    if name == "prefix per layer":
        return PrefixTuning(per_layer=True, **options)
    return ADAPTATIONS[name](**options)


@pytest.fixture(scope="module")
def encoder_run(sim_store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("encoder") / "run"
    config = PretrainConfig(
        before=date(2003, 1, 1), encoder=EncoderConfig(**SMALL), batch_tokens=1000, train=TrainConfig(steps=2)
    )
    pretrain(config, sim_store, out, progress=False)
    return out


@pytest.fixture(scope="module")
def batch(sim_store) -> Batch:
    history = History(sim_store, Window("batter", games=3))
    first, stop = history.ending_at(np.arange(10, 400, 30))
    return collate(history, first, stop, None)


def encoder(seed: int = 0, **changes: object) -> GamestateTransformer:
    torch.manual_seed(seed)
    made = build_encoder(EncoderConfig(**(SMALL | changes)))
    for name, p in made.named_parameters():  # weights that matter, as after training
        if name.endswith(("out.weight", "down.weight")):
            torch.nn.init.normal_(p, std=0.3)
    return made


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in module.state_dict().items()}


def fitting(**changes: object) -> FinetuneConfig:
    defaults: dict[str, object] = {
        "role": "batter",
        "before": date(2004, 1, 1),
        "validate_since": date(2003, 1, 1),
        "window": {"games": 3},
        "batch_samples": 8,
        "train": {"steps": 8, "lr": 0.05, "validate_every": 4, "checkpoint_every": 4, "warmup": 0.0},
    }
    return FinetuneConfig.model_validate(defaults | changes)


# ------------------------------------------------------------------------------------------- before the first step


@pytest.mark.parametrize("name", ["adapters", "lora"])
def test_what_is_added_begins_as_nothing_at_all(name, batch):
    plain = encoder().eval()
    before = plain(batch)
    adapted = method(name).apply(plain)
    assert torch.equal(adapted(batch), before)
    for _n, p in adapted.named_parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p)
    assert not torch.allclose(adapted(batch), before, atol=1e-2), "and what is learned there changes something"


@pytest.mark.parametrize("name", ADDING)
def test_only_what_is_added_trains_and_that_is_little(name):
    plain = GamestateTransformer(EncoderConfig(d_model=128, layers=4, use_prior=False))
    had = sum(p.numel() for p in plain.parameters())
    own = {n for n, _ in plain.named_parameters()}
    adapted = method(name).apply(plain)
    added = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert added
    assert not (own & added.keys())
    assert sum(p.numel() for p in added.values()) <= 0.03 * had


def test_a_merged_encoder_is_the_same_function_of_the_old_shape(batch):
    plain = encoder().eval()
    names = set(plain.state_dict())
    adapted = LoRA(rank=2).apply(plain)
    for p in adapted.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p)
    want = adapted(batch)
    assert set(merge(adapted).state_dict()) == names
    torch.testing.assert_close(adapted(batch), want, atol=1e-5, rtol=1e-5)


# --------------------------------------------------------------------------------------------------------- prefix


@pytest.mark.parametrize("context", ["window", "game"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("per_layer", [False, True])
def test_a_prefix_is_seen_by_all_and_changes_nothing_else(context, causal, per_layer, batch):
    model = encoder(context=context, causal=causal)
    PrefixTuning(length=3, per_layer=per_layer).apply(model).eval()
    states = model(batch)
    assert states.shape == (*batch.kind.shape, 16)
    with torch.no_grad():
        model.prefix.weight.add_(torch.randn_like(model.prefix.weight))
    moved = (model(batch) - states).abs().amax(-1)
    assert (moved[batch.kind != 0] > 1e-6).all(), "every token sees the prefix"
    if causal:
        cut = copy.deepcopy(batch)
        cut.numeric[:, 12:] = 3.0
        cut.present[:, 12:] = True
        assert torch.equal(model(cut)[:, :11], model(batch)[:, :11])


@pytest.mark.parametrize("per_layer", [False, True])
def test_games_stay_apart_behind_a_prefix(per_layer, batch):
    model = encoder(context="game")
    PrefixTuning(length=2, per_layer=per_layer).apply(model).eval()
    changed = copy.deepcopy(batch)
    newest = (batch.game == 0) & (batch.kind == 3)
    changed.numeric[newest] += 1.0
    changed.present[newest] = True
    older = (batch.game > 0) & (batch.kind == 3)
    assert torch.equal(model(batch)[older], model(changed)[older])


@pytest.mark.parametrize("per_layer", [False, True])
def test_several_tasks_are_served_in_one_batch(per_layer, sim_store, encoder_run, tmp_path):
    """Strikeouts and walks, each fitted behind its own prefix, are read from one pass of one frozen encoder."""
    from fullcount.training.jobs import load_together

    runs = {}
    for outcome, seed in (("K", 0), ("BB", 1)):
        runs[outcome] = tmp_path / outcome
        config = fitting(
            adaptation={"kind": "prefix", "length": 2, "per_layer": per_layer},
            targets=(outcome,),
            train={"steps": 4, "lr": 0.05, "seed": seed, "monitor": None},
        )
        finetune(config, sim_store, encoder_run, runs[outcome], progress=False)
    together = load_together(runs)
    fitted = {name: load_task(run) for name, run in runs.items()}
    assert not torch.equal(fitted["K"].task.encoder.prefix.weight, fitted["BB"].task.encoder.prefix.weight)
    priors, history = Priors(sim_store), History(sim_store, fitted["K"].config.history_window())
    some = samples(sim_store, history, priors, "season", since=date(2003, 1, 1), before=date(2004, 1, 1))
    source = SampleSource(fitted["K"].task, history, priors, some)
    asked = source.take(np.arange(12))
    got = together.expected(asked)
    for name, one in fitted.items():
        torch.testing.assert_close(got[name], one.task.expected(asked), atol=1e-6, rtol=1e-4)


def test_tasks_that_read_differently_are_not_served_together(sim_store, encoder_run, tmp_path):
    from fullcount.training.jobs import load_together

    runs = {"a": tmp_path / "a", "b": tmp_path / "b"}
    for (_, run), role in zip(runs.items(), ("batter", "pitcher"), strict=True):
        config = fitting(adaptation="prefix", role=role, train={"steps": 1, "monitor": None})
        finetune(config, sim_store, encoder_run, run, progress=False)
    with pytest.raises(FullcountError, match="another role"):
        load_together(runs)
    with pytest.raises(FullcountError, match="no runs"):
        load_together({})


def test_tasks_on_different_encoders_are_not_served_together(sim_store, encoder_run, tmp_path):
    from fullcount.training.jobs import load_together

    runs = {"a": tmp_path / "a", "b": tmp_path / "b"}
    for (_, run), scratch in zip(runs.items(), (False, True), strict=True):
        config = fitting(adaptation="prefix", scratch=scratch, train={"steps": 1, "monitor": None})
        finetune(config, sim_store, encoder_run, run, progress=False)
    with pytest.raises(FullcountError, match="another encoder"):
        load_together(runs)


# ------------------------------------------------------------------------------------------------- after training


@pytest.mark.parametrize("name", EVERY)
def test_a_fit_leaves_what_is_frozen_alone_and_saves_only_the_rest(name, sim_store, encoder_run, tmp_path):
    kind = {"kind": "prefix", "per_layer": True} if name == "prefix per layer" else name
    config = fitting(adaptation=kind)
    before = fingerprint(load_file(encoder_run / "weights.safetensors"))
    summary = finetune(config, sim_store, encoder_run, tmp_path / "run", progress=False)
    assert fingerprint(load_file(encoder_run / "weights.safetensors")) == before
    saved = load_file(tmp_path / "run" / "weights.safetensors")
    original = weights(load_encoder(encoder_run)[0])
    trained = {n.removeprefix("encoder.") for n in saved if n.startswith("encoder.")}
    fitted = load_task(tmp_path / "run")
    now = weights(fitted.task.encoder)
    if name in ("full", "discriminative", "gradual"):
        assert trained == set(original)
        assert summary["trained_share"] == 1.0
    else:
        assert not trained & set(original)
        same = {n: now.get(n, now.get(n.replace("weight", "parametrizations.weight.original"))) for n in original}
        assert all(torch.equal(same[n], original[n]) for n in original), "bit for bit"
        assert bool(trained) == (name != "linear")
        assert 0 < summary["trained_share"] < 0.5
    head = saved["head.embedding.weight"]
    assert head.abs().max() > 0


def test_a_fit_on_another_encoder_is_refused(sim_store, encoder_run, tmp_path):
    other = tmp_path / "encoder"
    other.mkdir()
    for name in ("config.json", "weights.safetensors"):
        (other / name).write_bytes((encoder_run / name).read_bytes())
    finetune(fitting(adaptation="adapters"), sim_store, other, tmp_path / "run", progress=False)
    tensors, meta = Run(other).load(other / "weights.safetensors")
    tensors["encoder.norm.weight"] += 0.5
    Run(other).save(other / "weights.safetensors", tensors, meta)
    with pytest.raises(FullcountError, match="fitted on encoder"):
        load_task(tmp_path / "run")


def test_new_weights_are_the_seeds_own_and_come_back(sim_store, encoder_run, tmp_path):
    for seed in (0, 1):
        config = fitting(scratch=True, train={"steps": 2, "seed": seed, "monitor": None})
        finetune(config, sim_store, encoder_run, tmp_path / str(seed), progress=False)
    a, b = (load_task(tmp_path / str(seed)) for seed in (0, 1))
    pretrained = load_file(encoder_run / "weights.safetensors")["encoder.blocks.0.up.weight"]
    first = a.task.encoder.blocks[0].up.weight
    assert not torch.equal(first, b.task.encoder.blocks[0].up.weight)
    assert not torch.equal(first, pretrained)
    assert torch.equal(first, load_task(tmp_path / "0").task.encoder.blocks[0].up.weight)


# ------------------------------------------------------------------------------------------------------- schedules


def test_both_levels_of_a_hierarchical_encoder_are_layers():
    groups = layer_groups(encoder(architecture="hierarchical", pitch_layers=2))
    assert len(groups) == 6
    assert {"context.weight", "norm.weight", "blocks.2.up.weight"} <= set(groups[0])
    assert all(n.startswith("pitches.0.") for n in groups[4])
    assert all(n.startswith("embedder.") for n in groups[5])


def test_layers_are_grouped_from_top_to_bottom():
    groups = layer_groups(encoder())
    assert len(groups) == 4
    assert "norm.weight" in groups[0]
    assert "blocks.2.up.weight" in groups[0]
    assert all(n.startswith("blocks.0.") for n in groups[2])
    assert all(n.startswith("embedder.") for n in groups[3])
    assert sorted(n for g in groups for n in g) == sorted(n for n, _ in encoder().named_parameters())


def test_lower_layers_learn_more_slowly():
    model = encoder()
    rate = Discriminative(encoder_rate=0.5, decay=2.0)
    assert rate.rate(model, "norm.bias") == rate.rate(model, "blocks.2.up.weight") == 0.5
    assert rate.rate(model, "blocks.1.up.weight") == 0.25
    assert rate.rate(model, "embedder.table.weight") == 0.0625


def test_layers_thaw_from_top_to_bottom():
    model = encoder()
    thaw = Gradual(every=2, unit="steps")
    seen = []
    for step in range(9):
        thaw.at_step(model, step, pass_steps=100)
        seen.append(
            sum(all(p.requires_grad for n, p in model.named_parameters() if n in g) for g in layer_groups(model))
        )
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    thaw.at_step(model, 0, 100)
    assert not any(p.requires_grad for p in model.parameters()), "a function of the step alone"
    Gradual(every=0.5).at_step(model, 60, pass_steps=100)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        n for n, _ in model.named_parameters() if n in layer_groups(model)[0]
    ]


def test_unfreezing_resumes_in_the_middle_bit_for_bit(sim_store, encoder_run, tmp_path):
    config = fitting(
        adaptation={"kind": "gradual", "every": 2, "unit": "steps", "encoder_rate": 1.0},
        train={"steps": 7, "lr": 0.01, "checkpoint_every": 1, "validate_every": 3, "monitor": None},
    )
    finetune(config, sim_store, encoder_run, tmp_path / "whole", progress=False)

    from fullcount.training import loop

    class Stop(Exception):
        pass

    original = loop._State.save
    for stop in (3, 5):  # with one layer thawed, with two

        def save(self, *where, stop=stop):
            original(self, *where)
            if self.step == stop:
                raise Stop

        loop._State.save = save
        try:
            with pytest.raises(Stop):
                finetune(config, sim_store, encoder_run, tmp_path / "cut", progress=False)
        finally:
            loop._State.save = original
    finetune(config, sim_store, encoder_run, tmp_path / "cut", progress=False)
    a, b = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[n], b[n]) for n in a)
    start = weights(load_encoder(encoder_run)[0])
    assert torch.equal(a["encoder.embedder.numeric.weight"], start["embedder.numeric.weight"])
    assert not torch.equal(a["encoder.blocks.2.up.weight"], start["blocks.2.up.weight"])
    assert not torch.equal(a["encoder.blocks.0.up.weight"], start["blocks.0.up.weight"]), "thawed at step 6"


_FIT = """
import sys
from pathlib import Path
from fullcount.config import FinetuneConfig
from fullcount.store import Store
from fullcount.training.jobs import finetune
store, encoder, out, config = sys.argv[1:]
finetune(FinetuneConfig.model_validate_json(config), Store.open(Path(store)), Path(encoder), Path(out), progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adapters", "gradual"])
def test_two_processes_fit_as_one_that_accumulates(name, sim_store, encoder_run, tmp_path):
    kind = {"kind": "gradual", "every": 2, "unit": "steps"} if name == "gradual" else name
    train = {"steps": 4, "lr": 0.01, "validate_every": 2, "monitor": None, "precision": "32-true"}
    config = fitting(adaptation=kind, head_first=True, batch_samples=4, train=train)
    script = tmp_path / "fit.py"
    script.write_text(_FIT)
    given = [str(sim_store.root), str(encoder_run), str(tmp_path / "side"), config.model_dump_json()]
    done = subprocess.run(
        [*TORCHRUN, str(script), *given], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    # The head that both begin with is fitted by as many.
    both = config.model_copy(update={"train": config.train.model_copy(update={"accumulate": 2})})
    finetune(both, sim_store, encoder_run, tmp_path / "turn", progress=False)
    side, turn = (load_file(tmp_path / n / "weights.safetensors") for n in ("side", "turn"))
    assert side.keys() == turn.keys()
    for name in side:
        torch.testing.assert_close(side[name], turn[name], atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------------------------------------- what is encoded when


def task_of(sim_store, adaptation: Adaptation, grain="game", **options) -> tuple[PerformanceTask, History, Priors]:
    task = PerformanceTask(encoder(), adaptation, role="pitcher", grain=grain, **options)
    return task.eval(), History(sim_store, Window("pitcher", games=4)), Priors(sim_store)


@pytest.mark.parametrize("reads", ["games", "window"])
@pytest.mark.parametrize("grain", ["game", "season"])
def test_a_batch_says_what_evaluation_says(reads, grain, sim_store):
    task, history, priors = task_of(sim_store, Adapters(), grain, reads=reads)
    torch.nn.init.normal_(task.head.embedding.weight, std=0.1)
    some = samples(sim_store, history, priors, grain, since=date(2003, 1, 1), before=date(2004, 1, 1))
    some = some.pick(np.arange(60) % len(some))
    source = SampleSource(task, history, priors, some, progress=False)
    batch = source.take(np.arange(len(some)))
    assert batch.read is not None
    assert batch.tokens == batch.read.sequences.tokens
    np.testing.assert_allclose(task.expected(batch).numpy(), source.expected(), rtol=0.02, atol=2e-3)


def test_a_window_is_read_as_of_its_day(sim_store):
    model = encoder(positions="as_of")
    task = PerformanceTask(model, Adapters(), role="pitcher", grain="game", reads="window").eval()
    history, priors = History(sim_store, Window("pitcher", games=4)), Priors(sim_store)
    some = samples(sim_store, history, priors, "game", since=date(2003, 1, 1), before=date(2004, 1, 1))
    some = some.pick(np.arange(20))
    later = copy.copy(some)
    later.day = some.day + 100
    sources = [SampleSource(task, history, priors, s, progress=False) for s in (some, later)]
    a, b = (task.represent(source.take(np.arange(20))) for source in sources)
    assert not torch.allclose(a, b, atol=1e-4)


def test_games_that_windows_share_are_encoded_once(sim_store):
    task, history, priors = task_of(sim_store, Adapters())
    some = samples(sim_store, history, priors, "game", since=date(2003, 1, 1), before=date(2004, 1, 1))
    rows = []
    for stretch in (1, 8):
        source = SampleSource(task, history, priors, some, progress=False, stretch=stretch)
        batches = source.sampler(16, seed=0)
        drawn = [batches(step, 0, 1) for step in range(source.pass_steps(16))]
        rows.append(np.mean([len(b.read.sequences.kind) for b in drawn]))
        assert all(len(b.targets.exposure) == 16 for b in drawn)
    assert rows[1] < 0.6 * rows[0]


def test_every_sample_comes_once_a_pass_in_stretches_too(sim_store):
    task, history, priors = task_of(sim_store, ADAPTATIONS["linear"]())
    some = samples(sim_store, history, priors, "game", since=date(2003, 1, 1), before=date(2003, 9, 1))
    source = SampleSource(task, history, priors, some, progress=False, stretch=5)
    seen = []
    source.take = lambda chosen: seen.append(chosen)  # type: ignore[method-assign]
    draw = source.sampler(10, seed=3)
    for step in range(source.pass_steps(10)):
        draw(step, 0, 1)
    drawn = np.concatenate(seen)
    assert len(np.unique(drawn)) == len(drawn) == len(some) // 10 * 10


def test_what_is_not_asked_for_is_not_fitted(sim_store):
    task, history, priors = task_of(sim_store, ADAPTATIONS["linear"](), "season", targets=("K", "HR"))
    some = samples(sim_store, history, priors, "season", since=date(2002, 1, 1), before=date(2004, 1, 1))
    batch = SampleSource(task, history, priors, some, progress=False).take(np.arange(20))
    losses = task(batch)
    changed = copy.deepcopy(batch)
    changed.targets.counts[:, 2] += 5  # walks in place of outs are all the same to it
    changed.targets.counts[:, 0] -= 5
    changed.targets.extras.zero_()
    for name, value in task(changed).sums.items():
        torch.testing.assert_close(value, losses.sums[name])
    changed.targets.counts[:, 1] += 5
    assert task(changed).sums["outcome"] > losses.sums["outcome"]


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["adaptation=osmosis"], "osmosis"),
        (["adaptation={kind='adapters', bottleneck=0}"], "bottleneck"),
        (["adaptation={kind='lora', bottleneck=4}"], "bottleneck"),
        (["relative=true", "adaptation=full"], "relative"),
        (["half_lives=[]"], "half_lives"),
        (["half_lives=[0.0]"], "half_lives"),
        (["targets=['K']", "head=linear"], "targets"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options, match):
    with pytest.raises(FullcountError, match=match):
        load(FinetuneConfig, None, ["role=batter", "before=2019-03-01", *options])


def test_unknown_targets_are_refused(sim_store, encoder_run, tmp_path):
    with pytest.raises(FullcountError, match="no WAR of a batter"):
        finetune(fitting(targets=("WAR",)), sim_store, encoder_run, tmp_path / "run", progress=False)


def test_a_method_is_one_word_or_a_table():
    one = load(FinetuneConfig, None, ["role=batter", "before=2019-03-01", "adaptation=adapters"])
    two = load(FinetuneConfig, None, ["role=batter", "before=2019-03-01", "adaptation={kind='adapters', bottleneck=8}"])
    assert one == two
