"""The performance task: games of a window -> player representation -> head, fitted by the common loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from fullcount.adaptation.heads import CountHead, LinearHead, Targets
from fullcount.adaptation.methods import Adaptation
from fullcount.adaptation.samples import Grain, Samples, recent_windows
from fullcount.batches import Batch, collate, lengths, of_like_length
from fullcount.errors import FullcountError
from fullcount.fields import OUTCOMES
from fullcount.model.precision import native_bfloat16
from fullcount.model.transformer import GamestateTransformer, mean_of_events
from fullcount.objectives.base import Losses, Objective
from fullcount.priors import EXTRAS, Priors
from fullcount.store import PlayerRole
from fullcount.windows import History, Int, ranges

HeadName = Literal["anchored", "linear"]
Reads = Literal["games", "window"]


@torch.no_grad()
def embed(
    encoder: GamestateTransformer,
    history: History,
    first: Int,
    stop: Int,
    priors: Priors | None,
    tokens: int = 16384,
    progress: bool = True,
    as_of: Int | None = None,
) -> NDArray[np.float16]:
    """Embeddings [k, d_model] of the windows `first`..`stop` [k] (positions of the history; a game is `p`..`p + 1`).

    `as_of`: [k] days from which positions count back, where they do (see `collate`).
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    out = np.zeros((len(first), encoder.config.d_model), dtype=np.float16)
    chunks = of_like_length(lengths(history, first, stop), tokens)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device.type))
    for chunk in track(chunks, description=f"embed {history.window.role} games", disable=not progress):
        days = None if as_of is None else as_of[chunk]
        batch = collate(history, first[chunk], stop[chunk], priors, as_of=days, **encoder.config.inputs)
        with autocast:
            vectors = mean_of_events(encoder, batch.to(device))
        out[chunk] = vectors.float().cpu().numpy()
    return out


def pool(
    games: Tensor, days: Tensor, events: Tensor, owner: Tensor, count: int, half_lives: tuple[float, ...]
) -> Tensor:
    """Player representations [count, len(half_lives) * d]: means of his games' embeddings.

    A game weighs its events, halved for every half-life between it and his newest game; one mean for each half-life.

    Args:
        games: [G, d]. days: [G] days before the newest game of the same owner. events: [G]. owner: [G] in 0..count-1.
    """
    parts = []
    for half_life in half_lives:
        weight = events * torch.exp2(-days / half_life)
        total = games.new_zeros(count).index_add_(0, owner, weight)
        summed = games.new_zeros(count, games.shape[1]).index_add_(0, owner, games * weight.unsqueeze(-1))
        parts.append(summed / total.clamp(min=1e-9).unsqueeze(-1))
    return torch.cat(parts, dim=-1)


@dataclass
class Reading:
    """Sequences to encode, and whose they are: a game that is in several windows is encoded once.

    Attributes:
        sequences: of games or whole windows. which: [G] row of `sequences`. owner: [G] sample it belongs to. days: [G]
            before the newest of the same owner. events: [G].
    """

    sequences: Batch
    which: Tensor
    owner: Tensor
    days: Tensor
    events: Tensor

    def to(self, device: torch.device) -> Reading:
        """The same on another device."""
        return Reading(**{name: value.to(device) for name, value in self.__dict__.items()})


@dataclass
class SampleBatch:
    """B samples: their targets, and either ready representations [B, width] or what is to be read."""

    targets: Targets
    representation: Tensor | None = None
    read: Reading | None = None

    @property
    def tokens(self) -> int:
        """Tokens encoded (samples, when representations are ready)."""
        return self.read.sequences.tokens if self.read is not None else len(self.targets.exposure)

    def to(self, device: torch.device) -> SampleBatch:
        """The batch on another device."""
        return SampleBatch(
            self.targets.to(device),
            None if self.representation is None else self.representation.to(device),
            None if self.read is None else self.read.to(device),
        )


