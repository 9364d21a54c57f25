"""Who plays in the simulated league: latent talents, their ageing and drift, arms, rookies and retirements.

Talents are z-scores (0 is the population's mean, 1 its standard deviation). A player's talent on a day is

    level(season) + drift(season) * progress,     progress 0 on the first day, 1 on the last

and next season starts from the drifted level, pulled slightly to the mean, plus a winter's shock and the age curve.
So what a player becomes next year is partly visible in how he plays late this year.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BATTER_TALENTS = ("discipline", "contact", "power", "loft", "speed")
PITCHER_TALENTS = ("stuff", "command", "grounders", "suppression", "velocity")
TALENTS = len(BATTER_TALENTS)
BATTERS_PER_TEAM, STARTERS_PER_TEAM, RELIEVERS_PER_TEAM = 13, 5, 7

PITCH_KINDS = ("FF", "SI", "FC", "SL", "ST", "CU", "CH", "FS")
BATTER, STARTER, RELIEVER = 0, 1, 2  # roles; a pitcher keeps his role for life

_BATTER_CORRELATION = np.array(
    [
        [1.0, 0.15, 0.15, 0.0, 0.0],
        [0.15, 1.0, -0.35, -0.2, 0.15],
        [0.15, -0.35, 1.0, 0.35, -0.2],
        [0.0, -0.2, 0.35, 1.0, -0.2],
        [0.0, 0.15, -0.2, -0.2, 1.0],
    ]
)
_PITCHER_CORRELATION = np.array(
    [
        [1.0, -0.1, -0.1, 0.2, 0.55],
        [-0.1, 1.0, 0.0, 0.15, -0.15],
        [-0.1, 0.0, 1.0, 0.1, -0.1],
        [0.2, 0.15, 0.1, 1.0, 0.1],
        [0.55, -0.15, -0.1, 0.1, 1.0],
    ]
)
_MIX = np.stack([np.linalg.cholesky(_BATTER_CORRELATION)] + [np.linalg.cholesky(_PITCHER_CORRELATION)] * 2)

# Yearly pull to the mean and shocks; PULL^2 (1 + DRIFT^2) + WINTER^2 is about 1, so the spread stays as it is.
PULL, DRIFT, WINTER = 0.96, 0.25, 0.15
_RELIEF_BONUS = np.array([0.45, -0.1, 0.0, 0.0, 0.5])  # an arm that need not last throws harder

_FIRST = (
    "Abe", "Ben", "Cal", "Dan", "Eli", "Fox", "Gus", "Hal", "Ike", "Jay", "Ken", "Lou",
    "Max", "Ned", "Otto", "Pat", "Ray", "Sam", "Tom", "Vic", "Walt", "Yogi", "Zeb",
)  # fmt: skip
_LAST = (
    "Ashford", "Barlow", "Cobden", "Dray", "Ember", "Farrow", "Gantry", "Hollis", "Ives",
    "Jarrow", "Kestrel", "Lund", "Marsh", "Nolan", "Orton", "Pell", "Quill", "Rusk",
)  # fmt: skip


def age_curve(age: Floats, role: Ints) -> Floats:
    """Mean talent at an age, [n] years and roles -> [n, 5]."""
    a = age[:, None]
    batter = np.concatenate(
        [
            -0.004 * (a - 31) ** 2,
            -0.005 * (a - 27) ** 2,
            -0.006 * (a - 27) ** 2,
            0 * a,
            -0.09 * (a - 26),
        ],
        axis=1,
    )
    pitcher = np.concatenate(
        [-0.05 * (a - 26), -0.004 * (a - 31) ** 2, 0 * a, -0.02 * (a - 26), -0.07 * (a - 26)],
        axis=1,
    )
    bonus = np.where((role == RELIEVER)[:, None], _RELIEF_BONUS, 0)
    return np.asarray(np.where((role == BATTER)[:, None], batter, pitcher) + bonus)


def value(talent: Floats, role: Ints) -> Floats:
    """How much a manager likes a player, [n, 5] -> [n], roughly standard normal."""
    batter = talent @ np.array([0.4, 0.45, 0.8, 0.0, 0.15])
    pitcher = talent @ np.array([0.75, 0.5, 0.15, 0.3, 0.0])
    return np.asarray(np.where(role == BATTER, batter, pitcher))


@dataclass
class Population:
    """Everybody who ever played; arrays over player ids, entry 0 is nobody.

    Attributes:
        role: [n] BATTER, STARTER or RELIEVER.
        birth: [n] day of birth, days since 1970.
        team: [n] index of the team, -1 when retired.
        bats, throws: [n] "L", "R" (bats also "S").
        deviation: [n, 5] talent beside the age curve at the start of the present season.
        level, drift: [n, 5] talent at the start of the present season, and what it gains until the end of it.
        usage: [n, 8] log-weights of the pitch kinds; -inf for a kind he does not throw.
        arm: [n, 6] release_pos_x, release_pos_z, extension (feet), spin factor, pfx_x, pfx_z offsets (feet).
    """

    rng: np.random.Generator
    teams: int
    season: int

    def __post_init__(self) -> None:
        self.role = np.zeros(1, dtype=np.int64)
        self.birth = np.zeros(1, dtype=np.int64)
        self.team = np.full(1, -1, dtype=np.int64)
        self.bats = np.array(["R"])
        self.throws = np.array(["R"])
        self.deviation = np.zeros((1, TALENTS))
        self.usage = np.zeros((1, len(PITCH_KINDS)))
        self.arm = np.zeros((1, 6))
        sizes = (BATTERS_PER_TEAM, STARTERS_PER_TEAM, RELIEVERS_PER_TEAM)
        role = np.tile(np.repeat([BATTER, STARTER, RELIEVER], sizes), self.teams)
        age = np.clip(self.rng.normal(27.5, 3.8, len(role)), 21, 38)
        self._add(role, np.repeat(np.arange(self.teams), sum(sizes)), age, mean=0.0)
        self._start_season()

    def __len__(self) -> int:
        return len(self.role)

    @property
    def age(self) -> Floats:
        """[n] age on 1 July of the present season."""
        july = np.datetime64(f"{self.season}-07-01").astype("datetime64[D]").astype(np.int64)
        return np.asarray((july - self.birth) / 365.25)

    @property
    def middle(self) -> Floats:
        """[n, 5] talent in the middle of the season."""
        return self.level + 0.5 * self.drift

    def _correlated(self, role: Ints) -> Floats:
        return np.asarray(np.einsum("nij,nj->ni", _MIX[role], self.rng.standard_normal((len(role), TALENTS))))

    def _add(self, role: Ints, team: Ints, age: Floats, mean: float) -> None:
        n, rng = len(role), self.rng
        july = np.datetime64(f"{self.season}-07-01").astype("datetime64[D]").astype(np.int64)
        throws = np.where(rng.random(n) < np.where(role == BATTER, 0.15, 0.28), "L", "R")
        bats = np.where(rng.random(n) < 0.1, "S", np.where(rng.random(n) < 0.37, "L", "R"))
        left = np.where(throws == "L", 1.0, -1.0)
        # Everybody has a fastball; two to three further kinds.
        usage = np.full((n, len(PITCH_KINDS)), -np.inf)
        kinds = rng.random((n, len(PITCH_KINDS)))
        kinds[:, 0] = 0
        rank = kinds.argsort(axis=1).argsort(axis=1)
        main = np.array([0.55, 0.3, 0.2, 0.3, 0.2, 0.15, 0.2, 0.15])
        keep = rank < rng.integers(3, 5, n)[:, None]
        usage[keep] = (np.log(main) + rng.normal(0, 0.35, (n, len(PITCH_KINDS))))[keep]
        arm = np.stack(
            [
                left * rng.normal(1.9, 0.55, n),
                rng.normal(5.85, 0.4, n),
                rng.normal(6.3, 0.35, n),
                rng.normal(1.0, 0.06, n),
                rng.normal(0.0, 0.18, n),
                rng.normal(0.0, 0.18, n),
            ],
            axis=1,
        )
        self.role = np.append(self.role, role)
        self.birth = np.append(self.birth, july - np.round(age * 365.25).astype(np.int64))
        self.team = np.append(self.team, team)
        self.bats = np.append(self.bats, bats)
        self.throws = np.append(self.throws, throws)
        self.deviation = np.concatenate([self.deviation, mean + self._correlated(role)])
        self.usage = np.concatenate([self.usage, usage])
        self.arm = np.concatenate([self.arm, arm])

    def _start_season(self) -> None:
        self.level = self.deviation + age_curve(self.age, self.role)
        self.drift = DRIFT * self._correlated(self.role)
        # A small league's mean wanders; talent is counted from the mean of those who play, so that league rates stay.
        for group in (self.role == BATTER, self.role != BATTER):
            self.level[group] -= self.middle[group & (self.team >= 0)].mean(axis=0)
        self.level[0] = self.drift[0] = 0

    def next_season(self) -> None:
        """Age everybody by a year; the old and the weak retire, rookies take their places, a few are traded."""
        rng = self.rng
        active = self.team >= 0
        liking = value(self.level + self.drift, self.role)
        leave = active & (rng.random(len(self)) < 1 / (1 + np.exp(2.7 - 0.3 * (self.age - 33) + 0.9 * liking)))
        role, team = self.role[leave], self.team[leave]
        self.deviation = PULL * (self.deviation + self.drift) + WINTER * self._correlated(self.role)
        self.team[leave] = -1
        self.season += 1
        self._add(role, team, self.rng.uniform(21, 25, len(role)), mean=0.1)
        for r in (BATTER, STARTER, RELIEVER):
            moving = np.flatnonzero((self.team >= 0) & (self.role == r) & (rng.random(len(self)) < 0.06))
            self.team[moving] = np.roll(self.team[moving], 1)
        self._start_season()

    def roster(self, role: int) -> Ints:
        """Players of a role, [teams, size of that part of the roster]."""
        ids = np.flatnonzero((self.team >= 0) & (self.role == role))
        return ids[np.argsort(self.team[ids], kind="stable")].reshape(self.teams, -1)

    def names(self) -> tuple[list[str], list[str]]:
        """First and last names of players 1..n-1; the number keeps them apart."""
        ids = range(1, len(self))
        return [_FIRST[i * 7 % len(_FIRST)] for i in ids], [f"{_LAST[i * 11 % len(_LAST)]} {i:03d}" for i in ids]
