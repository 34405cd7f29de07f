"""What a holder has: the front for its workers, the back for thieves, and nothing twice."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stealmesh_engine.holding.bags import Cut
from stealmesh_engine.holding.explore_bags import ExploreBags
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_protocol.ids import child_lease, granted_lease, job_id
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Lease

OWNER = b"o" * 16
RANGE = JobSpec(job_id(OWNER, 1), JobKind.MAP, OWNER, "range", b"f", step=1)
BLOCKS = JobSpec(job_id(OWNER, 2), JobKind.MAP, OWNER, "blocks", b"f")
EXPLORE = JobSpec(job_id(OWNER, 3), JobKind.EXPLORE, OWNER, "explore", b"f")


class BagsAgainstItems(RuleBasedStateMachine):
    """The model is a list of untouched and a list of busy items, lease by lease."""

    @initialize()
    def begin(self) -> None:
        self.bags = IndexedBags(RANGE)
        self.untouched: dict[int, list[int]] = {}
        self.busy: dict[int, list[int]] = {}
        self.unwanted: set[tuple[int, int]] = set()
        """What was withdrawn while a worker had it."""
        self.chunks: list[tuple[int, int, int]] = []
        self.count = 0

    def tidy(self) -> None:
        for lid in [
            lid for lid in self.untouched if not self.untouched[lid] and not self.busy[lid]
        ]:
            del self.untouched[lid], self.busy[lid]

    @rule(items=st.integers(1, 8))
    def receive(self, items: int) -> None:
        self.count += 1
        lid, lo = granted_lease(self.count), 10 * self.count
        assert self.bags.receive(Lease(lid, lo, lo + items))
        self.untouched[lid], self.busy[lid] = list(range(lo, lo + items)), []

    @precondition(lambda self: self.untouched)
    @rule(data=st.data())
    def refuse(self, data: Any) -> None:
        """What is here already, or empty."""
        lid = data.draw(st.sampled_from(sorted(self.untouched)))
        assert not self.bags.receive(Lease(lid, 0, 5))
        assert not self.bags.receive(Lease(granted_lease(999), 5, 5))

    @rule(items=st.integers(1, 6))
    def cut(self, items: int) -> None:
        cut = self.bags.cut(items)
        lid = next((lid for lid, some in self.untouched.items() if some), None)
        if lid is None:
            assert cut is None
            return
        assert cut is not None
        some = self.untouched[lid]
        expected = [some[0]]
        while len(expected) < items and expected[-1] + 1 in some:
            expected.append(expected[-1] + 1)
        assert (cut.lid, list(range(cut.lo, cut.hi))) == (lid, expected)
        self.untouched[lid] = [i for i in some if i not in expected]
        self.busy[lid] += expected
        self.chunks.append((lid, cut.lo, cut.hi))

    @precondition(lambda self: self.chunks)
    @rule(data=st.data(), back=st.booleans())
    def end_chunk(self, data: Any, back: bool) -> None:
        at = data.draw(st.integers(0, len(self.chunks) - 1))
        lid, lo, hi = self.chunks.pop(at)
        known = lid in self.untouched
        assert (self.bags.put_back if back else self.bags.finish)(lid, lo, hi) == known
        if known:
            self.busy[lid] = [i for i in self.busy[lid] if not lo <= i < hi]
            if back:
                wanted = [i for i in range(lo, hi) if (lid, i) not in self.unwanted]
                self.untouched[lid] = sorted([*self.untouched[lid], *wanted])
        self.tidy()

    @rule(items=st.integers(1, 12))
    def give(self, items: int) -> None:
        before = {lid: set(some) for lid, some in self.untouched.items()}
        parts = self.bags.give(items)
        given = [(part.lid, i) for part in parts for i in range(part.lo, part.hi)]
        assert len(given) == min(items, sum(map(len, before.values())))
        assert len(set(given)) == len(given)
        for lid, item in given:
            assert item in before[lid]
            self.untouched[lid].remove(item)
        kept = [(lid, i) for lid, some in self.untouched.items() for i in some]
        order = {lid: at for at, lid in enumerate(before)}
        for lid, item in given:  # from the back: nothing that is kept lies behind what is given
            assert all((order[k], i) < (order[lid], item) for k, i in kept)
        self.tidy()

    @precondition(lambda self: self.untouched)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        lid = data.draw(st.sampled_from(sorted(self.untouched)))
        assert self.bags.drop(lid)
        assert not self.bags.drop(lid)
        del self.untouched[lid], self.busy[lid]
        self.chunks = [chunk for chunk in self.chunks if chunk[0] != lid]

    @rule(lo=st.integers(0, 60), items=st.integers(0, 20))
    def withdraw(self, lo: int, items: int) -> None:
        self.bags.withdraw(lo, lo + items)
        for lid, some in self.untouched.items():
            self.untouched[lid] = [i for i in some if not lo <= i < lo + items]
            self.unwanted.update((lid, i) for i in self.busy[lid] if lo <= i < lo + items)
        self.tidy()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "bags"):
            return
        self.bags.audit()
        found = {
            lid: [i for part in held.untouched for i in range(*part)]
            for lid, held in self.bags.leases.items()
        }
        assert found == self.untouched
        assert {lid: held.busy for lid, held in self.bags.leases.items()} == {
            lid: len(some) for lid, some in self.busy.items()
        }
        assert self.bags.queued_items == sum(map(len, self.untouched.values()))
        assert self.bags.empty == (not self.untouched)


TestBagsAgainstItems = BagsAgainstItems.TestCase
TestBagsAgainstItems.settings = settings(max_examples=150, stateful_step_count=40)


def test_a_chunk_comes_with_the_blocks_that_hold_it() -> None:
    bags = IndexedBags(BLOCKS)
    for lo in (0, 10, 20):
        bags.inputs.add(Block(lo, lo + 10, 0), b"%d" % lo)
    bags.receive(Lease(granted_lease(1), 5, 25))
    assert bags.cut(3) == Cut(granted_lease(1), 5, 8, [(Block(0, 10, 0), b"0")])
    cut = bags.cut(10)
    assert cut is not None
    assert [blob for _, blob in cut.blocks] == [b"0", b"10"]


def test_blocks_go_with_the_last_lease() -> None:
    bags = IndexedBags(BLOCKS)
    bags.inputs.add(Block(0, 10, 0), b"0")
    bags.receive(Lease(granted_lease(1), 0, 10))
    bags.cut(10)
    bags.finish(granted_lease(1), 0, 10)
    assert bags.empty
    assert not bags.inputs


def test_blocks_that_no_lease_spans_are_swept_when_they_pile_up() -> None:
    bags = IndexedBags(BLOCKS)
    for n in range(40):
        bags.inputs.add(Block(n, n + 1, 0), b"x")
        bags.receive(Lease(granted_lease(n + 1), n, n + 1))
    while len(bags.leases) > 2:
        cut = bags.cut(1)
        assert cut is not None
        assert len(cut.blocks) == 1  # what is still to be done is still there
        bags.finish(cut.lid, cut.lo, cut.hi)
    assert len(bags.inputs) <= 12


# ---------------------------------------------------------------- explore


def explore(*sizes: int) -> ExploreBags:
    bags = ExploreBags(EXPLORE)
    for number, size in enumerate(sizes, 1):
        bags.receive(Lease(granted_lease(number), 0, size), bytes(size))
    return bags


def test_workers_get_the_newest_bag_thieves_the_oldest() -> None:
    bags = explore(3, 4, 5)
    cut = bags.cut(1)
    assert cut is not None
    assert cut.lid == granted_lease(3)
    assert bags.give(1) == [Lease(granted_lease(1), 0, 3)]
    assert bags.queued_items == 4


def test_a_bag_that_runs_is_not_given() -> None:
    bags = explore(3)
    bags.cut(1)
    assert bags.give(99) == []
    assert bags.cut(1) is None
    assert bags.put_back(granted_lease(1), 0, 0)
    assert bags.give(99) == [Lease(granted_lease(1), 0, 3)]


def test_bags_are_given_whole_until_it_is_enough() -> None:
    bags = explore(3, 3, 3)
    assert [part.lid for part in bags.give(4)] == [granted_lease(1), granted_lease(2)]


def test_steps_are_numbered_and_end_with_nothing_left() -> None:
    bags = explore(3)
    bags.cut(1)
    lid = granted_lease(1)
    assert [bags.step(lid, 2, b"ab"), bags.step(lid, 1, b"a"), bags.step(lid, 0, b"")] == [1, 2, 3]
    assert bags.empty
    assert bags.step(lid, 5, b"abcde") == 0


def test_children_have_names_that_nobody_else_can_choose() -> None:
    bags = explore(3, 3)
    one, sibling = bags.spawn(granted_lease(1), [(2, b"ab"), (1, b"x")])
    (two,) = bags.spawn(one.lid, [(1, b"c")])
    (other,) = bags.spawn(granted_lease(2), [(1, b"d")])
    assert one.lid == child_lease(granted_lease(1), 1)
    assert sibling.lid == child_lease(granted_lease(1), 2)
    assert two.lid == child_lease(granted_lease(1), 3)
    assert other.lid == child_lease(granted_lease(2), 1)


def test_confused_grants_are_refused() -> None:
    bags = explore(3)
    assert not bags.receive(Lease(granted_lease(1), 0, 1), b"x")
    assert not bags.receive(Lease(granted_lease(7), 0, 0), b"")
    bags.audit()
