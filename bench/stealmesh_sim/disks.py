"""Virtual disks: after a crash they have all that was synced, and perhaps some of the rest.

Does what the real log's thread does, with the real log (`stealmesh.store.logfile`) on a virtual
directory (`platters`). Records wait for a group commit; a crash is a power failure. A disk may be
full for a while, and may be damaged between two lives. Decides nothing.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from stealmesh.store import LogFile
from stealmesh.store.log import AGAIN_SECONDS, PATIENCE_SECONDS
from stealmesh.store.logfile import FILE
from stealmesh_engine.effects import Rewrite, Write
from stealmesh_engine.events import Event, Recall, Written
from stealmesh_sim.kernel import Clock
from stealmesh_sim.platters import Platter

COMMIT_SECONDS = 0.003


class DiskUser(Protocol):
    """A process as its disk sees it."""

    @property
    def world(self) -> Clock: ...

    def hear(self, event: Event) -> None: ...

    def disk_failed(self) -> None:
        """The disk has failed for longer than the log is patient."""


class VirtualDisk:
    """The log of one seat: it outlives the processes that use it."""

    def __init__(self, rng: Random, commit_seconds: float = COMMIT_SECONDS) -> None:
        self.rng = Random(rng.randbytes(16))
        self.platter = Platter()
        self.commit_seconds = commit_seconds
        self.commits = 0
        self.lost = 0
        """Places, in all lives, where acknowledged records were missing."""
        self.harsh = False
        """At the next crash all that was not synced is lost."""
        self._log = LogFile(self.platter, self.rng.randbytes)
        self._process: DiskUser | None = None
        self._waiting: list[Write | Rewrite] = []
        self._under_way: list[Write | Rewrite] = []

    @property
    def octets(self) -> bytes:
        """The log as it is."""
        return self.platter.read(FILE) or b""

    def attach(self, process: DiskUser) -> Recall:
        """A new life uses this disk; torn records are gone. Returns what the log recalls."""
        self.platter.full = False  # otherwise it could not start
        self._log = LogFile(self.platter, self.rng.randbytes)
        found = self._log.open()
        self.lost += found.lost
        self._process = process
        return Recall(found.seat, found.records, found.lost)

    def perform(self, effect: Write | Rewrite) -> None:
        self._waiting.append(effect)
        if not self._under_way:
            self._commit()

    def crash(self) -> None:
        """The process is gone, and the power with it."""
        self.platter.power_off(self.rng, harsh=self.harsh)
        self.harsh = False
        self._process = None
        self._waiting.clear()
        self._under_way.clear()

    def _commit(self) -> None:
        assert self._process is not None
        self._under_way, self._waiting = self._waiting, []
        process, world = self._process, self._process.world
        records = [effect.record for effect in self._under_way if isinstance(effect, Write)]
        whole = len(records) == len(self._under_way)
        try:
            if whole:
                self._log.put(records)
        except OSError:
            world.after(AGAIN_SECONDS, self._again, process, world.now + PATIENCE_SECONDS)
            return
        world.after(self.commit_seconds, self._committed, process, whole)

    def _committed(self, process: DiskUser, whole: bool) -> None:
        if process is not self._process:
            return  # that life is over
        try:
            if whole:
                self._log.settle()
            else:
                self._log.write(self._under_way)
        except OSError:
            until = process.world.now + PATIENCE_SECONDS
            process.world.after(AGAIN_SECONDS, self._again, process, until)
            return
        self._done(process)

    def _again(self, process: DiskUser, until: float) -> None:
        """What the log's thread does when a disk fails: another file, or the node ends."""
        if process is not self._process:
            return
        try:
            self._log.again(self._under_way)
        except OSError:
            if process.world.now > until:
                process.disk_failed()
            else:
                process.world.after(AGAIN_SECONDS, self._again, process, until)
            return
        self._done(process)

    def _done(self, process: DiskUser) -> None:
        self.commits += 1
        ticket = self._under_way[-1].ticket
        self._under_way.clear()
        process.hear(Written(ticket))
        if self._waiting:
            self._commit()
