"""An executor of parsl's on a mesh, and a plugin for pytest (`-p with_parsl --config with_parsl.py`) that runs
parsl's own tests on it.

Decides how a mesh is given to parsl, and which of its tests cannot mean one, each with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from parsl.config import Config
from parsl.executors.base import ParslExecutor
from parsl.executors.errors import InvalidResourceSpecification
from parsl.utils import RepresentationMixin

import stealmesh

NOT_MEANT = {
    "test_resource": "lists the classes of parsl's own executors that may refuse resources",
}
"""Test → why it cannot mean a mesh."""


class MeshExecutor(ParslExecutor, RepresentationMixin):  # type: ignore[misc]  # parsl has no types
    """What parsl submits runs on the workers of a local mesh."""

    def __init__(self, label: str = "mesh", workers: int = 2) -> None:
        super().__init__()
        self.label = label
        self.workers = workers
        self.working_dir: str | None = None
        self.storage_access: list[Any] | None = None

    def start(self) -> None:
        self.mesh = stealmesh.Mesh(workers=self.workers)

    def submit(
        self,
        func: Callable[..., Any],
        resource_specification: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Future[Any]:
        if resource_specification:
            names = set(resource_specification)
            raise InvalidResourceSpecification(names, "a mesh knows no resources of parsl's")
        return self.mesh.submit(func, *args, **kwargs)

    def shutdown(self) -> None:
        self.mesh.shutdown()
        super().shutdown()


def fresh_config() -> Config:
    return Config(executors=[MeshExecutor()], strategy="none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        why = NOT_MEANT.get(getattr(item, "originalname", ""))
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
