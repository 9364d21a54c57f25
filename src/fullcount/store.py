"""The store: canonical tables kept as two row-major memory-mapped arrays, an index and small parquet tables.

    manifest.json        format version, rows, parts, vocabularies, checksums; replacing it is the commit
    categorical.i16      [rows, len(CATEGORICAL)] ids, in the order of `fields.CATEGORICAL`
    numeric.f16          [rows, len(NUMERIC)] raw units, NaN where absent
    index/N/*.npy        generation N of the index: who batted and pitched in which rows, by date
    tables/NAME.N.CRC.parquet   the canonical small tables, and each addition's canonical pitches

Arrays are only ever appended to. An addition writes rows behind the committed length, a new generation of the index
and of the tables, and then replaces the manifest in one rename: killed at any moment, the old store still opens, and
the next addition cuts off what was half written. A game ingested again (from a better source) gets new rows; the index
forgets the old ones.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.fields import BY_NAME, CATEGORICAL, NUMERIC, encode_delta
from fullcount.sources.tables import SCHEMAS, Tables, conform, empty

FORMAT_VERSION = 1
PlayerRole = Literal["batter", "pitcher"]
ROLES: tuple[PlayerRole, PlayerRole] = ("batter", "pitcher")

_EPOCH = date(1970, 1, 1)
_SMALL = [name for name in SCHEMAS if name != "pitches"]
#: What identifies a row of a small table: an added row replaces the stored one with the same key.
_TABLE_KEY = {
    "plate_appearances": ["game_id"],
    "games": ["game_id"],
    "batting_games": ["game_id"],
    "pitching_games": ["game_id"],
    "batting_seasons": ["season", "league"],
    "pitching_seasons": ["season", "league"],
    "players": ["player"],
}


def day_number(day: date) -> int:
    """Days since 1970-01-01, the form in which the index holds dates."""
    return (day - _EPOCH).days


@dataclass(frozen=True)
class Appearances:
    """All player-games of one role, sorted by player, date, game: the index that windows read.

    Arrays of shape [n]: `player`, `game` (row of `Store.games`), `day` (see `day_number`), `start` and `runs` (slice
    of `order`), `events` (pitches), `regular` (regular season), `starter` (starting pitcher; False for batters).
    `order` [runs] holds run numbers; `ids` and `offsets` give each player's slice.
    """

    player: NDArray[np.int32]
    game: NDArray[np.int32]
    day: NDArray[np.int32]
    start: NDArray[np.int32]
    runs: NDArray[np.int32]
    events: NDArray[np.int32]
    regular: NDArray[np.bool_]
    starter: NDArray[np.bool_]
    order: NDArray[np.int32]
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.player)

    def slice_of(self, player: int) -> tuple[int, int]:
        """First and last-plus-one appearance of `player`; (0, 0) when he has none."""
        i = int(np.searchsorted(self.ids, player))
        if i == len(self.ids) or self.ids[i] != player:
            return 0, 0
        return int(self.offsets[i]), int(self.offsets[i + 1])


@dataclass
class _Manifest:
    version: int = FORMAT_VERSION
    generation: int = 0
    rows: int = 0
    categorical: list[str] = field(default_factory=lambda: [f.name for f in CATEGORICAL])
    numeric: list[str] = field(default_factory=lambda: [f.name for f in NUMERIC])
    vocabularies: dict[str, list[str]] = field(default_factory=lambda: {f.name: [] for f in CATEGORICAL if f.is_open})
    parts: list[dict[str, Any]] = field(default_factory=list)  # name, rows [start, stop], crc32, file, seasons
    tables: dict[str, str] = field(default_factory=dict)  # table -> file


class Store:
    """An opened store. Arrays are memory maps: opening costs milliseconds whatever the store's size."""

    def __init__(self, root: Path, manifest: _Manifest) -> None:
        self.root = root
        self._manifest = manifest

    # ------------------------------------------------------------------------------------------------- opening

    @classmethod
    def open(cls, root: str | Path) -> Store:
        """Open a store. Raises FullcountError when there is none or it was written by another format version."""
        root = Path(root)
        path = root / "manifest.json"
        if not path.exists():
            raise FullcountError(f"{root}: no store here; make one with `fullcount ingest ... --store {root}`")
        try:
            manifest = _Manifest(**json.loads(path.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise FullcountError(f"{path}: not a readable manifest ({error}); ingest into a new folder") from error
        if manifest.version != FORMAT_VERSION:
            raise FullcountError(
                f"{path}: store format {manifest.version}, this fullcount reads {FORMAT_VERSION}; ingest again"
            )
        if manifest.categorical != [f.name for f in CATEGORICAL] or manifest.numeric != [f.name for f in NUMERIC]:
            raise FullcountError(f"{path}: written with other fields than this fullcount has; ingest again")
        return cls(root, manifest)

    @classmethod
    def open_or_create(cls, root: str | Path) -> Store:
        """Open the store at `root`, or an empty one that appears on disk with the first addition."""
        root = Path(root)
        return cls.open(root) if (root / "manifest.json").exists() else cls(root, _Manifest())

    @property
    def rows(self) -> int:
        """Rows of the arrays (replaced games included)."""
        return self._manifest.rows

    @property
    def parts(self) -> list[dict[str, Any]]:
        """What was ingested: name, rows [start, stop), checksum, seasons and pitch file of each addition."""
        return self._manifest.parts

    def vocabulary(self, name: str) -> tuple[str, ...]:
        """Values of a categorical field in id order (id = position + 1)."""
        own = BY_NAME[name].vocabulary
        return tuple(self._manifest.vocabularies[name]) if own == () else own or ()

    def _map(self, name: str, dtype: str, width: int) -> NDArray[Any]:
        if not self.rows:
            return np.zeros((0, width), dtype=dtype)
        path = self.root / name
        if not path.exists() or path.stat().st_size < self.rows * width * np.dtype(dtype).itemsize:
            raise FullcountError(f"{path}: missing or shorter than its {self.rows} rows; ingest again")
        return np.memmap(path, dtype=dtype, mode="r", shape=(self.rows, width))

    @cached_property
    def categorical(self) -> NDArray[np.int16]:
        """[rows, len(CATEGORICAL)] ids, memory-mapped."""
        return self._map("categorical.i16", "<i2", len(CATEGORICAL))

    @cached_property
    def numeric(self) -> NDArray[np.float16]:
        """[rows, len(NUMERIC)] values in their units, NaN where absent, memory-mapped."""
        return self._map("numeric.f16", "<f2", len(NUMERIC))

    def _index(self, name: str) -> NDArray[Any]:
        if not self._manifest.generation:
            return np.zeros(0, _INDEX_TYPES[name])
        path = self.root / "index" / str(self._manifest.generation) / f"{name}.npy"
        array: NDArray[Any] = np.load(self._there(path), mmap_mode="r")
        return array

    def _there(self, path: Path) -> Path:
        """`path`, if it is there: an addition removes the files that stores opened earlier would have read."""
        if not path.exists():
            raise FullcountError(f"{path}: gone; the store was added to since it was opened: open it again")
        return path

    @cached_property
    def runs(self) -> dict[str, NDArray[Any]]:
        """Contiguous rows of one batter against one pitcher in one plate appearance: arrays of shape [runs]."""
        return {name: self._index(name) for name in _RUN_TYPES}

    @cached_property
    def _appearances(self) -> dict[PlayerRole, Appearances]:
        names = list(Appearances.__dataclass_fields__)
        return {r: Appearances(**{n: self._index(f"{r}_{n}") for n in names}) for r in ROLES}

    def appearances(self, role: PlayerRole) -> Appearances:
        """The player-game index of a role."""
        return self._appearances[role]

    def table(self, name: str) -> pl.DataFrame:
        """A canonical small table, read from disk. Columns younger than the store are null."""
        if name not in _SMALL:
            raise FullcountError(f"no table {name!r}; choose one of {', '.join(_SMALL)}")
        file = self._manifest.tables.get(name)
        return conform(_read(self._there(self.root / "tables" / file)), name) if file else empty(name)

    def season(self, season: int) -> Tables:
        """Everything of one season as canonical tables (season lines and players left out)."""
        games = self.games.filter(pl.col("season") == season).select("game_id")
        found = {
            name: self.table(name).filter(pl.col("season") == season)
            for name in ("plate_appearances", "games", "batting_games", "pitching_games")
        }
        pitches: list[pl.DataFrame] = []
        for part in reversed(self.parts):  # the newest rows of a game are the ones that count
            if season in part["seasons"] and games.height:
                path = self.root / "tables" / part["file"]
                pitches.append(_read(path).join(games, on="game_id", how="semi"))
                games = games.join(pitches[-1].select("game_id"), on="game_id", how="anti")
        if pitches:
            found["pitches"] = pl.concat(pitches).sort("date", "game_id", "pa_number", "pitch_number")
        return Tables.of(**found)

    @cached_property
    def games(self) -> pl.DataFrame:
        """The games table in index order: `Appearances.game` is a row number of it."""
        return self.table("games")

    def verify(self) -> None:
        """Read everything and compare checksums. Raises FullcountError naming the part that differs."""
        for part in self.parts:
            start, stop = part["rows"]
            crc = zlib.crc32(np.ascontiguousarray(self.categorical[start:stop]).data)
            crc = zlib.crc32(np.ascontiguousarray(self.numeric[start:stop]).data, crc)
            if crc != part["crc32"]:
                raise FullcountError(f"{self.root}: checksum of part {part['name']} differs; ingest it again")
        for file in (*self._manifest.tables.values(), *(part["file"] for part in self.parts)):
            _, _, *checksum, _ = file.split(".")
            if checksum and f"{zlib.crc32(self._there(self.root / 'tables' / file).read_bytes()):08x}" != checksum[0]:
                raise FullcountError(f"{self.root}: checksum of tables/{file} differs; ingest again")

    def fingerprint(self) -> str:
        """A short name of the data: changes whenever rows or tables change."""
        text = json.dumps([self._manifest.parts, self._manifest.vocabularies, self._manifest.tables])
        return f"{zlib.crc32(text.encode()):08x}"

    # ------------------------------------------------------------------------------------------------- adding

    def add(self, tables: Tables, name: str) -> Store:
        """A store with `tables` added as part `name`; the store on disk changes in one step at the end.

        Rows of a game that is stored already replace the stored ones in every non-empty table; pitches likewise.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with _locked(self.root):
            return Store.open_or_create(self.root)._add(tables, name)

    def _add(self, tables: Tables, name: str) -> Store:
        old = self._manifest
        new = _Manifest(**json.loads(json.dumps(old.__dict__)))
        new.generation += 1
        new.tables.update(self._write_tables(tables, new.generation))
        games = _read(self.root / "tables" / new.tables["games"]) if "games" in new.tables else self.games
        runs = dict(self.runs)
        pitches = tables.pitches.sort("date", "game_id", "pa_number", "pitch_number")
        if pitches.height:
            categorical, numeric = _encode(pitches, new.vocabularies)
            crc = zlib.crc32(numeric.data, zlib.crc32(categorical.data))
            _append(self.root / "categorical.i16", old.rows * 2 * len(CATEGORICAL), categorical)
            _append(self.root / "numeric.f16", old.rows * 2 * len(NUMERIC), numeric)
            new.rows = old.rows + pitches.height
            file = _write_parquet(self.root / "tables", f"pitches.{new.generation}", pitches)
            seasons = pitches["season"].unique().sort().to_list()
            rows = [old.rows, new.rows]
            new.parts.append({"name": name, "rows": rows, "crc32": crc, "seasons": seasons, "file": file})
        runs = _merge_runs(runs, self.games, pitches, old.rows, games)
        _write_index(self.root / "index" / str(new.generation), runs, games)
        target = self.root / "manifest.json"
        scratch = self.root / "manifest.json.new"
        with scratch.open("w") as handle:
            json.dump(new.__dict__, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        scratch.replace(target)
        self._clean(new)
        return Store.open(self.root)

    def _write_tables(self, tables: Tables, generation: int) -> dict[str, str]:
        (self.root / "tables").mkdir(exist_ok=True)
        written = {}
        for name in _SMALL:
            added: pl.DataFrame = getattr(tables, name)
            if not added.height:
                continue
            kept = self.table(name).join(added.select(_TABLE_KEY[name]).unique(), on=_TABLE_KEY[name], how="anti")
            whole = pl.concat([kept, added])
            whole = whole.sort([c for c in ("date", "season", "game_id", "pa_number", "player") if c in whole.columns])
            written[name] = _write_parquet(self.root / "tables", f"{name}.{generation}", whole)
        return written

    def _clean(self, manifest: _Manifest) -> None:
        """Remove what the committed manifest does not name."""
        kept = {*manifest.tables.values(), *(part["file"] for part in manifest.parts)}
        for path in (self.root / "tables").glob("*.parquet"):
            if path.name not in kept:
                path.unlink()
        for path in (self.root / "index").iterdir():
            if path.name != str(manifest.generation):
                shutil.rmtree(path)


def _read(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path, glob=False)  # a folder may be called `[x]`


def _write_parquet(folder: Path, name: str, frame: pl.DataFrame) -> str:
    """Write a table; the checksum in the file's name, which it returns, makes other contents another fingerprint."""
    scratch = folder / f"{name}.parquet"
    frame.write_parquet(scratch)
    file = f"{name}.{zlib.crc32(scratch.read_bytes()):08x}.parquet"
    scratch.rename(folder / file)
    return file


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FullcountError(f"{root}: another process is adding to this store; wait for it to end") from None
        yield


def _append(path: Path, committed: int, array: NDArray[Any]) -> None:
    """Write `array` at byte `committed`; whatever an interrupted addition left behind it is cut off first."""
    with path.open("r+b" if path.exists() else "w+b") as handle:
        handle.truncate(committed)
        handle.seek(committed)
        handle.write(array.data)
        handle.flush()
        os.fsync(handle.fileno())


def _encode(pitches: pl.DataFrame, open_vocabularies: dict[str, list[str]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sorted canonical pitches -> (categorical [n, C] int16, numeric [n, N] float16). Grows the open vocabularies."""
    pa = ["game_id", "pa_number"]
    pair = ["game_id", "pitcher", "batter"]

    def first_of(keys: list[str]) -> pl.Expr:
        return pl.col("pitch_number") == pl.col("pitch_number").min().over(keys)

    first_of_pa = first_of(pa)
    # A reliever (or substitute batter) in mid-count begins his turn with his own first pitch.
    turn = pl.col("_begins").cast(pl.Int32).cum_sum().over(pair).clip(1, 4)
    bases = pl.format("{}{}{}", *((pl.col("bases") // b) % 2 for b in (4, 2, 1)))
    # A column of its own: one window inside another is worked out group by group.
    frame = pitches.with_columns(_begins=first_of([*pair, "pa_number"])).with_columns(
        pl.col("inning").clip(1, 12),
        pl.col("top").cast(pl.Int8),
        (pl.col("bat_score") - pl.col("fld_score")).clip(-8, 8).alias("score_diff"),
        turn.alias("times_through"),
        bases.alias("bases"),
        pl.when(first_of_pa).then(bases).alias("begin_pa"),
        pl.col("pitch_number").clip(1, 10),
    )
    last_of_pa = (
        pitches["pitch_number"] == pitches.select(pl.col("pitch_number").max().over(pa)).to_series()
    ).to_numpy()
    # Where a source does not know the situation, what became of it is missing too.
    situated = pitches.select(pl.all_horizontal(pl.col("balls", "strikes", "outs", "bases").is_not_null())).to_series()
    pitches = pitches.with_columns(pl.col("balls", "strikes", "outs", "bases").fill_null(0))
    post_outs = pitches["post_outs"].fill_null(0).to_numpy()

    def step(name: str) -> NDArray[np.int64]:
        values = pitches[name].to_numpy().astype(np.int64)
        return np.asarray(np.append(values[1:], 0) - values, dtype=np.int64)

    delta = encode_delta(
        last_of_pa,
        post_outs >= 3,
        step("balls"),
        step("strikes"),
        post_outs.astype(np.int64) - pitches["outs"].to_numpy(),
        pitches["runs"].fill_null(0).to_numpy(),
        pitches["bases"].to_numpy(),
        pitches["post_bases"].fill_null(0).to_numpy(),
    )
    columns = []
    for f in CATEGORICAL:
        if f.name == "delta":
            columns.append(np.where(situated.to_numpy(), delta, 0))
            continue
        ids = f.ids
        if f.is_open:
            known = open_vocabularies[f.name]
            known += [v for v in frame[f.name].drop_nulls().unique(maintain_order=True).to_list() if v not in known]
            if len(known) >= f.capacity:
                raise FullcountError(
                    f"field {f.name}: more than {f.capacity - 1} values; raise its capacity in fields.py"
                )
            ids = {v: i + 1 for i, v in enumerate(known)}
        text = frame[f.name].cast(pl.String)
        coded = text.replace_strict(ids, default=None, return_dtype=pl.Int16)
        unknown = text.filter(coded.is_null() & text.is_not_null())
        if len(unknown):
            raise FullcountError(f"column {f.name}: value {unknown[0]!r} is not in the vocabulary of fields.py")
        columns.append(coded.fill_null(0).to_numpy())
    categorical = np.stack(columns, axis=1).astype("<i2", order="C")
    numeric = np.stack([pitches[f.name].cast(pl.Float32).fill_null(np.nan).to_numpy() for f in NUMERIC], axis=1)
    return categorical, np.ascontiguousarray(numeric.astype("<f2"))


# ------------------------------------------------------------------------------------------------------- the index

_RUN_TYPES: dict[str, Any] = {
    "start": np.int32, "length": np.int16, "game": np.int32, "pa": np.int16, "batter": np.int32, "pitcher": np.int32,
    "starter": np.bool_,
}  # fmt: skip
_APPEARANCE_TYPES: dict[str, Any] = {
    "player": np.int32, "game": np.int32, "day": np.int32, "start": np.int32, "runs": np.int32, "events": np.int32,
    "regular": np.bool_, "starter": np.bool_, "order": np.int32, "ids": np.int32, "offsets": np.int64,
}  # fmt: skip
_INDEX_TYPES = _RUN_TYPES | {f"{r}_{n}": t for r in ROLES for n, t in _APPEARANCE_TYPES.items()}


def _merge_runs(
    runs: dict[str, NDArray[Any]], old_games: pl.DataFrame, pitches: pl.DataFrame, offset: int, games: pl.DataFrame
) -> dict[str, NDArray[Any]]:
    """Old runs of games that were not replaced, renumbered to the new games table, and the runs of new pitches."""
    number = games.select("game_id").with_row_index("new")
    replaced = pitches.select("game_id").unique()
    moved = old_games.select("game_id").with_row_index("old").join(number, on="game_id", how="left").sort("old")
    moved = moved.join(replaced.with_columns(pl.lit(True).alias("gone")), on="game_id", how="left").sort("old")
    target = moved.select(pl.when(pl.col("gone").is_null()).then(pl.col("new").cast(pl.Int32)).otherwise(-1))
    where = target.to_series().fill_null(-1).to_numpy().astype(np.int32)
    game = where[runs["game"]] if len(runs["game"]) else np.zeros(0, np.int32)
    keep = game >= 0
    merged = {name: np.asarray(array)[keep] for name, array in runs.items()}
    merged["game"] = game[keep]
    if not pitches.height:
        return merged
    missing = replaced.join(number, on="game_id", how="anti")
    if missing.height:
        raise FullcountError(f"game {missing['game_id'][0]} has pitches but no row in the games table")
    keys = ["game_id", "pa_number", "batter", "pitcher"]
    frame = pitches.select(
        *keys, "top", (pl.struct(keys).rle_id()).alias("run"), pl.int_range(pl.len(), dtype=pl.Int32).alias("row")
    )
    added = (
        frame.group_by("run", maintain_order=True)
        .agg(pl.col("row").first().alias("start"), pl.len().alias("length"), pl.col(*keys, "top").first())
        .with_columns((pl.col("pitcher") == pl.col("pitcher").first().over("game_id", "top")).alias("starter"))
        .join(number, on="game_id", how="left", maintain_order="left")
    )
    names = {"pa": "pa_number", "game": "new"}
    for name, dtype in _RUN_TYPES.items():
        values = added[names.get(name, name)].to_numpy().astype(dtype)
        merged[name] = np.concatenate([merged[name], values + offset if name == "start" else values]).astype(dtype)
    return merged


def _write_index(folder: Path, runs: dict[str, NDArray[Any]], games: pl.DataFrame) -> None:
    """Write runs and, per role, the appearances sorted by player, date, game and plate appearance."""
    if folder.exists():
        shutil.rmtree(folder)  # an interrupted addition's
    folder.mkdir(parents=True)
    day = games["date"].to_physical().to_numpy().astype(np.int32)
    regular = (games["game_type"] == "R").to_numpy()
    arrays: dict[str, NDArray[Any]] = dict(runs)
    # The games table is sorted by date and game id, so its row number is a chronological rank.
    for role in ROLES:
        order = np.lexsort((runs["pa"], runs["game"], runs[role])).astype(np.int32)
        player, game = runs[role][order], runs["game"][order]
        change = np.ones(len(order), dtype=bool)
        change[1:] = (player[1:] != player[:-1]) | (game[1:] != game[:-1])
        start = np.flatnonzero(change).astype(np.int32)
        length = runs["length"][order].astype(np.int64)
        ids, first = np.unique(player[start], return_index=True)
        columns: dict[str, NDArray[Any]] = {
            "player": player[start],
            "game": game[start],
            "day": day[game[start]],
            "start": start,
            "runs": np.diff(np.append(start, len(order))),
            "events": np.add.reduceat(length, start) if len(start) else np.zeros(0),
            "regular": regular[game[start]],
            "starter": runs["starter"][order][start] if role == "pitcher" else np.zeros(len(start), bool),
            "order": order,
            "ids": ids,
            "offsets": np.append(first, len(start)),
        }
        arrays |= {f"{role}_{n}": a.astype(_APPEARANCE_TYPES[n]) for n, a in columns.items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(_INDEX_TYPES[name]))
