"""Forward simulation: games, half innings and plate appearances drawn pitch by pitch from next-event prediction.

A game is told from the two pitchers' points of view, as in training with windows of the role "pitcher": the pitches of
each half inning extend the sequence of the pitcher on the mound, and batters enter through the situation and the
matchup. Many games go in lockstep, one pitch each a step; keys and values are kept, so a pitch costs one token.

    fullcount simulate RUN --store STORE --season 2019 --games 2000
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from fullcount.batches import EVENT, SEPARATOR, SLOT, Batch, collate
from fullcount.errors import FullcountError
from fullcount.fields import AUTOMATIC_CALLS, BY_NAME, CATEGORICAL, COLUMN, NUMERIC
from fullcount.gamestate import Gamestate, Play
from fullcount.model.cache import Cache
from fullcount.model.precision import native_bfloat16
from fullcount.objectives.next_event import NextEvent
from fullcount.priors import Priors
from fullcount.projection.game_plans import GamePlan, of_season, plans_of
from fullcount.store import Store, day_number
from fullcount.training.jobs import load_objective
from fullcount.windows import History, Int, Window

_FINISHES = 1 << 30  # batters faced by whoever stays in to the end


class _Rosters:
    """The plans as tensors: n games, every player and day once in a table.

    Attributes:
        batter: [n, 2, 9, turns] numbers in the table of batters. pitcher: [n, 2, staff]; faces: the same shape.
        league, park: [n] ids. batters, pitchers: players of the tables; days: [pitchers] day numbers.
        stand: [batters, 2] ids against left- and right-handers. throws: [pitchers] ids.
        known: of batters [., SIDE], and of pitchers and the league's level on the day [., MATCHUP - SIDE].
    """

    def __init__(self, plans: Sequence[GamePlan], store: Store, priors: Priors | None, device: torch.device) -> None:
        batters: dict[tuple[int, int], int] = {}
        pitchers: dict[tuple[int, int], int] = {}
        turns = max(len(place) for p in plans for side in p.lineups for place in side)
        staff = max(len(s) for p in plans for s in p.pitchers)
        batter = np.zeros((len(plans), 2, 9, turns), dtype=np.int64)
        pitcher = np.zeros((len(plans), 2, staff), dtype=np.int64)
        faces = np.full((len(plans), 2, staff), _FINISHES, dtype=np.int64)
        for g, plan in enumerate(plans):
            day = day_number(plan.day)
            for side in (0, 1):
                for slot, place in enumerate(plan.lineups[side]):
                    numbers = [batters.setdefault((b, day), len(batters)) for b in place]
                    batter[g, side, slot] = numbers + numbers[-1:] * (turns - len(numbers))
                for i, (p, count) in enumerate(plan.pitchers[side]):
                    pitcher[g, side, i:] = pitchers.setdefault((p, day), len(pitchers))
                    if i + 1 < len(plan.pitchers[side]):
                        faces[g, side, i] = count
        self.batter, self.pitcher, self.faces = (torch.from_numpy(a).to(device) for a in (batter, pitcher, faces))
        who = [np.array(list(table), dtype=np.int64).reshape(-1, 2) for table in (batters, pitchers)]
        self.batters, self.pitchers, self.days = who[0][:, 0], who[1][:, 0], who[1][:, 1]
        stand, throws = _hands(store, self.batters, self.pitchers, min(p.day for p in plans))
        self.stand, self.throws = torch.from_numpy(stand).to(device), torch.from_numpy(throws).to(device)
        self.league, self.park = (
            torch.tensor([_id(store, name, getattr(p, name)) for p in plans], device=device)
            for name in ("league", "park")
        )
        halves = []
        for half, table in enumerate(who):
            known = np.zeros((len(table), 0), dtype=np.float32)
            if priors is not None:
                known = priors.matchup(table[:, 0], table[:, 0], table[:, 1])
                known = known[:, Priors.SIDE :] if half else known[:, : Priors.SIDE]  # the level goes with pitchers
            halves.append(torch.from_numpy(np.ascontiguousarray(known)).to(device))
        self.known = halves


def _id(store: Store, field: str, value: str) -> int:
    """Id of a value of an open vocabulary; 0 where the store has not seen it."""
    words = store.vocabulary(field)
    return 1 + words.index(value) if value in words else 0


def _hands(store: Store, batters: Int, pitchers: Int, before: date) -> tuple[Int, Int]:
    """Ids of `stand` [batters, 2] against left- and right-handers, and of `throws` [pitchers]: mostly so, or right.

    From the plate appearances before a day; of who has none, from all: a hand is a fact known before play.
    """
    turns = store.table("plate_appearances").select("batter", "pitcher", "stand", "throws", "date").drop_nulls()
    past = pl.col("date") < before

    def mostly(player: str, hand: str, ids: Int, against: str | None = None) -> Int:
        seen = turns if against is None else turns.filter(pl.col("throws") == against)
        seen = seen.filter(past | ~past.any().over(player))
        share = seen.group_by(player).agg((pl.col(hand) == "R").mean().alias("right"))
        found = pl.DataFrame({player: ids.astype(np.int32)}).join(share, on=player, how="left", maintain_order="left")
        right = found["right"].to_numpy()
        return np.select([np.isnan(right), right >= 0.5], [0, BY_NAME[hand].ids["R"]], BY_NAME[hand].ids["L"])

    either = mostly("batter", "stand", batters)
    sides = []
    for hand in ("L", "R"):
        own = mostly("batter", "stand", batters, hand)
        sides.append(np.where(own > 0, own, either))
    stand, throws = np.stack(sides, axis=1), mostly("pitcher", "throws", pitchers)
    return np.where(stand > 0, stand, BY_NAME["stand"].ids["R"]), np.where(
        throws > 0, throws, BY_NAME["throws"].ids["R"]
    )


@dataclass(frozen=True)
class Simulation:
    """What was simulated.

    Attributes:
        pitches: one row a pitch, by game and in playing order: `game` (number of the plan), inning, top, outs, balls,
            strikes, bases (bit mask), batter, pitcher, call, contact, event, `runs` and `outs_made` on it, `bat_score`,
            `fld_score` before it.
        seconds: it took.
    """

    pitches: pl.DataFrame
    seconds: float

    def games(self) -> pl.DataFrame:
        """One row a game: game, visitors and home (runs), innings, pitches."""
        runs = pl.col("runs")
        return (
            self.pitches.group_by("game")
            .agg(
                runs.filter(pl.col("top")).sum().alias("visitors"),
                runs.filter(~pl.col("top")).sum().alias("home"),
                pl.col("inning").max().alias("innings"),
                pl.len().alias("pitches"),
            )
            .sort("game")
        )

    def batting(self, *by: str) -> pl.DataFrame:
        """Lines of batters, also by (say) "game"; `pitches` he saw. Who scored is not simulated: no R."""
        return self._lines("batter", by).select(
            "player", *by, "PA", "AB", "H", "1B", "2B", "3B", "HR", "RBI", "BB", "IBB", "SO", "HBP", "SH", "SF", "GDP",
            "pitches",
        )  # fmt: skip

    def pitching(self, *by: str) -> pl.DataFrame:
        """Lines of pitchers; R: runs while he was on the mound."""
        return (
            self._lines("pitcher", by)
            .rename({"PA": "BF"})
            .select("player", *by, "BF", "outs", "R", "H", "2B", "3B", "HR", "BB", "IBB", "SO", "HBP", "pitches")
        )

    def _lines(self, role: str, by: tuple[str, ...]) -> pl.DataFrame:
        event = pl.col("event")

        def count(*names: str) -> pl.Expr:
            return event.is_in(names).sum()

        appearance = ~event.is_in(["none", "truncated_pa"])
        walks = ("walk", "intent_walk")
        free = (*walks, "hit_by_pitch", "sac_bunt", "sac_fly", "sac_fly_double_play", "catcher_interf")
        unearned = ("field_error", "grounded_into_double_play")
        hits = {"1B": "single", "2B": "double", "3B": "triple", "HR": "home_run"}
        return (
            self.pitches.group_by(pl.col(role).alias("player"), *by)
            .agg(
                appearance.sum().alias("PA"),
                (appearance & ~event.is_in(free)).sum().alias("AB"),
                count(*hits.values()).alias("H"),
                *(count(event_name).alias(name) for name, event_name in hits.items()),
                count(*walks).alias("BB"),
                count("intent_walk").alias("IBB"),
                count("strikeout", "strikeout_double_play").alias("SO"),
                count("hit_by_pitch").alias("HBP"),
                count("sac_bunt").alias("SH"),
                count("sac_fly", "sac_fly_double_play").alias("SF"),
                count("grounded_into_double_play").alias("GDP"),
                pl.col("runs").filter(appearance & ~event.is_in(unearned)).sum().alias("RBI"),
                pl.col("runs").sum().alias("R"),
                pl.col("outs_made").sum().alias("outs"),
                (~pl.col("call").is_in(AUTOMATIC_CALLS)).sum().alias("pitches"),
            )
            .sort("player", *by)
        )


_LOG = (
    "game", "inning", "top", "outs", "balls", "strikes", "bases", "batter", "pitcher", "call", "contact", "event",
    "runs", "outs_made", "bat_score", "fld_score",
)  # fmt: skip
#: Whether a rollout ends on a play.
Stop = Callable[[Play], Tensor]


class Simulator:
    """Draws play from a next-event model.

    Args:
        model: on the device on which to simulate.
        store: where players' forms, hands and histories are looked up, as of each plan's day.
        rows: rollouts in lockstep. Results depend on (seed, rows).
        games: games of each pitcher's history before the one simulated; none by default.
        pitch_types: whether kinds of pitches are drawn. By default, if most of the store's pitches have them.

    Raises:
        FullcountError: the model's encoder keeps games apart, so that nothing can be read on, or reads the pitchers'
            own mixes of types, which are not looked up here.
    """

    def __init__(
        self,
        model: NextEvent,
        store: Store,
        *,
        rows: int = 1024,
        games: int = 0,
        pitch_types: bool | None = None,
    ) -> None:
        if model.encoder.config.architecture != "flat":
            raise FullcountError(
                "simulation: a hierarchical encoder reads whole plate appearances; it needs encoder.architecture = flat"
            )
        if model.encoder.config.context != "window" or model.encoder.config.repertoire:
            raise FullcountError('simulation: the encoder must have context = "window" and repertoire = false')
        self.model, self.store, self.rows = model.eval(), store, rows
        self.device = next(model.parameters()).device
        self.bfloat16 = native_bfloat16(self.device.type)
        self.priors = Priors(store) if model.encoder.config.matchup else None
        self.past, self.history = games, History(store, Window("pitcher", games=max(games, 1), events=480))
        if pitch_types is None:
            sample = store.categorical[:: max(store.rows // 100_000, 1), COLUMN["pitch_type"]]
            pitch_types = bool((np.asarray(sample) > 0).mean() >= 0.5) if store.rows else False
        self.pitch_types = pitch_types

    def games(self, plans: Sequence[GamePlan], seed: int = 0) -> Simulation:
        """Whole games."""
        innings = torch.tensor([p.innings for p in plans])
        start = Gamestate.start(innings, torch.tensor([int(p.runner) for p in plans]))
        return self._simulate(plans, start, lambda play: play.game_over, seed)

    def half_innings(self, plans: Sequence[GamePlan], start: Gamestate, seed: int = 0) -> Simulation:
        """From `start` (one state a plan) to the end of that half inning; the side at bat begins at the top."""
        return self._simulate(plans, start, lambda play: play.half_over, seed)

    def plate_appearances(
        self,
        matchups: Sequence[tuple[int, int]],
        day: date,
        start: Gamestate,
        n: int = 1,
        seed: int = 0,
        park: str = "",
    ) -> Simulation:
        """(batter, pitcher) pairs, `n` times each, from `start` (one state a pair) to the end of the batter's turn.

        `game` of the result is pair * n + repetition.
        """
        plans = [GamePlan.of([b] * 9, [b] * 9, p, p, day, park=park) for b, p in matchups for _ in range(n)]
        start = start[torch.arange(len(matchups)).repeat_interleave(n)]
        return self._simulate(plans, start, lambda play: play.turn_over, seed)

    @torch.inference_mode()
    def _simulate(self, plans: Sequence[GamePlan], start: Gamestate, stop: Stop, seed: int) -> Simulation:
        began = time.perf_counter()
        if len(start.outs) != len(plans):
            raise FullcountError(f"simulation: {len(plans)} plans and {len(start.outs)} states to begin with")
        if not plans:
            raise FullcountError("simulation: no game to simulate")
        rosters = _Rosters(plans, self.store, self.priors, self.device)
        generator = torch.Generator(device=self.device).manual_seed(seed)
        parts = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            for first in range(0, len(plans), self.rows):
                number = torch.arange(first, min(first + self.rows, len(plans)), device=self.device)
                parts += _Rollout(self, rosters, start[number.to(start.outs.device)], number).play(stop, generator)
        return Simulation(_frame(torch.cat(parts).cpu().numpy(), rosters), time.perf_counter() - began)

    def opening(self, players: Int, days: Int) -> Cache:
        """What pitchers' sequences hold before a game: the slot, and their last games if asked for."""
        dtype = torch.bfloat16 if self.bfloat16 else torch.float32
        cache = Cache(len(self.model.encoder.blocks), len(players), dtype, self.device)
        first, stop = self.history.before(players, days)
        inputs = self.model.encoder.config.inputs
        first = first if self.past else stop
        batch = collate(self.history, first, stop, self.priors, **inputs, as_of=days).to(self.device)
        batch = replace(batch, game=batch.game + (batch.kind != SLOT))  # the newest game is yet to come
        self.model.encoder.extend(batch, cache, batch.kind.shape[1])
        return cache


