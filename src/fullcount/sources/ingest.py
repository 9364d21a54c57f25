"""Raw files into a store: one function a source, all ending in `Store.add`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from fullcount.errors import FullcountError
from fullcount.sources import lahman, milb, plate_appearances, register, retrosheet, statcast
from fullcount.sources.link import align
from fullcount.sources.tables import Tables
from fullcount.store import Store


def ingest_register(store: Store, paths: Sequence[Path]) -> Store:
    """Chadwick register files: ids, names and birth dates. First of all, the other sources look players up in it."""
    return store.add(register.read(list(paths)), "register")


def ingest_lahman(store: Store, paths: Sequence[Path]) -> Store:
    """Lahman's season lines and players: a folder, or its files."""
    source: Path | list[Path] = paths[0] if len(paths) == 1 else list(paths)
    return store.add(lahman.read(source, _register(store)), "lahman")


def ingest_retrosheet(
    store: Store, paths: Sequence[Path], details: Sequence[Path] = (), jobs: int | None = None
) -> Store:
    """Event files (YYYYeve.zip or folders), season by season; each is in the store as soon as it is parsed.

    Args:
        details: plate-appearance files with pitch speeds and batted-ball physics, added to the seasons they cover.
        jobs: processes; default all cores.
    """
    known = plate_appearances.read(list(details)) if details else None
    for path, tables in zip(paths, retrosheet.read(paths, _register(store), jobs), strict=True):
        seasons = tables.games["season"].unique().sort().to_list()
        if known is not None and known["season"].is_in(seasons).any():
            tables = plate_appearances.enrich(tables, known)
        for season in _from(store, "statcast", seasons):
            tables = align(store.season(season), tables)
        store = store.add(tables, f"retrosheet {path.stem}")
    return store


def ingest_statcast(store: Store, paths: Sequence[Path], postseason: bool = False) -> Store:
    """Savant's pitch files. A season that Retrosheet has given already keeps its games, lines and runner events and
    takes its pitches from here."""
    kinds = ("R", "P") if postseason else ("R",)
    tables = statcast.read(list(paths), _register(store), kinds)
    for season in tables.games["season"].unique().sort().to_list():
        part = _of_season(tables, season)
        if _from(store, "retrosheet", [season]):
            part = align(part, store.season(season))
        store = store.add(part, f"statcast {season}")
    return store


def ingest_milb(store: Store, paths: Sequence[Path]) -> Store:
    """Minor-league files with one row a plate appearance, or folders of them."""
    tables = milb.read(list(paths), _register(store))
    for season in tables.games["season"].unique().sort().to_list():
        store = store.add(_of_season(tables, season), f"milb {season}")
    return store


INGEST: dict[str, Callable[..., Store]] = {
    "register": ingest_register,
    "lahman": ingest_lahman,
    "retrosheet": ingest_retrosheet,
    "statcast": ingest_statcast,
    "milb": ingest_milb,
}


def _register(store: Store) -> pl.DataFrame:
    players = store.table("players")
    if not players.height:
        raise FullcountError(
            f"{store.root}: ids cannot be looked up; first `fullcount ingest register PATH... --store {store.root}`"
        )
    return players


def _from(store: Store, source: str, seasons: list[int]) -> list[int]:
    """Those of `seasons` that the store has pitches of from `source`."""
    had = {s for part in store.parts if part["name"].startswith(source) for s in part["seasons"]}
    return [s for s in seasons if s in had]


def _of_season(tables: Tables, season: int) -> Tables:
    parts = {n: f for n, f in tables.__dict__.items() if n != "players"}
    return Tables.of(players=tables.players, **{n: f.filter(pl.col("season") == season) for n, f in parts.items()})
