"""Stories of jobs that lose all replicas at one instant, for good, and without disks.

What holders and submitters still have makes a new ledger; what neither has is run again if that is
possible, and is named if it is not.
"""

from __future__ import annotations

import pytest

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.durable_programs import DurableReader
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .durable_scenes import DurableScene, durable_scene

SEEDS = pytest.mark.parametrize("seed", range(1, 5))
KINDS = pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE])
SLOW = CostLaw("const", 0.05)
NODES = 6


def _scene(seed: int, **knobs: float) -> DurableScene:
    calm = {"rebuild_seconds": 6.0, "primary_patience_seconds": 15.0, "lone_replica_seconds": 3.0}
    return durable_scene(NODES, seed=seed, disks=False, **(calm | knobs))  # type: ignore[arg-type]


def _seats(scene: DurableScene, job: DurableReader) -> list[Process]:
    """The nodes that have a seat, as the home says."""
    seats = {peer for _, peer in scene.lead(scene.at_home(job), job).replica.configuration.seats}
    return [node for node in scene.nodes if node.member.id in seats]


def _kill_all_keepers(scene: DurableScene, job: DurableReader) -> list[Process]:
    victims = _seats(scene, job)
    assert len(victims) == 3
    assert {node.name for node in victims} == {node.name for node in scene.keepers(job)}
    for victim in victims:
        scene.world.crash(victim)
    return [node for node in scene.nodes if node.alive]


def _results_at(nodes: list[Process], job: DurableReader) -> IntervalSet:
    """What these nodes hold results of, said to be safe or not."""
    found = IntervalSet()
    for node in nodes:
        holder = node.core.holder
        for part, _ in holder.retained.results(job.job):
            found.add(part.lo, part.hi)
        for lo, hi in holder.jobs[job.job].unsettled:
            found.add(lo, hi)
    return found


def _inputs_at(nodes: list[Process], job: DurableReader) -> IntervalSet:
    found = IntervalSet()
    for node in nodes:
        bags = node.core.holder.jobs[job.job].bags
        assert isinstance(bags, IndexedBags)
        for block, _ in (*bags.inputs, *node.core.holder.retained.inputs(job.job)):
            found.add(block.lo, block.hi)
    return found


