"""Where a run trains: several processes, batches in turn, sharded weights, SLURM; all are one run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fullcount.errors import FullcountError
from fullcount.training.devices import processes
from fullcount.training.jobs import pretrain
from fullcount.training.loop import _stop_request
from fullcount.training.run import Run
from test_training import (
    TORCHRUN,
    Deep,
    Line,
    Noisy,
    Thawing,
    changed,
    configuration,
    identical,
    start,
    toy,
    weights,
)

_TOY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import {module}, toy
toy(Path({out!r}), module={module}(**{options!r}), **{train!r})
"""


def _toy_script(out: Path, module: type[Line], options: dict[str, Any], train: dict[str, Any]) -> Path:
    script = out.with_suffix(".py")
    given = {"module": module.__name__, "options": options, "train": train}
    script.write_text(_TOY.format(tests=str(Path(__file__).parent), out=str(out), **given))
    return script


def toy_of_two(out: Path, module: type[Line] = Line, options: dict[str, Any] | None = None, **train: Any) -> str:
    """The toy in two processes; returns what they said on their way to an error."""
    script = _toy_script(out, module, options or {}, train)
    done = subprocess.run([*TORCHRUN, str(script)], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    return done.stderr.decode() if done.returncode else ""


def alike(one: Path, two: Path, within: float = 1e-6) -> bool:
    """The same weights and log up to the order of sums, and up to the strategy's names."""
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=within, rtol=within)
    for x, y in zip(Run(one).records(), Run(two).records(), strict=True):
        assert x.keys() == y.keys()
        for name in x.keys() - {"seconds"}:
            assert x[name] == pytest.approx(y[name], abs=2e-4), (x["step"], name)
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("module", "train"), [(Line, {}), (Thawing, {}), (Deep, {"strategy": "fsdp"})])
def test_two_processes_on_shares_are_one_process_on_the_whole(tmp_path, module, train):
    """Every loss is divided by the number of its targets in all processes, however they are spread."""
    toy(tmp_path / "one", module=module())
    assert not toy_of_two(tmp_path / "two", module, **train)
    assert alike(tmp_path / "one", tmp_path / "two", 1e-5)


# ------------------------------------------------------------------------------------------------------- accumulation


def test_batches_in_turn_are_batches_side_by_side(tmp_path):
    toy(tmp_path / "one")
    toy(tmp_path / "two", accumulate=2)
    assert alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    """Two processes are one that accumulates two, its random numbers too; in between, any strategy may go on."""
    assert not toy_of_two(tmp_path / "side", Noisy)
    toy(tmp_path / "turn", module=Noisy(), accumulate=2)
    assert alike(tmp_path / "side", tmp_path / "turn")
    mixed = Run(tmp_path / "mixed")
    assert "not finite" in toy_of_two(mixed.path, Noisy, {"break_at": 6}, strategy="fsdp")
    assert mixed.load(mixed.checkpoint)[1]["step"] == 4
    with pytest.raises(FullcountError, match=r"step 8: .*not finite"):
        toy(mixed.path, module=Noisy(break_at=15), accumulate=2)
    assert mixed.load(mixed.checkpoint)[1]["step"] == 8
    assert not toy_of_two(mixed.path, Noisy, strategy="fsdp")
    for name, tensor in weights(tmp_path / "side").items():
        torch.testing.assert_close(weights(mixed.path)[name], tensor, atol=1e-6, rtol=1e-6)


