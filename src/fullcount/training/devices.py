"""Where a run trains: the processes as they were started, how weights are spread over them, in which arithmetic."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.plugins.precision.precision import Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from fullcount.errors import FullcountError
from fullcount.model.precision import native_bfloat16
from fullcount.model.transformer import Block

StrategyName = Literal["auto", "ddp", "fsdp"]
PrecisionName = Literal["auto", "32-true", "bf16-mixed"]


def device() -> torch.device:
    """Where this process computes: its GPU if it has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def launch(module: nn.Module, strategy: StrategyName, devices: int, precision: PrecisionName) -> Fabric:
    """Fabric, with all processes there.

    Args:
        module: what will be trained. `unfreezes = True`: some of its parameters may go without a gradient in a step.
        strategy: "ddp" keeps all weights in every process, "fsdp" spreads weights, gradients and moments over them
            (FSDP2); "auto" is one process, or ddp.
        devices: processes to start, where neither torchrun nor srun has.

    Raises:
        FullcountError: the module does not train so; SLURM's tasks were not started one by one.
    """
    each, nodes = processes(os.environ, devices)
    accelerator = device().type
    unfreezes = getattr(module, "unfreezes", False)
    chosen: Strategy | str = "auto"
    if strategy == "fsdp":
        if unfreezes:
            raise FullcountError("strategy = fsdp: what trains may not change on the way; use ddp")
        if learned := [n for n, p in module.named_parameters() if p.ndim == 0 and p.requires_grad]:
            raise FullcountError(f"strategy = fsdp: the single number {learned[0]} cannot be spread; use ddp")
        chosen = ModelParallelStrategy(_shard, data_parallel_size=each * nodes, tensor_parallel_size=1)
    elif strategy == "ddp" or each * nodes > 1:
        chosen = DDPStrategy(find_unused_parameters=unfreezes)
    mixed = arithmetic(precision, accelerator) == "bf16-mixed"
    fabric = Fabric(
        accelerator=accelerator,
        devices=each,
        num_nodes=nodes,
        strategy=chosen,
        plugins=_Autocast("bf16-mixed", accelerator) if mixed else Precision(),
    )
    fabric.launch()
    if distributed.is_initialized():
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    """Ends the group while Python still runs: gloo's threads may abort a process that goes with them at work."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def processes(environment: Mapping[str, str], devices: int) -> tuple[int, int]:
    """Processes on a node, and nodes, as torchrun or srun started them; else `devices` on this one.

    Fabric finds each process's rank itself, but wants to be told these two.

    Raises:
        FullcountError: several SLURM tasks without srun (one would wait for the others), or an unsaid number a node.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["LOCAL_WORLD_SIZE"]), int(environment["GROUP_WORLD_SIZE"])
    if "SLURM_NTASKS" not in environment or environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return devices, 1  # as Fabric tells them apart
    tasks = int(environment["SLURM_NTASKS"])
    if tasks == 1 and devices == 1:
        return 1, 1
    if "SLURM_NTASKS_PER_NODE" not in environment:
        raise FullcountError("SLURM: say --ntasks-per-node (the GPUs of a node), not --ntasks or devices")
    if tasks > 1 and "SLURM_STEP_ID" not in environment:
        raise FullcountError(f"SLURM gave {tasks} tasks, but this is one process: put srun before the command")
    return int(environment["SLURM_NTASKS_PER_NODE"]), int(environment.get("SLURM_NNODES", "1"))


def arithmetic(precision: PrecisionName, device: str) -> PrecisionName:
    """The precision asked for; "auto" takes bfloat16 where the processor multiplies it natively."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if native_bfloat16(device) else "32-true"


class _Autocast(MixedPrecision):
    """bfloat16 matrix products only: Fabric would also round the inputs, counts and exposures among them."""

    def convert_input(self, data: Any) -> Any:
        return data


def _shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Every block gathers its own weights when its turn comes; what is left is one more group."""
    along = mesh["data_parallel"]
    for block in [part for part in module.modules() if isinstance(part, Block)]:
        fully_shard(block, mesh=along)
    fully_shard(module, mesh=along, ignored_params={p for p in module.parameters() if p.ndim == 0})
    return module


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, gathered where it is spread over processes (all of them have to ask)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor where and as `like` is, on its device and spread over processes as it is."""
    tensor = tensor.to(like.device)
    return distribute_tensor(tensor, like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor
