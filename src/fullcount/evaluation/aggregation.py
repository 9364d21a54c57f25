"""Four ways from what a model knows on 1 March to a season's rates, on the same players in the same playing time.

    python -m fullcount.evaluation.aggregation SEASON ... --store STORE --season-heads BATTER_RUN PITCHER_RUN \
        --game-heads BATTER_RUN PITCHER_RUN --next-event RUN --kept FOLDER

`season head` (the reference), `mean of games` (every game against the average opponent in an average park), `schedule`
(game by game over the schedule of the player's last team) and `simulation` (the season played pitch by pitch), with
the prior alone and Marcel beside them. Playing time is Marcel's in all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.errors import told
from fullcount.evaluation.backtest import BacktestResult, backtest
from fullcount.evaluation.cohorts import Cohort, outcomes
from fullcount.projection.contextual import Contextual
from fullcount.projection.marcel import Marcel
from fullcount.projection.per_game import FromRates, PerGame, Rates, Simulated, prior_rates
from fullcount.projection.system import ROLES, League, Projection, Role, System
from fullcount.report.tables import markdown, summary
from fullcount.store import ROLES as PLAYER_ROLES
from fullcount.store import Store

STATS: dict[Role, tuple[str, ...]] = {
    "hitters": ("K%", "BB%", "HR%", "OBP"),
    "pitchers": ("K%", "BB%", "HR/9", "K/9"),
}
#: Outcomes whose chance error is told, by the statistic that they are of.
_CHANCE = {"K%": "K", "BB%": "BB", "HR%": "HR"}


@dataclass
class Alone:
    """`system` without those for whom another one speaks in its stead; `asked`: seconds and players so far."""

    system: System
    asked: list[tuple[float, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.system.name

    def project(self, as_of: date, league: League) -> Projection:
        """What `system` says itself."""
        began = time.perf_counter()
        said = self.system.project(as_of, league)
        own = [t if "system" not in t.columns else t.filter(system=self.name) for t in (said.hitters, said.pitchers)]
        self.asked.append((time.perf_counter() - began, sum(t.height for t in own)))
        return Projection.of(said.season, *own)


def ways(store: Store, season: tuple[Path, Path], game: tuple[Path, Path], simulated: Simulated | None) -> list[Alone]:
    """The ways to a season, the season head first; (batter, pitcher) runs of either grain."""
    rates: dict[str, Rates] = {
        "mean of games": PerGame(store, *game),
        "schedule": PerGame(store, *game, schedule="real"),
        **({} if simulated is None else {"simulation": simulated}),
        "prior alone": prior_rates(store),
    }
    head = Contextual(store, *season, name="season head")
    others = [FromRates(store, name=name, said=said) for name, said in rates.items()]
    return [Alone(head), *map(Alone, others), Alone(Marcel())]


def judge(
    systems: Sequence[System], league: League, seasons: Sequence[int], draws: int = 1000, cohort: str | Cohort = "A"
) -> BacktestResult:
    """The ways on the players of a cohort that all of them speak for; differences from the first."""
    return backtest(systems, league, seasons, (cohort,), bootstrap=draws, stats=STATS)


def chance(simulated: Simulated, league: League, seasons: Sequence[int], least: float = 200) -> pl.DataFrame:
    """What too few simulated plate appearances cost: role, outcome, mean `n`, standard deviation of simulated rates
    and of chance in them, and by how much chance shrinks a correlation."""
    rows = []
    for role, who, n in zip(PLAYER_ROLES, ROLES, ("PA", "TBF"), strict=True):
        parts = []
        for season in seasons:
            came = outcomes(league, season).role(who).filter(pl.col(n) >= least).select("player")
            lines = simulated.lines(role, date(season, 3, 1)).filter(pl.col("n") >= simulated.least)
            parts.append(lines.join(came, on="player", how="semi"))
        for stat, outcome in _CHANCE.items():
            rate = [(p[outcome] / p["n"]).to_numpy() for p in parts]
            noise = float(np.mean([(r * (1 - r) / p["n"].to_numpy()).mean() for r, p in zip(rate, parts, strict=True)]))
            total = float(np.mean([r.var() for r in rate]))
            faced = float(np.mean([p["n"].mean() for p in parts]))
            shrinks = max(1 - noise / total, 0.0) ** 0.5
            rows.append(
                {"role": role, "rate": stat, "n": faced, "sd": total**0.5, "chance": noise**0.5, "r times": shrinks}
            )
    return pl.DataFrame(rows)


def cost(systems: Sequence[Alone], simulated: Simulated | None, seasons: Sequence[int]) -> pl.DataFrame:
    """Seconds a player of each way, the first season left out where there are more (priors are read then)."""
    rows = []
    for one in systems:
        asked = one.asked[1:] or one.asked
        seconds, players = (float(sum(v)) for v in zip(*asked, strict=True))
        if simulated is not None and one.name == "simulation":  # projected from kept seasons: what those took
            seconds = sum(simulated.seconds(date(s, 3, 1)) for s in seasons[-len(asked) :])
        rows.append({"way": one.name, "seconds a player": seconds / max(players, 1), "players": players / len(asked)})
    return pl.DataFrame(rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Ways from a model's knowledge to a season's rates.")
    parser.add_argument("seasons", type=int, nargs="+")
    parser.add_argument("--store", type=Path, required=True)
    runs = ("BATTER_RUN", "PITCHER_RUN")
    parser.add_argument("--season-heads", type=Path, nargs=2, required=True, metavar=runs)
    parser.add_argument("--game-heads", type=Path, nargs=2, required=True, metavar=runs)
    parser.add_argument("--next-event", type=Path, metavar="RUN")
    parser.add_argument("--kept", type=Path, default=Path("simulated"), help="folder of simulated seasons")
    parser.add_argument("--replays", type=int, default=2)
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    store, seasons = Store.open(given.store), sorted(given.seasons)
    league = League.of(store)
    simulated = Simulated(store, given.next_event, given.kept, given.replays) if given.next_event else None
    systems = ways(store, given.season_heads, given.game_heads, simulated)
    result = judge(systems, league, seasons, given.draws)
    for role in ROLES:
        print(role, markdown(summary(result, "A", role, STATS[role])), sep="\n")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=4):
        if simulated is not None:
            print(chance(simulated, league, seasons))
        print(cost(systems, simulated, seasons))


if __name__ == "__main__":
    told(main)
