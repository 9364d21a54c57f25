"""Ways to a season: what games of a schedule do to rates, seasons simulated ahead, and nothing of the season itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from fullcount.adaptation.heads import CountHead
from fullcount.adaptation.samples import known
from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.aggregation import chance, cost, judge, ways
from fullcount.evaluation.cohorts import Cohort
from fullcount.fields import OUTCOMES
from fullcount.priors import Priors
from fullcount.projection.game_plans import plans_ahead, plans_of
from fullcount.projection.marcel import Marcel
from fullcount.projection.per_game import FromRates, PerGame, Simulated, over_games, prior_rates, season_mix
from fullcount.projection.simulation import Simulator
from fullcount.projection.system import League
from fullcount.simulated.league import SimulatedLeague, simulate
from fullcount.sources.tables import Tables
from fullcount.store import PlayerRole, Store, day_number
from fullcount.training.jobs import finetune, pretrain

TINY = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
CUTOFF = date(2004, 3, 1)
K = OUTCOMES.index("K")


@pytest.fixture(scope="module")
def sim_league() -> SimulatedLeague:
    """Seasons 2001 to 2004 of four teams: two whose targets a season head needs, one before and one after."""
    return simulate(seasons=4, teams=4, games_per_team=20, seed=5)


@pytest.fixture(scope="module")
def sim_store(sim_league: SimulatedLeague, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open_or_create(tmp_path_factory.mktemp("four") / "store").add(sim_league.tables, "sim")


@pytest.fixture(scope="module")
def runs(sim_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, game and season heads of both roles, and a next-event model, fitted before 2004."""
    out = tmp_path_factory.mktemp("runs")
    train = {"steps": 4, "precision": "32-true"}
    for name, objective in {"encoder": "masked_gamestate", "next": "next_event"}.items():
        shared = {"before": CUTOFF, "batch_tokens": 512, "encoder": TINY, "validation_days": 10}
        config = PretrainConfig(**shared, objectives=objective, train=train)
        pretrain(config, sim_store, out / name, progress=False)
    fitting = {"steps": 20, "lr": 2e-2, "validate_every": 20, "precision": "32-true"}
    for role in ("batter", "pitcher"):
        for grain in ("game", "season"):
            config = FinetuneConfig(role=role, grain=grain, before=CUTOFF, since=date(2001, 2, 1), train=fitting)
            finetune(config, sim_store, out / "encoder", out / f"{role}-{grain}", progress=False)
    return out


def per_game(store: Store, runs: Path, schedule: str) -> PerGame:
    return PerGame(store, runs / "batter-game", runs / "pitcher-game", schedule)  # type: ignore[arg-type]


def players_of(store: Store, role: PlayerRole) -> np.ndarray:
    table = "batting_games" if role == "batter" else "pitching_games"
    return store.table(table)["player"].unique().sort().to_numpy().astype(np.int64)


# -------------------------------------------------------------------------------------------------- games of a schedule

TEAMS = "ABCD"


