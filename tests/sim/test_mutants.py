"""The checkers bite: each test breaks one rule of the core and sees a random world find it.

A mutant that no world notices would mean that the rule guards nothing, or that we do not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import ChunkPart
from stealmesh_engine.holding.answers import Answers
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.reports import Reports
from stealmesh_engine.ledger.crediting import Crediting
from stealmesh_engine.ledger.explore import ExploreLedger
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.ledger.verdicts import Credited, Repeated, Verdict
from stealmesh_engine.links.custody import Channel, Hearing
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import Detector, Overdue
from stealmesh_engine.stealing.victim import Victim
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Lease, Member, Message, Part, Report
from stealmesh_sim.kernel import Breach
from stealmesh_sim.random_worlds import WorldOutcome, run
from stealmesh_sim.workers import VirtualWorker

from .scenes import scene
from .test_scenarios import (
    test_a_falsely_accused_node_refutes_and_is_told_what_it_lost as falsely_accused,
)
from .test_scenarios import (
    test_links_that_break_all_the_time_lose_and_double_nothing as links_that_break,
)

WORLDS = 150

Mutate = Callable[[pytest.MonkeyPatch], None]


def first_breach(seeds: Iterable[int]) -> WorldOutcome | None:
    outcomes = (run(seed) for seed in seeds)
    return next((outcome for outcome in outcomes if outcome.breach), None)


# ---------------------------------------------------------------- the ledger


def stale_leases_are_credited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that names an item gets it credited, even without a lease."""
    right = IndexedLedger.credit

    def credit(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        verdict = right(self, holder, lid, lo, hi)
        return verdict if isinstance(verdict, Credited) else Credited([(lo, hi)])

    monkeypatch.setattr(IndexedLedger, "credit", credit)


def a_split_leaves_the_victim_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        self.free.add(lo, hi)
        return Credited([(lo, hi)])

    monkeypatch.setattr(IndexedLedger, "split", split)


def the_dead_keep_their_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "fence", lambda self, holder, now: None)
    monkeypatch.setattr(Owner, "expire", lambda self, now: None)


