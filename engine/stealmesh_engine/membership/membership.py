"""Who is a living member of the mesh: the door of this package.

Decides which of its deciders acts on what is heard, learned or missed, one peer at a time. Refuses to
know what follows for a peer's work: it returns a `Change`, and consequences.py acts on it before the next peer
is looked at.

Every node and client beats to a few observers, the supernodes that rendezvous hashing gives it (three
observers for a leaf, up to ten for a supernode), and they answer. An observer that hears nothing
for `silence_seconds` tells the suspect, asks the other observers and looks whether anything listens at
its address (suspicion.py); what they find is judged (verdicts.py). A leaf replaces a silent observer by the
next supernode, without a verdict (leaf.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.links.links import Links
from stealmesh_engine.links.state import Peer
from stealmesh_engine.membership.beat_answers import BeatAnswers
from stealmesh_engine.membership.changes import Arrived, Change, Gone
from stealmesh_engine.membership.charges import Charges
from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.detector import Detector, Overdue
from stealmesh_engine.membership.dissemination import Dissemination
from stealmesh_engine.membership.leaf import Leaf
from stealmesh_engine.membership.reach import Reach
from stealmesh_engine.membership.reconnect import Reconnect
from stealmesh_engine.membership.supernodes import Supernodes
from stealmesh_engine.membership.suspicion import Suspicions
from stealmesh_engine.membership.told import ToldLives
from stealmesh_engine.membership.unknown_peers import UnknownPeers
from stealmesh_engine.membership.verdicts import Verdicts
from stealmesh_engine.view.membership_view import newer
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.limits import INCARNATION_STEP_MAX
from stealmesh_protocol.messages import (
    Beat,
    Digests,
    Member,
    Message,
    PeerState,
    Promote,
    Role,
    View,
    Vote,
    WhoIs,
)

NO_ONE = b""
REDIAL_SECONDS = 2.0
MEMBERS_KNOWN_MAX = 1 << 16
"""Records of nodes, the dead included: a peer can invent as many as it likes."""


class Membership(Decider):
    def __init__(self, context: Context, links: Links, detector: Detector) -> None:
        news = Dissemination(context.config, links)
        told = ToldLives(context.journal.rings, links.view)
        shared = Shared(context, links, detector, news, told)
        super().__init__(shared)
        self.leaf = Leaf(shared)
        self.suspicions = Suspicions(shared)
        self.charges = Charges(shared, self.leaf, self.suspicions)
        self.reach = Reach(shared, self.leaf, self.charges)
        self.verdicts = Verdicts(shared, self.suspicions, self.leaf, self.charges, self.reach)
        self.supernodes = Supernodes(shared, self.leaf, self.charges, self.verdicts)
        self.reconnect = Reconnect(shared, self.leaf)
        self.unknown = UnknownPeers(shared, self.leaf)
        self.answers = BeatAnswers(links)

    # ------------------------------------------------------------ time

    def tend(self, now: float, next_beat: float) -> list[Gone]:
        """Once a beat: see to it that we are linked with those who matter. Returns the stalled peers
        that are no longer waited for."""
        self.told.begins(now)
        if self.leaf.take_back(now):
            self.charges.unsettle()
        self.charges.settle(now)
        self.detector.put_off(next_beat, now)
        self.leaf.keep_linked(now)
        if self.view.me.role is Role.SUPER:
            patient = now - self.charges.settled_at > REDIAL_SECONDS
            for peer in self.view.supers():
                if patient or self.view.me.id < peer:  # otherwise both would dial at once
                    self.links.connect(peer, now)
        self.leaf.feel_unobserved(now)
        return self.verdicts.fence_stalled(now)

    def look(self, now: float) -> Overdue:
        """Who has been silent for too long? Pass each suspect to `suspect` and each ripe one to `judge`,
        then plan the next look."""
        self.charges.settle(now)
        return self.detector.look(now)

    def suspect(self, peer: PeerId, now: float) -> Change:
        """This peer has just been found silent."""
        if peer in self.charges.peers:
            self.suspicions.suspect(peer, now)
        elif peer in self.leaf.observers and not self.view.serves():
            return self.leaf.skip(peer, now)
        elif self.view.is_dead(peer):
            return self.verdicts.over(peer)
        elif peer in self.view.members and peer not in self.reach.holders:
            self.detector.forget(peer)  # a rumour of its death was wrong: that was all to watch for
        return None

    def judge(self, peer: PeerId, now: float) -> Change:
        """This suspect has had its chance to answer, unless an earlier verdict has changed that."""
        if not self.detector.is_suspect(peer):
            return None
        if peer in self.charges.peers:
            return self.verdicts.judge(peer, now)
        if peer in self.reach.holders:
            return self.reach.lose(peer, now)
        return self.verdicts.dead(peer, now, "silent")

    def forgive(self, seconds: float, now: float) -> None:
        """We were not running for this time."""
        self.detector.forgive(seconds, now)
        self.reach.forgive()

    def close(self, gone: Gone, now: float) -> None:
        """The work of this peer has been taken back: drop the rest that we keep for it."""
        if gone.close:
            self.news.forget(gone.peer)
            self.links.forget(gone.peer)
        if gone.settle:
            self.charges.settle_soon(now)

    # ------------------------------------------------------------ what peers say

    def heard(self, peer_id: PeerId, peer: Peer, now: float) -> None:
        """A sign of life."""
        peer.is_heard(now)
        if peer_id in self.detector.watches:
            if self.detector.heard(peer_id, now):
                self.suspicions.end(peer_id)
                self.journal.tell(now, "hears again from", detail=peer_id)
            if peer_id in self.charges.peers:
                self.detector.be_patient(peer_id, self.config.silence_seconds)
        else:
            self.leaf.heard(peer_id, now)
        record = self.view.members.get(peer_id)
        if record is not None and record.state is not PeerState.ALIVE:
            self.verdicts.accuse(record, now)

    def beat_heard(self, peer_id: PeerId, message: Beat, now: float) -> None:
        """A peer beats to us. An owner, or a peer that takes us for its observer, is answered."""
        role, view = self.links.peers[peer_id].member.role, message.view
        if not view:
            if message.loads:  # a holder beats to its owner; otherwise it is only a hint
                self.answers.owe(peer_id, now)
            return
        if role is Role.CLIENT:
            if peer_id not in self.detector.watches:
                self.detector.watch(peer_id, now, self.config.owner_patience_seconds)
            self.news.compare(peer_id, view, now)
        elif role is Role.SUPER or not self.view.supers_count:
            self.news.compare(peer_id, view, now)
        elif self.view.me.role is Role.SUPER:
            self.news.guest_beats(peer_id, view, now)
        else:
            self.news.show_the_way(peer_id, now)
        if peer_id not in self.leaf.observers:
            self.answers.owe(peer_id, now)

    def cut(self, peer_id: PeerId, now: float) -> Change:
        """The last link with this peer broke. That proves nothing; it is a reason to look at once."""
        peer = self.links.peers.get(peer_id)
        if peer is None:
            return None
        if peer.member.role is Role.CLIENT:
            self.detector.watch(peer_id, now, self.config.owner_gone_seconds)
            return None
        if self.view.is_dead(peer_id):
            return self.verdicts.mourn(peer_id, peer, now)  # with a link it might have refuted
        self.links.probe(peer_id)
        if self.news.is_stranger(peer_id, now):
            self.view.drop(peer_id)
        elif self.view.is_alive(peer_id):
            self.links.connect(peer_id, now)
        return None

    # ------------------------------------------------------------ records

    def learn(self, record: Member, now: float, source: PeerId = NO_ONE) -> Change:
        """Join a record into our view; act on it if it is new. After the last record of a message,
        settle: when forty supernodes die, settling after each would make forty tables."""
        view = self.view
        if not self._is_believable(record, source, now):
            return None
        if record.id == view.me.id:
            self._refute(record, source, now)
            return None
        before = view.members.get(record.id)
        if not view.join(record, now):
            return None
        self.told.changed(before, record, source, now)
        if view.knows_all():
            teller = view.members.get(source)
            by_super = teller is not None and teller.role is Role.SUPER
            self.news.tell(record, now, by_super=by_super)
        if self._is_predecessor(record):
            return self.verdicts.dead(record.id, now, "gone")
        peer = self.links.learns(record)
        if record.state >= PeerState.DEAD:
            return self.verdicts.mourn(record.id, peer, now)
        if record.state is PeerState.SUSPECT:
            self.verdicts.stands_still(record, now)
            return None
        self.unknown.learned(record, now)
        return self._welcome(record.id, now)

    def _is_believable(self, record: Member, source: PeerId, now: float) -> bool:
        """Can this record be true, as far as we know? What one voice says of others changes nothing while we
        hear them ourselves: they are told, and refute it."""
        known = self.view.members.get(record.id)
        if record.incarnation > INCARNATION_STEP_MAX + (0 if known is None else known.incarnation):
            self.counters.count("rude-incarnation")
            return False
        if known is None and len(self.view.members) >= MEMBERS_KNOWN_MAX:
            self.counters.count("members-beyond-bound")
            return False
        peer = self.links.peers.get(record.id)
        if peer is not None and peer.link is not None and peer.member.role is Role.CLIENT:
            if record.role is not Role.CLIENT:  # it has told us itself what it is
                self.counters.count("rude-role")
            return record.role is Role.CLIENT
        if record.state is PeerState.ALIVE or known is None or source in (NO_ONE, record.id):
            return True
        if not newer(record, known) or peer is None or peer.link is None:
            return True
        if now - peer.heard_at >= self.config.silence_seconds:
            return True
        self.counters.count("accusations-not-believed")
        self.verdicts.accuse(record, now)
        return False

    def _refute(self, record: Member, source: PeerId, now: float) -> None:
        refuted = self.view.refute(record)
        if refuted is None:
            if record.state is not PeerState.ALIVE and self.links.is_ready(source):
                # It has missed what we have said since.
                self.links.send(source, View([self.view.me]), now)
        else:
            self.journal.tell(now, "refutes", detail=f"incarnation {refuted.incarnation}")
            self.told.verdict("refutes its death", refuted.id, now, aloud=True)
            if record.state is PeerState.DEAD:
                self.supernodes.held_for_dead(now)
            self.news.tell(refuted, now)

    def _welcome(self, peer: PeerId, now: float) -> Arrived:
        self.verdicts.moves_again(peer)
        if self.view.me.role is not Role.CLIENT:
            self.charges.welcome(peer, now)
        elif len(self.links.peers) <= self.config.links_max:
            self.links.connect(peer, now)
        return Arrived(peer)

    def _is_predecessor(self, record: Member) -> bool:
        """Does a peer still believe in a process that had our own address before us?"""
        me = self.view.me
        return (
            not self.links.is_ready(record.id)
            and record.state <= PeerState.SUSPECT
            and record.host == me.host
            and any(endpoint in me.endpoints for endpoint in record.endpoints)
        )


MESSAGES: dict[type[Message], Callable[[Membership, PeerId, Any, float], None]] = {
    Vote: lambda members, *heard: members.suspicions.voted(*heard),
    Digests: lambda members, *heard: members.news.differs(*heard),
    Promote: lambda members, peer, message, now: members.supernodes.asked(now),
    WhoIs: lambda members, *heard: members.unknown.asked(*heard),
}
"""What this package does alone. core.py handles the others: a BEAT concerns several packages, and after
each record of a VIEW, an AROUND or a WELCOME work may have to move."""
