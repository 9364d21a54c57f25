"""Game lines: golden sums, planted starters and hitters, the leak gate, P(over), and what is said of bad input."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import poisson
from typer.testing import CliRunner

from fullcount.cli import app
from fullcount.errors import FullcountError
from fullcount.evaluation.starts import ceiling, judge, known, other_counts, reliability
from fullcount.priors import Priors
from fullcount.projection.export import IDS
from fullcount.projection.game_lines import OVER, POINTS, _pitcher, game_lines, read_schedule, store_schedule
from fullcount.projection.match_ups import hand_factors
from fullcount.projection.starts import COUNTS, KEYS, decayed, dispersion, expected, facts, log_score, over, played
from fullcount.simulated.league import SimulatedLeague
from fullcount.sources.tables import Tables
from fullcount.store import Store

DAY = date(2003, 6, 1)


def test_golden_decayed() -> None:
    asked = pl.DataFrame({"player": [1, 1, 2, 1], "as_of": [DAY, DAY + timedelta(10), DAY, DAY - timedelta(99)]})
    lines = pl.DataFrame(
        {
            "player": [1, 1, 1, 2],
            "date": [DAY - timedelta(20), DAY - timedelta(10), DAY, DAY],  # the day itself is not before the day
            "SO": [8, 4, 100, 5],
        }
    )
    got = decayed(lines, asked, ["player"], ["SO"], half_life=10)["SO"]
    assert got == pytest.approx([8 / 4 + 4 / 2, 8 / 8 + 4 / 4 + 100 / 2, 0, 0])


def test_golden_base(sim_store: Store) -> None:
    """`m:` is a shrunken rate times batters faced of late: the league's mean start and his own, halved in 100 days."""
    priors = Priors(sim_store)
    made = played(sim_store, priors.league_name)
    asked = facts(sim_store, priors, made.filter(pl.col("season") == 2003))
    row = asked.row(-1, named=True)
    own = made.filter((pl.col("player") == row["player"]) & (pl.col("date") < row["date"]))
    weight = [0.5 ** ((row["date"] - d).days / 100) for d in own["date"]]
    usual = decayed(
        made.with_columns(n=1.0, league=pl.lit("x")),
        pl.DataFrame({"league": "x", "as_of": [row["date"]]}), ["league"], ["n", "BF"], 30.0,
    )  # fmt: skip
    faced = (float(np.dot(weight, own["BF"])) + usual["BF"][0] / usual["n"][0]) / (sum(weight) + 1)
    assert row["m:BF"] == pytest.approx(faced)
    walks = priors.rates("pitcher", np.array([row["player"]]), np.array([(row["date"] - date(1970, 1, 1)).days]))[0, 2]
    assert row["m:BB"] == pytest.approx(walks * faced)


def planted(n: int = 4000, seasons: int = 4) -> pl.DataFrame:
    """Facts of starts in which strikeouts are what `m:` says, and half as many again where a fact is 1."""
    rng = np.random.default_rng(0)
    mean, fact = rng.uniform(3, 7, n), rng.integers(0, 2, n)
    return pl.DataFrame(
        {
            "season": np.arange(n) * seasons // n + 2010,
            "m:SO": mean,
            "x:fact": fact.astype(float),
            "x:noise": rng.normal(size=n),
            "truth": mean * (1 + 0.5 * fact),
            "SO": rng.poisson(mean * (1 + 0.5 * fact)).astype(float),
        }
    )


def test_trees_find_what_is_planted() -> None:
    starts = planted()
    now = starts.filter(pl.col("season") == 2013)
    error = np.abs(expected(starts, now, "SO") - now["truth"].to_numpy())
    assert error.mean() < 0.15 * np.abs(now["m:SO"] - now["truth"]).mean()  # type: ignore[operator]


def test_trees_learn_from_earlier_seasons_alone() -> None:
    starts = planted()
    now = starts.filter(pl.col("season") == 2012)
    spoilt = starts.with_columns(pl.when(pl.col("season") >= 2012).then(99.0).otherwise("SO").alias("SO"))
    assert np.array_equal(expected(starts, now, "SO"), expected(spoilt, now, "SO"))
    first = starts.filter(pl.col("season") == 2010)
    assert np.array_equal(expected(starts, first, "SO"), first["m:SO"])  # nothing to learn from


