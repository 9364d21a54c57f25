"""Studies: configurations x seeds at an equal budget, measured alike, finished runs never run twice.

A study file has a base configuration, arms that change it, axes whose product changes it further, and what each run
may cost:

    seeds = [0, 1, 2]

    [budget]                       # either or both; with both every arm is run under each
    tokens = 20_000_000
    flops = 2e15
    shares = [0.25, 0.5, 1.0]      # a curve: smaller budgets are runs of their own, with complete schedules

    [base]                         # as for `fullcount pretrain`
    before = 2019-01-01

    [[arm]]                        # the first arm is what the others are compared with
    name = "masked"

    [[arm]]
    name = "next event"
    objectives = "next_event"

    [axes]                         # "key.path" = [values], or a table of named values
    "encoder.layers" = [2, 4]

    [measures]                     # what is asked of every trained encoder, with its options
    validation = {}

The table is judged by seed: intervals are over seeds, differences from the first arm pair equal seeds, whose runs see
the same batches in the same order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, ValidationError, field_validator, model_validator
from scipy import stats

from fullcount.config import Base, PretrainConfig, laid_over, settled
from fullcount.errors import FullcountError
from fullcount.evaluation.cluster import over_ray
from fullcount.evaluation.fitting import FittingConfig, fitting
from fullcount.evaluation.metrics import Array, Interval
from fullcount.evaluation.probe import ProbeConfig, probe
from fullcount.store import Store
from fullcount.training.jobs import build_pretraining, pretrain
from fullcount.training.run import Run
from fullcount.training.work import Cost, measure

log = logging.getLogger("fullcount")

BudgetName = Literal["tokens", "flops"]
#: What a study decides for all its runs alike, so that no arm may set it.
_STUDYS_OWN = {"steps", "seed", "monitor", "devices", "accumulate"}


class Budget(Base):
    """What each run may cost: tokens seen, floating-point operations (see `training.work`), or both in turn."""

    tokens: PositiveFloat | None = None
    flops: PositiveFloat | None = None
    shares: tuple[PositiveFloat, ...] = Field((1.0,), min_length=1)

    @model_validator(mode="after")
    def _one_at_least(self) -> Budget:
        if not self.named():
            raise ValueError("give tokens, flops or both")
        return self

    def named(self) -> dict[BudgetName, float]:
        """The budgets that are given."""
        found: dict[BudgetName, float | None] = {"tokens": self.tokens, "flops": self.flops}
        return {name: value for name, value in found.items() if value is not None}


class Validation(Base):
    """The raw losses at the end on the months of play kept from training; no options."""


class Measures(Base):
    """What is asked of every trained encoder, each with its options: a field here, a line in `MEASURES`."""

    validation: Validation | None = Validation()
    probe: ProbeConfig | None = None
    fitting: FittingConfig | None = None

    def asked(self) -> Iterator[tuple[str, Base]]:
        """Name and options of each measure that is not switched off."""
        return ((name, options) for name, options in self if options is not None)


class StudyConfig(Base):
    """A study. In a file `base`, `arm` and `axes` stand for `arms` (see `expand`)."""

    name: str
    arms: dict[str, PretrainConfig] = Field(min_length=1)  # the first is the reference
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    budget: Budget
    measures: Measures = Measures()
    show: tuple[str, ...] = (
        "*",
    )  # which figures the table and the graphs show, e.g. "probe * K% * r"; the CSV has all

    @model_validator(mode="before")
    @classmethod
    def _expanded(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "arms" in data:
            return data
        data = dict(data)
        return data | {"arms": expand(*(data.pop(key, None) for key in ("base", "arm", "axes")))}

    @field_validator("arms")
    @classmethod
    def _equal_terms(cls, arms: dict[str, PretrainConfig]) -> dict[str, PretrainConfig]:
        for name, arm in arms.items():
            if own := sorted(_STUDYS_OWN & arm.train.model_fields_set):
                raise ValueError(f"arm {name!r} sets train.{own[0]}, which the study does for all arms alike")
        folders = [_folder(name) for name in arms]
        if twice := sorted({f for f in folders if folders.count(f) > 1}):
            raise ValueError(f"two arms would share the folder {twice[0]!r}: give them other names")
        return arms

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands there twice")
        return seeds


def expand(base: Any, arms: Any, axes: Any) -> dict[str, dict[str, Any]]:
    """Each arm crossed with the product of the axes, laid over the base: name -> keys of a `PretrainConfig`.

    Args:
        base: keys of a `PretrainConfig`. arms: list of such keys with a `name`; none is one arm without changes.
        axes: "key.path" -> list of values, or table of name -> value.

    Raises:
        ValueError: an arm without a name, an axis without values, two arms of one name.
    """
    for value, kind, what in ((base, dict, "[base]"), (arms, list, "[[arm]]"), (axes, dict, "[axes]")):
        if not isinstance(value, kind | None):
            raise ValueError(f"{what} is not a table of keys")
    arms = [{"name": ""}] if arms is None else arms
    if not all(isinstance(arm, dict) and isinstance(arm.get("name"), str) for arm in arms):
        raise ValueError("every [[arm]] needs a name")
    choices = [[(arm["name"], {k: v for k, v in arm.items() if k != "name"}) for arm in arms]]
    last = [path.rpartition(".")[2] for path in axes or {}]
    for path, values in (axes or {}).items():
        if not isinstance(values, list | dict) or not values:
            raise ValueError(f'axes: "{path}" needs a list of values')
        short = path.rpartition(".")[2]
        label = short if last.count(short) == 1 else path
        named = values if isinstance(values, dict) else {_text(v): v for v in values}
        if len(named) < len(values):
            raise ValueError(f'axes: "{path}" has a value twice')
        choices.append([(f"{label}={name}", _nested(path, value)) for name, value in named.items()])
    found: dict[str, dict[str, Any]] = {}
    for combination in product(*choices):
        name = " ".join(label for label, _ in combination if label) or "base"
        if name in found:
            raise ValueError(f"two arms are called {name!r}")
        found[name] = reduce(laid_over, (changes for _, changes in combination), base or {})
    return found


@dataclass(frozen=True)
class Trial:
    """An arm under a budget: a run for each seed."""

    arm: str
    budget: BudgetName
    share: float
    steps: int
    cost: Cost
    config: PretrainConfig

    @property
    def tokens(self) -> float:
        """Tokens planned for a run."""
        return self.steps * self.cost.tokens_per_step

    @property
    def flops(self) -> float:
        """Floating-point operations planned for a run."""
        return self.steps * self.cost.flops_per_step

    @property
    def seconds(self) -> float:
        """Estimated time of training a run, on this machine."""
        return self.tokens * self.cost.seconds_per_token

    def seeded(self, seed: int) -> PretrainConfig:
        """The configuration of the run with this seed."""
        train = self.config.train.model_copy(update={"steps": self.steps, "seed": seed})
        return self.config.model_copy(update={"train": train})

    def folder(self, out: Path, seed: int) -> Path:
        """Where that run is. Budgets that come to the same number of steps share it."""
        return out / "runs" / f"{_folder(self.arm)}-{self.steps}steps-seed{seed}"


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        rows: long form. arm, budget, share, seed, steps, tokens, flops, seconds, measure, `what` (the figure in words)
            and the columns of the measure's table, `value` among them. Without the runs that failed.
        failures: sentence by run, "ARM, seed N, STEPS steps".
    """

    config: StudyConfig
    plan: Sequence[Trial]
    rows: pl.DataFrame
    failures: Mapping[str, str]


