"""Words of memory that a node shares with its workers: it writes, and a running bag reads.

Each worker has one line of words (`wire.SHARE`, `wire.ABANDON`). A message would wait until the worker
is free; a word is seen between two visits. Decides nothing.
"""

from __future__ import annotations

import mmap
import os
import tempfile

from stealmesh.workers import wire


class SharedWords:
    """One line of words for each of `workers` workers."""

    def __init__(self, workers: int) -> None:
        self.fd = _shared_file(max(1, workers) * wire.WORDS_A_WORKER * 8)
        self._memory = mmap.mmap(self.fd, 0)
        self._words = memoryview(self._memory).cast("Q")

    def share(self, worker: int, wanted: bool) -> None:
        self._words[worker * wire.WORDS_A_WORKER + wire.SHARE] = int(wanted)

    def abandon(self, worker: int, chunk: int) -> None:
        self._words[worker * wire.WORDS_A_WORKER + wire.ABANDON] = chunk + 1

    def clear(self, worker: int) -> None:
        place = worker * wire.WORDS_A_WORKER
        self._words[place + wire.SHARE] = 0
        self._words[place + wire.ABANDON] = 0

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.fd)


def _shared_file(octets: int) -> int:
    """Memory without a name that other processes can map."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stealmesh-workers")
    else:
        fd, path = tempfile.mkstemp()
        os.unlink(path)
    os.truncate(fd, octets)
    return fd
