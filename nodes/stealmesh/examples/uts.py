"""UTS, the Unbalanced Tree Search: a tree of known size that no program can divide in advance.

A node is a SHA-1 digest. Its last four octets decide how many children it has, and child i is
the digest of (node, i). So the whole tree follows from a seed, and no part of it is known before the
search gets there. Published trees have published counts, which show if a mesh loses, doubles or
invents one node among four billion.

Idea and definition: Olivier, Huan, Liu, Prins, Dinan, Sadayappan, Tseng, "UTS: An Unbalanced
Tree Search Benchmark" (LCPC 2006). Counts agree with its sample trees and with P3D-DFS.

How it is made fast, in pure Python with hashlib:

* The stack holds inner nodes only. A leaf is known as soon as its digest is, and is counted by
  arithmetic: digests made minus nodes pushed.
* How many children a digest has is looked up by one octet in a table of 256. Where an octet
  leaves it open, the four octets are searched among the exact steps. No logarithm, no float,
  no conversion to an integer in the loop.
* Every node's digest is computed, also where the shape makes it a leaf for certain: hashing
  *is* the work that the benchmark defines. There, only the lookup is left out.
* search() and visit() run the same loops; the limit of a visit costs one comparison a family.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import sha1
from typing import Literal, NamedTuple

CHILDREN_MAX = 100
"""The most children of a node; the root of a binomial tree may have more."""

SIGN = 1 << 31
"""The random value is the last four octets without this bit."""


class Counts(NamedTuple):
    """What a search finds. Of two disjoint parts of a tree: see combine_counts."""

    nodes: int
    leaves: int
    depth: int
    """Of the deepest node; the root's is 0."""


Item = tuple[bytes, int, int]
"""An inner node that has not been visited: (digest, number of children, depth).

One item stands for a whole family: leaves never become items, so that a bag stays short
(a few hundred items for millions of nodes), and plain octets and integers pickle fast.
"""

Partial = tuple[int, int, int]
"""Counts as a plain tuple: what travels."""

Visit = Callable[[list[Item], int], tuple[Partial, list[Item]]]


@dataclass(frozen=True, slots=True)
class Tree:
    """The parameters under their letters in UTS's own command line, and the published counts."""

    kind: Literal["binomial", "geometric", "hybrid"]
    """-t: 0, 1, 2."""
    r: int = 0
    """Seed of the root."""
    b: float = 4.0
    """Children of the root (binomial); expected children (geometric, as the shape modifies it)."""
    shape: Literal["linear", "expdec", "cyclic", "fixed"] = "linear"
    """-a: 0, 1, 2, 3: how the expected number of children depends on the depth (geometric)."""
    d: int = 6
    """The depth that the shape refers to."""
    q: float = 15 / 64
    """Probability that a node has children (binomial)."""
    m: int = 4
    """How many it then has (binomial)."""
    f: float = 0.5
    """Share of d in which a hybrid tree is geometric; below, it is binomial."""
    expected: Counts | None = field(default=None, compare=False)


# ---------------------------------------------------------------- the law of a depth

Law = tuple[list[int] | None, list[bytes], list[int]]
"""How digests at one depth become numbers of children: (table, steps, counts).

table[digest[16]] is the number of children, or OPEN where that octet alone does not tell;
then it is counts[bisect_right(steps, digest[16:])]. No table: all nodes there are leaves.
"""

OPEN = -1


def _law(thresholds: Sequence[int], counts: Sequence[int]) -> Law:
    """Values from thresholds[i - 1] up to below thresholds[i] have counts[i] children."""
    # The ignored sign bit is dealt with here, once: the same steps a second time above it.
    steps = [*thresholds, SIGN, *(t | SIGN for t in thresholds)]
    octets = [step.to_bytes(4, "big") for step in steps]
    twice = [*counts, *counts]
    if not any(counts):
        return None, octets, twice
    table = []
    for first in range(256):
        lowest = bisect_right(octets, bytes([first, 0, 0, 0]))
        highest = bisect_right(octets, bytes([first, 255, 255, 255]))
        same = len(set(twice[lowest : highest + 1])) == 1
        table.append(twice[lowest] if same else OPEN)
    return table, octets, twice


