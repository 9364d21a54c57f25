"""The contextual model as a system: nothing of the future, counts that add up, and who speaks for whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from shutil import rmtree

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fullcount.adaptation import samples
from fullcount.config import FinetuneConfig, PretrainConfig
from fullcount.errors import FullcountError
from fullcount.projection.contextual import Contextual
from fullcount.projection.marcel import Marcel
from fullcount.projection.registry import make_system
from fullcount.projection.system import COUNTS, League, Projection, rates
from fullcount.simulated.league import simulate
from fullcount.sources.tables import BATTING_COUNTS, PITCHING_COUNTS, Tables
from fullcount.store import Store
from fullcount.training.jobs import finetune, pretrain

TINY = {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 32}
CUTOFF = date(2004, 3, 1)
SUMMER = date(2004, 5, 1)


@pytest.fixture(scope="module")
def tables() -> Tables:
    """Seasons 2001 to 2004 of four teams."""
    return simulate(seasons=4, teams=4, games_per_team=24, seed=5).tables


@pytest.fixture(scope="module")
def store(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open_or_create(tmp_path_factory.mktemp("contextual") / "store").add(tables, "sim")


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    train = {"steps": 6, "precision": "32-true"}
    pretrain(
        PretrainConfig(encoder=TINY, before=CUTOFF, batch_tokens=512, train=train),
        store,
        out / "encoder",
        progress=False,
    )
    fitting = {"steps": 20, "lr": 2e-2, "monitor": "total", "validate_every": 10, "precision": "32-true"}
    given = {"before": CUTOFF, "since": date(2001, 6, 1), "train": fitting}
    for name, more in {
        "batter": {"role": "batter"},
        "pitcher": {"role": "pitcher"},
        "games": {"role": "batter", "grain": "game"},
    }.items():
        finetune(FinetuneConfig(**given, **more), store, out / "encoder", out / name, progress=False)
    return out


def projected(store: Store, runs: Path, as_of: date = CUTOFF) -> Projection:
    return Contextual(store, runs / "batter", runs / "pitcher").project(as_of, League.of(store))


def same(a: Projection, b: Projection) -> bool:
    return a.hitters.equals(b.hitters) and a.pitchers.equals(b.pitchers)


def assert_same(table: pl.DataFrame, fallback: pl.DataFrame) -> None:
    """Row by row what the fallback said (AB is summed in another order)."""
    assert_frame_equal(table.select(fallback.columns), fallback, rel_tol=1e-12)


@pytest.fixture(scope="module")
def whole(store: Store, runs: Path) -> Projection:
    return projected(store, runs)


# ---------------------------------------------------------------------------------------------------------- the future


def test_a_date_before_the_cut_off_is_refused(store: Store, runs: Path) -> None:
    for paths in ((runs / "batter", None), (None, runs / "pitcher")):
        system = Contextual(store, *paths, name="mine")
        with pytest.raises(FullcountError, match="mine was trained on play up to 2004-03-01; it may not project"):
            system.project(date(2004, 2, 29), League.of(store))


def altered(tables: Tables, day: date) -> Tables:
    """Everything on or after `day` is another story: players swapped, other calls, speeds, parks, counts, scores."""
    rng = np.random.default_rng(0)
    late = pl.col("date") >= day

    def swap(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
        """Values of late rows dealt anew among them."""
        order = np.arange(frame.height)
        chosen = np.flatnonzero(frame.select(late).to_series().to_numpy())
        order[chosen] = rng.permutation(chosen)
        return frame.with_columns(frame[c][order] for c in columns)

    def count(frame: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
        return frame.with_columns(pl.when(late).then(pl.col(c) * 2 + 1).otherwise(c).alias(c) for c in columns)

    park = pl.when(late).then(pl.lit("ELSEWHERE")).otherwise("park").alias("park")
    pitches = swap(tables.pitches, "call", "pitch_type", "release_speed", "plate_x", "stand")
    # Within a plate appearance batter and pitcher stay the same, else the index would not be one.
    people = tables.pitches.filter(late).select("game_id", "batter").unique(maintain_order=True)
    dealt = people.with_columns(other=people["batter"][rng.permutation(people.height)])
    pitches = pitches.join(dealt, on=["game_id", "batter"], how="left", maintain_order="left")
    pitches = pitches.with_columns(pl.coalesce("other", "batter").alias("batter")).drop("other")
    return replace(
        tables,
        pitches=pitches.with_columns(park),
        plate_appearances=swap(tables.plate_appearances, "event", "batter", "pitcher").with_columns(park),
        games=swap(tables.games, "home_score", "away_score", "home_starter", "away_starter").with_columns(park),
        batting_games=count(swap(tables.batting_games, "is_pitcher", "team"), BATTING_COUNTS),
        pitching_games=count(swap(tables.pitching_games, "GS", "team"), PITCHING_COUNTS),
    )


@pytest.mark.parametrize("as_of", [CUTOFF, SUMMER])
def test_the_future_changes_no_bit(tables: Tables, store: Store, runs: Path, tmp_path: Path, as_of: date) -> None:
    assert tables.pitches.filter(pl.col("date") < SUMMER)["season"].max() == 2004  # a part of the season is history
    other = Store.open_or_create(tmp_path / "altered").add(altered(tables, as_of), "sim")
    assert other.fingerprint() != store.fingerprint()
    # Both from nothing: which games are encoded together moves an embedding by its last bit (the test below).
    rmtree(runs / "encoder" / "embeddings")
    truth = projected(store, runs, as_of)
    assert same(projected(other, runs, as_of), truth)
    without = {n: f.filter(pl.col("date") < as_of) for n, f in tables.__dict__.items() if "date" in f.columns}
    cut = Store.open_or_create(tmp_path / "cut").add(replace(tables, **without), "sim")
    assert same(projected(cut, runs, as_of), truth)


def test_embeddings_kept_from_other_dates_change_no_more_than_a_rounding(store: Store, runs: Path) -> None:
    """Games encoded earlier, with other games beside them, may differ in the last bit of float16; not more."""
    rmtree(runs / "encoder" / "embeddings")
    fresh = projected(store, runs, SUMMER)
    rmtree(runs / "encoder" / "embeddings")
    projected(store, runs, CUTOFF)
    kept = projected(store, runs, SUMMER)
    for role in ("hitters", "pitchers"):
        assert_frame_equal(fresh.role(role), kept.role(role), rel_tol=1e-4, abs_tol=1e-4)


def test_the_past_does(tables: Tables, store: Store, runs: Path, tmp_path: Path) -> None:
    """So that the test above can fail."""
    other = Store.open_or_create(tmp_path / "altered").add(altered(tables, date(2004, 4, 10)), "sim")
    mine, theirs = projected(store, runs, SUMMER), projected(other, runs, SUMMER)
    assert not mine.hitters["HR"].equals(theirs.hitters["HR"])
    assert not mine.pitchers["SO"].equals(theirs.pitchers["SO"])


# ---------------------------------------------------------------------------------------------------- what is projected


def test_components_add_up(whole: Projection) -> None:
    hitters = whole.hitters.with_columns(
        h=pl.sum_horizontal("1B", "2B", "3B", "HR"), pa=pl.sum_horizontal("AB", "BB", "HBP", "SF", "SH")
    )
    np.testing.assert_allclose(hitters["h"], hitters["H"], rtol=1e-12)
    np.testing.assert_allclose(hitters["pa"], hitters["PA"], rtol=1e-12)
    for role in ("hitters", "pitchers"):
        table = rates(whole.role(role), role)
        for column in COUNTS[role]:
            known = table[column].drop_nulls()
            assert known.is_finite().all(), column
            assert (known >= 0).all(), column
        for rate in ("K%", "BB%", "AVG", "BABIP"):
            assert table[rate].is_between(0, 1).all(), rate
    assert rates(whole.hitters, "hitters")["OBP"].is_between(0.15, 0.6).all()
    assert rates(whole.pitchers, "pitchers")["ERA"].is_between(0.5, 15).all()
    assert (whole.pitchers["H"] >= whole.pitchers["HR"]).all()
    assert (whole.pitchers["R"] >= whole.pitchers["ER"]).all()


def test_playing_time_is_the_fallbacks_and_rates_are_the_models(store: Store, runs: Path, whole: Projection) -> None:
    marcel = Marcel().project(CUTOFF, League.of(store))
    assert whole.season == marcel.season == 2004
    assert whole.hitters.select("player", "Name", "PA").equals(marcel.hitters.select("player", "Name", "PA"))
    counts = ["player", "IP", "W", "SV", "G", "GS"]
    assert whole.pitchers.select(counts).equals(marcel.pitchers.select(counts))
    system = Contextual(store, runs / "batter", runs / "pitcher")
    said = system.rates("batter", whole.hitters["player"].to_numpy().astype(np.int64), CUTOFF)
    spoke = (whole.hitters["system"] == "contextual").to_numpy()
    assert spoke.mean() > 0.9
    assert (spoke == np.isfinite(said).all(axis=1)).all()
    strikeouts = (whole.hitters["PA"].to_numpy() * said[:, 0])[spoke]
    np.testing.assert_allclose(whole.hitters["SO"].to_numpy()[spoke], strikeouts, rtol=1e-12)
    assert np.abs(strikeouts - marcel.hitters["SO"].to_numpy()[spoke]).max() > 1


def test_who_has_no_recent_events_gets_the_fallback(
    tables: Tables, store: Store, runs: Path, whole: Projection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marcel = Marcel().project(CUTOFF, League.of(store))
    spoken = whole.hitters.filter(pl.col("system") == "contextual")["player"]
    hitter, pitcher = spoken[0], whole.pitchers.filter(pl.col("system") == "contextual")["player"][0]
    kept = tables.pitches.filter((pl.col("batter") != hitter) & (pl.col("pitcher") != pitcher))
    other = Store.open_or_create(tmp_path / "store").add(replace(tables, pitches=kept), "sim")
    found = projected(other, runs)
    for role, player in (("hitters", hitter), ("pitchers", pitcher)):
        row, his = (p.role(role).filter(pl.col("player") == player) for p in (found, marcel))
        assert row["system"].to_list() == ["marcel"]
        assert_same(row, his)
        assert (found.role(role)["system"] == "contextual").any()
    monkeypatch.setattr(samples, "STALE", 30)  # nobody played in February
    stale = projected(store, runs)
    assert set(stale.hitters["system"]) == set(stale.pitchers["system"]) == {"marcel"}
    assert_same(stale.hitters, marcel.hitters)


def test_a_role_without_a_run_is_the_fallbacks(store: Store, runs: Path, whole: Projection) -> None:
    marcel = Marcel().project(CUTOFF, League.of(store))
    batters = make_system(f"mine={runs / 'batter'},", store).project(CUTOFF, League.of(store))
    pitchers = make_system(f"mine=,{runs / 'pitcher'}", store).project(CUTOFF, League.of(store))
    assert_same(batters.pitchers, marcel.pitchers)
    assert_same(pitchers.hitters, marcel.hitters)
    assert batters.pitchers["system"].unique().to_list() == ["marcel"]
    counts = ["player", *COUNTS["hitters"]]
    assert batters.hitters.select(counts).equals(whole.hitters.select(counts))
    assert set(batters.hitters["system"]) <= {"mine", "marcel"}
    assert pitchers.pitchers.drop("system").equals(whole.pitchers.drop("system"))


def test_a_league_without_steals_has_finite_counts(tables: Tables, runs: Path, tmp_path: Path) -> None:
    """Nobody steals: caught stealing cannot follow the steals, it stays the fallback's."""
    names = ("batting_games", "batting_seasons")
    still = {n: getattr(tables, n).with_columns(pl.lit(0, dtype=pl.Int16).alias("SB")) for n in names}
    other = Store.open_or_create(tmp_path / "store").add(replace(tables, **still), "sim")
    found = projected(other, runs).hitters
    assert found["CS"].drop_nulls().is_finite().all()
    marcel = Marcel().project(CUTOFF, League.of(other)).hitters
    np.testing.assert_array_equal(found["CS"], marcel["CS"])


