"""The table of pre-training objectives: one line each."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator

from fullcount.objectives.contrastive import ContrastiveConfig
from fullcount.objectives.identity import IdentityConfig
from fullcount.objectives.inning import InningConfig
from fullcount.objectives.masked_gamestate import MaskedGamestateConfig
from fullcount.objectives.masked_plate_appearance import MaskedPlateAppearanceConfig
from fullcount.objectives.next_event import NextEventConfig
from fullcount.objectives.pitch_order import PitchOrderConfig
from fullcount.objectives.replaced_event import ReplacedEventConfig
from fullcount.objectives.score import ScoreConfig

AnyObjective = Annotated[
    ContrastiveConfig
    | IdentityConfig
    | InningConfig
    | MaskedGamestateConfig
    | MaskedPlateAppearanceConfig
    | NextEventConfig
    | PitchOrderConfig
    | ReplacedEventConfig
    | ScoreConfig,
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


def _each_once(value: tuple[AnyObjective, ...]) -> tuple[AnyObjective, ...]:
    kinds = [one.kind for one in value]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"{kind} is there twice")
    return value


Objectives = Annotated[tuple[AnyObjective, ...], BeforeValidator(spelt_out), AfterValidator(_each_once)]
