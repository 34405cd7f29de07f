"""Plays a scenario on real node processes, and judges it.

Does: chooses the stage, runs it and asks it for its figures. In the end every process that it
started is gone, even after an error.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack

from stealmesh.host.security import MeshKey
from stealmesh_bench.chaos import jobs
from stealmesh_bench.chaos.real_durable import RealDurableStage
from stealmesh_bench.chaos.real_durable_calls import RealDurableCallsStage
from stealmesh_bench.chaos.real_stage import RealStage
from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_bench.chaos.scenario import CannotPlay, Scenario
from stealmesh_bench.chaos.seats import NodeFailed, Seats
from stealmesh_bench.chaos.workload import Stuck
from stealmesh_protocol.errors import MeshError


def play(
    scenario: Scenario, replay: str, *, job: str = "stream", drawn: bool = False
) -> ChaosReport:
    """Run it, measure it, judge it. `drawn`: read journals for a picture. Raises CannotPlay when it cannot be played at all."""
    task = jobs.find(job)
    report = ChaosReport(scenario.name, scenario.seed, scenario.nodes, False, replay, task.name)
    begun = time.perf_counter()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="stealmesh-chaos-"))
        key = MeshKey.generate()
        try:
            seats = Seats(
                scenario.nodes, key.secret, directory, proxied=scenario.proxied,
                disks=scenario.durable,
            )  # fmt: skip
        except NodeFailed as error:
            raise CannotPlay(str(error)) from None
        stack.callback(seats.close)
        stage = stage_for(scenario, job)(scenario, report, seats, key, directory)
        stage.drawn = drawn
        try:
            stage.run(task)
        except NodeFailed as error:
            report.breaches.append(str(error))
        except Stuck as stuck:
            report.stuck = 1
            report.breaches.append(f"progress: the job does not end: {stuck}")
        except (MeshError, TimeoutError) as error:
            report.breaches.append(f"the mesh gave up: {error!r}")
        stage.measure()
    report.wall_s = round(time.perf_counter() - begun, 3)
    return report


def stage_for(scenario: Scenario, job: str) -> type[RealStage]:
    if scenario.durable and job != "tasks":
        return RealDurableCallsStage
    return RealDurableStage if scenario.durable else RealStage
