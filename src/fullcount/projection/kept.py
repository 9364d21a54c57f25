"""What a league has been asked is remembered, and both roles are asked at once.

A backtest asks the same of many seasons: every system that learns from earlier ones asks what was known before each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from threadpoolctl import threadpool_limits

from fullcount.projection.system import ROLES, League, Role

P = ParamSpec("P")
T = TypeVar("T")

_KEPT: WeakKeyDictionary[League, dict[Hashable, Future[object]]] = WeakKeyDictionary()
_ASKING = Lock()


def kept(make: Callable[Concatenate[League, P], T], league: League, *dated: P.args, **options: P.kwargs) -> T:
    """`make(league, *dated)`, remembered as long as `league` lives: a backtest asks the same of many seasons.

    `make` may read nothing of the league that `dated` does not date. Threads that ask the same wait for the first.
    """
    key = (make, *dated, *options.items())
    with _ASKING:
        store = _KEPT.setdefault(league, {})
        first = key not in store
        answer = store.setdefault(key, Future())
    if first:
        try:
            answer.set_result(make(league, *dated, **options))
        except BaseException as error:
            with _ASKING:
                del store[key]
            answer.set_exception(error)
    return cast(T, answer.result())


def by_role(make: Callable[[Role], T]) -> list[T]:
    """`make` of hitters and of pitchers, on two cores: trees, tables and matrices let another thread run.

    Each has matrix products of its own on one core; two pools of as many threads as cores wait for one another.
    """
    with _one_core_each(), ThreadPoolExecutor(len(ROLES)) as threads:
        return list(threads.map(make, ROLES))


_LIMITS: list[threadpool_limits] = []


@contextmanager
def _one_core_each() -> Iterator[None]:
    """Limits are the process's: the first who enters sets them, the last who leaves lifts them."""
    with _ASKING:
        _LIMITS.append(_LIMITS[0] if _LIMITS else threadpool_limits(1))
    try:
        yield
    finally:
        with _ASKING:
            limits = _LIMITS.pop()
            if not _LIMITS:
                limits.restore_original_limits()
