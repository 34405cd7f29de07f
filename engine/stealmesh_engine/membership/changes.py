"""What has changed about a peer and concerns its work.

Decides nothing. A decider of this package looks at one peer and returns a change, or None; consequences.py then
moves the work and hands a `Gone` back to `Membership.close`. The order matters: a peer's work is taken
back while its channel still exists, and before the next peer is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from stealmesh_protocol.ids import PeerId


@dataclass(frozen=True, slots=True)
class Gone:
    """Others are to do what this peer was doing."""

    peer: PeerId
    close: bool = False
    """Its life is over: drop its channel, too."""
    settle: bool = False
    """The set of members has changed: find the observers of each peer anew."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A peer came, or came back: there may be work for it."""

    peer: PeerId


Change = Gone | Arrived | None
