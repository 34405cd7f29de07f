"""Nodes that declined a job, or some of its items: which are passed over, and which are still to be asked.

Decides which nodes must not get an item, when all have declined it, and what the error says then. Refuses
to know ledgers and links: candidates.py asks before a lease is given, crediting.py tells what holders lack.

There are three ways of not being able. A node with another Python never runs byte code that is not its
own (`JobSpec.runtime`), so it is not asked at all. A node that cannot load the function, and has done
nothing else of the job, is passed over for a while: its user may install the module. A node that runs the
job well, but not this item, is passed over for this item only.

An owner that has forgotten all of this (a durable job has a new primary) asks every node once more, so it
costs time and nothing else. A node's own memory decides nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_protocol.data_only import RUNTIME as DATA_ONLY
from stealmesh_protocol.errors import RemoteProtocolError
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import JobSpec, Lease, Member, Report, Role
from stealmesh_protocol.values import (
    AGAIN,
    LACKING,
    NOT_REGISTERED,
    RAISED,
    UNLOADABLE,
    Failure,
    failures_of,
    pack_outcomes,
    with_failures,
)

NO_RESULT = (LACKING, AGAIN)
"""Codecs of parts that are not credited."""
UNFIT_SECONDS = 30.0
"""After this time a node that could not load the function is asked again (explore jobs: never)."""
UNTRIED_SECONDS = 5.0
"""How long an item waits for a node that lives, but gets no lease now, before it is given up."""
NOBODY_SAID_SECONDS = 2.0
NOBODY_SECONDS = 30.0
"""How long a program's job waits for a node with its Python while there are other nodes."""
REASON_CHARS_MAX = 500
OTHERS_CHARS_MAX = 2000


@dataclass(slots=True)
class Unfit:
    """Why a node gets nothing of a job."""

    reason: str
    since: float
    tried: bool = False
    """It has run something of the job, and told how that failed. It would do so again."""


@dataclass(slots=True)
class PassedOver:
    """The nodes that cannot run one job, or some of its items."""

    lasting: bool = False
    """A node that cannot do something now never can: a bag does not say which items were tried where."""
    nodes: dict[PeerId, Unfit] = field(default_factory=dict)
    hoping_since: float | None = None
    """Since when free work waits for a node that lives and was not asked."""
    _alike: set[PeerId] = field(default_factory=set)
    """Nodes that could not run what, in the end, no node could."""
    _lows: list[int] = field(default_factory=list)
    _items: dict[int, tuple[int, dict[PeerId, str]]] = field(default_factory=dict)
    """Low end → high end, and peer → reason of those that declined these items. They do not overlap."""

    # -- what holders say

    def unfit(self, peer: PeerId, reason: str, now: float) -> None:
        """The node says that it cannot run the job at all."""
        known = self.nodes.get(peer)
        self.nodes[peer] = Unfit(reason, now, known is not None and known.tried)

    def has_tried(self, peer: PeerId) -> None:
        """This node declined after it had begun."""
        self.nodes[peer].tried = True

    def hopes(self, now: float) -> float:
        """A node that can run it may yet be found: for how many seconds has that been the only hope?"""
        if self.hoping_since is None:
            self.hoping_since = now
        return now - self.hoping_since

    def stop_hoping(self) -> None:
        self.hoping_since = None

    def declined(self, peer: PeerId, lo: int, hi: int, reason: str) -> None:
        """The node has tried these items, and lacked something."""
        unfit = self.nodes.get(peer)
        if unfit is not None:
            unfit.tried = True
        at, pieces = lo, []
        for low, high, who in self._take(lo, hi):
            if low < lo:
                pieces.append((low, lo, dict(who)))
            if at < low:
                pieces.append((at, low, {peer: reason}))
            at = min(high, hi)
            pieces.append((max(low, lo), at, {**who, peer: reason}))
            if high > hi:
                pieces.append((hi, high, dict(who)))
        if at < hi:
            pieces.append((at, hi, {peer: reason}))
        self._put(pieces)

    def able(self, peer: PeerId) -> None:
        """The node has run something of the job. If it once declined what no node could run, the others
        that declined it may be as able."""
        self.nodes.pop(peer, None)
        if peer in self._alike:
            for other in self._alike:
                self.nodes.pop(other, None)
            self._alike = set()

    def settled(self, lo: int, hi: int) -> None:
        """These items are done: forget the nodes that could not run them."""
        pieces = []
        for low, high, who in self._take(lo, hi):
            if low < lo:
                pieces.append((low, lo, who))
            if high > hi:
                pieces.append((hi, high, who))
        self._put(pieces)

    def failed_everywhere(self, last: PeerId, lo: int, hi: int) -> None:
        """No node could run these. If one of those nodes can run the job, the fault is with the items, and
        not with the nodes."""
        self._alike = {peer for _, _, who in self._over(lo, hi) for peer in who}
        if last not in self.nodes:
            self.able(last)

    # -- what the owner asks

    def barred(self, at: int, now: float) -> dict[PeerId, str]:
        """The nodes that item `at` must not go to → why."""
        if not self.lasting:
            for peer in [p for p, u in self.nodes.items() if now - u.since > UNFIT_SECONDS]:
                del self.nodes[peer]
        barred = {peer: unfit.reason for peer, unfit in self.nodes.items()}
        for _, _, who in self._over(at, at + 1):
            barred.update(who)
        return barred

    def willing(self, at: int) -> set[PeerId]:
        """The nodes that would try item `at` once more, and tell how it failed."""
        willing = {peer for peer, unfit in self.nodes.items() if unfit.tried}
        for _, _, who in self._over(at, at + 1):
            willing.update(who)
        return willing

    def reach(self, at: int) -> int | None:
        """Up to where the same nodes are barred as at `at`; None if there is no end that we know."""
        for _, high, _ in self._over(at, at + 1):
            return high
        index = bisect_right(self._lows, at)
        return self._lows[index] if index < len(self._lows) else None

    def starts(self, lo: int, hi: int) -> list[int]:
        """One item of each part of [lo, hi) that the same nodes have declined."""
        return [max(low, lo) for low, _, _ in self._over(lo, hi)] or [lo]

    # -- inside

    def _over(self, lo: int, hi: int) -> Iterator[tuple[int, int, dict[PeerId, str]]]:
        index = max(0, bisect_right(self._lows, lo) - 1)
        while index < len(self._lows) and self._lows[index] < hi:
            low = self._lows[index]
            high, who = self._items[low]
            if high > lo:
                yield low, high, who
            index += 1

    def _take(self, lo: int, hi: int) -> list[tuple[int, int, dict[PeerId, str]]]:
        found = list(self._over(lo, hi))
        for low, _, _ in found:
            del self._items[low]
        if found:
            first = bisect_right(self._lows, found[0][0]) - 1
            del self._lows[first : first + len(found)]
        return found

    def _put(self, pieces: list[tuple[int, int, dict[PeerId, str]]]) -> None:
        if not pieces:
            return
        at = bisect_right(self._lows, pieces[0][0])
        self._lows[at:at] = [low for low, _, _ in pieces]
        self._items |= {low: (high, who) for low, high, who in pieces}


