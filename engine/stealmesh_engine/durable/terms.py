"""Which term a home takes, and why no two homes are ever taken for one.

Decides the number under which a peer leads a durable job. Refuses to know jobs, copies and links.

A home is named by its term AND its peer: the pair (term, primary). The number alone says which of two
homes is the later one as long as they know of each other. Two that cannot hear each other, on two sides
of a cut, may well count to the same number: both sides go on (that is meant), so no vote could refuse
one of them, and nobody hands out numbers on both sides. Why that does no harm:

1. No two peers have one pair: an id is drawn anew for each process life.
2. No peer has one pair twice: :class:`Terms` takes a term above all that it took for the job before,
   and where it has forgotten what it took, above everything that it has forgotten.
3. Whoever compares two homes compares the pairs. Words that carry the number alone (KEPT_UPTO, FORGET)
   are said to one end of it or by it, so the peer at that end completes the pair.
4. A lease id has 64 bits, and the number is all of its home that fits. So a lease is named by its id
   and its holder, and there it names one: a holder obeys one home at a time, the highest pair it has
   heard of. It has leases with the number t only from homes with the number t that it obeyed; when it
   goes from one of these to another (held_job.py: `HeldJob.follow`), it lets go of what the former leased
   it, before it says a word to the other. So in one holder's hands all leases with the number t are of
   one home, and each has its own count within it.
5. A ledger looks every lease up by id and holder. It adopts none whose id another holder has there,
   nor one that it has yet to give itself (indexed.py: `adopt`); what is not adopted is free.

The rests by 16 make equal numbers rare. Only work depends on that: what a holder lets go of, or a
ledger does not adopt, is run again. tests/sim runs worlds in which all numbers are equal.
"""

from __future__ import annotations

from collections import OrderedDict

from stealmesh_protocol.ids import JobId, PeerId

TERM_SLOTS = 16
"""Terms of two peers differ by their rests, so that those of two that accede at once mostly differ."""
JOBS_REMEMBERED = 1024


def next_term(known: int, me: PeerId) -> int:
    """The first term above `known` that leaves this peer's rest."""
    term = known - known % TERM_SLOTS + me[0] % TERM_SLOTS
    return term if term > known else term + TERM_SLOTS


def beyond(known: int) -> int:
    """At least every term that a keeper takes which knows this one, and comes back at this moment."""
    return known + TERM_SLOTS


class Terms:
    """The terms that this peer took, so that it takes none twice for one job."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._taken: OrderedDict[JobId, int] = OrderedDict()
        """The last one for each job."""
        self._forgotten = 0
        """The highest that is not remembered any more."""

    def take(self, job: JobId, above: int) -> int:
        """A term above this one, under which we have not led the job before."""
        before = self._taken.pop(job, self._forgotten)
        term = self._taken[job] = next_term(max(above, before), self._me)
        while len(self._taken) > JOBS_REMEMBERED:
            self._forgotten = max(self._forgotten, self._taken.popitem(last=False)[1])
        return term
