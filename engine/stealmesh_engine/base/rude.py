"""How a handler refuses a message that cannot be true.

Decides nothing about messages. A handler checks what a message claims against what this peer knows before it
changes anything, and raises :class:`Rude` with a reason if both cannot be true. The core counts it (`rude-…`)
and ends the link after a few. So a check is a line where the handler is, and no handler ends links.

Raise `Rude` only for what no honest peer can send, even after loss, delay or repetition. What may be a race is
answered as before (`Revoked`, HERE), or dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.counters import Counters
from stealmesh_protocol.ids import PeerId, owner_of
from stealmesh_protocol.limits import TERM_STEP_MAX
from stealmesh_protocol.messages import JobSpec

RUDE_MAX = 4
"""After this many refused messages the link ends; the next one comes after a while (`CONFUSED_ATTEMPTS`)."""


class Rude(Exception):
    """A message contradicts what its receiver knows. `reason` names the counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def unless(holds: bool, reason: str) -> None:
    """Refuse the message unless this holds."""
    if not holds:
        raise Rude(reason)


def objection(counters: Counters, handler: Callable[..., None], *told: Any) -> str:
    """Have a handler act on a message. Returns why not, if it contradicts what we know: then it has changed
    nothing."""
    try:
        handler(*told)
    except Rude as rude:
        counters.count("rude-" + rude.reason)
        return rude.reason
    return ""


def owns(peer: PeerId, spec: JobSpec) -> bool:
    """May this peer lease the job out? An ordinary one only the peer that its id names, a durable one its
    primary."""
    if spec.owner != peer:
        return False
    if spec.term:
        return not spec.life  # an actor is not durable
    return owner_of(spec.job) == peer


def is_one_job(a: JobSpec, b: JobSpec) -> bool:
    """Are these the same job? Its primary, its term, its number of items and an actor's life may change."""
    return a is b or (
        (a.job, a.kind, a.function, a.combine, a.start, a.step, a.code, a.runtime)
        == (b.job, b.kind, b.function, b.combine, b.start, b.step, b.code, b.runtime)
        and (
            a.max_parallel,
            a.resources,
            a.together,
            a.needs,
            bool(a.life),
            bool(a.term),
            a.stays_from,
            a.output,
        )
        == (
            b.max_parallel,
            b.resources,
            b.together,
            b.needs,
            bool(b.life),
            bool(b.term),
            b.stays_from,
            b.output,
        )
    )


def is_near(term: int, known: int) -> bool:
    """Can a job have come to this term, if we know that one? Each primary adds a few."""
    return term <= known + TERM_STEP_MAX
