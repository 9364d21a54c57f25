"""Metrics against scipy and brute force, and what must not change them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from fullcount.evaluation.ceilings import ceiling, noise
from fullcount.evaluation.metrics import (
    METRICS,
    Paired,
    bias,
    calibration,
    interval,
    mae,
    midranks,
    paired_bootstrap,
    pearson,
    resamples,
    rmse,
    sd_ratio,
    slope,
    spearman,
    standings,
)

seeds = st.integers(0, 2**32 - 1)


def sample(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(20, 8, n).round(rng.integers(0, 3))  # ties
    return (0.6 * y + rng.normal(0, 5, n)).round(1), y


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_agrees_with_scipy(seed: int) -> None:
    x, y = sample(seed)
    assert pearson(x, y) == pytest.approx(scipy_stats.pearsonr(x, y)[0], abs=1e-12)
    assert spearman(x, y) == pytest.approx(scipy_stats.spearmanr(x, y)[0], abs=1e-12)
    assert slope(x, y) == pytest.approx(scipy_stats.linregress(x, y).slope, abs=1e-12)
    assert sd_ratio(x, y) == pytest.approx(x.std() / y.std(), abs=1e-12)
    assert rmse(x, y) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    assert mae(x, y) == pytest.approx(np.mean(np.abs(x - y)))
    assert bias(x, y) == pytest.approx(np.mean(x - y))
    assert np.allclose(midranks(x, np.ones(len(x))) + 0.5, scipy_stats.rankdata(x))


@settings(max_examples=50, deadline=None)
@given(seeds, st.floats(0.1, 50), st.floats(-100, 100))
def test_invariances(seed: int, scale: float, shift: float) -> None:
    x, y = sample(seed)
    assert pearson(scale * x + shift, y) == pytest.approx(float(pearson(x, y)), abs=1e-9)
    assert pearson(-x, y) == pytest.approx(-float(pearson(x, y)), abs=1e-12)
    assert pearson(x, y) == pytest.approx(float(pearson(y, x)), abs=1e-12)
    assert spearman(np.exp(x / 10), y) == pytest.approx(float(spearman(x, y)), abs=1e-12)
    assert bias(x + shift, y) == pytest.approx(float(bias(x, y)) + shift, abs=1e-9)
    order = np.random.default_rng(seed).permutation(len(x))
    for metric in METRICS.values():
        assert metric(x[order], y[order], None) == pytest.approx(float(metric(x, y, None)), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_whole_weights_are_repeated_rows(seed: int) -> None:
    """Also with a leading axis, which the bootstrap relies on."""
    x, y = sample(seed)
    w = np.random.default_rng(seed).integers(0, 4, (3, len(x))).astype(float)
    for metric in METRICS.values():
        together = metric(x, y, w)
        for i, row in enumerate(w.astype(int)):
            assert together[i] == pytest.approx(float(metric(np.repeat(x, row), np.repeat(y, row), None)), abs=1e-9)


def test_undefined_is_nan_not_an_error() -> None:
    flat, y = np.full(5, 3.3), np.arange(5.0)
    assert np.isnan(pearson(flat, y))
    assert np.isnan(slope(flat, y))
    assert sd_ratio(flat, y) == 0  # collapsed to the mean: visible, not hidden
    assert np.isnan(pearson(y[:1], y[:1]))
    assert np.isnan(rmse(y[:0], y[:0]))
    assert np.isnan(spearman(y[:0], y[:0]))


def test_resamples_draw_every_player_equally() -> None:
    drawn = resamples(50, 4000, seed=3)
    assert drawn.shape == (4000, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert np.allclose(drawn.mean(axis=0), 1, atol=0.08)
    assert (resamples(50, 10, seed=3) == resamples(50, 10, seed=3)).all()


def test_bootstrap_interval_of_a_mean_is_the_textbook_one() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(0, 1, 400)
    second = y + rng.normal(0.1, 1, 400)
    found = paired_bootstrap(bias, [Paired(np.arange(400, dtype=np.int32), y, y, second)], seed=2)
    half = 1.96 * (second - y).std() / 20
    assert found.value == pytest.approx((second - y).mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_pairing_and_clusters() -> None:
    """The same system twice differs by nothing; a player's seasons are drawn together."""
    x, y = sample(5, 200)
    who = np.arange(200, dtype=np.int32)
    assert paired_bootstrap(pearson, [Paired(who, y, x, x)]) == interval(0.0, np.zeros(3))
    better = 0.5 * x + 0.5 * y
    one = paired_bootstrap(pearson, [Paired(who, y, x, better)])
    twice = paired_bootstrap(pearson, [Paired(who, y, x, better)] * 2)
    assert one.low > 0
    assert twice == one  # the same season again is no new evidence
    other = paired_bootstrap(pearson, [Paired(who, y, x, better), Paired(who + 200, y, x, better)])
    assert other.high - other.low < 0.85 * (one.high - one.low)


