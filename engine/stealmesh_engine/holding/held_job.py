"""One job of somebody else's, as a node holds it: its bags here, and the trouble it has made.

Decides only how the whole of it is told to the home of a job that has lost all of its keepers.
Refuses to know workers, links and clocks (holder.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine.holding.bags import Bags, IndexedBags
from stealmesh_engine.holding.retained import Spares
from stealmesh_protocol.ids import LeaseId, PeerId, term_of
from stealmesh_protocol.messages import JobSpec, Keep, Kept, Part, Reign

PAGE_OCTETS = 512 * 1024
PAGE_RESULTS = 2048


@dataclass(slots=True)
class HeldJob:
    """One job of somebody else's: its bags here, and the trouble it has made."""

    spec: JobSpec
    bags: Bags
    attempts: dict[int, list[str]] = field(default_factory=dict)
    """How each item (explore: lease) has killed a worker while it ran alone."""
    turn: int = 0
    """The number of the last chunk that a worker was handed of it; 0: none yet."""
    empty_since: float | None = None
    """When housekeeping first found nothing of it here."""
    unreached_since: float | None = None
    """Since when there has been no link with its owner."""
    unsettled: dict[tuple[int, int], tuple[Part, bytes]] = field(default_factory=dict)
    """Durable jobs: results of which the home has not said yet that they are held safely."""
    unsettled_octets: int = 0
    homeless_since: float | None = None
    """Durable jobs: since when the home is gone and no other has spoken."""
    keeper_at: float = -1e9
    """Durable jobs: when somebody said last that he has a copy."""
    gave: OrderedDict[int | bytes, PeerId] = field(default_factory=OrderedDict)
    """What went to which thief last, by a mark that is the same if it comes back."""
    returned: dict[PeerId, float] = field(default_factory=dict)
    """Thieves that cannot run this job, as its ledger knows, and until when they get nothing of it."""
    declined_at: float = -1e9
    """When we last told its owner that we cannot run it."""
    asked: bool = False
    """Durable jobs: we have asked the home whether the job goes on."""
    granters: dict[int, PeerId] = field(default_factory=dict)
    """Durable jobs: whose leases those under each term are. They are of one home (terms.py)."""

    def granted_by(self, home: PeerId, term: int) -> None:
        """This home leases us something."""
        if self.spec.term:
            assert self.granters.setdefault(term, home) == home, (
                "leases of two homes under one term"
            )

    def follow(self, home: PeerId, term: int) -> list[LeaseId]:
        """Obey this home from now on. Returns the leases to be let go of: another home of the same term
        gave them, and this one may give us others with the same ids."""
        self.spec = replace(self.spec, term=term, owner=home)
        if self.granters.get(term, home) == home:
            return []
        del self.granters[term]
        return [lid for lid in self.bags.leases if term_of(lid) == term]

    def counted(self, count: int) -> None:
        """The home has said how many items there are, if it knows."""
        if count and not self.spec.count:
            self.spec = replace(self.spec, count=count)

    def whole(self, spares: Spares) -> Iterator[Keep]:
        """What is here of a durable job's inputs and results, for a home that has nothing."""
        assert isinstance(self.bags, IndexedBags)
        spec = self.spec
        reign = Reign(spec.term, 0, spec.owner, [])
        for block, blob in (*self.bags.inputs.as_they_came, *spares.inputs(spec.job)):
            yield Keep(spec, reign, blocks=[block], blobs=[blob])
        page = Keep(spec, reign, 0, spec.count, bool(spec.count))
        octets = 0
        for part, blob in spares.results(spec.job):
            page.results.append(Kept(part.lo, part.hi, part))
            page.blobs.append(blob)
            octets += len(blob)
            if octets >= PAGE_OCTETS or len(page.results) >= PAGE_RESULTS:
                yield page
                page, octets = Keep(spec, reign, 0, spec.count, bool(spec.count)), 0
        yield page


@dataclass(slots=True)
class Unsaid:
    """Finished parts of one job that its owner has not been told of yet."""

    since: float
    parts: list[Part] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    octets: int = 0
