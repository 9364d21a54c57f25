"""Plays the games of a season in lock-step: one step is one pitch in every unfinished game.

The state of a game (inning, count, outs, runners) changes only through the rules below, so every logged pitch is legal
by construction. Simplifications: no runner on second in extra innings, no bunts, no intentional walks, no runners
thrown out while advancing on a hit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fullcount.fields import CALLS, CONTACTS, EVENTS
from fullcount.simulated import pitch
from fullcount.simulated.talent import STARTER, Floats, Ints, Population
from fullcount.simulated.truth import matchup

Bools = NDArray[np.bool_]

CALL = {name: i for i, name in enumerate(CALLS)}
CONTACT = {name: i for i, name in enumerate(CONTACTS)}
EVENT = {name: i for i, name in enumerate(EVENTS)}
OUT, SCORED = 0, 4  # destinations of a runner beside the bases 1, 2, 3

_CONTACT_OF = np.array([CONTACT[c] for c in ("ground_ball", "line_drive", "fly_ball", "popup")])
_HIT_EVENT = np.array([EVENT[e] for e in ("none", "single", "double", "triple", "home_run")])


@dataclass
class Schedule:
    """What is settled before the first pitch; G games, side 0 visitors, side 1 home.

    Attributes:
        progress: [G] part of the season that is over, 0 to 1.
        team: [G, 2] team indices; the park is the home team's.
        lineup: [G, 2, 9] player ids in batting order.
        bench: [G, 2, 2] pinch hitters in the order in which they are used; 0 is nobody.
        starter: [G, 2] starting pitchers.
        bullpen: [G, 2, 7] relievers in the order in which they come in; the last is the closer.
        park_homer, park_hit: [G] shifts in log-odds.
    """

    progress: Floats
    team: Ints
    lineup: Ints
    bench: Ints
    starter: Ints
    bullpen: Ints
    park_homer: Floats
    park_hit: Floats


@dataclass
class Log:
    """What happened. `pitches`: name -> [n] in lock-step order. `scored`: [k, 6] game, step, runner, pitcher charged,
    batter, earned. `steals`: [k, 3] game, runner, 1 stolen or 0 caught. `wild`: [k, 2] game, pitcher.
    `pinch`: [k, 4] game, side, slot, player. `lead`: [k, 4] game, side that took the lead, its pitcher, the pitcher
    charged."""

    pitches: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    scored: Ints = field(default_factory=lambda: np.zeros((0, 6), dtype=np.int64))
    steals: Ints = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    wild: Ints = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    pinch: Ints = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))
    lead: Ints = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))


def _choose(probability: NDArray[np.floating], u: Floats) -> Ints:
    """Index drawn from [n, k] probabilities with uniforms [n]; k (one past the last) takes what is left of 1."""
    return np.asarray((u[:, None] >= np.cumsum(probability, axis=1)).sum(axis=1))


def _advance_on_hit(hit: Ints, on: Bools, outs: Ints, legs: Floats, need: Ints, u: Floats) -> tuple[Ints, Ints]:
    """Destinations after a hit that may be cut short because the game is won.

    Args:
        hit: [n] bases of the hit, 1 to 4. on: [n, 3] occupied bases. outs: [n]. legs: [n, 3] runners' speed.
        need: [n] runs that win the game at once (99: it cannot be won now). u: [n, 2].

    Returns:
        bases of the hit as scored [n], destinations [n, 4] of the batter and the runners from first, second, third.
    """
    # The runner who carries the winning run is the need-th from the front. On anything but a home run the batter is
    # credited with no more bases than that runner needs, and nobody moves further than that.
    ahead = np.cumsum(on[:, ::-1], axis=1)[:, ::-1]
    carries = on & (ahead == need[:, None])
    needs = np.where(carries.any(axis=1), 3 - carries.argmax(axis=1), 9)
    over = (hit < 4) & (hit >= needs)
    hit = np.where(over, needs, hit)
    to = np.minimum(np.arange(4) + hit[:, None], SCORED)
    two_out = outs == 2
    home = (hit == 1) & ~over & (u[:, 0] < 0.55 + 0.25 * two_out + 0.07 * legs[:, 1])
    to[:, 2] = np.where(home, SCORED, to[:, 2])
    third_free = ~on[:, 1] | (to[:, 2] == SCORED)
    extra = (hit == 1) & ~over & third_free & (u[:, 1] < 0.27 + 0.1 * two_out + 0.06 * legs[:, 0])
    to[:, 1] = np.where(extra, 3, to[:, 1])
    extra = (hit == 2) & ~over & (u[:, 1] < 0.38 + 0.25 * two_out + 0.08 * legs[:, 0])
    to[:, 1] = np.where(extra, SCORED, to[:, 1])
    return hit, to


def _advance_on_out(
    trajectory: NDArray[np.integer], on: Bools, outs: Ints, legs: Floats, u: Floats
) -> tuple[Ints, Ints]:
    """Event and destinations [n, 4] after a ball in play that was not a hit; arguments as above, u [n, 3]."""
    n = len(outs)
    first, second, third = on[:, 0], on[:, 1], on[:, 2]
    to = np.tile(np.arange(4), (n, 1))
    to[:, 0] = OUT
    event = np.full(n, EVENT["field_out"])
    early = outs < 2
    ground = trajectory == pitch.GROUND

    error = u[:, 0] < np.where(ground, 0.028, 0.008)
    double = ~error & ground & early & first & (u[:, 1] < 0.42 - 0.04 * legs[:, 0])
    force = ~error & ground & early & first & ~double & (u[:, 1] < 0.75)
    slow = ~error & ground & early & ~double & ~force
    deep = ~error & (trajectory == pitch.FLY) & early

    event[error] = EVENT["field_error"]
    to[error] = np.arange(1, 5)
    event[double] = EVENT["grounded_into_double_play"]
    event[force] = EVENT["force_out"]
    to[force, 0] = 1
    both = double | force
    to[both, 1] = OUT
    to[both, 2] = 3
    # Runners on first and second (third) must run; with only first and third occupied the runner may stay.
    run = both & third & (second | (u[:, 2] < 0.6))
    to[run, 3] = SCORED
    over = double & (outs == 1)
    to[over, 2], to[over, 3] = 2, 3  # the half inning is over
    # Slow ground balls: everybody moves up who has somewhere to go.
    run = slow & (u[:, 2] < 0.55)
    to[run, 3] = SCORED
    moved = slow & second & (~third | run) & (first | (u[:, 2] < 0.6))
    to[moved, 2] = 3
    to[slow & first & (~second | moved), 1] = 2
    run = deep & third & (u[:, 2] < 0.8)
    to[run, 3] = SCORED
    event[run] = EVENT["sac_fly"]
    to[deep & second & (~third | run) & (u[:, 1] < 0.25), 2] = 3
    return event, to


def play(s: Schedule, people: Population, lively: float, rng: np.random.Generator) -> Log:
    """Plays every game of the schedule; `lively` (mph) is the ball of the season."""
    games = len(s.progress)
    inning, top = np.ones(games, dtype=np.int64), np.ones(games, dtype=bool)
    outs, balls, strikes = (np.zeros(games, dtype=np.int64) for _ in range(3))
    pa, number = np.zeros(games, dtype=np.int64), np.zeros(games, dtype=np.int64)
    fresh, done = np.ones(games, dtype=bool), np.zeros(games, dtype=bool)
    on, charged = np.zeros((games, 3), dtype=np.int64), np.zeros((games, 3), dtype=np.int64)
    unearned, errors = np.zeros((games, 3), dtype=bool), np.zeros(games, dtype=np.int64)
    score, slot, faced, thrown, allowed = (np.zeros((games, 2), dtype=np.int64) for _ in range(5))
    lineup, pitcher = s.lineup.copy(), s.starter.copy()
    used, benched = np.zeros((games, 2), dtype=np.int64), np.zeros((games, 2), dtype=np.int64)
    closed = np.zeros((games, 2), dtype=bool)
    stay = np.round(rng.normal(23.0, 2.0, (games, 2))).astype(np.int64)  # batters a pitcher is meant to face
    arm = rng.normal(95, 7, (games, 2))  # pitches a starter has in him
    rows: list[dict[str, NDArray[np.generic]]] = []
    scored: list[Ints] = []
    steals: list[Ints] = []
    wild: list[Ints] = []
    pinch: list[Ints] = []
    lead: list[Ints] = []
    step = 0
    while not done.all():
        g = np.flatnonzero(~done)
        n = len(g)
        u = rng.random((16, n))
        z = rng.standard_normal((2, n))
        bat = np.where(top[g], 0, 1)
        fld = 1 - bat
        new = fresh[g]
        diff = score[g, bat] - score[g, fld]

        # Between plate appearances: a new pitcher, a pinch hitter.
        relief = people.role[pitcher[g, fld]] != STARTER
        between = outs[g] == 0
        tired = faced[g, fld] >= np.where(relief & between, 3, stay[g, fld])
        tired |= ~relief & ((thrown[g, fld] >= arm[g, fld]) | (allowed[g, fld] >= 6))
        save = (inning[g] >= 9) & (diff < 0) & (diff >= -3) & between & ~closed[g, fld]
        change = new & ((tired & (used[g, fld] < 6)) | save) & (faced[g, fld] > 0)
        c, cf = g[change], fld[change]
        closing = save[change]
        pitcher[c, cf] = np.where(closing, s.bullpen[c, cf, 6], s.bullpen[c, cf, np.minimum(used[c, cf], 5)])
        used[c, cf] += ~closing
        closed[c, cf] |= closing
        stay[c, cf] = np.where(closing, 9, 3 + (u[0, change] * 3).astype(np.int64))
        faced[c, cf] = thrown[c, cf] = allowed[c, cf] = 0
        ready = s.bench[g, bat, np.minimum(benched[g, bat], 1)]
        hit_for = new & (inning[g] >= 7) & (benched[g, bat] < 2) & (ready > 0) & (u[1] < 0.045) & ~change
        c, cb = g[hit_for], bat[hit_for]
        lineup[c, cb, slot[c, cb]] = ready[hit_for]
        benched[c, cb] += 1
        pinch.append(np.stack([c, cb, slot[c, cb], ready[hit_for]], axis=1))
        pa[g] += new
        number[g] = np.where(new, 1, number[g] + 1)

        # The pitch.
        batter, throwing = lineup[g, bat, slot[g, bat]], pitcher[g, fld]
        hand = people.throws[throwing]
        stand = np.where(people.bats[batter] == "S", np.where(hand == "R", "L", "R"), people.bats[batter])
        same = (stand == hand).astype(np.float64)
        day = s.progress[g][:, None]
        m = matchup(
            people.level[batter] + people.drift[batter] * day,
            people.level[throwing] + people.drift[throwing] * day,
            same,
            np.minimum(faced[g, fld] // 9, 3).astype(np.float64),
        )
        b, k = balls[g], strikes[g]
        kind = np.minimum(_choose(pitch.kind_probabilities(people.usage[throwing], b, k, same), u[2]), 7)
        place = np.minimum(_choose(pitch.place_probabilities(m, kind, b, k), u[3]), 4)
        swing = u[4] < pitch.swing_probability(m, kind, place, b, k)
        miss = swing & (u[5] < pitch.whiff_probability(m, kind, place, k))
        foul = swing & ~miss & (u[6] < pitch.foul_probability(m, place, k))
        live = swing & ~miss & ~foul
        plunk = ~swing & (u[5] < pitch.hit_batter_probability(place))
        looking = ~swing & ~plunk & (u[6] < pitch.strike_probability(m, place))
        ball = ~swing & ~plunk & ~looking
        dirt = ball & (u[7] < np.array([0, 0, 0.01, 0.08, 0.25])[place])
        call = np.select(
            [dirt, ball, looking, plunk, foul, live, miss & (u[7] < 0.055)],
            [CALL[c] for c in ("blocked_ball", "ball", "called_strike", "hit_by_pitch", "foul", "in_play", "foul_tip")],
            default=CALL["swinging_strike"],
        )
        gain_strike = looking | miss | (foul & (k < 2))
        strikeout, walk = gain_strike & (k == 2), ball & (b == 3)
        ends = strikeout | walk | plunk | live

        # What becomes of it: destinations of batter (column 0) and runners (columns 1 to 3).
        occupied = on[g] > 0
        legs = (people.level[on[g], 4] + people.drift[on[g], 4] * day) * occupied
        to = np.tile(np.arange(4), (n, 1))
        event = np.full(n, EVENT["none"])
        event[strikeout] = EVENT["strikeout"]
        event[walk] = EVENT["walk"]
        event[plunk] = EVENT["hit_by_pitch"]
        to[strikeout, 0] = OUT
        free = walk | plunk
        forced = np.cumprod(np.concatenate([np.ones((n, 1), dtype=bool), occupied], axis=1), axis=1).astype(bool)
        to = np.where(free[:, None] & forced, np.arange(1, 5), to)
        speed_mean, angle_mean = pitch.batted_ball_mean(m, kind, place)
        angle = angle_mean + pitch.ANGLE_SD * z[0]
        speed = pitch.exit_velocity(speed_mean + lively, angle, z[1])
        flight = pitch.trajectory(angle)
        homer = u[8] < pitch.home_run_probability(speed, angle, s.park_homer[g])
        bases = _choose(pitch.hit_probabilities(speed, angle, m.speed, s.park_hit[g]), u[9]) + 1  # 4: no hit
        bases = np.where(homer, 4, np.where(bases == 4, 0, bases))
        hit, made_out = live & (bases > 0), live & (bases == 0)
        need = np.where(~top[g] & (inning[g] >= 9), 1 - diff, 99)
        as_scored, hit_to = _advance_on_hit(np.maximum(bases, 1), occupied, outs[g], legs, need, u[10:12].T)
        out_event, out_to = _advance_on_out(flight, occupied, outs[g], legs, u[12:15].T)
        event = np.where(hit, _HIT_EVENT[as_scored], np.where(made_out, out_event, event))
        to = np.where(hit[:, None], hit_to, np.where(made_out[:, None], out_to, to))
        contact = np.where(live, _CONTACT_OF[flight], CONTACT["none"])

        # Between pitches: the runner on first goes for second; a ball in the dirt gets away.
        idle = ~ends & ~foul
        tries = idle & occupied[:, 0] & ~occupied[:, 1] & (u[15] < pitch.sigmoid(-3.45 + 1.15 * legs[:, 0]))
        safe = tries & (u[14] < pitch.sigmoid(1.05 + 0.3 * legs[:, 0]))
        caught = tries & ~safe
        to[safe, 1], to[caught, 1] = 2, OUT
        loose = dirt & idle & ~tries & ~occupied[:, 2] & occupied.any(axis=1) & (u[13] < 0.15)
        to[loose] = np.arange(4) + 1
        steals.append(np.stack([g, on[g, 0], safe.astype(np.int64)], axis=1)[tries])
        wild.append(np.stack([g, throwing], axis=1)[loose])

        # Who stands where now.
        runner = np.concatenate([np.where(ends, batter, 0)[:, None], on[g]], axis=1)
        charge = np.concatenate([throwing[:, None], charged[g]], axis=1)
        gift = np.concatenate([(event == EVENT["field_error"])[:, None], unearned[g]], axis=1)
        present = runner > 0
        out_count = (present & (to == OUT)).sum(axis=1)
        crossing = present & (to == SCORED)
        runs = crossing.sum(axis=1)
        total_outs = outs[g] + out_count
        index = np.where(present, to, OUT)  # columns 0 and 4 of the new state are thrown away
        at = np.arange(n)[:, None]
        new_on, new_charge = np.zeros((n, 5), dtype=np.int64), np.zeros((n, 5), dtype=np.int64)
        new_gift = np.zeros((n, 5), dtype=bool)
        new_on[at, index], new_charge[at, index], new_gift[at, index] = runner, charge, gift
        third_out = total_outs >= 3
        truncated = third_out & ~ends
        event[truncated] = EVENT["truncated_pa"]
        errors[g] += event == EVENT["field_error"]
        who, where = np.nonzero(crossing)
        earned = ~gift[who, where] & (outs[g] + errors[g] < 3)[who]
        scored.append(
            np.stack(
                [g[who], np.full(len(who), step), runner[who, where], charge[who, where], batter[who], earned], axis=1
            )
        )
        leads = (diff <= 0) & (diff + runs > 0)
        # The go-ahead run is charged to whoever let its runner on: the (1 - diff)-th that crossed, front runner first.
        order = np.cumsum(crossing[:, ::-1], axis=1)[:, ::-1]
        ahead = (crossing & (order == (1 - diff)[:, None])).argmax(axis=1)
        lead.append(np.stack([g, bat, pitcher[g, bat], charge[np.arange(n), ahead]], axis=1)[leads])

        stay_on = ~third_out
        rows.append(
            {
                "game": g,
                "step": np.full(n, step),
                "pa_number": pa[g],
                "pitch_number": number[g],
                "inning": inning[g],
                "top": top[g],
                "outs": outs[g],
                "balls": b,
                "strikes": k,
                "bases": occupied @ np.array([1, 2, 4]),
                "bat_score": score[g, bat],
                "fld_score": score[g, fld],
                "batter": batter,
                "pitcher": throwing,
                "lineup_slot": slot[g, bat] + 1,
                "stand": stand,
                "throws": hand,
                "call": call,
                "kind": kind,
                "place": place,
                "contact": contact,
                "event": event,
                "post_outs": np.minimum(total_outs, 3),
                "post_bases": np.where(stay_on, (new_on[:, 1:4] > 0) @ np.array([1, 2, 4]), 0),
                "runs": runs,
                "outs_on_play": out_count,
                "launch_speed": np.where(live, speed, np.nan),
                "launch_angle": np.where(live, angle, np.nan),
                "progress": s.progress[g],
                "tired": thrown[g, fld],
            }
        )

        # The new state.
        over = ends | truncated
        balls[g] = np.where(over, 0, b + ball)
        strikes[g] = np.where(over, 0, k + gain_strike)
        fresh[g] = over
        score[g, bat] += runs
        thrown[g, fld] += 1
        faced[g, fld] += ends
        allowed[g, fld] += runs
        slot[g, bat] = (slot[g, bat] + ends) % 9
        on[g] = new_on[:, 1:4] * stay_on[:, None]
        charged[g], unearned[g] = new_charge[:, 1:4], new_gift[:, 1:4]
        outs[g] = np.where(third_out, 0, total_outs)
        errors[g] = np.where(third_out, 0, errors[g])
        home_leads, tied = score[g, 1] > score[g, 0], score[g, 1] == score[g, 0]
        late = inning[g] >= 9
        done[g] = late & np.where(top[g], third_out & home_leads, home_leads | (third_out & ~tied))
        inning[g] += third_out & ~top[g] & ~done[g]
        top[g] ^= third_out & ~done[g]
        step += 1
    columns = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
    return Log(columns, *(np.concatenate(x) for x in (scored, steals, wild, pinch, lead)))
