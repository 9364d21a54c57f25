"""Planted talent: the measure tells what is there from what is not, and objectives beat their trivial rivals."""

from __future__ import annotations

from dataclasses import fields
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch

from fullcount.adaptation.heads import Targets
from fullcount.adaptation.samples import Samples, samples
from fullcount.config import PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.planted import (
    FIRST,
    GAMES,
    JUDGED,
    SEASONS,
    TEAMS,
    against_rival,
    configuration,
    observed,
    planted,
    recovered,
    truths,
)
from fullcount.evaluation.probe import ProbeConfig
from fullcount.fields import COLUMN, EVENT_OUTCOME, EVENTS, OUTCOMES
from fullcount.objectives.registry import OBJECTIVES
from fullcount.priors import Priors
from fullcount.simulated.league import SimulatedLeague, simulate
from fullcount.store import Store
from fullcount.training.jobs import build_pretraining, load_objective, pretrain
from fullcount.windows import History, Window

CONFIG = ProbeConfig(fit=(2002, 2003), judged=(2004, 2005), draws=200)
WINDOW = 120  # plate appearances


def made_up(players: int = 400) -> tuple[Samples, np.ndarray, np.ndarray]:
    """Samples of players with a talent each, what was seen of them before, [m, 8], and the true rates [m, 3]."""
    rng = np.random.default_rng(0)
    seasons = (*CONFIG.fit, *CONFIG.judged)
    m = players * len(seasons)
    talent = rng.normal([0.2, 0.085, 0.03], [0.05, 0.025, 0.012], (players, 3)).clip(0.005)
    truth = np.repeat(talent, len(seasons), axis=0)
    mix = np.zeros((m, len(OUTCOMES)))
    for i, name in enumerate(("K", "BB", "HR")):
        mix[:, OUTCOMES.index(name)] = truth[:, i]
    mix[:, 0] = 1 - truth.sum(axis=1)
    seen, after = (np.stack([rng.multinomial(n, p) for p in mix]).astype(float) for n in (WINDOW, 300))
    known = {f.name: torch.zeros(m) for f in fields(Targets)}
    known |= {"counts": torch.from_numpy(after).float(), "exposure": torch.full((m,), 300.0)}
    nothing = np.zeros(m, dtype=np.int64)
    s = Samples(
        role="batter",
        grain="season",
        player=np.repeat(np.arange(players), len(seasons)),
        day=nothing,
        season=np.tile(seasons, players).astype(np.int64),
        game_id=np.zeros(0, dtype=str),
        first=nothing,
        stop=nothing,
        targets=Targets(**known),
    )
    return s, seen, truth


def test_the_measure_tells_talent_from_luck_and_from_noise():
    s, seen, truth = made_up()
    rng = np.random.default_rng(1)
    mixed = rng.normal(size=(3, 12))
    blurred = truth + rng.normal(size=truth.shape) * truth.std(axis=0) / 3

    def ratios(representation: np.ndarray, labels: str = "observed") -> pl.DataFrame:
        return recovered(s, representation, seen, truth, CONFIG, labels)

    holds = ratios(blurred @ mixed)
    assert (holds["low"] > 1).all()
    assert (ratios(blurred @ mixed, "truth")["r_embedding"] >= holds["r_embedding"] - 0.01).all()
    noise = ratios(rng.normal(size=(len(s), 12)))
    assert noise["ratio"].abs().max() < 0.25
    assert (noise["high"] < 0.6).all()
    copied = ratios(seen[:, 1:] @ rng.normal(size=(7, 7)))
    assert copied["ratio"].is_between(0.9, 1.1).all()  # what was observed is what was observed
    # r of n trials with the truth: sqrt(var / (var + p (1 - p) / n))
    var, p = truth[:, 0].var(), truth[:, 0].mean()
    assert holds["r_observed"][0] == pytest.approx((var / (var + p * (1 - p) / WINDOW)) ** 0.5, abs=0.02)
    assert holds["n"].to_list() == [800] * 3


def test_a_player_is_not_read_by_what_was_learnt_of_himself():
    """An embedding that names players says nothing of them to a read-out that has met only others."""
    s, seen, truth = made_up(60)
    names = np.eye(60)[s.player]
    found = recovered(s, names, seen, truth, CONFIG)
    assert found["r_embedding"].abs().max() < 0.35


