"""Marcel against Tango's own files, against arithmetic by hand, and against the future."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fullcount.projection.marcel import Marcel
from fullcount.projection.system import HITTER_COUNTS, PITCHER_COUNTS, ROLES, League, Projection, rates, target_season
from fullcount.sources.tables import conform

# League totals without pitchers at bat, and players: PA HR SO BB SB of 2001, 2002, 2003 (Lahman), birth year, then
# PA, HR, BB, SO, SB and reliability of an independent reproduction (1-2 % of rebaselining apart from Tango's file).
LEAGUE = {2001: (180854, 5431, 30432, 15621, 3098), 2002: (180552, 5032, 29424, 16057, 2747),
          2003: (181281, 5173, 28867, 15690, 2570)}  # fmt: skip
HITTERS = {
    "Beltran": (1977, [(680, 24, 120, 52, 31), (722, 29, 135, 71, 35), (602, 26, 81, 72, 41)],
                (573.2, 22.85, 58.4, 91.5, 29.2, 0.869)),
    "Bonds": (1964, [(664, 73, 93, 177, 13), (612, 46, 47, 198, 9), (550, 45, 58, 148, 7)],
              (536.2, 41.98, 136.8, 61.7, 8.0, 0.857)),
    "Pujols": (1980, [(676, 37, 93, 69, 1), (675, 34, 69, 72, 2), (685, 43, 65, 79, 5)],
               (610.0, 34.06, 68.0, 67.0, 3.7, 0.872)),
    "Suzuki": (1973, [(738, 8, 53, 30, 56), (728, 8, 62, 68, 31), (725, 13, 69, 36, 34)],
               (635.3, 10.10, 41.9, 59.7, 30.8, 0.879)),
    "Crawford": (1981, [None, (278, 2, 41, 9, 9), (661, 5, 102, 26, 55)],
                 (558.3, 7.09, 28.5, 81.3, 34.2, 0.786)),
}  # fmt: skip
# G GS outs ER SO BB H HR of 2001, 2002, 2003; IP ER SO BB H HR reliability.
PITCHERS = {
    "Pettyjohn": (1977, [(16, 9, 195, 42, 40, 21, 81, 10), None, None], (44.7, 23.0, 32.7, 15.8, 46.8, 5.8, 0.195)),
    "Clemens": (1962, [(33, 33, 661, 86, 213, 72, 205, 19), (29, 29, 540, 87, 192, 63, 172, 18),
                       (33, 33, 635, 92, 190, 58, 199, 24)], (183.8, 85.4, 163.0, 60.8, 181.9, 20.3, 0.82)),
    "Gagne": (1976, [(33, 24, 455, 80, 130, 46, 144, 24), (77, 0, 247, 18, 114, 16, 55, 6),
                     (77, 0, 247, 11, 137, 20, 37, 2)], (78.9, 26.3, 92.1, 22.5, 60.0, 7.0, 0.68)),
    "Martinez": (1971, [(18, 18, 350, 31, 163, 25, 84, 5), (30, 30, 598, 50, 239, 40, 144, 13),
                        (29, 29, 560, 46, 206, 47, 147, 7)], (173.3, 51.8, 185.9, 45.2, 141.1, 10.9, 0.80)),
    "Zito": (1978, [(35, 35, 643, 83, 205, 80, 184, 18), (35, 35, 688, 70, 182, 78, 182, 24),
                    (35, 35, 695, 85, 146, 88, 186, 19)], (198.8, 72.4, 148.7, 71.9, 164.3, 18.4, 0.84)),
}  # fmt: skip


def printed_league() -> League:
    """The printed rows, and pseudo-players who hold the rest of the league, old enough to be 29."""
    batting, pitching, players = [], [], []
    columns = ("PA", "HR", "SO", "BB", "SB")
    for number, (name, (born, lines, _)) in enumerate(HITTERS.items(), start=1):
        players.append({"player": number, "last_name": name, "birth_date": date(born, 7, 1)})
        batting += [{"player": number, "season": s, **dict(zip(columns, line, strict=True))}
                    for s, line in zip(LEAGUE, lines, strict=True) if line]  # fmt: skip
    for season, totals in LEAGUE.items():
        mine = [sum(r[c] for r in batting if r["season"] == season and r["player"] < 90) for c in columns]
        rest = [(t - m) // 300 for t, m in zip(totals, mine, strict=True)]
        spare = [t - m - 300 * r for t, m, r in zip(totals, mine, rest, strict=True)]
        for i in range(300):
            line = [r + (s if i == 0 else 0) for r, s in zip(rest, spare, strict=True)]
            batting.append({"player": 100 + i, "season": season, **dict(zip(columns, line, strict=True))})
    players += [{"player": 100 + i, "last_name": "Rest", "birth_date": date(1975, 7, 1)} for i in range(300)]
    columns = ("G", "GS", "outs", "ER", "SO", "BB", "H", "HR")
    for number, (name, (born, lines, _)) in enumerate(PITCHERS.items(), start=500):
        players.append({"player": number, "last_name": name, "birth_date": date(born, 7, 1)})
        pitching += [{"player": number, "season": s, "BF": 1, **dict(zip(columns, line, strict=True))}
                     for s, line in zip(LEAGUE, lines, strict=True) if line]  # fmt: skip
    return League(
        conform(pl.DataFrame(batting).with_columns(
            *(pl.lit(0).alias(c) for c in ("H", "2B", "3B", "R", "RBI", "IBB", "HBP", "SF", "SH", "GDP", "CS", "G")),
            league=pl.lit("MLB"), team=pl.lit("AAA"), is_pitcher=pl.lit(False),
        ).with_columns(H=pl.col("HR")), "batting_seasons"),
        conform(pl.DataFrame(pitching).with_columns(
            *(pl.lit(0).alias(c) for c in ("R", "IBB", "HBP", "W", "L", "SV")), league=pl.lit("MLB"),
        ), "pitching_seasons"),
        conform(pl.DataFrame(players), "players"),
    )  # fmt: skip


def test_playing_time_and_reliability_of_the_golden_rows() -> None:
    projection = Marcel().project(date(2004, 3, 1), printed_league())
    for name, (_, _, want) in HITTERS.items():
        row = projection.hitters.filter(pl.col("Name") == name).row(0, named=True)
        assert row["PA"] == pytest.approx(want[0], abs=0.05)
        assert row["reliability"] == pytest.approx(want[5], abs=0.001)
    for name, (_, _, want) in PITCHERS.items():
        row = projection.pitchers.filter(pl.col("Name") == name).row(0, named=True)
        assert row["IP"] == pytest.approx(want[0], abs=0.05)
        assert row["reliability"] == pytest.approx(want[6], abs=0.005)


def test_rates_by_hand() -> None:
    """Beltran's home runs, walks and strikeouts of 2004, written out; nothing rebaselined."""
    row = Marcel(rebaseline="none").project(date(2004, 3, 1), printed_league()).hitters.filter(Name="Beltran")
    weighted = 5 * 602 + 4 * 722 + 3 * 680
    age = 1 + 0.006 * (29 - 27)
    for column, i, factor in (("HR", 1, age), ("SO", 2, 1 / age), ("BB", 3, age), ("SB", 4, age)):
        own = [(line[i], line[0]) for line in HITTERS["Beltran"][1]]
        league = [LEAGUE[y][i] / LEAGUE[y][0] for y in LEAGUE]
        mean = sum(w * n * lg for w, (_, n), lg in zip((3, 4, 5), own, league, strict=True)) / weighted
        rate = (sum(w * c for w, (c, _) in zip((3, 4, 5), own, strict=True)) + 1200 * mean) / (weighted + 1200)
        assert row[column][0] == pytest.approx(rate * factor * 573.2, rel=1e-9)


