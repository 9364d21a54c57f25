"""Retrosheet event files to canonical tables.

    The information used here was obtained free of charge from and is copyrighted by Retrosheet. Interested parties
    may contact Retrosheet at "www.retrosheet.org".

`cwevent` (chadwickpy, GPL) interprets the plays; it runs as a program of its own and is read through its CSV. The
other records (info, lineups, earned runs, the plays' pitch sequences) are read from the event files. From there on
everything is Polars expressions (`fullcount.sources.retrosheet_tables`).

Ids: Retrosheet ids become MLBAM ids through the register. An id that the register does not have becomes the negative
number `-(1 + crc32(id) mod 2**30)`, the same in every run; more than 1 % of such ids is an error.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path, PurePosixPath

import polars as pl
from rich.console import Console
from rich.progress import Progress

from fullcount.errors import FullcountError
from fullcount.sources import retrosheet_tables as build
from fullcount.sources.tables import Tables

log = logging.getLogger("fullcount")

EVENT_FILE = re.compile(r"(\d{4})\w*\.EV[ANE]", re.IGNORECASE)
NEEDED_FILE = re.compile(r"\d{4}\w*\.EV[ANE]|\w+\d{4}\.ROS|TEAM\d{4}", re.IGNORECASE)
RECORDS = (
    "id", "version", "info", "start", "sub", "play", "com", "data",
    "badj", "padj", "ladj", "radj", "presadj",
)  # fmt: skip

#: Fields of cwevent (-f, then -x): only those used, since each costs time.
FIELDS = "0,4,8,9,11-13,15-17,26-28,32-36,38-40,41-44,47,48,58-61,66-71,75-77,79,96"
EXTENDED = "5,13,14,45"

MINIMUM_HIT_RATE = 0.99


def read_season(path: Path, register: pl.DataFrame, jobs: int | None = None) -> Tables:
    """Canonical tables of one `YYYYeve.zip`, `allpost_*.zip` or folder of event files with rosters and TEAM file.

    `register`: table `players` (its columns `player` and `key_retro` are used). `jobs`: processes of cwevent, default
    all cores. Pitches, plate appearances, games and player-game lines are filled, sorted by date, game and order of
    play; nothing is written. Raises FullcountError on anything that is not a readable Retrosheet season.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="fullcount-") as scratch:
        folder = _unpack(path, Path(scratch))
        files = sorted(f for f in folder.iterdir() if EVENT_FILE.fullmatch(f.name))
        records = _records(files, path)
        events = _events(folder, files, jobs, path)
    plays = _join_plays(records, events, path)
    ids = _player_ids(records, register, path)
    games = build.games(records, plays)
    turns = build.turns(plays)
    pitches = build.pitches(plays, turns)
    appearances = build.appearances(records, games)
    tables = {
        "games": games,
        "plate_appearances": build.plate_appearances(turns, pitches),
        "pitches": pitches,
        "batting_games": build.batting_games(appearances, plays),
        "pitching_games": build.pitching_games(appearances, plays, pitches, records),
    }
    return Tables.of(**{name: _finish(frame, games, ids) for name, frame in tables.items()})


def read(paths: Iterable[Path], register: pl.DataFrame, jobs: int | None = None) -> Iterator[Tables]:
    """`read_season` of every path in its order, `jobs` at a time in processes of their own (default: all cores).

    Shows a progress bar on a terminal. The first bad file raises its FullcountError.
    """
    todo = [Path(p) for p in paths]
    jobs = min(jobs or cpu_count() or 1, max(len(todo), 1))
    keys = register.select("player", "key_retro")
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Retrosheet", total=len(todo))
        if jobs == 1:
            for path in todo:
                yield read_season(path, keys, jobs=1)
                progress.advance(task)
            return
        # Spawned, not forked: Polars' threads do not survive a fork.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            # Only a few seasons are ahead of the consumer, which bounds the memory.
            waiting = deque(pool.submit(read_season, p, keys, 1) for p in todo[:jobs])
            for upcoming in [*todo[jobs:], *[None] * jobs]:
                tables = waiting.popleft().result()
                if upcoming is not None:
                    waiting.append(pool.submit(read_season, upcoming, keys, 1))
                progress.advance(task)
                yield tables


