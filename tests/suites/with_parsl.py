"""A plugin for pytest (`-p with_parsl --config with_parsl.py`): parsl's own tests on the executor of a mesh.

Decides which of its tests cannot mean one, each with its reason.
"""

from __future__ import annotations

import pytest
from parsl.config import Config

from stealmesh.parsl import StealmeshExecutor

NOT_MEANT = {
    "test_resource": "lists the classes of parsl's own executors that may refuse resources",
}
"""Test → why it cannot mean a mesh."""


def fresh_config() -> Config:
    return Config(executors=[StealmeshExecutor(settings={"workers": 2})], strategy="none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        why = NOT_MEANT.get(getattr(item, "originalname", ""))
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
