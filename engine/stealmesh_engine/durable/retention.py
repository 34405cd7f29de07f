"""How long results stay, and what happens when there is no room for more.

Decides what is dropped when durable jobs take more than `keep_octets_max` here: results that a client has
fetched, of ended jobs first and the oldest first. If that is not enough, jobs led here lease nothing until
there is room. Decides when an ended job expires (`keep_seconds`). Refuses to know what a job is.
"""

from __future__ import annotations

from stealmesh_engine.durable.state import DurableState

CALLS_KEPT_MAX = 2000
"""Single calls that are over and fetched, and that a node still keeps. Each costs it a look a beat."""


class Retention:
    """Room and age of all durable jobs of this node."""

    def __init__(self, state: DurableState) -> None:
        self.state = state
        self.crowded = False
        """There is no room for more results."""

    def beat(self, now: float) -> None:
        state, most = self.state, self.state.config.keep_octets_max
        if state.octets > most:
            self._make_room(most, now)
        self.crowded = state.octets > most
        for primary in state.primaries.values():
            primary.crowd(self.crowded, now)
        self._expire(now)
        if len(state.primaries) > CALLS_KEPT_MAX:
            self._drop_calls(now)
        state.compact()

    def _drop_calls(self, now: float) -> None:
        """A program may make thousands of single calls: the oldest go whose results it has."""
        calls = [
            each
            for each in self.state.primaries.values()
            if each.is_collected_call and not each.is_used(now)
        ]
        calls.sort(key=lambda each: each.replica.ended_at or 0.0)
        for primary in calls[: max(0, len(calls) - CALLS_KEPT_MAX)]:
            primary.expire(now)

    def _make_room(self, most: int, now: float) -> None:
        led = [each for each in self.state.primaries.values() if not each.is_used(now)]
        ended = [each for each in led if each.replica.ended_at is not None]
        ended.sort(key=lambda each: each.replica.ended_at or 0.0)
        running = [each for each in led if each.replica.ended_at is None]
        for primary in (*ended, *running):
            if self.state.octets <= most:
                return
            primary.make_room(now)

    def _expire(self, now: float) -> None:
        keep_seconds = self.state.config.keep_seconds
        for job, replica in self.state.replicas.items():
            replica.note_end(now)
            if replica.ended_at is not None and now - replica.ended_at > keep_seconds:
                primary = self.state.primaries.get(job)
                if primary is not None and not primary.is_used(now):
                    primary.expire(now)
