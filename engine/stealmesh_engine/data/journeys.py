"""How long values travel, by what is measured.

Decides what the speed of the line to a peer is taken for: what whole values made there lately, else what they
made with all other peers, else an assumption. Refuses to know who asks, and what for: the owner of a value
compares nodes (`ledger/soonest.py`), a victim weighs what its thief would have to fetch (`stealing/loot.py`).

Between processes of one host nothing travels: a file is handed over.
"""

from __future__ import annotations

from stealmesh_protocol.ids import PeerId

ASSUMED_OCTETS_A_SECOND = 100e6
"""As long as nothing is measured: a line of one gigabit. Too high: work is moved that waits for its values; too
low: it stays where they are, behind other work. The first values that travel say it."""
MEASURED_OCTETS_MIN = 256 * 1024
"""A smaller value says how far a peer is, not how fast the line is."""
WEIGHT_OF_NEWEST = 0.3
PEERS_MAX = 4096
"""Peers whose speed is remembered, the last measured ones."""


class Journeys:
    """The speeds of one peer's lines to others, in octets a second."""

    def __init__(self) -> None:
        self._with: dict[PeerId, float] = {}
        self._all: float | None = None

    def took(self, peer: PeerId, octets: int, seconds: float) -> None:
        """A value of this size has travelled to this peer, or from it."""
        if octets < MEASURED_OCTETS_MIN or seconds <= 0.0:
            return
        speed = octets / seconds
        known = self._with.pop(peer, None)
        self._with[peer] = _nearer(known, speed)
        self._all = _nearer(self._all, speed)
        if len(self._with) > PEERS_MAX:
            del self._with[next(iter(self._with))]

    def seconds(self, octets: int, peer: PeerId) -> float:
        """How long this would travel to the peer."""
        speed = self._with.get(peer, self._all)
        return octets / (ASSUMED_OCTETS_A_SECOND if speed is None else speed)

    def forget(self, peer: PeerId) -> None:
        self._with.pop(peer, None)


def _nearer(known: float | None, speed: float) -> float:
    """Between them by their ratio: one value that came a thousand times faster must not hide ten that crept."""
    return speed if known is None else known * (speed / known) ** WEIGHT_OF_NEWEST
