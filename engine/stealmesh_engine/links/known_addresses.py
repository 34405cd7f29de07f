"""Addresses of peers that an earlier life of this node knew: which to try next, and when to stop.

Decides that alone. Refuses to dial (dialling.py) and to store addresses between lives (the host).

A restarted node tries these before its seeds. Seeds are few and given to every node: when a whole mesh
starts again, it must not hit them all at once, nor depend on their machines coming back.

Idea: Skype's cache of supernodes; without it its clients all went back to the same few bootstrap
hosts (2007, 2010).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from random import Random

AT_ONCE = 3
TRIES = 4
"""Of each address, once we have joined. One answer is not enough: other peers may have found each other
elsewhere."""


class KnownAddresses:
    """The addresses that are left to try; false when there are none."""

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
        """The next ones to try while we have no link: some each time, for ever."""
        return self._some(AT_ONCE)

    def joined(self, known: Set[str]) -> list[str]:
        """The next one to try once we have a link. `known` are endpoints of nodes in our view: found already."""
        self.remove([endpoint for endpoint in self._tries_left if endpoint in known])
        chosen = self._some(1)
        for endpoint in chosen:
            self._tries_left[endpoint] -= 1
        self.remove([endpoint for endpoint in chosen if not self._tries_left[endpoint]])
        return chosen

    def _some(self, count: int) -> list[str]:
        return self._rng.sample(list(self._tries_left), min(count, len(self._tries_left)))
