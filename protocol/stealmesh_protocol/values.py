"""What a user's values look like on the wire: a codec number and a blob.

Decides which encoding a value gets, so that it comes back with exactly the types it had.
Used in clients and workers. A node hands blobs on unopened; all it does with this file is to
write the record of a failure (plain words, no user value).

========  ===========================================================================
codec     blob
========  ===========================================================================
0 PLAIN   msgpack: None, bool, int, float, str, bytes, list, dict; extension 1 is an
          ndarray: length of the head (u16), head = msgpack [dtype, shape], raw items.
          In data-only mode also extension 2: a tuple (msgpack of its items as an array),
          and extension 3: a number (msgpack), what goes in there travels beside (`apart.py`)
1 PICKLE  pickle protocol 5, by pickle itself where that works everywhere, else cloudpickle
2 OUTCOMES  msgpack [values codec, values blob, failures, remarks]: some items of a chunk
          failed, or there is something to remark beside the values or the partial
5 ITEMS   msgpack array of blobs, one for each item, the codec in front as one octet
6 COMMON  only as the first of ITEMS: a pickle of what the items have in common
7 LACKING as 2, and some failed because this machine lacks what another may have
8 GIVEN   only in ITEMS: msgpack [codec, blob, values]: a value and what goes into it (`apart.py`)
9 AGAIN   msgpack [seconds, outcomes]: one item, to be run again; its failure counts if it is not
10 APART  only in ITEMS: msgpack [codec, blob, results, places]: a value, and results that go into it (`given.py`)
========  ===========================================================================

Four facts shape the choice.

* msgpack has no tuple, set or bytearray and quietly sends them as something else. So PLAIN is
  only chosen after looking at the exact type of every part, and looking takes longer than
  encoding. Pickle needs no look: it is exact for everything.
* ``pickle`` names functions and classes of ``__main__`` instead of sending them, and a worker's
  ``__main__`` is another one. A value that mentions ``__main__`` therefore goes through cloudpickle.
* One pickle of many items is opened whole or not at all, so one item that refuses to be
  called again would cost all its neighbours. So only items that hold nothing of the user's go
  together; all others are pickled one by one, as ITEMS.
* With ``plain_only``, and in a process in data-only mode (`data_only.py`), codec 1 is neither written
  nor opened.

What a list of numbers costs per item, looking included, on the machine of the first
measurement (pack + unpack, 10,000 items; ``tests/protocol/measure.py`` repeats it)::

    small ints   pickle 21 ns   msgspec 24   array('q') 33   range 34 (these need the look)
    large ints   pickle 56 ns   msgspec 28   array('q') 44
    floats       pickle 26 ns   msgspec 23   array('d') 33
    str          pickle 63 ns   msgspec 38

Hence no codec for arrays of int64 or for ranges of results: they would be smaller, not faster.

Ideas: ipyparallel's canning (ship by value what lives in ``__main__``), dask's families of
serializers, msgpack-numpy for the extension (its object arrays and pickle hook left out).
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from math import inf, prod
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec.msgpack import Ext

from stealmesh_protocol import apart, data_only, given, limits, pickles
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import (
    CannotShip,
    RemoteProtocolError,
)
from stealmesh_protocol.printed import bounded, goes_with
from stealmesh_protocol.raised import Refused, exception_for, interruptible

PLAIN, PICKLE, OUTCOMES, ITEMS, COMMON, LACKING, GIVEN, AGAIN = 0, 1, 2, 5, 6, 7, 8, 9
APART = given.APART
"""Numbers are forever. 3 and 4 were considered for arrays of int64 and float64: never used."""

RAISED, WORKER_DIED, TIMEOUT = "raised", "worker-died", "timeout"
UNSENDABLE, STOPPED, UNLOADABLE = "unsendable", "stopped", "unloadable"
OUT_OF_MEMORY = "out-of-memory"
UNPLACEABLE = "unplaceable"
VALUE_LOST = "value-lost"
NOT_REGISTERED = "not-registered"
ACTOR_DIED = "actor-died"

_T = TypeVar("_T")

_EXT_NDARRAY, _EXT_TUPLE, _EXT_LEFT_OUT = 1, 2, 3
_EXT32_HEAD_OCTETS = 6

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_PLAIN_KEYS = _SCALARS

_DEPTH_MAX = 100
"""Of plain data: what is nested deeper more likely contains itself."""

_SHORT_LIST = 64
"""Up to here pickle's fixed cost outweighs a look at every item."""

