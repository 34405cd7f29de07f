"""What a user's values look like on the wire: a codec number and a blob.

Decides which encoding a value gets, so that it comes back with exactly the types it had.
Used in clients and workers. A node hands blobs on unopened; all it does with this file is to
write the record of a failure (plain words, no user value).

========  ===========================================================================
codec     blob
========  ===========================================================================
0 PLAIN   msgpack: None, bool, int, float, str, bytes, list, dict; extension 1 is an
          ndarray: length of the head (u16), head = msgpack [dtype, shape], raw items
1 PICKLE  pickle protocol 5, by pickle itself where that works everywhere, else cloudpickle
2 OUTCOMES  msgpack [values codec, values blob, failures]: some items of a chunk failed
7 LACKING   the same, and some failed because this machine lacks what another may have
========  ===========================================================================

Three facts shape the choice between 0 and 1.

* msgpack has no tuple, set or bytearray and quietly sends them as something else. So PLAIN is
  only chosen after looking at the exact type of every part, and looking takes longer than
  encoding. Pickle needs no look: it is exact for everything.
* ``pickle`` names functions and classes of ``__main__`` instead of sending them, and a worker's
  ``__main__`` is another one. Whatever mentions ``__main__`` therefore goes through cloudpickle.
* With ``plain_only`` (data-only mode) codec 1 is neither written nor opened.

What a list of numbers costs per item, looking included, on the machine of the first
measurement (pack + unpack, 10,000 items; ``tests/protocol/measure.py`` repeats it)::

    small ints   pickle 21 ns   msgspec 24   array('q') 33   range 34 (these need the look)
    large ints   pickle 56 ns   msgspec 28   array('q') 44
    floats       pickle 26 ns   msgspec 23   array('d') 33
    str          pickle 63 ns   msgspec 38

Hence no codec for arrays of int64 or for ranges of results: they would be smaller, not faster.

Whose idea: ipyparallel's canning (ship by value what lives in ``__main__``), dask's families of
serializers, msgpack-numpy for the extension (its object arrays and pickle hook left out).
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import prod
from typing import Any, TypeVar

import msgspec
from msgspec.msgpack import Ext

from stealmesh_protocol import limits, whole
from stealmesh_protocol.errors import (
    CannotLoad,
    CannotShip,
    RemoteProtocolError,
    RemoteTraceback,
    TaskFailed,
    TaskStopped,
    TaskTimeout,
    WorkerDied,
)

PLAIN, PICKLE, OUTCOMES, LACKING = 0, 1, 2, 7
"""Numbers are forever. 3 and 4 were considered for arrays of int64 and float64: never used."""

RAISED, WORKER_DIED, TIMEOUT = "raised", "worker-died", "timeout"
UNSENDABLE, STOPPED, UNLOADABLE = "unsendable", "stopped", "unloadable"

_T = TypeVar("_T")

_EXT_NDARRAY = 1
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
    """RAISED, WORKER_DIED, TIMEOUT, UNSENDABLE, STOPPED or UNLOADABLE."""
    exception: bytes = b""
    """The exception, pickled; empty if it could not be, or if there was none."""
    text: str = ""
    """Its type and message."""
    traceback: str = ""
    attempts: list[str] = []
    """How each attempt ended."""


class _Outcomes(msgspec.Struct, array_like=True):
    codec: int
    blob: bytes
    failures: list[Failure]


class _NdarrayHead(msgspec.Struct, array_like=True):
    dtype: str
    shape: list[int]


# ---------------------------------------------------------------- one value


def pack(value: Any, *, plain_only: bool = False) -> tuple[int, bytes]:
    """The value as (codec, blob). Raises CannotShip, naming the part that refuses."""
    if plain_only:
        return PLAIN, _plain(value)
    kind = type(value)
    if kind in _SCALARS:
        try:
            return PLAIN, _encode(value)
        except (ValueError, OverflowError):  # a lone surrogate, more than 64 bits
            return PICKLE, _pickled(value)
    if kind is list:
        return pack_list(value)
    if _is_ndarray(value) and _is_simple_array(value):
        return PLAIN, _packed_array(value)
    return PICKLE, _pickled(value)


def unpack(codec: int, blob: bytes, *, plain_only: bool = False) -> Any:
    """The value again. Raises RemoteProtocolError for a blob that is none, CannotLoad when the
    pickled value's own code fails here."""
    if codec == PLAIN:
        return _unpacked_plain(blob)
    if codec == PICKLE and not plain_only:
        try:
            return pickle.loads(blob)
        except Exception as error:  # unpickling runs code of the user's: it may raise anything
            raise CannotLoad(f"a value cannot be opened here: {_headline(error)}") from error
    if codec == PICKLE:
        raise RemoteProtocolError("pickle", "pickled values are not opened in data-only mode")
    raise RemoteProtocolError("codec", f"no value has the codec {codec}")


