"""A lie in any field of any message is refused, or stands in the list of those that do no harm.

The vectors have each kind of message with its fields filled. Each field in turn says something that it should
not: below or above what it counts, endless, empty, no number. A new field that is bounded nowhere fails here.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec
import pytest
from tests.protocol.test_vectors import JOB, LEASE, VECTORS, reign, spec, tree

from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.field_checks import Fault
from stealmesh_protocol.limits import LIST_MAX, SEEN_OCTETS_MAX
from stealmesh_protocol.messages import (
    Block,
    Claim,
    Commit,
    Declined,
    Digests,
    Fetched,
    Grant,
    JobKind,
    JobLine,
    Keep,
    Kept,
    Launch,
    Lease,
    LookAt,
    Message,
    Offer,
    Part,
    Piece,
    Report,
    Seen,
    Status,
    Supply,
    Topic,
)

LIES: dict[type, dict[str, Any]] = {
    int: {"below": -1, "above": 2**64 - 1},
    float: {"below": -1.0, "above": 1e300, "no number": float("nan")},
    str: {"endless": "x" * 100_000},
    bytes: {"empty": b"", "endless": bytes(1000)},
}

HARMLESS = {
    "only compared or echoed": {
        ("above", field)
        for field in (
            "Around.digest", "Beat.told[]", "Beat.view", "Block.inputs[]", "Commit.lid", "Commit.seq", "Digests.buckets[]",
            "Grant.nonce", "Hello.epoch", "Here.weight", "JobLoad.lids[]", "JournalGet.nonce", "JournalPage.nonce",
            "Lease.lid", "CallOff.nonce", "Dismiss.hire", "Hire.hire", "HireOver.hire", "Hired.hire", "InputGet.items[]", "LookAt.nonce", "Nothing.nonce",
            "Part.lid", "Revoked.lids[]", "Seen.nonce", "Split.nonce", "Status.nonce", "StatusGet.nonce", "Steal.nonce",
            "ValueAt.making", "ValueDrop.making", "ValueGet.making", "ValueHeld.making", "ValuePut.making",
            "Welcome.epoch",
        )
    },
    "compared with what the receiver has counted itself": {
        ("above", field)
        for field in (
            "BagAccount.page", "Fetch.lo", "Fetched.lo", "JobSpec.restarts", "JobSpec.retries",
            "JobSpec.stays_from", "Offer.functions", "Part.failed", "Steal.room", "Taken.octets",
        )
    },
    "for people": {
        ("above", field)
        for field in (
            "JobLine.done", "JobLine.duplicates_dropped", "JobLine.failed", "JobLine.free", "JobLine.leased",
            "JobLine.rerun", "JobLine.told[]", "JobLine.total", "Member.pid", "Text.dropped",
        )
    },
    "any number is one": {
        (lie, field)
        for lie in ("below", "above")
        for field in ("JobSpec.priority", "JobSpec.start")
    },
    "a range may count downwards": {("below", "JobSpec.step")},
    "a clock may be behind, or a worker be none": {("below", "JournalPage.wall"), ("below", "JournalEntry.worker")},
    "its total is not known": {("below", "JobLine.told[]")},
    "no item was asked for": {("below", "Printed.asked")},
    "the job as a whole": {("below", "LookAt.item")},
    "what is left out": {
        ("empty", field)
        for field in (
            "Block.makers[]", "Hello.mesh", "Hello.proof", "Hello.to", "Here.seat", "JobSpec.code", "JobSpec.combine", "JournalEntry.about",
            "JournalEntry.peer", "KeptUpto.seat", "LookAt.job",
            "Offer.seat", "Reign.seats[]", "ValueAt.source", "Welcome.to",
        )
    },
}  # fmt: skip
ALLOWED = {each for group in HARMLESS.values() for each in group}


def lies_in(value: Any, name: str) -> Iterator[tuple[tuple[str, str], Any]]:
    """Which lie in which field, and the value with this lie in it."""
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            if field != "blobs":  # the codec bounds them
                inner = lies_in(getattr(value, field), f"{type(value).__name__}.{field}")
                for lie, changed in inner:
                    yield lie, msgspec.structs.replace(value, **{field: changed})
    elif isinstance(value, list | tuple):
        yield ("endless", name), type(value)(list(value[:1] or [None]) * 20_000)
        for place, each in enumerate(value[:4]):
            for lie, changed in lies_in(each, name if isinstance(each, tuple) else f"{name}[]"):
                yield lie, type(value)([*value[:place], changed, *value[place + 1 :]])
    elif not isinstance(value, bool | Enum):
        for word, changed in LIES.get(type(value), {}).items():
            yield (word, name), changed


def is_refused(message: Message) -> bool:
    """By the schema, as the codec reads it, or by the checks."""
    fields = msgspec.msgpack.encode([getattr(message, each) for each in message.__struct_fields__])
    try:
        CHECKS[type(message)](msgspec.msgpack.decode(fields, type=type(message)))
    except (Fault, msgspec.ValidationError):
        return True
    return False


def said() -> list[Message]:
    return [message for _, message, _, _ in VECTORS if not isinstance(message, Piece)]


@pytest.mark.parametrize("kind", sorted({type(message) for message in said()}, key=str))
def test_a_lie_in_any_field_is_refused(kind: type[Message]) -> None:
    for message in said():
        if type(message) is kind:
            assert not is_refused(message)
            believed = {lie for lie, lying in lies_in(message, "") if not is_refused(lying)}
            assert believed <= ALLOWED, message


def test_the_list_of_the_harmless_has_no_more_than_needed() -> None:
    believed = {
        lie for message in said() for lie, lying in lies_in(message, "") if not is_refused(lying)
    }
    assert believed == ALLOWED


bag, part = Lease(LEASE, 0, 3), Part(LEASE, 0, 4, 0, 0.25)
line = JobLine(JOB, JobKind.MAP, "squares", "running", 9, 0, 0, 0, 9, 0, 0)
actor = msgspec.structs.replace(spec, kind=JobKind.SUBMIT, life=1)
single = msgspec.structs.replace(spec, kind=JobKind.SUBMIT, step=0)
MISFITS = {
    "three buckets": (Digests([1, 2, 3]), "list"),
    "a bag with a block": (Grant(tree, [bag], [Block(0, 3, 0)], blobs=[b""]), "blobs"),
    "a bag without items": (Grant(tree, [Lease(LEASE, 0, 0)], blobs=[b""]), "range"),
    "a bag with a first item": (Grant(tree, [Lease(LEASE, 1, 3)], blobs=[b""]), "range"),
    "a grant's blob without a block": (Grant(single, [bag], blobs=[b""]), "blobs"),
    "endless parts": (Report(JOB, [part] * (LIST_MAX + 1), [b""] * (LIST_MAX + 1)), "list"),
    "what stays is not in its part": (
        Report(JOB, [msgspec.structs.replace(part, stays=((4, 9),))], [b""]),
        "range",
    ),
    "what stays twice": (
        Report(JOB, [msgspec.structs.replace(part, stays=((1, 9), (1, 9)))], [b""]),
        "range",
    ),
    "what stays is nothing": (
        Report(JOB, [msgspec.structs.replace(part, stays=((1, 0),))], [b""]),
        "range",
    ),
    "items remain in no octets": (Commit(JOB, LEASE, 1, 2, blobs=[b"", b""]), "blobs"),
    "nothing remains, in octets": (Commit(JOB, LEASE, 1, 0, blobs=[b"", b"x"]), "blobs"),
    "a begun lease backwards": (Declined(JOB, [], "", 1, [Lease(LEASE, 3, 0)]), "range"),
    "two snapshots": (Status(1, [b"", b""]), "list"),
    "two answers": (Seen(1, [b"", b""]), "list"),
    "an endless answer": (Seen(1, [bytes(SEEN_OCTETS_MAX + 1)]), "size"),
    "an item of no job": (LookAt(1, Topic.EXPLAIN, b"", 3), "id"),
    "the program of no job": (LookAt(1, Topic.EXPLAIN, onward=True), "id"),
    "an item before the first": (LookAt(1, Topic.EXPLAIN, JOB, -2), "range"),
    "a durable actor": (Launch(actor, 1, [b""]), "kind"),
    "a launch without its code": (Launch(spec, 1, [b""]), "blobs"),
    "a supplied block without a blob": (Supply(JOB, [Block(0, 3, 0)]), "blobs"),
    "a copy with four functions": (Keep(spec, reign, blobs=[b""] * 4), "blobs"),
    "a copy in a state that no line has room for": (Keep(spec, reign, state="x" * 1000), "text"),
    "an offer in such a state": (Offer(JOB, bytes(16), state="x" * 1000), "text"),
    "a copy without a result's blob": (Keep(spec, reign, results=[Kept(0, 4, part)]), "blobs"),
    "credited beyond its part": (
        Keep(spec, reign, results=[Kept(0, 5, part)], blobs=[b""]),
        "range",
    ),
    "a claim without a blob": (Claim(JOB, [], [part]), "blobs"),
    "fetched without a blob": (Fetched(JOB, 0, line, [Kept(0, 4, part)]), "blobs"),
}
"""Each field is right by itself."""


@pytest.mark.parametrize("misfit", MISFITS)
def test_fields_that_do_not_fit_each_other_are_refused(misfit: str) -> None:
    message, reason = MISFITS[misfit]
    with pytest.raises(Fault) as caught:
        CHECKS[type(message)](message)
    assert caught.value.reason == reason