def test_rebaselined_totals_meet_the_league() -> None:
    league = printed_league()
    total = league.batting_seasons.group_by("season").agg(pl.col("HR", "PA").sum()).sort("season")
    rate = total["HR"].to_numpy() / total["PA"].to_numpy()
    weight = total["PA"].to_numpy() * np.array([3, 4, 5])
    for how, want in (("mean", np.average(rate, weights=weight)), ("latest", rate[-1])):
        table = Marcel(rebaseline=how).project(date(2004, 3, 1), league).hitters  # type: ignore[arg-type]
        assert table["HR"].sum() / table["PA"].sum() == pytest.approx(want, rel=1e-12)


def test_who_is_projected() -> None:
    league = printed_league()
    batting = league.batting_seasons.with_columns(
        is_pitcher=pl.col("player").is_in([100, 101]) & ~((pl.col("player") == 101) & (pl.col("season") == 2003)),
        league=pl.when(pl.col("player") == 102).then(pl.lit("AAA")).otherwise(pl.lit("MLB")),
    )
    table = Marcel().project(date(2004, 3, 1), League(batting, league.pitching_seasons, league.players)).hitters
    assert not {100, 102} & set(table["player"])  # always a pitcher; never in the majors
    assert {101, 103} <= set(table["player"])
    assert Marcel().project(date(2020, 3, 1), league).hitters.is_empty()
    assert Marcel().project(date(2004, 3, 1), league).hitters.columns[:5] == ["player", "Name", "Team", "PA", "AB"]


