"""Durable calls that wait in their program until the calls that go into them are safe.

Decides which inputs go by name: durable calls of the same mesh that are accepted and not over. The mesh brings
their results to where the call runs, also when this program is dead. So a call is said when its inputs are
accepted, and a call that the mesh holds never waits for one that it does not hold. All other inputs go as values,
when they are over: reductions and searches, whose value is put together in the program, and what is over already.

Refuses to know how a call is said (`durable_call.py`) and what the mesh makes of the names
(`engine/durable/inputs.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from stealmesh.client.inputs import Packed, Receiver, WaitingCall, packed_result
from stealmesh.client.session import ProgramLink
from stealmesh.futures import Future
from stealmesh_protocol.given import item_apart
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.limits import CALLS_INTO_MAX
from stealmesh_protocol.messages import Inputs


class WaitingDurableCall(WaitingCall):
    """One call, until each of its inputs is over, or is safe in the mesh."""

    def __init__(
        self,
        link: ProgramLink,
        receiver: Receiver,
        future: Future[Any],
        packed: Packed,
        inputs: list[Future[Any]],
    ) -> None:
        super().__init__(receiver, future, packed, inputs)
        self._link = link

    def begin(self) -> None:
        inputs = list(self.inputs)
        few = len(inputs) <= CALLS_INTO_MAX
        for each in inputs:
            when_safe = getattr(each._submission, "when_safe", None) if few else None
            if when_safe is not None and when_safe(self._link, functools.partial(self._safe, each)):
                each.when_over(self._failed)
            else:
                each.when_over(self._over)

    def _safe(self, one: Any) -> None:
        """The mesh holds it, or it is over."""
        if one.done():
            self._over(one)
        else:
            self._one_less()

    def _failed(self, one: Any) -> None:
        """It is over. If it failed while another one was not safe yet, this call ends as well."""
        if self._missing > 0 and (one.cancelled() or one.exception() is not None):
            self._over(one)


def item_of_calls(call: WaitingCall, named: Mapping[int, JobId]) -> tuple[bytes, Inputs]:
    """The item, with the values of all inputs but the named ones, and the names of those. Raises the error of an
    input, CannotShip."""
    known = {
        place: packed_result(each) for place, each in enumerate(call.inputs) if place not in named
    }
    blob = item_apart(call.packed, len(call.inputs), known)
    return blob, tuple((job, 0, 0) for job in named.values())
