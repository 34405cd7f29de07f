"""Future: a `concurrent.futures.Future` that can also be awaited, made by the hundred thousand.

Does what the standard class does, with two differences inside.

The futures of one mesh share one condition instead of owning one each. A standard future spends most of
its time on making a condition (a lock, a deque, bound methods), and results arrive in batches: with one
shared condition a batch of 500 is settled under one lock with one wake-up. The lock is re-entrant, so
`concurrent.futures.wait` and `as_completed`, which take the locks of all their futures one after
another, work unchanged.

The thread that asks for a result opens it. The mesh's thread only sets the state FINISHED, because
opening runs the user's code, which may be slow, wait for another result, or raise any exception.
Callbacks run in the program's threads (`client/user_threads.py`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
)
from contextlib import AbstractContextManager
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from stealmesh.host.interrupts import WakefulCondition
from stealmesh.refs import Grip, ResultGrip, Stayed
from stealmesh_protocol.apart import LeavesItselfOut
from stealmesh_protocol.errors import MeshError
from stealmesh_protocol.raised import set_context
from stealmesh_protocol.unasked import context_of, traceback_of

T = TypeVar("T")

_OVER = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED})


class ResultSource(Protocol):
    """The results of a chunk as they came (see `client/results.py`)."""

    lo: int
    """The index of the first item."""
    values: list[Any] | None
    """The results in order, once they are open; None as long as they are not, or if an item failed."""

    def turn(self, index: int) -> AbstractContextManager[Any]:
        """A lock under which one thread opens an item; others wait here."""

    def outcome(self, index: int) -> tuple[Any, BaseException | None]:
        """An item's result, or the exception to raise for it. Runs the user's code."""

    def forget(self, index: int) -> None:
        """Drop an item's result: its future has it now."""


class Submission(Protocol):
    """What a future belongs to: a stream of calls, a reduction or an exploration."""

    def cancelled(self, future: Future[Any]) -> None:
        """The program has cancelled it, or stopped it (`future.is_stopped`) while nobody knew it to run."""

    def stop(self, future: Future[Any]) -> bool:
        """The program stops it while it runs. False: it was over at that very moment."""

    def name_of(self, future: Future[Any]) -> str:
        """What to call its task in a sentence."""


_UNREAD = object()


