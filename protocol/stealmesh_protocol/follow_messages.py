"""What nodes say to each other about results that go from one to the other: the page of `messages.py` on them.

Refuses to know which results count: the owner of a job does, and hears of each of them as ever.

Shape: an owner leases an item that waits for others to a node, and names the nodes that make what it waits for (a
`Block`'s makers). The node asks each of them (INPUT_GET), and gets the results from there when they are made
(INPUT_PUT). Both may be lost: then the owner sends the item anew, with all that goes into it.
"""

from __future__ import annotations

from typing import ClassVar

from stealmesh_protocol.ids import JobId, LeaseId
from stealmesh_protocol.message import Message
from stealmesh_protocol.parts import Part


class InputGet(Message):
    """Send me the results of these items when you have made them, under these leases."""

    TAG: ClassVar[int] = 111
    job: JobId
    items: list[tuple[int, LeaseId]]


class InputPut(Message):
    """Results that the receiver has asked for, one blob a part, as a REPORT has them."""

    TAG: ClassVar[int] = 112
    job: JobId
    parts: list[Part]
    blobs: list[bytes] = []
