"""A node as a victim: it gives work to thieves, and remembers those that wait.

Decides which job a thief gets a share of, which of the hungry are fed when our own workers are busy, and
which thieves get nothing of a job because they cannot run it. `shares.py` says how much. Refuses to know
what the ledger makes of it.

Invariant: a victim lowers its own end and asks the ledger to grant the part to the thief in one step. Between
the two nothing can happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.requirements import suits
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.stealing.loot import Loot
from stealmesh_engine.stealing.shares import share_of, worth_of
from stealmesh_engine.stealing.thief import Thief
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import (
    CAME_BACK,
    Grant,
    Lease,
    Message,
    Nothing,
    Sated,
    Split,
    Steal,
)

RETURNED_SECONDS = 3.0
"""For this long a thief that cannot run a job gets nothing of it from us."""


def mark_of(bag: bytes) -> bytes:
    """The same as long as no worker has touched the bag."""
    return b"%d %b%b" % (len(bag), bag[:64], bag[-64:])


def _loot(grant: Grant) -> tuple[JobId, int]:
    """What a grant that answers a request of ours brings."""
    return grant.spec.job, sum(lease.hi - lease.lo for lease in grant.leases)


class Victim:
    """What a node gives to thieves."""

    def __init__(
        self, context: Context, links: Links, detector: Detector, holder: Holder, thief: Thief
    ) -> None:
        self.config = context.config
        self.links = links
        self.view = links.view
        self.detector = detector
        self.holder = holder
        self.dispatcher = holder.dispatcher
        self.thief = thief
        self.journal = context.journal
        self.loot = Loot(links, holder.slots, holder.values)
        self.hungry: dict[PeerId, int] = {}
        """Thieves that wait for us to have something: peer → nonce of their request."""
        self.taken: dict[PeerId, list[str]] = {}
        """Thieves that have some of their resources all in use, as they last said."""
        self.given = 0
        """Steals that we granted."""
        self.returned: dict[PeerId, float] = {}
        """Thieves that cannot run some job, and until when they do not get it (`HeldJob.may_go_to`)."""
        self.unheard: dict[PeerId, tuple[int, float]] = {}
        """Owner → number of a SPLIT that it has not acknowledged yet, and when we said it."""

    # ------------------------------------------------------------ what peers say

    def granted(self, peer: PeerId, message: Grant, now: float) -> None:
        """Work comes: for our own thief, or back from one to which we gave it."""
        if message.spec.owner == peer:
            if message.nonce == CAME_BACK:
                self._came_back(message, now)
            else:
                loot = _loot(message) if message.nonce else (b"", 0)
                self.thief.received(message.nonce, now, *loot)
        self.holder.granted(peer, message, now)

    def asked(self, thief: PeerId, message: Steal, now: float) -> None:
        if message.taken:
            self.taken[thief] = message.taken
        elif self.taken:
            self.taken.pop(thief, None)
        if self._feed(thief, message.nonce, 1, now):
            self.hungry.pop(thief, None)
            return
        self.dispatcher.thieves_wait(now)
        soon = self._helps(thief, self.holder.jobs, now) and self._ask_workers(now)
        if soon or message.standing:
            self.hungry[thief] = message.nonce
        if not message.standing:
            self.links.send(thief, Nothing(message.nonce, soon), now)

    def sated(self, thief: PeerId) -> None:
        self.hungry.pop(thief, None)

    def forget(self, peer: PeerId) -> None:
        self.hungry.pop(peer, None)
        self.taken.pop(peer, None)
        self.returned.pop(peer, None)
        self.unheard.pop(peer, None)

    # ------------------------------------------------------------ at the end of a step

    def feed_hungry(self, now: float) -> None:
        """Share what is left when our own workers are busy among those who left their names."""
        if not self.hungry:
            return
        stock = self.dispatcher.stock
        if stock:
            waiting = [
                peer
                for peer in self.hungry
                if self.links.is_ready(peer) and self._helps(peer, stock, now)
            ]
            while waiting:
                peer = waiting.pop(0)
                if not self._feed(peer, self.hungry[peer], len(waiting) + 1, now):
                    if self._can_run_all(peer, now):
                        break
                    continue  # what it could run is not worth the journey; more may be for the next
                del self.hungry[peer]
        if any(self._helps(peer, self.holder.jobs, now) for peer in self.hungry):
            self.dispatcher.thieves_wait(now)
            if not stock:
                self._ask_workers(now)

    def keep_spare(self, now: float) -> None:
        """If its own workers starve, or others may rob it, a node keeps one explore bag in stock. Children of
        tasks leave their worker only for somebody who has nothing to do."""
        slots = self.holder.slots
        if not slots.some_may_share or self.dispatcher.stock:
            return
        explores = nests = False
        for chunk in slots.running():
            explores |= chunk.explore
            nests |= chunk.nests
        if not (explores or nests):
            slots.look_who_may_share()
        if nests and self.dispatcher.room():
            self.holder.children.ask(now)
        if explores and (self.view.size > 1 or self.dispatcher.room()):
            self.dispatcher.ask_workers_to_share(now)

    # ------------------------------------------------------------ inside

    def _ask_workers(self, now: float) -> bool:
        """Have busy workers give up parts of bags, and children of tasks. True: one may."""
        shares = self.dispatcher.ask_workers_to_share(now)
        return self.holder.children.ask(now) or shares

    def _came_back(self, message: Grant, now: float) -> None:
        """What we gave to a thief is ours again: the ledger knows that the thief cannot run this job."""
        held = self.holder.jobs.get(message.spec.job)
        if held is not None:
            marks: Iterable[int | bytes] = (lease.lo for lease in message.leases)
            if held.bags.opaque:
                marks = map(mark_of, message.blobs)
            until = now + RETURNED_SECONDS
            self.returned.update(dict.fromkeys(held.came_back(marks, until), until))

    def _feed(self, thief: PeerId, nonce: int, sharers: int, now: float) -> bool:
        """Give this thief its share of our most urgent job, of equals of our richest. False: nothing worth
        the journey."""
        return any(
            self._give(held, thief, nonce, sharers, now)
            for held in self._richest(thief, now, sharers)
        )

    def _give(self, held: HeldJob, thief: PeerId, nonce: int, sharers: int, now: float) -> bool:
        bags, job, owner = held.bags, held.spec.job, held.spec.owner
        items = self._share(held, thief, sharers, now)
        if not items:
            return False
        before = dict(bags.leases) if bags.opaque else {}
        parts = self.holder.handover.give(held, items)
        if not parts:
            return False
        held.gave(
            thief,
            [mark_of(before[part.lid].items) if bags.opaque else part.lo for part in parts],
        )
        self.loot.gave(held, thief, parts)
        self.given += 1
        for part in parts:
            self.journal.tell(now, "gave", job, part.lid, (part.lo, part.hi))
        self._note(held, thief, parts, now)
        self.links.send(owner, Split(job, parts, thief, nonce), now)
        self.unheard.setdefault(owner, (self.links.last_said(owner), now))
        return True

    def _share(self, held: HeldJob, thief: PeerId, sharers: int, now: float) -> int:
        """How many of its items this thief gets; 0: nothing worth the journey, theirs or that of their values."""
        workers = self._has_workers_for(held)
        items = share_of(
            held.bags,
            sharers=sharers,
            nodes=max(2, self.view.size),
            config=self.config,
            tried=self.holder.slots.is_running(held.spec.job),
            busy=not self.holder.slots.soon_free(now),
            workers=workers,
        )
        if items and workers and self.loot.is_too_dear(held, thief, items, now):
            return 0
        return items

    def _note(self, held: HeldJob, thief: PeerId, parts: list[Lease], now: float) -> None:
        """For `stealmesh events`: one entry for each part, so that its chunks can be found at the thief."""
        name = self.view.name_of(thief)
        for part in parts:
            self.journal.rings.note(
                now, RingKind.STEAL, "gave", name=name, about=held.spec.job, peer=thief,
                items=(part.lo, part.hi), count=part.hi - part.lo,
            )  # fmt: skip

    def _has_workers_for(self, held: HeldJob) -> bool:
        """False: it is to go, as no worker is here. What may have killed them waits for the next one: each
        node counts the deaths of an item by itself."""
        return bool(self.holder.slots) or held.has_suspects

    def _is_late(self, owner: PeerId, now: float) -> bool:
        if self.detector.silence(owner, now) > 2 * self.config.owner_beat_seconds(self.view.size):
            return True
        number, since = self.unheard.get(owner, (0, now))
        if self.links.has_acknowledged(owner, number):
            self.unheard.pop(owner, None)
            return False
        return now - since > self.config.ask_patience_seconds

    def _can_run_all(self, thief: PeerId, now: float) -> bool:
        """No job is known that this thief cannot run. (The question before any job is looked at.)"""
        if self.holder.jobs.some_take_resources:
            return False
        member = self.view.members.get(thief)
        alike = member is None or not member.runtime or member.runtime == self.view.me.runtime
        return alike and now >= self.returned.get(thief, -1e9)

    def _can_run(self, held: HeldJob, thief: PeerId, now: float) -> bool:
        member = self.view.members.get(thief)
        if member is not None and not suits(held.spec, member):
            return False
        taken = self.taken.get(thief, ()) if held.spec.resources else ()
        return held.may_go_to(thief, now) and not any(
            name in taken for name, _ in held.spec.resources
        )

    def _helps(self, thief: PeerId, jobs: Iterable[JobId], now: float) -> bool:
        """Could it run any of these?"""
        return self._can_run_all(thief, now) or any(
            self._can_run(self.holder.jobs[job], thief, now) for job in jobs
        )

    def _richest(self, thief: PeerId, now: float, sharers: int = 1) -> list[HeldJob]:
        """Of each priority, highest first, the job in stock that is worth most to this thief and that it
        can run. (All jobs usually have the same priority.) Without a worker here it is the one that has
        waited longest: new ones that are worth more would come again and again.

        A job with a late owner is not shared: what we gave would lie between us and the thief until the
        owner writes it down, and no worker could start it.
        """
        self.dispatcher.learn_from_waiting(now)
        best: dict[int, tuple[tuple[int, float], HeldJob]] = {}
        picky = not self._can_run_all(thief, now)
        for place, held in enumerate(self.dispatcher.stock.jobs()):
            if picky and not self._can_run(held, thief, now):
                continue
            if self._is_late(held.spec.owner, now):
                continue
            if held.bags.waits and not self._share(held, thief, sharers, now):
                continue  # its values travel too long, and something else may be worth it
            worth = worth_of(held.bags, self.config)
            if not self._has_workers_for(held):
                worth = 3, -place
            priority = held.spec.priority
            if worth > (best[priority][0] if priority in best else (0, 0.0)):
                best[priority] = worth, held
        return [best[priority][1] for priority in sorted(best, reverse=True)]


MESSAGES: dict[type[Message], Callable[[Victim, PeerId, Any, float], None]] = {
    Grant: lambda victim, peer, message, now: victim.granted(peer, message, now),
    Steal: lambda victim, peer, message, now: victim.asked(peer, message, now),
    Sated: lambda victim, peer, message, now: victim.sated(peer),
}
