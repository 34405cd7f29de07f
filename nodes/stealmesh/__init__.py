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
    from stealmesh.client.actors import Actor
    from stealmesh.client.durable_job import Job
    from stealmesh.futures import Future
    from stealmesh.host.identity import VERSION as __version__  # noqa: N811  the name is Python's
    from stealmesh.host.security import MeshKey as Key
    from stealmesh.mesh import Mesh
    from stealmesh.nested.mesh import here
    from stealmesh.refs import Ref
    from stealmesh.tasks import each, vectorized
    from stealmesh.workers.reporting import report
    from stealmesh_engine.config import Config
    from stealmesh_protocol.errors import (
        ActorDied,
        CannotLoad,
        CannotShip,
        CannotStart,
        Defer,
        JobLost,
        JobRefused,
        JoinRefused,
        LocalProtocolError,
        MeshClosed,
        MeshError,
        NotAllowed,
        NotRegistered,
        OtherVersionWarning,
        ProtocolError,
        RemoteProtocolError,
        ResourcesMissing,
        StoreFull,
        TaskFailed,
        TaskOutOfMemory,
        TaskStopped,
        TaskTimeout,
        ValueLost,
        WorkerDied,
    )

_ERRORS = "stealmesh_protocol.errors"
_PLACES = {
    "Actor": ("stealmesh.client.actors", "Actor"),
    "Mesh": ("stealmesh.mesh", "Mesh"),
    "Future": ("stealmesh.futures", "Future"),
    "Ref": ("stealmesh.refs", "Ref"),
    "Job": ("stealmesh.client.durable_job", "Job"),
    "Config": ("stealmesh_engine.config", "Config"),
    "Key": ("stealmesh.host.security", "MeshKey"),
    "each": ("stealmesh.tasks", "each"),
    "here": ("stealmesh.nested.mesh", "here"),
    "report": ("stealmesh.workers.reporting", "report"),
    "vectorized": ("stealmesh.tasks", "vectorized"),
    "__version__": ("stealmesh.host.identity", "VERSION"),
}
"""Name → (module, name there). All other names are errors."""

__all__ = [
    "Actor",
    "ActorDied",
    "CannotLoad",
    "CannotShip",
    "CannotStart",
    "Config",
    "Defer",
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
    "NotAllowed",
    "NotRegistered",
    "OtherVersionWarning",
    "ProtocolError",
    "Ref",
    "RemoteProtocolError",
    "ResourcesMissing",
    "TaskFailed",
    "StoreFull",
    "TaskOutOfMemory",
    "TaskStopped",
    "TaskTimeout",
    "ValueLost",
    "WorkerDied",
    "__version__",
    "each",
    "here",
    "report",
    "vectorized",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'stealmesh' has no attribute {name!r}")
    module, attribute = _PLACES.get(name, (_ERRORS, name))
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
