"""Where an earlier life of ours knew peers: which of these addresses to try next, and when to stop.

Decides nothing but that; dialling is the business of links.py, keeping addresses between two
lives that of the host. A restarted node tries remembered peers before the addresses that it was
given: those few are given to everybody, and when a whole mesh starts again they must not be hit
by all of it at once, nor be missed when their machine does not come back.

Idea: Skype's cache of supernodes, without which its clients all went back to the same few
bootstrap hosts (2007, 2010).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from random import Random

AT_ONCE = 3
TRIES = 4
"""Of each, once we have joined: one that answered is not enough, for others may have found each
other elsewhere."""


class KnownAddresses:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._tries_left: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tries_left)

    def add(self, endpoints: Iterable[str]) -> None:
        self._tries_left.update(dict.fromkeys(endpoints, TRIES))

    def remove(self, endpoints: Iterable[str]) -> None:
        for endpoint in endpoints:
            self._tries_left.pop(endpoint, None)

    def lonely(self) -> list[str]:
        """The next ones to try as long as nobody has let us in: some, for ever."""
        return self._some(AT_ONCE)

    def joined(self, known: Set[str]) -> list[str]:
        """The next one to try once somebody has: those that became known have been found already."""
        self.remove([endpoint for endpoint in self._tries_left if endpoint in known])
        chosen = self._some(1)
        for endpoint in chosen:
            self._tries_left[endpoint] -= 1
        self.remove([endpoint for endpoint in chosen if not self._tries_left[endpoint]])
        return chosen

    def _some(self, count: int) -> list[str]:
        return self._rng.sample(list(self._tries_left), min(count, len(self._tries_left)))
