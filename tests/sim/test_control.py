"""Items that run again later, and tasks that are stopped, in virtual time: worlds and stories."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from stealmesh_engine.durable.client import DurableClient, FollowedJob
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.events import Drain
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.holding.handover import Handover
from stealmesh_engine.holding.indexed_bags import HeldLease
from stealmesh_engine.holding.side_by_side import SideBySide
from stealmesh_engine.holding.stopped import GRACE_SECONDS, Stopped
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.put_off import Alarms, PutOff
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobKind, JobSpec, Resources
from stealmesh_sim import random_worlds
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .durable_scenes import durable_scene
from .scenes import FINE, SEED_ADDRESS, Scene, scene

GPU: Resources = (("GPU", 1),)


def failed(told: Scene, program: VirtualProgram) -> int:
    return told.world.checkers.accounts[program.job].failed


@pytest.mark.parametrize(
    "first",
    [4, *(pytest.param(first, marks=pytest.mark.slow) for first in range(0, 20, 2) if first != 4)],
)
def test_random_worlds(first: int) -> None:
    """Each item once, none before its time, none forgotten; with deaths, cuts and goodbyes."""
    for seed in range(first, first + 2):
        outcome = random_worlds.run(seed, control=True)
        assert not outcome.breach, f"{seed}: {outcome.breach}"


@pytest.mark.parametrize(
    "first", [pytest.param(first, marks=pytest.mark.slow) for first in range(20, 100, 5)]
)
def test_random_worlds_with_bounds_resources_and_turns(first: int) -> None:
    for seed in range(first, first + 5):
        outcome = random_worlds.run(seed, control=True, placed=True)
        assert not outcome.breach, f"{seed}: {outcome.breach}"


@pytest.mark.parametrize(
    "first",
    [
        900_000,
        *(pytest.param(first, marks=pytest.mark.slow) for first in range(900_001, 900_013, 3)),
    ],
)
def test_random_worlds_side_by_side(first: int) -> None:
    for seed in range(first, first + (1 if first == 900_000 else 3)):
        outcome = random_worlds.run(seed, control=True, side=True, placed=seed % 2 == 0)
        assert not outcome.breach, f"{seed}: {outcome.breach}"


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.SUBMIT])
def test_items_are_tried_again_and_fail_in_the_end(kind: JobKind) -> None:
    told = scene(2)
    again = {3: [-1.0] * 3, 150: [-1.0] * 99, 151: [-1.0], 299: [-1.0] * 4}
    program = told.submit(Wish(kind, 300, FINE, told.world.now, again=again, retries=3))
    told.finish()
    assert failed(told, program) == 2
    assert {item: len(left) for item, left in program.work.again.items()} == {
        3: 0, 150: 99 - 4, 151: 0, 299: 0,
    }  # fmt: skip
    assert told.world.checkers.later.count == 3 + 3 + 1 + 3


def test_all_workers_are_free_while_items_wait() -> None:
    """Half of the items wait for ten seconds: the others are done long before."""
    told = scene(1)
    again = {item: [10.0] for item in range(0, 100, 2)}
    program = told.submit(Wish(JobKind.MAP, 100, FINE, told.world.now, again=again))
    account = told.world.checkers.accounts[program.job]
    told.until(lambda: account.delivered.size == 50, within=3.0)
    assert program.owner.core.owner.jobs[program.job].ledger.figures().leased == 0
    told.finish()
    assert account.delivered.size == 100


@pytest.mark.parametrize("said", [10.0, -1.0])
@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.SUBMIT])
def test_what_waits_takes_up_no_lane(
    kind: JobKind, said: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lane: were it kept, everything would wait for the first item."""
    monkeypatch.setattr("stealmesh_engine.ledger.put_off.back_off", lambda failed, rng: 10.0)
    told = scene(2, workers=4)
    told.world.checkers.placing.strict = True
    again = {item: [said] for item in (0, 1, 17, 49)}
    program = told.submit(
        Wish(kind, 50, FINE, told.world.now, again=again, retries=1, max_parallel=1)
    )
    account = told.world.checkers.accounts[program.job]
    told.until(lambda: account.delivered.size == 46, within=8.0)
    told.until(lambda: told.world.checkers.later.count == 4, within=1.0)
    assert not told.owned(program).ledger.leases, "a lane is taken"
    told.finish()
    assert failed(told, program) == 0
    assert told.world.checkers.placing.at_once[program.job] == 1