def by_hand(strikeouts: dict[str, int], ahead: Iterable[tuple[str, str]]) -> Tables:
    """2001: everybody meets everybody 20 times at home, a hitter (1..4) and a pitcher (11..14) a team, who strikes out
    so many of 40; 2002: (home, away) games without anything but teams, days and parks."""
    games, batting, pitching = [], [], []
    day = date(2001, 4, 1)
    for home, away in [(h, a) for h in TEAMS for a in TEAMS if a != h] * 20:
        day += timedelta(days=1 if day < date(2001, 10, 1) else 0)
        game = f"{home}{away}{len(games)}"
        key = {"game_id": game, "season": 2001, "date": day, "game_type": "R", "league": "MLB"}
        games.append({**key, "home_team": home, "away_team": away, "park": home, "home_score": 4, "away_score": 4})
        for team, other in ((home, away), (away, home)):
            mine = {**key, "team": team, "opponent": other, "home": team == home, "H": 8, "HR": 1, "BB": 3}
            batting.append({**mine, "player": 1 + TEAMS.index(team), "PA": 40, "AB": 37, "SO": strikeouts[other]})
            thrown = {"BF": 40, "SO": strikeouts[team], "GS": 1, "outs": 29}
            pitching.append({**mine, "player": 11 + TEAMS.index(team), **thrown})
    for i, (home, away) in enumerate(ahead):
        key = {"game_id": f"2002{i}", "season": 2002, "date": date(2002, 4, 1), "game_type": "R", "league": "MLB"}
        games.append({**key, "home_team": home, "away_team": away, "park": home})
    batting = [{**b, "is_pitcher": False} for b in batting]
    people = [{"player": p, "bats": "R", "throws": "R"} for p in (1, 2, 3, 4, 11, 12, 13, 14)]
    return Tables.of(
        games=pl.DataFrame(games, infer_schema_length=None),
        batting_games=pl.DataFrame(batting),
        pitching_games=pl.DataFrame(pitching),
        players=pl.DataFrame(people),
    )


