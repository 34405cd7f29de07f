"""Settings of the interpreter that the program has made: its tasks find them, as in a child process.

`getcontext().prec = 50` at the head of a program is a part of what its functions compute, and so are the recursion
limit, the locale, filters of warnings and the rest of `setting_kinds.py`. They are taken when a function is packed,
in the thread that submits it, and travel as a piece of the program (opening.py). A submit sees that they have
changed. A worker makes what differs from what it has; what the program no longer sets becomes what it was there.

Refuses to know: the state of random generators (each worker has its own, on purpose), what concerns speed alone,
and what a library keeps for itself: for those there is `initializer=`.
"""

from __future__ import annotations

import decimal
import locale
import logging
import socket
import sys
import threading
import warnings
from typing import Any

import msgspec

from stealmesh.shipping.setting_kinds import KINDS, context_of

_ever = False
"""Has this program ever had a setting of its own? From then on workers are told."""


_OF_A_THREAD = ("decimal", "numpy")
_main: dict[str, Any] = {}
"""Those that each thread has for itself, as the main thread had them when it last packed a function. A thread that has
set nothing counts as the main thread: callbacks and libraries submit from threads of their own."""
_FRESH_CONTEXT = context_of(KINDS["decimal"].fresh)
_main_context = _FRESH_CONTEXT


def taken() -> bytes | None:
    """What this program has set, packed; None: nothing, now as ever."""
    global _ever, _main_context
    if _is_main():
        _main.update({name: KINDS[name].now() for name in _OF_A_THREAD})
        _main_context = decimal.getcontext().copy()
    own = {name: now for name in KINDS if (now := _now(name)) not in (None, KINDS[name].fresh)}
    if not own and not _ever:
        return None
    _ever = True
    return msgspec.msgpack.encode(own)


def _now(name: str) -> Any:
    now = KINDS[name].now()
    return _main.get(name) if now == KINDS[name].fresh and not _is_main() else now


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


_began: dict[str, Any] = {}
"""What a setting was in this worker before the program's first word about it."""
_told: dict[str, Any] = {}
"""What the program has set, as this worker knows it."""


def put(packed: bytes) -> None:
    """This worker has these settings from now on."""
    own: dict[str, Any] = msgspec.msgpack.decode(packed)
    for name in {**_told, **own}:
        if name in KINDS and own.get(name) != _told.get(name):
            kind = KINDS[name]
            if name not in _began:
                now = kind.now()
                _began[name] = kind.fresh if now is None else now
            kind.put(own.get(name, _began[name]))
    _told.clear()
    _told.update(own)


class SettingsSeen:
    """The settings as they were once. Every submit asks whether they still are, so of some we look at the parts
    that programs change: about two microseconds."""

    __slots__ = ("_context", "_filters", "_locale", "_logged", "_numbers", "_numpy")

    def __init__(self) -> None:
        self._context = _context().copy()
        self._numbers = _numbers()
        self._filters = list(warnings.filters)
        self._locale = _locale()
        self._logged = _logged()
        self._numpy = _numpy()

    def still(self) -> bool:
        return (
            _numbers() == self._numbers
            and warnings.filters == self._filters
            and _are_alike(_context(), self._context)
            and _logged() == self._logged
            and _locale() == self._locale
            and _numpy() == self._numpy
        )


def look(seen: SettingsSeen) -> tuple[bool]:
    """For a ChangeWatch."""
    return (seen.still(),)


def _context() -> decimal.Context:
    now = decimal.getcontext()
    return _main_context if _are_alike(now, _FRESH_CONTEXT) and not _is_main() else now


def _are_alike(one: decimal.Context, other: decimal.Context) -> bool:
    return bool(
        one.prec == other.prec and one.rounding == other.rounding and one.traps == other.traps
    )


def _numbers() -> tuple[Any, ...]:
    return sys.getrecursionlimit(), sys.get_int_max_str_digits(), socket.getdefaulttimeout()


def _locale() -> str:
    """Of one category: programs set all of them."""
    return locale.setlocale(locale.LC_NUMERIC)


def _logged() -> tuple[Any, ...]:
    root = logging.root
    return root.level, root.manager.disable, *root.handlers


def _numpy() -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "geterr"):
        return None
    errors = numpy.geterr()
    is_main = errors != KINDS["numpy"].fresh[0] or _is_main()
    return errors if is_main else (_main.get("numpy") or [errors])[0]
