"""Real packets between real hosts, or what passes for them; skipped where none can be made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.namespaces.net import Net, why_not
from tests.namespaces.scene import Scene

_reason = functools.cache(why_not)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[[int, int], Scene]]:
    """`stage(hosts, nodes)`: a network of that many hosts, with a node on each of the first ones."""
    if _reason():
        pytest.skip(f"no network of our own: {_reason()}")
    nets: list[Net] = []

    def build(hosts: int, nodes: int) -> Scene:
        nets.append(Net(hosts))
        return Scene(nets[-1], tmp_path, nodes)

    try:
        yield build
    finally:
        for net in nets:
            net.close()
