"""Whether large messages to a peer still make progress.

Decides that alone. Refuses to know what the messages are, and whether the peer lives (its beats say so).

A lease expires when its holder has not named it for long, and a holder cannot name what has not
arrived. Six hundred megabytes take longer than a lease lives: if it expired, they would be sent once
more, to another holder, over the same line, and would never arrive.
"""

from __future__ import annotations

from stealmesh_engine.config import Config
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import PeerId

OCTETS_MIN = 1024 * 1024
"""Less than this arrives long before a lease expires."""
SLOW_OCTETS_A_SECOND = 50_000
"""On a slower line we count the message as stuck."""


class Deliveries:
    """Watches what is under way to the peers that it is asked about."""

    def __init__(self, config: Config, links: Links) -> None:
        self._config = config
        self._links = links
        self._seen: dict[PeerId, tuple[int, float]] = {}
        """Peer → its first unacknowledged message, and since when it has been the first."""

    def get_on(self, peer_id: PeerId, now: float) -> bool:
        """True if much is under way to this peer, and some of it has arrived lately."""
        peer = self._links.peers.get(peer_id)
        if peer is None or peer.link is None or peer.channel.unacked_octets < OCTETS_MIN:
            self._seen.pop(peer_id, None)
            return False
        first, _, octets = peer.channel.unacked[0]
        seen = self._seen.get(peer_id)
        if seen is None or seen[0] != first:
            self._seen[peer_id] = (first, now)
            return True
        return now - seen[1] < self._config.lease_seconds + octets / SLOW_OCTETS_A_SECOND
