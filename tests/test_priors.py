"""Priors: decayed counts as of a day, shrunken towards the league, against sums done line by line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from fullcount.fields import OUTCOMES
from fullcount.priors import DECAY, EXTRAS, STRENGTH, Priors, game_lines
from fullcount.sources.tables import Tables
from fullcount.store import Store

ROLES = ("batter", "pitcher")
NOBODY = 10**6


@pytest.fixture(scope="module")
def priors(sim_store) -> Priors:
    return Priors(sim_store)


def questions(store: Store, role: str, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Players and days of play, and some of nobody and of never."""
    lines = game_lines(store, role)
    rng = np.random.default_rng(3)
    players = rng.choice(lines["player"].to_numpy(), count).astype(np.int64)
    days = rng.choice(lines["date"].to_physical().to_numpy(), count).astype(np.int64)
    return np.append(players, [NOBODY, players[0]]), np.append(days, [days[0], 0])


def brute_counts(store: Store, role: str, player: int, day: int) -> np.ndarray:
    lines = game_lines(store, role).filter((pl.col("player") == player) & (pl.col("date").to_physical() < day))
    age = day - lines["date"].to_physical().to_numpy()
    values = lines.select(Priors.columns(role)).to_numpy().astype(float)
    return (values * np.exp(-DECAY * age)[:, None]).sum(axis=0)


def brute_league(store: Store, role: str, day: int) -> np.ndarray | None:
    lines = game_lines(store, role).filter(pl.col("date").to_physical() < day)
    if role == "batter":
        lines = lines.filter(~pl.col("is_pitcher"))
    weight = 0.5 ** ((day - lines["date"].to_physical().to_numpy()) / 365)
    totals = (lines.select(Priors.columns(role)).to_numpy() * weight[:, None]).sum(axis=0)
    exposure = totals[Priors.COLUMNS.index("exposure")]
    return totals / exposure if exposure else None


