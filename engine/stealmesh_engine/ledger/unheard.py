"""What a holder will never hear, as it cannot be put on the wire: the items that it is about fail.

Decides which leases that are. Refuses to know why a message cannot be said (`links/unsayable.py`) and what
becomes of an item that fails (owner.py).
"""

from __future__ import annotations

from collections.abc import Callable

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.functions import needed
from stealmesh_engine.ledger.crediting import Crediting
from stealmesh_engine.ledger.life_ends import LifeEnds
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_engine.links.unsayable import failed
from stealmesh_protocol.ids import Digest, JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Commit, FnPut, Grant, Message, Report

Hear = Callable[[PeerId, Report | Commit, float], None]
"""The owner hears this, as if the holder had said it."""


class Unheard:
    def __init__(
        self,
        context: Context,
        jobs: dict[JobId, OwnedJob],
        crediting: Crediting,
        actors: LifeEnds,
        hear: Hear,
    ) -> None:
        self._jobs = jobs
        self._journal = context.journal
        self._crediting = crediting
        self._actors = actors
        self._hear = hear
        self.functions: dict[Digest, str] = {}
        """Those that could not be sent, and why."""

    def unsayable(self, peer: PeerId, message: Message, why: str, now: float) -> None:
        """The peer will never hear this: the items that it is about fail."""
        if isinstance(message, FnPut):
            self.functions[message.digest] = why
            self.fail_all_with(message.digest, peer, now)
        elif isinstance(message, Grant):
            self._actors.unsaid(self._jobs.get(message.spec.job), peer, message, now)
            for lease in message.leases:
                self._fail_lease(message.spec.job, peer, lease.lid, why, now)

    def fail_all_with(self, digest: Digest, peer: PeerId, now: float) -> None:
        """The peer cannot run what it holds of the jobs with this function."""
        for job in list(self._jobs.values()):
            if digest in needed(job.spec):
                for lid in job.ledger.held_by(peer):
                    self._fail_lease(job.spec.job, peer, lid, self.functions[digest], now)

    def _fail_lease(self, job_id: JobId, peer: PeerId, lid: LeaseId, why: str, now: float) -> None:
        job = self._jobs.get(job_id)
        if job is None or job.ledger.lent(peer, lid) is None:
            return
        self._journal.tell(now, "cannot be said", job_id, lid, peer)
        for message in job.ledger.failing(job_id, lid, lambda count: failed(count, why)):
            self._hear(peer, message, now)
        self._crediting.revoke(peer, job_id, [lid], now)
