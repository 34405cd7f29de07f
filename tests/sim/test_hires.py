"""Hired workers in virtual worlds: programs that wait for each call, and the deaths of all three parties.

Each rule is broken once, and a world must notice it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stealmesh_engine import core
from stealmesh_engine.config import Config
from stealmesh_engine.effects import DropHired
from stealmesh_engine.events import HireEnded
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.hired_out import HiredOut
from stealmesh_engine.holding.slots import HiredWorker, Slot
from stealmesh_engine.ledger.hired_hand import AGAIN_SECONDS, HiredHand
from stealmesh_engine.ledger.hires import Hires
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.verdicts import Credited, Verdict
from stealmesh_protocol.ids import LeaseId, PeerId
from stealmesh_protocol.messages import Hire as HireWord
from stealmesh_protocol.messages import HireOver, JobKind, Lease
from stealmesh_sim.kernel import Breach
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.random_worlds import run
from stealmesh_sim.work import CostLaw
from stealmesh_sim.workers import VirtualWorker

from .scenes import Scene, scene

SHORT = CostLaw("const", 0.0002)
WORLDS = range(40)


def calls(at: Scene, items: int = 60, law: CostLaw = SHORT, **wishes: object) -> VirtualProgram:
    """A program that waits for each call before it makes the next."""
    wish = Wish(JobKind.SUBMIT, items, law, at.world.now, alone=True, **wishes)  # type: ignore[arg-type]
    return at.submit(wish)


def hired(at: Scene) -> VirtualWorker | None:
    return next((w for node in at.nodes for w in node.workers if w.hire is not None), None)


def until_hired(at: Scene) -> VirtualWorker:
    at.until(lambda: hired(at) is not None and at.world.hires.served > 0)
    worker = hired(at)
    assert worker is not None
    return worker


# ---------------------------------------------------------------- what they are for


def test_a_program_that_waits_for_each_call_hires_a_worker() -> None:
    at = scene(1, one_host=True)
    calls(at, 100)
    at.finish()
    hires = at.world.hires
    assert (hires.begun, hires.served, hires.moved) == (1, 95, 0)
    assert sum(node.items for node in at.nodes) == 100


def test_programs_on_another_host_do_not() -> None:
    at = scene(1)
    calls(at)
    at.finish()
    assert not at.world.hires.begun


def test_a_node_that_refused_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    right, asked = HiredOut._spare, list[float]()
    at = scene(1, one_host=True)

    def spare(self: HiredOut, held: HeldJob, owner: PeerId) -> Slot | None:
        asked.append(at.world.now)
        return None if len(asked) == 1 else right(self, held, owner)

    monkeypatch.setattr(HiredOut, "_spare", spare)
    calls(at, 400)
    until_hired(at)
    refused, hired_at = asked
    assert AGAIN_SECONDS < hired_at - refused < 4 * AGAIN_SECONDS
    at.finish()


def test_hire_after_calls_0_switches_it_off() -> None:
    """The setting said so, and was refused."""
    at = scene(1, one_host=True, config=Config(hire_after_calls=0))
    calls(at, 100)
    at.finish()
    assert not at.world.hires.begun


@pytest.mark.parametrize("wish", ["together", "max_parallel", "timeout", "speculate", "priority"])
def test_jobs_that_need_more_than_a_worker_do_not(wish: str) -> None:
    at = scene(1, one_host=True)
    wishes: dict[str, object] = {wish: True if wish == "speculate" else 1}
    calls(at, 60, SHORT, **wishes)
    at.finish()
    assert not at.world.hires.begun


def test_a_program_that_stops_calling_gives_its_worker_back() -> None:
    at = scene(1, one_host=True)
    calls(at, 30, think_seconds=0.05)
    at.until(lambda: hired(at) is not None)
    at.until(lambda: hired(at) is None, within=0.045)
    at.finish()


# ---------------------------------------------------------------- whose worker it is


def test_a_worker_comes_back_when_its_node_has_other_work() -> None:
    at = scene(1, workers=1, one_host=True)
    calls(at, 2000, think_seconds=0.0)
    at.until(lambda: at.world.hires.begun > 0)
    until_hired(at)
    wanted = at.world.now
    other = at.map(20, law=CostLaw("const", 0.001))
    at.until(lambda: at.holds(at.nodes[0], other))
    at.until(lambda: hired(at) is None, within=0.02)
    assert at.world.now - wanted < 0.02
    at.until(lambda: other.done)
    at.finish()


def test_an_item_that_takes_long_becomes_its_nodes() -> None:
    at = scene(1, one_host=True)
    calls(at, 20, CostLaw("turning", 0.1, turn=15))
    at.finish()
    assert at.world.hires.moved >= 1
    assert sum(node.items for node in at.nodes) == 20


def test_a_node_that_leaves_has_its_worker_back() -> None:
    from stealmesh_engine.events import Drain

    at = scene(2, one_host=True)
    calls(at, 400)
    worker = until_hired(at)
    node = next(each for each in at.nodes if worker in each.workers)
    node.hear(Drain())
    at.until(lambda: node.left)
    at.finish()


# ---------------------------------------------------------------- deaths


def test_an_item_that_kills_a_hired_worker_is_named() -> None:
    at = scene(1, one_host=True)
    program = calls(at, 60, killers={40: 99})
    at.finish()
    account = at.world.checkers.accounts[program.job]
    assert account.failed == 1
    assert at.counted("workers-lost", at.nodes[0]) == 3


def test_one_death_costs_an_item_one_attempt() -> None:
    at = scene(1, one_host=True)
    program = calls(at, 60, killers={40: 1})
    at.finish()
    assert at.world.checkers.accounts[program.job].failed == 0
    assert at.counted("workers-lost", at.nodes[0]) == 1


def test_the_worker_dies_between_two_items() -> None:
    at = scene(1, one_host=True)
    calls(at, 100, think_seconds=0.001)
    worker = until_hired(at)
    at.until(lambda: worker.running is None)
    worker.kill()
    at.finish()
    assert sum(node.items for node in at.nodes) == 100


def test_the_node_dies() -> None:
    at = scene(2, one_host=True)
    calls(at, 300)
    worker = until_hired(at)
    at.world.crash(next(each for each in at.nodes if worker in each.workers))
    at.finish()
    assert at.world.hires.begun > 1, "it hires from the other node"


def test_the_node_goes_whose_worker_is_waited_for() -> None:
    """What was held back for it goes to another."""
    at = scene(2, workers=1, one_host=True)
    program = calls(at, 60)
    owner, job = at.client.core.owner, at.owned(program)
    assert isinstance(job, IndexedJob)
    at.until(lambda: job.hire is not None and not job.hire.here and job.ledger.has_free)
    assert job.hire is not None
    owner.fence(job.hire.node, at.world.now)
    assert not job.ledger.has_free
    at.finish()


def test_the_program_dies() -> None:
    at = scene(1, one_host=True)
    calls(at, 10_000)
    until_hired(at)
    at.world.crash(at.client)
    node = at.nodes[0]
    at.until(lambda: not node.core.holder.slots.hired, within=5.0)
    at.until(lambda: not node.core.holder.jobs, within=40.0)
    assert node.core.dispatcher.room() == 2


# ---------------------------------------------------------------- random worlds


@pytest.mark.parametrize("seed", range(12))
def test_random_worlds_with_hires_keep_their_promises(seed: int) -> None:
    outcome = run(seed, alone=True)
    assert not outcome.breach, "\n".join(outcome.story)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_random_worlds_with_hires(block: int) -> None:
    for seed in range(10_000 + 50 * block, 10_050 + 50 * block):
        outcome = run(seed, alone=True)
        assert not outcome.breach, f"seed {seed}: " + "\n".join(outcome.story)


# ---------------------------------------------------------------- mutants

Mutate = Callable[[pytest.MonkeyPatch], None]


def an_answer_under_a_lease_that_is_over_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    right = IndexedLedger.credit

    def credit(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        verdict = right(self, holder, lid, lo, hi)
        return verdict if isinstance(verdict, Credited) else Credited([(lo, hi)])

    monkeypatch.setattr(IndexedLedger, "credit", credit)


def what_was_not_begun_is_not_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Hires._ends

    def ends(self: Hires, hire: HiredHand, now: float) -> None:
        hire.lid = 0
        right(self, hire, now)

    monkeypatch.setattr(Hires, "_ends", ends)


def a_hired_worker_is_given_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    right = HiredOut.asked

    def asked(self: HiredOut, *told: object) -> None:
        before = dict(self._slots.by_worker)
        right(self, *told)  # type: ignore[arg-type]
        self._slots.by_worker.update(before)

    monkeypatch.setitem(core._MESSAGES, HireWord, ("hired_out", asked))


def the_owner_does_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It acts on the node's word at once."""

    def over(self: Hires, peer: PeerId, message: HireOver, now: float) -> None:
        hire = self._known(peer, message.job, message.hire)
        if hire is not None:
            hire.over, hire.taken = True, message.taken
            self._ends(hire, now)
            self._effects.append(DropHired(hire.number, hire.job))

    monkeypatch.setitem(core._MESSAGES, HireOver, ("hires", over))


