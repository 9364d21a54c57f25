"""One training loop for pre-training and fitting, on one device or many.

Everything random is a function of (seed, step, place), so a run's state is its weights, the optimiser's moments, the
step and the early-stopping record: stopped anywhere and resumed, it goes on bit for bit. A step has as many batches as
processes x accumulate, each with its place, whoever passes them.
"""

from __future__ import annotations

import importlib.util
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import cos, isfinite, pi
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict, Field
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from fullcount.batches import mix
from fullcount.errors import FullcountError
from fullcount.model.transformer import Block
from fullcount.objectives.base import Losses
from fullcount.training.devices import PrecisionName, StrategyName, launch, spread, whole
from fullcount.training.run import Run


class TrainConfig(BaseModel):
    """How long and how fast. `monitor` names a validation figure to be lowered; without it nothing stops early."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1000, gt=0)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1)  # share of the steps
    final_lr: float = Field(0.1, ge=0, le=1)  # the cosine ends at this share of lr
    clip: float = Field(1.0, gt=0)  # gradient norm
    seed: int = 0
    precision: PrecisionName = "auto"
    devices: int = Field(1, gt=0)  # processes to start; torchrun and srun start them themselves
    strategy: StrategyName = "auto"
    accumulate: int = Field(1, gt=0)  # batches a process passes in turn before a step; what counts is their number
    compile: bool = False  # torch.compile of the encoder's blocks
    monitor: str | None = None
    patience: int = Field(5, gt=0)  # validations without improvement
    validate_every: int = Field(200, gt=0)
    checkpoint_every: int = Field(200, gt=0)
    log_every: int = Field(20, gt=0)


class Trainable(Protocol):
    """A batch, as far as the loop is concerned."""

    @property
    def tokens(self) -> int: ...
    def to(self, device: torch.device) -> Any: ...


BatchSource = Callable[[int, int, int], Trainable]  # (step, place, places) -> batch
Validation = Callable[[nn.Module], dict[str, float]]


def parameter_groups(module: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Optimiser groups: weight decay on matrices only. A module may give its own (adaptations with several rates)."""
    own = getattr(module, "parameter_groups", None)
    if own is not None:
        return own(config.lr, config.weight_decay)  # type: ignore[no-any-return]
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "lr": config.lr, "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to `final_lr`."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + cos(pi * min(done, 1.0)))


