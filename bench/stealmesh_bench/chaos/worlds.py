"""`random --sim`: a random world, everything about it drawn from its seed, reported like a scenario."""

from __future__ import annotations

from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_sim import random_worlds


def play(seed: int, replay: str) -> ChaosReport:
    """World number `seed`, the same that `python -m stealmesh_bench.seeds --one` runs."""
    outcome = random_worlds.run(seed)
    report = ChaosReport(
        "random", seed, outcome.nodes, True, replay, workload=f"{outcome.jobs} jobs"
    )
    report.killed = outcome.crashes
    report.lost, report.duplicated, report.wrong = 0, 0, 0
    wasted = ("results-dropped", "items-run-for-nothing")
    report.run_twice = sum(outcome.counters.get(name, 0) for name in wasted)
    report.false_verdicts = (
        None  # its machines also fall silent, so that some are rightly suspected
    )
    report.agreed_s = round(outcome.agreed_after_mending_seconds, 3)
    report.simulated_s = round(outcome.virtual_seconds, 3)
    report.wall_s = round(outcome.wall_seconds, 3)
    report.trace = outcome.trace
    if outcome.breach:
        report.lost = int("ended without" in outcome.breach)
        report.duplicated = int("came twice" in outcome.breach)
        report.wrong = int("wrong value" in outcome.breach)
        report.stuck = int(outcome.kind == "progress")
        report.breaches.append(outcome.breach)
    return report
