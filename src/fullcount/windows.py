"""What a player's history is on a date: the only door to the past.

A `Window` says which appearances count and how many of them; a `History` answers for many players and dates at once
with row numbers of the store. Nothing on or after the as-of date is ever returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.sources.seasons import main_league
from fullcount.store import PlayerRole, Store

Int = NDArray[np.int64]
NO_DAY = -(1 << 23)  # before every day; days before 1970 are negative
#: How many games a window has by default.
GAMES: dict[PlayerRole, int] = {"batter": 40, "pitcher": 10}


@dataclass(frozen=True)
class Window:
    """The last appearances of a role before a date, as many as all limits allow.

    Attributes:
        role: whose point of view.
        games: at most this many appearances. The default follows the role (asymmetric windows): a starter's ten games
            are about 235 plate appearances, a batter's forty about 165 (see `equal_games`); where plate appearances
            are limited there is no limit of games.
        events: at most this many pitches, in whole games (the newest game is always kept).
        appearances: all, starts only or relief only (pitchers).
        postseason: count postseason games too; regular season only by default.
        plate_appearances: at most this many of which he had a pitch, in whole games like events.
    """

    role: PlayerRole
    games: int | None = None
    events: int = 4096
    appearances: Literal["all", "starts", "relief"] = "all"
    postseason: bool = False
    plate_appearances: int | None = None

    def __post_init__(self) -> None:
        if self.games is None:  # no game is without a plate appearance
            object.__setattr__(self, "games", self.plate_appearances or GAMES[self.role])
        for name in ("games", "events", "plate_appearances"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise FullcountError(f"window: {name} must be 1 or more")
        if self.role == "batter" and self.appearances != "all":
            raise FullcountError("window: starts and relief are for pitchers; a batter's window takes all appearances")


def ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> Int:
    """[s0, s0+1, ..., s0+l0-1, s1, ...]: the numbers of many half-open ranges, shape [sum(lengths)]."""
    lengths = np.asarray(lengths, dtype=np.int64)
    total = int(lengths.sum())
    if not total:
        return np.zeros(0, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    return np.repeat(np.asarray(starts, dtype=np.int64) - before, lengths) + np.arange(total)


def player_day(players: NDArray[np.integer[Any]], days: NDArray[np.integer[Any]]) -> Int:
    """One number for a player and a day (see `store.day_number`), ordered by player and then by day."""
    return (players << 24) + days - NO_DAY


class History:
    """The appearances of a role that a window's filters let through, ready for vectorised as-of questions.

    Attributes:
        index: [n] appearance numbers of `store.appearances(role)`, sorted by player and date.
        players, days: [n] of those.
    """

    def __init__(self, store: Store, window: Window) -> None:
        self.store, self.window = store, window
        all_of = store.appearances(window.role)
        keep = np.ones(len(all_of), dtype=bool)
        if not window.postseason:
            keep &= all_of.regular
        if window.appearances != "all":
            keep &= all_of.starter == (window.appearances == "starts")
        self.index = np.flatnonzero(keep)
        self.players = np.asarray(all_of.player)[self.index].astype(np.int64)
        self.days = np.asarray(all_of.day)[self.index].astype(np.int64)
        self.events = np.asarray(all_of.events)[self.index].astype(np.int64)
        self._key = player_day(self.players, self.days)
        self._pitches = np.append(0, np.cumsum(self.events))
        self._limits = [(self._pitches, window.events)]
        if window.plate_appearances is not None:
            turns = plate_appearances(store, window.role)[self.index]
            self._limits.append((np.append(0, np.cumsum(turns)), window.plate_appearances))

    def before(self, players: NDArray[Any], days: NDArray[Any]) -> tuple[Int, Int]:
        """Windows of `players` [m] as of `days` [m] (see `store.day_number`).

        Returns:
            (first, stop), each [m]: positions in `index`; every appearance in first..stop-1 was before the day. They
            are equal where the player has no history.
        """
        players, days = np.asarray(players, dtype=np.int64), np.asarray(days, dtype=np.int64)
        stop = np.searchsorted(self._key, player_day(players, days), side="left")
        earliest = np.searchsorted(self._key, player_day(players, np.full_like(days, NO_DAY)), side="left")
        return self._first(earliest, stop), stop

    def since(self, players: NDArray[Any], day: int) -> Int:
        """Positions in `index` of the first appearance of each of `players` [m] on or after `day`."""
        players = np.asarray(players, dtype=np.int64)
        return np.searchsorted(self._key, player_day(players, np.full_like(players, day)), side="left")

    def ending_at(self, positions: NDArray[Any]) -> tuple[Int, Int]:
        """Windows whose last appearance is `positions` [m] of `index`."""
        positions = np.asarray(positions, dtype=np.int64)
        earliest = np.searchsorted(self._key, player_day(self.players[positions], np.full_like(positions, NO_DAY)))
        return self._first(earliest, positions + 1), positions + 1

    def _first(self, earliest: Int, stop: Int) -> Int:
        assert self.window.games is not None
        first = np.maximum(earliest, stop - self.window.games)
        for seen, most in self._limits:
            enough = np.searchsorted(seen, seen[stop] - most, side="left")
            first = np.maximum(first, np.minimum(enough, stop - 1))
        return np.minimum(first, stop)

    def pitches(self, first: Int, stop: Int) -> Int:
        """Pitches [m] in the windows `first`..`stop` [m]."""
        return np.asarray(self._pitches[stop] - self._pitches[first])

    def runs(self, appearances: NDArray[Any]) -> NDArray[Any]:
        """Run numbers (see `Store.runs`) of `appearances` [k] (positions in `index`), in order."""
        all_of = self.store.appearances(self.window.role)
        chosen = self.index[appearances]
        return np.asarray(all_of.order)[ranges(all_of.start[chosen], all_of.runs[chosen])]

    def rows(self, appearances: NDArray[Any]) -> tuple[Int, Int]:
        """Store rows of `appearances` [k] (positions in `index`), in order.

        Returns:
            rows [events] of the store, and events per appearance [k].
        """
        runs, order = self.store.runs, self.runs(appearances)
        return ranges(runs["start"][order], runs["length"][order]), self.events[appearances]


def plate_appearances(store: Store, role: PlayerRole) -> Int:
    """Of each of `store.appearances(role)` [n], the number of plate appearances of which he had a pitch."""
    all_of = store.appearances(role)
    number = np.asarray(store.runs["pa"])[all_of.order]
    another = np.append(True, number[1:] != number[:-1])[: len(number)]  # a turn that two pitchers share is two runs
    another[all_of.start] = True
    seen = np.append(0, another.cumsum())
    return np.asarray(np.diff(seen[np.append(all_of.start, len(number))]))


def equal_games(store: Store, role: PlayerRole, before: date) -> int:
    """How many games of a role hold as many plate appearances as the other role's default window.

    Both are means over the games that somebody started (batters: not as a pitcher) in the main league's regular
    season before the date: means, because a window's games add up.

    Raises:
        FullcountError: there is no such game.
    """
    main = main_league(store.games["league"])
    counted = (pl.col("league") == main) & (pl.col("game_type") == "R") & (pl.col("date") < before)
    batting = store.table("batting_games").filter(counted, pl.col("starter"), ~pl.col("is_pitcher").fill_null(False))
    pitching = store.table("pitching_games").filter(counted, pl.col("GS") > 0)
    if batting.is_empty() or pitching.is_empty():
        raise FullcountError(f'games = "equal": the store has no game with starters before {before}')
    held = {"batter": float(batting["PA"].to_numpy().mean()), "pitcher": float(pitching["BF"].to_numpy().mean())}
    other: PlayerRole = "pitcher" if role == "batter" else "batter"
    return max(1, round(GAMES[other] * held[other] / held[role]))


def gather(array: NDArray[Any], rows: Int) -> NDArray[Any]:
    """`array[rows]` of a row-major [n, k] array, each row copied as one block: several times faster than by element."""
    width = array.shape[1]
    if not len(rows):
        return np.zeros((0, width), dtype=array.dtype)
    block = np.asarray(array).view(np.dtype((np.void, array.dtype.itemsize * width)))[:, 0]
    return block[rows].view(array.dtype).reshape(len(rows), width)
