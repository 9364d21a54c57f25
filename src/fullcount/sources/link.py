"""The same game, the same plate appearance, in two sources.

Statcast and Retrosheet share players (one register) and teams (one code), not games: Savant numbers a game by
`game_pk`, Retrosheet by home team, date and number. Nor do they number plate appearances alike: Savant has no row for
an intentional walk without a pitch.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from fullcount.errors import FullcountError
from fullcount.fields import AUTOMATIC_CALLS, EVENT_OUTCOME
from fullcount.sources.register import log
from fullcount.sources.tables import Tables, conform

_GAME = ["game_id", "season", "date", "game_type", "league", "park"]
_TURN = ["game_id", "pa_number"]


def link_games(a_games: pl.DataFrame, b_games: pl.DataFrame, minimum: float = 0.99) -> pl.DataFrame:
    """Which `game_id` of `b_games` each `game_pk` of `a_games` is.

    Candidates have the same season, teams and home team, and the same date; or, for a suspended game that one source
    has under the day it was ended, both starting pitchers in common. The best pairs win: same date first, then
    starters, score and number of the game, so that the games of a double header are told apart by who pitched. The
    home team may be the other one if date and both starters agree.

    Args:
        a_games: game_pk, season, date, home_team, away_team, number, home_starter, away_starter; home_score and
            away_score if known.
        b_games: the same with game_id instead of game_pk (a canonical games table).
        minimum: share of `a_games` that must be linked.

    Returns:
        game_pk, game_id: each at most once.

    Raises:
        FullcountError: fewer are linked, with a few that are not.
    """
    teams = ["season", "home_team", "away_team"]
    columns = ["date", "number", "home_starter", "away_starter", "home_score", "away_score"]
    a = a_games.with_columns(pl.lit(None, dtype=pl.Int16).alias(c) for c in columns if c not in a_games.columns)
    a, b = a.select("game_pk", *teams, *columns), b_games.select("game_id", *teams, *columns)
    pairs = a.join(b, on=teams)

    def same(column: str) -> pl.Expr:
        return (pl.col(column) == pl.col(f"{column}_right")).fill_null(False)

    starters = same("home_starter") & same("away_starter")
    # A moved game in which the visitors bat last: the sources may name opposite home teams.
    other = {
        f"{x}_{c}": f"{y}_{c}" for c in ("team", "starter", "score") for x, y in (("home", "away"), ("away", "home"))
    }
    swapped = a.join(b.rename(other), on=teams).select(pairs.columns).filter(same("date") & starters)
    pairs = pl.concat([pairs.filter(same("date") | starters), swapped])
    weights = {"home_starter": 4, "away_starter": 4, "home_score": 2, "away_score": 2, "number": 1}
    pairs = pairs.with_columns(
        _weight=pl.sum_horizontal(same(c).cast(pl.Int32) * w for c, w in {"date": 16, **weights}.items())
    )
    pairs = pairs.sort("_weight", "game_pk", "game_id", descending=[True, False, False])
    games: dict[int, str] = {}
    taken: set[str] = set()
    for game_pk, game_id in pairs.select("game_pk", "game_id").iter_rows():  # a few thousand games
        if game_pk not in games and game_id not in taken:
            games[game_pk] = game_id
            taken.add(game_id)
    links = pl.DataFrame({"game_pk": list(games), "game_id": list(games.values())}).cast(
        {"game_pk": a_games.schema["game_pk"], "game_id": pl.String}
    )
    lost = [str(g) for g in a_games["game_pk"].unique().sort().to_list() if g not in games]
    rate = len(games) / (len(games) + len(lost)) if games or lost else 1.0
    some = f"; not game_pk {', '.join(lost[:5])}" if lost else ""
    log.info("games: %d of %d linked (%.2f %%)%s", len(games), len(games) + len(lost), 100 * rate, some)
    if rate < minimum:
        raise FullcountError(
            f"games: only {100 * rate:.1f} % are in the play-by-play (at least {100 * minimum:g} % needed{some}); "
            "give files of the same seasons"
        )
    return links.sort("game_pk")


def _turns(sc: Tables, rs: Tables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(links game_pk -> game_id; matched plate appearances: `_sc` numbers of a Statcast season -> Retrosheet's).

    Columns of the second: `_sc_game`, `_sc_pa` (Statcast's game_id and pa_number), game_id, pa_number. Matched within
    the half inning by batter and the how-manieth time he bats in it; those left over (a batter replaced in mid-count)
    by their order between two matched ones, where both sources have equally many.
    """
    links = link_games(sc.games, rs.games)
    ids = sc.games.select("game_pk", _sc_game="game_id").join(links, on="game_pk").select("_sc_game", "game_id")
    half = ["game_id", "inning", "top"]
    a = (
        sc.plate_appearances.rename({"game_id": "_sc_game", "pa_number": "_sc_pa"})
        .join(ids, on="_sc_game", maintain_order="left")
        .select("_sc_game", "_sc_pa", *half, "batter")
        .sort("game_id", "_sc_pa")
    )
    b = rs.plate_appearances.join(links, on="game_id", how="semi").select(*_TURN, "inning", "top", "batter").sort(_TURN)
    # Not by half: the batter tells it, also in a game whose home team bats first.
    key = ["game_id", "inning", "batter"]
    nth = pl.int_range(pl.len()).over(key).alias("_nth")
    found = a.with_columns(nth).join(b.with_columns(nth), on=[*key, "_nth"])
    # What is left lies between two matched ones, in both sources.
    a = a.join(found.select("_sc_game", "_sc_pa", _known="pa_number"), on=["_sc_game", "_sc_pa"], how="left")
    b = b.join(found.select(*_TURN, _known="pa_number"), on=_TURN, how="left")
    rest_a, rest_b = _unmatched(a.sort("game_id", "_sc_pa"), half), _unmatched(b.sort(_TURN), half)
    rest = rest_a.join(rest_b, on=[*half, "_after", "_place", "_many"])
    columns = ["_sc_game", "_sc_pa", *_TURN]
    return links, pl.concat([found.select(columns), rest.select(columns)])


