"""The table of architectures: one line each."""

from __future__ import annotations

from fullcount.model.hierarchical import HierarchicalTransformer
from fullcount.model.transformer import EncoderConfig, GamestateTransformer

ARCHITECTURES: dict[str, type[GamestateTransformer]] = {
    "flat": GamestateTransformer,
    "hierarchical": HierarchicalTransformer,
}


def build_encoder(config: EncoderConfig) -> GamestateTransformer:
    """A new encoder of the configured architecture."""
    return ARCHITECTURES[config.architecture](config)
