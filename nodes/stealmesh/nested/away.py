"""Children that other workers run: this process becomes a client of its mesh, and submits them.

When its node says that others have nothing to do, the oldest child that has not begun goes, as an ordinary
task of this client. So its results count once, and the death of this process ends what it has submitted. The
client joins with the first child, in a thread of its own, and leaves when none has been away for a while.

Decides which children may leave, and when one that has not begun comes back. Refuses to know who waits for it
(`family.py`) and where it runs. A child that cannot be packed stays.

Ideas: lazy task creation (Mohr, Kranz, Halstead 1990): the oldest task is the one to give away, because it is
probably the largest.
"""

# ruff: noqa: BLE001 - packing and opening run the user's code, which may raise anything.

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from stealmesh.nested.inputs import call_with_values
from stealmesh.nested.threads import STACK_OCTETS, start_thread
from stealmesh.refs import Ref
from stealmesh.workers import wire
from stealmesh.workers.printing import HERE
from stealmesh_protocol import whole
from stealmesh_protocol.errors import CannotShip, MeshError
from stealmesh_protocol.limits import REFS_ONLY
from stealmesh_protocol.unasked import is_a

if TYPE_CHECKING:
    from stealmesh.client.session import ProgramLink
    from stealmesh.client.submit import SubmitStream
    from stealmesh.nested.child import ChildFuture
    from stealmesh.refs import Grip
    from stealmesh.workers.nesting import Luggage
    from stealmesh_protocol.ids import ValueId

LATE_SECONDS = 0.05
"""A child that has not begun after so long may be taken back."""
ASK_NODES_MAX = 16
"""In a mesh of at most this size the nodes are asked what they run, before a child is taken back."""
LATE_UNASKED_SECONDS = 0.3
"""In a larger one a child is taken back that has not begun after so long, as far as nodes have said by
themselves; they say it after 50 ms."""
ASK_SECONDS_MAX = 1.0
"""How long to wait for the nodes' word on what they run."""
IDLE_SECONDS = 5.0
"""A client that has had no child away for so long leaves the mesh."""
AGAIN_SECONDS = 10.0
"""After a join that failed."""
LOOK_SECONDS = 0.5
OURS = "stealmesh.nested"
CO_COROUTINE = 0x80
"""As in `inspect`, which is large."""


class ChildHome(Protocol):
    """Where a child comes from (`family.Family`)."""

    def give(self) -> ChildFuture | None:
        """The oldest child that has not begun and may leave; it is away from now on."""

    def came(self, child: ChildFuture, away: Away, value: Any, error: BaseException | None) -> None:
        """It is over elsewhere."""

    def stays(self, child: ChildFuture, away: Away) -> None:
        """It has not begun elsewhere, and does not leave again."""

    def have_run(self, child: ChildFuture) -> None:
        """In another thread, soon."""


class Away:
    """One child that is elsewhere, or on its way."""

    __slots__ = ("_client", "_future", "_late_seconds", "has_helper", "since")

    def __init__(self) -> None:
        self.since = monotonic()
        self.has_helper = False
        """A thread waits for this child and may take it back."""
        self._future: Any = None
        self._client: Client | None = None
        self._late_seconds = LATE_SECONDS

    def goes(self, future: Any, client: Client) -> None:
        self._late_seconds = LATE_SECONDS if client.may_ask else LATE_UNASKED_SECONDS
        self._client, self._future = client, future

    def is_over(self) -> None:
        """The future knows us, and keeps what came: do not keep it."""
        self._future = None

    def is_late(self) -> bool:
        """Should it have begun by now?"""
        future = self._future
        return (
            future is not None
            and not future.running()
            and monotonic() - self.since >= self._late_seconds
        )

    def withdraw(self) -> bool:
        """Cancel it, unless a worker has begun it, as far as nodes know. True: it will not count there."""
        future, client = self._future, self._client
        if future is None or client is None:
            return False
        if client.may_ask:
            client.hear_what_runs()
        return bool(future.cancel())


def may_leave(child: ChildFuture) -> bool:
    """Is it a plain call of the user's? What waits for inputs, has attempts, reports or is a coroutine stays."""
    call = child.call
    if call is None or child.stays or child.report is not None:
        return False
    if call[0] is call_with_values:
        call = call[1]  # elsewhere, the values are put in their places as for any call
    if getattr(getattr(call[0], "__code__", None), "co_flags", 0) & CO_COROUTINE:
        return False
    return not str(getattr(call[0], "__module__", OURS)).startswith(OURS)


