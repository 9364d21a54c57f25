"""Heads: from a player's representation to expected counts.

Both answer with expected counts of the seven named plate-appearance outcomes (K to HBP, the order of
`fields.OUTCOMES[1:]`) and of the role's extras, per game (game grain) or per plate appearance (season grain).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullcount.fields import OUTCOMES
from fullcount.objectives.base import Losses


@dataclass
class Targets:
    """What is to be predicted of B players, with what was known of them before. All float tensors.

    Attributes:
        counts: [B, 8] outcomes that happened. extras: [B, E]. exposure: [B] plate appearances (batters faced).
        prior: [B, 8] the player's own shrunken outcome mix. opponent, league: [B, 8] mixes of whom he meets and of
            everybody. prior_extras, league_extras: [B, E] per exposure. prior_exposure, league_exposure: [B] expected
        exposure a game (game grain).
        features: [B, P] the prior as a network reads it, and behind it a schedule where one is read.
    """

    counts: Tensor
    extras: Tensor
    exposure: Tensor
    prior: Tensor
    opponent: Tensor
    league: Tensor
    prior_extras: Tensor
    prior_exposure: Tensor
    league_extras: Tensor
    league_exposure: Tensor
    features: Tensor

    def to(self, device: torch.device) -> Targets:
        """The targets on another device."""
        return Targets(**{n: t.to(device) for n, t in self.__dict__.items()})


def log5(player: Tensor, opponent: Tensor, league: Tensor) -> Tensor:
    """Log of the odds-ratio mix of two players, up to a constant a row: log p + log o - log l, [B, 8]."""
    tiny = 1e-5
    return (player + tiny).log() + (opponent + tiny).log() - (league + tiny).log()


class CountHead(nn.Module):
    """Prior-anchored head (the default): log-odds = log-odds(prior) + W . representation, likelihoods of counts.

    The outcome mix is one multinomial that sums to one; extras and exposure are Poisson with the prior's rate as
    offset. W starts at zero: before the first step the head predicts the prior, and with nothing to say it stays there.

    Args:
        width: of the representation.
        extras: number of extra counts.
        features: width of the prior features, which it reads too (ageing is a departure from the prior).
        schedule: width of a schedule's features, which stand behind them (see `adaptation.schedule`).
        use_prior: off: the league's mix instead of the player's, and no features.
        use_opponent: off: everybody meets the league.
        game: game grain: exposure is predicted too.
        targets: places of the outputs that are fitted (outcomes first, extras behind); none: all. What is not is told
            apart from outs by the prior alone.
    """

    def __init__(
        self,
        width: int,
        extras: int,
        features: int,
        *,
        use_prior: bool = True,
        use_opponent: bool = True,
        game: bool,
        targets: tuple[int, ...] = (),
        schedule: int = 0,
    ) -> None:
        super().__init__()
        self.use_prior, self.use_opponent, self.game = use_prior, use_opponent, game
        self.named = len(OUTCOMES) - 1
        outputs = self.named + extras + 1
        chosen = targets or tuple(range(outputs - 1))
        self._fitted = torch.tensor([p + 1 for p in chosen if p < self.named], dtype=torch.long)
        self._extras = torch.tensor([p - self.named for p in chosen if p >= self.named], dtype=torch.long)
        self._rest = torch.tensor([p for p in range(self.named + 1) if p - 1 not in chosen], dtype=torch.long)
        self.embedding = nn.Linear(width, outputs)
        self.prior = nn.Linear(features, outputs, bias=False) if use_prior else None
        self.schedule = nn.Linear(schedule, outputs, bias=False) if schedule else None
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def _parts(self, representation: Tensor, t: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Log outcome mix [B, 8], log extras per exposure [B, E], log exposure [B]."""
        shift = self.embedding(representation).float()
        of_prior = t.features.shape[1] - (self.schedule.in_features if self.schedule is not None else 0)
        if self.prior is not None:
            shift = shift + self.prior(t.features[:, :of_prior]).float()
        if self.schedule is not None:
            shift = shift + self.schedule(t.features[:, of_prior:]).float()
        base = log5(t.prior if self.use_prior else t.league, t.opponent if self.use_opponent else t.league, t.league)
        mix = (base + F.pad(shift[:, : self.named], (1, 0))).log_softmax(-1)
        extras = ((t.prior_extras if self.use_prior else t.league_extras) + 1e-6).log() + shift[:, self.named : -1]
        exposure = ((t.prior_exposure if self.use_prior else t.league_exposure) + 1e-6).log() + shift[:, -1]
        return mix, extras, exposure

    def loss(self, representation: Tensor, t: Targets) -> Losses:
        """Negative log-likelihoods in nats per plate appearance: `outcome`, `extras` and, at game grain, `exposure`."""
        mix, extras, exposure = self._parts(representation, t)
        losses = Losses()
        # Outs and outcomes that are not fitted are one class.
        mix = torch.cat([mix[:, self._rest].logsumexp(-1, keepdim=True), mix[:, self._fitted]], dim=-1)
        counts = torch.cat([t.counts[:, self._rest].sum(-1, keepdim=True), t.counts[:, self._fitted]], dim=-1)
        losses.add("outcome", -(counts * mix).sum(), t.counts.sum())
        expected = (extras + t.exposure.clamp(min=1e-6).log().unsqueeze(-1))[:, self._extras]
        # Constants dropped; divided by plate appearances, so that the two likelihoods keep their true proportion.
        losses.add("extras", (expected.exp() - t.extras[:, self._extras] * expected).sum(), t.counts.sum())
        if self.game:
            losses.add("exposure", (exposure.exp() - t.exposure * exposure).sum(), t.counts.sum())
        return losses

    def mix(self, representation: Tensor, t: Targets) -> Tensor:
        """[B, 8] probabilities of a plate appearance's outcomes, in the order of `fields.OUTCOMES`."""
        return self._parts(representation, t)[0].exp()

    def expected(self, representation: Tensor, t: Targets) -> Tensor:
        """[B, 7 + E] expected counts, per game (game grain) or per plate appearance (season grain)."""
        mix, extras, exposure = self._parts(representation, t)
        rates = torch.cat([mix[:, 1:].exp(), extras.exp()], dim=-1)
        return rates * exposure.exp().unsqueeze(-1) if self.game else rates


