"""The rules of the game: which pitch may follow which situation, and what it makes of it.

Count, outs, bases and score of many games at once, as tensors. Everything the rules know of one pitch stands in one
table over (outs, bases, runs that win the game, kind of pitch) x gamestate delta x event, so whether a delta may be
drawn and which events it leaves are two look-ups, and every delta that may be drawn leaves an event.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullcount.fields import BASES, BY_NAME, CALL_CLASS, CALLS, CONTACTS, DELTAS, EVENTS, Field

#: Kinds of pitches that the rules tell apart, given the count: the last ball, the last strike, a foul with two strikes
#: (nothing changes), and balls in play by contact ("play:none" is the catcher's interference).
KINDS = ("ball", "ball four", "strike", "strike three", "foul", "hit", *(f"play:{c}" for c in CONTACTS))
#: Runs that win the game for the home side, as far as one play can score them; 0: they cannot win it here.
NEEDS = 5


@dataclass(frozen=True)
class _Rule:
    """When a plate appearance may end by an event.

    outs: made on the play, the usual number first. runs: at least. runners: before the pitch, at least. less_than:
    outs before the pitch. empty: bases that nobody can hold afterwards. contacts: of the batted ball, () for any.
    scoreless: no run counts when the play makes the third out.
    """

    outs: tuple[int, ...]
    runs: int = 0
    runners: int = 0
    less_than: int = 3
    empty: int = 0b000
    contacts: tuple[str, ...] = ()
    scoreless: bool = False


_BATTED = {
    "single": _Rule((0, 1)),
    "double": _Rule((0, 1), empty=0b001),
    "triple": _Rule((0, 1), empty=0b011),
    "home_run": _Rule((0,), empty=0b111),
    "field_out": _Rule((1,), scoreless=True),
    "force_out": _Rule((1,), runners=1, scoreless=True),
    "grounded_into_double_play": _Rule((2,), runners=1, contacts=("ground_ball", "bunt"), scoreless=True),
    "double_play": _Rule((2,), runners=1),
    "triple_play": _Rule((3,), runners=2),
    "fielders_choice": _Rule((0, 1), runners=1),
    "field_error": _Rule((0, 1)),
    "sac_fly": _Rule((1, 0), runs=1, runners=1, less_than=2, contacts=("fly_ball", "line_drive", "popup")),
    "sac_fly_double_play": _Rule((2,), runs=1, runners=2, less_than=2, contacts=("fly_ball", "line_drive", "popup")),
    "sac_bunt": _Rule((1, 0), runners=1, less_than=2, contacts=("bunt",)),
}
_ENDINGS: dict[str, dict[str, _Rule]] = {
    "ball four": {"walk": _Rule((0, 1)), "intent_walk": _Rule((0,))},
    "strike three": {
        "strikeout": _Rule((1, 0), scoreless=True),
        "strikeout_double_play": _Rule((2,), runners=1),
    },
    "hit": {"hit_by_pitch": _Rule((0,))},
    "play:none": {"catcher_interf": _Rule((0,))},
    **{
        f"play:{c}": {e: r for e, r in _BATTED.items() if not r.contacts or c in r.contacts}
        for c in CONTACTS
        if c != "none"
    },
}
_FORCED = ("walk", "intent_walk", "hit_by_pitch", "catcher_interf")  # every runner who must makes room for the batter
_WALKS = ("walk", "intent_walk")
_PLAIN = {"ball": "ball", "strike": "strike", "foul": "same"}  # what becomes of the count in mid-turn


@dataclass(frozen=True)
class _Deltas:
    """The parts of every delta's name, arrays [len(DELTAS)]; moves [len(DELTAS), 3]."""

    count: NDArray[np.str_]
    outs: NDArray[np.int64]
    runs: NDArray[np.int64]
    moves: NDArray[np.int64]

    @classmethod
    def parse(cls) -> _Deltas:
        count, outs, runs, moves = [], [], [], []
        for name in DELTAS:
            kind, *rest = name.split()
            if kind == "half":
                rest = ["o0", *rest, "+0+0+0"]
            count.append(kind)
            outs.append(int(rest[0][1:]))
            runs.append(int(rest[1][1:]))
            moves.append([int(rest[2][i : i + 2]) for i in (0, 2, 4)])
        return cls(np.array(count), np.array(outs), np.array(runs), np.array(moves))


