"""Which account of an explore job's bags a copy has: said with KEEP, OFFER and FETCHED.

Decides how two accounts are told apart and which of them is later. Refuses to know what is in an account
(the engine's durable/bag_replica.py) and who leads a job.

Results of an indexed job name their items, so copies of it are joined in any order. Steps of an explore
job follow from each other, so each copy has the account of one primary, up to one of its words.

Idea: the viewstamps of Viewstamped Replication.
"""

from __future__ import annotations

import msgspec

from stealmesh_protocol.ids import PEER_ID_OCTETS, PeerId
from stealmesh_protocol.limits import INDEX_MAX, TERM_MAX

Viewstamp = tuple[int, PeerId, int]
"""The word with this number of the primary (term, peer): it names one account."""

NO_WORD: Viewstamp = (0, b"", 0)
"""Before the first word of all."""


class BagAccount(msgspec.Struct, array_like=True, frozen=True):
    """The account after the word `at`."""

    at: Viewstamp
    since: Viewstamp | None = None
    """KEEP: what is said adds to the account after this word, and to no other. None: it is a page of the
    whole account."""
    visited: int = 0
    """Items that were visited for it."""
    over: bool = False
    """Nothing is left to do."""
    page: int = 0
    """Which page of the whole account this is, from 0."""
    whole: bool = False
    """It is the last page."""

    @property
    def fault(self) -> str:
        """What is wrong with it; "" if nothing."""
        for term, primary, number in (self.at, self.since or self.at):
            of_a_peer = len(primary) == PEER_ID_OCTETS
            if not (of_a_peer or (term, primary, number) == NO_WORD):
                return f"{primary!r} is no primary"
            if not (0 <= term <= TERM_MAX and 0 <= number <= INDEX_MAX):
                return f"word {number} of term {term}"
        return "" if 0 <= self.visited <= INDEX_MAX and self.page >= 0 else "no account"

    @property
    def rank(self) -> tuple[bool, Viewstamp]:
        """Of two accounts the higher holds: one that is over before one that is not."""
        return self.over, self.at
