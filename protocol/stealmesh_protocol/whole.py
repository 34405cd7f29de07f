"""How a value travels that has no name elsewhere: a lambda, a class of `__main__`, what refers to them.

By itself it is cloudpickle that sends them. A program, and a worker, knows better which of them the
other side has by name, and says so here. `pickle.loads` opens either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Dumps = Callable[[Any], bytes]


def _cloudpickle() -> Any:
    import cloudpickle  # 20 ms that a client who sends numbers does not need

    return cloudpickle


def _dumps(value: Any) -> bytes:
    blob: bytes = _cloudpickle().dumps(value, 5)
    return blob


def _pickler() -> type[Any]:
    found: type[Any] = _cloudpickle().Pickler
    return found


_chosen: tuple[Dumps, Callable[[], type[Any]]] = (_dumps, _pickler)


def send_with(dumps: Dumps, pickler: Callable[[], type[Any]]) -> None:
    """From now on `dumps` is used, and what `pickler` returns where a class is needed."""
    global _chosen
    _chosen = (dumps, pickler)


def dumps(value: Any) -> bytes:
    """Raises what pickling raises."""
    return _chosen[0](value)


def pickler() -> Any:
    """A subclass of pickle's Pickler, made with (file, protocol)."""
    return _chosen[1]()
