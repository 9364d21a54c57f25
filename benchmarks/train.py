"""How fast training is: real tokens a second against a bare `nn.TransformerEncoder` and against the machine.

    python benchmarks/train.py [--store STORE]

Steps of the contestants take turns, so that whatever else the machine does meets them alike: masked gamestate
modelling on the sampler's batches, the same with event-weighted attention or with compiled blocks (`train.compile`),
and PyTorch's own encoder of the same shape (no dropout) on dense random batches of the same number of tokens. Medians
over the repeats; the cost of event weights is the median of the two steps' ratio on the same batch. On one thread time
is the processor's, which other jobs of the machine disturb less.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fullcount.batches import Batch, Sampler
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.masked_gamestate import MaskedGamestate
from fullcount.priors import Priors
from fullcount.simulated.league import simulate
from fullcount.store import Store
from fullcount.windows import Window

Step = Callable[[int], int]  # step number -> real tokens


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def ours(config: EncoderConfig, sampler: Sampler, device: torch.device, precision: str, compiled: bool = False) -> Step:
    """One training step, the making of its batch included."""
    torch.manual_seed(0)
    encoder = GamestateTransformer(config)
    if compiled:
        for block in encoder.blocks:
            block.compile(dynamic=True)
    task = MaskedGamestate(encoder).to(device)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4)

    def step(number: int) -> int:
        batch: Batch = sampler.batch(number).to(device)
        with autocast(device, precision):
            losses = task(batch)
        total = torch.stack([s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items()]).sum()
        total.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return batch.tokens

    return step


def bare(
    config: EncoderConfig, width: int, tokens: int, device: torch.device, precision: str, dropout: float = 0.0
) -> Step:
    """One training step of `nn.TransformerEncoder` on a dense random batch: no embedding, no heads, no data."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        config.d_model,
        config.heads,
        config.feedforward,
        dropout=dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    model = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False).to(device).train()
    for block in model.layers:
        block.self_attn.dropout = 0.0  # attention dropout leaves the fused kernel: it would be no rival
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x = torch.randn(max(1, tokens // width), width, config.d_model, device=device)

    def step(number: int) -> int:
        with autocast(device, precision):
            loss = model(x).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return x.shape[0] * width

    return step


def flops_per_token(config: EncoderConfig, width: float) -> float:
    """Multiplications and additions of forward and backward: 6 a matrix weight, and attention's 12 * layers * S * d."""
    weights = config.layers * (4 * config.d_model**2 + 2 * config.d_model * config.feedforward)
    return 6 * weights + 12 * config.layers * width * config.d_model


def matmul_rate(device: torch.device, precision: str, size: int = 2048) -> float:
    """What the machine multiplies at best: floating-point operations a second."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    rates = []
    for _ in range(7):
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return statistics.median(rates)


def opened(path: Path | None, scratch: Path) -> Store:
    """The store at `path`, or a small simulated league's, made in `scratch`."""
    if path is not None:
        return Store.open(path)
    league = simulate(seasons=2, teams=8, games_per_team=60, seed=0)
    return Store.open_or_create(scratch / "store").add(league.tables, "simulated")


def race(
    contestants: dict[str, Step], repeats: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Tokens a second of each contestant in each of `repeats` rounds, taking turns; the first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats + 1):
        for name, step in contestants.items():
            synchronise(device)
            start = clock()
            tokens = step(number)
            synchronise(device)
            if number:
                found[name].append(tokens / (clock() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="default: a small simulated league")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens a batch")
    parser.add_argument("--events", type=int, default=480, help="events a window, at most")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="+", help="contestants; default: all")
    parser.add_argument("--precision", nargs="+", choices=["bf16", "fp32"], default=["bf16", "fp32"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as scratch:
        store = opened(options.store, Path(scratch))
        sampler = Sampler(
            store,
            (Window("batter", games=30, events=options.events), Window("pitcher", games=5, events=options.events)),
            before=date(2100, 1, 1),
            tokens=options.tokens,
            priors=Priors(store),
        )
        config = EncoderConfig()
        probe = [sampler.batch(i) for i in range(sampler.block)]
        cells = sum(b.kind.numel() for b in probe)
        real = sum(b.tokens for b in probe)
        # Width in which the average real token stands.
        width = sum(b.tokens * b.kind.shape[1] for b in probe) / real
        table = Table(
            "precision",
            "contestant",
            "tokens/s",
            "quarters",
            "of bare",
            "of matmul",
            title=f"{device}, {store.rows:,} pitches",
        )
        for precision in options.precision:
            peak = matmul_rate(device, precision)
            weighted, dropped = (config.model_copy(update=u) for u in ({"event_attention": True}, {"dropout": 0.1}))
            contestants = {
                "fullcount": ours(config, sampler, device, precision),
                "event-weighted": ours(weighted, sampler, device, precision),
                "compiled": ours(config, sampler, device, precision, compiled=True),
                "bare, our width": bare(config, round(width), options.tokens, device, precision),
                "bare, 512": bare(config, 512, options.tokens, device, precision),
                "fullcount, dropout .1": ours(dropped, sampler, device, precision),
                "bare, dropout .1": bare(config, round(width), options.tokens, device, precision, dropout=0.1),
            }
            chosen = {n: step for n, step in contestants.items() if n in (options.only or contestants)}
            # The process's own seconds where it is one thread: others on the machine then count less.
            alone = device.type == "cpu" and torch.get_num_threads() == 1
            found = race(chosen, options.repeats, device, time.process_time if alone else time.perf_counter)
            base = statistics.median(found.get("bare, our width", [math.nan]))
            for name, rates in found.items():
                middle = statistics.median(rates)
                low, _, high = statistics.quantiles(rates, n=4) if len(rates) > 1 else (middle, middle, middle)
                share = middle * flops_per_token(config, 512 if name == "bare, 512" else width) / peak
                table.add_row(
                    precision,
                    name,
                    f"{middle:,.0f}",
                    f"{low:,.0f} - {high:,.0f}",
                    f"{middle / base:.2f}",
                    f"{share:.0%}",
                )
            if {"fullcount", "event-weighted"} <= found.keys():
                ratios = [b / a for a, b in zip(found["fullcount"], found["event-weighted"], strict=True)]
                high, middle, low = (f"{1 - q:.1%}" for q in statistics.quantiles(ratios, n=4))
                table.add_row(precision, "cost of event weights", middle, f"{low} - {high}")
            table.add_row(precision, "matrix product", "", "", "", f"{peak / 1e9:,.0f} GFLOP/s")
            table.add_section()
        console = Console()
        console.print(table)
        console.print(
            f"padding {1 - real / cells:.1%} of the batches' cells; mean width {width:.0f}; target: 1.2 of bare"
        )


if __name__ == "__main__":
    main()