@given(
    mean=st.floats(0.2, 15), a=st.floats(0, 1), line=st.integers(0, 12).map(lambda x: x + 0.5), more=st.floats(0.01, 5)
)
def test_over_is_a_distribution(mean: float, a: float, line: float, more: float) -> None:
    def p(m: float, x: float) -> float:
        return float(over(np.array([m]), x, a)[0])

    assert 0 <= p(mean, line + 1) <= p(mean, line) <= p(mean + more, line) + 1e-12
    mass = np.exp(log_score(np.full(401, mean), np.arange(401.0), a))
    assert p(mean, line) == pytest.approx(mass[int(line) + 1 :].sum(), abs=1e-6)
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    assert mass @ np.arange(401) == pytest.approx(mean, rel=1e-4)


def test_golden_spread() -> None:
    assert over(np.array([5.0]), 5.5, 0.0)[0] == pytest.approx(poisson.sf(5, 5.0), abs=1e-4)
    rng = np.random.default_rng(3)
    mean = rng.uniform(3, 7, 20000)
    assert dispersion(mean, rng.poisson(mean).astype(float)) < 0.01
    clumped = rng.poisson(mean * rng.gamma(5.0, 0.2, len(mean))).astype(float)
    assert dispersion(mean, clumped) == pytest.approx(0.2, abs=0.02)
    with pytest.raises(FullcountError, match="no starts"):
        dispersion(np.zeros(0), np.zeros(0))


def test_hands_are_what_is_beyond_both_means() -> None:
    """Left-handers strike left-handed batters out half as often again as either mean says; of right-handers nothing."""
    rows = []
    for bats in "LR":
        for throws in "LR":
            k = 300 if bats == throws == "L" else 200
            rows += [(bats, throws, "K", k), (bats, throws, "OUT", 1000 - k)]
    table = hand_factors(pl.DataFrame(rows, schema=["bats", "throws", "outcome", "len"], orient="row"))
    of = {(r["bats"], r["throws"]): r["K"] for r in table.iter_rows(named=True)}
    assert of["L", "L"] == pytest.approx(0.3 * 0.225 / 0.25**2)
    assert of["R", "L"] == pytest.approx(0.2 * 0.225 / (0.2 * 0.25))
    same = table.filter((pl.col("bats") == "L") & (pl.col("throws") == "L"))
    assert same["HR"].item() == 1.0  # never happened: nothing known


def spoilt(tables: Tables, day: date) -> Tables:
    """The same games, with other things happening in them from `day` on; who starts is kept."""
    late = pl.col("date") >= day
    games = tables.games.with_columns(
        pl.when(late).then(9).otherwise(pl.col(c)).cast(pl.Int16).alias(c) for c in ("home_score", "away_score")
    )
    lines = {
        name: getattr(tables, name).with_columns(
            pl.when(late).then(pl.col(c) + 3).otherwise(pl.col(c)).alias(c) for c in ("H", "SO", "BB", "HR", counted)
        )
        for name, counted in (("batting_games", "PA"), ("pitching_games", "BF"))
    }
    calls = tables.pitches.with_columns(call=pl.when(late).then(pl.lit("swinging_strike")).otherwise("call"))
    turns = tables.plate_appearances.with_columns(event=pl.when(late).then(pl.lit("strikeout")).otherwise("event"))
    changed = {"games": games, "pitches": calls, "plate_appearances": turns, **lines}
    return Tables(**{n: changed.get(n, getattr(tables, n)) for n in Tables.__dataclass_fields__})


@pytest.fixture(scope="module")
def days(sim_store: Store) -> list[date]:
    return sim_store.games.filter(pl.col("season") == 2003)["date"].unique().sort().to_list()


def test_nothing_of_the_day_or_later_is_read(sim_league: SimulatedLeague, days: list[date], tmp_path: Path) -> None:
    day = days[8]
    stores = [
        Store.open_or_create(tmp_path / name).add(tables, "sim")
        for name, tables in (("real", sim_league.tables), ("spoilt", spoilt(sim_league.tables, day)))
    ]
    real, other = (game_lines(s, store_schedule(s, day, 14), day) for s in stores)
    assert real.pitchers.height == 8
    assert real.hitters.height >= 2 * 4 * 7
    assert_frame_equal(real.pitchers, other.pitchers)
    assert_frame_equal(real.hitters, other.hitters)
    # The gate can fail: a day later they differ.
    later = [game_lines(s, store_schedule(s, days[9]), days[9]) for s in stores]
    assert not later[0].pitchers.equals(later[1].pitchers)
    assert not later[0].hitters.equals(later[1].hitters)


