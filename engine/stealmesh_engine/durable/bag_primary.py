"""The primary of a durable explore job: it runs a ledger of bags, and each step of it goes into the copies.

Decides what a step adds to the account that the replicas keep, and which bags are free when it takes the job
over: all that its account has. Refuses to know when a step is safe (replication.py) and which account holds
(bag_replica.py).

A holder keeps no step that it has said, and says none again. If a primary dies before another replica has
a step, that step never was: the next primary leases the bag as it stood before, and all holders let go of
what they had (held_job.py: `HeldJob.follow`). So it does not matter what a holder has, and nothing is asked
of holders. Readers get results when nothing is left to do and all of it is safe, since until then another
account may take the place of this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from msgspec.structs import replace

from stealmesh_engine.durable.bag_ledger import NumberedBags
from stealmesh_engine.durable.bag_replica import BagReplica
from stealmesh_engine.durable.primary import Gathering, Primary
from stealmesh_engine.durable.replica import Added, Entry, Replica
from stealmesh_engine.ledger.owned_job import ExploreJob, OwnedJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.ledger.verdicts import Stepped
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Closed, Commit, Fetched, JobLine, Lease, Part, Revoked


class BagPrimary(Primary):
    """This peer leads an explore job."""

    hears_holders: ClassVar[bool] = False
    replica: BagReplica

    def __init__(
        self,
        owner: Owner,
        replica: BagReplica,
        store: bytes,
        news: dict[JobId, None],
        next_grant: Callable[[], int],
    ) -> None:
        super().__init__(owner, replica, store, news)
        self._next_grant = next_grant

    # ------------------------------------------------------------ asked by the owner

    def credited(self, holder: PeerId, part: Part, blob: bytes, lo: int, hi: int) -> None:
        """A bag has failed for good, as no node can run it."""
        self.replication.add(self.replica.step([], part, blob, 0))

    def stepped(self, holder: PeerId, message: Commit, partial: bytes, step: Stepped) -> None:
        ((lo, hi),) = step.intervals
        part = Part(message.lid, lo, hi, 0, message.seconds, message.failed)
        self.replication.add(self.replica.step(step.made, part, partial, message.items))

    def dismissed(self, holder: PeerId, part: Part) -> None:
        """Holders keep no steps."""

    # ------------------------------------------------------------ taking over

    def _opened(self, upto: int, gathering: Gathering | None, now: float) -> OwnedJob:
        replica = self.replica
        bags = NumberedBags(list(replica.blocks), replica.total, replica.visited, self._next_grant)
        return ExploreJob(
            replica.spec, bags, not replica.closed, failed=replica.failed, keeping=self
        )

    def _adopt(self, job: OwnedJob, holder: PeerId, lease: Lease, now: float) -> None:
        """What a holder has of a former account does not count."""
        self.links.send(holder, Revoked(job.spec.job, [lease.lid]), now)

    # ------------------------------------------------------------ the work

    def merged(self, added: Added, now: float) -> None:
        if not added.replaced:
            super().merged(added, now)
            return
        job = self.owner.jobs.get(self.replica.spec.job)
        self.rebuild = None
        if self.gathering is None:
            told = [] if job is None else list(job.told)
            self.owner.resign(self.replica.spec.job)
            self.replication.refill(now)
            self.begin(now)
            for holder in told if self.replica.ended else ():
                self.links.send(holder, Closed(self.replica.spec.job), now)

    def _enter(self, job: OwnedJob, added: Added, now: float) -> None:
        assert isinstance(job, ExploreJob)
        assert isinstance(job.ledger, NumberedBags)
        for block, blob in added.blocks:
            job.ledger.enter(block, blob)
        job.copies_say(self.replica.failed, open_ended=not self.replica.closed)

    # ------------------------------------------------------------ results

    def line(self, now: float | None = None) -> JobLine:
        job = self.owner.jobs.get(self.replica.spec.job)
        return super().line() if job is None else job.line(now)

    def _readable(self, lo: int) -> list[Entry]:
        is_final = self.replica.ended and not self.replication.unsettled
        return super()._readable(lo) if is_final else []

    def _say(self, client: PeerId, fetched: Fetched, now: float) -> None:
        fetched.account = self.replica.account()
        fetched.line = replace(fetched.line, total=self.replica.total)
        super()._say(client, fetched, now)


def primary_of(
    owner: Owner,
    replica: Replica,
    store: bytes,
    news: dict[JobId, None],
    next_grant: Callable[[], int],
) -> Primary:
    """A primary of the right kind for this replica."""
    if isinstance(replica, BagReplica):
        return BagPrimary(owner, replica, store, news, next_grant)
    return Primary(owner, replica, store, news)
