"""Which answers to a status request can be shown, and what is shown of a node whose answer cannot.

Decides by comparing with our own snapshot: the same names have values of the same types. What a peer sends is an
input: one that sends something else must not break the `status` of a program. Refuses to know what the figures
mean (status.py).
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from stealmesh_protocol.messages import JobKind, JobLine, Member

UNREADABLE = "unreadable"
_NUMBERS = (int, float)


def readable(answer: bytes, own: dict[str, Any], member: Member | None) -> dict[str, Any]:
    """What this answer says, or a stand-in for its node."""
    blank = _blank(own, member)
    try:
        said = msgspec.msgpack.decode(answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return blank
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said):
        return blank
    whole = {**blank, "state": "alive", **said}  # another version may know fewer figures
    alike = all(_is_like(whole[name], own[name]) for name in own)
    counts = whole["counters"].values() if alike else ()
    readable = all(map(_is_count, counts)) and all(map(_is_job, whole["jobs"])) if alike else False
    return whole if readable and all(map(_is_running, whole["running"])) else blank


def _blank(own: dict[str, Any], member: Member | None) -> dict[str, Any]:
    blank: dict[str, Any] = {name: type(value)() for name, value in own.items()}
    blank |= {"state": UNREADABLE, "role": "plain"}
    if member is not None:
        role = member.role.name.lower()
        blank |= {"id": member.id.hex(), "name": member.name, "host": member.host, "role": role}
    return blank


def _is_like(value: Any, ours: Any) -> bool:
    if isinstance(ours, _NUMBERS) and not isinstance(ours, bool):
        return _is_number(value) and not isinstance(value, bool)
    return isinstance(value, type(ours))


def _is_running(chunk: Any) -> bool:
    """Is it what `status` says of a chunk that runs?"""
    if not isinstance(chunk, dict):
        return False
    numbers = [chunk.get(name) for name in ("lo", "hi", "worker", "seconds")]
    texts = [chunk.get(name) for name in ("job", "name")]
    return all(map(_is_number, numbers)) and all(isinstance(each, str) for each in texts)


def _is_number(value: Any) -> bool:
    """A figure; what is infinite or no number would spoil every sum that it is in."""
    return isinstance(value, _NUMBERS) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int)


def figure_of(job: dict[str, Any], name: str) -> Any:
    """This figure of a job's line; a peer of an older version does not say the last ones."""
    if name in job or name not in _DEFAULTS:
        return job[name]
    return _DEFAULTS[name]


_DEFAULTS = dict(
    zip(
        JobLine.__struct_fields__[-len(JobLine.__struct_defaults__) :],
        JobLine.__struct_defaults__,
        strict=True,
    )
)


def _is_job(job: Any) -> bool:
    """Can a line be made of it again?"""
    try:
        line = [bytes.fromhex(job["id"]), JobKind[job["kind"].upper()]]
        line += [figure_of(job, name) for name in JobLine.__struct_fields__[2:]]
        at = {name: number for number, name in enumerate(JobLine.__struct_fields__)}
        for name in ("started", "ended"):
            line[at[name]] = line[at[name]] or 0.0
        made = msgspec.convert(line, JobLine)
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.ValidationError):
        return False
    return all(map(isfinite, (made.started, made.ended, made.rate)))
