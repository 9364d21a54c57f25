"""Boosted Marcel: it finds what Marcel does not know, its lines add up, and the future changes nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import backtest
from fullcount.projection.boosted import STARTED, BoostedMarcel, boost
from fullcount.projection.facts import examples, facts
from fullcount.projection.kept import by_role, kept
from fullcount.projection.marcel import Marcel
from fullcount.projection.marcel_plus import MarcelPlus
from fullcount.projection.registry import SYSTEMS
from fullcount.projection.system import ROLES, League
from fullcount.sources.tables import BATTING_COUNTS, PITCHING_COUNTS, conform

SPRING = date(2012, 3, 1)


def bell(age: float) -> float:
    """Share of his best home-run (strikeout) rate at an age: far from Marcel's line."""
    return float(np.exp(-0.5 * ((age - 27) / 3.5) ** 2))


def ageing_league(seasons: range = range(2000, 2014), players: int = 110, seed: int = 1) -> League:
    """Everybody plays from 21 to 34, and home runs and strikeouts go with `bell`; half of them pitch, too."""
    rng = np.random.default_rng(seed)
    born = seasons[0] - 34 + np.arange(players) * (len(seasons) + 13) // players
    power, regular = rng.uniform(0.02, 0.08, players), rng.uniform(0.3, 1, players)
    bats, arms = [], []
    for season in seasons:
        for i in np.flatnonzero((season - born >= 21) & (season - born <= 34)):
            key = {"player": int(i), "season": season, "league": "MLB", "team": "AAA"}
            pa = int(650 * regular[i] * rng.uniform(0.6, 1))
            hr, so, bb, one, two, three, hbp = rng.multinomial(
                pa, [power[i] * bell(season - born[i]), 0.2, 0.08, 0.15, 0.04, 0.005, 0.01, 0]
            )[:7].tolist()  # fmt: skip
            bats.append(dict.fromkeys(BATTING_COUNTS, 0) | key | {
                "is_pitcher": False, "G": 162, "PA": pa, "AB": pa - bb - hbp,
                "H": hr + one + two + three, "2B": two, "3B": three,
                "HR": hr, "BB": bb, "SO": so, "HBP": hbp, "R": 2 * hr, "RBI": 3 * hr,
                "SB": int(rng.binomial(pa, 0.02)), "CS": int(rng.binomial(pa, 0.005)),
            })  # fmt: skip
            if i % 2:
                faced = int(700 * regular[i])
                outs, so, bb, hr = int(0.68 * faced), *(int(rng.binomial(faced, p)) for p in (
                    6 * power[i] * bell(season - born[i]), 0.08, 0.03))  # fmt: skip
                hits = faced - outs - bb
                arms.append(dict.fromkeys(PITCHING_COUNTS, 0) | key | {
                    "G": 30, "GS": 15, "outs": outs, "BF": faced, "H": hits, "HR": min(hr, hits), "BB": bb, "SO": so,
                    "R": hits // 2 + hr, "ER": hits // 2, "W": outs // 60, "SV": 1, "HLD": i % 4,
                })  # fmt: skip
    people = pl.DataFrame({"player": range(players), "last_name": [f"P{i}" for i in range(players)],
                           "birth_date": [date(int(b), 5, 1) for b in born]})  # fmt: skip
    return League(
        conform(pl.DataFrame(bats), "batting_seasons"), conform(pl.DataFrame(arms), "pitching_seasons"),
        conform(people, "players"),
    )  # fmt: skip


def spoilt(league: League, season: int) -> League:
    """The league with other numbers, and other players, from `season` on."""
    rng = np.random.default_rng(0)

    def other(lines: pl.DataFrame) -> pl.DataFrame:
        noise = pl.lit(rng.integers(1, 60, lines.height), dtype=pl.Int16)
        counts = [c for c, t in lines.schema.items() if t == pl.Int16 and c != "season"]
        lines = lines.with_columns(
            pl.when(pl.col("season") >= season).then(noise).otherwise(pl.col(counts)).name.keep()
        )
        strangers = lines.filter(pl.col("season") >= season).with_columns(pl.col("player") + 10_000)
        return pl.concat([lines, strangers])

    return replace(league, batting_seasons=other(league.batting_seasons),
                   pitching_seasons=other(league.pitching_seasons), _before={})  # fmt: skip


