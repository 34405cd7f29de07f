"""A node of a chaos mesh: `python -m stealmesh_bench.chaos.node FD HOST LOG`.

The usual node, with three differences. It takes itself for a machine of its own, so it talks to its
neighbours over TCP, and a proxy can stand between. It writes to LOG what it comes to believe about
the others. Its disk fails when files in its state directory (FULL, SLOW) say so.
"""

from __future__ import annotations

import errno
import sys
import time
from pathlib import Path

from stealmesh.host import identity, node
from stealmesh.store import log as store
from stealmesh.store.files import SystemFiles
from stealmesh_bench.chaos import eyes

FULL, SLOW = "full", "slow"
SLOW_COMMIT_SECONDS = 1.0


class FailingFiles(SystemFiles):
    """A directory on a disk that is full, or slow, as long as a file says so."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._full, self._slow = directory / FULL, directory / SLOW

    def write(self, name: str, at: int, octets: bytes) -> None:
        if self._full.exists():
            super().write(name, at, octets[: len(octets) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(name, at, octets)

    def sync(self, name: str) -> None:
        if self._slow.exists():
            time.sleep(SLOW_COMMIT_SECONDS)
        super().sync(name)


def main() -> int:
    fd, host, log = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    identity.host_id = lambda: host  # type: ignore[assignment]
    store.SystemFiles = FailingFiles  # type: ignore[attr-defined]
    with eyes.writing(log):
        return node.main(fd)


if __name__ == "__main__":
    sys.exit(main())
