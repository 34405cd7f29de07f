"""Family: the children of the tasks of one chunk, and the threads that run them.

Each thread has a `Pile`: the children that it has submitted, the newest on top. `run` calls a child in the
present thread; what the child leaves there, above the mark that the pile had when it began, is run or (if the
child failed) cancelled before the child's own result counts. So a task and all its descendants nest like calls,
and a thread never runs a child above a frame that the child might wait for.

Stack depth is bounded: after LEVELS_A_THREAD children inside each other the next one runs in a thread with a
stack of its own, and the present thread waits for it. Decides nothing about other processes.

Ideas: marks on a pile, and that a frame waits for what it has spawned, are Cilk's (Frigo, Leiserson, Randall
1998); stacks in segments are as old as cactus stacks.
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one child's failure.

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from queue import SimpleQueue
from threading import get_ident
from time import monotonic
from types import CoroutineType
from typing import Any, Protocol

from stealmesh.nested.away import Away, may_leave
from stealmesh.nested.child import Call, ChildFuture
from stealmesh.nested.coroutines import ended
from stealmesh.nested.inputs import InputCancelled
from stealmesh.nested.local import Loop
from stealmesh.nested.threads import STACK_OCTETS, start_thread
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.nesting import GATE
from stealmesh.workers.present import Present
from stealmesh_protocol.errors import TaskStopped
from stealmesh_protocol.unasked import is_a, traceback_of

LEVELS_A_THREAD = 100
"""So deep do children run inside each other on one stack."""
FRAMES_A_LEVEL = 50
"""Frames that the recursion limit leaves for each of them; more are a RecursionError, as ever."""
SEGMENTS_MAX = 1000
LOOK_AGAIN_SECONDS = 0.02
"""How often a thread that waits for a child elsewhere looks for something else to do."""
TOO_DEEP = (
    f"tasks inside tasks are {LEVELS_A_THREAD * SEGMENTS_MAX:,} deep, and each waits for the next: does the "
    "recursion end? If it does, let a task return what is still to be done (see Mesh.explore)"
)


class MadeActor(Protocol):
    """An actor that a task has made (`task_actors.TaskActor`)."""

    def _ends(self) -> None:
        """Its task is over."""


Elsewhere = Any
"""Where a child is that is not here: `away.Away`, or a call of an actor."""


class Pile:
    """What one thread has submitted and not waited for yet."""

    __slots__ = ("carries", "children", "helper", "level", "loops", "mark", "report", "segment")

    def __init__(self, segment: int = 0, *, carries: bool = False) -> None:
        self.carries = carries
        """True for the task's own stack and those on top of it: if one of them waits, the task waits."""
        self.children: list[ChildFuture] = []
        """The newest last. Some have been begun by other threads, or are over."""
        self.loops: list[Loop] = []
        """Maps that are read here, the newest last."""
        self.mark = 0
        """Children from here on are those of the frame that runs now."""
        self.level = 0
        """Children that run here inside each other."""
        self.report: Callable[[float, float | None], object] | None = None
        """Hears the progress of the child that runs; None: the task itself runs, or no one minds."""
        self.segment = segment
        """How many stacks lie below this one."""
        self.helper: Helper | None = None


