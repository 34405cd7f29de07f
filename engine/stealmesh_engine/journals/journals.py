"""One node's journal for its peers, page by page, and the pages of others for our program.

Decides which nodes are asked, how long they are waited for, and which answers are lies. Refuses to know what the
entries mean and in which order people see them: each node has a clock of its own, so a page says what that
clock shows, and we say between which moments of ours the page was written.

Nothing is remembered of a peer that asks: the mark is in its hands. So a node that is asked by many at once owes
each a page and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.rude import unless
from stealmesh_engine.effects import JournalsReady, ToldPage
from stealmesh_engine.events import AskJournals, HostNoted
from stealmesh_engine.links.links import Links
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import JournalGet, JournalPage, RingKind

PATIENCE_SECONDS = 1.0


@dataclass(slots=True)
class JournalRound:
    """Pages that our program waits for."""

    ask: AskJournals
    until: float
    waiting: dict[PeerId, float]
    """Node → when it was asked last."""
    pages: list[ToldPage] = field(default_factory=list)


class Journals:
    """The journal of this node, for peers; and those of peers, for our program."""

    def __init__(
        self, context: Context, view: MembershipView, links: Links, wall_offset: float
    ) -> None:
        self._context = context
        self._rings = context.journal.rings
        self._view = view
        self._links = links
        self._wall_offset = wall_offset
        self._rounds: dict[int, JournalRound] = {}
        self.until: float | None = None
        """When the first round ends with what has come."""

    # ------------------------------------------------------------ for peers

    def asked(self, peer: PeerId, message: JournalGet, now: float) -> None:
        entries, more = self._rings.page(message.since, message.kinds, message.octets)
        following = entries[-1].number + 1 if entries else message.since
        page = JournalPage(
            message.nonce,
            now,
            self._wall_offset,
            following,
            more,
            self._rings.told(),
            entries,
        )
        self._links.send(peer, page, now)

    def noted(self, event: HostNoted, now: float) -> None:
        """The host of this node has seen something."""
        kind = RingKind(event.kind)
        if kind is RingKind.REFUSED:
            self._rings.refused(now, event.what, times=event.count, aloud=event.aloud)
        else:
            self._rings.note(now, kind, event.what, count=event.count, aloud=event.aloud)

    # ------------------------------------------------------------ for our program

    def ask(self, event: AskJournals, now: float) -> None:
        view = self._view
        asked = [
            peer
            for peer in view.nodes()
            if peer != view.me.id
            and (event.only is None or peer in event.only)
            and (not event.named or view.members[peer].name == event.named)
        ]
        self._rounds[event.nonce] = JournalRound(
            event, now + PATIENCE_SECONDS, dict.fromkeys(asked, now)
        )
        for peer in asked:
            self._say(peer, event, now)
        self._plan()
        if not asked:
            self._end(now)

    def met(self, peer: PeerId, now: float) -> None:
        """There is a link with this peer: what was said before may be lost."""
        for each in self._rounds.values():
            if peer in each.waiting:
                each.waiting[peer] = now
                self._say(peer, each.ask, now)

    def answered(self, peer: PeerId, message: JournalPage, now: float) -> None:
        found = self._rounds.get(message.nonce)
        if found is None or peer not in found.waiting:
            self._context.counters.count("journals-unasked")
            return
        _believable(message, found.ask, peer)
        asked_at = found.waiting.pop(peer)
        found.pages.append(ToldPage(peer, self._name_of(peer), asked_at, now, message))
        if not found.waiting:
            self._end(now)

    def tick(self, now: float) -> None:
        self._rings.settle(now)
        if self.until is not None and self.until <= now:
            self._end(now)

    # ------------------------------------------------------------ inside

    def _say(self, peer: PeerId, ask: AskJournals, now: float) -> None:
        get = JournalGet(ask.nonce, ask.since.get(peer, 0), ask.kinds, ask.octets)
        self._links.send(peer, get, now)

    def _name_of(self, peer: PeerId) -> str:
        member = self._view.members.get(peer) or self._links.member_of(peer)
        return "" if member is None else member.name

    def _plan(self) -> None:
        self.until = min((each.until for each in self._rounds.values()), default=None)

    def _end(self, now: float) -> None:
        """Give our program the rounds that are whole, or that have waited long enough."""
        over = [n for n, each in self._rounds.items() if not each.waiting or each.until <= now]
        for nonce in over:
            each = self._rounds.pop(nonce)
            silent = [(peer, self._name_of(peer)) for peer in each.waiting]
            self._context.effects.append(JournalsReady(nonce, each.pages, silent))
        self._plan()


def _believable(page: JournalPage, ask: AskJournals, peer: PeerId) -> None:
    """Refuse a page that does not answer what was asked. (That its entries are in order is a matter of form.)"""
    since = ask.since.get(peer, 0)
    unless(page.following >= since, "journal-goes-back")
    unless(not page.more or bool(page.entries), "journal-without-end")
    for entry in page.entries:
        unless(entry.number >= since, "journal-goes-back")
        unless(not ask.kinds or bool(ask.kinds >> entry.kind & 1), "journal-of-other-kinds")


EVENTS: dict[Any, Callable[..., None]] = {AskJournals: Journals.ask, HostNoted: Journals.noted}
MESSAGES: dict[Any, Callable[..., None]] = {
    JournalGet: Journals.asked,
    JournalPage: Journals.answered,
}
