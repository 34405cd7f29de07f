"""Flow control: how much bulk may be under way on a link, so that a beat does not wait behind it.

libzmq sends in order all that it has taken: 64 large messages in its queue, and what the kernel holds,
are seconds on a slow line. So bulk waits here, where control overtakes it, and the other side reports
how much it has taken (TAKEN). Decides when there is room for more, and whether a link can be closed
without harm to the last words. Small messages wait for no room, but they count as well. Refuses to know
what is sent.

The window follows the line: a message that takes longer than the quickest ever took has stood in a
queue, ours or another's. After short queues the window grows, after long ones it is halved.

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
        """(octets sent up to here, when) for what the receiver has not taken yet."""
        self._quickest = inf
        self._shrunk_at = 0

    def has_room(self, octets: int) -> bool:
        """True if this many octets may go now. A receiver reports only every TAKEN_OCTETS, so less than that
        never blocks."""
        return self.is_read() or self.sent - self.taken + octets <= self.octets_max

    def is_read(self) -> bool:
        """True if less than TAKEN_OCTETS are unreported: the other side owes no report."""
        return self.sent - self.taken < TAKEN_OCTETS

    def open(self) -> None:
        """Lift the bound: these are the last words on this link, and nothing has to overtake them."""
        self.octets_max = inf

    def put(self, octets: int, now: float) -> None:
        self.sent += octets
        if len(self._flights) < FLIGHTS_MAX:  # beyond that some go unmeasured
            self._flights.append((self.sent, now))

    def put_small(self, octets: int) -> None:
        """Count a message that is too small to tell anything about the line."""
        self.sent += max(octets, COUNTED_OCTETS_MIN)

    def heard(self, taken: int, now: float) -> None:
        """The receiver has taken `taken` octets in all."""
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
            self._shrunk_at = self.sent  # what is out already was sent under the larger window


class ReceiveFlow:
    """The receiving side."""

    __slots__ = ("_told", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self._told = 0

    def take(self, octets: int) -> bool:
        """Count one more message. True: it is time to report."""
        self.octets += max(octets, COUNTED_OCTETS_MIN)
        if self.octets - self._told < TAKEN_OCTETS:
            return False
        self._told = self.octets
        return True
