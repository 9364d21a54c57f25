"""What a player's pitches and plate appearances say beside his lines: discipline, batted balls, opponents, parks.

A `Measure` is a ratio of two sums over a player's season, less the league's ratio in the same season, so that a
scorer's habits, a rule or a new way of measuring does not look like a change in everybody.
"""

from __future__ import annotations

from collections.abc import Collection
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

_PLAYER: dict[Role, PlayerRole] = {"hitters": "batter", "pitchers": "pitcher"}
_KEY = ["season", "player"]


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
    table = _measures(store)[role].filter(pl.col("season") == season)
    ratios = ((pl.col(f"x:{m}") / pl.col(f"n:{m}")).fill_nan(None).alias(m) for m in MEASURES)
    return table.select("player", *ratios, pl.col("^n:.*$"))


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
    lag = season - pl.col("season")
    weight = lag.replace_strict(dict(enumerate(WEIGHTS, start=1)))
    sums = (
        _measures(store)[role]
        .filter(lag.is_between(1, len(WEIGHTS)))
        .group_by("player", maintain_order=True)
        .agg((pl.col(f"{s}:{m}") * weight).sum() for m in names for s in "xn")
    )
    strength = {m: MEASURES[m].strength[ROLES.index(role)] for m in names}
    shrunken = {m: pl.col(f"x:{m}") / (pl.col(f"n:{m}") + strength[m]) for m in names}
    return sums.select(
        "player", *(pl.when(pl.col(f"n:{m}") > 0).then(e).alias(f"a:{m}") for m, e in shrunken.items())
    ).sort("player")


_KEPT: WeakKeyDictionary[Store, dict[Role, pl.DataFrame]] = WeakKeyDictionary()
_ASKING = Lock()


def _measures(store: Store) -> dict[Role, pl.DataFrame]:
    """season, player; of each measure `x:`, over less the league's ratio times under, and `n:`, under.

    Worked out at the first question, for all seasons, and remembered as long as the store is open.
    """
    with _ASKING:
        if store not in _KEPT:
            answer: dict[Role, pl.DataFrame] = {}
            for role, own in _sums(store).items():
                own = own.join(_pitch_sums(store, role), on=_KEY, how="left").sort(_KEY)
                answer[role] = own.select(*_KEY, *(e for name in MEASURES for e in _against_league(name)))
            _KEPT[store] = answer
        return _KEPT[store]


def _against_league(name: str) -> tuple[pl.Expr, pl.Expr]:
    of = MEASURES[name]
    over, under = (pl.sum_horizontal(pl.col(c).fill_null(0.0) for c in side) for side in (of.over, of.under))
    league = over.sum().over("season") / under.sum().over("season")
    return (
        pl.when(under > 0).then(over - under * league).otherwise(0.0).alias(f"x:{name}"),
        under.alias(f"n:{name}"),
    )


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


def _pitch_sums(store: Store, role: Role) -> pl.DataFrame:
    """season, player and his pitches by kind of count and class (`fS`: swinging strikes at 0-0)."""
    names = _pitches(KINDS, _ALL)
    own = (pl.col("game_type") == "R") & (pl.col("league") == main_league(store.games["league"]))
    season_of = store.games.select(pl.when(own).then("season").otherwise(0)).to_series().to_numpy()
    runs = store.runs
    season, player = season_of[np.asarray(runs["game"])], np.asarray(runs[_PLAYER[role]])
    parts = []
    for s in np.unique(season[season > 0]):
        chosen = np.flatnonzero(season == s)
        players, owner = np.unique(player[chosen], return_inverse=True)
        length = np.asarray(runs["length"])[chosen]
        fields = gather(store.categorical, ranges(np.asarray(runs["start"])[chosen], length))
        result, kind = _CLASS[fields[:, COLUMN["call"]]], _kind(fields)
        told = (result >= 0) & (kind >= 0)
        cell = (np.repeat(owner, length) * len(KINDS) + kind) * len(PITCH_CLASSES) + result
        counts = np.bincount(cell[told], minlength=len(players) * len(names)).reshape(len(players), -1)
        parts.append(
            pl.DataFrame(counts.astype(np.float64), schema=names).select(
                pl.lit(int(s), pl.Int16).alias("season"), pl.Series("player", players, pl.Int32), *names
            )
        )
    empty = pl.DataFrame(schema={"season": pl.Int16, "player": pl.Int32, **dict.fromkeys(names, pl.Float64)})
    return pl.concat([empty, *parts])