def has_runtime(spec: JobSpec, member: Member) -> bool:
    """Can this node's Python run the job's functions, as far as is known?"""
    return not spec.runtime or not member.runtime or spec.runtime == member.runtime


def has_mode(spec: JobSpec, member: Member) -> bool:
    """Do the job and the node both, or neither of them, name functions instead of sending code?"""
    return has_runtime(spec, member) or DATA_ONLY not in (spec.runtime, member.runtime)


def is_worker(member: Member) -> bool:
    return member.workers > 0 and member.role is not Role.CLIENT


# ---------------------------------------------------------------- in words


def nobody_can(spec: JobSpec, members: list[Member]) -> str:
    """Why a job waits although there are nodes."""
    counts: dict[str, int] = {}
    for member in members:
        counts[member.runtime] = counts.get(member.runtime, 0) + 1
    told = ", ".join(
        f"{count} node{'s run' if count > 1 else ' runs'} {runtime}"
        for runtime, count in sorted(counts.items())
    )
    return f"{told}; {spec.name} needs {spec.runtime}"


MODE_REMEDY = (
    "data-only nodes (--functions) run functions that they have by name, for programs with "
    "Mesh(functions=[...]); all others run what programs send: start nodes of the kind that the program needs"
)
NOBODY_REMEDY = (
    "start a node with that Python, or run the program with one that the nodes have "
    "(python -m stealmesh status shows them)"
)


def cannot_load(
    text: str, count: int, kind: str = UNLOADABLE, attempts: Sequence[str] = ()
) -> tuple[int, bytes]:
    """Codec and blob of `count` items that no node is left to run."""
    failure = Failure(0, kind, text=text, attempts=list(attempts) or [text])
    return pack_outcomes(None, [replace(failure, offset=each) for each in range(count)])


def reason_in(blob: bytes) -> str:
    """Why a holder could not run a chunk, in its worker's words."""
    try:
        failures = failures_of(blob)
    except RemoteProtocolError:
        return "it gave no reason that can be read"
    return failures[0].text[:REASON_CHARS_MAX] if failures else "it gave no reason"


def told_by_all(blob: bytes, reasons: list[tuple[str, str]]) -> bytes:
    """The last node's outcome, with what the nodes before it said: `reasons` are (name, reason)."""
    if not reasons:
        return blob
    try:
        failures = failures_of(blob)
        others = "; ".join(f"{name}: {reason}" for name, reason in reasons)[:OTHERS_CHARS_MAX]
        return with_failures(blob, [_with_reasons(each, others) for each in failures])
    except RemoteProtocolError:
        return blob  # the program says so when it opens the blob


def _with_reasons(failure: Failure, others: str) -> Failure:
    if failure.kind in (UNLOADABLE, NOT_REGISTERED):
        return replace(failure, text=f"{failure.text}; passed over before: {others}")
    if failure.kind == RAISED:
        trace = f"{failure.traceback.rstrip()}\n\nTried before on other nodes: {others}\n"
        return replace(failure, traceback=trace)
    return failure


def without_lacking(message: Report) -> tuple[Report, list[Lease]]:
    """Divide a report into results and the leases of what is none: its holder lacks something for it, or it
    is to run again later."""
    if all(part.codec not in NO_RESULT for part in message.parts):
        return message, []
    told = list(zip(message.parts, message.blobs, strict=True))
    good = [(part, blob) for part, blob in told if part.codec not in NO_RESULT]
    parts, blobs = [part for part, _ in good], [blob for _, blob in good]
    lacking = [Lease(p.lid, p.lo, p.hi) for p, _ in told if p.codec in NO_RESULT]
    return Report(message.job, parts, blobs), lacking
