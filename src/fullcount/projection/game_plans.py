"""Who plays whom, where and when: plans of games to simulate, as they were lined up, or ahead of a season."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from fullcount.errors import FullcountError
from fullcount.projection.system import target_season
from fullcount.sources.seasons import main_league
from fullcount.store import Store

#: The nine of one side in batting order; each a tuple of players, one for each time up, the last of whom stays in.
Lineup = tuple[tuple[int, ...], ...]
#: Pitchers of one side in their order, with the number of batters each is to face; the last one finishes.
Staff = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GamePlan:
    """Who plays whom, where and when.

    Attributes:
        lineups, pitchers: of the visitors and of the home side (see `Lineup`, `Staff`; players are MLBAM ids).
        day: players' forms are as of its morning.
        innings: regulation. runner: extra innings begin with a runner on second.
    """

    lineups: tuple[Lineup, Lineup]
    pitchers: tuple[Staff, Staff]
    day: date
    park: str = ""
    league: str = "MLB"
    innings: int = 9
    runner: bool = False

    def __post_init__(self) -> None:
        if any(len(side) != 9 or not all(side) for side in self.lineups):
            raise FullcountError(f"game plan of {self.day}: a line-up has nine places, each with a player")
        if any(not staff or min(faces for _, faces in staff) < 1 for staff in self.pitchers):
            raise FullcountError(f"game plan of {self.day}: each side needs a pitcher, and each faces a batter or more")

    @classmethod
    def of(
        cls,
        visitors: Sequence[int],
        home: Sequence[int],
        visiting_pitchers: Staff | int,
        home_pitchers: Staff | int,
        day: date,
        **rest: str | int | bool,
    ) -> GamePlan:
        """A plan from two line-ups of nine players and the pitchers (one alone throws the whole game)."""
        lineups = (tuple((b,) for b in visitors), tuple((b,) for b in home))
        staffs = [((p, 1),) if isinstance(p, int) else p for p in (visiting_pitchers, home_pitchers)]
        return cls(lineups, (staffs[0], staffs[1]), day, **rest)  # type: ignore[arg-type]


def plans_of(store: Store, season: int, games: int | None = None, seed: int = 0) -> list[GamePlan]:
    """Plans of the main league's regular-season games as they were played.

    Whoever took a line-up place's n-th turn takes it here too, and each pitcher faces as many batters as he did; in a
    simulated game that goes on longer, the last of them go on.

    Args:
        games: how many, drawn at random (with repetition beyond the season's number); None for each game once.

    Raises:
        FullcountError: the season has no games with line-ups in the store.
    """
    played = store.games.filter(of_season(store, season))
    sides, staffs = _as_played(store, season)
    plans = []
    for row in played.select("game_id", "date", "park", "league", "number").iter_rows(named=True):
        visitors, home = (row["game_id"], True), (row["game_id"], False)
        if visitors not in sides or home not in sides:
            continue
        plans.append(
            GamePlan(
                (sides[visitors], sides[home]),
                (staffs[home], staffs[visitors]),  # the visitors' pitchers threw to the home side
                day=row["date"],
                park=row["park"] or "",
                league=row["league"],
                innings=7 if season in (2020, 2021) and row["number"] else 9,  # double-headers of those years
                runner=season >= 2020,
            )
        )
    if not plans:
        raise FullcountError(f"no regular-season game of {season} with its line-ups in the store: ingest that season")
    if games is None:
        return plans
    rng = np.random.default_rng([seed, season])
    order = np.concatenate([rng.permutation(len(plans)) for _ in range(-(-games // len(plans)))])
    return [plans[i] for i in order[:games]]


def plans_ahead(store: Store, as_of: date, seed: int = 0) -> list[GamePlan]:
    """Plans of the next season by what is known on `as_of`: its schedule, and who played the season before.

    Each side sends out the line-up and the pitchers of one of its team's games of that season, drawn at random; players
    are as good as they are on `as_of`. Games of teams without such games are left out.

    Raises:
        FullcountError: no game is left.
    """
    season = target_season(as_of)
    lineups, staffs = _as_played(store, season - 1)
    teams: dict[str, list[tuple[Lineup, Staff]]] = {}
    wanted = of_season(store, season - 1) & (pl.col("date") < as_of)
    for row in store.games.filter(wanted).sort("date", "game_id").iter_rows(named=True):
        visitors, home = (row["game_id"], True), (row["game_id"], False)
        if visitors in lineups and home in lineups:
            teams.setdefault(row["away_team"], []).append((lineups[visitors], staffs[home]))
            teams.setdefault(row["home_team"], []).append((lineups[home], staffs[visitors]))
    rng = np.random.default_rng([seed, season])
    plans = []
    for row in store.games.filter(of_season(store, season)).sort("date", "game_id").iter_rows(named=True):
        sides = [teams.get(row[c], []) for c in ("away_team", "home_team")]
        if all(sides):
            away, host = (side[rng.integers(len(side))] for side in sides)
            plans.append(
                GamePlan(
                    (away[0], host[0]),
                    (away[1], host[1]),
                    day=as_of,
                    park=row["park"] or "",
                    league=row["league"],
                    runner=season > 2020,
                )
            )
    if not plans:
        raise FullcountError(f"simulation of {season}: the store has no schedule of it, or no line-ups of {season - 1}")
    return plans


def _as_played(store: Store, season: int) -> tuple[dict[tuple[str, bool], Lineup], dict[tuple[str, bool], Staff]]:
    """By game and whether it is the top of innings: who batted, where all nine are known, and who pitched to them."""
    wanted = of_season(store, season)
    turns = store.table("plate_appearances").filter(wanted & (pl.col("event") != "truncated_pa"))
    by = ["game_id", "top"]
    sides: dict[tuple[str, bool], list[tuple[int, ...]]] = {}
    places = turns.drop_nulls("lineup_slot").group_by(*by, "lineup_slot").agg(pl.col("batter").sort_by("pa_number"))
    for game, top, _, batters in places.sort(*by, "lineup_slot").iter_rows():
        sides.setdefault((game, top), []).append(tuple(batters))
    staffs: dict[tuple[str, bool], list[tuple[int, int]]] = {}
    faced = turns.group_by(*by, "pitcher").agg(pl.len(), pl.col("pa_number").min()).sort(*by, "pa_number")
    for game, top, pitcher, batters, _ in faced.iter_rows():
        staffs.setdefault((game, top), []).append((pitcher, batters))
    whole = {key: tuple(side) for key, side in sides.items() if len(side) == 9}
    return whole, {key: tuple(staff) for key, staff in staffs.items()}


def of_season(store: Store, season: int) -> pl.Expr:
    """Whether a row is of a season's regular games of the main league."""
    main = pl.col("league") == main_league(store.games["league"])
    return main & (pl.col("season") == season) & (pl.col("game_type") == "R")
