"""`submit` with `durable=True`: one call that is a durable job of one item, and its future.

Decides when the call is said to the mesh: at once, or, if its arguments hold futures, when these are ready
(`durable_inputs.py`). The mesh is told which calls go into it by name, and has the values of all others, so it
needs nothing of this program once it has the call. Decides which futures may be among the arguments. Refuses to
know where the job runs, and how results are opened (`results.py`).

Accepted means what it means for `launch`: two nodes have the call on their disks. `submit` does not wait for
that, so that many calls can be on their way at once; `DurableFuture.accepted` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from stealmesh import refs
from stealmesh.client.call_arguments import must_fit, packed_arguments
from stealmesh.client.durable_inputs import WaitingDurableCall, item_of_calls
from stealmesh.client.feeding import REFS_END
from stealmesh.client.inputs import Packed, WaitingCall, with_results
from stealmesh.client.results import FUNCTION_REMEDY, ChunkResults, fault_of_size
from stealmesh.client.session import ProgramLink
from stealmesh.client.stopping import end_stopped
from stealmesh.futures import Future, arrive, settle
from stealmesh.host.identity import submitter
from stealmesh_engine import effects as fx
from stealmesh_engine.events import AbolishJob, FetchResults, LaunchJob, LeaveJob, SupplyJob
from stealmesh_protocol import values as vx
from stealmesh_protocol.apart import packed_apart
from stealmesh_protocol.errors import CannotShip, JobLost, JobRefused
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import Block, Inputs, JobSpec

if TYPE_CHECKING:
    from stealmesh.client.durable_job import Job
    from stealmesh.functions import Shipped

T = TypeVar("T")


class DurableFuture(Future[T]):
    """The result of a durable call, reduction or search. It outlives this program once it is accepted.

    `cancel()` cancels a call also while it runs; `stop()` ends a reduction or a search. Callbacks and waiters are this program's and end with it;
    `attach(future.accepted())` gets the result in another one.
    """

    job_id = ""
    """Names the call in the whole mesh. Safe to rely on once it is accepted."""

    def accepted(self, timeout: float | None = None) -> str:
        """Sleep until the mesh holds the call safely, and return its id.

        From then on this program may be killed, and so may any node: the call and the durable calls that go into it
        run to their end. Raises JobRefused, what an input of the call raised, CancelledError, MeshClosed, and
        TimeoutError after `timeout` seconds.
        """
        submission: Any = self._submission
        submission.await_accepted(timeout)
        return self.job_id


class DurableCall:
    """One durable call, as this program follows it."""

    def __init__(self, link: ProgramLink, spec: JobSpec, functions: list[bytes]) -> None:
        self._link = link
        self._spec = spec
        self._functions = functions
        self._waiting: WaitingCall | None = None
        self._accepted = False
        self._begun = False
        self._handle: Job | None = None
        """The program has attached to it as well."""
        self._when_safe: list[Callable[[], None]] = []
        self._goes_into = 0
        """Calls that are said with its name, and that the mesh may not hold yet."""
        self._leaves = False
        """The program has its result."""
        self._holds: list[DurableCall] = []
        """Calls that go into this one."""
        self.future: DurableFuture[Any] = DurableFuture(link.condition, self)
        self.future.job_id = spec.job.hex()

    # ------------------------------------------------------------ the program's threads

    def begin(self, packed: Packed, inputs: list[Future[Any]]) -> None:
        """Say the call to the mesh, or wait until all inputs are there."""
        if not inputs:
            self._say(vx.join_entries([packed]))
            return
        self._waiting = WaitingDurableCall(self._link, self, self.future, packed, inputs)
        self._waiting.begin()

    def complete(self, call: WaitingCall) -> None:
        named = self._holding(call.inputs)
        try:
            needs: object
            if named:
                (blob, names), needs = refs.noting(lambda: item_of_calls(call, named))
            else:
                packed, needs = refs.noting(lambda: with_results(call.packed, call.inputs))
                blob, names = vx.join_entries([packed]), ()
            if needs:
                raise CannotShip(REFS_END)
            must_fit((vx.ITEMS, blob), self._spec.name)
        except Exception as error:  # noqa: BLE001  that of an input, which came in this moment, or CannotShip
            self.fail(call, error)
            return
        call.drop()
        if self.future.done():
            self._is_safe_now()
        else:
            self._say(blob, names)

    def _holding(self, inputs: list[Future[Any]]) -> dict[int, JobId]:
        """The places of those that are to go into it by name, and their ids."""
        named: dict[int, JobId] = {}
        for place, each in enumerate(inputs):
            source: Any = each._submission
            if isinstance(source, DurableCall) and source.goes_into_another(self._link):
                named[place] = source._spec.job
                self._holds.append(source)
        return named

    def goes_into_another(self, link: ProgramLink) -> bool:
        """Have it go into another call by name. False: it is over, or of another mesh."""
        if link is not self._link:
            return False
        with link.condition:
            if self.future.done() or not self._accepted:
                return False
            self._goes_into += 1
        return True

    def is_in_another(self) -> None:
        """The mesh holds the call that it goes into, or that is over."""
        with self._link.condition:
            self._goes_into -= 1
            leaves = self._leaves and not self._goes_into
        if leaves:
            self._leave()

    def when_safe(self, link: ProgramLink, fn: Callable[[], None]) -> bool:
        """Have this called when it is accepted or over, in a thread of the program's; now, if it is. False: it is of
        another mesh, and goes into no call of this one by name."""
        if link is not self._link:
            return False
        with self._link.condition:
            if not self.is_safe:
                self._when_safe.append(fn)
                return True
        fn()
        return True

    def _is_safe_now(self) -> None:
        with self._link.condition:
            waiting, self._when_safe = self._when_safe, []
            holds, self._holds = self._holds, []
        if waiting:
            self._link.tell(waiting)
        for each in holds:
            each.is_in_another()

    def fail(self, call: WaitingCall, error: BaseException) -> None:
        call.drop()
        self._settle(error)

    def abandon(self, call: WaitingCall) -> None:
        self._link.user_threads.run(self.future.cancel)

    def await_accepted(self, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        with self._link.condition:
            while not self.is_safe:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"call {self.future.job_id} is not accepted yet")
                self._link.condition.wait_for_any(left)
        if not self._accepted:
            self.future.result()  # raises why it never was

    @property
    def is_safe(self) -> bool:
        """Is it accepted, or over?"""
        return self._accepted or self.future.done()

    def cancelled(self, future: Future[Any]) -> None:
        if self._waiting is not None:
            self._waiting.drop()
        if self._begun:
            self._link.post(AbolishJob(self._spec.job, stop=future.is_stopped))
        self._is_safe_now()

    def stop(self, future: Future[Any]) -> bool:
        if not end_stopped(self._link, future, self.name_of(future)):
            return False
        self._link.post(AbolishJob(self._spec.job, stop=True))
        return True

    def name_of(self, future: Future[Any]) -> str:
        return f"durable call {self._spec.name}"

    def also(self, handle: Job) -> None:
        """The program has attached to this call: show the handle what comes, too."""
        self._handle = handle

    def _say(self, blob: bytes, names: Inputs = ()) -> None:
        job = self._spec.job
        self._begun = True
        self._link.follow(
            job,
            self,
            LaunchJob(self._spec, 0, self._functions),
            SupplyJob(job, Block(0, 1, vx.ITEMS, inputs=names), blob, closed=True),
            FetchResults(job, 0),
        )

    # ------------------------------------------------------------ the driver's thread

    def shown(self, effect: fx.Accepted | fx.Results | fx.JobGone) -> None:
        if isinstance(effect, fx.Accepted):
            if effect.refusal:
                self._settle(JobRefused(effect.refusal))
            self._note_accepted(effect.closed)
        elif isinstance(effect, fx.JobGone):
            self._settle(JobLost([(0, 1)], self.future.job_id, effect.why))
        else:
            self._take(effect)
        if self._handle is not None:
            self._handle.shown(effect)

    def _take(self, effect: fx.Results) -> None:
        if effect.results and effect.lo == 0:
            part, blob = effect.results[0].part, effect.blobs[0]
            self.future.index = 0
            parcel = ChunkResults(part.codec, blob, part.lo, part.hi, self._spec.name)
            self._link.dropped += arrive(
                self._link.condition, self._link.tell, [self.future], parcel
            )
            self._is_safe_now()
            self._leave()
        elif effect.line.state == "cancelled":
            self._settle(CancelledError(f"call {self.future.job_id} was cancelled"))
        elif effect.missing:
            self._settle(JobLost(effect.missing, self.future.job_id, "collected before, or lost"))

    def _note_accepted(self, accepted: bool) -> None:
        with self._link.condition:
            self._accepted = self._accepted or accepted
            self._link.condition.notify_all()
        if accepted:
            self._is_safe_now()

    def _settle(self, error: BaseException) -> None:
        settle(self._link.condition, self._link.tell, [(self.future, None, error)])
        self._is_safe_now()
        self._leave()

    def _leave(self) -> None:
        """It is over for this program: the mesh need not tell us of it any more."""
        if not self._begun or self._link.durable.get(self._spec.job) is not self:
            return
        if self._handle is not None:
            self._link.durable[self._spec.job] = self._handle
            return
        with self._link.condition:
            first, self._leaves = not self._leaves, True
            stays = self._goes_into > 0
        if stays:
            if first:  # otherwise the next beat says that its result is collected
                self._link.post(FetchResults(self._spec.job, 0, want=False))
            return
        del self._link.durable[self._spec.job]
        self._link.post(LeaveJob(self._spec.job, 1))

    def broken(self, error: BaseException) -> None:
        settle(self._link.condition, self._link.tell, [(self.future, None, error)])
        self._is_safe_now()
        if self._handle is not None:
            self._handle.broken(error)

    def disown(self, error: BaseException) -> None:
        self.future.drop_callbacks()
        self.broken(error)


def durable_call(
    link: ProgramLink,
    spec: JobSpec,
    shipped: Shipped,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[DurableCall, Callable[[], None]]:
    """A call that is ready to begin, and what begins it.

    Raises CannotShip, and ValueError for an argument that cannot outlive the program."""
    if spec.needs:
        raise CannotShip(REFS_END)
    functions = [each.blob for each in (shipped, shipped.code) if each.blob]
    too_large = fault_of_size(sum(map(len, functions)), spec.name, FUNCTION_REMEDY)
    if too_large is not None:
        raise too_large
    (packed, inputs), needs = refs.noting(
        lambda: packed_apart(lambda given: _packed(given, spec.name), (args, kwargs))
    )
    if needs:
        raise CannotShip(REFS_END)
    for each in inputs:
        if not (each.done() or isinstance(each, DurableFuture)):
            raise ValueError(
                f"durable: the result of {each.task_name} is an input, and it ends with this program: submit "
                "that with options(durable=True), too, or wait for its result first"
            )
    spec = replace(spec, submitter=submitter(), submitted=time.time())
    call = DurableCall(link, spec, functions)
    return call, lambda: call.begin(packed, inputs)


def _packed(given: Any, name: str) -> Packed:
    packed = packed_arguments(given, name)
    must_fit(packed, name)
    return packed
