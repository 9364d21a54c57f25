"""What a player's pitches and plate appearances say beside his lines: discipline, batted balls, opponents, parks.

A `Measure` is a ratio of two sums over a player's season, less the league's ratio in the same season, so that a
scorer's habits, a rule or a new way of measuring does not look like a change in everybody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.fields import AUTOMATIC_CALLS, BY_NAME, CALL_CLASS, COLUMN, PITCH_CLASSES
from fullcount.projection.system import ROLES, WOBA, Role
from fullcount.sources.seasons import main_league
from fullcount.store import PlayerRole, Store
from fullcount.windows import gather, ranges

#: Weights of the last three seasons in `recent`.
WEIGHTS = (1.0, 0.8, 0.6)
#: A season in which fewer of the balls in play than this have a trajectory has no batted-ball measures: those that
#: have one are not like the others (2000 and 2001).
LEAST_KNOWN = 0.9
#: Plate appearances with which a park's factor and an opponent's rates are shrunken.
_PARK, _OPPONENT = 6000.0, 150.0
_PARK_SEASONS = 3

Floats = NDArray[np.float64]

_PLAYER: dict[Role, PlayerRole] = {"hitters": "batter", "pitchers": "pitcher"}


class Measure(NamedTuple):
    """The sums in `over` over those in `under` (see `_pitch_sums`, `_turn_sums`), shrunken with `strength` of `under`.

    `strength`, of hitters and of pitchers: how much of `under` it takes until half of a difference is the player's own.
    From covariances of consecutive seasons 2005-15, physics of odd and even games of 2022, before any season that is
    reported; 50 for what happens to him rather than by him.
    """

    group: str
    over: tuple[str, ...]
    under: tuple[str, ...]
    strength: tuple[float, float]


#: Kinds of count: first pitch, two strikes, three balls and fewer strikes, others.
KINDS = "fsbo"


def _pitches(kinds: str, classes: str) -> tuple[str, ...]:
    return tuple(f"{k}{c}" for k in kinds for c in classes)


_ALL, _SWING = "".join(PITCH_CLASSES), "SFX"

MEASURES: dict[str, Measure] = {
    "swing": Measure("discipline", _pitches(KINDS, _SWING), _pitches(KINDS, _ALL), (390, 615)),
    "whiff": Measure("discipline", _pitches(KINDS, "S"), _pitches(KINDS, _SWING), (80, 115)),
    "foul": Measure("discipline", _pitches(KINDS, "F"), _pitches(KINDS, "FX"), (270, 160)),
    "called": Measure("discipline", _pitches(KINDS, "C"), _pitches(KINDS, "BC"), (180, 410)),
    "ball": Measure("discipline", _pitches(KINDS, "B"), _pitches(KINDS, _ALL), (490, 680)),
    "first swing": Measure("discipline", _pitches("f", _SWING), _pitches("f", _ALL), (110, 360)),
    "first strike": Measure("discipline", _pitches("f", "CSFX"), _pitches("f", _ALL), (440, 360)),
    "two-strike whiff": Measure("discipline", _pitches("s", "S"), _pitches("s", _SWING), (50, 120)),
    "two-strike called": Measure("discipline", _pitches("s", "C"), _pitches("s", "BC"), (135, 210)),
    "three-ball swing": Measure("discipline", _pitches("b", _SWING), _pitches("b", _ALL), (45, 155)),
    "two strikes": Measure("discipline", _pitches("s", _ALL), _pitches(KINDS, _ALL), (1100, 690)),
    "pitches": Measure("discipline", _pitches(KINDS, _ALL), _pitches("f", _ALL), (170, 130)),
    "ground": Measure("contact", ("GB",), ("known",), (115, 60)),
    "line": Measure("contact", ("LD",), ("known",), (610, 1640)),
    "fly": Measure("contact", ("FB",), ("known",), (125, 150)),
    "popup": Measure("contact", ("PU",), ("FB", "PU"), (70, 250)),
    "bunt": Measure("contact", ("BU",), ("PA",), (45, 1350)),
    "HR/fly": Measure("contact", ("HR",), ("FB", "LD"), (65, 1030)),
    "hit/ground": Measure("contact", ("GB hit",), ("GB",), (380, 590)),
    "hit/air": Measure("contact", ("air hit",), ("air in play",), (410, 275)),
    "extra/hit": Measure("contact", ("2B", "3B"), ("1B", "2B", "3B"), (180, 400)),
    "triple": Measure("contact", ("3B",), ("2B", "3B"), (23, 320)),
    "double play": Measure("contact", ("GDP",), ("GDP chance",), (145, 210)),
    "left": Measure("hands", ("PA L",), ("PA",), (140, 160)),
    "K left": Measure("hands", ("K L",), ("PA L",), (45, 45)),
    "K right": Measure("hands", ("K R",), ("PA R",), (60, 75)),
    "BB left": Measure("hands", ("BB L",), ("PA L",), (130, 210)),
    "BB right": Measure("hands", ("BB R",), ("PA R",), (165, 185)),
    "bases left": Measure("hands", ("TB L",), ("PA L",), (260, 360)),
    "bases right": Measure("hands", ("TB R",), ("PA R",), (385, 375)),
    "their K": Measure("opponents", ("their K",), ("PA",), (50, 50)),
    "their BB": Measure("opponents", ("their BB",), ("PA",), (50, 50)),
    "their HR": Measure("opponents", ("their HR",), ("PA",), (50, 50)),
    "their hits": Measure("opponents", ("their hits",), ("PA",), (50, 50)),
    "park HR": Measure("parks", ("park HR",), ("PA",), (50, 50)),
    "park hits": Measure("parks", ("park hits",), ("PA",), (50, 50)),
    "park K": Measure("parks", ("park K",), ("PA",), (50, 50)),
    "slot": Measure("situation", ("slot",), ("PA",), (50, 50)),
    "on base": Measure("situation", ("runners",), ("PA",), (50, 50)),
    "scoring position": Measure("situation", ("scoring position",), ("PA",), (50, 50)),
    "team runs": Measure("situation", ("team runs",), ("PA",), (50, 50)),
    "late": Measure("situation", ("late",), ("PA",), (50, 50)),
    "close": Measure("situation", ("close",), ("PA",), (50, 50)),
    "exit speed": Measure("physics", ("exit speed",), ("measured",), (40, 130)),
    "hard": Measure("physics", ("hard",), ("measured",), (45, 205)),
    "very hard": Measure("physics", ("very hard",), ("measured",), (17, 360)),
    "expected HR": Measure("physics", ("expected HR",), ("measured",), (40, 390)),
    "expected bases": Measure("physics", ("expected wOBA",), ("measured",), (60, 265)),
    "fastball": Measure("physics", ("fastball speed",), ("fastball",), (295, 3)),
    "fastballs": Measure("physics", ("fastball",), ("typed",), (155, 17)),
    "breaking": Measure("physics", ("breaking",), ("typed",), (115, 9)),
}
GROUPS = tuple(dict.fromkeys(m.group for m in MEASURES.values()))


def aggregates(store: Store, role: Role, season: int) -> pl.DataFrame:
    """Measures of `season` of everybody in the store's main league (regular season), by player.

    `player` and, for each of MEASURES, the ratio less the league's in that season and the sum below the line (`n:...`).
    Null: nothing below the line, or a season that has none of it.

    Raises:
        FullcountError: the store has no plate appearances.
    """
    player, away, under = _measures(store, role, season)
    ratios = np.divide(away, under, out=np.full_like(away, np.nan), where=under > 0)
    columns = {"player": player, **dict(zip(MEASURES, ratios.T, strict=True))}
    columns |= {f"n:{m}": n for m, n in zip(MEASURES, under.T, strict=True)}
    return pl.DataFrame(columns).fill_nan(None)


def recent(store: Store, role: Role, season: int, groups: Collection[str] = GROUPS) -> pl.DataFrame:
    """What is known before `season`: `player` and `a:swing`, ..., measures of the last three seasons in one, by player.

    Each is the weighted sum of differences from the league over the weighted sum below the line and the measure's
    strength, so that who has played little is near 0. Null: nothing below the line in three seasons.

    Raises:
        FullcountError: the store has no plate appearances, or there is no such group.
    """
    if unknown := set(groups) - set(GROUPS):
        raise FullcountError(f"no group of measures {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    names = [m for m, of in MEASURES.items() if of.group in groups]
    chosen = [list(MEASURES).index(m) for m in names]
    lags = range(len(WEIGHTS), 0, -1)  # the earliest first: with it the later ones are worked out
    seasons = [_measures(store, role, season - lag) for lag in lags]
    players = np.unique(np.concatenate([s.player for s in seasons]))
    away, under = np.zeros((2, len(players), len(names)))
    for one, lag in zip(seasons, lags, strict=True):
        place, weight = np.searchsorted(players, one.player), WEIGHTS[lag - 1]
        away[place] += weight * one.away[:, chosen]
        under[place] += weight * one.under[:, chosen]
    shrunken = away / (under + [MEASURES[m].strength[ROLES.index(role)] for m in names])
    columns = dict(zip(names, np.where(under > 0, shrunken, np.nan).T, strict=True))
    return pl.DataFrame({"player": players, **{f"a:{m}": x for m, x in columns.items()}}).fill_nan(None)


class _Measured(NamedTuple):
    """Measures of a season.

    player: [m], ascending. away: [m, MEASURES], sums over the line less the league's ratio times those under it.
    under: [m, MEASURES].
    """

    player: NDArray[np.int32]
    away: Floats
    under: Floats


_NEVER = 10_000
_NOBODY = _Measured(np.zeros(0, np.int32), *np.zeros((2, 0, len(MEASURES))))
#: From which season on measures of a store are known, and they.
_KEPT: WeakKeyDictionary[Store, tuple[int, dict[tuple[Role, int], _Measured]]] = WeakKeyDictionary()
_ASKING = Lock()


def _measures(store: Store, role: Role, season: int) -> _Measured:
    """Worked out at the first question, with all later seasons, and remembered as long as the store is open."""
    with _ASKING:
        first, known = _KEPT.get(store, (_NEVER, {}))
        if season < first:
            _KEPT[store] = season, known | _seasons(store, season, first)
        return _KEPT[store][1].get((role, season), _NOBODY)


def _seasons(store: Store, first: int, before: int) -> dict[tuple[Role, int], _Measured]:
    """Measures of the main league's seasons from `first` on and before `before`."""
    main = (pl.col("game_type") == "R") & (pl.col("league") == main_league(store.games["league"]))
    table = store.table("plate_appearances").filter(main, pl.col("event") != "truncated_pa")
    if table.is_empty():
        raise FullcountError(
            f"{store.root}: no plate appearances of the main league's games to aggregate; ingest retrosheet or statcast"
        )
    table = table.filter(pl.col("season").is_between(first - _PARK_SEASONS + 1, before - 1))
    if table.is_empty():
        return {}
    season_of = store.games.select(pl.when(main).then("season").otherwise(0)).to_series().to_numpy()
    season_of_runs = season_of[np.asarray(store.runs["game"])]
    turns = {s: _turns(table.filter(pl.col("season") == s)) for s in table["season"].unique().sort().to_list()}
    parks = _park_factors(turns, store.games)

    def measured(season: int) -> dict[tuple[Role, int], _Measured]:
        own = _surrounded(turns.pop(season), store.games, parks)
        pitches = _pitch_sums(store, np.flatnonzero(season_of_runs == season))
        sums = {r: _turn_sums(own, r).join(pitches[r], on="player", how="left").sort("player") for r in ROLES}
        return {(r, season): _against_league(t) for r, t in sums.items()}

    with ThreadPoolExecutor(len(ROLES)) as threads:  # tables and arrays let another thread run
        found = threads.map(measured, [s for s in turns if s >= first])
        return {key: of for season in found for key, of in season.items()}