def _unmatched(turns: pl.DataFrame, half: list[str]) -> pl.DataFrame:
    """Rows without `_known`, by the last known number before in the half (`_after`), place among such, and how many."""
    turns = turns.with_columns(_after=pl.col("_known").forward_fill().over(half).fill_null(0))
    within = [*half, "_after"]
    place, many = pl.int_range(pl.len()).over(within), pl.len().over(within)
    return turns.filter(pl.col("_known").is_null()).with_columns(_place=place, _many=many)


def agreement(sc: Tables, rs: Tables) -> dict[str, float]:
    """How far a Statcast and a Retrosheet season tell the same story, over the games that both have.

    Returns:
        `games` linked; `plate_appearances` of Retrosheet in them; and shares: `matched` of these found in Statcast;
        `outcome` (eight classes) and `event` that agree among the matched ones, no event being a disagreement;
        `count`: final balls and strikes, among those for which both know it.
    """
    links, turns = _turns(sc, rs)
    mine = sc.plate_appearances.select(_sc_game="game_id", _sc_pa="pa_number", _e="event", _b="balls", _s="strikes")
    theirs = rs.plate_appearances.filter((pl.col("event") != "truncated_pa").fill_null(True))
    theirs = theirs.join(links, on="game_id", how="semi").select(*_TURN, "event", "balls", "strikes")
    both = theirs.join(turns, on=_TURN).join(mine, on=["_sc_game", "_sc_pa"])
    outcome, other = (pl.col(c).replace_strict(EVENT_OUTCOME, default=None) for c in ("event", "_e"))
    counted = both.drop_nulls(["balls", "_b", "strikes", "_s"])

    def share(frame: pl.DataFrame, same: pl.Expr) -> float:
        return float(frame.select(same.fill_null(False).mean()).item() or 0.0)

    return {
        "games": links.height,
        "plate_appearances": theirs.height,
        "matched": both.height / max(theirs.height, 1),
        "outcome": share(both, outcome == other),
        "event": share(both, pl.col("event") == pl.col("_e")),
        "count": share(counted, (pl.col("balls") == pl.col("_b")) & (pl.col("strikes") == pl.col("_s"))),
    }


