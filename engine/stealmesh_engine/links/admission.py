"""How many newcomers a supernode lets in at a time.

Decides who is let in and when the others should ask again. Refuses to know who asks.

A bucket of tokens: a small herd gets in at once, a large one at a rate that the supernode can
serve besides everything else. Who is turned away is told to come back after as long as the line
before it takes, times a random factor, so the herd comes back spread out; by then there may be more
supernodes, of which it hears when it asks at a seed again. Turning away is all that load does: a
supernode never gives up its role for it.

Ideas: token buckets; RETRY_AFTER with jitter after the lessons of Skype's August 2007 and December
2010, when a herd that was let in all at once brought down whoever was left.
"""

from __future__ import annotations

from random import Random

RETRY_SECONDS_MAX = 2.0


class Admission:
    def __init__(self, a_second: float, rng: Random) -> None:
        self._a_second = a_second
        self._rng = rng
        self._tokens = a_second
        self._filled_at = 0.0
        self._waiting = 0.0
        """How many were turned away and may come back, by and by forgotten."""

    def retry_after(self, now: float) -> float:
        """0: come in. Else after how many seconds to ask again."""
        passed, self._filled_at = now - self._filled_at, now
        self._tokens = min(self._a_second, self._tokens + passed * self._a_second)
        self._waiting = max(0.0, self._waiting - passed * self._a_second)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        self._waiting += 1.0
        line = min(1.0 + self._waiting, RETRY_SECONDS_MAX * self._a_second)
        return line / self._a_second * self._rng.uniform(0.5, 1.5)
