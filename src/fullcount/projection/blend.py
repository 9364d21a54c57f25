"""A blend of systems: for every statistic the weights that were best on earlier seasons, drawn towards equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import nnls

from fullcount.errors import FullcountError
from fullcount.projection.facts import projected_lines
from fullcount.projection.kept import kept
from fullcount.projection.system import (
    COUNTS,
    EXPOSURE,
    ROLES,
    League,
    Projection,
    RefusalError,
    Role,
    System,
    added,
    target_season,
)

Floats = NDArray[np.float64]

#: Rows whose say the pull towards equal weights has.
EQUAL = 100.0


@dataclass(frozen=True, eq=False)
class Blend:
    """Rates of several systems, and their playing time, weighted by statistic.

    Weights are not negative and sum to 1; they minimise the squared error (of rates, weighted by playing time) in the
    last `seasons` seasons that all systems project, on the players all of them project. Where no season is left they
    are equal. Whom not all systems project, and what not all say, is left to those that do, their weights scaled to 1.
    Column `system`: the blend's name where all spoke, else who did.
    """

    systems: Sequence[System]
    name: str = "blend"
    seasons: int = 5

    def __post_init__(self) -> None:
        names = [s.name for s in self.systems]
        if len(names) < 2 or len(set(names)) < len(names):
            raise FullcountError(f"{self.name}: a blend needs two differently named systems or more, got {names}")

    def project(self, as_of: date, league: League) -> Projection:
        """Projection of `target_season(as_of)`. Of earlier seasons the systems are asked as of 1 March."""
        season = target_season(as_of)
        said = [s.project(as_of, league) for s in self.systems]
        tables = {r: self._blended([p.role(r) for p in said], self.weights(r, season, league), r) for r in ROLES}
        return Projection.of(season, tables["hitters"], tables["pitchers"])

    def weights(self, role: Role, season: int, league: League) -> dict[str, Floats]:
        """Of each statistic (PA or IP: of playing time) the systems' weights, learned before `season`."""
        return kept(_weights, league, self, role, season)

    def _blended(self, tables: list[pl.DataFrame], weights: dict[str, Floats], role: Role) -> pl.DataFrame:
        n = EXPOSURE[role]
        tables = [t.filter(pl.col(n) > 0) for t in tables]
        players = pl.concat([t.select("player") for t in tables]).unique().sort("player")
        stacks = _rates(tables, players, role)
        out = {c: _mean(stacks[c], w) for c, w in weights.items()}
        table = players.with_columns(pl.Series(c, x) for c, x in out.items()).with_columns(pl.all().fill_nan(None))
        table = table.with_columns(pl.col(c) * pl.col(n) for c in out if c != n)
        if role == "hitters":
            table = table.with_columns(
                H=pl.col("1B") + pl.col("2B") + pl.col("3B") + pl.col("HR"),
                AB=pl.col("PA") - added("BB", "HBP", "SF", "SH"),
            )
        about = pl.concat([t.select("player", "Name", "Team") for t in tables])
        about = about.unique("player", keep="first", maintain_order=True)
        who = pl.Series(self._who(stacks[n], tables, players), dtype=pl.String)
        return table.join(about, on="player", how="left", maintain_order="left").with_columns(system=who)

    def _who(self, exposure: Floats, tables: list[pl.DataFrame], players: pl.DataFrame) -> list[str]:
        """Who spoke of each player; a lone system's own word for it where it has one."""
        names = [s.name for s in self.systems]
        own = [dict(t.select("player", "system").iter_rows()) if "system" in t.columns else {} for t in tables]
        said = []
        for player, row in zip(players["player"], np.isfinite(exposure), strict=True):
            who = np.flatnonzero(row)
            lone = own[who[0]].get(player) if len(who) == 1 else None
            said.append(self.name if row.all() else lone or "+".join(names[s] for s in who))
        return said


