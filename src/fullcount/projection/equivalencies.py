"""Minor-league equivalencies: a line of another level as the main league would see it.

After Bill James (Baseball Abstract 1985) and Clay Davenport's translations: players who appeared at two levels say how
outcomes change from one to the other, and levels are chained. Here a change is a shift of log(outcome / out), so that
a translated line is a line again and shifts of a chain add up.

Players who change levels are no random draw. Who is promoted has done well below, partly by luck: therefore his lower
line is regressed before it is compared. Who is sent down has done badly above; nothing corrects for that, so that the
main league, which is linked by earlier seasons too, may look harder than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.priors import STRENGTH
from fullcount.projection.marcel import (
    HITTER_AGEING,
    HITTER_WEIGHTS,
    PITCHER_AGEING,
    PITCHER_WEIGHTS,
    Marcel,
    aged,
    people,
)
from fullcount.projection.system import (
    SINGLES,
    WOBA,
    League,
    Projection,
    RefusalError,
    Role,
    System,
    added,
    target_season,
)
from fullcount.sources.tables import MINOR_LEAGUES, POSITIONS

Floats = NDArray[np.float64]

#: The level above each; above AAA is the main league. One that shares no player with the level is passed over.
ABOVE = {"AAA": None, "AA": "AAA", "A+": "AA", "A": "A+", "ACL": "A", "FCL": "A", "DSL": "ACL"}
#: Outcomes per role; every other plate appearance is an out. Season lines tell of a pitcher's hits only which were home
#: runs; the others are "BIP".
COMPONENTS: dict[Role, tuple[str, ...]] = {
    "hitters": ("SO", "BB", "HBP", "1B", "2B", "3B", "HR"),
    "pitchers": ("SO", "BB", "HBP", "BIP", "HR"),
}
#: Runs above an out, on the scale of OBP; for hits in play the usual mix of singles, doubles and triples.
_RUNS = {"BB": WOBA["uBB"], "BIP": 0.98} | WOBA
#: Standard deviation of shifts between neighbouring levels that estimates are shrunken with.
SPREAD = 0.2
#: Seasons between a minor-league line and the nearest line in the main league that still make a pair. Minor levels are
#: compared within a season.
REACH = 2
#: Projected playing time, should he be called up: plate appearances of a hitter; outs of a pitcher, Marcel's for one
#: without history who does not start. Enough for `evaluation.backtest` to read rates.
PLAYING_TIME: dict[Role, float] = {"hitters": 100.0, "pitchers": 75.0}
_WEIGHTS: dict[Role, tuple[int, ...]] = {"hitters": HITTER_WEIGHTS, "pitchers": PITCHER_WEIGHTS}
_AGEING = {"hitters": HITTER_AGEING, "pitchers": PITCHER_AGEING}


@dataclass(frozen=True)
class Equivalencies:
    """`base` for whom it projects; for everybody else with minor-league lines in the last three seasons, those.

    Lines are translated, weighted as Marcel weighs seasons, regressed by `priors.STRENGTH` to the translated mean of
    their levels and aged as Marcel does. What minor-league files do not tell (steals, say) is the main league's mean;
    runs are that times (wOBA / league's wOBA)^2, since they are made of getting on base times moving on.
    Columns added: `system` (who spoke), `level` (where he played most) and `minor_PA` (minor-league plate appearances
    or batters faced behind the line); both null where `base` spoke.
    """

    name: str = "mle"
    base: System = field(default_factory=Marcel)

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`, by seasons before it.

        Raises:
            FullcountError: no minor-league line is known, or nobody of a level appeared at any above it.
        """
        season, known = target_season(as_of), league.before(as_of)
        lines = {role: outcome_lines(known, role) for role in COMPONENTS}
        if not any(f["league"].is_in(_minors(league.name)).any() for f in lines.values()):
            raise RefusalError(f"{self.name}: no minor-league line before {season}; ingest milb first")
        said = self.base.project(as_of, league)
        tables = {r: self._joined(said.role(r), _project(known, r, f, season)) for r, f in lines.items()}
        return Projection.of(season, tables["hitters"], tables["pitchers"])

    def _joined(self, base: pl.DataFrame, mine: pl.DataFrame) -> pl.DataFrame:
        mine = mine.join(base, on="player", how="anti").with_columns(system=pl.lit(self.name))
        if "system" not in base.columns:
            base = base.with_columns(system=pl.lit(self.base.name))
        return pl.concat([base, mine], how="diagonal_relaxed").sort("player")


def _minors(main: str) -> list[str]:
    return [level for level in MINOR_LEAGUES if level != main]


def outcome_lines(league: League, role: Role) -> pl.DataFrame:
    """Season lines of every league: player, season, league, team, n (PA or BF), OUT and `COMPONENTS` as Float64.

    Pitchers' batting is left out.
    """
    if role == "hitters":
        lines, n = league.batting_seasons.filter(~pl.col("is_pitcher").fill_null(False)), "PA"
        lines = lines.with_columns(SINGLES)
    else:
        lines, n = league.pitching_seasons.with_columns((pl.col("H") - pl.col("HR")).alias("BIP")), "BF"
    counts = [pl.col(c).fill_null(0).cast(pl.Float64) for c in COMPONENTS[role]]
    return lines.filter(pl.col(n) > 0).select(
        "player",
        "season",
        "league",
        "team",
        pl.col(n).cast(pl.Float64).alias("n"),
        (pl.col(n) - added(*counts)).clip(0).alias("OUT"),
        *counts,
    )


def ladder(lines: pl.DataFrame, main: str) -> dict[str, tuple[str, int]]:
    """For each minor league of `lines`, highest first, the next level it shares players with and the `reach` to it."""
    players = {level: set(f["player"]) for (level,), f in lines.group_by("league")}
    steps: dict[str, tuple[str, int]] = {}
    for level in (level for level in _minors(main) if level in players):
        above = ABOVE[level]
        while above is not None and not players[level] & players.get(above, set()):
            above = ABOVE[above]
        steps[level] = (above, 0) if above not in (None, main) else (main, REACH)
    return steps


def level_shifts(lines: pl.DataFrame, role: Role, main: str) -> dict[str, Floats]:
    """For each minor league of `lines` (see `outcome_lines`) the shifts [k] of log(component / out) to `main`.

    Raises:
        FullcountError: nobody of a level appeared at any above it.
    """
    shifts = {main: np.zeros(len(COMPONENTS[role]))}
    for level, (above, reach) in ladder(lines, main).items():
        shifts[level] = shifts[above] + link(pairs(lines, role, level, above, reach), role)
    return shifts


def pairs(lines: pl.DataFrame, role: Role, low: str, high: str, reach: int = 0) -> pl.DataFrame:
    """Players who appeared at both levels: their regressed rates at `low`, their lines at `high`.

    A row a player and season at `low`: player, season, n, OUT and components (rates), with `_above` behind the name
    the line at `high` of the nearest season at most `reach` away, the earlier of two. FullcountError where nobody did.
    """
    level = lines.filter(pl.col("league") == low)
    below = regress(level, role, {low: np.zeros(len(COMPONENTS[role]))}, by=("player", "season"))
    both = below.join(lines.filter(pl.col("league") == high), on="player", suffix="_above")
    both = both.with_columns(gap=(pl.col("season") - pl.col("season_above")).abs()).filter(pl.col("gap") <= reach)
    if both.is_empty():
        raise FullcountError(f"mle: no player appeared in both {low} and {high}, so {low} cannot be translated")
    both = both.sort("player", "season", "gap", "season_above")
    return both.unique(["player", "season"], keep="first", maintain_order=True)


def link(both: pl.DataFrame, role: Role) -> Floats:
    """Shifts [k] of log(component / out) from a level to the one above, by `pairs` of lines.

    A pair weighs half the harmonic mean of its plate appearances, the inverse variance of a difference of rates.
    Estimates are shrunken towards 0 by `SPREAD`.
    """
    names = ("OUT", *COMPONENTS[role])
    n, n_above = both["n"].to_numpy(), both["n_above"].to_numpy()
    weight = n * n_above / (n + n_above)
    total = weight.sum()
    up = both.select(f"{c}_above" for c in names).to_numpy() / n_above[:, None]
    # Half an event for each outcome, so that one that nobody has is rare and not impossible.
    below, up = ((weight @ rate + 0.5) / (total + 0.5 * len(names)) for rate in (both.select(names).to_numpy(), up))
    shift = np.log(up[1:] / up[0]) - np.log(below[1:] / below[0])
    rate = (below + up) / 2
    variance = (1 / rate[1:] + 1 / rate[0]) / total
    return np.asarray(shift * SPREAD**2 / (SPREAD**2 + variance))


def translate(counts: Floats, shifts: Floats) -> Floats:
    """`counts` [m, 1 + k] (outs first) after `shifts` [m, k] of log(component / out); rows keep their sums."""
    moved = counts * np.exp(np.concatenate([np.zeros((len(shifts), 1)), shifts], axis=1))
    return np.asarray(moved * (counts.sum(axis=1) / moved.sum(axis=1))[:, None])


def regress(
    lines: pl.DataFrame,
    role: Role,
    shifts: dict[str, Floats],
    weight: pl.Expr | None = None,
    by: tuple[str, ...] = ("player",),
) -> pl.DataFrame:
    """One row a player: his lines translated by `shifts`, added up, and regressed to the mean of their levels.

    Args:
        lines: of leagues that `shifts` names (see `outcome_lines`).
        weight: of a line; 1, the default, counts its plate appearances fully.
        by: what a row is of.

    Returns:
        `by`, n (weighted), and the rates of OUT and the components, whose sum is 1.
    """
    names = ("OUT", *COMPONENTS[role])
    moved = translate(lines.select(names).to_numpy(), np.stack([shifts[x] for x in lines["league"].to_list()]))
    moved_lines = lines.with_columns(
        pl.DataFrame(moved, schema=list(names)), w=pl.lit(1.0) if weight is None else weight
    )
    mean = moved_lines.group_by("league").agg((pl.col(c).sum() / pl.col("n").sum()).alias(f"mean:{c}") for c in names)
    wn = pl.col("w") * pl.col("n")
    own = (
        moved_lines.join(mean, on="league", how="left")
        .sort("player", "season", "league")
        .group_by(by, maintain_order=True)
        .agg(
            wn.sum().alias("n"),
            *((pl.col("w") * pl.col(c)).sum().alias(c) for c in COMPONENTS[role]),
            *(((wn * pl.col(f"mean:{c}")).sum() / wn.sum()).alias(f"mean:{c}") for c in COMPONENTS[role]),
        )
    )
    strength = _strength(role)
    rates = [((pl.col(c) + m * pl.col(f"mean:{c}")) / (pl.col("n") + m)).alias(c) for c, m in strength.items()]
    return own.select(*by, "n", (1 - added(*rates)).alias("OUT"), *rates)


def _strength(role: Role) -> dict[str, float]:
    of = STRENGTH["batter" if role == "hitters" else "pitcher"]
    return {c: float(of[{"SO": "K", "BIP": "1B"}.get(c, c)]) for c in COMPONENTS[role]}


def _project(known: League, role: Role, lines: pl.DataFrame, season: int) -> pl.DataFrame:
    """Everybody with minor-league lines in the last three seasons, in the columns of a Projection."""
    components, main = COMPONENTS[role], known.name
    recent = lines.filter(pl.col("league").is_in(_minors(main)) & (pl.col("season") >= season - len(_WEIGHTS[role])))
    if recent.is_empty():
        return pl.DataFrame(schema={"player": pl.Int32})
    own = regress(recent, role, level_shifts(lines, role, main), _recency(_WEIGHTS[role], season))
    most = (
        recent.sort("season", "n", "league", descending=True)
        .group_by("player", maintain_order=True)
        .agg(
            pl.col("team").first().alias("Team"),
            pl.col("league").sort_by("n").last().alias("level"),
            pl.col("n").sum().alias("minor_PA"),
        )
    )
    mean = _means(known, role)
    table = own.drop("n", "OUT").join(mean.drop(c for c in components if c in mean.columns), how="cross")
    table = table.join(most, on="player").join(people(known.players, season), on="player", how="left")
    usual = mean.select(_woba(components)).item()
    runs = (_woba(components) / usual) ** 2
    table = table.with_columns((pl.col(c) * runs).alias(c) for c in ("R", "RBI", "ER") if c in table.columns)
    if role == "pitchers":
        table = table.with_columns(H=pl.col("BIP") + pl.col("HR"))
    table = aged(table, _AGEING[role])
    if role == "hitters":
        hits = added("1B", "2B", "3B", "HR")
        table = table.with_columns(H=hits, PA=pl.lit(1.0), n=pl.lit(PLAYING_TIME[role])).with_columns(
            AB=1 - added("BB", "HBP", "SF", "SH")
        )
    else:
        outs = 1 - added("H", "BB", "HBP", "other")
        table = table.with_columns(IP=outs / 3, TBF=pl.lit(1.0), n=PLAYING_TIME[role] / outs)
    counts = [c for c in table.columns if c not in ("player", "Name", "Team", "age", "level", "minor_PA", "n")]
    return table.with_columns(pl.col(c) * pl.col("n") for c in counts).drop("age", "n", "BIP", "other", strict=False)


def _recency(weights: Sequence[int], season: int) -> pl.Expr:
    """Weight of a line, 1 for last season's."""
    return pl.col("season").replace_strict({season - 1 - i: w / weights[0] for i, w in enumerate(weights)}, default=0.0)


def _woba(components: Sequence[str]) -> pl.Expr:
    return pl.sum_horizontal(_RUNS[c] * pl.col(c) for c in components if c in _RUNS)


def _means(known: League, role: Role) -> pl.DataFrame:
    """One row: the main league's rates per plate appearance (batter faced) in its last season, of every known count."""
    lines = known.batting_seasons if role == "hitters" else known.pitching_seasons
    lines = lines.filter(pl.col("league") == known.name)
    if role == "hitters":
        lines = lines.filter(~pl.col("is_pitcher").fill_null(False))
    if lines.is_empty():
        raise RefusalError("mle: no season of the main league is known before the one to project; ingest one first")
    last = lines.filter(pl.col("season") == lines["season"].max())
    skipped = ("player", "season", "league", "team", "is_pitcher", *POSITIONS)
    n = pl.col("PA" if role == "hitters" else "BF").sum()
    mean = last.select(
        (pl.col(c).sum() / n).alias(c) for c in last.columns if c not in skipped and last[c].null_count() < last.height
    )
    if role == "hitters":
        return mean.with_columns(SINGLES).drop("PA", "AB", "G")
    return mean.with_columns(BIP=pl.col("H") - pl.col("HR"), other=1 - added("outs", "H", "BB", "HBP")).drop(
        "outs", "BF", "2B", "3B", "WP", "BK", "pitches", "GF", strict=False
    )
