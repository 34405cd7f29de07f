"""Items that wait at one node for results of another: reports that come before their time, and results that do not come.

Such an item can be over before its owner knows that its inputs are, as the nodes tell of them over different links.
Decides that its report waits here, and counts as soon as all inputs do (`JobEdges` keeps it, and drops it with the
lease). Decides also when a node that should have got a result from another one gets it from us: links break, and two
nodes that we reach may not reach each other. Refuses to know what follows what (graph.py) and what counts (crediting.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from stealmesh_engine.base.context import Context
from stealmesh_engine.ledger.edges import JobEdges
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId, PeerId
from stealmesh_protocol.messages import Grant

PATIENCE_SECONDS = 0.2
"""So long after its last input counts a node may be at an item, or wait for its turn, before it gets the inputs from us
as well. Less: more octets twice. More: an item whose nodes do not reach each other begins later."""
TOGETHER_SECONDS = 0.05
"""The owner looks at all that are due within this time at once."""


class FromAfar:
    """All items of one owner that follow inputs of several nodes."""

    def __init__(self, context: Context, links: Links, jobs: dict[JobId, OwnedJob]) -> None:
        self._links = links
        self._jobs = jobs
        self._counters = context.counters
        self._early: deque[tuple[JobEdges, int]] = deque()
        self._complete: list[tuple[JobEdges, int, PeerId, LeaseId]] = []
        """Since when is set at the end of this step."""
        self._should_run: deque[tuple[float, JobEdges, int, PeerId, LeaseId]] = deque()
        self.due: float | None = None
        """When to look at them."""

    def came_early(self, edges: JobEdges, item: int) -> None:
        """All that went into it counts now, or its lease is over. Its report is kept until it is judged: in the same
        step its holder may speak of what it has made of it."""
        self._early.append((edges, item))

    @property
    def has_early(self) -> bool:
        return bool(self._early)

    def take_early(self) -> Iterator[tuple[JobEdges, int]]:
        """Those that can be judged now. What they complete follows."""
        while self._early:
            yield self._early.popleft()

    def complete(self, edges: JobEdges, item: int, holder: PeerId, lid: LeaseId) -> None:
        """All inputs of this one count, and its node should have them."""
        self._complete.append((edges, item, holder, lid))

    def settle(self, now: float) -> None:
        complete, self._complete = self._complete, []
        self._should_run.extend((now + PATIENCE_SECONDS, *each) for each in complete)
        self._plan()

    def look(self, now: float) -> None:
        """Give those what they may still wait for that are not over yet."""
        while self._should_run and self._should_run[0][0] <= now:
            _, edges, item, holder, lid = self._should_run.popleft()
            job = self._jobs.get(edges.job)
            if job is None or not edges.ledger.is_open(holder, lid, item):
                continue
            blocks, blobs = edges.completed(item, item + 1)
            self._counters.count("inputs-sent-again")
            self._links.send(holder, Grant(job.spec, [], blocks, 0, blobs), now)
        self._plan()

    def _plan(self) -> None:
        self.due = self._should_run[0][0] + TOGETHER_SECONDS if self._should_run else None
