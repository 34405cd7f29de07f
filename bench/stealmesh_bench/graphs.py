"""Work that depends on work: a chain, the stencil of Task Bench, a tree, a fan, and what a waiting task weighs.

`python -m stealmesh_bench.graphs [chain|stencil|tree|fan|memory …]`. The stencil is that of Task Bench (Slaughter
et al., SC20): each of 2 × workers columns needs its neighbours of the step before, and METG(50 %) is measured as
in `metg.py`. All graphs are submitted whole, as fast as the program can. Refuses to know peers.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any

import stealmesh
from stealmesh_bench.metg import Point, crossing, curve

PATIENCE_SECONDS = 600.0
START_SECONDS = 0.004


def grown(value: int, *more: int) -> int:
    return value + 1


def added(*values: int) -> int:
    return sum(values)


def cell(seconds: float, *inputs: float) -> float:
    """Spin by the clock. Returns how long it was."""
    begun = perf_counter()
    while perf_counter() - begun < seconds:
        pass
    return perf_counter() - begun


def chain(mesh: stealmesh.Mesh, length: int) -> float:
    """Links a second."""
    begun = perf_counter()
    last = mesh.submit(grown, 0)
    for _ in range(length - 1):
        last = mesh.submit(grown, last)
    assert last.result(PATIENCE_SECONDS) == length
    return length / (perf_counter() - begun)


def tree(mesh: stealmesh.Mesh, leaves: int) -> float:
    """Tasks a second."""
    begun = perf_counter()
    level = [mesh.submit(grown, at) for at in range(leaves)]
    tasks = leaves
    while len(level) > 1:
        level = [mesh.submit(added, *level[at : at + 2]) for at in range(0, len(level), 2)]
        tasks += len(level)
    assert level[0].result(PATIENCE_SECONDS) == leaves * (leaves + 1) // 2
    return tasks / (perf_counter() - begun)


def fan(mesh: stealmesh.Mesh, width: int) -> float:
    """Tasks a second: 1 → width → 1."""
    begun = perf_counter()
    first = mesh.submit(grown, 0)
    middle = [mesh.submit(grown, first) for _ in range(width)]
    last = mesh.submit(added, *middle)
    assert last.result(PATIENCE_SECONDS) == 2 * width
    return (width + 2) / (perf_counter() - begun)


def stencil(mesh: stealmesh.Mesh, workers: int, steps: int, seconds: float) -> float:
    """The efficiency: what tasks say that they took, divided by workers × wall time."""
    width = 2 * workers
    gc.collect()
    begun = perf_counter()
    row = [mesh.submit(cell, seconds) for _ in range(width)]
    cells = list(row)
    for _ in range(steps - 1):
        row = [mesh.submit(cell, seconds, *row[max(0, at - 1) : at + 2]) for at in range(width)]
        cells += row
    busy = sum(each.result(PATIENCE_SECONDS) for each in cells)
    return busy / (workers * (perf_counter() - begun))


def metg(nodes: int, steps: int) -> tuple[float | None, list[Point]]:
    with stealmesh.Mesh(nodes=nodes, workers=1) as mesh:
        stencil(mesh, nodes, 5, 0.001)  # all is up, and the cost of a cell is known
        points = curve(lambda seconds: stencil(mesh, nodes, steps, seconds), START_SECONDS)
    return crossing(points), points


def memory(waiting: int) -> tuple[float, float]:
    """Octets of this process a pending task without an input, and with one that is not there."""
    with stealmesh.Mesh(nodes=1, workers=1) as mesh:
        gate = mesh.submit(time.sleep, PATIENCE_SECONDS)
        while not gate.running():
            mesh.status()
        alone = _octets_each(lambda: mesh.submit(grown, [0]), waiting)
        last: Any = gate

        def follow() -> Any:
            nonlocal last
            last = mesh.submit(added, last)
            return last

        one = _octets_each(follow, waiting)
        gate.stop()
        mesh.shutdown(wait=False, cancel_futures=True)
    return alone, one


def _octets_each(submit: Callable[[], Any], count: int) -> float:
    kept = [submit() for _ in range(count // 10)]
    _settle()
    before = _resident()
    kept += [submit() for _ in range(count)]
    _settle()
    grown_by = _resident() - before
    assert len(kept) > count
    return (grown_by - 8 * count) / count


def _settle() -> None:
    """Until the driver's thread has taken what was submitted."""
    time.sleep(3.0)
    gc.collect()


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["chain", "tree", "fan", "stencil", "memory"])
    parser.add_argument("--length", type=int, default=10_000)
    parser.add_argument("--leaves", type=int, default=1 << 14)
    parser.add_argument("--width", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--nodes", type=int, nargs="*", default=[2, 8])
    parser.add_argument("--waiting", type=int, default=50_000)
    asked = parser.parse_args()
    shapes: dict[str, Callable[[stealmesh.Mesh], tuple[str, float]]] = {
        "chain": lambda mesh: ("links/s", chain(mesh, asked.length)),
        "tree": lambda mesh: ("tasks/s", tree(mesh, asked.leaves)),
        "fan": lambda mesh: ("tasks/s", fan(mesh, asked.width)),
    }
    for what in asked.what:
        if what in shapes:
            with stealmesh.Mesh(nodes=1, workers=2) as mesh:
                mesh.submit(grown, 0).result(PATIENCE_SECONDS)
                unit, figure = shapes[what](mesh)
            print(f"{what}: {figure:,.0f} {unit}", flush=True)
        elif what == "stencil":
            for nodes in asked.nodes:
                found, points = metg(nodes, asked.steps)
                told = "not found" if found is None else f"{found * 1e3:.3f} ms"
                print(f"stencil, {nodes} nodes: METG(50 %) {told}", flush=True)
                print("  " + "; ".join(f"{s * 1e3:.3f} ms {100 * e:.0f} %" for s, e in points))
        elif what == "memory":
            alone, one = memory(asked.waiting)
            print(f"memory: {alone:.0f} octets a pending task, {one:.0f} with one dependency")


if __name__ == "__main__":
    main()
