"""An executor for Parsl: apps run on the workers of a mesh.

    parsl.load(Config(executors=[stealmesh.parsl.StealmeshExecutor(address="tcp://10.0.0.5:7077")]))

Decides how Parsl's requests become calls: what a resource specification may ask for. Refuses to know where
calls run. Parsl is not among our dependencies: a program that imports this file has it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from parsl.executors.base import ParslExecutor
from parsl.executors.errors import InvalidResourceSpecification
from parsl.utils import RepresentationMixin

from stealmesh.mesh import Mesh

ASKS_FOR = ("priority", "max_parallel", "resources", "timeout")
"""What `parsl_resource_specification` may say; the words are those of `Mesh.options`."""


class StealmeshExecutor(ParslExecutor, RepresentationMixin):  # type: ignore[misc]  # parsl has no types
    """What Parsl submits runs on a mesh.

    Arguments:
        label: the name by which apps ask for this executor.
        address: a running mesh, as for `Mesh`; None: a local mesh that lives as long as the executor.
        settings: further arguments of `Mesh`, such as `nodes` and `workers`.
    """

    def __init__(
        self,
        label: str = "stealmesh",
        address: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.label = label
        self.address = address
        self.settings = settings
        self.working_dir: str | None = None
        self.storage_access: list[Any] | None = None
        self._mesh: Mesh | None = None

    def start(self) -> None:
        self._mesh = Mesh(self.address, **(self.settings or {}))

    def submit(
        self,
        func: Callable[..., Any],
        resource_specification: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Future[Any]:
        """Raises InvalidResourceSpecification for what a mesh does not know."""
        assert self._mesh is not None, "Parsl starts an executor before it submits"
        unknown = set(resource_specification) - set(ASKS_FOR)
        if unknown:
            raise InvalidResourceSpecification(
                unknown, f"a mesh knows {', '.join(ASKS_FOR)}, as in Mesh.options"
            )
        if not resource_specification:
            return self._mesh.submit(func, *args, **kwargs)
        return self._mesh.options(**resource_specification).submit(func, *args, **kwargs)

    def shutdown(self) -> None:
        if self._mesh is not None:
            self._mesh.shutdown()
        super().shutdown()
