"""Percentiles round any system's projection: of what will happen, and of true talent apart.

Three things are drawn for a player, hundreds of times (see `drawing`). How much he plays: the playing time of somebody
like him in an earlier season (see `quantile_forest`), with the games, starts and saves that went with it. His talent:
log-odds round the projected ones, with a spread learned from what the same system got wrong in earlier seasons beyond
chance (see `spreads`). And chance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import polars as pl

from fullcount.projection.blend import Blend
from fullcount.projection.drawing import CARRIED, Learned, percentiles, spare_outs, widths
from fullcount.projection.facts import base, examples, facts, matrix, projected_lines
from fullcount.projection.kept import by_role, kept
from fullcount.projection.marcel import known_counts
from fullcount.projection.parts import CHANCES, PARTS, whole
from fullcount.projection.playing_time import without_overrides
from fullcount.projection.quantile_forest import grow
from fullcount.projection.spreads import excess, fit, mixing
from fullcount.projection.system import EXPOSURE, League, Projection, RefusalError, Role, System, rates, target_season

#: True-talent percentiles of rates: `{rate}_tt10` .. `{rate}_tt90`.
TALENT = re.compile(r"^(?P<stat>.+)_tt(?P<level>[1-9][0-9])$")
#: Rates' percentiles are those of a season of so many PA or IP and more, on which published tables judge them.
LEAST: dict[Role, float] = {"hitters": 200.0, "pitchers": 50.0}
#: Draws of each earlier season by which widths are set.
WIDTH_DRAWS = 200
#: Longer seasons than this are 1: whose playing time says nothing of a whole season's.
_SHORT = 1.2


@dataclass(frozen=True, eq=False)
class Bands:
    """`system` with percentiles: `{count}_p10` .. `_p90`, the same of rates, and `{rate}_tt10` .. of true talent.

    Counts are those of the season, 0 for who does not play; rates those of a season of LEAST PA or IP and more.
    Learned from the last `seasons` seasons as the system saw them on the same day of the year; for those it refuses
    as it would have without what refuses, or Marcel. A column `{stat}_sd` of the system, sd of a rate's log-odds, is
    heard if most have one.
    Projections themselves stay the system's. Drawn `draws` times a player, seeded by season and player.
    """

    system: System
    seasons: int = 8
    draws: int = 500

    @property
    def name(self) -> str:
        """The system's, with `+bands`."""
        return f"{self.system.name}+bands"

    def project(self, as_of: date, league: League) -> Projection:
        """The system's projection with percentiles. FullcountError where no earlier season can be learned from."""
        said, season = self.system.project(as_of, league), target_season(as_of)

        def widened(role: Role) -> pl.DataFrame:
            table = said.role(role)
            if table.is_empty():
                return table
            asked = described(league, table, role, season)
            drawn = percentiles(self.learned(role, as_of, league), asked, self.draws)
            return pl.concat([table, drawn], how="horizontal")

        return Projection.of(season, *by_role(widened))

    @cached_property
    def earlier(self) -> System:
        """The system of earlier seasons, of which overrides say nothing."""
        return without_overrides(self.system)

    def learned(self, role: Role, as_of: date, league: League) -> Learned:
        """What seasons before `as_of` teach."""
        return kept(_learned, league, self, role, as_of)


# -------------------------------------------------------------------------------------------------------- what is known


def described(league: League, table: pl.DataFrame, role: Role, season: int) -> pl.DataFrame:
    """A projection's `table` as the draws need it, a row a player in its order.

    The counts of PARTS (a pitcher's hits in play as BIP, his batters faced made up where unknown), `unreliable` (1 less
    Marcel's reliability), `expected` chances by Marcel, and as `f:` columns what playing time depends on.
    """
    n = EXPOSURE[role]
    known = facts(league, role, season).rename({n: "usual"})
    lags = [f"{c}:{k}" for c in (("n", "G") if role == "hitters" else ("n", "G", "GS", "SV", "GF")) for k in (1, 2, 3)]
    told = [c for c in ("age", "career", "debut", "usual", *lags) if c in known.columns]
    quality = ("wOBA", "K%", "SB/PA") if role == "hitters" else ("ERA", "K-BB%", "BB%")
    spread = [c for c in table.columns if c.endswith("_sd")]
    line = rates(whole(table, role), role).with_columns(
        pl.col("plays").fill_null(1.0) if "plays" in table.columns else pl.lit(1.0).alias("plays")
    )
    line = line.join(known.select("player", "reliability", *told), on="player", how="left", maintain_order="left",
                     suffix=":known")  # fmt: skip
    own = "reliability:known" if "reliability" in table.columns else "reliability"
    per = [(pl.col(c) / pl.col(n)).alias(f"f:{c}") for c in CARRIED[role]]
    usual = pl.col("usual").fill_null(known["usual"].min()).fill_null(LEAST[role])
    return line.select(
        "player",
        pl.lit(season).alias("season"),
        *(c for c in line.columns if c in _columns(role)),
        (1 - pl.col(own).fill_null(0.0)).alias("unreliable"),
        (usual * (pl.col(CHANCES[role]) / pl.col(n)).fill_nan(None).fill_null(1.0)).alias("expected"),
        *(pl.col(c).cast(pl.Float64).alias(f"f:{c}") for c in (n, "plays", *quality, *told)),
        *per,
        *spread,
    )


