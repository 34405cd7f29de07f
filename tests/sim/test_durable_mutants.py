"""The checkers of durable jobs bite: each test breaks one rule and sees a story or a world find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stealmesh.store import LogFile, logfile, records
from stealmesh.store.logfile import OpenedLog
from stealmesh.store.records import LogReading
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable.backup import Backup
from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.durable.election import Election
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.durable.replica import Replica
from stealmesh_engine.durable.replication import Replication
from stealmesh_engine.durable.takeover import Takeover
from stealmesh_engine.durable.wal import WriteAheadLog
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import LeaseId
from stealmesh_protocol.messages import JobKind, Settled

from . import test_durable as stories

Mutate = Callable[[pytest.MonkeyPatch], None]


def acknowledged_before_replicated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home says that results are safe as soon as it has them."""
    right = Replication.settle

    def settle(self: Replication, now: float) -> bool:
        self.written = self.number
        for stream in self.streams.values():
            stream.acked = self.number
        return right(self, now)

    monkeypatch.setattr(Replication, "settle", settle)


def written_before_it_is_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepers answer before the group commit."""
    monkeypatch.setattr(WriteAheadLog, "once_written", lambda self, action, now: action(now))


def no_fencing_by_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that hears of a higher reign goes on, and holders obey anyone who speaks."""
    monkeypatch.setattr(Backup, "follow", lambda self, replica, configuration, now: None)
    monkeypatch.setattr(HeldJobs, "obeys", lambda self, job, peer: True)
    monkeypatch.setattr(HeldJobs, "outranks", lambda self, job, term, primary: None)


def lease_ids_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every home counts its grants from 1, in every term."""

    def reign_lease(term: int, number: int) -> LeaseId:
        return number

    monkeypatch.setattr("stealmesh_engine.durable.primary.reign_lease", reign_lease)


def no_check_of_torn_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a torn tail is appended behind it, and the next reader ends there."""

    def read(octets: bytes) -> LogReading:
        reading = records.read(octets)
        end = reading.damage[0][0] if reading.damage else len(octets)
        whole = [
            record
            for record, (at, _) in zip(reading.records, reading.places, strict=True)
            if at < end
        ]
        return LogReading(reading.identity, whole)

    def open_as_it_is(self: LogFile) -> OpenedLog:
        octets = self._files.read(logfile.FILE)
        if octets is None:
            return right_open(self)
        reading = read(octets)
        assert reading.identity is not None
        self._identity, self._end = reading.identity, len(octets)
        return OpenedLog(self.seat, reading.records)

    right_open = LogFile.open
    monkeypatch.setattr(LogFile, "open", open_as_it_is)


def holders_forget_what_they_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged by the home's process is taken for safe."""
    monkeypatch.setattr(HeldJob, "keep_unsettled", lambda self, parts, blobs: None)


def nobody_asks_the_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new home takes everything without a result for free."""
    monkeypatch.setattr(Primary, "claimed", lambda self, holder, leases, now: None)


def no_keeper_is_asked_for_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new home begins with its own copy, even if others have more."""
    monkeypatch.setattr("stealmesh_engine.durable.election.quorum", lambda seats: 0)
    monkeypatch.setattr(Takeover, "offered", lambda self, peer, message, now: None)


def results_count_twice_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A join overwrites instead of adding what is new."""
    right = Replica.add_result

    def add_result(self: Replica, part: Any, blob: bytes, lo: int, hi: int) -> Any:
        before, self.covered = self.covered, IntervalSet()
        entries = right(self, part, blob, lo, hi)
        for some in before:
            self.covered.add(*some)
        return entries

    monkeypatch.setattr(Replica, "add_result", add_result)


def a_client_keeps_to_its_first_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DurableClient, "here", lambda self, peer, message, now: None)


def nobody_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Election, "_become_primary", lambda self, *rest: None)


def settled_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders are never told that they may forget."""
    right = Links.send

    def send(self: Links, peer_id: bytes, message: Any, now: float) -> bool:
        return True if isinstance(message, Settled) else right(self, peer_id, message, now)

    monkeypatch.setattr(Links, "send", send)


def _story(name: str, *args: object) -> Callable[[], None]:
    return lambda: getattr(stories, name)(*args)


CASES: list[tuple[Mutate, Callable[[], None]]] = [
    (acknowledged_before_replicated, _story("test_nothing_is_safe_while_no_keeper_hears_the_home")),
    (written_before_it_is_on_the_disk, _story("test_what_is_safe_is_on_the_disks")),
    (no_fencing_by_term, _story("test_the_home_stands_still_and_wakes_up_deposed")),
    (lease_ids_begin_again, _story("test_a_holder_was_away_when_the_home_changed")),
    (no_check_of_torn_tails, _story("test_everything_stops_and_starts_twice")),
    (
        holders_forget_what_they_reported,
        _story("test_what_holders_have_survives_their_home_though_nothing_of_it_is_safe"),
    ),
    (nobody_asks_the_holders, _story("test_what_runs_when_its_home_dies_runs_on")),
    (
        no_keeper_is_asked_for_what_it_has,
        _story("test_a_copy_that_lags_behind_does_not_lead_before_it_has_caught_up"),
    ),
    (results_count_twice_in_a_copy, _story("test_the_home_is_cut_off_and_comes_back")),
    (
        a_client_keeps_to_its_first_home,
        _story("test_the_home_dies_and_another_keeper_goes_on", JobKind.MAP, True, False),
    ),
    (
        nobody_takes_over,
        _story("test_the_home_dies_and_another_keeper_goes_on", JobKind.MAP, True, False),
    ),
    (settled_says_nothing, _story("test_holders_forget_what_is_safe")),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "found_by"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_broken_rule_is_noticed(
    mutate: Mutate, found_by: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - any checker may notice, in its own words
        found_by()
