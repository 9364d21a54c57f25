"""Replaced-event detection (ELECTRA, Clark et al. 2020): some pitches are drawn anew, the encoder says which.

What keeps it from being solved without context (measured by a network that reads one event and the next):

- A pitch is replaced whole, so its fields agree with one another. Which values it has and which are missing stays as
  it was, and the generator is told that pattern: tracking is often kept of some kinds of pitch only.
- In each game the dynamic situation is hidden after an opening pitch that is drawn apart from the replaced ones; only
  pitches from the opening on are replaced or judged. A replaced pitch is therefore never the reason why something is
  hidden, and no visible count, outs or bases can contradict it.
- A pitch that was drawn is called replaced also where it came out as it was. Calling those real, as ELECTRA does with
  words, or leaving them out makes common pitches look real for being common: a called ball is often drawn for a called
  ball, a triple hardly ever for a triple. So labelled, the best possible logit is the log-density ratio of play and
  generator, and is flat where the generator is right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import EVENT, Batch, mix
from fullcount.errors import FullcountError
from fullcount.fields import BY_NAME, CATEGORICAL, COLUMN, DELTAS, EVENTS, NUMERIC, PLACE, Role
from fullcount.fields import Field as EventField
from fullcount.model.encoders import build_encoder
from fullcount.model.heads import FieldChain, Legal
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    ends_game,
    generator_of,
    hide,
)

Source = Literal["learned", "unigram", "uniform", "swap"]

_TOLD = [i for i, f in enumerate(CATEGORICAL) if f.role is not Role.SITUATION]
_STATE = ("balls", "strikes", "outs", "bases")


class ReplacedEventConfig(ObjectiveConfig):
    """Options of replaced-event detection."""

    kind: Literal["electra"] = "electra"
    #: "learned": a small encoder and a field chain. "uniform": every value as likely as any. "unigram": a real pitch
    #: of the batch thrown at the same count, outs and bases. "swap": the same, none used twice.
    generator: Source = "learned"
    generator_width: float = Field(0.25, gt=0, le=1)  # of the encoder's width, heads and feed-forward
    rate: float = Field(0.15, gt=0, lt=1)  # share of judged events that are replaced
    detection_weight: float = Field(50.0, gt=0)  # of the detection loss; see `ReplacedEvent`
    two_phase: int = Field(0, ge=0)  # steps in which the generator is trained alone; it is frozen afterwards

    def build(self, encoder: GamestateTransformer, data: Data) -> ReplacedEvent:
        return ReplacedEvent(
            encoder, self.generator, self.generator_width, self.rate, self.detection_weight, self.two_phase
        )


@dataclass
class Doctored:
    """A batch with some pitches replaced, as the encoder is shown it.

    Attributes:
        batch: the batch. hidden: [B, S, len(FIELDS)] bool, what is not shown of it.
        judged: [B, S] bool, events that are asked about. replaced: [B, S] bool, those of them that were drawn.
        losses: the generator's.
    """

    batch: Batch
    hidden: Tensor
    judged: Tensor
    replaced: Tensor
    losses: Losses


class ReplacedEvent(Objective):
    """Tell drawn pitches from real ones at every judged event, while a smaller generator learns to draw them.

    The two networks share no weights and no gradient passes between them, so the weight of the detection loss trades
    neither against the other; it balances their gradients within the common clipping. Without a weight the detection's
    norm is about a hundredth of the generator's, so ELECTRA's 50 fits here too.

    Args:
        encoder: the discriminator's, and what is kept.
        generator, generator_width, rate, detection_weight, two_phase: see `ReplacedEventConfig`.

    Raises:
        FullcountError: two phases without a generator that learns, or (at the first step) in distributed training.
    """

    hides = (Role.DELIVERY, Role.RESULT, Role.TRANSITION)
    steps: Tensor

    def __init__(
        self,
        encoder: GamestateTransformer,
        generator: Source = "learned",
        generator_width: float = 0.25,
        rate: float = 0.15,
        detection_weight: float = 50.0,
        two_phase: int = 0,
    ) -> None:
        super().__init__()
        if two_phase and generator != "learned":
            raise FullcountError(f"electra: the {generator} generator learns nothing; set two_phase = 0")
        self.encoder, self.source, self.rate = encoder, generator, rate
        self.detection_weight, self.two_phase = detection_weight, two_phase
        if two_phase:
            self.whole_step = "electra: two_phase counts every pass as a step; set two_phase = 0"
        self.detect = nn.Linear(encoder.config.d_model, 1)
        self.generator = PitchGenerator(_narrower(encoder.config, generator_width)) if generator == "learned" else None
        self.uniform = uniform_chain() if generator == "uniform" else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # training steps so far; saved with the run

    def forward(self, batch: Batch) -> Losses:
        """Nats per field of the generator, nats per judged event of the detection, and its AUC (weight 0)."""
        phase = self._phase()
        doctored = self.doctor(batch)
        losses = Losses() if phase == "encoder" else doctored.losses
        if phase == "generator":
            return losses
        logits = self.logits(doctored)
        replaced = doctored.replaced[doctored.judged]
        total = F.binary_cross_entropy_with_logits(logits, replaced.float(), reduction="sum")
        losses.add("replaced", total, doctored.judged.sum(), self.detection_weight)
        losses.add("replaced_auc", *_concordant(logits.detach(), replaced), weight=0.0)
        return losses

    def logits(self, doctored: Doctored) -> Tensor:
        """[judged events] log-odds that each is replaced."""
        states = self.encoder(doctored.batch, doctored.hidden)[doctored.judged]
        return self.detect(states).float()[:, 0]  # type: ignore[no-any-return]

    def _phase(self) -> Literal["both", "generator", "encoder"]:
        """What this step trains. Validation looks at both."""
        if not (self.training and self.two_phase):
            return "both"
        if torch.distributed.is_initialized():  # also for one process: its parameters may not go unused
            raise FullcountError("electra: distributed training trains both networks at once; set two_phase = 0")
        self.steps += 1
        return "generator" if self.steps <= self.two_phase else "encoder"

    def choose(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What the discriminator is shown, a function of the batch's seed.

        Returns:
            judged [B, S] bool, replaced [B, S] bool, and the fields hidden from the encoder [B, S, len(FIELDS)] bool.
        """
        draws = torch.rand((2, *batch.kind.shape), generator=generator_of(batch)).to(batch.kind.device)
        opening, chosen = draws < self.rate
        possible = _replaceable(batch)
        opening = opening & possible
        hidden = hide(batch, opening, ())
        judged = possible & (opening | hidden.any(dim=-1))
        return judged, judged & chosen, hidden

    def doctor(self, batch: Batch) -> Doctored:
        """Replace some pitches of a batch."""
        judged, targets, hidden = self.choose(batch)
        losses = Losses()
        random = torch.Generator(device=batch.kind.device).manual_seed(mix(batch.seed, 1))
        if self.source in ("unigram", "swap"):
            donors = _donors(batch, targets, random, once=self.source == "swap")
            pitches = tuple(t.flatten(0, 1)[donors] for t in (batch.categorical, batch.numeric))
        elif self.uniform is not None:
            state = torch.zeros(int(targets.sum()), 1, device=batch.kind.device)
            pitches = draw(self.uniform, state, batch, targets, torch.zeros_like(hidden), random)
        elif self.generator is not None:
            shown = hide(batch, targets, self.hides)
            state = self.generator(batch, shown, targets)
            truth = batch.categorical[targets], batch.numeric[targets], batch.present[targets]
            for field, total, count in self.generator.chain(state, *truth):
                losses.add(f"generator/{field.name}", total, count)
            pitches = draw(self.generator.chain, state.detach(), batch, targets, shown, random)
        categorical, numeric = batch.categorical.clone(), batch.numeric.clone()
        drawn = batch.categorical[targets]
        drawn[:, _TOLD] = pitches[0][:, _TOLD]
        categorical[targets], numeric[targets] = drawn, pitches[1].to(numeric.dtype)
        return Doctored(replace(batch, categorical=categorical, numeric=numeric), hidden, judged, targets, losses)


