"""What the node that has an item knows of it: which worker runs it, or why none does.

A pure function of what the node holds, asked only when a person looks. Decides nothing. Refuses to know why the
node has it (`ledger/why_owned.py`), and what the task itself is at: only its worker knows that.
"""

from __future__ import annotations

from collections.abc import Iterator

from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.holding.indexed_bags import HeldLease, IndexedBags
from stealmesh_engine.holding.lane_bags import LaneBags
from stealmesh_engine.holding.slots import ActorSlot, Chunk, Slot
from stealmesh_engine.ledger.why import NAMED_MAX, Fact, Why, short_text, some
from stealmesh_protocol.ids import JobId, ValueId, short
from stealmesh_protocol.messages import Needs, Report

CHUNKS_TOLD_MAX = 256
"""Chunks of one job at workers that are told of, each in a fact of its own."""


def why_here(holder: Holder, job: JobId, item: int, now: float) -> Fact | None:
    """What this node knows of the item. None: it has nothing of it."""
    held = holder.jobs.get(job)
    if held is None:
        return None
    fact = _at_a_worker(holder, job, item, now) or _in_stock(holder, held, item)
    fact = fact or _on_its_way(holder, held, item)
    if fact is not None:
        fact.node = holder.links.view.me.id.hex()
        if fact.items == (-1, -1):
            fact.items = (item, item + 1)
        fact.before = [
            short_text(f"it ended its worker: {reason}")
            for reason in held.attempts.by_suspect.get(item, [])[-NAMED_MAX:]
        ]
    return fact


def all_here(holder: Holder, job: JobId, now: float) -> list[Fact]:
    """What this node has of the job: what runs, the longest first, then what waits."""
    held = holder.jobs.get(job)
    if held is None:
        return []
    facts = []
    for slot, chunk, next_one in _chunks(holder):
        if chunk.job == job and not chunk.void and chunk.lo < chunk.hi:
            facts.append(_of_chunk(slot, chunk, now, next_one=next_one))
    facts.sort(key=lambda fact: -fact.seconds)
    del facts[CHUNKS_TOLD_MAX:]
    waiting = sum(part.hi - part.lo for part in held.bags.untouched_parts())
    if waiting or held.bags.queued_items:
        fact = _why_not_begun(holder, held, before=0)
        fact.items, fact.many = (-1, -1), waiting or held.bags.queued_items
        facts.append(fact)
    me = holder.links.view.me.id.hex()
    for fact in facts:
        fact.node = me
    return facts


# ---------------------------------------------------------------- at a worker


def _chunks(holder: Holder) -> Iterator[tuple[Slot | None, Chunk, bool]]:
    """Everything that is with workers: the slot, the chunk, and whether it waits behind another."""
    slots = holder.slots
    for slot in slots.all_slots():
        if slot.running is not None:
            yield slot, slot.running, False
        if slot.queued is not None:
            yield slot, slot.queued, True
    for chunk in slots.all_beside():
        yield None, chunk, False


def _at_a_worker(holder: Holder, job: JobId, item: int, now: float) -> Fact | None:
    for slot, chunk, next_one in _chunks(holder):
        if (
            chunk.job == job
            and not chunk.void
            and not chunk.explore
            and chunk.lo <= item < chunk.hi
        ):
            return _of_chunk(slot, chunk, now, next_one=next_one, item=item, holder=holder)
    return None


def _of_chunk(
    slot: Slot | None,
    chunk: Chunk,
    now: float,
    *,
    next_one: bool,
    item: int | None = None,
    holder: Holder | None = None,
) -> Fact:
    seconds, items = max(0.0, now - chunk.started), (chunk.lo, chunk.hi)
    if next_one:
        running = None if slot is None else slot.running
        seconds = 0.0 if running is None else max(0.0, now - running.started)
        return Fact(Why.NEXT_AT_WORKER, items=items, seconds=seconds, worker=chunk.worker)
    fact = Fact(Why.RUNNING, items=items, seconds=seconds, worker=chunk.worker)
    if item is not None:
        stopped = chunk.stopped is not None and chunk.stopped.items.covers(item, item + 1)
    else:
        stopped = chunk.stopped is not None
    if _starts(slot, chunk, holder):
        fact.why = Why.STARTING
    elif stopped:
        fact.why = Why.STOPPING
    elif chunk.waits:
        fact.why = Why.CHILDREN
    elif chunk.hi - chunk.lo > 1 and not chunk.explore:
        fact.why, fact.count = Why.IN_CHUNK, chunk.hi - chunk.lo
    return fact


def _starts(slot: Slot | None, chunk: Chunk, holder: Holder | None) -> bool:
    """Is the process that is to run it not up yet?"""
    if isinstance(slot, ActorSlot):
        return not slot.up
    beside = slot is None and holder is not None
    return beside and holder is not None and chunk.worker not in holder.slots.side_ready


