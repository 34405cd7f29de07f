"""Write what ran of a job, where and when, in Chrome's trace format: open it with Perfetto, vizviewer or chrome://tracing.

Each node is a process and each worker a thread of it. Chunks are bars with the name of their function, steals
are arrows from the node that gave to the chunk that the thief made of it, deaths and verdicts are marks. JOB is an
id as `stealmesh jobs` shows it, the name of a job, or `all`. Nodes remember a bounded past: what is older
is missing, and this says how much. --format otlp writes the same as spans for OpenTelemetry.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli import spans
from stealmesh.cli.events import journals_of, read, say_missed
from stealmesh.cli.exits import DONE, USAGE, CommandEnded
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.output import written
from stealmesh.cli.trace_steals import first_chunks
from stealmesh.host.happened import facts_of, words_of
from stealmesh.job_story import MARKS, of_job
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import NO_WORKER, RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening, JournalReader

WHOLE_NODE = 0
"""The thread of a node on which lies what is no worker's; workers have the numbers above."""
LANE_STRIDE = 1 << 24
"""Above all numbers of workers and of actors."""
TOUCHING_SECONDS = 1e-6
GIVING_MICROS, GIVING_MICROS_MIN = 50.0, 0.5
BAR_MICROS_MIN = 0.1
"""A worker may be dead in the moment in which its chunk begins, and a viewer shows no bar without length."""
_ENDED_WELL = {"done", "step"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="its id or its name, or all")
    parser.add_argument(
        "--format", choices=("chrome", "otlp"), default="chrome",
        help="otlp: OpenTelemetry spans as JSON lines, for the file receiver of a collector (default: %(default)s)",
    )  # fmt: skip
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    chosen, reader = remembered(arguments)
    lines = spans.lines_of(chosen) if arguments.format == "otlp" else lines_of(trace_of(chosen))
    with written():
        for line in lines:
            print(line)
    say_missed(reader)
    return DONE


def remembered(arguments: argparse.Namespace) -> tuple[list[Happening], JournalReader]:
    """All that the nodes of the mesh remember of `arguments.job`. Raises CommandEnded if that is nothing."""
    from stealmesh.cli.status import settled
    from stealmesh.client.journals import JournalReader

    with join_as_client(arguments) as mesh:
        settled(mesh)
        reader = JournalReader(journals_of(mesh))
        chosen = list(of_job(read(reader), arguments.job))
    if not any(each.entry.kind == RingKind.CHUNK for each in chosen):
        raise CommandEnded(
            USAGE,
            f"no node remembers a chunk of {arguments.job}: `stealmesh jobs` lists jobs, and "
            "`stealmesh events --kind chunk` what is remembered",
        )
    return chosen, reader


# ---------------------------------------------------------------- the format


def lines_of(events: list[dict[str, Any]]) -> Iterator[str]:
    """The JSON, an event a line: a trace of a million chunks is never one string."""
    yield '{"displayTimeUnit": "ms", "traceEvents": ['
    for place, event in enumerate(events):
        yield json.dumps(event) + ("," if place + 1 < len(events) else "")
    yield "]}"


def trace_of(found: list[Happening]) -> list[dict[str, Any]]:
    """The events of the trace. Times are microseconds since the first of them."""
    timeline = Timeline(found)
    return [
        *timeline.names(),
        *(_chunk(each, timeline) for each in found if each.entry.kind == RingKind.CHUNK),
        *_arrows(found, timeline),
        *(_mark(each, timeline) for each in found if each.entry.kind in MARKS),
    ]


