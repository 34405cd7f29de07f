"""How many supernodes a mesh has, and which of them observe which nodes.

Decides the number S(N), the three observers of a leaf or client, and those of a supernode. All follow
from the ids alone, so two nodes that know the same supernodes find the same answer without asking.
Refuses to know which nodes are heard, and what a silence means (membership).

The answers for one set of supernodes are kept in a table, and the next set's table is derived from it:
when a supernode comes or goes, only the nodes that it concerns are ranked again. All cores of one process
share the tables; without that, ten thousand cores on one heap would be too slow.

Ideas: super-peers after Yang and Garcia-Molina, but three of them for each leaf instead of one;
rendezvous hashing after Thaler and Ravishankar; K observers after Rapid.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import nlargest

from stealmesh_engine.base.rendezvous import Weight, place, weights
from stealmesh_protocol.ids import PeerId

LEAF_OBSERVERS = 3
OBSERVERS = 10
LEAVES_A_SUPERNODE = 64
TABLES_KEPT = 64
RESERVES = 8
"""How many supernodes beyond the needed ones a table remembers for each peer, in their order."""


def supers_wanted(nodes: int) -> int:
    """S(N): all of up to three nodes, 3 of up to 15, 5 of up to 320, then one in 64."""
    if nodes <= 3:
        return nodes
    if nodes <= 15:
        return 3
    if nodes <= 5 * LEAVES_A_SUPERNODE:
        return 5
    return -(-nodes // LEAVES_A_SUPERNODE)


class Table:
    """The observers of every peer, for one set of supernodes. Ask it; never change it."""

    def __init__(self, supers: tuple[PeerId, ...], before: Table | None = None) -> None:
        self.supers = supers
        self._all = frozenset(supers)
        self._places = [(place(peer), peer) for peer in supers]
        self._before: Table | None = None
        self._added: list[tuple[int, PeerId]] = []
        self._removed: frozenset[PeerId] = frozenset()
        if before is not None:
            before._before = None  # remember one step, not the whole past
            self._before = before
            self._added = [each for each in self._places if each[1] not in before._all]
            self._removed = before._all - self._all
        self._found: dict[PeerId, tuple[PeerId, ...]] = {}
        self._orders: dict[PeerId, list[tuple[Weight, PeerId]]] = {}
        """The same and the next in rank, so that after a death no peer has to be ranked anew."""

    def of(self, peer: PeerId) -> tuple[PeerId, ...]:
        """The observers of this peer; the nearest first."""
        found = self._found.get(peer)
        if found is None:
            found = self._found[peer] = self._find(peer)
        return found

    def _find(self, peer: PeerId) -> tuple[PeerId, ...]:
        most = OBSERVERS if peer in self._all else LEAF_OBSERVERS
        if len(self.supers) <= most:
            return tuple(each for each in self.supers if each != peer)
        order = self._inherited(peer, most)
        if order is None:
            order = nlargest(most + RESERVES + 1, weights(peer, self._places))
            order = [each for each in order if each[1] != peer][: most + RESERVES]
        self._orders[peer] = order
        return tuple(each for _, each in order[:most])

    def _inherited(self, peer: PeerId, most: int) -> list[tuple[Weight, PeerId]] | None:
        """The order that follows from the table before: without the supernodes that left, with those that
        came and rank before the last known one. None if the ranks behind that one are needed."""
        before = self._before
        if before is None or (peer in before._all) != (peer in self._all):
            return None
        known = before._orders.get(peer)
        if known is None:
            return None
        if self._removed:
            known = [each for each in known if each[1] not in self._removed]
        if len(known) < most:
            return None
        come = weights(peer, self._added)
        come = [each for each in come if each > known[-1] and each[1] != peer]
        if come:
            known = sorted([*known, *come], reverse=True)[: most + RESERVES]
        return known


_tables: OrderedDict[tuple[PeerId, ...], Table] = OrderedDict()


def table_of(supers: list[PeerId], before: Table | None = None) -> Table:
    """The table for these supernodes; derived from `before` if it is not known yet."""
    key = tuple(supers)
    table = _tables.get(key)
    if table is None:
        table = _tables[key] = Table(key, before)
        if len(_tables) > TABLES_KEPT:
            _tables.popitem(last=False)
    else:
        _tables.move_to_end(key)
    return table
