"""When a silence is a death, when the peer only stands still, and when the fault is more likely ours.

Decides the verdicts on peers and undoes what membership knows of a dead one. Refuses to know what
happens to its work (consequences.py) and how the word travels (dissemination.py).

A majority of the observers that can be heard makes a verdict, after `refute_seconds`. Three rules keep
the living alive:

* the late judge no one: all clocks are put forward by our own delay;
* a peer that misses half of its charges at once and hears no other supernode, and hardly any of its charges,
  doubts itself first;
* a peer that keeps its connection and answers at its address is *stalled*: it gets no work, its leases
  go to others after a while, but it is dead only after a minute.

A broken connection proves nothing; an address that refuses connections does.

Ideas: Lifeguard's self-doubt; the verdict on an address after the ZeroMQ guide's "peer is gone when its
socket is".
"""

from __future__ import annotations

from stealmesh_engine.links.state import Peer
from stealmesh_engine.membership.changes import Gone
from stealmesh_engine.membership.charges import Charges
from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.detector import NEVER
from stealmesh_engine.membership.leaf import Leaf, hears_any
from stealmesh_engine.membership.reach import Reach
from stealmesh_engine.membership.suspicion import VOTE_SECONDS, Suspicions
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Finding, Member, PeerState, View

_WHY = {"silent": "it is silent", "gone": "nothing listens at its address"}
DOUBT_SHARE = 0.5
HEARD_SHARE = 0.25
"""Who hears this part of its charges is not cut off: the silent ones are."""
PROBE_SECONDS = 5.0
"""Between two looks at the address of a stalled peer: each takes a place in the queue of connections
that it does not accept meanwhile, and that queue has about a hundred places."""