class PitchGenerator(nn.Module):
    """A masked gamestate encoder whose hidden pitches are told, and drawn, field by field.

    It is told which values of a hidden pitch there are, because a drawn one must have the same.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = build_encoder(config)
        self.there = nn.Linear(1 + len(NUMERIC), config.d_model, bias=False)
        self.chain = FieldChain(config.d_model)

    def forward(self, batch: Batch, hidden: Tensor, targets: Tensor) -> Tensor:
        """[targets, d_model] what is known of each hidden pitch."""
        typed = batch.categorical[targets][:, COLUMN["pitch_type"]] > 0
        there = torch.cat([typed.unsqueeze(-1), batch.present[targets]], dim=-1)
        state = self.encoder(batch, hidden)[targets]
        return state + self.there(there.to(state.dtype))  # type: ignore[no-any-return]


def uniform_chain() -> FieldChain:
    """A chain that knows nothing: every legal value is equally likely, numbers come from one wide mixture."""
    chain = FieldChain(1)
    for read in chain.read.values():
        for parameter in read.parameters():
            nn.init.zeros_(parameter)
    return chain.requires_grad_(False)


def draw(
    chain: FieldChain, state: Tensor, batch: Batch, targets: Tensor, hidden: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the pitches of `targets`; they have the values that the true ones have.

    Args:
        state: [targets, d_model]. hidden: [B, S, len(FIELDS)] bool, fields that `state` has not seen.

    Returns:
        As `FieldChain.draw`.
    """
    truth, present = batch.categorical[targets], batch.present[targets]
    # Unseen is unknown: no state of the game that the generator was not shown may bound what it draws.
    known = {n: (truth[:, COLUMN[n]] * ~hidden[targets][:, PLACE[n]]).long() for n in _STATE}
    categorical = torch.zeros_like(truth)
    numeric = torch.zeros(present.shape, device=present.device)
    typed = truth[:, COLUMN["pitch_type"]] > 0
    for with_type, rows in ((True, typed.nonzero()[:, 0]), (False, (~typed).nonzero()[:, 0])):
        if len(rows):
            legal = _legal({n: ids[rows] for n, ids in known.items()})
            drawn = chain.draw(state[rows], random, present[rows], legal, pitch_types=with_type)
            categorical[rows], numeric[rows] = drawn
    return categorical, numeric


