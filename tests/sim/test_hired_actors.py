"""Programs hire the processes of their actors: the calls keep their order, and lives their rules.

Each rule is broken once, and a world must notice it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.events import Drain, Tick
from stealmesh_engine.holding.hired_out import HiredOut
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.holding.stopped import GRACE_SECONDS
from stealmesh_engine.ledger.hired_hand import HiredHand
from stealmesh_engine.ledger.hires import ACTOR_IDLE_SECONDS, Hires
from stealmesh_engine.ledger.lives import Lives
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.ledger.why import Why
from stealmesh_engine.ledger.why_owned import why_item
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Hire, JobKind
from stealmesh_sim.actors import VirtualActor
from stealmesh_sim.kernel import Breach
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.random_worlds import run
from stealmesh_sim.work import CostLaw

from .scenes import SEED_ADDRESS, Scene, scene

SHORT = CostLaw("const", 0.0005)


def actor(at: Scene, items: int = 60, law: CostLaw = SHORT, **wishes: object) -> VirtualProgram:
    """A program that waits for each call of its actor before it makes the next."""
    wish = Wish(JobKind.SUBMIT, items, law, at.world.now, actor=True, alone=True, **wishes)  # type: ignore[arg-type]
    return at.submit(wish)


def hired(at: Scene) -> VirtualActor | None:
    processes = (each for node in at.nodes for each in node.actors.values())
    return next((each for each in processes if each.hire is not None), None)


def until_hired(at: Scene) -> VirtualActor:
    """Until it has answered a call past its node, and is at another one."""
    at.until(lambda: at.world.hires.served > 0)
    at.until(lambda: (each := hired(at)) is not None and each.running is not None)
    process = hired(at)
    assert process is not None
    return process


def failed(at: Scene, program: VirtualProgram) -> int:
    return at.world.checkers.accounts[program.job].failed


# ---------------------------------------------------------------- what they are for


def test_a_program_that_waits_for_each_call_hires_its_actor() -> None:
    at = scene(2, one_host=True)
    program = actor(at, 100)
    at.finish()
    hires = at.world.hires
    assert (hires.begun, hires.served, hires.moved) == (1, 96, 0)
    assert (sum(node.items for node in at.nodes), failed(at, program)) == (100, 0)


def test_an_actor_on_another_host_is_not_hired() -> None:
    at = scene(1)
    actor(at)
    at.finish()
    assert not at.world.hires.begun


def test_it_stays_hired_while_the_program_thinks() -> None:
    at = scene(1, one_host=True)
    actor(at, 12, think_seconds=ACTOR_IDLE_SECONDS / 2)
    at.finish()
    assert at.world.hires.begun == 1


def test_it_goes_back_after_a_while_without_a_call() -> None:
    at = scene(1, one_host=True)
    actor(at, 8, think_seconds=3 * ACTOR_IDLE_SECONDS)
    at.until(lambda: hired(at) is not None)
    at.until(lambda: hired(at) is None, within=2 * ACTOR_IDLE_SECONDS)
    at.finish()


def test_its_process_is_no_worker() -> None:
    """A hired actor takes no worker away, and other work does not end its hire."""
    at = scene(1, one_host=True)
    program = actor(at, 2_000)
    until_hired(at)
    slots = at.nodes[0].core.holder.slots
    assert (len(slots), slots.busy) == (2, 0)
    other = at.map(40, law=CostLaw("const", 0.01))
    at.until(lambda: slots.busy == 2)
    at.until(lambda: other.done)
    at.until(lambda: program.done)
    assert at.world.hires.begun == 1
    at.finish()


def test_one_that_takes_up_resources_is_hired() -> None:
    at = scene(1, one_host=True)
    at.nodes.append(at.world.node("n1", seeds=[SEED_ADDRESS], resources=(("gpu", 1),)))
    actor(at, 30, resources=(("gpu", 1),))
    at.finish()
    assert at.world.hires.served == 26


# ---------------------------------------------------------------- order


def orders_are_slow(at: Scene) -> None:
    """The process hears that it is wanted back before it has read its order."""
    hires = at.world.hires
    right = hires.order
    hires.order = lambda *told: hires.clock.after(0.005, right, *told)  # type: ignore[method-assign]


def until_ordered(at: Scene, program: VirtualProgram) -> None:
    """Until the order of a call has just left."""
    job = at.owned(program)
    at.until(lambda: job.hire is not None and not job.hire.lid)
    at.until(lambda: job.hire is not None and job.hire.lid > 0)


def several_at_once(at: Scene) -> None:
    """Calls come while one is on its way to the hired process, and while others are on their way to its node."""
    program = actor(at, 500)
    hires = at.world.hires
    for _ in range(10):
        served = hires.served
        at.until(lambda: hires.served > served + 16)  # noqa: B023  # at once
        until_ordered(at, program)
        for _ in range(3):
            program._feed()
        at.until(lambda: not at.owned(program).ledger.has_free)
        program._feed()
    at.finish()
    assert failed(at, program) == 0
    assert hires.begun > 1


def test_calls_keep_their_order_when_several_come_at_once() -> None:
    for seed in range(4):
        at = scene(1, seed=seed, one_host=True)
        if seed % 2:
            orders_are_slow(at)
        several_at_once(at)


def test_a_call_waits_for_the_one_that_is_with_the_process() -> None:
    at = scene(1, one_host=True)
    program = actor(at, 200, CostLaw("const", 0.01))
    until_hired(at)
    first = program._fed
    program._feed()
    at.until(lambda: at.owned(program).ledger.has_free, within=0.005)
    (why,) = why_item(at.client.core.owner, at.owned(program), first, at.world.now)
    assert (why.why, why.count) == (Why.ACTOR_TURN, 1)
    at.finish()


def a_long_call(at: Scene) -> None:
    program = actor(at, 30, CostLaw("turning", 0.2, turn=15))
    at.until(lambda: at.world.hires.moved > 0)
    for _ in range(3):
        program._feed()
    at.finish()
    assert failed(at, program) == 0
    assert sum(node.items for node in at.nodes) == 30


def test_a_call_that_takes_long_becomes_its_nodes_and_others_follow_it() -> None:
    a_long_call(scene(1, one_host=True))


def test_a_process_at_a_call_that_was_cancelled_is_not_hired_out() -> None:
    """Its owner has no lease open, and does not know."""
    at = scene(1, one_host=True, config=Config(hire_after_calls=0))
    program = actor(at, 20, CostLaw("const", 0.05))
    node = at.nodes[0]
    at.until(lambda: any(each.running is not None for each in node.actors.values()))
    node.core.hired_out.asked(at.client.member.id, Hire(program.job, 1), at.world.now)
    assert not node.core.holder.slots.hired
    at.finish()


def test_a_call_that_is_stopped_goes_on_and_the_actor_lives() -> None:
    """Also while its process does not answer: a worker's would be ended for that."""
    at = scene(1, one_host=True)
    program = actor(at, 40, CostLaw("turning", 2.0, turn=20))
    until_hired(at)
    at.until(lambda: at.owned(program).hire is not None and program._fed == 21)
    at.until(lambda: any(each.running is not None for each in at.nodes[0].actors.values()))
    at.world.hires.end = lambda *told: None  # type: ignore[method-assign]
    program.wish.stops = True
    program._cancel(20, 21)
    at.run(2.0 * GRACE_SECONDS)
    assert at.counted("workers-lost", at.nodes[0]) == 0
    assert all(each.ready for each in at.nodes[0].actors.values())


