"""Items that results of others go into: put together unopened, opened in one piece, and damaged ones refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stealmesh_protocol import apart, given
from stealmesh_protocol import values as vx
from stealmesh_protocol.codec import split
from stealmesh_protocol.errors import LocalProtocolError, RemoteProtocolError
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import (
    Block,
    Fetched,
    Grant,
    JobKind,
    JobLine,
    JobSpec,
    Keep,
    Lease,
    Message,
    Reign,
    Supply,
)

OWNER, DIGEST = bytes([7]) * 16, bytes(16)
JOB = OWNER + bytes(4)
OTHER, THIRD = job_id(OWNER, 1), job_id(OWNER, 2)


class Slot(apart.LeavesItselfOut):
    pass


def item(count: int, known: dict[int, tuple[int, bytes]] | None = None) -> bytes:
    packed, _ = apart.packed_apart(vx.pack, [Slot() for _ in range(count)])
    return given.item_apart(packed, count, known or {})


def opened(blob: bytes) -> object:
    (entry,) = vx.entries_of(blob)
    return entry.open()


def result(values: list[object], offset: int) -> given.Result:
    found = vx.good_in(*vx.pack_list(values), offset)
    assert found is not None
    return found


def test_an_item_is_the_same_with_or_without_what_goes_into_it() -> None:
    item = given.item_apart((0, b"\x90"), 1, {})
    whole = given.filled(item, [given.Result(0, b"\x91\x01", 0)])
    assert given.is_same_item(item, whole)
    assert not given.is_same_item(item, given.item_apart((0, b"\x91\x01"), 1, {}))
    assert not given.is_same_item(item, given.item_apart((0, b"\x90"), 2, {}))
    assert not given.is_same_item(b"\x90", b"\x90")
    assert not given.is_same_item(item, item[:-3])


def test_results_of_chunks_go_into_their_places() -> None:
    chunk = result([10, 11, 12], 0)
    blob = given.filled(item(3, {1: vx.pack("known")}), [chunk, chunk._replace(offset=2)])
    assert opened(blob) == [10, "known", 12]
    assert len(given.opened(memoryview(blob)[11:]).results) == 2  # the chunk is there once


def test_results_packed_one_by_one_and_beside_failures() -> None:
    one_by_one = given.Result(vx.ITEMS, vx.join_entries([vx.pack(1), vx.pack((2,))]), 1)
    codec, blob = vx.pack_outcomes([5, None], [vx.Failure(1, vx.RAISED)])
    beside = vx.good_in(codec, blob, 0)
    assert opened(given.filled(item(2), [one_by_one, beside])) == [(2,), 5]
    assert vx.good_in(codec, blob, 1) is None
    assert vx.good_in(vx.OUTCOMES, b"\xc1", 0) is None


def test_places_that_stay_empty_are_filled_later() -> None:
    half = given.filled(item(2), [None, result([1], 0)])
    assert given.places_in(half, 1)
    assert not given.places_in(half, 2)
    assert opened(given.filled(half, [result([0], 0)])) == [0, 1]
    with pytest.raises(RemoteProtocolError):
        opened(half)
    with pytest.raises(RemoteProtocolError):
        given.filled(half, [])


@pytest.mark.parametrize("blob", [b"", b"\x90", item(1)[:-1], vx.join_entries([(0, b"\x01")])])
def test_what_is_no_such_item_is_seen(blob: bytes) -> None:
    assert not given.places_in(blob, 1)


@pytest.mark.parametrize(
    "blob",
    [b"", b"\xc0", b"\x94\x00\xc4\x01\x90\x90\x91\x92\x00\x00", b"\x94\x05\xc4\x01\x90\x90\x90",
     b"\x94\x00\xc4\x01\x90\x91\xc4\x00\x91\x92\x00\x00", b"\x94\x00\xc4\x01\x90\x91\xc4\x02\x00\x90\x91\x92\x00\x07"],
)  # fmt: skip
def test_a_damaged_item_is_a_typed_error(blob: bytes) -> None:
    (entry,) = vx.entries_of(vx.join_entries([(vx.APART, blob)]))
    with pytest.raises(RemoteProtocolError):
        entry.open()


def granted(block: Block, *, kind: JobKind = JobKind.SUBMIT, term: int = 0) -> Grant:
    spec = JobSpec(JOB, kind, OWNER, "f", DIGEST, term=term)
    return Grant(spec, [Lease(1 << 32, block.lo, block.hi)], [block], 0, [item(1)])


GOOD = Block(4, 5, vx.ITEMS, (), ((JOB, 3, 1 << 32),))


def test_a_grant_of_an_item_that_waits_can_be_said() -> None:
    assert split(granted(GOOD), 1, 0)


@pytest.mark.parametrize(
    "message",
    [
        granted(Block(4, 6, vx.ITEMS, (), GOOD.inputs)),
        granted(Block(4, 5, vx.PICKLE, (), GOOD.inputs)),
        granted(Block(4, 5, vx.ITEMS, (), ((JOB, 4, 1),))),
        granted(Block(4, 5, vx.ITEMS, (), ((JOB, -1, 1),))),
        granted(Block(4, 5, vx.ITEMS, (), ((JOB, 3, -1),))),
        granted(Block(4, 5, vx.ITEMS, (), ((JOB[:-1], 3, 1),))),
        granted(Block(4, 5, vx.ITEMS, (), ((bytes(20), 3, 1),))),
        granted(Block(4, 5, vx.ITEMS, (), ((JOB, 3, 1),) * 65)),
        granted(GOOD, kind=JobKind.MAP),
        granted(GOOD, term=1),
    ],
)
def test_inputs_that_make_no_sense_are_refused(message: Grant) -> None:
    with pytest.raises(LocalProtocolError):
        split(message, 1, 0)


CALLS = Block(0, 1, vx.ITEMS, (), ((JOB, 0, 0), (OTHER, 0, 0)))


def supplied(block: Block, job: bytes = THIRD) -> Supply:
    return Supply(job, [block], blobs=[item(2)])


def kept(block: Block) -> Keep:
    spec = JobSpec(THIRD, JobKind.SUBMIT, OWNER, "f", DIGEST, term=1)
    return Keep(spec, Reign(1, 0, OWNER, []), blocks=[block], blobs=[item(2)])


@pytest.mark.parametrize("said", [supplied, kept], ids=["SUPPLY", "KEEP"])
def test_durable_calls_go_into_a_durable_call(said: Callable[[Block], Message]) -> None:
    assert split(said(CALLS), 1, 0)
    of_another = Block(0, 1, vx.ITEMS, (), ((bytes(20), 0, 0),))
    assert split(said(of_another), 1, 0), "its program is another one"


@pytest.mark.parametrize("said", [supplied, kept], ids=["SUPPLY", "KEEP"])
@pytest.mark.parametrize(
    "block",
    [
        Block(0, 2, vx.ITEMS, (), CALLS.inputs),
        Block(0, 1, vx.PICKLE, (), CALLS.inputs),
        Block(0, 1, vx.ITEMS, (), ((JOB, 1, 0),)),
        Block(0, 1, vx.ITEMS, (), ((JOB, 0, 1),)),
        Block(0, 1, vx.ITEMS, (), ((THIRD, 0, 0),)),
        Block(0, 1, vx.ITEMS, (), ((JOB, 0, 0), (JOB, 0, 0))),
        Block(0, 1, vx.ITEMS, (), ((JOB[:-1], 0, 0),)),
        Block(0, 1, vx.ITEMS, (), tuple((job_id(OWNER, n), 0, 0) for n in range(9, 1034))),
    ],
    ids=["two items", "packed together", "an item", "a lease", "itself", "twice", "no job", "too many"],
)  # fmt: skip
def test_calls_that_make_no_sense_are_refused(
    said: Callable[[Block], Message], block: Block
) -> None:
    with pytest.raises(LocalProtocolError):
        split(said(block), 1, 0)


def test_who_launched_it_is_a_name() -> None:
    line = JobLine(JOB, JobKind.SUBMIT, "f", "done", 1, 1, 0, 0, 0, 0, 0)
    assert split(Fetched(JOB, 0, line, guest="ada"), 0, 0)
    with pytest.raises(LocalProtocolError):
        split(Fetched(JOB, 0, line, guest="a\nb"), 0, 0)