@pytest.mark.parametrize("said", [10.0, -1.0])
def test_what_waits_takes_up_no_resource(said: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job uses the only GPU meanwhile."""
    monkeypatch.setattr("stealmesh_engine.ledger.put_off.back_off", lambda failed, rng: 10.0)
    world = World(1)
    nodes = [world.node("n0", workers=4, resources=GPU)]
    told = Scene(world, nodes, world.client("client", seeds=[SEED_ADDRESS]))
    told.run(2.0)
    first = told.map(1, again={0: [said]}, retries=1, resources=GPU)
    told.until(lambda: world.checkers.later.count == 1)
    other = told.map(50, resources=GPU)
    told.until(lambda: other.done, within=5.0)
    assert not first.done
    told.finish()
    assert failed(told, first) == 0


def test_what_has_waited_waits_for_a_lane() -> None:
    """Its time comes while the only lane is in use for long: it runs when that is over."""
    told = scene(2, workers=4)
    told.world.checkers.placing.strict = True
    law = CostLaw("const", 2.0)
    program = told.map(6, law=law, again={0: [0.5]}, max_parallel=1)
    told.finish(within=40.0)
    assert failed(told, program) == 0
    assert told.world.checkers.placing.at_once[program.job] == 1


def test_the_node_that_ran_it_may_die() -> None:
    told = scene(2)
    again = {item: [3.0] for item in range(0, 200, 7)}
    program = told.submit(Wish(JobKind.MAP, 200, FINE, told.world.now, again=again))
    told.until(lambda: told.world.checkers.later.count > 5)
    told.world.crash(told.nodes[1])
    told.finish()
    assert failed(told, program) == 0


def test_a_node_leaves_although_what_it_ran_waits() -> None:
    told = scene(2)
    again = {item: [600.0] for item in range(0, 200, 7)}
    program = told.submit(Wish(JobKind.MAP, 200, FINE, told.world.now, again=again))
    told.until(lambda: told.world.checkers.later.count > 5)
    told.nodes[1].hear(Drain())
    told.until(lambda: told.nodes[1].left, within=10.0)
    told.finish(within=700.0)
    assert failed(told, program) == 0


def test_what_waits_can_be_cancelled() -> None:
    told = scene(1)
    wish = Wish(
        JobKind.MAP, 10, FINE, told.world.now, again={4: [600.0]}, cancels=[(5.0, 4, 5)]
    )  # fmt: skip
    program = told.submit(wish)
    told.finish(within=20.0)
    assert told.world.checkers.accounts[program.job].delivered.size == 9


def test_a_stopped_task_ends_and_its_worker_lives() -> None:
    told = scene(1)
    law = CostLaw("const", 1000.0)
    wish = Wish(
        JobKind.SUBMIT, 1, law, told.world.now, cancels=[(1.0, 0, 1)], stops=True
    )  # fmt: skip
    told.submit(wish)
    told.finish(within=5.0)
    told.run(0.1)
    assert all(worker.running is None for worker in told.nodes[0].workers)
    assert not told.nodes[0].core.counters.get("workers-lost")


@pytest.mark.parametrize("stops", [True, False])
def test_a_deaf_task_ends_with_its_worker_and_its_neighbours_run(stops: bool) -> None:
    told = scene(1)
    wish = Wish(
        JobKind.MAP, 40, FINE, told.world.now, endless=frozenset({20}),
        cancels=[(3.0, 20, 21)], stops=stops, chunk_items=40,
    )  # fmt: skip
    program = told.submit(wish)
    account = told.world.checkers.accounts[program.job]
    told.run(3.0 + GRACE_SECONDS + 1.5)
    assert program.done == stops, "without a stop its neighbours wait for ever"
    assert account.delivered.size == (39 if stops else account.delivered.size)
    assert not account.delivered.covers(20, 21)
    assert any(worker.running for worker in told.nodes[0].workers) != stops
    assert told.nodes[0].core.counters.get("workers-lost", 0) == stops


def test_a_stopped_task_keeps_its_lane_until_it_has_ended() -> None:
    """The first notices, the second does not, and the third has not begun."""
    told = scene(2, workers=4)
    told.world.checkers.placing.strict = True
    law = CostLaw("const", 1000.0)
    wish = Wish(
        JobKind.SUBMIT, 3, law, told.world.now, endless=frozenset({1}), max_parallel=1,
        cancels=[(1.0, 0, 1), (3.0, 1, 2), (6.0, 2, 3)], stops=True,
    )  # fmt: skip
    program = told.submit(wish)
    told.finish(within=10.0)
    assert told.world.checkers.placing.at_once[program.job] == 1


@pytest.mark.parametrize("deaf", [True, False])
def test_a_stopped_task_gives_its_lane_back_when_it_has_ended(deaf: bool) -> None:
    """Whatever is behind it begins a second later, not when the lease is over."""
    told = scene(2, workers=4)
    told.world.checkers.placing.strict = True
    wish = Wish(
        JobKind.MAP, 20, CostLaw("const", 0.3), told.world.now, max_parallel=1,
        endless=frozenset({1} if deaf else ()), cancels=[(0.4, 1, 2)], stops=True,
    )  # fmt: skip
    program = told.submit(wish)
    told.until(lambda: program.done, within=19 * 0.3 + 1.5)
    told.finish()


def test_a_stopped_task_does_not_run_again() -> None:
    """Its worker is ended, and the job goes on for ever."""
    told = scene(1, workers=2)
    wish = Wish(
        JobKind.MAP, 40, FINE, told.world.now, endless=frozenset({5, 25}),
        cancels=[(3.0, 5, 6)], stops=True, chunk_items=20,
    )  # fmt: skip
    program = told.submit(wish)
    told.run(3.0 + GRACE_SECONDS + 1.5)
    assert told.world.checkers.accounts[program.job].delivered.size == 24
    assert told.nodes[0].core.counters.get("workers-lost", 0) == 1
    assert sum(1 for worker in told.nodes[0].workers if worker.running) == 1


@pytest.mark.parametrize("deaf", [True, False])
def test_a_task_side_by_side_is_stopped(deaf: bool) -> None:
    """One that listens ends alone. The process of a deaf one ends, and its neighbours run again."""
    told = scene(1)
    wish = Wish(
        JobKind.SUBMIT, 4, CostLaw("const", 5.0), told.world.now, together=100,
        endless=frozenset({2} if deaf else ()), stops=True, cancels=[(1.0, 2, 3)],
    )  # fmt: skip
    program = told.submit(wish)
    told.run(1.2)
    running = [len(side.lanes) for node in told.nodes for side in node.sides if side.lanes]
    assert sum(running) == (4 if deaf else 3)
    told.run(GRACE_SECONDS + 0.6)
    lost = sum(node.core.counters.get("workers-lost", 0) for node in told.nodes)
    assert lost == deaf
    told.finish(within=20.0)
    assert told.world.checkers.accounts[program.job].failed == 0
    assert told.world.checkers.accounts[program.job].delivered.size == 3


@pytest.mark.parametrize("stop", [True, False])
def test_a_durable_job_is_stopped(stop: bool) -> None:
    told = durable_scene(3)
    job = told.launch(12, law=CostLaw("const", 1000.0), endless=frozenset({0}))
    told.run(2.0)
    workers = [worker for node in told.nodes for worker in node.workers]
    assert all(worker.running for worker in workers)
    job.abolish(stop=stop)
    told.until(lambda: job.done)
    assert job.state == "cancelled"
    told.run(GRACE_SECONDS + 0.6)
    assert any(worker.running for worker in workers) != stop


def test_a_durable_job_is_stopped_although_its_home_dies_at_that_moment() -> None:
    told = durable_scene(4)
    job = told.launch(8, law=CostLaw("const", 1000.0))
    told.run(2.0)
    home = told.at_home(job)
    told.world.crash(home)
    job.abolish(stop=True)
    told.until(lambda: job.done)
    alive = [worker for node in told.nodes if node.alive for worker in node.workers]
    told.run(GRACE_SECONDS + 0.6)
    assert not any(worker.running for worker in alive)


def test_tasks_stopped_one_after_the_other_have_a_second_each() -> None:
    """A worker remembers one row of stopped items, and the first keeps its time."""
    stopped = Stopped()
    for item in range(5, 10):
        stopped.add(item, item + 1, now=0.1 * item)
    assert stopped.around(5) == (5, 10)
    assert stopped.until == 0.5 + GRACE_SECONDS
    assert not stopped.ends_worker(1.0, 5, 10)
    assert stopped.ends_worker(1.15, 5, 10)
    assert not stopped.ends_worker(1.15, 5, 10)
    assert not stopped.ends_worker(1.25, 7, 10), "the sixth is over"
    assert stopped.ends_worker(9.0, 9, 10)
    assert stopped.until == math.inf


def test_the_owner_wakes_up_in_time() -> None:
    """Not with its next heartbeat."""
    told = scene(1)
    told.submit(Wish(JobKind.MAP, 1, FINE, told.world.now, again={0: [0.12]}))
    told.until(lambda: told.world.checkers.later.count == 1)
    until = told.world.now + 0.12
    told.run(0.06)  # what was said is acknowledged by now
    due = told.client.core.next_deadline()
    assert due is not None
    assert due <= until
    told.finish()


def test_the_account_tells_waiting_from_free() -> None:
    ledger = IndexedLedger(10, 10)
    lease = ledger.lease(b"a" * 16, 100.0)
    assert lease is not None
    ledger.wait(lease.lid, 4, 7.5)
    assert not ledger.has_free
    assert not ledger.complete
    ledger.audit()
    assert ledger.fence(b"a" * 16) == 9
    assert ledger.end_waits(7.4) == 7.5
    assert ledger.free.overlap(0, 10) == [(0, 4), (5, 10)]
    assert ledger.end_waits(7.5) is None
    assert ledger.free.overlap(0, 10) == [(0, 10)]
    ledger.audit()


# ---------------------------------------------------------------- each rule has a mutant that is noticed


def what_waits_stays_leased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexedLedger, "wait", lambda *args: None)


def nobody_looks_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alarms, "set", lambda *args: None)


def an_alarm_wakes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PutOff.take_due
    monkeypatch.setattr(PutOff, "take_due", lambda self, now: right(self, now + 100.0))


def items_are_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PutOff.judge

    def judge(self: PutOff, spec: JobSpec, *rest: Any) -> object:
        return right(self, replace(spec, retries=1000), *rest)

    monkeypatch.setattr(PutOff, "judge", judge)


def what_is_cancelled_still_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PutOff, "credited", lambda *args: [])


def nodes_do_not_stop_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "stop_items", lambda *args: None)


def deaf_tasks_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stopped, "ends_worker", lambda *args: False)


def side_by_side_nothing_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SideBySide, "stop_items", lambda *args: None)


def what_was_stopped_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeldLease, "note_unwanted", lambda *args: None)


def stopped_lanes_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handover, "_return", lambda *args: None)


def homes_only_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Primary.cancel
    monkeypatch.setattr(Primary, "cancel", lambda self, now, *, stop: right(self, now))


def programs_stop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that comes later hears only that the job is cancelled."""
    right = DurableClient._found

    def found(self: DurableClient, job: JobId, mine: FollowedJob, *rest: Any) -> None:
        mine.stopped = False
        right(self, job, mine, *rest)

    monkeypatch.setattr(DurableClient, "_found", found)


def takes_up_no_lane() -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_what_waits_takes_up_no_lane(JobKind.MAP, 10.0, patch)


def takes_up_no_resource() -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_what_waits_takes_up_no_resource(10.0, patch)


STORIES: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (what_waits_stays_leased, takes_up_no_lane),
    (what_waits_stays_leased, test_all_workers_are_free_while_items_wait),
    (nobody_looks_at_the_clock, test_the_owner_wakes_up_in_time),
    (nobody_looks_at_the_clock, takes_up_no_resource),
    (an_alarm_wakes_all, lambda: test_random_worlds(4)),
    (items_are_tried_for_ever, lambda: test_items_are_tried_again_and_fail_in_the_end(JobKind.MAP)),
    (what_is_cancelled_still_waits, test_what_waits_can_be_cancelled),
    (nodes_do_not_stop_tasks, test_a_stopped_task_ends_and_its_worker_lives),
    (nodes_do_not_stop_tasks, lambda: test_a_durable_job_is_stopped(stop=True)),
    (
        deaf_tasks_live_on,
        lambda: test_a_deaf_task_ends_with_its_worker_and_its_neighbours_run(stops=True),
    ),
    (deaf_tasks_live_on, lambda: test_a_task_side_by_side_is_stopped(deaf=True)),
    (side_by_side_nothing_stops, lambda: test_a_task_side_by_side_is_stopped(deaf=False)),
    (what_was_stopped_runs_again, test_a_stopped_task_does_not_run_again),
    (
        stopped_lanes_are_not_told_of,
        lambda: test_a_stopped_task_gives_its_lane_back_when_it_has_ended(deaf=True),
    ),
    (homes_only_cancel, lambda: test_a_durable_job_is_stopped(stop=True)),
    (programs_stop_once, test_a_durable_job_is_stopped_although_its_home_dies_at_that_moment),
]


@pytest.mark.parametrize(("mutate", "story"), STORIES, ids=lambda value: value.__name__)
def test_a_broken_rule_is_found_by_its_story(
    mutate: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  an assertion, or a breach
        story()
