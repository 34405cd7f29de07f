"""Values come back with exactly the types that they had; blobs that are no values do no harm."""

import array
import collections
import enum
import functools
import json
import math
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext
from msgspec.msgpack import encode as packed

from stealmesh_protocol import limits, values
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
from stealmesh_protocol.values import (
    OUTCOMES,
    PICKLE,
    PLAIN,
    Failure,
    exception_as_data,
    pack,
    pack_list,
    pack_outcomes,
    rebuild,
    unpack,
    unpack_list,
    unpack_outcomes,
)


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


Pair = collections.namedtuple("Pair", "a b")


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return type(other) is Point and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def assert_same(left: Any, right: Any) -> None:
    """Equal, and of the same types all the way down."""
    assert type(left) is type(right)
    if isinstance(left, list | tuple | collections.deque):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    elif isinstance(left, dict):
        assert list(left) == list(right)  # the order too
        for (k, a), (m, b) in zip(left.items(), right.items(), strict=True):
            assert_same(k, m)
            assert_same(a, b)
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, float) and math.isnan(left):
        assert math.isnan(right)
    elif isinstance(left, set | frozenset):
        # The order is not part of a set: it depends on hashes, and those of text on the process.
        assert sorted(map(repr, left)) == sorted(map(repr, right))  # 1 or True?
    else:
        assert left == right
        assert type(left) is Point or repr(left) == repr(right)  # -0.0


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "int": -5,
    "2**63": 2**63,
    "2**64": 2**64,
    "-2**63-1": -(2**63) - 1,
    "float": 0.1,
    "-0.0": -0.0,
    "nan": math.nan,
    "inf": -math.inf,
    "complex": 3 + 4j,
    "str": "grüße \U0001f600",
    "lone surrogate": "\ud800",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "tuple": (1, "a", None),
    "tuples in a list": [(1, 2), (3, 4)],
    "tuple deep inside": [[1, [{"a": (1,)}]]],
    "bytearray in a list": [bytearray(b"x"), bytearray(b"y")],
    "bytearray deep inside": {"a": [{"b": bytearray(b"x")}]},
    "set": {1, 2},
    "frozenset": frozenset("ab"),
    "set in a list": [{1}],
    "range": range(2, 10, 3),
    "slice": slice(1, 2),
    "bools and ints": [True, 1, False, 0],
    "one bool among many ints": [*range(200), True],
    "one bool at the front": [True, *range(200)],
    "one float among many ints": [*range(200), 1.0],
    "one int among many floats": [*[0.5] * 200, 1],
    "one bool among many floats": [*[0.5] * 100, True, *[0.5] * 100],
    "IntEnum": Colour.RED,
    "IntEnum in a short list": [Colour.RED],
    "one IntEnum among many ints": [*range(200), Colour.RED, *range(200)],
    "one IntEnum among large ints": [*[2**40] * 200, Colour.RED, *[2**40] * 200],
    "int subclass": Number(3),
    "one int subclass among many": [*[2**40] * 200, Number(7), 2**40],
    "str subclass": Name("a"),
    "one str subclass among many": [*["a"] * 200, Name("b"), "c"],
    "float subclass": np.float64(0.5),
    "one numpy float among floats": [*[0.5] * 200, np.float64(0.5), 0.5],
    "many ints": list(range(10_000)),
    "many large ints": [2**40 + i for i in range(1000)],
    "many huge ints": [2**70 + i for i in range(1000)],
    "one huge int among large": [*[2**40] * 100, 2**70, *[2**40] * 100],
    "many floats": [i * 0.37 for i in range(1000)],
    "many strings": [f"item-{i}" for i in range(1000)],
    "one surrogate among many strings": [*["a"] * 200, "\ud800", "b"],
    "many bytes": [bytes([i % 256]) for i in range(1000)],
    "many nones": [None] * 1000,
    "dicts": [{"a": 1, "b": [1.5, None]}] * 100,
    "int keys": {1: "a", -5: "b"},
    "bool and int keys": {True: "a", 2: "b"},
    "None key": {None: 1},
    "tuple keys": {(1, 2): 3},
    "enum keys": {Colour.RED: 1},
    "order of keys": {"b": 1, "a": 2},
    "OrderedDict": collections.OrderedDict(a=1),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "deque": collections.deque([1, 2]),
    "msgpack-numpy's keys": {b"nd": True, b"type": "<f8", b"shape": [1], b"data": b"\0" * 8},
    "object": Point(4),
    "module function": json.dumps,
    "array.array": array.array("d", [1.0]),
    "numpy int": np.int32(5),
}
ARRAYS: dict[str, Any] = {
    **{dtype: np.arange(6).astype(dtype).reshape(2, 3) for dtype in values._ITEM_OCTETS},
    "no dimension": np.array(5.0),
    "no items": np.zeros((0, 5, 3)),
    "strided": np.arange(20)[::2],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(5, dtype=">i4"),
    "text": np.array(["a", "bcd"]),
    "dates": np.array(["2026-01-01"], dtype="datetime64[D]"),
    "structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "objects": np.array([None, "a"], dtype=object),
    "masked": np.ma.array([1, 2], mask=[True, False]),
    "large": np.arange(200_000.0).reshape(400, 500),
}


