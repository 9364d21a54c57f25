"""Playing time for its own sake: whether a man plays at all, how much if he does, and what any system says in it.

Trees on the facts of `facts.facts`, on positions and on the course of the last season, refitted for every season on
earlier ones. Rates and playing time are different questions: a system with `+pt` behind its name keeps its rates and
takes its plate appearances and innings from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from fullcount.errors import FullcountError
from fullcount.projection.boosted import LEAST_ROWS, boost
from fullcount.projection.facts import LAGS, base, examples, facts
from fullcount.projection.kept import by_role, kept
from fullcount.projection.system import (
    COUNTS,
    EXPOSURE,
    PERCENTILE,
    ROLES,
    League,
    Projection,
    Role,
    System,
    rates,
    target_season,
)
from fullcount.sources.tables import POSITIONS

#: `playing`: expected if he plays at all; `lasting`: if he gets 200 PA or 50 innings, what tables of cohort A judge.
Given = Literal["playing", "lasting"]
_LASTING: dict[Role, float] = {"hitters": 200.0, "pitchers": 50.0}
#: How good he is in one number, who is better than others is given more to do.
_QUALITY: dict[Role, str] = {"hitters": "wOBA", "pitchers": "K-BB%"}
#: Of pitchers: position players, who in three seasons pitched in few of their games, and fewer than twenty innings
#: of seasons of full length (Ohtani pitched more).
_STAND_IN = ((pl.col("at:P") < 0.25) & (pl.sum_horizontal(f"outs:{k}" for k in LAGS) < 60)).fill_null(False)


@dataclass(frozen=True, eq=False)
class PlayingTime:
    """Expected plate appearances and innings.

    Args:
        given: on what they are conditioned.
        overrides: a CSV of what the user knows better of the season asked for, with a column `MLBAMID` (or `player`)
            or `Name`, and PA or IP or both; an empty cell leaves that one alone.
        games: canonical batting_games and pitching_games, to read starts, places in the order and gaps (see `course`).
        first: the earliest season learned from.
    """

    given: Given = "playing"
    overrides: Path | None = None
    games: tuple[pl.DataFrame, pl.DataFrame] | None = None
    first: int = 2001

    def table(self, role: Role, season: int, league: League) -> pl.DataFrame:
        """player, `plays` (probability of a plate appearance or an out), PA or IP of a whole season, G, a pitcher's GS.

        Everyone Marcel projects, by player; without G and GS where there is too little to learn from.
        """
        return kept(_expected, league, self, role, season)


def _expected(league: League, time: PlayingTime, role: Role, season: int) -> pl.DataFrame:
    past, now, n = examples(league, role, time.first, season), facts(league, role, season), EXPOSURE[role]
    read = [kept(_read, league, time, role, s) for s in [*past["season"].unique().sort(), season]]
    past = past.join(pl.concat(read), on=["player", "season"], how="left", maintain_order="left")
    now = now.join(read[-1].drop("season"), on="player", how="left", maintain_order="left")
    plays = (past[f"y:{n}"] > 0).cast(pl.Float64)
    usual = float(plays.mean() or 0.0)  # type: ignore[arg-type]
    chance = (usual + boost(past, now, {"plays": plays - usual})["plays"]).clip(0, 1)
    whole = past.filter(pl.col(f"y:{n}") > 0).with_columns(pl.col("^y:.*$") * pl.col("length"))
    if role == "pitchers":
        stand_ins, whole = whole.filter(_STAND_IN), whole.filter(~_STAND_IN)
    whole = whole.filter(pl.col(f"y:{n}") >= _LASTING[role]) if time.given == "lasting" else whole
    beside = {c: whole[f"y:{c}"] for c in (("G", "GS") if role == "pitchers" else ("G",))}
    said = boost(whole, now, {n: whole[f"y:{n}"] - whole[n], **beside})
    expected = np.maximum(now[n].to_numpy() + said[n], 1.0)
    table = now.select("player", pl.Series("plays", chance), pl.Series(n, expected))
    if whole.height >= LEAST_ROWS:
        games = np.maximum(said["G"], 1.0)
        table = table.with_columns(pl.Series(c, np.clip(said[c], 0.0, games)) for c in beside)
    if role == "pitchers":  # so few that trees learn nothing of them: what those had who pitched again
        had = {c: stand_ins[f"y:{c}"].mean() or 1.0 for c in ("IP", "G")} | {"GS": 0.0}
        one = now.select(_STAND_IN).to_series()
        table = table.with_columns(pl.when(one).then(had[c]).otherwise(c).alias(c) for c in had if c in table.columns)
    return table


def _read(league: League, time: PlayingTime, role: Role, season: int) -> pl.DataFrame:
    """What is read beside `facts`: `standing`, and `course` where there are games."""
    table = standing(league, role, season)
    if time.games is None:
        return table
    own = (pl.col("season") == season - 1) & (pl.col("game_type") == "R") & (pl.col("league") == league.name)
    played = course(time.games[ROLES.index(role)].filter(own), role)
    return table.join(played, on="player", how="left", maintain_order="left")


def standing(league: League, role: Role, season: int) -> pl.DataFrame:
    """Positions and quality before `season` of everyone Marcel projects for it, a row a player.

    player, season; `quality`: Marcel's wOBA (pitchers: strikeout less walk rate) less the mean of all in his playing
    time; `at:C`, ... (hitters) and `at:P`: shares of his games of the last three seasons, null where not known.
    """
    stat, n = pl.col(_QUALITY[role]), pl.col(EXPOSURE[role])
    known = league.before(date(season, 3, 1)).batting_seasons
    own = known.filter(pl.col("league") == league.name, pl.col("season") >= season - len(LAGS))
    shares = own.group_by("player").agg(
        (pl.col(c).sum() / pl.col("G").filter(pl.col(c).is_not_null()).sum()).fill_nan(None).alias(f"at:{c[2:]}")
        for c in (POSITIONS if role == "hitters" else ("G_P",))
    )
    table = rates(base(league, season).role(role), role)
    table = table.select("player", season=pl.lit(season), quality=stat - (stat * n).sum() / n.sum())
    return table.join(shares, on="player", how="left", maintain_order="left")


def course(games: pl.DataFrame, role: Role) -> pl.DataFrame:
    """How a season's game lines went, a row a player: injuries show as gaps, a new regular in the last weeks.

    player; `started` (share of games) and `slot` (mean place in the order, hitters), both also of the last 45 days
    (`late:`), `late:n` PA or BF then; days before the first game (`before`), after the last (`after`), longest `gap`.
    """
    day = pl.col("date")
    first, last = games["date"].min(), games["date"].max()
    late = day > pl.lit(last, pl.Date) - pl.duration(days=45)
    started = pl.col("starter" if role == "hitters" else "GS").cast(pl.Float64)
    shown = {"started": started} | ({"slot": pl.col("lineup_slot").cast(pl.Float64)} if role == "hitters" else {})
    days = {
        "before": day.min() - pl.lit(first, pl.Date),
        "after": pl.lit(last, pl.Date) - day.max(),
        "gap": day.diff().max(),
    }
    return (
        games.sort("player", "date", "game_id")
        .group_by("player", maintain_order=True)
        .agg(
            *(e.mean().alias(c) for c, e in shown.items()),
            *(e.filter(late).mean().alias(f"late:{c}") for c, e in shown.items()),
            pl.col("PA" if role == "hitters" else "BF").filter(late).sum().cast(pl.Float64).alias("late:n"),
            *(e.dt.total_days().cast(pl.Float64).alias(c) for c, e in days.items()),
        )
    )


@dataclass(frozen=True)
class InPlayingTime:
    """The rates of `system` in the playing time of `time`. Column `plays`: the probability that he plays at all.

    Whom `time` does not know (who never played in the league) keeps the system's playing time; an override counts
    for everybody.
    """

    system: System
    time: PlayingTime = field(default_factory=PlayingTime)

    @property
    def name(self) -> str:
        """The system's, with `+pt` or `+lasting`."""
        return f"{self.system.name}+{'pt' if self.time.given == 'playing' else 'lasting'}"

    def project(self, as_of: date, league: League) -> Projection:
        """The system's projection rescaled. FullcountError for overrides of players it does not project."""
        said, season = self.system.project(as_of, league), target_season(as_of)

        def timed(role: Role) -> pl.DataFrame:
            time = self.time.table(role, season, league)
            if self.time.overrides is not None:
                time = _overridden(time, read_overrides(self.time.overrides, role, said), role)
            return rescaled(said.role(role), time, role)

        return Projection.of(season, *by_role(timed))


