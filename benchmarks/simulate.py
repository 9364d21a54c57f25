"""How many games a second are simulated by the default small model.

    python benchmarks/simulate.py [--store STORE --season 2019] [--games 1024] [--rows 1024]

Without a run the weights are untrained, which draws longer games than a trained model does: the figure to compare is
pitches a second; games of 300 pitches follow from it. The clock covers everything but opening the store.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.next_event import NextEvent
from fullcount.projection.simulation import Simulator, plans_of
from fullcount.simulated.league import simulate
from fullcount.store import Store
from fullcount.training.jobs import load_objective

PITCHES = 300  # a game of 2019


def main() -> None:
    """Simulate once to warm up, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="default: a simulated league")
    parser.add_argument("--run", type=Path, help="pre-training run; default: untrained weights")
    parser.add_argument("--season", type=int, default=2003)
    parser.add_argument("--games", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=1024)
    asked = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        if asked.store is None:
            league = simulate(seasons=3, teams=4, games_per_team=20, seed=1)
            store = Store.open_or_create(Path(folder) / "store").add(league.tables, "simulated")
        else:
            store = Store.open(asked.store)
        if asked.run is None:
            torch.manual_seed(0)
            model = NextEvent(GamestateTransformer(EncoderConfig(causal=True, use_prior=False, matchup=True)))
        else:
            loaded = load_objective(asked.run, store)[0]
            assert isinstance(loaded, NextEvent)
            model = loaded
        simulator = Simulator(model, store, rows=asked.rows)
        simulator.games(plans_of(store, asked.season, 8))
        plans = plans_of(store, asked.season, asked.games)
        used = time.process_time()
        result = simulator.games(plans)
        used = time.process_time() - used
    pitches = result.pitches.height
    console.print(
        f"{torch.get_num_threads()} threads: {pitches / result.seconds:,.0f} pitches a second "
        f"({pitches / used:,.0f} a second of processor time), {asked.games / result.seconds:.1f} games a second, "
        f"{pitches / result.seconds / PITCHES:.1f} of {PITCHES} pitches"
    )


if __name__ == "__main__":
    main()
