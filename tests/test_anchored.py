"""Bayesian last layers: planted weights are found, nothing is made of noise, the future changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import backtest
from fullcount.projection import last_layer
from fullcount.projection.anchored import Anchored
from fullcount.projection.marcel import Marcel
from fullcount.projection.system import ROLES, League, Projection, RefusalError, Role, rates
from test_boosted_marcel import STEALS, ageing_league, bell, spoilt, with_steals

SPRING = date(2012, 3, 1)


@dataclass(frozen=True, eq=False)
class Planted:
    """Of four players in five: what age will do to their home runs (with `truth`), among numbers of no meaning."""

    born: dict[int, int]
    truth: bool = True
    cutoff: date = date(2000, 1, 1)

    def of(self, role: Role, as_of: date) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        who = np.array([p for p in self.born if p % 5], dtype=np.int64)
        age = np.array([as_of.year - self.born[p] for p in who.tolist()])
        told = np.array([np.log(bell(a) / np.mean([bell(a - k) for k in (1, 2, 3)])) for a in age.tolist()])
        noise = np.random.default_rng(as_of.year).normal(size=(len(who), 6))
        return who, np.concatenate(
            [(told - told.sum() / max(len(told), 1))[:, None], noise], axis=1
        ) if self.truth else noise


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


def anchored(league: League, **options: bool) -> Anchored:
    born = dict(league.players.select("player", pl.col("birth_date").dt.year()).iter_rows())
    return Anchored(Marcel(), (Planted(born, **options),), "mine", first=2004)


@pytest.fixture(scope="module")
def said(league: League) -> Projection:
    return anchored(league).project(SPRING, league)


# ------------------------------------------------------------------------------------------------------- the last layer


def noisy(seed: int, weights: NDArray[np.float64], talent: float, n: int = 3000) -> tuple[NDArray[np.float64], ...]:
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(n, len(weights))), rng.uniform(0.01, 0.1, n)
    return x, x @ weights + rng.normal(size=n) * np.sqrt(noise + talent), noise


def test_planted_weights_and_talent_are_found() -> None:
    weights = np.array([0.1, -0.2, 0.0, 0.05])
    x, z, noise = noisy(0, weights, talent=0.04)
    found = last_layer.fit(x, z, noise, (4,))
    deviation = np.sqrt(np.square(found.factor).sum(axis=1))
    assert (np.abs(found.mean - weights) < 4 * deviation).all()
    assert np.abs(found.mean - weights).max() < 0.03
    assert found.talent == pytest.approx(0.04, rel=0.25)
    assert (found.spread(x[:5]) > np.sqrt(found.talent)).all()


def test_of_noise_nothing_is_made_and_a_block_of_noise_hides_no_other() -> None:
    x, z, noise = noisy(1, np.zeros(40), talent=0.02, n=800)
    free = np.linalg.lstsq(x, z, rcond=None)[0]
    assert np.linalg.norm(last_layer.fit(x, z, noise, (40,)).mean) < 0.2 * np.linalg.norm(free)
    weights = np.r_[0.2, np.zeros(40)]
    x, z, noise = noisy(2, weights, talent=0.02, n=800)
    apart = last_layer.fit(x, z, noise, (1, 40))
    assert apart.mean[0] == pytest.approx(0.2, abs=0.03)
    assert np.linalg.norm(apart.mean[1:]) < 0.05


def test_rows_may_come_in_any_order() -> None:
    x, z, noise = noisy(3, np.array([0.1, 0.3]), talent=0.02, n=400)
    order = np.random.default_rng(0).permutation(len(z))
    one, other = last_layer.fit(x, z, noise, (2,)), last_layer.fit(x[order], z[order], noise[order], (2,))
    np.testing.assert_allclose(one.mean, other.mean, atol=2e-3)


# ----------------------------------------------------------------------------------------------------------- the system


def test_it_learns_what_the_inputs_know_and_leaves_the_rest(league: League) -> None:
    systems = [Marcel(), anchored(league)]
    result = backtest(systems, league, [2012, 2013], ["A"], bootstrap=200)
    better = result.intervals.filter(role="hitters", stat="HR%", metric="r", system="mine").row(0, named=True)
    assert better["difference_low"] > 0
    same = result.intervals.filter(role="hitters", stat="BB%", metric="r", system="mine").row(0, named=True)
    assert abs(same["difference"]) < 0.02
    nothing = anchored(league, truth=False).project(SPRING, league).hitters
    marcel = Marcel().project(SPRING, league).hitters
    moved = [
        np.abs(np.log(t["HR"] / marcel["HR"])).mean() for t in (nothing, systems[1].project(SPRING, league).hitters)
    ]
    assert moved[0] < 0.2 * moved[1]


def test_attempts_to_steal_and_success_are_moved_apart(league: League) -> None:
    """One number says how often he runs, the other how often he is caught; projected lines know neither."""
    rng = np.random.default_rng(0)
    numbers = dict(zip(league.players["player"].to_list(), rng.normal(size=(league.players.height, 2)), strict=True))
    told = np.stack([numbers[p] for p in league.batting_seasons["player"].to_list()])
    first = league.batting_seasons.select(pl.col("H") - pl.sum_horizontal("2B", "3B", "HR") + pl.col("BB")).to_series()
    attempts = rng.poisson(first.to_numpy() * 0.2 * np.exp(0.4 * told[:, 0]))
    stolen = rng.binomial(attempts, 1 / (1 + np.exp(-0.7 - 0.8 * told[:, 1])))
    lines = league.batting_seasons.with_columns(
        SB=pl.Series(stolen).cast(pl.Int16), CS=pl.Series(attempts - stolen).cast(pl.Int16)
    )
    stealing = replace(league, batting_seasons=lines, _before={})

    @dataclass(frozen=True)
    class Everybody:
        """The league's steals for all."""

        name: str = "same"

        def project(self, as_of: date, league: League) -> Projection:
            said = Marcel().project(as_of, league)
            chances = pl.sum_horizontal("1B", "BB", "HBP")
            return replace(said, hitters=said.hitters.with_columns(SB=0.13 * chances, CS=0.07 * chances))

    @dataclass(frozen=True)
    class Told:
        cutoff: date = date(2000, 1, 1)

        def of(self, role: Role, as_of: date) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            return np.array(list(numbers)), np.stack(list(numbers.values()))

    said = Anchored(Everybody(), (Told(),), "mine").project(SPRING, stealing).hitters
    x = np.stack([numbers[p] for p in said["player"].to_list()])
    tried, chances = said["SB"] + said["CS"], said.select(pl.sum_horizontal("1B", "BB", "HBP")).to_series()
    runs = np.polyfit(x[:, 0], np.log(tried / chances), 1)[0]
    succeeds = np.polyfit(x[:, 1], np.log(said["SB"] / said["CS"]), 1)[0]
    assert runs == pytest.approx(0.4, abs=0.08)
    assert succeeds == pytest.approx(0.8, abs=0.2)
    assert abs(np.corrcoef(x[:, 0], said["SB"] / tried)[0, 1]) < 0.4


