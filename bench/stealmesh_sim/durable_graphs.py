"""Random worlds with graphs of durable calls: whatever dies, each call comes to what a sequential evaluation says.

Does: draws graphs as `graphs.py` does, and lets a program submit each call once the calls that go into it are
accepted. Programs, primaries, replicas, workers and links die as in `durable_worlds.py`; another program attaches
to each call of a dead one. What a call comes to is a pure function of the graph, so a reader sees whether it was
made of the right results. Calls that fail, and calls that are cancelled, end what they go into, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from msgspec import msgpack

from stealmesh_engine.config import Config
from stealmesh_engine.durable import inputs
from stealmesh_engine.effects import Deliver, RunChunk
from stealmesh_engine.events import AbolishJob, LaunchJob, SupplyJob
from stealmesh_protocol import given
from stealmesh_protocol import values as vx
from stealmesh_protocol.messages import Block, JobKind
from stealmesh_sim.durable_programs import Launcher
from stealmesh_sim.durable_worlds import Commission, DurablePlan, DurableWorld, draw_durable
from stealmesh_sim.graphs import Knot, drawn_graph
from stealmesh_sim.kernel import Breach
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.random_worlds import WorldOutcome, play
from stealmesh_sim.work import CostLaw, Work, mix
from stealmesh_sim.world import World

CALLS_MAX = 40
"""Each is a job of its own, with an election of its own in each catastrophe."""
SUBMIT_SECONDS = 0.01
"""How often a program looks whether the next call can be submitted."""
PATIENCE_SECONDS = 200.0
"""A call that is lost is looked for longer by those that it goes into than by programs."""
FEW_OCTETS = 40
FAILED = "failed"
CANCELLED = "cancelled"


@dataclass(slots=True)
class CallGraph:
    """What is submitted, and what came of it."""

    knots: list[Knot]
    cancels: dict[int, float] = field(default_factory=dict)
    """When (after its submission) which call is cancelled."""
    may_lose: bool = False
    """May accepted calls be lost, if that is reported?"""
    found: dict[int, int | str] = field(default_factory=dict)
    """What readers got: a value, or how it ended."""
    cancelled: set[int] = field(default_factory=set)

    def above(self, at: int) -> set[int]:
        """All that goes into it, or into that, and itself."""
        found, todo = set(), [at]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += self.knots[each].inputs
        return found

    def expected(self, at: int) -> int:
        """By sequential evaluation; its inputs come before it."""
        values: dict[int, int] = {}
        for each in sorted(self.above(at)):
            values[each] = value_of(each, [values[one] for one in self.knots[each].inputs])
        return values[at]

    def heard(self, at: int, value: int | str) -> None:
        before = self.found.setdefault(at, value)
        self.that(before == value, f"call {at} came to {before} and to {value}")
        above = self.above(at)
        fails = {each for each in above if self.knots[each].fails}
        if value == CANCELLED:
            self.that(bool(above & self.cancelled), f"call {at} was cancelled without a cause")
        elif value == FAILED:
            self.that(bool(fails), f"call {at} failed without a cause")
        else:
            self.that(not fails, f"call {at} has a result although {fails} fail")
            self.that(value == self.expected(at), f"call {at} is made of something else")

    @staticmethod
    def that(holds: bool, text: str) -> None:
        if not holds:
            raise Breach("graph", text)


def value_of(at: int, inputs: list[int]) -> int:
    """What a call comes to. The places of its inputs matter."""
    value = mix(at + 1, 0)
    for each in inputs:
        value = mix(value, each)
    return value


class CallWork(Work):
    """One call of a graph, as its workers and checkers know it."""

    graph: CallGraph
    at: int
    __slots__ = ("at", "graph")

    def outcome(self, chunk: RunChunk, lo: int, hi: int) -> tuple[int, bytes, int]:
        inputs = self._inputs(chunk)
        if self.graph.knots[self.at].fails:
            failure = vx.Failure(0, vx.RAISED, text=f"call {self.at} fails")
            return *vx.pack_outcomes(None, [failure]), 1
        return *vx.pack_list([msgpack.encode((self.at, value_of(self.at, inputs)))]), 0

    def _inputs(self, chunk: RunChunk) -> list[int]:
        """What a worker finds in the item."""
        (block, blob), *_ = chunk.blocks
        self.graph.that(
            not block.inputs, f"call {self.at} runs at a node without all of its inputs"
        )
        entry = msgpack.decode(blob)[0]
        knot = self.graph.knots[self.at]
        if entry[0] != given.APART:
            self.graph.that(not knot.inputs, f"call {self.at} runs without its inputs")
            self.graph.that(msgpack.decode(entry[1:]) == self.at, "it is another call")
            return []
        apart = given.opened(entry[1:])
        self.graph.that(msgpack.decode(apart.blob) == self.at, "it is another call")
        found = []
        for number, offset in apart.places:
            self.graph.that(number >= 0, f"call {self.at} runs without all of its inputs")
            result = apart.results[number]
            if offset == given.ALONE:
                value = vx.unpack(result[0], result[1:])
            else:
                value = vx.unpack_list(result[0], result[1:])[offset]
            found.append(tuple(msgpack.decode(value)))
        self.graph.that([at for at, _ in found] == knot.inputs, f"{self.at} has other inputs")
        return [value for _, value in found]

    def fault_of_inputs(self, chunk: RunChunk, base: int) -> str:
        self._inputs(chunk)
        return ""

    def judge(self, effect: Deliver) -> bool:
        part = effect.part
        result = vx.good_in(part.codec, effect.blob, 0)
        if result is not None:
            value = vx.unpack_list(result.codec, result.blob)[result.offset]
            at, found = msgpack.decode(value)
            self.graph.that(at == self.at, f"{self.at} has the result of {at}")
            self.graph.heard(self.at, found)
            return True
        failure = vx.failures_of(effect.blob)[0]
        if failure.kind in (vx.VALUE_LOST, vx.UNSENDABLE):
            self.graph.that(self.graph.may_lose, f"{self.at}: {failure.text}")
        elif not self.killers:
            self.graph.heard(self.at, FAILED)
            above = self.graph.above(self.at) - {self.at}
            others = {each for each in above if self.graph.knots[each].fails}
            right = bool(others) if failure.of else self.graph.knots[self.at].fails
            self.graph.that(right, f"{self.at} fails, and says of {failure.of!r}")
        return True


class CallLauncher(Launcher):
    """One call of a program's graph."""

    def __init__(
        self,
        world: World,
        client: Process,
        wish: Wish,
        graph: CallGraph,
        before: list[CallLauncher],
    ) -> None:
        self.graph = graph
        self.held_until = 0.0
        """It is not submitted before."""
        self.by_name = False
        """Its inputs go by name, also those that are over."""
        self.number = len(before)
        self.inputs = [before[each] for each in graph.knots[self.number].inputs]
        super().__init__(world, client, wish)
        work = CallWork(**{name: getattr(self.work, name) for name in Work.__slots__})
        work.graph, work.at = graph, self.number
        self.work = world.works[self.job] = work

    def _open(self) -> None:
        if not self.owner.alive or self.done:
            return
        if any(each.refusal or each.is_bad for each in self.inputs):
            self.refusal, self.done_at = "what goes into it is over", self.world.now
            return
        waits = self.world.now < self.held_until
        if waits or not all(each.accepted_whole for each in self.inputs):
            self.world.after(SUBMIT_SECONDS, self._open)
            return
        self.opened_at = self.world.now
        block, blob = self._block()
        self.owner.hear(LaunchJob(self.work.spec, 0, [self.work.function]))
        self.owner.hear(SupplyJob(self.job, block, blob, True))
        cancel_after = self.graph.cancels.get(self.number)
        if cancel_after is not None:
            self.world.after(cancel_after, self._cancel)

    @property
    def is_bad(self) -> bool:
        """Has the program heard that it has no result?"""
        return self.done and not isinstance(self.graph.found.get(self.number), int)

    def _block(self) -> tuple[Block, bytes]:
        packed = vx.PLAIN, msgpack.encode(self.number)
        if not self.inputs:
            return Block(0, 1, vx.ITEMS), vx.join_entries([packed])
        found = self.graph.found
        known = {
            place: vx.pack(msgpack.encode((each.number, found[each.number])))
            for place, each in enumerate(self.inputs)
            if each.done and not self.by_name
        }
        by_name = (each for place, each in enumerate(self.inputs) if place not in known)
        names = tuple((each.job, 0, 0) for each in by_name)
        return Block(0, 1, vx.ITEMS, inputs=names), given.item_apart(
            packed, len(self.inputs), known
        )

    def _cancel(self) -> None:
        if self.owner.alive and not self.done:
            self.graph.cancelled.add(self.number)
            self.owner.hear(AbolishJob(self.job))

    def shown(self, effect: object) -> None:
        super().shown(effect)
        if self.done and self.state == CANCELLED:
            self.graph.heard(self.number, CANCELLED)


