"""Contrastive pre-training: what views share, who is a negative, golden losses, two processes, and that it learns."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields, replace
from datetime import date
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fullcount.batches import EVENT, PAD, SEPARATOR, SLOT, Batch, Sampler, collate
from fullcount.config import PretrainConfig
from fullcount.errors import FullcountError
from fullcount.fields import COLUMN
from fullcount.model.transformer import EncoderConfig, GamestateTransformer, mean_of_events
from fullcount.objectives.contrastive import Contrastive, ContrastiveConfig, info_nce, negatives, views
from fullcount.priors import Priors
from fullcount.store import Store
from fullcount.training.jobs import build_pretraining
from fullcount.windows import History, Window

WINDOWS = (Window("batter", games=10, events=120), Window("pitcher", games=4, events=300))


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    said = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return Batch(**{n: v[rows] for n, v in said.items() if isinstance(v, Tensor)}, seed=batch.seed)


@pytest.fixture(scope="module")
def sampler(sim_store) -> Sampler:
    return Sampler(sim_store, WINDOWS, before=date(2004, 1, 1), tokens=3000, seed=1, priors=Priors(sim_store))


@pytest.fixture(scope="module", params=WINDOWS, ids=lambda w: w.role)
def batch(request, sim_store) -> Batch:
    """About ten windows of two games or more, two of them of one player."""
    history = History(sim_store, request.param)
    first, stop = history.ending_at(np.arange(len(history.index)))
    several = np.flatnonzero(stop - first > 1)
    chosen = several[[0, 3, *range(40, len(several), len(several) // 8)]]
    first, stop = first[chosen], stop[chosen]
    return collate(history, first, stop, Priors(sim_store), matchup="game")


def objective(config: ContrastiveConfig | None = None, **shape) -> Contrastive:
    torch.manual_seed(0)
    given = {"d_model": 32, "layers": 1, "heads": 2, "feedforward": 64, "matchup": True} | shape
    return Contrastive(GamestateTransformer(EncoderConfig(**given)), config)


# ------------------------------------------------------------------------------------------------------------ views


@pytest.mark.parametrize("split", ["halves", "alternating"])
def test_the_two_views_of_a_window_are_its_games_and_share_none(batch, split):
    numeric = batch.numeric.clone()
    numeric[..., 0], numeric[..., 1] = batch.game, torch.arange(batch.kind.shape[1])  # where a token came from
    marked = views(replace(batch, numeric=numeric), split)
    size = len(batch.kind)
    assert marked.kind.shape[0] == 2 * size
    for i in range(size):
        seen: list[set[int]] = []
        tokens: list[int] = []
        for v in (i, i + size):
            kind, game = marked.kind[v], marked.game[v]
            real = int((kind != PAD).sum())
            assert kind[0] == SLOT
            assert (kind[:real] != PAD).all()
            came = marked.numeric[v, 1:real, 0].int().tolist()
            tokens += marked.numeric[v, 1:real, 1].int().tolist()
            seen.append(set(came))
            # Games are counted back from the newest of the view, in the order of the window.
            assert game[1:real].tolist() == [sorted(seen[-1]).index(g) for g in came]
            place = [int(batch.position[i, t]) for t in marked.numeric[v, 1:real, 1].int()]
            assert marked.position[v, 1:real].tolist() == place
            ago = batch.ago[i, marked.numeric[v, 1:real, 1].long()]
            assert marked.ago[v, :real].tolist() == [0, *(ago - ago.min()).tolist()]  # of the view's newest game
        assert seen[0]
        assert seen[1]
        assert not seen[0] & seen[1]
        assert sorted(tokens) == torch.nonzero(batch.kind[i] >= SEPARATOR)[:, 0].tolist()
        if split == "halves":
            assert max(seen[0]) < min(seen[1])
        else:
            assert {g % 2 for g in seen[0]} == {0}


def test_halves_are_cut_at_the_game_nearest_to_the_middle(batch):
    halves = views(batch)
    events = (halves.kind == EVENT).sum(dim=1).view(2, -1)
    longest = torch.stack([((batch.game == g) & (batch.kind == EVENT)).sum(dim=1) for g in range(10)]).amax(dim=0)
    assert ((events[0] - events[1]).abs() <= longest + 1).all()


def test_a_window_of_one_game_is_left_out(batch):
    newest = batch.kind.clone()
    newest[0][batch.game[0] > 0] = PAD
    newest[0, 0] = SLOT
    game = batch.game.clone()
    game[0] = 0
    losses = objective().train()(replace(batch, kind=newest, game=game))
    assert losses.counts["contrastive"] == 2 * (len(batch.kind) - 1)
    assert torch.isfinite(losses.sums["contrastive"])


def test_nothing_can_be_solved_by_copying(batch):
    """The prior, the player's own half of the match-up, his hand, the park and the league change nothing."""
    model = objective()
    own, opponent = (slice(0, 24), slice(24, 48)) if batch.role[0] == 0 else (slice(24, 48), slice(0, 24))
    rival = "throws" if batch.role[0] == 0 else "stand"

    def loss(**changes: Tensor) -> Tensor:
        return model(replace(batch, **changes)).sums["contrastive"]

    def with_matchup(half: slice) -> Tensor:
        matchup = batch.matchup.clone()
        matchup[..., half] += torch.randn(len(matchup), 1, 24)
        return loss(matchup=matchup)

    def with_other(name: str) -> Tensor:
        categorical = batch.categorical.clone()
        column = categorical[..., COLUMN[name]]
        column[batch.kind == EVENT] = 3 - column[batch.kind == EVENT].clamp(1, 2)
        return loss(categorical=categorical)

    base = loss()
    assert torch.equal(loss(prior=torch.randn_like(batch.prior)), base)
    assert torch.equal(with_matchup(own), base)
    assert not torch.equal(with_matchup(opponent), base)
    for name in ("park", "league", "stand" if rival == "throws" else "throws"):
        assert torch.equal(with_other(name), base), name
    assert not torch.equal(with_other(rival), base)
    model = objective(ContrastiveConfig(hide_static=False))
    assert not torch.equal(with_other("park"), loss())
    assert torch.equal(loss(prior=torch.randn_like(batch.prior)), loss())