def test_standings() -> None:
    counts = {"HR": [10, 20, 30], "SB": [5, 5, 5], "PA": [600, 300, 600], "H": [150, 100, 130], "BB": [50, 20, 60],
              "HBP": [0, np.nan, 10]}  # fmt: skip
    arrays = {k: np.array(v, float) for k, v in counts.items()}
    on_base = np.array([200.0, 120.0, 200.0])
    contribution = on_base - arrays["PA"] * (520 / 1500)
    want = (arrays["HR"] - 20) / arrays["HR"].std() + (contribution - contribution.mean()) / contribution.std()
    assert np.allclose(standings(arrays, ("HR", "SB", "OBP")), want)  # steals have no spread


def test_calibration() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=20000)
    levels = {q: np.full(20000, scipy_stats.norm.ppf(q / 100)) for q in (90, 10, 50)}
    shares = calibration(actual, levels)
    assert list(shares) == [10, 50, 90]
    assert all(abs(shares[q] - q / 100) < 0.01 for q in shares)


@pytest.mark.parametrize(("stat", "role"), [("K%", "hitters"), ("SLG", "hitters"), ("HR", "hitters"),
                                            ("K/9", "pitchers"), ("WHIP", "pitchers")])  # fmt: skip
def test_ceiling_is_what_perfect_talent_reaches(stat: str, role: str) -> None:
    """Seasons are rolled from known talents; the talent's own r is the ceiling."""
    rng = np.random.default_rng(7)
    n = 5000
    if role == "hitters":
        pa = rng.integers(300, 650, n)
        mean = np.array([0.15, 0.05, 0.005, 0.03, 0.22, 0.545])  # 1B 2B 3B HR SO other
        talent = np.stack([rng.dirichlet(mean * 150) for _ in range(n)])
        got = np.stack([rng.multinomial(k, p) for k, p in zip(pa, talent, strict=True)])
        frame = pl.DataFrame({c: got[:, i] for i, c in enumerate(("1B", "2B", "3B", "HR", "SO"))}).with_columns(
            PA=pl.Series(pa), AB=pl.Series(pa)
        )
        bases = np.array([1, 2, 3, 4, 0, 0])
        perfect, actual = {
            "K%": (talent[:, 4], got[:, 4] / pa), "SLG": (talent @ bases, got @ bases / pa),
            "HR": (talent[:, 3] * pa, got[:, 3].astype(float)),
        }[stat]  # fmt: skip
    else:
        bf = rng.integers(300, 800, n)
        mean = np.array([0.23, 0.45, 0.32])  # SO, other out, on base
        talent = np.stack([rng.dirichlet(mean * 200) for _ in range(n)])
        got = np.stack([rng.multinomial(k, p) for k, p in zip(bf, talent, strict=True)])
        outs = got[:, 0] + got[:, 1]
        frame = pl.DataFrame({"SO": got[:, 0], "H": got[:, 2], "BB": np.zeros(n), "IP": outs / 3, "TBF": bf})
        out_rate = talent[:, 0] + talent[:, 1]
        perfect, actual = {
            "K/9": (27 * talent[:, 0] / out_rate, 27 * got[:, 0] / outs),
            "WHIP": (3 * talent[:, 2] / out_rate, 3 * got[:, 2] / outs),
        }[stat]  # fmt: skip
    reached = float(pearson(np.asarray(perfect, float), np.asarray(actual, float)))
    assert ceiling(frame, role, stat, np.asarray(actual, float)) == pytest.approx(reached, abs=0.02)  # type: ignore[arg-type]


def test_ceiling_unknown() -> None:
    frame = pl.DataFrame({"PA": [500.0, 400.0], "R": [50.0, 60.0], "IP": [0.0, 1.0]})
    assert noise(frame, "hitters", "R") is None
    assert np.isnan(ceiling(frame, "hitters", "R", np.array([50.0, 60.0])))
    assert np.isnan(ceiling(frame, "pitchers", "ERA", np.array([3.0, np.nan])))
