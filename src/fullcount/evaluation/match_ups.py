"""Hitters' games one by one: the match-up (opposing pitchers, hands, park) beside a hitter's own rates.

Everybody who started a game; both forecasts have the same plate appearances, so that they differ in rates alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from rich.progress import track
from scipy.special import xlogy

from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import Paired, log_loss_gain, paired_bootstrap, pearson
from fullcount.priors import Priors
from fullcount.projection.match_ups import COUNTS, KEYS, hitters
from fullcount.projection.starts import regular
from fullcount.store import Store


def begun(store: Store, league: str, season: int) -> pl.DataFrame:
    """Every hitter's start of `season` as a row to be asked (pitchers' batting left out), and what happened (`y:`)."""
    starters = regular(store, "pitching_games", league).filter(pl.col("GS") == 1)
    lines = regular(store, "batting_games", league).filter(
        pl.col("season") == season, "starter", ~pl.col("is_pitcher").fill_null(False), pl.col("PA") > 0
    )
    return (
        lines.join(store.games.select("game_id", "park"), on="game_id")
        .join(starters.select("game_id", opponent="team", pitcher="player"), on=["game_id", "opponent"], how="left")
        .with_columns(as_of="date")
        .sort("date", "game_id", "player")
        .select(*KEYS, pl.col(COUNTS).cast(pl.Float64).name.prefix("y:"))
    )


def judge(store: Store, seasons: list[int], draws: int = 200) -> pl.DataFrame:
    """Per season and count: n, r of his own rates and of the match-up, `difference` (`low`, `high`), and `gain`, by how
    much the match-up's Poisson is likelier, in thousandths of a nat a game (`gain_low`, `gain_high`)."""
    priors, rows = Priors(store), []
    for season in track(seasons, description="seasons", transient=True):
        asked = begun(store, priors.league_name, season)
        if asked.is_empty():
            raise FullcountError(f"the store has no hitters' games of {season}")
        said = hitters(store, priors, asked)
        players, ones = said["player"].to_numpy(), np.ones(said.height)
        for count in COUNTS[1:]:
            y, plain, ours = (said[c].to_numpy() for c in (f"y:{count}", f"plain:{count}", count))
            row = {"season": season, "count": count, "n": said.height}
            row |= {"plain r": float(pearson(plain, y)), "r": float(pearson(ours, y))}
            found = paired_bootstrap(pearson, [Paired(players, y, plain, ours)], draws)
            nats = [1000 * (m - xlogy(y, m)) for m in (plain, ours)]
            gain = log_loss_gain(players, nats[1], nats[0], ones, draws)
            rows.append(
                row
                | {"difference": found.value, "low": found.low, "high": found.high}
                | {"gain": gain["gain"], "gain_low": gain["low"], "gain_high": gain["high"]}
            )
    return pl.DataFrame(rows)


def main() -> None:
    """`python -m fullcount.evaluation.match_ups --store DIR --season 2019 2021`"""
    parser = argparse.ArgumentParser(description="Hitters' games: the match-up beside their own rates.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--season", type=int, nargs="+", required=True)
    given = parser.parse_args()
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, float_precision=4):
        print(judge(Store.open(given.store), given.season))


if __name__ == "__main__":
    told(main)
