"""The store: round trips, atomic additions, replaced games, refusals."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount import store as store_module
from fullcount.errors import FullcountError
from fullcount.fields import BASES, BY_NAME, COLUMN, DELTAS, NUMERIC
from fullcount.sources.tables import POSITIONS, Tables
from fullcount.store import Store, _locked


def season(tables: Tables, year: int) -> Tables:
    """One season of the tables (players and all)."""
    cut = {n: t.filter(pl.col("season") == year) for n, t in vars(tables).items() if "season" in t.columns}
    return replace(tables, **cut)


@pytest.fixture(scope="module")
def years(sim_league) -> dict[int, Tables]:
    return {y: season(sim_league.tables, y) for y in (2001, 2002, 2003)}


@pytest.fixture
def one(years, tmp_path) -> Store:
    """A store of its own with the first season."""
    return Store.open_or_create(tmp_path / "store").add(years[2001], "2001")


def seen_of(store: Store) -> dict[str, np.ndarray]:
    """Everything a reader may read, copied."""
    index = {f"{r}_{n}": np.array(v) for r in ("batter", "pitcher") for n, v in vars(store.appearances(r)).items()}
    runs = {n: np.array(v) for n, v in store.runs.items()}
    return {"categorical": np.array(store.categorical), "numeric": np.array(store.numeric), **runs, **index}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and np.array_equal(a[n].view(np.uint8), b[n].view(np.uint8)) for n in a
    )


# ------------------------------------------------------------------------------------------------------- encoding


def test_values_come_back_from_their_ids(sim_store, sim_league):
    pitches = sim_league.tables.pitches.sort("date", "game_id", "pa_number", "pitch_number")
    assert sim_store.rows == pitches.height
    expected = {
        "call": pitches["call"],
        "pitch_type": pitches["pitch_type"],
        "event": pitches["event"],
        "park": pitches["park"],
        "league": pitches["league"],
        "stand": pitches["stand"],
        "outs": pitches["outs"].cast(pl.String),
        "top": pitches["top"].cast(pl.Int8).cast(pl.String),
        "inning": pitches["inning"].clip(1, 12).cast(pl.String),
        "score_diff": (pitches["bat_score"] - pitches["fld_score"]).clip(-8, 8).cast(pl.String),
        "bases": pl.Series([BASES[b] for b in pitches["bases"]]),
        "begin_pa": pl.Series(
            [BASES[b] if n == 1 else None for b, n in zip(pitches["bases"], pitches["pitch_number"], strict=True)]
        ),
    }
    for name, values in expected.items():
        words = (None, *sim_store.vocabulary(name))
        found = [words[i] for i in sim_store.categorical[:, COLUMN[name]]]
        assert found == values.to_list(), name


def test_numbers_keep_their_units_and_absence(sim_store, sim_league):
    pitches = sim_league.tables.pitches.sort("date", "game_id", "pa_number", "pitch_number")
    for i, f in enumerate(NUMERIC):
        want = pitches[f.name].fill_null(np.nan).to_numpy()
        got = np.array(sim_store.numeric[:, i], dtype=np.float32)
        assert np.array_equal(np.isnan(got), np.isnan(want)), f.name
        np.testing.assert_allclose(got, want, rtol=6e-4, atol=1e-3)


def test_deltas_of_play_are_legal(sim_store):
    names = np.array(["", *DELTAS])[sim_store.categorical[:, COLUMN["delta"]]]
    events = np.array(["", *BY_NAME["event"].vocabulary])[sim_store.categorical[:, COLUMN["event"]]]
    assert (names == "").mean() < 0.01
    over = np.char.startswith(names, "end") | np.char.startswith(names, "half")
    assert over[events != "none"].mean() > 0.99


def test_times_through_the_order_counts_meetings(sim_store, sim_league):
    pitches = sim_league.tables.pitches.sort("date", "game_id", "pa_number", "pitch_number")
    meetings: dict[tuple, list[int]] = {}
    want = []
    keys = pitches.select("game_id", "pitcher", "batter", "pa_number").rows()
    for game, pitcher, batter, pa in keys:
        known = meetings.setdefault((game, pitcher, batter), [])
        if pa not in known:
            known.append(pa)
        want.append(min(len(known), 4))
    assert sim_store.categorical[:, COLUMN["times_through"]].tolist() == want


def test_an_unknown_word_is_named(years, tmp_path):
    wrong = years[2001].pitches.with_columns(pl.lit("knuckleslurve").alias("pitch_type"))
    with pytest.raises(FullcountError, match=r"pitch_type.*knuckleslurve"):
        Store.open_or_create(tmp_path / "s").add(replace(years[2001], pitches=wrong), "x")
    assert not (tmp_path / "s" / "manifest.json").exists()


# -------------------------------------------------------------------------------------------------------- opening


def test_reopening_gives_identical_arrays(one):
    assert same(seen_of(one), seen_of(Store.open(one.root)))
    assert Store.open(one.root).fingerprint() == one.fingerprint()


def test_open_reads_no_array(one):
    for name in ("categorical.i16", "numeric.f16"):
        (one.root / name).unlink()
    (one.root / "index").rename(one.root / "elsewhere")
    reopened = Store.open(one.root)  # nothing of these is touched until it is asked for
    assert reopened.rows == one.rows
    with pytest.raises(FullcountError):
        _ = reopened.categorical
    with pytest.raises(FullcountError):
        reopened.appearances("batter")


def test_no_store_is_said_with_the_way_to_make_one(tmp_path):
    with pytest.raises(FullcountError, match="fullcount ingest"):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "store format 99"),
        ({"categorical": ["league"]}, "other fields"),
        ({"numeric": []}, "other fields"),
        ({"surprise": 1}, "not a readable manifest"),
    ],
)
def test_a_store_of_another_kind_is_refused(one, change, message):
    path = one.root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FullcountError, match=message):
        Store.open(one.root)


@pytest.mark.parametrize("name", ["categorical.i16", "numeric.f16"])
def test_a_flipped_byte_is_detected(one, name):
    one.verify()
    path = one.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(FullcountError, match="part 2001"):
        Store.open(one.root).verify()


def test_columns_younger_than_the_store_are_null(one):
    lines = one.table("batting_seasons")
    (path,) = (one.root / "tables").glob("batting_seasons.*")
    lines.drop(POSITIONS).write_parquet(path)
    assert_frame_equal(one.table("batting_seasons").drop(POSITIONS), lines.drop(POSITIONS))
    assert one.table("batting_seasons").select(POSITIONS).null_count().row(0) == (lines.height,) * len(POSITIONS)


def test_a_flipped_byte_of_a_table_is_detected(one):
    path = next((one.root / "tables").glob("batting_games.*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(FullcountError, match=path.name):
        Store.open(one.root).verify()


def test_other_lines_of_the_same_pitches_are_other_data(one, years, tmp_path):
    """What is kept under the fingerprint (embeddings, runs) depends on priors too, and they on the lines."""
    same_again = Store.open_or_create(tmp_path / "again").add(years[2001], "2001")
    assert same_again.fingerprint() == one.fingerprint()
    lines = years[2001].batting_games.with_columns(pl.col("SO") + 1)
    other = Store.open_or_create(tmp_path / "other").add(replace(years[2001], batting_games=lines), "2001")
    assert other.fingerprint() != one.fingerprint()


def test_a_cut_file_is_detected(one):
    path = one.root / "categorical.i16"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FullcountError, match=r"categorical\.i16"):
        Store.open(one.root).verify()


# --------------------------------------------------------------------------------------------------------- adding


def test_an_addition_leaves_old_rows_where_they_were(one, years):
    before = seen_of(one)
    two = one.add(years[2002], "2002")
    assert two.rows == one.rows + years[2002].pitches.height
    assert np.array_equal(two.categorical[: one.rows], before["categorical"])
    assert [p["name"] for p in two.parts] == ["2001", "2002"]
    assert two.fingerprint() != one.fingerprint()
    two.verify()


def test_seasons_in_turn_index_like_all_at_once(sim_store, years, tmp_path):
    grown = Store.open_or_create(tmp_path / "grown")
    for year, tables in years.items():
        grown = grown.add(tables, str(year))
    a, b = seen_of(grown), seen_of(sim_store)
    a.pop("categorical"), b.pop("categorical")  # parks may have been met in another order
    assert same(a, b)
    assert grown.games.equals(sim_store.games)


def test_earlier_seasons_may_come_later(years, tmp_path, sim_store):
    late = Store.open_or_create(tmp_path / "late").add(years[2003], "2003").add(years[2001], "2001")
    for role in ("batter", "pitcher"):
        a = late.appearances(role)
        assert np.all(np.diff(a.day.astype(np.int64) + (a.player.astype(np.int64) << 24)) >= 0)
    start = late.runs["start"][late.appearances("pitcher").order]
    pitcher_of_row = np.repeat(late.runs["pitcher"], late.runs["length"])
    assert len(pitcher_of_row) == late.rows
    assert np.unique(start).size == start.size


def test_a_replaced_game_leaves_no_old_row_in_the_index(one, years):
    game = one.games["game_id"][3]
    better = years[2001].pitches.filter(pl.col("game_id") == game)
    better = better.filter(pl.col("pa_number") > 1).with_columns(pl.lit(99.0, pl.Float32).alias("release_speed"))
    part = Tables.of(pitches=better, games=years[2001].games.filter(pl.col("game_id") == game))
    new = one.add(part, "better")
    assert new.rows == one.rows + better.height
    kept = years[2001].pitches.height - years[2001].pitches.filter(pl.col("game_id") == game).height
    assert int(new.runs["length"].sum()) == kept + better.height
    rank = new.games["game_id"].to_list().index(game)
    starts = new.runs["start"][new.runs["game"] == rank]
    assert len(starts)
    assert (starts >= one.rows).all()
    speed = [f.name for f in NUMERIC].index("release_speed")
    assert (np.array(new.numeric[starts, speed]) == 99).all()
    for role in ("batter", "pitcher"):
        assert int(new.appearances(role).events.sum()) == kept + better.height
    assert new.games.height == one.games.height
    new.verify()


def test_table_rows_are_replaced_by_key_and_others_kept(one, years):
    before, game = seen_of(one), one.games["game_id"][0]
    changed = years[2001].batting_games.filter(pl.col("game_id") == game).with_columns(pl.lit(7, pl.Int16).alias("HR"))
    new = one.add(Tables.of(batting_games=changed), "lines")
    table = new.table("batting_games")
    assert table.height == years[2001].batting_games.height
    assert table.filter(pl.col("game_id") == game)["HR"].unique().to_list() == [7]
    assert new.rows == one.rows
    assert same(seen_of(new), before)


def test_pitches_of_an_unknown_game_are_refused_and_nothing_changes(one, years):
    before = (one.root / "manifest.json").read_bytes()
    with pytest.raises(FullcountError, match="no row in the games table"):
        one.add(Tables.of(pitches=years[2002].pitches), "orphans")
    assert (one.root / "manifest.json").read_bytes() == before
    Store.open(one.root).verify()


def test_two_additions_at_once_are_refused(one, years):
    with _locked(one.root), pytest.raises(FullcountError, match="another process"):
        one.add(years[2002], "2002")
    one.add(years[2002], "2002")


def test_a_reader_from_before_an_addition_is_told_to_open_again(one, years):
    reader = Store.open(one.root)
    one.add(years[2002], "2002")
    with pytest.raises(FullcountError, match="open"):
        reader.appearances("batter")
    with pytest.raises(FullcountError, match="open"):
        reader.table("games")


# -------------------------------------------------------------------------------------------------- killed halfway


def _die_at(point: str) -> None:
    """Make the n-th call of a function of the store's way of writing the process's last, before or halfway through."""
    name, _, when = point.partition(":")
    if name == "rename":
        original = Path.replace
        Path.replace = lambda self, target: os._exit(9) if when == "before" else (original(self, target), os._exit(9))
        return
    if name == "tables":
        original_write, calls = pl.DataFrame.write_parquet, []

        def write(self, file, *a, **k):
            calls.append(1)
            if len(calls) == 3:
                Path(file).write_bytes(b"half a table")
                os._exit(9)
            return original_write(self, file, *a, **k)

        pl.DataFrame.write_parquet = write
        return
    if name == "append":
        original_append, seen = store_module._append, []

        def append(path, committed, array):
            seen.append(1)
            if len(seen) == int(when):
                original_append(path, committed, array[: len(array) // 2])
                os._exit(9)
            original_append(path, committed, array)

        store_module._append = append
        return
    if name == "index":
        original_save, saved = np.save, []

        def save(file, array):
            saved.append(1)
            if len(saved) == 5:
                os._exit(9)
            original_save(file, array)

        np.save = save
        return
    assert name == "clean"
    store_module.Store._clean = lambda self, manifest: os._exit(9)


def _add_and_die(root: Path, tables: Tables, point: str) -> None:
    if point != "any":
        _die_at(point)
    Store.open(root).add(tables, "2002")
    os._exit(0)


def _child(root: Path, tables: Tables, point: str) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_add_and_die, args=(root, tables, point))
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.parametrize("point", ["tables", "append:1", "append:2", "index", "rename:before", "rename:after", "clean"])
def test_a_process_killed_while_adding_leaves_a_store(one, years, point):
    before = seen_of(one)
    process = _child(one.root, years[2002], point)
    process.join(60)
    assert process.exitcode == 9
    left = Store.open(one.root)
    left.verify()
    committed = point in ("rename:after", "clean")
    assert left.rows == one.rows + committed * years[2002].pitches.height
    if not committed:
        assert same(seen_of(left), before)
    done = left.add(years[2002], "2002")
    done.verify()
    assert int(done.runs["length"].sum()) == years[2001].pitches.height + years[2002].pitches.height
    assert done.games.height == years[2001].games.height + years[2002].games.height
    assert len(list((one.root / "index").iterdir())) == 1  # nothing half written stays behind


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_a_store(one, years):
    pause, killed = random.Random(4), 0
    for _ in range(3):
        process = _child(one.root, years[2002], "any")
        # Importing takes the longest: wait for the addition's first file, then a little longer.
        started = time.time_ns()
        while process.is_alive() and not any(e.stat().st_mtime_ns > started for e in os.scandir(one.root / "tables")):
            time.sleep(0.001)
        time.sleep(pause.uniform(0, 0.06))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        left = Store.open(one.root)
        left.verify()
        assert int(left.runs["length"].sum()) in (
            years[2001].pitches.height,
            years[2001].pitches.height + years[2002].pitches.height,
        )
    assert killed  # some were caught at work
    done = Store.open(one.root).add(years[2002], "2002")
    done.verify()
    assert int(done.runs["length"].sum()) == years[2001].pitches.height + years[2002].pitches.height
