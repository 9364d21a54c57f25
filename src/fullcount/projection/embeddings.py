"""Embeddings of player-games as a table."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl

from fullcount.adaptation.performance import embed
from fullcount.errors import FullcountError
from fullcount.priors import Priors
from fullcount.store import PlayerRole, Store, day_number
from fullcount.training.jobs import load_encoder
from fullcount.windows import History, Window


def embedding_table(store: Store, encoder_run: Path, role: str, since: date, before: date) -> pl.DataFrame:
    """One row a player and game: player, date, game_id, events, embedding (list of d_model float32).

    Games in [since, before), regular season and postseason.
    """
    if role not in get_args(PlayerRole):
        raise FullcountError(f"role {role!r}: choose batter or pitcher")
    encoder, _, _ = load_encoder(encoder_run)
    history = History(store, Window(role, postseason=True))  # type: ignore[arg-type]
    positions = np.flatnonzero((history.days >= day_number(since)) & (history.days < day_number(before)))
    vectors = embed(encoder, history, positions, positions + 1, Priors(store))
    game = np.asarray(store.appearances(role).game)[history.index[positions]]  # type: ignore[arg-type]
    games = store.games.select("game_id", "date")[game.tolist()]
    return pl.DataFrame(
        {
            "player": history.players[positions].astype(np.int32),
            "date": games["date"],
            "game_id": games["game_id"],
            "events": history.events[positions].astype(np.int32),
            "embedding": list(vectors.astype(np.float32)),
        },
        schema_overrides={"embedding": pl.List(pl.Float32)},  # also where there is no game
    )
