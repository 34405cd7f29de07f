"""Where work goes that needs values: one sum of the octets to move and of what waits, for owners and victims.

Each story is told in a virtual mesh whose lines have a speed, and each rule has a mutant that a story notices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stealmesh_engine.data.copies_elsewhere import CopiesElsewhere
from stealmesh_engine.data.directory import Moves
from stealmesh_engine.data.journeys import Journeys
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.stealing.loot import Loot
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.pipelines import VirtualPipeline
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw

from .scenes import SEED_ADDRESS, Scene, scene

LARGE = 5_000_000
SLOW_LINE = 10e6
"""A large value travels half a second."""
SHORT, LONG = CostLaw("const", 0.02), CostLaw("const", 2.0)


def on_slow_lines(nodes: int, **more: Any) -> Scene:
    told = scene(nodes, **more)
    told.world.network.latency.octets_a_second = SLOW_LINE
    return told


def measured(told: Scene) -> None:
    """Everybody knows how fast the lines are."""
    for process in (told.client, *told.nodes):
        for _ in range(20):
            process.core.values.journeys.took(process.member.id, LARGE, LARGE / SLOW_LINE)


def pipeline(told: Scene, lines: int, law: CostLaw, last_law: CostLaw) -> VirtualPipeline:
    return VirtualPipeline(
        told.world, told.client, lines, stages=2, octets=LARGE, law=law, last_law=last_law
    )


def sent(told: Scene) -> float:
    """Values that nodes have sent to each other."""
    return sum(node.shelf.sent for node in told.nodes) / LARGE


def short_items_stay_with_their_values() -> None:
    """24 results on four nodes, and a short call of each: hardly one travels."""
    told = on_slow_lines(4)
    measured(told)
    run = pipeline(told, 24, SHORT, SHORT)
    told.until(lambda: run.done)
    assert sent(told) <= 2


def values_go_where_the_line_is_fast() -> None:
    """Two of four nodes have lines a tenth as fast. Once that is measured, what needs a new value goes elsewhere."""
    told = on_slow_lines(4)
    lines = told.world.network.latency.lines
    for name in ("n2", "n3"):
        lines |= {(source, name): SLOW_LINE / 10 for source in ("client", "n0", "n1", "n2", "n3")}
    for _ in range(2):
        before = [node.items for node in told.nodes]
        programs = [told.submit(needing_one(told, 1, CostLaw("const", 0.3))) for _ in range(8)]
        told.until(lambda all_of=programs: all(each.done for each in all_of), within=60.0)  # type: ignore[misc]
    ran = [node.items - once for node, once in zip(told.nodes, before, strict=True)]
    assert sum(ran[2:]) == 0, ran


def needing_one(told: Scene, items: int, law: CostLaw, octets: int = LARGE) -> Wish:
    """Items that all need the same value of the program's."""
    return Wish(
        JobKind.SUBMIT, items, law, told.world.now, block_items=1, values=1, value_octets=octets
    )


def laden(told: Scene, lines: int, law: CostLaw) -> VirtualPipeline:
    """A node has made values and has all calls of them when another one joins that has nothing to do."""
    run = pipeline(told, lines, CostLaw("const", 0.001), law)
    told.until(lambda: len(run.results_of(0)) == lines)
    told.nodes.append(told.world.node("n1", seeds=[SEED_ADDRESS], workers=2))
    return run


def nothing_moves_that_travels_longer_than_it_waits() -> None:
    """Twenty-four items are three seconds for two workers. Half of them would travel six."""
    told = on_slow_lines(1)
    measured(told)
    run = laden(told, 24, CostLaw("const", 0.25))
    told.until(lambda: run.done, within=5.0)
    assert told.nodes[1].items == 0


def long_work_moves_with_its_values() -> None:
    """Sixteen calls of two seconds are 16 s on two workers."""
    told = on_slow_lines(1)
    measured(told)
    run = laden(told, 16, LONG)
    told.until(lambda: run.done, within=20.0)
    assert told.nodes[1].items > 3


def nothing_waits_for_ever_at_a_stuck_node() -> None:
    """Both workers are at something that never ends: what is behind them leaves, dear as it is."""
    told = on_slow_lines(1)
    measured(told)
    run = pipeline(told, 24, CostLaw("const", 0.001), SHORT)
    told.until(lambda: len(run.results_of(1)) >= 4)
    told.map(2, endless=frozenset({0, 1}), priority=5)
    told.nodes.append(told.world.node("n1", seeds=[SEED_ADDRESS], workers=2))
    told.until(lambda: len(run.results_of(1)) == 24, within=60.0)
    assert told.nodes[1].items > 10


def one_value_is_paid_for_once() -> None:
    """All items need the same value. The thief that has fetched it gets shares, and gives some, for nothing."""
    told = scene(1)
    program = told.submit(needing_one(told, 120, CostLaw("const", 0.1), 3 * LARGE))
    told.until(lambda: bool(told.nodes[0].items))
    measured(told)
    told.world.network.latency.octets_a_second = SLOW_LINE
    told.nodes.append(told.world.node("n1", seeds=[SEED_ADDRESS], workers=2))
    first, second = told.nodes
    told.until(lambda: bool(second.items))
    assert is_too_dear(told, first, b"a stranger's id!", program.job)
    assert not is_too_dear(told, first, second.member.id, program.job)
    assert not is_too_dear(told, second, first.member.id, program.job)
    told.until(lambda: program.done)
    assert sent(told) <= 3


def is_too_dear(told: Scene, victim: Process, thief: PeerId, job: JobId) -> bool:
    """Would it be, if the thief took a single item?"""
    core = victim.core
    return core.victim.loot.is_too_dear(core.holder.jobs[job], thief, 1, told.world.now)


STORIES: dict[str, Callable[[], None]] = {
    told.__name__: told
    for told in (
        short_items_stay_with_their_values,
        values_go_where_the_line_is_fast,
        nothing_moves_that_travels_longer_than_it_waits,
        long_work_moves_with_its_values,
        nothing_waits_for_ever_at_a_stuck_node,
        one_value_is_paid_for_once,
    )
}


@pytest.mark.parametrize("story", STORIES)
def test_it_is_so(story: str) -> None:
    STORIES[story]()


MUTANTS: dict[str, tuple[type, str, Callable[..., Any], str]] = {
    "journeys cost nothing": (
        Moves, "seconds", lambda self, peer: 0.0, "short_items_stay_with_their_values",
    ),
    "no line is measured": (
        Journeys, "took", lambda self, peer, octets, seconds: None, "values_go_where_the_line_is_fast",
    ),
    "loot costs nothing": (
        Loot, "is_too_dear", lambda self, held, thief, items, now: False,
        "nothing_moves_that_travels_longer_than_it_waits",
    ),
    "loot is always too dear": (
        Loot, "is_too_dear", lambda self, held, thief, items, now: True,
        "long_work_moves_with_its_values",
    ),
    "only the queue counts": (
        Slots, "busy_seconds", lambda self, now: 0.0, "nothing_waits_for_ever_at_a_stuck_node",
    ),
    "what others have is forgotten": (
        CopiesElsewhere, "is_also_at", lambda self, value, peer: False, "one_value_is_paid_for_once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_rule_it_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, method, instead, story = MUTANTS[name]
    monkeypatch.setattr(where, method, instead)
    with pytest.raises(AssertionError):
        STORIES[story]()
