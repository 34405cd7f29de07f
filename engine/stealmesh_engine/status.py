"""What a peer looks like from outside, in plain data; and the collecting of such looks.

Decides nothing about work. The shape is the one that `stealmesh status --json` prints for a
node; the host adds what only it knows (`host_facts`: the workers' process ids, counters of
the transport).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from stealmesh_engine.durable.slices import sum_of
from stealmesh_protocol.ids import JobId, PeerId, whole_of
from stealmesh_protocol.messages import JobKind, JobLine, Status

if TYPE_CHECKING:
    from stealmesh_engine.core import NodeCore

PATIENCE_SECONDS = 1.0


def job_dict(line: JobLine) -> dict[str, Any]:
    return {
        "id": line.job.hex(),
        "kind": line.kind.name.lower(),
        "name": line.name,
        "state": line.state,
        "total": line.total,
        "done": line.done,
        "failed": line.failed,
        "leased": line.leased,
        "free": line.free,
        "rerun": line.rerun,
        "duplicates_dropped": line.duplicates_dropped,
        "durable": line.durable,
        "owner": line.owner,
        "started": line.started or None,
        "ended": line.ended or None,
    }


def snapshot(core: NodeCore) -> bytes:
    """This peer as it is now, as msgpack."""
    me = core.me
    lines = [*core.owner.lines(), *core.durable.state.lines()]
    lines += [line for told in core.neighbours_jobs.values() for line in told]
    facts = core.host_facts()
    counters = {**core.counters, **facts.pop("counters", {})}
    return msgspec.msgpack.encode(
        {
            "id": me.id.hex(),
            "name": me.name,
            "pid": me.pid,
            "host": me.host,
            "address": next((e for e in me.endpoints if e.startswith("tcp://")), ""),
            "role": me.role.name.lower(),
            "state": "leaving" if core.dispatcher.draining else me.state.name.lower(),
            "workers": len(core.dispatcher.slots),
            "worker_pids": [],
            "queued_seconds": core.dispatcher.queued_seconds(),
            "steals_in": core.thief.fed,
            "steals_out": core.victim.given,
            "executed": core.answers.executed,
            "sees": len(core.view.nodes()),
            "build": me.build,
            "runtime": me.runtime,
            "leads": [job.hex() for job in core.durable.state.primaries],
            "jobs": [job_dict(line) for line in lines],
            "counters": counters,
            **facts,
        }
    )


def line_from(job: dict[str, Any]) -> JobLine:
    """What `job_dict` was made of."""
    kind = JobKind[job["kind"].upper()]
    rest = {name: job[name] for name in JobLine.__struct_fields__[2:]}
    rest |= {name: job[name] or 0.0 for name in ("started", "ended")}
    return JobLine(bytes.fromhex(job["id"]), kind, **rest)


def merge_status(snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """Snapshots of single peers as one of the mesh."""
    lines: dict[str, JobLine] = {}
    counters: dict[str, int] = {}
    nodes = []
    for each in snapshots:
        for job in each.pop("jobs", []):
            lines.setdefault(job["id"], line_from(job))
        for name, count in each.pop("counters", {}).items():
            counters[name] = counters.get(name, 0) + count
        nodes.append(each)
    slices: dict[JobId, list[JobLine]] = {}
    for line in lines.values():
        slices.setdefault(whole_of(line.job), []).append(line)
    jobs = [{**job_dict(sum_of(each)), "id": job.hex()} for job, each in slices.items()]
    return {"nodes": nodes, "jobs": jobs, "counters": counters}


@dataclass(slots=True)
class Inquiry:
    until: float
    waiting: dict[PeerId, None]
    snapshots: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Inquiries:
    """Status requests of the program that peers are still to answer."""

    by_nonce: dict[int, Inquiry] = field(default_factory=dict)

    @property
    def until(self) -> float | None:
        if not self.by_nonce:
            return None
        return min(each.until for each in self.by_nonce.values())

    def open(self, nonce: int, asked: list[PeerId], now: float) -> None:
        self.by_nonce[nonce] = Inquiry(now + PATIENCE_SECONDS, dict.fromkeys(asked))

    def waiting_for(self, peer: PeerId) -> list[int]:
        """The open inquiries that this peer has not answered."""
        return [nonce for nonce, each in self.by_nonce.items() if peer in each.waiting]

    def answered(self, peer: PeerId, message: Status) -> bool:
        """One more answer; True when it was the last that was waited for."""
        inquiry = self.by_nonce.get(message.nonce)
        if inquiry is None or peer not in inquiry.waiting:
            return False
        del inquiry.waiting[peer]
        inquiry.snapshots.extend(message.blobs)
        return not inquiry.waiting

    def overdue(self, now: float) -> bool:
        return any(each.until <= now for each in self.by_nonce.values())

    def close(self, now: float) -> list[tuple[int, list[bytes]]]:
        """The inquiries that are answered, or have waited long enough."""
        done = [n for n, each in self.by_nonce.items() if not each.waiting or each.until <= now]
        return [(nonce, self.by_nonce.pop(nonce).snapshots) for nonce in done]
