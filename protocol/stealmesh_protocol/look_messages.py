"""What is said to find out what work waits for and what a worker is at, and to end a program's job: the page of
`messages.py` on looking.

Decides nothing. All messages are control: a question may be lost with its link, and is then asked again or
not answered. A node answers what it knows, which may be nothing.

Shape of a question: the one that looks asks every node it has a link with (LOOK_AT), and each answers (SEEN)
with what it has of the job. The ledger of an ordinary job is in its program, which is not dialled: a node that
has a link with it says so, and is asked once more, to ask the program (`onward`). The same way leads
there for a person who wants the job to end (CALL_OFF).
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from stealmesh_protocol.ids import JobId
from stealmesh_protocol.message import Message


class Topic(IntEnum):
    """What is asked for."""

    EXPLAIN = 0
    """What has become of the job, or of the item, and what does it wait for?"""
    STACKS = 1
    """What are your workers at? With a job: those that run it; with an item: the one that runs that."""


class LookAt(Message):
    """A question about a job, an item or the receiver's workers."""

    TAG: ClassVar[int] = 90
    nonce: int
    topic: Topic
    job: JobId = b""
    """Empty: the receiver's workers, whatever they run."""
    item: int = -1
    """-1: the job as a whole."""
    onward: bool = False
    """Ask the program that owns the job, and pass its answer on."""


class CallOff(Message):
    """A person wants this job of a program's to end. The receiver has a link with the program and passes it on, or
    is the program. SEEN answers, from the program."""

    TAG: ClassVar[int] = 95
    nonce: int
    job: JobId


class Seen(Message):
    """The answer: msgpack of an `Answer` (the engine's looking/answer.py), at most one blob."""

    TAG: ClassVar[int] = 91
    nonce: int
    blobs: list[bytes] = []
