"""The peers that this one observes, and when that set is computed again.

Decides which peers are our charges: those for which we are among the observers that rendezvous hashing
gives. Refuses to know what their silence means (verdicts.py).

Idea: Rapid's K observers.
"""

from __future__ import annotations

from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.detector import NEVER
from stealmesh_engine.membership.leaf import Leaf, hears_any
from stealmesh_engine.membership.suspicion import Suspicions
from stealmesh_engine.view.observers import Table
from stealmesh_protocol.ids import PeerId

MANY = 512
"""Above this number of nodes we settle at most once in SETTLE_SECONDS: after a catastrophe supernodes
come and go by the hundred, and each time there is a look at every node."""
SETTLE_SECONDS = 0.2


class Charges(Decider):
    def __init__(self, shared: Shared, leaf: Leaf, suspicions: Suspicions) -> None:
        super().__init__(shared)
        self.leaf = leaf
        self.suspicions = suspicions
        self.peers: dict[PeerId, None] = {}
        """Our charges. Written only here."""
        self.settled_at = NEVER
        """When the supernodes last changed."""
        self._settled = -1

    def settle(self, now: float) -> None:
        """If the supernodes have changed, find our observers and our charges anew."""
        if self._settled == self.view.supers_changes:
            return
        self._settled, self.settled_at = self.view.supers_changes, now
        before = self.news.table
        self.news.serve_under(self.view.supers())
        if self.view.knows_all():
            self.view.untell()
        self.leaf.choose(now)
        self._take(before, now)

    def settle_soon(self, now: float) -> None:
        """Settle at once or, among very many nodes, a moment after the last time."""
        if len(self.view.nodes()) <= MANY or now >= self.settled_at + SETTLE_SECONDS:
            self.settle(now)
        elif self._settled != self.view.supers_changes:
            self.detector.plan_look(self.settled_at + SETTLE_SECONDS)

    def unsettle(self) -> None:
        """Something other than the supernodes has changed: the next `settle` looks at all."""
        self._settled = -1

    def welcome(self, peer: PeerId, now: float) -> None:
        """This peer came, or came back: observe it if it is ours."""
        view = self.view
        if self._settled != view.supers_changes or not view.serves():
            return  # the next `settle` finds it
        if view.me.id in self.news.table.of(peer):
            self.peers[peer] = None
            if peer not in self.detector.watches:
                self._watch_from_afar(peer, now)

    def drop(self, peer: PeerId) -> None:
        self.peers.pop(peer, None)

    def _take(self, former: Table, now: float) -> None:
        """`former`: who observed whom until now. A charge that we wait for is an orphan if one of these died: it
        has missed that one for as long as we have, and looks for others already."""
        view, table = self.view, self.news.table
        before, me = self.peers, view.me.id
        self.peers = {}
        if view.serves():
            self.peers = {p: None for p in view.nodes() if p != me and me in table.of(p)}
        for peer in before:
            if peer not in self.peers:
                self.suspicions.end(peer)
                self.detector.forget(peer)
        for peer in self.peers:
            if peer not in before:
                self._watch_from_afar(peer, now)
            is_orphan = any(map(view.is_dead, former.of(peer)))
            if is_orphan and self.detector.is_awaited(peer, self.config.silence_seconds):
                self.detector.hurry(peer, now + self.config.orphan_seconds)

    def _watch_from_afar(self, peer: PeerId, now: float) -> None:
        """It may not know yet that we observe it, or be dead already: give it time to come, unless it
        was our observer and fell silent, or spoke with us a moment ago."""
        silence = self.config.silence_seconds
        if peer in self.leaf.skipped and peer in self.links.peers:
            self.detector.watch(peer, self.links.peers[peer].heard_at, silence)
        elif hears_any(self.links, [peer], 2 * self.config.beat_seconds, now):
            self.detector.watch(peer, now, silence)
        else:
            self.detector.watch(peer, now, 2 * silence)