class PerformanceTask(Objective):
    """Fit a head, and as much of the encoder as the adaptation lets train, to what players did next.

    Args:
        encoder: pre-trained; prepared by `adaptation`.
        role, grain: whose performance, over the next game or the next season.
        head: "anchored" (default) or "linear" (the reference).
        half_lives: days; see `pool`.
        use_embedding: off: the head reads the prior's features alone (what do the pitches add?).
        relative: representations are differences from the league's (the priors' league), the event-weighted mean of
            everybody with recent history on the day (season grain, frozen encoder), so that a drifting league does not
            look like a change in everybody.
        embedding_decay: weight decay of the head's weights on the embedding.
        head_rate: the head's share of the learning rate.
        reads: what the encoder sees at once: single "games", of which the mean is taken, or the whole "window".
        targets: outcomes and extras to be fitted (anchored head); none: all. The others are told apart from nothing.
        schedule: width of a schedule's features, behind the prior's in `Targets.features`; decayed like the embedding.
        pass_steps: steps of a pass over the samples, for methods with a schedule.
    """

    center: Tensor
    spread: Tensor

    def __init__(
        self,
        encoder: GamestateTransformer,
        adaptation: Adaptation,
        *,
        role: PlayerRole,
        grain: Grain,
        head: HeadName = "anchored",
        half_lives: tuple[float, ...] = (60.0, 500.0),
        use_prior: bool = True,
        use_opponent: bool = True,
        use_embedding: bool = True,
        relative: bool = False,
        embedding_decay: float = 0.1,
        head_rate: float = 1.0,
        reads: Reads = "games",
        targets: tuple[str, ...] = (),
        schedule: int = 0,
        pass_steps: int = 1,
    ) -> None:
        super().__init__()
        self.use_embedding, self.relative, self.embedding_decay = use_embedding, relative, embedding_decay
        self.head_rate = head_rate
        self.encoder, self.adaptation, self.pass_steps = adaptation.apply(encoder), adaptation, pass_steps
        self.unfreezes = adaptation.unfreezes
        self._frozen = {n for n, p in self.encoder.named_parameters() if not p.requires_grad}
        self.role, self.grain, self.reads = role, grain, reads
        self.half_lives = half_lives if reads == "games" else (inf,)
        width, extras = encoder.config.d_model * len(self.half_lives), len(EXTRAS[role])
        self.head: CountHead | LinearHead
        if head == "anchored":
            self.head = CountHead(
                width,
                extras,
                Priors.WIDTH,
                use_prior=use_prior,
                use_opponent=use_opponent,
                game=grain == "game",
                targets=_places(targets, role),
                schedule=schedule,
            )
        else:
            self.head = LinearHead(width, extras, game=grain == "game")
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @property
    def frozen(self) -> bool:
        """Nothing of the encoder ever trains, so what it reads can be encoded once."""
        return len(self._frozen) == len(list(self.encoder.parameters()))

    def at_step(self, step: int) -> None:
        self.adaptation.at_step(self.encoder, step, self.pass_steps)

    def scale_to(self, representation: Tensor, targets: Targets) -> None:
        """Standardise representations (and the linear head's targets) as the training set has them."""
        self.center.copy_(representation.mean(dim=0))
        self.spread.copy_(representation.std(dim=0).clamp(min=1e-4))
        if isinstance(self.head, LinearHead):
            self.head.scale_to(targets)

    def represent(self, batch: SampleBatch) -> Tensor:
        """[B, width] standardised representations."""
        raw = batch.representation
        if not self.use_embedding:
            return self.center.new_zeros(len(batch.targets.exposure), len(self.center))
        if raw is None:
            assert batch.read is not None
            raw = self.pooled(mean_of_events(self.encoder, batch.read.sequences), batch)
        return (raw.float() - self.center) / self.spread

    def pooled(self, vectors: Tensor, batch: SampleBatch) -> Tensor:
        """[B, width] raw representations from embeddings [.., d_model] of the sequences that the batch reads."""
        read = batch.read
        assert read is not None
        chosen = vectors.float()[read.which]
        return pool(chosen, read.days, read.events, read.owner, len(batch.targets.exposure), self.half_lives)

    def forward(self, batch: SampleBatch) -> Losses:  # type: ignore[override]
        return self.head.loss(self.represent(batch), batch.targets)

    @torch.no_grad()
    def expected(self, batch: SampleBatch) -> Tensor:
        """[B, 7 + extras] expected counts a game, or rates a plate appearance."""
        return self.head.expected(self.represent(batch), batch.targets)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Trained encoder parameters at the adaptation's share of the configured rate, the head at its own."""
        decayed = ("embedding.weight", "schedule.weight")
        reads, other = (
            [p for n, p in self.head.named_parameters() if (n in decayed) == wanted] for wanted in (True, False)
        )
        groups = [
            {"params": reads, "lr": lr * self.head_rate, "weight_decay": self.embedding_decay},
            {"params": other, "lr": lr * self.head_rate, "weight_decay": weight_decay},
        ]
        rates: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.encoder.named_parameters():
            if name not in self._frozen:
                rates.setdefault(self.adaptation.rate(self.encoder, name), []).append(parameter)
        groups += [{"params": p, "lr": lr * r, "weight_decay": 0.01} for r, p in rates.items()]
        return groups

    def saved_state(self) -> dict[str, Tensor]:
        """What fitting added or may change: all but the encoder's frozen weights, which are its own run's."""
        return {n: t for n, t in self.state_dict().items() if n.removeprefix("encoder.") not in self._frozen}


