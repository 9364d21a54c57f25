"""A study on disk: all results as JSON, one table with intervals as CSV and Markdown, figures as PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl
from rich.console import Console

from fullcount.evaluation.study import StudyResult, Trial, costs, summary
from fullcount.report.figures import arms, curves
from fullcount.report.tables import difference, markdown, number, show


def write_study(result: StudyResult, out: Path, console: Console | None = None) -> list[Path]:
    """Write `results.json`, `table.csv`, `table.md`, a figure a measure and budget, and curves where an arm had
    several budgets.

    The JSON and the CSV have every figure; the page and the graphs those the study shows. Where no run has ended there
    is the JSON alone.

    Args:
        console: also print the table there.
    """
    config = result.config
    whole = {
        "study": config.name,
        "configuration": config.model_dump(mode="json"),
        "plan": costs(result.plan).to_dicts(),
        "failures": dict(result.failures),
        "rows": result.rows.to_dicts(),
    }
    written = [out / "results.json"]
    out.mkdir(parents=True, exist_ok=True)
    written[0].write_text(json.dumps(whole, indent=1))
    if result.rows.is_empty():
        return written
    table = summary(result)
    written.append(out / "table.csv")
    table.write_csv(written[-1])
    wanted = [w for w in table["what"].unique(maintain_order=True) if any(fnmatchcase(w, s) for s in config.show)]
    shown = table.filter(pl.col("what").is_in(wanted))
    reference = next(iter(config.arms))
    text = [f"# {config.name}\n\nMeans over seeds with 95 % t-intervals; differences from {reference!r} pair seeds."]
    text.append(f"A run costs:\n\n{markdown(_spent(table))}")
    for (budget, share), part in shown.group_by("budget", "share", maintain_order=True):
        heading = f"{share:g} of the budget of {budget}" if len(config.budget.shares) > 1 else f"Equal {budget}"
        lines = _readable(part, reference)
        text.append(f"## {heading}\n\n{markdown(lines)}")
        if console is not None:
            show(lines, console, heading)
    text += [f"Failed: {run}: {sentence}\n" for run, sentence in result.failures.items()]
    written.append(out / "table.md")
    written[-1].write_text("\n\n".join(text))
    largest = shown.filter(pl.col("share") == max(config.budget.shares))
    for (measure, budget), part in largest.group_by("measure", "budget", maintain_order=True):
        written.append(out / f"{measure}-{budget}.png")
        arms(part).savefig(written[-1])
    if table.group_by("arm").agg(pl.col("steps").n_unique())["steps"].max() != 1:
        for (measure,), part in shown.group_by("measure", maintain_order=True):
            written.append(out / f"{measure}-curve.png")
            curves(part).savefig(written[-1])
    return written


def planned(trials: Sequence[Trial]) -> pl.DataFrame:
    """The matrix of a study to read: what a run of each arm is planned to cost under each budget."""
    return _costs(costs(trials))


def _spent(table: pl.DataFrame) -> pl.DataFrame:
    """What runs have cost, mean over seeds."""
    return _costs(table.unique(["budget", "share", "arm"], keep="first", maintain_order=True))


def _costs(table: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers as 1,234, operations as 1.23e+12."""
    return pl.DataFrame(
        [
            {
                "arm": row["arm"],
                "budget": row["budget"] if row["share"] == 1 else f"{row['share']:g} {row['budget']}",
                "steps": f"{row['steps']:,.0f}",
                "tokens": f"{row['tokens']:,.0f}",
                "flops": None if row["flops"] is None else f"{row['flops']:.3e}",
                "flops/token": f"{row['flops'] / row['tokens']:.3e}" if row["flops"] and row["tokens"] else None,
                "seconds": f"{row['seconds']:,.0f}",
            }
            for row in table.iter_rows(named=True)
        ]
    )


def _readable(part: pl.DataFrame, reference: str) -> pl.DataFrame:
    table = pl.DataFrame(
        [
            {
                "figure": row["what"],
                "arm": row["arm"],
                "seeds": row["seeds"],
                "mean": _between(row["mean"], row["low"], row["high"]),
                "own interval": None if row["own_low"] is None else _bounds(row["own_low"], row["own_high"]),
                f"less {reference}": difference(row["difference"], row["difference_low"], row["difference_high"], 4),
            }
            for row in part.iter_rows(named=True)
        ],
        infer_schema_length=None,
    )
    return table.select(c for c in table if c.null_count() < table.height)


def _between(value: float, low: float | None, high: float | None) -> str:
    digits = 4 if abs(value) < 10 else 1
    mean = number(value, digits)
    return mean if low is None or high is None else f"{mean} {_bounds(low, high, digits)}"


def _bounds(low: float, high: float, digits: int = 4) -> str:
    return f"[{number(low, digits)}, {number(high, digits)}]"
