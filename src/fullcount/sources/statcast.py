"""Baseball Savant's pitch-by-pitch files (Statcast), by Savant's column names.

CSV, gzipped CSV or parquet, one file or many, of any year: `REQUIRED` columns must be there, those of `OPTIONAL` are
used when they are, everything else (deprecated columns, repeated ones such as `pitcher.1`) is ignored. Units are kept:
speeds in mph, positions and movement in feet, spin in rpm, angles in degrees.

Savant has no row where nothing was thrown. What that leaves out, and what is done about it:
    * A gap in `at_bat_number` is an intentional walk without a pitch: the plate appearance is added (from the runner
      who then stands on first), pitches are not.
    * A last pitch without event (automatic ball or strike, or a runner's out, ended it): the event is read off the
      next pitch's situation where that is certain enough, else null.
    * Stolen bases, runs and earned runs by player are not there: null.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from fullcount.errors import FullcountError
from fullcount.fields import AUTOMATIC_CALLS, NUMERIC, PITCH_TYPES
from fullcount.sources.register import PathLike, join_ids, log, merge_players, read_csv, require
from fullcount.sources.tables import Tables, conform

KEY = ("game_pk", "at_bat_number", "pitch_number")

_INTS = {
    **dict.fromkeys(("game_pk", "batter", "pitcher"), pl.Int32),
    **dict.fromkeys(("at_bat_number", "pitch_number", "bat_score", "fld_score"), pl.Int16),
    **dict.fromkeys(("inning", "balls", "strikes", "outs_when_up"), pl.Int8),
}
_TEXT = ("game_type", "home_team", "away_team", "inning_topbot", "stand", "p_throws")
_RUNNERS = ("on_1b", "on_2b", "on_3b")

#: Columns a file must have; the integers and texts among them must be filled in every row.
REQUIRED = (*_INTS, *_TEXT, "game_date", *_RUNNERS, "description", "events")
#: Columns that are used when present.
OPTIONAL = ("game_year", "post_bat_score", "pitch_type", "bb_type", "des", *(f.name for f in NUMERIC))

#: Savant's team code -> Retrosheet's; a code not listed stays as it is.
TEAM_CODES = {
    **{t: t for t in ("ARI", "ATL", "BAL", "BOS", "CIN", "CLE", "COL", "DET", "HOU", "MIA", "MIL", "MIN")},
    **{t: t for t in ("ATH", "OAK", "PHI", "PIT", "SEA", "TEX", "TOR")},
    **{"AZ": "ARI", "CHC": "CHN", "CWS": "CHA", "CHW": "CHA", "FLA": "FLO", "KC": "KCA", "KCR": "KCA"},
    **{"LAA": "ANA", "LAD": "LAN", "NYM": "NYN", "NYY": "NYA", "SD": "SDN", "SDP": "SDN", "SF": "SFN", "SFG": "SFN"},
    **{"STL": "SLN", "TB": "TBA", "TBR": "TBA", "WSH": "WAS", "WSN": "WAS"},
}

GAME_TYPES = {"R": "R", **dict.fromkeys("PFDLW", "P"), **dict.fromkeys("SE", "S"), "A": "A"}

#: `description` -> call. Null: Savant does not know.
CALL_OF: dict[str, str | None] = {
    **{c: c for c in ("ball", "blocked_ball", "intent_ball", "pitchout", "automatic_ball")},
    **{c: c for c in ("called_strike", "automatic_strike", "swinging_strike", "missed_bunt", "swinging_pitchout")},
    **{c: c for c in ("foul", "foul_tip", "foul_bunt", "foul_pitchout", "bunt_foul_tip", "hit_by_pitch")},
    "swinging_strike_blocked": "swinging_strike",
    "unknown_strike": "strike_unspecified",
    **dict.fromkeys(("hit_into_play", "hit_into_play_no_out", "hit_into_play_score"), "in_play"),
    **dict.fromkeys(
        ("pitchout_hit_into_play", "pitchout_hit_into_play_no_out", "pitchout_hit_into_play_score"), "in_play"
    ),
    "unknown": None,
}

#: `events` that end a plate appearance -> event.
EVENT_OF = {
    **{e: e for e in ("strikeout", "strikeout_double_play", "walk", "intent_walk", "hit_by_pitch", "single", "double")},
    **{e: e for e in ("triple", "home_run", "field_out", "force_out", "grounded_into_double_play", "double_play")},
    **{e: e for e in ("triple_play", "fielders_choice", "field_error", "sac_fly", "sac_fly_double_play", "sac_bunt")},
    **{e: e for e in ("catcher_interf", "truncated_pa")},
    "fielders_choice_out": "fielders_choice",
    "intentional_walk": "intent_walk",
    "sac_bunt_double_play": "sac_bunt",
    "strikeout_triple_play": "strikeout_double_play",
}
_BASES = ("1b", "2b", "3b", "home")
#: `events` of runners: no plate appearance ends with one, unless the inning or the game does.
RUNNER_EVENTS = (
    *(
        f"{e}_{b}"
        for e in ("caught_stealing", "pickoff", "pickoff_caught_stealing", "pickoff_error", "stolen_base")
        for b in _BASES
    ),
    *("wild_pitch", "passed_ball", "balk", "other_out", "other_advance", "runner_out", "runner_double_play"),
    *("game_advisory", "ejection", "runner_placed", "error", "cs_double_play", "defensive_indiff"),
    *("batter_timeout", "pitching_substitution", "offensive_substitution", "defensive_switch"),
)

_PITCH_TYPE = {**{t: t for t in PITCH_TYPES}, "FT": "SI"}
_OUTS_OF = {
    **dict.fromkeys(("strikeout_double_play", "grounded_into_double_play", "double_play", "sac_fly_double_play"), 2),
    **dict.fromkeys(("strikeout", "field_out", "force_out", "sac_fly", "sac_bunt"), 1),
}
_STRIKES = (
    "called_strike", "automatic_strike", "swinging_strike", "missed_bunt", "swinging_pitchout", "strike_unspecified",
    "foul", "foul_tip", "foul_bunt", "foul_pitchout", "bunt_foul_tip",
)  # fmt: skip
_BALLS = ("ball", "blocked_ball", "intent_ball", "pitchout", "automatic_ball")
_NULL_TEXT = ["", "null", "NA", "nan", "None"]

GAME = ["game_pk"]
HALF = ["game_pk", "inning", "top"]
PA = ["game_pk", "at_bat_number"]


def read(
    paths: PathLike | Sequence[PathLike],
    register: pl.DataFrame | None = None,
    game_types: Sequence[str] = ("R",),
    league: str = "MLB",
) -> Tables:
    """The season (or whatever the files hold) as canonical tables.

    Args:
        paths: files in any order; a row in two of them is one row.
        register: canonical players table; every batter and pitcher is looked up in it (the hit rate is logged, below
            99 % it is an error) and named in `players`.
        game_types: which games to keep, Savant's letters or "P" for the whole postseason.
        league: of all rows.

    Returns:
        pitches, plate_appearances, games, batting_games, pitching_games and players. `park` is the home team's code;
        `pa_number` is Savant's `at_bat_number`. `pitch_number` is Savant's too and skips automatic calls.

    Raises:
        FullcountError: a file is not readable, lacks a required column or holds a value never heard of; or two rows
            of one pitch disagree.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(p) for p in paths]
    if not files:
        raise FullcountError("statcast: no file given; pass at least one CSV or parquet of Savant's columns")
    raw = pl.concat([_load(f, i) for i, f in enumerate(files)])
    wanted = [g for t in game_types for g in ("PFDLW" if t == "P" else t)]
    raw = raw.filter(pl.col("game_type").is_in(wanted))
    if raw.is_empty():
        log.warning("statcast: no rows of game type %s in %s", ", ".join(game_types), files[0])
        return Tables.of()
    raw = _situate(_deduplicate(raw, files).with_columns(league=pl.lit(league)))
    pitches, games = _pitches(raw)
    turns = _plate_appearances(pitches)
    lines = {"batting_games": batting_lines(turns, games, pitches), "pitching_games": _pitching(turns, games, pitches)}
    # The event of a plate appearance, also an inferred one, stands on its last pitch.
    pitches = pitches.drop("event").join(
        turns.filter(pl.col("pitch_number").is_not_null()).select("game_pk", "at_bat_number", "pitch_number", "event"),
        on=list(KEY),
        how="left",
        maintain_order="left",
    )
    pitches = pitches.with_columns(pl.when(pl.col("_last")).then("event").otherwise(pl.lit("none")).alias("event"))
    return Tables.of(
        pitches=pitches.rename({"at_bat_number": "pa_number"}),
        plate_appearances=turns.rename({"at_bat_number": "pa_number"}),
        games=games,
        players=players_seen(turns, pitches, register, "Statcast batters and pitchers"),
        **lines,
    )


