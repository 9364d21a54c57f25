"""Probe table: what a frozen encoder's embeddings say of players' next games and seasons, beside their prior.

A player on a date is the event-weighted mean of the single-game embeddings of his last games before it. One ridge
regression reads that, the prior's features, or both. All is within the season: features and rates are taken less
their season's mean, so a league that drifts says nothing of players, and r and sd ratio do not ask for a level.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fullcount.adaptation.performance import embed, pool
from fullcount.adaptation.samples import Grain, Samples, samples
from fullcount.config import Base, WindowConfig, settled
from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import Interval, Paired, paired_bootstrap, pearson, sd_ratio, spelt_out
from fullcount.fields import OUTCOMES, PITCH_TYPES
from fullcount.model.transformer import GamestateTransformer
from fullcount.priors import Priors
from fullcount.store import ROLES, PlayerRole, Store
from fullcount.training.devices import device
from fullcount.training.jobs import load_encoder
from fullcount.windows import History, Int, ranges

Floats = NDArray[np.float64]

#: Rates judged, and the outcomes they count.
TARGETS = {"K%": "K", "BB%": "BB", "HR%": "HR"}
#: Ridge strengths to choose from, in samples of mean exposure (features have unit variance).
STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
KEYS = ("role", "grain", "target", "system", "measure")


class Judged(Base):
    """On what players' next games and seasons are judged.

    Attributes:
        judged: seasons of the targets, in order; nothing is chosen on them.
        minimum_exposure: plate appearances (batters faced) of a season that counts (season grain).
        stretches, stretch: next games are those of `stretches` random stretches of up to `stretch` games of one player
            a season and role. Their windows overlap, so a target costs few games to encode.
        draws: of the bootstrap.
    """

    judged: tuple[int, ...] = Field((2019, 2021, 2022, 2023), min_length=1)
    minimum_exposure: int = Field(100, ge=1)
    stretches: int = Field(120, gt=0)
    stretch: int = Field(15, gt=0)
    seed: int = 0
    draws: int = Field(1000, gt=0)


class ProbeConfig(Judged):
    """What is probed. The defaults encode 3.6 million tokens of real seasons.

    Attributes:
        fit: seasons of the targets that the ridge is fitted to, in order, before those judged.
        batter, pitcher: the games a representation is the mean of.
        use_prior: the encoder may read priors where it was trained to (the slot, the match-up); off, the default: only
            pitches speak in the embedding, and what it adds to the prior is its own.
    """

    fit: tuple[int, ...] = (2016, 2017, 2018)
    batter: WindowConfig = WindowConfig(games=30)
    pitcher: WindowConfig = WindowConfig(games=10)
    use_prior: bool = False

    @property
    def seasons(self) -> tuple[int, ...]:
        """All of them, in order."""
        return (*self.fit, *self.judged)

    @model_validator(mode="after")
    def _fits(self) -> ProbeConfig:
        if len(self.fit) < 2 or list(self.seasons) != sorted(set(self.seasons)):
            raise ValueError("seasons must ascend: two or more to fit, then those judged")
        return self


class Blank(Priors):
    """Priors that say nothing: zeros wherever an encoder reads them, which its maps without bias turn into nothing."""

    def __init__(self) -> None:
        pass

    def features(
        self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        return np.zeros((len(players), self.WIDTH), dtype=np.float32)

    def matchup(
        self, batters: NDArray[np.integer], pitchers: NDArray[np.integer], days: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        return np.zeros((len(days), self.MATCHUP), dtype=np.float32)

    def repertoire(
        self, pitchers: NDArray[np.integer], days: NDArray[np.integer], moments: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        return np.zeros((len(days), len(PITCH_TYPES)), dtype=np.float32)


def probe(encoder_run: Path, store: Store, config: ProbeConfig | None = None, progress: bool = True) -> pl.DataFrame:
    """`probe_encoder` of a pre-training run.

    Raises:
        FullcountError: the encoder has seen play of a judged season.
    """
    config = config or ProbeConfig()
    encoder, _, cutoff = load_encoder(encoder_run)
    if cutoff > date(config.judged[0], 3, 1):
        raise FullcountError(
            f"{encoder_run}: trained on play up to {cutoff}; it may not be judged on {config.judged[0]}"
        )
    return probe_encoder(encoder.to(device()), store, config, progress)


def probe_encoder(
    encoder: GamestateTransformer, store: Store, config: ProbeConfig, progress: bool = True
) -> pl.DataFrame:
    """Long table, one row a figure: role, grain, target, system, measure, value, low, high.

    Systems are "prior", "embedding" and "embedding + prior". Measures of a target are n, r, sd_ratio (means over the
    judged seasons, weighted by exposure) and gain, the difference in r from the prior alone with its 95 % interval
    (players resampled). With target "embedding": effective_rank of game embeddings, share_player, share_hand and
    share_park of their variance (`variance_share`), games and tokens encoded.
    """
    config = settled(config, store, date(config.judged[0], 1, 1))
    priors, parts = Priors(store), []
    for role in ROLES:
        history = History(store, getattr(config, role).window(role))
        drawn = [draw(store, history, priors, grain, config, config.seasons) for grain in get_args(Grain)]
        known = np.unique(np.concatenate([ranges(s.first, s.stop - s.first) for s in drawn]))
        vectors = embed(encoder, history, known, known + 1, priors if config.use_prior else Blank(), progress=progress)
        parts += [judge(s, represent(history, s, known, vectors), config) for s in drawn]
        parts.append(diagnose(history, known, vectors))
    return pl.concat(parts)


def tables(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A result of `probe` to read: a row for each target and system, and a row of diagnostics for each role."""
    keys, figures = KEYS[:-1], frame.filter(pl.col("target") != "embedding")
    wide = figures.pivot(on="measure", index=keys, values="value")
    bounds = figures.filter(pl.col("measure") == "gain").select(*keys, "low", "high")
    diagnostics = frame.filter(pl.col("target") == "embedding").pivot(on="measure", index="role", values="value")
    return wide.join(bounds, on=keys, how="left", maintain_order="left"), diagnostics


