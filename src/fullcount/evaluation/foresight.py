"""What a next-event model says before each pitch of a span of days: class by class, on the store's rows.

A pitch is forecast from the pitcher's sequence and from the batter's; the answer is the mean of the log-probabilities,
normalised. Each game is read with the games before it: windows overlap, and only the newer half of
a window is kept, so that every pitch has at least about half a window of context.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from fullcount.batches import EVENT, collate, lengths, of_like_length
from fullcount.errors import FullcountError
from fullcount.evaluation.facts import Forecast
from fullcount.evaluation.pitch_grain import Floats
from fullcount.fields import BY_NAME, CALL_CLASS, PITCH_CLASSES
from fullcount.model.precision import native_bfloat16
from fullcount.objectives.next_event import NextEvent
from fullcount.priors import Priors
from fullcount.store import Store, day_number
from fullcount.training.jobs import load_objective
from fullcount.windows import History, Int

#: What is forecast: the pitch's type, its result in six classes, its plate appearance's outcome in eight.
FORECASTS = ("pitch_type", "pitch", "outcome")


def spans(history: History, since: date, before: date) -> tuple[Int, Int, Int]:
    """Windows that together forecast every appearance of [since, before) once.

    Returns:
        first, stop and `kept`, each [windows]: the window's positions in the history and how many of its newest
        appearances are forecast: as many as fill half of its games and events.
    """
    window = history.window
    assert window.games is not None
    wanted = np.flatnonzero((history.days >= day_number(since)) & (history.days < day_number(before)))
    stops, kept = [], []
    games = events = 0
    for i, position in enumerate(wanted.tolist()):
        games, events = games + 1, events + int(history.events[position])
        last = i + 1 == len(wanted) or wanted[i + 1] != position + 1
        last = last or history.players[position + 1] != history.players[position]
        if not last:
            last = 2 * (games + 1) > window.games or 2 * (events + int(history.events[position + 1])) > window.events
        if last:
            stops.append(position)
            kept.append(games)
            games = events = 0
    first, stop = history.ending_at(np.array(stops, dtype=np.int64))
    return first, stop, np.array(kept, dtype=np.int64)


@torch.no_grad()
def forecast(
    model: NextEvent,
    history: History,
    priors: Priors,
    since: date,
    before: date,
    tokens: int = 16384,
    progress: bool = True,
) -> tuple[Int, dict[str, NDArray[np.float32]]]:
    """Store rows [n] of the pitches of [since, before), and the probabilities [n, classes] of each of `FORECASTS`."""
    model.eval()
    device = next(model.parameters()).device
    first, stop, kept = spans(history, since, before)
    chunks = of_like_length(lengths(history, first, stop), tokens)
    to_class = torch.zeros(len(BY_NAME["call"].ids), len(PITCH_CLASSES))
    for call, i in BY_NAME["call"].ids.items():
        to_class[i - 1, PITCH_CLASSES.index(CALL_CLASS[call])] = 1
    rows: list[Int] = []
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in FORECASTS}
    bfloat16 = torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device.type))
    for chunk in track(chunks, description=f"forecast, {history.window.role}s", disable=not progress):
        batch = collate(history, first[chunk], stop[chunk], priors, **model.encoder.config.inputs)
        which = batch.kind == EVENT
        newest = (batch.game < torch.from_numpy(kept[chunk]).unsqueeze(1))[which].numpy()
        with bfloat16:
            said = {n: x.exp().cpu() for n, x in model.forecast(batch.to(device)).items()}
        said["pitch"] = said.pop("call") @ to_class
        positions = np.concatenate([np.arange(a, b) for a, b in zip(first[chunk], stop[chunk], strict=True)])
        rows.append(history.rows(positions)[0][newest])
        for name in FORECASTS:
            found[name].append(said[name].numpy()[newest])
    if not rows:
        raise FullcountError(f"no games between {since} and {before} in {history.store.root}")
    return np.concatenate(rows), {name: np.concatenate(parts) for name, parts in found.items()}


def foresee(run: Path, store: Store, since: date, before: date, progress: bool = True) -> dict[str, Forecast]:
    """Forecasts of a run for [since, before): what (`FORECASTS`) -> Forecast, pooled over the roles it was trained on.

    Raises:
        FullcountError: the run has seen games of [since, before), or is no next-event run.
    """
    model, config, cutoff = load_objective(run, store)
    if cutoff > since:
        raise FullcountError(f"{run}: has seen play up to {cutoff}, it cannot forecast {since}")
    if not isinstance(model, NextEvent):
        raise FullcountError(f"{run}: forecasts before the pitch need a run of the objective next_event")
    priors = Priors(store)
    rows: Int | None = None
    said: dict[str, list[NDArray[np.float32]]] = {name: [] for name in FORECASTS}
    for role in config.roles:
        found, each = forecast(model, History(store, config.window(role)), priors, since, before, progress=progress)
        order = np.argsort(found)
        if rows is not None and not np.array_equal(rows, found[order]):
            raise FullcountError(f"{store.root}: batters' and pitchers' sequences do not hold the same pitches")
        rows = found[order]
        for name in FORECASTS:
            said[name].append(each[name][order])
    assert rows is not None
    return {name: Forecast(run.name, rows, _pooled(parts)) for name, parts in said.items()}


def _pooled(forecasts: list[NDArray[np.float32]]) -> Floats:
    """Normalised mean of log-probabilities."""
    total = sum(np.log(np.maximum(p.astype(np.float64), 1e-12)) for p in forecasts) / len(forecasts)
    p = np.exp(total - np.max(total, axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))