def plan(config: StudyConfig, store: Store, out: Path) -> list[Trial]:
    """The trials of a study: steps follow from the budgets and from what a step of each arm costs.

    Costs are measured on real batches and kept in `out`, so that a study that goes on has the same steps.

    Raises:
        FullcountError: names the arm that cannot be built, for which a budget is less than half a step, or whose
            phases cost differently where there is a budget of operations.
    """
    trials = []
    for name, asked in config.arms.items():
        try:
            arm = settled(asked, store, asked.before)
            cost = _cost(arm, store, out)
        except FullcountError as error:
            raise FullcountError(f"arm {name!r}: {error}") from error
        if config.budget.flops is not None and math.isnan(cost.flops_per_token):
            raise FullcountError(f"arm {name!r}: two_phase: its phases cost differently; give a budget of tokens alone")
        for budget, amount in config.budget.named().items():
            for share in config.budget.shares:
                steps = round(share * amount / (cost.tokens_per_step if budget == "tokens" else cost.flops_per_step))
                if not steps:
                    raise FullcountError(f"arm {name!r}: {share:g} of the budget of {budget} is less than a step")
                trials.append(Trial(name, budget, share, steps, cost, arm))
    return trials


def run_study(
    config: StudyConfig, store: Store, out: Path, progress: bool = True, cluster: str | None = None
) -> StudyResult:
    """Train and measure what is not there yet, seed after seed, and gather all results.

    A run that stopped goes on; one that fails is recorded, and the same call tries it again. A measure that is new or
    has other options is made again without training.

    Args:
        cluster: address of a Ray cluster over which the runs are spread, "local" for one begun here (see
            `cluster.over_ray`); all its machines have the folders of store and study. None: one after another.

    Raises:
        KeyboardInterrupt: after the run has saved its state; the same call goes on from there.
    """
    trials = plan(config, store, out)
    runs = {t.folder(out, seed): (t, seed) for seed in config.seeds for t in trials}
    todo = [path for path, (trial, seed) in runs.items() if not _finished(path, config, trial, seed, store)]
    if len(todo) < len(runs):
        log.info(f"{len(runs) - len(todo)} of {len(runs)} runs are finished and are skipped")
    failures: dict[Path, str] = {}
    spent = estimated = 0.0
    remaining = {path: runs[path][0].seconds for path in todo}

    def ended(path: Path, failure: str | None) -> None:
        if failure is not None:
            failures[path] = failure
            log.error(f"{_run_name(*runs[path])}: {failure}")

    if cluster is not None:
        jobs = [(config, *runs[path], store.root.resolve(), path.resolve()) for path in todo]
        for number, failure in over_ray(_carry_out_there, jobs, cluster):
            log.info(f"run {number + 1} of {len(todo)} has ended: {_run_name(*runs[todo[number]])}")
            ended(todo[number], failure)
    else:
        for number, path in enumerate(todo, 1):
            left = timedelta(seconds=round(sum(remaining.values()) * (spent / estimated if estimated else 1)))
            log.info(f"run {number} of {len(todo)}: {_run_name(*runs[path])}; about {left} left")
            started = time.perf_counter()
            ended(path, _carry_out(config, *runs[path], store, path, progress))
            spent, estimated = spent + time.perf_counter() - started, estimated + remaining.pop(path)
    records = [
        record
        for seed in config.seeds
        for trial in trials
        if (path := trial.folder(out, seed)) not in failures
        for record in _records(trial, seed, path, config.measures)
    ]
    told = {_run_name(*runs[path]): sentence for path, sentence in failures.items()}
    return StudyResult(config, trials, pl.DataFrame(records, infer_schema_length=None).fill_nan(None), told)


