"""The part of a stream of calls that packs their arguments.

Decides what of a call travels as a value by name, because no message can carry it. Notes which futures and Refs were
in the arguments. Refuses to know when the call is sent (`submit.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh import refs
from stealmesh.client.call_arguments import must_fit, packed_arguments
from stealmesh.client.inputs import Packed
from stealmesh.client.needs import must_fit_one_order
from stealmesh.client.session import ProgramLink
from stealmesh.futures import Future
from stealmesh.refs import Grip, Ref
from stealmesh_protocol import values as vx
from stealmesh_protocol.apart import packed_apart
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.ids import ValueId
from stealmesh_protocol.messages import JobSpec

Args = tuple[tuple[Any, ...], dict[str, Any]]


class PacksCalls:
    """What it needs of its stream."""

    link: ProgramLink
    spec: JobSpec
    leaves: Callable[[Ref[Any]], Ref[Any]] | None = None
    """The names under which the Refs of a task leave its process, if this is a stream of a task's."""

    def _packed_apart(
        self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Packed, list[Any], tuple[ValueId, ...]]:
        """The arguments, the futures in them, and the values that they need. Raises CannotShip."""
        try:
            needs: tuple[ValueId, ...] = ()
            if not refs.in_use:
                packed, inputs = packed_apart(self._packed, (args, kwargs))
            else:
                lends: list[Grip] = []
                (packed, inputs), needs = refs.noting(
                    lambda: packed_apart(self._packed, (args, kwargs)),
                    leaves=self.leaves,
                    lends=lends,
                )
                if lends:
                    future.lends = lends
            must_fit_one_order(needs, self.spec.name)
            return packed, inputs, needs
        finally:
            del future  # an error of the packing has this frame

    def _as_a_value(
        self, args: Args, packed: Packed, inputs: list[Any]
    ) -> tuple[Ref[Any], Packed, tuple[ValueId, ...]]:
        """Arguments that no message can carry, by a name. Raises CannotShip, StoreFull."""
        if inputs or PICKLES.on:
            must_fit(packed, self.spec.name)
        ref = self.link.values.scatter(args)
        return ref, *refs.noting(lambda: vx.pack(ref))

    def _packed(self, args: Args) -> Packed:
        return packed_arguments(args, self.spec.name)
