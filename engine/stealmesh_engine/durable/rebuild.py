"""How a job that lost all its replicas is put together again, and when the rest of it is given up.

Decides what is missing of a rebuilt job and what becomes of it. Holders still have results and leases,
and the program that launched the job has its functions and the items that it has not collected. They
send these to the new primary for `primary_patience_seconds`. Refuses to know how they find it (locate.py,
client.py) and how the new primary takes over (takeover.py).

README.md tells the whole story.
"""

from __future__ import annotations

from dataclasses import dataclass

from stealmesh_engine.base.functions import needed
from stealmesh_engine.durable.replica import BEYOND_REPAIR, Added, Replica
from stealmesh_protocol.ids import Digest

REBUILT = "rebuilt"
"""Said in HERE: the speaker rebuilds the job, so send it what you have."""


@dataclass(slots=True)
class Rebuild:
    """A rebuild that is under way."""

    since: float
    is_wounded: bool = False
    """There were replicas, but they had lost a part."""
    is_fed: bool = False
    """A program has supplied items since, so the job's end will be known."""

    def fed(self) -> None:
        self.is_fed = True

    def give_up(self, replica: Replica) -> Added:
        """Time is up: declare lost what has not come."""
        if replica.ended:
            return Added()
        is_open = not (replica.closed or self.is_fed)
        if missing_functions(replica) or (is_open and not self.is_wounded):
            return replica.end(BEYOND_REPAIR)
        if is_open:
            # How many items there were is unknown, so readers learn that the next one is lost.
            return replica.end_at(replica.total + 1)
        missing = replica.unbacked
        return replica.give_up(missing) if missing else Added()


def missing_functions(replica: Replica) -> set[Digest]:
    return set(needed(replica.spec)) - replica.functions.keys()


def is_incomplete(replica: Replica, *, cut_short: bool) -> bool:
    """Does the replica lack something that was accepted once?

    `cut_short`: the replicas that came may have lost the end of the job."""
    if replica.ended:
        return False
    open_end = cut_short and not replica.closed
    return bool(missing_functions(replica) or replica.unbacked or open_end)