_SMALL_INT = 2**31
"""Pickle is fast for ints of up to four octets and slow beyond."""

_ITEM_OCTETS = {
    "|b1": 1, "|i1": 1, "|u1": 1, "<i2": 2, "<u2": 2, "<i4": 4, "<u4": 4, "<i8": 8, "<u8": 8,
    "<f2": 2, "<f4": 4, "<f8": 8, "<c8": 8, "<c16": 16,
}  # fmt: skip
"""The dtypes that travel as they lie in memory: no objects, no structures, no strings."""


class Failure(msgspec.Struct, array_like=True):
    """Why one item of a chunk has no result."""

    offset: int
    """Which item, counted from the chunk's first."""
    kind: str
    """RAISED, WORKER_DIED, TIMEOUT, UNSENDABLE, STOPPED, UNLOADABLE, OUT_OF_MEMORY, UNPLACEABLE, VALUE_LOST,
    NOT_REGISTERED or ACTOR_DIED."""
    exception: bytes = b""
    """The exception, pickled; empty if it could not be, or if there was none. In data-only mode: PLAIN, its
    name, arguments and notes."""
    text: str = ""
    """Its type and message."""
    traceback: str = ""
    attempts: list[str] = []
    """How each attempt ended."""
    bases: list[str] = []
    """Where the exception's own type cannot be had: what it descends from, the nearest first."""
    output: str = ""
    """What the item printed last, as far as it is known."""
    trails: bytes = b""
    """Its frames (`trails.py`); empty if only the text tells them."""
    of: str = ""
    """Which other task had it first, if this one did not run for it."""


class OtherVersion(msgspec.Struct, array_like=True, frozen=True):
    """A remark beside results: they were computed with another version of a package."""

    node: str
    package: str
    here: str
    there: str
    """What the program has."""


class _Outcomes(msgspec.Struct, array_like=True):
    codec: int
    blob: bytes
    failures: list[Failure]


class _Remarked(_Outcomes, array_like=True):
    remarks: list[OtherVersion] = []


class _Given(msgspec.Struct, array_like=True):
    codec: int
    blob: bytes
    values: list[bytes]
    """One octet for the codec, and the blob."""


class _Again(msgspec.Struct, array_like=True):
    """An item that is to run again."""

    seconds: float
    """After this time, as it wishes itself. Below zero: it failed, and its owner decides."""
    outcomes: bytes
    """Its failure, which counts if it does not run again."""


class _NdarrayHead(msgspec.Struct, array_like=True):
    dtype: str
    shape: list[int]


# ---------------------------------------------------------------- one value


def pack(value: Any, *, plain_only: bool = False) -> tuple[int, bytes]:
    """The value as (codec, blob). Raises CannotShip, naming the part that refuses."""
    if plain_only or PICKLES.on:
        return PLAIN, _plain(value)
    kind = type(value)
    if kind in _SCALARS or (kind is list and _is_best_sent_plain(value)):
        try:
            return PLAIN, _encode(value)
        except (ValueError, OverflowError):  # a lone surrogate, more than 64 bits
            return PICKLE, pickles.pickled(value)
    if _is_ndarray(value) and _is_simple_array(value):
        return PLAIN, _packed_array(value)
    return PICKLE, pickles.pickled(value)


def unpack(codec: int, blob: bytes | memoryview, *, plain_only: bool = False) -> Any:
    """The value again. Raises RemoteProtocolError for a blob that is none, CannotLoad when the
    pickled value's own code fails here."""
    if codec == PLAIN:
        return _unpacked_plain(blob)
    if codec == PICKLE and not (plain_only or PICKLES.on):
        return pickles.unpickled(blob)
    if codec == ITEMS:
        return [entry.open(plain_only=plain_only) for entry in entries_of(blob)]
    if codec == PICKLE:
        raise RemoteProtocolError("pickle", "pickled values are not opened in data-only mode")
    raise RemoteProtocolError("codec", f"no value has the codec {codec}")


# ---------------------------------------------------------------- the values of a chunk


