"""What a peer looks like from outside, in plain data; and the collecting of such looks.

Decides nothing about work. The shape is the one that `stealmesh status --json` prints for a
node; the host adds what only it knows (`host_facts`: the workers' process ids, counters of
the transport).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

import msgspec

from stealmesh_engine.base.snapshots import figure_of, readable
from stealmesh_engine.durable.slices import sum_of
from stealmesh_engine.effects import StatusReady
from stealmesh_engine.events import AskStatus
from stealmesh_engine.journals.journals import Journals
from stealmesh_engine.ledger.jobs_around import one_a_job
from stealmesh_engine.links.introductions import PROTOCOL_VERSION
from stealmesh_engine.looks import Looks
from stealmesh_engine.parts import Parts
from stealmesh_protocol.ids import JobId, PeerId, number_in_whole, whole_of
from stealmesh_protocol.messages import JobKind, JobLine, Status, StatusGet

PATIENCE_SECONDS = 1.0
LONGEST_MAX = 8
"""Chunks of one node that a status names."""


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
        "told": line.told,
        "rate": line.rate,
        "error": line.error,
    }


def snapshot(peer: Parts, now: float | None = None) -> bytes:
    """This peer as it is now, as msgpack."""
    me, dispatcher = peer.view.me, peer.holder.dispatcher
    lines = [*peer.owner.lines(now), *peer.durable.state.lines(), *peer.around.lines(now)]
    facts = peer.host_facts()
    counters = {**peer.counters, **facts.pop("counters", {})}
    return msgspec.msgpack.encode(
        {
            "id": me.id.hex(),
            "name": me.name,
            "pid": me.pid,
            "host": me.host,
            "address": next((e for e in me.endpoints if e.startswith("tcp://")), ""),
            "role": me.role.name.lower(),
            "state": "leaving" if dispatcher.draining else me.state.name.lower(),
            "workers": len(dispatcher.slots),
            "worker_pids": [],
            "busy": dispatcher.slots.busy,
            "running": _longest(peer, now),
            "queued_seconds": dispatcher.queued_seconds(),
            "steals_in": peer.thief.fed,
            "steals_out": peer.victim.given,
            "executed": peer.holder.answers.executed,
            "run_seconds": peer.holder.answers.run_seconds,
            "steals_asked": peer.thief.asked,
            "sees": len(peer.view.nodes()),
            "build": me.build,
            "runtime": me.runtime,
            "resources": dict(me.resources),
            "resources_taken": {
                name: taken for name, _ in me.resources if (taken := peer.holder.slots.taken(name))
            },
            "leads": [job.hex() for job in peer.durable.state.primaries],
            "values": peer.values.facts() | facts.pop("values", {}),
            "jobs": [job_dict(line) for line in lines],
            "counters": counters,
            "addresses": [each for each in me.endpoints if each.startswith("tcp://")],
            "cannot_reach": peer.links.out_of_reach(),
            "protocol": PROTOCOL_VERSION,
            **peer.links.guests.facts(),
            **facts,
        }
    )


def _longest(peer: Parts, now: float | None) -> list[dict[str, Any]]:
    """The chunks that have run longest here."""
    jobs, chunks = peer.holder.jobs, peer.holder.slots.running()
    found = [
        chunk for chunk in chunks if chunk.job in jobs and not chunk.void and chunk.lo < chunk.hi
    ]
    found = nsmallest(LONGEST_MAX, found, key=lambda chunk: chunk.started)
    return [
        {
            "job": whole_of(chunk.job).hex(),
            "name": jobs[chunk.job].spec.name,
            "lo": number_in_whole(chunk.job, chunk.lo),
            "hi": number_in_whole(chunk.job, chunk.hi),
            "worker": chunk.worker,
            "seconds": 0.0 if now is None else max(0.0, now - chunk.started),
        }
        for chunk in found
    ]


def eta_of(line: JobLine) -> float | None:
    """Seconds until it is done, as far as that can be known."""
    left = line.total - line.done
    if line.kind is JobKind.EXPLORE or line.ended or not line.rate:
        return None
    return left / line.rate if left > 0 else 0.0


def line_from(job: dict[str, Any]) -> JobLine:
    """What `job_dict` was made of."""
    kind = JobKind[job["kind"].upper()]
    rest = {name: figure_of(job, name) for name in JobLine.__struct_fields__[2:]}
    rest |= {name: job[name] or 0.0 for name in ("started", "ended")}
    rest["told"] = tuple(
        map(tuple, rest["told"])
    )  # msgpack has lists, and compiled code takes no other type
    return JobLine(bytes.fromhex(job["id"]), kind, **rest)


def merge_status(snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """Snapshots of single peers as one of the mesh."""
    lines: list[JobLine] = []
    counters: dict[str, int] = {}
    nodes = []
    for each in snapshots:
        lines += map(line_from, each.pop("jobs", []))
        for name, count in each.pop("counters", {}).items():
            counters[name] = counters.get(name, 0) + count
        nodes.append(each)
    slices: dict[JobId, list[JobLine]] = {}
    for line in one_a_job(lines).values():
        slices.setdefault(whole_of(line.job), []).append(line)
    sums = {job: sum_of(each) for job, each in slices.items()}
    jobs = [{**job_dict(s), "id": job.hex(), "eta_seconds": eta_of(s)} for job, s in sums.items()]
    return {"nodes": nodes, "jobs": jobs, "counters": counters}


@dataclass(slots=True)
class Inquiry:
    until: float
    waiting: dict[PeerId, None]
    snapshots: list[bytes] = field(default_factory=list)


class Inquiries:
    """Status requests: those of our program that peers have still to answer, and those of peers."""

    def __init__(self, parts: Parts, beside: tuple[Looks, Journals]) -> None:
        self._parts = parts
        self._links = parts.links
        self._effects = parts.effects
        self._beside = beside
        """Questions of other kinds that are waited for in the same way."""
        self._open: dict[int, Inquiry] = {}
        self.until: float | None = None
        """When the first one is answered with what has come."""

    def ask(self, event: AskStatus, now: float) -> None:
        """Our program asks for the status of the mesh."""
        view = self._parts.view
        asked = [peer for peer in view.nodes() if peer != view.me.id]
        self._open[event.nonce] = Inquiry(now + PATIENCE_SECONDS, dict.fromkeys(asked))
        self._plan()
        for peer in asked:
            # Without a link it is lost, but a link is sought, and asked again once it is up.
            self._links.send(peer, StatusGet(event.nonce), now)
        if not asked:
            self._answer(now)

    def met(self, peer: PeerId, now: float) -> None:
        """There is a link with this peer: ask it what it has not answered."""
        for nonce, each in self._open.items():
            if peer in each.waiting:
                self._links.send(peer, StatusGet(nonce), now)
        for other in self._beside:
            other.met(peer, now)

    def asked(self, peer: PeerId, message: StatusGet, now: float) -> None:
        self._parts.holder.reports.tell_all_running(peer, now)
        self._links.send(peer, Status(message.nonce, [snapshot(self._parts, now)]), now)

    def answered(self, peer: PeerId, message: Status, now: float) -> None:
        inquiry = self._open.get(message.nonce)
        if inquiry is None or peer not in inquiry.waiting:
            return
        del inquiry.waiting[peer]
        own = msgspec.msgpack.decode(snapshot(self._parts))
        for blob in message.blobs:
            inquiry.snapshots.append(
                msgspec.msgpack.encode(readable(blob, own, self._links.member_of(peer)))
            )
        if not inquiry.waiting:
            self._answer(now)

    def tick(self, now: float) -> None:
        for each in self._beside:
            each.tick(now)
        if self.until is not None and self.until <= now:
            self._answer(now)

    def _plan(self) -> None:
        self.until = min((each.until for each in self._open.values()), default=None)

    def _answer(self, now: float) -> None:
        """Give our program those that all peers have answered, or that have waited long enough."""
        own = snapshot(self._parts, now)
        done = [n for n, each in self._open.items() if not each.waiting or each.until <= now]
        for nonce in done:
            self._effects.append(StatusReady(nonce, [own, *self._open.pop(nonce).snapshots]))
        self._plan()


EVENTS: dict[Any, Callable[..., None]] = {AskStatus: Inquiries.ask}
MESSAGES: dict[Any, Callable[..., None]] = {StatusGet: Inquiries.asked, Status: Inquiries.answered}
