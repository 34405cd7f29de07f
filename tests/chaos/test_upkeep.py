"""What the nodes' counts say about the mesh's talk with itself."""

from __future__ import annotations

from typing import Any

import pytest

from stealmesh_bench.chaos.upkeep import ACK_OCTETS, of_leaves
from stealmesh_protocol import codec
from stealmesh_protocol.messages import Ack

FIGURES = ("said", "said_octets", "heard", "heard_octets")


def node(name: str, control: int, acks: int = 0, role: str = "plain") -> dict[str, Any]:
    """A node that said and heard `count` messages of each kind, a hundred octets each."""

    def figures(count: int) -> dict[str, int]:
        return dict(zip(FIGURES, (count, 100 * count, count, 100 * count), strict=True))

    return {
        "id": name,
        "role": role,
        "traffic": {"control": figures(control), "acks": figures(acks)},
    }


def test_an_acknowledgement_counts_if_it_can_answer_a_beat() -> None:
    found = of_leaves([node("a", 10)], [node("a", 30, acks=5)], 10.0)
    assert found is not None
    assert found.messages == pytest.approx((20 + 20 + 5 + 5) / 10.0)
    assert found.octets == pytest.approx((4000 + 10 * ACK_OCTETS) / 10.0)
    worked = of_leaves([node("a", 10)], [node("a", 30, acks=5000)], 10.0)
    assert worked is not None
    assert worked.messages == pytest.approx(8.0), "the rest answers work"


def test_only_who_was_a_leaf_all_the_time_counts() -> None:
    before = [node("a", 0), node("b", 0), node("c", 0, role="super"), node("gone", 0)]
    after = [
        node("a", 10),
        node("b", 900, role="super"),
        node("c", 900, role="super"),
        node("new", 900),
    ]
    found = of_leaves(before, after, 1.0)
    assert found is not None
    assert found.messages == 20.0
    assert of_leaves(before, after[2:], 1.0) is None


def test_the_size_of_an_acknowledgement() -> None:
    assert sum(map(len, codec.encode(Ack(), 0, 1))) == ACK_OCTETS
