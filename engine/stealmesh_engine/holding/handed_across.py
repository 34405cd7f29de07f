"""Results that go from node to node: what this node wants of others, and what others want of it.

An item that waits here (follow_ons.py) may need a result that another node makes. Decides whom to ask for it, when to
ask again, and what goes out to those that have asked. Refuses to know what the items are, and whether their results
count: the owner hears of each result as ever, and withdraws what was made from one that does not.

What is asked for may not be here yet, as the owner tells the two nodes at once; it may never come, as the owner takes
it back. So what others want is a list with a bound, and what falls out costs a moment: the owner itself sends what does
not arrive (ledger/from_afar.py). Both messages may be lost for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from stealmesh_engine.base.context import Context
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.limits import INPUTS_ASKED_MAX
from stealmesh_protocol.messages import InputGet, InputPut, Part

Input = tuple[JobId, int, LeaseId]
"""An item under a lease: with what is made of it under another one, its ledger does nothing."""
WANTED_MAX = 16384
"""The most results that others wait for here; the oldest is forgotten."""
OCTETS_MAX = 512 * 1024
"""Of a chunk whose results go to another node; the owner sends a larger one."""


class HandedAcross:
    """What a node wants of others for items that wait here, and others of it."""

    def __init__(self, context: Context, links: Links) -> None:
        self._links = links
        self._counters = context.counters
        self._makers: dict[Input, PeerId] = {}
        """What we wait for, and who makes it."""
        self.wanted: dict[Input, list[PeerId]] = {}
        """What others wait for, the oldest first."""

    # ------------------------------------------------------------ what we want

    def ask(self, wanted: list[tuple[Input, PeerId]], now: float) -> None:
        """Items that wait here need these, which others make."""
        fresh = {name: maker for name, maker in wanted if self._makers.get(name) != maker}
        self._makers.update(fresh)
        self._say(fresh.items(), now)

    def met(self, peer: PeerId, now: float) -> None:
        """There is a link with this peer (again): it may not have heard what we want."""
        self._say([(name, maker) for name, maker in self._makers.items() if maker == peer], now)

    def _say(self, wanted: Iterable[tuple[Input, PeerId]], now: float) -> None:
        asked: dict[tuple[PeerId, JobId], list[tuple[int, LeaseId]]] = {}
        for (job, item, lid), maker in wanted:
            asked.setdefault((maker, job), []).append((item, lid))
        for (maker, job), items in asked.items():
            for at in range(0, len(items), INPUTS_ASKED_MAX):
                page = items[at : at + INPUTS_ASKED_MAX]
                self._links.send(maker, InputGet(job, page), now)

    def came(self, peer: PeerId, message: InputPut) -> list[tuple[Input, Part, bytes]]:
        """Of these results, those that we wait for from this peer."""
        found = []
        for part, blob in zip(message.parts, message.blobs, strict=True):
            names = [name for name in self._within(message.job, part) if self._makers[name] == peer]
            found += [(name, part, blob) for name in names]
            if not names:
                self._counters.count("inputs-unasked")
        return found

    def _within(self, job: JobId, part: Part) -> list[Input]:
        if part.hi - part.lo <= len(self._makers):
            names = ((job, item, part.lid) for item in range(part.lo, part.hi))
            return [name for name in names if name in self._makers]
        return [
            name
            for name in self._makers
            if (name[0], name[2]) == (job, part.lid) and part.lo <= name[1] < part.hi
        ]

    def needs_no_more(self, name: Input) -> None:
        """It is here, or nothing waits for it any more."""
        self._makers.pop(name, None)

    # ------------------------------------------------------------ what others want

    def wants(self, peer: PeerId, name: Input) -> None:
        """This peer waits for this, which we have not made yet."""
        peers = self.wanted.setdefault(name, [])
        if peer not in peers:
            peers.append(peer)
        if len(self.wanted) > WANTED_MAX:
            self.wanted.pop(next(iter(self.wanted)))
            self._counters.count("inputs-forgotten")

    def is_made(self, name: Input) -> list[PeerId]:
        """Who waits for this, which has been made here."""
        return self.wanted.pop(name, [])

    def give(
        self, peers: Iterable[PeerId], job: JobId, part: Part, blob: bytes, now: float
    ) -> None:
        """These peers wait for results of this part."""
        for peer in peers if len(blob) <= OCTETS_MAX else ():
            self._links.send(peer, InputPut(job, [part], [blob]), now)

    def job_over(self, job: JobId) -> None:
        for name in [name for name in self.wanted if name[0] == job]:
            del self.wanted[name]

    def audit(self, awaited: Iterable[Input]) -> None:
        assert self._makers.keys() <= set(awaited), "we want what nothing waits for"
