"""Figures: accuracy, projected and actual, calibration, reliability, training. Each returns a Figure; no state is left.

Colours are Okabe and Ito's, told apart by the colour-blind; every system also has its own marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import cycle, islice
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import DateFormatter, MonthLocator
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from fullcount.errors import FullcountError
from fullcount.evaluation import pitch_grain
from fullcount.evaluation.backtest import BacktestResult
from fullcount.evaluation.metrics import Array, pearson, sd_ratio
from fullcount.projection.comparables import Points, fit_space
from fullcount.projection.system import Role
from fullcount.report.tables import chosen, number

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vPX"
MISSES = 5
_NOT_LOSSES = {"step", "tokens", "seconds", "lr", "norm"}


def accuracy(
    result: BacktestResult, role: Role = "hitters", cohort: str = "A", stats: Sequence[str] | None = None
) -> Figure:
    """r of every system, a line a statistic; the noise ceiling is a grey bar.

    The line through a dot is the 95 % interval of the paired difference, drawn around the reference: where it does
    not reach the reference's dot, the two differ.
    """
    judged = result.mean.filter(role=role, cohort=cohort)["stat"].unique(maintain_order=True).to_list()
    rows = chosen(result, role, cohort, stats or judged or None)
    names = rows["stat"].unique(maintain_order=True).to_list()
    systems = rows["system"].unique(maintain_order=True).to_list()
    paired = result.intervals.filter(
        pl.col("metric") != "rmse", pl.col("system") != pl.col("reference"), role=role, cohort=cohort
    )
    bounds = {(i["stat"], i["system"]): i for i in paired.iter_rows(named=True)}
    figure = _figure(8, 1.6 + len(names) * max(0.32, 0.14 * len(systems) + 0.1))
    axes = figure.subplots()
    ceilings = rows.group_by("stat", maintain_order=True).agg(pl.col("ceiling").max()).drop_nulls()
    at = {stat: i for i, stat in enumerate(names)}
    if not ceilings.is_empty():
        y = np.array([at[s] for s in ceilings["stat"]])
        axes.vlines(ceilings["ceiling"], y - 0.4, y + 0.4, color="#999999", lw=3, label="noise ceiling", zorder=1)
    step = 0.7 / max(1, len(systems))
    drawn = False
    for i, (system, colour, marker) in enumerate(_styles(systems)):
        own = rows.filter(pl.col("system") == system, pl.col("r").is_not_null())
        y = np.array([at[s] for s in own["stat"]]) + step * (i - (len(systems) - 1) / 2)
        axes.plot(own["r"], y, marker, color=colour, ms=6, label=system, zorder=3)
        for r, stat, height in zip(own["r"], own["stat"], y, strict=True):
            d = bounds.get((stat, system))
            if d is not None and d["difference_low"] is not None:
                base = r - d["difference"]
                axes.hlines(height, base + d["difference_low"], base + d["difference_high"], color=colour, lw=1.6)
                drawn = True
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    for edge in np.arange(0.5, len(names) - 1):
        axes.axhline(edge, color="#e5e5e5", lw=0.8, zorder=0)
    fewest, n = (int(v) for v in rows.select(low=pl.col("n").min(), high=pl.col("n").max()).row(0))
    note = f"\nlines: 95 % of the paired difference from {result.reference}" if drawn else ""
    _label(
        axes,
        f"{role}, cohort {cohort}, n {'=' if fewest == n else '≤'} {n}",
        f"correlation with what happened (r){note}",
        "statistic",
    )
    axes.grid(axis="x", color="#e5e5e5", lw=0.8)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=10)
    return figure


def projected_vs_actual(predicted: Mapping[str, Array], actual: Array, names: Sequence[str], stat: str) -> Figure:
    """A panel a system, each player a dot: projected across, actual up; the five biggest misses named.

    All panels show the players every system projects. FullcountError when there are fewer than two.
    """
    known = np.asarray(np.isfinite(np.column_stack([actual, *predicted.values()])).all(axis=1))
    if not predicted or known.sum() < 2:
        raise FullcountError(f"{stat}: fewer than two players have both a projection and an outcome")
    y, who = actual[known], [n for n, k in zip(names, known, strict=True) if k]
    figure = _figure(4.6 * len(predicted), 5)
    both = np.concatenate([y, *(p[known] for p in predicted.values())])
    pad = 0.06 * (both.max() - both.min() or 1)
    low, high = both.min() - pad, both.max() + pad
    panels = figure.subplots(1, len(predicted), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (system, colour, marker) in zip(panels, _styles(list(predicted)), strict=True):
        x = predicted[system][known]
        axes.axline((low, low), slope=1, color="#999999", lw=1, zorder=1)
        axes.plot(x, y, marker, color=colour, ms=4, alpha=0.45, mew=0)
        _name_misses(axes, x, y, who, (low, high))
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        r, spread = number(float(pearson(x, y)), 3), number(float(sd_ratio(x, y)), 2)
        _label(axes, f"{system}: r {r}, sd ratio {spread}", f"projected {stat}", f"actual {stat}")
        axes.grid(color="#eeeeee", lw=0.8)
    return figure


def calibrations(shares: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Figure:
    """A panel a statistic: statistic -> system -> projected percentile -> share of outcomes below it."""
    if not shares:
        raise FullcountError("calibrations: no statistic has percentiles")
    figure, panels = _panels(len(shares), 3.2, 3.2)
    for axes, (stat, systems) in zip(panels, shares.items(), strict=True):
        axes.axline((0, 0), slope=1, color="#999999", lw=1)
        for system, colour, marker in _styles(list(systems)):
            levels = sorted(systems[system])
            below = [100 * systems[system][q] for q in levels]
            axes.plot(levels, below, marker + "-", color=colour, ms=4, lw=1, label=system)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        _label(axes, stat, "projected percentile", "outcomes below it (%)")
        axes.grid(color="#eeeeee", lw=0.8)
    panels[0].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def reliability(
    forecasts: Mapping[str, Array], outcome: NDArray[np.int64], names: Sequence[str], share: float = 0.002
) -> Figure:
    """A panel a class: how often it came, by its forecast probability, in twenty groups of like forecasts a system.

    `forecasts` are probabilities [n, classes], `outcome` class numbers [n]; classes rarer than `share` are left out.
    """
    often = np.bincount(outcome, minlength=len(names)) / max(1, len(outcome))
    shown = [c for c in range(len(names)) if often[c] >= share]
    if not forecasts or not len(outcome):
        raise FullcountError("reliability: no forecasts to draw")
    figure, panels = _panels(len(shown), 3.2, 3.3, across=4)
    for axes, c in zip(panels, shown, strict=True):
        axes.axline((0, 0), slope=1, color="#999999", lw=1)
        for system, colour, marker in _styles(list(forecasts)):
            mean, frequency, _ = pitch_grain.reliability(forecasts[system][:, c], (outcome == c).astype(float)).T
            axes.plot(mean, frequency, marker + "-", color=colour, ms=4, lw=1, label=system)
        _label(axes, f"{names[c]} ({100 * often[c]:.1f} %)", "forecast", "frequency")
        axes.grid(color="#eeeeee", lw=0.8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    return figure


def training(records: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel a loss of a run's log: in training a line, in validation dots."""
    logged = {k for r in records for k in r if k not in _NOT_LOSSES and isinstance(r[k], int | float)}
    losses = sorted({k.removeprefix("validation/") for k in logged})
    if not losses:
        raise FullcountError("training: the log has no losses yet")
    figure, panels = _panels(len(losses))
    for axes, loss in zip(panels, losses, strict=True):
        for key, style, colour in ((loss, "-", COLOURS[1]), (f"validation/{loss}", "o-", COLOURS[2])):
            points = [(r["step"], r[key]) for r in records if key in r and "step" in r]
            if points:
                label = "validation" if key.startswith("validation/") else "training"
                axes.plot(*zip(*points, strict=True), style, color=colour, lw=1.4, ms=4, label=label)
        _label(axes, loss, "step", "loss")
        axes.grid(color="#eeeeee", lw=0.8)
        axes.legend(frameon=False, fontsize=9)
    return figure


