"""What came of a chunk, opened: values, and the exceptions of those items that failed.

Runs in clients only, where unpickling is the program's own risk: everything here was made by
a holder of the mesh key from functions that this program sent.
"""

from __future__ import annotations

from typing import Any

from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip


def open_chunk(codec: int, blob: bytes, items: int) -> tuple[list[Any], dict[int, BaseException]]:
    """The values of a chunk in order, and the exceptions by offset (the values there mean nothing)."""
    if codec not in (vx.OUTCOMES, vx.LACKING):
        return vx.unpack_list(codec, blob), {}
    values, failures = vx.unpack_outcomes(codec, blob)
    errors = {failure.offset: vx.rebuild(failure) for failure in failures}
    values += [None] * (items - len(values))
    return values, errors


def open_partial(codec: int, blob: bytes) -> Any:
    """The value of a partial; raises the exception of the item that failed."""
    if codec not in (vx.OUTCOMES, vx.LACKING):
        return vx.unpack(codec, blob)
    raise vx.rebuild(vx.unpack_outcomes(codec, blob)[1][0])


def open_tagged(blob: bytes) -> Any:
    """The value of an explore job's partial, whose first octet is the codec."""
    return open_partial(blob[0], blob[1:])


def pack_tagged(items: list[Any], name: str) -> bytes:
    """The items of an explore job's bag, likewise."""
    codec, blob = pack_items(items, 0, name)
    return bytes([codec]) + blob


def pack_items(items: list[Any], first: int, name: str) -> tuple[int, bytes]:
    """The items of a block. Raises CannotShip naming the first that cannot be pickled."""
    try:
        return vx.pack_list(items)
    except CannotShip as error:
        for offset, item in enumerate(items):
            try:
                vx.pack(item)
            except CannotShip as culprit:
                raise CannotShip(
                    f"item {first + offset} of {name} cannot be sent to the mesh: {culprit}"
                ) from culprit
        raise CannotShip(f"items of {name} cannot be sent to the mesh: {error}") from error
