"""Random programs of tasks inside tasks: each is what it is when its calls run one after the other."""

from __future__ import annotations

import concurrent.futures
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import pytest

import stealmesh
from stealmesh.workers import present

PATIENCE = 60


def as_task(fn: Callable[..., Any], *args: Any) -> Any:
    """What the loop makes of an item: its value, or its exception."""
    one = present.begins([])
    try:
        value = fn(*args)
    except BaseException:
        present.item_failed()
        raise
    finally:
        one.ends()
        present.PRESENT.set(None)
    return value


class Boom(Exception):
    pass


@dataclass
class Program:
    """A tree of tasks of random shape."""

    number: int
    style: str
    children: list[Program]
    fails: bool = False


STYLES = ["ordered", "reversed", "wait", "completed", "map", "reduce", "inputs", "left", "timeout"]


def program(random: Random, size: list[int], depth: int = 0) -> Program:
    size[0] -= 1
    made = Program(size[0], random.choice(STYLES), [])
    while size[0] > 0 and depth < 12 and random.random() < 0.75:
        made.children.append(program(random, size, depth + 1))
    made.fails = not made.children and random.random() < 0.08
    return made


def evaluate(tree: Program, runs: list[int]) -> int:
    """One after the other. A task takes its children's failures as -1, or (inputs, map) fails by them."""
    runs.append(tree.number)
    if tree.fails:
        raise Boom(tree.number)
    total = tree.number
    strict: Boom | None = None
    for child in tree.children:
        try:
            total += evaluate(child, runs)
        except Boom as error:
            strict = strict or error
            total -= 1
    if tree.style in ("map", "reduce", "inputs") and strict is not None:
        raise strict
    return 7 if tree.style == "left" else total


def nested(tree: Program, runs: list[int]) -> int:
    runs.append(tree.number)
    if tree.fails:
        raise Boom(tree.number)
    mesh, children = stealmesh.here(), tree.children
    if tree.style == "map":
        return sum(mesh.map(nested, children, [runs] * len(children)), tree.number)
    if tree.style == "reduce":
        call = partial(nested, runs=runs)
        return int(mesh.map_reduce(call, children, operator.add, initial=tree.number).result())
    futures = [mesh.submit(nested, child, runs) for child in children]
    if tree.style == "inputs":
        return int(mesh.submit(_sum, futures, tree.number).result())
    if tree.style == "left":
        return 7
    if tree.style == "wait":
        assert not concurrent.futures.wait(futures, PATIENCE).not_done
    if tree.style == "completed":
        return tree.number + sum(map(_value, concurrent.futures.as_completed(futures)))
    if tree.style == "timeout":
        return tree.number + sum(_value(each, PATIENCE) for each in futures)
    if tree.style == "reversed":
        futures.reverse()
    return tree.number + sum(map(_value, futures))


def _sum(numbers: list[int], first: int) -> int:
    return sum(numbers, first)


def _value(future: Any, timeout: float | None = None) -> int:
    try:
        return int(future.result(timeout))
    except Boom:
        return -1


def told(call: Callable[..., int], *args: Any) -> tuple[str, int]:
    try:
        return "returned", call(*args)
    except Boom as error:
        return "raised", error.args[0]


@pytest.mark.parametrize("seed", range(100))
def test_a_random_program_is_what_it_is_one_by_one(seed: int) -> None:
    tree = program(Random(seed), [60])
    expected: list[int] = []
    runs: list[int] = []
    one_by_one = told(evaluate, tree, expected)
    assert told(as_task, nested, tree, runs) == one_by_one
    assert len(runs) == len(set(runs)), "nothing runs twice"
    assert set(runs) <= set(expected)
    if one_by_one[0] == "returned" and "map" not in _styles(tree) and "reduce" not in _styles(tree):
        assert sorted(runs) == sorted(expected), "nothing is left out"


def _styles(tree: Program) -> set[str]:
    return {tree.style}.union(*map(_styles, tree.children))
