"""Lines of every probable starter and hitter of the games of a day or a week, and lists sorted by them.

Of a past day the schedule is the store's: teams, parks and who started. Nothing else of that day, and nothing of later
ones, is read. A schedule of the future is a CSV.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from rich.progress import track

from fullcount.errors import FullcountError
from fullcount.priors import Priors
from fullcount.projection import match_ups, starts
from fullcount.projection.export import IDS, TEAMS, spelled
from fullcount.projection.playing_time import spelling
from fullcount.projection.starts import dispersion, expected, facts, over, played
from fullcount.projection.system import NAME
from fullcount.store import Store

log = logging.getLogger("fullcount")

#: Lines of P(SO > x).
OVER = tuple(x + 0.5 for x in range(3, 10))
#: What lists are sorted by: ESPN's standard points, less decisions and with doubles and triples as singles.
POINTS = {
    "pitchers": {"IP": 3, "SO": 1, "H": -1, "BB": -1, "ER": -2},
    "hitters": {"H": 1, "HR": 3, "R": 1, "RBI": 1, "BB": 1, "SB": 1, "SO": -1},
}
#: A hitter is listed who started this share of his team's games of late (half-life in days).
LISTED, OF_LATE = 0.3, 10.0
SCHEDULE = ("date", "home", "away", "park", "home_pitcher", "away_pitcher")


@dataclass(frozen=True)
class GameLines:
    """Lines of the games of one schedule, best points first; players and teams `spelled` as in a projection's file.

    Attributes:
        pitchers: date, Name, Team, opponent, home, park, IP, `starts.COUNTS`, `P(SO>3.5)` .. `P(SO>9.5)`, points, ids.
        hitters: the same keys and ids, the opposing starter (`against`, `against MLBAMID`; null if nobody knows),
            `GS%`, the share of his team's games that he started of late, and, given that he starts this one,
            `match_ups.COUNTS` and points.
    """

    pitchers: pl.DataFrame
    hitters: pl.DataFrame

    def two_starts(self) -> pl.DataFrame:
        """Pitchers with two starts or more: how many (`games`), against whom and when (`opponents`: "06-10 CHW, 06-15
        @TEX"), and the sums of their lines, best points first."""
        met = pl.format("{} {}{}", pl.col("date").dt.strftime("%m-%d"), pl.when("home").then(pl.lit("")).otherwise(
            pl.lit("@")), "opponent")  # fmt: skip
        by_player = self.pitchers.sort("date").group_by("Name", "Team", *IDS, maintain_order=True)
        table = by_player.agg(
            pl.len().alias("games"), met.str.join(", ").alias("opponents"), pl.col("IP", *starts.COUNTS, "points").sum()
        )
        table = table.filter(pl.col("games") > 1).sort("points", "MLBAMID", descending=[True, False])
        return table.select(pl.exclude(IDS), *IDS)


def game_lines(store: Store, schedule: pl.DataFrame, as_of: date) -> GameLines:
    """Lines of the games of `schedule` (columns `SCHEDULE`) from what was known on the morning of `as_of`.

    FullcountError for games before `as_of`, and where there is no play before to learn from.
    """
    priors = Priors(store)
    known = store.games.filter(
        (pl.col("game_type") == "R") & (pl.col("league") == priors.league_name) & (pl.col("date") < as_of)
    )
    if known.is_empty():
        raise FullcountError(f"the store has no games before {as_of} to learn from")
    if early := [str(d) for d in schedule["date"] if d < as_of]:
        raise FullcountError(f"a game of the schedule is on {early[0]}, before {as_of}")
    log.info("play up to %s is read", known["date"].max())
    # Where it plays most of its games, not where it played the last one: London, a field of dreams.
    parks = known.group_by("season", "park", home="home_team").len()
    newest = parks.sort("season", "len", "park").group_by("home").agg(usual=pl.col("park").last())
    schedule = schedule.join(newest, on="home", how="left", maintain_order="left")
    schedule = schedule.with_columns(
        park=pl.coalesce("park", "usual"), season=pl.col("date").dt.year().cast(pl.Int16), as_of=pl.lit(as_of)
    )
    sides = [
        schedule.select(
            "season", "date", "as_of", "park", team=side, opponent=other, home=pl.lit(side == "home"),
            player=f"{side}_pitcher", pitcher=f"{other}_pitcher",
        )
        for side, other in (("home", "away"), ("away", "home"))
    ]  # fmt: skip
    asked = pl.concat(sides).sort("date", "team")
    return GameLines(_pitchers(store, priors, asked), _hitters(store, priors, asked))


def _pitchers(store: Store, priors: Priors, asked: pl.DataFrame) -> pl.DataFrame:
    columns = ("IP", *starts.COUNTS, *(f"P(SO>{x})" for x in OVER))
    asked = asked.filter(pl.col("player").is_not_null()).select(starts.KEYS)
    if asked.is_empty():  # nobody is named yet
        nobody = asked.with_columns(pl.lit(None, pl.Float64).alias(c) for c in columns)
        return _listed(store, nobody, "pitchers", columns)
    season = int(asked["season"].min())  # type: ignore[arg-type]
    past = played(store, priors.league_name).filter(
        pl.col("season").is_between(season - 1 - starts.SEASONS, season - 1)
    )
    if past.is_empty():
        raise FullcountError(f"the store has no starts before {season} to learn from")
    known = facts(store, priors, pl.concat([past, asked], how="diagonal"))
    past, now = known.head(past.height), known.tail(asked.height)
    counts = track(starts.COUNTS, description="starters", transient=True)
    line = asked.with_columns([pl.Series(c, expected(past, now, c), pl.Float64) for c in counts])
    last = past.filter(pl.col("season") == past["season"].max())
    spread = dispersion(expected(past, last, "SO"), last["SO"].to_numpy())
    so = line["SO"].to_numpy()
    line = line.with_columns(
        (pl.col("outs") / 3).alias("IP"), *(pl.Series(f"P(SO>{x})", over(so, x, spread)) for x in OVER)
    )
    return _listed(store, line, "pitchers", columns)


def _hitters(store: Store, priors: Priors, asked: pl.DataFrame) -> pl.DataFrame:
    lines = starts.regular(store, "batting_games", priors.league_name).filter(pl.col("date") < asked["as_of"].min())
    newest = lines.sort("date", "game_id").group_by("player", maintain_order=True).agg(
        pl.col("team").last(), pitcher=pl.col("is_pitcher").fill_null(False).mean() > 0.5
    )  # fmt: skip
    who = newest.filter(~pl.col("pitcher")).drop("pitcher").join(asked, on="team").sort("date", "team", "player")
    began = lines.filter("starter").with_columns(n=1.0)
    own = starts.decayed(began, who, ["player"], ["n"], OF_LATE)["n"]  # for whatever team
    games = starts.decayed(began.unique(["game_id", "team"]), who, ["team"], ["n"], OF_LATE)["n"]
    who = who.with_columns((pl.Series(own) / pl.Series(games)).clip(upper_bound=1.0).alias("GS%"))
    who = who.filter(pl.col("GS%") >= LISTED)
    line = match_ups.hitters(store, priors, who.select(*match_ups.KEYS, "GS%"))
    names = store.table("players").select(pitcher="player", against=NAME)
    line = line.join(names, on="pitcher", how="left").rename({"pitcher": "against MLBAMID"})
    return _listed(store, line, "hitters", ("against", "against MLBAMID", "GS%", *match_ups.COUNTS))


def _listed(store: Store, line: pl.DataFrame, role: str, columns: tuple[str, ...]) -> pl.DataFrame:
    points = pl.sum_horizontal(pl.col(c) * w for c, w in POINTS[role].items())
    players = store.table("players")
    table = line.with_columns(points=points).join(players.select("player", NAME), on="player", how="left")
    table = table.sort("points", "date", "player", descending=[True, False, False])
    keys = ("date", "player", "Name", pl.col("team").alias("Team"), "opponent", "home", "park")
    return spelled(table.select(*keys, *columns, "points"), players)


def store_schedule(store: Store, first: date, days: int = 1) -> pl.DataFrame:
    """The games that the store has from `first` on, as a schedule. FullcountError if there are none."""
    league = Priors(store).league_name
    games = store.games.filter(
        (pl.col("game_type") == "R") & (pl.col("league") == league),
        pl.col("date").is_between(first, first + timedelta(days - 1)),
    )
    if games.is_empty():
        raise FullcountError(
            f"the store has no regular-season games of {league} {_from(first, days)}: give a --schedule of coming ones"
        )
    games = games.sort("date", "game_id").rename(
        {"home_team": "home", "away_team": "away", "home_starter": "home_pitcher", "away_starter": "away_pitcher"}
    )
    return games.select(SCHEDULE)


def read_schedule(path: Path, store: Store, first: date, days: int = 1) -> pl.DataFrame:
    """The games of a CSV from `first` on: date, home, away, and optionally park, home_pitcher and away_pitcher.

    Teams in FanGraphs' codes or Retrosheet's. Pitchers by MLBAM id or name, accents and capitals as you like, empty
    where nobody is named yet; the park is the home team's unless it says another.
    """
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FullcountError(f"{path}: not a readable CSV file ({error})") from None
    missing = [c for c in ("date", "home", "away") if c not in table.columns]
    if missing:
        raise FullcountError(f"{path}: no column {', '.join(missing)}")
    table = table.with_columns(pl.lit(None, pl.String).alias(c) for c in SCHEDULE if c not in table.columns)
    table = table.with_columns(date=pl.col("date").str.to_date(strict=False))
    if table["date"].null_count() or table["home"].null_count() or table["away"].null_count():
        raise FullcountError(f"{path}: every game needs a date (YYYY-MM-DD), a home and an away team")
    table = table.filter(pl.col("date").is_between(first, first + timedelta(days - 1)))
    if table.is_empty():
        raise FullcountError(f"{path}: no games {_from(first, days)}")
    table = table.with_columns(pl.col("home", "away").str.strip_chars().replace({ours: c for c, ours in TEAMS.items()}))
    games = store.games.filter(pl.col("game_type") == "R")
    _known(path, "team", pl.concat([table["home"], table["away"]]).replace(TEAMS), games["home_team"].replace(TEAMS))
    _known(path, "park", table["park"], games["park"])
    ids = _ids(store)
    pitchers = {
        side: pl.Series([_pitcher(v, ids, path) for v in table[side]], dtype=pl.Int32)
        for side in ("home_pitcher", "away_pitcher")
    }
    return table.with_columns(**pitchers).select(SCHEDULE)


def _from(first: date, days: int) -> str:
    return f"on {first}" if days == 1 else f"from {first} to {first + timedelta(days - 1)}"


def _ids(store: Store) -> dict[str, dict[int, int]]:
    """Those who have pitched and their last seasons, by id as text and by name (see `spelling`)."""
    seasons = store.table("pitching_games").group_by("player").agg(pl.col("season").max())
    called = spelling(NAME)
    pitched = store.table("players").join(seasons, on="player").select("player", "season", called.alias("name"))
    found: dict[str, dict[int, int]] = {}
    for player, season, name in pitched.sort("player").iter_rows():
        for key in (str(player), name):
            found.setdefault(key, {})[player] = season
    return found


def _pitcher(text: str | None, ids: dict[str, dict[int, int]], path: Path) -> int | None:
    if text is None or not text.strip():
        return None
    found = ids.get(pl.select(spelling(pl.lit(text))).item(), {})
    if not found:
        raise FullcountError(f"{path}: pitcher {text.strip()!r}: no such pitcher in the store")
    if len(found) > 1:
        who = ", ".join(f"{player} (until {season})" for player, season in found.items())
        raise FullcountError(f"{path}: {len(found)} pitchers are called {text.strip()!r}: give the id of one of {who}")
    return next(iter(found))


def _known(path: Path, what: str, given: pl.Series, known: pl.Series) -> None:
    names = known.drop_nulls().unique().sort().to_list()
    for value in given.drop_nulls().unique().sort().to_list():
        if value not in names:
            raise FullcountError(f"{path}: no {what} {value!r}; the store knows {', '.join(names)}")
