"""Fixtures all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fullcount.simulated.league import SimulatedLeague, simulate
from fullcount.store import Store


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    folder = Path(os.environ.get("FULLCOUNT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: set FULLCOUNT_DATA ({folder} is not there)")
    return folder


@pytest.fixture(scope="session")
def sim_league() -> SimulatedLeague:
    """A small simulated league: seasons 2001 to 2003, four teams."""
    return simulate(seasons=3, teams=4, games_per_team=20, seed=1)


@pytest.fixture(scope="session")
def sim_store(sim_league: SimulatedLeague, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small league in a store; nobody may add to it."""
    return Store.open_or_create(tmp_path_factory.mktemp("sim") / "store").add(sim_league.tables, "sim")
