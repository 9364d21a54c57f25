"""Strikeouts of starters, season by season: trees on what is known in the morning beside the ten-line formula.

R² is 1 - squared error over squared deviation from the mean of the judged starts; `nats` the log-likelihood of the
counts a start, each forecast under a negative binomial of the spread that its own forecasts of the season before had.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from rich.progress import track

from fullcount.errors import FullcountError, told
from fullcount.evaluation.game_grain import forecasts, judge_games, r2
from fullcount.evaluation.game_model import game_source
from fullcount.evaluation.metrics import log_loss_gain, pearson
from fullcount.priors import Priors
from fullcount.projection.starts import (
    COUNTS,
    SEASONS,
    Floats,
    dispersion,
    expected,
    facts,
    log_score,
    over,
    played,
    regular,
)
from fullcount.sources.seasons import main_league
from fullcount.store import Store

#: Components of the embeddings that trees are given.
WIDTH = 16
LINES = (4.5, 5.5, 6.5)


def known(store: Store, seasons: list[int]) -> pl.DataFrame:
    """`facts` of every start of the seasons judged, of the one before each and of those that trees learn from.

    FullcountError where the store lacks one of the seasons or the two before it.
    """
    priors = Priors(store)
    starts = played(store, priors.league_name)
    have = set(starts["season"].unique())
    for season in seasons:
        if missing := [s for s in range(season - 2, season + 1) if s not in have]:
            raise FullcountError(f"the store has no starts of {missing[0]}, which judging {season} needs")
    first = max(min(seasons) - 1 - SEASONS, int(starts["season"].min()) + 1)  # type: ignore[arg-type]
    return facts(store, priors, starts.filter(pl.col("season").is_between(first, max(seasons))))


def with_line_ups(store: Store, starts: pl.DataFrame) -> pl.DataFrame:
    """`starts` with the batters who did start against them in place of those lately sent out: known an hour before."""
    priors = Priors(store)
    batters = (
        regular(store, "batting_games", priors.league_name)
        .filter("starter")
        .select("game_id", "date", "player", opponent="team")
    )
    of = priors.features("batter", batters["player"].to_numpy(), batters["date"].cast(pl.Int32).to_numpy())
    names = {"x:line-up K": 0, "x:line-up BB": 1, "x:line-up HR": 5}
    mean = batters.with_columns(pl.Series(n, of[:, i].astype(np.float64)) for n, i in names.items())
    mean = mean.group_by("game_id", "opponent").agg(pl.col(list(names)).mean())
    return starts.drop(list(names)).join(mean, on=["game_id", "opponent"], how="left", maintain_order="left")


def with_embeddings(store: Store, run: Path, starts: pl.DataFrame) -> pl.DataFrame:
    """`starts` with `WIDTH` principal components (of the first half of them) of what a fitted game-grain run reads of
    each, and its own expectation (`said`, null without history; it knows the line-up)."""
    keys, source = game_source(store, run, int(starts["season"].min()), int(starts["season"].max()))  # type: ignore[arg-type]
    read = source.ready.numpy().astype(np.float64)
    half = read[: len(read) // 2]
    centre, spread = half.mean(axis=0), half.std(axis=0) + 1e-9
    turned = np.linalg.svd((half - centre) / spread, full_matrices=False)[2][:WIDTH]
    components = pl.DataFrame((read - centre) / spread @ turned.T, schema=[f"x:embedding {i}" for i in range(WIDTH)])
    found = pl.concat([keys, components, pl.DataFrame({"said": source.expected()[:, 0]})], how="horizontal")
    return starts.join(found, on=["game_id", "player"], how="left", maintain_order="left")


def season_forecasts(
    store: Store, starts: pl.DataFrame, season: int, others: Mapping[str, pl.DataFrame]
) -> dict[str, Floats]:
    """Expected strikeouts of the starts of `season`, by the formula (first) and by trees on `starts` and `others`."""
    lines = regular(store, "pitching_games", main_league(store.games["league"]))
    found = {"ten lines": forecasts(lines, season)["ten lines"]}
    for name, frame in {"trees": starts, **others}.items():
        now = frame.filter(pl.col("season") == season)
        found[name] = expected(frame, now, "SO")
        if "said" in frame.columns:
            said = now["said"].to_numpy()
            head = np.where(np.isnan(said), found["ten lines"], said)
            found |= {"fitted head, line-up": head, "mean of trees and head": (found["trees"] + head) / 2}
    return found


def judge(
    store: Store, starts: pl.DataFrame, seasons: list[int], run: Path | None = None, draws: int = 1000
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All forecasts of `seasons`: a table of how good they are, and one of how often P(over) came true.

    The first: season, system, n, r2 with its `difference` from the formula's (`low`, `high`), r, rmse, spread `a`,
    `nats` a start and `gain` over the formula (`gain_low`, `gain_high`); pitchers are resampled with all their starts.
    `starts` are those of `known`.
    """
    others = {"trees, line-up": with_line_ups(store, starts)}
    if run is not None:
        others["trees, embedding"] = with_embeddings(store, run, starts)
    every = sorted({*seasons, *(s - 1 for s in seasons)})
    said = {s: season_forecasts(store, starts, s, others) for s in track(every, description="seasons", transient=True)}
    rows, sure = [], []
    for season in seasons:
        now = starts.filter(pl.col("season") == season).with_columns(K="SO")
        happened, players = now["K"].to_numpy(), now["player"].to_numpy()
        before = starts.filter(pl.col("season") == season - 1)["SO"].to_numpy()
        spread = {n: dispersion(m, before) for n, m in said[season - 1].items()}
        nats = {n: -log_score(m, happened, spread[n]) for n, m in said[season].items()}
        table = judge_games(said[season], now, draws=draws)
        for row in table.iter_rows(named=True):
            name = row["system"]
            gain = log_loss_gain(players, nats[name], nats["ten lines"], np.ones(len(players)), draws)
            rows.append(
                {"season": season, **row, "r": float(pearson(said[season][name], happened)), "a": spread[name]}
                | {"nats": gain["nats"], "gain": gain["gain"], "gain_low": gain["low"], "gain_high": gain["high"]}
            )
        # The formula with a Poisson, as it is usually used, and ours.
        for name, a in (("ten lines", 0.0), ("trees", spread["trees"])):
            for line in LINES:
                p = over(said[season][name], line, a)
                sure.append(
                    pl.DataFrame({"season": season, "system": name, "line": line, "p": p, "over": happened > line})
                )
    return pl.DataFrame(rows), pl.concat(sure)


