"""The nodes of the mesh as this peer knows them: records that are merged, never overwritten.

Decides which of two records of one node holds (higher incarnation, then the graver state, then the
higher role), which nodes are supernodes, and which are lifelines. Refuses to know how records travel
and how a death is noticed (membership). A change is a join, so the order and number of deliveries do not
matter, and any two peers that exchange their views agree.

Supernodes and clients hold all records. A leaf of a large mesh holds those around it, as its observers tell
it; they also tell it its lifelines and how many nodes there are.

Ideas: incarnations owned by the accused, after SWIM. Lifeline graphs after Saraswat et al., laid out as
several rings after Rapid: one ring sorts the members by id, the next by id from its third octet on, and
so on; a lifeline is the next member on a ring. One ring alone connects the graph strongly at every
number of nodes (a disconnected graph would seem to work on a handful of nodes); several spread work
well. Every node is the lifeline of as many nodes as it has itself, and one that comes or goes changes
only the lifelines of its neighbours on the rings. (Fingers after Chord left nodes behind small gaps of
ids with one neighbour: at 40 nodes they cost 1.3 % of efficiency.)
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, insort
from collections.abc import Callable
from functools import lru_cache

import msgspec

from stealmesh_protocol.ids import PeerId, short
from stealmesh_protocol.messages import Member, PeerState, Role

TOMBSTONE_SECONDS = 600.0
BUCKETS = 256
RINGS = 8


def newer(a: Member, b: Member) -> bool:
    """True if record `a` holds over record `b` of the same peer."""
    return (a.incarnation, a.state, a.role) > (b.incarnation, b.state, b.role)


@lru_cache(maxsize=1 << 16)
def _mark(identity: PeerId, incarnation: int, state: PeerState, role: Role) -> int:
    text = identity + incarnation.to_bytes(8, "big") + bytes([state, role])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def mark_of(member: Member) -> int:
    """A number for a record. Two sets of records are the same if the exclusive or over each is."""
    return _mark(member.id, member.incarnation, member.state, member.role)


class MembershipView:
    """The nodes known to `me`, itself included. Clients are not in it: only their links know them."""

    def __init__(self, me: Member) -> None:
        self.me = me
        self.members: dict[PeerId, Member] = {}
        self.digest = 0
        """Equal digests mean equal views: the exclusive or over the records, so order does not matter."""
        self.buckets = [0] * BUCKETS
        """The same for each first octet of ids: shows where two views differ."""
        self.changes = 0
        """Increases with every change of a record."""
        self.supers_changes = 0
        """Increases with every change of the set `supers()`."""
        self.told: list[PeerId] | None = None
        """The lifelines that our observers gave us; None: we know all nodes and find them ourselves."""
        self.told_size = 0
        """How many nodes the mesh has, as our observers say."""
        self._graves: dict[PeerId, float] = {}
        self._ring: list[PeerId] = []
        self._rings: dict[int, list[PeerId]] = {}
        """Ring number → the same in another order, made when it is first asked for."""
        self._supers: list[PeerId] = []
        if me.role is not Role.CLIENT:
            self._set(me)

    # ------------------------------------------------------------ joining

    def join(self, record: Member, now: float) -> bool:
        """Merge one record. Returns True if it changed the view."""
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
        """Record our own verdict on a peer. Returns the new record; None if it changes nothing."""
        known = self.members.get(peer)
        if known is None or known.state >= state:
            return None
        record = msgspec.structs.replace(known, state=state)
        self.join(record, now)
        return record

    def refute(self, accusation: Member) -> Member | None:
        """Answer a record of ourselves that we did not make, and that others would believe: that we are
        suspect or dead, or anything else. None if it is outdated."""
        if not newer(accusation, self.me):
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
        """Forget nodes that have been dead for `TOMBSTONE_SECONDS`: no peer repeats such an old record."""
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
        """Nodes that we believe dead (not those that left), the latest death last."""
        found = (self.members.get(peer) for peer in self._graves)
        return [m for m in found if m is not None and m.state is PeerState.DEAD]

    def buried_at(self, peer: PeerId) -> float:
        return self._graves[peer]

    # ------------------------------------------------------------ the living

    def name_of(self, peer: PeerId) -> str:
        """What people call it."""
        member = self.me if peer == self.me.id else self.members.get(peer)
        return short(peer) if member is None else member.name or short(peer)

    def is_alive(self, peer: PeerId) -> bool:
        member = self.members.get(peer)
        return member is not None and member.state <= PeerState.SUSPECT

    def is_dead(self, peer: PeerId) -> bool:
        """Believed dead, or left. False for an unknown node."""
        member = self.members.get(peer)
        return member is not None and member.state >= PeerState.DEAD

    def is_well(self, peer: PeerId) -> bool:
        """Alive, and not suspected."""
        member = self.members.get(peer)
        return member is not None and member.state is PeerState.ALIVE

    def nodes(self) -> list[PeerId]:
        """Every node that is not dead and has not left, in the order of ids; with ourselves if we are a node."""
        return self._ring

    @property
    def size(self) -> int:
        """How many nodes the mesh has, as far as we know."""
        return max(len(self._ring), self.told_size)

    def supers(self) -> list[PeerId]:
        """The living supernodes in the order of ids. While the mesh has none yet, every living node; for a
        leaf that has lost all of them, none."""
        return self._supers or ([] if self._knows_a_part() else self._ring)

    @property
    def supers_count(self) -> int:
        return len(self._supers)

    def serves(self) -> bool:
        """True for supernodes, and for every node while the mesh has none."""
        if self.me.role is not Role.PLAIN:
            return self.me.role is Role.SUPER
        return not self._supers and not self._knows_a_part()

    def _knows_a_part(self) -> bool:
        """True for a leaf of a mesh that has, or had, supernodes. When they die, thousands of leaves must
        not all serve at once and tell each other everything that each of them knows."""
        return self.told is not None and self.me.role is Role.PLAIN

    def knows_all(self) -> bool:
        """True if this view is meant to be whole. A leaf's is not, once there are supernodes."""
        return self.me.role is Role.CLIENT or self.serves()

    def tell(self, lifelines: list[PeerId], nodes: int) -> None:
        """As a leaf: an observer names our lifelines and the number of nodes."""
        self.told, self.told_size = lifelines, nodes

    def untell(self) -> None:
        """From now on this view is meant to be whole: forget what our observers told."""
        self.supers_changes += self.told is not None and not self._supers
        self.told, self.told_size = None, 0

    # ------------------------------------------------------------ neighbours

    def lifelines(self, degree_max: int) -> list[PeerId]:
        """Our fixed neighbours."""
        if self.told is None and len(self._ring) < 2:
            return []  # there is no other
        me = self.me
        if me.role is Role.CLIENT or not self.is_alive(me.id):
            return []
        if self.told is not None:
            return [peer for peer in self.told if self.is_alive(peer)]
        if not self.knows_all():
            return []  # we know supernodes only; our observers will tell us soon
        return self.neighbours(me.id, degree_max)

    def neighbours(self, peer: PeerId, degree_max: int) -> list[PeerId]:
        """The lifelines of a peer: the next node on each of at most `degree_max` rings."""
        return self._beside(peer, degree_max, 0)

    def followers(self, peer: PeerId, degree_max: int) -> list[PeerId]:
        """The nodes that have this peer as a lifeline: the node before it on each ring."""
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
        """At most `most` supernodes that a peer should know of: those that follow it on the ring of ids."""
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
        """Update the sorted lists when a record changes."""
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
    """The digests of `count` larger buckets; `count` divides the number of buckets."""
    found = [0] * count
    for at, mark in enumerate(buckets):
        found[at % count] ^= mark
    return found
