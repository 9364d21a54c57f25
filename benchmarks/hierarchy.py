"""The hierarchical encoder against the flat one of equal width, by the length of windows in plate appearances.

    python benchmarks/hierarchy.py --store STORE

Training steps of masked gamestate modelling on the same batches, which are made beforehand, taking turns; medians over
the repeats. On a CPU seconds are the process's own, whatever else runs beside it. Windows hold whole games and at least
the given number of plate appearances; batters' and pitchers' batches alternate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fullcount.batches import EVENT, Batch, collate
from fullcount.fields import COLUMN
from fullcount.model.encoders import build_encoder
from fullcount.model.transformer import EncoderConfig
from fullcount.objectives.masked_gamestate import MaskedGamestate
from fullcount.store import ROLES, PlayerRole, Store
from fullcount.training.work import flops
from fullcount.windows import History, Window
from train import Step, autocast, opened, race


def turns(batch: Batch) -> torch.Tensor:
    """[B] plate appearances of each window."""
    return ((batch.kind == EVENT) & (batch.categorical[..., COLUMN["begin_pa"]] > 0)).sum(dim=1)


def windows(store: Store, role: PlayerRole, appearances: int, tokens: int, seed: int) -> Batch:
    """A batch of about `tokens` tokens of windows with `appearances` plate appearances or a few more."""
    history = History(store, Window(role, games=10_000, events=round(4.3 * appearances)))
    first, stop = history.ending_at(np.random.default_rng(seed).choice(len(history.players), 4000))
    full = np.flatnonzero(history.pitches(first, stop) > 3.9 * appearances)[: 16 + 8 * tokens // (4 * appearances)]
    enough = [i for i in full if turns(collate(history, first[i : i + 1], stop[i : i + 1], None))[0] >= appearances]
    if not enough:
        raise SystemExit(f"no {role} has {appearances} plate appearances in a row in this store: give a longer one")
    chosen = np.array(enough[: max(1, tokens // (4 * appearances))])
    return collate(history, first[chosen], stop[chosen], None, seed)


def training(config: EncoderConfig, batches: list[Batch], device: torch.device, precision: str) -> Step:
    """A training step, which returns events."""
    torch.manual_seed(0)
    task = MaskedGamestate(build_encoder(config)).to(device).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4)

    def step(number: int) -> int:
        batch = batches[number % len(batches)]
        with autocast(device, precision):
            losses = task(batch)
        torch.stack([s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items()]).sum().backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return batch.events

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="default: a small simulated league")
    parser.add_argument("--appearances", type=int, nargs="+", default=[75, 150, 300, 600], help="of a window, at least")
    parser.add_argument("--tokens", type=int, default=8192, help="a batch, about")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    flat = EncoderConfig(use_prior=False)
    encoders = {"flat": flat, "hierarchical": flat.model_copy(update={"architecture": "hierarchical"})}
    with tempfile.TemporaryDirectory() as scratch:
        store = opened(options.store, Path(scratch))
        table = Table(
            "plate appearances",
            "events a window",
            *(f"{name}, events/s" for name in encoders),
            "ratio, by round",
            *(f"{name}, µs an event" for name in encoders),
            *(f"{name}, MFLOP an event" for name in encoders),
            title=f"{device}, {options.precision}, {store.rows:,} pitches",
        )
        for appearances in options.appearances:
            roles = [ROLES[i % 2] for i in range(options.repeats + 1)]
            made = [windows(store, r, appearances, options.tokens, i).to(device) for i, r in enumerate(roles)]
            steps = {name: training(c, made, device, options.precision) for name, c in encoders.items()}
            clock = time.process_time if device.type == "cpu" else time.perf_counter
            found = race(steps, options.repeats, device, clock)
            middle = {name: statistics.median(rates) for name, rates in found.items()}
            ratios = [b / a for a, b in zip(*found.values(), strict=True)]
            work = [
                sum(flops(MaskedGamestate(build_encoder(c)), b) for b in made[:2]) / sum(b.events for b in made[:2])
                for c in encoders.values()
            ]
            table.add_row(
                f"{statistics.mean(turns(b).float().mean().item() for b in made):.0f}",
                f"{sum(b.events for b in made) / sum(len(b.kind) for b in made):.0f}",
                *(f"{rate:,.0f}" for rate in middle.values()),
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})",
                *(f"{1e6 / rate:.0f}" for rate in middle.values()),
                *(f"{w / 1e6:.2f}" for w in work),
            )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
