"""Which job a submitted call belongs to, and how long that job lives.

A function that is used again has a stream (a job) of its own: its code travels once, and the engine
learns what a call costs. A program that makes a new function for every call (a lambda in a loop, a
partial for each item) would open a job for each, so those calls share one stream, in which the function
travels with its arguments. The first few functions always have streams of their own, so that ordinary
programs see the name of their function in `status` and in errors.

A stream is closed when all its calls are over and no new one came for half a second. Client, node and
worker then drop its function. Refuses to know how calls travel (`submit.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from stealmesh.client.item_words import ItemWords, words_for
from stealmesh.client.session import ProgramLink
from stealmesh.client.submit import SubmitStream
from stealmesh.functions import Shipped, Shipper
from stealmesh_engine.events import CloseInput, Event, OpenJob
from stealmesh_protocol.ids import Digest, digest_of
from stealmesh_protocol.messages import JobSpec

OWN_STREAMS = 16
"""How many functions have a stream of their own from their first call on."""
REMEMBERED = 4096
"""How many digests of other functions are remembered: one that comes back gets a stream of its own."""

CARRIED = b"cstealmesh.workers.run\ncall_carried\n."
"""The pickle of the function that calls a function from its arguments. Written by hand, so that the
client need not import it."""
_CARRIED_DIGEST = digest_of(CARRIED)


class Streams:
    """The open streams of one mesh. `own` and `shared` are called under its lock."""

    def __init__(self, link: ProgramLink, shipper: Shipper, lock: threading.Lock) -> None:
        self._link = link
        self._shipper = shipper
        self._lock = lock
        self.last: tuple[Any, Any, SubmitStream, Shipped] | None = None
        """Function, options, stream and shipped code of the last call; the next is probably like it."""
        self._own: dict[tuple[Any, ...], SubmitStream] = {}
        self._shared: dict[tuple[Any, ...], SubmitStream] = {}
        self.actors: dict[SubmitStream, None] = {}
        """The calls of each actor."""
        self._seen: OrderedDict[Digest, None] = OrderedDict()
        link.tidy = self.tidy

    def __iter__(self) -> Iterator[SubmitStream]:
        """All of them, as they are now."""
        return iter([*self._own.values(), *self._shared.values(), *self.actors])

    def own(
        self, options: Any, shipped: Shipped, make_spec: Callable[[], JobSpec]
    ) -> SubmitStream | None:
        """The function's own stream; None if its calls belong in the shared one."""
        key = (shipped.digest, options)
        stream = self._own.get(key)
        if stream is not None:
            return stream
        # What calls of one function must not do at once, calls of others may do beside it.
        may_share = len(self._own) >= OWN_STREAMS and not options.max_parallel and not shipped.needs
        may_share = may_share and not self._shipper.by_name
        if may_share and not self._comes_back(shipped.digest):
            return None
        stream = self._own[key] = SubmitStream(
            self._link, make_spec(), shipped, self._words(options)
        )
        self._open(stream, {shipped.digest: shipped.blob}, options)
        return stream

    def shared(self, options: Any, spec: JobSpec) -> SubmitStream:
        """The stream for functions that are used once and need the same modules as this one. The first
        argument of its calls is the pickled function."""
        key = (options, spec.runtime, spec.code, spec.together)
        stream = self._shared.get(key)
        if stream is None:
            spec = replace(
                spec, function=_CARRIED_DIGEST, name=options.name or "functions used once"
            )
            stream = self._shared[key] = SubmitStream(self._link, spec, words=self._words(options))
            self._open(stream, {spec.function: CARRIED}, options)
        return stream

    def tidy(self) -> list[Event]:
        """Close idle streams. Called in the driver's thread, which does not wait for the lock."""
        if not self._lock.acquire(blocking=False):
            return []
        unused: list[Any] = self._shipper.tidy()
        try:
            closed = self._rest(self._own) + self._rest(self._shared)
            if self.last is not None and self.last[2].closed:
                unused.append(self.last)
                self.last = None
            unused += [stream.let_go() for stream in closed]
            return [CloseInput(stream.spec.job) for stream in closed]
        finally:
            self._lock.release()
            if unused:
                # Dropping a function may run finalizers, which are the user's code.
                self._link.user_threads.run(unused.clear)

    def _rest(self, streams: dict[tuple[Any, ...], SubmitStream]) -> list[SubmitStream]:
        closed = [key for key, stream in streams.items() if stream.rest()]
        return [streams.pop(key) for key in closed]

    def _words(self, options: Any) -> ItemWords | None:
        return words_for(self._link.user_threads, options.report)

    def _open(self, stream: SubmitStream, functions: dict[Digest, bytes], options: Any) -> None:
        spec = stream.spec
        stream.named_inputs = not options.speculate
        event = OpenJob(spec, open_ended=True, functions=functions, speculate=options.speculate)
        self._link.open(spec.job, stream, event)

    def _comes_back(self, digest: Digest) -> bool:
        if digest in self._seen:
            del self._seen[digest]
            return True
        self._seen[digest] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False