# ---------------------------------------------------------------- no worker has it


def _in_stock(holder: Holder, held: HeldJob, item: int) -> Fact | None:
    if not isinstance(held.bags, IndexedBags):
        return None
    before = 0
    for lease in held.bags.leases.values():
        if lease.waiting is not None and lease.waiting.covers(item, item + 1):
            return _why_it_follows(holder, held, item) or _why_value(
                holder, _needs_of(held.bags, item)
            )
        if lease.untouched.covers(item, item + 1):
            before += sum(hi - lo for lo, hi in lease.untouched.overlap(0, item))
            return _why_not_begun(holder, held, before, lease)
        before += lease.untouched.size
    return None


def _why_not_begun(
    holder: Holder, held: HeldJob, before: int, lease: HeldLease | None = None
) -> Fact:
    """Something of this job could be with a worker, as far as the job goes."""
    spec, stock, dispatcher = held.spec, holder.dispatcher.stock, holder.dispatcher
    if dispatcher.draining:
        return Fact(Why.NODE_LEAVES)
    if holder.functions.lacks(spec):
        return Fact(Why.FUNCTION_COMES)
    if spec.needs and holder.values.lacks(spec.needs):
        return _why_value(holder, spec.needs)
    if not holder.slots:
        return Fact(Why.NO_WORKER)
    taken_up = any(slot.resources for slot in holder.slots.actors_of(spec.job))
    if stock.is_held_up(held, taken_up=True):
        return Fact(Why.RESULTS_UNHEARD)
    if stock.is_held_up(held, taken_up=taken_up):
        return Fact(Why.RESOURCES_TAKEN, text=_resources(holder))
    if spec.life:
        with_process = sum(c.hi - c.lo for c in holder.slots.chunks_of(spec.job))
        return Fact(Why.CALL_BEFORE, count=before + with_process)
    if isinstance(held.bags, LaneBags) and lease is not None and lease.busy:
        return Fact(Why.LANE_BUSY)
    if held.bags.together and holder.dispatcher.side.is_kept_out_everywhere(held):
        return Fact(Why.KEPT_APART)
    ahead = sum(chunk.hi - chunk.lo for chunk in holder.slots.chunks())
    others = sum(
        other.bags.queued_items
        for other in stock.jobs()
        if other is not held and other.spec.priority > spec.priority
    )
    return Fact(Why.QUEUED, count=before + ahead + others)


def _why_it_follows(holder: Holder, held: HeldJob, item: int) -> Fact | None:
    """Which calls it follows, each by its job's name and its item, and by its node if that is another one. None: it
    has all results that it needs."""
    follow_on = holder.follow_ons.waiting.get(held.spec.job, {}).get(item)
    names = []
    for (job, at, _), maker in () if follow_on is None else follow_on.lacking_makers():
        there = f" on {holder.links.view.name_of(maker)}" if maker else ""
        names.append(f"{_name(holder, job)}/{at}{there}")
    return Fact(Why.FOLLOWS, text=some(names), count=len(names)) if names else None


def _name(holder: Holder, job: JobId) -> str:
    held = holder.jobs.get(job)
    return short(job) if held is None else held.spec.name


def _resources(holder: Holder) -> str:
    there = holder.links.view.me.resources
    return some([f"{name} {holder.slots.taken(name)} of {count}" for name, count in there])


def _needs_of(bags: IndexedBags, item: int) -> Needs:
    return tuple(value for block, _ in bags.inputs.within(item, item + 1) for value in block.needs)


def _why_value(holder: Holder, needs: Needs) -> Fact:
    """Which of these is not here, and what about it."""
    copies = holder.values.copies
    lacking: list[ValueId] = [value for value in needs if value not in copies.whole]
    fetches = {value: copies.fetches.get(value) for value in lacking}
    names = some([value.hex() for value in lacking])
    if any(fetch is not None and fetch.made_again for fetch in fetches.values()):
        return Fact(Why.VALUE_MADE_AGAIN, text=names)
    waits = [fetch for fetch in fetches.values() if fetch is not None and fetch.asked_at is None]
    if waits and copies.held_back:
        return Fact(Why.VALUE_HAS_NO_ROOM, text=names)
    return Fact(Why.VALUE_COMES, text=names, count=len(lacking))


# ---------------------------------------------------------------- it has run


def _on_its_way(holder: Holder, held: HeldJob, item: int) -> Fact | None:
    job = held.spec.job
    unsaid = holder.reports.unsaid.get(job)
    parts = [] if unsaid is None else list(unsaid.parts)
    for message in holder.links.unheard(held.spec.owner):
        if isinstance(message, Report) and message.job == job:
            parts += message.parts
    if any(part.lo <= item < part.hi for part in parts):
        return Fact(Why.REPORT_UNDER_WAY)
    if any(lo <= item < hi for lo, hi in held.unsettled):
        return Fact(Why.RESULT_NOT_SAFE)
    return None