# ------------------------------------------------------------------------------------------------------ one file


def _load(path: Path, index: int) -> pl.DataFrame:
    """Rows of one file with typed columns, canonical codes, and where each came from (`_file`, `_row`)."""
    columns = [*REQUIRED, *OPTIONAL]
    if _is_parquet(path):
        try:
            have = pl.scan_parquet(path, glob=False).collect_schema()
            require(have, REQUIRED, path)
            frame = pl.read_parquet(path, glob=False, columns=[c for c in columns if c in have])
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FullcountError(f"{path}: not a readable parquet file ({error}); download it again") from error
        first_row, word = 1, "row"
    else:
        frame = read_csv(path, REQUIRED, columns)
        first_row, word = 2, "line"
    if frame.is_empty():
        raise FullcountError(f"{path}: the file has a header and no rows; download it again")
    frame = frame.with_columns(
        pl.lit(None, dtype=pl.Float32 if c not in ("pitch_type", "bb_type", "des") else pl.String).alias(c)
        for c in OPTIONAL
        if c not in frame.columns
    )
    text = ("description", "events", "pitch_type", "bb_type", "des", *_TEXT)
    frame = frame.with_columns(pl.col(c).cast(pl.String) for c in text)
    frame = frame.with_columns(
        pl.when(~pl.col(c).is_in(_NULL_TEXT)).then(pl.col(c)) for c in ("description", "events", "bb_type")
    )

    def where(bad: pl.Series) -> str:
        return f"{path}: {word} {first_row + (bad.arg_max() or 0)}"

    for column, known in (("description", list(CALL_OF)), ("events", [*EVENT_OF, *RUNNER_EVENTS])):
        strange = frame.select((~pl.col(column).is_in(known)).fill_null(False)).to_series()
        if strange.any():
            value = frame[column].filter(strange)[0]
            raise FullcountError(
                f"{where(strange)}, column '{column}': '{value}' is not one of Savant's values; mend it"
            )
    unknown = frame["description"].replace_strict(CALL_OF, default=None, return_dtype=pl.String).null_count()
    if unknown:
        log.info("%s: %d pitches with no or an unknown description", path, unknown)

    contact = pl.when(pl.col("description").replace_strict(CALL_OF, default=None) != "in_play").then(pl.lit("none"))
    bunted = pl.col("des").str.contains(r"(?i)\bbunt") | pl.col("events").str.starts_with("sac_bunt")
    typed = frame.select(
        pl.lit(index, dtype=pl.Int16).alias("_file"),
        pl.int_range(first_row, pl.len() + first_row, dtype=pl.Int32).alias("_row"),
        *[_number(c).cast(t, strict=False).alias(c) for c, t in _INTS.items()],
        *[_number(c).cast(pl.Int32, strict=False).alias(c) for c in _RUNNERS],
        *[c for c in _TEXT if c != "inning_topbot"],
        top=pl.col("inning_topbot").str.to_lowercase().str.starts_with("top"),
        date=_date(frame.schema["game_date"]),
        season=_number("game_year").cast(pl.Int16, strict=False),
        post_bat_score=_number("post_bat_score").cast(pl.Int16, strict=False),
        call=pl.col("description").replace_strict(CALL_OF, default=None, return_dtype=pl.String),
        raw_event="events",
        contact=contact.when(bunted).then(pl.lit("bunt")).otherwise("bb_type"),
        pitch_type=pl.col("pitch_type").replace_strict(_PITCH_TYPE, default=None, return_dtype=pl.String),
        **{f.name: pl.col(f.name).cast(pl.Float32, strict=False) for f in NUMERIC},
    )
    for column in (*_INTS, *(c for c in _TEXT if c != "inning_topbot"), "date"):
        if typed[column].null_count():
            name = "game_date" if column == "date" else column
            raise FullcountError(
                f"{where(typed[column].is_null())}, column '{name}' is missing or no such value; mend it"
            )
    return typed.with_columns(season=pl.coalesce("season", pl.col("date").dt.year().cast(pl.Int16)))


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise FullcountError(f"{path}: cannot be read ({error.strerror}); give the path of an existing file") from error


