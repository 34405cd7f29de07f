"""The face of this package: what the core, the holder and the program ask of values.

Decides nothing by itself: `directory.py` decides for the values that we own, `copies.py` for what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.data.copies import Copies
from stealmesh_engine.data.directory import Directory
from stealmesh_engine.data.stored import Needed
from stealmesh_engine.events import Adopted, KeepValue, NoRoom, PieceRead, ReleaseValue
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

    def __init__(self, context: Context, links: Links, view: MembershipView) -> None:
        self.directory = Directory(context, links, view)
        self.copies = copies = Copies(context, links, view)
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
        return news

    def keep(self, event: KeepValue, now: float) -> None:
        self.copies.own(event.value, event.octets)
        self.directory.keep(event.value, event.octets, now)

    def release(self, event: ReleaseValue, now: float) -> None:
        self.directory.release(event.value, now)
        self.copies.released(event.value)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        self.copies.peer_gone(peer, now)
        self.directory.peer_gone(peer, now)

    def met(self, peer: PeerId, now: float) -> None:
        self.copies.met(peer, now)

    def beat(self, now: float) -> None:
        if self.copies.whole or self.copies.fetches:
            self.copies.beat(now, self._patience)

    def facts(self) -> dict[str, int]:
        """For `status`."""
        return {
            "owned": len(self.directory.accounts),
            "stored": len(self.copies.whole),
            "stored_octets": self.copies.stored.octets,
            "fetched_octets": self.copies.stored.fetched_octets,
            "dropped_octets": self.copies.stored.dropped_octets,
            "lost_octets": self.copies.stored.lost_octets,
            "fetching": len(self.copies.fetches),
        }

    def audit(self) -> None:
        self.copies.audit()
        for value in self.directory.accounts:
            assert value in self.copies.whole, "we do not have what we own"


EVENTS: dict[Any, Callable[..., None]] = {
    KeepValue: Values.keep,
    ReleaseValue: Values.release,
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
