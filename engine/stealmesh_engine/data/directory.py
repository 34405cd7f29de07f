"""The owner's account of its values: how large each is, who has a copy, and who takes one from whom.

Decides which copy a node is sent to, how many take from one copy at once, and that all copies go when the
program needs the value no more. Refuses to know what needs a value (the program counts that), and how octets
travel (`copies.py`).

A copy serves two nodes at once, and each of them is a copy when it has everything. So a value spreads in a
tree, and its owner sends it twice, no matter how many nodes need it. Ideas: application-level multicast;
BitTorrent's few upload slots (Cohen 2003).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from stealmesh_engine.base.context import Context
from stealmesh_engine.data.journeys import Journeys
from stealmesh_engine.effects import ForgetValue
from stealmesh_engine.links.links import Links
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import LeaseId, PeerId, ValueId
from stealmesh_protocol.messages import Needs, ValueAt, ValueDrop, ValueHeld, ValueSeek

TAKERS_MAX = 2
"""Nodes that take a value from one copy at once. More: a wider and flatter tree, and each link is slower."""
GONE_REMEMBERED = 1000
"""We remember of this number of lost values why they are gone."""


@dataclass(slots=True)
class Account:
    """One value of ours."""

    octets: int
    copies: dict[PeerId, None] = field(default_factory=dict)
    """Who has all of it; the oldest copy first."""
    taking: dict[PeerId, PeerId] = field(default_factory=dict)
    """Who takes a copy → from whom."""
    since: dict[PeerId, float] = field(default_factory=dict)
    """Who takes a copy → since when."""
    waiting: dict[PeerId, list[PeerId]] = field(default_factory=dict)
    """Who waits until a copy has room → copies that gave it nothing."""

    doubtful: dict[PeerId, None] = field(default_factory=dict)
    """Who had some of it and could not be reached. It may still have it, and nothing is taken from it."""

    making: LeaseId = 0
    """Of a result that stays: under which lease its copies were made. 0: the value was put on the mesh as it is."""

    def known(self) -> list[PeerId]:
        """All that may have some of it."""
        known = (self.copies, self.taking, self.waiting, self.doubtful)
        return list(dict.fromkeys(peer for each in known for peer in each))

    def doubt(self, peer: PeerId) -> None:
        """The peer may be dead, or only out of reach."""
        if peer in self.copies or peer in self.taking:
            self.doubtful[peer] = None
        self.forget(peer)

    def no_copy(self, peer: PeerId, *, doubtful: bool) -> None:
        """Of the making that counts it has, and takes, nothing; `doubtful`: of another one it has all."""
        self.no_taker(peer)
        self.waiting.pop(peer, None)
        if doubtful:
            self.doubtful[peer] = None

    def forget(self, peer: PeerId) -> None:
        """What this peer had of it, it has no more. Others may still take from it, and find out."""
        self.copies.pop(peer, None)
        self.no_taker(peer)
        self.waiting.pop(peer, None)

    def no_taker(self, peer: PeerId) -> None:
        self.taking.pop(peer, None)
        self.since.pop(peer, None)


class Directory:
    """The values that this peer owns."""

    def __init__(
        self, context: Context, links: Links, view: MembershipView, journeys: Journeys
    ) -> None:
        self._context = context
        self._links = links
        self._view = view
        self.accounts: dict[ValueId, Account] = {}
        self._gone: dict[ValueId, str] = {}
        """Why the last values that were lost for good are gone."""
        self.journeys = journeys
        self.lost: Callable[[ValueId, float], None] = lambda value, now: None
        """Is told of a result that nobody has a copy of (`results.py`)."""
        self.ours_goes: Callable[[ValueId], None] = lambda value: None
        """Is told that our own copy goes."""

    @property
    def _me(self) -> PeerId:
        return self._view.me.id

    # ------------------------------------------------------------ the program

    def keep(self, value: ValueId, octets: int, now: float) -> None:
        """The program has put a value on the mesh; the first copy is its own."""
        assert octets > 0, "a value has a header at least"
        self.accounts[value] = Account(octets, {self._me: None})
        self._context.journal.tell(now, "keeps a value", value, 0, octets)

    def release(self, value: ValueId, now: float) -> None:
        """Nothing of the program needs the value: every copy goes."""
        if value in self.accounts:
            self.let_copies_go(value, now)
            del self.accounts[value]

    def give_up(self, value: ValueId, why: str, now: float) -> None:
        """It is lost for good: what needs it fails, and says why."""
        if len(self._gone) >= GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._gone[value] = why
        self.release(value, now)

    def let_copies_go(self, value: ValueId, now: float) -> None:
        """Nothing needs them."""
        account = self.accounts[value]
        for peer in account.known():
            if peer != self._me and not self._view.is_dead(peer):
                self._links.send(peer, ValueDrop(value), now)
        for peer in account.waiting:
            self._links.send(peer, self._nowhere(value), now)
        self.accounts[value] = Account(account.octets, making=account.making)
        self.ours_goes(value)
        self._context.effects.append(ForgetValue(value))
        self._context.journal.tell(now, "released a value", value)

    # ------------------------------------------------------------ results that stay

    def made(
        self, value: ValueId, octets: int, holder: PeerId, making: LeaseId, now: float
    ) -> None:
        """A holder has made this result, and it counts: the first copy, or the first one after a loss."""
        before = self.accounts.get(value)
        account = self.accounts[value] = Account(octets, {holder: None}, making=making)
        if before is not None:
            account.waiting = before.waiting | {
                peer: before.waiting.get(peer, []) for peer in before.taking if peer != holder
            }
            account.doubtful = before.doubtful | before.copies  # of another making
        self._context.journal.tell(now, "stays", value, making, octets)
        self._serve(value, account, now)

    def has_it_here(self, value: ValueId) -> bool:
        """Have we a copy ourselves?"""
        return self._me in self.accounts[value].copies

    def is_lost(self, value: ValueId) -> bool:
        """Has nobody a copy?"""
        account = self.accounts.get(value)
        return account is not None and not account.copies

    # ------------------------------------------------------------ nodes

    def sought(self, peer: PeerId, message: ValueSeek, now: float) -> None:
        """A node needs a copy."""
        account = self.accounts.get(message.value)
        if account is None:
            self._links.send(peer, self._nowhere(message.value), now)
            return
        if not account.making or peer not in account.copies:
            account.forget(peer)
        account.waiting[peer] = message.avoid
        self._serve(message.value, account, now)
        if not account.copies:
            self._nobody_has(message.value, now)

    def held(self, peer: PeerId, message: ValueHeld, now: float) -> None:
        """A node has a whole copy now; or it has given up."""
        account = self.accounts.get(message.value)
        if account is None:
            if message.whole:
                self._links.send(peer, ValueDrop(message.value), now)
            return
        if message.making != account.making:
            if message.making and not (message.whole and account.making):
                # Others may ask it for any making: that it has none says nothing of what it has of ours.
                self._context.counters.count("makings-of-others")
                return
            account.no_copy(peer, doubtful=message.whole)
            self._serve(message.value, account, now)
            return
        if message.whole and peer not in account.known():
            self._context.counters.count("copies-unasked")
            return
        if message.whole:
            self._has_travelled(peer, account, now)
        account.forget(peer)
        account.doubtful.pop(peer, None)
        if message.whole:
            account.copies[peer] = None
        self._serve(message.value, account, now)
        if not account.copies:
            self._nobody_has(message.value, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """The peer is dead, gone or out of reach: its copies do not count. If it lives, it still hears that
        they are to go. Regression: test_random_worlds_with_values[905]."""
        for value, account in list(self.accounts.items()):
            had = peer in account.copies
            account.doubt(peer)
            self._serve(value, account, now)
            if had and not account.copies:
                self._nobody_has(value, now)

    def _nobody_has(self, value: ValueId, now: float) -> None:
        """Who waits for it hears that it takes longer, unless it is gone for good."""
        self.lost(value, now)
        account = self.accounts.get(value)
        if account is not None and not account.copies:
            for peer in account.waiting:
                self._links.send(peer, ValueAt(value, making=account.making), now)

    def _nowhere(self, value: ValueId) -> ValueAt:
        return ValueAt(value, why=self._gone.get(value, ""))

    def _serve(self, value: ValueId, account: Account, now: float) -> None:
        """Send those that wait to copies with room."""
        for taker in list(account.waiting):
            source = self._source_for(taker, account)
            if source is None:
                continue
            del account.waiting[taker]
            if source != taker:
                account.taking[taker] = source
                account.since[taker] = now
            self._links.send(taker, ValueAt(value, account.octets, source, account.making), now)

    def _source_for(self, taker: PeerId, account: Account) -> PeerId | None:
        """The best copy with room: on the same host first, then any node before us, then the least busy."""
        if taker in account.copies:
            return taker  # it has made it, and has yet to hear that it counts
        avoid = account.waiting[taker]
        others = [copy for copy in account.copies if copy != taker]
        copies = [copy for copy in others if copy not in avoid] or others
        busy = Counter(account.taking.values())
        room = [copy for copy in copies if busy[copy] < TAKERS_MAX]
        host = self._host_of(taker)
        return min(
            room,
            key=lambda copy: (self._host_of(copy) != host, copy == self._me, busy[copy]),
            default=None,
        )

    def _host_of(self, peer: PeerId) -> str:
        member = self._links.member_of(peer)
        return self._view.me.host if peer == self._me else "" if member is None else member.host

    # ------------------------------------------------------------ journeys

    def _has_travelled(self, taker: PeerId, account: Account, now: float) -> None:
        """All of it is there. What a neighbour hands over says nothing about a line."""
        source, since = account.taking.get(taker), account.since.get(taker)
        if source is None or since is None or self._host_of(source) == self._host_of(taker):
            return
        self.journeys.took(taker, account.octets, now - since)

    def moving(self, needs: Needs) -> Moves:
        """These values, as far as they are ours, as what would have to move to some node."""
        there = []
        for value in needs:
            account = self.accounts.get(value)
            if account is not None:
                places = {*account.copies, *account.taking}
                there.append((account.octets, places, set(map(self._host_of, places))))
        return Moves(self, there)

    def seconds_to(self, peer: PeerId, values: list[tuple[int, set[PeerId], set[str]]]) -> float:
        """How long those that are not at this peer, or on its host, travel to it."""
        host = self._host_of(peer)
        octets = sum(
            octets for octets, places, hosts in values if peer not in places and host not in hosts
        )
        return self.journeys.seconds(octets, peer) if octets else 0.0


@dataclass(slots=True)
class Moves:
    """Some values, each with its octets, its places and their hosts. (The face that `ledger/soonest.py` asks for.)"""

    directory: Directory
    values: list[tuple[int, set[PeerId], set[str]]]

    def seconds(self, peer: PeerId) -> float:
        return self.directory.seconds_to(peer, self.values)