class Client:
    """A client of the mesh in a worker."""

    def __init__(self, door: bytes) -> None:
        """Joins. Raises MeshError, OSError."""
        sender = whole.sender()
        from stealmesh.functions import name_of
        from stealmesh.host.guest_key import GuestKey
        from stealmesh.host.lifetime import Lifetime
        from stealmesh_engine.config import Config

        whole.send_with(sender)  # importing them has changed how values travel
        self._name_of = name_of
        endpoints, key = wire.unpack(door)
        token = GuestKey.unpacked(key)
        assert token is not None, "our node has made it"
        self._life = Lifetime(self, token, Config())
        self._streams: dict[bytes, SubmitStream] = {}
        """By the function of the parents' chunk."""
        self._lock = threading.Lock()
        self._packs = threading.RLock()
        """Held while something that leaves is packed."""
        self._counts = threading.Lock()
        self.used_at = monotonic()
        self.away = 0
        """Children that are elsewhere."""
        self.actors = 0
        """Those that are not over."""
        self._life.link.tidy = self._tidy
        self._life.link.values.is_a_tasks = True
        self._names: WeakKeyDictionary[Grip, dict[int | None, Ref[Any]]] = WeakKeyDictionary()
        """Values of other homes in this process that have left with children, as long as they live there."""
        self._kept: list[Grip] = []
        self._programs: WeakValueDictionary[tuple[ValueId, int | None], Grip] = (
            WeakValueDictionary()
        )
        """Values that were given to our tasks, by their names: what children that are away need of them."""
        try:
            self._life.join(endpoints)
        except BaseException:
            self.close()
            raise

    @property
    def broken(self) -> bool:
        return self._life.link.failure is not None

    @property
    def may_ask(self) -> bool:
        driver = self._life.driver
        return driver is not None and driver.consult(lambda core: core.view.size) <= ASK_NODES_MAX

    def close(self) -> None:
        """The values of Refs that children have returned come here first."""
        from stealmesh_protocol.errors import MeshClosed

        if not self.broken:
            self._life.link.values.bring_all(hurried=False)
        self._life.close(MeshClosed("this worker has no child elsewhere"))

    # ------------------------------------------------------------ children

    def submit(self, home: ChildHome, child: ChildFuture, luggage: Luggage) -> None:
        """Send this child, which is away already. If that fails it stays."""
        away: Away = child.away
        try:
            assert child.call is not None, "it has not begun"
            fn, args, kwargs = child.call
            if fn is call_with_values:
                fn, args, kwargs = args
            with self.keeps_values(), self._lock:
                future = self._stream(luggage, fn).submit((fn, *args), kwargs)
                self.used_at = monotonic()
            if future is None or (future.done() and is_a(future.exception(), CannotShip)):
                raise CannotShip("it has to stay")
        except BaseException:
            self._stays(home, child, away)
            return
        self.away += 1
        away.goes(future, self)
        future.add_done_callback(partial(self._over, home, child, away))

    @contextlib.contextmanager
    def keeps_values(self) -> Iterator[None]:
        """Around the packing of something that leaves: what it needs of the program's values is kept until the call
        keeps it itself."""
        with self._packs:
            try:
                yield
            finally:
                self._kept.clear()

    @property
    def link(self) -> ProgramLink:
        return self._life.link

    def lets_go(self, actor: object) -> None:
        """This actor is over."""
        del actor
        with self._counts:
            self.actors -= 1
            self.used_at = monotonic()

    def holds(self) -> None:
        """An actor is made."""
        with self._counts:
            self.actors += 1

    def leaves(self, ref: Ref[Any]) -> Ref[Any]:
        """A Ref goes with a child: the name under which this client has its value. A guest of the mesh speaks of its
        own values only, so those of the program get such a name, too. Raises ValueLost, StoreFull, OSError."""
        grip, values = ref.grip, self._life.link.values
        if grip is not None and grip.home is values:
            return ref
        with self._packs:
            if grip is None:
                name = ref.value, ref.place
                ours = self._programs.get(name)
                if ours is None:
                    ours = values.put(ref.packed_octets()).grip
                    assert ours is not None, "its home has just made it"
                    self._programs[name] = ours
                self._kept.append(ours)
                return Ref(ours.value, ours.octets, ours)
            known = self._names.setdefault(grip, {})
            if ref.place not in known:
                known[ref.place] = values.put(ref.packed_octets())
            return known[ref.place]

    def hear_what_runs(self) -> None:
        """Ask the nodes which of our children their workers have begun: their futures know it then."""
        with contextlib.suppress(TimeoutError, MeshError):
            self._life.link.ask_status().result(timeout=ASK_SECONDS_MAX)

    # ------------------------------------------------------------ inside

    def _over(self, home: ChildHome, child: ChildFuture, away: Away, future: Any) -> None:
        """In a thread that the client keeps for this."""
        self.away -= 1
        self.used_at = monotonic()
        away.is_over()
        if future.cancelled():
            return  # it was taken back
        error = future.exception()
        if is_a(error, MeshError) and self.broken:
            self._stays(home, child, away)
            return
        home.came(child, away, future.result() if error is None else None, error)

    def _stays(self, home: ChildHome, child: ChildFuture, away: Away) -> None:
        home.stays(child, away)
        if away.has_helper or child._watchers or child._done_callbacks:
            home.have_run(child)

    def _stream(self, luggage: Luggage, fn: Any) -> SubmitStream:
        from stealmesh.client.arguments import fitting_name
        from stealmesh.client.submit import SubmitStream
        from stealmesh.host.identity import runtime
        from stealmesh.shipping.bundle import Bundle
        from stealmesh_engine.events import OpenJob
        from stealmesh_protocol.ids import digest_of
        from stealmesh_protocol.messages import JobKind, JobSpec, Output

        stream = self._streams.get(luggage.outer)
        if stream is not None and not stream.closed:
            return stream
        function = luggage.function()
        digest = digest_of(function)
        link = self._life.link
        if luggage.code:
            link.carries(Bundle(luggage.code, luggage.bundle))
        spec = JobSpec(
            job=link.new_job_id(),
            kind=JobKind.SUBMIT,
            owner=link.me,
            name=fitting_name(self._name_of(fn)),
            function=digest,
            runtime=runtime(),
            code=luggage.code,
            chunk_items=1,
            output=Output(HERE.mode),  # it comes here, and goes where ours does
            stays_from=REFS_ONLY,
        )
        stream = self._streams[luggage.outer] = SubmitStream(link, spec)
        stream.leaves = self.leaves
        link.open(spec.job, stream, OpenJob(spec, open_ended=True, functions={digest: function}))
        return stream

    def _tidy(self) -> list[Any]:
        """Close idle streams. Called in the driver's thread, which does not wait for the lock."""
        from stealmesh_engine.events import CloseInput

        if not self._lock.acquire(blocking=False):
            return []
        try:
            closed = [key for key, stream in self._streams.items() if stream.rest()]
            return [CloseInput(self._streams.pop(key).spec.job) for key in closed]
        finally:
            self._lock.release()

    # ------------------------------------------------------------ as what a lifetime serves

    def end_with_program(self) -> None:
        self.close()

    def disown(self, error: MeshError) -> None:
        """In a forked child nobody asks us."""


