"""Facts known before a pitch, and the boosted rivals: as-of, reproducible, and better than what ignores the players."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.evaluation import boosted
from fullcount.evaluation.boosted import Boosted, OwnMix, compare, fact_names
from fullcount.evaluation.facts import Forecast, pa_facts, pitch_facts, type_facts
from fullcount.evaluation.pa_grain import pa_rows
from fullcount.evaluation.pitch_grain import (
    CountTable,
    Marginal,
    calibration_error,
    column,
    pitch_rows,
    reliability,
    score,
    scores,
)
from fullcount.fields import OUTCOMES, PITCH_CLASSES, PITCH_TYPES
from fullcount.priors import MOMENTS, Priors, moment_of
from fullcount.report import figures
from fullcount.simulated.league import LEAGUE, SimulatedLeague
from fullcount.store import Store

SINCE, CUT, BEFORE = date(2001, 1, 1), date(2003, 1, 1), date(2004, 1, 1)
GRAINS = (pitch_facts, pa_facts, type_facts)


@pytest.fixture(scope="module")
def priors(sim_store: Store) -> Priors:
    return Priors(sim_store)


@pytest.fixture(scope="module")
def pitches(sim_store: Store, priors: Priors) -> pl.DataFrame:
    return pitch_facts(sim_store, priors, SINCE, BEFORE, LEAGUE)


@pytest.fixture(scope="module")
def types(sim_store: Store, priors: Priors) -> pl.DataFrame:
    return type_facts(sim_store, priors, SINCE, BEFORE, LEAGUE)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted, "TREES", 20)
    monkeypatch.setitem(boosted.PARAMETERS, "num_threads", 1)


def test_the_frames_are_those_of_the_trivial_rivals(
    sim_league: SimulatedLeague, sim_store: Store, priors: Priors, pitches: pl.DataFrame
) -> None:
    want = pitch_rows(sim_league.tables.pitches)
    for name in ("balls", "strikes", "batter", "pitcher", "outcome"):
        assert pitches[name].value_counts().sort(name).rows() == want[name].value_counts().sort(name).rows()
    turns = pa_facts(sim_store, priors, SINCE, BEFORE, LEAGUE)
    assert (turns["pitch_number"] == 1).all()
    mine = turns.filter(~pl.col("batter_is_pitcher"))["outcome"].value_counts().sort("outcome").rows()
    assert mine == pa_rows(sim_league.tables.plate_appearances)["outcome"].value_counts().sort("outcome").rows()
    assert pitches["row"].is_unique().all()
    assert turns["row"].is_unique().all()


def test_situation_is_the_pitch_tables(sim_league: SimulatedLeague, pitches: pl.DataFrame) -> None:
    want = sim_league.tables.pitches.sort("date", "game_id", "pa_number", "pitch_number")[pitches["row"].to_list()]
    for name in ("inning", "outs", "bases", "balls", "strikes"):
        assert (pitches[name] == want[name].clip(None, 12)).all()
    assert (pitches["score_diff"] == (want["bat_score"] - want["fld_score"]).clip(-8, 8)).all()


@pytest.mark.parametrize("grain", GRAINS)
def test_the_day_itself_and_the_future_change_no_fact(
    grain: Callable[..., pl.DataFrame], sim_league: SimulatedLeague, sim_store: Store, priors: Priors, tmp_path
) -> None:
    """Pitch calls and types, plate-appearance events and game lines from the day on are spoiled.

    What a pitcher threw last in this game is left out: it is known before the pitch.
    """
    tables = sim_league.tables
    late = pl.col("date") >= (day := tables.games["date"].sort()[tables.games.height // 2])

    def spoil(frame: pl.DataFrame, **values: object) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(late).then(pl.lit(v, frame.schema[n])).otherwise(pl.col(n)).alias(n) for n, v in values.items()
        )

    spoiled = replace(
        tables,
        pitches=spoil(tables.pitches, call="foul", pitch_type="KN"),
        plate_appearances=spoil(tables.plate_appearances, event="home_run"),
        batting_games=spoil(tables.batting_games, SO=40, HR=40),
        pitching_games=spoil(tables.pitching_games, SO=40, HR=40),
    )
    other = Store.open_or_create(tmp_path / "store").add(spoiled, "spoiled")
    ours, theirs = grain(sim_store, priors, SINCE, BEFORE, LEAGUE), grain(other, Priors(other), SINCE, BEFORE, LEAGUE)
    names = ["row", *[n for n in fact_names(ours) if n != "previous"]]
    until = pl.col("date") <= day
    assert ours.filter(until).select(names).equals(theirs.filter(until).select(names))
    assert not ours.filter(until)["outcome"].equals(theirs.filter(until)["outcome"])
    assert not ours.select(names).equals(theirs.select(names))


def test_previous_type_is_of_this_game_and_this_pitcher(types: pl.DataFrame) -> None:
    one = types.filter(pl.col("game_id") == types["game_id"][0])
    for _, own in one.group_by("pitcher", maintain_order=True):
        assert own["previous"].to_list() == [None, *own["outcome"].to_list()[:-1]]


def test_the_repertoire_is_what_the_pitcher_threw_before(sim_store: Store, priors: Priors, types: pl.DataFrame) -> None:
    """Counted again, row by row: decayed, shrunken to the league's mix, then at this moment to what is expected."""
    moments = moment_of(sim_store.categorical[types["row"]])
    rows = types.with_columns(pl.Series("moment", moments))
    k = len(PITCH_TYPES)

    def counted(before: pl.DataFrame, day: date, decay: float) -> np.ndarray:
        table = np.zeros((MOMENTS, k))
        days = (pl.Series([day]) - before["date"]).dt.total_days().to_numpy()
        np.add.at(table, (before["moment"].to_numpy(), before["outcome"].to_numpy()), np.exp(-decay * days))
        return table

    for place in (types.height // 2, types.height - 1):
        row = rows.row(place, named=True)
        before = rows.filter(pl.col("date") < row["date"])
        own = counted(before.filter(pl.col("pitcher") == row["pitcher"]), row["date"], priors.decay)
        # The league's counts are grown to the present by one factor, which leaves its shares as they are but for the
        # one pitch that is added to each.
        grown = np.exp(np.log(2) / 365 * (row["date"] - min(first_day(sim_store))).days)
        league = counted(before, row["date"], np.log(2) / 365) * grown + 1
        usual = league.sum(axis=0) / league.sum()
        mine = own.sum(axis=0) + 10 * usual
        expected = mine * league[row["moment"]] / league[row["moment"]].sum() / usual
        share = own[row["moment"]] + 40 * expected / expected.sum()
        found = [row[f"mix_{t}"] for t in PITCH_TYPES]
        assert np.allclose(found, share / share.sum(), rtol=2e-3)


def first_day(store: Store) -> list[date]:
    return [store.table(t)["date"].min() for t in ("batting_games", "pitching_games")]


def test_boosting_beats_the_league_and_sums_to_one(pitches: pl.DataFrame) -> None:
    judged, found = compare([Marginal(), Boosted(Marginal())], pitches, CUT)
    table = scores(found, column(judged, "outcome"))
    assert table["log_loss"][1] < table["log_loss"][0] - 0.02
    assert np.allclose(found["boosted"].sum(axis=1), 1)
    assert (found["boosted"] > 0).all()


def test_boosting_the_own_mix_is_not_worse_than_it(types: pl.DataFrame) -> None:
    judged, found = compare([CountTable(len(PITCH_TYPES)), OwnMix(), Boosted(OwnMix())], types, CUT)
    count, own, boost = scores(found, column(judged, "outcome"))["log_loss"].to_list()
    assert own < count - 0.02
    assert boost < own + 0.005


def test_same_rows_same_forecast(pitches: pl.DataFrame) -> None:
    some = pitches.filter(pl.col("date") < CUT)
    one, two = (Boosted(Marginal(), rows=3000).fit(some).predict(pitches[:500]) for _ in range(2))
    assert np.array_equal(one, two)


def test_the_judged_outcomes_are_not_read(pitches: pl.DataFrame) -> None:
    early, late = pitches.filter(pl.col("date") < CUT), pitches.filter(pl.col("date") >= CUT)
    fitted = Boosted(Marginal(), rows=3000).fit(early)
    assert np.array_equal(fitted.predict(late), fitted.predict(late.with_columns(outcome=pl.lit(0, pl.Int64))))


def test_a_forecast_made_elsewhere_is_judged_on_its_rows(pitches: pl.DataFrame) -> None:
    some = pitches[:200]
    p = np.random.default_rng(0).dirichlet(np.ones(len(PITCH_CLASSES)), 200)
    order = np.random.default_rng(1).permutation(200)
    made = Forecast("network", column(some, "row")[order], p[order]).fit(some)
    assert np.array_equal(made.predict(some), p)
    with pytest.raises(FullcountError, match="no forecast"):
        made.predict(pitches[:201])
    with pytest.raises(FullcountError, match="no forecast"):
        Forecast("none", [], np.zeros((0, 6))).predict(some)
    with pytest.raises(FullcountError, match="one for each"):
        Forecast("short", [1, 2], p)


def test_bad_input(sim_store: Store, priors: Priors, pitches: pl.DataFrame) -> None:
    with pytest.raises(FullcountError, match="no regular-season games"):
        pitch_facts(sim_store, priors, date(1990, 1, 1), date(1991, 1, 1))
    with pytest.raises(FullcountError, match="one side"):
        compare([Marginal()], pitches, SINCE)
    with pytest.raises(FullcountError, match="two days"):
        Boosted(Marginal()).fit(pitches.filter(pl.col("date") == pitches["date"][0]))


def test_reliability_of_an_exact_forecast_lies_on_the_line() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([4, 2, 1], 100_000)
    outcome = (rng.random((100_000, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    mean, frequency, n = reliability(p[:, 0], (outcome == 0).astype(float)).T
    assert n.sum() == 100_000
    assert np.abs(mean - frequency).max() < 0.04
    sure = np.where(p == p.max(axis=1, keepdims=True), 0.98, 0.01)
    assert score(p, outcome)["top_ece"] < 0.01
    assert score(sure, outcome)["top_ece"] == pytest.approx(0.98 - score(p, outcome)["accuracy"])
    assert calibration_error(p[:, 0], (outcome == 0).astype(float)) < 0.01


def test_reliability_figure() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(len(OUTCOMES)), 500)
    outcome = np.arange(500) % 4
    figure = figures.reliability({"one": p, "two": p[::-1]}, outcome, OUTCOMES)
    assert len(figure.axes) == 4  # classes that never came are left out
    assert [line.get_label() for line in figure.axes[0].get_lines()][1:] == ["one", "two"]
    with pytest.raises(FullcountError, match="no forecasts"):
        figures.reliability({}, outcome, OUTCOMES)
