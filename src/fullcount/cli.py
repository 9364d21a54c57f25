"""The command line: every command is one call into the library."""

from __future__ import annotations

import logging
from datetime import MAXYEAR, date
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from fullcount.errors import FullcountError


class _Commands(TyperGroup):
    """What a command raises becomes one sentence and an exit code: 2 on bad use or bad input, 130 on Ctrl-C.

    Here and not around `app()`, because Typer itself turns Ctrl-C into an exit that says nothing.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FullcountError as error:
            Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            Console(stderr=True).print(str(stop) or "stopped", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Contextual embeddings of baseball events, and the player projections made from them.\n\n"
    "Start with `fullcount demo` (nothing to download), or ingest real seasons: register, lahman, retrosheet. Then "
    "project, backtest and games work at once, with Marcel and what is learned beside it; pretrain and finetune make "
    "encoders and heads for systems that read pitches with them, and for similar.",
)
console = Console()

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the store.", file_okay=False)]
Overrides = Annotated[list[str], typer.Option("-o", help="Override: key=value or group.key=value, in TOML.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file.", dir_okay=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.", file_okay=False)]


@app.callback()
def _set_up() -> None:
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False, markup=False)
    logger = logging.getLogger("fullcount")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="register, lahman, retrosheet, statcast or milb")],
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    store: StoreOption = Path("store"),
    details: Annotated[
        list[Path] | None, typer.Option(help="retrosheet: plate-appearance files with speeds and batted-ball physics.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="retrosheet: processes; default all cores.")] = None,
    postseason: Annotated[bool, typer.Option(help="statcast: postseason games too.")] = False,
) -> None:
    """Read raw files into the store. Order: register, lahman, retrosheet, statcast, milb."""
    from fullcount.sources.ingest import INGEST
    from fullcount.store import Store

    if source not in INGEST:
        raise FullcountError(f"no source {source!r}; choose one of {', '.join(INGEST)}")
    options: dict[str, Any] = {}
    if source == "retrosheet":
        options = {"details": details or [], "jobs": jobs}
    elif details or jobs:
        raise FullcountError(f"--details and --jobs are for retrosheet, not for {source}")
    if source == "statcast":
        options = {"postseason": postseason}
    filled = INGEST[source](Store.open_or_create(store), paths, **options)
    _say(f"{store}: {filled.rows:,} pitches, {filled.games.height:,} games")


store_commands = typer.Typer(no_args_is_help=True, help="Look at a store.")
app.add_typer(store_commands, name="store")


@store_commands.command("info")
def store_info(
    store: StoreOption = Path("store"),
    verify: Annotated[bool, typer.Option(help="Read everything and compare checksums.")] = False,
) -> None:
    """What the store holds, season by season."""
    from fullcount.store import FORMAT_VERSION, Store

    opened = Store.open(store)
    if verify:
        opened.verify()
    table = Table(
        title=f"{escape(str(store))}: {opened.rows:,} pitch rows, format {FORMAT_VERSION}, data {opened.fingerprint()}"
    )
    names = ("league", "season", "type", "games", "plate appearances", "batting lines", "pitching lines")
    for name in names:
        table.add_column(name, justify="left" if name in ("league", "type") else "right")
    key = ["league", "season", "game_type"]
    counts = opened.games.group_by(key).len("games")
    for name in ("plate_appearances", "batting_games", "pitching_games"):
        table_rows = opened.table(name)
        if name == "plate_appearances":  # an inning that ended on the bases is stored, but is no plate appearance
            table_rows = table_rows.filter(pl.col("event") != "truncated_pa")
        counts = counts.join(table_rows.group_by(key).len(name), on=key, how="left")
    for row in counts.sort(key).iter_rows():
        table.add_row(*(f"{v:,}" if isinstance(v, int) and i > 2 else str(v or "") for i, v in enumerate(row)))
    console.print(table)
    for part in opened.parts:
        _say(f"  {part['name']}: rows {part['rows'][0]:,} to {part['rows'][1]:,}")


@app.command()
def pretrain(
    out: Out,
    store: StoreOption = Path("store"),
    config: ConfigFile = None,
    init: Annotated[Path | None, typer.Option(help="Run of the same objectives and shape to begin with.")] = None,
    override: Overrides = [],  # noqa: B006  typer reads the default
) -> None:
    """Pre-train an encoder on the store's pitches. The same command goes on with a stopped run."""
    from fullcount.config import PretrainConfig, load
    from fullcount.store import Store
    from fullcount.training.jobs import pretrain as job

    def begun(train: Any) -> None:
        if train.curriculum is not None:
            from fullcount.report.figures import curriculum

            curriculum(train.schedule()).savefig(out / "curriculum.png")

    _print_summary(job(load(PretrainConfig, config, override), Store.open(store), out, init=init, begun=begun), out)


