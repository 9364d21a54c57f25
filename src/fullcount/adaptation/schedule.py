"""Whom and where a player will meet: a season's schedule as a vector, for heads that predict whole seasons.

A schedule is published before its season: of the games to come the teams and parks are read, nothing else. Who plays
for those teams is not known: they are who played for them a season earlier, each as good as his prior on the day.
The store's schedule is the one that was played, so that a postponed or moved game is where it ended up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from fullcount.adaptation.samples import STALE, Samples
from fullcount.fields import OUTCOMES
from fullcount.priors import Priors, game_lines
from fullcount.store import PlayerRole, Store
from fullcount.windows import Int

#: "real": the games of the season; "average": the league's mean, whose features are all zero; "none": no features.
ScheduleName = Literal["none", "real", "average"]
Floats = NDArray[np.float64]

_PARK = ("R", "HR", "K")
#: All but `change:` are relative to the mean of the teams. `mean:`, `spread:` of the opponents' outcome log-ratios (see
#: `Priors.features`) over the schedule; `same_hand`: share of match-ups of equal hands; `park:` mean log park factors;
#: `change:` those less the mean of the parks he played in, in which his prior was made; `division`: share of games
#: against the teams met most.
NAMES = (
    *(f"mean:{o}" for o in OUTCOMES[1:]),
    *(f"spread:{o}" for o in OUTCOMES[1:]),
    "same_hand",
    *(f"park:{p}" for p in _PARK),
    *(f"change:{p}" for p in _PARK),
    "division",
)
WIDTH = len(NAMES)
#: Brings features to order one; fitted to nothing.
SCALE = 30.0
#: Plate appearances in a park at which half of its difference is believed: about a season's.
PARK_PA = 6000.0
PARK_SEASONS = 3
#: A rival is met more often than this share of how often the most frequent opponent is: whoever is of the same
#: division, in every schedule of 2010-24.
RIVAL = 2 / 3

_K = len(OUTCOMES) - 1


def scheduled(s: Samples, store: Store, priors: Priors, schedule: ScheduleName) -> Samples:
    """Season samples whose `targets.features` end with `WIDTH` columns of the schedule (none of them for "none")."""
    if schedule == "none":
        return s
    found = np.zeros((len(s), WIDTH))
    if schedule == "real":
        for season in np.unique(s.season):
            for day in np.unique(s.day[s.season == season]):
                chosen = (s.season == season) & (s.day == day)
                found[chosen] = schedule_features(store, priors, s.role, s.player[chosen], int(day), int(season))
    features = torch.cat([s.targets.features, torch.from_numpy(found.astype(np.float32))], dim=1)
    return replace(s, targets=replace(s.targets, features=features))


def schedule_features(store: Store, priors: Priors, role: PlayerRole, players: Int, day: int, season: int) -> Floats:
    """[m, WIDTH] what awaits `players` [m] in `season`, as known on `day`; see `NAMES`.

    A player's team is that of his newest game. Zeros, the league's mean, where it has no game of the season in the
    store, and for parks and opponents nothing is known of.
    """
    out = np.zeros((len(players), WIDTH))
    games = meetings(store, priors.league_name, season)
    if games.is_empty():
        return out
    factors = park_factors(store, priors.league_name, season)
    lines = game_lines(store, role, priors.league_name).filter(pl.col("date").cast(pl.Int32) < day)
    teams = games["team"].unique().sort().to_list()
    vectors, hands = _team_vectors(games, opponents(store, priors, role, day, season), factors, teams)
    who = newest_team(lines, players)
    place = {t: i for i, t in enumerate(teams)}
    team = np.array([place.get(t, -1) for t in who["team"].to_list()])
    known = team >= 0
    of = {name: i for i, name in enumerate(NAMES)}
    for name, column in vectors.items():
        out[known, of[name]] = column[team[known]]
    out[known, of["same_hand"]] = _same_hand(store, role, who["player"], team, hands)[known]
    past = past_parks(store, lines, factors, day)
    before = who.join(past, on="player", how="left", maintain_order="left").select(_PARK).fill_null(0.0).to_numpy()
    ahead = np.stack([_mean_over(games, factors, p, teams) for p in _PARK], axis=1)
    out[known, of["change:R"] : of["change:K"] + 1] = ahead[team[known]] - before[known]
    return out * SCALE


def newest_team(lines: pl.DataFrame, players: Int) -> pl.DataFrame:
    """player, team: of his newest of `lines`, null where he has none; in the order of `players` [m]."""
    newest = lines.sort("date", "game_id").group_by("player").agg(pl.col("team").last())
    who = pl.DataFrame({"player": players.astype(np.int32)})
    return who.join(newest, on="player", how="left", maintain_order="left")


def meetings(store: Store, league: str, season: int) -> pl.DataFrame:
    """Two rows a regular-season game of `league` in `season`: team, opponent, park. Nothing else of it is read."""
    games = store.games.filter(
        (pl.col("season") == season) & (pl.col("league") == league) & (pl.col("game_type") == "R")
    )
    home = games.select(team="home_team", opponent="away_team", park="park")
    away = games.select(team="away_team", opponent="home_team", park="park")
    return pl.concat([home, away])


def park_factors(store: Store, league: str, season: int) -> pl.DataFrame:
    """Per park the log factors of R, HR and K per plate appearance, from the `PARK_SEASONS` seasons before `season`.

    Both teams in the games that a team plays there at home, against both teams in its games on the road; shrunken
    towards 0 with `PARK_PA` plate appearances.
    """
    past = pl.col("season").is_between(season - PARK_SEASONS, season - 1) & (pl.col("league") == league)
    regular = pl.col("game_type") == "R"
    lines = store.table("batting_games").filter(past & regular)
    totals = lines.group_by("game_id").agg(
        pl.col("PA").cast(pl.Float64).sum(),
        pl.col("HR").cast(pl.Float64).sum(),
        pl.col("SO").cast(pl.Float64).sum().alias("K"),
    )
    games = (
        store.games.filter(past & regular)
        .join(totals, on="game_id")
        .with_columns(R=(pl.col("home_score") + pl.col("away_score")).cast(pl.Float64))
    )
    counts = ("PA", *_PARK)
    home = games.group_by(pl.col("home_team").alias("team"), "park").agg(pl.col(counts).sum())
    road = games.group_by(pl.col("away_team").alias("team")).agg(pl.col(counts).sum())
    both = home.join(road, on="team", suffix="_road")
    n = pl.col("PA")
    ratio = {p: (pl.col(p) + 0.5) / (n + 1) / ((pl.col(f"{p}_road") + 0.5) / (pl.col("PA_road") + 1)) for p in _PARK}
    # Teams that share a park: weighted by what each of them played there.
    return (
        both.with_columns(r.log().alias(p) for p, r in ratio.items())
        .group_by("park")
        .agg(*((pl.col(p) * n).sum() / n.sum() * (n.sum() / (n.sum() + PARK_PA)) for p in _PARK))
        .sort("park")
    )


def opponents(store: Store, priors: Priors, role: PlayerRole, day: int, season: int) -> pl.DataFrame:
    """Per team those who met batters (pitchers) for it in the season before, weighted by how many: mean outcome
    log-ratios `x0`.. and their squares `xx0`.., and the shares of each hand `L`, `R`."""
    other: PlayerRole = "pitcher" if role == "batter" else "batter"
    lines = game_lines(store, other, priors.league_name)
    lines = lines.filter((pl.col("season") == season - 1) & (pl.col("date").cast(pl.Int32) < day))
    if other == "batter":
        lines = lines.filter(~pl.col("is_pitcher"))
    faced = lines.group_by("team", "player").agg(pl.col("exposure").cast(pl.Float64).sum().alias("w"))
    faced = faced.sort("team", "player")
    player = faced["player"].to_numpy().astype(np.int64)
    ratios = priors.features(other, player, np.full(len(player), day))[:, :_K].astype(np.float64)
    names = [f"x{i}" for i in range(_K)], [f"xx{i}" for i in range(_K)]
    hand = store.table("players").select("player", pl.col("throws" if other == "pitcher" else "bats").alias("hand"))
    table = pl.concat(
        [faced, pl.DataFrame(ratios, schema=names[0]), pl.DataFrame(ratios**2, schema=names[1])], how="horizontal"
    ).join(hand, on="player", how="left", maintain_order="left")
    w = pl.col("w")
    return (
        table.with_columns((pl.col("hand") == h).fill_null(False).cast(pl.Float64).alias(h) for h in ("L", "R"))
        .group_by("team")
        .agg((pl.col(c) * w).sum() / w.sum() for c in (*names[0], *names[1], "L", "R"))
        .rename({"team": "opponent"})
    )


def _team_vectors(
    games: pl.DataFrame, opponents: pl.DataFrame, factors: pl.DataFrame, teams: list[str]
) -> tuple[dict[str, Floats], Floats]:
    """Features of each of `teams` less their mean, and the shares [teams, 2] of left- and right-handed opponents."""
    met = games.join(opponents, on="opponent").group_by("team").agg(pl.exclude("opponent", "park").mean())
    met = pl.DataFrame({"team": teams}).join(met, on="team", how="left", maintain_order="left")
    found: dict[str, Floats] = {}
    for i, outcome in enumerate(OUTCOMES[1:]):
        mean, square = (met[f"{x}{i}"].to_numpy().astype(np.float64) for x in ("x", "xx"))
        found[f"mean:{outcome}"] = mean
        found[f"spread:{outcome}"] = np.sqrt(np.maximum(square - mean**2, 0))
    for p in _PARK:
        found[f"park:{p}"] = _mean_over(games, factors, p, teams)
    times = games.group_by("team", "opponent").len().with_columns(most=pl.col("len").max().over("team"))
    rivals = times.filter(pl.col("len") > RIVAL * pl.col("most")).group_by("team").agg(pl.col("len").sum())
    share = rivals.join(games.group_by("team").len("all"), on="team").select("team", pl.col("len") / pl.col("all"))
    found["division"] = _in_order(share, teams)
    hands = met.select("L", "R").to_numpy().astype(np.float64)
    return {n: _relative(v) for n, v in found.items()}, np.stack([_relative(h) for h in hands.T], axis=1)


def _mean_over(games: pl.DataFrame, factors: pl.DataFrame, name: str, teams: list[str]) -> Floats:
    """[teams] mean log park factor `name` over each team's games; a park without history counts as neutral."""
    known = games.join(factors, on="park", how="left").group_by("team").agg(pl.col(name).fill_null(0.0).mean())
    return _in_order(known, teams)


