"""Holders of the key that ask for work, give it, report it and ship code wrongly. Rows 19 to 25, 30, 32 to 36, 40.

Where the table D7 speaks of TASKS, RESULTS and credit, this protocol has GRANT, REPORT and leases: a grant is
believed of the job's owner only, and there is no credit to go beyond.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable

import cloudpickle
import pytest
from msgspec.msgpack import encode as pack
from tests.hostile.insider import untrue
from tests.hostile.place import MIB, HonestJob, Place
from tests.patience import until

from stealmesh_protocol import limits
from stealmesh_protocol.messages import (
    Block,
    FnGet,
    FnPut,
    Grant,
    JobKind,
    Lease,
    Message,
    Nothing,
    Part,
    Piece,
    Report,
    Revoked,
    Role,
    StatusGet,
    Steal,
    ValuePut,
)
from stealmesh_protocol.values import unpack_outcomes

pytestmark = pytest.mark.real

HUGE = 1 << 62


def packed_square() -> bytes:
    """The function, under a digest that no node has heard of. (No assert is in it: pytest rewrites those, and the
    node's only worker would import pytest while honest calls wait.)"""
    mark = os.urandom(8)

    def marked(number: int) -> int:
        return number * number if mark else -1

    packed: bytes = cloudpickle.dumps(marked)
    return packed


# ---------------------------------------------------------------- rows 20 to 22


def slow_square(number: int) -> int:
    import time

    time.sleep(0.0005)
    return number * number


ITEMS = 6000
"""Enough for the job to outlast a theft on a busy machine. They are short, and go one by one: the node has one worker,
and the honest calls beside wait for what it is at."""


def test_of_two_different_results_the_first_counts(place: Place, beside: HonestJob) -> None:
    """A thief holds leases of an honest job, whose owner is the node. It reports twice, and otherwise than before;
    it reports what it never had; and it reports of jobs that nobody knows. Row 24: its steal claims room for all, and
    brings a share, as numbers and not as data."""
    job = place.mesh.options(chunksize=1).launch(slow_square, range(ITEMS))
    with place.insider(role=Role.PLAIN, workers=1) as thief:
        thief.introduce()
        nonces = iter(range(1, 1 << 20))

        def stolen() -> Grant | None:
            thief.say(Steal(next(nonces), limits.WORKERS_MAX))
            answer: Message = thief.hears(Grant, Nothing)
            return answer if isinstance(answer, Grant) else None

        grant = until(stolen, "something to steal")
        assert sum(each.hi - each.lo for each in grant.leases) <= ITEMS / 2, (
            "room for all, but a share"
        )
        lease = grant.leases[0]
        right = [pack(number * number) for number in range(lease.lo, lease.hi)]

        def report(blobs: list[bytes], lid: int = lease.lid, lo: int = lease.lo) -> Report:
            parts = [Part(lid, lo + at, lo + at + 1, 5, 0.1) for at in range(len(blobs))]
            return Report(grant.spec.job, parts, [pack([b"\0" + each]) for each in blobs])

        thief.say(report(right))
        with place.counts("results-dropped", times=2 * len(right)):
            thief.say(report(right))
            thief.say(report([pack("wrong")] * len(right)))
        with place.counts("results-dropped"):
            thief.say(report([pack("never had")], lid=HUGE, lo=ITEMS - 1))
        unknown = Report(os.urandom(20), [Part(1, 0, 1, 0, 0.1)], [pack("?")])
        thief.say(unknown)
        assert thief.hears(Revoked).job == unknown.job, "acknowledged, and not wanted"
        assert thief.is_answered()
        assert list(job.results()) == [number * number for number in range(ITEMS)]


def test_work_of_another_s_job_is_not_taken(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar, place.counts("rude-not-its-owner"):
        liar.introduce()
        liar.say(Grant(liar.own(b"f", owner=b"\7" * 16), [Lease(1, 0, 1)]))
        assert liar.is_answered(), "once is no reason to end the link"


def test_a_grant_that_nobody_asked_for_is_work_like_any_other(
    place: Place, beside: HonestJob
) -> None:
    """Owners place work without being asked, so row 22's REJECT does not exist here."""
    with place.insider() as owner:
        owner.introduce()
        (report,) = owner.run(packed_square(), Lease(1 << 32, 0, 1))
        assert not report.parts[0].failed


# ---------------------------------------------------------------- rows 23 to 25


def test_a_flood_of_steals_is_answered_and_costs_nobody_else(
    place: Place, beside: HonestJob
) -> None:
    with place.insider(role=Role.PLAIN, workers=1) as thief:
        thief.introduce()
        for number in range(1, 10_001):
            thief.say(Steal(number, limits.WORKERS_MAX))
            if number % 100 == 0:  # what nobody reads waits at the sender
                while thief.hears(Nothing, Grant) != Nothing(number):
                    pass
        beside.goes_on()
        assert thief.is_answered()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [((1, -1), "range"), ((-1, 1), "range"), ((1, float("nan")), "schema"), (("1", 1), "schema")],
    ids=["negative room", "negative nonce", "NaN", "a text"],
)
def test_a_steal_without_sense_is_no_message(
    place: Place, beside: HonestJob, fields: tuple[object, ...], reason: str
) -> None:
    with place.insider() as liar, place.counts(f"garbled:{reason}"):
        liar.introduce()
        liar.frames(untrue(Steal, *fields))


def test_who_asks_and_never_reads_is_told_no_more(fresh: Callable[..., Place]) -> None:
    """Row 25: answers for a reader that does not read wait within their bound, then they are dropped."""
    place = fresh()
    with place.unharmed() as beside, place.counts("dropped:unsent"):
        with place.insider() as deaf:
            deaf.introduce()
            for number in range(20_000):
                deaf.say(StatusGet(number))
            beside.goes_on()
        beside.goes_on()


def test_results_that_are_never_acknowledged_end_an_owner_s_work(
    fresh: Callable[..., Place],
) -> None:
    """Row 25: with so much unacknowledged, a node begins no more of this owner's work, and all of the others'."""
    place = fresh(environment={"STEALMESH_UNACKED_OCTETS_MAX": str(MIB)})
    function = cloudpickle.dumps(lambda number: os.urandom(100_000))
    with place.unharmed() as beside, place.insider() as deaf:
        deaf.introduce()
        spec = deaf.own(function)
        deaf.say(Grant(spec, [Lease(1 << 32, 0, 1000)]))
        deaf.hears(FnGet)
        deaf.say(FnPut(spec.function, [function]), ack=0)
        octets = 0
        while octets < MIB // 2:
            octets += sum(map(len, deaf.hears(Report).blobs))
            deaf.ack = 0
        for _ in range(3):
            beside.goes_on()
            assert deaf.is_answered()
            deaf.ack = 0
        reports = [each for each in deaf.heard if isinstance(each, Report)]
        assert sum(sum(map(len, each.blobs)) for each in reports) < 2 * MIB
        assert deaf.node is not None


# ---------------------------------------------------------------- row 30


def test_a_job_of_all_numbers_is_never_laid_out(place: Place, beside: HonestJob) -> None:
    """10**18 items in one lease: a range stays two numbers. Reversed and overlapping ones are no messages (CASES
    of the codec's test, which test_frames.py sends); an empty one is not taken."""
    with place.insider() as owner:
        owner.introduce()
        function = packed_square()
        spec = owner.own(function)
        owner.say(Grant(spec, [Lease(1 << 32, 0, 10**18)]))
        owner.hears(FnGet)
        owner.say(FnPut(spec.function, [function]))
        report = owner.hears(Report)
        assert sum(part.hi - part.lo for part in report.parts) < 1 << 20
        with place.counts("grants-refused"):
            owner.say(Grant(spec, [Lease(2 << 32, 5, 5)]))


# ---------------------------------------------------------------- rows 32 and 33


def ndarray(dtype: str, shape: list[int], octets: bytes) -> bytes:
    head = pack([dtype, shape])
    body = struct.pack(">H", len(head)) + head + octets
    return b"\xc7" + bytes([len(body)]) + b"\x01" + body


ARRAYS = {
    "objects": ndarray("|O8", [1], bytes(8)),
    "structured": ndarray("[('a','<i8')]", [1], bytes(8)),
    "texts": ndarray("|S0", [1], b""),
    "big endian": ndarray(">i8", [1], bytes(8)),
    "negative": ndarray("<i8", [-1], bytes(8)),
    "product beyond 2**64": ndarray("<i8", [2**40, 2**40], bytes(8)),
    "harmless product": ndarray("<i8", [0, 10**18], b""),
    "an octet less": ndarray("<i8", [1], bytes(7)),
    "an octet more": ndarray("<i8", [1], bytes(9)),
    "40 dimensions": ndarray("<i8", [1] * 40, bytes(8)),
    "head longer than all": b"\xc7\x03\x01\xff\xff\x90",
    "no head": b"\xc7\x01\x01\x00",
    "unknown extension": b"\xd4\x05\x00",
    "truncated": b"\x93\x01",
    "deep": b"\x91" * 5000 + b"\xc0",
}


def test_an_array_that_is_none_fails_by_name_and_kills_nothing(
    place: Place, beside: HonestJob
) -> None:
    """Values are opened in workers only: the item fails, and the same worker goes on."""
    workers = place.me()["worker_pids"]
    with place.insider() as owner:
        owner.introduce()
        function = packed_square()
        for name, blob in ARRAYS.items():
            spec = owner.own(function, kind=JobKind.MAP, step=0)
            grant = Grant(spec, [Lease(1 << 32, 0, 1)], [Block(0, 1, 5)], 0, [pack([b"\0" + blob])])
            owner.say(grant)
            (report,) = owner.reports(spec.job, function, 1)
            failures = unpack_outcomes(report.parts[0].codec, report.blobs[0])[1]
            assert report.parts[0].failed == 1, name
            assert failures[0].text, name
    assert place.me()["worker_pids"] == workers


def test_a_dict_that_looks_like_packed_numpy_stays_a_dict(place: Place, beside: HonestJob) -> None:
    for value in (
        {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [1], b"data": bytes(8)},
        {"nd": True, "type": "|O", "kind": "O", "data": pickle.dumps(os.getpid)},
        {b"complex": True, b"data": "1+1j"},
    ):
        found = place.mesh.submit(same, value).result(timeout=60)
        assert found == value
        assert type(found) is dict


def same(value: object) -> object:
    return value


# ---------------------------------------------------------------- row 34


def test_a_function_under_another_s_name_is_not_taken(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar:
        liar.introduce()
        with place.counts("functions-unasked"):
            liar.say(FnPut(os.urandom(16), [b"x" * 5000]))
        spec = liar.own(function := packed_square())
        liar.say(Grant(spec, [Lease(1 << 32, 0, 1)]))
        liar.hears(FnGet)
        with place.counts("functions-forged"):
            liar.say(FnPut(spec.function, [b"another function"]))
        liar.say(FnPut(spec.function, [function]))
        assert liar.reports(spec.job, function, 1)
        liar.say(FnGet(os.urandom(16)))
        assert liar.hears(FnPut).blobs == [], "not here"


def test_a_function_of_12_mib_that_nobody_asked_for_is_let_go(
    place: Place, beside: HonestJob
) -> None:
    """It travels in pieces; a link may hold 256 MiB of one that is not whole (docs/limits.md)."""
    with place.insider() as liar:
        liar.introduce()
        with place.counts("functions-unasked"):
            liar.say(FnPut(os.urandom(16), [bytes(12 * MIB)]))
        assert liar.is_answered()


# ---------------------------------------------------------------- row 36


def test_nothing_is_unpickled_in_a_node_s_own_process(place: Place, beside: HonestJob) -> None:
    """There is no data-only mode yet. What holds without it: the node opens no pickle, whatever it is sent (an audit
    hook in the node listens since it started), and an unknown or broken function is an error of its items."""
    bomb = pickle.dumps(os.getpid)
    with place.insider(role=Role.PLAIN, workers=1) as liar:
        liar.introduce()
        for function in (bomb, b"\x80\x05garbage.", b"", pickle.dumps(5)):
            spec = liar.own(function)
            liar.say(Grant(spec, [Lease(1 << 32, 0, 1)]))
            reports = liar.reports(spec.job, function, 1) if function else []
            for report in reports:
                unpack_outcomes(report.parts[0].codec, report.blobs[0])
        liar.say(Report(os.urandom(20), [Part(1, 0, 1, 1, 0.1)], [bomb]))
        liar.hears(Revoked)
        assert place.node.pid
    assert "hostile: unpickled" not in place.node.said()


# ---------------------------------------------------------------- row 40


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece(1, 3, [bytes(limits.PIECE_OCTETS)])],
        [Piece(0, 3, [bytes(limits.PIECE_OCTETS)]), Piece(2, 3, [b"x"])],
        [Piece(0, 3, [bytes(limits.PIECE_OCTETS)]), Piece(0, 3, [bytes(limits.PIECE_OCTETS)])],
        [Piece(0, 3, [bytes(limits.PIECE_OCTETS)]), Piece(1, 4, [bytes(limits.PIECE_OCTETS)])],
    ],
    ids=["begins later", "one missing", "one twice", "another number of them"],
)
def test_pieces_out_of_order_end_the_session(
    place: Place, beside: HonestJob, pieces: list[Piece]
) -> None:
    with place.insider() as liar, place.counts("garbled:pieces"):
        liar.introduce()
        for piece in pieces:
            liar.say(piece)


def test_pieces_of_a_value_that_nobody_asked_for_are_dropped(
    place: Place, beside: HonestJob
) -> None:
    with place.insider() as liar:
        liar.introduce()
        value = liar.member.id + (5).to_bytes(8, "big")
        with place.counts("pieces-unasked", times=20):
            for at in range(20):
                liar.say(ValuePut(value, at * limits.VALUE_PIECE_OCTETS, [bytes(100_000)]))
        assert liar.is_answered()
