"""What is known of a player before a date from counts alone: shrunken, time-decayed rates, age, reliability.

Counts decay by the day, so that a prior asked for in mid-season holds that season too. A decayed sum as of any day is
one subtraction-free look-up, because sum x_i exp(-d (t - t_i)) = exp(-d t) * cumsum(x_i exp(d t_i)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.fields import BY_NAME, CALL_CLASS, COLUMN, OUTCOMES, PITCH_TYPES
from fullcount.sources.seasons import main_league
from fullcount.store import ROLES, PlayerRole, Store, day_number
from fullcount.windows import NO_DAY, player_day, ranges

Float = NDArray[np.float64]

#: Prior strength M in (x + M * league) / (n + M), in plate appearances (batters) or batters faced (pitchers): the
#: published stabilisation points (K 60, BB 120, HR 170 PA; K 70, BB 170, HR 1,320 BF) and, for kinds of hits, values
#: of the order of the 910 AB of AVG and the 2,000 BIP of pitchers' BABIP.
STRENGTH: dict[PlayerRole, dict[str, float]] = {
    "batter": {"K": 60, "BB": 120, "1B": 600, "2B": 1000, "3B": 1000, "HR": 170, "HBP": 240},
    "pitcher": {"K": 70, "BB": 170, "1B": 1500, "2B": 1500, "3B": 2000, "HR": 1320, "HBP": 400},
}
#: Per day; .78 a year, the ratio of Marcel's successive weights (4/5, 3/4).
DECAY = 0.00068
#: Counts beside the outcome mix: what a game line holds and a plate-appearance outcome does not say.
EXTRAS: dict[PlayerRole, tuple[str, ...]] = {"batter": ("SB", "R", "RBI"), "pitcher": ("outs", "ER")}
#: Kinds of count and classes of pitches whose shares are a player's tendencies (balls are what the others leave).
COUNT_KINDS = ("first", "even", "two strikes")
PITCH_RESULTS = ("C", "S", "F", "X")
#: Prior strength of a tendency in pitches of its kind of count, [kinds, results]: p (1 - p) over the variance between
#: players beyond chance, player-seasons of 2010-18 with 150 such pitches.
PITCH_STRENGTH: dict[PlayerRole, tuple[tuple[float, ...], ...]] = {
    "batter": ((50, 60, 100, 115), (105, 75, 230, 145), (190, 100, 240, 100)),
    "pitcher": ((240, 190, 405, 420), (385, 165, 490, 215), (285, 135, 345, 235)),
}


@dataclass(frozen=True)
class _Sums:
    """Running counts [n + 1, columns] of each player's lines, grown by the days since his first one; row 0 is zero.

    `key` [n] packs player and day; `origin` [n + 1] is the day of the player's first line.
    """

    key: NDArray[np.int64]
    totals: Float
    origin: NDArray[np.int64]


class Priors:
    """Priors of every player of a store as of any date, from the game lines of one league (regular season).

    A rate is shrunken to the league's of the last two years or so. Nothing on or after the asked day is counted, nor
    what a player did in another league: it is not translated. `league` is the main one (see `main_league`) by default.
    """

    #: Width of `features`: seven outcome log-ratios, reliability, age, whether the age is known, exposure a game, and
    #: the speed (steals) or run-prevention log-ratio.
    WIDTH = 12
    COLUMNS = (*OUTCOMES[1:], "exposure", "games")
    #: Width of what `matchup` says of each player, and of all: the batter, the pitcher, the league's level.
    SIDE = WIDTH + len(COUNT_KINDS) * len(PITCH_RESULTS)
    MATCHUP = 2 * SIDE + len(OUTCOMES) - 1 + len(COUNT_KINDS) * len(PITCH_RESULTS)

    def __init__(self, store: Store, decay: float = DECAY, league: str | None = None) -> None:
        self.store, self.decay = store, decay
        self.league_name = main_league(store.table("batting_games")["league"]) if league is None else league
        self._lines = {r: game_lines(store, r, self.league_name) for r in ROLES}
        players = store.table("players").filter(pl.col("birth_date").is_not_null())
        born = players.select("player", pl.col("birth_date").cast(pl.Int32)).sort("player")
        self._born_ids = born["player"].to_numpy().astype(np.int64)
        self._born = born["birth_date"].to_numpy().astype(np.int64)

    @staticmethod
    def columns(role: PlayerRole) -> tuple[str, ...]:
        """Names of the columns of `counts`."""
        return (*Priors.COLUMNS, *EXTRAS[role])

    @cached_property
    def _start(self) -> int:
        first = [line["date"].min() for line in self._lines.values() if line.height]
        return day_number(min(first)) if first else 0  # type: ignore[type-var, arg-type]

    def _weights(self, days: NDArray[np.int64], decay: float) -> Float:
        return np.asarray(np.exp(decay * (days - self._start)))

    @cached_property
    def _own(self) -> dict[PlayerRole, _Sums]:
        return {r: self._sums(self._lines[r], self.columns(r)) for r in ROLES}

    def _sums(self, lines: pl.DataFrame, columns: tuple[str, ...]) -> _Sums:
        lines = lines.sort("player", "date")
        player = lines["player"].to_numpy().astype(np.int64)
        day = lines["date"].cast(pl.Int32).to_numpy().astype(np.int64)
        values = lines.select(columns).to_numpy().astype(np.float64)
        # Each player is summed apart, from his own first day: in one running sum over all of them the recent lines of
        # some would swallow the early ones of others.
        origin = day[np.searchsorted(player, player)]
        grown = pl.DataFrame(values * np.exp(self.decay * (day - origin))[:, None], schema=columns)
        sums = grown.with_columns(lines["player"]).select(pl.col(columns).cum_sum().over("player"))
        totals = np.concatenate([np.zeros((1, values.shape[1])), sums.to_numpy()])
        return _Sums(player_day(player, day), totals, np.append(origin, 0))

    @cached_property
    def _league(self) -> dict[PlayerRole, tuple[NDArray[np.int64], Float]]:
        """Per role: days [n] and the totals [n + 1, columns] before each, decayed to half in a year."""
        answer: dict[PlayerRole, tuple[NDArray[np.int64], Float]] = {}
        for role in ROLES:
            lines = self._lines[role]
            if role == "batter":
                lines = lines.filter(~pl.col("is_pitcher"))
            answer[role] = self._daily(lines, self.columns(role))
        return answer

    def _daily(
        self, lines: pl.DataFrame, columns: tuple[str, ...], decay: float = np.log(2) / 365
    ) -> tuple[NDArray[np.int64], Float]:
        daily = lines.group_by("date").agg(pl.col(columns).sum()).sort("date")
        day = daily["date"].cast(pl.Int32).to_numpy().astype(np.int64)
        values = daily.select(columns).to_numpy().astype(np.float64) * self._weights(day, decay)[:, None]
        return day, np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])

    def counts(self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]) -> Float:
        """Decayed counts [m, columns] of `players` [m] before `days` [m]; see `columns`."""
        return self._before(self._own[role], players, days)

    def _before(self, sums: _Sums, players: NDArray[np.integer], days: NDArray[np.integer]) -> Float:
        players, days = np.asarray(players, dtype=np.int64), np.asarray(days, dtype=np.int64)
        stop = np.searchsorted(sums.key, player_day(players, days))
        start = np.searchsorted(sums.key, player_day(players, np.full_like(days, NO_DAY)))
        known = stop > start
        grown = np.exp(self.decay * np.where(known, days - sums.origin[start], 0))
        return np.asarray(sums.totals[np.where(known, stop, 0)] / grown[:, None])

    def league(self, role: PlayerRole, days: NDArray[np.integer]) -> Float:
        """League rates [m, columns] per exposure before `days` [m] (pitchers' batting left out)."""
        day, totals = self._league[role]
        # On the first day there is nothing before it; the first day's own totals would be the future, so a flat mix.
        found = totals[np.searchsorted(day, np.asarray(days))]
        exposure = found[:, [self.COLUMNS.index("exposure")]]
        flat = np.array([_FLAT.get(c, 0.1) for c in self.columns(role)])
        return np.where(exposure > 0, found / np.maximum(exposure, 1e-12), flat)

    def rates(self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]) -> Float:
        """Shrunken plate-appearance outcome mix [m, 8] in the order of `fields.OUTCOMES`; rows sum to one."""
        counts, league = self.counts(role, players, days), self.league(role, days)
        exposure = counts[:, [self.COLUMNS.index("exposure")]]
        strength = np.array([STRENGTH[role][o] for o in OUTCOMES[1:]])
        k = len(strength)
        named = (counts[:, :k] + strength * league[:, :k]) / (exposure + strength)
        return np.concatenate([1 - named.sum(axis=1, keepdims=True), named], axis=1)

    def extras(self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]) -> Float:
        """Shrunken rates per exposure [m, extras] of the `EXTRAS` of the role (strength 250)."""
        counts, league = self.counts(role, players, days), self.league(role, days)
        n = len(self.COLUMNS)
        exposure = counts[:, [self.COLUMNS.index("exposure")]]
        return np.asarray((counts[:, n:] + 250 * league[:, n:]) / (exposure + 250))

    def exposure(self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]) -> Float:
        """Expected plate appearances or batters faced a game [m], shrunken to the league's with five games."""
        counts, league = self.counts(role, players, days), self.league(role, days)
        e, g = self.COLUMNS.index("exposure"), self.COLUMNS.index("games")
        per_game = 1 / np.maximum(league[:, g], 1e-6)
        return np.asarray((counts[:, e] + 5 * per_game) / (counts[:, g] + 5))

    def age(self, players: NDArray[np.integer], days: NDArray[np.integer]) -> Float:
        """Age in years on `days`; NaN where no birth date is known."""
        players, days = np.asarray(players, dtype=np.int64), np.asarray(days, dtype=np.int64)
        if not len(self._born_ids):
            return np.full(len(players), np.nan)
        i = np.minimum(np.searchsorted(self._born_ids, players), len(self._born_ids) - 1)
        return np.where(self._born_ids[i] == players, (days - self._born[i]) / 365.25, np.nan)

    def features(
        self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """[m, WIDTH] inputs of the encoder's player slot, of order one."""
        counts, league = self.counts(role, players, days), self.league(role, days)
        k, e = len(OUTCOMES) - 1, self.COLUMNS.index("exposure")
        ratio = _log_ratio(self.rates(role, players, days)[:, 1:], league[:, :k])
        reliability = counts[:, e] / (counts[:, e] + 400)
        age = self.age(players, days)
        which = 0 if role == "batter" else 1  # steals; earned runs
        special = _log_ratio(self.extras(role, players, days)[:, which], league[:, len(self.COLUMNS) + which])
        exposure = np.log(np.maximum(self.exposure(role, players, days), 0.5)) - 1.5
        columns = [reliability, np.where(np.isnan(age), 0, (age - 28) / 5), ~np.isnan(age), exposure, special]
        return np.concatenate([ratio, np.stack(columns, axis=1)], axis=1).astype(np.float32)

    def tendencies(
        self, role: PlayerRole, players: NDArray[np.integer], days: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """[m, 12] what becomes of a player's pitches: 3 log(shrunken share / league's), by kind of count and result.

        Order: `COUNT_KINDS` x `PITCH_RESULTS`. Counts decay as game lines do; nothing on or after the day is counted.
        """
        sums, (day, totals) = self._pitches[role]
        k, c = len(COUNT_KINDS), len(PITCH_RESULTS)
        own = self._before(sums, players, days).reshape(-1, k, c + 1)
        league = totals[np.searchsorted(day, np.asarray(days))].reshape(-1, k, c + 1)
        share = np.where(league[..., c:] > 0, league[..., :c] / np.maximum(league[..., c:], 1e-12), 0.18)
        strength = np.array(PITCH_STRENGTH[role])
        mine = (own[..., :c] + strength * share) / (own[..., c:] + strength)
        return _log_ratio(mine, share).reshape(-1, k * c).astype(np.float32)

    @cached_property
    def _pitch_lines(self) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """`pitch_lines` of the store, and the names of its counts."""
        lines = pitch_lines(self.store, self.league_name)
        return lines, tuple(c for c in lines.columns if c not in (*ROLES, "date"))

    @cached_property
    def _pitches(self) -> dict[PlayerRole, tuple[_Sums, tuple[NDArray[np.int64], Float]]]:
        """Per role: running sums of each player's pitches by kind of count and result, and the league's per day."""
        lines, names = self._pitch_lines
        answer: dict[PlayerRole, tuple[_Sums, tuple[NDArray[np.int64], Float]]] = {}
        league = self._daily(lines, names)
        for role in ROLES:
            own = lines.rename({role: "player"}).group_by("player", "date").agg(pl.col(names).sum())
            answer[role] = self._sums(own, names), league
        return answer

    def matchup(
        self, batters: NDArray[np.integer], pitchers: NDArray[np.integer], days: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """[m, MATCHUP] features and tendencies of `batters` and `pitchers` [m] as of the morning of `days` [m].

        Both are relative to the league, so the league's own level stands beside them (`level`).
        """
        parts = []
        for role, who in zip(ROLES, (batters, pitchers), strict=True):
            key, place = np.unique(
                player_day(np.asarray(who, np.int64), np.asarray(days, np.int64)), return_inverse=True
            )
            player, day = key >> 24, (key & 0xFFFFFF) + NO_DAY
            each = np.concatenate([self.features(role, player, day), self.tendencies(role, player, day)], axis=1)
            parts.append(each[place])
        day, place = np.unique(np.asarray(days, np.int64), return_inverse=True)
        return np.concatenate([*parts, self.level(day)[place]], axis=1)

    def level(self, days: NDArray[np.integer]) -> NDArray[np.float32]:
        """[m, 19] the league's outcome rates and pitch shares before `days` [m], as 10 log(rate / a round constant).

        Counts are halved in 60 days of calendar: level drifts from season to season and within them. 0 where nothing
        has been played.
        """
        parts = []
        for (day, totals), width, usual in self._levels:
            groups = totals.shape[1] // width
            found = totals[np.searchsorted(day, np.asarray(days))].reshape(len(days), groups, width)
            exposure = found[..., -1:]
            rate = np.where(exposure > 0, found[..., :-1] / np.maximum(exposure, 1e-12), usual)
            off = np.clip(10 * np.log(np.maximum(rate, 1e-6) / usual), -6, 6)
            parts.append(off.reshape(len(days), groups * (width - 1)))
        return np.concatenate(parts, axis=1).astype(np.float32)

    @cached_property
    def _levels(self) -> list[tuple[tuple[NDArray[np.int64], Float], int, Float]]:
        """Decayed daily totals of plate appearances and of pitches, columns in each group, usual rates."""
        lines = self._lines["batter"].filter(~pl.col("is_pitcher"))
        outcomes = (*OUTCOMES[1:], "exposure")
        pitches, names = self._pitch_lines
        usual = np.array([_FLAT[o] for o in OUTCOMES[1:]])
        return [
            (self._daily(lines, outcomes, _LEVEL_DECAY), len(outcomes), usual),
            (self._daily(pitches, names, _LEVEL_DECAY), len(PITCH_RESULTS) + 1, np.array(_USUAL_SHARES)),
        ]

    def repertoire(
        self, pitchers: NDArray[np.integer], days: NDArray[np.integer], moments: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """[m, types] log-shares of the kinds of pitches that `pitchers` [m] threw before `days` [m].

        `moments` [m]: when, see `moment_of`. A pitcher's own mix is shrunken to the league's with 10 pitches; his mix
        at a moment, to that mix times what the moment does to the league's, with 40.
        """
        sums, (day, totals) = self._types
        k = len(PITCH_TYPES)
        key, place = np.unique(
            player_day(np.asarray(pitchers, np.int64), np.asarray(days, np.int64)), return_inverse=True
        )
        day_of = (key & 0xFFFFFF) + NO_DAY
        own = self._before(sums, key >> 24, day_of).reshape(-1, MOMENTS, k)
        league = totals[np.searchsorted(day, day_of)].reshape(-1, MOMENTS, k) + 1.0
        usual = league.sum(axis=1, keepdims=True)
        usual = usual / usual.sum(axis=2, keepdims=True)
        mine = own.sum(axis=1, keepdims=True) + 10 * usual
        expected = mine * league / league.sum(axis=2, keepdims=True) / usual
        share = own + 40 * expected / expected.sum(axis=2, keepdims=True)
        return np.asarray(np.log(share / share.sum(axis=2, keepdims=True))[place, moments], dtype=np.float32)

    @cached_property
    def _types(self) -> tuple[_Sums, tuple[NDArray[np.int64], Float]]:
        """Running sums of each pitcher's pitches by moment and type, and the league's per day."""
        lines = type_lines(self.store, self.league_name)
        names = tuple(c for c in lines.columns if c not in ("player", "date"))
        return self._sums(lines, names), self._daily(lines, names)


#: Kinds of moments in which a pitcher chooses: five kinds of count, against either hand.
MOMENTS = 10


def moment_of(categorical: NDArray[np.integer]) -> NDArray[np.int64]:
    """[n] moment, 0..9, of pitches with field ids `categorical` [n, fields].

    Two for each kind of count (level, pitcher ahead, behind, two strikes, three balls): left-handed and other batters.
    """
    balls, strikes = categorical[:, COLUMN["balls"]], categorical[:, COLUMN["strikes"]]  # the count plus one
    kind = np.select([balls >= 4, strikes >= 3, balls > strikes, strikes > balls], [4, 3, 2, 1], default=0)
    return np.asarray(2 * kind + (categorical[:, COLUMN["stand"]] == BY_NAME["stand"].ids["L"]))


_LEVEL_DECAY = np.log(2) / 60
#: Round shares of called, swinging, foul and in play, by `COUNT_KINDS`: what `Priors.level` is measured from.
_USUAL_SHARES = ((0.32, 0.06, 0.10, 0.11), (0.165, 0.105, 0.18, 0.19), (0.045, 0.14, 0.23, 0.24))
_FLAT = dict(zip(OUTCOMES[1:], (0.2, 0.085, 0.15, 0.045, 0.005, 0.03, 0.01), strict=True)) | {
    "games": 0.2,
    "outs": 0.7,
}


def _log_ratio(rate: Float, league: Float) -> Float:
    """3 log(rate / league), clipped at 6: of order one for players, finite where a league has none of an event."""
    tiny = 1e-6
    return np.asarray(np.clip(3 * np.log((rate + tiny) / (league + tiny)), -6, 6))


def game_lines(store: Store, role: PlayerRole, league: str | None = None) -> pl.DataFrame:
    """Regular-season game lines of a role in a league (default: the main one); outcomes have the names of OUTCOMES.

    Columns: player, date, season, game_id, team, opponent, home, `exposure` (PA or BF), `games` (1), the outcomes from
    K to HBP, the role's extras, and for batters `is_pitcher`, for pitchers `GS`.
    """
    table = store.table("batting_games" if role == "batter" else "pitching_games")
    exposure = "PA" if role == "batter" else "BF"
    # A rate of another league is not this league's.
    own = pl.col("league") == (main_league(table["league"]) if league is None else league)
    lines = table.filter(own & (pl.col("game_type") == "R") & (pl.col(exposure) > 0))
    hits = [pl.col(c).fill_null(0).cast(pl.Int32) for c in ("H", "2B", "3B", "HR")]
    return lines.select(
        "player",
        "date",
        "season",
        "game_id",
        "team",
        "opponent",
        "home",
        pl.col("is_pitcher" if role == "batter" else "GS"),
        pl.col(exposure).cast(pl.Int32).alias("exposure"),
        pl.lit(1, dtype=pl.Int32).alias("games"),
        pl.col("SO").fill_null(0).cast(pl.Int32).alias("K"),
        pl.col("BB").fill_null(0).cast(pl.Int32),
        (hits[0] - hits[1] - hits[2] - hits[3]).alias("1B"),
        *hits[1:],
        pl.col("HBP").fill_null(0).cast(pl.Int32),
        *[pl.col(c).fill_null(0).cast(pl.Int32) for c in EXTRAS[role]],
    )


def pitch_lines(store: Store, league: str) -> pl.DataFrame:
    """Pitches of each batter against each pitcher and day, by kind of count and result (the league's regular season).

    Columns: batter, pitcher, date, and for each of `COUNT_KINDS` a count of each of `PITCH_RESULTS` and of all ("n").
    """
    table = np.array(
        [
            -1,
            *(
                PITCH_RESULTS.index(c) if (c := CALL_CLASS[v]) in PITCH_RESULTS else len(PITCH_RESULTS)
                for v in BY_NAME["call"].vocabulary or ()
            ),
        ]
    )
    runs = store.runs
    start, length = np.asarray(runs["start"]).astype(np.int64), np.asarray(runs["length"]).astype(np.int64)
    rows = ranges(start, length)
    fields = np.asarray(store.categorical)
    result = table[fields[:, COLUMN["call"]]]
    balls, strikes = fields[:, COLUMN["balls"]], fields[:, COLUMN["strikes"]]  # ids: the count plus one, 0 unknown
    kind = np.where(strikes == 3, 2, np.where((balls == 1) & (strikes == 1), 0, 1))
    known = (result >= 0) & (balls > 0) & (strikes > 0)
    width = len(PITCH_RESULTS) + 1
    owner = np.repeat(np.arange(len(start)), length)
    cell = (kind * width + result)[rows]
    counted = known[rows]
    flat = np.bincount(owner[counted] * 3 * width + cell[counted], minlength=len(start) * 3 * width)
    counts = flat.reshape(-1, 3, width)
    counts[..., -1] = counts.sum(axis=-1)  # the last cell held what is none of the results: balls and hit batters
    names = [f"{k}:{r}" for k in COUNT_KINDS for r in (*PITCH_RESULTS, "n")]
    own = (pl.col("game_type") == "R") & (pl.col("league") == league)
    games = store.games.select("date", own.alias("regular"))
    frame = pl.DataFrame(counts.reshape(-1, 3 * width).astype(np.int32), schema=names)
    return (
        frame.with_columns(
            pl.Series("batter", np.asarray(runs["batter"])),
            pl.Series("pitcher", np.asarray(runs["pitcher"])),
            games["date"].gather(np.asarray(runs["game"])).alias("date"),
            games["regular"].gather(np.asarray(runs["game"])).alias("regular"),
        )
        .filter("regular")
        .drop("regular")
        .group_by("batter", "pitcher", "date")
        .agg(pl.col(names).sum())
    )


def type_lines(store: Store, league: str) -> pl.DataFrame:
    """Pitches of known type of each pitcher and day (the league's regular season) by moment and type.

    Columns: player, date, then `MOMENTS` x `PITCH_TYPES` counts.
    """
    fields, runs = np.asarray(store.categorical), store.runs
    typed = fields[:, COLUMN["pitch_type"]] > 0
    length = np.asarray(runs["length"]).astype(np.int64)
    rows = ranges(np.asarray(runs["start"]), length)
    owner = np.repeat(np.arange(len(length)), length)[typed[rows]]
    rows = rows[typed[rows]]
    kinds = fields[rows, COLUMN["pitch_type"]].astype(np.int64) - 1
    cell = moment_of(fields[rows]) * len(PITCH_TYPES) + kinds
    games = store.games.select("date", (pl.col("game_type") == "R") & (pl.col("league") == league))
    frame = pl.DataFrame(
        {
            "player": np.asarray(runs["pitcher"])[owner],
            "game": np.asarray(runs["game"])[owner],
            "cell": cell,
        }
    ).with_columns(date=games["date"].gather(pl.Series(np.asarray(runs["game"])[owner])))
    frame = frame.filter(games["game_type"].gather(frame["game"]))
    names = [f"{m}:{t}" for m in range(MOMENTS) for t in PITCH_TYPES]
    counts = frame.group_by("player", "date", "cell").len()
    keys = counts.select("player", "date").unique(maintain_order=True).sort("player", "date").with_row_index("line")
    placed = counts.join(keys, on=["player", "date"])
    table = np.zeros((keys.height, len(names)), dtype=np.float32)
    table[placed["line"].to_numpy(), placed["cell"].to_numpy()] = placed["len"].to_numpy()
    return keys.drop("line").hstack(pl.DataFrame(table, schema=names))
