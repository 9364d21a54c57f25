"""Gradient-boosted rivals at three grains, beside the trivial ones, on the frames of `facts`.

    python -m fullcount.evaluation.boosted --store STORE [--run RUN ...] [--types-run RUN ...] [--save FOLDER]

They know what a table knows (count, situation, both players' shrunken rates to date) and how it interacts, but no
sequence. A model of sequences earns its keep only by what it says beyond them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError, told
from fullcount.evaluation import pa_grain, pitch_grain
from fullcount.evaluation.facts import CATEGORIES, KEYS, pa_facts, pitch_facts, type_facts
from fullcount.evaluation.foresight import foresee
from fullcount.evaluation.metrics import interval, resamples
from fullcount.evaluation.pitch_grain import CountTable, Floats, Marginal, Rival, column, forecasts, normalise, scores
from fullcount.fields import OUTCOMES, PITCH_CLASSES, PITCH_TYPES
from fullcount.priors import Priors
from fullcount.store import Store
from fullcount.training.jobs import load_encoder

#: Fixed, not tuned on a judged season. Threads are the environment's (OMP_NUM_THREADS).
PARAMETERS = {
    "objective": "multiclass", "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 200, "max_bin": 63,
    "feature_fraction": 0.5, "lambda_l2": 10.0, "cat_smooth": 50.0, "seed": 0, "deterministic": True,
    "force_row_wise": True, "verbose": -1,
}  # fmt: skip
TREES, PATIENCE = 400, 15


class Boosted:
    """LightGBM on every fact of a frame, added to the log-probabilities of `base`.

    Trees are added until they no longer help on the last tenth of the days of the training frame, which are not
    fitted. At most `rows` training rows are used, drawn by a fixed seed.
    """

    name = "boosted"
    model: lightgbm.Booster

    def __init__(self, base: Rival, rows: int = 500_000) -> None:
        self.base, self.rows = base, rows

    def fit(self, frame: pl.DataFrame) -> Boosted:
        """The base on the whole frame, the trees on its earlier days. FullcountError for a frame of one day."""
        days = frame["date"].unique().sort()
        cut = days[-max(1, len(days) // 10)]
        early, late = frame.filter(pl.col("date") < cut), frame.filter(pl.col("date") >= cut)
        if early.is_empty():
            raise FullcountError("boosting needs two days or more: one to fit and a later one to stop on")
        self.base.fit(frame)
        fitted, held = (
            self._data(f.sample(min(n, f.height), seed=0)) for f, n in ((early, self.rows), (late, 100_000))
        )
        self.model = lightgbm.train(
            PARAMETERS | {"num_class": self.base.predict(frame[:1]).shape[1]},
            fitted,
            TREES,
            valid_sets=[held],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Softmax of the base's log-probabilities plus the trees."""
        raw = self._base(frame) + self.model.predict(facts(frame), raw_score=True)
        return normalise(np.exp(raw - raw.max(axis=1, keepdims=True)))

    def _base(self, frame: pl.DataFrame) -> Floats:
        return np.asarray(np.log(np.maximum(self.base.predict(frame), 1e-9)))

    def _data(self, frame: pl.DataFrame) -> lightgbm.Dataset:
        names = fact_names(frame)
        return lightgbm.Dataset(
            facts(frame),
            label=column(frame, "outcome"),
            init_score=self._base(frame),
            feature_name=names,
            categorical_feature=[c for c in CATEGORIES if c in names],
        )


def fact_names(frame: pl.DataFrame) -> list[str]:
    """Columns a forecast may be made from."""
    return [c for c in frame.columns if c not in KEYS]


def facts(frame: pl.DataFrame) -> NDArray[np.float32]:
    """All facts of a frame [n, facts], NaN where missing."""
    return frame.select(pl.col(fact_names(frame)).cast(pl.Float32).fill_null(np.nan)).to_numpy()


