"""The workloads give the answers that the literature gives: only then can they judge a mesh."""

from __future__ import annotations

import math
import operator
import pickle
from functools import reduce
from hashlib import sha1
from itertools import pairwise
from random import Random

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stealmesh.examples import primes, uts
from stealmesh.examples.uts import SMALL, TREES, Counts, Item, Partial, Tree
from stealmesh_bench.workloads import noop, sleeps, spin

# ---------------------------------------------------------------- trees: the published counts


@pytest.mark.parametrize("name", SMALL)
def test_a_small_tree_has_its_counts(name: str) -> None:
    assert uts.search(SMALL[name]) == SMALL[name].expected


@pytest.mark.parametrize("name", ["T1", "T3"])
def test_a_published_tree_has_its_counts(name: str) -> None:
    assert uts.search(TREES[name]) == TREES[name].expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["T2", "T4", "T5", "P3D-T1", "T1-d11"])
def test_a_further_published_tree_has_its_counts(name: str) -> None:
    assert uts.search(TREES[name]) == TREES[name].expected


@pytest.mark.parametrize(
    ("name", "state", "children"),
    [
        ("T1", "c6988ab70cc9559ae4d6cba254e29a845a85f86b", 5),
        ("T5", "dc17227f8924044a827dea5fbb982ded4d106317", 4),
        ("T2", "22619b342b979fa6cb89ae034b414cd6f66d0624", 16),
        ("T3", "a11dabbcec7aab309c890ab3dbc256eaeb582782", 2000),
        ("T4", "9a8f128265e48cf2cb691b4cefccc0556d9cbd3a", 12),
        ("T1L", "16598509542aefc5664b573a1f1c17706e38f4b1", 8),
        ("T2L", "24cb8f73278b299d21a1bf34422dfb7d462fb2d8", 5),
        ("T3L", "357605f3d86a9e6f2019e530a7d36f107e6cffd6", 2000),
        ("T3XXL", "58eaa4bda003330e7f8c5c972464f40124a9769f", 2000),
    ],
)
def test_a_root_has_its_state_and_children(name: str, state: str, children: int) -> None:
    assert uts.root(TREES[name]) == (bytes.fromhex(state), children, 0)


# ---------------------------------------------------------------- trees: the definition


def children_by_definition(tree: Tree, state: bytes, depth: int) -> int:
    """UTS's definition, written down once more, slowly and with logarithms."""
    u = (int.from_bytes(state[16:], "big") & 0x7FFFFFFF) / 2147483648.0
    if tree.kind == "binomial" and depth == 0:
        return math.floor(tree.b)
    if tree.kind == "binomial" or (tree.kind == "hybrid" and depth >= tree.f * tree.d):
        return tree.m if u < tree.q else 0
    target = tree.b
    if depth > 0 and tree.shape == "linear":
        target = tree.b * (1.0 - depth / tree.d)
    elif depth > 0 and tree.shape == "expdec":
        target = tree.b * math.pow(depth, -math.log(tree.b) / math.log(tree.d))
    elif depth > 0 and tree.shape == "cyclic":
        angle = 2.0 * 3.141592653589793 * depth / tree.d
        target = 0.0 if depth > 5 * tree.d else math.pow(tree.b, math.sin(angle))
    elif depth > 0:
        target = tree.b if depth < tree.d else 0.0
    p = 1.0 / (1.0 + target)
    if p >= 1.0:
        return 0
    return min(100, math.floor(math.log(1.0 - u) / math.log(1.0 - p)))


def search_by_definition(tree: Tree, nodes_max: int) -> Counts | None:
    stack = [(sha1(bytes(16) + tree.r.to_bytes(4, "big")).digest(), 0)]
    nodes = leaves = deepest = 0
    while stack:
        state, depth = stack.pop()
        nodes += 1
        if nodes > nodes_max:
            return None
        deepest = max(deepest, depth)
        children = children_by_definition(tree, state, depth)
        leaves += not children
        stack += [(sha1(state + i.to_bytes(4, "big")).digest(), depth + 1) for i in range(children)]
    return Counts(nodes, leaves, deepest)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    m = draw(st.integers(1, 9))
    return Tree(
        kind=draw(st.sampled_from(["binomial", "geometric", "hybrid"])),
        shape=draw(st.sampled_from(["linear", "expdec", "cyclic", "fixed"])),
        r=draw(st.integers(0, 2**31 - 1)),
        b=draw(st.sampled_from([1.5, 2.0, 3.0, 4.0, 7.0])),
        d=draw(st.integers(2, 6)),
        q=draw(st.floats(0.0, 1.0)) * 0.95 / m,
        m=m,
        f=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )


