"""Percentiles: they hold where the truth is known, are the same every time, and know nothing of the future."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import expit, logit

from fullcount.errors import FullcountError
from fullcount.evaluation.calibration import below, judged, pit, summary
from fullcount.projection.blend import Blend
from fullcount.projection.drawing import LEVELS, percentiles
from fullcount.projection.export import layout
from fullcount.projection.marcel import Marcel
from fullcount.projection.marcel_plus import MarcelPlus
from fullcount.projection.playing_time import InPlayingTime
from fullcount.projection.registry import make_system
from fullcount.projection.system import (
    COUNTS,
    PERCENTILE,
    RATES,
    ROLES,
    League,
    Projection,
    RefusalError,
    System,
    rates,
)
from fullcount.projection.uncertainty import Bands, described
from fullcount.sources.tables import BATTING_COUNTS, PITCHING_COUNTS, conform
from fullcount.store import Store
from test_boosted_marcel import SPRING, STEALS, ageing_league, spoilt, with_steals

#: Log-odds of the projected rates of a plate appearance, and planted sd of talent round them.
MEAN = {"SO": -1.4, "BB": -2.4, "HR": -3.4, "1B": -1.7}
SD = {"SO": 0.3, "BB": 0.2, "HR": 0.4, "1B": 0.1}
SEASONS = range(2009, 2017)
PLAYERS = 300


@dataclass(frozen=True, eq=False)
class Oracle:
    """Says every player's mean rates, and for how sure it is of his strikeouts."""

    centre: dict[str, np.ndarray]
    says_sd: bool = False
    name: str = "oracle"

    def project(self, as_of: date, league: League) -> Projection:
        if as_of.year < SEASONS[0] + 2:
            raise RefusalError("too early")
        pa = np.full(PLAYERS, 500.0)
        line = expected({c: expit(x) for c, x in self.centre.items()}, pa)
        table = pl.DataFrame({"player": np.arange(PLAYERS), "PA": pa, **line})
        if self.says_sd:
            table = table.with_columns(SO_sd=pl.Series(sure()))
        arms = pl.DataFrame({"player": np.arange(PLAYERS), "IP": 100.0, "TBF": 420.0, "H": 95.0, "HR": 10.0, "BB": 35.0,
                             "HBP": 4.0, "SO": 90.0, "ER": 42.0, "R": 46.0, "W": 6.0, "L": 6.0, "SV": 1.0,
                             "G": 30.0, "GS": 15.0, "IBB": 2.0})  # fmt: skip
        return Projection.of(as_of.year, table, arms)


def sure() -> np.ndarray:
    """Half of the players are known well, the others not."""
    return np.where(np.arange(PLAYERS) % 2, 0.1, 0.6)


def expected(rate: dict[str, np.ndarray], pa: np.ndarray) -> dict[str, np.ndarray]:
    """A line whose outcomes are these shares of what the ones before leave."""
    left, line = pa.copy(), {}
    for c in ("SO", "BB", "HR", "1B"):
        line[c] = left * rate[c]
        left = left - line[c]
    zero = np.zeros(len(pa))
    line |= {"H": line["HR"] + line["1B"], "AB": pa - line["BB"], "R": 1.5 * line["HR"] + 20,
             "RBI": 2 * line["HR"] + 10, "SB": zero + 5, "CS": zero + 2}  # fmt: skip
    return line | dict.fromkeys(("2B", "3B", "HBP", "SF", "SH", "GDP", "IBB"), zero)


