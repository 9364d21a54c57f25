"""Do percentiles hold? Coverage, deciles and CRPS of systems that give them, by statistic and playing time.

    python -m fullcount.evaluation.calibration SEASONS --store STORE --system SPEC ... [--figure FILE]

Counts, PA and IP are judged on everyone whom all systems project, who did not play with 0; rates on those of them who
had `uncertainty.LEAST` PA or IP, of which rates' percentiles speak. Tiers are by the first system's median of PA or IP,
known before the season. Where an outcome is as likely as not one of several percentiles (nobody steals: P10 = .. = P60
= 0) it counts in parts: the randomised PIT (Czado, Gneiting & Held, Biometrics 65, 2009), averaged over its randomness.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.errors import FullcountError, told
from fullcount.evaluation.cohorts import outcomes
from fullcount.evaluation.metrics import Array, interval, resamples
from fullcount.projection.drawing import LEVELS
from fullcount.projection.system import EXPOSURE, RATES, ROLES, League, Role, System, rates
from fullcount.projection.uncertainty import LEAST

STATS: dict[Role, tuple[str, ...]] = {
    "hitters": (
        "PA", "HR", "SB", "CS", "R", "RBI", "H", "SO", "BB", "AVG", "OBP", "SLG", "OPS", "wOBA", "K%", "BB%", "HR%",
    ),
    "pitchers": (
        "IP", "GS", "SO", "BB", "HR", "ER", "W", "L", "SV", "HLD", "ERA", "WHIP", "K/9", "BB/9", "HR/9", "K%", "BB%",
    ),
}  # fmt: skip
#: Where tiers of median PA and IP part.
TIERS: dict[Role, tuple[float, float]] = {"hitters": (200.0, 450.0), "pitchers": (40.0, 100.0)}


def pit(actual: Array, quantiles: Array) -> tuple[Array, Array]:
    """Bounds [n] between which the probability integral transform of `actual` [n] lies, by deciles [n, 9].

    They differ where the outcome is a decile: then (F(y-), F(y)), each known to half a step, F(0-) = 0. Else both are
    the middle of the step.
    """
    below = (quantiles < actual[:, None]).sum(axis=1)
    to = (quantiles <= actual[:, None]).sum(axis=1)
    tied = to > below
    return np.where(tied & (actual <= 0), 0.0, (below + 0.5) / 10), (to + 0.5) / 10


def below(low: Array, high: Array, level: float) -> Array:
    """Probability [n] that a transform uniform in (`low`, `high`) is at most `level`."""
    width = high - low
    part = np.divide(level - low, width, out=np.where(low < level, 1.0, 0.0), where=width > 0)
    return np.clip(part, 0.0, 1.0)


def crps(actual: Array, quantiles: Array) -> Array:
    """Continuous ranked probability score [n], in the statistic's unit: twice the integral of the pinball loss.

    Gneiting & Ranjan, JBES 29, 2011. By the trapezoidal rule over the deciles; at levels 0 and 1 there is no loss.
    """
    levels = np.array(LEVELS) / 100
    away = actual[:, None] - quantiles
    return np.asarray(0.2 * np.maximum(levels * away, (levels - 1) * away).sum(axis=1))


def judged(systems: Sequence[System], league: League, seasons: Sequence[int]) -> pl.DataFrame:
    """A row per season, role, statistic, player and system: `tier`, `low`, `high` (see `pit`), `crps`, `width`.

    `width` is from P10 to P90. Statistics of which a system gives no percentiles are left out.
    FullcountError for no seasons, equal names or a system without percentiles.
    """
    names = [s.name for s in systems]
    if not seasons or not systems or len(set(names)) < len(names):
        raise FullcountError(
            f"calibration needs seasons and differently named systems, got {list(seasons)} and {names}"
        )
    parts = []
    for season in sorted(set(seasons)):
        happened = outcomes(league, season)
        said = [s.project(date(season, 3, 1), league) for s in systems]
        for role in ROLES:
            n, tables = EXPOSURE[role], [p.role(role) for p in said]
            for system, table in zip(systems, tables, strict=True):
                if f"{n}_p50" not in table.columns:
                    raise FullcountError(f"{system.name} gives no percentiles of {n}: write +bands behind it")
            shared = tables[0].select("player", median=pl.col(f"{n}_p50"))
            for table in tables[1:]:
                shared = shared.join(table, on="player", how="semi")
            actual = rates(happened.role(role), role)
            shared = shared.join(actual, on="player", how="left", maintain_order="left")
            for stat in (c for c in STATS[role] if all(f"{c}_p{q}" in t.columns for t in tables for q in LEVELS)):
                truth = pl.col(stat) if stat in RATES[role] else pl.col(stat).fill_null(0.0)
                known = shared.with_columns(y=truth)
                if stat in RATES[role]:
                    known = known.filter(pl.col(n) >= LEAST[role])
                tier = pl.Series(np.searchsorted(TIERS[role], known["median"].to_numpy(), side="right"))
                for system, table in zip(systems, tables, strict=True):
                    columns = [f"{stat}_p{q}" for q in LEVELS]
                    quantiles = known.join(table, on="player", how="left", maintain_order="left").select(columns)
                    q, y = quantiles.to_numpy(), known["y"].to_numpy().astype(np.float64)
                    low, high = pit(y, q)
                    rows = pl.DataFrame({
                        "player": known["player"], "tier": tier, "low": low, "high": high, "crps": crps(y, q),
                        "width": q[:, -1] - q[:, 0],
                    }).filter(np.isfinite(q).all(axis=1) & np.isfinite(y))  # fmt: skip
                    head = {"season": season, "role": role, "stat": stat, "system": system.name}
                    parts.append(rows.select(*(pl.lit(v).alias(k) for k, v in head.items()), pl.all()))
    return pl.concat(parts)


def summary(rows: pl.DataFrame, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """Of `judged` rows a line per role, statistic, tier ("all", "low", "middle", "high") and system.

    n; `coverage` of P10-P90 with `coverage_low`, `coverage_high` (95 %, players drawn), `inner` of P20-P80; mean
    `crps`, `width`; `gain`: by what share the CRPS is under the first system's, paired, `gain_low`, `gain_high`.
    """
    first = rows["system"][0]
    inside = {name: below(*_bounds(rows), 1 - a) - below(*_bounds(rows), a) for name, a in (("c", 0.1), ("i", 0.2))}
    rows = rows.with_columns(coverage=inside["c"], inner=inside["i"])
    lines: list[dict[str, object]] = []
    for tier, name in ((None, "all"), (0, "low"), (1, "middle"), (2, "high")):
        own = rows if tier is None else rows.filter(pl.col("tier") == tier)
        for (role, stat), group in own.group_by("role", "stat", maintain_order=True):
            players = group["player"].unique().sort()
            drawn = resamples(len(players), draws, seed)
            sums: dict[str, Array] = {}
            for (system,), part in group.group_by("system", maintain_order=True):
                at = np.searchsorted(players.to_numpy(), part["player"].to_numpy())
                columns = part.select("coverage", "inner", "crps", "width").with_columns(n=pl.lit(1.0)).to_numpy()
                sums[str(system)] = np.stack([np.bincount(at, c, len(players)) for c in columns.T], axis=1)
            for system, total in sums.items():
                coverage, inner, score, width, n = total.sum(axis=0)
                w = drawn @ total
                base = sums[first]
                with np.errstate(invalid="ignore", divide="ignore"):
                    share = interval(coverage / n, w[:, 0] / w[:, 4])
                    gain = interval(1 - score / base[:, 2].sum(), 1 - w[:, 2] / (drawn @ base[:, 2]))
                lines.append({
                    "role": role, "stat": stat, "tier": name, "system": system, "n": int(n),
                    "coverage": share.value, "coverage_low": share.low, "coverage_high": share.high,
                    "inner": inner / n, "crps": score / n, "width": width / n,
                    "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high,
                })  # fmt: skip
    return pl.DataFrame(lines)


def deciles(rows: pl.DataFrame) -> dict[str, dict[str, dict[int, float]]]:
    """Statistic (role and name) -> system -> percentile -> share of outcomes below it."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for (role, stat, system), part in rows.group_by("role", "stat", "system", maintain_order=True):
        shares = {q: float(below(*_bounds(part), q / 100).mean()) for q in LEVELS}
        found.setdefault(f"{role}: {stat}", {})[str(system)] = shares
    return found


