"""The schedule as features: a four-team season by hand, the league's average as zeros, and nothing of games to come."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from fullcount.adaptation.samples import known, samples
from fullcount.adaptation.schedule import (
    NAMES,
    PARK_PA,
    SCALE,
    WIDTH,
    meetings,
    park_factors,
    schedule_features,
    scheduled,
)
from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.model.transformer import EncoderConfig
from fullcount.priors import Priors
from fullcount.projection.contextual import Contextual
from fullcount.projection.system import League
from fullcount.simulated.league import SimulatedLeague
from fullcount.sources.tables import Tables
from fullcount.store import Store, day_number
from fullcount.training.jobs import finetune, load_task, pretrain
from fullcount.windows import History, Window

#: Teams A to D: a hitter each (1..4) and a pitcher each (11..14); A and C throw left-handed, the first two bat so.
TEAMS = "ABCD"
HAND = {11: "L", 12: "R", 13: "L", 14: "R", 1: "L", 2: "L", 3: "R", 4: "B"}
#: Games at home of the season to come: A meets B eight times, C four times and D twice; so do the others mirror it.
MEETINGS = {("A", "B"): 8, ("A", "C"): 4, ("A", "D"): 2, ("B", "C"): 2, ("B", "D"): 4, ("C", "D"): 8}
AS_OF = day_number(date(2002, 3, 1))


def league() -> Tables:
    """2001: everybody meets everybody 20 times at home; twice the runs and home runs in A's park. 2002: MEETINGS."""
    games, batting, pitching = [], [], []
    day = date(2001, 4, 1)
    strikeouts = {"A": 12, "B": 8, "C": 8, "D": 4}  # by the team's pitcher in 40 plate appearances
    for home in TEAMS:
        for away in TEAMS.replace(home, ""):
            for _ in range(20):
                day += timedelta(days=1)
                lively = 2 if home == "A" else 1
                game = f"{home}{day:%Y%m%d}0"
                key = {"game_id": game, "season": 2001, "date": day, "game_type": "R", "league": "MLB"}
                games.append({**key, "home_team": home, "away_team": away, "park": f"P{home}", "home_score": 4 * lively,
                              "away_score": 4 * lively, "home_starter": 11, "away_starter": 12})  # fmt: skip
                for team, other in ((home, away), (away, home)):
                    mine = {**key, "team": team, "opponent": other, "home": team == home}
                    out = strikeouts[other]
                    batting.append({**mine, "player": 1 + TEAMS.index(team), "PA": 40, "AB": 40, "H": 8, "HR": lively,
                                    "SO": out, "BB": 0, "is_pitcher": False})  # fmt: skip
                    pitching.append({**mine, "player": 11 + TEAMS.index(team), "BF": 40, "H": 8, "HR": lively,
                                     "SO": strikeouts[team], "BB": 0, "GS": 1, "outs": 32})  # fmt: skip
    day = date(2002, 4, 1)
    for (home, away), times in MEETINGS.items():
        for i in range(times):
            host, guest = (home, away) if i % 2 else (away, home)
            day += timedelta(days=1)
            key = {"game_id": f"{host}{day:%Y%m%d}0", "season": 2002, "date": day, "game_type": "R", "league": "MLB"}
            games.append({**key, "home_team": host, "away_team": guest, "park": f"P{host}", "home_score": 9})
    people = [{"player": p, "birth_date": date(1975, 1, 1), "bats": h, "throws": h} for p, h in HAND.items()]
    return Tables.of(
        games=pl.DataFrame(games, infer_schema_length=None),
        batting_games=pl.DataFrame(batting),
        pitching_games=pl.DataFrame(pitching),
        players=pl.DataFrame(people),
    )


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open_or_create(tmp_path_factory.mktemp("four") / "store").add(league(), "four teams")


