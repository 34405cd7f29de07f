"""A worker's memory: what a task that passes the limit fails with, and when the process makes room.

Decides that a MemoryError under a limit is an error with the limit's name, and that a process which keeps too
much after a task ends between two of them. Refuses to know how items run, and what becomes of the others.
"""

from __future__ import annotations

import gc
import os
import resource
from time import perf_counter
from typing import Any

from stealmesh_protocol.errors import TaskOutOfMemory
from stealmesh_protocol.raised import headline
from stealmesh_protocol.unasked import is_a, traceback_of

MARK = 0.75
"""A process that keeps this share of its limit between two tasks is replaced."""
LIFE_SECONDS = 1.0
"""But not sooner than this after its first task: a library may be as large as that, in each new process."""

_PAGE_OCTETS = resource.getpagesize()


class Limit:
    """The limit of this worker process."""

    def __init__(self) -> None:
        self.octets = 0
        """0: there is none."""
        self._since = 0.0

    def set(self, octets: int) -> None:
        """From here on an allocation past the limit raises MemoryError where it was asked for."""
        self.octets = octets
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            octets = min(octets, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (octets, hard))

    def passed_by(self, error: BaseException | None) -> bool:
        return self.octets > 0 and is_a(error, MemoryError)

    def is_near(self) -> bool:
        """Between two tasks: does this process keep so much that a fresh one should take its place?"""
        now = perf_counter()
        self._since = self._since or now
        if now - self._since < LIFE_SECONDS or own_octets() < MARK * self.octets:
            return False
        gc.collect()  # it may be in cycles
        self._since = now
        return own_octets() >= MARK * self.octets


LIMIT = Limit()


def own_octets(process: int | str = "self") -> int:
    """What this process has in memory, without the pages that it shares. 0 where that cannot be known."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE_OCTETS


def out_of_memory(error: BaseException, where: str = "") -> TaskOutOfMemory:
    """What a task fails with that has passed the limit; its traceback is the task's own."""
    told = TaskOutOfMemory(
        f"{where}it needed more memory than the {in_words(LIMIT.octets)} that its worker may have "
        f"({headline(error)}); start nodes with a larger memory limit, or fewer items in a task"
    )
    return told.with_traceback(traceback_of(error))


def named(function: Any, item: int) -> str:
    """The item and its function, where the program that reads it does not know them."""
    name = getattr(function, "stealmesh_name", getattr(function, "__qualname__", repr(function)))
    return f"item {item} of {name}: "


def in_words(octets: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= size:
            return f"{octets / size:.4g} {unit}"
    return f"{octets} octets"


def end_here() -> None:
    """The node knows; another process takes our place."""
    os._exit(0)
