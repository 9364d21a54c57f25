"""What a starter will do in a game, from what is known that morning: facts, and trees refitted for every season.

A row asks about one start. Of the game it holds what a schedule says (day, teams, park, who starts); all else is play
of days before `as_of`, which is the day of the game unless a week is looked at ahead. The opposing line-up is the one
lately sent out: today's is not published in the morning.
"""

from __future__ import annotations

from datetime import timedelta

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import nbinom

from fullcount.adaptation.schedule import park_factors
from fullcount.errors import FullcountError
from fullcount.fields import OUTCOMES
from fullcount.priors import COUNT_KINDS, EXTRAS, Priors, pitch_lines
from fullcount.projection.boosted import LEAST_ROWS, PARAMETERS
from fullcount.store import Store

Floats = NDArray[np.float64]
Sums = dict[str, Floats]
#: What a start is asked of; `as_of` and `date` are days, `home` is whether he pitches at home.
KEYS = ("season", "date", "as_of", "player", "team", "opponent", "home", "park")
COUNTS = ("BF", "outs", "SO", "BB", "H", "HR", "ER")
#: Half-lives in days of his last starts and of the months behind them; of the league's level; of a line-up.
LATELY, MONTHS, LEVEL, LINEUP = 20.0, 100.0, 60.0, 15.0
#: Half-lives after which a line is forgotten.
FORGOTTEN = 40
#: Seasons learned from, and trees: chosen on 2016-19.
SEASONS = 10
TREES = 600
SHAPE = PARAMETERS | {"objective": "poisson", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 200}


def regular(store: Store, name: str, league: str) -> pl.DataFrame:
    """Regular-season rows of `league` in a table of the store."""
    return store.table(name).filter((pl.col("game_type") == "R") & (pl.col("league") == league))


def played(store: Store, league: str) -> pl.DataFrame:
    """Every start that was made: game_id, `KEYS` as of the morning of the game, `COUNTS` as they happened.

    In the order of `game_grain.starts_table`.
    """
    parks = store.games.select("game_id", "park")
    starts = regular(store, "pitching_games", league).filter(pl.col("GS") == 1).join(parks, on="game_id")
    starts = starts.with_columns(as_of="date").sort("date", "game_id", "home")
    return starts.select("game_id", *KEYS, pl.col(COUNTS).cast(pl.Float64))


def decayed(lines: pl.DataFrame, asked: pl.DataFrame, by: list[str], columns: list[str], half_life: float) -> Sums:
    """[asked] sums of `columns` of the `lines` of the same `by` dated before `as_of`, halved every `half_life` days.

    0 where there are none in the last `FORGOTTEN` half-lives.
    """
    rate = np.log(2) / half_life
    lines = lines.filter(pl.col("date") >= asked["as_of"].min() - timedelta(FORGOTTEN * half_life))  # type: ignore[operator]
    age = (pl.col("date") - pl.col("origin")).dt.total_days() * rate
    daily = (
        lines.group_by(*by, "date")
        .agg(pl.col(columns).cast(pl.Float64).sum())
        .sort("date")
        .with_columns(origin=pl.col("date").first().over(by))
        .with_columns(pl.col(columns) * age.exp())
        .with_columns(pl.col(columns).cum_sum().over(by))
    )
    found = before(daily, asked, by).select((pl.col(columns) * (-age).exp()).fill_null(0.0))
    return {c: found[c].to_numpy() for c in columns}


