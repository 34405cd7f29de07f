"""How many newcomers a supernode lets in at a time.

Decides which of them gets in, and when the others should ask again. Refuses to know who asks.

A token bucket: a small herd gets in at once, a large one at a rate that the supernode can serve besides
everything else. A newcomer that is turned away should return when the line before it is served, times
a random factor, so the herd comes back spread out. By then there may be more supernodes, and it hears
of them when it asks at a seed again. A supernode under load only turns away: it never gives up its role.

Ideas: token buckets; RETRY_AFTER with jitter after Skype's August 2007 and December 2010, when a herd
that was let in all at once brought down the supernodes that were left.
"""

from __future__ import annotations

from random import Random

RETRY_SECONDS_MAX = 2.0


class Admission:
    """A bucket of `a_second` tokens that fills at `a_second` per second."""

    def __init__(self, a_second: float, rng: Random) -> None:
        self._a_second = a_second
        self._rng = rng
        self._tokens = a_second
        self._filled_at = 0.0
        self._waiting = 0.0
        """How many were turned away and may come back; decays at the rate of admission."""

    def retry_after(self, now: float) -> float:
        """Seconds after which to ask again; 0 admits."""
        passed, self._filled_at = now - self._filled_at, now
        self._tokens = min(self._a_second, self._tokens + passed * self._a_second)
        self._waiting = max(0.0, self._waiting - passed * self._a_second)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        self._waiting += 1.0
        line = min(1.0 + self._waiting, RETRY_SECONDS_MAX * self._a_second)
        return line / self._a_second * self._rng.uniform(0.5, 1.5)
