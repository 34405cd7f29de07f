"""Lanes and rounds: how much of a job may be leased now."""

from __future__ import annotations

import pytest

from stealmesh_engine.ledger.dealing import (
    LANE_ITEMS_MAX,
    OUTLIVES_SECONDS,
    Lanes,
    Priorities,
    Round,
)
from stealmesh_engine.ledger.requirements import has_resources, nobody_has, suits
from stealmesh_protocol.ids import digest_of, job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Lease, Member, Part, Resources, Role

ADA, BOB = b"a" * 16, b"b" * 16


def part(lid: int, lo: int, hi: int, seconds: float) -> Part:
    return Part(lid, lo, hi, 0, seconds)


def spec(resources: Resources, runtime: str = "") -> JobSpec:
    return JobSpec(
        job_id(ADA, 1), JobKind.MAP, ADA, "f", digest_of(b""), runtime=runtime, resources=resources
    )


def node(name: str, resources: Resources = (), runtime: str = "") -> Member:
    return Member(
        name.encode() * 8,
        name,
        "h",
        Role.PLAIN,
        [],
        1,
        workers=1,
        runtime=runtime,
        resources=resources,
    )


# ---------------------------------------------------------------- lanes


def test_there_are_as_many_lanes_as_items_may_run_at_once() -> None:
    lanes = Lanes(2)
    assert lanes.has_room([])
    assert lanes.has_room([7])
    assert not lanes.has_room([7, 8])


def test_a_lane_is_one_item_until_the_cost_is_known_and_then_fifty_milliseconds() -> None:
    lanes = Lanes(2)
    assert lanes.items(1000) == 1
    lanes.reported(BOB, [part(1, 0, 1, 0.001)])
    assert lanes.items(1000) == 50
    lanes.reported(BOB, [part(1, 1, 2, 0.0)] * 100)
    assert lanes.items(1 << 40) == LANE_ITEMS_MAX
    lanes.reported(BOB, [part(1, 2, 3, 1.0)])  # one dear item, and nothing travels behind another
    assert lanes.items(1000) == 1


def test_the_last_lanes_end_together() -> None:
    lanes = Lanes(4)
    lanes.reported(BOB, [part(1, 0, 1, 0.001)])
    assert lanes.items(20) == 5
    assert lanes.items(3) == 1


def test_what_was_cancelled_takes_up_its_lane_until_its_holder_has_let_go_of_all_of_it() -> None:
    lanes = Lanes(1)
    lanes.linger(BOB, 7, [(0, 4)], until=15.0)
    assert not lanes.has_room([])
    lanes.reported(BOB, [part(7, 0, 2, 0.1)])
    assert not lanes.has_room([])
    lanes.reported(ADA, [part(7, 2, 4, 0.1)])  # not its holder
    assert not lanes.has_room([])
    assert lanes.returned(BOB, [Lease(7, 2, 4)], []) == []
    assert lanes.has_room([])


def test_a_lease_of_which_some_was_cancelled_counts_once() -> None:
    lanes = Lanes(2)
    lanes.linger(BOB, 7, [(0, 4)], until=15.0)
    assert lanes.has_room([7])
    assert not lanes.has_room([7, 8])
    # What is open of it is still the ledger's business.
    assert lanes.returned(BOB, [Lease(7, 4, 6)], [7]) == [Lease(7, 4, 6)]


def test_a_dead_holder_and_one_that_says_nothing_for_too_long_give_up_their_lanes() -> None:
    lanes = Lanes(2)
    lanes.linger(BOB, 7, [(0, 4)], until=15.0)
    lanes.linger(ADA, 8, [(4, 8)], until=15.0)
    lanes.named(ADA, [8, 9], until=20.0)
    assert not lanes.expire(14.9)
    assert lanes.expire(16.0)
    assert not lanes.expire(16.0)
    assert lanes.expire(20.0)
    assert lanes.has_room([1])


def test_the_lanes_of_a_node_that_is_gone_stay_empty_for_a_moment() -> None:
    """Its workers may outlive it: what they run still counts."""
    lanes = Lanes(2)
    lanes.linger(BOB, 7, [(0, 4)], until=15.0)
    lanes.gone(BOB, [8], now=1.0)
    assert not lanes.has_room([])
    assert not lanes.expire(1.0 + OUTLIVES_SECONDS / 2)
    assert lanes.expire(1.0 + OUTLIVES_SECONDS)
    assert lanes.has_room([1])


# ---------------------------------------------------------------- rounds


def test_an_urgent_job_has_two_leases_a_node_each_a_share_of_the_rest() -> None:
    turn = Round(nodes=4)
    assert turn.items(100) == 13
    assert turn.items(1) == 1
    assert turn.has_room(range(7))
    assert not turn.has_room(range(8))


@pytest.mark.parametrize(
    ("jobs", "urgent"),
    [([0, 0], []), ([5], [5]), ([-1], []), ([-1, 0], [0]), ([0, -1], [0]), ([3, 5], [3, 5])],
)
def test_which_jobs_are_urgent(jobs: list[int], urgent: list[int]) -> None:
    """Priority 0 is what other owners' work has; below it one must be seen."""
    priorities = Priorities()
    for each in jobs:
        priorities.opened(each)
    assert [each for each in sorted(set(jobs)) if priorities.is_urgent(each)] == urgent
    assert priorities.differ is bool(urgent)
    for each in jobs:
        priorities.closed(each)
    assert not priorities.differ


# ---------------------------------------------------------------- what a node must have


def test_a_node_must_have_enough_of_each() -> None:
    wants = spec((("GPU", 2), ("licence", 1)))
    assert has_resources(wants, (("GPU", 2), ("licence", 1)))
    assert not has_resources(wants, (("GPU", 1), ("licence", 1)))
    assert not has_resources(wants, (("GPU", 2),))
    assert suits(spec(()), node("n"))
    assert not suits(spec((), "y"), node("n", (), "x"))


def test_the_error_names_those_first_that_have_something_and_not_a_thousand_others() -> None:
    nodes = [node(f"n{number:03}") for number in range(100)] + [node("z", (("GPU", 1),))]
    text = nobody_has(spec((("GPU", 2),)), nodes)
    assert text.startswith("an item of f takes GPU=2; z has GPU=1; n000 has no resources; n001")
    assert text.endswith("93 more nodes have too little as well")