def what_goes_on_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node keeps it, and its owner takes it for not begun."""
    right = HiredOut._goes_on

    def goes_on(
        self: HiredOut, hired: HiredWorker, slot: Slot, event: HireEnded, now: float
    ) -> list[Lease]:
        right(self, hired, slot, event, now)
        return []

    monkeypatch.setattr(HiredOut, "_goes_on", goes_on)


def workers_do_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HiredOut, "_end", lambda self, hired: None)


def the_dead_go_on_working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hires, "fenced", lambda self, job, node: False)


def what_runs_again_stays_where_its_inputs_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from stealmesh_engine.holding.handover import Handover

    right = Handover.came_back

    def came_back(self: Handover, held: object, chunk: object, *more: object, **died: int) -> None:
        chunk.hired = False  # type: ignore[attr-defined]
        right(self, held, chunk, *more, **died)  # type: ignore[arg-type]

    monkeypatch.setattr(Handover, "came_back", came_back)


def a_death_costs_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node does not hear what its hired worker was at."""
    from stealmesh_sim.hired import VirtualHire

    right = VirtualHire.end

    def end(self: VirtualHire, number: int) -> None:
        if not self.worker.ready:
            self.worker.running = None
        right(self, number)

    monkeypatch.setattr(VirtualHire, "end", end)


