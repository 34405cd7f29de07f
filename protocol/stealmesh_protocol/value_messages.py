"""What is said about values that live on the mesh: the page of `messages.py` on them.

Refuses to know what is in a value: its octets are a user's, and no node opens them.

Shape of a value: blocks and specs name it. A holder that lacks it asks its owner for a copy (VALUE_SEEK,
VALUE_AT), takes it from there piece by piece (VALUE_GET, VALUE_PUT), and says that it has one, too
(VALUE_HELD), so that others can take it from there. When nothing needs it, the owner has all copies dropped
(VALUE_DROP). A result may stay with the holder that made it: a REPORT says so (`Part.stays`), and the holder has
the first copy. If it is lost, its item is leased out again; what is made then is another making.
"""

from __future__ import annotations

from typing import ClassVar, cast

from stealmesh_protocol.ids import LeaseId, PeerId, ValueId
from stealmesh_protocol.message import Message


class ValueSeek(Message):
    """A node asks the owner of a value where it can take a copy."""

    TAG: ClassVar[int] = 80
    value: ValueId
    avoid: list[PeerId] = []
    """Copies that gave it nothing."""


class ValueAt(Message):
    """The owner answers: take it from `source`. Without one the value is gone for good; with a making and
    without a source it is being made again, and the owner will say where it is."""

    TAG: ClassVar[int] = 81
    value: ValueId
    octets: int = 0
    """How large it is, with all of its parts."""
    source: PeerId = b""
    making: LeaseId = 0
    """Of a result that stays: under which lease it was made. Another making may have other octets."""
    why: str = ""
    """Of a value that is gone for good: how that came, for people. Empty: nothing needs it, or it never was."""


class ValueGet(Message):
    """Send me these octets of the value."""

    TAG: ClassVar[int] = 82
    value: ValueId
    at: int
    octets: int
    making: LeaseId = 0


class ValuePut(Message):
    """Part of a value, from `at` on (one blob; no blob: the sender does not have it)."""

    TAG: ClassVar[int] = 83
    CUSTODY: ClassVar[bool] = True
    value: ValueId
    at: int
    blobs: list[bytes] = []
    """Or views, which are as good. Compiled code asks for `octets`, as it believes what is written here."""
    making: LeaseId = 0

    @property
    def octets(self) -> bytes | memoryview:
        """The piece; empty: there is none."""
        blobs = cast("list[bytes | memoryview]", self.blobs)
        return blobs[0] if blobs else b""


class ValueHeld(Message):
    """Tells the owner that the sender has a whole copy; or that it neither has nor takes one."""

    TAG: ClassVar[int] = 84
    CUSTODY: ClassVar[bool] = True
    value: ValueId
    whole: bool = True
    making: LeaseId = 0


class ValueDrop(Message):
    """Nothing needs the value any more: drop your copy."""

    TAG: ClassVar[int] = 85
    CUSTODY: ClassVar[bool] = True
    value: ValueId
    making: LeaseId = 0
    """Not 0: only what was made under this lease, since another making counts."""
