from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from stealmesh.values import warm

from .host import Host


class Gate:
    """A task enters and says so, and stays until it is let go."""

    def __init__(self, directory: Path) -> None:
        self._entered, self._exit = directory / "entered", directory / "exit"
        os.mkfifo(self._entered)
        os.mkfifo(self._exit)

    def task(self) -> Callable[[Any], Any]:
        entered, leave = str(self._entered), str(self._exit)

        def wait(x: Any) -> Any:
            with open(entered, "w") as file:
                file.write("in")
            with open(leave) as file:
                file.read()
            return x

        return wait

    def wait_until_entered(self) -> None:
        assert self._entered.read_text() == "in"

    def let_go(self) -> None:
        self._exit.write_text("out")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Workers cannot import a test module: its functions travel whole."""
    modules = [sys.modules[request.module.__name__], sys.modules[__name__]]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_kept_warm() -> Iterator[None]:
    """This process may have had values as a task has them, and has no driver that would tidy up behind them: the tests
    that count files later would find these."""
    yield
    warm.clear_all()


@pytest.fixture
def hosts() -> Iterator[Callable[..., Host]]:
    """Makes hosts, and closes them."""
    made: list[Host] = []

    def make(*args: Any, **options: Any) -> Host:
        host = Host(*args, **options)
        made.append(host)
        return host

    yield make
    for host in made:
        host.close()


@pytest.fixture
def host(hosts: Callable[..., Host]) -> Host:
    return hosts()
