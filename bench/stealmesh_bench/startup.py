"""From nothing: what an import costs, and how long a fresh interpreter takes to its first result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

from stealmesh_bench.compare import Plan, Values, alternate, rows
from stealmesh_bench.peers import POOL, PPE, STEALMESH
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import BenchError

IMPORTS = {
    # The package loads its parts when they are first named, so that is what is timed.
    STEALMESH: "from stealmesh import Mesh",
    PPE: "from concurrent.futures import ProcessPoolExecutor",
    POOL: "from multiprocessing import Pool; import multiprocessing.pool",
}
FIRST_RESULTS = {
    STEALMESH: "with Mesh() as pool: say(pool.submit(pow, 2, 10).result())",
    PPE: "with ProcessPoolExecutor(2) as pool: say(pool.submit(pow, 2, 10).result())",
    POOL: "with Pool(2) as pool: say(pool.apply(pow, (2, 10)))",
}
TIMED_IMPORT = """
import sys, time
start = time.perf_counter()
{}
print(1000 * (time.perf_counter() - start), "numpy" in sys.modules)
"""
TO_THE_FIRST_RESULT = """
def say(result):
    print(result, flush=True)
{}
if __name__ == "__main__":
    {}
"""
NUMPY = "numpy imported"


def import_milliseconds(peer: str) -> dict[str, float]:
    """What the import takes, told by a fresh interpreter; and whether it drags numpy in."""
    said = subprocess.run(
        [sys.executable, "-c", TIMED_IMPORT.format(IMPORTS[peer])],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    took, numpy = said.stdout.split()
    return {"ms": float(took), NUMPY: float(numpy == "True")}


def first_result_seconds(peer: str) -> float:
    """From starting the interpreter until it says the result; its ending is not counted."""
    program = TO_THE_FIRST_RESULT.format(IMPORTS[peer], FIRST_RESULTS[peer])
    start = perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = perf_counter() - start
    if line != b"1024\n":
        raise BenchError(f"{peer} said {line!r} instead of 1024")
    return seconds


def measure(plan: Plan) -> list[Row]:
    imports = _alternating(plan, import_milliseconds)
    milliseconds = {peer: [run["ms"] for run in said] for peer, said in imports.items()}
    firsts = _alternating(plan, first_result_seconds)
    made = [
        *rows("import", "ms", milliseconds, Target("value", "most", 80)),
        *rows("first result", "s", firsts, Target("value", "most", 0.5)),
    ]
    numpy = [run[NUMPY] for run in imports[STEALMESH]]
    return [
        *made,
        Row(f"import: {NUMPY}", STEALMESH, "0/1", numpy, target=Target("value", "most", 0)),
    ]


def _alternating(plan: Plan, run: Callable[[str], object]) -> Values:
    """Once before the first round too: compiled files and disk caches are not what is measured."""
    runs = {peer: partial(run, peer) for peer in plan.peers}
    alternate(runs, 1)
    return alternate(runs, plan.repeats)