def curriculum(schedule: pl.DataFrame) -> Figure:
    """A panel a role: the shares of players, windows and events that a curriculum lets in over the steps of a run.

    Args:
        schedule: of the run's sampler (`Sampler.schedule`).
    """
    parts = schedule.partition_by("role", maintain_order=True)
    figure, panels = _panels(len(parts))
    for axes, part in zip(panels, parts, strict=True):
        for share, colour in zip(("players", "windows", "events"), COLOURS, strict=False):
            axes.step(part["step"], part[share], where="post", color=colour, lw=1.6, label=share)
        axes.set_ylim(0, 1.03)
        _label(axes, f"{part['role'][0]}s", "step", "share that may be drawn")
        axes.grid(color="#eeeeee", lw=0.8)
        axes.legend(frameon=False, loc="lower right", fontsize=10)
    return figure


def arms(summary: pl.DataFrame) -> Figure:
    """A panel a figure of a study under one budget: mean of each arm over seeds with its 95 % interval.

    Args:
        summary: lines of `study.summary` of one budget and share.
    """
    names = summary["arm"].unique(maintain_order=True).to_list()
    parts = summary.partition_by("what", maintain_order=True)
    figure, panels = _panels(len(parts), height=1.3 + 0.32 * len(names))
    styles = dict(zip(names, _styles(names), strict=True))
    for axes, part in zip(panels, parts, strict=True):
        for row in part.iter_rows(named=True):
            (_, colour, marker), y = styles[row["arm"]], names.index(row["arm"])
            if row["low"] is not None:
                axes.hlines(y, row["low"], row["high"], color=colour, lw=1.6)
            axes.plot(row["mean"], y, marker, color=colour, ms=6)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set_ylim(len(names) - 0.45, -0.55)
        _label(axes, part["what"][0], "mean over seeds, 95 % interval", "")
        axes.grid(axis="x", color="#e5e5e5", lw=0.8)
    return figure


