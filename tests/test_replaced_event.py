"""Replaced-event detection: what is replaced and shown, that no context is no help, and that context is."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import log

import pytest
import torch
import torch.nn.functional as F

from fullcount.batches import EVENT, Batch, Sampler
from fullcount.errors import FullcountError
from fullcount.fields import CATEGORICAL, COLUMN, DELTAS, EVENTS, FIELDS, Role
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.base import hide
from fullcount.objectives.registry import OBJECTIVES
from fullcount.objectives.replaced_event import ReplacedEvent, ReplacedEventConfig, _concordant
from fullcount.priors import Priors
from fullcount.windows import Window

SOURCES = ("learned", "unigram", "uniform", "swap")
SITUATION = [i for i, f in enumerate(CATEGORICAL) if f.role is Role.SITUATION]
TOLD = [i for i, f in enumerate(CATEGORICAL) if f.role is not Role.SITUATION]
DYNAMIC = [i for i, f in enumerate(FIELDS) if f.dynamic]
STATE = [COLUMN[n] for n in ("balls", "strikes", "outs", "bases")]


@pytest.fixture(scope="module")
def sampler(sim_store) -> Sampler:
    windows = (Window("batter", games=10, events=150), Window("pitcher", games=2, events=150))
    priors = Priors(sim_store)
    return Sampler(sim_store, windows, before=date(2004, 1, 1), tokens=3000, seed=1, priors=priors, matchup="game")


def task(source="learned", encoder=None, **changes) -> ReplacedEvent:
    torch.manual_seed(0)
    shape = {"d_model": 32, "layers": 1, "heads": 2, "feedforward": 64, **(encoder or {})}
    return ReplacedEvent(GamestateTransformer(EncoderConfig(**shape)), source, **changes)


def tracked(batch: Batch, share: float = 0.3) -> Batch:
    """The batch with numbers and kinds of pitches on some events only."""
    generator = torch.Generator().manual_seed(3)
    there = (torch.rand(batch.kind.shape, generator=generator) < share) & (batch.kind == EVENT)
    present = there.unsqueeze(-1).expand(batch.present.shape).clone()
    numeric = torch.randn(batch.numeric.shape, generator=generator) * present
    categorical = batch.categorical.clone()
    categorical[..., COLUMN["pitch_type"]] = torch.where(there, 1 + batch.position % 4, 0).to(torch.int16)
    return replace(batch, categorical=categorical, numeric=numeric, present=present)


# ------------------------------------------------------------------------------------------------- what is replaced


@pytest.mark.parametrize("source", SOURCES)
def test_only_the_replaced_pitches_change_and_only_in_what_happened(sampler, source):
    batch = tracked(sampler.batch(0))
    doctored = task(source).doctor(batch)
    shown, where = doctored.batch, doctored.replaced
    assert 0.1 < where.sum() / doctored.judged.sum() < 0.2
    assert torch.equal(shown.categorical[~where], batch.categorical[~where])
    assert torch.equal(shown.numeric[~where], batch.numeric[~where])
    assert torch.equal(shown.categorical[..., SITUATION], batch.categorical[..., SITUATION])
    changed = (shown.categorical[where] != batch.categorical[where]).any(dim=-1).float().mean()
    assert changed > 0.3  # some come out as they were
    # What is missing stays missing: of kinds of pitches and of numbers, which keep the batch's presence bits.
    assert torch.equal(shown.categorical[where][:, TOLD] > 0, batch.categorical[where][:, TOLD] > 0)
    assert torch.equal(shown.present, batch.present)
    assert not shown.numeric[~shown.present].any()
    assert (shown.numeric != batch.numeric)[where][batch.present[where]].float().mean() > 0.3


@pytest.mark.parametrize("source", SOURCES)
def test_the_fields_of_a_drawn_pitch_fit_together_and_the_situation(sampler, source):
    model = task(source)
    for step in range(4):
        batch = sampler.batch(step)
        doctored = model.doctor(batch)
        seen = ~hide(batch, doctored.replaced, ())[..., DYNAMIC].any(dim=-1)  # by the generator
        drawn = doctored.batch.categorical[doctored.replaced].tolist()
        for row, bound in zip(drawn, seen[doctored.replaced].tolist(), strict=True):
            delta = DELTAS[row[COLUMN["delta"]] - 1]
            assert (EVENTS[row[COLUMN["event"]] - 1] != "none") == delta.startswith(("end", "half"))
            if bound or source != "learned":
                assert_fits(delta, *(row[i] - 1 for i in STATE))


def assert_fits(delta: str, balls: int, strikes: int, outs: int, bases: int) -> None:
    assert not (balls == 3 and delta.startswith("ball"))
    assert not (strikes == 2 and delta.startswith("strike"))
    on = [bases >> b & 1 for b in range(3)]
    if delta.startswith("half"):
        assert outs + 1 + sum(on) >= 3
        return
    _, made, _, moves = delta.split()
    assert outs + int(made[1]) < 3
    assert all(b + int(moves[2 * k : 2 * k + 2]) in (0, 1) for k, b in enumerate(on))


@pytest.mark.parametrize("source", ["unigram", "swap"])
def test_a_borrowed_pitch_was_thrown_in_the_same_state(sampler, source):
    batch = tracked(sampler.batch(1))
    doctored = task(source).doctor(batch)

    def rows(shown: Batch, where: torch.Tensor) -> list[tuple[float, ...]]:
        whole = torch.cat([shown.categorical[..., [*STATE, *TOLD]].float(), shown.numeric, shown.present], dim=-1)
        return sorted(map(tuple, whole[where].tolist()))

    real = rows(batch, batch.kind == EVENT)
    drawn = rows(doctored.batch, doctored.replaced)
    assert set(drawn) <= set(real)
    if source == "swap":
        assert drawn == rows(batch, doctored.replaced)  # none is lost, none is used twice


def test_masks_and_draws_are_a_function_of_the_batch_seed(sampler):
    model = task()
    first, again, other = (model.doctor(replace(sampler.batch(0), seed=s)) for s in (5, 5, 6))
    assert torch.equal(first.batch.categorical, again.batch.categorical)
    assert torch.equal(first.hidden, again.hidden)
    assert not torch.equal(first.replaced, other.replaced)


def test_nothing_shown_depends_on_which_pitches_are_replaced(sampler):
    """What is hidden, and who is judged, stays the same whatever is replaced, and the opening is no likelier to be."""
    counts = torch.zeros(2, 2)
    for step in range(60):
        batch = sampler.batch(step)
        judged, replaced, hidden = task("swap").choose(batch)
        assert not (replaced & ~judged).any()
        dark = hidden[..., DYNAMIC]
        assert torch.equal(dark.any(-1), dark.all(-1))
        follows = torch.zeros_like(judged)
        follows[:, :-1] = dark[:, 1:].all(-1)
        assert follows[judged].all()  # whatever could tell how a judged pitch ended
        static = [i for i in range(len(FIELDS)) if i not in DYNAMIC]
        assert not hidden[..., static].any()
        for late in (0, 1):
            here = judged & (dark.any(-1) == bool(late))
            counts[late] += torch.stack([(replaced & here).sum(), here.sum()])
    for made, asked in counts.tolist():
        assert made / asked == pytest.approx(0.15, abs=3 * (0.15 * 0.85 / asked) ** 0.5)


# ------------------------------------------------------------------------------------------------- the two networks


def test_no_gradient_passes_between_the_networks(sampler):
    model = task()
    losses = model(sampler.batch(0))
    losses.sums["replaced"].backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.encoder.blocks.parameters())
    model = task()
    losses = model(sampler.batch(0))
    torch.stack([s for n, s in losses.sums.items() if n.startswith("generator/")]).sum().backward()
    assert all(p.grad is None for p in [*model.encoder.parameters(), *model.detect.parameters()])
    assert all(p.grad is not None for p in model.generator.encoder.blocks.parameters())


def test_the_generator_is_narrower_and_as_deep():
    own = task(encoder={"d_model": 128, "heads": 4, "layers": 3, "feedforward": 512}).generator.encoder.config
    assert (own.d_model, own.heads, own.layers, own.feedforward) == (32, 1, 3, 128)
    wide = task(generator_width=1.0)
    assert wide.generator.encoder.config == wide.encoder.config


@pytest.mark.parametrize("encoder", [{"matchup": True}, {"causal": True, "use_prior": False}, {"context": "game"}])
@pytest.mark.parametrize("source", SOURCES)
def test_every_encoder_and_generator_trains(sampler, source, encoder):
    model = task(source, {**encoder, "event_attention": True})
    losses = model(tracked(sampler.batch(0)))
    assert losses.weights == {n: {"replaced": 50.0, "replaced_auc": 0.0}.get(n, 1.0) for n in losses.sums}
    generated = {n.removeprefix("generator/") for n in losses.sums if n.startswith("generator/")}
    assert generated == ({f.name for f in FIELDS if f.role is not Role.SITUATION} if source == "learned" else set())
    assert torch.isfinite(torch.stack([s.float() for s in losses.sums.values()])).all()


def test_two_phases_train_one_network_at_a_time(sampler):
    model, batch = task(two_phase=2), sampler.batch(0)

    def trained() -> set[str]:
        return {name.partition("/")[0] for name in model(batch).sums}

    assert [trained() for _ in range(2)] == [{"generator"}] * 2
    resumed = task(two_phase=2)
    resumed.load_state_dict(model.state_dict())  # how far it is, too
    model = resumed
    assert trained() == {"replaced", "replaced_auc"}
    model.eval()
    assert trained() == {"generator", "replaced", "replaced_auc"}
    model.train()
    model(batch).sums["replaced"].backward()
    assert all(p.grad is None for p in model.generator.parameters())


def test_two_phases_need_a_generator_that_learns():
    with pytest.raises(FullcountError, match="two_phase"):
        task("unigram", two_phase=5)


def test_it_is_built_by_its_name():
    config = OBJECTIVES["electra"](generator="swap", rate=0.25)
    assert isinstance(config, ReplacedEventConfig)
    encoder = GamestateTransformer(EncoderConfig(d_model=32, layers=1, heads=2, feedforward=64))
    built = config.build(encoder, None)
    assert (built.encoder, built.source, built.rate) == (encoder, "swap", 0.25)


def test_the_auc_counts_pairs():
    logits, replaced = torch.tensor([0.1, 2.0, -1.0, 0.5, 0.3]), torch.tensor([True, True, False, False, False])
    right, pairs = _concordant(logits, replaced)
    assert (float(right), float(pairs)) == (4, 6)  # .1 beats -1; 2 beats all three


# ------------------------------------------------------------------------------------------- what can be told, and how


@pytest.fixture(scope="module")
def trained(sampler) -> ReplacedEvent:
    """A small model after a short joint training."""
    model = task(encoder={"d_model": 48, "layers": 2}, generator_width=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, (step + 1) / 10) * (1 - step / (1.1 * STEPS))
        losses = model(sampler.batch(step))
        total = sum(losses.weights[n] * s / losses.counts[n].clamp(min=1) for n, s in losses.sums.items())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


STEPS = 80


@torch.no_grad()
def test_it_tells_replaced_pitches_better_than_their_share(sampler, trained):
    total, auc, asked, pairs, replaced = 0.0, 0.0, 0, 0.0, 0
    for step in range(1000, 1010):
        losses = trained(sampler.batch(step))
        total, asked = total + float(losses.sums["replaced"]), asked + int(losses.counts["replaced"])
        auc, pairs = auc + float(losses.sums["replaced_auc"]), pairs + float(losses.counts["replaced_auc"])
        replaced += int(trained.choose(sampler.batch(step))[1].sum())
    share = replaced / asked
    assert total / asked < -share * log(share) - (1 - share) * log(1 - share)
    assert auc / pairs > 0.55


def detection(model: ReplacedEvent, sampler: Sampler, batches: int = 45) -> float:
    """Accuracy at telling as many replaced as real pitches apart, of a network that sees the pitch and the next's
    situation as they are shown, and nothing else: fitted on the first half, judged on the second."""
    seen, answers = [], []
    columns = [FIELDS.index(f) for f in CATEGORICAL]
    widths = torch.tensor([f.capacity + 1 for f in CATEGORICAL])
    offsets = torch.cumsum(widths, 0) - widths
    for step in range(2000, 2000 + batches):
        with torch.no_grad():
            doctored = model.doctor(sampler.batch(step))
        ids = torch.where(doctored.hidden[..., columns], widths - 1, doctored.batch.categorical.long()) + offsets
        following = torch.roll(ids, -1, dims=1)[..., SITUATION] + int(widths.sum())
        seen.append(torch.cat([ids, following], dim=-1)[doctored.judged])
        answers.append(doctored.replaced[doctored.judged])
    rows, replaced = torch.cat(seen), torch.cat(answers)
    half = len(rows) // 2
    odds = (~replaced).sum() / replaced.sum()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.EmbeddingBag(2 * int(widths.sum()), 32, mode="sum"),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 1),
        )
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
        for _ in range(3):
            for part in torch.randperm(half).split(512):
                optimizer.zero_grad()
                wanted = replaced[part].float()
                F.binary_cross_entropy_with_logits(net(rows[part])[:, 0], wanted, pos_weight=odds).backward()
                optimizer.step()
        with torch.no_grad():
            says = net(rows[half:])[:, 0] > 0
    truth = replaced[half:]
    return float((says[truth].float().mean() + (~says[~truth]).float().mean()) / 2)


@pytest.mark.parametrize("source", ["unigram", "swap"])
def test_without_context_a_replaced_pitch_cannot_be_told(sampler, source):
    assert detection(task(source), sampler) < 0.52


def test_what_the_generator_has_yet_to_learn_is_all_that_tells(sampler, trained):
    """After a short training it is near: draws that know nothing are told with ease."""
    assert detection(trained, sampler) < 0.58
    assert detection(task("uniform"), sampler) > 0.7
