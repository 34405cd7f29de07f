"""What is said about values that live on the mesh: the page of `messages.py` on them.

Refuses to know what is in a value: its octets are a user's, and no node opens them.
"""

from __future__ import annotations

from typing import ClassVar

from stealmesh_protocol.ids import PeerId, ValueId
from stealmesh_protocol.message import Message


class ValueSeek(Message):
    """A node asks the owner of a value where it can take a copy."""

    TAG: ClassVar[int] = 80
    value: ValueId
    avoid: list[PeerId] = []
    """Copies that gave it nothing."""


class ValueAt(Message):
    """The owner answers: take it from `source`. Without one the value is gone for good."""

    TAG: ClassVar[int] = 81
    value: ValueId
    octets: int = 0
    """How large it is, with all of its parts."""
    source: PeerId = b""


class ValueGet(Message):
    """Send me these octets of the value."""

    TAG: ClassVar[int] = 82
    value: ValueId
    at: int
    octets: int


class ValuePut(Message):
    """Part of a value, from `at` on (one blob; no blob: the sender does not have it)."""

    TAG: ClassVar[int] = 83
    CUSTODY: ClassVar[bool] = True
    value: ValueId
    at: int
    blobs: list[bytes] = []


class ValueHeld(Message):
    """Tells the owner that the sender has a whole copy; or that it neither has nor takes one."""

    TAG: ClassVar[int] = 84
    CUSTODY: ClassVar[bool] = True
    value: ValueId
    whole: bool = True


class ValueDrop(Message):
    """Nothing needs the value any more: drop your copy."""

    TAG: ClassVar[int] = 85
    CUSTODY: ClassVar[bool] = True
    value: ValueId
