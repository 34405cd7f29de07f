"""Every state of a tiny world with a hired worker: two real cores, one worker, and a death or an end at every moment.

The program makes three calls, one after the other. What is under way in each of five queues may arrive at any time,
in the order of its queue. Budgets of trouble: the worker dies, its owner dismisses it, its owner takes the node for
dead. From each state an honest run must end with every call delivered once; on the way a worker never has two items,
and no item is with two workers unless a lease was fenced.

Cores cannot be copied, so a state is reached by doing again what led to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar

import pytest
from msgspec.structs import replace
from tests.engine.wire import CODE, FUNCTION, Host, Wire
from tests.marks import later

from stealmesh_engine import effects as fx
from stealmesh_engine.config import Config
from stealmesh_engine.events import (
    ChunkDone,
    Event,
    Feed,
    HireCame,
    HiredAnswer,
    HireEnded,
    HireReadOut,
    OpenJob,
    Tick,
    WorkerLost,
    WorkerReady,
)
from stealmesh_engine.holding.hired_out import HiredOut
from stealmesh_engine.holding.slots import HiredWorker, Slot
from stealmesh_engine.ledger.hired_hand import HiredHand
from stealmesh_engine.ledger.hires import Hires
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.verdicts import Credited, Verdict
from stealmesh_protocol.ids import LeaseId, PeerId, job_id
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Lease, Part, Role

CALLS = 3
HONEST = ("cn", "nc", "fetch", "told", "answer", "end", "order", "done")
TROUBLE = ("die", "late", "fence")


class Wrong(AssertionError):
    """A state that must not be."""


class Little:
    """One client, one node, one worker, and what is under way between them."""

    troubles: ClassVar[tuple[str, ...]] = TROUBLE

    def __init__(self, budgets: dict[str, int]) -> None:
        self.budgets = dict(budgets)
        self.wire = Wire(Config(hire_after_calls=1))
        self.node = self.wire.add("node")
        self.client = self.wire.add("client", workers=0, role=Role.CLIENT, seeds=["tcp://node:1"])
        peer = self.node.core.links.peers[self.client.id]
        peer.member = replace(peer.member, host="node")
        known = self.client.core.view.members
        known[self.node.id] = replace(known[self.node.id], host="client")
        self.job = job_id(self.client.id, 1)
        self.orders: deque[fx.OrderHired] = deque()
        self.box: deque[HiredAnswer] = deque()
        self.ends: deque[int] = deque()
        self.told: deque[Event] = deque()
        """Events of the client's own host."""
        self.fetches: deque[fx.FetchHired] = deque()
        self.hired: fx.HireOut | None = None
        self.runs: tuple[int, int, int] | None = None
        """Chunk, lease and item of what the worker runs."""
        self.queue: deque[fx.RunChunk] = deque()
        self.ran: dict[int, int] = {}
        self.fed = 0
        self.delivered: dict[int, int] = {}
        self.hear(self.client, OpenJob(self.spec(), open_ended=True, functions={FUNCTION: CODE}))
        self.feed()
        self.run(HONEST, until=lambda: self.fed == 2)  # the first call tells that they come alone

    def spec(self) -> JobSpec:
        return JobSpec(self.job, JobKind.SUBMIT, self.client.id, "f", FUNCTION)

    # -- what happens

    def hear(self, host: Host, *events: Event) -> None:
        for effect in host.core.steps(self.wire.now, list(events)):
            self.perform(host, effect)
        if host is self.client and self.delivered.get(self.fed - 1) and self.fed < CALLS:
            self.feed()

    def perform(self, host: Host, effect: fx.Effect) -> None:
        if isinstance(effect, fx.HireOut):
            if self.hired is not None or self.runs is not None or self.queue:
                raise Wrong("a busy worker is hired out")
            self.hired = effect
        elif isinstance(effect, fx.EndHire):
            self.ends.append(effect.chunk)
        elif isinstance(effect, fx.FetchHired):
            self.fetches.append(effect)
        elif isinstance(effect, fx.OrderHired):
            self.orders.append(effect)
        elif isinstance(effect, fx.DropHired):
            self.told.extend(self.box)
            self.box.clear()
            self.told.append(HireReadOut(effect.hire, effect.job))
        elif isinstance(effect, fx.RunChunk):
            if self.hired is not None:
                raise Wrong("a hired worker is given other work")
            self.queue.append(effect)
        elif isinstance(effect, fx.Deliver):
            for item in range(effect.lo, effect.hi):
                self.delivered[item] = self.delivered.get(item, 0) + 1
                if self.delivered[item] > 1:
                    raise Wrong(f"item {item} is delivered twice")
        else:
            host._perform([effect])

    def feed(self) -> None:
        self.fed += 1
        self.hear(self.client, Feed(self.job, Block(self.fed - 1, self.fed, 0), b"argument"))

    # -- what may happen

    def enabled(self) -> list[str]:
        node, client = self.node.inbox, self.client.inbox
        idle = self.runs is None
        may = {
            "cn": bool(node),
            "nc": bool(client),
            "fetch": bool(self.fetches),
            "told": bool(self.told),
            "answer": bool(self.box),
            "end": bool(self.ends),
            "order": idle and bool(self.orders if self.hired is not None else self.queue),
            "done": not idle,
        }
        for trouble in self.troubles:
            may[trouble] = self.budgets.get(trouble, 0) > 0
        return [action for action, enabled in may.items() if enabled]

    def do(self, action: str) -> None:
        getattr(self, f"_{action}")()

    def _cn(self) -> None:
        self.hear(self.node, self.node.inbox.popleft())

    def _nc(self) -> None:
        self.hear(self.client, self.client.inbox.popleft())

    def _fetch(self) -> None:
        effect = self.fetches.popleft()
        here = self.hired is not None and self.hired.hire == effect.hire
        self.hear(self.client, HireCame(effect.hire, effect.job, here))

    def _told(self) -> None:
        self.hear(self.client, self.told.popleft())

    def _answer(self) -> None:
        self.hear(self.client, self.box.popleft())

    def _end(self) -> None:
        number = self.ends.popleft()
        if self.hired is not None and self.hired.chunk == number:
            self._hire_ends()

    def _hire_ends(self) -> None:
        assert self.hired is not None
        number, self.hired = self.hired.chunk, None
        self.orders.clear()
        _, lid, item = self.runs or (0, 0, -1)
        self.hear(self.node, HireEnded(0, number, lid, item))

    def _order(self) -> None:
        if self.hired is not None:
            order = self.orders.popleft()
            if order.hire != self.hired.hire:
                return  # of an earlier hire, whose socket is closed
            self.runs = self.hired.chunk, order.lease.lid, order.lease.lo
        else:
            chunk = self.queue.popleft()
            self.runs = chunk.chunk, 0, chunk.lo
        self.ran[self.runs[2]] = self.ran.get(self.runs[2], 0) + 1

    def _done(self) -> None:
        assert self.runs is not None
        (number, lid, item), self.runs = self.runs, None
        if self.hired is not None:
            part = Part(lid, item, item + 1, 0, 0.001)
            answer = HiredAnswer(self.hired.hire, self.job, self.node.id, part, b"result")
            self.box.append(answer)
        else:
            self.hear(self.node, ChunkDone(0, number, 0, b"result", 0.001))

    def _die(self) -> None:
        self.budgets["die"] -= 1
        running = self.runs
        if self.hired is not None:
            self._hire_ends()
        self.runs = None
        self.queue.clear()
        number = None if running is None else running[0]
        self.hear(self.node, WorkerLost(0, number, "killed by signal 9", number is not None))
        self.hear(self.node, WorkerReady(0))

    def _late(self) -> None:
        self.budgets["late"] -= 1
        self.time_passes()

    def _fence(self) -> None:
        """The owner takes the node for dead, wrongly, and hears better."""
        self.budgets["fence"] -= 1
        core = self.client.core
        core.owner.fence(self.node.id, self.wire.now)
        self.hear(self.client, Tick())

    def time_passes(self, seconds: float = 0.05) -> None:
        self.wire.now += seconds
        self.hear(self.client, Tick())
        self.hear(self.node, Tick())

    def run(self, actions: tuple[str, ...], until: Callable[[], bool]) -> None:
        for step in range(2000):
            if until():
                return
            may = [action for action in actions if action in self.enabled()]
            if may:
                self.do(may[step % len(may)])
            else:
                self.time_passes()
        raise Wrong("it does not end")

    # -- what must be true

    def finish(self) -> None:
        fenced = self.budgets.get("fence") == 0 and "fence" in self.budgets
        deaths = 1 - self.budgets.get("die", 1)
        self.run(HONEST, until=lambda: len(self.delivered) == CALLS)
        extra = sum(self.ran.values()) - CALLS
        if not fenced and extra > deaths:
            raise Wrong(f"{extra} items ran again")

    def key(self) -> object:
        owned = self.client.core.owner.jobs[self.job]
        slots = self.node.core.holder.slots
        held = self.node.core.holder.jobs.get(self.job)
        hire = owned.hire
        return (
            tuple(self.budgets.items()),
            str(owned.ledger.figures()),
            tuple((lid, tuple(lent.open)) for lid, lent in owned.ledger.leases.items()),
            None if hire is None else (hire.number, hire.hired, hire.here, hire.dismissed, hire.over, hire.lid),
            tuple((each.number, each.ending) for each in slots.hired.values()),
            tuple(map(str, slots.chunks())),
            () if held is None else tuple(held.bags.leases),
            tuple(type(e).__name__ + str(getattr(e, "message", "")) for e in self.node.inbox),
            tuple(type(e).__name__ + str(getattr(e, "message", "")) for e in self.client.inbox),
            tuple(map(str, (*self.orders, *self.box, *self.ends, *self.told, *self.fetches))),
            None if self.hired is None else self.hired.chunk,
            self.runs,
            len(self.queue),
            self.fed,
            tuple(self.delivered),
        )  # fmt: skip


