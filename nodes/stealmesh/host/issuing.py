"""Making tokens from a mesh key: lesser ones for programs that only submit or look.

Decides what a token holds. Refuses to know how it is written down (guest_key.py) and what its role allows. No node
is told of a new token: its seal is proof enough.
"""

from __future__ import annotations

import time

from stealmesh.host.guest_key import GuestKey
from stealmesh.host.security import MeshKey
from stealmesh.transport.keys import role_secret, servers_of
from stealmesh_protocol.passes import KeyRole, Pass, PassSecrets, barred, is_name, sealed

WORKERS_NAME = "worker"
"""The name of the tokens with which workers submit what their tasks submit."""


def issued(key: MeshKey, role: KeyRole, name: str, expires: float = 0.0) -> GuestKey:
    """A token of this role. Raises ValueError for what can be no name."""
    if not is_name(name):
        raise ValueError(
            f"{name!r} is no name for a token: use 1 to 64 letters, digits, dots, dashes and underscores"
        )
    told = Pass(role, name, expires)
    return GuestKey(
        told,
        sealed(pass_secret(key), told),
        role_secret(key, role),
        servers_of(key, time.time()),
        key.mesh_id(),
        bytes.fromhex(key.fingerprint()),
    )


def pass_secret(key: MeshKey) -> bytes:
    """With this passes are sealed."""
    return key.derive("passes")


def pass_secrets(key: MeshKey) -> PassSecrets:
    """With these passes may be sealed that nodes take."""
    keys = (key, key.before())
    return tuple((each.fingerprint(), pass_secret(each)) for each in keys if each is not None)


def barred_names(key: MeshKey, name: str) -> list[str]:
    """What the tokens of this name are called when they count no more."""
    return sorted(barred(name, mark) for mark, _ in pass_secrets(key))
