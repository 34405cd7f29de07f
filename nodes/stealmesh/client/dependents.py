"""Calls with futures among their arguments, told to the core as what they are: items that others go into.

The core keeps the graph: it knows where the inputs are, and has the call run there as soon as they have results,
which need not come to this program first. Decides which calls the core can be told of: those with inputs that
are pending calls of the same program. All others wait here (`inputs.py`): for a reduction, for an actor, for a
call that waits here itself. Results that are here already go along.

Refuses to know how calls get their numbers (`submit.py`) and what the core makes of them (`ledger/graph.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from stealmesh import refs
from stealmesh.client.inputs import Packed, name_the_culprit, packed_result
from stealmesh.client.results import ChunkResults
from stealmesh.client.shape import Shape
from stealmesh.futures import Future, arrive
from stealmesh_engine import effects as fx
from stealmesh_engine.events import Event
from stealmesh_protocol.errors import CannotLoad, CannotShip
from stealmesh_protocol.given import item_apart
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobSpec

Names = tuple[tuple[JobId, int], ...]
DEPENDS = -2
"""In the place of octets: the call goes to the core with the names of its inputs."""
NO_NUMBER, HELD_BACK = -1, -2
"""In the place of its index: a call waits in the program for others, or did, and has no number yet."""


class NamedSource(Protocol):
    """A stream of calls that others may wait for."""

    spec: JobSpec
    link: Any
    named_inputs: bool
    """Does the core keep what its calls wait for?"""

    @property
    def pending(self) -> int:
        """How many of its calls are not over, and do not wait here."""

    def is_with_core(self, future: Future[Any]) -> bool:
        """Has the core this call of its, and has it not come back?"""


class NotYet(Exception):
    """An input has no number yet: its own stream has to feed it first."""


class Otherwise(Exception):
    """The core cannot be told of this input: it is over, or waits in the program itself."""


@dataclass(slots=True)
class Dependent:
    """A call whose inputs the core knows, or will know in a moment."""

    packed: Packed
    inputs: list[Future[Any]]
    known: Mapping[int, Packed] = field(default_factory=dict)
    """The results that were there from the beginning, by the places of their inputs."""

    def __len__(self) -> int:
        return len(self.packed[1])

    def named(self) -> tuple[bytes, Names]:
        """The item, and the names of what goes into it. Raises NotYet, Otherwise."""
        names: list[tuple[JobId, int]] = []
        for place, future in enumerate(self.inputs):
            if place not in self.known:
                names.append(_name_of(future))
        return item_apart(self.packed, len(self.inputs), self.known), tuple(names)


def _name_of(future: Future[Any]) -> tuple[JobId, int]:
    source: NamedSource = future._submission  # type: ignore[assignment]
    if future.index == NO_NUMBER and not future.done():
        raise NotYet
    if future.done() or not source.is_with_core(future):
        raise Otherwise
    return source.spec.job, future.index


def for_the_core(
    stream: NamedSource,
    future: Future[Any],
    packed: Packed,
    inputs: list[Future[Any]],
    kind: type[Any],
) -> Dependent | None:
    """The call, if the core can be told of it. `kind`: of streams."""
    if inputs[0].index == HELD_BACK or not stream.named_inputs:
        return None
    if any(each.lends for each in inputs):
        return None  # a closed Ref may be in its result, and only here we see what that keeps
    shape: Shape = stream.link.shape
    first: Any = inputs[0]._submission
    pending = stream.pending
    if first is not stream and isinstance(first, kind):
        pending += first.pending
    if shape.is_wide(pending):
        return None
    here: list[int] = []
    for place, each in enumerate(inputs):
        source = each._submission
        if each.done():
            here.append(place)
        elif (
            not (isinstance(source, kind) and source.link is stream.link)
            or each.index == HELD_BACK
            or not source.named_inputs
        ):
            return None
    if len(here) == len(inputs) or any(_is_bad(inputs[place]) for place in here):
        return None
    try:
        known, needs = refs.noting(lambda: {place: packed_result(inputs[place]) for place in here})
    except CannotShip:
        return None  # where it waits here, the error is told
    if needs:
        return None
    shape.grows(future, inputs)
    return Dependent(packed, inputs, known)


def _is_bad(future: Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


class Inherited:
    """The failure of an input, as the result of all that waited for it."""

    __slots__ = ("_item", "_name", "_parcel", "lo", "values")

    def __init__(self, parcel: ChunkResults, item: int, name: str) -> None:
        self.lo = 0
        self.values: list[Any] | None = None
        self._parcel = parcel
        self._item = item
        self._name = name

    def turn(self, index: int) -> AbstractContextManager[Any]:
        del index
        return self._parcel.turn(self._item)

    def outcome(self, index: int) -> tuple[Any, BaseException | None]:
        del index
        _, error = self._parcel.outcome(self._item)
        if error is None:
            return None, CannotLoad(f"what {self._name} failed with is not in what its node sent")
        name_the_culprit(error, self._name)
        return None, error

    def forget(self, index: int) -> None:
        """The others need it as well."""
        del index


Enter = Callable[[Future[Any], bytes, Names], Event]
"""Gives a call its number, and returns what the core is to be told."""


def take_dependents(
    waiting: deque[Any], enter: Enter, most: int, events: list[Event], otherwise: list[Any]
) -> bool:
    """Take those at the head of the line, up to the first call of another kind: into `events`, or among those
    that are to wait `otherwise`, in the program. True: the next one needs a number of another stream first."""
    while waiting and len(events) < most:
        call = waiting.popleft()
        future, _, item = call
        if not isinstance(item, Dependent):
            waiting.appendleft(call)
            break
        try:
            if future.cancelled():
                otherwise.append((future, item))
            else:
                events.append(enter(future, *item.named()))
        except NotYet:
            waiting.appendleft(call)
            return True
        except Otherwise:
            otherwise.append((future, item))
    return False


def spare(
    link: Any,
    futures: list[Future[Any]],
    effect: fx.InputFailed | fx.InputWithdrawn,
    cause: Any,
) -> int:
    """These end with what goes into them. Returns how many were over already."""
    if isinstance(effect, fx.InputWithdrawn):
        for future in futures:
            future._mark_waiting()
        link.user_threads.run_all([future.cancel for future in futures])
        return 0
    part, name = effect.part, "another job" if cause is None else cause.spec.name
    parcel = ChunkResults(part.codec, effect.blob, part.lo, part.hi, name)
    inherited = Inherited(parcel, effect.item, f"item {effect.item} of {name}")
    return arrive(link.condition, link.tell, futures, inherited)
