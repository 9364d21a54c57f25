"""The simulated league obeys the rules of baseball, adds up, looks real, and shows the talent it was given."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.errors import FullcountError
from fullcount.fields import CALL_CLASS, NUMERIC, encode_delta
from fullcount.simulated.league import RATES, SimulatedLeague, simulate
from fullcount.sources.seasons import season_lines
from fullcount.sources.tables import POSITIONS, SCHEMAS, Tables


@pytest.fixture(scope="module")
def league() -> SimulatedLeague:
    return simulate()


@pytest.fixture(scope="module")
def tables(league: SimulatedLeague) -> Tables:
    return league.tables


@pytest.fixture(scope="module")
def linked(tables: Tables) -> pl.DataFrame:
    """Pitches beside the next row of the same game (`n_*`, null on the last)."""
    names = ("balls", "strikes", "outs", "bases", "bat_score", "fld_score", "inning", "top", "pa_number", "batter")
    return tables.pitches.with_columns(pl.col(c).shift(-1).over("game_id").alias(f"n_{c}") for c in names)


def test_tables_are_canonical(tables: Tables) -> None:
    for name, schema in SCHEMAS.items():
        assert dict(getattr(tables, name).schema) == schema, name
        assert getattr(tables, name).height > 0, name
    assert tables.pitches.height > 300_000
    ids = tables.players["player"]
    assert ids.to_list() == list(range(1, len(ids) + 1))
    assert tables.games["game_id"].n_unique() == tables.games.height == 1200
    assert tables.pitches["batter"].is_in(ids.implode()).all()


def test_situations_are_legal(tables: Tables) -> None:
    p = tables.pitches
    for name, high in (("balls", 3), ("strikes", 2), ("outs", 2), ("bases", 7), ("post_outs", 3), ("post_bases", 7)):
        assert p[name].is_between(0, high).all(), name
    assert p["runs"].is_between(0, 4).all()
    assert p.filter((pl.col("call") == "in_play") & (pl.col("event") == "none")).is_empty()
    last = p.filter(pl.col("event") == "strikeout")
    assert (last["strikes"] == 2).all()
    assert (p.filter(pl.col("event") == "walk")["balls"] == 3).all()
    contact = (pl.col("contact") != "none") == (pl.col("call") == "in_play")
    assert p.select(contact.all()).item()
    assert p.select((pl.col("launch_speed").is_not_null() == (pl.col("call") == "in_play")).all()).item()
    assert (p.filter(pl.col("event") == "sac_fly")["outs"] < 2).all()
    double = p.filter(pl.col("event") == "grounded_into_double_play")
    assert ((double["outs"] < 2) & (double["bases"].cast(pl.Int32) % 2 == 1)).all()


def test_each_pitch_leads_to_the_next(linked: pl.DataFrame) -> None:
    within = linked.filter(pl.col("n_pa_number") == pl.col("pa_number"))
    assert (within["event"] == "none").all()
    kind = pl.col("call").replace_strict(CALL_CLASS)
    strike = kind.is_in(["C", "S"]) | ((kind == "F") & (pl.col("strikes") < 2))
    checks = {
        "balls": pl.col("n_balls") - pl.col("balls") == (kind == "B").cast(pl.Int8),
        "strikes": pl.col("n_strikes") - pl.col("strikes") == strike.cast(pl.Int8),
        "outs": pl.col("n_outs") == pl.col("post_outs"),
        "bases": pl.col("n_bases") == pl.col("post_bases"),
        "score": pl.col("n_bat_score") == pl.col("bat_score") + pl.col("runs"),
    }
    assert within.select(**{k: v.all() for k, v in checks.items()}).row(0) == (True,) * len(checks)

    ended = linked.filter(pl.col("n_pa_number") != pl.col("pa_number"))
    assert (ended["event"] != "none").all()
    assert (ended["n_pa_number"] == ended["pa_number"] + 1).all()
    same_half = ended.filter(pl.col("post_outs") < 3)
    assert (same_half["top"] == same_half["n_top"]).all()
    assert (same_half["n_outs"] == same_half["post_outs"]).all()
    assert (same_half["n_bases"] == same_half["post_bases"]).all()
    assert (same_half["n_bat_score"] == same_half["bat_score"] + same_half["runs"]).all()
    new_half = ended.filter(pl.col("post_outs") == 3)
    assert (new_half["n_top"] != new_half["top"]).all()
    assert (new_half["n_inning"] == new_half["inning"] + (~new_half["top"]).cast(pl.Int8)).all()
    assert ((new_half["n_outs"] == 0) & (new_half["n_bases"] == 0)).all()
    assert (new_half["n_fld_score"] == new_half["bat_score"] + new_half["runs"]).all()


def test_truncated_batter_leads_off(tables: Tables) -> None:
    pa = tables.plate_appearances
    order = pa.with_columns(pl.col("batter").shift(-1).over("game_id", "top").alias("next"))
    cut = order.filter((pl.col("event") == "truncated_pa") & pl.col("next").is_not_null())
    assert cut.height > 50
    # A pinch hitter may take over; else it is the same man.
    assert (cut["batter"] == cut["next"]).mean() > 0.9


def test_every_delta_is_legal(linked: pl.DataFrame) -> None:
    p = linked
    ends = p["event"] != "none"
    over = (p["post_outs"] == 3) | p["n_balls"].is_null()
    within = (~ends).to_numpy()
    n_balls, n_strikes = (p[c].fill_null(0).to_numpy().astype(int) for c in ("n_balls", "n_strikes"))
    delta = encode_delta(
        ends.to_numpy(),
        over.to_numpy(),
        np.where(within, n_balls - p["balls"].to_numpy(), 0),
        np.where(within, n_strikes - p["strikes"].to_numpy(), 0),
        (p["post_outs"] - p["outs"]).to_numpy(),
        p["runs"].to_numpy(),
        p["bases"].to_numpy(),
        p["post_bases"].to_numpy(),
    )
    assert (delta > 0).all()


def test_runs_add_up(tables: Tables) -> None:
    games = tables.games
    assert (games["home_score"] != games["away_score"]).all()
    assert (games["innings"] >= 9).all()
    scores = pl.concat(
        games.select("game_id", pl.lit(home).alias("home"), pl.col(column).cast(pl.Int64).alias("runs"))
        for home, column in ((True, "home_score"), (False, "away_score"))
    ).sort("game_id", "home")
    for frame, home in (
        (tables.batting_games.with_columns(pl.col("R").alias("runs")), pl.col("home")),
        (tables.pitching_games.with_columns(pl.col("R").alias("runs")), ~pl.col("home")),
        (tables.pitches, ~pl.col("top")),
        (tables.plate_appearances, ~pl.col("top")),
    ):
        got = frame.group_by("game_id", home.alias("home")).agg(pl.col("runs").cast(pl.Int64).sum())
        assert_frame_equal(got.sort("game_id", "home"), scores)
    walked_off = tables.pitches.group_by("game_id", maintain_order=True).last().filter(~pl.col("top"))
    won = walked_off.filter(pl.col("post_outs") < 3)
    margin = won["bat_score"] + won["runs"] - won["fld_score"]
    assert (margin[(won["event"] != "home_run").arg_true()] == 1).all()


def test_batting_and_pitching_agree(tables: Tables) -> None:
    batting = tables.batting_games.group_by("game_id", "home")
    pitching = tables.pitching_games.with_columns(~pl.col("home")).group_by("game_id", "home")
    names = ["H", "2B", "3B", "HR", "BB", "SO", "HBP", "R"]
    left = batting.agg(pl.col("PA", *names).cast(pl.Int64).sum()).rename({"PA": "BF"}).sort("game_id", "home")
    right = pitching.agg(pl.col("BF", *names).cast(pl.Int64).sum()).sort("game_id", "home")
    assert_frame_equal(left, right)
    b = tables.batting_games
    assert (b["PA"] == b["AB"] + b["BB"] + b["HBP"] + b["SF"]).all()
    assert b.select("game_id", "player").is_duplicated().sum() == 0
    assert (b.group_by("game_id", "home").agg(pl.col("starter").sum())["starter"] == 9).all()
    counted = tables.plate_appearances.filter(pl.col("event") != "truncated_pa")
    assert counted.height == b["PA"].cast(pl.Int64).sum()
    assert counted["rbi"].cast(pl.Int64).sum() == b["RBI"].cast(pl.Int64).sum()
    assert tables.plate_appearances["pitches"].cast(pl.Int64).sum() == tables.pitches.height


def test_outs_and_decisions(tables: Tables) -> None:
    p = tables.pitching_games
    assert (p["ER"] <= p["R"]).all()
    sides = p.group_by("game_id", "home").agg(pl.col("outs", "GS", "GF").cast(pl.Int64).sum(), pl.len().alias("n"))
    sides = sides.join(tables.games.select("game_id", "innings"), on="game_id")
    # The home team pitches all innings; the visitors may be spared the last, or part of it.
    home, away = sides.filter("home"), sides.filter(~pl.col("home"))
    assert (home["outs"] == 3 * home["innings"].cast(pl.Int64)).all()
    assert away["outs"].is_between(3 * away["innings"] - 3, 3 * away["innings"]).all()
    assert (sides["GS"] == 1).all()
    assert (sides["GF"] == (sides["n"] > 1).cast(pl.Int64)).all()
    per_game = p.group_by("game_id").agg(pl.col("W", "L", "SV").cast(pl.Int64).sum())
    assert ((per_game["W"] == 1) & (per_game["L"] == 1) & (per_game["SV"] <= 1)).all()


def test_seasons_are_sums(tables: Tables) -> None:
    assert tables.batting_seasons["PA"].cast(pl.Int64).sum() == tables.batting_games["PA"].cast(pl.Int64).sum()
    assert tables.pitching_seasons["outs"].cast(pl.Int64).sum() == tables.pitching_games["outs"].cast(pl.Int64).sum()
    assert tables.batting_seasons.select("player", "season").is_duplicated().sum() == 0
    assert not tables.batting_seasons["is_pitcher"].any()
    assert tables.batting_seasons.select(POSITIONS).unique().row(0) == (0, *[None] * 9)  # only who pitched is known
    spring = tables.batting_games.head(100).with_columns(pl.lit("S").alias("game_type"))
    batting, _ = season_lines(pl.concat([tables.batting_games, spring]), tables.pitching_games, "SIM")
    assert_frame_equal(batting, tables.batting_seasons)
    unknown = tables.pitching_games.with_columns(pl.lit(None, dtype=pl.Int16).alias("pitches"))
    _, pitching = season_lines(tables.batting_games, unknown, "SIM")
    assert pitching["pitches"].is_null().all()


def test_seed_decides_everything() -> None:
    one, two, other = (simulate(seasons=2, teams=4, games_per_team=6, seed=s) for s in (3, 3, 4))
    for name in SCHEMAS:
        assert_frame_equal(getattr(one.tables, name), getattr(two.tables, name))
    assert_frame_equal(one.talent, two.talent)
    assert not one.tables.games["home_score"].equals(other.tables.games["home_score"])


@pytest.mark.parametrize("bad", [{"teams": 5}, {"teams": 100}, {"games_per_team": 200}, {"seasons": 0}])
def test_impossible_leagues_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(FullcountError):
        simulate(**bad)


def test_league_looks_real(tables: Tables) -> None:
    total = tables.batting_games.select(pl.col(pl.Int16).exclude("season").cast(pl.Int64).sum()).row(0, named=True)
    pa = total["PA"]
    in_play = total["AB"] - total["SO"] - total["HR"] + total["SF"]
    got = {
        "K": (total["SO"] / pa, 0.22),
        "BB": (total["BB"] / pa, 0.085),
        "HR": (total["HR"] / pa, 0.031),
        "BABIP": ((total["H"] - total["HR"]) / in_play, 0.295),
        "pitches/PA": (tables.pitches.height / pa, 3.9),
        "PA/game": (pa / tables.games.height, 75.5),
        "runs": (total["R"] / tables.games.height / 2, 4.5),
    }
    off = {k: round(x / y - 1, 3) for k, (x, y) in got.items()}
    assert all(abs(v) < 0.08 for v in off.values()), off
    shares = dict(tables.pitches["call"].replace_strict(CALL_CLASS).value_counts(normalize=True).iter_rows())
    for name, share in {"B": 0.362, "F": 0.179, "X": 0.171, "C": 0.164, "S": 0.121, "H": 0.003}.items():
        assert shares[name] == pytest.approx(share, rel=0.1), name
    starts = tables.pitching_games.filter(pl.col("GS") == 1)
    assert 20 < starts["BF"].cast(pl.Float64).mean() < 24  # type: ignore[operator]


def test_talent_shows_as_far_as_luck_allows(league: SimulatedLeague) -> None:
    lines = {
        "batter": league.tables.batting_seasons.with_columns(n=pl.col("PA")),
        "pitcher": league.tables.pitching_seasons.with_columns(n=pl.col("BF")),
    }
    spread = {"batter": (0.055, 0.025, 0.013), "pitcher": (0.045, 0.018, 0.006)}
    for role, season in lines.items():
        both = season.join(league.true_rates.filter(role=role), on=["player", "season"]).filter(pl.col("n") >= 100)
        n = both["n"].to_numpy().astype(float)
        for (count, rate), sd in zip((("SO", "K%"), ("BB", "BB%"), ("HR", "HR%")), spread[role], strict=True):
            observed, true = both[count].to_numpy() / n, both[rate].to_numpy()
            noise = np.mean(true * (1 - true) / n)
            ceiling = np.sqrt(true.var() / (true.var() + noise))
            assert np.corrcoef(observed, true)[0, 1] == pytest.approx(ceiling, abs=0.08), (role, rate)
            assert np.polyfit(true, observed, 1)[0] == pytest.approx(1, abs=0.2), (role, rate)
            assert np.average(observed, weights=n) == pytest.approx(np.average(true, weights=n), rel=0.05)
            assert true.std() == pytest.approx(sd, rel=0.4), (role, rate)
    assert league.talent.select(pl.col(RATES).is_between(0, 1).all()).row(0) == (True,) * len(RATES)
    assert league.talent.select("player", "season").is_duplicated().sum() == 0


def test_process_shows_talent(league: SimulatedLeague) -> None:
    """Pitch by pitch a sequence model can see what the box score hides."""
    p = league.tables.pitches
    kind = pl.col("call").replace_strict(CALL_CLASS)
    swing = kind.is_in(["S", "F", "X"])
    inside = (pl.col("plate_x").abs() < 0.83) & ((pl.col("plate_z") - 2.5).abs() < 0.85)
    process = (
        pl.len().alias("n"),
        swing.filter(~inside).mean().alias("chase"),
        (kind == "S").filter(inside & swing).mean().alias("miss"),
        pl.col("launch_speed").mean(),
        pl.col("launch_angle").mean(),
        pl.col("release_speed").filter(pl.col("pitch_type").is_in(["FF", "SI"])).mean(),
        inside.mean().alias("zone"),
    )

    def corr(player: str, a: str, b: str) -> float:
        seen = p.group_by(pl.col(player).alias("player"), "season").agg(*process).filter(pl.col("n") > 400)
        frame = seen.join(league.talent, on=["player", "season"]).drop_nulls([a, b])
        return float(np.corrcoef(frame[a].to_numpy(), frame[b].to_numpy())[0, 1])

    assert corr("batter", "chase", "discipline") < -0.8
    assert corr("batter", "chase", "BB%") < -0.6
    assert corr("batter", "miss", "contact") < -0.7
    assert corr("batter", "launch_speed", "power") > 0.8
    assert corr("batter", "launch_angle", "loft") > 0.5
    assert corr("pitcher", "miss", "stuff") > 0.5
    assert corr("pitcher", "release_speed", "velocity") > 0.8
    assert corr("pitcher", "release_speed", "K%") > 0.3
    assert corr("pitcher", "zone", "command") > 0.5
    assert corr("pitcher", "launch_angle", "grounders") < -0.6


def test_physics_are_plausible(tables: Tables) -> None:
    p = tables.pitches
    for f in NUMERIC:
        x = p[f.name].drop_nulls().to_numpy()
        assert np.isfinite(x).all()
        assert abs(x.mean() - f.center) < f.spread, f.name
        assert 0.5 < x.std() / f.spread < 2, f.name
    speed = dict(p.group_by("pitch_type").agg(pl.col("release_speed").mean()).iter_rows())
    assert speed["FF"] > speed["SL"] > speed["CU"]
    homers = p.filter(pl.col("event") == "home_run")
    assert homers["launch_speed"].mean() > 98  # type: ignore[operator]
    assert 22 < homers["launch_angle"].mean() < 34  # type: ignore[operator]
