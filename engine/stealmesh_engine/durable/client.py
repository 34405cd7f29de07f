"""A client's side of durable jobs: it launches them, finds their home again, and fetches results.

Decides whom to ask for a home, when to ask somebody else, and what has to be said again to a new
home. Refuses to know what the program does with results, and keeps none: the position up to
which the program has them is all that there is to know, so a client may end and another go on.

What was not accepted yet is kept and said again to the next home; a repeated launch or block
changes nothing. Asking for results is a question without memory on either side, repeated with
every beat until it is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine import effects as fx
from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.config import Config
from stealmesh_engine.durable.election import REBUILT
from stealmesh_engine.durable.locate import called_for, sought_at
from stealmesh_engine.events import AbolishJob, AttachJob, FetchResults, LaunchJob, SupplyJob
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import (
    Abolish,
    Accepted,
    Block,
    Fetch,
    Fetched,
    Here,
    Launch,
    Message,
    Seek,
    Standing,
    Supply,
)

UNANSWERED_SECONDS = 2.0
"""A home that answers nothing for so long makes us look for another."""
SAID_AGAIN_SECONDS = 3.0
LAUNCH_AGAIN_SECONDS = 1.5
"""Nobody answers for a job that was not accepted: launch it at the next node."""


Word = fx.Accepted | fx.Results | fx.JobGone


def _nobody(word: Word, now: float) -> None:
    raise AssertionError("a patron speaks through somebody")


@dataclass(slots=True)
class Patronage:
    """One durable job that the program follows."""

    launch: Launch | None = None
    """What to say to its first home; None once it is accepted, or if somebody else launched it."""
    blocks: deque[tuple[Block, bytes]] = field(default_factory=deque)
    """Said, and not accepted."""
    total: int = 0
    """How many items the program has given."""
    source: Launch | None = None
    """What we launched: should all keepers be lost, the next home gets it from us, ..."""
    given: deque[tuple[Block, bytes]] = field(default_factory=deque)
    """... with these items, which are accepted and not collected by us."""
    given_octets: int = 0
    term: int = 1
    """The highest that we have heard of."""
    handed_to: tuple[PeerId, int] | None = None
    """Which home, that was rebuilding it, got all of this, and under which term."""
    over: bool = False
    """Nobody wants more of it: it is not to be rebuilt."""
    said_at: float = 0.0
    """When we last told our home of items, or it accepted some."""
    closed: bool = False
    """The program has said that there is no more."""
    accepted_closed: bool = False
    home: PeerId | None = None
    lo: int = 0
    want: bool = False
    asked_since: float | None = None
    """Since when the home owes us an answer."""
    lost_since: float = 0.0
    """Since when there is no home that we know of, and nobody who might become one."""
    abolished: bool = False
    tried: dict[PeerId, None] = field(default_factory=dict)
    """Where it was to be launched, in vain."""


class Patron:
    """All durable jobs of this client."""

    def __init__(self, config: Config, links: Links) -> None:
        self.config = config
        self.links = links
        self.tell: Callable[[Word, float], None] = _nobody
        """Who passes our words on to the program (slices.py)."""
        self.jobs: dict[JobId, Patronage] = {}

    # ------------------------------------------------------------ the program's wishes

    def launch(self, event: LaunchJob, now: float) -> None:
        launch = Launch(event.spec, event.total, event.functions)
        mine = Patronage(launch, source=launch, lost_since=now, closed=bool(event.spec.step))
        mine.accepted_closed = mine.closed
        self.jobs[event.spec.job] = mine
        self._launch_somewhere(event.spec.job, mine, now)

    def attach(self, event: AttachJob, now: float) -> None:
        if event.job not in self.jobs:
            mine = Patronage(lost_since=now, closed=True, accepted_closed=True)
            self.jobs[event.job] = mine
            self._seek(event.job, now)

    def supply(self, event: SupplyJob, now: float) -> None:
        mine = self.jobs.get(event.job)
        if mine is None:
            return
        blocks, blobs = [], []
        if event.block is not None:
            mine.blocks.append((event.block, event.blob))
            mine.total, mine.said_at = event.block.hi, now
            blocks, blobs = [event.block], [event.blob]
        mine.closed = mine.closed or event.closed
        if mine.home is not None:
            self.links.send(
                mine.home, Supply(event.job, blocks, event.closed, blobs, mine.total), now
            )

    def fetch(self, event: FetchResults, now: float) -> None:
        mine = self.jobs.get(event.job)
        if mine is not None:
            mine.over = mine.over and event.lo >= mine.lo
            mine.lo, mine.want = event.lo, event.want
            while mine.given and mine.given[0][0].hi <= mine.lo:
                mine.given_octets -= len(mine.given.popleft()[1])
            self._ask(event.job, mine, now)

    def abolish(self, event: AbolishJob, now: float) -> None:
        mine = self.jobs.get(event.job)
        if mine is not None:
            mine.abolished = True
            if mine.home is not None:
                self.links.send(mine.home, Abolish(event.job), now)

    @property
    def waits(self) -> bool:
        """Does the program wait for anything that a home has to say or to take?"""
        return any(
            mine.launch is not None or bool(mine.blocks) or (mine.want and not mine.over)
            for mine in self.jobs.values()
        )

    # ------------------------------------------------------------ what homes say

    def accepted(self, home: PeerId, message: Accepted, now: float) -> None:
        mine = self.jobs.get(message.job)
        if mine is None:
            return
        if message.refusal:
            if mine.launch is None:
                return  # somebody else has it
            del self.jobs[message.job]
        else:
            mine.launch = None
            self._answered(message.job, mine, home, now)
            mine.accepted_closed = mine.accepted_closed or message.closed
            mine.said_at = now
            while mine.blocks and mine.blocks[0][0].hi <= message.upto:
                self._keep_given(mine, *mine.blocks.popleft())
        self.tell(fx.Accepted(message.job, message.upto, message.closed, message.refusal), now)

    def unsayable(self, message: Message, why: str, now: float) -> None:
        """No home will ever hear this: the program is told, as of a refusal."""
        if isinstance(message, Launch | Supply):
            job = message.spec.job if isinstance(message, Launch) else message.job
            if self.jobs.pop(job, None) is not None:
                self.tell(fx.Accepted(job, 0, False, f"it could not be said: {why}"), now)

    def fetched(self, home: PeerId, message: Fetched, now: float) -> None:
        mine = self.jobs.get(message.job)
        if mine is None:
            return
        self._answered(message.job, mine, home, now)
        line = message.line
        mine.over = line.state in ("cancelled", "lost", "expired")
        if message.lo != mine.lo:
            return  # asked for before the program went on
        if message.results:
            # An answer to a question that was repeated must not come to the program twice.
            mine.lo, mine.want = message.results[-1].hi, False  # until it asks for more
        mine.over = mine.over or (message.closed and mine.lo == line.total)
        self.tell(
            fx.Results(
                message.job,
                message.lo,
                message.line,
                message.results,
                message.blobs,
                message.closed,
                message.missing,
            ),
            now,
        )

    def here(self, peer: PeerId, message: Here, now: float) -> None:
        """An answer to the question who knows the job."""
        job, mine = message.job, self.jobs.get(message.job)
        if mine is None:
            return
        if message.standing is Standing.GONE:
            self._give_up(job, message.why, now)
        elif message.standing is Standing.LEADS:
            mine.term = max(mine.term, message.reign.term)
            if mine.home != peer:
                self._found(job, mine, peer, now)
            if message.why == REBUILT:
                self._hand_over(job, mine, peer, message.reign.term, now)
        elif peer == mine.home:
            # It only keeps the job: there is, or will be, a home elsewhere.
            mine.home, mine.lost_since = None, now
            self._seek(job, now)
        elif mine.home is None:
            mine.lost_since = now  # somebody has it: it need only be waited for
            if self.links.view.is_alive(message.reign.primary):
                self.links.send(message.reign.primary, Seek(job), now)  # it need not be a supernode

    # ------------------------------------------------------------ time and losses

    def beat(self, now: float) -> None:
        for job, mine in list(self.jobs.items()):
            asked = mine.asked_since
            if mine.home is not None and asked is not None and now - asked > UNANSWERED_SECONDS:
                self.links.renew(mine.home, now)  # it may be only the link that is dead
                mine.home, mine.lost_since = None, now
            if mine.home is not None:
                if self._is_overheard(mine, now):
                    self._found(job, mine, mine.home, now)
                elif mine.launch is None:
                    self._ask(job, mine, now)
            elif mine.launch is not None and now - mine.lost_since > LAUNCH_AGAIN_SECONDS:
                self._launch_somewhere(job, mine, now)
            elif now - mine.lost_since > self.config.home_patience_seconds:
                self._give_up(job, "nobody knows it", now)
            else:
                self._seek(job, now)
                if now - mine.lost_since > self.config.rebuild_after_seconds:
                    self._call_for_home(job, mine, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """It is dead, or has forgotten what we said: look for the next home."""
        for job, mine in self.jobs.items():
            if mine.home == peer:
                mine.home, mine.lost_since = None, now
                self._seek(job, now)

    # ------------------------------------------------------------ all keepers are lost

    def _keep_given(self, mine: Patronage, block: Block, blob: bytes) -> None:
        """What is accepted may still be needed; as much as there is room for."""
        mine.given.append((block, blob))
        mine.given_octets += len(blob)
        while mine.given_octets > self.config.spare_octets_max:
            mine.given_octets -= len(mine.given.popleft()[1])

    def _call_for_home(self, job: JobId, mine: Patronage, now: float) -> None:
        """Nobody has said for long that he keeps it: have it rebuilt with what we and holders have."""
        successor = called_for(job, self.links, now)
        if successor is not None and mine.source and not (mine.over or mine.abolished):
            self.links.send(successor, self._relaunch(mine, mine.source), now)

    def _relaunch(self, mine: Patronage, source: Launch) -> Launch:
        return Launch(replace(source.spec, term=mine.term), source.total, source.blobs)

    def _hand_over(self, job: JobId, mine: Patronage, home: PeerId, term: int, now: float) -> None:
        if mine.source is None or mine.over or mine.handed_to == (home, term):
            return
        mine.handed_to = home, term
        self.links.send(home, self._relaunch(mine, mine.source), now)
        for block, blob in mine.given:
            self.links.send(home, Supply(job, [block], False, [blob]), now)
        if not mine.source.spec.step:
            given = mine.given[-1][0].hi if mine.given else 0
            total = mine.total if mine.closed else given
            self.links.send(home, Supply(job, [], mine.closed, [], total), now)

    # ------------------------------------------------------------ inside

    def _launch_somewhere(self, job: JobId, mine: Patronage, now: float) -> None:
        """At the node most responsible for it, of those that we can talk to and did not try yet."""
        assert mine.launch is not None
        candidates = [p for p in ranked(job, self.links.view.supers()) if self.links.is_ready(p)]
        if not candidates:
            return
        fresh = [peer for peer in candidates if peer not in mine.tried]
        if not fresh:
            mine.tried.clear()
        home = (fresh or candidates)[0]
        mine.tried[home] = None
        self._found(job, mine, home, now)

    def _answered(self, job: JobId, mine: Patronage, home: PeerId, now: float) -> None:
        """A home has spoken; one that we had given up, or did not know, has not heard everything."""
        if mine.home != home:
            self._found(job, mine, home, now)
        mine.asked_since = None

    def _found(self, job: JobId, mine: Patronage, home: PeerId, now: float) -> None:
        """Say to this home whatever no home has accepted."""
        mine.home, mine.asked_since = home, None
        if mine.launch is not None:
            mine.asked_since = now
            self.links.send(home, mine.launch, now)
        blocks = list(mine.blocks)
        for block, blob in blocks:
            self.links.send(home, Supply(job, [block], False, [blob]), now)
        mine.said_at = now
        if mine.closed and (mine.total or not mine.accepted_closed):
            self.links.send(home, Supply(job, [], True, [], mine.total), now)
        if mine.abolished:
            self.links.send(home, Abolish(job), now)
        if mine.launch is None:
            self._ask(job, mine, now)

    def _is_overheard(self, mine: Patronage, now: float) -> bool:
        """Our home has heard all that we said and did not accept it: what comes before may have been
        missing then."""
        waits = mine.launch is None and mine.blocks and now - mine.said_at > SAID_AGAIN_SECONDS
        return bool(waits and mine.home and not self.links.unacked_octets(mine.home))

    def _ask(self, job: JobId, mine: Patronage, now: float) -> None:
        if mine.home is not None:
            mine.asked_since = now if mine.asked_since is None else mine.asked_since
            self.links.send(mine.home, Fetch(job, mine.lo, mine.want), now)

    def _seek(self, job: JobId, now: float) -> None:
        for peer in sought_at(job, self.links, now):
            self.links.send(peer, Seek(job), now)

    def _give_up(self, job: JobId, why: str, now: float) -> None:
        del self.jobs[job]
        self.tell(fx.JobGone(job, why), now)