def test_what_the_source_does_not_know_stays_null() -> None:
    pitchers = Marcel().project(date(2004, 3, 1), printed_league()).pitchers
    assert pitchers["HLD"].null_count() == pitchers.height
    assert pitchers["SO"].null_count() == 0


@pytest.mark.parametrize("seed", range(12))
def test_nothing_from_the_as_of_date_on_changes_a_projection(seed: int) -> None:
    rng = np.random.default_rng(seed)
    league = printed_league()
    as_of = date(int(rng.integers(2002, 2006)), int(rng.integers(1, 13)), int(rng.integers(1, 29)))
    last = target_season(as_of)

    def spoil(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
        noise = pl.lit(rng.integers(0, 50, frame.height), dtype=pl.Int16)
        later = frame.with_columns(pl.when(pl.col("season") >= last).then(noise).otherwise(pl.col(columns)).name.keep())
        unseen = frame.with_columns(season=pl.lit(last + 1, dtype=pl.Int16)).unique("player")
        return pl.concat([later, unseen])

    spoilt = League(
        spoil(league.batting_seasons, ["PA", "HR", "SO"]), spoil(league.pitching_seasons, ["outs", "ER"]),
        league.players,
    )  # fmt: skip
    a, b = (Marcel().project(as_of, x) for x in (league, spoilt))
    assert a.season == b.season == last
    # sums over threads may differ in the last bit
    for role in ROLES:
        assert a.role(role).drop("Name", "Team").equals(b.role(role).drop("Name", "Team")) or np.allclose(
            a.role(role).drop("Name", "Team").fill_null(0).to_numpy(),
            b.role(role).drop("Name", "Team").fill_null(0).to_numpy(), rtol=1e-12,
        )  # fmt: skip


def test_seasons_become_history_in_november() -> None:
    league = printed_league()
    assert target_season(date(2003, 10, 31)) == 2003
    assert target_season(date(2003, 11, 1)) == 2004
    assert league.before(date(2003, 10, 31)).batting_seasons["season"].max() == 2002
    assert league.before(date(2003, 11, 1)).batting_seasons["season"].max() == 2003
    assert league.before(date(2003, 3, 1)) is league.before(date(2003, 10, 1))


def test_rates_of_a_season() -> None:
    """Aaron Judge 2024: .322 / .458 / .701."""
    judge = pl.DataFrame({"player": [592450], "PA": [704], "AB": [559], "H": [180], "2B": [36], "3B": [1], "HR": [58],
                          "BB": [133], "IBB": [20], "SO": [171], "HBP": [9], "SF": [2], "SB": [10]})  # fmt: skip
    row = rates(Projection.of(2024, judge).hitters, "hitters").row(0, named=True)
    want = {"AVG": 0.322, "OBP": 0.458, "SLG": 0.701, "OPS": 1.159, "ISO": 0.379, "BABIP": 0.367, "wOBA": 0.476}
    for stat, value in want.items():
        # the weights of one season are not ours
        assert row[stat] == pytest.approx(value, abs=0.004 if stat == "wOBA" else 0.0012), stat
    nobody = rates(Projection.of(2024, judge.with_columns(pl.all().exclude("player") * 0)).hitters, "hitters")
    assert nobody["AVG"][0] is None
    assert set(HITTER_COUNTS) <= set(nobody.columns)
    assert "IP" in PITCHER_COUNTS


@pytest.fixture(scope="module")
def real_league(data_dir: Path) -> League:
    lahman, register = (pytest.importorskip(f"fullcount.sources.{n}") for n in ("lahman", "register"))
    people = register.read(sorted((data_dir / "register").glob("*.csv.gz")))
    tables = lahman.read(data_dir / "lahman", people.players)
    return League(tables.batting_seasons, tables.pitching_seasons, people.players)


@pytest.mark.real
def test_golden_rows_on_real_data(real_league: League) -> None:
    projection = Marcel().project(date(2004, 3, 1), real_league)
    first = {"Beltran": "Carlos", "Bonds": "Barry", "Pujols": "Albert", "Suzuki": "Ichiro", "Crawford": "Carl",
             "Pettyjohn": "Adam", "Clemens": "Roger", "Martinez": "Pedro", "Zito": "Barry"}  # fmt: skip
    who = real_league.players.select(
        "player", "first_name", last_name=pl.col("last_name").str.normalize("NFKD").str.replace_all(r"[^A-Za-z]", "")
    )

    def row(table: pl.DataFrame, name: str) -> dict[str, float]:
        found = table.join(who.filter(last_name=name, first_name=first[name]), on="player").sort("reliability")
        return found.row(-1, named=True)

    for name, (_, _, want) in HITTERS.items():
        got = row(projection.hitters, name)
        for column, value in zip(("PA", "HR", "BB", "SO", "SB"), want[:5], strict=True):
            assert got[column] == pytest.approx(value, abs=0.1 if column == "PA" else max(0.15, 0.006 * value)), name
    for name, (_, _, want) in PITCHERS.items():
        if name in first:
            got = row(projection.pitchers, name)
            for column, value in zip(("IP", "ER", "SO", "BB", "H", "HR"), want[:6], strict=True):
                assert got[column] == pytest.approx(value, abs=max(0.15, 0.006 * value)), (name, column)


@pytest.mark.real
@pytest.mark.parametrize("season", range(2004, 2013))
def test_tangos_own_files(real_league: League, data_dir: Path, season: int) -> None:
    projection = Marcel().project(date(season, 3, 1), real_league)
    least = {"hitters": {"PA": 0.9999, "HR": 0.998, "SB": 0.996, "SO": 0.999, "BB": 0.998},
             "pitchers": {"IP": 0.999, "SO": 0.998, "BB": 0.997, "ER": 0.998, "HR": 0.994}}  # fmt: skip
    for role in ROLES:
        path = data_dir / "projections" / f"marcel_{season}_{role}.csv.gz"
        official = pl.read_csv(path, infer_schema_length=None).drop_nulls("mlbam_id").unique("mlbam_id")
        official = official.with_columns(pl.col("mlbam_id").cast(pl.Int32))
        both = official.join(projection.role(role), left_on="mlbam_id", right_on="player", suffix="_mine")
        # his hitters of 2005 hold fifty pitchers
        assert both.height > (0.94 if season == 2005 else 0.99) * official.height
        for column, r in least[role].items():
            assert np.corrcoef(both[column], both[f"{column}_mine"])[0, 1] >= r, column
