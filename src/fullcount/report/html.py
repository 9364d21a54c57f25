"""One self-contained HTML page: tables that sort, filter and search, and figures. It asks nothing of any network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
import matplotlib
import polars as pl
from matplotlib.figure import Figure

from fullcount import __version__
from fullcount.errors import FullcountError
from fullcount.report.tables import cell

RETROSHEET = (
    "The information used here was obtained free of charge from and is copyrighted by Retrosheet. "
    "Interested parties may contact Retrosheet at www.retrosheet.org."
)


@dataclass(frozen=True, eq=False)
class Section:
    """A heading, paragraphs (parted by blank lines), then a table and a figure, if any.

    The page's player search looks at tables with a column `Name`. Columns without any value are left out.
    """

    title: str
    text: str = ""
    table: pl.DataFrame | None = None
    figure: Figure | None = None


def write_report(path: Path, title: str, sections: Sequence[Section], *, retrosheet: bool = False) -> Path:
    """Write the page; it appears whole or not at all. `retrosheet`: with the notice their data ask for.

    FullcountError when there is nothing to show: no sections, or a table without rows.
    """
    if not sections:
        raise FullcountError(f"{path}: a report needs at least one section")
    for s in sections:
        if s.table is not None and s.table.is_empty():
            raise FullcountError(f"{path}: the table of section {s.title!r} is empty")
    source = (files("fullcount.report") / "templates" / "report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(source).render(
        title=title,
        sections=[_content(s) for s in sections],
        notice=RETROSHEET if retrosheet else "",
        version=__version__,
        players=any(s.table is not None and "Name" in s.table.columns for s in sections),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(page, "utf-8")
    part.replace(path)
    return path


def _content(section: Section) -> dict[str, object]:
    """What the template shows of a section."""
    table = section.table
    if table is not None:
        table = table.select(s for s in table if s.null_count() < table.height)
    return {
        "title": section.title,
        "paragraphs": [p.strip() for p in section.text.split("\n\n") if p.strip()],
        "figure": _svg(section.figure) if section.figure is not None else "",
        "columns": [] if table is None else [(c, table[c].dtype.is_numeric()) for c in table.columns],
        "rows": [] if table is None else [_row(table.columns, r) for r in table.iter_rows()],
        "name": -1 if table is None or "Name" not in table.columns else table.columns.index("Name"),
    }


def _row(columns: Sequence[str], values: Sequence[object]) -> list[tuple[str, str]]:
    """Text and, where rounding took something away, the number behind it: what the page sorts and filters by."""
    return [(cell(c, v), f"{v:.6g}" if isinstance(v, float) else "") for c, v in zip(columns, values, strict=True)]


def _svg(figure: Figure) -> str:
    """The figure as a data: URI, the same for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fullcount"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
