"""The values that a program has put on the mesh: `scatter`, and their end.

Decides the names of values, and that their octets stay with the program as the first copy. Refuses to know
what needs a value (`needs.py`, `refs.py`) and where other copies are (the engine).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from stealmesh import refs
from stealmesh.client.coming import Coming
from stealmesh.client.heavy import lightened
from stealmesh.client.needs import Needs
from stealmesh.refs import Grip, Ref, ResultGrip
from stealmesh.values.room import Room
from stealmesh.values.shelf import Shelf
from stealmesh_engine.events import Event, ForgetRecipe, KeepValue, ReleaseValue
from stealmesh_protocol.errors import StoreFull, ValueLost
from stealmesh_protocol.ids import JobId, PeerId, ValueId, value_id, value_of_item

HURRIED_SECONDS = 5.0
"""How long a program that ends by an exception waits for results that it may never read."""


class OwnValues:
    """The home of a program's values."""

    is_a_tasks = False

    def __init__(self, me: PeerId, post: Callable[..., None], room: Room | None = None) -> None:
        self.shelf = Shelf(room)
        self._me = me
        self._post = post
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._closed = False
        self.coming = Coming(self.tell)
        self.on_first: Callable[[], None] = lambda: None
        """Called before a value is told of: neighbours may ask for it."""

    def scatter(self, value: Any) -> Ref[Any]:
        """Put the value on the mesh. Raises CannotShip, StoreFull, OSError."""
        from stealmesh.values.parts import packed

        parts, needs = refs.noting(lambda: packed(value))
        return self._put(parts.octets, parts, needs)

    def _put(
        self,
        octets: int,
        parts: Iterable[tuple[int, bytes | memoryview]],
        needs: tuple[ValueId, ...],
    ) -> Ref[Any]:
        name = value_id(self._me, next(self._numbers))
        self.shelf.put(name, octets, parts)
        grip = Grip(self, name, octets, refs.grips_of(needs))
        self.on_first()
        self.tell(KeepValue(name, octets))
        return Ref(name, octets, grip)

    def lightened(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, the large ones put on the mesh. Raises as `scatter` does."""
        return lightened(self._scatter_octets, args, kwargs)

    def _scatter_octets(self, value: Any) -> Ref[Any]:
        try:
            return self.scatter(value)
        except OSError as error:
            raise StoreFull(f"a large argument cannot be kept: {error.strerror}") from error

    def tell(self, event: Event) -> None:
        self._post(event)

    def open(self, value: ValueId, place: int | None = None) -> Any:
        return self.shelf.open(value, place)

    def octets_of(self, value: ValueId, place: int | None) -> memoryview:
        return self.shelf.mapped(value, place)

    def put(self, octets: memoryview) -> Ref[Any]:
        """Put a value on the mesh that is packed already. Raises StoreFull, OSError."""
        return self._put(octets.nbytes, [(0, octets)], ())

    def released(self, value: ValueId) -> None:
        if os.getpid() != self._pid:
            return  # a forked copy of the program: the values are its parent's
        if self._closed:
            self.shelf.forget(value)
        else:
            self.coming.gone(value)
            self.tell(ReleaseValue(value))

    def forget_recipe(self, value: ValueId) -> None:
        if os.getpid() == self._pid and not self._closed:
            self.tell(ForgetRecipe(value))

    def close(self) -> None:
        """The driver has ended. What the program still has a Ref of stays with it; what is elsewhere is gone."""
        self._closed = True
        self.coming.close()
        self.shelf.keep_none_warm()

    # ------------------------------------------------------------ results that stay on nodes

    def results(
        self, job: JobId, stays: Iterable[tuple[int, int]], needs: Needs, *, asked_for: bool
    ) -> dict[int, ResultGrip]:
        """What keeps the results of these items, which have just been delivered."""
        self.on_first()
        return {
            item: ResultGrip(
                self, value_of_item(job, item), octets, needs.of(job, item), asked_for=asked_for
            )
            for item, octets in stays
        }

    def bring(self, value: ValueId, timeout: float | None) -> None:
        if value in self.shelf and value in self.coming.here:
            return
        self.coming.bring(value, timeout)

    def ask(self, value: ValueId) -> None:
        self.coming.ask(value)

    def bring_all(self, *, hurried: bool) -> None:
        """The mesh is about to end: have the results here that stayed on nodes only because they are large."""
        grips = [grip for grip in refs.living_results(self) if not grip.asked_for]
        for grip in grips:
            self.coming.ask(grip.value)
        until = time.monotonic() + HURRIED_SECONDS
        for grip in grips:
            with contextlib.suppress(ValueLost, TimeoutError):
                grip.bring(until - time.monotonic() if hurried else None)
