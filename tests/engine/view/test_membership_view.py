"""Views are joined: any order, any number of times, and all agree; lifelines hold every mesh together."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.view.membership_view import TOMBSTONE_SECONDS, MembershipView, newer
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member, PeerState, Role


def member(number: int, incarnation: int = 0, state: PeerState = PeerState.ALIVE) -> Member:
    name = f"n{number}"
    return Member(number.to_bytes(16, "big"), name, "host", Role.PLAIN, [], incarnation, state)


def view(me: int = 0) -> MembershipView:
    return MembershipView(member(me))


records = st.builds(member, st.integers(1, 6), st.integers(0, 3), st.sampled_from(list(PeerState)))


def facts(of: MembershipView) -> list[tuple[PeerId, int, PeerState]]:
    return sorted((m.id, m.incarnation, m.state) for m in of.members.values())


@given(st.lists(records), st.randoms(use_true_random=False))
def test_joins_commute(said: list[Member], rng: Random) -> None:
    one, other = view(), view()
    for record in said:
        one.join(record, 0.0)
    shuffled = said[:]
    rng.shuffle(shuffled)
    for record in shuffled:
        other.join(record, 0.0)
    assert facts(one) == facts(other)
    assert one.digest == other.digest


@given(st.lists(records), st.lists(records))
def test_joins_associate_and_repeat(left: list[Member], right: list[Member]) -> None:
    """Merging a merged view is merging all the records in it."""
    theirs = view(9)
    for record in right:
        theirs.join(record, 0.0)
    by_way_of_them, directly = view(), view()
    for record in left:
        by_way_of_them.join(record, 0.0)
        directly.join(record, 0.0)
    for record in theirs.members.values():
        by_way_of_them.join(record, 0.0)
    for record in [theirs.me, *right, *right, *left]:
        directly.join(record, 0.0)
    assert facts(by_way_of_them) == facts(directly)
    assert by_way_of_them.digest == directly.digest
    assert not any(directly.join(record, 1.0) for record in [*left, *right])


@given(st.lists(records), st.lists(records))
def test_equal_digests_mean_equal_views(left: list[Member], right: list[Member]) -> None:
    one, other = view(), view()
    for record in left:
        one.join(record, 0.0)
    for record in right:
        other.join(record, 0.0)
    assert (one.digest == other.digest) == (facts(one) == facts(other))


@pytest.mark.parametrize(
    ("one", "other", "holds"),
    [
        ((0, PeerState.ALIVE), (0, PeerState.ALIVE), False),
        ((1, PeerState.ALIVE), (0, PeerState.DEAD), True),  # a refutation
        ((0, PeerState.DEAD), (1, PeerState.ALIVE), False),  # an outdated verdict
        ((0, PeerState.SUSPECT), (0, PeerState.ALIVE), True),
        ((0, PeerState.DEAD), (0, PeerState.SUSPECT), True),
        ((0, PeerState.LEFT), (0, PeerState.DEAD), True),
    ],
)
def test_which_record_holds(
    one: tuple[int, PeerState], other: tuple[int, PeerState], holds: bool
) -> None:
    assert newer(member(1, *one), member(1, *other)) is holds


def test_clients_are_not_members() -> None:
    client = Member(b"c" * 16, "client", "host", Role.CLIENT, [], 0)
    known = view()
    assert not known.join(client, 0.0)
    assert MembershipView(client).members == {}
    assert MembershipView(client).lifelines(6) == []


@pytest.mark.parametrize(
    ("accused_of", "mine", "answer"),
    [
        ((0, PeerState.SUSPECT), 0, 1),
        ((0, PeerState.DEAD), 0, 1),
        ((7, PeerState.DEAD), 0, 8),
        ((2, PeerState.DEAD), 3, None),  # refuted before
        ((0, PeerState.ALIVE), 0, None),  # no accusation
    ],
)
def test_refuting(accused_of: tuple[int, PeerState], mine: int, answer: int | None) -> None:
    known = MembershipView(member(0, mine))
    refuted = known.refute(member(0, *accused_of))
    assert (None if refuted is None else refuted.incarnation) == answer
    assert known.me.state is PeerState.ALIVE
    assert known.members[known.me.id] == known.me


def test_a_verdict_is_recorded_once() -> None:
    known = view()
    known.join(member(1), 0.0)
    verdict = known.judge(member(1).id, PeerState.DEAD, 0.0)
    assert verdict is not None
    assert verdict.state is PeerState.DEAD
    assert not known.is_alive(member(1).id)
    assert known.judge(member(1).id, PeerState.DEAD, 0.0) is None
    assert known.judge(member(1).id, PeerState.SUSPECT, 0.0) is None
    assert known.judge(member(5).id, PeerState.DEAD, 0.0) is None  # unknown


def test_the_dead_are_forgotten_in_time_and_a_rumour_does_not_wake_them() -> None:
    known, before = view(), view()
    known.join(member(1), 0.0)
    known.judge(member(1).id, PeerState.DEAD, 0.0)
    known.join(member(1), 10.0)
    assert not known.is_alive(member(1).id)
    known.bury(TOMBSTONE_SECONDS)
    assert member(1).id in known.members
    known.bury(TOMBSTONE_SECONDS + 0.1)
    assert member(1).id not in known.members
    assert known.digest == before.digest


# ---------------------------------------------------------------- lifelines


def reached(edges: dict[PeerId, list[PeerId]]) -> set[PeerId]:
    """All nodes on a way from the first one."""
    first = next(iter(edges))
    seen, front = {first}, [first]
    while front:
        for to in edges[front.pop()]:
            if to not in seen:
                seen.add(to)
                front.append(to)
    return seen


def strongly_connected(edges: dict[PeerId, list[PeerId]]) -> bool:
    backwards: dict[PeerId, list[PeerId]] = {peer: [] for peer in edges}
    for peer, targets in edges.items():
        for to in targets:
            backwards[to].append(peer)
    return reached(edges) == reached(backwards) == set(edges)


def lifelines_of_all(members: list[Member], degree: int) -> dict[PeerId, list[PeerId]]:
    edges = {}
    shared = MembershipView(members[0])
    for record in members:
        shared.join(record, 0.0)
    for record in members:
        shared.me = record
        edges[record.id] = shared.lifelines(degree)
    return edges


@pytest.mark.parametrize("degree", [1, 2, 6])
def test_lifelines_connect_every_mesh_from_1_to_200(degree: int) -> None:
    for count in range(1, 201):
        edges = lifelines_of_all([member(n) for n in range(1, count + 1)], degree)
        assert strongly_connected(edges), count
        for peer, targets in edges.items():
            assert len(targets) <= degree
            assert len(set(targets)) == len(targets)
            assert peer not in targets


@pytest.mark.parametrize("seed", range(20))
def test_lifelines_connect_the_nodes_that_are_left(seed: int) -> None:
    rng = Random(seed)
    members = [member(rng.getrandbits(64)) for _ in range(rng.randint(2, 200))]
    shared = MembershipView(members[0])
    for record in members:
        shared.join(record, 0.0)
    for gone in rng.sample(members, rng.randint(1, len(members) - 1)):
        shared.judge(gone.id, rng.choice([PeerState.DEAD, PeerState.LEFT]), 0.0)
        left = [m for m in shared.members.values() if shared.is_alive(m.id)]
        edges = {}
        for record in left:
            shared.me = record
            edges[record.id] = shared.lifelines(6)
        if len(left) < 30 or rng.random() < 0.1:
            assert strongly_connected(edges), f"{len(left)} of {len(members)} are left"


def test_a_node_that_is_held_for_dead_has_no_lifelines() -> None:
    known = view()
    known.join(member(1), 0.0)
    known.join(member(0, 0, PeerState.DEAD), 0.0)
    assert known.lifelines(6) == []