class OwnMix:
    """The pitcher's own shrunken mix of pitch types at this kind of count, to date."""

    name = "own mix by count"

    def fit(self, frame: pl.DataFrame) -> OwnMix:
        """Nothing to learn: the mix is a fact of each row."""
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The columns `mix_*`."""
        return normalise(frame.select(f"mix_{t}" for t in PITCH_TYPES).to_numpy().astype(np.float64))


# ------------------------------------------------------------------------------------------------------ comparisons

#: Judged rows, and every system's probabilities of them.
Comparison = tuple[pl.DataFrame, dict[str, Floats]]


def compare(systems: Sequence[Rival], frame: pl.DataFrame, cut: date) -> Comparison:
    """All systems fitted on the days of `frame` before `cut`, and their forecasts from then on."""
    early, late = frame.filter(pl.col("date") < cut), frame.filter(pl.col("date") >= cut)
    if early.is_empty() or late.is_empty():
        raise FullcountError(f"nothing to fit or nothing to judge: all rows lie on one side of {cut}")
    return late, forecasts(systems, early, late)


def pitches(store: Store, priors: Priors, others: Sequence[Rival] = ()) -> Comparison:
    """Result of a pitch in six classes, 2019 from July on; fitted on the season before and the first half."""
    frame = pitch_facts(store, priors, date(2018, 1, 1), date(2020, 1, 1))
    return compare([*pitch_grain.rivals(), Boosted(Marginal(), rows=1_200_000), *others], frame, pitch_grain.CUT)


def plate_appearances(
    store: Store, priors: Priors, others: Sequence[Rival] = (), pitchers_bat: bool = True
) -> Comparison:
    """Outcome of a plate appearance in eight classes, 2019; fitted on the three seasons before.

    `pitchers_bat`: with the plate appearances of pitchers.
    """
    frame = pa_facts(store, priors, date(2016, 1, 1), date(2020, 1, 1))
    if not pitchers_bat:
        frame = frame.filter(~pl.col("batter_is_pitcher"))
    return compare([*pa_grain.rivals(), Boosted(Marginal(len(OUTCOMES))), *others], frame, date(2019, 1, 1))


def pitch_types(store: Store, priors: Priors, others: Sequence[Rival] = ()) -> Comparison:
    """Next pitch type, 2024 from July on; fitted on the first half."""
    frame = type_facts(store, priors, date(2024, 1, 1), date(2025, 1, 1))
    systems: list[Rival] = [CountTable(len(PITCH_TYPES)), OwnMix(), Boosted(OwnMix(), rows=200_000)]
    return compare([*systems, *others], frame, date(2024, 7, 1))


def gains(found: Mapping[str, Floats], judged: pl.DataFrame, base: str = "boosted", draws: int = 1000) -> pl.DataFrame:
    """How many nats a pitch each system is better than `base`, with a 95 % interval from resampled games."""
    outcome = column(judged, "outcome")
    _, game = np.unique(judged["game_id"].to_numpy(), return_inverse=True)
    weights = resamples(int(game.max()) + 1, draws)
    rows = np.bincount(game)

    def loss(p: Floats) -> Floats:
        return np.asarray(-np.log(np.clip(p[np.arange(len(outcome)), outcome], 1e-12, 1)))

    table = []
    for name, p in found.items():
        gain = loss(found[base]) - loss(p)
        drawn = weights @ np.bincount(game, weights=gain) / (weights @ rows)
        value, low, high = interval(float(gain.mean()), drawn)
        table.append({"system": name, f"better than {base}": value, "low": low, "high": high})
    return pl.DataFrame(table)


def main() -> None:
    """Print the tables; with --save keep forecasts (row, outcome, one array a system) and reliability curves."""
    from fullcount.report.figures import reliability

    parser = argparse.ArgumentParser(description="Gradient-boosted rivals beside the trivial ones, on real seasons.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--save", type=Path, help="folder for forecasts and figures")
    parser.add_argument("--run", type=Path, action="append", default=[], help="next-event run to judge on 2019")
    parser.add_argument("--types-run", type=Path, action="append", default=[], help="next-event run to judge on types")
    parser.add_argument("--only", nargs="+", help="words in the titles of the comparisons wanted")
    given = parser.parse_args()
    store = Store.open(given.store)
    priors = Priors(store)
    spring = date(2019, 3, 1)
    # A run that has seen the first half of the season is judged on the second half's pitches alone.
    seen = {run: load_encoder(run)[2] for run in given.run}
    of_2019 = {run: foresee(run, store, max(spring, cutoff), date(2020, 1, 1)) for run, cutoff in seen.items()}
    whole = [said["outcome"] for run, said in of_2019.items() if seen[run] <= spring]
    of_types = [foresee(run, store, date(2024, 7, 1), date(2025, 1, 1))["pitch_type"] for run in given.types_run]
    comparisons: dict[str, tuple[Callable[[Store, Priors], Comparison], Sequence[str]]] = {
        "pitch types": (partial(pitch_types, others=of_types), PITCH_TYPES),
        "plate appearances": (partial(plate_appearances, others=whole), OUTCOMES),
        "plate appearances without pitchers batting": (
            partial(plate_appearances, others=whole, pitchers_bat=False),
            OUTCOMES,
        ),
        "pitches": (partial(pitches, others=[said["pitch"] for said in of_2019.values()]), PITCH_CLASSES),
    }
    for title, (comparison, names) in comparisons.items():
        if given.only and not any(word in title for word in given.only):
            continue
        try:
            judged, found = comparison(store, priors)
        except FullcountError as error:  # its seasons are not in the store: the others may be
            print(f"{title}: {error}")
            continue
        outcome = column(judged, "outcome")
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=4):
            print(title, scores(found, outcome).join(gains(found, judged), on="system"), sep="\n", flush=True)
        if given.save:
            given.save.mkdir(parents=True, exist_ok=True)
            file = given.save / title.replace(" ", "_")
            np.savez(file.with_suffix(".npz"), row=column(judged, "row"), outcome=outcome, **found)  # type: ignore[arg-type]
            reliability(found, outcome, names).savefig(file.with_suffix(".png"))


if __name__ == "__main__":
    told(main)