def reached(path: tuple[str, ...], budgets: dict[str, int], little: type[Little]) -> Little:
    world = little(budgets)
    for action in path:
        world.do(action)
    return world


def explore(budgets: dict[str, int], states_max: int, little: type[Little] = Little) -> int:
    """Look at every state. Returns how many there are. Raises Wrong."""
    seen: set[object] = set()
    paths: deque[tuple[str, ...]] = deque([()])
    while paths:
        path = paths.popleft()
        world = reached(path, budgets, little)
        key = world.key()
        if key in seen:
            continue
        seen.add(key)
        assert len(seen) <= states_max, "more states than expected"
        if len(world.delivered) < CALLS:
            paths.extend((*path, action) for action in world.enabled())
        try:
            world.finish()
        except (Wrong, AssertionError, KeyError) as error:
            raise Wrong(f"after {path}: {error!r}") from error
    return len(seen)


def test_every_state_without_trouble() -> None:
    assert explore({}, 2000) > 5


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trouble", ["die", *later("late", "fence")])
def test_every_state_with_one_trouble(trouble: str) -> None:
    assert explore({trouble: 1}, 20_000) > explore({}, 2000)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("troubles", [("die", "late"), ("late", "fence"), ("die", "fence")])
def test_every_state_with_two_troubles(troubles: tuple[str, str]) -> None:
    explore(dict.fromkeys(troubles, 1), 200_000)


