"""What replaces a message that cannot be sent: it is too large, or otherwise against the protocol.

Decides what is said in its place. Refuses to know how large anything may be.

Such a message is our own defect, since sizes are checked where values enter. It must not come again, and
must cost no more than the items in it. So the host sends a replacement under the same number, at once
(`instead_of`), and tells the core, which keeps the replacement in the channel and fails the items
(`Owner.unsayable`).
"""

from __future__ import annotations

from typing import Any

from stealmesh_protocol.messages import (
    Barred,
    Commit,
    FnPut,
    Grant,
    Message,
    Part,
    Report,
    Returned,
    Revoked,
    ValueDrop,
    ValueHeld,
    ValuePut,
)
from stealmesh_protocol.values import UNSENDABLE, Failure, pack_outcomes

WHY_CHARS_MAX = 500


def failed(items: int, why: str) -> tuple[int, bytes]:
    """The outcome of items that all failed for this reason."""
    text = f"this could not be said to a peer: {why[:WHY_CHARS_MAX]}"
    return pack_outcomes(None, [Failure(offset, UNSENDABLE, text=text) for offset in range(items)])


def instead_of(message: Message, why: str, *, by_client: bool) -> Message:
    """A message that can be sent, and that leaves no peer waiting for ever."""
    if isinstance(message, Grant):
        return Revoked(message.spec.job, [lease.lid for lease in message.leases])
    if isinstance(message, FnPut):
        return FnPut(message.digest)
    if isinstance(message, Barred):
        return Barred([])
    if isinstance(message, ValuePut):
        return ValuePut(message.value, message.at)
    if isinstance(message, ValueHeld | ValueDrop):
        return ValueHeld(message.value, whole=False)
    if isinstance(message, Report):
        parts, blobs = [], []
        for part in message.parts:
            codec, blob = failed(part.hi - part.lo, why)
            parts.append(Part(part.lid, part.lo, part.hi, codec, part.seconds, part.hi - part.lo))
            blobs.append(blob)
        return Report(message.job, parts, blobs)
    if isinstance(message, Commit):
        codec, blob = failed(1, why)
        return Commit(
            message.job, message.lid, message.seq, 0, failed=1, blobs=[bytes([codec]) + blob, b""]
        )
    job: Any = getattr(message, "job", None) or getattr(message, "spec").job  # noqa: B009
    return Revoked(job, []) if by_client else Returned(job, [])