def _carry_out(config: StudyConfig, trial: Trial, seed: int, store: Store, path: Path, progress: bool) -> str | None:
    """Train and measure one run, as far as it is not done; returns what went wrong in a sentence, or None."""
    try:
        (path / "error.txt").unlink(missing_ok=True)
        if not _trained(path, trial.seeded(seed), store):
            pretrain(trial.seeded(seed), store, path, progress)
        for name, options in config.measures.asked():
            if not _is_measured(path, name, options):
                rows = _in_words(name, MEASURES[name](path, store, options))
                _write(_measured(path, name), {"options": _plain(options), "rows": rows})
    except Exception as error:  # whatever went wrong with one arm, the others are worth having
        path.mkdir(parents=True, exist_ok=True)
        (path / "error.txt").write_text(traceback.format_exc())
        return str(error) if isinstance(error, FullcountError) else f"{type(error).__name__}: {error}"
    return None


def _carry_out_there(config: StudyConfig, trial: Trial, seed: int, store: Path, path: Path) -> str | None:
    """`_carry_out` on another machine, which has the folders too."""
    return _carry_out(config, trial, seed, Store.open(store), path, progress=False)


def costs(trials: Iterable[Trial]) -> pl.DataFrame:
    """arm, budget, share, steps, tokens, flops (null where not known) and seconds a run, flops a token, as planned."""
    return pl.DataFrame(
        [
            {
                "arm": t.arm,
                "budget": t.budget,
                "share": t.share,
                "steps": t.steps,
                "tokens": t.tokens,
                "flops": t.flops,
                "flops a token": t.cost.flops_per_token,
                "seconds": t.seconds,
            }
            for t in trials
        ]
    ).fill_nan(None)