@pytest.mark.parametrize("title", [*VALUES, *ARRAYS])
def test_types_survive(title: str) -> None:
    value = {**VALUES, **ARRAYS}[title]
    assert_same(unpack(*pack(value)), value)
    assert_same(unpack(*pack([value, value])), [value, value])
    assert_same(unpack_list(*pack_list([value])), [value])
    assert_same(unpack_list(*pack_list([value] * 100)), [value] * 100)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.binary(max_size=5).map(bytearray)
    | st.just(Colour.RED)
    | st.frozensets(st.integers(), max_size=1)
)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(nested, st.integers(1, 150))
def test_types_survive_by_chance(value: Any, times: int) -> None:
    assert_same(unpack(*pack(value)), value)
    assert_same(unpack_list(*pack_list([value] * times)), [value] * times)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0,), (), (1, 1, 1, 2)])
def test_arrays_travel_as_they_lie_in_memory_and_are_one_s_own(shape: tuple[int, ...]) -> None:
    value = np.ones(shape)
    codec, blob = pack(value)
    assert codec == PLAIN
    assert len(blob) < value.nbytes + 40
    there = unpack(codec, blob)
    there += 1
    assert there.flags.writeable
    assert_same(unpack(codec, blob), value)


def test_a_list_of_what_is_no_list() -> None:
    assert unpack_list(*pack_list(range(3))) == [0, 1, 2]
    assert unpack_list(*pack_list((1, 2))) == [1, 2]
    items = unpack_list(*pack_list(np.array([1.5, 2.5])))  # type: ignore[arg-type]
    assert [type(item) for item in items] == [np.float64, np.float64]
    with pytest.raises(RemoteProtocolError, match="list"):
        unpack_list(PLAIN, b"\x05")


# ---------------------------------------------------------------- __main__

SENDER = """
import pickle, sys
from stealmesh_protocol import values
class Point:
    def __init__(self, x): self.x = x
    def double(self): return self.x * 2
def thrice(n): return helper(n) * 3
def helper(n): return n
answers = [values.pack(v) for v in (Point(4), [Point(5)], {"f": thrice}, Point, lambda n: n + 1)]
sys.stdout.buffer.write(pickle.dumps(answers))
"""


