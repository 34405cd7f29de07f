"""The nodes of a running mesh, as this machine sees them and as they see each other.

Decides from their status, and from dialling each address that they tell others to dial. What a node does not say,
as one of an older version, is not judged. Refuses to know how a mesh is found and joined (`cli/doctor.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stealmesh.doctor.diagnosis import Diagnosis, in_words
from stealmesh.doctor.here import MEMORY_MIN, SHARED_MEMORY_MIN, STATE_MIN
from stealmesh.host.addresses import is_loopback
from stealmesh.transport.sockets import FILES_REMEDY
from stealmesh_engine.links.introductions import PROTOCOL_VERSION

CLOCKS_APART_SECONDS = 2.0
JUMP_SECONDS = 2.0
DESCRIPTORS_SHARE = 0.8
DIAL_SECONDS = 3.0
DIALLED_AT_ONCE = 16
FIREWALL = "open the port in the firewall, or start the node with --advertise and an address that others reach"
SET_CLOCKS = "let both machines get their time from the network (timedatectl set-ntp true)"

Dials = Callable[[str], str]
"""Why nobody answers at an address; empty: a node does."""


def findings(
    status: dict[str, Any], build: str, asked: tuple[float, float], dials: Dials
) -> Iterator[Diagnosis]:
    """`build`: this program's own. `asked`: the time of day before and after the nodes answered."""
    nodes = [node for node in status["nodes"] if node["role"] != "client"]
    if not nodes:
        yield Diagnosis(
            "mesh", "no node has answered", "try again, or see whether one runs (stealmesh status)"
        )
        return
    yield Diagnosis("mesh", f"{len(nodes)} node{'s answer' if nodes[1:] else ' answers'}")
    hosts = {node["host"] for node in nodes}
    for node in nodes:
        yield version(node, build)
        yield reached(node, dials, alone=len(hosts) == 1)
        yield reaches(node)
        yield from clocks(node, asked)
        yield from room(node)


def version(node: dict[str, Any], build: str) -> Diagnosis:
    what = f"{node['name']}: version"
    if node["state"] == "unreadable":
        return Diagnosis(what, "its answer cannot be read", "upgrade the older side")
    if node.get("protocol", PROTOCOL_VERSION) != PROTOCOL_VERSION:
        text = f"it speaks protocol {node['protocol']}, this program {PROTOCOL_VERSION}"
        return Diagnosis(what, text, "upgrade the older side")
    theirs, ours = _package(node["build"]), _package(build)
    if theirs != ours:
        text = f"{theirs}, this program {ours}"
        return Diagnosis(what, text, "upgrade the older one when it suits: both work together")
    return Diagnosis(what, f"{node['build']}, runs {node['runtime']}")


def reached(node: dict[str, Any], dials: Dials, *, alone: bool) -> Diagnosis:
    """From here to it."""
    what, addresses = f"{node['name']}: reached", _addresses(node)
    if not addresses:
        return Diagnosis(what, "by its local socket only")
    silent = [f"{address} ({why})" for address, why in _dialled(addresses, dials) if why]
    if silent:
        return Diagnosis(what, f"nobody answers at {', '.join(silent)}", FIREWALL)
    if not alone and all(map(is_loopback, addresses)):
        text = f"it tells others {addresses[0]}, where only its own host reaches it"
        return Diagnosis(what, text, "start it with --listen tcp://0.0.0.0:7077")
    return Diagnosis(what, f"at {', '.join(addresses)}")


def silent(addresses: list[str], dials: Dials) -> str:
    """The addresses of a way into a mesh, and why none of them answers; empty: one does, or is none to dial."""
    answers = _dialled(addresses, dials)
    if not all(why and address.startswith("tcp://") for address, why in answers):
        return ""
    return ", ".join(f"{address} ({why})" for address, why in answers)


def _dialled(addresses: list[str], dials: Dials) -> list[tuple[str, str]]:
    with ThreadPoolExecutor(DIALLED_AT_ONCE) as pool:
        return list(zip(addresses, pool.map(dials, addresses), strict=True))


def reaches(node: dict[str, Any]) -> Diagnosis:
    """From it to the others, this host's nodes among them."""
    what = f"{node['name']}: reaches others"
    missed = node.get("cannot_reach")
    if isinstance(missed, list) and missed:
        return Diagnosis(what, f"not {', '.join(map(str, missed))}, although others do", FIREWALL)
    return Diagnosis(
        what, f"nodes that it knows, itself among them: {node['sees']}; out of reach: none"
    )


def clocks(node: dict[str, Any], asked: tuple[float, float]) -> Iterator[Diagnosis]:
    machine = _machine(node)
    theirs, jumped = machine.get("clock", 0.0), machine.get("clock_jumped", 0.0)
    if not theirs:
        return
    what = f"{node['name']}: clock"
    apart = max(asked[0] - theirs, theirs - asked[1], 0.0)
    if apart > CLOCKS_APART_SECONDS:
        ahead = "ahead of" if theirs > asked[1] else "behind"
        yield Diagnosis(what, f"{apart:.0f} s {ahead} this machine's", SET_CLOCKS)
    elif abs(jumped) > JUMP_SECONDS:
        how = "put forward" if jumped > 0 else "put back"
        text = f"it was {how} by {abs(jumped):.0f} s since the node began"
        yield Diagnosis(what, text, f"if the machine did not sleep: {SET_CLOCKS}")
    else:
        yield Diagnosis(what, "as this machine's")


def room(node: dict[str, Any]) -> Iterator[Diagnosis]:
    """What its machine still gives it."""
    machine, name = _machine(node), node["name"]
    if not machine:
        return
    used, most = machine.get("descriptors", 0), machine.get("descriptors_max", 0)
    if most and used > DESCRIPTORS_SHARE * most:
        yield Diagnosis(f"{name}: open files", f"{used} of {most} are open", FILES_REMEDY)
    for fact, least, what, remedy in (
        ("memory_free", MEMORY_MIN, "memory", "end other programs there, or give it fewer workers"),
        ("shared_memory_free", SHARED_MEMORY_MIN, "shared memory", "give its container more"),
        ("state_free", STATE_MIN, "state", "free some room where it keeps durable jobs (--state)"),
    ):
        free = machine.get(fact, -1)
        if 0 <= free < least:
            yield Diagnosis(f"{name}: {what}", f"{in_words(free)} free", remedy)


def _addresses(node: dict[str, Any]) -> list[str]:
    told = node.get("addresses")
    if not isinstance(told, list):
        told = [node["address"]]
    return [each for each in told if isinstance(each, str) and each.startswith("tcp://")]


def _machine(node: dict[str, Any]) -> dict[str, Any]:
    """Its figures; what is none is left out."""
    told = node.get("machine")
    if not isinstance(told, dict):
        return {}
    return {name: each for name, each in told.items() if type(each) in (int, float)}


def _package(build: str) -> str:
    return " ".join(build.split()[:2])
