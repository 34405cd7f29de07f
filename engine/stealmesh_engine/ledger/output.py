"""What tasks of this peer's jobs have printed elsewhere.

Decides what is shown to the program and what of it is too much; and, at the primary of a durable job, what is kept
for those who ask. Refuses to know how a line is shown.

A peer's word is an input: it may say any text, for an item that it holds or not. So what one peer and all
peers together may say is bounded here, whatever they have dropped themselves.
"""

from __future__ import annotations

from collections import OrderedDict

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.output_room import LINE_COSTS, OutputRoom
from stealmesh_engine.base.rude import unless
from stealmesh_engine.effects import JobPrinted
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.limits import TEXT_OCTETS_MAX, TEXTS_OCTETS_MAX
from stealmesh_protocol.messages import Output, Printed, PrintedGet, Text

OCTETS_A_SECOND = 512 * 1024
"""That the program shows, of all nodes: some thousand lines, and no person reads a hundred."""
OCTETS_AT_ONCE = 1024 * 1024
KEPT_OCTETS_A_JOB = 1024 * 1024
KEPT_OCTETS_MAX = 16 * 1024 * 1024
"""Of all durable jobs that this peer leads."""
JOBS_OVER_MAX = 64
"""Durable jobs that are over and whose output is still here."""


class KeptOutput:
    """What the items of one durable job have printed: the end of each, of those that did so last."""

    def __init__(self) -> None:
        self.octets = 0
        self._items: OrderedDict[tuple[int, int], tuple[bytes, int]] = OrderedDict()

    def add(self, text: Text, blob: bytes) -> int:
        """Returns how many octets it has grown by (below zero: shrunk)."""
        before = self.octets
        known = self._items.pop((text.lo, text.hi), None)
        old, dropped = known or (b"", 0)
        fresh = (old + blob)[-TEXT_OCTETS_MAX:]
        self._items[text.lo, text.hi] = (fresh, dropped + text.dropped)
        self.octets += len(fresh) - len(old) + (0 if known else LINE_COSTS)
        while self.octets > KEPT_OCTETS_A_JOB:
            _, (oldest, _) = self._items.popitem(last=False)
            self.octets -= len(oldest) + LINE_COSTS
        return self.octets - before

    def of(self, item: int) -> tuple[list[Text], list[bytes]]:
        """What this item has printed, as far as it is here, within one message."""
        texts: list[Text] = []
        blobs: list[bytes] = []
        for (lo, hi), (blob, dropped) in self._items.items():
            if lo <= item < hi and sum(map(len, blobs)) + len(blob) <= TEXTS_OCTETS_MAX:
                texts.append(Text(lo, hi, dropped))
                blobs.append(blob)
        return texts, blobs


class PrintoutsHere:
    """Of all jobs that this peer owns or leads."""

    def __init__(self, context: Context, links: Links) -> None:
        self._links = links
        self._effects = context.effects
        self._counters = context.counters
        self._room = OutputRoom(OCTETS_AT_ONCE, OCTETS_A_SECOND)
        self._kept: OrderedDict[JobId, KeptOutput] = OrderedDict()
        self._kept_octets = 0

    def printed(self, holder: PeerId, job: OwnedJob | None, message: Printed, now: float) -> None:
        """A holder says what its tasks have printed."""
        if job is None or holder not in job.told:
            lines = sum(blob.count(b"\n") for blob in message.blobs)
            self._counters.count("output-too-late", lines)
            return
        unless(job.spec.output is Output.CALLER, "printed-unasked")
        if job.keeping is not None:
            self._keep(message)
            return
        told: list[tuple[int, int, bytes, int]] = []
        for text, blob in zip(message.texts, message.blobs, strict=True):
            dropped = text.dropped
            if not self._room.takes(blob, now):
                lines = blob.count(b"\n")
                self._counters.count("output-dropped", lines)
                dropped, blob = dropped + lines, b""
            told.append((text.lo, text.hi, blob, dropped))
        record = self._links.view.members.get(holder)
        name = "" if record is None else record.name
        self._effects.append(JobPrinted(message.job, name, told))

    def asked(self, peer: PeerId, message: PrintedGet, now: float) -> None:
        """A client wants to read what an item of a durable job has printed."""
        kept = self._kept.get(message.job)
        texts, blobs = ([], []) if kept is None else kept.of(message.item)
        self._links.send(peer, Printed(message.job, texts, blobs, message.item), now)

    def _keep(self, message: Printed) -> None:
        kept = self._kept.get(message.job)
        if kept is None:
            kept = self._kept[message.job] = KeptOutput()
        self._kept.move_to_end(message.job)
        for text, blob in zip(message.texts, message.blobs, strict=True):
            self._kept_octets += kept.add(text, blob)
        while len(self._kept) > JOBS_OVER_MAX or (
            self._kept_octets > KEPT_OCTETS_MAX and len(self._kept) > 1
        ):
            _, oldest = self._kept.popitem(last=False)
            self._kept_octets -= oldest.octets
