"""`gather`: a structure with values in the place of Refs, and with results in that of futures.

Decides how deep it looks. Refuses to know where values are: Refs and futures bring them. Importing it is cheap, as
workers do when a task gathers.
"""

from __future__ import annotations

from typing import Any

from stealmesh.futures import Future
from stealmesh.refs import Ref
from stealmesh_protocol.unasked import is_a


def gathered(value: Any, timeout: float | None = None) -> Any:
    """The same, with the results of futures and the values of Refs in their places. Looks into lists, tuples,
    sets and dicts, at any depth. Raises what a future raises, ValueLost, TimeoutError, and TypeError for a timeout
    that is no number."""
    if isinstance(timeout, Ref | Future):
        raise TypeError("gather takes one structure: write gather([a, b]), not gather(a, b)")
    try:
        _ask_for_all(value)
        return _gathered(value, timeout)
    except BaseException as error:  # noqa: BLE001 - raised again
        # The frames in here have futures, and one of these has the error: only the collector would free them.
        raise BaseException.with_traceback(error, None)  # noqa: B904 - the same error
    finally:
        del value


def _gathered(value: Any, timeout: float | None) -> Any:
    if is_a(value, Ref):
        return value.result(timeout)
    if is_a(value, Future):
        return gathered(value.result(timeout), timeout)
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return kind([_gathered(each, timeout) for each in value])
    if kind is dict:
        return {key: _gathered(each, timeout) for key, each in value.items()}
    return value


def _ask_for_all(value: Any) -> None:
    """Have the results that stayed on nodes come side by side."""
    if is_a(value, Future):
        if value.grip is not None:
            value.grip.ask()
    elif type(value) in (list, tuple, set, frozenset):
        for each in value:
            _ask_for_all(each)
    elif type(value) is dict:
        for each in value.values():
            _ask_for_all(each)
