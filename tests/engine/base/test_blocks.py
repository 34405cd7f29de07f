"""Blocks against a plain list of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.base.blocks import Blocks, Input
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.messages import Block

SPAN = 30
ends = st.integers(0, SPAN)
parts = st.lists(st.tuples(ends, ends), max_size=5)


@st.composite
def inputs(draw: st.DrawFn) -> list[Input]:
    """Blocks that do not overlap, in any order."""
    edges = sorted(draw(st.sets(ends, min_size=2)))
    blocks = [(Block(lo, hi, 0), bytes(hi - lo)) for lo, hi in pairwise(edges)]
    return draw(st.permutations(draw(st.lists(st.sampled_from(blocks), unique_by=id))))


def touches(block: Block, lo: int, hi: int) -> bool:
    return bool(IntervalSet([(lo, hi)]).overlap(block.lo, block.hi))


def in_order(some: Iterable[Input]) -> list[Input]:
    return sorted(some, key=lambda each: each[0].lo)


def is_as_new(blocks: Blocks) -> None:
    """What has gone leaves no trace."""
    twin = Blocks(blocks)
    assert len(blocks) == len(twin)
    for item in range(SPAN + 1):
        assert blocks.at(item) == twin.at(item)
        assert (item in blocks) == (item in twin)
        assert blocks.within(item, item + 3) == twin.within(item, item + 3)
    blocks.add(Block(SPAN + 5, SPAN + 6, 0), b"last")
    blocks.add(Block(-2, -1, 0), b"first")
    assert [blob for _, blob in blocks] == [b"first", *(blob for _, blob in twin), b"last"]


@given(inputs(), ends, ends)
def test_blocks_are_found_by_their_items(came: list[Input], lo: int, hi: int) -> None:
    blocks = Blocks(came)
    assert len(blocks) == len(came)
    assert list(blocks) == in_order(came)
    if lo < hi:
        assert blocks.within(lo, hi) == [each for each in blocks if touches(each[0], lo, hi)]
    holding = [each for each in came if each[0].lo <= lo < each[0].hi]
    assert blocks.at(lo) == (holding[0] if holding else None)
    assert blocks.items == IntervalSet((block.lo, block.hi) for block, _ in came)


@given(inputs(), parts, parts)
def test_covered_blocks_around_the_parts_go(
    came: list[Input], around: list[tuple[int, int]], done: list[tuple[int, int]]
) -> None:
    around = [(lo, hi) for lo, hi in around if lo < hi]
    blocks, covered = Blocks(came), IntervalSet(done)
    octets = blocks.drop_covered(around, covered)
    gone = [
        each
        for each in came
        if covered.covers(each[0].lo, each[0].hi) and any(touches(each[0], *p) for p in around)
    ]
    assert list(blocks) == in_order(each for each in came if each not in gone)
    assert octets == sum(len(blob) for _, blob in gone)
    assert blocks.octets + octets == sum(len(blob) for _, blob in came)
    is_as_new(blocks)


@given(inputs(), parts)
def test_only_blocks_of_these_items_stay(came: list[Input], kept: list[tuple[int, int]]) -> None:
    blocks, items = Blocks(came), IntervalSet(kept)
    blocks.keep_only(items)
    assert list(blocks) == in_order(each for each in came if items.overlap(each[0].lo, each[0].hi))
    assert all(each[0].lo in blocks for each in blocks)


def test_a_block_that_comes_again_takes_the_place_of_the_first() -> None:
    blocks = Blocks([(Block(0, 2, 0), b"a"), (Block(2, 4, 0), b"b"), (Block(0, 2, 0), b"c")])
    assert [blob for _, blob in blocks] == [b"c", b"b"]
    blocks.clear()
    assert not blocks


@given(st.lists(st.integers(0, 10**6), max_size=SPAN))
def test_blocks_that_go_one_by_one(which: list[int]) -> None:
    """From a long list, in any order: near the front, behind, in the middle."""
    left = [(Block(at, at + 1, 0), b"%d" % at) for at in range(SPAN)]
    blocks = Blocks(left)
    for each in which:
        if left:
            block, _ = left.pop(each % len(left))
            part = (block.lo, block.hi)
            blocks.drop_covered([part], IntervalSet([part]))
    assert list(blocks) == left
    is_as_new(blocks)
