"""Which address of this host others should use, and which seeds are ourselves.

Asks the kernel's routing table (a datagram socket that is connected and sends nothing): the address
from which we reach a seed is an address that the seed's side can reach. The table may have no answer, or
loopback because /etc/hosts says so of this host's name: then it takes an interface's address
(interfaces.py).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from stealmesh.host.interfaces import WILDCARDS, best_address


def address_towards(seed: str | None = None) -> str:
    """This host's address as seen from a seed (tcp://host:port), or from the network at large.

    It is loopback only towards a seed that is written as loopback, and on a host without a network.
    """
    if seed is None:
        return best_address()
    target = _split(seed)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(where)
            found = str(probe.getsockname()[0])
    except OSError:  # no route, no such name: dialling the seed will say so
        return best_address()
    return best_address() if is_loopback(f"tcp://{found}:0") and not is_loopback(seed) else found


def listen_at(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_loopback(address: str) -> bool:
    """Is it written as an address that only this host can reach?"""
    host, _ = _split(address)
    return host.startswith("127.") or host in ("localhost", "::1")


def is_own(seed: str, listen: str, advertise: Iterable[str] = ()) -> bool:
    """Does this seed name the node that listens there? Such a node need not wait for any other:
    all nodes may be given the same list of seeds, and one of them has to be the first."""
    if seed in advertise or seed == listen:
        return True
    if not (seed.startswith("tcp://") and listen.startswith("tcp://")):
        return False
    (host, port), (listen_host, listen_port) = _split(seed), _split(listen)
    if port != listen_port:
        return False
    ours, theirs = _addresses(listen_host), _addresses(host)
    if {each.strip("[]") for each in WILDCARDS} & (ours | {listen_host}):
        return any(_is_local(address) for address in theirs)
    return bool(ours & theirs)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def _addresses(host: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _is_local(address: str) -> bool:
    """Is it one of this host's? A host can bind only its own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return True
    except OSError:
        return False