class Future(LeavesItselfOut, StandardFuture[T]):
    """The result of a task on the mesh. Works with `await` and with all of `concurrent.futures`.

    `cancel()` has the standard meaning. A task that a worker has begun is not cancelled, but `stop()`
    ends it. As an argument of another task it is an input: its result takes its place (`client/inputs.py`).
    """

    is_stopped = False
    """The program has stopped it."""

    # What most futures never have, or not while they wait, takes no room in them: there may be a million.
    index = -1
    """Its item's index in the job; -1 until it is on its way."""
    attend: Callable[[Future[Any], float], None] | None = None
    """A hired worker has, or had, its item: the program's thread that waits for it, until that time at the latest, may
    take the answer itself."""
    _result: T | None = None
    _exception: BaseException | None = None
    _told: list[Any] | None = None
    _to_call: list[Callable[[StandardFuture[T]], object]] | None = None

    _parcel: ResultSource | None = None
    """Where the result is until the program asks for it."""

    grip: ResultGrip | None = None
    """Of a result that stayed on the node that made it: keeps it there, and has it brought here."""

    lends: list[Grip] | None = None
    """What keeps the values that its call was given as closed Refs: its result may hold such a Ref."""

    _trace: Any = _UNREAD
    """Of its exception, without the frames of its readers."""

    on_interrupt: Callable[[], object] | None = None
    """Called after Ctrl-C while the program waited for the result."""

    is_awaited = False
    """A thread sleeps, or slept, until it is over. Of others nobody hears: a program that waits for the last of ten
    thousand would be woken as often."""

    _wanted = False
    """Somebody is going to read the result as soon as it is over, and must not wait for octets then."""

    def __init__(
        self,
        condition: threading.Condition | None = None,
        submission: Submission | None = None,
    ) -> None:
        # Deliberately not super().__init__(): it would make a condition for this future alone.
        self._condition = WakefulCondition() if condition is None else condition
        self._state = PENDING
        self._submission = submission

    if TYPE_CHECKING:  # they are lists as ever to those who use them
        _done_callbacks: list[Callable[[StandardFuture[T]], object]]
    else:

        @property
        def _waiters(self):
            """What `wait` and `as_completed` have told it of themselves."""
            if self._told is None:
                self._told = []
            return self._told

        @property
        def _done_callbacks(self):
            if self._to_call is None:
                self._to_call = []
            return self._to_call

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # 25 ms that other programs save: a program that awaits has it loaded

        if self._state == FINISHED and self.grip is not None:  # the loop must not wait for octets
            return asyncio.to_thread(self.result).__await__()
        self._wanted = True
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        """Opens no result, and runs no code of an exception's."""
        with self._condition:
            state = self._state.lower()
            if self._state != FINISHED:
                told = ""
            elif self._parcel is not None:
                told = ", not opened yet"
            elif self._exception is not None:
                told = f" raised {type(self._exception).__name__}"
            else:
                told = f" returned {type(self._result).__name__}"
            return f"<{type(self).__name__} at {id(self):#x} state={state}{told}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from stealmesh.notebook import looks

        return looks.html_of(looks.future, self)

    @property
    def task_name(self) -> str:
        """What to call its task in a sentence."""
        return "a task" if self._submission is None else self._submission.name_of(self)

    def result(self, timeout: float | None = None) -> T:
        """The task's result. Raises its exception, CancelledError, or TimeoutError after `timeout` s."""
        if self._state != FINISHED or self._parcel is not None:
            self._wait_over(timeout)
        error = self._exception
        if error is None:
            if self.grip is not None:
                self._bring(timeout)
            return self._result  # type: ignore[return-value]
        context = self._as_it_came(error)
        try:
            raise error
        finally:
            if context is not None:
                set_context(error, context)
            # Breaks the cycle of the exception, its traceback and this frame.
            del self, error, context

    def _as_it_came(self, error: BaseException) -> BaseException | None:
        """Take off the frames of those who have read this result before. Returns the error's context."""
        if self._trace is _UNREAD:
            self._trace = traceback_of(error)
        BaseException.with_traceback(error, self._trace)
        return context_of(error)

    def _bring(self, timeout: float | None) -> None:
        """Have the result here, once. Raises ValueLost, CannotLoad, TimeoutError."""
        grip = self.grip
        if grip is not None and type(self._result) is Stayed:
            self._result = grip.open(None, timeout)
            grip.came_home()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's exception, or None. Raises CancelledError, or TimeoutError after `timeout` s."""
        if not self._condition._is_owned():  # type: ignore[attr-defined]
            self._wait_over(timeout)
            return self._exception
        # `wait(..., FIRST_EXCEPTION)` calls this while it holds the lock of all futures.
        held = self._condition._release_save()  # type: ignore[attr-defined]
        try:
            self._wait_over(timeout)
        finally:
            self._condition._acquire_restore(held)  # type: ignore[attr-defined]
        return self._exception

    def cancel(self) -> bool:
        """Cancel unless it is known to run or to be over; True if it is cancelled.

        A task that a node starts before it hears of the cancellation runs; its result is dropped and
        counted.
        """
        if not super().cancel():
            return False
        with self._condition:
            first = self._state == CANCELLED
            if first and self._submission is not None:
                self.set_running_or_notify_cancel()
        if first and self._submission is not None:
            self._submission.cancelled(self)
        return True

    def stop(self) -> bool:
        """Stop the task, also while it runs. True: no result comes of it. False: it was over already.

        A task that is not known to run is cancelled, so that `result()` raises CancelledError. Of one that
        runs, `result()` raises TaskStopped from now on. In the task itself TaskStopped is raised; a task
        that does not end by that within 0.6 s, because it catches it or is in one long C call, ends with
        its worker process. Its neighbours in that process run again; nothing else is lost.
        """
        with self._condition:
            if self._state in _OVER:
                return False
            self.is_stopped = True
        return self.cancel() or (self._submission is not None and self._submission.stop(self))

    def add_done_callback(self, fn: Callable[[StandardFuture[T]], object]) -> None:
        """Have `fn(future)` called when it is over, in a thread that the mesh keeps for callbacks.

        If it is over already, `fn` is called at once in this thread.
        """
        self._wanted = True
        self.when_over(fn)

    def when_over(self, fn: Callable[[StandardFuture[T]], object]) -> None:
        """The same for one that does not read the result."""
        with self._condition:
            if self._state not in _OVER:
                if self._to_call is None:
                    self._to_call = []
                self._to_call.append(fn)
                return
        self._call(fn)

    # ------------------------------------------------------------ inside

    def _wait_over(self, timeout: float | None) -> None:
        """Sleep until it is over, and open the result. Raises CancelledError, TimeoutError."""
        if self._state != FINISHED:
            self._wait(timeout)
            if self._state != FINISHED:
                raise CancelledError if self._state in _OVER else TimeoutError
        if self._parcel is not None:
            self._open()

    def _wait(self, timeout: float | None) -> None:
        """Sleep until it is over. The condition is shared, so being woken proves nothing."""
        if self._state in _OVER:
            return
        until = None if timeout is None else time.monotonic() + timeout
        try:
            if self.attend is not None:
                self.attend(self, inf if until is None else until)
            with self._condition:
                self.is_awaited = True
                while self._state not in _OVER:
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        return
                    self._condition.wait(left)
        except KeyboardInterrupt:
            if self.on_interrupt is not None:
                self.on_interrupt()
            raise

    def _open(self) -> None:
        """Take the result out of its chunk, once."""
        parcel = self._parcel
        if parcel is None:
            return
        values = parcel.values
        if values is None:
            with parcel.turn(self.index):
                values = parcel.values
                if values is None and self._parcel is not None:
                    self._open_alone(parcel)
        if values is not None:
            self._result = values[self.index - parcel.lo]
            self._parcel = None
        self.lends = None  # a Ref in the result keeps its value itself

    def _open_alone(self, parcel: ResultSource) -> None:
        """An item of this chunk has failed, or its results came packed one by one."""
        result, error = parcel.outcome(self.index)
        if error is None:
            self._result = result
        else:
            self._exception = error
        self._parcel = None
        parcel.forget(self.index)

    def is_over(self) -> bool:
        """Without a lock."""
        return self._state in _OVER

    def _mark_running(self) -> None:
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING

    def _mark_waiting(self) -> None:
        """It was put off: no worker has it, and it may be cancelled again."""
        with self._condition:
            if self._state == RUNNING:
                self._state = PENDING

    def drop_callbacks(self) -> None:
        """In a forked child: the callbacks belong to the parent, which calls them itself."""
        self._to_call = None

    def _invoke_callbacks(self) -> None:
        """After `cancel()`, in the thread that cancels."""
        for callback in self._done_callbacks:
            self._call(callback)

    def _bring_for_callbacks(self, grip: ResultGrip) -> None:
        """Callbacks read the result, in a loop that must not wait perhaps. Of one that was to stay (`keep=True`)
        we do not know it. If it is lost, who reads it hears so."""
        if not grip.asked_for:
            with contextlib.suppress(MeshError):
                self._bring(None)

    def _call(self, callback: Callable[[StandardFuture[T]], object]) -> None:
        try:
            callback(self)
        except KeyboardInterrupt:
            raise  # by Ctrl-C: this thread is the caller's
        except BaseException:  # noqa: BLE001  logged, as in the standard library
            LOGGER.exception("exception calling callback for %r", self)

    def _tell(self) -> None:
        """Open the result and tell waiters and callbacks. Runs in a thread of the program's."""
        self._open()
        if self._wanted and self.grip is not None:
            self._bring_for_callbacks(self.grip)
        failed = self._exception is not None
        with self._condition:
            for waiter in self._told or ():
                if _minds_failures(waiter):
                    (waiter.add_exception if failed else waiter.add_result)(self)
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:  # noqa: BLE001  logged, as in the standard library
                LOGGER.exception("exception calling callback for %r", self)


