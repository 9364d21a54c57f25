"""The encoder: what may influence an output, and what may not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fullcount.batches import EVENT, PAD, SEPARATOR, Batch, collate
from fullcount.fields import CATEGORICAL, FIELDS, NUMERIC, Role
from fullcount.model.encoders import build_encoder
from fullcount.model.positions import rotary_angles, rotate
from fullcount.model.transformer import Attention, EncoderConfig, GamestateTransformer
from fullcount.objectives.base import hide
from fullcount.priors import Priors
from fullcount.windows import History, Window

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
FLAT, HIERARCHICAL = {"architecture": "flat"}, {"architecture": "hierarchical"}


def encoder(**changes: Any) -> GamestateTransformer:
    torch.manual_seed(0)
    given = {"d_model": 32, "layers": 2, "heads": 2, "feedforward": 64} | changes
    model = build_encoder(EncoderConfig(**given)).eval()
    for name, p in model.named_parameters():  # as if trained: no branch is silent
        if name.endswith(("out.weight", "down.weight", "event_bias")):
            torch.nn.init.normal_(p, std=0.3)
    return model


@pytest.fixture(scope="module")
def history(sim_store) -> History:
    return History(sim_store, Window("pitcher", games=4))


@pytest.fixture(scope="module")
def priors(sim_store) -> Priors:
    return Priors(sim_store)


@pytest.fixture(scope="module")
def positions(history) -> np.ndarray:
    """Last games of windows of three games, of three pitchers."""
    first, stop = history.ending_at(np.arange(len(history.index)))
    return np.flatnonzero(stop - first == 4)[[0, 30, 60]]


@pytest.fixture(scope="module")
def batch(history, positions, priors) -> Batch:
    """Three windows of three games."""
    return collate(history, positions - 2, positions + 1, priors)


def row(batch: Batch, i: int) -> Batch:
    """One sequence of a batch without its padding."""
    width = int((batch.kind[i] != PAD).sum())
    tensors = {n: v[i : i + 1] for n, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    return Batch(**{n: v[:, :width] if v.ndim > 1 and n != "prior" else v for n, v in tensors.items()}, seed=batch.seed)


def perturbed(batch: Batch, where: torch.Tensor) -> Batch:
    """Other values in all fields of the events at `where` [B, S] that have one."""
    categorical, numeric, present = batch.categorical.clone(), batch.numeric.clone(), batch.present.clone()
    for i, f in enumerate(CATEGORICAL):
        column = categorical[..., i]
        categorical[..., i] = torch.where(where, column % (f.capacity - 1) + 1, column)
    numeric[where] = 1.7
    present[where] = True
    return replace(batch, categorical=categorical, numeric=numeric, present=present)


@pytest.mark.parametrize("changes", [{}, {"context": "game"}, {"positions": "sinusoidal"}, {"event_attention": True}])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("architecture", [FLAT, HIERARCHICAL])
def test_padding_changes_nothing(batch, changes, causal, architecture):
    changes = {**changes, **architecture, "causal": causal, "use_prior": not causal}
    model = encoder(**changes)
    with torch.no_grad():
        whole = model(batch)
        for i in range(3):
            alone = row(batch, i)
            torch.testing.assert_close(whole[i, : alone.kind.shape[1]], model(alone)[0], **CLOSE)
    assert len({row(batch, i).kind.shape[1] for i in range(3)}) > 1  # some were padded


@pytest.mark.parametrize("where", ["rotary", "as_of"])
@pytest.mark.parametrize("changes", [FLAT, HIERARCHICAL])
def test_under_the_game_mask_a_game_is_encoded_as_if_alone(history, positions, priors, batch, changes, where):
    changes = {**changes, "positions": where}
    model, elsewhere = encoder(**changes, context="game"), encoder(**changes)
    one_game = collate(history, positions - 1, positions, priors)  # the middle games by themselves
    middle = (batch.game == 1) & (batch.kind != PAD) & (batch.kind != 1)
    own = (one_game.kind == EVENT) | (one_game.kind == SEPARATOR)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[middle], model(one_game)[own], **CLOSE)
        assert not torch.allclose(elsewhere(batch)[middle], elsewhere(one_game)[own], atol=1e-3)


@pytest.mark.parametrize("changes", [FLAT, HIERARCHICAL])
def test_sinusoidal_positions_say_how_many_games_came_after(history, positions, priors, batch, changes):
    """They are added to the tokens, so a game alone, the newest of its window, is another game."""
    model = encoder(**changes, context="game", positions="sinusoidal")
    one_game = collate(history, positions - 1, positions, priors)
    middle = (batch.game == 1) & (batch.kind == EVENT)
    with torch.no_grad():
        apart = model(batch)[middle] - model(one_game)[one_game.kind == EVENT]
    assert apart.abs().max() > 1e-2


@pytest.mark.parametrize("where", ["rotary", "as_of", "sinusoidal"])
@pytest.mark.parametrize("changes", [FLAT, HIERARCHICAL])
def test_under_the_game_mask_what_came_before_changes_no_bit(batch, changes, where):
    model = encoder(**changes, context="game", positions=where)
    earlier = (batch.game > 0) & (batch.kind == EVENT)
    newest = (batch.game == 0) & (batch.kind == EVENT)
    moved = replace(perturbed(batch, earlier), ago=batch.ago + 9 * earlier)
    with torch.no_grad():
        a, b = model(batch), model(moved)
    if changes is FLAT:
        assert torch.equal(a[newest], b[newest])
    else:  # other plate appearances before it may move a game to other places of the lower level's rows
        torch.testing.assert_close(a[newest], b[newest], **CLOSE)
    assert (a[earlier] - b[earlier]).abs().max() > 1e-2


@pytest.mark.parametrize("changes", [FLAT, HIERARCHICAL])
def test_under_the_game_mask_the_slot_sees_all_games(batch, changes):
    model = encoder(**changes, context="game")
    oldest = (batch.game == 2) & (batch.kind == EVENT)
    with torch.no_grad():
        a, b = model(batch)[:, 0], model(perturbed(batch, oldest))[:, 0]
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{}, {"context": "game"}, {"event_attention": True}]
    + [HIERARCHICAL | more for more in ({}, {"context": "game"}, {"pooling": "last"}, {"pooling": "attention"})],
)
def test_a_causal_encoder_does_not_see_what_comes_later(batch, changes):
    model, both = encoder(**changes, causal=True, use_prior=False), encoder(**changes)
    cut = 40
    later = (batch.kind == EVENT) & (torch.arange(batch.kind.shape[1]) >= cut)
    with torch.no_grad():
        a, b = model(batch), model(perturbed(batch, later))
        # The token before the cut reads the situation of the first event after it, and no more.
        torch.testing.assert_close(a[:, : cut - 1], b[:, : cut - 1], **CLOSE)
        assert (a[:, cut:] - b[:, cut:]).abs().max() > 1e-2
        assert (both(batch)[:, :cut] - both(perturbed(batch, later))[:, :cut]).abs().max() > 1e-3


def test_event_weighted_attention_is_the_dense_formula():
    """softmax(q.k / sqrt(c) + b_h * flag_k), with the bias as a dense additive mask."""
    torch.manual_seed(1)
    attention = Attention(EncoderConfig(d_model=32, heads=4, layers=1, event_attention=True))
    plain = Attention(EncoderConfig(d_model=32, heads=4, layers=1))
    plain.load_state_dict(attention.state_dict(), strict=False)
    attention.event_bias.data = torch.tensor([1.5, -2.0, 0.3, 4.0])
    x, flags = torch.randn(3, 17, 32), torch.rand(3, 17) < 0.3
    real = torch.ones(3, 1, 1, 17, dtype=torch.bool)
    real[1, ..., 12:] = False
    q, k, v = plain.qkv(x).view(3, 17, 3, 4, 8).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / 8**0.5 + attention.event_bias[:, None, None] * flags[:, None, None, :]
    dense = scores.masked_fill(~real, -torch.inf).softmax(-1) @ v
    want = plain.out(dense.transpose(1, 2).reshape(3, 17, 32))
    got = attention(x, real, False, None, flags)
    assert (got - want).abs().max() < 1e-5
    assert (got - plain(x, real, False, None, flags)).abs().max() > 1e-2
    weight = torch.randn_like(got)
    learned = [attention.event_bias, attention.qkv.weight]
    mine = torch.autograd.grad((got * weight).sum(), learned)
    dense = torch.autograd.grad((want * weight).sum(), [attention.event_bias, plain.qkv.weight])
    for a, b in zip(mine, dense, strict=True):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()
    assert mine[0].abs().min() > 1e-3


def test_only_the_end_of_a_plate_appearance_is_weighted(batch):
    model = encoder(event_attention=True)
    plain = encoder()
    plain.load_state_dict(model.state_dict(), strict=False)
    ends = batch.categorical[..., [f.name for f in CATEGORICAL].index("event")] > 1
    assert 0 < ends.sum() < batch.events
    with torch.no_grad():
        assert not torch.allclose(model(batch), plain(batch), atol=1e-3)
        for block in model.blocks:
            block.attention.event_bias.zero_()
        torch.testing.assert_close(model(batch), plain(batch), **CLOSE)


@pytest.mark.parametrize("as_of", [False, True])
def test_rotary_angles_within_a_game_do_not_depend_on_earlier_games(history, positions, as_of):
    """The attention score of two events of the newest game is the same with and without the games before it."""
    after = collate(history, positions - 2, positions + 1, None)
    alone = collate(history, positions, positions + 1, None)
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 1, 1, 16)

    def scores(b: Batch, where: torch.Tensor, i: int) -> torch.Tensor:
        cos, sin = (a[i : i + 1, :, where] for a in rotary_angles(b, 16, as_of))
        n = int(where.sum())
        return rotate(q[i : i + 1].expand(-1, -1, n, -1), cos, sin) @ rotate(
            k[i : i + 1].expand(-1, -1, n, -1), cos, sin
        ).transpose(-1, -2)

    for i in range(3):
        newest = [(b.kind[i] == EVENT) & (b.game[i] == 0) for b in (after, alone)]
        a, b = scores(after, newest[0], i), scores(alone, newest[1], i)
        torch.testing.assert_close(a, b, **CLOSE)
        assert a[0, 0, 5, 3] == pytest.approx(a[0, 0, 9, 7].item(), abs=1e-4)  # two apart is two apart
        assert a[0, 0, 5, 3] != pytest.approx(a[0, 0, 3, 5].item(), abs=1e-4)  # before is not after


def test_the_as_of_date_moves_the_slot_alone(history, positions):
    """A later date turns all games by the same angle, so that two of them stand to each other as before."""
    day = history.days[positions]
    near, far = (collate(history, positions - 2, positions + 1, None, as_of=day + n) for n in (0, 40))
    alike = collate(history, positions - 2, positions + 1, None)
    played = near.kind >= SEPARATOR
    assert torch.equal(near.ago, alike.ago)
    assert torch.equal(far.ago - near.ago, 40 * played)
    assert (near.ago[~played] == 0).all()
    for i, last in enumerate(positions):
        for back in range(3):
            here = played[i] & (near.game[i] == back)
            assert (near.ago[i, here] == history.days[last] - history.days[last - back]).all()
    angles = [torch.complex(*rotary_angles(b, 16, as_of=True))[0, 0, : int(played[0].sum())] for b in (near, far)]
    apart = [a * a[1].conj() for a in angles]
    torch.testing.assert_close(apart[0][1:], apart[1][1:], **CLOSE)
    assert (apart[0][0] - apart[1][0]).abs().max() > 0.1


def test_no_two_distances_look_alike_up_to_150_games():
    games = torch.arange(301).view(1, -1)
    batch = SimpleNamespace(position=torch.zeros_like(games), game=games)
    places = torch.cat(rotary_angles(batch, 32), dim=-1)[0, 0].double()  # of heads as wide as the default's
    apart = torch.cdist(places, places) + 9 * torch.eye(301)
    assert apart.min() > 1


def test_three_pitches_ago_in_another_game_is_elsewhere(batch):
    cos, sin = rotary_angles(batch, 16)
    where = torch.cat([cos, sin], dim=-1)[0, 0]
    same_place = (batch.position[0] == 3) & (batch.kind[0] == EVENT)
    assert same_place.sum() == 3
    assert len(torch.unique(where[same_place], dim=0)) == 3


@pytest.mark.parametrize(
    "changes",
    [{}, {"context": "game"}, {"event_attention": True}, HIERARCHICAL, HIERARCHICAL | {"pooling": "attention"}],
)
def test_hidden_values_do_not_influence_anything(batch, changes):
    """Bit for bit: at targets every field of the hidden roles, and whatever else is hidden after them."""
    model = encoder(**changes)
    roles = (Role.DELIVERY, Role.RESULT, Role.TRANSITION)
    targets = (torch.rand(batch.kind.shape, generator=torch.Generator().manual_seed(0)) < 0.15) & (batch.kind == EVENT)
    hidden = hide(batch, targets, roles)
    other = perturbed(batch, batch.kind == EVENT)
    where = {f.name: i for i, f in enumerate(FIELDS)}
    categorical = hidden[..., [where[f.name] for f in CATEGORICAL]]
    numeric = hidden[..., [where[f.name] for f in NUMERIC]]
    masked = replace(
        batch,
        categorical=torch.where(categorical, other.categorical, batch.categorical),
        numeric=torch.where(numeric, other.numeric, batch.numeric),
        present=torch.where(numeric, other.present, batch.present),
    )
    assert not torch.equal(masked.categorical, batch.categorical)
    with torch.no_grad():
        assert torch.equal(model(batch, hidden), model(masked, hidden))
        assert not torch.equal(model(batch), model(masked))


def test_hidden_is_not_missing(batch):
    model = encoder()
    hidden = torch.zeros(*batch.kind.shape, len(FIELDS), dtype=torch.bool)
    hidden[..., [f.name for f in FIELDS].index("call")] = batch.kind == EVENT
    absent = batch.categorical.clone()
    absent[..., [f.name for f in CATEGORICAL].index("call")] = 0
    with torch.no_grad():
        assert not torch.allclose(model(batch, hidden), model(replace(batch, categorical=absent)), atol=1e-3)


def test_the_prior_can_be_switched_off(batch):
    other = replace(batch, prior=batch.prior + 1)
    with torch.no_grad():
        off, on = encoder(use_prior=False), encoder()
        assert torch.equal(off(batch), off(other))
        assert not torch.allclose(on(batch), on(other), atol=1e-3)


@pytest.mark.parametrize(("changes", "causal"), [(FLAT, False), (FLAT, True), (HIERARCHICAL, False)])
def test_the_league_can_be_left_out(batch, changes, causal):
    changes = {**changes, "causal": causal, "use_prior": False}
    other = batch.categorical.clone()
    league = other[..., [f.name for f in CATEGORICAL].index("league")]
    league[batch.kind == EVENT] = 5 - league[batch.kind == EVENT]
    moved = replace(batch, categorical=other)
    hidden = torch.zeros(*batch.kind.shape, len(FIELDS), dtype=torch.bool)
    hidden[..., [f.name for f in FIELDS].index("league")] = batch.kind == EVENT
    with torch.no_grad():
        off, on = encoder(**changes, use_league=False), encoder(**changes)
        assert torch.equal(off(batch), off(moved))
        assert torch.equal(off(batch), off(batch, hidden))  # neither hidden nor shown: missing
        assert not torch.allclose(on(batch), on(moved), atol=1e-3)


@pytest.mark.parametrize("changes", [FLAT, HIERARCHICAL])
def test_roles_are_told_apart(batch, changes):
    model = encoder(**changes)
    with torch.no_grad():
        assert not torch.allclose(model(batch)[:, 0], model(replace(batch, role=1 - batch.role))[:, 0], atol=1e-3)


def test_a_shape_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        EncoderConfig(d_model=36, heads=2)
    for one_level in ({"pitch_layers": 2}, {"pooling": "last"}):
        with pytest.raises(ValueError, match=f"{next(iter(one_level))}: is of architecture = hierarchical"):
            EncoderConfig(**one_level)
