"""Trivial rivals at the game: a starter's strikeouts, from what was known on the morning of the game.

`ten_line` is a formula of ten lines that matches published transformers and the sportsbooks' lines; a model that is not
better has learned nothing of the game. Everything is vectorised over starts and as-of: a row uses only earlier days.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import Array, Paired, mae, paired_bootstrap, rmse
from fullcount.evaluation.pitch_grain import Floats, odds
from fullcount.sources.tables import Tables

SEASON, PAPER_SEASON = 2019, 2021
#: Prior of a pitcher's strikeout rate: weights of the three seasons before and batters faced of league mean added to
#: them (weighted); the result counts as `PRIOR_BF` batters faced beside those of the season to date.
WEIGHTS, LEAGUE_BF, PRIOR_BF = (3, 2, 1), 300.0, 250.0
LAST = 10
#: Starts that last season's batters faced a start count as, beside the last ten.
PRIOR_STARTS = 10.0
#: Plate appearances of last season's mean that a team's strikeout rate to date is shrunken with.
TEAM_PA = 1000.0

TARGETS = ("K", "H", "BB", "uBB", "HR", "BF", "outs", "pitches")


def starts_table(tables: Tables | pl.DataFrame, season: int) -> pl.DataFrame:
    """Every regular-season start of `season`, in order of date and game.

    Args:
        tables: canonical tables, or their pitching games alone.

    Returns:
        game_id, season, date, player, team, opponent, home and `TARGETS`, counts of that start; uBB is without
        intentional walks (the walks of Heaton & Mitra 2023, to judge by their variance).
    """
    games = tables.pitching_games if isinstance(tables, Tables) else tables
    return _starts(games).filter(pl.col("season") == season)


def _starts(games: pl.DataFrame) -> pl.DataFrame:
    return (
        games.filter((pl.col("game_type") == "R") & (pl.col("GS") == 1))
        .select(
            "game_id",
            "season",
            "date",
            "player",
            "team",
            "opponent",
            "home",
            pl.col("SO").cast(pl.Int32).alias("K"),
            pl.col("H", "BB").cast(pl.Int32),
            (pl.col("BB") - pl.col("IBB").fill_null(0)).cast(pl.Int32).alias("uBB"),
            pl.col("HR", "BF", "outs", "pitches").cast(pl.Int32),
        )
        .sort("date", "game_id", "home")
    )


def to_date(lines: pl.DataFrame, key: str, sums: tuple[str, ...]) -> pl.DataFrame:
    """Per `key`, season and date: sums of `sums` over earlier days of the season, under the same names."""
    return (
        lines.group_by(key, "season", "date")
        .agg(pl.col(sums).cast(pl.Float64).sum())
        .sort(key, "date")
        .with_columns((pl.col(c).cum_sum() - pl.col(c)).over(key, "season") for c in sums)
    )


def last_mean(starts: pl.DataFrame, value: str, games: int = LAST) -> pl.DataFrame:
    """`starts` with `mean` and `n` of `value` over each pitcher's last `games` starts of earlier days, any season.

    The pitcher's starts are numbered by day, so that a second start of the same day does not see the first.
    """
    daily = starts.group_by("player", "date").agg(
        pl.col(value).cast(pl.Float64).sum().alias("sum"), pl.len().alias("m")
    )
    past = (
        daily.sort("player", "date")
        .with_columns(pl.col("sum", "m").cast(pl.Float64).shift(1).over("player").fill_null(0.0))
        .with_columns(pl.col("sum", "m").rolling_sum(games, min_samples=1).over("player"))
        .select("player", "date", pl.col("m").alias("n"), (pl.col("sum") / pl.col("m")).fill_nan(None).alias("mean"))
    )
    return starts.join(past, on=["player", "date"], how="left", maintain_order="left")


def features(games: pl.DataFrame, season: int) -> pl.DataFrame:
    """What the formula needs to know of each start of `season`, before it: one row a start, order of `starts_table`.

    Columns beside the start's own: `season_k` and `last_k` (mean strikeouts of the last ten starts, of the season and
    of any season; where there is none, the pitcher's or else the league's mean of last season), `rate` (K per BF,
    shrunken), `faced` (expected BF), `team_rate` (the opponent's K per PA, shrunken), `league` (K per BF last season).

    Args:
        games: canonical pitching games of `season` and up to three seasons before.
    """
    regular = games.filter((pl.col("game_type") == "R") & pl.col("season").is_between(season - 3, season))
    regular = regular.with_columns(pl.col("SO", "BF", "GS").cast(pl.Float64))
    now, before = (regular.filter(pl.col("season") == s) for s in (season, season - 1))
    if not now.height or not before.height:
        raise FullcountError(f"starts of {season}: game lines of {season - 1} and {season} are needed; ingest both")
    league = float(before.select(pl.col("SO").sum() / pl.col("BF").sum()).item())
    all_starts = _starts(regular)
    old = all_starts.filter(pl.col("season") == season - 1)
    usual_k, usual_bf = (float(old[c].mean()) for c in ("K", "BF"))  # type: ignore[arg-type]

    weight = pl.col("season").replace_strict({season - 1 - i: w for i, w in enumerate(WEIGHTS)}, default=0.0)
    prior = regular.group_by("player").agg(
        (weight * pl.col("SO")).sum().alias("prior_k"), (weight * pl.col("BF")).sum().alias("prior_bf")
    )
    per_start = old.group_by("player").agg(pl.col("BF").mean().alias("old_bf"), pl.col("K").mean().alias("old_k"))
    own = to_date(now, "player", ("SO", "BF")).rename({"SO": "so", "BF": "bf"}).drop("season")
    # A team's batting is what pitchers did against it.
    team = to_date(now, "opponent", ("SO", "BF")).rename({"SO": "team_k", "BF": "team_bf"}).drop("season")
    team_before = before.group_by("opponent").agg((pl.col("SO").sum() / pl.col("BF").sum()).alias("team_old"))

    frame = last_mean(all_starts, "K").rename({"mean": "last_k"}).drop("n")
    frame = last_mean(frame, "BF").rename({"mean": "last_bf", "n": "last_n"}).filter(pl.col("season") == season)
    frame = last_mean(frame, "K").rename({"mean": "season_k"}).drop("n")
    for part, on in ((prior, ["player"]), (per_start, ["player"]), (own, ["player", "date"])):
        frame = frame.join(part, on=on, how="left", maintain_order="left")
    frame = frame.join(team, on=["opponent", "date"], how="left", maintain_order="left")
    frame = frame.join(team_before, on="opponent", how="left", maintain_order="left")
    zero = ("prior_k", "prior_bf", "so", "bf", "team_k", "team_bf", "last_n")
    frame = frame.with_columns(
        pl.col(zero).fill_null(0.0),
        pl.coalesce("season_k", "old_k", pl.lit(usual_k)).alias("season_k"),
        pl.coalesce("last_k", "old_k", pl.lit(usual_k)).alias("last_k"),
        pl.col("last_bf").fill_null(0.0),
        pl.col("old_bf").fill_null(usual_bf),
        pl.col("team_old").fill_null(league),
        pl.lit(league).alias("league"),
    )
    marcel = (pl.col("prior_k") + LEAGUE_BF * league) / (pl.col("prior_bf") + LEAGUE_BF)
    return frame.with_columns(
        ((pl.col("so") + PRIOR_BF * marcel) / (pl.col("bf") + PRIOR_BF)).alias("rate"),
        (
            (pl.col("last_n") * pl.col("last_bf") + PRIOR_STARTS * pl.col("old_bf")) / (pl.col("last_n") + PRIOR_STARTS)
        ).alias("faced"),
        ((pl.col("team_k") + TEAM_PA * pl.col("team_old")) / (pl.col("team_bf") + TEAM_PA)).alias("team_rate"),
    )


def ten_line(known: pl.DataFrame, opponent: bool = True) -> Floats:
    """Expected strikeouts [n] of the starts of `features`: rate against this opponent times batters faced."""
    rate, league = known["rate"].to_numpy(), known["league"].to_numpy()
    if opponent:
        ratio = odds(rate) * odds(known["team_rate"].to_numpy()) / odds(league)
        rate = ratio / (1 + ratio)
    return np.asarray(rate * known["faced"].to_numpy())


def forecasts(games: pl.DataFrame, season: int) -> dict[str, Floats]:
    """All rivals' strikeouts for the starts of `season`, weakest first, in the order of `starts_table`."""
    known = features(games, season)
    return {
        "mean of last ten starts of the season": known["season_k"].to_numpy(),
        "mean of last ten starts": known["last_k"].to_numpy(),
        "ten lines, without opponent": ten_line(known, opponent=False),
        "ten lines": ten_line(known),
    }


def r2(predicted: Array, actual: Array, weights: Array | None = None) -> Array:
    """1 - squared error / squared deviation from the mean of `actual`: what a forecast explains, bias included."""
    w = np.ones(len(actual)) if weights is None else weights
    mean = (w @ actual / w.sum(axis=-1))[..., None]
    return np.asarray(1 - (w @ (predicted - actual) ** 2) / (w * (actual - mean) ** 2).sum(axis=-1))


def judge_games(
    predictions: Mapping[str, Floats], starts: pl.DataFrame, target: str = "K", draws: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """R², MAE, RMSE of forecasts [n] of a `target` of `starts`, one row each.

    `difference` is R² less that of the first forecast, `low` and `high` its 95 % interval: pitchers are drawn with all
    their starts, the same ones for both.
    """
    actual = starts[target].cast(pl.Float64).to_numpy()
    players = starts["player"].to_numpy()
    rows = []
    first: Floats | None = None
    for name, predicted in predictions.items():
        if len(predicted) != len(actual):
            raise FullcountError(f"{name}: {len(predicted)} forecasts for {len(actual)} starts; give one for each")
        row = {"system": name, "n": len(actual)}
        row |= {m: float(f(predicted, actual)) for m, f in (("r2", r2), ("mae", mae), ("rmse", rmse))}
        if first is None:
            first, row = predicted, row | {"difference": 0.0, "low": 0.0, "high": 0.0}
        else:
            found = paired_bootstrap(r2, [Paired(players, actual, first, predicted)], draws, seed)
            row |= {"difference": found.value, "low": found.low, "high": found.high}
        rows.append(row)
    return pl.DataFrame(rows)


def anchor(games: pl.DataFrame, season: int = SEASON) -> pl.DataFrame:
    """The published comparison: all starts of `season`."""
    return judge_games(forecasts(games, season), starts_table(games, season))


def moments(starts: pl.DataFrame) -> pl.DataFrame:
    """n, mean and variance of each target of a starts table."""
    rows = [
        {"target": t, "n": starts.height, "mean": starts[t].mean(), "variance": starts[t].var(ddof=0)} for t in TARGETS
    ]
    return pl.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------ command line


def read_seasons(data: Path, seasons: range) -> Tables:
    """Retrosheet seasons of the folder `data` (`retrosheet/YYYYeve.zip`, `register/people_mlb.csv.gz`)."""
    from fullcount.sources import register, retrosheet

    players = register.read([data / "register" / "people_mlb.csv.gz"]).players
    paths = [data / "retrosheet" / f"{s}eve.zip" for s in seasons]
    return Tables.concat(list(retrosheet.read(paths, players)))


def main(grain: str) -> None:
    """Print the tables of one grain: `python -m fullcount.evaluation.pitch_grain --data DIR`."""
    from fullcount.evaluation import pa_grain, pitch_grain

    parser = argparse.ArgumentParser(description=f"Trivial rivals of the {grain} grain on real seasons.")
    parser.add_argument("--data", type=Path, required=True, help="folder with retrosheet/ and register/")
    data = parser.parse_args().data
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=4):
        if grain == "pitch":
            pitches = read_seasons(data, range(SEASON, SEASON + 1)).pitches
            print("pitches thrown", pitch_grain.anchor(pitches), sep="\n")
            print("automatic calls counted too", pitch_grain.anchor(pitches, automatic=True), sep="\n")
        elif grain == "pa":
            print(pa_grain.anchor(read_seasons(data, range(SEASON - 3, SEASON + 1)).plate_appearances))
        else:
            games = read_seasons(data, range(SEASON - 3, PAPER_SEASON + 1)).pitching_games
            for season in (SEASON, PAPER_SEASON):
                print(f"{season}", moments(starts_table(games, season)), anchor(games, season), sep="\n")


if __name__ == "__main__":
    told(lambda: main("game"))
