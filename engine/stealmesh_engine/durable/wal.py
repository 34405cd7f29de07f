"""What this peer's disk must remember of durable jobs, and what may be said only once it does.

Decides the order of records, what marks a job as gone, and when a log that is mostly history is written
anew. Refuses to know files (the host writes, with one fsync for everything that waits) and how records
become replicas (state.py).

Idea: a write-ahead log with group commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from stealmesh_engine.durable.replica import EXPIRED, Replica
from stealmesh_engine.effects import Effect, Rewrite, Write
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobKind, JobSpec, Keep, Reign

SLACK_OCTETS = 8 << 20
RECORD_OCTETS = 256
FORGOTTEN = "forgotten"
"""State of a record: other nodes keep the job, and this replica does not count any more."""


def tombstone(job: JobId) -> Keep:
    """The record of a job that has expired."""
    no_peer = bytes(16)
    spec = JobSpec(job, JobKind.MAP, no_peer, "", no_peer)
    return Keep(spec, Reign(0, 0, no_peer, []), state=EXPIRED)


class WriteAheadLog:
    """Records on their way to the disk. Without a disk the peer remembers nothing and waits for nothing."""

    def __init__(self, effects: list[Effect], keep_octets_max: int) -> None:
        self.effects = effects
        self._slack = min(SLACK_OCTETS, keep_octets_max)
        """So much history at least is worth a new file; on a small disk less."""
        self.is_open = False
        self._ticket = 0
        self._written = 0
        self._octets = 0
        self._after: deque[tuple[int, Callable[[float], None]]] = deque()
        """What to do once a ticket is on the disk."""

    def open(self) -> None:
        self.is_open = True

    def write(self, keep: Keep) -> None:
        if self.is_open:
            self._ticket += 1
            self._octets += RECORD_OCTETS + sum(map(len, keep.blobs))
            self.effects.append(Write(self._ticket, keep))

    def write_forgotten(self, replica: Replica) -> None:
        """Other nodes keep this job from now on."""
        last = replica.header()
        last.state = FORGOTTEN
        self.write(last)

    def once_written(self, action: Callable[[float], None], now: float) -> None:
        """Do this once all records so far are on the disk."""
        if not self.is_open or self._written >= self._ticket:
            action(now)
        else:
            self._after.append((self._ticket, action))

    def written(self, ticket: int, now: float) -> None:
        self._written = max(self._written, ticket)
        while self._after and self._after[0][0] <= self._written:
            self._after.popleft()[1](now)

    def is_mostly_history(self, live_octets: int) -> bool:
        return self.is_open and self._octets >= 2 * live_octets + self._slack

    def rewrite(self, records: list[Keep], live_octets: int) -> None:
        """Replace the log by these records."""
        self._ticket += 1
        self._octets = live_octets
        self.effects.append(Rewrite(self._ticket, records))