def before(lines: pl.DataFrame, asked: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """For each row of `asked` the newest of `lines` of the same `by` before `as_of`; `date` is then `as_of`."""
    return (
        asked.select(*by, pl.col("as_of").alias("date"))
        .with_row_index("row")
        .sort("date", "row")
        .join_asof(lines, on="date", by=by, allow_exact_matches=False, check_sortedness=False)
        .sort("row")
    )


def facts(store: Store, priors: Priors, asked: pl.DataFrame) -> pl.DataFrame:
    """`asked` (columns `KEYS` and any others) with what is known of each row behind it.

    `x:...`: facts that trees read, null where nothing is known. `m:SO`, ...: for each of `COUNTS` what the pitcher's
    own shrunken rate per batter and the batters he faced of late come to, strikeouts times how often the opponent's
    batters strike out.
    """
    hands = store.table("players").select("player", hand=pl.col("throws"))
    lines = regular(store, "pitching_games", priors.league_name).with_columns(n=1.0)
    starts = lines.filter(pl.col("GS") == 1)
    asked = asked.join(hands, on="player", how="left", maintain_order="left")
    asked = asked.with_columns(league=pl.lit(priors.league_name))
    usual = decayed(starts, asked, ["league"], ["n", "BF", "pitches"], 30.0)
    level = decayed(lines, asked, ["league"], ["SO", "BF"], LEVEL)
    per_start = {c: _ratio(usual[c], usual["n"]) for c in ("BF", "pitches")}
    strikeouts = _ratio(level["SO"], level["BF"])

    day, player = asked["as_of"].cast(pl.Int32).to_numpy(), asked["player"].to_numpy()
    own = priors.features("pitcher", player, day).astype(np.float64)
    rates = priors.rates("pitcher", player, day)
    rate = dict(zip(OUTCOMES, rates.T, strict=True))
    x = {n: own[:, OUTCOMES.index(n) - 1] for n in ("K", "BB", "HR")}
    x |= dict(
        zip(("reliability", "age", "known", "exposure", "prevention"), own[:, len(OUTCOMES) - 1 :].T, strict=True)
    )
    x["K rate"] = rate["K"]
    for name, days in (("lately", LATELY), ("months", MONTHS)):
        did = decayed(starts, asked, ["player"], ["n", "BF", "pitches", "SO"], days)
        x |= {f"{c} {name}": (did[c] + per_start[c]) / (did["n"] + 1) for c in ("BF", "pitches")}
        x[f"starts {name}"] = did["n"]
        x[f"K {name}"] = (did["SO"] + 70 * rate["K"]) / (did["BF"] + 70) - rate["K"]
        x[f"pitches a batter {name}"] = (did["pitches"] + 40) / (did["BF"] + 10)
        facing = decayed(lines, asked, ["opponent"], ["SO", "BF"], 1.5 * days)
        x[f"opponent {name}"] = (facing["SO"] + 500 * strikeouts) / (facing["BF"] + 500) - strikeouts
    games = decayed(lines, asked, ["player"], ["n", "GS"], LEVEL)
    x |= {"games": games["n"], "started": (games["GS"] + 0.5) / (games["n"] + 1)}
    x |= _last(lines, starts, asked) | _whiffs(store, priors.league_name, asked) | _line_ups(store, priors, asked)

    parks = [park_factors(store, priors.league_name, int(s)).with_columns(season=s) for s in asked["season"].unique()]
    factors = pl.concat(parks).select(
        "park", pl.col("season").cast(pl.Int16), pl.col("R", "HR", "K").name.prefix("park ")
    )
    park = asked.join(
        factors,
        on=["park", "season"], how="left", maintain_order="left",
    )  # fmt: skip
    x |= {f"park {c}": park[f"park {c}"].fill_null(0.0).to_numpy() for c in ("R", "HR", "K")}
    x["home"] = asked["home"].cast(pl.Float64).to_numpy()
    x["day of the year"] = asked["date"].dt.ordinal_day().cast(pl.Float64).to_numpy()

    extras = dict(zip(EXTRAS["pitcher"], priors.extras("pitcher", player, day).T, strict=True))
    rate |= extras | {"BF": np.ones(len(day)), "SO": rate["K"] * (1 + x["opponent months"] / strikeouts)}
    rate["H"] = sum((rate[o] for o in ("1B", "2B", "3B", "HR")), np.zeros(len(day)))
    base = {f"m:{c}": rate[c] * x["BF months"] for c in COUNTS}
    found = pl.DataFrame({f"x:{n}": v for n, v in x.items()} | base)
    return pl.concat([asked.drop("league"), found.fill_nan(None)], how="horizontal")


def _last(lines: pl.DataFrame, starts: pl.DataFrame, asked: pl.DataFrame) -> Sums:
    """His last start and his last game of any kind: days since, batters faced, pitches; whether that was a start."""
    x: Sums = {}
    # Of two starts in the week looked at, the first one is the last before the second.
    planned = pl.col("date").shift(1).over("player", "as_of", order_by="date")
    planned = pl.when(planned >= pl.col("as_of")).then(planned)
    for name, of in (("start", starts), ("game", lines)):
        last = of.sort("date", "game_id").select("player", "date", "BF", "pitches", "GS", on="date")
        last = last.unique(["player", "date"], keep="last", maintain_order=True)
        found = before(last, asked, ["player"]).select("BF", "pitches", "GS", "on")
        days = asked.select(planned=planned, day="date").hstack(found)
        days = days.select((pl.col("day") - pl.coalesce("planned", "on")).dt.total_days().clip(0, 200))
        x |= {f"{c} of last {name}": found[c].cast(pl.Float64).to_numpy() for c in ("BF", "pitches")}
        x[f"days since {name}"] = days.to_series().cast(pl.Float64).to_numpy()
        if name == "game":
            x["last was a start"] = found["GS"].cast(pl.Float64).to_numpy()
    return x


def _whiffs(store: Store, league: str, asked: pl.DataFrame) -> Sums:
    """Swinging strikes a pitch of his last starts and of the last months, less the league's."""
    pitches = pitch_lines(store, league).group_by("date", player="pitcher").agg(
        pl.sum_horizontal(f"{k}:{c}" for k in COUNT_KINDS).sum().alias(c) for c in ("S", "n")
    )  # fmt: skip
    pitches = pitches.with_columns(league=pl.lit(league))
    level = decayed(pitches, asked, ["league"], ["S", "n"], LEVEL)
    usual = _ratio(level["S"], level["n"])
    x = {}
    for name, days in (("lately", LATELY), ("months", LEVEL)):
        did = decayed(pitches, asked, ["player"], ["S", "n"], days)
        x[f"whiffs {name}"] = (did["S"] + 300 * usual) / (did["n"] + 300) - usual
    return x


def _line_ups(store: Store, priors: Priors, asked: pl.DataFrame) -> Sums:
    """How the opponent's line-ups of the last weeks strike out, walk and homer, by their batters' priors then."""
    first = asked["as_of"].min() - timedelta(FORGOTTEN * LINEUP)  # type: ignore[operator]
    batters = regular(store, "batting_games", priors.league_name).filter("starter", pl.col("date") >= first)
    day = batters["date"].cast(pl.Int32).to_numpy()
    of = priors.features("batter", batters["player"].to_numpy(), day).astype(np.float64)
    names = [f"line-up {o}" for o in ("K", "BB", "HR")]
    columns = [pl.Series(n, of[:, OUTCOMES.index(o) - 1]) for n, o in zip(names, ("K", "BB", "HR"), strict=True)]
    sent = batters.select("date", opponent="team", n=pl.lit(1.0)).with_columns(columns)
    lately = decayed(sent, asked, ["opponent"], [*names, "n"], LINEUP)
    return {n: _ratio(lately[n], lately["n"]) for n in names}


def _ratio(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


def expected(past: pl.DataFrame, now: pl.DataFrame, count: str) -> Floats:
    """[now] expectation of `count`: trees that learned from `past` (`facts` with what happened) by what factor `m:` is
    wrong, at most the `SEASONS` before the first of `now`. With too little to learn from, `m:` as it stands."""
    base = now[f"m:{count}"].to_numpy()
    first = int(now["season"].min() or 0)  # type: ignore[arg-type]
    past = past.filter(pl.col("season").is_between(first - SEASONS, first - 1) & pl.col(f"m:{count}").is_not_null())
    if past.height < LEAST_ROWS:
        return np.asarray(base)
    names = [c for c in now.columns if c.startswith("x:")]
    matrix, ask = (t.select(pl.col(names).fill_null(float("nan"))).to_numpy() for t in (past, now))
    data = lightgbm.Dataset(matrix, past[count].to_numpy(), init_score=np.log(past[f"m:{count}"].to_numpy()))
    trees = lightgbm.train(SHAPE, data, TREES)
    return np.asarray(base * np.exp(trees.predict(ask, raw_score=True)))


# --------------------------------------------------------------------------------------------- the distribution


def dispersion(mean: Floats, happened: Floats) -> float:
    """a of the negative binomial with variance m + a m^2 that `happened` [n] is likeliest under, 0 (Poisson) to 1."""
    mean, happened = mean[mean > 0], happened[mean > 0]
    if not len(mean):
        raise FullcountError("no starts to learn the spread of strikeouts from")
    found = minimize_scalar(lambda a: -log_score(mean, happened, a).sum(), bounds=(1e-6, 1.0), method="bounded")
    return float(found.x)


def log_score(mean: Floats, happened: Floats, a: float) -> Floats:
    """[n] log-likelihood of counts under that negative binomial; `a` near 0 is a Poisson."""
    size = 1 / max(a, 1e-6)
    return np.asarray(nbinom.logpmf(happened, size, size / (size + mean)))


def over(mean: Floats, line: float, a: float) -> Floats:
    """[n] P(count > line), for lines like 5.5."""
    size = 1 / max(a, 1e-6)
    return np.asarray(nbinom.sf(np.floor(line), size, size / (size + mean)))
