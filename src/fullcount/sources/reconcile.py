"""Retrosheet's tables against official totals and against Lahman, season by season.

`python -m fullcount.sources.reconcile --data DIR` reads DIR/README.md (table of official totals), DIR/retrosheet,
DIR/lahman and DIR/register and writes docs/results/reconciliation.md.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fullcount.errors import FullcountError
from fullcount.sources import lahman, register, retrosheet
from fullcount.sources.seasons import season_lines
from fullcount.sources.tables import Tables

BATTING = ("PA", "HR", "SO", "BB", "H", "2B", "3B", "SB", "R", "RBI")
PITCHING = ("outs", "ER", "SO", "BB", "H", "HR")
TOTALS = ("games", "PA", "pitches", "unsequenced", "HR", "SO", "BB", "SB")

#: Share of player-seasons, all seasons together, that must be equal in every column, in batting and in pitching.
REQUIRED_SHARE = 0.995


@dataclass
class Comparison:
    """Player-seasons of two sources side by side.

    shares: season, kind ("batting" or "pitching"), players, equal, share. differences: season, kind, player, column,
    retrosheet, lahman, reason; a row a column that differs.
    """

    shares: pl.DataFrame
    differences: pl.DataFrame


def read_official(readme: Path) -> pl.DataFrame:
    """Official totals of the regular season from a Markdown table: season and TOTALS; SB null where not given."""
    text = readme.read_text(encoding="utf-8")
    rows = re.findall(r"^\|\s*(\d{4})\s*\|((?:\s*\d+\s*\|){7})\s*$", text, re.MULTILINE)
    if not rows:
        raise FullcountError(f"{readme}: has no table of official totals (| season | games | PA | pitches | ...).")
    numbers = [[int(year), *(int(n) for n in cells.split("|")[:7])] for year, cells in rows]
    table = pl.DataFrame(numbers, schema=["season", *TOTALS[:-1]], orient="row")
    said = re.search(r"League SB:([^.]*)\.", text)
    steals = re.findall(r"(\d{4}) ([\d,]+)", said[1]) if said else []
    sb = pl.DataFrame(
        {"season": [int(y) for y, _ in steals], "SB": [int(n.replace(",", "")) for _, n in steals]},
        schema={"season": pl.Int64, "SB": pl.Int64},
    )
    return table.join(sb, on="season", how="left", maintain_order="left")


def lahman_steals(folder: Path) -> pl.DataFrame:
    """Stolen bases of all teams of Lahman's Teams table: season, SB."""
    teams = register.read_csv(next(folder.glob("Teams.csv*")), ("yearID", "SB"))
    return teams.group_by(pl.col("yearID").cast(pl.Int64).alias("season")).agg(pl.col("SB").cast(pl.Int64).sum())


def official_totals(tables: Tables) -> pl.DataFrame:
    """The regular seasons' totals of `tables`: season and TOTALS, one row a season."""
    regular = pl.col("game_type") == "R"
    event = pl.col("event")
    games = tables.games.filter(regular).group_by("season").agg(pl.len().alias("games"))
    turns = (
        tables.plate_appearances.filter(regular & (event != "truncated_pa"))
        .group_by("season")
        .agg(
            pl.len().alias("PA"),
            pl.col("pitches").cast(pl.Int64).sum(),
            pl.col("pitches").null_count().alias("unsequenced"),
            (event == "home_run").sum().alias("HR"),
            event.is_in(["strikeout", "strikeout_double_play"]).sum().alias("SO"),
            event.is_in(["walk", "intent_walk"]).sum().alias("BB"),
        )
    )
    steals = tables.batting_games.filter(regular).group_by("season").agg(pl.col("SB").cast(pl.Int64).sum())
    both = games.join(turns, on="season").join(steals, on="season").sort("season")
    return both.select(pl.col("season", *TOTALS).cast(pl.Int64))


def compare_official(totals: pl.DataFrame, official: pl.DataFrame) -> pl.DataFrame:
    """Every total that is not the official one: season, column, ours, official. Empty: all equal."""
    ours, theirs = (
        f.unpivot(index="season", variable_name="column", value_name=n)
        for f, n in ((totals, "ours"), (official, "official"))
    )
    both = ours.join(theirs, on=["season", "column"], how="inner").drop_nulls("official")
    return both.filter(pl.col("ours") != pl.col("official")).sort("season", "column")


