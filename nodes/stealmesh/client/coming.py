"""Values that the program wants to have here and that are elsewhere.

Decides how a thread of the program waits for one, and what it hears if the value is lost. Refuses to know how
values travel (the engine), and where they go (`values/shelf.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stealmesh.host.interrupts import WakefulCondition
from stealmesh_engine.effects import ValueCame
from stealmesh_engine.events import Event, WantValue
from stealmesh_protocol.errors import ValueLost
from stealmesh_protocol.ids import ValueId


class Coming:
    """What the threads of one program wait for."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self.here: set[ValueId] = set()
        """Those that have come and that the program still needs."""
        self._lost: dict[ValueId, str] = {}
        self._asked: set[ValueId] = set()
        self._closed = False
        self._changed = WakefulCondition()

    def ask(self, value: ValueId) -> None:
        """It is going to be wanted."""
        with self._changed:
            if value in self.here or value in self._asked or self._closed:
                return
            self._asked.add(value)
            self._lost.pop(value, None)
        self._tell(WantValue(value))

    def bring(self, value: ValueId, timeout: float | None) -> None:
        """Sleep until it is here. Raises ValueLost, TimeoutError."""
        self.ask(value)
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while value not in self.here:
                if value not in self._asked:
                    raise ValueLost(self._why(value), value.hex())
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)

    def _why(self, value: ValueId) -> str:
        why = "the mesh has been shut down" if self._closed else self._lost.get(value, "")
        return f"the result {value.hex()}, which stayed on its node, is gone: {why}"

    # ------------------------------------------------------------ the driver's thread

    def came(self, effect: ValueCame) -> None:
        with self._changed:
            self._asked.discard(effect.value)
            if effect.why:
                self._lost[effect.value] = effect.why
            else:
                self.here.add(effect.value)
            self._changed.notify_all()

    def gone(self, value: ValueId) -> None:
        """The program needs it no more."""
        with self._changed:
            self.here.discard(value)
            self._lost.pop(value, None)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._asked.clear()
            self._changed.notify_all()
