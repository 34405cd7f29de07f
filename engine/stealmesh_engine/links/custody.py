"""Custody messages between two process lives, each delivered once and in order, over links that break.

Decides which messages to keep, which to send again on a new link, which were heard before, and
that one is missing. Refuses to know what the messages say and which link carries them.

ZeroMQ loses what was queued when a connection breaks, and what a dead process had accepted.
So every message that moves responsibility is numbered within (sender's life, receiver's
life) and kept until the receiver says that it has acted on it; "acknowledged" means that
the receiving core handled it, not that a kernel buffered it. The numbers outlive
connections but not lives: a restarted process is another peer with its own channel,
so it never receives its predecessor's mail.

A link carries the numbers without gaps, so a gap means that a message is lost although the link
holds. Its sender does not know and says the next ones; all of them would pass for repeats. So a gap
is a finding of its own, and the link ends: on the next one everything is said again.

Ideas: TCP's cumulative acknowledgement, one storey higher; ZRE's sequence numbers; the session rules
in the ZeroMQ guide (clone pattern).
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from stealmesh_protocol.messages import Message


def octets_of(message: Message) -> int:
    """The bulk of a message, for budgets: its blobs and a flat rate for the rest."""
    blobs: list[bytes] = getattr(message, "blobs", [])
    return 64 + sum(map(len, blobs))


class Hearing(Enum):
    """What a numbered message is to its receiver."""

    NEW = auto()
    REPEAT = auto()
    """It has been acted on."""
    GAP = auto()
    """One before it is missing."""


class Channel:
    """Both directions of the custody traffic with one peer."""

    __slots__ = ("_sent", "heard", "owed", "owed_octets", "unacked", "unacked_octets")

    def __init__(self) -> None:
        self._sent = 0
        self.unacked: deque[tuple[int, Message, int]] = deque()
        """Sent and not known to have been acted on: (number, message, octets), oldest first."""
        self.unacked_octets = 0
        self.heard = 0
        """The number up to which we have acted on everything the peer sent."""
        self.owed = 0
        """Messages acted on since we last sent anything that carries the acknowledgement."""
        self.owed_octets = 0

    def number(self, message: Message) -> int:
        """Keep a message for the peer. Returns the number to send it under."""
        self._sent += 1
        octets = octets_of(message)
        self.unacked.append((self._sent, message, octets))
        self.unacked_octets += octets
        return self._sent

    def replace(self, seq: int, message: Message) -> bool:
        """Keep another message under this number. Returns False if the number is acknowledged."""
        for place, (number, _, octets) in enumerate(self.unacked):
            if number == seq:
                self.unacked[place] = (seq, message, octets_of(message))
                self.unacked_octets += octets_of(message) - octets
                return True
        return False

    def acknowledged(self, upto: int) -> None:
        """The peer has acted on everything up to this number. A claim beyond what we sent is ignored."""
        if upto > self._sent:
            return
        unacked = self.unacked
        while unacked and unacked[0][0] <= upto:
            self.unacked_octets -= unacked.popleft()[2]

    def hear(self, seq: int, octets: int) -> Hearing:
        """What the message with this number is to us. Only a new one may be acted on."""
        if seq > self.heard + 1:
            return Hearing.GAP
        self.owed += 1
        if seq <= self.heard:
            return Hearing.REPEAT  # owed again: its first acknowledgement may have been lost
        self.heard = seq
        self.owed_octets += octets
        return Hearing.NEW

    def acknowledging(self) -> int:
        """The acknowledgement to put on the message that is sent now; nothing is owed after that."""
        self.owed = 0
        self.owed_octets = 0
        return self.heard

    def again(self) -> list[tuple[int, Message]]:
        """What has to be sent on a new link, in order."""
        return [(seq, message) for seq, message, _ in self.unacked]