def world(vary: bool = False) -> tuple[League, Oracle, dict[int, dict[str, np.ndarray]]]:
    """Seasons drawn round the oracle's rates; a fifth of the players miss a season, others have 100 to 700 PA."""
    rng = np.random.default_rng(3)
    centre = {c: m + 0.3 * rng.standard_normal(PLAYERS) for c, m in MEAN.items()}
    bats, arms, truth = [], [], {}
    for season in SEASONS:
        sd = SD | ({"SO": sure()} if vary else {})
        talent = {c: expit(centre[c] + sd[c] * rng.standard_normal(PLAYERS)) for c in MEAN}
        truth[season] = talent
        pa = rng.integers(100, 700, PLAYERS) * (rng.random(PLAYERS) > 0.2)
        left, line = pa.copy(), {}
        for c in MEAN:
            line[c] = rng.binomial(left, talent[c])
            left = left - line[c]
        for i in np.flatnonzero(pa):
            own = {c: int(x[i]) for c, x in line.items()}
            key = {"player": int(i), "season": season, "league": "MLB", "team": "AAA"}
            bats.append(dict.fromkeys(BATTING_COUNTS, 0) | key | {c: own[c] for c in ("SO", "BB", "HR")} | {
                "is_pitcher": False, "G": 162, "PA": int(pa[i]), "AB": int(pa[i]) - own["BB"],
                "H": own["HR"] + own["1B"], "R": own["HR"] + int(rng.poisson(20)),
                "RBI": own["HR"] + int(rng.poisson(20)), "SB": int(rng.poisson(5)), "CS": int(rng.poisson(2)),
            })  # fmt: skip
            faced = int(rng.integers(150, 700))
            so, bb, hits = (int(rng.binomial(faced, p)) for p in (0.21, 0.08, 0.22))
            hr = int(rng.binomial(hits, 0.1))
            arms.append(dict.fromkeys(PITCHING_COUNTS, 0) | key | {
                "G": 30, "GS": 15, "outs": faced - bb - hits, "BF": faced, "H": hits, "HR": hr, "BB": bb, "SO": so,
                "R": hits // 2 + hr, "ER": hits // 2, "W": int(rng.poisson(6)), "L": int(rng.poisson(6)), "SV": 1,
            })  # fmt: skip
    people = pl.DataFrame({"player": range(PLAYERS), "last_name": [f"P{i}" for i in range(PLAYERS)],
                           "birth_date": [date(1985, 1 + i % 12, 1) for i in range(PLAYERS)]})  # fmt: skip
    league = League(conform(pl.DataFrame(bats), "batting_seasons"), conform(pl.DataFrame(arms), "pitching_seasons"),
                    conform(people, "players"))  # fmt: skip
    return league, Oracle(centre, says_sd=vary), truth


@pytest.fixture(scope="module")
def planted() -> tuple[League, Oracle, dict[int, dict[str, np.ndarray]]]:
    return world()


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


def test_planted_spread_is_found_and_bands_hold(planted: tuple) -> None:
    league, oracle, truth = planted
    bands = Bands(oracle, seasons=6, draws=100)
    learned = bands.learned("hitters", date(2016, 3, 1), league)
    for part, spread in zip(learned.parts, learned.spreads, strict=True):
        if part.stat in SD:
            found = spread.deviation(np.array([0.3]), np.array([np.nan])).item()
            assert found == pytest.approx(SD[part.stat], rel=0.25, abs=0.02), part.stat
    lines = summary(judged([bands], league, [2015, 2016]), draws=100)
    for stat in ("PA", "HR", "SO", "BB", "H", "SB", "K%", "HR%", "AVG"):
        line = lines.filter(role="hitters", tier="all", stat=stat).row(0, named=True)
        assert 0.76 < line["coverage"] < 0.84, (stat, line)
    said = bands.project(date(2016, 3, 1), league).hitters
    talent = truth[2016]["SO"]
    inside = (said["K%_tt10"].to_numpy() < talent) & (talent < said["K%_tt90"].to_numpy())
    assert 0.73 < inside.mean() < 0.87
    outcome, true = ((said[f"K%_{k}90"] - said[f"K%_{k}10"]).mean() for k in ("p", "tt"))
    assert outcome > 1.05 * true  # type: ignore[operator]


def test_the_systems_own_sd_is_heard() -> None:
    league, oracle, _ = world(vary=True)
    bands = Bands(oracle, seasons=6, draws=100)
    learned = bands.learned("hitters", date(2016, 3, 1), league)
    strikeouts = learned.spreads[[p.stat for p in learned.parts].index("SO")]
    assert strikeouts.own > 0.7
    assert learned.spreads[[p.stat for p in learned.parts].index("BB")].own == 0
    said = bands.project(date(2016, 3, 1), league).hitters
    width = (said["K%_tt90"] - said["K%_tt10"]).to_numpy()
    assert width[sure() > 0.3].mean() > 2.5 * width[sure() < 0.3].mean()