# ---------------------------------------------------------------- mutants


def stale_leases_are_credited(monkeypatch: pytest.MonkeyPatch) -> str:
    right = IndexedLedger.credit

    def credit(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        verdict = right(self, holder, lid, lo, hi)
        return verdict if isinstance(verdict, Credited) else Credited([(lo, hi)])

    monkeypatch.setattr(IndexedLedger, "credit", credit)
    return "fence"


def what_was_not_begun_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> str:
    right = Hires._ends

    def ends(self: Hires, hire: HiredHand, now: float) -> None:
        hire.lid = 0
        right(self, hire, now)

    monkeypatch.setattr(Hires, "_ends", ends)
    return "late"


def what_goes_on_is_not_named(monkeypatch: pytest.MonkeyPatch) -> str:
    right = HiredOut._goes_on

    def goes_on(
        self: HiredOut, hired: HiredWorker, slot: Slot, event: HireEnded, now: float
    ) -> list[Lease]:
        right(self, hired, slot, event, now)
        return []

    monkeypatch.setattr(HiredOut, "_goes_on", goes_on)
    return "late"


def the_owner_does_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> str:
    right = Little.perform

    def perform(self: Little, host: Host, effect: fx.Effect) -> None:
        box = list(self.box) if isinstance(effect, fx.DropHired) else []
        if box:
            self.box.clear()
        right(self, host, effect)
        self.told.extend(box)

    monkeypatch.setattr(Little, "perform", perform)
    return "late"


@pytest.mark.parametrize(
    "mutate",
    [
        stale_leases_are_credited,
        what_was_not_begun_is_forgotten,
        what_goes_on_is_not_named,
        the_owner_does_not_read_to_the_end,
    ],
    ids=lambda each: each.__name__,
)
def test_a_mutant_is_found(
    mutate: Callable[[pytest.MonkeyPatch], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = mutate(monkeypatch)
    with pytest.raises(Wrong):
        explore({trouble: 1}, 20_000)
