"""Next-event prediction: what it may not see, proper likelihoods, and that it learns a planted league."""

from dataclasses import replace
from math import log, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullcount.batches import EVENT, SEPARATOR, collate
from fullcount.errors import FullcountError
from fullcount.fields import BY_NAME, CATEGORICAL, COLUMN, EVENT_OUTCOME, EVENTS, FIELDS, NUMERIC, OUTCOMES, Role
from fullcount.model.heads import UNFOLDING, FieldChain
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.base import plate_appearance_outcomes
from fullcount.objectives.next_event import NextEvent
from fullcount.priors import Priors
from fullcount.windows import History, Window

SHAPE = {"d_model": 32, "layers": 2, "heads": 2, "feedforward": 64}


@pytest.fixture(scope="module")
def batch(sim_store):
    history = History(sim_store, Window("pitcher", games=3, events=400))
    positions = np.arange(40, 400, 120)
    return collate(history, positions - 2, positions + 1, Priors(sim_store), seed=3, matchup="game")


def objective(**changes):
    torch.manual_seed(0)
    config = EncoderConfig(**{**SHAPE, "causal": True, "use_prior": False, "matchup": True, **changes})
    model = NextEvent(GamestateTransformer(config)).eval()
    torch.nn.init.normal_(model.outcome.weight, std=1.0)
    return model


def perturbed(batch, where, situation: bool):
    """Other values in the events `where`; their situation too, if asked for."""
    columns = [i for i, f in enumerate(CATEGORICAL) if situation or f.role is not Role.SITUATION]
    categorical = batch.categorical.clone()
    for c in columns:
        turned = 1 + (categorical[..., c] % (CATEGORICAL[c].capacity - 1))
        categorical[..., c] = torch.where(where, turned, categorical[..., c])
    numeric = torch.where(where.unsqueeze(-1), batch.numeric + 1, batch.numeric)
    return replace(batch, categorical=categorical, numeric=numeric)


def test_nothing_of_a_pitch_or_of_the_future_reaches_its_forecast(batch):
    model = objective()
    events = (batch.kind == EVENT).nonzero()
    for number in (0, 30, 77):
        row, column = events[number].tolist()
        here = torch.zeros_like(batch.kind, dtype=torch.bool)
        here[row, column] = True
        later = torch.zeros_like(here)
        later[row, column + 1 :] = batch.kind[row, column + 1 :] == EVENT
        base = model.forecast(batch)
        own = model.forecast(perturbed(batch, here, situation=False))
        after = model.forecast(perturbed(batch, later, situation=True))
        known = model.forecast(perturbed(batch, here, situation=True))
        for name, table in base.items():
            assert torch.equal(table[number], own[name][number])
            assert torch.equal(table[number], after[name][number])
            assert not torch.equal(table[number], known[name][number])  # the situation is known
        assert not torch.equal(base["call"][number + 1], own["call"][number + 1])  # and later ones do see the pitch


def test_the_players_are_known_before_the_pitch(batch):
    model = objective()
    column = (batch.kind == EVENT).nonzero()[5]
    matchup = batch.matchup.clone()
    matchup[column[0], column[1]] += 1
    base, other = model.forecast(batch)["call"], model.forecast(replace(batch, matchup=matchup))["call"]
    assert torch.equal(base[:5], other[:5])
    assert not torch.equal(base[5], other[5])


def test_an_encoder_that_looks_ahead_is_refused():
    with pytest.raises(FullcountError, match="causal"):
        NextEvent(GamestateTransformer(EncoderConfig(**SHAPE)))


# --------------------------------------------------------------------------------------------------- the field chain


