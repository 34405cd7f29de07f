"""Which nodes become supernodes, and which stop being one.

Decides when the mesh has too few supernodes and which nodes are asked to serve, when a node serves
unasked, and when one of too many stops. Refuses to know what supernodes do (charges.py,
dissemination.py).

Three supernodes, chosen by rendezvous hashing, look after the number S(N). While there are fewer, they
ask the next eligible nodes, in an order on which all agree, once they have seen that a candidate can be
dialled. They ask one node at first, then two, four … each second: soon after a catastrophe there are
enough, and a belief that was wrong for a moment does little. A node that is asked decides for itself: it
declines if its loop was late a moment ago or if others keep taking it for dead.

A mesh that has none yet needs none while it is small, because there every node serves. Its first
supernodes are chosen like all others, once no node has come or gone for a moment and all agree on the
members. (When each served as soon as it stood alone, the twelve nodes of a local mesh were twelve
supernodes.)

Unasked, a seed serves when many nodes have come to it and no supernode exists. Where no supernode is
left, or none has been heard for a while, leaves serve in the order of the same hash: one at first, then
two, four … each second, until they hear of a supernode. A leaf knows a few of ten thousand nodes, and so
guesses its rank from its own hash alone. (When all leaves served at once, each of 600 learned of all
others within a tenth of a second and ranked them all anew with every word; when each counted its rank
among the nodes that it knew, 66 of 295 began to serve.)

Stopping is slow: only when there are half again too many, for ten minutes, and one at a time. It is
never an answer to load: on 22 December 2010 Skype's supernodes shut themselves down because they were
loaded, and so loaded the others.
"""

from __future__ import annotations

from heapq import nlargest
from math import log2

from stealmesh_engine.base.rendezvous import WEIGHT_MAX, ranked, weight
from stealmesh_engine.membership.charges import Charges
from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.leaf import Leaf
from stealmesh_engine.membership.verdicts import Verdicts
from stealmesh_engine.view.observers import supers_wanted
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Promote, Role

WAVE_SECONDS = 1.0
DIALLED_SECONDS = 0.4
"""A candidate that cannot be dialled within this time, less than a beat, is passed over for a while."""
ASKED_SECONDS = 3.0
"""So is a node that was asked and does not serve after this time."""
PASSED_OVER_SECONDS = 30.0
RANK_SECONDS = 1.0
"""In this time the number of unobserved leaves that may serve doubles."""
COMPANY_SECONDS = 10.0
"""A peer that we heard within this time is company: another is without a supernode, too."""
LATE_SECONDS = 5.0
CALM_SECONDS = 1.0
ALONE_SECONDS = 10.0
"""For how long no node must have come or gone before a mesh makes its first supernode, or a node that has
always been alone makes itself one."""
MANY = 16
"""When this number of nodes has come to one seed, there will soon be too many for all to serve."""
FLAPS, FLAP_SECONDS = 3, 60.0
NOMINATORS = 3
SERVICE, COUNTING = b"supernode", b"nominator"


