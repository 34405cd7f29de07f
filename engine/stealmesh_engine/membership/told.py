"""What this node tells people of the lives of others: who came, went, was found dead, and serves.

Decides which change of a record is worth an entry, and which of these a person wants to see at once. Refuses to
judge: the records have been joined already, and the verdicts are spoken (verdicts.py).

What a node learns in its first moments has not happened then: it is the mesh that it came to. So that is kept
without a word on the terminal.
"""

from __future__ import annotations

from stealmesh_engine.base.rings import Rings
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import RingKind
from stealmesh_protocol.messages import Member, PeerState, Role

NEW_SECONDS = 2.0
"""How long after our own start all that we learn is how things stood."""
ACCUSERS_NAMED_MAX = 8


class ToldLives:
    """Makes entries of what happens to nodes."""

    def __init__(self, rings: Rings, view: MembershipView) -> None:
        self._rings = rings
        self._view = view
        self._born_at: float | None = None

    def begins(self, now: float) -> None:
        """This node has begun, if it had not yet."""
        if self._born_at is None:
            self._born_at = now

    def joins(self, through: Member, now: float) -> None:
        """We have found the mesh."""
        why = f"through {through.name}" if through.name else ""
        self._member("joined", self._view.me, now, why, aloud=True)

    def changed(self, before: Member | None, record: Member, source: PeerId, now: float) -> None:
        """A record came from `source` and holds over what we had."""
        aloud = self._born_at is not None and now - self._born_at >= NEW_SECONDS
        if record.state is PeerState.LEFT:
            if before is not None and before.state is not PeerState.LEFT:
                self._member("left", record, now, aloud=aloud)
        elif record.state is PeerState.DEAD:
            if before is not None and before.state < PeerState.DEAD:
                self.verdict("is told dead", record.id, now, f"by {self._by(source)}", aloud=aloud)
        elif record.state is PeerState.SUSPECT:
            self.verdict("is told stalled", record.id, now, f"by {self._by(source)}")
        elif before is None:
            self._member("joined" if aloud else "met", record, now, aloud=aloud)
        elif before.state is not PeerState.ALIVE:
            self.verdict("lives", record.id, now, "it says so itself", aloud=aloud)
        self._role(before, record, now, aloud=aloud)

    def _role(self, before: Member | None, record: Member, now: float, *, aloud: bool) -> None:
        if before is None or record.state is not PeerState.ALIVE:
            return
        if before.role is not record.role:
            self._member(_served(record.role), record, now, aloud=aloud)
        if before.workers and not record.workers:
            self._member("drains", record, now, aloud=aloud)

    def serves(self, role: Role, now: float, why: str = "") -> None:
        """We serve as a supernode from now on, or no longer."""
        self._member(_served(role), self._view.me, now, why, aloud=True)

    def left(self, peer: PeerId, now: float) -> None:
        """It said goodbye to us."""
        record = self._view.members.get(peer)
        if record is not None:
            self._member("left", record, now, aloud=True)

    def verdict(
        self, what: str, peer: PeerId, now: float, why: str = "", *, aloud: bool = False
    ) -> None:
        """Somebody has found something about this peer's life. `why` names who accuses it."""
        name = self._view.name_of(peer)
        self._rings.note(now, RingKind.VERDICT, what, name=name, peer=peer, detail=why, aloud=aloud)

    def names_of(self, peers: list[PeerId]) -> str:
        named = [self._view.name_of(peer) for peer in peers[:ACCUSERS_NAMED_MAX]]
        more = len(peers) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")

    def _member(self, what: str, record: Member, now: float, why: str = "", *, aloud: bool) -> None:
        nodes = self._view.size
        self._rings.note(
            now, RingKind.MEMBER, what, name=record.name, peer=record.id, count=nodes, detail=why, aloud=aloud
        )  # fmt: skip

    def _by(self, source: PeerId) -> str:
        return self._view.name_of(source) if source else "nobody"


def _served(role: Role) -> str:
    return "serves as a supernode" if role is Role.SUPER else "serves no longer"
