"""The arguments of a single call, packed.

Decides what a caller is told when they cannot be packed, or are too large for a message. Refuses to know when
the call is sent, and whether it outlives the program.
"""

from __future__ import annotations

from typing import Any

from stealmesh.client.inputs import Packed
from stealmesh.client.results import fault_of_size
from stealmesh_protocol import values as vx
from stealmesh_protocol.apart import opened_with, packed_apart
from stealmesh_protocol.errors import CannotShip


def packed_arguments(arguments: Any, name: str) -> Packed:
    """Raises CannotShip, which names the culprit."""
    try:
        return vx.pack(arguments)
    except CannotShip as error:
        raise CannotShip(
            f"the arguments of {name} cannot be sent to the mesh: {error}", error.culprit
        ) from error


def with_results(arguments: Any, name: str) -> Any:
    """The arguments with results in the place of futures, once these are there. They may lie anywhere.

    Raises CannotShip, and what a future raises.
    """
    packed, inputs = packed_apart(lambda value: packed_arguments(value, name), arguments)
    given = [future.result() for future in inputs]
    return opened_with(given, lambda: vx.unpack(*packed))


def must_fit(packed: Packed, name: str) -> None:
    """Raises CannotShip if no message can carry them."""
    too_large = fault_of_size(len(packed[1]), f"the arguments of {name}")
    if too_large is not None:
        raise too_large
