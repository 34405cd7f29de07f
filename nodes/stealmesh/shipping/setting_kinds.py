"""One setting of the interpreter each: how it is read, what a fresh process has, how it is made.

A reader returns plain data; None: the module that it belongs to is not loaded, so nobody has set it. Refuses to
know when settings are taken and how they travel (settings.py).
"""

from __future__ import annotations

import decimal
import locale
import logging
import re
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

NAMED_LOGGERS_MAX = 500
_CATEGORIES = ("LC_CTYPE", "LC_COLLATE", "LC_MONETARY", "LC_NUMERIC", "LC_TIME", "LC_MESSAGES")
_STYLES = {"PercentStyle": "%", "StrFormatStyle": "{", "StringTemplateStyle": "$"}
_PRINTED = {
    "precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False,
    "nanstr": "nan", "infstr": "inf", "sign": "-", "floatmode": "maxprec",
}  # fmt: skip
"""Options of numpy's printing that are plain data, as numpy comes."""


class Kind(NamedTuple):
    """A setting of the interpreter, or of a module that all know."""

    now: Callable[[], Any]
    """As it is in this thread, as plain data; None: nobody can have set it."""
    fresh: Any
    """As it is in a process that has set nothing."""
    put: Callable[[Any], None]


# ---------------------------------------------------------------- the interpreter


def _put_recursion_limit(frames: int) -> None:
    """Never less than it is: tasks inside tasks may need it (`nested/family.py`)."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), frames))


def _timeout_now() -> list[float | None]:
    return [socket.getdefaulttimeout()]


def _put_timeout(told: list[float | None]) -> None:
    socket.setdefaulttimeout(told[0])


def _locale_now() -> dict[str, str]:
    """Without the category that every process takes from its environment, unless others are set."""
    told = {name: locale.setlocale(getattr(locale, name)) for name in _CATEGORIES}
    return told if any(told[name] != "C" for name in _CATEGORIES[1:]) else {}


def _put_locale(told: dict[str, str]) -> None:
    for name, value in {**dict.fromkeys(_CATEGORIES[1:], "C"), **told}.items():
        try:
            locale.setlocale(getattr(locale, name), value)
        except locale.Error:
            print(f"no locale {value!r} on this machine: {name} stays as it was", file=sys.stderr)


# ---------------------------------------------------------------- decimal


def _decimal_now() -> list[Any]:
    context = decimal.getcontext()
    traps = sorted(signal.__name__ for signal, trapped in context.traps.items() if trapped)
    return [
        context.prec, context.rounding, context.Emin, context.Emax,
        context.capitals, context.clamp, traps,
    ]  # fmt: skip


_DECIMAL_FRESH = [
    28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0,
    ["DivisionByZero", "InvalidOperation", "Overflow"],
]  # fmt: skip


def context_of(told: list[Any]) -> decimal.Context:
    precision, rounding, least, most, capitals, clamp, names = told
    traps = [getattr(decimal, name) for name in names]
    return decimal.Context(precision, rounding, least, most, capitals, clamp, [], traps)


def _put_decimal(told: list[Any]) -> None:
    """Also for threads that the worker starts from now on: some of them run tasks."""
    made = context_of(told)
    decimal.setcontext(made)
    for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp"):
        setattr(decimal.DefaultContext, name, getattr(made, name))
    for signal in made.traps:
        decimal.DefaultContext.traps[signal] = made.traps[signal]


# ---------------------------------------------------------------- warnings


def _filters_now() -> list[list[Any]]:
    return [
        [action, _told(message), [each.__module__, each.__qualname__], _told(module), line]
        for action, message, category, module, line in list(warnings.filters)
        for each in (category if isinstance(category, tuple) else (category,))
    ]


def _told(pattern: Any) -> Any:
    """A pattern is a list of its text; a plain text, which must be equal, is itself."""
    return [pattern.pattern] if isinstance(pattern, re.Pattern) else pattern


def _built_in(name: str, action: str = "ignore", module: str | None = None) -> list[Any]:
    return [action, None, ["builtins", name], module, 0]


_FILTERS_FRESH = [
    _built_in("DeprecationWarning", "default", "__main__"),
    *map(_built_in, ("DeprecationWarning", "PendingDeprecationWarning", "ImportWarning", "ResourceWarning")),
]  # fmt: skip


def _put_filters(told: list[list[Any]]) -> None:
    filters = []
    for action, message, category, module, line in told:
        kind = _category(*category)
        if kind is not None:
            filters.append((action, _pattern(message), kind, _pattern(module), line))
    warnings.filters[:] = filters  # type: ignore[index]
    with warnings.catch_warnings():
        pass  # which tells `warnings` that its filters are others


def _pattern(told: Any) -> Any:
    return re.compile(told[0], re.IGNORECASE) if isinstance(told, list) else told


def _category(module: str, name: str) -> Any:
    """None: this process has not loaded its module, so nothing here warns in that category."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# ---------------------------------------------------------------- logging


