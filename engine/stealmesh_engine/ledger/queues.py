"""How much of its graphs an owner has leased to each node, and how far behind the front an item is there.

Decides whether an item does better behind its inputs, or later at a node that has less to do. Refuses to know
edges and leases. It counts items, as if all of them cost the same, and takes each node's as a queue. A result's
journey over the owner counts as one item: tasks for which it is much longer do not need many nodes.

Idea: the earliest finish time of HEFT (Topcuoglu et al. 2002), with counts in the place of seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from stealmesh_protocol.ids import PeerId

JOURNEY_ITEMS = 1
"""How many items a worker does while a result travels to another node, as far as we assume."""


class Queues:
    """What nodes have of all jobs with edges."""

    def __init__(self) -> None:
        self.open: Counter[PeerId] = Counter()
        self._leased: Counter[PeerId] = Counter()
        """Ever. An item's place in the queue is what this was before it."""

    def joins(self, holder: PeerId, items: int) -> int:
        """That number of items more. Returns the place of the first of them."""
        place = self._leased[holder]
        self._leased[holder] = place + items
        self.open[holder] += items
        return place

    def leaves(self, holder: PeerId, items: int) -> None:
        left = self.open[holder] - items
        assert left >= 0, "a node has less than nothing"
        if left:
            self.open[holder] = left
        else:
            del self.open[holder], self._leased[holder]

    def behind(self, holder: PeerId, place: int) -> int:
        """How many items came to the node after the one that has this place."""
        return self._leased[holder] - place - 1

    def does_better(
        self, holder: PeerId, workers: int, place: int, others: Iterable[tuple[PeerId, int]]
    ) -> bool:
        """Is an item that waits for the one at this place over sooner here than at any of the other nodes (with
        their numbers of workers)?"""
        behind = self.behind(holder, place)
        if behind < workers * (JOURNEY_ITEMS + 1):
            return True
        here = self.open[holder] / workers
        ahead = here - behind / workers + JOURNEY_ITEMS  # when its input is over, and has travelled
        return all(
            peer == holder or max(self.open[peer] / of, ahead) >= here for peer, of in others
        )
