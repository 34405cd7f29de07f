"""How often a peer says what many of its kind say to the same listeners.

Decides when a holder tells owners again what it holds, how soon newcomers are greeted and how long
finished work may wait for company. Refuses to know what is said. All of it depends on the number of
nodes alone: a message that comes from each of 8,000 nodes comes a thousand times as often as from 8.
"""

from __future__ import annotations

from stealmesh_engine.config import Config
from stealmesh_engine.membership.detector import NEVER

BEAT_SECONDS_MIN = 0.05
"""Between two beats, however many newcomers are to be greeted with one."""
REPORT_SECONDS_A_NODE = 0.0002
REPORT_SECONDS_MIN = 0.005
REPORT_SECONDS_MAX = 2.0
"""An owner hears of finished work at most 5,000 times a second (of up to 10,000 nodes)."""


def report_patience(nodes: int) -> float:
    """For how many seconds finished work waits for more; 0 in a small mesh."""
    patience = min(REPORT_SECONDS_A_NODE * nodes, REPORT_SECONDS_MAX)
    return patience if patience >= REPORT_SECONDS_MIN else 0.0


class Rates:
    def __init__(self, config: Config) -> None:
        self.config = config
        self._beaten_at = NEVER
        self._told_owners_at = NEVER

    def beats(self, now: float) -> None:
        self._beaten_at = now

    def greeting_at(self, now: float) -> float:
        """When to greet a peer that has just met us: one beat greets all that come at once."""
        return max(now + 0.001, self._beaten_at + BEAT_SECONDS_MIN)

    def owners_wait(self, nodes: int, now: float) -> bool:
        """Is it time to tell the owners what we hold? In a large mesh not with every beat."""
        seconds = self.config.owner_beat_seconds(nodes)
        if seconds > self.config.beat_seconds and now - self._told_owners_at < 0.9 * seconds:
            return False
        self._told_owners_at = now
        return True
