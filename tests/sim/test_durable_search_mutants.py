"""The checkers of durable explore jobs bite: each test breaks one rule and sees a story or a world find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable.bag_replica import BagReplica
from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.durable.replica import Added, Replica
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_protocol.accounts import BagAccount
from stealmesh_protocol.messages import Keep

from . import test_durable_searches as stories

Mutate = Callable[[pytest.MonkeyPatch], None]


def an_account_is_joined_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of a whole account has come counts beside what is here."""

    def page(self: BagReplica, keep: Keep, account: BagAccount) -> Added:
        added = Replica.join(self, keep)
        if account.whole:
            self.at, self.visited = account.at, account.visited
        return added

    monkeypatch.setattr(BagReplica, "_page", page)


def a_new_home_takes_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bags and results of another account that it does not have, and they are joined."""

    def lacks(
        self: BagReplica, covered: IntervalSet, inputs: IntervalSet, account: Any = None
    ) -> tuple[list[tuple[int, int]], ...]:
        return Replica.lacks(self, covered, inputs)

    monkeypatch.setattr(BagReplica, "lacks", lacks)
    monkeypatch.setattr(BagReplica, "takes", lambda self, keep: True)
    an_account_is_joined_page_by_page(monkeypatch)


def holders_keep_their_bags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder goes on under the next home with what the former gave it."""
    monkeypatch.setattr(HeldJob, "_begin_anew", lambda self, term: [])
    monkeypatch.setattr(HeldJob, "granted_by", lambda self, primary, term: None)


def a_reader_takes_results_of_any_account(monkeypatch: pytest.MonkeyPatch) -> None:
    right = DurableClient.fetched

    def fetched(self: DurableClient, primary: bytes, message: Any, now: float) -> Any:
        message.account = None
        return right(self, primary, message, now)

    monkeypatch.setattr(DurableClient, "fetched", fetched)


def what_a_step_makes_is_not_in_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its result is, as if a bag were an item."""
    right = BagReplica.stamp

    def stamp(self: BagReplica, keep: Keep) -> None:
        if keep.results:
            del keep.blobs[: len(keep.blocks)]
            keep.blocks = []
        right(self, keep)

    monkeypatch.setattr(BagReplica, "stamp", stamp)


def _story(name: str, *args: object) -> Callable[[pytest.MonkeyPatch], None]:
    def play(monkeypatch: pytest.MonkeyPatch) -> None:
        story = getattr(stories, name)
        story(monkeypatch) if "monkeypatch" in story.__code__.co_varnames else story(*args)

    return play


CASES: list[tuple[Mutate, Callable[[pytest.MonkeyPatch], None]]] = [
    (an_account_is_joined_page_by_page, _story("test_a_former_home_leads_again_after_a_cut")),
    (
        a_new_home_takes_what_it_lacks,
        _story("test_both_sides_of_a_cut_go_on_and_one_account_holds"),
    ),
    (holders_keep_their_bags, _story("test_home_after_home_dies")),
    (a_reader_takes_results_of_any_account, _story("test_a_reader_never_mixes_two_accounts")),
    (
        what_a_step_makes_is_not_in_the_copies,
        _story("test_the_home_dies_and_another_keeper_goes_on", False, True),
    ),
]


@pytest.mark.parametrize(("mutate", "found_by"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_broken_rule_is_noticed(
    mutate: Mutate,
    found_by: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - any checker may notice, in its own words
        found_by(monkeypatch)
