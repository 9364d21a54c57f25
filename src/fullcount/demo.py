"""The demo: the whole path on a simulated league whose true talent is known."""

from __future__ import annotations

import shutil
import time
from datetime import date
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.markup import escape

from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import BacktestResult, backtest
from fullcount.evaluation.cohorts import Cohort
from fullcount.projection.contextual import Contextual
from fullcount.projection.export import export
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import ROLES, League
from fullcount.report.backtest import write_backtest
from fullcount.report.figures import training
from fullcount.report.html import Section
from fullcount.simulated.league import simulate
from fullcount.simulated.oracle import Oracle
from fullcount.store import Store
from fullcount.training.jobs import finetune, pretrain
from fullcount.training.loop import TrainConfig
from fullcount.training.run import Run

SEASONS, TEAMS, GAMES = 8, 18, 70
DEMO_STEPS = 300
FIRST = 2001
MARK = ".fullcount-demo"
STATS = {
    "hitters": ("K%", "BB%", "HR%", "OBP", "wOBA"),
    "pitchers": ("K%", "BB%", "HR/9", "WHIP", "ERA"),
}


def run_demo(out: Path, seed: int, console: Console) -> pl.DataFrame:
    """Simulate, pre-train, fit, project the last simulated season and judge it. Returns the table of results.

    `out` gets a store, the runs, two CSVs of projections and one HTML page. A folder that is there and is not a
    demo's is refused; of an earlier demo, what it wrote is removed and nothing else.
    """
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise FullcountError(f"{out}: not empty and not an earlier demo; choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()  # first of all: a `store` alone may be somebody's real one
    for folder in ("store", "encoder", "batter", "pitcher"):
        shutil.rmtree(out / folder, ignore_errors=True)
    started = time.perf_counter()

    def say(text: str) -> None:
        console.print(f"[dim]{time.perf_counter() - started:5.0f} s[/dim]  {escape(text)}")

    last = FIRST + SEASONS - 1
    say(f"simulating {SEASONS} seasons of a league of {TEAMS} teams, {GAMES} games each")
    league = simulate(seasons=SEASONS, teams=TEAMS, games_per_team=GAMES, seed=seed, first_season=FIRST)
    store = Store.open_or_create(out / "store").add(league.tables, "simulated")
    say(f"{store.rows:,} pitches in {out / 'store'}")

    cutoff = date(last, 3, 1)
    say(f"pre-training by masked gamestate on play before {cutoff}")
    pretrain(
        PretrainConfig(before=cutoff, train=TrainConfig(steps=DEMO_STEPS, lr=2e-3, seed=seed)), store, out / "encoder"
    )
    runs: dict[str, Path] = {}
    for role in ("batter", "pitcher"):
        say(f"fitting the {role} head on what players did next")
        runs[role] = out / role
        config = FinetuneConfig(role=role, before=cutoff, since=date(FIRST, 6, 1))
        finetune(config, store, out / "encoder", runs[role])

    say(f"projecting {last} and judging it")
    contextual = Contextual(store, runs["batter"], runs["pitcher"])
    known = League.of(store)
    hitters, pitchers = export(contextual.project(cutoff, known), out, store.table("players"))
    result = backtest(
        [Marcel(), contextual, Oracle(league.true_rates)],
        known,
        [last],
        cohorts=[Cohort("regulars", actual={"hitters": 100.0, "pitchers": 25.0})],
        stats=STATS,  # type: ignore[arg-type]
        rate_floor={"hitters": 0.0, "pitchers": 0.0},
    )
    learning = Section(
        "Pre-training", "Loss of each predicted field, nats.", figure=training(Run(out / "encoder").records())
    )
    written = write_backtest(result, out, console, title="fullcount demo: a simulated league", sections=[learning])
    for line in verdict(result):
        say(line)
    for path in (hitters, pitchers, *written):
        say(f"wrote {path}")
    return result.table


def verdict(result: BacktestResult) -> list[str]:
    """Whether the contextual model beats Marcel on K% and BB%, where the truth is known: one sentence a rate."""
    lines = []
    for role in ROLES:
        for stat in ("K%", "BB%"):
            r = {row["system"]: row["r"] for row in result.mean.filter(role=role, stat=stat).iter_rows(named=True)}
            word = "beats" if r["contextual"] > r["marcel"] else "does not beat"
            lines.append(
                f"{role}' {stat}: contextual r {r['contextual']:.3f} {word} Marcel's {r['marcel']:.3f} "
                f"(the truth itself: {r['truth']:.3f})"
            )
    return lines
