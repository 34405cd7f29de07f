"""The copies that a node has of values, and those that it fetches piece by piece.

Decides from which copy a value is taken, how much of it is asked for at once, and when another copy is tried.
Refuses to know what needs a value here (`holding`), and where its octets lie (the host writes and reads them).

Pieces wait for room on their link like all bulk, so beats always pass. Between a first source that died and
the next, what has come is kept. Idea: receiver-driven transfer, as in HTTP range requests and BitTorrent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.data.copies_elsewhere import WINDOW_OCTETS, CopiesElsewhere
from stealmesh_engine.data.journeys import Journeys
from stealmesh_engine.data.stored import Stored
from stealmesh_engine.effects import Adopt, ForgetValue, KeepRoom, ReadPiece, WritePiece
from stealmesh_engine.links.links import Links
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import LeaseId, PeerId, ValueId, item_of, owner_of
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.limits import VALUE_ASK_OCTETS, VALUE_PIECE_OCTETS
from stealmesh_protocol.messages import (
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
)

ADOPT_OCTETS_MIN = 64 * 1024
"""A smaller value is one message, and cheaper to copy than to hand over."""
FETCHES_MAX = 8
"""Values that a node fetches at once."""
AGAIN_SECONDS = 1.0
"""An owner that has not answered for this long is asked again: question or answer may have been lost."""
STALLED_SECONDS = 10.0
"""A source that sends nothing for this long is left for another one."""

UNKNOWN_SECONDS = 3.0
"""An owner that is not among those we know is dead and forgotten, or has yet to link with us."""


@dataclass(slots=True)
class Fetching:
    """A value that is needed here and is not whole yet."""

    asked_at: float | None = None
    """When its owner was last asked for a copy; None: it waits for its turn."""
    octets: int = 0
    """How large it is; 0 as long as the owner has not said it."""
    source: PeerId = b""
    """The copy that it is taken from; empty: none is known."""
    heard_at: float = 0.0
    began: tuple[float, int] = (0.0, 0)
    """When this source was first asked, and how much was missing then."""
    missing: IntervalSet = field(default_factory=IntervalSet)
    """Octets that have not come."""
    unasked: IntervalSet = field(default_factory=IntervalSet)
    """Those of them that nobody was asked for."""
    avoid: list[PeerId] = field(default_factory=list)
    """Copies that gave us nothing."""
    making: LeaseId = 0
    """Of a result: which making comes."""
    made_again: bool = False
    """Nobody has it at the moment. What is needed to make it again must not wait behind it."""
    roomy: bool = False
    """The host has room for it."""
    adopting: bool = False
    """A neighbour is asked for all of it at once."""

    @property
    def is_under_way(self) -> bool:
        return self.asked_at is not None and not self.made_again

    def sized(self, octets: int, making: LeaseId) -> None:
        """The owner says what comes. Of another making nothing is here."""
        if not self.octets or self.making != making:
            self.octets, self.making = octets, making
            self.begin_again()

    def begin_again(self) -> None:
        """Nothing of it is here."""
        self.missing = IntervalSet([(0, self.octets)])
        self.roomy = False

    def take_from(self, source: PeerId, now: float) -> None:
        """From now on this copy is asked, for all that is missing."""
        self.source, self.heard_at, self.began = source, now, (now, self.missing.size)
        self.unasked = IntervalSet(self.missing)

    def leave_source(self, now: float) -> bool:
        """The copy is of no use: take no more from it. False: we have said so before, and its owner is asked later."""
        is_news = self.source not in self.avoid
        if self.source:
            self.avoid = [*self.avoid, self.source][-8:]
        self.source, self.asked_at, self.adopting = b"", now, False
        return is_news

    def came(self, lo: int, hi: int, now: float) -> bool:
        """These octets are here. False: they, or some, were here before."""
        if not self.missing.covers(lo, hi):
            return False
        self.heard_at = now
        self.missing.remove(lo, hi)
        self.unasked.remove(lo, hi)
        return True

    def next_asks(self) -> list[tuple[int, int]]:
        """What to ask the source for now."""
        asks = []
        while self.unasked and self.missing.size - self.unasked.size < WINDOW_OCTETS:
            ask = self.unasked.take_first(VALUE_ASK_OCTETS)
            assert ask is not None, "something is unasked"
            asks.append(ask)
        return asks


class Copies:
    """What a node has of values, its own included."""

    def __init__(
        self, context: Context, links: Links, view: MembershipView, journeys: Journeys
    ) -> None:
        self._context = context
        self._links = links
        self._view = view
        self._journeys = journeys
        self.stored = Stored(context.config.store_memory_octets)
        self.held_back = False
        """What is wanted waits for room, or for a worker that has nothing to do."""
        self.fetches: dict[ValueId, Fetching] = {}
        self.news: dict[ValueId, str] = {}
        """What has come since this was last emptied → "", or what is lost → why."""
        self.elsewhere = CopiesElsewhere(journeys)
        self.unreached: dict[PeerId, float] = {}
        """Owners of copies without a link to us → since when."""

    @property
    def whole(self) -> dict[ValueId, int]:
        """Values that are here → octets."""
        return self.stored.whole

    @property
    def made_again(self) -> set[ValueId]:
        """Values that something here needs, and that nobody has at the moment."""
        return {value for value, fetch in self.fetches.items() if fetch.made_again}

    # ------------------------------------------------------------ what is needed here

    def lacks(self, needs: tuple[ValueId, ...]) -> bool:
        return any(value not in self.whole for value in needs)

    def want(self, needs: tuple[ValueId, ...]) -> None:
        """Something here needs these values. `start` fetches them."""
        for value in needs:
            if value in self.whole:
                self.stored.used(value)
            elif value not in self.fetches:
                self.fetches[value] = Fetching()
                self.news.pop(value, None)  # that it went was said before this was: ask again

    def start(self, now: float) -> None:
        """Fetching what is wanted, a few at a time; without room one at a time, and only for an idle worker."""
        under_way = sum(1 for fetch in self.fetches.values() if fetch.is_under_way)
        self.held_back = False
        for value, fetch in list(self.fetches.items()):
            if under_way >= FETCHES_MAX:
                return
            if fetch.asked_at is None and value in self.fetches:
                others = [each for each in self.fetches.values() if each.is_under_way]
                if self._must_wait(fetch, others, now):
                    self.held_back = True
                    return
                under_way += 1
                self._seek(value, fetch, now)

    def hurry(self, now: float) -> None:
        """Something that is wanted waits for room: if a worker has nothing to do, it comes nevertheless."""
        idle = self.stored.needed.is_idle()
        if idle and not any(fetch.is_under_way for fetch in self.fetches.values()):
            self.start(now)

    def _must_wait(self, fetch: Fetching, others: list[Fetching], now: float) -> bool:
        """Is there no room for it beside these others, which come, and no need to hurry? First, copies go that
        nothing here needs and that their owners have, too."""
        octets = sum(each.octets for each in others) + max(1, fetch.octets)
        for value in self.stored.to_drop(octets, self._is_last):
            self._context.effects.append(ForgetValue(value))
            self._context.counters.count("values-dropped")
            self._context.journal.tell(now, "made room", value)
            self._links.send(owner_of(value), ValueHeld(value, whole=False), now)
        hurry = self.stored.needed.is_idle() and not others
        return self.stored.exceeds(octets) and not hurry

    def _is_last(self, value: ValueId) -> bool:
        """It is ours, or its owner may be dead: nobody else may have it. Of a result we cannot know it."""
        owner = owner_of(value)
        if owner == self._view.me.id or item_of(value) is not None:
            return True
        return not self._links.is_ready(owner)

    def _seek(self, value: ValueId, fetch: Fetching, now: float) -> None:
        fetch.asked_at = now
        if self._view.is_dead(owner_of(value)):
            self._lost(value, "its program is gone", now)
            return
        self._links.send(owner_of(value), ValueSeek(value, fetch.avoid), now)

    # ------------------------------------------------------------ what the owner says

    def own(self, value: ValueId, octets: int) -> None:
        """A value of ours is here."""
        self.stored.add(value, octets)

    def located(self, peer: PeerId, message: ValueAt, now: float) -> None:
        """The owner names a copy, or says that there is none."""
        value = message.value
        fetch = self.fetches.get(value)
        if fetch is None or fetch.source or peer != owner_of(value):
            if fetch is None and message.source and value not in self.whole:
                self._links.send(peer, ValueHeld(value, whole=False), now)
            return
        if not message.source and message.making:
            fetch.made_again = True
            self.start(now)
            return
        fetch.made_again = False
        if not message.source:
            self._lost(value, message.why or "its program needed it no more, or never had it", now)
            return
        if message.source == self._view.me.id:
            self._made_here(value, message.making, fetch, now)
            return
        if self.stored.unmake(value):  # what was made here did not count
            self._context.effects.append(ForgetValue(value))
        fetch.sized(message.octets, message.making)
        others = [each for each in self.fetches.values() if each.source]
        if self._must_wait(fetch, others, now):
            fetch.asked_at, self.held_back = None, True
            self._links.send(peer, ValueHeld(value, whole=False), now)
            return
        fetch.take_from(message.source, now)
        if self._view.is_dead(message.source):  # the owner has yet to hear it
            if fetch.leave_source(now):
                self._seek(value, fetch, now)
        elif fetch.octets >= ADOPT_OCTETS_MIN and self._is_neighbour(message.source):
            fetch.adopting = True
            self._context.effects.append(Adopt(value, fetch.octets, message.source))
        else:
            self._take_pieces(value, fetch, now)

    def _made_here(self, value: ValueId, making: LeaseId, fetch: Fetching, now: float) -> None:
        """The owner says that we have it: what a worker made here counts."""
        octets = self.stored.confirm(value, making)
        if octets:
            fetch.octets = octets
            self._settled(value, now)
        else:
            self._links.send(owner_of(value), ValueHeld(value, whole=False, making=making), now)
            self._elsewhere(value, fetch, now)

    def make(self, value: ValueId, octets: int, making: LeaseId, now: float) -> None:
        """A worker here has made this result, and it stays."""
        self.stored.make(value, octets, making)
        fetch = self.fetches.get(value)
        if fetch is not None:
            fetch.source, fetch.adopting = b"", False
            fetch.begin_again()  # its room is that of what was made
            if value in self.whole:
                self._settled(value, now)
            elif fetch.asked_at is not None:
                self._seek(value, fetch, now)

    def unmake(self, value: ValueId) -> None:
        """Nobody will hear of what was made here."""
        if self.stored.unmake(value):
            self._context.effects.append(ForgetValue(value))

    def _is_neighbour(self, peer: PeerId) -> bool:
        """Does it run on our host?"""
        member = self._links.member_of(peer)
        return member is not None and member.host == self._view.me.host

    def adopted(self, value: ValueId, peer: PeerId, whole: bool, now: float) -> None:
        """A neighbour has handed the value over; or it could not, and pieces must come."""
        fetch = self.fetches.get(value)
        if fetch is None or fetch.source != peer or not fetch.adopting:
            if whole and value not in self.whole and value not in self.stored.made:
                self._context.effects.append(ForgetValue(value))
                if fetch is not None:  # it comes in pieces, and their room has gone
                    fetch.begin_again()
                    self._elsewhere(value, fetch, now)
            return
        fetch.adopting = False
        if whole:
            fetch.roomy = True
            self._complete(value, fetch, now)
        else:
            self._take_pieces(value, fetch, now)

    def dropped(self, peer: PeerId, message: ValueDrop, now: float) -> None:
        """Nothing of the owner's needs it. What needs it here is asked about once more."""
        value = message.value
        if peer != owner_of(value):
            self._context.counters.count("values-not-theirs")
        elif message.making:
            if self.stored.made.get(value, (0, 0))[1] == message.making:
                self.unmake(value)
        elif self.stored.unmake(value):
            self._context.effects.append(ForgetValue(value))
        elif value in self.fetches:
            self._lost(value, "its program needs it no more", now)
        else:
            self._forget(value, "its program needs it no more")

    # ------------------------------------------------------------ pieces

    def _take_pieces(self, value: ValueId, fetch: Fetching, now: float) -> None:
        if not fetch.roomy:
            fetch.roomy = True
            self._context.effects.append(KeepRoom(value, fetch.octets))
        self._ask(value, fetch, now)

    def _ask(self, value: ValueId, fetch: Fetching, now: float) -> None:
        for lo, hi in fetch.next_asks():
            self._links.send(fetch.source, ValueGet(value, lo, hi - lo, fetch.making), now)

    def came(self, peer: PeerId, message: ValuePut, now: float) -> None:
        """A piece, or the word that the peer has none."""
        value = message.value
        fetch = self.fetches.get(value)
        if fetch is None or not fetch.roomy or fetch.making != message.making:
            self._context.counters.count("pieces-unasked")
            return
        # From the copy that it is taken from, or a former one, whose piece is late.
        if peer != fetch.source and peer not in fetch.avoid:
            self._context.counters.count("pieces-unasked")
            return
        if not message.blobs:
            if peer == fetch.source:
                self._elsewhere(value, fetch, now)
            return
        blob = message.octets
        if not fetch.came(message.at, message.at + len(blob), now):
            self._context.counters.count("pieces-unasked")
            return
        self._context.effects.append(WritePiece(value, message.at, blob))
        if not fetch.missing:
            if fetch.source and not self._is_neighbour(fetch.source):
                since, octets = fetch.began
                self._journeys.took(fetch.source, octets, now - since)
                self.elsewhere.note(value, fetch.source, self.whole)
            self._complete(value, fetch, now)
        elif fetch.source:
            self._ask(value, fetch, now)

    def _complete(self, value: ValueId, fetch: Fetching, now: float) -> None:
        self.stored.add(value, fetch.octets, fetch.making)
        self.stored.fetched_octets += fetch.octets
        self._context.counters.count("values-fetched")
        self._links.send(owner_of(value), ValueHeld(value, making=fetch.making), now)
        self._settled(value, now)

    def _settled(self, value: ValueId, now: float) -> None:
        """What was fetched is whole."""
        fetch = self.fetches.pop(value)
        self.news[value] = ""
        self._context.journal.tell(now, "has a value", value, 0, fetch.octets)
        self._note("fetched", value, fetch.octets, now)
        self.start(now)

    def wanted(self, peer: PeerId, message: ValueGet, now: float) -> None:
        """A peer takes a copy from us."""
        value, making = message.value, message.making
        octets = self.stored.served(value, making)
        lo, hi = message.at, min(message.at + message.octets, octets)
        if lo >= hi:
            self._links.send(peer, ValuePut(value, message.at, making=making), now)
            if making and not octets:
                self._links.send(owner_of(value), ValueHeld(value, whole=False, making=making), now)
            return
        if not self._is_neighbour(peer):
            self.elsewhere.served(value, peer, lo, hi, octets, now)
        self.elsewhere.note(value, peer, self.whole)
        for at in range(lo, hi, VALUE_PIECE_OCTETS):
            size = min(VALUE_PIECE_OCTETS, hi - at)
            self._context.effects.append(ReadPiece(value, at, size, peer))

    def read(
        self, value: ValueId, at: int, blob: bytes | memoryview, peer: PeerId, now: float
    ) -> None:
        """The host has read a piece for a peer (empty: it could not)."""
        made = self.stored.made.get(value)
        making = self.stored.makings.get(value, 0) if made is None else made[1]
        blobs = cast("list[bytes]", [blob] if blob else [])
        self._links.send(peer, ValuePut(value, at, blobs, making), now)

    # ------------------------------------------------------------ what goes wrong

    def _elsewhere(self, value: ValueId, fetch: Fetching, now: float) -> None:
        """The source has nothing for us: ask the owner for another copy."""
        fetch.leave_source(now)
        self._seek(value, fetch, now)

    def no_room(self, value: ValueId, why: str, now: float) -> None:
        """The host cannot hold this value. If work here ends that has others, it is tried again."""
        fetch = self.fetches.get(value)
        if fetch is None:
            return
        self._links.send(owner_of(value), ValueHeld(value, whole=False), now)
        if not self.stored.needed.will_end():
            self._lost(value, f"{self._view.me.name} cannot hold it: {why}", now)
            return
        self._context.counters.count("values-without-room")
        self._context.effects.append(ForgetValue(value))
        fetch.begin_again()
        fetch.source, fetch.asked_at = b"", now

    def met(self, peer: PeerId, now: float) -> None:
        """There is a new link with this peer: what was asked over an earlier one may be lost."""
        for value, fetch in self.fetches.items():
            if fetch.source == peer and not fetch.adopting:
                fetch.take_from(peer, now)
                self._ask(value, fetch, now)
            elif not fetch.source and fetch.asked_at is not None and owner_of(value) == peer:
                self._seek(value, fetch, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """The peer is dead, gone or has forgotten us: nothing comes from it, and what it owned goes."""
        self.unreached.pop(peer, None)
        self.elsewhere.gone(peer)
        for value, fetch in list(self.fetches.items()):
            if owner_of(value) == peer:
                self._lost(value, "its program is gone", now)
            elif fetch.source == peer:
                self._elsewhere(value, fetch, now)
        for value in [each for each in self.whole if owner_of(each) == peer]:
            self._forget(value, "its program is gone")
        for value in [each for each in self.stored.made if owner_of(each) == peer]:
            self.unmake(value)

    def beat(self, now: float, patience: float) -> None:
        """Ask again what may have been lost. `patience`: how long an owner may be out of reach."""
        for value, fetch in list(self.fetches.items()):
            if fetch.asked_at is None:
                continue
            if fetch.source:
                if now - fetch.heard_at >= STALLED_SECONDS:
                    self._links.renew(
                        fetch.source, now
                    )  # the link may be what is dead (world 1820)
                    self._elsewhere(value, fetch, now)
            elif self._is_out_of_reach(owner_of(value), now, patience):
                self._lost(value, "its program is out of reach", now)
            elif now - fetch.asked_at >= AGAIN_SECONDS:
                self._seek(value, fetch, now)
        self.start(now)
        for owner in {owner_of(value) for each in (self.whole, self.stored.made) for value in each}:
            if self._is_out_of_reach(owner, now, patience):
                self.peer_gone(owner, now)

    def _is_out_of_reach(self, owner: PeerId, now: float, patience: float) -> bool:
        if owner == self._view.me.id or self._links.is_ready(owner):
            self.unreached.pop(owner, None)
            return False
        if self._links.member_of(owner) is None:
            patience = min(patience, UNKNOWN_SECONDS)
        return now - self.unreached.setdefault(owner, now) >= patience

    def _lost(self, value: ValueId, why: str, now: float) -> None:
        fetch = self.fetches.pop(value)
        if fetch.roomy:
            self._context.effects.append(ForgetValue(value))
        self.news[value] = why
        self.stored.lost_octets += fetch.octets
        self._context.counters.count("values-lost")
        self._context.journal.tell(now, "lost a value", value, 0, why)
        self._note("lost", value, fetch.octets, now, why)
        self.start(now)

    def _note(self, what: str, value: ValueId, octets: int, now: float, why: str = "") -> None:
        self._context.journal.rings.note(
            now, RingKind.VALUE, what, about=value, peer=owner_of(value), count=octets, detail=why
        )

    def _forget(self, value: ValueId, why: str) -> None:
        """The owner does not need it. If something here does, it will never run."""
        if self.stored.remove(value):
            self.news[value] = why
            self._context.effects.append(ForgetValue(value))

    def released(self, value: ValueId) -> None:
        """A value of ours has no account any more (the directory has the host forget it)."""
        self.stored.remove(value)

    def audit(self) -> None:
        self.stored.audit()
        for value, fetch in self.fetches.items():
            assert value not in self.whole, "a whole value is fetched"
            assert fetch.missing or not fetch.octets, "a value that has come is still fetched"
            assert fetch.unasked.size <= fetch.missing.size
