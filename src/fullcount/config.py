"""Configuration: frozen, typed, and a typo is named with its path before any data is read."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from fullcount.adaptation.methods import AnyAdaptation, Linear
from fullcount.adaptation.performance import HeadName, Reads
from fullcount.adaptation.samples import Grain
from fullcount.adaptation.schedule import ScheduleName
from fullcount.batches import CurriculumConfig
from fullcount.errors import FullcountError
from fullcount.model.transformer import EncoderConfig
from fullcount.objectives.combination import Weighting
from fullcount.objectives.masked_gamestate import MaskedGamestateConfig
from fullcount.objectives.registry import Objectives, spelt_out
from fullcount.store import ROLES, PlayerRole, Store
from fullcount.training.loop import TrainConfig
from fullcount.windows import Window, equal_games

Model = TypeVar("Model", bound=BaseModel)


class Base(BaseModel):
    """Frozen; unknown keys are refused. A group that is given in part keeps the rest of its defaults here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _keeps_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        groups = {n: f.default for n, f in cls.model_fields.items() if isinstance(f.default, BaseModel)}
        kept = {
            n: default.model_dump(exclude_unset=True) | data[n]
            for n, default in groups.items()
            if isinstance(data.get(n), dict)
        }
        return {**data, **kept}


class WindowConfig(Base):
    """A window by role (asymmetric by default, see `windows.Window`); every limit that is given holds."""

    games: PositiveInt | Literal["equal"] | None = None  # "equal": see `windows.equal_games`
    events: int = Field(4096, gt=0)
    plate_appearances: int | None = Field(None, gt=0)
    appearances: Literal["all", "starts", "relief"] = "all"
    postseason: bool = False

    def window(self, role: PlayerRole) -> Window:
        """The window for a role. FullcountError while its games are "equal" (see `settled`)."""
        if self.games == "equal":
            raise FullcountError(f'{role}: games = "equal" has no number yet: settle the configuration first')
        return Window(role, self.games, self.events, self.appearances, self.postseason, self.plate_appearances)


