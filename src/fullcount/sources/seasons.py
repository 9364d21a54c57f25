"""Season lines: the sum of the game tables, whatever source they came from."""

from __future__ import annotations

import polars as pl

from fullcount.sources.tables import BATTING_COUNTS, MINOR_LEAGUES, PITCHING_COUNTS, conform

_KEY = ["player", "season"]


def sums(columns: tuple[str, ...]) -> list[pl.Expr]:
    """Sums in which unknown games count nothing; null where no game is known."""
    return [pl.when(pl.col(c).count() > 0).then(pl.col(c).sum()).alias(c) for c in columns]


def _main_team(games: pl.DataFrame, weight: str) -> pl.DataFrame:
    """The team for which each player-season has most of `weight` (ties: the first in the alphabet)."""
    totals = games.group_by(*_KEY, "team").agg(pl.col(weight).sum())
    return (
        totals.sort([*_KEY, weight, "team"], descending=[False, False, True, False])
        .group_by(_KEY, maintain_order=True)
        .agg(pl.col("team").first())
    )


def main_league(leagues: pl.Series) -> str:
    """Of the leagues of many lines (or games) the one that is projected; "" where there are no lines.

    MLB where it is among them; else the one with most lines, a minor league only where there is no other.
    """
    counts = leagues.rename("league").value_counts().sort("count", "league", descending=[True, False])
    return min(counts["league"].to_list(), key=lambda name: (name != "MLB", name in MINOR_LEAGUES), default="")


def season_lines(
    batting_games: pl.DataFrame, pitching_games: pl.DataFrame, league: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Canonical `batting_seasons` and `pitching_seasons` of one league, regular season only.

    Args:
        batting_games, pitching_games: canonical game tables; games of other leagues and other game types are left out.
        league: the league's code, as in the game tables.

    Returns:
        (batting_seasons, pitching_seasons), sorted by season and player. Stints are added up; `team` is the one with
        most plate appearances (batters faced). `is_pitcher` is true where he pitched in more than half of his games.
    """
    regular = (pl.col("game_type") == "R") & (pl.col("league") == league)
    batting = batting_games.filter(regular).with_columns(G_P="is_pitcher")
    pitching = pitching_games.filter(regular)
    batting_seasons = (
        batting.group_by(_KEY)
        .agg(
            pl.len().alias("G"),
            (pl.col("is_pitcher").fill_null(False).mean() > 0.5).alias("is_pitcher"),
            *sums((*BATTING_COUNTS, "G_P")),
        )
        .join(_main_team(batting, "PA"), on=_KEY, how="left")
    )
    pitching_seasons = (
        pitching.group_by(_KEY)
        .agg(pl.len().alias("G"), *sums(("GS", *PITCHING_COUNTS)))
        .join(_main_team(pitching, "BF"), on=_KEY, how="left")
    )
    code = pl.lit(league).alias("league")
    return (
        conform(batting_seasons.with_columns(code).sort("season", "player"), "batting_seasons"),
        conform(pitching_seasons.with_columns(code).sort("season", "player"), "pitching_seasons"),
    )


def with_holds(lines: pl.DataFrame, pitching_games: pl.DataFrame) -> pl.DataFrame:
    """Canonical `pitching_seasons` with the holds of game lines where the source of `lines` has none, as Lahman has.

    0 for whoever is in no game of a season whose games tell; null where none tells.
    """
    key = [*_KEY, "league"]
    told = pitching_games.filter(pl.col("game_type") == "R").group_by(key).agg(*sums(("HLD",)))
    lines = lines.join(told, on=key, how="left", maintain_order="left", suffix=":games")
    none = pl.when(pl.col("HLD:games").is_not_null().any().over("season", "league")).then(0)
    return conform(lines.with_columns(pl.coalesce("HLD", "HLD:games", none).alias("HLD")), "pitching_seasons")
