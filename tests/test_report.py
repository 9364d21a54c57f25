"""Tables, figures and the HTML page: what they say, and that a browser needs nothing else."""

from __future__ import annotations

import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from fullcount.errors import FullcountError
from fullcount.evaluation.backtest import BacktestResult, _result
from fullcount.evaluation.metrics import METRICS
from fullcount.report import figures, tables
from fullcount.report.html import RETROSHEET, Section, write_report


def made_up(intervals: bool = True) -> BacktestResult:
    """Two systems, two seasons, hitters of cohort A; `new` is .043 better in r."""
    rows, bounds = [], []
    for stat, n, r, rmse in (("HR", 600, 0.633, 7.77), ("OBP", 590, 0.529, 0.0316), ("rho5", 600, 0.3, 9.0)):
        for system, better in (("marcel", 0.0), ("new", 0.043)):
            numbers = dict.fromkeys(METRICS, 0.1) | {"r": r + better, "spearman": r + better + 0.1, "rmse": rmse}
            numbers |= {"sd_ratio": 0.55, "coverage": 1.0, "ceiling": math.nan if stat == "rho5" else 0.85}
            head = {"role": "hitters", "cohort": "A", "stat": stat, "system": system}
            rows += [{"season": s, **head, "n": n // 2, **numbers} for s in (2022, 2023)]
            metric = "spearman" if stat == "rho5" else "r"
            bounds.append({
                **head, "metric": metric, "reference": "marcel", "seasons": 2, "value": r + better, "low": 0.1,
                "high": 0.9, "difference": better, "difference_low": better and 0.024,
                "difference_high": better and 0.064,
            })  # fmt: skip
    return _result(["marcel", "new"], rows, bounds if intervals else [])


EMPTY = _result(["marcel"], [], [])


class Page(HTMLParser):
    """Tags, their attributes, and the text of cells; every opened element must be closed in order."""

    VOID = frozenset({"meta", "input", "img", "br", "link"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[str] = []
        self.text = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, k, v or "") for k, v in attrs]
        if tag == "td":
            self.cells.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


def test_summary() -> None:
    table = tables.summary(made_up(), stats=["HR", "OBP", "rho5"])
    assert table.columns == [
        "system", "n", "HR r", "HR rmse", "HR sd ratio", "HR Δr",
        "OBP n", "OBP r", "OBP rmse", "OBP sd ratio", "OBP Δr", "rho5 rho", "rho5 Δrho",
    ]  # fmt: skip
    new = table.row(1, named=True)
    assert (new["system"], new["n"], new["OBP n"]) == ("new", 600, 590)
    assert new["HR r"] == pytest.approx(0.676)
    assert new["rho5 rho"] == pytest.approx(0.443)  # the rank correlation, not Pearson's r of standings
    assert new["HR Δr"] == new["rho5 Δrho"] == "+.043 [.024, .064]"
    assert table["HR Δr"][0] is None
    assert tables.summary(made_up()).columns[2] == "HR r"  # the headline statistics that were judged
    assert not any("Δ" in c for c in tables.summary(made_up(intervals=False)).columns)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("HR r", 0.6331, ".633"), ("HR rmse", 7.768, "7.77"), ("PA rmse", 143.2, "143"), ("OBP rmse", 0.03161, ".0316"),
        ("WHIP rmse", 0.2031, ".203"), ("HR sd ratio", 1.0, "1.00"), ("HR r", -0.0621, "-.062"), ("r", -0.0001, ".000"),
        ("AVG", 0.2834, ".283"), ("OPS", 1.0123, "1.012"), ("ERA", 3.714, "3.71"), ("ERA_p10", 0.9, "0.90"),
        ("K%", 0.2241, "22.4%"), ("HR", 24.61, "24.6"), ("HR_p90", 10.0, "10.0"), ("IBB", 0.04, "0.0"),
        ("reliability", 0.71, ".710"), ("Name", "Ohtani", "Ohtani"), ("HR", None, "–"), ("HR", math.nan, "–"),
        ("season", 2024, "2024"),
    ],
)  # fmt: skip
def test_cells(column: str, value: object, text: str) -> None:
    assert tables.cell(column, value) == text


def test_differences() -> None:
    assert tables.difference(-0.012, -0.03, 0.006) == "-.012 [-.030, .006]"
    assert tables.difference(-0.0001, None, None) == "+.000"
    assert tables.difference(None, None, None) is None


