"""Items that stay at their owner while a result that they need is made again: the account, rule by rule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.lacking import LOOK_AGAIN_SECONDS, Lacking
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.put_off import Alarms
from stealmesh_engine.ledger.staying import Staying
from stealmesh_protocol.ids import JobId, job_id, value_of_item
from stealmesh_protocol.messages import Block

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

OWNER = b"o" * 16
MAKES, NEEDS = job_id(OWNER, 1), job_id(OWNER, 2)
LOST = value_of_item(MAKES, 0)


class Account:
    """A job makes a result that is lost; two items of another one need it, and a third does not."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Any] = {MAKES: self._job(MAKES), NEEDS: self._job(NEEDS)}
        self.alarms = Alarms()
        self.lacking = Lacking(self.jobs, self.alarms)
        self.ledger = self.jobs[NEEDS].ledger
        for item in range(3):
            self.ledger.feed(Block(item, item + 1, 5, (LOST,) if item < 2 else ()), b"input")
        self.lacking.begins(LOST)

    @staticmethod
    def _job(job: JobId) -> IndexedJob:
        made = object.__new__(IndexedJob)
        made.spec, made.ledger = SimpleNamespace(job=job), IndexedLedger()  # type: ignore[assignment]
        return made

    def hold_back(self) -> int:
        """As long as the first free item waits. Returns how many do."""
        count = 0
        while self.lacking.holds_back(self.jobs[NEEDS], 10.0):
            count += 1
        return count


def test_those_that_need_it_wait_and_the_others_do_not() -> None:
    account = Account()
    assert account.hold_back() == 2
    assert account.ledger.first_free == 2
    assert account.lacking.waits_for(NEEDS, 1) == LOST
    assert account.lacking.waits_for(NEEDS, 2) is None
    assert account.alarms.due == 10.0 + LOOK_AGAIN_SECONDS, "looked at again, whatever happens"


def test_when_it_is_there_they_are_free_at_once() -> None:
    account = Account()
    account.hold_back()
    account.lacking.settled(LOST)
    assert account.alarms.due is not None
    assert account.alarms.due <= 10.0
    account.ledger.end_waits(10.0)
    assert account.ledger.free_items == 3
    assert account.hold_back() == 0
    assert account.lacking.is_empty


def test_an_item_that_is_put_off_for_another_reason_is_left_alone() -> None:
    account = Account()
    account.lacking.settled(LOST)
    account.ledger.put_off_free(0, 50.0)
    account.lacking.settled(LOST)
    assert account.ledger.putting_off().until(0) == 50.0


def test_an_item_that_is_cancelled_meanwhile_is_left_alone() -> None:
    account = Account()
    account.hold_back()
    account.ledger.cancel(0, 1)
    account.lacking.settled(LOST)
    account.ledger.end_waits(10.0)
    account.ledger.audit()
    assert account.ledger.free_items == 2


def test_a_result_that_nobody_needs_any_more_is_not_waited_for() -> None:
    account = Account()
    account.hold_back()
    Staying(account.jobs, lambda job, now: None, account.lacking).forget(LOST, 10.0)
    assert account.lacking.is_empty
    assert not account.lacking.made_again


@pytest.mark.parametrize("over", [MAKES, NEEDS])
def test_a_job_that_is_over_leaves_nothing(over: JobId) -> None:
    """Of the one that makes results nothing comes any more: what waits goes on, and fails by name."""
    account = Account()
    account.hold_back()
    account.lacking.job_over(over)
    assert account.lacking.is_empty
    assert (LOST in account.lacking.made_again) is (over == NEEDS)
    if over == MAKES:
        account.ledger.end_waits(10.0)
        assert account.ledger.free_items == 3


def test_a_recipe_that_is_forgotten_while_its_item_waits_is_over() -> None:
    """The result was lost, its own inputs as well, and then nobody needs it any more."""
    ledger = IndexedLedger()
    ledger.feed(Block(0, 1, 5), b"input")
    lease = ledger.lease(OWNER, 9.0)
    assert lease is not None
    ledger.credit(OWNER, lease.lid, 0, 1)
    ledger.keep_recipe(0, [(Block(0, 1, 5), b"input")])
    assert ledger.lose(0)
    ledger.put_off_free(0, 99.0)
    ledger.forget_recipe(0)
    assert ledger.complete
    ledger.audit()
