"""The leak gate: what masked modelling shows around a hidden pitch must not give the pitch away.

A network without context reads the situation fields at a hidden pitch and at the next one, just as the objective shows
them. It may not tell the hidden call, or how the plate appearance ended, better than the count table does. With hiding
switched off it does far better, so the gate can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullcount.batches import EVENT, PAD, SEPARATOR, SLOT, Batch, collate
from fullcount.fields import CALL_CLASS, CALLS, CATEGORICAL, COLUMN, FIELDS, NUMERIC, PITCH_CLASSES, Role
from fullcount.model.hierarchical import begins_turn
from fullcount.objectives.base import hide, plate_appearance_outcomes, segments
from fullcount.objectives.masked_gamestate import MaskedGamestate
from fullcount.objectives.masked_plate_appearance import MaskedPlateAppearance
from fullcount.simulated.league import simulate
from fullcount.store import PlayerRole, Store
from fullcount.windows import History, Window

MARGIN = 0.01  # nats
HIDDEN, NOTHING = -1, -2  # ids shown for a hidden field, and where no pitch follows in the game
SITUATION = [(i, f.name) for i, f in enumerate(FIELDS) if f.role is Role.SITUATION]
CLASS_OF_ID = torch.tensor([-1] + [PITCH_CLASSES.index(CALL_CLASS[c]) for c in CALLS])


@dataclass
class Shown:
    """Of every target: `own` and `following` [n, fields] ids shown at it and at the next pitch, `outcome` [n], and how
    the hierarchical encoder groups it, `grouped` [n, 2]: its place, and whether the next pitch is of its group."""

    own: torch.Tensor
    following: torch.Tensor
    outcome: torch.Tensor
    grouped: torch.Tensor

    @property
    def count(self) -> torch.Tensor:
        """[n] number of the count shown, hidden ones counting as counts of their own."""
        names = [n for _, n in SITUATION]
        return (self.own[:, names.index("balls")] + 1) * 8 + self.own[:, names.index("strikes")] + 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    league = simulate(seasons=1, teams=8, games_per_team=60, seed=3)
    return Store.open_or_create(tmp_path_factory.mktemp("gate")).add(league.tables, "sim")


def call_class(batch: Batch) -> torch.Tensor:
    return CLASS_OF_ID[batch.categorical[..., COLUMN["call"]].long()]


def shown(
    store: Store,
    role: PlayerRole,
    hiding: bool = True,
    rate: float = 0.15,
    objective: type[MaskedGamestate] | type[MaskedPlateAppearance] = MaskedGamestate,
    outcome: Callable[[Batch], torch.Tensor] = call_class,
    draws: int = 1,
) -> Shown:
    """What is shown around the targets that the objective draws in single games, and their outcome; no pitch twice,
    or with several draws of targets no pitch in both halves."""
    history = History(store, Window(role, games=1))
    parts = []
    for part in np.array_split(np.random.default_rng(0).permutation(len(history.players)), 12):
        batch = collate(history, *history.ending_at(part), None)
        truth = outcome(batch)
        for number in range(draws):
            batch.seed = int(part[0]) + number
            targets = objective.mask(cast(Any, SimpleNamespace(rate=rate)), batch) & (truth >= 0)
            hidden = hide(batch, targets, objective.hides) & torch.tensor(hiding)
            ids = torch.stack(
                [batch.categorical[..., COLUMN[n]].long().masked_fill(hidden[..., i], HIDDEN) for i, n in SITUATION],
                dim=-1,
            )
            follows = torch.zeros_like(targets)
            follows[:, :-1] = batch.kind[:, 1:] == EVENT
            following = torch.roll(ids, -1, dims=1).masked_fill(~follows[..., None], NOTHING)
            first, last = segments(begins_turn(batch, hidden))
            place = torch.arange(targets.shape[1])
            grouped = torch.stack([place - first, follows & (place < last)], dim=-1)
            parts.append([x[targets] for x in (ids, following, truth, grouped)])
    return Shown(*(torch.cat(x) for x in zip(*parts, strict=True)))


def table_loss(key: torch.Tensor, outcome: torch.Tensor) -> float:
    """Log-loss on the second half of a table of frequencies by `key`, counted on the first."""
    _, key = torch.unique(key, return_inverse=True)
    half = len(key) // 2
    table = torch.full((int(key.max()) + 1, int(outcome.max()) + 1), 0.5)
    table.index_put_((key[:half], outcome[:half]), torch.ones(half), accumulate=True)
    probabilities = table / table.sum(dim=1, keepdim=True)
    return float(-probabilities[key[half:], outcome[half:]].log().mean())


def network_loss(ids: torch.Tensor, outcome: torch.Tensor, epochs: int = 12) -> float:
    """Lowest log-loss on the second half of a small network fitted on the first: what can be read at best."""
    coded, sizes = [], [0]
    for column in ids.T:
        values, code = torch.unique(column, return_inverse=True)
        coded.append(code + sum(sizes))
        sizes.append(len(values))
    rows, half = torch.stack(coded, dim=1), len(ids) // 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.EmbeddingBag(sum(sizes), 64, mode="sum"),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, int(outcome.max()) + 1),
        )
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
        losses = []
        for _ in range(epochs):
            for part in torch.randperm(half).split(512):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(rows[part]), outcome[part]).backward()
                optimizer.step()
            with torch.no_grad():
                losses.append(float(torch.nn.functional.cross_entropy(net(rows[half:]), outcome[half:])))
    return min(losses)


ROLES: tuple[PlayerRole, ...] = ("pitcher", "batter")


@pytest.mark.parametrize("role", ROLES)
def test_what_is_shown_does_not_beat_the_count_table(store: Store, role: PlayerRole) -> None:
    s = shown(store, role)
    assert network_loss(torch.cat([s.own, s.following], dim=1), s.outcome) > table_loss(s.count, s.outcome) - MARGIN


@pytest.mark.parametrize(("role", "hiding"), [("pitcher", True), ("batter", True), ("pitcher", False)])
def test_a_masked_plate_appearance_is_not_read_off_better_than_from_the_final_count(
    store: Store, role: PlayerRole, hiding: bool
) -> None:
    s = shown(store, role, hiding, 0.3, MaskedPlateAppearance, plate_appearance_outcomes, draws=3)
    read = network_loss(torch.cat([s.own, s.following], dim=1), s.outcome)
    if hiding:
        assert read > table_loss(s.count, s.outcome) - MARGIN
    else:  # the gate can fail: who bats next, and from which bases, says how this one ended
        assert read < table_loss(s.count, s.outcome) - 0.4


@pytest.mark.parametrize("role", ROLES)
def test_positive_control_without_hiding_the_network_reads_the_call(store: Store, role: PlayerRole) -> None:
    s = shown(store, role, hiding=False)
    assert network_loss(torch.cat([s.own, s.following], dim=1), s.outcome) < table_loss(s.count, s.outcome) - 0.4


@pytest.mark.parametrize(("role", "hiding"), [("pitcher", True), ("batter", True), ("pitcher", False)])
def test_the_grouping_of_the_hierarchical_encoder_does_not_tell_that_a_pitch_was_the_last(
    store: Store, role: PlayerRole, hiding: bool
) -> None:
    s = shown(store, role, hiding)
    parts = [s.own, s.grouped, s.following] if hiding else [s.own, s.grouped]
    read = network_loss(torch.cat(parts, dim=1), s.outcome)
    if hiding:
        assert read > table_loss(s.count, s.outcome) - MARGIN
    else:  # the gate can fail: plate appearances as they were
        assert read < table_loss(s.count, s.outcome) - 0.3


@pytest.mark.parametrize("role", ROLES)
def test_the_target_itself_shows_only_the_situation(store: Store, role: PlayerRole) -> None:
    s = shown(store, role)
    assert network_loss(s.own, s.outcome) > table_loss(s.count, s.outcome) - MARGIN


# ------------------------------------------------------------------------------------------------ properties of hide


@st.composite
def games(draw: st.DrawFn) -> tuple[Batch, torch.Tensor, list[tuple[int, int, int]]]:
    """One sequence of games with random structure, random targets, and (game, half, plate appearance) of each token."""
    kind, rows, labels = [SLOT], [[0, 0, 0]], [(-1, -1, -1)]
    for game in range(draw(st.integers(1, 3))):
        kind.append(SEPARATOR)
        rows.append([0, 0, 0])
        labels.append((game, -1, -1))
        for half in range(draw(st.integers(1, 3))):
            for pa in range(draw(st.integers(1, 3))):
                for pitch in range(draw(st.integers(1, 4))):
                    kind.append(EVENT)
                    rows.append([half // 2 + 1, half % 2 + 1, pitch + 1])
                    labels.append((game, half, pa))
    size, padding = len(kind), draw(st.integers(0, 2))
    kind, rows = kind + [PAD] * padding, rows + [[0, 0, 0]] * padding
    categorical = torch.zeros((1, len(kind), len(CATEGORICAL)), dtype=torch.int16)
    for place, name in enumerate(("inning", "top", "pitch_number")):
        categorical[0, :, COLUMN[name]] = torch.tensor([r[place] for r in rows], dtype=torch.int16)
    flags = draw(st.lists(st.booleans(), min_size=size, max_size=size)) + [False] * padding
    targets = torch.tensor([flags]) & (torch.tensor([kind]) == EVENT)
    numbers = torch.zeros((1, len(kind), len(NUMERIC)))
    batch = Batch(
        kind=torch.tensor([kind], dtype=torch.int8),
        categorical=categorical,
        numeric=numbers,
        present=numbers.bool(),
        game=torch.zeros((1, len(kind)), dtype=torch.int16),
        position=torch.zeros((1, len(kind)), dtype=torch.int16),
        ago=torch.zeros((1, len(kind)), dtype=torch.int32),
        role=torch.zeros(1, dtype=torch.int64),
        player=torch.zeros(1, dtype=torch.int64),
        day=torch.zeros(1, dtype=torch.int64),
        prior=torch.zeros((1, 12)),
        matchup=torch.zeros((1, len(kind), 0)),
        seed=0,
    )
    return batch, targets, labels


@settings(max_examples=60, deadline=None)
@given(games())
def test_dynamic_fields_stay_hidden_to_the_end_of_the_game(
    case: tuple[Batch, torch.Tensor, list[tuple[int, int, int]]],
) -> None:
    batch, targets, labels = case
    hidden = hide(batch, targets, MaskedGamestate.hides)[0]
    for t in torch.nonzero(targets[0])[:, 0].tolist():
        later = [u for u in range(t + 1, len(labels)) if labels[u][0] == labels[t][0] and batch.kind[0, u] == EVENT]
        for i, f in enumerate(FIELDS):
            if f.role in MaskedGamestate.hides:
                assert hidden[t, i], f.name
            if f.dynamic:
                assert all(hidden[u, i] for u in later), f.name


@settings(max_examples=60, deadline=None)
@given(games())
def test_nothing_is_hidden_before_the_first_target(
    case: tuple[Batch, torch.Tensor, list[tuple[int, int, int]]],
) -> None:
    batch, targets, labels = case
    hidden = hide(batch, targets, MaskedGamestate.hides)[0]
    first = int(targets[0].int().argmax()) if targets.any() else len(labels)
    assert not hidden[:first].any()
    assert not hidden[len(labels) :].any()


def test_every_field_that_a_pitch_changes_is_dynamic() -> None:
    dynamic = {f.name for f in FIELDS if f.dynamic}
    assert {"balls", "strikes", "pitch_number", "outs", "bases", "begin_pa", "score_diff", "stand"} <= dynamic
