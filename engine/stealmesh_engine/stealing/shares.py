"""Whom to ask for work, whom to feed, and how much to give.

Decides victims, lifelines and shares; keeps what a thief and a victim must remember.
Refuses to know links, workers and ledgers.

A thief asks one random peer at a time (following the best-known load hint herds everyone
onto one victim: efficiency at 64 nodes fell from 99.6 % to 81 %), and after two empty
answers it leaves its name with its lifelines and is silent: idle nodes cost nothing, and
whoever gets work feeds the hungry, so work spreads in a wave along the lifelines.

Ideas: lifelines after Saraswat et al. (PPoPP 2011); silence instead of polling after WEWS;
half of the untouched rest after Hendler and Shavit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from stealmesh_engine.config import Config
from stealmesh_engine.holding.bags import Bags, ExploreBags
from stealmesh_protocol.ids import PeerId

EMPTY_REMEMBERED_SECONDS = 0.05
SILENCE_SECONDS_MIN = 0.05
SILENCE_SECONDS_MAX = 2.0


@dataclass(slots=True)
class Asking:
    """A request that is out; exists only while it is."""

    victim: PeerId
    nonce: int
    since: float


@dataclass(slots=True)
class Thief:
    """What a node remembers while it looks for work."""

    rng: Random
    asking: Asking | None = None
    tries: int = 0
    standing: dict[PeerId, float] = field(default_factory=dict)
    """Peers that have our name on their list, and since when."""
    hint: PeerId | None = None
    """A neighbour that said it had work, to be asked next."""
    empty: dict[PeerId, float] = field(default_factory=dict)
    """Who had nothing, and when it said so."""
    round_trip_seconds: float = 0.002
    silent_until: float = 0.0
    silence_seconds: float = SILENCE_SECONDS_MIN
    nonces: int = 0
    asked: int = 0
    fed: int = 0
    fed_at: float = -1e9

    def choose(self, candidates: list[PeerId], now: float) -> PeerId | None:
        """A random peer among those not known to be empty; None when all are."""
        fresh = [
            peer
            for peer in candidates
            if now - self.empty.get(peer, -1.0) > EMPTY_REMEMBERED_SECONDS
        ]
        return self.rng.choice(fresh) if fresh else None

    def ask(self, victim: PeerId, now: float) -> Asking:
        self.nonces += 1
        self.tries += 1
        self.asked += 1
        self.asking = Asking(victim, self.nonces, now)
        return self.asking

    def refused(self, victim: PeerId, nonce: int, now: float) -> None:
        """The victim has nothing."""
        self.empty[victim] = now
        if self.asking is not None and self.asking.nonce == nonce:
            self.asking = None

    def give_up_waiting(self, now: float, patience: float) -> None:
        """An answer that takes too long is no answer; one that comes later is welcome all the same."""
        asking = self.asking
        if asking is not None and now - asking.since > patience:
            self.asking = None

    def received(self, nonce: int, now: float) -> None:
        """Work came, asked for or not: look for more from the beginning."""
        self.fed += 1
        self.fed_at = now
        asking = self.asking
        if asking is not None and asking.nonce == nonce:
            took = now - asking.since
            self.round_trip_seconds += 0.2 * (min(took, 1.0) - self.round_trip_seconds)
            self.asking = None
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


def share_of(
    bags: Bags,
    *,
    sharers: int,
    nodes: int,
    config: Config,
    tried: bool = True,
    busy: bool = False,
) -> int:
    """How many of the untouched items to give to one of `sharers` hungry thieves; 0: not worth it.

    Known cost: an equal share with the victim itself, if that is worth the journey; what is not, but
    would wait for workers that are `busy` with something long, goes whole. Unknown
    cost: 1/(2 nodes) of it, as the first report will soon tell; but an equal share if it is long in
    coming, and of what our own workers have not even `tried`, having better things to do.
    """
    queued = bags.queued_items
    if not queued:
        return 0
    if isinstance(bags, ExploreBags):
        return max(1, queued // 2)
    worth_it = bags.queued_seconds >= config.steal_seconds_min
    if not bags.cost.known and tried and not worth_it:
        return max(1, queued // (2 * nodes))
    if bags.cost.known and not worth_it:
        return queued if busy else 0
    return max(1, queued - queued // (sharers + 1) if sharers == 1 else queued // (sharers + 1))
