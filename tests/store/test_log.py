"""The log of durable jobs: what was made sure of is there, what was torn off is not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stealmesh.store import Log, framed, opening, read
from stealmesh.store.log import FILE, LogInUse
from stealmesh.store.records import NotALog
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

    monkeypatch.setattr("os.fdatasync", slow_sync)
    log = Log(tmp_path)
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


def test_a_record_with_a_flipped_bit_ends_the_log() -> None:
    octets = opening(ME) + framed(record(1)) + framed(record(2))
    spoilt = bytearray(octets)
    spoilt[-10] ^= 1
    seat, records, good = read(bytes(spoilt))
    assert (seat, [each.number for each in records]) == (ME, [1])
    assert good == len(opening(ME) + framed(record(1)))
    assert len(read(octets)[1]) == 2


def test_a_rewrite_replaces_everything_before_it(tmp_path: Path) -> None:
    log = Log(tmp_path)
    awaited = Awaited(log)
    for number in range(1, 50):
        log.perform(Write(number, record(number, 1000)))
    log.perform(Rewrite(50, [record(7), record(8)]))
    log.perform(Write(51, record(51)))
    awaited.until(51)
    log.close()
    assert (tmp_path / FILE).stat().st_size < 2000
    assert numbers(tmp_path) == [7, 8, 51]


def test_two_nodes_cannot_share_a_log(tmp_path: Path) -> None:
    log = Log(tmp_path)
    with pytest.raises(LogInUse, match="in use"):
        Log(tmp_path)
    log.close()
    Log(tmp_path).close()


def test_another_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("a letter to my grandmother, who has no nodes")
    with pytest.raises(NotALog):
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
    monkeypatch.setattr("os.fdatasync", full)
    log.perform(Write(1, record(1)))
    assert failed.wait(30)
    log.perform(Write(2, record(2)))
    log.close()
    assert awaited.upto == 0
