"""Journals as OpenTelemetry spans, in the JSON of its protocol (OTLP): `stealmesh trace JOB --format otlp`.

Decides what is a span: a job, and each chunk that a worker ran. A chunk is a child of its job. Work that was stolen
did not come from the chunk that ran before it, so a steal is no parent but a link: from the thief's first chunk to a
span at the victim. One line is the spans of one node, as the file receiver of a collector reads them. Refuses to
send them: a collector does, so this needs no library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stealmesh.cli.trace_steals import first_chunks
from stealmesh.host.happened import facts_of, words_of
from stealmesh_protocol.ids import JobId, PeerId, whole_of
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening

ENDED_WELL = ("done", "step")
INTERNAL = 1
ERROR = 2

Span = dict[str, Any]


def lines_of(found: list[Happening]) -> Iterator[str]:
    """`found` in order of time."""
    spans: dict[PeerId, list[Span]] = {}
    names = {each.peer: each.node or each.peer.hex()[:8] for each in found}
    links: dict[tuple[PeerId, int], list[Happening]] = {}
    for gave, made in first_chunks(found):
        spans.setdefault(gave.peer, []).append(_gave(gave))
        if made is not None:
            links.setdefault(_place(made), []).append(gave)
    for each in found:
        if each.entry.kind == RingKind.CHUNK:
            spans.setdefault(each.peer, []).append(_chunk(each, links.get(_place(each), [])))
    for peer, several in spans.items():
        yield _line(names[peer], peer.hex(), several)
    jobs = [_job(job, chunks) for job, chunks in _by_job(found).items()]
    if jobs:
        yield _line("mesh", "", jobs)


def _place(each: Happening) -> tuple[PeerId, int]:
    return each.peer, each.entry.number


def _by_job(found: list[Happening]) -> dict[JobId, list[Happening]]:
    jobs: dict[JobId, list[Happening]] = {}
    for each in found:
        if each.entry.kind == RingKind.CHUNK:
            jobs.setdefault(whole_of(each.entry.about), []).append(each)
    return jobs


def _line(name: str, identity: str, spans: list[Span]) -> str:
    about = {"service.name": "stealmesh", "service.instance.id": identity, "host.name": name}
    resource = {"attributes": _attributes(about)}
    scope = {"scope": {"name": "stealmesh"}, "spans": spans}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def _job(job: JobId, chunks: list[Happening]) -> Span:
    begun, ended = min(each.begun for each in chunks), max(each.at for each in chunks)
    name = chunks[0].entry.name or "job"
    return _span(job, _job_span(job), name, begun, ended, {"stealmesh.job": job.hex()})


def _chunk(each: Happening, given: list[Happening]) -> Span:
    entry = each.entry
    job = whole_of(entry.about)
    told = {f"stealmesh.{name}": fact for name, fact in facts_of(entry).items()}
    span = _span(job, _own_span(each), entry.name or "chunk", each.begun, each.at, told)
    span["parentSpanId"] = _job_span(job)
    if entry.what not in ENDED_WELL or entry.count:
        span["status"] = {"code": ERROR, "message": words_of(entry)}
    if given:
        span["links"] = [{"traceId": _trace(job), "spanId": _own_span(gave)} for gave in given]
    return span


def _gave(each: Happening) -> Span:
    told = {f"stealmesh.{name}": fact for name, fact in facts_of(each.entry).items()}
    job = whole_of(each.entry.about)
    span = _span(job, _own_span(each), words_of(each.entry), each.at, each.at, told)
    span["parentSpanId"] = _job_span(job)
    return span


def _span(
    job: JobId, span: str, name: str, begun: float, ended: float, about: dict[str, Any]
) -> Span:
    return {
        "traceId": _trace(job),
        "spanId": span,
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": str(int(begun * 1e9)),
        "endTimeUnixNano": str(int(max(begun, ended) * 1e9)),
        "attributes": _attributes(about),
    }


def _attributes(about: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in about.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


def _trace(job: JobId) -> str:
    """The same for a job wherever and whenever it is asked for."""
    return hashlib.blake2b(job, digest_size=16).hexdigest()


def _job_span(job: JobId) -> str:
    return hashlib.blake2b(job, digest_size=8, person=b"job").hexdigest()


def _own_span(each: Happening) -> str:
    told = each.peer + each.entry.number.to_bytes(8, "big")
    return hashlib.blake2b(told, digest_size=8, person=b"entry").hexdigest()
