"""What callers pass: settings of what is submitted, counts, seconds, ranges.

Decides what makes no sense and raises at the call, where the traceback shows the caller's own line.
Whole numbers may be of any type with `__index__` (NumPy's integers have it, a float has not). Refuses
to know what the values are used for.
"""

from __future__ import annotations

import operator
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stealmesh.tasks import is_coroutine
from stealmesh_protocol import limits
from stealmesh_protocol.messages import Output, Resources

_OCTETS = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
MEMORY_LIMIT_MIN = 1 << 20
PRIORITY_MAX = 2**63 - 1
_OUTPUTS = '"caller", "node" or "none"'
_WORD = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of what is submitted through one view of a mesh."""

    name: str = ""
    priority: int = 0
    retries: int = 0
    timeout: float | None = None
    progress: bool = False
    durable: bool = False
    chunksize: int | None = None
    ship: tuple[str, ...] = ()
    no_ship: tuple[str, ...] = ()
    report: Callable[[int, float, float | None], object] | None = field(default=None, hash=False)
    """Not part of the hash: a callable need not have one. A path is moved to `report_file`."""
    max_parallel: int | None = None
    resources: Resources = ()
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    speculate: bool = False
    restarts: int = 0
    keep: bool = False
    output: Output = Output.NODE
    report_file: str = ""
    """Where the story of each job is written when it has ended; empty: nowhere."""

    def __post_init__(self) -> None:
        checked = {
            "name": _checked_name(self.name),
            "priority": whole_number("priority", self.priority, -PRIORITY_MAX, PRIORITY_MAX),
            "retries": whole_number("retries", self.retries, 0),
            "timeout": None if self.timeout is None else seconds("timeout", self.timeout),
            "restarts": whole_number("restarts", self.restarts, 0),
            "chunksize": checked_sizes(self.chunksize, None)[0],
            "max_parallel": None
            if self.max_parallel is None
            else whole_number("max_parallel", self.max_parallel, 1),
            "retry_on": exception_types("retry_on", self.retry_on),
        }
        if self.timeout is not None and checked["timeout"] <= 0:  # type: ignore[operator]
            raise ValueError(f"timeout must be above 0 seconds, not {self.timeout}")
        for name in ("progress", "durable", "speculate", "keep"):
            must_be_switch(name, getattr(self, name))
        object.__setattr__(self, "output", checked_output(self.output))
        if self.keep and self.durable:
            raise ValueError(
                "keep: a durable job keeps its results itself; leave one of the two out"
            )
        if self.speculate and self.durable:
            raise ValueError("speculate: a durable job is not lent twice; leave one of the two out")
        given: Any = self.report
        if isinstance(given, str | os.PathLike):
            object.__setattr__(self, "report_file", checked_file("report", given))
            object.__setattr__(self, "report", None)
        if self.report is not None and not callable(self.report):
            raise TypeError(f"report must be a callable, a path or None, not {shown(self.report)}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def must_be_switch(name: str, value: Any) -> None:
    """Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")


def checked_file(name: str, value: Any) -> str:
    """The absolute path of a file that can be made there. Raises TypeError and ValueError."""
    path = os.fspath(value)
    if not isinstance(path, str) or not path:
        raise TypeError(f"{name} must be a path, not {shown(path)}")
    path = os.path.abspath(path)
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path)):
        raise ValueError(
            f"{name}: no file can be made at {path}: name one in a directory that exists"
        )
    return path


def refuse_speculation(options: Options, method: str) -> None:
    """Raises ValueError if items are to be lent twice where they cannot be."""
    if options.speculate:
        raise ValueError(
            f"speculate: only for map() and submit(); call {method}() of a view without it"
        )


def refuse_keeping(options: Options, method: str) -> None:
    """Raises ValueError if results are to stay on nodes where they come home."""
    if options.keep:
        raise ValueError(
            f"keep: only for submit(); call {method}() of a view without it, as its results come home"
        )


