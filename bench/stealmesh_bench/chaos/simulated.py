"""Plays a scenario in virtual time, and judges it.

Does: chooses the stage, runs it and asks it for its figures. The report's trace hash says whether
two runs were the same.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from stealmesh_bench.chaos import eyes, seen
from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_bench.chaos.scenario import CannotPlay, Scenario
from stealmesh_bench.chaos.simulated_durable import SimulatedDurableStage
from stealmesh_bench.chaos.simulated_jobs import STAGES
from stealmesh_bench.chaos.simulated_stage import SimulatedStage
from stealmesh_sim.kernel import Breach


def play(
    scenario: Scenario,
    replay: str,
    *,
    watch: Callable[[str], None] | None = None,
    job: str = "",
    drawn: bool = False,
) -> ChaosReport:
    """Run it, measure it, judge it. `job`: empty for what the scenario has by itself. `drawn`: read journals for a
    picture."""
    report = ChaosReport(
        scenario.name,
        scenario.seed,
        scenario.nodes,
        True,
        replay,
        workload=f"{job or 'map'} (virtual)",
    )
    begun = time.perf_counter()
    stage = stage_for(scenario, job)(scenario, report)
    stage.world.trace.on_event = watch
    gc.disable()  # a world is one large cycle that lives to its end: garbage is for afterwards
    try:
        with eyes.watching(stage.saw):
            stage.run()
    except Breach as breach:
        report.breaches.append(str(breach))
    except CannotPlay:
        raise
    except Exception as error:  # noqa: BLE001 - anything that a core raises is a finding, not our end
        report.breaches.append(f"{type(error).__name__}: {error}")
    finally:
        gc.enable()
    stage.measure()
    if drawn:
        seen.of_processes(stage.world.processes, report, stage.flow)
    report.wall_s = round(time.perf_counter() - begun, 3)
    return report


def stage_for(scenario: Scenario, job: str) -> type[SimulatedStage]:
    if job:
        return STAGES[job]
    return SimulatedDurableStage if scenario.durable else SimulatedStage