def test_lists(sim_store: Store, days: list[date]) -> None:
    found = game_lines(sim_store, store_schedule(sim_store, days[4], 60), days[4])
    for table, role in ((found.pitchers, "pitchers"), (found.hitters, "hitters")):
        assert table["points"].is_sorted(descending=True)
        assert table["Name"].null_count() == 0
        row = table.row(0, named=True)
        assert row["points"] == pytest.approx(sum(row[c] * w for c, w in POINTS[role].items()))
        assert table.select(pl.col("^(PA|BF|H|SO|BB|HR|SB|ER)$") > 0).min().row(0) == (True,) * len(
            table.select("^(PA|BF|H|SO|BB|HR|SB|ER)$").columns
        )
    chances = found.pitchers.select(f"P(SO>{x})" for x in OVER).to_numpy()
    assert (np.diff(chances, axis=1) < 0).all()
    assert found.hitters["GS%"].is_between(0.3, 1.0 + 1e-9).all()
    twice = found.two_starts()
    once = found.pitchers.filter(pl.col("MLBAMID") == twice["MLBAMID"][0])
    assert twice["games"][0] == once.height > 1
    assert twice["SO"][0] == pytest.approx(once["SO"].sum())
    met = [
        f"{d:%m-%d} {'' if h else '@'}{o}" for d, h, o in once.sort("date").select("date", "home", "opponent").rows()
    ]
    assert twice["opponents"][0] == ", ".join(met)
    names = dict(found.pitchers.select("MLBAMID", "Name").rows())
    assert {names[p] for p in found.hitters["against MLBAMID"]} == set(found.hitters["against"])
    assert set(twice["MLBAMID"]) == {p for (p,), part in found.pitchers.group_by("MLBAMID") if part.height > 1}


def test_better_players_have_better_lines(sim_league: SimulatedLeague, sim_store: Store, days: list[date]) -> None:
    """What the league's players have in them: expected strikeouts go with the strikeouts that follow."""
    priors = Priors(sim_store)
    lines = facts(sim_store, priors, played(sim_store, priors.league_name).filter(pl.col("season") == 2003))
    sums = lines.group_by("player").agg(pl.len().alias("n"), pl.col("m:SO", "m:BF", "SO", "BF").sum())
    rate = sums.select("n", (pl.col("m:SO") / pl.col("m:BF")).alias("m:SO"), y=pl.col("SO") / pl.col("BF"))
    rate = rate.filter(pl.col("n") >= 4)
    assert np.corrcoef(rate["m:SO"], rate["y"])[0, 1] > 0.4


def test_a_second_start_rests_since_the_first(sim_store: Store, days: list[date]) -> None:
    priors = Priors(sim_store)
    one = played(sim_store, priors.league_name).filter(pl.col("date") == days[6]).head(1).select(KEYS)
    week = pl.concat([one, one.with_columns(date=pl.col("date") + timedelta(5))])
    asked = facts(sim_store, priors, week)
    assert asked["x:days since start"][1] == 5
    assert asked["x:days since game"][1] == 5
    assert asked["x:days since start"][0] > 5


def test_a_schedule_of_ones_own(sim_store: Store, days: list[date], tmp_path: Path) -> None:
    games = store_schedule(sim_store, days[6])
    names = sim_store.table("players").filter(pl.col("player") == games["home_pitcher"][0]).row(0, named=True)
    path = tmp_path / "week.csv"
    path.write_text(
        "date,home,away,home_pitcher,away_pitcher\n"
        f"{days[6]},{games['home'][0]},{games['away'][0]},{names['first_name']} {names['last_name']},\n"
        f"2003-12-24,{games['home'][0]},{games['away'][0]},,\n"
    )
    schedule = read_schedule(path, sim_store, days[6])
    assert schedule.height == 1
    assert schedule["home_pitcher"].to_list() == [games["home_pitcher"][0]]
    own, real = (game_lines(sim_store, s, days[6]) for s in (schedule, games))
    assert own.pitchers.height == 1
    who = pl.col("MLBAMID") == games["home_pitcher"][0]
    assert_frame_equal(own.pitchers, real.pitchers.filter(who))
    path.write_text(path.read_text().upper().replace("DATE,HOME,AWAY,HOME_PITCHER,AWAY_PITCHER", "date,home,away,x,y"))
    unnamed = game_lines(sim_store, read_schedule(path, sim_store, days[6]), days[6])  # nobody is named yet
    assert unnamed.pitchers.is_empty()
    assert unnamed.pitchers.columns == real.pitchers.columns
    assert unnamed.hitters["against"].null_count() == unnamed.hitters.height > 0
    facing_nobody = own.hitters.filter(pl.col("Team") == games["home"][0])
    assert facing_nobody["against MLBAMID"].null_count() == facing_nobody.height > 0
    assert facing_nobody["H"].is_finite().all()


