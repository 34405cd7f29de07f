"""An indexed job in a tiny world: the real IndexedLedger on one side, real IndexedBags on the other."""

from __future__ import annotations

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.holding.indexed_bags import HeldLease, IndexedBags
from stealmesh_engine.ledger.indexed import IndexedLedger, Lent
from stealmesh_engine.ledger.verdicts import Credited, Stale
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Lease

from .sides import (
    CANCEL,
    DIVIDE,
    MISHAP,
    NO_COST,
    OWNER,
    PEERS,
    RETURN,
    STEAL,
    Move,
    NodeSide,
    OwnerSide,
    Snapshot,
    lid_text,
    number_of,
    require,
)

SPEC = JobSpec(job_id(bytes(16), 1), JobKind.MAP, bytes(16), "job", b"function", step=1)


def bits(lo: int, hi: int) -> int:
    return (1 << hi) - (1 << lo)


class IndexedOwner(OwnerSide):
    ledger_type = IndexedLedger

    def __init__(
        self,
        peers: int,
        items: int,
        *,
        released: int | None = None,
        lease_items_max: int | None = None,
        whole_parts: bool = False,
    ) -> None:
        super().__init__(peers)
        self.items = items
        self.released = items if released is None else released
        self.lease_items_max = lease_items_max
        self.whole_parts = whole_parts

    def first(self) -> Snapshot:
        self.done = False
        self.delivered = self.cancelled = self.told = self.dead = 0
        self.ledger = self.ledger_type(self.items, self.released, whole_parts=self.whole_parts)
        return self.save()

    def load_ledger(self, account: Snapshot) -> IndexedLedger:
        released, credited, free, leases, grants = account
        ledger = self.ledger_type(self.items, released, whole_parts=self.whole_parts)
        ledger.credited = IntervalSet(credited)
        ledger.free = IntervalSet(free)
        for lid, holder, parts in leases:
            lent = Lent(PEERS[holder], IntervalSet(parts), 0.0)
            ledger._enter(lid, lent)
            ledger.leased += lent.open.size
        ledger._grants = grants
        return ledger

    def save_ledger(self) -> Snapshot:
        ledger = self.ledger
        leases = sorted(
            (lid, number_of(lent.holder), tuple(lent.open)) for lid, lent in ledger.leases.items()
        )
        return (
            ledger.released,
            tuple(ledger.credited),
            tuple(ledger.free),
            tuple(leases),
            ledger._grants,
        )

    # -- what happens

    def do_grant(self, node: int) -> None:
        lease = self.ledger.lease(PEERS[node], 0.0, items_max=self.lease_items_max)
        self.told |= 1 << node
        self.posts.append((node, ("grant", lease.lid, lease.lo, lease.hi)))

    def do_cancel(self, lo: int, hi: int) -> None:
        self.cancelled |= bits(lo, hi) & ~self.delivered
        for holder, intervals in self.ledger.cancel(lo, hi).items():
            self.posts.append((number_of(holder), ("withdraw", tuple(intervals))))

    def do_release(self) -> None:
        self.ledger.release(self.items)

    def told_report(self, node: int, lid: int, lo: int, hi: int) -> None:
        if self.done:
            self.stale(node, [lid])
            return
        verdict = self.ledger.credit(PEERS[node], lid, lo, hi)
        if isinstance(verdict, Credited):
            for part in verdict.intervals:
                require(lo <= part[0] and part[1] <= hi, f"{part} is not in the report's blob")
                self.deliver(bits(*part))
        elif isinstance(verdict, Stale):
            self.stale(node, verdict.lids)

    def told_split(self, node: int, parts: tuple[tuple[int, int, int], ...], thief: int) -> None:
        if self.told_returned(node, parts) and self.may_be_granted(thief):
            while self.ledger.has_free:
                self.do_grant(thief)

    def told_returned(self, node: int, parts: tuple[tuple[int, int, int], ...]) -> bool:
        if self.done:
            self.stale(node, [lid for lid, _, _ in parts])
            return False
        given = False
        for lid, lo, hi in parts:
            verdict = self.ledger.split(PEERS[node], lid, lo, hi)
            if isinstance(verdict, Stale):
                self.stale(node, verdict.lids)
            else:
                given = True
        return given

    # -- looks

    def open_of(self, snapshot: Snapshot, node: int) -> dict[int, int]:
        """Lease of this node → its open items and the cancelled ones, as bits."""
        self.load(snapshot)
        if self.done:
            return {}
        return {
            lid: self.cancelled | sum(bits(*part) for part in lent.open)
            for lid, lent in self.ledger.leases.items()
            if lent.holder == PEERS[node]
        }

    def own_moves(self) -> list[Move]:
        moves = []
        if self.ledger.released < self.items:
            moves.append(Move("release the rest", NO_COST, ("release",)))
        return moves + [
            Move(f"cancel {lo}", CANCEL, ("cancel", lo, lo + 1), honest=False)
            for lo in range(self.ledger.released)
            if not self.ledger.credited.covers(lo, lo + 1)
        ]

    def check(self) -> None:
        credited = sum(bits(*part) for part in self.ledger.credited)
        require(
            credited == self.delivered | self.cancelled,
            f"credited {credited:b}, delivered {self.delivered:b}, cancelled {self.cancelled:b}",
        )

    def check_end(self) -> None:
        require(
            self.delivered ^ self.cancelled == bits(0, self.items),
            f"complete, but delivered {self.delivered:b} and cancelled {self.cancelled:b}",
        )


