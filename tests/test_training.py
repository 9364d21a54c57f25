"""The training loop: resumed runs, two processes, refusals, early stopping, what a fitted model holds."""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.objectives.base import Losses
from fullcount.store import Store
from fullcount.training.jobs import build_pretraining, finetune, load_encoder, load_task, pretrain
from fullcount.training.loop import TrainConfig, fit, learning_rate_factor
from fullcount.training.run import Run, fingerprint

TINY = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
STEPS = 24


def configuration(**train: Any) -> PretrainConfig:
    given = {
        "steps": STEPS,
        "checkpoint_every": 3,
        "log_every": 2,
        "precision": "32-true",
        "validate_every": 10,
    } | train
    return PretrainConfig(encoder=TINY, before=date(2003, 1, 1), batch_tokens=512, train=given)


def weights(path: Path) -> dict[str, Tensor]:
    return Run(path).load(path / "weights.safetensors")[0]


def identical(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# ------------------------------------------------------------------------------------------------- a toy objective


@dataclass
class Points:
    x: Tensor
    y: Tensor

    @property
    def tokens(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> Points:
        return self


def points(step: int, rank: int, world: int) -> Points:
    """Rank's share of the step's 16 points: unequal shares, so that averaging over processes would be seen."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 3, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(16, generator=generator)
    cut = {1: [0, 16], 2: [0, 4, 16]}[world]
    return Points(x[cut[rank] : cut[rank + 1]], y[cut[rank] : cut[rank + 1]])


class Line(nn.Module):
    """Least squares, with a second loss that only some points have."""

    def __init__(self, break_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, 1)
        self.break_at, self.calls = break_at, 0

    def forward(self, batch: Points) -> Losses:
        error = self.out(batch.x)[:, 0] - batch.y
        if self.training:
            self.calls += 1
            if self.calls == self.break_at:
                error = error * math.nan
        losses = Losses()
        losses.add("squared", error.square().sum(), torch.tensor(len(error)))
        some = batch.y > 1
        losses.add("high", error[some].abs().sum(), some.sum(), weight=0.3)
        return losses


def toy(path: Path, steps: int = 12, module: nn.Module | None = None, validate: Any = None, **train: Any) -> dict:
    given = {"steps": steps, "lr": 0.05, "precision": "32-true", "checkpoint_every": 4, "log_every": 1} | train
    run = Run(path)
    run.begin({"train": given}, {})
    return fit(module or Line(), points, TrainConfig(**given), run, validate, progress=False)


class Deep(Line):
    """A deeper line."""

    def __init__(self, break_at: int | None = None) -> None:
        super().__init__(break_at)
        self.out = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))


class Noisy(Deep):
    """What it reads is blurred while it trains."""

    def forward(self, batch: Points) -> Losses:
        noise = torch.randn_like(batch.x) if self.training else 0.0
        return super().forward(Points(batch.x + noise, batch.y))


class Thawing(Deep):
    """Its first layer is frozen until step 6."""

    unfreezes = True

    def at_step(self, step: int) -> None:
        self.out[0].requires_grad_(step >= 6)


# ------------------------------------------------------------------------------------------------ killed and resumed

_PRETRAIN = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from test_training import configuration
from fullcount.store import Store
from fullcount.training.jobs import pretrain
pretrain(configuration(**{train!r}), Store.open({store!r}), Path({out!r}), progress=False)
"""

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def start(store: Path, out: Path, launcher: tuple[str, ...] = (sys.executable,), **train: Any) -> subprocess.Popen[str]:
    script = out.with_suffix(".py")
    script.write_text(_PRETRAIN.format(tests=str(Path(__file__).parent), store=str(store), out=str(out), train=train))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([*launcher, str(script)], env=environment, stderr=pipe, text=True, start_new_session=True)


def wait_for_step(out: Path, process: subprocess.Popen[str], step: int) -> None:
    """Until the log has reached a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "log.jsonl").exists() and any(r["step"] >= step for r in complete(out)):
            return
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


def complete(out: Path) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(sim_store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pretrain(configuration(), sim_store, out, progress=False)
    torch.set_num_threads(threads)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_and_resumed_ends_with_the_same_bits(sim_store, uninterrupted, tmp_path, number):
    out = tmp_path / "run"
    process = start(sim_store.root, out)
    wait_for_step(out, process, 8)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    _, meta = Run(out).load(Run(out).checkpoint)
    assert 0 < meta["step"] < STEPS
    assert not (out / "weights.safetensors").exists()
    process = start(sim_store.root, out)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert identical(weights(out), weights(uninterrupted))
    moments = [n for n in Run(out).load(Run(out).checkpoint)[0] if n.startswith("optimizer/")]
    a, b = (Run(p).load(Run(p).checkpoint) for p in (out, uninterrupted))
    assert moments
    assert identical(a[0], b[0])
    assert a[1]["tokens"] == b[1]["tokens"]


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_with_the_same_bits(sim_store, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    process = start(sim_store.root, whole, TORCHRUN)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    process = start(sim_store.root, out, TORCHRUN)
    wait_for_step(out, process, 6)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in [*workers, process.pid]:
        os.kill(int(pid), signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (out / "weights.safetensors").exists()
    process = start(sim_store.root, out, TORCHRUN)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert identical(weights(out), weights(whole))


# ------------------------------------------------------------------------------------------------------- refusals


def test_a_changed_configuration_is_refused_by_name(sim_store, uninterrupted):
    with pytest.raises(FullcountError, match=r"train\.lr \(0\.002, now 0\.5\)"):
        pretrain(configuration(lr=0.5), sim_store, uninterrupted, progress=False)
    pretrain(configuration(log_every=7), sim_store, uninterrupted, progress=False)  # only how it is watched


def test_another_store_is_refused(sim_league, uninterrupted, tmp_path):
    other = Store.open_or_create(tmp_path).add(sim_league.tables, "another name")
    with pytest.raises(FullcountError, match=r"facts\.data"):
        pretrain(configuration(), other, uninterrupted, progress=False)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(FullcountError, match=r"step 9: .*not finite"):
        toy(tmp_path / "broken", module=Line(break_at=10))
    run = Run(tmp_path / "broken")
    tensors, meta = run.load(run.checkpoint)
    assert meta["step"] == 8
    assert all(torch.isfinite(t).all() for t in tensors.values())
    toy(tmp_path / "broken")  # the cause mended: on from step 8
    toy(tmp_path / "whole")
    assert identical(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


def test_what_thaws_in_between_stays_until_then_and_resumes_with_the_same_bits(tmp_path):
    seen: list[dict[str, Tensor]] = []

    def validate(module: nn.Module) -> dict[str, float]:
        seen.append({n: t.clone() for n, t in module.state_dict().items()})
        return {}

    start = Thawing().state_dict()
    toy(tmp_path / "whole", module=Thawing(), validate=validate, validate_every=1)
    for step, now in enumerate(seen, 1):
        assert torch.equal(now["out.0.weight"], start["out.0.weight"]) == (step <= 6), step
        assert not torch.equal(now["out.1.weight"], start["out.1.weight"])
    for stop in (5, 10):  # before and after
        out = tmp_path / str(stop)
        with pytest.raises(FullcountError, match="not finite"):
            toy(out, module=Thawing(break_at=stop + 1))
        toy(out, module=Thawing())
        assert identical(weights(out), weights(tmp_path / "whole"))


def test_a_monitor_nobody_validates_is_named(tmp_path):
    with pytest.raises(FullcountError, match=r"nosuch.*squared"):
        toy(tmp_path, monitor="nosuch", validate_every=1, validate=lambda m: {"squared": 1.0})


# --------------------------------------------------------------------------------------------------- the loop itself


def test_early_stopping_keeps_the_best_weights(tmp_path):
    seen: list[dict[str, Tensor]] = []
    figures = iter([3.0, 1.0, 2.0, 1.5, 1.2, 0.1])

    def validate(module: nn.Module) -> dict[str, float]:
        assert not module.training
        seen.append({n: t.clone() for n, t in module.state_dict().items()})
        return {"figure": next(figures)}

    summary = toy(tmp_path, steps=50, validate=validate, monitor="figure", validate_every=2, patience=3)
    assert summary["steps"] == 10  # best at the second of five validations
    assert summary["best"] == 1.0
    assert identical(weights(tmp_path), seen[1])
    again = toy(tmp_path, steps=50, validate=validate, monitor="figure", validate_every=2, patience=3)
    assert again["steps"] == 10  # stopped is stopped
    assert identical(weights(tmp_path), seen[1])


def test_a_toy_is_learnt_and_logged(tmp_path):
    summary = toy(tmp_path, steps=150)
    records = Run(tmp_path).records()
    assert [r["step"] for r in records] == list(range(1, 151))
    assert records[-1]["squared"] < 0.1 * records[0]["squared"]
    assert summary["tokens"] == 150 * 16
    torch.testing.assert_close(weights(tmp_path)["out.weight"], torch.tensor([[1.0, -2.0, 0.5]]), atol=0.2, rtol=0)


def test_without_a_terminal_steps_are_plain_lines(tmp_path, capsys):
    run, config = Run(tmp_path), TrainConfig(steps=25, precision="32-true")
    run.begin({}, {})
    fit(Line(), points, config, run)
    told = capsys.readouterr().out
    lines = re.findall(r"^step (\d+)/25  [\d,]+ tokens/s  squared \d+\.\d{3} high \S+$", told, re.MULTILINE)
    assert lines == [*(str(s) for s in range(3, 25, 3)), "25"]
    assert len(lines) == len(told.splitlines())  # nothing of a bar


def test_learning_rate_rises_then_falls():
    config = TrainConfig(steps=100, warmup=0.1, final_lr=0.1)
    rates = [learning_rate_factor(s, config) for s in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(1)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_learn_the_same_under_the_same_names(sim_store, tmp_path):
    for name, compiled in (("as it is", False), ("compiled", True)):
        pretrain(configuration(steps=3, log_every=1, compile=compiled), sim_store, tmp_path / name, progress=False)
    one, two = weights(tmp_path / "as it is"), weights(tmp_path / "compiled")
    assert one.keys() == two.keys()
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    for a, b in zip(*(Run(tmp_path / n).records() for n in ("as it is", "compiled")), strict=True):
        for name in a.keys() - {"seconds"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name


def test_a_finished_run_stays_as_it_is(sim_store, uninterrupted):
    before = (uninterrupted / "weights.safetensors").read_bytes()
    summary = pretrain(configuration(), sim_store, uninterrupted, progress=False)
    assert summary["steps"] == STEPS
    assert (uninterrupted / "weights.safetensors").read_bytes() == before


# --------------------------------------------------------------------------------------------------------- fitting


def fitting(**changes: Any) -> FinetuneConfig:
    train = {"steps": 6, "lr": 1e-2, "monitor": "total", "validate_every": 3, "precision": "32-true"}
    given = {"role": "batter", "grain": "game", "before": date(2004, 1, 1), "batch_samples": 32, "train": train}
    return FinetuneConfig(**(given | changes))


@pytest.fixture(scope="module")
def fitted(sim_store, uninterrupted, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    finetune(fitting(), sim_store, uninterrupted, out, progress=False)
    return out


def test_a_frozen_encoder_stays_bit_for_bit(uninterrupted, fitted):
    loaded = load_task(fitted)
    task, cutoff = loaded.task, loaded.cutoff
    encoder, _, _ = load_encoder(uninterrupted)
    assert identical(task.encoder.state_dict(), encoder.state_dict())
    assert cutoff == date(2004, 1, 1)
    assert any(p.abs().max() > 0 for p in task.head.parameters())


def test_a_fitted_run_holds_only_what_was_added(fitted):
    assert not [n for n in weights(fitted) if n.startswith("encoder.") and n.endswith(("weight", "bias"))]
    assert any(n.startswith("head.") for n in weights(fitted))


def test_a_full_fit_moves_and_keeps_the_encoder(sim_store, uninterrupted, tmp_path):
    finetune(fitting(adaptation="full"), sim_store, uninterrupted, tmp_path / "full", progress=False)
    task = load_task(tmp_path / "full").task
    encoder, _, _ = load_encoder(uninterrupted)
    assert not identical(task.encoder.state_dict(), encoder.state_dict())


def test_another_encoder_than_the_one_fitted_on_is_refused(sim_store, uninterrupted, fitted, tmp_path):
    moved = tmp_path / "fitted"
    shutil.copytree(fitted, moved)
    other = tmp_path / "encoder"
    shutil.copytree(uninterrupted, other)
    run = Run(other)
    tensors, meta = run.load(run.weights)
    tensors["encoder.norm.bias"] = tensors["encoder.norm.bias"] + 1
    run.save(run.weights, tensors, meta)
    config = json.loads((moved / "config.json").read_text())
    config["facts"]["encoder_run"] = str(other)
    (moved / "config.json").write_text(json.dumps(config))
    with pytest.raises(FullcountError, match="fitted on encoder"):
        load_task(moved)


def test_an_encoder_that_has_seen_the_targets_is_refused(sim_store, uninterrupted, tmp_path):
    with pytest.raises(FullcountError, match="has seen play up to 2003-01-01"):
        finetune(fitting(before=date(2002, 6, 1)), sim_store, uninterrupted, tmp_path / "x", progress=False)


def test_the_wrong_kind_of_run_is_refused(uninterrupted, fitted):
    with pytest.raises(FullcountError, match="not a pre-training run"):
        load_encoder(fitted)
    with pytest.raises(FullcountError, match="not a fitted run"):
        load_task(uninterrupted)


# ------------------------------------------------------------------------------------------- beginning with a run


def changed(config: PretrainConfig, **changes: Any) -> PretrainConfig:
    return PretrainConfig.model_validate({**config.model_dump(exclude_unset=True), **changes})


def test_weights_to_begin_with(sim_store, tmp_path):
    config = changed(configuration(steps=1), objectives=({"kind": "electra", "two_phase": 1},))
    pretrain(config, sim_store, tmp_path / "first", progress=False)
    pretrain(config, sim_store, tmp_path / "second", progress=False, init=tmp_path / "first")
    assert [int(weights(tmp_path / name)["steps"]) for name in ("first", "second")] == [1, 1]  # counted from its start
    begun = Run(tmp_path / "second").config()["facts"]["init"]
    assert begun == fingerprint(weights(tmp_path / "first"))
    wider = {**TINY, "feedforward": 48}
    deeper = {**TINY, "layers": 2}
    for other, sentence in (
        (changed(config, objectives="masked_gamestate"), "holds .*, which this configuration has not"),
        (changed(config, encoder=deeper), r"has no encoder\.blocks\.1\."),
        (changed(config, encoder=wider), r"shape \(.*32.*\), in this configuration \(.*48"),
        (changed(config, before=date(2002, 6, 1)), "has seen play"),
    ):
        with pytest.raises(FullcountError, match=sentence):
            pretrain(other, sim_store, tmp_path / "other", progress=False, init=tmp_path / "first")
    fitted = Run(tmp_path / "fitted")
    fitted.begin({"job": "finetune"}, {"cutoff": "2003-01-01"})
    with pytest.raises(FullcountError, match="not a pre-training run"):
        pretrain(config, sim_store, tmp_path / "other", progress=False, init=fitted.path)
    assert not (tmp_path / "other").exists()


def test_a_fingerprint_knows_scalars():
    names = {fingerprint({"steps": torch.tensor(n)}) for n in (1, 1, 2)}
    assert len(names) == 2


def test_two_phases_do_not_train_distributed(sim_store, monkeypatch):
    objective, train, _ = build_pretraining(
        changed(configuration(), objectives=({"kind": "electra", "two_phase": 1},)), sim_store
    )
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(FullcountError, match="two_phase"):
        objective.train()(train.batch(0))


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("program", [["planted", "--out", "."], ["boosted", "--store", "nowhere"]])
def test_programs_tell_their_errors(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(sys, "argv", program)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"fullcount.evaluation.{program[0]}", run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
