"""Ordinary programs at random on one mesh, for long, with processes killed: ``python -m stealmesh_bench.soak``.

Does: the mixture of `mixed` and the kinds of faults that ordinary Python brings along (exceptions with
constructors of their own, values that cannot be opened, callbacks that wait, thousands of lambdas,
programs of their own that end in all the ways that programs end), while workers, nurseries and nodes
are killed. Decides whether it was well: no wrong value, nothing stuck, memory of client, nodes and
workers flat, no process and no file left. Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import stealmesh
from stealmesh_bench.mixed import VICTIMS, Record, WorkMixture, check, children, mix, square

GROWTH_MAX = 1.25
GROWTH_MIB_MIN = 24.0
"""Memory that grows by more than both of these from the second quarter to the last is a leak."""
PAGE = os.sysconf("SC_PAGE_SIZE")

PROGRAMS = {
    "flat": "import stealmesh\nm = stealmesh.Mesh(workers=1)\nprint(sum(m.map(abs, range(-9, 9))))\nm.shutdown()",
    "left": "import stealmesh\nm = stealmesh.Mesh(workers=1)\n"
    "m.submit(pow, 9, 2).add_done_callback(lambda f: print(f.result()))",
    "raises": "import stealmesh\nwith stealmesh.Mesh(workers=1) as m:\n"
    "    print(sum(m.map(abs, [40, -41])), flush=True)\n    raise SystemExit(3)",
    "forks": "import os, stealmesh\nm = stealmesh.Mesh(workers=1)\npid = os.fork()\nif not pid:\n    raise SystemExit\n"
    "os.waitpid(pid, 0)\nprint(m.submit(pow, 9, 2).result())\nm.shutdown()",
}
"""Programs of their own; each prints 81, and ends with 3 or 0."""


class Peculiar(Exception):
    """An exception with a constructor that takes other arguments than it keeps."""

    def __init__(self, where: str, number: int) -> None:
        super().__init__(f"{where}: {number}")
        self.number = number


class SealedValue:
    """A value that can be packed and not opened."""

    def __setstate__(self, state: object) -> None:
        raise ValueError("sealed")

    def __getstate__(self) -> dict[str, int]:
        return {"sealed": 1}


def fail(number: int) -> None:
    raise Peculiar("here", number)


def give_sealed(number: int) -> Any:
    return SealedValue() if number == 3 else number


def first(pair: Any, *rest: Any) -> Any:
    return pair


def length(octets: bytes) -> int:
    return len(octets)


class Everyday(WorkMixture):
    """What ordinary programs do beside the work itself."""

    def __init__(self, mesh: stealmesh.Mesh, rng: Random) -> None:
        super().__init__(mesh, rng)
        self.kinds |= {
            "exception": self.exception, "sealed": self.sealed, "unopened": self.unopened,
            "lambdas": self.lambdas, "partials": self.partials, "callback": self.callback,
            "generator": self.generator, "left early": self.left_early, "program": self.program,
        }  # fmt: skip

    def exception(self) -> None:
        number = self.rng.randrange(100)
        try:
            self.mesh.submit(fail, number).result()
        except Peculiar as error:
            check(error.number, number)
        else:
            raise AssertionError("nothing was raised")

    def sealed(self) -> None:
        """One argument that cannot be opened: its neighbours are well."""
        futures = [self.mesh.submit(first, SealedValue() if i == 3 else i) for i in range(8)]
        self._all_but_the_third(futures)

    def unopened(self) -> None:
        """The same for results."""
        self._all_but_the_third([self.mesh.submit(give_sealed, i) for i in range(8)])

    def _all_but_the_third(self, futures: list[Any]) -> None:
        for number, future in enumerate(futures):
            if number != 3:
                check(future.result(), number)
            elif future.exception() is None:
                raise AssertionError("it was opened")

    def lambdas(self) -> None:
        futures = [self.mesh.submit(lambda x, k=k: x + k, 1) for k in range(200)]
        check([future.result() for future in futures], list(range(1, 201)))

    def partials(self) -> None:
        octets = os.urandom(self.rng.randrange(1 << 18))
        futures = [self.mesh.submit(functools.partial(first, k, octets)) for k in range(20)]
        check([future.result() for future in futures], list(range(20)))

    def callback(self) -> None:
        """It submits, and waits."""
        found: list[int] = []
        over = threading.Event()

        def called(future: Any) -> None:
            found.append(future.result() + self.mesh.submit(square, 5).result())
            over.set()

        self.mesh.submit(square, 4).add_done_callback(called)
        check(over.wait(60.0), True)
        check(found, [41])

    def generator(self) -> None:
        count = self.rng.randrange(3000)
        check(
            sum(self.mesh.map(square, (x for x in range(count)))), sum(x * x for x in range(count))
        )

    def left_early(self) -> None:
        results = self.mesh.map(square, range(10**7))
        check([next(results) for _ in range(5)], [0, 1, 4, 9, 16])
        del results

    def program(self) -> None:
        name = self.rng.choice(list(PROGRAMS))
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAMS[name]], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        if ran.stdout.strip() != "81" or ran.returncode != (3 if name == "raises" else 0):
            raise AssertionError(f"{name}: status {ran.returncode}, {ran.stdout}\n{ran.stderr}")


class Memory:
    """How many MiB each role of process holds, over time."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)

    def sample(self, mesh: stealmesh.Mesh) -> None:
        nodes = mesh._local.pids() if mesh._local is not None else []
        nurseries = [pid for node in nodes for pid in children(node)]
        workers = [pid for nursery in nurseries for pid in children(nursery)]
        for role, pids in (("client", [os.getpid()]), ("node", nodes), ("worker", workers)):
            held = [mib for pid in pids if (mib := resident_mib(pid))]
            if held:
                self.samples[role].append(max(held))

    def growth(self) -> dict[str, tuple[float, float]]:
        """MiB in the second quarter of the time and in the last."""
        found = {}
        for role, samples in self.samples.items():
            quarter = max(1, len(samples) // 4)
            found[role] = (
                median(samples[quarter : 2 * quarter] or samples),
                median(samples[-quarter:]),
            )
        return found

    def leaks(self) -> list[str]:
        return [
            f"{role} grows from {early:.0f} to {late:.0f} MiB"
            for role, (early, late) in self.growth().items()
            if late > early * GROWTH_MAX and late - early > GROWTH_MIB_MIN
        ]


def resident_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
    except (OSError, IndexError):
        return 0.0


def left_behind(before: set[str]) -> list[str]:
    """Processes of ours that still run, and files that were not there before."""
    processes = [f"process {pid}" for pid in children(os.getpid())]
    files = {str(path) for path in Path(tempfile.gettempdir()).glob("stealmesh-*")} - before
    return processes + [name for name in files if not _is_somebody_elses(name)]


def _is_somebody_elses(name: str) -> bool:
    """Directories are named after the process that made them: one that lives is not ours."""
    part = Path(name).name.split("-")[1]
    return part.isdigit() and Path(f"/proc/{part}").exists()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--kill", choices=VICTIMS, default="all")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args(arguments)
    before = {str(path) for path in Path(tempfile.gettempdir()).glob("stealmesh-*")}
    memory = Memory()
    record = mix(
        seconds=told.seconds, nodes=told.nodes, threads=told.threads, kill=told.kill, every=told.every,
        seed=told.seed, mixture=Everyday, watch=memory.sample,
    )  # fmt: skip
    time.sleep(1.0)  # what was told to end ends
    left = left_behind(before)
    report(record, memory, left)
    return 1 if record.wrong or record.stuck() or memory.leaks() or left else 0


def report(record: Record, memory: Memory, left: list[str]) -> None:
    print(f"done {dict(record.done)}, killed {dict(record.kills)}")
    print("slowest", {kind: round(seconds, 2) for kind, seconds in record.slowest.items()})
    for wrong in record.wrong[:5]:
        print(wrong)
    grown = {role: [round(mib) for mib in pair] for role, pair in memory.growth().items()}
    print("MiB in the second quarter, in the last:", json.dumps(grown))
    for line in [*memory.leaks(), *(f"left behind: {name}" for name in left)]:
        print(line)
    print(
        f"{len(record.wrong)} wrong, {len(record.stuck())} stuck, {len(memory.leaks())} leaks, {len(left)} left"
    )


if __name__ == "__main__":
    sys.exit(main())
