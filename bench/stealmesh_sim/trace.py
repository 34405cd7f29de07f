"""The trace of a virtual world: every event of every process, in order, with its time.

Decides how an event is written down. Its hash says in one number what happened: two worlds with
the same hash behaved alike. Refuses to judge (`checkers` does that).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

from stealmesh_engine.events import Event, Heard, PieceRead, Tick
from stealmesh_protocol.messages import Ack, Beat, Nothing, Sated, Steal

LINES_KEPT = 200
HASHED_TOGETHER = 512

_CHATTER = (Ack, Beat, Nothing, Sated, Steal)


class Trace:
    """What happened so far. `hashing=False` saves a tenth of the time of a large world."""

    def __init__(self, *, hashing: bool) -> None:
        self.events = 0
        """Events told to cores."""
        self.recent: deque[tuple[float, str, Event]] = deque(maxlen=LINES_KEPT)
        """The last events as (time, process, event), without ticks and chatter."""
        self.on_event: Callable[[str], None] | None = None
        """Shown every line of the trace, for somebody who wants to read along."""
        self._hashing = hashing
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: list[str] = []

    def note(self, now: float, name: str, event: Event) -> None:
        """The process `name` is about to hear this event."""
        self.events += 1
        if not (type(event) is Tick or (type(event) is Heard and type(event.message) in _CHATTER)):
            self.recent.append((now, name, event))
        if self._hashing:
            self._lines.append(_line(now, name, event))
            if len(self._lines) >= HASHED_TOGETHER:
                self._hash_lines()
        if self.on_event is not None:
            self.on_event(told(now, name, event))

    def hash(self) -> str:
        """One number, in hexadecimal, for all that happened so far."""
        self._hash_lines()
        return self._hash.hexdigest()

    def last_lines(self, count: int) -> list[str]:
        """The last events for people."""
        return [told(*each) for each in list(self.recent)[-count:]]

    def _hash_lines(self) -> None:
        self._hash.update("\n".join(self._lines).encode())
        self._lines.clear()


def _line(now: float, name: str, event: Event) -> str:
    if type(event) is Heard:
        kind = type(event.message).__name__
        return f"{now!r} {name} {event.link} {kind} {event.seq} {event.ack}"
    if type(event) is Tick:
        return f"{now!r} {name}"
    if type(event) is PieceRead:
        return f"{now!r} {name} PieceRead {event.value!r} {event.at} {len(event.blob)}"
    return f"{now!r} {name} {event!r}"


def told(now: float, name: str, event: Event) -> str:
    """One line of the trace for people."""
    if isinstance(event, Heard):
        text = repr(event.message)
        return (
            f"{now:10.5f} {name:>8} link {event.link} seq {event.seq} ack {event.ack} {text[:160]}"
        )
    return f"{now:10.5f} {name:>8} {repr(event)[:200]}"
