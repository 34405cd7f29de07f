"""Memory that a worker and its node share, for lines that are too many to be passed on one by one.

A line in a pipe costs its writer a system call and its reader the same. A task that prints more than its node passes
on pays that for lines which nobody will see. So while its node says that it drops lines (`beyond`), a worker puts them
down here: a ring of octets that it writes over, and the number of lines that were ever put down. The node looks when
it wants to. It takes as many lines as it passes on, counts the rest, and finds the end of what was printed after a
failure and after SIGKILL, as in a pipe.

One writes, one reads, and neither waits for the other. The writer says how far it is about to write, writes, and says
how far it has written; the reader throws away what may have been written over while it copied. Decides nothing of whose
a line is: the octets have the same marks as in the pipe (`printing.py`, `printed.py`).

Idea: the sequence lock of Linux, and the flight recorder.
"""

from __future__ import annotations

import mmap
import os
import struct
from io import FileIO

from stealmesh.workers.shared_words import nameless_file

RING_OCTETS = 64 * 1024
"""Four times the end of an item's output that is kept."""
HEAD_OCTETS = 64
BEYOND, BEGUN, WRITTEN, LINES, CHUNK = range(5)
"""Words of the head: 1 if lines are to come here; octets ever begun and ever written; whole lines ever written; the
chunk that wrote last."""
SPOKE = struct.Struct("<QQ")
"""How many octets and lines a worker had put down when its chunk ended."""
LOOKS_MAX = 8


class OutputRing:
    """The worker's side."""

    __slots__ = ("_memory", "at", "lines", "words")

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memoryview(memory)[HEAD_OCTETS:]
        self.words = memoryview(memory)[:HEAD_OCTETS].cast("Q")
        self.at = 0
        self.lines = 0

    @classmethod
    def of(cls, fd: int) -> OutputRing:
        """Maps it; the descriptor is not needed any more."""
        try:
            return cls(mmap.mmap(fd, 0))
        finally:
            os.close(fd)

    def put(self, octets: bytes, lines: int) -> None:
        """All of it, or the end of it. The caller counts its lines: marks may have the same octets."""
        words, length = self.words, len(octets)
        at = self.at
        place = at % RING_OCTETS
        words[BEGUN] = end = at + length
        if place + length <= RING_OCTETS:
            self._memory[place : place + length] = octets
        else:
            self._wrap(octets, end)
        self.at = end
        words[LINES] = self.lines = self.lines + lines
        words[WRITTEN] = end

    def end_of(self, start: int, most: int) -> bytes:
        """The end of what was put down since `start`."""
        first = max(start, self.at - most)
        if first >= self.at:
            return b""
        lo, hi = first % RING_OCTETS, (self.at - 1) % RING_OCTETS + 1
        memory = self._memory
        return bytes(memory[lo:hi]) if lo < hi else b"".join((memory[lo:], memory[:hi]))

    def _wrap(self, octets: bytes, end: int) -> None:
        octets = octets[-RING_OCTETS:]
        place = (end - len(octets)) % RING_OCTETS
        first = octets[: RING_OCTETS - place]
        self._memory[place : place + len(first)] = first
        rest = octets[len(first) :]
        self._memory[: len(rest)] = rest


class RingReader:
    """The node's side."""

    __slots__ = ("_data", "_memory", "_words", "far_end", "read_to", "told_lines")

    def __init__(self) -> None:
        fd = nameless_file("stealmesh-output")
        os.truncate(fd, HEAD_OCTETS + RING_OCTETS)
        self._memory = mmap.mmap(fd, 0)
        self._data = memoryview(self._memory)
        self._words = self._data[:HEAD_OCTETS].cast("Q")
        self.far_end = FileIO(fd, "r+b")
        """Closed here once the worker has it: a map needs no descriptor."""
        self.read_to = 0
        """Octets before that have been read, or are not wanted."""
        self.told_lines = 0
        """Lines before that have been passed on or counted."""

    @property
    def beyond(self) -> bool:
        return self._words[BEYOND] != 0

    @beyond.setter
    def beyond(self, wanted: bool) -> None:
        self._words[BEYOND] = int(wanted)

    @property
    def chunk(self) -> int:
        return int(self._words[CHUNK])

    def written(self) -> tuple[int, int] | None:
        """How many octets and lines were ever put down. None: just now some are."""
        words = self._words
        for _ in range(LOOKS_MAX):
            lines, written = words[LINES], words[WRITTEN]
            if words[BEGUN] == written and words[LINES] == lines:
                return int(written), int(lines)
        return None

    def last_words(self) -> tuple[int, int]:
        """The same of a process that is dead, or will not be heard any more."""
        return int(self._words[WRITTEN]), int(self._words[LINES])

    def copy(self, start: int, end: int) -> tuple[bytes, int]:
        """What was put down from `start` to `end`, as far as it is there; and from where on that is."""
        end = min(end, int(self._words[WRITTEN]))
        first = max(start, end - RING_OCTETS)
        if first >= end:
            return b"", end
        lo, hi = first % RING_OCTETS, (end - 1) % RING_OCTETS + 1
        data = self._data[HEAD_OCTETS:]
        octets = bytes(data[lo:hi]) if lo < hi else b"".join((data[lo:], data[:hi]))
        gone = int(self._words[BEGUN]) - RING_OCTETS - first
        if gone <= 0:
            return octets, first
        return octets[gone:], min(first + gone, end)

    def close(self) -> None:
        self.far_end.close()
        self._data.release()
        self._words.release()
        self._memory.close()
