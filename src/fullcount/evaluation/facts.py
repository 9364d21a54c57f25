"""What is known before a pitch or a plate appearance, read from a store: the frames all rivals and networks share.

A frame has one row a pitch, or a plate appearance as of its first pitch, of one league's regular season. `row`, the
store's row number of that pitch, is its key, so that forecasts made elsewhere can be judged on the same rows
(`Forecast`). Columns that are not in `KEYS` are facts known before the pitch; what is known of players is as of the
morning of the day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.evaluation.pitch_grain import Floats, Ints, column
from fullcount.fields import (
    AUTOMATIC_CALLS,
    BY_NAME,
    CALL_CLASS,
    COLUMN,
    EVENT_OUTCOME,
    OUTCOMES,
    PITCH_CLASSES,
    PITCH_TYPES,
)
from fullcount.priors import Priors, moment_of
from fullcount.store import Store
from fullcount.windows import gather, ranges

#: What a row is, and its answer; not facts to forecast from.
KEYS = ("row", "game_id", "season", "date", "batter", "pitcher", "batter_is_pitcher", "outcome")
#: Facts whose values are names without order.
CATEGORIES = ("park", "stand", "throws", "previous")

_NAMES = ("park", "stand", "throws")
#: Facts that are numbers, and what the first id stands for (id 0 is missing).
_NUMBERS = {
    "bases": 0, "inning": 1, "times_through": 1, "score_diff": -8, "outs": 0, "balls": 0, "strikes": 0,
    "pitch_number": 1,
}  # fmt: skip


def pitch_facts(
    store: Store, priors: Priors, since: date, before: date, league: str = "MLB", automatic: bool = False
) -> pl.DataFrame:
    """Pitches of [since, before) with `outcome` in `PITCH_CLASSES`, the situation and both players' rates to date.

    `automatic`: see `pitch_grain.pitch_rows`.
    """
    calls = [c for c in CALL_CLASS if automatic or c not in AUTOMATIC_CALLS]
    known = _answer("call", {c: PITCH_CLASSES.index(CALL_CLASS[c]) for c in calls})
    frame = _pitches(store, since, before, league)
    frame = frame.with_columns(outcome=known[store.categorical[frame["row"], COLUMN["call"]]])
    return _with_players(frame.filter(pl.col("outcome") >= 0), priors)


def pa_facts(store: Store, priors: Priors, since: date, before: date, league: str = "MLB") -> pl.DataFrame:
    """Plate appearances of [since, before) with `outcome` in `OUTCOMES`, as of their first pitch.

    Batter and pitcher are those of the first pitch. Plate appearances without any pitch row are left out.
    """
    numbers = {event: OUTCOMES.index(o) for event, o in EVENT_OUTCOME.items()}
    answers = store.table("plate_appearances").select(
        "game_id",
        pl.col("pa_number").alias("pa"),
        pl.col("batter_is_pitcher").fill_null(False),
        pl.col("event").replace_strict(numbers, default=None, return_dtype=pl.Int64).alias("outcome"),
    )
    first = _pitches(store, since, before, league).unique(["game_id", "pa"], keep="first", maintain_order=True)
    frame = first.join(answers.drop_nulls("outcome"), on=["game_id", "pa"], how="inner", maintain_order="left")
    return _with_players(frame, priors)


def type_facts(store: Store, priors: Priors, since: date, before: date, league: str = "MLB") -> pl.DataFrame:
    """Pitches of [since, before) whose type is known, with `outcome` in `PITCH_TYPES`.

    Adds `previous`, number of the type the pitcher threw last in this game (null on his first pitch), and `mix_*`, his
    shrunken mix of types as of that morning at such a count and against such a batter (`Priors.repertoire`).
    """
    known = _answer("pitch_type", {t: i for i, t in enumerate(PITCH_TYPES)})
    frame = _pitches(store, since, before, league)
    frame = frame.with_columns(outcome=known[store.categorical[frame["row"], COLUMN["pitch_type"]]])
    frame = frame.filter(pl.col("outcome") >= 0).with_columns(
        pl.col("outcome").shift(1).over("game_id", "pitcher").alias("previous")
    )
    if frame.is_empty():
        raise FullcountError(f"no pitch types between {since} and {before} in this store; add Statcast pitches")
    days = frame["date"].to_physical().to_numpy()
    moments = moment_of(gather(store.categorical, column(frame, "row")))
    shares = np.exp(priors.repertoire(column(frame, "pitcher"), days, moments))
    mix = pl.DataFrame(shares, schema=[f"mix_{t}" for t in PITCH_TYPES])
    return _with_players(frame.hstack(mix), priors)


class Forecast:
    """Forecasts made elsewhere as a rival: probabilities [n, classes] of the store's `rows` [n]."""

    def __init__(self, name: str, rows: Sequence[int] | Ints, probabilities: Floats) -> None:
        if len(rows) != len(probabilities):
            raise FullcountError(f"{name}: {len(rows)} rows and {len(probabilities)} forecasts; give one for each")
        order = np.argsort(rows, kind="stable")
        self.name, self.rows, self.probabilities = name, np.asarray(rows)[order], probabilities[order]

    def fit(self, frame: pl.DataFrame) -> Forecast:
        """Nothing to learn."""
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The forecasts of the frame's rows. FullcountError where one is missing."""
        wanted = column(frame, "row")
        place = np.searchsorted(self.rows, wanted).clip(0, max(len(self.rows) - 1, 0))
        missing = np.ones(len(wanted), dtype=bool) if not len(self.rows) else self.rows[place] != wanted
        if missing.any():
            raise FullcountError(f"{self.name}: no forecast of {int(missing.sum())} rows, such as {wanted[missing][0]}")
        return np.asarray(self.probabilities[place])


