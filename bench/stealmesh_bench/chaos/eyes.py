"""Eyes inside cores: what each comes to believe about the others, as it happens.

Does: shows a sink every change of mind (alive → dead, a new peer, a refutation) of every view in
this process while it looks. Changes nothing that a core decides. In virtual time the sink
is the stage; a real node writes lines to a file, and the stage reads them afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stealmesh_engine.membership.changes import Gone
from stealmesh_engine.membership.verdicts import Verdicts
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member, PeerState

BORN, DEAD, LEFT, REFUTED, DROPPED = "born", "dead", "left", "refuted", "dropped"
_ENDS = {PeerState.DEAD: DEAD, PeerState.LEFT: LEFT}


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One change of mind. Peers are named by process id: one process is one life."""

    at: float
    who: int
    what: str
    of: int


Sink = Callable[[float, Member, str, Member], None]
"""When (by the core's clock), which core, what it believes, about which peer."""


@contextmanager
def watching(sink: Sink) -> Iterator[None]:
    """Look into every view of this process."""
    right_join, right_refute, right_drop = (
        MembershipView.join,
        MembershipView.refute,
        MembershipView.drop,
    )

    def join(self: MembershipView, record: Member, now: float) -> bool:
        known = self.members.get(record.id)
        changed = right_join(self, record, now)
        if changed and record.id != self.me.id:
            ended = record.state >= PeerState.DEAD
            lived = known is not None and known.state < PeerState.DEAD
            if ended and lived:
                sink(now, self.me, _ENDS[record.state], record)
            elif not ended and not lived:
                sink(now, self.me, BORN, record)
        return changed

    def refute(self: MembershipView, accusation: Member) -> Member | None:
        answer = right_refute(self, accusation)
        if answer is not None and accusation.state is PeerState.DEAD:
            sink(-1.0, self.me, REFUTED, self.me)
        return answer

    def drop(self: MembershipView, peer: PeerId) -> None:
        known = self.members.get(peer)
        if known is not None and known.state < PeerState.DEAD:
            sink(-1.0, self.me, DROPPED, known)
        right_drop(self, peer)

    MembershipView.join, MembershipView.refute, MembershipView.drop = join, refute, drop  # type: ignore[method-assign]
    try:
        yield
    finally:
        MembershipView.join, MembershipView.refute = right_join, right_refute  # type: ignore[method-assign]
        MembershipView.drop = right_drop  # type: ignore[method-assign]


@contextmanager
def _hearing_verdicts(say: Callable[[Member, str, Member], None]) -> Iterator[None]:
    """Also see why a core declares a peer dead."""
    right = Verdicts.dead

    def dead(self: Verdicts, peer: PeerId, now: float, why: str) -> Gone:
        record = self.view.members.get(peer)
        if record is not None:
            say(self.view.me, f"verdict-{why}", record)
        return right(self, peer, now, why)

    Verdicts.dead = dead  # type: ignore[method-assign]
    try:
        yield
    finally:
        Verdicts.dead = right  # type: ignore[method-assign]


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Look, and write each glimpse as one line (times: the clock that all processes share)."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(me: Member, what: str, of: Member) -> None:
        os.write(log, f"{time.monotonic():.6f} {me.pid} {what} {of.pid}\n".encode())

    try:
        with watching(lambda now, me, what, of: say(me, what, of)), _hearing_verdicts(say):
            yield
    finally:
        os.close(log)


def read(path: str) -> list[Glimpse]:
    """What all nodes wrote, in the order of time."""
    seen = []
    with open(path, encoding="ascii") as lines:
        for line in lines:
            at, who, what, of = line.split()
            seen.append(Glimpse(float(at), int(who), what, int(of)))
    return sorted(seen, key=lambda glimpse: glimpse.at)
