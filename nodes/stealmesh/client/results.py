"""Opening what workers sent: the values of a chunk, and the exceptions of the items that failed.

Runs in clients only, where unpickling is the program's own risk: a holder of the mesh key made all of it
from functions that this program sent. The mesh's own thread only makes a `ChunkResults`, which opens
nothing. Refuses to know which job the results belong to.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from stealmesh.client.inputs import name_the_culprit
from stealmesh.client.remarks import tell
from stealmesh_protocol import limits
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotLoad, CannotShip, MeshError


class ChunkResults:
    """The results of one chunk of submitted tasks, opened when the program asks for the first.

    Results that were packed together are opened together, once. Results that were packed one by one
    (because opening them runs the user's code) are opened one by one, and fail one by one.
    """

    __slots__ = (
        "_blob",
        "_codec",
        "_errors",
        "_hi",
        "_lock",
        "_name",
        "_turns",
        "_unread",
        "lo",
        "values",
    )

    def __init__(self, codec: int, blob: bytes, lo: int, hi: int, name: str) -> None:
        self.lo = lo
        self._hi = hi
        self.values: list[Any] | None = None
        self._codec = codec
        self._blob = blob
        self._name = name
        self._lock = threading.RLock()
        self._errors: dict[int, BaseException] = {}
        self._unread: list[Any] | None = None
        """Results of a chunk in which an item failed, or that are still packed one by one."""
        self._turns: dict[int, threading.RLock] | None = None

    def turn(self, index: int) -> AbstractContextManager[Any]:
        """A lock for one item, so that a slow neighbour delays no other thread."""
        with self._lock:
            if self._unread is None:
                self._look()
            if self._turns is None:
                return self._lock
            return self._turns.setdefault(index, threading.RLock())

    def outcome(self, index: int) -> tuple[Any, BaseException | None]:
        offset = index - self.lo
        error = self._errors.get(offset)
        if error is not None:
            return None, error
        assert self._unread is not None, "a turn comes first"
        try:
            value = self._unread[offset]
        except IndexError:
            return None, CannotLoad(f"{self._named(index)} is not in what the node sent")
        return _opened(value, self._named(index)) if type(value) is vx.Entry else (value, None)

    def forget(self, index: int) -> None:
        if self.values is None and self._unread is not None and index - self.lo < len(self._unread):
            self._unread[index - self.lo] = None

    def _named(self, index: int) -> str:
        return f"the result of item {index} of {self._name}"

    def _look(self) -> None:
        """Open what was packed together."""
        found, failures, fault = _looked_at(self._codec, self._blob)
        if failures:
            self._errors = _errors_of(failures, self.lo, self._name)
        if fault is not None:
            self._errors = _Everywhere(self._errors, fault, self.lo, self._name)
        elif failures or len(found) != self._hi - self.lo or type(found[0]) is vx.Entry:
            self._turns = {}
        else:
            self.values = found
        self._blob = b""
        self._unread = found


class _Everywhere(dict[int, BaseException]):
    """The errors of a chunk that cannot be opened at all: each item has an error of its own."""

    def __init__(
        self, known: dict[int, BaseException], fault: MeshError, first: int, name: str
    ) -> None:
        super().__init__(known)
        self._fault = fault
        self._first = first
        self._name = name

    def get(self, offset: int, default: Any = None) -> BaseException:
        known = super().get(offset)
        if known is not None:
            return known
        return _unopened(self._fault, f"the result of item {self._first + offset} of {self._name}")


def _unopened(fault: MeshError, what: str) -> CannotLoad:
    error = CannotLoad(f"{what}: {fault}")
    error.__cause__ = fault if fault.__cause__ is None else fault.__cause__
    return error


def _looked_at(codec: int, blob: bytes) -> tuple[list[Any], list[vx.Failure], MeshError | None]:
    """Values (an `Entry` where one is still packed), failures, and the fault of the whole chunk."""
    failures: list[vx.Failure] = []
    try:
        if codec in (vx.OUTCOMES, vx.LACKING):
            codec, blob, failures, remarks = vx.outcomes_in(blob)
            if remarks:
                tell(remarks)
        if codec == vx.ITEMS:
            return list(vx.entries_of(blob)), failures, None
        return vx.unpack_list(codec, blob), failures, None
    except MeshError as fault:
        return [], failures, fault


def _errors_of(failures: list[vx.Failure], first: int, name: str) -> dict[int, BaseException]:
    """The exceptions by offset. Texts about an argument or a result get the number of the item."""
    for failure in failures:
        if failure.kind in (vx.UNSENDABLE, vx.UNLOADABLE, vx.OUT_OF_MEMORY, vx.NOT_REGISTERED):
            failure.text = f"item {first + failure.offset} of {name}: {failure.text}"
    return {failure.offset: _rebuilt(failure) for failure in failures}


def _rebuilt(failure: vx.Failure) -> BaseException:
    from stealmesh.tracebacks.showing import rebuilt  # here: most programs see no failure

    error = rebuilt(failure)
    if failure.of:
        name_the_culprit(error, failure.of)
    return error


def _opened(entry: vx.Entry, name: str) -> tuple[Any, BaseException | None]:
    try:
        return entry.open(), None
    except MeshError as fault:
        return None, _unopened(fault, name)


def open_chunk(
    codec: int, blob: bytes, items: int, first: int = 0, name: str = "the job"
) -> tuple[list[Any], dict[int, BaseException]]:
    """The `items` values of a chunk in order, and the exceptions of failed items by offset.

    The value of a failed item means nothing.
    """
    values, failures, fault = _looked_at(codec, blob)
    errors = _errors_of(failures, first, name)
    if fault is not None:
        everywhere = _Everywhere(errors, fault, first, name)
        errors = {offset: everywhere.get(offset) for offset in range(items)}
    elif codec in (vx.ITEMS, vx.OUTCOMES, vx.LACKING):
        for offset, entry in enumerate(values):
            if type(entry) is vx.Entry and offset not in errors:
                named = f"the result of item {first + offset} of {name}"
                values[offset], error = _opened(entry, named)
                if error is not None:
                    errors[offset] = error
    values += [None] * (items - len(values))
    return values, errors


def open_partial(codec: int, blob: bytes | memoryview) -> Any:
    """The value of a partial result. Raises the exception of the item that failed, CannotLoad."""
    if codec not in (vx.OUTCOMES, vx.LACKING):
        return vx.unpack(codec, blob)
    codec, packed, failures, remarks = vx.outcomes_in(blob)
    if remarks:
        tell(remarks)
    if failures:
        raise _rebuilt(failures[0])
    return vx.unpack(codec, packed)


def open_tagged(blob: bytes) -> Any:
    """The value of an explore job's partial result; its first octet is the codec."""
    return open_partial(blob[0], memoryview(blob)[1:])


# ---------------------------------------------------------------- to the mesh

REMEDY = (
    "put it on the mesh with `scatter` and pass the Ref, or cut it into parts "
    "that are items of their own"
)
FUNCTION_REMEDY = (
    "it carries what it refers to (a global, a variable around it, an argument of a partial): load "
    "that inside of the function, from a file or a store that all nodes see"
)


def pack_tagged(items: list[Any], name: str) -> bytes:
    """The items of an explore job's bag, behind one octet for the codec. Raises CannotShip."""
    codec, blob = pack_items(items, 0, name)
    too_large = fault_of_size(len(blob), f"the bag of {len(items)} roots of {name}")
    if too_large is not None:
        raise too_large
    return bytes([codec]) + blob


def pack_items(items: list[Any], first: int, name: str) -> tuple[int, bytes]:
    """The items of a block as (codec, octets). Raises CannotShip, which names the first item that cannot
    be pickled."""
    try:
        return vx.pack_list(items)
    except CannotShip as error:
        for offset, item in enumerate(items):
            try:
                vx.pack(item)
            except CannotShip as culprit:
                raise Unshippable(offset, first + offset, name, culprit) from culprit
        raise CannotShip(f"items of {name} cannot be sent to the mesh: {error}") from error


class Unshippable(CannotShip):
    """One item of a block cannot be sent. `offset`: its place in the block."""

    def __init__(self, offset: int, index: int, name: str, culprit: CannotShip) -> None:
        super().__init__(
            f"item {index} of {name} cannot be sent to the mesh: {culprit}", culprit.culprit
        )
        self.offset = offset


def fault_of_size(octets: int, what: str, remedy: str = REMEDY) -> CannotShip | None:
    """The error for a value too large to travel, with the remedy; None if it is not too large."""
    if octets <= limits.BLOB_OCTETS_MAX:
        return None
    return CannotShip(
        f"{what} cannot be sent to the mesh: packed, it has {octets:,} octets ({octets >> 20} MiB), "
        f"and {limits.BLOB_OCTETS_MAX >> 20} MiB is the most that travels as one value; {remedy}"
    )
