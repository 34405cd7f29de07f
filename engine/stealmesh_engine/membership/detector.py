"""Which peers have gone silent: suspicion first, then a chance to answer.

Decides when a watched peer becomes suspect and when its chance to answer is over. Refuses to know why
it is watched, what others hear of it and whether it is dead (verdicts.py).

Two rules are worth more than any tuning. *Inbox first*: the host delivers everything that has arrived
before it lets time pass, so no peer is found silent while its beat lies unread. *The late judge no
one*: while this peer itself was not running (paused, swapped out, starved), every silence is partly
its own, so it puts all clocks forward by its own delay.

Ideas: Lifeguard's self-doubt, made exact: we know to the millisecond how late we are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stealmesh_protocol.ids import PeerId

NEVER = -1e9


@dataclass(slots=True)
class Watched:
    """One watched peer. Times and durations in seconds."""

    heard: float
    patience: float
    suspect_since: float | None = None


@dataclass(slots=True)
class Overdue:
    """The peers that a look found silent, in the order in which they came under watch."""

    suspects: list[PeerId] = field(default_factory=list)
    """Silent for their whole patience as of now."""
    ripe: list[PeerId] = field(default_factory=list)
    """Suspects that have had their chance to answer."""


class Detector:
    def __init__(self, refute_seconds: float) -> None:
        self.refute_seconds = refute_seconds
        self.watches: dict[PeerId, Watched] = {}
        self.look_at: float | None = None
        """When to look next."""
        self.late_at = NEVER
        """When we were last found not to have been running."""

    def watch(self, peer: PeerId, now: float, patience: float) -> None:
        """Judge this peer from now on: `patience` seconds of silence make it suspect."""
        self.watches[peer] = Watched(now, patience)
        self.plan_look(now + patience)

    def acquit(self, peer: PeerId, now: float) -> bool:
        """Another observer hears it: its silence starts anew. True when it was suspect."""
        watch = self.watches.get(peer)
        if watch is None or watch.suspect_since is None:
            return False
        self.watches[peer] = Watched(now, watch.patience)
        return True

    def be_patient(self, peer: PeerId, seconds: float) -> None:
        """From now on this watched peer becomes suspect after this silence (seconds)."""
        self.watches[peer].patience = seconds

    def is_awaited(self, peer: PeerId, patience: float) -> bool:
        """Has it been given more than this patience, as it has yet to come?"""
        watch = self.watches.get(peer)
        return watch is not None and watch.suspect_since is None and watch.patience > patience

    def hurry(self, peer: PeerId, seconds: float, now: float) -> None:
        """This watched peer becomes suspect after this time, counted from when its watch began, unless it is heard or was
        to be suspect before."""
        watch = self.watches[peer]
        watch.patience = min(watch.patience, max(seconds, now - watch.heard))
        self.plan_look(watch.heard + watch.patience)

    def forget(self, peer: PeerId) -> None:
        self.watches.pop(peer, None)

    def heard(self, peer: PeerId, now: float) -> bool:
        """A sign of life. True when it clears a suspicion."""
        watch = self.watches.get(peer)
        if watch is None:
            return False
        watch.heard = now
        cleared = watch.suspect_since is not None
        watch.suspect_since = None
        return cleared

    def is_suspect(self, peer: PeerId) -> bool:
        watch = self.watches.get(peer)
        return watch is not None and watch.suspect_since is not None

    def wait(self, peer: PeerId, now: float) -> None:
        """No verdict yet: look again after another chance to answer."""
        self.watches[peer].suspect_since = now

    def silence(self, peer: PeerId, now: float) -> float:
        """For how many seconds this peer has said nothing; 0 if it is not watched."""
        watch = self.watches.get(peer)
        return 0.0 if watch is None else now - watch.heard

    def forgive(self, seconds: float, now: float) -> None:
        """We were not running for that time: no peer is to blame for it."""
        self.late_at = now
        for watch in self.watches.values():
            watch.heard += seconds
            if watch.suspect_since is not None:
                watch.suspect_since += seconds

    def look(self, now: float) -> Overdue:
        """Mark and return the silent. For each ripe peer the caller decides: `forget` it, or `wait`."""
        found = Overdue()
        for peer, watch in self.watches.items():
            if watch.suspect_since is not None:
                if now - watch.suspect_since >= self.refute_seconds:
                    found.ripe.append(peer)
            elif now - watch.heard >= watch.patience:
                watch.suspect_since = now
                found.suspects.append(peer)
        return found

    def next_look(self) -> float | None:
        """When the first verdict can fall."""
        return min(
            (
                watch.heard + watch.patience
                if watch.suspect_since is None
                else watch.suspect_since + self.refute_seconds
                for watch in self.watches.values()
            ),
            default=None,
        )

    def plan_look(self, at: float) -> None:
        self.look_at = at if self.look_at is None else min(self.look_at, at)

    def put_off(self, until: float, now: float) -> None:
        """A look is planned before `until`, for those that had been silent longest. If they have been heard since, it
        would find nothing: look when the first can be silent."""
        if self.look_at is not None and now < self.look_at <= until:
            self.look_at = self.next_look()

    def plan_next(self, now: float) -> None:
        """After a look: plan the next one."""
        soonest = self.next_look()
        self.look_at = None if soonest is None else max(soonest, now + 0.01)
