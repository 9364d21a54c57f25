"""Minor-league equivalencies: planted shifts come back, the base is left alone, and the future changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.evaluation.equivalencies import judge_levels, shift_table
from fullcount.priors import STRENGTH
from fullcount.projection.equivalencies import (
    COMPONENTS,
    PLAYING_TIME,
    Equivalencies,
    level_shifts,
    outcome_lines,
    translate,
)
from fullcount.projection.marcel import Marcel
from fullcount.projection.registry import make_system
from fullcount.projection.system import ROLES, League, Role, rates
from fullcount.sources import lahman, milb, register
from fullcount.sources.seasons import season_lines
from fullcount.sources.tables import BATTING_COUNTS, MINOR_LEAGUES, PITCHING_COUNTS, conform
from fullcount.store import Store

#: Strikeouts, walks, hit batters, singles, doubles, triples, home runs of an average plate appearance at AA.
MIX = np.array([0.22, 0.10, 0.015, 0.14, 0.045, 0.005, 0.025])
#: From AA to AAA, and from there to MLB.
UP = {"AAA": np.array([0.1, -0.1, 0, -0.05, 0, 0, 0.2]), "MLB": np.array([0.15, -0.3, -0.2, -0.1, -0.2, -0.2, -0.3])}
SHIFT = {"AA": UP["AAA"] + UP["MLB"], "AAA": UP["MLB"]}
AS_OF = date(2025, 3, 1)


def mixes(players: int, level: str, seed: int = 0) -> np.ndarray:
    """Outcome mixes [players, 8] at a level, outs first; the same talents at every level."""
    rng = np.random.default_rng(seed)
    talent = np.log(MIX / (1 - MIX.sum())) + rng.normal(0, 0.15, (players, len(MIX)))
    talent += {"AA": 0, "AAA": UP["AAA"], "MLB": UP["AAA"] + UP["MLB"]}[level]
    odds = np.concatenate([np.ones((players, 1)), np.exp(talent)], axis=1)
    return odds / odds.sum(axis=1, keepdims=True)


def league_of(lines: list[tuple[str, int, list[int], np.ndarray, int]], seed: int = 1) -> League:
    """A league in which (level, season, players, mixes of all players, PA) bat and pitch alike."""
    rng = np.random.default_rng(seed)
    batting, pitching = [], []
    for level, season, players, mix, n in lines:
        for player in players:
            _, so, bb, hbp, one, two, three, hr = (int(x) for x in rng.multinomial(n, mix[player]))
            counts = {"SO": so, "BB": bb, "HBP": hbp, "2B": two, "3B": three, "HR": hr, "H": one + two + three + hr}
            key = {"player": player, "season": season, "league": level, "team": f"T{player % 5}", "G": 50}
            batting.append({**key, **dict.fromkeys(BATTING_COUNTS, 0), **counts, "is_pitcher": False,
                            "PA": n, "AB": n - bb - hbp, "R": n // 9, "RBI": n // 9, "SB": n // 50})  # fmt: skip
            pitching.append({**key, **dict.fromkeys(PITCHING_COUNTS, 0), **counts, "GS": 10, "BF": n,
                             "outs": n - counts["H"] - bb - hbp, "R": n // 8, "ER": n // 9})  # fmt: skip
    players = sorted({r["player"] for r in batting})
    people = pl.DataFrame({"player": players, "first_name": "A", "last_name": [f"P{p}" for p in players],
                           "birth_date": [date(1996, 7, 1)] * len(players)})  # fmt: skip
    return League(*(conform(pl.DataFrame(t), n) for t, n in
                    ((batting, "batting_seasons"), (pitching, "pitching_seasons"), (people, "players"))))  # fmt: skip


def planted(players: int = 240, n: int = 600) -> League:
    """AA, AAA and MLB of 2024: a third appears at the lower two, a third at the upper two, the rest at one each."""
    third = players // 3
    low, both, new = (list(range(i * third, (i + 1) * third)) for i in range(3))
    mix = {level: mixes(players, level) for level in ("AA", "AAA", "MLB")}
    return league_of([
        ("AA", 2024, low + new[::2], mix["AA"], n), ("AAA", 2024, low + both + new[1::2], mix["AAA"], n),
        ("MLB", 2024, both, mix["MLB"], n), ("MLB", 2023, both, mix["MLB"], n),
    ])  # fmt: skip


LEAGUE = planted()


@pytest.mark.parametrize("role", ROLES)
def test_planted_shifts_are_recovered(role: Role) -> None:
    found = level_shifts(outcome_lines(LEAGUE, role), role, "MLB")
    for level, shift in SHIFT.items():
        want = dict(zip(COMPONENTS["hitters"], shift, strict=True))
        for c, value in zip(COMPONENTS[role], found[level], strict=True):
            if c not in ("3B", "BIP"):
                assert value == pytest.approx(want[c], abs=0.07 if c in ("SO", "BB", "1B", "2B") else 0.2), (level, c)


def test_who_is_promoted_for_luck_below_does_not_make_the_level_above_harder() -> None:
    """Strikeouts vary as `STRENGTH` says; those with the fewest in 150 PA go up, where nothing is different."""
    rng = np.random.default_rng(3)
    m = STRENGTH["batter"]["K"]
    mix = np.tile(np.concatenate([[1 - MIX.sum()], MIX]), (600, 1))
    mix[:, 1] = rng.beta(m * MIX[0], m * (1 - MIX[0]), 600)
    mix[:, 0] = 1 - mix[:, 1:].sum(axis=1)
    everybody = list(range(600))
    below = league_of([("AAA", 2024, everybody, mix, 150)], seed=5).batting_seasons
    best = below.sort("SO", "player")["player"].to_list()[:200]
    above = league_of([("MLB", 2024, best, mix, 600)], seed=6).batting_seasons
    league = replace(LEAGUE, batting_seasons=pl.concat([below, above]), _before={})
    chosen = below.filter(pl.col("player").is_in(best))
    raw = np.log(above["SO"].sum() / above["PA"].sum() / (chosen["SO"].sum() / chosen["PA"].sum()))
    assert raw > 0.1  # as they are, the lines say that one strikes out more up there
    assert level_shifts(outcome_lines(league, "hitters"), "hitters", "MLB")["AAA"][0] == pytest.approx(0, abs=0.06)


def test_a_shift_of_few_plate_appearances_is_small() -> None:
    pair = league_of([("AAA", 2024, [0], mixes(1, "AAA"), 40), ("MLB", 2024, [0], mixes(1, "MLB"), 40)])
    assert np.abs(level_shifts(outcome_lines(pair, "hitters"), "hitters", "MLB")["AAA"]).max() < 0.1


def test_a_level_nobody_holds_is_passed_over() -> None:
    lines = outcome_lines(LEAGUE, "hitters").filter(pl.col("league") != "AAA")
    also = lines.filter((pl.col("league") == "AA") & (pl.col("player") < 40)).with_columns(league=pl.lit("MLB"))
    found = level_shifts(pl.concat([lines, also]), "hitters", "MLB")
    assert list(found) == ["MLB", "AA"]
    assert np.abs(found["AA"]).max() < 0.1  # the same lines: regression alone is between them


def test_translation_by_hand() -> None:
    moved = translate(np.array([[60.0, 20, 20], [10, 0, 0]]), np.log([[2.0, 0.5], [3.0, 3.0]]))
    np.testing.assert_allclose(moved, [[100 * 60 / 110, 100 * 40 / 110, 100 * 10 / 110], [10, 0, 0]])


def test_games_by_position_are_no_counts() -> None:
    caught = LEAGUE.batting_seasons.with_columns(G_C=pl.lit(5, dtype=pl.Int16))
    said, plain = (make_system("mle", Store).project(AS_OF, league)  # type: ignore[arg-type]
                   for league in (replace(LEAGUE, batting_seasons=caught, _before={}), LEAGUE))  # fmt: skip
    assert_frame_equal(said.hitters, plain.hitters)


def test_the_base_speaks_for_whom_it_projects_and_the_minors_for_the_others() -> None:
    base, found = Marcel().project(AS_OF, LEAGUE), make_system("mle", Store).project(AS_OF, LEAGUE)  # type: ignore[arg-type]
    for role in ROLES:
        table = found.role(role)
        theirs = table.filter(pl.col("system") == "marcel")
        assert_frame_equal(theirs.select(base.role(role).columns), base.role(role), check_exact=True)
        assert theirs["level"].null_count() == theirs.height
        mine = table.filter(pl.col("system") == "mle")
        assert set(mine["player"]) == set(range(80)) | set(range(160, 240))
        level = dict(mine.select("player", "level").iter_rows())
        assert [level[160], level[161]] == ["AA", "AAA"]
        assert dict(mine.select("player", "minor_PA").iter_rows())[3] == 1200
        assert table["player"].is_sorted()
        exposure = mine["PA"] if role == "hitters" else 3 * mine["IP"]
        assert exposure.to_list() == pytest.approx([PLAYING_TIME[role]] * mine.height)


def test_a_projected_line_by_hand() -> None:
    """Player 161 batted at AAA alone: translated, regressed to the translated mean of AAA, aged 29 (no change)."""
    lines = outcome_lines(LEAGUE, "hitters")
    shift = level_shifts(lines, "hitters", "MLB")["AAA"]
    aaa = lines.filter(pl.col("league") == "AAA")
    names = ("OUT", *COMPONENTS["hitters"])
    moved = aaa.with_columns(pl.DataFrame(
        translate(aaa.select(names).to_numpy(), np.tile(shift, (aaa.height, 1))), schema=list(names)))  # fmt: skip
    row = Equivalencies().project(AS_OF, LEAGUE).hitters.filter(player=161)
    own = moved.filter(player=161)
    for c, strength in (("SO", 60), ("HR", 170), ("BB", 120)):
        rate = (own[c][0] + strength * moved[c].sum() / moved["n"].sum()) / (600 + strength)
        assert row[c][0] == pytest.approx(100 * rate)
    assert row["H"][0] == pytest.approx(sum(row[c][0] for c in ("1B", "2B", "3B", "HR")))
    assert row["AB"][0] == pytest.approx(100 - row["BB"][0] - row["HBP"][0] - row["SF"][0] - row["SH"][0])
    assert row["SB"][0] == pytest.approx(100 * (600 // 50) / 600)  # the main league's mean


def test_projected_rates_are_nearer_to_talent_than_untranslated_ones() -> None:
    hitters = rates(Equivalencies().project(AS_OF, LEAGUE).hitters, "hitters").filter(pl.col("system") == "mle")
    truth = mixes(240, "MLB")[hitters["player"].to_numpy()]
    for stat, i in (("K%", 1), ("BB%", 2), ("HR%", 7)):
        x = hitters[stat].to_numpy()
        assert abs(x.mean() / truth[:, i].mean() - 1) < 0.06, stat
        assert np.corrcoef(x, truth[:, i])[0, 1] > 0.4, stat
    pitchers = rates(Equivalencies().project(AS_OF, LEAGUE).pitchers, "pitchers").filter(pl.col("system") == "mle")
    assert pitchers["K%"].mean() == pytest.approx(truth[:, 1].mean(), rel=0.05)
    best = pitchers.sort("WHIP")["ERA"]
    assert best.head(40).mean() < best.tail(40).mean()  # type: ignore[operator]
    assert pitchers.select(((3 * pl.col("IP") + pl.col("H") + pl.col("BB") + pl.col("HBP")) / pl.col("TBF")).max())[
        0, 0
    ] == pytest.approx(1)


def test_the_season_to_come_changes_no_bit() -> None:
    later = league_of([(x, 2025, list(range(240)), mixes(240, "AA", seed=9), 300) for x in ("AA", "AAA", "MLB")])
    both = League(
        pl.concat([LEAGUE.batting_seasons, later.batting_seasons]),
        pl.concat([LEAGUE.pitching_seasons, later.pitching_seasons]),
        LEAGUE.players,
    )
    alone, beside = (Equivalencies().project(AS_OF, league) for league in (LEAGUE, both))
    for role in ROLES:
        assert_frame_equal(alone.role(role), beside.role(role), check_exact=True)
    assert not Equivalencies().project(date(2026, 3, 1), both).hitters.equals(alone.hitters)


def test_without_minor_leagues_one_sentence() -> None:
    main = pl.col("league") == "MLB"
    league = League(LEAGUE.batting_seasons.filter(main), LEAGUE.pitching_seasons.filter(main), LEAGUE.players)
    with pytest.raises(FullcountError, match=r"mle: no minor-league line before 2025; ingest milb first"):
        Equivalencies().project(AS_OF, league)
    with pytest.raises(FullcountError, match="before 2024"):  # they are there, but only of a later season
        Equivalencies().project(date(2024, 3, 1), LEAGUE)


def test_a_level_without_a_link_is_named() -> None:
    lines = outcome_lines(LEAGUE, "hitters").filter(~((pl.col("league") == "AA") & (pl.col("player") < 80)))
    with pytest.raises(FullcountError, match="no player appeared in both AA and MLB"):
        level_shifts(lines, "hitters", "MLB")


def test_the_judge_sees_a_planted_shift() -> None:
    table = judge_levels(LEAGUE, "hitters", 2024, draws=200)
    for level in ("AAA", "AA"):
        of = {r["system"]: r for r in table.filter(level=level).iter_rows(named=True)}
        assert of["translated"]["players"] == 80
        assert of["translated"]["low"] > 0
        assert of["translated"]["nats"] < of["mean of the level above"]["nats"]
        for stat in ("K%", "BB%", "HR%"):
            assert abs(of["translated"][f"{stat} bias"]) < 0.006
        assert abs(of["untranslated"]["BB% bias"]) > 0.006
    with pytest.raises(FullcountError, match="no two levels share hitters of 2024 with 5000 plate appearances"):
        judge_levels(LEAGUE, "hitters", 2024, minimum=5000)


@pytest.mark.real
def test_real_levels(data_dir: Path, tmp_path: Path) -> None:
    (file,) = (data_dir / "milb").glob("*.parquet")  # lines need no pitches, which take most of the time
    pl.read_parquet(file).with_columns(pitch_calls=pl.lit("")).write_parquet(tmp_path / "milb.parquet")
    folder = data_dir / "register"
    people = register.read([folder / "people_mlb.csv.gz", folder / "people_minors_2005on.csv.gz"]).players
    main, minors = lahman.read(data_dir / "lahman", people), milb.read(tmp_path / "milb.parquet", people)
    sums = [season_lines(minors.batting_games, minors.pitching_games, level) for level in MINOR_LEAGUES]
    recent = pl.col("season") >= 2022
    league = League(
        pl.concat([main.batting_seasons.filter(recent), *(b for b, _ in sums)]),
        pl.concat([main.pitching_seasons.filter(recent), *(p for _, p in sums)]),
        people,
    )
    for role in ROLES:
        table = shift_table(league, role, 2026)
        odds = {r["level"]: r for r in table.iter_rows(named=True)}
        harder, easier = ("SO", "BB") if role == "hitters" else ("HR", "SO")
        for level in ("AAA", "AA", "A+", "A"):
            assert odds[level][harder] > 1.05, (role, level)
            assert odds[level][easier] < 0.9, (role, level)
        judged = judge_levels(league, role, 2025, draws=50).filter(system="translated")
        assert (judged["gain"] > 0).all()
        assert set(judged["level"]) >= {"AAA", "AA", "A+", "A"}
    found = Equivalencies().project(date(2026, 3, 1), league)
    assert found.hitters.filter(pl.col("system") == "mle", pl.col("level") == "AAA").height > 200
    hitters = rates(found.hitters, "hitters").filter(pl.col("level") == "AAA")
    assert 0.24 < float(hitters["K%"].mean()) < 0.30  # type: ignore[arg-type]
