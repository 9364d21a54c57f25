"""The encoder: a lean pre-norm transformer over a player's events, readable from top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from fullcount.batches import EVENT, PAD, Batch
from fullcount.fields import COLUMN, EVENTS
from fullcount.model.attention import Context, Mask, Packing, PlayerAttentionMask, varlen_attend, without_padding
from fullcount.model.cache import Cache
from fullcount.model.embedder import EventEmbedder
from fullcount.model.positions import rotary_angles, rotate, sinusoidal
from fullcount.model.prefix import Prefix, behind

_NO_EVENT = EVENTS.index("none") + 1

#: How the pitches of a plate appearance become one vector.
Pooling = Literal["last", "mean", "attention"]

#: Adds new keys and values to those of earlier tokens (`Cache.add`).
Remember = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]


class EncoderConfig(BaseModel):
    """Shape of the encoder. Dropout acts on residual branches only: attention dropout leaves SDPA's fast path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    d_model: int = Field(128, gt=0)
    layers: int = Field(4, gt=0)
    heads: int = Field(4, gt=0)
    feedforward: int = Field(512, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    positions: Literal["rotary", "sinusoidal", "as_of"] = "rotary"  # as_of: rotary, days in place of games ago
    context: Context = "window"
    event_attention: bool = False  # event-weighted attention: a learned bias on plate-appearance endings, per head
    use_prior: bool = True  # the player's shrunken rates, age and reliability enter his slot
    matchup: bool = False  # every event carries what was known of its batter and pitcher (`batches.Morning`)
    repertoire: bool = False  # causal only: every token reads the mix of types that the coming pitch's pitcher throws
    causal: bool = False  # no token sees a later one; each reads the situation of the event that follows it
    use_league: bool = True  # off: no event says in which league it happened
    architecture: Literal["flat", "hierarchical"] = "flat"  # hierarchical: `layers` over plate appearances, and below
    pitch_layers: int = Field(1, gt=0)  # ... so many over the pitches of each (hierarchical only)
    pooling: Pooling = "mean"  # of pitches to a plate appearance (hierarchical only)

    @property
    def inputs(self) -> dict[str, Any]:
        """What batches for this encoder have to say of the players of each event: options of `collate`."""
        morning = "game" if self.causal else "window"
        return {"matchup": morning if self.matchup else None, "repertoire": self.repertoire}

    @property
    def reads_priors(self) -> bool:
        """Whether batches for this encoder need priors."""
        return self.use_prior or self.matchup or self.repertoire

    @model_validator(mode="after")
    def _fits(self) -> EncoderConfig:
        if self.repertoire and not self.causal:
            raise ValueError("repertoire: says what is coming, and is for causal encoders")
        if self.causal and self.use_prior:
            # As of the window's last game it counts what happened in the earlier ones, which are to be predicted.
            raise ValueError("causal: the slot's prior knows the window's own games; set use_prior = false")
        for name in ("pitch_layers", "pooling"):
            if self.architecture == "flat" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is of architecture = hierarchical; a flat encoder has one level")
        if self.d_model % (4 * self.heads):
            raise ValueError("d_model must be a multiple of 4 * heads (two rotary axes)")
        return self


class Attention(nn.Module):
    """Multi-head self-attention over SDPA.

    Event-weighted attention needs no mask: the logit bias b_h on flagged keys is one extra channel, query 1 and key
    b_h * flag * sqrt(channels), so the fused kernel computes q.k / sqrt(c) + b_h * flag.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.d_model // config.heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.event_bias = nn.Parameter(torch.zeros(config.heads)) if config.event_attention else None

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        causal: bool,
        angles: tuple[Tensor, Tensor] | None,
        flags: Tensor,
        remember: Remember | None = None,
        ahead: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`ahead`: keys and values [B, heads, P, head_dim] that stand before the sequence, for all to see."""
        size, width, _ = x.shape
        q, k, v = self.qkv(x).view(size, width, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if ahead is not None:
            k, v = (torch.cat([a.to(b.dtype), b], dim=2) for a, b in zip(ahead, (k, v), strict=True))
            flags = F.pad(flags, (ahead[0].shape[2], 0))
        scale = self.head_dim**-0.5
        if self.event_bias is not None:
            # A CPU's kernel takes any number of channels; a GPU's, and the cache, want a multiple of eight.
            extra = 1 if x.device.type == "cpu" and remember is None else 8
            q, k, v = self._with_event_channel(q, k, v, flags, scale, extra)
        if remember is None:
            y = _attend(q, k, v, mask, causal and mask is None, scale)
        else:
            k, v, mask = remember(k, v)
            y = F.scaled_dot_product_attention(q.to(k.dtype), k, v, mask, is_causal=mask is None, scale=scale)
            y = y.to(x.dtype)
        y = y[..., : self.head_dim].transpose(1, 2).reshape(size, width, -1)
        return self.out(y)  # type: ignore[no-any-return]

    def _with_event_channel(
        self, q: Tensor, k: Tensor, v: Tensor, flags: Tensor, scale: float, extra: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value with as many `extra` channels, the first of which makes the bias."""
        assert self.event_bias is not None
        dtype = torch.float32 if q.device.type == "cpu" else q.dtype  # as `_attend` wants it: one copy does both

        def widened(x: Tensor, first: Tensor) -> Tensor:
            rest = F.pad(first.to(dtype).expand(x.shape[:3]).unsqueeze(-1), (0, extra - 1))
            return torch.cat([x, rest], dim=-1)

        bias = self.event_bias[:, None] * flags[:, None, :] / scale
        return widened(q, q.new_ones(1)), widened(k, bias), widened(v, v.new_zeros(1))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, causal: bool, scale: float) -> Tensor:
    """Fused attention. On a CPU in float32, whose backward pass is the faster one there."""
    if isinstance(mask, Packing):
        return varlen_attend(q, k, v, mask, scale)
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    with torch.autocast("cpu", enabled=False):
        q, k, v = q.float(), k.float(), v.float()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.attention = Attention(config)
        self.norm_feedforward = nn.LayerNorm(config.d_model)
        self.up = nn.Linear(config.d_model, config.feedforward)
        self.down = nn.Linear(config.feedforward, config.d_model)
        self.adapter: nn.Module = nn.Identity()  # what fitting puts behind the feed-forward branch
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        causal: bool,
        angles: tuple[Tensor, Tensor] | None,
        flags: Tensor,
        remember: Remember | None = None,
        ahead: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), mask, causal, angles, flags, remember, ahead))
        return x + self.dropout(self.adapter(self.feedforward(self.norm_feedforward(x))))  # type: ignore[no-any-return]

    def feedforward(self, x: Tensor) -> Tensor:
        """The feed-forward branch, before it is added."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))  # type: ignore[no-any-return]


def stacked(config: EncoderConfig, layers: int) -> nn.ModuleList:
    """Blocks whose branches add little at first (Radford et al. 2019)."""
    blocks = nn.ModuleList(Block(config) for _ in range(layers))
    for name, weight in blocks.named_parameters():
        if name.endswith(("attention.out.weight", "down.weight")):
            nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5)
    return blocks


class GamestateTransformer(nn.Module):
    """Contextual event embeddings: [B, S] tokens -> [B, S, d_model]. Token 0 is the player's slot."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedder = EventEmbedder(
            config.d_model,
            config.use_prior,
            config.matchup,
            ahead=config.causal,
            repertoire=config.repertoire,
            league=config.use_league,
        )
        self.blocks = stacked(config, config.layers)
        self.norm = nn.LayerNorm(config.d_model)
        self.prefix: Prefix | None = None  # what fitting puts before every sequence

    @property
    def layers(self) -> list[Block]:
        """All blocks, from the bottom to the top."""
        return cast(list[Block], list(self.blocks))

    @property
    def outlet(self) -> list[nn.Module]:
        """What lies above the top layer."""
        return [self.norm]

    def forward(self, batch: Batch, hidden: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Args:
            batch: B sequences of S tokens.
            hidden: [B, S, len(FIELDS)] bool, fields not shown (masking).
        """
        x, angles, flags = self._read(batch, hidden)
        mask = PlayerAttentionMask(self.config.context, self.config.causal)(batch)
        return self._through(x, mask, angles, flags, batch.task)

    def _through(
        self,
        x: Tensor,
        mask: Tensor | None,
        angles: tuple[Tensor, Tensor] | None,
        flags: Tensor,
        task: Tensor | None,
    ) -> Tensor:
        """`x` [B, S, d_model] through all blocks, behind the prefix if there is one.

        Args:
            mask: see `PlayerAttentionMask`. flags: [B, S] bool, tokens that end a plate appearance.
            task: [B] whose prefix stands before each row; None: the first one's.
        """
        stands, ahead = 0, None
        if self.prefix is not None:
            causal = self.config.causal
            vectors, ahead = self.prefix(task, len(x))
            seen = self.prefix.length if ahead is not None else 0
            stands = 0 if vectors is None else self.prefix.length
            mask = behind(mask, stands, seen, x.shape[1], causal, x.device)
            flags = F.pad(flags, (stands, 0))
            if vectors is not None:
                x = torch.cat([vectors.to(x.dtype), x], dim=1)
            if angles is not None and stands:
                angles = F.pad(angles[0], (0, 0, stands, 0), value=1.0), F.pad(angles[1], (0, 0, stands, 0))
        seen_by = without_padding(mask, x, self.config.d_model // self.config.heads)
        for layer, block in enumerate(self.blocks):
            own = None if ahead is None else (ahead[layer, 0], ahead[layer, 1])
            x = block(x, seen_by, self.config.causal, angles, flags, None, own)
        return self.norm(x[:, stands:])  # type: ignore[no-any-return]

    def extend(self, batch: Batch, cache: Cache, tokens: int) -> Tensor:
        """Encode what follows what `cache` holds, and add it there (causal encoders of context "window").

        Args:
            batch: one row a row of the cache. One token a row, or several (and padding) where the cache is empty.
            tokens: how many columns of the batch are read; a further one only tells the last what is coming.

        Returns:
            [B, tokens, d_model], the same as of the whole sequence at once.
        """
        assert self.prefix is None, "a prefix is for sequences read at once"
        x, angles, flags = self._read(batch, None)
        x, flags = x[:, :tokens], flags[:, :tokens]
        if angles is not None:
            angles = angles[0][:, :, :tokens], angles[1][:, :, :tokens]
        for layer, block in enumerate(self.blocks):
            x = block(x, None, True, angles, flags, partial(cache.add, layer))
        cache.advance((batch.kind[:, :tokens] != PAD).sum(dim=1))
        return self.norm(x)  # type: ignore[no-any-return]

    def _read(self, batch: Batch, hidden: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor]:
        """Embedded tokens, rotary angles, and which tokens end a plate appearance."""
        x = self.embedder(batch, hidden)
        angles = None
        if self.config.positions == "sinusoidal":
            x = x + sinusoidal(batch, self.config.d_model).to(x.dtype)
        else:
            width = self.config.d_model // self.config.heads
            angles = rotary_angles(batch, width, as_of=self.config.positions == "as_of")
        # A hidden event may not be told apart by the attention paid to it.
        event = batch.categorical[..., COLUMN["event"]]
        flags = (event > 0) & (event != _NO_EVENT)
        if hidden is not None:
            flags = flags & ~hidden.any(dim=-1)
        return x, angles, flags


def mean_of_events(encoder: GamestateTransformer, batch: Batch, hidden: Tensor | None = None) -> Tensor:
    """[B, d_model] embedding of each sequence (a game, say): the mean of its contextual events."""
    states: Tensor = encoder(batch, hidden)
    real = (batch.kind == EVENT).unsqueeze(-1).to(states.dtype)
    return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