# -------------------------------------------------------------------------------------------------------- negatives


def test_who_is_a_negative():
    #                         player, day, role, whole
    windows = torch.tensor([[7, 1000, 0, 1], [7, 1200, 0, 1], [7, 2100, 0, 1], [8, 1000, 0, 1], [9, 1000, 1, 1]])
    windows = torch.cat([windows, torch.tensor([[10, 1000, 0, 0]])])
    found = negatives(windows[:1], windows, 1095)[0].tolist()
    #                himself, near him, years apart, another, another role, no two halves
    assert found == [False, False, True, True, False, False]
    assert negatives(windows, windows[:5], 1095)[:5].equal(negatives(windows, windows[:5], 1095)[:5].T)


# ------------------------------------------------------------------------------------------------------------ losses


def test_golden_nats():
    logits = torch.tensor([[2.0, 0.0, 1.0, 9.0]])
    partner, others = torch.tensor([0]), torch.tensor([[False, True, True, False]])
    flat = torch.zeros(1, 4)
    assert info_nce(logits, partner, others, flat).item() == pytest.approx(log(1 + exp(-2) + exp(-1)), abs=1e-6)
    weights = torch.tensor([[0.0, log(3), 0.0, 0.0]])  # of mean one: 1.5 and 0.5
    expected = log(1 + 1.5 * exp(-2) + 0.5 * exp(-1))
    assert info_nce(logits, partner, others, weights).item() == pytest.approx(expected, abs=1e-6)
    assert info_nce(logits, partner, others & False, flat).item() == 0  # nobody to be mistaken for


