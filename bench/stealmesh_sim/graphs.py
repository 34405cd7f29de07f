"""Graphs of virtual items: some go into others, and each knows in the end what it was made of.

Does: draws graphs, feeds them, cancels some items. Each run of an item has a number of its own in its result,
and the numbers of the results that went into it. So a checker sees whether an item got the very results that
count, although items run again after a loss. What must come out is what a sequential evaluation says: who fails
by itself, which fails because of another, and which has a result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from msgspec import msgpack
from msgspec.structs import replace as msgspec_replace

from stealmesh_engine.effects import Deliver, InputFailed, InputWithdrawn, JobDone, RunChunk
from stealmesh_engine.events import (
    CancelItems,
    CloseInput,
    Event,
    Feed,
    ForgetRecipe,
    OpenJob,
    ReleaseValue,
)
from stealmesh_protocol import given
from stealmesh_protocol import values as vx
from stealmesh_protocol.ids import JobId, ValueId, value_of_item
from stealmesh_protocol.messages import Block, JobKind, Part
from stealmesh_sim.kernel import Breach
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish, watch, work_of
from stealmesh_sim.random_worlds import (
    RandomWorld,
    WorldOutcome,
    WorldPlan,
    counters_of,
    draw,
    play,
)
from stealmesh_sim.work import CostLaw, Work
from stealmesh_sim.workers import hands_on
from stealmesh_sim.world import World


@dataclass(slots=True)
class Knot:
    """One item of a graph."""

    stream: int
    """The number of its job."""
    index: int
    inputs: list[int]
    """By their numbers in the graph."""
    fails: bool = False


@dataclass(slots=True)
class GraphWish:
    """A graph that a program is going to submit."""

    knots: list[Knot]
    streams: list[Wish]
    at: float = 0.0
    batch: int = 20
    """Items that are fed at once."""
    pause_seconds: float = 0.01
    """Between two batches."""
    in_one_step: bool = False
    """The core hears of a batch at once, as of what has gathered in a real program."""
    cancels: list[tuple[float, int]] = field(default_factory=list)
    """When (after the start) which knot is not wanted any more."""
    stops: set[int] = field(default_factory=set)
    """Those of them that are stopped: what waits for them fails, as their futures do."""
    stays: dict[int, int] = field(default_factory=dict)
    """Streams whose results stay where they were made, and how large they are."""
    holds_seconds: float = 0.0
    """How long the program holds a result that stays."""


class GraphAccount:
    """What became of the items of one graph."""

    def __init__(self, wish: GraphWish) -> None:
        self.wish = wish
        self.runs = 0
        self.results: dict[int, int] = {}
        """Knot → the number of the run that counts."""
        self.failed: set[int] = set()
        self.cancelled: set[int] = set()
        self.gave_up: Callable[[], bool] = lambda: False
        """Has the owner given up a result that was lost too often?"""
        self.spared: dict[int, int | None] = {}
        """Knots that do not run → the other that is the cause; None: of one that was cancelled."""
        self.numbers = {(knot.stream, knot.index): at for at, knot in enumerate(wish.knots)}
        self._above: dict[int, frozenset[int]] = {}
        for at, knot in enumerate(wish.knots):
            above = [self._above[each] | {each} for each in knot.inputs]
            self._above[at] = frozenset().union(*above)

    def above(self, knot: int) -> frozenset[int]:
        """All that goes into it, or into that."""
        return self._above[knot]

    def arrived(self, knot: int, run: int, made_of: list[tuple[int, int]]) -> None:
        inputs = self.wish.knots[knot].inputs
        self.that([each for each, _ in made_of] == inputs, f"{knot} has other inputs")
        for each, number in made_of:
            self.that(
                self.results.get(each) == number,
                f"{knot} got a result of {each} that does not count",
            )
        self.results[knot] = run

    def spare(self, knot: int, cause: int | None) -> None:
        above = self.above(knot)
        if cause is None:
            cancelled = self.cancelled - self.wish.stops
            self.that(bool(above & cancelled), f"{knot} was cancelled without a cause")
        else:
            failed = cause in self.failed or cause in self.cancelled & self.wish.stops
            self.that(cause in above and failed, f"{knot} failed because of {cause}")
        self.spared[knot] = cause

    def fail(self, knot: int) -> None:
        missing = [each for each in self.wish.knots[knot].inputs if each not in self.results]
        self.that(not missing, f"{knot} ran without {missing}")
        self.failed.add(knot)

    def must_be_right(self) -> None:
        """In the end: as a sequential evaluation has it."""
        for at, knot in enumerate(self.wish.knots):
            bad = (self.failed | self.cancelled) & self.above(at)
            if at in self.results:
                self.that(
                    not bad or not (bad & set(knot.inputs)), f"{at} ran although {bad} did not"
                )
                self.that(not knot.fails, f"{at} has a result although it fails")
                self.that(all(each in self.results for each in knot.inputs), f"{at} ran too early")
            elif at in self.spared:
                self.that(bool(bad), f"{at} did not run, without a cause")
            else:
                self.that(at in self.failed or at in self.cancelled, f"{at} is lost")

    @staticmethod
    def that(holds: bool, text: str) -> None:
        if not holds:
            raise Breach("graph", text)


class GraphWork(Work):
    """One job of a graph, as its workers and checkers know it."""

    account: GraphAccount
    stream: int
    ran: dict[int, tuple[RunChunk, dict[int, int]]]
    """Chunks whose worker hands results on: the runs of their items."""
    __slots__ = ("account", "ran", "stream")

    def knot(self, index: int) -> int:
        return self.account.numbers[self.stream, index]

    def goes_to(self, chunk: RunChunk, lo: int, hi: int) -> int:
        """Up to the first item that fails, or whose result stays, if others are made of it."""
        if not hands_on(chunk):
            return hi
        self.ran[id(chunk)] = chunk, {}
        if chunk.spec.stays_from:
            return lo + 1
        fails = (at for at in range(lo, hi) if self.account.wish.knots[self.knot(at)].fails)
        return next((at + 1 for at in fails), hi)

    def outcome(self, chunk: RunChunk, lo: int, hi: int) -> tuple[int, bytes, int]:
        results: list[Any] = []
        failures = []
        for index in range(lo, hi):
            made_of = self._made_of(chunk, index)
            if self.account.wish.knots[self.knot(index)].fails:
                failures.append(vx.Failure(index - lo, vx.RAISED, text=f"item {index} fails"))
                results.append(None)
                continue
            self.account.runs += 1
            if id(chunk) in self.ran:
                self.ran[id(chunk)][1][index] = self.account.runs
            results.append(msgpack.encode((self.knot(index), self.account.runs, made_of)))
        if failures:
            return *vx.pack_outcomes(results, failures), len(failures)
        return *vx.pack_list(results), 0

    def _made_of(self, chunk: RunChunk, index: int) -> list[tuple[int, int]]:
        """What a worker finds in the item: its inputs, and which runs of them."""
        block, blob = next((b, x) for b, x in chunk.blocks if b.lo <= index < b.hi)
        entry = msgpack.decode(blob)[index - block.lo]
        if entry[0] != given.APART:
            named = msgpack.decode(entry[1:])
            GraphAccount.that(named == [self.stream, index], f"item {index} is another one")
            return []
        apart = given.opened(entry[1:])
        GraphAccount.that(msgpack.decode(apart.blob) == [self.stream, index], "it is another item")
        found = []
        for number, offset in apart.places:
            if (number, offset) == given.MISSING and block.inputs == (
                (chunk.spec.job, index - 1, block.inputs[0][2] if block.inputs else 0),
            ):
                ran = self.ran.get(id(chunk), (chunk, {}))[1]
                found.append((self.knot(index - 1), ran.get(index - 1, -1)))
                continue
            GraphAccount.that(number >= 0, f"item {index} runs without all of its inputs")
            result = apart.results[number]
            values = vx.unpack_list(result[0], result[1:])
            knot, run, _ = msgpack.decode(values[offset])
            found.append((knot, run))
        return found

    def fault_of_inputs(self, chunk: RunChunk, base: int) -> str:
        for index in range(chunk.lo, chunk.hi):
            self._made_of(chunk, index)
        return ""

    def judge(self, effect: Deliver) -> bool:
        part = effect.part
        for index in range(effect.lo, effect.hi):
            knot = self.knot(index)
            result = vx.good_in(part.codec, effect.blob, index - part.lo)
            if result is None:
                told = (
                    self.account.wish.knots[knot].fails
                    or index in self.killers
                    or index in self.again
                    or self._is_lost_for_good(part, effect.blob, index)
                )
                self.account.that(told, f"{knot} failed without a cause")
                self.account.fail(knot)
                continue
            value = vx.unpack_list(result.codec, result.blob)[result.offset]
            named, run, made_of = msgpack.decode(value)
            self.account.that(named == knot, f"{knot} has the result of {named}")
            self.account.arrived(knot, run, [(each, number) for each, number in made_of])
        return True

    def _is_lost_for_good(self, part: Part, blob: bytes, index: int) -> bool:
        """It needs a result that was lost as often as a call may run again."""
        failures = vx.failures_of(blob) if part.codec == vx.OUTCOMES else []
        kinds = [each.kind for each in failures if each.offset == index - part.lo]
        return kinds == [vx.VALUE_LOST] and self.account.gave_up()

    def spared(self, effect: InputFailed | InputWithdrawn) -> None:
        cause = None
        if isinstance(effect, InputFailed):
            cause = next(
                at
                for (stream, index), at in self.account.numbers.items()
                if index == effect.item and self.account_jobs[stream] == effect.cause
            )
        for lo, hi in effect.intervals:
            for index in range(lo, hi):
                self.account.spare(self.knot(index), cause)

    @property
    def account_jobs(self) -> list[JobId]:
        return self.account.jobs  # type: ignore[attr-defined, no-any-return]


class HeldResult:
    """A result that stays on a node, and who in the program needs it or its recipe (as `refs.py` has it)."""

    __slots__ = ("made_of", "recipes", "users", "value")

    def __init__(self, value: ValueId, made_of: list[HeldResult]) -> None:
        self.value = value
        self.users = 1
        self.recipes = 1
        self.made_of = made_of
        for each in made_of:
            each.recipes += 1

    def let_go(self) -> list[Event]:
        """One user fewer. Returns what the core is to be told."""
        self.users -= 1
        if self.users:
            return []
        told: list[Event] = [ReleaseValue(self.value)]
        todo = [self]
        while todo:
            each = todo.pop()
            each.recipes -= 1
            if not each.recipes:
                told.append(ForgetRecipe(each.value))
                todo += each.made_of
        return told


class GraphStream:
    """One job of a graph: what a world asks of a program."""

    def __init__(self, graph: GraphProgram, work: GraphWork, wish: Wish) -> None:
        self.graph = graph
        self.owner = graph.owner
        self.work = work
        self.wish = wish
        self.values: list[Any] = []
        self.done_at: float | None = None

    @property
    def job(self) -> JobId:
        return self.work.spec.job

    @property
    def done(self) -> bool:
        return self.done_at is not None

    def shown(self, effect: Any) -> None:
        if isinstance(effect, JobDone):
            self.done_at = self.graph.world.now
            self.graph.over()
        elif isinstance(effect, Deliver):
            self.graph.delivered(self.job, effect)
        elif isinstance(effect, InputFailed | InputWithdrawn):
            for lo, hi in effect.intervals:
                for index in range(lo, hi):
                    self.graph.not_needed_for((self.job, index))


class GraphProgram:
    """A program that submits one graph."""

    def __init__(self, world: World, owner: Process, wish: GraphWish) -> None:
        self.world = world
        self.owner = owner
        self.wish = wish
        self._needed: dict[tuple[JobId, int], list[HeldResult]] = {}
        """What keeps results that stay for items that are not over."""
        self._grips: dict[tuple[JobId, int], HeldResult] = {}
        self.account = GraphAccount(wish)
        self.account.gave_up = lambda: any("attempts_max" in e for e in owner.core.journal.of())
        self.streams: list[GraphStream] = []
        for number, stream in enumerate(wish.streams):
            made = work_of(world, owner, stream)
            work = GraphWork(**{name: getattr(made, name) for name in Work.__slots__})
            work.account, work.stream, work.ran = self.account, number, {}
            octets = wish.stays.get(number, 0)
            work.spec = msgspec_replace(work.spec, stays_from=octets)
            for index in range(stream.items if octets else 0):
                world.values[value_of_item(work.spec.job, index)] = octets
            world.works[work.spec.job] = work
            world.checkers.opened(work)
            self.streams.append(GraphStream(self, work, stream))
            watch(owner, self.streams[-1])
        self.account.jobs = [each.job for each in self.streams]  # type: ignore[attr-defined]
        self._fed = 0
        self.wastes = bool(wish.cancels)
        """Something may have run for nothing."""
        world.at(max(world.now, wish.at), self._open)

    def delivered(self, job: JobId, effect: Deliver) -> None:
        """What the program does with results that stay, and with what they were made of."""
        stays = {item for item, _ in effect.part.stays if effect.lo <= item < effect.hi}
        for item in sorted(stays):
            grip = HeldResult(value_of_item(job, item), self._needed.get((job, item), []))
            self._grips[job, item] = grip
            for into in effect.into:
                if into[0] == item and not self._is_over(*into[1:]):
                    grip.users += 1
                    self._needed.setdefault(into[1:], []).append(grip)
            self.world.after(self.wish.holds_seconds, self._let_go, grip)
        for item in range(effect.lo, effect.hi):
            self.not_needed_for((job, item))

    def _is_over(self, job: JobId, index: int) -> bool:
        """The program has cancelled it meanwhile, as only it knows so far."""
        stream = next(each for each in self.streams if each.job == job)
        return stream.work.knot(index) in self.account.cancelled

    def not_needed_for(self, item: tuple[JobId, int]) -> None:
        for grip in self._needed.pop(item, ()):
            self.world.at(self.world.now, self._let_go, grip)

    def _let_go(self, grip: HeldResult) -> None:
        if not self.owner.alive:
            return
        if self.owner.paused or self._fed < len(
            self.wish.knots
        ):  # it may go into what is not fed yet
            self.world.after(0.01, self._let_go, grip)
            return
        for event in grip.let_go():
            self.owner.hear(event)

    def over(self) -> None:
        if all(each.done for each in self.streams):
            self.account.must_be_right()

    def _open(self) -> None:
        if not self.owner.alive:
            return
        for stream in self.streams:
            spec, functions = stream.work.spec, {stream.work.spec.function: stream.work.function}
            self.owner.hear(OpenJob(spec, open_ended=True, functions=functions))
        self._feed()
        for after, knot in self.wish.cancels:
            self.world.after(after, self._cancel, knot)

    def _feed(self) -> None:
        if not self.owner.alive:
            return
        if self.owner.paused:
            self.world.after(0.01, self._feed)
            return
        self.owner.wake()
        upto = min(self._fed + self.wish.batch, len(self.wish.knots))
        for at in range(self._fed, upto):
            self._fed = at + 1
            self._feed_one(at)
        self.owner.fed_in_one_step = True
        self.owner.wake()
        self.owner.fed_in_one_step = False
        if upto < len(self.wish.knots):
            self.world.after(self.wish.pause_seconds, self._feed)
        else:
            for stream in self.streams:
                self.owner.hear(CloseInput(stream.job))

    def _feed_one(self, at: int) -> None:
        """Unless one of its inputs is over in a bad way: then a real program does not submit it."""
        knot = self.wish.knots[at]
        packed = vx.PLAIN, msgpack.encode((knot.stream, knot.index))
        names = [self.wish.knots[each] for each in knot.inputs]
        inputs = [(self.streams[each.stream].job, each.index) for each in names]
        known = {}
        account = self.account
        for place, each in enumerate(knot.inputs):
            if each in account.results:
                value = msgpack.encode((each, account.results[each], []))
                known[place] = vx.pack_list([value])
        kept = [self._grips[name] for name in inputs if name in self._grips]
        block = Block(knot.index, knot.index + 1, vx.ITEMS, tuple(sorted({k.value for k in kept})))
        if any(
            each in account.failed | account.cancelled | account.spared.keys()
            for each in knot.inputs
        ):
            # It has its number, as its stream's numbers have no gaps; nobody wants it.
            self._tell(Feed(self.streams[knot.stream].job, block, vx.join_entries([packed])))
            self._cancel(at)
            self.wastes = True
            return
        if not inputs:
            blob = vx.join_entries([packed])
        else:
            blob = given.item_apart(packed, len(inputs), {})
        known_names = tuple(inputs)
        if known and len(known) == len(inputs):
            results = [given.Result(*known[place], 0) for place in range(len(inputs))]
            blob, known_names = given.filled(blob, results), ()
        elif known:
            holes = [given.Result(*known[p], 0) if p in known else None for p in range(len(inputs))]
            blob = given.filled(blob, holes)
            known_names = tuple(name for place, name in enumerate(inputs) if place not in known)
        for grip in kept:
            grip.users += 1
        if kept:
            self._needed[self.streams[knot.stream].job, knot.index] = kept
        self._tell(Feed(self.streams[knot.stream].job, block, blob, known_names))

    def _tell(self, event: Event) -> None:
        """A real program and its core are one process: it knows all that the core has delivered."""
        self.owner.inbox.append(event)
        if not (self.wish.in_one_step and isinstance(event, Feed)):
            self.owner.wake()

    def _cancel(self, at: int) -> None:
        knot = self.wish.knots[at]
        stream = self.streams[knot.stream]
        if not self.owner.alive or stream.done or at >= self._fed or self.owner.paused:
            return
        self.owner.wake()
        over = at in self.account.results or at in self.account.failed or at in self.account.spared
        if over:
            return
        self.account.cancelled.add(at)
        self.not_needed_for((stream.job, knot.index))
        stops = at in self.wish.stops
        self._tell(CancelItems(stream.job, [(knot.index, knot.index + 1)], stops, stops))


# ---------------------------------------------------------------- random graphs


def drawn_graph(rng: Random, until: float) -> GraphWish:
    """A chain, a stencil, a tree, or anything."""
    streams = [
        Wish(
            JobKind.SUBMIT,
            0,
            CostLaw(
                rng.choice(("const", "exponential")),
                rng.choice((0.0002, 0.002, 0.02, 0.1)),
                rng.getrandbits(32),
            ),
            retries=rng.choice((0, 0, 2)),
            max_parallel=rng.choice((0, 0, 0, 0, 3)),
            priority=rng.choice((0, 0, 0, 2)),
        )
        for _ in range(rng.choice((1, 1, 2, 3)))
    ]
    shape = rng.choice(_SHAPES)
    knots = [Knot(rng.randrange(len(streams)), 0, sorted(inputs)) for inputs in shape(rng)]
    for knot in knots:
        wish = streams[knot.stream]
        knot.index = wish.items
        wish.items += 1
        if rng.random() < 0.2:
            _trouble(rng, wish, knot)
    troubled = rng.random() < 0.4
    for knot in knots:
        knot.fails &= troubled
    graph = GraphWish(knots, streams, rng.uniform(0, until / 2), rng.choice((1, 7, 50, 1000)))
    graph.pause_seconds = rng.uniform(0.0, until * 0.3) / max(1, len(knots) // graph.batch)
    if rng.random() < 0.3:
        for _ in range(rng.choice((1, 2, 5))):
            graph.cancels.append((rng.uniform(0, until), rng.randrange(len(knots))))
    return graph


def drawn_chains(rng: Random, until: float) -> GraphWish:
    """Chains of items so short that workers hand their results on."""
    law = CostLaw("const", rng.choice((0.00002, 0.0002, 0.001)), 0)
    stream = Wish(JobKind.SUBMIT, 0, law, retries=rng.choice((0, 2)))
    inputs: list[set[int]] = []
    for _ in range(rng.choice((1, 1, 3))):
        first = len(inputs)
        length = rng.choice((40, 150, 400))
        inputs += [{at - 1} if at > first else set() for at in range(first, first + length)]
    knots = [Knot(0, at, sorted(each)) for at, each in enumerate(inputs)]
    stream.items = len(knots)
    for knot in rng.sample(knots, rng.choice((0, 0, 1, 5))):
        _trouble(rng, stream, knot)
        knot.fails = rng.random() < 0.2
    graph = GraphWish(knots, [stream], rng.uniform(0, until / 2), rng.choice((50, 1000)))
    graph.in_one_step = True
    for _ in range(rng.choice((0, 0, 1, 3))):
        graph.cancels.append((rng.uniform(0, 0.1), rng.randrange(len(knots))))
    return graph


def drawn_grid(rng: Random, until: float) -> GraphWish:
    """Rows of items that need their neighbours of the row before: their nodes hand results to each other."""
    law = CostLaw(rng.choice(("const", "exponential")), rng.choice((0.0002, 0.002, 0.02)), 0)
    streams = [
        Wish(JobKind.SUBMIT, 0, law, retries=rng.choice((0, 2)))
        for _ in range(rng.choice((1, 1, 2)))
    ]
    width, reach = rng.choice((2, 4, 8, 12)), rng.choice((1, 1, 2))
    knots = []
    for at in range(width * rng.choice((10, 30, 60))):
        row, column = divmod(at, width)
        near = range(max(0, column - reach), min(width, column + reach + 1))
        inputs = [(row - 1) * width + each for each in near] if row else []
        stream = column * len(streams) // width
        knots.append(Knot(stream, streams[stream].items, inputs))
        streams[stream].items += 1
    for knot in rng.sample(knots, rng.choice((0, 0, 1, 5))):
        _trouble(rng, streams[knot.stream], knot)
        knot.fails &= rng.random() < 0.2
    graph = GraphWish(knots, streams, rng.uniform(0, until / 2), rng.choice((5, 50, 1000)))
    graph.pause_seconds = rng.uniform(0.0, until * 0.3) / max(1, len(knots) // graph.batch)
    for _ in range(rng.choice((0, 0, 1, 3))):
        graph.cancels.append((rng.uniform(0, until), rng.randrange(len(knots))))
    return graph


def _have_stay(rng: Random, wish: GraphWish) -> None:
    """The results of some streams stay where they were made. What is made again must not end otherwise."""
    if rng.random() > 0.3:
        return
    wish.holds_seconds = rng.choice((0.0, 0.0, 1.0))
    for number, stream in enumerate(wish.streams):
        stream.killers.clear()
        stream.again.clear()
        if rng.random() < 0.7:
            wish.stays[number] = rng.choice((1, 1000, 300_000))


def _trouble(rng: Random, wish: Wish, knot: Knot) -> None:
    luck = rng.random()
    if luck < 0.1:
        knot.fails = True
    elif luck < 0.15:
        wish.killers[knot.index] = rng.choice((1, 2, 99))
    elif luck < 0.3 and wish.retries:
        wish.again[knot.index] = [rng.choice((-1.0, 0.0, 0.2))] * rng.choice((1, 2))


def _chain(rng: Random) -> list[set[int]]:
    return [{at - 1} if at else set() for at in range(rng.choice((2, 30, 200)))]


def _stencil(rng: Random) -> list[set[int]]:
    width, steps = rng.choice((2, 4, 8)), rng.choice((3, 20))
    found: list[set[int]] = []
    for step in range(steps):
        for column in range(width):
            near = {c for c in (column - 1, column, column + 1) if 0 <= c < width}
            found.append({(step - 1) * width + c for c in near} if step else set())
    return found


def _tree(rng: Random) -> list[set[int]]:
    count = rng.choice((4, 16, 64))
    found: list[set[int]] = [set() for _ in range(count)]
    level = list(range(count))
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = []
        for pair in pairs:
            level.append(len(found))
            found.append(set(pair))
    return found


def _fan(rng: Random) -> list[set[int]]:
    count = rng.choice((10, 90, 150))
    return [set(), *({0} for _ in range(count)), set(range(1, count + 1))]


def _anything(rng: Random) -> list[set[int]]:
    found: list[set[int]] = []
    for at in range(rng.choice((10, 60, 150))):
        near = max(0, at - rng.choice((3, 10, 1000)))
        count = min(at - near, rng.choice((0, 1, 1, 2, 5)))
        found.append(set(rng.sample(range(near, at), count)))
    return found


_SHAPES: list[Callable[[Random], list[set[int]]]] = [_chain, _stencil, _tree, _fan, _anything]


class GraphWorld(RandomWorld):
    """A drawn world with graphs in the place of its jobs."""

    def __init__(self, plan: WorldPlan, graphs: list[tuple[int, GraphWish]]) -> None:
        super().__init__(plan)
        self.world.checkers.placing.items_wait = True
        self.graphs = [
            GraphProgram(self.world, self.clients[client], wish) for client, wish in graphs
        ]
        for graph in self.graphs:
            self.programs += graph.streams  # type: ignore[arg-type]

    def _sweep(self) -> None:
        super()._sweep()
        for client in self.clients:
            client.core.owner.graph.audit()

    def _wastes_on_purpose(self) -> bool:
        return any(graph.wastes for graph in self.graphs)

    def run(self, outcome: WorldOutcome) -> None:
        super().run(outcome)
        for graph in self.graphs:
            if graph.owner.alive:
                graph.account.must_be_right()
        nothing_is_left(self.world)
        if counters_of(self.world)["rude-blocks"]:
            raise Breach("rude", "a node refused an item of its owner's")
        stays = any(graph.wish.stays for graph in self.graphs)
        if not stays and counters_of(self.world)["results-premature"]:
            raise Breach("order", "a result came before what went into it")


def nothing_is_left(world: World) -> None:
    """When all is over no edge, no result and no follow-on is anywhere."""
    for process in world.living():
        follow_ons = process.core.holder.follow_ons
        if follow_ons.waiting or follow_ons.awaited:
            raise Breach("leftover", f"{process.name} has follow-ons")
        if not process.core.owner.graph.is_empty:
            raise Breach("leftover", f"{process.name} has edges")
        lacking = process.core.owner.placement.lacking
        if lacking.made_again or not lacking.is_empty:
            raise Breach("leftover", f"{process.name} has items that wait for lost results")


def run(seed: int, *, watch: bool = False) -> WorldOutcome:
    """Draw, run and judge one world with graphs."""
    plan = draw(seed)
    plan.wishes = []
    rng = Random(f"{seed}/graphs")
    graphs = [
        (rng.randrange(plan.clients), drawn_graph(rng, plan.faults_until))
        for _ in range(rng.choice((1, 1, 2)))
    ]
    for _, wish in graphs:
        _have_stay(Random(f"{seed}/graphs whose results stay"), wish)
        rng = Random(f"{seed}/what is stopped")
        wish.stops = {knot for _, knot in wish.cancels if rng.random() < 0.5}
    rng = Random(f"{seed}/short chains")
    if rng.random() < 0.4:
        graphs.append((rng.randrange(plan.clients), drawn_chains(rng, plan.faults_until)))
    rng = Random(f"{seed}/grids")
    if rng.random() < 0.5:
        graphs.append((rng.randrange(plan.clients), drawn_grid(rng, plan.faults_until)))
    outcome = WorldOutcome(seed, nodes=plan.nodes, jobs=len(graphs))
    play(GraphWorld(plan, graphs), outcome, watch=watch)
    return outcome