def draw(
    store: Store, history: History, priors: Priors, grain: Grain, config: Judged, seasons: tuple[int, ...]
) -> Samples:
    """The samples of a role and grain in `seasons`, sorted by player and day.

    Raises:
        FullcountError: a season has none.
    """
    since, before = date(seasons[0], 1, 1), date(seasons[-1] + 1, 1, 1)
    found = samples(store, history, priors, grain, since=since, before=before)
    found = found.pick(np.lexsort((found.day, found.player)))
    if grain == "season":
        chosen = np.isin(found.season, seasons) & (found.targets.exposure.numpy() >= config.minimum_exposure)
    else:
        chosen = np.zeros(len(found), dtype=bool)
        for season in seasons:
            rng = np.random.default_rng([config.seed, season])
            games = np.flatnonzero(found.season == season)
            start = rng.choice(games, min(config.stretches, len(games)), replace=False)
            owner, game = np.repeat(start, config.stretch), ranges(start, np.full(len(start), config.stretch))
            game = np.minimum(game, len(found) - 1)
            same = (found.player[game] == found.player[owner]) & (found.season[game] == season)
            chosen[game[same]] = True
    found = found.pick(chosen)
    missing = set(seasons) - set(found.season.tolist())
    if missing:
        raise FullcountError(
            f"no {found.role} {grain} to probe in {min(missing)}: is it, and play before it, ingested?"
        )
    return found


def represent(history: History, s: Samples, known: Int, vectors: NDArray[np.float16]) -> Floats:
    """[m, d] event-weighted mean embedding of each sample's window; `vectors` [k, d] are of positions `known` [k]."""
    games = ranges(s.first, s.stop - s.first)
    owner = torch.from_numpy(np.repeat(np.arange(len(s)), s.stop - s.first))
    chosen = torch.from_numpy(vectors[np.searchsorted(known, games)].astype(np.float32))
    events = torch.from_numpy(history.events[games].astype(np.float32))
    return pool(chosen, torch.zeros(len(games)), events, owner, len(s), (math.inf,)).numpy().astype(np.float64)


