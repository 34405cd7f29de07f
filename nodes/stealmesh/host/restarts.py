"""Whether a process that has died is worth starting again: a local node, the fork server of a node.

Decides from how it ended. A process that ends by itself several times in a row, before it has been of
use, cannot live, and its owner must be told. A process that was killed says nothing about itself: on a
busy machine it may be killed again before it is up, so it is started again for minutes. Refuses to know
how a process is started and what it does.
"""

from __future__ import annotations

import signal

FAILED_STARTS_MAX = 5
KILLED_SECONDS_MAX = 300.0
"""How long a process is started again that is killed each time before it is up."""


class Restarts:
    """The processes that replace each other in one place."""

    def __init__(self, now: float) -> None:
        self._well_at = now
        """When one of them was last of use, or the first was started."""
        self.failed = 0
        """How many in a row ended by themselves."""

    def well(self, now: float) -> None:
        """It is up, and does its work."""
        self._well_at = now
        self.failed = 0

    def died(self, status: int | None, now: float) -> bool:
        """One has died; `status` as subprocess has it, None if it was too slow and we have ended it.
        True: do not start another one."""
        if status == -signal.SIGKILL:
            return now - self._well_at > KILLED_SECONDS_MAX
        self.failed += 1
        return self.failed >= FAILED_STARTS_MAX
