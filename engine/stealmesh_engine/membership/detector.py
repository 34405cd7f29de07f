"""Who has gone silent: suspicion first, then a chance to answer.

Decides when a peer under watch becomes suspect and when it has had its chance. Refuses to know
why it is watched, what others hear of it and whether it is dead (life.py).

Two rules are worth more than any tuning. *Inbox first*: the host delivers everything that
has arrived before it lets time pass, so nobody is found silent while his beat lies unread.
*The late judge nobody*: when this peer itself was not running (paused, swapped out, starved),
everybody's silence is partly its own, so every clock is put forward by its own delay.

Ideas: Lifeguard's self-doubt, made exact: we know to the millisecond how late we are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stealmesh_protocol.ids import PeerId


@dataclass(slots=True)
class Watch:
    """One peer under watch."""

    heard: float
    patience: float
    suspect_since: float | None = None


@dataclass(slots=True)
class Findings:
    """What the passage of time brought to light."""

    suspects: list[PeerId] = field(default_factory=list)
    ripe: list[PeerId] = field(default_factory=list)
    """Suspects that have had their chance to answer."""


class Detector:
    def __init__(self, refute_seconds: float) -> None:
        self.refute_seconds = refute_seconds
        self.watches: dict[PeerId, Watch] = {}

    def watch(self, peer: PeerId, now: float, patience: float) -> None:
        """Judge this peer from now on: `patience` seconds of silence make it suspect."""
        self.watches[peer] = Watch(now, patience)

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

    def wait(self, peer: PeerId, now: float) -> None:
        """No verdict yet: look again after another chance to answer."""
        self.watches[peer].suspect_since = now

    def silence(self, peer: PeerId, now: float) -> float:
        """For how long this peer has said nothing; 0 for one that nobody watches."""
        watch = self.watches.get(peer)
        return 0.0 if watch is None else now - watch.heard

    def forgive(self, seconds: float) -> None:
        """We were not running for so long: nobody is to blame for that time."""
        for watch in self.watches.values():
            watch.heard += seconds
            if watch.suspect_since is not None:
                watch.suspect_since += seconds

    def look(self, now: float) -> Findings:
        """Who is suspect as of now, and who has been for long enough? Of the latter the caller
        makes up his mind: `forget`, or `wait`."""
        found = Findings()
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
