"""What an owner does when an actor's life ends: which calls fail, which run again, and who is told.

Decides, with `lives.py`, what becomes of each call that the dead life had. Refuses to know how a life ended
at its home (holding/actors.py), and when the next one begins: that is placement, like any leasing out.
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Deliver, LifeEnded
from stealmesh_engine.ledger.crediting import Crediting
from stealmesh_engine.ledger.lives import Lives
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_engine.ledger.verdicts import Credited
from stealmesh_protocol.ids import LeaseId, PeerId, seat_of
from stealmesh_protocol.messages import BEGINS, Declined, Grant, Lease, Part, Report
from stealmesh_protocol.values import ACTOR_DIED, LACKING, OUTCOMES, Failure, pack_outcomes

GONE = "its node is gone"


class LifeEnds:
    """The ends of all lives of one owner's actors."""

    def __init__(self, context: Context, crediting: Crediting) -> None:
        self.journal = context.journal
        self.effects = context.effects
        self.crediting = crediting

    # ------------------------------------------------------------ what holders say

    def reported(self, job: OwnedJob, holder: PeerId, message: Report, now: float) -> None:
        """Calls are answered, or the home lacks what they need."""
        assert job.lives is not None
        job.lives.reported(holder, message.parts, LACKING)
        if any(part.codec == LACKING for part in message.parts):
            self._moves(job, job.lives, holder, now)

    def declined(self, job: OwnedJob, holder: PeerId, message: Declined, now: float) -> bool:
        """A home says that a life is over, or that it never had it. False: it cannot run the job at all."""
        lives = job.lives
        assert lives is not None
        if not message.life:
            self._moves(job, lives, holder, now)
            return False
        if lives.lives_at(holder, message.life):
            self._died(job, lives, message.reason, now)
        for part in message.begun:
            self._had_begun(job, lives, holder, part)
        self.crediting.hand_back(job, holder, message.parts, now)
        return True

    def returned(self, job: OwnedJob, holder: PeerId, now: float) -> None:
        """A home gives calls back without a word on its life: what it runs now would be out of order."""
        if job.lives is not None and job.lives.home == holder:
            self.let_go(job, holder, now)
            self.gone(job, holder, "its node gave calls back", now)

    def expired(self, job: OwnedJob, lid: LeaseId, holder: PeerId, now: float) -> None:
        """The holder did not name this lease for too long. The end of its life may have ended it, too."""
        if lid in job.ledger.leases:
            self.let_go(job, holder, now)
            self.gone(job, holder, "its node did not name it any more", now)

    def unsaid(self, job: OwnedJob | None, holder: PeerId, message: Grant, now: float) -> None:
        """The holder will never hear this. If a life begins with it, that has never begun."""
        if job is not None and job.lives is not None and message.nonce == BEGINS:
            self._moves(job, job.lives, holder, now)

    # ------------------------------------------------------------ ends

    def gone(self, job: OwnedJob, holder: PeerId, reason: str, now: float) -> bool:
        """Nothing will be heard of what this holder has of the actor: all of it may have run. False: it has
        nothing, or nothing of it ever ran."""
        lives = job.lives
        if lives is None:
            return False
        if lives.home == holder:
            self._died(job, lives, reason, now)
        elif not (lives.deaths and job.ledger.held_by(holder)):
            return False
        for lid in job.ledger.held_by(holder):
            for lo, hi in list(lives.ledger.leases[lid].open):
                self._had_begun(job, lives, holder, Lease(lid, lo, hi))
        return True

    def let_go(self, job: OwnedJob, holder: PeerId, now: float) -> None:
        """The holder lives, and has nothing of the present life any more: its process can end."""
        lives = job.lives
        assert lives is not None
        if lives.number:
            self.crediting.revoke(holder, job.spec.job, [seat_of(lives.number)], now)

    def fail_what_is_free(self, job: OwnedJob) -> None:
        """The actor is not made again: no later call runs."""
        if job.lives is not None and job.lives.dead and job.ledger.has_free:
            lives = job.lives
            self.crediting.give_up(job, lives.why(), ACTOR_DIED, lives.shown())

    # ------------------------------------------------------------ inside

    def _moves(self, job: OwnedJob, lives: Lives, holder: PeerId, now: float) -> None:
        """Its home lacks what the first call needs: another one is looked for, and nothing is lost."""
        if lives.home == holder and lives.may_move():
            self.let_go(job, holder, now)
            lives.leave()

    def _died(self, job: OwnedJob, lives: Lives, reason: str, now: float) -> None:
        lives.died(reason)
        self.journal.tell(now, "actor died", job.spec.job, 0, reason)
        self.effects.append(LifeEnded(job.spec.job, lives.why(), lives.shown(), lives.dead))

    def _had_begun(self, job: OwnedJob, lives: Lives, holder: PeerId, part: Lease) -> None:
        ledger = lives.ledger
        lent = ledger.lent(holder, part.lid)
        if lent is None:
            return
        for lo, hi in lent.open.overlap(part.lo, part.hi):
            again, failed = lives.divide(lo, hi)
            for low, high in again:
                ledger.split(holder, part.lid, low, high)
                ledger.rerun += high - low
            for low, high in failed:
                self._fail(job, lives, holder, Lease(part.lid, low, high))

    def _fail(self, job: OwnedJob, lives: Lives, holder: PeerId, part: Lease) -> None:
        count = part.hi - part.lo
        verdict = lives.ledger.credit(holder, part.lid, part.lo, part.hi)
        assert isinstance(verdict, Credited)
        why, deaths = lives.why(), lives.shown()
        failures = [Failure(at, ACTOR_DIED, text=why, attempts=deaths) for at in range(count)]
        told = Part(part.lid, part.lo, part.hi, OUTCOMES, 0.0, count)
        blob = pack_outcomes(None, failures)[1]
        job.count_failed(count)
        for lo, hi in verdict.intervals:
            self.effects.append(Deliver(job.spec.job, told, blob, lo, hi))
