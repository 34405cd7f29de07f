"""What the fields of messages must be beyond their schema: lengths, ranges, lists that fit each other.

Decides for each kind of field (an id, a count, a member, a job's spec, blocks, leases) what the engine can take
at its word. Refuses to know which message it is in (checks.py).

A number that is only compared or echoed (nonces, digests, weights) may have all 64 bits. Others are bounded far
below, in limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import inf
from typing import Any

from stealmesh_protocol import limits
from stealmesh_protocol.ids import (
    JOB_ID_OCTETS,
    LEASE_STRIDE_BITS,
    PEER_ID_OCTETS,
    SLICE_DOUBLINGS_MAX,
    SLICE_ID_OCTETS,
    VALUE_ID_OCTETS,
    JobId,
)
from stealmesh_protocol.input_checks import fault_of_calls, fault_of_inputs
from stealmesh_protocol.messages import (
    Block,
    JobKind,
    JobLine,
    JobLoad,
    JobSpec,
    Lease,
    Member,
    Needs,
    Resources,
)
from stealmesh_protocol.passes import is_name

DIGEST_OCTETS = 16
CODEC_MAX = 255
PORT_MAX = 65_535

_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_IPC = re.compile(r"ipc://[!-~]+")
_NOWHERE = frozenset({"0.0.0.0", "[::]"})


class Fault(Exception):
    """A message that is not what it should be; the codec knows which side is at fault."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@lru_cache(maxsize=4096)
def endpoint_fault(endpoint: str) -> str:
    """Why no peer can be dialled there; empty: it looks like an address."""
    if len(endpoint) > limits.ENDPOINT_CHARS_MAX:
        return "is too long"
    if _IPC.fullmatch(endpoint):
        return ""
    tcp = _TCP.fullmatch(endpoint)
    if tcp is None:
        return "is neither tcp://host:port nor ipc://path"
    if not 0 < int(tcp[2]) <= PORT_MAX:
        return "has no such port"
    return "is a place to listen, not one to dial" if tcp[1] in _NOWHERE else ""


def check_peer_id(identity: bytes, *, may_be_empty: bool = False) -> None:
    if len(identity) != PEER_ID_OCTETS and not (may_be_empty and not identity):
        raise Fault("id", f"a peer id has {PEER_ID_OCTETS} octets, not {len(identity)}")


def check_job_id(job: bytes) -> None:
    if len(job) not in (JOB_ID_OCTETS, SLICE_ID_OCTETS):
        octets = f"{JOB_ID_OCTETS} octets, or {SLICE_ID_OCTETS} as a slice"
        raise Fault("id", f"a job id has {octets}, not {len(job)}")
    if len(job) == SLICE_ID_OCTETS and job[JOB_ID_OCTETS] > SLICE_DOUBLINGS_MAX:
        raise Fault("id", f"no slice has 2**{job[JOB_ID_OCTETS]} items")


def check_digest(digest: bytes) -> None:
    if len(digest) != DIGEST_OCTETS:
        raise Fault("id", f"a digest has {DIGEST_OCTETS} octets, not {len(digest)}")


def check_value_id(value: bytes) -> None:
    if len(value) != VALUE_ID_OCTETS:
        raise Fault("id", f"a value id has {VALUE_ID_OCTETS} octets, not {len(value)}")


def check_needs(needs: Needs) -> None:
    check_list(needs, limits.NEEDS_MAX)
    for value in needs:
        check_value_id(value)
    if len(set(needs)) != len(needs):
        raise Fault("list", "a value is needed twice")


def check_names(*names: str) -> None:
    """Names are shown in terminals: no control characters, no line ends."""
    for name in names:
        if len(name) > limits.NAME_CHARS_MAX or not name.isprintable():
            raise Fault("text", f"{name[:40]!r} is no name: too long, or not printable")


def check_text(text: str) -> None:
    if len(text) > limits.TEXT_CHARS_MAX:
        raise Fault("text", f"a text of {len(text)} characters")


def check_list(items: Sequence[Any], most: int = limits.LIST_MAX) -> None:
    if len(items) > most:
        raise Fault("list", f"{len(items)} entries where at most {most} are allowed")


def check_count(number: int) -> None:
    if number < 0:
        raise Fault("range", f"{number} is no count")


def check_seconds(seconds: float) -> None:
    if not 0.0 <= seconds <= limits.SECONDS_MAX:  # false for NaN as well
        raise Fault("number", f"{seconds} is no duration")


def check_interval(lo: int, hi: int) -> None:
    if not 0 <= lo <= hi <= limits.INDEX_MAX:
        raise Fault("range", f"[{lo}, {hi}) is no interval")


def check_member(member: Member) -> None:
    check_peer_id(member.id)
    check_names(member.name, member.host, member.build, member.runtime)
    check_list(member.endpoints, limits.ENDPOINTS_MAX)
    for endpoint in member.endpoints:
        fault = endpoint_fault(endpoint)
        if fault:
            raise Fault("endpoint", f"{endpoint[:80]!r} {fault}")
    check_incarnation(member.incarnation)
    check_count(member.pid)
    if not 0 <= member.workers <= limits.WORKERS_MAX:
        raise Fault("range", f"{member.workers} workers")
    if member.resources:
        check_resources(member.resources)


def check_incarnation(number: int) -> None:
    if not 0 <= number <= limits.INCARNATION_MAX:
        raise Fault("range", f"incarnation {number}")