def test_the_same_every_time_whoever_is_beside(league: League) -> None:
    bands = Bands(Marcel(), draws=50)
    said = bands.project(SPRING, league)
    again = Bands(Marcel(), draws=50).project(SPRING, ageing_league())
    for role in ROLES:
        assert_frame_equal(said.role(role), again.role(role), check_exact=True)
        table = Marcel().project(SPRING, league).role(role)
        alone = described(league, table[7:9], role, 2012)
        drawn = percentiles(bands.learned(role, SPRING, league), alone, 50)
        assert_frame_equal(drawn, said.role(role)[7:9].select(drawn.columns), check_exact=True)


def test_projections_stay_and_percentiles_rise(league: League) -> None:
    own, said = Marcel().project(SPRING, league), Bands(Marcel(), draws=50).project(SPRING, league)
    for role in ROLES:
        table = said.role(role)
        assert_frame_equal(table.select(own.role(role).columns), own.role(role), check_exact=True)
        known = [c for c in COUNTS[role] if table[c].null_count() == 0]
        named = [(c, "p") for c in (*known, *RATES[role])] + [(c, "tt") for c in RATES[role]]
        for stat, kind in named:
            levels = table.select(f"{stat}_{kind}{q}" for q in LEVELS).to_numpy()
            assert (np.diff(levels[np.isfinite(levels).all(axis=1)], axis=1) >= 0).all(), stat
        assert np.isfinite(table["K%_p50"].to_numpy()).all()
        counts = table.select([f"{c}_p{q}" for c in known for q in LEVELS if c != "IP"]).to_numpy()
        assert (counts >= 0).all()
        assert (counts == np.rint(counts)).all()


def test_holds_have_percentiles_where_every_season_tells(league: League) -> None:
    arms = league.pitching_seasons.with_columns(pl.when(pl.col("season") > 2005).then("HLD").alias("HLD"))
    partly = replace(league, pitching_seasons=arms, _before={})
    bands = Bands(Marcel(), draws=50)
    assert "HLD_p50" not in bands.project(SPRING, partly).pitchers.columns
    said = bands.project(SPRING, league).pitchers
    assert (said["HLD_p90"] <= league.pitching_seasons["HLD"].max()).all()  # other men's seasons


def test_the_future_changes_nothing() -> None:
    for asked_first in (False, True):
        clean, other = ageing_league(), spoilt(ageing_league(), 2012)
        if asked_first:
            Bands(Marcel(), draws=20).project(date(2013, 3, 1), other)
        a, b = (Bands(Marcel(), draws=20).project(SPRING, x) for x in (clean, other))
        for role in ROLES:
            assert_frame_equal(a.role(role).drop("Team"), b.role(role).drop("Team"), check_exact=True)