@given(trees())
@settings(max_examples=150)
def test_any_tree_is_what_the_definition_says(tree: Tree) -> None:
    by_definition = search_by_definition(tree, nodes_max=5_000)
    if by_definition is not None:
        assert uts.search(tree) == by_definition


@pytest.mark.parametrize("name", ["T1", "T2", "T3", "T4", "T5"])
def test_the_steps_are_where_the_logarithm_steps(name: str) -> None:
    """At each border of the integer tables, and beside it, with and without the ignored bit."""
    tree = TREES[name]
    for depth in (1, 2, 5, 15):
        table, steps, counts = uts._laws(tree)[depth]
        for step in [*steps, b"\0\0\0\1", b"\xff\xff\xff\xff"]:
            for beside in (-1, 0, 1):
                at = (int.from_bytes(step, "big") + beside) % (1 << 32)
                state = bytes(16) + at.to_bytes(4, "big")
                told = 0 if table is None else table[state[16]]
                if told == uts.OPEN:
                    told = counts[sum(s <= state[16:] for s in steps)]
                assert told == children_by_definition(tree, state, depth), (depth, at)


# ---------------------------------------------------------------- trees: in parts


def in_parts(tree: Tree, random: Random, limit_max: int) -> tuple[Partial, int]:
    """What a mesh does to a search: visits of any length, bags cut anywhere, in any order."""
    visit = uts.visitor(tree)
    bags: list[list[Item]] = [[uts.root(tree)]]
    partials = []
    while bags:
        bag = bags.pop(random.randrange(len(bags)))
        before = list(bag)
        partial, rest = visit(bag, random.randint(1, limit_max))
        assert bag == before
        assert partial[0], "a visit that does not get on"
        partials.append(partial)
        cut = random.randint(0, len(rest))
        bags += [part for part in (rest[:cut], rest[cut:]) if part]
    random.shuffle(partials)
    return reduce(uts.combine_counts, partials), len(partials)


@pytest.mark.parametrize(
    ("name", "limit_max"),
    [(name, 50) for name in ("T1-d3", "T1-d5", "T3-b20", "T3-b100", "T5-d10")]
    + [(name, 2_000) for name in ("T1-d7", "T2-d8", "T4-d8", "T5-d12", "T3-b50")]
    + [("T3-b200", 60_000)],
)
def test_the_parts_of_a_search_add_up(name: str, limit_max: int) -> None:
    for seed in range(3):
        counts, visits = in_parts(SMALL[name], Random(seed), limit_max)
        assert counts == SMALL[name].expected
        assert visits > 3


@given(trees(), st.randoms(use_true_random=False), st.integers(1, 300))
@settings(max_examples=60)
def test_the_parts_of_any_search_add_up(tree: Tree, random: Random, limit_max: int) -> None:
    by_definition = search_by_definition(tree, nodes_max=2_000)
    if by_definition is not None:
        assert in_parts(tree, random, limit_max)[0] == by_definition


def test_a_root_without_children_is_a_leaf() -> None:
    barren = Tree("geometric", b=4, shape="fixed", d=5, r=2)
    assert uts.root(barren)[1] == 0, "choose another seed"
    assert uts.search(barren) == (1, 1, 0)
    assert in_parts(barren, Random(0), 10)[0] == (1, 1, 0)


