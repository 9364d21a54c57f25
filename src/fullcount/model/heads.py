"""Read-outs from event embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullcount.fields import CATEGORICAL, COLUMN, FIELDS, NUMERIC, TARGETS, Field, Role


class FieldHeads(nn.Module):
    """One linear read-out for all predicted categorical fields: [n, d_model] -> {field: logits [n, vocabulary]}."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.fields = tuple(f for f in TARGETS if not f.is_numeric)
        self.widths = [f.capacity - 1 for f in self.fields]  # id 0, "missing", is never predicted
        self.out = nn.Linear(d_model, sum(self.widths))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.out(x).split(self.widths, dim=-1)
        return {f.name: part for f, part in zip(self.fields, logits, strict=True)}


#: Fields of a pitch that its situation does not tell, in the order in which they happen.
UNFOLDING = tuple(f for f in FIELDS if f.role is not Role.SITUATION)

#: What may be drawn: (field, ids drawn so far by field name) -> [n, vocabulary] bool, or None for everything.
Legal = Callable[[Field, dict[str, Tensor]], Tensor | None]


class FieldChain(nn.Module):
    """A pitch field by field in the order in which it happens, each field given those before it.

    p(pitch | state) = product over `UNFOLDING` of p(field | state, earlier fields): a softmax for a categorical field,
    a mixture of `components` Gaussians (on the scaled value) for a numeric one. Missing values are neither predicted
    nor conditioned on.
    """

    def __init__(self, d_model: int, components: int = 4) -> None:
        super().__init__()
        self.components = components

        def read(f: Field) -> nn.Module:
            width = 3 * components if f.is_numeric else f.capacity - 1
            return nn.Sequential(nn.Linear(d_model, d_model), nn.GELU(approximate="tanh"), nn.Linear(d_model, width))

        def tell(f: Field) -> nn.Module:
            return nn.Linear(2, d_model, bias=False) if f.is_numeric else nn.Embedding(f.capacity, d_model)

        self.read = nn.ModuleDict({f.name: read(f) for f in UNFOLDING})
        self.tell = nn.ModuleDict({f.name: tell(f) for f in UNFOLDING[:-1]})  # nothing comes after the last one
        for module in self.tell.values():
            nn.init.normal_(module.weight, std=0.5)  # type: ignore[arg-type]

    def told(self, field: Field, state: Tensor, categorical: Tensor, numeric: Tensor, present: Tensor) -> Tensor:
        """`state` [n, d_model] after `field` has become known; a missing value tells nothing."""
        column = COLUMN[field.name]
        if field.name not in self.tell:
            return state
        if field.is_numeric:
            pair = torch.stack([numeric[:, column], present[:, column].to(numeric.dtype)], dim=-1)
            return state + self.tell[field.name](pair).to(state.dtype)  # type: ignore[no-any-return]
        ids = categorical[:, column].long()
        return state + (self.tell[field.name](ids) * (ids > 0).unsqueeze(-1)).to(state.dtype)  # type: ignore[no-any-return]

    def forward(
        self,
        state: Tensor,
        categorical: Tensor,
        numeric: Tensor,
        present: Tensor,
        unseen: Tensor | None = None,
        repertoire: Tensor | None = None,
    ) -> Iterator[tuple[Field, Tensor, Tensor]]:
        """Negative log-likelihood in nats of each field over the pitches that have it.

        Args:
            state: [n, d_model] what is known before each pitch.
            categorical, numeric, present: [n, fields] the pitches, as in `Batch`.
            unseen: [n] bool, pitches whose delivery is not shown to the fields after it, so that results can also be
                asked for before the pitch is thrown.
            repertoire: [n, types] log-shares from which the kind of pitch is a departure.

        Yields:
            field, sum of its losses, number of pitches that have it.
        """
        rows, before = None, state
        for field in UNFOLDING:
            column = COLUMN[field.name]
            if field.is_numeric:
                if rows is None:  # most sources track few pitches: the others cost nothing
                    rows = present.any(dim=1).nonzero()[:, 0]
                    part = [t[rows] for t in (state, categorical, numeric, present)]
                there = part[3][:, column]
                density = self.log_density(field, part[0][there], part[2][there, column])
                yield field, -density.sum(), there.sum()
                part[0] = self.told(field, *part)
                continue
            if rows is not None:
                state = state.index_copy(0, rows, part[0])
                rows = None
            if field.role is Role.RESULT and unseen is not None:
                state, unseen = torch.where(unseen.unsqueeze(-1), before, state), None
            wanted = categorical[:, column].long() - 1
            logits = self.read[field.name](state).float()
            if field.name == "pitch_type" and repertoire is not None:
                logits = logits + repertoire
            yield field, F.cross_entropy(logits, wanted, ignore_index=-1, reduction="sum"), (wanted >= 0).sum()
            state = self.told(field, state, categorical, numeric, present)

    def log_density(self, field: Field, state: Tensor, value: Tensor) -> Tensor:
        """[n] log-density of the scaled value."""
        weight, mean, spread = self._mixture(field, state)
        z = (value.float().unsqueeze(-1) - mean) / spread
        return torch.logsumexp(weight - 0.5 * z * z - spread.log() - 0.5 * log(2 * pi), dim=-1)

    def _mixture(self, field: Field, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and standard deviations [n, components]."""
        weight, mean, spread = self.read[field.name](state).float().chunk(3, dim=-1)
        start = torch.linspace(-1, 1, self.components, device=mean.device)
        return weight.log_softmax(-1), mean + start, F.softplus(spread) + 0.03

    @torch.no_grad()
    def draw(
        self,
        state: Tensor,
        generator: torch.Generator,
        present: Tensor,
        legal: Legal | None = None,
        pitch_types: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Pitches drawn field by field.

        Args:
            state: [n, d_model]. generator: of the state's device.
            present: [n, numeric fields] bool, which numeric fields the drawn pitches have.
            legal: which values may come.
            pitch_types: whether kinds of pitches are drawn (sources without them: no).

        Returns:
            categorical [n, fields] int16 ids (situation fields 0) and numeric [n, fields] scaled values.
        """
        n = len(state)
        categorical = torch.zeros(n, len(CATEGORICAL), dtype=torch.int16, device=state.device)
        numeric = torch.zeros(n, len(NUMERIC), device=state.device)
        drawn: dict[str, Tensor] = {}
        tracked = bool(present.any())
        for field in UNFOLDING:
            column = COLUMN[field.name]
            if field.is_numeric:
                if not tracked:
                    continue
                weight, mean, spread = self._mixture(field, state)
                which = torch.multinomial(weight.exp(), 1, generator=generator)
                noise = torch.randn(n, generator=generator, device=state.device)
                value = mean.gather(1, which)[:, 0] + spread.gather(1, which)[:, 0] * noise
                numeric[:, column] = value.clamp(-6, 6) * present[:, column]
            elif field.name != "pitch_type" or pitch_types:
                logits = self.read[field.name](state).float()
                allowed = legal(field, drawn) if legal is not None else None
                if allowed is not None:
                    logits = logits.masked_fill(~allowed, -torch.inf)
                drawn[field.name] = 1 + torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
                categorical[:, column] = drawn[field.name].to(torch.int16)
            else:
                continue
            state = self.told(field, state, categorical, numeric, present)
        return categorical, numeric
