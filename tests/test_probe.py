"""The probe table: honest as of the date, fitted on the past alone, and able to see what is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fullcount.adaptation.performance import embed
from fullcount.adaptation.samples import Samples
from fullcount.config import PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.probe import (
    ProbeConfig,
    draw,
    effective_rank,
    judge,
    probe,
    probe_encoder,
    represent,
    ridge,
    tables,
    variance_share,
)
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.priors import Priors
from fullcount.simulated.league import SimulatedLeague, simulate
from fullcount.store import Store, day_number
from fullcount.training.jobs import load_encoder, pretrain
from fullcount.windows import History, Window, ranges

CONFIG = ProbeConfig(
    fit=(2002, 2003, 2004), judged=(2005,), minimum_exposure=20, stretches=60, stretch=4, draws=200,
    batter={"games": 6}, pitcher={"games": 3},
)  # fmt: skip


SPOILED = date(2005, 7, 9)


@pytest.fixture(scope="module")
def league() -> SimulatedLeague:
    """Five seasons of twelve teams, 2001 to 2005."""
    return simulate(seasons=5, teams=12, games_per_team=20, seed=3)


@pytest.fixture(scope="module")
def store(league, tmp_path_factory) -> Store:
    return Store.open_or_create(tmp_path_factory.mktemp("probe") / "store").add(league.tables, "sim")


@pytest.fixture(scope="module")
def encoder() -> GamestateTransformer:
    torch.manual_seed(0)
    return GamestateTransformer(EncoderConfig(d_model=16, layers=1, heads=2, feedforward=32))


def drawn(store: Store, role: str, grain: str) -> tuple[History, Priors, Samples]:
    priors, history = Priors(store), History(store, getattr(CONFIG, role).window(role))
    return history, priors, draw(store, history, priors, grain, CONFIG, CONFIG.seasons)


def value(frame: pl.DataFrame, **keys: str) -> float:
    return frame.filter(**keys)["value"].item()


def test_table_has_every_target_and_system_and_is_repeatable(store, encoder):
    found = probe_encoder(encoder, store, CONFIG, progress=False)
    figures, diagnostics = tables(found)
    assert figures.height == 2 * 2 * 3 * 3
    assert found.equals(probe_encoder(encoder, store, CONFIG, progress=False))
    alone = figures.filter(pl.col("system") == "prior")
    assert alone["gain"].null_count() == alone.height
    rest = figures.filter(pl.col("system") != "prior").join(alone, on=["role", "grain", "target"], suffix="_prior")
    np.testing.assert_allclose(rest["gain"], rest["r"] - rest["r_prior"], atol=1e-12)
    assert (rest["low"] <= rest["high"]).all()
    assert figures["r"].is_between(-1, 1).all()
    assert diagnostics["effective_rank"].is_between(1, 16).all()
    assert (diagnostics["tokens"] > 2 * diagnostics["games"]).all()


@pytest.fixture(scope="module")
def spoiled(league, tmp_path_factory) -> Store:
    """The league with every pitch and line from `SPOILED` on turned into something else."""
    late = pl.col("date") >= SPOILED

    def spoil(frame: pl.DataFrame, **values: object) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(late).then(pl.lit(v)).otherwise(pl.col(c)).cast(frame.schema[c]).alias(c) for c, v in values.items()
        )

    t, lines = league.tables, {"H": 4, "2B": 0, "3B": 0, "HR": 4, "SO": 0, "BB": 0}
    tables = replace(
        t,
        pitches=spoil(t.pitches, call="in_play", event="home_run", release_speed=50.0, runs=4),
        batting_games=spoil(t.batting_games, **lines),
        pitching_games=spoil(t.pitching_games, **lines),
    )
    return Store.open_or_create(tmp_path_factory.mktemp("spoiled") / "store").add(tables, "spoiled")


@pytest.mark.parametrize("role", ["batter", "pitcher"])
@pytest.mark.parametrize("grain", ["game", "season"])
def test_representations_do_not_change_with_what_comes_after(store, spoiled, encoder, role, grain):
    seen = []
    for one in (store, spoiled):
        history, priors, s = drawn(one, role, grain)
        known = np.unique(ranges(s.first, s.stop - s.first))
        z = represent(history, s, known, embed(encoder, history, known, known + 1, priors, progress=False))
        seen.append((s, z))
    (a, mine), (b, others) = seen
    early = a.day <= day_number(SPOILED)  # what is known on the morning of the first spoiled game, too
    assert a.player.tolist() == b.player.tolist()
    assert np.array_equal(mine[early], others[early])
    assert torch.equal(a.targets.features[early], b.targets.features[early])
    assert not torch.equal(a.targets.counts[early], b.targets.counts[early])
    assert early.all() if grain == "season" else not np.array_equal(mine[~early], others[~early])


def test_a_representation_is_the_mean_over_all_events_of_the_window(store, encoder):
    history, _, s = drawn(store, "batter", "season")
    known = np.unique(ranges(s.first, s.stop - s.first))
    vectors = np.random.default_rng(0).normal(size=(len(known), 5)).astype(np.float16)
    z = represent(history, s, known, vectors)
    for i in (0, len(s) // 2, len(s) - 1):
        games = np.arange(s.first[i], s.stop[i])
        assert 1 <= len(games) <= 6
        assert (history.days[games] < s.day[i]).all()
        assert (history.players[games] == s.player[i]).all()
        want = np.average(vectors[np.isin(known, games)].astype(float), axis=0, weights=history.events[games])
        np.testing.assert_allclose(z[i], want, atol=1e-5)


def test_next_games_come_in_stretches_of_one_player(store):
    _, _, s = drawn(store, "pitcher", "game")
    runs = np.split(np.arange(len(s)), np.flatnonzero((np.diff(s.player) != 0) | (np.diff(s.season) != 0)) + 1)
    assert {2002, 2003, 2004, 2005} == set(s.season.tolist())
    assert len(s) > 1.5 * len(runs)
    assert all(np.all(np.diff(s.day[r]) > 0) for r in runs)
    assert np.bincount(s.season)[2002:].max() <= CONFIG.stretches * CONFIG.stretch
    _, _, whole = drawn(store, "pitcher", "season")
    assert whole.targets.exposure.min() >= CONFIG.minimum_exposure


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_a_representation_that_holds_the_talent_beats_the_prior_and_noise_does_not(league, store, role):
    _, _, s = drawn(store, role, "season")
    keys = pl.DataFrame({"player": s.player.astype(np.int32), "season": s.season.astype(np.int16)})
    truth = league.true_rates.filter(pl.col("role") == role)
    talent = keys.join(truth, on=["player", "season"], how="left", maintain_order="left").select("K%", "BB%", "HR%")
    rng = np.random.default_rng(0)
    planted = talent.fill_null(strategy="mean").to_numpy() @ rng.normal(size=(3, 8)) - 3  # mixed and off centre
    table = judge(s, planted, CONFIG)
    assert (table.filter(measure="gain")["low"] > 0).all()
    noise = judge(s, rng.normal(size=(len(s), 8)), CONFIG)
    assert noise.filter(target="K%", system="embedding", measure="gain")["high"].item() < 0
    assert value(noise, target="K%", system="embedding + prior", measure="gain") > -0.05


def test_figures_do_not_depend_on_the_order_of_samples(store):
    _, _, s = drawn(store, "batter", "season")
    rng = np.random.default_rng(0)
    z, order = rng.normal(size=(len(s), 8)), rng.permutation(len(s))
    a, b = judge(s, z, CONFIG), judge(s.pick(order), z[order], CONFIG)
    np.testing.assert_allclose(a["value"], b["value"], atol=1e-9)


def simulated(n: int = 400, seasons: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    y = x @ np.array([[1.0], [0.5], [0.0]]) + rng.normal(size=(n, 1))
    return x, y, rng.uniform(1, 5, n), np.arange(n) % seasons


def test_ridge_reads_only_its_seasons_and_no_level():
    x, y, w, season = simulated()
    found = ridge([x], y, w, season, (0, 1, 2))
    changed = np.where((season == 3)[:, None], -9 * y, y)
    np.testing.assert_array_equal(ridge([x], changed, w, season, (0, 1, 2)), found)
    shifted = ridge([x + season[:, None]], y - 5.0 * season[:, None], w, season, (0, 1, 2))
    np.testing.assert_allclose(shifted, found, atol=1e-9)


def test_ridge_is_weighted_least_squares_and_does_not_mind_a_noisy_block_beside():
    x, y, w, season = simulated(4000)
    found = ridge([x], y, w, season, (0, 1, 2))
    fit, root = season < 3, np.sqrt(w)[:, None]
    a = np.concatenate([x, np.eye(4)[season]], axis=1)  # a level for each season
    beta = np.linalg.lstsq((a * root)[fit], (y * root)[fit], rcond=None)[0][:3]
    exact = (x @ beta)[:, 0]
    levels = [np.average(exact[season == s], weights=w[season == s]) for s in range(4)]
    np.testing.assert_allclose(found[:, 0], exact - np.array(levels)[season], atol=0.02)
    noise = np.random.default_rng(1).normal(size=(4000, 300))
    both = ridge([noise, x], y, w, season, (0, 1, 2))
    r = [np.corrcoef(p[season == 3, 0], y[season == 3, 0])[0, 1] for p in (found, both)]
    assert r[1] > r[0] - 0.01


def test_effective_rank():
    identity = np.concatenate([np.eye(6), -np.eye(6)])
    assert effective_rank(identity) == pytest.approx(6)
    line = np.outer(np.arange(9.0), np.arange(1, 5.0))
    assert effective_rank(line) == pytest.approx(1)
    halves = np.concatenate([np.eye(2), -np.eye(2)]) * [1, np.sqrt(3)]  # eigenvalues 1/4 and 3/4
    assert effective_rank(halves) == pytest.approx(np.exp(-0.25 * np.log(0.25) - 0.75 * np.log(0.75)))
    assert np.isnan(effective_rank(np.ones((4, 3))))


def test_variance_share():
    # Sums of squares: between 4 * 1, within 4 * .25, two groups of two.
    x = np.array([[0.5], [1.5], [-0.5], [-1.5]])
    groups = pl.Series(["L", "L", "R", "R"])
    assert variance_share(x, groups) == pytest.approx((4 - 1 * 1 / 2) / 5)
    assert variance_share(np.sign(x), groups) == pytest.approx(1)
    with_null = np.concatenate([x, [[99.0]]])
    assert variance_share(with_null, groups.extend_constant(None, 1)) == pytest.approx(0.7)
    assert np.isnan(variance_share(x, pl.Series([1, 2, 3, 4])))


@given(st.integers(0, 2**16), st.integers(2, 60))
def test_groups_that_mean_nothing_explain_nothing(seed, groups):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 40))
    share = variance_share(x, pl.Series(rng.permutation(np.arange(600) % groups)))
    assert abs(share) < 0.02  # uncorrected it would be near groups / 600, .1 for sixty


def test_the_encoder_reads_priors_only_if_it_may(league, store, encoder, tmp_path):
    t = league.tables
    lines = {n: getattr(t, n).with_columns(SO=pl.lit(0, pl.Int16)) for n in ("batting_games", "pitching_games")}
    other = Store.open_or_create(tmp_path).add(replace(t, **lines), "no strikeouts")  # the pitches are the same
    torch.manual_seed(0)
    encoder = GamestateTransformer(encoder.config.model_copy(update={"matchup": True}))
    measure = pl.col("measure") == "effective_rank"
    off, on = ({"use_prior": u} for u in (False, True))

    def ranks(one: Store, update: dict[str, bool]) -> list[float]:
        found = probe_encoder(encoder, one, CONFIG.model_copy(update=update), progress=False)
        return found.filter(measure)["value"].to_list()

    blind = ranks(other, off)
    assert blind == ranks(store, off)
    assert blind != ranks(other, on)


@pytest.mark.parametrize("update", [{"fit": (2002,)}, {"fit": (2002, 2005)}, {"judged": (2001,)}, {"judged": ()}])
def test_seasons_that_make_no_sense_are_refused(update):
    with pytest.raises(ValueError, match=r"judged|seasons"):
        ProbeConfig(**{"fit": (2002, 2003), "judged": (2004,), **update})


def test_a_season_without_samples_is_named(store):
    config = CONFIG.model_copy(update={"fit": (1999, 2000)})
    history = History(store, Window("batter"))
    with pytest.raises(FullcountError, match="no batter season to probe in 1999"):
        draw(store, history, Priors(store), "season", config, config.seasons)


def test_a_run_is_probed_as_its_encoder_is_and_never_on_what_it_was_trained_on(store, encoder, tmp_path):
    config = PretrainConfig(
        encoder=encoder.config, before=date(2005, 3, 1), batch_tokens=512, train={"steps": 2, "precision": "32-true"}
    )
    pretrain(config, store, tmp_path / "run", progress=False)
    loaded, _, _ = load_encoder(tmp_path / "run")
    expected = probe_encoder(loaded, store, CONFIG, progress=False)
    np.testing.assert_allclose(
        probe(tmp_path / "run", store, CONFIG, progress=False)["value"], expected["value"], atol=1e-3
    )
    early = CONFIG.model_copy(update={"fit": (2002, 2003), "judged": (2004, 2005)})
    with pytest.raises(FullcountError, match="trained on play up to 2005-03-01; it may not be judged on 2004"):
        probe(tmp_path / "run", store, early, progress=False)