def test_what_lives_in_main_is_sent_by_value() -> None:
    """The sender's __main__ is a script; ours is pytest, which has no Point."""
    room = str(Path(values.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", SENDER],
        env={"PYTHONPATH": room},
        capture_output=True,
        check=True,
        timeout=60,
    )
    point, points, functions, cls, function = (unpack(*a) for a in pickle.loads(run.stdout))
    assert point.double() == 8
    assert points[0].double() == 10
    assert functions["f"](2) == 6
    assert cls(1).double() == 2
    assert function(1) == 2


def test_a_class_sent_by_value_comes_home_as_itself() -> None:
    class Local:
        pass

    there = unpack(*pack(Local))
    assert type(unpack(*pack(there()))) is Local


def test_numbers_need_neither_numpy_nor_cloudpickle() -> None:
    code = (
        "import sys; from stealmesh_protocol import codec, values as v;"
        "v.unpack(*v.pack([1, 'a', 2.5])); v.pack_outcomes(None, [v.Failure(0, 'timeout')]);"
        "v.unpack(*v.pack((1, 2)));"
        "assert not {'numpy', 'cloudpickle', 'zmq', 'asyncio'} & set(sys.modules)"
    )
    room = str(Path(values.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": room}, check=True, timeout=60)


# ---------------------------------------------------------------- what cannot be sent


LOCK = threading.Lock()


class Rude:
    def __init__(self) -> None:
        self.lock = LOCK

    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class RudeDict(dict[str, Any]):
    def __reduce__(self) -> Any:
        raise TypeError("not me, and not what is in me")


def holder_of(inner: Any) -> Any:
    return types.SimpleNamespace(inner=inner)


@pytest.mark.parametrize(
    ("value", "culprit"),
    [
        (LOCK, "value (a lock)"),
        ([1, {"k": LOCK}], "value[1]['k'] (a lock)"),
        (holder_of(holder_of(LOCK)), "value.inner.inner (a lock)"),
        ((lambda inner: lambda: inner)(LOCK), "value's variable inner (a lock)"),
        (functools.partial(print, LOCK), "value.args[0] (a lock)"),
        ([Rude()], "value[0] (a Rude)"),
        ([RudeDict(lock=LOCK)], "value[0] (a RudeDict)"),
        ((n for n in [1]), "value (a generator)"),
    ],
)
def test_the_culprit_is_named(value: Any, culprit: str) -> None:
    for attempt in (pack, pack_list):
        with pytest.raises(CannotShip) as caught:
            attempt(value)
        assert caught.value.culprit == culprit
        assert culprit in str(caught.value)


def test_what_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    there = unpack(*pack(loop))
    assert there[0] is there
    with pytest.raises(CannotShip, match="itself"):
        pack(loop, plain_only=True)


# ---------------------------------------------------------------- data-only mode


PLAIN_VALUES = (
    "none", "true", "int", "2**63", "float", "nan", "str", "bytes", "empty list", "empty dict", "bools and ints",
    "many ints", "many floats", "dicts", "int keys", "None key", "msgpack-numpy's keys",
)  # fmt: skip


@pytest.mark.parametrize("title", PLAIN_VALUES)
def test_plain_data_is_sent_in_data_only_mode(title: str) -> None:
    for value in (VALUES[title], [[VALUES[title]]], {"a": {"b": VALUES[title]}}):
        codec, blob = pack(value, plain_only=True)
        assert codec == PLAIN
        assert_same(unpack(codec, blob, plain_only=True), value)


def test_arrays_are_plain_data_also_deep_inside() -> None:
    value = {"a": [np.arange(3), np.ones((2, 2))], "b": np.zeros(0)}
    assert_same(unpack(*pack(value, plain_only=True), plain_only=True), value)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (Pair(1, 2), "value is a Pair"),
        ([1, {"a": (1, {2})}], "value[1]['a'][1] is a set"),
        ({"a": bytearray()}, "value['a'] is a bytearray"),
        ([Colour.RED], "value[0] is a Colour"),
        ({(1, 2): 3}, "value has the key (1, 2) (a tuple)"),
        ({Colour.RED: 3}, "(a Colour)"),
        ([{1}], "value[0] is a set"),
        (np.array([None]), "value is an array of dtype object"),
        ([np.array(["a"])], "value[0] is an array of dtype <U1"),
        (Point(1), "value is a Point"),
        (2**64, "not plain data"),
        ("\ud800", "not plain data"),
    ],
)
def test_anything_else_is_refused_in_data_only_mode(value: Any, fault: str) -> None:
    for attempt in (pack, pack_list):
        with pytest.raises(CannotShip) as caught:
            attempt(value, plain_only=True)
        assert fault in str(caught.value)


def test_nothing_is_unpickled_in_data_only_mode() -> None:
    marker: list[str] = []

    class Bomb:
        def __reduce__(self) -> Any:
            return marker.append, ("opened",)

    blob = pickle.dumps(marker)
    with pytest.raises(RemoteProtocolError, match="data-only"):
        unpack(PICKLE, blob, plain_only=True)
    codec, outcomes = pack_outcomes(
        [], [Failure(0, "raised", pickle.dumps(ValueError("x")), "text")]
    )
    with pytest.raises(RemoteProtocolError, match="codec"):
        unpack(codec, outcomes, plain_only=True)
    _, failures = unpack_outcomes(codec, outcomes, plain_only=True)
    events: list[str] = []
    sys.addaudithook(lambda event, _: events.append(event) if armed else None)
    armed = True
    error = rebuild(failures[0], plain_only=True)
    armed = False
    assert type(error) is TaskFailed
    assert "pickle.find_class" not in events


@pytest.mark.parametrize(
    "value",
    [(), (1, "a", None), [(1, (2, [3])), {"k": (4,)}], ((1, 2), {}), {"a": [(np.arange(3), b"x")]}],
    ids=repr,
)
def test_tuples_stay_tuples_in_data_only_mode(value: Any) -> None:
    assert_same(unpack(*pack(value, plain_only=True), plain_only=True), value)


@pytest.mark.parametrize(
    "blob",
    [packed(Ext(2, packed(1))), packed(Ext(2, b"")), packed(Ext(3, packed("a"))), packed(Ext(3, packed(0)))],
    ids=["a tuple of a number", "an empty one", "no number", "nothing was left out"],
)  # fmt: skip
def test_extensions_of_data_only_mode_that_are_none(blob: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="value"):
        unpack(PLAIN, blob)


def test_a_tuple_nested_without_end_is_refused() -> None:
    blob = packed([])
    for _ in range(2000):
        blob = packed(Ext(2, packed([Ext(2, blob)])))[:60_000] if len(blob) < 50_000 else blob
    with pytest.raises(RemoteProtocolError, match="value"):
        unpack(PLAIN, blob)


def with_note(error: Exception) -> Exception:
    error.add_note("a note")
    return error


@pytest.mark.parametrize(
    "error",
    [ValueError("bad", 3), KeyError("k"), with_note(ZeroDivisionError("x")), FileNotFoundError(2, "no", "/f")],
    ids=repr,
)  # fmt: skip
def test_pythons_own_exceptions_travel_as_data(error: Exception) -> None:
    failure = Failure(0, "raised", exception_as_data(error), "its text")
    there = rebuild(failure, plain_only=True)
    assert type(there) is type(error)
    assert (str(there), there.args) == (str(error), error.args)
    assert getattr(there, "__notes__", None) == getattr(error, "__notes__", None)


class Own(ValueError):
    pass


@pytest.mark.parametrize(
    "error", [Own("x"), SystemExit(1), ValueError({1}), ExceptionGroup("g", [OSError()])]
)
def test_no_other_exception_does(error: BaseException) -> None:
    assert exception_as_data(error) == b""


def test_the_words_of_other_exceptions_are_raised_as_their_nearest_type() -> None:
    failure = Failure(0, "raised", text="Own: x", bases=["mymodule:Own", "builtins:ValueError"])
    there = rebuild(failure, plain_only=True)
    assert isinstance(there, TaskFailed)
    assert isinstance(there, ValueError)
    assert "mymodule" not in sys.modules
    assert str(there) == "Own: x"


@pytest.mark.parametrize(
    "told", [["SystemExit", [1], []], ["Own", [], []], ["UnicodeDecodeError", [], []], 7]
)
def test_data_that_tell_of_no_exception(told: Any) -> None:
    failure = Failure(0, "raised", packed(told), "its text")
    assert type(rebuild(failure, plain_only=True)) is TaskFailed


# ---------------------------------------------------------------- blobs that are none

HEAD = packed(["<f8", [2]])


def extension(data: bytes, code: int = 1) -> bytes:
    return packed(Ext(code, data))


def array_blob(dtype: Any, shape: Any, raw: bytes) -> bytes:
    head = packed([dtype, shape])
    return b"\xc9" + (2 + len(head) + len(raw)).to_bytes(4, "big") + b"\x01" + len(head).to_bytes(2, "big") + head + raw  # fmt: skip


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "trailing": b"\x90\x90",
    "0xc1": b"\xc1",
    "truncated": b"\x92\x01",
    "bad UTF-8": b"\xa1\xff",
    "depth 2000": b"\x91" * 2000 + b"\xc0",
    "array of 2**32-1": b"\xdd\xff\xff\xff\xff",
    "map as a key": b"\x81\x80\x01",
    "good array under another extension": extension(array_blob("<f8", [1], bytes(8))[6:], 5),
    "timestamp of 3 octets": b"\xc7\x03\xffabc",
    "array of objects": array_blob("|O", [1], bytes(8)),
    "structured array": array_blob("<i4,<f8", [1], bytes(12)),
    "array of empty strings": array_blob("S0", [1 << 40], b""),
    "big endian array": array_blob(">f8", [1], bytes(8)),
    "dtype that is none": array_blob("banana", [1], bytes(8)),
    "dtype that is a list": array_blob([["a", "<f8"]], [1], bytes(8)),
    "negative dimension": array_blob("<f8", [-1], bytes(8)),
    "two negative dimensions": array_blob("<f8", [-1, -1], bytes(8)),
    "product beyond u64": array_blob("<f8", [2**32, 2**32, 2**32], b""),
    "huge dimension beside 0": array_blob("<f8", [0, 10**18], b""),
    "an octet less": array_blob("<f8", [2], bytes(15)),
    "an octet more": array_blob("<f8", [2], bytes(17)),
    "dimension that is a float": array_blob("<f8", [1.0], bytes(8)),
    "33 dimensions": array_blob("<f8", [1] * 33, bytes(8)),
    "head longer than all": extension(b"\xff\xff" + HEAD),
    "head missing": extension(b""),
    "head alone": extension(len(HEAD).to_bytes(2, "big") + HEAD),
}