class Timeline:
    """Where on the timeline an entry lies: nodes are processes, workers threads, and what a worker ran side by side
    are threads of their own, because bars of one thread must not overlap."""

    def __init__(self, found: list[Happening]) -> None:
        chunks = [each for each in found if each.entry.kind == RingKind.CHUNK]
        begun = [each.begun for each in chunks] + [each.at for each in found]
        self._zero = min(begun, default=0.0)
        self._named = {each.peer: each.node or each.peer.hex()[:8] for each in found}
        peers = sorted(self._named, key=lambda peer: (self._named[peer], peer))
        self._nodes = {peer: place + 1 for place, peer in enumerate(peers)}
        self._lanes: dict[tuple[PeerId, int], list[float]] = {}
        self._lane_of: dict[tuple[PeerId, int], int] = {}
        for each in sorted(chunks, key=lambda each: (each.begun, each.at)):
            ends = self._lanes.setdefault((each.peer, each.entry.worker), [])
            fits = (place for place, end in enumerate(ends) if end <= each.begun + TOUCHING_SECONDS)
            lane = next(fits, len(ends))
            ends[lane : lane + 1] = [each.at]
            self._lane_of[each.peer, each.entry.number] = lane

    def place(self, each: Happening) -> dict[str, int]:
        lane = self._lane_of.get((each.peer, each.entry.number), 0)
        return {"pid": self._nodes[each.peer], "tid": _thread(each.entry.worker, lane)}

    def micros(self, at: float) -> float:
        return round((at - self._zero) * 1e6, 1)

    def names(self) -> Iterator[dict[str, Any]]:
        for peer, pid in self._nodes.items():
            yield _meta("process_name", pid, WHOLE_NODE, name=f"node {self._named[peer]}")
            yield _meta("process_sort_index", pid, WHOLE_NODE, sort_index=pid)
            yield _meta("thread_name", pid, WHOLE_NODE, name="node")
        for (peer, worker), ends in sorted(self._lanes.items()):
            for lane in range(len(ends)):
                beside = f", beside {lane}" if lane else ""
                name = f"worker {worker}{beside}"
                yield _meta("thread_name", self._nodes[peer], _thread(worker, lane), name=name)


def _thread(worker: int, lane: int) -> int:
    return worker + 1 + lane * LANE_STRIDE


def _meta(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args}


def _chunk(each: Happening, timeline: Timeline) -> dict[str, Any]:
    entry = each.entry
    begun, ended = timeline.micros(each.begun), timeline.micros(each.at)
    event = {
        "ph": "X", "name": entry.name or "?", "cat": entry.what, "ts": begun,
        "dur": max(BAR_MICROS_MIN, round(ended - begun, 1)), **timeline.place(each), "args": facts_of(entry),
    }  # fmt: skip
    if entry.what not in _ENDED_WELL:
        event["cname"] = "terrible"
    elif entry.count:
        event["cname"] = "bad"
    return event


def _arrows(found: list[Happening], timeline: Timeline) -> Iterator[dict[str, Any]]:
    """From the node that gave something to the first chunk that the thief made of it. A viewer draws an arrow
    from bar to bar, so the giving is a short bar. It ends before the next one of its node begins, as bars that overlap
    are drawn one below the other, and a node may give thirty times within the same 50 µs."""
    led_to = list(first_chunks(found))
    following: dict[PeerId, list[float]] = {}
    for each, _ in reversed(led_to):
        following.setdefault(each.peer, []).append(timeline.micros(each.at))
    ends: dict[PeerId, float] = {}
    for number, (each, made) in enumerate(led_to, 1):
        left = following[each.peer]
        gave = round(max(left.pop(), ends.get(each.peer, 0.0)), 1)
        room = left[-1] - gave if left else GIVING_MICROS
        long = round(min(GIVING_MICROS, max(GIVING_MICROS_MIN, room)), 1)
        ends[each.peer] = gave + long
        yield {
            "ph": "X", "name": words_of(each.entry), "cat": "steal", "ts": gave, "dur": long,
            **timeline.place(each), "args": facts_of(each.entry),
        }  # fmt: skip
        if made is None:
            continue
        arrow = {"name": "steal", "cat": "steal", "id": number}
        took = max(timeline.micros(max(made.begun, each.at)), gave)
        yield {"ph": "s", **arrow, "ts": gave, **timeline.place(each)}
        yield {"ph": "f", "bp": "e", **arrow, "ts": took, **timeline.place(made)}


def _mark(each: Happening, timeline: Timeline) -> dict[str, Any]:
    scope = "p" if each.entry.worker == NO_WORKER else "t"
    kind = MARKS[RingKind(each.entry.kind)]
    return {
        "ph": "i", "s": scope, "name": words_of(each.entry), "cat": kind, "ts": timeline.micros(each.at),
        **timeline.place(each), "args": facts_of(each.entry),
    }  # fmt: skip
