"""Plate-appearance rivals: planted talent, as-of; and the published figures of 2019 at all three grains."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fullcount.evaluation import game_grain, pitch_grain
from fullcount.evaluation.pa_grain import (
    BatterMarcel,
    LeagueMix,
    Log5,
    Log5ToDate,
    PitcherOnly,
    anchor,
    before_today,
    judge,
    odds_ratio,
    pa_rows,
    rivals,
    shrink,
)
from fullcount.evaluation.pitch_grain import from_odds, odds
from fullcount.fields import OUTCOMES
from fullcount.sources.tables import Tables

MIX = np.array([0.45, 0.23, 0.085, 0.145, 0.045, 0.004, 0.031, 0.01])


def planted(n: int = 60_000, seed: int = 1) -> pl.DataFrame:
    """Plate appearances of 2016-19 whose outcome follows log5 of lasting talents."""
    rng = np.random.default_rng(seed)
    who = rng.integers(40, size=(2, n))
    skill = np.exp(0.3 * rng.standard_normal((2, 40, 8)))
    truth = from_odds(odds(np.broadcast_to(MIX / MIX.sum(), (n, 8))) * skill[0, who[0]] * skill[1, who[1]])
    outcome = (rng.random((n, 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
    season = np.sort(rng.integers(2016, 2020, size=n))
    day = [date(int(s), 4, 1) + timedelta(int(d)) for s, d in zip(season, rng.integers(180, size=n), strict=True)]
    return pl.DataFrame(
        {"season": season, "date": day, "batter": who[0] + 1, "pitcher": who[1] + 1, "outcome": outcome}
    )


def test_both_players_together_do_best() -> None:
    frame = planted()
    train, test = frame.filter(pl.col("season") < 2019), frame.filter(pl.col("season") == 2019)
    league, pitcher, batter, log5, to_date = judge(rivals(), train, test)["log_loss"].to_list()
    assert league > max(pitcher, batter) > min(pitcher, batter) > log5 > to_date


def test_log5_of_average_players_is_the_league_and_one_average_side_changes_nothing() -> None:
    mix = (MIX / MIX.sum())[None]
    assert np.allclose(odds_ratio(mix, mix, mix), mix)
    other = np.roll(mix, 1, axis=1)
    assert np.allclose(odds_ratio(other, mix, mix), other)


def test_golden_shrinkage() -> None:
    counts = np.zeros((1, 8))
    counts[0, :2] = 60  # 120 PA, half of them strikeouts; K has a strength of 60 PA
    got = shrink(counts, MIX / MIX.sum(), "batter")
    assert got[0, 1] == pytest.approx((60 + 60 * 0.23) / 180)
    assert got.sum() == pytest.approx(1)
    assert np.allclose(shrink(np.zeros((1, 8)), MIX / MIX.sum(), "pitcher"), MIX / MIX.sum())


def test_weights_of_seasons() -> None:
    rows = pl.DataFrame({"season": [2015, 2016, 2017, 2018, 2018], "batter": 7, "outcome": [1, 1, 1, 1, 0]})
    counts = BatterMarcel().fit(rows).counts
    assert counts[0, :2].tolist() == pytest.approx([1, 1 + 2 / 3 + 1 / 3])


def test_an_unknown_player_is_average() -> None:
    frame = planted(4000)
    stranger = frame.with_columns(batter=pl.lit(999), pitcher=pl.lit(999))
    mix = LeagueMix().fit(frame).predict(stranger)
    for system in (BatterMarcel(), PitcherOnly(), Log5()):
        assert np.allclose(system.fit(frame).predict(stranger), mix)


def test_only_earlier_days_count() -> None:
    day = date(2019, 5, 1)
    frame = pl.DataFrame(
        {
            "batter": [7, 7, 7, 8, 7],
            "date": [day, day, day + timedelta(1), day, day + timedelta(2)],
            "outcome": [1, 0, 1, 2, 3],
        }
    )
    got = before_today(frame, "batter")
    assert got.sum(axis=1).tolist() == [0, 0, 2, 0, 3]
    assert got[4, :2].tolist() == [1, 2]


def test_the_future_changes_no_forecast() -> None:
    frame = planted(20_000)
    train, test = frame.filter(pl.col("season") < 2019), frame.filter(pl.col("season") == 2019)
    cut = date(2019, 6, 15)
    later = test.with_columns(pl.when(pl.col("date") >= cut).then(1).otherwise(pl.col("outcome")).alias("outcome"))
    known = (test["date"] <= cut).to_numpy()
    for system in rivals():
        a, b = (system.fit(train).predict(f) for f in (test, later))
        assert np.array_equal(a[known], b[known])
    changed = Log5ToDate().fit(train)
    assert not np.allclose(changed.predict(test)[~known], changed.predict(later)[~known])


def test_rows() -> None:
    frame = pl.DataFrame(
        {
            "game_id": "g",
            "season": 2019,
            "date": date(2019, 4, 1),
            "game_type": ["R", "R", "R", "P", "R"],
            "batter": 1,
            "pitcher": 2,
            "batter_is_pitcher": [False, True, False, False, None],
            "event": ["strikeout_double_play", "single", "truncated_pa", "walk", "catcher_interf"],
        }
    )
    assert [OUTCOMES[i] for i in pa_rows(frame)["outcome"]] == ["K", "OUT"]


# --------------------------------------------------------------------------------------------------- published figures


@pytest.fixture(scope="module")
def seasons(data_dir: Path) -> Tables:
    """2016 to 2019, read once for all grains, since each season costs half a minute."""
    return game_grain.read_seasons(data_dir, range(2016, 2020))


@pytest.mark.real
@pytest.mark.slow
def test_published_figures_of_plate_appearances(seasons: Tables) -> None:
    table = anchor(seasons.plate_appearances)
    loss = dict(zip(table["system"], table["log_loss"], strict=True))
    published = {"league mix": 1.5214, "pitcher only": 1.5154, "batter (Marcel)": 1.5073, "log5": 1.5010}
    assert {n: loss[n] for n in published} == pytest.approx(published, abs=0.003)
    assert loss["log5, season to date"] < loss["log5"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("automatic", [False, True])
def test_published_figures_of_pitches(seasons: Tables, automatic: bool) -> None:
    pitches = seasons.pitches.filter(pl.col("season") == 2019)
    loss = pitch_grain.anchor(pitches, automatic=automatic)["log_loss"].to_list()
    assert loss == pytest.approx([1.5469, 1.4833, 1.4728], abs=0.003)
    assert abs(pitch_grain.pitch_rows(pitches, automatic).height - 733_951) < 2000


@pytest.mark.real
@pytest.mark.slow
def test_published_figures_of_starts(seasons: Tables) -> None:
    k = game_grain.moments(game_grain.starts_table(seasons, 2019)).row(0, named=True)
    assert (k["n"], round(k["mean"], 2)) == (4858, 4.93)
    assert k["variance"] == pytest.approx(7.34, abs=0.02)
    games = game_grain.anchor(seasons.pitching_games)
    r2 = dict(zip(games["system"], games["r2"], strict=True))
    assert r2["ten lines"] == pytest.approx(0.223, abs=0.005)
    assert r2["ten lines, without opponent"] == pytest.approx(0.210, abs=0.005)
    assert r2["mean of last ten starts of the season"] == pytest.approx(0.146, abs=0.005)
    best = games.row(-1, named=True)
    assert best["mae"] == pytest.approx(1.919, abs=0.01)
    assert best["rmse"] == pytest.approx(2.387, abs=0.01)