_COLUMNS = tuple(dict.fromkeys(c for of in MEASURES.values() for c in (*of.over, *of.under)))
#: [columns, MEASURES]: 1 where a column is among those over (under) the line.
_OVER = np.array([[float(c in of.over) for of in MEASURES.values()] for c in _COLUMNS])
_UNDER = np.array([[float(c in of.under) for of in MEASURES.values()] for c in _COLUMNS])


def _against_league(sums: pl.DataFrame) -> _Measured:
    """Measures of players with these sums, by player."""
    own = sums.select(pl.col(_COLUMNS).fill_null(0.0)).to_numpy()
    over, under = own @ _OVER, own @ _UNDER
    n = under.sum(axis=0)
    league = np.divide(over.sum(axis=0), n, out=np.zeros_like(n), where=n > 0)
    return _Measured(sums["player"].to_numpy(), np.where(under > 0, over - under * league, 0.0), under)


# --------------------------------------------------------------------------------------------------------- pitches

#: Class of a call's id; -1 where nothing was thrown to be hit.
_CLASS = np.array(
    [
        -1,
        *(
            -1 if v in (*AUTOMATIC_CALLS, "intent_ball", "pitchout") else PITCH_CLASSES.index(CALL_CLASS[v])
            for v in BY_NAME["call"].vocabulary or ()
        ),
    ]
)


