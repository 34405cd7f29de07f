"""How much of its graphs an owner has leased to each node, and how far behind the front an item is there.

Decides whether an item does better behind its inputs, or later at a node that has less to do; and behind which of
them, if several nodes make them. Refuses to know edges and leases. It counts items, as if all of them cost the same,
and takes each node's as a queue. A result's journey counts as one item, from node to node or over the owner: tasks
for which it is much longer do not need many nodes.

Idea: the earliest finish time of HEFT (Topcuoglu et al. 2002), with counts in the place of seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from stealmesh_protocol.ids import PeerId

JOURNEY_ITEMS = 1
"""How many items a worker does while a result travels to another node, as far as we assume."""

Made = tuple[PeerId, int]
"""The node that makes an input, and the place of that in its queue."""
Workers = Callable[[PeerId], int]
Others = Iterable[tuple[PeerId, int]]
"""Nodes, with their numbers of workers."""


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

    def best_maker(self, inputs: list[Made], workers: Workers) -> tuple[PeerId, float]:
        """Where, of the nodes that make these inputs, an item is over soonest, and when it begins there. Of equals:
        where most of its inputs are."""
        first = inputs[0][0]
        if all(holder == first for holder, _ in inputs):
            return first, self.open[first] / workers(first)
        makers = Counter(holder for holder, _ in inputs)
        travelled = [(holder, self._travelled(holder, place, workers)) for holder, place in inputs]

        def begins(maker: PeerId) -> float:
            away = (at for holder, at in travelled if holder != maker)
            return max(self.open[maker] / workers(maker), *away)

        best = min(makers, key=lambda maker: (begins(maker), -makers[maker]))
        return best, begins(best)

    def does_better(
        self, maker: PeerId, begins: float, inputs: list[Made], workers: Workers, others: Others
    ) -> bool:
        """Is an item with these inputs over sooner at this maker, where it begins then, than at any of the others?"""
        at_others = max(self._travelled(holder, place, workers) for holder, place in inputs)
        if begins < at_others + JOURNEY_ITEMS:
            return True
        return all(
            peer == maker or max(self.open[peer] / of, at_others) >= begins for peer, of in others
        )

    def _travelled(self, holder: PeerId, place: int, workers: Workers) -> float:
        """When the item at this place is over, and its result is at another node."""
        return (self.open[holder] - self.behind(holder, place)) / workers(holder) + JOURNEY_ITEMS
