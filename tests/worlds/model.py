"""A tiny world: one owner, two or three nodes, a network, and budgets of trouble.

A state is a tuple of small numbers: the owner, the budgets, each node, the network. Sides
are pure functions of (snapshot, input), so the real code runs once for every distinct pair
and the search looks the answer up afterwards; that is what makes millions of states cheap.

Three networks. CHANNEL: what custody.py gives, in order and exactly once while both lives and
both memories last; a message is lost only with one of them. KEEPING: every message stays and
may be delivered at any time, any number of times. LOOSE: a delivered message is gone (so
that nothing may rest on a repeat); in any order, and some are repeated or lost.

Only honest steps count as progress: work under leases that the ledger knows, deliveries, and
what owner and nodes do unasked. Faults are not honest, and neither is work that will not count
(a stale lease may be a day's work).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from .explorer import Names, State, Violation, guarded
from .exploring import TWIG, ExploreNode, ExploreOwner, Tree, created_by
from .indexed import IndexedNode, IndexedOwner
from .sides import (
    BUDGETS,
    CRASH,
    DEAD,
    DONE,
    DOUBT,
    EXPIRE,
    LOSS,
    NO_COST,
    OWNER,
    REPEAT,
    SUSPECT,
    Input,
    Message,
    NodeSide,
    OwnerSide,
    Post,
    Snapshot,
    lid_text,
    text_of,
)


class Network(Enum):
    CHANNEL = auto()
    KEEPING = auto()
    LOOSE = auto()


@dataclass(frozen=True)
class Setting:
    """One tiny world: its size, its network and how much trouble there may be."""

    name: str
    items: int = 2
    tree: Tree | None = None
    """Of an explore job; None: an indexed job of `items` items."""
    nodes: int = 2
    workers: int = 1
    network: Network = Network.CHANNEL
    crashes: int = 0
    suspicions: int = 0
    """Nodes that are well and taken for dead by the owner."""
    doubts: int = 0
    """Nodes that take the owner for gone, which is well."""
    steals: int = 0
    losses: int = 0
    repeats: int = 0
    expiries: int = 0
    """Leases that run out although their holder is well."""
    cancels: int = 0
    returns: int = 0
    mishaps: int = 0
    divisions: int = 0
    """How often a worker is asked in the middle of a chunk."""
    chunk_items: int = 1
    lease_items_max: int | None = None
    released: int | None = None
    whole_parts: bool = False
    backstop: bool = True
    """Leases that are not named any more run out."""
    beats_overtake: bool = True
    """A beat may be heard before custody messages that were sent before it."""

    @property
    def budgets(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in BUDGETS)


@dataclass(frozen=True)
class Parts:
    """Which code plays the sides; the mutants change these."""

    owner: type[OwnerSide] | None = None
    node: type[NodeSide] | None = None
    ledger: type[Any] | None = None
    bags: type[Any] | None = None


class Step(NamedTuple):
    """Something that one node and the owner may do in any state of the rest of the world."""

    what: str
    cost: int
    honest: bool
    owner: int
    node: int
    posts: tuple[tuple[int, int], ...]
    """(where, message)."""
    clears: str = ""
    """Which queues of the node's channel are lost: "in", "out"."""
    quiet: int = 0
    """Only if nothing under way concerns this lease."""
    silent: bool = False
    """Only if nothing is under way to the owner."""
    untold: frozenset[int] = frozenset()
    """Only if the node is not being told already that these leases are not its own."""


@dataclass(slots=True)
class Pair:
    """What an owner and a node in these states can do, and what must be true of them together."""

    steps: list[Step] = field(default_factory=list)
    unrevoked: tuple[int, ...] = ()
    """Held, not the node's own, and no beat would bring that to light."""