def _cells() -> NDArray[np.int64]:
    """Place among `_pitches(KINDS, _ALL)` by ids of call, balls and strikes; -1: not thrown to be hit, or unknown."""
    balls, strikes = (len(BY_NAME[c].vocabulary or ()) for c in ("balls", "strikes"))
    cells = np.full((len(_CLASS), balls + 1, strikes + 1), -1)
    for b, s in product(range(balls), range(strikes)):
        kind = KINDS.index("f" if b + s == 0 else "s" if s == 2 else "b" if b == 3 else "o")
        cells[:, b + 1, s + 1] = np.where(_CLASS < 0, -1, kind * len(PITCH_CLASSES) + _CLASS)
    return cells


def _pitch_sums(store: Store, chosen: NDArray[np.int64]) -> dict[Role, pl.DataFrame]:
    """player and his pitches by kind of count and class (`fS`: swinging strikes at 0-0) in the runs `chosen`."""
    names, runs = _pitches(KINDS, _ALL), store.runs
    length = np.asarray(runs["length"])[chosen]
    fields = gather(store.categorical, ranges(np.asarray(runs["start"])[chosen], length))
    cell = _cells()[tuple(fields[:, COLUMN[c]] for c in ("call", "balls", "strikes"))]
    told = cell >= 0
    sums: dict[Role, pl.DataFrame] = {}
    for role, player in _PLAYER.items():
        players, owner = np.unique(np.asarray(runs[player])[chosen], return_inverse=True)
        places = np.repeat(owner * len(names), length)[told] + cell[told]
        counts = np.bincount(places, minlength=len(players) * len(names)).reshape(-1, len(names))
        own = pl.DataFrame(counts.astype(np.float64), schema=names)
        sums[role] = own.insert_column(0, pl.Series("player", players, pl.Int32))
    return sums


