"""Which lost peers we dial again: the dead that may live, supernodes, seeds behind a mended cut.

Decides which address is dialled, and when. Refuses to know what comes of it: the peer that answers
introduces itself like any other (links), and refutes what was said of it (membership.py).

Two islands always find each other again: the peers that are held for dead are dialled now and then,
more often while a death is fresh, because a mended cut is all that may lie between. Serf reconnects to
failed members in the same way; memberlist, which does not, needs luck.
"""

from __future__ import annotations

from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.detector import NEVER
from stealmesh_engine.membership.leaf import Leaf
from stealmesh_protocol.messages import Role

FRESH_SECONDS = 60.0
CHANCE_FRESH = 0.25
CHANCE = 0.02
"""The chance that a beat dials one of the dead. Without any link, several are dialled each time."""
REDIALS_MAX = 8
RECONNECT_SECONDS = 0.2


class Reconnect(Decider):
    def __init__(self, shared: Shared, leaf: Leaf) -> None:
        super().__init__(shared)
        self.leaf = leaf
        self.rng = shared.context.rng
        self._tended_at = NEVER

    def tend(self, now: float) -> None:
        """With a beat, but not with those that greet a new link: each redial makes such a link, and the
        two would feed each other (240 a second, once)."""
        if now - self._tended_at < RECONNECT_SECONDS:
            return
        self._tended_at = now
        self.links.give_up_waiting(now)
        self.links.reseek(now)
        self.links.seek_remembered(now)
        if self.view.me.role is Role.CLIENT:
            self._redial_the_unreachable(now)
        if self.leaf.unobserved_since is not None:
            self._ask_the_way(now)
        self._redial_the_dead(now)

    def _redial_the_dead(self, now: float) -> None:
        dead = self.view.dead()
        if not dead:
            return
        if not self.links.joined:
            for member in self.rng.sample(dead, min(len(dead), REDIALS_MAX)):
                self.links.knock(member, now)
            return
        if not self.view.knows_all():
            return  # a leaf leaves that to its observers
        fresh = self.view.buried_at(dead[-1].id) > now - FRESH_SECONDS
        if self.rng.random() < (CHANCE_FRESH if fresh else CHANCE):
            self.links.knock(self.rng.choice(dead), now)

    def _ask_the_way(self, now: float) -> None:
        """All supernodes that we know are gone: a WELCOME names those that others know."""
        skipped = self.leaf.skipped
        near = [p for p in self.view.nodes() if p != self.view.me.id and p not in skipped]
        if near:
            self.links.knock(self.view.members[self.rng.choice(near)], now)

    def _redial_the_unreachable(self, now: float) -> None:
        """No observer may be left to tell a program that a node is dead, and a link with a machine that
        is off looks well: see who lives at its address."""
        mute = [self.view.members[p] for p in self.links.mute if self.view.is_alive(p)]
        if mute and self.rng.random() < CHANCE_FRESH:
            self.links.knock(self.rng.choice(mute), now)
