"""Known answers, while nodes die at random moments: how many answers were wrong? It must be none.

Two trees (dynamic work) and the primes below 10⁷ (an indexed reduction), on four nodes. Either
one node is killed and replaced, as a local mesh does; or three are killed one after the
other and not replaced. The moments are drawn from the time that the job takes
undisturbed, so that nearly all deaths hit it; those that did are counted. No answer at all
counts as a wrong one.
"""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from random import Random
from time import perf_counter
from typing import Any

from stealmesh.examples import primes, uts
from stealmesh.mesh import Mesh
from stealmesh_bench.compare import Plan
from stealmesh_bench.peers import STEALMESH
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import BenchError, Stand
from stealmesh_bench.victims import NODES, four_nodes, kill

JOB_SECONDS_MAX = 120.0


def begin(mesh: Mesh, job: str) -> Future[Any]:
    """`job` is the name of a tree, or how far to count primes."""
    if job.isdecimal():
        return mesh.map_reduce(primes.is_prime, range(int(job) + 1), operator.add)
    tree = uts.TREES[job]
    return mesh.explore(uts.visitor(tree), [uts.root(tree)], uts.combine_counts)


def right_answer(job: str) -> Any:
    return primes.PI[int(job)] if job.isdecimal() else uts.TREES[job].expected


def ended(
    peer: None, job: str, victims: int, respawn: bool, moments: Sequence[float], seed: int
) -> dict[str, float]:
    """One job with one kill at each of `moments` (seconds after its start)."""
    del peer
    with four_nodes(respawn) as (mesh, pids):
        chosen = Random(seed).sample(pids, victims)
        start = perf_counter()
        future = begin(mesh, job)
        over = threading.Event()
        future.add_done_callback(lambda _: over.set())
        in_time = 0
        for victim, moment in zip(chosen, moments, strict=True):
            in_time += not over.wait(max(0.0, start + moment - perf_counter()))
            kill(victim)
        answer = future.result(JOB_SECONDS_MAX)
        return {
            "seconds": perf_counter() - start,
            "wrong": float(answer != right_answer(job)),
            "in_time": in_time,
        }


UNIT = "wrong"
KINDS = ((1, True, "1 killed"), (NODES - 1, False, f"{NODES - 1} killed"))


def measure(plan: Plan) -> list[Row]:
    jobs = ("T1-d7", "10000") if plan.quick else ("T1", "T3", "10000000")
    return [row for job in jobs for row in _rows_of(plan, job)]


def _rows_of(plan: Plan, job: str) -> list[Row]:
    name = f"pi({int(job):.0e})" if job.isdecimal() else f"uts {job}"
    undisturbed = _once(job, 0, True, [], 0)["seconds"]
    return [
        Row(f"exact {name}, {text}", STEALMESH, UNIT, [run["wrong"] for run in said],
            summary="sum", target=Target("value", "most", 0),
            more={"seed": plan.seed, "seconds": [round(run["seconds"], 3) for run in said],
                  "undisturbed_seconds": round(undisturbed, 3),
                  "in_time": sum(run["in_time"] for run in said),
                  "kills": victims * len(said)})
        for victims, respawn, text in KINDS
        for said in [_runs(plan, job, victims, respawn, undisturbed)]
    ]  # fmt: skip


def _runs(
    plan: Plan, job: str, victims: int, respawn: bool, seconds: float
) -> list[dict[str, float]]:
    said = []
    for number in range(plan.runs):
        chance = Random(f"{plan.seed} {job} {victims} {number}")
        moments = sorted(chance.uniform(0, seconds) for _ in range(victims))
        said.append(_once(job, victims, respawn, moments, chance.randrange(2**32)))
    return said


def _once(
    job: str, victims: int, respawn: bool, moments: list[float], seed: int
) -> dict[str, float]:
    what = {"job": job, "victims": victims, "respawn": respawn, "moments": moments, "seed": seed}
    with Stand() as stand:
        try:
            said: dict[str, float] = stand.run(ended, **what)
        except BenchError as error:
            said = {"seconds": JOB_SECONDS_MAX, "wrong": 1.0, "in_time": victims}
            print(f"stealmesh bench: no answer: {what}: {error}", file=sys.stderr)
        else:
            verdict = "wrong" if said["wrong"] else "right"
            print(f"  {verdict} in {said['seconds']:.2f} s: {what}", file=sys.stderr)
        return said
