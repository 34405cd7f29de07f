"""A program's side of durable jobs: it launches them, finds their primary again, and fetches results.

Decides which nodes to ask for a primary, when to ask another, and what to say again to a new primary.
Refuses to know what the program does with results and keeps none: the position up to which the program
has them is all that there is to know, so one program may end and another go on.

Everything that is not accepted yet is kept, and said again to the next primary. Repeating a launch or a
block changes nothing. Asking for results is a question without memory on either side, repeated with every
beat until it is answered.

Each method returns what the program should hear, or None; slices.py passes it on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from msgspec.structs import replace

from stealmesh_engine import effects as fx
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.base.rude import unless
from stealmesh_engine.config import Config
from stealmesh_engine.durable.locate import Chase, may_know, rebuilder
from stealmesh_engine.durable.rebuild import REBUILT
from stealmesh_engine.events import (
    AbolishJob,
    AttachJob,
    FetchResults,
    LaunchJob,
    LeaveJob,
    SupplyJob,
)
from stealmesh_engine.links.links import Links
from stealmesh_protocol.accounts import NO_WORD
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
"""After this time without an answer from the primary we look for another."""
SAID_AGAIN_SECONDS = 3.0
"""After this time without a word on our blocks, although the primary has heard them, we repeat them."""
GONE_SECONDS = 1.0
"""The word of a peer that the job is gone counts if no other contradicts for this time."""
LAUNCH_AGAIN_SECONDS = 1.5
"""After this time without a primary, a job that was not accepted is launched at the next node."""
ASKED_A_BEAT = 512
"""Of more jobs than these the next get their turn with each beat: a program may follow thousands of calls."""

Word = fx.Accepted | fx.Results | fx.JobGone


@dataclass(slots=True)
class FollowedJob:
    """One durable job that the program follows."""

    launch: Launch | None = None
    """What to say to its first primary; None once accepted, or if another program launched the job."""
    blocks: deque[tuple[Block, bytes]] = field(default_factory=deque)
    """Blocks that were said and are not accepted."""
    total: int = 0
    """How many items the program has given."""
    source: Launch | None = None
    """The original LAUNCH; said again to rebuild the job if all replicas are lost."""
    given: deque[tuple[Block, bytes]] = field(default_factory=deque)
    """Accepted blocks that we have not collected, at most `spare_octets_max`; for a rebuild, too."""
    given_octets: int = 0
    term: int = 1
    """The highest that we have heard of."""
    resupplied: tuple[PeerId, int] | None = None
    """The rebuilding primary that has our copy, and its term."""
    over: bool = False
    """No program wants more of it, so it is not to be rebuilt."""
    said_at: float = 0.0
    """When we last told our primary of items, or it accepted some."""
    closed: bool = False
    """The program has said that there are no more items."""
    accepted_closed: bool = False
    primary: PeerId | None = None
    lo: int = 0
    """The program has all results below."""
    want: bool = False
    """The program waits for the next results."""
    asked_since: float | None = None
    """Since when the primary owes us an answer."""
    lost_since: float = 0.0
    """Since when we know no primary and no node that might become one."""
    abolished: bool = False
    stopped: bool = False
    """Abolished, and what runs of it as well."""
    gone: tuple[float, str, PeerId] | None = None
    """Without a primary: since when a peer has said that the job is gone, and no other that it has it; why, and who."""
    asked: dict[PeerId, None] = field(default_factory=dict)
    """Every peer that was our primary once."""
    tried: dict[PeerId, None] = field(default_factory=dict)
    """Nodes that did not answer the launch."""


def _follows(message: Fetched) -> None:
    """Results follow each other without gaps; missing items are no results."""
    at = message.lo
    for kept in message.results:
        unless(kept.lo <= at < kept.hi, "results")
        at = kept.hi
    unless(at <= message.line.total, "results")


class DurableClient:
    """All durable jobs of this program."""

    def __init__(self, config: Config, links: Links, counters: Counters) -> None:
        self.counters = counters
        self.chase = Chase(links)
        self.config = config
        self.links = links
        self.jobs: dict[JobId, FollowedJob] = {}
        self._turn = 0

    # ------------------------------------------------------------ the program's wishes

    def launch(self, event: LaunchJob, now: float) -> None:
        launch = Launch(event.spec, event.total, event.functions)
        mine = FollowedJob(launch, source=launch, lost_since=now, closed=bool(event.spec.step))
        mine.accepted_closed = mine.closed
        self.jobs[event.spec.job] = mine
        self._launch_somewhere(event.spec.job, mine, now)

    def attach(self, event: AttachJob, now: float) -> None:
        if event.job not in self.jobs:
            mine = FollowedJob(lost_since=now, closed=True, accepted_closed=True)
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
        if mine.primary is not None:
            self.links.send(
                mine.primary, Supply(event.job, blocks, event.closed, blobs, mine.total), now
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
            mine.abolished, mine.stopped = True, mine.stopped or event.stop
            if mine.primary is not None:
                self.links.send(mine.primary, Abolish(event.job, mine.stopped), now)

    def leave(self, event: LeaveJob, now: float) -> None:
        mine = self.jobs.pop(event.job, None)
        if mine is not None and mine.primary is not None:
            self.links.send(mine.primary, Fetch(event.job, event.lo, False), now)

    def due(self) -> list[JobId]:
        """The jobs to look after with this beat: all, or of very many the next ones."""
        if len(self.jobs) <= ASKED_A_BEAT:
            return list(self.jobs)
        jobs = list(self.jobs)
        self._turn = (self._turn + ASKED_A_BEAT) % len(jobs)
        return [*jobs[self._turn :], *jobs[: self._turn]][:ASKED_A_BEAT]

    @property
    def waits(self) -> bool:
        """Does the program wait for anything that a primary has to say or to take?"""
        return any(
            mine.launch is not None or bool(mine.blocks) or (mine.want and not mine.over)
            for mine in self.jobs.values()
        )

    # ------------------------------------------------------------ what primaries say

    def accepted(self, primary: PeerId, message: Accepted, now: float) -> Word | None:
        mine = self.jobs.get(message.job)
        if mine is None or not self._was_asked(mine, primary):
            return None
        if message.refusal:
            if mine.launch is None and primary != mine.primary:
                return None  # another node has taken it
            del self.jobs[message.job]
        else:
            mine.launch = None
            self._answered(message.job, mine, primary, now)
            mine.accepted_closed = mine.accepted_closed or message.closed
            mine.said_at = now
            while mine.blocks and mine.blocks[0][0].hi <= message.upto:
                self._keep_given(mine, *mine.blocks.popleft())
        return fx.Accepted(message.job, message.upto, message.closed, message.refusal)

    def unsayable(self, message: Message, why: str) -> Word | None:
        """This message can never be sent: for the program that is a refusal."""
        if isinstance(message, Launch | Supply):
            job = message.spec.job if isinstance(message, Launch) else message.job
            if self.jobs.pop(job, None) is not None:
                return fx.Accepted(job, 0, False, f"it could not be said: {why}")
        return None

    def fetched(self, primary: PeerId, message: Fetched, now: float) -> Word | None:
        mine = self.jobs.get(message.job)
        if mine is None or not self._was_asked(mine, primary):
            return None
        if message.lo == mine.lo:
            _follows(message)
        self._answered(message.job, mine, primary, now)
        line = message.line
        mine.over = line.state in ("cancelled", "lost", "expired")
        if message.lo != mine.lo:
            return None  # asked for before the program went on
        if message.results:
            # The question may have been repeated: a second answer must not reach the program.
            mine.lo, mine.want = message.results[-1].hi, False  # until it asks for more
        mine.over = mine.over or (message.closed and mine.lo == line.total)
        return fx.Results(
            message.job,
            message.lo,
            message.line,
            message.results,
            message.blobs,
            message.closed,
            message.missing,
            NO_WORD if message.account is None else message.account.at,
        )

    def here(self, peer: PeerId, message: Here, now: float) -> Word | None:
        """A peer says what it is to the job."""
        job, mine = message.job, self.jobs.get(message.job)
        if mine is None:
            return None
        if message.standing is Standing.GONE:
            return self._is_gone(job, mine, peer, message.why, now)
        if message.standing is Standing.LEADS:
            mine.term = max(mine.term, message.reign.term)
            if mine.gone is not None and mine.gone[2] == peer:
                return None  # it leads the job, and has none for us
            if mine.primary != peer:
                self._found(job, mine, peer, now)
            if message.why == REBUILT:
                self._resupply(job, mine, peer, message.reign.term, now)
        elif peer == mine.primary:
            # It has only a replica: there is, or will be, a primary elsewhere.
            mine.primary, mine.lost_since = None, now
            self._seek(job, now)
        elif mine.primary is None and not (mine.gone and mine.gone[2] == message.reign.primary):
            mine.lost_since, mine.gone = now, None  # there is a replica, so a primary will come
            # A primary that is no supernode may not be among those that we ask.
            self.chase.ask(job, message.reign.primary, now)
        return None

    # ------------------------------------------------------------ time and losses

    def beat(self, job: JobId, now: float) -> Word | None:
        """Look after one job: ask for what is missing, look for its primary, or give up."""
        mine = self.jobs[job]
        asked = mine.asked_since
        if mine.primary is not None and asked is not None and now - asked > UNANSWERED_SECONDS:
            self.links.renew(mine.primary, now)  # perhaps only the link is dead
            mine.primary, mine.lost_since = None, now
        if mine.primary is not None:
            if self._is_overheard(mine, now):
                self._found(job, mine, mine.primary, now)
            elif mine.launch is None:
                self._ask(job, mine, now)
        elif mine.launch is not None and now - mine.lost_since > LAUNCH_AGAIN_SECONDS:
            self._launch_somewhere(job, mine, now)
        elif mine.gone is not None and now - mine.gone[0] > GONE_SECONDS:
            return self._give_up(job, mine.gone[1])
        elif now - mine.lost_since > self.config.primary_patience_seconds:
            return self._give_up(job, "nobody knows it")
        else:
            self._seek(job, now)
            if now - mine.lost_since > self.config.rebuild_after_seconds:
                self._have_rebuilt(job, mine, now)
        return None

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """The peer is dead, or has forgotten what we said: look for the next primary."""
        for job, mine in self.jobs.items():
            if mine.primary == peer:
                mine.primary, mine.lost_since = None, now
                self._seek(job, now)

    # ------------------------------------------------------------ all replicas are lost

    def _keep_given(self, mine: FollowedJob, block: Block, blob: bytes) -> None:
        """A rebuild may need an accepted block: keep as many as there is room for."""
        mine.given.append((block, blob))
        mine.given_octets += len(blob)
        while mine.given_octets > self.config.spare_octets_max:
            mine.given_octets -= len(mine.given.popleft()[1])

    def _have_rebuilt(self, job: JobId, mine: FollowedJob, now: float) -> None:
        """All replicas seem lost: ask a node to rebuild the job from what we and its holders have."""
        node = rebuilder(job, self.links, now)
        if node is not None and mine.source and not (mine.over or mine.abolished):
            self.links.send(node, self._relaunch(mine, mine.source), now)

    def _relaunch(self, mine: FollowedJob, source: Launch) -> Launch:
        return Launch(replace(source.spec, term=mine.term), source.total, source.blobs)

    def _resupply(
        self, job: JobId, mine: FollowedJob, primary: PeerId, term: int, now: float
    ) -> None:
        """Give a rebuilding primary all that we have of the job."""
        if mine.source is None or mine.over or mine.resupplied == (primary, term):
            return
        mine.resupplied = primary, term
        self.links.send(primary, self._relaunch(mine, mine.source), now)
        for block, blob in mine.given:
            self.links.send(primary, Supply(job, [block], False, [blob]), now)
        if not mine.source.spec.step:
            given = mine.given[-1][0].hi if mine.given else 0
            total = mine.total if mine.closed else given
            self.links.send(primary, Supply(job, [], mine.closed, [], total), now)

    # ------------------------------------------------------------ inside

    def _was_asked(self, mine: FollowedJob, peer: PeerId) -> bool:
        """Only those that we took for the primary once can have an answer for us."""
        if peer not in mine.asked:
            self.counters.count("answers-unasked")
        return peer in mine.asked

    def _launch_somewhere(self, job: JobId, mine: FollowedJob, now: float) -> None:
        """Launch it at the first node of its ranking that we can talk to and have not tried yet."""
        assert mine.launch is not None
        candidates = [p for p in ranked(job, self.links.view.supers()) if self.links.is_ready(p)]
        if not candidates:
            return
        fresh = [peer for peer in candidates if peer not in mine.tried]
        if not fresh:
            mine.tried.clear()
        primary = (fresh or candidates)[0]
        mine.tried[primary] = None
        self._found(job, mine, primary, now)

    def _answered(self, job: JobId, mine: FollowedJob, primary: PeerId, now: float) -> None:
        """A primary has answered. One that we had given up, or did not know, lacks some of our words."""
        if mine.primary != primary:
            self._found(job, mine, primary, now)
        mine.asked_since = None

    def _found(self, job: JobId, mine: FollowedJob, primary: PeerId, now: float) -> None:
        """Say to this primary everything that no primary has accepted."""
        mine.primary, mine.asked_since, mine.gone = primary, None, None
        mine.asked[primary] = None
        if mine.launch is not None:
            mine.asked_since = now
            self.links.send(primary, mine.launch, now)
        for block, blob in list(mine.blocks):
            self.links.send(primary, Supply(job, [block], False, [blob]), now)
        mine.said_at = now
        if mine.closed and (mine.total or not mine.accepted_closed):
            self.links.send(primary, Supply(job, [], True, [], mine.total), now)
        if mine.abolished:
            self.links.send(primary, Abolish(job, mine.stopped), now)
        if mine.launch is None:
            self._ask(job, mine, now)

    def _is_overheard(self, mine: FollowedJob, now: float) -> bool:
        """Has the primary heard all our blocks without accepting them? It may have lacked earlier ones then."""
        waits = mine.launch is None and mine.blocks and now - mine.said_at > SAID_AGAIN_SECONDS
        return bool(waits and mine.primary and not self.links.unacked_octets(mine.primary))

    def _ask(self, job: JobId, mine: FollowedJob, now: float) -> None:
        if mine.primary is not None:
            mine.asked_since = now if mine.asked_since is None else mine.asked_since
            self.links.send(mine.primary, Fetch(job, mine.lo, mine.want), now)

    def _is_gone(
        self, job: JobId, mine: FollowedJob, peer: PeerId, why: str, now: float
    ) -> Word | None:
        """One peer says that the job is gone. That alone ends nothing, as anybody can say that it leads a job."""
        if mine.primary not in (None, peer):
            return None  # the job has a primary, and that would know
        if mine.abolished:
            return self._give_up(job, why)  # as we wish
        if mine.primary is not None:
            mine.primary, mine.lost_since = None, now
            self._seek(job, now)
        if mine.gone is None:
            mine.gone = now, why, peer  # if somebody has it after all, it says so soon
        return None

    def _seek(self, job: JobId, now: float) -> None:
        for peer in may_know(job, self.links, now):
            self.links.send(peer, Seek(job), now)

    def _give_up(self, job: JobId, why: str) -> Word:
        del self.jobs[job]
        return fx.JobGone(job, why)
