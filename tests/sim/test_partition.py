"""Both ways of `Config.partition`: what each side of a cut does with its jobs, and what is done twice."""

from __future__ import annotations

import pytest

from stealmesh.host.settings import load_config
from stealmesh_engine.config import Config
from stealmesh_engine.events import Drain
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.ledger.partition_guard import CALM_SECONDS
from stealmesh_sim.durable_programs import DurableReader
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .durable_scenes import DurableScene, durable_scene
from .scenes import SEED_ADDRESS, Scene, scene

NODES = 6
SLOW = CostLaw("const", 0.05)
CUT_SECONDS = 30.0
LOSS_SECONDS = 10.0
"""By then everybody has stopped doubting himself, and knows which peers he has lost."""


def _scene(partition: str, nodes: int = NODES) -> Scene:
    told = scene(nodes, workers=1, config=Config(partition=partition), settle_seconds=2.0)
    told.run(CALM_SECONDS + 1.0)
    return told


def _cut(told: Scene | DurableScene, side: list[Process]) -> None:
    ours = [each.place for each in side]
    theirs = [each.place for each in [*told.nodes, told.client] if each not in side]
    told.world.network.wall_off(ours, theirs)
    told.world.network.wall_off(theirs, ours)


def _heal(told: Scene | DurableScene, side: list[Process]) -> None:
    ours = [each.place for each in side]
    theirs = [each.place for each in [*told.nodes, told.client] if each not in side]
    told.world.network.tear_down(ours, theirs)
    told.world.network.tear_down(theirs, ours)


def _grants(told: Scene) -> int:
    return sum("granted" in line for line in told.client.core.journal.of())


def _held(node: Process, job: DurableReader) -> int:
    """Items that it has leases of."""
    bags = node.core.holder.jobs[job.job].bags
    assert isinstance(bags, IndexedBags)
    return sum(lease.untouched.size + lease.busy for lease in bags.leases.values())


def _lesser(process: Process) -> bool:
    return process.core.owner.placement.side.lesser


@pytest.mark.parametrize("partition", ["progress", "majority"])
def test_a_program_on_the_lesser_side(partition: str) -> None:
    """Its side ends the job alone, or waits for the others."""
    told = _scene(partition)
    program = told.map(1000, law=SLOW)
    side = [told.client, *told.nodes[:2]]
    told.run(1.0)
    _cut(told, side)
    told.run(LOSS_SECONDS)
    granted = _grants(told)
    told.run(CUT_SECONDS)
    waits = partition == "majority"
    assert program.done is not waits
    assert _lesser(told.client) is waits
    if waits:
        assert _grants(told) == granted, "nothing is leased on the lesser side"
        assert told.counted("beats-on-the-lesser-side") > CUT_SECONDS
    _heal(told, side)
    told.finish(within=60.0)
    assert not _lesser(told.client)


def test_a_program_on_the_larger_side_goes_on() -> None:
    told = _scene("majority")
    program = told.map(1000, law=SLOW)
    side = told.nodes[4:]
    told.run(1.0)
    _cut(told, side)
    told.until(lambda: program.done, within=CUT_SECONDS)
    _heal(told, side)
    told.finish()


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_of_two_halves_one_goes_on(first: int) -> None:
    told = _scene("majority", 4)
    side = [told.nodes[first], told.nodes[(first + 1) % 4]]
    serving = [node for node in told.nodes if node.core.view.serves()]
    ours = [node for node in serving if node in side]
    theirs = [node for node in serving if node not in side]
    _cut(told, side)
    told.until(lambda: any(map(_lesser, serving)))
    for seconds in (1.0, CUT_SECONDS):  # time does not make a side larger
        told.run(seconds)
        assert {_lesser(node) for node in ours} == {_lesser(ours[0])}
        assert {_lesser(node) for node in theirs} == {not _lesser(ours[0])}
    _heal(told, side)
    told.until(lambda: not any(map(_lesser, told.nodes)), within=10.0)


def test_most_nodes_die_and_are_started_again() -> None:
    told = _scene("majority")
    program = told.map(1000, law=SLOW)
    told.run(1.0)
    for node in told.nodes[2:]:
        told.world.crash(node)
    told.run(CUT_SECONDS)
    assert not program.done
    assert _lesser(told.client)
    for node in told.nodes[2:4]:
        told.nodes.append(told.world.restart(node, seeds=[SEED_ADDRESS]))
    told.until(lambda: program.done, within=60.0)
    assert not _lesser(told.client)


def test_who_leaves_on_purpose_is_not_waited_for() -> None:
    told = _scene("majority")
    program = told.map(2000, law=SLOW)
    told.run(1.0)
    for node in told.nodes[1:5]:
        node.hear(Drain())
    told.until(lambda: program.done, within=120.0)
    assert told.counted("beats-on-the-lesser-side") <= 1, "if so, until its farewell is heard"


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("partition", ["progress", "majority"])
def test_a_durable_job_whose_home_is_on_the_lesser_side(partition: str, seed: int) -> None:
    """The other keepers go on with it; in the end each result counts once."""
    told = durable_scene(NODES, seed=seed, workers=1, partition=partition)
    told.run(CALM_SECONDS + 1.0)
    job = told.launch(900, law=SLOW)
    told.half_done(job)
    home = told.at_home(job)
    keepers = told.keepers(job)
    plain = next(node for node in told.nodes if node not in keepers)
    side = [home, plain]
    held = sum(_held(node, job) for node in side)
    _cut(told, side)
    told.run(CUT_SECONDS)
    assert told.safe_items(job) == 900
    _heal(told, side)
    told.collected(job, within=60.0)
    twice = sum(node.items for node in told.nodes) - 900
    if partition == "majority":
        assert twice <= 1.05 * held + NODES
    told.until(lambda: not any(map(_lesser, told.nodes)), within=10.0)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="partition must be progress or majority"):
        Config(partition="both")


def test_it_can_be_said_in_the_environment() -> None:
    environment = {"STEALMESH_PARTITION": "majority", "STEALMESH_CONFIG_FILE": "/dev/null"}
    assert load_config(None, environment).partition == "majority"
