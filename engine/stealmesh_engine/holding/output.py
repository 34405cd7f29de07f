"""What tasks print here, on its way to the owners of their jobs.

Decides what goes together into one message and when, and what is too much: the first line goes at once, later
ones a few times a second, and before the result of their item. Refuses to know what a line says, and how it was
caught (its worker's pipe is the host's).

It is no work: it has no number, is not said again, and nothing waits for it. What is dropped is counted here and
told to the owner, which says it in one line.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.output_room import OutputRoom
from stealmesh_engine.events import ItemsPrinted
from stealmesh_engine.holding.held_job import HeldJobs
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.limits import INDEX_MAX, TEXT_OCTETS_MAX, TEXTS_MAX, TEXTS_OCTETS_MAX
from stealmesh_protocol.messages import Output, Printed, Text

PAUSE_SECONDS = 0.05
"""Between two messages to one owner, unless a result goes there."""
OCTETS_A_SECOND = 256 * 1024
"""That one node passes on, of all of its workers."""
OCTETS_AT_ONCE = 256 * 1024


class Unsaid(msgspec.Struct):
    """What was printed for one job and is not said yet."""

    texts: list[Text] = []
    blobs: list[bytes] = []
    missing: Text | None = None
    """What came when these were too many."""

    def miss(self, text: Text) -> None:
        """The lines that are missing of these items, too."""
        before = self.missing or Text(text.lo, text.hi, 0)
        lo, hi = min(before.lo, text.lo), max(before.hi, text.hi)
        self.missing = Text(lo, hi, min(before.dropped + text.dropped, INDEX_MAX))

    def add(self, text: Text, blob: bytes) -> None:
        """Behind the last one, if that is the same items' and lacks nothing."""
        if self.texts:
            last = self.texts[-1]
            together = len(self.blobs[-1]) + len(blob)
            if (last.lo, last.hi) == (text.lo, text.hi) and together <= TEXT_OCTETS_MAX:
                if not last.dropped:
                    self.blobs[-1] += blob
                    self.texts[-1] = text
                    return
                if not blob:
                    dropped = min(last.dropped + text.dropped, INDEX_MAX)
                    self.texts[-1] = Text(text.lo, text.hi, dropped)
                    return
        self.texts.append(text)
        self.blobs.append(blob)


class Printouts:
    """By job: what its tasks have printed and its owner has not heard."""

    def __init__(self, context: Context, links: Links, jobs: HeldJobs, slots: Slots) -> None:
        self._links = links
        self._jobs = jobs
        self._slots = slots
        self._counters = context.counters
        self.unsaid: dict[JobId, Unsaid] = {}
        self._said_at = -1e9
        self._room = OutputRoom(OCTETS_AT_ONCE, OCTETS_A_SECOND)
        self._last: dict[int, JobId] = {}
        """By worker: whose task printed there last. What a task leaves running may print on."""

    def printed(self, event: ItemsPrinted, now: float) -> None:
        """Lines of a task, or of what it has started."""
        chunk = self._slots.chunk_at(event.worker, event.chunk)
        if chunk is not None:
            job: JobId | None = chunk.job
        elif (
            event.worker in self._slots.hired
        ):  # its items are its hirer's, and what C code prints in them
            job = self._slots.hired[event.worker].job
        else:
            job = self._last.get(event.worker)
        lo, hi = (event.lo, event.hi) if chunk is not None and not chunk.explore else (0, 0)
        held = None if job is None else self._jobs.get(job)
        lines = event.text.count(b"\n") + event.dropped
        if job is None or held is None or held.spec.output is not Output.CALLER:
            self._counters.count("output-of-nothing", lines)
            return
        self._last[event.worker] = job
        blob, dropped = event.text, event.dropped
        if not self._room.takes(blob, now):
            blob, dropped = b"", lines
        if dropped:
            self._counters.count("output-dropped", dropped)
        unsaid = self.unsaid.setdefault(job, Unsaid())
        if len(unsaid.texts) < 2 * TEXTS_MAX:
            unsaid.add(Text(lo, hi, dropped), blob)
        else:
            self._counters.count("output-dropped", lines - dropped)
            unsaid.miss(Text(lo, hi, lines))

    def flush(self, now: float, reported: Container[JobId]) -> float | None:
        """Say what may be said now: all of it after a pause, and that of jobs with results to report. Returns when
        to come again."""
        pause_over = now >= self._said_at + PAUSE_SECONDS
        for job in [job for job in self.unsaid if pause_over or job in reported]:
            self._say(job, self.unsaid.pop(job), now)
        return self._said_at + PAUSE_SECONDS if self.unsaid else None

    def drop(self, job: JobId) -> None:
        """The job is over."""
        unsaid = self.unsaid.pop(job, None)
        if unsaid is not None:
            self._lost(unsaid.texts, unsaid.blobs)

    # ------------------------------------------------------------ inside

    def _say(self, job: JobId, unsaid: Unsaid, now: float) -> None:
        held = self._jobs.get(job)
        if held is None or held.primary_gone_since is not None:
            self._lost(unsaid.texts, unsaid.blobs)
            return
        self._said_at = now
        if unsaid.missing is not None:
            unsaid.texts.append(unsaid.missing)
            unsaid.blobs.append(b"")
        for lo, hi in _pages(unsaid.blobs):
            texts, blobs = unsaid.texts[lo:hi], unsaid.blobs[lo:hi]
            if not self._links.send(held.spec.owner, Printed(job, texts, blobs), now):
                self._lost(texts, blobs)

    def _lost(self, texts: list[Text], blobs: list[bytes]) -> None:
        """Nobody will hear it. What is missing behind each text has been counted."""
        self._counters.count("output-dropped", sum(blob.count(b"\n") for blob in blobs))


def _pages(blobs: list[bytes]) -> list[tuple[int, int]]:
    """[lo, hi) of texts that fit one message."""
    pages: list[tuple[int, int]] = []
    lo, octets = 0, 0
    for at, blob in enumerate(blobs):
        if at - lo == TEXTS_MAX or octets + len(blob) > TEXTS_OCTETS_MAX:
            pages.append((lo, at))
            lo, octets = at, 0
        octets += len(blob)
    pages.append((lo, len(blobs)))
    return pages
