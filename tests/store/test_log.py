"""The log of durable jobs: what was made sure of is there, what was torn off is not."""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

import pytest

from stealmesh.store import Log, LogUnusable, read
from stealmesh.store.log import LogInUse
from stealmesh.store.logfile import FILE, FRESH
from stealmesh.store.records import OPENING_OCTETS
from stealmesh_engine.effects import Rewrite, Write
from stealmesh_engine.events import Written
from stealmesh_protocol.messages import JobKind, JobSpec, Keep, Kept, Part, Reign

ME = bytes(range(16))
SPEC = JobSpec(ME + b"\0\0\0\1", JobKind.MAP, ME, "squares", ME, term=17)


def record(number: int, octets: int = 40) -> Keep:
    part = Part(17 << 32, number, number + 1, 0, 0.5)
    kept = [Kept(number, number + 1, part)]
    reign = Reign(17, 1, ME, [(ME, ME)])
    return Keep(SPEC, reign, number, 100, True, results=kept, blobs=[b"\x2a" * octets])


class Awaited:
    """Tells when a ticket is on the disk."""

    def __init__(self, log: Log) -> None:
        self.upto = 0
        self.calls = 0
        self._changed = threading.Condition()
        log.on_written = self._written

    def _written(self, event: Written) -> None:
        with self._changed:
            self.upto, self.calls = event.ticket, self.calls + 1
            self._changed.notify_all()

    def until(self, ticket: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.upto >= ticket, 30)


def numbers(directory: Path) -> list[int]:
    log = Log(directory)
    try:
        return [each.number for each in log.recall().records]
    finally:
        log.close()


def test_what_was_written_is_there_again_under_the_same_name(tmp_path: Path) -> None:
    log = Log(tmp_path)
    awaited, seat = Awaited(log), log.recall().seat
    for number in range(1, 11):
        log.perform(Write(number, record(number)))
    awaited.until(10)
    log.close()
    again = Log(tmp_path)
    recalled = again.recall()
    again.close()
    assert recalled.seat == seat
    assert recalled.records == [record(number) for number in range(1, 11)]


def test_what_gathers_during_an_fsync_is_made_sure_of_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    syncs: list[int] = []

    def slow_sync(fd: int) -> None:
        gate.wait(30)
        syncs.append(fd)

    log = Log(tmp_path)
    monkeypatch.setattr("os.fdatasync", slow_sync)
    awaited = Awaited(log)
    log.perform(Write(1, record(1)))
    for number in range(2, 200):
        log.perform(Write(number, record(number)))
    gate.set()
    awaited.until(199)
    log.close()
    assert len(syncs) <= 3
    assert awaited.calls == len(syncs)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_tail_is_cut_off_and_written_over(tmp_path: Path, cut: int) -> None:
    log = Log(tmp_path)
    awaited = Awaited(log)
    for number in (1, 2, 3):
        log.perform(Write(number, record(number)))
    awaited.until(3)
    log.close()
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    log = Log(tmp_path)
    awaited = Awaited(log)
    assert [each.number for each in log.recall().records] == [1, 2]
    log.perform(Write(1, record(9)))
    awaited.until(1)
    log.close()
    assert numbers(tmp_path) == [1, 2, 9]


def test_a_record_with_a_flipped_bit_costs_itself_and_the_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = Log(tmp_path)
    awaited, seat = Awaited(log), log.recall().seat
    for number in (1, 2, 3):
        log.perform(Write(number, record(number)))
        awaited.until(number)
    log.close()
    path = tmp_path / FILE
    octets = bytearray(path.read_bytes())
    octets[read(bytes(octets)).places[1][0] + 30] ^= 1
    path.write_bytes(octets)
    log = Log(tmp_path)
    recalled = log.recall()
    log.close()
    assert [each.number for each in recalled.records] == [1, 3]
    assert recalled.lost == 1
    assert recalled.seat != seat
    assert "was damaged" in capfd.readouterr().err
    assert not read(path.read_bytes()).damage
    assert numbers(tmp_path) == [1, 3]


def test_a_rewrite_replaces_everything_before_it(tmp_path: Path) -> None:
    log = Log(tmp_path)
    awaited = Awaited(log)
    for number in range(1, 50):
        log.perform(Write(number, record(number, 1000)))
    log.perform(Rewrite(50, [record(7), record(8)]))
    log.perform(Write(51, record(51)))
    awaited.until(51)
    log.close()
    assert (tmp_path / FILE).stat().st_size < OPENING_OCTETS + 2000
    assert numbers(tmp_path) == [7, 8, 51]


