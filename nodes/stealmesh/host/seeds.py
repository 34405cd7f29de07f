"""Seeds: the many ways to say where a mesh can be found, turned into addresses to dial.

A seed is one of

* ``tcp://host:port`` or ``ipc:///path``: itself (the port defaults to 7077),
* ``file:///path``: one seed a line, ``#`` for comments; read anew at every look,
* ``dns://name:port``: every address that the name has,
* ``slurm://:port``: every host of this Slurm job (SLURM_JOB_NODELIST),
* ``env://NAME``: the seeds in an environment variable, separated by commas or blanks.

Does no dialling, and keeps nothing between two looks: to follow a file or a name that changes, look
again. ValueError: the seed can never mean anything. SeedsUnknown: it means nothing now.

Idea: the schemes of hashicorp/go-discover and dask's scheduler file.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from math import prod
from typing import Any

PORT = 7077
SCHEMES = ("tcp", "ipc", "file", "dns", "slurm", "env")
HOSTS_MAX = 10_000
"""Bounds one Slurm list: a typing error like [1-999999999] must not eat the memory."""

_HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%[^\s\]]+)?\]|[^\s/\[\]@:?#%]+|\*")

Lookup = Callable[..., list[tuple[Any, ...]]]


class SeedsUnknown(Exception):
    """What the seed refers to is not there at the moment; the text has the remedy."""


def split(text: str) -> list[str]:
    """Seeds in a text, separated by commas or white space."""
    return [seed for seed in re.split(r"[\s,]+", text) if seed]


def checked(seed: str) -> str:
    """The seed in its full form. Raises ValueError if it can never mean anything."""
    seed = seed.strip()
    scheme, mark, rest = seed.partition("://")
    scheme = scheme.lower()
    if not mark:
        raise ValueError(f"not an address: {seed!r}; write {_guess(seed)}")
    if scheme not in SCHEMES:
        raise ValueError(f"not an address: {seed!r}; write tcp://{rest or 'host:port'}")
    if scheme in ("tcp", "dns", "slurm"):
        rest = rest.rstrip("/")
    if not rest and scheme != "slurm":
        raise ValueError(f"the address {seed!r} names nothing behind ://")
    address = f"{scheme}://{rest}"
    if scheme not in ("tcp", "dns", "slurm"):
        return address
    full = with_port(address)
    if full.endswith(":0"):
        raise ValueError(
            f"{seed!r}: port 0 cannot be dialled; write the port at which the node listens"
        )
    return full


def _guess(seed: str) -> str:
    """What an address without a scheme probably means. Raises ValueError if its port is none: that is the fault."""
    host, _, port = seed.rpartition(":")
    if _HOST.fullmatch(host) and port.isdecimal():
        return with_port(f"tcp://{seed}")
    return f"tcp://{seed}:{PORT}" if _HOST.fullmatch(seed) and "." in seed else "tcp://host:port"


def with_port(address: str) -> str:
    """The address with a valid port (the default where it has none). Raises ValueError."""
    scheme, _, rest = address.partition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or (rest.startswith("[") and rest.endswith("]")):
        host, port = rest, str(PORT)
    elif ":" in host and not host.startswith("["):
        raise ValueError(
            f"{address!r}: write an IPv6 address in brackets, as in {scheme}://[{rest}]:{PORT}"
        )
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{port!r} in {address!r} is not a port number (0 to 65535)")
    if not host and scheme != "slurm":
        raise ValueError(f"the address {address!r} names no host")
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} in {address!r} is not the name or the number of a host")
    return f"{scheme}://{host}:{port}"


def resolve(
    seeds: Iterable[str],
    environment: Mapping[str, str] = os.environ,
    lookup: Lookup = socket.getaddrinfo,
) -> list[str]:
    """The addresses behind the seeds by now, each once, in order.

    Skips seeds that mean nothing at the moment. Raises SeedsUnknown if no seed means anything.
    """
    addresses: dict[str, None] = {}
    unknown: list[str] = []
    for seed in seeds:
        try:
            addresses.update(dict.fromkeys(_look(seed, environment, lookup)))
        except SeedsUnknown as error:
            unknown.append(str(error))
    if unknown and not addresses:
        raise SeedsUnknown("; ".join(unknown))
    return list(addresses)


# ---------------------------------------------------------------- one seed


def _look(seed: str, environment: Mapping[str, str], lookup: Lookup) -> list[str]:
    scheme, _, rest = checked(seed).partition("://")
    if scheme == "file":
        return _plain(_lines(rest), seed, environment, lookup)
    if scheme == "env":
        if not environment.get(rest, "").strip():
            raise ValueError(f"{seed}: the environment variable {rest} is not set")
        return _plain(split(environment[rest]), seed, environment, lookup)
    if scheme == "dns":
        return _dns(rest, lookup)
    if scheme == "slurm":
        return _slurm(rest, environment)
    return [f"{scheme}://{rest}"]


def _plain(
    found: list[str], where: str, environment: Mapping[str, str], lookup: Lookup
) -> list[str]:
    """Addresses of seeds found in a file or a variable. These may not refer to another file or variable."""
    addresses: list[str] = []
    for seed in found:
        if seed.startswith(("file://", "env://")):
            raise ValueError(f"{where} refers to {seed}: write the addresses themselves there")
        addresses += _look(seed, environment, lookup)
    return addresses


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.partition("#")[0].strip() for line in file]
    except OSError as error:
        raise SeedsUnknown(f"cannot read {path} ({error.strerror}): check the path") from None
    found = [line for line in lines if line]
    if not found:
        raise SeedsUnknown(f"{path} names no address: write one tcp://host:port a line")
    return found


def _dns(rest: str, lookup: Lookup) -> list[str]:
    host, _, port = rest.rpartition(":")
    try:
        found = lookup(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise SeedsUnknown(f"no address for {host} ({error.strerror}): check the name") from None
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}" for host in hosts]


def _slurm(rest: str, environment: Mapping[str, str]) -> list[str]:
    host, _, port = rest.rpartition(":")
    if host:
        raise ValueError(f"slurm://{rest}: the hosts come from Slurm; write slurm://:{port}")
    nodelist = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST")
    if not nodelist:
        raise ValueError("slurm://: SLURM_JOB_NODELIST is not set; run inside a Slurm job")
    return [f"tcp://{host}:{port}" for host in expand_nodelist(nodelist)]


# ---------------------------------------------------------------- Slurm


def expand_nodelist(text: str) -> list[str]:
    """``tux[01-03,7]-ib,login`` → tux01-ib, tux02-ib, tux03-ib, tux7-ib, login."""
    if re.fullmatch(r"(?:[^\[\]]|\[[\d,\-]+\])+", text) is None:
        raise ValueError(f"not a Slurm node list: {text!r}")
    hosts: dict[str, None] = {}
    for part in re.findall(r"(?:[^\[\],\s]|\[[^\]]*\])+", text):
        pieces = [_numbers(piece) for piece in re.findall(r"\[[^\]]*\]|[^\[\]]+", part)]
        if len(hosts) + prod(map(len, pieces)) > HOSTS_MAX:
            raise ValueError(f"more than {HOSTS_MAX} hosts in the Slurm node list")
        hosts.update(("".join(combination), None) for combination in product(*pieces))
    return list(hosts)


def _numbers(piece: str) -> list[str]:
    """``[01-03,7]`` → 01, 02, 03, 7; anything else is itself."""
    if not piece.startswith("["):
        return [piece]
    numbers: list[str] = []
    for item in piece[1:-1].split(","):
        low, dash, high = item.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"not a Slurm range: {piece!r}")
        last = int(high) if dash else int(low)
        if last - int(low) >= HOSTS_MAX:
            raise ValueError(f"more than {HOSTS_MAX} hosts in the Slurm range {piece!r}")
        numbers += [str(number).zfill(len(low)) for number in range(int(low), last + 1)]
    return numbers
