"""What the ledger of a job knows of an item, or of all of them: why it is not running.

A pure function of the owner's account, asked only when a person looks. Decides nothing. Refuses to know what
happens at the node that has a lease (`holding/why_here.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from stealmesh_engine.ledger.edges import JobEdges
from stealmesh_engine.ledger.owned_job import IndexedJob, OwnedJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.ledger.passed_over import is_worker
from stealmesh_engine.ledger.placement import needs_another_python
from stealmesh_engine.ledger.requirements import suits
from stealmesh_engine.ledger.why import NAMED_MAX, Fact, Why, short_text, some
from stealmesh_protocol.ids import PeerId, short, short_form
from stealmesh_protocol.messages import Member

HOLDERS_TOLD_MAX = 64
"""Holders of one job that are named, each in a fact of its own."""


def why_item(owner: Owner, job: OwnedJob, item: int, now: float) -> list[Fact]:
    """What has become of this item. More than one fact if two nodes have it."""
    if not isinstance(job, IndexedJob):
        return why_job(owner, job, now)  # bags have no numbers
    found = _item(owner, job, item, now)
    for fact in found:
        fact.items = (item, item + 1)
        fact.before = _tried(owner, job, item, now)
    return found


def why_job(owner: Owner, job: OwnedJob, now: float) -> list[Fact]:
    """What has become of all of it, one fact for each reason and holder."""
    ledger, figures = job.ledger, job.ledger.figures()
    found = [Fact(Why.DONE, many=figures.done)] if figures.done else []
    if job.failed:
        found.append(Fact(Why.FAILED, many=job.failed, text=job.last_error()))
    oldest = list(_leases(owner, job, now))
    found += oldest[:HOLDERS_TOLD_MAX]
    if isinstance(job, IndexedJob):
        found += _not_leased(owner, job, now)
    if ledger.has_free:
        free = why_free(owner, job, ledger.first_free, now)
        free.many = ledger.free_items
        found.append(free)
    if job.open_ended and not ledger.has_free and not ledger.leases:
        found.append(Fact(Why.NOT_SUBMITTED))
    return found


# ---------------------------------------------------------------- one item


def _item(owner: Owner, job: IndexedJob, item: int, now: float) -> list[Fact]:
    ledger = job.ledger
    if item >= ledger.total:
        if job.open_ended:
            return [Fact(Why.NOT_SUBMITTED)]
        return [Fact(Why.NO_SUCH_ITEM, count=ledger.total)]
    if item >= ledger.released:
        return [Fact(Why.READER_BEHIND)]
    if ledger.credited.covers(item, item + 1):
        return [_over(job, item)]
    if job.edges is not None and item in job.edges.missing:
        return [_waits(owner, job, item)]
    pieces = ledger.pieces(item, item + 1)
    if pieces:
        return [_leased(owner, job, piece.holder, piece.lid, now) for piece in pieces]
    if ledger.put_off is not None and ledger.put_off.items.covers(item, item + 1):
        return [_put_off(owner, job, item, now)]
    if ledger.free.covers(item, item + 1):
        if item in ledger.again:
            return [Fact(Why.MADE_AGAIN)]
        return [why_free(owner, job, item, now)]
    return [_waits(owner, job, item)]


def _waits(owner: Owner, job: IndexedJob, item: int) -> Fact:
    """It lacks results of others."""
    if job.edges is not None:
        names = _inputs(owner, job.edges, item)
    else:
        calls = [] if job.ledger.edges is None else job.ledger.edges.awaited(item)
        names = [f"durable call {short_form(each)}" for each in calls]
    return Fact(Why.DEPENDENCY, text=some(names) or "others")


def _inputs(owner: Owner, edges: JobEdges, item: int) -> list[str]:
    """Which calls go into this item and are not over, each by its job's name and its item."""
    open_ones = ((source, at) for source, at in edges.into(item) if at not in source.results)
    return [f"{owner.jobs[source.job].spec.name}/{at}" for source, at in open_ones]


def _over(job: IndexedJob, item: int) -> Fact:
    if job.unwanted is not None and job.unwanted.covers(item, item + 1):
        return Fact(Why.CANCELLED)
    how = "" if job.mishaps is None else job.mishaps.of(item)
    if how:
        return Fact(Why.FAILED, text=how)
    if job.mishaps is not None and job.mishaps.forgot:
        return Fact(Why.ENDED, count=job.failed)
    return Fact(Why.DONE)


def _put_off(owner: Owner, job: IndexedJob, item: int, now: float) -> Fact:
    value = owner.placement.lacking.waits_for(job.spec.job, item)
    if value is not None:
        return Fact(Why.VALUE_MADE_AGAIN, text=value.hex())
    put_off = job.ledger.put_off
    assert put_off is not None
    left = max(0.0, put_off.until(item) - now)
    past = put_off.past(item)
    if past is None or not past.failed or past.deferred_last:
        return Fact(Why.DEFERRED, seconds=left, count=0 if past is None else past.deferred)
    return Fact(
        Why.RETRY,
        seconds=left,
        count=past.failed,
        text=short_text(past.attempts[-1] if past.attempts else ""),
    )


def _tried(owner: Owner, job: IndexedJob, item: int, now: float) -> list[str]:
    """Where and how it has been tried before."""
    tried = []
    if job.passed is not None:
        for peer, reason in list(job.passed.barred(item, now).items())[:NAMED_MAX]:
            tried.append(short_text(f"{name_of(owner, peer)} declined it: {reason}"))
    put_off = job.ledger.put_off
    past = None if put_off is None else put_off.past(item)
    if past is not None:
        tried += [short_text(f"it failed: {text}") for text in past.attempts[-NAMED_MAX:]]
    return tried