def pack_list(values: Sequence[Any], *, plain_only: bool = False) -> tuple[int, bytes]:
    """The items or results of a chunk, in order."""
    if type(values) is not list:
        return pack(values, plain_only=plain_only)
    if plain_only or PICKLES.on:
        return PLAIN, _plain(values)
    if _is_best_sent_plain(values):
        try:
            return PLAIN, _encode(values)
        except (ValueError, OverflowError):  # a lone surrogate, more than 64 bits
            pass
    if len(values) == 1:
        return PICKLE, pickles.pickled(values)  # there is no other beside it
    together = pickles.pickled_together(values)
    if together is not None:
        return PICKLE, together
    try:
        return ITEMS, _one_by_one(values)
    except CannotShip:
        return PICKLE, pickles.pickled(values)  # which says which of them it is


def pack_harmless(values: list[Any]) -> tuple[int, bytes]:
    """The same for items that the caller knows to hold nothing of the user's."""
    if PICKLES.on:
        return PLAIN, _plain(values)
    return PICKLE, pickle.dumps(values, 5)


def join_entries(entries: Sequence[tuple[int, bytes]], common: bytes = b"") -> bytes:
    """The blob of ITEMS, of values that were packed one by one. `common`: of `_CommonPickler`."""
    if common:
        entries = [(COMMON, common), *entries]
    parts = [b"\xdd", len(entries).to_bytes(4, "big")]
    for codec, blob in entries:
        parts.append(_ENTRY_HEAD.pack(0xC6, len(blob) + 1, codec))
        parts.append(blob)
    return b"".join(parts)


def entries_of(blob: bytes | memoryview) -> list[Entry]:
    """The values of ITEMS, still packed."""
    packed = _guarded(_decode_entries, blob)
    if not all(packed):
        raise RemoteProtocolError("value", "an item without even a codec")
    if not packed or packed[0][0] != COMMON:
        return [Entry(each, None) for each in packed]
    common = Common(packed[0][1:])
    return [Entry(each, common) for each in packed[1:]]


class Common:
    """What several items refer to: classes and functions that travel whole, each once."""

    __slots__ = ("_blob", "_parts")

    def __init__(self, blob: memoryview) -> None:
        self._blob = blob
        self._parts: list[Any] | None = None

    def opened(self, blob: memoryview) -> Any:
        """An item. Raises CannotLoad."""
        if self._parts is None:
            self._parts = pickles.unpickled(self._blob)
        return pickles.unpickled(blob, self._parts)


class Entry:
    """One value of ITEMS, still packed. Cannot itself be pickled, so no value is one."""

    __slots__ = ("_common", "_packed")

    def __init__(self, packed: memoryview, common: Common | None) -> None:
        self._packed = packed
        self._common = common

    def open(self, *, plain_only: bool = False) -> Any:
        """Raises CannotLoad, RemoteProtocolError."""
        packed = self._packed
        if packed[0] == GIVEN:
            return _opened_given(packed[1:], plain_only=plain_only)
        if packed[0] == given.APART:
            return _opened_apart(packed[1:], plain_only=plain_only)
        if packed[0] not in (PLAIN, PICKLE):
            raise RemoteProtocolError("codec", f"no single value has the codec {packed[0]}")
        if packed[0] == PLAIN or self._common is None or plain_only or PICKLES.on:
            return unpack(packed[0], packed[1:], plain_only=plain_only)
        return self._common.opened(packed[1:])

    def open_behind(self, value: Any) -> Any:
        """An item with a place that is still empty: this value fills it. Raises CannotLoad, RemoteProtocolError."""
        if self._packed[0] != given.APART:
            raise RemoteProtocolError("codec", "nothing is to go into this item")
        return _opened_apart(self._packed[1:], plain_only=False, fill=(value,))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a packed value is opened, not packed again")


