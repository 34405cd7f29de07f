"""A peer's several addresses: which to dial first, and when their silence proves that its process is gone.

Decides an order from the addresses alone: the longer the prefix that an address shares with one of
ours, the nearer (rule 9 of RFC 6724). Refuses to look names up, and to dial.

A host with two interfaces tells others two addresses, and half of its peers can reach only one of them.
The other one may belong to another host in our network, or to none. So a refusal at one of several
addresses proves nothing; when all refuse, the process is gone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from stealmesh_protocol.messages import Member

LOCAL = "ipc://"


def ways_to(member: Member, me: Member) -> list[str]:
    """Where to dial a member, in this order. Local sockets only mean something on its own host."""
    found = member.endpoints
    if member.host != me.host:
        found = [endpoint for endpoint in found if not endpoint.startswith(LOCAL)]
    return nearest_first(found, me.endpoints) if len(found) > 1 else found


def is_proof(absent_at: Container[str], endpoints: Iterable[str]) -> bool:
    """True if a process that is absent at these of its endpoints must be gone. One local socket at which
    nothing listens is proof enough."""
    every = list(endpoints)
    if any(each in absent_at for each in every if each.startswith(LOCAL)):
        return True
    return all(each in absent_at for each in every if not each.startswith(LOCAL))


def nearest_first(endpoints: list[str], ours: Iterable[str]) -> list[str]:
    """Local sockets, then network addresses, the nearest first; equally near ones stay in their order."""
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
    """The share of two addresses that is the same, from the left: 0 to 1; 0 for names."""
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
