"""The table of systems' names: how a system is spelled on the command line and in a study."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fullcount.errors import FullcountError
from fullcount.projection.aggregates import GROUPS
from fullcount.projection.anchored import Anchored, Inputs, PitchAggregates
from fullcount.projection.blend import Blend
from fullcount.projection.boosted import BoostedMarcel
from fullcount.projection.external import External
from fullcount.projection.marcel import Marcel
from fullcount.projection.marcel_plus import MarcelPlus
from fullcount.projection.playing_time import InPlayingTime, PlayingTime
from fullcount.projection.system import System
from fullcount.projection.uncertainty import Bands
from fullcount.store import Store

if TYPE_CHECKING:
    from fullcount.projection.representations import Representations


def _multitask() -> System:
    from fullcount.projection.multitask import MultiTask  # torch takes two seconds to import

    return MultiTask()


def _mle() -> System:
    from fullcount.projection.equivalencies import Equivalencies

    return Equivalencies()


#: Systems that need nothing but a league.
SYSTEMS: dict[str, Callable[[], System]] = {
    "marcel": Marcel,
    "marcel_plus": MarcelPlus,
    "marcel_gb": BoostedMarcel,
    "plus_gb": lambda: BoostedMarcel("plus_gb", start=MarcelPlus()),
    "multitask": _multitask,
    "mle": _mle,
}


def make_systems(specs: Sequence[str], store: Store) -> list[System]:
    """Systems from their spellings. What several are made of is made, and so fitted, once.

    `marcel`; `marcel_plus`, with fitted constants; `marcel_gb`, with boosted differences, `plus_gb` from
    `marcel_plus`'s rates, either with `+pitches` reading pitches and batted balls, too; `multitask`, with a net's;
    `mle`, with minor-league equivalencies for whom Marcel does not project; `NAME=BATTER_RUN,PITCHER_RUN` with folders
    of fitted runs (either may be empty) is the contextual model; `NAME=FOLDER` with a folder of projection CSVs is an
    external system.

    `blend:SPEC@SPEC` blends any of them, `NAME=blend:SPEC@SPEC` under a name of its own. Behind any, `+pt` takes the
    playing time from `playing_time`, `+lasting` that of who lasts (200 PA, 50 IP), and `+pt:FILE` some of it from a CSV
    of overrides; `+bands` adds percentiles; `+reads:SOURCES` moves its rates by what is read in a player's play:
    `pitches` (ratios of pitches and plate appearances, or by the names of some groups of them: discipline, contact,
    ...), the folder of a pre-training run (its encoder's embeddings), or several with commas.

    Behind a blend's last member `+pt`, `+lasting`, `+reads` and `+bands` are of the whole blend; a member that has one
    stands before another.
    """
    maker = _Maker(store)
    return [maker.system(spec) for spec in specs]


def make_system(spec: str, store: Store) -> System:
    """A system from its spelling, see `make_systems`."""
    return make_systems([spec], store)[0]


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes systems of a store from their spellings, each and each encoder once."""

    store: Store
    systems: dict[str, System] = field(default_factory=dict)
    encoders: dict[Path, Representations] = field(default_factory=dict)

    def system(self, spec: str) -> System:
        """The system of a spelling, made at the first question."""
        if spec not in self.systems:
            self.systems[spec] = self._made(spec)
        return self.systems[spec]

    def encoder(self, run: Path) -> Representations:
        """What the encoder of a run reads, opened at the first question."""
        from fullcount.projection.representations import Representations

        if run not in self.encoders:
            self.encoders[run] = Representations(self.store, run)
        return self.encoders[run]

    def _made(self, spec: str) -> System:
        if spec.endswith("+bands"):
            return Bands(self.system(spec.removesuffix("+bands")))
        if timed := re.fullmatch(r"(.+)\+(pt|lasting)(?::([^@]+))?", spec):
            overrides = Path(timed[3]) if timed[3] else None
            games = self.store.table("batting_games"), self.store.table("pitching_games")
            time = PlayingTime("lasting" if timed[2] == "lasting" else "playing", overrides, games)
            return InPlayingTime(self.system(timed[1]), time)
        if read := re.fullmatch(r"(.+)\+reads:([^@]+)", spec):
            inner, sources = self.system(read[1]), read[2].split(",")
            ratios = GROUPS if "pitches" in sources else [s for s in sources if s in GROUPS]
            inputs: list[Inputs] = [PitchAggregates(self.store, ratios)] if ratios else []
            inputs += [self.encoder(Path(s)) for s in sources if s != "pitches" and s not in GROUPS]
            return Anchored(inner, inputs, name=f"{inner.name}+reads:{','.join(Path(s).name for s in sources)}")
        if blend := re.fullmatch(r"(?:(\w+)=)?blend:(.+)", spec):
            return Blend([self.system(s) for s in blend[2].split("@")], name=blend[1] or "blend")
        if spec.endswith("+pitches"):
            boosted = self.system(spec.removesuffix("+pitches"))
            if not isinstance(boosted, BoostedMarcel):
                raise FullcountError(f"{spec}: only marcel_gb and plus_gb read pitches so; write +reads:pitches")
            return replace(boosted, name=spec, pitches=self.store)
        name, equals, value = spec.partition("=")
        if not equals:
            if name in SYSTEMS:
                return SYSTEMS[name]()
            raise FullcountError(
                f"no system {spec!r}: write {', '.join(SYSTEMS)}, NAME=BATTER_RUN,PITCHER_RUN or NAME=FOLDER, "
                "and behind it +pitches, +reads:pitches, +pt, +lasting or +bands"
            )
        if "," in value:
            from fullcount.projection.contextual import Contextual

            batter, _, pitcher = value.partition(",")
            return Contextual(
                self.store, Path(batter) if batter else None, Path(pitcher) if pitcher else None, name=name
            )
        return External.folder(Path(value), name)
