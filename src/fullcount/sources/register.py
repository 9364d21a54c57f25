"""Who is who: the Chadwick register, and the joins by which every source reaches the one canonical player id.

Also the one way text tables are read (`read_csv`): plain or gzip, every column as text, bad files told apart in
words a user can act on.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from fullcount.errors import FullcountError
from fullcount.sources.tables import PLAYERS, Tables, conform

log = logging.getLogger("fullcount")

PathLike = str | Path

#: What people write for "no value".
NULLS = ["", "NA", "NaN", "nan", "null", "None", "<NA>"]

_KEYS = {"key_retro", "key_bbref", "key_fangraphs"}
_REQUIRED = ("key_mlbam", "name_last", "name_first")


def read_bytes(path: PathLike) -> bytes:
    """The file's bytes, unpacked when they are gzip. FullcountError when absent, empty, cut short or a web page."""
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError as error:
        raise FullcountError(f"{path}: no such file; give the path of an existing one") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FullcountError(f"{path}: the gzip file is cut short or damaged; download it again") from error
    except OSError as error:
        raise FullcountError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if not data.strip():
        raise FullcountError(f"{path}: the file is empty; download it again")
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise FullcountError(f"{path}: line 1 is a web page, not a table (an error page was saved); download it again")
    return data


def require(columns: Iterable[str], required: Sequence[str], path: PathLike) -> None:
    """FullcountError that names the first of `required` not in `columns`."""
    have = set(columns)
    missing = [c for c in required if c not in have]
    if missing:
        more = f" (and {', '.join(missing[1:])})" if missing[1:] else ""
        raise FullcountError(f"{path}: required column '{missing[0]}' is missing{more}; keep the source's own header")


def read_csv(path: PathLike, required: Sequence[str] = (), columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A CSV (gzip or not) with every column as text, only `columns` where given (those present)."""
    data = read_bytes(path)
    try:
        header = pl.read_csv(data, n_rows=0, infer_schema=False, encoding="utf8-lossy").columns
        require(header, required, path)
        keep = None if columns is None else [c for c in header if c in set(columns)]
        return pl.read_csv(data, columns=keep, infer_schema=False, null_values=NULLS, encoding="utf8-lossy")
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise FullcountError(f"{path}: not a well-formed CSV ({first}); mend the line or download it again") from error


def integer(column: str) -> pl.Expr:
    """Text or float ids ("650490.0") as whole numbers; what is no number becomes null."""
    return pl.col(column).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)


def birth_date(year: str, month: str, day: str) -> pl.Expr:
    """The date of three text columns; null when one is missing or there is no such day."""
    parts = [
        pl.col(c).cast(pl.String).str.strip_suffix(".0").str.zfill(n) for c, n in ((year, 4), (month, 2), (day, 2))
    ]
    return pl.concat_str(parts, separator="-").str.to_date("%Y-%m-%d", strict=False)


def merge_players(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row a player: of each column the first value known, in the order of `parts` (canonical players tables)."""
    everyone = pl.concat([conform(p, "players") for p in parts])
    twice = everyone.filter(pl.col("player").is_duplicated())
    if twice.height:  # the slow way only for those who need it
        known = pl.exclude("player").drop_nulls().first()
        merged = twice.group_by("player", maintain_order=True).agg(known)
        everyone = pl.concat([everyone.filter(~pl.col("player").is_duplicated()), merged.select(everyone.columns)])
    return everyone.sort("player")


def read(paths: PathLike | Sequence[PathLike]) -> Tables:
    """The players of one or more Chadwick register files (`people*.csv`, gzip or not), in the order given.

    Rows without an MLBAM id are left out. A player in several rows is merged: the first value known wins, so the
    majors' file goes first. A birth date that is not complete is null.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise FullcountError("register: no file given; pass at least one people CSV of the Chadwick register")
    return Tables.of(players=merge_players([_read_one(f) for f in files]))


def _read_one(path: PathLike) -> pl.DataFrame:
    raw = read_csv(path, _REQUIRED)
    text = {c: pl.col(c) for c in _KEYS if c in raw.columns}
    if {"birth_year", "birth_month", "birth_day"} <= set(raw.columns):
        text["birth_date"] = birth_date("birth_year", "birth_month", "birth_day")
    frame = raw.select(
        player=integer("key_mlbam"), first_name=pl.col("name_first"), last_name=pl.col("name_last"), **text
    )
    return conform(frame.drop_nulls("player"), "players")


def report_hits(found: int, missing: Sequence[str], what: str, minimum: float = 0.99) -> None:
    """Log the share of ids that were matched; FullcountError below `minimum`, naming a few that were not."""
    total = found + len(missing)
    rate = found / total if total else 1.0
    some = ", ".join(missing[:5])
    log.info("%s: %d of %d ids matched (%.2f %%)%s", what, found, total, 100 * rate, f"; not {some}" if missing else "")
    if rate < minimum:
        raise FullcountError(
            f"{what}: only {100 * rate:.1f} % of {total} ids are in the register (at least {100 * minimum:g} % needed; "
            f"missing {some}); give a newer or fuller register"
        )


def join_ids(
    frame: pl.DataFrame,
    key: str,
    register: pl.DataFrame,
    register_key: str,
    what: str,
    minimum: float = 0.99,
) -> pl.DataFrame:
    """`frame` with a column `player` (Int32, null where unknown): its `key` looked up in the register's `register_key`.

    The hit rate counts distinct non-null ids; it is logged, and below `minimum` it is a FullcountError.
    """
    book = (
        register.select(pl.col(register_key).alias(key), pl.col("player").alias("_player"))
        .drop_nulls()
        .unique(key, keep="first", maintain_order=True)
    )
    # When the key is MLBAM itself the two columns share one source, hence the alias above.
    ids = frame.select(pl.col(key).cast(book.schema[key])).drop_nulls().unique().sort(key)
    missing = ids.join(book, on=key, how="anti")[key].cast(pl.String).to_list()
    report_hits(ids.height - len(missing), missing, what, minimum)
    joined = frame.with_columns(pl.col(key).cast(book.schema[key])).join(
        book, on=key, how="left", maintain_order="left"
    )
    return joined.with_columns(pl.col("_player").cast(PLAYERS["player"]).alias("player")).drop("_player")
