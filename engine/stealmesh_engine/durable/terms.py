"""Which term a primary takes, and why two primaries are never taken for one.

Decides the number under which a peer leads a durable job. Refuses to know jobs, replicas and links.

A primary is named by the pair (term, peer). Between primaries that know of each other the number alone
says which is later. Two that cannot hear each other, on two sides of a cut, may reach the same number: both
sides go on by design, so no vote can refuse one of them. That does no harm:

1. Two peers never have the same pair: every process draws a new id.
2. One peer never has the same pair twice: :class:`Terms` takes a term above all that it took for the job
   before. Where it has forgotten what it took, it goes above everything that it has forgotten.
3. Code that compares two primaries compares pairs. Messages that carry the number alone (KEPT_UPTO,
   FORGET) are sent by one end of the pair or to it, so the peer at that end completes it.
4. A lease id has 64 bits, and of the pair only the number fits. A lease is therefore named by its id and
   its holder, and that names one lease: a holder obeys one primary at a time, the highest pair that it has
   heard of, and accepts leases with the number t only from primaries with the number t that it obeys. When
   it goes from one to another (held_job.py: `HeldJob.follow`), it drops the leases of the former before it
   says a word to the other. So in one holder's hands all leases with the number t come from one primary,
   and each has its own count within that number.
5. A ledger looks up every lease by id and holder. It adopts neither a lease with an id that another holder
   has there nor one that it has yet to give (indexed.py: `adopt`). What it does not adopt is free.

The remainders by 16 make equal numbers rare. Only work depends on that: leases that are dropped or not
adopted run again. tests/sim/test_equal_terms.py runs worlds in which all numbers are equal.
"""

from __future__ import annotations

from collections import OrderedDict

from stealmesh_protocol.ids import JobId, PeerId

TERM_SLOTS = 16
"""Terms of two peers differ by their remainders, so two that become primary at once mostly differ."""
JOBS_REMEMBERED = 1024


def next_term(known: int, me: PeerId) -> int:
    """The first term above `known` that leaves this peer's remainder."""
    term = known - known % TERM_SLOTS + me[0] % TERM_SLOTS
    return term if term > known else term + TERM_SLOTS


def beyond(known: int) -> int:
    """At least every term that a replica takes which knows `known` and comes back at this moment."""
    return known + TERM_SLOTS


class Terms:
    """The terms that this peer took, so that it takes none twice for one job."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._taken: OrderedDict[JobId, int] = OrderedDict()
        """The last one of each job."""
        self._forgotten = 0
        """The highest one that was dropped from `_taken`."""

    def take(self, job: JobId, above: int) -> int:
        """A term above this one, under which we have never led the job."""
        before = self._taken.pop(job, self._forgotten)
        term = self._taken[job] = next_term(max(above, before), self._me)
        while len(self._taken) > JOBS_REMEMBERED:
            self._forgotten = max(self._forgotten, self._taken.popitem(last=False)[1])
        return term
