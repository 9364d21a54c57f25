"""Ways to fit a trained encoder to a target: what is injected and what trains.

The contract: `apply(encoder)` prepares the encoder in place (freezing, injecting) and returns it; `rate(name)` is the
learning-rate factor of an encoder parameter. The loop and the heads are the same for all of them.
"""

from __future__ import annotations

from typing import Protocol

from fullcount.model.transformer import GamestateTransformer


class Adaptation(Protocol):
    """One way of fitting an encoder."""

    name: str

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        """Prepare the encoder: set what trains, inject what is added."""
        ...

    def rate(self, parameter: str) -> float:
        """Learning rate of a trained encoder parameter relative to the head's."""
        ...


class Linear:
    """Frozen encoder: only the head trains. Each game is encoded once and kept."""

    name = "linear"

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        return encoder.requires_grad_(False).eval()

    def rate(self, parameter: str) -> float:
        return 0.0


class Full:
    """Everything trains; the encoder at a tenth of the head's rate."""

    name = "full"

    def __init__(self, encoder_rate: float = 0.1) -> None:
        self.encoder_rate = encoder_rate

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        return encoder.requires_grad_(True)

    def rate(self, parameter: str) -> float:
        return self.encoder_rate


ADAPTATIONS: dict[str, type[Linear] | type[Full]] = {"linear": Linear, "full": Full}
