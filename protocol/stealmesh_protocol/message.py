"""What every message is, and what several kinds of them name.

Decides nothing. `messages.py` has the kinds, on one page.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from stealmesh_protocol.ids import JobId, LeaseId, ValueId

Needs = tuple[ValueId, ...]
"""Values that must be at a node before it can run something, each once."""

Inputs = tuple[tuple[JobId, int, LeaseId], ...]
"""Items (job, index) with results that go into another item, by their places in it, and the leases under which
their makers have them, or had. The item waits for their results, made under these leases."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """Base of everything on the wire. `TAG` is the kind octet of the header."""

    TAG: ClassVar[int] = 0
    CUSTODY: ClassVar[bool] = False
