"""The demo, with a league small enough for a test."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from fullcount import demo
from fullcount.errors import FullcountError
from fullcount.projection.export import HEADER
from fullcount.projection.system import ROLES, Projection
from fullcount.store import Store

FILES = {"hitters.csv", "pitchers.csv", "table.csv", "mean.csv", "intervals.csv", "summary.md", "report.html"}


@pytest.mark.slow
def test_the_demo_and_a_second_one_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SEASONS": 4, "TEAMS": 4, "GAMES": 32, "DEMO_STEPS": 4}.items():
        monkeypatch.setattr(demo, name, value)
    out, told = tmp_path / "my [demo]", StringIO()
    table = demo.run_demo(out, 0, Console(file=told, width=200))
    assert FILES | {"store", "encoder", "batter", "pitcher", demo.MARK} == {p.name for p in out.iterdir()}
    assert table["system"].unique(maintain_order=True).to_list() == ["marcel", "contextual", "truth"]
    assert set(table["season"]) == {2004}
    assert set(table["role"]) == set(ROLES)
    for role in ROLES:
        assert tuple(pl.read_csv((out / f"{role}.csv").read_bytes()).columns[: len(HEADER[role])]) == HEADER[role]
    assert "a simulated league" in (out / "report.html").read_text()
    assert "Retrosheet" not in (out / "report.html").read_text()
    assert f"wrote {out / 'report.html'}" in told.getvalue().replace("\n", "")
    fingerprint = Store.open(out / "store").fingerprint()
    (out / "notes.txt").write_text("mine")
    again = demo.run_demo(out, 0, Console(file=StringIO()))
    assert again.equals(table)
    assert Store.open(out / "store").fingerprint() == fingerprint
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("there", ["thesis.txt", "store/manifest.json"])
def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path, there: str) -> None:
    """Also one with a store in it: `store` is what a real one is called by default."""
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(FullcountError, match="not empty and not an earlier demo"):
        demo.run_demo(tmp_path, 0, Console(file=StringIO()))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "mine"


def test_a_stopped_demo_does_not_say_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("stopped after step 3; the same command goes on from there")

    monkeypatch.setattr(demo, "simulate", stop)
    told = StringIO()
    with pytest.raises(KeyboardInterrupt, match=r"^stopped; the same command begins the demo again$"):
        demo.run_demo(tmp_path / "demo", 0, Console(file=told))
    assert "simulating 8 seasons" in told.getvalue()  # a step is told when it begins, in a file too


def test_the_verdict_compares_with_the_truth():
    true = pl.DataFrame({"player": [1, 2, 3], "season": [2001] * 3, "role": ["batter"] * 3, "K%": [0.1, 0.2, 0.3]})
    true = true.with_columns(pl.col("K%").alias("BB%"), pl.col("player").cast(pl.Int32))
    true = pl.concat([true, true.with_columns(pl.lit("pitcher").alias("role"))])

    def projected(strikeouts: list[float]) -> Projection:
        frame = pl.DataFrame({"player": [1, 2, 3], "PA": [100.0] * 3, "TBF": [100.0] * 3, "SO": strikeouts})
        frame = frame.with_columns(pl.col("SO").alias("BB"))
        return Projection.of(2001, frame.drop("TBF"), frame.drop("PA"))

    systems = {"marcel": projected([20.0, 10.0, 30.0]), "contextual": projected([11.0, 21.0, 31.0])}
    table = demo.against_truth(systems, true)
    assert table.filter(system="contextual")["r"].to_list() == pytest.approx([1.0] * 4)
    assert table.filter(system="contextual")["rmse"].to_list() == pytest.approx([0.01] * 4)
    assert all("beats Marcel" in line for line in demo.verdict(table))
