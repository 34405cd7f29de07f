"""Calls of a stream that wait in the program for the results of others.

Decides that such a call is in the stream's line, or among those that wait, at every moment, so that the stream
is never idle in between. Refuses to know when all its inputs are there (`inputs.py`), and how calls get their
numbers (`submit.py`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from stealmesh import refs
from stealmesh.client.call_arguments import must_fit
from stealmesh.client.dependents import HELD_BACK
from stealmesh.client.inputs import WaitingCall, with_results
from stealmesh.client.needs import must_fit_one_order
from stealmesh.client.session import ProgramLink
from stealmesh.futures import Future, settle
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import ValueId
from stealmesh_protocol.messages import JobSpec

if TYPE_CHECKING:
    from stealmesh.refs import Grip

NOT_PLAIN = -1
"""In the place of octets: the call is packed."""


class HoldsBack:
    """The part of a stream that knows calls which wait here."""

    def __init__(self, link: ProgramLink, spec: JobSpec) -> None:
        self.link = link
        self.spec = spec
        self.closed = False
        self._waiting: deque[Any] = deque()
        """Calls that have no number yet, in their order."""
        self._held_back: dict[Future[Any], WaitingCall] = {}
        """Calls that wait for the results of others."""
        self._needs: dict[Future[Any], tuple[list[Grip], tuple[ValueId, ...]]] = {}
        """The values that calls need which are not in a block yet, and what keeps them."""

    def broken(self, error: BaseException) -> None:
        """The mesh has failed: all calls fail."""
        raise NotImplementedError

    def _has_calls(self) -> None:
        """Some calls are in the line: the driver is to come by."""
        raise NotImplementedError

    @property
    def held_back(self) -> int:
        """How many calls wait here for the results of others."""
        return len(self._held_back)

    def _must_work(self) -> None:
        """Raises what the mesh failed with. Asked after a call was entered: the link sets `failure` before
        it clears the streams."""
        if self.link.failure is not None:
            self.broken(self.link.failure)
            raise self.link.failure

    def _hold_back(self, call: WaitingCall) -> Future[Any] | None:
        """Until its inputs are there. None: the stream has just been closed; take another."""
        call.future.index = HELD_BACK
        self._held_back[call.future] = call
        self._must_work()
        if self.closed and self._release(call):
            return None
        call.begin()
        return call.future

    def _release(self, call: WaitingCall) -> bool:
        """The call does not wait any more. False: it has been released before."""
        if self._held_back.pop(call.future, None) is None:
            return False
        call.drop()
        return True

    def _with_inputs(self, call: WaitingCall) -> tuple[int, bytes] | None:
        """The call, now that its inputs have come. None: it failed, as they cannot be sent."""
        try:
            packed, more = refs.noting(lambda: with_results(call.packed, call.inputs))
            must_fit(packed, self.spec.name)
            if more:
                self._needs_more(call.future, more)
        except CannotShip as error:
            self.fail(call, error)
            return None
        return packed

    def complete(self, call: WaitingCall) -> None:
        packed = self._with_inputs(call)
        if packed is None:
            return
        # It waits in one of the two at every moment, so the stream is not idle in between.
        self._waiting.append((call.future, NOT_PLAIN, packed))
        if not self._release(call):
            return  # it was cancelled meanwhile: `_block` passes it over
        if self.link.failure is not None:
            self.broken(self.link.failure)
            return
        self._has_calls()

    def _needs_more(self, future: Future[Any], more: tuple[ValueId, ...]) -> None:
        """The results of its inputs are made of these."""
        grips, needs = self._needs.get(future, ([], ()))
        needs = tuple(sorted({*needs, *more}))
        must_fit_one_order(needs, self.spec.name)
        self._needs[future] = grips + refs.grips_of(more), needs

    def fail(self, call: WaitingCall, error: BaseException) -> None:
        if self._release(call):
            self._needs.pop(call.future, None)
            settle(self.link.condition, self.link.tell, [(call.future, None, error)])

    def abandon(self, call: WaitingCall) -> None:
        # Not here: what waits for this one is cancelled by it, and so on, as deep as the graph is.
        self.link.user_threads.run(call.future.cancel)
