"""Comparables: like players are found, the future is not read, and a name is a name however it is spelled."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from fullcount.cli import app
from fullcount.config import PretrainConfig
from fullcount.errors import FullcountError
from fullcount.evaluation.comparables import judge
from fullcount.projection import comparables
from fullcount.projection.comparables import (
    LEAST,
    SHOWN,
    Points,
    find_player,
    fit_space,
    player_seasons,
    season_means,
    season_table,
    similar,
)
from fullcount.projection.system import League
from fullcount.store import Store
from fullcount.training.jobs import pretrain


def made_points(players: int = 120, seasons: range = range(2010, 2020), seed: int = 0) -> Points:
    """Everybody plays every season; twelve dimensions, of which a fixed talent is in the first two alone, drowned in
    what changes from season to season in the others. K% is the talent, for ever."""
    rng = np.random.default_rng(seed)
    talent = rng.normal(size=(players, 2))
    rows, vectors = [], []
    for player in range(players):
        for season in seasons:
            rate = 0.2 + 0.03 * talent[player, 0] + rng.normal(0, 0.01)
            line = dict.fromkeys(SHOWN["batter"], 0.3 + 0.01 * rng.normal()) | {"K%": rate, "PA": 500.0}
            after = {f"next {c}": x if season + 1 in seasons else None for c, x in line.items()}
            rows.append({"player": player, "Name": f"José P{player}", "season": season, "league": "MLB",
                         "age": 20 + player % 15 + season - 2010, **line, **after})  # fmt: skip
            vectors.append(np.r_[talent[player] + 0.2 * rng.normal(size=2), 10 * rng.normal(size=10)])
    return Points("batter", pl.DataFrame(rows, infer_schema_length=None), np.array(vectors))


@pytest.fixture(scope="module")
def points() -> Points:
    return made_points()


def test_what_changes_from_year_to_year_is_noise(points: Points) -> None:
    """The space turns to the two dimensions in which players differ lastingly, though the others are wider."""
    axes = fit_space(points).axes
    assert np.abs(axes[2:]).max() < 0.05 * np.abs(axes[:2]).max()
    near = similar(points, 7, 2015, n=5)
    talent = {int(p): points.vectors[points.table["player"].to_numpy() == p, :2].mean(axis=0) for p in range(120)}
    apart = [float(np.linalg.norm(talent[int(p)] - talent[7])) for p in near["player"]]
    everyone = [float(np.linalg.norm(talent[p] - talent[7])) for p in range(120) if p != 7]
    assert np.mean(apart) < 0.5 * np.mean(everyone)
    assert (near["distance"].diff().drop_nulls() >= 0).all()
    assert 7 not in near["player"].to_list()


def test_their_next_season_tells_of_his(points: Points) -> None:
    table = judge(points, [2017, 2018, 2019], draws=100)
    r = dict(table.filter(stat="K%").select("way", "r").iter_rows())
    assert r["embedding"] > 0.7
    assert abs(r["age"]) < 0.3
    assert table.filter(stat="K%", way="age")["low"].item() > 0.3


def test_a_target_that_was_not_played(points: Points) -> None:
    with pytest.raises(FullcountError, match="nobody has a season 2024 and 2025"):
        judge(points, [2025])


def test_the_future_is_not_read(points: Points) -> None:
    later = (pl.col("season") >= 2015) & ~((pl.col("player") == 7) & (pl.col("season") == 2015))
    moved = points.table.select(later).to_series().to_numpy()
    rng = np.random.default_rng(1)
    spoilt = Points(
        "batter", points.table, np.where(moved[:, None], rng.normal(size=points.vectors.shape), points.vectors)
    )
    a, b = (similar(p, 7, 2015, before=2015) for p in (points, spoilt))
    assert_frame_equal(a, b, check_exact=True)
    assert a["season"].to_numpy().max() < 2015
    assert not similar(points, 7, 2015).equals(similar(spoilt, 7, 2015))


def test_order_of_the_points_does_not_matter(points: Points) -> None:
    order = np.random.default_rng(2).permutation(points.table.height)
    shuffled = Points("batter", points.table[order.tolist()], points.vectors[order])
    assert_frame_equal(similar(points, 3, 2012), similar(shuffled, 3, 2012), abs_tol=1e-9)


def test_age(points: Points) -> None:
    own = points.table.filter(player=3, season=2012)["age"].item()
    ages = similar(points, 3, 2012, n=50, age_within=1)["age"]
    assert set(ages.to_list()) == {own - 1, own, own + 1}
    ageless = Points("batter", points.table.with_columns(age=pl.lit(None, dtype=pl.Int64)), points.vectors)
    with pytest.raises(FullcountError, match="no register knows his age"):
        similar(ageless, 3, 2012, age_within=1)


def test_names(points: Points) -> None:
    table = points.table
    assert find_player(table, "batter", "  jose P12 ", 2012) == 12
    assert find_player(table, "batter", "17", 2012) == 17
    with pytest.raises(FullcountError, match=r"no batter 'Joze P12' .*; did you mean José P12"):
        find_player(table, "batter", "Joze P12", 2012)
    with pytest.raises(FullcountError, match="did you mean José P119"):
        find_player(table, "batter", "p119", 2012)
    for who in ("José P12", "12"):
        with pytest.raises(FullcountError, match=r"12 has no season 2025 .*there are 2010, 2011"):
            find_player(table, "batter", who, 2025)
    twins = table.with_columns(Name=pl.lit("Will Smith"))
    with pytest.raises(FullcountError, match=r"smith is 120 batters in 2012: give one of the ids 0 \(aged 22\), 1"):
        find_player(twins, "batter", "will smith", 2012)
    with pytest.raises(FullcountError, match=r"player 5 has no season 2030 .*there are 2010"):
        similar(points, 5, 2030)


def test_who_has_no_name_is_no_suggestion(points: Points) -> None:
    nameless = points.table.with_columns(Name=pl.when(pl.col("player") != 3).then("Name"))
    with pytest.raises(FullcountError, match="did you mean José P12"):
        find_player(nameless, "batter", "Joze P12", 2012)


def test_too_few_seasons(points: Points) -> None:
    with pytest.raises(FullcountError, match="ingest more"):
        similar(points, 5, 2010, before=2011)


def test_means_weigh_events() -> None:
    vectors = np.array([[1.0, 0.0], [3.0, 4.0], [5.0, 5.0]], dtype=np.float16)
    who, means = season_means(vectors, np.array([1, 3, 7]), np.array([4, 4, 9]))
    assert who.tolist() == [4, 9]
    np.testing.assert_allclose(means, [[2.5, 3.0], [5.0, 5.0]])


def test_seasons_and_the_ones_after_them(sim_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEAST, "batter", 20)
    league = League.of(sim_store)
    table = season_table(league, "batter")
    lines = {(r["player"], r["season"]): r for r in league.batting_seasons.iter_rows(named=True)}
    assert table.height > 50
    for row in table.iter_rows(named=True):
        line, after = lines[row["player"], row["season"]], lines.get((row["player"], row["season"] + 1))
        assert row["PA"] == line["PA"] >= 20
        assert row["K%"] == pytest.approx(line["SO"] / line["PA"])
        assert row["next PA"] == (after and after["PA"])


@pytest.fixture(scope="module")
def run(sim_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "encoder"
    config = PretrainConfig.model_validate({
        "encoder": {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}, "since": date(2001, 1, 1),
        "before": date(2003, 1, 1), "batch_tokens": 2048, "train": {"steps": 2},
    })  # fmt: skip
    pretrain(config, sim_store, path)
    return path


def test_command(sim_store: Store, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(comparables.LEAST, "batter", 20)
    points = player_seasons(sim_store, run, "batter")
    level = points.vectors.mean(axis=0)
    assert np.abs(level).max() < 0.2 * points.vectors.std(axis=0).max()  # relative to the league
    assert points.vectors.shape == (points.table.height, 16)
    earlier = player_seasons(sim_store, run, "batter", date(2003, 1, 1))
    assert earlier.table["season"].to_numpy().max() == 2002
    both = points.where(pl.col("season") < 2003)
    np.testing.assert_array_equal(both.vectors, earlier.vectors)
    player = str(points.table.filter(season=2002)["player"][0])
    args = ["similar", player, "--season", "2002", "--store", str(sim_store.root), "--encoder", str(run), "--n", "3"]
    result = CliRunner().invoke(app, [*args, "--figure", str(tmp_path / "map.png")], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    assert "next K%" in result.output
    assert (tmp_path / "map.png").stat().st_size > 5000
    nowhere = [*args[2:6], "--encoder", str(tmp_path / "no run")]  # a name is told before an encoder is read
    for who, said in (("Nobody At All", "no batter 'Nobody At All'"), ("0", "player 0 has no season 2002")):
        wrong = CliRunner().invoke(app, ["similar", who, *nowhere])
        assert wrong.exit_code == 2
        assert said in wrong.output.replace("\n", " ")
    with pytest.raises(FullcountError, match="choose batter or pitcher"):
        player_seasons(sim_store, run, "catcher")