class ClientKeeper:
    """Keeps one client of this worker while a child needs one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._joins_from = 0.0
        """Not before; infinite while a thread joins, or looks after the client."""
        self._waiting: list[SimpleQueue[Client | BaseException]] = []
        """Who waits until the thread has joined."""

    def wanted(self, home: ChildHome, luggage: Luggage, door: bytes) -> None:
        """A child of this family is wanted elsewhere. Called by the listener's thread."""
        with self._lock:
            client = self._client
            if client is None:
                if monotonic() < self._joins_from:
                    return
                self._joins_from = float("inf")
        if client is not None:
            self._send(client, home, luggage)
            return
        try:
            start_thread(partial(self._work, home, luggage, door), STACK_OCTETS)
        except RuntimeError:
            self._joins_from = monotonic() + AGAIN_SECONDS  # no thread to be had

    def for_an_actor(self, door: bytes) -> Client:
        """The client, which stays until `lets_go`. Called by a thread of a task. Raises MeshError, OSError."""
        answer: SimpleQueue[Client | BaseException] = SimpleQueue()
        with self._lock:
            client, joins = self._client, self._joins_from == float("inf")
            if client is not None:
                client.holds()
                return client
            self._joins_from = float("inf")
            self._waiting.append(answer)
        if not joins:
            start_thread(partial(self._work, None, None, door), STACK_OCTETS)
        found = answer.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def _tell(self, found: Client | BaseException) -> None:
        """With the lock: those that wait."""
        for answer in self._waiting:
            if isinstance(found, Client):
                found.holds()
            answer.put(found)
        self._waiting = []

    def forget(self) -> None:
        """In a forked child: it is no worker."""
        self._lock = threading.Lock()
        self._client, self._joins_from = None, float("inf")

    # ------------------------------------------------------------ a thread of its own

    def _work(self, home: ChildHome | None, luggage: Luggage | None, door: bytes) -> None:
        """Join, send the first child (if there is one), and leave when nothing has been away for a while."""
        try:
            client = Client(door)
        except (MeshError, OSError) as error:
            with self._lock:
                self._joins_from = monotonic() + AGAIN_SECONDS  # children stay here meanwhile
                self._tell(error)
            return
        with self._lock:
            self._client = client
            self._tell(client)
        if home is not None and luggage is not None:
            self._send(client, home, luggage)
        del home, luggage  # the chunk may end before us
        while True:
            sleep(LOOK_SECONDS)
            with self._lock:
                idle = (
                    not client.away
                    and not client.actors
                    and monotonic() - client.used_at > IDLE_SECONDS
                )
                if idle or client.broken:
                    self._client, self._joins_from = None, monotonic()
                    break
        client.close()

    def _send(self, client: Client, home: ChildHome, luggage: Luggage) -> None:
        child = home.give()
        if child is not None:
            client.submit(home, child, luggage)


AWAY = ClientKeeper()
os.register_at_fork(after_in_child=AWAY.forget)
