"""How much bulk may be under way on a link, so that a beat does not wait behind it.

What was handed to libzmq goes out in order, whatever comes later: 64 large messages in its queue and
what the kernel holds are seconds on a slow line. So bulk waits here, where control overtakes it,
and the other side says how much it has taken (TAKEN). Decides when there is room for more, and
whether a link can be closed without harm to what was said last: small messages wait for no room, but
they are counted, too. Refuses to know what is sent.

The window follows the line: what takes longer than the quickest ever took has stood in a queue, ours
or somebody else's. Short queues: more; long ones: half.

Ideas: TCP's window; delay as the sign of a full line after LEDBAT (RFC 6817).
"""

from __future__ import annotations

from collections import deque
from math import inf

from stealmesh_protocol.limits import COUNTED_OCTETS_MIN, TAKEN_OCTETS

OCTETS_FIRST = 1 << 20
OCTETS_MIN = TAKEN_OCTETS
OCTETS_MAX = 8 << 20
QUEUED_SECONDS_LITTLE = 0.02
QUEUED_SECONDS_MUCH = 0.05
FLIGHTS_MAX = 4096


class SendFlow:
    """The sending side."""

    __slots__ = ("_flights", "_quickest", "_shrunk_at", "octets_max", "sent", "taken")

    def __init__(self) -> None:
        self.sent = 0
        self.taken = 0
        self.octets_max: float = OCTETS_FIRST
        self._flights: deque[tuple[int, float]] = deque()
        """(sum of what was sent up to here, when), as far as it was not taken yet."""
        self._quickest = inf
        self._shrunk_at = 0

    def has_room(self, octets: int) -> bool:
        """The first half is for a receiver that says nothing about less than TAKEN_OCTETS."""
        return self.is_read() or self.sent - self.taken + octets <= self.octets_max

    def is_read(self) -> bool:
        """Has the other side read everything but what it need not speak of?"""
        return self.sent - self.taken < TAKEN_OCTETS

    def open(self) -> None:
        """These are the last words on this link: nothing has to get past them."""
        self.octets_max = inf

    def put(self, octets: int, now: float) -> None:
        self.sent += octets
        if len(self._flights) < FLIGHTS_MAX:  # else some go unmeasured
            self._flights.append((self.sent, now))

    def put_small(self, octets: int) -> None:
        """Too little to tell anything about the line."""
        self.sent += max(octets, COUNTED_OCTETS_MIN)

    def heard(self, taken: int, now: float) -> None:
        """The receiver has taken so much, in all."""
        if not self.taken < taken <= self.sent:
            return
        self.taken = taken
        sent_at = None
        while self._flights and self._flights[0][0] <= taken:
            sent_at = self._flights.popleft()[1]
        if sent_at is None:
            return
        self._quickest = min(self._quickest, now - sent_at)
        queued = now - sent_at - self._quickest
        if queued < QUEUED_SECONDS_LITTLE:
            self.octets_max = max(self.octets_max, min(OCTETS_MAX, self.octets_max + TAKEN_OCTETS))
        elif queued > QUEUED_SECONDS_MUCH and taken > self._shrunk_at and self.octets_max < inf:
            self.octets_max = max(OCTETS_MIN, self.octets_max / 2)
            self._shrunk_at = self.sent  # what is out already knows nothing of it


class ReceiveFlow:
    """The receiving side."""

    __slots__ = ("_told", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self._told = 0

    def take(self, octets: int) -> bool:
        """One more multipart; True when it is time to say so."""
        self.octets += max(octets, COUNTED_OCTETS_MIN)
        if self.octets - self._told < TAKEN_OCTETS:
            return False
        self._told = self.octets
        return True