class DurableGraphWorld(DurableWorld):
    """A drawn world with graphs of durable calls."""

    patience_seconds = PATIENCE_SECONDS

    def __init__(self, drawn: DurablePlan, graphs: list[tuple[int, CallGraph, list[Wish]]]) -> None:
        super().__init__(drawn)
        self.graphs = [graph for _, graph, _ in graphs]
        for client, graph, wishes in graphs:
            graph.may_lose = drawn.excused
            launchers: list[CallLauncher] = []
            for wish in wishes:
                owner = self.clients[client]
                launchers.append(CallLauncher(self.world, owner, wish, graph, launchers))
            self.commissions += [Commission(each, each) for each in launchers]

    def run(self, outcome: WorldOutcome) -> None:
        super().run(outcome)
        for each in self.world.living():
            inputs = each.core.durable.state.inputs
            if not inputs.is_empty:
                raise Breach("leftover", f"{each.name} asks for inputs of calls that are over")


def drawn_calls(rng: Random, until: float) -> tuple[CallGraph, list[Wish]]:
    graph = drawn_graph(rng, until)
    knots = graph.knots[:CALLS_MAX]
    wishes = []
    pause_seconds = rng.choice((0.0, graph.pause_seconds))
    slow = rng.choice((0.02, 0.2, 1.0))
    for at, knot in enumerate(knots):
        law = CostLaw("const", rng.choice((0.001, slow)))
        begins = graph.at + pause_seconds * (at // graph.batch)
        wishes.append(Wish(JobKind.SUBMIT, 1, law, begins, fed=True, function="shared"))
        knot.fails &= rng.random() < 0.5
    calls = CallGraph(knots)
    if rng.random() < 0.3:
        for _ in range(rng.choice((1, 3))):
            calls.cancels[rng.randrange(len(knots))] = rng.choice((0.0, 0.1, 2.0))
    return calls, wishes


def run(seed: int, *, watch: bool = False) -> WorldOutcome:
    """Draw, run and judge one world with graphs of durable calls."""
    drawn = draw_durable(seed)
    rng = Random(f"{seed}/durable graphs")
    drawn.plan.wishes = drawn.plan.wishes[: rng.choice((0, 0, 1))]
    if rng.random() < 0.5:
        drawn.plan.mixture.counts["lost-owner"] = 1
    drawn.repeats = True  # a call may run again for a primary that did not hear of its result
    graphs = []
    for _ in range(rng.choice((1, 1, 2))):
        client = rng.randrange(drawn.plan.clients)
        graphs.append((client, *drawn_calls(rng, drawn.plan.faults_until)))
    outcome = WorldOutcome(seed, nodes=drawn.plan.nodes, jobs=len(graphs))
    with _little_room(rng.random() < 0.3):
        play(DurableGraphWorld(drawn, graphs), outcome, watch=watch)
    return outcome


@contextmanager
def _little_room(is_little: bool) -> Iterator[None]:
    """A primary has room for two or three of these small results."""
    before = inputs.ROOM_SHARE
    try:
        inputs.ROOM_SHARE = FEW_OCTETS / Config().keep_octets_max if is_little else before
        yield
    finally:
        inputs.ROOM_SHARE = before
