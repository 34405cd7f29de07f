"""Marks on functions for the mesh: `vectorized` and `each`; and which exceptions are worth another attempt.

Workers import this file, so it imports almost nothing. Refuses to know how functions travel and run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from stealmesh.returned import is_no_pair, wrong_children
from stealmesh_protocol.unasked import is_a, is_caught_by, name_of, state_of

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__stealmesh_vectorized__"


class Vectorized:
    """A callable that cannot carry the mark itself (a builtin, a ufunc)."""

    __stealmesh_vectorized__ = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.stealmesh_name = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def vectorized(function: F) -> F:
    """Mark a function that takes a whole chunk (a `range`, a list or an array) at once.

    `map` expects as many results as items from it, `map_reduce` one partial result a chunk. A chunk is
    one call, so it cannot be divided when it turns out expensive.
    """
    _must_be_callable("vectorized", function)
    try:
        setattr(function, _MARK, True)
    except (AttributeError, TypeError):
        return Vectorized(function)  # type: ignore[return-value]
    return function


def _must_be_callable(mark: str, function: object) -> None:
    if not callable(function):
        raise TypeError(
            f"stealmesh.{mark}(function) takes a function, not a {name_of(type(function))}"
        )


def is_vectorized(function: Callable[..., Any]) -> bool:
    """Did `vectorized` mark it?"""
    return bool(getattr(function, _MARK, False))


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Is it `async def`? Also a partial of one, and an object with such a `__call__`."""
    while isinstance(function, partial | Star | RetryOn):
        function = function.func if isinstance(function, partial) else function.function
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


class Star:
    """Calls a function with the items of a tuple as its arguments: `map` over several iterables."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.stealmesh_name = getattr(function, "__qualname__", type(function).__name__)

    def __call__(self, args: tuple[Any, ...]) -> Any:
        return self.function(*args)


class OneByOne:
    """Calls a `vectorized` function with a chunk of one item: `map` over futures, where each item waits for its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.stealmesh_name = getattr(function, "__qualname__", type(function).__name__)

    def __call__(self, *args: Any) -> Any:
        (result,) = self.function([args[0] if len(args) == 1 else args])
        return result


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that travels as an argument, because it holds futures."""
    return function(*args, **kwargs)


async def call_and_wait(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """`call` for an `async def`."""
    return await function(*args, **kwargs)


def caller_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The one of the two that fits the function."""
    return call_and_wait if is_coroutine(function) else call


def is_caller(function: Callable[..., Any]) -> bool:
    return function is call or function is call_and_wait


class Each:
    """A `visit` made of a function for one item (see `each`). `explore` fills `combine` in."""

    def __init__(
        self,
        expand: Callable[[Any], tuple[Any, Iterable[Any]]],
        combine: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.expand = expand
        self.combine = combine
        self.stealmesh_name = getattr(expand, "__qualname__", type(expand).__name__)

    def __call__(self, bag: list[Any], limit: int) -> tuple[Any, list[Any]]:
        expand, combine = self.expand, self.combine
        assert combine is not None, "explore gives an `each` its combine"
        made: Any = None, ()
        try:
            made = partial, children = expand(bag.pop())
            bag.extend(children)
            while bag and (limit := limit - 1) > 0:
                made = value, children = expand(bag.pop())
                bag.extend(children)
                partial = combine(partial, value)
        except (TypeError, ValueError) as error:
            if is_no_pair(made):
                raise wrong_children(expand, made) from error
            raise  # it is the user's
        return partial, bag


def each(expand: Callable[[Any], tuple[Any, Iterable[Any]]]) -> Each:
    """Make a `visit` for `Mesh.explore` of `expand(item) -> (value, children)`. It visits depth first."""
    _must_be_callable("each", expand)
    return Each(expand)


_WORTH = "__stealmesh_worth__"


class RetryOn:
    """Calls a function, and marks exceptions as worth another attempt or not (`retry_on`).

    The mark goes with the exception object, so it is right no matter who calls the function and how it got
    here.
    """

    def __init__(
        self, function: Callable[..., Any], kinds: tuple[type[BaseException], ...]
    ) -> None:
        self.function = function
        self.kinds = kinds
        self.awaits = is_coroutine(function)
        self.stealmesh_name = getattr(function, "__qualname__", type(function).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            made = self.function(*args, **kwargs)
        except BaseException as error:
            state_of(error)[_WORTH] = is_caught_by(error, self.kinds)
            raise
        return self._awaited(made) if self.awaits else made

    async def _awaited(self, made: Any) -> Any:
        try:
            return await made
        except BaseException as error:
            state_of(error)[_WORTH] = is_caught_by(error, self.kinds)
            raise


def is_worth_another_attempt(error: BaseException) -> bool:
    """What `RetryOn` says; without it, all but what ends programs. Takes the mark off, which is not to travel."""
    return bool(state_of(error).pop(_WORTH, is_a(error, Exception)))
