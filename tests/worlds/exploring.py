"""An explore job in a tiny world: the real ExploreLedger on one side, real ExploreBags on the other.

The tree is known to the checks alone: an item that is not delivered must be at or below
exactly one item of exactly one bag of the ledger.
"""

from __future__ import annotations

from stealmesh_engine.holding.explore_bags import ExploreBags, HeldBag
from stealmesh_engine.ledger.explore import CommittedStep, ExploreLedger, LentBag
from stealmesh_engine.ledger.verdicts import Credited, Stale
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Lease

from .sides import (
    MISHAP,
    NO_COST,
    OWNER,
    PEERS,
    RETURN,
    STEAL,
    Message,
    Move,
    NodeSide,
    OwnerSide,
    Snapshot,
    lid_text,
    number_of,
    require,
)

SPEC = JobSpec(job_id(bytes(16), 1), JobKind.EXPLORE, bytes(16), "job", b"function")

Tree = dict[int, tuple[int, ...]]
PATH: Tree = {0: (1,), 1: ()}
FORK: Tree = {0: (1, 2), 1: (), 2: ()}
TWIG: Tree = {0: (1, 2), 1: (3,), 2: (), 3: ()}
"""Item → its children; 0 is the root, every number below the next."""


def bits(items: bytes) -> int:
    return sum(1 << item for item in items)


class ExploreOwner(OwnerSide):
    ledger_type = ExploreLedger

    def __init__(self, peers: int, tree: Tree) -> None:
        super().__init__(peers)
        self.tree = tree
        self.all = bits(bytes(tree))
        self.below = {item: 1 << item for item in tree}
        for item in sorted(tree, reverse=True):
            for child in tree[item]:
                self.below[item] |= self.below[child]

    def first(self) -> Snapshot:
        self.done = False
        self.delivered = self.cancelled = self.told = self.dead = 0
        self.ledger = self.ledger_type()
        self.ledger.put(1, b"\0")
        return self.save()

    def load_ledger(self, account: Snapshot) -> ExploreLedger:
        free, leases, grants, born = account
        ledger = self.ledger_type()
        ledger.free.extend(free)
        for lid, holder, size, items, seq in leases:
            ledger._enter(lid, LentBag(PEERS[holder], size, items, seq, 0.0))
        ledger._grants = grants
        if hasattr(ledger, "_born"):
            ledger._born = dict(born)
        return ledger

    def save_ledger(self) -> Snapshot:
        ledger = self.ledger
        leases = sorted(
            (lid, number_of(bag.holder), bag.size, bag.items, bag.seq)
            for lid, bag in ledger.leases.items()
        )
        born = tuple(sorted(getattr(ledger, "_born", {}).items()))
        return tuple(ledger.free), tuple(leases), ledger._grants, born

    # -- what happens

    def do_grant(self, node: int) -> None:
        lease, items = self.ledger.lease(PEERS[node], 0.0)
        self.told |= 1 << node
        self.posts.append((node, ("grant", lease.lid, lease.hi, items)))

    def told_commit(
        self,
        node: int,
        lid: int,
        seq: int,
        remaining: int,
        rest: bytes,
        children: tuple[tuple[int, int, bytes], ...],
        visited: bytes,
    ) -> None:
        if self.done:
            self.stale(node, [lid, *(child for child, _, _ in children)])
            return
        verdict = self.ledger.commit(
            PEERS[node],
            lid,
            CommittedStep(
                seq,
                len(visited),
                remaining,
                rest,
                [(Lease(child, 0, size), items) for child, size, items in children],
                0.0,
            ),
        )
        if isinstance(verdict, Credited):
            self.deliver(bits(visited))
        elif isinstance(verdict, Stale):
            self.stale(node, verdict.lids)

    def told_split(self, node: int, parts: tuple[int, ...], thief: int) -> None:
        if self.told_returned(node, parts) and self.may_be_granted(thief):
            while self.ledger.has_free:
                self.do_grant(thief)

    def told_returned(self, node: int, parts: tuple[int, ...]) -> bool:
        if self.done:
            self.stale(node, list(parts))
            return False
        given = False
        for lid in parts:
            verdict = self.ledger.split(PEERS[node], lid)
            if isinstance(verdict, Stale):
                self.stale(node, verdict.lids)
            else:
                given = True
        return given

    # -- looks

    def check(self) -> None:
        covered = self.delivered
        bags = [bag.items for bag in self.ledger.leases.values()]
        for items in (*bags, *(items for _, items in self.ledger.free)):
            for item in items:
                require(not covered & self.below[item], f"item {item} is accounted for twice")
                covered |= self.below[item]
        require(covered == self.all, f"items {self.all & ~covered:b} are in no account")

    def check_end(self) -> None:
        require(self.delivered == self.all, f"complete, but delivered only {self.delivered:b}")


