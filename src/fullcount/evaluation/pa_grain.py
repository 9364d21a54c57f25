"""Trivial rivals at the plate appearance: its outcome in eight classes, from who bats and who pitches.

Rates of a player are those of the three seasons before, the last one weighing most, shrunken to the league's mix class
by class (`priors.STRENGTH`). Any model of plate appearances is to be compared with `Log5`, not with the league's mix.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from fullcount.errors import FullcountError
from fullcount.evaluation.pitch_grain import Floats, Ints, Rival, column, from_odds, judge, look_up, odds, score, tally
from fullcount.fields import EVENT_OUTCOME, OUTCOMES
from fullcount.priors import STRENGTH
from fullcount.store import PlayerRole

__all__ = ["BatterMarcel", "LeagueMix", "Log5", "Log5ToDate", "PitcherOnly", "anchor", "judge", "pa_rows", "rivals"]

#: Weights of the last season, the one before, and the one before that: 3/2/1, with the last one's set to 1 so that
#: strengths keep their meaning in plate appearances of the last season.
WEIGHTS = (1.0, 2 / 3, 1 / 3)
SEASON = 2019
K = len(OUTCOMES)


def pa_rows(plate_appearances: pl.DataFrame) -> pl.DataFrame:
    """Regular-season plate appearances of batters who are not pitchers, with `outcome` in `OUTCOMES`.

    Columns: game_id, season, date, batter, pitcher, outcome. Innings that ended on the bases are left out.
    """
    numbers = {event: OUTCOMES.index(o) for event, o in EVENT_OUTCOME.items()}
    return plate_appearances.filter(
        (pl.col("game_type") == "R")
        & pl.col("event").is_in(list(numbers))
        & ~pl.col("batter_is_pitcher").fill_null(False)
    ).select(
        "game_id",
        "season",
        "date",
        "batter",
        "pitcher",
        pl.col("event").replace_strict(numbers, return_dtype=pl.Int64).alias("outcome"),
    )


def shrink(counts: Floats, mix: Floats, role: PlayerRole) -> Floats:
    """Outcome mix [n, 8] of players with weighted `counts` [n, 8]; "OUT" takes what the other classes leave."""
    strength = np.array([STRENGTH[role][o] for o in OUTCOMES[1:]])
    n = counts.sum(axis=1, keepdims=True)
    named = (counts[:, 1:] + strength * mix[1:]) / (n + strength)
    return np.concatenate([1 - named.sum(axis=1, keepdims=True), named], axis=1)


def odds_ratio(batter: Floats, pitcher: Floats, league: Floats) -> Floats:
    """Log5 of many classes: odds(b) odds(p) / odds(l) of each, normalised (Bill James; Tango's odds-ratio method)."""
    return from_odds(odds(batter) * odds(pitcher) / odds(league))


class LeagueMix:
    """The mix of the last season fitted on."""

    name = "league mix"
    mix: Floats

    def fit(self, frame: pl.DataFrame) -> LeagueMix:
        """Shares of the classes in the last season of `frame`."""
        last = frame.filter(pl.col("season") == pl.col("season").max())
        if not last.height:
            raise FullcountError("no plate appearances to fit on; give at least the season before the one to forecast")
        self.mix = np.bincount(column(last, "outcome"), minlength=K) / last.height
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The same row for everybody."""
        return np.tile(self.mix, (frame.height, 1))


class _Players(LeagueMix):
    """Weighted counts of every player of a role: `ids` [players], `counts` [players, 8]."""

    role: PlayerRole
    ids: Ints
    counts: Floats

    def fit(self, frame: pl.DataFrame) -> _Players:
        """Counts of the last three seasons of `frame`, weighted with `WEIGHTS`."""
        super().fit(frame)
        back = column(frame, "season").max() - column(frame, "season")
        weight = np.append(WEIGHTS, 0.0)[np.minimum(back, len(WEIGHTS))]
        self.ids, who = np.unique(column(frame, self.role), return_inverse=True)
        self.counts = tally(who, len(self.ids), column(frame, "outcome"), K, weight)
        return self

    def known(self, frame: pl.DataFrame) -> Floats:
        """Counts [n, 8] of the player of each row."""
        return look_up(self.ids, self.counts, column(frame, self.role), np.zeros(K))

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Shrunken rates."""
        return shrink(self.known(frame), self.mix, self.role)


class BatterMarcel(_Players):
    """The batter's shrunken rates."""

    name, role = "batter (Marcel)", "batter"


class PitcherOnly(_Players):
    """The pitcher's shrunken rates."""

    name, role = "pitcher only", "pitcher"


class Log5(LeagueMix):
    """Batter and pitcher, by odds ratio."""

    name = "log5"

    def __init__(self) -> None:
        self.batter, self.pitcher = BatterMarcel(), PitcherOnly()

    def fit(self, frame: pl.DataFrame) -> Log5:
        """Both players' counts."""
        super().fit(frame)
        self.batter.fit(frame)
        self.pitcher.fit(frame)
        return self

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Log5 of each row's two players against the league's mix."""
        return odds_ratio(self.batter.predict(frame), self.pitcher.predict(frame), self.mix)


class Log5ToDate(Log5):
    """Log5 with each player's plate appearances of earlier days of the season added to his counts.

    `predict` reads the outcomes of `frame` itself, for a row only those of days before it.
    """

    name = "log5, season to date"

    def predict(self, frame: pl.DataFrame) -> Floats:
        """As `Log5`, rates as of each row's day."""
        batter, pitcher = (
            shrink(side.known(frame) + before_today(frame, side.role), self.mix, side.role)
            for side in (self.batter, self.pitcher)
        )
        return odds_ratio(batter, pitcher, self.mix)


def before_today(frame: pl.DataFrame, role: PlayerRole) -> Floats:
    """Outcomes [n, 8] of each row's player on earlier days of `frame`."""
    names = [f"class_{c}" for c in range(K)]
    daily = (
        frame.group_by(role, "date")
        .agg([(pl.col("outcome") == c).sum().cast(pl.Float64).alias(n) for c, n in enumerate(names)])
        .sort(role, "date")
        .with_columns([(pl.col(n).cum_sum() - pl.col(n)).over(role) for n in names])
    )
    joined = frame.select(role, "date").join(daily, on=[role, "date"], how="left", maintain_order="left")
    return joined.select(names).to_numpy()


def rivals() -> list[Rival]:
    """All of this grain, weakest first."""
    return [LeagueMix(), PitcherOnly(), BatterMarcel(), Log5(), Log5ToDate()]


def anchor(plate_appearances: pl.DataFrame, season: int = SEASON) -> pl.DataFrame:
    """The published comparison: fitted on the three seasons before `season`, judged on it; with the Brier of K.

    The season's own mix ("oracle") is added: no forecast can know it.
    """
    rows = pa_rows(plate_appearances)
    train = rows.filter(pl.col("season").is_between(season - 3, season - 1))
    test = rows.filter(pl.col("season") == season)
    outcome = column(test, "outcome")
    strikeouts = (outcome == OUTCOMES.index("K")).astype(np.float64)
    oracle = LeagueMix().fit(test)
    oracle.name = "league mix of the season itself (oracle)"
    table = []
    for system in [oracle, *[r.fit(train) for r in rivals()]]:
        p = system.predict(test)
        brier = float(((p[:, OUTCOMES.index("K")] - strikeouts) ** 2).mean())
        table.append({"system": system.name, **score(p, outcome), "k_brier": brier})
    return pl.DataFrame(table).with_columns(pl.col("n").cast(pl.Int64))


if __name__ == "__main__":
    from fullcount.evaluation.game_grain import main

    main("pa")