# ---------------------------------------------------------------- the values of a chunk


def pack_list(values: Sequence[Any], *, plain_only: bool = False) -> tuple[int, bytes]:
    """The items or results of a chunk, in order."""
    if type(values) is not list:
        return pack(values, plain_only=plain_only)
    if plain_only:
        return PLAIN, _plain(values)
    if _is_best_sent_plain(values):
        try:
            return PLAIN, _encode(values)
        except (ValueError, OverflowError):  # a lone surrogate, more than 64 bits
            pass
    return PICKLE, _pickled(values)


def unpack_list(codec: int, blob: bytes, *, plain_only: bool = False) -> list[Any]:
    """What pack_list was given, as a list (an array's items are numpy scalars, as in a loop)."""
    values = unpack(codec, blob, plain_only=plain_only)
    if type(values) is list:
        return values
    try:
        return list(values)
    except Exception as error:  # a user's __iter__ may raise anything
        raise RemoteProtocolError(
            "value", f"a list of values was expected, not {_name(values)}"
        ) from error


pack_items = pack_list
unpack_items = unpack_list


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
    outcomes = _guarded(_decode_outcomes, blob)
    if any(failure.offset < 0 for failure in outcomes.failures):
        raise RemoteProtocolError("value", "a failure at a negative offset")
    return unpack_list(outcomes.codec, outcomes.blob, plain_only=plain_only), outcomes.failures


def failures_of(blob: bytes) -> list[Failure]:
    """The failures of a chunk alone: plain words, no user value is opened."""
    return _guarded(_decode_outcomes, blob).failures


def with_failures(blob: bytes, failures: list[Failure]) -> bytes:
    """The same outcomes, their failures told in other words."""
    outcomes = _guarded(_decode_outcomes, blob)
    return _encode(_Outcomes(outcomes.codec, outcomes.blob, failures))


def rebuild(failure: Failure, *, plain_only: bool = False) -> BaseException:
    """The exception to raise for a failure, with the remote traceback as its cause."""
    error = _own_exception(failure.exception) if failure.exception and not plain_only else None
    if error is None:
        error = _our_exception(failure)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _own_exception(blob: bytes) -> BaseException | None:
    try:
        error = pickle.loads(blob)
    except Exception:  # noqa: BLE001 - unpickling runs anything; text and traceback remain
        return None
    return error if isinstance(error, BaseException) else None


def _our_exception(failure: Failure) -> BaseException:
    text = failure.text
    match failure.kind:
        case "worker-died":
            return WorkerDied(text, failure.attempts)
        case "timeout":
            return TaskTimeout(text)
        case "stopped":
            return TaskStopped(text)
        case "unsendable":
            return CannotShip(text)
        case "unloadable":
            return CannotLoad(text)
        case _:
            return TaskFailed(text)


def _printable(failure: Failure) -> Failure:
    """UTF-8 cannot carry lone surrogates, which file names in messages may contain."""
    text, story = _utf8(failure.text), _utf8(failure.traceback)
    if len(story) > limits.TRACEBACK_CHARS_MAX:
        half = limits.TRACEBACK_CHARS_MAX // 2
        story = f"{story[:half]}\n  [...]\n{story[-half:]}"
    attempts = [_utf8(attempt) for attempt in failure.attempts]
    return Failure(failure.offset, failure.kind, failure.exception, text, story, attempts)


def _utf8(text: str) -> str:
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


def _plain(value: Any) -> bytes:
    """Data-only mode: msgpack or an error that names the part that is no plain data."""
    fault = _plain_fault(value, "value", 0)
    if fault:
        raise CannotShip(f"this mesh sends plain data only: {fault}", fault)
    try:
        return _packed_array(value) if _is_ndarray(value) else _encode(value)
    except (ValueError, OverflowError) as error:
        raise CannotShip(f"this value is not plain data: {error}", str(error)) from error


