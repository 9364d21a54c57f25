"""Comparables: the player-seasons most like one player's season, by what an encoder makes of its games.

A point is a player's season: the event-weighted mean of his single-game embeddings, less the league's in that season,
so that two eras can be compared. What differs between two seasons of one player is noise here, so points are measured
in units of it (see `Space`), and the nearest are those with the greatest cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from fullcount.adaptation.performance import pool
from fullcount.errors import FullcountError
from fullcount.priors import Priors
from fullcount.projection.playing_time import spelling
from fullcount.projection.system import COUNTS, NAME, SINGLES, League, Role, rates
from fullcount.store import PlayerRole, Store, day_number
from fullcount.training.jobs import embedding_cache, load_encoder
from fullcount.windows import History, Window

Floats = NDArray[np.float64]

ROLE: dict[PlayerRole, Role] = {"batter": "hitters", "pitcher": "pitchers"}
#: Least PA or BF of a season that is a point.
LEAST: dict[PlayerRole, int] = {"batter": 200, "pitcher": 150}
UNIT: dict[PlayerRole, str] = {"batter": "plate appearances", "pitcher": "batters faced"}
#: What is shown of a season, and of the one after it.
SHOWN: dict[PlayerRole, tuple[str, ...]] = {
    "batter": ("PA", "K%", "BB%", "HR%", "AVG", "OBP", "SLG"),
    "pitcher": ("IP", "K%", "BB%", "HR/9", "ERA", "WHIP"),
}


#: Added to each direction's variance of the noise, as a share of it. Chosen on 2016-2018.
RIDGE = 0.3


@dataclass(frozen=True, eq=False)
class Points:
    """Player-seasons: `table` [m] (player, Name, season, league, age, SHOWN, and SHOWN of the next season as `next X`,
    null where there is none) and `vectors` [m, d], less the league's of the season."""

    role: PlayerRole
    table: pl.DataFrame
    vectors: Floats

    def where(self, rows: pl.Expr | pl.Series) -> Points:
        """Those points for which an expression over the table, or a series, is true."""
        chosen = self.table.select(kept=rows.fill_null(False)).to_series().to_numpy()
        return Points(self.role, self.table.filter(pl.Series(chosen)), self.vectors[chosen])


def seasons_played(store: Store, role: str, before: date | None = None) -> pl.DataFrame:
    """The table of `Points`: seasons of `role` with LEAST plate appearances, begun before `before` (default: all).

    Regular season, and seasons of whose play the store has pitches. Nothing is embedded.
    """
    if role not in get_args(PlayerRole):
        raise FullcountError(f"role {role!r}: choose batter or pitcher")
    history = History(store, Window(role))  # type: ignore[arg-type]
    games = _games(store, history, before).select("player", "season", "league").unique()
    if games.is_empty():
        when = f" before {before}" if before else ""
        raise FullcountError(f"no {role} has a regular-season game{when}: `similar` needs pitches in the store")
    key = ["player", "season", "league"]
    return season_table(League.of(store), role).join(games, on=key, how="semi").sort(key)  # type: ignore[arg-type]


def player_seasons(store: Store, encoder_run: Path, role: str, before: date | None = None) -> Points:
    """All `seasons_played` as points. Embeddings are computed once (minutes) and kept beside the encoder for the store
    as it is."""
    table = seasons_played(store, role, before)
    encoder, name, _ = load_encoder(encoder_run)
    history, priors = History(store, Window(role)), Priors(store)  # type: ignore[arg-type]
    cache = embedding_cache(encoder_run, name, encoder, history, priors)
    parts = []
    games = _games(store, history, before).sort("season", "league", "position")
    for (season, league), part in games.group_by("season", "league", maintain_order=True):
        at = part["position"].to_numpy()
        vectors, players, events = cache(at), history.players[at], history.events[at]
        who, own = season_means(vectors, events, players)
        keys = pl.DataFrame({"player": who.astype(np.int32)}).with_columns(season=pl.lit(season), league=pl.lit(league))
        parts.append((keys, own - season_means(vectors, events, np.zeros_like(players))[1]))
    keys = pl.concat([k for k, _ in parts]).with_columns(at=pl.int_range(pl.len()))
    at = table.join(keys, on=["player", "season", "league"], maintain_order="left")["at"].to_numpy()
    return Points(role, table, np.concatenate([v for _, v in parts])[at])  # type: ignore[arg-type]


