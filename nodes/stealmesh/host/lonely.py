"""A node that was given no seed and once had peers: what it says until it has found one of them.

It may be the first machine of a mesh that starts again after a full stop: then it must come up
alone, because all the others wait for it. Or its mesh lives on, and it was started without --seed by
mistake, or behind a broken cable: then it would be a second mesh, and nobody would know. The two
cannot be told apart from here. So such a node serves at once, whoever comes, and never stops looking:
it dials everybody whom any node of this user ever knew of this mesh, as long as it has no node to talk
to (links.py), and the two halves of a mesh that meet are one again. And it is not silent about it:
soon after the start, and again and again with growing pauses, it says for whom it waits and what to
do about it; and once more when somebody is found.

Serving only after somebody has been found would make a full stop final whenever machines changed
their addresses. The price is that a program may join half a mesh for a while, as in any cut.

Decides when to say what. Refuses to know how one looks and how one dials.
"""

from __future__ import annotations

from collections.abc import Callable

AGAIN_SECONDS = 30.0
AGAIN_SECONDS_MAX = 600.0
NAMED_MAX = 3


class Lonely:
    """Told of every look whether anybody is there."""

    def __init__(self, remembered: list[str], say: Callable[[str], None]) -> None:
        self._remembered = remembered
        self._say = say
        self._pause = AGAIN_SECONDS
        self._say_at = 0.0
        self._said = False
        self._over = not remembered

    def looked(self, living: list[str], now: float) -> None:
        if self._over:
            return
        if living:
            self._over = True  # whoever leaves us later is no riddle: we know each other
            if self._said:
                self._say(f"found {living[0]}: this node is no longer alone")
        elif not self._said or now >= self._say_at:
            self._said = True
            self._say_at, self._pause = now + self._pause, min(2 * self._pause, AGAIN_SECONDS_MAX)
            self._say(_waits(self._remembered))


def _waits(remembered: list[str]) -> str:
    named = ", ".join(remembered[:NAMED_MAX])
    more = len(remembered) - NAMED_MAX
    others = f" and {more} more" if more > 0 else ""
    return (
        f"alone: none of the peers of an earlier life answers ({named}{others}). This node serves "
        "whoever comes and goes on looking. If the mesh runs elsewhere, name one of its nodes with "
        "--seed; if this is to be a new mesh, --no-peer-cache starts it without them"
    )
