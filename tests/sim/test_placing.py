"""What a job may ask of the mesh: bounds on what runs at once, resources of nodes, and turns.

Each story is told in a virtual mesh; random worlds play them with deaths, cuts, steals and cancels; and each
rule has a mutant that a world notices.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.marks import later

from stealmesh_engine.effects import Deliver
from stealmesh_engine.events import CancelItems
from stealmesh_engine.holding.handover import Handover
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.lane_bags import LaneBags
from stealmesh_engine.holding.stock import Stock
from stealmesh_engine.ledger.dealing import Lanes, Round
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.stealing.victim import Victim
from stealmesh_protocol.messages import JobKind, Resources
from stealmesh_protocol.values import failures_of
from stealmesh_sim import durable_worlds, random_worlds
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.durable_programs import Launcher
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw, VirtualTree
from stealmesh_sim.world import World

from .scenes import FINE, SEED_ADDRESS, Scene, scene

KINDS = [JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT, JobKind.EXPLORE]
GPU: Resources = (("GPU", 1),)
SLOW = CostLaw("const", 0.1)


def wish(told: Scene, kind: JobKind = JobKind.MAP, items: int = 200, **more: object) -> Wish:
    tree = VirtualTree(5, 7, 4) if kind is JobKind.EXPLORE else None
    law = more.pop("law", FINE)
    return Wish(kind, items, law, told.world.now, block_items=7, tree=tree, **more)  # type: ignore[arg-type]


def at_once(told: Scene, program: VirtualProgram) -> int:
    return told.world.checkers.placing.at_once.get(program.job, 0)


def failed(told: Scene, program: VirtualProgram) -> int:
    return told.world.checkers.accounts[program.job].failed


# ---------------------------------------------------------------- max_parallel


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_run_at_once_than_the_job_allows(kind: JobKind) -> None:
    """Twelve workers, three lanes: all three are used, and no fourth."""
    told = scene(3, workers=4)
    told.world.checkers.placing.strict = True
    program = told.submit(wish(told, kind, max_parallel=3))
    told.finish()
    assert at_once(told, program) == 3


def test_cheap_items_travel_many_in_one_lane() -> None:
    told = scene(2, workers=2)
    program = told.map(20_000, law=CostLaw("const", 0.0005), max_parallel=2)
    told.finish(within=12.0)  # 5 s on two lanes
    assert at_once(told, program) == 2
    assert sum(1 for line in told.client.core.journal.of() if "granted" in line) < 2000


def test_a_dear_item_does_not_hold_up_the_items_behind_it_in_its_lane() -> None:
    """Items of a millisecond travel by the dozen; one of them takes a minute."""
    told = scene(2, workers=2)
    program = told.map(
        3000, law=CostLaw("const", 0.001), max_parallel=2, endless=frozenset({500}), timeout=60.0
    )
    told.until(lambda: told.owned(program).ledger.figures().done == 2999, within=30.0)


def test_a_thief_takes_a_lane_and_makes_none() -> None:
    """A node is busy with long items of another job when it gets all lanes; a node that joins takes some."""
    told = scene(1, workers=2)
    told.world.checkers.placing.strict = True
    told.map(4, law=CostLaw("const", 2.0))
    told.run(0.5)
    program = told.map(40, law=SLOW, max_parallel=3)
    told.run(0.2)
    told.nodes.append(told.world.node("n1", seeds=[SEED_ADDRESS], workers=4))
    told.finish()
    assert told.nodes[1].items > 20
    assert told.nodes[0].core.victim.given
    assert at_once(told, program) == 3


def test_a_cancelled_item_that_runs_keeps_its_lane() -> None:
    told = scene(1, workers=4)
    told.world.checkers.placing.strict = True
    program = told.map(30, law=SLOW, max_parallel=2)
    told.until(lambda: told.owned(program).ledger.figures().leases == 2)
    told.run(0.02)
    told.client.hear(CancelItems(program.job, [(0, 2)]))
    told.finish()
    assert at_once(told, program) == 2


def test_a_cancelled_item_that_waits_gives_up_its_lane() -> None:
    """Its node is busy with something long, and will never say a word about what it was not to begin."""
    told = scene(1, workers=1)
    told.map(1, law=CostLaw("const", 10.0))
    told.run(0.5)
    program = told.map(2, law=SLOW, max_parallel=1)
    told.run(0.1)
    told.client.hear(CancelItems(program.job, [(0, 1)]))
    told.nodes.append(told.world.node("n1", seeds=[SEED_ADDRESS], workers=1))
    told.until(lambda: program.done, within=6.0)


def test_a_dead_node_s_lanes_are_used_again() -> None:
    told = scene(3, workers=2)
    told.world.checkers.placing.strict = True
    program = told.map(300, law=SLOW, max_parallel=3)
    told.run(1.0)
    told.world.crash(told.nodes[1])
    told.run(3.0)
    told.world.crash(told.nodes[2])
    told.finish(within=60.0)
    assert at_once(told, program) == 3


# ---------------------------------------------------------------- resources


def mesh(*resources: Resources) -> Scene:
    """One node for each, with four workers, and a client."""
    world = World(1)
    nodes = [
        world.node(f"n{number}", seeds=[SEED_ADDRESS] if number else [], workers=4, resources=each)
        for number, each in enumerate(resources)
    ]
    told = Scene(world, nodes, world.client("client", seeds=[SEED_ADDRESS]))
    told.run(6.0)
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_goes_where_its_resources_are(kind: JobKind) -> None:
    told = mesh((), (("GPU", 2),), ())
    program = told.submit(wish(told, kind, resources=GPU))
    told.finish(within=60.0)
    assert failed(told, program) == 0
    assert [bool(node.items) for node in told.nodes] == [False, True, False]
    assert not told.counted("leases-declined")


def test_other_jobs_run_beside_one_that_waits_for_a_resource() -> None:
    told = mesh((("GPU", 1),))
    wants = told.map(40, law=SLOW, resources=GPU)
    other = told.map(300, law=SLOW)
    told.until(lambda: other.done, within=12.0)  # 30 s on the other three workers is 10
    assert not wants.done or wants.done_at is not None
    told.finish()


def test_a_thief_whose_resources_are_all_in_use_gets_other_work() -> None:
    told = mesh((("GPU", 1),), (("GPU", 1),))
    program = told.map(60, law=SLOW, resources=GPU)
    told.finish()
    assert failed(told, program) == 0
    assert min(node.items for node in told.nodes) > 15
    # They do not rob each other of what neither can begin.
    assert sum(node.core.victim.given for node in told.nodes) < 30


def reasons(told: Scene, made: Wish) -> list[str]:
    """How the items of this job failed."""
    blobs: list[bytes] = []
    program = VirtualProgram(told.world, told.client, made)
    told.programs.append(program)
    before = told.client.listener
    assert before is not None

    def listen(process: Process, effect: object) -> None:
        if isinstance(effect, Deliver):
            blobs.append(effect.blob[made.kind is JobKind.EXPLORE :])
        before(process, effect)

    told.client.listener = listen
    told.finish()
    return [failure.text for blob in blobs for failure in failures_of(blob)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_node_has_is_an_error_at_once_that_says_who_has_what(kind: JobKind) -> None:
    told = mesh((), (("GPU", 1), ("licence", 3)))
    began = told.world.now
    said = reasons(told, wish(told, kind, items=5, resources=(("GPU", 2),)))
    assert said
    assert "takes GPU=2; n1 has GPU=1, licence=3; n0 has no resources" in said[0]
    assert told.programs[0].done_at is not None
    assert told.programs[0].done_at - began < 0.01


def test_a_mesh_that_is_only_becoming_known_is_given_a_moment() -> None:
    world = World(1)
    world.node("n0", workers=1)
    told = Scene(world, [], world.client("client", seeds=[SEED_ADDRESS]))
    program = told.map(10, resources=GPU)
    told.run(1.0)
    told.nodes.append(world.node("n1", seeds=[SEED_ADDRESS], workers=1, resources=GPU))
    told.finish()
    assert failed(told, program) == 0


def test_when_the_only_node_that_has_it_dies_the_job_waits_for_it_to_come_back() -> None:
    told = mesh((), GPU)
    program = told.map(100, law=SLOW, resources=GPU)
    told.run(1.0)
    told.world.crash(told.nodes[1])
    told.run(8.0)
    (line,) = told.client.core.owner.lines()
    assert line.state.startswith("waiting: an item of job1 takes GPU=1; n0 has no resources")
    told.nodes.append(told.world.restart(told.nodes[1], seeds=[SEED_ADDRESS]))
    told.finish()
    assert failed(told, program) == 0


def test_a_durable_job_waits_for_its_resources() -> None:
    told = mesh((), ())
    for node in told.nodes:
        node.disk = VirtualDisk(told.world.network.rng)
        node.hear(node.disk.attach(node))
    launcher = Launcher(
        told.world, told.client, Wish(JobKind.MAP, 100, FINE, told.world.now, resources=GPU)
    )
    told.run(60.0)
    assert launcher.accepted
    assert not launcher.done
    told.nodes.append(told.world.node("n2", seeds=[SEED_ADDRESS], workers=1, resources=GPU))
    told.until(lambda: launcher.done)
    assert told.nodes[2].items == 100


# ---------------------------------------------------------------- priority


def test_an_urgent_job_behind_a_long_one_is_done_by_all_nodes_at_once() -> None:
    """All nodes have work for minutes, so none of them would ask for any of it."""
    told = scene(4, workers=2)
    told.map(100_000, law=CostLaw("const", 0.01))
    told.run(3.0)
    began = told.world.now
    before = [node.items for node in told.nodes]
    urgent = told.map(160, law=CostLaw("const", 0.05), priority=5)
    told.until(lambda: urgent.done)
    # Alone: 160 x 0.05 s on 8 workers is one second, in which the other job could have run 800 items.
    assert told.world.now - began < 2.0
    others = sum(node.items for node in told.nodes) - sum(before) - 160
    assert others < 400


def test_a_victim_gives_the_most_urgent_first() -> None:
    """The urgent job is the poorer one, and worth the journey."""
    told = scene(1, workers=1)
    told.map(3000, law=SLOW)
    told.run(1.0)
    urgent = told.map(40, law=SLOW, priority=5)
    told.run(0.3)
    told.nodes.append(told.world.node("n1", seeds=[SEED_ADDRESS], workers=1))
    told.until(lambda: bool(told.nodes[1].core.holder.jobs))
    assert list(told.nodes[1].core.holder.jobs) == [urgent.job]
    told.until(lambda: urgent.done)


# ---------------------------------------------------------------- random worlds, and broken rules


@pytest.mark.parametrize("first", [1, *later(6, 11, 16, 21, 26)])
def test_random_worlds_in_which_jobs_ask_for_bounds(first: int) -> None:
    for seed in range(first, first + 5):
        outcome = random_worlds.run(seed, placed=True)
        assert not outcome.breach, f"--placed --one {seed}: {outcome.breach}"


def test_random_durable_worlds_in_which_jobs_ask_for_bounds() -> None:
    for seed in range(1, 4):
        outcome = durable_worlds.run(seed, placed=True)
        assert not outcome.breach, f"--durable --placed --one {seed}: {outcome.breach}"


def the_owner_leases_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lanes, "has_room", lambda self, leases: True)


def a_lane_has_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lanes, "items", lambda self, free: 50)
    monkeypatch.setattr(LaneBags, "cut", IndexedBags.cut)
    monkeypatch.setattr(LaneBags, "queued_items", IndexedBags.queued_items)


def a_thief_takes_half_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does the ledger count what it grants to thieves."""
    monkeypatch.setattr(Lanes, "items", lambda self, free: 50)
    monkeypatch.setattr(LaneBags, "give", IndexedBags.give)
    monkeypatch.setattr(LaneBags, "queued_items", IndexedBags.queued_items)
    right = Lanes.has_room
    monkeypatch.setattr(
        Lanes, "has_room", lambda self, leases: right(self, leases) or len(leases) == self.most
    )


