"""Which nodes to ask for a durable job: those that may know it, and those that may rebuild it.

Decides an order of nodes for a job, from its id and the view alone. Refuses to know what they answer
(door.py, client.py, election.py).

Idea: rendezvous hashing after Thaler and Ravishankar, so that all who look for a job ask at the same few
places.
"""

from __future__ import annotations

from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Role, Seek

REBUILDERS_MAX = 8
"""Supernodes that may be asked to rebuild a job: the first of its ranking."""
ASKED_MAX = 64
"""Nodes that one question goes to, supernodes first."""
CHASES_MAX, CHASE_SECONDS = 4, 0.5
"""So often in this time a peer goes where others say that a job's primary is. The next beat asks again."""
REBUILDER_SECONDS = 4.0
"""How long one node is asked to rebuild a job before the next gets its turn."""


def may_know(job: JobId, links: Links, now: float) -> list[PeerId]:
    """The nodes to ask where a job is. Supernodes come first. The primary need not be one (it began when
    there were none, or was restarted), so other nodes fill the rest, and every second different ones."""
    view = links.view
    supers = [p for p in ranked(job, view.supers()) if p != view.me.id][:ASKED_MAX]
    others = [p for p in view.nodes() if p != view.me.id and view.members[p].role is not Role.SUPER]
    room = min(ASKED_MAX - len(supers), len(others))
    at = int(now) * room % len(others) if room else 0
    return supers + [*others[at:], *others[:at]][:room]


def rebuilder(job: JobId, links: Links, now: float) -> PeerId | None:
    """The supernode to ask now to rebuild a job that lost all replicas: the first of its ranking, in turns."""
    view = links.view
    candidates = [peer for peer in ranked(job, view.supers()) if view.is_alive(peer)]
    first = candidates[:REBUILDERS_MAX]
    return first[int(now / REBUILDER_SECONDS) % len(first)] if first else None


class Chase:
    """Asks the peer that another names as a job's primary. Two that name each other would otherwise have us run
    between them as fast as the network carries us."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._chases: dict[JobId, tuple[float, int]] = {}

    def ask(self, job: JobId, primary: PeerId, now: float) -> None:
        view = self._links.view
        if primary == view.me.id or not view.is_alive(primary):
            return
        since, count = self._chases.get(job, (now, 0))
        if now - since >= CHASE_SECONDS:
            since, count = now, 0
        if count >= CHASES_MAX:
            return
        if not count:
            self._chases = {
                each: at for each, at in self._chases.items() if now - at[0] < CHASE_SECONDS
            }
        self._chases[job] = since, count + 1
        self._links.send(primary, Seek(job), now)
