"""`map` over the futures of other tasks: each item waits for its own inputs and for nothing else.

The items of a map travel in blocks, in order, and a block with one item that is not there yet would hold up
its neighbours. So a map over a list of futures is a submit for each item. Decides which maps are such. A
future that lies elsewhere in the input of a map is found when its block is packed (`feeding.py`), which
then waits for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import islice
from typing import Any, TypeVar

from stealmesh.futures import Future
from stealmesh.tasks import OneByOne, is_vectorized
from stealmesh_protocol.unasked import is_a

T = TypeVar("T")


def is_over_futures(iterables: tuple[Iterable[Any], ...]) -> bool:
    """Is one of them a list or a tuple that begins with a future?"""
    return any(
        is_a(each, (list, tuple)) and len(each) > 0 and is_a(each[0], Future) for each in iterables
    )


def map_futures(
    submit: Callable[..., Future[T]],
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    *,
    ahead: int | None,
    until: float | None,
    ordered: bool,
) -> FutureResults[T]:
    """The results, in order unless `ordered` is False. Submits at once as many as may be `ahead`."""
    fn = OneByOne(fn) if is_vectorized(fn) else fn
    calls = zip(*iterables, strict=False)
    pending = deque(submit(fn, *arguments) for arguments in islice(calls, ahead))
    further = (submit(fn, *arguments) for arguments in calls)
    return FutureResults(pending, _results(pending, further, until, ordered))


class FutureResults(Iterator[T]):
    """The results of such a map."""

    def __init__(self, pending: deque[Future[T]], results: Generator[T, None, None]) -> None:
        self._pending = pending
        self._results = results

    def __next__(self) -> T:
        return next(self._results)

    def close(self) -> None:
        """Stop here: what has not begun is cancelled."""
        self._results.close()
        for future in list(self._pending):
            future.cancel()

    def stop(self) -> None:
        """Stop here, and stop the tasks that run as well (see `Future.stop`)."""
        for future in list(self._pending):
            future.stop()
        self.close()


def _results(
    pending: deque[Future[T]],
    further: Iterator[Future[T]],
    until: float | None,
    ordered: bool,
) -> Generator[T, None, None]:
    try:
        while pending:
            if not ordered:
                _bring_forward(pending, _left(until))
            value = pending[0].result(_left(until))
            pending.popleft()
            pending.extend(islice(further, 1))
            yield value
            del value
    finally:
        for future in pending:
            future.cancel()


def _bring_forward(pending: deque[Future[T]], left: float | None) -> None:
    """Put one that is over in front, if any is within `left` seconds."""
    for over in wait(pending, left, FIRST_COMPLETED).done:
        pending.remove(over)  # type: ignore[arg-type]
        pending.appendleft(over)  # type: ignore[arg-type]
        return


def _left(until: float | None) -> float | None:
    return None if until is None else until - time.monotonic()
