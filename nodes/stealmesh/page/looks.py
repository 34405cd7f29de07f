"""What a visitor asks of one job, item or node: the same questions as `stealmesh explain` and `stacks`.

Decides which question a query is, and bounds the answer. Refuses to know how it is asked and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stealmesh.client.job_ids import short_forms
from stealmesh.host.saying import printable
from stealmesh.page.frames import TEXT_CHARS_MAX, number, text
from stealmesh.page.gathering import PageGathering
from stealmesh.page.requests import RequestRefused
from stealmesh_protocol.limits import INDEX_MAX

FACTS_MAX = 200
TRIED_MAX = 50
WORKERS_MAX = 64
STACKS_MAX = 32
FRAMES_MAX = 100
SOURCE_CHARS_MAX = 400


async def look_at(gathering: PageGathering, query: Mapping[str, str]) -> dict[str, Any]:
    """`node=ID`, or `job=ID` with or without `item=N`. Raises RequestRefused."""
    if "node" in query:
        peer = octets_of(query["node"])
        return {"stacks": stacks_of(await gathering.stacks(b"", -1, peer))}
    if "name" in query:
        return await _named(gathering, query["name"])
    job, item = octets_of(query.get("job", "")), item_of(query.get("item", ""))
    story = await gathering.explain(job, item)
    answers = await gathering.stacks(job, item, b"")
    return {"story": story_of(story), "stacks": stacks_of(answers)}


async def _named(gathering: PageGathering, what: str) -> dict[str, Any]:
    """JOB or JOB/ITEM as people write it → the ids."""
    jobs = (await gathering.status())["jobs"]
    name, slash, item = what.rpartition("/")
    for called, number_ in ((name, item), (what, "")) if slash else ((what, ""),):
        found = _called(jobs, called)
        if len(found) == 1 and (not number_ or number_.isdecimal()):
            return {"job": found[0]["id"], "item": number_ or None}
    raise RequestRefused(404, f"no job, or more than one, is called {what[:TEXT_CHARS_MAX]!r}")


def _called(jobs: list[dict[str, Any]], called: str) -> list[dict[str, Any]]:
    short = short_forms(job["id"] for job in jobs)
    exact = [job for job in jobs if called in (job["id"], short[job["id"]])]
    return (
        exact
        or [job for job in jobs if job["name"] == called]
        or [job for job in jobs if len(called) >= 4 and job["id"].startswith(called.lower())]
    )


def octets_of(name: str) -> bytes:
    """An id in hexadecimal."""
    try:
        found = bytes.fromhex(name)
    except ValueError:
        found = b""
    if not 0 < len(found) <= 64:
        raise RequestRefused(400, "this is no id of a job or a node")
    return found


def item_of(name: str) -> int:
    """-1: the whole job."""
    if not name:
        return -1
    if not name.isdecimal() or len(name) > 19 or int(name) > INDEX_MAX:
        raise RequestRefused(400, "an item is a number")
    return int(name)


def story_of(story: dict[str, Any]) -> dict[str, Any]:
    """What `explain` says, bounded and without control characters."""
    facts = story["facts"]
    return {
        "item": None if story["item"] is None else str(story["item"]),
        "told": _words(story["told"]),
        "node": text(story["node"]),
        "tried": [_words(each) for each in story["tried"][:TRIED_MAX]],
        "facts": [_fact(fact) for fact in facts[:FACTS_MAX]],
        "facts_of": len(facts),
        "owner_answered": bool(story["owner_answered"]),
        "nodes_answered": story["nodes_answered"],
    }


def _fact(fact: dict[str, Any]) -> dict[str, Any]:
    lo, hi = fact["items"]
    return {
        "told": _words(fact["told"]),
        "node": text(fact["node_name"]),
        "lo": str(lo),
        "hi": str(hi),
        "many": str(int(number(fact["many"]))),
    }


def stacks_of(answers: list[Any]) -> list[dict[str, Any]]:
    """A row for each worker. A line that the worker could not read is read nowhere else: no name that a peer sends
    opens a file of ours."""
    told = [(answer, worker) for answer in answers for worker in answer.workers]
    return [
        {
            "node": text(answer.name),
            "worker": worker.worker,
            "pid": worker.pid,
            "why": _words(worker.why),
            "stacks": [
                {
                    "name": text(stack.name),
                    "job": text(stack.job),
                    "job_name": text(stack.job_name),
                    "item": str(stack.item) if stack.item >= 0 else None,
                    "left_out": stack.left_out + max(0, len(stack.frames) - FRAMES_MAX),
                    "frames": [
                        [text(f.file[-TEXT_CHARS_MAX:]), f.line, text(f.function), _words(f.text)]
                        for f in stack.frames[-FRAMES_MAX:]
                    ],
                }
                for stack in worker.stacks[:STACKS_MAX]
            ],
        }
        for answer, worker in told[:WORKERS_MAX]
    ]


def _words(claim: Any) -> str:
    return printable(str(claim)[:SOURCE_CHARS_MAX])
