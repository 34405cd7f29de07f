"""ProgramLink: stands between the program's threads and the driver's. Events go down, effects come up.

Knows the open jobs of this program by id and passes each effect to the right one. The driver's thread
runs only short code here and never the user's: callbacks and combiners run in the program's own threads
(`user_threads`), and the thread that asks for a result opens it. Refuses to know the kinds of jobs
(`contracts` says what each of them owes the link).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from stealmesh.client.cancelling import together
from stealmesh.client.contracts import ClientJob, DurableHandle, TaskStream
from stealmesh.client.looking import Looking
from stealmesh.client.needs import Needs
from stealmesh.client.own_values import OwnValues
from stealmesh.client.printer import UNDER_WAY_SECONDS, Printer
from stealmesh.client.shape import Shape
from stealmesh.client.telling import tell, waits
from stealmesh.client.user_threads import UserThreads
from stealmesh.futures import Future
from stealmesh.host.interrupts import no_interrupts, shared_condition
from stealmesh.host.refusals import FINAL_CODES, refusal
from stealmesh.values.room import Room
from stealmesh_engine import effects as fx
from stealmesh_engine.events import (
    AskJournals,
    AskOutput,
    AskStatus,
    CancelJob,
    Event,
    OpenJob,
)
from stealmesh_engine.status import merge_status
from stealmesh_protocol.errors import MeshClosed, MeshError
from stealmesh_protocol.ids import Digest, JobId, PeerId, job_id

if TYPE_CHECKING:
    from stealmesh.refs import Grip
    from stealmesh.shipping.bundle import Bundle

BUNDLES_KEPT = 16
ROUNDS = 16
"""Of feeding streams that wait for each other's numbers, before the driver looks at anything else."""
TIDY_SECONDS = 0.5
STATUS_SECONDS_MAX = 5.0
OUTPUT_SECONDS_MAX = 1.0