def _minds_failures(waiter: Any) -> bool:
    """True for the waiter of `wait(..., FIRST_EXCEPTION)`, which is told after the result is opened."""
    return bool(getattr(waiter, "stop_on_exception", False))


Outcome = tuple[Future[Any], Any, BaseException | None]
Telling = Callable[[list[Callable[[], None]]], None]
"""Has all of these functions called in a thread of the program's."""


def settle(condition: WakefulCondition, tell: Telling, outcomes: list[Outcome]) -> int:
    """Finish many futures of one mesh at once: (future, result, exception or None).

    Returns how many were over already (cancelled while under way): their results are dropped. Empties
    the list, so that no value of the user's ends in the thread that settles.
    """
    dropped = 0
    to_tell: list[Callable[[], None]] = []
    with condition:
        wakes = condition.wants_all > 0
        for future, result, exception in outcomes:
            if future._state in _OVER:
                dropped += 1
                continue
            future._result = result
            future._exception = exception
            future._state = FINISHED
            wakes = wakes or future.is_awaited
            if future._told or future._to_call:
                _announce(future, to_tell)
        if wakes:
            condition.notify_all()
    if to_tell:
        outcomes.clear()
        del future, result, exception
        tell(to_tell)
    return dropped


def arrive(
    condition: WakefulCondition, tell: Telling, futures: list[Future[Any]], parcel: ResultSource
) -> int:
    """The same for futures with all their results in one chunk."""
    dropped = 0
    to_tell: list[Callable[[], None]] = []
    with condition:
        wakes = condition.wants_all > 0
        for future in futures:
            if future._state in _OVER:
                dropped += 1
                continue
            future._parcel = parcel  # before the state: readers do not wait for the lock
            future._state = FINISHED
            wakes = wakes or future.is_awaited
            if future._told or future._to_call:
                _announce(future, to_tell)
        if wakes:
            condition.notify_all()
    if to_tell:
        futures.clear()
        del future
        tell(to_tell)
    return dropped


def _announce(future: Future[Any], to_tell: list[Callable[[], None]]) -> None:
    """Wake plain waiters. What needs the open result, or runs the user's code, is left to `_tell`."""
    later = bool(future._to_call)
    for waiter in future._told or ():
        if _minds_failures(waiter):
            later = True
        else:
            waiter.add_result(future)
    if later:
        to_tell.append(future._tell)


__all__ = ["CancelledError", "Future", "InvalidStateError", "arrive", "settle"]
