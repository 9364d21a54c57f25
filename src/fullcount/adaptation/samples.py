"""Fitting samples: a player on a date, his history before it, and what he did next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from fullcount.adaptation.heads import Targets
from fullcount.errors import FullcountError
from fullcount.fields import OUTCOMES
from fullcount.priors import EXTRAS, Priors, game_lines
from fullcount.store import PlayerRole, Store, day_number
from fullcount.windows import History, Int

Grain = Literal["game", "season"]

#: Days after which a player's newest appearance says too little of him.
STALE = 730


def season_day(season: int) -> int:
    """The as-of day of a season projection: 1 March."""
    return day_number(date(season, 3, 1))


@dataclass
class Samples:
    """m samples of one role. `first`, `stop`: windows of the history; `targets`: see `heads.Targets`.

    `player`, `day`, `season` [m] say whose and when; `game_id` [m] at game grain, empty at season grain.
    """

    role: PlayerRole
    grain: Grain
    player: Int
    day: Int
    season: Int
    game_id: NDArray[np.str_]
    first: Int
    stop: Int
    targets: Targets

    def __len__(self) -> int:
        return len(self.player)

    def pick(self, chosen: NDArray[np.generic]) -> Samples:
        """The samples at the given positions (or mask)."""
        index = torch.from_numpy(np.flatnonzero(chosen) if chosen.dtype == bool else np.asarray(chosen))
        targets = Targets(**{n: t[index] for n, t in self.targets.__dict__.items()})
        arrays = {n: getattr(self, n)[index.numpy()] for n in ("player", "day", "season", "first", "stop")}
        names = self.game_id[index.numpy()] if len(self.game_id) else self.game_id
        return Samples(self.role, self.grain, **arrays, game_id=names, targets=targets)

    @classmethod
    def concat(cls, parts: Sequence[Samples]) -> Samples:
        """All samples of several parts (one or more) of the same role and grain."""
        names = ("player", "day", "season", "game_id", "first", "stop")
        arrays = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
        targets = {n: torch.cat([getattr(p.targets, n) for p in parts]) for n in parts[0].targets.__dict__}
        return cls(parts[0].role, parts[0].grain, **arrays, targets=Targets(**targets))


def samples(
    store: Store,
    history: History,
    priors: Priors,
    grain: Grain,
    *,
    since: date,
    before: date,
    leagues: Sequence[str] | None = None,
) -> Samples:
    """All samples of the history's role whose target lies wholly in [since, before).

    A player whose newest appearance, in any league, is older than `STALE` days is left out: there is nothing recent to
    read.

    Args:
        grain: "game": every game with an exposure; "season": every player-season, as of 1 March.
        leagues: of the targets; what is known of a player is what his lines in the same league say. Default: the league
            of `priors`, which is the main one where nothing else is said.

    Raises:
        FullcountError: the store has no game of one of the leagues.
    """
    parts = []
    for league in leagues or (priors.league_name,):
        if leagues and league not in (present := store.games["league"].unique().sort().to_list()):
            raise FullcountError(f"leagues: the store has no game of {league!r}; it holds {', '.join(present)}")
        own = priors if league == priors.league_name else Priors(store, priors.decay, league)
        parts.append(_samples(store, history, own, grain, since, before))
    return Samples.concat(parts)


def _samples(store: Store, history: History, priors: Priors, grain: Grain, since: date, before: date) -> Samples:
    """The samples of the league of `priors`."""
    role = history.window.role
    lines = game_lines(store, role, priors.league_name).filter(pl.col("date").is_between(since, before, closed="left"))
    if role == "batter":
        lines = lines.filter(~pl.col("is_pitcher"))
    if role == "pitcher" and history.window.appearances != "all":
        lines = lines.filter((pl.col("GS") > 0) == (history.window.appearances == "starts"))
    columns = [*OUTCOMES[1:], "exposure", *EXTRAS[role]]
    if grain == "season":
        whole = [s for s in lines["season"].unique().to_list() if since <= date(s, 3, 1) and date(s, 11, 1) < before]
        lines = lines.filter(pl.col("season").is_in(whole))
        lines = lines.group_by("player", "season").agg(pl.col(columns).sum()).sort("season", "player")
        day = np.array([season_day(s) for s in lines["season"].to_list()], dtype=np.int64)
        opponents = None
    else:
        lines = lines.sort("date", "game_id", "player")
        day = lines["date"].cast(pl.Int32).to_numpy().astype(np.int64)
        opponents = opponent_mix(store, priors, role, lines)
    player = lines["player"].to_numpy().astype(np.int64)
    first, stop = history.before(player, day)
    recent = is_recent(history, first, stop, day)
    found = Samples(
        role=role,
        grain=grain,
        player=player,
        day=day,
        season=lines["season"].to_numpy().astype(np.int64),
        game_id=lines["game_id"].to_numpy().astype(str) if grain == "game" else np.zeros(0, dtype=str),
        first=first,
        stop=stop,
        targets=known(priors, role, player, day, lines.select(columns), opponents),
    )
    return found.pick(recent)


def ahead(history: History, priors: Priors, grain: Grain, players: Int, day: int, season: int) -> tuple[Int, Samples]:
    """Who of `players` [m] can be asked about on `day`: places [k] of those with recent play, and samples of them.

    Their targets are not known yet, and they meet the league's average.
    """
    days = np.full(len(players), day)
    first, stop = history.before(players, days)
    chosen = np.flatnonzero(is_recent(history, first, stop, days))
    role = history.window.role
    return chosen, Samples(
        role=role,
        grain=grain,
        player=players[chosen],
        day=days[chosen],
        season=np.full(len(chosen), season),
        game_id=np.zeros(0, dtype=str),
        first=first[chosen],
        stop=stop[chosen],
        targets=known(priors, role, players[chosen], days[chosen]),
    )


def is_recent(history: History, first: Int, stop: Int, day: Int | int) -> NDArray[np.bool_]:
    """[m] whether each window `first`..`stop` holds an appearance in the `STALE` days before `day`."""
    return np.asarray((stop > first) & (day - history.days[np.maximum(stop - 1, 0)] <= STALE))


def recent_windows(history: History, day: int, league: str) -> tuple[Int, Int]:
    """Windows (first, stop) as of `day` of everybody who appeared in the `STALE` days before it, last in `league`."""
    players = np.unique(history.players)
    first, stop = history.before(players, np.full(len(players), day))
    recent = np.flatnonzero(is_recent(history, first, stop, day))
    games = np.asarray(history.store.appearances(history.window.role).game)[history.index[stop[recent] - 1]]
    kept = recent[(history.store.games["league"].gather(games) == league).to_numpy()]
    return first[kept], stop[kept]


def known(
    priors: Priors,
    role: PlayerRole,
    player: Int,
    day: Int,
    lines: pl.DataFrame | None = None,
    opponents: NDArray[np.float64] | None = None,
) -> Targets:
    """What priors say of `player` [m] on `day` [m], with outcomes from `lines` (zero where there are none yet)."""
    m = len(player)
    rates = priors.league(role, day)
    league = _with_outs(rates)
    counts = np.zeros((m, len(OUTCOMES)))
    extras, exposure = np.zeros((m, len(EXTRAS[role]))), np.zeros(m)
    if lines is not None:
        counts[:, 1:] = lines.select(OUTCOMES[1:]).to_numpy()
        exposure = lines["exposure"].to_numpy().astype(float)
        counts[:, 0] = np.maximum(exposure - counts[:, 1:].sum(axis=1), 0)
        extras = lines.select(EXTRAS[role]).to_numpy().astype(float)
    arrays = {
        "counts": counts,
        "extras": extras,
        "exposure": exposure,
        "prior": priors.rates(role, player, day),
        "opponent": league if opponents is None else opponents,
        "league": league,
        "prior_extras": priors.extras(role, player, day),
        "prior_exposure": priors.exposure(role, player, day),
        "league_extras": rates[:, len(Priors.COLUMNS) :],
        "league_exposure": 1 / np.maximum(rates[:, Priors.COLUMNS.index("games")], 1e-6),
        "features": priors.features(role, player, day),
    }
    return Targets(**{n: torch.from_numpy(np.asarray(a, dtype=np.float32)) for n, a in arrays.items()})


def opponent_mix(store: Store, priors: Priors, role: PlayerRole, lines: pl.DataFrame) -> NDArray[np.float64]:
    """[m, 8] outcome mix of whom each game line met, as known before the game.

    A batter meets the opposing starter (named before the game); a pitcher meets the opposing team: the mean prior of
    those who batted in its previous game, since today's line-up is not known.
    """
    day = lines["date"].cast(pl.Int32).to_numpy().astype(np.int64)
    if role == "batter":
        games = store.games.select("game_id", "home_starter", "away_starter")
        found = lines.select("game_id", "home").join(games, on="game_id", how="left", maintain_order="left")
        starter = found.select(pl.when("home").then("away_starter").otherwise("home_starter").fill_null(-1))
        return priors.rates("pitcher", starter.to_series().to_numpy().astype(np.int64), day)
    batting = game_lines(store, "batter", priors.league_name).filter(~pl.col("is_pitcher"))
    wanted = lines.select(pl.col("opponent").alias("team"), "date").unique()
    # The newest game of the team strictly before each date.
    played = batting.select("team", pl.col("date").alias("played"), "game_id").unique().sort("played", "game_id")
    before = wanted.with_columns(pl.col("date").dt.offset_by("-1d").alias("asked")).sort("asked")
    last = before.join_asof(
        played, left_on="asked", right_on="played", by="team", strategy="backward", check_sortedness=False
    )
    line_up = last.join(batting.select("team", "game_id", "player"), on=["team", "game_id"], how="inner")
    asked = line_up["date"].cast(pl.Int32).to_numpy().astype(np.int64)
    rates = priors.rates("batter", line_up["player"].to_numpy().astype(np.int64), asked)
    names = [f"m{i}" for i in range(len(OUTCOMES))]
    mean = pl.concat([line_up.select("team", "date"), pl.DataFrame(rates, schema=names)], how="horizontal")
    mean = mean.group_by("team", "date").agg(pl.col(names).mean())
    keys = lines.select(pl.col("opponent").alias("team"), "date")
    mix = keys.join(mean, on=["team", "date"], how="left", maintain_order="left").select(names).to_numpy()
    mix = mix.astype(float)
    return np.where(np.isnan(mix), _with_outs(priors.league("batter", day)), mix)


def _with_outs(league: NDArray[np.float64]) -> NDArray[np.float64]:
    """Outcome mix [m, 8] of league rates (`Priors.league`): "OUT" takes what the named outcomes leave."""
    named = league[:, : len(OUTCOMES) - 1]
    return np.concatenate([1 - named.sum(axis=1, keepdims=True), named], axis=1)
