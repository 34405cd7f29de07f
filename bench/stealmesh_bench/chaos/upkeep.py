"""The control traffic of a real mesh, read from the nodes' own counts.

Decides what counts: introductions, beats, views and verdicts, said and heard, and of the
acknowledgements as many as answer beats (the others are there because there is work). Pure: who
looks at the nodes, and when, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ACK_OCTETS = 29
"""A header and an empty body."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Of one node, a second."""

    messages: float
    octets: float


def of_leaves(
    before: Iterable[dict[str, Any]], after: Iterable[dict[str, Any]], seconds: float
) -> Upkeep | None:
    """The mean of the leaves that were there at both looks (`seconds` apart) and were leaves then;
    None without any."""
    leaves = [
        (then["traffic"], now["traffic"])
        for then, now in _pairs(before, after)
        if then["role"] == now["role"] == "plain"
    ]
    if not leaves or seconds <= 0:
        return None
    each = [_between(*pair) for pair in leaves]
    share = 1.0 / (len(leaves) * seconds)
    return Upkeep(sum(m for m, _ in each) * share, sum(o for _, o in each) * share)


def _pairs(
    before: Iterable[dict[str, Any]], after: Iterable[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    known = {node["id"]: node for node in before if "traffic" in node}
    return [(known[node["id"]], node) for node in after if node["id"] in known]


def _between(then: dict[str, dict[str, int]], now: dict[str, dict[str, int]]) -> tuple[int, int]:
    def grown(name: str, figure: str) -> int:
        return now[name][figure] - then[name][figure]

    said, heard = grown("control", "said"), grown("control", "heard")
    answers = min(said, grown("acks", "heard")) + min(heard, grown("acks", "said"))
    octets = grown("control", "said_octets") + grown("control", "heard_octets")
    return said + heard + answers, octets + answers * ACK_OCTETS
