"""A node as a thief: it looks for work when its workers run dry.

Decides when to ask, which peer, when to leave the name with the lifelines, and when to be silent. Refuses
to know what a victim gives (`shares.py`) and what becomes of the work (`holding`).

A thief asks one peer at a time: one that hinted at work to it, else a random one. (If all follow the best-known
load hint, they herd onto one victim: efficiency at 64 nodes fell from 99.6 % to 81 %.) After two empty answers it
leaves its name with its lifelines and is silent. Idle nodes cost nothing, and a node that gets work feeds the
hungry, so work spreads in a wave along the lifelines.

Ideas: lifelines after Saraswat et al. (PPoPP 2011); silence instead of polling after WEWS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.holding.dispatcher import Dispatcher
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import Message, Nothing, Sated, Steal

EMPTY_REMEMBERED_SECONDS = 0.05
SILENCE_SECONDS_MIN = 0.05
SILENCE_SECONDS_MAX = 2.0
NAME_SECONDS = 0.05
NAME_SECONDS_MAX = 20.0
HINT_SECONDS = 0.02


@dataclass(slots=True)
class Asking:
    """A request that is out; exists only while it is."""

    victim: PeerId
    nonce: int
    since: float


class Thief:
    """A node that looks for work, and what it remembers while it does."""

    def __init__(self, context: Context, links: Links, dispatcher: Dispatcher) -> None:
        self.config = context.config
        self.links = links
        self.view = links.view
        self.dispatcher = dispatcher
        self.rng = context.rng
        self.rings = context.journal.rings
        self.seek_at: float | None = None
        self.asking: Asking | None = None
        self.tries = 0
        self.standing: dict[PeerId, float] = {}
        """Peers that have our name on their list, and since when."""
        self.hint: PeerId | None = None
        """A neighbour that said it had work: the next to ask."""
        self.empty: dict[PeerId, float] = {}
        """Peers that had nothing, and when they said so."""
        self.round_trip_seconds = 0.002
        self.silent_until = 0.0
        self.silence_seconds = SILENCE_SECONDS_MIN
        self.asked = 0
        """Requests so far; each has this number as its nonce."""
        self.fed = 0
        """Grants so far, asked for or not."""
        self.fed_at = -1e9
        self._taken: list[str] = []
        """Our resources that were all in use when we last looked for work."""

    def seek(self, now: float) -> None:
        """Look for work if a worker is about to have none."""
        self.seek_at = None
        if self.view.me.resources:
            self._look_at_resources()
        starves_at = self.dispatcher.starves_at(now)
        ask_at = None if starves_at is None else starves_at - 2 * self.round_trip_seconds
        if ask_at is None or ask_at > now:
            if ask_at is None or ask_at > now + NAME_SECONDS:
                # Sooner, we are hungry again before it is worth the words.
                self._take_back_name(now)
            self.seek_at = ask_at
            return
        if self.asking is not None:
            self.give_up_waiting(now, self._patience)
            if self.asking is not None:
                self.seek_at = now + self._patience
                return
        if now < self.silent_until:
            self.seek_at = self.silent_until
            return
        # Long since idle we only make sure: hints and lifelines are what finds work.
        tries = 1 if self.silence_seconds >= SILENCE_SECONDS_MAX else self.config.ask_tries
        victim = self._victim(now) if self.tries < tries else None
        if victim is not None:
            asking = self.ask(victim, now)
            room = max(1, self.dispatcher.room())
            self.links.send(victim, Steal(asking.nonce, room, taken=self._taken), now)
            self.seek_at = now + self._patience
            return
        self._leave_name(now)
        self.fall_silent(now)
        self.seek_at = self.silent_until

    def rest(self) -> None:
        """There is no worker to find work for."""
        self.seek_at = None

    # ------------------------------------------------------------ one request

    def choose(self, candidates: list[PeerId], now: float) -> PeerId | None:
        """A random peer among those not known to be empty; None when all are."""
        fresh = [
            peer
            for peer in candidates
            if now - self.empty.get(peer, -1.0) > EMPTY_REMEMBERED_SECONDS
        ]
        return self.rng.choice(fresh) if fresh else None

    def ask(self, victim: PeerId, now: float) -> Asking:
        self.tries += 1
        self.asked += 1
        self.asking = Asking(victim, self.asked, now)
        return self.asking

    def refused(self, victim: PeerId, message: Nothing, now: float) -> None:
        """The victim has nothing; `soon` says that it has put us on its list."""
        self.empty[victim] = now
        self._empty_handed("got nothing", victim, now)
        if self.asking is not None and self.asking.nonce == message.nonce:
            self.asking = None
        if message.soon:
            self.standing[victim] = now

    def give_up_waiting(self, now: float, patience: float) -> None:
        """An answer that takes too long is no answer. One that comes later is welcome all the same."""
        if self.asking is not None and now - self.asking.since > patience:
            self._empty_handed("got no answer", self.asking.victim, now)
            self.asking = None

    def received(self, nonce: int, now: float, job: JobId = b"", items: int = 0) -> None:
        """Work came, asked for or not: look for more from the beginning."""
        self.fed += 1
        self.fed_at = now
        asking = self.asking
        if asking is not None and asking.nonce == nonce:
            took = now - asking.since
            self.round_trip_seconds += 0.2 * (min(took, 1.0) - self.round_trip_seconds)
            self._got(asking.victim, job, items, now)
            self.asking = None
        self.break_silence()

    def _empty_handed(self, what: str, victim: PeerId, now: float) -> None:
        self.rings.often(now, RingKind.STEAL, what, victim, self.view.name_of(victim))

    def _got(self, victim: PeerId, job: JobId, items: int, now: float) -> None:
        name = self.view.name_of(victim)
        self.rings.note(now, RingKind.STEAL, "got", name=name, about=job, peer=victim, count=items)

    # ------------------------------------------------------------ silence

    def hinted(self, peer: PeerId, queued_seconds: float, now: float) -> None:
        """A beat says that its sender has work to spare: reason enough to break our silence. Only
        its neighbours hear it, so there is no herd as after a hint that all follow."""
        if now < self.silent_until and queued_seconds >= HINT_SECONDS:
            self.hint = peer
            self.tries = 0
            self.silent_until = now

    def met(self, peer: PeerId) -> None:
        """Here is another peer to ask: we may have been silent because there was none."""
        self.forget(peer)
        self.break_silence()

    def break_silence(self) -> None:
        self.tries = 0
        self.silence_seconds = SILENCE_SECONDS_MIN
        self.silent_until = 0.0

    def fall_silent(self, now: float) -> None:
        """All tries failed: leave it to the lifelines, and look again after a while just in case."""
        self.tries = 0
        self.silent_until = now + self.silence_seconds * self.rng.uniform(0.5, 1.0)
        self.silence_seconds = min(2 * self.silence_seconds, SILENCE_SECONDS_MAX)

    def forget(self, peer: PeerId) -> None:
        self.standing.pop(peer, None)
        self.empty.pop(peer, None)
        if self.asking is not None and self.asking.victim == peer:
            self.asking = None

    # ------------------------------------------------------------ inside

    @property
    def _patience(self) -> float:
        return max(self.config.ask_patience_seconds, 8 * self.round_trip_seconds)

    def _look_at_resources(self) -> None:
        """What others know of us decides what they give us: if it has changed, ask and register again."""
        taken = self.dispatcher.stock.taken_up()
        if taken != self._taken:
            self._taken = taken
            self.standing.clear()
            self.break_silence()

    def _victim(self, now: float) -> PeerId | None:
        """A random node that we can talk to and that is not known to be empty."""
        linked = [
            peer_id
            for peer_id, peer in self.links.ready()
            if peer.member.workers and self.view.is_well(peer_id)
        ]
        hint, self.hint = self.hint, None
        return hint if hint in linked else self.choose(linked, now)

    def _leave_name(self, now: float) -> None:
        """Register with all lifelines. A victim that feeds us strikes our name off, and a grant does not
        say which victim that was, so after any grant we register again with all of them; and now and
        then anyhow, in case a request was lost."""
        for peer in self.view.lifelines(self.config.lifelines_max):
            left = self.standing.get(peer, -1e9)
            fresh_seconds = NAME_SECONDS if self.fed_at >= left else NAME_SECONDS_MAX
            if now - left >= fresh_seconds:
                room = max(1, self.dispatcher.room())
                if self.links.send(peer, Steal(0, room, True, self._taken), now):
                    self.standing[peer] = now

    def _take_back_name(self, now: float) -> None:
        """We are not hungry any more."""
        for peer in self.standing:
            self.links.send(peer, Sated(), now)
        self.standing.clear()


MESSAGES: dict[type[Message], Callable[[Thief, PeerId, Any, float], None]] = {
    Nothing: lambda thief, peer, message, now: thief.refused(peer, message, now),
}
