"""Files with one row a plate appearance: what its last pitch was, and how the ball was hit.

They fill in what a Retrosheet season does not know: type, speed and spin of the last pitch, exit velocity and launch
angle of the batted ball. Rows of runners (`record_type` "baserunning") are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from fullcount.errors import FullcountError
from fullcount.sources.link import link_games
from fullcount.sources.register import PathLike, log, require
from fullcount.sources.statcast import EVENT_OF, GAME_TYPES, RUNNER_EVENTS
from fullcount.sources.tables import Tables

REQUIRED = (
    "game_date", "season", "game_pk", "game_type", "at_bat_index", "record_type", "home_away_batting", "batting_team",
    "fielding_team", "batter_id", "pitcher_id", "bat_side", "pitch_hand", "event_type", "rbi", "pitch_type",
    "speed_mph", "spin_rate", "launch_speed", "launch_angle", "trajectory",
)  # fmt: skip

_PITCH_TYPE = {
    "Four-Seam Fastball": "FF",
    "Sinker": "SI",
    "Two-Seam Fastball": "SI",
    "Cutter": "FC",
    "Slider": "SL",
    "Sweeper": "ST",
    "Slurve": "SV",
    "Curveball": "CU",
    "Knuckle Curve": "KC",
    "Slow Curve": "CS",
    "Changeup": "CH",
    "Splitter": "FS",
    "Forkball": "FO",
    "Screwball": "SC",
    "Knuckle Ball": "KN",
    "Eephus": "EP",
    "Fastball": "FA",
    "Pitch Out": "PO",
    "Intentional Ball": "IN",
}
#: `trajectory` -> contact.
CONTACT_OF = {
    **{c: c for c in ("ground_ball", "line_drive", "fly_ball", "popup")},
    **dict.fromkeys(("bunt_grounder", "bunt_popup", "bunt_line_drive"), "bunt"),
}
_TEAM = {
    "Arizona Diamondbacks": "ARI",
    "Athletics": "ATH",
    "Atlanta Braves": "ATL",
    "Baltimore Orioles": "BAL",
    "Boston Red Sox": "BOS",
    "Chicago Cubs": "CHN",
    "Chicago White Sox": "CHA",
    "Cincinnati Reds": "CIN",
    "Cleveland Guardians": "CLE",
    "Cleveland Indians": "CLE",
    "Colorado Rockies": "COL",
    "Detroit Tigers": "DET",
    "Houston Astros": "HOU",
    "Kansas City Royals": "KCA",
    "Los Angeles Angels": "ANA",
    "Los Angeles Dodgers": "LAN",
    "Miami Marlins": "MIA",
    "Milwaukee Brewers": "MIL",
    "Minnesota Twins": "MIN",
    "New York Mets": "NYN",
    "New York Yankees": "NYA",
    "Oakland Athletics": "OAK",
    "Philadelphia Phillies": "PHI",
    "Pittsburgh Pirates": "PIT",
    "San Diego Padres": "SDN",
    "San Francisco Giants": "SFN",
    "Seattle Mariners": "SEA",
    "St. Louis Cardinals": "SLN",
    "Tampa Bay Rays": "TBA",
    "Texas Rangers": "TEX",
    "Toronto Blue Jays": "TOR",
    "Washington Nationals": "WAS",
}
_ADDED = ("pitch_type", "release_speed", "launch_speed", "launch_angle")


def read(paths: PathLike | Sequence[PathLike]) -> pl.DataFrame:
    """One row a plate appearance (or a truncated one), in playing order, canonical codes.

    Returns:
        game_pk, date, season, game_type, home_team, away_team, top, pa_number, batter, pitcher, stand, throws, event,
        contact (null unless hit), rbi, pitch_type, release_speed [mph], release_spin_rate [rpm], launch_speed [mph],
        launch_angle [deg].

    Raises:
        FullcountError: not a parquet file, or a required column is missing.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(p) for p in paths]
    if not files:
        raise FullcountError("plate appearances: no file given; pass at least one parquet file")
    frames = []
    for path in files:
        try:
            require(pl.scan_parquet(path, glob=False).collect_schema(), REQUIRED, path)
            frames.append(_normalise(pl.read_parquet(path, glob=False, columns=list(REQUIRED))))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FullcountError(f"{path}: not a readable parquet file ({error}); download it again") from error
    return pl.concat(frames).unique(["game_pk", "pa_number"], keep="first").sort("date", "game_pk", "pa_number")


