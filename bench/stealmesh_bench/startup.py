"""From nothing: what an import costs, and how long a fresh interpreter takes to its first result.

Modules are compiled before the clock runs, as they are on everybody's machine from the second
start on; where compiled files are switched off, they are switched on for these interpreters,
in a directory of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter

from stealmesh_bench.compare import Plan, alternate, pick, rows
from stealmesh_bench.paths import python_path
from stealmesh_bench.peers import POOL, PPE, PURE, STEALMESH, environment_of
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import BenchError

IMPORTS = {
    # The package loads its parts when they are first named: that is timed, not the empty shell.
    STEALMESH: "from stealmesh import Mesh",
    PURE: "from stealmesh import Mesh",
    PPE: "from concurrent.futures import ProcessPoolExecutor",
    POOL: "from multiprocessing import Pool; import multiprocessing.pool",
    "dask": "from distributed import Client, LocalCluster",
    "ray": "import ray",
    "loky": "from loky import ProcessPoolExecutor",
    "joblib": "from joblib import Parallel, delayed",
}
FIRST_RESULTS = {
    STEALMESH: "with Mesh() as pool: say(pool.submit(pow, 2, 10).result())",
    PURE: "with Mesh() as pool: say(pool.submit(pow, 2, 10).result())",
    PPE: "with ProcessPoolExecutor(2) as pool: say(pool.submit(pow, 2, 10).result())",
    POOL: "with Pool(2) as pool: say(pool.apply(pow, (2, 10)))",
    "dask": "with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as pool:"
    " say(Client(pool).submit(pow, 2, 10).result())",
    "ray": "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False);"
    " say(ray.get(ray.remote(lambda: pow(2, 10)).remote()))",
    "loky": "with ProcessPoolExecutor(2) as pool: say(pool.submit(pow, 2, 10).result())",
    "joblib": "say(Parallel(n_jobs=2)([delayed(pow)(2, 10)])[0])",
}
TIMED_IMPORT = """
import sys, time
cpu, start = time.process_time(), time.perf_counter()
{}
print(time.perf_counter() - start, time.process_time() - cpu, "numpy" in sys.modules)
"""
TO_THE_FIRST_RESULT = """
def say(result):
    print(result, flush=True)
{}
if __name__ == "__main__":
    {}
"""
NUMPY = "numpy imported"

Environment = dict[str, str]


def import_milliseconds(program: str, environment: Environment) -> dict[str, float]:
    """What an import takes, told by a fresh interpreter; and whether it drags numpy in."""
    said = subprocess.run(
        [sys.executable, "-c", TIMED_IMPORT.format(program)],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    wall, cpu, numpy = said.stdout.split()
    return {"ms": 1e3 * float(wall), "cpu_ms": 1e3 * float(cpu), NUMPY: float(numpy == "True")}


def first_result_seconds(peer: str, environment: Environment) -> float:
    """From starting the interpreter until it says the result; its ending is not counted."""
    program = TO_THE_FIRST_RESULT.format(IMPORTS[peer], FIRST_RESULTS[peer])
    start = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = perf_counter() - start
    if line != b"1024\n":
        raise BenchError(f"{peer} said {line!r} instead of 1024")
    return seconds


def measure(plan: Plan) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        ours = {"PYTHONPATH": python_path(), "PYTHONPYCACHEPREFIX": directory}
        environment = {**os.environ, **ours}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return [*_imports(plan, environment), *_first_results(plan, environment)]


def _imports(plan: Plan, environment: Environment) -> list[Row]:
    runs = {
        peer: partial(import_milliseconds, IMPORTS[peer], environment | environment_of(peer))
        for peer in plan.peers
    }
    alternate(runs, 1)  # compiles
    said = alternate(runs, plan.repeats)
    shell = [
        import_milliseconds("import stealmesh", environment)["ms"] for _ in range(plan.repeats)
    ]
    made = rows("import with Mesh", "ms", pick(said, "ms"), Target("value", "most", 80))
    cpu = pick(said, "cpu_ms")
    return [
        Row("import stealmesh", STEALMESH, "ms", shell, target=Target("value", "most", 80)),
        *(replace(row, more={"cpu_ms": round(median(cpu[row.peer]), 1)}) for row in made),
        Row(f"import with Mesh: {NUMPY}", STEALMESH, "0/1", pick(said, NUMPY)[STEALMESH],
            summary="max", target=Target("value", "most", 0)),
    ]  # fmt: skip


def _first_results(plan: Plan, environment: Environment) -> list[Row]:
    runs = {
        peer: partial(first_result_seconds, peer, environment | environment_of(peer))
        for peer in plan.peers
    }
    alternate(runs, 1)
    return rows("first result", "s", alternate(runs, plan.repeats), Target("value", "most", 0.5))