def test_same_player_and_team_as_in_a_projection(sim_league: SimulatedLeague, days: list[date], tmp_path: Path) -> None:
    """With real teams' codes: the files of `project` and `games` join, and a schedule may be written either way."""
    codes = {"T01": "NYA", "T02": "SDN", "T03": "CHA", "T04": "TOR"}
    teams = ("home_team", "away_team", "team", "opponent")
    tables = {n: getattr(sim_league.tables, n) for n in Tables.__dataclass_fields__}
    coded = {n: t.with_columns(pl.col(c).replace(codes) for c in teams if c in t.columns) for n, t in tables.items()}
    store = Store.open_or_create(tmp_path / "s").add(Tables(**coded), "sim")
    for name, args in {
        "project": ["2003", "--out", str(tmp_path / "project")],
        "games": ["--date", str(days[0]), "--days", "60", "--two-starts", "--out", str(tmp_path / "games")],
    }.items():
        result = CliRunner().invoke(app, [name, *args, "--store", str(store.root)])
        assert result.exit_code == 0, result.output
    for role in ("hitters", "pitchers"):
        season, games = (pl.read_csv(tmp_path / of / f"{role}.csv") for of in ("project", "games"))
        both = games.join(season, on="MLBAMID", suffix=" projected")
        assert both.height >= 8
        for c in ("Name", "NameASCII", "Team"):
            assert both[c].to_list() == both[f"{c} projected"].to_list()
        assert games.columns[-3:] == season.columns[-3:] == list(IDS)
        assert set(games["Team"]) == set(games["opponent"]) == {"NYY", "SDP", "CHW", "TOR"}
    met = " ".join(pl.read_csv(tmp_path / "games" / "two_starts.csv")["opponents"])
    assert "SDP" in met
    assert "SDN" not in met
    ahead = [tmp_path / "fangraphs.csv", tmp_path / "retrosheet.csv"]
    for path, (home, away) in zip(ahead, (("NYY", "SDP"), ("NYA", "SDN")), strict=True):
        path.write_text(f"date,home,away\n{days[0]},{home},{away}\n")
    assert_frame_equal(*(read_schedule(path, store, days[0]) for path in ahead))


def test_names_of_pitchers(sim_store: Store, days: list[date], tmp_path: Path) -> None:
    """However they are spelled; two of one name are told apart by id."""
    game = store_schedule(sim_store, days[6]).row(0, named=True)
    players = sim_store.table("players")
    row = players.filter(player=game["home_pitcher"]).row(0, named=True)
    path = tmp_path / "week.csv"
    text = "date,home,away,home_pitcher\n{},{},{},{}\n"
    path.write_text(
        text.format(days[6], game["home"], game["away"], f" {row['first_name']} {row['last_name']}".upper())
    )
    assert read_schedule(path, sim_store, days[6])["home_pitcher"].item() == game["home_pitcher"]
    ids = {"will smith": {5: 2019, 7: 2024}}
    with pytest.raises(
        FullcountError, match=r"2 pitchers are called 'Will Smith': .* 5 \(until 2019\), 7 \(until 2024\)"
    ):
        _pitcher("Will Smith", ids, path)


