"""Stealmesh: map a function over a billion items on many machines, with nothing in the middle.

    import stealmesh

    with stealmesh.Mesh() as mesh:
        mesh.submit(pow, 2, 10).result()
        sum(mesh.map(is_prime, range(1_000_000)))

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stealmesh.futures import Future
    from stealmesh.host.identity import VERSION as __version__  # noqa: N811  the name is Python's
    from stealmesh.host.security import MeshKey as Key
    from stealmesh.mesh import Mesh
    from stealmesh.tasks import each, vectorized
    from stealmesh_engine.config import Config
    from stealmesh_protocol.errors import (
        CannotShip,
        CannotStart,
        JobLost,
        JoinRefused,
        LocalProtocolError,
        MeshClosed,
        MeshError,
        NotRegistered,
        OtherVersionWarning,
        ProtocolError,
        RemoteProtocolError,
        TaskStopped,
        TaskTimeout,
        WorkerDied,
    )

_HOMES = {
    "Mesh": "stealmesh.mesh",
    "Future": "stealmesh.futures",
    "Job": "stealmesh.client.durable_job",
    "Config": "stealmesh_engine.config",
    "each": "stealmesh.tasks",
    "vectorized": "stealmesh.tasks",
    **dict.fromkeys(
        (
            "CannotLoad",
            "CannotShip",
            "CannotStart",
            "JobLost",
            "JobRefused",
            "JoinRefused",
            "LocalProtocolError",
            "MeshClosed",
            "MeshError",
            "NotRegistered",
            "OtherVersionWarning",
            "ProtocolError",
            "RemoteProtocolError",
            "TaskFailed",
            "TaskStopped",
            "TaskTimeout",
            "WorkerDied",
        ),
        "stealmesh_protocol.errors",
    ),
}

__all__ = [
    "CannotLoad",
    "CannotShip",
    "CannotStart",
    "Config",
    "Future",
    "Job",
    "JobLost",
    "JobRefused",
    "JoinRefused",
    "Key",
    "LocalProtocolError",
    "Mesh",
    "MeshClosed",
    "MeshError",
    "NotRegistered",
    "OtherVersionWarning",
    "ProtocolError",
    "RemoteProtocolError",
    "TaskFailed",
    "TaskStopped",
    "TaskTimeout",
    "WorkerDied",
    "__version__",
    "each",
    "vectorized",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        return importlib.import_module("stealmesh.host.identity").VERSION
    if name == "Key":
        return importlib.import_module("stealmesh.host.security").MeshKey
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stealmesh' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
