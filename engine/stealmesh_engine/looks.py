"""Questions about jobs, items and workers: those of our program, and those of peers.

Decides whom to ask, how long to wait, and which answers can be shown. Every node that we have a link with is
asked once, and answers at once with what it has, which is mostly nothing. The ledger of an ordinary job is in
its program, which only listens to nodes: if no node owns the job, one that has a link with the program is asked to
ask it. So any node is a door, and none is in the middle. Refuses to know what the facts mean (`ledger/why.py`)
and how stacks are taken: the host takes them.

The same way leads to the program for a person who wants its job to end (`AskCallOff`).

A peer's answer is an input: it is read into plain structures, or dropped and counted. What peers ask costs a
bounded number of open questions, and nothing without an onlooker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from stealmesh_engine.durable.why_kept import why_kept
from stealmesh_engine.effects import CalledOff, LookReady, TakeStacks
from stealmesh_engine.events import AskCallOff, AskLook, StacksTaken
from stealmesh_engine.holding.why_here import all_here, why_here
from stealmesh_engine.ledger.jobs_around import OWNER_GONE
from stealmesh_engine.ledger.why import OVER, Fact, Why, how_it_ended, how_it_failed, plain
from stealmesh_engine.ledger.why_owned import why_item, why_job
from stealmesh_engine.parts import Parts
from stealmesh_protocol.ids import (
    JobId,
    PeerId,
    number_in_whole,
    owner_of,
    slice_id,
    slice_of,
    whole_of,
)
from stealmesh_protocol.limits import SEEN_OCTETS_MAX
from stealmesh_protocol.messages import CallOff, LookAt, Role, Seen, Topic
from stealmesh_protocol.stacks import WorkerStacks

PATIENCE_SECONDS = 0.9
"""How long a program waits for those that do not answer."""
STACKS_SECONDS = 0.7
"""How long a node waits for its workers. Less than the patience of those that ask."""
OPEN_MAX = 64
"""Questions of peers that a node has open at once."""
OPEN_OF_ONE_MAX = 16
"""Those of one peer: who asks without end does not keep others from asking."""
RELAYED_FROM = 1 << 48
"""Our own numbers for questions of others begin here."""


class Answer(msgspec.Struct):
    """What one peer knows."""

    id: str
    name: str = ""
    near: bool = False
    """It has a link with the program that owns the job."""
    owns: bool = False
    owned: list[Fact] = []
    """What the ledger says, if it is there."""
    held: list[Fact] = []
    """What it has of the job."""
    kept: list[Fact] = []
    """What it knows of the job's copies, or of its end."""
    workers: list[WorkerStacks] = []
    more: int = 0
    """Worker processes that were left out, as there was no room for their stacks."""


@dataclass(slots=True)
class Look:
    """A question of our program."""

    asked: AskLook
    until: float
    waiting: dict[PeerId, None]
    answers: list[Answer] = field(default_factory=list)
    onward: int = 0
    """The number of our question to the program that owns the job, while it is open."""
    went_onward: bool = False
    calls_off: bool = False
    """The program is not asked about the job, but told to end it."""


@dataclass(slots=True)
class Owed:
    """An answer that we owe a peer (or our program: an empty id)."""

    peer: PeerId
    nonce: int
    job: JobId
    item: int
    until: float
    asks: PeerId = b""
    """The program that is to answer us; empty: our own workers."""


