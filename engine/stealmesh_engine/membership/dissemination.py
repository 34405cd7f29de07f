"""What is told to which peer about the members: news as it comes, and what was missed.

Decides which peers hear of a new record and how two peers find out where their views differ. Refuses to
know what a record means (membership.py) and which of two records holds (view/membership_view.py).

Supernodes and clients hold the whole view. The peer that learns something first tells all supernodes;
each of them tells its clients and those of its leaves that it concerns. News wait a moment for more, so
that many deaths travel as one message. What got lost is found by comparing digests with every beat:
first one number for all records, then one for each bucket of ids, then the records of the buckets that
differ.

A leaf is told who is *around* it and no more: its observers, some supernodes for bad times, its lifelines,
and how many nodes there are. So what a leaf holds and hears does not grow with the mesh. (In a mesh of
up to EVERYBODY_MAX nodes, all nodes are around each other.) The beats of a leaf repeat the digest of
what it was told last, so an observer knows when to tell it again.

Ideas: one-hop gossip among super-peers after Skype's lesson; digests of buckets after Merkle's trees,
cut down to one level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass

from stealmesh_engine.config import Config
from stealmesh_engine.links.introductions import SUPERS_IN_WELCOME
from stealmesh_engine.links.links import Links
from stealmesh_engine.links.state import Peer
from stealmesh_engine.membership.detector import NEVER
from stealmesh_engine.view.membership_view import BUCKETS, folded, mark_of
from stealmesh_engine.view.observers import Table, table_of
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Around, Digests, Member, PeerState, Role, View

EVERYBODY_MAX = 32
SUPERS_AROUND = 16
MEMBERS_IN_VIEW_MAX = 256
NEWS_SECONDS = 0.02
CUT_SECONDS = 0.2
"""News go out after NEWS_SECONDS, but not more often than this: deaths come in storms."""
COMPARE_SECONDS = 1.0
"""Between two comparisons with one peer: what is on its way need not be compared."""
TIDY_SECONDS = 2.0
QUIET_SECONDS = 5.0
"""A leaf keeps a peer that spoke within this time, even if no observer names it."""
UNTOLD = 1
"""What a leaf repeats to an observer that has told it nothing yet."""


@dataclass(slots=True)
class Guest:
    """A leaf that takes us for its observer, and what we have told it."""

    changes: int = -1
    """The state of our view for which the rest was found."""
    digest: int = 0
    ids: frozenset[PeerId] = frozenset()
    told_at: float = NEVER


class Dissemination:
    def __init__(self, config: Config, links: Links) -> None:
        self.config = config
        self.links = links
        self.view = links.view
        self.table = Table(())
        """The observers of each peer. Written only here."""
        self.flush_at: float | None = None
        self.guests: dict[PeerId, Guest] = {}
        self.readers: dict[PeerId, None] = {}
        """Clients that take us for their observer."""
        self.echoes: dict[PeerId, int] = {}
        """As a leaf: the digests of what our observers have told us."""
        self.around: dict[PeerId, frozenset[PeerId]] = {}
        """As a leaf: observer → the peers that it named."""
        self._fresh: dict[PeerId, bool] = {}
        """Peers with a new record → did a supernode tell us?"""
        self._flushed_at = NEVER
        self._tidy_at = NEVER

    def serve_under(self, supers: list[PeerId]) -> None:
        """These are the supernodes now: find the observers of each peer."""
        self.table = table_of(supers, self.table)

    # ------------------------------------------------------------ as it comes

    def tell(self, record: Member, now: float, *, by_super: bool = False) -> None:
        """This record is new to us, and so to others: tell them soon."""
        self._fresh[record.id] = by_super and self._fresh.get(record.id, True)
        if self.flush_at is None:
            self.flush_at = max(now + NEWS_SECONDS, self._flushed_at + CUT_SECONDS)

    def flush(self, now: float) -> None:
        """Tell each peer the news that concern it."""
        view = self.view
        serves = view.serves()
        fresh = [peer for peer in self._fresh if peer in view.members]
        found = [view.members[peer] for peer in fresh if not self._fresh[peer]]
        heard = [view.members[peer] for peer in fresh]
        own = [view.me] if view.me.id in self._fresh else []
        self._fresh.clear()
        self.flush_at, self._flushed_at = None, now
        for peer_id, peer in list(self.links.ready()):
            if self._is_server(peer):
                self._send(peer_id, found, now)
            elif serves and peer_id in self.readers:
                self._send(peer_id, heard, now)
            elif serves and peer_id in self.guests:
                guest = self.guests[peer_id]
                if not guest.ids.isdisjoint(fresh):
                    self._tell_around(peer_id, guest, now)
                else:
                    self._send(peer_id, own, now)
            else:
                self._send(peer_id, own, now)

    def forget(self, peer: PeerId) -> None:
        for memory in (self.guests, self.readers, self.echoes, self.around):
            memory.pop(peer, None)

    # ------------------------------------------------------------ what was missed

    def compare(self, peer_id: PeerId, digest: int, now: float) -> None:
        """A peer that should know all members names the digest of its view (a number of 64 bits)."""
        peer = self.links.peers[peer_id]
        if peer.member.role is Role.CLIENT:
            self.readers[peer_id] = None
        if digest != self.view.digest and peer.may_be_shown(now, COMPARE_SECONDS):
            self.links.send(peer_id, Digests(folded(self.view.buckets, self._buckets())), now)

    def show_the_way(self, peer_id: PeerId, now: float) -> None:
        """A peer takes us, a leaf, for a supernode, and may know none: name some. (A node that had come
        before the first supernode stayed on an island of its own. Regression:
        tests/sim/test_random_worlds.py, "who takes a leaf for one who serves is told who does".)"""
        peer = self.links.peers[peer_id]
        near = self.view.supers_near(peer_id, SUPERS_IN_WELCOME)
        if near and peer.may_be_shown(now, COMPARE_SECONDS):
            self.links.send(peer_id, View([self.view.members[each] for each in near]), now)

    def differs(self, peer_id: PeerId, message: Digests, now: float) -> None:
        """Send what we have where the other one's digests are not ours."""
        view = self.view
        if not view.knows_all():
            return
        count = len(message.buckets)
        ours = folded(view.buckets, count)
        where = {at for at in range(count) if ours[at] != message.buckets[at]}
        records = [m for m in view.members.values() if m.id[0] % count in where]
        self._send(peer_id, records, now)
        if where and not message.answer:
            self.links.send(peer_id, Digests(ours, True), now)

    def _buckets(self) -> int:
        members = len(self.view.members)
        return 8 if members <= 128 else 64 if members <= 1024 else BUCKETS

    # ------------------------------------------------------------ observers and leaves

    def guest_beats(self, peer_id: PeerId, echo: int, now: float) -> None:
        """A leaf says what it was told last: is it still so?"""
        guest = self.guests.get(peer_id)
        if guest is None:
            guest = self.guests[peer_id] = Guest()
        if guest.changes != self.view.changes or guest.digest != echo:
            self._tell_around(peer_id, guest, now, echo)

    def heard_around(self, observer: PeerId, message: Around, now: float) -> None:
        """As a leaf: an observer has told us who is around us. Forget the peers that no observer names any more,
        unless we talk with them; remember some of the dead, so that no rumour wakes them."""
        view = self.view
        self.echoes[observer] = message.digest
        self.around[observer] = frozenset(member.id for member in message.members)
        view.tell(message.lifelines, message.nodes)
        self._drop_strangers(now)
        for member in view.dead()[: -2 * EVERYBODY_MAX]:
            view.drop(member.id)

    def listen_to(self, observers: Container[PeerId], now: float) -> None:
        """As a leaf: what other peers than these have told us does not count any more."""
        former = [peer for peer in self.around if peer not in observers]
        for peer in former:
            del self.around[peer]
            self.echoes.pop(peer, None)
        if former:
            self._drop_strangers(now)

    def tidy(self, now: float) -> None:
        """As a leaf: forget the silent peers that no observer names. No observer would tell us that such a
        peer is dead, and a link with a machine that went off looks well."""
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._drop_strangers(now)

    def is_stranger(self, peer: PeerId, now: float) -> bool:
        """As a leaf: have we neither talked with this peer for a while nor been told about it?"""
        if self.view.told is None or peer == self.view.me.id:
            return False
        known = self.links.peers.get(peer)
        if known is not None and known.link is not None and now - known.heard_at < QUIET_SECONDS:
            return False
        return not any(peer in named for named in self.around.values())

    def _drop_strangers(self, now: float) -> None:
        if not self.around:
            return  # without any observer, every peer that we know is worth keeping
        for peer in [each for each in self.view.nodes() if self.is_stranger(each, now)]:
            self.view.drop(peer)

    def _tell_around(self, peer_id: PeerId, guest: Guest, now: float, echo: int = 0) -> None:
        view = self.view
        observers = self.table.of(peer_id)
        lifelines = view.neighbours(peer_id, self.config.lifelines_max)
        if len(view.nodes()) <= EVERYBODY_MAX:
            around = dict.fromkeys(view.nodes())
        else:
            supers = view.supers_near(peer_id, SUPERS_AROUND)
            followers = view.followers(peer_id, self.config.lifelines_max)
            around = dict.fromkeys([*observers, *supers, *lifelines, *followers])
        members = [view.members[peer] for peer in around if view.is_alive(peer)]
        ids = frozenset(around)
        gone = [view.members[peer] for peer in sorted(guest.ids - ids) if peer in view.members]
        text = b"".join([*observers, *lifelines, bytes([view.size.bit_length()])])
        digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        for member in members:
            digest ^= mark_of(member)
        guest.changes = view.changes
        if digest == echo and digest == guest.digest:
            return
        if digest == guest.digest and now - guest.told_at < self.config.beat_seconds:
            return  # it is on its way
        guest.digest, guest.ids, guest.told_at = digest, ids, now
        members += [member for member in gone if member.state >= PeerState.DEAD]
        members = members[:MEMBERS_IN_VIEW_MAX]
        around_it = Around(digest, view.size, list(observers), lifelines, members)
        self.links.send(peer_id, around_it, now)

    # ------------------------------------------------------------ inside

    def _is_server(self, peer: Peer) -> bool:
        """Does this peer hold all records for others?"""
        role = peer.member.role
        return role is Role.SUPER or (role is Role.PLAIN and not self.view.supers_count)

    def _send(self, peer_id: PeerId, records: list[Member], now: float) -> None:
        for start in range(0, len(records), MEMBERS_IN_VIEW_MAX):
            page = records[start : start + MEMBERS_IN_VIEW_MAX]
            self.links.send(peer_id, View(page), now)