def feature(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    return x[:, NAMES.index(name)] / SCALE


def test_who_meets_whom(four: Store) -> None:
    found = meetings(four, "MLB", 2002)
    counts = {(t, o): n for t, o, n in found.group_by("team", "opponent").len().iter_rows()}
    assert counts == {**MEETINGS, **{(b, a): n for (a, b), n in MEETINGS.items()}}
    assert found.columns == ["team", "opponent", "park"]


def test_park_factors_by_hand(four: Store) -> None:
    """A's park: twice the home runs of A's road games, believed by n / (n + PARK_PA) of 60 games of 80 PA."""
    table = {p: r for p, *r in park_factors(four, "MLB", 2002).iter_rows()}
    n = 60 * 80
    runs, homers, outs = table["PA"]
    assert homers == pytest.approx(np.log((240 + 0.5) / (120 + 0.5)) * n / (n + PARK_PA))
    assert runs == pytest.approx(np.log((960 + 0.5) / (480 + 0.5)) * n / (n + PARK_PA))
    assert outs == pytest.approx(0, abs=1e-9)
    # B is on the road in A's park a third of the time, so that its own park looks quieter.
    assert table["PB"][1] == pytest.approx(np.log((120 + 0.5) / (160 + 0.5)) * n / (n + PARK_PA))
    assert park_factors(four, "MLB", 2001).is_empty()


def test_a_four_team_schedule_by_hand(four: Store) -> None:
    priors = Priors(four)
    x = schedule_features(four, priors, "batter", np.array([1, 2, 3, 4]), AS_OF, 2002)
    ratio = priors.features("pitcher", np.arange(11, 15), np.full(4, AS_OF))[:, 0].astype(float)  # of strikeouts
    assert ratio[0] > ratio[1] > ratio[3]
    assert ratio[1] == pytest.approx(ratio[2], abs=1e-3)
    met = np.array([[0, 8, 4, 2], [8, 0, 2, 4], [4, 2, 0, 8], [2, 4, 8, 0]]) / 14
    mean = met @ ratio
    np.testing.assert_allclose(feature(x, "mean:K"), mean - mean.mean(), atol=1e-7)
    spread = np.sqrt(met @ ratio**2 - mean**2)
    np.testing.assert_allclose(feature(x, "spread:K"), spread - spread.mean(), atol=1e-6)
    left = met @ np.array([1, 0, 1, 0])  # share of left-handed pitchers
    np.testing.assert_allclose(
        feature(x, "same_hand"), [*(left - left.mean())[:2], -(left - left.mean())[2], 0], atol=1e-7
    )
    homers = np.array([r[2] for r in park_factors(four, "MLB", 2002).iter_rows()])
    ahead = 0.5 * homers + 0.5 * met @ homers  # half of the games of each pair at either home
    np.testing.assert_allclose(feature(x, "park:HR"), ahead - ahead.mean(), atol=1e-7)
    past = (np.full((4, 4), 1 / 6) + np.eye(4) / 3) @ homers
    np.testing.assert_allclose(feature(x, "change:HR"), ahead - past, atol=1e-7)
    np.testing.assert_allclose(feature(x, "division"), 0, atol=1e-12)  # 8 of 14 for each of them
    pitchers = schedule_features(four, priors, "pitcher", np.array([11, 12, 13, 14]), AS_OF, 2002)
    right = met @ np.array([0, 0, 1, 0])  # hitter 3; hitter 4 bats from both sides
    lefty = met @ np.array([1, 1, 0, 0])
    want = np.where([True, False] * 2, lefty - lefty.mean(), right - right.mean())
    np.testing.assert_allclose(feature(pitchers, "same_hand"), want, atol=1e-7)


def test_the_average_and_the_unknown_are_zero(four: Store) -> None:
    priors = Priors(four)
    who = np.array([1, 99])
    assert not schedule_features(four, priors, "batter", who, AS_OF, 2003).any()  # no game of 2003 yet
    assert not schedule_features(four, priors, "batter", who, AS_OF, 2002)[1].any()  # never seen
    assert np.isfinite(schedule_features(four, priors, "batter", who, day_number(date(2001, 3, 1)), 2001)).all()


def asked(store: Store) -> tuple[History, Priors]:
    return History(store, Window("batter", games=20)), Priors(store)


def test_samples_carry_the_schedule_behind_the_prior(sim_store: Store) -> None:
    history, priors = asked(sim_store)
    plain = samples(sim_store, history, priors, "season", since=date(2002, 1, 1), before=date(2004, 1, 1))
    assert scheduled(plain, sim_store, priors, "none") is plain
    for name in ("real", "average"):
        found = scheduled(plain, sim_store, priors, name)
        assert torch.equal(found.targets.features[:, :-WIDTH], plain.targets.features)
        assert torch.equal(found.targets.counts, plain.targets.counts)
        assert found.targets.features[:, -WIDTH:].any() == (name == "real")
    means = scheduled(plain, sim_store, priors, "real").targets.features[:, -WIDTH:]
    assert 0.05 < means.std() < 5  # of order one


def spoilt(tables: Tables, day: date) -> Tables:
    """Of games on or after `day` only date, teams and parks are left as they were; who plays there is another."""
    late = pl.col("date") >= day
    games = tables.games.with_columns(
        *(pl.when(late).then(pl.col(c) * 3 + 5).otherwise(c).alias(c) for c in ("home_score", "away_score")),
        *(pl.when(late).then(pl.col(c).reverse()).otherwise(c).alias(c) for c in ("home_starter", "away_starter")),
    )
    lines = {
        n: getattr(tables, n).filter(~late) for n in ("pitches", "plate_appearances", "batting_games", "pitching_games")
    }
    return replace(tables, games=games, **lines)


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_only_teams_and_parks_of_games_to_come_are_read(
    sim_league: SimulatedLeague, sim_store: Store, tmp_path: Path, role: str
) -> None:
    other = Store.open_or_create(tmp_path / "spoilt").add(spoilt(sim_league.tables, date(2003, 3, 1)), "spoilt")
    players = np.unique(sim_store.appearances(role).player).astype(np.int64)  # type: ignore[arg-type]
    given = (role, players, day_number(date(2003, 3, 1)), 2003)
    found = [schedule_features(s, Priors(s), *given) for s in (sim_store, other)]  # type: ignore[arg-type]
    assert found[0].any()
    np.testing.assert_array_equal(*found)


def test_a_fit_reads_the_schedule_and_projects_without_one(sim_store: Store, tmp_path: Path) -> None:
    tiny = EncoderConfig(d_model=16, layers=1, heads=2, feedforward=32)
    cutoff = date(2004, 1, 1)
    short = {"steps": 2, "precision": "32-true"}
    pretrain(
        PretrainConfig(encoder=tiny, before=cutoff, batch_tokens=512, train=short), sim_store, tmp_path / "e", False
    )
    fitting = {"steps": 30, "lr": 2e-2, "monitor": "total", "validate_every": 10, "precision": "32-true"}
    config = FinetuneConfig(role="batter", before=cutoff, since=date(2001, 6, 1), train=fitting, schedule="real")
    finetune(config, sim_store, tmp_path / "e", tmp_path / "fit", progress=False)
    head = load_task(tmp_path / "fit").task.head
    assert head.schedule.weight.shape[1] == WIDTH  # type: ignore[union-attr]
    assert head.schedule.weight.any()  # type: ignore[union-attr]
    system = Contextual(sim_store, tmp_path / "fit")
    projection = system.project(date(2004, 3, 1), League.of(sim_store))  # no game of 2004: the average
    assert (projection.hitters["system"] == "contextual").any()
    features = known(Priors(sim_store), "batter", np.array([1]), np.array([day_number(date(2004, 3, 1))])).features
    assert features.shape[1] == Priors.WIDTH


@pytest.mark.parametrize(
    "given", [{"grain": "game"}, {"head": "linear"}, {"use_prior": False}, {"schedule": "tomorrow's"}]
)
def test_where_no_schedule_can_be_read(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="schedule"):
        FinetuneConfig(**{"role": "batter", "before": date(2004, 1, 1), "schedule": "real", **given})  # type: ignore[arg-type]
