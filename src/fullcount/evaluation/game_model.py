"""A fitted game-grain model beside the ten-line formula, on the same starts."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.adaptation.performance import SampleSource
from fullcount.adaptation.samples import samples
from fullcount.errors import FullcountError, told
from fullcount.evaluation.game_grain import forecasts, judge_games, starts_table
from fullcount.fields import OUTCOMES
from fullcount.priors import EXTRAS, Priors
from fullcount.projection.starts import regular
from fullcount.sources.seasons import main_league
from fullcount.store import Store
from fullcount.training.jobs import load_task
from fullcount.windows import History


def fitted_games(store: Store, run: Path, season: int) -> pl.DataFrame:
    """Expected counts of every game of `season` by a fitted game-grain run: game_id, player, K, BB, ..., the extras.

    Each game is seen as of its own morning. FullcountError if the run was trained on play of the season.
    """
    keys, source = game_source(store, run, season, season)
    names = [*OUTCOMES[1:], *EXTRAS[source.samples.role]]
    return pl.concat([keys, pl.DataFrame(source.expected(), schema=names)], how="horizontal").with_columns(
        pl.sum_horizontal("1B", "2B", "3B", "HR").alias("H")
    )


def game_source(store: Store, run: Path, first: int, last: int) -> tuple[pl.DataFrame, SampleSource]:
    """game_id and player of every game of the seasons `first` .. `last`, and what a fitted run is given of them.

    FullcountError if the run was trained on play of the season `last`.
    """
    fitted = load_task(run)
    if fitted.config.grain != "game":
        raise FullcountError(f"{run}: fitted for seasons; fit with -o grain=game to forecast games")
    if fitted.cutoff > date(last, 3, 1):
        raise FullcountError(f"{run}: trained on play up to {fitted.cutoff}; it may not forecast {last}")
    priors, history = Priors(store), History(store, fitted.config.history_window())
    found = samples(store, history, priors, "game", since=date(first, 3, 1), before=date(last + 1, 1, 1))
    keys = pl.DataFrame({"game_id": found.game_id.tolist(), "player": found.player.astype(np.int32)})
    return keys, SampleSource(fitted.task, history, priors, found, fitted.cache(history, priors))


def compare(store: Store, runs: dict[str, Path], season: int, target: str = "K") -> pl.DataFrame:
    """`judge_games` of the ten-line formula (first) and of fitted runs, on the starts all of them forecast.

    A start of a pitcher without history gets the ten-line forecast from a fitted run too, so that all starts count.
    """
    lines = regular(store, "pitching_games", main_league(store.games["league"]))
    starts = starts_table(lines, season)
    rivals = forecasts(lines, season)
    ten = rivals["ten lines"]
    found = {"ten lines": ten, "mean of last ten starts": rivals["mean of last ten starts"]}
    for name, run in runs.items():
        mine = fitted_games(store, run, season).select("game_id", "player", target)
        joined = starts.select("game_id", "player").join(
            mine, on=["game_id", "player"], how="left", maintain_order="left"
        )
        own = joined[target].to_numpy().astype(float)
        found[name] = np.where(np.isnan(own), ten, own)
        found[f"mean of {name} and ten lines"] = (found[name] + ten) / 2
    return judge_games(found, starts, target)


def main() -> None:
    """`python -m fullcount.evaluation.game_model NAME=RUN --store DIR --season 2019 2021`"""
    parser = argparse.ArgumentParser(description="Strikeouts of starters: fitted models beside the ten-line formula.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--season", type=int, nargs="+", required=True)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="fitted game-grain pitcher runs")
    given = parser.parse_args()
    runs = {name: Path(run) for name, _, run in (r.partition("=") for r in given.runs)}
    if not all(run.name for run in runs.values()):
        raise FullcountError(f"runs are given as NAME=RUN, not {' '.join(given.runs)}")
    store = Store.open(given.store)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=140, float_precision=3):
        for season in given.season:
            print(season, compare(store, runs, season), sep="\n")


if __name__ == "__main__":
    told(main)
