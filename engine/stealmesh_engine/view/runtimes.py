"""Whether the mesh has nodes with another Python than ours, and that people hear of each only once.

Decides when to say so: as soon as we meet one, and not when a job waits for it. Refuses to know who can run what
(`ledger/requirements.py`).
"""

from __future__ import annotations

from stealmesh_engine.effects import Effect, OtherRuntime
from stealmesh_protocol.messages import Member


class Runtimes:
    """The Pythons of other nodes that we have met."""

    def __init__(self, effects: list[Effect]) -> None:
        self._effects = effects
        self._told: set[str] = set()

    def compare(self, me: Member, other: Member) -> None:
        """We talk to this peer."""
        mine, theirs = me.runtime, other.runtime
        if mine and theirs and mine != theirs and theirs not in self._told:
            self._told.add(theirs)
            self._effects.append(OtherRuntime(other.name, theirs))
