"""What is read of a damaged log: everything that the damage did not touch, and nothing that was never
written.

Each property is tried on logs of drawn records, among them such as hold the reader's own sign, a
whole record, or a whole log.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stealmesh.store import LogFile
from stealmesh.store.logfile import FILE, SURE, OpenedLog, OtherMesh
from stealmesh.store.records import (
    MAGIC_1,
    OPENING_OCTETS,
    SIGN,
    Identity,
    NotALog,
    framed,
    read,
    written,
)
from stealmesh_engine.effects import Write
from stealmesh_protocol.messages import JobKind, JobSpec, Keep, Kept, Part, Reign
from stealmesh_sim.platters import SPOILS, Content, Platter, spoilt

ME = bytes(range(16))
SALT = b"saltsalt"
IDENTITY = Identity(ME, generation=3, salt=SALT)
SPEC = JobSpec(ME + b"\0\0\0\1", JobKind.MAP, ME, "squares", ME, term=17)


def record(number: int, blob: bytes = b"\x2a" * 40) -> Keep:
    part = Part(17 << 32, number, number + 1, 0, 0.5)
    reign = Reign(17, 1, ME, [(ME, ME)])
    return Keep(
        SPEC, reign, number, 100, True, results=[Kept(number, number + 1, part)], blobs=[blob]
    )


BLOBS = st.one_of(
    st.binary(max_size=60),
    st.just(SIGN * 3),
    st.just(framed(record(77), OPENING_OCTETS, SALT)),
    st.just(framed(record(78), OPENING_OCTETS + 100, SALT)),
    st.just(written(IDENTITY, [record(79)])),
    st.integers(3000, 9000).map(lambda size: b"\x17" * size),
)
LOGS = st.lists(BLOBS, min_size=1, max_size=12).map(
    lambda blobs: [record(number, blob) for number, blob in enumerate(blobs)]
)


def disk_with(records: list[Keep], *, batch: int = 3) -> tuple[Platter, bytes]:
    """A log that was written in batches, and its seat."""
    platter = Platter()
    log = LogFile(platter, Random(5).randbytes)
    log.open()
    for begin in range(0, len(records), batch):
        log.put(records[begin : begin + batch])
        log.settle()
    return platter, log.seat


def opened(platter: Platter) -> OpenedLog:
    return LogFile(platter, Random(6).randbytes).open()


def spoil(platter: Platter, octets: bytes) -> None:
    platter.files[FILE] = Content(bytearray(octets), len(octets))


def numbers(records: list[Keep]) -> list[int]:
    return [each.number for each in records]


@given(records=LOGS, data=st.data())
def test_a_flipped_bit_costs_the_record_that_has_it(
    records: list[Keep], data: st.DataObject
) -> None:
    platter, seat = disk_with(records)
    octets = bytearray(platter.read(FILE) or b"")
    places = read(bytes(octets)).places
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= 1 << data.draw(st.integers(0, 7))
    spoil(platter, bytes(octets))
    hit = [n for n, (begin, end) in enumerate(places) if begin <= at < end]
    found = opened(platter)
    assert found.records == [each for each in records if each.number not in hit]
    assert found.lost == len(hit)
    assert (found.seat == seat) == (not hit)
    again = opened(platter)
    assert (again.seat, again.records, again.lost) == (found.seat, found.records, 0)


@given(records=LOGS, data=st.data())
def test_a_cut_costs_the_end_and_is_noticed(records: list[Keep], data: st.DataObject) -> None:
    platter, seat = disk_with(records)
    octets = platter.read(FILE) or b""
    places = read(octets).places
    cut = data.draw(st.integers(0, len(octets)))
    spoil(platter, octets[:cut])
    found = opened(platter)
    kept = [each for each, (_, end) in zip(records, places, strict=True) if end <= cut]
    assert found.records == kept
    assert bool(found.lost) == (cut < len(octets))
    assert (found.seat == seat) == (cut == len(octets))


@given(records=LOGS, data=st.data())
def test_without_the_file_beside_it_a_cut_is_noticed_but_for_the_last_batch(
    records: list[Keep], data: st.DataObject
) -> None:
    """After a power failure the mark beside the log may be of any age; the one in it is not."""
    platter, _ = disk_with(records)
    octets = platter.read(FILE) or b""
    places = read(octets).places
    last = places[(len(places) - 1) // 3 * 3][0]
    cut = data.draw(st.integers(OPENING_OCTETS, len(octets)))
    spoil(platter, octets[:cut])
    platter.remove(SURE)
    assert bool(opened(platter).lost) == (cut < last)


@given(records=LOGS, zeros=st.booleans(), data=st.data())
def test_a_lost_sector_costs_what_lay_in_it(
    records: list[Keep], zeros: bool, data: st.DataObject
) -> None:
    platter, seat = disk_with(records)
    octets = platter.read(FILE) or b""
    places = read(octets).places
    size = data.draw(st.sampled_from((512, 4096)))
    at = data.draw(st.integers(0, (len(octets) - 1) // size)) * size
    end = min(at + size, len(octets))
    filling = bytes(end - at) if zeros else Random(at).randbytes(end - at)
    after = octets[:at] + filling + octets[end:]
    spoil(platter, after)
    found = opened(platter)
    # A sector of zeros in a record may have been one of zeros before.
    pairs = zip(records, places, strict=True)
    kept = [each for each, (begin, stop) in pairs if octets[begin:stop] == after[begin:stop]]
    assert found.records == kept
    assert (found.seat == seat) == (len(kept) == len(records))


@given(
    records=LOGS,
    befalls=st.lists(st.sampled_from(sorted(SPOILS)), min_size=1, max_size=4),
    seed=st.integers(0, 1 << 30),
)
def test_nothing_is_read_that_was_not_written(
    records: list[Keep], befalls: list[str], seed: int
) -> None:
    platter, _ = disk_with(records)
    octets, rng = platter.read(FILE) or b"", Random(seed)
    for how in befalls:
        octets = spoilt(octets, how, rng)
    spoil(platter, octets)
    try:
        found = opened(platter)
    except NotALog:
        return
    assert all(each in records for each in found.records)
    assert numbers(found.records) == sorted(set(numbers(found.records)))


@given(records=LOGS, late=LOGS, seed=st.integers(0, 1 << 30))
def test_a_power_failure_costs_nothing_that_was_sure(
    records: list[Keep], late: list[Keep], seed: int
) -> None:
    """And it is not taken for damage: the keeper counts as before."""
    platter, seat = disk_with(records)
    log = LogFile(platter, Random(7).randbytes)
    log.open()
    log.put(late)
    platter.power_off(Random(seed))
    found = opened(platter)
    assert found.records[: len(records)] == records
    assert all(each in late for each in found.records[len(records) :])
    assert (found.seat, found.lost) == (seat, 0)


@given(records=LOGS, seed=st.integers(0, 1 << 30))
def test_a_power_failure_while_it_is_written_anew_costs_nothing(
    records: list[Keep], seed: int
) -> None:
    class Interrupted(Exception):
        pass

    def sync_names() -> None:
        raise Interrupted

    platter, seat = disk_with(records)
    log = LogFile(platter, Random(7).randbytes)
    log.open()
    platter.sync_names = sync_names  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        log.replace(records)
    del platter.sync_names
    platter.power_off(Random(seed))
    found = opened(platter)
    assert (found.records, found.seat, found.lost) == (records, seat, 0)


def test_a_result_that_is_a_whole_log_is_not_read_as_one_when_its_head_is_damaged() -> None:
    inner = written(IDENTITY, [record(50), record(51)])
    octets = bytearray(written(IDENTITY, [record(1), record(2, inner), record(3)]))
    begin = read(bytes(octets)).places[1][0]
    octets[begin + 3] ^= 4
    reading = read(bytes(octets))
    assert numbers(reading.records) == [1, 3]
    assert len(reading.damage) == 1


def test_an_older_log_in_its_place_is_noticed() -> None:
    platter, seat = disk_with([record(1)])
    old = platter.read(FILE) or b""
    log = LogFile(platter, Random(8).randbytes)
    log.open()
    log.write([Write(1, record(2))])
    log.replace([record(1), record(2)])
    spoil(platter, old)
    found = opened(platter)
    assert numbers(found.records) == [1]
    assert found.lost == 1
    assert found.seat != seat


def test_a_log_that_is_gone_is_noticed() -> None:
    platter, _ = disk_with([record(1)])
    platter.remove(FILE)
    assert opened(platter).lost == 1
    platter.files.clear()
    assert opened(platter).lost == 0


def test_a_log_of_another_mesh_is_refused() -> None:
    platter, _ = disk_with([record(1)])
    before = platter.read(FILE)
    with pytest.raises(OtherMesh):
        LogFile(platter, Random(8).randbytes, b"another mesh....").open()
    assert platter.read(FILE) == before


def _version_1(records: list[Keep]) -> bytes:
    """As the version before wrote it."""
    import zlib

    import msgspec

    octets = MAGIC_1 + ME
    for each in records:
        body = msgspec.msgpack.encode(each)
        octets += len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body
    return octets


def test_a_log_of_the_version_before_is_read_and_written_anew() -> None:
    platter = Platter()
    spoil(platter, _version_1([record(1), record(2)]))
    found = opened(platter)
    assert (numbers(found.records), found.seat, found.lost) == ([1, 2], ME, 0)
    assert not (platter.read(FILE) or b"").startswith(MAGIC_1)
    assert numbers(opened(platter).records) == [1, 2]


def test_a_damaged_log_of_the_version_before_does_not_count() -> None:
    platter = Platter()
    octets = bytearray(_version_1([record(1), record(2), record(3)]))
    octets[len(octets) // 2] ^= 1
    spoil(platter, bytes(octets))
    found = opened(platter)
    assert numbers(found.records) == [1]
    assert found.lost == 1
    assert found.seat != ME
