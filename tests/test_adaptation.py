"""Fitting: heads anchored on the prior, pooling, honest samples, planted truth."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from fullcount.adaptation.heads import CountHead, LinearHead, Targets, log5
from fullcount.adaptation.methods import Linear
from fullcount.adaptation.performance import PerformanceTask, SampleSource, pool
from fullcount.adaptation.samples import Samples, known, samples
from fullcount.fields import OUTCOMES
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.priors import Priors, game_lines
from fullcount.store import Store, day_number
from fullcount.windows import History, Window

LEAGUE = torch.tensor([0.46, 0.22, 0.08, 0.14, 0.045, 0.005, 0.035, 0.015])
K, HR = OUTCOMES.index("K"), OUTCOMES.index("HR")


def mixes(count: int, spread: float, seed: int) -> Tensor:
    """Players' true outcome mixes: the league's with normal departures in log-odds."""
    shift = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) * spread
    return (LEAGUE.log() + shift).softmax(-1)


def targets(prior: Tensor, counts: Tensor | None = None, opponent: Tensor | None = None) -> Targets:
    m = len(prior)
    counts = torch.zeros(m, 8) if counts is None else counts
    league = LEAGUE.expand(m, 8)
    return Targets(
        counts=counts,
        extras=0.1 * counts.sum(1, keepdim=True).expand(m, 3),
        exposure=counts.sum(1),
        prior=prior,
        opponent=league if opponent is None else opponent,
        league=league,
        prior_extras=torch.full((m, 3), 0.1),
        prior_exposure=torch.linspace(3, 5, m),
        league_extras=torch.full((m, 3), 0.08),
        league_exposure=torch.full((m,), 4.0),
        features=torch.zeros(m, Priors.WIDTH),
    )


def head(width: int = 4, **changes: bool) -> CountHead:
    return CountHead(width, 3, Priors.WIDTH, **({"game": False} | changes))


# ----------------------------------------------------------------------------------------------------------- heads


def test_an_untrained_head_says_the_prior():
    prior = mixes(50, 0.3, 0)
    expected = head().expected(torch.randn(50, 4), targets(prior))
    torch.testing.assert_close(expected[:, :7], prior[:, 1:], atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(expected[:, 7:], torch.full((50, 3), 0.1), atol=1e-5, rtol=0)


def test_an_untrained_head_meets_the_opponent_by_log5():
    prior, opponent = mixes(20, 0.3, 0), mixes(20, 0.3, 1)
    t = targets(prior, opponent=opponent)
    odds = prior * opponent / LEAGUE
    want = odds / odds.sum(1, keepdim=True)
    game = head(game=True).expected(torch.randn(20, 4), t)
    torch.testing.assert_close(game[:, :7], want[:, 1:] * t.prior_exposure[:, None], atol=2e-3, rtol=2e-3)
    alone = head(use_opponent=False).expected(torch.randn(20, 4), t)
    torch.testing.assert_close(alone[:, :7], prior[:, 1:], atol=2e-5, rtol=1e-3)


def test_log5_with_an_average_opponent_is_the_player():
    player = mixes(5, 0.3, 0)
    got = log5(player, LEAGUE.expand(5, 8), LEAGUE.expand(5, 8)).softmax(-1)
    torch.testing.assert_close(got, player, atol=2e-5, rtol=1e-3)


def test_without_the_prior_everybody_is_the_league():
    expected = head(use_prior=False).expected(torch.randn(9, 4), targets(mixes(9, 0.3, 0)))
    torch.testing.assert_close(expected[:, :7], LEAGUE[1:].expand(9, 7), atol=2e-5, rtol=1e-3)


def test_the_loss_is_the_likelihood():
    prior, counts = mixes(6, 0.3, 0), torch.randint(1, 30, (6, 8)).float()
    losses = head().loss(torch.randn(6, 4), targets(prior, counts))
    want = -(counts * prior.log()).sum() / counts.sum()
    assert losses.means()["outcome"] == pytest.approx(float(want), rel=1e-3)
    assert set(losses.sums) == {"outcome", "extras"}
    assert "exposure" in head(game=True).loss(torch.randn(6, 4), targets(prior, counts)).sums


def test_the_linear_head_starts_at_the_mean_and_is_least_squares():
    counts = torch.randint(1, 30, (40, 8)).float()
    t = targets(mixes(40, 0.1, 0), counts)
    linear = LinearHead(4, 3, game=False)
    linear.scale_to(t)
    rates = counts[:, 1:] / counts.sum(1, keepdim=True)
    expected = linear.expected(torch.randn(40, 4), t)
    torch.testing.assert_close(expected[:, :7], rates.mean(0).expand(40, 7))
    losses = linear.loss(torch.zeros(40, 4), t)
    # Standardised targets about their mean: (n - 1) / n each; the three extras are constant.
    assert losses.sums["squared"].item() == pytest.approx(7 * 39, rel=1e-3)


# -------------------------------------------------------------------------------------------------------- pooling


def test_pooling_halves_a_game_for_every_half_life():
    generator = torch.Generator().manual_seed(0)
    games = torch.randn(12, 5, generator=generator)
    days = torch.tensor([90.0, 30, 0, 400, 0, 10, 0, 700, 350, 20, 5, 0])
    events = torch.randint(1, 60, (12,), generator=generator).float()
    owner = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3])
    got = pool(games, days, events, owner, 5, (30.0, 365.0))
    for player in range(4):
        mine = [i for i in range(12) if owner[i] == player]
        for j, half_life in enumerate((30.0, 365.0)):
            weight = [float(events[i]) * 0.5 ** (float(days[i]) / half_life) for i in mine]
            want = sum(w * games[i] for w, i in zip(weight, mine, strict=True)) / sum(weight)
            torch.testing.assert_close(got[player, 5 * j : 5 * j + 5], want)
    assert (got[4] == 0).all()  # no games, nothing to say


# -------------------------------------------------------------------------------------------------- planted truth


def fit_head(module: CountHead, representation: Tensor, t: Targets, steps: int = 200) -> CountHead:
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(steps):
        losses = module.loss(representation, t)
        optimizer.zero_grad()
        sum(s / losses.counts[n] for n, s in losses.sums.items()).backward()
        optimizer.step()
    return module


def planted(seed: int, count: int = 600) -> tuple[Tensor, Tensor, Tensor]:
    """True mixes, priors that know half of each player's departure, and counts of 300 plate appearances."""
    true = mixes(count, 0.25, seed)
    half = (LEAGUE.log() + 0.5 * (true / LEAGUE).log()).softmax(-1)
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.multinomial(300, p / p.sum()) for p in true.double().numpy()])
    return true, half, torch.from_numpy(counts).float()


