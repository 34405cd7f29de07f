"""Several values as one: those of the Refs in the result of a task.

::

    eight set octets | number of values (8) | [begins, octets] of each (8 + 8) | values, each as `parts.py` has it

Each begins at a multiple of 64. They have one name, so they come, go and are made again together; a Ref says which
of them it means. No other value begins with these octets. Decides the layout; refuses to know whose they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from stealmesh_protocol.errors import ValueLost

ALIGNED = 64
MARK = b"\xff" * 8
_COUNT = struct.Struct("<Q")
_PLACE = struct.Struct("<QQ")
_FIRST = len(MARK) + _COUNT.size


class Together:
    """What is to be written, in order."""

    def __init__(self, values: Sequence[memoryview]) -> None:
        at = _FIRST + _PLACE.size * len(values)
        head = MARK + _COUNT.pack(len(values))
        self._pieces: list[tuple[int, bytes | memoryview]] = []
        for value in values:
            at = -(-at // ALIGNED) * ALIGNED
            head += _PLACE.pack(at, value.nbytes)
            self._pieces.append((at, value))
            at += value.nbytes
        self._pieces.insert(0, (0, head))
        self.octets = at

    def __iter__(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """(where, octets); nothing is said of the gaps between."""
        return iter(self._pieces)


def one_of(octets: memoryview, place: int) -> memoryview:
    """One of the values in these octets. Raises ValueLost: they are of another making, which has no such value."""
    if bytes(octets[: len(MARK)]) == MARK:
        (count,) = _COUNT.unpack_from(octets, len(MARK))
        if place < count:
            begins, size = _PLACE.unpack_from(octets, _FIRST + place * _PLACE.size)
            found = octets[begins : begins + size]
            if len(found) == size:
                return found
    raise ValueLost(
        "the value of a Ref that a task has returned is gone: the task was run again after a loss, and "
        "returned something else"
    )
