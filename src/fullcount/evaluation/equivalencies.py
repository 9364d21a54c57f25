"""Minor-league equivalencies judged: lines at one level against the same players' lines at the level above.

Players are split in halves; shifts between levels are learned from one half and judged on the other. The judged are
who changed levels, so that what choosing them does to a shift (see `projection.equivalencies`) is in both halves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import bias, log_loss_gain, pearson, sd_ratio
from fullcount.projection.equivalencies import COMPONENTS, ladder, level_shifts, link, outcome_lines, pairs, regress
from fullcount.projection.system import ROLES, League, Role
from fullcount.store import Store

SYSTEMS = ("untranslated", "mean of the level above", "translated")
JUDGED = {"SO": "K%", "BB": "BB%", "HR": "HR%"}


def judge_levels(
    league: League, role: Role, season: int, minimum: int = 50, draws: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """One row a level, the one above it and a system: players, nats, gain, low, high, and r and sd ratio of `JUDGED`.

    A player needs `minimum` plate appearances (batters faced) at both levels, below in `season`. "untranslated" is his
    lower line regressed to that level's mean, "translated" the same after the shifts, "mean of the level above"
    what the other half did there. `nats`: log-loss of the outcomes above per plate appearance; `gain`: how much less
    than untranslated, with its 95 % interval (players drawn). r and sd ratio are weighted by plate appearances above.
    """
    lines = outcome_lines(league, role)
    lines = lines.filter((pl.col("league") == league.name) | (pl.col("season") == season))
    names = ("OUT", *COMPONENTS[role])
    rows = []
    for low, (high, reach) in ladder(lines, league.name).items():
        both = pairs(lines, role, low, high, reach)
        half = np.random.default_rng(seed).permutation(both.height) % 2
        judged = (both["n"] >= minimum).to_numpy() & (both["n_above"] >= minimum).to_numpy()
        if min(np.bincount(half[judged], minlength=2)) < 3:
            continue
        said = {s: np.zeros((both.height, len(names))) for s in SYSTEMS}
        below = lines.filter(pl.col("league") == low)
        for h in (0, 1):
            mine, others = half == h, both.filter(half != h)
            who = both.filter(mine).select("player")
            mean = others.select(pl.col(f"{c}_above").sum() for c in names).to_numpy()
            said["mean of the level above"][mine] = mean / mean.sum()
            shifts = {"untranslated": np.zeros(len(names) - 1), "translated": link(others, role)}
            for system, shift in shifts.items():
                found = who.join(regress(below, role, {low: shift}), on="player", maintain_order="left")
                said[system][mine] = found.select(names).to_numpy()
        happened = both.select(f"{c}_above" for c in names).to_numpy()[judged]
        player, n = both["player"].to_numpy()[judged], happened.sum(axis=1)
        nats = {s: -(happened * np.log(p[judged])).sum(axis=1) / n for s, p in said.items()}
        for system, mix in said.items():
            row = {"role": role, "level": low, "above": high, "system": system, "players": len(player)}
            row |= log_loss_gain(player, nats[system], nats["untranslated"], n, draws, seed)
            for c, label in JUDGED.items():
                x, y = mix[judged][:, names.index(c)], happened[:, names.index(c)] / n
                row |= {f"{label} r": float(pearson(x, y, n)), f"{label} sd": float(sd_ratio(x, y, n))}
                row |= {f"{label} bias": float(bias(x, y, n))}
            rows.append(row)
    if not rows:
        raise FullcountError(f"no two levels share {role} of {season} with {minimum} plate appearances at both")
    return pl.DataFrame(rows).fill_nan(None)


def shift_table(league: League, role: Role, season: int) -> pl.DataFrame:
    """`level_shifts` known before `season` as a table: per level the factors of the odds against an out."""
    lines = outcome_lines(league, role).filter(pl.col("season") < season)
    shifts = level_shifts(lines, role, league.name)
    return pl.DataFrame(
        [{"role": role, "level": x, **dict(zip(COMPONENTS[role], np.exp(s), strict=True))} for x, s in shifts.items()]
    )


def main() -> None:
    """`python -m fullcount.evaluation.equivalencies --store DIR --season 2025`"""
    parser = argparse.ArgumentParser(description="Minor-league equivalencies on players of two levels.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--season", type=int, required=True, help="season of the lower level's lines")
    given = parser.parse_args()
    league = League.of(Store.open(given.store))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, float_precision=4, tbl_hide_dataframe_shape=True):
        for role in ROLES:
            print(shift_table(league, role, given.season + 1), judge_levels(league, role, given.season), sep="\n")


if __name__ == "__main__":
    told(main)
