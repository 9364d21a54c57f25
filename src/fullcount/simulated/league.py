"""A small league in the canonical tables, whose players' true talent is known.

Pitches carry what a projection system could use beyond the box score: chases and misses by place of the pitch, speed,
movement, exit velocity; and talent drifts during a season, so late form tells of next year.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.fields import CALLS, CONTACTS, EVENTS
from fullcount.simulated import truth
from fullcount.simulated.game import Log, Schedule, play
from fullcount.simulated.pitch import HEART
from fullcount.simulated.talent import (
    BATTER,
    BATTER_TALENTS,
    PITCH_KINDS,
    PITCHER_TALENTS,
    RELIEVER,
    STARTER,
    Floats,
    Ints,
    Population,
    value,
)
from fullcount.simulated.truth import OUTCOMES, matchup, same_hand, systematic
from fullcount.sources.holds import kept_lead
from fullcount.sources.seasons import season_lines
from fullcount.sources.tables import Tables

LEAGUE = "SIM"
SEASON_DAYS = 180
RELIEF_SHARE = 0.73  # batters faced by relievers for each one faced by a starter
OPPONENTS = 24  # that stand for a league's average opponent in the true rates
RATES = (*(f"{o}%" for o in OUTCOMES), "BABIP", "AVG", "OBP", "SLG")


@dataclass
class SimulatedLeague:
    """A simulated league and the truth about it.

    Attributes:
        tables: the canonical tables, as from any source.
        talent: one row a player, season and role ("batter" or "pitcher") on a roster: `pitcher_role`, `age`, `team`,
            latent talents in the middle of the season (`BATTER_TALENTS` or `PITCHER_TALENTS`, null for the other
            role) and the true rates `RATES` (per plate appearance; BABIP, AVG, OBP, SLG as usual, sacrifices left
            out), expected in that season against the league's average opponents in a neutral park.
    """

    tables: Tables
    talent: pl.DataFrame

    @property
    def true_rates(self) -> pl.DataFrame:
        """player, season, role and the true rates `RATES`."""
        return self.talent.select("player", "season", "role", *RATES)


def simulate(
    seasons: int = 5, teams: int = 8, games_per_team: int = 60, seed: int = 0, first_season: int = 2001
) -> SimulatedLeague:
    """Plays `seasons` seasons of a league.

    Args:
        seasons: number of seasons.
        teams: an even number of teams, up to 98.
        games_per_team: at most 180, one a day.
        seed: the same seed gives the same league, bit for bit.
        first_season: year of the first season.

    Raises:
        FullcountError: the league cannot be scheduled.
    """
    if teams < 2 or teams % 2 or teams > 98:
        raise FullcountError(f"simulated league: teams must be an even number from 2 to 98, not {teams}")
    if not 1 <= games_per_team <= SEASON_DAYS or seasons < 1:
        raise FullcountError(f"simulated league: seasons must be positive and games_per_team 1 to {SEASON_DAYS}")
    rng = np.random.default_rng(seed)
    people = Population(rng, teams, first_season)
    parks = rng.normal(0, [[0.16], [0.035]], (2, teams))  # home runs, hits; log-odds
    parts: list[dict[str, pl.DataFrame]] = []
    talents: list[pl.DataFrame] = []
    for season in range(first_season, first_season + seasons):
        if season > first_season:
            people.next_season()
        lively = float(rng.normal(0, 0.15))
        schedule, day = _schedule(people, games_per_team, parks - parks.mean(axis=1, keepdims=True), rng)
        parts.append(_season_tables(play(schedule, people, lively, rng), schedule, day, people, rng))
        talents.append(_talent(people, schedule, lively))
    tables = {name: pl.concat([p[name] for p in parts]) for name in parts[0]}
    batting, pitching = season_lines(tables["batting_games"], tables["pitching_games"], LEAGUE)
    return SimulatedLeague(
        Tables.of(**tables, batting_seasons=batting, pitching_seasons=pitching, players=_players(people)),
        pl.concat(talents),
    )


def _players(people: Population) -> pl.DataFrame:
    first, last = people.names()
    return pl.DataFrame(
        {
            "player": np.arange(1, len(people)),
            "first_name": first,
            "last_name": last,
            "birth_date": pl.Series(people.birth[1:]).cast(pl.Int32).cast(pl.Date),
            "bats": people.bats[1:],
            "throws": people.throws[1:],
        }
    )


# ---------------------------------------------------------------------------------------------------------- schedule


def _pairings(teams: int, rounds: int) -> Ints:
    """Round robin, [rounds, teams / 2, 2] (visitors, home)."""
    circle = np.arange(1, teams)
    out = np.zeros((rounds, teams // 2, 2), dtype=np.int64)
    for r in range(rounds):
        order = np.concatenate([[0], np.roll(circle, r)])
        pairs = np.stack([order[: teams // 2], order[: teams // 2 - 1 : -1]], axis=1)
        # Home and away change with every round trip, and between rounds so that nobody stays at home.
        turn = (r // (teams - 1) + r + np.arange(teams // 2)) % 2 == 1
        out[r] = np.where(turn[:, None], pairs[:, ::-1], pairs)
    return out


def _available(rng: np.random.Generator, shape: tuple[int, int], rounds: int) -> NDArray[np.bool_]:
    """[teams, size, rounds]: a fifth of the players miss 5 to 40 % of a season."""
    start = rng.random(shape)[..., None]
    length = (rng.uniform(0.05, 0.4, shape) * (rng.random(shape) < 0.2))[..., None]
    progress = (np.arange(rounds) + 0.5) / rounds
    return np.asarray((progress < start) | (progress >= start + length))


def _schedule(people: Population, rounds: int, parks: Floats, rng: np.random.Generator) -> tuple[Schedule, Ints]:
    """The season's games and the day of each, counted from 1 April."""
    pairs = _pairings(people.teams, rounds)
    teams = np.arange(people.teams)[:, None]
    worth = value(people.middle, people.role)

    # Batting orders: managers like the good ones, but not always.
    batters = people.roster(BATTER)
    liking = worth[batters][:, None] + 0.75 * rng.standard_normal((people.teams, rounds, batters.shape[1]))
    liking = liking - 100 * ~_available(rng, batters.shape, rounds).transpose(0, 2, 1)
    rank = np.argsort(-liking, axis=2)
    chosen = batters[teams[..., None], rank]
    lineup, bench = chosen[..., :9], chosen[..., 9:11]
    bench = np.where(np.take_along_axis(liking, rank[..., 9:11], axis=2) < -50, 0, bench)

    # Rotations: whoever is fit and has rested longest.
    starters = people.roster(STARTER)
    fit = _available(rng, starters.shape, rounds)
    last = np.tile(-np.arange(starters.shape[1], 0, -1), (people.teams, 1))
    start = np.zeros((people.teams, rounds), dtype=np.int64)
    for r in range(rounds):
        pick = np.argmin(last + 1000 * ~fit[:, :, r], axis=1)
        start[:, r] = starters[np.arange(people.teams), pick]
        last[np.arange(people.teams), pick] = r

    # Bullpens: six take turns, about three of them a game; the best one closes.
    relievers = people.roster(RELIEVER)
    relievers = relievers[teams, np.argsort(worth[relievers], axis=1)]
    turn = (np.arange(rounds)[:, None] * 3 + np.arange(6)) % 6
    turn = np.concatenate([turn, np.full((rounds, 1), 6)], axis=1)
    bullpen = relievers[:, turn]

    round_of = np.repeat(np.arange(rounds), people.teams // 2)
    team = pairs.reshape(-1, 2)
    at = (team, round_of[:, None])
    return Schedule(
        progress=(round_of + 0.5) / rounds,
        team=team,
        lineup=lineup[at],
        bench=bench[at],
        starter=start[at],
        bullpen=bullpen[at],
        park_homer=parks[0, team[:, 1]],
        park_hit=parks[1, team[:, 1]],
    ), round_of * SEASON_DAYS // rounds


# ------------------------------------------------------------------------------------------------------------- truth


def _talent(people: Population, s: Schedule, lively: float) -> pl.DataFrame:
    """Latent talents and true rates of everybody on a roster; opponents are weighted by how much they play."""
    middle, season = people.middle, people.season
    n = len(people)
    weight = 4.2 * np.bincount(s.lineup.ravel(), minlength=n) + 22.0 * np.bincount(s.starter.ravel(), minlength=n)
    relief = (people.role == RELIEVER) & (people.team >= 0)
    weight[relief] = RELIEF_SHARE * weight[people.role == STARTER].sum() / relief.sum()
    batters = np.flatnonzero((people.team >= 0) & (people.role == BATTER))
    pitchers = np.flatnonzero((people.team >= 0) & (people.role != BATTER))
    worth = value(middle, people.role)

    def stand_in(ids: Ints) -> Ints:
        return ids[systematic(weight[ids], worth[ids], OPPONENTS)]

    def rates(b: Ints, p: Ints) -> Floats:
        """[n, m, 7] for batters b and pitchers p, broadcast to [n, m]."""
        fatigue = np.where(people.role[p] == STARTER, 0.85, 0.0)
        m = matchup(middle[b], middle[p], same_hand(people.bats[b], people.throws[p]), fatigue)
        return truth.rates(m, people.usage[p], lively)

    # Stand-ins are a small sample: their sampling error, the same for everybody on the other side, is seen where
    # stand-ins meet stand-ins, and taken out as a factor per outcome.
    facing, opposing = stand_in(pitchers), stand_in(batters)
    batting = rates(batters[:, None], facing[None]).mean(axis=1)
    pitching = rates(opposing[None], pitchers[:, None]).mean(axis=1)
    sample = rates(opposing[:, None], facing[None]).mean(axis=(0, 1))
    rate = np.concatenate(
        [
            batting * np.average(pitching, axis=0, weights=weight[pitchers]) / sample,
            pitching * np.average(batting, axis=0, weights=weight[batters]) / sample,
        ]
    )
    ids = np.concatenate([batters, pitchers])
    is_batter = people.role[ids] == BATTER
    strikeout, walk, hit_by, single, double, triple, homer = rate.T
    hits, at_bats = rate[:, 3:].sum(axis=1), 1 - walk - hit_by
    shown = np.where(is_batter[:, None], middle[ids], np.nan), np.where(is_batter[:, None], np.nan, middle[ids])
    return pl.DataFrame(
        {
            "player": ids.astype(np.int32),
            "season": np.full(len(ids), season, dtype=np.int16),
            "role": np.where(is_batter, "batter", "pitcher"),
            "pitcher_role": pl.Series(np.array(["", "SP", "RP"])[people.role[ids]]).replace("", None),
            "age": people.age[ids],
            "team": _codes(people.team[ids]),
            **{name: shown[0][:, i] for i, name in enumerate(BATTER_TALENTS)},
            **{name: shown[1][:, i] for i, name in enumerate(PITCHER_TALENTS)},
            **{f"{o}%": rate[:, i] for i, o in enumerate(OUTCOMES)},
            "BABIP": (hits - homer) / (at_bats - strikeout - homer),
            "AVG": hits / at_bats,
            "OBP": hits + walk + hit_by,
            "SLG": (single + 2 * double + 3 * triple + 4 * homer) / at_bats,
        }
    ).with_columns(pl.col(*BATTER_TALENTS, *PITCHER_TALENTS).fill_nan(None))


# ----------------------------------------------------------------------------------------------------------- physics

_SPEED = np.array([0.0, -0.7, -4.5, -8.5, -10.5, -14.5, -8.5, -7.5])  # mph from the fastball's
_SPIN = np.array([2280, 2150, 2350, 2400, 2520, 2520, 1750, 1450])
_BREAK_X = np.array([-0.6, -1.2, 0.2, 0.4, 1.1, 0.7, -1.2, -0.8])  # feet, right-hander, catcher's view
_BREAK_Z = np.array([1.35, 0.75, 0.65, 0.15, 0.1, -0.8, 0.55, 0.25])


def _physics(p: dict[str, NDArray[np.generic]], people: Population, rng: np.random.Generator) -> dict[str, Floats]:
    """Delivery of every pitch, name -> [n] in the units of `fields.py`."""
    who, kind, place = p["pitcher"].astype(np.int64), p["kind"].astype(np.int64), p["place"].astype(np.int64)
    progress = p["progress"].astype(np.float64)
    n = len(who)
    z = rng.standard_normal((10, n))
    level, drift = people.level[who], people.drift[who]
    talent = level + drift * progress[:, None]
    arm = people.arm[who]
    fast = 93.3 + 0.9 * talent[:, 0] + 1.5 * talent[:, 4] - 0.012 * p["tired"].astype(np.float64)
    speed = fast + _SPEED[kind] * (1 - 0.05 * talent[:, 4]) + 0.9 * z[0]
    mirror = np.where(people.throws[who] == "L", -1.0, 1.0)
    # Better stuff spins and moves more.
    sharp = 1 + 0.05 * talent[:, 0]
    fall = -0.25 * talent[:, 2] * np.isin(kind, (0, 1, 6))  # ground-ball pitchers' fastballs sink
    # Places: a box around the middle of the zone, half-width .83 ft and half-height .85 ft; `reach` is the larger of
    # the two coordinates in these units, `side` the smaller, drawn so that each place has its ring.
    low = np.array([0.0, 0.67, 1.0, 1.33, 2.0])[place]
    high = np.array([0.67, 1.0, 1.33, 2.0, 2.9])[place]
    u = rng.random((3, n))
    reach = np.where(place == HEART, high * np.sqrt(u[0]), low + (high - low) * u[0])
    other = reach * (2 * u[1] - 1)
    # Breaking balls and change-ups miss low and to the glove side, fastballs high.
    slow = np.array([0.35, 0.55, 0.5, 0.62, 0.55, 0.68, 0.72, 0.8])[kind]
    horizontal = u[2] < 0.45
    down = np.where(rng.random(n) < slow, -1.0, 1.0)
    glove = np.where(rng.random(n) < np.where(_BREAK_X[kind] > 0, 0.68, 0.42), 1.0, -1.0) * mirror
    return {
        "release_speed": speed,
        "release_spin_rate": _SPIN[kind] * arm[:, 3] * (1 + 0.02 * talent[:, 0]) + 70 * z[1],
        "pfx_x": mirror * (_BREAK_X[kind] * sharp + arm[:, 4]) + 0.18 * z[2],
        "pfx_z": _BREAK_Z[kind] * sharp + arm[:, 5] + fall + 0.18 * z[3],
        "plate_x": 0.83 * np.where(horizontal, glove * reach, other),
        "plate_z": 2.5 + 0.85 * np.where(horizontal, other, down * reach),
        "release_extension": arm[:, 2] + 0.12 * z[4],
        "release_pos_x": arm[:, 0] + 0.12 * z[5],
        "release_pos_z": arm[:, 1] + 0.1 * z[6],
    }


# ------------------------------------------------------------------------------------------------------------ tables


def _codes(team: Ints) -> list[str]:
    return [f"T{t + 1:02d}" for t in team]


def _enum(values: tuple[str, ...], ids: NDArray[np.generic]) -> pl.Series:
    return pl.Series(np.array(values)[ids.astype(np.int64)])


def _season_tables(
    log: Log, s: Schedule, day: Ints, people: Population, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Canonical tables of one season, the season lines left out."""
    p = log.pitches
    count = len(s.progress)
    april = np.datetime64(f"{people.season}-04-01").astype("datetime64[D]")
    date = april + day
    home, away = _codes(s.team[:, 1]), _codes(s.team[:, 0])
    keys = pl.DataFrame(
        {
            "game": np.arange(count),
            "game_id": [f"{h}{str(d).replace('-', '')}0" for h, d in zip(home, date, strict=True)],
            "season": np.full(count, people.season),
            "date": date,
            "game_type": ["R"] * count,
            "league": [LEAGUE] * count,
            "park": home,
            "home_team": home,
            "away_team": away,
        }
    )
    index = keys.drop("home_team", "away_team")
    raw = {k: v for k, v in p.items() if k not in ("call", "kind", "contact", "event", "stand", "throws", "progress")}
    pitches = pl.DataFrame(
        {
            **raw,
            "stand": p["stand"],
            "throws": p["throws"],
            "call": _enum(CALLS, p["call"]),
            "pitch_type": _enum(PITCH_KINDS, p["kind"]),
            "contact": _enum(CONTACTS, p["contact"]),
            "event": _enum(EVENTS, p["event"]),
            **_physics(p, people, rng),
        }
    ).with_columns(pl.col("launch_speed", "launch_angle").fill_nan(None))
    pitches = pitches.join(index, on="game", how="left").sort("game", "step")
    appearances = _appearances(pitches)
    outcome = _results(pitches, log)
    batting = _batting(appearances, s, log)
    pitching = _pitching(appearances, outcome, s, log)
    sides = pl.DataFrame(
        {
            "game": np.tile(np.arange(count), 2),
            "home": np.repeat([False, True], count),
            "team": away + home,
            "opponent": home + away,
        }
    )
    games = keys.join(outcome, on="game").with_columns(
        pl.lit(0).alias("number"),
        pl.Series("home_starter", s.starter[:, 1]),
        pl.Series("away_starter", s.starter[:, 0]),
    )
    lines = {"batting_games": batting, "pitching_games": pitching}
    return {
        "pitches": pitches,
        "plate_appearances": appearances,
        "games": games,
        **{k: v.join(sides, on=["game", "home"]).join(index, on="game").sort("game", "home") for k, v in lines.items()},
    }


def _appearances(pitches: pl.DataFrame) -> pl.DataFrame:
    """One row a plate appearance, in playing order, from the pitches in playing order."""
    first = ("game_id", "season", "date", "game_type", "league", "park", "inning", "top", "outs", "bases", "bat_score")
    last = ("stand", "throws", "event", "contact", "balls", "strikes", "pitch_type", "release_speed", "launch_speed")
    frame = pitches.group_by("game", "pa_number", maintain_order=True).agg(
        *(pl.col(c).first() for c in (*first, "fld_score", "batter", "pitcher", "lineup_slot")),
        *(pl.col(c).last() for c in (*last, "launch_angle")),
        pl.len().alias("pitches"),
        pl.col("outs_on_play").last(),
        pl.col("runs").last(),
        pl.col("outs_on_play").sum().alias("all_outs"),
        pl.col("runs").sum().alias("all_runs"),
    )
    batted_in = ~pl.col("event").is_in(["grounded_into_double_play", "field_error", "truncated_pa"])
    return frame.with_columns(
        pl.lit(False).alias("batter_is_pitcher"),
        pl.when(batted_in).then(pl.col("runs")).otherwise(0).alias("rbi"),
    )


def _is(*events: str) -> pl.Expr:
    return pl.col("event").is_in(events).sum()


_HITS = ("single", "double", "triple", "home_run")
_SHARED = (
    _is(*_HITS).alias("H"),
    _is("double").alias("2B"),
    _is("triple").alias("3B"),
    _is("home_run").alias("HR"),
    _is("walk").alias("BB"),
    _is("strikeout").alias("SO"),
    _is("hit_by_pitch").alias("HBP"),
)


def _tally(name: str, ids: Ints, weight: NDArray[np.generic] | None = None) -> pl.DataFrame:
    """Sums of `weight` (default 1) by game and player from [k, 2] ids."""
    values = np.ones(len(ids)) if weight is None else weight
    frame = pl.DataFrame({"game": ids[:, 0], "player": ids[:, 1], name: values})
    return frame.group_by("game", "player").agg(pl.col(name).sum().cast(pl.Int64))


def _batting(appearances: pl.DataFrame, s: Schedule, log: Log) -> pl.DataFrame:
    count = len(s.progress)
    started = pl.DataFrame(
        {
            "game": np.repeat(np.arange(count), 18),
            "home": np.tile(np.repeat([False, True], 9), count),
            "lineup_slot": np.tile(np.arange(1, 10), 2 * count),
            "player": s.lineup.ravel(),
            "starter": np.ones(18 * count, dtype=bool),
        }
    )
    came_in = pl.DataFrame(
        {
            "game": log.pinch[:, 0],
            "home": log.pinch[:, 1] == 1,
            "lineup_slot": log.pinch[:, 2] + 1,
            "player": log.pinch[:, 3],
            "starter": np.zeros(len(log.pinch), dtype=bool),
        }
    )
    counted = (
        appearances.filter(pl.col("event") != "truncated_pa")
        .group_by("game", pl.col("batter").cast(pl.Int64).alias("player"))
        .agg(
            pl.len().alias("PA"),
            (~pl.col("event").is_in(["walk", "hit_by_pitch", "sac_fly"])).sum().alias("AB"),
            *_SHARED,
            pl.col("rbi").sum().alias("RBI"),
            _is("sac_fly").alias("SF"),
            _is("grounded_into_double_play").alias("GDP"),
        )
    )
    frame = pl.concat([started, came_in])
    stolen = log.steals[:, 2]
    for part in (
        counted,
        _tally("R", log.scored[:, [0, 2]]),
        _tally("SB", log.steals[:, :2], stolen),
        _tally("CS", log.steals[:, :2], 1 - stolen),
    ):
        frame = frame.join(part, on=["game", "player"], how="left")
    return frame.with_columns(
        pl.exclude("game", "home", "lineup_slot", "player", "starter").fill_null(0),
        pl.lit(0).alias("IBB"),
        pl.lit(0).alias("SH"),
        pl.lit(False).alias("is_pitcher"),
    )


def _results(pitches: pl.DataFrame, log: Log) -> pl.DataFrame:
    """Scores by game, and the pitchers who win and lose: those of the last change of the lead."""
    visitors, home = pl.col("runs").filter(pl.col("top")), pl.col("runs").filter(~pl.col("top"))
    lead = pl.DataFrame({"game": log.lead[:, 0], "winner": log.lead[:, 2], "loser": log.lead[:, 3]})
    return (
        pitches.group_by("game", maintain_order=True)
        .agg(
            pl.col("inning").max().alias("innings"),
            visitors.sum().alias("away_score"),
            home.sum().alias("home_score"),
        )
        .join(lead.group_by("game", maintain_order=True).last(), on="game", how="left")
    )


def _pitching(appearances: pl.DataFrame, outcome: pl.DataFrame, s: Schedule, log: Log) -> pl.DataFrame:
    margin = -(pl.col("bat_score").cast(pl.Int64) - pl.col("fld_score"))  # the pitcher's lead
    frame = appearances.group_by(
        "game", pl.col("top").alias("home"), pl.col("pitcher").cast(pl.Int64).alias("player"), maintain_order=True
    ).agg(
        pl.col("all_outs").sum().alias("outs"),
        (pl.col("event") != "truncated_pa").sum().alias("BF"),
        *_SHARED,
        pl.col("pitches").sum(),
        margin.first().alias("entry"),
        kept_lead("all_outs", "all_runs").alias("kept"),
    )
    charged = log.scored[:, [0, 3]]
    for part in (
        _tally("R", charged),
        _tally("ER", charged, log.scored[:, 5]),
        _tally("WP", log.wild),
    ):
        frame = frame.join(part, on=["game", "player"], how="left")
    starters = pl.DataFrame(
        {"game": np.repeat(np.arange(len(s.progress)), 2), "player": s.starter.ravel(), "GS": np.ones(s.starter.size)}
    )
    side = ["game", "home"]
    frame = (
        frame.join(starters, on=["game", "player"], how="left")
        .join(outcome, on="game", how="left")
        .with_columns(pl.col("R", "ER", "WP", "GS").fill_null(0).cast(pl.Int64))
        .with_columns(
            (pl.col("player") == pl.col("player").last().over(side)).alias("last"),
            (pl.col("home") == (pl.col("home_score") > pl.col("away_score"))).alias("won"),
            (pl.col("outs") * (pl.col("GS") == 0)).alias("relief_outs"),
        )
    )
    # A starter who leads needs five innings for the win; else it goes to the reliever with most outs.
    best = pl.col("player").sort_by("relief_outs", descending=True, maintain_order=True).first().over(side)
    short = ((pl.col("player") == pl.col("winner")) & (pl.col("GS") == 1) & (pl.col("outs") < 15)).any().over(side)
    alone = pl.len().over(side) == 1
    win = pl.col("won") & (pl.col("player") == pl.when(short & ~alone).then(best).otherwise(pl.col("winner")))
    held = (pl.col("GS") == 0) & pl.col("won") & pl.col("entry").is_between(1, 3) & (pl.col("outs") > 0)
    relieved = pl.col("last") & (pl.col("GS") == 0)
    zero = pl.lit(0)
    return frame.with_columns(
        win.cast(pl.Int64).alias("W"),
        (~pl.col("won") & (pl.col("player") == pl.col("loser"))).cast(pl.Int64).alias("L"),
        (held & pl.col("last") & ~win & (pl.col("outs") >= 3)).cast(pl.Int64).alias("SV"),
        (pl.col("kept") & (pl.col("GS") == 0) & ~pl.col("last") & ~win).cast(pl.Int64).alias("HLD"),
        relieved.cast(pl.Int64).alias("GF"),
        zero.alias("IBB"),
        zero.alias("BK"),
    )
