"""A scheduler for dask: every collection (arrays, frames, bags, delayed values) computed on a mesh.

    with stealmesh.Mesh() as mesh:
        x.compute(scheduler=stealmesh.dask.scheduler(mesh))

Decides which tasks of a graph travel together: small graphs task by task, of large ones groups of neighbours,
so that ten thousand tiny tasks are a few hundred calls. Groups wait for each other as futures do that are
arguments. Refuses to know where calls run. dask is not among our dependencies: a program that imports this
file has it.

Idea: a task joins the group of its inputs if they are all in one, as Sarkar's internalization (1989) does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dask._task_spec import GraphNode, convert_legacy_graph
from dask.core import flatten
from dask.order import order

from stealmesh.mesh import Mesh

GROUPS_A_WORKER = 16
"""About how many groups a graph is cut into. More: a better balance if tasks differ much, more calls."""

Graph = dict[Hashable, GraphNode]


def scheduler(mesh: Mesh) -> Callable[..., Any]:
    """What `compute(scheduler=...)` and `dask.config.set(scheduler=...)` take.

    The exception of a task is raised as it is. What was not computed then is cancelled.
    """

    def get(dsk: Any, keys: Any, **settings: Any) -> Any:
        del settings  # of other schedulers: num_workers, pool, optimize_graph
        return compute(mesh, dsk, keys)

    return get


def compute(mesh: Mesh, dsk: Any, keys: Any) -> Any:
    """The values of these keys of a graph, in the same nested lists."""
    if hasattr(dsk, "__dask_graph__"):
        dsk = dsk.__dask_graph__()  # an expression that is not made into a graph yet
    graph: Graph = convert_legacy_graph(dsk)
    wanted = set(flatten([keys]))
    calls: dict[int, Any] = {}
    groups = grouped(graph, mesh._max_workers * GROUPS_A_WORKER)
    place = {key: group for group in groups for key in group.nodes}
    told = _asked_from_outside(groups, place, wanted)
    try:
        for number, group in enumerate(groups):
            inputs = [
                (calls[other.number], needed) for other, needed in _inputs_of(group, place).items()
            ]
            group.number = number
            calls[number] = mesh.submit(
                run_group, list(group.nodes.values()), told[id(group)], inputs
            )
        values = {
            key: value
            for group in groups
            if wanted.intersection(told[id(group)])
            for key, value in calls[group.number].result().items()
        }
    except BaseException:
        for call in calls.values():
            call.cancel()
        raise
    return _in_lists(keys, values)


@dataclass(eq=False)
class Group:
    """Tasks that run as one call, in this order."""

    nodes: Graph = field(default_factory=dict)
    number: int = -1


def grouped(graph: Graph, wanted: int) -> list[Group]:
    """Cut a graph into about `wanted` groups, each after those that it needs.

    A task joins the group of its inputs if that is one group. So no two groups need each other.
    """
    size = max(1, -(-len(graph) // wanted))
    ranks = order(graph)
    groups: list[Group] = []
    place: dict[Hashable, Group] = {}
    leaves: Group | None = None
    for key in sorted(graph, key=ranks.__getitem__):
        node = graph[key]
        needed = {id(place[each]): place[each] for each in node.dependencies if each in place}
        if not needed:
            if leaves is None or len(leaves.nodes) >= size:
                leaves = Group()
                groups.append(leaves)
            group = leaves
        elif len(needed) == 1 and len(next(iter(needed.values())).nodes) < 2 * size:
            (group,) = needed.values()
        else:
            group = Group()
            groups.append(group)
        group.nodes[key] = node
        place[key] = group
    return groups


def run_group(
    nodes: list[GraphNode], told: list[Hashable], inputs: list[tuple[dict[Any, Any], list[Any]]]
) -> dict[Hashable, Any]:
    """In a worker: all tasks of a group. Returns the values that others want."""
    values = {key: found[key] for found, keys in inputs for key in keys}
    for node in nodes:
        values[node.key] = node(values)
    return {key: values[key] for key in told}


def _inputs_of(group: Group, place: dict[Hashable, Group]) -> dict[Group, list[Hashable]]:
    """What a group needs of each other group."""
    needed: dict[Group, list[Hashable]] = {}
    for node in group.nodes.values():
        for key in node.dependencies:
            other = place[key]
            if other is not group and key not in needed.setdefault(other, []):
                needed[other].append(key)
    return needed


def _asked_from_outside(
    groups: Iterable[Group], place: dict[Hashable, Group], wanted: set[Hashable]
) -> dict[int, list[Hashable]]:
    asked: dict[Hashable, None] = dict.fromkeys(wanted)
    for group in groups:
        for needed in _inputs_of(group, place).values():
            asked.update(dict.fromkeys(needed))
    return {id(group): [key for key in group.nodes if key in asked] for group in groups}


def _in_lists(keys: Any, values: dict[Hashable, Any]) -> Any:
    if isinstance(keys, list):
        return [_in_lists(each, values) for each in keys]
    return values[keys]
