"""The lives of an actor, as the ledger that owns its calls sees them.

An actor is a job with one home: all its leases go to one node, which keeps an object for it in a process of
its own, and they go there in order. Decides how much is leased there at once, whether what comes from a
holder is about the present life, which calls run again after a death, and whether there is a next life.
Refuses to know what a call does, and which node is best (candidates.py).

Invariant: the next life begins when no lease of the one before is open. So no call runs in two lives at once,
and later calls never run before earlier ones.

A call that was leased to a life may have run there. So it fails with the life, or runs again if it may
(`retries`), and is never taken for one that has not begun, unless its holder says that. The less is leased at
once, the fewer calls are in doubt after a node's death: as much as runs in WINDOW_SECONDS.

Idea: restart limits and named deaths from Erlang's supervisors; what was under way fails by name in Ray, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_protocol.ids import LeaseId, PeerId, seat_of
from stealmesh_protocol.messages import JobSpec, Part

WINDOW_SECONDS = 0.05
WINDOW_ITEMS_MAX = 4096
WINDOW_ITEMS_MIN = 2
"""One that runs and one behind it, so that the process does not wait for the owner."""
WEIGHT_OF_NEWEST = 0.3
DEATHS_SHOWN_MAX = 16
"""How many of the last deaths an error names."""

Homes = Counter[PeerId]
"""How many actors of one owner live at each node."""


@dataclass(slots=True)
class Lives:
    """What the owner of an actor remembers beside its ledger."""

    spec: JobSpec
    ledger: IndexedLedger
    homes: Homes
    home: PeerId = b""
    """Where the present life is; empty: there is none."""
    number: int = 0
    """Of the present life, or of the last one."""
    deaths: list[str] = field(default_factory=list)
    _has_run: bool = False
    """This life has answered a call: its object may have changed."""
    _begun: dict[int, int] = field(default_factory=dict)
    """Call → in how many lives it had begun without an end."""
    _seconds_per_item: float | None = None

    # ------------------------------------------------------------ what may be leased

    @property
    def dead(self) -> bool:
        """No other life will come."""
        return len(self.deaths) > self.spec.restarts

    def has_room(self, leases: Collection[LeaseId]) -> bool:
        if self.dead:
            return False
        return self.ledger.leased < self._window() if self.home else not leases

    def items(self, free: int) -> int:
        return max(1, min(free, self._window() - self.ledger.leased))

    def _window(self) -> int:
        each = self._seconds_per_item
        if each is None:
            return WINDOW_ITEMS_MIN
        if each * WINDOW_ITEMS_MAX <= WINDOW_SECONDS:
            return WINDOW_ITEMS_MAX
        return max(WINDOW_ITEMS_MIN, int(WINDOW_SECONDS / each))

    def granting(self, holder: PeerId) -> bool:
        """This node gets a lease. Does a life begin with it?"""
        if self.home:
            assert holder == self.home, "an actor has two homes"
            return False
        self.home, self._has_run = holder, False
        self.homes[holder] += 1
        self.number += 1
        return True

    # ------------------------------------------------------------ what holders say

    def reported(self, holder: PeerId, parts: Iterable[Part], lacking: int) -> None:
        """The home has answered calls. `lacking`: the codec of those that it could not even try."""
        for part in parts:
            if holder != self.home or part.lo >= part.hi or part.codec == lacking:
                continue
            self._has_run = True
            self._learn(part.hi - part.lo, part.seconds)

    def may_move(self) -> bool:
        """The home lacks something. May another node have the actor, as if nothing had happened?"""
        return not self._has_run

    def is_seat(self, holder: PeerId, lid: LeaseId) -> bool:
        """Does this holder name the present life?"""
        return bool(self.home) and holder == self.home and lid == seat_of(self.number)

    def lives_at(self, holder: PeerId, number: int) -> bool:
        """Is this the present life?"""
        return bool(self.home) and holder == self.home and number == self.number

    # ------------------------------------------------------------ ends

    def leave(self) -> None:
        """The present life is over, and it is nobody's death."""
        if self.home:
            self.homes[self.home] -= 1
            self.home = b""

    def died(self, reason: str) -> None:
        self.leave()
        self.deaths.append(reason)

    def divide(self, lo: int, hi: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """These calls had begun when their life ended. Which run again, and which have failed?"""
        if not self.spec.retries:
            return [], [(lo, hi)]
        again: list[tuple[int, int]] = []
        failed: list[tuple[int, int]] = []
        for item in range(lo, hi):
            times = self._begun.get(item, 0) + 1
            if times <= self.spec.retries:
                self._begun[item] = times
                again.append((item, item + 1))
            else:
                self._begun.pop(item, None)
                failed.append((item, item + 1))
        return again, failed

    def why(self) -> str:
        """What the error of a call says."""
        name, times = self.spec.name, len(self.deaths)
        last = self.deaths[-1]
        if self.dead:
            more = f" for the {times}. time" if times > 1 else ""
            return f"the actor {name} died{more} and is not made again: {last}"
        return (
            f"the actor {name} died while this call ran, or may have run: {last} (it is made again, "
            f"death {times} of {self.spec.restarts} that are allowed; no call runs twice without retries)"
        )

    def shown(self) -> list[str]:
        return self.deaths[-DEATHS_SHOWN_MAX:]

    def _learn(self, items: int, seconds: float) -> None:
        each, known = seconds / items, self._seconds_per_item
        if known is None or each > known:
            self._seconds_per_item = each  # calls behind a dear one would be in doubt with it
        else:
            self._seconds_per_item = known + WEIGHT_OF_NEWEST * (each - known)