class PretrainConfig(Base):
    """A pre-training run."""

    objectives: Objectives = Field((MaskedGamestateConfig(),), min_length=1)  # or "masked_gamestate+inning"
    weighting: Weighting = "fixed"  # of several objectives: by their `weight`, or learned
    encoder: EncoderConfig = EncoderConfig()
    batter: WindowConfig = WindowConfig(games=30, events=480)
    pitcher: WindowConfig = WindowConfig(games=5, events=480)
    roles: tuple[PlayerRole, ...] = Field(ROLES, min_length=1)  # whose sequences are read
    before: date  # the training cut-off: no event on or after it is seen
    since: date = date(1988, 1, 1)
    validation_days: int = Field(60, gt=0)  # the last days of play before the cut-off are kept for validation
    batch_tokens: int = Field(8192, gt=0)
    league_balance: float = Field(0.0, ge=0, le=1)  # 0: leagues as their events fall; 1: each equally often
    untrained: bool = False  # new weights are the run: what is training worth?
    curriculum: CurriculumConfig | None = None  # regulars first; `curriculum={}` for its defaults
    train: TrainConfig = TrainConfig(lr=2e-3)

    def window(self, role: PlayerRole) -> Window:
        """The window of a role."""
        return (self.batter if role == "batter" else self.pitcher).window(role)

    @model_validator(mode="before")
    @classmethod
    def _limited_as_asked(cls, data: Any) -> Any:
        """A window asked for in plate appearances, or "equal" games, is not cut by the limits of the default one."""
        for role in ROLES:
            window = data.get(role) if isinstance(data, dict) else None
            if isinstance(window, dict) and (window.get("games") == "equal" or window.get("plate_appearances")):
                data = {**data, role: {"games": None, "events": 4096, **window}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _looks_back(cls, data: Any) -> Any:
        """Next-event prediction gets the causal encoder it needs where nothing else is said."""
        if not isinstance(data, dict) or not isinstance(data.get("objectives"), str | list | tuple):
            return data
        objectives = spelt_out(data["objectives"])
        kinds = [o.get("kind") if isinstance(o, dict) else getattr(o, "kind", None) for o in objectives]
        encoder = data.get("encoder", {})
        if "next_event" in kinds and isinstance(encoder, dict):
            data = {**data, "encoder": {"causal": True, "use_prior": False, "matchup": True, **encoder}}
        return data


class FinetuneConfig(Base):
    """A fitting run: one role, one grain."""

    role: PlayerRole
    grain: Grain = "season"
    adaptation: AnyAdaptation = Linear()  # or its name: "linear", "full", "gradual", "adapters", "prefix", "lora" ...
    head_first: bool = False  # begin with the head that the frozen encoder gets (Kumar et al. 2022)
    head_rate: float = Field(1.0, gt=0, le=1)  # the head's share of train.lr, which is the rate of what is added
    scratch: bool = False  # new weights in the encoder's shape: what is pre-training worth?
    head: HeadName = "anchored"
    targets: tuple[str, ...] = ()  # outcomes and extras that are fitted; none: all
    use_prior: bool = True
    use_opponent: bool = True
    use_embedding: bool = True
    relative: bool | None = None  # embeddings less the league's on the day; default: where that is possible
    embedding_decay: float = Field(20.0, ge=0)  # weight decay of what reads the embedding; the prior's has train's
    half_lives: tuple[PositiveFloat, ...] = Field((60.0, 500.0), min_length=1)
    window: WindowConfig | None = None
    reads: Reads = "games"  # single games, whose mean is taken, or the whole window at once
    before: date  # the training cut-off: every target had happened before it
    since: date = date(1990, 1, 1)
    schedule: ScheduleName = "none"  # what awaits a player's team in the season to come, read beside the prior
    leagues: tuple[str, ...] | None = None  # of the targets, each with its own league's priors; default: the main one
    validate_since: date | None = None  # targets from here on choose when to stop; default: the last tenth of the time
    batch_samples: int | None = Field(None, gt=0)  # default: 256, or 16 when games are encoded in the loop
    stretch: int | None = Field(None, gt=0)  # samples of a player in a row that go together; default 8 for games
    train: TrainConfig = TrainConfig(
        steps=2000, lr=3e-3, weight_decay=0.1, monitor="total", validate_every=50, patience=12, precision="32-true"
    )

    @model_validator(mode="after")
    def _fits(self) -> FinetuneConfig:
        if self.relative and not self._comparable:
            raise ValueError("relative needs grain = season and adaptation = linear: it compares everybody on one day")
        if self.head_first and self.keeps_embeddings:
            raise ValueError("head_first: with adaptation = linear the head is all there is")
        if self.schedule != "none" and not (self.grain == "season" and self.head == "anchored" and self.use_prior):
            raise ValueError(
                "schedule needs grain = season, head = anchored and use_prior: it is read beside the prior"
            )
        if self.targets and self.head != "anchored":
            raise ValueError("targets are chosen by the anchored head; the linear one fits all")
        return self

    @property
    def keeps_embeddings(self) -> bool:
        """Whether nothing of the encoder trains, so that what it reads is encoded once."""
        return isinstance(self.adaptation, Linear)

    def frozen_first(self) -> FinetuneConfig:
        """The fit of the head alone on the same windows, for this one to begin with (`head_first`)."""
        w = self.history_window()
        window = WindowConfig(**{name: getattr(w, name) for name in WindowConfig.model_fields})
        shared = self.train.model_dump(include={"seed", "devices", "strategy", "accumulate"})
        head = FinetuneConfig.model_fields["train"].default.model_copy(update=shared)
        changes = {
            "adaptation": Linear(),
            "head_first": False,
            "head_rate": 1.0,
            "relative": False,
            "window": window,
            "train": head,
        }
        return self.model_copy(update={**changes, "batch_samples": None, "stretch": None})

    @property
    def _comparable(self) -> bool:
        return self.grain == "season" and self.keeps_embeddings

    def is_relative(self) -> bool:
        """As configured, or where everybody is asked about on one day and embeddings are kept."""
        return (self._comparable and self.leagues is None) if self.relative is None else self.relative

    def samples_per_batch(self) -> int:
        """The configured number, or what a step can carry: a trained encoder reads every game of every window."""
        return self.batch_samples or (256 if self.keeps_embeddings else 16)

    def samples_in_a_row(self) -> int:
        """As configured, or 8 where next games are fitted: they share most of their windows."""
        return self.stretch or (8 if self.grain == "game" and not self.keeps_embeddings else 1)

    def history_window(self) -> Window:
        """The configured window, or by role: two seasons where games are encoded once, else the role's last games."""
        if self.window is not None:
            return self.window.window(self.role)
        if self.grain == "game" or not self.keeps_embeddings or self.reads == "window":
            return Window(self.role)
        return Window(self.role, games=320 if self.role == "batter" else 130, events=16384)


def laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables of keys, one over the other: where both have a table of a name, those are laid over one another too."""
    both = {
        k: laid_over(under[k], v) for k, v in over.items() if isinstance(v, dict) and isinstance(under.get(k), dict)
    }
    return {**under, **over, **both}


def settled(config: Model, store: Store, before: date) -> Model:
    """`config` with a number for the games of every window that has "equal" ones, by play before the date."""
    numbers = {}
    for name, window in config:
        if isinstance(window, WindowConfig) and window.games == "equal":
            role = cast(PlayerRole, getattr(config, "role", name))
            numbers[name] = window.model_copy(update={"games": equal_games(store, role, before)})
    return config.model_copy(update=numbers)


def load(model: type[Model], path: Path | None, overrides: list[str]) -> Model:
    """A configuration from a TOML file and `key.path=value` overrides (values in TOML; bare words are strings).

    Raises:
        FullcountError: names the file, the key and what was expected.
    """
    data: dict[str, Any] = {}
    where = "options"
    if path is not None:
        where = str(path)
        if not path.exists():
            raise FullcountError(f"{path}: no such file")
        try:
            data = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise FullcountError(f"{path}: not TOML: {error}") from error
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise FullcountError(f"-o {item}: expected key=value")
        target = data
        *parents, last = key.strip().split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise FullcountError(f"-o {item}: {parent} is one value, it has no keys")
        target[last] = _value(value.strip())
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise FullcountError(f"{where}: {in_words(error)}") from error


def in_words(error: ValidationError) -> str:
    """The first thing that is wrong: its place, and what was expected."""
    first = error.errors()[0]
    kind, context = first["type"], first.get("ctx", {})
    at = ".".join(str(p) for p in first["loc"] if p != "constrained-int") or "configuration"
    said = {
        "extra_forbidden": "there is no such option",
        "union_tag_invalid": f"no {context.get('tag')!r}; choose one of {context.get('expected_tags')}",
        "union_tag_not_found": "say which with its key `kind`",
    }
    return f"{at}: {said.get(kind) or first['msg'].removeprefix('Value error, ')}"


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