@pytest.mark.parametrize("hardness", [0.0, 2.0])
@pytest.mark.parametrize("loss", ["info_nce", "nt_xent"])
def test_losses_are_the_textbook_sums(batch, loss, hardness):
    config = ContrastiveConfig(loss=loss, hardness=hardness, temperature=0.2, apart=200)
    model = objective(config)
    found = model(batch)
    z = model.project(mean_of_events(model.encoder, views(batch)))
    z = (z / z.norm(dim=1, keepdim=True)).detach().double()
    size, total, hits, chance = len(batch.kind), 0.0, 0, 0.0
    assert len(set(batch.player.tolist())) < size  # somebody is there twice
    for i in range(size):
        for side in (0, 1) if loss == "nt_xent" else (0,):
            partner = i + size * (1 - side)
            pool = []
            for j in range(size):
                if batch.player[j] != batch.player[i] or abs(int(batch.day[j] - batch.day[i])) >= 200:
                    pool += [j, j + size] if loss == "nt_xent" else [j + size]
            s = [float(z[i + size * side] @ z[j]) for j in pool]
            d = [float((batch.prior[i, :7] - batch.prior[j % size, :7]).square().mean()) for j in pool]
            w = np.exp(-hardness * np.array(d))
            w *= len(w) / w.sum()
            right = float(z[i + size * side] @ z[partner])
            total += log(1 + sum(wj * exp((sj - right) / 0.2) for wj, sj in zip(w, s, strict=True)))
            hits += right > max(s)
            chance += log(1 + len(pool))
    assert found.sums["contrastive"].item() == pytest.approx(total, rel=1e-4)
    assert float(found.sums["retrieval"]) == hits
    assert float(found.sums["chance"]) == pytest.approx(chance, rel=1e-5)
    assert found.weights["retrieval"] == found.weights["chance"] == 0


