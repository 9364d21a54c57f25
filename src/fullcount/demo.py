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
from fullcount.evaluation.backtest import backtest
from fullcount.evaluation.cohorts import Cohort
from fullcount.projection.contextual import Contextual
from fullcount.projection.export import export
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import League, Projection, Role, rates
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
    try:
        return _steps(out, seed, console)
    except KeyboardInterrupt:  # what stopped would say that it goes on
        raise KeyboardInterrupt("stopped; the same command begins the demo again") from None


def _steps(out: Path, seed: int, console: Console) -> pl.DataFrame:
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
    projections = {system.name: system.project(cutoff, known) for system in (Marcel(), contextual)}
    hitters, pitchers = export(projections[contextual.name], out, store.table("players"))
    truth = against_truth(projections, league.true_rates)
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
    talent = Section("Against true talent", "r and RMSE of projected with true rates, all projected players.", truth)
    title = "fullcount demo: a simulated league"
    written = write_backtest(result, out, console, title=title, sections=[talent, learning])
    for line in verdict(truth):
        say(line)
    for path in (hitters, pitchers, *written):
        say(f"wrote {path}")
    return result.table


def against_truth(projections: dict[str, Projection], true_rates: pl.DataFrame) -> pl.DataFrame:
    """How near each system's K% and BB% came to the players' true rates, which no luck of one season blurs.

    Args:
        projections: of one season, by system.
        true_rates: `SimulatedLeague.true_rates`.

    Returns:
        role, stat, system, n, r and rmse, over all projected players.
    """
    rows = []
    roles: tuple[tuple[Role, str], ...] = (("hitters", "batter"), ("pitchers", "pitcher"))
    for role, name in roles:
        for stat in ("K%", "BB%"):
            for system, projection in projections.items():
                truth = true_rates.filter((pl.col("season") == projection.season) & (pl.col("role") == name))
                said = rates(projection.role(role), role).join(truth, on="player", suffix=" true")
                error = said[stat] - said[f"{stat} true"]
                r = said.select(pl.corr(stat, f"{stat} true")).item()
                rmse = (error**2).mean() ** 0.5  # type: ignore[operator]
                rows.append({"role": role, "stat": stat, "system": system, "n": said.height, "r": r, "rmse": rmse})
    return pl.DataFrame(rows)


def verdict(table: pl.DataFrame) -> list[str]:
    """Whether the contextual model is nearer to the truth than Marcel: one sentence a rate of `against_truth`."""
    lines = []
    for (role, stat), part in table.group_by("role", "stat", maintain_order=True):
        r = dict(zip(part["system"], part["r"], strict=True))
        word = "beats" if r["contextual"] > r["marcel"] else "does not beat"
        lines.append(f"{role}' true {stat}: contextual r {r['contextual']:.3f} {word} Marcel's {r['marcel']:.3f}")
    return lines
