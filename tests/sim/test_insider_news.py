"""Lies about what is newer: values, results that stay, actors' lives, questions, ends by a person, durable searches.

Each was thought up against the handlers, and told to a virtual mesh as one or a few messages. What did harm once says
so. The honest job ends well behind each of them, and the checkers look at every effect.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.sim.test_insider import Stage, at_the_door, my_spec

from stealmesh_engine.data.copies_elsewhere import OTHERS_MIN, WINDOW_OCTETS
from stealmesh_engine.durable.replica import Replica
from stealmesh_engine.events import AskLook, KeepValue, ReleaseValue
from stealmesh_engine.looks import OPEN_MAX, OPEN_OF_ONE_MAX
from stealmesh_protocol import limits
from stealmesh_protocol.ids import granted_lease, job_id, seat_of, value_id, value_of_item
from stealmesh_protocol.messages import (
    Barred,
    CallOff,
    Commit,
    Declined,
    Fetch,
    Grant,
    Here,
    JobKind,
    JournalGet,
    JournalPage,
    Keep,
    Lease,
    LookAt,
    Part,
    Reign,
    Report,
    Seen,
    Standing,
    Topic,
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
)


def test_a_value_of_nobody_s_is_neither_kept_nor_fetched() -> None:
    """Copies of another's value that are offered, taken away, sized anew, and asked for beyond their end. Once: who
    asked for a making of a value that was put on the mesh had its owner strike its copy off, and the value was lost."""
    stage = Stage()
    me, owner = stage.liar.member.id, stage.program.member.id
    theirs, mine = value_id(owner, 9), value_id(me, 9)
    stage.program.shelf.put(theirs, 3000)
    stage.program.hear(KeepValue(theirs, 3000))
    for target in (stage.a, stage.program):
        stage.tell(
            target,
            ValueAt(theirs, 1 << 40, me),
            ValueAt(mine, limits.INDEX_MAX, me),
            ValueAt(theirs, making=granted_lease(5)),
            ValueDrop(theirs),
            ValueDrop(theirs, granted_lease(1)),
            ValueHeld(theirs),
            ValueHeld(theirs, whole=False, making=granted_lease(1)),
            ValuePut(theirs, limits.INDEX_MAX - 1, [b"x"]),
            ValueGet(theirs, limits.INDEX_MAX, limits.VALUE_ASK_OCTETS, granted_lease(3)),
            ValueSeek(theirs, [owner, me, stage.a.member.id] * 50),
        )
    account = stage.program.core.values.directory.accounts[theirs]
    assert list(account.copies) == [owner], "its owner has it, and nobody else"
    assert not stage.a.core.values.copies.fetches
    assert stage.a.core.counters["values-not-theirs"] == 2
    stage.ends_well()


def test_a_taker_is_not_struck_off_by_who_asks_it_for_another_making() -> None:
    """It says that it has none of that making, and its owner took that for what it has of the value itself. So it was
    not known as a copy, and kept the value when nothing needed it any more."""
    stage = Stage()
    me, owner, a = stage.liar.member.id, stage.program.member.id, stage.a.member.id
    value = value_id(owner, 9)
    stage.world.network.latency.octets_a_second = 10e6
    stage.program.shelf.put(value, 3_000_000)
    stage.program.hear(KeepValue(value, 3_000_000))
    copies = stage.a.core.values.copies
    copies.want((value,))
    copies.start(stage.world.now)
    stage.world.run(stage.world.now + 0.1)
    account = stage.program.core.values.directory.accounts[value]
    assert a in account.taking
    stage.tell(stage.a, ValueGet(value, 0, 100, granted_lease(3)))
    stage.tell(stage.program, ValueHeld(value, making=granted_lease(3)), seconds=1.0)
    assert value in copies.whole
    assert list(account.copies) == [owner, a]
    assert me not in account.known()
    stage.program.hear(ReleaseValue(value))
    stage.world.run(stage.world.now + 1.0)
    assert value not in copies.whole
    stage.ends_well()


def test_who_begins_to_take_values_and_never_ends_leaves_nothing() -> None:
    """When each of them began is remembered, to measure the line, until the value has gone."""
    stage = Stage()
    copies, me, octets = stage.a.core.values.copies, stage.liar.member.id, 2 * WINDOW_OCTETS
    for each in range(3 * OTHERS_MIN):
        value = value_id(stage.program.member.id, 1000 + each)
        copies.stored.add(value, octets)
        copies.wanted(me, ValueGet(value, 0, 1), stage.world.now)
        copies.stored.remove(value)
    stage.a.core.values._effects.clear()
    assert len(copies.elsewhere._serving) <= OTHERS_MIN + 1


def test_a_job_that_needs_a_value_without_end_holds_up_no_other() -> None:
    """Its owner says that the value has as many octets as can be said, sends one of them, and then another size."""
    stage = Stage()
    spec, value = my_spec(stage), value_id(stage.liar.member.id, 4)
    stage.tell(stage.a, Grant(replace(spec, needs=(value,)), [Lease(granted_lease(1), 0, 5)]))
    stage.a.core.values.copies.want((value,))
    stage.a.core.values.copies.start(stage.world.now)
    me = stage.liar.member.id
    stage.tell(
        stage.a,
        ValueAt(value, limits.INDEX_MAX, me),
        ValuePut(value, 0, [b"x"]),
        ValueAt(value, 7, me, granted_lease(2)),
        ValuePut(value, 1, [b"y" * 100]),
        ValueAt(value, 9, stage.a.member.id, granted_lease(2)),
        ValueDrop(value),
    )
    stage.ends_well()


def test_a_result_that_stays_and_is_nowhere_harms_nobody() -> None:
    """Said by who has no lease of it, and of an item that no job has."""
    stage = Stage()
    job, lid = stage.spec.job, granted_lease(1)
    parts = [Part(lid, 0, 1, 1, 0.1, stays=((0, 1 << 40),)), Part(lid, limits.INDEX_MAX - 1, limits.INDEX_MAX, 1, 0.1)]  # fmt: skip
    stage.tell(stage.program, Report(job, parts, [b"", b"x"]))
    stage.tell(
        stage.program,
        ValueHeld(value_of_item(job, 0), making=lid),
        ValueSeek(value_of_item(job, 1 << 31)),
    )
    assert stage.program.core.counters["results-dropped"]
    assert not stage.program.core.values.directory.accounts
    stage.ends_well()


def test_an_actor_s_life_is_not_ended_by_another_node() -> None:
    stage = Stage(kind=JobKind.SUBMIT, fed=True, actor=True)
    job = stage.spec.job
    lives = stage.program.core.owner.jobs[job].lives
    assert lives is not None
    home, number = lives.home, lives.number
    for life in (0, number, number + 1):
        stage.tell(stage.program, Declined(job, [], "gone", life, []))
    stage.tell(stage.program, Report(job, [Part(seat_of(number), 0, 200, 1, 0.0)], [b"x"]))
    assert (lives.home, lives.number, lives.deaths) == (home, number, [])
    stage.ends_well()


def test_who_asks_without_end_does_not_keep_others_from_asking() -> None:
    """Once: one peer could have all questions open that a node has, and everybody else heard nothing."""
    stage = Stage()
    looks, me = stage.a.core.looks, stage.liar.member.id
    for each in range(2 * OPEN_MAX):
        looks.asked(me, LookAt(each, Topic.STACKS), stage.world.now)
    looks._effects.clear()
    assert len(looks._owed) == OPEN_OF_ONE_MAX
    looks.asked(stage.program.member.id, LookAt(1, Topic.STACKS), stage.world.now)
    looks._effects.clear()
    assert len(looks._owed) == OPEN_OF_ONE_MAX + 1
    stage.ends_well()


def test_answers_to_questions_of_others_are_not_taken() -> None:
    """Numbers are small and follow each other: who guesses one has not been asked."""
    stage = Stage()
    stage.program.hear(AskLook(5, Topic.EXPLAIN, stage.spec.job, peer=stage.a.member.id))
    looks = stage.program.core.looks
    answer = b"\x80"
    stage.tell(stage.program, *[Seen(nonce, [answer]) for nonce in (5, 1 << 48, (1 << 48) + 1)], seconds=0.0)  # fmt: skip
    stage.world.run(stage.world.now + 2.0)
    assert not looks._open
    assert not stage.program.core.counters.get("looks-unreadable")
    stage.ends_well()


def test_a_node_ends_no_job_when_it_is_called_off_there() -> None:
    """Only its program does. Of a job that nobody has there is nothing to end, and no question goes in circles."""
    stage = Stage()
    unknown = job_id(stage.liar.member.id, 3)
    nowhere = job_id(stage.b.member.id, 1)
    sent = stage.world.network.messages
    for target in (stage.a, stage.b, stage.program):
        stage.tell(target, *[CallOff(each, job) for each, job in enumerate((unknown, nowhere))])
    assert stage.world.network.messages - sent < 100
    assert not stage.job.done


def test_journals_are_asked_within_bounds_and_answered_when_asked() -> None:
    stage = Stage()
    asks = [JournalGet(1, since, kinds, octets)
            for since in (0, limits.INDEX_MAX) for kinds in (0, 1, (1 << 16) - 1) for octets in (1, 65536)]  # fmt: skip
    for target in (stage.a, stage.program):
        stage.tell(target, *asks)
    page = JournalPage(1, 0.0, 0.0, 0)
    stage.tell(stage.program, page)
    assert stage.program.core.counters["journals-unasked"] == 1
    stage.ends_well()


def test_a_durable_search_is_not_led_committed_or_closed_by_a_stranger_to_it() -> None:
    """A MAP that is durable is said to be a search, and its account to be another one."""
    stage = Stage(durable=True)
    spec, me = stage.spec, stage.liar.member.id
    search = replace(spec, kind=JobKind.EXPLORE)
    home = next(n for n in (stage.a, stage.b) if spec.job in n.core.durable.state.primaries)
    stage.tell(home, Commit(spec.job, granted_lease(1), 1, 0, [], 0.0, 1, blobs=[b"", b""]))
    stage.tell(home, Grant(search, [Lease(granted_lease(1), 0, 1)], blobs=[b"bag"]))
    stage.tell(home, Here(spec.job, Standing.GONE, Reign(spec.term, 1, me, [])))
    stage.tell(home, Fetch(spec.job, limits.INDEX_MAX, True))
    stage.tell(home, Keep(replace(search, owner=me), Reign(spec.term, 1, me, [])))
    stage.ends_well()


def test_a_job_that_is_done_stays_until_it_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its primary has all results, and its program not yet. Somebody who keeps none of it says that it is gone. (World
    2002139: two results of 64 were lost.)"""
    stage = Stage(durable=True)
    job, me = stage.spec.job, stage.liar.member.id
    home = next(n for n in (stage.a, stage.b) if job in n.core.durable.state.primaries)
    with monkeypatch.context() as done:
        done.setattr(Replica, "ended", property(lambda self: True))
        gone = Here(job, Standing.GONE, Reign(stage.spec.term, 1, me, []))
        home.core.durable.election.here(me, gone, stage.world.now)
    assert job in home.core.durable.state.primaries
    assert home.core.counters["ends-not-believed"] == 1
    stage.ends_well()