def compare_lahman(batting: pl.DataFrame, pitching: pl.DataFrame, theirs: Tables) -> Comparison:
    """Season lines (tables `batting_seasons`, `pitching_seasons`) against Lahman's (`lahman.read`, same seasons).

    PA is AB + BB + HBP + SH + SF in both, as Lahman has no catcher's interference. A player with nothing but zeros in
    one source may be missing in the other.
    """
    pa = pl.sum_horizontal("AB", "BB", "HBP", "SH", "SF").alias("PA")
    parts = [
        _compare("batting", batting.with_columns(pa), theirs.batting_seasons.with_columns(pa), BATTING),
        _compare("pitching", pitching, theirs.pitching_seasons, PITCHING),
    ]
    differences = pl.concat([p.differences for p in parts])
    return Comparison(pl.concat([p.shares for p in parts]), _reasons(differences))


def _compare(kind: str, ours: pl.DataFrame, theirs: pl.DataFrame, columns: Sequence[str]) -> Comparison:
    key = ["season", "player"]
    long = [
        f.filter(pl.col("league") == "MLB")
        .select(*key, pl.col(*columns).cast(pl.Int64))
        .unpivot(index=key, variable_name="column", value_name=n)
        for f, n in ((ours, "retrosheet"), (theirs, "lahman"))
    ]
    both = long[0].join(long[1], on=[*key, "column"], how="full", coalesce=True)
    both = both.filter(pl.col("season").is_in(ours["season"].unique().to_list()))
    differs = pl.col("retrosheet").fill_null(0) != pl.col("lahman").fill_null(0)
    shares = (
        both.group_by(key)
        .agg((~differs).all().alias("equal"))
        .group_by("season")
        .agg(pl.len().alias("players"), pl.col("equal").sum(), pl.col("equal").mean().alias("share"))
        .sort("season")
        .select("season", pl.lit(kind).alias("kind"), "players", "equal", "share")
    )
    differences = both.filter(differs).sort(*key, "column")
    shown = ("season", pl.lit(kind).alias("kind"), "player", "column", "retrosheet", "lahman")
    return Comparison(shares, differences.select(shown))


def _reasons(differences: pl.DataFrame) -> pl.DataFrame:
    """`differences` with the suspected reason of each, judged from the pattern of differences in its season."""
    gap = pl.col("retrosheet").fill_null(0) - pl.col("lahman").fill_null(0)
    moved = gap.sum().over("season", "kind", "column") == 0
    return differences.with_columns(
        pl.when(pl.col("lahman").is_null())
        .then(pl.lit("no such line in Lahman"))
        .when(pl.col("retrosheet").is_null())
        .then(pl.lit("no such line in Retrosheet"))
        .when(moved)
        .then(pl.lit("credited to another player (season total equal)"))
        .when(pl.col("column").is_in(["RBI", "ER", "R"]))
        .then(pl.lit("scorer's judgement: official total not derivable from the play"))
        .otherwise(pl.lit("official total differs from the play-by-play account"))
        .alias("reason")
    )


# ----------------------------------------------------------------------------------------------------------- report


def report(totals: pl.DataFrame, wrong: pl.DataFrame, compared: Comparison, names: pl.DataFrame) -> str:
    """The Markdown page. `names`: table `players`."""
    whole = compared.shares.group_by("kind", maintain_order=True).agg(pl.sum("players", "equal"))
    lines = [
        "# Reconciliation of the Retrosheet seasons",
        "",
        "Made by `python -m fullcount.sources.reconcile --data DIR`.",
        "",
        "The information used here was obtained free of charge from and is copyrighted by Retrosheet. Interested",
        'parties may contact Retrosheet at "www.retrosheet.org".',
        "",
        "## Official totals, regular season",
        "",
        f"{len(totals)} seasons; totals that differ from the official ones: {len(wrong)}. `unsequenced`: plate",
        "appearances without a pitch sequence. SB is compared with the official table, or Lahman's teams where it is",
        "silent.",
        "",
        *_table(totals),
        "",
    ]
    lines += ["Differences:", "", *_table(wrong), ""] if len(wrong) else []
    lines += ["## Player-seasons against Lahman", ""]
    lines += [
        f"- {r['kind']}: {r['equal']} of {r['players']} player-seasons equal in every column"
        f" ({r['equal'] / r['players']:.3%})"
        for r in whole.iter_rows(named=True)
    ]
    lines += ["", _below(compared.shares)]
    shares = compared.shares.pivot("kind", index="season", values=["players", "equal", "share"])
    shares = shares.with_columns(pl.col(c).mul(100).round(2) for c in shares.columns if c.startswith("share"))
    reasons = compared.differences.group_by("kind", "reason").len("values").sort("kind", "reason")
    ours, theirs = (pl.col(c).cast(pl.String).fill_null("-") for c in ("retrosheet", "lahman"))
    named = (
        compared.differences.join(names.select("player", "first_name", "last_name"), on="player", how="left")
        .with_columns(pl.concat_str("first_name", "last_name", separator=" ", ignore_nulls=True).alias("name"))
        .group_by("season", "kind", "player", "name", "reason")
        .agg(pl.format("{} {} / {}", "column", ours, theirs).sort().str.join(", ").alias("Retrosheet / Lahman"))
        .sort("season", "kind", "name", "player", "reason")
    )
    lines += [
        "",
        f"Compared: batting {', '.join(BATTING)} (PA without catcher's interference); pitching {', '.join(PITCHING)}.",
        "Shares in per cent.",
        "",
        *_table(shares),
        "",
        "Suspected reasons, by number of values:",
        "",
        *_table(reasons),
        "",
        "## The rest, player by player",
        "",
        *_table(named.select("season", "kind", "player", "name", "Retrosheet / Lahman", "reason")),
        "",
    ]
    return "\n".join(lines)


