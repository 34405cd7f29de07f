"""Observers: the same answer on every node, spread evenly, and stable when supernodes come or go."""

from __future__ import annotations

from random import Random

import pytest

from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.view.observers import (
    LEAF_OBSERVERS,
    OBSERVERS,
    Table,
    supers_wanted,
    table_of,
)


def ids(count: int, seed: int = 1) -> list[bytes]:
    rng = Random(seed)
    return sorted(rng.randbytes(16) for _ in range(count))


@pytest.mark.parametrize(
    ("nodes", "supers"),
    [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (15, 3), (16, 5), (320, 5), (321, 6), (1000, 16), (10_000, 157)],
)  # fmt: skip
def test_how_many_supernodes(nodes: int, supers: int) -> None:
    assert supers_wanted(nodes) == supers


def test_the_homes_are_those_that_rendezvous_names() -> None:
    supers, leaves = ids(20), ids(50, 2)
    table = Table(tuple(supers))
    for leaf in leaves:
        assert list(table.of(leaf)) == ranked(leaf, supers)[:LEAF_OBSERVERS]
    for each in supers:
        others = [other for other in supers if other != each]
        assert list(table.of(each)) == ranked(each, others)[:OBSERVERS]


@pytest.mark.parametrize("seed", range(20))
def test_a_derived_table_says_what_a_new_one_would(seed: int) -> None:
    rng = Random(seed)
    supers, leaves = ids(rng.randint(1, 30), seed), ids(60, seed + 100)
    spare = ids(20, seed + 200)
    before = Table(tuple(supers))
    for _ in range(6):
        for peer in [*leaves, *supers]:
            before.of(peer)
        gone = set(rng.sample(supers, rng.randint(0, min(3, len(supers) - 1))))
        come = rng.sample(spare, rng.randint(0, 2))
        supers = sorted({*(each for each in supers if each not in gone), *come})
        after, fresh = Table(tuple(supers), before), Table(tuple(supers))
        for peer in [*leaves, *supers]:
            assert sorted(after.of(peer)) == sorted(fresh.of(peer))
        before = after


def test_a_new_supernode_concerns_few() -> None:
    supers, leaves = ids(30), ids(300, 2)
    before, after = Table(tuple(supers)), Table(tuple(sorted([*supers, b"x" * 16])))
    moved = sum(set(before.of(leaf)) != set(after.of(leaf)) for leaf in leaves)
    assert 10 <= moved <= 60  # three in thirty-one on average


def test_the_load_is_spread() -> None:
    supers, leaves = ids(16), ids(1000, 2)
    table = table_of(supers)
    loads = dict.fromkeys(supers, 0)
    for leaf in leaves:
        for home in table.of(leaf):
            loads[home] += 1
    assert sum(loads.values()) == 3000
    assert max(loads.values()) < 1.4 * 3000 / 16