def pack_given(packed: tuple[int, bytes], values: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    """A value that was packed without these (`apart.packed_apart`), together with them."""
    codec, blob = packed
    return GIVEN, _encode(_Given(codec, blob, [bytes([one]) + other for one, other in values]))


def _opened_apart(
    blob: bytes | memoryview, *, plain_only: bool, fill: tuple[()] | tuple[Any] = ()
) -> Any:
    item = given.opened(blob)
    if item.codec not in (PLAIN, PICKLE) or not all(item.results):
        raise RemoteProtocolError("value", "a value, or what goes into it, without a known codec")
    chunks: dict[int, list[Any]] = {}
    values = []
    for number, offset in item.places:
        if fill and (number, offset) == given.MISSING:
            values.append(fill[0])
            continue
        if not 0 <= number < len(item.results):
            raise RemoteProtocolError("value", "a result that goes into a value is not there")
        result = item.results[number]
        codec, rest = result[0], memoryview(result)[1:]
        if offset == given.ALONE:
            values.append(unpack(codec, rest, plain_only=plain_only))
            continue
        if number not in chunks:
            chunks[number] = (
                list(entries_of(rest))
                if codec == ITEMS
                else unpack_list(codec, rest, plain_only=plain_only)
            )
        if not 0 <= offset < len(chunks[number]):
            raise RemoteProtocolError(
                "value", "a result that goes into a value is not in its chunk"
            )
        value = chunks[number][offset]
        values.append(value.open(plain_only=plain_only) if type(value) is Entry else value)
    return apart.opened_with(values, lambda: unpack(item.codec, item.blob, plain_only=plain_only))


def good_in(codec: int, blob: bytes, offset: int) -> given.Result | None:
    """The result of the item at this place of a chunk, still packed; None: it has none, or cannot be read."""
    if codec in (LACKING, AGAIN):
        return None
    if codec == OUTCOMES:
        try:
            outcomes = _guarded(_decode_outcomes, blob)
        except RemoteProtocolError:
            return None
        if any(failure.offset == offset for failure in outcomes.failures):
            return None
        codec, blob = outcomes.codec, outcomes.blob
    return given.Result(codec, blob, offset)


def _opened_given(blob: bytes | memoryview, *, plain_only: bool) -> Any:
    given = _guarded(_decode_given, blob)
    if not all(given.values) or given.codec not in (PLAIN, PICKLE):
        raise RemoteProtocolError("value", "a value, or what goes into it, without a known codec")
    values = [unpack(each[0], each[1:], plain_only=plain_only) for each in given.values]
    return apart.opened_with(values, lambda: unpack(given.codec, given.blob, plain_only=plain_only))


def _one_by_one(values: list[Any]) -> bytes:
    """Each a pickle of its own, but for the classes and functions that travel whole."""
    entries: list[tuple[int, bytes]] = []
    quick, pickler = pickles.NamingPickler(), None
    for value in values:
        kind = type(value)
        if kind in _SCALARS or _is_ndarray(value):
            entries.append(pack(value))
            continue
        blob = None if pickler is not None else quick.pickled(value)
        if blob is None:
            pickler = pickler or pickles.common_pickler()
            blob = pickler.pickled(value)
        entries.append((PICKLE, blob))
    # The items say numbers of parts. Opening what is behind those puts in place what names need.
    parts = [*(() if pickler is None else pickler.parts), *quick.named]
    return join_entries(entries, pickles.by_value(parts) if parts else b"")


def unpack_list(codec: int, blob: bytes | memoryview, *, plain_only: bool = False) -> list[Any]:
    """What pack_list was given, as a list (an array's items are numpy scalars, as in a loop)."""
    values = unpack(codec, blob, plain_only=plain_only)
    if type(values) is list:
        return values
    try:
        return list(values)
    except Exception as error:  # a user's __iter__ may raise anything
        raise RemoteProtocolError(
            "value", f"a list of values was expected, not {pickles.name_of(values)}"
        ) from error


def pack_outcomes(
    values: Sequence[Any] | None, failures: Iterable[Failure], *, plain_only: bool = False
) -> tuple[int, bytes]:
    """A chunk in which some items failed. Anything may stand in `values` in place of a failed
    item; None: there are no values at all."""
    codec, blob = pack_list([] if values is None else values, plain_only=plain_only)
    return OUTCOMES, _encode(_Outcomes(codec, blob, [_printable(f) for f in failures]))


def unpack_outcomes(
    codec: int, blob: bytes, *, plain_only: bool = False
) -> tuple[list[Any], list[Failure]]:
    """Values and failures of a chunk, whether or not any failed. Where a failure's offset lies
    beyond the values there are none: the chunk failed as a whole, or its only item did."""
    if codec not in (OUTCOMES, LACKING):
        return unpack_list(codec, blob, plain_only=plain_only), []
    codec, blob, failures, _ = outcomes_in(blob)
    return unpack_list(codec, blob, plain_only=plain_only), failures


def outcomes_in(
    blob: bytes | memoryview,
) -> tuple[int, bytes, list[Failure], list[OtherVersion]]:
    """Of OUTCOMES: the codec and blob of the values, still packed, the failures and the remarks."""
    outcomes = _guarded(_decode_outcomes, blob)
    if any(failure.offset < 0 for failure in outcomes.failures):
        raise RemoteProtocolError("value", "a failure at a negative offset")
    if outcomes.codec == OUTCOMES:
        raise RemoteProtocolError("codec", "outcomes within outcomes")
    return outcomes.codec, outcomes.blob, outcomes.failures, outcomes.remarks


def failures_of(blob: bytes) -> list[Failure]:
    """The failures of a chunk alone: plain words, no user value is opened."""
    return _guarded(_decode_outcomes, blob).failures


def with_failures(blob: bytes, failures: list[Failure]) -> bytes:
    """The same outcomes, their failures told in other words."""
    outcomes = _guarded(_decode_outcomes, blob)
    return _encoded(outcomes.codec, outcomes.blob, failures, outcomes.remarks)


def with_output(codec: int, blob: bytes, output_of: Callable[[int], str]) -> tuple[int, bytes]:
    """The same outcomes, each failure with what `output_of` its offset says."""
    if codec == AGAIN:
        again = _guarded(_decode_again, blob)
        _, inner = with_output(OUTCOMES, again.outcomes, output_of)
        return AGAIN, _encode(_Again(again.seconds, inner))
    if codec not in (OUTCOMES, LACKING):
        return codec, blob
    outcomes = _guarded(_decode_outcomes, blob)
    for failure in outcomes.failures:
        failure.output = failure.output or output_of(failure.offset)
    return codec, _encoded(outcomes.codec, outcomes.blob, outcomes.failures, outcomes.remarks)


def with_remarks(codec: int, blob: bytes, remarks: list[OtherVersion]) -> tuple[int, bytes]:
    """The values or outcomes of a chunk, or a partial, with something to say beside them."""
    if codec not in (OUTCOMES, LACKING):
        return OUTCOMES, _encoded(codec, blob, [], remarks)
    outcomes = _guarded(_decode_outcomes, blob)
    remarks = outcomes.remarks + remarks
    return codec, _encoded(outcomes.codec, outcomes.blob, outcomes.failures, remarks)


def _encoded(
    codec: int, blob: bytes, failures: list[Failure], remarks: list[OtherVersion]
) -> bytes:
    if not remarks:
        return _encode(_Outcomes(codec, blob, failures))
    return _encode(_Remarked(codec, blob, failures, remarks))


def pack_again(seconds: float, failure: Failure) -> tuple[int, bytes]:
    """An item that is to run again after a time, or has failed and may be tried again (below zero)."""
    _, outcomes = pack_outcomes(None, [failure])
    return AGAIN, _encode(_Again(seconds, outcomes))


def again_in(blob: bytes) -> tuple[float, bytes, Failure]:
    """Seconds, outcomes, and the failure in them. Raises RemoteProtocolError."""
    again = _guarded(_decode_again, blob)
    failures = failures_of(again.outcomes)
    if len(failures) != 1 or failures[0].offset or not again.seconds < inf:
        raise RemoteProtocolError("value", "no item that runs again")
    return again.seconds, again.outcomes, failures[0]


def rebuild(failure: Failure, *, plain_only: bool = False) -> BaseException:
    """The exception to raise for a failure, with the remote traceback at the end of its causes."""
    plain = plain_only or PICKLES.on
    error = exception_for(
        failure.kind,
        failure.text,
        b"" if plain else failure.exception,
        failure.traceback,
        failure.attempts,
        data_only.bases_here(failure.bases) if plain else failure.bases,
        _plain_exception(failure.exception) if plain and failure.kind == RAISED else None,
    )
    if failure.output:
        goes_with(error, failure.output)
    return error


def exception_as_data(error: BaseException) -> bytes:
    """In data-only mode. Empty: it is none of Python's own, or its arguments are no plain data."""
    try:
        told = interruptible(lambda: data_only.told(error))
        return b"" if told is None else _plain(told)
    except (CannotShip, Refused):  # a note may be an object of the user's
        return b""


def _plain_exception(blob: bytes) -> BaseException | None:
    try:
        return data_only.made_of(_unpacked_plain(blob)) if blob else None
    except RemoteProtocolError:
        return None  # a pickle, for example: its words are all that is read of it


def _printable(failure: Failure) -> Failure:
    """UTF-8 cannot carry lone surrogates, which file names in messages may contain."""
    text, story = utf8(failure.text), utf8(failure.traceback)
    if len(story) > limits.TRACEBACK_CHARS_MAX:
        half = limits.TRACEBACK_CHARS_MAX // 2
        story = f"{story[:half]}\n  [...]\n{story[-half:]}"
    attempts = [utf8(attempt) for attempt in failure.attempts]
    bases = [utf8(base) for base in failure.bases]
    return Failure(
        failure.offset,
        failure.kind,
        failure.exception,
        text,
        story,
        attempts,
        bases,
        bounded(failure.output) if failure.output else "",
        failure.trails[: limits.TRAILS_OCTETS_MAX],
    )


def utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# ---------------------------------------------------------------- plain data


def _is_best_sent_plain(values: list[Any]) -> bool:
    """Is this list fit for msgpack, and faster there than in pickle? (See the table above.)"""
    count = len(values)
    if count <= _SHORT_LIST:
        return _SCALARS.issuperset(map(type, values))
    kind = type(values[0])
    if kind is int:
        ends = abs(values[0]), abs(values[-1]) if type(values[-1]) is int else 0
        if max(ends) < _SMALL_INT:
            return False
    elif kind is not float and kind is not str:
        return False
    # list.count compares by identity first: the fastest complete look that CPython offers.
    return list(map(type, values)).count(kind) == count


class _NotPlain(Exception):
    """A part that is no plain data: what it is, and the way to it from the outside, the last step first."""

    def __init__(self, what: str, way: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.way = [way] if way else []

    def fault(self) -> str:
        return f"value{''.join(reversed(self.way))} {self.what}"


def _plain(value: Any) -> bytes:
    """Data-only mode: msgpack or an error that names the part that is no plain data."""
    try:
        ready = _ready(value, 0)
        return _packed_array(value) if _is_ndarray(value) else _encode(ready)
    except _NotPlain as odd:
        text = f"this mesh sends plain data only: {odd.fault()}"
        raise CannotShip(text, odd.fault()) from None
    except (ValueError, OverflowError) as error:
        raise CannotShip(f"this value is not plain data: {error}", str(error)) from error


def _ready(value: Any, depth: int) -> Any:
    """The value as msgpack takes it without making another type of it. Raises _NotPlain."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth > _DEPTH_MAX:
        raise _NotPlain("is nested too deeply, or contains itself")
    if kind is list:
        return value if _SCALARS.issuperset(map(type, value)) else _ready_items(value, depth)
    if kind is tuple:
        return Ext(_EXT_TUPLE, _encode(_ready_items(value, depth)))
    if kind is dict:
        return _ready_dict(value, depth)
    if _is_ndarray(value):
        if not _is_simple_array(value):
            raise _NotPlain(f"is an array of dtype {value.dtype}")
        return value
    if isinstance(value, apart.LeavesItselfOut):
        number = apart.number_of(value)
        if number is None:
            raise _NotPlain(f"is a {pickles.name_of(value)}: take its result()")
        return Ext(_EXT_LEFT_OUT, _encode(number))
    raise _NotPlain(f"is a {pickles.name_of(value)}")


def _ready_items(values: Sequence[Any], depth: int) -> list[Any]:
    ready = []
    for at, each in enumerate(values):
        try:
            ready.append(_ready(each, depth + 1))
        except _NotPlain as odd:
            odd.way.append(f"[{at}]")
            raise
    return ready


def _ready_dict(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    ready = {}
    for key, each in value.items():
        if type(key) not in _PLAIN_KEYS:
            raise _NotPlain(f"has the key {key!r} (a {pickles.name_of(key)})")
        try:
            ready[key] = _ready(each, depth + 1)
        except _NotPlain as odd:
            odd.way.append(f"[{key!r}]")
            raise
    return ready


def _unpacked_plain(blob: bytes | memoryview) -> Any:
    if blob[:1] == b"\xc9" and _is_array_throughout(blob):
        return _guarded(_opened_array, memoryview(blob)[_EXT32_HEAD_OCTETS:])
    return _guarded(_decode, blob)


def _is_array_throughout(blob: bytes | memoryview) -> bool:
    """Is the whole value one array? Then it need not be copied by the decoder on its way."""
    octets = int.from_bytes(blob[1:5], "big")
    return blob[5:6] == b"\x01" and octets == len(blob) - _EXT32_HEAD_OCTETS


def _guarded(decode: Callable[[Any], _T], blob: bytes | memoryview) -> _T:
    """All that a decoder makes of bytes that are no value is the sender's fault."""
    try:
        return decode(blob)
    except RemoteProtocolError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RemoteProtocolError("value", str(error)) from error


# ---------------------------------------------------------------- arrays


def _is_ndarray(value: Any) -> bool:
    """Without importing numpy: who has an ndarray has imported it already."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)


def _is_simple_array(array: Any) -> bool:
    """Whether the raw items say it all: a common dtype, rows one after the other."""
    shape = array.shape
    return (
        array.dtype.str in _ITEM_OCTETS
        and array.dtype.metadata is None
        and array.flags.c_contiguous
        and len(shape) <= limits.NDARRAY_DIMENSIONS_MAX
        and prod(n for n in shape if n) <= limits.NDARRAY_ITEMS_MAX
        and array.nbytes < limits.MESSAGE_OCTETS_MAX
    )


def _array_parts(array: Any) -> tuple[bytes, memoryview]:
    head = _encode(_NdarrayHead(array.dtype.str, list(array.shape)))
    raw = array.reshape(-1).view("u1").data if array.size else memoryview(b"")
    return len(head).to_bytes(2, "big") + head, raw


def _packed_array(array: Any) -> bytes:
    """An array as the whole value: the same octets as msgpack would make, with one copy less."""
    head, raw = _array_parts(array)
    octets = len(head) + raw.nbytes
    return b"".join((b"\xc9", octets.to_bytes(4, "big"), b"\x01", head, raw))


def _array_inside(value: Any) -> Ext:
    """msgspec meets something that is no plain data: an array, as _plain_fault has made sure."""
    if not _is_ndarray(value):
        raise TypeError(f"a {pickles.name_of(value)} is no plain data")
    return Ext(_EXT_NDARRAY, b"".join(_array_parts(value)))


def _opened_array(data: memoryview) -> Any:
    """The array behind extension 1, with memory of its own. Nothing is allocated before the
    sizes are found to agree."""
    head_octets = int.from_bytes(data[:2], "big")
    head = _decode_head(data[2 : 2 + head_octets])
    raw = data[2 + head_octets :]
    item_octets = _ITEM_OCTETS.get(head.dtype)
    if item_octets is None:
        raise ValueError(f"no array has the dtype {head.dtype[:16]!r}")
    shape = head.shape
    if len(shape) > limits.NDARRAY_DIMENSIONS_MAX or any(n < 0 for n in shape):
        raise ValueError("no array has such a shape")
    if prod(n for n in shape if n) > limits.NDARRAY_ITEMS_MAX:
        raise ValueError("no array has this many items")
    if prod(shape) * item_octets != raw.nbytes:
        raise ValueError(f"{raw.nbytes} octets do not fill an array of shape {shape}")
    import numpy  # only who receives an array pays for numpy

    if not raw.nbytes:
        return numpy.empty(shape, head.dtype)
    if head.dtype == "|b1":  # octets other than 0 and 1 are no truth values
        return (numpy.frombuffer(raw, "|u1") != 0).reshape(shape)
    return numpy.frombuffer(raw, head.dtype).reshape(shape).copy()


def _opened_extension(code: int, data: memoryview) -> Any:
    if code == _EXT_NDARRAY:
        return _opened_array(data)
    if code == _EXT_TUPLE:
        items = _decode(data)
        if type(items) is list:
            return tuple(items)
    if code == _EXT_LEFT_OUT:
        number = _decode_number(data)
        try:
            return apart.put_in(number)
        except LookupError as error:
            raise ValueError(str(error)) from error
    raise ValueError(f"no value has the extension {code}, or not with such a content")


_encode = msgspec.msgpack.Encoder(enc_hook=_array_inside).encode
_decode = msgspec.msgpack.Decoder(ext_hook=_opened_extension).decode
_decode_number = msgspec.msgpack.Decoder(int).decode
_decode_head = msgspec.msgpack.Decoder(_NdarrayHead).decode
_decode_outcomes = msgspec.msgpack.Decoder(_Remarked).decode
_decode_again = msgspec.msgpack.Decoder(_Again).decode
_decode_entries = msgspec.msgpack.Decoder(list[memoryview]).decode
_decode_given = msgspec.msgpack.Decoder(_Given).decode
_ENTRY_HEAD = struct.Struct(">BIB")
"""bin 32, its octets, and the codec as the first of them."""
