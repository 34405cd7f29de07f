"""`submit`: single tasks, gathered into blocks as fast as the driver can take them.

All tasks of one function (with the same options) are one open-ended indexed job, so a hundred
thousand submits are a few hundred blocks and leases, and the engine learns what an item of this
function costs. A submit only appends to a list. The driver's thread packs what has gathered when it
comes by, so a lone task leaves at once and a flood leaves in batches of hundreds, without a timer.

That holds for small plain arguments. All others are pickled at once by the thread that submits them,
because pickling an object, and dropping it, may run the user's code. Refuses to know which function
has which stream (`streams.py`).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from stealmesh import refs
from stealmesh.client.dependents import (
    DEPENDS,
    HELD_BACK,
    Dependent,
    Names,
    for_the_core,
    spare,
    take_dependents,
)
from stealmesh.client.heavy import is_heavy
from stealmesh.client.held_back import NOT_PLAIN, HoldsBack
from stealmesh.client.inputs import Packed, WaitingCall
from stealmesh.client.item_words import ItemWords
from stealmesh.client.needs import cut_by_needs
from stealmesh.client.packs_calls import Args, PacksCalls
from stealmesh.client.results import ChunkResults
from stealmesh.client.session import ProgramLink
from stealmesh.client.stopping import end_stopped
from stealmesh.futures import Future, arrive, settle
from stealmesh_engine import effects as fx
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.events import CancelItems, Event, Feed
from stealmesh_engine.holding.reports import cut_by_size
from stealmesh_protocol import limits
from stealmesh_protocol import values as vx
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import CannotShip, MeshClosed, StoreFull
from stealmesh_protocol.ids import ValueId
from stealmesh_protocol.messages import Block, JobSpec, Part

if TYPE_CHECKING:
    from stealmesh.functions import Shipped
    from stealmesh.refs import Grip, ResultGrip

BLOCK_TASKS_MAX = 500
BLOCKS_AT_ONCE = 4
BLOCK_OCTETS_MAX = 512 * 1024
"""A block goes to one node as one message; a larger call has a block of its own."""

TEXT_CHARS_MAX = 64 * 1024
"""Longer texts are packed at once, as all other objects are: one would fill a block."""
_NUMBERS = frozenset({int, float, bool, type(None)})
_TEXTS = frozenset({str, bytes})

Call = tuple[Future[Any], int, "Args | Packed | Dependent"]
"""Future, octets of plain arguments (or NOT_PLAIN, DEPENDS), and the arguments (packed if they are not plain)."""
RUNNING_REMEMBERED = 4096


def plain_octets(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """About how many octets plain arguments have; NOT_PLAIN if there might be other objects in them."""
    if kwargs:
        return NOT_PLAIN
    octets = 0
    for value in args:
        kind = type(value)
        if kind not in _NUMBERS:
            if kind not in _TEXTS or len(value) > TEXT_CHARS_MAX:
                return NOT_PLAIN
            octets += len(value)
    return octets


class SubmitStream(PacksCalls, HoldsBack):
    """The tasks of one function, and their futures."""

    named_inputs = True  # the core keeps what its calls wait for

    def __init__(
        self,
        link: ProgramLink,
        spec: JobSpec,
        shipped: Shipped | None = None,
        words: ItemWords | None = None,
    ) -> None:
        """Without `shipped` each call carries its function, pickled, as its first argument."""
        super().__init__(link, spec)
        self._shipped = shipped
        """Kept while the stream lives, so that the function is not pickled again."""
        self._live: dict[int, Future[Any]] = {}
        self._dependents = IntervalSet()
        """Calls that wait, or waited, for others in the core: without a node's word they have not begun."""
        self._next = 0
        self._next_seen = 0
        self._with_workers: list[tuple[int, int]] = []
        """Calls that workers have, as nodes said since `ask_what_runs`."""
        self._later: set[int] = set()
        """Calls that were put off, as far as we know: no worker has them."""
        self._words = words

    # ------------------------------------------------------------ the program's threads

    def how_far(self) -> tuple[int, int | None]:
        """Calls that are over, and how many there were."""
        calls = self._next + len(self._waiting)
        return calls - len(self._live) - len(self._waiting), calls

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any] | None:
        """The call's future. None: the stream has just been closed; take another. Raises MeshClosed."""
        link = self.link
        future: Future[Any] = Future(link.condition, self)
        octets = plain_octets(args, kwargs)
        call: Call
        if octets >= 0:
            call = (future, octets, (args, kwargs))
            if link.ways and not (self._waiting or self.closed) and self._goes_alone(call):
                return future
        else:
            whole = None
            try:
                if is_heavy(args, kwargs) and not PICKLES.on:
                    args, kwargs = self.link.values.lightened(args, kwargs)
                packed, inputs, needs = self._packed_apart(future, args, kwargs)
                if len(packed[1]) > limits.BLOB_OCTETS_MAX:
                    whole, packed, needs = self._as_a_value((args, kwargs), packed, inputs)
            except (CannotShip, StoreFull) as error:
                settle(link.condition, link.tell, [(future, None, error)])
                try:
                    return future
                finally:
                    # The error has this frame: nothing but the collector would free both.
                    del future
            if needs:
                self._needs[future] = refs.grips_of(needs), needs
            del whole  # the call keeps it
            if inputs:
                few = len(inputs) + len(needs) <= limits.NEEDS_MAX  # each result may stay on a node
                dependent = (
                    for_the_core(self, future, packed, inputs, SubmitStream) if few else None
                )
                if dependent is None:
                    return self._hold_back(WaitingCall(self, future, packed, inputs))
                call = (future, DEPENDS, dependent)
            else:
                call = (future, NOT_PLAIN, packed)
        self._waiting.append(call)
        if link.failure is not None:
            self._must_work()
        if self.closed and self._take_back(call):
            return None
        if self not in link.hungry:
            if self._live:
                link.feed_later(self)
            else:
                link.feed_now(self)
        return future

    def _goes_alone(self, call: Call) -> bool:
        """Straight to a hired worker, if there is one that is free."""
        future, _, item = call

        def feed() -> Event | None:
            if self.closed:
                return None
            return self._enter([future], *vx.pack_harmless([item]))

        return self.link.hand(self.spec.job, feed)

    def _take_back(self, call: Call) -> bool:
        """`rest` looks at what waits once more after it has set `closed`: it saw this call, or we do."""
        try:
            self._waiting.remove(call)
        except ValueError:
            return False  # on its way
        return True

    def _has_calls(self) -> None:
        self.link.feed_later(self)

    # ------------------------------------------------------------ calls that wait for others, in the core

    @property
    def pending(self) -> int:
        return len(self._live) + len(self._waiting)

    def is_with_core(self, future: Future[Any]) -> bool:
        return self._live.get(future.index) is future

    def _feed_dependents(self) -> list[Event]:
        """Those at the head of the line."""
        events: list[Event] = []
        otherwise: list[Any] = []
        self.link.held_up |= take_dependents(
            self._waiting, self._enter_dependent, BLOCK_TASKS_MAX, events, otherwise
        )
        for future, item in otherwise:
            future.index = HELD_BACK
            call = self._held_back[future] = WaitingCall(self, future, item.packed, item.inputs)
            self.link.user_threads.run(call.begin)
        return events

    def _enter_dependent(self, future: Future[Any], blob: bytes, names: Names) -> Feed:
        feed = self._enter([future], vx.ITEMS, blob, names)
        self._dependents.add(feed.block.lo, feed.block.hi)
        return feed

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._live and not self._held_back

    def ask_what_runs(self) -> None:
        """Forget which calls run: the nodes are asked again."""
        self._with_workers = []

    @property
    def under_way(self) -> bool:
        """True if workers have some of its calls, as far as nodes have said, or if it has no calls."""
        return self.idle or bool(self._with_workers)

    def cancel_pending(self, workers: int) -> None:
        """Cancel every task that no worker has. If no node has named a call, the oldest count as begun, as
        many as there are workers, as they would in a standard pool."""
        begun = {index for lo, hi in self._with_workers for index in range(lo, hi)}
        if not begun:
            live = (
                index
                for index in list(self._live)
                if index not in self._later and not self._dependents.covers(index, index + 1)
            )
            begun.update(itertools.islice(live, workers))
        for index, future in list(self._live.items()):
            if index not in begun:
                future.cancel()
        for future, _, _ in list(self._waiting):
            future.cancel()
        for future in list(self._held_back):
            future.cancel()

    def cancelled(self, future: Future[Any]) -> None:
        call = self._held_back.get(future)
        if call is not None and self._release(call):
            self._needs.pop(future, None)
        else:
            self.link.call_later(lambda: self._withdraw(future))

    def call_off(self) -> None:
        for future in self._open_futures():
            future.stop()

    def handed_to_hired(self, index: int) -> None:
        if index in self._live:
            self._live[index].attend = self.attend

    def attend(self, future: Future[Any], until: float) -> None:
        if self.link.attend is not None:
            self.link.attend(self.spec.job, future.index, future.is_over, until)

    def name_of(self, future: Future[Any]) -> str:
        return self.spec.name if future.index < 0 else f"item {future.index} of {self.spec.name}"

    def stop(self, future: Future[Any]) -> bool:
        if not end_stopped(self.link, future, f"item {future.index} of {self.spec.name}"):
            return False
        self.link.call_later(lambda: self._withdraw(future, fail=True))
        return True

    # ------------------------------------------------------------ the driver's thread

    def deliver(self, effect: fx.Deliver) -> None:
        part, live = effect.part, self._live
        if self._later:
            self._later.difference_update(range(effect.lo, effect.hi))
        futures = []
        stays = self._stay(part, effect.lo, effect.hi) if part.stays else None
        for index in range(effect.lo, effect.hi):
            future = live.pop(index, None)
            if future is None:
                self.link.dropped += 1
            else:
                if stays is not None:
                    future.grip = stays.get(index)
                futures.append(future)
        for item, job, index in effect.into:
            if stays is not None and item in stays:
                self.link.goes_into(job, index, stays[item])
        del stays
        parcel = ChunkResults(part.codec, effect.blob, part.lo, part.hi, self.spec.name)
        del future
        self.link.dropped += arrive(self.link.condition, self.link.tell, futures, parcel)

    def _stay(self, part: Part, lo: int, hi: int) -> dict[int, ResultGrip]:
        """What keeps the results of these items that are not in the blob. Without its future one goes at once."""
        stays = [each for each in part.stays if lo <= each[0] < hi]
        link = self.link
        return link.values.results(
            self.spec.job, stays, link.needs, asked_for=self.spec.stays_from == 1
        )

    def spared(self, effect: fx.InputFailed | fx.InputWithdrawn, cause: Any) -> None:
        indices = (index for lo, hi in effect.intervals for index in range(lo, hi))
        futures = [f for f in (self._live.pop(index, None) for index in indices) if f is not None]
        self.link.dropped += spare(self.link, futures, effect, cause)

    def needs_as_well(self, index: int, grip: Grip) -> None:
        """A call that waits in the core needs this result, which stays on a node."""
        if index in self._live:
            self.link.needs.hold_also(self.spec.job, index, grip)

    def running(self, intervals: list[tuple[int, int]]) -> None:
        self._with_workers = [*self._with_workers[-RUNNING_REMEMBERED:], *intervals]
        for lo, hi in intervals:
            if hi - lo == 1 and lo in self._live:
                self._later.discard(lo)
                self._live[lo]._mark_running()

    def progress(self, words: list[tuple[int, float, float]]) -> None:
        if self._words is not None:
            self._words.hear(words)

    def waits(self, item: int) -> None:
        self._with_workers = [(lo, hi) for lo, hi in self._with_workers if not lo <= item < hi]
        if item in self._live:
            self._later.add(item)
            self._live[item]._mark_waiting()

    def done(self) -> None:
        """The job is over: we closed it when it was idle, or the mesh was shut down."""
        if not self.closed:
            self.broken(MeshClosed("this mesh has been shut down"))

    def rest(self) -> bool:
        """Close the stream, and return True, if no call came since the last time and none is open."""
        if not self.idle or self._next != self._next_seen:
            self._next_seen = self._next
            if self._waiting:
                self.link.hungry.setdefault(self)  # Ctrl-C may have kept it from doing so itself
            return False
        self.closed = True
        if self._waiting or self._held_back:  # a call came at this very moment
            self.closed = False
            return False
        return True

    def let_go(self) -> Shipped | None:
        """The function of a closed stream. The caller drops it outside of the driver's thread."""
        shipped, self._shipped = self._shipped, None
        return shipped

    def broken(self, error: BaseException) -> None:
        left = self._open_futures()
        self._live.clear()
        self._waiting.clear()
        self._needs.clear()
        for call in list(self._held_back.values()):
            self._release(call)
        settle(self.link.condition, self.link.tell, [(future, None, error) for future in left])

    def disown(self, error: BaseException) -> None:
        for future in self._open_futures():
            future.drop_callbacks()
        self.broken(error)

    def _open_futures(self) -> list[Future[Any]]:
        waiting = (future for future, _, _ in self._waiting)
        return [*self._live.values(), *waiting, *self._held_back]

    def feed(self) -> list[Event]:
        """Pack what has gathered, a few blocks at a time, so that the driver's loop stays responsive."""
        events: list[Event] = []
        for _ in range(BLOCKS_AT_ONCE):
            if not self._waiting:
                break
            events += self._block()
        # A thread that appends after this test enters the stream as hungry itself.
        if self._waiting:
            self.link.feed_later(self)
        return events

    def _block(self) -> list[Event]:
        """Up to BLOCK_TASKS_MAX waiting calls, as one block, or as several if they are large."""
        futures: list[Future[Any]] = []
        items: list[Any] = []
        packed: set[int] = set()
        """Offsets of the items that are packed already."""
        waiting = self._waiting
        room = BLOCK_OCTETS_MAX
        while waiting and len(futures) < BLOCK_TASKS_MAX and room > 0:
            future, octets, item = waiting.popleft()
            if future.cancelled():
                if self._needs:
                    self._needs.pop(future, None)
            else:
                if octets < 0:
                    if isinstance(item, Dependent):
                        waiting.appendleft((future, octets, item))
                        break
                    octets = len(item[1])
                    packed.add(len(items))
                room -= octets
                futures.append(future)
                items.append(item)
        if not futures:
            return self._feed_dependents() if waiting else []
        if not packed:
            codec, blob = vx.pack_harmless(items)
            if len(blob) <= BLOCK_OCTETS_MAX or len(futures) == 1:
                return [self._enter(futures, codec, blob)]
        entries: Any = [item if at in packed else vx.pack(item) for at, item in enumerate(items)]
        sizes = [len(blob) for _, blob in entries]
        cuts = cut_by_size(sizes, BLOCK_OCTETS_MAX)
        if self._needs:
            cuts = cut_by_needs(cuts, [self._needs_of(future) for future in futures])
        return [
            self._enter(futures[lo:hi], vx.ITEMS, vx.join_entries(entries[lo:hi]))
            for lo, hi in cuts
        ]

    def _needs_of(self, future: Future[Any]) -> tuple[ValueId, ...]:
        return self._needs.get(future, ([], ()))[1]

    def _enter(
        self, futures: list[Future[Any]], codec: int, blob: bytes, inputs: Names = ()
    ) -> Feed:
        lo = index = self._next
        for future in futures:
            future.index = index
            self._live[index] = future
            index += 1
        self._next = hi = index
        needs = self._needs_of(futures[0]) if self._needs else ()
        if needs:
            self.link.needs.hold(self.spec.job, lo, hi, needs)
            for future in futures:
                del self._needs[future]
        return Feed(self.spec.job, Block(lo, hi, codec, needs), blob, inputs)

    def _withdraw(self, future: Future[Any], *, fail: bool = False) -> list[Event]:
        if self._live.pop(future.index, None) is None:
            if future.index < 0 or not self.link.shape.in_use:
                return []
            # Its result came in that moment, and was dropped: what waits for it in the core must not have it.
        elif self.link.needs.jobs:
            self.link.needs.over(self.spec.job, future.index, future.index + 1)
        self._later.discard(future.index)
        only = [(future.index, future.index + 1)]
        return [CancelItems(self.spec.job, only, future.is_stopped, fail)]