class Looks:
    """All questions that are open here."""

    def __init__(self, parts: Parts) -> None:
        self._owner = parts.owner
        self._holder = parts.holder
        self._durable = parts.durable
        self._around = parts.around
        self._links = parts.links
        self._effects = parts.effects
        self._counters = parts.counters
        self._open: dict[int, Look] = {}
        self._owed: dict[int, Owed] = {}
        self._by_number: dict[int, tuple[int, PeerId]] = {}
        """Our questions to programs → that of our program which it belongs to, and the node that hands it on."""
        self._numbers = count(RELAYED_FROM)
        self.until: float | None = None
        """When the first of them is given up."""

    # ------------------------------------------------------------ our program asks

    def ask_call_off(self, event: AskCallOff, now: float) -> None:
        self.ask(AskLook(event.nonce, Topic.EXPLAIN, event.job), now, calls_off=True)

    def ask(self, event: AskLook, now: float, *, calls_off: bool = False) -> None:
        view = self._links.view
        nodes = [peer for peer in view.nodes() if peer != view.me.id]
        asked = nodes if not event.peer else [peer for peer in nodes if peer == event.peer]
        look = Look(event, now + PATIENCE_SECONDS, dict.fromkeys(asked), calls_off=calls_off)
        self._open[event.nonce] = look
        question = LookAt(event.nonce, event.topic, event.job, event.item)
        if event.peer in (b"", view.me.id):
            look.waiting[view.me.id] = None
            self.asked(view.me.id, question, now)
        for peer in asked:
            self._links.send(peer, question, now)
        self._answered_by_all(event.nonce)
        self._plan()

    def met(self, peer: PeerId, now: float) -> None:
        """There is a link with this peer: ask it what it has not answered."""
        for nonce, look in self._open.items():
            if peer in look.waiting:
                asked = look.asked
                question = LookAt(nonce, asked.topic, asked.job, asked.item)
                self._links.send(peer, question, now)

    def answered(self, peer: PeerId, message: Seen, now: float) -> None:
        owed = self._owed.get(message.nonce)
        if owed is not None and owed.asks and owed.asks == peer:
            del self._owed[message.nonce]
            self._links.send(owed.peer, Seen(owed.nonce, message.blobs), now)
            self._plan()
            return
        ours, through = self._by_number.get(message.nonce, (0, b""))
        if through and through == peer:
            del self._by_number[message.nonce]
            self._program_answered(ours, message.blobs)
            self._plan()
            return
        look = self._open.get(message.nonce)
        if look is None or peer not in look.waiting:
            return
        del look.waiting[peer]
        answer = self._read(peer, message.blobs)
        if answer is None:
            self._counters.count("looks-unreadable")
        else:
            look.answers.append(answer)
            if answer.near and peer != self._links.view.me.id:
                self._ask_program(look, peer, now)
        self._answered_by_all(message.nonce)
        self._plan()

    def tick(self, now: float) -> None:
        if self.until is None or now < self.until:
            return
        for nonce in [nonce for nonce, look in self._open.items() if look.until <= now]:
            self._tell(nonce)
        for number in [number for number, owed in self._owed.items() if owed.until <= now]:
            owed = self._owed.pop(number)
            if not owed.asks:
                self._say(owed, self._nothing(), now)
        self._plan()

    # ------------------------------------------------------------ peers ask

    def asked(self, peer: PeerId, message: LookAt, now: float) -> None:
        if message.onward:
            self._ask_onward(peer, message, now)
        elif message.topic is Topic.STACKS:
            self._take_stacks(peer, message, now)
        else:
            owed = Owed(peer, message.nonce, message.job, message.item, now)
            self._say(owed, self._explained(message.job, message.item, now), now)

    def called_off(self, peer: PeerId, message: CallOff, now: float) -> None:
        me = self._links.view.me
        if owner_of(message.job) != me.id:
            self._ask_onward(peer, message, now)
            return
        answer = self._nothing()
        answer.owns = me.role is Role.CLIENT and message.job in self._owner.jobs
        if answer.owns:
            self._effects.append(CalledOff(message.job))
        self._say(Owed(peer, message.nonce, message.job, -1, now), answer, now)

    def taken(self, event: StacksTaken, now: float) -> None:
        """The host has the stacks of our workers."""
        owed = self._owed.pop(event.ticket, None)
        if owed is None:
            return
        self._plan()
        answer = self._nothing()
        for each in event.workers:
            self._name_jobs(each)
        answer.workers = event.workers
        self._say(owed, answer, now)

    # ------------------------------------------------------------ inside

    def _answered_by_all(self, nonce: int) -> None:
        look = self._open.get(nonce)
        if look is not None and not look.waiting and not look.onward:
            self._tell(nonce)

    def _ask_program(self, look: Look, near: PeerId, now: float) -> None:
        """This node has a link with the program that owns the job: have it asked."""
        if look.asked.topic is Topic.EXPLAIN and not look.onward and not look.went_onward:
            look.onward, look.went_onward = next(self._numbers), True
            self._by_number[look.onward] = (look.asked.nonce, near)
            asked = look.asked
            question: LookAt | CallOff = CallOff(look.onward, asked.job)
            if not look.calls_off:
                question = LookAt(look.onward, asked.topic, asked.job, asked.item, onward=True)
            self._links.send(near, question, now)

    def _program_answered(self, nonce: int, blobs: list[bytes]) -> None:
        look = self._open.get(nonce)
        if look is None:
            return
        look.onward = 0
        answer = _decoded(blobs)
        if answer is not None and answer.id == owner_of(look.asked.job).hex():
            look.answers.append(answer)
        elif answer is None or answer.owns:  # else the node has lost its link with the program
            self._counters.count("looks-unreadable")
        self._answered_by_all(nonce)

    def _tell(self, nonce: int) -> None:
        look = self._open.pop(nonce)
        self._by_number.pop(look.onward, None)
        self._effects.append(
            LookReady(nonce, [msgspec.msgpack.encode(each) for each in look.answers])
        )

    def _read(self, peer: PeerId, blobs: list[bytes]) -> Answer | None:
        """What the peer says, under its own name. None: it cannot be read."""
        answer = _decoded(blobs)
        if answer is not None:
            member = self._links.member_of(peer)
            answer.id, answer.name = peer.hex(), "" if member is None else member.name
        return answer

    def _ask_onward(self, peer: PeerId, message: LookAt | CallOff, now: float) -> None:
        owner = owner_of(message.job)
        known = self._links.member_of(owner)
        asks = known is not None and known.role is Role.CLIENT and self._links.is_ready(owner)
        owed = Owed(peer, message.nonce, message.job, -1, now + PATIENCE_SECONDS, owner)
        if not asks or not self._has_room(peer):
            self._counters.count("looks-dropped")
            self._say(owed, self._nothing(), now)
            return
        number = next(self._numbers)
        self._owed[number] = owed
        question: LookAt | CallOff = CallOff(number, message.job)
        if isinstance(message, LookAt):
            question = LookAt(number, message.topic, message.job, message.item)
        self._links.send(owner, question, now)
        self._plan()

    def _has_room(self, peer: PeerId) -> bool:
        """May this peer have one more open question here?"""
        of_one = sum(owed.peer == peer for owed in self._owed.values())
        return len(self._owed) < OPEN_MAX and of_one < OPEN_OF_ONE_MAX

    def _take_stacks(self, peer: PeerId, message: LookAt, now: float) -> None:
        owed = Owed(peer, message.nonce, message.job, message.item, now + STACKS_SECONDS)
        workers = self._workers_with(message.job, message.item)
        if not workers:
            self._say(owed, self._nothing(), now)
        elif not self._has_room(peer):
            self._counters.count("looks-dropped")
            self._say(owed, self._nothing(), now)
        else:
            number = next(self._numbers)
            self._owed[number] = owed
            self._effects.append(TakeStacks(number, workers))
            self._plan()

    def _workers_with(self, job: JobId, item: int) -> list[int]:
        """Those that run it; without a job, all."""
        slots = self._holder.slots
        if not job:
            return [slot.worker for slot in slots.all_slots()]
        found: dict[int, None] = {}
        for each, at in self._parts_of(job, item):
            for chunk in slots.running():
                if chunk.job == each and (at < 0 or chunk.lo <= at < chunk.hi) and not chunk.void:
                    found[chunk.worker] = None
        return list(found)

    def _name_jobs(self, told: WorkerStacks) -> None:
        """The worker knows its chunks by number; people know jobs and items."""
        by_number = {chunk.number: chunk for chunk in self._holder.slots.chunks()}
        for stack in told.stacks:
            chunk = by_number.get(stack.chunk)
            held = None if chunk is None else self._holder.jobs.get(chunk.job)
            if chunk is not None and held is not None:
                stack.job, stack.job_name = whole_of(chunk.job).hex(), held.spec.name
                stack.item = number_in_whole(chunk.job, max(stack.item, 0))

    def _explained(self, job: JobId, item: int, now: float) -> Answer:
        answer = self._nothing()
        owner = owner_of(job)
        known = self._links.member_of(owner)
        answer.near = (
            known is not None and known.role is Role.CLIENT and self._links.is_ready(owner)
        )
        for each, at in self._parts_of(job, item):
            owned = self._owner.jobs.get(each)
            if owned is not None:
                answer.owns = True
                facts = why_job(self._owner, owned, now)
                if at >= 0:
                    facts = why_item(self._owner, owned, at, now)
                answer.owned += in_whole(each, facts)
            fact = why_here(self._holder, each, at, now) if at >= 0 else None
            held = [fact] if fact is not None else []
            answer.held += in_whole(each, held if at >= 0 else all_here(self._holder, each, now))
            answer.kept += why_kept(self._durable.state, self._durable.client, each)
        answer.kept += self._over(job, item)
        return answer

    def _over(self, job: JobId, item: int) -> list[Fact]:
        """How a job ended that is not open here, or this item of it, as far as that is known."""
        line = self._around.ended(job)
        if line is None:
            line = next((line for line in self._owner.ended if line.job == job), None)
        if line is None:
            return []
        if line.state == OWNER_GONE:
            return [Fact(Why.OWNER_GONE, many=line.done)]
        how = how_it_failed(line, item)
        if how:
            return [Fact(Why.FAILED, text=how, many=line.done)]
        return [Fact(Why.JOB_OVER, text=how_it_ended(line), many=line.done)]

    def _parts_of(self, job: JobId, item: int) -> Iterable[tuple[JobId, int]]:
        """The job, or those of its slices that are here, and the item's number there."""
        cut = slice_of(job)
        if cut is None:
            return [(job, item)]
        size, _ = cut
        if item >= 0:
            return [(slice_id(job, size.bit_length() - 1, item // size), item % size)]
        whole = whole_of(job)
        state = self._durable.state
        here = dict.fromkeys([*self._owner.jobs, *self._holder.jobs, *state.replicas, whole])
        return [(each, -1) for each in here if whole_of(each) == whole]

    def _nothing(self) -> Answer:
        me = self._links.view.me
        return Answer(me.id.hex(), me.name)

    def _say(self, owed: Owed, answer: Answer, now: float) -> None:
        """Within the bound: what there is no room for is counted."""
        blob = msgspec.msgpack.encode(answer)
        while len(blob) > SEEN_OCTETS_MAX and answer.workers:
            answer.workers.pop()
            answer.more += 1
            blob = msgspec.msgpack.encode(answer)
        assert len(blob) <= SEEN_OCTETS_MAX, "facts are bounded in number and length"
        if owed.peer == self._links.view.me.id:
            self.answered(owed.peer, Seen(owed.nonce, [blob]), now)
        else:
            self._links.send(owed.peer, Seen(owed.nonce, [blob]), now)

    def _plan(self) -> None:
        times = [look.until for look in self._open.values()]
        times += [owed.until for owed in self._owed.values()]
        self.until = min(times, default=None)


EVENTS: dict[Any, Callable[..., None]] = {
    AskLook: Looks.ask,
    AskCallOff: Looks.ask_call_off,
    StacksTaken: Looks.taken,
}
MESSAGES: dict[Any, Callable[..., None]] = {
    LookAt: Looks.asked,
    CallOff: Looks.called_off,
    Seen: Looks.answered,
}


def in_whole(job: JobId, facts: list[Fact]) -> list[Fact]:
    """The same with the numbers that items have in the whole job, if this is a slice of one."""
    for fact in facts:
        lo, hi = fact.items
        if hi > lo:
            fact.items = (number_in_whole(job, lo), number_in_whole(job, hi))
    return facts


def _decoded(blobs: list[bytes]) -> Answer | None:
    try:
        return msgspec.msgpack.decode(blobs[0] if blobs else b"", type=Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


# ---------------------------------------------------------------- all answers as one


def story_of(answers: list[Answer], job: JobId, item: int) -> dict[str, Any]:
    """What all of them say, in plain data: first the one reason that a person asked for."""
    owned = [fact for answer in answers for fact in answer.owned]
    held = [fact for answer in answers for fact in answer.held]
    kept = [fact for answer in answers for fact in answer.kept]
    names = {answer.id: answer.name for answer in answers}
    first = _deepest(owned, held, kept) if item >= 0 else None
    facts = [*owned, *held, *kept]
    if first is not None:
        first.before = [text for fact in facts for text in fact.before]
    return {
        "job": job.hex(),
        "item": item if item >= 0 else None,
        "why": None if first is None else first.why.value,
        "told": "" if first is None else first.told,
        "node": "" if first is None else names.get(first.node, ""),
        "tried": [] if first is None else first.before,
        "facts": [{**plain(fact), "node_name": names.get(fact.node, "")} for fact in facts],
        "owner_answered": any(answer.owns for answer in answers),
        "nodes_answered": len(answers),
    }


def _deepest(owned: list[Fact], held: list[Fact], kept: list[Fact]) -> Fact | None:
    """The ledger's word, or that of the node to which it has leased the item."""
    leased = [fact for fact in owned if fact.why is Why.LEASED]
    if owned and not leased:
        over_or_not = [fact for fact in owned if fact.why not in OVER] or owned
        return over_or_not[0]
    holders = {fact.node for fact in leased}
    at_holder = [fact for fact in held if fact.node in holders or not leased]
    running = [fact for fact in at_holder if fact.worker >= 0]
    kept = sorted(kept, key=lambda fact: fact.why is Why.OWNER_GONE)  # others know how it ended
    return next(iter([*running, *at_holder, *leased, *kept]), None)
