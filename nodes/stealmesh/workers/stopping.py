"""How an exception gets into the task that runs, from outside.

The node writes the chunk and its items that are to stop into the worker's line of shared words, and sends
SIGURG. Python runs the handler between two instructions of the task, and before it goes on to sleep, so it
ends computing and waiting tasks alike. A task that holds the interpreter in one long C call takes no
notice; neither does one that catches the exception or replaces the handler. The node ends such a worker
after a grace (`holding/stopped.py`).

Decides whether what runs now is meant: the words may be about a task that has ended meanwhile. Refuses to
know why it is to end. Nothing is raised outside of the user's code, nothing twice for one order, and nothing
while the task's own thread is at something that must not be cut short (`holds_back`): then it is raised
right after that.

Idea: Go stops its goroutines by SIGURG, because a process that does not know better ignores it and
hardly any library uses it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple, Protocol

from stealmesh.workers import wire
from stealmesh_protocol.errors import TaskStopped

SIGNAL = signal.SIGURG


class AtWork(NamedTuple):
    """One chunk, and where it runs."""

    chunk: int
    item: int
    thread: int
    task: Any = None
    """An asyncio task, if it is a coroutine."""


class Stopping:
    """What runs in this process's main thread now, as far as the handler must know."""

    def __init__(self) -> None:
        self.inside = False
        """The thread is in the user's code, and what is raised there counts as the item's error."""
        self._line: memoryview | None = None
        self._running: Running | None = None
        self._held_back = False
        self._came = False
        """A signal has come while it was held back."""
        self.on_look: Callable[[], object] = lambda: None
        """Called in the main thread when the node asks what this process is at (`stacks.py`)."""

    def at_work(self) -> list[AtWork]:
        """What runs, for people who ask."""
        running = self._running
        if running is None or running.number is None:
            return []
        main = threading.main_thread().ident or 0
        return [AtWork(running.number, running.lo + len(running.results), main)]

    def listen(self, line: memoryview, running: Running) -> None:
        """From now on, obey the words in this line, which are about what is `running`."""
        self._line, self._running = line, running
        signal.signal(SIGNAL, self._raise_in_task)

    def has_stopped_it(self) -> bool:
        """Has the coroutine that runs in this context been cancelled from here?"""
        return False

    def heeded(self) -> None:
        """The task has got its exception."""

    @contextlib.contextmanager
    def holds_back(self) -> Iterator[None]:
        """In the main thread: nothing is raised in this block, but at its end."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
            if self._came:
                self._came = False
                self._raise_in_task(SIGNAL, None)

    def _raise_in_task(self, number: int, frame: Any) -> None:
        if self._line is not None and self._line[wire.LOOKED_AT]:
            self._line[wire.LOOKED_AT] = 0
            self.on_look()
        if self._held_back:
            self._came = True
            return
        line, running = self._line, self._running
        if not self.inside or line is None or running is None:
            return
        if line[wire.STOP_CHUNK] != running.number:
            return
        item = running.lo + len(running.results)
        if line[wire.STOP_LO] <= item < line[wire.STOP_HI]:
            line[wire.STOP_LO] = item + 1
            raise FromOutside


class Running(Protocol):
    """The chunk that runs (`reporting.Here`)."""

    number: int | None
    lo: int

    @property
    def results(self) -> Sized:
        """As many as items before the one that runs."""


class FromOutside(TaskStopped):
    """Raised here. A task may raise TaskStopped itself, as it may raise anything."""

    def __init__(self) -> None:
        super().__init__("the program has stopped this task")
        NOW.heeded()

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskStopped, self.args


FromOutside.__name__ = FromOutside.__qualname__ = TaskStopped.__name__
FromOutside.__module__ = TaskStopped.__module__


NOW = Stopping()
"""A process that runs tasks side by side has another one (stopping_beside.py)."""
