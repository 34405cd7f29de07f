"""What a process keeps of values: memory first, then disk, then a refusal; and nothing is left on disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from stealmesh.values import parts, room
from stealmesh.values.room import Room
from stealmesh.values.shelf import Shelf
from stealmesh_engine.config import Config
from stealmesh_protocol.errors import StoreFull

OCTETS = 200_000


def name(number: int) -> bytes:
    return bytes([number]) * 24


def put(on: Shelf, number: int) -> None:
    packed = parts.packed(bytearray([number]) * OCTETS)
    on.put(name(number), packed.octets, packed)


def opened(on: Shelf, number: int) -> bytearray:
    descriptor = on.descriptor(name(number))
    try:
        value = parts.mapped(descriptor, on.octets(name(number)))
        assert isinstance(value, bytearray)
        return value
    finally:
        os.close(descriptor)


def test_what_memory_has_no_room_for_goes_to_disk(tmp_path: Path) -> None:
    on = Shelf(Room(500_000, 500_000, str(tmp_path)))
    for number in range(4):
        put(on, number)
        assert opened(on, number) == bytes([number]) * OCTETS
    assert on.facts()["disk_octets"] == on.facts()["memory_octets"] >= 2 * OCTETS
    on.forget(name(0))
    put(on, 5)
    assert on.facts()["spilled_octets"] == on.facts()["disk_octets"], "there was room in memory"
    assert not list(tmp_path.iterdir()), "the files have no names"
    on.close()
    assert on.room.memory == on.room.disk == 0


def test_beyond_memory_and_disk_it_is_refused(tmp_path: Path) -> None:
    on = Shelf(Room(300_000, 300_000, str(tmp_path)))
    put(on, 0)
    put(on, 1)
    with pytest.raises(StoreFull, match=r"300,000.*store_memory_octets.*store_disk_octets.*raise"):
        put(on, 2)
    with pytest.raises(StoreFull):
        on.keep_room(name(2), OCTETS)
    assert name(2) not in on
    on.forget(name(1))
    put(on, 2)
    assert opened(on, 2) == b"\2" * OCTETS
    on.close()


def test_a_full_disk_is_found_out_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    on = Shelf(Room(1, 0, str(tmp_path)))
    with pytest.raises(StoreFull, match="No space left"):
        put(on, 1)
    with pytest.raises(StoreFull, match="TMPDIR"):
        Shelf(Room(1, 0, str(tmp_path / "nowhere"))).keep_room(name(1), OCTETS)
    assert on.room.disk == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_could_not_be_filled_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "pwrite", broken)
    on = Shelf(Room(1, 0, str(tmp_path)))
    with pytest.raises(OSError, match="Input/output error"):
        put(on, 1)
    assert name(1) not in on
    assert on.room.disk == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_handed_out_cannot_change_the_file(tmp_path: Path) -> None:
    on = Shelf(Room(1, 0, str(tmp_path)))
    put(on, 7)
    found = opened(on, 7)
    found[:] = bytes(OCTETS)
    descriptor = on.descriptor(name(7))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)
    assert opened(on, 7) == b"\7" * OCTETS
    on.close()


def test_what_a_neighbour_hands_over_takes_no_room(tmp_path: Path) -> None:
    source, target = Shelf(Room(1, 0, str(tmp_path))), Shelf(Room(1, 1))
    put(source, 3)
    octets = source.octets(name(3))
    assert target.adopt(name(3), source.descriptor(name(3)), octets)
    source.close()
    assert opened(target, 3) == b"\3" * OCTETS
    assert target.room.memory == target.room.disk == 0
    target.close()
    assert target.room.memory == target.room.disk == 0


def test_a_worker_gets_something_for_a_value_that_is_gone() -> None:
    on = Shelf()
    descriptor = on.given(name(1))
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)
    assert on.missed == 1


def test_the_bounds_follow_from_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = room.resolved(Config(), str(tmp_path))
    assert found.store_memory_octets == int(0.3 * room.memory_octets()) > 0
    assert found.store_disk_octets > 1
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(room, "_CGROUP_LIMIT", str(limit))
    limit.write_text("max\n")
    assert room.memory_octets() >= found.store_memory_octets
    limit.write_text("1000000\n")
    assert room.resolved(Config()).store_memory_octets == 300_000
    given = Config(store_memory_octets=5, store_disk_octets=6)
    assert room.resolved(given) == given
    assert room.resolved(Config(), str(tmp_path / "nowhere")).store_disk_octets == 1


def test_the_place_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert room.place() == "/var/tmp"
    assert room.place("/somewhere") == "/somewhere"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert room.place() == str(tmp_path)