def _bits(bases: int) -> NDArray[np.int64]:
    return np.array([(bases >> b) & 1 for b in range(3)])


def _forced(bases: int) -> int:
    """Bases after every runner who must has made room for the batter."""
    empty = ~bases & (bases + 1)  # the first free base
    return (bases | empty) & 0b111


@cache
def rules() -> Tensor:
    """Bool [outs 3, bases 8, needs 5, kinds, deltas, events]: what may happen. `needs` and `kinds` as above.

    A delta fits outs and bases: an occupied base can only lose its runner, an empty one only gain one, nobody goes
    back (no more runners at or before a base than there were), two outs go no further than the third. A half inning
    ends by the outs that were missing or, for the home side at the end, by the winning run; no play that wins the game
    leaves it going on. An event fits the kind of pitch, and the outs, runs and bases of the delta.
    """
    d, events = _Deltas.parse(), {e: i for i, e in enumerate(EVENTS)}
    half, end = d.count == "half", d.count == "end"
    table = np.zeros((3, 8, NEEDS, len(KINDS), len(DELTAS), len(EVENTS)), dtype=bool)
    for outs, bases, need in np.ndindex(3, 8, NEEDS):
        here = table[outs, bases, need]
        occupied = _bits(bases)
        runners = int(occupied.sum())
        after = occupied + d.moves
        held = np.cumsum(after, axis=1)
        fits = ((after == 0) | (after == 1)).all(axis=1) & ~half & (outs + d.outs <= 2)
        open_ = (need == 0) | (d.runs < need)

        def ahead(before: NDArray[np.int64], batter: int, held: NDArray[np.int64] = held) -> NDArray[np.bool_]:
            return np.asarray((held <= np.cumsum(before) + batter).all(axis=1))

        missing = 3 - outs
        for kind, count in _PLAIN.items():
            mid = fits & open_ & (d.count == count) & ahead(occupied, 0)
            here[KINDS.index(kind), mid, events["none"]] = True
            caught = half & open_ & (missing <= runners) & (d.runs <= runners - missing)
            home = half & (need > 0) & (d.runs == need) & (need <= runners)
            here[KINDS.index(kind), caught | home, events["truncated_pa"]] = True
        for kind, endings in _ENDINGS.items():
            for event, rule in endings.items():
                if runners < rule.runners or outs >= rule.less_than:
                    continue
                on = fits & open_ & end & ahead(occupied, 1) & np.isin(d.outs, rule.outs) & (d.runs >= rule.runs)
                on &= (after * _bits(rule.empty) == 0).all(axis=1)
                scoring = 0 if rule.scoreless else runners + 1 - missing
                third = half & open_ & (missing in rule.outs) & (d.runs <= scoring) & (d.runs >= rule.runs)
                least = min(rule.outs)
                win = half & (need > 0) & (d.runs == need) & (need <= runners) & (outs + least <= 2) & (need <= 3)
                if event == "home_run":
                    win = half & (0 < need <= runners + 1) & (d.runs == min(runners + 1, 3))
                elif event in _FORCED:
                    pushed = _bits(_forced(bases))
                    win &= bool(bases == 7) & (need == 1)
                    on &= ahead(pushed, 0) if event in _WALKS else (after == pushed).all(axis=1)
                    on &= (d.outs == 0) | (runners > 0)
                    third &= runners > 0
                elif event == "strikeout":
                    first = bool(bases & 1) and outs < 2  # then a dropped third strike leaves the batter out
                    on &= np.where(d.outs == 1, ahead(occupied, 0), not first)
                here[KINDS.index(kind), on | third | win, events[event]] = True
    return torch.from_numpy(table)


@cache
def _allowed() -> tuple[Tensor, Tensor]:
    """`rules` flat over its first four axes, and the same without the events."""
    flat = rules().flatten(0, 3)
    return flat, flat.any(dim=-1)


