"""What an owner asks of either ledger without knowing which it is."""

from __future__ import annotations

from typing import Any

import pytest

from stealmesh_engine.ledger.explore import ExploreLedger
from stealmesh_engine.ledger.indexed import GIVEN_UP_TOGETHER, IndexedLedger
from stealmesh_engine.ledger.job_ledger import JobLedger
from stealmesh_engine.ledger.verdicts import Credited, Repeated
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import Block, Commit, Lease, Report
from stealmesh_protocol.values import OUTCOMES

A, B = b"node-a", b"node-b"
JOB = job_id(bytes(16), 1)
FIRST = granted_lease(1)


def fed(kind: type[JobLedger[Any]]) -> JobLedger[Any]:
    ledger = kind()
    ledger.feed(Block(0, 3, 0), b"abc")
    ledger.feed(Block(3, 5, 0), b"de")
    return ledger


def outcome(count: int) -> tuple[int, bytes]:
    return OUTCOMES, b"%d failed" % count


either = pytest.mark.parametrize("kind", [IndexedLedger, ExploreLedger])


@either
def test_a_grant_has_the_input_of_one_block(kind: type[JobLedger[Any]]) -> None:
    ledger = fed(kind)
    lease, _, blobs = ledger.grant(A, 1.0)
    assert (lease, blobs) == (Lease(FIRST, 0, 3), [b"abc"])
    assert ledger.has_free
    assert ledger.grant(B, 1.0)[2] == [b"de"]
    assert not ledger.has_free


def test_an_indexed_grant_ends_where_other_nodes_are_barred_and_where_the_block_ends() -> None:
    ledger = fed(IndexedLedger)
    assert ledger.grant(A, 1.0, 2) == (Lease(FIRST, 0, 2), [Block(0, 3, 0)], [b"abc"])
    assert ledger.first_free == 2
    assert ledger.grant(A, 1.0, 5)[0] == Lease(granted_lease(2), 2, 3)


def test_an_input_is_there_until_its_last_item_is_credited() -> None:
    ledger = IndexedLedger()
    ledger.feed(Block(0, 3, 0), b"abc")
    ledger.grant(A, 1.0)
    ledger.credit(A, FIRST, 0, 2)
    ledger.fence(A)
    assert ledger.grant(B, 1.0)[2] == [b"abc"]
    ledger.credit(B, granted_lease(2), 2, 3)
    assert not ledger.inputs


@either
def test_what_is_given_up_is_done_and_failed(kind: type[JobLedger[Any]]) -> None:
    ledger = fed(kind)
    parts = []
    while ledger.has_free:
        parts.append(ledger.give_up(A))
    assert ledger.complete
    assert not ledger.leases
    assert sum(part.failed for part in parts) == (5 if kind is IndexedLedger else 2)


def test_much_is_given_up_in_pieces_and_a_reduction_whole() -> None:
    many = GIVEN_UP_TOGETHER + 1
    assert IndexedLedger(many, many).give_up(A).hi == GIVEN_UP_TOGETHER
    part = IndexedLedger(many, many, whole_parts=True).give_up(A)
    assert (part.hi, part.failed) == (many, 1)


def test_an_indexed_lease_fails_with_a_report_for_each_open_part() -> None:
    ledger = IndexedLedger(3, 3)
    ledger.grant(A, 1.0)
    ledger.cancel(1, 2)
    told = ledger.failing(JOB, FIRST, outcome)
    assert all(isinstance(each, Report) for each in told)
    assert [blob for each in told for blob in each.blobs] == [b"1 failed", b"1 failed"]
    parts = [part for each in told if isinstance(each, Report) for part in each.parts]
    assert [(part.lo, part.hi, part.codec, part.failed) for part in parts] == [
        (0, 1, OUTCOMES, 1),
        (2, 3, OUTCOMES, 1),
    ]


def test_a_bag_fails_with_the_commit_that_ends_it() -> None:
    ledger = fed(ExploreLedger)
    ledger.grant(A, 1.0)
    (told,) = ledger.failing(JOB, FIRST, outcome)
    assert isinstance(told, Commit)
    assert (told.lid, told.seq, told.remaining, told.failed) == (FIRST, 1, 0, 1)
    assert told.blobs == [bytes([OUTCOMES]) + b"1 failed", b""]


@either
def test_leases_age_unless_they_are_postponed_or_forgiven(kind: type[JobLedger[Any]]) -> None:
    ledger = fed(kind)
    ledger.grant(A, 1.0)
    assert ledger.expired(1.0) == [(FIRST, A)]
    ledger.forgive(1.0)
    assert not ledger.expired(1.0)
    ledger.postpone(FIRST, 5.0)
    assert not ledger.expired(4.0)
    assert ledger.expired(5.0) == [(FIRST, A)]


@either
def test_a_lease_is_its_holders_alone(kind: type[JobLedger[Any]]) -> None:
    ledger = fed(kind)
    ledger.grant(A, 1.0)
    assert ledger.lent(A, FIRST) is ledger.leases[FIRST]
    assert ledger.lent(B, FIRST) is None
    assert isinstance(ledger.split(A, FIRST, 0, 3), Credited)
    assert not isinstance(ledger.split(A, FIRST, 0, 3), Credited | Repeated)
    assert ledger.holders() == []