#: What may be known of steals.
STEALS = {
    "CS unknown": {"CS": pl.lit(None, pl.Int16)},
    "SB and CS unknown": {"SB": pl.lit(None, pl.Int16), "CS": pl.lit(None, pl.Int16)},
    "CS known from 2006 on": {"CS": pl.when(pl.col("season") >= 2006).then("CS")},
    "nobody caught": {"CS": pl.lit(0, pl.Int16)},
    "nobody runs": {"SB": pl.lit(0, pl.Int16), "CS": pl.lit(0, pl.Int16)},
}


def with_steals(league: League, kind: str) -> League:
    """The league with less known of steals."""
    return replace(league, batting_seasons=league.batting_seasons.with_columns(**STEALS[kind]), _before={})


@pytest.fixture(scope="module")
def league() -> League:
    return ageing_league()


def test_it_finds_an_ageing_curve_marcel_does_not_know(league: League) -> None:
    result = backtest([Marcel(), BoostedMarcel()], league, [2012, 2013], ["A"], bootstrap=200)
    for role, stat in (("hitters", "HR%"), ("hitters", "HR"), ("pitchers", "K/9")):
        better = result.intervals.filter(role=role, stat=stat, metric="rmse", system="marcel_gb").row(0, named=True)
        assert better["difference_high"] < -0.05 * better["value"], (role, stat)
    coverage = result.table.filter(role="hitters", stat="HR")
    assert coverage["coverage"].n_unique() == len(coverage["season"].unique())


def test_lines_add_up(league: League) -> None:
    said = BoostedMarcel().project(SPRING, league)
    hitters, pitchers = said.hitters, said.pitchers
    assert (hitters["H"] - hitters.select(pl.sum_horizontal("1B", "2B", "3B", "HR")).to_series()).abs().max() < 1e-9
    outside = hitters.select(pl.sum_horizontal("BB", "HBP", "SF", "SH")).to_series()
    assert (hitters["PA"] - hitters["AB"] - outside).abs().max() < 1e-9
    assert (hitters["AB"] > hitters["H"]).all()
    least = 3 * pitchers["IP"] + pitchers.select(pl.sum_horizontal("H", "BB", "HBP")).to_series()
    assert (pitchers["TBF"] - least).min() > -1e-9
    assert (pitchers["R"] >= pitchers["ER"]).all()
    for table in (hitters, pitchers):
        counts = table.select(pl.col(pl.Float64))
        assert counts.min_horizontal().min() >= 0
        assert counts.null_count().sum_horizontal().item() == 0


def test_holds_are_learned_where_every_season_tells(league: League) -> None:
    """Lines without any leave them unknown; lines of a few seasons are enough for Marcel, not to learn from."""
    marcel = Marcel().project(SPRING, league).pitchers
    whole = BoostedMarcel().project(SPRING, league).pitchers

    def per_inning(first: int) -> pl.Series:
        hidden = pl.when(pl.col("season") >= first).then("HLD").alias("HLD")
        arms = league.pitching_seasons.with_columns(hidden)
        said = BoostedMarcel().project(SPRING, replace(league, pitching_seasons=arms, _before={})).pitchers
        assert_frame_equal(said.drop("HLD"), whole.drop("HLD"), check_exact=True)
        return (said["HLD"] / said["IP"]).rename("HLD")

    usual = (marcel["HLD"] / marcel["IP"]).rename("HLD")
    assert per_inning(2012).null_count() == marcel.height
    assert_series_equal(per_inning(2009), usual)
    assert (whole["HLD"] / whole["IP"] - usual).abs().max() > 1e-3  # type: ignore[operator]


