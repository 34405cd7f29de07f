"""Items that run later: those that asked for it themselves, those that failed and may be tried again, and those
that wait for a result that is made again (lacking.py).

Decides for how long an item is put off, and when it has been often enough. The owner keeps such an item: it
is in no lease and not free until its time has come, and then it is free like any other. So no worker, no
node and no lease waits with it, and a node that dies or leaves takes nothing with it. Refuses to know
leases (indexed.py), who is told (crediting.py) and why an item failed.

The wait before another attempt is a random part of a time that doubles with each attempt: of a thousand
items that failed because a server was down, no two knock at the same moment. Also the first repeat waits,
as what failed a moment ago mostly fails again at once, and a tenth of a second is little beside what a
task is worth that has retries.

Idea: "full jitter" is Marc Brooker's (Exponential Backoff And Jitter, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from msgspec.structs import replace

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol import limits
from stealmesh_protocol.errors import RemoteProtocolError
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.messages import JobSpec
from stealmesh_protocol.values import again_in, with_failures

BACK_OFF_SECONDS = 0.1
"""The longest wait before the first repeat. Shorter: a server that stumbles is hit again before it stands."""
BACK_OFF_SECONDS_MAX = 30.0
"""The longest wait before any repeat, from the tenth on. Longer: what is well again waits for nothing."""
DEFER_SECONDS_MIN = 0.01
"""An item that is to run again sooner waits for this long: one that asks without end must not keep the
owner busy."""
ATTEMPTS_TOLD = 100
"""Of more attempts the last ones are told."""
ATTEMPT_CHARS_MAX = 500


def back_off(failed: int, rng: Random) -> float:
    """How long to wait after the `failed`-th failure (from 1)."""
    most = min(BACK_OFF_SECONDS_MAX, BACK_OFF_SECONDS * 2.0 ** min(failed - 1, 60))
    return rng.random() * most


@dataclass(slots=True)
class Past:
    """What became of one item before."""

    failed: int = 0
    deferred: int = 0
    deferred_last: bool = False
    """The last time it asked for it itself."""
    attempts: list[str] = field(default_factory=list)
    """How the last attempts ended."""


@dataclass(slots=True)
class Again:
    """An item runs again after this many seconds."""

    seconds: float


@dataclass(slots=True)
class Enough:
    """It does not run again: this blob (codec OUTCOMES) is what came of it."""

    blob: bytes


class PutOff:
    """The items of one ledger that wait for their time."""

    def __init__(self) -> None:
        self.items = IntervalSet()
        self._due: list[tuple[float, int]] = []
        self._until: dict[int, float] = {}
        self._past: dict[int, Past] = {}
        """Of items that are not credited."""

    @property
    def size(self) -> int:
        return self.items.size

    @property
    def next_at(self) -> float | None:
        """When the first of them is free."""
        while self._due and self._until.get(self._due[0][1]) != self._due[0][0]:
            heappop(self._due)  # it was cancelled
        return self._due[0][0] if self._due else None

    def until(self, item: int) -> float:
        """When this item, which waits, is free."""
        return self._until[item]

    def past(self, item: int) -> Past | None:
        """What became of it before; None: nothing that counts."""
        return self._past.get(item)

    # -- one item

    def judge(self, spec: JobSpec, item: int, blob: bytes, rng: Random) -> Again | Enough:
        """A worker says that this item is to run again."""
        try:
            seconds, outcomes, failure = again_in(blob)
        except RemoteProtocolError:
            return Enough(blob)  # the program says so when it opens the blob
        past = self._past.setdefault(item, Past())
        past.deferred_last = seconds >= 0.0
        if seconds >= 0.0:
            past.deferred += 1
            if past.deferred <= limits.DEFERS_MAX:
                return Again(min(max(seconds, DEFER_SECONDS_MIN), limits.DEFER_SECONDS_MAX))
            return Enough(outcomes)
        past.failed += 1
        past.attempts.append(failure.text[:ATTEMPT_CHARS_MAX])
        del past.attempts[:-ATTEMPTS_TOLD]
        if past.failed <= spec.retries:
            return Again(back_off(past.failed, rng))
        return Enough(with_failures(outcomes, [replace(failure, attempts=past.attempts)]))

    # -- the items that wait

    def add(self, item: int, until: float) -> None:
        self.items.add(item, item + 1)
        self._until[item] = until
        heappush(self._due, (until, item))

    def wait_no_more(self, item: int) -> None:
        """If it waits, its time has come."""
        if item in self._until:
            self.add(item, 0.0)

    def take_due(self, now: float) -> list[int]:
        """Those whose time has come: they do not wait any more."""
        found = []
        while (at := self.next_at) is not None and at <= now:
            _, item = heappop(self._due)
            del self._until[item]
            self.items.remove(item, item + 1)
            found.append(item)
        return found

    def credited(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """These items are done: forget their past. Returns those that still waited."""
        waiting = self.items.overlap(lo, hi)
        for first, last in waiting:
            self.items.remove(first, last)
            for item in range(first, last):
                del self._until[item]
        for item in self._known(lo, hi):
            del self._past[item]
        return waiting

    def _known(self, lo: int, hi: int) -> list[int]:
        if hi - lo < len(self._past):
            return [item for item in range(lo, hi) if item in self._past]
        return [item for item in self._past if lo <= item < hi]

    def audit(self) -> None:
        waiting = IntervalSet((item, item + 1) for item in self._until)
        assert waiting == self.items, (
            "an item waits without a time, or has a time and does not wait"
        )
        assert {item for _, item in self._due} >= self._until.keys(), "an item would wait for ever"


class Alarms:
    """When the next item of any job of this owner has waited long enough."""

    def __init__(self) -> None:
        self._at: dict[JobId, float] = {}
        self.due: float | None = None

    def set(self, job: JobId, at: float | None) -> None:
        """The first item of this job is free at that time; None: none waits."""
        if at is None:
            if self._at.pop(job, None) is None:
                return
        else:
            self._at[job] = at
        self.due = min(self._at.values(), default=None)

    def ringing(self, now: float) -> list[JobId]:
        """The jobs with items whose time has come."""
        return [job for job, at in self._at.items() if at <= now]