def _narrower(config: EncoderConfig, share: float) -> EncoderConfig:
    """The same encoder with `share` of the width; as many layers."""
    heads = max(1, round(config.heads * share))
    step = 4 * heads  # see `EncoderConfig`
    shape = {
        "heads": heads,
        "d_model": step * max(1, round(config.d_model * share / step)),
        "feedforward": max(1, round(config.feedforward * share)),
    }
    return EncoderConfig(**{**config.model_dump(), **shape})


def _replaceable(batch: Batch) -> Tensor:
    """[B, S] bool: events of which result and transition are known, but for the last of each game."""
    told = batch.categorical[..., [COLUMN[n] for n in ("call", "contact", "delta", "event")]] > 0
    return (batch.kind == EVENT) & told.all(dim=-1) & ~ends_game(batch)


# ----------------------------------------------------------------------------------------------------- what is legal


def _delta_tables() -> tuple[Tensor, Tensor]:
    """Legal deltas by ids, unknown ones (id 0) bounding nothing: [balls, strikes, deltas] and [outs, bases, deltas]."""
    count = np.ones((5, 4, len(DELTAS)), dtype=bool)
    state = np.ones((4, 9, len(DELTAS)), dtype=bool)
    for i, name in enumerate(DELTAS):
        count[4, :, i] &= not name.startswith("ball")
        count[:, 3, i] &= not name.startswith("strike")
        for outs, bases in np.ndindex(3, 8):
            on = [(bases >> b) & 1 for b in range(3)]
            if name.startswith("half"):  # the batter and every runner can be put out, and only runners score
                fits = outs + 1 + sum(on) >= 3 and int(name[-1]) <= sum(on)
            else:
                _, made, _, moves = name.split()
                after = [b + int(moves[2 * k : 2 * k + 2]) for k, b in enumerate(on)]
                fits = outs + int(made[1:]) < 3 and set(after) <= {0, 1}
            state[outs + 1, bases + 1, i] = fits
    return torch.from_numpy(count), torch.from_numpy(state)