def _weights(league: League, blend: Blend, role: Role, season: int) -> dict[str, Floats]:
    n = EXPOSURE[role]
    parts: list[dict[str, Floats]] = []
    truths: list[dict[str, Floats]] = []
    known = league.before(date(season, 3, 1))
    lines = projected_lines(known, role)
    for earlier in range(season - blend.seasons, season):
        actual = lines.filter(pl.col("season") == earlier)
        tables = kept(_said, league, blend, earlier)
        if tables is None or actual.is_empty():
            continue
        shared = actual.select("player")
        for projection in tables:
            shared = shared.join(projection.role(role).filter(pl.col(n) > 0), on="player", how="semi")
        shared = shared.sort("player")
        parts.append(_rates([p.role(role) for p in tables], shared, role))
        truths.append(_rates([actual], shared, role))
    equal = np.full(len(blend.systems), 1 / len(blend.systems))
    stats = [c for c in COUNTS[role] if c not in ("H", "AB") or role == "pitchers"]
    if not parts:
        return dict.fromkeys(stats, equal)
    x = {c: np.concatenate([p[c] for p in parts]) for c in stats}
    y = {c: np.concatenate([t[c][:, 0] for t in truths]) for c in stats}
    return {c: fit(x[c], y[c], np.ones_like(y[n]) if c == n else y[n]) for c in stats}


def fit(said: Floats, actual: Floats, weight: Floats) -> Floats:
    """Weights [s] of systems that `said` [rows, s], with the least squared error; 0 of one that says nothing.

    Not negative, sum 1, drawn to equal ones as by EQUAL rows. Equal where there is nothing to learn from.
    """
    speaks = np.isfinite(said).any(axis=0)
    speaks |= not speaks.any()
    out: Floats = np.where(speaks, 1 / speaks.sum(), 0.0)
    rows = np.isfinite(said[:, speaks]).all(axis=1) & np.isfinite(actual) & (weight > 0)
    if speaks.sum() < 2 or not rows.any():
        return out
    x, y, w = said[rows][:, speaks], actual[rows], weight[rows] / weight[rows].mean()
    apart = (w[:, None] * (x - x.mean(axis=1, keepdims=True)) ** 2).mean()
    if apart <= 1e-12 * (x**2).mean():  # all say the same, but for the last bit
        return out
    pull, sure = np.sqrt(EQUAL * apart), 1e3 * np.sqrt(len(y) * apart)
    k = x.shape[1]
    left = np.concatenate([np.sqrt(w)[:, None] * x, pull * np.eye(k), np.full((1, k), sure)])
    right = np.concatenate([np.sqrt(w) * y, np.full(k, pull / k), [sure]])
    best = nnls(left, right)[0]
    out[speaks] = best / best.sum()
    return out


def _said(league: League, blend: Blend, season: int) -> list[Projection] | None:
    """What the systems say of an earlier season; None where one of them refuses it."""
    try:
        return [s.project(date(season, 3, 1), league) for s in blend.systems]
    except RefusalError:
        return None


def _rates(tables: Sequence[pl.DataFrame], players: pl.DataFrame, role: Role) -> dict[str, Floats]:
    """Of each count its rate per PA or IP [players, tables], of PA or IP itself the number; NaN where unknown."""
    n = EXPOSURE[role]
    columns = [pl.col(c) if c == n else pl.col(c) / pl.col(n) for c in COUNTS[role]]
    full = [
        players.join(
            t.with_columns(pl.lit(None, dtype=pl.Float64).alias(c) for c in COUNTS[role] if c not in t.columns)
            .select("player", *columns)
            .cast(dict.fromkeys(COUNTS[role], pl.Float64)),
            on="player", how="left", maintain_order="left",
        )
        for t in tables
    ]  # fmt: skip
    return {c: np.stack([f[c].fill_null(float("nan")).to_numpy() for f in full], axis=1) for c in COUNTS[role]}


def _mean(said: Floats, weights: Floats) -> Floats:
    """Weighted mean [rows] over those who say something; equal weights where only those without weight do."""
    spoke = np.isfinite(said)
    w = np.where(spoke, weights, 0.0)
    w = np.where(w.sum(axis=1, keepdims=True) > 0, w, spoke)
    total = w.sum(axis=1)
    summed = (np.nan_to_num(said) * w).sum(axis=1)
    return np.asarray(np.divide(summed, total, out=np.full(len(said), np.nan), where=total > 0))
