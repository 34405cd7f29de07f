"""Connections that the transport turned away, for the journal: other keys, other security, no ZeroMQ.

Decides nothing but when to look: the transport counts by reason, and what has been added since the last look is
told to the core, which makes one entry of many (`base/rings.py`). So a flood costs one look each quarter of a
second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stealmesh_engine.events import Event, HostNoted
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.transport import Transport

PROBES = frozenset({"refused:ended-before-a-message", "refused:handshake-broken"})
"""Probes of our own peers end like that, too, so a few of them are no news for a person."""
PROBES_MANY = 50


class Strangers:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, int] = {}

    def look(self) -> list[Event]:
        """What has come since the last look."""
        found: list[Event] = []
        for reason, count in self._transport.counters.items():
            if not reason.startswith("refused:"):
                continue
            more = count - self._known.get(reason, 0)
            if more > 0:
                self._known[reason] = count
                aloud = reason not in PROBES or more >= PROBES_MANY
                found.append(HostNoted(RingKind.REFUSED, reason, more, aloud))
        return found