def _games(store: Store, history: History, before: date | None) -> pl.DataFrame:
    """Appearances of a history begun before a day: player, season, league and `position` in the history."""
    game = np.asarray(store.appearances(history.window.role).game)[history.index]
    games: pl.DataFrame = store.games[game.tolist()].select("season", "league", position=pl.int_range(pl.len()))
    games = games.with_columns(player=pl.Series(history.players.astype(np.int32)))
    return games.filter(pl.Series(history.days < day_number(before or date.max)))


def season_means(
    vectors: NDArray[np.floating[Any]], events: NDArray[np.int64], players: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """Players [p], and the event-weighted mean [p, d] of each one's games `vectors` [k, d] of `events` [k]."""
    who, owner = np.unique(players, return_inverse=True)
    games, weight = torch.from_numpy(vectors.astype(np.float32)), torch.from_numpy(events.astype(np.float32))
    return who, pool(games, torch.zeros(len(owner)), weight, torch.from_numpy(owner), len(who), (inf,)).double().numpy()


def season_table(league: League, role: PlayerRole) -> pl.DataFrame:
    """Seasons of a league with LEAST plate appearances (batters faced), in the columns of `Points.table`."""
    if role == "batter":
        lines = league.batting_seasons.filter(~pl.col("is_pitcher").fill_null(False)).with_columns(SINGLES)
        tried = "PA"
    else:
        lines = league.pitching_seasons.with_columns(IP=pl.col("outs") / 3, TBF=pl.col("BF"))
        tried = "BF"
    key, of = ["player", "season", "league"], ROLE[role]
    counts = [c for c in COUNTS[of] if c != tried]
    lines = rates(lines.with_columns(pl.col(counts).cast(pl.Float64)), of)
    after = lines.select("player", (pl.col("season") - 1).cast(pl.Int16), "league",
                         pl.col(*SHOWN[role]).name.prefix("next "))  # fmt: skip
    born = league.players.select("player", NAME, "birth_date")
    return (
        lines.filter(pl.col(tried) >= LEAST[role])
        .join(born, on="player", how="left")
        .with_columns(age=(pl.col("season") - pl.col("birth_date").dt.year()).cast(pl.Int64))
        .join(after, on=key, how="left")
        .select("player", "Name", "season", "league", "age", *SHOWN[role], pl.selectors.starts_with("next "))
    )


# ---------------------------------------------------------------------------------------------------------- neighbours


@dataclass(frozen=True, eq=False)
class Space:
    """Where points are compared: directions in which players differ more than one player's seasons do.

    `of(points)` is [m, k]: coordinates in units of a player's change from one season to the next, each times the share
    of its variance that is not such change.
    """

    centre: Floats
    axes: Floats

    def of(self, points: Points) -> Floats:
        return np.asarray((points.vectors - self.centre) @ self.axes)


def fit_space(points: Points) -> Space:
    """The space of some points: generalised eigenvectors of their covariance and that of consecutive seasons.

    Raises:
        FullcountError: fewer than ten players have two seasons in a row.
    """
    vectors, centre = points.vectors, points.vectors.mean(axis=0)
    table = points.table.select("player", "season", "league", at=pl.int_range(pl.len()))
    pairs = table.join(table.with_columns(pl.col("season") + 1), on=["player", "season", "league"], suffix=":before")
    if pairs.height < 10:
        raise FullcountError(f"comparables: {pairs.height} seasons of {points.role}s follow one another; ingest more")
    change = vectors[pairs["at"].to_numpy()] - vectors[pairs["at:before"].to_numpy()]
    within = change.T @ change / (2 * len(change))
    total = (vectors - centre).T @ (vectors - centre) / len(vectors)
    within += RIDGE * np.diag(np.diag(within))
    variance, axes = eigh(total, within)
    return Space(centre, axes[:, variance > 1] * (1 - 1 / variance[variance > 1]))


def similar(
    points: Points,
    player: int,
    season: int,
    n: int = 10,
    before: int | None = None,
    age_within: int | None = None,
) -> pl.DataFrame:
    """The `n` other players' seasons nearest to one player's season, nearest first: `points.table` with `distance`.

    Args:
        before: only seasons before this one, of which alone the space is fitted, too. With the season asked, all that
            is shown of the next ones was known when it ended.
        age_within: only those at most so many years older or younger at the time.

    `distance` is 1 - cosine, 0 .. 2.

    Raises:
        FullcountError: he has no such point, or his age is asked for and not known.
    """
    _has_season(points.table.filter(player=player)["season"], points.role, f"player {player}", season)
    own = points.where((pl.col("player") == player) & (pl.col("season") == season))
    known = points if before is None else points.where(pl.col("season") < before)
    space = fit_space(known)
    asked, others = space.of(own)[0], space.of(known)
    size = np.linalg.norm(others, axis=1) * np.linalg.norm(asked)
    table = known.table.with_columns(distance=1 - others @ asked / np.maximum(size, 1e-12))
    table = table.filter(pl.col("player") != player)
    if age_within is not None:
        age = own.table["age"][0]
        if age is None:
            raise FullcountError(f"player {player}: no register knows his age; leave --age-within out")
        table = table.filter((pl.col("age") - age).abs() <= age_within)
    about = ["player", "Name", "season", "league", "age", "distance"]
    return table.select(*about, pl.exclude(about)).sort("distance", "player", "season").head(n)


def find_player(table: pl.DataFrame, role: PlayerRole, name: str, season: int) -> int:
    """The player (MLBAM id) of a name, whatever its accents and capitals, or of an id, who has a season in a table of
    `Points`.

    Of two names alike the one with that season is meant.

    Raises:
        FullcountError: nobody, or several, have it, with suggestions; he has no such season.
    """
    if name.strip().isdigit():
        player = int(name)
        _has_season(table.filter(player=player)["season"], role, f"player {player}", season)
        return player
    names = table.select("player", "Name", "season", "age", key=spelling(pl.col("Name"))).drop_nulls("key")
    key = pl.select(spelling(pl.lit(name))).item()
    own = names.filter(pl.col("key") == key)
    found = own.filter(season=season).unique("player").sort("player")
    if found.height == 1:
        return int(found["player"][0])
    if found.height:
        who = ", ".join(f"{p} (aged {a})" if a else str(p) for p, a in found.select("player", "age").iter_rows())
        raise FullcountError(f"{name} is {found.height} {role}s in {season}: give one of the ids {who}")
    if own.height:
        _has_season(own["season"], role, name, season)
    within = names.filter(pl.col("key").str.contains(key, literal=True), pl.lit(key != ""))["Name"].unique().sort()
    spelt = dict(names.select("key", "Name").iter_rows())
    close = within.to_list()[:5] or [spelt[k] for k in get_close_matches(key, spelt, n=5)]
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise FullcountError(f"no {role} {name!r} has a season of {LEAST[role]} {UNIT[role]}{hint}")


def _has_season(seasons: pl.Series, role: PlayerRole, who: str, season: int) -> None:
    """FullcountError, naming the `seasons` that there are, unless `season` is among them."""
    if season in seasons:
        return
    had = ", ".join(str(s) for s in seasons.unique().sort())
    said = f"{who} has no season {season} of {LEAST[role]} {UNIT[role]} or more as a {role}"
    raise FullcountError(f"{said}; there are {had}" if had else said)
