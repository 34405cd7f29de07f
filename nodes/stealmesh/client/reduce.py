"""`map_reduce` and `explore`: contributions combined into one value.

Opening and combining partial results runs the user's code. It happens on a strand of the program's
threads and never in the driver's, so that a slow combiner delays no other job. A reduction combines its
partials in index order: neighbours are joined as soon as both are there, so a billion items leave a
handful of partials in memory. An exploration combines its partials in the order in which they come.
Refuses to know how items become partials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

from stealmesh.client.feeding import Feeder
from stealmesh.client.item_words import ItemWords, PartBar
from stealmesh.client.missing import MISSING as MISSING
from stealmesh.client.missing import with_initial
from stealmesh.client.results import open_partial, open_tagged
from stealmesh.client.session import ProgramLink
from stealmesh.client.stopping import end_stopped
from stealmesh.client.user_threads import Strand
from stealmesh.futures import Future, settle
from stealmesh.host.interrupts import WakefulCondition
from stealmesh_engine import effects as fx
from stealmesh_engine.events import OpenJob
from stealmesh_protocol.messages import JobKind, JobSpec

WINDOW_ITEMS = 1 << 18
"""How far the input of a reduction is read ahead of what is credited."""


class FoldJob:
    """One reduction or exploration and the future of its value."""

    def __init__(
        self,
        link: ProgramLink,
        spec: JobSpec,
        combine: Callable[[Any, Any], Any],
        initial: Any,
        total: int | None,
        bar: PartBar | None,
        words: ItemWords | None = None,
    ) -> None:
        self.link = link
        self.spec = spec
        self.future: Future[Any] = Future(link.condition, self)
        self._combine = combine
        self._initial = initial
        self._total = total
        self._bar = bar
        if bar is not None:
            bar.goes_on()
            self.future.on_interrupt = bar.close  # the work goes on, and the bar does not
        self._words = words
        self._done_items = 0
        self._by_lo: dict[int, tuple[int, Any]] = {}
        self._by_hi: dict[int, int] = {}
        self._value: Any = MISSING
        self._failed = False
        self._credited = 0
        self._changed = WakefulCondition()
        self._strand = Strand(link.user_threads)

    def start_blocks(self, items: Iterator[Any], functions: dict[bytes, bytes]) -> None:
        """Open the job and read its items from an iterable."""
        self.link.open(
            self.spec.job, self, OpenJob(self.spec, open_ended=True, functions=functions)
        )
        Feeder(self.link, self.spec, items, self._room, self._input_ended)

    @property
    def finished(self) -> bool:
        return self.future.done()

    # ------------------------------------------------------------ the driver's thread

    def deliver(self, effect: fx.Deliver) -> None:
        if self._words is not None:
            self._words.over(effect.lo, effect.hi)
        with self._changed:
            self._credited += effect.hi - effect.lo
            self._changed.notify_all()
        self._strand.put(lambda: self._fold(effect))

    def running(self, intervals: list[tuple[int, int]]) -> None:
        self.future._mark_running()

    def progress(self, words: list[tuple[int, float, float]]) -> None:
        if self._words is not None:
            self._words.hear(words)

    def done(self) -> None:
        self._strand.put(self._finish)

    def broken(self, error: BaseException) -> None:
        self._give_up(error)

    def disown(self, error: BaseException) -> None:
        self._bar = None  # the parent's
        self._changed = WakefulCondition()
        self.future.drop_callbacks()
        self.broken(error)

    def spared(self, effect: Any, cause: Any) -> None:
        raise AssertionError("only single calls wait for others in the core")

    def needs_as_well(self, index: int, grip: Any) -> None:
        raise AssertionError("only single calls wait for others in the core")

    def handed_to_hired(self, index: int) -> None:
        raise AssertionError("only single calls are handed to hired workers")

    def waits(self, item: int) -> None:
        """The program cannot ask which items run."""

    def cancelled(self, future: Future[Any]) -> None:
        self._stop(running=future.is_stopped)

    def stop(self, future: Future[Any]) -> bool:
        if not end_stopped(self.link, future, self.spec.name):
            return False
        self._stop(running=True)
        return True

    def name_of(self, future: Future[Any]) -> str:
        return self.spec.name

    def call_off(self) -> None:
        self.future.stop()

    def cancel(self) -> None:
        """Give the value up, also when the job runs already."""
        if not self.future.cancel():
            self._give_up(CancelledError())

    # ------------------------------------------------------------ the input's thread

    def _room(self, fed: int, size: int) -> int:
        """Wait until fewer than WINDOW_ITEMS items are read and not credited. 0: stop reading."""
        with self._changed:
            while fed - self._credited >= WINDOW_ITEMS and not self._failed:
                self._changed.wait()
            return 0 if self._failed else size

    def _input_ended(self, fed: int, error: BaseException | None) -> None:
        self._total = fed
        if error is not None:
            self._give_up(error)

    # ------------------------------------------------------------ the strand

    def _fold(self, effect: fx.Deliver) -> None:
        if self._failed:
            return
        try:
            if self.spec.kind is JobKind.EXPLORE:
                value = open_tagged(effect.blob)
                self._value = value if self._value is MISSING else self._combine(self._value, value)
            else:
                self._join(effect.lo, effect.hi, open_partial(effect.part.codec, effect.blob))
        except BaseException as error:  # noqa: BLE001  the task's exception or the combiner's: the caller gets both
            self._give_up(_without_ours(error))
            return
        self._done_items += effect.hi - effect.lo
        if self._bar is not None:
            self._bar(self._done_items, self._total)

    def how_far(self) -> tuple[int, int | None]:
        """Items that are folded, and how many there are."""
        return self._done_items, self._total

    def _give_up(self, error: BaseException) -> None:
        settle(self.link.condition, self.link.tell, [(self.future, None, error)])
        self._stop()

    def _stop(self, *, running: bool = False) -> None:
        """The value is not wanted any more: stop reading and cancel the job, and `running` tasks too."""
        if self._bar is not None:
            self.link.user_threads.run(self._bar.close)  # this may be the driver's thread
        with self._changed:
            self._failed = True
            self._changed.notify_all()
        self.link.cancel(self.spec.job, stop=running)

    def _join(self, lo: int, hi: int, value: Any) -> None:
        """Enter the partial of the items [lo, hi), combined with its neighbours that are there."""
        before = self._by_hi.pop(lo, None)
        if before is not None:
            _, left = self._by_lo.pop(before)
            value = self._combine(left, value)
            lo = before
        after = self._by_lo.pop(hi, None)
        if after is not None:
            end, right = after
            del self._by_hi[end]
            value = self._combine(value, right)
            hi = end
        self._by_lo[lo] = (hi, value)
        self._by_hi[hi] = lo

    def _finish(self) -> None:
        if self._failed:
            return
        try:
            value = self._whole()
        except BaseException as error:  # noqa: BLE001  the combiner's own exception: the caller gets it
            self._give_up(_without_ours(error))
            return
        if self._bar is not None:
            self._bar.close()
        settle(self.link.condition, self.link.tell, [(self.future, value, None)])

    def _whole(self) -> Any:
        value = self._value
        if self._by_lo:
            assert len(self._by_lo) == 1, "the ledger says that everything is covered"
            ((_, value),) = self._by_lo.values()
        return with_initial(value, self._combine, self._initial, self.spec.name)


def _without_ours(error: BaseException) -> BaseException:
    """Its traceback begins where the user's code does."""
    from stealmesh.tracebacks.ours import fold  # here: most programs see no failure

    return fold(error)
