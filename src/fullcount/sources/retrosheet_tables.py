"""The canonical tables as Polars expressions over Retrosheet's records and cwevent's plays.

Players are Retrosheet ids here; `fullcount.sources.retrosheet` puts MLBAM ids in their place. A *play* is a play
record; a *turn* is a batter's turn, numbered over all games: the plays up to the one that ends it.
"""

from __future__ import annotations

import polars as pl

from fullcount.sources.holds import kept_lead

# ----------------------------------------------------------------------------------------------------- pitch codes

#: Pitch codes of the play records. "b" is written here for a ball blocked by the catcher ("*B").
CALLS: dict[str, str | None] = {
    "B": "ball", "b": "blocked_ball", "I": "intent_ball", "P": "pitchout", "V": "automatic_ball",
    "C": "called_strike", "A": "automatic_strike",
    "S": "swinging_strike", "M": "missed_bunt", "Q": "swinging_pitchout", "K": "strike_unspecified",
    "F": "foul", "T": "foul_tip", "L": "foul_bunt", "R": "foul_pitchout", "O": "bunt_foul_tip",
    "X": "in_play", "Y": "in_play", "H": "hit_by_pitch", "U": None,
}  # fmt: skip
BALLS = ("B", "b", "I", "P", "V")
STRIKES = ("C", "A", "S", "M", "Q", "K", "T", "F", "L", "R", "O")
#: Pickoff throws, marks, "no pitch"; and two strays, "0" in the files of 1997 and "a" in those of 2019.
MARKS = r"[.+*>123N0a]"
UNKNOWN_CODE = r"[^BIPVCASMQKTFLROXYHU.+*>123N0a]"
#: Thrown. U ("unknown or missed pitch") is a row, but not counted: one U may stand for any number of pitches.
THROWN = r"[BbIPCSMQKTFLROXYH]"


def letters(sequence: pl.Expr) -> pl.Expr:
    """The pitches of a sequence, one letter each; "*" marks the pitch that follows it."""
    return sequence.str.replace_all(r"\*([.+>123N]*)B", "${1}b").str.replace_all(MARKS, "")


def explode(plays: pl.DataFrame) -> pl.DataFrame:
    """One row a pitch from plays with `turn` and `sequence`: their columns, `letter`, `pitch_number`, the count.

    A sequence repeats the ones before it in the turn. The turn's last one is the truth; each pitch goes to the first
    play whose sequence is long enough to have it. `balls`, `strikes`: before the pitch, never above 3 and 2.
    """
    ball, strike = pl.col("letter").is_in(BALLS), pl.col("letter").is_in(STRIKES)
    return (
        plays.with_columns(letters(pl.col("sequence")).alias("letters"))
        .with_columns(pl.col("letters").last().over("turn").alias("whole"))
        .with_columns(
            pl.min_horizontal(
                pl.col("letters").str.len_chars().cast(pl.Int64).cum_max().over("turn"),
                pl.col("whole").str.len_chars().cast(pl.Int64),
            ).alias("seen")
        )
        .with_columns(pl.col("seen").shift(1, fill_value=0).over("turn").alias("before"))
        .with_columns(pl.col("whole").str.slice(pl.col("before"), pl.col("seen") - pl.col("before")).alias("letter"))
        .filter(pl.col("letter") != "")
        .with_columns(pl.col("letter").str.split(""))
        .explode("letter")
        .with_columns(
            pl.int_range(1, pl.len() + 1).over("turn").alias("pitch_number"),
            (ball.cast(pl.Int8).cum_sum().over("turn") - ball.cast(pl.Int8)).clip(0, 3).alias("balls"),
            (strike.cast(pl.Int8).cum_sum().over("turn") - strike.cast(pl.Int8)).clip(0, 2).alias("strikes"),
        )
        .drop("letters", "whole", "seen", "before")
    )


# --------------------------------------------------------------------------------------------------------- records


def lineup_records(records: pl.DataFrame) -> pl.DataFrame:
    """Starters and substitutes: file, line, game_id, record, retro, home, slot (0 pitcher with a DH), position."""
    parts = pl.col("text").str.extract_groups(r"^\w+,([^,]+),.*,\s*([01]),\s*(\d+),\s*(\d+)\s*$").struct
    return records.filter(pl.col("record").is_in(["start", "sub"])).select(
        "file",
        "line",
        "game_id",
        "record",
        parts.field("1").alias("retro"),
        (parts.field("2") == "1").alias("home"),
        parts.field("3").cast(pl.Int8).alias("slot"),
        parts.field("4").cast(pl.Int8).alias("position"),
    )


