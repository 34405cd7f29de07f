"""Items that wait for lost results, in jobs with a bound on their leases: these go to the calls that make them again.

World 20601: a job with `max_parallel` whose results stay on the nodes. Calls that waited for lost results had all
of its lanes, and the calls that make these again got none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.ledger.lacking import LOOK_AGAIN_SECONDS, Lacking
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.placement import Placement
from stealmesh_engine.ledger.why import Why
from stealmesh_engine.ledger.why_owned import why_item
from stealmesh_sim.graphs import GraphProgram
from stealmesh_sim.work import CostLaw

from .scenes import Scene, must_notice, scene
from .test_graphs import counted, finish, graph

MAKERS = 9
WAITERS = 12
LARGE = 5_000_000
"""Such a value travels for long enough to lose a node in between."""
BOUNDED: list[dict[str, Any]] = [{"max_parallel": 2}, {"priority": 5}]


def all_lanes_wait(bound: dict[str, Any]) -> tuple[Scene, GraphProgram]:
    """Each of the last calls needs the results of all first ones. A node dies that has some of these, while others
    fetch them."""
    told = scene(3, workers=2)
    if "priority" in bound:
        told.map(
            400, law=CostLaw("const", 0.05)
        )  # less urgent: so the graph is leased out in rounds
    inputs: list[list[int]] = [[] for _ in range(MAKERS)] + [
        list(range(MAKERS)) for _ in range(WAITERS)
    ]
    program = graph(told, inputs, seconds=0.05, stays={0: LARGE}, **bound)
    told.until(lambda: bool(victims(told, program)))
    told.world.crash(victims(told, program)[0])
    return told, program


def account(told: Scene, program: GraphProgram) -> IndexedJob:
    job = told.client.core.owner.job(program.streams[0].job, IndexedJob)
    assert job is not None
    return job


def victims(told: Scene, program: GraphProgram) -> list[Any]:
    """Nodes whose death makes all leases of the others wait."""
    job = told.client.core.owner.job(program.streams[0].job, IndexedJob)
    if job is None or job.ledger.credited.size < MAKERS:
        return []
    accounts = told.client.core.values.directory.accounts.values()
    only = {next(iter(each.copies)) for each in accounts if len(each.copies) == 1}
    fetching = [node for node in told.nodes if node.core.values.copies.fetches]
    return [
        node
        for node in told.nodes
        if node.member.id in only and any(other is not node for other in fetching)
    ]


def running(told: Scene) -> list[int]:
    """What the nodes' workers have of the calls that waited."""
    chunks = [
        chunk for node in told.nodes if node.alive for chunk in node.core.holder.slots.running()
    ]
    return [chunk.lo for chunk in chunks if chunk.lo >= MAKERS]


@pytest.mark.parametrize("bound", BOUNDED, ids=lambda bound: next(iter(bound)))
def test_what_waits_for_lost_results_gives_up_its_lease(bound: dict[str, Any]) -> None:
    told, _ = all_lanes_wait(bound)
    finish(told)
    assert told.client.core.owner.placement.lacking.is_empty
    assert counted(told, "values-made-again") > 0


@pytest.mark.parametrize("bound", BOUNDED, ids=lambda bound: next(iter(bound)))
def test_what_waits_for_lost_results_gets_no_lease(
    bound: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that could run would be behind it."""
    say, too_early = Placement.say, []

    def watched(
        self: Placement, job: Any, holder: Any, nonce: int, granted: Any, now: float
    ) -> None:
        if granted[0].lo >= MAKERS and job.ledger.again:
            too_early.append(granted[0])
        say(self, job, holder, nonce, granted, now)

    monkeypatch.setattr(Placement, "say", watched)
    told, _ = all_lanes_wait(bound)
    finish(told)
    assert not too_early


def test_what_waits_for_lost_results_says_so() -> None:
    told, program = all_lanes_wait(BOUNDED[0])
    owner = told.client.core.owner
    told.until(lambda: not owner.placement.lacking.is_empty)
    job = account(told, program)
    item = job.ledger.putting_off().items.first
    (fact,) = why_item(owner, job, item, told.world.now)
    value = owner.placement.lacking.waits_for(job.spec.job, item)
    assert value is not None
    assert fact.why is Why.VALUE_MADE_AGAIN
    assert value.hex() in fact.text
    finish(told)


def test_what_waits_goes_on_at_once() -> None:
    """The clock that looks after what waits is slower."""
    told, _ = all_lanes_wait(BOUNDED[0])
    lacking = told.client.core.owner.placement.lacking
    told.until(lambda: not lacking.is_empty)
    told.until(lambda: lacking.is_empty)
    began = told.world.now
    told.until(lambda: bool(running(told)))
    assert told.world.now - began < LOOK_AGAIN_SECONDS / 2
    finish(told)


def test_a_cancelled_job_leaves_nothing_that_waits() -> None:
    told, program = all_lanes_wait(BOUNDED[0])
    owner, job = told.client.core.owner, program.streams[0].job
    told.until(lambda: not owner.placement.lacking.is_empty)
    owner.abandon(owner.jobs[job], told.world.now, stop=False)
    assert job not in owner.jobs
    assert owner.placement.lacking.is_empty


# ---------------------------------------------------------------- mutants


def nothing_is_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexedBags, "give_lacking", lambda self, values: [])


def nothing_is_held_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lacking, "holds_back", lambda self, job, now: False)


def nobody_says_that_it_is_there(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lacking, "settled", lambda self, value: self._waiting.pop(value, None))


def keeps_what_is_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lacking, "job_over", lambda self, job: None)


@pytest.mark.parametrize(
    ("mutant", "story"),
    [
        (nothing_is_given_back, partial(test_what_waits_for_lost_results_gives_up_its_lease, each))
        for each in BOUNDED
    ]
    + [
        (nothing_is_held_back, test_what_waits_for_lost_results_says_so),
        (nobody_says_that_it_is_there, test_what_waits_goes_on_at_once),
        (keeps_what_is_over, test_a_cancelled_job_leaves_nothing_that_waits),
    ],
)
def test_a_story_notices_when_a_rule_is_missing(
    mutant: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    must_notice(story, mutant, monkeypatch)
