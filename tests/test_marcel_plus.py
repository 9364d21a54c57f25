"""Fitted Marcel: planted constants come back, without a past it is Marcel's, and the future changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.evaluation.backtest import backtest
from fullcount.projection.marcel import Marcel
from fullcount.projection.marcel_plus import (
    COMPONENTS,
    MARCEL,
    RUNS,
    Histories,
    MarcelPlus,
    fit,
    forecast,
    histories,
    run_weights,
    slopes,
)
from fullcount.projection.system import ROLES, League
from test_boosted_marcel import SPRING, STEALS, ageing_league, spoilt, with_steals


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


def test_planted_constants_come_back() -> None:
    """Talent of variance v with n chances at rate p: regression is (1 - p) / (p v); the years count the same."""
    rng = np.random.default_rng(0)
    m, rate, spread = 20_000, 0.05, 0.3
    talent = np.clip(rng.normal(1, spread, m), 0.01, None)
    chances = rng.integers(100, 700, (m, 4, 1)).astype(float)
    count = rng.binomial(chances.astype(int), (rate * talent)[:, None, None]) / rate
    age = rng.integers(21, 38, m).astype(float)
    later = count[:, 0] / chances[:, 0] * np.exp(-0.05 * (age[:, None] - 27) / 5)
    past = Histories(np.arange(m), count[:, 1:], chances[:, 1:], age, np.zeros(m), later, chances[:, 0],
                     np.full((m, 1), 1 / rate - 1))  # fmt: skip
    found = fit(past, 0, "hitters")
    assert np.exp(found[:2]) == pytest.approx([1, 1], abs=0.12)
    assert np.exp(found[2]) == pytest.approx((1 - rate) / rate / spread**2, rel=0.12)
    assert found[6] == pytest.approx(-0.05, abs=0.012)
    assert found[7] == pytest.approx(0, abs=0.012)


def test_without_a_past_the_constants_are_marcels(league: League) -> None:
    first = histories(league, "hitters", 2000)
    assert len(first.player) == 0
    assert fit(first, 0, "hitters") == pytest.approx(MARCEL["hitters"])
    young = ageing_league(range(2010, 2012), players=30)
    said = MarcelPlus().project(SPRING, young)
    assert said.hitters["player"].to_list() == Marcel().project(SPRING, young).hitters["player"].to_list()
    assert said.hitters["HR"].is_finite().all()
    assert said.pitchers["ER"].is_finite().all()


def test_slopes_are_those_of_the_forecast(league: League) -> None:
    rng, now = np.random.default_rng(0), histories(league, "pitchers", 2012)
    for component in range(len(COMPONENTS["pitchers"])):
        at = MARCEL["pitchers"] + 0.1 * rng.standard_normal(8)
        ends = [[forecast(at + d * step, now, component) for d in (1, -1)] for step in 1e-5 * np.eye(8)]
        numeric = np.stack([(high - low) / 2e-5 for high, low in ends], axis=1)
        np.testing.assert_allclose(slopes(at, now, component), numeric, rtol=1e-5, atol=1e-8)


def test_it_fits_an_ageing_curve(league: League) -> None:
    result = backtest([Marcel(), MarcelPlus()], league, [2012, 2013], ["A"], bootstrap=200)
    for role, stat in (("hitters", "HR%"), ("pitchers", "K/9")):
        better = result.intervals.filter(role=role, stat=stat, metric="rmse", system="marcel_plus").row(0, named=True)
        assert better["difference_high"] < -0.05 * better["value"], (role, stat)


def test_rates_are_relative_to_the_last_season_known() -> None:
    """A league that strikes out half as often from the last season on: so will it be."""
    calm = ageing_league()
    louder = pl.when(pl.col("season") < 2011).then(pl.col("SO") * 2).otherwise(pl.col("SO"))
    was_wild = replace(calm, batting_seasons=calm.batting_seasons.with_columns(louder), _before={})
    now, then = (
        x.hitters.select(pl.col("SO").sum() / pl.col("PA").sum()).item()
        for x in (MarcelPlus().project(SPRING, was_wild), MarcelPlus().project(SPRING, calm))
    )
    assert now == pytest.approx(then, rel=0.02)


def test_earned_runs_come_from_components(league: League) -> None:
    rng = np.random.default_rng(1)
    arms = league.pitching_seasons
    arms = arms.with_columns(
        pl.Series("BB", rng.integers(10, 90, arms.height), dtype=pl.Int16),
        pl.Series("GS", rng.integers(0, 30, arms.height), dtype=pl.Int16),
        H=pl.col("HR") + pl.Series(rng.integers(60, 160, arms.height), dtype=pl.Int16),
    ).with_columns(BF=pl.col("outs") + pl.col("H") + pl.col("BB"))
    real = 1.4 * pl.col("HR") + 0.35 * pl.col("BB") + 0.5 * (pl.col("H") - pl.col("HR"))
    arms = arms.with_columns(ER=real.round().cast(pl.Int16))
    planted = replace(league, pitching_seasons=arms, _before={})
    weights = run_weights(planted.before(SPRING), 20, 2012)
    assert tuple(weights) == RUNS
    for outcome, runs in {"HR": 1.4, "BB": 0.35, "BIP": 0.5, "SO": 0, "rest": 0, "start": 0}.items():
        assert weights[outcome] == pytest.approx(runs, abs=0.02), outcome
    lucky = replace(league, pitching_seasons=arms.with_columns(
        ER=pl.when(pl.col("player") == 51).then(0).otherwise(pl.col("ER")).cast(pl.Int16)), _before={})  # fmt: skip
    a, b = (MarcelPlus().project(SPRING, x).pitchers.filter(player=51) for x in (planted, lucky))
    assert b["ER"].item() == pytest.approx(a["ER"].item(), rel=0.1)


def test_attempts_and_success_are_apart(league: League) -> None:
    """Who runs twice as often as others and is caught as often as not steals no more, and is caught more."""
    runs = pl.col("player") % 3 == 0
    lines = league.batting_seasons.with_columns(
        SB=(pl.col("PA") // 40).cast(pl.Int16),
        CS=pl.when(runs).then(pl.col("PA") // 40).otherwise(0).cast(pl.Int16),
    )
    said = MarcelPlus().project(SPRING, replace(league, batting_seasons=lines, _before={})).hitters
    rates = said.select(
        runs.alias("runs"),
        attempts=(pl.col("SB") + pl.col("CS")) / pl.sum_horizontal("1B", "BB", "HBP"),
        success=pl.col("SB") / (pl.col("SB") + pl.col("CS")),
    )
    mean = rates.group_by("runs").mean().sort("runs")
    assert mean["attempts"].to_list() == pytest.approx([0.11, 0.21], abs=0.03)
    assert mean["success"].to_list() == pytest.approx([0.97, 0.53], abs=0.05)


@pytest.mark.parametrize("kind", STEALS)
def test_steals_that_are_not_known(league: League, kind: str) -> None:
    known = with_steals(league, kind)
    said, marcel = MarcelPlus().project(SPRING, known).hitters, Marcel().project(SPRING, known).hitters
    assert said["HR"].is_finite().all()
    for c in ("SB", "CS"):
        assert said[c].null_count() == marcel[c].null_count()
    if "SB" not in STEALS[kind]:
        assert said["SB"].sum() == pytest.approx(marcel["SB"].sum(), rel=0.15)


def test_lines_add_up(league: League) -> None:
    said = MarcelPlus().project(SPRING, league)
    marcel = Marcel().project(SPRING, league)
    for role in ROLES:
        exposure = "PA" if role == "hitters" else "IP"
        assert said.role(role)[exposure].to_list() == marcel.role(role)[exposure].to_list()
        assert said.role(role).select(pl.col(pl.Float64)).min_horizontal().min() >= 0
    hitters, pitchers = said.hitters, said.pitchers
    assert (hitters["H"] - hitters.select(pl.sum_horizontal("1B", "2B", "3B", "HR")).to_series()).abs().max() < 1e-9
    assert (pitchers["H"] > pitchers["HR"]).all()
    assert set(COMPONENTS["pitchers"]) - {"BIP"} <= set(pitchers.columns)


def test_the_future_changes_nothing() -> None:
    asked_before = ageing_league()
    MarcelPlus().project(date(2013, 3, 1), asked_before)
    for role in ROLES:
        a = MarcelPlus().project(SPRING, asked_before).role(role)
        b = MarcelPlus().project(SPRING, spoilt(ageing_league(), 2012)).role(role)
        assert_frame_equal(a, b, check_exact=True)


def test_a_converted_hitter_stays_marcels(league: League) -> None:
    """Once he batted; in the last three years he has batted as a pitcher alone."""
    player = league.batting_seasons.filter(season=2011)["player"][0]
    converted = league.batting_seasons.with_columns(
        is_pitcher=pl.col("is_pitcher") | ((pl.col("player") == player) & (pl.col("season") >= 2009))
    )
    changed = replace(league, batting_seasons=converted, _before={})
    own, marcel = (s.project(SPRING, changed).hitters.filter(player=player) for s in (MarcelPlus(), Marcel()))
    assert own.height == marcel.height == 1
    assert own["HR"].item() == pytest.approx(marcel["HR"].item())


def test_every_component_has_a_forecast(league: League) -> None:
    now = histories(league, "hitters", 2012)
    for i, component in enumerate(COMPONENTS["hitters"]):
        assert (forecast(MARCEL["hitters"], now, i) >= 0).all(), component
