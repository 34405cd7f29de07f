"""The faults that take longer to notice, to undo or to bear."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.namespaces.net import CannotDo
from tests.namespaces.scene import Scene
from tests.namespaces.test_faults import at_work

pytestmark = [pytest.mark.real, pytest.mark.slow]

Stage = Callable[[int, int], Scene]


def hinder(how: Callable[..., None], *arguments: int) -> None:
    """Not every kernel has every kind of queue."""
    try:
        how(*arguments)
    except CannotDo as error:
        pytest.skip(f"not here: {error}")


def test_a_node_that_hears_everybody_and_is_heard_by_nobody(stage: Stage) -> None:
    scene = stage(4, 4)
    program = at_work(scene, 1)
    hinder(scene.net.mute, 4)
    program.until_it_sees(dict.fromkeys(["node1", "node2", "node3"], 3))
    scene.net.unhinder(4)
    program.until_it_sees(scene.all_see_all())
    program.is_exactly_right()


def test_the_program_s_own_host_is_heard_by_nobody(stage: Stage) -> None:
    """It hears all nodes and reaches none but the one on its own host."""
    scene = stage(4, 4)
    program = at_work(scene, 1)
    beyond = scene.start_program(2, entry=2)
    hinder(scene.net.mute, 1)
    beyond.until_it_sees(dict.fromkeys(["node2", "node3", "node4"], 3))
    scene.net.unhinder(1)
    for each in (program, beyond):
        each.until_it_sees(scene.all_see_all())
    program.is_exactly_right()


def test_two_nodes_lose_the_way_to_each_other(stage: Stage) -> None:
    """Everybody else hears both of them."""
    scene = stage(4, 4)
    program = at_work(scene, 1)
    scene.net.lose_route(3, to=[4])
    program.is_exactly_right()
    scene.net.find_route(3, to=[4])
    program.until_it_sees(scene.all_see_all())


def test_a_loose_cable(stage: Stage) -> None:
    """It comes and goes faster than anybody can be found dead, and then stays away for longer."""
    scene = stage(4, 4)
    program = at_work(scene, 1)
    for step in range(4):
        scene.net.pull_cable(3)
        scene.net.plug_cable(3)
        program.has_done(400 + 100 * step)
    scene.net.pull_cable(3)
    program.until_it_sees(dict.fromkeys(["node1", "node2", "node4"], 3))
    scene.net.plug_cable(3)
    program.until_it_sees(scene.all_see_all())
    program.is_exactly_right()


def test_all_cables_are_pulled_at_once(stage: Stage) -> None:
    """Every node is an island; the program has one node left."""
    scene = stage(4, 4)
    program = at_work(scene, 1)
    for host in (1, 2, 3, 4):
        scene.net.pull_cable(host)
    program.until_it_sees({"node1": 1})
    for host in (1, 2, 3, 4):
        scene.net.plug_cable(host)
    program.until_it_sees(scene.all_see_all())
    program.is_exactly_right()


def test_the_job_ends_while_the_halves_are_parted(stage: Stage) -> None:
    """The other half hears of the end when the cut is mended, and forgets the job. By then TCP
    itself tries only now and then: the halves have to dial each other anew."""
    scene = stage(4, 4)
    program = at_work(scene, 1)
    beyond = scene.start_program(3, entry=3)
    scene.net.part([3, 4])
    program.is_exactly_right()
    beyond.until_it_sees({"node3": 2, "node4": 2})
    scene.net.join([3, 4])
    for each in (program, beyond):
        each.until_it_sees(scene.all_see_all())
    program.start_map(400, 0.01, scene.directory / "again")
    program.is_exactly_right()


def test_a_seed_is_reborn_on_the_other_side_of_a_cut(stage: Stage) -> None:
    """Its new life knows nobody and nobody knows it; those who were given its address look there."""
    scene = stage(4, 4)
    program = scene.start_program(2, entry=2)
    program.until_it_sees(scene.all_see_all())
    program.start_map(2000, 0.01, scene.log())
    program.has_done(300)
    scene.net.pull_cable(1)
    program.until_it_sees(dict.fromkeys(["node2", "node3", "node4"], 3))
    scene.nodes["node1"].kill()
    scene.start_node(1, "--no-peer-cache", seeds=())
    scene.net.plug_cable(1)
    program.until_it_sees(scene.all_see_all())
    program.is_exactly_right()


def test_a_narrow_pipe(stage: Stage) -> None:
    """2,000 results of 2 kB through 1 Mbit/s a node: slow is not dead."""
    scene = stage(4, 4)
    for host in (2, 3, 4):
        hinder(scene.net.throttle, host, 1000)
    program = at_work(scene, 1, octets=2048)
    program.is_exactly_right()
    assert program.status()["counters"].get("peers-declared-dead", 0) == 0
