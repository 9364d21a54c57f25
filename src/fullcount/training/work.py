"""What a step of training costs: tokens, floating-point operations, seconds.

Operations are those of matrix products, forward and backward, a multiplication and an addition counted apart, padding
included; whatever networks an objective has are counted because they are run. Attention counts every pair of tokens,
also where a mask or causality spares some; its backward pass has five products for the forward's two, because fused
kernels compute the scores again. Norms, activations, look-ups and the optimiser's own work are left out.

As a program it says what pre-training costs on cards that can be rented:

    python -m fullcount.training.work --store STORE --passes 10 -o encoder.d_model=256
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from fullcount.batches import Batch, Sampler
from fullcount.config import PretrainConfig, load
from fullcount.errors import FullcountError, told
from fullcount.store import Store
from fullcount.training.devices import device
from fullcount.training.jobs import build_pretraining


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


#: The fused attention of a CPU, which torch's counter does not know.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}


#: bfloat16 TFLOP/s of dense matrix products (makers' data sheets), and dollars an hour (assumed; change them).
CARDS = {"L4": (121.0, 0.80), "A10G": (70.0, 1.00), "A100-80": (312.0, 2.00), "H100": (989.0, 3.00)}


class Cost(BaseModel):
    """What an objective costs on average: tokens a step, floating-point operations and seconds a token.

    Operations are nan for an objective of two phases (see `measure`).
    """

    model_config = ConfigDict(frozen=True)

    tokens_per_step: float
    flops_per_token: float
    seconds_per_token: float

    @property
    def flops_per_step(self) -> float:
        """Floating-point operations of one step."""
        return self.flops_per_token * self.tokens_per_step


def flops(module: nn.Module, batch: Batch) -> int:
    """Floating-point operations of one forward and backward pass of an objective over a batch."""
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        losses = module(batch).sums.values()
        torch.stack([total.float() for total in losses]).sum().backward()  # type: ignore[no-untyped-call]
    module.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def flops_per_token(module: nn.Module, batch: Batch) -> float:
    """`flops` per token of the batch that is not padding."""
    return flops(module, batch) / batch.tokens


def measure(module: nn.Module, batches: Callable[[int], Batch], counted: int = 8, sized: int = 64) -> Cost:
    """The cost of training `module`, from real batches on the device it will be trained on.

    An objective with `two_phase` costs differently in its phases, and their shares depend on the number of steps: its
    operations are nan, its seconds those of the first phase.

    Args:
        module: an objective; its weights stay as they are.
        batches: step -> batch.
        counted: batches passed through the module. sized: batches whose tokens are counted.
    """
    here = device()
    module = module.to(here).train()
    # Far apart, because a sampler fits the size of its batches to a block of steps at a time.
    drawn = [batches(37 * number) for number in range(max(counted, sized))]
    started = time.perf_counter()
    work = sum(flops(module, batch.to(here)) for batch in drawn[:counted])
    seconds = time.perf_counter() - started
    phases = any(getattr(part, "two_phase", 0) for part in module.modules())
    tokens = sum(batch.tokens for batch in drawn[:counted])
    return Cost(
        tokens_per_step=sum(batch.tokens for batch in drawn[:sized]) / sized,
        flops_per_token=math.nan if phases else work / tokens,
        seconds_per_token=seconds / tokens,
    )


def tokens_of_a_pass(sampler: Sampler) -> int:
    """Tokens in which every event the sampler may draw is seen once in each role, with the separators of its games."""
    inside = [h.events[(h.days >= sampler.low) & (h.days < sampler.high)] for h in sampler.histories]
    return sum(int(events.sum()) + len(events) for events in inside)


def bill(flops: float, share: float, cards: dict[str, tuple[float, float]]) -> pl.DataFrame:
    """card, TFLOP/s, hours and dollars of so many operations: hours = flops / (share x rate) / 3600.

    Args:
        share: of its rate at which a card trains. cards: name -> (TFLOP/s, dollars an hour).
    """
    rows = []
    for card, (rate, price) in cards.items():
        hours = flops / (share * rate * 1e12) / 3600
        rows.append({"card": card, "TFLOP/s": rate, "$/hour": price, "hours": hours, "$": hours * price})
    return pl.DataFrame(rows)


def _card(text: str) -> tuple[str, tuple[float, float]]:
    try:
        name, figures = text.split("=")
        rate, price = map(float, figures.split(":"))
    except ValueError as error:
        raise FullcountError(f"--card {text}: expected NAME=TFLOPS:DOLLARS, as in L4=121:0.80") from error
    return name, (rate, price)


def main() -> None:
    """`python -m fullcount.training.work --store STORE`"""
    parser = argparse.ArgumentParser(description="What pre-training costs: counted operations, hours, dollars.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="TOML file, as for `fullcount pretrain`")
    parser.add_argument("-o", action="append", default=[], metavar="KEY=VALUE", help="override, as there")
    parser.add_argument("--passes", type=float, default=10, help="over all events, each seen in both roles")
    parser.add_argument("--share", type=float, default=0.3, help="of its rate at which a card trains")
    parser.add_argument("--card", action="append", default=[], metavar="NAME=TFLOPS:DOLLARS", help="in place of ours")
    given = parser.parse_args()
    cards = dict(map(_card, given.card)) or CARDS
    objective, train, _ = build_pretraining(load(PretrainConfig, given.config, given.o), Store.open(given.store))
    cost = measure(objective, train.batch, counted=1, sized=1)
    began = time.perf_counter()
    made = sum(train.batch(step).tokens for step in range(train.block)) / (time.perf_counter() - began)
    tokens = given.passes * tokens_of_a_pass(train)
    parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    print(f"{parameters / 1e6:.2f} M parameters, {cost.flops_per_token / 1e6:.1f} MFLOP a token")
    print(f"{tokens / 1e6:,.0f} M tokens, {tokens * cost.flops_per_token:.2e} FLOP")
    print(f"batches: {tokens / made / 3600:.1f} h of one core of this machine, beside what follows")
    print(f"at {given.share:.0%} of a card's rate:")
    pl.Config.set_tbl_hide_dataframe_shape(True).set_float_precision(3)
    print(bill(tokens * cost.flops_per_token, given.share, cards))


if __name__ == "__main__":
    told(main)