def reliability(sure: pl.DataFrame) -> pl.DataFrame:
    """Per system, line and tenth of the probabilities: n, mean probability, share that went over."""
    tenth = (pl.col("p").rank("ordinal") * 10 / (pl.len() + 1)).floor().cast(pl.Int64).over("system", "line")
    return (
        sure.with_columns(tenth=tenth + 1)
        .group_by("system", "line", "tenth")
        .agg(pl.len().alias("n"), pl.col("p").mean(), pl.col("over").mean())
        .sort("system", "line", "tenth")
    )


def brier(sure: pl.DataFrame) -> pl.DataFrame:
    """Per system and line: Brier score, and how far tenths are from what happened on average."""
    off = reliability(sure).group_by("system", "line").agg(off=(pl.col("p") - pl.col("over")).abs().mean())
    score = sure.group_by("system", "line").agg(pl.len().alias("n"), brier=(pl.col("p") - pl.col("over")).pow(2).mean())
    return score.join(off, on=["system", "line"]).sort("line", "system")


def other_counts(starts: pl.DataFrame, seasons: list[int]) -> pl.DataFrame:
    """R² of every count of a starter's line but strikeouts, by the base that trees begin with and by trees."""
    rows = []
    for season in seasons:
        now = starts.filter(pl.col("season") == season)
        for count in (c for c in COUNTS if c != "SO"):
            y = now[count].to_numpy()
            said = {"base": now[f"m:{count}"].to_numpy(), "trees": expected(starts, now, count)}
            rows.append({"season": season, "count": count} | {n: float(r2(m, y)) for n, m in said.items()})
    return pl.DataFrame(rows)


def ceiling(starts: pl.DataFrame, least: int = 5) -> pl.DataFrame:
    """Per season the most R² there is in knowing who pitches: the share of the variance of strikeouts between pitchers
    of `least` starts, chance taken out; and with the batters faced known too, binomial chance alone left."""
    rows = []
    for season in starts["season"].unique().sort():
        now = starts.filter((pl.col("season") == season) & (pl.len().over("player", "season") >= least))
        k, faced = now["SO"].to_numpy(), now["BF"].to_numpy()
        within = now.select((pl.col("SO") - pl.col("SO").mean().over("player")).pow(2).sum()).item()
        pitchers = now["player"].n_unique()
        noise = within / (len(k) - pitchers)
        rate = now.select((pl.col("SO").sum() / pl.col("BF").sum()).over("player")).to_series().to_numpy()
        chance = (faced * rate * (1 - rate)).mean()
        rows.append(
            {
                "season": season,
                "n": len(k),
                "variance": k.var(),
                "pitcher": 1 - noise / k.var(ddof=1),
                "batters faced too": 1 - chance / k.var(),
            }
        )
    return pl.DataFrame(rows)


def main() -> None:
    """`python -m fullcount.evaluation.starts --store DIR --season 2019 2021 [--run RUN]`"""
    parser = argparse.ArgumentParser(description="Strikeouts of starters: trees beside the ten-line formula.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--season", type=int, nargs="+", required=True)
    parser.add_argument("--run", type=Path, help="fitted game-grain pitcher run, whose embeddings trees are given")
    given = parser.parse_args()
    store = Store.open(given.store)
    starts = known(store, given.season)
    table, sure = judge(store, starts, given.season, given.run)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, float_precision=4):
        print(table, brier(sure), reliability(sure), sep="\n")
        print(other_counts(starts, given.season))
        print(ceiling(starts.filter(pl.col("season").is_in(given.season))))


if __name__ == "__main__":
    told(main)
