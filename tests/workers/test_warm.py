"""Files of values that are over take the next ones, and only when nobody looks at them any more."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from stealmesh.values import warm as module
from stealmesh.values.room import Room
from stealmesh.values.shelf import WARM_SHARE, Shelf
from stealmesh.values.warm import REUSED_OCTETS_MIN, MemoryFile, WarmFiles

OCTETS = 2 * REUSED_OCTETS_MIN
ONE, OTHER = b"1" * OCTETS, b"2" * OCTETS
NAME = bytes(range(24))


@pytest.fixture
def files() -> Iterator[WarmFiles]:
    one = WarmFiles()
    yield one
    one.end()


def full(files: WarmFiles, octets: bytes) -> MemoryFile:
    return files.full("test", len(octets), [(0, octets)])


def looks(file: MemoryFile) -> mmap.mmap:
    """As a task does: it maps the value, and closes the descriptor."""
    descriptor = file.reader()
    try:
        return mmap.mmap(
            descriptor, file.octets, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
        )
    finally:
        os.close(descriptor)


def read(file: MemoryFile) -> bytes:
    with looks(file) as seen:
        return bytes(seen)


def is_used_again(files: WarmFiles, file: MemoryFile) -> bool:
    other = full(files, OTHER)
    assert read(other) == OTHER
    if other is not file:
        other.close()
    return other is file


def test_the_next_value_of_that_size_goes_into_it(files: WarmFiles) -> None:
    file = full(files, ONE)
    assert read(file) == ONE
    for _ in range(3):
        files.rest(file)
        assert is_used_again(files, file)


def test_not_one_of_another_size(files: WarmFiles) -> None:
    file = full(files, ONE)
    files.rest(file)
    assert full(files, OTHER + b"2") is not file
    assert full(files, OTHER[1:]) is not file


def test_who_keeps_a_map_keeps_the_value(files: WarmFiles) -> None:
    file = full(files, ONE)
    seen = looks(file)
    files.rest(file)
    assert not is_used_again(files, file)
    assert seen[:] == ONE
    seen.close()
    assert is_used_again(files, file)


def test_a_descriptor_on_its_way_keeps_it(files: WarmFiles) -> None:
    file, (here, there) = full(files, ONE), socket.socketpair()
    descriptor = file.reader()
    socket.send_fds(here, [b"x"], [descriptor])
    os.close(descriptor)
    files.rest(file)
    assert not is_used_again(files, file)
    _, (came,), _, _ = socket.recv_fds(there, 1, 1)
    copy = os.dup(came)
    os.close(came)
    assert not is_used_again(files, file)
    os.close(copy)
    assert is_used_again(files, file)
    here.close()
    there.close()


def test_another_process_keeps_it_until_its_death(files: WarmFiles) -> None:
    file = full(files, ONE)
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        seen = looks(file)
        os.write(told, b"x")
        signal.pause()
        os._exit(seen[0])
    os.read(ready, 1)
    files.rest(file)
    assert not is_used_again(files, file)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert is_used_again(files, file)
    os.close(ready)
    os.close(told)


def test_nobody_changes_a_value(files: WarmFiles) -> None:
    """Not even its maker by its descriptor: that may be a number which a task confuses."""
    for file in (full(files, ONE), full(files, ONE)):
        for descriptor in (file.descriptor, file.reader()):
            with pytest.raises(OSError, match=r"not permitted|Bad file"):
                os.pwrite(descriptor, b"x", 0)
            with pytest.raises(OSError, match=r"not permitted|denied"):
                mmap.mmap(descriptor, OCTETS)
            with pytest.raises(OSError, match=r"not permitted|Invalid"):
                os.ftruncate(descriptor, 0)
        files.rest(file)
        full(files, ONE)


def test_a_forked_child_uses_none_again(files: WarmFiles) -> None:
    resting, in_use = full(files, ONE), full(files, ONE)
    files.rest(resting)
    child = os.fork()
    if not child:
        kept = bool(files)
        files.rest(in_use)
        os._exit(int(kept or bool(files)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_used_again(files, resting)


def test_a_small_file_goes_at_once(files: WarmFiles) -> None:
    file = files.full("test", 100_000, [(0, b"x" * 100_000)])
    files.rest(file)
    assert not files
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file.descriptor)


def test_on_a_kernel_without_the_seal_none_is_used_again(
    files: WarmFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fcntl.fcntl

    def old(descriptor: int, command: int, seals: int = 0) -> int:
        if command == fcntl.F_ADD_SEALS and seals & 0x10:
            raise OSError(errno.EINVAL, "Invalid argument")
        return right(descriptor, command, seals)

    monkeypatch.setattr(fcntl, "fcntl", old)
    file = full(files, ONE)
    assert read(file) == ONE
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(file.descriptor, b"x", 0)
    files.rest(file)
    assert not files


def test_no_more_is_kept_than_may_be(files: WarmFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [full(files, ONE) for _ in range(4)]
    for file in kept:
        files.rest(file, 2 * OCTETS)
    assert sum(file.octets for file in files._resting) == 2 * OCTETS
    monkeypatch.setattr(module, "WARM_FILES_MAX", 1)
    files.tidy()
    assert len(files._resting) == 1
    monkeypatch.setattr(module, "RESTS_SECONDS", 0.0)
    files.tidy()
    assert not files


def test_a_value_that_cannot_be_written_leaves_nothing(files: WarmFiles) -> None:
    files.rest(full(files, ONE))

    def broken() -> Iterator[tuple[int, bytes]]:
        yield 0, b"x"
        raise ValueError("for this test")

    for _ in range(2):
        with pytest.raises(ValueError, match="for this test"):
            files.full("test", OCTETS, broken())
    assert not files


# ---------------------------------------------------------------- of a shelf


def test_a_shelf_keeps_less_warm_where_there_is_little_room() -> None:
    shelf = Shelf(Room(memory_max=WARM_SHARE * OCTETS + OCTETS))
    shelf.put(NAME, OCTETS, [(0, ONE)])
    shelf.forget(NAME)
    assert shelf._warm
    shelf.put(NAME, OCTETS, [(0, ONE)])
    shelf.keep_room(b"2" * 24, 3 * OCTETS)
    shelf.forget(NAME)
    assert not shelf._warm
    assert shelf.room.memory == 3 * OCTETS
    shelf.close()


def test_a_shelf_that_nobody_looks_after_keeps_none() -> None:
    shelf = Shelf()
    shelf.put(NAME, OCTETS, [(0, ONE)])
    shelf.keep_none_warm()
    shelf.forget(NAME)
    assert not shelf._warm


def test_pieces_that_are_being_sent_keep_their_value() -> None:
    shelf = Shelf()
    shelf.put(NAME, OCTETS, [(0, ONE)])
    piece = shelf.read(NAME, 0, OCTETS)
    shelf.forget(NAME)
    shelf.put(NAME, OCTETS, [(0, OTHER)])
    assert bytes(piece) == ONE
    assert bytes(shelf.read(NAME, 0, OCTETS)) == OTHER
    del piece
    shelf.close()