# ----------------------------------------------------------------------------------------------- plate appearances


#: Outcomes whose rates of opponents and parks are read.
_RATED = ("K", "BB", "HR", "hits")
_HIT = {"1B": "single", "2B": "double", "3B": "triple", "HR": "home_run"}
_NO_CONTACT = ("walk", "intent_walk", "hit_by_pitch", "strikeout", "strikeout_double_play", "catcher_interf")
_TRAJECTORY = {"GB": "ground_ball", "LD": "line_drive", "FB": "fly_ball", "PU": "popup", "BU": "bunt"}
#: Fractions are summed in whole numbers of this: then neither the order of rows nor of threads changes a sum.
_GRAIN = 2.0**-32
_FASTBALLS, _BREAKING = ("FF", "SI", "FA"), ("SL", "ST", "SV", "CU", "KC", "CS")


def _turns(table: pl.DataFrame) -> pl.DataFrame:
    """A season's plate appearances with what became of them in columns of true and false.

    `expected HR`, `expected wOBA` of a measured ball: the season's means at its speed and angle (3 mph x 4 degrees).
    """
    event, speed, angle = pl.col("event"), pl.col("launch_speed"), pl.col("launch_angle")
    turns = table.select(
        "season", "game_id", "park", "top", "batter", "pitcher", "stand", "throws", "batter_is_pitcher",
        "contact", "launch_speed", "release_speed", "pitch_type", "runs",
        *((event == v).alias(c) for c, v in _HIT.items()),
        event.is_in(["strikeout", "strikeout_double_play"]).alias("K"),
        (event == "walk").alias("BB"),
        event.is_in(["single", "double", "triple"]).alias("hits"),
        (event == "grounded_into_double_play").alias("GDP"),
        (~event.is_in(_NO_CONTACT)).alias("contacted"),
        (((pl.col("bases") & 1) > 0) & (pl.col("outs") < 2)).alias("GDP chance"),
        pl.sum_horizontal((pl.col("bases") // b) % 2 for b in (1, 2, 4)).alias("runners"),
        (pl.col("bases") > 1).alias("scoring position"),
        pl.col("lineup_slot").alias("slot"),
        (pl.col("inning") >= 7).alias("late"),
        ((pl.col("inning") >= 7) & ((pl.col("bat_score") - pl.col("fld_score")).abs() <= 2)).alias("close"),
        (speed / 3).floor().alias("speed"), (angle / 4).floor().alias("angle"),
    )  # fmt: skip
    told = pl.col("contacted") & (pl.col("contact") != "none")
    measured = pl.col("contacted") & pl.col("speed").is_not_null() & pl.col("angle").is_not_null()
    cell = ["speed", "angle", "contacted"]
    value = pl.sum_horizontal(pl.col(c).mean().over(cell) * WOBA[c] for c in _HIT)
    return turns.with_columns(
        pl.when(told.sum() >= LEAST_KNOWN * pl.col("contacted").sum()).then("contact"),
        measured.alias("measured"),
        pl.when(measured).then(pl.col("HR").mean().over(cell)).alias("expected HR"),
        pl.when(measured).then(value).alias("expected wOBA"),
    ).drop("speed", "angle")


def _surrounded(turns: pl.DataFrame, games: pl.DataFrame, parks: pl.DataFrame) -> pl.DataFrame:
    """A season's `turns` with the team's runs, the park's factors and the rates of both players."""
    turns = turns.join(_teams(turns, games), on=["game_id", "top"], how="left")
    turns = turns.join(parks, on=["season", "home_team", "park"], how="left")
    for player in _PLAYER.values():
        turns = turns.join(_rates(turns, player), on=player, how="left")
    return turns


def _park_factors(turns: Mapping[int, pl.DataFrame], games: pl.DataFrame) -> pl.DataFrame:
    """season, home_team, park and `park K`, ...: the park's factors less 1, from `turns` of both teams by season.

    A factor is the rate in the home team's games there over that in its games elsewhere, in this and the two earlier
    seasons, shrunken.
    """
    # Of where he has played, so of this season, too; `schedule.park_factors` looks ahead and may not know it, and its
    # logarithms are of whole parks, whoever is at home.
    counts = ("PA", *_RATED)
    sums = [t.group_by("game_id").agg(pl.len().alias("PA"), pl.col(_RATED).sum()) for t in turns.values()]
    games = games.join(pl.concat(sums), on="game_id")
    home = games.group_by("season", "home_team", "park").agg(pl.col(counts).sum())
    road = games.group_by("season", pl.col("away_team").alias("home_team")).agg(
        pl.col(counts).sum().name.prefix("road ")
    )
    both = home.join(road, on=["season", "home_team"])
    later = pl.concat([both.with_columns(pl.col("season") + k) for k in range(_PARK_SEASONS)])
    pooled = later.group_by("season", "home_team", "park").agg(pl.all().sum())
    n = pl.col("PA")
    factors = {c: (pl.col(c) / n) / (pl.col(f"road {c}") / pl.col("road PA")) - 1 for c in _RATED}
    return pooled.select(
        "season",
        "home_team",
        "park",
        *(pl.when(f.is_finite()).then(f * n / (n + _PARK)).alias(f"park {c}") for c, f in factors.items()),
    )


def _teams(turns: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    """game_id, top, home_team and `team runs`: of the team that bats, runs a plate appearance in the season."""
    team = pl.when("top").then("away_team").otherwise("home_team")
    sides = turns.group_by("game_id", "top").agg(pl.col("runs").sum(), pl.len().alias("n"))
    sides = sides.join(games.select("game_id", "home_team", "away_team"), on="game_id")
    return sides.select(
        "game_id", "top", "home_team", (pl.col("runs").sum() / pl.col("n").sum()).over(team).alias("team runs")
    )


def _rates(turns: pl.DataFrame, player: PlayerRole) -> pl.DataFrame:
    """`player` and `batter K`, ...: his rates in the season less the league's, shrunken."""
    league = turns.select(pl.col(_RATED).mean()).row(0, named=True)
    own = turns.group_by(player).agg(pl.len().alias("n"), pl.col(_RATED).sum())
    n = pl.col("n")
    return own.select(
        player, *(((pl.col(c) - n * r) / (n + _OPPONENT)).alias(f"{player} {c}") for c, r in league.items())
    )


def _turn_sums(turns: pl.DataFrame, role: Role) -> pl.DataFrame:
    """player and his sums over a season's plate appearances."""
    they: PlayerRole = "pitcher" if role == "hitters" else "batter"
    if role == "hitters":
        turns = turns.filter(~pl.col("batter_is_pitcher").fill_null(False))
    told = pl.col("contact").is_not_null()
    of = {c: pl.col("contact") == v for c, v in _TRAJECTORY.items()}
    air = of["LD"] | of["FB"]
    left = pl.col("throws" if role == "hitters" else "stand") == "L"
    bases = pl.sum_horizontal(pl.col(c).cast(pl.Int8) * (i + 1) for i, c in enumerate(_HIT))
    fast = pl.col("pitch_type").is_in(_FASTBALLS)
    speed = pl.when("measured").then("launch_speed")
    terms = {
        "PA": pl.lit(1),
        **{c: pl.col(c) for c in ("GDP", "GDP chance", "runners", "scoring position", "slot", "late", "close")},
        **{c: pl.col(c) & told for c in _HIT},
        "known": pl.col("contacted") & told,
        **of,
        "GB hit": of["GB"] & pl.col("hits"),
        "air hit": air & pl.col("hits"),
        "air in play": air & ~pl.col("HR"),
        **{
            f"{what} {hand}": pl.when(facing).then(e)
            for hand, facing in (("L", left), ("R", ~left))
            for what, e in {"PA": pl.lit(1), "K": pl.col("K"), "BB": pl.col("BB"), "TB": bases}.items()
        },
        **{f"their {c}": pl.col(f"{they} {c}") for c in _RATED},
        **{f"park {c}": pl.col(f"park {c}") for c in _RATED},
        "team runs": pl.col("team runs"),
        "measured": pl.col("measured"),
        "exit speed": speed,
        "hard": speed >= 95,
        "very hard": speed >= 105,
        **{c: pl.col(c) for c in ("expected HR", "expected wOBA")},
        "typed": pl.col("pitch_type").is_not_null(),
        "fastball": fast & pl.col("release_speed").is_not_null(),
        "fastball speed": pl.when(fast).then("release_speed"),
        "breaking": pl.col("pitch_type").is_in(_BREAKING),
    }
    counted = turns.select(pl.col(_PLAYER[role]).alias("player"), *(e.alias(c) for c, e in terms.items()))
    fractions = [c for c, t in counted.schema.items() if t.is_float()]
    sums = counted.with_columns((pl.col(fractions).cast(pl.Float64) / _GRAIN).round().cast(pl.Int64))
    sums = sums.group_by("player").sum().with_columns(pl.exclude("player").cast(pl.Float64))
    return sums.with_columns(pl.col(fractions) * _GRAIN)