def _answer(name: str, numbers: dict[str, int]) -> NDArray[np.int64]:
    """Class number by store id of a field, -1 where it has none."""
    return np.array([-1, *(numbers.get(value, -1) for value in BY_NAME[name].vocabulary or ())])


def _pitches(store: Store, since: date, before: date, league: str) -> pl.DataFrame:
    """Keys and situation of every pitch and automatic call of [since, before), in playing order; `pa` is its number."""
    games = store.games.with_row_index("game").filter(
        (pl.col("game_type") == "R")
        & (pl.col("league") == league)
        & pl.col("date").is_between(since, before, closed="left")
    )
    if games.is_empty():
        raise FullcountError(f"no regular-season games of {league} between {since} and {before} in {store.root}")
    runs = {name: np.asarray(values) for name, values in store.runs.items()}
    wanted = np.flatnonzero(np.isin(runs["game"], games["game"].to_numpy()))
    length = runs["length"][wanted].astype(np.int64)
    rows = ranges(runs["start"][wanted], length)
    run = pl.DataFrame({n: runs[n][wanted] for n in ("game", "pa", "batter", "pitcher")})
    facts = gather(store.categorical, rows)[:, [COLUMN[n] for n in (*_NAMES, *_NUMBERS)]]
    frame = (
        run[np.repeat(np.arange(len(wanted)), length)]
        .hstack(pl.DataFrame(facts, schema=[*_NAMES, *_NUMBERS]))
        .with_columns(pl.Series("row", rows), *[pl.col(n).replace(0, None) + (v - 1) for n, v in _NUMBERS.items()])
    )
    keys = games.select(pl.col("game").cast(pl.Int32), "game_id", "season", "date")
    return frame.join(keys, on="game", maintain_order="left").drop("game").sort("date", "row", maintain_order=True)


def _with_players(frame: pl.DataFrame, priors: Priors) -> pl.DataFrame:
    """The frame with both players' shrunken rates and tendencies as of the morning of each row's day."""
    days = frame["date"].to_physical().to_numpy().astype(np.int64)
    rates = priors.matchup(column(frame, "batter"), column(frame, "pitcher"), days)
    return frame.drop("pa").hstack(pl.DataFrame(rates, schema=[f"matchup_{i}" for i in range(rates.shape[1])]))