def play_records(records: pl.DataFrame) -> pl.DataFrame:
    """Play records: file, line, game_id, inning, home (at bat), batter, count, sequence, text, number, pitcher.

    `number` counts a game's plays from 1 as cwevent does (substitution marks not counted: null), as a string.
    `pitcher`: whom the lineups so far have on the mound.
    """
    mound = lineup_records(records).filter(pl.col("position") == 1)
    part = pl.col("text").str.split(",").list
    plays = records.filter(pl.col("record") == "play").select(
        "file",
        "line",
        "game_id",
        part.get(1, null_on_oob=True).cast(pl.Int16, strict=False).alias("inning"),
        (part.get(2, null_on_oob=True) == "1").alias("home"),
        part.get(3, null_on_oob=True).alias("batter"),
        part.get(4, null_on_oob=True).alias("count"),
        part.get(5, null_on_oob=True).fill_null("").str.strip_chars().alias("sequence"),
        part.get(6, null_on_oob=True).fill_null("").str.strip_chars().alias("text"),
    )
    real = pl.col("text") != "NP"
    # The pitcher on the mound is the other team's; the nearest record above the play, in the same game.
    order = pl.int_range(pl.len()).alias("order")
    both = pl.concat(
        [plays.with_columns(~pl.col("home")), mound.select("file", "line", "game_id", "home", pitcher="retro")],
        how="diagonal",
    ).sort("file", "line")
    return (
        both.with_columns(pl.col("pitcher").forward_fill().over("game_id", "home"), order)
        .filter(pl.col("text").is_not_null())
        .with_columns(
            ~pl.col("home"),
            pl.when(real).then(real.cast(pl.Int32).cum_sum().over("game_id")).cast(pl.String).alias("number"),
        )
        .sort("order")
        .drop("order")
    )


FLAGS = (
    "BAT_EVENT_FL", "AB_FL", "SH_FL", "SF_FL", "DP_FL", "TP_FL", "WP_FL", "BUNT_FL", "GAME_END_FL",
    "INN_END_FL", "RUN1_SB_FL", "RUN2_SB_FL", "RUN3_SB_FL", "RUN1_CS_FL", "RUN2_CS_FL", "RUN3_CS_FL",
)  # fmt: skip
COUNTS = (
    "OUTS_CT", "AWAY_SCORE_CT", "HOME_SCORE_CT", "BAT_FLD_CD", "BAT_LINEUP_ID", "EVENT_CD", "EVENT_OUTS_CT",
    "RBI_CT", "BAT_DEST_ID", "RUN1_DEST_ID", "RUN2_DEST_ID", "RUN3_DEST_ID", "START_BASES_CD", "END_BASES_CD",
    "EVENT_RUNS_CT",
)  # fmt: skip
LAST = (
    "ends_half", "END_BASES_CD", "RESP_BAT_ID", "RESP_PIT_ID", "RESP_BAT_HAND_CD", "RESP_PIT_HAND_CD",
    "BAT_LINEUP_ID", "BAT_FLD_CD", "count", "sequence",
)  # fmt: skip
SITUATION = ("inning", "outs", "bases", "bat_score", "fld_score")