def test_the_future_changes_nothing_and_neither_does_the_order_of_asking(league: League) -> None:
    fresh = BoostedMarcel().project(SPRING, spoilt(ageing_league(), 2012))
    asked_before = ageing_league()
    BoostedMarcel().project(date(2013, 3, 1), asked_before)
    for other in (asked_before, league):
        for role in ROLES:
            assert_frame_equal(BoostedMarcel().project(SPRING, other).role(role), fresh.role(role), check_exact=True)


def test_facts_of_a_season_are_of_earlier_ones(league: League) -> None:
    for role in ROLES:
        assert_frame_equal(facts(league, role, 2012), facts(spoilt(league, 2012), role, 2012), check_exact=True)
    row = facts(league, "hitters", 2012).filter(pl.col("n:1").is_not_null()).row(0, named=True)
    lines = league.batting_seasons.filter(pl.col("season") < 2012, player=row["player"])
    assert row["career"] == lines["PA"].sum()
    assert row["debut"] == 2012 - lines["season"].min()
    last = league.batting_seasons.filter(season=2011)
    mine = last.filter(player=row["player"]).row(0, named=True)
    assert row["HR:1"] == pytest.approx(mine["HR"] / mine["PA"] - last["HR"].sum() / last["PA"].sum())


def test_a_short_season_counts_as_a_long_one() -> None:
    league = ageing_league()
    short = pl.when(pl.col("season") == 2010).then(pl.col("PA", "AB", "G", "HR") // 3)
    cut = replace(league, batting_seasons=league.batting_seasons.with_columns(
        short.otherwise(pl.col("PA", "AB", "G", "HR"))), _before={})  # fmt: skip
    both = facts(league, "hitters", 2012).join(facts(cut, "hitters", 2012), on="player", suffix="_cut")
    both = both.drop_nulls(["n:2"])
    assert (both["n:2_cut"] / both["n:2"]).is_between(0.93, 1.1).all()
    past = examples(cut, "hitters", 2005, 2012)
    assert past.filter(season=2010)["length"].unique().item() == 3
    assert past.filter(season=2009)["length"].unique().item() == 1


def test_little_history() -> None:
    league = ageing_league(range(2000, 2013), players=20)
    for role in ROLES:
        few = BoostedMarcel().project(SPRING, league).role(role)
        marcel = Marcel().project(SPRING, league).role(role)
        assert_frame_equal(few, marcel, check_exact=False, rel_tol=1e-9)
    assert_frame_equal(
        SYSTEMS["plus_gb"]().project(SPRING, league).pitchers.select(STARTED["pitchers"]),
        MarcelPlus().project(SPRING, league).pitchers.select(STARTED["pitchers"]),
        check_exact=False, rel_tol=1e-9,
    )  # fmt: skip
    first = ageing_league(range(2011, 2013), players=20)
    with pytest.raises(FullcountError, match="no season from 2001 on and before 2012"):
        BoostedMarcel().project(SPRING, first)


def test_labels_learned_together_are_learned_alone(league: League) -> None:
    past, now = examples(league, "hitters", 2003, 2012), facts(league, "hitters", 2012)
    labels = {c: past[f"y:{c}"] for c in ("HR", "SO")}
    together, weight = boost(past, now, labels, past["y:PA"].to_numpy()), past["y:PA"].to_numpy()
    for c, label in labels.items():
        assert np.ptp(together[c]) > 0
        np.testing.assert_array_equal(together[c], boost(past, now, {c: label}, weight)[c])


def test_what_both_roles_ask_is_made_once(league: League) -> None:
    made = []

    def slow(league: League, of: str) -> list[str]:
        made.append(of)
        time.sleep(0.05)
        if of == "nothing":
            raise FullcountError("there is nothing")
        return [of]

    first, second = by_role(lambda role: kept(slow, league, "both"))
    assert first is second
    assert made == ["both"]
    for _ in range(2):  # an error is told to all and not kept
        with pytest.raises(FullcountError, match="nothing"):
            by_role(lambda role: kept(slow, league, "nothing"))
    assert 2 <= made.count("nothing") <= 4


def test_by_name() -> None:
    assert SYSTEMS["marcel_gb"]() == BoostedMarcel()