# ------------------------------------------------------------------------------------------------------------ files


def _unpack(path: Path, scratch: Path) -> Path:
    """Folder with the event files, rosters and TEAM files of `path`: `path` itself or `scratch`, filled."""
    again = "download it again from retrosheet.org"
    if not path.exists():
        raise FullcountError(f"{path}: no such file or folder; give a YYYYeve.zip or a folder of event files.")
    if path.is_dir():
        if not any(EVENT_FILE.fullmatch(f.name) for f in path.iterdir()):
            raise FullcountError(f"{path}: no event files (YYYYTTT.EVA, .EVN or .EVE); unzip a YYYYeve.zip there.")
        return path
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise FullcountError(f"{path}: is a web page saved as .zip, not a zip file; {again}.")
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", entry.filename):
                    raise FullcountError(f"{path}: entry {entry.filename!r} points outside the zip; {again}.")
                if not entry.is_dir() and NEEDED_FILE.fullmatch(name.name):
                    (scratch / name.name).write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FullcountError(f"{path}: is cut off or damaged ({error}); {again}.") from error
    if not any(EVENT_FILE.fullmatch(f.name) for f in scratch.iterdir()):
        raise FullcountError(f"{path}: not a Retrosheet zip (no .EVA, .EVN or .EVE file in it); {again}.")
    return scratch


def _records(files: list[Path], path: Path) -> pl.DataFrame:
    """All records of the event files: file, line (from 1), text, record type, game_id, in file order."""
    frames = []
    for file in files:
        lines = file.read_text(encoding="latin-1").splitlines()
        frame = pl.DataFrame({"text": lines}, schema={"text": pl.String})
        frames.append(frame.select(pl.lit(file.name).alias("file"), (pl.int_range(pl.len()) + 1).alias("line"), "text"))
    records = (
        pl.concat(frames)
        .filter(pl.col("text").str.strip_chars(" \x1a") != "")
        .with_columns(pl.col("text").str.split(",").list.first().alias("record"))
        .with_columns(
            pl.when(pl.col("record") == "id").then(pl.col("text").str.split(",").list.get(1)).alias("game_id")
        )
        .with_columns(pl.col("game_id").forward_fill().over("file"))
    )
    bad = records.filter(~pl.col("record").is_in(RECORDS) | pl.col("game_id").is_null()).head(1)
    for row in bad.iter_rows(named=True):
        raise FullcountError(
            f"{path}: {row['file']} line {row['line']}: unknown record {row['text'][:40]!r}; "
            "mend or delete that line, or get the file again from retrosheet.org."
        )
    good_id = pl.col("game_id").str.contains(r"^[A-Z0-9]{3}(18|19|20)\d{2}(0\d|1[0-2])[0-3]\d\d$")
    for row in records.filter((pl.col("record") == "id") & ~good_id).head(1).iter_rows(named=True):
        raise FullcountError(
            f"{path}: {row['file']} line {row['line']}: {row['game_id']!r} is not a game id (TTTyyyymmddn); mend it."
        )
    twice = records.filter(pl.col("record") == "id").filter(pl.col("game_id").is_duplicated())
    for row in twice.tail(1).iter_rows(named=True):
        raise FullcountError(
            f"{path}: {row['file']} line {row['line']}: game {row['game_id']} stands twice; delete one of them."
        )
    return records


def _events(folder: Path, files: list[Path], jobs: int | None, path: Path) -> pl.DataFrame:
    """cwevent's rows, one a play (substitution marks left out), in the order of `files`; all columns strings."""
    frames = []
    for year, group in groupby(files, key=lambda f: f.name[:4]):
        if not any(f.name.upper() == f"TEAM{year}" for f in folder.iterdir()):
            raise FullcountError(f"{path}: TEAM{year} is missing; take the whole {year}eve.zip of retrosheet.org.")
        command = [sys.executable, "-m", "chadwickpy", "cwevent", "-y", year, "-n", "-f", FIELDS, "-x", EXTENDED]
        command += ["-j", str(jobs)] if jobs else []
        with tempfile.TemporaryFile() as output:
            names = [f.name for f in group]
            done = subprocess.run([*command, *names], cwd=folder, stdout=output, stderr=subprocess.PIPE, check=False)
            told = [line for line in done.stderr.decode("latin-1").splitlines() if line.strip()]
            if done.returncode:
                raise FullcountError(
                    f"{path}: cwevent rejects the files of {year} ({told[-1] if told else 'no reason given'}); "
                    "get them again from retrosheet.org."
                )
            for line in told:
                if line.startswith("WARNING"):
                    log.warning("%s: cwevent: %s", path.name, line)
            output.seek(0)
            frames.append(pl.read_csv(output.read(), infer_schema=False))
    return pl.concat(frames).with_columns(pl.all().fill_null(""))


