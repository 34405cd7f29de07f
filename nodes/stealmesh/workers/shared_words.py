"""Words of memory that a node shares with its workers: give up a share of a bag, stop a task.

Each worker has one line of words (`wire.SHARE`). A message would wait until the worker is free; a word is
seen between two visits. Decides nothing.
"""

from __future__ import annotations

import mmap
import os

from stealmesh.workers import wire


class SharedWords:
    """The node's side: one line of words for each of `workers` workers."""

    def __init__(self, workers: int) -> None:
        self.lines = max(1, workers)
        self.fd = _shared_file(self.lines * wire.WORDS_A_WORKER * 8)
        self._memory = mmap.mmap(self.fd, 0)
        self._words = memoryview(self._memory).cast("Q")

    def share(self, worker: int, wanted: bool) -> None:
        self._words[worker * wire.WORDS_A_WORKER + wire.SHARE] = int(wanted)

    def stop(self, worker: int, chunk: int, lo: int, hi: int) -> None:
        """The chunk's number is written last: the words are about another chunk until then."""
        line = worker * wire.WORDS_A_WORKER
        self._words[line + wire.STOP_CHUNK] = 0
        self._words[line + wire.STOP_LO] = lo
        self._words[line + wire.STOP_HI] = hi
        self._words[line + wire.STOP_CHUNK] = chunk

    def look(self, worker: int) -> None:
        """A question about what it is at waits for it."""
        self._words[worker * wire.WORDS_A_WORKER + wire.LOOKED_AT] = 1

    def listens(self, worker: int, pid: int) -> bool:
        """Does this process read questions while it is busy?"""
        return self._words[worker * wire.WORDS_A_WORKER + wire.LISTENS] == pid

    def sheet(self, worker: int) -> int:
        """The number of the file there that its stacks are written into."""
        return int(self._words[worker * wire.WORDS_A_WORKER + wire.SHEET])

    def hired(self, worker: int) -> tuple[int, int] | None:
        """Lease and item that a hired worker, which is dead, was at. Then they are forgotten."""
        line = worker * wire.WORDS_A_WORKER
        lid, item = (
            int(self._words[line + wire.HIRED_LID]),
            int(self._words[line + wire.HIRED_ITEM]),
        )
        self._words[line + wire.HIRED_ITEM] = 0
        return (lid, item - 1) if item else None

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.fd)


class WorkerWords:
    """The worker's side: its own line."""

    def __init__(self, line: memoryview) -> None:
        self._line = line

    def is_share_wanted(self) -> bool:
        return self._line[wire.SHARE] != 0

    def shared(self) -> None:
        self._line[wire.SHARE] = 0


def nameless_file(name: str) -> int:
    """A file without a name, in memory where that can be."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    import tempfile

    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


def _shared_file(octets: int) -> int:
    """Memory without a name that other processes can map."""
    fd = nameless_file("stealmesh-workers")
    os.truncate(fd, octets)
    return fd