class ExploreNode(NodeSide):
    bags_type = ExploreBags

    def __init__(self, number: int, peers: int, workers: int, tree: Tree) -> None:
        super().__init__(number, peers, workers)
        self.tree = tree
        self.running: list[tuple[int, bytes]] = []
        """What is with workers: (lease, the worker's own copy of the bag)."""

    def first(self) -> Snapshot:
        self.life, self.had, self.running = "up", (), []
        self.bags = self.bags_type(SPEC)
        return self.save()

    def load_bags(self, account: Snapshot) -> None:
        leases, children, running = account
        self.bags = self.bags_type(SPEC)
        for lid, size, items, seq, busy in leases:
            self.bags.leases[lid] = HeldBag(size, items, seq, busy)
        self.bags._children = dict(children)
        self.running = list(running)

    def save_bags(self) -> Snapshot:
        leases = tuple(
            (lid, bag.size, bag.items, bag.seq, bag.running)
            for lid, bag in self.bags.leases.items()
        )
        # Only the numbers of roots that something is still held of can matter again.
        return leases, tuple(sorted(self.bags._children.items())), tuple(sorted(self.running))

    # -- what happens

    def told_grant(self, lid: int, size: int, items: bytes) -> None:
        if self.first_time(lid):
            taken = self.bags.receive(Lease(lid, 0, size), items)
            require(taken, f"{lid_text(lid)} was granted twice")

    def do_cut(self) -> None:
        cut = self.bags.cut(1)
        self.running.append((cut.lid, cut.blocks[0][1]))

    def do_step(self, at: int, share: bool) -> None:
        """A worker visits one item; with `share` it gives up every second one of what is left."""
        lid, items = self.running.pop(at)
        visited, rest = items[:1], items[1:] + bytes(self.tree[items[0]])
        spares = [rest[1::2]] if share else []
        rest = rest[::2] if share else rest
        self.take_stock(lid, visited, rest, spares)

    def take_stock(self, lid: int, visited: bytes, rest: bytes, spares: list[bytes]) -> None:
        seq = self.bags.step(lid, len(rest), rest)
        if not seq:
            return
        if rest:
            self.running.append((lid, rest))
        children = self.bags.spawn(lid, [(len(spare), spare) for spare in spares])
        named = tuple(
            (child.lid, child.hi, spare) for child, spare in zip(children, spares, strict=True)
        )
        self.posts.append((OWNER, ("commit", lid, seq, len(rest), rest, named, visited)))

    def do_mishap(self, at: int) -> None:
        lid, _ = self.running.pop(at)
        self.bags.put_back(lid, 0, 0)

    def do_give(self, thief: int) -> None:
        parts = self.bags.give((self.bags.queued_items + 1) // 2)
        self.posts.append((OWNER, ("split", tuple(part.lid for part in parts), thief)))

    def do_return(self) -> None:
        parts = self.bags.give(self.bags.queued_items)
        self.posts.append((OWNER, ("returned", tuple(part.lid for part in parts))))

    def let_all_go(self) -> None:
        self.bags = self.bags_type(SPEC)
        self.running = []

    def void(self, lid: int) -> None:
        """The worker is stopped, since it might never end."""
        self.running = [each for each in self.running if each[0] != lid]

    # -- looks

    def check(self) -> None:
        self.bags.audit()
        busy = sorted(lid for lid, bag in self.bags.leases.items() if bag.running)
        require(busy == sorted(lid for lid, _ in self.running), "a worker has nobody's bag")

    def moves(self, snapshot: Snapshot) -> list[Move]:
        self.load(snapshot)
        n, found = self.number, []
        waiting = [lid for lid, bag in self.bags.leases.items() if not bag.running]
        if len(self.running) < self.workers and waiting:
            what = f"{n} starts bag {lid_text(waiting[-1])}"
            found.append(Move(what, NO_COST, ("cut",), lid=waiting[-1]))
        for at, (lid, items) in enumerate(self.running):
            what = f"{n} visits {items[0]} of {lid_text(lid)}"
            found.append(Move(what, NO_COST, ("step", at, False), lid=lid))
            if len(items) - 1 + len(self.tree[items[0]]) > 1:
                found.append(Move(what + ", shares", NO_COST, ("step", at, True), lid=lid))
            what = f"{n} loses the worker at {lid_text(lid)}"
            found.append(Move(what, MISHAP, ("mishap", at), honest=False))
        if waiting:
            for thief in range(self.peers):
                if thief != n:
                    what = f"{n} gives to {thief}"
                    found.append(Move(what, STEAL, ("give", thief), honest=False))
            found.append(Move(f"{n} returns its stock", RETURN, ("return",), honest=False))
        return found

    def is_idle(self, snapshot: Snapshot) -> bool:
        self.load(snapshot)
        return not self.bags.leases


def created_by(message: Message) -> tuple[int, ...]:
    """The bags that a message makes known to the ledger."""
    return tuple(child for child, _, _ in message[5]) if message[0] == "commit" else ()