def typed(plays: pl.DataFrame) -> pl.DataFrame:
    """Plays with cwevent's strings as numbers and flags, the turn of each, and the situation before each."""
    hand = [
        pl.when(pl.col(c).is_in(["L", "R"])).then(pl.col(c)).alias(c)
        for c in ("BAT_HAND_CD", "PIT_HAND_CD", "RESP_BAT_HAND_CD", "RESP_PIT_HAND_CD")
    ]
    away, home = pl.col("AWAY_SCORE_CT"), pl.col("HOME_SCORE_CT")
    plays = (
        plays.with_columns(
            *(pl.col(c).eq("T").alias(c) for c in FLAGS), *(pl.col(c).cast(pl.Int16) for c in COUNTS), *hand
        )
        .with_columns(
            (pl.col("BAT_EVENT_FL") | pl.col("INN_END_FL") | pl.col("GAME_END_FL")).fill_null(False).alias("ends"),
            (pl.col("INN_END_FL") | pl.col("GAME_END_FL")).alias("ends_half"),
            pl.col("OUTS_CT").alias("outs"),
            pl.col("START_BASES_CD").alias("bases"),
            pl.when("home").then(home).otherwise(away).alias("bat_score"),
            pl.when("home").then(away).otherwise(home).alias("fld_score"),
        )
        .with_columns(
            (pl.col("ends").shift(1, fill_value=True) | (pl.col("game_id") != pl.col("game_id").shift(1)))
            .cum_sum()
            .alias("turn"),
        )
    )
    # A turn of marks alone (after the last out) is none. What a mark needs stands in the next play of its turn.
    plays = plays.filter(pl.col("EVENT_CD").is_not_null().any().over("turn"))
    filled = plays.with_columns(pl.col(*SITUATION[1:]).backward_fill().over("turn"))
    return filled.with_columns(
        pl.col("turn").rank("dense").over("game_id").cast(pl.Int16).alias("pa_number"),
        pl.col("BAT_HAND_CD").fill_null(pl.col("BAT_HAND_CD").drop_nulls().first().over("turn", "batter", "pitcher")),
        pl.col("PIT_HAND_CD").fill_null(pl.col("PIT_HAND_CD").drop_nulls().first().over("game_id", "pitcher")),
    ).with_columns(
        pl.col("BAT_HAND_CD").fill_null(pl.col("BAT_HAND_CD").drop_nulls().first().over("batter", "PIT_HAND_CD"))
    )


# ---------------------------------------------------------------------------------- turns, plate appearances, pitches


def _event() -> pl.Expr:
    """Vocabulary `fields.EVENTS` from the play that ended the turn."""
    code, double = pl.col("EVENT_CD"), pl.col("DP_FL")
    named = {14: "walk", 15: "intent_walk", 16: "hit_by_pitch", 17: "catcher_interf", 20: "single", 21: "double",
             22: "triple", 23: "home_run"}  # fmt: skip
    return (
        pl.when(~pl.col("BAT_EVENT_FL"))
        .then(pl.lit("truncated_pa"))
        .when(code.is_in(list(named)))
        .then(code.replace_strict(named, default=None, return_dtype=pl.String))
        .when((code == 3) & double)
        .then(pl.lit("strikeout_double_play"))
        .when(code == 3)
        .then(pl.lit("strikeout"))
        .when(pl.col("TP_FL"))
        .then(pl.lit("triple_play"))
        .when(pl.col("SF_FL") & double)
        .then(pl.lit("sac_fly_double_play"))
        .when(pl.col("SF_FL"))
        .then(pl.lit("sac_fly"))
        .when(pl.col("SH_FL"))
        .then(pl.lit("sac_bunt"))
        .when(GROUNDED_INTO_DOUBLE_PLAY)
        .then(pl.lit("grounded_into_double_play"))
        .when(double)
        .then(pl.lit("double_play"))
        .when(code == 18)
        .then(pl.lit("field_error"))
        .when(pl.col("text").str.contains("/FO"))
        .then(pl.lit("force_out"))
        .when(code == 19)
        .then(pl.lit("fielders_choice"))
        .otherwise(pl.lit("field_out"))
    )


GROUNDED_INTO_DOUBLE_PLAY = pl.col("text").str.contains("/B?GDP")
BATTED = pl.col("EVENT_CD").is_in([2, 18, 19, 20, 21, 22, 23])
CONTACT = {"G": "ground_ball", "L": "line_drive", "F": "fly_ball", "P": "popup"}


def turns(plays: pl.DataFrame) -> pl.DataFrame:
    """One row a turn, in order: its start, its last play, its event and its score at the end."""
    contact = (
        pl.when(~BATTED)
        .then(pl.lit("none"))
        .when(pl.col("BUNT_FL"))
        .then(pl.lit("bunt"))
        .otherwise(pl.col("BATTEDBALL_CD").replace_strict(CONTACT, default=None, return_dtype=pl.String))
    )
    return (
        plays.filter(pl.col("EVENT_CD").is_not_null())
        .with_columns(_event().alias("event"), contact.alias("contact"))
        .group_by("turn", maintain_order=True)
        .agg(
            pl.first("game_id", "pa_number", "home", *SITUATION),
            pl.last("event", "contact", *LAST),
            pl.sum("EVENT_OUTS_CT", "EVENT_RUNS_CT", "RBI_CT"),
        )
        .with_columns(
            pl.when("ends_half").then(3).otherwise(pl.col("outs") + pl.col("EVENT_OUTS_CT")).alias("end_outs"),
            (pl.col("bat_score") + pl.col("EVENT_RUNS_CT")).alias("end_score"),
        )
    )