def check_term(term: int) -> None:
    if not 0 <= term <= limits.TERM_MAX:
        raise Fault("range", f"term {term}")


def check_resources(resources: Resources) -> None:
    """Sorted, so that two equal ones look alike."""
    check_list(resources, limits.RESOURCES_MAX)
    before = ""
    for name, count in resources:
        check_names(name)
        if not before < name:
            raise Fault("text", f"the resource {name[:40]!r} has no name, or not its place")
        if not 1 <= count <= limits.RESOURCE_COUNT_MAX:
            raise Fault("range", f"{count} of a resource")
        before = name


def check_members(members: list[Member]) -> None:
    check_list(members, limits.MEMBERS_MAX)
    for member in members:
        check_member(member)


@lru_cache(maxsize=256)
def check_job_spec(spec: JobSpec) -> None:
    """Every grant of a job has it, so a good one is remembered; a bad one raises each time."""
    check_job_id(spec.job)
    check_peer_id(spec.owner)
    check_digest(spec.function)
    if spec.combine:
        check_digest(spec.combine)
    check_text(spec.name)
    check_count(spec.retries)
    check_seconds(spec.timeout)
    if not 1 <= spec.attempts_max <= limits.ATTEMPTS_MAX:
        raise Fault("range", f"{spec.attempts_max} attempts")
    check_term(spec.term)
    check_count(spec.stays_from)
    check_interval(0, spec.count)
    if spec.runtime:
        check_names(spec.runtime)
    if spec.code:
        check_digest(spec.code)
    if spec.chunk_items:
        check_interval(0, spec.chunk_items)
    if spec.submitted or spec.submitter:
        check_text(spec.submitter)
        check_seconds(spec.submitted)
    if spec.guest and not is_name(spec.guest):
        raise Fault("text", f"{spec.guest[:80]!r} is no name of a token")
    check_interval(0, spec.max_parallel)
    if spec.resources:
        check_resources(spec.resources)
    if not 0 <= spec.together <= limits.TOGETHER_MAX:
        raise Fault("range", f"{spec.together} items side by side")
    if spec.needs:
        check_needs(spec.needs)
    check_life(spec.life)
    check_count(spec.restarts)
    if not -limits.INDEX_MAX <= spec.step <= limits.INDEX_MAX:
        raise Fault("range", f"step {spec.step}")
    if spec.life and spec.kind is not JobKind.SUBMIT:
        raise Fault("actor", "only single calls can be an actor's")


def check_blocks(
    blocks: list[Block], waits_in: JobSpec | None = None, *, durable: JobId = b""
) -> None:
    """Items of the job `waits_in` may wait for others, and those of the `durable` one for durable calls;
    without either none may."""
    check_list(blocks)
    if len(blocks) > 1:
        check_disjoint((block.lo, block.hi) for block in blocks)
    for block in blocks:
        check_interval(block.lo, block.hi)
        if not 0 <= block.codec <= CODEC_MAX:
            raise Fault("range", f"codec {block.codec}")
        if block.needs:
            check_needs(block.needs)
        if block.inputs:
            fault = fault_of_calls(block, durable) if durable else fault_of_inputs(block, waits_in)
            if fault:
                raise Fault("list", fault)
        elif block.makers:
            raise Fault("list", "makers of nothing")


def check_leases(leases: list[Lease]) -> None:
    check_list(leases)
    for lease in leases:
        if lease.lid < 0 or not 0 <= lease.lo <= lease.hi <= limits.INDEX_MAX:
            raise Fault("range", f"{lease} is no lease")


def check_disjoint(intervals: Iterable[tuple[int, int]]) -> None:
    reached = 0
    for lo, hi in sorted(intervals):
        if lo < reached:
            raise Fault("range", f"the intervals overlap at {lo}")
        reached = max(reached, hi)


def check_lease_ids(lids: list[int]) -> None:
    check_list(lids)
    if lids and min(lids) < 0:
        raise Fault("range", "a negative lease id")


def check_blobs(blobs: list[bytes], expected: int) -> None:
    if len(blobs) != expected:
        raise Fault("blobs", f"{len(blobs)} blobs where {expected} belong")


def check_pairs(intervals: list[tuple[int, int]]) -> None:
    check_list(intervals)
    for lo, hi in intervals:
        check_interval(lo, hi)


def check_job_load(load: JobLoad) -> None:
    check_job_id(load.job)
    check_lease_ids(load.lids)
    check_pairs(load.running)


def check_progress(index: int, done: float, total: float) -> None:
    """What a task has said of an item. Not in seconds: in whatever it counts."""
    check_interval(index, limits.INDEX_MAX)
    if not 0.0 <= done < inf or not (total == -1 or 0.0 <= total < inf):
        raise Fault("number", f"{done} of {total}")


def check_job_line(line: JobLine) -> None:
    check_job_id(line.job)
    check_text(line.name)
    check_names(line.state)
    figures = (line.total, line.done, line.failed, line.leased, line.free)
    if min(*figures, line.rerun, line.duplicates_dropped) < 0:
        raise Fault("range", "a negative figure in a job's account")
    check_text(line.owner)
    check_seconds(line.started)
    check_seconds(line.ended)
    check_list(line.told)
    for word in line.told:
        check_progress(*word)
    check_seconds(line.rate)
    check_text(line.error)


def check_life(life: int) -> None:
    """Its number is a lease id that no grant has."""
    if not 0 <= life < 1 << LEASE_STRIDE_BITS:
        raise Fault("range", f"life {life} of an actor")