def curves(summary: pl.DataFrame) -> Figure:
    """A panel a figure of a study with several budgets: mean of each arm against floating-point operations of a run.

    Args:
        summary: lines of `study.summary`.
    """
    names = summary["arm"].unique(maintain_order=True).to_list()
    parts = summary.partition_by("what", maintain_order=True)
    figure, panels = _panels(len(parts))
    for axes, part in zip(panels, parts, strict=True):
        for arm, colour, marker in _styles(names):
            own = part.filter(pl.col("arm") == arm).unique("steps").sort("flops")
            axes.plot(own["flops"], own["mean"], marker + "-", color=colour, ms=5, lw=1.4, label=arm)
            known = own.drop_nulls("low")
            axes.vlines(known["flops"], known["low"], known["high"], color=colour, lw=1.2)
        axes.set_xscale("log")
        _label(axes, part["what"][0], "floating-point operations", "mean over seeds")
        axes.grid(color="#eeeeee", lw=0.8)
    legend = panels[0].legend(frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def over_days(table: pl.DataFrame, role: Role, metric: str = "r") -> Figure:
    """A panel a statistic: a metric of every system over the days of a season.

    Args:
        table: of `evaluation.in_season.judge`.
    """
    own = table.filter(pl.col("day") != "all", role=role).sort("day", maintain_order=True)
    parts = own.partition_by("stat", maintain_order=True)
    figure, panels = _panels(len(parts), 3.4, 2.9)
    for axes, part in zip(panels, parts, strict=True):
        for system, colour, marker in _styles(part["system"].unique(maintain_order=True).to_list()):
            line = part.filter(system=system)
            at = [date.fromisoformat(f"2001-{d}") for d in line["day"]]
            axes.plot(at, line[metric], marker + "-", color=colour, ms=5, lw=1.4, label=system)  # type: ignore[arg-type]
        axes.xaxis.set_major_formatter(DateFormatter("%b"))  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(MonthLocator())  # type: ignore[no-untyped-call]
        _label(axes, part["stat"][0], "", metric)
        axes.grid(color="#eeeeee", lw=0.8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    return figure


def career_map(points: Points, player: int) -> Figure:
    """All player-seasons on the first two principal axes of their space, coloured by K%; a line is one's career."""
    coordinates = fit_space(points).of(points)
    axes = np.linalg.svd(coordinates - coordinates.mean(axis=0), full_matrices=False)[2][:2]
    xy, strikeouts = coordinates @ axes.T, 100 * points.table["K%"].to_numpy()
    low, high = np.nanpercentile(strikeouts, [2, 98])
    own = points.table.with_row_index("row").filter(player=player)
    figure = _figure(7.5, 6)
    panel = figure.subplots()
    dots = panel.scatter(
        xy[:, 0], xy[:, 1], c=strikeouts, cmap="cividis", vmin=low, vmax=high, s=9, alpha=0.6, linewidths=0
    )
    figure.colorbar(dots, ax=panel, label="K%")
    path = xy[own["row"].to_numpy()]
    panel.plot(path[:, 0], path[:, 1], "o-", color=COLOURS[2], ms=5, lw=1.4)
    for at, season in zip(path, own["season"], strict=True):
        panel.annotate(
            str(season), tuple(at), xytext=(4, 4), textcoords="offset points", fontsize=9,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    _label(panel, own["Name"][0] or str(player), "first principal axis", "second principal axis")
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _panels(n: int, width: float = 4.2, height: float = 3.4, across: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels, up to `across` abreast, each of this size in inches. FullcountError for none."""
    if not n:
        raise FullcountError("figure: there is nothing to draw")
    across = min(across, n)
    down = -(-n // across)
    figure = _figure(width * across, height * down)
    panels = list(figure.subplots(down, across, squeeze=False).ravel())
    for spare in panels[n:]:
        spare.remove()
    return figure, panels[:n]


def _styles(systems: Sequence[str]) -> list[tuple[str, str, str]]:
    """Colour and marker of each system: the first is the reference, black."""
    n = len(systems)
    return list(zip(systems, islice(cycle(COLOURS), n), islice(cycle(MARKERS), n), strict=True))


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=12, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=11, parse_math=False)
    axes.set_ylabel(y, fontsize=11, parse_math=False)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _name_misses(axes: Axes, x: Array, y: Array, who: Sequence[str], limits: tuple[float, float]) -> None:
    """Names of the biggest misses on the far side of their dots from the line, kept apart in height."""
    low, size = limits[0], limits[1] - limits[0]
    worst = np.argsort(-np.abs(y - x), kind="stable")[:MISSES]
    worst = worst[np.argsort(y[worst])]
    heights: list[float] = []
    for i in worst:
        heights.append(max(float(y[i]), heights[-1] + 0.05 * size if heights else low))
    over = max(0.0, heights[-1] - (limits[1] - 0.03 * size))
    for i, height in zip(worst, heights, strict=True):
        share, width = (x[i] - low) / size, 0.03 + 0.017 * len(who[i])  # of the panel
        right = share + width < 1 if y[i] < x[i] else share - width < 0
        axes.annotate(
            who[i], (x[i], y[i]), (x[i] + (0.03 if right else -0.03) * size, height - over), fontsize=9,
            ha="left" if right else "right", va="center", parse_math=False,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": "#666666", "lw": 0.7, "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip
