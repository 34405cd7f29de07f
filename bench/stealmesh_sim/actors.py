"""The process of an actor in virtual time, and what must hold of all lives of all actors.

Does what a worker does, in a process that comes up with its first order, and does not come back after its
death. Checks what no core can see: which calls ran in which life. Refuses to know how calls got there.

* The calls of a life run in order, none of them twice.
* A call runs in two lives only if it may be tried again, and no more often than that.
* Of two calls that returned something, the later one did not run in an earlier life.
* A call fails with its actor only if the actor has died.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import Deliver, Divide, RunChunk
from stealmesh_engine.events import WorkerLost, WorkerReady
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobSpec
from stealmesh_protocol.values import ACTOR_DIED, OUTCOMES, failures_of
from stealmesh_sim.kernel import Breach
from stealmesh_sim.workers import PIPE_SECONDS, VirtualWorker, WorkerHost, had

START_SECONDS = 0.05
ANSWER_SECONDS = 0.005
"""The thread that answers questions gets the interpreter's lock late, so other news overtake its answer."""


class VirtualActor(VirtualWorker):
    """One life of an actor's process."""

    __slots__ = ("job", "starts")

    def __init__(self, process: WorkerHost, number: int) -> None:
        super().__init__(process, number)
        self.starts = False
        self.job: JobId = b""

    def run(self, effect: RunChunk) -> None:
        check = self.process.world.checkers
        check.that(self.hire is None or self.hire.handing, "hire", "a hired actor has other calls")
        check.that(len(self.queue) < 2, "worker", "a third chunk")
        check.that(self.job in (b"", effect.spec.job), "actor", "two actors in one process")
        self.job = effect.spec.job
        self._check_order(effect)
        self.queue.append(effect)
        if self.ready:
            self.process.world.after(PIPE_SECONDS, self._read, self.life)
        self.starts_up()

    def starts_up(self) -> None:
        """With its first order."""
        if not (self.ready or self.starts):
            self.starts = True
            self.process.world.after(START_SECONDS, self._up, self.life)

    def divide(self, effect: Divide) -> None:
        world = self.process.world
        world.after(ANSWER_SECONDS, self._answer, self.life, effect.chunk, effect.give)

    def _up(self, life: int) -> None:
        if life == self.life and self.process.alive:
            self.ready = True
            self.process.hear(WorkerReady(self.number))
            self._read(life)

    def start(self) -> None:
        """It does not come back."""

    def _begin(self, chunk: RunChunk) -> None:
        life = (id(self.process), self.number)
        self.process.world.checkers.actors.runs(chunk.spec, life, chunk.lo, chunk.hi)
        super()._begin(chunk)

    def _answer(self, life: int, number: int, give: bool) -> None:
        before = self.hi
        super()._answer(life, number, give)
        if life == self.life and self.running is not None and self.hi < before:
            spec = self.running.spec
            name = (id(self.process), self.number)
            self.process.world.checkers.actors.gave_back(spec, name, self.hi, before)

    def _end(self, life: int, reason: str, blame: bool) -> None:
        if life != self.life or not self.process.alive:
            return
        self.life += 1
        self.ready = False
        running = had(self)
        self.queue.clear()
        number = running.chunk if running is not None else None
        self.process.hear(WorkerLost(self.number, number, reason, blame))


@dataclass(slots=True)
class LivesOfOne:
    """What ran in the lives of one actor."""

    spec: JobSpec
    ran: dict[tuple[int, int], IntervalSet] = field(default_factory=dict)
    """By process: the calls that it began."""
    number: dict[tuple[int, int], int] = field(default_factory=dict)
    times: Counter[int] = field(default_factory=Counter)
    last: dict[tuple[int, int], int] = field(default_factory=dict)
    returned: dict[int, int] = field(default_factory=dict)
    """Call → the life that it returned something in."""


class ActorChecks:
    """All actors of a world."""

    def __init__(self) -> None:
        self.lives: dict[JobId, LivesOfOne] = {}
        self.deaths: Counter[JobId] = Counter()

    def of(self, spec: JobSpec) -> LivesOfOne:
        return self.lives.setdefault(spec.job, LivesOfOne(spec))

    def runs(self, spec: JobSpec, process: tuple[int, int], lo: int, hi: int) -> None:
        """This process begins these calls of an actor, in order."""
        actor = self.of(spec)
        last = actor.last.get(process, -1)
        _must(lo > last, f"call {lo} runs after call {last} in one life")
        actor.last[process] = hi - 1
        actor.number[process] = spec.life
        actor.ran.setdefault(process, IntervalSet()).add(lo, hi)
        for item in range(lo, hi):
            actor.times[item] += 1
            most = 1 + spec.retries
            _must(actor.times[item] <= most, f"call {item} runs for the {actor.times[item]}. time")

    def gave_back(self, spec: JobSpec, process: tuple[int, int], lo: int, hi: int) -> None:
        """It had not begun these."""
        actor = self.of(spec)
        actor.last[process] = lo - 1
        actor.ran[process].remove(lo, hi)
        actor.times.subtract(range(lo, hi))

    def died(self, job: JobId) -> None:
        self.deaths[job] += 1

    def delivered(self, spec: JobSpec, effect: Deliver) -> bool:
        """What a program got of these calls. Returns whether it is the failure of a dead actor."""
        actor = self.of(spec)
        if effect.part.codec == OUTCOMES:
            kinds = {failure.kind for failure in failures_of(effect.blob)}
            if kinds == {ACTOR_DIED}:
                _must(self.deaths[spec.job] > 0, f"call {effect.lo} died with an actor that lives")
                return True
            return False
        for item in range(effect.lo, effect.hi):
            lives = [
                actor.number[process]
                for process, ran in actor.ran.items()
                if ran.covers(item, item + 1)
            ]
            _must(bool(lives), f"call {item} returned something and never ran")
            actor.returned[item] = max(lives)
        return False

    def ended(self, job: JobId) -> None:
        """All calls are answered: did later ones run in later lives?"""
        actor = self.lives.get(job)
        if actor is not None:
            lives = [actor.returned[item] for item in sorted(actor.returned)]
            later = zip(sorted(actor.returned), lives, lives[1:], strict=False)
            wrong = next((item for item, one, other in later if one > other), None)
            _must(wrong is None, f"what followed call {wrong} ran in an earlier life")


def _must(holds: bool, text: str) -> None:
    if not holds:
        raise Breach("actor", text)