def judge(s: Samples, representation: Floats, config: ProbeConfig) -> pl.DataFrame:
    """The rows of one role and grain (see `probe_encoder`), given representations [m, d] of its samples."""
    w = s.targets.exposure.numpy().astype(np.float64)
    rates = s.targets.counts.numpy().astype(np.float64) / w[:, None]
    rates = rates[:, [OUTCOMES.index(o) for o in TARGETS.values()]]
    prior = s.targets.features.numpy().astype(np.float64)
    systems = {"prior": [prior], "embedding": [representation], "embedding + prior": [representation, prior]}
    predicted = {name: ridge(blocks, rates, w, s.season, config.fit) for name, blocks in systems.items()}
    rows: list[dict[str, Any]] = []
    for i, target in enumerate(TARGETS):
        for name, p in predicted.items():
            figures = versus(s, rates[:, i], predicted["prior"][:, i], p[:, i], w, config)
            if name == "prior":
                del figures["gain"]
            rows += [_row(s.role, s.grain, target, name, measure, value) for measure, value in figures.items()]
    return pl.DataFrame(rows, schema=_SCHEMA)


def versus(s: Samples, actual: Floats, base: Floats, own: Floats, w: Floats, config: Judged) -> dict[str, Any]:
    """Figures of predictions `own` [m] of the samples: n, r and sd_ratio (means over the judged seasons, weighted by
    `w` [m]), and gain, the difference in r from `base` [m] with its 95 % interval (players resampled)."""
    seasons = [s.season == season for season in config.judged]
    pairs = [Paired(s.player[t], actual[t], base[t], own[t], w[t]) for t in seasons]
    return {
        "n": float(sum(len(x.actual) for x in pairs)),
        "r": float(np.mean([pearson(x.second, x.actual, x.weights) for x in pairs])),
        "sd_ratio": float(np.mean([sd_ratio(x.second, x.actual, x.weights) for x in pairs])),
        "gain": paired_bootstrap(pearson, pairs, config.draws, config.seed),
    }


