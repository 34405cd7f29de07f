"""What the page says of a large mesh: its sums are the ledger's, and it is bounded."""

from __future__ import annotations

import msgspec
import pytest

from stealmesh.page.frames import NODES_MAX, frame_of
from stealmesh.page.server import json_of
from stealmesh_engine.effects import StatusReady
from stealmesh_engine.events import AskStatus
from stealmesh_engine.status import merge_status
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .scenes import SEED_ADDRESS, Scene


@pytest.mark.parametrize(
    ("nodes", "items"), [(20, 10**4), pytest.param(1000, 10**7, marks=pytest.mark.slow)]
)
def test_the_sums_of_the_page_are_those_of_the_ledger(nodes: int, items: int) -> None:
    world = World(1, audit=False, hashing=False)
    several = [world.node(f"n{at}", seeds=[SEED_ADDRESS] if at else []) for at in range(nodes)]
    told = Scene(world, several, world.client("client", seeds=[SEED_ADDRESS]))
    world.preset_views()
    told.run(0.5)
    eye = world.client("eye", seeds=[SEED_ADDRESS])
    told.run(1.0)
    # One item is stuck, so that the job is there to be looked at.
    law = CostLaw("const", 0.05 * nodes / items)
    program = told.map(items, law=law, endless=frozenset({items // 2}))
    answers: list[StatusReady] = []
    eye.listener = lambda process, effect: (
        answers.append(effect) if isinstance(effect, StatusReady) else None
    )
    ledger = told.owned(program).ledger
    told.until(lambda: ledger.figures().done > items * 0.99, within=60.0)
    told.run(1.0)  # all but what is stuck
    sent = world.network.messages
    eye.hear(AskStatus(1))
    told.until(lambda: bool(answers))
    asked = world.network.messages - sent
    status = merge_status([msgspec.msgpack.decode(each) for each in answers[0].snapshots])
    frame = frame_of(status, 0.0)
    figures = ledger.figures()
    totals = frame["totals"]
    assert (totals["done"], totals["total"]) == (figures.done, items)
    assert (totals["leased"], totals["free"]) == (figures.leased, figures.free)
    assert totals["nodes"] == nodes
    assert totals["busy"] == 1
    assert [each["job"] for each in frame["slow"]] == [program.job.hex()]
    assert len(frame["nodes"]) == min(nodes, NODES_MAX)
    assert len(json_of(frame)) < 200_000
    assert asked < 12 * nodes + 500, "a question and an answer a node, beside the beats"
