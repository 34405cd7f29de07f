"""What the program's link asks of the jobs that it serves.

Protocols only, below all other files of `client/`: the session calls jobs and streams without knowing
their classes, and their files import the session. The driver's thread calls these methods (after a fork,
the child's only thread calls `disown`), so they are short and never run the user's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from stealmesh_engine import effects as fx
from stealmesh_engine.events import Event
from stealmesh_protocol.messages import JobSpec

if TYPE_CHECKING:
    from stealmesh.refs import Grip


class ClientJob(Protocol):
    """A job that ends with this program: a stream of calls, a map, a reduction or an exploration."""

    spec: JobSpec

    def how_far(self) -> tuple[int, int | None]:
        """Items that are over, and how many there are, as far as that is known. Waits for nothing."""

    def deliver(self, effect: fx.Deliver) -> None:
        """Results or partial results of some items; each item comes exactly once."""

    def running(self, intervals: list[tuple[int, int]]) -> None:
        """Workers have begun these items, given as half-open intervals of indices."""

    def progress(self, words: list[tuple[int, float, float]]) -> None:
        """Running items say how far they are: item, done, total (-1: not known)."""

    def waits(self, item: int) -> None:
        """A worker had begun this item. It is put off: no worker has it, and it runs again later."""

    def spared(self, effect: fx.InputFailed | fx.InputWithdrawn, cause: ClientJob | None) -> None:
        """Items will not run, because of what goes into them: one of the job `cause`. (Single calls only.)"""

    def needs_as_well(self, index: int, grip: Grip) -> None:
        """A result that stays on a node goes into this item. (Single calls only.)"""

    def handed_to_hired(self, index: int) -> None:
        """A hired worker gets this item. (Single calls only.)"""

    def call_off(self) -> None:
        """A person wants it to end: cancel what has not begun, stop what runs. In a thread of the program's."""

    def done(self) -> None:
        """The job is over; nothing comes after this."""

    def broken(self, error: BaseException) -> None:
        """The mesh is of no use any more: end with `error`."""

    def disown(self, error: BaseException) -> None:
        """In a forked child: end with `error`, use no lock of the parent's, call no callback."""


class DurableHandle(Protocol):
    """A handle on a durable job, which lives in the mesh."""

    def shown(self, effect: fx.Accepted | fx.Results | fx.JobGone) -> None:
        """What the job's primary said last."""

    def broken(self, error: BaseException) -> None:
        """The mesh is of no use any more: end with `error`."""

    def disown(self, error: BaseException) -> None:
        """In a forked child: end with `error`, use no lock of the parent's."""

    def also(self, handle: Any) -> None:
        """The program has attached to the job once more: show this handle what comes, too."""


class TaskStream(Protocol):
    """A stream of submitted calls that may have some to send."""

    def feed(self) -> list[Event]:
        """Pack the calls that wait, a few blocks at most."""