def checked_output(output: Any) -> Output:
    """Where output goes, as it travels. Raises TypeError, ValueError."""
    if isinstance(output, Output):
        return output
    if not isinstance(output, str):
        raise TypeError(f"output must be {_OUTPUTS}, not {shown(output)}")
    found = Output.__members__.get(output.upper()) if output.islower() else None
    if found is None:
        raise ValueError(f"output must be {_OUTPUTS}, not {shown(output)}")
    return found


def checked_resources(resources: Any) -> Resources:
    """`{name: count}` as it travels. A count of 0 says nothing. Raises TypeError, ValueError."""
    if resources is None:
        return ()
    if not isinstance(resources, Mapping):
        raise TypeError(
            f'resources must be a mapping like {{"GPU": 1}} or None, not {shown(resources)}'
        )
    checked: dict[str, int] = {}
    for name, count in resources.items():
        if not isinstance(name, str):
            raise TypeError(f"resources: a name must be a string, not {shown(name)}")
        if not (0 < len(name) <= limits.NAME_CHARS_MAX and name.isprintable()) or set(name) & set(
            "=,"
        ):
            raise ValueError(
                f"resources: {shown(name)} is no name: up to {limits.NAME_CHARS_MAX} printable "
                'characters, without "=" and ","'
            )
        if isinstance(count, bool):
            raise TypeError(f"resources: {name} must be a whole number, not {count!r}")
        number = whole_number(f"resources: {name}", count, 0, limits.RESOURCE_COUNT_MAX)
        if number:
            checked[name] = number
    if len(checked) > limits.RESOURCES_MAX:
        raise ValueError(f"resources: at most {limits.RESOURCES_MAX} kinds, not {len(checked)}")
    return tuple(sorted(checked.items()))


def whole_number(name: str, value: Any, least: int, most: int = limits.INDEX_MAX) -> int:
    """`value` as an int from `least` to `most`. Raises TypeError, ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {shown(value)}") from None
    if not least <= number <= most:
        known = {limits.INDEX_MAX: "2**63 - 1"}.get(most, str(most))
        raise ValueError(f"{name} must be from {least} to {known}, not {shown(number)}")
    return number


def seconds(name: str, value: Any) -> float:
    """`value` as a number of seconds that a lock can wait. Raises TypeError, ValueError."""
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"{name} must be a number of seconds or None, not {shown(value)}")
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise TypeError(f"{name} must be a number of seconds or None, not {shown(value)}") from None
    if not abs(number) <= threading.TIMEOUT_MAX:  # nor is nan
        raise ValueError(f"{name} must be a number of seconds, not {number}; None: for ever")
    return number


def exception_types(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """`value`, an exception type or several, as a tuple. Raises TypeError, and ValueError for none."""
    kinds = (value,) if isinstance(value, type) else value
    if not isinstance(kinds, tuple | list | set | frozenset):
        raise TypeError(f"{name} must be a tuple of exception types, not {shown(value)}")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name} must have exception types only, not {shown(kind)}")
    if not kinds:
        raise ValueError(f"{name} names no exception type; retries=0 is how nothing is tried again")
    return tuple(kinds)


def checked_sizes(chunksize: Any, buffersize: Any) -> tuple[int | None, int | None]:
    """The checked `chunksize` and `buffersize` of `map`. The error texts are the standard library's."""
    if chunksize is not None:
        if _is_below_one("chunksize must be an integer or None", chunksize):
            raise ValueError("chunksize must be >= 1.")
        chunksize = whole_number("chunksize", chunksize, 1)
    if buffersize is not None:
        if _is_below_one("buffersize must be an integer or None", buffersize):
            raise ValueError("buffersize must be None or > 0")
        buffersize = whole_number("buffersize", buffersize, 1)
    return chunksize, buffersize