def repeated_steps_count_again(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ExploreLedger.commit

    def commit(self: ExploreLedger, *args: Any, **named: Any) -> Verdict:
        right(self, *args, **named)
        return Credited()

    monkeypatch.setattr(ExploreLedger, "commit", commit)


# ---------------------------------------------------------------- victims and holders


def the_victim_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given away is run here as well."""
    right = IndexedBags.give

    def give(self: IndexedBags, items: int) -> list[Lease]:
        parts = right(self, items)
        for part in parts:
            held = self.leases.get(part.lid)
            if held is not None:
                held.untouched.add(part.lo, part.hi)
                self.untouched += part.hi - part.lo
        return parts

    monkeypatch.setattr(IndexedBags, "give", give)


def a_tail_given_back_is_run_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    right = VirtualWorker._answer

    def answer(self: VirtualWorker, life: int, number: int, give: bool) -> None:
        hi = self.hi
        right(self, life, number, give)
        if life == self.life and self.running is not None and self.hi < hi:
            self.hi = hi
            self._plan(*self.process.world.work_behind(self.running.spec.job))

    monkeypatch.setattr(VirtualWorker, "_answer", answer)


def a_tail_given_back_is_kept_on_the_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is untouched again, and yet with its worker."""
    right = Answers.chunk_part

    def chunk_part(self: Answers, event: ChunkPart, now: float) -> None:
        chunk = self.slots.running_chunk(event.worker, event.chunk)
        hi = chunk.hi if chunk is not None else 0
        right(self, event, now)
        if chunk is not None:
            chunk.hi = hi

    monkeypatch.setattr(Answers, "chunk_part", chunk_part)


def a_part_that_is_reported_twice_is_delivered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder says its parts twice, and a ledger credits what it has credited."""
    right, credit = Reports.add, IndexedLedger.credit

    def add(self: Reports, job: JobId, part: Part, blob: bytes, now: float) -> None:
        right(self, job, part, blob, now)
        if any(chunk.lid == part.lid for chunk in self.slots.running()):
            right(self, job, part, blob, now)

    def crediting(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        verdict = credit(self, holder, lid, lo, hi)
        return Credited([(lo, hi)]) if isinstance(verdict, Repeated) and lo < hi else verdict

    monkeypatch.setattr(Reports, "add", add)
    monkeypatch.setattr(IndexedLedger, "credit", crediting)


def nobody_is_told_to_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crediting, "revoke", lambda self, holder, job, lids, now: None)


def the_end_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holder, "closed", lambda self, job, now, *, stop: None)


def reports_are_dropped_without_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Links.send

    def send(self: Links, peer_id: PeerId, message: Message, now: float) -> bool:
        if isinstance(message, Report) and not self.is_ready(peer_id):
            return False
        return right(self, peer_id, message, now)

    monkeypatch.setattr(Links, "send", send)


def the_hungry_are_never_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Victim, "_feed", lambda self, thief, nonce, sharers, now: False)


# ---------------------------------------------------------------- links and lives


def nothing_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "again", lambda self: [])


def repeats_are_acted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(self: Channel, seq: int, octets: int) -> Hearing:
        self.heard = max(self.heard, seq)
        self.owed += 1
        return Hearing.NEW

    monkeypatch.setattr(Channel, "hear", hear)


def nobody_refutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MembershipView, "refute", lambda self, accusation: None)


def silence_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "look", lambda self, now: Overdue())


def the_late_judge_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers before the inbox, and no one forgives: the verdict of a node that was asleep."""
    monkeypatch.setattr(NodeCore, "_forgive_lateness", lambda self, now: None)
    monkeypatch.setattr(Detector, "heard", lambda self, peer, now: False)


def the_older_record_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(self: MembershipView, record: Member, now: float) -> bool:
        if record.id in self.members:
            return False
        self._set(record)
        return True

    monkeypatch.setattr(MembershipView, "join", join)


MUTANTS: list[tuple[Mutate, int]] = [
    (stale_leases_are_credited, 11),
    (a_split_leaves_the_victim_its_part, 1),
    (the_dead_keep_their_leases, 1),
    (repeated_steps_count_again, 53),
    (the_victim_keeps_its_end, 8),
    (a_tail_given_back_is_run_as_well, 1),
    (a_tail_given_back_is_kept_on_the_books, 1),
    (a_part_that_is_reported_twice_is_delivered_twice, 1),
    (the_end_is_not_told, 1),
    (nothing_is_said_again, 12),
    (nobody_refutes, 1),
    (silence_is_no_alarm, 1),
    (the_late_judge_others, 8),
    (the_older_record_wins, 1),
    (the_hungry_are_never_fed, 8),
]

CHECKERS = {
    "custody", "delivery", "expiry", "idle", "leftover", "load", "membership", "orphan", "progress",
    "verdict", "waste",
    "AssertionError",
}  # fmt: skip
"""Kinds of breaches; the last is an account that does not add up. Any other is a broken mutant."""


@pytest.mark.parametrize(
    ("mutate", "first"), MUTANTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_rule_is_found(
    mutate: Mutate, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search begins with the world that noticed when it was tried from 1: less time, the same worlds."""
    mutate(monkeypatch)
    outcome = first_breach(range(first, first + WORLDS))
    assert outcome is not None, f"{WORLDS} worlds did not notice that {mutate.__name__}"
    assert outcome.kind in CHECKERS, outcome.breach


@pytest.mark.parametrize(
    ("mutate", "story"),
    [
        (reports_are_dropped_without_a_link, links_that_break),
        (repeats_are_acted_on, links_that_break),
        (nobody_is_told_to_let_go, falsely_accused),
    ],
    ids=lambda value: value.__name__,
)
def test_a_broken_rule_is_found_by_its_story(
    mutate: Mutate, story: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases run out, repeats change no account and every job has an end: of these, a random
    world only sees that things take longer, and now and then not even that."""
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        story()


def test_a_part_that_is_given_twice_is_missed_by_the_custody_sweep() -> None:
    told = scene(2)
    program = told.map(600)
    told.until(lambda: all(told.holds(node, program) for node in told.nodes))
    told.world.checkers.sweep()
    one, other = (node.core.holder.jobs[program.job].bags for node in told.nodes)
    assert isinstance(one, IndexedBags)
    assert isinstance(other, IndexedBags)
    lid, held = next(iter(one.leases.items()))
    other.leases[lid] = held
    with pytest.raises(Breach, match="is held by n0 and n1"):
        told.world.checkers.sweep()