def _kind_table() -> Tensor:
    """[call id, contact id, third ball?, second strike?] -> number of the kind of pitch."""
    table = torch.zeros(len(CALLS) + 1, len(CONTACTS) + 1, 2, 2, dtype=torch.long)
    number = {k: i for i, k in enumerate(KINDS)}
    for call in CALLS:
        here, kind = table[BY_NAME["call"].ids[call]], CALL_CLASS[call]
        if kind == "X":
            for contact in CONTACTS:
                here[BY_NAME["contact"].ids[contact]] = number[f"play:{contact}"]
        elif kind == "B":
            here[:] = torch.tensor([number["ball"], number["ball four"]])[None, :, None]
        elif kind == "F":  # a foul bunt is a third strike, another foul is not
            last = "strike three" if "bunt" in call else "foul"
            here[:] = torch.tensor([number["strike"], number[last]])[None, None, :]
        elif kind == "H":
            here[:] = number["hit"]
        else:
            here[:] = torch.tensor([number["strike"], number["strike three"]])[None, None, :]
    return table


_KIND = _kind_table()
_NONE = BY_NAME["contact"].ids["none"] - 1
_CONTACT = torch.ones(2, len(CONTACTS), dtype=torch.bool)  # [in play?]: interference with the catcher has no contact
_CONTACT[0] = torch.arange(len(CONTACTS)) == _NONE
_IN_PLAY = BY_NAME["call"].ids["in_play"]
_D = _Deltas.parse()
_HALF = torch.from_numpy(_D.count == "half")
_DOUTS, _DRUNS = torch.from_numpy(_D.outs), torch.from_numpy(_D.runs)
_DMOVE = torch.from_numpy(_D.moves @ np.array([1, 2, 4]))
_DBALL, _DSTRIKE = torch.from_numpy(_D.count == "ball"), torch.from_numpy(_D.count == "strike")
_RUNNERS = torch.tensor([sum(c == "1" for c in b) for b in BASES])
#: Outs of the play when it won the game, by event.
_WINNING_OUTS = torch.zeros(len(EVENTS), dtype=torch.long)
for _endings in _ENDINGS.values():
    for _event, _rule in _endings.items():
        _WINNING_OUTS[EVENTS.index(_event)] = _rule.outs[0]
_HOME_RUN, _EVENT_NONE, _TRUNCATED = (EVENTS.index(e) for e in ("home_run", "none", "truncated_pa"))


@dataclass(frozen=True)
class Play:
    """What one pitch did in each game: tensors [n].

    `event`: its number in `fields.EVENTS`. `runs`, `outs`: made by it. `turn_over`: the batter's turn has ended, be it
    only because the inning did. `appearance`: by a plate appearance. `half_over`, `game_over`.
    """

    event: Tensor
    runs: Tensor
    outs: Tensor
    turn_over: Tensor
    appearance: Tensor
    half_over: Tensor
    game_over: Tensor


