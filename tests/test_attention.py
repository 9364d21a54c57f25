"""Attention without padding is attention with the padding masked. On a CPU: the packing, not CUDA's kernel."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fullcount.batches import PAD, Batch, Sampler
from fullcount.model import transformer
from fullcount.model.attention import Packing, varlen_attend, without_padding
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.store import Store
from fullcount.windows import Window


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, same: Tensor, longest: int, _: int, *, scale: float
) -> Tensor:
    """What the CUDA kernel is asked for: [T, heads, channels], every sequence among itself."""
    assert bounds.dtype == torch.int32
    assert int(bounds[-1]) == len(q)
    assert same is bounds
    assert longest >= max(b - a for a, b in pairwise(bounds.tolist()))

    def attend(a: int, b: int) -> Tensor:
        own = (x[a:b].transpose(0, 1) for x in (q, k, v))
        return F.scaled_dot_product_attention(*own, scale=scale).transpose(0, 1)

    return torch.cat([attend(a, b) for a, b in pairwise(bounds.tolist())])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 3))
def test_packed_attention_is_masked_attention(lengths: list[int], more: int) -> None:
    torch.manual_seed(0)
    real = torch.arange(max(lengths) + more) < torch.tensor(lengths).unsqueeze(1)
    q, k, v = torch.randn(3, len(lengths), 2, real.shape[1], 8)
    packing = Packing.of(real)
    assert torch.equal(packing.unpack(packing.pack(q)), q * real[:, None, :, None])
    expected = F.scaled_dot_product_attention(q, k, v, real[:, None, None], scale=0.3)
    found = varlen_attend(q, k, v, packing, 0.3, one_by_one)
    torch.testing.assert_close(found, expected * real[:, None, :, None], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("event_attention", [False, True])
def test_an_encoder_without_padding_has_the_same_states_and_gradients(
    sim_store: Store, monkeypatch: pytest.MonkeyPatch, event_attention: bool
) -> None:
    torch.manual_seed(1)
    shape = {"d_model": 32, "layers": 2, "heads": 2, "feedforward": 32, "event_attention": event_attention}
    encoder = GamestateTransformer(EncoderConfig(**shape, use_prior=False))
    if event_attention:
        for block in encoder.blocks:
            torch.nn.init.normal_(block.attention.event_bias)
    batch: Batch = Sampler(
        sim_store, (Window("batter", games=3),), before=sim_store.games["date"].max(), tokens=600
    ).batch(0)
    real = (batch.kind != PAD).unsqueeze(-1)
    assert 0.01 < 1 - real.float().mean() < 0.9

    def states_and_gradients() -> list[Tensor]:
        encoder.zero_grad()
        states = encoder(batch) * real
        (states * torch.linspace(-1, 1, states.shape[-1])).square().sum().backward()
        return [states.detach(), *(p.grad for p in encoder.parameters() if p.grad is not None)]

    expected = states_and_gradients()
    packed = []

    def of(mask: Tensor, x: Tensor, channels: int) -> Packing:
        packed.append(Packing.of(mask[:, 0, 0]))
        return packed[-1]

    monkeypatch.setattr(transformer, "without_padding", of)
    monkeypatch.setattr(transformer, "varlen_attend", partial(varlen_attend, kernel=one_by_one))
    found = states_and_gradients()
    assert len(packed) == 1
    assert len(found) == len(expected) > 10
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=1e-5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * float(b.abs().max()) + 1e-7, rtol=1e-4)


def test_on_a_cpu_the_mask_stays() -> None:
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    assert without_padding(mask, torch.zeros(2, 5, 16), 8) is mask
    assert without_padding(None, torch.zeros(2, 5, 16), 8) is None