@app.command()
def finetune(
    encoder: Annotated[Path, typer.Option(help="Folder of the pre-training run.")],
    out: Out,
    store: StoreOption = Path("store"),
    config: ConfigFile = None,
    override: Overrides = [],  # noqa: B006
) -> None:
    """Fit a head on a pre-trained encoder. The same command goes on with a stopped run."""
    from fullcount.config import FinetuneConfig, load
    from fullcount.store import Store
    from fullcount.training.jobs import finetune as job

    _print_summary(job(load(FinetuneConfig, config, override), Store.open(store), encoder, out), out)


@app.command()
def embed(
    encoder: Annotated[Path, typer.Option(help="Folder of the pre-training run.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.", dir_okay=False)],
    store: StoreOption = Path("store"),
    role: Annotated[str, typer.Option(help="batter or pitcher")] = "batter",
    since: Annotated[str, typer.Option(help="First date, YYYY-MM-DD.")] = "1988-01-01",
    before: Annotated[str, typer.Option(help="Date after the last one.")] = "2100-01-01",
) -> None:
    """Write one embedding a player and game to a parquet file."""
    from fullcount.projection.embeddings import embedding_table
    from fullcount.store import Store

    table = embedding_table(Store.open(store), encoder, role, _date(since), _date(before))
    out.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(out)
    _say(f"{out}: {table.height:,} embeddings of width {len(table['embedding'][0]) if table.height else 0}")


@app.command()
def simulate(
    run: Annotated[Path, typer.Argument(help="Pre-training run of the objective next_event.")],
    season: Annotated[int, typer.Option(help="Season whose games are played again, with their line-ups.")],
    games: Annotated[int, typer.Option(help="How many.", min=1)] = 500,
    store: StoreOption = Path("store"),
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for batting, pitching and games as CSV.", file_okay=False)
    ] = None,
    history: Annotated[int, typer.Option(help="Earlier games of each pitcher to begin with.", min=0)] = 0,
    rows: Annotated[int, typer.Option(help="Games in lockstep.", min=1)] = 1024,
    seed: Annotated[int, typer.Option(help="Same seed and rows, same games.")] = 0,
) -> None:
    """Simulate games pitch by pitch, and compare their rates with the real season's."""
    from fullcount.projection.simulation import report, simulate_season
    from fullcount.report.tables import show
    from fullcount.store import Store

    opened = Store.open(store)
    result = simulate_season(run, opened, season, games, seed, rows, history)
    show(report(result, opened, season), console, f"{games:,} simulated games of {season}")
    _say(f"{games / result.seconds:.1f} games a second")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        tables = {"batting": result.batting(), "pitching": result.pitching(), "games": result.games()}
        for name, table in tables.items():
            table.write_csv(out / f"{name}.csv")
        _say(f"wrote batting.csv, pitching.csv and games.csv in {out}")
    _notice(opened)


