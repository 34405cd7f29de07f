"""Whom to ask for a durable job: who may know it, and who is to be its home when nobody does.

Decides an order of nodes for a job, from its id and the view alone. Refuses to know what they
answer (door.py, client.py, election.py).

Idea: rendezvous hashing after Thaler and Ravishankar, so that all who look for a job look, and
call, at the same few places.
"""

from __future__ import annotations

from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Role

HOMES_CALLED = 8
"""So many supernodes, those first that are responsible for a job, may be asked to rebuild it."""
SOUGHT_AT_MAX = 64
"""So many supernodes are asked, those first that are responsible for the job."""
CALL_SECONDS = 4.0
"""A node that was asked in vain for so long to rebuild a job is passed over for the next."""


def sought_at(job: JobId, links: Links, now: float) -> list[PeerId]:
    """Whom to ask for a job: supernodes first. Its home need not be one (it began when there were none,
    or was restarted), so others follow, as many as there is room for, and every second others."""
    view = links.view
    supers = [p for p in ranked(job, view.supers()) if p != view.me.id][:SOUGHT_AT_MAX]
    others = [p for p in view.nodes() if p != view.me.id and view.members[p].role is not Role.SUPER]
    room = min(SOUGHT_AT_MAX - len(supers), len(others))
    at = int(now) * room % len(others) if room else 0
    return supers + [*others[at:], *others[:at]][:room]


def called_for(job: JobId, links: Links, now: float) -> PeerId | None:
    """Whom to ask to rebuild a job: those most responsible for it, in turns."""
    view = links.view
    candidates = [peer for peer in ranked(job, view.supers()) if view.is_alive(peer)][:HOMES_CALLED]
    return candidates[int(now / CALL_SECONDS) % len(candidates)] if candidates else None