def shown(lines: pl.DataFrame, role: Role, system: str) -> pl.DataFrame:
    """A table to read: coverage in per cent, all and by tier, of P20-P80, and CRPS."""
    own = lines.filter(pl.col("role") == role, pl.col("system") == system)
    low, high = (f"{t:.0f}" for t in TIERS[role])
    tiers = {"low": f"< {low}", "middle": f"{low}-{high}", "high": f"≥ {high}"}
    table = []
    for stat in own["stat"].unique(maintain_order=True):
        at = {r["tier"]: r for r in own.filter(pl.col("stat") == stat).iter_rows(named=True)}
        every = at["all"]
        row: dict[str, object] = {"stat": stat, "n": every["n"]}
        row["P10-P90"] = _spelt(every, "coverage")
        row |= {
            f"{EXPOSURE[role]} {label}": _spelt(at[t], "coverage") if t in at else "–" for t, label in tiers.items()
        }
        row["P20-P80"] = f"{100 * every['inner']:.1f}"
        row["CRPS"] = f"{every['crps']:.3g}"
        row["gain"] = _spelt(every, "gain")
        table.append(row)
    return pl.DataFrame(table)


def _spelt(row: Mapping[str, float], name: str) -> str:
    return f"{100 * row[name]:.1f} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"


def _bounds(rows: pl.DataFrame) -> tuple[Array, Array]:
    return rows["low"].to_numpy(), rows["high"].to_numpy()


def main() -> None:
    """Print a table per role and system; write the figure of deciles."""
    from fullcount.projection.registry import make_systems
    from fullcount.report.figures import calibrations
    from fullcount.report.tables import markdown
    from fullcount.store import Store

    parser = argparse.ArgumentParser(description="Coverage and CRPS of projected percentiles.")
    parser.add_argument("seasons", type=int, nargs="+")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--system", action="append", default=[], help="the first is the rival; default marcel+bands")
    parser.add_argument("--figure", type=Path, help="PNG of the share of outcomes below each percentile")
    given = parser.parse_args()
    store = Store.open(given.store)
    systems = make_systems(given.system or ["marcel+bands"], store)
    rows = judged(systems, League.of(store), given.seasons)
    lines = summary(rows)
    for system in systems:
        for role in ROLES:
            print(f"\n{system.name}, {role}, {', '.join(map(str, given.seasons))}\n")
            print(markdown(shown(lines, role, system.name)))
    if given.figure is not None:
        calibrations(deciles(rows)).savefig(given.figure)


if __name__ == "__main__":
    told(main)
