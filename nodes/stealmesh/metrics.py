"""The figures of a mesh in the text format of Prometheus: a pure function of a status.

Decides which figures there are and what they are called (after dask's). Refuses to know how they are served:
`stealmesh metrics` prints them, and a page serves them at /metrics.

The labels have few values: states and results, never names of jobs, functions or nodes, which users choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

Labels = Mapping[str, str]
DRAIN_SECONDS = 10.0
"""How soon the work that waits should be done: that is how many `desired_workers` are."""


@dataclass(slots=True)
class MetricFamily:
    """One metric, with its values."""

    name: str
    kind: str
    """counter or gauge."""
    help: str
    samples: list[tuple[Labels, float]] = field(default_factory=list)


def exposition(status: dict[str, Any], now: float) -> str:
    """`status` as `Mesh.status()` has it, `now` the time of day."""
    return "".join(f"{line}\n" for family in families(status, now) for line in _lines(family))


def families(status: dict[str, Any], now: float) -> list[MetricFamily]:
    jobs, nodes = status["jobs"], [n for n in status["nodes"] if n["role"] != "client"]
    clients = len(status["nodes"]) - len(nodes)
    workers = sum(node["workers"] for node in nodes)
    queued = sum(node["queued_seconds"] for node in nodes)
    return [
        MetricFamily(
            "stealmesh_nodes", "gauge", "Nodes that answer, by role.", _by_role(nodes, clients)
        ),
        MetricFamily(
            "stealmesh_workers", "gauge", "Worker processes of all nodes.", [({}, workers)]
        ),
        MetricFamily(
            "stealmesh_jobs", "gauge", "Jobs that the mesh remembers, by state.", _by_state(jobs)
        ),
        MetricFamily(
            "stealmesh_tasks",
            "gauge",
            "Tasks of the jobs that the mesh remembers: done, failed (of those), leased to a node, free.",
            [({"state": s}, sum(j[s] for j in jobs)) for s in ("done", "failed", "leased", "free")],
        ),
        MetricFamily(
            "stealmesh_task_run_seconds_total",
            "counter",
            "For how long workers have run tasks, on the nodes that live.",
            [({}, sum(node.get("run_seconds", 0.0) for node in nodes))],
        ),
        MetricFamily(
            "stealmesh_tasks_executed_total",
            "counter",
            "Tasks that workers have finished, on the nodes that live.",
            [({}, sum(node.get("executed", 0) for node in nodes))],
        ),
        MetricFamily(
            "stealmesh_work_expected_seconds",
            "gauge",
            "Expected run time of the tasks that wait at nodes.",
            [({}, queued)],
        ),
        MetricFamily(
            "stealmesh_oldest_queued_seconds",
            "gauge",
            "Age of the oldest open job that has a task which no worker has begun; 0: none waits.",
            [({}, oldest_queued_seconds(jobs, queued, now))],
        ),
        MetricFamily(
            "stealmesh_steals_total",
            "counter",
            "Steals on the nodes that live: asked for by thieves, granted by victims, grants of work that came.",
            [
                ({"result": "asked"}, sum(node.get("steals_asked", 0) for node in nodes)),
                ({"result": "given"}, sum(node["steals_out"] for node in nodes)),
                ({"result": "received"}, sum(node["steals_in"] for node in nodes)),
            ],
        ),
        MetricFamily(
            "stealmesh_desired_workers",
            "gauge",
            f"Workers with which all that waits is done in {DRAIN_SECONDS:g} s; for autoscaling.",
            [({}, desired_workers(status))],
        ),
        MetricFamily(
            "stealmesh_counted_total",
            "counter",
            "What nodes refused, dropped or had to do again, by reason (docs/counters.md).",
            [({"what": name}, count) for name, count in sorted(status["counters"].items())],
        ),
    ]


def oldest_queued_seconds(jobs: list[dict[str, Any]], queued: float, now: float) -> float:
    """The age of a job, not of a task: a job that feeds its tasks slowly looks older than they are."""
    waiting: list[float] = [
        now - job["started"]
        for job in jobs
        if job.get("started")
        and not job.get("ended")
        and (job["free"] or (job["leased"] and queued))
    ]
    return max(0.0, *waiting, 0.0)


def desired_workers(status: dict[str, Any]) -> int:
    """Enough that what waits is done in DRAIN_SECONDS, at the mean time of the tasks so far; while none has
    ended, one for each task that nobody has leased. At least one, and no more than there are tasks."""
    nodes, jobs = status["nodes"], [job for job in status["jobs"] if not job.get("ended")]
    free, left = sum(job["free"] for job in jobs), sum(job["free"] + job["leased"] for job in jobs)
    executed = sum(node.get("executed", 0) for node in nodes)
    mean = (
        sum(node.get("run_seconds", 0.0) for node in nodes) / executed
        if executed
        else DRAIN_SECONDS
    )
    queued = sum(node["queued_seconds"] for node in nodes)
    wanted = max(ceil((queued + free * mean) / DRAIN_SECONDS), 1)
    return int(min(left, wanted))


def _by_role(nodes: list[dict[str, Any]], clients: int) -> list[tuple[Labels, float]]:
    roles = ("plain", "super")
    found: list[tuple[Labels, float]] = [
        ({"role": role}, sum(node["role"] == role for node in nodes)) for role in roles
    ]
    return [*found, ({"role": "client"}, clients)]


def _by_state(jobs: list[dict[str, Any]]) -> list[tuple[Labels, float]]:
    states = sorted({str(job["state"]) for job in jobs})
    return [({"state": state}, sum(job["state"] == state for job in jobs)) for state in states]


# ---------------------------------------------------------------- the text


def _lines(family: MetricFamily) -> Iterable[str]:
    yield f"# HELP {family.name} {_help(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, number in family.samples:
        named = ",".join(f'{name}="{_value(text)}"' for name, text in labels.items())
        yield f"{family.name}{'{' + named + '}' if named else ''} {_number(number)}"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _value(text: str) -> str:
    return _help(text).replace('"', '\\"')


def _number(number: float) -> str:
    return str(number) if isinstance(number, int) else repr(float(number))