@pytest.mark.parametrize("title", GARBAGE)
@pytest.mark.parametrize("inside", [False, True])
def test_garbage_is_refused(title: str, inside: bool) -> None:
    blob = b"\x91" + GARBAGE[title] if inside else GARBAGE[title]
    with pytest.raises(RemoteProtocolError):
        unpack(PLAIN, blob)


def test_the_arrays_of_this_file_are_good_apart_from_their_fault() -> None:
    assert_same(unpack(PLAIN, array_blob("<f8", [2], bytes(16))), np.zeros(2))
    assert_same(unpack(PLAIN, b"\x91" + array_blob("<f8", [2], bytes(16))), [np.zeros(2)])
    truths = unpack(PLAIN, array_blob("|b1", [3], b"\x00\x01\x07"))
    assert truths.view("u1").tolist() == [0, 1, 1]


@pytest.mark.parametrize("shape", [[-1], [-1, -1], [0, -1]])
def test_a_negative_dimension_is_refused_before_numpy_is_asked(shape: list[int]) -> None:
    with pytest.raises(RemoteProtocolError, match="no array has such a shape"):
        unpack(PLAIN, array_blob("<f8", shape, bytes(8)))


@pytest.mark.parametrize("codec", [3, 4, 99, -1, OUTCOMES])
def test_unknown_codecs(codec: int) -> None:
    with pytest.raises(RemoteProtocolError, match="codec"):
        unpack(codec, b"\x90")


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_noise(blob: bytes) -> None:
    for attempt in (blob, b"\xc9" + blob, array_blob("<f4", [1], blob)):
        try:
            unpack(PLAIN, attempt)
        except RemoteProtocolError:
            pass
        try:
            unpack_outcomes(OUTCOMES, attempt)
        except (RemoteProtocolError, CannotLoad):
            pass


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_what_cannot_be_opened_says_why() -> None:
    with pytest.raises(CannotLoad, match="ValueError: invalid literal") as caught:
        unpack(PICKLE, pickle.dumps(Unloadable()))
    assert type(caught.value.__cause__) is ValueError
    with pytest.raises(CannotLoad):
        unpack(PICKLE, b"garbage")


