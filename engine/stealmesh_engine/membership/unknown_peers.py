"""Peers that a leaf has something to say to and does not know.

A leaf of a large mesh knows those around it. The owner of its work knows everybody, and may send it to any node: for a
value, or for the result of another item. Decides whom a leaf asks who that is, when it asks again, and that it dials
the stranger when it has heard it. What it has to say then, its parts say when the link is there. Refuses to know what
that is.

Regression: tests/sim/test_strangers.py (world 1270 of graphs: a call waited for ever for a value at a stranger).
"""

from __future__ import annotations

from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.leaf import Leaf
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.limits import STRANGERS_MAX
from stealmesh_protocol.messages import Member, View, WhoIs

AGAIN_SECONDS = 1.0
"""An observer that has not answered for so long is asked again, if there still is something to say."""


class UnknownPeers(Decider):
    def __init__(self, shared: Shared, leaf: Leaf) -> None:
        super().__init__(shared)
        self._leaf = leaf
        self._asked: dict[PeerId, float] = {}
        """Those that we have asked for, and when last."""

    def ask(self, now: float) -> None:
        """We had something to say to peers that we do not know. Ask an observer who they are."""
        sought = self.links.take_strangers()
        observer = next((peer for peer in self._leaf.observers if self.links.is_ready(peer)), None)
        fresh = [peer for peer in sought if now - self._asked.get(peer, -1e9) >= AGAIN_SECONDS]
        if observer is None or not fresh or self.view.knows_all():
            return
        for peer in fresh:
            self._asked[peer] = now
        while len(self._asked) > STRANGERS_MAX:
            del self._asked[next(iter(self._asked))]
        self.links.send(observer, WhoIs(fresh), now)

    def asked(self, peer: PeerId, message: WhoIs, now: float) -> None:
        """A leaf has something to say to these. What we do not know either is gone."""
        known = [self.view.members[each] for each in message.peers if each in self.view.members]
        if known:
            self.links.send(peer, View(known), now)

    def learned(self, record: Member, now: float) -> None:
        """Here is one that lives."""
        if self._asked.pop(record.id, None) is not None:
            self.links.connect(record.id, now)
