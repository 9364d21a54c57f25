"""Trivial rivals at the pitch: what happened to it, in six classes, from what is known before it is thrown.

A rival is fitted on a frame and gives probabilities [n, classes] for another. Frames come from `pitch_rows`: one row a
pitch, `outcome` its class number. A model of sequences that does not beat `CountPitcherBatter` without knowing the
pitch itself has learned nothing beyond the count and the two players.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.fields import AUTOMATIC_CALLS, CALL_CLASS, PITCH_CLASSES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The published protocol: 2019, trained on the first half of the season.
SEASON, CUT = 2019, date(2019, 7, 1)


class Rival(Protocol):
    """What `judge` compares. Frames have a column `outcome`, which `predict` does not read for the same day."""

    name: str

    def fit(self, frame: pl.DataFrame) -> Rival:
        """Learn from `frame`; returns itself."""

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Probabilities [rows, classes]."""


def pitch_rows(pitches: pl.DataFrame, automatic: bool = False) -> pl.DataFrame:
    """Regular-season pitches of the canonical table, with `outcome` in `PITCH_CLASSES`.

    Columns: game_id, date, balls, strikes, batter, pitcher, outcome. `automatic`: keep automatic calls too, which
    change the count without a pitch; the published figures seem to hold them.
    """
    numbers = {call: PITCH_CLASSES.index(c) for call, c in CALL_CLASS.items()}
    left_out = [] if automatic else list(AUTOMATIC_CALLS)
    return pitches.filter(
        (pl.col("game_type") == "R") & pl.col("call").is_not_null() & ~pl.col("call").is_in(left_out)
    ).select(
        "game_id",
        "date",
        "balls",
        "strikes",
        "batter",
        "pitcher",
        pl.col("call").replace_strict(numbers, return_dtype=pl.Int64).alias("outcome"),
    )


# ------------------------------------------------------------------------------------------------------ shared sums


def tally(group: Ints, groups: int, outcome: Ints, classes: int, weights: Floats | None = None) -> Floats:
    """How often each class came in each group: [groups, classes], weighted."""
    flat = np.bincount(group * classes + outcome, weights=weights, minlength=groups * classes)
    return flat.reshape(groups, classes).astype(np.float64)


def odds(p: Floats) -> Floats:
    """p / (1 - p), finite."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(p / (1 - p))


def from_odds(o: Floats) -> Floats:
    """Rows of odds [n, classes] as probabilities that sum to one.

    Each class's odds become its probability first: dividing odds by their sum would not even give back the rates that
    the odds were taken from.
    """
    return normalise(o / (1 + o))


def normalise(x: Floats) -> Floats:
    """Rows (the last axis) that sum to one."""
    return np.asarray(x / x.sum(axis=-1, keepdims=True))


def look_up(ids: Ints, table: Floats, wanted: Ints, missing: Floats) -> Floats:
    """Rows of `table` (one for each of the sorted `ids`) for `wanted` [n]; `missing` where an id is not there."""
    if not len(ids):
        return np.broadcast_to(missing, (len(wanted), len(missing))).copy()
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where((ids[place] == wanted)[:, None], table[place], missing)


def column(frame: pl.DataFrame, name: str) -> Ints:
    """A column as int64 [n]."""
    return frame[name].cast(pl.Int64).to_numpy()


# ----------------------------------------------------------------------------------------------------------- rivals


class Marginal:
    """The league's mix."""

    name = "marginal"
    mix: Floats

    def __init__(self, classes: int = len(PITCH_CLASSES)) -> None:
        self.classes = classes

    def fit(self, frame: pl.DataFrame) -> Marginal:
        """Shares of the classes."""
        counts = np.bincount(column(frame, "outcome"), minlength=self.classes) + 0.5
        self.mix = counts / counts.sum()
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The same row for every pitch."""
        return np.tile(self.mix, (frame.height, 1))


class CountTable:
    """The mix at each of the twelve counts."""

    name = "count"
    table: Floats

    def __init__(self, classes: int = len(PITCH_CLASSES)) -> None:
        self.classes = classes

    def fit(self, frame: pl.DataFrame) -> CountTable:
        """Shares of the classes by count; half a pitch is added to each so that none is impossible."""
        self.table = normalise(tally(_count(frame), 12, column(frame, "outcome"), self.classes) + 0.5)
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Rows of the table."""
        return self.table[_count(frame)]


