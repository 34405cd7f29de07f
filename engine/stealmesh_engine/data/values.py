"""The face of this package: what the core, the holder and the program ask of values.

Decides nothing by itself: `directory.py` decides for the values that we own, `copies.py` for what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.data.copies import Copies
from stealmesh_engine.data.directory import Directory
from stealmesh_engine.data.journeys import Journeys
from stealmesh_engine.data.results import CallsBehind, StayingResults
from stealmesh_engine.data.stored import Needed
from stealmesh_engine.effects import ValueCame
from stealmesh_engine.events import (
    Adopted,
    ForgetRecipe,
    KeepValue,
    NoRoom,
    PieceRead,
    ReleaseValue,
    WantValue,
)
from stealmesh_engine.links.links import Links
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import PeerId, ValueId
from stealmesh_protocol.messages import (
    Message,
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
)


class Values:
    """All values that this peer owns, has or fetches."""

    def __init__(
        self, context: Context, links: Links, view: MembershipView, calls: CallsBehind
    ) -> None:
        self.journeys = Journeys()
        self.directory = Directory(context, links, view, self.journeys)
        self.results = StayingResults(context, links, self.directory, calls)
        self.copies = copies = Copies(context, links, view, self.journeys)
        self.directory.ours_goes = copies.released
        self._effects = context.effects
        self._wanted: set[ValueId] = set()
        """By the program."""
        self.lacks, self.want, self.start = copies.lacks, copies.want, copies.start
        self._patience = context.config.lease_seconds

    @property
    def restless(self) -> bool:
        """Has something come or gone, or does something wait for room?"""
        return bool(self.copies.news) or self.copies.held_back

    @property
    def news(self) -> dict[ValueId, str]:
        """Value → "" if it has come, or why it is lost, since `take_news`."""
        return self.copies.news

    def needed_by(self, needed: Needed) -> None:
        """The work that is here answers what it needs."""
        self.copies.stored.needed = needed

    def take_news(self) -> dict[ValueId, str]:
        news, self.copies.news = self.copies.news, {}
        for value in self._wanted & news.keys() if self._wanted else ():
            self._wanted.discard(value)
            self._effects.append(ValueCame(value, news[value]))
        return news

    def keep(self, event: KeepValue, now: float) -> None:
        self.copies.own(event.value, event.octets)
        self.directory.keep(event.value, event.octets, now)

    def release(self, event: ReleaseValue, now: float) -> None:
        if not self.results.release(event.value, now):
            self.directory.release(event.value, now)

    def forget_recipe(self, event: ForgetRecipe, now: float) -> None:
        self.results.forget(event.value, now)

    def wish(self, event: WantValue, now: float) -> None:
        """The program wants the value to be here."""
        if event.value in self.copies.whole:
            self._effects.append(ValueCame(event.value))
            return
        self._wanted.add(event.value)
        self.copies.want((event.value,))
        self.copies.start(now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        self.journeys.forget(peer)
        self.copies.peer_gone(peer, now)
        self.directory.peer_gone(peer, now)

    def met(self, peer: PeerId, now: float) -> None:
        self.copies.met(peer, now)

    def beat(self, now: float) -> None:
        if self.copies.whole or self.copies.fetches or self.copies.stored.made:
            self.copies.beat(now, self._patience)

    def facts(self) -> dict[str, int]:
        """For `status`."""
        return {
            "owned": len(self.directory.accounts),
            "stored": len(self.copies.whole) + len(self.copies.stored.made),
            "results": len(self.results.recipes),
            "made_again": self.results.made_again,
            "stored_octets": self.copies.stored.octets,
            "fetched_octets": self.copies.stored.fetched_octets,
            "dropped_octets": self.copies.stored.dropped_octets,
            "lost_octets": self.copies.stored.lost_octets,
            "fetching": len(self.copies.fetches),
        }

    def audit(self) -> None:
        self.copies.audit()
        self.results.audit()
        for value, account in self.directory.accounts.items():
            assert account.making or value in self.copies.whole, "we do not have what we own"


EVENTS: dict[Any, Callable[..., None]] = {
    KeepValue: Values.keep,
    ReleaseValue: Values.release,
    ForgetRecipe: Values.forget_recipe,
    WantValue: Values.wish,
    PieceRead: lambda values, event, now: values.copies.read(
        event.value, event.at, event.blob, event.peer, now
    ),
    Adopted: lambda values, event, now: values.copies.adopted(
        event.value, event.peer, event.whole, now
    ),
    NoRoom: lambda values, event, now: values.copies.no_room(event.value, event.why, now),
}
MESSAGES: dict[type[Message], Callable[[Values, PeerId, Any, float], None]] = {
    ValueSeek: lambda values, peer, message, now: values.directory.sought(peer, message, now),
    ValueHeld: lambda values, peer, message, now: values.directory.held(peer, message, now),
    ValueAt: lambda values, peer, message, now: values.copies.located(peer, message, now),
    ValueDrop: lambda values, peer, message, now: values.copies.dropped(peer, message, now),
    ValueGet: lambda values, peer, message, now: values.copies.wanted(peer, message, now),
    ValuePut: lambda values, peer, message, now: values.copies.came(peer, message, now),
}