def summary(result: StudyResult) -> pl.DataFrame:
    """Over seeds: budget, share, measure, what, arm, seeds, steps, tokens, flops, seconds, mean, low, high.

    And the difference from the first arm on the same seeds: difference, difference_low, difference_high. Intervals
    are 95 % t-intervals over seeds, null for a single one. A figure that is missing for a seed does not count there.
    own_low, own_high: the measure's own interval (say, over players), mean over seeds.
    """
    known = result.rows.filter(pl.col("value").is_not_null()) if result.rows.height else result.rows
    if known.is_empty():
        raise FullcountError(f"study {result.config.name}: no run has ended, so there is nothing to compare")
    known = known.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("low", "high") if c not in known.columns)
    reference = next(iter(result.config.arms))
    place = {arm: i for i, arm in enumerate(result.config.arms)}
    table = []
    for (budget, share, measured, what), part in known.group_by(
        "budget", "share", "measure", "what", maintain_order=True
    ):
        values = {
            str(arm): dict(own.select("seed", "value").iter_rows())
            for (arm,), own in part.group_by("arm", maintain_order=True)
        }
        for arm in sorted(values, key=place.__getitem__):
            own, first = values[arm], values.get(reference, {})
            spread = t_interval(np.array(list(own.values())))
            paired = np.array([value - first[seed] for seed, value in own.items() if seed in first])
            apart = t_interval(paired) if arm != reference and len(paired) else (None, None, None)
            mean = part.filter(pl.col("arm") == arm).mean()
            cost, bounds = (
                mean.select("steps", "tokens", "flops", "seconds"),
                mean.select(own_low="low", own_high="high"),
            )
            table.append(
                {
                    "budget": budget,
                    "share": share,
                    "measure": measured,
                    "what": what,
                    "arm": arm,
                    "seeds": len(own),
                    **cost.row(0, named=True),
                    **dict(zip(("mean", "low", "high"), spread, strict=True)),
                    **bounds.row(0, named=True),
                    **dict(zip(("difference", "difference_low", "difference_high"), apart, strict=True)),
                }
            )
    return pl.DataFrame(table, infer_schema_length=None).fill_nan(None)