class _Rollout:
    """Some games in lockstep. Tensors have one row a game; a second axis of 2 is visitors and home."""

    def __init__(self, simulator: Simulator, rosters: _Rosters, state: Gamestate, number: Tensor) -> None:
        self.simulator, self.rosters, self.number = simulator, rosters, number
        device, n = simulator.device, len(number)
        self.state = state.to(device)
        self.at_bat = torch.zeros(n, 2, dtype=torch.long, device=device)  # place in the line-up
        self.times_up = torch.zeros(n, 2, 9, dtype=torch.long, device=device)
        # Of the fielding side: who pitches, batters he has faced, and how often each place of the line-up.
        self.on_mound = torch.zeros(n, 2, dtype=torch.long, device=device)
        self.faced = torch.zeros(n, 2, dtype=torch.long, device=device)
        self.met = torch.zeros(n, 2, 9, dtype=torch.long, device=device)
        self.newest = torch.full((n, 2, 9), -1, dtype=torch.long, device=device)  # batter of each place up last
        # His sequence: its newest event, and how many it has of this game (-1: he is yet to come).
        self.last = torch.zeros(n, 2, len(CATEGORICAL), dtype=torch.int16, device=device)
        self.position = torch.full((n, 2), -1, dtype=torch.long, device=device)
        # Keys and values of the pitcher now on the mound and of the other side's, who waits.
        self.fresh = simulator.opening(rosters.pitchers[:1], rosters.days[:1])
        every = torch.zeros(n, dtype=torch.long, device=device)
        self.mound, self.bench = self.fresh.pick(every), self.fresh.pick(every)

    def play(self, stop: Stop, generator: torch.Generator) -> list[Tensor]:
        """Play until every rollout has stopped; returns the log, [pitches, len(_LOG)] a step."""
        log = []
        live = torch.ones(len(self.number), dtype=torch.bool, device=self.number.device)
        while True:
            entry, play = self.step(generator)
            log.append(entry[live])
            live = live & ~stop(play)
            remaining = int(live.sum())
            if not remaining:
                return log
            if remaining < 0.85 * len(live):
                self.keep(live.nonzero()[:, 0])
                live = live[live]

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only."""
        for name in ("number", "state", "at_bat", "times_up", "on_mound", "faced", "met", "newest", "last", "position"):
            setattr(self, name, getattr(self, name)[rows])
        self.mound, self.bench = self.mound.pick(rows), self.bench.pick(rows)

    def step(self, generator: torch.Generator) -> tuple[Tensor, Play]:
        """One pitch in every game: its log [n, len(_LOG)], and what it did."""
        state, rosters, model = self.state, self.rosters, self.simulator.model
        every = torch.arange(len(self.number), device=self.number.device)
        batting, fielding = 1 - state.top, state.top
        self._change_pitchers(every, fielding)
        slot = self.at_bat[every, batting]
        up = self.times_up[every, batting, slot].clamp(max=rosters.batter.shape[-1] - 1)
        batter = rosters.batter[self.number, batting, slot, up]
        # Times through are a batter's own, as in the store: whoever bats for another meets the pitcher first.
        self.met[every, fielding, slot] *= batter == self.newest[every, batting, slot]
        self.newest[every, batting, slot] = batter
        pitcher = rosters.pitcher[self.number, fielding, self.on_mound[every, fielding]]
        throws = rosters.throws[pitcher]
        ids = state.ids() | {
            "league": rosters.league[self.number],
            "park": rosters.park[self.number],
            "stand": rosters.stand[batter, throws - 1],
            "throws": throws,
            "times_through": (1 + self.met[every, fielding, slot]).clamp(max=4),
        }
        zero = torch.zeros_like(batter)
        situation = torch.stack([ids.get(f.name, zero) for f in CATEGORICAL], dim=1).to(torch.int16)
        batch = self._batch(every, fielding, situation, batter, pitcher)
        states = model.encoder.extend(batch, self.mound, 1)[:, 0]
        absent = torch.zeros(len(every), len(NUMERIC), dtype=torch.bool, device=every.device)
        drawn, _ = model.chain.draw(states, generator, absent, state.legal, self.simulator.pitch_types)
        pitch = {n: drawn[:, COLUMN[n]].long() for n in ("call", "contact", "delta", "event")}
        self.state, play = state.apply(pitch)
        self.last[every, fielding] = situation + drawn
        self.position[every, fielding] += 1
        self.faced[every, fielding] += play.appearance
        self.met[every, fielding, slot] += play.turn_over
        self.times_up[every, batting, slot] += play.appearance
        self.at_bat[every, batting] = (slot + play.appearance) % 9
        changed = play.half_over.nonzero()[:, 0]
        if len(changed):
            now, later = self.bench.pick(changed), self.mound.pick(changed)
            self.mound.put(changed, now)
            self.bench.put(changed, later)
        columns = {
            "game": self.number, "inning": state.inning, "top": state.top, "outs": state.outs, "balls": state.balls,
            "strikes": state.strikes, "bases": state.bases, "batter": batter, "pitcher": pitcher,
            "call": pitch["call"], "contact": pitch["contact"], "event": pitch["event"], "runs": play.runs,
            "outs_made": play.outs, "bat_score": state.score[every, batting], "fld_score": state.score[every, fielding],
        }  # fmt: skip
        return torch.stack([columns[c] for c in _LOG], dim=1), play

    def _change_pitchers(self, every: Tensor, fielding: Tensor) -> None:
        """New sequences for pitchers who come in: to begin with, and when the one before has faced his number."""
        on = self.on_mound[every, fielding]
        done = self.faced[every, fielding] >= self.rosters.faces[self.number, fielding, on]
        done &= self.state.pitch_number == 1
        rows = (done | (self.position[every, fielding] < 0)).nonzero()[:, 0]
        if not len(rows):
            return
        side = fielding[rows]
        self.on_mound[rows, side] += done[rows]
        self.faced[rows, side], self.met[rows, side] = 0, 0
        self.position[rows, side], self.last[rows, side] = 0, 0
        who = self.rosters.pitcher[self.number[rows], side, self.on_mound[rows, side]].cpu().numpy()
        if not self.simulator.past:  # the slot alone is the same for everybody
            opened = self.fresh.pick(torch.zeros_like(rows))
        else:
            opened = self.simulator.opening(self.rosters.pitchers[who], self.rosters.days[who])
        self.mound.put(rows, opened)

    def _batch(self, every: Tensor, fielding: Tensor, situation: Tensor, batter: Tensor, pitcher: Tensor) -> Batch:
        """Two tokens a row: the newest of the pitcher's sequence, and the situation that is coming."""
        n, device = len(every), every.device
        position = self.position[every, fielding]
        kind = torch.full((n, 2), EVENT, device=device)
        kind[:, 0] = torch.where(position == 0, SEPARATOR, EVENT)
        known = torch.cat([self.rosters.known[0][batter], self.rosters.known[1][pitcher]], dim=1)
        return Batch(
            kind=kind,
            categorical=torch.stack([self.last[every, fielding], situation], dim=1),
            numeric=torch.zeros(n, 2, len(NUMERIC), device=device),
            present=torch.zeros(n, 2, len(NUMERIC), dtype=torch.bool, device=device),
            game=torch.zeros(n, 2, dtype=torch.long, device=device),
            position=torch.stack([position, position + 1], dim=1),
            ago=torch.zeros(n, 2, dtype=torch.long, device=device),
            role=torch.ones(n, dtype=torch.long, device=device),
            player=pitcher,
            day=torch.zeros_like(pitcher),
            prior=torch.zeros(n, Priors.WIDTH, device=device),
            matchup=torch.stack([torch.zeros_like(known), known], dim=1),
            seed=0,
        )