def test_what_hired_calls_take_is_learned() -> None:
    """The less is known of that, the more calls are in doubt after a death."""
    at = scene(1, one_host=True)
    lives = at.owned(actor(at, 100)).lives
    until_hired(at)
    assert lives is not None
    lives._seconds_per_item = None
    at.until(lambda: lives._seconds_per_item is not None)
    assert hired(at) is not None
    at.finish()


# ---------------------------------------------------------------- lives


@pytest.mark.parametrize("retries", [0, 2])
def test_the_process_dies_at_a_call(retries: int) -> None:
    at = scene(1, one_host=True)
    program = actor(at, 100, restarts=1, retries=retries)
    until_hired(at).kill()
    at.finish()
    assert failed(at, program) == (0 if retries else 1)
    assert at.world.checkers.actors.deaths[program.job] == 1
    assert at.world.hires.begun == 2, "it hires the process of the next life, too"


def test_the_process_dies_between_two_calls() -> None:
    at = scene(1, one_host=True)
    program = actor(at, 100, restarts=1, think_seconds=0.002)
    process = until_hired(at)
    at.until(lambda: process.running is None and not process.queue)
    process.kill()
    at.finish()
    assert failed(at, program) == 0


def the_node_dies(at: Scene) -> None:
    """What was with it may have run, and fails. What waited for that never left the program."""
    program = actor(at, 200, CostLaw("const", 0.02), restarts=1)
    until_hired(at)
    program._feed()
    program._feed()
    at.until(lambda: at.owned(program).ledger.free_items == 2, within=0.01)
    home = next(node for node in at.nodes if node.actors)
    at.world.crash(home)
    at.finish()
    assert failed(at, program) == 1


def test_the_node_dies_with_one_call() -> None:
    the_node_dies(scene(2, one_host=True))


def the_node_has_forgotten_us(at: Scene) -> None:
    """It lives, and has nothing of ours any more, as after a restart."""
    program = actor(at, 200, CostLaw("const", 0.02), restarts=1)
    until_hired(at)
    program._feed()
    program._feed()
    at.until(lambda: at.owned(program).ledger.free_items == 2, within=0.01)
    at.client.core.owner.fence(at.nodes[0].member.id, at.world.now)
    at.client.hear(Tick())
    at.finish()
    assert failed(at, program) == 1


