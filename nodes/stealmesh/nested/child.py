"""ChildFuture: the future of a task inside a task.

It costs a few attributes, and nothing runs because of it. A thread that calls `result()` or `exception()` runs
the child itself, at once. All other ways to wait (`concurrent.futures.wait`, a callback, `await`, `done()` in a
loop, a timeout) have it run in another thread, so that they keep their meaning. Decides which is which. Refuses to know how a child runs (`family.py`).

Idea: lazy task creation (Mohr, Kranz, Halstead 1990): a future is a promise to call, until somebody takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any, Protocol

from stealmesh.futures import Future
from stealmesh_protocol.raised import set_context

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Runner(Protocol):
    """What a child belongs to (`family.Family`)."""

    condition: Any
    """Shared by all children of the family."""
    lock: Any
    """The condition's lock: held while a child changes its state."""

    def run(self, child: ChildFuture) -> None:
        """In this thread, unless somebody has begun it."""

    def have_run(self, child: ChildFuture) -> None:
        """In another thread, soon."""

    def bring_back(self, child: ChildFuture) -> bool:
        """A child that is away, unless it has begun there. True: it has not begun."""

    def wait_for(self, child: ChildFuture, timeout: float | None) -> None:
        """Until it is over, or `timeout` seconds are."""


class ChildFuture(Future[Any]):
    """The result of a task that a task has submitted: a `Future` like any other."""

    # One of these a task: what most children never change is the class's.
    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _done_callbacks: Any = ()
    _watchers: list[Any] | None = None
    _submission = None
    grip = lends = None
    """Its result is in this process."""
    index = -1
    pile: Any = None
    """Where it runs."""
    away: Any = None
    """It has been given to the mesh (`away.Away`), and is RUNNING here as long as it is there."""
    stays = False
    """It was away, and came back."""
    report: Callable[[float, float | None], object] | None = None
    """Hears what it says of its progress."""

    def __init__(self, family: Runner, call: Call | None) -> None:
        # Deliberately no super().__init__(): see above.
        self._family = family
        self.call = call
        """None from the moment when it runs, or is cancelled."""

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        return self._family.condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        """A thread that looks at this list is about to sleep until the child is over."""
        if self._watchers is None:
            self._watchers = []
        if self._state == PENDING or self.away is not None:
            self._family.have_run(self)
        return self._watchers

    @property
    def task_name(self) -> str:
        call = self.call
        return "a task" if call is None else getattr(call[0], "__qualname__", "a task")

    def result(self, timeout: float | None = None) -> Any:
        """The task's result; runs it, if nobody has begun it. Raises its exception, CancelledError, or
        TimeoutError after `timeout` s."""
        if self._state != FINISHED:
            if self._state == PENDING and timeout is None:
                self._family.run(self)
            if self._state != FINISHED:
                self._wait_over(timeout)
        error = self._exception
        if error is None:
            return self._result
        context = self._as_it_came(error)
        try:
            raise error
        finally:
            if context is not None:
                set_context(error, context)
            # Breaks the cycle of the exception, its traceback and this frame.
            del self, error, context

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's exception, or None; runs it as `result` does."""
        if self._state != FINISHED:
            if self._state == PENDING and timeout is None:
                self._family.run(self)
            self._wait_over(timeout)
        return self._exception

    def done(self) -> bool:
        """Is it over? A child that has not begun is begun in another thread: a loop that asks ends."""
        if self._state == PENDING or self.away is not None:
            self._family.have_run(self)
        return super().done()

    def cancel(self) -> bool:
        """Cancel it unless it has begun; True if it is cancelled."""
        if self.away is not None:
            self._family.bring_back(self)
        with self._family.lock:
            if self._state != PENDING:
                return self._state == CANCELLED_AND_NOTIFIED
            self.call = None
            self.end(CANCELLED_AND_NOTIFIED, None, None)
        self.call_back()
        return True

    def add_done_callback(self, fn: Callable[[StandardFuture[Any]], object]) -> None:
        """Have `fn(future)` called when it is over, in the thread that ran it."""
        with self._family.lock:
            if self._state in (PENDING, RUNNING):
                self._done_callbacks = [*self._done_callbacks, fn]
                if self._state == PENDING or self.away is not None:
                    self._family.have_run(self)
                return
        self._call(fn)

    when_over = add_done_callback

    def drop_callbacks(self) -> None:
        self._done_callbacks = ()

    # ------------------------------------------------------------ inside

    def _wait(self, timeout: float | None) -> None:
        if self._state == PENDING or (self.away is not None and timeout is not None):
            self._family.have_run(self)
        self._family.wait_for(self, timeout)

    def _wait_over(self, timeout: float | None) -> None:
        if self._state in (PENDING, RUNNING):
            self._wait(timeout)
        if self._state != FINISHED:
            raise CancelledError if self._state == CANCELLED_AND_NOTIFIED else TimeoutError

    def begins(self, pile: Any) -> bool:
        """With the family's lock: nobody else may begin it. False: somebody has."""
        if self._state != PENDING:
            return False
        self._state = RUNNING
        self.pile = pile
        return True

    def end(self, state: str, value: Any, error: BaseException | None) -> None:
        """With the family's lock: it is over."""
        self._result, self._exception = value, error
        self._state = state
        if self.away is not None:
            self.away = self.call = None
        for waiter in self._watchers or ():
            if state == CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(self)
            elif error is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)

    def call_back(self) -> None:
        """It is over, and the lock is free: call the callbacks."""
        if self._done_callbacks:
            self._invoke_callbacks()
