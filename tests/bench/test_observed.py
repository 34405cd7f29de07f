"""What is written so that a mesh can be looked at, by count: the part of `stealmesh_bench.observed` that needs no
valgrind."""

from __future__ import annotations

import json

import pytest

from stealmesh_bench.observed import child

TASKS = 300


@pytest.mark.parametrize("kind", ["submit", "map"])
def test_a_chunk_has_one_entry_in_a_ring_and_two_lines_in_the_story(kind: str) -> None:
    told, _ = child(kind, "--tasks", str(TASKS), "--writes", counted=False)
    writes = json.loads(told)
    chunks = writes["Rings.ran"]
    assert chunks == TASKS if kind == "submit" else TASKS // 10 < chunks <= TASKS
    assert writes.get("Journal.tell", 0) <= 2 * chunks + 30
    rare = sum(writes.get(name, 0) for name in ("Rings.note", "Rings.often", "Counters.count"))
    assert rare < 100, "joining, and steals that brought nothing: not for each chunk"


@pytest.mark.parametrize("kind", ["submit", "map"])
def test_it_ends_without_anything_written(kind: str) -> None:
    told, _ = child(kind, "--tasks", str(TASKS), counted=False)
    assert float(told) > 0