def _frame(log: Int, rosters: _Rosters) -> pl.DataFrame:
    """The log as a table, with players' ids and words instead of numbers."""
    columns: dict[str, object] = {name: log[:, i] for i, name in enumerate(_LOG)}
    columns["batter"] = rosters.batters[log[:, _LOG.index("batter")]]
    columns["pitcher"] = rosters.pitchers[log[:, _LOG.index("pitcher")]]
    columns["top"] = log[:, _LOG.index("top")] == 1
    for name in ("call", "contact", "event"):
        words = np.array(BY_NAME[name].vocabulary)
        columns[name] = pl.Series(words[log[:, _LOG.index(name)] - 1])
    return pl.DataFrame(columns).sort("game", maintain_order=True)


def rates(lines: pl.DataFrame, pitches: float, appearances: float, runs: float) -> dict[str, float]:
    """The six rates by which play is compared, from batting lines.

    Args:
        lines: with PA, AB, H, HR, BB, SO, SF.
        pitches, appearances: thrown, and the plate appearances in which they were.
        runs: a game, both sides together.
    """
    total = {c: float(lines[c].sum()) for c in ("PA", "AB", "H", "HR", "BB", "SO", "SF")}
    in_play = total["AB"] - total["SO"] - total["HR"] + total["SF"]
    return {
        "K%": total["SO"] / total["PA"],
        "BB%": total["BB"] / total["PA"],
        "HR%": total["HR"] / total["PA"],
        "BABIP": (total["H"] - total["HR"]) / in_play,
        "pitches per PA": pitches / appearances,
        "runs per game": runs,
    }


