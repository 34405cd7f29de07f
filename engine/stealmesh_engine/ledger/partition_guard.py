"""On which side of a cut are we? With `Config.partition = "majority"` the lesser side leases nothing.

Decides whether fewer than half of the nodes are left that were there when all was calm. Then the others may
be the greater part, and may do the same work. Refuses to know how a node is found dead (membership) and
what is withheld (placement.py).

Calm is a view in which no node has come or gone for a while; on the lesser side the last calm view from
before the cut stays the measure. A node that left on purpose does not count any more. A node that was
started again at its address counts as if it had never gone. Of two halves the half with the smallest id
goes on. A cut is noticed node by node, so after each loss nothing is leased until the next loss would have
been noticed, too. When more than half of a machine room burns down, the rest does not go on by itself: its
nodes cannot tell that from a cut.

Idea: static quorums with a primary component, after Isis and Corosync.
"""

from __future__ import annotations

from stealmesh_engine.config import Config
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import PeerState

CALM_SECONDS = 10.0
NEVER = -1e9


class PartitionGuard:
    """The last calm view, and whether less than half of it is left."""

    def __init__(self, config: Config, links: Links) -> None:
        self.matters = config.partition == "majority"
        self.lesser = False
        self._links = links
        self._loss_seconds = config.silence_seconds + config.refute_seconds
        self._lost_at = NEVER
        self._calm: dict[PeerId, list[str]] = {}
        """The nodes of the last calm view, and where they are found."""
        self._nodes: list[PeerId] = []
        self._size = 0
        self._calm_size = 0
        """As a leaf we only know how many there were."""
        self._same_since = 0.0

    def withholds(self, now: float) -> bool:
        """Is nothing to be leased at this moment?"""
        return self.matters and (self.lesser or now < self._lost_at + self._loss_seconds)

    def lost(self, now: float) -> None:
        """A node is gone, or out of our reach."""
        self._lost_at = now
        self.look(now)

    def look(self, now: float) -> bool:
        """Has it changed on which side we are? Asked at every beat."""
        if not self.matters:
            return False
        before, view = self.lesser, self._links.view
        nodes = [peer for peer in view.nodes() if peer not in self._links.mute]
        if nodes != self._nodes or view.size != self._size:
            self._nodes, self._size, self._same_since = nodes, view.size, now
            for peer in [each for each in self._calm if self._has_left(each)]:
                del self._calm[peer]
        self.lesser = view.knows_all() and self._is_lesser()
        if not self.lesser and now - self._same_since >= CALM_SECONDS:
            self._calm_size = self._size
            known = nodes if view.knows_all() else []
            self._calm = {peer: view.members[peer].endpoints for peer in known}
        return self.lesser is not before

    def _has_left(self, peer: PeerId) -> bool:
        known = self._links.view.members.get(peer)
        return known is not None and known.state is PeerState.LEFT

    def _is_lesser(self) -> bool:
        if not self._calm:
            return 2 * len(self._nodes) <= self._calm_size
        view, present = self._links.view, set(self._nodes)
        places = {place for peer in present for place in view.members[peer].endpoints}
        here = {
            peer
            for peer, endpoints in self._calm.items()
            if peer in present or not places.isdisjoint(endpoints)
        }
        twice = 2 * len(here)
        if twice == len(self._calm):
            return min(self._calm) not in here
        return twice < len(self._calm)
