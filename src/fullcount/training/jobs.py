"""The two jobs: pre-train an encoder, fit it to a target. Each is one run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import polars as pl
import torch
from torch import Tensor, nn

from fullcount.adaptation.performance import EmbeddingCache, PerformanceTask, SampleBatch, SampleSource, pass_steps
from fullcount.adaptation.samples import samples
from fullcount.adaptation.schedule import WIDTH as SCHEDULE_WIDTH
from fullcount.adaptation.schedule import scheduled
from fullcount.batches import Sampler
from fullcount.config import FinetuneConfig, PretrainConfig, settled
from fullcount.errors import FullcountError
from fullcount.model.embedder import EventEmbedder
from fullcount.model.encoders import build_encoder
from fullcount.model.prefix import Prefix
from fullcount.model.transformer import EncoderConfig, GamestateTransformer, mean_of_events
from fullcount.objectives.base import Data, Losses, Objective
from fullcount.objectives.combination import Combination
from fullcount.priors import Priors
from fullcount.store import Store, day_number
from fullcount.training.devices import device, processes
from fullcount.training.loop import fit
from fullcount.training.run import Run, fingerprint
from fullcount.windows import History


def build_pretraining(config: PretrainConfig, store: Store) -> tuple[Objective, Sampler, Sampler]:
    """The objective of a configuration on a new encoder, and the samplers of its training and validation batches."""
    torch.manual_seed(config.train.seed)
    encoder = build_encoder(config.encoder)
    priors = Priors(store) if config.encoder.reads_priors else None
    windows = tuple(config.window(role) for role in config.roles)
    played = store.games.filter(pl.col("date") < config.before)["date"].max()
    if played is None:
        raise FullcountError(f"the store has no game before {config.before}: ingest earlier seasons")
    held = cast(date, played) - timedelta(days=config.validation_days)

    def sampler(since: date, before: date, seed: int, **changes: Any) -> Sampler:
        return Sampler(
            store,
            windows,
            since=since,
            before=before,
            tokens=config.batch_tokens,
            seed=seed,
            priors=priors,
            **config.encoder.inputs,
            **changes,
        )

    train = sampler(
        config.since,
        held,
        config.train.seed,
        league_balance=config.league_balance,
        curriculum=config.curriculum,
        steps=config.train.steps,
    )
    check = sampler(held, config.before, config.train.seed + 7919)
    data = Data(store, config.before, train)
    built: dict[str, Objective] = {o.kind: o.build(encoder, data) for o in config.objectives}
    if len(built) == 1 and config.weighting == "fixed":
        return built[config.objectives[0].kind], train, check
    weights: dict[str, float] = {o.kind: o.weight for o in config.objectives}
    return Combination(encoder, built, weights, config.weighting), train, check


def pretrain(
    config: PretrainConfig,
    store: Store,
    out: Path,
    progress: bool = True,
    init: Path | None = None,
    begun: Callable[[Sampler], None] | None = None,
) -> dict[str, Any]:
    """Pre-train an encoder, or go on with the run in `out`. Returns the summary of `loop.fit`.

    Args:
        init: a pre-training run of the same objectives and shape whose weights to begin with.
        begun: called with the sampler of the training batches once `out` is there (say, to draw its curriculum).
    """
    config = settled(config, store, config.before)
    task, train, check = build_pretraining(config, store)
    facts: dict[str, Any] = {"data": store.fingerprint(), "cutoff": config.before.isoformat(), "seen": train.seen()}
    if init is not None:
        facts["init"] = _begin_with(task, init, config)
        facts["seen"] = _both_seen(facts["seen"], Run(init).config()["facts"].get("seen"))
    run = Run(out)
    run.begin(
        {"job": "pretrain", **config.model_dump(mode="json")},
        facts,
    )
    if begun is not None:
        begun(train)
    here = device()

    @torch.no_grad()
    def validate(module: nn.Module) -> dict[str, float]:
        total = Losses()
        for step in range(4):
            total.include(module(check.batch(step).to(here)))
        return total.means()

    if config.untrained:
        seen = {"step": 0, "tokens": 0, "seconds": 0.0}
        run.save(run.weights, task.saved_state(), {"step": 0, "tokens": 0})
        run.log(seen)
        run.log({"step": 0, **{f"validation/{n}": v for n, v in validate(task.to(here).eval()).items()}})
        return {"steps": 0, "tokens": 0, "seconds": 0.0}
    return fit(task, train.batch, config.train, run, validate, progress)


def _begin_with(task: Objective, init: Path, config: PretrainConfig) -> str:
    """Load the weights of a run into `task`, less its step counters; returns their fingerprint.

    Inputs and heads that the run has not begin at their initial values.
    """
    run = Run(init)
    seen = date.fromisoformat(_pretraining(run)["facts"]["cutoff"])
    if seen > config.before:
        raise FullcountError(f"{init}: has seen play up to {seen}, after before = {config.before}")
    tensors, _ = run.load(run.weights)
    known = {n: t for n, t in tensors.items() if n.rpartition(".")[2] != "steps"}
    state = task.state_dict()
    if unexpected := sorted(known.keys() - state.keys()):
        raise FullcountError(f"{init}: holds {unexpected[0]}, which this configuration has not")
    if missing := [n for n in state if n.startswith(("encoder.blocks.", "encoder.pitches.")) and n not in known]:
        raise FullcountError(f"{init}: has no {missing[0]}, so it is of another encoder than this configuration")
    if other := [n for n, t in known.items() if t.shape != state[n].shape]:
        now, was = (tuple(t.shape) for t in (state[other[0]], known[other[0]]))
        raise FullcountError(f"{init}: its {other[0]} has shape {was}, in this configuration {now}")
    task.load_state_dict(known, strict=False)
    return fingerprint(tensors)


def _both_seen(now: dict[str, dict[str, int]], before: dict[str, dict[str, int]] | None) -> dict[str, dict[str, int]]:
    """What two runs saw, the weights of one having begun with the other's. All of it where the other does not say."""
    if before is None:
        return {}
    both = {field: dict(ids) for field, ids in before.items()}
    for field, ids in now.items():
        own = both.setdefault(field, {})
        for number, pitches in ids.items():
            own[number] = own.get(number, 0) + pitches
    return both