def _plain_fault(value: Any, path: str, depth: int) -> str:
    """Where `value` holds something that would come back as another type; empty: nowhere."""
    kind = type(value)
    if kind in _SCALARS:
        return ""
    if depth > _DEPTH_MAX:
        return f"{path} is nested too deeply, or contains itself"
    if kind is list:
        if _SCALARS.issuperset(map(type, value)):
            return ""
        faults = (_plain_fault(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
        return next(filter(None, faults), "")
    if kind is dict:
        odd = next((key for key in value if type(key) not in _PLAIN_KEYS), None)
        if odd is not None:
            return f"{path} has the key {odd!r} (a {_name(odd)})"
        faults = (_plain_fault(v, f"{path}[{k!r}]", depth + 1) for k, v in value.items())
        return next(filter(None, faults), "")
    if _is_ndarray(value):
        return "" if _is_simple_array(value) else f"{path} is an array of dtype {value.dtype}"
    return f"{path} is a {_name(value)}"


def _unpacked_plain(blob: bytes) -> Any:
    if blob[:1] == b"\xc9" and _is_array_throughout(blob):
        return _guarded(_opened_array, memoryview(blob)[_EXT32_HEAD_OCTETS:])
    return _guarded(_decode, blob)


def _is_array_throughout(blob: bytes) -> bool:
    """Is the whole value one array? Then it need not be copied by the decoder on its way."""
    octets = int.from_bytes(blob[1:5], "big")
    return blob[5:6] == b"\x01" and octets == len(blob) - _EXT32_HEAD_OCTETS


def _guarded(decode: Callable[[Any], _T], blob: bytes | memoryview) -> _T:
    """Whatever a decoder makes of bytes that are no value is the sender's fault."""
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
        raise TypeError(f"a {_name(value)} is no plain data")
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
        raise ValueError("no array has so many items")
    if prod(shape) * item_octets != raw.nbytes:
        raise ValueError(f"{raw.nbytes} octets do not fill an array of shape {shape}")
    import numpy  # only who receives an array pays for numpy

    if not raw.nbytes:
        return numpy.empty(shape, head.dtype)
    if head.dtype == "|b1":  # octets other than 0 and 1 are no truth values
        return (numpy.frombuffer(raw, "|u1") != 0).reshape(shape)
    return numpy.frombuffer(raw, head.dtype).reshape(shape).copy()


def _opened_extension(code: int, data: memoryview) -> Any:
    if code != _EXT_NDARRAY:
        raise ValueError(f"no value has the extension {code}")
    return _opened_array(data)


_encode = msgspec.msgpack.Encoder(enc_hook=_array_inside).encode
_decode = msgspec.msgpack.Decoder(ext_hook=_opened_extension).decode
_decode_head = msgspec.msgpack.Decoder(_NdarrayHead).decode
_decode_outcomes = msgspec.msgpack.Decoder(_Outcomes).decode


# ---------------------------------------------------------------- everything else


def _pickled(value: Any) -> bytes:
    try:
        blob = pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 - whatever pickle dislikes: cloudpickle has the last word
        blob = b"__main__"
    if b"__main__" not in blob:
        return blob
    try:
        return whole.dumps(value)
    except Exception as error:  # a user's __reduce__ may raise anything
        culprit = _culprit(value, "value", 0)
        raise CannotShip(
            f"{culprit} cannot be sent to another process: {_headline(error)}", culprit
        ) from error


def _culprit(value: Any, path: str, depth: int) -> str:
    """The innermost part that refuses to be pickled, by the way that leads to it."""
    if depth < 8:
        for step, part in islice(_parts_of(value), 1000):
            if not _ships(part):
                return _culprit(part, path + step, depth + 1)
    return f"{path} (a {_name(value)})"


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What pickling this value would pickle too, with the step that leads there."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif hasattr(value, "__code__"):
        yield from _captured_by(value)
    else:
        if getattr(value, "__self__", None) is not None:
            yield ".__self__", value.__self__
        for name in ("func", "args", "keywords"):
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _captured_by(function: Any) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for name, cell in cells:
        try:
            yield f"'s variable {name}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f"'s global {name}", function.__globals__[name]


def _ships(value: Any) -> bool:
    try:
        whole.dumps(value)
    except Exception:  # noqa: BLE001 - the question is only whether it raises
        return False
    return True


def _name(value: Any) -> str:
    return type(value).__qualname__


def _headline(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"
