"""Contrastive pre-training: two stretches of one player's games are closer to each other than to anybody else's."""

from __future__ import annotations

from dataclasses import fields, replace
from math import log
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from fullcount.batches import EVENT, SEPARATOR, SLOT, Batch
from fullcount.errors import FullcountError
from fullcount.fields import COLUMN, OUTCOMES
from fullcount.model.transformer import GamestateTransformer, mean_of_events
from fullcount.objectives.base import Data, Losses, Objective, ObjectiveConfig
from fullcount.priors import Priors

Split = Literal["halves", "alternating"]


class ContrastiveConfig(ObjectiveConfig):
    """Options of contrastive pre-training."""

    kind: Literal["contrastive"] = "contrastive"
    loss: Literal["info_nce", "nt_xent"] = "nt_xent"
    split: Split = "halves"
    hide_static: bool = True  # park, league and the player's own hand; see `views`
    width: int = Field(64, gt=0)  # of the space in which views are compared
    temperature: float = Field(0.1, gt=0)
    learn_temperature: bool = False
    hardness: float = Field(0.0, ge=0)  # how much more a player of similar rates counts among the negatives
    apart: int = Field(1095, gt=0)  # days between windows from which on a player is another one

    def build(self, encoder: GamestateTransformer, data: Data) -> Contrastive:
        if any(h.window.games == 1 for h in data.sampler.histories):
            raise FullcountError("contrastive: a window of one game has no two halves; set its games to 2 or more")
        if self.hardness and data.sampler.priors is None:
            raise FullcountError("contrastive: hardness reads priors; set encoder.use_prior or encoder.matchup")
        return Contrastive(encoder, self)


