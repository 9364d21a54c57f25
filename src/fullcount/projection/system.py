"""What every projection system is: a name and `project(as_of, league) -> Projection`.

Marcel, the boosted models, the contextual model and a CSV downloaded elsewhere all meet this one contract, so that a
comparison is a list of systems. `rates` is the only place where a rate is made from counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from operator import add
from typing import Literal, Protocol

import polars as pl

from fullcount.errors import FullcountError
from fullcount.sources.seasons import main_league, season_lines, with_holds
from fullcount.store import Store

Role = Literal["hitters", "pitchers"]
ROLES: tuple[Role, Role] = ("hitters", "pitchers")

HITTER_COUNTS = (
    "PA", "AB", "H", "1B", "2B", "3B", "HR", "R", "RBI", "BB", "IBB", "SO", "HBP", "SF", "SH", "GDP", "SB", "CS",
)  # fmt: skip
PITCHER_COUNTS = (
    "W", "L", "G", "GS", "SV", "HLD", "IP", "TBF", "H", "R", "ER", "HR", "BB", "IBB", "HBP", "SO",
)  # fmt: skip
COUNTS: dict[Role, tuple[str, ...]] = {"hitters": HITTER_COUNTS, "pitchers": PITCHER_COUNTS}
#: What playing time is counted in.
EXPOSURE: dict[Role, str] = {"hitters": "PA", "pitchers": "IP"}
RATES: dict[Role, tuple[str, ...]] = {
    "hitters": ("AVG", "OBP", "SLG", "OPS", "ISO", "BABIP", "wOBA", "BB%", "K%", "BB/K", "HR%", "SB/PA"),
    "pitchers": ("ERA", "WHIP", "K/9", "BB/9", "K/BB", "HR/9", "K%", "BB%", "K-BB%", "AVG", "BABIP"),
}
#: Runs above an out, on the scale of OBP: FanGraphs' linear weights, rounded mean of 2021-24. Fixed, because a
#: projection must not know the weights of the season it projects.
WOBA = {"uBB": 0.69, "HBP": 0.72, "1B": 0.88, "2B": 1.25, "3B": 1.58, "HR": 2.03}

#: Hits of one base, which most tables leave to be counted.
SINGLES = (pl.col("H") - pl.col("2B") - pl.col("3B") - pl.col("HR")).alias("1B")
#: A player's name, of the canonical table of players.
NAME = pl.concat_str("first_name", "last_name", separator=" ", ignore_nulls=True).alias("Name")
PERCENTILE = re.compile(r"^(?P<stat>.+)_p(?P<level>[1-9][0-9])$")


def added(*columns: str | pl.Expr) -> pl.Expr:
    """Sum of columns one after the other, unknown ones 0.

    The order in which `pl.sum_horizontal` adds, and so the last bit, depends on how many threads there are.
    """
    return reduce(add, ((pl.col(c) if isinstance(c, str) else c).fill_null(0.0) for c in columns))


def target_season(as_of: date) -> int:
    """The season projected on `as_of`: this year's, from November 1 on the next one's."""
    return as_of.year + (as_of >= date(as_of.year, 11, 1))


@dataclass(frozen=True, eq=False)
class League:
    """Season lines and players that systems may read; frames in the canonical schemas of `sources.tables`.

    `name` is the league that is projected; lines of other leagues are there for systems that translate them.
    """

    batting_seasons: pl.DataFrame
    pitching_seasons: pl.DataFrame
    players: pl.DataFrame
    name: str = "MLB"
    _before: dict[int, League] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, store: Store) -> League:
        """The league of a store: its season lines, and the sums of its game lines for seasons without any.

        Holds are those of the game lines in any season. Its name is that of `main_league`.
        """
        batting, pitching = store.table("batting_seasons"), store.table("pitching_seasons")
        have = pl.concat([batting.select("league", "season"), pitching.select("league", "season")]).unique()
        games = [store.table(t) for t in ("batting_games", "pitching_games")]
        pitching = with_holds(pitching, games[1])
        lines = [g.join(have, on=["league", "season"], how="anti") for g in games]
        for name in lines[1]["league"].unique().sort().to_list():
            sums = season_lines(lines[0], lines[1], name)
            batting, pitching = pl.concat([batting, sums[0]]), pl.concat([pitching, sums[1]])
        if not batting.height:
            raise FullcountError(f"{store.root}: no season or game lines; ingest lahman or retrosheet first")
        return cls(batting, pitching, store.table("players"), main_league(batting["league"]))

    def before(self, as_of: date) -> League:
        """The league as known on `as_of`: season s is history from November 1 of year s on. Cached per season."""
        target = target_season(as_of)
        if target not in self._before:
            self._before[target] = League(
                self.batting_seasons.filter(pl.col("season") < target),
                self.pitching_seasons.filter(pl.col("season") < target),
                self.players,
                self.name,
            )
        return self._before[target]


@dataclass(frozen=True, eq=False)
class Projection:
    """One season's projections.

    `hitters` and `pitchers` have one row a player: `player` (MLBAM id), `Name`, `Team`, the counts of COUNTS as
    Float64 (IP in decimal innings; null where the system does not say), then whatever the system adds: `system`
    (who spoke), `reliability`, percentile columns `{stat}_p10` .. `{stat}_p90`. Rates are not stored: see `rates`.
    """

    season: int
    hitters: pl.DataFrame
    pitchers: pl.DataFrame

    @classmethod
    def of(cls, season: int, hitters: pl.DataFrame | None = None, pitchers: pl.DataFrame | None = None) -> Projection:
        """A Projection from loose frames (see `conform`); a missing one is empty."""
        empty = pl.DataFrame(schema={"player": pl.Int32})
        return cls(
            season,
            conform(empty if hitters is None else hitters, "hitters"),
            conform(empty if pitchers is None else pitchers, "pitchers"),
        )

    def role(self, role: Role) -> pl.DataFrame:
        """The table of `role`."""
        return self.hitters if role == "hitters" else self.pitchers


class RefusalError(FullcountError):
    """A System may not project this season, or has nothing to project it from; it may speak of others."""


class System(Protocol):
    """Projects a season from what was known on a date. Implementations call `league.before(as_of)` first."""

    @property
    def name(self) -> str: ...

    def project(self, as_of: date, league: League) -> Projection:
        """The projection of `target_season(as_of)`, by nothing dated on or after `as_of`."""
        ...


def conform(frame: pl.DataFrame, role: Role) -> pl.DataFrame:
    """`frame` with the columns of a Projection first, in order; missing counts null, extra columns kept behind.

    `1B` is made from H where it is missing. A player listed twice or not at all raises FullcountError.
    """
    if "player" not in frame.columns:
        raise FullcountError(f"projected {role} have no column `player`")
    if role == "hitters" and "1B" not in frame.columns and {"H", "2B", "3B", "HR"} <= set(frame.columns):
        frame = frame.with_columns(SINGLES)
    leading = ["player", "Name", "Team", *COUNTS[role]]
    types: dict[str, type[pl.DataType]] = {"player": pl.Int32, "Name": pl.String, "Team": pl.String}
    frame = frame.select(
        *((pl.col(c) if c in frame.columns else pl.lit(None)).cast(types.get(c, pl.Float64)).alias(c) for c in leading),
        *(c for c in frame.columns if c not in leading),
    )
    if frame["player"].null_count() or frame["player"].n_unique() != frame.height:
        raise FullcountError(f"projected {role}: a player is missing or listed twice")
    return frame


def rates(frame: pl.DataFrame, role: Role) -> pl.DataFrame:
    """`frame` (counts of `role`) with the columns RATES[role] added or replaced; percentages are fractions 0-1.

    OBP is (H+BB+HBP)/(AB+BB+HBP+SF), with PA below the line where SF is unknown; wOBA uses WOBA over
    AB+BB-IBB+SF+HBP; batters faced unknown are 3 IP + H + BB + HBP. A rate with nothing below the line is null.
    """
    c = {n: pl.col(n) for n in COUNTS[role]}
    zero = {n: e.fill_null(0.0) for n, e in c.items()}
    if role == "hitters":
        unintentional = c["BB"] - zero["IBB"]
        on_base = c["H"] + c["BB"] + zero["HBP"]
        bases = c["1B"] + 2 * c["2B"] + 3 * c["3B"] + 4 * c["HR"]
        chances = pl.coalesce(c["AB"] + c["BB"] + zero["HBP"] + c["SF"], c["PA"])
        weighted = (
            WOBA["uBB"] * unintentional
            + WOBA["HBP"] * zero["HBP"]
            + reduce(add, (WOBA[n] * c[n] for n in ("1B", "2B", "3B", "HR")))
        )
        parts = {
            "AVG": (c["H"], c["AB"]),
            "OBP": (on_base, chances),
            "SLG": (bases, c["AB"]),
            "OPS": (None, None),
            "ISO": (bases - c["H"], c["AB"]),
            "BABIP": (c["H"] - c["HR"], c["AB"] - c["SO"] - c["HR"] + zero["SF"]),
            "wOBA": (weighted, chances - zero["IBB"]),
            "BB%": (c["BB"], c["PA"]),
            "K%": (c["SO"], c["PA"]),
            "BB/K": (c["BB"], c["SO"]),
            "HR%": (c["HR"], c["PA"]),
            "SB/PA": (c["SB"], c["PA"]),
        }
    else:
        faced = pl.coalesce(c["TBF"], 3 * c["IP"] + c["H"] + c["BB"] + zero["HBP"])
        at_bats = faced - c["BB"] - zero["HBP"]
        parts = {
            "ERA": (9 * c["ER"], c["IP"]),
            "WHIP": (c["H"] + c["BB"], c["IP"]),
            "K/9": (9 * c["SO"], c["IP"]),
            "BB/9": (9 * c["BB"], c["IP"]),
            "K/BB": (c["SO"], c["BB"]),
            "HR/9": (9 * c["HR"], c["IP"]),
            "K%": (c["SO"], faced),
            "BB%": (c["BB"], faced),
            "K-BB%": (c["SO"] - c["BB"], faced),
            "AVG": (c["H"], at_bats),
            "BABIP": (c["H"] - c["HR"], at_bats - c["SO"] - c["HR"]),
        }
    ratios = {
        name: pl.when(under > 0).then(over / under).otherwise(None).cast(pl.Float64).alias(name)
        for name, (over, under) in parts.items()
        if over is not None and under is not None
    }
    if role == "hitters":
        ratios["OPS"] = (ratios["OBP"] + ratios["SLG"]).alias("OPS")
    return frame.with_columns(*ratios.values())
