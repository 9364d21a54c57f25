"""Read-outs from event embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from fullcount.fields import TARGETS


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