def report(simulation: Simulation, store: Store, season: int) -> pl.DataFrame:
    """The six rates of simulated games and of the main league's: rate, real, simulated, and their ratio."""
    lines, games = simulation.batting(), simulation.games()
    runs = float((games["visitors"] + games["home"]).mean())  # type: ignore[arg-type]
    drawn = rates(lines, float(lines["pitches"].sum()), float(lines["PA"].sum()), runs)
    regular = of_season(store, season)
    batting, pitching = (store.table(t).filter(regular) for t in ("batting_games", "pitching_games"))
    real_games = store.games.filter(regular)
    thrown = pitching.drop_nulls("pitches")
    played = float((real_games["home_score"] + real_games["away_score"]).mean())  # type: ignore[arg-type]
    real = rates(batting, float(thrown["pitches"].sum()), float(thrown["BF"].sum()), played)
    rows = [{"rate": r, "real": real[r], "simulated": drawn[r], "simulated / real": drawn[r] / real[r]} for r in real]
    return pl.DataFrame(rows)


def simulate_season(
    run: Path, store: Store, season: int, games: int, seed: int = 0, rows: int = 1024, history: int = 0
) -> Simulation:
    """`games` games of a season as they were lined up, drawn from a pre-training run.

    Raises:
        FullcountError: the run is no next-event run, or has seen the season.
    """
    simulator, cutoff = load_simulator(run, store, rows=rows, games=history)
    if cutoff > date(season, 3, 1):
        raise FullcountError(f"{run}: has seen play up to {cutoff}, it cannot simulate {season}")
    return simulator.games(plans_of(store, season, games, seed), seed)


def load_simulator(run: Path, store: Store, *, rows: int, games: int = 0) -> tuple[Simulator, date]:
    """The Simulator of a pre-training run, and its training cut-off. FullcountError where it is no next-event run."""
    model, _, cutoff = load_objective(run, store)
    if not isinstance(model, NextEvent):
        raise FullcountError(f"{run}: simulation needs a run with the one objective next_event")
    return Simulator(model, store, rows=rows, games=games), cutoff