def ridge(blocks: Sequence[Floats], y: Floats, w: Floats, season: Int, fit: Sequence[int]) -> Floats:
    """[m, t] predictions of `y` [m, t], within the season, from `blocks` of features [m, .], weighted by `w` [m].

    Each block has its strength, so that a wide one does not shrink a narrow one beside it. Each target chooses its
    strengths by squared error in the seasons of `fit`, each from the others; then all are fitted. No other season is
    read.
    """
    fitted = np.isin(season, fit)
    w = w / w[fitted].mean()
    x, y = _within(np.concatenate(blocks, axis=1), w, season), _within(y, w, season)
    x = x / np.maximum(np.sqrt(np.average(x[fitted] ** 2, axis=0, weights=w[fitted])), 1e-12)

    def products(rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        weighted = (x[rows] * w[rows, None]).T
        return np.asarray(weighted @ x[rows]), np.asarray(weighted @ y[rows])

    def solved(gram: Floats, moment: Floats, strength: tuple[float, ...]) -> Floats:
        penalty = np.repeat(strength, [b.shape[1] for b in blocks])
        return np.asarray(np.linalg.solve(gram + np.diag(penalty), moment))

    choices = list(product(STRENGTHS, repeat=len(blocks)))
    errors = np.zeros((len(choices), y.shape[1]))
    for held in (season == one for one in fit):
        trial = products(fitted & ~held)
        errors += [w[held] @ (y[held] - x[held] @ solved(*trial, c)) ** 2 for c in choices]
    best = np.argmin(errors, axis=0)
    whole = products(fitted)
    return np.stack([x @ solved(*whole, choices[b])[:, i] for i, b in enumerate(best)], axis=1)


def diagnose(history: History, known: Int, vectors: NDArray[np.float16]) -> pl.DataFrame:
    """Rows of diagnostics (see `probe_encoder`) of the game embeddings `vectors` [k, d] at positions `known` [k]."""
    store, role, wide = history.store, history.window.role, vectors.astype(np.float64)
    players = store.table("players").select("player", "bats" if role == "batter" else "throws")
    owner = pl.DataFrame({"player": history.players[known]}, schema={"player": players.schema["player"]})
    hand = owner.join(players, on="player", how="left", maintain_order="left")[:, 1]
    game = np.asarray(store.appearances(role).game)[history.index[known]]
    groups = {"player": owner["player"], "hand": hand, "park": store.games["park"][game.tolist()]}
    figures = {"effective_rank": effective_rank(wide)}
    figures |= {f"share_{name}": variance_share(wide, group) for name, group in groups.items()}
    figures |= {"games": float(len(known)), "tokens": float((history.events[known] + 2).sum())}
    rows = [_row(role, "game", "embedding", "embedding", measure, value) for measure, value in figures.items()]
    return pl.DataFrame(rows, schema=_SCHEMA)


def effective_rank(x: Floats) -> float:
    """exp(entropy of the normalised eigenvalues of the covariance of `x` [n, d]), 1 to d (after Roy & Vetterli 2007).

    nan where nothing varies.
    """
    eigenvalues = np.linalg.eigvalsh(np.cov(x, rowvar=False)).clip(min=0)
    total = eigenvalues.sum()
    if not total > 0:
        return math.nan
    p = eigenvalues[eigenvalues > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def variance_share(x: Floats, groups: pl.Series) -> float:
    """Share of the variance of `x` [n, d], summed over dimensions, that `groups` [n] explain; null groups left out.

    Eta squared corrected for the number k of groups, which explain something by chance alone: epsilon squared,
    (between - (k - 1) * within / (n - k)) / total sums of squares (Kelley 1935). It is about zero where groups mean
    nothing, and may fall just below. nan where nothing varies or every group has one member.
    """
    x, groups = x[groups.is_not_null().to_numpy()], groups.drop_nulls()
    _, group, size = np.unique(groups.to_numpy(), return_inverse=True, return_counts=True)
    n, k = len(x), len(size)
    x = x - x.mean(axis=0) if n else x
    total = float((x**2).sum())
    if n <= k or total == 0:
        return math.nan
    sums = np.zeros((k, x.shape[1]))
    np.add.at(sums, group, x)
    between = float((sums**2 / size[:, None]).sum())
    return (between - (k - 1) * (total - between) / (n - k)) / total


def _within(x: Floats, w: Floats, season: Int) -> Floats:
    """`x` [m, k] less its weighted mean in each season."""
    x = x.copy()
    for one in np.unique(season):
        rows = season == one
        x[rows] -= np.average(x[rows], axis=0, weights=w[rows])
    return x


_SCHEMA = dict.fromkeys(KEYS, pl.String()) | dict.fromkeys(("value", "low", "high"), pl.Float64())


def _row(
    role: PlayerRole, grain: Grain, target: str, system: str, measure: str, figure: float | Interval
) -> dict[str, Any]:
    return {**dict(zip(KEYS, (role, grain, target, system, measure), strict=True)), **spelt_out(figure)}


def main() -> None:
    """`python -m fullcount.evaluation.probe RUN --store DIR`"""
    parser = argparse.ArgumentParser(description="Linear probes of a frozen encoder beside the prior.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("run", type=Path, help="pre-training run")
    given = parser.parse_args()
    began = time.perf_counter()
    found = tables(probe(given.run, Store.open(given.store)))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=3, tbl_hide_dataframe_shape=True):
        print(*found, f"{time.perf_counter() - began:.0f} seconds", sep="\n")


if __name__ == "__main__":
    told(main)
