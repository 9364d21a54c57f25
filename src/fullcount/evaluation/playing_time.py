"""Playing time judged alone, beside that of other systems.

    python -m fullcount.evaluation.playing_time SEASON ... --store STORE [--system SPEC ...]

Cohort A: 200 PA, 50 innings or more. `all`: everyone whom the first system projects, who did not play with 0; there a
system that says `plays` is read as `plays` times its playing time, and whom a system leaves out it expects not to play.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.errors import told
from fullcount.evaluation.cohorts import COHORTS, outcomes
from fullcount.evaluation.metrics import METRICS
from fullcount.projection.system import EXPOSURE, ROLES, League, System

SHOWN = ("r", "rmse", "bias")


def judge(systems: Sequence[System], league: League, seasons: Sequence[int]) -> pl.DataFrame:
    """A row per role, cohort and system: n (all seasons), mean over seasons of r, rmse and bias of PA or IP.

    Cohort A is judged on the players all systems project.
    """
    rows = []
    for season in seasons:
        happened = outcomes(league, season)
        said = [s.project(date(season, 3, 1), league) for s in systems]
        for role in ROLES:
            n = EXPOSURE[role]
            actual = happened.role(role).select("player", actual=n)
            tables = [p.role(role) for p in said]
            lasted = actual.filter(pl.col("actual") >= COHORTS["A"].actual[role])
            for table in tables:
                lasted = lasted.join(table, on="player", how="semi")
            everyone = (
                tables[0]
                .select("player")
                .join(actual, on="player", how="left")
                .with_columns(pl.col("actual").fill_null(0.0))
            )
            for system, table in zip(systems, tables, strict=True):
                sure = pl.col("plays").fill_null(1.0) if "plays" in table.columns else pl.lit(1.0)
                own = table.select("player", given=n, mean=pl.col(n) * sure)
                for cohort, who, column in (("A", lasted, "given"), ("all", everyone, "mean")):
                    both = who.join(own, on="player", how="left", maintain_order="left")
                    x = both[column].fill_null(0.0).to_numpy().astype(np.float64)
                    y = both["actual"].to_numpy().astype(np.float64)
                    scores = {m: float(METRICS[m](x, y, None)) for m in SHOWN}
                    rows.append({"role": role, "cohort": cohort, "system": system.name, "n": len(y), **scores})
    keys = ["role", "cohort", "system"]
    return pl.DataFrame(rows).group_by(keys, maintain_order=True).agg(pl.col("n").sum(), pl.col(SHOWN).mean()).sort(
        "role", "cohort", maintain_order=True
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    from fullcount.projection.registry import make_systems
    from fullcount.store import Store

    parser = argparse.ArgumentParser(description="Playing time of several systems against what happened.")
    parser.add_argument("seasons", type=int, nargs="+")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--system", action="append", default=[])
    given = parser.parse_args()
    store = Store.open(given.store)
    systems = make_systems(given.system or ["marcel", "marcel+pt"], store)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=120, float_precision=3):
        print(judge(systems, League.of(store), given.seasons))


if __name__ == "__main__":
    told(main)
