"""Refs that tasks make and return, in one process: what travels, what stays, and what is refused."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest

import stealmesh
from stealmesh import refs
from stealmesh.nested import task_values
from stealmesh.values.parts import opened
from stealmesh.values.together import Together, one_of
from stealmesh.workers.lending import lent
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip, ValueLost

from .test_nested import as_task

NAME = b"n" * 24


def made_of(together: Together) -> memoryview:
    octets = bytearray(together.octets)
    for at, part in together:
        octets[at : at + len(part)] = part
    return memoryview(octets)


def test_values_lie_together_and_a_place_is_one_of_them() -> None:
    octets = made_of(Together([memoryview(b"one"), memoryview(b""), memoryview(b"x" * 1000)]))
    assert [bytes(one_of(octets, place)) for place in range(3)] == [b"one", b"", b"x" * 1000]
    for wrong, place in ((octets, 3), (octets[:100], 2), (octets[8:], 0), (octets[:0], 0)):
        with pytest.raises(ValueLost, match="returned something else"):
            one_of(wrong, place)


def test_a_result_travels_with_names_of_what_stays() -> None:
    one, other = task_values.HERE.scatter("a", None), task_values.HERE.scatter("b", None)
    foreign = refs.ref_of(b"f" * 24, 7)
    together, packed = lent(NAME, {"refs": [one, other, one], "not": foreign})
    assert together is not None
    found = vx.unpack(*vx.pack(packed))
    first, second, again = found["refs"]
    assert (first.value, first.place, first == again, first == second) == (NAME, 0, True, False)
    assert [opened(one_of(made_of(together), ref.place)) for ref in found["refs"]] == [
        "a",
        "b",
        "a",
    ]
    assert found["not"] == foreign, "the program's own Ref comes back as it is"
    assert lent(NAME, {"plain": foreign}) == (None, None)


def test_a_tasks_ref_leaves_by_known_ways_only() -> None:
    ref = task_values.HERE.scatter([1], None)
    for value in (ref, ref.closed()):
        with pytest.raises(TypeError, match="lives in the task's own process"):
            pickle.dumps(value)
    with pytest.raises(CannotShip, match="lives in the task's own process"):
        refs.noting(lambda: vx.pack(ref))
    assert copy.deepcopy([ref])[0] is copy.copy(ref) is ref


def test_values_go_with_their_last_ref() -> None:
    gc.collect()
    before = len(task_values.HERE.shelf)
    ref: Any = task_values.HERE.scatter(bytearray(1 << 20), None)
    circle: list[Any] = [ref]
    circle.append(circle)
    assert len(task_values.HERE.shelf) == before + 1
    del ref
    task_values.HERE.tidy()
    assert len(task_values.HERE.shelf) == before + 1, "it is needed"
    del circle
    task_values.HERE._kept = 0  # as if nothing had been left before
    task_values.HERE.tidy()
    assert len(task_values.HERE.shelf) == before


def test_a_child_gets_what_a_ref_stands_for() -> None:
    def parent() -> list[Any]:
        here = stealmesh.here()
        ref, held = here.scatter([1, 2]), [7]
        return [
            here.submit(lambda value, other: (value, other is held), ref, held).result(),
            here.submit(lambda value: type(value) is stealmesh.Ref, ref.closed()).result(),
            here.submit(lambda one, two: one is two, ref, ref).result(),
        ]

    assert as_task(parent) == [([1, 2], True), True, False]
