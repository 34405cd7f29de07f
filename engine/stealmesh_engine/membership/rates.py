"""How often a peer says what many of its kind say to the same ears.

Decides when the owners of what a node holds are told again, how soon newcomers are greeted and
how long finished work may wait for company. Refuses to know what is said. All of it depends on the number of nodes alone: whatever is fine with eight of them arrives a
thousand times as often with eight thousand.
"""

from __future__ import annotations

from stealmesh_engine.config import Config

BEAT_SECONDS_MIN = 0.05
"""Between two beats, however many newcomers there are to be greeted with one."""
REPORT_SECONDS_A_NODE = 0.0002
REPORT_SECONDS_MIN = 0.005
REPORT_SECONDS_MAX = 2.0
"""An owner hears of finished work at most 5,000 times a second (of up to 10,000 nodes)."""
NEVER = -1e9


def report_patience(nodes: int) -> float:
    """How long finished work waits for more; in a small mesh every report goes out at once."""
    patience = min(REPORT_SECONDS_A_NODE * nodes, REPORT_SECONDS_MAX)
    return patience if patience >= REPORT_SECONDS_MIN else 0.0


class Pace:
    def __init__(self, config: Config) -> None:
        self.config = config
        self._beaten_at = NEVER
        self._told_owners_at = NEVER

    def beats(self, now: float) -> None:
        self._beaten_at = now

    def greeting_at(self, now: float) -> float:
        """Who has just met us waits for a beat; a herd that meets us at once for one together."""
        return max(now + 0.001, self._beaten_at + BEAT_SECONDS_MIN)

    def owners_wait(self, nodes: int, now: float) -> bool:
        """Is it time to tell the owners what we hold? In a large mesh not with every beat."""
        seconds = self.config.owner_beat_seconds(nodes)
        if seconds > self.config.beat_seconds and now - self._told_owners_at < 0.9 * seconds:
            return False
        self._told_owners_at = now
        return True
