"""Actors: the handle on an object that lives in a process of its own, and the stream of its calls.

A call is an item of an open-ended job, like a submitted task; the method's name comes before its arguments.
The engine has all of them run in order, in one process (ledger/lives.py). Decides when an actor ends: when it
is shut down, or when the program has forgotten its handle, once all its calls are over. Keeps the order of
calls when some of them wait for the results of others: a later call does not overtake them. Refuses to know
where the object lives.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec.structs import replace

from stealmesh import refs
from stealmesh.client.arguments import Options
from stealmesh.client.call_arguments import with_results
from stealmesh.client.held_back import NOT_PLAIN
from stealmesh.client.inputs import Packed, WaitingCall
from stealmesh.client.item_words import ItemWords, words_for
from stealmesh.client.session import ProgramLink
from stealmesh.client.spec_maker import SpecMaker
from stealmesh.client.submit import SubmitStream
from stealmesh.client.submitted import Submitted
from stealmesh.client.telling import tell
from stealmesh.functions import Shipped, holds_futures, name_of
from stealmesh.futures import Future, settle
from stealmesh.host.interrupts import AWAKE_SECONDS
from stealmesh.workers.actor_body import ActorBody
from stealmesh_engine import effects as fx
from stealmesh_engine.events import CloseInput, Event, OpenJob
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.messages import JobKind, JobSpec


class ActorStream(SubmitStream):
    """The calls of one actor, and their futures."""

    named_inputs = False  # its calls keep their order while they wait

    def __init__(
        self,
        link: ProgramLink,
        spec: JobSpec,
        shipped: Shipped | None,
        words: ItemWords | None,
        gone: Callable[[ActorStream], None],
    ) -> None:
        super().__init__(link, spec, shipped, words)
        self._gone = gone
        link.mourners[spec.job] = self.died
        self.deaths: list[str] = []
        self.over = threading.Event()
        """No call is pending, and the object is gone."""
        self.ends = False
        self._order = threading.RLock()
        """Held while a call takes its place in the line."""
        self._line: deque[Future[Any]] = deque()
        """From the first call that waits for an input on: calls in their order."""
        self._ready: dict[Future[Any], Packed] = {}
        """Those in the line that wait for no input of their own any more."""

    # ------------------------------------------------------------ the program's threads

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any] | None:
        """The call's future. None: the actor has ended. Raises MeshClosed."""
        if self.ends:
            return None
        with self._order:
            if not self._line:
                return super().submit(args, kwargs)
            future: Future[Any] = Future(self.link.condition, self)
            try:
                packed, inputs, needs = self._packed_apart(future, args, kwargs)
            except CannotShip as error:
                settle(self.link.condition, self.link.tell, [(future, None, error)])
                try:
                    return future
                finally:
                    del future  # the error has this frame
            if needs:
                self._needs[future] = refs.grips_of(needs), needs
            if not inputs:
                self._ready[future] = packed
            self._hold_back(WaitingCall(self, future, packed, inputs))
        self._advance()
        return future

    def end(self) -> None:
        """No more calls. What is pending is finished, then the object goes. In any thread, also while the
        interpreter collects garbage: it takes no lock."""
        self.ends = True
        if self.link.failure is None:
            self.link.call_later(self._close_when_idle)

    # ------------------------------------------------------------ calls that wait for others

    def _hold_back(self, call: WaitingCall) -> Future[Any] | None:
        self._line.append(call.future)
        return super()._hold_back(call)

    def complete(self, call: WaitingCall) -> None:
        packed = self._with_inputs(call)
        if packed is not None:
            self._ready[call.future] = packed
            self._advance()

    def fail(self, call: WaitingCall, error: BaseException) -> None:
        super().fail(call, error)
        self._advance()

    def cancelled(self, future: Future[Any]) -> None:
        super().cancelled(future)
        if self._line:
            self._advance()

    def _advance(self) -> None:
        """Calls at the front of the line that need not wait go on."""
        with self._order:
            while self._line:
                future = self._line[0]
                call = self._held_back.get(future)
                if call is not None:
                    packed = self._ready.get(future)
                    if packed is None:
                        break
                    # It waits in one of the two at every moment, so the stream is not idle in between.
                    self._waiting.append((future, NOT_PLAIN, packed))
                    self._release(call)
                self._ready.pop(future, None)
                self._line.popleft()
        if self.link.failure is not None:
            self.broken(self.link.failure)
        else:
            self.link.feed_later(self)

    # ------------------------------------------------------------ the driver's thread

    def died(self, effect: fx.LifeEnded) -> None:
        self.deaths = effect.deaths
        if not effect.dead:
            tell(
                f"the actor {self.spec.name} has lost its state and is made again: {self.deaths[-1]}"
            )

    def feed(self) -> list[Event]:
        return super().feed() + self._close_when_idle()

    def done(self) -> None:
        super().done()
        self._leave()

    def call_off(self) -> None:
        """The object goes, too."""
        super().call_off()
        self.end()

    def broken(self, error: BaseException) -> None:
        super().broken(error)
        self._leave()

    def _close_when_idle(self) -> list[Event]:
        """After the last call is fed, the job may end: it does when all its calls are over."""
        if not self.ends or self.closed or self._waiting or self._held_back:
            return []
        self.closed = True
        if self._waiting or self._held_back:  # a call came at this very moment
            self.closed = False
            return []
        return [CloseInput(self.spec.job)]

    def _leave(self) -> None:
        self.over.set()
        self.link.mourners.pop(self.spec.job, None)
        self._gone(self)