def r(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.numpy(), b.numpy())[0, 1])


def test_representations_that_hold_the_truth_are_read():
    true, prior, counts = planted(0)
    held, held_prior, _ = planted(1)
    noise = torch.randn(600, 8, generator=torch.Generator().manual_seed(5)) * 0.05
    module = fit_head(head(8), (true / LEAGUE).log() + noise, targets(prior, counts))
    with torch.no_grad():
        got = module.expected((held / LEAGUE).log() + noise, targets(held_prior))
    for outcome in (K, HR):
        assert r(got[:, outcome - 1], held[:, outcome]) > 0.97
        assert got[:, outcome - 1].std() / held[:, outcome].std() == pytest.approx(1, abs=0.15)
        error = (got[:, outcome - 1] - held[:, outcome]).abs().mean()
        assert error < 0.5 * (held_prior[:, outcome] - held[:, outcome]).abs().mean()


def test_representations_of_noise_leave_the_prior_where_it_is():
    _, prior, counts = planted(0)
    prior = mixes(600, 0.2, 7)  # nothing left to learn: outcomes follow the prior
    rng = np.random.default_rng(2)
    counts = torch.from_numpy(np.stack([rng.multinomial(300, p / p.sum()) for p in prior.double().numpy()])).float()
    generator = torch.Generator().manual_seed(3)
    module = fit_head(head(8), torch.randn(600, 8, generator=generator), targets(prior, counts))
    with torch.no_grad():
        got = module.expected(torch.randn(600, 8, generator=generator), targets(prior))
    for outcome in (K, HR):
        assert r(got[:, outcome - 1], prior[:, outcome]) > 0.97
        assert got[:, outcome - 1].std() / prior[:, outcome].std() == pytest.approx(1, abs=0.1)


