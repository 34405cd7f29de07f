"""What functions of the user's have to return where that is more than one value.

Decides in which words a task fails whose function returns something else: they name the function, what it
returned, and what is wanted. Python's own words ("'int' object is not iterable") would speak of our code.
Refuses to know how items run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stealmesh_protocol.unasked import is_a, name_of


def called(function: Any) -> str:
    """What people know it by."""
    named = getattr(function, "stealmesh_name", None) or getattr(function, "__qualname__", None)
    return str(named or name_of(type(function)))


def results_of(function: Any, made: Any, expected: int) -> Sequence[Any]:
    """Of a vectorized function: one for each item. Raises TypeError, ValueError."""
    is_array = hasattr(made, "dtype")
    try:
        results: Sequence[Any] = made if is_array else list(made)  # arrays travel as they are
        count = len(results)
    except TypeError as error:
        if not is_array and _can_be_read(made):
            raise  # what reads it is the user's
        raise TypeError(
            f"the vectorized function {called(function)} has to return as many results as it was given "
            f"items ({expected}); it returned {_a(made)}"
        ) from error
    if count != expected:
        raise ValueError(
            f"the vectorized function {called(function)} returned {count} results for a chunk of "
            f"{expected} items; it has to return exactly one for each"
        )
    return results


def visited(visit: Any, made: Any) -> tuple[Any, list[Any]]:
    """Of a `visit`: what the items contributed, and those still to do. Raises TypeError."""
    if is_a(made, tuple) and not is_no_pair(made):
        gained, rest = made
        return gained, rest if type(rest) is list else list(rest)
    raise TypeError(
        f"{called(visit)}(bag, limit) has to return a pair: what the visited items contributed, and the "
        f"list of items still to do; it returned {_a(made)}"
    )


def wrong_children(expand: Any, made: Any) -> TypeError:
    """For what is no pair of an item's value and its children."""
    return TypeError(
        f"{called(expand)}(item) has to return a pair: the item's value, and the list of its children; it "
        f"returned {_a(made)}"
    )


def is_no_pair(made: Any) -> bool:
    """Is this why it cannot be taken apart? A kind of pair of the user's own is not looked into."""
    if is_a(made, (tuple, list)):
        return len(made) != 2 or not _can_be_read(made[1])
    return not _can_be_read(made)


def _can_be_read(made: Any) -> bool:
    """Can it be iterated over, as far as its type says?"""
    kind = type(made)
    return hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")


def _a(made: Any) -> str:
    """Its type; of a tuple also the types in it."""
    name = name_of(type(made))
    if type(made) is tuple and len(made) <= 4:
        name = f"{name} of {', '.join(name_of(type(one)) for one in made) or 'nothing'}"
    return f"a {name}"