class EmbeddingCache:
    """Embeddings by one frozen encoder of a role's games (or of stretches of games) on disk: each is encoded once.

    `PATH.f16` holds a row for every appearance of the role, `PATH.known` says which rows are filled. A path belongs to
    one encoder, one state of the store and one way of cutting play into stretches: name it after them.
    """

    def __init__(self, path: Path, encoder: GamestateTransformer, history: History, priors: Priors | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.encoder, self.history, self.priors = encoder, history, priors
        rows = len(history.store.appearances(history.window.role))
        shape = (rows, encoder.config.d_model)
        self._vectors = self._open(path.with_suffix(".f16"), np.float16, shape)
        self._known = self._open(path.with_suffix(".known"), np.bool_, (rows,))

    @staticmethod
    def _open(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
        array: NDArray[Any] = np.memmap(path, dtype, "r+" if path.exists() else "w+", shape=shape)
        return array

    def __call__(self, first: Int, stop: Int | None = None, progress: bool = True) -> NDArray[np.float16]:
        """Embeddings [k, d_model] of the games `first` of the history, or of the stretches `first`..`stop`, a stretch
        always cut alike; those not known yet are computed and kept."""
        stop = first + 1 if stop is None else stop
        wanted = self.history.index[first]
        missing = np.flatnonzero(~self._known[wanted])
        if len(missing):
            _, once = np.unique(wanted[missing], return_index=True)
            missing = missing[once]
            found = embed(self.encoder, self.history, first[missing], stop[missing], self.priors, progress=progress)
            self._vectors[wanted[missing]] = found
            self._known[wanted[missing]] = True
        return np.asarray(self._vectors[wanted])


class SampleSource:
    """Stateless batches of samples, and evaluation over all of them.

    With a frozen encoder what any window holds is encoded once, here or in the `cache`, and representations are kept.

    Args:
        stretch: samples of one player that follow one another go together in stretches of up to so many, so that the
            games which their windows share are encoded once a batch (for a trained encoder).
    """

    def __init__(
        self,
        task: PerformanceTask,
        history: History,
        priors: Priors,
        samples: Samples,
        cache: EmbeddingCache | None = None,
        progress: bool = True,
        stretch: int = 1,
    ) -> None:
        self.task, self.history, self.priors, self.samples = task, history, priors, samples
        self._cache, self._stretch = cache, stretch
        self._ready: Tensor | None = self._representations(progress) if task.frozen else None

    def _windows(self, first: Int, stop: Int) -> tuple[Int, Int, Int, Tensor, Tensor]:
        """What is encoded for the windows `first`..`stop` [m]: sequences (first, stop, owner), and as tensors their
        days before the owner's newest and their events. A window that is read whole counts as one event of the day."""
        if self.task.reads == "window":
            return first, stop, np.arange(len(first)), torch.zeros(len(first)), torch.ones(len(first))
        positions = ranges(first, stop - first)
        owner = np.repeat(np.arange(len(first)), stop - first)
        newest = self.history.days[stop - 1][owner]
        days = (newest - self.history.days[positions]).astype(np.float32)
        events = self.history.events[positions].astype(np.float32)
        return positions, positions + 1, owner, torch.from_numpy(days), torch.from_numpy(events)

    def _representations(self, progress: bool) -> Tensor:
        """Raw representations [m, width] of the samples, less the league's on the day if the task is relative."""
        s = self.samples
        if not self.task.use_embedding:  # the head will not read them: nothing to encode
            return torch.zeros(len(s), len(self.task.center))
        if not self.task.relative:
            return self._pooled(s.first, s.stop, progress, s.day)
        days, day = np.unique(s.day, return_inverse=True)
        asked = [recent_windows(self.history, d, self.priors.league_name) for d in days]
        first = np.concatenate([s.first, *(a for a, _ in asked)])
        stop = np.concatenate([s.stop, *(b for _, b in asked)])
        pooled = self._pooled(
            first, stop, progress, np.concatenate([s.day, np.repeat(days, [len(a) for a, _ in asked])])
        )
        own, everybody = pooled[: len(s)], torch.split(pooled[len(s) :], [len(a) for a, _ in asked])
        means = []
        for (a, b), rows in zip(asked, everybody, strict=True):
            weight = torch.from_numpy(self.history.pitches(a, b).astype(np.float32))
            means.append((rows * weight.unsqueeze(-1)).sum(dim=0) / weight.sum().clamp(min=1))
        return own - torch.stack(means)[torch.from_numpy(day)]

    def _pooled(self, first: Int, stop: Int, progress: bool, day: Int) -> Tensor:
        """Representations [k, width] of the windows `first`..`stop` [k] as of `day` [k]. (Single games are the same on
        all days: how long ago they were is in their weights.)"""
        if self.task.reads == "window":
            found = embed(self.task.encoder, self.history, first, stop, self.priors, progress=progress, as_of=day)
            return torch.from_numpy(found.astype(np.float32))
        used = np.zeros(len(self.history.index), dtype=bool)
        used[ranges(first, stop - first)] = True
        positions = np.flatnonzero(used)
        if self._cache is not None:
            vectors = self._cache(positions, progress=progress)
        else:
            vectors = embed(self.task.encoder, self.history, positions, positions + 1, self.priors, progress=progress)
        where = np.zeros(len(used), dtype=np.int64)
        where[positions] = np.arange(len(positions))
        parts = [torch.zeros(0, self.task.center.shape[0])]
        for a in range(0, len(first), 4096):
            some_first, some_stop = first[a : a + 4096], stop[a : a + 4096]
            games, _, owner, days, events = self._windows(some_first, some_stop)
            chosen = torch.from_numpy(vectors[where[games]].astype(np.float32))
            parts.append(pool(chosen, days, events, torch.from_numpy(owner), len(some_first), self.task.half_lives))
        return torch.cat(parts)

    @property
    def ready(self) -> Tensor:
        """Raw representations [m, width]; of a trained encoder, computed now."""
        return self._ready if self._ready is not None else self._representations(progress=False)

    def scale(self, most: int = 2048) -> None:
        """Give the task the scales of these samples; of a trained encoder, of at most `most` drawn from them."""
        if self._ready is not None or len(self.samples) <= most:
            self.task.scale_to(self.ready, self.samples.targets)
            return
        drawn = self.samples.pick(np.random.default_rng(0).permutation(len(self.samples))[:most])
        SampleSource(self.task, self.history, self.priors, drawn, progress=False).scale()

    def take(self, chosen: NDArray[np.int64]) -> SampleBatch:
        """The samples at the given positions as one batch."""
        part = self.samples.pick(chosen)
        if self._ready is not None:
            return SampleBatch(part.targets, self._ready[torch.from_numpy(chosen)])
        first, stop, owner, days, events = self._windows(part.first, part.stop)
        as_of = part.day if self.task.reads == "window" else self.history.days[stop - 1]
        _, once, which = np.unique(np.stack([first, stop, as_of]), axis=1, return_index=True, return_inverse=True)
        inputs = self.task.encoder.config.inputs
        sequences = collate(self.history, first[once], stop[once], self.priors, as_of=as_of[once], **inputs)
        rows = torch.from_numpy(which.reshape(-1))
        return SampleBatch(part.targets, None, Reading(sequences, rows, torch.from_numpy(owner), days, events))

    def sampler(self, size: int, seed: int) -> Callable[[int, int, int], SampleBatch]:
        """A stateless source of batches of `size` samples: an own permutation (of stretches) for every pass."""
        s = self.samples
        by_player = np.lexsort((s.day, s.player))
        player = s.player[by_player]
        place = np.arange(len(s)) - np.searchsorted(player, player)  # of a sample among its player's
        begins = np.flatnonzero(place % self._stretch == 0)
        length = np.diff(np.append(begins, len(s)))

        def batch(step: int, rank: int, world: int) -> SampleBatch:
            around, place = divmod(step, self.pass_steps(size, world))
            order = np.random.default_rng([seed, around]).permutation(len(begins))
            order = by_player[ranges(begins[order], length[order])]
            start = (place * world + rank) * size
            return self.take(order[start : start + size])

        return batch

    def pass_steps(self, size: int, world: int = 1) -> int:
        """Steps of a pass over the samples."""
        return pass_steps(len(self.samples), size * world)

    def _evaluated(self, size: int) -> Iterator[SampleBatch]:
        """All samples in order, on the task's device."""
        ready = self.ready
        for chosen in np.split(np.arange(len(self.samples)), range(size, len(self.samples), size)):
            batch = SampleBatch(self.samples.pick(chosen).targets, ready[torch.from_numpy(chosen)])
            yield batch.to(self.task.center.device)

    @torch.no_grad()
    def expected(self, size: int = 512) -> NDArray[np.float64]:
        """[m, 7 + extras] expectations of the task for all samples."""
        self.task.eval()
        found = [self.task.expected(batch).cpu().numpy() for batch in self._evaluated(size)]
        return np.concatenate(found).astype(np.float64)

    @torch.no_grad()
    def losses(self, size: int = 512) -> dict[str, float]:
        """Mean losses of the task over all samples."""
        total = Losses()
        for batch in self._evaluated(size):
            total.include(self.task(batch))
        means = total.means()
        return {**means, "total": sum(means.values())}


def pass_steps(samples: int, size: int) -> int:
    """Steps of a pass over `samples`, `size` of them a step."""
    return max(1, samples // size)


def _places(targets: tuple[str, ...], role: PlayerRole) -> tuple[int, ...]:
    """Places of outcomes and extras in the order of the head's outputs."""
    names = [*OUTCOMES[1:], *EXTRAS[role]]
    if unknown := [t for t in targets if t not in names]:
        raise FullcountError(f"targets: no {unknown[0]} of a {role}; choose of {', '.join(names)}")
    return tuple(names.index(t) for t in targets)