def test_a_short_season_is_not_taken_for_little_playing_time(league: League) -> None:
    """Nobody plays less than he did because a season had 60 games."""
    lines = league.batting_seasons
    counts = [c for c in ("G", *BATTING_COUNTS) if c != "is_pitcher"]
    short = pl.col("season") == 2011
    cut = lines.with_columns(pl.when(short).then(pl.col(c) * 60 // 162).otherwise(pl.col(c)).alias(c) for c in counts)
    brief = replace(league, batting_seasons=conform(cut, "batting_seasons"), _before={})
    bands = Bands(InPlayingTime(Marcel()), draws=50)
    usual, after = (bands.project(SPRING, x).hitters["PA_p50"].mean() for x in (league, brief))
    assert after > 0.9 * usual  # type: ignore[operator]


def test_spelling_and_files(sim_store: Store, league: League) -> None:
    assert make_system("marcel+pt+bands", sim_store).name == "marcel+pt+bands"
    assert make_system("blend:marcel@marcel_gb+bands", sim_store).name == "blend+bands"
    said = Bands(Marcel(), draws=50).project(SPRING, league)
    for role, stat in (("hitters", "wOBA"), ("pitchers", "ERA")):
        file = layout(said, role, league.players)
        worst, best = ("10", "90") if role == "hitters" else ("90", "10")
        for kind, ours in (("P", "p"), ("TT", "tt")):
            table = file.join(said.role(role), left_on="MLBAMID", right_on="player", suffix=":own")
            assert table[f"{kind}10"].equals(table[f"{stat}_{ours}{worst}"])
            assert table[f"{kind}90"].equals(table[f"{stat}_{ours}{best}"])
        assert f"{'HR' if role == 'hitters' else 'SO'}_p90" in file.columns


def test_bad_input(league: League, tmp_path: Path) -> None:
    with pytest.raises(FullcountError, match="to learn from"):
        Bands(Marcel()).project(date(2001, 3, 1), league)
    with pytest.raises(FullcountError, match=r"marcel gives no percentiles of PA: write \+bands behind it"):
        judged([Marcel()], league, [2012])
    with pytest.raises(FullcountError, match="differently named"):
        judged([Bands(Marcel()), Bands(Marcel())], league, [2012])
    with pytest.raises(FullcountError, match="season 1900"):
        judged([Bands(Marcel())], league, [1900])


def test_what_the_system_does_not_say_has_no_percentiles(league: League) -> None:
    @dataclass(frozen=True)
    class Silent:
        name: str = "silent"

        def project(self, as_of: date, league: League) -> Projection:
            said = Marcel().project(as_of, league)
            return Projection.of(said.season, said.hitters.with_columns(SB=pl.lit(None)), said.pitchers)

    table = Bands(Silent(), draws=50).project(SPRING, league).hitters
    assert table["SB_p50"].null_count() == table.height
    assert table["HR_p50"].null_count() == 0
    assert logit(table["K%_p50"].to_numpy()).min() > -6


@pytest.mark.parametrize("kind", STEALS)
def test_steals_that_are_not_known_have_no_percentiles(league: League, kind: str) -> None:
    known = with_steals(league, kind)
    said = Bands(Marcel(), 3, 20).project(SPRING, known).hitters
    assert said["HR_p50"].is_finite().all()
    if kind == "nobody caught":
        assert said["SB_p90"].sum() > said["SB"].sum() > said["SB_p10"].sum()
        assert said["CS_p90"].max() <= 2  # type: ignore[operator]
    if kind == "SB and CS unknown":
        assert all(said[c].null_count() == said.height for c in ("SB_p50", "CS_p50") if c in said.columns)


@dataclass(frozen=True)
class Late:
    """The system within it, from this spring on."""

    system: System
    name: str = "late"

    def project(self, as_of: date, league: League) -> Projection:
        if as_of < SPRING:
            raise RefusalError("too early")
        return self.system.project(as_of, league)


@pytest.mark.parametrize(
    ("late", "within"),
    [
        (Late(InPlayingTime(Marcel())), InPlayingTime(Marcel())),
        (InPlayingTime(Late(Marcel())), InPlayingTime(Marcel())),
        (
            InPlayingTime(Blend([Late(Marcel()), MarcelPlus()], name="b")),
            InPlayingTime(Blend([Marcel(), MarcelPlus()], name="b")),
        ),
    ],
)
def test_seasons_that_it_refuses_are_those_of_the_system_within(league: League, late: System, within: System) -> None:
    """What is round it, playing time or a blend's other member, stays."""
    earlier, always = (Bands(s, 3, 20) for s in (late, within))
    for role in ROLES:
        a, b = (s.learned(role, SPRING, league).playing.carried for s in (earlier, always))
        assert (a == b).all()
        a, b = (np.array(s.learned(role, SPRING, league).spreads) for s in (earlier, always))
        np.testing.assert_array_equal(a, b)


def test_percentiles_behind_a_blend_are_round_the_blend(league: League) -> None:
    blend = Blend([Bands(Marcel(), 1, 10), MarcelPlus(seasons=2)], seasons=0)
    own, said = blend.project(SPRING, league), Bands(blend, 2, 50).project(SPRING, league)
    for role in ROLES:
        table = said.role(role)
        assert not [c for c in own.role(role).columns if PERCENTILE.search(c)]  # of members' nothing is left
        assert_frame_equal(table.select(own.role(role).columns), own.role(role), check_exact=True)
        away = rates(table, role)["K%"] - table["K%_tt50"]
        assert away.abs().median() < 0.02  # type: ignore[operator]


def test_transform_of_ties() -> None:
    quantiles = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 1.0], np.arange(1, 10.0), np.arange(1, 10.0)])
    low, high = pit(np.array([0.0, 0.5, 5.0]), quantiles)
    np.testing.assert_allclose(low, [0, 0.05, 0.45])
    np.testing.assert_allclose(high, [0.85, 0.05, 0.55])
    inside = below(low, high, 0.9) - below(low, high, 0.1)
    np.testing.assert_allclose(inside, [0.75 / 0.85, 0, 1])
