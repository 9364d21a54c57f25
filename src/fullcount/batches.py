"""Row ranges to tensors: the stateless sampler and collation.

A batch is a pure function of (seed, step, rank): nothing is shuffled in place, so a run resumed at any step, on any
machine, sees the same batches. Windows are drawn a block of steps at a time, sorted by length and cut into batches of
equal token counts, so that little of a batch is padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fullcount.errors import FullcountError
from fullcount.fields import CATEGORICAL, NUMERIC, PITCH_TYPES
from fullcount.priors import Priors, moment_of
from fullcount.store import Store, day_number
from fullcount.windows import History, Int, Window, gather, ranges

PAD, SLOT, SEPARATOR, EVENT = 0, 1, 2, 3

#: As of when players are known: the morning of each event's own game, for who looks back only (the next morning's rates
#: less this one's are what happened in between), or of the window's first game.
Morning = Literal["game", "window"]

_CENTER = np.array([f.center for f in NUMERIC], dtype=np.float32)
_SPREAD = np.array([f.spread for f in NUMERIC], dtype=np.float32)


@dataclass
class Batch:
    """Sequences: a player slot, then for each game a separator and its events. B sequences, S tokens.

    Attributes:
        kind: [B, S] PAD, SLOT, SEPARATOR or EVENT.
        categorical: [B, S, fields] ids (0 outside events).
        numeric: [B, S, fields] scaled values, 0 where absent; present: [B, S, fields] bool.
        game: [B, S] games back from the newest (0); position: [B, S] place within the game (separator 0).
        ago: [B, S] days from the token's game to the as-of date, the newest game's day where none is given; slot 0.
        role: [B] 0 batter, 1 pitcher. player: [B] ids. day: [B] of the newest game (see `store.day_number`).
        prior: [B, width] the player's prior as the encoder reads it (`Priors.features`), as of the window's last game.
        matchup: [B, S, width] at events what is known of batter and pitcher (`Priors.matchup`) as of a `Morning`;
            width 0 where it was not asked for.
        seed: what random choices about this batch (masks) are derived from.
        repertoire: [B, S, types] at events the log-shares of the pitcher's own kinds of pitches, as of that morning, at
            such a count and against such a batter (`Priors.repertoire`); None where it was not asked for.
        task: [B] which of an encoder's prefixes stands before the row; None: the first.
    """

    kind: Tensor
    categorical: Tensor
    numeric: Tensor
    present: Tensor
    game: Tensor
    position: Tensor
    ago: Tensor
    role: Tensor
    player: Tensor
    day: Tensor
    prior: Tensor
    matchup: Tensor
    seed: int
    repertoire: Tensor | None = None
    task: Tensor | None = None

    def nameless(self) -> Batch:
        """The same play with nothing said of who the players are: no prior, match-up or repertoire."""
        mix = None if self.repertoire is None else torch.zeros_like(self.repertoire)
        nothing = torch.zeros_like(self.matchup)
        return replace(self, prior=torch.zeros_like(self.prior), matchup=nothing, repertoire=mix)

    def asked(self, tasks: int) -> Batch:
        """The batch once for each of `tasks` tasks, [tasks * B, S], one task after the other."""
        tensors = {n: v for n, v in self.__dict__.items() if isinstance(v, Tensor)}
        again = {n: v.repeat(tasks, *[1] * (v.ndim - 1)) for n, v in tensors.items()}
        number = torch.arange(tasks, device=self.kind.device).repeat_interleave(len(self.kind))
        return Batch(**{**again, "task": number}, seed=self.seed)

    @property
    def events(self) -> int:
        """Real events in the batch."""
        return int((self.kind == EVENT).sum())

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int((self.kind != PAD).sum())

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        tensors = {n: v.to(device, non_blocking=True) for n, v in self.__dict__.items() if isinstance(v, Tensor)}
        return Batch(**tensors, seed=self.seed)


def collate(
    history: History,
    first: Int,
    stop: Int,
    priors: Priors | None,
    seed: int = 0,
    *,
    matchup: Morning | None = None,
    repertoire: bool = False,
    as_of: Int | None = None,
) -> Batch:
    """Windows `first`..`stop` ([B] positions of the history each) as one padded batch.

    `matchup`, `repertoire`: with what is known of both players and of the pitcher's choices (they need priors).
    `as_of`: [B] days from which games are counted back; default: of each window's newest game.
    """
    store = history.store
    size = len(first)
    games = stop - first
    appearances = ranges(first, games)
    rows, events = history.rows(appearances)
    sample_of_game = np.repeat(np.arange(size), games)
    per_sample = np.bincount(sample_of_game, weights=events, minlength=size).astype(np.int64)
    length = 1 + games + per_sample
    width = int(length.max()) if size else 1
    # A game's separator stands after the slot and after all earlier games of its window with their separators.
    token = np.cumsum(events + 1) - (events + 1)
    opened = np.repeat(np.cumsum(per_sample + games) - (per_sample + games), games)
    separator = 1 + token - opened
    flat_separator = sample_of_game * width + separator
    place = ranges(np.ones(len(events)), events)
    flat_event = np.repeat(flat_separator, events) + place

    kind = np.zeros(size * width, dtype=np.int8)
    kind[np.arange(size) * width] = SLOT
    kind[flat_separator] = SEPARATOR
    kind[flat_event] = EVENT
    back = np.repeat(stop - 1, games) - appearances
    game = np.zeros(size * width, dtype=np.int16)
    game[flat_separator] = back
    game[flat_event] = np.repeat(back, events)
    position = np.zeros(size * width, dtype=np.int16)
    position[flat_event] = place
    before = np.repeat(history.days[stop - 1] if as_of is None else as_of, games) - history.days[appearances]
    ago = np.zeros(size * width, dtype=np.int32)
    ago[flat_separator] = before
    ago[flat_event] = np.repeat(before, events)
    categorical = np.zeros((size * width, len(CATEGORICAL)), dtype=np.int16)
    categorical[flat_event] = gather(store.categorical, rows)
    raw = gather(store.numeric, rows).astype(np.float32)
    there = ~np.isnan(raw)
    numeric = np.zeros((size * width, len(NUMERIC)), dtype=np.float32)
    numeric[flat_event] = np.clip(np.where(there, (raw - _CENTER) / _SPREAD, 0.0), -6, 6)
    present = np.zeros((size * width, len(NUMERIC)), dtype=bool)
    present[flat_event] = there
    role = history.window.role
    player, day = history.players[stop - 1], history.days[stop - 1]
    prior = (
        priors.features(role, player, day) if priors is not None else np.zeros((size, Priors.WIDTH), dtype=np.float32)
    )

    known = np.zeros((size * width, Priors.MATCHUP if matchup else 0), dtype=np.float32)
    if (matchup or repertoire) and priors is None:
        raise FullcountError("matchup: collation needs the priors that say what is known of the players")
    if matchup and priors is not None:
        days = history.days[appearances] if matchup == "game" else np.repeat(history.days[first], games)
        known[flat_event] = _matchup(history, appearances, days, priors)
    choices = None
    if repertoire and priors is not None:
        runs = history.runs(appearances)
        pitchers = np.repeat(np.asarray(store.runs["pitcher"])[runs], np.asarray(store.runs["length"])[runs])
        days = np.repeat(history.days[appearances], events)
        choices = np.zeros((size * width, len(PITCH_TYPES)), dtype=np.float32)
        choices[flat_event] = priors.repertoire(pitchers, days, moment_of(categorical[flat_event]))

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array.reshape(size, width, *array.shape[1:]))

    return Batch(
        kind=tensor(kind),
        categorical=tensor(categorical),
        numeric=tensor(numeric),
        present=tensor(present),
        game=tensor(game),
        position=tensor(position),
        ago=tensor(ago),
        role=torch.full((size,), int(role == "pitcher"), dtype=torch.int64),
        player=torch.from_numpy(player),
        day=torch.from_numpy(day),
        prior=torch.from_numpy(prior),
        matchup=tensor(known),
        seed=seed,
        repertoire=None if choices is None else tensor(choices),
    )


def _matchup(history: History, appearances: Int, days: Int, priors: Priors) -> NDArray[np.float32]:
    """`Priors.matchup` as of `days` [appearances], [events, MATCHUP]; looked up once for each run of events."""
    runs = history.runs(appearances)
    index = history.store.runs
    all_of = history.store.appearances(history.window.role)
    chosen = history.index[appearances]
    days = np.repeat(days, np.asarray(all_of.runs)[chosen])
    each = priors.matchup(np.asarray(index["batter"])[runs], np.asarray(index["pitcher"])[runs], days)
    return np.repeat(each, np.asarray(index["length"])[runs], axis=0)


def lengths(history: History, first: Int, stop: Int) -> Int:
    """Tokens [m] of the windows `first`..`stop` [m]: their pitches, a separator a game, the slot."""
    return np.asarray(history.pitches(first, stop) + (stop - first) + 1)


def of_like_length(length: Int, tokens: int) -> list[Int]:
    """Places of sequences of `length` [m] in parts of about `tokens` tokens, shorter ones first."""
    order = np.argsort(length, kind="stable")
    cuts = np.flatnonzero(np.diff(np.cumsum(length[order]) // tokens)) + 1
    return [part for part in np.split(order, cuts) if len(part)]


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence([n & 0xFFFFFFFF for n in numbers]).generate_state(1, np.uint64)[0] >> 1)


class CurriculumConfig(BaseModel):
    """Regulars first: the windows drawn are those of the players with the highest event counts.

    Their share of all players widens linearly from `start` at the first step to 1 at `until`, a share of the steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float = Field(0.25, gt=0, le=1)
    until: float = Field(0.5, gt=0, le=1)

    def share(self, done: float) -> float:
        """Share of the players who are in when a share `done` of the run's steps is done."""
        return self.start + (1 - self.start) * done / self.until if done < self.until else 1.0


