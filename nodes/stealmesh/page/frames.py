"""What the browser is told of a mesh once a second: a pure function of a status.

Decides which figures travel. Totals are exact: they are sums over all nodes and jobs. Rows are bounded, and each list
says how many it was taken from; what is not well and what works comes first. What a peer says is a claim: texts are
cut and lose their control characters, numbers that are none become 0. Refuses to know how a status is gathered, and
how it looks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from math import isfinite
from typing import Any

from stealmesh.host.saying import printable
from stealmesh.metrics import desired_workers, oldest_queued_seconds

NODES_MAX = 200
JOBS_MAX = 100
SLOW_MAX = 50
PAGES_MAX = 32
WORKERS_MAX = 64
"""Workers of one node whose memory is named."""
COUNTERS_MAX = 300
TEXT_CHARS_MAX = 120
ERROR_CHARS_MAX = 300
EXACT_MAX = 1 << 53
"""A browser's numbers are exact up to here; larger ones travel as texts."""
_PAGE = re.compile(r"https?://[A-Za-z0-9.\-]+:\d{1,5}/|https?://\[[0-9a-fA-F:.]+\]:\d{1,5}/")
_VALUES = (
    "owned", "stored", "results", "made_again", "stored_octets", "fetched_octets", "lost_octets",
    "fetching", "memory_octets", "disk_octets", "spilled_octets",
)  # fmt: skip

Status = dict[str, Any]


def frame_of(status: Status, now: float) -> dict[str, Any]:
    """`status` as `Mesh.status()` has it, `now` the time of day."""
    nodes = [node for node in status["nodes"] if node["role"] != "client"]
    jobs = status["jobs"]
    slow = list(_slow(nodes))
    return {
        "now": now,
        "totals": _totals(nodes, jobs, len(status["nodes"]) - len(nodes))
        | {
            "desired_workers": desired_workers(status),
            "oldest_queued": number(
                oldest_queued_seconds(jobs, _sum(nodes, "queued_seconds"), now)
            ),
        },
        "nodes": [_node(node) for node in _first(nodes)],
        "jobs": [_job(job) for job in _open_first(jobs)[:JOBS_MAX]],
        "slow": sorted(slow, key=lambda each: -each["seconds"])[:SLOW_MAX],
        "slow_of": len(slow),
        "counters": _counters(status["counters"]),
        "pages": pages_of(nodes),
    }


def pages_of(nodes: Iterable[Status]) -> list[dict[str, str]]:
    """Where the pages of nodes are, as far as they say so and it is an address."""
    found = [
        {"name": text(node["name"]), "host": text(node["host"]), "url": node["page"]}
        for node in nodes
        if isinstance(node.get("page"), str)
        and len(node["page"]) <= TEXT_CHARS_MAX
        and _PAGE.fullmatch(node["page"])
    ]
    return sorted(found, key=lambda page: (page["name"], page["url"]))[:PAGES_MAX]