def pitches(plays: pl.DataFrame, turns: pl.DataFrame) -> pl.DataFrame:
    """Canonical pitches (no delivery columns), with `letter` and the pitcher who threw each."""
    ending = turns.select(
        "turn", "end_outs", "end_score", "END_BASES_CD", pl.col("event").alias("pa_event"), pa_contact="contact"
    )
    rows = explode(plays).join(ending, on="turn", how="left", maintain_order="left")
    last = pl.col("turn").ne(pl.col("turn").shift(-1)).fill_null(True)

    def after(column: str, end: str) -> pl.Expr:
        return pl.when(last).then(pl.col(end)).otherwise(pl.col(column).shift(-1))

    in_play = pl.col("letter").is_in(["X", "Y"])
    return rows.select(
        "game_id", "turn", "pa_number", "pitch_number", "inning", (~pl.col("home")).alias("top"), "outs", "balls",
        "strikes", "bases", "bat_score", "fld_score", "batter", "pitcher", "letter",
        pl.col("BAT_HAND_CD").alias("stand"),
        pl.col("PIT_HAND_CD").alias("throws"),
        pl.col("letter").replace_strict(CALLS, return_dtype=pl.String).alias("call"),
        pl.when(in_play & last).then("pa_contact").otherwise(pl.lit("none")).alias("contact"),
        pl.when(last).then("pa_event").otherwise(pl.lit("none")).alias("event"),
        after("outs", "end_outs").alias("post_outs"),
        after("bases", "END_BASES_CD").alias("post_bases"),
        (after("bat_score", "end_score") - pl.col("bat_score")).alias("runs"),
    )  # fmt: skip