def test_a_copy_does_not_end_a_job_that_its_primary_leads() -> None:
    """Not all of it is done: the primary knows better than any of the copies."""
    stage = Stage(durable=True)
    job = stage.spec.job
    home = next(n for n in (stage.a, stage.b) if job in n.core.durable.state.primaries)
    replica = home.core.durable.state.replicas[job]
    assert not replica.ended
    seat = next(p for _, p in replica.configuration.seats if p != home.member.id)
    gone = Here(job, Standing.GONE, Reign(replica.spec.term, 1, seat, []))
    home.core.durable.election.here(seat, gone, stage.world.now)
    assert job in home.core.durable.state.primaries
    stage.ends_well()


def test_names_of_tokens_without_end_are_bounded() -> None:
    stage = Stage()
    names = [f"laptop-{each:05}@0123abcd" for each in range(limits.BARRED_MAX + 64)]
    for at in range(0, len(names), 64):
        stage.tell(stage.a, Barred(names[at : at + 64]), seconds=0.01)
    assert len(stage.a.core.links.guests.barred) <= limits.BARRED_MAX
    stage.ends_well()


def test_a_value_with_a_source_has_octets() -> None:
    at_the_door(
        ValueAt(value_id(bytes(16), 1), 0, b"s" * 16),
        ValueAt(value_id(bytes(16), 1), 5),
        ValueGet(value_id(bytes(16), 1), 0, limits.VALUE_ASK_OCTETS + 1),
        ValuePut(value_id(bytes(16), 1), 0, [b""]),
        LookAt(1, Topic.EXPLAIN, b"", 3),
        LookAt(1, Topic.EXPLAIN, job_id(bytes(16), 1), -2),
    )