class Sampler:
    """Stateless batches of windows drawn uniformly from a role's appearances.

    Args:
        store: opened store.
        windows: one or more windows (say one for batters and one for pitchers); each batch holds one of them, drawn
            in proportion to its events, so that every pitch is about equally likely to be seen from either side.
        before, since: only play of [since, before): windows that end there, cut where they reach further back.
        tokens: tokens per batch and process.
        block: steps drawn and sorted together; more steps, less padding.
        minimum_events: windows with fewer events are not drawn.
        league_balance: a league's share of the windows is in proportion to (number of its windows)^(1 - balance): 0 as
            they fall, 1 every league alike. A window is of the league of its last game.
        matchup, repertoire: what batches say of the players of each event (see `collate`).
        curriculum: whose windows are drawn, each role by its own players' events of [since, before). A block of steps
            draws from the players of its first step. How many batches a role gets does not change, so that runs with
            and without a curriculum see as much from either side. Nor do the chances of windows by league, so that the
            few regulars of a small league are not drawn over and over.
        steps: of the run, for the curriculum.
    """

    def __init__(
        self,
        store: Store,
        windows: tuple[Window, ...],
        *,
        before: date,
        since: date = date(1900, 1, 1),
        tokens: int = 16384,
        seed: int = 0,
        priors: Priors | None = None,
        matchup: Morning | None = None,
        repertoire: bool = False,
        block: int = 32,
        minimum_events: int = 4,
        league_balance: float = 0.0,
        curriculum: CurriculumConfig | None = None,
        steps: int = 0,
    ) -> None:
        if curriculum is not None and steps < 1:
            raise FullcountError("curriculum: give the number of the run's steps, in which it widens")
        self.curriculum, self.steps = curriculum, steps
        self.histories = tuple(History(store, w) for w in windows)
        self.tokens, self.seed, self.block = tokens, seed, block
        self.priors, self.matchup, self.repertoire = priors, matchup, repertoire
        low, high = day_number(since), day_number(before)
        self.low, self.high = low, high
        self._pools: list[Int] = []
        for h in self.histories:
            pool = np.flatnonzero((h.days >= low) & (h.days < high) & (h.events > 0))
            first, stop = self._windows(h, pool)
            # Latest game alone may be short; what counts is the window. A pool keeps those long enough.
            self._pools.append(pool[h.pitches(first, stop) >= minimum_events])
        if not any(len(p) for p in self._pools):
            raise FullcountError(f"no windows between {since} and {before}: is the season in the store?")
        weight = np.array([float(h.events[p].sum()) for h, p in zip(self.histories, self._pools, strict=True)])
        self._share = weight / weight.sum()
        self._chance = [_balanced(h, p, league_balance) for h, p in zip(self.histories, self._pools, strict=True)]
        self._cached: tuple[tuple[int, int], list[tuple[int, Int, Int]]] | None = None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch number `step` of process `rank` of `world`: the same for the same (seed, step, rank, world)."""
        block, place = divmod(step, self.block)
        plan = self._plan(block, world)
        which, first, stop = plan[place * world + rank]
        seed = mix(self.seed, step, rank)
        return collate(
            self.histories[which],
            first,
            stop,
            self.priors,
            seed,
            matchup=self.matchup,
            repertoire=self.repertoire,
        )

    def schedule(self) -> pl.DataFrame:
        """What the curriculum lets in, block by block of the run: step, role, shares of players, windows and events."""
        lines = []
        for history, pool, rank in zip(self.histories, self._pools, self._ranks, strict=True):
            windows, events = np.bincount(rank), np.bincount(rank, weights=history.events[pool])
            totals = np.stack([np.ones(len(windows)), windows, events], axis=1).cumsum(axis=0)
            for step in (*range(0, self.steps, self.block), self.steps) if len(pool) else ():
                shares = totals[self._regulars(len(windows), step) - 1] / totals[-1]
                lines.append((step, history.window.role, *shares.tolist()))
        return pl.DataFrame(lines, ["step", "role", "players", "windows", "events"], orient="row")

    def _regulars(self, players: int, step: int) -> int:
        """How many of so many players are in at a step."""
        return players if self.curriculum is None else ceil(players * self.curriculum.share(step / self.steps))

    def _drawn_from(self, which: int, step: int) -> tuple[Int, NDArray[np.float64] | None]:
        """The windows that may be drawn at a step (where they end), and their chances."""
        pool, chance = self._pools[which], self._chance[which]
        if self.curriculum is None or self.curriculum.share(step / self.steps) == 1:
            return pool, chance
        rank = self._ranks[which]
        now = rank < self._regulars(int(rank.max()) + 1, step)
        return pool[now], None if chance is None else chance[now] / chance[now].sum()

    @cached_property
    def _ranks(self) -> list[Int]:
        """Place of the player of each window in its pool, by his events there: 0 the most; ties by id."""
        found = []
        for history, pool in zip(self.histories, self._pools, strict=True):
            ids, owner = np.unique(history.players[pool], return_inverse=True)
            rank = np.empty(len(ids), dtype=np.int64)
            events = np.bincount(owner, weights=history.events[pool])
            rank[np.argsort(-events, kind="stable")] = np.arange(len(ids))
            found.append(rank[owner])
        return found

    def seen(self) -> dict[str, dict[str, int]]:
        """In how many pitches of the play that batches are drawn from each id of each categorical field occurs, and, as
        "present", each numeric field: field -> id -> pitches."""
        store = self.histories[0].store
        drawn = np.zeros(store.rows, dtype=bool)
        for h in self.histories:
            rows, _ = h.rows(np.flatnonzero((h.days >= self.low) & (h.days < self.high)))
            drawn[rows] = True
        ids = [np.zeros(f.capacity, dtype=np.int64) for f in CATEGORICAL]
        present = np.zeros(len(NUMERIC), dtype=np.int64)
        for rows in np.array_split(np.flatnonzero(drawn), store.rows // 200_000 + 1):
            for count, column in zip(ids, gather(store.categorical, rows).T, strict=True):
                count += np.bincount(column, minlength=len(count))
            present += (~np.isnan(gather(store.numeric, rows))).sum(axis=0)
        found = {
            f.name: {str(i): int(count[i]) for i in np.flatnonzero(count)}
            for f, count in zip(CATEGORICAL, ids, strict=True)
        }
        return found | {f.name: {"present": int(n)} for f, n in zip(NUMERIC, present, strict=True) if n}

    def _windows(self, history: History, positions: Int) -> tuple[Int, Int]:
        """Windows that end at `positions` and reach no further back than `since`."""
        first, stop = history.ending_at(positions)
        earliest = history.since(history.players[positions], self.low)
        return np.maximum(first, earliest), stop

    def _plan(self, block: int, world: int) -> list[tuple[int, Int, Int]]:
        """The block's batches: for each of block * world places (history, first, stop)."""
        if self._cached is not None and self._cached[0] == (block, world):
            return self._cached[1]
        rng = np.random.default_rng([self.seed, block, world])
        places = self.block * world
        counts = np.round(self._share * places).astype(int)
        counts[np.argmax(counts)] += places - counts.sum()
        plan: list[tuple[int, Int, Int]] = []
        for which, count in enumerate(counts.tolist()):
            if count:
                plan += [(which, *window) for window in self._cut(which, count, block * self.block, rng)]
        plan = [plan[i] for i in rng.permutation(len(plan))]
        self._cached = ((block, world), plan)
        return plan

    def _cut(self, which: int, count: int, step: int, rng: np.random.Generator) -> list[tuple[Int, Int]]:
        """`count` batches of about `tokens` tokens each, of windows of similar length, from the pool of a step."""
        history = self.histories[which]
        pool, chance = self._drawn_from(which, step)
        trial = lengths(history, *self._windows(history, rng.choice(pool, 256, p=chance)))
        drawn = max(count, round(count * self.tokens / float(trial.mean())))
        first, stop = self._windows(history, rng.choice(pool, drawn, p=chance))
        length = lengths(history, first, stop)
        by_length = np.argsort(length, kind="stable")
        first, stop, length = first[by_length], stop[by_length], length[by_length]
        # Equal shares of tokens, at least one window each.
        place = np.minimum(np.cumsum(length) * count // (length.sum() + 1), count - 1)
        number = np.arange(count + 1)
        cuts = np.maximum.accumulate(np.searchsorted(place, number) - number) + number
        cuts = np.minimum(cuts, len(first) - count + number)
        return [(first[a:b], stop[a:b]) for a, b in pairwise(cuts.tolist())]


def _balanced(history: History, pool: Int, balance: float) -> NDArray[np.float64] | None:
    """Chance of each window of `pool` (see `Sampler`), or None where all are alike."""
    if balance == 0 or not len(pool):
        return None
    store = history.store
    game = np.asarray(store.appearances(history.window.role).game)[history.index[pool]]
    league = store.games["league"].rank("dense").to_numpy()[game]
    weight = np.bincount(league).astype(np.float64)[league] ** -balance
    return np.asarray(weight / weight.sum())
