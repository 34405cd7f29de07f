"""What speaks against a silent peer, and for it.

Decides how a suspicion is examined: the suspect is told, something may listen at its address, the other
observers say what they find. Refuses to know what follows (verdicts.py).

One observer that hears the suspect is enough to acquit it: a cut between two peers is no death.

Idea: SWIM's indirect probes, as votes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine.membership.decider import Decider, Shared
from stealmesh_engine.membership.detector import NEVER
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Finding, PeerState, View, Vote

VOTE_SECONDS = 2.0
"""For so long a finding counts."""


@dataclass(slots=True)
class Suspicion:
    """What is known about one silent peer."""

    votes: dict[PeerId, tuple[Finding, float]] = field(default_factory=dict)
    """Observer → its last finding, and when it came."""
    listening: bool = False
    """Something listens at its address."""
    probed_at: float = NEVER
    asked_at: float = NEVER
    """When we first asked the other observers."""


class Suspicions(Decider):
    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._open: dict[PeerId, Suspicion] = {}

    def of(self, peer: PeerId) -> Suspicion:
        """The suspicion against this peer, opened if there is none."""
        return self._open.setdefault(peer, Suspicion())

    def accusers(self, peer: PeerId, now: float) -> list[PeerId]:
        """The other observers that do not hear it either."""
        found = self._open.get(peer)
        votes = {} if found is None else found.votes
        return [
            voter
            for voter, (finding, at) in votes.items()
            if finding is not Finding.HEARD and now - at < VOTE_SECONDS
        ]

    def end(self, peer: PeerId) -> None:
        self._open.pop(peer, None)

    def suspect(self, peer: PeerId, now: float) -> None:
        """It is silent: tell it first (a beat or anything else from it clears it), then ask."""
        self.journal.tell(now, "suspects", detail=peer)
        self.told.verdict("is suspected", peer, now, "it is silent")
        known = self.view.members[peer]
        self.links.send(peer, View([replace(known, state=PeerState.SUSPECT)]), now)
        self.links.connect(peer, now)
        self.probe(peer, now).asked_at = now
        self.ask_others(peer, Finding.SILENT, now)

    def ask_others(self, peer: PeerId, finding: Finding, now: float) -> None:
        """Tell the other observers what we find; they answer if they hear the peer."""
        vote = Vote(peer, self.view.members[peer].incarnation, finding)
        for other in self.news.table.of(peer):
            if other != self.view.me.id and self.links.is_ready(other):
                self.links.send(other, vote, now)

    def probe(self, peer: PeerId, now: float) -> Suspicion:
        """Does anything listen at its address?"""
        suspicion = self.of(peer)
        suspicion.listening, suspicion.probed_at = False, now
        self.links.probe(peer)
        return suspicion

    def probed(self, endpoint: str) -> None:
        """Something listens there: the silent peer of this address may only be stalled."""
        for peer, suspicion in self._open.items():
            known = self.links.peers.get(peer)
            if known is not None and endpoint in self.links.endpoints_of(known.member):
                suspicion.listening = True

    def voted(self, voter: PeerId, message: Vote, now: float) -> None:
        """Another observer says what it finds."""
        subject = message.subject
        known = self.view.members.get(subject)
        if known is None or message.incarnation < known.incarnation:
            return
        if message.finding is Finding.HEARD:
            if self.detector.acquit(subject, now):
                self.journal.tell(now, "acquits", detail=subject)
                heard = f"{self.view.name_of(voter)} hears it"
                self.told.verdict("is acquitted", subject, now, heard)
                self.end(subject)
                self.counters.count("acquitted")
            return
        # Only what we heard ourselves counts, not our watch: that also starts anew when others acquit,
        # and two observers that took each other's word would keep a dead peer alive for ever.
        peer = self.links.peers.get(subject)
        if peer is not None and now - peer.heard_at < 2 * self.config.beat_seconds:
            self.links.send(voter, Vote(subject, known.incarnation, Finding.HEARD), now)
            return
        self.of(subject).votes[voter] = message.finding, now
        if self.detector.is_awaited(subject, self.config.silence_seconds):
            self.detector.hurry(
                subject, self.config.orphan_seconds, now
            )  # others wait for our vote
