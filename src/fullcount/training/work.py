"""What a step of training costs: tokens, floating-point operations, seconds.

Operations are those of matrix products, forward and backward, a multiplication and an addition counted apart, padding
included; whatever networks an objective has are counted because they are run. Attention counts every pair of tokens,
also where a mask or causality spares some; its backward pass has five products for the forward's two, because fused
kernels compute the scores again. Norms, activations, look-ups and the optimiser's own work are left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from fullcount.batches import Batch


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


#: The fused attention of a CPU, which torch's counter does not know.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}


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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device).train()
    # Far apart, because a sampler fits the size of its batches to a block of steps at a time.
    drawn = [batches(37 * number) for number in range(max(counted, sized))]
    started = time.perf_counter()
    work = sum(flops(module, batch.to(device)) for batch in drawn[:counted])
    seconds = time.perf_counter() - started
    phases = any(getattr(part, "two_phase", 0) for part in module.modules())
    tokens = sum(batch.tokens for batch in drawn[:counted])
    return Cost(
        tokens_per_step=sum(batch.tokens for batch in drawn[:sized]) / sized,
        flops_per_token=math.nan if phases else work / tokens,
        seconds_per_token=seconds / tokens,
    )
