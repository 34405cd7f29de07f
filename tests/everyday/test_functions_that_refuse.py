"""What a function holds may raise anything when it is pickled. It ends neither the program nor a Ctrl-C."""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.running import run

import stealmesh

pytestmark = pytest.mark.real

PATIENCE = 120
ERRORS = [
    SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(),
    BaseExceptionGroup("several", [SystemExit(3)]), ValueError("plain"),
]  # fmt: skip


class Refuses:
    """`way`: the exception that it raises, or what it does instead."""

    def __init__(self, raises: Callable[[], Any]) -> None:
        self.raises = raises

    def __getstate__(self) -> Any:
        return self.raises()

    def __call__(self, *given: Any) -> Any:
        return given

    def method(self, *given: Any) -> Any:
        return given


def raising(error: BaseException) -> Refuses:
    def raises() -> Any:
        raise error

    return Refuses(raises)


def ways_to_hold(it: Refuses) -> dict[str, Callable[..., Any]]:
    def closure(x: int) -> Any:
        return it, x

    def default(x: int, held: Any = it) -> Any:
        return held, x

    return {
        "closure": closure,
        "default": default,
        "partial": functools.partial(operator.eq, it),
        "method": it.method,
        "itself": it,
    }


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


@pytest.mark.parametrize("way", ["closure", "default", "partial", "method", "itself"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_it_cannot_be_shipped(mesh: stealmesh.Mesh, way: str, error: BaseException) -> None:
    function = ways_to_hold(raising(error))[way]
    with pytest.raises(stealmesh.CannotShip, match=type(error).__name__) as told:
        mesh.submit(function, 1).result(PATIENCE)
    assert "Refuses" in str(told.value) or type(error) is ValueError
    with pytest.raises(stealmesh.CannotShip, match=type(error).__name__):
        mesh.map(function, [1])
    with pytest.raises(stealmesh.CannotShip, match=type(error).__name__):
        mesh.map_reduce(abs, [1], function)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_neither_can_what_an_actor_or_a_worker_begins_with(
    mesh: stealmesh.Mesh, error: BaseException
) -> None:
    with pytest.raises(stealmesh.CannotShip, match=type(error).__name__):
        mesh.scatter(raising(error))
    with pytest.raises(stealmesh.CannotShip, match=type(error).__name__):
        mesh.actor(Refuses, raising(error))
    with pytest.raises(stealmesh.CannotShip, match=type(error).__name__):
        stealmesh.Mesh(workers=1, initializer=raising(error)).shutdown()


@pytest.mark.parametrize("way", ["closure", "default", "partial", "method", "itself"])
def test_a_ctrl_c_meanwhile_is_one(mesh: stealmesh.Mesh, way: str) -> None:
    """It comes once. What the object raises by itself comes again."""
    pressed: list[int] = []

    def press() -> dict[str, Any]:
        if not pressed:
            pressed.append(1)
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        mesh.submit(ways_to_hold(Refuses(press))[way], 1)
    assert pressed


def test_a_global_that_refuses_is_made_from_the_text(tmp_path: Path) -> None:
    """As one that cannot be pickled for another reason; and a Ctrl-C meanwhile is one, too."""
    run(
        tmp_path,
        """
        import os, signal, stealmesh
        class Refuses:
            def __init__(self, error): self.error = error
            def __getstate__(self): raise self.error
        class Presses:
            pressed = 0
            def __getstate__(self):
                if not Presses.pressed:
                    Presses.pressed = 1
                    os.kill(os.getpid(), signal.SIGINT)
                return {}
        leaves, breaks, presses = Refuses(SystemExit(3)), Refuses(KeyboardInterrupt()), Presses()
        def exits(): return str(leaves.error), type(breaks.error).__name__
        def ctrl_c(): return type(presses).__name__
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                assert mesh.submit(exits).result() == ("3", "KeyboardInterrupt")
                try:
                    mesh.submit(ctrl_c)
                except KeyboardInterrupt:
                    pass
                else:
                    raise AssertionError("nobody heard it")
                assert mesh.submit(ctrl_c).result() == "Presses"
        """,
    )
