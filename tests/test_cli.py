"""The command line: help, one sentence and exit code 2 on bad use, the whole path on a small store, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fullcount.cli import app
from fullcount.projection.export import HEADER
from fullcount.projection.registry import SYSTEMS
from fullcount.projection.system import ROLES
from fullcount.simulated.league import simulate
from fullcount.store import Store

WIDTH = 16
TINY = ["encoder.d_model=16", "encoder.layers=1", "encoder.heads=2", "encoder.feedforward=32", "batch_tokens=512"]
TRAIN = ["train.precision=32-true", "train.log_every=1", "train.checkpoint_every=5", "before=2004-03-01"]
HELP = {
    (): "Contextual embeddings of baseball events",
    ("ingest",): "Read raw files into the store",
    ("store",): "Look at a store",
    ("store", "info"): "What the store holds",
    ("pretrain",): "Pre-train an encoder on the store's pitches",
    ("finetune",): "Fit a head on a pre-trained encoder",
    ("embed",): "Write one embedding a player and game",
    ("project",): "Project a season",
    ("games",): "Lines of every probable starter",
    ("similar",): "Comparables: the seasons most like one of a player's",
    ("backtest",): "Judge systems on seasons that have been played",
    ("simulate",): "Simulate games pitch by pitch",
    ("study",): "Compare configurations over seeds at an equal budget",
    ("demo",): "The whole path on a simulated league",
}


def o(*overrides: str) -> list[str]:
    return [word for item in overrides for word in ("-o", item)]


def run(*words: object):
    return CliRunner().invoke(app, [str(w) for w in words])


def done(*words: object) -> str:
    """Standard output of a command that must go well."""
    result = run(*words)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fullcount.cli", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seasons 2001 to 2004 in a folder whose name Rich would take for markup."""
    league = simulate(seasons=4, teams=4, games_per_team=16, seed=2)
    return Store.open_or_create(tmp_path_factory.mktemp("cli") / "[x] store").add(league.tables, "sim").root


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the runs `encoder`, `batter` and `pitcher`."""
    out = tmp_path_factory.mktemp("runs")
    told = done("pretrain", "--store", store, "--out", out / "encoder", *o(*TINY, *TRAIN, "train.steps=4"))
    assert "steps 4" in told
    for role in ("batter", "pitcher"):
        done(
            "finetune", "--encoder", out / "encoder", "--store", store, "--out", out / role,
            *o(f"role={role}", "since=2001-06-01", "train.steps=4", "train.validate_every=2", *TRAIN),
        )  # fmt: skip
    return out


# --------------------------------------------------------------------------------------------------- help and bad use


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_says_what_a_command_does(command: tuple[str, ...]) -> None:
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done(*command, "--help")).split())
    assert HELP[command] in told


@pytest.mark.parametrize("command", ["project", "backtest"])
def test_help_spells_every_system(command: str) -> None:
    told = done(command, "--help")
    more = ("marcel_gb+pitches", "blend:A@B", "NAME=FOLDER", "+reads:pitches,RUN", "+pt:FILE", "+lasting", "+bands")
    for word in (*SYSTEMS, *more):
        assert re.search(rf"(?<![\w+]){re.escape(word)}(?!\w)", told), word


@pytest.mark.parametrize("command", ["project", "games", "similar", "backtest"])
def test_help_says_what_happens_without_an_option(command: str) -> None:
    """Each option that is not needed, and no switch, tells its default; but for those that do nothing when left out."""
    optional = {"team_games", "figure", "help"}
    for p in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        if not p.required and not p.is_flag and p.name not in optional:
            assert p.default is not None or isinstance(p.show_default, str), p.name


def test_no_command_is_forgotten() -> None:
    listed = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert listed == {c[0] for c in HELP if c}


BAD = [
    ("ingest nosuch a.csv", "no source 'nosuch'; choose one of register"),
    ("ingest register missing.csv --store NEW", "missing.csv: no such file"),
    ("ingest register a.csv --jobs 2 --store NEW", "--jobs are for retrosheet, not for register"),
    ("ingest lahman folder --store NEW", "first `fullcount ingest register"),
    ("store info --store NEW", "no store here"),
    ("pretrain --store NEW --out OUT -o before=2004-03-01", "no store here"),
    ("pretrain --store NEW --out OUT -o befor=2004-03-01", "options: before"),
    ("pretrain --store NEW --out OUT -o before=2004-03-01 -o trian.steps=3", "options: trian"),
    (
        "pretrain --store NEW --out OUT -o before=2004-03-01 -o train.step=3",
        "options: train.step: there is no such",
    ),
    ("pretrain --store STORE --out OUT --config missing.toml", "missing.toml: no such file"),
    ("pretrain --store STORE --out OUT -o before=1999-03-01", "no game before 1999-03-01"),
    ("finetune --encoder NEW --store STORE --out OUT -o role=batter -o before=2004-03-01", "no run here"),
    ("finetune --encoder NEW --store STORE --out OUT -o role=catcher -o before=2004-03-01", "options: role"),
    ("embed --encoder NEW --store STORE --out OUT --role catcher", "role 'catcher'"),
    ("embed --encoder NEW --store STORE --out OUT --since 1.4.2003", "date '1.4.2003': write YYYY-MM-DD"),
    ("embed --encoder NEW --store STORE --out OUT", "no run here"),
    ("project 2004 --store NEW --out OUT", "no store here"),
    ("project 2004 --store STORE --out OUT --system zips", "no system 'zips': write marcel"),
    ("project 2004 --store STORE --out OUT --system mine=NEW,NEW", "no run here"),
    ("project 2004 --store STORE --out OUT --system zips=NEW", "new [x]"),
    ("project 99999 --store STORE --out OUT", "season 99999: no such year"),
    ("project 1950 --store STORE --out OUT", "marcel projects nobody for 1950"),
    ("backtest 20x4 --store STORE --out OUT", "seasons '20x4': write"),
    ("backtest 2004-2003 --store STORE --out OUT", "seasons '2004-2003': write"),
    ("backtest 0 --store STORE --out OUT", "season 0: no such year"),
    ("backtest 1950 --store STORE --out OUT", "1950"),
    ("backtest 2004 --store STORE --out OUT --cohorts Z", "no cohort 'Z'"),
    ("backtest 2004 --store STORE --out OUT --system marcel --system marcel", "differently named systems"),
    ("backtest 2004 --store STORE --out OUT --system zips", "no system 'zips'"),
    ("demo --out FOREIGN", "not empty and not an earlier demo"),
]


@pytest.mark.parametrize(("words", "sentence"), BAD, ids=[w for w, _ in BAD])
def test_bad_use_is_one_sentence(words: str, sentence: str, store: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    places = {"NEW": tmp_path / "new [x]", "OUT": tmp_path / "out", "STORE": store, "FOREIGN": foreign}
    result = run(*(re.sub("|".join(places), lambda m: str(places[m[0]]), w) for w in words.split()))
    assert result.exit_code == 2, (result.stderr, result.exception)
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
    assert result.stdout == ""
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["foreign", "thesis.txt"]  # nothing was left behind


def test_the_sentence_and_the_code_of_the_program_itself(tmp_path: Path) -> None:
    process = start("store", "info", "--store", tmp_path / "[red]")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    place = tmp_path / "[red]"  # neither taken for markup nor broken at 80 columns
    assert stderr == f"error: {place}: no store here; make one with `fullcount ingest ... --store {place}`\n"
    assert stdout == ""


def test_every_command_that_reads_a_store_takes_it_in_one_way() -> None:
    commands = {**get_command(app).commands, **get_command(app).commands["store"].commands}  # type: ignore[attr-defined]
    parameters = {name: {p.name: p.opts for p in c.params} for name, c in commands.items()}
    taken = {name: p["store"] for name, p in parameters.items() if "store" in p}
    assert taken.keys() == parameters.keys() - {"store", "demo"}
    assert all(opts == ["--store"] for opts in taken.values())


def test_a_missing_option_is_named() -> None:
    result = run("pretrain")
    assert result.exit_code == 2
    assert "--out" in result.stderr


# ------------------------------------------------------------------------------------------------------ the whole path


def test_store_info(store: Path) -> None:
    told = done("store", "info", "--store", store, "--verify")
    assert "[x] store" in " ".join(told.split())
    assert all(str(season) in told for season in range(2001, 2005))
    assert "sim: rows 0 to" in told


def test_verify_finds_a_changed_byte(store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "store"
    subprocess.run(["cp", "-r", str(store), str(copied)], check=True)
    with (copied / "numeric.f16").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    assert run("store", "info", "--store", copied).exit_code == 0
    result = run("store", "info", "--store", copied, "--verify")
    assert result.exit_code == 2
    assert "checksum of part sim differs" in result.stderr


def test_embed(store: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "e.parquet"
    options = ("--encoder", runs / "encoder", "--store", store, "--out", out)
    told = done("embed", *options, "--role", "pitcher", "--since", "2003-01-01", "--before", "2004-01-01")
    table = pl.read_parquet(out)
    assert f"{table.height:,} embeddings of width {WIDTH}" in told
    assert table.columns == ["player", "date", "game_id", "events", "embedding"]
    assert set(table["embedding"].list.len()) == {WIDTH}
    assert table["date"].dt.year().unique().to_list() == [2003]
    assert not table.select("player", "game_id").is_duplicated().any()
    empty = done("embed", *options, "--since", "2050-01-01")
    assert "0 embeddings" in empty
    assert pl.read_parquet(out).schema == table.schema


def test_simulate(store: Path, runs: Path, tmp_path: Path) -> None:
    options = o("objectives=next_event", *TINY, *TRAIN, "train.steps=3")
    done("pretrain", "--store", store, "--out", tmp_path / "next", *options)
    out = tmp_path / "games"
    told = done("simulate", tmp_path / "next", "--store", store, "--season", 2004, "--games", 2, "--out", out)
    assert "games a second" in told
    games, batting = (pl.read_csv(out / f"{name}.csv") for name in ("games", "batting"))
    assert games.height == 2
    assert (games["visitors"] != games["home"]).all()
    pitching = pl.read_csv(out / "pitching.csv")
    assert batting["PA"].sum() == pitching["BF"].sum()
    for other, season, sentence in ((runs / "encoder", 2004, "next_event"), (tmp_path / "next", 2003, "has seen")):
        refused = run("simulate", other, "--store", store, "--season", season)
        assert refused.exit_code == 2
        assert sentence in refused.stderr


def test_project(store: Path, runs: Path, tmp_path: Path) -> None:
    system = f"mine={runs / 'batter'},{runs / 'pitcher'}"
    told = done("project", 2004, "--store", store, "--out", tmp_path / "p", "--system", system)
    assert f"wrote {tmp_path / 'p' / 'hitters.csv'}" in told
    assert "Retrosheet" not in told
    for role in ROLES:
        table = pl.read_csv(tmp_path / "p" / f"{role}.csv")
        assert tuple(table.columns[: len(HEADER[role])]) == HEADER[role]
        assert table.height > 10
        assert table["SO"].is_finite().all()


def test_project_before_what_a_run_has_seen(store: Path, runs: Path, tmp_path: Path) -> None:
    system = f"mine={runs / 'batter'},"
    result = run("project", 2003, "--store", store, "--out", tmp_path / "p", "--system", system)
    assert result.exit_code == 2
    assert "mine was trained on play up to 2004-03-01; it may not project 2003-03-01" in result.stderr
    assert not (tmp_path / "p").exists()


def test_backtest(store: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    system = f"mine={runs / 'batter'},{runs / 'pitcher'}"
    told = done(
        "backtest", 2004, "--store", store, "--out", out, "--system", "marcel", "--system", system,
        "--cohorts", "C", "--draws", 20,
    )  # fmt: skip
    names = {"table.csv", "mean.csv", "intervals.csv", "summary.md", "report.html"}
    assert {p.name for p in out.iterdir()} == names
    assert all(f"wrote {out / name}" in told for name in names)
    assert set(pl.read_csv(out / "table.csv")["system"]) == {"marcel", "mine"}
    assert "cohort C: everybody, weighted" in " ".join(told.split())
    note = "Δ: difference from marcel, with its paired 95 % interval."
    assert note in told.splitlines()
    assert "mine" in (summary := (out / "summary.md").read_text())
    assert note in summary.splitlines()
    page = (out / "report.html").read_text()
    assert "<html" in page
    assert "Retrosheet" not in page


def test_another_configuration_in_the_same_folder_is_refused(store: Path, runs: Path) -> None:
    result = run("pretrain", "--store", store, "--out", runs / "encoder", *o(*TINY, *TRAIN, "train.steps=5"))
    assert result.exit_code == 2
    assert "train.steps (4, now 5)" in result.stderr


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(store: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "run", 150
    command = ("pretrain", "--store", store, "--out", out, *o(*TINY, *TRAIN, f"train.steps={steps}"))
    process = start(*command)
    log = out / "log.jsonl"
    deadline = time.monotonic() + 180
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert re.fullmatch(r"stopped after step \d+; the same command goes on from there", stderr.strip())
    assert not (out / "weights.safetensors").exists()
    reached = max(json.loads(line)["step"] for line in log.read_text().splitlines())
    assert 3 <= reached < steps
    process = start(*command)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert f"steps {steps}" in stdout
    assert (out / "weights.safetensors").exists()
    logged = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert logged[-1] == steps