# --------------------------------------------------------------------------------------------------------- samples


def drawn(store: Store, role: str, grain: str, before: date = date(2004, 1, 1)) -> tuple[Samples, History, Priors]:
    history, priors = History(store, Window(role, games=20, events=1000)), Priors(store)
    return samples(store, history, priors, grain, since=date(2001, 1, 1), before=before), history, priors


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_game_targets_are_the_game_lines(sim_store, role):
    found, history, _ = drawn(sim_store, role, "game", date(2003, 5, 1))
    lines = game_lines(sim_store, role)
    assert (found.day < day_number(date(2003, 5, 1))).all()
    for i in range(0, len(found), 97):
        line = lines.filter((pl.col("game_id") == found.game_id[i]) & (pl.col("player") == found.player[i]))
        assert line.height == 1
        assert found.targets.counts[i, 1:].tolist() == list(line.select(OUTCOMES[1:]).row(0))
        assert found.targets.counts[i].sum() == found.targets.exposure[i] == line["exposure"][0]
    assert (history.days[found.stop - 1] < found.day).all()
    assert (history.players[found.stop - 1] == found.player).all()


def test_season_targets_are_whole_seasons_as_of_march(sim_store):
    found, history, _ = drawn(sim_store, "batter", "season", date(2003, 8, 1))
    assert set(found.season.tolist()) == {2002}  # 2001 has no history, 2003 is not over
    lines = game_lines(sim_store, "batter").filter(pl.col("season") == 2002)
    for i in range(len(found)):
        assert found.targets.exposure[i] == lines.filter(pl.col("player") == found.player[i])["exposure"].sum()
    assert (found.day == day_number(date(2002, 3, 1))).all()
    assert (history.days[found.stop - 1] < found.day).all()
    history, priors = History(sim_store, Window("batter")), Priors(sim_store)
    cut = samples(sim_store, history, priors, "season", since=date(2002, 6, 1), before=date(2004, 1, 1))
    assert set(cut.season.tolist()) == {2003}  # the rest of 2002 is no season