def met(tables: Tables, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same mix of the four hitters before and after the schedule of 2002."""
    store = Store.open_or_create(folder / "store").add(tables, "by hand")
    mix = np.tile([0.46, 0.22, 0.09, 0.14, 0.045, 0.005, 0.03, 0.01], (4, 1))
    day = day_number(date(2002, 3, 1))
    return mix, season_mix(store, Priors(store), "batter", np.arange(1, 5), mix, day, 2002)


def test_average_opponents_in_neutral_parks_are_the_average(tmp_path: Path) -> None:
    """Whoever meets whom how often, where all pitchers and parks are alike the schedule changes nothing."""
    mix, found = met(by_hand(dict.fromkeys(TEAMS, 9), [("A", "B")] * 5 + [("C", "D"), ("B", "C")]), tmp_path)
    np.testing.assert_allclose(found, mix, rtol=1e-12)


def test_who_meets_hard_opponents_only_strikes_out_more(tmp_path: Path) -> None:
    """D strikes out twice as many as the others: A meets D alone, B and C each other, and D the three of them."""
    strikeouts = {"A": 8, "B": 8, "C": 8, "D": 16}
    mix, found = met(by_hand(strikeouts, [("A", "D")] * 6 + [("B", "C")] * 6), tmp_path)
    lift = found[:, K] / mix[:, K]
    assert lift[0] > 1.2
    assert lift[1] == pytest.approx(lift[2], rel=0.02)
    assert lift[1] < 0.97
    # In logs about the mean of the teams, less what the other outcomes take: the odds-ratio method.
    others = np.delete(found / mix, K, axis=1)
    odds = lift[0] / others[0, 0] / (lift[1] / others[1, 0])
    assert odds == pytest.approx(2, rel=0.12)  # shrunken, and outs of D's batters are fewer too
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_who_has_no_games_ahead_keeps_the_average(tmp_path: Path) -> None:
    mix, found = met(by_hand({"A": 4, "B": 8, "C": 8, "D": 16}, [("A", "D")]), tmp_path)
    np.testing.assert_array_equal(found[1:3], mix[1:3])
    assert np.abs(found[[0, 3]] - mix[[0, 3]]).max() > 0.01


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_a_mean_of_games_is_one(players: int, games: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mix = rng.dirichlet(np.ones(8), players)
    factors, times = np.exp(rng.normal(0, 0.3, (players, games, 8))), rng.integers(1, 9, games)
    found = over_games(mix, factors, times)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    each = np.stack([over_games(mix, factors[:, [g]], times[[g]]) for g in range(games)])
    np.testing.assert_allclose(found, np.average(each, axis=0, weights=times), rtol=1e-12)
    np.testing.assert_allclose(over_games(mix, np.ones_like(factors), times), mix, rtol=1e-12)


def test_a_game_is_what_the_head_says_of_it(sim_store: Store) -> None:
    """Asked about an opponent, a head answers with its answer for the average times the opponent over the league."""
    priors, day = Priors(sim_store), np.full(12, day_number(CUTOFF))
    targets = known(priors, "batter", players_of(sim_store, "batter")[:12], day)
    torch.manual_seed(0)
    head = CountHead(6, 3, Priors.WIDTH, game=True)
    torch.nn.init.normal_(head.embedding.weight, std=0.1)
    x = torch.randn(12, 6)
    opponent = priors.rates("pitcher", players_of(sim_store, "pitcher")[:12], day)
    asked = replace(targets, opponent=torch.from_numpy(opponent).float())
    average, against = (head.mix(x, t).detach().numpy().astype(np.float64) for t in (targets, asked))
    factor = opponent / targets.league.numpy()
    found = over_games(average, factor[:, None], np.ones(1))
    np.testing.assert_allclose(found, against, rtol=3e-3)
    assert np.abs(average - against).max() > 0.01


@pytest.fixture(scope="module")
def planted() -> SimulatedLeague:
    return simulate(seasons=2, teams=6, games_per_team=60, seed=3)


def test_the_schedule_finds_what_is_planted(planted: SimulatedLeague, tmp_path: Path) -> None:
    """In the simulated league, one team is to meet only the staff that truly strikes out most: its hitters are told
    most of what that staff's talent does to them."""
    talent = planted.talent.filter(season=2001, role="pitcher").select("player", "team", true="K%")
    faced = planted.tables.pitching_games.filter(season=2001).group_by("player").agg(pl.col("BF").sum())
    staffs = (
        talent.join(faced, on="player").group_by("team").agg((pl.col("true") * pl.col("BF")).sum() / pl.col("BF").sum())
    )
    staffs = staffs.sort("true")
    hard, mine = staffs["team"][-1], staffs["team"][0]
    odds = staffs["true"] / (1 - staffs["true"])
    truth = float(np.log(odds[-1] / odds.mean()))  # type: ignore[operator]
    late = pl.col("season") == 2002
    games = planted.tables.games.filter(~late | (pl.col("home_team") != mine) & (pl.col("away_team") != mine))
    own = planted.tables.games.filter(late & (pl.col("home_team") == mine)).with_columns(away_team=pl.lit(hard))
    pitches = planted.tables.pitches.filter(season=2001)
    tables = replace(planted.tables, games=pl.concat([games, own]), pitches=pitches)
    store = Store.open_or_create(tmp_path / "store").add(tables, "planted")
    hitters = planted.talent.filter(season=2001, role="batter", team=mine)["player"].to_numpy().astype(np.int64)
    mix = np.tile([0.46, 0.22, 0.09, 0.14, 0.045, 0.005, 0.03, 0.01], (len(hitters), 1))
    found = season_mix(store, Priors(store), "batter", hitters, mix, day_number(date(2002, 3, 1)), 2002)
    told = np.log(found[:, K] / (1 - found[:, K]) / (mix[:, K] / (1 - mix[:, K])))
    assert truth > 0.05
    np.testing.assert_allclose(told, truth, rtol=0.5)


# -------------------------------------------------------------------------------------------------- seasons simulated


def test_a_season_ahead_sends_out_last_seasons_teams(sim_store: Store) -> None:
    plans = plans_ahead(sim_store, CUTOFF, seed=4)
    schedule = sim_store.games.filter(season=2004).sort("date", "game_id")
    assert [p.park for p in plans] == schedule["park"].to_list()
    assert {p.day for p in plans} == {CUTOFF}
    lines = sim_store.table("batting_games").filter(season=2003).group_by("team").agg(pl.col("player").unique())
    of = {t: set(p) for t, p in lines.iter_rows()}
    for plan, home, away in zip(plans, schedule["home_team"], schedule["away_team"], strict=True):
        for team, side in zip((away, home), plan.lineups, strict=True):
            assert {b for place in side for b in place} <= of[team]
    old = {side for p in plans_of(sim_store, 2003) for side in zip(p.lineups, p.pitchers, strict=True)}
    assert {side for p in plans for side in zip(p.lineups, p.pitchers, strict=True)} <= old
    assert plans != plans_ahead(sim_store, CUTOFF, seed=5)


def test_simulated_rates_are_kept(
    sim_store: Store, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = Simulated(sim_store, runs / "next", tmp_path, replays=1, least=20)
    for role, n in (("batter", 40), ("pitcher", 15)):
        players = players_of(sim_store, role)
        found = simulated(role, players, CUTOFF)
        told = np.isfinite(found[:, 0])
        assert told.sum() >= n
        assert not told.all()
        assert ((found[told, :7] >= 0) & (found[told, :7].sum(axis=1, keepdims=True) < 1)).all()
        lines = simulated.lines(role, CUTOFF).filter(pl.col("n") >= 20)
        assert sorted(players[told]) == lines["player"].to_list()
        np.testing.assert_allclose(found[told, 0] * lines["n"].to_numpy(), lines["K"].to_numpy())
    assert simulated.seconds(CUTOFF) > 0
    monkeypatch.setattr(Simulator, "games", lambda *_: pytest.fail("played again"))
    again = Simulated(sim_store, runs / "next", tmp_path, replays=1, least=20)
    np.testing.assert_array_equal(again("pitcher", players, CUTOFF), found)
    # Another model, and other games in lockstep, are another season, whatever the folder is called.
    with pytest.raises(pytest.fail.Exception, match="played again"):
        Simulated(sim_store, runs / "next", tmp_path, replays=1, least=20, rows=512)("pitcher", players, CUTOFF)
    retrained = shutil.copytree(runs / "next", tmp_path / "next")
    weights = retrained / "weights.safetensors"
    with safe_open(weights, framework="pt") as file:
        save_file({n: -file.get_tensor(n) for n in file.keys()}, weights, file.metadata())  # noqa: SIM118
    with pytest.raises(pytest.fail.Exception, match="played again"):
        Simulated(sim_store, retrained, tmp_path, replays=1, least=20)("pitcher", players, CUTOFF)


# ---------------------------------------------------------------------------------------------------------- as systems


def test_games_and_the_season_are_asked_in_the_same_playing_time(sim_store: Store, runs: Path, tmp_path: Path) -> None:
    simulated = Simulated(sim_store, runs / "next", tmp_path, replays=1, least=20)
    pairs = [(runs / f"batter-{g}", runs / f"pitcher-{g}") for g in ("season", "game")]
    systems = ways(sim_store, pairs[0], pairs[1], simulated)
    league = League.of(sim_store)
    marcel = Marcel().project(CUTOFF, league)
    for one in systems:
        said = one.project(CUTOFF, league)
        assert said.hitters.height > 30, one.name
        same = said.hitters.join(marcel.hitters, on="player", suffix="_marcel", maintain_order="left")
        assert same["PA"].equals(same["PA_marcel"]), one.name
        same = said.pitchers.join(marcel.pitchers, on="player", suffix="_marcel", maintain_order="left")
        assert same["IP"].equals(same["IP_marcel"]), one.name
    result = judge(systems, league, [2004], draws=20, cohort=Cohort("short", {"hitters": 20, "pitchers": 5}))
    counts = result.table.group_by("role", "stat").agg(pl.col("n").n_unique(), pl.col("system").n_unique())
    assert counts["n"].to_list() == [1] * counts.height
    assert set(counts["system"]) == {len(systems)}
    assert cost(systems, simulated, [2004])["seconds a player"].min() > 0
    assert chance(simulated, league, [2004], least=20)["r times"].is_between(0, 1).all()


def test_the_mean_of_games_is_the_heads_rates(sim_store: Store, runs: Path) -> None:
    """Without a schedule the two agree; with one outcomes move, and what no opponent changes stays."""
    players = players_of(sim_store, "batter")
    average, real = (per_game(sim_store, runs, s)("batter", players, CUTOFF) for s in ("average", "real"))
    told = np.isfinite(average[:, 0])
    assert told.any()
    assert (np.isfinite(real[:, 0]) == told).all()
    assert np.abs(real[told, :7] - average[told, :7]).max() > 1e-3
    np.testing.assert_array_equal(real[told, 7:], average[told, 7:])
    late = date(2005, 3, 1)  # a season without games
    average, real = (
        per_game(sim_store, runs, s)("pitcher", players_of(sim_store, "pitcher"), late) for s in ("average", "real")
    )
    np.testing.assert_allclose(real, average, rtol=1e-5)


def test_the_prior_alone_speaks_for_who_has_played(sim_store: Store) -> None:
    said = prior_rates(sim_store)
    players = np.append(players_of(sim_store, "batter")[:3], 999_999)
    found = said("batter", players, CUTOFF)
    assert np.isfinite(found[:3]).all()
    assert np.isnan(found[3]).all()
    system = FromRates(sim_store, name="prior", said=said)
    hitters = system.project(CUTOFF, League.of(sim_store)).hitters.filter(pl.col("player") == players[0])
    np.testing.assert_allclose(hitters["SO"] / hitters["PA"], found[0, 0])


def test_of_the_season_only_the_schedule_is_read(
    sim_league: SimulatedLeague, sim_store: Store, runs: Path, tmp_path: Path
) -> None:
    tables = sim_league.tables
    cut = {n: f.filter(pl.col("date") < CUTOFF) for n, f in tables.__dict__.items() if "date" in f.columns}
    nobody = [
        pl.lit(None, tables.games[c].dtype).alias(c)
        for c in ("home_score", "away_score", "home_starter", "away_starter")
    ]
    cut["games"] = pl.concat([cut["games"], tables.games.filter(pl.col("date") >= CUTOFF).with_columns(nobody)])
    other = Store.open_or_create(tmp_path / "store").add(replace(tables, **cut), "sim")
    assert plans_ahead(other, CUTOFF) == plans_ahead(sim_store, CUTOFF)
    for role in ("batter", "pitcher"):
        players, day = players_of(sim_store, role), day_number(CUTOFF)
        mix = np.full((len(players), 8), 1 / 8)
        found = [season_mix(s, Priors(s), role, players, mix, day, 2004) for s in (sim_store, other)]
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(
            per_game(other, runs, "real")(role, players, CUTOFF),
            per_game(sim_store, runs, "real")(role, players, CUTOFF),
            rtol=1e-4,
        )
    # And the schedule is: half of the teams do not meet any more.
    fewer = cut["games"].filter((pl.col("date") < CUTOFF) | (pl.col("home_team") < pl.col("away_team")))
    third = Store.open_or_create(tmp_path / "third").add(replace(tables, **{**cut, "games": fewer}), "sim")
    assert np.abs(season_mix(third, Priors(third), role, players, mix, day, 2004) - found[0]).max() > 1e-4


# ----------------------------------------------------------------------------------------------------------- bad input


def test_wrong_runs_and_dates_are_refused(sim_store: Store, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(FullcountError, match="batter-season: fitted for batters at season grain"):
        PerGame(sim_store, runs / "batter-season", runs / "pitcher-game")
    with pytest.raises(FullcountError, match="fitted for pitchers at game grain"):
        PerGame(sim_store, runs / "pitcher-game", runs / "pitcher-game")
    with pytest.raises(FullcountError, match="next_event"):
        Simulated(sim_store, runs / "encoder", tmp_path)
    early = date(2004, 2, 1)
    with pytest.raises(FullcountError, match="trained on play up to 2004-03-01"):
        per_game(sim_store, runs, "average")("batter", np.array([1]), early)
    with pytest.raises(FullcountError, match="has seen play up to 2004-03-01"):
        Simulated(sim_store, runs / "next", tmp_path)("batter", np.array([1]), early)
    with pytest.raises(FullcountError, match="no schedule"):
        plans_ahead(sim_store, date(2007, 3, 1))