class ProgramLink:
    """The program as the driver sees it."""

    def __init__(self, me: PeerId, room: Room | None = None) -> None:
        self.me = me
        self.condition = shared_condition()
        """Shared by all futures of this program."""
        self.jobs: dict[JobId, ClientJob] = {}
        self.durable: dict[JobId, DurableHandle] = {}
        """Handles on jobs that live in the mesh."""
        self.mourners: dict[JobId, Callable[[fx.LifeEnded], None]] = {}
        """What is called when a life of an actor has ended."""
        self.wake: Callable[[], None] = lambda: None
        self.act: Callable[[], None] = lambda: None
        """`host/lifetime.py` sets both when the driver exists. `wake`: have `pull` called soon; `act`:
        have it called in this thread if the driver sleeps."""
        self.ways: Mapping[JobId, Any] = {}
        """Jobs with a hired worker."""
        self.hand: Callable[[JobId, Callable[[], Event | None]], bool] = lambda job, feed: False
        """Feeds a single call at once, if a hired worker is free for it."""
        self.attend: Callable[[JobId, int, Callable[[], bool], float], None] | None = None
        """Waits for the answer of a hired worker. `host/lifetime.py` sets all three."""
        self.tidy: Callable[[], list[Event]] = list
        """`Streams` sets it: closes idle streams. Called every TIDY_SECONDS in the driver's thread."""
        self.joined: Future[None] = Future()
        self.left = threading.Event()
        self.failure: BaseException | None = None
        """Why the mesh is of no use any more; None while it works."""
        self.dropped = 0
        """How many results came for futures that were over already."""
        self._bundles: dict[Digest, bytes] = {}
        """The program's modules as the latest jobs need them, by digest."""
        self._numbers = count(1)
        self._nonces = count(1)
        self._events: deque[Event] = deque()
        self.hungry: dict[TaskStream, None] = {}
        """Streams with calls that the driver's thread must pack, the longest waiting first. A stream
        enters itself after its call: Ctrl-C in between loses no call of another thread."""
        self.shape = Shape()
        """Of what waits in the core."""
        self.held_up = False
        """A stream has fed less than it could, as another has to feed first."""
        self._calls: deque[Callable[[], list[Event]]] = deque()
        self._inquiries: dict[int, Future[list[dict[str, Any]]]] = {}
        self.looking = Looking(self.post, self.condition, self._nonces)
        self._journal_rounds: dict[int, Future[fx.JournalsReady]] = {}
        self.values = OwnValues(me, self.post, room)
        self.needs = Needs()
        self._wanted_output: dict[tuple[JobId, int], Future[tuple[bytes, int]]] = {}
        self.printer = Printer()
        self.wants_story: Callable[[JobId, str], None] = lambda job, path: None
        self.job_over: Callable[[JobId, str], None] = lambda job, name: None
        """`host/lifetime.py` sets both. The first hears where the story of a job is to be written, the second which
        jobs have ended."""
        self.user_threads = UserThreads()
        self.tell = self.user_threads.run_all
        """Has callbacks called, in a thread of the program's."""
        self._tidy_at = 0.0

    # ------------------------------------------------------------ the program's threads

    def new_job_id(self) -> JobId:
        return job_id(self.me, next(self._numbers))

    def carries(self, bundle: Bundle) -> Digest:
        """Jobs that are opened from now on may need this bundle; returns its name."""
        self._bundles[bundle.digest] = bundle.blob
        while len(self._bundles) > BUNDLES_KEPT:
            self._bundles.pop(next(iter(self._bundles)))
        return bundle.digest

    def open(self, job: JobId, handler: ClientJob, *events: Event) -> None:
        """Register a job and tell the core of it."""
        self.must_work()
        for event in events:
            if isinstance(event, OpenJob) and event.spec.code:
                event.functions[event.spec.code] = self._bundles[event.spec.code]
            if isinstance(event, OpenJob) and event.spec.needs:
                self.needs.hold_all(job, event.spec.needs)
        # The program would wait for ever for a job that the core does not know.
        with no_interrupts():
            self.jobs[job] = handler
            self.post(*events)

    def follow(self, job: JobId, handle: DurableHandle, *events: Event) -> None:
        """Register a handle on a durable job and tell the core of it."""
        self.must_work()
        with no_interrupts():
            self.durable[job] = handle
            self.post(*events)

    def post(self, *events: Event) -> None:
        self._events.extend(events)
        self.wake()

    def call_later(self, call: Callable[[], list[Event]]) -> None:
        """Have `call` made in the driver's thread, soon; it returns events."""
        self._calls.append(call)
        self.wake()

    def feed_later(self, stream: TaskStream) -> None:
        """Have the stream's tasks packed in the driver's thread, soon."""
        self.hungry[stream] = None
        self.wake()

    def feed_now(self, stream: TaskStream) -> None:
        """The same, in this thread if the driver sleeps: the quickest way for a lone task."""
        self.hungry[stream] = None
        self.act()

    def cancel(self, job: JobId, *, stop: bool = False) -> None:
        """`stop`: its running tasks, too."""
        if job in self.jobs:
            self.post(CancelJob(job, stop))

    def ask_status(self) -> Future[list[dict[str, Any]]]:
        """The snapshots of this peer and of every node it talks to."""
        future: Future[list[dict[str, Any]]] = Future(self.condition)
        nonce = next(self._nonces)
        self._enter(self._inquiries, nonce, future)
        self.post(AskStatus(nonce))
        return future

    def ask_output(self, job: JobId, item: int) -> Future[tuple[bytes, int]]:
        """What an item of a durable job has printed, and how many lines are missing. Perhaps no answer comes."""
        with self.condition:
            future = self._wanted_output.get((job, item))
            if future is None or future.done():
                future = Future(self.condition)
                self._enter(self._wanted_output, (job, item), future)
        self.post(AskOutput(job, item))
        return future

    def await_output(self) -> None:
        """The program drops its jobs: let what their tasks have printed come. A node that answers has read it."""
        if not self.printer.expects or self.failure is not None:
            return
        with contextlib.suppress(TimeoutError, MeshError):
            self.ask_status().result(timeout=OUTPUT_SECONDS_MAX)
            time.sleep(UNDER_WAY_SECONDS)

    def ask_journals(self, **wanted: Any) -> Future[fx.JournalsReady]:
        """A page of each node's journal; `wanted` as AskJournals has it."""
        future: Future[fx.JournalsReady] = Future(self.condition)
        nonce = next(self._nonces)
        self._enter(self._journal_rounds, nonce, future)
        self.post(AskJournals(nonce, **wanted))
        return future

    def _enter(self, open_ones: dict[Any, Any], name: object, future: Future[Any]) -> None:
        """Enter a question. `close` ends those that it finds, so one that is entered later is refused."""
        open_ones[name] = future
        try:
            self.must_work()
        except BaseException:
            open_ones.pop(name, None)
            raise

    def must_work(self) -> None:
        """Raises why the mesh is of no use any more."""
        if self.failure is not None:
            raise self.failure

    def status(self) -> dict[str, Any]:
        """Those snapshots as one. Raises TimeoutError after STATUS_SECONDS_MAX."""
        return merge_status(self.ask_status().result(timeout=STATUS_SECONDS_MAX))

    def close(self, error: BaseException) -> None:
        """Nothing will come any more: every open job ends with `error`."""
        if self.failure is None:
            self.failure = error
        self.left.set()
        for handler in list(self.jobs.values()):
            handler.broken(error)
        self.jobs.clear()
        for handle in list(self.durable.values()):
            handle.broken(error)
        self.durable.clear()
        asked: list[Future[Any]] = [*self._inquiries.values(), *self._journal_rounds.values()]
        for future in asked:
            if not future.done():
                future.set_exception(error)
        self._inquiries.clear()
        self.looking.close(error)
        for wanted in self._wanted_output.values():
            if not wanted.done():
                wanted.set_exception(error)
        self._wanted_output.clear()
        self._journal_rounds.clear()
        self.values.close()
        self.needs.clear()
        if not self.joined.done():
            self.joined.set_exception(error)
        self.user_threads.end()

    def disown(self, error: BaseException) -> None:
        """In a forked child: end everything with `error`. The driver's thread, which is not here, may have
        held our lock."""
        self.condition._at_fork_reinit()  # type: ignore[attr-defined]

        def refuse() -> None:
            raise error

        self.wake = self.act = refuse
        self.attend, self.ways = None, {}
        # Threads that are not here may hold the locks of these.
        self.printer = Printer()
        self.job_over = lambda job, name: None
        self.user_threads = UserThreads()
        self.tell = self.user_threads.run_all
        # Cleared first, so that no job cancels anything: the jobs are the parent's.
        handlers, handles = list(self.jobs.values()), list(self.durable.values())
        self.jobs.clear()
        self.durable.clear()
        for handler in handlers:
            handler.disown(error)
        for handle in handles:
            handle.disown(error)
        self.close(error)

    # ------------------------------------------------------------ the driver's thread

    def has_wishes(self) -> bool:
        return bool(self._events or self.hungry or self._calls)

    def pull(self) -> list[Event]:
        pulled: list[Event] = []
        now = time.monotonic()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            pulled += self.tidy()
        while self._events:
            pulled.append(self._events.popleft())
        if self.hungry:
            pulled += self._feed_hungry()
            for _ in range(ROUNDS if self.held_up else 0):
                self.held_up = False  # calls of one stream wait for numbers of another's
                pulled += self._feed_hungry()
                if not self.held_up:
                    break
        if self._calls:
            calls = len(self._calls)
            pulled += together(event for _ in range(calls) for event in self._calls.popleft()())
        return pulled

    def _feed_hungry(self) -> list[Event]:
        events: list[Event] = []
        for _ in range(len(self.hungry)):
            stream = next(iter(self.hungry))
            del self.hungry[stream]
            events += stream.feed()
        return events

    fds: frozenset[int] = frozenset()

    def ready(self, fd: int) -> None:
        raise AssertionError("a client watches no descriptors of its own")

    def workers_broken(self, why: str) -> None:
        raise AssertionError("a client has no workers")

    def perform(self, effect: Any) -> None:
        if isinstance(effect, fx.Deliver):
            handler = self.jobs.get(effect.job)
            if handler is not None:
                handler.deliver(effect)
            if self.needs.jobs:
                self.needs.over(effect.job, effect.lo, effect.hi)
        elif isinstance(effect, fx.OrderHired):
            handler = self.jobs.get(effect.job)
            if handler is not None:
                handler.handed_to_hired(effect.lease.lo)
        elif isinstance(effect, fx.JobDone):
            handler = self.jobs.pop(effect.job, None)
            if handler is not None:
                self.job_over(effect.job, handler.spec.name)
                handler.done()
            if self.needs.jobs:
                self.needs.job_over(effect.job)
            with self.condition:
                self.condition.notify_all()
        elif isinstance(effect, fx.InputFailed | fx.InputWithdrawn):
            self._spared(effect)
        elif isinstance(effect, fx.ItemsRunning):
            handler = self.jobs.get(effect.job)
            if handler is not None:
                handler.running(effect.intervals)
        elif isinstance(effect, fx.ItemsProgress):
            handler = self.jobs.get(effect.job)
            if handler is not None:
                handler.progress(effect.words)
        elif isinstance(effect, fx.ItemPrinted):
            wanted = self._wanted_output.pop((effect.job, effect.item), None)
            if wanted is not None and not wanted.done():
                wanted.set_result((effect.text, effect.dropped))
        elif isinstance(effect, fx.JobPrinted):
            self.printer.show(effect)
        elif isinstance(effect, fx.ItemWaits):
            handler = self.jobs.get(effect.job)
            if handler is not None:
                handler.waits(effect.item)
        elif isinstance(effect, fx.Accepted | fx.Results | fx.JobGone):
            durable = self.durable.get(effect.job)
            if durable is not None:
                durable.shown(effect)
        elif isinstance(effect, fx.ValueCame):
            self.values.coming.came(effect)
        elif isinstance(effect, fx.LifeEnded):
            mourner = self.mourners.get(effect.job)
            if mourner is not None:
                mourner(effect)
        elif isinstance(effect, fx.NobodyCan):
            tell(effect.why)
        elif isinstance(effect, fx.WorthSaying):
            pass  # for the people at nodes; `stealmesh events` has it
        elif isinstance(effect, fx.JournalsReady):
            self._journals(effect)
        elif isinstance(effect, fx.OtherRuntime):
            pass  # the nodes print it; we do when a job waits for such a node
        elif isinstance(effect, fx.StatusReady):
            self._status(effect)
        elif isinstance(effect, fx.LookReady):
            self.looking.came(effect)
        elif isinstance(effect, fx.CalledOff):
            handler = self.jobs.get(effect.job)
            if handler is not None:
                tell(f"job {handler.spec.name} was cancelled from outside (`stealmesh cancel`)")
                self.user_threads.run(handler.call_off)
        elif isinstance(effect, fx.Joined):
            if not self.joined.done():
                self.joined.set_result(None)
        elif isinstance(effect, fx.JoinFailed):
            if not self.joined.done():
                self.joined.set_exception(refusal(effect))
            elif effect.code in FINAL_CODES:
                self.close(refusal(effect))
        elif isinstance(effect, fx.WaitsForNodes):
            tell(waits(effect))
        elif isinstance(effect, fx.WorksAgain):
            tell(f"a node is back after {effect.seconds:.1f} s: the work goes on")
        elif isinstance(effect, fx.Left):
            self.left.set()
        else:
            raise AssertionError(f"a client cannot perform {effect}")

    def goes_into(self, job: JobId, index: int, grip: Grip) -> None:
        """A result that stays on a node goes into a call that waits in the core."""
        handler = self.jobs.get(job)
        if handler is not None:
            handler.needs_as_well(index, grip)

    def _spared(self, effect: fx.InputFailed | fx.InputWithdrawn) -> None:
        handler = self.jobs.get(effect.job)
        if handler is not None:
            cause = self.jobs.get(effect.cause) if isinstance(effect, fx.InputFailed) else None
            handler.spared(effect, cause)
        if self.needs.jobs:
            for lo, hi in effect.intervals:
                self.needs.over(effect.job, lo, hi)

    def _journals(self, effect: fx.JournalsReady) -> None:
        future = self._journal_rounds.pop(effect.nonce, None)
        if future is not None and not future.done():
            future.set_result(effect)

    def _status(self, effect: fx.StatusReady) -> None:
        future = self._inquiries.pop(effect.nonce, None)
        if future is not None and not future.done():
            future.set_result([msgspec.msgpack.decode(each) for each in effect.snapshots])


def closed() -> MeshClosed:
    return MeshClosed("this mesh has been shut down")
