"""Future: a `concurrent.futures.Future` that can also be awaited, made by the hundred thousand.

Does what the standard class does, with one difference inside: the futures of one mesh share
one condition instead of owning one each. Making a condition (a lock, a deque, bound methods)
is what a standard future spends its time on, and results arrive in batches: with one shared
condition a batch of 500 is settled under one lock with one wake-up.

The shared condition's lock is re-entrant, so `concurrent.futures.wait` and `as_completed`,
which take the locks of all their futures one after another, work unchanged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import Any, TypeVar

T = TypeVar("T")

_OVER = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED})


class Future(StandardFuture[T]):
    """The result of a task on the mesh. Works with `await` and with all of `concurrent.futures`."""

    def __init__(
        self,
        condition: threading.Condition | None = None,
        on_cancel: Callable[[Future[T]], None] | None = None,
    ) -> None:
        # Deliberately not super().__init__(): it would make a condition for this future alone.
        self._condition = threading.Condition() if condition is None else condition
        self._state = PENDING
        self._result: T | None = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[StandardFuture[T]], object]] = []
        self._on_cancel = on_cancel
        self.index = -1
        """Which item of its job it is; -1 until it is on its way."""

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # 25 ms that most programs can spare: whoever awaits has it loaded

        return asyncio.wrap_future(self).__await__()

    def result(self, timeout: float | None = None) -> T:
        """The task's result; raises its exception, CancelledError, or TimeoutError after `timeout` s."""
        self._wait(timeout)
        try:
            return super().result(0)
        finally:
            self = None  # type: ignore[assignment]  # else its exception's traceback leads back to it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """Cancel unless it is known to run or to be over. A task whose cancellation crosses its
        start on the way may run all the same; its result is dropped and counted."""
        if not super().cancel():
            return False
        with self._condition:
            first = self._state == CANCELLED
            if first and self._on_cancel is not None:
                self.set_running_or_notify_cancel()
        if first and self._on_cancel is not None:
            self._on_cancel(self)
        return True

    def _wait(self, timeout: float | None) -> None:
        """Sleep until it is over. The condition is shared, so being woken proves nothing."""
        if self._state in _OVER:
            return
        until = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while self._state not in _OVER:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return  # the standard method raises TimeoutError
                self._condition.wait(left)

    def _mark_running(self) -> None:
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING


Outcome = tuple[Future[Any], Any, BaseException | None]


def settle(condition: threading.Condition, outcomes: Iterable[Outcome]) -> int:
    """Finish many futures of one mesh at once: (future, result, exception or None).

    Returns how many were over already (cancelled while under way): their results are dropped.
    """
    dropped = 0
    to_call: list[Future[Any]] = []
    with condition:
        for future, result, exception in outcomes:
            if future._state in _OVER:
                dropped += 1
                continue
            future._state = FINISHED
            if exception is None:
                future._result = result
                for waiter in future._waiters:
                    waiter.add_result(future)
            else:
                future._exception = exception
                for waiter in future._waiters:
                    waiter.add_exception(future)
            if future._done_callbacks:
                to_call.append(future)
        condition.notify_all()
    for future in to_call:
        future._invoke_callbacks()  # type: ignore[attr-defined]
    return dropped


__all__ = ["CancelledError", "Future", "InvalidStateError", "settle"]
