"""The octets of a value: packed, kept on a shelf, handed to a neighbour, mapped and opened."""

from __future__ import annotations

import os
import pickle
import resource
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stealmesh.values import parts, shelf
from stealmesh.values.neighbours import Neighbours
from stealmesh.values.shelf import Shelf
from stealmesh_protocol import pickles

VALUE = bytes(range(24))
LARGE = shelf.SMALL_OCTETS_MAX + 1


def kept(value: Any, name: bytes = VALUE) -> Shelf:
    packed = parts.packed(value)
    on = Shelf()
    on.put(name, packed.octets, packed)
    return on


def opened(on: Shelf) -> Any:
    descriptor = on.descriptor(VALUE)
    try:
        return parts.mapped(descriptor, on.octets(VALUE))
    finally:
        os.close(descriptor)


@given(st.lists(st.integers(0, 200_000), max_size=6), st.dictionaries(st.text(), st.integers()))
def test_a_value_comes_back_as_it_was(sizes: list[int], rest: dict[str, int]) -> None:
    value = [bytearray(b"\5" * size) for size in sizes], rest
    on = kept(value)
    assert opened(on) == value
    on.close()


@pytest.mark.parametrize(
    "value",
    [
        b"__main__" * 40_000,
        "__main__ é" * 40_000,
        {"text": "x" * 70_000, "many": [b"a" * 65_536, b"b" * 65_535, 1 << 900_000]},
    ],
    ids=["bytes", "text", "both"],
)
def test_large_data_is_kept_from_where_it_lies_and_names_nothing(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "by_value", lambda value: pytest.fail("nothing here is a name"))
    on = kept(value)
    assert opened(on) == value
    on.close()
    if isinstance(value, bytes):
        assert any(piece is value for _, piece in parts.packed(value)), "it was copied"


def test_a_large_bytearray_may_change_before_it_is_kept() -> None:
    value = bytearray(LARGE)
    packed = parts.packed(value)
    value += b"\1" * LARGE  # it would refuse if somebody looked at it
    on = Shelf()
    on.put(VALUE, packed.octets, packed)
    assert opened(on) == bytes(LARGE)
    on.close()


FRAME = b"\x95"


@pytest.mark.parametrize("before", [b"a" * 70_000, b"a" * 60_000], ids=["data", "in a large frame"])
def test_a_name_behind_data_is_seen(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        pass

    Local.__module__, Local.__qualname__ = "__main__", "Local"
    monkeypatch.setattr(sys.modules["__main__"], "Local", Local, raising=False)
    monkeypatch.setattr(pickles, "by_value", lambda value: b"by value")
    whole = pickle.dumps([before, Local], 5)
    frame = len(whole) - whole.rindex(FRAME)
    # Numbers of a user's array may look like the length of the frame behind them.
    for data in (before, before[:-4] + frame.to_bytes(4, "little")):
        assert [bytes(each) for _, each in parts.packed([data, b"c" * 60_000, Local])][1:] == [
            b"by value"
        ]
        assert [bytes(each) for _, each in parts.packed([data, Local])][1:] == [b"by value"]


@pytest.mark.parametrize("octets", [10, LARGE])
def test_what_is_changed_in_a_map_is_changed_nowhere_else(octets: int) -> None:
    on = kept(bytearray(octets))
    first = opened(on)
    first[:] = b"\1" * octets
    assert opened(on) == bytes(octets)
    on.close()


def test_the_file_of_a_value_cannot_be_changed() -> None:
    on = kept(bytearray(LARGE))
    descriptor = on.descriptor(VALUE)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)
    on.close()


@pytest.mark.parametrize("octets", [10, LARGE, 3 * LARGE])
def test_a_value_that_comes_in_pieces(octets: int) -> None:
    source, target = kept(os.urandom(octets)), Shelf()
    size = source.octets(VALUE)
    target.keep_room(VALUE, size)
    for at in reversed(range(0, size, 50_000)):
        target.write(VALUE, at, source.read(VALUE, at, 50_000))
    assert opened(target) == opened(source)
    assert target.read(bytes(24), 0, 10) == b""
    for each in (source, target):
        each.close()


def test_a_shelf_closes_what_it_forgets() -> None:
    before = len(os.listdir("/proc/self/fd"))
    on = kept(bytearray(LARGE))
    on.keep_room(b"b" * 24, LARGE)
    on.keep_room(b"b" * 24, LARGE)
    on.forget(VALUE)
    on.close()
    assert VALUE not in on
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_neighbour_hands_over_the_file_itself() -> None:
    source, target = kept(bytearray(b"\7" * LARGE)), Shelf()
    giver, taker = Neighbours(os.urandom(16), source), Neighbours(os.urandom(16), target)
    giver.serve()
    octets = source.octets(VALUE)
    assert taker._take(VALUE, octets, giver._me)
    source.close()
    assert opened(target) == b"\7" * LARGE
    assert not taker._take(VALUE, octets, giver._me), "it is not there any more"
    giver.close()
    assert not taker._take(VALUE, octets, giver._me), "no process listens"
    target.close()


def test_a_value_that_comes_in_pieces_is_not_replaced() -> None:
    source, target = kept(bytearray(LARGE)), Shelf()
    giver, taker = Neighbours(os.urandom(16), source), Neighbours(os.urandom(16), target)
    giver.serve()
    target.keep_room(VALUE, source.octets(VALUE))
    assert not taker._take(VALUE, source.octets(VALUE), giver._me)
    target.write(VALUE, 0, b"x")  # its own file, which nothing has sealed
    giver.close()
    for each in (source, target):
        each.close()


def test_a_file_of_another_size_is_not_taken() -> None:
    source, target = kept(bytearray(LARGE)), Shelf()
    giver, taker = Neighbours(os.urandom(16), source), Neighbours(os.urandom(16), target)
    giver.serve()
    assert not taker._take(VALUE, source.octets(VALUE) + 1, giver._me)
    assert VALUE not in target
    giver.close()
    source.close()


def test_a_piece_that_is_on_its_way_outlives_its_file() -> None:
    before = len(os.listdir("/proc/self/fd"))
    octets = os.urandom(3 * LARGE)
    on = kept(octets)
    whole = on.read(VALUE, 0, on.octets(VALUE))
    assert isinstance(whole, memoryview), "it is not copied"
    assert whole.readonly
    piece = on.read(VALUE, 50_000, 50_000)
    on.close()
    assert piece == whole[50_000:100_000]
    assert octets in bytes(whole)
    del piece, whole
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_piece_is_copied_when_no_descriptor_is_left_for_a_map() -> None:
    """Once: it ended the node."""
    on = kept(b"v" * LARGE)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        piece = on.read(VALUE, 50_000, 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert piece == b"v" * 1000
    on.close()