def _number(column: str) -> pl.Expr:
    """Ids and counts may be text or floats ("650490.0")."""
    return pl.col(column).cast(pl.Float64, strict=False)


def _date(dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.String):  # some tools write a time of day behind the date
        return pl.col("game_date").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return pl.col("game_date").cast(pl.Date, strict=False)


# ------------------------------------------------------------------------------------------------ rows of one pitch


def _deduplicate(raw: pl.DataFrame, files: list[Path]) -> pl.DataFrame:
    """One row a pitch. Rows of one pitch may leave a value out, not contradict each other."""
    twice = raw.filter(pl.struct(KEY).is_duplicated())
    if twice.height:
        values = [c for c in raw.columns if c not in (*KEY, "_file", "_row")]
        counts = twice.group_by(KEY).agg(pl.col(values).drop_nulls().n_unique())
        clash = counts.filter(pl.any_horizontal(pl.col(values) > 1)).sort(KEY)
        if clash.height:
            first = clash.row(0, named=True)
            column = next(c for c in values if first[c] > 1)
            rows = twice.filter(*(pl.col(k) == first[k] for k in KEY), pl.col(column).is_not_null())
            rows = rows.unique(column, keep="first", maintain_order=True)
            a, b = (files[i] for i in rows["_file"].head(2).to_list())
            key = ", ".join(f"{k} {first[k]}" for k in KEY)
            savant = {"call": "description", "raw_event": "events", "date": "game_date", "top": "inning_topbot"}
            raise FullcountError(
                f"{a} and {b} disagree on column '{savant.get(column, column)}' of the pitch {key} "
                f"({rows[column][0]} and {rows[column][1]}); keep one of the rows"
            )
        merged = twice.group_by(KEY).agg(pl.exclude(KEY).drop_nulls().first()).select(raw.columns)
        raw = pl.concat([raw.filter(~pl.struct(KEY).is_duplicated()), merged])
    return raw.drop("_file", "_row")