@pytest.mark.parametrize("role", ROLES)
def test_counts_and_rates_are_the_sums_done_line_by_line(sim_store, priors, role):
    players, days = questions(sim_store, role)
    counts, rates, league = (
        f(role, players, days) for f in (priors.counts, priors.rates, lambda r, _, d: priors.league(r, d))
    )
    strength = np.array([STRENGTH[role][o] for o in OUTCOMES[1:]])
    e, k = Priors.COLUMNS.index("exposure"), len(strength)
    for i, (player, day) in enumerate(zip(players, days, strict=True)):
        want = brute_counts(sim_store, role, player, day)
        np.testing.assert_allclose(counts[i], want, rtol=1e-9, atol=1e-9)
        mean = brute_league(sim_store, role, day)
        if mean is None:
            continue
        np.testing.assert_allclose(league[i], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(rates[i, 1:], (want[:k] + strength * mean[:k]) / (want[e] + strength), rtol=1e-9)


@pytest.mark.parametrize("role", ROLES)
def test_every_mix_sums_to_one_and_is_possible(sim_store, priors, role):
    rates = priors.rates(role, *questions(sim_store, role))
    np.testing.assert_allclose(rates.sum(axis=1), 1)
    assert (rates > 0).all()
    features = priors.features(role, *questions(sim_store, role))
    assert features.shape == (62, Priors.WIDTH)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("role", ROLES)
def test_an_unknown_player_is_the_league(sim_store, priors, role):
    day = game_lines(sim_store, role)["date"].to_physical().to_numpy()[-1:].astype(np.int64)
    got = priors.rates(role, np.array([NOBODY]), day)[0, 1:]
    np.testing.assert_allclose(got, priors.league(role, day)[0, : len(OUTCOMES) - 1])


@pytest.mark.parametrize("role", ROLES)
def test_the_day_itself_and_the_future_do_not_matter(sim_league, sim_store, priors, role, tmp_path):
    players, days = questions(sim_store, role)
    day = int(np.sort(days)[len(days) // 2])
    late = pl.col("date").to_physical() >= day
    count = ("HR", "BB", "SO", "SB", "outs", "ER", "R", "H", "HBP")

    def spoil(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(late).then(pl.lit(40, pl.Int16)).otherwise(pl.col(c)).alias(c) for c in count if c in frame.columns
        )

    tables = sim_league.tables
    spoiled = replace(tables, batting_games=spoil(tables.batting_games), pitching_games=spoil(tables.pitching_games))
    other = Priors(Store.open_or_create(tmp_path).add(replace(spoiled, pitches=Tables.of().pitches), "spoiled"))
    asked = np.full(len(players), day)
    for name in ("counts", "rates", "features", "exposure", "extras"):
        assert np.array_equal(getattr(priors, name)(role, players, asked), getattr(other, name)(role, players, asked))
    after = asked + 1
    assert not np.array_equal(priors.counts(role, players, after), other.counts(role, players, after))


def test_more_exposure_brings_the_prior_nearer_to_the_truth(sim_league, sim_store, priors):
    """Planted truth: strikeout rates of batters, by how much of them has been seen."""
    truth = sim_league.true_rates.filter((pl.col("role") == "batter") & (pl.col("season") == 2003))
    players = truth["player"].to_numpy().astype(np.int64)
    end = np.full(len(players), int(sim_store.games["date"].to_physical().max()) + 1)
    column = OUTCOMES.index("K")
    error, r = [], []
    for back in (3 * 365 - 200, 0):  # during the first season; after the last
        rates = priors.rates("batter", players, end - back)[:, column]
        error.append(float(np.abs(rates - truth["K%"].to_numpy()).mean()))
        r.append(float(np.corrcoef(rates, truth["K%"].to_numpy())[0, 1]) if rates.std() > 0 else 0.0)
    seen = priors.counts("batter", players, end)[:, Priors.COLUMNS.index("exposure")]
    much = seen > np.median(seen)
    rates, true = priors.rates("batter", players, end)[:, column], truth["K%"].to_numpy()
    assert np.corrcoef(rates[much], true[much])[0, 1] > 0.5
    assert r[1] > r[0]
    assert error[1] < error[0]


def test_a_century_of_lines_keeps_the_first_players_exact(tmp_path):
    """Grown weights of recent lines must not swallow those of a player of long ago."""
    row = {"league": "MLB", "game_type": "R", "is_pitcher": False, "PA": 5, "H": 1, "2B": 0, "3B": 0, "HR": 1, "SO": 2}
    days = [np.datetime64("1912-05-01"), np.datetime64("2024-05-01")]
    lines = pl.DataFrame(
        [
            {**row, "player": player, "game_id": f"AAA{day}{i}", "season": int(str(day)[:4]), "date": day.item()}
            for player, day, count in ((2, days[0], 3), (1, days[1], 1000))
            for i in range(count)
        ]
    )
    store = Store.open_or_create(tmp_path).add(Tables.of(batting_games=lines), "century")
    asked = np.array([(days[0] + 1).astype(int)])
    exposure = Priors(store).counts("batter", np.array([2]), asked)[0, Priors.COLUMNS.index("exposure")]
    assert exposure == pytest.approx(15 * np.exp(-DECAY), rel=1e-6)


def test_extras_are_shrunken_with_250(sim_store, priors):
    for role in ROLES:
        players, days = questions(sim_store, role, 5)
        counts, league = priors.counts(role, players, days), priors.league(role, days)
        n, e = len(Priors.COLUMNS), Priors.COLUMNS.index("exposure")
        want = (counts[:, n:] + 250 * league[:, n:]) / (counts[:, [e]] + 250)
        got = priors.extras(role, players, days)
        assert got.shape[1] == len(EXTRAS[role])
        np.testing.assert_allclose(got, want)


def test_ages_are_from_birth_dates(sim_store, priors):
    born = sim_store.table("players").drop_nulls("birth_date").row(0, named=True)
    day = np.array([(np.datetime64(born["birth_date"]) + np.timedelta64(9131, "D")).astype(int)])
    assert priors.age(np.array([born["player"]]), day)[0] == pytest.approx(25, abs=0.01)
    assert np.isnan(priors.age(np.array([NOBODY]), day)[0])
