"""The gate between a chunk with tasks inside tasks and its node, which may want a child for others.

A chunk without such tasks never comes here. Decides what a child takes along: the function of its chunk with
the pieces of the program that it brought, and the bundle of modules. Refuses to know which child goes, and
how (`stealmesh/nested/away.py`, which is loaded when the first one does).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pickle import dumps, loads
from queue import Empty, SimpleQueue
from typing import Any

from stealmesh.workers.reporting import HERE
from stealmesh.workers.wire import FrameKind
from stealmesh_protocol import values


@dataclass(frozen=True, slots=True)
class Luggage:
    """What a child needs elsewhere beside its arguments."""

    outer: bytes
    """The function of its parent's chunk, as it came."""
    is_childs: bool
    """That is a child itself."""
    code: bytes
    """The digest of the bundle; empty: there is none."""
    bundle: bytes

    def function(self) -> bytes:
        """Shipped like any function, it opens to `call_child`."""
        return self.outer if self.is_childs else dumps(_Opening(self.outer), 5)

    def with_value(self, codec: int, blob: bytes) -> bytes:
        """Shipped like any function, it opens to this value (an actor's body)."""
        return dumps(_OpeningOf(self.outer, codec, blob), 5)


DOOR_SECONDS = 1.0
"""After so long without an answer the node is asked again."""
Give = Callable[[Luggage, bytes], None]
"""Gives a child away, with its luggage, by this door (`TasksInside.door`)."""


class ChildGate:
    """Of one worker process."""

    def __init__(self) -> None:
        self._loader: Any = None
        self._listener: Any = None
        self._open: tuple[int, Luggage, Give] | None = None
        """The chunk that runs, if its task has children."""
        self._doors: SimpleQueue[bytes] = SimpleQueue()

    def settle_in(self, loader: Any, listener: Any) -> None:
        self._loader, self._listener = loader, listener
        listener.give_child, listener.take_door = self.asked, self._doors.put

    def opens(self, give: Give) -> None:
        """A task of the chunk that runs has a mesh: from now on the node may ask for its children. Called by
        the task's thread."""
        number = HERE.number
        if number is None or self._listener is None:
            return  # an explore bag has a way of its own to be shared
        self._open = (number, self._loader.luggage(), give)
        self._listener.listen()
        HERE.say(number, FrameKind.NESTS)

    def door(self) -> tuple[Luggage, bytes]:
        """What something of the task that runs needs elsewhere, and the way into the mesh. Called by a thread of the
        task. Raises RuntimeError where there is none."""
        one = self._open
        if one is None:
            raise RuntimeError(
                "here().actor(): neither a visit of explore() nor a task that runs beside others in its process "
                "can make an actor: make it in the program, with mesh.actor()"
            )
        door: bytes | None = None
        while door is None:
            HERE.say(one[0], FrameKind.SEEKS_DOOR)
            with suppress(Empty):  # the node did not get round to it, or the answer was lost
                door = self._doors.get(timeout=DOOR_SECONDS)
        if not door:
            raise RuntimeError(
                "here().actor(): this mesh has no key, so workers cannot join it: make the actor in the program, "
                "with mesh.actor()"
            )
        return one[1], door

    def order(self) -> Any:
        """The order with the chunk that runs; None: tasks run side by side here, and each has its own."""
        return None if self._loader is None or self._loader.now is None else self._loader.now[0]

    def closes(self) -> None:
        """The chunk is over."""
        self._open = None

    def waits(self, *, waits: bool) -> None:
        """The task of the chunk that runs waits for children elsewhere, or goes on. Called by the thread that
        carries it."""
        one = self._open
        if one is not None:
            HERE.say(one[0], FrameKind.WAITS if waits else FrameKind.GOES_ON)

    def asked(self, number: int, door: bytes) -> None:
        """The node wants a child of this chunk. Called by the listener's thread."""
        one = self._open
        if one is None or one[0] != number or HERE.number != number:
            return  # the question came too late
        _, luggage, give = one
        give(luggage, door)


GATE = ChildGate()


def call_child(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a child in another worker."""
    return function(*args, **kwargs)


def child_of(outer: bytes) -> Any:
    """Opened in another worker: first what the parent's function brought, as the child means the same names."""
    loads(outer)
    return call_child


class _Opening:
    """A pickle of it opens to `child_of(outer)`."""

    def __init__(self, outer: bytes) -> None:
        self._outer = outer

    def __reduce__(self) -> Any:
        return child_of, (self._outer,)


def opened_behind(outer: bytes, codec: int, blob: bytes) -> Any:
    """Opened in another process: first what the function brought, as the value means the same names."""
    loads(outer)
    return values.unpack(codec, blob)


class _OpeningOf:
    """A pickle of it opens to `opened_behind(…)`."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        return opened_behind, self._parts
