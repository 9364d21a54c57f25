"""The canonical tables: what every source yields, whatever it reads.

Keys
    `player` (and `batter`, `pitcher`): the MLBAM id of the register, Int32. One canonical id everywhere.
    `game_id`: Retrosheet's form, home team's Retrosheet code + yyyymmdd + number (0 single, 1 and 2 of a double
        header). A game from Statcast gets the same id, so the same game from two sources is one game. A minor-league
        game has the home team's MLBAM id in front.
    `pa_number`: 1, 2, ... within the game in playing order, both teams counted together.
    `pitch_number`: 1, 2, ... within the plate appearance; automatic balls and strikes are rows too.
Codes
    Vocabularies of `call`, `contact`, `event`, `pitch_type` are those of `fullcount.fields`.
    `game_type`: "R" regular season, "P" postseason, "S" spring, "A" all-star. `league`: "MLB", "AAA", ...
    `bases` is a bit mask: 1 first, 2 second, 4 third. `top` is true when the visitors bat.
    Teams and parks are Retrosheet codes in MLB games, MLBAM team ids in minor-league games.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import polars as pl

from fullcount.errors import FullcountError
from fullcount.fields import NUMERIC

Schema = dict[str, pl.DataType | type[pl.DataType]]

_GAME_KEY: Schema = {"game_id": pl.String, "season": pl.Int16, "date": pl.Date, "game_type": pl.String}

#: One row a pitch, in playing order. The situation is the one *before* the pitch; `post_*` is the one before the next
#: pitch (after the last pitch of a plate appearance: when the play was over). `post_outs` is 3 when the half inning
#: is over; `runs` counts what scored from this pitch to the next one.
PITCHES: Schema = {
    **_GAME_KEY,
    "league": pl.String,
    "park": pl.String,
    "pa_number": pl.Int16,
    "pitch_number": pl.Int16,
    "inning": pl.Int8,
    "top": pl.Boolean,
    "outs": pl.Int8,
    "balls": pl.Int8,
    "strikes": pl.Int8,
    "bases": pl.Int8,
    "bat_score": pl.Int16,
    "fld_score": pl.Int16,
    "batter": pl.Int32,
    "pitcher": pl.Int32,
    "stand": pl.String,
    "throws": pl.String,
    "call": pl.String,
    "pitch_type": pl.String,
    "contact": pl.String,
    "event": pl.String,
    "post_outs": pl.Int8,
    "post_bases": pl.Int8,
    "runs": pl.Int8,
    **{f.name: pl.Float32 for f in NUMERIC},
}

#: One row a plate appearance (and a row with event "truncated_pa" where the inning ended on the bases), also those in
#: which no pitch was recorded. `outs`, `bases`, `bat_score`, `fld_score`: at its start. `balls`, `strikes`: final
#: count before the last pitch; null when unknown. `batter` and `pitcher` are the ones charged with it.
PLATE_APPEARANCES: Schema = {
    **_GAME_KEY,
    "league": pl.String,
    "park": pl.String,
    "pa_number": pl.Int16,
    "inning": pl.Int8,
    "top": pl.Boolean,
    "outs": pl.Int8,
    "bases": pl.Int8,
    "bat_score": pl.Int16,
    "fld_score": pl.Int16,
    "batter": pl.Int32,
    "pitcher": pl.Int32,
    "stand": pl.String,
    "throws": pl.String,
    "lineup_slot": pl.Int8,
    "batter_is_pitcher": pl.Boolean,  # the batter is the pitcher in the field (no designated hitter)
    "event": pl.String,
    "contact": pl.String,
    "balls": pl.Int8,
    "strikes": pl.Int8,
    "pitches": pl.Int16,  # thrown; automatic calls not counted; null when the sequence is missing
    "outs_on_play": pl.Int8,
    "runs": pl.Int8,
    "rbi": pl.Int8,
    "pitch_type": pl.String,
    "release_speed": pl.Float32,
    "launch_speed": pl.Float32,
    "launch_angle": pl.Float32,
}

GAMES: Schema = {
    **_GAME_KEY,
    "league": pl.String,
    "number": pl.Int8,
    "game_pk": pl.Int32,
    "home_team": pl.String,
    "away_team": pl.String,
    "park": pl.String,
    "innings": pl.Int8,
    "home_score": pl.Int16,
    "away_score": pl.Int16,
    "home_starter": pl.Int32,
    "away_starter": pl.Int32,
}

BATTING_COUNTS = (
    "PA", "AB", "H", "2B", "3B", "HR", "R", "RBI", "BB", "IBB", "SO", "HBP", "SH", "SF", "GDP", "SB", "CS",
)  # fmt: skip
PITCHING_COUNTS = (
    "outs", "BF", "H", "2B", "3B", "HR", "R", "ER", "BB", "IBB", "SO", "HBP", "WP", "BK", "pitches",
    "W", "L", "SV", "HLD", "GF",
)  # fmt: skip

#: Games at each position in the field, as a designated hitter the last.
POSITIONS = ("G_P", "G_C", "G_1B", "G_2B", "G_3B", "G_SS", "G_LF", "G_CF", "G_RF", "G_DH")

#: One row a player and game (batting). BB includes IBB.
BATTING_GAMES: Schema = {
    **_GAME_KEY,
    "league": pl.String,
    "player": pl.Int32,
    "team": pl.String,
    "opponent": pl.String,
    "home": pl.Boolean,
    "lineup_slot": pl.Int8,  # 1..9, null when he never batted in a slot
    "starter": pl.Boolean,
    "is_pitcher": pl.Boolean,  # he pitched in the game
    **dict.fromkeys(BATTING_COUNTS, pl.Int16),
}

#: One row a pitcher and game. `outs` recorded; `pitches` thrown (null when unknown); BB includes IBB.
PITCHING_GAMES: Schema = {
    **_GAME_KEY,
    "league": pl.String,
    "player": pl.Int32,
    "team": pl.String,
    "opponent": pl.String,
    "home": pl.Boolean,
    "GS": pl.Int16,
    **dict.fromkeys(PITCHING_COUNTS, pl.Int16),
}

#: One row a player and season: Lahman's (stints added up), or the sum of the game tables. `is_pitcher`: more games
#: pitched than played elsewhere, so that league means can leave pitchers' batting out. POSITIONS: null where the source
#: does not know; the game tables know only who pitched.
BATTING_SEASONS: Schema = {
    "player": pl.Int32,
    "season": pl.Int16,
    "league": pl.String,
    "team": pl.String,  # the one with most plate appearances
    "is_pitcher": pl.Boolean,
    "G": pl.Int16,
    **dict.fromkeys((*BATTING_COUNTS, *POSITIONS), pl.Int16),
}
PITCHING_SEASONS: Schema = {
    "player": pl.Int32,
    "season": pl.Int16,
    "league": pl.String,
    "team": pl.String,
    "G": pl.Int16,
    "GS": pl.Int16,
    **dict.fromkeys(PITCHING_COUNTS, pl.Int16),
}

#: One row a player. Null where a register does not know.
PLAYERS: Schema = {
    "player": pl.Int32,
    "first_name": pl.String,
    "last_name": pl.String,
    "birth_date": pl.Date,
    "bats": pl.String,
    "throws": pl.String,
    "key_retro": pl.String,
    "key_bbref": pl.String,
    "key_fangraphs": pl.String,
}

#: Leagues below the majors, as `milb` names them; ACL, FCL and DSL are the complex leagues.
MINOR_LEAGUES = ("AAA", "AA", "A+", "A", "ACL", "FCL", "DSL")

SCHEMAS: dict[str, Schema] = {
    "pitches": PITCHES,
    "plate_appearances": PLATE_APPEARANCES,
    "games": GAMES,
    "batting_games": BATTING_GAMES,
    "pitching_games": PITCHING_GAMES,
    "batting_seasons": BATTING_SEASONS,
    "pitching_seasons": PITCHING_SEASONS,
    "players": PLAYERS,
}


def empty(name: str) -> pl.DataFrame:
    """An empty canonical table."""
    return pl.DataFrame(schema=SCHEMAS[name])


def conform(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """`frame` with exactly the columns and types of canonical table `name`.

    Missing columns become null; extra ones are dropped. A value that does not fit its type raises FullcountError.
    """
    schema = SCHEMAS[name]
    columns = [
        (pl.col(c).cast(t, strict=True) if c in frame.columns else pl.lit(None, dtype=t)).alias(c)
        for c, t in schema.items()
    ]
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise FullcountError(f"table {name}: a column does not fit its type ({error})") from error


@dataclass
class Tables:
    """What one source yields for one or more seasons. A table the source does not know stays empty."""

    pitches: pl.DataFrame
    plate_appearances: pl.DataFrame
    games: pl.DataFrame
    batting_games: pl.DataFrame
    pitching_games: pl.DataFrame
    batting_seasons: pl.DataFrame
    pitching_seasons: pl.DataFrame
    players: pl.DataFrame

    @classmethod
    def of(cls, **tables: pl.DataFrame) -> Tables:
        """Tables from the given frames, conformed; the others empty."""
        return cls(**{n: conform(tables[n], n) if n in tables else empty(n) for n in SCHEMAS})

    @classmethod
    def concat(cls, parts: list[Tables]) -> Tables:
        """All rows of several sources' tables."""
        return cls(**{f.name: pl.concat([getattr(p, f.name) for p in parts]) for f in fields(cls)})
