"""Masked plate appearances and the auxiliary objectives: right targets, nothing given away, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fullcount.batches import EVENT, PAD, Batch, Sampler, collate
from fullcount.errors import FullcountError
from fullcount.fields import BY_NAME, CATEGORICAL, COLUMN, DELTAS, EVENT_OUTCOME, EVENTS, FIELDS, OUTCOMES, Role
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.base import Losses, Objective, segments
from fullcount.objectives.identity import Identity, regulars
from fullcount.objectives.inning import Inning
from fullcount.objectives.masked_plate_appearance import MaskedPlateAppearance
from fullcount.objectives.pitch_order import PLACES, TELLING, PitchOrder
from fullcount.objectives.score import Score
from fullcount.priors import Priors
from fullcount.store import ROLES, Store
from fullcount.windows import History, Window

BEFORE = date(2004, 1, 1)
SITUATION = [i for i, f in enumerate(CATEGORICAL) if f.role is Role.SITUATION]
WHERE = {f.name: i for i, f in enumerate(FIELDS)}
Make = Callable[[GamestateTransformer, Store], Objective]

OBJECTIVES: dict[str, Make] = {
    "masked_plate_appearance": lambda encoder, store: MaskedPlateAppearance(encoder),
    "pitch_order": lambda encoder, store: PitchOrder(encoder, 0.6),
    "inning": lambda encoder, store: Inning(encoder, 0.6),
    "identity": lambda encoder, store: Identity(encoder, *(regulars(store, r, BEFORE, 300) for r in ROLES)),
    "score": lambda encoder, store: Score(encoder, 0.9),
}


def batch_of(store: Store, role: str, seed: int = 0, games: int = 4) -> Batch:
    history = History(store, Window(role, games=games, events=300))
    positions = np.arange(30 + seed, len(history.players), len(history.players) // 6)
    return collate(history, *history.ending_at(positions), Priors(store), seed=seed, matchup="game")


@pytest.fixture(scope="module")
def batches(sim_store) -> dict[str, list[Batch]]:
    return {role: [batch_of(sim_store, role, seed) for seed in range(4)] for role in ROLES}


def task(name: str, store: Store, **changes) -> Objective:
    torch.manual_seed(0)
    shape = {"d_model": 32, "layers": 1, "heads": 2, "feedforward": 64, "matchup": True} | changes
    return OBJECTIVES[name](GamestateTransformer(EncoderConfig(**shape)), store).eval()


def total(losses: Losses) -> Tensor:
    return torch.stack([s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items()]).sum()


def pitches(batch: Batch, row: int) -> list[dict[str, str] | None]:
    """The tokens of a sequence, each a field name -> value, "" where missing; None outside events."""
    answer: list[dict[str, str] | None] = []
    for kind, ids in zip(batch.kind[row].tolist(), batch.categorical[row].tolist(), strict=True):
        words = {
            f.name: "" if not i else (f.vocabulary or ())[i - 1] if f.vocabulary else str(i)
            for f, i in zip(CATEGORICAL, ids, strict=True)
        }
        answer.append(words if kind == EVENT else None)
    return answer


def turns(tokens: list[dict[str, str] | None]) -> list[list[int]]:
    """Places of the plate appearances that are seen from the first pitch to the last."""
    found, current = [], []
    for place, pitch in enumerate(tokens):
        if pitch is None or pitch["begin_pa"]:
            current = []
        if pitch is None:
            continue
        current.append(place)
        if pitch["event"] not in ("", "none"):
            if tokens[current[0]]["begin_pa"]:  # type: ignore[index]
                found.append(current)
            current = []
    return found


rows = st.tuples(st.sampled_from(ROLES), st.integers(0, 3), st.integers(0, 5))


# ------------------------------------------------------------------------------------------------------ common rules


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_segments(begins):
    begins[0] = True
    first, last = segments(torch.tensor([begins]))
    for i in range(len(begins)):
        start = max(j for j in range(i + 1) if begins[j])
        stop = min((j for j in range(i + 1, len(begins)) if begins[j]), default=len(begins)) - 1
        assert (int(first[0, i]), int(last[0, i])) == (start, stop)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("causal", [False, True])
def test_choices_follow_the_batch_seed_and_encoders_of_both_kinds_are_trained(sim_store, batches, name, causal):
    model = task(name, sim_store, causal=causal, use_prior=not causal)
    batch = batches["pitcher"][0]
    once, again = model(batch), model(batch)
    other = model(replace(batch, seed=99))
    assert {n: float(s) for n, s in once.sums.items()} == {n: float(s) for n, s in again.sums.items()}
    assert {n: float(s) for n, s in once.sums.items()} != {n: float(s) for n, s in other.sums.items()}
    total(once).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.encoder.blocks[0].up.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_without_targets_has_no_loss_and_no_broken_gradient(sim_store, batches, name):
    model = task(name, sim_store)
    batch = batches["batter"][0]
    empty = replace(batch, categorical=torch.zeros_like(batch.categorical), player=torch.zeros_like(batch.player))
    losses = model(empty)
    assert losses.means() == {}
    total(losses).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if not n.startswith("encoder."))  # for DDP
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# -------------------------------------------------------------------------------------------- masked plate appearances


@settings(max_examples=24, deadline=None)
@given(where=rows)
def test_hidden_plate_appearances_are_told_at_their_last_pitch(batches, where):
    role, number, row = where
    batch = batches[role][number]
    tokens = pitches(batch, row)
    chosen = set(MaskedPlateAppearance.mask(_rate(0.99), batch)[row].nonzero()[:, 0].tolist())
    ends = {
        i
        for i, p in enumerate(tokens)
        if p is not None and p["event"] in EVENT_OUTCOME and i + 1 < len(tokens) and tokens[i + 1] is not None
    }
    assert chosen <= ends
    assert len(chosen) >= 0.8 * len(ends) - 2


class _rate:
    def __init__(self, rate: float) -> None:
        self.rate = rate


def test_the_outcome_is_the_hidden_pitchs_own_and_does_not_reach_its_state(sim_store, batches):
    model = task("masked_plate_appearance", sim_store)
    batch = batches["pitcher"][0]
    targets, seen = model.mask(batch), _watched(model)
    wanted = seen["wanted"](batch)
    names = [EVENTS[i - 1] for i in batch.categorical[targets][:, COLUMN["event"]].tolist()]
    assert [OUTCOMES[i] for i in wanted.tolist()] == [EVENT_OUTCOME[n] for n in names]
    # Another event, call, contact, delta and delivery at the hidden pitches: the same logits.
    changed = _turned(batch, targets, [f.name for f in FIELDS if f.role is not Role.SITUATION and f.name != "event"])
    other = changed.categorical.clone()
    own = other[..., COLUMN["event"]]
    other[..., COLUMN["event"]] = torch.where(targets, 2 + (own - 1) % (len(EVENTS) - 2), own)
    changed = replace(changed, categorical=other)
    assert torch.equal(model.mask(changed), targets)
    assert torch.equal(seen["logits"](batch), seen["logits"](changed))


def _watched(model: Objective) -> dict[str, Callable[[Batch], Tensor]]:
    """What an objective hands to `Losses.classify`, by name of the argument."""

    def look(batch: Batch, which: int) -> Tensor:
        caught: list[tuple[Tensor, Tensor]] = []
        original = Losses.classify
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Losses, "classify", lambda self, n, x, w: (caught.append((x, w)), original(self, n, x, w))[1])
            with torch.no_grad():
                model(batch)
        return torch.cat([c[which].flatten() for c in caught])

    return {"logits": lambda batch: look(batch, 0), "wanted": lambda batch: look(batch, 1)}


def _turned(batch: Batch, where: Tensor, names: list[str]) -> Batch:
    """Other values in the named fields of the tokens `where`."""
    categorical, numeric = batch.categorical.clone(), batch.numeric
    for name in names:
        if not BY_NAME[name].is_numeric:
            own = categorical[..., COLUMN[name]]
            turned = 1 + own % (CATEGORICAL[COLUMN[name]].capacity - 1)
            categorical[..., COLUMN[name]] = torch.where(where, turned, own)
        else:
            numeric = torch.where(where.unsqueeze(-1), numeric + 1, numeric)
    return replace(batch, categorical=categorical, numeric=numeric)


# --------------------------------------------------------------------------------------------------------- pitch order


@settings(max_examples=24, deadline=None)
@given(where=rows)
def test_pitches_are_shuffled_within_their_plate_appearance(batches, where):
    role, number, row = where
    batch = batches[role][number]
    batch = replace(batch, numeric=torch.arange(batch.numeric.numel()).view_as(batch.numeric).float())
    changed, shuffled, place, count = PitchOrder.shuffle(_rate(0.7), batch)
    possible = {tuple(t[:-1]) for t in turns(pitches(batch, row)) if 3 <= len(t) <= PLACES + 1}
    left = set(shuffled[row].nonzero()[:, 0].tolist())
    for turn in possible:
        if turn[0] in left:
            assert left >= set(turn)
            left -= set(turn)
            assert sorted(place[row, list(turn)].tolist()) == list(range(len(turn)))
    assert not left
    for s in range(batch.kind.shape[1]):
        moved = bool(shuffled[row, s])
        first = s - next(t.index(s) for t in possible if s in t) if moved else s
        source = first + int(place[row, s]) if moved else s
        assert torch.equal(changed.numeric[row, s], batch.numeric[row, source])
        for c, f in enumerate(CATEGORICAL):
            came = s if f.role is Role.SITUATION else source
            assert changed.categorical[row, s, c] == batch.categorical[row, came, c], f.name
        if moved:
            assert count[row, s] == next(len(t) for t in possible if s in t)


def test_every_order_is_as_likely_as_any(batches):
    batch = batches["pitcher"][0]
    tally = np.zeros((3, 3))
    for seed in range(40):
        _, shuffled, place, count = PitchOrder.shuffle(_rate(0.9), replace(batch, seed=seed))
        three = shuffled & (count == 3)
        first, _ = segments((batch.categorical[..., COLUMN["begin_pa"]] > 0) | (batch.kind != EVENT))
        slot = torch.arange(batch.kind.shape[1]) - first
        np.add.at(tally, (slot[three].numpy(), place[three].numpy()), 1)
    expected = tally.sum() / 9
    assert expected > 200
    assert ((tally - expected) ** 2 / expected).sum() < 18.5  # chi-square, four degrees of freedom, p = .001


def test_count_and_delta_do_not_tell_the_order(sim_store, batches):
    model = task("pitch_order", sim_store)
    for batch in batches["batter"]:
        _, shuffled, _, _ = model.shuffle(batch)
        first = batch.categorical[..., COLUMN["begin_pa"]] > 0
        names = sorted(TELLING - {"begin_pa"})
        logits = _watched(model)["logits"]
        assert torch.equal(logits(batch), logits(_turned(batch, shuffled, names)))
        assert torch.equal(logits(batch), logits(_turned(batch, shuffled & first, ["begin_pa"])))
    assert {"balls", "strikes", "pitch_number", "outs", "bases", "begin_pa", "delta"} <= TELLING


# -------------------------------------------------------------------------------------------------------------- inning


def test_innings_are_hidden_in_whole_games_and_told_at_each_pitch(sim_store, batches):
    model = task("inning", sim_store)
    for role in ROLES:
        for batch in batches[role]:
            targets = model.mask(batch)
            for row in range(len(batch.player)):
                for game in batch.game[row].unique().tolist():
                    own = targets[row][(batch.game[row] == game) & (batch.kind[row] == EVENT)]
                    assert own.all() or not own.any()
            wanted = _watched(model)["wanted"](batch)
            assert torch.equal(wanted, batch.categorical[targets][:, COLUMN["inning"]].long() - 1)
            logits = _watched(model)["logits"]
            assert torch.equal(logits(batch), logits(_turned(batch, targets, ["inning", "times_through"])))
            shown = batch.kind == EVENT
            shown = shown & ~targets
            if shown.any() and targets.any(dim=1).logical_and(shown.any(dim=1)).any():
                assert not torch.equal(logits(batch), logits(_turned(batch, shown, ["inning"])))


# ------------------------------------------------------------------------------------------------------------ identity


def test_classes_are_the_players_with_enough_events_before_the_cutoff(sim_store):
    for role in ROLES:
        games = sim_store.appearances(role)
        day = (date(2003, 1, 1) - date(1970, 1, 1)).days
        events: dict[int, int] = {}
        for player, when, n in zip(games.player.tolist(), games.day.tolist(), games.events.tolist(), strict=True):
            if when < day:
                events[player] = events.get(player, 0) + n
        found = regulars(sim_store, role, date(2003, 1, 1), 500).tolist()
        assert found == sorted(p for p, n in events.items() if n >= 500)
        assert 0 < len(found) < len(events)
    with pytest.raises(FullcountError, match="no batter has 1000000 events before 2004-01-01"):
        regulars(sim_store, "batter", BEFORE, 1000000)


@pytest.mark.parametrize("role", ROLES)
def test_nothing_but_his_play_names_a_player(sim_store, batches, role):
    model = task("identity", sim_store)
    batch = batches[role][0]
    ids = getattr(model, f"{role}s").tolist()
    wanted = _watched(model)["wanted"](batch)
    assert wanted.tolist() == [ids.index(p) if p in ids else -1 for p in batch.player.tolist()]
    base = model.represent(batch)
    elsewhere = _turned(batch, batch.kind == EVENT, ["park", "league"])
    other = replace(
        elsewhere, player=batch.player + 1, prior=torch.randn_like(batch.prior), matchup=torch.randn_like(batch.matchup)
    )
    assert torch.equal(model.represent(other), base)
    assert not torch.equal(model.represent(_turned(batch, batch.kind == EVENT, ["call"])), base)


# --------------------------------------------------------------------------------------------------------------- score


@settings(max_examples=24, deadline=None)
@given(where=rows)
def test_final_scores_are_those_of_the_pitch_that_ends_the_half_inning(batches, where):
    role, number, row = where
    batch = batches[role][number]
    tokens = pitches(batch, row)
    found = Score.finals(batch)[row].tolist()
    for s, pitch in enumerate(tokens):
        expected = -1
        if pitch is not None:
            last = s
            while last + 1 < len(tokens) and (after := tokens[last + 1]) is not None:
                if (after["inning"], after["top"]) != (pitch["inning"], pitch["top"]):
                    break
                last += 1
            end = tokens[last]
            if end["delta"].startswith("half") and end["score_diff"]:
                score, runs = int(end["score_diff"]), int(end["delta"][-1])
                if score > -8 or not runs:
                    expected = min(score + runs, 8) + 8
        assert found[s] == expected
    assert all(d in DELTAS for d in ("half r0", "half r3"))


def test_a_game_is_cut_off_at_the_pitch_that_is_asked_about(sim_store, batches):
    """What the pitch did, what came after it and the score since the half inning began do not reach the answer."""
    model = task("score", sim_store)
    asked = 0
    for role in ROLES:
        for batch in batches[role]:
            shown, drawn, hidden = model.cut(batch)
            final = model.finals(batch)
            asked += int(drawn.sum())
            assert (final[drawn] >= 0).all()
            for row, at in drawn.nonzero().tolist():
                game = batch.game[row] == batch.game[row, at]
                place = torch.arange(len(game))
                assert drawn[row][game].sum() == 1
                assert (shown.kind[row][game & (place > at)] == PAD).all()
                assert torch.equal(shown.kind[row][game & (place <= at)], batch.kind[row][game & (place <= at)])
                tokens, begin = pitches(batch, row), at
                while (p := tokens[begin - 1]) is not None and (p["inning"], p["top"]) == (
                    tokens[at]["inning"],
                    tokens[at]["top"],
                ):
                    begin -= 1
                assert hidden[row, begin : at + 1, WHERE["score_diff"]].all()
                assert not hidden[row, :begin, WHERE["score_diff"]][game[:begin]].any()
                assert not hidden[row, at, WHERE["bases"]]
                gone = hidden[row, at].clone()
                gone[WHERE["score_diff"]] = False
                names = [f.name for i, f in enumerate(FIELDS) if gone[i]]
                assert set(names) == {f.name for f in FIELDS if f.role is not Role.SITUATION}
                here = torch.zeros_like(drawn)
                here[row, at] = True
                later = torch.zeros_like(drawn)
                later[row] = game & (place > at)
                recent = torch.zeros_like(drawn)
                recent[row, begin : at + 1] = True
                base = model.encoder(shown, hidden)[row, at]
                for where, fields in ((here, names), (later, list(WHERE)), (recent, ["score_diff"])):
                    turned = _turned(shown, where, fields)
                    assert torch.equal(model.encoder(turned, hidden)[row, at], base)
                break  # one of each batch
    assert asked > 30


def test_one_third_out_of_a_batter_and_many_of_a_pitcher_are_seen(batches):
    share = {r: torch.cat([(Score.finals(b)[b.kind == EVENT] >= 0).float() for b in batches[r]]).mean() for r in ROLES}
    assert share["pitcher"] > 0.7  # a starter's half innings end with him
    assert 0.1 < share["batter"] < 0.5


# ----------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_learns_more_than_how_common_things_are(sim_store, name):
    """A few small steps end below the entropy of the classes' own frequencies, or of guessing a place."""
    role, steps = ("batter" if name == "identity" else "pitcher"), (80 if name in ("identity", "score") else 60)
    sampler = Sampler(sim_store, (Window(role, games=10, events=120),), before=BEFORE, tokens=2000, seed=1)
    model = task(name, sim_store, matchup=False, use_prior=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, (step + 1) / 10) * (1 - step / (1.1 * steps))
        optimizer.zero_grad()
        total(model(sampler.batch(step))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    found, wanted, guess = Losses(), [], []
    with torch.no_grad():
        for step in range(1000, 1012):
            batch = sampler.batch(step)
            found.include(model(batch))
            wanted.append(_watched(model)["wanted"](batch))
            if name == "pitch_order":
                _, shuffled, _, count = model.shuffle(batch)
                guess += [log(n) for n in count[shuffled].tolist()]
    classes = torch.cat(wanted)
    share = torch.bincount(classes[classes >= 0]).double()
    share = share[share > 0] / share.sum()
    rival = float(np.mean(guess)) if guess else float(-(share * share.log()).sum())
    [loss] = found.means().values()
    assert loss < rival - 0.02, (loss, rival)
