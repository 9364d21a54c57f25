"""The performance task: games of a window -> player representation -> head, fitted by the common loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from fullcount.batches import Batch, collate
from fullcount.model.precision import native_bfloat16
from fullcount.model.transformer import GamestateTransformer, mean_of_events
from fullcount.objectives.base import Losses, Objective
from fullcount.priors import EXTRAS, Priors
from fullcount.store import PlayerRole
from fullcount.windows import History, Int, ranges

HeadName = Literal["anchored", "linear"]


@torch.no_grad()
def embed(
    encoder: GamestateTransformer,
    history: History,
    positions: Int,
    priors: Priors | None,
    tokens: int = 16384,
    progress: bool = True,
) -> NDArray[np.float16]:
    """Embeddings [k, d_model] of single appearances (`positions` of the history), each encoded once."""
    encoder.eval()
    device = next(encoder.parameters()).device
    order = np.argsort(history.events[positions], kind="stable")
    out = np.zeros((len(positions), encoder.config.d_model), dtype=np.float16)
    cuts = np.flatnonzero(np.diff((np.cumsum(history.events[positions][order] + 2)) // tokens)) + 1
    chunks = np.split(order, cuts)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device.type))
    for chunk in track(chunks, description=f"embed {history.window.role} games", disable=not progress):
        if not len(chunk):
            continue
        chosen = positions[chunk]
        with autocast:
            vectors = mean_of_events(
                encoder, collate(history, chosen, chosen + 1, priors, **encoder.config.inputs).to(device)
            )
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
class SampleBatch:
    """B samples: their targets, and either ready representations [B, width] or the games to encode."""

    targets: Targets
    representation: Tensor | None
    games: Batch | None
    days: Tensor
    events: Tensor
    owner: Tensor

    @property
    def tokens(self) -> int:
        """Tokens encoded (samples, when representations are ready)."""
        return self.games.tokens if self.games is not None else len(self.targets.exposure)

    def to(self, device: torch.device) -> SampleBatch:
        """The batch on another device."""
        return SampleBatch(
            self.targets.to(device),
            None if self.representation is None else self.representation.to(device),
            None if self.games is None else self.games.to(device),
            self.days.to(device),
            self.events.to(device),
            self.owner.to(device),
        )


class PerformanceTask(Objective):
    """Fit a head, and as much of the encoder as the adaptation lets train, to what players did next.

    Args:
        encoder: pre-trained; prepared by `adaptation`.
        role, grain: whose performance, over the next game or the next season.
        head: "anchored" (default) or "linear" (the reference).
        half_lives: days; see `pool`.
        use_embedding: off: the head reads the prior's features alone (what do the pitches add?).
        relative: representations are differences from the league's, the event-weighted mean of everybody with recent
            history on the day (season grain, frozen encoder), so that a drifting league does not look like a change
            in everybody.
        embedding_decay: weight decay of the head's weights on the embedding.
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
    ) -> None:
        super().__init__()
        self.use_embedding, self.relative, self.embedding_decay = use_embedding, relative, embedding_decay
        self.encoder, self.adaptation = adaptation.apply(encoder), adaptation
        self.role, self.grain, self.half_lives = role, grain, half_lives
        width, extras = encoder.config.d_model * len(half_lives), len(EXTRAS[role])
        self.head: CountHead | LinearHead
        if head == "anchored":
            self.head = CountHead(
                width, extras, Priors.WIDTH, use_prior=use_prior, use_opponent=use_opponent, game=grain == "game"
            )
        else:
            self.head = LinearHead(width, extras, game=grain == "game")
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @property
    def frozen(self) -> bool:
        """Nothing of the encoder trains, so games can be encoded once."""
        return not any(p.requires_grad for p in self.encoder.parameters())

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
            assert batch.games is not None
            vectors = mean_of_events(self.encoder, batch.games).float()
            raw = pool(vectors, batch.days, batch.events, batch.owner, len(batch.targets.exposure), self.half_lives)
        return (raw.float() - self.center) / self.spread

    def forward(self, batch: SampleBatch) -> Losses:  # type: ignore[override]
        return self.head.loss(self.represent(batch), batch.targets)

    @torch.no_grad()
    def expected(self, batch: SampleBatch) -> Tensor:
        """[B, 7 + extras] expected counts a game, or rates a plate appearance."""
        return self.head.expected(self.represent(batch), batch.targets)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Head at the configured rate; trained encoder parameters at the adaptation's share of it."""
        reads = [self.head.embedding.weight]
        other = [p for p in self.head.parameters() if p is not reads[0]]
        groups = [
            {"params": reads, "lr": lr, "weight_decay": self.embedding_decay},
            {"params": other, "lr": lr, "weight_decay": weight_decay},
        ]
        rates: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.encoder.named_parameters():
            if parameter.requires_grad:
                rates.setdefault(self.adaptation.rate(name), []).append(parameter)
        groups += [{"params": p, "lr": lr * r, "weight_decay": 0.01} for r, p in rates.items()]
        return groups

    def saved_state(self) -> dict[str, Tensor]:
        """What fitting added: everything but the encoder's frozen weights (they are the encoder's run's)."""
        frozen = {f"encoder.{n}" for n, p in self.encoder.named_parameters() if not p.requires_grad}
        return {n: t for n, t in self.state_dict().items() if n not in frozen}


