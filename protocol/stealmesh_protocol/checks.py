"""What a message must be beyond its schema: lengths, ranges, and parts that fit each other.

Decides whether each field has a value that the engine can take at its word. Refuses to know
what the receiver holds: that a lease is unknown or an index outside its job is no fault of
the form, and the ledger's business.

The same functions judge what comes in and what goes out: it is better that a defect of ours
is found here than by a peer who then ends the link.

They are on the way of every message, so they are written out plainly. A number that is only compared
or echoed (nonces, digests, weights) may have all 64 bits. Others are bounded far below, in limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import inf
from typing import Any

from stealmesh_protocol import limits
from stealmesh_protocol.accounts import BagAccount
from stealmesh_protocol.ids import (
    JOB_ID_OCTETS,
    LEASE_STRIDE_BITS,
    PEER_ID_OCTETS,
    SLICE_DOUBLINGS_MAX,
    SLICE_ID_OCTETS,
    VALUE_ID_OCTETS,
)
from stealmesh_protocol.messages import (
    Abolish,
    Accepted,
    Ack,
    Around,
    Beat,
    Block,
    Bye,
    Claim,
    Closed,
    Commit,
    Declined,
    Digests,
    Fetch,
    Fetched,
    FnGet,
    FnPut,
    Forget,
    Grant,
    Hello,
    Here,
    JobKind,
    JobLine,
    JobLoad,
    JobSpec,
    Keep,
    Kept,
    KeptUpto,
    Launch,
    Lease,
    Member,
    Message,
    Needs,
    Nothing,
    Offer,
    Part,
    Piece,
    Promote,
    Pull,
    Refused,
    Reign,
    Report,
    Resources,
    Returned,
    Revoked,
    Sated,
    Seek,
    Settled,
    Split,
    Status,
    StatusGet,
    Steal,
    Supply,
    Taken,
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
    View,
    Vote,
    Welcome,
    Withdraw,
)

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


# ---------------------------------------------------------------- parts


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


def _peer_id(identity: bytes, *, may_be_empty: bool = False) -> None:
    if len(identity) != PEER_ID_OCTETS and not (may_be_empty and not identity):
        raise Fault("id", f"a peer id has {PEER_ID_OCTETS} octets, not {len(identity)}")


def _job_id(job: bytes) -> None:
    if len(job) not in (JOB_ID_OCTETS, SLICE_ID_OCTETS):
        octets = f"{JOB_ID_OCTETS} octets, or {SLICE_ID_OCTETS} as a slice"
        raise Fault("id", f"a job id has {octets}, not {len(job)}")
    if len(job) == SLICE_ID_OCTETS and job[JOB_ID_OCTETS] > SLICE_DOUBLINGS_MAX:
        raise Fault("id", f"no slice has 2**{job[JOB_ID_OCTETS]} items")


def _digest(digest: bytes) -> None:
    if len(digest) != DIGEST_OCTETS:
        raise Fault("id", f"a digest has {DIGEST_OCTETS} octets, not {len(digest)}")


def _value_id(value: bytes) -> None:
    if len(value) != VALUE_ID_OCTETS:
        raise Fault("id", f"a value id has {VALUE_ID_OCTETS} octets, not {len(value)}")


def _needs(needs: Needs) -> None:
    _list(needs, limits.NEEDS_MAX)
    for value in needs:
        _value_id(value)
    if len(set(needs)) != len(needs):
        raise Fault("list", "a value is needed twice")


def _names(*names: str) -> None:
    """Names are shown in terminals: no control characters, no line ends."""
    for name in names:
        if len(name) > limits.NAME_CHARS_MAX or not name.isprintable():
            raise Fault("text", f"{name[:40]!r} is no name: too long, or not printable")


def _text(text: str) -> None:
    if len(text) > limits.TEXT_CHARS_MAX:
        raise Fault("text", f"a text of {len(text)} characters")


def _list(items: Sequence[Any], most: int = limits.LIST_MAX) -> None:
    if len(items) > most:
        raise Fault("list", f"{len(items)} entries where at most {most} are allowed")


def _count(number: int) -> None:
    if number < 0:
        raise Fault("range", f"{number} is no count")


def _seconds(seconds: float) -> None:
    if not 0.0 <= seconds <= limits.SECONDS_MAX:  # false for NaN as well
        raise Fault("number", f"{seconds} is no duration")


def _interval(lo: int, hi: int) -> None:
    if not 0 <= lo <= hi <= limits.INDEX_MAX:
        raise Fault("range", f"[{lo}, {hi}) is no interval")


def _member(member: Member) -> None:
    _peer_id(member.id)
    _names(member.name, member.host, member.build, member.runtime)
    _list(member.endpoints, limits.ENDPOINTS_MAX)
    for endpoint in member.endpoints:
        fault = endpoint_fault(endpoint)
        if fault:
            raise Fault("endpoint", f"{endpoint[:80]!r} {fault}")
    _incarnation(member.incarnation)
    _count(member.pid)
    if not 0 <= member.workers <= limits.WORKERS_MAX:
        raise Fault("range", f"{member.workers} workers")
    if member.resources:
        _resources(member.resources)


def _incarnation(number: int) -> None:
    if not 0 <= number <= limits.INCARNATION_MAX:
        raise Fault("range", f"incarnation {number}")


def _term(term: int) -> None:
    if not 0 <= term <= limits.TERM_MAX:
        raise Fault("range", f"term {term}")


def _resources(resources: Resources) -> None:
    """Sorted, so that two equal ones look alike."""
    _list(resources, limits.RESOURCES_MAX)
    before = ""
    for name, count in resources:
        _names(name)
        if not before < name:
            raise Fault("text", f"the resource {name[:40]!r} has no name, or not its place")
        if not 1 <= count <= limits.RESOURCE_COUNT_MAX:
            raise Fault("range", f"{count} of a resource")
        before = name


def _members(members: list[Member]) -> None:
    _list(members, limits.MEMBERS_MAX)
    for member in members:
        _member(member)


@lru_cache(maxsize=256)
def _job_spec(spec: JobSpec) -> None:
    """Every grant of a job has it, so a good one is remembered; a bad one raises each time."""
    _job_id(spec.job)
    _peer_id(spec.owner)
    _digest(spec.function)
    if spec.combine:
        _digest(spec.combine)
    _text(spec.name)
    _count(spec.retries)
    _seconds(spec.timeout)
    if not 1 <= spec.attempts_max <= limits.ATTEMPTS_MAX:
        raise Fault("range", f"{spec.attempts_max} attempts")
    _term(spec.term)
    _count(spec.stays_from)
    _interval(0, spec.count)
    if spec.runtime:
        _names(spec.runtime)
    if spec.code:
        _digest(spec.code)
    if spec.chunk_items:
        _interval(0, spec.chunk_items)
    if spec.submitted or spec.submitter:
        _text(spec.submitter)
        _seconds(spec.submitted)
    _interval(0, spec.max_parallel)
    if spec.resources:
        _resources(spec.resources)
    if not 0 <= spec.together <= limits.TOGETHER_MAX:
        raise Fault("range", f"{spec.together} items side by side")
    if spec.needs:
        _needs(spec.needs)
    _life(spec.life)
    _count(spec.restarts)
    if not -limits.INDEX_MAX <= spec.step <= limits.INDEX_MAX:
        raise Fault("range", f"step {spec.step}")
    if spec.life and spec.kind is not JobKind.SUBMIT:
        raise Fault("actor", "only single calls can be an actor's")


def _blocks(blocks: list[Block]) -> None:
    _list(blocks)
    if len(blocks) > 1:
        _disjoint((block.lo, block.hi) for block in blocks)
    for block in blocks:
        _interval(block.lo, block.hi)
        if not 0 <= block.codec <= CODEC_MAX:
            raise Fault("range", f"codec {block.codec}")
        if block.needs:
            _needs(block.needs)


def _leases(leases: list[Lease]) -> None:
    _list(leases)
    for lease in leases:
        if lease.lid < 0 or not 0 <= lease.lo <= lease.hi <= limits.INDEX_MAX:
            raise Fault("range", f"{lease} is no lease")


def _disjoint(intervals: Iterable[tuple[int, int]]) -> None:
    reached = 0
    for lo, hi in sorted(intervals):
        if lo < reached:
            raise Fault("range", f"the intervals overlap at {lo}")
        reached = max(reached, hi)


def _lease_ids(lids: list[int]) -> None:
    _list(lids)
    if lids and min(lids) < 0:
        raise Fault("range", "a negative lease id")


def _blobs(blobs: list[bytes], expected: int) -> None:
    if len(blobs) != expected:
        raise Fault("blobs", f"{len(blobs)} blobs where {expected} belong")


def _pairs(intervals: list[tuple[int, int]]) -> None:
    _list(intervals)
    for lo, hi in intervals:
        _interval(lo, hi)


def _job_load(load: JobLoad) -> None:
    _job_id(load.job)
    _lease_ids(load.lids)
    _pairs(load.running)


def _progress(index: int, done: float, total: float) -> None:
    """What a task has said of an item. Not in seconds: in whatever it counts."""
    _interval(index, limits.INDEX_MAX)
    if not 0.0 <= done < inf or not (total == -1 or 0.0 <= total < inf):
        raise Fault("number", f"{done} of {total}")


def _job_line(line: JobLine) -> None:
    _job_id(line.job)
    _text(line.name)
    _names(line.state)
    figures = (line.total, line.done, line.failed, line.leased, line.free)
    if min(*figures, line.rerun, line.duplicates_dropped) < 0:
        raise Fault("range", "a negative figure in a job's account")
    _text(line.owner)
    _seconds(line.started)
    _seconds(line.ended)
    _list(line.told)
    for word in line.told:
        _progress(*word)


# ---------------------------------------------------------------- messages


def _hello(message: Hello) -> None:
    lowest, highest = message.versions
    if not 1 <= lowest <= highest <= 255:
        raise Fault("range", f"versions {lowest} to {highest}")
    if len(message.mesh) > limits.FINGERPRINT_OCTETS_MAX:
        raise Fault("size", f"a fingerprint of {len(message.mesh)} octets")
    _member(message.sender)
    _peer_id(message.to, may_be_empty=True)
    _names(message.runtime)
    _count(message.epoch)


def _welcome(message: Welcome) -> None:
    if not 1 <= message.version <= 255:
        raise Fault("range", f"version {message.version}")
    _member(message.sender)
    _peer_id(message.to, may_be_empty=True)
    _members(message.members)
    _names(message.runtime)
    _count(message.epoch)


def _refused(message: Refused) -> None:
    _names(message.code)
    _text(message.text)
    _seconds(message.retry_after)


def _bye(message: Bye) -> None:
    _text(message.reason)


def _beat(message: Beat) -> None:
    _incarnation(message.incarnation)
    _count(message.view)
    _seconds(message.queued_seconds)
    if message.loads:
        _list(message.loads, limits.JOBS_MAX)
        for load in message.loads:
            _job_load(load)
    if message.jobs:
        _list(message.jobs, limits.JOBS_MAX)
        for line in message.jobs:
            _job_line(line)
    if message.told:
        _list(message.told)
        for job, lid, item, done, total in message.told:
            _job_id(job)
            _count(lid)
            _progress(item, done, total)


def _view(message: View) -> None:
    _members(message.members)


def _vote(message: Vote) -> None:
    _peer_id(message.subject)
    _incarnation(message.incarnation)


def _digests(message: Digests) -> None:
    _list(message.buckets, limits.BUCKETS_MAX)
    if not message.buckets or limits.BUCKETS_MAX % len(message.buckets):
        raise Fault("list", f"{len(message.buckets)} is no number of buckets")
    if min(message.buckets) < 0:
        raise Fault("range", "a negative digest")


def _around(message: Around) -> None:
    _count(message.digest)
    if not 0 <= message.nodes <= limits.NODES_MAX:
        raise Fault("range", f"a mesh of {message.nodes} nodes")
    _members(message.members)
    for peers in (message.homes, message.lifelines):
        _list(peers, limits.MEMBERS_MAX)
        for peer in peers:
            _peer_id(peer)


def _steal(message: Steal) -> None:
    _count(message.nonce)
    _count(message.room)
    if message.taken:
        _list(message.taken, limits.RESOURCES_MAX)
        _names(*message.taken)


def _nonce(message: Nothing | StatusGet) -> None:
    _count(message.nonce)


def _grant(message: Grant) -> None:
    _job_spec(message.spec)
    _leases(message.leases)
    _count(message.nonce)
    blocks = message.blocks
    if message.spec.kind is JobKind.EXPLORE:
        if blocks:
            raise Fault("blobs", "an explore bag has no blocks")
        _blobs(message.blobs, len(message.leases))
        _bags(message.leases)
        return
    if blocks and message.spec.step:
        raise Fault("blobs", "the items of a range need no blocks")
    _blobs(message.blobs, len(blocks))
    _blocks(blocks)
    if len(message.leases) > 1:
        _disjoint((lease.lo, lease.hi) for lease in message.leases)


def _split(message: Split) -> None:
    _job_id(message.job)
    _leases(message.parts)
    _peer_id(message.thief)
    _count(message.nonce)


def _report(message: Report) -> None:
    _job_id(message.job)
    parts = message.parts
    _list(parts)
    _blobs(message.blobs, len(parts))
    for part in parts:
        _part(part)


def _part(part: Part) -> None:
    if part.lid < 0 or part.failed < 0 or not 0 <= part.lo <= part.hi <= limits.INDEX_MAX:
        raise Fault("range", f"{part} covers nothing that could exist")
    if not 0.0 <= part.seconds <= limits.SECONDS_MAX:
        raise Fault("number", f"{part.seconds} is no duration")
    if not 0 <= part.codec <= CODEC_MAX:
        raise Fault("range", f"codec {part.codec}")
    if part.stays:
        _stays(part)


def _stays(part: Part) -> None:
    """Items of the part, in order, each with a result that has octets."""
    before = part.lo - 1
    for item, octets in part.stays:
        if not before < item < part.hi or not 0 < octets <= limits.INDEX_MAX:
            raise Fault("range", f"item {item} of {part.lo} to {part.hi} stays, {octets} octets")
        before = item


def _commit(message: Commit) -> None:
    _job_id(message.job)
    if message.lid < 0 or message.seq < 1 or message.failed < 0:
        raise Fault("range", "a commit under a lease or number that cannot exist")
    for items in (message.remaining, message.items, message.failed):
        _step_items(items)
    _seconds(message.seconds)
    _bags(message.children)
    _blobs(message.blobs, 2 + len(message.children))
    if bool(message.remaining) is not bool(message.blobs[1]):
        raise Fault("blobs", f"{message.remaining} items remain, in {len(message.blobs[1])} octets")


def _step_items(items: int) -> None:
    if not 0 <= items <= limits.STEP_ITEMS_MAX:
        raise Fault("range", f"{items} items in one step")


def _bags(bags: list[Lease]) -> None:
    """Of an explore job: none is empty."""
    _leases(bags)
    for bag in bags:
        if bag.lo or not 0 < bag.hi <= limits.STEP_ITEMS_MAX:
            raise Fault("range", f"{bag} is no bag")


def _returned(message: Returned) -> None:
    _job_id(message.job)
    _leases(message.parts)


def _declined(message: Declined) -> None:
    _job_id(message.job)
    _leases(message.parts)
    _text(message.reason)
    _life(message.life)
    _leases(message.begun)


def _life(life: int) -> None:
    """Its number is a lease id that no grant has."""
    if not 0 <= life < 1 << LEASE_STRIDE_BITS:
        raise Fault("range", f"life {life} of an actor")


def _revoked(message: Revoked) -> None:
    _job_id(message.job)
    _lease_ids(message.lids)


def _withdraw(message: Withdraw) -> None:
    _job_id(message.job)
    _pairs(message.intervals)


def _fn_get(message: FnGet) -> None:
    _digest(message.digest)


def _fn_put(message: FnPut) -> None:
    """That the bytes have this digest is for the receiver to verify, who must also acknowledge."""
    _digest(message.digest)
    _list(message.blobs, 1)


def _status(message: Status) -> None:
    _count(message.nonce)
    _list(message.blobs, 1)


def _launch(message: Launch) -> None:
    _job_spec(message.spec)
    if message.spec.life:
        raise Fault("kind", "an actor is not durable")
    _interval(0, message.total)
    _blobs(message.blobs, 1 + bool(message.spec.combine) + bool(message.spec.code))


def _supply(message: Supply) -> None:
    _job_id(message.job)
    _blocks(message.blocks)
    _blobs(message.blobs, len(message.blocks))
    _interval(0, message.total)


def _accepted(message: Accepted) -> None:
    _job_id(message.job)
    _interval(0, message.upto)
    _text(message.refusal)


def _reign(reign: Reign) -> None:
    _term(reign.term)
    _interval(0, reign.version)
    _peer_id(reign.primary)
    _list(reign.seats, limits.SEATS_MAX)
    for seat, peer in reign.seats:
        _seat(seat)
        _peer_id(peer)


def _seat(seat: bytes) -> None:
    if len(seat) > limits.SEAT_OCTETS_MAX:
        raise Fault("size", f"the name of a store has {len(seat)} octets")


def _here(message: Here) -> None:
    _job_id(message.job)
    _reign(message.reign)
    _seat(message.seat)
    _count(message.weight)
    _text(message.why)


def _keep(message: Keep) -> None:
    _job_spec(message.spec)
    _reign(message.reign)
    _interval(0, message.number)
    _interval(0, message.total)
    _interval(message.floor, message.total)
    _text(message.state)
    _blocks(message.blocks)
    _kept(message.results)
    extra = len(message.blobs) - len(message.blocks) - len(message.results)
    if not 0 <= extra <= 3:
        raise Fault("blobs", f"{len(message.blobs)} blobs do not fit what they are for")
    _account(message.account)


def _account(account: BagAccount | None) -> None:
    if account is not None and account.fault:
        raise Fault("range", account.fault)


def _kept(results: list[Kept]) -> None:
    _list(results)
    for each in results:
        _part(each.part)
        if not each.part.lo <= each.lo < each.hi <= each.part.hi:
            raise Fault("range", f"[{each.lo}, {each.hi}) is not in {each.part}")


def _kept_upto(message: KeptUpto) -> None:
    _job_id(message.job)
    _term(message.term)
    _interval(0, message.number)
    _seat(message.seat)


def _offer(message: Offer) -> None:
    _job_id(message.job)
    _seat(message.seat)
    _pairs(message.covered)
    _pairs(message.fed)
    _interval(0, message.total)
    _text(message.state)
    _interval(message.floor, message.total)
    _count(message.functions)
    _account(message.account)


def _pull(message: Pull) -> None:
    _job_id(message.job)
    _pairs(message.results)
    _pairs(message.blocks)


def _forget(message: Forget) -> None:
    _job_id(message.job)
    _term(message.term)


def _settled(message: Settled) -> None:
    _job_id(message.job)
    _pairs(message.intervals)
    _interval(0, message.count)


def _claim(message: Claim) -> None:
    _job_id(message.job)
    _leases(message.leases)
    _list(message.parts)
    _blobs(message.blobs, len(message.parts))
    for part in message.parts:
        _part(part)


def _fetch(message: Fetch) -> None:
    _job_id(message.job)
    _count(message.lo)


def _fetched(message: Fetched) -> None:
    _job_id(message.job)
    _count(message.lo)
    _job_line(message.line)
    _kept(message.results)
    _pairs(message.missing)
    _blobs(message.blobs, len(message.results))
    _account(message.account)


def _job_only(message: Closed | Abolish | Seek) -> None:
    _job_id(message.job)


def _piece(message: Piece) -> None:
    if not 0 <= message.index < message.of <= limits.PIECES_MAX:
        raise Fault("pieces", f"piece {message.index} of {message.of}")
    _blobs(message.blobs, 1)
    octets = len(message.blobs[0])
    is_last = message.index == message.of - 1
    if not (0 < octets <= limits.PIECE_OCTETS if is_last else octets == limits.PIECE_OCTETS):
        raise Fault("pieces", f"a piece of {octets} octets")


def _taken(message: Taken) -> None:
    _count(message.octets)


def _value_seek(message: ValueSeek) -> None:
    _value_id(message.value)
    _list(message.avoid, limits.MEMBERS_MAX)
    for peer in message.avoid:
        _peer_id(peer)


def _value_at(message: ValueAt) -> None:
    _value_id(message.value)
    _peer_id(message.source, may_be_empty=True)
    _interval(0, message.octets)
    _count(message.making)
    if bool(message.source) is not bool(message.octets):
        raise Fault("range", f"a value of {message.octets} octets, source {message.source.hex()}")


def _value_get(message: ValueGet) -> None:
    _value_id(message.value)
    _count(message.making)
    _interval(message.at, limits.INDEX_MAX)
    if not 0 < message.octets <= limits.VALUE_ASK_OCTETS:
        raise Fault("range", f"{message.octets} octets of a value at once")


def _value_put(message: ValuePut) -> None:
    _value_id(message.value)
    _count(message.making)
    _interval(message.at, limits.INDEX_MAX)
    _list(message.blobs, 1)
    if message.blobs and not 0 < len(message.blobs[0]) <= limits.VALUE_PIECE_OCTETS:
        raise Fault("size", f"a piece of {len(message.blobs[0])} octets")


def _value_only(message: ValueHeld | ValueDrop) -> None:
    _value_id(message.value)
    _count(message.making)


def _bare(message: Ack | Promote | Sated) -> None:
    """Nothing in it that could be wrong."""


CHECKS: dict[type[Message], Callable[[Any], None]] = {
    Hello: _hello,
    Welcome: _welcome,
    Refused: _refused,
    Bye: _bye,
    Beat: _beat,
    Ack: _bare,
    View: _view,
    Vote: _vote,
    Digests: _digests,
    Around: _around,
    Promote: _bare,
    Steal: _steal,
    Nothing: _nonce,
    Sated: _bare,
    Grant: _grant,
    Split: _split,
    Report: _report,
    Commit: _commit,
    Returned: _returned,
    Declined: _declined,
    Revoked: _revoked,
    Withdraw: _withdraw,
    Closed: _job_only,
    FnGet: _fn_get,
    FnPut: _fn_put,
    StatusGet: _nonce,
    Status: _status,
    Piece: _piece,
    Launch: _launch,
    Supply: _supply,
    Accepted: _accepted,
    Abolish: _job_only,
    Seek: _job_only,
    Here: _here,
    Keep: _keep,
    KeptUpto: _kept_upto,
    Offer: _offer,
    Pull: _pull,
    Forget: _forget,
    Settled: _settled,
    Claim: _claim,
    Fetch: _fetch,
    Fetched: _fetched,
    Taken: _taken,
    ValueSeek: _value_seek,
    ValueAt: _value_at,
    ValueGet: _value_get,
    ValuePut: _value_put,
    ValueHeld: _value_only,
    ValueDrop: _value_only,
}