def _in_order(table: pl.DataFrame, teams: list[str]) -> Floats:
    """The second column of `table` for each of `teams`, nan where there is none."""
    found = pl.DataFrame({"team": teams}).join(table, on="team", how="left", maintain_order="left")
    return found.to_series(1).cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _relative(values: Floats) -> Floats:
    """`values` [teams] less the mean of those known; 0 where nothing is known."""
    known = np.isfinite(values)
    return np.where(known, values - values[known].mean(), 0.0) if known.any() else np.zeros(len(values))


def _same_hand(store: Store, role: PlayerRole, players: pl.Series, team: Int, hands: Floats) -> Floats:
    """[m] share of match-ups with the player's own hand, relative to the league's; 0 for who has both or is unknown."""
    table = store.table("players").select("player", hand="bats" if role == "batter" else "throws")
    hand = players.to_frame().join(table, on="player", how="left", maintain_order="left")["hand"]
    side = hand.replace_strict({"L": 0, "R": 1}, default=-1, return_dtype=pl.Int64).to_numpy()
    return np.where(side >= 0, hands[team, side], 0.0)


def past_parks(store: Store, lines: pl.DataFrame, factors: pl.DataFrame, day: int) -> pl.DataFrame:
    """Per player the mean log park factors over his games of the `STALE` days before `day`."""
    recent = lines.filter(pl.col("date").cast(pl.Int32) >= day - STALE)
    recent = recent.select("player", "date", "game_id", "exposure")
    played = recent.join(store.games.select("game_id", "park"), on="game_id", how="left")
    w = pl.col("exposure").cast(pl.Float64)
    return (
        played.join(factors, on="park", how="left")
        .sort("player", "date", "game_id")
        .group_by("player", maintain_order=True)
        .agg((pl.col(p).fill_null(0.0) * w).sum() / w.sum() for p in _PARK)
    )