def _normalise(frame: pl.DataFrame) -> pl.DataFrame:
    text = ("game_type", "record_type", "home_away_batting", "batting_team", "fielding_team", "bat_side", "pitch_hand",
            "event_type", "pitch_type", "trajectory")  # fmt: skip
    frame = frame.with_columns(pl.col(c).cast(pl.String) for c in text).filter(pl.col("record_type") == "pitch")
    strange = frame.filter(~pl.col("pitch_type").is_in([*_PITCH_TYPE, "Unknown"]))["pitch_type"].unique().to_list()
    if strange:
        log.info("plate appearances: pitch types %s are not known and left out", ", ".join(sorted(strange)))
    top = pl.col("home_away_batting") == "away"
    batting, fielding = (pl.col(c).replace(_TEAM) for c in ("batting_team", "fielding_team"))
    event = pl.col("event_type").replace_strict(
        {**EVENT_OF, **dict.fromkeys(RUNNER_EVENTS, "truncated_pa")}, default=None, return_dtype=pl.String
    )
    return frame.select(
        pl.col("game_pk").cast(pl.Int32),
        pl.col("game_date").cast(pl.Date).min().over("game_pk").alias("date"),
        pl.col("season").cast(pl.Int16),
        pl.col("game_type").replace(GAME_TYPES),
        pl.when(top).then(fielding).otherwise(batting).alias("home_team"),
        pl.when(top).then(batting).otherwise(fielding).alias("away_team"),
        top.alias("top"),
        (pl.col("at_bat_index").cast(pl.Int16) + 1).cast(pl.Int16).alias("pa_number"),
        pl.col("batter_id").cast(pl.Int32).alias("batter"),
        pl.col("pitcher_id").cast(pl.Int32).alias("pitcher"),
        pl.col("bat_side").alias("stand"),
        pl.col("pitch_hand").alias("throws"),
        event.alias("event"),
        pl.col("trajectory").replace_strict(CONTACT_OF, default=None, return_dtype=pl.String).alias("contact"),
        pl.col("rbi").cast(pl.Int8),
        pl.col("pitch_type").replace_strict(_PITCH_TYPE, default=None, return_dtype=pl.String),
        pl.col("speed_mph").cast(pl.Float32).alias("release_speed"),
        pl.col("spin_rate").cast(pl.Float32).alias("release_spin_rate"),
        pl.col("launch_speed", "launch_angle").cast(pl.Float32),
    )


def games(pa: pl.DataFrame) -> pl.DataFrame:
    """The games of a normalised frame, as `link_games` wants them."""
    found = pa.group_by("game_pk", maintain_order=True).agg(
        pl.col("date", "season", "game_type", "home_team", "away_team").first(),
        home_starter=pl.col("pitcher").filter("top").first(),
        away_starter=pl.col("pitcher").filter(~pl.col("top")).first(),
    )
    place = pl.col("game_pk").rank("ordinal").over("date", "home_team")
    single = pl.len().over("date", "home_team") == 1
    return found.with_columns(number=pl.when(single).then(0).otherwise(place).cast(pl.Int8))


def enrich(tables: Tables, pa: pl.DataFrame) -> Tables:
    """`tables` (of Retrosheet) with what `pa` (of `read`) knows of each plate appearance's last pitch.

    plate_appearances gets pitch_type, release_speed, launch_speed, launch_angle and a missing contact; the last row
    of each plate appearance in `pitches` the same, and release_spin_rate. What is there already stays. A plate
    appearance is found by game and the how-manieth of its batter in it. Seasons that `pa` lacks stay as
    they are; of those it has, under 99 % linked games is a FullcountError, and so is an empty overlap.
    """
    kinds = tables.games.select("season", "game_type").unique()
    pa = pa.join(kinds, on=["season", "game_type"], how="semi", maintain_order="left")
    if pa.is_empty():
        raise FullcountError("plate appearances: no season in common with the play-by-play; give the same seasons")
    key = ["game_id", "batter", "_nth"]
    nth = pl.int_range(pl.len()).over("game_id", "batter").alias("_nth")
    is_turn = (pl.col("event") != "truncated_pa").fill_null(True)
    links = link_games(games(pa), tables.games)
    known = pa.filter(is_turn).join(links, on="game_pk", maintain_order="left").with_columns(nth)
    turns = tables.plate_appearances.select("game_id", "pa_number", "batter", "event").filter(is_turn)
    columns = [*_ADDED, "contact", "release_spin_rate"]
    extra = turns.with_columns(nth).join(known.select(*key, *columns), on=key)
    log.info("plate appearances: %d of %d found in the play-by-play", extra.height, known.height)
    extra = extra.select("game_id", "pa_number", pl.col(columns).name.prefix("_new_"))

    on = ["game_id", "pa_number"]
    filled = [pl.coalesce(c, f"_new_{c}").alias(c) for c in (*_ADDED, "contact")]
    pas = tables.plate_appearances.join(extra, on=on, how="left", maintain_order="left").with_columns(filled)
    pitches = tables.pitches.join(extra, on=on, how="left", maintain_order="left")
    last = pl.col("pitch_number") == pl.col("pitch_number").max().over(on)
    # An automatic ball or strike may end it: no pitch, nothing to tell.
    last = last & ~pl.col("call").is_in(["automatic_ball", "automatic_strike"]).fill_null(False)
    pitches = pitches.with_columns(
        pl.when(last).then(pl.coalesce(c, f"_new_{c}")).otherwise(c).alias(c) for c in columns
    )
    return replace(
        tables,
        plate_appearances=pas.select(tables.plate_appearances.columns),
        pitches=pitches.select(tables.pitches.columns),
    )