@dataclass(frozen=True)
class Gamestate:
    """The situation of many games before a pitch: tensors [n] of whole numbers, `score` [n, 2] visitors and home.

    `top`: 1 when the visitors bat. `bases`: bit mask, 1 first base. `pitch_number`: 1 on the first pitch of a turn.
    `innings`: how many a game has before it goes on until one side leads. `runner`: 1 when extra innings begin with
    a runner on second.
    """

    inning: Tensor
    top: Tensor
    outs: Tensor
    bases: Tensor
    balls: Tensor
    strikes: Tensor
    pitch_number: Tensor
    score: Tensor
    innings: Tensor
    runner: Tensor

    @classmethod
    def start(cls, innings: Tensor, runner: Tensor) -> Gamestate:
        """First pitch of games of `innings` [n]."""
        zero = torch.zeros_like(innings)
        return cls(
            zero + 1, zero + 1, zero, zero, zero, zero, zero + 1, torch.stack([zero, zero], dim=1), innings, runner
        )

    def __getitem__(self, rows: Tensor) -> Gamestate:
        return Gamestate(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(self, device: torch.device) -> Gamestate:
        """The same on another device."""
        return Gamestate(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def lead(self) -> Tensor:
        """Batting side's runs less the fielding side's."""
        difference = self.score[:, 0] - self.score[:, 1]
        return torch.where(self.top == 1, difference, -difference)

    @property
    def need(self) -> Tensor:
        """Runs that win the game here and now for the home side; 0 where no play can."""
        need = torch.where((self.top == 0) & (self.inning >= self.innings), 1 - self.lead, 0)
        return torch.where((need > 0) & (need < NEEDS), need, 0)

    def ids(self) -> dict[str, Tensor]:
        """Ids of the situation fields that the state of the game decides, as the store writes them."""
        return {
            "inning": self.inning.clamp(max=12),
            "top": 1 + self.top,
            "score_diff": 9 + self.lead.clamp(-8, 8),
            "outs": 1 + self.outs,
            "bases": 1 + self.bases,
            "begin_pa": torch.where(self.pitch_number == 1, 1 + self.bases, 0),
            "balls": 1 + self.balls,
            "strikes": 1 + self.strikes,
            "pitch_number": self.pitch_number.clamp(max=10),
        }

    def case(self, drawn: dict[str, Tensor]) -> Tensor:
        """Row of the rules for each pitch, of which `call` and `contact` are drawn (ids)."""
        kind = _KIND.to(self.outs.device)[
            drawn["call"], drawn["contact"], (self.balls == 3).long(), (self.strikes == 2).long()
        ]
        return ((self.outs * 8 + self.bases) * NEEDS + self.need) * len(KINDS) + kind

    def legal(self, field: Field, drawn: dict[str, Tensor]) -> Tensor | None:
        """Which values of `field` may come, given the fields drawn before it: [n, vocabulary] bool or None for all.

        The form that `FieldChain.draw` asks for.
        """
        device = self.outs.device
        if field.name == "contact":
            return _CONTACT.to(device)[(drawn["call"] == _IN_PLAY).long()]
        if field.name == "delta":
            return _allowed()[1].to(device)[self.case(drawn)]
        if field.name == "event":
            return _allowed()[0].to(device)[self.case(drawn), drawn["delta"] - 1]
        return None

    def apply(self, drawn: dict[str, Tensor]) -> tuple[Gamestate, Play]:
        """The situation before the next pitch, and what this one did. `drawn`: ids of a legal pitch."""
        device = self.outs.device
        delta, event = drawn["delta"] - 1, drawn["event"] - 1
        half_over = _HALF.to(device)[delta]
        runs = _DRUNS.to(device)[delta]
        runs = torch.where(event == _HOME_RUN, _RUNNERS.to(device)[self.bases] + 1, runs)  # a half's end says 3 at most
        won = half_over & (self.need > 0) & (runs >= self.need)
        outs = torch.where(half_over, 3 - self.outs, _DOUTS.to(device)[delta])
        outs = torch.where(won, torch.minimum(_WINNING_OUTS.to(device)[event], 2 - self.outs), outs)
        batting = (1 - self.top).unsqueeze(1)  # column of the score
        score = self.score.scatter_add(1, batting, runs.unsqueeze(1))
        turn_over = event != _EVENT_NONE
        ahead = score[:, 1] - score[:, 0]
        last = self.inning >= self.innings
        # After the top the home side need not bat when it leads; after the bottom a tie goes on.
        game_over = half_over & last & torch.where(self.top == 1, ahead > 0, ahead != 0)
        inning = self.inning + (half_over & (self.top == 0))
        second = (half_over & (inning > self.innings) & (self.runner == 1)).long() * 2
        zero = torch.zeros_like(self.outs)
        state = Gamestate(
            inning=inning,
            top=torch.where(half_over, 1 - self.top, self.top),
            outs=torch.where(half_over, zero, self.outs + outs),
            bases=torch.where(half_over, second, self.bases + _DMOVE.to(device)[delta]),
            balls=torch.where(turn_over, zero, self.balls + _DBALL.to(device)[delta]),
            strikes=torch.where(turn_over, zero, self.strikes + _DSTRIKE.to(device)[delta]),
            pitch_number=torch.where(turn_over, 1, self.pitch_number + 1),
            score=score,
            innings=self.innings,
            runner=self.runner,
        )
        appearance = turn_over & (event != _TRUNCATED)
        return state, Play(event, runs, outs, turn_over, appearance, half_over, game_over)