def test_markdown_columns_are_aligned() -> None:
    frame = pl.DataFrame({"Name": ["José Ramírez", "a|b"], "HR r": [0.633, None], "n": [7, 1200]})
    lines = tables.markdown(frame).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(m.start() for m in re.finditer(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert lines[1] == "| ------------ | ---: | ---: |"
    assert lines[2] == "| José Ramírez | .633 |    7 |"
    assert r"a\|b" in lines[3]


def test_a_wide_table_goes_on_below() -> None:
    console = Console(file=io.StringIO(), width=60)
    table = tables.summary(made_up(), stats=["HR", "OBP"])
    tables.show(table, console, "[bold]")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]" in shown
    assert shown.count("marcel") > 1
    for text in (*table.columns, ".633", "7.77", ".0316", "+.043 [.024, .064]"):
        assert text in shown


def all_figures() -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    y = rng.normal(20, 9, 40)
    predicted = {"marcel": y / 2 + rng.normal(0, 3, 40), "new": np.r_[np.nan, y[1:]]}
    records = [
        {"step": 1, "lr": 0.1, "outcome": 2.0},
        {"step": 2, "outcome": 1.5},
        {"step": 2, "validation/outcome": 1},
    ]
    return {
        "accuracy": figures.accuracy(made_up()),
        "scatter": figures.projected_vs_actual(predicted, y, [f"$P_{i}" for i in range(40)], "HR"),
        "calibrations": figures.calibrations({s: {"new": {10: 0.12, 50: 0.49, 90: 0.91}} for s in ("HR", "SB")}),
        "training": figures.training(records),
        "curriculum": figures.curriculum(
            pl.DataFrame(
                {"step": [0, 32], "role": "batter", "players": [0.3, 1], "windows": [0.6, 1], "events": [0.7, 1]}
            )
        ),
    }


def test_figures() -> None:
    made = all_figures()
    for figure in made.values():
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert axes.get_ylabel()
            assert axes.get_title("left")
        figure.savefig(io.BytesIO(), format="png")
    accuracy = made["accuracy"].axes[0]
    dots = {line.get_label(): line.get_xdata() for line in accuracy.lines}
    np.testing.assert_allclose(dots["marcel"], [0.633, 0.529, 0.4])
    spans = [s for c in accuracy.collections if c.get_label() != "noise ceiling" for s in c.get_segments()]
    np.testing.assert_allclose(spans[0][:, 0], [0.633 + 0.024, 0.633 + 0.064])  # around the reference
    left, right = made["scatter"].axes
    assert len(left.texts) == len(right.texts) == figures.MISSES
    assert right.get_title("left") == "new: r 1.000, sd ratio 1.00"
    assert len(left.lines[1].get_xdata()) == 39  # only who both project
    assert [line.get_label() for line in made["training"].axes[0].lines] == ["training", "validation"]


def test_no_figure_of_nothing() -> None:
    one = np.array([1.0])
    for draw in (
        lambda: figures.accuracy(EMPTY),
        lambda: figures.projected_vs_actual({"marcel": one}, one, ["a"], "HR"),
        lambda: figures.calibrations({}),
        lambda: figures.over_days(pl.DataFrame({"day": ["all"], "role": "hitters", "stat": "HR"}), "hitters"),
        lambda: figures.training([{"step": 1, "lr": 0.1}]),
    ):
        with pytest.raises(FullcountError):
            draw()


def test_page(tmp_path: Path) -> None:
    villain = '<script>alert("1")</script>'
    players = pl.DataFrame({"Name": [villain, "Iván"] * 5, "HR": [24.613, None] * 5, "empty": [None] * 10})
    sections = [
        Section("Accuracy & more", "One.\n\nTwo <b>.", tables.summary(made_up()), figures.accuracy(made_up())),
        Section("Players", table=players),
    ]
    page = Page(write_report(tmp_path / "new" / "report.html", "2024 </title>", sections, retrosheet=True))
    assert {".633", "7.77", "+.043 [.024, .064]", "24.6", villain, "Iván", "–"} <= set(page.cells)
    assert villain not in page.source
    assert page.source.count("<script") == 1
    assert ("th", "aria-label", "empty") not in page.attributes
    assert "Filter empty" not in page.source
    assert ("td", "data-v", "24.613") in page.attributes
    assert ("table", "data-name", "0") in page.attributes
    assert RETROSHEET in page.text
    targets = [v for _, k, v in page.attributes if k in {"src", "href", "srcset", "action", "data"}]
    assert targets
    assert all(t.startswith(("data:", "#")) for t in targets)
    assert not re.search(r"https?:|//www|@import|url\(", page.source)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]


def test_same_page_twice_and_no_notice(tmp_path: Path) -> None:
    pages = [
        write_report(tmp_path / f"{i}.html", "Report", [Section(n, figure=f) for n, f in all_figures().items()])
        for i in range(2)
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert "Retrosheet" not in Page(pages[0]).text


def test_an_empty_result_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FullcountError, match=r"^the backtest judged no hitters of cohort 'A', so there is nothing to"):
        tables.summary(EMPTY)
    with pytest.raises(FullcountError, match="did not judge SV of hitters; it has HR, OBP, rho5"):
        tables.summary(made_up(), stats=["SV"])
    with pytest.raises(FullcountError, match="at least one section"):
        write_report(tmp_path / "a.html", "Report", [])
    with pytest.raises(FullcountError, match="section 'Players' is empty"):
        write_report(tmp_path / "a.html", "Report", [Section("Players", table=pl.DataFrame({"Name": []}))])
    assert not list(tmp_path.iterdir())