def test_the_wrong_run_is_refused(store: Store, runs: Path) -> None:
    with pytest.raises(FullcountError, match="fitted for pitchers at season grain, not batters' seasons"):
        Contextual(store, batter=runs / "pitcher")
    with pytest.raises(FullcountError, match="fitted for batters at game grain"):
        Contextual(store, batter=runs / "games")
    with pytest.raises(FullcountError, match="not a fitted run"):
        Contextual(store, runs / "encoder")


def test_seasons_too_few_to_validate_on_are_refused(store: Store, runs: Path, tmp_path: Path) -> None:
    """One season of targets: nothing would be left to stop by."""
    config = FinetuneConfig(role="batter", before=CUTOFF, since=date(2003, 1, 1))
    with pytest.raises(FullcountError, match="validate"):
        finetune(config, store, runs / "encoder", tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("adaptation", "reads"), [("adapters", "games"), ("gradual", "games"), ("lora", "window")])
def test_whatever_way_the_encoder_was_fitted_it_projects(adaptation, reads, store, runs, tmp_path):
    train = {"steps": 6, "lr": 2e-2, "monitor": None}
    given = {"role": "batter", "before": CUTOFF, "since": date(2001, 6, 1), "window": {"games": 6}, "train": train}
    config = FinetuneConfig.model_validate({**given, "adaptation": adaptation, "reads": reads})
    finetune(config, store, runs / "encoder", tmp_path / "run", progress=False)
    hitters = Contextual(store, tmp_path / "run").project(CUTOFF, League.of(store)).hitters
    spoke = hitters.filter(pl.col("system") == "contextual")
    assert spoke.height > 20
    marcel = Marcel().project(CUTOFF, League.of(store)).hitters
    both = spoke.join(marcel, on="player", suffix="_marcel")
    assert both["PA"].equals(both["PA_marcel"], check_dtypes=True)
    assert (both["HR"] - both["HR_marcel"]).abs().max() > 0.1