#: How systems are spelled, below the help of the commands that have it; a blank line keeps lines apart.
SPELLINGS = "\n\n".join((
    "Systems:",
    "marcel: Tango's, as published. marcel_plus: regression and ageing fitted statistic by statistic.",
    "marcel_gb, plus_gb: trees learn differences from either; marcel_gb+pitches, plus_gb+pitches: and read pitches.",
    "multitask: a neural net learns the differences. mle: minor-league lines, for whom Marcel does not know.",
    "NAME=BATTER_RUN,PITCHER_RUN: what finetune fitted. NAME=FOLDER: CSVs from elsewhere, NAME_2024_hitters.csv ...",
    "blend:A@B: weights by statistic, learned on earlier seasons.",
    "Behind any:",
    "+reads:pitches,RUN: its rates moved by pitches, by the encoder of a pre-training run, or by both.",
    "+pt: playing time of its own; +lasting: that of who lasts (200 PA, 50 IP); +pt:FILE: your CSV of overrides.",
    "+bands: percentiles, P10 to P90, of every statistic and of true talent; behind +pt.",
))  # fmt: skip


@app.command(epilog=SPELLINGS)
def project(
    season: Annotated[int, typer.Argument(help="Season to project.")],
    out: Out = Path("projections"),
    store: StoreOption = Path("store"),
    system: Annotated[str, typer.Option(help="Who projects, spelled as below.")] = "marcel",
    as_of: Annotated[
        str | None,
        typer.Option(
            help="YYYY-MM-DD; nothing of that day or later is read. Within the season two folders are written: "
            "rest_of_season, and updated, which is that and what was played.",
            show_default="1 March",
        ),
    ] = None,
    team_games: Annotated[
        int | None, typer.Option(help="With --as-of: games of a team in a season of unusual length (2020: 60).", min=1)
    ] = None,
) -> None:
    """Project a season: hitters.csv and pitchers.csv in the FanGraphs layout.

    All columns of that layout are there; those that a system says nothing of (WAR, FPTS, ...) are empty.
    """
    from fullcount.projection.export import export
    from fullcount.projection.in_season import InSeason
    from fullcount.projection.registry import make_system
    from fullcount.projection.system import League, target_season
    from fullcount.store import Store

    opened = Store.open(store)
    league, chosen = League.of(opened), make_system(system, opened)
    if as_of is None:
        if team_games is not None:
            raise FullcountError("--team-games is for what is left of a season: give --as-of too")
        written = {out: chosen.project(date(_year(season), 3, 1), league)}
    else:
        if target_season(_date(as_of)) != season:
            raise FullcountError(f"--as-of {as_of} is not in the season {season} (November 1 to October 31)")
        seen = InSeason.of(opened, chosen, team_games).on(_date(as_of), league)
        if not seen.share:
            _say(f"the store has no game of {season} before {as_of}: what follows is the preseason projection")
        written = {out / "rest_of_season": seen.rest, out / "updated": seen.whole}
    for folder, projection in written.items():
        if not projection.hitters.height + projection.pitchers.height:
            raise FullcountError(f"{system} projects nobody for {season}: the store has no season shortly before it")
        hitters, pitchers = export(projection, folder, opened.table("players"))
        _say(f"wrote {hitters} ({projection.hitters.height:,} players) and {pitchers} ({projection.pitchers.height:,})")
    _notice(opened)


@app.command()
def similar(
    name: Annotated[str, typer.Argument(help="A player's name, accents and capitals as you like, or his MLBAM id.")],
    season: Annotated[int, typer.Option(help="Which of his seasons.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a pre-training run, `--out` of pretrain.")],
    store: StoreOption = Path("store"),
    role: Annotated[str, typer.Option(help="batter or pitcher")] = "batter",
    n: Annotated[int, typer.Option(help="How many seasons to show.", min=1)] = 10,
    before: Annotated[
        int | None, typer.Option(help="Compare with seasons before this one alone.", show_default="all seasons")
    ] = None,
    age_within: Annotated[
        int | None, typer.Option(help="At most so many years older or younger.", min=0, show_default="any age")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="A map of all seasons and his path, as PNG.", dir_okay=False)
    ] = None,
) -> None:
    """Comparables: the seasons most like one of a player's, and what came after them.

    Say: fullcount similar "Jose Ramirez" --season 2018 --encoder runs/mgm

    The first call embeds all games of the store (minutes); what it makes is kept beside the encoder.
    """
    from fullcount.projection.comparables import find_player, player_seasons, seasons_played
    from fullcount.projection.comparables import similar as nearest
    from fullcount.report.figures import career_map
    from fullcount.report.tables import show
    from fullcount.store import Store

    opened = Store.open(store)
    until = None if before is None else date(_year(max(before, season + 1)), 1, 1)
    # before minutes of embedding
    player = find_player(seasons_played(opened, role, until), role, name, season)  # type: ignore[arg-type]
    points = player_seasons(opened, encoder, role, until)
    own = points.table.filter(player=player, season=season)
    found = nearest(points, player, season, n, before, age_within)
    own = own.with_columns(distance=pl.lit(0.0)).select(found.columns)
    table = pl.concat([own, found]).with_columns(Name=pl.format("{} {}", pl.coalesce("Name", "player"), "season"))
    show(table.drop("player", "season"), console)  # a wide table goes on under its first column
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        career_map(points, player).savefig(figure)
        _say(f"wrote {figure}")
    _notice(opened)