class TinyWorld:
    def __init__(self, setting: Setting, parts: Parts | None = None) -> None:
        self.setting = setting
        parts = parts or Parts()
        self.peers = setting.nodes
        self.channel = setting.network is Network.CHANNEL
        self.owner = self._make_owner(parts)
        self.nodes = [self._make_node(parts, number) for number in range(self.peers)]
        for node in self.nodes:
            node.network_repeats = not self.channel
            node.refuses_repeats = not self.channel and setting.tree is not None
        self.owners, self.lives = Names(), Names()
        self.messages, self.queues, self.budgets = Names(), Names(), Names()
        self.owners(DONE), self.lives(DEAD), self.queues(())
        self._pairs: dict[tuple[int, int, int], Pair] = {}
        self._owner_steps: dict[int, list[Step]] = {}
        self._heard: dict[tuple[int, ...], tuple[int, tuple[tuple[int, int], ...]]] = {}
        self._pushed: dict[tuple[int, int], int] = {}
        self._spent: dict[int, tuple[int, ...]] = {}
        self._idle: dict[int, bool] = {}
        self._concerns: dict[tuple[int, tuple[str, ...]], frozenset[int]] = {}
        self._created: dict[int, frozenset[int]] = {}
        self._net = 2 + self.peers

    # ------------------------------------------------------------ what the search asks

    def first(self) -> State:
        owner = self.owners(self.owner.first())  # type: ignore[attr-defined]
        nodes = [self.lives(node.first()) for node in self.nodes]  # type: ignore[attr-defined]
        network = [0] * (2 * self.peers) if self.channel else [0]
        return (owner, self.budgets(self.setting.budgets), *nodes, *network)

    def steps(self, state: State) -> Iterator[tuple[State, bool, str]]:
        owner, budget = state[0], state[1]
        spent = self._spent.get(budget) or self._spend(budget)
        for n in range(self.peers):
            node = state[2 + n]
            pair = self._pairs.get((owner, n, node)) or self._pair(owner, n, node)
            if pair.unrevoked:
                self._check_unrevoked(state, n, pair.unrevoked)
            for step in pair.steps:
                after = budget if step.cost < 0 else spent[step.cost]
                if after < 0:
                    continue
                if step.quiet and not self._is_quiet(state, n, step.quiet):
                    continue
                if step.untold and self.channel and not self._is_news(state, n, step):
                    continue
                yield self._posted(state, after, n, step), step.honest, step.what
        for step in self._owner_steps.get(owner) or self._steps_of_owner(owner):
            after = budget if step.cost < 0 else spent[step.cost]
            if after >= 0:
                yield self._posted(state, after, OWNER, step), step.honest, step.what
        yield from self._deliveries(state) if self.channel else self._floating(state, spent)

    def is_end(self, state: State) -> bool:
        return state[0] == 0 and all(
            self._is_idle(n, node) for n, node in enumerate(state[2 : self._net])
        )

    def is_hopeless(self, state: State) -> bool:
        return not any(state[2 : self._net])

    # ------------------------------------------------------------ the sides

    def _make_owner(self, parts: Parts) -> OwnerSide:
        setting = self.setting
        owner: OwnerSide
        if setting.tree is not None:
            explore: Any = parts.owner or ExploreOwner
            owner = explore(self.peers, setting.tree)
        else:
            indexed: Any = parts.owner or IndexedOwner
            owner = indexed(
                self.peers,
                setting.items,
                released=setting.released,
                lease_items_max=setting.lease_items_max,
                whole_parts=setting.whole_parts,
            )
        if parts.ledger is not None:
            owner.ledger_type = parts.ledger  # type: ignore[attr-defined]
        return owner

    def _make_node(self, parts: Parts, number: int) -> NodeSide:
        setting = self.setting
        node: NodeSide
        if setting.tree is not None:
            explore: Any = parts.node or ExploreNode
            node = explore(number, self.peers, setting.workers, setting.tree)
        else:
            indexed: Any = parts.node or IndexedNode
            node = indexed(number, self.peers, setting.workers, chunk_items=setting.chunk_items)
        if parts.bags is not None:
            node.bags_type = parts.bags  # type: ignore[attr-defined]
        return node

    def _owner_does(self, owner: int, given: Input, what: str) -> tuple[int, list[Post]]:
        snapshot: Snapshot = self.owners.values[owner]
        after, posts = guarded(lambda: self.owner.apply(snapshot, given), what)
        return self.owners(after), posts

    def _node_does(self, n: int, node: int, given: Input, what: str) -> tuple[int, list[Post]]:
        snapshot: Snapshot = self.lives.values[node]
        after, posts = guarded(lambda: self.nodes[n].apply(snapshot, given), what)
        return self.lives(after), posts

    def _named(self, sender: int, posts: list[Post]) -> tuple[tuple[int, int], ...]:
        """Messages as numbers; where there are no queues a message knows its ends."""
        return tuple(
            (to, self.messages((sender, to, message) if not self.channel else message))
            for to, message in posts
        )

    def _is_idle(self, n: int, node: int) -> bool:
        idle = self._idle.get(node)
        if idle is None:
            snapshot = self.lives.values[node]
            idle = snapshot == DEAD or self.nodes[n].is_idle(snapshot)
            self._idle[node] = idle
        return idle

    # ------------------------------------------------------------ steps of a node and its owner

    def _pair(self, owner: int, n: int, node: int) -> Pair:
        pair = self._pairs[owner, n, node] = Pair()
        life = self.lives.values[node][0]
        mine = set(self.owner.holds(self.owners.values[owner], n))
        if life == "dead":
            if self.owners.values[owner] != DONE and not self._presumed_dead(owner, n):
                self._fence(pair, owner, n, node, "dies for its owner too", life="dead")
            else:
                self._run_out(pair, owner, n, node, mine, [])
            return pair
        if life == "up":
            self._trouble(pair, owner, n, node)
            self._beat(pair, owner, n, node, mine)
        else:
            self._comes_back(pair, owner, n, node, life)
        # Without a channel the commit that makes a bag known may be lost; the node finds out by
        # the answer to the next one. With a channel the first one is answered in any case.
        lossy = not self.channel and self.setting.tree is not None
        unknown = pair.unrevoked if lossy else ()
        for move in self.nodes[n].moves(self.lives.values[node]):
            after, posts = self._node_does(n, node, move.input, move.what)
            honest = move.honest and (not move.lid or move.lid in mine or move.lid in unknown)
            named = tuple(
                (where if where != OWNER else -1 - n, message)
                for where, message in self._named(n, posts)
            )
            pair.steps.append(Step(move.what, move.cost, honest, owner, after, named))
        if self.channel:
            self._check_containment(owner, n, node)
        return pair

    def _trouble(self, pair: Pair, owner: int, n: int, node: int) -> None:
        """What may befall a node that is well."""
        if self.owners.values[owner] == DONE:
            return
        crashed, _ = self._node_does(n, node, ("crash",), "")
        pair.steps.append(Step(f"{n} crashes", CRASH, False, owner, crashed, (), "in"))
        doubted, _ = self._node_does(n, node, ("drop", "up"), "")
        what = f"{n} gives its owner up"
        pair.steps.append(Step(what, DOUBT, False, owner, doubted, ()))
        if self.channel:
            doubted, _ = self._node_does(n, node, ("drop", "doubt"), "")
            what += " and forgets it"
            pair.steps.append(Step(what, DOUBT, False, owner, doubted, (), "in out"))
        if self._presumed_dead(owner, n):
            what = f"{n} refutes its death"
            after, posts = self._owner_does(owner, ("hear", n), what)
            pair.steps.append(Step(what, NO_COST, True, after, node, self._named(OWNER, posts)))
            return
        self._fence(pair, owner, n, node, "is taken for dead", life="up")
        if self.channel:
            self._fence(pair, owner, n, node, "is taken for dead and forgotten", life="cut")

    def _fence(self, pair: Pair, owner: int, n: int, node: int, what: str, *, life: str) -> None:
        what = f"{n} {what}"
        after, posts = self._owner_does(owner, ("fence", n, True), what)
        named = self._named(OWNER, posts)
        if life == "dead":
            pair.steps.append(Step(what, NO_COST, True, after, node, named, "in out"))
            return
        if life == "cut":
            node, _ = self._node_does(n, node, ("turn", life), what)
        clears = "in out" if life == "cut" else ""
        pair.steps.append(Step(what, SUSPECT, False, after, node, named, clears))

    def _comes_back(self, pair: Pair, owner: int, n: int, node: int, life: str) -> None:
        """A new connection: a side that was forgotten finds out by the other's new epoch."""
        if life == "cut":
            after, _ = self._node_does(n, node, ("drop", "up"), "")
            what = f"{n} hears that its owner has forgotten it"
            pair.steps.append(Step(what, NO_COST, True, owner, after, (), "out"))
            return
        after, _ = self._node_does(n, node, ("turn", "up"), "")
        what = f"the owner hears that {n} has forgotten it"
        fenced, posts = self._owner_does(owner, ("fence", n, False), what)
        named = self._named(OWNER, posts)
        pair.steps.append(Step(what, NO_COST, True, fenced, after, named, "in"))

    def _beat(self, pair: Pair, owner: int, n: int, node: int, mine: set[int]) -> None:
        """The node names what it holds; what it does not name runs out some time."""
        names = self.nodes[n].holds(self.lives.values[node])
        what = f"{n} beats"
        after, posts = self._owner_does(owner, ("renew", n, names), what)
        if posts:
            silent = not self.setting.beats_overtake
            named = self._named(OWNER, posts)
            news = frozenset(lid for _, message in posts for lid in message[1])
            step = Step(what, NO_COST, True, after, node, named, silent=silent, untold=news)
            pair.steps.append(step)
        told = {lid for _, message in posts for lid in message[1]}
        pair.unrevoked = tuple(lid for lid in names if lid not in mine and lid not in told)
        if self.owners.values[owner] == DONE:
            return
        self._run_out(pair, owner, n, node, mine, names)

    def _run_out(
        self, pair: Pair, owner: int, n: int, node: int, mine: set[int], names: list[int]
    ) -> None:
        for lid in sorted(mine):
            what = f"lease {lid_text(lid)} of {n} runs out"
            after, posts = self._owner_does(owner, ("expire", lid), what)
            named = self._named(OWNER, posts)
            pair.steps.append(Step(what, EXPIRE, False, after, node, named))
            if lid not in names and self.setting.backstop:
                pair.steps.append(Step(what, NO_COST, True, after, node, named, quiet=lid))

    def _presumed_dead(self, owner: int, n: int) -> bool:
        return self.owner.takes_for_dead(self.owners.values[owner], n)

    # ------------------------------------------------------------ steps of the owner alone

    def _steps_of_owner(self, owner: int) -> list[Step]:
        steps = self._owner_steps[owner] = []
        for move in self.owner.moves(self.owners.values[owner]):
            after, posts = self._owner_does(owner, move.input, move.what)
            named = self._named(OWNER, posts)
            steps.append(Step(move.what, move.cost, move.honest, after, -1, named))
        return steps

    # ------------------------------------------------------------ checks across the two sides

    def _check_containment(self, owner: int, n: int, node: int) -> None:
        """A node's end of a lease is never beyond the ledger's: it lowers its own first."""
        if self.setting.tree is not None or self.lives.values[node][0] != "up":
            return
        opened = self.owner.open_of(self.owners.values[owner], n)  # type: ignore[attr-defined]
        held = self.nodes[n].held_items(self.lives.values[node])  # type: ignore[attr-defined]
        for lid, items in held.items():
            if lid in opened and items & ~opened[lid]:
                beyond = items & ~opened[lid]
                raise Violation(f"{n} holds items {beyond:b} beyond its lease {lid_text(lid)}")

    def _check_unrevoked(self, state: State, n: int, lids: tuple[int, ...]) -> None:
        """A node that holds what is not its own must get to know it: by a beat, or by the answer to
        a commit that is under way."""
        if not self.channel:
            return  # a commit may be lost: then the answer to the next one says it
        to_owner = state[self._net + 2 * n]
        created = self._created.get(to_owner)
        if created is None:
            queue = self.queues.values[to_owner]
            created = frozenset(
                lid for message in queue for lid in created_by(self.messages.values[message])
            )
            self._created[to_owner] = created
        on_its_way = self._concerned(state[self._net + 2 * n + 1], "revoked", "closed")
        for lid in lids:
            if lid not in created and lid not in on_its_way and -1 not in on_its_way:
                raise Violation(f"{n} holds the stale lease {lid_text(lid)} and will never know")

    def _is_news(self, state: State, n: int, step: Step) -> bool:
        """Beats repeat themselves for ever; one answer to the same beat is enough."""
        to_owner, to_node = state[self._net + 2 * n : self._net + 2 * n + 2]
        if step.silent and to_owner:
            return False
        told = self._concerned(to_node, "revoked", "closed")
        return -1 not in told and not step.untold <= told

    def _is_quiet(self, state: State, n: int, lid: int) -> bool:
        """Nothing under way could still say something new about this lease."""
        if self.channel:
            at = self._net + 2 * n
            return not any(lid in self._concerned(state[q]) for q in (at, at + 1))
        owner, node, floating = state[0], state[2 + n], state[self._net]
        for number in _bits(floating):
            sender, to, message = self.messages.values[number]
            if sender == n and lid in _lids(message):
                if self._hears_owner(owner, n, number)[0] != owner:
                    return False
                continue
            comes = to == n and message[0] == "grant" and message[1] == lid
            if comes and lid not in self.lives.values[node][1]:
                return False
        return True

    def _concerned(self, queue: int, *kinds: str) -> frozenset[int]:
        """The leases that the messages of a queue speak of; -1 stands for all of them."""
        found = self._concerns.get((queue, kinds))
        if found is not None:
            return found
        messages = [self.messages.values[number] for number in self.queues.values[queue]]
        found = frozenset(
            lid
            for message in messages
            if not kinds or message[0] in kinds
            for lid in (_lids(message) or (-1,))
        )
        self._concerns[queue, kinds] = found
        return found

    # ------------------------------------------------------------ the network

    def _posted(self, state: State, budget: int, n: int, step: Step) -> State:
        after = list(state)
        after[0], after[1] = step.owner, budget
        if n >= 0:
            after[2 + n] = step.node
            if step.clears and self.channel:
                if "out" in step.clears:
                    after[self._net + 2 * n] = 0
                if "in" in step.clears:
                    after[self._net + 2 * n + 1] = 0
        self._post(after, step.posts)
        return tuple(after)

    def _post(self, after: list[int], posts: tuple[tuple[int, int], ...]) -> None:
        for to, message in posts:
            if to >= 0 and not after[2 + to]:
                continue  # to the dead
            if self.channel:
                at = self._net + 2 * to + 1 if to >= 0 else self._net - 2 * (to + 1)
                queue = after[at]
                pushed = self._pushed.get((queue, message))
                if pushed is None:
                    pushed = self.queues((*self.queues.values[queue], message))
                    self._pushed[queue, message] = pushed
                after[at] = pushed
            else:
                after[self._net] |= 1 << message

    def _deliveries(self, state: State) -> Iterator[tuple[State, bool, str]]:
        for n in range(self.peers):
            at, life = self._net + 2 * n, self.lives.values[state[2 + n]][0]
            if state[at] and life in ("up", "dead"):
                head, *tail = self.queues.values[state[at]]
                owner, posts = self._hears_owner(state[0], n, head)
                after = list(state)
                after[0], after[at] = owner, self.queues(tuple(tail))
                self._post(after, posts)
                yield tuple(after), True, f"owner hears {text_of(self.messages.values[head])}"
            if state[at + 1] and life == "up":
                head, *tail = self.queues.values[state[at + 1]]
                node, posts = self._hears_node(n, state[2 + n], head)
                after = list(state)
                after[2 + n], after[at + 1] = node, self.queues(tuple(tail))
                self._post(after, posts)
                yield tuple(after), True, f"{n} hears {text_of(self.messages.values[head])}"

    def _floating(self, state: State, spent: tuple[int, ...]) -> Iterator[tuple[State, bool, str]]:
        keeping = self.setting.network is Network.KEEPING
        for number in _bits(state[self._net]):
            sender, to, message = self.messages.values[number]
            text = text_of(message)
            if spent[LOSS] >= 0:
                lost = list(state)
                lost[1] = spent[LOSS]
                lost[self._net] &= ~(1 << number)
                yield tuple(lost), False, f"{text} is lost"
            after = list(state)
            if to == OWNER:
                after[0], posts = self._hears_owner(state[0], sender, number)
                text = f"owner hears {text}"
            elif state[2 + to]:
                after[2 + to], posts = self._hears_node(to, state[2 + to], number)
                text = f"{to} hears {text}"
            else:
                continue
            if not keeping:
                after[self._net] &= ~(1 << number)
            self._post(after, posts)
            yield tuple(after), True, text
            if not keeping and spent[REPEAT] >= 0:
                after[1] = spent[REPEAT]
                after[self._net] |= 1 << number
                yield tuple(after), False, text + " (and will again)"

    def _hears_owner(
        self, owner: int, n: int, message: int
    ) -> tuple[int, tuple[tuple[int, int], ...]]:
        key = (owner, n, message, 0)
        found = self._heard.get(key)
        if found is None:
            said = self._said(message)
            after, posts = self._owner_does(
                owner, ("told", n, said), f"owner hears {text_of(said)}"
            )
            found = self._heard[key] = after, self._named(OWNER, posts)
        return found

    def _hears_node(
        self, n: int, node: int, message: int
    ) -> tuple[int, tuple[tuple[int, int], ...]]:
        key = (node, n, message, 1)
        found = self._heard.get(key)
        if found is None:
            said = self._said(message)
            after, posts = self._node_does(n, node, ("told", said), f"{n} hears {text_of(said)}")
            found = self._heard[key] = after, self._named(n, posts)
        return found

    def _said(self, number: int) -> Message:
        message: Message = self.messages.values[number]
        return message if self.channel else message[2]

    def _spend(self, budget: int) -> tuple[int, ...]:
        """Budget number after spending one of each kind; -1 where nothing is left."""
        left = self.budgets.values[budget]
        spent = tuple(
            self.budgets((*left[:kind], left[kind] - 1, *left[kind + 1 :])) if left[kind] else -1
            for kind in range(len(left))
        )
        self._spent[budget] = spent
        return spent


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _lids(message: Message) -> tuple[int, ...]:
    """The leases that a message speaks of."""
    kind, *rest = message
    if kind in ("grant", "report"):
        return (rest[0],)
    if kind == "commit":
        return (rest[0], *created_by(message))
    if kind in ("split", "returned"):
        return tuple(part[0] if isinstance(part, tuple) else part for part in rest[0])
    return tuple(rest[0]) if kind == "revoked" else ()


__all__ = ["TWIG", "Network", "Parts", "Setting", "TinyWorld"]
