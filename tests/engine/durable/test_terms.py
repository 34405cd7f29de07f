"""No peer takes a term twice, and what one holder has under a term comes from one primary."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.rude import Rude
from stealmesh_engine.config import Config
from stealmesh_engine.durable import terms
from stealmesh_engine.durable.backup import Backup
from stealmesh_engine.durable.replica import Replica
from stealmesh_engine.durable.state import DurableState
from stealmesh_engine.durable.terms import TERM_SLOTS, Terms, beyond, next_term
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_protocol.ids import PeerId, job_id, reign_lease, term_of
from stealmesh_protocol.limits import TERM_MAX
from stealmesh_protocol.messages import Forget, JobKind, JobSpec, Lease, Reign

A, B, C = (bytes([16 * n]) + bytes(15) for n in (1, 2, 3))
"""Their first octets leave the same rest."""
JOBS = [job_id(A, number) for number in range(5)]
SPEC = JobSpec(JOBS[0], JobKind.MAP, A, "job", b"f" * 16, step=1, term=5)


@given(st.integers(0, 10**6), st.binary(min_size=16, max_size=16))
def test_a_term_is_higher_and_one_s_own(known: int, me: bytes) -> None:
    term = next_term(known, me)
    assert known < term <= beyond(known)
    assert term % TERM_SLOTS == me[0] % TERM_SLOTS


@pytest.mark.parametrize("remembered", [0, 1, 2, 1024])
@given(st.lists(st.tuples(st.sampled_from((A, B, C)), st.sampled_from(JOBS), st.integers(0, 90))))
def test_no_two_candidates_ever_have_one_term(
    remembered: int, wishes: list[tuple[PeerId, bytes, int]]
) -> None:
    """A triple (job, term, peer) comes once, even if peers forget terms and lead again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "JOBS_REMEMBERED", remembered)
        peers = {peer: Terms(peer) for peer in (A, B, C)}
        taken = [(job, peers[peer].take(job, above), peer) for peer, job, above in wishes]
    assert len(set(taken)) == len(taken)
    assert all(term > above for (_, term, _), (_, _, above) in zip(taken, wishes, strict=True))


def test_who_remembers_all_its_jobs_begins_each_at_its_first_term() -> None:
    mine = Terms(A)
    assert {mine.take(job, 0) for job in JOBS} == {next_term(0, A)}


primaries = st.lists(st.tuples(st.integers(1, 4), st.sampled_from((A, B, C))), max_size=12)
"""Primaries as a holder hears of them, in any order; it obeys the highest."""


@given(primaries, st.integers(1, 3))
def test_a_holder_has_leases_of_one_primary_a_term(
    heard: list[tuple[int, PeerId]], each: int
) -> None:
    bags = IndexedBags(SPEC)
    held = HeldJob(replace(SPEC, term=1), bags)
    given_by: dict[int, PeerId] = {}
    told: set[tuple[int, PeerId]] = set()
    for primary in heard:
        if primary < (held.spec.term, held.spec.owner):
            continue  # a former primary: it is not obeyed
        term, peer = primary
        for lid in held.follow(peer, term):
            held.bags.drop(lid)
        claimed = [lid for lid in held.bags.leases if term_of(lid) == term]
        assert all(given_by[lid] == peer for lid in claimed), (
            "said to a primary that did not give it"
        )
        if primary in told:
            continue  # it counts on; here it has nothing more to give
        told.add(primary)
        held.granted_by(peer, term)
        for number in range(1, each + 1):
            lease = Lease(reign_lease(term, number), 10 * number, 10 * number + 5)
            assert bags.receive(lease), "an id that this holder has already"
            given_by[lease.lid] = peer
    for lid in held.bags.leases:
        assert held.granters[term_of(lid)] == given_by[lid]


claims = st.lists(
    st.tuples(st.sampled_from((A, B, C)), st.integers(4, 6), st.integers(1, 4), st.integers(0, 90))
)


@given(claims, st.integers(0, 3), st.integers(0, 3))
def test_a_ledger_gives_no_id_that_it_has_adopted(
    claimed: list[tuple[PeerId, int, int, int]], before: int, after: int
) -> None:
    """Claims may name anything; every id has one holder, and no item is in two accounts."""
    ledger = IndexedLedger(100, 100, name=lambda number: reign_lease(5, number))
    given = {}
    for _ in range(before):
        lease = ledger.lease(C, 1.0, items_max=7)
        assert lease is not None
        given[lease.lid] = C
    for holder, term, number, lo in claimed:
        lid = reign_lease(term, number)
        adopted = ledger.adopt(holder, lid, lo, lo + 10, 1.0)
        assert not adopted or given.setdefault(lid, holder) == holder
        ledger.audit()
    for _ in range(after):
        lease = ledger.lease(C, 1.0, items_max=3)
        if lease is not None:
            assert lease.lid not in given
            given[lease.lid] = C
        ledger.audit()
    assert {lid: lent.holder for lid, lent in ledger.leases.items()} == given


def test_a_former_primary_of_the_same_term_cannot_have_a_replica_forgotten() -> None:
    """FORGET names the term alone: its speaker completes it."""
    state = DurableState(Mock(config=Config(), effects=[], counters=Counters()))
    state.keep(Replica(SPEC, Reign(5, 1, B, [])))
    backup = Backup(state)
    backup.forgotten(A, Forget(JOBS[0], 5), 0.0)
    assert JOBS[0] in state.replicas
    backup.forgotten(B, Forget(JOBS[0], 5), 0.0)
    assert JOBS[0] not in state.replicas


def test_a_primary_cannot_leave_a_term_that_has_none_above_it() -> None:
    """Who keeps the job again leads it above the term that FORGET has named."""
    state = DurableState(Mock(config=Config(), effects=[], counters=Counters()))
    state.keep(Replica(SPEC, Reign(5, 1, B, [])))
    with pytest.raises(Rude):
        Backup(state).forgotten(B, Forget(JOBS[0], TERM_MAX - 1), 0.0)
    assert JOBS[0] in state.replicas
    assert state.take_back(JOBS[0]) == 0
