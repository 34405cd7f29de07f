"""Answers to heartbeats: who hears from us although we do not beat to it, and when.

Decides when a peer that beats to us is answered: its first beat at once, the others together, with our own next
beat. It hears us as often as before, and we wake up once for all of them. Refuses to know what a beat says.

Two of our beats answer one of a peer: periods differ a little, and a peer whose beat was lost, or came a moment
after ours, should not hear us once in two periods.
"""

from __future__ import annotations

from collections.abc import Container

from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Ack

ACK = Ack()
BEATS_ANSWERING = 2


class BeatAnswers:
    """The peers that wait for a word of ours."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._owed: dict[PeerId, int] = {}
        """Peer → how many of our beats still answer it; 0: the last one did."""

    def owe(self, peer: PeerId, now: float) -> None:
        """This peer has beaten to us. One that we do not answer yet may wonder whether we live."""
        if peer not in self._owed:
            self._links.send(peer, ACK, now)
        self._owed[peer] = BEATS_ANSWERING

    def say(self, heard: Container[PeerId], now: float) -> None:
        """Our own beat goes out to those in `heard`: answer all others that beat to us."""
        owed, self._owed = self._owed, {}
        for peer, beats in owed.items():
            if not self._links.is_ready(peer):
                continue
            if beats and peer not in heard:
                self._links.send(peer, ACK, now)
            if beats:
                self._owed[peer] = beats - 1
