"""One node for all that does not end it, and one of its own for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.place import HonestJob, Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The node that most rows of a file attack, one after the other. (Without `__init__.py` a package's fixture lives to
    the end of the session, and its links come and go beside tests that count descriptors or garbage.)"""
    attacked = Place(tmp_path_factory.mktemp("hostile"), rigged=("unpickling",))
    try:
        yield attacked
    finally:
        attacked.close()


@pytest.fixture
def beside(place: Place) -> Iterator[HonestJob]:
    """An honest job beside the attack; at the end the node must be unharmed."""
    with place.unharmed() as job:
        yield job


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """`fresh(...)`: a node of its own, for what changes its surroundings or ends it."""
    places: list[Place] = []

    def make(*options: str, **more: Any) -> Place:
        places.append(Place(tmp_path, *options, name=f"fresh{len(places)}", **more))
        return places[-1]

    try:
        yield make
    finally:
        for each in places:
            each.close()
