"""Several objectives on one encoder: what is trained, what is logged, what is saved."""

from __future__ import annotations

from datetime import date
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fullcount.batches import Sampler
from fullcount.config import PretrainConfig, load
from fullcount.errors import FullcountError
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.base import Losses, Objective
from fullcount.objectives.combination import Combination
from fullcount.objectives.inning import Inning
from fullcount.objectives.masked_gamestate import MaskedGamestate
from fullcount.training.jobs import build_pretraining, load_encoder, load_objective, pretrain
from fullcount.training.loop import TrainConfig, fit
from fullcount.training.run import Run
from fullcount.windows import Window

TINY = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
BEFORE = date(2003, 1, 1)


def configuration(
    objectives: Any = "masked_gamestate+inning", weighting: str = "fixed", **train: Any
) -> PretrainConfig:
    given = {"steps": 6, "checkpoint_every": 3, "log_every": 1, "precision": "32-true", "validate_every": 3} | train
    return PretrainConfig(
        objectives=objectives, weighting=weighting, encoder=TINY, before=BEFORE, batch_tokens=512, train=given
    )


def whole(losses: Losses) -> Tensor:
    """The training total, as the loop computes it."""
    return sum(losses.weights[n] * s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items())  # type: ignore[return-value]


@pytest.fixture(scope="module")
def sampler(sim_store) -> Sampler:
    return Sampler(sim_store, (Window("pitcher", games=2, events=200),), before=BEFORE, tokens=1000, seed=1)


