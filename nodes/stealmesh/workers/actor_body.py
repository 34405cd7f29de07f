"""The object of an actor in its process, and the function that runs its calls.

It travels as any function does, with the class and the arguments of the constructor, and is loaded once in a
process that runs nothing else. So the object lives as long as the process. Decides when the object is made
(with the first call), and how a coroutine of it runs: to its end, before the next call begins. Refuses to know
who calls, and what happens when the process dies.
"""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from stealmesh_protocol.errors import Defer
from stealmesh_protocol.unasked import is_a


class ActorBody:
    """Called with the name of a method and its arguments."""

    def __init__(
        self, cls: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> None:
        self._made_from = (cls, args, kwargs)
        self.stealmesh_name = name
        self._object: Any = None
        self._is_made = False
        self._failure: BaseException | None = None
        """What the constructor raised. It is not tried again: it may have done things."""
        self._loop: Any = None

    def __call__(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if not self._is_made:
            self._make()
        try:
            result = getattr(self._object, method)(*args, **kwargs)
            return self._run(result) if is_a(result, CoroutineType) else result
        except Defer as error:
            raise TypeError("an actor's call cannot be put off: later ones wait for it") from error

    def _make(self) -> None:
        if self._failure is None:
            cls, args, kwargs = self._made_from
            try:
                self._object = cls(*args, **kwargs)
            except BaseException as error:
                self._failure = error
                raise
            self._is_made = True
            return
        raise self._failure

    def _run(self, coroutine: Any) -> Any:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(coroutine)
