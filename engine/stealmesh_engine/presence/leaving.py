"""A peer that leaves on purpose: what it gives back, how long it waits, and its goodbye.

Decides when a peer that was told to leave may go: nothing runs here any more, and all that it said is
acknowledged, or time is up for those that do not answer. Refuses to know why it leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Left
from stealmesh_engine.events import Drain
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.supernodes import Supernodes
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import Beat, Role, View

DRAIN_PATIENCE_SECONDS = 5.0
LAST_LINES_MAX = 64
TOLD_LAST = 2
"""Nodes that hear how our jobs ended. With one, its death would take the list along."""


class Leaving:
    """One peer's departure. `until` is when its patience ends; None: it stays, or has left."""

    def __init__(
        self,
        context: Context,
        links: Links,
        owner: Owner,
        holder: Holder,
        supernodes: Supernodes,
    ) -> None:
        self._view = links.view
        self._links = links
        self._owner = owner
        self._holder = holder
        self._supernodes = supernodes
        self._effects = context.effects
        self.until: float | None = None
        self.has_left = False

    def begin(self, event: Drain, now: float) -> None:
        """Take no more work, give back what is not begun, and say so."""
        if self.until is not None:
            return
        self.until = now + DRAIN_PATIENCE_SECONDS
        me = self._view.me
        self._holder.journal.rings.note(
            now, RingKind.MEMBER, "drains", name=me.name, peer=me.id, aloud=True
        )
        self._holder.dispatcher.drain()
        self._supernodes.leave()
        self._view.renew(incarnation=self._view.me.incarnation + 1, workers=0)
        self._links.broadcast(View([self._view.me]))
        self._owner.cancel_ordinary(now)
        self._holder.handover.return_untouched(now)

    def go_when_done(self, now: float) -> None:
        """Say goodbye once nothing runs and all that we said is acknowledged (or time is up)."""
        if self.until is None or self.has_left:
            return
        self._holder.handover.return_explore(now)
        slots = self._holder.dispatcher.slots
        busy = slots.hired or any(not chunk.void for chunk in slots.chunks())
        unheard = any(peer.channel.unacked for _, peer in self._links.ready())
        if busy and now >= self.until:
            self.until = now + DRAIN_PATIENCE_SECONDS  # a task may take as long as it takes
        if busy or (unheard and now < self.until):
            return
        self.has_left = True
        self._say_last_words(now)
        for peer_id, _ in list(self._links.ready()):
            self._links.hang_up(peer_id, "leaving")
        self._effects.append(Left())
        self.until = None

    def _say_last_words(self, now: float) -> None:
        """How our program's jobs ended, for people who ask when it is gone."""
        if self._view.me.role is not Role.CLIENT:
            return
        lines = self._owner.lines()[-LAST_LINES_MAX:]
        for peer_id, _ in list(self._links.ready())[:TOLD_LAST] if lines else ():
            beat = Beat(self._view.me.incarnation, 0, jobs=lines)
            self._links.send(peer_id, beat, now)


EVENTS: dict[Any, Callable[..., None]] = {Drain: Leaving.begin}