def random_pitches(n: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    categorical = torch.stack([torch.randint(0, f.capacity, (n,), generator=generator) for f in CATEGORICAL], dim=1)
    numeric = torch.randn(n, len(NUMERIC), generator=generator)
    present = torch.rand(n, len(NUMERIC), generator=generator) < 0.5
    return categorical.to(torch.int16), numeric * present, present


@pytest.mark.parametrize("field", UNFOLDING, ids=lambda f: f.name)
def test_a_field_is_told_by_earlier_fields_only(field):
    torch.manual_seed(1)
    chain, state = FieldChain(16), torch.randn(12, 16)
    pitches = random_pitches(12)
    base = {f.name: float(total.detach()) for f, total, _ in chain(state, *pitches)}
    categorical, numeric, present = (t.clone() for t in pitches)
    if field.is_numeric:
        column = [f.name for f in NUMERIC].index(field.name)
        present[:, column] = True
        numeric[:, column] += 1
    else:
        column = COLUMN[field.name]
        categorical[:, column] = 1 + categorical[:, column] % (field.capacity - 1)
    other = {f.name: float(total.detach()) for f, total, _ in chain(state, categorical, numeric, present)}
    place = UNFOLDING.index(field)
    for i, f in enumerate(UNFOLDING):
        if i < place:
            assert other[f.name] == base[f.name]
        elif i > place:
            assert other[f.name] != base[f.name]


def test_an_unseen_delivery_does_not_tell_the_result():
    torch.manual_seed(1)
    chain, state = FieldChain(16), torch.randn(8, 16)
    unseen = torch.ones(8, dtype=torch.bool)
    first, second = random_pitches(8, 1), random_pitches(8, 2)
    delivery = [i for i, f in enumerate(CATEGORICAL) if f.role is Role.DELIVERY]
    numbers = [i for i, f in enumerate(NUMERIC) if f.role is Role.DELIVERY]
    first[0][:, delivery], first[1][:, numbers], first[2][:, numbers] = (
        second[0][:, delivery],
        second[1][:, numbers],
        second[2][:, numbers],
    )
    other = random_pitches(8, 1)
    calls = [{f.name: float(s.detach()) for f, s, _ in chain(state, *p, unseen)}["call"] for p in (first, other)]
    assert calls[0] == calls[1]
    seen = [{f.name: float(s.detach()) for f, s, _ in chain(state, *p)}["call"] for p in (first, other)]
    assert seen[0] != seen[1]


def test_a_numeric_field_has_a_density_that_integrates_to_one():
    torch.manual_seed(2)
    chain = FieldChain(8)
    grid = torch.linspace(-15, 15, 60001)
    state = torch.randn(1, 8).expand(len(grid), 8)
    for name in ("release_speed", "launch_angle"):
        density = chain.log_density(BY_NAME[name], state, grid).exp()
        assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-3)


def test_one_gaussian_has_the_textbook_density():
    chain = FieldChain(8, components=1)
    field = BY_NAME["release_speed"]
    last = chain.read[field.name][-1]
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.3, 2.0, 0.0]))  # one component starts at -1: the mean is 1
    spread = log(2) + 0.03
    expected = -0.5 * ((0.4 - 1.0) / spread) ** 2 - log(spread) - 0.5 * log(2 * pi)
    assert chain.log_density(field, torch.zeros(1, 8), torch.tensor([0.4])).item() == pytest.approx(expected, abs=1e-5)


def test_drawn_pitches_follow_the_distribution_and_what_is_legal():
    torch.manual_seed(3)
    chain, n = FieldChain(8), 20000
    state = torch.randn(1, 8).expand(n, 8)
    expected = chain.read["pitch_type"](state[:1]).softmax(-1)[0]
    present = torch.zeros(n, len(NUMERIC), dtype=torch.bool)
    categorical, numeric = chain.draw(state, torch.Generator().manual_seed(0), present)
    shares = torch.bincount(categorical[:, COLUMN["pitch_type"]].long() - 1, minlength=len(expected)) / n
    torch.testing.assert_close(shares, expected.detach(), atol=0.015, rtol=0)
    assert not numeric.any()

    def only_balls(field, drawn):
        if field.name != "call":
            return None
        return (torch.arange(field.capacity - 1) == 0).expand(n, -1)

    categorical, _ = chain.draw(state, torch.Generator().manual_seed(0), present, legal=only_balls)
    assert (categorical[:, COLUMN["call"]] == 1).all()
    again, _ = chain.draw(state, torch.Generator().manual_seed(0), present, legal=only_balls)
    assert torch.equal(categorical, again)


# ------------------------------------------------------------------------------------------ how a plate appearance ends


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_outcomes_are_those_of_the_next_ending(batch, data):
    row = data.draw(st.integers(0, len(batch.kind) - 1))
    found = plate_appearance_outcomes(batch)[row].tolist()
    names = [f.name for f in FIELDS if not f.is_numeric]
    event, begin = (batch.categorical[row, :, names.index(n)].tolist() for n in ("event", "begin_pa"))
    kind = batch.kind[row].tolist()
    for i, k in enumerate(kind):
        expected = -1
        if k == EVENT:
            j = i
            while j < len(kind) and kind[j] == EVENT and (j == i or not begin[j]):
                name = EVENTS[event[j] - 1] if event[j] else "none"
                if name != "none":
                    expected = OUTCOMES.index(EVENT_OUTCOME[name]) if name in EVENT_OUTCOME else -1
                    break
                j += 1
        assert found[i] == expected
    assert SEPARATOR in kind
    assert max(found) > 0