# ---------------------------------------------------------------- outcomes


def test_a_chunk_without_failures_is_just_its_values() -> None:
    assert unpack_outcomes(*pack_list([1, (2,)])) == ([1, (2,)], [])


def test_failures_stand_beside_the_values() -> None:
    failures = [
        Failure(1, "raised", b"blob", "ValueError: x", "Traceback ...", ["first", "second"]),
        Failure(3, "unsendable", text="\ud800 lone"),
    ]
    codec, blob = pack_outcomes([(1,), None, 3, None], failures)
    assert codec == OUTCOMES
    there, told = unpack_outcomes(codec, blob)
    assert there == [(1,), None, 3, None]
    assert told[0] == failures[0]
    assert told[1].text == "\\ud800 lone"


def test_a_failure_without_values() -> None:
    assert unpack_outcomes(*pack_outcomes(None, [Failure(0, "timeout", text="slow")])) == (
        [],
        [Failure(0, "timeout", text="slow")],
    )


def test_long_tracebacks_lose_their_middle() -> None:
    story = "first\n" + "x" * 10**6 + "\nlast"
    _, (failure,) = unpack_outcomes(*pack_outcomes(None, [Failure(0, "raised", traceback=story)]))
    assert len(failure.traceback) < limits.TRACEBACK_CHARS_MAX + 20
    assert failure.traceback.startswith("first")
    assert failure.traceback.endswith("last")


