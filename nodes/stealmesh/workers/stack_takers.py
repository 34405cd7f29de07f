"""The node's side of looking at its workers: it asks them, and has what cannot answer written down.

A worker is asked by a question, and by a signal if no thread of it reads questions yet. One that has not answered
after a quarter of a second holds the interpreter in C: it gets `wire.DUMP_SIGNAL`, and what its handler has written
is read from the file that both have open. Decides how long to wait for which, and that a process is looked at a few
times a second at most, however many ask. Refuses to know who asks, and which job a chunk belongs to.

The signal is sent only if the number under which the process has the file still is that file: a task that
closes descriptors must not find stacks in a file of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass, field

from stealmesh.workers import wire
from stealmesh.workers.handle import ProcessHandle
from stealmesh.workers.processes import Processes, State, Worker
from stealmesh.workers.shared_words import SharedWords
from stealmesh.workers.stacks import where_the_task_begins
from stealmesh_engine.effects import TakeStacks
from stealmesh_engine.events import Event, StacksTaken
from stealmesh_engine.holding.slots import FIRST_ACTOR
from stealmesh_protocol.stacks import SIGNAL, SILENT, Frame, Stack, WorkerStacks

ANSWER_SECONDS = 0.25
"""A thread that wants the interpreter gets it within 5 ms unless it is held in C, and a busy machine is slow."""
DUMP_SECONDS = 0.1
READS_MAX = 3
AGAIN_SECONDS = 0.2
"""A peer that asks sooner gets what was told to the one before."""
DUMP_OCTETS_MAX = 256 * 1024
_HEAD = re.compile(
    r"(Current thread|Thread) (0x[0-9a-f]+)(?: \[(.*?)\])? \(most recent call first\):"
)
_LINE = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')

Key = tuple[int, int]
"""A worker's number and which of its processes."""


@dataclass(slots=True)
class Asked:
    """A process that has been asked, and has not answered yet."""

    worker: Worker
    handle: ProcessHandle
    at: float
    signalled: bool = False
    reads: int = 0
    """How often we have looked for what its handler has written."""


@dataclass(slots=True)
class Taking:
    """One order of the core's."""

    waiting: set[Key]
    told: list[WorkerStacks] = field(default_factory=list)


