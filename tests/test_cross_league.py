"""Two leagues in one store: each has its own priors and targets, and a run fitted on one is judged on the other."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from fullcount.adaptation.samples import Samples, recent_windows, samples
from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.cross_league import RIVALS, cross_league
from fullcount.model.transformer import EncoderConfig
from fullcount.priors import Priors
from fullcount.simulated.league import SimulatedLeague
from fullcount.sources.tables import Tables
from fullcount.store import PlayerRole, Store, day_number
from fullcount.training.jobs import finetune, pretrain
from fullcount.windows import History, Window

CUTOFF = date(2003, 3, 1)
SPAN = {"since": date(2001, 6, 1), "before": date(2004, 1, 1)}


def as_minor(tables: Tables) -> Tables:
    """Every other day of the tables as league AAA, whose players and games are nobody else's."""
    ids = ("player", "batter", "pitcher", "home_starter", "away_starter")
    changed = {}
    for f in fields(tables):
        frame = getattr(tables, f.name)
        if "date" in frame.columns:
            frame = frame.filter(pl.col("date").dt.ordinal_day() % 2 == 0)
        changed[f.name] = frame.with_columns(
            *(pl.col(c) + 500_000 for c in ids if c in frame.columns),
            *(pl.lit("AAA").alias(c) for c in ("league",) if c in frame.columns),
            *(("9" + pl.col(c)).alias(c) for c in ("game_id",) if c in frame.columns),
        )
    return Tables.of(**changed)


@pytest.fixture(scope="module")
def minor(sim_league: SimulatedLeague) -> Tables:
    return as_minor(sim_league.tables)


