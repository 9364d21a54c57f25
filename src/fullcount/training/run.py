"""A run directory: everything needed to know what was done, to go on with it and to refuse what does not fit.

config.json         resolved configuration
environment.json    versions, platform, data fingerprint, training cut-off
log.jsonl           one JSON object a line, always
checkpoint.safetensors   weights, optimiser moments and counters: the run's whole state
weights.safetensors      the trained weights (the best ones when early stopping watched)
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fullcount.errors import FullcountError

#: What may differ between a run and its resumption: it changes how a run is watched, or who computes it, and so at most
#: the order in which numbers are added. (The checkpoint knows how many batches are in a step; what training saw follows
#: from data and configuration, and earlier runs did not record it.)
MAY_CHANGE = frozenset({"seen", "log_every", "checkpoint_every", "devices", "strategy", "accumulate", "compile"})


class Run:
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.safetensors"
        self.weights = path / "weights.safetensors"

    def begin(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        """Start the run, or check that the one here has the same configuration and data.

        Args:
            config: resolved configuration, JSON-able.
            facts: data fingerprint, cut-off date and the like; recorded, and compared on resumption.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        written = self.path / "config.json"
        whole = json.loads(json.dumps({**config, "facts": facts}, default=str))
        if written.exists():
            before = json.loads(written.read_text())
            different = sorted(_differences(before, whole))
            if different:
                raise FullcountError(
                    f"{self.path}: the run here was started with another {different[0]}; "
                    "resume with the same configuration, or choose another output folder"
                )
            return
        _write(written, json.dumps(whole, indent=1))
        environment = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{p: version(p) for p in ("fullcount", "torch", "numpy", "polars")},
        }
        _write(self.path / "environment.json", json.dumps(environment, indent=1))

    def config(self) -> dict[str, Any]:
        """The resolved configuration. Raises FullcountError when there is no run here."""
        path = self.path / "config.json"
        if not path.exists():
            raise FullcountError(f"{self.path}: no run here (config.json is missing)")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def log(self, record: dict[str, Any]) -> None:
        """Append one record to log.jsonl."""
        with (self.path / "log.jsonl").open("a") as handle:
            handle.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All log records so far."""
        path = self.path / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def save(self, path: Path, tensors: dict[str, Tensor], meta: dict[str, Any] | None = None) -> None:
        """Write tensors to a safetensors file of this run in one step: a reader sees the old file or the new one."""
        scratch = path.with_suffix(".new")
        held = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}
        save_file(held, scratch, metadata={"meta": json.dumps(meta or {})})
        scratch.replace(path)

    def load(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and meta record of a file of this run."""
        if not path.exists():
            raise FullcountError(f"{path}: not there; has the run ended?")
        with safe_open(path, framework="pt") as handle:
            tensors: dict[str, Tensor] = {n: handle.get_tensor(n) for n in handle.keys()}  # noqa: SIM118
            return tensors, json.loads(handle.metadata()["meta"])


def _write(path: Path, text: str) -> None:
    # Processes of one run begin it together, on one machine or several.
    scratch = path.with_suffix(f".{platform.node()}.{os.getpid()}.new")
    scratch.write_text(text)
    scratch.replace(path)


def _differences(a: Any, b: Any, at: str = "") -> set[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return {
            found
            for key in a.keys() | b.keys()
            if key not in MAY_CHANGE
            for found in _differences(a.get(key), b.get(key), f"{at}.{key}".lstrip("."))
        }
    return set() if a == b else {f"{at} ({a!r}, now {b!r})"}


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """A short name of weights: equal bytes, equal name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
