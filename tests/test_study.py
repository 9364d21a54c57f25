"""Studies: the matrix, equal budgets, nothing done twice, what fails is told, intervals."""

from __future__ import annotations

import json
import math
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from fullcount.batches import Sampler
from fullcount.cli import app
from fullcount.config import load
from fullcount.errors import FullcountError
from fullcount.evaluation import study
from fullcount.evaluation.cluster import over_ray
from fullcount.evaluation.probe import ProbeConfig
from fullcount.evaluation.study import StudyConfig, StudyResult, expand, plan, run_study, summary, t_interval
from fullcount.objectives.base import Losses
from fullcount.report.study import write_study
from fullcount.store import ROLES, Store
from fullcount.training import work
from fullcount.training.work import bill, flops_per_token, tokens_of_a_pass
from fullcount.windows import Window

EXAMPLE = Path(__file__).parents[1] / "studies" / "example.toml"
QUICK = ["budget.tokens=1500", "budget.flops=1.5e8", "budget.shares=[1.0]", "base.train.precision=32-true"]


def example(*overrides: str) -> StudyConfig:
    return load(StudyConfig, EXAMPLE, [*QUICK, *overrides])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders `pretrain` was called for, in order."""
    called: list[str] = []
    real = study.pretrain

    def counting(config, store, out, progress):
        called.append(out.name)
        return real(config, store, out, progress)

    monkeypatch.setattr(study, "pretrain", counting)
    return called


# ---------------------------------------------------------------------------------------------------------- the matrix


values = st.lists(st.integers() | st.booleans().map(str) | st.floats(0.1, 9), min_size=1, max_size=3, unique_by=str)
paths = st.sampled_from(["encoder.layers", "encoder.heads", "batter.games", "pitcher.games", "batch_tokens"])


@given(st.lists(st.sampled_from("abc"), unique=True, max_size=3), st.dictionaries(paths, values, max_size=3))
def test_arms_are_the_product_under_different_names(names: list[str], axes: dict[str, list[object]]) -> None:
    arms = [{"name": n, "since": n} for n in names] or None
    found = expand({"encoder": {"d_model": 8}}, arms, axes)
    assert len(found) == math.prod(map(len, axes.values())) * max(1, len(names))

    def at(arm: dict[str, object], path: str) -> object:
        first, _, rest = path.partition(".")
        return at(arm[first], rest) if rest else arm[first]  # type: ignore[arg-type]

    assert len({tuple(repr(at(a, p)) for p in [*axes, *(["since"] if names else [])]) for a in found.values()}) == len(
        found
    )
    assert all(at(arm, path) in options for arm in found.values() for path, options in axes.items())
    assert all(arm["encoder"]["d_model"] == 8 for arm in found.values())


def test_names_of_arms() -> None:
    arms = [{"name": "masked"}, {"name": "next", "objectives": "next_event"}]
    axes = {"encoder.layers": [2, 4], "batter.games": {"short": 5, "long": None}, "pitcher.games": [1]}
    found = expand({}, arms, axes)
    assert next(iter(found)) == "masked layers=2 batter.games=short pitcher.games=1"
    assert found["next layers=4 batter.games=long pitcher.games=1"]["batter"]["games"] is None
    assert list(expand({}, None, None)) == ["base"]


def test_an_arm_that_changes_one_key_keeps_the_other_defaults() -> None:
    arms = example("axes={'train.warmup'=[0.1]}", "base.pitcher={games=2}").arms
    assert all(arm.train.lr == 2e-3 and arm.pitcher.events == 480 for arm in arms.values())


BAD = [
    (["base.encoder.layes=2"], "example.toml: arms.small.encoder.layes: there is no such option"),
    (["axes={'encoder.layes'=[2]}"], "arms.small layes=2.encoder.layes: there is no such option"),
    (["sedes=[1]"], "sedes: there is no such option"),
    (["measures.prob={}"], "measures.prob: there is no such option"),
    (["measures.probe.draw=3"], "measures.probe.draw: there is no such option"),
    (["base.train.steps=5"], "arms: arm 'small' sets train.steps"),
    (["axes={'train.monitor'=['call']}"], "sets train.monitor"),
    (["axes={'train.accumulate'=[2]}"], "sets train.accumulate"),
    (["seeds=[1,1]"], "a seed stands there twice"),
    (["budget={shares=[1.0]}"], "budget: give tokens, flops or both"),
    (["budget.shares=[]"], "budget.shares: Tuple should have at least 1 item"),
    (["arms.a=3"], "arms.a: Input should be a valid dictionary"),
    (["arm=[{}]"], "every [[arm]] needs a name"),
    (["arm=[{name='a'},{name='a'}]"], "two arms are called 'a'"),
    (["arm=[{name='a b'},{name='a/b'}]"], "would share the folder 'a_b'"),
    (["axes={'encoder.layers'=2}"], '"encoder.layers" needs a list'),
    (["axes={'encoder.layers'=[2,2]}"], '"encoder.layers" has a value twice'),
    (["axes=3"], "[axes] is not a table"),
]


@pytest.mark.parametrize(("overrides", "sentence"), BAD, ids=[w[0] for w, _ in BAD])
def test_a_mistake_is_named_with_its_path(overrides: list[str], sentence: str) -> None:
    with pytest.raises(FullcountError) as error:
        example(*overrides)
    assert sentence in str(error.value)


# ------------------------------------------------------------------------------------------------------------ the work


class Task(nn.Module):
    """The sum of what a function of some linear layers gives."""

    def __init__(self, function, *layers: nn.Linear) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, batch) -> Losses:
        return Losses({"x": self.function(batch.x, *self.layers).sum()}, {"x": torch.tensor(1)}, {"x": 1.0})


def test_operations_of_linear_layers() -> None:
    batch = SimpleNamespace(x=torch.randn(11, 5), tokens=10)
    first, second = nn.Linear(5, 7), nn.Linear(7, 3)
    # Forward and the weights' gradient; only the second layer passes a gradient down to its input.
    assert flops_per_token(Task(lambda x, a: a(x), first), batch) == 2 * 2 * 11 * 5 * 7 / 10
    both = flops_per_token(Task(lambda x, a, b: b(torch.relu(a(x))), first, second), batch)
    assert both == (2 * 2 * 11 * 5 * 7 + 3 * 2 * 11 * 7 * 3) / 10
    assert first.weight.grad is None


@pytest.mark.parametrize("mask", [None, torch.ones(2, 1, 1, 16, dtype=torch.bool)], ids=["bare", "masked"])
def test_operations_of_fused_attention(mask: torch.Tensor | None) -> None:
    size, heads, width, channels = 2, 3, 16, 8

    def attend(x: torch.Tensor, project: nn.Linear) -> torch.Tensor:
        q = project(x).view(size, width, heads, channels).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)

    d = heads * channels
    batch = SimpleNamespace(x=torch.randn(size, width, d), tokens=size * width)
    # q k' and p v forward; backward both twice, and the scores again.
    attention = (2 + 5) * 2 * size * heads * width * width * channels
    assert flops_per_token(Task(attend, nn.Linear(d, d)), batch) == (2 * 2 * size * width * d * d + attention) / (
        size * width
    )


def test_the_bill_of_a_training(sim_store: Store, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    table = bill(6e18, 0.5, {"slow": (1.0, 2.0), "fast": (100.0, 3.0)})
    assert table["hours"].to_list() == pytest.approx([6e18 / 0.5e12 / 3600, 6e18 / 50e12 / 3600])
    assert table["$"].to_list() == pytest.approx([2 * 6e18 / 0.5e12 / 3600, 3 * 6e18 / 50e12 / 3600])
    words = ["work", "--store", str(sim_store.root), "--passes", "3", "--card", "mine=10:1.5"]
    options = ["before=2004-01-01", "batch_tokens=512", "encoder.d_model=16", "encoder.heads=2", "encoder.layers=1"]
    monkeypatch.setattr(sys, "argv", [*words, *(w for o in options for w in ("-o", o))])
    work.main()
    told = capsys.readouterr().out
    assert "mine" in told
    assert "L4" not in told
    monkeypatch.setattr(sys, "argv", [*words, "--card", "mine"])
    with pytest.raises(FullcountError, match="NAME=TFLOPS:DOLLARS"):
        work.main()


def test_a_pass_shows_every_event_in_both_roles(sim_store: Store) -> None:
    sampler = Sampler(sim_store, tuple(Window(role) for role in ROLES), before=date(2030, 1, 1))
    events = int(np.asarray(sim_store.runs["length"]).sum())
    games = sum(len(sim_store.appearances(role)) for role in ROLES)
    assert tokens_of_a_pass(sampler) == 2 * events + games


def test_equal_budgets(sim_store: Store, tmp_path: Path) -> None:
    config = example("budget.tokens=20000", "budget.flops=1e9", "budget.shares=[0.25,1.0]")
    trials = plan(config, sim_store, tmp_path)
    assert len(trials) == 3 * 2 * 2
    for t in trials:
        assert abs(t.tokens - t.share * 20000) <= t.cost.tokens_per_step or t.budget == "flops"
        assert abs(t.flops - t.share * 1e9) <= t.cost.flops_per_step or t.budget == "tokens"
    work = {t.arm: t.cost.flops_per_token for t in trials}
    assert work["small"] * 1.5 < work["deep"] < work["small"] * 2.5  # the heads are there once
    assert plan(config, sim_store, tmp_path) == trials  # measured once
    with pytest.raises(FullcountError, match="arm 'small': 1 of the budget of tokens is less than a step"):
        plan(example("budget.tokens=100"), sim_store, tmp_path)
    with pytest.raises(FullcountError, match="arm 'small': the store has no game before 1999"):
        plan(example("base.before=1999-01-01"), sim_store, tmp_path)


def test_two_phases_have_a_budget_of_tokens(sim_store: Store, tmp_path: Path) -> None:
    """Their shares of the work depend on the number of steps, so steps cannot follow from the work."""
    electra = "base.objectives=[{kind='electra',two_phase=1}]"
    with pytest.raises(FullcountError, match=r"arm 'small': two_phase: .* give a budget of tokens"):
        plan(example(electra), sim_store, tmp_path)
    config = example(electra, "arm=[{name='a'}]", "axes={}", "seeds=[0]", "budget={tokens=1500}", "measures={}")
    result = run_study(config, sim_store, tmp_path, progress=False)
    assert not result.failures
    write_study(result, tmp_path)
    plain = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert plain["plan"][0]["tokens"] > 0
    assert plain["plan"][0]["flops"] is None


# ------------------------------------------------------------------------------------------------------------- running


def test_a_study_from_file_to_figures(sim_store: Store, tmp_path: Path, trained: list[str]) -> None:
    arguments = ["study", EXAMPLE, "--store", sim_store.root, "--out", tmp_path]
    overrides = [*QUICK, "arm=[{name='small'},{name='wide',encoder={d_model=32}}]"]
    words = [*map(str, arguments), *(w for o in overrides for w in ("-o", o))]
    told = CliRunner().invoke(app, [*words, "--dry-run"])
    assert told.exit_code == 0, told.stderr
    assert "flops/token" in told.stdout
    assert not trained
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, (told.stderr, told.exception)
    names = {"results.json", "table.csv", "table.md", "validation-tokens.png", "validation-flops.png"}
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == names | {"validation-curve.png", "costs.json"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in tmp_path.glob("*.png"))
    results = json.loads((tmp_path / "results.json").read_text())
    rows = pl.DataFrame(results["rows"], infer_schema_length=None)
    assert not results["failures"]
    assert len(set(trained)) == len(trained)
    # Equal seeds see the same batches: to the token at equal tokens, and about the same work at equal work.
    equal = rows.filter(pl.col("budget") == "tokens").group_by("seed").agg(pl.col("tokens").n_unique())
    assert set(equal["tokens"]) == {1}
    work = rows.filter(pl.col("budget") == "flops")["flops"]
    assert 0.8 < work.min() / work.max() <= 1
    table = pl.read_csv(tmp_path / "table.csv")
    assert table["seeds"].unique().to_list() == [2]
    assert set(table.filter(pl.col("arm") == "small")["difference"]) == {None}
    assert table.filter(pl.col("arm") != "small").drop("own_low", "own_high").null_count().sum_horizontal().item() == 0
    page = (tmp_path / "table.md").read_text()
    assert "| validation call " in page
    assert "less small" in page
    log = [json.loads(x) for x in next((tmp_path / "runs").glob("wide-*seed1/log.jsonl")).read_text().splitlines()]
    assert (
        log[-1]["validation/call"] in rows.filter(pl.col("arm") == "wide", pl.col("what") == "validation call")["value"]
    )


def test_a_killed_study_goes_on_and_does_nothing_twice(
    sim_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    config = example("budget={tokens=1500}", "seeds=[0]")
    counting = study.pretrain

    def killed(*arguments):
        if trained:
            raise KeyboardInterrupt("stopped after step 1; the same command goes on from there")
        return counting(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(study, "pretrain", killed)
        with pytest.raises(KeyboardInterrupt, match="goes on"):
            run_study(config, sim_store, tmp_path, progress=False)
    [first] = (tmp_path / "runs").iterdir()
    files = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    whole = run_study(config, sim_store, tmp_path, progress=False)
    assert [name.partition("-")[0] for name in trained] == ["small", "wide", "deep"]
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == files
    assert whole.rows["arm"].unique(maintain_order=True).to_list() == ["small", "wide", "deep"]

    # An option that came later is no other configuration, a measure that is gone is made again without training, and a
    # run without weights goes on from its checkpoint.
    known = json.loads((first / "config.json").read_text())
    (first / "config.json").write_text(json.dumps({k: v for k, v in known.items() if k != "since"}))
    (first / "measures" / "validation.json").unlink()
    assert run_study(config, sim_store, tmp_path, progress=False).rows.equals(whole.rows)
    assert len(trained) == 3
    (first / "config.json").write_text(json.dumps(known))
    (first / "weights.safetensors").unlink()
    logged = (first / "log.jsonl").read_text()
    run_study(config, sim_store, tmp_path, progress=False)
    assert len(trained) == 4
    assert (first / "weights.safetensors").exists()
    assert (first / "log.jsonl").read_text() == logged


def test_an_arm_that_fails_is_told_and_the_others_go_on(
    sim_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["budget={tokens=1500}", "seeds=[0]", "arm=[{name='good'},{name='bad',train={lr=1e30}},{name='odd'}]"]
    validation = study.MEASURES["validation"]

    def picky(run: Path, *rest):
        if run.name.startswith("odd"):
            raise IndexError("no such row")
        return validation(run, *rest)

    with monkeypatch.context() as patch:
        patch.setitem(study.MEASURES, "validation", picky)
        result = run_study(example(*overrides), sim_store, tmp_path, progress=False)
    assert set(result.rows["arm"]) == {"good"}
    sentences = {run.partition(",")[0]: sentence for run, sentence in result.failures.items()}
    assert "is not finite" in sentences["bad"]
    assert sentences["odd"] == "IndexError: no such row"
    assert "in picky" in next(tmp_path.glob("runs/odd*/error.txt")).read_text()
    write_study(result, tmp_path)
    assert sentences["bad"] in (tmp_path / "table.md").read_text()
    words = ["study", str(EXAMPLE), "--store", str(sim_store.root), "--out", str(tmp_path)]
    told = CliRunner().invoke(app, [*words, *(w for o in [*QUICK, *overrides] for w in ("-o", o))])
    assert told.exit_code == 2
    assert "error: 1 runs failed" in told.stderr.replace("\n", " ")
    assert not list(tmp_path.glob("runs/odd*/error.txt"))


@pytest.mark.slow
def test_runs_spread_over_ray_are_those_of_one_machine(
    sim_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ray")
    overrides = ["budget={tokens=1500}", "seeds=[0]", "arm=[{name='good'},{name='bad',train={lr=1e30}}]"]
    config = example(*overrides)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as a job has
    here = run_study(config, sim_store, tmp_path / "here", progress=False)
    torch.set_num_threads(threads)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "costs.json").write_text((tmp_path / "here" / "costs.json").read_text())
    there = run_study(config, sim_store, tmp_path / "there", progress=False, cluster="local")
    assert there.rows.drop("seconds").equals(here.rows.drop("seconds"))
    assert there.failures == here.failures
    assert "is not finite" in next(iter(there.failures.values()))
    assert "not finite" in next(tmp_path.glob("there/runs/bad*/error.txt")).read_text()
    with caplog.at_level("INFO", "fullcount"):
        run_study(config, sim_store, tmp_path / "there", progress=False)
    assert "1 of 2 runs are finished and are skipped" in caplog.text


def test_a_cluster_needs_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FullcountError, match="pip install"):
        next(over_ray(len, [("a",)], "local"))


def test_another_configuration_in_the_same_folder_fails_by_name(sim_store: Store, tmp_path: Path) -> None:
    quick = ["budget={tokens=1500}", "seeds=[0]", "arm=[{name='one'}]"]
    run_study(example(*quick), sim_store, tmp_path, progress=False)
    result = run_study(example(*quick, "base.train.lr=0.1"), sim_store, tmp_path, progress=False)
    [sentence] = result.failures.values()
    assert "started with another train.lr (0.002, now 0.1)" in sentence
    assert [p.name for p in write_study(result, tmp_path)] == ["results.json"]  # there is nothing to compare


def test_the_probe_is_a_measure(sim_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(run: Path, store: Store, config: ProbeConfig, progress: bool) -> pl.DataFrame:
        rows = [
            {"role": "batter", "target": target, "measure": "r", "value": value, "low": 0.1, "high": 0.9}
            for target, value in (("K%", config.draws / 100), ("HR%", math.nan))
        ]
        return pl.DataFrame(rows)

    monkeypatch.setattr(study, "probe", probe)
    quick = ["budget={tokens=1500}", "seeds=[0]", "arm=[{name='one'}]", "show=['probe*']"]
    for draws in (50, 70):  # with other options it is asked again
        result = run_study(example(*quick, f"measures.probe.draws={draws}"), sim_store, tmp_path, progress=False)
        found = {row["what"]: row for row in result.rows.iter_rows(named=True)}
        assert found["probe batter K% r"]["value"] == draws / 100
    assert found["probe batter HR% r"]["value"] is None
    write_study(result, tmp_path)
    page = (tmp_path / "table.md").read_text()
    assert "| probe batter K% r | one |     1 | .7000 | [.1000, .9000] |" in page
    assert "validation" not in page


# ---------------------------------------------------------------------------------------------------------- the table


def test_t_interval() -> None:
    value, low, high = t_interval(np.array([1.0, 2.0, 3.0]))
    assert (value, low, high) == pytest.approx((2.0, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert t_interval(np.array([4.0]))[0] == 4.0
    assert math.isnan(t_interval(np.array([4.0]))[1])


def test_differences_pair_equal_seeds() -> None:
    config = example("arm=[{name='a'},{name='b'}]")
    cost = {"budget": "tokens", "share": 1.0, "steps": 2, "tokens": 10, "flops": 5.0, "seconds": 1.0}
    found = {"a": {0: 1.0, 1: 5.0, 2: 9.0}, "b": {2: 9.3, 1: 5.2, 0: 1.1, 3: 100.0, 4: None}}
    rows = [
        {"arm": arm, "seed": seed, **cost, "measure": "m", "what": "m r", "value": value}
        for arm, values in found.items()
        for seed, value in values.items()
    ]
    table = summary(StudyResult(config, [], pl.DataFrame(rows, infer_schema_length=None), {}))
    assert table["arm"].to_list() == ["a", "b"]
    assert table["seeds"].to_list() == [3, 4]
    a, b = table.iter_rows(named=True)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (a["mean"], a["difference"]) == (5.0, None)
    assert b["difference"] == pytest.approx(0.2)
    assert (b["difference_low"], b["difference_high"]) == pytest.approx((0.2 - half, 0.2 + half))
