"""What tasks print, on its way to the people who want to read it: the page of `messages.py` on it.

Refuses to know what is in a text: its octets are a user's, in no encoding that a node could trust.

Shape: a spec says where the output of its job goes (`Output`). A holder says PRINTED to the job's owner, a few
times a second and within bounds. Nobody keeps a message for this, repeats it, or waits for it: what gets
lost is lost, and what the sender dropped it counts. The primary of a durable job keeps a little of it; a
client asks there with PRINTED_GET, and the answer is a PRINTED.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

import msgspec

from stealmesh_protocol.ids import JobId
from stealmesh_protocol.message import Message


class Output(IntEnum):
    """Where what the tasks of a job print goes."""

    NODE = 0
    """To the standard files of the node that runs them."""
    CALLER = 1
    """To the job's owner."""
    NONE = 2
    """Nowhere."""


class Text(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """About the text in the blob at the same place."""

    lo: int = 0
    hi: int = 0
    """It was printed by one of the items [lo, hi); none: by what some item has left running."""
    dropped: int = 0
    """Lines that are missing behind it."""


class Printed(Message):
    """What tasks of this job have printed, in order within an item."""

    TAG: ClassVar[int] = 164
    job: JobId
    texts: list[Text] = []
    blobs: list[bytes] = []
    asked: int = -1
    """Not below 0: it answers a PRINTED_GET for this item."""


class PrintedGet(Message):
    """A client asks the primary of a durable job what this item has printed."""

    TAG: ClassVar[int] = 165
    job: JobId
    item: int
