"""Peers that may live, but that our words do not reach.

Decides when a holder of our work counts as out of reach, and when a link is renewed because what we say
over it is not acknowledged. Refuses to know whether the peer is dead: its observers hear it, or will
tell.

A holder names our leases in every beat. We take them back from a holder that is silent or acknowledges
nothing, even if others hear it.
"""

from __future__ import annotations

from collections.abc import Collection

from stealmesh_engine.membership.changes import Gone
from stealmesh_engine.membership.charges import Charges
from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.leaf import Leaf
from stealmesh_protocol.ids import PeerId

SLOW_OCTETS_A_SECOND = 50_000
"""A link that carries less than this does not count as working."""


class Reach(Decider):
    def __init__(self, shared: Shared, leaf: Leaf, charges: Charges) -> None:
        super().__init__(shared)
        self.leaf = leaf
        self.charges = charges
        self.holders: dict[PeerId, None] = {}
        """Holders of our work that are watched for that reason alone. Written only here."""
        self._unheard: dict[PeerId, tuple[int, float]] = {}
        """The oldest custody message that a peer has not acknowledged, and since when it is the oldest."""

    def follow(self, holders: Collection[PeerId]) -> None:
        """Stop watching those that hold nothing of ours any more."""
        for peer in [p for p in self.holders if p not in holders]:
            del self.holders[peer]
            if peer not in self.charges.peers and peer not in self.leaf.observers:
                self.detector.forget(peer)

    def check(self, holder: PeerId, now: float) -> Gone | None:
        """Watch this holder of our work; is it within reach?"""
        if holder in self.links.mute:
            return None
        if holder not in self.detector.watches:
            missed = 3 * self.config.owner_beat_seconds(self.view.size)
            self.holders[holder] = None
            self.detector.watch(holder, now, max(self.config.silence_seconds, missed))
        return self.lose(holder, now) if self._is_deaf(holder, now) else None

    def lose(self, peer: PeerId, now: float) -> Gone:
        """It is out of reach. That is no verdict: it may live, but not for us."""
        self.journal.tell(now, "cannot reach", detail=peer)
        self.counters.count("holders-out-of-reach")
        self.links.misses(peer, self.links.last_said(peer))
        self._unheard.pop(peer, None)
        if peer in self.holders:
            del self.holders[peer]
            self.detector.forget(peer)
        self.links.renew(peer, now)
        return Gone(peer)

    def renew_deaf(self, now: float) -> None:
        """Renew the links of peers that acknowledge nothing: the other end of such a link may be gone.
        (Otherwise a node may never hear that a job is over.)"""
        for peer, _ in list(self.links.ready()):
            if peer not in self.holders and self._is_deaf(peer, now):
                self.journal.tell(now, "is not heard by", detail=peer)
                del self._unheard[peer]
                self.links.renew(peer, now)

    def forgive(self) -> None:
        """We were not running: measure all acknowledgements anew."""
        self._unheard.clear()

    def drop(self, peer: PeerId) -> None:
        self.holders.pop(peer, None)
        self._unheard.pop(peer, None)

    def _is_deaf(self, peer: PeerId, now: float) -> bool:
        """Has the same message waited too long for its acknowledgement? Large ones may take longer."""
        known = self.links.peers.get(peer)
        if known is None or not known.channel.unacked:
            self._unheard.pop(peer, None)
            return False
        first = known.channel.unacked[0][0]
        number, since = self._unheard.get(peer, (0, now))
        if number != first:
            self._unheard[peer] = first, now
            return False
        slow = known.channel.unacked_octets / SLOW_OCTETS_A_SECOND
        return now - since > self.config.silence_seconds + self.config.refute_seconds + slow
