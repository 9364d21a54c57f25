"""Representations: play is cut into whole stretches of a season, and nothing of the day or later is read."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fullcount.config import PretrainConfig
from fullcount.errors import FullcountError
from fullcount.model.transformer import EncoderConfig
from fullcount.projection.anchored import Anchored, PitchAggregates
from fullcount.projection.blend import Blend
from fullcount.projection.registry import make_system
from fullcount.projection.representations import Representations, stretches
from fullcount.simulated.league import SimulatedLeague
from fullcount.store import ROLES, Store, day_number
from fullcount.training.jobs import pretrain
from fullcount.windows import History, Window

TINY = EncoderConfig(d_model=16, layers=1, heads=2, feedforward=32, architecture="hierarchical", use_prior=False)


@pytest.fixture(scope="module")
def run(sim_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "encoder"
    train = {"steps": 2, "precision": "32-true"}
    window = {"games": 8, "events": 100}
    config = PretrainConfig(
        encoder=TINY, before=date(2003, 3, 1), batch_tokens=512, batter=window, pitcher=window, train=train
    )
    pretrain(config, sim_store, out, progress=False)
    return out


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("events", [1, 10, 100, 4096])
def test_stretches_are_all_play_of_one_player_and_season_in_whole_games(
    sim_store: Store, role: str, events: int
) -> None:
    history = History(sim_store, Window(role, games=170))  # type: ignore[arg-type]
    first, stop = stretches(history, events)
    assert first[0] == 0
    assert stop[-1] == len(history.index)
    assert (first[1:] == stop[:-1]).all()
    years = history.days.astype("datetime64[D]").astype("datetime64[Y]")
    for a, b in zip(first.tolist(), stop.tolist(), strict=True):
        assert len(set(history.players[a:b])) == len(set(years[a:b])) == 1
        assert history.events[a:b].sum() < events + history.events[a:b].max() + history.events[b - 1]


def test_representations_are_relative_and_kept(sim_store: Store, run: Path) -> None:
    day = date(2003, 3, 1)
    read = Representations(sim_store, run)
    for role in ("hitters", "pitchers"):
        who, x = read.of(role, day)
        assert x.shape == (len(who), read.width)
        assert len(set(who.tolist())) == len(who)
        history = History(sim_store, Window("batter" if role == "hitters" else "pitcher", games=10_000, events=10**9))
        weight = history.pitches(*history.before(who, np.full(len(who), day_number(day))))
        np.testing.assert_allclose(weight @ x / weight.sum(), 0, atol=1e-5)
        again = Representations(sim_store, run).of(role, day)
        np.testing.assert_array_equal(again[1], x)
    assert read.cutoff == date(2003, 3, 1)


def test_spelling(sim_store: Store, run: Path) -> None:
    several = make_system(f"marcel+reads:discipline,{run}", sim_store)
    assert isinstance(several, Anchored)
    assert several.name == "marcel+reads:discipline,encoder"
    ratios, read = several.inputs
    few, all_of = (one.of("hitters", date(2003, 3, 1))[1] for one in (ratios, PitchAggregates(sim_store)))
    assert 0 < few.shape[1] < all_of.shape[1]
    assert isinstance(read, Representations)
    assert read.run == run
    blend = make_system(f"blend:marcel+reads:pitches,{run}@marcel_plus", sim_store)
    assert isinstance(blend, Blend)
    assert [s.name for s in blend.systems] == ["marcel+reads:pitches,encoder", "marcel_plus"]
    assert make_system("mine=blend:marcel@marcel_plus+reads:pitches", sim_store).name == "mine+reads:pitches"
    with pytest.raises(FullcountError):
        make_system("marcel+reads:nosuch", sim_store)


def test_nothing_of_the_day_or_later_is_read(
    sim_league: SimulatedLeague, sim_store: Store, run: Path, tmp_path: Path
) -> None:
    """A store that ends on a day in mid-season says the same of that day as one that goes on."""
    day = sorted(set(sim_store.games.filter(season=2003)["date"].to_list()))[9]
    past = replace(sim_league.tables, **{
        t.name: getattr(sim_league.tables, t.name).filter(pl.col("date") < day)
        for t in fields(sim_league.tables) if "date" in getattr(sim_league.tables, t.name).columns
    })  # fmt: skip
    cut = Store.open_or_create(tmp_path / "store").add(past, "sim")
    whole = Representations(sim_store, run)
    whole.of("hitters", date(2004, 3, 1))  # whole stretches are kept, and must not answer for cut ones
    for role in ("hitters", "pitchers"):
        who, x = whole.of(role, day)
        again, y = Representations(cut, run).of(role, day)
        np.testing.assert_array_equal(who, again)
        np.testing.assert_allclose(x, y, atol=4e-3)  # kept ones are rounded
