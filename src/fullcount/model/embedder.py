"""Event fields to vectors: one summed embedding-bag look-up for all categorical fields, one linear map for numerics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fullcount.batches import EVENT, SLOT, Batch
from fullcount.fields import CATEGORICAL, COLUMN, NUMERIC, PITCH_TYPES, PLACE, Role
from fullcount.priors import Priors


class EventEmbedder(nn.Module):
    """[B, S] tokens of a batch -> [B, S, d_model].

    An event is the sum of its fields' embeddings; a hidden categorical field has a learned vector of its own, distinct
    from "missing"; a hidden numeric field is absent. The player slot reads the role and, if `use_prior`, the prior.

    Args:
        matchup: an event also reads what was known of its batter and pitcher that morning; it goes the way of the
            dynamic situation fields, for it says whose turn it is.
        ahead: each token also reads the situation (and matchup) of the event that follows it, which is known before
            that event happens. For encoders that look back only and are asked what comes next.
        repertoire: with `ahead`, and the pitcher's own mix of types at such a moment.
        league: off: the league of every event is missing.
    """

    offsets: Tensor
    hidden_ids: Tensor
    categorical_fields: Tensor
    numeric_fields: Tensor

    def __init__(
        self,
        d_model: int,
        use_prior: bool = True,
        matchup: bool = False,
        ahead: bool = False,
        repertoire: bool = False,
        league: bool = True,
    ) -> None:
        super().__init__()
        widths = torch.tensor([f.capacity + 1 for f in CATEGORICAL])  # the last id of each field: hidden
        offsets = torch.cumsum(widths, 0) - widths
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("hidden_ids", offsets + widths - 1, persistent=False)
        self.register_buffer("categorical_fields", torch.tensor([PLACE[f.name] for f in CATEGORICAL]), persistent=False)
        self.register_buffer("numeric_fields", torch.tensor([PLACE[f.name] for f in NUMERIC]), persistent=False)
        self.table = nn.EmbeddingBag(int(widths.sum()), d_model, mode="sum")
        self.numeric = nn.Linear(2 * len(NUMERIC), d_model, bias=False)
        self.kind = nn.Embedding(4, d_model)
        self.role = nn.Embedding(2, d_model)
        self.prior = nn.Linear(Priors.WIDTH, d_model, bias=False) if use_prior else None
        self.matchup = nn.Linear(Priors.MATCHUP, d_model, bias=False) if matchup else None
        self.repertoire = nn.Linear(len(PITCH_TYPES), d_model) if repertoire else None
        self.situation = sum(f.role is Role.SITUATION for f in CATEGORICAL)  # they come first
        self.whose_turn = PLACE["stand"]
        self.league = league
        count = int(widths[: self.situation].sum())
        self.ahead = nn.EmbeddingBag(count, d_model, mode="sum") if ahead else None
        tables = [self.table.weight, self.kind.weight, self.role.weight]
        for weight in tables if self.ahead is None else [*tables, self.ahead.weight]:
            nn.init.normal_(weight, std=0.5 / len(CATEGORICAL) ** 0.5)

    @torch.no_grad()
    def read_unseen_as_usual(self, seen: Mapping[str, Mapping[str, int]]) -> None:
        """What training never saw is not read with the weights it began with, which say nothing: an id is read as the
        average of those of its field, a number as absent. (A new park, or speeds where there were none.)

        Args:
            seen: field -> id -> pitches, see `Sampler.seen`.
        """
        for i, field in enumerate(CATEGORICAL):
            if field.name == "league" and not self.league:
                continue  # one id stands for all leagues, whatever the store says
            count = torch.zeros(field.capacity)
            for number, pitches in seen.get(field.name, {}).items():
                count[int(number)] = pitches
            tables = [self.table] if i >= self.situation or self.ahead is None else [self.table, self.ahead]
            for table in tables:
                rows = table.weight[int(self.offsets[i]) :][: field.capacity]
                rows[count == 0] = (count / count.sum().clamp(min=1)).to(rows) @ rows
        for i, field in enumerate(NUMERIC):
            if field.name not in seen:
                self.numeric.weight[:, [i, len(NUMERIC) + i]] = 0

    def forward(self, batch: Batch, hidden: Tensor | None = None) -> Tensor:
        """Args: batch; hidden: [B, S, len(FIELDS)] bool, fields the encoder may not see at each token."""
        size, width = batch.kind.shape
        ids = batch.categorical.long() + self.offsets
        numeric, present = batch.numeric, batch.present
        if hidden is not None:
            ids = torch.where(hidden[..., self.categorical_fields], self.hidden_ids, ids)
            present = present & ~hidden[..., self.numeric_fields]
            numeric = numeric * present
        if not self.league:
            ids[..., COLUMN["league"]] = self.offsets[COLUMN["league"]]
        is_event = (batch.kind == EVENT).reshape(-1)
        # Only real events are looked up: padding, separators and slots carry no fields.
        x = self.kind(batch.kind.long()).reshape(size * width, -1)
        events = self.table(ids.reshape(size * width, -1)[is_event])
        numbers = torch.cat([numeric, present.to(numeric.dtype)], dim=-1).reshape(size * width, -1)[is_event]
        events = events + self.numeric(numbers)
        known = None
        if self.matchup is not None:
            known = self.matchup(batch.matchup)
            if hidden is not None:
                known = known * ~hidden[..., self.whose_turn].unsqueeze(-1)
            if self.ahead is None:
                events = events + known.reshape(size * width, -1)[is_event]
        x = x.index_put((is_event.nonzero()[:, 0],), events.to(x.dtype), accumulate=True).view(size, width, -1)
        if self.ahead is not None:
            following = (batch.kind[:, 1:] == EVENT).reshape(-1)
            situation = ids[:, 1:, : self.situation].reshape(-1, self.situation)[following]
            coming = self.ahead(situation)
            if known is not None:
                coming = coming + known[:, 1:].reshape(-1, known.shape[-1])[following]
            if self.repertoire is not None:
                assert batch.repertoire is not None
                mix = self.repertoire(batch.repertoire.exp())
                if hidden is not None:
                    mix = mix * ~hidden[..., self.whose_turn].unsqueeze(-1)
                coming = coming + mix[:, 1:].reshape(-1, mix.shape[-1])[following]
            at = (batch.kind[:, 1:] == EVENT).nonzero()
            x = x.index_put((at[:, 0], at[:, 1]), coming.to(x.dtype), accumulate=True)
        slot = self.role(batch.role)
        if self.prior is not None:
            slot = slot + self.prior(batch.prior)
        first = (batch.kind == SLOT).unsqueeze(-1).to(x.dtype)
        slotted: Tensor = x + first * slot.unsqueeze(1).to(x.dtype)
        return slotted