def _kind(fields: NDArray[np.int16]) -> NDArray[np.int64]:
    """Place in KINDS of pitches with field ids `fields` [n, fields]; -1 where the count is unknown."""
    balls, strikes = fields[:, COLUMN["balls"]].astype(np.int64) - 1, fields[:, COLUMN["strikes"]].astype(np.int64) - 1
    unknown = (balls < 0) | (strikes < 0)
    return np.select([unknown, balls + strikes == 0, strikes == 2, balls == 3], [-1, 0, 1, 2], default=3)


# ----------------------------------------------------------------------------------------------- plate appearances


#: Outcomes whose rates of opponents and parks are read.
_RATED = ("K", "BB", "HR", "hits")
_HIT = {"1B": "single", "2B": "double", "3B": "triple", "HR": "home_run"}
_NO_CONTACT = ("walk", "intent_walk", "hit_by_pitch", "strikeout", "strikeout_double_play", "catcher_interf")
_TRAJECTORY = {"GB": "ground_ball", "LD": "line_drive", "FB": "fly_ball", "PU": "popup", "BU": "bunt"}
_FASTBALLS, _BREAKING = ("FF", "SI", "FA"), ("SL", "ST", "SV", "CU", "KC", "CS")


def _sums(store: Store) -> dict[Role, pl.DataFrame]:
    """season, player and his sums over the main league's plate appearances of regular seasons."""
    own = (pl.col("game_type") == "R") & (pl.col("league") == main_league(store.games["league"]))
    table = store.table("plate_appearances").filter(own, pl.col("event") != "truncated_pa")
    if table.is_empty():
        raise FullcountError(
            f"{store.root}: no plate appearances of the main league's games to aggregate; ingest retrosheet or statcast"
        )
    seasons = [_turns(part) for part in table.partition_by("season")]
    of_games = [turns.group_by("game_id").agg(pl.len().alias("PA"), pl.col(_RATED).sum()) for turns in seasons]
    parks = _park_factors(store.games.join(pl.concat(of_games), on="game_id"))
    sums: dict[Role, list[pl.DataFrame]] = {"hitters": [], "pitchers": []}
    for turns in seasons:
        turns = turns.join(_teams(turns, store.games), on=["game_id", "top"], how="left")
        turns = turns.join(parks, on=["season", "home_team", "park"], how="left")
        for player in _PLAYER.values():
            turns = turns.join(_rates(turns, player), on=player, how="left")
        for role in _PLAYER:
            sums[role].append(_turn_sums(turns, role))
    return {role: pl.concat(parts) for role, parts in sums.items()}


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
    value = pl.sum_horizontal(pl.col(c) * WOBA[c] for c in _HIT)
    cell = ["speed", "angle", "contacted"]
    return turns.with_columns(
        pl.when(told.sum() >= LEAST_KNOWN * pl.col("contacted").sum()).then("contact"),
        measured.alias("measured"),
        pl.when(measured).then(pl.col("HR").mean().over(cell)).alias("expected HR"),
        pl.when(measured).then(value.mean().over(cell)).alias("expected wOBA"),
    ).drop("speed", "angle")


def _park_factors(games: pl.DataFrame) -> pl.DataFrame:
    """season, home_team, park and `park K`, ...: the park's factors less 1, from `games` with sums of both teams.

    A factor is the rate in the home team's games there over that in its games elsewhere, in this and the two earlier
    seasons, shrunken.
    """
    counts = ("PA", *_RATED)
    home = games.group_by("season", "home_team", "park").agg(pl.col(counts).sum())
    road = games.group_by("season", pl.col("away_team").alias("home_team")).agg(
        pl.col(counts).sum().name.prefix("road ")
    )
    both = home.join(road, on=["season", "home_team"])
    later = pl.concat([both.with_columns(pl.col("season") + k) for k in range(3)])
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
    """season, player and his sums over a season's plate appearances."""
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
    counted = turns.select(
        "season", pl.col(_PLAYER[role]).alias("player"), *(e.cast(pl.Float64).alias(c) for c, e in terms.items())
    )
    return counted.group_by(_KEY, maintain_order=True).sum()
