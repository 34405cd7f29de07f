"""What running tasks say of how far they are, on its way from workers to the owners of their jobs.

Decides which words are worth passing on, and which of them go together: the latest one of each item, as
soon as finished work would go. Refuses to know what a word means, and how often a task may speak (its worker
sees to that).

A word is a hint. It has no number and is not said again: the next one is better. What comes too late is
dropped by the ledger (`ledger/item_progress.py`).
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.events import ItemTold
from stealmesh_engine.holding.held_job import HeldJobs
from stealmesh_engine.holding.slots import Slots
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, LeaseId
from stealmesh_protocol.messages import Beat, JobKind

WORDS_IN_BEAT_MAX = 2048

Word = tuple[JobId, LeaseId, int, float, float]


class Progress:
    """The latest word of each item that runs here and that its owner has not heard."""

    def __init__(self, context: Context, links: Links, jobs: HeldJobs, slots: Slots) -> None:
        self._links = links
        self._jobs = jobs
        self._slots = slots
        self._counters = context.counters
        self._since = 0.0
        self.words: dict[JobId, dict[int, Word]] = {}

    def told(self, event: ItemTold, now: float) -> None:
        """A task speaks. The item may be over, or not be ours any more."""
        chunk = self._slots.running_chunk(event.worker, event.chunk)
        wanted = chunk is not None and not chunk.void and not chunk.explore
        if chunk is None or not wanted or not chunk.lo <= event.item < chunk.hi:
            self._counters.count("progress-dropped")
            return
        if not self.words:
            self._since = now
        word = (chunk.job, chunk.lid, event.item, event.done, event.total)
        self.words.setdefault(chunk.job, {})[event.item] = word

    def flush(self, now: float, patience: float) -> float | None:
        """Tell the owners. Returns when to come again: words of large jobs wait as their results do."""
        until = self._since + patience
        for job, words in list(self.words.items()):
            held = self._jobs.get(job)
            if held is not None and held.spec.kind is not JobKind.SUBMIT and now < until:
                continue
            del self.words[job]
            if held is None or held.primary_gone_since is not None:
                self._counters.count("progress-dropped", len(words))
                continue
            self._tell(job, list(words.values()), now)
        return until if self.words else None

    def _tell(self, job: JobId, words: list[Word], now: float) -> None:
        owner, incarnation = self._jobs[job].spec.owner, self._links.view.me.incarnation
        for at in range(0, len(words), WORDS_IN_BEAT_MAX):
            beat = Beat(incarnation, 0, told=words[at : at + WORDS_IN_BEAT_MAX])
            self._links.send(owner, beat, now)