def _situate(raw: pl.DataFrame) -> pl.DataFrame:
    """Canonical game columns and the situation before each pitch, in playing order."""
    teams = {c: pl.col(c).replace(TEAM_CODES) for c in ("home_team", "away_team")}
    raw = raw.with_columns(
        # A suspended game is of the day on which it began.
        date=pl.col("date").min().over("game_pk"),
        season=pl.col("season").min().over("game_pk"),
        game_type=pl.col("game_type").replace(GAME_TYPES),
        # Old files and a rare umpire know a fourth ball that was none.
        balls=pl.col("balls").clip(0, 3),
        strikes=pl.col("strikes").clip(0, 2),
        **{b: pl.when(pl.col(b) > 0).then(b) for b in _RUNNERS},
        **teams,
    )
    bits = [pl.col(b).is_not_null().cast(pl.Int8) * (1 << i) for i, b in enumerate(_RUNNERS)]
    return (
        raw.with_columns(bases=pl.sum_horizontal(bits).cast(pl.Int8), park=pl.col("home_team"))
        .rename({"outs_when_up": "outs", "p_throws": "throws"})
        .sort("date", *KEY)
    )


# ------------------------------------------------------------------------------------------------------ the tables


def _pitches(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pitches with what followed each, and the games.

    Helper columns: `_last` (of its plate appearance), `_half_over`, `_ends_game`, `_next_*`, `_walked` (number of
    plate appearances without a row between this pitch and the next of the half inning).
    """
    same_half = pl.all_horizontal(pl.col(c) == pl.col(c).shift(-1) for c in HALF).fill_null(False)
    same_game = (pl.col("game_pk") == pl.col("game_pk").shift(-1)).fill_null(False)
    after = pl.col("at_bat_number").shift(-1) - pl.col("at_bat_number")
    raw = raw.with_columns(
        _half_over=~same_half,
        _ends_game=~same_game,
        _last=~(same_half & (after == 0)),
        _walked=pl.when(same_half & (after > 1)).then(after - 1).otherwise(0),
        **{f"_next_{c}": pl.col(c).shift(-1) for c in ("outs", "bases", "bat_score", "fld_score")},
    )
    # The walked batters stand on the lowest bases by the next pitch; before, they were empty (nearly always: walking
    # a man on purpose with first base taken is a curiosity).
    gone = pl.lit(2, dtype=pl.Int32).pow(pl.col("_walked")).cast(pl.Int8) - 1
    there = pl.col("_next_bases") - (pl.col("_next_bases") & gone)
    # At the half's end the score is in post_bat_score; a file without it shows it when the side takes the field.
    final = pl.coalesce("post_bat_score", pl.when(~pl.col("_ends_game")).then("_next_fld_score"))
    score = pl.when("_half_over").then(final).otherwise("_next_bat_score")
    raw = raw.with_columns(
        post_outs=pl.when("_half_over").then(3).otherwise("_next_outs").cast(pl.Int8),
        post_bases=pl.when("_half_over").then(0).otherwise(there).cast(pl.Int8),
        runs=(score - pl.col("bat_score")).clip(0),
        _score=score,
    )
    games = _games(raw)
    raw = raw.join(games.select("game_pk", "game_id", "_home_won"), on="game_pk", how="left", maintain_order="left")
    leads = raw.group_by(HALF).agg(_leads=pl.col("batter").first()).with_columns(pl.col("inning") - 1)
    raw = raw.join(leads, on=HALF, how="left", maintain_order="left")  # who bats first in the side's next inning
    # The home team's winning run ends the game with fewer than three outs.
    walk_off = pl.col("_ends_game") & ~pl.col("top") & pl.col("_home_won")
    event = pl.col("raw_event").replace_strict(EVENT_OF, default=None, return_dtype=pl.String)
    called = pl.col("call").replace_strict(dict.fromkeys(_STRIKES, 1), default=0, return_dtype=pl.Int8)
    full = (pl.col("balls") + (pl.col("call").is_in(_BALLS)).cast(pl.Int8) == 3) & (pl.col("strikes") + called >= 2)
    more_outs = pl.col("post_outs") - pl.col("outs")
    # No event on the last pitch: an automatic call or the runners ended it. Tested against the play-by-play of 2024.
    inferred = (
        pl.when(pl.col("_half_over") & (pl.col("strikes") + called >= 2) & (pl.col("_leads") != pl.col("batter")))
        .then(pl.lit("strikeout"))
        .when("_half_over")
        .then(pl.lit("truncated_pa"))  # he bats again
        .when(more_outs == 0)
        .then(pl.when(full).then(pl.lit("walk")).otherwise(pl.lit("intent_walk")))
        .when((more_outs == 1) & (pl.col("strikes") + called >= 2))
        .then(pl.lit("strikeout"))
    )
    # A runner's event in mid-inning says that the batter's turn went on.
    runner = pl.col("raw_event").is_in(RUNNER_EVENTS)
    went_on = pl.when(runner & ~pl.col("_half_over")).then(pl.lit("none"))
    raw = raw.with_columns(
        event=pl.when("_last").then(pl.coalesce(event, went_on, inferred)).otherwise(pl.lit("none")),
        _walk_off=walk_off,
    )
    walk_off_outs = pl.col("event").replace_strict(_OUTS_OF, default=0, return_dtype=pl.Int8)
    made = pl.when("_walk_off").then(walk_off_outs).otherwise(more_outs).clip(0, 3).cast(pl.Int8)
    return raw.with_columns(_outs_made=made), games


def _games(raw: pl.DataFrame) -> pl.DataFrame:
    """One row a game, ids in Retrosheet's form; double headers are numbered in the order of game_pk."""
    shared = ["season", "date", "game_type", "league", "home_team", "away_team", "park"]
    scored = raw.with_columns(_now=pl.coalesce("_score", "bat_score"))
    games = scored.group_by("game_pk", maintain_order=True).agg(
        *[pl.col(c).first() for c in shared],
        innings=pl.col("inning").max(),
        home_score=pl.max_horizontal(
            pl.col("fld_score").filter(pl.col("top")).max(), pl.col("_now").filter(~pl.col("top")).max()
        ),
        away_score=pl.max_horizontal(
            pl.col("_now").filter(pl.col("top")).max(), pl.col("fld_score").filter(~pl.col("top")).max()
        ),
        home_starter=pl.col("pitcher").filter(pl.col("top")).first(),
        away_starter=pl.col("pitcher").filter(~pl.col("top")).first(),
    )
    single = pl.len().over("date", "home_team") == 1
    place = pl.col("game_pk").rank("ordinal").over("date", "home_team")
    number = pl.when(single).then(0).otherwise(place).cast(pl.Int8)
    games = games.with_columns(number=number, _home_won=pl.col("home_score") > pl.col("away_score"))
    name = pl.concat_str("home_team", pl.col("date").dt.strftime("%Y%m%d"), pl.col("number").cast(pl.String))
    return games.with_columns(game_id=name)


def _plate_appearances(pitches: pl.DataFrame) -> pl.DataFrame:
    """Plate appearances in playing order, the intentional walks without a pitch among them.

    A turn whose row at the end says "none" (a runner's event in mid-inning) went on under the next number and is
    left out. Helper columns: `pitch_number` of the last pitch, `_outs_made`.
    """
    first = pitches.group_by(PA, maintain_order=True).agg(
        pl.col("outs", "bases", "bat_score", "fld_score").first(),
        pl.col("runs").sum(),
        outs_on_play=pl.col("_outs_made").sum(),
        pitches=(~pl.col("call").is_in(AUTOMATIC_CALLS)).fill_null(True).sum().cast(pl.Int16),
        _mixed=(pl.col("batter").n_unique() > 1) | (pl.col("pitcher").n_unique() > 1),
    )
    last = pitches.filter("_last")
    turns = last.drop("outs", "bases", "bat_score", "fld_score", "runs").join(first, on=PA, maintain_order="left")
    turns = _charge(turns, pitches).with_columns(
        # What was not thrown has no last pitch's count.
        pl.when(pl.col("raw_event").is_not_null() | (pl.col("event") == "truncated_pa")).then(c).alias(c)
        for c in ("balls", "strikes")
    )
    turns = turns.filter((pl.col("event") != "none").fill_null(True))
    walked = _walked(pitches)
    # Walks that could not be added still move the batting order on.
    turns = turns.join(walked.select("game_pk", pl.col("at_bat_number") - 1, _added=1), on=PA, how="left")
    turns = turns.with_columns(_skipped=pl.col("_walked") - pl.col("_added").fill_null(0))
    return _slots(pl.concat([turns, walked], how="diagonal_relaxed").sort("date", *PA), pitches)


def _charge(turns: pl.DataFrame, pitches: pl.DataFrame) -> pl.DataFrame:
    """The batter and pitcher who are charged when one was replaced in mid-count (rules 9.15b and 9.16h).

    A substitute batter is not charged with a strikeout if he came in with two strikes; a relief pitcher is not with a
    walk if he came in at 2-0, 2-1, 3-0, 3-1 or 3-2.
    """
    mixed = turns.filter("_mixed").select(*PA, "event", _batter="batter", _pitcher="pitcher")
    if mixed.is_empty():
        return turns
    rows = pitches.join(mixed, on=PA, maintain_order="left").with_columns(
        _new_batter=pl.col("batter") == pl.col("_batter"), _new_pitcher=pl.col("pitcher") == pl.col("_pitcher")
    )
    charged = rows.group_by(PA).agg(
        pl.col("event_right").first(),
        _b=pl.col("batter").first(),
        _p=pl.col("pitcher").first(),
        _strikes=pl.col("strikes").filter("_new_batter").first(),
        _balls_p=pl.col("balls").filter("_new_pitcher").first(),
        _strikes_p=pl.col("strikes").filter("_new_pitcher").first(),
    )
    ahead = (pl.col("_balls_p") - pl.col("_strikes_p") >= 1) & (pl.col("_balls_p") >= 2)
    charged = charged.select(
        *PA,
        _b=pl.when(pl.col("event_right").str.starts_with("strikeout") & (pl.col("_strikes") == 2)).then("_b"),
        _p=pl.when(pl.col("event_right").is_in(["walk", "intent_walk"]) & ahead).then("_p"),
    )
    return turns.join(charged, on=PA, how="left", maintain_order="left").with_columns(
        batter=pl.coalesce("_b", "batter"), pitcher=pl.coalesce("_p", "pitcher")
    )


def _walked(pitches: pl.DataFrame) -> pl.DataFrame:
    """Intentional walks without a pitch: one row for each gap of one number before a pitch.

    The batter is the runner on first at that pitch, if he was neither the last batter nor a runner before; at the
    start of a half inning (of an extra inning, mostly) nobody else can stand there. Files with holes have gaps too:
    only with a runner in front of him, and no out since the last pitch's event, it is a walk on purpose.
    """
    game = (pl.col("game_pk") == pl.col("game_pk").shift(1)).fill_null(False)
    half = pl.all_horizontal(pl.col(c) == pl.col(c).shift(1) for c in HALF).fill_null(False)
    new = pl.all_horizontal(pl.col("on_1b").ne_missing(pl.col(c).shift(1)) for c in ("batter", *_RUNNERS))
    outs = pl.col("outs").shift(1) + pl.col("event").shift(1).replace_strict(_OUTS_OF, default=0, return_dtype=pl.Int8)
    walk = pl.col("on_1b").is_not_null() & (pl.col("bases") > 1)
    walk &= pl.when(half).then(new & (pl.col("outs") == outs)).otherwise(pl.col("outs") == 0)
    step = pl.col("at_bat_number") - pl.col("at_bat_number").shift(1)
    walk = (game & (step == 2) & walk).fill_null(False)
    lost = pitches.select((game & (step > 1) & ~walk).sum()).item()
    if lost:
        log.info("statcast: %d gaps in at_bat_number are not intentional walks (runners' outs, or rows lost)", lost)
    keep = ["game_pk", "game_id", "season", "date", "game_type", "league", "park", "inning", "top", "pitcher", "throws"]
    return pitches.filter(walk).select(
        *keep,
        (pl.col("at_bat_number") - 1).cast(pl.Int16),
        "outs",
        "bat_score",
        "fld_score",
        bases=pl.col("bases") - 1,
        batter="on_1b",
        event=pl.lit("intent_walk"),
        contact=pl.lit("none"),
        pitches=pl.lit(0, dtype=pl.Int16),
        outs_on_play=pl.lit(0, dtype=pl.Int8),
        runs=pl.lit(0, dtype=pl.Int16),
    )


def _slots(turns: pl.DataFrame, pitches: pl.DataFrame) -> pl.DataFrame:
    """Adds lineup slots (turns counted by nine) and who bats though he pitches."""
    done = (pl.col("event") != "truncated_pa").fill_null(True).cast(pl.Int32) + pl.col("_skipped").fill_null(0)
    order = done.cum_sum().over("game_pk", "top") - done
    # He pitches if he threw his team's last pitch before; in the first inning, if he throws its first one.
    half = pitches.group_by(HALF, maintain_order=True).agg(
        _pitcher_last=pl.col("pitcher").last(), _pitcher_first=pl.col("pitcher").first()
    )
    before = half.select(
        "game_pk",
        top=~pl.col("top"),
        inning=(pl.col("inning") + (~pl.col("top")).cast(pl.Int8)).cast(pl.Int8),
        _fields="_pitcher_last",
    )
    first = half.filter(pl.col("inning") == 1, ~pl.col("top")).select(
        "game_pk", top=pl.lit(True), inning=pl.lit(1, dtype=pl.Int8), _fields="_pitcher_first"
    )
    turns = turns.join(pl.concat([before, first]), on=HALF, how="left", maintain_order="left")
    # Everybody has had a designated hitter since 2022 (and in 2020); a pitcher who hits then, hits as one.
    no_dh = ~(pl.col("season").is_in([2020]) | (pl.col("season") >= 2022))
    return turns.with_columns(
        lineup_slot=(order % 9 + 1).cast(pl.Int8),
        _order=order,
        batter_is_pitcher=no_dh & (pl.col("batter") == pl.col("_fields")).fill_null(False),
    )


# ------------------------------------------------------------------------------------------------ player-game lines

_HITS = {"H": ("single", "double", "triple", "home_run"), "2B": ("double",), "3B": ("triple",), "HR": ("home_run",)}
_COUNTS = {
    **_HITS,
    "BB": ("walk", "intent_walk"),
    "IBB": ("intent_walk",),
    "SO": ("strikeout", "strikeout_double_play"),
    "HBP": ("hit_by_pitch",),
    "SH": ("sac_bunt",),
    "SF": ("sac_fly", "sac_fly_double_play"),
    "GDP": ("grounded_into_double_play",),
    "_interference": ("catcher_interf",),
}


def tally(names: Sequence[str]) -> dict[str, pl.Expr]:
    """Counts of the turns (`event`) that are an H, 2B, HR, BB, ..."""
    return {n: pl.col("event").is_in(_COUNTS[n]).fill_null(False).sum().cast(pl.Int16) for n in names}


def sides(frame: pl.DataFrame, games: pl.DataFrame, home: pl.Expr) -> pl.DataFrame:
    """`frame` with the games' columns, team and opponent; `home`: whose side each row is on, null where unknown."""
    keys = ["game_pk", "game_id", "season", "date", "game_type", "league", "home_team", "away_team"]
    frame = frame.join(games.select(keys), on="game_pk", how="left", maintain_order="left").with_columns(home=home)
    return frame.with_columns(
        team=pl.when("home").then("home_team").when(~pl.col("home")).then("away_team"),
        opponent=pl.when("home").then("away_team").when(~pl.col("home")).then("home_team"),
    )


def batting_lines(turns: pl.DataFrame, games: pl.DataFrame, pitches: pl.DataFrame) -> pl.DataFrame:
    """Batters' game lines from turns (with `lineup_slot` and `_order`, turns of the side before); who is in `pitches`
    as a pitcher, is one."""
    done = turns.filter((pl.col("event") != "truncated_pa").fill_null(True))
    lines = done.group_by("game_pk", "top", player="batter", maintain_order=True).agg(
        pl.len().cast(pl.Int16).alias("PA"),
        lineup_slot=pl.col("lineup_slot").first(),
        starter=pl.col("_order").first() < 9,
        **tally(tuple(_COUNTS)),
    )
    lines = lines.with_columns(AB=pl.col("PA") - pl.sum_horizontal("BB", "HBP", "SH", "SF", "_interference"))
    pitched = pitches.select("game_pk", player="pitcher", is_pitcher=pl.lit(True)).unique()
    lines = lines.join(pitched, on=["game_pk", "player"], how="left", maintain_order="left")
    return sides(lines.with_columns(pl.col("is_pitcher").fill_null(False)), games, ~pl.col("top"))


def _pitching(turns: pl.DataFrame, games: pl.DataFrame, pitches: pl.DataFrame) -> pl.DataFrame:
    key = ["game_pk", "top", "player"]
    done = turns.filter((pl.col("event") != "truncated_pa").fill_null(True)).rename({"pitcher": "player"})
    faced = done.group_by(key).agg(
        pl.len().cast(pl.Int16).alias("BF"), **tally(("H", "2B", "3B", "HR", "BB", "IBB", "SO", "HBP"))
    )
    thrown = (
        pitches.rename({"pitcher": "player"})
        .group_by(key, maintain_order=True)
        .agg(
            outs=pl.col("_outs_made").sum().cast(pl.Int16),
            pitches=(~pl.col("call").is_in(AUTOMATIC_CALLS)).fill_null(True).sum().cast(pl.Int16),
        )
    )
    place = pl.int_range(pl.len()).over("game_pk", "top")
    lines = thrown.with_columns(
        GS=(place == 0).cast(pl.Int16),
        GF=((place == pl.len().over("game_pk", "top") - 1) & (place > 0)).cast(pl.Int16),
    ).join(faced, on=key, how="left", maintain_order="left")
    counts = ("BF", "H", "2B", "3B", "HR", "BB", "IBB", "SO", "HBP")
    return sides(lines.with_columns(pl.col(counts).fill_null(0)), games, pl.col("top"))


def players_seen(turns: pl.DataFrame, pitches: pl.DataFrame, register: pl.DataFrame | None, what: str) -> pl.DataFrame:
    """Everyone seen, with the sides he bats from and throws with; `what` names them when the register lacks some."""

    def hand(column: str) -> pl.Expr:
        known = pl.col(column).drop_nulls()
        return pl.when(known.n_unique() > 1).then(pl.lit("B")).otherwise(known.first())

    batters = [f.select("batter", "stand") for f in (pitches, turns)]  # some were only walked, without a pitch
    bats = pl.concat(batters).group_by(player="batter").agg(bats=hand("stand"))
    throws = pitches.group_by(player="pitcher").agg(throws=hand("throws"))
    players = bats.join(throws, on="player", how="full", coalesce=True).sort("player")
    if register is None:
        return players
    join_ids(players.select(mlbam="player"), "mlbam", register, "player", what)
    return merge_players([register.join(players, on="player", how="semi"), conform(players, "players")])
