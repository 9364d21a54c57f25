"""A backtest on disk: the long tables as CSV, the headline as Markdown, everything on one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich.console import Console

from fullcount.evaluation.backtest import BacktestResult
from fullcount.projection.system import ROLES, Role
from fullcount.report.figures import accuracy
from fullcount.report.html import Section, write_report
from fullcount.report.tables import markdown, show, summary

#: Statistics of the printed tables, where they were judged.
SHOWN: dict[Role, tuple[str, ...]] = {
    "hitters": ("HR", "SB", "OBP", "rho5", "K%", "BB%", "HR%", "AVG", "PA"),
    "pitchers": ("SO", "ERA", "WHIP", "K/9", "K%", "BB%"),
}
_COHORTS = {
    "A": "players with 200 plate appearances (50 innings) or more in the season",
    "B": "players projected beforehand for 350 plate appearances (60 innings) or more, who appeared",
    "B20": "players projected beforehand for 350 plate appearances (60 innings) or more, with 20 innings",
    "C": "everybody, weighted by plate appearances; a player not projected counts as the league mean",
}


_LEGEND = (
    "rho5: rank correlation of the sum of standardised HR, R, RBI, SB and OBP. sd ratio: spread of what was projected "
    "over that of what happened; rmse: root mean squared error."
)


def write_backtest(
    result: BacktestResult,
    out: Path,
    console: Console | None = None,
    *,
    title: str = "fullcount backtest",
    sections: Sequence[Section] = (),
    retrosheet: bool = False,
) -> list[Path]:
    """Write `table.csv`, `mean.csv`, `intervals.csv`, `summary.md` and `report.html` into `out`.

    Args:
        console: also print the tables there.
        sections: added to the page after the tables.
        retrosheet: show Retrosheet's notice.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ("table", "mean", "intervals"):
        path = out / f"{name}.csv"
        getattr(result, name).write_csv(path)
        written.append(path)
    page, text = [], [f"# {title}\n"]
    for cohort in result.mean["cohort"].unique(maintain_order=True).to_list():
        for role in ROLES:
            judged = result.mean.filter(role=role, cohort=cohort)["stat"].unique(maintain_order=True).to_list()
            stats = [s for s in SHOWN[role] if s in judged] or judged
            if not stats:
                continue
            table = summary(result, cohort, role, stats)
            heading = f"{role.capitalize()}, cohort {cohort}"
            who = _COHORTS.get(cohort, "")
            words = ". ".join(filter(None, (who, _LEGEND)))
            page.append(Section(heading, words, table, accuracy(result, role, cohort, stats)))
            text.append(f"## {heading}\n\n{who}\n\n{markdown(table)}")
            if console is not None:
                show(table, console, f"{heading}: {who}" if who else heading)
    text.append(f"{_LEGEND}\n")
    if result.intervals.filter(pl.col("system") != pl.col("reference")).height:
        text.append(f"Δ: difference from {result.reference}, with its paired 95 % interval.\n")
        if console is not None:
            console.print(text[-1].strip(), markup=False, highlight=False, soft_wrap=True)
    written.append(out / "summary.md")
    written[-1].write_text("\n".join(text))
    written.append(write_report(out / "report.html", title, [*page, *sections], retrosheet=retrosheet))
    return written
