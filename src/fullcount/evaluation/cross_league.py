"""Fitted runs on a league they were not fitted on, beside what counts alone say of the same plate appearances."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from fullcount.adaptation.heads import CountHead, Targets, log5
from fullcount.adaptation.performance import SampleBatch, SampleSource
from fullcount.adaptation.samples import Samples, samples
from fullcount.adaptation.schedule import scheduled
from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import log_loss_gain, pearson, sd_ratio
from fullcount.fields import OUTCOMES
from fullcount.priors import Priors
from fullcount.store import Store
from fullcount.training.jobs import Fitted, load_task
from fullcount.windows import History

Floats = NDArray[np.float64]
RIVALS = ("league mean", "prior", "prior and opponent")
JUDGED = {"K": "K%", "BB": "BB%", "HR": "HR%"}


def cross_league(
    store: Store,
    runs: Mapping[str, Path],
    season: int,
    league: str,
    minimum: int = 100,
    draws: int = 1000,
    progress: bool = True,
) -> pl.DataFrame:
    """One row a system: RIVALS, which know the player's counts in that league, and the fitted runs.

    Targets are the games (or seasons) of `league` in `season`, from the newest cut-off of the runs on, that all runs
    have a window for. Columns: games, players, `nats` (log-loss of the eight outcomes per plate appearance), `gain`
    (how much less than "prior and opponent", with its 95 % interval `low`, `high`, players drawn), and for JUDGED r and
    sd ratio of the rates of players with `minimum` plate appearances: the mean forecast of his targets against what
    came of them, weighted by plate appearances.

    Raises:
        FullcountError: no run, runs of different roles or grains, a plain linear head, or nothing left to judge.
    """
    fitted = {name: load_task(run) for name, run in runs.items()}
    if len({(f.config.role, f.config.grain) for f in fitted.values()}) != 1:
        raise FullcountError("cross-league: give one or more fitted runs, all of one role and grain")
    since = max(date(season, 1, 1), *(f.cutoff for f in fitted.values()))
    priors = Priors(store)
    asked: dict[str, tuple[Samples, Floats]] = {}
    for name, one in fitted.items():
        history = History(store, one.config.history_window())
        found = samples(
            store, history, priors, one.config.grain, since=since, before=date(season + 1, 1, 1), leagues=(league,)
        )
        found = scheduled(found, store, priors, one.config.schedule)
        source = SampleSource(one.task, history, priors, found, one.cache(history, priors), progress)
        asked[name] = found, outcome_mix(one, name, source)
    said = {name: _keyed(s, mix) for name, (s, mix) in asked.items()}
    keys = set.intersection(*(set(s) for s in said.values()))
    first = next(iter(asked.values()))[0]
    kept = first.pick(np.array([k in keys for k in _keys(first)], dtype=bool))
    if not len(kept):
        raise FullcountError(
            f"nothing of {league} in {season} from {since} on to judge: ingest it, or fit up to earlier"
        )
    mixes = _rivals(kept.targets)
    mixes |= {name: np.stack([s[k] for k in _keys(kept)]) for name, s in said.items()}
    return _judge(kept, mixes, minimum, draws)


@torch.no_grad()
def outcome_mix(fitted: Fitted, name: str, source: SampleSource) -> Floats:
    """[m, 8] outcome probabilities of the samples of `source` by a fitted task."""
    if not isinstance(fitted.task.head, CountHead):
        raise FullcountError(f"{name}: only the anchored head has an outcome mix to judge")
    targets = source.samples.targets
    return np.asarray(
        fitted.task.head.mix(fitted.task.represent(SampleBatch(targets, source.ready)), targets).numpy(), np.float64
    )


def _keys(s: Samples) -> list[tuple[int, int, str]]:
    games = s.game_id.tolist() if len(s.game_id) else [""] * len(s)
    return list(zip(s.player.tolist(), s.day.tolist(), games, strict=True))


def _keyed(s: Samples, mix: Floats) -> dict[tuple[int, int, str], Floats]:
    return dict(zip(_keys(s), mix, strict=True))


def _rivals(t: Targets) -> dict[str, Floats]:
    mixes = (t.league, t.prior, log5(t.prior, t.opponent, t.league).softmax(-1))
    return {n: m.numpy().astype(np.float64) for n, m in zip(RIVALS, mixes, strict=True)}


def _judge(s: Samples, mixes: Mapping[str, Floats], minimum: int, draws: int) -> pl.DataFrame:
    """The table of `cross_league`, given the mix [m, 8] of each system."""
    counts = s.targets.counts.numpy().astype(np.float64)
    n = counts.sum(axis=1)
    nats = {name: -(counts * np.log(np.maximum(mix, 1e-9))).sum(axis=1) / n for name, mix in mixes.items()}
    player, owner = np.unique(s.player, return_inverse=True)
    total = np.bincount(owner, n).astype(np.float64)
    often = total >= minimum
    rows = []
    for name, mix in mixes.items():
        row = {"system": name, "targets": len(s), "players": len(player)}
        row |= log_loss_gain(s.player.astype(np.int32), nats[name], nats[RIVALS[-1]], n, draws)
        for outcome, label in JUDGED.items():
            i = OUTCOMES.index(outcome)
            x, y = (np.bincount(owner, v)[often] / total[often] for v in (mix[:, i] * n, counts[:, i]))
            row |= {
                f"{label} r": float(pearson(x, y, total[often])),
                f"{label} sd": float(sd_ratio(x, y, total[often])),
            }
        rows.append(row)
    return pl.DataFrame(rows).fill_nan(None)


def main() -> None:
    """`python -m fullcount.evaluation.cross_league NAME=RUN ... --store DIR --season 2025 --league AAA AA`"""
    parser = argparse.ArgumentParser(description="Fitted runs on a league they were not fitted on.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--season", type=int, required=True)
    parser.add_argument("--league", required=True, nargs="+")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="fitted runs of one role and grain")
    given = parser.parse_args()
    runs = {name: Path(run) for name, _, run in (r.partition("=") for r in given.runs)}
    store = Store.open(given.store)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=4, tbl_hide_dataframe_shape=True):
        for league in given.league:
            print(league, cross_league(store, runs, given.season, league), sep="\n")


if __name__ == "__main__":
    told(main)
