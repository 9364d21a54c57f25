"""A season's line taken apart: the tree of a plate appearance's outcomes, and what is counted beside it.

BIP: a pitcher's hits in play. SBA: attempts to steal, SB and CS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.projection.system import EXPOSURE, Role, added

Floats = NDArray[np.float64]
Line = Mapping[str, Floats]

#: What chances are counted in.
CHANCES: dict[Role, str] = {"hitters": "PA", "pitchers": "TBF"}


class Part(NamedTuple):
    """A count drawn from chances: the columns `of` less the columns `less`. Counted is what it is above `beyond`."""

    stat: str
    kind: Literal["binomial", "poisson"]
    of: tuple[str, ...]
    less: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Counts that it needs."""
        return (self.stat, *self.of, *self.less, *self.beyond)

    def chances(self, line: Line) -> Floats:
        """Chances of each line."""
        return np.asarray(sum(line[c] for c in self.of) - sum(line[c] for c in self.less))

    def counted(self, line: Line) -> Floats:
        """What is drawn of each line."""
        return np.asarray(line[self.stat] - sum(line[c] for c in self.beyond))


def _tree(exposure: str, outcomes: Sequence[str]) -> tuple[Part, ...]:
    """Each outcome out of what the ones before it leave."""
    return tuple(Part(c, "binomial", (exposure,), tuple(outcomes[:i])) for i, c in enumerate(outcomes))


STEALS = Part("SBA", "poisson", ("1B", "BB", "HBP")), Part("SB", "binomial", ("SBA",))
_ON_BASE = ("1B", "2B", "3B", "BB", "HBP")
PARTS: dict[Role, tuple[Part, ...]] = {
    "hitters": (
        *_tree("PA", ("SO", "BB", "HBP", "HR", "3B", "2B", "1B", "SF", "SH", "GDP")),
        Part("IBB", "binomial", ("BB",)),
        Part("R", "poisson", _ON_BASE, beyond=("HR",)),
        Part("RBI", "poisson", ("PA",), ("SO", "BB", "HBP", "HR"), ("HR",)),
        *STEALS,
    ),
    "pitchers": (
        *_tree("TBF", ("SO", "BB", "HBP", "HR", "BIP")),
        Part("IBB", "binomial", ("BB",)),
        Part("ER", "poisson", ("BIP", "BB", "HBP"), beyond=("HR",)),
        Part("R", "poisson", ("BIP", "BB", "HBP"), beyond=("ER",)),
        Part("W", "poisson", ("TBF",)),
        Part("L", "poisson", ("TBF",)),
    ),
}


def whole(table: pl.DataFrame, role: Role) -> pl.DataFrame:
    """A Projection's `table` with what PARTS count and it does not: SBA, or BIP and, where unknown, TBF."""
    if role == "hitters":
        return table.with_columns(SBA=pl.col("SB") + pl.col("CS"))
    faced = 3 * pl.col("IP") + added("H", "BB", "HBP")
    return table.with_columns(TBF=pl.coalesce("TBF", faced), BIP=pl.col("H") - pl.col("HR"))


#: Counts that are sums of PARTS: what is added and what is taken away.
_SUMS: dict[Role, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "hitters": {
        "H": (("HR", "1B", "2B", "3B"), ()),
        "AB": (("PA",), ("BB", "HBP", "SF", "SH")),
        "CS": (("SBA",), ("SB",)),
    },
    "pitchers": {"H": (("HR", "BIP"), ())},
}


def summed(line: Line, role: Role) -> dict[str, Floats]:
    """`line` with the counts that are sums of others, those whose parts it has."""
    known = {c: of for c, of in _SUMS[role].items() if all(p in line for side in of for p in side)}
    made = {c: np.sum([line[p] for p in more], axis=0) for c, (more, _) in known.items()}
    return {**line, **{c: x - sum(line[p] for p in known[c][1]) for c, x in made.items()}}


def composed(table: pl.DataFrame, role: Role, rates: dict[str, Floats], exposure: Floats) -> pl.DataFrame:
    """A Projection's table with new `rates` (per PA or IP, [rows]) in `exposure` PA or IP [rows].

    Counts without a new rate keep theirs or, CS and pitchers' R, their proportion to SB and ER. H, AB and TBF are sums.
    """
    n = EXPOSURE[role]
    table = table.with_columns(n=exposure)
    counts = [c for c in table.columns if c not in ("player", "Name", "Team", "n", "reliability")]
    linked = ("CS", "SB") if role == "hitters" else ("R", "ER")
    proportion = pl.when(pl.col(linked[1]) > 0).then(pl.col(linked[0]) / pl.col(linked[1])).otherwise(0.0)
    if role == "pitchers":
        table = table.with_columns(other=pl.col("TBF") - 3 * pl.col("IP") - added("H", "BB", "HBP"))
        counts.append("other")
    table = table.with_columns(
        proportion.alias("proportion"),
        *(pl.col(c) / pl.col(n) * pl.col("n") for c in counts if c not in rates),
        *(pl.Series(c, rate * exposure) for c, rate in rates.items()),
    )
    if linked[1] in rates and linked[0] not in rates:
        table = table.with_columns((pl.col("proportion") * pl.col(linked[1])).alias(linked[0]))
    if role == "hitters":
        table = table.with_columns(H=added("1B", "2B", "3B", "HR"), AB=pl.col("PA") - added("BB", "HBP", "SF", "SH"))
    else:
        table = table.with_columns(TBF=3 * pl.col("IP") + added("H", "BB", "HBP", "other"))
    return table.drop("n", "proportion", "other", strict=False)


def arrays(table: pl.DataFrame, prefix: str = "") -> dict[str, Floats]:
    """Numeric columns that begin with `prefix`, without it; NaN where unknown."""
    return {
        c.removeprefix(prefix): table[c].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for c, t in table.schema.items()
        if c.startswith(prefix) and t.is_numeric()
    }