@app.command()
def games(
    day: Annotated[str, typer.Option("--date", help="First day, YYYY-MM-DD; nothing of it or later is read.")],
    out: Out = Path("games"),
    store: StoreOption = Path("store"),
    days: Annotated[
        int | None, typer.Option(help="How many days from then on.", min=1, show_default="1, with --two-starts 7")
    ] = None,
    schedule: Annotated[
        Path | None,
        typer.Option(
            help="CSV: date, home, away, and if you like park, home_pitcher, away_pitcher. Teams by FanGraphs' code or "
            "Retrosheet's, pitchers by name or MLBAM id.",
            show_default="the store's games",
        ),
    ] = None,
    two_starts: Annotated[bool, typer.Option("--two-starts", help="Also who starts twice: two_starts.csv.")] = False,
) -> None:
    """Lines of every probable starter, with P(SO > x.5), and of every hitter who plays of late, best points first.

    A hitter's line and points are given that he starts; GS%: of how many of his team's games he did, of late.

    Points: 3 an inning, 1 a strikeout, -1 a hit or walk, -2 an earned run;

    1 a hit, run, RBI, walk or steal, 3 more a home run, -1 a strikeout.
    """
    from fullcount.projection.export import write
    from fullcount.projection.game_lines import game_lines, read_schedule, store_schedule
    from fullcount.report.tables import show
    from fullcount.store import Store

    opened, first, days = Store.open(store), _date(day), days or (7 if two_starts else 1)
    played = store_schedule(opened, first, days) if schedule is None else read_schedule(schedule, opened, first, days)
    lines = game_lines(opened, played, first)
    tables = {"pitchers": lines.pitchers, "hitters": lines.hitters}
    if two_starts:
        tables["two_starts"] = lines.two_starts()
    for name, table in tables.items():
        _say(f"wrote {write(table, out / f'{name}.csv')} ({table.height:,})")
    shown = ("Name", "date", "Team", "opponent", "opponents", "games", "against")
    numbers = {"hitters": ("GS%", "PA", "H", "HR", "R", "RBI", "SB", "points")}
    for name in ("two_starts" if two_starts else "pitchers", "hitters"):
        columns = (*shown, *numbers.get(name, ("IP", "SO", "BB", "H", "ER", "P(SO>5.5)", "points")))
        best = tables[name].select(c for c in columns if c in tables[name].columns).head(20)
        title = f"{name.replace('_', ' ')} from {first} on" + ", given that they start" * (name == "hitters")
        show(best, console, title) if best.height else _say(f"{name}: nobody")
    _notice(opened)


