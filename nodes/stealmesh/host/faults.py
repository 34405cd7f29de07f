"""What went wrong, so that the same is one line: how often, which item for example, at which nodes, when last.

Decides what is the same: one function and one kind of failure in the same words, whatever numbers are in them (an item
that says its own number is no failure of its own). A job may fail a million times in one way, and a person reads it
once. Refuses to know where the entries come from and how lines look: the report and the page show them.

Idea: the issues of Sentry, without its server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from stealmesh.host.happened import ECHOES, words_of
from stealmesh.host.saying import printable
from stealmesh_protocol.failed_words import read_line
from stealmesh_protocol.ids import JobId, PeerId, number_in_whole, whole_of
from stealmesh_protocol.journal_messages import BESIDE, BESIDE_AND, JournalEntry, RingKind

ENDED_WELL = ("done", "step")
UNSAID = "items failed, and their node does not say how"
OTHERS = "items of the same chunks failed otherwise"
GROUPS_MAX = 1000
"""That are told apart. What comes beyond that is counted with the oldest."""
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True, slots=True)
class FaultTold:
    """One thing that went wrong, as one entry tells it."""

    key: str
    """Two faults with the same key are the same."""
    said: str
    many: int
    """Items, or how often it happened."""
    of_items: bool
    job: JobId = b""
    item: int = -1
    """One of those that it struck; -1: none is known."""


@dataclass(slots=True)
class FaultGroup:
    """All that is the same."""

    said: str
    many: int = 0
    of_items: bool = False
    first: float = 0.0
    last: float = 0.0
    """Seconds, of the time of day."""
    job: JobId = b""
    item: int = -1
    """Of the latest."""
    nodes: dict[str, PeerId] = field(default_factory=dict)


class FaultGroups:
    """The groups of what is added."""

    def __init__(self, most: int = GROUPS_MAX) -> None:
        self._most = most
        self._groups: dict[str, FaultGroup] = {}
        self.left_out = 0
        """How often something happened that had no room of its own."""

    def add(self, entry: JournalEntry, at: float, node: str, peer: PeerId) -> None:
        for fault in faults_of(entry):
            group = self._groups.get(fault.key)
            if group is None:
                if len(self._groups) >= self._most:
                    self.left_out += fault.many
                    continue
                group = self._groups[fault.key] = FaultGroup(fault.said, first=at, last=at)
            group.many += fault.many
            group.of_items = fault.of_items
            group.nodes.setdefault(node, peer)
            group.first = min(group.first, at)
            if at >= group.last:
                group.last, group.said = at, fault.said
                group.job, group.item = fault.job, fault.item

    def newest_first(self) -> list[FaultGroup]:
        return sorted(self._groups.values(), key=lambda group: (-group.last, group.said))


def faults_of(entry: JournalEntry) -> list[FaultTold]:
    """What went wrong, if anything did."""
    if entry.kind == RingKind.CHUNK:
        return list(_of_chunk(entry))
    if entry.kind not in (RingKind.DEATH, RingKind.VERDICT, RingKind.LEASE):
        return []
    if entry.kind == RingKind.VERDICT:  # what several nodes say of one node is the same
        told = f"{entry.name} {ECHOES.get(entry.what, entry.what)}"
        return [FaultTold(_key(entry, told), printable(words_of(entry)), 1, of_items=False)]
    # A death has the number of its worker and its item, and two signals are two things.
    told = f"{entry.name} {entry.what} {entry.detail}"
    alike = told if entry.kind == RingKind.DEATH else _without_numbers(told)
    job, item = _place(entry, entry.lo) if entry.hi else (whole_of(entry.about), -1)
    return [FaultTold(_key(entry, alike), words_of(entry), max(1, entry.count), False, job, item)]


def _of_chunk(entry: JournalEntry) -> Iterable[FaultTold]:
    name, detail = entry.name or "?", entry.detail
    if entry.what not in ENDED_WELL:
        if entry.what in ("unwanted", "died"):
            return  # it was cancelled or came twice, or the death of its worker says the same
        said = f"{name}: {entry.what}" + (f": {detail}" if detail else "")
        job, item = _place(entry, entry.lo)
        yield FaultTold(
            _key(entry, said), printable(said), max(1, entry.hi - entry.lo), True, job, item
        )
        return
    if not entry.count:
        return
    words = read_line(detail.removeprefix(BESIDE).removeprefix(BESIDE_AND))
    if words is None:
        unsaid = detail if detail and not detail.startswith(BESIDE) else UNSAID
        said, job = f"{name}: {unsaid}", whole_of(entry.about)
        item = entry.lo if entry.what == "done" and entry.hi == entry.lo + 1 else -1
        yield FaultTold(
            _key(entry, _without_numbers(said)), printable(said), entry.count, True,
            *(_place(entry, item) if item >= 0 else (job, -1)),
        )  # fmt: skip
        return
    alike = min(words.alike or entry.count, entry.count)
    said = f"{name}: {words.text}"
    place = _place(entry, words.item)
    yield FaultTold(_key(entry, _without_numbers(said)), printable(said), alike, True, *place)
    if alike < entry.count:
        said = f"{name}: {OTHERS}"
        yield FaultTold(_key(entry, said), printable(said), entry.count - alike, True, *place)


def _place(entry: JournalEntry, item: int) -> tuple[JobId, int]:
    """The job and the item as people call them: a slice of a durable job has numbers of its own."""
    return whole_of(entry.about), number_in_whole(entry.about, item) if entry.about else item


def _key(entry: JournalEntry, said: str) -> str:
    return f"{entry.kind} {said}"


def _without_numbers(said: str) -> str:
    return _NUMBER.sub("#", said)
