"""What a thief would have to fetch before it can run its loot.

Decides how long the values of a share travel to a thief, and whether that is longer than the share would wait
here: such a steal moves more than it saves, and is not made. Refuses to know what a share is (`shares.py`).

What a thief got with an earlier share of the same job it has, and so it has what we took from it or it from us. What
it got otherwise we do not know, and count it.
A share that waits behind something of unknown length waits at least as long again as that has run by now, so
nothing waits for ever at a node whose workers are stuck.
"""

from __future__ import annotations

from stealmesh_engine.data.values import Values
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Lease

LOOK_AGAIN_SECONDS = 0.02
"""A look takes as long as there are items, and a thief that waits is thought of in each step."""


class Loot:
    def __init__(self, links: Links, slots: Slots, values: Values) -> None:
        self._links = links
        self._view = links.view
        self._slots = slots
        self._values = values

    def is_too_dear(self, held: HeldJob, thief: PeerId, items: int, now: float) -> bool:
        """Would the last `items` items that no worker has travel longer than they wait here?"""
        if not held.spec.needs and not held.bags.waits:
            return False  # the usual case
        if now < held.too_dear_until.get(thief, -1e9):
            return True
        travels = self._journey_seconds(held, thief, items)
        too_dear = travels > 0.0 and travels >= self._wait_seconds(held, items, now)
        if too_dear:
            held.is_too_dear_for(thief, now + LOOK_AGAIN_SECONDS)
        return too_dear

    def gave(self, held: HeldJob, thief: PeerId, parts: list[Lease]) -> None:
        """These have gone to the thief, and it fetches what they need."""
        if held.spec.needs or held.bags.waits:
            needs = held.bags.needed_by((part.lo, part.hi) for part in parts)
            held.brings(thief, needs.union(held.spec.needs))

    def _journey_seconds(self, held: HeldJob, thief: PeerId, items: int) -> float:
        member = self._links.member_of(thief)
        if member is not None and member.host == self._view.me.host:
            return 0.0
        needs = held.bags.needed_by(held.bags.last_parts(items)).union(held.spec.needs)
        copies = self._values.copies
        octets = sum(
            copies.whole.get(value, 0)
            for value in needs - held.brought(thief)
            if not copies.elsewhere.is_also_at(value, thief)
        )
        return self._values.journeys.seconds(octets, thief) if octets else 0.0

    def _wait_seconds(self, held: HeldJob, items: int, now: float) -> float:
        workers = max(1, len(self._slots))
        waits = held.bags.cost.seconds(items) / workers / (held.bags.together or 1)
        return max(waits, self._slots.busy_seconds(now))
