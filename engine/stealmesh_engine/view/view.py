"""Who is in the mesh, as far as this peer knows: records that are joined, never overwritten.

Decides which of two records of one peer holds (higher incarnation, then the graver state, then
the higher role), who the supernodes are and who the lifelines. Refuses to know how records
travel (dissemination.py) and how a death is noticed (detector.py). Every change is a join, so the order
and number of deliveries do not matter and any two peers that exchange their views agree.

Supernodes and clients hold all records; a leaf of a large mesh holds those around it, as its
homes tell it, and learns from them who its lifelines are and how many nodes there are.

Ideas: incarnations owned by the accused after SWIM; lifeline graphs after Saraswat et al., laid
out as several rings after Rapid: the members are sorted by id, and again by id from its third
octet on, and so on; a lifeline is the next one on a ring. One ring alone makes the graph strongly
connected whatever the number of nodes (a disconnected graph would "work" on a handful of nodes,
silently), several make it spread well; everybody is the lifeline of as many as it has itself, and
who comes or goes changes those of its neighbours on the rings only. (Fingers after Chord left
nodes behind small gaps of ids with one neighbour: at 40 nodes they cost 1.3 % of efficiency.)
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, insort
from collections.abc import Callable
from functools import lru_cache

import msgspec

from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member, PeerState, Role

TOMBSTONE_SECONDS = 600.0
BUCKETS = 256
RINGS = 8


def newer(a: Member, b: Member) -> bool:
    """Does record `a` hold over record `b` of the same peer?"""
    return (a.incarnation, a.state, a.role) > (b.incarnation, b.state, b.role)


@lru_cache(maxsize=1 << 16)
def _mark(identity: PeerId, incarnation: int, state: PeerState, role: Role) -> int:
    text = identity + incarnation.to_bytes(8, "big") + bytes([state, role])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def mark_of(member: Member) -> int:
    """A number for a record; the exclusive or over many says whether two have the same records."""
    return _mark(member.id, member.incarnation, member.state, member.role)


class View:
    """The members known to `me`, itself included. Clients are not members: only their links know them."""

    def __init__(self, me: Member) -> None:
        self.me = me
        self.members: dict[PeerId, Member] = {}
        self.digest = 0
        """Equal digests mean equal views: the exclusive or over the records, so order does not matter."""
        self.buckets = [0] * BUCKETS
        """The same for the records whose ids begin with each octet: where two views differ."""
        self.changes = 0
        """Counts what happened to the view: equal numbers mean that it has not changed."""
        self.supers_changes = 0
        """Likewise for the set of `supers()`."""
        self.told: list[PeerId] | None = None
        """The lifelines that our homes gave us; None: we know everybody and find them ourselves."""
        self.told_size = 0
        """How many nodes there are, as our homes say."""
        self._graves: dict[PeerId, float] = {}
        self._ring: list[PeerId] = []
        self._rings: dict[int, list[PeerId]] = {}
        """The same in other orders, made when they are first asked for."""
        self._supers: list[PeerId] = []
        if me.role is not Role.CLIENT:
            self._set(me)

    # ------------------------------------------------------------ joining

    def join(self, record: Member, now: float) -> bool:
        """Join one record; True when it changed the view."""
        if record.role is Role.CLIENT:
            return False
        known = self.members.get(record.id)
        if known is not None and (known is record or not newer(record, known)):
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

    # ------------------------------------------------------------ the dead

    def bury(self, now: float) -> list[PeerId]:
        """Forget those who have been dead for long: a rumour that old does not travel any more."""
        long_dead = [p for p, since in self._graves.items() if now - since > TOMBSTONE_SECONDS]
        for peer in long_dead:
            self.drop(peer)
        return long_dead

    def drop(self, peer: PeerId) -> None:
        """Forget a record altogether."""
        self._graves.pop(peer, None)
        gone = self.members.pop(peer, None)
        if gone is not None:
            self._count(gone)
            self._place(gone, None)

    def dead(self) -> list[Member]:
        """Those who are held for dead (not those who left), the latest death last."""
        found = (self.members.get(peer) for peer in self._graves)
        return [m for m in found if m is not None and m.state is PeerState.DEAD]

    def buried_at(self, peer: PeerId) -> float:
        return self._graves[peer]

    # ------------------------------------------------------------ the living

    def is_alive(self, peer: PeerId) -> bool:
        member = self.members.get(peer)
        return member is not None and member.state <= PeerState.SUSPECT

    def is_dead(self, peer: PeerId) -> bool:
        """Held for dead, or gone: not the same as unknown."""
        member = self.members.get(peer)
        return member is not None and member.state >= PeerState.DEAD

    def is_well(self, peer: PeerId) -> bool:
        """Alive, and not known to stand still."""
        member = self.members.get(peer)
        return member is not None and member.state is PeerState.ALIVE

    def nodes(self) -> list[PeerId]:
        """Every node that is not dead or gone, ourselves included if we are one, in the order of ids."""
        return self._ring

    @property
    def size(self) -> int:
        """How many nodes the mesh has."""
        return max(len(self._ring), self.told_size)

    def supers(self) -> list[PeerId]:
        """The living supernodes in the order of ids. Where there is none yet, every living node; where
        they are lost, nobody."""
        return self._supers or ([] if self._knows_a_part() else self._ring)

    @property
    def supers_count(self) -> int:
        return len(self._supers)

    def serves(self) -> bool:
        """Do we serve as a supernode, be it because there is none yet?"""
        if self.me.role is not Role.PLAIN:
            return self.me.role is Role.SUPER
        return not self._supers and not self._knows_a_part()

    def _knows_a_part(self) -> bool:
        """Are we a leaf that knows a part of the mesh, whether or not it has supernodes now? To serve all
        at once, and to tell each other all that each of thousands knows, would be the end of it."""
        return self.told is not None and self.me.role is Role.PLAIN

    def knows_all(self) -> bool:
        """Is this view meant to be whole? A leaf's is not, once there are supernodes."""
        return self.me.role is Role.CLIENT or self.serves()

    def tell(self, lifelines: list[PeerId], nodes: int) -> None:
        """As a leaf: a home names our lifelines and the number of nodes."""
        self.told, self.told_size = lifelines, nodes

    def untell(self) -> None:
        """We are to know everybody by ourselves from now on."""
        self.supers_changes += self.told is not None and not self._supers
        self.told, self.told_size = None, 0

    # ------------------------------------------------------------ who is around whom

    def lifelines(self, degree_max: int) -> list[PeerId]:
        """Our fixed neighbours."""
        me = self.me
        if me.role is Role.CLIENT or not self.is_alive(me.id):
            return []
        if self.told is not None:
            return [peer for peer in self.told if self.is_alive(peer)]
        if not self.knows_all():
            return []  # all that we know yet are supernodes; our homes will tell us soon
        return self.neighbours(me.id, degree_max)

    def neighbours(self, peer: PeerId, degree_max: int) -> list[PeerId]:
        """The lifelines of a peer, at most `degree_max`: the next node on each of so many rings."""
        return self._beside(peer, degree_max, 0)

    def followers(self, peer: PeerId, degree_max: int) -> list[PeerId]:
        """Those whose lifeline a peer is: the node before it on each ring."""
        return self._beside(peer, degree_max, -1)

    def _beside(self, peer: PeerId, degree_max: int, step: int) -> list[PeerId]:
        count = len(self._ring)
        if count < 2:
            return [] if peer in self._ring else list(self._ring)
        degree = min(degree_max, RINGS, max(1, math.ceil(math.log2(count))))
        found: dict[PeerId, None] = {}
        for number in range(degree):
            ring, key = self._ring_of(number), _KEYS[number]
            here = bisect_left(ring, key(peer), key=key)
            if not step and here < count and ring[here] == peer:
                here += 1
            found[ring[(here + step) % count]] = None
        found.pop(peer, None)
        return list(found)

    def supers_near(self, peer: PeerId, most: int) -> list[PeerId]:
        """The supernodes that a peer should know of: those that follow it on the ring of ids."""
        supers = self.supers()
        if len(supers) <= most:
            return list(supers)
        here = bisect_left(supers, peer)
        return (supers[here : here + most] + supers)[:most] if here else supers[:most]

    # ------------------------------------------------------------ inside

    def _ring_of(self, number: int) -> list[PeerId]:
        if not number:
            return self._ring
        ring = self._rings.get(number)
        if ring is None:
            ring = self._rings[number] = sorted(self._ring, key=_KEYS[number])
        return ring

    def _set(self, record: Member) -> None:
        known = self.members.get(record.id)
        if known is not None:
            self._count(known)
        self.members[record.id] = record
        self._count(record)
        self._place(known, record)

    def _count(self, record: Member) -> None:
        """Add a record to the digests, or take it out."""
        mark = mark_of(record)
        self.digest ^= mark
        self.buckets[record.id[0]] ^= mark
        self.changes += 1

    def _place(self, old: Member | None, new: Member | None) -> None:
        """Keep the sorted lists true when a record changes."""
        was = old is not None and old.state <= PeerState.SUSPECT
        is_ = new is not None and new.state <= PeerState.SUSPECT
        if was is not is_:
            self.supers_changes += not self._supers
            rings = [(0, self._ring), *self._rings.items()]
            for number, ring in rings:
                _move(ring, old if was else new, number, gone=was)
        was = was and old is not None and old.role is Role.SUPER
        is_ = is_ and new is not None and new.role is Role.SUPER
        if was is not is_:
            self.supers_changes += 1
            _move(self._supers, old if was else new, 0, gone=was)


def _rotated(octets: int) -> Callable[[PeerId], bytes]:
    return lambda peer: peer[octets:] + peer[:octets]


_KEYS: list[Callable[[PeerId], bytes]] = [_rotated(2 * number) for number in range(RINGS)]


def _move(ring: list[PeerId], record: Member | None, number: int, *, gone: bool) -> None:
    """Take a member out of a ring, or put it in."""
    assert record is not None
    key = _KEYS[number]
    if gone:
        del ring[bisect_left(ring, key(record.id), key=key)]
    else:
        insort(ring, record.id, key=key)


def folded(buckets: list[int], count: int) -> list[int]:
    """The digests of fewer, larger buckets (`count` divides the number there is)."""
    found = [0] * count
    for at, mark in enumerate(buckets):
        found[at % count] ^= mark
    return found
