"""Stories of replicas with failing disks: what one loses the others give back, and what all lose is named."""

from __future__ import annotations

from collections.abc import Callable

from stealmesh.store import read
from stealmesh_protocol.messages import JobKind, Keep
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .durable_scenes import DurableScene, durable_scene

SLOW = CostLaw("const", 0.05)


def disk_of(node: Process) -> VirtualDisk:
    assert node.disk is not None
    return node.disk


def harm(node: Process, wanted: Callable[[Keep], object]) -> int:
    """Flips a bit in each record that `wanted` picks; returns how many."""
    disk = disk_of(node)
    octets, hit = bytearray(disk.octets), 0
    reading = read(bytes(octets))
    for record, (begin, end) in zip(reading.records, reading.places, strict=True):
        if wanted(record):
            octets[(begin + end) // 2] ^= 8
            hit += 1
    disk.platter.put(bytes(octets))
    return hit


def stop(scene: DurableScene) -> None:
    scene.world.checkers.note_safe()
    for node in list(scene.nodes):
        scene.world.crash(node)


def test_what_a_damaged_keeper_lost_comes_back_from_the_others_and_is_on_its_disk() -> None:
    """It is healed for good: the others may be gone afterwards."""
    scene = durable_scene(3)
    job = scene.launch(800, law=SLOW, collects=False)
    scene.half_done(job)
    stop(scene)
    victim = scene.nodes[2]
    assert harm(victim, lambda record: record.results) > 10
    for node in list(scene.nodes):
        scene.restart(node)
    scene.until(lambda: len(scene.keepers(job)) == 3 and scene.home(job) is not None, within=20.0)
    assert scene.nodes[2].core.counters["log-damage"] > 10
    scene.run(3.0)
    stop(scene)
    assert not read(disk_of(victim).octets).damage
    scene.restart(scene.nodes[2])
    scene.run(15.0)
    reader = scene.attach(job, scene.nodes[2])
    scene.collected(reader, within=120.0)
    assert scene.repeated(reader) == 0


def test_one_flipped_bit_on_each_of_three_keepers_costs_nothing() -> None:
    scene = durable_scene(3, seed=2)
    job = scene.launch(600, kind=JobKind.MAP, law=SLOW, collects=False)
    scene.half_done(job)
    stop(scene)
    for number, node in enumerate(scene.nodes):
        items = range(20 * number, 20 * number + 1)
        assert harm(node, lambda r, i=items: any(k.lo in i for k in r.results)) == 1  # type: ignore[misc]
    for node in list(scene.nodes):
        scene.restart(node)
    scene.until(lambda: scene.home(job) is not None, within=20.0)
    reader = scene.attach(job)
    scene.collected(reader, within=60.0)
    assert scene.repeated(reader) == 0


def test_inputs_that_all_disks_have_lost_are_named() -> None:
    scene = durable_scene(3, primary_patience_seconds=10.0)
    job = scene.launch(400, law=SLOW, collects=False, fed=True, block_items=50)
    scene.until(lambda: job.accepted_whole)
    scene.world.crash(scene.client)
    stop(scene)
    for node in scene.nodes:
        harm(node, lambda record: any(block.lo == 150 for block in record.blocks))
    lost = {b.lo for n in scene.nodes for r in read(disk_of(n).octets).records for b in r.blocks}
    assert 150 not in lost
    for node in list(scene.nodes):
        scene.restart(node)
    scene.until(lambda: scene.home(job) is not None, within=20.0)
    reader = scene.attach(job)
    scene.until(lambda: reader.done, within=90.0)
    assert not reader.gone
    assert reader.position >= 100
    lo, hi = reader.missing[0]
    assert lo <= 150 < hi
    assert (lo, hi) == (lo, 200)


def test_inputs_that_all_disks_have_lost_come_from_the_program_if_it_lives() -> None:
    scene = durable_scene(3, primary_patience_seconds=20.0)
    job = scene.launch(400, law=SLOW, fed=True, block_items=50)
    scene.until(lambda: job.accepted_whole)
    stop(scene)
    for node in scene.nodes:
        harm(node, lambda record: any(block.lo == 150 for block in record.blocks))
    for node in list(scene.nodes):
        scene.restart(node)
    scene.collected(job, within=120.0)


def test_a_job_whose_end_all_disks_have_lost_says_so() -> None:
    """No one knows how many items there were: what is there can be had, the next one is called lost."""
    scene = durable_scene(3, primary_patience_seconds=10.0)
    job = scene.launch(100, law=SLOW, collects=False, fed=True, block_items=50)
    scene.until(lambda: scene.safe_items(job) == 100, within=30.0)
    scene.world.crash(scene.client)
    stop(scene)
    for node in scene.nodes:
        harm(node, lambda record: record.closed)
    for node in list(scene.nodes):
        scene.restart(node)
    scene.until(lambda: scene.home(job) is not None, within=20.0)
    reader = scene.attach(job)
    scene.until(lambda: reader.done, within=90.0)
    assert reader.gone or reader.missing


def test_a_damaged_keeper_does_not_stand_in_for_one_that_is_late() -> None:
    """Of two keepers one is damaged, the other late: nothing is run again meanwhile."""
    scene = durable_scene(2, replicas=2)
    job = scene.launch(600, law=SLOW, collects=False)
    scene.half_done(job)
    stop(scene)
    first, second = scene.nodes
    assert harm(first, lambda record: record.results) > 10
    scene.restart(first)
    scene.run(6.0)
    assert scene.home(job) is None
    scene.restart(second)
    scene.until(lambda: scene.home(job) is not None, within=20.0)
    reader = scene.attach(job)
    scene.collected(reader, within=60.0)
    assert scene.repeated(reader) == 0


def test_a_full_disk_ends_its_node_and_the_job_goes_on() -> None:
    scene = durable_scene(3)
    job = scene.launch(1000, law=SLOW, collects=False)
    scene.run(1.0)
    home = scene.at_home(job)
    disk_of(home).platter.full = True
    scene.until(lambda: not home.alive, within=10.0)
    reader = scene.attach(job)
    scene.collected(reader, within=90.0)
