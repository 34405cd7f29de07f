"""Single calls: from a function and its arguments to the stream that carries the call.

Decides which stream that is: the function's own, the one that functions of a single call share, a durable job,
or, for a function that holds futures, a stream in which functions are arguments. Refuses to know how a stream
sends its calls (`submit.py`) and what the program may set (`arguments.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from stealmesh.client.arguments import Options, fitting_name, refuse_report
from stealmesh.client.durable_call import durable_call
from stealmesh.client.spec_maker import SpecMaker
from stealmesh.client.submitted import Submitted
from stealmesh.functions import Shipped, holds_futures, name_of
from stealmesh.futures import Future
from stealmesh.tasks import caller_of, is_caller
from stealmesh_protocol.errors import CannotShip, NotRegistered
from stealmesh_protocol.messages import JobKind, JobSpec

T = TypeVar("T")


class LoneCalls:
    """The single calls of a mesh with certain options."""

    def __init__(
        self, submitted: Submitted, maker: SpecMaker, options: Options, inline_octets: int
    ) -> None:
        """`inline_octets`: larger results stay on the node that made them."""
        self._submitted = submitted
        self._maker = maker
        self._options = options
        self._inline_octets = inline_octets

    def submit(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[T]:
        """The call of another function than the last one, or of one that has changed."""
        with self._submitted.lock:
            self._submitted.must_be_open()
            try:
                shipped = self._maker.ship(self._options, fn)
            except (CannotShip, NotRegistered) as error:
                if is_caller(fn) or not holds_futures(error):
                    return self._failed(error)
            else:
                return self._submit_shipped(shipped, fn, args, kwargs)
        return self._submit_as_an_argument(fn, args, kwargs)

    def _failed(self, error: Exception) -> Future[T]:
        """Not in the frame in which the error was raised: that would keep the future, and this the error."""
        future: Future[T] = Future(self._submitted.link.condition)
        future.set_exception(error)
        return future

    def _submit_shipped(
        self,
        shipped: Shipped,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        options = self._options
        if options.durable:
            return self._submit_durably(shipped, fn, args, kwargs)

        def make_spec() -> JobSpec:
            stays_from = 1 if options.keep else self._inline_octets + 1
            return self._maker.spec(JobKind.SUBMIT, options, shipped, fn, stays_from=stays_from)

        stream = self._submitted.streams.own(options, shipped, make_spec)
        if stream is None:
            stream = self._submitted.streams.shared(options, make_spec())
            args = (shipped.blob, *args)
        else:
            self._submitted.streams.last = (fn, options, stream, shipped)
        future: Future[T] | None = stream.submit(args, kwargs)
        assert future is not None, "streams are closed under the lock only"
        try:
            return future
        finally:
            del future  # an error of this call has this frame, and the future has the error

    def _submit_as_an_argument(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[T]:
        """The call of a function that holds futures: it waits for them as for any other argument.

        A function goes once to each worker, and what its futures will be belongs to one call.
        """
        named = dataclasses.replace(
            self._options, name=self._options.name or fitting_name(name_of(fn))
        )
        calls = LoneCalls(self._submitted, self._maker, named, self._inline_octets)
        return calls.submit(caller_of(fn), (fn, *args), kwargs)

    def _submit_durably(
        self,
        shipped: Shipped,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        refuse_report(self._options)
        if self._options.report_file:
            raise ValueError(
                "report: each durable call is a job of its own; `stealmesh report` tells the story of one"
            )
        if self._options.max_parallel:
            raise ValueError(
                "max_parallel: each durable call is a job of its own; launch() makes one job of many items"
            )
        spec = self._maker.spec(JobKind.SUBMIT, self._options, shipped, fn)
        call, begin = durable_call(self._submitted.link, spec, shipped, args, kwargs)
        self._submitted.enter_call(call)
        begin()
        return call.future
