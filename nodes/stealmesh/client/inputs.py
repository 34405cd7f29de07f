"""Calls that wait for the results of other calls.

A future among the arguments of a call is an input. The arguments are pickled when the call is submitted, and
the inputs leave themselves out (`stealmesh_protocol.apart`); when the last of them is there, their values go along beside
the arguments. Decides when that is, and that a call fails or is cancelled at once when an input does, with
the error of the input that failed first. No worker waits for an input.

Refuses to know what an input is the future of, and how a call gets its number (`submit.py`). Callbacks of
the inputs come in the program's own threads, which open their results.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from stealmesh.futures import Future
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.raised import Refused, interruptible

Packed = tuple[int, bytes]


class Receiver(Protocol):
    """The stream of a call that waits."""

    def complete(self, call: WaitingCall) -> None:
        """All its inputs are there."""

    def fail(self, call: WaitingCall, error: BaseException) -> None:
        """It will never run: an input failed."""

    def abandon(self, call: WaitingCall) -> None:
        """It will never run: an input was cancelled."""


def with_results(packed: Packed, inputs: list[Future[Any]]) -> Packed:
    """The value together with the results of its inputs, which are over. Raises the error of an input,
    CancelledError, CannotShip for a result that cannot be sent on."""
    return vx.pack_given(packed, [packed_result(each) for each in inputs])


def packed_result(future: Future[Any]) -> Packed:
    grip = future.grip
    if grip is not None:
        future.exception()  # opens it: then we know whether it is the result that stayed, or values of Refs in it
        if not grip.lent:
            return vx.pack(grip.ref())  # the question goes to the data
    result = future.result()
    try:
        return vx.pack(result)
    except CannotShip as error:
        raise CannotShip(
            f"the result of {future.task_name} cannot be sent on: {error}", error.culprit
        ) from error


class WaitingCall:
    """One call, until all its inputs are over or one of them has failed."""

    def __init__(
        self, receiver: Receiver, future: Future[Any], packed: Packed, inputs: list[Future[Any]]
    ) -> None:
        self.future = future
        self.packed = packed
        self.inputs = inputs
        """Kept, so that their results are."""
        self._receiver = receiver
        self._missing = len(inputs)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Wait from now on. Some inputs, or all, may be over already."""
        for each in list(self.inputs):
            each.when_over(self._over)

    def drop(self) -> None:
        """It does not wait any more: let go of the inputs."""
        with self._lock:
            self._missing = -1
        self.inputs = []

    def _over(self, one: Any) -> None:
        """An input is over, one way or the other."""
        if one.cancelled():
            self._receiver.abandon(self)
            return
        error = one.exception()
        if error is not None:
            name_the_culprit(error, one.task_name)
            self._receiver.fail(self, error)
            return
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._missing -= 1
            complete = self._missing == 0
        if complete:
            self._receiver.complete(self)


def name_the_culprit(error: BaseException, culprit: str) -> None:
    """Say once, in the error that all dependents share, which task had it."""
    try:
        interruptible(lambda: _note(error, culprit))
    except Refused:
        return  # an exception of the user's that takes no notes


def _note(error: BaseException, culprit: str) -> None:
    if not any(str(note).startswith(_NOTE) for note in getattr(error, "__notes__", ())):
        error.add_note(f"{_NOTE} {culprit}. What waits for its result does not run.")


_NOTE = "stealmesh: this is the error of"
