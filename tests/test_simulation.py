"""Simulated play: legal, whole, reproducible, told as the store tells it."""

from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from fullcount.batches import collate
from fullcount.errors import FullcountError
from fullcount.fields import BY_NAME, CATEGORICAL
from fullcount.gamestate import Gamestate
from fullcount.model.cache import Cache
from fullcount.model.transformer import EncoderConfig, GamestateTransformer
from fullcount.objectives.next_event import NextEvent
from fullcount.priors import Priors
from fullcount.projection.game_plans import GamePlan, plans_of
from fullcount.projection.simulation import Simulator, _hands, report
from fullcount.store import day_number
from fullcount.windows import History, Window

SHAPE = {"d_model": 32, "layers": 2, "heads": 2, "feedforward": 64, "causal": True, "use_prior": False, "matchup": True}


def untrained(seed=0, **changes):
    torch.manual_seed(seed)
    return NextEvent(GamestateTransformer(EncoderConfig(**{**SHAPE, **changes}))).eval()


@pytest.fixture(scope="module")
def plans(sim_store):
    return plans_of(sim_store, 2003, 6, seed=1)


@pytest.fixture(scope="module")
def played(sim_store, plans):
    """Six games of an untrained model, with every shortcut of the simulator on."""
    return Simulator(untrained(), sim_store, rows=4).games(plans, seed=5)


@pytest.mark.parametrize(
    "changes", [{}, {"event_attention": True}, {"positions": "sinusoidal"}, {"positions": "as_of"}]
)
def test_reading_on_equals_reading_at_once(sim_store, changes):
    history = History(sim_store, Window("pitcher", games=2, events=160))
    positions = np.arange(40, 100, 20)
    batch = collate(history, positions - 1, positions + 1, Priors(sim_store), matchup="game")
    encoder = untrained(**changes).encoder
    names = ("kind", "categorical", "numeric", "present", "game", "position", "ago", "matchup")

    def part(start, stop):
        return replace(batch, **{n: getattr(batch, n)[:, start:stop] for n in names})

    width = batch.kind.shape[1]
    start = int((batch.kind != 0).sum(dim=1).min()) // 2
    cache = Cache(len(encoder.blocks), len(positions))
    with torch.no_grad():
        whole = encoder(batch)[:, :-1]
        parts = [encoder.extend(part(0, start + 1), cache, start)]
        parts += [encoder.extend(part(i, i + 2), cache, 1) for i in range(start, width - 1)]
    real = (batch.kind != 0)[:, :-1]
    assert (torch.cat(parts, dim=1) - whole)[real].abs().max() < 1e-4
    assert cache.length.tolist() == real.sum(dim=1).tolist()


def test_games_end_with_a_winner_and_add_up(played, plans):
    games, pitches = played.games(), played.pitches
    assert games.height == len(plans)
    assert (games["visitors"] != games["home"]).all()
    assert (games["innings"] >= 9).all()
    outs = pitches.group_by("game", "inning", "top").agg(pl.col("outs_made").sum())
    over = outs.join(games, on="game").filter((pl.col("inning") < pl.col("innings")) | pl.col("top"))
    assert (over["outs_made"] == 3).all()
    lost_at_home = games.filter(pl.col("visitors") > pl.col("home"))
    last = outs.join(lost_at_home, on="game").filter(~pl.col("top") & (pl.col("inning") == pl.col("innings")))
    assert (last["outs_made"] == 3).all()
    assert last.height == lost_at_home.height
    assert (pitches["balls"] <= 3).all()
    assert (pitches["strikes"] <= 2).all()
    assert (pitches["outs"] <= 2).all()


def test_lines_add_up(played):
    batting, pitching, games = played.batting("game"), played.pitching("game"), played.games()
    shared = ("H", "2B", "3B", "HR", "BB", "IBB", "SO", "HBP", "pitches")
    assert batting["PA"].sum() == pitching["BF"].sum()
    for column in shared:
        assert batting[column].sum() == pitching[column].sum(), column
    assert pitching["R"].sum() == games["visitors"].sum() + games["home"].sum()
    assert (batting["H"] == batting["1B"] + batting["2B"] + batting["3B"] + batting["HR"]).all()
    assert (batting["AB"] >= batting["H"] + batting["SO"]).all()
    assert batting["RBI"].sum() <= pitching["R"].sum()


