"""The jobs of others that a node holds: their bags here, and the trouble that they make.

Decides which primary of a durable job a holder obeys, which jobs end with their owner, and how all that is
here of a durable job is told to a primary that has nothing. Refuses to know workers and links (`holder.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine.holding.actor_bags import ActorBags
from stealmesh_engine.holding.bags import Bags
from stealmesh_engine.holding.explore_bags import ExploreBags
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.lane_bags import LaneBags
from stealmesh_engine.holding.poison import Attempts
from stealmesh_engine.holding.retained import Retained
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, ValueId, owner_of, term_of
from stealmesh_protocol.messages import JobKind, JobSpec, Keep, Kept, Part, Reign
from stealmesh_protocol.values import AGAIN, LACKING

PAGE_OCTETS = 512 * 1024
PAGE_RESULTS = 2048
GAVE_REMEMBERED = 64
DECLINED_AGAIN_SECONDS = 1.0


@dataclass(slots=True)
class HeldJob:
    """One job of another peer."""

    spec: JobSpec
    bags: Bags
    attempts: Attempts = field(default_factory=Attempts)
    """Items (explore: bags) that have killed workers while they ran alone."""
    empty_since: float | None = None
    """When housekeeping first found nothing of it here, after the last grant."""
    unreached_since: float | None = None
    """Since when there has been no link with its owner."""
    unsettled: dict[tuple[int, int], tuple[Part, bytes]] = field(default_factory=dict)
    """Durable jobs: results that the primary does not hold safely yet, as far as we know."""
    unsettled_octets: int = 0
    primary_gone_since: float | None = None
    """Durable jobs: since when the primary is gone and no other has spoken."""
    replica_spoke_at: float = -1e9
    """Durable jobs: when a peer last said that it has a copy."""
    asked: bool = False
    """Durable jobs: we have asked the primary whether the job goes on."""
    granters: dict[int, PeerId] = field(default_factory=dict)
    """Durable jobs: term → primary that granted our leases under it. A term has one (terms.py)."""
    _declined_at: float = -1e9
    _gave: OrderedDict[int | bytes, PeerId] = field(default_factory=OrderedDict)
    """What went to which thief last, by a mark that is the same if it comes back."""
    _brought: dict[PeerId, set[ValueId]] = field(default_factory=dict)
    """The values that each thief has fetched for what it got of this job."""
    too_dear_until: dict[PeerId, float] = field(default_factory=dict)
    """Thieves to which values would travel for too long, and until when that is not looked at again."""
    _returned: dict[PeerId, float] = field(default_factory=dict)
    """Thieves that cannot run this job, as its ledger knows, and until when they get nothing of it."""

    @classmethod
    def of(cls, spec: JobSpec, threads: int = 1) -> HeldJob:
        """`threads`: what each worker of this node has."""
        if spec.kind is JobKind.EXPLORE:
            return cls(spec, ExploreBags(spec))
        if spec.life:
            return cls(spec, ActorBags(spec))
        held = cls(spec, (LaneBags if spec.max_parallel else IndexedBags)(spec))
        held.bags.together = spec.together or (threads if threads > 1 else 0)
        return held

    # ------------------------------------------------------------ how long it has been idle or cut off

    def reached(self, reached: bool, now: float) -> float:
        """Is its owner within reach? Returns the seconds for which it has not been."""
        if reached:
            self.unreached_since = None
        elif self.unreached_since is None:
            self.unreached_since = now
        return 0.0 if self.unreached_since is None else now - self.unreached_since

    def used(self, used: bool, now: float) -> float:
        """Is anything of it here? Returns the seconds for which nothing has been."""
        if used:
            self.empty_since = None
        elif self.empty_since is None:
            self.empty_since = now
        return 0.0 if self.empty_since is None else now - self.empty_since

    def ask(self, now: float) -> None:
        """We ask its primary whether it goes on, and wait for the answer."""
        self.asked, self.empty_since = True, now

    # ------------------------------------------------------------ nodes that cannot run it

    def declines(self, now: float) -> bool:
        """May we tell its owner that we cannot run it? An owner that grants us more of it soon after
        knows of no other node: then we try all of it."""
        if now - self._declined_at < DECLINED_AGAIN_SECONDS:
            return False
        self._declined_at = now
        return True

    def gave(self, thief: PeerId, marks: Iterable[int | bytes]) -> None:
        for mark in marks:
            self._gave[mark] = thief
        while len(self._gave) > GAVE_REMEMBERED:
            self._gave.popitem(last=False)

    def came_back(self, marks: Iterable[int | bytes], until: float) -> list[PeerId]:
        """These parts are ours again. Returns the thieves that had them and could not run them: they get
        nothing of this job until then."""
        thieves = [self._gave.pop(mark) for mark in marks if mark in self._gave]
        self._returned.update(dict.fromkeys(thieves, until))
        return thieves

    @property
    def has_suspects(self) -> bool:
        """Has a worker died of something of this job that is still here?"""
        return bool(self.attempts.by_suspect) or self.bags.has_suspects

    def brings(self, thief: PeerId, values: set[ValueId]) -> None:
        """The thief has got items that need these."""
        self._brought.setdefault(thief, set()).update(values)

    def is_too_dear_for(self, thief: PeerId, until: float) -> None:
        """Its values would travel to this thief for too long; that is not looked at again until then."""
        self.too_dear_until[thief] = until

    def brought(self, thief: PeerId) -> set[ValueId]:
        return self._brought.get(thief, set())

    def may_go_to(self, thief: PeerId, now: float) -> bool:
        return now >= self._returned.get(thief, -1e9)

    # ------------------------------------------------------------ durable jobs

    def granted_by(self, primary: PeerId, term: int) -> None:
        """This owner or primary leases us something."""
        self.empty_since = None
        if self.spec.term:
            assert self.granters.setdefault(term, primary) == primary, (
                "leases of two primaries under one term"
            )

    def lives_as(self, life: int) -> None:
        """Of an actor: a grant of this life has come."""
        self.spec = replace(self.spec, life=life)

    def follow(self, primary: PeerId, term: int) -> list[LeaseId]:
        """Obey this primary from now on. Returns the leases to let go of: another primary of the same
        term gave them, and this one may give us others with the same ids. Of an explore job that is all."""
        is_same = (term, primary) == (self.spec.term, self.spec.owner)
        self.spec = replace(self.spec, term=term, owner=primary)
        self.primary_gone_since, self.asked = None, False
        if self.bags.opaque:
            return [] if is_same else self._begin_anew(term)
        if self.granters.get(term, primary) == primary:
            return []
        del self.granters[term]
        return [lid for lid in self.bags.leases if term_of(lid) == term]

    def _begin_anew(self, term: int) -> list[LeaseId]:
        """Another primary, another account: it may know nothing of these bags."""
        self.granters.pop(term, None)
        return list(self.bags.leases)

    def primary_gone(self, now: float) -> None:
        if self.primary_gone_since is None:
            self.primary_gone_since = now

    def replica_spoke(self, now: float) -> None:
        self.replica_spoke_at = now

    def counted(self, count: int) -> None:
        """The primary has said how many items there are, if it knows."""
        if count and not self.spec.count:
            self.spec = replace(self.spec, count=count)

    def keep_unsettled(self, parts: list[Part], blobs: list[bytes]) -> None:
        """Keep these results until the primary holds them safely."""
        for part, blob in zip(parts, blobs, strict=True):
            if part.codec in (LACKING, AGAIN):
                continue  # no result: if the primary is lost before it heard of it, others are asked
            self.unsettled[part.lo, part.hi] = (part, blob)
            self.unsettled_octets += len(blob)

    def settled(self, intervals: Iterable[tuple[int, int]]) -> list[tuple[Part, bytes]]:
        """The primary holds these results safely. Returns those that were here."""
        self.asked = False
        found = [self.unsettled.pop(each) for each in intervals if each in self.unsettled]
        self.unsettled_octets -= sum(len(blob) for _, blob in found)
        return found

    def pages(self, retained: Retained) -> Iterator[Keep]:
        """The inputs and results that are here, for a primary that has nothing."""
        spec = self.spec
        reign = Reign(spec.term, 0, spec.owner, [])
        for block, blob in (*self.bags.blocks, *retained.inputs(spec.job)):
            yield Keep(spec, reign, blocks=[block], blobs=[blob])
        page = Keep(spec, reign, 0, spec.count, bool(spec.count))
        octets = 0
        for part, blob in retained.results(spec.job):
            page.results.append(Kept(part.lo, part.hi, part))
            page.blobs.append(blob)
            octets += len(blob)
            if octets >= PAGE_OCTETS or len(page.results) >= PAGE_RESULTS:
                yield page
                page, octets = Keep(spec, reign, 0, spec.count, bool(spec.count)), 0
        yield page


class HeldJobs(dict[JobId, HeldJob]):
    """All jobs of others that a node holds."""

    def __init__(self) -> None:
        super().__init__()
        self.some_take_resources = False
        """Has a job been here whose items take up resources?"""

    def begin(self, spec: JobSpec, threads: int = 1) -> HeldJob:
        """Something comes of a job that has nothing here. `threads`: of each worker."""
        self.some_take_resources |= bool(spec.resources)
        held = self[spec.job] = HeldJob.of(spec, threads)
        return held

    def obeys(self, job: JobId, peer: PeerId) -> bool:
        """Has this peer a say in what we hold of the job? Only its owner or, of a durable one, the primary."""
        held = self.get(job)
        return held is None or held.spec.owner == peer

    def is_durable(self, job: JobId) -> bool:
        held = self.get(job)
        return held is not None and bool(held.spec.term)

    def follows(self, job: JobId, primary: PeerId) -> bool:
        """Do we hold parts of this durable job, and is this peer its primary as far as we know?"""
        held = self.get(job)
        return held is not None and bool(held.spec.term) and held.spec.owner == primary

    def outranks(self, job: JobId, term: int, primary: PeerId) -> JobSpec | None:
        """The later primary of this durable job that we know, if the given one is a former one."""
        held = self.get(job)
        if held is None or (term, primary) >= (held.spec.term, held.spec.owner):
            return None
        return held.spec

    def ending_with(self, owner: PeerId) -> list[JobId]:
        """The jobs here that end with this owner."""
        return [job for job, held in self.items() if owner_of(job) == owner and not held.spec.term]