def plate_appearances(turns: pl.DataFrame, pitches: pl.DataFrame) -> pl.DataFrame:
    """Canonical plate appearances. `outs_on_play`, `runs` and `rbi` are those of the whole turn, so a game's add up.

    `pitches` is null where no sequence was recorded; then the final count is the one written beside the play, if any.
    """
    final = pitches.group_by("turn", maintain_order=True).agg(pl.last("balls", "strikes"))
    written = pl.when(pl.col("count").str.contains(r"^[0-3][0-2]$") & (pl.col("count") != "00")).then("count")
    return turns.join(final, on="turn", how="left", maintain_order="left").select(
        "game_id", "pa_number", "inning", (~pl.col("home")).alias("top"), "outs", "bases", "bat_score", "fld_score",
        pl.col("RESP_BAT_ID").alias("batter"),
        pl.col("RESP_PIT_ID").alias("pitcher"),
        pl.col("RESP_BAT_HAND_CD").alias("stand"),
        pl.col("RESP_PIT_HAND_CD").alias("throws"),
        pl.when(pl.col("BAT_LINEUP_ID") > 0).then("BAT_LINEUP_ID").alias("lineup_slot"),
        (pl.col("BAT_FLD_CD") == 1).alias("batter_is_pitcher"),
        "event", "contact",
        pl.coalesce("balls", written.str.slice(0, 1).cast(pl.Int8)).alias("balls"),
        pl.coalesce("strikes", written.str.slice(1, 1).cast(pl.Int8)).alias("strikes"),
        pl.when(pl.col("sequence") != "").then(letters(pl.col("sequence")).str.count_matches(THROWN)).alias("pitches"),
        pl.col("EVENT_OUTS_CT").alias("outs_on_play"),
        pl.col("EVENT_RUNS_CT").alias("runs"),
        pl.col("RBI_CT").alias("rbi"),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- games and lines


def games(records: pl.DataFrame, plays: pl.DataFrame) -> pl.DataFrame:
    """Canonical games, and `wp`, `lp`, `save` (Retrosheet ids) of each."""
    part = pl.col("text").str.split(",").list
    wanted = ["visteam", "hometeam", "site", "gametype", "wp", "lp", "save"]
    info = (
        records.filter(pl.col("record") == "info")
        .select("game_id", part.get(1).alias("key"), part.get(2, null_on_oob=True).str.strip_chars().alias("value"))
        .filter(pl.col("key").is_in(wanted) & (pl.col("value") != ""))
        .group_by("game_id")
        .agg(pl.col("value").filter(pl.col("key") == k).last().alias(k) for k in wanted)
    )
    starters = (
        lineup_records(records)
        .filter((pl.col("record") == "start") & (pl.col("position") == 1))
        .group_by("game_id")
        .agg(
            pl.col("retro").filter("home").first().alias("home_starter"),
            pl.col("retro").filter(~pl.col("home")).first().alias("away_starter"),
        )
    )
    batting = pl.col("home")
    ends = pl.col("bat_score") + pl.col("EVENT_RUNS_CT")
    score = plays.group_by("game_id", maintain_order=True).agg(
        pl.max("inning").alias("innings"),
        pl.col("file").first(),
        ends.filter(batting).max().fill_null(0).alias("home_score"),
        ends.filter(~batting).max().fill_null(0).alias("away_score"),
    )
    # Older files do not say what a game is for; then the file's name does: .EVE postseason, YYYYAS.EVE all-star.
    file = pl.col("file").str.to_uppercase()
    by_file = (
        pl.when(file.str.ends_with("AS.EVE")).then(pl.lit("A")).when(file.str.ends_with(".EVE")).then(pl.lit("P"))
    ).otherwise(pl.lit("R"))
    told = {"regular": "R", "tiebreaker": "R", "playoff": "R", "allstar": "A", "exhibition": "S", "preseason": "S"}
    kind = pl.col("gametype").replace_strict(told, default="P", return_dtype=pl.String)
    return (
        score.join(info, on="game_id", how="left", maintain_order="left")
        .join(starters, on="game_id", how="left", maintain_order="left")
        .with_columns(
            pl.col("game_id").str.slice(3, 4).cast(pl.Int16).alias("season"),
            pl.col("game_id").str.slice(3, 8).str.to_date("%Y%m%d").alias("date"),
            pl.coalesce(pl.when(pl.col("gametype").is_not_null()).then(kind), by_file).alias("game_type"),
            pl.lit("MLB").alias("league"),
            pl.col("game_id").str.slice(11, 1).cast(pl.Int8).alias("number"),
            pl.col("hometeam").alias("home_team"),
            pl.col("visteam").alias("away_team"),
            pl.col("site").alias("park"),
        )
    )


def appearances(records: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    """One row a game and player, in lineup order: his team, slot and part in the game, and a pitcher's decision."""
    first, pitched = pl.col("record") == "start", pl.col("position") == 1
    lines = (
        lineup_records(records)
        .group_by("game_id", "retro", maintain_order=True)
        .agg(
            pl.first("home"),
            pl.col("slot").filter(pl.col("slot") > 0).first().alias("lineup_slot"),
            (first & (pl.col("slot") > 0)).any().alias("starter"),
            pitched.any().alias("is_pitcher"),
            (first & pitched).any().alias("GS"),
            pl.col("line").filter(pitched).last().alias("last_mound"),
        )
        .join(games.select("game_id", "home_team", "away_team", "wp", "lp", "save"), on="game_id", how="left",
              maintain_order="left")
    )  # fmt: skip
    team, opponent = pl.col("home_team"), pl.col("away_team")
    decisions = {"W": "wp", "L": "lp", "SV": "save"}
    finished = pl.col("last_mound") == pl.col("last_mound").max().over("game_id", "home")
    return lines.with_columns(
        pl.when("home").then(team).otherwise(opponent).alias("team"),
        pl.when("home").then(opponent).otherwise(team).alias("opponent"),
        *((pl.col("retro") == pl.col(k)).fill_null(False).alias(n) for n, k in decisions.items()),
        (finished & ~pl.col("GS")).fill_null(False).alias("GF"),
    )


HITS = {"H": [20, 21, 22, 23], "2B": [21], "3B": [22], "HR": [23]}
CODES = {**HITS, "BB": [14, 15], "IBB": [15], "SO": [3], "HBP": [16]}


def _tally(plays: pl.DataFrame, player: str, **counts: pl.Expr) -> pl.DataFrame:
    return plays.group_by("game_id", pl.col(player).alias("retro")).agg(
        e.cast(pl.Int32).sum().alias(n) for n, e in counts.items()
    )


def _lines(who: pl.DataFrame, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """`who` with the sums of all tallies; 0 where a player is in none."""
    total = pl.concat(parts, how="diagonal").group_by("game_id", "retro").sum()
    rows = who.join(total, on=["game_id", "retro"], how="left", maintain_order="left")
    return rows.with_columns(pl.col(c).fill_null(0) for c in total.columns[2:]).with_columns(player="retro")


def batting_games(appearances: pl.DataFrame, plays: pl.DataFrame) -> pl.DataFrame:
    """Canonical batting lines of everyone who was in the game. Runs, SB and CS go to the runners."""
    done = pl.col("BAT_EVENT_FL")
    codes = {n: done & pl.col("EVENT_CD").is_in(c) for n, c in CODES.items()}
    sums = {"PA": done, "AB": pl.col("AB_FL"), **codes, "SH": pl.col("SH_FL"), "SF": pl.col("SF_FL"),
            "GDP": done & GROUNDED_INTO_DOUBLE_PLAY, "RBI": pl.col("RBI_CT")}  # fmt: skip
    plays = plays.filter(pl.col("EVENT_CD").is_not_null())
    parts = [_tally(plays, "RESP_BAT_ID", **sums), _tally(plays, "batter", R=pl.col("BAT_DEST_ID") >= 4)]
    for b in (1, 2, 3):
        runner = plays.filter(pl.col(f"BASE{b}_RUN_ID") != "")
        moves = {"R": pl.col(f"RUN{b}_DEST_ID") >= 4, "SB": pl.col(f"RUN{b}_SB_FL"), "CS": pl.col(f"RUN{b}_CS_FL")}
        parts.append(_tally(runner, f"BASE{b}_RUN_ID", **moves))
    return _lines(appearances, parts)


def pitching_games(
    appearances: pl.DataFrame, plays: pl.DataFrame, pitches: pl.DataFrame, records: pl.DataFrame
) -> pl.DataFrame:
    """Canonical pitching lines. Batters and runs go to the pitcher charged with them, pitches to who threw them.

    `pitches` is null when a plate appearance charged to him has no sequence; ER when the game's file has none. Holds
    are not in the files: see `holds`.
    """
    done = pl.col("BAT_EVENT_FL")
    codes = {n: done & pl.col("EVENT_CD").is_in(c) for n, c in CODES.items()}
    plays = plays.filter(pl.col("EVENT_CD").is_not_null())
    unknown = done & (pl.col("sequence") == "")
    parts = [
        _tally(plays, "RESP_PIT_ID", BF=done, **codes, R=pl.col("BAT_DEST_ID") >= 4, unknown=unknown),
        _tally(plays, "pitcher", outs=pl.col("EVENT_OUTS_CT"), WP=pl.col("WP_FL"), BK=pl.col("EVENT_CD") == 11),
        _tally(pitches, "pitcher", pitches=pl.col("letter").str.contains(THROWN)),
        plays.group_by("game_id", pl.col("pitcher").alias("retro")).agg(
            kept_lead("EVENT_OUTS_CT", "EVENT_RUNS_CT").cast(pl.Int32).alias("HLD")
        ),
    ]
    for b in (1, 2, 3):
        runner = plays.filter(pl.col(f"BASE{b}_RUN_ID") != "")
        parts.append(_tally(runner, f"RUN{b}_RESP_PIT_ID", R=pl.col(f"RUN{b}_DEST_ID") >= 4))
    part = pl.col("text").str.split(",").list
    earned = records.filter(pl.col("text").str.starts_with("data,er,")).select(
        "game_id", part.get(2).alias("retro"), part.get(3).str.strip_chars().cast(pl.Int32).alias("ER")
    )
    parts.append(earned)
    told = pl.col("game_id").is_in(earned["game_id"].unique().to_list())
    rows = _lines(appearances.filter("is_pitcher"), parts)
    return rows.with_columns(
        pl.when(told).then("ER").alias("ER"),
        pl.when(pl.col("unknown") == 0).then("pitches").alias("pitches"),
        pl.when(pl.col("GS") | pl.col("GF") | pl.col("W")).then(0).otherwise("HLD").alias("HLD"),
    )
