"""The table of pre-training objectives: one line each."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Discriminator

from fullcount.objectives.masked_gamestate import MaskedGamestateConfig
from fullcount.objectives.next_event import NextEventConfig

AnyObjective = Annotated[
    MaskedGamestateConfig | NextEventConfig,
    Discriminator("kind"),
]

#: kind -> configuration class.
OBJECTIVES: dict[str, type] = {c.model_fields["kind"].default: c for c in get_args(get_args(AnyObjective)[0])}


def spelt_out(value: Any) -> Any:
    """`"masked_gamestate+inning"` stands for both with their defaults."""
    if isinstance(value, str):
        value = value.split("+")
    if not isinstance(value, list | tuple):
        return value
    return tuple({"kind": one.strip()} if isinstance(one, str) else one for one in value)


Objectives = Annotated[tuple[AnyObjective, ...], BeforeValidator(spelt_out)]
