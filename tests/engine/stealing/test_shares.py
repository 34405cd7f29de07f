"""How much a victim gives, of work of every cost."""

from __future__ import annotations

import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.holding.explore_bags import ExploreBags
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.stealing.shares import share_of
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Lease

OWNER = b"o" * 16
RANGE = JobSpec(job_id(OWNER, 1), JobKind.MAP, OWNER, "range", b"f", step=1)
EXPLORE = JobSpec(job_id(OWNER, 3), JobKind.EXPLORE, OWNER, "explore", b"f")


def explore(*sizes: int) -> ExploreBags:
    bags = ExploreBags(EXPLORE)
    for number, size in enumerate(sizes, 1):
        bags.receive(Lease(granted_lease(number), 0, size), bytes(size))
    return bags


@pytest.mark.parametrize(
    ("queued", "item_seconds", "sharers", "nodes", "share"),
    [
        (0, 0.01, 1, 2, 0),
        (100, 0.01, 1, 2, 50),
        (101, 0.01, 1, 2, 51),
        (1, 0.01, 1, 2, 1),  # a victim gives its last item: its workers are all busy
        (100, 0.01, 3, 4, 25),
        (100, None, 1, 2, 25),
        (100, None, 1, 64, 1),
        (10, 0.0001, 1, 2, 0),  # not worth the journey
        (20, 0.0001, 1, 2, 10),
    ],
)
def test_shares(
    queued: int, item_seconds: float | None, sharers: int, nodes: int, share: int
) -> None:
    bags = IndexedBags(RANGE)
    bags.cost.seconds_per_item = item_seconds
    bags.receive(Lease(granted_lease(1), 0, queued))
    assert share_of(bags, sharers=sharers, nodes=nodes, config=Config()) == share


def test_what_waits_for_workers_that_are_busy_for_long_is_given_however_little() -> None:
    bags = IndexedBags(RANGE)
    bags.cost.seconds_per_item = 0.0001
    bags.receive(Lease(granted_lease(1), 0, 10))
    assert share_of(bags, sharers=2, nodes=2, config=Config(), busy=True) == 10
    bags.receive(Lease(granted_lease(2), 10, 1010))
    assert share_of(bags, sharers=1, nodes=2, config=Config(), busy=True) == 505


def test_half_of_the_waiting_items_of_an_explore_job() -> None:
    assert share_of(explore(3, 4, 5), sharers=1, nodes=2, config=Config()) == 6
    assert share_of(explore(1), sharers=1, nodes=2, config=Config()) == 1
