"""Items that are lent a second time, to another holder than the one that has them.

Keeps who has which second copies. Refuses to know when a second copy is worth it (speculation.py) and
what a result is worth: the ledger of the job decides that, and calls.

Invariant: an item has at most one second copy, it is leased, and its two holders differ. (`TwiceLentLedger.audit`)

The ledger's own leases stay what they are without second copies. So an item is still in one place of the account;
a second copy is beside it. It takes the first one's place when that is lost.

Idea: backup tasks of MapReduce (Dean and Ghemawat 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_protocol.ids import LeaseId, PeerId


@dataclass(slots=True)
class Copy:
    """The second copies under one lease id."""

    holder: PeerId
    open: IntervalSet
    deadline: float
    born: float
    """Its first deadline."""


class LentPiece(NamedTuple):
    """Some items that one holder has under one lease."""

    holder: PeerId
    lid: LeaseId
    lo: int
    hi: int
    deadline: float = 0.0


class SecondCopies:
    """All second copies of one job."""

    def __init__(self) -> None:
        self.leases: dict[LeaseId, Copy] = {}
        self._beaten: list[LentPiece] = []
        """What holders are at although another was first."""

    def enter(self, lid: LeaseId, holder: PeerId, lo: int, hi: int, deadline: float) -> None:
        assert not self.overlap(lo, hi), "an item has three copies"
        self.leases[lid] = Copy(holder, IntervalSet([(lo, hi)]), deadline, deadline)

    # -- looking

    def of(self, holder: PeerId, lid: LeaseId) -> Copy | None:
        """The second copies under this lease, if this holder has it."""
        copy = self.leases.get(lid)
        return copy if copy is not None and copy.holder == holder else None

    def under(self, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> list[tuple[int, int]]:
        """Which items of [lo, hi) does this holder have as second copies under this lease?"""
        copy = self.of(holder, lid)
        return [] if copy is None else copy.open.overlap(lo, hi)

    def overlap(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Which items of [lo, hi) does any holder have as second copies?"""
        return [part for copy in self.leases.values() for part in copy.open.overlap(lo, hi)]

    def pieces(self, lo: int, hi: int) -> list[LentPiece]:
        """Who has the second copy of what of [lo, hi)."""
        return [
            LentPiece(copy.holder, lid, *part, copy.deadline)
            for lid, copy in self.leases.items()
            for part in copy.open.overlap(lo, hi)
        ]

    def held_by(self, holder: PeerId) -> list[LeaseId]:
        return [lid for lid, copy in self.leases.items() if copy.holder == holder]

    def renew(self, holder: PeerId, lid: LeaseId, deadline: float) -> bool:
        """The holder names this lease. Is it a second copy of its own?"""
        copy = self.of(holder, lid)
        if copy is not None:
            copy.deadline = deadline
        return copy is not None

    def expired(self, now: float) -> list[tuple[LeaseId, PeerId]]:
        return [(lid, copy.holder) for lid, copy in self.leases.items() if copy.deadline <= now]

    def postpone(self, lid: LeaseId, deadline: float) -> None:
        if lid in self.leases:
            self.leases[lid].deadline = deadline

    def forgive(self, seconds: float) -> None:
        for copy in self.leases.values():
            copy.deadline += seconds

    # -- ends

    def end(self, lo: int, hi: int) -> list[LentPiece]:
        """There are no second copies of [lo, hi) any more. Returns those that there were."""
        pieces = self.pieces(lo, hi)
        for piece in pieces:
            copy = self.leases[piece.lid]
            copy.open.remove(piece.lo, piece.hi)
            if not copy.open:
                del self.leases[piece.lid]
        return pieces

    def drop(self, lid: LeaseId) -> None:
        """The holder has lost all second copies under this lease."""
        self.leases.pop(lid, None)

    # -- who was first

    def beat(self, pieces: list[LentPiece]) -> None:
        """Others were faster than the holders of these."""
        self._beaten += pieces

    def take_beaten(self) -> list[LentPiece]:
        """Those whose holders have not been told yet."""
        beaten, self._beaten = self._beaten, []
        return beaten