@pytest.mark.parametrize(
    "fields",
    [
        [0, b"\x90"],
        [0, b"\x90", [[-1, "raised"]]],
        [0, "text", []],
        [0, b"\x90", [[0]]],
        [9, b"\x90", []],
        [0, b"\x05", []],
        {"a": 1},
    ],
)
def test_outcomes_that_are_none(fields: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_outcomes(OUTCOMES, packed(fields))


def test_the_task_s_own_exception_comes_back_as_itself() -> None:
    failure = Failure(0, "raised", pickle.dumps(KeyError("k")), "KeyError: 'k'", "Traceback: here")
    error = rebuild(failure)
    assert type(error) is KeyError
    assert error.args == ("k",)
    assert type(error.__cause__) is RemoteTraceback
    assert "Traceback: here" in str(error.__cause__)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("raised", TaskFailed),
        ("worker-died", WorkerDied),
        ("timeout", TaskTimeout),
        ("stopped", TaskStopped),
        ("unsendable", CannotShip),
        ("unloadable", CannotLoad),
        ("something new", TaskFailed),
    ],
)
@pytest.mark.parametrize("exception", [b"", b"garbage", pickle.dumps("no exception")])
def test_where_there_is_none_one_of_ours_speaks_for_it(
    kind: str, cls: type[BaseException], exception: bytes
) -> None:
    error = rebuild(Failure(0, kind, exception, "what happened", attempts=["a", "b"]))
    assert type(error) is cls
    assert "what happened" in str(error)
    if isinstance(error, WorkerDied):
        assert error.attempts == ["a", "b"]