def _columns(role: Role) -> list[str]:
    """Counts that are drawn or divided by."""
    return [*dict.fromkeys([CHANCES[role], EXPOSURE[role], *(p.stat for p in PARTS[role]), *CARRIED[role]])]


def _past(league: League, bands: Bands, role: Role, as_of: date) -> pl.DataFrame:
    """`described` of earlier seasons beside what happened (`y:`; 0 who did not play), `season` and its `length`."""
    season = target_season(as_of)
    known = league.before(as_of)
    length = examples(league, role, season - bands.seasons, season).select("season", "length").unique()
    lines = whole(projected_lines(known, role), role)
    lines = lines.filter(pl.col("season").is_in(length["season"].to_list()))
    names = known_counts(lines, [c for c in _columns(role) if c in lines.columns])
    parts = []
    for earlier, longer in sorted(length.iter_rows()):
        happened = lines.filter(pl.col("season") == earlier)
        happened = happened.select("player", *(pl.col(c).cast(pl.Float64).alias(f"y:{c}") for c in names))
        asked = kept(_asked, league, bands, _years_before(as_of, season - earlier)).role(role)
        table = described(league, asked, role, earlier).join(happened, on="player", how="left", maintain_order="left")
        table = table.with_columns(pl.col("^y:.*$").fill_null(0.0), length=pl.lit(longer))
        parts.append(table)
    return pl.concat(parts, how="diagonal_relaxed")


def _asked(league: League, bands: Bands, as_of: date) -> Projection:
    """The system's projection, or where it refuses that of the nearest that does not, in the end Marcel's."""
    for system in (bands.earlier, *_within(bands.earlier)):
        try:
            return system.project(as_of, league)
        except RefusalError:
            continue
    return base(league, target_season(as_of))


def _within(system: System) -> list[System]:
    """What is asked where `system` refuses, nearest first: itself round what is within what it is round, then that."""
    if isinstance(system, Blend):
        members = [[s, *_within(s)][-1] for s in system.systems]
        named = list({s.name: s for s in members}.values())
        return [] if members == list(system.systems) else [replace(system, systems=named) if named[1:] else named[0]]
    inner: System | None = getattr(system, "system", None)
    if inner is None:
        return []
    deeper = _within(inner)
    return [*(replace(system, system=s) for s in deeper), inner, *deeper]  # type: ignore[type-var]


def _years_before(day: date, years: int) -> date:
    return day.replace(year=day.year - years, day=min(day.day, 28) if day.month == 2 else day.day)


# ------------------------------------------------------------------------------------------------------------- learning


def _learned(league: League, bands: Bands, role: Role, as_of: date) -> Learned:
    past = _past(league, bands, role, as_of)
    played = past.filter(pl.col(f"y:{EXPOSURE[role]}") >= LEAST[role] / 2)  # who hardly played is no guide to others
    more = excess((played[f"y:{CHANCES[role]}"] * played["length"]).to_numpy(), played["expected"].to_numpy())
    parts = tuple(p for p in PARTS[role] if all(f"y:{c}" in past.columns for c in p.columns))
    fitted = [fit(p, played, more) for p in parts]
    full = past.filter(pl.col("length") < _SHORT)
    features = [c for c in past.columns if c.startswith("f:")]
    lasted = full.filter(pl.col(f"y:{EXPOSURE[role]}") >= LEAST[role])
    if lasted.is_empty():
        raise RefusalError(
            f"{bands.name}: no {role} had {LEAST[role]:.0f} {EXPOSURE[role]} before {as_of} to learn from"
        )
    spreads, surprises, shown = zip(*fitted, strict=True)
    carried = tuple(c for c in CARRIED[role] if f"y:{c}" in past.columns)
    playing, lasting = (
        grow(matrix(t, features), t.select(f"y:{c}" for c in (CHANCES[role], *carried)).to_numpy())
        for t in (_levelled(t, full, role) for t in (full, lasted))
    )
    outs = spare_outs(played) if role == "pitchers" else 0.0
    learned = Learned(role, parts, spreads, mixing(surprises, shown), playing, lasting, carried, features, outs, {})
    return replace(learned, width=widths(learned, lasted, WIDTH_DRAWS))


def _levelled(table: pl.DataFrame, full: pl.DataFrame, role: Role) -> pl.DataFrame:
    """Chances in units of the last whole season's: those who play most, starters above all, play less than they did."""
    y = pl.col(f"y:{CHANCES[role]}")
    level = full.group_by("season").agg(level=y.top_k(100).sort().mean()).sort("season")
    table = table.join(level, on="season", maintain_order="left")
    return table.with_columns((y * level["level"][-1] / pl.col("level")).round())