def text(claim: Any, most: int = TEXT_CHARS_MAX) -> str:
    """A peer's word, for a browser."""
    shown = printable(str(claim))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def number(claim: Any) -> float:
    """A peer's figure that fits into JSON; 0 for what is none."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not isfinite(claim):
        return 0
    return claim


def count(claim: Any) -> int | str:
    """A number of things, exact in a browser."""
    whole = int(number(claim))
    return whole if abs(whole) < EXACT_MAX else str(whole)


# ---------------------------------------------------------------- inside


def _totals(nodes: list[Status], jobs: list[Status], clients: int) -> dict[str, Any]:
    executed = int(_sum(nodes, "executed"))
    return {
        "nodes": len(nodes),
        "clients": clients,
        "states": dict(Counter(text(node["state"]) for node in nodes).most_common(8)),
        "supers": sum(node["role"] == "super" for node in nodes),
        "workers": count(_sum(nodes, "workers")),
        "busy": count(_sum(nodes, "busy")),
        "queued_seconds": _sum(nodes, "queued_seconds"),
        "run_seconds": _sum(nodes, "run_seconds"),
        "executed": count(executed),
        "steals_asked": count(_sum(nodes, "steals_asked")),
        "steals_out": count(_sum(nodes, "steals_out")),
        "steals_in": count(_sum(nodes, "steals_in")),
        "memory": count(sum(_memory(node) for node in nodes)),
        "stored": count(sum(number(_values(node).get("memory_octets")) for node in nodes)),
        "disk": count(sum(number(_values(node).get("disk_octets")) for node in nodes)),
        "jobs": len(jobs),
        "jobs_open": sum(not job.get("ended") for job in jobs),
        **{
            name: count(sum(int(number(job[name])) for job in jobs))
            for name in ("total", "done", "failed", "leased", "free")
        },
    }


def _sum(nodes: list[Status], name: str) -> float:
    return sum(number(node.get(name, 0)) for node in nodes)


def _values(node: Status) -> dict[str, Any]:
    values = node.get("values")
    return values if isinstance(values, dict) else {}


def _worker_memory(node: Status) -> list[float]:
    told = node.get("worker_memory")
    return [number(each) for each in told] if isinstance(told, list) else []


def _memory(node: Status) -> float:
    return number(node.get("memory", 0)) + sum(_worker_memory(node))


def _first(nodes: list[Status]) -> list[Status]:
    """All by name; of too many those that are not well, then the busiest."""
    if len(nodes) > NODES_MAX:
        nodes = sorted(
            nodes,
            key=lambda node: (
                node["state"] == "alive",
                -number(node.get("busy", 0)),
                -number(node["queued_seconds"]),
            ),
        )[:NODES_MAX]
    return sorted(nodes, key=lambda node: (str(node["name"]), str(node["id"])))


def _node(node: Status) -> dict[str, Any]:
    memory = _worker_memory(node)
    return {
        **{name: text(node.get(name, "")) for name in ("id", "name", "host", "address", "role", "state", "runtime")},
        **{
            name: count(node.get(name, 0))
            for name in ("pid", "workers", "busy", "executed", "steals_in", "steals_out", "sees", "links")
        },
        "queued": number(node["queued_seconds"]),
        "run_seconds": number(node.get("run_seconds", 0)),
        "leads": len(node["leads"]) if isinstance(node.get("leads"), list) else 0,
        "memory": count(node.get("memory", 0)),
        "worker_memory": [count(each) for each in memory[:WORKERS_MAX]],
        "worker_memory_of": len(memory),
        "values": {name: count(_values(node).get(name, 0)) for name in _VALUES},
    }  # fmt: skip


def _open_first(jobs: list[Status]) -> list[Status]:
    return sorted(
        jobs,
        key=lambda job: (
            bool(job.get("ended")),
            -number(job.get("ended") or job.get("started") or 0),
        ),
    )


def _job(job: Status) -> dict[str, Any]:
    eta = job.get("eta_seconds")
    return {
        **{name: text(job.get(name) or "") for name in ("id", "kind", "name", "state", "owner")},
        "error": text(job.get("error") or "", ERROR_CHARS_MAX),
        **{
            name: count(job[name])
            for name in ("total", "done", "failed", "leased", "free", "rerun", "duplicates_dropped")
        },
        "durable": bool(job["durable"]),
        "started": number(job.get("started") or 0),
        "ended": number(job.get("ended") or 0),
        "rate": number(job.get("rate") or 0),
        "eta": None if eta is None else number(eta),
    }  # fmt: skip


def _slow(nodes: list[Status]) -> Iterable[dict[str, Any]]:
    for node in nodes:
        for chunk in node.get("running", []):
            yield {
                **{name: text(chunk[name]) for name in ("job", "name")},
                **{name: count(chunk[name]) for name in ("lo", "hi", "worker")},
                "seconds": number(chunk["seconds"]),
                "node": text(node["name"]),
                "node_id": text(node["id"]),
            }


def _counters(counters: dict[str, int]) -> dict[str, int | str]:
    counted = sorted((text(name), count(much)) for name, much in counters.items() if much)
    return dict(counted[:COUNTERS_MAX])