class StackTakers:
    """All looks at the workers of one node."""

    def __init__(self, processes: Processes, words: SharedWords, count: int) -> None:
        self._processes = processes
        self._words = words
        self._count = count
        self.takings: dict[int, Taking] = {}
        """Orders that are not carried out yet. Empty without an onlooker: the only question then."""
        self._asked: dict[Key, Asked] = {}
        self._recent: dict[Key, tuple[float, WorkerStacks]] = {}

    def take(self, effect: TakeStacks, now: float) -> None:
        """Ask these workers. What is known of them since a moment ago counts."""
        for key in [key for key, (at, _) in self._recent.items() if now - at >= AGAIN_SECONDS]:
            del self._recent[key]
        taking = self.takings[effect.ticket] = Taking(set())
        for number in effect.workers:
            for worker in self._both(number):
                handle = worker.handle
                if handle is None or worker.state is not State.READY or not handle.pid:
                    continue
                key = (worker.number, handle.number)
                if key in self._recent:
                    taking.told.append(self._recent[key][1])
                    continue
                taking.waiting.add(key)
                if key not in self._asked:
                    self._asked[key] = Asked(worker, handle, now)
                    self._ask(worker, handle)

    def came(self, worker: Worker, handle: ProcessHandle, payload: memoryview, now: float) -> None:
        """A worker says what it is at. Raises ValueError, TypeError for garbage."""
        _, stacks, more = wire.unpack(payload)
        told = WorkerStacks(
            worker.known_as(self._count), handle.pid, [_stack(each) for each in stacks]
        )
        if more:
            told.why = f"{more} more threads or tasks are left out"
        self._know((worker.number, handle.number), told, now)

    def sooner(self, restart: float | None) -> float:
        """When to look again at those that do not answer, or when a worker starts again, if that is sooner."""
        if any(not taking.waiting for taking in self.takings.values()):
            return 0.0
        look = min((each.at + _patience(each) for each in self._asked.values()), default=0.0)
        return look if restart is None else min(look, restart)

    def collect(self, now: float) -> list[Event]:
        """The orders that are carried out by now."""
        for key, each in list(self._asked.items()):
            if each.worker.handle is not each.handle:
                self._know(key, _silent(each, self._count, "its process has ended"), now)
            elif now >= each.at + _patience(each):
                self._press(key, each, now)
        done = [ticket for ticket, taking in self.takings.items() if not taking.waiting]
        return [StacksTaken(ticket, self.takings.pop(ticket).told) for ticket in done]

    # ------------------------------------------------------------ inside

    def _both(self, number: int) -> list[Worker]:
        if number <= FIRST_ACTOR and number >= len(self._processes.workers):
            return []
        return self._processes.both(number)

    def _ask(self, worker: Worker, handle: ProcessHandle) -> None:
        handle.ask(wire.QUESTION.pack(0, wire.TELL_STACKS))
        if not self._words.listens(worker.number, handle.pid):
            self._words.look(worker.number)
            handle.interrupt()

    def _press(self, key: Key, each: Asked, now: float) -> None:
        """It holds the interpreter: have it written down without; then read that."""
        if not each.signalled:
            each.signalled = True
            each.at = now
            why = self._have_it_dumped(each)
            if why:
                self._know(key, _silent(each, self._count, why), now)
            return
        text = os.pread(each.handle.sheet, DUMP_OCTETS_MAX, 0).decode(errors="replace")
        stacks = stacks_in(text, each.handle.running())
        each.reads += 1
        if not stacks and each.reads < READS_MAX:
            each.at = now  # on a busy machine a signal takes its time
            return
        told = WorkerStacks(each.worker.known_as(self._count), each.handle.pid, stacks, SIGNAL)
        if not stacks:
            told = _silent(each, self._count, "it answers nothing, and no signal")
        self._know(key, told, now)

    def _have_it_dumped(self, each: Asked) -> str:
        """Returns why that cannot be."""
        sheet, pid = each.handle.sheet, each.handle.pid
        try:
            there = os.stat(f"/proc/{pid}/fd/{self._words.sheet(each.worker.number)}")
        except OSError:
            return "its task holds the interpreter, and has closed the file for stacks"
        here = os.fstat(sheet)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            return "its task holds the interpreter, and has closed the file for stacks"
        os.ftruncate(sheet, 0)
        os.lseek(sheet, 0, os.SEEK_SET)  # the process writes where we stand
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.Signals(wire.DUMP_SIGNAL))
        return ""

    def _know(self, key: Key, told: WorkerStacks, now: float) -> None:
        self._asked.pop(key, None)
        self._recent[key] = (now, told)
        for taking in self.takings.values():
            if key in taking.waiting:
                taking.waiting.remove(key)
                taking.told.append(told)


def _patience(each: Asked) -> float:
    return DUMP_SECONDS if each.signalled else ANSWER_SECONDS


def _silent(each: Asked, count: int, why: str) -> WorkerStacks:
    return WorkerStacks(each.worker.known_as(count), each.handle.pid, [], SILENT, why)


def _stack(said: list[object]) -> Stack:
    name, frames, chunk, item, left_out = said
    assert isinstance(frames, list)
    return Stack(str(name), [Frame(*each) for each in frames], int(chunk), int(item), int(left_out))  # type: ignore[call-overload]


def stacks_in(text: str, running: int | None) -> list[Stack]:
    """What faulthandler has written. The thread that was interrupted runs the chunk."""
    stacks: list[Stack] = []
    for line in text.splitlines():
        head, frame = _HEAD.match(line), _LINE.match(line)
        if head is not None:
            current = head[1] == "Current thread"
            name = head[3] or ("MainThread" if current else f"thread {head[2]}")
            chunk = running if current and running is not None else -1
            stacks.append(Stack(name, [], chunk))
        elif frame is not None and stacks:
            number = int(frame[2]) if frame[2].isdecimal() else 0
            stacks[-1].frames.insert(0, Frame(frame[1], number, frame[3]))
    for stack in stacks:
        begins = where_the_task_begins([each.file for each in stack.frames])
        stack.frames = stack.frames[begins:]
    return [stack for stack in stacks if stack.frames or stack.chunk >= 0]