def what_is_cancelled_is_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lanes, "linger", lambda *args: None)


def nodes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stock, "_lacks", lambda self, wanted: False)


def resources_are_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stealmesh_engine.ledger.requirements.has_resources", lambda spec, resources: True
    )
    monkeypatch.setattr(Stock, "_lacks", lambda self, wanted: False)


def workers_get_what_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def next_job(self: Stock) -> HeldJob | None:
        return next((held for held in self.jobs() if not self.is_held_up(held)), None)

    monkeypatch.setattr(Stock, "next_job", next_job)


def owners_lease_in_the_order_of_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "_in_order", lambda self: list(self.jobs.values()))


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (the_owner_leases_all_at_once, "parallel"),
    (a_lane_has_two_chunks, "parallel"),
    (a_thief_takes_half_a_lane, "parallel"),
    (nodes_do_not_count, "resources"),
    (resources_are_anywhere, "resources"),
    (workers_get_what_came_first, "priority"),
]
SLOW_MUTANT = pytest.param(
    owners_lease_in_the_order_of_submission, "priority", marks=pytest.mark.slow
)


@pytest.mark.parametrize(
    ("mutate", "kind"), [*MUTANTS, SLOW_MUTANT], ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_rule_is_found(
    mutate: Callable[[pytest.MonkeyPatch], None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    outcomes = (random_worlds.run(seed, placed=True) for seed in range(1, 41))
    outcome = next((each for each in outcomes if each.breach), None)
    assert outcome is not None, f"nobody noticed that {mutate.__name__}"
    assert outcome.kind == kind, outcome.breach


def a_dear_lane_keeps_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handover, "return_rest", lambda *args: None)


def urgent_work_goes_to_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Round, "items", lambda self, free: free)


def victims_give_the_richest(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Victim._richest

    def richest(self: Victim, thief: bytes, now: float) -> list[HeldJob]:
        return right(self, thief, now)[::-1]

    monkeypatch.setattr(Victim, "_richest", richest)


def withdrawn_lanes_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handover, "_return", lambda *args: None)


def a_thief_says_nothing_of_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stock, "taken_up", lambda self: [])


STORIES: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (a_dear_lane_keeps_its_rest, test_a_dear_item_does_not_hold_up_the_items_behind_it_in_its_lane),
    (what_is_cancelled_is_over_at_once, test_a_cancelled_item_that_runs_keeps_its_lane),
    (withdrawn_lanes_are_not_told_of, test_a_cancelled_item_that_waits_gives_up_its_lane),
    (
        urgent_work_goes_to_one_node,
        test_an_urgent_job_behind_a_long_one_is_done_by_all_nodes_at_once,
    ),
    (victims_give_the_richest, test_a_victim_gives_the_most_urgent_first),
    (
        a_thief_says_nothing_of_what_it_uses,
        test_a_thief_whose_resources_are_all_in_use_gets_other_work,
    ),
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