def t_interval(values: Array) -> Interval:
    """Mean and its 95 % t-interval (n,), mean ± t(.975, n - 1) sd / √n; nan bounds for a single value."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half)


def validation(run: Path, store: Store, options: Base) -> pl.DataFrame:
    """The last validation losses of a pre-training run: loss, value (nats, unless the objective says otherwise)."""
    logged = [r for r in Run(run).records() if any(k.startswith("validation/") for k in r)]
    losses = {k.removeprefix("validation/"): v for k, v in logged[-1].items() if k != "step"}
    return pl.DataFrame({"loss": list(losses), "value": list(losses.values())})


def _probe(run: Path, store: Store, options: ProbeConfig) -> pl.DataFrame:
    return probe(run, store, options, progress=False).rename({"measure": "figure"})


#: Measure -> (run directory, store, options) -> long table: text columns that together name a figure, and its `value`.
#: What else it has (say, an interval of the measure's own) is kept in the results.
MEASURES: dict[str, Callable[[Path, Store, Any], pl.DataFrame]] = {
    "validation": validation,
    "probe": _probe,
    "fitting": fitting,
}


def _cost(config: PretrainConfig, store: Store, out: Path) -> Cost:
    kept = out / "costs.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    key = hashlib.sha256(f"{config.model_dump_json()} {store.fingerprint()}".encode()).hexdigest()[:16]
    if key not in known:
        objective, train, _ = build_pretraining(config, store)
        known[key] = _plain(measure(objective, train.batch))
        _write(kept, known)
    return Cost.model_validate(known[key])


def _finished(path: Path, config: StudyConfig, trial: Trial, seed: int, store: Store) -> bool:
    return _trained(path, trial.seeded(seed), store) and all(_is_measured(path, *m) for m in config.measures.asked())


def _trained(path: Path, config: PretrainConfig, store: Store) -> bool:
    """Whether these weights are there; where the run's configuration is another one, `pretrain` says in what.

    The configuration is read as it would be today, so that an option the run did not know has its default.
    """
    run = Run(path)
    if not run.weights.exists():
        return False
    found = run.config()
    facts, _ = found.pop("facts"), found.pop("job")
    try:
        return facts["data"] == store.fingerprint() and _plain(PretrainConfig.model_validate(found)) == _plain(config)
    except ValidationError:
        return False


def _measured(path: Path, name: str) -> Path:
    return path / "measures" / f"{name}.json"


def _is_measured(path: Path, name: str, options: Base) -> bool:
    kept = _measured(path, name)
    return kept.exists() and json.loads(kept.read_text())["options"] == _plain(options)


def _in_words(measure: str, table: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows of a measure's table, each with what it is in words; what is not finite is None."""
    keys = [c for c in table.columns if not table[c].dtype.is_numeric()]
    rows = table.with_columns(pl.col(pl.Float64).replace([math.nan, math.inf, -math.inf], None)).iter_rows(named=True)
    return [{"measure": measure, "what": " ".join([measure, *(str(row[k]) for k in keys)]), **row} for row in rows]


def _run_name(trial: Trial, seed: int) -> str:
    return f"{trial.arm}, seed {seed}, {trial.steps} steps"


def _records(trial: Trial, seed: int, path: Path, measures: Measures) -> list[dict[str, Any]]:
    last = [r for r in Run(path).records() if "tokens" in r][-1]
    run = {
        "arm": trial.arm,
        "budget": trial.budget,
        "share": trial.share,
        "seed": seed,
        "steps": trial.steps,
        "tokens": last["tokens"],
        "flops": last["tokens"] * trial.cost.flops_per_token,
        "seconds": last["seconds"],
    }
    kept = (json.loads(_measured(path, name).read_text())["rows"] for name, _ in measures.asked())
    return [run | row for rows in kept for row in rows]


def _folder(name: str) -> str:
    return re.sub(r"[^\w.=+,-]+", "_", name).lower()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, separators=(",", ":"))


def _nested(path: str, value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], reduce(lambda inner, key: {key: inner}, reversed(path.split(".")), value))


def _plain(options: Any) -> dict[str, Any]:
    return cast(dict[str, Any], options.model_dump(mode="json"))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(content, indent=1))
    scratch.replace(path)
