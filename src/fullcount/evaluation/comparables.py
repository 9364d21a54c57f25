"""Do comparables tell what comes next? The next season of the nearest players' seasons against that of the player.

    python -m fullcount.evaluation.comparables SEASON ... --store STORE --encoder RUN [--role batter|pitcher]

Of everybody with a point in the season before the target, the next-season rates of his ten nearest (of seasons whose
next one was over by then, weighted by playing time), less the league's of that season. Rivals choose the ten otherwise:
`rates`, nearest in this season's rates; `both`, in embedding and rates together; `age`, at random among those of his
age. `own` is his own rate of the season before.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import Array, Paired, paired_bootstrap, pearson
from fullcount.projection.comparables import ROLE, Points, fit_space, player_seasons
from fullcount.projection.system import EXPOSURE
from fullcount.store import PlayerRole, Store

#: Rates that are judged, and by which `rates` finds neighbours.
JUDGED: dict[PlayerRole, tuple[str, ...]] = {"batter": ("K%", "BB%", "HR%"), "pitcher": ("K%", "BB%", "HR/9")}
RATES: dict[PlayerRole, tuple[str, ...]] = {
    "batter": ("K%", "BB%", "HR%", "AVG"), "pitcher": ("K%", "BB%", "HR/9", "WHIP"),
}  # fmt: skip
#: Least PA or IP of the target season.
LEAST: dict[PlayerRole, float] = {"batter": 200.0, "pitcher": 50.0}


def judge(points: Points, seasons: Sequence[int], n: int = 10, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """A row per statistic and way: n, r, and how much more the embedding's r is, `gain`, with its 95 % interval.

    Statistics less their season's mean; `seasons` are targets. FullcountError for a target that nobody has.
    """
    rng, role = np.random.default_rng(seed), points.role
    columns = [*RATES[role], *(f"next {c}" for c in JUDGED[role])]
    table = points.table.with_columns((pl.col(c) - pl.col(c).mean()).over("season", "league") for c in columns)
    lines = table.select(RATES[role]).fill_null(0.0).to_numpy()
    came = table.select(f"next {c}" for c in JUDGED[role]).to_numpy()
    weight = table[f"next {EXPOSURE[ROLE[role]]}"].fill_null(0.0).to_numpy()
    player, season = table["player"].to_numpy(), table["season"].to_numpy()
    age = table["age"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    said: dict[str, list[Array]] = {}
    asked: list[NDArray[np.int64]] = []
    for target in seasons:
        known, pool = season < target, np.flatnonzero((season < target - 1) & (weight > 0))
        now = np.flatnonzero((season == target - 1) & (weight >= LEAST[role]))
        if not len(now):
            raise FullcountError(f"nobody has a season {target - 1} and {target} to be judged: ingest both")
        scaled = lines / lines[known].std(axis=0)
        together = Points(role, points.table, np.column_stack([points.vectors, scaled]))
        same_age = ~(np.abs(age[now][:, None] - age[pool]) <= 1)
        ways = {
            "embedding": _cosines(points, known, now, pool),
            "rates": cdist(scaled[now], scaled[pool]),
            "both": _cosines(together, known, now, pool),
            "age": same_age + rng.random(same_age.shape),
        }
        for way, distance in ways.items():
            distance[player[now][:, None] == player[pool]] = np.inf
            near = pool[np.argsort(distance, axis=1, kind="stable")[:, :n]]
            mean = (came[near] * weight[near][..., None]).sum(axis=1) / weight[near].sum(axis=1)[:, None]
            said.setdefault(way, []).append(mean)
        said.setdefault("own", []).append(lines[now][:, [RATES[role].index(c) for c in JUDGED[role]]])
        asked.append(now)
    rows = []
    for k, stat in enumerate(JUDGED[role]):
        for way, values in said.items():
            pairs = [
                Paired(player[now], came[now, k], x[:, k], ours[:, k])
                for now, x, ours in zip(asked, values, said["embedding"], strict=True)
            ]
            r = float(np.mean([pearson(p.first, p.actual) for p in pairs]))
            gain = paired_bootstrap(pearson, pairs, draws)._asdict() if way != "embedding" else {}
            row = {"stat": stat, "way": way, "n": sum(len(p.actual) for p in pairs), "r": r}
            rows.append(row | {name: gain.get(f) for name, f in (("gain", "value"), ("low", "low"), ("high", "high"))})
    return pl.DataFrame(rows, infer_schema_length=None)


def _cosines(points: Points, known: NDArray[np.bool_], now: NDArray[np.int64], pool: NDArray[np.int64]) -> Array:
    """1 - cosine [now, pool], in the space of what is known."""
    coordinates = fit_space(points.where(pl.Series(known))).of(points)
    return np.asarray(cdist(coordinates[now], coordinates[pool], "cosine"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Comparables' next seasons against the players'.")
    parser.add_argument("seasons", type=int, nargs="+")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--role", default="batter")
    given = parser.parse_args()
    points = player_seasons(Store.open(given.store), given.encoder, given.role, date(max(given.seasons), 1, 1))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, float_precision=3):
        print(judge(points, given.seasons))


if __name__ == "__main__":
    told(main)