class EmbeddingCache:
    """Single-game embeddings of one frozen encoder and role on disk, so that each game is encoded once and kept.

    `PATH.f16` holds a row for every appearance of the role, `PATH.known` says which rows are filled. A path belongs to
    one encoder and one state of the store: name it after their fingerprints.
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

    def __call__(self, positions: Int, progress: bool = True) -> NDArray[np.float16]:
        """Embeddings [k, d_model] of `positions` of the history; those not known yet are computed and kept."""
        wanted = self.history.index[positions]
        missing = positions[~self._known[wanted]]
        if len(missing):
            rows = self.history.index[missing]
            self._vectors[rows] = embed(self.encoder, self.history, missing, self.priors, progress=progress)
            self._known[rows] = True
        return np.asarray(self._vectors[wanted])


class SampleSource:
    """Stateless batches of samples, and evaluation over all of them.

    With a frozen encoder each game of any window is encoded once, here or in the `cache`, and representations are kept.
    """

    def __init__(
        self,
        task: PerformanceTask,
        history: History,
        priors: Priors,
        samples: Samples,
        cache: EmbeddingCache | None = None,
        progress: bool = True,
    ) -> None:
        self.task, self.history, self.priors, self.samples = task, history, priors, samples
        self._cache = cache
        self._ready: Tensor | None = self._representations(progress) if task.frozen else None

    def _games(self, first: Int, stop: Int) -> tuple[Int, Tensor, Tensor, Tensor]:
        """Positions of the windows' games, with days before the newest, events and owner as tensors."""
        positions = ranges(first, stop - first)
        owner = np.repeat(np.arange(len(first)), stop - first)
        newest = self.history.days[stop - 1][owner]
        days = (newest - self.history.days[positions]).astype(np.float32)
        events = self.history.events[positions].astype(np.float32)
        return positions, torch.from_numpy(days), torch.from_numpy(events), torch.from_numpy(owner)

    def _representations(self, progress: bool) -> Tensor:
        """Raw representations [m, width] of the samples, less the league's on the day if the task is relative."""
        s = self.samples
        if not self.task.use_embedding:  # the head will not read them: nothing to encode
            return torch.zeros(len(s), len(self.task.center))
        if not self.task.relative:
            return self._pooled(s.first, s.stop, progress)
        days, day = np.unique(s.day, return_inverse=True)
        asked = [recent_windows(self.history, d) for d in days]
        first = np.concatenate([s.first, *(a for a, _ in asked)])
        stop = np.concatenate([s.stop, *(b for _, b in asked)])
        pooled = self._pooled(first, stop, progress)
        own, everybody = pooled[: len(s)], torch.split(pooled[len(s) :], [len(a) for a, _ in asked])
        seen = np.concatenate([[0], np.cumsum(self.history.events)])
        means = []
        for (a, b), rows in zip(asked, everybody, strict=True):
            weight = torch.from_numpy((seen[b] - seen[a]).astype(np.float32))
            means.append((rows * weight.unsqueeze(-1)).sum(dim=0) / weight.sum().clamp(min=1))
        return own - torch.stack(means)[torch.from_numpy(day)]

    def _pooled(self, first: Int, stop: Int, progress: bool) -> Tensor:
        """Representations [k, width] of the windows `first`..`stop` [k]."""
        used = np.zeros(len(self.history.index), dtype=bool)
        used[ranges(first, stop - first)] = True
        positions = np.flatnonzero(used)
        if self._cache is not None:
            vectors = self._cache(positions, progress)
        else:
            vectors = embed(self.task.encoder, self.history, positions, self.priors, progress=progress)
        where = np.zeros(len(used), dtype=np.int64)
        where[positions] = np.arange(len(positions))
        parts = [torch.zeros(0, self.task.center.shape[0])]
        for a in range(0, len(first), 4096):
            some_first, some_stop = first[a : a + 4096], stop[a : a + 4096]
            games, days, events, owner = self._games(some_first, some_stop)
            chosen = torch.from_numpy(vectors[where[games]].astype(np.float32))
            parts.append(pool(chosen, days, events, owner, len(some_first), self.task.half_lives))
        return torch.cat(parts)

    @property
    def ready(self) -> Tensor:
        """Raw representations [m, width]; of a trained encoder, computed now."""
        return self._ready if self._ready is not None else self._representations(progress=False)

    def scale(self) -> None:
        """Give the task the scales of these samples."""
        self.task.scale_to(self.ready, self.samples.targets)

    def take(self, chosen: NDArray[np.int64]) -> SampleBatch:
        """The samples at the given positions as one batch."""
        part = self.samples.pick(chosen)
        empty = torch.zeros(0)
        if self._ready is not None:
            return SampleBatch(part.targets, self._ready[torch.from_numpy(chosen)], None, empty, empty, empty.long())
        positions, days, events, owner = self._games(part.first, part.stop)
        games = collate(self.history, positions, positions + 1, self.priors, **self.task.encoder.config.inputs)
        return SampleBatch(part.targets, None, games, days, events, owner)

    def _placed(self, chosen: NDArray[np.int64]) -> SampleBatch:
        return self.take(chosen).to(self.task.center.device)

    def sampler(self, size: int, seed: int) -> Callable[[int, int, int], SampleBatch]:
        """A stateless source of batches of `size` samples: an own permutation for every pass."""

        def batch(step: int, rank: int, world: int) -> SampleBatch:
            per_pass = max(1, len(self.samples) // (size * world))
            around, place = divmod(step, per_pass)
            order = np.random.default_rng([seed, around]).permutation(len(self.samples))
            start = (place * world + rank) * size
            return self.take(order[start : start + size])

        return batch

    @torch.no_grad()
    def expected(self, size: int = 512) -> NDArray[np.float64]:
        """[m, 7 + extras] expectations of the task for all samples."""
        self.task.eval()
        chunks = [np.arange(a, min(a + size, len(self.samples))) for a in range(0, len(self.samples), size)]
        found = [self.task.expected(self._placed(c)).cpu().numpy() for c in chunks]
        return np.concatenate(found).astype(np.float64) if found else np.zeros((0, 0))

    @torch.no_grad()
    def losses(self, size: int = 512) -> dict[str, float]:
        """Mean losses of the task over all samples."""
        total = Losses()
        for a in range(0, len(self.samples), size):
            total.include(self.task(self._placed(np.arange(a, min(a + size, len(self.samples))))))
        means = total.means()
        return {**means, "total": sum(means.values())}
