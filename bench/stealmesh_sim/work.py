"""What virtual jobs consist of: what an item costs, how it ends, and what must come out.

Decides nothing. Items are plain numbers. Their cost, their results and the trees of explore jobs are
pure functions of a seed, so that a checker knows of every blob whether it is right.

A result blob names exactly the items that it covers, with a fingerprint of them; an explore
partial is a count and a sum over the visited tree nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, log
from typing import Final

from msgspec import msgpack

from stealmesh_engine.effects import Deliver, InputFailed, InputWithdrawn, RunChunk
from stealmesh_protocol.ids import digest_of
from stealmesh_protocol.messages import JobKind, JobSpec
from stealmesh_protocol.values import RAISED, UNLOADABLE, Failure, pack_again, pack_outcomes

CODEC = 200
"""The codec number of virtual results; no real codec has it."""
_MASK: Final = (1 << 64) - 1
PRIME = (1 << 61) - 1
ITEM_SECONDS_MAX = 3.0


def mix(seed: int, number: int) -> int:
    """64 random bits (splitmix64), the same on every machine and under every hash seed."""
    z = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x8CB92BA72F3D8DD7) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def share(seed: int, number: int) -> float:
    """A number in (0, 1]."""
    return ((mix(seed, number) >> 11) + 1) / (1 << 53)


@dataclass(slots=True)
class CostLaw:
    """What each item costs: `const`, `exponential`, `pareto`, `skewed` (1 % has half of all) or
    `turning` (next to nothing, but from the item `turn` on five times the mean)."""

    name: str = "const"
    mean_seconds: float = 0.01
    seed: int = 0
    turn: int = 0

    def seconds(self, item: int) -> float:
        if self.name == "const":
            return self.mean_seconds
        if self.name == "turning":
            return self.mean_seconds * (5.0 if item >= self.turn else 0.0001)
        luck = share(self.seed, item)
        if self.name == "exponential":
            return -log(luck) * self.mean_seconds
        if self.name == "pareto":
            seconds: float = luck ** (-1 / 1.5) / 3 * self.mean_seconds
            return min(seconds, ITEM_SECONDS_MAX)
        assert self.name == "skewed"
        return min(self.mean_seconds * (50.0 if luck < 0.01 else 0.5), ITEM_SECONDS_MAX)

    def total(self, lo: int, hi: int) -> float:
        if self.name == "const":
            return (hi - lo) * self.mean_seconds
        return sum(map(self.seconds, range(lo, hi)))


@dataclass(slots=True)
class VirtualTree:
    """A tree that grows while it is searched; a node is (name, depth)."""

    seed: int
    depth_max: int = 8
    branching: int = 4

    def root(self) -> tuple[int, int]:
        return mix(self.seed, 0), 0

    def children(self, node: tuple[int, int]) -> list[tuple[int, int]]:
        name, depth = node
        if depth >= self.depth_max:
            return []
        count = self.branching if depth < 2 else mix(name, 1) % (self.branching + 1)
        return [(mix(name, 2 + number), depth + 1) for number in range(count)]

    def totals(self, most: int = 1 << 30) -> tuple[int, int]:
        """Nodes and the sum over their names, by plain search; gives up above `most` nodes."""
        count, total, stack = 0, 0, [self.root()]
        while stack and count < most:
            node = stack.pop()
            count += 1
            total += node[0]
            stack.extend(self.children(node))
        return count, total % PRIME


@dataclass(slots=True)
class Work:
    """One job as its workers and its checkers know it."""

    number: int
    spec: JobSpec
    total: int = 0
    law: CostLaw = field(default_factory=CostLaw)
    tree: VirtualTree | None = None
    expected: tuple[int, int] = (0, 0)
    """What an explore job must come to."""
    function: bytes = b""
    combine: bytes = b""
    killers: dict[int, int] = field(default_factory=dict)
    """Item (explore: number of the visit, from 1) → how often it will kill its worker."""
    failing: frozenset[int] = frozenset()
    endless: frozenset[int] = frozenset()
    again: dict[int, list[float]] = field(default_factory=dict)
    """Item → what it says each time that it runs, before it has a result: it is to be put off for this many
    seconds or, below zero, it failed."""
    visits: int = 0
    lent_twice: bool = False
    """Its last stragglers may run twice."""
    module: str = ""
    """The module that a node must have to run it; empty: none."""
    needy: frozenset[int] | None = None
    """Only these items need the module, and fail while they run. None: the function cannot even be
    loaded without it. (Explore: any set means that a visit fails.)"""

    def seconds(self, lo: int, hi: int) -> float:
        if self.endless and any(lo <= item < hi for item in self.endless):
            return inf
        return self.law.total(lo, hi)

    @property
    def ideal_seconds(self) -> float:
        """Seconds for all of it on one worker."""
        if self.tree is not None:
            return self.expected[0] * self.law.mean_seconds
        patience = self.spec.timeout * len(self.endless)
        return patience + self.law.total(0, self.total) - sum(map(self.law.seconds, self.endless))

    def fingerprint(self, lo: int, hi: int) -> int:
        """The sum of the squares of the items: a missing or doubled one shows."""
        below = (hi - 1) * hi * (2 * hi - 1) // 6 - (lo - 1) * lo * (2 * lo - 1) // 6
        return (below + self.number) % PRIME

    def result(self, lo: int, hi: int) -> bytes:
        return msgpack.encode((self.number, lo, hi, self.fingerprint(lo, hi)))

    def goes_to(self, chunk: RunChunk, lo: int, hi: int) -> int:
        """How far a worker gets with the items [lo, hi) of this chunk, before one lacks what another was to make."""
        del chunk, lo
        return hi

    def outcome(self, chunk: RunChunk, lo: int, hi: int) -> tuple[int, bytes, int]:
        """What a worker says of these items of its chunk: codec, blob, and how many failed."""
        del chunk
        return CODEC, self.result(lo, hi), self.failures(lo, hi)

    def judge(self, effect: Deliver) -> bool:
        """Does it know itself what a right result is? Then it raises Breach for a wrong one."""
        del effect
        return False

    def spared(self, effect: InputFailed | InputWithdrawn) -> None:
        """Items do not run because of what goes into them."""
        raise AssertionError("nothing goes into its items")

    def fault_of_inputs(self, chunk: RunChunk, base: int) -> str:
        """What is wrong with the blocks of this chunk."""
        upto = chunk.lo
        for block, blob in chunk.blocks:
            if msgpack.decode(blob) != [self.number, base + block.lo, base + block.hi]:
                return f"the block at {block.lo} has other items"
            if block.lo <= upto:
                upto = max(upto, block.hi)
        return "" if upto >= chunk.hi else f"no input for {upto} to {chunk.hi}"

    def lacked(self, module_lacks: frozenset[str], lo: int, hi: int) -> int:
        """How many of these items fail on a machine that lacks these modules."""
        if self.module not in module_lacks:
            return 0
        count = hi - lo if self.needy is None else sum(lo <= item < hi for item in self.needy)
        return min(count, 1) if self.spec.kind is JobKind.REDUCE else count

    def failures(self, lo: int, hi: int) -> int:
        found = sum(1 for item in self.failing if lo <= item < hi)
        return min(found, 1) if self.spec.kind is JobKind.REDUCE else found


def lacking_blob(module: str, count: int) -> bytes:
    """The outcomes of `count` items on a worker that lacks the module."""
    text = f"module {module!r} is not importable"
    failures = [Failure(offset, UNLOADABLE, text=text) for offset in range(count)]
    return pack_outcomes(None, failures)[1]


def again_part(work: Work, item: int) -> bytes:
    """What the worker says of an item that is to run again; it says the next thing next time."""
    seconds = work.again[item].pop(0)
    return pack_again(seconds, Failure(0, RAISED, text=f"item {item} is not ready"))[1]


def function_blob(name: str) -> tuple[bytes, bytes]:
    """A shipped function: its bytes and its digest."""
    blob = b"function " + name.encode()
    return blob, digest_of(blob)


def block_blob(number: int, lo: int, hi: int) -> bytes:
    """The input items [lo, hi) of a block-fed job."""
    return msgpack.encode((number, lo, hi))