def _below(shares: pl.DataFrame) -> str:
    """Sentence that names the single seasons whose share is under the required one."""
    low = shares.filter(pl.col("share") < REQUIRED_SHARE).sort("season", "kind")
    few = [f"{r['season']} {r['kind']} ({r['players'] - r['equal']} players)" for r in low.iter_rows(named=True)]
    return f"Single seasons under {REQUIRED_SHARE:.1%}: {', '.join(few) or 'none'}."


def _table(frame: pl.DataFrame) -> list[str]:
    if frame.is_empty():
        return ["None."]
    rows = [frame.columns, ["---"] * frame.width, *frame.iter_rows()]
    return ["| " + " | ".join("" if v is None else str(v) for v in row) + " |" for row in rows]


def run(data: Path, seasons: Sequence[int] | None = None, jobs: int | None = None) -> tuple[str, bool]:
    """(page, whether all totals are equal and both shares are enough) of the seasons in `data`, all by default."""
    # "people_mlb" before "people_minors": the first row that knows a value wins.
    people = register.read(sorted((data / "register").glob("people_m*"), reverse=True))
    paths = sorted((data / "retrosheet").glob("[12]???eve.zip"))
    paths = [p for p in paths if seasons is None or int(p.name[:4]) in seasons]
    if not paths:
        raise FullcountError(f"{data / 'retrosheet'}: no YYYYeve.zip of those seasons; give the folder above it.")
    parts: list[pl.DataFrame] = []
    batting: list[pl.DataFrame] = []
    pitching: list[pl.DataFrame] = []
    for tables in retrosheet.read(paths, people.players, jobs):
        parts.append(official_totals(tables))
        lines = season_lines(tables.batting_games, tables.pitching_games, "MLB")
        batting.append(lines[0])
        pitching.append(lines[1])
    totals = pl.concat(parts)
    steals = lahman_steals(data / "lahman").rename({"SB": "teams_SB"})
    official = read_official(data / "README.md").join(steals, on="season", how="left")
    wrong = compare_official(totals, official.with_columns(SB=pl.coalesce("SB", "teams_SB")).drop("teams_SB"))
    theirs = lahman.read(data / "lahman", people.players, totals["season"].to_list())
    compared = compare_lahman(pl.concat(batting), pl.concat(pitching), theirs)
    page = report(totals, wrong, compared, people.players)
    pooled = compared.shares.group_by("kind").agg(pl.sum("equal") / pl.sum("players"))
    return page, wrong.is_empty() and bool((pooled["equal"] >= REQUIRED_SHARE).all())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when everything reconciles, 1 when not, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m fullcount.sources.reconcile", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with README.md, retrosheet, lahman, register")
    parser.add_argument("--out", type=Path, default=Path("docs/results/reconciliation.md"))
    parser.add_argument("--seasons", type=int, nargs="*", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, help="seasons at a time (default: one a core)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        page, good = run(options.data, options.seasons, options.jobs)
    except FullcountError as error:
        print(error)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")
    print(f"{options.out}: {'everything reconciles' if good else 'there are differences, see the page'}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
