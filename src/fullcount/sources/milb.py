"""Minor-league files with one row a plate appearance: who, what came of it, and the call of each of its pitches.

Known of a pitch are its call, the count before it and its place in the plate appearance; type, speed, inning, outs,
bases and score are missing. Three things follow from the rest:
    * Which side bats: in a game the batters and pitchers who meet, directly or through others, fall into two sets, and
      the visitors bat first. Who met nobody else (1 plate appearance in 20,000) has no side.
    * The lineup slot: turns counted by nine.
    * Automatic balls and strikes are not in the file. An intentional walk gets the balls it lacks, as Retrosheet
      writes it; where a walk or a strikeout lacks one, nobody knows when it came. Counts that are missing there alone
      would tell the outcome ahead, so that such a plate appearance gives no pitches.
A sequence that contradicts itself or its event gives no pitches either. The plate appearances themselves all stay.

The complex leagues are one `level` in the file, but not one level of play: the Dominican summer league is apart from
those of Arizona and Florida, so that they are named by the word in front of their teams: ACL, FCL, DSL.
Teams and parks are MLBAM's team ids. There is no game type: all games are held to be of the regular season.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fullcount.errors import FullcountError
from fullcount.fields import CALL_CLASS, EVENTS
from fullcount.sources.plate_appearances import CONTACT_OF
from fullcount.sources.register import PathLike, log, require
from fullcount.sources.statcast import EVENT_OF, RUNNER_EVENTS, batting_lines, players_seen, sides, tally
from fullcount.sources.tables import Tables

_INTS = {
    **dict.fromkeys(("game_pk", "home_id", "away_id", "batter", "pitcher"), pl.Int32),
    **{"at_bat_index": pl.Int16, "rbi": pl.Int8},
}
#: May be missing in a row: an unfinished turn has no event, and a ball not hit no trajectory.
_SPARSE = ("event_type", "trajectory")
_FILLED = ("level", "home_team", "stand", "p_throws", "pitch_calls")
REQUIRED = ("game_date", *_INTS, *_FILLED, *_SPARSE)

#: MLBAM's pitch codes.
CALL_OF = {
    **{"B": "ball", "*B": "blocked_ball", "I": "intent_ball", "P": "pitchout", "V": "automatic_ball"},
    **{"C": "called_strike", "S": "swinging_strike", "W": "swinging_strike", "A": "automatic_strike"},
    **{"M": "missed_bunt", "Q": "swinging_pitchout", "T": "foul_tip", "L": "foul_bunt", "O": "bunt_foul_tip"},
    **{"F": "foul", "R": "foul_pitchout", "H": "hit_by_pitch"},
    **dict.fromkeys(("X", "D", "E", "Y", "Z"), "in_play"),  # out, no out, runs; on a pitchout: out, runs
}
_BALLS = [code for code, call in CALL_OF.items() if CALL_CLASS[call] == "B"]
_FOULS = ("foul", "foul_pitchout")  # a strike unless there are two; a bunt or a tip is one in any case
#: With which kind of pitch an event comes about: ball four, strike three, a hit batter, a ball in play.
_ENDING = {
    **dict.fromkeys(EVENTS, "in play"),
    **dict.fromkeys(("walk", "intent_walk"), "ball four"),
    **dict.fromkeys(("strikeout", "strikeout_double_play"), "strike three"),
    **{"hit_by_pitch": "hit batter", "catcher_interf": "any", "truncated_pa": "none"},
}
_EVENT_OF = {**EVENT_OF, **dict.fromkeys((*RUNNER_EVENTS, "defensive_substitution"), "truncated_pa")}
_GAME = ["game_id", "season", "date", "game_type", "league", "park"]
_PA = ["game_pk", "pa_number"]


def read(paths: PathLike | Sequence[PathLike], register: pl.DataFrame) -> Tables:
    """What the files hold as canonical tables; `league` is AAA, AA, A+, A, ACL, FCL or DSL.

    Args:
        paths: parquet files, or folders of them, in any order; a row in two of them is one row.
        register: canonical players table; every batter and pitcher is looked up in it.

    Returns:
        pitches, plate_appearances, games, batting_games, pitching_games and players. Innings, outs, runs and whatever
        needs them are null.

    Raises:
        FullcountError: a file is not readable, lacks a required column or a value in one, or holds an event or a call
            never heard of.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(p) for p in paths]
    files = [f for p in given for f in (sorted(p.glob("*.parquet")) if p.is_dir() else [p])]
    if not files:
        raise FullcountError("milb: no parquet file given; pass at least one, or a folder that holds some")
    raw = pl.concat([_load(f) for f in files]).unique(_PA, keep="first").sort("date", *_PA)
    raw = raw.with_columns(top=_top(raw))
    games = _games(raw)
    turns = raw.join(games.select("game_pk", "game_id", "park"), on="game_pk", how="left", maintain_order="left")
    done = (pl.col("event") != "truncated_pa").cast(pl.Int32)
    turns = turns.with_columns(_order=done.cum_sum().over("game_pk", "top") - done)
    turns = turns.with_columns(
        _order=pl.when(pl.col("top").is_not_null()).then("_order"),
        pitches=pl.col("calls").list.len().cast(pl.Int16),  # automatic calls are not in the file
    ).with_columns(lineup_slot=pl.col("_order") % 9 + 1)
    pitches = _pitches(turns)
    last = pitches.group_by(_PA).agg(pl.col("balls", "strikes").last())
    return Tables.of(
        pitches=pitches,
        plate_appearances=turns.join(last, on=_PA, how="left", maintain_order="left"),
        games=games,
        batting_games=_batting(turns, games),
        pitching_games=_pitching(turns, games),
        players=players_seen(turns, turns, register, "minor-league batters and pitchers"),
    )