@pytest.fixture(scope="module")
def run(sim_store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("combined") / "run"
    pretrain(configuration(weighting="uncertainty"), sim_store, out, progress=False)
    return out


# ------------------------------------------------------------------------------------------------------------ weights


def test_the_parts_are_trained_as_they_are_alone(sampler):
    """Losses and the encoder's gradient are the weighted sum of those of each objective alone."""
    torch.manual_seed(0)
    encoder = GamestateTransformer(EncoderConfig(**TINY))
    parts = {"masked_gamestate": MaskedGamestate(encoder, weights={"call": 2.0}), "inning": Inning(encoder)}
    weights = {"masked_gamestate": 1.0, "inning": 0.25}
    batch = sampler.batch(0)
    expected = torch.zeros_like(encoder.blocks[0].up.weight)
    alone: dict[str, float] = {}
    for kind, part in parts.items():
        losses = part(batch)
        alone |= {f"{kind}/{n}": v for n, v in losses.means().items()}
        [gradient] = torch.autograd.grad(whole(losses), [encoder.blocks[0].up.weight])
        expected += weights[kind] * gradient
    combined = Combination(encoder, parts, weights)
    losses = combined(batch)
    assert losses.means() == alone
    [found] = torch.autograd.grad(whole(losses), [encoder.blocks[0].up.weight])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_beside_a_tiny_weight_an_objective_is_alone(sampler):
    ends = []
    for tiny in (False, True):
        torch.manual_seed(0)
        encoder = GamestateTransformer(EncoderConfig(**TINY))
        task: Objective = MaskedGamestate(encoder)
        if tiny:
            weights = {"masked_gamestate": 1.0, "inning": 1e-9}
            task = Combination(encoder, {"masked_gamestate": task, "inning": Inning(encoder)}, weights)
        optimizer = torch.optim.SGD(encoder.parameters(), 0.1)
        for step in range(3):
            optimizer.zero_grad()
            whole(task(sampler.batch(step))).backward()
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in encoder.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


class Noise(Objective):
    """A loss that never falls below its level."""

    def __init__(self, encoder: nn.Module, level: float) -> None:
        super().__init__()
        self.encoder, self.level = encoder, level

    def forward(self, batch: Any) -> Losses:
        losses = Losses()
        losses.add("loss", 10 * (self.level + self.encoder(batch.x).square().mean()), torch.tensor(10))
        return losses


class Points:
    """Ten random points."""

    tokens = 10

    def __init__(self, step: int) -> None:
        self.x = torch.randn(10, 3, generator=torch.Generator().manual_seed(step))

    def to(self, device: torch.device) -> Points:
        return self


def noisy(levels: dict[str, float], **weights: float) -> Combination:
    torch.manual_seed(0)
    encoder: Any = nn.Linear(3, 1)
    parts: dict[str, Objective] = {n: Noise(encoder, level) for n, level in levels.items()}
    return Combination(encoder, parts, {n: weights.get(n, 1.0) for n in levels}, "uncertainty")


def test_the_log_variance_has_the_textbook_gradient():
    """total = exp(-s) L + s / 2: the gradient of s is 1/2 - exp(-s) L, that of the encoder exp(-s) times its own."""
    model = noisy({"a": 0.5, "b": 3.0}, b=0.25)
    s = model.log_variances
    assert s["a"].item() == 0
    assert s["b"].item() == pytest.approx(-log(0.25))
    with torch.no_grad():
        s["a"].fill_(0.7)
    points = Points(0)
    losses = model(points)
    raw = losses.means()
    whole(losses).backward()
    assert float(s["a"].grad) == pytest.approx(0.5 - exp(-0.7) * raw["a/loss"], rel=1e-5)
    assert float(s["b"].grad) == pytest.approx(0.5 - 0.25 * raw["b/loss"], rel=1e-5)
    own = torch.autograd.grad(model.encoder(points.x).square().mean(), model.encoder.weight)[0]
    torch.testing.assert_close(model.encoder.weight.grad, (exp(-0.7) + 0.25) * own)
    assert raw["a/log_variance"] == pytest.approx(0.7)
    assert set(model.eval()(points).sums) == {"a/loss", "b/loss"}


def test_the_noisier_objective_weighs_less(tmp_path):
    """At rest exp(-s) = 1 / (2 L): the loop finds it, and logs raw losses and log-variances."""
    model = noisy({"quiet": 0.2, "noisy": 4.0})
    config = TrainConfig(steps=400, lr=0.05, precision="32-true", log_every=400)
    directory = Run(tmp_path)
    directory.begin({}, {})
    fit(model, lambda step, rank, world: Points(step), config, directory, progress=False)
    [record] = directory.records()
    for name in ("quiet", "noisy"):
        assert exp(-record[f"{name}/log_variance"]) == pytest.approx(0.5 / record[f"{name}/loss"], rel=0.15)
    assert record["quiet/loss"] == pytest.approx(0.2, abs=0.1)
    assert record["noisy/loss"] == pytest.approx(4.0, abs=0.1)


# -------------------------------------------------------------------------------------------------- runs of the whole


def test_a_run_logs_raw_losses_and_saves_the_encoder_once(sim_store, run):
    records = Run(run).records()
    trained, checked = records[0], next(r for r in records if "validation/inning/inning" in r)
    assert {"masked_gamestate/call", "inning/inning", "inning/log_variance"} <= set(trained)
    assert trained["inning/inning"] > 1  # raw, whatever its weight
    assert not [n for n in checked if "log_variance" in n]
    tensors, _ = Run(run).load(Run(run).weights)
    assert not [n for n in tensors if ".encoder." in n]
    encoder, _, _ = load_encoder(run)
    model, _, _ = load_objective(run, sim_store)
    assert isinstance(model, Combination)
    assert all(o.encoder is model.encoder for o in model.objectives.values())
    for name, tensor in encoder.state_dict().items():
        if "embedder" not in name:  # of which what training never saw is changed at loading
            assert torch.equal(tensor, tensors[f"encoder.{name}"])
        assert torch.equal(tensor, model.encoder.state_dict()[name])
    assert model.log_variances["inning"].item() == tensors["log_variances.inning"].item() != 0


@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_stopped_and_resumed_ends_with_the_same_bits(sim_store, run, tmp_path, monkeypatch, stop):
    """Cut off in the middle (after a checkpoint at step 3, or before any), the same command goes on."""
    calls = 0
    forward = Combination.forward

    def broken(self, batch):
        nonlocal calls
        calls += self.training
        if calls > stop:
            raise RuntimeError("power cut")
        return forward(self, batch)

    config = configuration(weighting="uncertainty")
    monkeypatch.setattr(Combination, "forward", broken)
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(config, sim_store, tmp_path / "run", progress=False)
    monkeypatch.setattr(Combination, "forward", forward)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists() == (stop == 4)
    pretrain(config, sim_store, tmp_path / "run", progress=False)
    for file in ("weights", "checkpoint"):
        a, b = (Run(p).load(p / f"{file}.safetensors")[0] for p in (tmp_path / "run", run))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("monitor", ["total", "inning/log_variance"])
def test_stopping_by_anything_but_a_raw_loss_is_refused(sim_store, tmp_path, monitor):
    config = configuration(weighting="uncertainty", monitor=monitor)
    with pytest.raises(FullcountError, match=f"monitor '{monitor}' is not validated; choose one of .*inning/inning"):
        pretrain(config, sim_store, tmp_path, progress=False)


def test_stopping_by_a_raw_loss(sim_store, tmp_path):
    config = configuration(weighting="uncertainty", monitor="inning/inning", steps=3)
    summary = pretrain(config, sim_store, tmp_path, progress=False)
    [checked] = [r for r in Run(tmp_path).records() if "validation/inning/inning" in r]
    assert summary["best"] == checked["validation/inning/inning"]


def test_which_configuration_builds_what(sim_store):
    def built(*given: Any) -> Objective:
        return build_pretraining(configuration(*given), sim_store)[0]

    assert isinstance(built("inning"), Inning)
    assert isinstance(built("inning", "uncertainty"), Combination)
    weighed = built([{"kind": "inning", "weight": 0.5}, {"kind": "pitch_order"}])
    assert isinstance(weighed, Combination)
    assert weighed.weights == {"inning": 0.5, "pitch_order": 1.0}
    assert weighed.log_variances is None


@pytest.mark.parametrize(
    ("override", "named"),
    [("objectives=inning+inning", "objectives: .*inning is there twice"), ("weighting=guess", "weighting")],
)
def test_a_mistake_is_named(override, named):
    with pytest.raises(FullcountError, match=named):
        load(PretrainConfig, None, ["before=2003-01-01", override])