class LinearHead(nn.Module):
    """The plain reference: one linear map, squared error, no prior, no opponent, no exposure.

    Targets are per-game counts (game grain) or rates per plate appearance (season grain), divided by their standard
    deviation over the training set so that no statistic drowns the others.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, width: int, extras: int, *, game: bool) -> None:
        super().__init__()
        self.game = game
        outputs = len(OUTCOMES) - 1 + extras
        self.embedding = nn.Linear(width, outputs)
        nn.init.zeros_(self.embedding.weight)
        nn.init.zeros_(self.embedding.bias)
        self.register_buffer("center", torch.zeros(outputs))
        self.register_buffer("spread", torch.ones(outputs))

    def _wanted(self, t: Targets) -> Tensor:
        y = torch.cat([t.counts[:, 1:], t.extras], dim=-1)
        return y if self.game else y / t.exposure.clamp(min=1).unsqueeze(-1)

    def scale_to(self, t: Targets) -> None:
        """Set centre and spread from the training set."""
        y = self._wanted(t)
        self.center.copy_(y.mean(dim=0))
        self.spread.copy_(y.std(dim=0).clamp(min=1e-6))

    def loss(self, representation: Tensor, t: Targets) -> Losses:
        """Squared error in units of the training set's standard deviations."""
        error = self.embedding(representation).float() - (self._wanted(t) - self.center) / self.spread
        losses = Losses()
        losses.add("squared", error.square().sum(), torch.tensor(float(error.numel()), device=error.device))
        return losses

    def expected(self, representation: Tensor, t: Targets) -> Tensor:
        """[B, 7 + E] expected counts (game) or rates (season), not below zero."""
        expected: Tensor = self.center + self.spread * self.embedding(representation).float()
        return expected.clamp(min=0)