def test_what_comes_while_a_job_is_rebuilt_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal forgets the job, and a job that is being rebuilt is not to be forgotten half-way."""
    scene = _scene(1)
    job = scene.launch(600, law=SLOW, fed=True, block_items=7, feed_seconds=0.2)
    scene.until(lambda: scene.safe_items(job) >= 100)
    with monkeypatch.context() as full:
        full.setattr("stealmesh_engine.durable.requests.INPUTS_SHARE", 0.0)
        _kill_all_keepers(scene, job)
        scene.until(lambda: _is_rebuilt(scene, job), within=60.0)
        scene.until(lambda: not _is_rebuilt(scene, job), within=60.0)
    scene.collected(job, within=90.0)
    assert job.accepted_whole


def _is_rebuilt(scene: DurableScene, job: DurableReader) -> bool:
    leads = (node.core.durable.state.primaries.get(job.job) for node in scene.nodes if node.alive)
    return any(primary is not None and primary.rebuild is not None for primary in leads)


@SEEDS
@KINDS
def test_a_range_is_finished_without_its_keepers_and_its_submitter(
    seed: int, kind: JobKind
) -> None:
    scene = _scene(seed)
    job = scene.launch(600, kind=kind, law=SLOW, collects=False)
    scene.half_done(job)
    scene.world.crash(scene.client)
    living = _kill_all_keepers(scene, job)
    scene.world.checkers.safe[job.job] = _results_at(living, job)
    assert scene.world.checkers.safe[job.job].size > 60
    reader = scene.attach(job)
    scene.collected(reader, within=60.0)
    assert scene.repeated(job) == 0


@SEEDS
@KINDS
def test_who_reads_meanwhile_reads_on(seed: int, kind: JobKind) -> None:
    """No item comes to it twice, though other partials are made of what was lost."""
    scene = _scene(seed)
    job = scene.launch(600, kind=kind, law=SLOW)
    scene.until(lambda: job.position >= 200)
    _kill_all_keepers(scene, job)
    scene.collected(job, within=60.0)


@SEEDS
def test_a_submitter_that_lives_gives_its_items_once_more(seed: int) -> None:
    scene = _scene(seed)
    job = scene.launch(600, law=SLOW, fed=True, block_items=7)
    scene.until(lambda: job.accepted_whole)
    scene.half_done(job)
    _kill_all_keepers(scene, job)
    scene.collected(job, within=60.0)


def test_a_submitter_that_is_still_feeding_goes_on() -> None:
    scene = _scene(1)
    job = scene.launch(600, law=SLOW, fed=True, block_items=7, feed_seconds=0.2)
    scene.until(lambda: scene.safe_items(job) >= 100)
    _kill_all_keepers(scene, job)
    scene.collected(job, within=90.0)
    assert job.accepted_whole


@SEEDS
def test_inputs_that_nobody_has_are_named(seed: int) -> None:
    scene = _scene(seed)
    job = scene.launch(600, law=SLOW, fed=True, block_items=7, collects=False)
    scene.until(lambda: job.accepted_whole)
    scene.half_done(job)
    scene.world.crash(scene.client)
    living = _kill_all_keepers(scene, job)
    scene.run(4.0)  # what was on its way has arrived, and no node is asked to rebuild it yet
    lost = IntervalSet([(0, 600)])
    for lo, hi in (*_results_at(living, job), *_inputs_at(living, job)):
        lost.remove(lo, hi)
    assert lost
    reader = scene.attach(job)
    scene.until(lambda: reader.done, within=90.0)
    assert reader.missing == list(lost)
    home = scene.at_home(job)
    scene.until(lambda: scene.lead(home, job).replica.ended, within=60.0)
    assert scene.lead(home, job).replica.covered.size == 600 - lost.size
    scene.until(lambda: not scene.world.checkers.still_holding(job.job), within=40.0)


def test_a_job_of_which_nobody_knows_how_long_it_was_is_lost_loudly() -> None:
    """Its submitter died while it fed it: what there is must not pass for the whole."""
    scene = _scene(1)
    job = scene.launch(600, law=SLOW, fed=True, block_items=7, feed_seconds=0.1, collects=False)
    scene.until(lambda: scene.safe_items(job) >= 100)
    scene.world.crash(scene.client)
    _kill_all_keepers(scene, job)
    reader = scene.attach(job)
    scene.until(lambda: reader.done, within=90.0)
    assert reader.missing
    assert reader.state == "lost"
    assert reader.position < 600


def test_a_partition_makes_two_homes_whose_copies_are_joined() -> None:
    """The keepers live on the other side: both go on, and when they meet nothing is doubled."""
    scene = _scene(2)
    job = scene.launch(900, law=CostLaw("const", 0.2))
    scene.until(lambda: scene.safe_items(job) >= 100)
    seats = _seats(scene, job)
    others = [node for node in scene.nodes if node not in seats] + [scene.client]
    links = scene.world.network
    for a in seats:
        for b in others:
            links.cut(a.place, b.place)
            links.cut(b.place, a.place)
    scene.until(lambda: any(job.job in n.core.durable.state.primaries for n in others), within=30.0)
    assert any(job.job in n.core.durable.state.primaries for n in seats)
    scene.run(3.0)
    for a in seats:
        for b in others:
            links.mend(a.place, b.place)
            links.mend(b.place, a.place)
    scene.until(
        lambda: sum(job.job in n.core.durable.state.primaries for n in scene.nodes) == 1,
        within=30.0,
    )
    scene.collected(job, within=120.0)


def test_no_more_is_kept_for_it_than_there_is_room_for() -> None:
    scene = _scene(1, spare_octets_max=2000)
    job = scene.launch(600, law=SLOW)
    scene.half_done(job)
    living = _kill_all_keepers(scene, job)
    assert all(0 < node.core.holder.retained.octets <= 2000 for node in living)
    assert all(node.core.counters["spares-dropped"] for node in living)
    scene.collected(job, within=90.0)


def test_an_ended_job_is_not_done_again() -> None:
    """Its results are lost with its keepers, but everybody has read them."""
    scene = _scene(1)
    job = scene.launch(100)
    scene.collected(job)
    for keeper in scene.keepers(job):
        scene.world.crash(keeper)
    scene.run(20.0)
    assert scene.home(job) is None


def test_a_holder_that_was_not_told_of_the_end_asks() -> None:
    """What it keeps for a home that lives is given up once the home says that the job is over."""
    scene = _scene(1, lease_seconds=3.0)
    job = scene.launch(600, law=SLOW)
    scene.half_done(job)
    seats = _seats(scene, job)
    holder = next(node for node in scene.nodes if node not in seats)
    others = [node for node in scene.nodes if node is not holder] + [scene.client]
    links = scene.world.network
    for other in others:
        links.cut(holder.place, other.place)
        links.cut(other.place, holder.place)
    scene.until(lambda: job.done, within=60.0)
    assert holder.core.holder.retained.has(job.job)
    for other in others:
        links.mend(holder.place, other.place)
        links.mend(other.place, holder.place)
    scene.until(lambda: not holder.core.holder.retained.has(job.job), within=30.0)
    assert holder.core.holder.retained.octets == 0
