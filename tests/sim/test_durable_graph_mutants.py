"""The checkers of durable graphs bite: each test breaks one rule and sees a story find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from stealmesh_engine.durable.call_edges import CallEdges
from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.durable.inputs import InputReader, Inputs
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.durable.replica import Replica
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_protocol.messages import Block
from stealmesh_protocol.values import failures_of, with_failures

from . import test_durable_graphs as stories

Mutate = Callable[[pytest.MonkeyPatch], None]


def the_copies_do_not_say_what_goes_into_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its primary alone knows."""
    right = Replica.add_block

    def add_block(self: Replica, block: Block, blob: bytes) -> bool:
        return right(self, replace(block, inputs=()), blob)

    monkeypatch.setattr(Replica, "add_block", add_block)


def a_call_runs_when_one_of_its_inputs_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(self: CallEdges, item: int) -> bool:
        return all(call not in self._asked.results for call in self.into[item])

    monkeypatch.setattr(CallEdges, "_lacks", lacks)


def results_go_into_the_wrong_places(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CallEdges._results
    monkeypatch.setattr(CallEdges, "_results", lambda self, item: right(self, item)[::-1])


def a_failure_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CallEdges, "_end", lambda self, items, failed, now: None)


def the_last_name_is_told_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that of the call that had it first."""
    from stealmesh_engine.durable import inputs

    right = inputs._passed_on

    def passed_on(codec: int, blob: bytes, named: str) -> Any:
        failures = failures_of(blob)
        failures[0].of = ""
        return right(codec, with_failures(blob, failures), named)

    monkeypatch.setattr(inputs, "_passed_on", passed_on)


def what_a_cancelled_call_goes_into_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CallEdges._end

    def end(self: CallEdges, items: list[int], failed: Any, now: float) -> None:
        object.__setattr__(failed, "cancelled", False)
        right(self, items, failed, now)

    monkeypatch.setattr(CallEdges, "_end", end)


def a_primary_collects_what_goes_into_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InputReader, "_ask", DurableClient._ask)


def a_collected_result_goes_although_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Primary, "is_used", lambda self, now: False)


def a_primary_asks_once_and_is_never_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not look for the next primary of a call that goes into its own."""

    def seek(self: InputReader, job: bytes, now: float) -> None:
        if not self.jobs[job].asked:
            DurableClient._seek(self, job, now)

    monkeypatch.setattr(InputReader, "_seek", seek)


def a_primary_does_not_ask_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InputReader, "_seek", DurableClient._seek)


def what_a_holder_loses_runs_without_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CallEdges, "lost", lambda self, lo, hi: [])


def a_new_primary_leaves_nothing_that_waits_with_its_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = IndexedLedger.adopt

    def adopt(self: IndexedLedger, *claimed: Any) -> list[tuple[int, int]]:
        withheld, self.withheld = self.withheld, None
        try:
            return right(self, *claimed)
        finally:
            self.withheld = withheld

    enter = CallEdges.enter

    def all_are_withheld(self: CallEdges, block: Block) -> None:
        for lid, lent in list(self._ledger.leases.items()):
            self._ledger._close(lid, lent, *next(iter(lent.open)))
            self._ledger.free.add(block.lo, block.hi)
        enter(self, block)

    monkeypatch.setattr(IndexedLedger, "adopt", adopt)
    monkeypatch.setattr(CallEdges, "enter", all_are_withheld)


def the_token_of_a_call_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CallEdges.__init__

    def without(self: CallEdges, *given: Any) -> None:
        right(self, *given)
        self.guest = ""

    monkeypatch.setattr(CallEdges, "__init__", without)


def a_call_that_is_over_goes_on_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inputs, "need_no_more", lambda self, call, user: None)


def any_amount_goes_into_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CallEdges, "_must_fit", lambda self, item, now: None)


def a_lost_call_is_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def beat(self: InputReader, job: bytes, now: float) -> None:
        self.jobs[job].lost_since = now
        self.jobs[job].gone = None
        DurableClient.beat(self, job, now)

    monkeypatch.setattr(InputReader, "beat", beat)


def tokens_are_looked_at_when_a_result_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not when one is there already."""
    monkeypatch.setattr(Inputs, "has", lambda self, call, guest: call in self.results)


def results_are_kept_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Inputs._came

    def came(self: Inputs, *given: Any) -> None:
        self._room = 1 << 30
        right(self, *given)

    monkeypatch.setattr(Inputs, "_came", came)


def what_had_no_room_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inputs, "_fetch_late", lambda self, call, known, now: False)


def _story(name: str, *args: object) -> Mutate:
    def play(monkeypatch: pytest.MonkeyPatch) -> None:
        story = getattr(stories, name)
        story(monkeypatch) if "monkeypatch" in story.__code__.co_varnames else story(*args)

    return play


PRIMARY_DIES = _story("test_the_primary_of_any_call_dies", 3, True)
DIAMOND = _story("test_a_graph_is_done_and_collected", 4)
LOST = _story("test_a_result_that_is_lost_fails_what_it_goes_into_by_name")

ROOM = _story("test_results_without_room_at_a_primary_come_when_all_others_are_there")

CASES: list[tuple[Mutate, Mutate]] = [
    (the_copies_do_not_say_what_goes_into_a_call, PRIMARY_DIES),
    (a_call_runs_when_one_of_its_inputs_is_there, DIAMOND),
    (results_go_into_the_wrong_places, DIAMOND),
    (
        a_failure_does_not_go_on,
        _story("test_a_failure_goes_on_with_the_name_of_the_first_that_had_it"),
    ),
    (
        the_last_name_is_told_of_a_failure,
        _story("test_a_failure_goes_on_with_the_name_of_the_first_that_had_it"),
    ),
    (
        what_a_cancelled_call_goes_into_fails,
        _story("test_a_cancelled_call_cancels_what_it_goes_into_and_nothing_else"),
    ),
    (
        a_primary_collects_what_goes_into_its_calls,
        _story("test_a_collected_call_stays_while_it_goes_into_others"),
    ),
    (
        a_collected_result_goes_although_it_is_needed,
        _story("test_a_collected_call_stays_while_it_goes_into_others"),
    ),
    (
        a_primary_asks_once_and_is_never_heard_again,
        _story("test_the_primary_of_any_call_dies", 0, True),
    ),
    (a_primary_does_not_ask_itself, _story("test_a_graph_is_done_and_collected", 1)),
    (
        what_a_holder_loses_runs_without_its_inputs,
        _story("test_what_was_left_with_its_holder_waits_for_its_inputs_when_that_dies"),
    ),
    (
        a_new_primary_leaves_nothing_that_waits_with_its_holder,
        _story("test_what_runs_when_its_primary_dies_runs_on_with_what_it_was_given"),
    ),
    (
        the_token_of_a_call_does_not_matter,
        _story("test_the_holder_of_a_token_gets_no_results_of_others"),
    ),
    (a_call_that_is_over_goes_on_asking, DIAMOND),
    (
        any_amount_goes_into_a_call,
        _story("test_results_that_no_message_can_carry_together_fail_the_call"),
    ),
    (a_lost_call_is_waited_for_for_ever, LOST),
    (
        tokens_are_looked_at_when_a_result_comes,
        _story("test_nor_if_its_primary_has_them_for_another"),
    ),
    (results_are_kept_without_room, ROOM),
    (what_had_no_room_is_not_asked_for_again, ROOM),
]


@pytest.mark.parametrize(("mutate", "found_by"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_broken_rule_is_noticed(
    mutate: Mutate, found_by: Mutate, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - any checker may notice, in its own words
        found_by(monkeypatch)