def test_an_accumulating_run_resumes_with_the_same_bits(tmp_path):
    with pytest.raises(FullcountError, match="not finite"):
        toy(tmp_path / "broken", module=Line(break_at=20), accumulate=2)  # three passes a step
    assert Run(tmp_path / "broken").load(Run(tmp_path / "broken").checkpoint)[1]["step"] == 4
    toy(tmp_path / "broken", accumulate=2)
    toy(tmp_path / "whole", accumulate=2)
    assert identical(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_pretraining_side_by_side_and_in_turn(sim_store, tmp_path, strategy):
    process = start(sim_store.root, tmp_path / "side", TORCHRUN, strategy=strategy, steps=6)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    pretrain(configuration(accumulate=2, steps=6), sim_store, tmp_path / "turn", progress=False)
    assert alike(tmp_path / "turn", tmp_path / "side", 1e-5)
    moments = [Run(tmp_path / n).load(Run(tmp_path / n).checkpoint)[0] for n in ("turn", "side")]
    assert {n: t.shape for n, t in moments[0].items()} == {n: t.shape for n, t in moments[1].items()}


def test_what_needs_the_whole_step_is_not_accumulated(sim_store, tmp_path):
    for objective, sentence in (
        ({"kind": "contrastive"}, "accumulate = 2: contrastive: negatives"),
        ({"kind": "electra", "two_phase": 3}, "accumulate = 2: electra: two_phase"),
    ):
        config = changed(configuration(accumulate=2), objectives=(objective,))
        with pytest.raises(FullcountError, match=sentence):
            pretrain(config, sim_store, tmp_path / objective["kind"], progress=False)


# ----------------------------------------------------------------------------------------------- where a run trains


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ({}, (3, 1)),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2", "WORLD_SIZE": "8"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "interactive"}, (3, 1)),
        # torchrun inside a SLURM job: its word counts
        (
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2", "SLURM_NTASKS": "2"},
            (8, 2),
        ),
    ],
)
def test_processes_are_counted_as_they_were_started(started, expected):
    assert processes(started, devices=3) == expected


@pytest.mark.slow
def test_two_tasks_of_slurm_are_one_process_on_the_whole(tmp_path):
    toy(tmp_path / "one")
    script = _toy_script(tmp_path / "two", Line, {}, {})
    job = {"JOB_ID": "4711", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1", "STEP_ID": "0", "NODEID": "0"}
    tasks = []
    for rank in ("0", "1"):
        given = {f"SLURM_{k}": v for k, v in (job | {"PROCID": rank, "LOCALID": rank}).items()}
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"} | given
        tasks.append(
            subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True)
        )
    for task in tasks:
        _, errors = task.communicate(timeout=120)
        assert task.returncode == 0, errors
    assert alike(tmp_path / "one", tmp_path / "two", 1e-5)


def test_preemption_lets_the_step_end_and_only_a_second_ctrl_c_does_not_wait():
    with _stop_request() as asked:
        assert not asked()
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):  # SLURM sends one, then the other
            signal.raise_signal(number)
            assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("started", "sentence"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}, "put srun before"),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, "--ntasks-per-node"),
        ({"SLURM_NTASKS": "1"}, "--ntasks-per-node"),  # and Fabric would start no second process
    ],
)
def test_slurm_is_told_what_is_missing(started, sentence):
    with pytest.raises(FullcountError, match=sentence):
        processes(started, devices=2)
    assert processes({"SLURM_NTASKS": "1"}, devices=1) == (1, 1)


def test_what_fsdp_cannot_train_is_refused(sim_store, tmp_path):
    with pytest.raises(FullcountError, match="may not change"):
        toy(tmp_path / "thawing", module=Thawing(), strategy="fsdp")
    options = {"objectives": "masked_gamestate+inning", "weighting": "uncertainty"}
    with pytest.raises(FullcountError, match="log_variances"):
        pretrain(changed(configuration(strategy="fsdp"), **options), sim_store, tmp_path / "learned", progress=False)


def test_the_number_of_batches_in_a_step_may_not_change_on_the_way(tmp_path):
    """Batches are drawn for their number: with another one the same command would be another run."""
    toy(tmp_path, steps=12)
    run = Run(tmp_path)
    tensors, meta = run.load(run.checkpoint)
    run.save(run.checkpoint, tensors, meta | {"world": 2})
    with pytest.raises(FullcountError, match=r"2 batches a step .*, now 1"):
        toy(tmp_path, steps=12)


def _begin(folder: Path, start: Any) -> None:
    start.wait()
    for i in range(300):
        Run(folder / str(i)).begin({"a": 1}, {})


def test_processes_begin_a_run_together(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    processes = [context.Process(target=_begin, args=(tmp_path, start)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert {p.name for p in (tmp_path / "7").iterdir()} == {"config.json", "environment.json"}
