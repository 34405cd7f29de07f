"""What went wrong with items, in words and as records that travel.

Decides what the program reads of a failure: its kind, its traceback (`tracebacks/telling.py`), what
this machine lacks and what to do about it. Refuses to know how items run (run.py, explore.py) and
how results are packed (outcome.py).
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one item's failure.

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import msgspec

from stealmesh.shipping import opening, versions
from stealmesh.tracebacks import telling
from stealmesh.workers import printing
from stealmesh.workers.division import moved
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import CannotLoad, CannotShip, MeshError, NotRegistered
from stealmesh_protocol.raised import bases_of, headline, packed_exception
from stealmesh_protocol.unasked import (
    cause_of,
    full_name_of,
    is_a,
    missing_module,
    traceback_of,
)
from stealmesh_protocol.values import (
    NOT_REGISTERED,
    RAISED,
    UNLOADABLE,
    Failure,
    exception_as_data,
)

TRACEBACK_CHARS_A_CHUNK_MAX = 256 * 1024
"""Bounds the tracebacks of a chunk: fifty thousand items may fail alike."""

AS_BEFORE = "(as for the items before it)"

CAUSES_MAX = 8
"""An exception may be among its own causes."""

WHERE = "this node"
"""The node's name for people; the worker sets it when it is told."""


class Failures(msgspec.Struct):
    """The failed items of one chunk, within bounds."""

    records: list[Failure] = []
    lacking: bool = False
    """An item failed because this machine lacks something that another may have."""
    _room: int = TRACEBACK_CHARS_A_CHUNK_MAX
    _last: tuple[BaseException, bytes] | None = None

    def add(
        self,
        offset: int,
        error: BaseException,
        attempts: Sequence[str] = (),
        kind: str = RAISED,
    ) -> None:
        """`kind` other than RAISED: the error is not the task's. Its words travel, and the program makes one
        of our exceptions of them."""
        printing.HERE.item_failed()
        story, trails = _told(error) if self._room > 0 else (AS_BEFORE, b"")
        if kind == RAISED and versions.met and self._room > 0:
            story = f"{story}\n{other_versions()}\n"
        self._room -= len(story) + len(trails)
        if kind == RAISED:
            self.lacking = self.lacking or is_lacking(error)
            words, blob = headline(error), self._pickled(error)
        else:
            words, blob = str(error), b""
        told = list(attempts or [words])
        bases = bases_of(type(error)) if kind == RAISED else []
        self.records.append(Failure(offset, kind, blob, words, story, told, bases, trails=trails))

    def behind(self, told: int) -> Failures:
        """The failures of the items from `told` on, counted from there."""
        rest = Failures()
        rest.records = moved(self.records, told, sys.maxsize)
        rest.lacking = self.lacking
        rest._room = self._room
        return rest

    def _pickled(self, error: BaseException) -> bytes:
        """Pickle it once: a whole chunk may fail with the same exception object."""
        if self._last is None or self._last[0] is not error:
            packed = exception_as_data(error) if PICKLES.on else packed_exception(error)
            self._last = (error, packed)
        return self._last[1]


def _told(error: BaseException) -> tuple[str, bytes]:
    """Its traceback as text, and its trails."""
    try:
        return telling.told(error, WHERE)
    except BaseException:  # a task's own __repr__ or a broken source file
        return headline(error), b""


def is_lacking(error: BaseException) -> bool:
    """Did a task fail because something cannot be imported on this machine?

    An import statement says what it looked for (`name`). Libraries that import late (pandas its file
    formats) wrap that in an ImportError of their own. Any other exception is the task's own.
    """
    for _ in range(CAUSES_MAX):
        if not is_a(error, ImportError):
            return False
        if missing_module(error):
            return True
        cause = cause_of(error)
        if cause is None:
            return False
        error = cause
    return False


def _behind_ours(error: BaseException) -> BaseException:
    """What the user's code raised, if this is our word for it."""
    cause = cause_of(error) if is_a(error, CannotLoad) else None
    return error if cause is None else cause


def is_lacking_for_an_item(error: BaseException) -> bool:
    """Can an item not be opened because something is missing here, its class for example?"""
    return is_a(_behind_ours(error), (ImportError, AttributeError))


def unloadable(error: BaseException, where: str = "") -> BaseException:
    """The error for what cannot be loaded here: which node lacks what, and the remedy. `where` is the
    node's name, by default `WHERE`."""
    where = where or WHERE
    if type(error) is NotRegistered:
        return NotRegistered(error.name, f"{error} (node {where})")
    error = _behind_ours(error)
    name = missing_module(error) if is_a(error, ModuleNotFoundError) else None
    if type(name) is str and name:
        told = CannotLoad(
            f"module {name!r} is not importable on node {where}: install it there, or put "
            f"its directory on that node's PYTHONPATH{_or_send_it(name)}"
        )
    else:
        told = CannotLoad(
            f"the task could not be loaded on node {where}: {headline(error)}; the node needs "
            "the same code and the same versions as the program that submitted it"
        )
    if versions.met:
        told = CannotLoad(f"{told}; {other_versions()}")
    return told.with_traceback(traceback_of(error))


def kind_of(error: BaseException) -> str:
    """As which kind of failure it travels that something could not be loaded."""
    return NOT_REGISTERED if type(error) is NotRegistered else UNLOADABLE


def unopened(fault: MeshError, where: str) -> str:
    if is_a(cause_of(fault), ImportError):
        return str(unloadable(fault, where))
    return f"an argument could not be opened on node {where}: {fault}"


def _or_send_it(name: str) -> str:
    living = opening.living()
    left = living is not None and opening.is_under(name, living.no_ship)
    return ", or take it out of no_ship" if left else ""


def other_versions() -> str:
    return f"on node {WHERE} there are other versions: {versions.in_words(versions.met)}"


def unsendable(result: Any, error: BaseException) -> BaseException:
    remedy = "return plain data, or something that can be pickled"
    if is_a(result, CoroutineType):
        result.close()  # or Python warns that it was never awaited
        remedy = "submit the async function itself, or have this one return asyncio.run(...)"
    elif is_a(result, (AsyncGeneratorType, GeneratorType)):
        remedy = "return a list of what it yields"
    told = CannotShip(
        f"the task's result, of type {full_name_of(type(result))}, "
        f"cannot be sent: {headline(error)}; {remedy}"
    )
    return told.with_traceback(traceback_of(error))
