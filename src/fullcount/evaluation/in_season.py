"""Rest-of-season projections against what came, beside what anybody can write down.

    python -m fullcount.evaluation.in_season SEASON ... --store STORE [--system SPEC] [--day MM-DD ...] [--out FOLDER]

Rivals, on the same players: `preseason`, the preseason line scaled to what remains; `to date`, the line so far
extrapolated; `half`, the mean of the two. Judged is who is projected before the season and has appeared in it, counts
of everybody (who does not play any more has 0), rates of those who had enough of a line before and after the day.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.errors import FullcountError, told
from fullcount.evaluation.cohorts import outcomes
from fullcount.evaluation.metrics import Array, Paired, paired_bootstrap, pearson, rmse
from fullcount.projection.in_season import InSeason, Remainder
from fullcount.projection.system import COUNTS, EXPOSURE, RATES, ROLES, League, Role, rates
from fullcount.sources.seasons import season_lines

DAYS = ("05-15", "07-01", "08-15")
STATS: dict[Role, tuple[str, ...]] = {
    "hitters": ("PA", "HR", "SB", "R", "RBI", "OBP", "K%", "BB%", "HR%"),
    "pitchers": ("IP", "SO", "W", "SV", "ERA", "WHIP", "K%", "BB%"),
}
#: Least PA or IP before and after the day at which rates are judged.
FLOOR: dict[Role, tuple[float, float]] = {"hitters": (50.0, 100.0), "pitchers": (15.0, 25.0)}
RIVALS = ("preseason", "to date", "half")


def judge(
    system: InSeason, league: League, seasons: Sequence[int], days: Sequence[str], draws: int = 1000
) -> pl.DataFrame:
    """A row per role, stat, day and system, means over seasons: n (sum), r, rmse, and how much more r (less rmse) ours
    has, `gain` and `saved`, with 95 % intervals (players drawn in pairs). Day `all`: over all days and seasons."""
    samples: dict[tuple[Role, str, str, str], list[Paired]] = {}
    for season in seasons:
        for day in days:
            then = _day(season, day)
            seen = system.on(then, league)
            if not 0 < seen.share < 1:
                raise FullcountError(f"{then} is not within a season of the store")
            for role in ROLES:
                for key, paired in _samples(system, league, then, seen, role).items():
                    samples.setdefault((role, key[0], day, key[1]), []).append(paired)
                    samples.setdefault((role, key[0], "all", key[1]), []).append(paired)
    rows = []
    for (role, stat, day, name), parts in samples.items():
        row: dict[str, object] = {"role": role, "stat": stat, "day": day, "system": name}
        row["n"] = sum(len(p.actual) for p in parts)
        for metric, f, gained in (("r", pearson, "gain"), ("rmse", rmse, "saved")):
            row[metric] = float(np.mean([f(p.second, p.actual) for p in parts]))
            if name != system.name:
                sign = -1 if metric == "r" else 1  # the second is the rival
                found = [sign * v for v in paired_bootstrap(f, parts, draws)] if draws else [float("nan")] * 3
                row[gained], row[f"{gained}_low"], row[f"{gained}_high"] = found[0], min(found[1:]), max(found[1:])
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _day(season: int, day: str) -> date:
    try:
        return date.fromisoformat(f"{season}-{day}")
    except ValueError:
        raise FullcountError(f"{season}-{day} is no day: write MM-DD") from None


def _samples(system: InSeason, league: League, day: date, seen: Remainder, role: Role) -> dict[tuple[str, str], Paired]:
    """Of each statistic and system its projections (second) beside ours (first) and what came."""
    batting, pitching = (g.filter(season=day.year).filter(pl.col("date") >= day) for g in system.games)
    after = League(*season_lines(batting, pitching, league.name), league.players, league.name)
    came = outcomes(after, day.year).role(role)
    before = system.preseason(day.year, league).role(role)
    left = 1 - seen.share
    scaled = {
        "preseason": before.with_columns(pl.col(c) * left for c in COUNTS[role]),
        "to date": seen.to_date.role(role).with_columns(pl.col(c) * (left / seen.share) for c in COUNTS[role]),
        system.name: seen.rest.role(role),
    }
    players = before.join(seen.to_date.role(role), on="player", how="semi").select("player").sort("player")
    what = players.join(came.select("player", *COUNTS[role]), on="player", how="left", maintain_order="left")
    n = EXPOSURE[role]
    actual = rates(what.fill_null(0.0), role)
    tables = {
        name: players.join(
            rates(t.select("player", *COUNTS[role]), role), on="player", how="left", maintain_order="left"
        )
        for name, t in scaled.items()
    }
    least = FLOOR[role]
    lasted = ((tables["to date"][n] * seen.share / left >= least[0]) & (actual[n] >= least[1])).to_numpy()
    who, out = players["player"].to_numpy(), {}
    for stat in STATS[role]:
        said = {name: _array(t, stat) for name, t in tables.items()}
        said["half"] = (said["preseason"] + said["to date"]) / 2
        y = _array(actual, stat)
        keep = lasted & np.isfinite(y) if stat in RATES[role] else np.ones(len(who), dtype=bool)
        for x in said.values():
            keep &= np.isfinite(x)
        for name in (system.name, *RIVALS):
            out[stat, name] = Paired(who[keep], y[keep], said[system.name][keep], said[name][keep])
    return out


def _array(table: pl.DataFrame, column: str) -> Array:
    return np.asarray(table[column].cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def main() -> None:
    """Print the table; write the figure."""
    from fullcount.projection.registry import make_system
    from fullcount.report.figures import over_days
    from fullcount.store import Store

    parser = argparse.ArgumentParser(description="Rest-of-season projections against what came.")
    parser.add_argument("seasons", type=int, nargs="+")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--system", default="marcel_gb")
    parser.add_argument("--day", action="append", default=[])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="Folder for the table and a figure of each role.")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    store = Store.open(given.store)
    system = InSeason.of(store, make_system(given.system, store))
    table = judge(system, League.of(store), given.seasons, given.day or DAYS, given.draws)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=3):
        for day in table["day"].unique(maintain_order=True):
            wide = table.filter(day=day).pivot("system", index=["role", "stat", "n"], values=["r", "rmse"])
            print(f"{day}\n{wide}")
        print(table.filter(pl.col("system") == "half", day="all"))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        table.write_csv(given.out / "in_season.csv")
        for role in ROLES:
            over_days(table, role).savefig(given.out / f"in_season_{role}.png")


if __name__ == "__main__":
    told(main)