def _binomial_law(q: float, m: int) -> Law:
    return _law([_first(lambda value: value / SIGN >= q, round(q * SIGN))], [m, 0])


def _geometric_law(expected: float) -> Law:
    """floor(ln(1 - u) / ln(1 - p)) children with p = 1 / (1 + expected), as steps of u."""
    p = 1.0 / (1.0 + expected)
    if p >= 1.0:
        return _law([], [0])
    scale = math.log(1.0 - p)
    thresholds = []
    for k in range(1, CHILDREN_MAX + 1):
        guess = round(SIGN * (1.0 - (1.0 - p) ** k))
        step = _first(lambda value, k=k: math.log(1.0 - value / SIGN) / scale >= k, guess)  # type: ignore[misc]
        if step == SIGN:
            break
        thresholds.append(step)
    return _law(thresholds, range(len(thresholds) + 1))


def _first(holds: Callable[[int], bool], guess: int) -> int:
    """The smallest random value for which `holds`, which is near `guess`; SIGN if there is none."""
    at = min(max(guess, 0), SIGN)
    while at > 0 and holds(at - 1):
        at -= 1
    while at < SIGN and not holds(at):
        at += 1
    return at


def _expected_children(tree: Tree, depth: int) -> float:
    """The target of the geometric distribution at a depth, by the tree's shape."""
    if depth == 0:
        return tree.b
    if tree.shape == "linear":
        return tree.b * (1.0 - depth / tree.d)
    if tree.shape == "expdec":
        return float(tree.b * depth ** (-math.log(tree.b) / math.log(tree.d)))
    if tree.shape == "cyclic":
        if depth > 5 * tree.d:
            return 0.0
        # The constant is UTS's own; more digits would make other trees of the last ulp.
        return float(tree.b ** math.sin(2.0 * 3.141592653589793 * depth / tree.d))
    return tree.b if depth < tree.d else 0.0


