"""What a node says that was given no seed, once had peers, and finds none of them.

It may be the first machine of a mesh that starts again after a full stop: then it must come up alone,
because all the others wait for it. Or its mesh lives on, and it was started without --seed by mistake
or behind a broken cable: then it is a second mesh, and unnoticed. The node cannot tell the two apart.
So it serves at once, and never stops looking: as long as it has no node to talk to, it dials every
address that any node of this user ever knew of this mesh (engine: links), and two halves of a mesh
that meet become one again. Soon after the start, and again with growing pauses, it says which peers it
waits for and what to do; and once more when it has found one.

A node that served only after finding a peer would make a full stop final when machines change their
addresses. The price is that a program may join half a mesh for a while, as in any network partition.

Decides when to say what. Refuses to know how a node looks for peers and dials.
"""

from __future__ import annotations

from collections.abc import Callable

AGAIN_SECONDS = 30.0
AGAIN_SECONDS_MAX = 600.0
NAMED_MAX = 3


class Lonely:
    """Hears of every look which peers are there."""

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
            self._over = True  # a peer that leaves us later is no riddle: we know each other
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
        "all that come, and goes on looking. If the mesh runs elsewhere, name one of its nodes with "
        "--seed; if this is to be a new mesh, --no-peer-cache starts it without them"
    )