def _load(path: Path) -> pl.DataFrame:
    """Rows of one file with typed columns and canonical codes; `calls` is the list of its pitches' codes."""
    try:
        require(pl.scan_parquet(path, glob=False).collect_schema(), REQUIRED, path)
        frame = pl.read_parquet(path, glob=False, columns=list(REQUIRED))
        frame = frame.with_columns(
            pl.col("game_date").cast(pl.Date),
            *[pl.col(c).cast(t) for c, t in _INTS.items()],
            *[pl.col(c).cast(pl.String) for c in (*_FILLED, *_SPARSE)],
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FullcountError(f"{path}: not a readable parquet file of plate appearances ({error})") from error
    if frame.is_empty():
        raise FullcountError(f"{path}: the file has a header and no rows; download it again")
    for column in (c for c in REQUIRED if c not in _SPARSE):
        if frame[column].null_count():
            raise FullcountError(f"{path}: column '{column}' is empty in row {frame[column].is_null().arg_max()}")
    calls = frame["pitch_calls"].str.extract_all(r"\S+")
    for column, values, known in (
        ("event_type", frame["event_type"], _EVENT_OF),
        ("pitch_calls", calls.explode(), CALL_OF),
    ):
        strange = values.drop_nulls().unique().sort().to_list()
        strange = [v for v in strange if v not in known]
        if strange:
            raise FullcountError(f"{path}: column '{column}': '{strange[0]}' is not one of MLBAM's codes; mend it")
    complex_league = pl.col("home_team").str.extract(r"^(ACL|FCL|DSL) ")
    return frame.select(
        "game_pk",
        (pl.col("at_bat_index") + 1).alias("pa_number"),
        pl.col("game_date").alias("date"),
        pl.col("game_date").dt.year().cast(pl.Int16).alias("season"),
        pl.lit("R").alias("game_type"),
        pl.when(pl.col("level") == "CPX").then(pl.coalesce(complex_league, "level")).otherwise("level").alias("league"),
        pl.col("home_id").cast(pl.String).alias("home_team"),
        pl.col("away_id").cast(pl.String).alias("away_team"),
        "batter",
        "pitcher",
        "stand",
        pl.col("p_throws").alias("throws"),
        pl.col("event_type").replace_strict(_EVENT_OF, default="truncated_pa", return_dtype=pl.String).alias("event"),
        "rbi",
        calls.alias("calls"),
        pl.col("trajectory").replace_strict(CONTACT_OF, default=None, return_dtype=pl.String).alias("contact"),
    ).with_columns(contact=pl.when(_ending() == "in play").then("contact").otherwise(pl.lit("none")))


def _ending() -> pl.Expr:
    return pl.col("event").replace_strict(_ENDING, return_dtype=pl.String)


def _top(raw: pl.DataFrame) -> pl.Series:
    """Whether the visitors bat, by row; null where nothing ties the row to one of the two sides."""
    batter, pitcher = (
        raw.select(pl.struct("game_pk", c).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
        for c in ("batter", "pitcher")
    )
    first = int(batter.max()) + 1  # pitchers are numbered behind the batters
    size = first + int(pitcher.max()) + 1
    met = coo_array((np.ones(len(batter), dtype=bool), (batter, first + pitcher)), shape=(size, size))
    _, side = connected_components(met, directed=False)
    sets = raw.select("game_pk", side=pl.Series(side[batter]))
    size_of = sets.group_by("game_pk", "side", maintain_order=True).len()
    size_of = size_of.filter(pl.col("len").rank("ordinal", descending=True).over("game_pk") <= 2)
    # In playing order; a game in which everybody met everybody (an intrasquad one) has no sides.
    size_of = size_of.filter(pl.len().over("game_pk") == 2)
    size_of = size_of.with_columns(top=pl.int_range(pl.len()).over("game_pk") == 0)
    return sets.join(size_of, on=["game_pk", "side"], how="left", maintain_order="left")["top"]


def _games(raw: pl.DataFrame) -> pl.DataFrame:
    """One row a game; double headers are numbered in the order of game_pk."""
    games = raw.group_by("game_pk", maintain_order=True).agg(
        pl.col("date", "season", "game_type", "league", "home_team", "away_team").first(),
        home_starter=pl.col("pitcher").filter("top").first(),
        away_starter=pl.col("pitcher").filter(~pl.col("top")).first(),
    )
    single = pl.len().over("date", "home_team") == 1
    place = pl.col("game_pk").rank("ordinal").over("date", "home_team")
    games = games.with_columns(number=pl.when(single).then(0).otherwise(place).cast(pl.Int8), park="home_team")
    name = pl.concat_str("home_team", pl.col("date").dt.strftime("%Y%m%d"), pl.col("number").cast(pl.String))
    return games.with_columns(game_id=name)


def _pitches(turns: pl.DataFrame) -> pl.DataFrame:
    """One row a pitch of the turns whose calls are all there and lead to their event."""
    balls = pl.col("calls").list.eval(pl.element().is_in(_BALLS)).list.sum()
    lacking = pl.when(pl.col("event") == "intent_walk").then((4 - balls.cast(pl.Int32)).clip(0)).otherwise(0)
    calls = pl.col("calls").list.concat(pl.lit("V").repeat_by(lacking))
    rows = (
        turns.with_columns(_turn=pl.int_range(pl.len()), _wanted=_ending(), _code=calls)
        .explode("_code")
        .drop_nulls("_code")
    )
    rows = rows.with_columns(call=pl.col("_code").replace_strict(CALL_OF, return_dtype=pl.String))
    kind = pl.col("call").replace_strict(CALL_CLASS, return_dtype=pl.String)
    foul = pl.col("call").is_in(_FOULS)
    rows = rows.with_columns(
        _ball=kind == "B",
        _strike=kind.is_in(["C", "S", "F"]) & ~foul,
        _foul=foul,
        pitch_number=pl.int_range(1, pl.len() + 1).over("_turn"),
        _last=pl.int_range(pl.len(), 0, -1).over("_turn") == 1,
    )

    def before(happened: pl.Expr) -> pl.Expr:
        return happened.cast(pl.Int8).cum_sum().over("_turn") - happened.cast(pl.Int8)

    # In a sequence that is legal the third strike ends it, so that two are the most there can be before a pitch.
    rows = rows.with_columns(
        balls=before(pl.col("_ball")).clip(0, 3), strikes=before(pl.col("_strike") | pl.col("_foul")).clip(0, 2)
    )
    rows = rows.with_columns(
        _ends=pl.when(pl.col("_ball") & (pl.col("balls") == 3))
        .then(pl.lit("ball four"))
        .when(pl.col("_strike") & (pl.col("strikes") == 2))
        .then(pl.lit("strike three"))
        .when(pl.col("call") == "in_play")
        .then(pl.lit("in play"))
        .when(pl.col("call") == "hit_by_pitch")
        .then(pl.lit("hit batter"))
        .otherwise(pl.lit("none"))
    )
    ends, wanted = pl.col("_ends").last().over("_turn"), pl.col("_wanted")
    lacks = (ends == "none") & wanted.is_in(["ball four", "strike three"])
    rows = rows.with_columns(
        _goes_on=((pl.col("_ends") != "none") & ~pl.col("_last")).any().over("_turn"),
        _lacks=lacks,
        _differs=(wanted != "any") & (wanted != ends) & ~lacks,
    )
    ended = rows.filter("_last")
    legal = ~pl.col("_goes_on") & ~pl.col("_differs") & ~pl.col("_lacks")
    log.info(
        "milb: %d plate appearances with pitches; the calls of %d are left out: in %d play goes on after ball four, "
        "strike three or contact, in %d the final call is not their event's, %d lack an automatic call",
        ended.height,
        ended.filter(~legal).height,
        ended.filter("_goes_on").height,
        ended.filter(~pl.col("_goes_on") & pl.col("_differs")).height,
        ended.filter(~pl.col("_goes_on") & pl.col("_lacks")).height,
    )
    return rows.filter(legal).with_columns(
        contact=pl.when(pl.col("call") == "in_play").then("contact").otherwise(pl.lit("none")),
        event=pl.when("_last").then("event").otherwise(pl.lit("none")),
    )


def _batting(turns: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    batted_in = turns.group_by("game_pk", player="batter").agg(RBI=pl.col("rbi").sum())
    return batting_lines(turns, games, turns).join(batted_in, on=["game_pk", "player"], maintain_order="left")


def _pitching(turns: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    done = pl.col("event") != "truncated_pa"
    lines = turns.group_by("game_pk", "top", player="pitcher", maintain_order=True).agg(
        BF=done.sum(), pitches=pl.col("pitches").sum(), **tally(("H", "2B", "3B", "HR", "BB", "IBB", "SO", "HBP"))
    )
    starts = (pl.int_range(pl.len()).over("game_pk", "top") == 0).cast(pl.Int16)
    lines = lines.with_columns(GS=pl.when(pl.col("top").is_not_null()).then(starts))
    return sides(lines, games, pl.col("top"))
