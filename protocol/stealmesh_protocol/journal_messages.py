"""What a node says of what happened at it: the page of `messages.py` on journals.

Every node keeps bounded rings of entries (chunks that ran, steals, deaths, verdicts …). A peer asks for those
since a mark, page by page: JOURNAL_GET, and JOURNAL with the entries, oldest first. Decides nothing: what is
kept is the engine's choice (`base/rings.py`), and what is shown a command's.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

import msgspec

from stealmesh_protocol.message import Message

NO_WORKER = -1
BESIDE = "side by side"
"""In place of a reason: other chunks ran at the same worker meanwhile. Without it a worker runs one at a time."""
BESIDE_AND = ", "
"""Between that and how items failed."""


class RingKind(IntEnum):
    """Which ring an entry is in. Numbers are forever, as those of messages are."""

    CHUNK = 0
    """A worker ran items of a job."""
    STEAL = 1
    VALUE = 2
    """Copies of values: fetched, lost, made again."""
    DEATH = 3
    """A process of this node ended: a worker, or the fork server."""
    VERDICT = 4
    """What was found about a peer's life, by whom and why."""
    MEMBER = 5
    """Nodes that joined, left or drain, and those that serve as supernodes or stop."""
    REFUSED = 6
    """Connections and messages that were refused, by reason."""
    LEASE = 7
    """Leases that ended before their items did."""


class JournalEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One thing that happened at a node."""

    number: int
    """Counts all entries of the node, of all kinds."""
    at: float
    """On the clock of the node. The page says what that clock shows."""
    kind: int
    """A :class:`RingKind`; another version may have more of them."""
    what: str
    name: str = ""
    """Of the function, or of the peer."""
    about: bytes = b""
    """The job or the value."""
    peer: bytes = b""
    worker: int = NO_WORKER
    lo: int = 0
    hi: int = 0
    begun: float = 0.0
    """CHUNK: when its worker began it, if it ended when its node heard of that."""
    count: int = 0
    """CHUNK: items that failed; STEAL: items; VALUE: octets; otherwise how often it happened."""
    detail: str = ""
    """For people: a reason. CHUNK: that it ran beside others (`BESIDE`), how items of it failed (`failed_words.py`)."""


class JournalGet(Message):
    """What happened at you since this mark?"""

    TAG: ClassVar[int] = 98
    nonce: int
    since: int = 0
    """The number of the first entry that is wanted."""
    kinds: int = 0
    """A set of bits, one a kind; 0: all."""
    octets: int = 65536
    """The page should not be larger."""


class JournalPage(Message):
    """The next entries, in the order of their numbers."""

    TAG: ClassVar[int] = 99
    nonce: int
    clock: float
    """What the sender's clock shows now."""
    wall: float
    """What has to be added to that for the time of day, as the sender believes."""
    following: int
    """The mark for the next page."""
    more: bool = False
    """There is a next page already."""
    told: list[int] = []
    """By kind: how many entries there ever were. What a reader has not seen of them had to make room."""
    entries: list[JournalEntry] = []