_BY_COUNT, _BY_STATE = _delta_tables()
_ENDS = torch.tensor([False, *(name.startswith(("end", "half")) for name in DELTAS)])
_NO_EVENT = torch.tensor([name == "none" for name in EVENTS])


def _legal(known: dict[str, Tensor]) -> Legal:
    """Which deltas fit the count, outs and bases ([n] ids each), and which events fit the delta.

    That the call fits the delta is for the generator to learn.
    """

    def legal(field: EventField, drawn: dict[str, Tensor]) -> Tensor | None:
        if field is BY_NAME["delta"]:
            balls, strikes, outs, bases = (known[n] for n in _STATE)
            device = balls.device
            return _BY_COUNT.to(device)[balls, strikes] & _BY_STATE.to(device)[outs, bases]
        if field is BY_NAME["event"]:
            ends = _ENDS.to(drawn["delta"].device)[drawn["delta"]]
            return ends.unsqueeze(-1) ^ _NO_EVENT.to(ends.device)
        return None

    return legal


# --------------------------------------------------------------------------------------------------- pitches of others


def _donors(batch: Batch, targets: Tensor, random: torch.Generator, once: bool) -> Tensor:
    """For each target the flat position of a real pitch of the same count, outs, bases and missing values.

    `once`: the targets pass their pitches round among themselves; otherwise any replaceable pitch of the batch will do.
    """
    key = _alike(batch).flatten()
    wanted, pool = (t.flatten().nonzero()[:, 0] for t in (targets, targets if once else _replaceable(batch)))
    pool = pool[torch.randperm(len(pool), generator=random, device=pool.device)]
    pool = pool[key[pool].argsort(stable=True)]
    first, stop = (torch.searchsorted(key[pool], key[wanted], right=right) for right in (False, True))
    if once:
        place = torch.empty_like(key)
        place[pool] = torch.arange(len(pool), device=pool.device)
        following = place[wanted] + 1
        return pool[torch.where(following < stop, following, first)]
    share = torch.rand(len(wanted), generator=random, device=wanted.device)
    return pool[first + (share * (stop - first)).long()]


def _alike(batch: Batch) -> Tensor:
    """[B, S] a number for the count, outs, bases and pattern of missing values of each event."""
    key = torch.zeros(batch.kind.shape, dtype=torch.int64, device=batch.kind.device)
    for name in _STATE:
        key = key * BY_NAME[name].capacity + batch.categorical[..., COLUMN[name]]
    there = [batch.categorical[..., COLUMN["pitch_type"]] > 0, *batch.present.unbind(-1)]
    for bit in there:
        key = 2 * key + bit
    return key


def _concordant(logits: Tensor, replaced: Tensor) -> tuple[Tensor, Tensor]:
    """AUC as a pair: how many (replaced, real) pairs are ranked rightly, and how many pairs there are."""
    ranks = torch.empty_like(logits, dtype=torch.float64)
    ranks[logits.argsort()] = torch.arange(1, len(logits) + 1, device=logits.device, dtype=torch.float64)
    positives = replaced.sum().double()
    right = ranks[replaced].sum() - positives * (positives + 1) / 2
    return right.float(), (positives * (len(replaced) - positives)).float()
