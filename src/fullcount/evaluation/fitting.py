"""Ways of fitting side by side: every method at every task on one encoder, beside the prior alone.

A study's measure (`[measures.fitting]`): what is fitted is tables of `FinetuneConfig` keys, laid over one another.

    [measures.fitting.fit]            # of every fit
    before = 2019-03-01

    [measures.fitting.tasks.starts]   # what is predicted, from which window
    role = "pitcher"
    grain = "game"

    [measures.fitting.methods.adapters]
    adaptation = "adapters"

Methods with the same window and number of steps read the same batches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError, model_validator

from fullcount.adaptation.performance import SampleSource
from fullcount.adaptation.samples import Samples
from fullcount.adaptation.schedule import scheduled
from fullcount.config import FinetuneConfig, in_words, laid_over, settled
from fullcount.errors import FullcountError
from fullcount.evaluation.metrics import Interval, spelt_out
from fullcount.evaluation.probe import Floats, Judged, draw, versus
from fullcount.fields import OUTCOMES
from fullcount.priors import Priors
from fullcount.store import Store
from fullcount.training.jobs import finetune, load_task
from fullcount.training.run import Run
from fullcount.windows import History

#: What is judged: the rate of a season, or the count of a game, of these outcomes.
TARGETS = {"season": {"K%": "K", "BB%": "BB", "HR%": "HR"}, "game": {"SO": "K"}}
PRIOR = "prior alone"


class FittingConfig(Judged):
    """Tasks x methods; see the module."""

    fit: dict[str, Any] = Field({})
    prior: dict[str, Any] = Field({})  # of the head that reads the prior alone
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    methods: dict[str, dict[str, Any]] = Field(min_length=1)

    def configured(self, seed: int) -> Iterator[tuple[str, str, FinetuneConfig]]:
        """Task, method and configuration of every fit, the prior alone first at each task."""
        methods = {PRIOR: {**self.prior, "adaptation": "linear", "use_embedding": False}, **self.methods}
        for task, asked in self.tasks.items():
            for method, changes in methods.items():
                keys = laid_over(laid_over(self.fit, asked), changes)
                yield task, method, FinetuneConfig.model_validate(laid_over(keys, {"train": {"seed": seed}}))

    @model_validator(mode="after")
    def _fits(self) -> FittingConfig:
        try:
            fits = list(self.configured(0))
        except ValidationError as error:
            raise ValueError(in_words(error)) from error
        for task, method, config in fits:
            if config.leagues is not None:
                raise ValueError(f"{task}, {method}: leagues: here all is judged on the main league")
            if config.before > date(self.judged[0], 3, 1):
                raise ValueError(f"{task}, {method}: fitted to {config.before}, but judged on {self.judged[0]}")
        return self


def fitting(run: Path, store: Store, config: FittingConfig, progress: bool = False) -> pl.DataFrame:
    """Fit and judge (fitted runs lie in `run`/fitted and are not fitted again).

    Returns:
        Long table: task, method, target, figure and value, low, high. Figures of a target are those of `probe.versus`;
        those of a method (target "fit") are trained parameters, their share, tokens read in training (samples, where
        the encoder is frozen) and seconds, which depend on what was encoded and kept before.
    """
    seed = int(Run(run).config()["train"]["seed"])
    priors = Priors(store)
    rows: list[dict[str, Any]] = []
    base: Floats | None = None
    for task, method, asked in config.configured(seed):
        fit = settled(asked, store, asked.before)
        out = run / "fitted" / f"{task}-{method}".replace(" ", "_")
        cost = _fitted(fit, store, run, out, progress, priors)
        history = History(store, fit.history_window())
        found = scheduled(draw(store, history, priors, fit.grain, config, config.judged), store, priors, fit.schedule)
        actual, predicted, w = _predicted(out, found, history, priors, fit)
        if method == PRIOR:
            base, first = predicted, found
        assert base is not None
        if not (np.array_equal(found.player, first.player) and np.array_equal(found.day, first.day)):
            raise FullcountError(f"{task}, {method}: judged on other samples than the prior alone: other appearances?")
        for i, target in enumerate(TARGETS[fit.grain]):
            figures = versus(found, actual[:, i], base[:, i], predicted[:, i], w, config)
            if method == PRIOR:
                del figures["gain"]
            rows += [_row(task, method, target, name, value) for name, value in figures.items()]
        rows += [_row(task, method, "fit", name, value) for name, value in cost.items()]
    text = dict.fromkeys(("task", "method", "target", "figure"), pl.String())
    return pl.DataFrame(rows, schema=text | dict.fromkeys(("value", "low", "high"), pl.Float64()))


def _fitted(
    fit: FinetuneConfig, store: Store, encoder: Path, out: Path, progress: bool, priors: Priors
) -> dict[str, float]:
    """Fit where that is not done yet; what it cost."""
    kept = out / "cost.json"
    if kept.exists():
        done = json.loads(kept.read_text())
        if FinetuneConfig.model_validate(done["config"]) != fit:
            raise FullcountError(f"{out}: fitted with another configuration; use another name or folder")
        return {name: float(value) for name, value in done["cost"].items()}
    began = time.perf_counter()
    summary = finetune(fit, store, encoder, out, progress, priors)
    cost = {name: float(summary[name]) for name in ("trained", "trained_share", "tokens")}
    cost["seconds"] = time.perf_counter() - began
    kept.write_text(json.dumps({"config": fit.model_dump(mode="json"), "cost": cost}, indent=1))
    return cost


def _predicted(
    run: Path, found: Samples, history: History, priors: Priors, fit: FinetuneConfig
) -> tuple[Floats, Floats, Floats]:
    """What happened [m, targets], what was expected of it, and the weight [m] of each sample."""
    fitted = load_task(run)
    source = SampleSource(fitted.task, history, priors, found, fitted.cache(history, priors), progress=False)
    places = [OUTCOMES.index(outcome) for outcome in TARGETS[fit.grain].values()]
    expected = source.expected()[:, [p - 1 for p in places]]
    counts = found.targets.counts.numpy().astype(np.float64)[:, places]
    exposure = found.targets.exposure.numpy().astype(np.float64)
    if fit.grain == "game":
        return counts, expected, np.ones(len(found))
    return counts / exposure[:, None], expected, exposure


def _row(task: str, method: str, target: str, figure: str, value: float | Interval) -> dict[str, Any]:
    return {"task": task, "method": method, "target": target, "figure": figure, **spelt_out(value)}