def test_two_nodes_cannot_share_a_log(tmp_path: Path) -> None:
    log = Log(tmp_path)
    with pytest.raises(LogInUse, match="in use"):
        Log(tmp_path)
    log.close()
    Log(tmp_path).close()


def test_another_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("a letter to my grandmother, who has no nodes")
    with pytest.raises(LogUnusable, match=r"move durable\.log away"):
        Log(tmp_path)
    assert (tmp_path / FILE).read_text().startswith("a letter")


def test_a_disk_that_fails_is_told_of_once_and_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    log = Log(tmp_path)
    awaited = Awaited(log)
    failed = threading.Event()
    log.on_failure = lambda error: failed.set()
    monkeypatch.setattr("stealmesh.store.log.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("os.fdatasync", full)
    log.perform(Write(1, record(1)))
    assert failed.wait(30)
    log.perform(Write(2, record(2)))
    log.close()
    assert awaited.upto == 0
    assert not (tmp_path / FRESH).exists()


def test_a_disk_that_is_full_for_a_moment_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write arrives in part, twice; then there is room."""
    right = os.pwrite
    attempts: list[int] = []

    def pwrite(fd: int, octets: memoryview, at: int) -> int:
        if len(octets) > 100 and at > OPENING_OCTETS and len(attempts) < 4:
            attempts.append(at)
            if len(attempts) % 2 == 0:
                raise OSError(28, "No space left on device")
            return right(fd, octets[:50], at)
        return right(fd, octets, at)

    log = Log(tmp_path)
    awaited = Awaited(log)
    log.perform(Write(1, record(1)))
    awaited.until(1)
    monkeypatch.setattr("os.pwrite", pwrite)
    log.perform(Write(2, record(2)))
    awaited.until(2)
    log.perform(Write(3, record(3)))
    awaited.until(3)
    log.close()
    assert len(attempts) == 4
    log = Log(tmp_path)
    recalled = log.recall()
    log.close()
    assert ([each.number for each in recalled.records], recalled.lost) == ([1, 2, 3], 0)


def test_after_an_fsync_has_failed_another_file_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync of the same file says that all is well, though the pages were dropped."""
    right = os.fdatasync
    failed: list[int] = []

    def fdatasync(fd: int) -> None:
        if not failed:
            failed.append(os.fstat(fd).st_ino)
            raise OSError(5, "Input/output error")
        right(fd)

    log = Log(tmp_path)
    awaited = Awaited(log)
    log.perform(Write(1, record(1)))
    awaited.until(1)
    monkeypatch.setattr("os.fdatasync", fdatasync)
    log.perform(Write(2, record(2)))
    awaited.until(2)
    log.close()
    assert (tmp_path / FILE).stat().st_ino != failed[0]
    assert numbers(tmp_path) == [1, 2]


def test_a_directory_of_another_mesh_is_refused(tmp_path: Path) -> None:
    Log(tmp_path, b"the mesh of abel").close()
    with pytest.raises(LogUnusable, match="another mesh"):
        Log(tmp_path, b"the mesh of cain")
    Log(tmp_path, b"the mesh of abel").close()


@pytest.mark.parametrize(
    ("call", "number"),
    [("os.open", errno.EROFS), ("os.pwrite", errno.ENOSPC), ("os.pread", errno.EACCES)],
)
def test_a_directory_that_cannot_be_used_says_so_in_one_line(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path)
    Awaited(log)
    log.close()
    if number == errno.ENOSPC:
        (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes() + b"torn")
    before = (tmp_path / FILE).read_bytes()

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(call, fails)
        with pytest.raises(
            LogUnusable, match=f"{re.escape(os.strerror(number))}.*(room|read and write)"
        ):
            Log(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    Log(tmp_path).close()


def test_a_sector_that_cannot_be_read_costs_what_lies_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path)
    awaited = Awaited(log)
    for number in range(1, 41):
        log.perform(Write(number, record(number, 400)))
    awaited.until(40)
    log.close()
    right, bad = os.pread, 2 * 4096 + 10

    def pread(fd: int, size: int, at: int) -> bytes:
        if at <= bad < at + size:
            raise OSError(errno.EIO, "Input/output error")
        return right(fd, size, at)

    monkeypatch.setattr("os.pread", pread)
    log = Log(tmp_path)
    recalled = log.recall()
    monkeypatch.undo()
    log.close()
    lost = sorted(set(range(1, 41)) - {each.number for each in recalled.records})
    assert 4 <= len(lost) <= 10
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert recalled.lost >= 1
