"""Whom we look for that we have lost: the dead who may live, supernodes, seeds behind a mended cut.

Decides at whose address to knock, and when. Refuses to know what comes of it: whoever answers
introduces itself like anybody else (links.py), and refutes what was said of it (life.py).

Two islands always find each other again: those who are held for dead are knocked up now and then,
often while a death is fresh, because a mended cut is all that may lie between. Serf reconnects to
failed members likewise; memberlist, which does not, needs luck.
"""

from __future__ import annotations

from random import Random

from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.life import Life
from stealmesh_engine.view.view import View
from stealmesh_protocol.messages import Role

FRESH_SECONDS = 60.0
CHANCE_FRESH = 0.25
CHANCE = 0.02
"""Chances of looking for one of the dead with a beat; who has no link at all looks for several."""
KNOCKS_MAX = 8
SEEK_SECONDS = 0.2


class Seeking:
    def __init__(self, links: Links, view: View, life: Life, rng: Random) -> None:
        self.links = links
        self.view = view
        self.life = life
        self.rng = rng
        self._sought_at = -1e9

    def tend(self, now: float) -> None:
        """With a beat; but not with those that greet a new link, for each knock makes one (in
        simulated world 13257 that made 240 a second)."""
        if now - self._sought_at < SEEK_SECONDS:
            return
        self._sought_at = now
        self.links.give_up_waiting(now)
        self.links.reseek(now)
        self.links.seek_remembered(now)
        if self.view.me.role is Role.CLIENT:
            self._knock_up_the_mute(now)
        if self.life.homeless_since is not None:
            self._ask_the_way(now)
        self._knock_up_the_dead(now)

    def _knock_up_the_dead(self, now: float) -> None:
        dead = self.view.dead()
        if not dead:
            return
        if not self.links.joined:
            for member in self.rng.sample(dead, min(len(dead), KNOCKS_MAX)):
                self.links.knock(member, now)
            return
        if not self.view.knows_all():
            return  # that is our homes' business
        fresh = self.view.buried_at(dead[-1].id) > now - FRESH_SECONDS
        if self.rng.random() < (CHANCE_FRESH if fresh else CHANCE):
            self.links.knock(self.rng.choice(dead), now)

    def _ask_the_way(self, now: float) -> None:
        """All supernodes that we know are gone: a WELCOME names those that others know."""
        shunned = self.life.observers_lost
        near = [p for p in self.view.nodes() if p != self.view.me.id and p not in shunned]
        if near:
            self.links.knock(self.view.members[self.rng.choice(near)], now)

    def _knock_up_the_mute(self, now: float) -> None:
        """Nobody may be left to tell a program that a node is dead, and a link with a machine that is
        off looks well: see who lives at its address."""
        mute = [self.view.members[p] for p in self.links.mute if self.view.is_alive(p)]
        if mute and self.rng.random() < CHANCE_FRESH:
            self.links.knock(self.rng.choice(mute), now)
