"""Who else has, or takes, values that this node has a copy of.

Decides who is remembered as having a copy as well, and what the journey of a value to its taker took, as its source
sees it. Refuses to know which copy is taken (copies.py), and what the owner knows (directory.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from stealmesh_engine.data.journeys import Journeys
from stealmesh_protocol.ids import PeerId, ValueId, owner_of
from stealmesh_protocol.limits import VALUE_ASK_OCTETS

WINDOW_OCTETS = 2 * VALUE_ASK_OCTETS
"""What is asked for and has not come. More: faster over long distances; more waits behind it on a slow line."""
OTHERS_MIN = 64
"""Beyond these, what is remembered of values that have gone is looked through."""


class CopiesElsewhere:
    """Our sources and takers."""

    def __init__(self, journeys: Journeys) -> None:
        self._journeys = journeys
        self._serving: dict[tuple[PeerId, ValueId], float] = {}
        """Who takes which value from us, piece by piece, and since when."""
        self._others: dict[ValueId, set[PeerId]] = {}
        """Peers that have, or take, values that we had a copy of."""

    def is_also_at(self, value: ValueId, peer: PeerId) -> bool:
        """Has this peer a copy of a value of ours, as far as we know?"""
        return peer == owner_of(value) or peer in self._others.get(value, ())

    def note(self, value: ValueId, peer: PeerId, whole: Mapping[ValueId, int]) -> None:
        """This peer has it, too, or takes it. Of values that are not `whole` here all is forgotten now and then."""
        self._others.setdefault(value, set()).add(peer)
        if len(self._others) > 2 * len(whole) + OTHERS_MIN:
            self._others = {each: self._others[each] for each in self._others if each in whole}
            serving = self._serving.items()
            self._serving = {key: since for key, since in serving if key[1] in whole}

    def served(
        self, value: ValueId, peer: PeerId, lo: int, hi: int, octets: int, now: float
    ) -> None:
        """A taker of another host asks for [lo, hi) of a value. It asks for the last of it when all but a window has
        come, so we know the line as well."""
        if octets < 2 * WINDOW_OCTETS:
            return
        if lo == 0:
            self._serving[peer, value] = now
        elif hi == octets:
            since = self._serving.pop((peer, value), now)
            self._journeys.took(peer, octets - WINDOW_OCTETS, now - since)

    def gone(self, peer: PeerId) -> None:
        for each in [each for each in self._serving if each[0] == peer]:
            del self._serving[each]