def test_what_waits_for_a_call_does_not_end_with_its_life() -> None:
    the_node_has_forgotten_us(scene(1, one_host=True))


def test_the_next_life_gets_no_call_by_the_hire_of_the_one_before() -> None:
    at = scene(1, one_host=True)
    program = actor(at, 100, think_seconds=0.002)
    until_hired(at)
    hire = at.owned(program).hire
    assert hire is not None
    at.until(lambda: hire.is_free)
    served, hire.life = at.world.hires.served, hire.life - 1
    at.until(lambda: at.owned(program).hire is None)
    assert at.world.hires.served == served
    at.finish()


def test_its_node_leaves() -> None:
    at = scene(2, one_host=True)
    program = actor(at, 300, restarts=1)
    until_hired(at)
    node = next(each for each in at.nodes if each.actors)
    node.hear(Drain())
    at.until(lambda: node.left)
    at.finish()
    assert failed(at, program) == 0


def test_the_program_dies() -> None:
    at = scene(1, one_host=True)
    actor(at, 10_000)
    until_hired(at)
    at.world.crash(at.client)
    slots = at.nodes[0].core.holder.slots
    at.until(lambda: not slots.hired and not slots.actors, within=40.0)


def test_the_program_shuts_it_down() -> None:
    at = scene(1, one_host=True)
    actor(at, 20)
    at.finish()
    slots = at.nodes[0].core.holder.slots
    at.until(lambda: not slots.hired and not slots.actors)


# ---------------------------------------------------------------- random worlds


@pytest.mark.parametrize("seed", range(12))
def test_random_worlds_with_hired_actors_keep_their_promises(seed: int) -> None:
    outcome = run(seed, alone=True, actors=True)
    assert not outcome.breach, "\n".join(outcome.story)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_random_worlds_with_hired_actors(block: int) -> None:
    for seed in range(10_000 + 50 * block, 10_050 + 50 * block):
        outcome = run(seed, alone=True, actors=True)
        assert not outcome.breach, f"seed {seed}: " + "\n".join(outcome.story)


# ---------------------------------------------------------------- mutants

Mutate = Callable[[pytest.MonkeyPatch], None]


def later_calls_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to the node while one is on its way to the process."""
    right = Hires.takes

    def takes(self: Hires, job: OwnedJob, hire: HiredHand, now: float) -> bool:
        return not hire.lid and right(self, job, hire, now)

    monkeypatch.setattr(Hires, "takes", takes)


def calls_overtake_what_is_with_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Hires._may_get

    def may_get(self: Hires, job: OwnedJob, hire: HiredHand, now: float) -> bool:
        lives, job.lives = job.lives, None
        try:
            return right(self, job, hire, now)
        finally:
            job.lives = lives

    monkeypatch.setattr(Hires, "_may_get", may_get)


def any_life_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lives, "lives_at", lambda self, holder, number: holder == self.home)


def what_is_free_goes_to_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hire is forgotten before the life is over."""
    right = Owner.fence

    def fence(self: Owner, holder: PeerId, now: float) -> None:
        for job in list(self.jobs.values()):
            if job.hire is not None and job.hire.node == holder:
                self.hires.job_over(job)
                self.work_changed(job.spec.job, now)
        right(self, holder, now)

    monkeypatch.setattr(Owner, "fence", fence)


def its_node_gives_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slots, "hire_out", lambda self, slot: None)


def it_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HiredOut, "_end", lambda self, hired: None)


def it_counts_as_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slots, "_workers_hired", lambda self: len(self.hired))


def a_life_is_never_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hire of a process ends after the life, and nobody has thought of that."""
    monkeypatch.setattr(Slots, "hire_over", lambda self, worker: self.actors[worker])


MUTANTS: list[tuple[Mutate, Callable[[], None]]] = [
    (later_calls_do_not_wait, test_calls_keep_their_order_when_several_come_at_once),
    (calls_overtake_what_is_with_the_node, test_calls_keep_their_order_when_several_come_at_once),
    (any_life_is_meant, test_the_next_life_gets_no_call_by_the_hire_of_the_one_before),
    (what_is_free_goes_to_the_dead, test_what_waits_for_a_call_does_not_end_with_its_life),
    (its_node_gives_it_calls, test_calls_keep_their_order_when_several_come_at_once),
    (it_does_not_come_back, test_calls_keep_their_order_when_several_come_at_once),
    (it_counts_as_a_worker, test_its_process_is_no_worker),
    (a_life_is_never_over, test_the_program_shuts_it_down),
]


@pytest.mark.parametrize(("mutate", "find"), MUTANTS, ids=lambda each: each.__name__)
def test_a_mutant_is_found(
    mutate: Mutate, find: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((Breach, AssertionError, KeyError)):
        find()
