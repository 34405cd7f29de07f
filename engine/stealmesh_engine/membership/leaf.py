"""The observers that a peer beats to, and what a leaf does when they fall silent.

Decides which supernodes are the observers of a leaf or client, when one of them is replaced and since when
none has been heard. Refuses to know whether a silent observer is dead: its own observers say that.

A leaf has three observers, those that rendezvous hashing gives it. They tell it which they are, as they know
more supernodes; until then, and in place of a silent one, it chooses among those that it knows. A
supernode beats to up to ten observers, chosen by the same hash.

Idea: super-peers after Yang and Garcia-Molina.
"""

from __future__ import annotations

from collections.abc import Iterable

from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.base.rude import unless
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.changes import Gone
from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.dissemination import UNTOLD
from stealmesh_engine.view.observers import LEAF_OBSERVERS
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Around, Member, PeerState, Role, View

SKIP_SECONDS = 5.0


def hears_any(links: Links, peers: Iterable[PeerId], seconds: float, now: float) -> bool:
    """Has one of these spoken in the last `seconds`, over a link that still stands?"""
    known = (links.peers.get(peer) for peer in peers)
    return any(p is not None and p.link is not None and now - p.heard_at < seconds for p in known)


class Leaf(Decider):
    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.observers: list[PeerId] = []
        """The peers we beat to; for a leaf or client they are its observers."""
        self.unobserved_since: float | None = None
        """Since when we hear no observer; None while we hear one, or need none."""
        self.skipped: dict[PeerId, float] = {}
        """Silent observers → until when we do without them. Written only here."""
        self._observers_told: list[PeerId] = []

    # ------------------------------------------------------------ choosing

    def choose(self, now: float) -> None:
        """Find our observers anew."""
        view, before = self.view, self.observers
        if view.serves():
            self.observers = list(self.news.table.of(view.me.id))
            return
        observers = [p for p in self._observers_told if view.is_alive(p) and p not in self.skipped]
        if len(observers) < LEAF_OBSERVERS:
            # Not told yet, or some are gone: choose ourselves among those we know.
            known = [p for p in view.supers() if p != view.me.id and p not in self.skipped]
            if view.me.role is Role.CLIENT and not known:
                # The living may not know of the supernodes that we lost, and should look for them.
                # Regression: tests/sim/test_random_worlds.py, "and tells it of those that it misses".
                ready = self.links.is_ready
                known = [p for p in view.nodes() if p not in self.skipped and ready(p)]
            observers += [p for p in ranked(view.me.id, known) if p not in observers][
                : LEAF_OBSERVERS - len(observers)
            ]
        self.observers = observers
        for peer in observers:
            self.links.connect(peer, now)
            if peer not in self.detector.watches:
                self.detector.watch(peer, now, self.config.silence_seconds)
        for peer in before:
            if peer not in observers:
                self.detector.forget(peer)
        self.news.listen_to(observers, now)

    def keep_linked(self, now: float) -> None:
        """Once a beat: have a link with each observer."""
        if self.view.me.role is Role.CLIENT and not self.observers:
            self.choose(now)  # a node may have come that does not serve yet
        for peer in self.observers:
            self.links.connect(peer, now)

    def digest_for(self, peer_id: PeerId) -> int:
        """What our beat to this peer says of our view: 0 unless it is one of our observers."""
        if peer_id not in self.observers:
            return 0
        if self.view.knows_all():
            return self.view.digest
        return self.news.echoes.get(peer_id, UNTOLD)

    # ------------------------------------------------------------ what observers say

    def listens_to(self, observer: PeerId, message: Around) -> bool:
        """Are we a leaf, and is this one of its observers? It knows that we are neither our own observer nor our own
        lifeline."""
        me = self.view.me.id
        unless(me not in message.homes and me not in message.lifelines, "around-itself")
        return self.view.me.role is Role.PLAIN and observer in self.observers

    def heard_around(self, observer: PeerId, message: Around, now: float) -> None:
        """An observer told us who is around us; its records have been learned already."""
        self._contradict(observer, message.members, now)
        if self.view.knows_all() or observer not in self.observers:
            return  # its records may have made it an observer of ours no longer
        self.news.heard_around(observer, message, now)
        if message.homes != self._observers_told:
            self._observers_told = message.homes
            self.choose(now)

    def _contradict(self, observer: PeerId, records: list[Member], now: float) -> None:
        """Show the observer the deaths that it does not know of: one of us is wrong, and neither would
        ever find out. If the peer lives, the observer hears it and has it refute. Regression:
        tests/sim/test_random_worlds.py, "a leaf that holds somebody for dead tells a home"."""
        view = self.view
        dead = [
            view.members[record.id]
            for record in records
            if record.state < PeerState.DEAD and view.is_dead(record.id)
        ]
        if dead:
            self.links.send(observer, View(dead), now)

    # ------------------------------------------------------------ silent observers

    def skip(self, peer: PeerId, now: float) -> Gone | None:
        """An observer is silent: take the next one. The link may be what is dead; a new one shows who
        lives there. A client that hears no observer at all has no one to tell it that this one lives."""
        self.journal.tell(now, "does without", detail=peer)
        self.skipped[peer] = now + SKIP_SECONDS
        self.detector.forget(peer)
        self.links.renew(peer, now)
        self.choose(now)
        if self.view.me.role is not Role.CLIENT or self.hears_observer(now):
            return None
        self.links.misses(peer)
        return Gone(peer)

    def heard(self, peer: PeerId, now: float) -> None:
        """A silent observer speaks: take it back with the next beat."""
        if peer in self.skipped:
            self.skipped[peer] = now

    def take_back(self, now: float) -> bool:
        """Skip no observer longer than it deserves; True when one may be chosen again."""
        over = [peer for peer, until in self.skipped.items() if until <= now]
        for peer in over:
            del self.skipped[peer]
        return bool(over)

    def drop(self, peer: PeerId) -> None:
        self.skipped.pop(peer, None)

    def hears_observer(self, now: float) -> bool:
        return hears_any(self.links, self.observers, self.config.silence_seconds, now)

    def feel_unobserved(self, now: float) -> None:
        """Note since when no observer has been heard."""
        if self.view.serves() or self.hears_observer(now):
            self.unobserved_since = None
        elif self.unobserved_since is None:
            self.unobserved_since = now
