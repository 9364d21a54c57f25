"""Player identity: whose games are these?"""

from __future__ import annotations

from datetime import date
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fullcount.batches import EVENT, Batch
from fullcount.errors import FullcountError
from fullcount.fields import FIELDS
from fullcount.model.transformer import GamestateTransformer, mean_of_events
from fullcount.objectives.base import (
    Data,
    Losses,
    Objective,
    ObjectiveConfig,
    generator_of,
    hide_fields,
)
from fullcount.store import ROLES, PlayerRole, Store, day_number

#: Half of a player's games are in his own park, which is to name his team and not him.
TELLING = frozenset({"park", "league"})
EVERYTHING = frozenset(f.name for f in FIELDS)


class IdentityConfig(ObjectiveConfig):
    """Options of player identity."""

    kind: Literal["identity"] = "identity"
    rate: float = Field(0.3, ge=0, lt=1)  # share of events hidden altogether
    minimum_events: int = Field(1000, gt=0)  # players with fewer before the cut-off are no class

    def build(self, encoder: GamestateTransformer, data: Data) -> Identity:
        batters, pitchers = (regulars(data.store, role, data.before, self.minimum_events) for role in ROLES)
        return Identity(encoder, batters, pitchers, self.rate)


def regulars(store: Store, role: PlayerRole, before: date, minimum_events: int) -> Tensor:
    """Ids, ascending, of the players with at least `minimum_events` events in a role before a date.

    Raises:
        FullcountError: there is none.
    """
    games = store.appearances(role)
    earlier = np.asarray(games.day) < day_number(before)
    ids, place = np.unique(np.asarray(games.player)[earlier], return_inverse=True)
    events = np.bincount(place, np.asarray(games.events)[earlier], minlength=len(ids))
    if not (events >= minimum_events).any():
        raise FullcountError(
            f"identity: no {role} has {minimum_events} events before {before}; lower minimum_events, or ingest more"
        )
    return torch.from_numpy(ids[events >= minimum_events].astype(np.int64))


class Identity(Objective):
    """Predict the player of a window from the mean of its events' states, one class for each regular of his role.

    What would name him without his play is blank: his prior, what was known of both players of each event, the park.
    The opponents' ids are in no batch, so a window has one target: its own player.

    Args:
        encoder: what is trained.
        batters, pitchers: [classes] ids, ascending; they are kept with the weights.
        rate: share of events hidden altogether.
    """

    batters: Tensor
    pitchers: Tensor

    def __init__(self, encoder: GamestateTransformer, batters: Tensor, pitchers: Tensor, rate: float = 0.3) -> None:
        super().__init__()
        self.encoder, self.rate = encoder, rate
        self.register_buffer("batters", batters)
        self.register_buffer("pitchers", pitchers)
        self.batter = nn.Linear(encoder.config.d_model, len(batters))
        self.pitcher = nn.Linear(encoder.config.d_model, len(pitchers))

    def represent(self, batch: Batch) -> Tensor:
        """[B, d_model] what is made of the windows' play."""
        draws = torch.rand(batch.kind.shape, generator=generator_of(batch)).to(batch.kind.device)
        events = batch.kind == EVENT
        hidden = hide_fields(events & (draws < self.rate), EVERYTHING) | hide_fields(events, TELLING)
        return mean_of_events(self.encoder, batch.nameless(), hidden)

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy (nats) of the player over the windows of regulars, for batters and for pitchers."""
        states = self.represent(batch)
        losses = Losses()
        for number, (name, ids) in enumerate(zip(ROLES, (self.batters, self.pitchers), strict=True)):
            own = batch.role == number
            place = torch.searchsorted(ids, batch.player[own]).clamp(max=len(ids) - 1)
            wanted = torch.where(ids[place] == batch.player[own], place, -1)
            losses.classify(name, getattr(self, name)(states[own]), wanted)
        return losses
