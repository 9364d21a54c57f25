"""Reconciliation: what equal and unequal totals look like, and one real season whole."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fullcount.errors import FullcountError
from fullcount.sources import reconcile
from fullcount.sources.tables import PITCHING_SEASONS, Tables, conform

README = """\
| season | games | PA | pitches | PA without sequence | HR | SO | BB (with IBB) |
|---|---|---|---|---|---|---|---|
| 2022 | 10 | 700 | 2800 | 0 | 20 | 150 | 60 |
| 2023 | 11 | 770 | 2900 | 1 | 21 | 151 | 61 |
League SB: 2022 2,486; 2024 3,617. Leaders: somebody 62 HR 2022.
"""


def test_official_table(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README)
    official = reconcile.read_official(readme)
    assert official.rows() == [(2022, 10, 700, 2800, 0, 20, 150, 60, 2486), (2023, 11, 770, 2900, 1, 21, 151, 61, None)]
    assert reconcile.compare_official(official, official).is_empty()
    wrong = official.with_columns(HR=pl.col("HR") + (pl.col("season") == 2022), SB=pl.lit(1, pl.Int64))
    assert reconcile.compare_official(wrong, official).rows() == [(2022, "HR", 21, 20), (2022, "SB", 1, 2486)]
    readme.write_text("nothing")
    with pytest.raises(FullcountError, match="no table of official totals"):
        reconcile.read_official(readme)


def _batting(**columns: list[int]) -> pl.DataFrame:
    names = ("AB", "BB", "HBP", "SH", "SF", "HR", "SO", "H", "2B", "3B", "SB", "R", "RBI")
    players = columns.pop("player")
    frame = pl.DataFrame({"player": players, **{n: columns.get(n, [0] * len(players)) for n in names}})
    return conform(frame.with_columns(season=2022, league=pl.lit("MLB")), "batting_seasons")


def test_compare_lahman() -> None:
    ours = _batting(player=[1, 2, 3], AB=[10, 20, 30], H=[3, 4, 0], RBI=[1, 1, 0])
    theirs = _batting(player=[1, 2, 4], AB=[10, 20, 0], H=[4, 3, 0], RBI=[2, 1, 0])
    pitching = pl.DataFrame(schema=PITCHING_SEASONS)
    result = reconcile.compare_lahman(ours, pitching, Tables.of(batting_seasons=theirs))
    # Player 4 has only zeros in Lahman: nothing to miss. Players 1 and 2 exchanged a hit, 3 is in one source only.
    assert result.shares.rows() == [(2022, "batting", 4, 1, 0.25)]
    reasons = {(p, c): r for p, c, r in result.differences.select("player", "column", "reason").iter_rows()}
    assert reasons[1, "H"].startswith("credited to another player")
    assert reasons[2, "H"].startswith("credited to another player")
    assert reasons[1, "RBI"].startswith("scorer's judgement")
    assert reasons[3, "PA"] == "no such line in Lahman"
    assert set(reasons) == {(1, "H"), (2, "H"), (1, "RBI"), (3, "PA")}


def test_command_line_reports_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "register").mkdir()
    assert reconcile.main(["--data", str(tmp_path), "--out", str(tmp_path / "page.md")]) == 2
    assert "register" in capsys.readouterr().out
    assert not (tmp_path / "page.md").exists()


@pytest.mark.real
def test_a_real_season(data_dir: Path) -> None:
    """The short season of 2020: official totals equal, and at least 99.5 % of player-seasons equal Lahman's."""
    page, good = reconcile.run(data_dir, seasons=[2020])
    assert good, page
    assert "totals that differ from the official ones: 0" in page
