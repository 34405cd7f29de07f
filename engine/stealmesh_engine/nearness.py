"""Which of a peer's several addresses to dial first: the one in the network that we are in as well.

A host with two interfaces tells others two addresses, and half of its peers can reach only one of
them. Decides an order from the addresses alone: the longer the part that an address has in common
with one of ours, the nearer (rule 9 of RFC 6724). Refuses to look names up.
"""

from __future__ import annotations

from collections.abc import Iterable


def nearest_first(endpoints: list[str], ours: Iterable[str]) -> list[str]:
    """Local sockets, then network addresses; of equally near ones, in the order of their owner."""
    mine = [_host(each) for each in ours if each.startswith("tcp://")]

    def distance(endpoint: str) -> float:
        if not endpoint.startswith("tcp://"):
            return -1.0
        host = _host(endpoint)
        return 1.0 - max((_in_common(host, each) for each in mine), default=0.0)

    return sorted(endpoints, key=distance)


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def _in_common(one: str, other: str) -> float:
    """Which share of two addresses is the same, from the left; 0 for names."""
    first, second = _number(one), _number(other)
    if first is not None and second is not None:
        return 1.0 - (first ^ second).bit_length() / 32
    if ":" not in one or ":" not in other:
        return 0.0
    groups = 0
    for left, right in zip(one.split(":"), other.split(":"), strict=False):
        if left != right:
            break
        groups += 1
    return groups / 8


def _number(host: str) -> int | None:
    """An IPv4 address as a number."""
    parts = host.split(".")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        return None
    return int.from_bytes(bytes(map(int, parts)), "big")
