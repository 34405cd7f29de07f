"""Whether large things that were said to a peer are still getting there.

A lease expires when its holder does not name it for long, and a holder cannot name what has not
arrived. Six hundred megabytes take longer than a lease lives: expired, they would be said once more,
to somebody else, over the same line, and never be done. Decides whether what is under way gets on.
Refuses to know what it is, and whether the peer lives (its beats say that).
"""

from __future__ import annotations

from stealmesh_engine.config import Config
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import PeerId

OCTETS_MIN = 1024 * 1024
"""Less than that is there long before a lease expires."""
SLOW_OCTETS_A_SECOND = 50_000
"""A line that is slower than this does not get on."""


class Deliveries:
    """What is under way to each peer, as far as somebody has asked."""

    def __init__(self, config: Config, links: Links) -> None:
        self._config = config
        self._links = links
        self._seen: dict[PeerId, tuple[int, float]] = {}
        """The first message that was not acknowledged, and since when it has been the first."""

    def get_on(self, peer_id: PeerId, now: float) -> bool:
        """Is much under way to this peer, and has some of it arrived lately?"""
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
