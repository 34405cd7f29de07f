"""Which frames are the mesh's own, and how a traceback looks without them.

Between two frames of the user's all of ours vanish, and those above the first. At the bottom, where the error
was raised by us, the last of ours stays: else a defect of ours would look like one of the user's line.
Where we say in words what is wrong (a MeshError, a time that is up) it does not.
Refuses to know what else there is to say of the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import TypeVar

import cloudpickle

import stealmesh_engine
import stealmesh_protocol
from stealmesh_protocol.errors import MeshError
from stealmesh_protocol.unasked import is_a, traceback_of

T = TypeVar("T")

_HERE = os.path.dirname(os.path.dirname(__file__))
_ROOTS = tuple(
    os.path.join(directory, "")
    for directory in (
        _HERE,
        os.path.dirname(stealmesh_engine.__file__),
        os.path.dirname(stealmesh_protocol.__file__),
    )
)
_USERS = os.path.join(_HERE, "examples", "")
"""To be read and run by users, as their own."""
_HELPER = os.path.join(os.path.dirname(cloudpickle.__file__), "")
"""Where we call it, its frames are ours, too."""

_IN_WORDS = (MeshError, CancelledError, TimeoutError)


def is_ours(path: str) -> bool:
    return path.startswith(_ROOTS) and not path.startswith(_USERS)


def frames_of(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def folded(frames: Sequence[T], path_of: Callable[[T], str], error: BaseException) -> list[T]:
    """The frames of a traceback, the outermost first, without ours."""
    kept: list[T] = []
    is_inside = False
    for frame in frames:
        path = path_of(frame)
        is_inside = is_ours(path) or (is_inside and path.startswith(_HELPER))
        if not is_inside:
            kept.append(frame)
    if is_inside and not is_a(error, _IN_WORDS):
        kept.append(frames[-1])
    return kept


def fold(error: BaseException) -> BaseException:
    """Take our frames out of this exception's traceback."""
    trace: TracebackType | None = None
    found = folded(list(frames_of(traceback_of(error))), _path_of, error)
    for each in reversed(found):
        trace = TracebackType(trace, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return BaseException.with_traceback(error, trace)


def _path_of(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename
