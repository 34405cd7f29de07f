"""Who is in the mesh, as far as this peer knows: records that are joined, never overwritten.

Decides which of two records of one peer holds (higher incarnation, then the graver state)
and who the lifelines are. Refuses to know how records travel and how a death is noticed
(detector.py). Every change is a join, so the order and number of deliveries do not matter
and any two peers that exchange their views agree.

Ideas: incarnations owned by the accused after SWIM; lifeline graphs after Saraswat et al.:
neighbours at distances 1, b, b**2 … round the ring of ids, which is strongly connected
whatever the number of nodes (the distance 1 alone makes it a ring). A disconnected graph
would "work" on a handful of nodes, silently, so it is rebuilt at every change of the view.
"""

from __future__ import annotations

import hashlib
import math

import msgspec

from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member, PeerState, Role

TOMBSTONE_SECONDS = 600.0


def newer(a: Member, b: Member) -> bool:
    """Does record `a` hold over record `b` of the same peer?"""
    return (a.incarnation, a.state) > (b.incarnation, b.state)


def _mark(member: Member) -> int:
    text = member.id + member.incarnation.to_bytes(8, "big") + bytes([member.state])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class View:
    """The members known to `me`, itself included. Clients are not members: only their links know them."""

    def __init__(self, me: Member) -> None:
        self.me = me
        self.members: dict[PeerId, Member] = {}
        self.digest = 0
        """Equal digests mean equal views: the exclusive or over the records, so order does not matter."""
        self._graves: dict[PeerId, float] = {}
        self._nodes: list[PeerId] | None = None
        if me.role is not Role.CLIENT:
            self._set(me)

    def join(self, record: Member, now: float) -> bool:
        """Join one record; True when it changed the view."""
        if record.role is Role.CLIENT:
            return False
        known = self.members.get(record.id)
        if known is not None and not newer(record, known):
            return False
        if known is None and record.state >= PeerState.DEAD and record.id in self._graves:
            return False
        self._set(record)
        self._graves.pop(record.id, None)
        if record.state >= PeerState.DEAD:
            self._graves[record.id] = now
        return True

    def judge(self, peer: PeerId, state: PeerState, now: float) -> Member | None:
        """Record our own verdict on a peer; the new record, or None when it changes nothing."""
        known = self.members.get(peer)
        if known is None or known.state >= state:
            return None
        record = msgspec.structs.replace(known, state=state)
        self.join(record, now)
        return record

    def refute(self, accusation: Member) -> Member | None:
        """Someone says that we are suspect or dead: answer with a higher incarnation, None if outdated."""
        if accusation.incarnation < self.me.incarnation or accusation.state is PeerState.ALIVE:
            return None
        self.renew(incarnation=accusation.incarnation + 1, state=PeerState.ALIVE)
        return self.me

    def renew(self, **changes: object) -> None:
        """Change our own record."""
        self.me = msgspec.structs.replace(self.me, **changes)
        if self.me.role is not Role.CLIENT:
            self._set(self.me)

    def bury(self, now: float) -> list[PeerId]:
        """Forget the dead after ten minutes: until then a late rumour cannot bring them back."""
        long_dead = [p for p, since in self._graves.items() if now - since > TOMBSTONE_SECONDS]
        for peer in long_dead:
            del self._graves[peer]
            gone = self.members.pop(peer, None)
            if gone is not None:
                self.digest ^= _mark(gone)
        return long_dead

    def dead(self) -> list[Member]:
        """Those who are held for dead (not those who left), the latest death last."""
        found = (self.members.get(peer) for peer in self._graves)
        return [m for m in found if m is not None and m.state is PeerState.DEAD]

    def buried_at(self, peer: PeerId) -> float:
        return self._graves[peer]

    def is_alive(self, peer: PeerId) -> bool:
        member = self.members.get(peer)
        return member is not None and member.state <= PeerState.SUSPECT

    def nodes(self) -> list[PeerId]:
        """Every node that is not dead or gone, ourselves included if we are one, in the order of ids."""
        if self._nodes is None:
            self._nodes = sorted(p for p, m in self.members.items() if m.state <= PeerState.SUSPECT)
        return self._nodes

    def supers(self) -> list[PeerId]:
        """The living supernodes in the order of ids; every living node where there is none."""
        found = [p for p in self.nodes() if self.members[p].role is Role.SUPER]
        return found or self.nodes()

    def lifelines(self, degree_max: int) -> list[PeerId]:
        """Our fixed neighbours: at most `degree_max`, at distances 1, b, b**2 … on the ring of ids."""
        ring = self.nodes()
        count = len(ring)
        if self.me.role is Role.CLIENT or count < 2 or not self.is_alive(self.me.id):
            return []
        here = ring.index(self.me.id)
        degree = min(degree_max, max(1, math.ceil(math.log2(count))))
        base = count ** (1 / degree)
        distances = {max(1, round(base**power)) for power in range(degree)}
        return [ring[(here + step) % count] for step in sorted(distances) if step < count]

    def _set(self, record: Member) -> None:
        known = self.members.get(record.id)
        if known is not None:
            self.digest ^= _mark(known)
        self.members[record.id] = record
        self.digest ^= _mark(record)
        self._nodes = None
