"""Whether a program's graph is deep or wide, as far as it can be known without a cost for each call."""

from __future__ import annotations

from typing import Any

from stealmesh.client.shape import WIDE, Shape
from stealmesh.futures import Future


def calls(count: int) -> list[Future[Any]]:
    return [Future() for _ in range(count)]


def test_a_chain_is_deep() -> None:
    shape = Shape()
    chain = calls(1000)
    for number, (one, before) in enumerate(zip(chain[1:], chain, strict=False), 1):
        assert not shape.is_wide(number)
        shape.grows(one, [before])


def test_a_stencil_is_deep() -> None:
    shape = Shape()
    pending = 16
    row = calls(16)
    for _ in range(100):
        after = calls(16)
        for at, one in enumerate(after):
            assert not shape.is_wide(pending)
            shape.grows(one, row[max(0, at - 1) : at + 2])
            pending += 1
        row = after


def test_many_calls_side_by_side_are_wide() -> None:
    shape = Shape()
    leaves = calls(WIDE + 2)
    assert shape.is_wide(len(leaves))
    shape.grows(calls(1)[0], leaves[:2])
    assert shape.is_wide(len(leaves) + 1)


def test_a_graph_that_is_over_counts_no_more() -> None:
    shape = Shape()
    chain = calls(100)
    for one, before in zip(chain[1:], chain, strict=False):
        shape.grows(one, [before])
    assert not shape.is_wide(10 * WIDE)
    chain[-1].cancel()
    shape.grows(calls(1)[0], calls(1))
    assert shape.is_wide(10 * WIDE)


def test_it_keeps_no_call() -> None:
    shape = Shape()
    shape.grows(Future(), calls(1))
    shape.grows(Future(), calls(1))
    assert shape._tip is not None
    assert shape._tip() is None