class IndexedNode(NodeSide):
    bags_type = IndexedBags

    def __init__(self, number: int, peers: int, workers: int, *, chunk_items: int = 1) -> None:
        super().__init__(number, peers, workers)
        self.chunk_items = chunk_items
        self.chunks: list[tuple[int, int, int, bool]] = []
        """What is with workers: (lease, lo, hi, void)."""

    def first(self) -> Snapshot:
        self.life, self.had, self.chunks = "up", (), []
        self.bags = self.bags_type(SPEC)
        return self.save()

    def load_bags(self, account: Snapshot) -> None:
        leases, chunks = account
        self.bags = self.bags_type(SPEC)
        for lid, lo, hi, untouched, busy in leases:
            held = HeldLease(lo, hi, IntervalSet(untouched), busy)
            self.bags.leases[lid] = held
            self.bags.untouched += held.untouched.size
        self.chunks = list(chunks)

    def save_bags(self) -> Snapshot:
        leases = tuple(
            (lid, held.lo, held.hi, tuple(held.untouched), held.busy)
            for lid, held in self.bags.leases.items()
        )
        return leases, tuple(sorted(self.chunks))

    # -- what happens

    def told_grant(self, lid: int, lo: int, hi: int) -> None:
        if self.first_time(lid):
            require(self.bags.receive(Lease(lid, lo, hi)), f"{lid_text(lid)} was granted twice")

    def told_withdraw(self, intervals: tuple[tuple[int, int], ...]) -> None:
        for lo, hi in intervals:
            self.bags.withdraw(lo, hi)

    def do_cut(self) -> None:
        cut = self.bags.cut(self.chunk_items)
        self.chunks.append((cut.lid, cut.lo, cut.hi, False))

    def do_finish(self, at: int) -> None:
        lid, lo, hi, void = self.chunks.pop(at)
        if not void and self.bags.finish(lid, lo, hi):
            self.posts.append((OWNER, ("report", lid, lo, hi)))

    def do_divide(self, at: int, upto: int, kept: int) -> None:
        """The worker was asked: [lo, upto) is finished, [kept, hi) was not begun; it goes on between."""
        lid, lo, hi, void = self.chunks[at]
        self.chunks[at] = (lid, upto, kept, void)
        if void:
            return
        if kept < hi:
            self.bags.put_back(lid, kept, hi)
        if upto > lo and self.bags.finish(lid, lo, upto):
            self.posts.append((OWNER, ("report", lid, lo, upto)))

    def do_mishap(self, at: int) -> None:
        """The worker died; the chunk is put back (or was for nothing)."""
        lid, lo, hi, void = self.chunks.pop(at)
        if not void:
            self.bags.put_back(lid, lo, hi)

    def do_give(self, thief: int) -> None:
        parts = self.bags.give((self.bags.queued_items + 1) // 2)
        told = tuple((part.lid, part.lo, part.hi) for part in parts)
        self.posts.append((OWNER, ("split", told, thief)))

    def do_return(self) -> None:
        parts = self.bags.give(self.bags.queued_items)
        self.posts.append(
            (OWNER, ("returned", tuple((part.lid, part.lo, part.hi) for part in parts)))
        )

    def let_all_go(self) -> None:
        self.bags = self.bags_type(SPEC)
        self.chunks = [(lid, lo, hi, True) for lid, lo, hi, _ in self.chunks]

    def void(self, lid: int) -> None:
        self.chunks = [(each, lo, hi, v or each == lid) for each, lo, hi, v in self.chunks]

    # -- looks

    def check(self) -> None:
        self.bags.audit()
        for lid, held in self.bags.leases.items():
            mine = [c for c in self.chunks if c[0] == lid and not c[3]]
            require(held.busy == sum(hi - lo for _, lo, hi, _ in mine), "a chunk is nobody's")

    def held_items(self, snapshot: Snapshot) -> dict[int, int]:
        """Lease → the items that will be run or are being run under it, as bits."""
        self.load(snapshot)
        found = {
            lid: sum(bits(*part) for part in held.untouched)
            for lid, held in self.bags.leases.items()
        }
        for lid, lo, hi, void in self.chunks:
            if not void:
                found[lid] = found.get(lid, 0) | bits(lo, hi)
        return found

    def moves(self, snapshot: Snapshot) -> list[Move]:
        self.load(snapshot)
        n, found = self.number, []
        if len(self.chunks) < self.workers and self.bags.queued_items:
            first = next(lid for lid, held in self.bags.leases.items() if held.untouched)
            found.append(
                Move(f"{n} starts a chunk of {lid_text(first)}", NO_COST, ("cut",), lid=first)
            )
        for at, (lid, lo, hi, void) in enumerate(self.chunks):
            what = f"[{lo}, {hi}) of {lid_text(lid)}" + (" (void)" if void else "")
            done = Move(f"{n} finishes {what}", NO_COST, ("finish", at), lid=0 if void else lid)
            lost = Move(f"{n} loses the worker at {what}", MISHAP, ("mishap", at), honest=False)
            found += [done, lost, *self.divisions(at, lid, lo, hi)]
        if self.bags.queued_items:
            for thief in range(self.peers):
                if thief != n:
                    what = f"{n} gives to {thief}"
                    found.append(Move(what, STEAL, ("give", thief), honest=False))
            found.append(Move(f"{n} returns its stock", RETURN, ("return",), honest=False))
        return found

    def divisions(self, at: int, lid: int, lo: int, hi: int) -> list[Move]:
        """All the ways in which a running chunk may be divided: it keeps one item at least."""
        return [
            Move(
                f"{self.number} tells [{lo}, {upto}) and gives [{kept}, {hi}) of {lid_text(lid)} back",
                DIVIDE,
                ("divide", at, upto, kept),
                honest=False,
            )
            for upto in range(lo, hi)
            for kept in range(upto + 1, hi + 1)
            if upto > lo or kept < hi
        ]

    def is_idle(self, snapshot: Snapshot) -> bool:
        self.load(snapshot)
        return not self.bags.leases and all(void for *_, void in self.chunks)