def test_a_traded_hitter_is_listed_at_once(sim_league: SimulatedLeague, days: list[date], tmp_path: Path) -> None:
    """With his new team, after one game for it."""
    lines = sim_league.tables.batting_games
    regulars = lines.filter(pl.col("starter"), pl.col("date") == days[9], pl.col("team") == "T01")
    other = lines.filter(pl.col("date") == days[9], pl.col("team") != "T01")["team"][0]
    moved = (pl.col("player") == regulars["player"][0]) & (pl.col("date") == days[9])
    traded = lines.with_columns(team=pl.when(moved).then(pl.lit(other)).otherwise("team"))
    store = Store.open_or_create(tmp_path / "s").add(
        dataclasses.replace(sim_league.tables, batting_games=traded), "sim"
    )
    hitters = game_lines(store, store_schedule(store, days[10], 3), days[10]).hitters
    his = hitters.filter(MLBAMID=regulars["player"][0])
    assert set(his["Team"]) == {other}
    assert his["GS%"].is_between(0.5, 1.0).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,home,away\n2003-07-01,T01,T99\n", "no team 'T99'"),
        ("date,home,away,park\n2003-07-01,T01,T02,MOON\n", "no park 'MOON'"),
        ("date,home,away,home_pitcher\n2003-07-01,T01,T02,Nobody Atall\n", "'Nobody Atall': no such pitcher"),
        ("date,home,away\n1 July,T01,T02\n", "needs a date"),
        ("day,home,away\n2003-07-01,T01,T02\n", "no column date"),
        ("date,home,away\n2003-08-01,T01,T02\n", "no games on 2003-07-01"),
        ("", "not a readable CSV"),
    ],
)
def test_bad_schedules(sim_store: Store, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "week.csv"
    path.write_text(text)
    with pytest.raises(FullcountError, match=said):
        read_schedule(path, sim_store, date(2003, 7, 1))


def test_bad_days(sim_store: Store, days: list[date]) -> None:
    with pytest.raises(FullcountError, match="no regular-season games"):
        store_schedule(sim_store, date(2003, 12, 24))
    with pytest.raises(FullcountError, match="before"):
        game_lines(sim_store, store_schedule(sim_store, days[0]), days[1])
    first = sim_store.games["date"].min()
    with pytest.raises(FullcountError, match="no games before"):
        game_lines(sim_store, store_schedule(sim_store, first), first)  # type: ignore[arg-type]


def test_command(sim_store: Store, days: list[date], tmp_path: Path) -> None:
    given = ["games", "--store", str(sim_store.root), "--out", str(tmp_path / "out"), "--days", "60", "--two-starts"]
    result = CliRunner().invoke(app, [*given, "--date", str(days[4])])
    assert result.exit_code == 0, result.output
    for name, column in (("pitchers", "P(SO>5.5)"), ("hitters", "RBI"), ("two_starts", "games")):
        assert column in pl.read_csv(tmp_path / "out" / f"{name}.csv").columns
    assert "given that they start" in " ".join(result.output.split())
    assert "\ufeff" in (tmp_path / "out" / "hitters.csv").read_text(encoding="utf-8")  # or Excel spoils accents
    wrong = CliRunner().invoke(app, [*given, "--date", "2003-12-24"])
    assert wrong.exit_code == 2
    assert "give a --schedule" in wrong.output.replace("\n", " ")


def test_judging(sim_store: Store) -> None:
    starts = known(sim_store, [2003])
    table, sure = judge(sim_store, starts, [2003], draws=20)
    assert table["system"].to_list() == ["ten lines", "trees", "trees, line-up"]
    assert table["n"].unique().to_list() == [80]
    assert table["gain"][0] == 0
    assert reliability(sure)["n"].sum() == sure.height == 80 * 2 * 3
    with pytest.raises(FullcountError, match="no starts of 2000, which judging 2002 needs"):
        known(sim_store, [2002])
    assert other_counts(starts, [2003])["count"].to_list() == [c for c in COUNTS if c != "SO"]


def test_ceiling_is_the_share_between_pitchers() -> None:
    rng = np.random.default_rng(1)
    pitchers, each = 300, 30
    rate = rng.uniform(0.1, 0.4, pitchers).repeat(each)
    k = rng.binomial(24, rate).astype(float)
    starts = pl.DataFrame({"season": 2019, "player": np.arange(pitchers).repeat(each), "SO": k, "BF": 24.0})
    row = ceiling(starts).row(0, named=True)
    truth = np.var(24 * rate) / k.var()
    assert row["pitcher"] == pytest.approx(truth, abs=0.02)
    assert row["batters faced too"] == pytest.approx(truth, abs=0.02)  # here they are always 24