class Family:
    """The children of the tasks of one chunk."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._results = present.results
        self.lock = threading.RLock()
        self.condition = threading.Condition(self.lock)
        self._sleepers = 0
        self._thread = get_ident()
        self._pile = Pile(carries=True)
        self._others: dict[int, Pile] = {}
        """The piles of the task's other threads, by thread."""
        self._item = -1
        """The item that submitted the children on the pile."""
        self.closed = False
        self._actors: list[MadeActor] = []
        """Those that the item has made."""

    # ------------------------------------------------------------ any thread of the task

    def pile(self) -> Pile:
        """The pile of the thread that asks."""
        thread = get_ident()
        if thread == self._thread:
            return self._pile
        pile = self._others.get(thread)
        if pile is None:
            pile = self._others[thread] = Pile()
        return pile

    def add(self, call: Call) -> ChildFuture:
        """A new child of the task, or of the child, that runs in this thread."""
        pile = self.pile()
        if not pile.level:
            self.must_go_on()
        child = ChildFuture(self, call)
        pile.children.append(child)
        return child

    def must_go_on(self) -> None:
        """The task itself submits. Raises RuntimeError if it is over."""
        if self.closed or self._present.over:
            raise RuntimeError(
                "cannot schedule new futures: the task that called here() is over; call here() in each task"
            )
        item = len(self._results)
        if item == self._item:
            return
        if self._item >= 0 and get_ident() == self._thread:
            self.settle()  # the item before this one has left something, or nothing
        self._item = item
        if self._present.run is not None:
            self._present.run.held = item

    def add_elsewhere(self, away: Elsewhere) -> ChildFuture:
        """A child that is elsewhere from its beginning: the call of an actor."""
        pile = self.pile()
        children = pile.children
        while len(children) > pile.mark and children[-1]._state == FINISHED:
            children.pop()  # otherwise the results of a hundred thousand calls would wait for the task's end
        child = self.add((_never, (), {}))
        with self.lock:
            child.begins(None)
            child.away, child.call = away, None
        return child

    def owns(self, actor: MadeActor) -> None:
        """It ends with the task."""
        self._actors.append(actor)

    def run(self, child: ChildFuture) -> None:
        """In this thread, unless somebody has begun it."""
        pile = self.pile()
        with self.lock:
            begins = child.begins(pile)
        if not begins:
            if child.away is not None:
                self._wait_for_one_away(child)
            return
        children = pile.children
        if children and children[-1] is child:
            children.pop()
        if pile.level >= LEVELS_A_THREAD:
            self._in_a_new_segment(child, pile)
        else:
            self._call(child, pile)

    def have_run(self, child: ChildFuture) -> None:
        """In a thread beside this one."""
        away = child.away
        if away is not None:
            if away.has_helper:
                return
            away.has_helper = True
        pile = self.pile()
        if pile.helper is None:
            pile.helper = Helper(self, child)
        else:
            pile.helper.asked.put(child)

    def wait_for(self, child: ChildFuture, timeout: float | None) -> None:
        """Until it is over. Raises RuntimeError if it waits for this very thread."""
        until = None if timeout is None else monotonic() + timeout
        if child.pile is self.pile():
            raise RuntimeError(f"{child.task_name} waits for its own end")
        if until is None and child.away is not None:
            self._wait_for_one_away(child)
        with self.condition:
            self._sleepers += 1
            try:
                while child._state in (PENDING, RUNNING):
                    left = None if until is None else until - monotonic()
                    if left is not None and left <= 0:
                        return
                    self.condition.wait(left)
            finally:
                self._sleepers -= 1

    def inline(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """`fn(*args)` as a child that nobody holds: an item of a local map."""
        pile = self.pile()
        if pile.level >= LEVELS_A_THREAD:
            return self.add((fn, args, {})).result()
        if not pile.level:
            self.must_go_on()
        outer, report = pile.mark, pile.report
        pile.mark = mark = len(pile.children)
        pile.level += 1
        try:
            value = fn(*args)
            if type(value) is CoroutineType:
                value = ended(value)
            if len(pile.children) > mark:
                self._finish(pile, mark)
        except BaseException as error:
            end_if_forked(error)
            self._cancel(pile, mark)
            raise
        finally:
            pile.level -= 1
            pile.mark, pile.report = outer, report
        return value

    def give(self) -> ChildFuture | None:
        """The oldest child that has not begun and may leave this process; it is away from now on. Called by
        the thread that sends it."""
        piles = (self._pile, *list(self._others.values()))
        for pile in piles:
            for child in list(pile.children):
                if child._state == PENDING and may_leave(child):
                    with self.lock:
                        if child.begins(None):
                            child.away = Away()
                            return child
        for pile in piles:
            for loop in list(pile.loops):
                if not loop.wanted:
                    loop.wanted = True  # the next question finds some, or asks a newer loop
                    return None
        return None

    def begins_loop(self) -> Loop:
        """A map that this thread reads."""
        loop = Loop()
        self.pile().loops.append(loop)
        return loop

    def ends_loop(self, loop: Loop) -> None:
        """In any thread."""
        for pile in (self._pile, *list(self._others.values())):
            if loop in pile.loops:
                pile.loops.remove(loop)
                return

    def bring_back(self, child: ChildFuture) -> bool:
        """A child that is away, unless it has begun there. True: it has not begun."""
        away = child.away
        if away is None or not away.withdraw():
            return False
        self.stays(child, away)
        return True

    def stays(self, child: ChildFuture, away: Away) -> None:
        """It has not begun elsewhere, and does not leave again."""
        with self.lock:
            if child.away is away:
                child.away, child.stays = None, True
                child._state = PENDING
                self.condition.notify_all()

    def came(
        self, child: ChildFuture, away: Elsewhere, value: Any, error: BaseException | None
    ) -> None:
        """It is over elsewhere."""
        with self.lock:
            if child.away is not away:
                return
            child.end(FINISHED, value, error)
            self.condition.notify_all()
        child.call_back()

    def dropped(self, child: ChildFuture, away: Elsewhere) -> None:
        """It was cancelled elsewhere."""
        with self.lock:
            if child.away is not away:
                return
            child.end(CANCELLED_AND_NOTIFIED, None, None)
            self.condition.notify_all()
        child.call_back()

    def finish_here(self, *, cancel: bool = False) -> None:
        """All that the task, or the child, that runs in this thread has submitted."""
        pile = self.pile()
        if cancel:
            for child in pile.children[pile.mark :]:
                child.cancel()
        self._finish(pile, pile.mark)

    # ------------------------------------------------------------ the loop's thread

    def settle(self) -> None:
        """The present item has returned: finish what it has left, in the order newest first."""
        self._finish(self._pile, 0)
        for pile in list(self._others.values()):
            self._finish(pile, 0)
        self._end_actors()
        if self._present.run is not None:
            self._present.run.held = None

    def abandon(self) -> None:
        """The present item has failed: cancel what it has left, and wait for what runs."""
        if self._item != len(self._results):
            self.settle()  # what is here was left by an item before it, which has returned
            return
        self._cancel(self._pile, 0)
        for pile in list(self._others.values()):
            self._cancel(pile, 0)
        self._end_actors()

    def _end_actors(self) -> None:
        while self._actors:
            self._actors.pop()._ends()

    def close(self) -> None:
        """The chunk is over."""
        self.closed = True
        self._results = ()
        GATE.closes()
        self._end_actors()
        for pile in (self._pile, *list(self._others.values())):
            _dismiss(pile)

    # ------------------------------------------------------------ inside

    def _call(self, child: ChildFuture, pile: Pile) -> None:
        """It has begun. Returns when it is over, and its descendants are. Raises only TaskStopped."""
        call = child.call
        assert call is not None, "it is called once"
        child.call = None
        fn, args, kwargs = call
        del call
        children, outer, report = pile.children, pile.mark, pile.report
        pile.mark = mark = len(children)
        pile.level += 1
        pile.report = child.report
        value, failed = None, None
        try:
            value = fn(*args, **kwargs)
            if type(value) is CoroutineType:
                value = ended(value)
            if len(children) > mark:
                self._finish(pile, mark)
        except BaseException as error:
            end_if_forked(error)
            trace = traceback_of(error)
            # Without this frame.
            failed = BaseException.with_traceback(error, trace and trace.tb_next)
            self._cancel(pile, mark)
        pile.level -= 1
        pile.mark, pile.report = outer, report
        del fn, args, kwargs
        state = FINISHED
        if is_a(failed, InputCancelled):
            state, failed = CANCELLED_AND_NOTIFIED, None
        with self.lock:
            child.end(state, value, failed)
            if self._sleepers:
                self.condition.notify_all()
        if child._done_callbacks:
            child.call_back()
        try:
            if failed is not None and is_a(failed, TaskStopped):
                raise failed  # the whole task is meant
        finally:
            del failed

    def _wait_for_one_away(self, child: ChildFuture) -> None:
        """Run other children of this thread meanwhile, the newest first. With nothing else to do, take it back,
        unless it has begun elsewhere. So whatever waits waits for something that runs: no cycle of waiting
        workers stands still."""
        pile, told = self.pile(), False
        try:
            while (away := child.away) is not None:
                if self._run_another(pile):
                    continue
                if away.is_late() and self.bring_back(child):
                    break
                with self.condition:
                    quick = child.away is not away or self.condition.wait(LOOK_AGAIN_SECONDS)
                if not (told or quick) and pile.carries:
                    told = True
                    GATE.waits(waits=True)
        finally:
            if told:
                GATE.waits(waits=False)
        if child._state == PENDING:
            self.run(child)

    def _run_another(self, pile: Pile) -> bool:
        """A child of this thread that has not begun, of this frame or of one below. It stays on the pile,
        where the marks of the frames above it count on its place."""
        for child in reversed(pile.children):
            if child._state == PENDING:
                with self.lock:
                    begins = child.begins(pile)
                if begins:
                    if pile.level >= LEVELS_A_THREAD:
                        self._in_a_new_segment(child, pile)
                    else:
                        self._call(child, pile)
                    return True
        return False

    def _finish(self, pile: Pile, mark: int) -> None:
        """Run what is left above the mark, the newest first, and wait for what others run."""
        children = pile.children
        while len(children) > mark:
            child = children.pop()
            if child._state == PENDING:
                self.run(child)
            if child._state == RUNNING:
                self.wait_for(child, None)

    def _cancel(self, pile: Pile, mark: int) -> None:
        """The same for a frame that has failed: what has not begun never does."""
        children = pile.children
        while len(children) > mark:
            child = children.pop()
            if not child.cancel() and child._state == RUNNING:
                self.wait_for(child, None)

    def _in_a_new_segment(self, child: ChildFuture, below: Pile) -> None:
        """Run it on a stack of its own."""
        sys.setrecursionlimit(max(sys.getrecursionlimit(), LEVELS_A_THREAD * FRAMES_A_LEVEL))
        raised: list[BaseException] = []
        context = contextvars.copy_context()
        pile = Pile(below.segment + 1, carries=below.carries)

        def work() -> None:
            thread = get_ident()
            self._others[thread] = pile
            try:
                context.run(self._call, child, pile)
            except BaseException as error:
                raised.append(error)
            finally:
                del self._others[thread]
                _dismiss(pile)
                end_if_forked(raised[0] if raised else None)

        try:
            if pile.segment > SEGMENTS_MAX:
                raise RuntimeError
            thread = start_thread(work, STACK_OCTETS)
        except RuntimeError:
            with self.lock:
                child.call = None
                child.end(FINISHED, None, RecursionError(TOO_DEEP))
                self.condition.notify_all()
            child.call_back()
            return
        thread.join()
        if raised:
            raise raised[0]


class Helper:
    """A thread that runs the children that another thread wants to be run beside it."""

    def __init__(self, family: Family, first: ChildFuture) -> None:
        self.asked: SimpleQueue[ChildFuture | None] = SimpleQueue()
        self.asked.put(first)
        self._family = family
        context = contextvars.copy_context()
        self._thread = start_thread(lambda: context.run(self._work), STACK_OCTETS)

    def _work(self) -> None:
        while (child := self.asked.get()) is not None:
            try:
                self._family.run(child)
            except TaskStopped:
                continue  # the child has failed with it, and its parent hears that
            finally:
                end_if_forked()
            del child


def _never() -> None:
    raise AssertionError("the call of an actor does not run here")


def _dismiss(pile: Pile) -> None:
    """Its thread asks for nothing any more."""
    if pile.helper is not None:
        pile.helper.asked.put(None)
        pile.helper = None
