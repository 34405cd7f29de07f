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
from stealmesh_engine.view.observers import Table, table_of
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Role

MANY = 512
"""Above this number of nodes we settle at most once in SETTLE_SECONDS: after a catastrophe supernodes
come and go by the hundred, and each time there is a look at every node."""
SETTLE_SECONDS = 0.2
ORPHANED_SECONDS = 5.0
"""For so long after the death of an observer a peer may have to look for others."""


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
        self.news.serve_under(self.view.supers())
        if self.view.knows_all():
            self.view.untell()
        self.leaf.choose(now)
        self._take(now)

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

    def _take(self, now: float) -> None:
        """A charge that we wait for is an orphan if an observer of its has died lately: it has missed that one for as
        long as others have, and looks for more already."""
        view, table = self.view, self.news.table
        before, me = self.peers, view.me.id
        self.peers = {}
        if view.serves():
            self.peers = {p: None for p in view.nodes() if p != me and me in table.of(p)}
        for peer in before:
            if peer not in self.peers:
                self.suspicions.end(peer)
                self.detector.forget(peer)
        with_dead = self._with_lately_dead(now) if self.peers else table
        for peer in self.peers:
            if peer not in before:
                self._watch_from_afar(peer, now)
            if self.detector.is_awaited(peer, self.config.silence_seconds) and any(
                map(view.is_dead, with_dead.of(peer))
            ):
                self.detector.hurry(peer, self.config.orphan_seconds, now)

    def _with_lately_dead(self, now: float) -> Table:
        """Who would observe whom if no supernode had died lately. We may not have served then."""
        view, table = self.view, self.news.table
        dead = [
            each.id
            for each in view.dead()
            if each.role is Role.SUPER and now - view.buried_at(each.id) < ORPHANED_SECONDS
        ]
        return table_of(sorted([*table.supers, *dead]), table) if dead else table

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
