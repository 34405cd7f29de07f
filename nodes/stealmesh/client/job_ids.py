"""The names of jobs as people write them: whole ids, the beginnings of them, and the short form of tables.

All jobs of one program begin with the program's own id, so a short form has the beginning and the end:
`3f9a0c12..0005`. Decides which job a text means, and raises at once when no job can be meant: a typing
error must not look like a lost job. Refuses to know how the mesh is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from stealmesh_protocol.ids import JOB_ID_OCTETS, SLICE_ID_OCTETS, JobId

HEAD_CHARS = 8
TAIL_CHARS_MIN = 4
_WRITTEN = re.compile(r"([0-9a-f]*)(?:(?:\.\.+|…)([0-9a-f]*))?")
_NAMED_MAX = 5

Lines = Callable[[], list[dict[str, Any]]]
"""Asks the mesh for its jobs (`status()["jobs"]`)."""


def job_named(text: object, lines: Lines) -> JobId:
    """The durable job that is meant. Raises TypeError or ValueError with the remedy."""
    if not isinstance(text, str):
        raise TypeError(f"a job id is a text as Job.id and status() show it, not {text!r}")
    written = text.strip()
    match = _WRITTEN.fullmatch(written.lower())
    if not written:
        raise ValueError(f"not a job id: {text!r}; it is what Job.id and status() show")
    head, tail = ("", "") if match is None else (match[1], match[2] or "")
    found = _called(written, lines())
    durable = [each for each in found if each["durable"]]
    if len(durable) == 1:
        return bytes.fromhex(durable[0]["id"])
    if durable:
        raise ValueError(_several(text, durable))
    if match is None and not found:
        raise ValueError(f"not a job id: {text!r}, and no job has that name; status() shows both")
    if found:
        raise ValueError(
            f"job {text} ends with the program that submitted it ({found[0]['owner']}) and cannot be "
            "attached: only launch() and options(durable=True) make jobs that can"
        )
    if len(head) in (2 * JOB_ID_OCTETS, 2 * SLICE_ID_OCTETS) and not tail:
        return bytes.fromhex(head)  # its primary may be dead at this moment
    raise ValueError(
        f"no job of this mesh is called {text!r}: jobs() and `stealmesh status` list them"
    )


def line_named(text: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The line of the job that is meant, durable or not. Raises ValueError with the remedy."""
    found = _called(text.strip(), lines)
    if len(found) > 1:
        going = [each for each in found if not each["ended"]]
        raise ValueError(_several(text, going + [each for each in found if each["ended"]]))
    if not found:
        raise ValueError(f"no job of this mesh is called {text!r}: `stealmesh jobs` lists them")
    return found[0]


def _called(written: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All jobs with this id, or this beginning (and end) of it; if there are none, those with this name."""
    match = _WRITTEN.fullmatch(written.lower()) if written else None
    found = []
    if match is not None:
        head, tail = match[1], match[2] or ""
        found = [
            each for each in lines if each["id"].startswith(head) and each["id"].endswith(tail)
        ]
        exact = [each for each in found if each["id"] == head]
        found = exact or found
    return found or [each for each in lines if each["name"] == written and written]


def _several(text: str, found: list[dict[str, Any]]) -> str:
    some = ", ".join(
        f"{each['id']} ({each['name']}, {each['state']})" for each in found[:_NAMED_MAX]
    )
    return f"{len(found)} jobs are called {text!r}: write more of {some}"


def short_forms(ids: Iterable[str]) -> dict[str, str]:
    """For each id a short form that no other id in this list has."""
    every = list(dict.fromkeys(ids))
    tail = TAIL_CHARS_MIN
    longest = max(map(len, every), default=0) - HEAD_CHARS
    while tail < longest and len({(each[:HEAD_CHARS], each[-tail:]) for each in every}) < len(
        every
    ):
        tail += 1
    return {each: f"{each[:HEAD_CHARS]}..{each[-tail:]}" for each in every}