def checked_side_by_side(threads: Any, concurrency: Any, *, local: bool) -> tuple[int, int]:
    """The checked `threads` and `concurrency` of `Mesh`."""
    threads = whole_number("threads", threads, 1, limits.THREADS_MAX)
    concurrency = whole_number("concurrency", concurrency, 1, limits.TOGETHER_MAX)
    if threads != 1 and not local:
        raise ValueError(
            "threads: only a local mesh starts workers of its own; start nodes with --nthreads"
        )
    return threads, concurrency


def check_workers(initializer: object, max_tasks: object, *, local: bool) -> None:
    """Of `Mesh`: raises TypeError and ValueError for what workers cannot be started with."""
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if callable(initializer) and is_coroutine(initializer):
        raise TypeError("initializer must be a plain function: it would be called and not awaited")
    if max_tasks is not None:
        if not isinstance(max_tasks, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        if not local:
            raise ValueError("max_tasks_per_child: only a local mesh starts workers of its own")
    if initializer is not None and not local:
        raise ValueError("initializer: only a local mesh starts workers of its own")


def octets_of(text: str) -> int | None:
    """512M, 4GiB, 1.5g, 800000000. K, M, G and T are powers of 1024, with or without an i. None: no size."""
    match = _OCTETS.fullmatch(text.strip())
    if match is None:
        return None
    number, unit, _ = match.groups()
    return int(float(number) * 1024 ** (" kmgt".index(unit.lower()) if unit else 0))


def memory_limit(value: Any, *, local: bool) -> int | None:
    """Octets that each worker may have. Raises TypeError and ValueError."""
    if value is None:
        return None
    if not local:
        raise ValueError("memory_limit: only a local mesh starts workers of its own")
    size = octets_of(value) if isinstance(value, str) else whole_number("memory_limit", value, 0)
    if size is None:
        raise ValueError(f"memory_limit is not a size: {shown(value)}; write '512M' or '4GiB'")
    if size < MEMORY_LIMIT_MIN:
        raise ValueError(f"memory_limit: {shown(value)} is less than a worker needs to start")
    return size


def _is_below_one(text: str, value: Any) -> bool:
    try:
        return operator.index(value) < 1
    except TypeError:
        raise TypeError(f"{text}, not {shown(value)}") from None


def as_range(items: Iterable[Any], *, whole: bool = False) -> range | None:
    """`items` if it is a range that travels as one; None if its items must be read one by one.

    `whole`: all items are wanted, so a range of 2**63 items or more raises ValueError.
    """
    if not isinstance(items, range):
        return None
    try:
        count = len(items)
    except OverflowError:
        if whole:
            raise ValueError("this range has more items than can be counted (2**63 - 1)") from None
        return None
    fits = count <= limits.INDEX_MAX and items.start in _WORD and items.step in _WORD
    return items if fits else None


def refuse_report(options: Options) -> None:
    """Raises ValueError for a report of a durable job that calls the program. One that is a file is none."""
    if options.report is not None:
        raise ValueError("report: a durable job calls no program; ask Job.progress()")


def fitting_name(name: Any) -> str:
    """A function's own name, escaped and shortened so that it fits into a message."""
    text = str(name).replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limits.NAME_CHARS_MAX else f"{text[: limits.NAME_CHARS_MAX - 3]}..."


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {shown(name)}")
    if len(name) > limits.TEXT_CHARS_MAX:
        raise ValueError(
            f"name must have at most {limits.TEXT_CHARS_MAX} characters, not {len(name):,}"
        )
    if "\0" in name:
        raise ValueError(f"name must not contain NUL characters: {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"name must be text that UTF-8 can carry: {name!r}") from None
    return str(name)


def shown(value: Any) -> str:
    """The value in an error text: short, and without running code of the value's."""
    kind = type(value)
    short = kind is float or (kind is int and value.bit_length() < 300)
    short = short or (kind in (str, bytes) and len(value) < 100)
    return f"{value!r} (a {kind.__qualname__})" if short else f"a {kind.__qualname__}"
