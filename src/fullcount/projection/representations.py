"""What an encoder says of everybody's play before a date: season by season, relative to the league."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fullcount.adaptation.performance import EmbeddingCache, embed, pool
from fullcount.adaptation.samples import recent_windows
from fullcount.priors import Priors
from fullcount.projection.system import Role
from fullcount.store import PlayerRole, Store, day_number
from fullcount.training.jobs import embedding_cache, load_encoder, load_pretraining
from fullcount.windows import History, Int, Window, ranges

#: Days after which a stretch of play weighs half: one mean of the last months, one of the last years.
HALF_LIVES = (120.0, 600.0)
#: So many seasons' games and pitches, at the most, are read before a date, if one of them was in the last two years.
SEASONS = 3


def stretches(history: History, events: int) -> tuple[Int, Int]:
    """Consecutive games of one player in one season, each stretch until it has `events` of them.

    Where one ends does not depend on what comes later: a season that is under way is cut as it will be when it is over.

    Returns:
        (first, stop), each [k]: positions in `history.index`; together they are all of it, in order.
    """
    season = history.days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64)
    begins = np.append(True, (np.diff(history.players) != 0) | (np.diff(season) != 0))[: len(season)]
    seen = np.append(0, np.cumsum(history.events))[:-1]
    number = (seen - seen[begins][np.cumsum(begins) - 1]) // events
    first = np.flatnonzero(begins | np.append(True, np.diff(number) != 0)[: len(season)])
    return first, np.append(first[1:], len(season))


@dataclass(frozen=True, eq=False)
class _Reader:
    """Everybody's play in a role in stretches [k], `first` and `stop` of each, and what is embedded of them."""

    history: History
    cache: EmbeddingCache
    first: Int
    stop: Int


class Representations:
    """Players' representations by a pre-trained encoder, kept on disk beside it.

    Each season is read in stretches of the length of the windows that the encoder was trained on; a player is the
    event-weighted mean of his stretches (see `SEASONS`), one mean for each of `HALF_LIVES`, less the
    same mean of everybody's who is recent, so that a drifting league does not look like a change in everybody.
    """

    def __init__(self, store: Store, run: Path) -> None:
        self.store, self.run = store, run
        self.encoder, self._name, self.cutoff = load_encoder(run)
        self._trained = load_pretraining(run)
        self._priors = Priors(store)
        self._readers: dict[PlayerRole, _Reader] = {}
        self._read: dict[tuple[Role, date], tuple[Int, NDArray[np.float64]]] = {}

    @property
    def width(self) -> int:
        """Numbers a player."""
        return self.encoder.config.d_model * len(HALF_LIVES)

    def of(self, role: Role, as_of: date) -> tuple[Int, NDArray[np.float64]]:
        """Players [m] with recent play before `as_of` and what is read of them, [m, width]; kept."""
        if (role, as_of) not in self._read:
            self._read[role, as_of] = self._before("batter" if role == "hitters" else "pitcher", day_number(as_of))
        return self._read[role, as_of]

    def _before(self, role: PlayerRole, day: int) -> tuple[Int, NDArray[np.float64]]:
        reader = self._reader(role)
        history = reader.history
        first, stop = recent_windows(history, day, self._priors.league_name)
        if not len(first):
            return first, np.zeros((0, self.width))
        a = np.searchsorted(reader.first, first, side="right") - 1  # the stretch which his window begins in
        b = np.searchsorted(reader.first, stop, side="left")
        owner, which = np.repeat(np.arange(len(first)), b - a), ranges(a, b - a)
        ends = np.minimum(reader.stop[which], stop[owner])  # a season that is under way is read to the day
        whole = ends == reader.stop[which]
        vectors = np.zeros((len(which), self.encoder.config.d_model), dtype=np.float32)
        vectors[whole] = reader.cache(reader.first[which[whole]], reader.stop[which[whole]])
        if not whole.all():
            begin = reader.first[which[~whole]]
            vectors[~whole] = embed(self.encoder, history, begin, ends[~whole], self._priors)
        ago = (day - history.days[ends - 1]).astype(np.float32)
        events = history.pitches(reader.first[which], ends).astype(np.float32)
        read, days, weights, owners = (torch.from_numpy(x) for x in (vectors, ago, events, owner))
        pooled = pool(read, days, weights, owners, len(first), HALF_LIVES).numpy()
        weight = history.pitches(first, stop).astype(np.float32)[:, None]
        relative = pooled - (pooled * weight).sum(axis=0) / weight.sum()
        return history.players[first], relative.astype(np.float64)

    def _reader(self, role: PlayerRole) -> _Reader:
        if role not in self._readers:
            events = self._trained.window(role).events
            history = History(self.store, Window(role, games=SEASONS * 170, events=SEASONS * 4096))
            first, stop = stretches(history, events)
            cache = embedding_cache(self.run, self._name, self.encoder, history, self._priors, of="stretches")
            self._readers[role] = _Reader(history, cache, first, stop)
        return self._readers[role]
