"""Pitch rivals: a planted truth and golden scores. The published figures are checked in `test_pa_grain`."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.evaluation.pitch_grain import (
    CountPitcherBatter,
    CountTable,
    Marginal,
    calibration_error,
    from_odds,
    judge,
    odds,
    pitch_rows,
    rivals,
    score,
)
from fullcount.fields import PITCH_CLASSES

K = len(PITCH_CLASSES)


def planted(n: int = 60_000, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Pitches whose class depends on count, pitcher and batter by odds ratios; and the true probabilities [n, 6]."""
    rng = np.random.default_rng(seed)
    base = rng.dirichlet(np.array([36, 16, 12, 18, 17, 1]) / 4, 12)
    pitcher, batter = rng.integers(20, size=n), rng.integers(30, size=n)
    balls, strikes = rng.integers(4, size=n), rng.integers(3, size=n)
    skill = np.exp(0.3 * rng.standard_normal((2, 30, K)))
    truth = from_odds(odds(base[balls * 3 + strikes]) * skill[0, pitcher] * skill[1, batter])
    outcome = (rng.random((n, 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
    frame = pl.DataFrame(
        {"balls": balls, "strikes": strikes, "pitcher": pitcher + 1, "batter": batter + 1, "outcome": outcome}
    )
    return frame, truth


def test_each_rival_learns_what_it_can_see() -> None:
    frame, truth = planted()
    half = frame.height // 2
    table = judge(rivals(), frame[:half], frame[half:])
    loss = table["log_loss"].to_list()
    best = score(truth[half:], frame["outcome"].to_numpy()[half:])["log_loss"]
    assert loss[0] > loss[1] + 0.02 > loss[2] + 0.03
    assert best < loss[2] < best + 0.02
    assert table["n"].to_list() == [half] * 3


def test_probabilities_sum_to_one_and_unseen_players_are_average() -> None:
    frame, _ = planted(5000)
    stranger = frame.with_columns(pitcher=pl.lit(999), batter=pl.lit(999))
    for system in rivals():
        p = system.fit(frame).predict(stranger)
        assert np.allclose(p.sum(axis=1), 1)
        assert (p > 0).all()
    full, table = CountPitcherBatter().fit(frame), CountTable().fit(frame)
    assert np.allclose(full.predict(stranger), table.predict(stranger))


def test_average_players_give_back_the_count_table() -> None:
    frame, _ = planted(5000)
    heavy = CountPitcherBatter(strength=1e12).fit(frame)
    assert np.allclose(heavy.predict(frame), CountTable().fit(frame).predict(frame), atol=1e-6)


def test_golden_scores() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1]])
    got = score(p, np.array([0, 1]))
    assert got["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2)
    assert got["accuracy"] == 0.5
    assert got["brier"] == pytest.approx((0.5 + 2 * 0.81) / 2)
    assert got["n"] == 2
    with pytest.raises(FullcountError):
        score(p, np.array([0]))


def test_calibration_error() -> None:
    constant = np.full(1000, 0.3)
    happened = np.arange(1000) < 500
    assert calibration_error(constant, happened.astype(float)) == pytest.approx(0.2)
    rng = np.random.default_rng(0)
    forecast = rng.random(200_000)
    assert calibration_error(forecast, (rng.random(200_000) < forecast).astype(float)) < 0.01


def test_rows_leave_out_automatic_calls_and_other_games() -> None:
    calls = ["ball", "automatic_ball", "foul_tip", None, "in_play", "ball"]
    pitches = pl.DataFrame(
        {
            "game_id": "g",
            "date": date(2019, 4, 1),
            "game_type": ["R"] * 5 + ["P"],
            "balls": 0,
            "strikes": 0,
            "batter": 1,
            "pitcher": 2,
            "call": calls,
        }
    )
    assert [PITCH_CLASSES[i] for i in pitch_rows(pitches)["outcome"]] == ["B", "S", "X"]
    assert pitch_rows(pitches, automatic=True).height == 4


def test_marginal_is_the_share() -> None:
    frame = pl.DataFrame({"outcome": [0] * 600 + [4] * 400})
    assert np.allclose(Marginal().fit(frame).predict(frame[:1])[0, [0, 4]], [0.6, 0.4], atol=0.002)
