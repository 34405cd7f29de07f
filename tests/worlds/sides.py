"""What both kinds of jobs have in common on their two sides, the owner's and a node's.

A side is loaded from a snapshot (plain tuples), does one thing with the real ledger or the
real bags, and is saved again. It plays what owner.py, holder.py and victim.py do around
them, one input at a time, and answers with messages: `(to, message)` where `to` is a node's
number or OWNER and a message is a plain tuple that starts with its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stealmesh_protocol.ids import PeerId

from .explorer import Violation

OWNER = -1
Snapshot = tuple[Any, ...]
Message = tuple[Any, ...]
Input = tuple[Any, ...]
Post = tuple[int, Message]

PEERS: list[PeerId] = [b"node-a", b"node-b", b"node-c"]
DONE: Snapshot = ("done",)
DEAD: Snapshot = ("dead",)

BUDGETS = (
    "crashes", "suspicions", "doubts", "steals", "losses", "repeats", "expiries",
    "cancels", "returns", "mishaps", "divisions",
)  # fmt: skip
NO_COST = -1
(
    CRASH, SUSPECT, DOUBT, STEAL, LOSS, REPEAT, EXPIRE, CANCEL, RETURN, MISHAP, DIVIDE,
) = range(len(BUDGETS))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Move:
    """Something that a side may do by itself."""

    what: str
    cost: int
    input: Input
    honest: bool = True
    lid: int = 0
    """The lease that it works on; work on a stale lease is nothing that progress may rest on."""


def number_of(peer: PeerId) -> int:
    return PEERS.index(peer)


def require(truth: bool, what: str) -> None:
    if not truth:
        raise Violation(what)


def lid_text(lid: int) -> str:
    return f"{lid >> 32}.{lid & 0xFFFFFFFF}" if lid & 0xFFFFFFFF else f"{lid >> 32}"


def text_of(message: Message) -> str:
    """A message as one reads it in a trace."""
    kind, *rest = message
    words = [lid_text(each) if isinstance(each, int) and each >> 32 else str(each) for each in rest]
    return f"{kind.upper()}({', '.join(words)})"


class OwnerSide:
    """An owner: its ledger, what it has delivered, and the nodes that it takes for dead."""

    revokes = True
    """False: a mutant that does not tell holders."""

    def __init__(self, peers: int) -> None:
        self.peers = peers
        self.done = False
        self.delivered = 0
        """Items that were handed to the program, as bits."""
        self.cancelled = 0
        self.told = 0
        """Nodes that have heard of the job, as bits."""
        self.dead = 0
        """Nodes that are taken for dead, as bits."""
        self.ledger: Any = None
        self.posts: list[Post] = []

    # -- one input

    def apply(self, snapshot: Snapshot, given: Input) -> tuple[Snapshot, list[Post]]:
        self.load(snapshot)
        self.posts = []
        kind, *rest = given
        getattr(self, "do_" + kind)(*rest)
        if not self.done:
            self.ledger.audit()
            self.check()
            if self.ledger.complete and self.may_end():
                self._end()
        return self.save(), self.posts

    def load(self, snapshot: Snapshot) -> None:
        self.done = snapshot == DONE
        if not self.done:
            self.delivered, self.cancelled, self.told, self.dead, account = snapshot
            self.ledger = self.load_ledger(account)

    def save(self) -> Snapshot:
        if self.done:
            return DONE
        return self.delivered, self.cancelled, self.told, self.dead, self.save_ledger()

    def do_hear(self, node: int) -> None:
        """The node has refuted its death."""
        self.dead &= ~(1 << node)

    def do_fence(self, node: int, dead: bool) -> None:
        if dead:
            self.dead |= 1 << node
        self.told &= ~(1 << node)
        if not self.done:
            self.ledger.fence(PEERS[node])

    def do_expire(self, lid: int) -> None:
        holder = dict(self.ledger.expired(0.0))[lid]
        self.ledger.revoke(lid)
        self.stale(number_of(holder), [lid])

    def do_renew(self, node: int, lids: list[int]) -> None:
        stale = lids if self.done else self.ledger.renew(PEERS[node], lids, 0.0)
        if stale:
            self.stale(node, stale)

    def do_told(self, node: int, message: Message) -> None:
        kind, *rest = message
        getattr(self, "told_" + kind)(node, *rest)

    # -- looks

    def holds(self, snapshot: Snapshot, node: int) -> list[int]:
        """The leases of this node, by the ledger."""
        self.load(snapshot)
        return [] if self.done else self.ledger.held_by(PEERS[node])

    def takes_for_dead(self, snapshot: Snapshot, node: int) -> bool:
        return snapshot != DONE and bool(snapshot[3] >> node & 1)

    def moves(self, snapshot: Snapshot) -> list[Move]:
        self.load(snapshot)
        if self.done:
            return []
        grants = [
            Move(f"grant to {node}", NO_COST, ("grant", node))
            for node in range(self.peers)
            if self.ledger.has_free and not self.dead >> node & 1
        ]
        return grants + self.own_moves()

    # -- for the kinds

    def load_ledger(self, account: Snapshot) -> Any:
        raise NotImplementedError

    def save_ledger(self) -> Snapshot:
        raise NotImplementedError

    def check(self) -> None:
        """What must hold of the ledger and of what was delivered, after every input."""
        raise NotImplementedError

    def check_end(self) -> None:
        raise NotImplementedError

    def may_end(self) -> bool:
        return True

    def own_moves(self) -> list[Move]:
        return []

    # -- inside

    def deliver(self, items: int) -> None:
        """These items (bits) were credited: never twice, never after they were cancelled."""
        require(not items & self.delivered, f"items {items:b} were credited twice")
        require(not items & self.cancelled, f"items {items:b} were credited after their end")
        self.delivered |= items

    def stale(self, node: int, lids: list[int]) -> None:
        if self.revokes:
            self.posts.append((node, ("revoked", tuple(lids))))

    def may_be_granted(self, node: int) -> bool:
        return not self.dead >> node & 1

    def _end(self) -> None:
        self.check_end()
        self.done = True
        for node in range(self.peers):
            if self.told >> node & 1 and not self.dead >> node & 1:
                self.posts.append((node, ("closed",)))


class NodeSide:
    """A node: its bags and what is with its workers.

    Its life is "up", "cut" (its owner has forgotten it and both have yet to find out),
    "doubt" (the other way round) or "dead".
    """

    forgets_revocations = False
    """True: a mutant that lets nothing go."""
    network_repeats = False
    """There is no channel that delivers everything once."""
    refuses_repeats = False
    """A grant is acted on once, even if its lease is over and forgotten."""

    def __init__(self, number: int, peers: int, workers: int) -> None:
        self.number = number
        self.peers = peers
        self.workers = workers
        self.life = "up"
        self.had: tuple[int, ...] = ()
        """Leases that were ever received; only kept where the network repeats itself."""
        self.bags: Any = None
        self.posts: list[Post] = []

    def apply(self, snapshot: Snapshot, given: Input) -> tuple[Snapshot, list[Post]]:
        if given == ("crash",):
            return DEAD, []
        self.load(snapshot)
        self.posts = []
        kind, *rest = given
        getattr(self, "do_" + kind)(*rest)
        self.check()
        if self.life != "up":
            self.posts = [post for post in self.posts if post[0] != OWNER]  # said into the void
        return self.save(), self.posts

    def load(self, snapshot: Snapshot) -> None:
        self.life, self.had, account = snapshot
        self.load_bags(account)

    def save(self) -> Snapshot:
        return self.life, self.had, self.save_bags()

    def do_told(self, message: Message) -> None:
        kind, *rest = message
        getattr(self, "told_" + kind)(*rest)

    def do_turn(self, life: str) -> None:
        self.life = life

    def do_drop(self, life: str) -> None:
        """The owner is gone, for all that we know (or has forgotten us)."""
        self.let_all_go()
        self.life = life

    def told_closed(self) -> None:
        self.let_all_go()

    def told_revoked(self, lids: tuple[int, ...]) -> None:
        if self.forgets_revocations:
            return
        for lid in lids:
            self.bags.drop(lid)
            self.void(lid)

    def first_time(self, lid: int) -> bool:
        """Is this grant to be acted on?"""
        if not self.network_repeats:
            return True
        if lid in self.bags.leases or (self.refuses_repeats and lid in self.had):
            return False
        self.had = tuple(sorted({*self.had, lid}))
        return True

    def holds(self, snapshot: Snapshot) -> list[int]:
        """The leases that a beat names."""
        if snapshot == DEAD:
            return []
        self.load(snapshot)
        return list(self.bags.leases)

    # -- for the kinds

    def load_bags(self, account: Snapshot) -> None:
        raise NotImplementedError

    def save_bags(self) -> Snapshot:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError

    def let_all_go(self) -> None:
        raise NotImplementedError

    def void(self, lid: int) -> None:
        raise NotImplementedError

    def moves(self, snapshot: Snapshot) -> list[Move]:
        raise NotImplementedError

    def is_idle(self, snapshot: Snapshot) -> bool:
        raise NotImplementedError