def _killers() -> None:
    test_an_item_that_kills_a_hired_worker_is_named()


def _worlds() -> None:
    for seed in WORLDS:
        outcome = run(seed, alone=True)
        if outcome.breach:
            raise Breach("worlds", outcome.breach)


def _late_ends() -> None:
    """Workers that come back while items run and answers are under way: nothing runs twice."""
    moved = 0
    for seed in range(4):
        at = scene(1, workers=1, seed=seed, one_host=True)
        calls(at, 600, CostLaw("const", 0.001))
        while not at.programs[0].done:
            at.run(0.05 + 0.0001 * len(at.programs))
            at.map(4, law=CostLaw("const", 0.0005))
        at.finish()
        ran = sum(node.items for node in at.nodes)
        assert ran == 600 + 4 * (len(at.programs) - 1), f"{ran} items ran"
        assert at.world.hires.begun > 3
        moved += at.world.hires.moved
    assert moved > 0


def _others_wait() -> None:
    test_a_worker_comes_back_when_its_node_has_other_work()


MUTANTS: list[tuple[Mutate, Callable[[], None]]] = [
    (an_answer_under_a_lease_that_is_over_counts, _worlds),
    (what_was_not_begun_is_not_free_again, _worlds),
    (a_hired_worker_is_given_other_work, _others_wait),
    (the_owner_does_not_read_to_the_end, _late_ends),
    (what_goes_on_is_not_named, _late_ends),
    (workers_do_not_come_back, _others_wait),
    (the_dead_go_on_working, test_the_node_dies),
    (what_runs_again_stays_where_its_inputs_are_not, _killers),
    (a_death_costs_no_attempt, _killers),
]


def test_hires_that_end_all_the_time_run_nothing_twice() -> None:
    _late_ends()


@pytest.mark.parametrize(("mutate", "find"), MUTANTS, ids=lambda each: each.__name__)
def test_a_mutant_is_found(
    mutate: Mutate, find: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((Breach, AssertionError, KeyError)):
        find()