def align(sc: Tables, rs: Tables) -> Tables:
    """One season out of two: pitches from Statcast, all else from Retrosheet.

    Pitches get Retrosheet's game columns, `pa_number` and event. What Savant has no row for comes from Retrosheet:
    plate appearances and games it lacks, automatic balls and strikes. The plate appearances and games gain what only
    Savant knows (pitch type and speed, exit velocity, launch angle; game_pk).
    """
    links, turns = _turns(sc, rs)
    theirs = rs.plate_appearances.select(
        *_GAME, "pa_number", _event="event", _contact="contact", _inning="inning", _top="top"
    )
    mine = (
        sc.pitches.drop("date", "season", "game_type", "league", "park")
        .rename({"game_id": "_sc_game", "pa_number": "_sc_pa"})
        .join(turns, on=["_sc_game", "_sc_pa"])
        .join(theirs, on=_TURN)
    )
    dropped = sc.pitches.height - mine.height
    log.info("pitches: %d from Statcast, %d have no counterpart in the play-by-play", mine.height, dropped)
    mine = conform(mine, "pitches").with_columns(_theirs=pl.lit(False))
    other = rs.pitches.with_columns(_theirs=pl.lit(True))
    whole = other.join(mine, on=_TURN, how="anti")
    calls = other.filter(pl.col("call").is_in([*AUTOMATIC_CALLS, "intent_ball"]))
    calls = calls.join(mine, on=_TURN, how="semi").join(mine, on=[*_TURN, "pitch_number"], how="anti")
    pitches = pl.concat([mine, whole, calls]).sort("date", *_TURN, "pitch_number")
    pitches = _mend(pitches).join(
        theirs.select(*_TURN, "_event", "_contact"), on=_TURN, how="left", maintain_order="left"
    )
    last = (pl.col("pa_number") != pl.col("pa_number").shift(-1)) | (pl.col("game_id") != pl.col("game_id").shift(-1))
    last = last.fill_null(True)
    hit = last & (pl.col("call") == "in_play") & ((pl.col("_contact") == "bunt") | pl.col("contact").is_null())
    pitches = pitches.with_columns(
        event=pl.when(last).then("_event").otherwise(pl.lit("none")),
        contact=pl.when(hit).then(pl.coalesce("_contact", "contact")).otherwise("contact"),
    )
    known = ["pitch_type", "release_speed", "launch_speed", "launch_angle"]
    seen = pitches.filter(last & ~pl.col("_theirs")).select(*_TURN, pl.col(known).name.prefix("_"))
    pas = rs.plate_appearances.join(seen, on=_TURN, how="left", maintain_order="left")
    pas = pas.with_columns(pl.coalesce(c, f"_{c}").alias(c) for c in known)
    games = rs.games.drop("game_pk").join(links, on="game_id", how="left", maintain_order="left")
    return replace(
        rs,
        pitches=conform(pitches, "pitches"),
        plate_appearances=conform(pas, "plate_appearances"),
        games=conform(games, "games"),
    )


def _mend(pitches: pl.DataFrame) -> pl.DataFrame:
    """What followed a pitch of Statcast, where the next row is one of Retrosheet's and Savant looked past it."""
    same = pl.all_horizontal(pl.col(c) == pl.col(c).shift(-1) for c in ("game_id", "inning", "top"))
    mend = (same & ~pl.col("_theirs") & pl.col("_theirs").shift(-1)).fill_null(False)
    after = {
        "post_outs": pl.col("outs").shift(-1),
        "post_bases": pl.col("bases").shift(-1),
        "runs": (pl.col("bat_score").shift(-1) - pl.col("bat_score")).clip(0).cast(pl.Int8),
    }
    return pitches.with_columns(pl.when(mend).then(e).otherwise(c).alias(c) for c, e in after.items())
