"""Independent pieces of work spread over a Ray cluster."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fullcount.errors import FullcountError


def over_ray(
    work: Callable[..., str | None], jobs: Sequence[tuple[Any, ...]], address: str
) -> Iterator[tuple[int, str | None]]:
    """`work(*job)` for every job, each on a core of the cluster, and on a GPU if it has any; all start in their order.

    A job whose machine goes away is begun again elsewhere, so `work` has to know what is done already.

    Args:
        work: a function of the installed package, as every machine has it; returns what went wrong, or None.
        jobs: arguments; what they name on disk is named alike on every machine.
        address: of a running cluster, as `ray.init` takes it; "local" begins one on this machine.

    Yields:
        Number of the job and what it returned, as they end; where its machines kept failing, that.

    Raises:
        FullcountError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise FullcountError("Ray is not installed: pip install -e '.[ray]'") from error
    options: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, ignore_reinit_error=True, logging_level="warning", **options)
    except (ConnectionError, ValueError) as error:
        raise FullcountError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
        remote = ray.remote(num_cpus=1, num_gpus=gpus)(work)
        running = {remote.remote(*job): number for number, job in enumerate(jobs)}
        while running:
            [ended], _ = ray.wait(list(running))
            try:
                result = ray.get(ended)
            except ray.exceptions.RayError as error:
                result = f"lost on the cluster: {str(error).strip().splitlines()[-1]}"
            yield running.pop(ended), result
    finally:
        ray.shutdown()
