"""Masked gamestate modelling: which pitches, what else is hidden, and that it learns."""

from __future__ import annotations

from datetime import date

import pytest
import torch

from fullcount.batches import EVENT, SEPARATOR, Sampler
from fullcount.fields import COLUMN, FIELDS, Role
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.base import hide
from fullcount.objectives.masked_gamestate import MaskedGamestate
from fullcount.windows import Window

WHERE = {f.name: i for i, f in enumerate(FIELDS)}
HIDES = MaskedGamestate.hides


@pytest.fixture(scope="module")
def sampler(sim_store) -> Sampler:
    windows = (Window("batter", games=10, events=120), Window("pitcher", games=2, events=120))
    return Sampler(sim_store, windows, before=date(2004, 1, 1), tokens=3000, seed=1)


def task(**changes) -> MaskedGamestate:
    torch.manual_seed(0)
    shape = {"d_model": 32, "layers": 1, "heads": 2, "feedforward": 64} | changes
    return MaskedGamestate(GamestateTransformer(EncoderConfig(**shape)))


def test_masks_are_a_function_of_the_batch_seed(sampler):
    batch, again, later = sampler.batch(0), sampler.batch(0), sampler.batch(1)
    assert torch.equal(task().mask(batch), task().mask(again))
    again.seed = later.seed
    assert not torch.equal(task().mask(batch), task().mask(again))


def test_only_events_are_masked_at_the_given_rate(sampler):
    batches = [sampler.batch(i) for i in range(20)]
    masks = [task().mask(b) for b in batches]
    assert not any((m & (b.kind != EVENT)).any() for m, b in zip(masks, batches, strict=True))
    share = sum(int(m.sum()) for m in masks) / sum(b.events for b in batches)
    assert share == pytest.approx(0.15, abs=0.01)


def test_what_follows_from_a_target_is_hidden_to_the_end_of_the_game(sampler):
    for step in range(4):
        batch = sampler.batch(step)
        generator = torch.Generator().manual_seed(step)
        for i in range(0, len(batch.player), 3):
            events = torch.nonzero(batch.kind[i] == EVENT)[:, 0]
            s = int(events[torch.randint(len(events), (1,), generator=generator)])
            targets = torch.zeros_like(batch.kind, dtype=torch.bool)
            targets[i, s] = True
            hidden = hide(batch, targets, HIDES)
            after = set()
            for t in range(s + 1, batch.kind.shape[1]):
                if batch.kind[i, t] != EVENT:
                    break
                after.add(t)
            for f in FIELDS:
                want = {s} if f.role in HIDES else after if f.dynamic else set()
                assert set(torch.nonzero(hidden[i, :, WHERE[f.name]])[:, 0].tolist()) == want, f.name
            assert not hidden[torch.arange(len(batch.player)) != i].any()


def test_several_targets_hide_the_union(sampler):
    batch = sampler.batch(2)
    targets = task().mask(batch)
    union = torch.zeros(*targets.shape, len(FIELDS), dtype=torch.bool)
    for i, s in torch.nonzero(targets).tolist():
        one = torch.zeros_like(targets)
        one[i, s] = True
        union |= hide(batch, one, HIDES)
    assert torch.equal(hide(batch, targets, HIDES), union)


def test_situation_before_and_at_a_target_stays_visible(sampler):
    batch = sampler.batch(0)
    first = torch.zeros_like(batch.kind, dtype=torch.bool)
    first[:, 2] = True  # the first event of the first game
    assert (batch.kind[:, 1] == SEPARATOR).all()
    hidden = hide(batch, first, HIDES)
    situation = [WHERE[f.name] for f in FIELDS if f.role is Role.SITUATION]
    assert not hidden[:, :3, situation].any()
    assert hidden[:, 3:, WHERE["score_diff"]].any()


def test_it_learns_more_than_how_common_things_are(sampler):
    """Sixty small steps on the simulated league end below the entropy of each field's own frequencies."""
    model = task()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 1.5e-2 * min(1, (step + 1) / 10) * (1 - step / 66)
        losses = model(sampler.batch(step))
        total = sum(s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    sums, counts, truth = {}, {}, {}
    with torch.no_grad():
        for step in range(1000, 1010):
            batch = sampler.batch(step)
            losses = model(batch)
            for n in losses.sums:
                sums[n] = sums.get(n, 0) + float(losses.sums[n])
                counts[n] = counts.get(n, 0) + int(losses.counts[n])
                truth.setdefault(n, []).append(batch.categorical[..., COLUMN[n]][batch.kind == EVENT])
    entropy = {}
    for n, ids in truth.items():
        p = torch.cat(ids)
        p = torch.bincount(p[p > 0].long()).double()
        p = p[p > 0] / p.sum()
        entropy[n] = float(-(p * p.log()).sum())
    loss = {n: sums[n] / counts[n] for n in sums}
    assert set(loss) == {"pitch_type", "call", "contact", "delta", "event"}
    assert sum(loss.values()) < 0.98 * sum(entropy.values()), (loss, entropy)
    assert loss["event"] < 0.95 * entropy["event"]  # the count says which pitches end a plate appearance


def test_prediction_is_a_distribution_and_agrees_with_the_loss(sampler):
    model, batch = task().eval(), sampler.batch(3)
    targets = model.mask(batch)
    with torch.no_grad():
        found, losses = model.predict(batch, targets), model(batch)
    for name, logp in found.items():
        torch.testing.assert_close(logp.exp().sum(-1), torch.ones(len(logp)))
        wanted = batch.categorical[targets][:, COLUMN[name]].long() - 1
        known = wanted >= 0
        picked = -logp[known, wanted[known]].sum()
        torch.testing.assert_close(picked, losses.sums[name], rtol=1e-4, atol=1e-3)
        assert int(losses.counts[name]) == int(known.sum())
