"""Random programs run on a mesh as they do on threads. The long version: `python -m stealmesh_bench.model`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import stealmesh
from stealmesh_bench import model

pytestmark = pytest.mark.real

PROGRAMS = 300
AT_ONCE = 50


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    logging.disable(logging.CRITICAL)  # callbacks raise on purpose
    with stealmesh.Mesh(workers=2) as running:
        yield running
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, PROGRAMS, AT_ONCE))
def test_random_programs_observe_the_same_as_on_threads(first: int, mesh: stealmesh.Mesh) -> None:
    for seed in range(first, first + AT_ONCE):
        found = model.differences(seed, mesh)
        assert not found, f"{found}; again: {model.replay(seed)}"


@pytest.mark.parametrize("seed", range(1000, 1008))
def test_and_so_does_their_shutdown(seed: int) -> None:
    found = model.differences(seed, None)
    assert not found, f"{found}; alone: model.differences({seed}, None)"


def test_the_model_sees_an_executor_that_breaks_its_contract(
    mesh: stealmesh.Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mesh whose `cancel` lies, or that computes something else, is found at once."""

    def lies(self: Future[Any]) -> bool:
        return True

    with monkeypatch.context() as patch:
        patch.setattr(stealmesh.Future, "cancel", lies)
        assert any(model.differences(seed, mesh) for seed in range(20))
    submit = mesh.submit
    with monkeypatch.context() as patch:
        patch.setattr(mesh, "submit", lambda function, *args, **more: submit(pow, 2, 3))
        assert any(model.differences(seed, mesh) for seed in range(5))
