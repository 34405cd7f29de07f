"""The functions of a program in data-only mode: they travel by name, and nothing travels with them.

Stands where `functions.Shipper` stands for other programs. Decides what such a program cannot ask for, and says
so at the call. Refuses to know what is registered (`stealmesh.registered`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh.functions import Shipped, Shipper, Unchanging, module_names
from stealmesh.host.lifetime import any_living
from stealmesh.registered import Registry
from stealmesh.shipping.bundle import Bundle
from stealmesh_protocol.data_only import PICKLES, RUNTIME
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import digest_of


def shipper_for(functions: Any, initializer: Any) -> tuple[Shipper, list[str]]:
    """What ships the functions of a new mesh, and the modules that they come from. `functions`: as for `Mesh`.

    Raises ValueError for what does not go together, and what the modules raise when they are imported."""
    if functions is None:
        if PICKLES.on:
            raise ValueError(
                "functions: this program is in data-only mode since it made a mesh with functions=[...], and "
                "opens no mesh that sends code; give functions here, too, or use a program of its own"
            )
        return Shipper(), []
    if initializer is not None:
        raise ValueError("initializer: code that travels; a data-only mesh takes none")
    modules = list(module_names(functions))
    if not modules:
        raise ValueError("functions: name a module, as in functions=['mymodule']")
    registry = Registry(modules)
    if not PICKLES.on and any_living():
        raise ValueError(
            "functions: another mesh of this program sends code, and a program in data-only mode opens no "
            "pickles; shut that one down first, or use a program of its own"
        )
    PICKLES.forbid()
    return NamingShipper(registry), modules


NO_CODE = Bundle(b"", b"")


class NamingShipper(Shipper):
    """Names functions. Keeps nothing, so it has nothing to tidy."""

    by_name = True
    runtime = RUNTIME

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry

    def bundle(self, ship: tuple[str, ...] = (), no_ship: tuple[str, ...] = ()) -> Bundle:
        return NO_CODE

    def ship(
        self,
        function: Callable[..., Any],
        ship: tuple[str, ...] = (),
        no_ship: tuple[str, ...] = (),
    ) -> Shipped:
        """Raises NotRegistered, CannotShip."""
        if ship or no_ship:
            raise CannotShip("ship, no_ship: a data-only mesh gets no modules from programs")
        blob = self._registry.packed(function)
        return Shipped(function, Unchanging(), digest_of(blob), blob, NO_CODE)

    def refuses(self, what: str, instead: str) -> None:
        raise CannotShip(f"{what}: not in data-only mode, as it needs pickles; {instead}")
