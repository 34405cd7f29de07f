"""A job goes on while the network breaks and heals: every result once, whatever happens.

Four nodes of one worker each; 2,000 tasks of 10 ms take them 5 s, and two of them 10 s: the job
outlives every fault here, because faults are undone as soon as they have been noticed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.namespaces.scene import Program, Scene

pytestmark = pytest.mark.real

Stage = Callable[[int, int], Scene]

ITEMS = 2000
TASK_SECONDS = 0.01
EARLY = 300
"""Results after which something breaks."""


def at_work(scene: Scene, host: int, octets: int = 0) -> Program:
    """A program on this host has a job well under way on all nodes."""
    program = scene.start_program(host, entry=1)
    program.until_it_sees(scene.all_see_all())
    program.start_map(ITEMS, TASK_SECONDS, scene.log(), octets)
    program.has_done(EARLY)
    return program


def test_halves_are_parted_and_joined(stage: Stage) -> None:
    """Both halves run on; once joined they find each other, and late results are dropped."""
    scene = stage(4, 4)
    program = at_work(scene, 1)
    beyond = scene.start_program(3, entry=3)
    scene.net.part([3, 4])
    program.until_it_sees({"node1": 2, "node2": 2})
    beyond.until_it_sees({"node3": 2, "node4": 2})
    scene.net.join([3, 4])
    for each in (program, beyond):
        each.until_it_sees(scene.all_see_all())
    program.is_exactly_right()


def test_a_program_is_cut_off_from_half_of_the_nodes(stage: Stage) -> None:
    """These nodes and the others hear each other all the time: nobody is dead, some are deaf."""
    scene = stage(5, 4)
    program = at_work(scene, 5)
    beyond = scene.start_program(1, entry=1)
    scene.net.lose_route(5, to=[3, 4])
    while set(program.sees()) != {"node1", "node2"}:
        pass
    program.is_exactly_right()
    assert beyond.sees() == scene.all_see_all(), "a program's troubles are its own"
    scene.net.find_route(5, to=[3, 4])
    program.until_it_sees(scene.all_see_all())


def test_a_node_is_killed_while_another_is_cut_off(stage: Stage) -> None:
    scene = stage(4, 4)
    program = at_work(scene, 1)
    scene.net.pull_cable(4)
    scene.nodes["node3"].kill()
    program.until_it_sees({"node1": 2, "node2": 2})
    scene.net.plug_cable(4)
    program.until_it_sees(scene.all_see_all("node3"))
    program.is_exactly_right()