def without_overrides(system: System) -> System:
    """`system` as it is for any season: what a user knows of the coming one says nothing of earlier ones."""
    changed: dict[str, object] = {}
    inner: System | None = getattr(system, "system", None)
    if inner is not None and (plain := without_overrides(inner)) is not inner:
        changed["system"] = plain
    members: list[System] = list(getattr(system, "systems", ()))
    plain_ones = [without_overrides(s) for s in members]
    if any(a is not b for a, b in zip(plain_ones, members, strict=True)):
        changed["systems"] = plain_ones
    if isinstance(system, InPlayingTime) and system.time.overrides is not None:
        changed["time"] = replace(system.time, overrides=None)
    return replace(system, **changed) if changed else system  # type: ignore[type-var]


def rescaled(table: pl.DataFrame, time: pl.DataFrame, role: Role) -> pl.DataFrame:
    """A Projection's table with its counts, and their percentiles, in the PA or IP (and G, GS) of `time`."""
    n = EXPOSURE[role]
    own = [c for c in ("G", "GS") if c in time.columns]
    time = time.rename({c: f"new:{c}" for c in (n, *own)})
    scale = pl.when(pl.col(n) > 0).then(pl.coalesce(f"new:{n}", n) / pl.col(n)).otherwise(1.0)
    counts = [c for c in table.columns if PERCENTILE.sub(r"\g<stat>", c) in COUNTS[role]]
    table = table.join(time, on="player", how="left", maintain_order="left")
    table = table.with_columns(pl.col(c) * scale for c in counts)
    said = {c: [x for x in (f"new:{c}", c) if x in table.columns] for c in own}  # only here have hitters games
    return table.with_columns(pl.coalesce(x).alias(c) for c, x in said.items()).drop(f"new:{c}" for c in (n, *own))