def _logging_now() -> list[Any]:
    """Levels, and how the root logger writes to the terminal. Handlers of other kinds are the program's own."""
    root = logging.getLogger()
    named = {
        name: logger.level
        for name, logger in list(root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET
    }
    if len(named) > NAMED_LOGGERS_MAX:
        named = {}
    return [root.level, root.manager.disable, named, list(filter(None, map(_shown, root.handlers)))]


def _shown(handler: Any) -> Any:
    """[level, stream, format, format of dates, style]; None: it is not one that writes to the terminal."""
    if type(handler) is not logging.StreamHandler:
        return None
    formatter = handler.formatter or logging.Formatter()
    style = _STYLES.get(type(getattr(formatter, "_style", None)).__name__)
    if type(formatter) is not logging.Formatter or style is None:
        return None
    if handler.stream in (sys.stdout, sys.__stdout__):
        stream = "stdout"
    elif handler.stream in (sys.stderr, sys.__stderr__):
        stream = "stderr"
    else:
        return None
    return [handler.level, stream, formatter._fmt, formatter.datefmt, style]


_handlers: list[logging.Handler] = []
"""Those that this process has from the program."""
_leveled: set[str] = set()
"""The loggers whose levels it has from the program."""


def _put_logging(told: list[Any]) -> None:
    level, disabled, named, shown = told
    root = logging.getLogger()
    root.setLevel(level)
    logging.disable(disabled)
    for name in {*_leveled, *named}:
        logging.getLogger(name).setLevel(named.get(name, logging.NOTSET))
    _leveled.clear()
    _leveled.update(named)
    for handler in _handlers:
        root.removeHandler(handler)
    _handlers[:] = [_handler(*each) for each in shown]
    for handler in _handlers:
        root.addHandler(handler)


def _handler(level: int, stream: str, text: str, dates: str | None, style: Any) -> logging.Handler:
    handler = logging.StreamHandler(getattr(sys, stream))
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(text, dates, style))
    return handler


# ---------------------------------------------------------------- numpy


def _numpy_now() -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "get_printoptions"):  # it is being imported
        return None
    options = numpy.get_printoptions()
    printed = {
        name: options[name] for name, fresh in _PRINTED.items() if options.get(name, fresh) != fresh
    }
    return [numpy.geterr(), printed]


def _put_numpy(told: list[Any]) -> None:
    import numpy

    errors, printed = told
    numpy.seterr(**errors)
    numpy.set_printoptions(**{**_PRINTED, **printed})


_NUMPY_FRESH = [{"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}, {}]


KINDS = {
    "recursion limit": Kind(sys.getrecursionlimit, 1000, _put_recursion_limit),
    "digits of an int": Kind(
        sys.get_int_max_str_digits,
        sys.int_info.default_max_str_digits,
        sys.set_int_max_str_digits,
    ),
    "socket timeout": Kind(_timeout_now, [None], _put_timeout),
    "locale": Kind(_locale_now, {}, _put_locale),
    "decimal": Kind(_decimal_now, _DECIMAL_FRESH, _put_decimal),
    "warnings": Kind(_filters_now, _FILTERS_FRESH, _put_filters),
    "logging": Kind(_logging_now, [30, 0, {}, []], _put_logging),
    "numpy": Kind(_numpy_now, _NUMPY_FRESH, _put_numpy),
}
"""By the name under which they travel. A worker of another version leaves out what it does not know."""
