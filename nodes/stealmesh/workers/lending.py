"""Refs in the result of a task that the task has made itself, or got from tasks of its own.

Their values stay on this node in the place of the result, together, under its name; the result travels, with names
of them. So they are the program's from the moment in which the result counts, they are made again as results are,
and a task that dies before has put nothing on the mesh. Decides that; refuses to know who needs them then.
"""

from __future__ import annotations

from typing import Any

from stealmesh import refs
from stealmesh.refs import Ref
from stealmesh.values.together import Together
from stealmesh_protocol import values as vx
from stealmesh_protocol.ids import ValueId


def lent(name: ValueId, result: Any) -> tuple[Together | None, Any]:
    """The values of the Refs in this result, and what travels in its place. (None, ): there are none. Raises
    CannotShip, ValueLost."""
    taken: dict[Ref[Any], int] = {}

    def leaves(ref: Ref[Any]) -> Ref[Any]:
        if not ref.is_a_tasks:
            return ref  # the program's own comes back to it
        return Ref(name, ref.octets, None, taken.setdefault(ref, len(taken)))

    packed, _ = refs.noting(lambda: vx.pack(result), leaves=leaves, is_result=True)
    if not taken:
        return None, None
    return Together([ref.packed_octets() for ref in taken]), _Packed(*packed)


class _Packed:
    """A pickle of it opens to what it was packed from."""

    def __init__(self, codec: int, blob: bytes) -> None:
        self._packed = codec, blob

    def __reduce__(self) -> Any:
        return vx.unpack, self._packed
