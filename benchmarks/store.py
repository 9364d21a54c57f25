"""How fast the store is read and written: windows a second, opening, memory, bytes a pitch, ingestion.

    python benchmarks/store.py --store STORE [--data DATA]

--data is the folder of source files (`retrosheet/`, `statcast/`); without it ingestion is not measured.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fullcount.sources import retrosheet, statcast
from fullcount.store import Store
from fullcount.windows import History, Window, gather, ranges

TARGET = 50_000  # random windows a second


def private_memory() -> float:
    """Memory of this process that no other shares, MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def rate(work: Callable[[], int], seconds: float, repeats: int = 5) -> float:
    """Median over `repeats` of what `work` returns a second."""
    found = []
    for _ in range(repeats):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / repeats:
            done += work()
        found.append(done / (time.perf_counter() - start))
    return statistics.median(found)


_OPEN = """
import sys, time
sys.path.insert(0, {here!r})
from store import private_memory
from fullcount.store import Store
before, start = private_memory(), time.perf_counter()
store = Store.open({path!r})
store.categorical, store.numeric, store.appearances("batter"), store.appearances("pitcher")
print(time.perf_counter() - start, private_memory() - before)
"""


def opening(path: Path, repeats: int = 5) -> tuple[float, float]:
    """Median seconds to open in a fresh process and map everything, and the private memory it adds (MB)."""
    script = _OPEN.format(here=str(Path(__file__).resolve().parent), path=str(path))
    command = [sys.executable, "-c", script]
    runs = [subprocess.check_output(command, text=True).split() for _ in range(repeats)]
    return statistics.median(float(r[0]) for r in runs), statistics.median(float(r[1]) for r in runs)


def windows(store: Store, length: int, seconds: float) -> dict[str, float]:
    """Windows a second: contiguous rows one by one and 64 at once, and windows of real players."""
    rng = np.random.default_rng(0)
    length = min(length, store.rows - 1)
    categorical, numeric = store.categorical, store.numeric
    starts = iter(rng.integers(0, store.rows - length, 10_000_000).tolist())

    def slices() -> int:
        for _ in range(64):
            at = next(starts)
            np.array(categorical[at : at + length])
            np.array(numeric[at : at + length])
        return 64

    def gathered() -> int:
        rows = ranges(rng.integers(0, store.rows - length, 64), np.full(64, length))
        gather(categorical, rows)
        gather(numeric, rows)
        return 64

    found = {
        f"{length:,} contiguous rows, one slice each": rate(slices, seconds),
        f"{length:,} contiguous rows, gathered 64 at once": rate(gathered, seconds),
    }
    for role, games in (("batter", 240), ("pitcher", 40)):
        history = History(store, Window(role, games=games, events=length))  # type: ignore[arg-type]
        first, stop = history.ending_at(np.arange(len(history.index)))
        full = np.flatnonzero(history.pitches(first, stop) > 0.8 * length)
        if not len(full):
            full = np.arange(len(first))

        def real(history: History = history, full: np.ndarray = full) -> int:
            a, b = history.ending_at(rng.choice(full, 64))
            rows, _ = history.rows(ranges(a, b - a))
            gather(categorical, rows)
            gather(numeric, rows)
            return 64

        found[f"{role} windows of about {length:,} events, with their look-up"] = rate(real, seconds)
    return found


def ingestion(data: Path, season: int, store: Store) -> dict[str, float]:
    """Seconds from a season's files to canonical tables; players are looked up in the store's."""
    register = store.table("players")
    jobs: dict[str, Callable[[Path], object]] = {
        "retrosheet": lambda path: retrosheet.read_season(path, register),
        "statcast": lambda path: statcast.read([path], register),
    }
    found: dict[str, float] = {}
    for name, read in jobs.items():
        for path in sorted((data / name).rglob(f"*{season}*"))[:1]:
            start = time.perf_counter()
            read(path)
            found[f"{name} {path.name} to tables"] = time.perf_counter() - start
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--season", type=int, default=2023)
    parser.add_argument("--length", type=int, default=1024, help="events a window")
    parser.add_argument("--seconds", type=float, default=5.0, help="a measurement")
    options = parser.parse_args()
    store = Store.open(options.store)
    table = Table("measure", "value", title=f"{options.store.name}: {store.rows:,} pitches")
    seconds, memory = opening(options.store)
    table.add_row("open and map everything", f"{1000 * seconds:.1f} ms")
    table.add_row("private memory of an opened store", f"{memory:.1f} MB")
    arrays = sum((options.store / n).stat().st_size for n in ("categorical.i16", "numeric.f16"))
    index = sum(p.stat().st_size for p in (options.store / "index").rglob("*.npy"))
    tables = sum(p.stat().st_size for p in (options.store / "tables").iterdir())
    for name, size in (("arrays", arrays), ("index", index), ("small tables", tables)):
        table.add_row(f"bytes a pitch, {name}", f"{size / store.rows:.1f}")
    for name, value in windows(store, options.length, options.seconds).items():
        table.add_row(name, f"{value:,.0f} a second" + ("" if value >= TARGET else f" (below {TARGET:,})"))
    table.add_row("private memory after reading windows", f"{private_memory():.0f} MB")
    if options.data is not None:
        for name, value in ingestion(options.data, options.season, store).items():
            table.add_row(name, f"{value:.1f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
