"""Stealing, both sides: looking for work when workers run dry, and giving it when others do.

Decides when to ask, when to fall silent, and when to feed whom; shares.py has the choices
themselves, holder.py the work. A victim lowers its own end and asks the ledger to grant the
part to the thief in one step; between the two nothing can happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.holding.bags import ExploreBags, IndexedBags
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.declined import has_runtime
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.stealing.shares import SILENCE_SECONDS_MAX, Thief, share_of
from stealmesh_engine.view.view import View
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Grant, Nothing, Sated, Split, Steal

NAME_SECONDS = 0.05
NAME_SECONDS_MAX = 20.0
HINT_SECONDS = 0.02
GAVE_REMEMBERED = 64
RETURNED_SECONDS = 3.0
"""How long a thief for whom a job is nothing gets nothing of it from us."""


def mark_of(bag: bytes) -> bytes:
    """What a bag is known by, for as long as nobody has touched it."""
    return b"%d %b%b" % (len(bag), bag[:64], bag[-64:])


class Trade:
    def __init__(
        self,
        config: Config,
        links: Links,
        view: View,
        detector: Detector,
        holder: Holder,
        journal: Journal,
        rng: Random,
    ) -> None:
        self.config = config
        self.links = links
        self.view = view
        self.detector = detector
        self.holder = holder
        self.dispatcher = holder.dispatcher
        self.journal = journal
        self.thief = Thief(rng)
        self.hungry: dict[PeerId, int] = {}
        """Thieves that wait for us to have something: peer → nonce of what it asked with."""
        self.given = 0
        """Steals that we granted as a victim."""
        self.returned: dict[PeerId, float] = {}
        """Thieves for whom some job is nothing (see `HeldJob.returned`), and until when."""
        self.unheard: dict[PeerId, tuple[int, float]] = {}
        """Owner → number of a SPLIT that it has not acknowledged yet, and when we said it."""
        self.seek_at: float | None = None

    # ------------------------------------------------------------ as a thief

    def seek(self, now: float) -> None:
        """Look for work if a worker is about to have none."""
        self.seek_at = None
        thief = self.thief
        starves_at = self.dispatcher.starves_at(now)
        ask_at = None if starves_at is None else starves_at - 2 * thief.round_trip_seconds
        if ask_at is None or ask_at > now:
            if ask_at is None or ask_at > now + NAME_SECONDS:
                self._take_back_name(now)  # else we are hungry again before it is worth the words
            self.seek_at = ask_at
            return
        patience = max(self.config.ask_patience_seconds, 8 * thief.round_trip_seconds)
        thief.give_up_waiting(now, patience)
        if thief.asking is not None:
            self.seek_at = now + patience
            return
        if now < thief.silent_until:
            self.seek_at = thief.silent_until
            return
        # Long since idle we only make sure: hints and lifelines are what finds work.
        tries = 1 if thief.silence_seconds >= SILENCE_SECONDS_MAX else self.config.ask_tries
        victim = self._victim(now) if thief.tries < tries else None
        if victim is not None:
            asking = thief.ask(victim, now)
            self.links.send(victim, Steal(asking.nonce, max(1, self.dispatcher.room())), now)
            self.seek_at = now + patience
            return
        self._leave_name(now)
        thief.fall_silent(now)
        self.seek_at = thief.silent_until

    def refused(self, victim: PeerId, message: Nothing, now: float) -> None:
        self.thief.refused(victim, message.nonce, now)
        if message.soon:
            self.thief.standing[victim] = now

    def hinted(self, peer: PeerId, queued_seconds: float, now: float) -> None:
        """A beat says that its sender has work to spare: reason enough to break our silence. Only
        its neighbours hear it, so there is no herd as after a hint that everybody follows."""
        if now < self.thief.silent_until and queued_seconds >= HINT_SECONDS:
            self.thief.hint = peer
            self.thief.tries = 0
            self.thief.silent_until = now

    def met(self, peer: PeerId) -> None:
        """Somebody new to ask: whoever was silent for want of company need not be."""
        self.forget(peer)
        self.thief.break_silence()

    def received(self, nonce: int, now: float) -> None:
        """Work came, asked for or not."""
        self.thief.received(nonce, now)

    def came_back(self, message: Grant, now: float) -> None:
        """What we gave to a thief is ours again: the ledger knows that the thief cannot run this job."""
        held = self.holder.jobs.get(message.spec.job)
        if held is None or not held.gave:
            return
        explore = isinstance(held.bags, ExploreBags)
        marks: Iterable[int | bytes]
        marks = map(mark_of, message.blobs) if explore else (lease.lo for lease in message.leases)
        for mark in marks:
            thief = held.gave.pop(mark, None)
            if thief is not None:
                held.returned[thief] = self.returned[thief] = now + RETURNED_SECONDS

    # ------------------------------------------------------------ as a victim

    def asked(self, thief: PeerId, message: Steal, now: float) -> None:
        if self._feed(thief, message.nonce, 1, now):
            self.hungry.pop(thief, None)
            return
        self.dispatcher.thieves_wait(now)
        soon = self._helps(thief, self.holder.jobs, now) and self.dispatcher.ask_workers_to_share()
        if soon or message.standing:
            self.hungry[thief] = message.nonce
        if not message.standing:
            self.links.send(thief, Nothing(message.nonce, soon), now)

    def sated(self, thief: PeerId) -> None:
        self.hungry.pop(thief, None)

    def feed_hungry(self, now: float) -> None:
        """Share what is left when our own workers are busy among those who left their names."""
        if not self.hungry:
            return
        if self.dispatcher.stock:
            waiting = [
                peer
                for peer in self.hungry
                if self.links.is_ready(peer) and self._helps(peer, self.dispatcher.stock, now)
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
            if not self.dispatcher.stock:
                self.dispatcher.ask_workers_to_share()

    def keep_spare(self) -> None:
        """A node whose own workers starve, or that others may rob, keeps one explore bag in stock."""
        slots = self.dispatcher.slots
        if not any(chunk.explore for chunk in slots.running()):
            return
        if not self.dispatcher.stock and (self.dispatcher.room() or self.view.size > 1):
            self.dispatcher.ask_workers_to_share()

    def forget(self, peer: PeerId) -> None:
        self.hungry.pop(peer, None)
        self.returned.pop(peer, None)
        self.unheard.pop(peer, None)
        self.thief.forget(peer)

    # ------------------------------------------------------------ inside

    def _victim(self, now: float) -> PeerId | None:
        """A random node that we can talk to and that is not known to be empty."""
        linked = [
            peer_id
            for peer_id, peer in self.links.ready()
            if peer.member.workers and self.view.is_well(peer_id)
        ]
        hint, self.thief.hint = self.thief.hint, None
        return hint if hint in linked else self.thief.choose(linked, now)

    def _leave_name(self, now: float) -> None:
        """Whoever fed us has struck our name off; as we don't know who did, all are renewed then,
        and all of them once in a while because a name may be lost."""
        standing = self.thief.standing
        for peer in self.view.lifelines(self.config.lifelines_max):
            left = standing.get(peer, -1e9)
            fresh_seconds = NAME_SECONDS if self.thief.fed_at >= left else NAME_SECONDS_MAX
            if now - left >= fresh_seconds:
                room = max(1, self.dispatcher.room())
                if self.links.send(peer, Steal(0, room, True), now):
                    standing[peer] = now

    def _take_back_name(self, now: float) -> None:
        """We are not hungry any more: nobody need think of us."""
        for peer in self.thief.standing:
            self.links.send(peer, Sated(), now)
        self.thief.standing.clear()

    def _feed(self, thief: PeerId, nonce: int, sharers: int, now: float) -> bool:
        """Give this thief its share of our richest job. False: nothing worth the journey."""
        held = self._richest(thief, now)
        if held is None:
            return False
        nodes = max(2, self.view.size)
        tried = any(chunk.job == held.spec.job for chunk in self.dispatcher.slots.running())
        items = share_of(
            held.bags,
            sharers=sharers,
            nodes=nodes,
            config=self.config,
            tried=tried,
            busy=not self.dispatcher.slots.soon_free(now),
        )
        if not items:
            return False
        before = dict(held.bags.leases) if isinstance(held.bags, ExploreBags) else {}
        parts = self.holder.give(held, items)
        if not parts:
            return False
        for part in parts:
            bag = before.get(part.lid)
            held.gave[part.lo if bag is None else mark_of(bag.items)] = thief
        while len(held.gave) > GAVE_REMEMBERED:
            held.gave.popitem(last=False)
        self.given += 1
        for part in parts:
            self.journal.tell(now, "gave", held.spec.job, part.lid, (part.lo, part.hi))
        owner = held.spec.owner
        self.links.send(owner, Split(held.spec.job, parts, thief, nonce), now)
        self.unheard.setdefault(owner, (self.links.last_said(owner), now))
        return True

    def _is_late(self, owner: PeerId, now: float) -> bool:
        if self.detector.silence(owner, now) > 2 * self.config.owner_beat_seconds(self.view.size):
            return True
        number, since = self.unheard.get(owner, (0, now))
        if self.links.has_acknowledged(owner, number):
            self.unheard.pop(owner, None)
            return False
        return now - since > self.config.ask_patience_seconds

    def _can_run_all(self, thief: PeerId, now: float) -> bool:
        """Nothing is known that this thief cannot run. (Asked before any job is looked at.)"""
        member = self.view.members.get(thief)
        alike = member is None or not member.runtime or member.runtime == self.view.me.runtime
        return alike and now >= self.returned.get(thief, -1e9)

    def _can_run(self, held: HeldJob, thief: PeerId, now: float) -> bool:
        member = self.view.members.get(thief)
        return (member is None or has_runtime(held.spec, member)) and now >= held.returned.get(
            thief, -1e9
        )

    def _helps(self, thief: PeerId, jobs: Iterable[JobId], now: float) -> bool:
        """Could it run any of these?"""
        return self._can_run_all(thief, now) or any(
            self._can_run(self.holder.jobs[job], thief, now) for job in jobs
        )

    def _richest(self, thief: PeerId, now: float) -> HeldJob | None:
        """Of what this thief can run: the job with the most queued seconds, if they are worth a
        journey; else, of those of unknown cost, the one with the most items.

        A job whose owner is late is not shared: what we gave would lie between us and the thief
        until the owner writes it down, and nobody could work on it.
        """
        self.dispatcher.learn_from_waiting(now)
        best: HeldJob | None = None
        best_worth = (0, 0.0)
        picky = not self._can_run_all(thief, now)
        for job in self.dispatcher.stock:
            held = self.holder.jobs[job]
            if picky and not self._can_run(held, thief, now):
                continue
            if self._is_late(held.spec.owner, now):
                continue
            bags = held.bags
            seconds = bags.queued_seconds
            if seconds >= self.config.steal_seconds_min and isinstance(bags, IndexedBags):
                worth = (2, seconds)
            elif isinstance(bags, ExploreBags) or not bags.cost.known:
                worth = (1, float(bags.queued_items))
            else:
                worth = (0, seconds)
            if worth > best_worth:
                best, best_worth = held, worth
        return best
