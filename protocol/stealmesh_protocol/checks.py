"""What a message must be beyond its schema: lengths, ranges, and parts that fit each other.

Decides whether each field has a value that the engine can take at its word. Refuses to know
what the receiver holds: that a lease is unknown or an index outside its job is no fault of
the form, and the ledger's business.

The same functions judge what comes in and what goes out: it is better that a defect of ours
is found here than by a peer who then ends the link.

They are on the way of every message, so they are written out plainly. What a field of one kind must be
is in field_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from stealmesh_protocol import limits
from stealmesh_protocol.accounts import BagAccount
from stealmesh_protocol.field_checks import (
    CODEC_MAX,
    Fault,
    check_blobs,
    check_blocks,
    check_count,
    check_digest,
    check_disjoint,
    check_incarnation,
    check_interval,
    check_job_id,
    check_job_line,
    check_job_load,
    check_job_spec,
    check_lease_ids,
    check_leases,
    check_life,
    check_list,
    check_member,
    check_members,
    check_names,
    check_pairs,
    check_peer_id,
    check_progress,
    check_seconds,
    check_term,
    check_text,
    check_value_id,
)
from stealmesh_protocol.ids import JOB_ID_OCTETS, PEER_ID_OCTETS, SLICE_ID_OCTETS, VALUE_ID_OCTETS
from stealmesh_protocol.journal_messages import NO_WORKER, JournalEntry
from stealmesh_protocol.messages import (
    Abolish,
    Accepted,
    Ack,
    Around,
    Barred,
    Beat,
    Bye,
    CallOff,
    Claim,
    Closed,
    Commit,
    Declined,
    Digests,
    Dismiss,
    Fetch,
    Fetched,
    FnGet,
    FnPut,
    Forget,
    Grant,
    Hello,
    Here,
    Hire,
    Hired,
    HireOver,
    InputGet,
    InputPut,
    JobKind,
    JournalGet,
    JournalPage,
    Keep,
    Kept,
    KeptUpto,
    Launch,
    Lease,
    LookAt,
    Message,
    Nothing,
    Offer,
    Part,
    Piece,
    Printed,
    PrintedGet,
    Promote,
    Pull,
    Refused,
    Reign,
    Report,
    Returned,
    Revoked,
    Sated,
    Seek,
    Seen,
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
    WhoIs,
    Withdraw,
)
from stealmesh_protocol.passes import is_barred, is_name


def _hello(message: Hello) -> None:
    lowest, highest = message.versions
    if not 1 <= lowest <= highest <= 255:
        raise Fault("range", f"versions {lowest} to {highest}")
    if len(message.mesh) > limits.FINGERPRINT_OCTETS_MAX:
        raise Fault("size", f"a fingerprint of {len(message.mesh)} octets")
    check_member(message.sender)
    check_peer_id(message.to, may_be_empty=True)
    check_names(message.runtime)
    check_count(message.epoch)
    if len(message.proof) > limits.PROOF_OCTETS_MAX:
        raise Fault("size", f"a proof of {len(message.proof)} octets")


def _welcome(message: Welcome) -> None:
    if not 1 <= message.version <= 255:
        raise Fault("range", f"version {message.version}")
    check_member(message.sender)
    check_peer_id(message.to, may_be_empty=True)
    check_members(message.members)
    check_names(message.runtime)
    check_count(message.epoch)


def _refused(message: Refused) -> None:
    check_names(message.code)
    check_text(message.text)
    check_seconds(message.retry_after)


def _bye(message: Bye) -> None:
    check_text(message.reason)


def _beat(message: Beat) -> None:
    check_incarnation(message.incarnation)
    check_count(message.view)
    check_seconds(message.queued_seconds)
    if message.loads:
        check_list(message.loads, limits.JOBS_MAX)
        for load in message.loads:
            check_job_load(load)
    if message.jobs:
        check_list(message.jobs, limits.JOBS_MAX)
        for line in message.jobs:
            check_job_line(line)
    if message.told:
        check_list(message.told)
        for job, lid, item, done, total in message.told:
            check_job_id(job)
            check_count(lid)
            check_progress(item, done, total)


def _view(message: View) -> None:
    check_members(message.members)


def _vote(message: Vote) -> None:
    check_peer_id(message.subject)
    check_incarnation(message.incarnation)


def _digests(message: Digests) -> None:
    if not message.buckets or limits.BUCKETS_MAX % len(message.buckets):
        raise Fault("list", f"{len(message.buckets)} is no number of buckets")
    if min(message.buckets) < 0:
        raise Fault("range", "a negative digest")


def _around(message: Around) -> None:
    check_count(message.digest)
    if not 0 <= message.nodes <= limits.NODES_MAX:
        raise Fault("range", f"a mesh of {message.nodes} nodes")
    check_members(message.members)
    for peers in (message.homes, message.lifelines):
        check_list(peers, limits.MEMBERS_MAX)
        for peer in peers:
            check_peer_id(peer)


def _steal(message: Steal) -> None:
    check_count(message.nonce)
    check_count(message.room)
    if message.taken:
        check_list(message.taken, limits.RESOURCES_MAX)
        check_names(*message.taken)


def _nonce(message: Nothing | StatusGet) -> None:
    check_count(message.nonce)


def _grant(message: Grant) -> None:
    check_job_spec(message.spec)
    check_leases(message.leases)
    check_count(message.nonce)
    blocks = message.blocks
    if message.spec.kind is JobKind.EXPLORE:
        if blocks:
            raise Fault("blobs", "an explore bag has no blocks")
        check_blobs(message.blobs, len(message.leases))
        _bags(message.leases)
        return
    if blocks and message.spec.step:
        raise Fault("blobs", "the items of a range need no blocks")
    check_blobs(message.blobs, len(blocks))
    check_blocks(blocks, message.spec)
    if len(message.leases) > 1:
        check_disjoint((lease.lo, lease.hi) for lease in message.leases)


def _split(message: Split) -> None:
    check_job_id(message.job)
    check_leases(message.parts)
    check_peer_id(message.thief)
    check_count(message.nonce)


def _report(message: Report | InputPut) -> None:
    check_job_id(message.job)
    parts = message.parts
    check_list(parts)
    check_blobs(message.blobs, len(parts))
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
    check_job_id(message.job)
    if message.lid < 0 or message.seq < 1 or message.failed < 0:
        raise Fault("range", "a commit under a lease or number that cannot exist")
    for items in (message.remaining, message.items, message.failed):
        _step_items(items)
    check_seconds(message.seconds)
    _bags(message.children)
    check_blobs(message.blobs, 2 + len(message.children))
    if bool(message.remaining) is not bool(message.blobs[1]):
        raise Fault("blobs", f"{message.remaining} items remain, in {len(message.blobs[1])} octets")


def _step_items(items: int) -> None:
    if not 0 <= items <= limits.STEP_ITEMS_MAX:
        raise Fault("range", f"{items} items in one step")


def _bags(bags: list[Lease]) -> None:
    """Of an explore job: none is empty."""
    check_leases(bags)
    for bag in bags:
        if bag.lo or not 0 < bag.hi <= limits.STEP_ITEMS_MAX:
            raise Fault("range", f"{bag} is no bag")


def _returned(message: Returned) -> None:
    check_job_id(message.job)
    check_leases(message.parts)


def _declined(message: Declined) -> None:
    check_job_id(message.job)
    check_leases(message.parts)
    check_text(message.reason)
    check_life(message.life)
    check_leases(message.begun)


def _revoked(message: Revoked) -> None:
    check_job_id(message.job)
    check_lease_ids(message.lids)


def _withdraw(message: Withdraw) -> None:
    check_job_id(message.job)
    check_pairs(message.intervals)


def _fn_get(message: FnGet) -> None:
    check_digest(message.digest)


def _fn_put(message: FnPut) -> None:
    """That the bytes have this digest is for the receiver to verify, who must also acknowledge."""
    check_digest(message.digest)
    check_list(message.blobs, 1)


def _status(message: Status) -> None:
    check_count(message.nonce)
    check_list(message.blobs, 1)


def _look_at(message: LookAt) -> None:
    check_count(message.nonce)
    if message.job:
        check_job_id(message.job)
    elif message.item >= 0 or message.onward:
        raise Fault("id", "an item of no job")
    if not -1 <= message.item <= limits.INDEX_MAX:
        raise Fault("range", f"item {message.item}")


def _call_off(message: CallOff) -> None:
    check_count(message.nonce)
    check_job_id(message.job)


def _seen(message: Seen) -> None:
    check_count(message.nonce)
    check_list(message.blobs, 1)
    if message.blobs and len(message.blobs[0]) > limits.SEEN_OCTETS_MAX:
        raise Fault("size", f"an answer of {len(message.blobs[0])} octets")


def _launch(message: Launch) -> None:
    check_job_spec(message.spec)
    if message.spec.life:
        raise Fault("kind", "an actor is not durable")
    check_interval(0, message.total)
    check_blobs(message.blobs, 1 + bool(message.spec.combine) + bool(message.spec.code))


def _supply(message: Supply) -> None:
    check_job_id(message.job)
    check_blocks(message.blocks, durable=message.job)
    check_blobs(message.blobs, len(message.blocks))
    check_interval(0, message.total)


def _accepted(message: Accepted) -> None:
    check_job_id(message.job)
    check_interval(0, message.upto)
    check_text(message.refusal)


def _reign(reign: Reign) -> None:
    check_term(reign.term)
    check_interval(0, reign.version)
    check_peer_id(reign.primary)
    check_list(reign.seats, limits.SEATS_MAX)
    for seat, peer in reign.seats:
        _seat(seat)
        check_peer_id(peer)


def _seat(seat: bytes) -> None:
    if len(seat) > limits.SEAT_OCTETS_MAX:
        raise Fault("size", f"the name of a store has {len(seat)} octets")


def _here(message: Here) -> None:
    check_job_id(message.job)
    _reign(message.reign)
    _seat(message.seat)
    check_count(message.weight)
    check_text(message.why)


def _keep(message: Keep) -> None:
    check_job_spec(message.spec)
    _reign(message.reign)
    check_interval(0, message.number)
    check_interval(0, message.total)
    check_interval(message.floor, message.total)
    check_names(message.state)
    check_blocks(message.blocks, durable=message.spec.job)
    _kept(message.results)
    extra = len(message.blobs) - len(message.blocks) - len(message.results)
    if not 0 <= extra <= 3:
        raise Fault("blobs", f"{len(message.blobs)} blobs do not fit what they are for")
    _account(message.account)


def _account(account: BagAccount | None) -> None:
    if account is not None and account.fault:
        raise Fault("range", account.fault)


def _kept(results: list[Kept]) -> None:
    check_list(results)
    for each in results:
        _part(each.part)
        if not each.part.lo <= each.lo < each.hi <= each.part.hi:
            raise Fault("range", f"[{each.lo}, {each.hi}) is not in {each.part}")


def _kept_upto(message: KeptUpto) -> None:
    check_job_id(message.job)
    check_term(message.term)
    check_interval(0, message.number)
    _seat(message.seat)


def _offer(message: Offer) -> None:
    check_job_id(message.job)
    _seat(message.seat)
    check_pairs(message.covered)
    check_pairs(message.fed)
    check_interval(0, message.total)
    check_names(message.state)
    check_interval(message.floor, message.total)
    check_count(message.functions)
    _account(message.account)


def _pull(message: Pull) -> None:
    check_job_id(message.job)
    check_pairs(message.results)
    check_pairs(message.blocks)


def _forget(message: Forget) -> None:
    check_job_id(message.job)
    check_term(message.term)


def _settled(message: Settled) -> None:
    check_job_id(message.job)
    check_pairs(message.intervals)
    check_interval(0, message.count)


def _claim(message: Claim) -> None:
    check_job_id(message.job)
    check_leases(message.leases)
    check_list(message.parts)
    check_blobs(message.blobs, len(message.parts))
    for part in message.parts:
        _part(part)


def _fetch(message: Fetch) -> None:
    check_job_id(message.job)
    check_count(message.lo)


def _fetched(message: Fetched) -> None:
    check_job_id(message.job)
    check_count(message.lo)
    check_job_line(message.line)
    _kept(message.results)
    check_pairs(message.missing)
    check_blobs(message.blobs, len(message.results))
    _account(message.account)
    if message.guest and not is_name(message.guest):
        raise Fault("text", f"{message.guest[:80]!r} is no name of a token")


def _job_only(message: Closed | Abolish | Seek) -> None:
    check_job_id(message.job)


def _piece(message: Piece) -> None:
    if not 0 <= message.index < message.of <= limits.PIECES_MAX:
        raise Fault("pieces", f"piece {message.index} of {message.of}")
    check_blobs(message.blobs, 1)
    octets = len(message.blobs[0])
    is_last = message.index == message.of - 1
    if not (0 < octets <= limits.PIECE_OCTETS if is_last else octets == limits.PIECE_OCTETS):
        raise Fault("pieces", f"a piece of {octets} octets")


def _taken(message: Taken) -> None:
    check_count(message.octets)


def _value_seek(message: ValueSeek) -> None:
    check_value_id(message.value)
    check_list(message.avoid, limits.MEMBERS_MAX)
    for peer in message.avoid:
        check_peer_id(peer)


def _value_at(message: ValueAt) -> None:
    check_value_id(message.value)
    check_peer_id(message.source, may_be_empty=True)
    check_interval(0, message.octets)
    check_count(message.making)
    check_text(message.why)
    if bool(message.source) is not bool(message.octets):
        raise Fault("range", f"a value of {message.octets} octets, source {message.source.hex()}")


def _value_get(message: ValueGet) -> None:
    check_value_id(message.value)
    check_count(message.making)
    check_interval(message.at, limits.INDEX_MAX)
    if not 0 < message.octets <= limits.VALUE_ASK_OCTETS:
        raise Fault("range", f"{message.octets} octets of a value at once")


def _value_put(message: ValuePut) -> None:
    check_value_id(message.value)
    check_count(message.making)
    check_interval(message.at, limits.INDEX_MAX)
    check_list(message.blobs, 1)
    if message.blobs and not 0 < len(message.octets) <= limits.VALUE_PIECE_OCTETS:
        raise Fault("size", f"a piece of {len(message.octets)} octets")


def _value_only(message: ValueHeld | ValueDrop) -> None:
    check_value_id(message.value)
    check_count(message.making)


def _hire(message: Hire | Hired | Dismiss | HireOver) -> None:
    check_job_id(message.job)
    check_count(message.hire)


def _hire_over(message: HireOver) -> None:
    _hire(message)
    check_leases(message.taken)
    if len(message.taken) > 1 or any(part.hi - part.lo != 1 for part in message.taken):
        raise Fault("range", f"a worker cannot be at {message.taken}")


def _input_get(message: InputGet) -> None:
    check_job_id(message.job)
    check_list(message.items, limits.INPUTS_ASKED_MAX)
    for item, lid in message.items:
        if not 0 <= item < limits.INDEX_MAX or lid < 0:
            raise Fault("range", f"item {item} under lease {lid}")


def _printed(message: Printed) -> None:
    check_job_id(message.job)
    check_interval(0, message.asked + 1)
    check_list(message.texts, limits.TEXTS_MAX)
    check_blobs(message.blobs, len(message.texts))
    for text, blob in zip(message.texts, message.blobs, strict=True):
        check_interval(text.lo, text.hi)
        check_count(text.dropped)
        if len(blob) > limits.TEXT_OCTETS_MAX:
            raise Fault("size", f"a text of {len(blob)} octets")
    if sum(map(len, message.blobs)) > limits.TEXTS_OCTETS_MAX:
        raise Fault("size", "texts of more octets than one message may have")


def _printed_get(message: PrintedGet) -> None:
    check_job_id(message.job)
    check_interval(message.item, message.item + 1)  # the answer names it as one


def _journal_get(message: JournalGet) -> None:
    check_count(message.nonce)
    check_interval(0, message.since)
    if not 0 <= message.kinds < 1 << limits.JOURNAL_KINDS_MAX:
        raise Fault("range", f"kinds {message.kinds}")
    if not 0 < message.octets <= limits.JOURNAL_OCTETS_MAX:
        raise Fault("range", f"{message.octets} octets of a journal at once")


def _journal_page(message: JournalPage) -> None:
    """Entries follow each other, and none is from after the page."""
    check_count(message.nonce)
    check_seconds(message.clock)
    check_seconds(abs(message.wall))
    check_list(message.told, limits.JOURNAL_KINDS_MAX)
    for count in message.told:
        check_interval(0, count)
    check_interval(0, message.following)
    check_list(message.entries, limits.JOURNAL_ENTRIES_MAX)
    before = -1
    for entry in message.entries:
        if not before < entry.number < message.following:
            raise Fault("range", f"entry {entry.number} behind {before}, of {message.following}")
        if not 0.0 <= entry.at <= message.clock or not 0.0 <= entry.begun <= entry.at:
            raise Fault("number", f"an entry of {entry.at}, told at {message.clock}")
        _entry(entry)
        before = entry.number


def _entry(entry: JournalEntry) -> None:
    if not 0 <= entry.kind < limits.JOURNAL_KINDS_MAX:
        raise Fault("range", f"an entry of kind {entry.kind}")
    if not NO_WORKER <= entry.worker <= limits.WORKER_NUMBER_MAX:
        raise Fault("range", f"worker {entry.worker}")
    check_interval(0, entry.count)
    if max(len(entry.what), len(entry.name)) > limits.ENTRY_WORDS_CHARS_MAX:
        raise Fault("text", "the words of an entry are too many")
    if len(entry.detail) > limits.ENTRY_DETAIL_CHARS_MAX:
        raise Fault("text", f"the detail of an entry has {len(entry.detail)} characters")
    if len(entry.about) not in _ABOUT or len(entry.peer) not in (0, PEER_ID_OCTETS):
        raise Fault("id", "an entry is about no job, value or peer")
    check_interval(entry.lo, entry.hi)


_ABOUT = (0, JOB_ID_OCTETS, SLICE_ID_OCTETS, VALUE_ID_OCTETS)


def _barred(message: Barred) -> None:
    """Names in their order, each once: two equal sets have one representation."""
    check_list(message.names, limits.BARRED_MAX)
    for name in message.names:
        if not is_barred(name):
            raise Fault("text", f"{name[:80]!r} is no name of a token")
    if any(one >= other for one, other in pairwise(message.names)):
        raise Fault("list", "names of tokens that are out of order")


def _who_is(message: WhoIs) -> None:
    check_list(message.peers, limits.STRANGERS_MAX)
    for peer in message.peers:
        check_peer_id(peer)


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
    WhoIs: _who_is,
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
    LookAt: _look_at,
    CallOff: _call_off,
    Seen: _seen,
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
    Printed: _printed,
    PrintedGet: _printed_get,
    JournalGet: _journal_get,
    JournalPage: _journal_page,
    Barred: _barred,
    Hire: _hire,
    Hired: _hire,
    HireOver: _hire_over,
    Dismiss: _hire,
    InputGet: _input_get,
    InputPut: _report,
}