def test_line_ups_bat_in_order_and_pitchers_face_their_number(sim_store, played, plans):
    turns = played.pitches.filter(~pl.col("event").is_in(["none", "truncated_pa"]))
    for game, plan in enumerate(plans):
        for side, top in enumerate((True, False)):
            mine = turns.filter((pl.col("game") == game) & (pl.col("top") == top))
            places = [list(p) for p in plan.lineups[side]]
            expected = [places[i % 9][min(i // 9, len(places[i % 9]) - 1)] for i in range(mine.height)]
            assert mine["batter"].to_list() == expected
            staff = [p for p, faces in plan.pitchers[1 - side][:-1] for _ in range(faces)]
            rest = mine.height - len(staff)
            expected = (staff + [plan.pitchers[1 - side][-1][0]] * max(rest, 0))[: mine.height]
            # A turn that the inning cut short was begun by the pitcher of the moment.
            assert mine["pitcher"].to_list() == expected


def test_the_same_seed_plays_the_same_games(sim_store, plans, played):
    again = Simulator(untrained(), sim_store, rows=4)
    assert again.games(plans, seed=5).pitches.equals(played.pitches)
    assert not again.games(plans, seed=6).pitches.equals(played.pitches)


@pytest.mark.parametrize("positions", ["rotary", "as_of"])
def test_sequences_are_told_as_in_training(sim_store, plans, monkeypatch, positions):
    """The states the simulator draws from are those of the same events read at once, in the store's own fields."""
    model = untrained(positions=positions)
    simulator = Simulator(model, sim_store, rows=1, games=1)
    simulator.bfloat16 = False
    seen, tokens, extend = [], [], model.encoder.extend

    def spy_extend(batch, cache, width):
        states = extend(batch, cache, width)
        if width == 1 and batch.kind.shape[1] == 2:
            tokens.append(batch)
            seen.append(states[:, 0].clone())
        return states

    monkeypatch.setattr(model.encoder, "extend", spy_extend)
    played = simulator.games(plans[:1], seed=2)
    # The home side's first pitcher: his slot, his last game, and this one.
    pitches = played.pitches
    starter = pitches["pitcher"][0]
    mine = [i for i in range(pitches.height) if pitches["pitcher"][i] == starter]
    day = np.array([day_number(plans[0].day)])
    first, stop = simulator.history.before(np.array([starter]), day)
    assert stop > first
    past = collate(simulator.history, first, stop, simulator.priors, matchup="game", as_of=day)
    past = replace(past, game=past.game + (past.kind != 1))
    names = ("kind", "categorical", "numeric", "present", "game", "position", "ago", "matchup")
    chosen = [tokens[i] for i in mine]
    whole = replace(
        past,
        **{
            n: torch.cat(
                [getattr(past, n), *(getattr(t, n)[:, :1].to(getattr(past, n).dtype) for t in chosen),
                 getattr(chosen[-1], n)[:, 1:].to(getattr(past, n).dtype)],
                dim=1,
            )
            for n in names
        },
    )  # fmt: skip
    # Where the matchup of a token stands: at its own event, which the simulator gave as "coming" one token before.
    at = past.kind.shape[1]
    for i, token in enumerate(chosen):
        whole.matchup[:, at + i + 1] = token.matchup[:, 1]
        situation = token.categorical[0, 1, :14]
        assert torch.equal(whole.categorical[0, at + i + 1, :14], situation)
    with torch.no_grad():
        states = model.encoder(whole)[0, at:-1]
    assert torch.allclose(states, torch.cat([seen[i] for i in mine]), atol=1e-4)


def test_situations_are_the_stores(sim_store, plans, monkeypatch):
    """A real game's pitches, played through the simulator, meet the situations that the store has of them."""
    model = untrained()
    simulator = Simulator(model, sim_store, rows=1)
    index = sim_store.runs
    days = sim_store.games
    plan = plans[0]
    match = days.with_row_index("row").filter(pl.col("date") == plan.day)
    starters = {plan.pitchers[0][0][0], plan.pitchers[1][0][0]}
    number = next(r["row"] for r in match.iter_rows(named=True) if {r["home_starter"], r["away_starter"]} == starters)
    runs = np.flatnonzero(np.asarray(index["game"]) == number)
    runs = runs[np.argsort(np.asarray(index["start"])[runs])]
    rows = np.concatenate([np.arange(index["start"][r], index["start"][r] + index["length"][r]) for r in runs])
    stored = torch.from_numpy(np.asarray(sim_store.categorical)[rows])
    met = []

    def replay(states, generator, present, legal, pitch_types):
        row = stored[len(met)].clone()
        met.append(None)
        row[:14] = 0
        return row[None], torch.zeros(1, present.shape[1])

    batches, extend = [], model.encoder.extend

    def spy(batch, cache, width):
        batches.append(batch)
        return extend(batch, cache, width)

    monkeypatch.setattr(model.chain, "draw", replay)
    monkeypatch.setattr(model.encoder, "extend", spy)
    result = simulator.games([plan])
    assert result.pitches.height == len(stored)
    told = torch.cat([b.categorical[:, 1] for b in batches if b.kind.shape[1] == 2])
    assert torch.equal(told[:, :14].long(), stored[:, :14].long())


def test_times_through_are_a_batters_own(sim_store, plans, monkeypatch):
    """A pinch hitter meets the pitcher for the first time, whoever batted in his place before."""
    sides = tuple(tuple(place[0] for place in side) for side in plans[0].lineups)
    pitchers = [plan_side[0][0] for plan_side in plans[0].pitchers]
    plan = GamePlan.of(*sides, *pitchers, plans[0].day)
    bench = next(p for q in plans for side in q.lineups for (p, *_) in side if p not in {*sides[0], *sides[1]})
    plan = replace(plan, lineups=(((sides[0][0], sides[0][0], bench), *plan.lineups[0][1:]), plan.lineups[1]))
    model, told = untrained(), []
    simulator, extend = Simulator(model, sim_store, rows=1), model.encoder.extend
    column = [f.name for f in CATEGORICAL].index("times_through")

    def spy(batch, cache, width):
        if batch.kind.shape[1] == 2:
            told.append(int(batch.categorical[0, 1, column]))
        return extend(batch, cache, width)

    monkeypatch.setattr(model.encoder, "extend", spy)
    pitches = simulator.games([plan], seed=3).pitches.with_columns(told=pl.Series(told))
    starter, hitter = (pitches.filter(pl.col("batter") == b)["told"].to_list() for b in (sides[0][0], bench))
    assert starter[0] == 1
    assert starter[-1] >= 2  # a turn that an inning's end cut short counts too
    assert hitter[0] == 1


def test_hands_are_those_of_before_where_there_are_any():
    turns = pl.DataFrame(
        [
            (1, 8, "L", "R", date(2003, 5, 1)),
            *[(1, 8, "R", "L", date(2004, 5, 1))] * 2,
            (2, 9, "L", "L", date(2005, 5, 1)),
        ],
        schema={"batter": pl.Int32, "pitcher": pl.Int32, "stand": pl.String, "throws": pl.String, "date": pl.Date},
        orient="row",
    )
    store = SimpleNamespace(table=lambda name: turns)
    stand, throws = _hands(store, np.array([1, 2]), np.array([8, 9]), date(2004, 1, 1))
    assert stand[:, 1].tolist() == [BY_NAME["stand"].ids["L"]] * 2
    assert throws.tolist() == [BY_NAME["throws"].ids["R"], BY_NAME["throws"].ids["L"]]


def test_half_innings_and_plate_appearances_alone(sim_store, plans):
    simulator = Simulator(untrained(), sim_store, rows=8)
    nine = torch.full((3,), 9)
    start = replace(Gamestate.start(nine, nine * 0), inning=nine - 3, bases=nine * 0 + 3, outs=nine * 0 + 1)
    halves = simulator.half_innings(plans[:3], start).pitches
    assert halves["inning"].unique().to_list() == [6]
    assert (halves.group_by("game").agg(pl.col("outs_made").sum())["outs_made"] == 2).all()
    pairs = [(plans[0].lineups[0][0][0], plans[0].pitchers[1][0][0])] * 2
    state = replace(start[torch.tensor([0, 1])], balls=torch.tensor([3, 0]), strikes=torch.tensor([2, 0]))
    turns = simulator.plate_appearances(pairs, plans[0].day, state, n=20).pitches
    assert turns.group_by("game").agg((pl.col("event") != "none").sum())["event"].to_list() == [1] * 40
    first = turns.filter(pl.col("game") < 20).group_by("game", maintain_order=True).first()
    assert (first["balls"] == 3).all()
    assert (first["strikes"] == 2).all()


def test_the_model_decides(sim_store, plans):
    """With all weight on one call, plate appearances are walks."""
    model = untrained()
    with torch.no_grad():
        model.chain.read["call"][2].bias[BY_NAME["call"].ids["ball"] - 1] = 60
    start = Gamestate.start(torch.tensor([9]), torch.tensor([0]))
    pair = [(plans[0].lineups[0][0][0], plans[0].pitchers[1][0][0])]
    turns = Simulator(model, sim_store).plate_appearances(pair, plans[0].day, start, n=5).pitches
    assert turns.height == 20
    assert set(turns.filter(pl.col("event") != "none")["event"]) <= {"walk", "intent_walk"}


def test_report_has_the_six_rates(played, sim_store):
    table = report(played, sim_store, 2003)
    assert table["rate"].to_list() == ["K%", "BB%", "HR%", "BABIP", "pitches per PA", "runs per game"]
    lines = played.batting()
    assert table["simulated"][0] == pytest.approx(lines["SO"].sum() / lines["PA"].sum())
    real = sim_store.table("batting_games").filter(pl.col("season") == 2003)
    assert table["real"][1] == pytest.approx(real["BB"].sum() / real["PA"].sum())


def test_bad_plans_are_refused(sim_store, plans):
    with pytest.raises(FullcountError, match="nine places"):
        GamePlan.of([1] * 8, [1] * 9, 1, 2, plans[0].day)
    with pytest.raises(FullcountError, match="needs a pitcher"):
        GamePlan.of([1] * 9, [1] * 9, (), 2, plans[0].day)
    with pytest.raises(FullcountError, match="no regular-season game of 1950"):
        plans_of(sim_store, 1950)
    with pytest.raises(FullcountError, match="no game"):
        Simulator(untrained(), sim_store).games([])


def test_models_that_cannot_be_simulated_are_refused(sim_store):
    shape = EncoderConfig(d_model=16, layers=1, heads=2, causal=True, use_prior=False, repertoire=True)
    with pytest.raises(FullcountError, match="repertoire"):
        Simulator(NextEvent(GamestateTransformer(shape)), sim_store)
    with pytest.raises(FullcountError, match="context"):
        Simulator(untrained(context="game"), sim_store)