class Contrastive(Objective):
    """Tell the other half of a window from the halves of all other windows, those of other processes among them.

    Views are encoded, averaged over their events as single games are later, projected and compared by cosine.

    - InfoNCE (van den Oord et al. 2018): the newer half looks for the older one among the older halves.
    - NT-Xent (Chen et al. 2020): each half looks for its partner among all halves.

    Negatives are windows of the same role of other players, and of the same player `apart` days away or more; his
    nearer windows are neither. With hardness b a negative weighs exp(-b * d), d the mean squared difference of the two
    players' shrunken log-ratios of outcomes, relative to the anchor's mean weight (Robinson et al. 2021, with the
    similarity of rates in place of that of embeddings).
    """

    whole_step = "contrastive: negatives are windows of the whole step, which has to be passed at once"

    def __init__(self, encoder: GamestateTransformer, config: ContrastiveConfig | None = None) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config or ContrastiveConfig()
        width = encoder.config.d_model
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.GELU(approximate="tanh"), nn.Linear(width, self.config.width)
        )
        start = torch.tensor(log(self.config.temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=self.config.learn_temperature)

    def forward(self, batch: Batch) -> Losses:
        """Nats per anchor that has a negative; beside it, with no weight, the share of anchors whose partner is the
        nearest of its candidates, and the nats of a guess among them (what a collapsed encoder has)."""
        config, rates = self.config, len(OUTCOMES) - 1
        halves = views(batch, config.split, config.hide_static)
        projected = self.project(mean_of_events(self.encoder, halves)).float()
        pairs = F.normalize(projected, dim=-1).view(2, -1, config.width).transpose(0, 1)  # [B, newer and older, width]
        whole = (halves.kind == EVENT).any(dim=1).view(2, -1).all(dim=0)
        facts = torch.stack([batch.player, batch.day, batch.role, whole.long()], dim=1)
        own = (pairs, facts, batch.prior[:, :rates])
        # In evaluation every process has the same batch.
        joint, start = gathered(own) if self.training else (own, 0)

        others = negatives(facts, joint[1], config.apart)
        distance = (own[2].unsqueeze(1) - joint[2]).square().mean(dim=-1)
        partner = start + torch.arange(len(pairs), device=facts.device)
        anchors, candidates = pairs[:, 0], joint[0][:, 1]
        if config.loss == "nt_xent":
            anchors, candidates = pairs.transpose(0, 1).flatten(0, 1), joint[0].transpose(0, 1).flatten(0, 1)
            partner = torch.cat([partner + len(joint[0]), partner])
            others, distance, whole = others.repeat(2, 2), distance.repeat(2, 2), whole.repeat(2)
        with torch.autocast(pairs.device.type, enabled=False):
            cosine = anchors @ candidates.T
        nats = info_nce(
            cosine / self.log_temperature.exp().clamp(min=0.01), partner, others, -config.hardness * distance
        )
        counted = whole & others.any(dim=1)
        nearest = cosine.masked_fill(~others, -torch.inf).amax(dim=1)
        found = cosine.gather(1, partner.unsqueeze(1))[:, 0] > nearest
        chance = (1 + others.sum(dim=1)).float().log()
        losses = Losses()
        for name, values, weight in (
            ("contrastive", nats, 1.0),
            ("retrieval", found.float(), 0.0),
            ("chance", chance, 0.0),
        ):
            losses.add(name, torch.where(counted, values, 0.0).sum(), counted.sum(), weight)
        return losses


def views(batch: Batch, split: Split = "halves", hide_static: bool = True) -> Batch:
    """The windows cut in two by games: [2B, ...], the newer halves of all windows, then the older ones.

    Nothing that only says who the player is goes along: his prior and his own half of the match-up are zero, and with
    `hide_static` the park, the league and his own hand are missing. (As hidden fields they would take the opponent's
    half of the match-up and the weight of events in attention with them.)

    Args:
        split: "halves" in time, which share no more than the series that the cut falls in; "alternating" games.
    """
    slot, inside, back = batch.kind == SLOT, batch.kind >= SEPARATOR, batch.game.long()
    games = torch.zeros(len(back), 1 + int(back.max()), device=back.device)
    games.scatter_add_(1, back, inside.float())  # tokens of each game of each window
    if split == "halves":
        # A game goes with the half that its middle lies in: the newest is never in the older one, nor the other way.
        middle = games.cumsum(dim=1) - games / 2
        newer = ((middle < games.sum(dim=1, keepdim=True) / 2) & (games > 0)).sum(dim=1, keepdim=True)
        older = back >= newer
        game = torch.where(older, back - newer, back)
    else:
        older = back % 2 == 1
        game = back // 2
    inside &= (games > 0).sum(dim=1, keepdim=True) > 1  # one game has no two halves: nothing of it is encoded
    kept = torch.cat([slot | inside & ~older, slot | inside & older])
    length = kept.sum(dim=1, keepdim=True)
    order = torch.argsort((~kept).to(torch.int8), dim=1, stable=True)[:, : int(length.max())]
    padding = torch.arange(order.shape[1], device=order.device) >= length
    rows = torch.arange(len(batch.kind), device=order.device).repeat(2)

    def packed(values: Tensor) -> Tensor:
        taken = values[rows.unsqueeze(1), order]
        return taken.masked_fill(padding.view(*padding.shape, *[1] * (taken.ndim - 2)), 0)

    of_token = ("kind", "categorical", "numeric", "present", "game", "position", "ago", "matchup", "repertoire")
    batch = replace(batch, game=game.to(batch.game.dtype))
    said = {f.name: getattr(batch, f.name) for f in fields(batch)}
    tensors = {n: v for n, v in said.items() if isinstance(v, Tensor)}
    if batch.repertoire is not None:
        tensors["repertoire"] = torch.zeros_like(batch.repertoire)
    tensors = {n: packed(v) if n in of_token else v[rows] for n, v in tensors.items()}
    tensors["prior"] = torch.zeros_like(tensors["prior"])
    # Each view is as of its own newest game: days to the other half's would say which half it is.
    played, ago = tensors["kind"] >= SEPARATOR, tensors["ago"]
    newest = ago.masked_fill(~played, torch.iinfo(ago.dtype).max).amin(dim=1, keepdim=True)
    tensors["ago"] = torch.where(played, ago - newest, 0)
    pitches = (tensors["role"] == 1).view(-1, 1)
    if hide_static:
        for name in ("park", "league"):
            tensors["categorical"][..., COLUMN[name]] = 0
        for name, own in (("stand", ~pitches), ("throws", pitches)):
            tensors["categorical"][..., COLUMN[name]].masked_fill_(own, 0)
    side = Priors.SIDE if tensors["matchup"].shape[-1] else 0
    batter, pitcher, level = tensors["matchup"].tensor_split((side, 2 * side), dim=-1)  # views of it
    level.zero_()  # it tells the era
    batter.masked_fill_(~pitches.unsqueeze(-1), 0)
    pitcher.masked_fill_(pitches.unsqueeze(-1), 0)
    return Batch(**tensors, seed=batch.seed)


def negatives(own: Tensor, joint: Tensor, apart: int) -> Tensor:
    """[A, N] bool: which windows of `joint` [N, 4] may stand against those of `own` [A, 4]. Columns: player, day, role,
    whether both halves have events."""
    player, day, role, whole = joint.unbind(dim=1)
    near = (own[:, :1] == player) & ((own[:, 1:2] - day).abs() < apart)
    return (own[:, 2:3] == role) & ~near & whole.bool()


def info_nce(logits: Tensor, partner: Tensor, others: Tensor, hardness: Tensor) -> Tensor:
    """Nats [A] of finding the partner: log(1 + sum over negatives of w exp(logit - partner's logit)).

    Args:
        logits: [A, C] of candidates. partner: [A] column of the partner. others: [A, C] bool, the negatives.
        hardness: [A, C] log-weights of the negatives; each anchor's w are scaled to a mean of one.
    """
    log_weight = hardness.masked_fill(~others, -torch.inf).log_softmax(dim=1)
    log_weight = log_weight + others.sum(dim=1, keepdim=True).log()
    positive = logits.gather(1, partner.unsqueeze(1))
    against = (logits + log_weight).masked_fill(~others, -torch.inf)
    return torch.cat([positive, against], dim=1).logsumexp(dim=1) - positive[:, 0]


def gathered(own: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], int]:
    """The rows of all processes, in the order of their ranks, and the place of this process's first row.

    Tensors [n, ...] have as many rows as each other, but n may differ between processes. A gradient of any process's
    loss returns to the process that the row came from: with each process summing the loss over its own anchors, sums
    of gradients over processes are the gradient of the whole.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own, 0
    size = torch.tensor([len(own[0])], device=own[0].device)
    sizes = torch.cat(all_gather(size)).tolist()  # type: ignore[no-untyped-call]

    def everywhere(rows: Tensor) -> Tensor:
        padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])])
        parts = all_gather(padded.contiguous())  # type: ignore[no-untyped-call]
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    return tuple(everywhere(rows) for rows in own), sum(sizes[: torch.distributed.get_rank()])
