"""What a hitter will do in a game he starts, from what is known that morning: his rates, this pitcher, this park.

Log5 of his shrunken rates with the starter's and with the rest of the staff's, each for the share of his turns that
they pitch; what the two hands do to each other; the park. Nothing is fitted.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from fullcount.adaptation.schedule import park_factors
from fullcount.evaluation.pa_grain import odds_ratio
from fullcount.fields import EVENT_OUTCOME, OUTCOMES
from fullcount.priors import EXTRAS, Priors
from fullcount.projection.starts import Floats, before, decayed, regular
from fullcount.projection.system import WOBA
from fullcount.store import Store

#: What is asked: `pitcher` is the opposing starter, null if nobody knows. Other columns as `starts.KEYS`.
KEYS = ("season", "date", "as_of", "player", "team", "opponent", "home", "park", "pitcher")
COUNTS = ("PA", "H", "HR", "BB", "SO", "R", "RBI", "SB")
#: Half-lives in days: of his plate appearances a start, of a staff without its starters.
PLAYING, STAFF = 30.0, 90.0
#: Plate appearances of a team a game, of which a starter's batters faced are a share.
TURNS = 38.0
#: Batters faced that a team's relief is shrunken to the league's with, and seasons that tell what hands do.
RELIEF_BF = 1500.0
HAND_SEASONS = 3
_HITS = ("1B", "2B", "3B", "HR")
_RUNS = np.array([WOBA.get("uBB" if o == "BB" else o, 0.0) for o in OUTCOMES])


def hitters(store: Store, priors: Priors, asked: pl.DataFrame) -> pl.DataFrame:
    """`asked` (columns `KEYS` and any others) with expected `COUNTS` of a game that he starts.

    `plain:H`, ...: his own rates in the same plate appearances, the rival to beat.
    """
    day = asked["as_of"].cast(pl.Int32).to_numpy()
    own = priors.rates("batter", asked["player"].to_numpy(), day)
    league = _with_out(priors.league("batter", day))
    met, share = _opposing(store, priors, asked, league)
    hand, part = _hands(store, priors.league_name, asked), share[:, None]
    mix = part * odds_ratio(own, met[0], league) * hand + (1 - part) * odds_ratio(own, met[1], league)
    mix *= _parks(store, priors.league_name, asked)
    mix /= mix.sum(axis=1, keepdims=True)

    pa = _appearances(store, priors, asked)
    extras = dict(zip(EXTRAS["batter"], priors.extras("batter", asked["player"].to_numpy(), day).T, strict=True))
    better = (mix @ _RUNS) / (own @ _RUNS)
    found = {"PA": pa}
    for prefix, of, times in (("", mix, better), ("plain:", own, np.ones(len(pa)))):
        rate = dict(zip(OUTCOMES, of.T, strict=True))
        found |= {
            f"{prefix}H": pa * sum((rate[h] for h in _HITS), np.zeros(len(pa))),
            f"{prefix}HR": pa * rate["HR"], f"{prefix}BB": pa * rate["BB"], f"{prefix}SO": pa * rate["K"],
            f"{prefix}R": pa * extras["R"] * times, f"{prefix}RBI": pa * extras["RBI"] * times,
            f"{prefix}SB": pa * extras["SB"],
        }  # fmt: skip
    return pl.concat([asked, pl.DataFrame(found)], how="horizontal")


def _with_out(league: Floats) -> Floats:
    named = league[:, : len(OUTCOMES) - 1]
    return np.concatenate([1 - named.sum(axis=1, keepdims=True), named], axis=1)


def _opposing(
    store: Store, priors: Priors, asked: pl.DataFrame, league: Floats
) -> tuple[tuple[Floats, Floats], Floats]:
    """Outcome mixes [n, 8] of the opposing starter and of those who follow him; the starter's share of turns [n]."""
    day, pitcher = asked["as_of"].cast(pl.Int32).to_numpy(), asked["pitcher"].fill_null(-1).to_numpy()
    starter = priors.rates("pitcher", pitcher, day)
    share = np.where(pitcher >= 0, np.clip(priors.exposure("pitcher", pitcher, day) / TURNS, 0, 1), 0.0)
    lines = regular(store, "pitching_games", priors.league_name).with_columns(
        (pl.col("H") - pl.col("2B") - pl.col("3B") - pl.col("HR")).alias("1B"), K="SO", opponent="team"
    )
    # Where nobody knows who starts, his team's whole staff is met.
    columns = [*OUTCOMES[1:], "BF"]
    relief, all_of = (decayed(x, asked, ["opponent"], columns, STAFF) for x in (lines.filter(pl.col("GS") == 0), lines))
    mixes = []
    for did in (relief, all_of):
        counts = np.stack([did[o] for o in OUTCOMES[1:]], axis=1) + RELIEF_BF * league[:, 1:]
        rate = counts / (did["BF"] + RELIEF_BF)[:, None]
        mixes.append(np.concatenate([1 - rate.sum(axis=1, keepdims=True), rate], axis=1))
    return (starter, np.where((pitcher >= 0)[:, None], mixes[0], mixes[1])), share


