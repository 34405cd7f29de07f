"""The account on the caller's side: what was accepted, what came back, how often it ran.

Believes no report: items are counted where the mesh takes them and where it hands their results over,
values are checked, and executions are counted from a file to which the tasks themselves write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BURST_ITEMS = 8
_MASK = (1 << 64) - 1
_log: tuple[str, int] | None = None


def answer(item: int) -> int:
    """The right value of an item (splitmix64): no other item has it."""
    z = (item * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def noted_sleep(log: str, seconds: float, item: int) -> tuple[int, int]:
    """A task: note that the item begins, and when; take some time, give its answer."""
    note(log, item)
    time.sleep(seconds)
    return item, answer(item)


def note(log: str, item: int) -> None:
    """In a task: the item begins now."""
    global _log
    if _log is None or _log[0] != log:
        _log = log, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # One short write to a file opened for appending stays one line, even if others write too.
    os.write(_log[1], b"%d %.4f\n" % (item, time.monotonic()))


class Ledger:
    """One job's items by number, from 0 on."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicated = 0
        self.wrong = 0
        self.unexpected = 0
        self._seen = bytearray()

    def stream(self, goes_on: Callable[[], bool], items_a_second_max: float) -> Iterator[int]:
        """Items for as long as it goes on; each counts as accepted once it was taken.

        Not as fast as they are asked for: a mesh reads a quick iterable in blocks of thousands,
        however few it was told to be ahead, and would go on long after the end of the stream.
        """
        while goes_on():
            for _ in range(BURST_ITEMS):
                self.accept(1)
                yield self.accepted - 1
            time.sleep(BURST_ITEMS / items_a_second_max)

    def accept(self, items: int) -> None:
        self.accepted += items
        self._seen.extend(bytes(items))

    def take(self, items: int) -> range:
        """Accept this number of further items; returns their numbers."""
        self.accept(items)
        return range(self.accepted - items, self.accepted)

    def arrived(self, item: int, value: int) -> None:
        self.came(item, right=value == answer(item))

    def came(self, item: int, *, right: bool) -> None:
        """This item came back, with the right value or with another one."""
        if not 0 <= item < self.accepted:
            self.unexpected += 1
            return
        self.wrong += not right
        self.duplicated += self._seen[item] > 0
        self._seen[item] = 1

    @property
    def lost(self) -> int:
        """Of what was accepted; only meaningful once the job has ended."""
        return self._seen.count(0)

    def missing(self) -> list[int]:
        return [item for item, seen in enumerate(self._seen) if not seen]

    def run_twice(self, log: str) -> int:
        """Executions beyond the first, of all items together."""
        return run_twice(log)


def run_twice(log: str) -> int:
    """Executions beyond the first, of all that is noted."""
    ran = executions(log)
    return sum(map(len, ran.values())) - len(ran)


def executions(log: str) -> dict[int, list[float]]:
    """When each item began to run, as the tasks themselves noted it (time.monotonic)."""
    ran: dict[int, list[float]] = {}
    if os.path.exists(log):
        for line in Path(log).read_text(encoding="ascii").splitlines():
            item, at = line.split()
            ran.setdefault(int(item), []).append(float(at))
    return ran