class ActorMethod:
    """A method of an actor: called, it returns a future."""

    __slots__ = ("_actor", "_name")

    def __init__(self, actor: Actor, name: str) -> None:
        self._actor = actor
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._actor._call(self._name, args, kwargs)

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._actor!r}>"


class Actor:
    """The handle on one object that lives in a process of its own: `mesh.actor(cls, ...)` makes it.

    Its methods are those of the object. Each call returns a future; calls run one after the other, in the order
    in which they were made. A method that has the name of one of the handle's own is `handle.method(name)`.
    """

    def __init__(
        self, submitter: Any, submitted: Submitted | None, stream: ActorStream, cls: type
    ) -> None:
        self._submitter = submitter
        """Kept, because a mesh that the program drops ends."""
        self._submitted = submitted
        self._stream = stream
        self._cls = cls
        weakref.finalize(self, stream.end).atexit = False

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_"):
            raise AttributeError(f"an actor's handle has no {name}: it calls public methods only")
        return self.method(name)

    def method(self, name: str) -> ActorMethod:
        """The method with this name. Raises AttributeError."""
        cls = self._cls
        found = inspect.getattr_static(cls, name, None)
        if found is None and not hasattr(cls, "__getattr__"):
            raise AttributeError(
                f"{cls.__qualname__} has no method {name!r}. The attributes of an actor's object are in "
                "another process: write a method that returns what you need"
            )
        if found is not None and not callable(found) and not isinstance(found, _WRAPPED):
            raise AttributeError(
                f"{name!r} of {cls.__qualname__} is no method. The attributes of an actor's object are "
                "in another process: write a method that returns what you need"
            )
        return ActorMethod(self, name)

    @property
    def deaths(self) -> list[str]:
        """How the object's lives have ended so far, the last one at the end."""
        return list(self._stream.deaths)

    def shutdown(self, wait: bool = True) -> None:
        """No more calls; those that are pending are finished (and waited for), then the object's process
        ends. Idempotent."""
        self._stream.end()
        if wait:
            while not self._stream.over.wait(AWAKE_SECONDS):
                pass  # Ctrl-C is looked for in between

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.shutdown(wait=kind is None or issubclass(kind, Exception))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an actor's handle cannot be sent to a task or to another actor: it belongs to the program "
            "that made it. Pass what its methods return: their futures are inputs of other calls"
        )

    def __repr__(self) -> str:
        state = "ended" if self._stream.ends else "open"
        return f"<stealmesh.Actor {self._stream.spec.name}, {state}>"

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        assert self._submitted is not None, "a task's actor has calls of its own kind"
        self._submitted.must_be_open()
        future = self._stream.submit((name, *args), kwargs)
        if future is None:
            raise RuntimeError(f"cannot call {name}: the actor has been shut down")
        return future


_WRAPPED = (staticmethod, classmethod)


def refuse_settings(options: Options) -> None:
    """Raises ValueError for settings that an actor cannot have."""
    if options.durable:
        raise ValueError("durable: an actor ends with its program")
    if options.speculate:
        raise ValueError("speculate: an actor's calls run in one place")
    if options.max_parallel:
        raise ValueError("max_parallel: an actor runs one call at a time")


def make_actor(
    submitter: Any,
    submitted: Submitted,
    maker: SpecMaker,
    options: Options,
    cls: type[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Actor:
    """Raises TypeError, ValueError, CannotShip, and what a future among the arguments raises."""
    if not isinstance(cls, type):
        raise TypeError(f"actor: a class is needed, not {type(cls).__qualname__}")
    refuse_settings(options)
    maker.refuses("actor", "register functions, and give each call the state that it needs")
    name = options.name or name_of(cls)
    try:
        stream = _open_stream(submitted, maker, options, ActorBody(cls, args, kwargs, name))
    except CannotShip as error:
        if not holds_futures(error):
            raise
        # The object may have to be made again when nobody has these results any more, so it keeps them.
        args, kwargs = with_results((args, kwargs), name)
        stream = _open_stream(submitted, maker, options, ActorBody(cls, args, kwargs, name))
    return Actor(submitter, submitted, stream, cls)


def _open_stream(
    submitted: Submitted, maker: SpecMaker, options: Options, body: ActorBody
) -> ActorStream:
    """The stream of the calls of one new actor. Raises CannotShip."""
    link, streams = submitted.link, submitted.streams
    with submitted.lock:
        submitted.must_be_open()
        shipped = maker.ship(options, body)
        spec = maker.spec(JobKind.SUBMIT, options, shipped, body)
        spec = replace(
            spec, life=1, restarts=options.restarts, chunk_items=options.chunksize or 0, together=0
        )
        words = words_for(link.user_threads, options.report)
        stream = ActorStream(link, spec, shipped, words, lambda it: streams.actors.pop(it, None))
        streams.actors[stream] = None
        functions = {shipped.digest: shipped.blob}
        link.open(spec.job, stream, OpenJob(spec, open_ended=True, functions=functions))
    return stream