def fit(
    module: nn.Module,
    batches: BatchSource,
    config: TrainConfig,
    run: Run,
    validate: Validation | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train `module` (forward(batch) -> Losses) to the end of its budget, or go on where the run stopped.

    Args:
        module: an objective. Frozen parameters stay untouched. What trains at some time is trainable when it comes
            here; before each step `module.at_step(step)`, if there is one, may freeze some of it (it then says so
            by `unfreezes = True`): parameters without a gradient stay as they are, their moments too.
        batches: stateless source of batches.
        config: budget and optimiser.
        run: a begun run directory.
        validate: called every `validate_every` steps and at the end, in evaluation mode.
        progress: show a progress bar, or about ten lines where there is no terminal (first process only).

    Returns:
        Summary: steps, tokens, seconds, last losses, best validation figure.

    Raises:
        FullcountError: the loss is not finite (nothing of that step is kept), or the run is for other weights.
        KeyboardInterrupt: after the state has been saved.
    """
    if config.accumulate > 1:
        for part in module.modules():
            if reason := getattr(part, "whole_step", None):
                raise FullcountError(f"accumulate = {config.accumulate}: {reason}")
    if config.compile:
        for part in module.modules():
            if isinstance(part, Block):
                part.compile(dynamic=True)  # in place, so that names of weights stay
    fabric = launch(module, config.strategy, config.devices, config.precision)
    wrapped = fabric.setup_module(module)
    optimizer = torch.optim.AdamW(parameter_groups(module, config), betas=(0.9, 0.98), eps=1e-8)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    stepping = cast(torch.optim.Optimizer, fabric.setup_optimizers(optimizer))
    state = _State(module, optimizer, run)
    state.restore(fabric.world_size * config.accumulate)
    at_step = getattr(module, "at_step", None)
    started, seconds_before = time.perf_counter(), state.meta["seconds"]
    board = _tensorboard(run.path) if fabric.is_global_zero else None
    summary: dict[str, Any] = {}

    def elapsed() -> float:
        return float(seconds_before + time.perf_counter() - started)

    with _bar(progress and fabric.is_global_zero, config.steps, state.step) as advance, _stop_request() as stop:
        while state.step < config.steps and not state.meta["stopped_early"]:
            step = state.step
            wrapped.train()
            if at_step is not None:
                at_step(step)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * learning_rate_factor(step, config)
            losses, total, tokens = _backward(fabric, wrapped, batches, step, config)
            norm = float(whole(torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)))
            if not isfinite(total) or not isfinite(norm):
                where = ", ".join(f"{n} {v:.3g}" for n, v in losses.means().items())
                raise FullcountError(f"step {step}: the loss or its gradient is not finite ({where}); lower the rate")
            stepping.step()
            stepping.zero_grad(set_to_none=True)
            state.step += 1
            state.meta["tokens"] += tokens
            advance(losses.means(), state.meta["tokens"] / max(elapsed(), 1e-9))
            last = state.step == config.steps
            if state.step % config.log_every == 0 or last:
                means = losses.means()
                record = {
                    "step": state.step,
                    "tokens": state.meta["tokens"],
                    "seconds": round(elapsed(), 2),
                    "lr": optimizer.param_groups[0]["lr"],
                    "norm": round(norm, 4),
                    **means,
                }
                summary |= means
                if fabric.is_global_zero:
                    run.log(record)
                    _board(board, record)
            if validate is not None and (state.step % config.validate_every == 0 or last):
                wrapped.eval()
                figures = fabric.broadcast(validate(module))  # so that all stop alike
                state.judge(figures, config)
                if fabric.is_global_zero:
                    run.log({"step": state.step, **{f"validation/{n}": v for n, v in figures.items()}})
                    _board(board, {"step": state.step, **{f"validation/{n}": v for n, v in figures.items()}})
            asked = torch.tensor(float(stop()), device=fabric.device)
            interrupted = bool(_over_all(fabric, {"asked": asked})["asked"])
            if state.step % config.checkpoint_every == 0 or last or interrupted or state.meta["stopped_early"]:
                state.meta["seconds"] = elapsed()
                state.save(fabric.is_global_zero)
                fabric.barrier()
            if interrupted and not last:
                raise KeyboardInterrupt(f"stopped after step {state.step}; the same command goes on from there")
    final = state.final_weights()
    if fabric.is_global_zero:
        run.save(run.weights, final, {"step": state.step, "tokens": state.meta["tokens"]})
    fabric.barrier()
    return {**summary, **{k: state.meta[k] for k in ("tokens", "seconds", "best")}, "steps": state.step}


def _backward(
    fabric: Fabric, wrapped: nn.Module, batches: BatchSource, step: int, config: TrainConfig
) -> tuple[Losses, float, int]:
    """Gradients of a step, of which this process passes `accumulate` batches in turn.

    Process r's batch number a is the one that process r * accumulate + a would have of as many processes as there are
    batches in the step. Each loss is divided by the number of its targets in all of them, so that number must be known
    before the first gradient: all but the first are passed twice, the first time without a graph.

    Returns:
        Raw losses of all batches of all processes, the total that was differentiated, and tokens.
    """
    own = range(fabric.global_rank * config.accumulate, (fabric.global_rank + 1) * config.accumulate)
    given = [batches(step, place, fabric.world_size * config.accumulate).to(fabric.device) for place in own]

    def forward(number: int) -> Losses:
        torch.manual_seed(mix(config.seed, step, own[number]))
        return cast(Losses, wrapped(given[number]))

    with torch.no_grad():
        later = [forward(number).counts for number in range(1, config.accumulate)]
    sums: dict[str, Tensor] = {}
    total = torch.zeros((), device=fabric.device)
    for number in range(config.accumulate):
        with fabric.no_backward_sync(cast(Any, wrapped), enabled=number + 1 < config.accumulate):
            losses = forward(number)
            if number == 0:
                here = {n: torch.stack([c[n].float() for c in (losses.counts, *later)]).sum() for n in losses.sums}
                here["tokens"] = total + sum(batch.tokens for batch in given)
                targets = _over_all(fabric, here)
            # Processes average their gradients; each loss must be divided by the number of targets of all of them.
            parts = [
                losses.weights[n] * s * fabric.world_size / targets[n].clamp(min=1) for n, s in losses.sums.items()
            ]
            part = torch.stack(parts).sum()
            fabric.backward(part)
        total += part.detach() / fabric.world_size
        sums = {n: s.detach().float() + sums.get(n, 0.0) for n, s in losses.sums.items()}
    seen = _over_all(fabric, {**sums, "total": total})
    whole_step = Losses({n: seen[n] for n in sums}, {n: targets[n] for n in sums}, losses.weights)
    return whole_step, float(seen["total"]), int(targets["tokens"])


class _State:
    """Weights, optimiser moments, counters and the early-stopping record, as one checkpoint file."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> None:
        self.module, self.optimizer, self.run = module, optimizer, run
        self.step = 0
        self.best: dict[str, Tensor] = {}
        self.meta: dict[str, Any] = {"tokens": 0, "seconds": 0.0, "best": None, "bad": 0, "stopped_early": False}
        self._names = {p: n for n, p in module.named_parameters()}

    def _trained(self) -> dict[str, Tensor]:
        kept = getattr(self.module, "saved_state", self.module.state_dict)()
        return {n: whole(t.detach()) for n, t in kept.items()}

    def judge(self, figures: dict[str, float], config: TrainConfig) -> None:
        if config.monitor is None:
            return
        if config.monitor not in figures:
            raise FullcountError(f"monitor {config.monitor!r} is not validated; choose one of {', '.join(figures)}")
        value = figures[config.monitor]
        if isfinite(value) and (self.meta["best"] is None or value < self.meta["best"]):
            self.meta |= {"best": value, "bad": 0}
            self.best = {n: t.to("cpu", copy=True) for n, t in self._trained().items()}
        else:
            self.meta["bad"] += 1
            self.meta["stopped_early"] = self.meta["bad"] >= config.patience

    def save(self, here: bool) -> None:
        """Gather the state (all processes have to ask), and write it `here`."""
        tensors = {f"weights/{n}": t for n, t in self._trained().items()}
        for parameter, name in self._names.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = whole(value)
        tensors |= {f"best/{n}": t for n, t in self.best.items()}
        if here:
            self.run.save(self.run.checkpoint, tensors, {**self.meta, "step": self.step})

    def restore(self, world: int) -> None:
        """Go on from the checkpoint, if there is one. `world`: batches in a step."""
        self.meta["world"] = world
        if not self.run.checkpoint.exists():
            return
        tensors, meta = self.run.load(self.run.checkpoint)
        if meta.setdefault("world", world) != world:
            # Batches are drawn for their number in a step: with another one the rest would be another run.
            raise FullcountError(
                f"{self.run.path}: trained on {meta['world']} batches a step (processes x accumulate), now {world}; "
                "choose accumulate so that the product is the same"
            )
        self.step = meta.pop("step")
        self.meta = meta
        now = self.module.state_dict()
        weights = {n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")}
        if unexpected := sorted(weights.keys() - now.keys()):
            raise FullcountError(f"{self.run.checkpoint}: holds {unexpected[0]}, which this model has not")
        self.module.load_state_dict({n: spread(t, now[n]) for n, t in weights.items()}, strict=False)
        self.best = {n.removeprefix("best/"): t for n, t in tensors.items() if n.startswith("best/")}
        by_name = {n: p for p, n in self._names.items()}
        for key, tensor in tensors.items():
            if key.startswith("optimizer/"):
                _, moment, name = key.split("/", 2)
                # Adam's step counter lives on the CPU, its moments beside the parameter.
                moved = tensor if moment == "step" else spread(tensor, by_name[name])
                self.optimizer.state[by_name[name]][moment] = moved

    def final_weights(self) -> dict[str, Tensor]:
        return self.best or self._trained()


def _over_all(fabric: Fabric, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums of single numbers over processes, in one exchange."""
    summed = cast(Tensor, fabric.all_reduce(torch.stack(list(values.values())), reduce_op="sum"))
    return dict(zip(values, summed.unbind(), strict=True))


@contextmanager
def _stop_request() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and SIGUSR1 (preemption) let the current step end; a second Ctrl-C stops at once."""
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    previous: dict[int, Any] = {}
    try:
        for watched in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            previous[watched] = signal.signal(watched, on_signal)
    except ValueError:  # not the main thread: leave signals to whoever runs us
        pass
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _bar(shown: bool, steps: int, done: int) -> Iterator[Callable[[dict[str, float], float], None]]:
    """A progress bar; about ten plain lines where there is no terminal."""
    console = get_console()
    plain = shown and not console.is_terminal
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[rate]:>8,.0f} tokens/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, disable=plain or not shown) as bar:
        task = bar.add_task("train", total=steps, completed=done, rate=0.0, losses="")

        def advance(losses: dict[str, float], rate: float) -> None:
            text = " ".join(f"{n} {v:.3f}" for n, v in losses.items())
            bar.update(task, advance=1, rate=rate, losses=text)
            step = int(bar.tasks[task].completed)
            if plain and (step % -(-steps // 10) == 0 or step == steps):
                console.print(f"step {step}/{steps}  {rate:,.0f} tokens/s  {text}", highlight=False, soft_wrap=True)

        yield advance


def _tensorboard(path: Path) -> Any:
    """A TensorBoard writer where the package is installed, else None: the JSONL log is always there."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(path))


def _board(board: Any, record: dict[str, Any]) -> None:
    if board is not None:
        for name, value in record.items():
            if name != "step":
                board.add_scalar(name, value, record["step"])