def _hands(store: Store, league: str, asked: pl.DataFrame) -> Floats:
    """[n, 8] by how much the two hands make each outcome likelier than the two players' own rates say."""
    players = store.table("players").select("player", "bats", "throws")
    turns = regular(store, "plate_appearances", league).filter(
        pl.col("event").is_in(list(EVENT_OUTCOME)), ~pl.col("batter_is_pitcher").fill_null(False)
    )
    turns = (
        turns.select("season", "batter", "pitcher", pl.col("event").replace_strict(EVENT_OUTCOME).alias("outcome"))
        .join(players.select(batter="player", bats="bats"), on="batter")
        .join(players.select(pitcher="player", throws="throws"), on="pitcher")
        .group_by("season", "bats", "throws", "outcome")
        .len()
    )
    who = asked.join(players.select("player", "bats"), on="player", how="left", maintain_order="left")
    who = who.join(players.select(pitcher="player", throws="throws"), on="pitcher", how="left", maintain_order="left")
    parts = []
    for season in asked["season"].unique().to_list():
        past = turns.filter(pl.col("season").is_between(season - HAND_SEASONS, season - 1))
        parts.append(hand_factors(past).with_columns(season=pl.lit(season, pl.Int16)))
    found = who.select("season", "bats", "throws").join(
        pl.concat(parts), on=["season", "bats", "throws"], how="left", maintain_order="left"
    )
    return found.select(pl.col(OUTCOMES).fill_null(1.0)).to_numpy()


def hand_factors(turns: pl.DataFrame) -> pl.DataFrame:
    """bats, throws and for each of `OUTCOMES` its rate between the two hands over what they would give apart: the rate
    of the batters' hand times that of the pitchers' over the league's. From counts bats, throws, outcome, len."""
    n = pl.col("len").sum().cast(pl.Float64)
    sums = turns.group_by("bats", "throws", "outcome").agg(n.alias("o"))
    sums = sums.with_columns(
        own=pl.col("o").sum().over("bats", "throws"),
        rate_b=pl.col("o").sum().over("bats", "outcome") / pl.col("o").sum().over("bats"),
        rate_t=pl.col("o").sum().over("throws", "outcome") / pl.col("o").sum().over("throws"),
        rate=pl.col("o").sum().over("outcome") / pl.col("o").sum(),
    )
    factor = (pl.col("o") / pl.col("own")) * pl.col("rate") / (pl.col("rate_b") * pl.col("rate_t"))
    wide = sums.select("bats", "throws", "outcome", f=factor).pivot("outcome", index=["bats", "throws"], values="f")
    schema = {"bats": pl.String, "throws": pl.String}
    return wide.select(
        *(pl.col(c).cast(t) if c in wide.columns else pl.lit(None, t).alias(c) for c, t in schema.items()),
        *((pl.col(o) if o in wide.columns else pl.lit(None, pl.Float64)).fill_null(1.0).alias(o) for o in OUTCOMES),
    )


def _parks(store: Store, league: str, asked: pl.DataFrame) -> Floats:
    """[n, 8] the park's factors over half of his team's park's, which is in his rates; hits by half that of runs."""
    seasons = asked["season"].unique().to_list()
    table = pl.concat([park_factors(store, league, s).with_columns(season=pl.lit(s, pl.Int16)) for s in seasons])
    homes = store.games.filter((pl.col("game_type") == "R") & (pl.col("league") == league)).select(
        "date", "park", team="home_team"
    )
    homes = homes.sort("date").unique(["team", "date"], keep="last", maintain_order=True)
    own = before(homes, asked, ["team"])["park"]
    logs = []
    for park in (asked["park"], own):
        where = pl.DataFrame({"park": park, "season": asked["season"]})
        found = where.join(table, on=["park", "season"], how="left", maintain_order="left")
        logs.append(found.select(pl.col("R", "HR", "K").fill_null(0.0)))
    off = {c: (logs[0][c] - 0.5 * logs[1][c]).to_numpy() for c in ("R", "HR", "K")}
    by = {"K": off["K"], "HR": off["HR"]} | dict.fromkeys(("1B", "2B", "3B"), 0.5 * off["R"])
    return np.asarray(np.exp(np.stack([by.get(o, np.zeros(asked.height)) for o in OUTCOMES], axis=1)))


def _appearances(store: Store, priors: Priors, asked: pl.DataFrame) -> Floats:
    """[n] plate appearances of a game that he starts: his last starts' mean, shrunken to the league's with five."""
    lines = regular(store, "batting_games", priors.league_name).filter("starter").with_columns(n=1.0)
    own = decayed(lines, asked, ["player"], ["n", "PA"], PLAYING)
    every = asked.with_columns(league=pl.lit(priors.league_name))
    usual = decayed(lines, every, ["league"], ["n", "PA"], PLAYING)
    mean = np.divide(usual["PA"], usual["n"], out=np.full(asked.height, 4.0), where=usual["n"] > 0)
    place = decayed(lines, every, ["league", "home"], ["n", "PA"], 5 * PLAYING)
    of_place = np.divide(place["PA"], place["n"], out=mean.copy(), where=place["n"] > 0)
    return np.asarray((own["PA"] + 5 * mean) / (own["n"] + 5) * of_place / mean)
