"""Large arrays between a program and the workers of its host: ``python -m stealmesh_bench.arrays``.

Shown: an array there, doubled by a task, and back (GB/s, both ways counted), and an array that is scattered once for
100 tasks (ms); medians of values that follow each other, as in a program that sends one after the other. Exit status 1
if one is worse than it should be.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from time import perf_counter

import numpy as np

from stealmesh import Mesh
from stealmesh_bench.stand import check

PACE_MIN = 3.0
SCATTERED_MAX = 30.0
TASKS = 100


def doubled(array: np.ndarray) -> np.ndarray:
    return array * 2


def element(array: np.ndarray, at: int) -> float:
    return float(array[at])


def pace(mesh: Mesh, array: np.ndarray) -> float:
    """GB/s there and back."""
    begun = perf_counter()
    back = mesh.submit(doubled, array).result()
    seconds = perf_counter() - begun
    check(back[0] == 2 * array[0] and back[-1] == 2 * array[-1], "another array came back")
    return 2e-9 * array.nbytes / seconds


def scattered(mesh: Mesh, array: np.ndarray) -> float:
    """Milliseconds."""
    begun = perf_counter()
    ref = mesh.scatter(array)
    futures = [mesh.submit(element, ref, at) for at in range(TASKS)]
    found = [future.result() for future in futures]
    seconds = perf_counter() - begun
    check(found == array[:TASKS].tolist(), "a task had another array")
    return 1e3 * seconds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.arrays", description=__doc__)
    parser.add_argument("--runs", type=int, default=13)
    parser.add_argument("--mebibytes", type=int, default=64)
    options = parser.parse_args(arguments)
    array = np.random.default_rng(1).random(options.mebibytes * 2**17)
    with Mesh(workers=2) as mesh:
        paces = []
        for each in range(options.runs):
            array[0] = array[-1] = each
            paces.append(pace(mesh, array))
        scatters = []
        for each in range(options.runs):
            array[0] = each
            scatters.append(scattered(mesh, array))
    print("GB/s", " ".join(f"{each:.2f}" for each in paces), f"median {median(paces):.2f}")
    print("ms", " ".join(f"{each:.1f}" for each in scatters), f"median {median(scatters):.1f}")
    return int(median(paces) < PACE_MIN or median(scatters) > SCATTERED_MAX)


if __name__ == "__main__":
    sys.exit(main())