class Verdicts(Decider):
    def __init__(
        self, shared: Shared, suspicions: Suspicions, leaf: Leaf, charges: Charges, reach: Reach
    ) -> None:
        super().__init__(shared)
        self.suspicions = suspicions
        self.leaf = leaf
        self.charges = charges
        self.reach = reach
        self._stalled: dict[PeerId, float] = {}
        """Stalled peers and since when, including those that are fenced."""
        self._fenced: dict[PeerId, None] = {}
        """Stalled peers that have lost their leases to others."""
        self._accused: dict[PeerId, float] = {}
        self._doubt_since: float | None = None
        self._trusted_until = NEVER

    # ------------------------------------------------------------ judging

    def judge(self, peer: PeerId, now: float) -> Gone | None:
        """The suspect has had its chance to answer: what do the observers find?"""
        suspicion = self.suspicions.of(peer)
        self.detector.wait(peer, now)
        if self._doubts_itself(now):
            return None
        # A peer that was stalled may have lost the link meanwhile: then others have found it stalled.
        listening = suspicion.listening
        stalled = listening and (self.links.is_ready(peer) or not self.view.is_well(peer))
        votes = 1
        asked_at = max(suspicion.asked_at, self.detector.late_at)
        others = self._hearing_observers(peer, asked_at, now)
        for other in others:
            finding, at = suspicion.votes.get(other, (Finding.HEARD, 0.0))
            if finding is not Finding.HEARD and now - at < VOTE_SECONDS:
                votes += 1
                stalled = stalled or finding is Finding.STALLED
        if stalled and self._is_stalled(peer, now):
            if now - suspicion.probed_at >= PROBE_SECONDS:
                self.suspicions.probe(peer, now)  # its machine may go off while it stands still
                self.links.ask_again(peer)  # or another process may listen there by now
            return None
        if 2 * votes > 1 + len(others):
            return self.dead(peer, now, "silent")
        self.suspicions.ask_others(peer, Finding.STALLED if stalled else Finding.SILENT, now)
        return None

    def _hearing_observers(self, peer: PeerId, asked_at: float, now: float) -> list[PeerId]:
        """The other observers of a peer that can still vote. A living observer answers soon: it hears
        the peer, or does not either. So one that has been silent since we asked is not waited for.
        (When three of four supernodes went off, each verdict waited ten seconds for dead voters.)"""
        peers = self.links.peers
        return [
            other
            for other in self.news.table.of(peer)
            if other != self.view.me.id
            and self.links.is_ready(other)
            and self.view.is_well(other)
            and now - max(peers[other].heard_at, asked_at) < self.config.silence_seconds
            and not self.detector.is_suspect(other)
        ]

    # ------------------------------------------------------------ stalled peers

    def _is_stalled(self, peer: PeerId, now: float) -> bool:
        """It stands still; False once that has taken too long."""
        since = self._stalled.get(peer)
        if since is not None:
            return now - since < self.config.stalled_seconds
        self.journal.tell(now, "finds stalled", detail=peer)
        self.counters.count("peers-found-stalled")
        self.told.verdict("is found stalled", peer, now, "it is silent, and its address answers")
        self.suspicions.ask_others(peer, Finding.STALLED, now)
        record = self.view.judge(peer, PeerState.SUSPECT, now)
        if record is not None:
            self.stands_still(record, now)
            self.news.tell(record, now)
        return True

    def stands_still(self, record: Member, now: float) -> None:
        """We or others found this peer stalled."""
        self._stalled.setdefault(record.id, now)
        self.links.learns(record)

    def moves_again(self, peer: PeerId) -> None:
        self._stalled.pop(peer, None)
        self._fenced.pop(peer, None)

    def fence_stalled(self, now: float) -> list[Gone]:
        """The peers that have been stalled long enough for others to do their work."""
        patience = self.config.stalled_lease_seconds
        late = [
            peer
            for peer, since in self._stalled.items()
            if peer not in self._fenced and now - since >= patience
        ]
        for peer in late:
            self._fenced[peer] = None
            self.journal.tell(now, "waits no longer for", detail=peer)
            self.told.verdict("loses its leases", peer, now, "it stands still", aloud=True)
        return [Gone(peer) for peer in late]

    # ------------------------------------------------------------ doubt

    def trust_ourselves(self, now: float) -> None:
        """We serve because no supernode was heard any more: that they are gone needs no second doubt."""
        self._trusted_until = now + self.config.doubt_seconds

    def _doubts_itself(self, now: float) -> bool:
        """Most charges are silent at once, and we hear neither the rest of them nor another supernode: the fault may
        be ours."""
        if now < self._trusted_until:
            return False
        silent = [peer for peer in self.charges.peers if self.detector.is_suspect(peer)]
        few = len(silent) < 2 or len(silent) < DOUBT_SHARE * len(self.charges.peers)
        hears = self._hears_others(now)
        doubt = 0.0 if self._doubt_since is None else now - self._doubt_since
        if doubt >= self.config.doubt_seconds and not hears:
            # We heard no supernode for `doubt_seconds`, so the others are really down: accept the
            # pending verdicts. (Checked before `few`: the first verdicts make the rest too few to be
            # doubted, and that would acquit them.)
            self._doubt_since = None
            self.trust_ourselves(now)
            return False
        if few or hears:
            if self._doubt_since is None:
                return False
            # The fault was ours. The others will be heard again, too, each in its time.
            self._doubt_since = None
            for peer in silent:
                self.suspicions.end(peer)
                self.detector.watch(peer, now, self.config.silence_seconds)
            return True
        if self._doubt_since is None:
            self._doubt_since = now
            share = f"{len(silent)} of {len(self.charges.peers)}"
            self.journal.tell(now, "doubts itself", detail=share)
            self.counters.count("doubts")
            self.told.verdict("doubts itself", self.view.me.id, now, f"{share} are silent")
        return True

    def _hears_others(self, now: float) -> bool:
        fresh = 2 * self.config.beat_seconds
        if hears_any(self.links, self.view.supers(), fresh, now):
            return True
        charges = self.charges.peers
        heard = sum(hears_any(self.links, [peer], fresh, now) for peer in charges)
        return heard >= HEARD_SHARE * len(charges)

    # ------------------------------------------------------------ the dead

    def dead(self, peer: PeerId, now: float, why: str) -> Gone:
        """Our verdict. `why`: "silent", or "gone" if its address refuses connections."""
        self.journal.tell(now, f"declares dead ({why})", detail=peer)
        by = self.told.names_of([self.view.me.id, *self.suspicions.accusers(peer, now)])
        self.told.verdict("is declared dead", peer, now, f"{_WHY[why]}: {by}", aloud=True)
        self.counters.count("peers-declared-dead")
        record = self.view.judge(peer, PeerState.DEAD, now)
        if record is not None:
            self.news.tell(record, now)
            self.links.send(peer, View([record]), now)
        close = why == "gone" or not self.links.is_ready(peer)
        return self.over(peer, close=close, settle=True)

    def left(self, peer: PeerId, now: float) -> Gone:
        """It said goodbye."""
        self.told.left(peer, now)
        record = self.view.judge(peer, PeerState.LEFT, now)
        if record is not None:
            self.news.tell(record, now)
        return self.over(peer, settle=True)

    def mourn(self, peer_id: PeerId, peer: Peer | None, now: float) -> Gone | None:
        """Others say that it is dead. If we hear it, it is not: it will be told, and refute."""
        if peer is not None and peer.link is not None:
            if now - peer.heard_at < self.config.silence_seconds:
                self.detector.watch(peer_id, peer.heard_at, self.config.silence_seconds)
                return None
            self.links.send(peer_id, View([self.view.members[peer_id]]), now)
        return self.over(peer_id)

    def over(self, peer: PeerId, *, close: bool = True, settle: bool = False) -> Gone:
        """This life is over: no decider looks at it any more."""
        self.detector.forget(peer)
        for decider in (self.charges, self.reach, self.leaf):
            decider.drop(peer)
        self.suspicions.end(peer)
        self.moves_again(peer)
        self._accused.pop(peer, None)
        return Gone(peer, close, settle)

    def accuse(self, record: Member, now: float) -> None:
        """A peer that we hold for dead or stalled speaks: tell it so, once a beat, until it refutes."""
        if now - self._accused.get(record.id, NEVER) >= self.config.beat_seconds:
            self._accused[record.id] = now
            self.links.send(record.id, View([record]), now)
