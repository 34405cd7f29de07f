"""Where a mesh is and which key opens it: what `Mesh(address, key=…)` and commands were given.

Decides what people's spellings mean. What can never mean anything it refuses at once, in one line with
the remedy. Dials nothing. It looks a host's name up once: an unknown name is better reported now than
after all attempts to dial it.

From the environment: STEALMESH_TOKEN holds a token (or a pasted join line), which is addresses and
their key. `Mesh()` joins it when it is given nothing that is for a local mesh only; `Mesh("tcp://…")`
without `key=` takes its key; commands take it without --seed and --key-file. `Mesh(None)` is a local
mesh in any environment.

A token is a secret: no error shows one.
"""

from __future__ import annotations

import operator
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from stealmesh.host import seeds
from stealmesh.host.guest_key import GuestKey
from stealmesh.host.security import (
    KEY_PREFIX,
    TOKEN_PREFIX,
    AnyKey,
    JoinToken,
    KeyRefused,
    MeshKey,
    TokenRefused,
    default_key_path,
    load_key,
)
from stealmesh_protocol.errors import JoinRefused

TOKEN_VARIABLE = "STEALMESH_TOKEN"
_SECRET = re.compile(r"[a-z2-7]{40}")
"""No host that people type has a name of this length without a dot or a dash."""


class UnsaidAddress(Enum):
    """The address of `Mesh()`: nothing was said, not even None."""

    ADDRESS = "address"

    def __repr__(self) -> str:
        return "None"


UNSAID: Final = UnsaidAddress.ADDRESS

Address = str | os.PathLike[str] | Iterable[str]
GivenKey = str | os.PathLike[str] | MeshKey | GuestKey | None


@dataclass(frozen=True, slots=True)
class Entrance:
    """One mesh, and the way in."""

    addresses: list[str]
    key: AnyKey
    key_path: str = ""
    """The file that the key came from; empty: from no file."""


def address_from_environment(
    *, local: bool, environment: Mapping[str, str] = os.environ
) -> str | None:
    """What `Mesh()` joins; None: a local mesh. `local`: something was given that only a local mesh has."""
    if local or token_from(environment) is None:
        return None
    return environment[TOKEN_VARIABLE]


def entrance(
    address: Address, key: GivenKey = None, environment: Mapping[str, str] = os.environ
) -> Entrance:
    """The way into a running mesh. Raises TypeError, ValueError (TokenRefused is one), JoinRefused."""
    token, rest = _sorted_out(address)
    if token is not None and key is not None:
        raise ValueError("a token brings its own key: leave out key=, or give a plain address")
    if isinstance(key, str) and _is_no_path(key) and looks_like_token(key):
        token = JoinToken.decode(key)
        return Entrance(_reachable_by_name(_looked_up(rest, environment)), token.key)
    addresses = [*(token.seeds if token else ()), *rest]
    if not addresses:
        raise TokenRefused(
            "this token names no node: add an address, as in Mesh([token, 'tcp://host:port'])"
        )
    addresses = _reachable_by_name(_looked_up(addresses, environment))
    if token is not None:
        return Entrance(addresses, token.key)
    return Entrance(addresses, *the_key(key, environment))


def the_key(key: GivenKey, environment: Mapping[str, str] = os.environ) -> tuple[AnyKey, str]:
    """The given key, otherwise the user's, and the file that it came from."""
    if isinstance(key, MeshKey | GuestKey):
        return key, ""
    if key is None and (token := token_from(environment)) is not None:
        return token.key, ""
    path = default_key_path(environment) if key is None else _key_path(key)
    try:
        return load_key(path), str(path)
    except (KeyRefused, OSError) as error:
        raise JoinRefused("key", f"no usable mesh key: {error}") from error