def test_random_embeddings_have_log_n():
    n = 64
    a, b = torch.nn.functional.normalize(torch.randn(2, n, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    cosine, partner, others = a @ b.T, torch.arange(n), ~torch.eye(n, dtype=torch.bool)
    nats = info_nce(cosine, partner, others, torch.zeros(n, n))
    assert nats.mean().item() == pytest.approx(log(n), abs=0.02)


def test_the_order_of_windows_does_not_matter(batch):
    model = objective(ContrastiveConfig(hardness=1.0))
    order = torch.randperm(len(batch.kind), generator=torch.Generator().manual_seed(1))
    base, other = model(batch), model(rows_of(batch, order))
    for name in base.sums:
        torch.testing.assert_close(other.sums[name], base.sums[name], rtol=1e-5, atol=1e-5)


def test_a_learnt_temperature_learns_and_a_fixed_one_does_not(batch):
    for learn in (True, False):
        model = objective(ContrastiveConfig(learn_temperature=learn))
        model(batch).sums["contrastive"].backward()
        assert (model.log_temperature.grad is not None) == learn


# ----------------------------------------------------------------------------------------------------- two processes

CONFIGS = (
    ContrastiveConfig(loss="info_nce", learn_temperature=True),
    ContrastiveConfig(loss="nt_xent", hardness=1.0),
)


def joint_batch(root: Path) -> Batch:
    """Windows of both roles of one store: seven and five of them, as two processes would have them."""
    store = Store.open(root)
    parts = []
    for window, size in zip(WINDOWS, (7, 5), strict=True):
        history = History(store, window)
        first, stop = history.ending_at(np.arange(30, 30 + 53 * size, 53))
        parts.append(collate(history, first, stop, Priors(store), matchup="game"))
    width = max(p.kind.shape[1] for p in parts)

    def padded(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(len(x), width - x.shape[1], *x.shape[2:])], dim=1)

    flat = ("role", "player", "day", "prior")
    tensors = {
        f.name: torch.cat([getattr(p, f.name) if f.name in flat else padded(getattr(p, f.name)) for p in parts])
        for f in fields(Batch)
        if isinstance(getattr(parts[0], f.name), Tensor)
    }
    return Batch(**tensors, seed=0)


def gradients(model: torch.nn.Module, batch: Batch, world: int = 1) -> dict[str, Tensor]:
    """Of the mean over all processes' anchors, with the scaling of the training loop; the mean itself among them."""
    losses = model(batch)
    total, count = losses.sums["contrastive"], losses.counts["contrastive"].float()
    if world > 1:
        torch.distributed.all_reduce(count)
    (total * world / count).backward()
    mean = total.detach() / count
    if world > 1:
        torch.distributed.all_reduce(mean)
    return {"mean": mean} | {n.removeprefix("module."): p.grad for n, p in model.named_parameters() if p.requires_grad}


def one_of_two(root: str, out: str) -> None:
    """What each process does: unequal shares of the joint batch, gradients averaged as in training."""
    torch.distributed.init_process_group("gloo")
    rank, whole = torch.distributed.get_rank(), joint_batch(Path(root))
    share = rows_of(whole, torch.arange(len(whole.kind))[[slice(0, 4), slice(4, 12)][rank]])
    for i, config in enumerate(CONFIGS):
        model = objective(config)
        found = gradients(DistributedDataParallel(model), share, world=2)
        evaluated = model.eval()(whole).means()["contrastive"]
        if rank == 0:
            torch.save(found | {"evaluated": torch.tensor(evaluated)}, f"{out}/{i}.pt")
    torch.distributed.destroy_process_group()


_SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_contrastive import one_of_two
one_of_two({root!r}, {out!r})
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(sim_store, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), root=str(sim_store.root), out=str(tmp_path)))
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = subprocess.run([*launcher, str(script)], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    whole = joint_batch(sim_store.root)
    for i, config in enumerate(CONFIGS):
        two, model = torch.load(tmp_path / f"{i}.pt"), objective(config)
        one = gradients(model, whole)
        assert sum(float(g.abs().sum()) for g in one.values()) > 1
        assert two.pop("evaluated").item() == pytest.approx(model.eval()(whole).means()["contrastive"], abs=1e-5)
        assert two.keys() == one.keys()
        for name in one:
            torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=1e-5, msg=name)


# ---------------------------------------------------------------------------------------------------- it is of use


def test_it_learns_who_is_who(sampler):
    """A short training on the simulated league tells players apart, without priors, hands or parks."""
    model = objective(matchup=False, use_prior=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1, (step + 1) / 10) * (1 - step / 66)
        losses = model(sampler.batch(step))
        optimizer.zero_grad()
        (losses.sums["contrastive"] / losses.counts["contrastive"]).backward()
        optimizer.step()
    means = {}
    with torch.no_grad():
        for step in range(1000, 1010):
            for name, value in model.eval()(sampler.batch(step)).means().items():
                means[name] = means.get(name, 0) + value / 10
    assert means["contrastive"] < means["chance"] - 0.3, means
    assert means["retrieval"] > 3 * exp(-means["chance"]), means


# ------------------------------------------------------------------------------------------------------- configuration


def configuration(**changes) -> PretrainConfig:
    shape = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
    given = {"objectives": "contrastive", "encoder": shape, "before": date(2004, 1, 1), "batch_tokens": 2048}
    return PretrainConfig(**(given | changes))


def test_it_is_built_by_name(sim_store):
    task, train, _ = build_pretraining(configuration(), sim_store)
    assert "contrastive" in task(train.batch(0)).means()


def test_what_cannot_be_contrasted_is_refused(sim_store):
    with pytest.raises(FullcountError, match="one game"):
        build_pretraining(configuration(pitcher={"games": 1}), sim_store)
    bare = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32, "use_prior": False}
    hard = [{"kind": "contrastive", "hardness": 1.0}]
    with pytest.raises(FullcountError, match="hardness"):
        build_pretraining(configuration(encoder=bare, objectives=hard), sim_store)