class Supernodes(Decider):
    def __init__(self, shared: Shared, leaf: Leaf, charges: Charges, verdicts: Verdicts) -> None:
        super().__init__(shared)
        self.leaf = leaf
        self.charges = charges
        self.verdicts = verdicts
        self.refuted_at: list[float] = []
        """When we last had to say that we are not dead, the latest three times."""
        self._leaving = False
        self._seekers = 0
        self._wanting_since: float | None = None
        self._surplus_since: float | None = None
        self._asked: dict[PeerId, float] = {}
        self._probing: dict[str, PeerId] = {}
        """Endpoint → the candidate that is being dialled there."""

    def tend(self, now: float) -> None:
        """Once a beat."""
        view = self.view
        if view.me.role is Role.CLIENT or not view.is_alive(view.me.id):
            return
        if view.serves():
            self._look_for_more(now)
            self._consider_stopping(now)
        elif self.leaf.unobserved_since is not None:
            self._serve_the_unobserved(now, self.leaf.unobserved_since)

    def sought(self, now: float) -> None:
        """A node that knows no peer has come to our address: if many have, and none serves, we serve."""
        self._seekers += 1
        none_serves = self.view.me.role is Role.PLAIN and not self.view.supers_count
        if none_serves and self._seekers >= MANY and self._is_fit(now):
            self._serve(now, "sought as a seed")

    def asked(self, now: float) -> None:
        """The mesh wants us."""
        if self.view.me.role is Role.PLAIN and self._is_fit(now):
            self._serve(now, "asked")
        elif self.view.me.role is Role.PLAIN:
            self.counters.count("promotions-declined")

    def probed(self, endpoint: str, now: float) -> None:
        """A candidate can be dialled: ask it."""
        peer = self._probing.pop(endpoint, None)
        if peer is not None:
            self.links.send(peer, Promote(), now)

    def held_for_dead(self, now: float) -> None:
        """We had to refute our death: a peer that flaps should not serve."""
        self.refuted_at = [*self.refuted_at[-2:], now]

    def leave(self) -> None:
        """This process is about to end: serve no more."""
        self._leaving = True

    # ------------------------------------------------------------ too few

    def _look_for_more(self, now: float) -> None:
        view = self.view
        wanted = supers_wanted(len(view.nodes()))
        lacking = wanted - view.supers_count
        if lacking <= 0 or not self._has_company() or not self._is_calm(now):
            self._wanting_since = None
            return
        if view.me.id not in ranked(COUNTING, view.supers())[:NOMINATORS]:
            return
        if self._wanting_since is None:
            self._wanting_since = now
        waves = int((now - self._wanting_since) / WAVE_SECONDS)
        count = min(lacking, 1 << min(waves, 16), max(NOMINATORS, wanted // 4))
        for peer in self._candidates(count, now):
            self._ask(peer, now)

    def _has_company(self) -> bool:
        """Are we a mesh? Not while we are alone and seeds have not answered yet."""
        return self.links.joined or all(seed.own for seed in self.links.seeds.values())

    def _is_calm(self, now: float) -> bool:
        """Is there a supernode, or have the members been the same for long enough to agree on them?"""
        if self.view.supers_count:
            return True
        company = len(self.view.members) > 1  # dead ones count, too
        return now - self.charges.settled_at >= (CALM_SECONDS if company else ALONE_SECONDS)

    def _candidates(self, count: int, now: float) -> list[PeerId]:
        members = self.view.members
        asked = self._asked
        for peer in [p for p, at in asked.items() if now - at > PASSED_OVER_SECONDS]:
            del asked[peer]
        self._probing = {each: peer for each, peer in self._probing.items() if peer in asked}
        dialled = set(self._probing.values())
        fit = [
            peer
            for peer in self.view.nodes()
            if members[peer].eligible
            and members[peer].role is Role.PLAIN
            and self.view.is_well(peer)
            and not self.detector.is_suspect(peer)
            and now - asked.get(peer, now) < (DIALLED_SECONDS if peer in dialled else ASKED_SECONDS)
        ]
        return nlargest(count, fit, key=lambda peer: (weight(SERVICE, peer), peer))

    def _ask(self, peer: PeerId, now: float) -> None:
        self._asked.setdefault(peer, now)
        if peer == self.view.me.id:
            self.asked(now)
            return
        self.links.connect(peer, now)
        for endpoint in self.links.endpoints_of(self.view.members[peer])[:1]:
            self._probing[endpoint] = peer
        self.links.probe(peer)

    # ------------------------------------------------------------ none at all

    def _serve_the_unobserved(self, now: float, since: float) -> None:
        """No supernode looks after us, and the same goes for others: the first in rank serves."""
        view = self.view
        if not view.supers_count and not any(view.members[p].eligible for p in view.nodes()):
            view.untell()  # no node may serve alone, so all do
            return
        company = any(now - peer.heard_at < COMPANY_SECONDS for _, peer in self.links.ready())
        if not company or not self._is_fit(now):
            return
        if view.supers_count:
            since += self.config.unobserved_seconds  # it may be that only we do not hear them
        if now - since >= RANK_SECONDS * log2(1.0 + self._rank()):
            self._serve(now, "nobody else does")

    def _rank(self) -> float:
        """Our guess of how many nodes go before us, made without knowing them."""
        return (1.0 - weight(SERVICE, self.view.me.id) / WEIGHT_MAX) * self.view.size

    # ------------------------------------------------------------ too many

    def _consider_stopping(self, now: float) -> None:
        view = self.view
        if 2 * view.supers_count <= 3 * supers_wanted(len(view.nodes())):
            self._surplus_since = None
            return
        if self._surplus_since is None or self._surplus_since < self.charges.settled_at:
            self._surplus_since = now  # another has just stopped: one at a time
        volunteers = [p for p in view.supers() if view.members[p].eligible]
        is_last = bool(volunteers) and ranked(SERVICE, volunteers)[-1] == view.me.id
        if is_last and now - self._surplus_since >= self.config.surplus_seconds:
            self.journal.tell(now, "serves no longer")
            self.told.serves(Role.PLAIN, now, "there are enough")
            view.renew(role=Role.PLAIN, incarnation=view.me.incarnation + 1)
            self.news.tell(view.me, now)
            self.charges.settle(now)

    # ------------------------------------------------------------ ourselves

    def _is_fit(self, now: float) -> bool:
        me = self.view.me
        if not me.eligible or self._leaving or not me.endpoints:
            return False
        flaps = self.refuted_at
        if len(flaps) >= FLAPS and now - flaps[-FLAPS] < FLAP_SECONDS:
            return False
        return now - self.detector.late_at > LATE_SECONDS

    def _serve(self, now: float, why: str) -> None:
        self.journal.tell(now, "serves as a supernode", detail=why)
        self.told.serves(Role.SUPER, now, why)
        if not self.leaf.hears_observer(now):
            self.verdicts.trust_ourselves(now)
        self.view.renew(role=Role.SUPER)
        self.news.tell(self.view.me, now)
        self.charges.settle(now)
