"""What a player's history is on a date, against a reference in plain polars."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.game_grain import read_seasons
from fullcount.sources.tables import Tables
from fullcount.store import ROLES, Store, day_number
from fullcount.training.jobs import finetune, load_task, pretrain
from fullcount.training.run import Run
from fullcount.windows import History, Window, equal_games, gather, plate_appearances, ranges

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def league(sim_league, tmp_path_factory) -> tuple[Store, pl.DataFrame]:
    """A store in which every fifth game is of the postseason, and its pitches with row numbers."""
    late = sim_league.tables.games["game_id"].to_list()[::5]
    kind = pl.when(pl.col("game_id").is_in(late)).then(pl.lit("P")).otherwise(pl.lit("R")).alias("game_type")
    tables = type(sim_league.tables)(
        **{n: t.with_columns(kind) if "game_type" in t.columns else t for n, t in vars(sim_league.tables).items()}
    )
    store = Store.open_or_create(tmp_path_factory.mktemp("windows")).add(tables, "sim")
    pitches = tables.pitches.sort("date", "game_id", "pa_number", "pitch_number").with_row_index("row")
    starts = pl.col("pitcher") == pl.col("pitcher").first().over("game_id", "top")
    return store, pitches.with_columns(starts.alias("starts"))


def reference(pitches: pl.DataFrame, window: Window, player: int, day: date) -> list[int]:
    """Rows of the window, by the definition."""
    own = pitches.filter((pl.col(window.role) == player) & (pl.col("date") < day))
    if not window.postseason:
        own = own.filter(pl.col("game_type") == "R")
    if window.appearances != "all":
        own = own.filter(pl.col("starts") == (window.appearances == "starts"))
    rows: list[int] = []
    games = own.partition_by("game_id", maintain_order=True)  # in playing order
    turns = 0
    for n, game in enumerate(reversed(games)):
        turns += game["pa_number"].n_unique()
        many = window.plate_appearances is not None and turns > window.plate_appearances
        if n == window.games or (n and (len(rows) + game.height > window.events or many)):
            break
        rows = game["row"].to_list() + rows
    return rows


@given(data=st.data())
@QUIET
def test_rows_are_those_of_the_definition(league, data):
    store, pitches = league
    role = data.draw(st.sampled_from(["batter", "pitcher"]))
    window = Window(
        role,
        games=data.draw(st.one_of(st.integers(1, 30), st.none())),
        events=data.draw(st.one_of(st.integers(1, 60), st.integers(1, 3000))),
        appearances=data.draw(st.sampled_from(["all", "starts", "relief"])) if role == "pitcher" else "all",
        postseason=data.draw(st.booleans()),
        plate_appearances=data.draw(st.one_of(st.none(), st.integers(1, 150))),
    )
    history = History(store, window)
    asked = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from([*sorted(pitches[role].unique().to_list()), 1, 2**30]),
                st.dates(date(2001, 3, 1), date(2003, 12, 31)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    first, stop = history.before(np.array([p for p, _ in asked]), np.array([day_number(d) for _, d in asked]))
    for (player, day), a, b in zip(asked, first, stop, strict=True):
        rows, events = history.rows(np.arange(a, b))
        assert rows.tolist() == reference(pitches, window, player, day)
        assert events.sum() == len(rows)


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_nothing_on_or_after_the_day_is_ever_returned(league, role):
    store, pitches = league
    history = History(store, Window(role, games=50, events=10**6, postseason=True))
    days = pitches["date"].to_physical().to_numpy()
    rng = np.random.default_rng(0)
    players = rng.choice(history.players, 500)
    asked = rng.choice(days, 500)  # days of play, where an off-by-one would show
    first, stop = history.before(players, asked)
    rows, events = history.rows(ranges(first, stop - first))
    games_day = np.repeat(asked, stop - first)
    assert (days[rows] < np.repeat(games_day, events)).all()
    assert (pitches[role].to_numpy()[rows] == np.repeat(np.repeat(players, stop - first), events)).all()
    assert len(rows)


def test_a_game_today_is_history_tomorrow(league):
    store, pitches = league
    history = History(store, Window("pitcher", games=1, postseason=True))
    row = pitches.row(-1, named=True)
    for day, expected in ((row["date"], False), (row["date"] + timedelta(days=1), True)):
        first, stop = history.before(np.array([row["pitcher"]]), np.array([day_number(day)]))
        rows, _ = history.rows(ranges(first, stop - first))
        assert (row["row"] in rows) is expected


def test_ending_at_is_the_window_of_the_day_after(league):
    store, _ = league
    history = History(store, Window("batter", games=7, events=100))
    positions = np.arange(len(history.index))
    a, b = history.ending_at(positions), history.before(history.players, history.days + 1)
    assert np.array_equal(a[0], b[0])  # one game a day in this league
    assert np.array_equal(a[1], b[1])


def test_a_double_header_is_not_history_on_its_own_day(league, tmp_path):
    store, pitches = league
    game = pitches.filter(pl.col("game_id") == pitches["game_id"][0])
    second = game["game_id"][0][:-1] + "2"

    def named(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.lit(second).alias("game_id"))

    games = named(store.games.filter(pl.col("game_id") == game["game_id"][0]))
    both = Tables.of(
        pitches=pl.concat([game, named(game)]),
        games=pl.concat([store.games.filter(pl.col("game_id") == game["game_id"][0]), games]),
    )
    history = History(Store.open_or_create(tmp_path).add(both, "day"), Window("batter", postseason=True))
    who, day = history.players[:1], history.days[:1]
    first, stop = history.before(who, day)
    assert first == stop
    first, stop = history.before(who, day + 1)
    assert stop - first == 2


def test_days_before_1970_are_in_order(league, tmp_path):
    """Days are counted from 1970; a window of 1965 must not lose its games."""
    store, pitches = league
    back = pl.col("date").dt.offset_by("-37y")
    tables = Tables.of(pitches=pitches.with_columns(back), games=store.games.with_columns(back))
    old = History(Store.open_or_create(tmp_path).add(tables, "old"), Window("batter"))
    new = History(store, Window("batter"))
    assert old.days.max() < 0
    assert np.array_equal(old.ending_at(np.arange(len(old.index)))[0], new.ending_at(np.arange(len(new.index)))[0])
    first, stop = old.before(old.players, old.days)
    assert (first <= stop).all()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 7)), max_size=20))
def test_ranges_are_the_numbers_of_each_range(pairs):
    starts, lengths = np.array([p[0] for p in pairs], dtype=int), np.array([p[1] for p in pairs], dtype=int)
    want = [i for s, n in pairs for i in range(s, s + n)]
    assert ranges(starts, lengths).tolist() == want


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.float32])
def test_gather_is_fancy_indexing(dtype):
    array = np.random.default_rng(0).normal(0, 100, (50, 7)).astype(dtype)
    for rows in (np.array([], int), np.array([3]), np.array([49, 0, 0, 7])):
        got = gather(array, rows)
        assert got.dtype == dtype
        assert np.array_equal(got, array[rows])


@pytest.mark.parametrize(
    "wrong",
    [{"games": 0}, {"events": 0}, {"plate_appearances": 0}, {"role": "batter", "appearances": "starts"}],
    ids=str,
)
def test_impossible_windows_are_refused(wrong):
    with pytest.raises(FullcountError):
        Window(**({"role": "pitcher"} | wrong))


def test_windows_are_asymmetric_by_default():
    assert (Window("pitcher").games, Window("batter").games) == (10, 40)


def test_a_limit_of_plate_appearances_takes_as_many_games_as_it_needs(league):
    store, _ = league
    history = History(store, Window("batter", plate_appearances=200, events=10**6))
    first, stop = history.ending_at(np.arange(len(history.index)))
    held = plate_appearances(store, "batter")[history.index]
    seen = np.append(0, held.cumsum())
    full = history.players[np.maximum(first - 1, 0)] == history.players[stop - 1]  # he had played before
    assert (seen[stop] - seen[first] <= 200).all()
    assert (seen[stop] - seen[np.maximum(first - 1, 0)] > 200)[full & (first > 0)].all()
    assert (stop - first).max() > 40


def test_a_plate_appearance_that_two_pitchers_share_is_one_of_the_batter_and_of_each(league, tmp_path):
    store, pitches = league
    turn = pitches.filter(pl.len().over("game_id", "pa_number") > 2).row(0, named=True)
    here = (pl.col("game_id") == turn["game_id"]) & (pl.col("pa_number") == turn["pa_number"])
    relieved = pl.when(here & (pl.col("pitch_number") > 1)).then(999_999).otherwise("pitcher").cast(pl.Int32)
    game = pitches.filter(game_id=turn["game_id"]).with_columns(pitcher=relieved)
    tables = Tables.of(pitches=game, games=store.games.filter(game_id=turn["game_id"]))
    changed = Store.open_or_create(tmp_path).add(tables, "relieved")
    batters, pitchers = (
        dict(zip(changed.appearances(r).player.tolist(), plate_appearances(changed, r).tolist(), strict=True))
        for r in ROLES
    )
    assert batters[turn["batter"]] == game.filter(batter=turn["batter"])["pa_number"].n_unique()
    assert pitchers[999_999] == 1
    assert sum(pitchers.values()) == sum(batters.values()) + 1


# ------------------------------------------------------------------------------------------------- equal games


def test_equal_games_are_of_equal_plate_appearances(sim_store):
    """Ten mean starts over a mean game of who started at bat; play from the date on does not count."""

    def expected(before: date) -> tuple[int, int]:
        day = pl.col("date") < before
        batting = sim_store.table("batting_games").filter(day, pl.col("starter"), ~pl.col("is_pitcher"))["PA"].mean()
        pitching = sim_store.table("pitching_games").filter(day, pl.col("GS") == 1)["BF"].mean()
        return round(10 * pitching / batting), round(40 * batting / pitching)

    for before in (date(2001, 4, 10), date(2002, 1, 1), date(2004, 1, 1)):
        assert tuple(equal_games(sim_store, role, before) for role in ROLES) == expected(before)
    assert equal_games(sim_store, "batter", date(2004, 1, 1)) > 40


def test_equal_games_read_nothing_of_the_date_or_later(sim_league, tmp_path):
    cut = date(2002, 1, 1)
    tables = dict(vars(sim_league.tables))
    late = pl.col("date") >= cut
    tables["pitching_games"] = tables["pitching_games"].with_columns(pl.when(late).then(99).otherwise("BF").alias("BF"))
    other = Store.open_or_create(tmp_path / "other").add(Tables(**tables), "other")
    same = Store.open_or_create(tmp_path / "same").add(sim_league.tables, "same")
    assert equal_games(other, "batter", cut) == equal_games(same, "batter", cut)
    assert equal_games(other, "batter", date(2004, 1, 1)) > equal_games(same, "batter", date(2004, 1, 1))


def test_equal_games_of_no_play_are_refused(sim_store):
    with pytest.raises(FullcountError, match="no game with starters before 2000-01-01"):
        equal_games(sim_store, "batter", date(2000, 1, 1))


def test_equal_games_are_a_number_in_the_runs_configuration(sim_store, tmp_path):
    cut = date(2003, 1, 1)
    number = equal_games(sim_store, "batter", cut)
    encoder = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
    train = {"steps": 2, "precision": "32-true"}
    config = PretrainConfig(before=cut, batter={"games": "equal"}, encoder=encoder, batch_tokens=256, train=train)
    with pytest.raises(FullcountError, match='"equal" has no number'):
        config.window("batter")
    for _ in range(2):  # the second time it goes on with the first
        pretrain(config, sim_store, tmp_path / "encoder", progress=False)
    kept = Run(tmp_path / "encoder").config()
    assert (kept["batter"]["games"], kept["pitcher"]["games"]) == (number, 5)
    later = date(2004, 1, 1)
    fitting = FinetuneConfig(role="batter", window={"games": "equal"}, before=later, train=train)
    finetune(fitting, sim_store, tmp_path / "encoder", tmp_path / "fitted", progress=False)
    expected = Window("batter", games=equal_games(sim_store, "batter", later))
    assert load_task(tmp_path / "fitted").config.history_window() == expected


@pytest.mark.real
@pytest.mark.slow
def test_equal_games_of_2018(data_dir, tmp_path):
    """Ten starts of 2018 were 227.1 batters faced, a game of who started at bat 4.13 plate appearances."""
    tables = read_seasons(data_dir, range(2018, 2019))
    lines = Tables.of(games=tables.games, batting_games=tables.batting_games, pitching_games=tables.pitching_games)
    store = Store.open_or_create(tmp_path).add(lines, "2018")
    assert equal_games(store, "batter", date(2019, 1, 1)) == 55