def whole_number(name: str, value: object) -> int:
    """A count of processes, also as NumPy has it. Raises TypeError or ValueError."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if number <= 0:
        raise ValueError(f"{name} must be greater than 0, not {number}")
    return number


def unknown_hosts(addresses: Iterable[str]) -> dict[str, str]:
    """Addresses with a host name that is unknown here, each with the reason. Dialling one meets silence."""
    unknown: dict[str, str] = {}
    for address in addresses:
        if address.startswith("tcp://"):
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            try:
                socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            except OSError as error:
                unknown[address] = f"{address}: no address for {host} ({error.strerror})"
            except UnicodeError:  # labels of more than 63 characters, among others
                unknown[address] = f"{address}: {host} is no name that a host can have"
    return unknown


def token_from(environment: Mapping[str, str] = os.environ) -> JoinToken | None:
    """The token in the environment, if there is one."""
    text = environment.get(TOKEN_VARIABLE, "")
    if not text.strip():
        return None
    try:
        return JoinToken.decode(text)
    except TokenRefused as refusal:
        raise TokenRefused(f"{TOKEN_VARIABLE}: {refusal}") from None


# ---------------------------------------------------------------- inside


def _sorted_out(address: Address) -> tuple[JoinToken | None, list[str]]:
    """A token, if there is one, and plain addresses."""
    token: JoinToken | None = None
    rest: list[str] = []
    for text in _texts(address):
        if not looks_like_token(text):
            rest += map(seeds.checked, seeds.split(text))
        elif token is not None:
            raise ValueError("more than one token: a program joins one mesh at a time")
        else:
            token = JoinToken.decode(text)
    if token is None and not rest:
        raise ValueError("no address given; write tcp://host:port, or Mesh() for a local mesh")
    return token, rest


def _texts(address: Address) -> list[str]:
    if isinstance(address, str):
        # A pasted token may be broken into lines anywhere; addresses are separated by commas.
        return [address] if looks_like_token(address) and "," not in address else address.split(",")
    if isinstance(address, os.PathLike):
        raise TypeError(
            f"a path is no address: write file://{os.fspath(address)!s} for a file of seeds"
        )
    if isinstance(address, bytes | bytearray | Mapping) or not isinstance(address, Iterable):
        raise TypeError(
            f"address must be a text like tcp://host:port or a list of them, not {address!r}"
        )
    texts = list(address)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"address {number} of the list must be a text, not {text!r}")
    return texts


def _is_no_path(key: str) -> bool:
    """The key file of a local mesh has a name that looks like a token's beginning."""
    return os.sep not in key and not os.path.exists(key)


def looks_like_token(text: str) -> bool:
    """Is it a token, or meant as one, and no address? An error must not show a spoiled token as an
    unknown address."""
    joined = "".join(text.split()).lower()
    if "://" in joined:
        return False
    return ("stealmesh" in joined and "-" in joined) or _SECRET.search(joined) is not None


def _looked_up(addresses: list[str], environment: Mapping[str, str]) -> list[str]:
    try:
        return seeds.resolve(addresses, environment)
    except seeds.SeedsUnknown as error:
        text, _, remedy = str(error).rpartition(": ")
        raise JoinRefused("no-such-host", text, remedy) from None


def _reachable_by_name(addresses: list[str]) -> list[str]:
    """The addresses with a known host name. Raises JoinRefused if there is none."""
    unknown = unknown_hosts(addresses)
    known = [address for address in addresses if address not in unknown]
    if not known:
        raise JoinRefused("no-such-host", "; ".join(unknown.values()))
    return known


def _key_path(key: str | os.PathLike[str]) -> Path:
    if not isinstance(key, str | os.PathLike) or not isinstance(os.fspath(key), str):
        raise TypeError(
            f"key must be the path of a key file, a token or a stealmesh.Key, not {type(key).__name__}"
        )
    text = os.fspath(key)
    if not text.strip():
        raise ValueError("key is an empty text: leave it out for the user's own key")
    if text.lstrip().startswith(TOKEN_PREFIX):
        raise ValueError("key is a token: give it as the address instead, without key=")
    if text.lstrip().startswith(KEY_PREFIX):
        raise ValueError("key is the inside of a key file: give the file's path")
    return Path(os.path.expanduser(text))