def _join_plays(records: pl.DataFrame, events: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Every play record (substitution marks "NP" too) with cwevent's reading of it, in file order.

    cwevent skips the marks, but a pitcher or batter replaced during a plate appearance is known only from them.
    """
    plays = build.play_records(records)
    known = pl.col("EVENT_CD") != "0"
    events = events.rename({"GAME_ID": "game_id", "EVENT_ID": "number"})
    joined = plays.join(events, on=["game_id", "number"], how="left", maintain_order="left")
    bad = joined.filter((pl.col("text") != "NP") & (pl.col("EVENT_CD").is_null() | ~known)).head(1)
    for row in bad.iter_rows(named=True):
        raise FullcountError(
            f"{path}: {row['file']} line {row['line']} (game {row['game_id']}): unknown event {row['text']!r}; "
            "mend that play or get the file again from retrosheet.org."
        )
    codes = joined.filter((pl.col("text") != "NP") & pl.col("sequence").str.contains(build.UNKNOWN_CODE)).head(1)
    for row in codes.iter_rows(named=True):
        code = re.search(build.UNKNOWN_CODE, row["sequence"])
        raise FullcountError(
            f"{path}: {row['file']} line {row['line']} (game {row['game_id']}): unknown pitch code "
            f"{code and code[0]!r} in {row['sequence']!r}; mend that sequence."
        )
    return build.typed(joined)


# -------------------------------------------------------------------------------------------------------------- ids


def stable_id(retro: str) -> int:
    """Negative id of a player whom the register does not have; the same in every run."""
    return -(1 + zlib.crc32(retro.encode()) % 2**30)


def _player_ids(records: pl.DataFrame, register: pl.DataFrame, path: Path) -> pl.DataFrame:
    """`retro`, `player` of everyone in a lineup or substitution of `records`."""
    retro = build.lineup_records(records).get_column("retro").unique().sort()
    keys = register.select(pl.col("key_retro").alias("retro"), "player").drop_nulls().unique("retro", keep="first")
    ids = retro.to_frame().join(keys, on="retro", how="left", maintain_order="left")
    unmatched = ids.filter(pl.col("player").is_null()).get_column("retro").to_list()
    rate = 1 - len(unmatched) / max(len(ids), 1)
    log.info("%s: %d of %d player ids in the register (%.2f %%)", path.name, len(ids) - len(unmatched), len(ids),
             100 * rate)  # fmt: skip
    if rate < MINIMUM_HIT_RATE:
        raise FullcountError(
            f"{path}: only {rate:.1%} of its player ids are in the register (first missing: {unmatched[0]}); "
            "give a newer Chadwick register."
        )
    stand_ins = pl.Series([stable_id(r) for r in unmatched], dtype=pl.Int32)
    return ids.with_columns(pl.col("player").cast(pl.Int32)).with_columns(
        pl.col("player").fill_null(pl.col("retro").replace_strict(unmatched, stand_ins, default=None))
    )


def _finish(frame: pl.DataFrame, games: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the games' columns, MLBAM ids, sorted by date and game (rows of a game keep their order)."""
    about = ["season", "date", "game_type", "league", "park"]
    if frame is not games:
        frame = frame.join(games.select("game_id", *about), on="game_id", how="left", maintain_order="left")
    players = [c for c in ("player", "batter", "pitcher", "home_starter", "away_starter") if c in frame.columns]
    to_id = partial(pl.Expr.replace_strict, old=ids["retro"], new=ids["player"], default=None)
    return frame.with_columns(to_id(pl.col(c)) for c in players).sort("date", "game_id", maintain_order=True)