@app.command(epilog=SPELLINGS)
def backtest(
    seasons: Annotated[str, typer.Argument(help="Seasons to judge: 2021-2024, or 2019,2021.")],
    out: Out = Path("backtest"),
    store: StoreOption = Path("store"),
    system: Annotated[
        list[str],
        typer.Option("--system", help="Who is judged, spelled as below; repeat it. The first is the reference."),
    ] = ["marcel"],  # noqa: B006
    cohorts: Annotated[
        str,
        typer.Option(
            help="Whose seasons count: A, 200 PA (50 IP) or more; B, projected for 350 PA (60 IP) or more; B20, of B "
            "who pitched 20 IP; C, everybody, weighted by PA (IP)."
        ),
    ] = "A,B,C",
    shared_playing_time: Annotated[
        bool, typer.Option("--shared-playing-time", help="Give all the first one's PA and IP: only rates differ.")
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws of the paired bootstrap; 0: no intervals.", min=0)] = 2000,
) -> None:
    """Judge systems on seasons that have been played: tables as CSV, and one HTML page."""
    from fullcount.evaluation.backtest import backtest as judge
    from fullcount.projection.registry import make_systems
    from fullcount.projection.system import League
    from fullcount.report.backtest import write_backtest
    from fullcount.store import Store

    opened = Store.open(store)
    result = judge(
        make_systems(system, opened),
        League.of(opened),
        _seasons(seasons),
        cohorts=cohorts.split(","),
        bootstrap=draws,
        playing_time="reference" if shared_playing_time else "own",
    )
    title = f"fullcount backtest {seasons}: {', '.join(system)}"
    for path in write_backtest(result, out, console, title=title, retrosheet=_uses_retrosheet(opened)):
        _say(f"wrote {path}")
    _notice(opened)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="TOML file, as in studies/.", dir_okay=False)],
    out: Out,
    store: StoreOption = Path("store"),
    override: Overrides = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the runs would cost.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Spread the runs over the Ray cluster at this address; local: begin one here.")
    ] = None,
) -> None:
    """Compare configurations over seeds at an equal budget. The same command goes on with what is not finished."""
    from fullcount.config import load
    from fullcount.evaluation.study import StudyConfig, plan, run_study
    from fullcount.report.study import planned, write_study
    from fullcount.report.tables import show
    from fullcount.store import Store

    config, opened = load(StudyConfig, file, override), Store.open(store)
    if dry_run:
        show(
            planned(plan(config, opened, out)), console, f"{config.name}: a run costs, times {len(config.seeds)} seeds"
        )
        return
    result = run_study(config, opened, out, cluster=ray)
    for path in write_study(result, out, console):
        _say(f"wrote {path}")
    if result.failures:
        run, sentence = next(iter(result.failures.items()))
        raise FullcountError(
            f"{len(result.failures)} runs failed, the same command tries them again; {run}: {sentence}"
        )


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the simulated league.")] = 0,
) -> None:
    """The whole path on a simulated league: simulate, pre-train, fit, project, judge. A few minutes, no downloads."""
    from fullcount.demo import run_demo

    run_demo(out, seed, console)


def _say(text: str) -> None:
    """One line, as it is: a path may hold brackets, and a pipe wants no line broken at 80 columns."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _seasons(text: str) -> list[int]:
    wrong = FullcountError(f"seasons {text!r}: write 2021-2024 or 2019,2021")
    try:
        first, dash, last = text.partition("-")
        found = list(range(_year(first), _year(last) + 1)) if dash else [_year(s) for s in text.split(",")]
    except ValueError:
        raise wrong from None
    if not found:
        raise wrong
    return found


def _year(text: str | int) -> int:
    year = int(text)
    if not 1 <= year <= MAXYEAR:
        raise FullcountError(f"season {year}: no such year")
    return year


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise FullcountError(f"date {text!r}: write YYYY-MM-DD") from None


def _uses_retrosheet(store: Any) -> bool:
    return any(p["name"].startswith("retrosheet") for p in store.parts)


def _notice(store: Any) -> None:
    from fullcount.report.html import RETROSHEET

    if _uses_retrosheet(store):
        console.print(RETROSHEET, style="dim")


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in summary.items() if v is not None}
    _say(f"{out}: " + ", ".join(f"{k} {v}" for k, v in shown.items()))


def main() -> None:
    """Entry point: exit code 2 and one sentence on bad use, 130 on Ctrl-C (see `_Commands`)."""
    pl.Config.set_tbl_hide_dataframe_shape(True)
    app()


if __name__ == "__main__":
    main()