@pytest.mark.parametrize("kind", STEALS)
def test_steals_that_are_not_known_stay_the_systems(league: League, kind: str) -> None:
    known = with_steals(league, kind)
    said, marcel = anchored(known).project(SPRING, known).hitters, Marcel().project(SPRING, known).hitters
    both = said.join(marcel, on="player", suffix=":m")
    assert (both["HR"] / both["HR:m"] - 1).abs().max() > 0.01  # type: ignore[operator]
    for c in ("SB", "CS"):
        assert both[c].null_count() == both[f"{c}:m"].null_count()
        if c not in STEALS[kind]:
            assert (both[c] / both[f"{c}:m"]).is_between(0.3, 3).all()


def test_whom_the_inputs_do_not_know_keeps_his_rates(league: League, said: Projection) -> None:
    marcel = rates(Marcel().project(SPRING, league).hitters, "hitters")
    both = rates(said.hitters, "hitters").join(marcel, on="player", suffix=":m")
    unknown = both.filter(pl.col("player") % 5 == 0)
    assert unknown["system"].unique().to_list() == ["marcel"]
    assert (unknown["HR%"] - unknown["HR%:m"]).abs().max() < 1e-12
    told = both.filter(pl.col("player") % 5 != 0)
    assert told["system"].unique().to_list() == ["mine"]
    assert (told["HR%"] - told["HR%:m"]).abs().min() > 0
    assert (both["PA"] - both["PA:m"]).abs().max() < 1e-9


def test_lines_add_up(said: Projection) -> None:
    hitters, pitchers = said.hitters, said.pitchers
    assert (hitters["H"] - hitters.select(pl.sum_horizontal("1B", "2B", "3B", "HR")).to_series()).abs().max() < 1e-9
    assert (hitters["AB"] > hitters["H"]).all()
    assert (3 * pitchers["IP"] + pitchers["H"] + pitchers["BB"] + pitchers["HBP"] <= pitchers["TBF"] + 1e-9).all()
    for table in (hitters, pitchers):
        assert table.select(pl.col("SO_sd", "BB_sd", "HR_sd")).min_horizontal().min() > 0
        assert table["SO"].min() > 0


def test_the_future_changes_nothing(league: League, said: Projection) -> None:
    other = spoilt(league, 2012)
    for role in ROLES:
        assert_frame_equal(anchored(other).project(SPRING, other).role(role), said.role(role), check_exact=True)


def test_a_season_before_the_cut_off_is_refused(league: League) -> None:
    late = Anchored(Marcel(), (Planted({1: 1980}, cutoff=date(2012, 3, 2)),), "mine")
    with pytest.raises(FullcountError, match="mine was trained on play up to 2012-03-02; it may not"):
        late.project(SPRING, league)


@dataclass(frozen=True)
class Late:
    """Marcel from 2009 on."""

    name: str = "late"

    def project(self, as_of: date, league: League) -> Projection:
        if as_of.year < 2009:
            raise RefusalError("too early")
        return Marcel().project(as_of, league)


def test_seasons_that_the_system_refuses_are_not_learned_from(league: League) -> None:
    born = dict(league.players.select("player", pl.col("birth_date").dt.year()).iter_rows())
    late, from_2009 = (Anchored(s, (Planted(born),), "mine", first=f) for s, f in ((Late(), 2004), (Marcel(), 2009)))
    for role in ROLES:
        tables = [a.project(SPRING, league).role(role).filter(system="mine") for a in (late, from_2009)]
        assert tables[0].height
        assert_frame_equal(*tables, check_exact=True)


def test_without_a_season_to_learn_from_the_system_speaks(league: League) -> None:
    table = Anchored(Marcel(), (Planted({}),), "mine").project(SPRING, league).hitters
    marcel = Marcel().project(SPRING, league).hitters
    assert_frame_equal(table.select(marcel.columns), marcel.filter(pl.col("PA") > 0))
