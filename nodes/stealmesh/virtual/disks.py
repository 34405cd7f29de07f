"""Virtual disks: what is on them after a crash is what was made sure of, and some of the rest.

Does what the real log's thread does, with the real format (`stealmesh.store`): records wait for a
group commit; a crash cuts the octets that were on their way at an arbitrary place and may leave
rubbish behind. Decides nothing.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from stealmesh.store import framed, opening, read
from stealmesh_engine.effects import Rewrite, Write
from stealmesh_engine.events import Recall, Written

if TYPE_CHECKING:
    from stealmesh.virtual.world import Process

COMMIT_SECONDS = 0.003


class VirtualDisk:
    """The log of one seat: it outlives the processes that use it."""

    def __init__(self, rng: Random, commit_seconds: float = COMMIT_SECONDS) -> None:
        self.seat = rng.randbytes(16)
        self.sure = opening(self.seat)
        self.commits = 0
        self._rng = rng
        self._commit_seconds = commit_seconds
        self._process: Process | None = None
        self._waiting: list[Write | Rewrite] = []
        self._under_way: list[Write | Rewrite] = []

    def attach(self, process: Process) -> Recall:
        """A new life uses this disk; what was torn off is not there any more."""
        seat, records, good = read(self.sure)
        assert seat == self.seat
        self.sure = self.sure[:good]
        self._process = process
        return Recall(self.seat, records)

    def perform(self, effect: Write | Rewrite) -> None:
        self._waiting.append(effect)
        if not self._under_way:
            self._commit()

    def crash(self) -> None:
        """The process is gone: of what was on its way to the disk, any beginning may have arrived."""
        octets = b"".join(framed(e.record) for e in self._under_way if isinstance(e, Write))
        arrived = octets[: self._rng.randint(0, len(octets))]
        if self._rng.random() < 0.3:
            arrived += self._rng.randbytes(self._rng.randint(1, 40))
        self.sure += arrived
        self._process = None
        self._waiting.clear()
        self._under_way.clear()

    def _commit(self) -> None:
        assert self._process is not None
        self._under_way, self._waiting = self._waiting, []
        self._process.world.after(self._commit_seconds, self._committed, self._process)

    def _committed(self, process: Process) -> None:
        if process is not self._process:
            return  # that life is over
        self.commits += 1
        for effect in self._under_way:
            if isinstance(effect, Write):
                self.sure += framed(effect.record)
            else:
                self.sure = opening(self.seat) + b"".join(map(framed, effect.records))
        ticket = self._under_way[-1].ticket
        self._under_way.clear()
        process.hear(Written(ticket))
        if self._waiting:
            self._commit()