@pytest.mark.parametrize("role", ["batter", "pitcher"])
def test_what_a_sample_knows_does_not_change_with_the_game_or_what_comes_after(sim_league, sim_store, role, tmp_path):
    found, _, _ = drawn(sim_store, role, "game")
    day = int(found.day[len(found) // 2])
    late = pl.col("date").to_physical() >= day

    def spoil(frame: pl.DataFrame, **values: object) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(late).then(pl.lit(v)).otherwise(pl.col(c)).cast(frame.schema[c]).alias(c) for c, v in values.items()
        )

    t, hits = sim_league.tables, {"H": 4, "2B": 0, "3B": 0}
    spoiled = replace(
        t,
        pitches=spoil(t.pitches, call="in_play", event="home_run", release_speed=50.0, runs=4),
        batting_games=spoil(t.batting_games, **hits, HR=4, SO=0, BB=0, R=4, RBI=9),
        pitching_games=spoil(t.pitching_games, **hits, HR=4, SO=0, BB=0, ER=9, outs=1),
    )
    other = Store.open_or_create(tmp_path).add(spoiled, "spoiled")
    torch.manual_seed(0)
    encoder = GamestateTransformer(EncoderConfig(d_model=16, layers=1, heads=2, feedforward=32))
    seen = []
    for store in (sim_store, other):
        got, history, priors = drawn(store, role, "game")
        chosen = got.pick(np.flatnonzero(got.day == day))
        task = PerformanceTask(encoder, Linear(), role=role, grain="game")
        seen.append((chosen, SampleSource(task, history, priors, chosen, progress=False).ready))
    (a, mine), (b, others) = seen
    assert len(a)
    assert a.game_id.tolist() == b.game_id.tolist()
    assert torch.equal(mine, others)
    outcome = {"counts", "extras", "exposure"}
    for name in set(vars(a.targets)) - outcome:
        assert torch.equal(getattr(a.targets, name), getattr(b.targets, name)), name
    assert not torch.equal(a.targets.counts, b.targets.counts)


def test_known_without_outcomes_is_what_the_samples_know(sim_store):
    found, _, priors = drawn(sim_store, "batter", "season")
    again = known(priors, "batter", found.player, found.day)
    for name in ("prior", "opponent", "league", "prior_extras", "features"):
        assert torch.equal(getattr(found.targets, name), getattr(again, name))
    assert (again.counts == 0).all()


def test_a_batter_meets_the_opposing_starter(sim_store):
    found, _, priors = drawn(sim_store, "batter", "game")
    lines, games = game_lines(sim_store, "batter"), sim_store.games
    for i in range(0, len(found), 131):
        line = lines.filter((pl.col("game_id") == found.game_id[i]) & (pl.col("player") == found.player[i]))
        game = games.filter(pl.col("game_id") == found.game_id[i])
        starter = game["away_starter" if line["home"][0] else "home_starter"].to_numpy().astype(np.int64)
        want = priors.rates("pitcher", starter, found.day[i : i + 1])[0]
        np.testing.assert_allclose(found.targets.opponent[i], want, rtol=1e-5)


def test_a_pitcher_meets_those_who_batted_in_the_teams_game_before(sim_store):
    found, _, priors = drawn(sim_store, "pitcher", "game")
    batting = game_lines(sim_store, "batter").filter(~pl.col("is_pitcher"))
    lines = game_lines(sim_store, "pitcher")
    for i in range(3, len(found), 71):
        line = lines.filter((pl.col("game_id") == found.game_id[i]) & (pl.col("player") == found.player[i]))
        theirs = batting.filter((pl.col("team") == line["opponent"][0]) & (pl.col("date") < line["date"][0]))
        last = theirs.filter(pl.col("date") == theirs["date"].max())["player"].to_numpy().astype(np.int64)
        want = priors.rates("batter", last, np.full(len(last), found.day[i])).mean(axis=0)
        np.testing.assert_allclose(found.targets.opponent[i], want, rtol=1e-5)


def test_batches_of_samples_go_round_without_repeats(sim_store):
    found, history, priors = drawn(sim_store, "pitcher", "season")
    torch.manual_seed(0)
    encoder = GamestateTransformer(EncoderConfig(d_model=16, layers=1, heads=2, feedforward=32))
    task = PerformanceTask(encoder, Linear(), role="pitcher", grain="season")
    source = SampleSource(task, history, priors, found, progress=False)
    batch = source.sampler(4, seed=1)
    passes = len(found) // 8
    seen = [batch(step, rank, 2).targets.features for step in range(passes) for rank in (0, 1)]
    whole = torch.cat(seen)
    assert len(whole) == passes * 8
    everyone = found.targets.features
    assert len(torch.unique(whole, dim=0)) == min(len(whole), len(torch.unique(everyone, dim=0)))
    assert torch.equal(batch(1, 1, 2).representation, source.sampler(4, seed=1)(1, 1, 2).representation)
    assert not torch.equal(batch(passes, 0, 2).representation, batch(0, 0, 2).representation)  # another order
