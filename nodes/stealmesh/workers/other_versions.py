"""What workers have found of packages that are installed here in another version than a program has.

Decides what this node says of it, and how often: each once on its standard error, and all in its counters.
Refuses to know how it is found (shipping/versions.py) and what the program is told (run.py).
"""

from __future__ import annotations

from collections.abc import Callable

OTHERS_MAX = 256
"""How many pairs of versions (ours, a program's) are remembered."""


class OtherVersions:
    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.counters: dict[str, int] = {}
        """How many worker processes have met each of them."""

    def met(self, package: str, here: str, there: str) -> None:
        name = f"other-version:{package} {here}, a program has {there}"
        known = self.counters.get(name, 0)
        self.counters[name] = known + 1
        if len(self.counters) > OTHERS_MAX:
            del self.counters[next(iter(self.counters))]
        if not known:
            self._say(
                f"this node has {package} {here}, a program whose tasks use it has {there}: what they "
                "compute here may differ"
            )
