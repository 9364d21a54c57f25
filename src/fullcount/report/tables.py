"""A backtest as a table people know: .633, 7.77, +.043 [.024, .064]. On the terminal, in Markdown, on a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import BacktestResult
from fullcount.evaluation.metrics import CATEGORIES
from fullcount.projection.system import COUNTS, PERCENTILE, Role

#: Statistics shown unless others are asked for.
HEADLINES: dict[Role, tuple[str, ...]] = {
    "hitters": ("wOBA", "HR", "K%", "BB%"),
    "pitchers": ("ERA", "WHIP", "K%", "BB%"),
}
DASH = "–"
_COUNTS = {c for counts in COUNTS.values() for c in counts}
_TWO_DIGITS = {"ERA", "WHIP", "FIP", "K/9", "BB/9", "HR/9", "K/BB", "BB/K"}
_THREE_DIGITS = {"AVG", "OBP", "SLG", "OPS", "ISO", "BABIP", "wOBA"}
_DIGITS = {"r": 3, "rho": 3, "ceiling": 3, "sd ratio": 2}
_METRIC = re.compile(r"^(?P<stat>\S+) (?P<metric>r|rho|rmse|sd ratio|ceiling|n)$")


def summary(
    result: BacktestResult, cohort: str = "A", role: Role = "hitters", stats: Sequence[str] | None = None
) -> pl.DataFrame:
    """One row a system, mean over seasons: `system`, `n`, then a statistic's `r`, `rmse`, `sd ratio` and `Δr`.

    Columns are called "HR r" and so on; rho3 and rho5 have `rho` alone. `Δr` (`Δrho`) is text, the paired difference
    from the first system with its 95 % interval, and there only if the backtest made intervals. `n` is the number of
    player-seasons; a statistic judged on fewer has an `n` of its own. `stats`: HEADLINES of the role unless given.
    FullcountError when the result has nothing of the role, cohort or statistics.
    """
    rows = chosen(result, role, cohort, stats)
    differences = {
        (r["stat"], r["system"]): difference(r["difference"], r["difference_low"], r["difference_high"])
        for r in result.intervals.filter(pl.col("metric") != "rmse").iter_rows(named=True)
        if (r["role"], r["cohort"], r["system"] != r["reference"]) == (role, cohort, True)
    }
    most = {str(s): int(n) for s, n in rows.group_by("system").agg(pl.col("n").max()).iter_rows()}
    table: dict[str, dict[str, Any]] = {
        s: {"system": s, "n": most[s]} for s in rows["system"].unique(maintain_order=True)
    }
    for (stat,), part in rows.group_by("stat", maintain_order=True):
        fewer = any(most[row["system"]] != row["n"] for row in part.iter_rows(named=True))
        r = "rho" if stat in CATEGORIES else "r"
        for row in part.iter_rows(named=True):
            cells = {"n": row["n"]} if fewer else {}
            cells[r] = row["r"]
            if stat not in CATEGORIES:
                cells |= {"rmse": row["rmse"], "sd ratio": row["sd_ratio"]}
            if differences:
                cells[f"Δ{r}"] = differences.get((stat, row["system"]))
            table[row["system"]] |= {f"{stat} {c}": v for c, v in cells.items()}
    columns = dict.fromkeys(c for row in table.values() for c in row)
    return pl.DataFrame([{c: row.get(c) for c in columns} for row in table.values()], infer_schema_length=None)


def chosen(result: BacktestResult, role: Role, cohort: str, stats: Sequence[str] | None) -> pl.DataFrame:
    """Rows of `result.mean` in the order of `stats`; `r` of rho3 and rho5 is their rank correlation.

    Without `stats` the HEADLINES the result has, or, if it has none of them, all it has.
    """
    rows = result.mean.filter(pl.col("role") == role, pl.col("cohort") == cohort)
    if rows.is_empty():
        raise FullcountError(f"the backtest judged no {role} of cohort {cohort!r}, so there is nothing to report")
    judged = rows["stat"].unique(maintain_order=True).to_list()
    if stats is None:
        stats = [s for s in HEADLINES[role] if s in judged] or judged
    if missing := [s for s in stats if s not in judged]:
        raise FullcountError(f"the backtest did not judge {', '.join(missing)} of {role}; it has {', '.join(judged)}")
    r = pl.when(pl.col("stat").is_in(list(CATEGORIES))).then("spearman").otherwise("r").alias("r")
    return pl.concat([rows.filter(pl.col("stat") == s).with_columns(r) for s in dict.fromkeys(stats)])


def difference(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str | None:
    """A difference and its interval, `+.043 [.024, .064]`; None for no value."""
    if value is None:
        return None
    written = number(value, digits)
    sign = "" if written.startswith("-") else "+"
    if low is None or high is None:
        return sign + written
    return f"{sign}{written} [{number(low, digits)}, {number(high, digits)}]"


def number(value: float, digits: int) -> str:
    """`value` as the field writes it: .633, -.012, 1.000; no minus before a zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def cell(column: str, value: object) -> str:
    """A value as text, by what its column is: r .633, RMSE 7.77 or .0316, AVG .283, ERA 3.71, K% 22.4%, HR 24.6."""
    if value is None or value != value:
        return DASH
    if not isinstance(value, float):
        return str(value)
    if found := _METRIC.match(column):
        stat, metric = found["stat"], found["metric"]
        if metric != "rmse":
            return number(value, _DIGITS.get(metric, 3))
        if stat in _COUNTS | _TWO_DIGITS:
            return number(value, 3 if value < 1 else 2 if value < 100 else 0)
        return number(value, 4)
    percentile = PERCENTILE.match(column)
    stat = percentile["stat"] if percentile else column
    if stat in _COUNTS:
        return f"{value:.1f}"
    if stat.endswith("%"):
        return f"{100 * value:.1f}%"
    if stat in _TWO_DIGITS:
        return f"{value:.2f}"
    return number(value, 3 if stat in _THREE_DIGITS or abs(value) < 1 else 2)


def markdown(frame: pl.DataFrame) -> str:
    """A Markdown table, columns padded to one width, numbers to the right."""
    right = [_is_number(frame[c]) for c in frame.columns]
    lines = [[_plain(c) for c in frame.columns], *([_plain(v) for v in row] for row in _texts(frame))]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(frame.width)]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    padded = [[t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]]) + "\n"


def show(frame: pl.DataFrame, console: Console, title: str | None = None) -> None:
    """The table on a terminal; one too wide goes on below, under its first column."""
    rows = _texts(frame)
    widths = [3 + max(map(len, column)) for column in zip(frame.columns, *rows, strict=True)]
    parts, room = [[0]], console.width - 1
    for i in range(1, frame.width):
        if len(parts[-1]) > 1 and sum(widths[j] for j in parts[-1]) + widths[i] > room:
            parts.append([0])
        parts[-1].append(i)
    for part in parts:
        table = Table(title=Text(title) if title else None)
        for i in part:
            right = _is_number(frame[frame.columns[i]])
            table.add_column(Text(frame.columns[i]), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[i]) for i in part))
        console.print(table)
        title = None


def _texts(frame: pl.DataFrame) -> list[list[str]]:
    return [[cell(c, v) for c, v in zip(frame.columns, row, strict=True)] for row in frame.iter_rows()]


def _is_number(series: pl.Series) -> bool:
    return series.dtype.is_numeric()


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