def test_what_is_observed_are_the_games_of_the_window(sim_store):
    priors = Priors(sim_store, decay=0)
    for role, games in (("batter", 6), ("pitcher", 3)):
        history = History(sim_store, Window(role, games=games))
        s = samples(sim_store, history, priors, "season", since=date(2002, 1, 1), before=date(2004, 1, 1))
        seen = observed(priors, history, s)
        assert len(s) > 30
        for i in range(0, len(s), 7):
            rows, _ = history.rows(np.arange(s.first[i], s.stop[i]))
            events = [EVENTS[e - 1] for e in np.asarray(sim_store.categorical)[rows, COLUMN["event"]] if e]
            found = [EVENT_OUTCOME[e] for e in events if e in EVENT_OUTCOME]
            assert seen[i].round(6).tolist() == [found.count(o) for o in OUTCOMES]


def test_truths_are_of_the_role_and_season_asked_and_must_be_there(sim_league, sim_store):
    priors = Priors(sim_store, decay=0)
    history = History(sim_store, Window("pitcher"))
    s = samples(sim_store, history, priors, "season", since=date(2002, 1, 1), before=date(2004, 1, 1))
    found = truths(s, sim_league.true_rates)
    own = sim_league.true_rates.filter(player=int(s.player[3]), season=int(s.season[3]), role="pitcher")
    assert found[3].tolist() == list(own.select("K%", "BB%", "HR%").row(0))
    with pytest.raises(FullcountError, match="pitcher of the store has no true rate"):
        truths(s, sim_league.true_rates.filter(pl.col("season") < 2003))


# What the other objectives learn beyond their rivals is tested with each of them.
@pytest.mark.parametrize(
    ("objective", "steps"),
    [
        ({"kind": "masked_gamestate"}, 180),
        pytest.param({"kind": "next_event", "components": 1, "unseen": 1.0}, 320, marks=pytest.mark.slow),
    ],
    ids=["masked_gamestate", "next_event"],
)
def test_calls_are_told_better_than_by_the_count(sim_store, tmp_path, objective, steps):
    encoder = {"d_model": 32, "layers": 1, "heads": 2, "feedforward": 64, "use_prior": False, "matchup": False}
    given = {"objectives": [objective], "encoder": encoder, "before": date(2004, 1, 1), "batch_tokens": 1500}
    given |= {"train": {"steps": steps, "lr": 1e-2, "precision": "32-true"}, "batter": {"games": 10, "events": 200}}
    config = PretrainConfig.model_validate(given)
    pretrain(config, sim_store, tmp_path / "run", progress=False)
    model, _, _ = load_objective(tmp_path / "run", sim_store)
    untrained, train, held = build_pretraining(config, sim_store)
    batches = [[sampler.batch(10_000 + i) for i in range(40)] for sampler in (train, held)]
    found = against_rival(model, *batches)
    calls = found.row(by_predicate=pl.col("asked") == "call", named=True)
    assert calls["loss"] < calls["rival"], found
    assert (against_rival(untrained, *batches)["loss"] > found["rival"] + 0.1).all()


@pytest.fixture(scope="module")
def league() -> SimulatedLeague:
    return simulate(SEASONS, TEAMS, GAMES, seed=0, first_season=FIRST)


@pytest.fixture(scope="module")
def store(league, tmp_path_factory) -> Store:
    return Store.open_or_create(tmp_path_factory.mktemp("planted") / "store").add(league.tables, "sim")


# A new encoder passes the ratio too (docs/results/planted.md): it fails where training destroys what the pitches said.
# Eighty small steps bring masked gamestate, masked plate appearance and next event only near their rivals; that they
# fall below is tested above, in test_auxiliaries.py and, on real pitches, in docs/results/before-the-pitch.md.
@pytest.mark.slow
@pytest.mark.parametrize("kind", list(OBJECTIVES))
def test_embeddings_hold_the_planted_strikeout_rates(league, store, tmp_path, kind):
    config = configuration(kind, steps=80)
    pretrain(config, store, tmp_path / "run", progress=False)
    objective, _, _ = load_objective(tmp_path / "run", store)
    found = planted(objective.encoder, store, league.true_rates, JUDGED, progress=False)
    assert (found.filter(target="K%")["ratio"] >= 0.9).all(), found
    if kind in ("masked_gamestate", "masked_plate_appearance", "next_event"):
        return
    _, train, held = build_pretraining(config, store)
    batches = ([s.batch(100_000 + i) for i in range(20)] for s in (train, held))
    judged = against_rival(objective, *batches)
    assert (judged["loss"] < judged["rival"]).all(), judged
