"""Playing time judged alone, beside that of other systems.

    python -m fullcount.evaluation.playing_time SEASON ... --store STORE [--system SPEC ...]

Cohort A: 200 PA, 50 innings or more. `all`: everyone whom the first system projects, who did not play with 0; there a
system that says `plays` is read as `plays` times its playing time, and whom a system leaves out it expects not to play.
A second table: the probability of playing at all, where a system says it, and who will be a starter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.stats import rankdata

from fullcount.errors import told
from fullcount.evaluation.cohorts import COHORTS, outcomes
from fullcount.evaluation.metrics import METRICS
from fullcount.projection.system import EXPOSURE, ROLES, League, Projection, Role, System

SHOWN = ("r", "rmse", "bias")


class Asked(NamedTuple):
    """What happened in a season, and what systems said of it."""

    happened: Projection
    said: list[Projection]


def asked(systems: Sequence[System], league: League, seasons: Sequence[int]) -> list[Asked]:
    """Every system's word on every season, as of 1 March."""
    return [Asked(outcomes(league, s), [x.project(date(s, 3, 1), league) for x in systems]) for s in seasons]


def judge(systems: Sequence[System], seasons: Sequence[Asked]) -> pl.DataFrame:
    """A row per role, cohort and system: n (all seasons), mean over seasons of r, rmse and bias of PA or IP.

    Cohort A is judged on the players all systems project.
    """
    rows = []
    for happened, said in seasons:
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


def told_apart(systems: Sequence[System], seasons: Sequence[Asked]) -> pl.DataFrame:
    """A row per role and system, all seasons together: who plays at all, and who starts.

    `plays`: Brier score of the probability of playing, over that of the share who played in the season (below 1 is
    better), and `auc`, the chance that of one who played and one who did not the first was given more; null where a
    system says none. `GS r` and `starts`, pitchers of 50 innings or more whom all project: correlation of games
    started, and the share whose role (more than half of the games are starts) was told. 0 is said where G or GS is not.
    """
    rows = []
    for role in ROLES:
        seen = [(happened.role(role), [p.role(role) for p in said]) for happened, said in seasons]
        for k, system in enumerate(systems):
            row: dict[str, object] = {"role": role, "system": system.name}
            row |= _who_plays([(h, t[k]) for h, t in seen], role)
            row |= _who_starts(seen, k) if role == "pitchers" else {}
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _who_plays(seen: list[tuple[pl.DataFrame, pl.DataFrame]], role: Role) -> dict[str, float]:
    """`plays` and `auc` of pairs of what happened and what a system said of it."""
    parts = []
    for happened, table in seen:
        if "plays" not in table.columns:
            return {}
        who = happened.filter(pl.col(EXPOSURE[role]) > 0).select("player", y=1.0)
        both = table.join(who, on="player", how="left").select(pl.col("plays", "y").fill_null(0.0))
        parts.append(both.with_columns(usual=pl.col("y").mean()))
    said, y, usual = pl.concat(parts).to_numpy().T
    played = int(y.sum())
    ahead = rankdata(said)[y > 0].sum() - played * (played + 1) / 2
    brier = ((said - y) ** 2).mean() / ((usual - y) ** 2).mean()
    return {"plays": float(brier), "auc": float(ahead / (played * (len(y) - played)))}


def _who_starts(seen: list[tuple[pl.DataFrame, list[pl.DataFrame]]], k: int) -> dict[str, float]:
    """`GS r` and `starts` of the k-th system."""
    parts = []
    for happened, tables in seen:
        lasted = happened.filter(pl.col("IP") >= COHORTS["A"].actual["pitchers"]).select("player", "G", "GS")
        for table in tables:
            lasted = lasted.join(table, on="player", how="semi")
        parts.append(lasted.join(tables[k].select("player", "G", "GS"), on="player", suffix=":said"))
    games = pl.concat(parts).with_columns(pl.col("G", "GS", "G:said", "GS:said").fill_null(0.0))
    starter, said = games["GS"] > games["G"] / 2, games["GS:said"] > games["G:said"] / 2
    r = METRICS["r"](games["GS:said"].to_numpy(), games["GS"].to_numpy(), None)
    return {"GS r": float(r), "starts": float((starter == said).mean())}  # type: ignore[arg-type]


def main() -> None:
    """Print the tables."""
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
        seasons = asked(systems, League.of(store), given.seasons)
        print(judge(systems, seasons))
        print(told_apart(systems, seasons))


if __name__ == "__main__":
    told(main)
