"""Ways to fit a trained encoder to a target: what is injected, what trains, how fast and when.

The contract: `apply(encoder)` prepares the encoder in place (freezing, injecting) and returns it, with everything that
ever trains set to train; `rate` is the learning rate of an encoder parameter relative to the head's; `at_step` may
freeze some of it for a while. Each method is its own configuration, told apart by `kind`; the loop and the heads are
the same for all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

import torch.nn.functional as F
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fullcount.model.prefix import Prefix
from fullcount.model.transformer import GamestateTransformer


class Adaptation(BaseModel):
    """One way of fitting an encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    #: Whether `at_step` changes what trains.
    unfreezes: ClassVar[bool] = False

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        """Prepare the encoder: set what trains, inject what is added."""
        return encoder.requires_grad_(False)

    def rate(self, encoder: GamestateTransformer, parameter: str) -> float:
        """Learning rate of a trained parameter of the encoder relative to the head's."""
        return 1.0

    def at_step(self, encoder: GamestateTransformer, step: int, pass_steps: int) -> None:
        """What trains in a step, a function of its number alone. `pass_steps`: steps of a pass over the samples."""


class Linear(Adaptation):
    """Frozen encoder: only the head trains. What it reads is encoded once and kept."""

    kind: Literal["linear"] = "linear"


class Full(Adaptation):
    """Everything trains; the encoder at a share of the head's rate."""

    kind: Literal["full"] = "full"
    encoder_rate: float = Field(0.1, gt=0)

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        return encoder.requires_grad_(True)

    def rate(self, encoder: GamestateTransformer, parameter: str) -> float:
        return self.encoder_rate


class Discriminative(Full):
    """Everything trains, each layer slower than the one above it by a factor (Howard & Ruder 2018: 2.6)."""

    kind: Literal["discriminative"] = "discriminative"  # type: ignore[assignment]
    decay: float = Field(2.6, ge=1)

    def rate(self, encoder: GamestateTransformer, parameter: str) -> float:
        depth = next(i for i, group in enumerate(layer_groups(encoder)) if parameter in group)
        return self.encoder_rate / self.decay**depth


class Gradual(Discriminative):
    """Gradual unfreezing (Howard & Ruder 2018): the head first, then one layer more at a time, from top to bottom.

    A layer joins every `every` passes over the samples, or steps. Layers not yet reached are frozen bit for bit.
    """

    kind: Literal["gradual"] = "gradual"  # type: ignore[assignment]
    decay: float = Field(1.0, ge=1)
    every: float = Field(1.0, gt=0)
    unit: Literal["passes", "steps"] = "passes"
    unfreezes: ClassVar[bool] = True

    def at_step(self, encoder: GamestateTransformer, step: int, pass_steps: int) -> None:
        reached = int(step / (self.every * (pass_steps if self.unit == "passes" else 1)))
        parameters = dict(encoder.named_parameters())
        for depth, group in enumerate(layer_groups(encoder)):
            for name in group:
                parameters[name].requires_grad_(depth < reached)


class Adapters(Adaptation):
    """A bottleneck module after each layer's feed-forward block of a frozen encoder (Houlsby et al. 2019)."""

    kind: Literal["adapters"] = "adapters"
    bottleneck: int = Field(8, gt=0)

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        encoder.requires_grad_(False)
        for block in encoder.layers:
            block.adapter = AdapterModule(encoder.config.d_model, self.bottleneck)
        return encoder


class PrefixTuning(Adaptation):
    """Learned vectors before the sequences of a frozen encoder, or keys and values in every layer (`model.prefix`)."""

    kind: Literal["prefix"] = "prefix"
    length: int = Field(8, gt=0)
    per_layer: bool = False

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        encoder.requires_grad_(False)
        c = encoder.config
        encoder.prefix = Prefix(1, self.length, len(encoder.blocks), c.heads, c.d_model, self.per_layer)
        return encoder


class LoRA(Adaptation):
    """A low-rank departure of the attention projections of a frozen encoder (Hu et al. 2022); see `merge`."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(4, gt=0)
    scale: float = Field(2.0, gt=0)  # alpha / rank

    def apply(self, encoder: GamestateTransformer) -> GamestateTransformer:
        encoder.requires_grad_(False)
        for projection in _projections(encoder):
            rows, columns = projection.weight.shape
            parametrize.register_parametrization(projection, "weight", LowRank(rows, columns, self.rank, self.scale))
        return encoder


class AdapterModule(nn.Module):
    """x + up(gelu(down(x))), with `up` at zero in the beginning: the adapted encoder is the frozen one."""

    def __init__(self, d_model: int, bottleneck_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(d_model, bottleneck_dim)
        self.up = nn.Linear(bottleneck_dim, d_model)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_model] to the same."""
        return x + self.up(F.gelu(self.down(x), approximate="tanh"))  # type: ignore[no-any-return]


class LowRank(nn.Module):
    """weight + scale * up @ down, with `up` at zero in the beginning."""

    def __init__(self, rows: int, columns: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.up = nn.Parameter(nn.init.zeros_(nn.Linear(rank, rows, bias=False).weight.detach()))
        self.down = nn.Parameter(nn.Linear(columns, rank, bias=False).weight.detach())

    def forward(self, weight: Tensor) -> Tensor:
        """[rows, columns] to the same."""
        return weight + self.scale * (self.up @ self.down)


def merge(encoder: GamestateTransformer) -> GamestateTransformer:
    """The encoder with low-rank departures added into its weights: the same function, without their cost."""
    for projection in _projections(encoder):
        if parametrize.is_parametrized(projection, "weight"):
            parametrize.remove_parametrizations(projection, "weight", leave_parametrized=True)
    return encoder


def layer_groups(encoder: GamestateTransformer) -> list[list[str]]:
    """Names of the encoder's parameters by layer, from top to bottom; what lies below the first layer comes last."""
    layers = encoder.layers[::-1]
    place = {
        id(parameter): depth
        for depth, modules in enumerate([(*encoder.outlet, layers[0]), *((layer,) for layer in layers[1:])])
        for module in modules
        for parameter in module.parameters()
    }
    groups: list[list[str]] = [[] for _ in range(len(encoder.layers) + 1)]
    for name, parameter in encoder.named_parameters():
        groups[place.get(id(parameter), -1)].append(name)
    return groups


def _projections(encoder: GamestateTransformer) -> list[nn.Linear]:
    return [p for block in encoder.layers for p in (block.attention.qkv, block.attention.out)]


_Any = Annotated[
    Linear | Full | Discriminative | Gradual | Adapters | PrefixTuning | LoRA,
    Discriminator("kind"),
]

#: kind -> class.
ADAPTATIONS: dict[str, type[Adaptation]] = {c.model_fields["kind"].default: c for c in get_args(get_args(_Any)[0])}


def _spelt_out(value: Any) -> Any:
    """`"adapters"` stands for adapters with their defaults."""
    return {"kind": value} if isinstance(value, str) else value


AnyAdaptation = Annotated[_Any, BeforeValidator(_spelt_out)]