class CountPitcherBatter:
    """Odds of the count table times the odds ratios of the pitcher and of the batter, normalised.

    A player's ratio compares his shares with those the count table expects of the counts he was in, both shrunken
    with `strength` pitches of the league's mix, so that it holds what he is like and not which counts he saw.
    """

    name = "count x pitcher x batter"
    ROLES = ("pitcher", "batter")

    def __init__(self, strength: float = 900.0) -> None:
        self.strength = strength
        self.counts = CountTable()
        self.ids: dict[str, Ints] = {}
        self.ratios: dict[str, Floats] = {}

    def fit(self, frame: pl.DataFrame) -> CountPitcherBatter:
        """The count table and both roles' ratios."""
        expected = self.counts.fit(frame).predict(frame)
        outcome, k = column(frame, "outcome"), len(PITCH_CLASSES)
        mix = expected.mean(axis=0)
        for role in self.ROLES:
            self.ids[role], who = np.unique(column(frame, role), return_inverse=True)
            n = len(self.ids[role])
            seen = tally(who, n, outcome, k)
            due = np.stack([np.bincount(who, weights=expected[:, c], minlength=n) for c in range(k)], axis=1)
            faced = seen.sum(axis=1, keepdims=True) + self.strength
            self.ratios[role] = odds((seen + self.strength * mix) / faced) / odds((due + self.strength * mix) / faced)
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Players not seen in fitting count as average."""
        product = odds(self.counts.predict(frame))
        average = np.ones(len(PITCH_CLASSES))
        for role in self.ROLES:
            product = product * look_up(self.ids[role], self.ratios[role], column(frame, role), average)
        return from_odds(product)


def _count(frame: pl.DataFrame) -> Ints:
    """Number of the count, 0..11."""
    return np.asarray(column(frame, "balls").clip(0, 3) * 3 + column(frame, "strikes").clip(0, 2))


# ---------------------------------------------------------------------------------------------------------- judging


def score(probabilities: Floats, outcome: Ints) -> dict[str, float]:
    """How good probabilities [n, classes] are for outcomes [n].

    log_loss in nats; accuracy of the likeliest class; brier, summed over classes; ece, the calibration error: the mean
    over classes, each weighted by its frequency, of |mean forecast - frequency| in twenty bins of equal count;
    top_ece, the same of the likeliest class alone: its probability against how often it came.
    """
    n, k = probabilities.shape
    if not n or len(outcome) != n:
        raise FullcountError(f"cannot judge {n} forecasts of {len(outcome)} outcomes; give one row for each")
    truth = np.eye(k)[outcome]
    right = (probabilities.argmax(axis=1) == outcome).astype(np.float64)
    likelihood = np.clip(probabilities[np.arange(n), outcome], 1e-12, 1.0)
    return {
        "log_loss": float(-np.log(likelihood).mean()),
        "accuracy": float(right.mean()),
        "brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        "ece": float(sum(truth[:, c].mean() * calibration_error(probabilities[:, c], truth[:, c]) for c in range(k))),
        "top_ece": calibration_error(probabilities.max(axis=1), right),
        "n": float(n),
    }


def reliability(forecast: Floats, happened: Floats, bins: int = 20) -> Floats:
    """[groups, 3] mean forecast, frequency and size of `bins` groups of like forecasts; equal ones stay together."""
    edges = np.unique(np.quantile(forecast, np.linspace(0, 1, bins + 1)[1:-1]))
    group = np.searchsorted(edges, forecast, side="right")
    sums = [np.bincount(group, weights=w, minlength=len(edges) + 1) for w in (forecast, happened, None)]
    f, h, n = (s[sums[2] > 0] for s in sums)
    return np.stack([f / n, h / n, n], axis=1)


def calibration_error(forecast: Floats, happened: Floats, bins: int = 20) -> float:
    """Mean |forecast - frequency| over the groups of `reliability`."""
    mean, frequency, n = reliability(forecast, happened, bins).T
    return float(np.average(np.abs(mean - frequency), weights=n))


def forecasts(systems: Sequence[Rival], train: pl.DataFrame, test: pl.DataFrame) -> dict[str, Floats]:
    """Probabilities [rows of `test`, classes] of every system fitted on `train`."""
    return {s.name: s.fit(train).predict(test) for s in systems}


def scores(probabilities: Mapping[str, Floats], outcome: Ints) -> pl.DataFrame:
    """One row a system, see `score`."""
    rows = [{"system": name, **score(p, outcome)} for name, p in probabilities.items()]
    return pl.DataFrame(rows).with_columns(pl.col("n").cast(pl.Int64))


def judge(systems: Sequence[Rival], train: pl.DataFrame, test: pl.DataFrame) -> pl.DataFrame:
    """Fit every system on `train`, score it on `test`."""
    return scores(forecasts(systems, train, test), column(test, "outcome"))


def rivals() -> list[Rival]:
    """All of this grain, weakest first."""
    return [Marginal(), CountTable(), CountPitcherBatter()]


def anchor(pitches: pl.DataFrame, cut: date = CUT, automatic: bool = False) -> pl.DataFrame:
    """The published comparison: fitted before `cut`, judged from then on. `automatic`: see `pitch_rows`."""
    rows = pitch_rows(pitches, automatic)
    return judge(rivals(), rows.filter(pl.col("date") < cut), rows.filter(pl.col("date") >= cut))


if __name__ == "__main__":
    from fullcount.evaluation.game_grain import main

    main("pitch")