def load_objective(path: Path, store: Store) -> tuple[Objective, PretrainConfig, date]:
    """The objective of a pre-training run with its weights, its configuration and its training cut-off."""
    run = Run(path)
    config, facts = load_pretraining(path), _pretraining(run)["facts"]
    objective, _, _ = build_pretraining(config, store)
    tensors, _ = run.load(run.weights)
    objective.load_state_dict(tensors, strict=False)
    _read_unseen_as_usual(objective, facts)
    return objective.eval(), config, date.fromisoformat(facts["cutoff"])


def load_pretraining(path: Path) -> PretrainConfig:
    """The configuration of a pre-training run."""
    whole = _pretraining(Run(path))
    return PretrainConfig.model_validate({k: v for k, v in whole.items() if k not in ("job", "facts")})


def _pretraining(run: Run) -> dict[str, Any]:
    config = run.config()
    if config.get("job") != "pretrain":
        raise FullcountError(f"{run.path}: not a pre-training run; give the folder that `fullcount pretrain` wrote")
    return config


def load_encoder(path: Path, scratch: int | None = None) -> tuple[GamestateTransformer, str, date]:
    """The encoder of a pre-training run, its fingerprint and its training cut-off.

    `scratch`: a seed; the encoder's shape with new weights in place of the trained ones.
    """
    run = Run(path)
    config = _pretraining(run)
    cutoff = date.fromisoformat(config["facts"]["cutoff"])
    if scratch is not None:
        torch.manual_seed(scratch)
    encoder = build_encoder(EncoderConfig(**config["encoder"]))
    if scratch is None:
        tensors, _ = run.load(run.weights)
        mine = {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")}
        encoder.load_state_dict(mine)
    _read_unseen_as_usual(encoder, config["facts"])
    return encoder, fingerprint(encoder.state_dict()), cutoff


def _read_unseen_as_usual(module: nn.Module, facts: dict[str, Any]) -> None:
    """See `EventEmbedder.read_unseen_as_usual`; runs of before this was recorded are left alone."""
    for part in module.modules():
        if isinstance(part, EventEmbedder) and facts.get("seen"):
            part.read_unseen_as_usual(facts["seen"])


def _encoder_of(config: FinetuneConfig, run: Path) -> tuple[GamestateTransformer, str, date]:
    """The encoder that a configuration is fitted on (see `load_encoder`)."""
    return load_encoder(run, config.train.seed if config.scratch else None)


def finetune(
    config: FinetuneConfig,
    store: Store,
    encoder_run: Path,
    out: Path,
    progress: bool = True,
    priors: Priors | None = None,
) -> dict[str, Any]:
    """Fit a head (and the encoder, as the adaptation says) on a pre-trained encoder, or go on with the run in `out`.

    `priors`: the store's, where they are already at hand.
    """
    if config.train.strategy == "fsdp" and not config.keeps_embeddings:
        raise FullcountError("strategy = fsdp: a fit asks its encoder between steps, when weights are spread; use ddp")
    encoder, name, cutoff = _encoder_of(config, encoder_run)
    if cutoff > config.before:
        raise FullcountError(f"{encoder_run}: the encoder has seen play up to {cutoff}, after before = {config.before}")
    config = settled(config, store, config.before)
    priors = Priors(store) if priors is None else priors
    history = History(store, config.history_window())
    everything = samples(
        store, history, priors, config.grain, since=config.since, before=config.before, leagues=config.leagues
    )
    everything = scheduled(everything, store, priors, config.schedule)
    if len(everything) < 20:
        raise FullcountError(f"only {len(everything)} samples before {config.before}: ingest more seasons")
    split = config.validate_since
    held = everything.season >= (split.year if split else _last_tenth(everything.season))
    if config.grain == "game":
        days = everything.day
        start = day_number(split) if split else int(sorted(days)[int(0.9 * len(days))])
        held = days >= start
    if held.all() or not held.any():
        some = "all" if held.all() else "none"
        raise FullcountError(
            f"{some} of the {len(everything)} samples would be for validation: set another validate_since, or let the "
            "samples cover more seasons (since, before)"
        )
    each, nodes = processes(os.environ, config.train.devices)
    size, batches = config.samples_per_batch(), each * nodes * config.train.accumulate
    task = build_task(config, encoder, pass_steps(int((~held).sum()), size * batches)).to(device())
    run = Run(out)  # begun only now, so that a configuration that does not fit the data leaves no run behind
    run.begin(
        {"job": "finetune", **config.model_dump(mode="json")},
        {
            "data": store.fingerprint(),
            "cutoff": config.before.isoformat(),
            "encoder": name,
            "encoder_run": str(encoder_run),
        },
    )
    cache = _cache_of(task, encoder_run, name, history, priors)
    stretch = config.samples_in_a_row()
    train = SampleSource(task, history, priors, everything.pick(~held), cache, progress, stretch)
    check = SampleSource(task, history, priors, everything.pick(held), cache, progress)
    if not run.checkpoint.exists() and config.head_first:
        finetune(config.frozen_first(), store, encoder_run, out / "head", progress, priors)
        head = Run(out / "head")
        task.load_state_dict(head.load(head.weights)[0], strict=False)
    elif not run.checkpoint.exists():
        train.scale()
    summary = fit(
        task,
        train.sampler(size, config.train.seed),
        config.train,
        run,
        lambda module: check.losses(),
        progress,
    )
    added = {n for n, _ in task.named_parameters()} & task.saved_state().keys()
    sizes = {n: p.numel() for n, p in task.named_parameters()}
    trained = sum(sizes[n] for n in added)
    return {
        **summary,
        "samples": len(train.samples),
        "validation_samples": len(check.samples),
        "trained": trained,
        "trained_share": trained / sum(sizes.values()),
    }


def _last_tenth(season: Any) -> int:
    ordered = sorted(season.tolist())
    return int(max(ordered[int(0.9 * len(ordered))], ordered[0] + 1))


def build_task(config: FinetuneConfig, encoder: GamestateTransformer, pass_steps: int = 1) -> PerformanceTask:
    """The performance task of a configuration on an encoder. `pass_steps`: of a pass over the samples."""
    torch.manual_seed(config.train.seed)
    return PerformanceTask(
        encoder,
        config.adaptation,
        role=config.role,
        grain=config.grain,
        head=config.head,
        half_lives=config.half_lives,
        use_prior=config.use_prior,
        use_opponent=config.use_opponent,
        use_embedding=config.use_embedding,
        relative=config.is_relative(),
        embedding_decay=config.embedding_decay,
        head_rate=config.head_rate,
        reads=config.reads,
        targets=config.targets,
        schedule=SCHEDULE_WIDTH if config.schedule != "none" else 0,
        pass_steps=pass_steps,
    )


def embedding_cache(
    encoder_run: Path, name: str, encoder: GamestateTransformer, history: History, priors: Priors, of: str = "games"
) -> EmbeddingCache:
    """What is embedded, games or longer stretches, kept beside an encoder (`name`: its fingerprint) for the store as
    it is now."""
    kind = "" if of == "games" else f"-{of}"
    path = encoder_run / "embeddings" / f"{name}-{history.store.fingerprint()}-{history.window.role}{kind}"
    return EmbeddingCache(path, encoder, history, priors)


def _cache_of(
    task: PerformanceTask, encoder_run: Path, name: str, history: History, priors: Priors
) -> EmbeddingCache | None:
    """None where the encoder is trained, or reads windows as a whole."""
    if not task.frozen or task.reads == "window":
        return None
    return embedding_cache(encoder_run, name, task.encoder, history, priors)


@dataclass(frozen=True)
class Fitted:
    """A fitted task, its configuration, the later of its cut-off dates, its encoder's run and fingerprint."""

    task: PerformanceTask
    config: FinetuneConfig
    cutoff: date
    encoder_run: Path
    encoder: str

    def cache(self, history: History, priors: Priors) -> EmbeddingCache | None:
        """Where its game embeddings are kept."""
        return _cache_of(self.task, self.encoder_run, self.encoder, history, priors)


def load_task(path: Path) -> Fitted:
    """The fitted task of a run.

    Raises:
        FullcountError: the encoder run is gone or holds another encoder than the one fitted on.
    """
    run = Run(path)
    whole = run.config()
    if whole.get("job") != "finetune":
        raise FullcountError(f"{path}: not a fitted run; give the folder that `fullcount finetune` wrote")
    facts = whole.pop("facts")
    whole.pop("job")
    config = FinetuneConfig.model_validate(whole)
    encoder, name, cutoff = _encoder_of(config, Path(facts["encoder_run"]))
    if name != facts["encoder"]:
        raise FullcountError(f"{path}: fitted on encoder {facts['encoder']}, but {facts['encoder_run']} holds {name}")
    task = build_task(config, encoder)
    tensors, _ = run.load(run.weights)
    task.load_state_dict(tensors, strict=False)
    return Fitted(task.to(device()).eval(), config, max(config.before, cutoff), Path(facts["encoder_run"]), name)


class Together:
    """Tasks fitted behind their own prefixes, answered by one pass of the frozen encoder that they share.

    Args:
        tasks: name -> task. All on one encoder.
    """

    def __init__(self, tasks: dict[str, PerformanceTask]) -> None:
        self.tasks = tasks
        self.encoder = next(iter(tasks.values())).encoder
        prefixes = [t.encoder.prefix for t in tasks.values() if t.encoder.prefix is not None]
        self.encoder.prefix = Prefix.joined(prefixes)

    @torch.no_grad()
    def expected(self, batch: SampleBatch) -> dict[str, Tensor]:
        """`PerformanceTask.expected` of every task. Every sequence is read once a task, all in one batch."""
        assert batch.read is not None, "representations that are ready have been read without a prefix"
        sequences, count = batch.read.sequences, len(self.tasks)
        rows = len(sequences.kind)
        vectors = mean_of_events(self.encoder, sequences.asked(count))
        return {
            name: task.expected(SampleBatch(batch.targets, task.pooled(own, batch)))
            for (name, task), own in zip(self.tasks.items(), torch.split(vectors, rows), strict=True)
        }


def load_together(runs: dict[str, Path]) -> Together:
    """The fitted tasks of several runs of prefix tuning, to be asked at once.

    Raises:
        FullcountError: a run was not fitted behind a prefix, or on another encoder than the first one.
    """
    if not runs:
        raise FullcountError("no runs to be served together")
    fitted = {name: load_task(run) for name, run in runs.items()}
    first = next(iter(fitted.values()))
    shapes = set()
    for name, one in fitted.items():
        if one.task.encoder.prefix is None:
            raise FullcountError(f"{runs[name]}: not fitted behind a prefix; use adaptation = prefix")
        if one.encoder != first.encoder:
            raise FullcountError(f"{runs[name]}: fitted on another encoder than {next(iter(runs.values()))}")
        for option in ("role", "grain", "reads", "half_lives"):
            if getattr(one.config, option) != getattr(first.config, option):
                raise FullcountError(f"{runs[name]}: has another {option} than {next(iter(runs.values()))}")
        shapes.add(one.task.encoder.prefix.shape)
    if len(shapes) > 1:
        raise FullcountError(f"prefixes of several shapes cannot stand in one batch: {', '.join(map(str, runs))}")
    return Together({name: one.task for name, one in fitted.items()})
