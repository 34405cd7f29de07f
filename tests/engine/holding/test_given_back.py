"""What waits at a node for values that nobody has goes back to its ledger, and nothing else does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.shortage import Shortage, lost_outcome
from stealmesh_protocol.ids import granted_lease, job_id, value_id, value_of_item
from stealmesh_protocol.messages import Block, Grant, JobKind, JobSpec, Lease, Needs, Returned
from stealmesh_protocol.values import unpack_outcomes

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

OWNER = b"o" * 16
SPEC = JobSpec(job_id(OWNER, 1), JobKind.SUBMIT, OWNER, "calls", b"f")
LOST, COMING = value_of_item(SPEC.job, 1), value_of_item(SPEC.job, 2)
LID = granted_lease(1)
BEFORE = ((SPEC.job, 5, granted_lease(9)),)


class NothingIsHere:
    def lacks(self, needs: Needs) -> bool:
        return bool(needs)

    def want(self, needs: Needs) -> None:
        pass


def bags() -> IndexedBags:
    """One lease: an item that can run, one for the lost value, one for another, and one that follows as well."""
    held = IndexedBags(SPEC)
    held.wait_at(NothingIsHere())
    needs: list[Needs] = [(), (COMING, LOST), (COMING,), (LOST,)]
    blocks = [Block(20 + at, 21 + at, 5, each) for at, each in enumerate(needs)]
    blocks[3] = Block(23, 24, 5, (LOST,), BEFORE)
    held.take(Grant(SPEC, [Lease(LID, 20, 24)], blocks, 0, [b"input"] * 4))
    return held


def test_only_what_waits_for_a_lost_value_goes_back() -> None:
    held = bags()
    assert held.give_lacking({LOST}) == [Lease(LID, 21, 22)]
    assert not held.give_lacking({LOST}), "once"
    assert not held.has(21, LID)
    assert held.has(22, LID)
    assert held.has(23, LID), "what follows others is its owner's business"
    cut = held.cut(8)
    assert cut is not None
    assert (cut.lo, cut.hi) == (20, 21)
    held.audit()


def test_a_lease_of_which_all_goes_back_is_over() -> None:
    held = IndexedBags(SPEC)
    held.wait_at(NothingIsHere())
    held.take(Grant(SPEC, [Lease(LID, 0, 1)], [Block(0, 1, 5, (LOST,))], 0, [b"input"]))
    assert held.give_lacking({LOST}) == [Lease(LID, 0, 1)]
    assert not held.leases


@pytest.mark.parametrize("gone_since", [None, 3.0])
def test_nothing_is_given_back_to_a_primary_that_is_gone(gone_since: float | None) -> None:
    said: list[Any] = []
    shortage = object.__new__(Shortage)
    held = SimpleNamespace(bags=bags(), spec=SPEC, primary_gone_since=gone_since)
    shortage._jobs = {SPEC.job: held}  # type: ignore[assignment]
    shortage._values = SimpleNamespace(copies=SimpleNamespace(made_again={LOST}))  # type: ignore[assignment]
    shortage._journal = SimpleNamespace(tell=lambda *told: None)  # type: ignore[assignment]
    shortage._links = SimpleNamespace(send=lambda *told: said.append(told))  # type: ignore[assignment]
    shortage.give_back(7.0)
    returned = [(OWNER, Returned(SPEC.job, [Lease(LID, 21, 22)]), 7.0)]
    assert said == ([] if gone_since else returned)


@pytest.mark.parametrize(
    ("value", "remedy"), [(LOST, "submit the call"), (value_id(OWNER, 7), "scatter it again")]
)
def test_a_lost_value_says_what_to_do(value: bytes, remedy: str) -> None:
    codec, blob = lost_outcome(SPEC, 1, value, "its nodes died")
    ((failure,),) = [unpack_outcomes(codec, blob)[1]]
    assert "its nodes died" in failure.text
    assert remedy in failure.text
