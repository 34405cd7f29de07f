"""One hired worker, as the owner that hired it sees it.

Decides nothing (hires.py does). Refuses to know how an order gets there.
"""

from __future__ import annotations

import msgspec

from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Lease

AGAIN_SECONDS = 0.02
AGAIN_SECONDS_MAX = 2.0
"""How long until another worker is asked for: the first after a hire that was worth it; up to the other after one that
was not, twice as long each time."""


class HiredHand(msgspec.Struct):
    """A worker of another process, for single items of one job."""

    number: int
    job: JobId
    node: PeerId
    used_at: float
    """When it was asked for, came, or was last given an item or had one done."""
    only: bool = False
    """Its node has no other worker, or it is an actor's process."""
    life: int = 0
    """Of an actor: which of its lives it is."""
    hired: bool = False
    """The node has said that we have it."""
    here: bool = False
    """The host can talk to it."""
    dismissed: bool = False
    over: bool = False
    """The node has said that we have it no more."""
    lid: LeaseId = 0
    """Under which lease it has an item; 0: it has none."""
    item: int = 0
    taken: list[Lease] = []
    """What the node goes on with."""
    served: int = 0

    @property
    def is_free(self) -> bool:
        """May it be given an item now?"""
        return self.here and not (self.lid or self.dismissed or self.over)