def _overridden(time: pl.DataFrame, given: pl.DataFrame, role: Role) -> pl.DataFrame:
    """`time` with the user's PA or IP; games in proportion."""
    n = EXPOSURE[role]
    both = time.join(given.rename({n: "given"}), on="player", how="full", coalesce=True).sort("player")
    scale = pl.when(pl.col(n) > 0).then(pl.coalesce("given", n) / pl.col(n)).otherwise(1.0)
    both = both.with_columns(pl.col(c) * scale for c in ("G", "GS") if c in time.columns)
    plays = pl.when(pl.col("given").is_null()).then(pl.col("plays")).otherwise((pl.col("given") > 0).cast(pl.Float64))
    return both.with_columns(pl.coalesce("given", n).alias(n), plays.alias("plays")).drop("given")


def read_overrides(path: Path, role: Role, said: Projection) -> pl.DataFrame:
    """`player` and PA or IP of a CSV of overrides (see PlayingTime), those of `role`.

    Raises:
        FullcountError: no such file, a column missing, no number, a player listed twice, whom `said` does not project
            in that role or whose name several have.
    """
    try:
        raw = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FullcountError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]})") from error
    n = EXPOSURE[role]
    key = next((c for c in (*_IDS, "Name") if c in raw.columns), None)
    if key is None or not {"PA", "IP"} & set(raw.columns):
        raise FullcountError(
            f"{path}: columns MLBAMID or Name, and PA or IP, are needed; it has {', '.join(raw.columns)}"
        )
    if n not in raw.columns:
        return pl.DataFrame(schema={"player": pl.Int32, n: pl.Float64})
    raw = raw.select(key=pl.col(key).str.strip_chars().fill_null(""), n=pl.col(n).str.strip_chars().fill_null(""))
    own = "player" if key in _IDS else key
    players = said.role(role).select("player", key=spelling(pl.col(own).cast(pl.String)))
    rows = []
    for i, (who, text) in enumerate(raw.iter_rows()):
        if not text:
            continue
        found = players.filter(pl.col("key") == pl.select(spelling(pl.lit(who))).item())["player"].to_list()
        if len(found) != 1:
            problem = f"is none of the {role} that are projected" if not found else "is several: give column MLBAMID"
            raise FullcountError(f"{path}: row {i + 2}: {key} {who!r} {problem}")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1000:
            raise FullcountError(f"{path}: row {i + 2}, column {n}: {text!r} is no number from 0 to 999")
        rows.append((found[0], value))
    table = pl.DataFrame(rows, schema={"player": pl.Int32, n: pl.Float64}, orient="row")
    if table["player"].n_unique() < table.height:
        raise FullcountError(f"{path}: a player is listed twice")
    return table


#: Columns of an MLBAM id; the second is that of exported projections.
_IDS = ("player", "MLBAMID")


def spelling(name: pl.Expr) -> pl.Expr:
    """Without accents, capitals, dots, a blank between initials, and Jr. or II: sources differ in these."""
    plain = name.str.normalize("NFKD").str.replace_all(r"[^\x00-\x7F]|\.", "").str.to_lowercase().str.strip_chars()
    return plain.str.replace(r"^(\w) (\w) ", "$1$2 ").str.replace(r" (jr|sr|ii|iii|iv)$", "")
