"""`map` of a `vectorized` function over futures, and `gather` with two values instead of a structure."""

from __future__ import annotations

from typing import Any

import pytest

import stealmesh


@stealmesh.vectorized
def more(items: list[int]) -> list[int]:
    return [item + 1 for item in items]


def maps_inside() -> list[int]:
    mesh = stealmesh.here()
    return list(mesh.map(more, [mesh.submit(abs, item) for item in range(3)]))  # type: ignore[arg-type]


@pytest.mark.real
def test_each_item_is_a_chunk_of_its_own() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        futures = [mesh.submit(abs, item) for item in range(3)]
        mapped: list[Any] = list(mesh.map(more, futures))
        assert mapped == [1, 2, 3]
        assert mesh.submit(maps_inside).result(60) == [1, 2, 3]


@pytest.mark.real
def test_two_values_are_no_structure() -> None:
    with stealmesh.Mesh(workers=1) as mesh:
        one, two = mesh.scatter("a"), mesh.scatter("b")
        with pytest.raises(TypeError, match=r"gather\(\[a, b\]\)"):
            mesh.gather(one, two)  # type: ignore[arg-type]
        assert mesh.gather([one, two]) == ["a", "b"]
