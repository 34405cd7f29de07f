"""Which addresses of this host others can reach: read from the kernel's own list of interfaces.

Decides which of them a node that listens everywhere (0.0.0.0, [::], *) tells others to dial. Needs
no name and no route: a host's name is often 127.0.1.1 in /etc/hosts or unknown everywhere, and a
cluster on a switch of its own has no default route. Refuses to know who will dial (links.py picks
the nearest of several addresses) and whether a firewall lets them through.

Left out: loopback (as long as there is anything else); IPv6 link-local addresses, which mean
nothing without the name of the *dialler's* interface; addresses that IPv6 will soon take back;
bridges of containers and virtual machines, which have the same address on every host
(172.17.0.1), unless the default route leads there or there is nothing else.

The list comes by netlink (rtnetlink(7)), which `ip address` reads as well: the older SIOCGIFCONF
knows no IPv6 and no bridges.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
ADVERTISED_MAX = 4
"""A host with more networks than this is a router."""
WILDCARDS = {"0.0.0.0": (4,), "[::]": (4, 6), "*": (4, 6)}
"""Wildcard addresses, each with the versions of IP that it stands for."""
_ANYWHERE = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}
"""Addresses reserved for documentation: routed like the rest of the world, and never sent to."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of one interface."""

    host: str
    interface: str
    is_up: bool = True
    """The interface is switched on and has its cable."""
    is_bridge: bool = False


def reachable_at(endpoint: str) -> list[str]:
    """Where others should dial a socket that is bound there: itself, unless it is a wildcard."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    versions = WILDCARDS.get(host)
    if versions is None:
        return [endpoint]
    towards = [found for version in versions if (found := _towards_anywhere(version))]
    hosts = choose(own_addresses(), towards, versions)
    return [f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}" for host in hosts]


def best_address() -> str:
    """The one IPv4 address of this host that most others can reach; loopback if it has no other."""
    towards = _towards_anywhere(4)
    return towards or choose(own_addresses(), [], (4,))[0]


def choose(
    addresses: Iterable[Address], towards: Iterable[str], versions: tuple[int, ...]
) -> list[str]:
    """The hosts to advertise, the best first. `towards`: the addresses that the default routes use."""
    preferred = list(towards)
    usable = [each for each in addresses if _is_usable(each.host, versions)]
    usable.sort(key=lambda each: (each.host not in preferred, *_faults(each), ":" in each.host))
    chosen: dict[tuple[str, bool], str] = {}
    for each in usable:
        if each.host in preferred or _faults(each) == min(map(_faults, usable)):
            # One of each interface and version: aliases lead to the same place.
            chosen.setdefault((each.interface, ":" in each.host), each.host)
    return list(chosen.values())[:ADVERTISED_MAX] or [LOOPBACK]


def _faults(address: Address) -> tuple[bool, bool, bool]:
    """What speaks against an address. Only addresses with the fewest faults are advertised."""
    return (
        not address.is_up,
        address.is_bridge,
        ipaddress.ip_address(address.host).is_link_local,
    )


def _is_usable(host: str, versions: tuple[int, ...]) -> bool:
    address = ipaddress.ip_address(host)
    if address.version not in versions or address.is_loopback or address.is_unspecified:
        return False
    return not address.is_multicast and not (address.version == 6 and address.is_link_local)


def _towards_anywhere(version: int) -> str:
    """The address that we would call the rest of the world from; empty without a default route.

    Asks the routing table: a datagram socket that is connected has sent nothing yet.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(_ANYWHERE[version])
            host = str(probe.getsockname()[0])
    except OSError:
        return ""
    return host if _is_usable(host, (version,)) else ""


# ---------------------------------------------------------------- the kernel's list

_HEADER = struct.Struct("=IHHII")  # length, type, flags, number, sender
_LINK = struct.Struct("=BxHiII")  # family, type, interface, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_GET_LINK, _GET_ADDRESS, _ERROR, _DONE = 18, 22, 2, 3
_REQUEST_ALL = 0x301
_UP_AND_RUNNING = 0x41
_INTERFACE_NAME, _INTERFACE_INFO, _INFO_KIND = 3, 18, 1
_ADDRESS_ITSELF, _ADDRESS_LOCAL = 1, 2
_GOING = 0x01 | 0x08 | 0x20 | 0x40
"""IPv6: temporary, a duplicate, deprecated, tentative."""
_READ_OCTETS = 1 << 16
_READ_SECONDS = 2.0


def own_addresses() -> list[Address]:
    """Every address of this host; none where the kernel does not tell (a strict sandbox)."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:  # 0: NETLINK_ROUTE
            kernel.settimeout(_READ_SECONDS)
            kernel.bind((0, 0))
            links = _all(kernel, _GET_LINK, _LINK.pack(0, 0, 0, 0, 0))
            interfaces = dict(map(_interface, links))
            addresses = _all(kernel, _GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0))
            return [found for each in addresses for found in _addresses(each, interfaces)]
    except OSError:
        return []


def _all(kernel: socket.socket, kind: int, question: bytes) -> list[bytes]:
    """The bodies of all answers to one question."""
    kernel.send(_HEADER.pack(_HEADER.size + len(question), kind, _REQUEST_ALL, 1, 0) + question)
    bodies: list[bytes] = []
    while True:
        heard = kernel.recv(_READ_OCTETS)
        while heard:
            length, answer, *_ = _HEADER.unpack_from(heard)
            if answer == _DONE:
                return bodies
            if answer == _ERROR or length < _HEADER.size:
                raise OSError("the kernel does not tell its interfaces")
            bodies.append(heard[_HEADER.size : length])
            heard = heard[(length + 3) & ~3 :]


def _interface(body: bytes) -> tuple[int, tuple[str, bool, bool]]:
    """Number → name, is it up, is it a bridge."""
    _, _, number, flags, _ = _LINK.unpack_from(body)
    attributes = dict(_attributes(body[_LINK.size :]))
    kind = dict(_attributes(attributes.get(_INTERFACE_INFO, b""))).get(_INFO_KIND, b"")
    name = _text(attributes.get(_INTERFACE_NAME, b""))
    is_up = flags & _UP_AND_RUNNING == _UP_AND_RUNNING
    return number, (name, is_up, _text(kind) == "bridge")


def _addresses(body: bytes, interfaces: dict[int, tuple[str, bool, bool]]) -> Iterator[Address]:
    family, _, flags, _, number = _ADDRESS.unpack_from(body)
    attributes = dict(_attributes(body[_ADDRESS.size :]))
    packed = attributes.get(_ADDRESS_LOCAL) or attributes.get(_ADDRESS_ITSELF)
    if packed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return
    if family == socket.AF_INET6 and flags & _GOING:
        return
    name, is_up, is_bridge = interfaces.get(number, (str(number), True, False))
    yield Address(socket.inet_ntop(family, packed), name, is_up, is_bridge)


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    while len(body) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, body[_ATTRIBUTE.size : length]
        body = body[(length + 3) & ~3 :]


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode("ascii", "replace")
