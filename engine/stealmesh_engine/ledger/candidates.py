"""The node that gets a lease: there, able to run the job, not one that declined, with least of the job.

Decides among the nodes that an owner can reach, and when none is left that might run something. Refuses to
know what a lease is (job_ledger.py) and what holders say (crediting.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator

from stealmesh_engine.config import Config
from stealmesh_engine.ledger.lives import Homes
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.passed_over import UNTRIED_SECONDS, is_worker, told_by_all
from stealmesh_engine.ledger.requirements import suits
from stealmesh_engine.ledger.soonest import Soonest, Whereabouts, needs_of_first
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member, Needs, Part, Role

LOOKED_AT_MAX = 256
"""Bound on the peers that are considered for one grant."""


class Candidates:
    def __init__(self, config: Config, links: Links) -> None:
        self.config = config
        self.links = links
        self.away: dict[PeerId, None] = {}
        """Nodes that are leaving: they get no new work."""
        self.homes = Homes()
        self.soonest = Soonest()
        self._looked_at = 0

    def next_for(self, job: OwnedJob, now: float) -> PeerId | None:
        """The node that gets what is free next. If all have declined, one that will say once more why."""
        if job.lives is not None and job.lives.home:
            return job.lives.home if self.may_run(job, job.lives.home) else None
        passed = job.passed
        if passed is None:
            return self._least_laden(job)
        at = job.ledger.first_free
        barred = passed.barred(at, now)
        node = self._least_laden(job, barred)
        if node is not None:
            passed.stop_hoping()
        elif not self._is_untried(job, barred, now):
            node = self._least_laden(job, barred.keys() - passed.willing(at))
        return node

    def _least_laden(self, job: OwnedJob, barred: Container[PeerId] = ()) -> PeerId | None:
        """The reachable node with the fewest leases of this job; of equals the one met first.

        Of many nodes only some are looked at, others each time: when thousands die at once there are as
        many leases to place, and stealing evens out what chance does not.
        """
        if isinstance(job, IndexedJob) and job.ledger.needy and job.lives is None:
            needs = needs_of_first(job.ledger)
            if needs:
                return self._soonest(job, needs, barred)
        best, best_load = None, 0
        me = self.links.view.me.id
        if job.keeping is not None and me not in barred and self.may_run(job, me):
            best, best_load = me, job.ledger.load_of(me)
            if not best_load:
                return best
        lapsed: PeerId | None = None
        for looked_at, peer in enumerate(self._peers_in_turn()):
            if looked_at >= LOOKED_AT_MAX and best is not None:
                break
            if peer in barred or not self.may_run(job, peer):
                continue
            if peer in job.lapsed:
                lapsed = lapsed or peer
                continue
            load = self.homes[peer] if job.lives is not None else job.ledger.load_of(peer)
            if best is None or load < best_load:
                best, best_load = peer, load
            if not load:
                break
        return best or lapsed

    def ask_about_values(self, whereabouts: Whereabouts) -> None:
        """From now on, these say where values are."""
        self.soonest.ask(whereabouts)

    def beat(self, peer: PeerId, queued_seconds: float) -> None:
        """A node says how long one worker would need for what waits there."""
        member = self.links.member_of(peer)
        self.soonest.beat(peer, queued_seconds, 1 if member is None else member.workers)

    def _soonest(self, job: IndexedJob, needs: Needs, barred: Container[PeerId]) -> PeerId | None:
        """The reachable node where an item that needs these values is over first."""
        able = list(self._able(job, barred))
        well = [each for each in able if each[0] not in job.lapsed]
        return self.soonest.node_for(job, needs, well or able)

    def _able(self, job: OwnedJob, barred: Container[PeerId]) -> Iterator[tuple[PeerId, int]]:
        """Nodes that may get something of the job, with their numbers of workers."""
        me = self.links.view.me
        if job.keeping is not None and me.id not in barred and self.may_run(job, me.id):
            yield me.id, me.workers
        for peer in self._peers_in_turn()[:LOOKED_AT_MAX]:
            if peer not in barred and self.may_run(job, peer):
                yield peer, self.links.peers[peer].member.workers

    def _peers_in_turn(self) -> list[PeerId]:
        """All peers; if they are many, beginning with others each time."""
        peers = list(self.links.peers)
        if len(peers) <= LOOKED_AT_MAX:
            return peers
        self._looked_at = (self._looked_at + LOOKED_AT_MAX) % len(peers)
        return peers[self._looked_at :] + peers[: self._looked_at]

    def may_run(self, job: OwnedJob, peer_id: PeerId) -> bool:
        """May it be given anything, and does it have what this job needs?"""
        view = self.links.view
        if peer_id in self.away:
            return False
        if peer_id == view.me.id:
            return view.me.workers > 0 and suits(job.spec, view.me)
        peer = self.links.peers.get(peer_id)
        return (
            peer is not None
            and peer.link is not None
            and peer.member.role is not Role.CLIENT
            and peer.member.workers > 0
            and peer_id not in self.links.mute
            and view.is_well(peer_id)
            and suits(job.spec, peer.member)
        )

    def suits(self, job: OwnedJob, peer_id: PeerId) -> bool:
        """Does it have what this job needs, as far as we know?"""
        member = self.links.view.members.get(peer_id)
        return member is None or suits(job.spec, member)

    def holders(self, jobs: Iterable[OwnedJob]) -> dict[PeerId, None]:
        """Every other peer that has something of these, or the home of one."""
        held = [holder for job in jobs for holder in job.ledger.holders()]
        held += self.homes.elements()
        return {holder: None for holder in held if holder != self.links.view.me.id}

    def count(self, job: OwnedJob) -> int:
        """How many nodes may be given something of this job (at most LOOKED_AT_MAX)."""
        me = self.links.view.me.id
        able = sum(1 for peer in self._peers_in_turn()[:LOOKED_AT_MAX] if self.may_run(job, peer))
        return able + (job.keeping is not None and self.may_run(job, me))

    def workers_for(self, job: OwnedJob) -> Counter[PeerId]:
        """The workers of each node that may be given something of this job (at most LOOKED_AT_MAX nodes)."""
        peers = self.links.peers
        return Counter(
            {
                peer: peers[peer].member.workers
                for peer in self._peers_in_turn()[:LOOKED_AT_MAX]
                if self.may_run(job, peer)
            }
        )

    def is_open(self, job: OwnedJob, at: int, now: float) -> bool:
        """Is there a node that has not declined item `at`, and may yet run it?"""
        assert job.passed is not None
        barred = job.passed.barred(at, now)
        return self._least_laden(job, barred) is not None or self._is_untried(job, barred, now)

    def _is_untried(self, job: OwnedJob, barred: Container[PeerId], now: float) -> bool:
        """Is there a node that lives and has not declined, but gets no lease now? True for a while only."""
        passed, view = job.passed, self.links.view
        assert passed is not None
        hopeful = any(
            peer not in barred
            and peer not in self.away
            and is_worker(view.members[peer])
            and suits(job.spec, view.members[peer])
            for peer in view.nodes()[: self.config.links_max]
        )
        if not hopeful:
            return False
        return passed.hopes(now) < UNTRIED_SECONDS

    def told_by_all(self, job: OwnedJob, part: Part, blob: bytes, now: float) -> bytes:
        """The error when no node can run it: with the reasons of all, the last one's as it is."""
        if job.passed is None:
            return blob
        reasons = dict(job.passed.barred(part.lo, now))
        members = self.links.view.members
        lent = job.ledger.leases.get(part.lid)
        if lent is not None:
            reasons.pop(lent.holder, None)
        names = {peer: members[peer].name if peer in members else "a node" for peer in reasons}
        return told_by_all(blob, [(names[peer], reason) for peer, reason in reasons.items()])

    def strangers(self, job: OwnedJob) -> list[Member]:
        """The nodes, if there are any and none of them has what this job needs."""
        view = self.links.view
        nodes = [view.members[peer] for peer in view.nodes()]
        nodes = [member for member in nodes if is_worker(member) and member.id not in self.away]
        return [] if any(suits(job.spec, member) for member in nodes) else nodes
