"""Holds: relievers who took over a lead worth saving and handed it on.

A hold is a save situation entered in relief, at least one out, and a lead never given up, by a pitcher who neither won
nor finished the game. Whether it was lost later does not matter: a hold and a loss may go together. To this, MLB's
definition, published totals add what it does not say: nobody who enters before the sixth inning has one
(`docs/results/holds.md`).
"""

from __future__ import annotations

import polars as pl

FIRST_INNING = 6


def kept_lead(made: str, scored: str) -> pl.Expr:
    """Whether a pitcher entered in a save situation, got an out and never gave up the lead: an aggregation.

    Of one pitcher's plays in one game, in order, with the canonical `inning`, `outs`, `bases`, `bat_score` and
    `fld_score` before each; `made` and `scored` are the columns of outs and runs on each. A save situation: a lead of
    three runs at most with an inning left to pitch, or the tying run on base, at bat or on deck (Rule 9.19).
    """
    lead = pl.col("fld_score").cast(pl.Int32) - pl.col("bat_score").cast(pl.Int32)
    inning_left = (pl.col("inning") < 9) | (pl.col("outs") == 0)
    tying_run = lead - pl.col("bases").bitwise_count_ones().cast(pl.Int32)  # 1 at bat, 2 on deck, less: on base
    save = (lead > 0) & (((lead <= 3) & inning_left) | (tying_run <= 2)) & (pl.col("inning") >= FIRST_INNING)
    return save.first() & (pl.col(made).sum() > 0) & ((lead - pl.col(scored).cast(pl.Int32)).min() > 0)