@pytest.mark.parametrize("name", ["T1", "T3", "T4"])
def test_a_visit_keeps_to_its_limit(name: str) -> None:
    """Counted by the digests that are made, which is what takes the time."""
    tree = TREES[name]
    bag: list[Item] = [uts.root(tree)]
    _, bag = uts.visitor(tree)(bag, 5_000)
    for limit in (100, 101, 999, 20_000):
        (visited, _, _), rest = uts.visitor(tree)(bag, limit)
        made = visited + len(rest) - len(bag)
        assert limit - 100 <= made <= limit
        bag = rest


@pytest.mark.parametrize("limit", [0, 1])
def test_a_visit_gets_on_however_low_its_limit(limit: int) -> None:
    bag: list[Item] = [uts.root(SMALL["T1-d3"])]
    visited = 0
    for _ in range(SMALL["T1-d3"].expected.nodes if SMALL["T1-d3"].expected else 0):
        (nodes, _, _), bag = uts.visitor(SMALL["T1-d3"])(bag, limit)
        assert nodes
        visited += nodes
        if not bag:
            break
    assert (visited, bag) == (254, [])


@pytest.mark.parametrize("name", ["T1-d5", "T2-d8", "T3-b20", "T4-d8"])
def test_a_visitor_and_its_bag_travel(name: str) -> None:
    tree = SMALL[name]
    bag: list[Item] = [uts.root(tree)]
    total: Partial = (0, 0, 0)
    visit = uts.visitor(tree)
    while bag:
        visit = cloudpickle.loads(cloudpickle.dumps(visit))
        partial, bag = visit(pickle.loads(pickle.dumps(bag)), 1_000)
        total = uts.combine_counts(total, partial)
    assert total == tree.expected


# ---------------------------------------------------------------- primes


@pytest.mark.parametrize("power", range(8))
def test_pi_of_a_power_of_ten(power: int) -> None:
    assert primes.count_primes(range(10**power + 1)) == primes.PI[10**power]


def test_pi_item_by_item() -> None:
    assert sum(map(primes.is_prime, range(10**5 + 1))) == primes.PI[10**5]


@given(st.integers(-5, 10**6), st.integers(0, 3_000), st.sampled_from([1, -1, 2, 3, -7]))
def test_a_range_has_the_primes_of_its_items(start: int, length: int, step: int) -> None:
    numbers = range(start, start + length * step, step)
    assert primes.count_primes(numbers) == sum(map(primes.is_prime, numbers))


@given(st.lists(st.integers(0, 3 * 10**6), max_size=6))
@settings(max_examples=20)
def test_pi_in_parts_adds_up(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 3 * 10**6]
    parts = [range(lo, hi) for lo, hi in pairwise(edges)]
    assert reduce(operator.add, map(primes.count_primes, parts)) == 216_816


def test_primes_far_out() -> None:
    near = range(10**12, 10**12 + 1_000)
    assert primes.count_primes(near) == sum(map(primes.is_prime, near)) > 0


# ---------------------------------------------------------------- the rest


def test_noop_and_increment() -> None:
    assert noop.noop() is None  # type: ignore[func-returns-value]
    assert noop.increment(41) == 42


def test_spin_never_ends_early() -> None:
    assert spin.spin(0.002) >= 0.002
    assert spin.spin(0.0) >= 0.0


def test_sleeps_depend_on_the_index_alone() -> None:
    milliseconds = [1000 * sleeps.sleep_seconds(index) for index in (0, 1, 2, 10**9)]
    assert milliseconds == pytest.approx([5.990657, 1.601066, 1.022576, 1.853014])


def test_sleeps_are_skewed() -> None:
    seconds = sorted(map(sleeps.sleep_seconds, range(10_000)))
    assert seconds[0] >= sleeps.SCALE_SECONDS
    assert seconds[-1] == sleeps.SECONDS_MAX
    assert seconds[5_000] < 2 * sleeps.SCALE_SECONDS
    assert sum(seconds[-1_000:]) > sum(seconds) / 3
    assert sleeps.total_seconds(range(10_000)) == pytest.approx(sum(seconds))


def test_a_sleep_tells_its_length() -> None:
    shortest = min(range(100), key=sleeps.sleep_seconds)
    assert sleeps.skewed_sleep(shortest) == sleeps.sleep_seconds(shortest)
