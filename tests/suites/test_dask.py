"""Graphs of dask's on a mesh. Run where dask is (`make suites`)."""

from __future__ import annotations

import operator
import random
from typing import Any

import pytest

dask = pytest.importorskip("dask", reason="dask is an extra: make suites has it")

from dask._task_spec import DataNode, List, Task, TaskRef  # noqa: E402

import stealmesh  # noqa: E402
from stealmesh.dask import compute, grouped, scheduler  # noqa: E402

pytestmark = pytest.mark.real


def add(values: list[int]) -> int:
    return sum(values)


def fail(value: int) -> None:
    raise KeyError(value)


def random_graph(seed: int) -> tuple[dict[Any, Any], dict[Any, int]]:
    """Tasks that add up earlier ones, and what each is."""
    chance = random.Random(seed)
    graph: dict[Any, Any] = {("data", n): DataNode(("data", n), n) for n in range(5)}
    right: dict[Any, int] = {key: key[1] for key in graph}
    for n in range(400):
        among = chance.sample(list(right), chance.choice([0, 1, 1, 2, 2, 5]))
        key = ("task", n)
        graph[key] = Task(key, add, List(n, *map(TaskRef, among)))
        right[key] = n + sum(right[each] for each in among)
    return graph, right


@pytest.mark.parametrize("wanted", [1, 8, 1000])
def test_groups_hold_each_task_once_and_never_need_each_other(wanted: int) -> None:
    for seed in range(20):
        graph, _ = random_graph(seed)
        groups = grouped(graph, wanted)
        place = {key: at for at, group in enumerate(groups) for key in group.nodes}
        assert sorted(map(str, place)) == sorted(map(str, graph))
        assert sum(len(group.nodes) for group in groups) == len(graph)
        for group in groups:
            seen: set[Any] = set()
            for key, node in group.nodes.items():
                for needed in node.dependencies:
                    assert place[needed] <= place[key], "a group comes after those that it needs"
                    assert place[needed] < place[key] or needed in seen
                seen.add(key)


def test_random_graphs_are_what_they_are_one_by_one() -> None:
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        for seed in range(10):
            graph, right = random_graph(seed)
            keys = random.Random(seed).sample(list(graph), 20)
            assert compute(mesh, graph, [keys, keys[0]]) == [
                [right[k] for k in keys],
                right[keys[0]],
            ]


def test_collections_and_errors() -> None:
    with stealmesh.Mesh(workers=2) as mesh, dask.config.set(scheduler=scheduler(mesh)):
        leaves = [dask.delayed(operator.add)(n, 1) for n in range(300)]
        assert dask.delayed(add)(leaves).compute() == sum(range(301))
        with pytest.raises(KeyError):
            dask.delayed(add)([dask.delayed(fail)(3)]).compute()
        assert dask.delayed(add)([1, 2]).compute() == 3, "an error leaves nothing behind"
