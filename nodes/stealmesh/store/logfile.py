"""One log in one directory: opened, appended to, written anew; and whether it is what it was.

Decides what a log is worth when it is opened. Two marks say up to where it was on the disk. One is in
the log's own opening: it is written with each batch, is as sure as that batch, and speaks of what was
before it. The other is in a file beside the log, written after each batch without an fsync. A log that
has damage below its marks, or ends below them, or is an older file than they speak of, has lost what
was acknowledged. It goes on under a new seat (store id), so that no election counts this replica among the
complete ones (durable/election.py); what it still has is joined as ever, and the rest comes from the
others.

A log that is not exactly as its marks say is written anew when it is opened: what a failed fsync
left behind looks as if it were on the disk, and is not ("fsyncgate", Rebello et al., ATC '20).

What no mark can tell: the last batch, damaged in the same moment as the power failed, looks like one
that was never sure.

Refuses to know threads (log.py), and what the records mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stealmesh.store.files import Files
from stealmesh.store.records import (
    MARK_AT,
    NOBODY,
    OPENING_OCTETS,
    SALT_OCTETS,
    SEAT_OCTETS,
    Identity,
    LogReading,
    NotALog,
    framed,
    mark,
    opening,
    read,
    read_mark,
)
from stealmesh_engine.effects import Rewrite, Write
from stealmesh_protocol.messages import Keep

FILE = "durable.log"
FRESH = "durable.new"
SURE = "durable.sure"
PAGE_OCTETS = 1 << 20


class OtherMesh(Exception):
    """The directory belongs to a node of another mesh."""


class Damaged(OSError):
    """Records that were on the disk a moment ago cannot be read any more."""


@dataclass(slots=True)
class OpenedLog:
    """What was in the directory."""

    seat: bytes
    records: list[Keep] = field(default_factory=list)
    lost: int = 0
    """Places at which records were lost that had been acknowledged."""
    why: str = ""


class LogFile:
    """Raises OSError, NotALog, OtherMesh."""

    def __init__(self, files: Files, random: Callable[[int], bytes], mesh: bytes = NOBODY) -> None:
        self._files = files
        self._random = random
        self._mesh = mesh
        self._identity = Identity(random(SEAT_OCTETS), mesh, 0, random(SALT_OCTETS))
        self._end = 0
        self._sure = 0
        self._is_doubtful = False
        """An fsync has failed: what is in the file need not be on the disk."""

    @property
    def seat(self) -> bytes:
        return self._identity.seat

    def open(self) -> OpenedLog:
        """Read the log, keep it or write it anew, and be ready to append."""
        octets = self._files.read(FILE)
        beside = read_mark(self._files.read(SURE) or b"")
        reading = LogReading(None) if octets is None else read(octets)
        identity = reading.identity
        if identity is not None and identity.mesh != self._mesh and reading.version > 1:
            raise OtherMesh("this log belongs to a node of another mesh")
        lost, why = _what_is_lost(reading, len(octets or b""), beside)
        if identity is not None:
            seat = self._random(SEAT_OCTETS) if lost else identity.seat
            self._identity = Identity(seat, self._mesh, identity.generation, identity.salt)
        if beside is not None and beside[0] > self._identity.generation:
            self._identity = _renewed(self._identity, beside[0], self._identity.salt)
        self._end = self._sure = len(octets or b"")
        known = identity is not None and beside == (identity.generation, identity.salt, self._end)
        if not known or lost or reading.damage or reading.opening_is_damaged:
            self.replace(reading.records)
        return OpenedLog(self.seat, reading.records, lost, why)

    # ------------------------------------------------------------ writing

    def put(self, records: list[Keep]) -> None:
        """Append records. They count once `settle` has returned."""
        parts = []
        at, begins = self._end, True
        for record in records:
            parts.append(framed(record, at, self._identity.salt, begins=begins))
            at, begins = at + len(parts[-1]), False
        self._files.write(FILE, self._end, b"".join(parts))
        self._files.write(FILE, MARK_AT, mark(self._identity, self._end))
        self._end = at

    def settle(self) -> None:
        """Sync what was put, and mark it as sure for the next life."""
        self._is_doubtful = True
        self._files.sync(FILE)
        self._is_doubtful = False
        self._sure = self._end
        self._files.write(SURE, 0, mark(self._identity, self._sure))

    def write(self, batch: list[Write | Rewrite]) -> None:
        """Write a batch in order. It is on the disk when this returns."""
        anew, pending = _as_records(batch)
        if anew is not None:
            self.replace(anew + pending)
        else:
            self.put(pending)
            self.settle()

    def again(self, batch: list[Write | Rewrite]) -> None:
        """Write the batch again after a failure. A half-done write is written over. After a failed fsync
        only another file can be trusted."""
        anew, pending = _as_records(batch)
        if anew is None and self._is_doubtful:
            self.replace(self._sure_records() + pending)
        else:
            self._end = self._sure
            self.write(batch)

    def replace(self, records: list[Keep]) -> None:
        """Replace the log by one of these records, whole or not at all."""
        identity = _renewed(self._identity, self._identity.generation, self._random(SALT_OCTETS))
        try:
            end = self._write_fresh(identity, records)
        except OSError:
            self._files.remove(FRESH)  # a full disk needs the room
            raise
        self._files.rename(FRESH, FILE)
        self._files.sync_names()
        self._identity, self._end, self._sure = identity, end, end
        self._is_doubtful = False
        self._files.write(SURE, 0, mark(identity, end))
        self._files.sync(SURE)

    # ------------------------------------------------------------ inside

    def _sure_records(self) -> list[Keep]:
        """What was on the disk before the batch that failed."""
        try:
            reading = read((self._files.read(FILE) or b"")[: self._sure])
        except NotALog as error:
            raise Damaged(str(error)) from None
        if reading.identity != self._identity or reading.damage:
            raise Damaged(f"{FILE} has changed under our hands")
        return reading.records

    def _write_fresh(self, identity: Identity, records: list[Keep]) -> int:
        self._files.create(FRESH)
        parts = [opening(identity)]
        begin, at = 0, len(parts[0])
        for record in records:
            parts.append(framed(record, at, identity.salt))
            at += len(parts[-1])
            if at - begin >= PAGE_OCTETS:
                self._files.write(FRESH, begin, b"".join(parts))
                parts, begin = [], at
        self._files.write(FRESH, begin, b"".join(parts))
        self._files.write(FRESH, MARK_AT, mark(identity, at))
        self._files.sync(FRESH)
        return at


def _as_records(batch: list[Write | Rewrite]) -> tuple[list[Keep] | None, list[Keep]]:
    """What the last rewrite of a batch says (None: there is none), and what follows it."""
    anew: list[Keep] | None = None
    pending: list[Keep] = []
    for effect in batch:
        if isinstance(effect, Write):
            pending.append(effect.record)
        else:
            anew, pending = effect.records, []  # they have what was joined before
    return anew, pending


def _renewed(identity: Identity, generation: int, salt: bytes) -> Identity:
    return Identity(identity.seat, identity.mesh, generation + 1, salt)


def _what_is_lost(
    reading: LogReading, size: int, beside: tuple[int, bytes, int] | None
) -> tuple[int, str]:
    """How many acknowledged places are missing, and the reason in words."""
    sure, identity = reading.sure, reading.identity
    if identity is None:
        was = max(size, 0 if beside is None else beside[2])
        return (1, "nothing is left of it") if was > OPENING_OCTETS else (0, "")
    if beside is not None:
        generation, salt, marked = beside
        if generation > identity.generation:
            return 1, "it is an older file than was there"
        if generation == identity.generation and salt != identity.salt:
            return 1, "it is another file than was there"
        if generation == identity.generation:
            sure = max(sure, marked)
    lost = reading.lost_below(sure)
    if size < sure:
        torn = bool(reading.damage) and reading.damage[-1][1] == size
        return len(lost) + (not torn), f"it has {size} octets, and had {sure}"
    octets = sum(end - begin for begin, end in lost)
    return len(lost), f"{octets} octets at {len(lost)} places are no records" if lost else ""
