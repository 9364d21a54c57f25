"""Minor leagues: what is derived from the calls of a plate appearance, and two leagues in one store."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fullcount.batches import Sampler
from fullcount.errors import FullcountError
from fullcount.priors import Priors, game_lines
from fullcount.projection.game_plans import plans_of
from fullcount.projection.simulation import Simulation, report
from fullcount.projection.system import League
from fullcount.sources import milb
from fullcount.sources.ingest import INGEST
from fullcount.sources.seasons import main_league
from fullcount.sources.tables import Tables
from fullcount.store import Store
from fullcount.windows import Window

HOME, AWAY = (101, 102), (201, 202)  # pitchers
#: (visitors bat, event, calls, trajectory); batters are 11..19 (visitors) and 21..29 (home), in turn.
TURNS: list[tuple[bool, str | None, str, str | None]] = [
    (True, "strikeout", "C F F *B S", None),
    (True, "walk", "B *B S I P", None),
    (True, "home_run", "F B E", "fly_ball"),
    (True, "hit_by_pitch", "C H", None),
    (True, "intent_walk", "B B", None),
    (True, "caught_stealing_2b", "C B", None),
    (False, "walk", "B B B", None),  # one ball was automatic
    (False, "strikeout", "C B S", None),  # one strike was
    (False, "sac_bunt", "L X", "bunt_grounder"),
    (False, "strikeout", "S S L", None),
    (True, "walk", "B B B B C B", None),  # goes on after ball four
    (True, "strikeout", "C S X", None),  # in play is no strikeout
    (True, "single", "T D", "line_drive"),
    (False, "catcher_interf", "F", None),
    (False, "field_out", "S O X", "ground_ball"),
    (False, None, "", None),  # rain
]


def rows(**changes: Any) -> list[dict[str, Any]]:
    """The game of TURNS; the home team's reliever throws the visitors' second inning."""
    faced = Counter[bool]()
    made = []
    for i, (top, event, calls, trajectory) in enumerate(TURNS):
        batter = (11 if top else 21) + faced[top] % 9
        faced[top] += event != "caught_stealing_2b"  # he bats again
        made.append(
            {
                "game_date": date(2025, 6, 1), "game_pk": 7, "level": "AAA", "home_id": 9001, "home_team": "Home Club",
                "away_id": 9002, "at_bat_index": i, "batter": batter, "stand": "L", "p_throws": "R",
                "pitcher": (HOME[i >= 10] if top else AWAY[0]), "event_type": event, "rbi": int(event == "home_run"),
                "pitch_calls": calls, "trajectory": trajectory, "n_pitches": 0,
            }
            | changes
        )  # fmt: skip
    return made


def save(path: Path, made: list[dict[str, Any]] | None = None) -> Path:
    pl.DataFrame(made or rows(), schema_overrides={"trajectory": pl.Categorical}).write_parquet(path)
    return path


PLAYERS = [*range(11, 20), *range(21, 30), *HOME, *AWAY]


@pytest.fixture
def register() -> pl.DataFrame:
    return Tables.of(players=pl.DataFrame({"player": PLAYERS, "last_name": [f"P{p}" for p in PLAYERS]})).players


@pytest.fixture
def tables(tmp_path: Path, register: pl.DataFrame) -> Tables:
    return milb.read(save(tmp_path / "a.parquet"), register)


def calls_of(tables: Tables, pa: int, column: str) -> list[Any]:
    return tables.pitches.filter(pl.col("pa_number") == pa)[column].to_list()


# --------------------------------------------------------------------------------------------------- one game


def test_the_count_before_each_pitch(tables: Tables) -> None:
    assert calls_of(tables, 1, "balls") == [0, 0, 0, 0, 1]
    assert calls_of(tables, 1, "strikes") == [0, 1, 2, 2, 2]
    assert calls_of(tables, 1, "call") == ["called_strike", "foul", "foul", "blocked_ball", "swinging_strike"]
    assert calls_of(tables, 1, "pitch_number") == [1, 2, 3, 4, 5]
    assert calls_of(tables, 1, "event") == ["none"] * 4 + ["strikeout"]
    assert calls_of(tables, 2, "call") == ["ball", "blocked_ball", "swinging_strike", "intent_ball", "pitchout"]
    assert calls_of(tables, 10, "strikes") == [0, 1, 2]  # a foul bunt is a third strike
    assert calls_of(tables, 15, "strikes") == [0, 1, 2]
    assert calls_of(tables, 3, "contact") == ["none", "none", "fly_ball"]
    assert calls_of(tables, 9, "contact") == ["none", "bunt"]


def test_automatic_calls(tables: Tables) -> None:
    # Waved to first at 2-0: the balls that make four are known; when the clock gave one is not, and a count missing in
    # walks (strikeouts) only would tell the outcome.
    assert calls_of(tables, 5, "call") == ["ball", "ball", "automatic_ball", "automatic_ball"]
    assert calls_of(tables, 5, "balls") == [0, 1, 2, 3]
    assert calls_of(tables, 5, "event")[-1] == "intent_walk"
    assert not calls_of(tables, 7, "call")
    assert not calls_of(tables, 8, "call")
    assert tables.pitches.select("balls", "strikes").null_count().row(0) == (0, 0)
    lacking = tables.plate_appearances.filter(pl.col("pa_number").is_in([7, 8]))
    assert lacking["event"].to_list() == ["walk", "strikeout"]
    thrown = tables.plate_appearances.filter(pl.col("pa_number").is_in([5, 7]))["pitches"].to_list()
    assert thrown == [2, 3]


def test_sequences_that_contradict_their_event_give_no_pitches(
    tables: Tables, tmp_path: Path, register: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    assert not calls_of(tables, 11, "call")
    assert not calls_of(tables, 12, "call")
    assert tables.pitches["pa_number"].n_unique() == len(TURNS) - 5  # two lack a call, one had none
    dropped = tables.plate_appearances.filter(pl.col("pa_number").is_in([11, 12]))
    assert dropped["event"].to_list() == ["walk", "strikeout"]
    assert dropped["pitches"].to_list() == [6, 3]
    assert dropped["balls"].null_count() == 2
    with caplog.at_level("INFO", "fullcount"):
        milb.read(tmp_path / "a.parquet", register)
    assert "15 plate appearances with pitches; the calls of 4 are left out: in 1 play goes on" in caplog.text
    assert "in 1 the final call is not their event's, 2 lack an automatic call" in caplog.text


def test_the_sides_are_read_off_who_met_whom(tables: Tables) -> None:
    assert tables.plate_appearances["top"].to_list() == [t[0] for t in TURNS]
    game = tables.games.row(0, named=True)
    assert (game["game_id"], game["home_starter"], game["away_starter"]) == ("9001202506010", HOME[0], AWAY[0])
    assert (game["league"], game["home_team"], game["away_team"], game["game_type"]) == ("AAA", "9001", "9002", "R")
    visitors = tables.plate_appearances.filter("top")
    assert visitors["lineup_slot"].to_list() == [1, 2, 3, 4, 5, 6, 6, 7, 8]
    # Both pitchers of the home team are tied to it only through the batter whom both met.
    assert tables.pitching_games.filter(pl.col("team") == "9001")["player"].to_list() == list(HOME)


def test_who_met_nobody_else_has_no_side(tmp_path: Path, register: pl.DataFrame) -> None:
    made = rows()
    made[-2] |= {"batter": 29, "pitcher": AWAY[1]}
    found = milb.read(save(tmp_path / "b.parquet", made), register)
    assert found.plate_appearances["top"].to_list() == [*(t[0] for t in TURNS[:-2]), None, False]
    line = found.batting_games.row(by_predicate=pl.col("player") == 29, named=True)
    assert (line["PA"], line["team"], line["home"]) == (1, None, None)


def test_game_lines(tables: Tables) -> None:
    home_run = tables.batting_games.row(by_predicate=pl.col("player") == 13, named=True)
    assert [home_run[c] for c in ("PA", "AB", "H", "HR", "RBI", "team", "lineup_slot", "starter")] == [
        1, 1, 1, 1, 1, "9002", 3, True,
    ]  # fmt: skip
    starter = tables.pitching_games.row(by_predicate=pl.col("player") == HOME[0], named=True)
    assert [starter[c] for c in ("GS", "BF", "SO", "BB", "IBB", "HR", "HBP", "pitches", "outs", "ER")] == [
        1, 5, 1, 2, 1, 1, 1, 19, None, None,
    ]  # fmt: skip
    assert tables.batting_games["PA"].sum() == tables.pitching_games["BF"].sum() == 14


def test_leagues_and_double_headers(tmp_path: Path, register: pl.DataFrame) -> None:
    level = {"level": "CPX", "home_team": "DSL Somewhere"}
    found = milb.read(
        save(tmp_path / "c.parquet", rows() + rows(game_pk=8) + rows(game_pk=9, home_id=5, **level)), register
    )
    assert found.games.sort("game_pk").select("game_id", "league").rows() == [
        ("9001202506011", "AAA"), ("9001202506012", "AAA"), ("5202506010", "DSL"),
    ]  # fmt: skip


def test_a_folder_and_a_file_twice_are_one(tables: Tables, tmp_path: Path, register: pl.DataFrame) -> None:
    assert milb.read([tmp_path, tmp_path / "a.parquet"], register).pitches.equals(tables.pitches)


def test_the_unknown_situation_is_missing_in_the_store(tables: Tables, tmp_path: Path) -> None:
    store = Store.open_or_create(tmp_path / "store").add(tables, "milb")
    ids = {n: np.asarray(store.categorical)[:, i] for i, n in enumerate(store._manifest.categorical)}
    for name in ("inning", "outs", "bases", "begin_pa", "score_diff", "delta", "pitch_type"):
        assert not ids[name].any(), name
    for name in ("league", "park", "stand", "throws", "top", "pitch_number", "balls", "strikes", "call", "event"):
        assert ids[name].all(), name
    assert np.isnan(np.asarray(store.numeric, dtype=float)).all()


def test_a_reliever_in_mid_count_begins_his_turn(tables: Tables, tmp_path: Path) -> None:
    pa, number = pl.col("pa_number"), pl.col("pitch_number")
    tables.pitches = tables.pitches.with_columns(
        pitcher=pl.when((pa == 1) & (number > 3)).then(HOME[1]).otherwise("pitcher"),
        batter=pl.when(pa == 13).then(11).otherwise("batter"),
    ).cast({"pitcher": pl.Int32, "batter": pl.Int32})
    store = Store.open_or_create(tmp_path / "store").add(tables, "milb")
    seen = np.asarray(store.categorical)[:, store._manifest.categorical.index("times_through")]
    assert seen[(tables.pitches["pa_number"] == 1).to_numpy()].tolist() == [1] * 5
    assert seen[(tables.pitches["pa_number"] == 13).to_numpy()].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pitch_calls": "B ?"}, r"'pitch_calls': '\?' is not one of MLBAM's codes"),
        ({"event_type": "goal"}, "'event_type': 'goal' is not one of MLBAM's codes"),
        ({"batter": None}, "column 'batter' is empty in row 0"),
        ({"game_pk": "x"}, "not a readable parquet file of plate appearances"),
        ({"pitcher": 7777}, "are in the register"),
    ],
)
def test_bad_files(tmp_path: Path, register: pl.DataFrame, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FullcountError, match=sentence):
        milb.read(save(tmp_path / "bad.parquet", rows(**change)), register)


def test_files_of_something_else(tmp_path: Path, register: pl.DataFrame) -> None:
    save(tmp_path / "a.parquet")
    pl.read_parquet(tmp_path / "a.parquet").drop("level").write_parquet(tmp_path / "lacks.parquet")
    (tmp_path / "text.parquet").write_text("<html>")
    (tmp_path / "empty").mkdir()
    for name, sentence in (
        ("lacks.parquet", "'level' is missing"),
        ("text.parquet", "not a readable parquet"),
        ("none.parquet", "not a readable parquet"),
        ("empty", "no parquet file given"),
    ):
        with pytest.raises(FullcountError, match=sentence):
            milb.read(tmp_path / name, register)


# ------------------------------------------------------------------------------------------------ beside a major league


@pytest.fixture
def both(sim_league: Any, tables: Tables, tmp_path: Path) -> Store:
    """The simulated league, and a minor one in which one of its players bats and another pitches, day by day."""
    star, arm = (sim_league.tables.batting_games["player"][0], sim_league.tables.pitching_games["player"][0])
    made = [
        r
        | {
            "batter": star if r["batter"] == 11 else r["batter"],
            "pitcher": arm if r["pitcher"] == 201 else r["pitcher"],
        }
        for day in range(1, 29)
        for r in rows(game_pk=100 + day, game_date=date(2003, 7, day))
    ]
    everyone = pl.DataFrame({"player": [*PLAYERS, star, arm]})
    known = Tables.of(players=everyone).players
    minor = milb.read(save(tmp_path / "minor.parquet", made), known)
    return Store.open_or_create(tmp_path / "both").add(sim_league.tables, "sim").add(minor, "milb 2003")


def test_minor_league_lines_stay_out_of_priors_and_projections(both: Store, sim_store: Store) -> None:
    league = League.of(both)
    assert league.name == League.of(sim_store).name == "SIM"
    assert set(league.batting_seasons["league"]) == {"SIM", "AAA"}
    for role in ("batter", "pitcher"):
        assert game_lines(both, role).equals(game_lines(sim_store, role))
        players = np.unique(both.appearances(role).player)
        days = np.full(len(players), 12500)
        assert (Priors(both).rates(role, players, days) == Priors(sim_store).rates(role, players, days)).all()


def test_simulated_games_are_compared_with_the_main_league_alone(both: Store, sim_store: Store) -> None:
    pitch = {"game": 0, "inning": 1, "top": True, "batter": 1, "pitcher": 2, "call": "in_play", "event": "single"}
    simulation = Simulation(pl.DataFrame([pitch | {"runs": 0, "outs_made": 0}]), 0.0)
    assert report(simulation, both, 2003).equals(report(simulation, sim_store, 2003))
    assert plans_of(both, 2003) == plans_of(sim_store, 2003)


@pytest.mark.parametrize(
    ("leagues", "main"),
    [
        (["AAA", "AAA", "MLB"], "MLB"),
        (["AAA", "AAA", "SIM"], "SIM"),
        (["SIM", "XX", "XX"], "XX"),
        (["AA", "AA", "AAA"], "AA"),
        ([], ""),
    ],
)
def test_main_league(leagues: list[str], main: str) -> None:
    assert main_league(pl.Series(leagues, dtype=pl.String)) == main


def shares(store: Store, balance: float) -> tuple[float, float]:
    """Share of the minor league among the windows there are, and among those drawn for two whole blocks of batches."""
    windows = (Window("batter", games=3, events=60),)
    sampler = Sampler(store, windows, before=date(2004, 1, 1), tokens=2048, seed=3, league_balance=balance)
    history = sampler.histories[0]
    game = np.asarray(store.appearances("batter").game)[history.index]
    minor = (store.games["league"] == "AAA").to_numpy()[game]
    drawn = np.concatenate([stop - 1 for _, _, stop in sampler._plan(0, 1) + sampler._plan(1, 1)])
    assert len(drawn) > 500
    return minor[sampler._pools[0]].mean(), minor[drawn].mean()


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_a_small_league_is_not_drowned(both: Store, balance: float) -> None:
    there, drawn = shares(both, balance)
    assert there < 0.25
    odds = (there / (1 - there)) ** (1 - balance)
    assert drawn == pytest.approx(odds / (1 + odds), abs=0.05)


def test_balanced_batches_are_a_function_of_seed_and_step(both: Store) -> None:
    def sampler() -> Sampler:
        windows = (Window("batter", games=3, events=60), Window("pitcher", games=2, events=60))
        return Sampler(both, windows, before=date(2004, 1, 1), tokens=512, seed=4, league_balance=1.0)

    one = sampler()
    for step in (40, 2):
        assert one.batch(step).categorical.equal(sampler().batch(step).categorical)


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real
def test_the_totals_of_2025(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "milb" / "milb_pa_2025.parquet"
    if not path.exists():
        pytest.skip("no minor-league file")
    store = INGEST["register"](Store.open_or_create(tmp_path / "store"), sorted((data_dir / "register").glob("*.csv*")))
    store = INGEST["milb"](store, [path])
    raw = pl.read_parquet(path, columns=["event_type", "pitch_calls"]).with_columns(pl.all().cast(pl.String))
    event = raw["event_type"]
    wanted = {
        "SO": event.str.starts_with("strikeout").sum(),
        "BB": event.is_in(["walk", "intent_walk"]).sum(),
        "HR": (event == "home_run").sum(),
        "PA": event.is_in([e for e, to in milb.EVENT_OF.items() if to != "truncated_pa"]).sum(),
    }
    lines = store.table("batting_games").select(pl.col(list(wanted)).sum()).row(0, named=True)
    assert lines == wanted
    turns = store.table("plate_appearances")
    assert turns.height == raw.height
    assert turns.filter(pl.col("event") != "truncated_pa").height == wanted["PA"] == 784_792
    assert turns["event"].str.starts_with("strikeout").sum() == wanted["SO"] == 179_993
    thrown = raw["pitch_calls"].str.extract_all(r"\S+").list.len().sum()
    assert turns["pitches"].sum() == thrown == 3_024_063
    assert 0.996 < store.rows / thrown < 0.998  # 1,914 turns lack a call
    assert turns["top"].null_count() < 0.0002 * turns.height
    slots = (
        turns.filter(pl.col("event") != "truncated_pa")
        .group_by("game_id", "batter")
        .agg(pl.col("lineup_slot").n_unique())
    )  # who bats twice, bats in the same place: the sides are right
    assert (slots["lineup_slot"] == 1).mean() > 0.999