class _Laws(dict[int, Law]):
    """The law of each depth, made when the search first gets there."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._binomial = _binomial_law(tree.q, tree.m)
        self._geometric: dict[float, Law] = {}

    def __missing__(self, depth: int) -> Law:
        self[depth] = law = self._of(depth)
        return law

    def _of(self, depth: int) -> Law:
        tree = self._tree
        if tree.kind == "binomial" or (tree.kind == "hybrid" and depth >= tree.f * tree.d):
            return self._binomial
        expected = _expected_children(tree, depth)
        if expected not in self._geometric:
            self._geometric[expected] = _geometric_law(expected)
        return self._geometric[expected]


_laws = lru_cache(maxsize=64)(_Laws)


# ---------------------------------------------------------------- the two loops

Families = dict[int, tuple[bytes, ...]]
"""Number of children → the octets that make each of them from its parent."""


@lru_cache(maxsize=64)
def _families(tree: Tree) -> Families:
    sizes = {tree.m, int(tree.b)} if tree.kind == "binomial" else range(1, CHILDREN_MAX + 1)
    return {n: tuple(i.to_bytes(4, "big") for i in range(n)) for n in sizes}


Walked = tuple[int, int, int]
"""(digests made, inner nodes visited, depth of the deepest digest made)"""


def _walk_layers(families: Families, laws: _Laws, stack: list[Item], limit: int) -> Walked:
    """Depth first, where each depth has its own law (geometric and hybrid trees)."""
    left = limit
    inner = deepest = 0
    pop, push, find, hashed = stack.pop, stack.append, bisect_right, sha1
    while stack:
        state, n, depth = pop()
        left -= n
        if left < 0 and inner:
            left += n
            push((state, n, depth))
            break
        inner += 1
        depth += 1
        if depth > deepest:
            deepest = depth
        table, steps, counts = laws[depth]
        if table is None:
            for i in families[n]:
                hashed(state + i).digest()
            continue
        for i in families[n]:
            digest = hashed(state + i).digest()
            n = table[digest[16]]
            if n:
                if n < 0:
                    n = counts[find(steps, digest[16:])]
                    if not n:
                        continue
                push((digest, n, depth))
    return limit - left, inner, deepest


def _walk_alike(families: Families, laws: _Laws, stack: list[Item], limit: int) -> Walked:
    """Depth first, where one law holds everywhere below the root (binomial trees)."""
    left = limit
    inner = deepest = 0
    pop, push, find, hashed = stack.pop, stack.append, bisect_right, sha1
    table, steps, counts = laws[1]
    if table is None:
        return _walk_layers(families, laws, stack, limit)
    while stack:
        state, n, depth = pop()
        left -= n
        if left < 0 and inner:
            left += n
            push((state, n, depth))
            break
        inner += 1
        depth += 1
        if depth > deepest:
            deepest = depth
        for i in families[n]:
            digest = hashed(state + i).digest()
            n = table[digest[16]]
            if n:
                if n < 0:
                    n = counts[find(steps, digest[16:])]
                    if not n:
                        continue
                push((digest, n, depth))
    return limit - left, inner, deepest


def _visit(tree: Tree, bag: list[Item], limit: int) -> tuple[Partial, list[Item]]:
    if bag and not bag[-1][1]:  # only a root can be here without children
        return (1, 1, 0), bag[:-1]
    stack = bag[:]
    walk = _walk_alike if tree.kind == "binomial" else _walk_layers
    made, inner, deepest = walk(_families(tree), _laws(tree), stack, limit)
    # Visited: what was in the bag or made, and is not in the rest.
    visited = made + len(bag) - len(stack)
    return (visited, visited - inner, deepest), stack


# ---------------------------------------------------------------- what others call


def root_state(tree: Tree) -> bytes:
    return sha1(bytes(16) + tree.r.to_bytes(4, "big")).digest()


def root(tree: Tree) -> Item:
    """The item to begin with."""
    state = root_state(tree)
    if tree.kind == "binomial":
        return state, int(tree.b), 0
    _, steps, counts = _laws(tree)[0]
    return state, counts[bisect_right(steps, state[16:])], 0


def search(tree: Tree) -> Counts:
    """The whole tree, here, now: the sequential program that speed-ups are measured against."""
    counts, rest = _visit(tree, [root(tree)], sys.maxsize)
    assert not rest
    return Counts(*counts)


def visitor(tree: Tree) -> Visit:
    """A `visit(bag, limit)` for `Mesh.explore`; start it with `roots=[root(tree)]`.

    It visits depth first from the end of the bag, which it does not change, and makes at most `limit`
    new nodes. It always makes at least one family (up to 100 nodes; all children of a binomial root),
    so that every visit makes progress.
    """
    return partial(_visit, tree)


def visit_tree(name: str, bag: list[Item], limit: int) -> tuple[Partial, list[Item]]:
    """The same for one of TREES by its name. For data-only meshes, which take names and plain data:
    `partial(visit_tree, "T1")`."""
    return _visit(TREES[name], bag, limit)


def combine_counts(a: Partial, b: Partial) -> Partial:
    return a[0] + b[0], a[1] + b[1], max(a[2], b[2])


# ---------------------------------------------------------------- the trees


def _binomial(b: int, q: float, m: int, r: int, *expected: int) -> Tree:
    return Tree("binomial", r=r, b=b, q=q, m=m, expected=Counts(*expected))


def _fixed(d: int, r: int, *expected: int) -> Tree:
    return Tree("geometric", r=r, b=4, shape="fixed", d=d, expected=Counts(*expected))


def _linear(d: int, *expected: int) -> Tree:
    return Tree("geometric", r=34, b=4, shape="linear", d=d, expected=Counts(*expected))


def _cyclic(d: int, b: int, r: int, *expected: int) -> Tree:
    return Tree("geometric", r=r, b=b, shape="cyclic", d=d, expected=Counts(*expected))


def _hybrid(d: int, *expected: int) -> Tree:
    return Tree("hybrid", r=1, b=6, shape="linear", d=d, expected=Counts(*expected))


SMALL: dict[str, Tree] = {
    "T1-d3": _fixed(3, 19, 254, 201, 3),
    "T1-d5": _fixed(5, 19, 3_987, 3_232, 5),
    "T1-d6": _fixed(6, 19, 16_000, 12_839, 6),
    "T1-d7": _fixed(7, 19, 63_914, 51_124, 7),
    "T1-d8": _fixed(8, 19, 257_042, 205_878, 8),
    "T1-d9": _fixed(9, 19, 1_031_269, 825_408, 9),
    "T2-d8": _cyclic(8, 6, 502, 25_174, 15_391, 41),
    "T3-b20": _binomial(20, 0.124875, 8, 42, 6_213, 5_438, 67),
    "T3-b50": _binomial(50, 0.124875, 8, 42, 6_531, 5_720, 67),
    "T3-b100": _binomial(100, 0.2, 4, 7, 381, 310, 10),
    "T3-b200": _binomial(200, 0.124875, 8, 42, 2_745_281, 2_402_145, 1_572),
    "T4-d8": _hybrid(8, 15_914, 11_966, 73),
    "T5-d10": _linear(10, 5_577, 3_111, 10),
    "T5-d12": _linear(12, 21_579, 11_664, 12),
}
"""Small relatives of the published trees, for tests; counted by two independent programs or in C."""

TREES: dict[str, Tree] = SMALL | {
    "T1": _fixed(10, 19, 4_130_071, 3_305_118, 10),
    "T2": _cyclic(16, 6, 502, 4_117_769, 2_342_762, 81),
    "T3": _binomial(2000, 0.124875, 8, 42, 4_112_897, 3_599_034, 1_572),
    "T4": _hybrid(16, 4_132_453, 3_108_986, 134),
    "T5": _linear(20, 4_147_582, 2_181_318, 20),
    "T1-d11": _fixed(11, 19, 16_526_523, 13_221_220, 11),
    "T1-d12": _fixed(12, 19, 66_106_929, 52_886_192, 12),
    "T1L": _fixed(13, 29, 102_181_082, 81_746_377, 13),
    "T2L": _cyclic(23, 7, 220, 96_793_510, 53_791_152, 67),
    "T3L": _binomial(2000, 0.200014, 5, 7, 111_345_631, 89_076_904, 17_844),
    "T1XL": _fixed(15, 29, 1_635_119_272, 1_308_100_063, 15),
    "T1XXL": _fixed(15, 19, 4_230_646_601, 3_384_495_738, 15),
    "T3XXL": _binomial(2000, 0.499995, 2, 316, 2_793_220_501, 1_396_611_250, 99_049),
    "T2XXL": _binomial(2000, 0.499999995, 2, 0, 10_612_052_303, 5_306_027_151, 216_370),
    "T1WL": _fixed(18, 19, 270_751_679_750, 216_601_257_283, 18),
    "T2WL": _binomial(2000, 0.4999999995, 2, 559, 295_393_891_003, 147_696_946_501, 1_021_239),
    "T3WL": _binomial(2000, 0.4999995, 2, 559, 157_063_495_159, 78_531_748_579, 758_577),
    "P3D-T1": _binomial(2000, 0.499995, 2, 38, 4_996_491, 2_499_245, 3_472),
    "P3D-T2": _binomial(2000, 0.499995, 2, 30, 51_747_899, 25_874_949, 16_604),
    "P3D-T3": _binomial(2000, 0.499995, 2, 55, 514_989_317, 257_495_658, 53_013),
    "P3D-T5": _binomial(2000, 0.4999975, 2, 559, 52_990_562_043, 26_495_282_021, 448_401),
    "P3D-T6": _binomial(2000, 0.499999, 2, 559, 94_795_626_943, 47_397_814_471, 596_616),
}
"""By name. In the XXL and WL rows the published names do not follow the shapes: quote parameters.

The leaves of T1XXL and the depth and leaves of T3XXL are not published; they were counted in C.
We have not run the WL trees, P3D-T5 and P3D-T6.
"""