@pytest.fixture(scope="module")
def alone(minor: Tables, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open_or_create(tmp_path_factory.mktemp("alone") / "store").add(minor, "minor")


@pytest.fixture(scope="module")
def both(sim_league: SimulatedLeague, minor: Tables, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open_or_create(tmp_path_factory.mktemp("both") / "store")
    return store.add(sim_league.tables, "sim").add(minor, "minor")


def drawn(store: Store, role: PlayerRole, grain: str, leagues: tuple[str, ...] | None = None) -> Samples:
    history = History(store, Window(role, games=20, events=1000))
    return samples(store, history, Priors(store), grain, leagues=leagues, **SPAN)  # type: ignore[arg-type]


def assert_equal(a: Samples, b: Samples) -> None:
    for name in ("player", "day", "season", "game_id"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.stop - a.first, b.stop - b.first)
    for name, tensor in a.targets.__dict__.items():
        assert torch.equal(tensor, getattr(b.targets, name)), name


@pytest.mark.parametrize("grain", ["game", "season"])
@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_a_league_beside_another_is_as_it_is_alone(
    both: Store, alone: Store, sim_store: Store, role: PlayerRole, grain: str
) -> None:
    minors, majors = drawn(both, role, grain, ("AAA",)), drawn(both, role, grain)
    assert len(minors)
    assert len(majors)
    assert_equal(minors, drawn(alone, role, grain))
    assert_equal(majors, drawn(sim_store, role, grain))
    assert_equal(drawn(both, role, grain, ("AAA", "SIM")), Samples.concat([minors, majors]))


def test_a_league_that_is_not_there_is_named(both: Store) -> None:
    with pytest.raises(FullcountError, match="leagues: the store has no game of 'KBO'; it holds AAA, SIM"):
        drawn(both, "batter", "game", ("KBO",))


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_what_happened_in_another_league_is_no_prior(both: Store, alone: Store, role: PlayerRole) -> None:
    players = np.unique(alone.appearances(role).player)
    days = np.full(len(players), 12_200)
    own = Priors(both, league="AAA")
    np.testing.assert_array_equal(own.features(role, players, days), Priors(alone).features(role, players, days))
    np.testing.assert_array_equal(own.tendencies(role, players, days), Priors(alone).tendencies(role, players, days))
    assert Priors(both).counts(role, players, days).sum() == 0


def test_the_mean_of_a_league_is_that_of_its_own_players(both: Store, sim_store: Store) -> None:
    day = day_number(date(2003, 3, 1))
    found = []
    for store in (both, sim_store):
        history = History(store, Window("batter"))
        first, stop = recent_windows(history, day, "SIM")
        found.append((history.players[first].tolist(), history.days[stop - 1].tolist(), (stop - first).tolist()))
    assert found[0] == found[1]
    assert found[0][0]


@pytest.fixture(scope="module")
def runs(both: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    tiny = EncoderConfig(d_model=16, layers=1, heads=2, feedforward=32)
    short = {"steps": 2, "precision": "32-true"}
    pretrain(PretrainConfig(encoder=tiny, before=CUTOFF, batch_tokens=512, train=short), both, out / "encoder", False)
    fitting = {"steps": 20, "lr": 2e-2, "monitor": "total", "validate_every": 10, "precision": "32-true"}
    given = {"before": CUTOFF, "since": date(2001, 6, 1), "role": "batter", "train": fitting}
    for name, more in {
        "major": {"grain": "game"},
        "minor": {"grain": "game", "leagues": ("AAA",)},
        "still": {"grain": "game", "train": {**fitting, "lr": 1e-12}},
        "pitchers": {"grain": "game", "role": "pitcher"},
        "linear": {"grain": "game", "head": "linear"},
    }.items():
        finetune(FinetuneConfig(**{**given, **more}), both, out / "encoder", out / name, progress=False)  # type: ignore[arg-type]
    return out


def test_a_run_is_judged_on_the_other_league(both: Store, runs: Path) -> None:
    given = {"major": runs / "major", "still": runs / "still"}
    table = cross_league(both, given, 2003, "AAA", minimum=10, draws=50, progress=False)
    of = {r["system"]: r for r in table.iter_rows(named=True)}
    assert list(of) == [*RIVALS, "major", "still"]
    assert of["still"]["nats"] == pytest.approx(of["prior and opponent"]["nats"], abs=1e-6)  # a head that never moved
    assert of["still"]["gain"] == pytest.approx(0, abs=1e-6)
    assert of["major"]["gain"] == pytest.approx(of["still"]["nats"] - of["major"]["nats"], abs=1e-6)
    assert of["major"]["low"] <= of["major"]["gain"] <= of["major"]["high"]
    # The league's mean by hand.
    asked = samples(both, History(both, FinetuneConfig(role="batter", grain="game", before=CUTOFF).history_window()),
                    Priors(both), "game", since=CUTOFF, before=date(2004, 1, 1), leagues=("AAA",))  # fmt: skip
    t = asked.targets
    assert of["league mean"]["targets"] == len(asked)
    assert of["league mean"]["nats"] == pytest.approx(
        float(-(t.counts * t.league.log()).sum() / t.counts.sum()), rel=1e-5
    )


def test_fitting_on_a_league_is_not_fitting_on_another(both: Store, runs: Path) -> None:
    given = {"major": runs / "major", "minor": runs / "minor"}
    table = cross_league(both, given, 2003, "AAA", draws=20, progress=False)
    nats = dict(table.select("system", "nats").iter_rows())
    assert nats["minor"] != nats["major"]


@pytest.mark.parametrize(
    ("names", "league", "season", "sentence"),
    [
        ((), "AAA", 2003, "give one or more fitted runs"),
        (("major", "pitchers"), "AAA", 2003, "all of one role and grain"),
        (("linear",), "AAA", 2003, "linear: only the anchored head has an outcome mix"),
        (("major",), "AAA", 2002, "nothing of AAA in 2002 from 2003-03-01 on"),
        (("major",), "AA", 2003, "no game of 'AA'"),
    ],
)
def test_bad_questions(
    both: Store, runs: Path, names: tuple[str, ...], league: str, season: int, sentence: str
) -> None:
    with pytest.raises(FullcountError, match=sentence):
        cross_league(both, {n: runs / n for n in names}, season, league, progress=False)
