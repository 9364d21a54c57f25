"""How fast each pre-training objective trains, against masked gamestate modelling, at equal encoder size.

    python benchmarks/objectives.py [--store STORE] [--only KIND ...]

Steps take turns, so that whatever else the machine does meets all alike; each objective makes its own batches. ELECTRA
runs every token through two networks: the last column counts both. Floating-point operations are those of
`fullcount.training.work`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fullcount.config import PretrainConfig
from fullcount.objectives.registry import OBJECTIVES
from fullcount.store import Store
from fullcount.training.jobs import build_pretraining
from fullcount.training.work import flops_per_token
from train import Step, autocast, opened, race, synchronise


def training(kind: str, store: Store, device: torch.device, precision: str) -> tuple[Step, float]:
    """A training step of an objective with its defaults, its batch included; and its operations a token."""
    config = PretrainConfig.model_validate({"objectives": kind, "before": date(2100, 1, 1), "validation_days": 1})
    task, sampler, _ = build_pretraining(config, store)
    task = task.to(device).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4)
    work = statistics.mean(flops_per_token(task, sampler.batch(37 * i).to(device)) for i in range(4))

    def step(number: int) -> int:
        batch = sampler.batch(number).to(device)
        with autocast(device, precision):
            losses = task(batch)
        total = torch.stack([losses.weights[n] * s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items()])
        total.sum().backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return batch.tokens

    synchronise(device)
    return step, work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="default: a small simulated league")
    parser.add_argument("--only", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    kinds = list(dict.fromkeys(["masked_gamestate", *options.only]))
    with tempfile.TemporaryDirectory() as scratch:
        store = opened(options.store, Path(scratch))
        steps = {kind: training(kind, store, device, options.precision) for kind in kinds}
        found = race({kind: step for kind, (step, _) in steps.items()}, options.repeats, device)
        base = statistics.median(found["masked_gamestate"])
        table = Table(
            "objective",
            "tokens/s",
            "quarters",
            "of masked",
            "both networks",
            "MFLOP/token",
            title=f"{device}, {options.precision}",
        )
        for kind, rates in found.items():
            middle = statistics.median(rates)
            low, _, high = statistics.quantiles(rates, n=4)
            both = f"{2 * middle / base:.2f}" if kind == "electra" else ""
            work = f"{steps[kind][1] / 1e6:.2f}"
            table.add_row(kind, f"{middle:,.0f}", f"{low:,.0f} - {high:,.0f}", f"{middle / base:.2f}", both, work)
        Console().print(table)


if __name__ == "__main__":
    main()