# ---------------------------------------------------------------- what is free


def why_free(owner: Owner, job: OwnedJob, item: int, now: float) -> Fact:
    """No node has this item, and it may run. Why has no node been given it?"""
    if job.keeping is not None and not job.keeping.may_lease():
        return Fact(Why.NO_ROOM_FOR_RESULTS if job.keeping.crowded else Why.COPIES_NOT_SAFE)
    turn = _why_not_its_turn(owner, job, item)
    if turn is not None:
        return turn
    if owner.placement.side.withholds(now):
        return Fact(Why.LESSER_SIDE)
    return _why_no_node(owner, job, item, now)


def _why_not_its_turn(owner: Owner, job: OwnedJob, item: int) -> Fact | None:
    lids, lives = job.ledger.lids, job.lives
    if lives is not None:
        if lives.dead:
            return Fact(Why.ACTOR_DEAD, text=short_text(lives.why()))
        if not lives.has_room(lids) or (job.hire is not None and job.hire.lid):
            return Fact(Why.ACTOR_TURN, count=_before(job, item))
        return None
    if job.lanes is not None:
        return None if job.lanes.has_room(lids) else Fact(Why.MAX_PARALLEL, count=job.lanes.most)
    turn = owner.placement.turn(job)
    return None if turn is None or turn.has_room(lids) else Fact(Why.URGENT_ROUND)


def _before(job: OwnedJob, item: int) -> int:
    if not isinstance(job, IndexedJob):
        return 0
    free = sum(hi - lo for lo, hi in job.ledger.free.overlap(0, item)) if item else 0
    return job.ledger.leased + free


def _why_no_node(owner: Owner, job: OwnedJob, item: int, now: float) -> Fact:
    candidates, view = owner.candidates, owner.links.view
    if job.lives is not None and job.lives.home and not candidates.may_run(job, job.lives.home):
        return Fact(Why.ACTOR_HOME_AWAY, text=_state_of(owner, job.lives.home))
    nodes = [view.members[peer] for peer in view.nodes() if is_worker(view.members[peer])]
    if not nodes:
        return Fact(Why.NO_NODES)
    able = [node for node in nodes if suits(job.spec, node)]
    if not able:
        lacks_python = needs_another_python(job.spec, nodes)
        why = Why.NO_PYTHON if lacks_python else Why.NO_RESOURCES
        return Fact(why, text=short_text(job.why_stuck or _needs(job)))
    there = [node for node in able if candidates.may_run(job, node.id)]
    if not there:
        told = [f"{node.name} {_state_of(owner, node.id)}" for node in able]
        return Fact(Why.NODES_AWAY, text=some(told))
    barred = {} if job.passed is None else job.passed.barred(item, now)
    if barred and all(node.id in barred for node in there):
        told = [f"{node.name}: {barred[node.id]}" for node in there]
        return Fact(Why.DECLINED, text=some(told))
    return Fact(Why.FREE)


def _needs(job: OwnedJob) -> str:
    spec = job.spec
    return " ".join(filter(None, [spec.runtime, ", ".join(f"{n}={c}" for n, c in spec.resources)]))


def _state_of(owner: Owner, peer: PeerId) -> str:
    """Why this node gets nothing."""
    links, member = owner.links, owner.links.view.members.get(peer)
    if member is None or not links.view.is_alive(peer):
        return "is gone"
    if peer in owner.candidates.away or not member.workers:
        return "is leaving"
    if peer in links.mute:
        return "does not understand us"
    if not links.view.is_well(peer):
        return "is suspected to be dead"
    return "cannot be reached" if not links.is_ready(peer) else "gets nothing"


def name_of(owner: Owner, peer: PeerId) -> str:
    member: Member | None = owner.links.member_of(peer)
    return short(peer) if member is None else member.name


# ---------------------------------------------------------------- all of them


def _leased(owner: Owner, job: OwnedJob, holder: PeerId, lid: int, now: float) -> Fact:
    since = max(0.0, now - (job.ledger.born(lid) - owner.config.lease_seconds))
    return Fact(Why.LEASED, holder.hex(), seconds=since, text=name_of(owner, holder))


def _leases(owner: Owner, job: OwnedJob, now: float) -> Iterator[Fact]:
    """One for each holder, with its oldest lease; the longest first."""
    ledger = job.ledger
    out = ledger.out()
    facts = []
    for holder in ledger.holders():
        lids = ledger.held_by(holder)
        eldest = max(
            (_leased(owner, job, holder, lid, now) for lid in lids), key=lambda f: f.seconds
        )
        eldest.many = out[holder]
        facts.append(eldest)
    yield from sorted(facts, key=lambda fact: -fact.seconds)


def _not_leased(owner: Owner, job: IndexedJob, now: float) -> list[Fact]:
    """What is in no lease and not free."""
    ledger, found = job.ledger, []
    put_off = ledger.put_off
    if put_off is not None and put_off.size:
        first = put_off.items.first
        soonest = _put_off(owner, job, first, now)
        at = put_off.next_at
        soonest.many = put_off.size
        soonest.seconds = 0.0 if at is None else max(0.0, at - now)
        found.append(soonest)
    if ledger.total > ledger.released:
        found.append(Fact(Why.READER_BEHIND, many=ledger.total - ledger.released))
    free = ledger.free.size
    known = ledger.credited.size + ledger.leased + free + (0 if put_off is None else put_off.size)
    if ledger.released > known:
        withheld = ledger.withheld
        fact = Fact(Why.DEPENDENCY, text="others")
        if withheld is not None and withheld.size == 1:
            fact = _waits(owner, job, withheld.first)
        fact.many = ledger.released - known
        found.append(fact)
    return found
