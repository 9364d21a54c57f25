"""Methods x tasks on one encoder: the measure of a study, and what it compares with."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.fitting import PRIOR, FittingConfig, fitting
from fullcount.evaluation.study import StudyConfig, run_study, summary
from fullcount.model.transformer import EncoderConfig
from fullcount.report.study import write_study
from fullcount.simulated.league import simulate
from fullcount.store import Store
from fullcount.training.jobs import finetune, load_task, pretrain
from fullcount.training.loop import TrainConfig

OPTIONS = {
    "judged": [2004],
    "minimum_exposure": 20,
    "stretches": 10,
    "draws": 50,
    "fit": {
        "before": date(2004, 1, 1),
        "validate_since": date(2003, 1, 1),
        "train": {"steps": 4, "validate_every": 4, "monitor": None},
    },
    "tasks": {
        "season": {"role": "batter", "grain": "season", "window": {"games": 4}, "schedule": "average"},
        "starts": {"role": "pitcher", "grain": "game", "window": {"games": 2, "appearances": "starts"}},
    },
    "methods": {
        "linear": {"adaptation": "linear"},
        "adapters": {"adaptation": "adapters", "batch_samples": 8},
    },
}
ENCODER = EncoderConfig(d_model=16, layers=2, heads=2, feedforward=32, use_prior=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    tables = simulate(seasons=4, teams=4, games_per_team=16, seed=1).tables
    return Store.open_or_create(tmp_path_factory.mktemp("four")).add(tables, "2001 to 2004")


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitting") / "run"
    config = PretrainConfig(
        before=date(2003, 1, 1), encoder=ENCODER, batch_tokens=1000, train=TrainConfig(steps=2, seed=3)
    )
    pretrain(config, store, out, progress=False)
    return out


def test_every_method_is_judged_at_every_task_beside_the_prior(store, run):
    table = fitting(run, store, FittingConfig.model_validate(OPTIONS))
    keys = table.select("task", "method", "target").unique().rows()
    for task, targets in (("season", ("K%", "BB%", "HR%")), ("starts", ("SO",))):
        for method in (PRIOR, "linear", "adapters"):
            assert {(task, method, t) for t in (*targets, "fit")} <= set(keys)
    gains = table.filter(pl.col("figure") == "gain")
    assert set(gains["method"]) == {"linear", "adapters"}
    assert (gains["low"] <= gains["value"]).all()
    assert (gains["value"] <= gains["high"]).all()
    r = table.filter(pl.col("figure") == "r").select("task", "target", "method", "value")
    base = r.filter(pl.col("method") == PRIOR).drop("method").rename({"value": "base"})
    both = gains.select("task", "target", "method", "value").join(base, on=["task", "target"])
    both = both.join(r.rename({"value": "r"}), on=["task", "target", "method"])
    assert both["value"].to_list() == pytest.approx((both["r"] - both["base"]).to_list(), abs=1e-9)
    trained = table.filter(pl.col("figure") == "trained").select("task", "method", "value")
    head = trained.filter((pl.col("method") == "linear") & (pl.col("task") == "season"))["value"].item()
    adapters = trained.filter((pl.col("method") == "adapters") & (pl.col("task") == "season"))["value"].item()
    assert adapters - head == 2 * (2 * 16 * 8 + 16 + 8)


def test_what_is_fitted_is_not_fitted_again(store, run):
    config = FittingConfig.model_validate(OPTIONS)
    first = fitting(run, store, config)
    weights = run / "fitted" / "season-adapters" / "weights.safetensors"
    when = weights.stat().st_mtime_ns
    assert fitting(run, store, config).equals(first)
    assert weights.stat().st_mtime_ns == when
    assert json.loads((run / "fitted" / "season-adapters" / "config.json").read_text())["train"]["seed"] == 3


def test_another_configuration_does_not_take_its_place(store, run):
    fitting(run, store, FittingConfig.model_validate(OPTIONS))
    changed = {**OPTIONS, "fit": {**OPTIONS["fit"], "since": date(1999, 6, 1)}}
    with pytest.raises(FullcountError, match="another configuration"):
        fitting(run, store, FittingConfig.model_validate(changed))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"methods": {"a": {"adaptation": "osmosis"}}}, "osmosis"),
        ({"fit": {"before": date(2004, 6, 1)}}, "judged on 2004"),
        ({"methods": {}}, "methods"),
        ({"methods": {"a": {"leagues": ["AAA"]}}}, "leagues"),
    ],
)
def test_what_cannot_be_fitted_is_named_before_anything_runs(changes, match):
    with pytest.raises(ValueError, match=match):
        FittingConfig.model_validate({**OPTIONS, **changes})


def test_a_study_compares_encoders_by_their_fits(store, tmp_path):
    """With new weights as the first arm, which nothing trains."""
    base = {"before": date(2003, 1, 1), "batch_tokens": 1000, "encoder": ENCODER.model_dump()}
    study = StudyConfig.model_validate(
        {
            "name": "fits",
            "seeds": [0],
            "budget": {"tokens": 2500},
            "base": base,
            "arm": [{"name": "scratch", "untrained": True}, {"name": "masked"}],
            "measures": {"fitting": {**OPTIONS, "tasks": {"season": OPTIONS["tasks"]["season"]}}},
        }
    )
    result = run_study(study, store, tmp_path, progress=False)
    assert not result.failures
    table = summary(result)
    steps = dict(result.rows.select("arm", "tokens").unique().rows())
    assert steps["scratch"] == 0
    assert steps["masked"] > 0
    assert "table.md" in [p.name for p in write_study(result, tmp_path)]
    row = table.filter(pl.col("what") == "fitting season adapters K% r")
    assert row["arm"].to_list() == ["scratch", "masked"]
    assert row["mean"].is_finite().all()


def test_a_fit_may_begin_with_the_frozen_encoders_head(store, run, tmp_path):
    keys = {**OPTIONS["fit"], **OPTIONS["tasks"]["season"], "adaptation": "adapters", "batch_samples": 8}
    train = {"steps": 1, "lr": 1e-12, "validate_every": 1, "monitor": None}
    config = FinetuneConfig.model_validate({**keys, "head_first": True, "train": train})
    finetune(config, store, run, tmp_path / "run", progress=False)
    whole, head = (load_task(tmp_path / p).task for p in ("run", "run/head"))
    assert head.head.embedding.weight.abs().max() > 0
    assert (whole.head.embedding.weight - head.head.embedding.weight).abs().max() < 1e-9
    assert (whole.center == head.center).all()
    assert (whole.spread == head.spread).all()
    with pytest.raises(ValueError, match="head_first"):
        FinetuneConfig.model_validate({**keys, "adaptation": "linear", "head_first": True})
