"""Accounts of durable explore jobs: a copy has one of them, whole, whatever it hears."""

from __future__ import annotations

from itertools import count, pairwise
from random import Random

import pytest
from msgspec.structs import replace

from stealmesh_engine.durable.bag_ledger import NumberedBags
from stealmesh_engine.durable.bag_replica import BagReplica, replica_of
from stealmesh_engine.durable.replica import Replica
from stealmesh_engine.ledger.explore import CommittedStep
from stealmesh_engine.ledger.verdicts import Stale, Stepped
from stealmesh_protocol.messages import Block, JobKind, JobSpec, Keep, Kept, Lease, Part, Reign

A, B = b"a" * 16, b"b" * 16
SPEC = JobSpec(A + b"\0\0\0\1", JobKind.EXPLORE, A, "search", A, A, term=16)
TREE = 400


class Leader:
    """A primary that divides bags of numbers: a bag of [lo, hi) is visited from the front."""

    def __init__(self, peer: bytes, term: int, former: BagReplica | None = None) -> None:
        self.reign = Reign(term, 1, peer, [(peer, peer)])
        self.replica = BagReplica(SPEC, self.reign)
        for page in () if former is None else former.pages():
            self.replica.join(page)
        self.number = 0

    def roots(self) -> Keep:
        self.replica.add_block(Block(0, TREE, 0), b"0-%d" % TREE)
        self.replica.close()
        return self.word([(Block(0, TREE, 0), b"0-%d" % TREE)], [])

    def step(self, rng: Random) -> Keep | None:
        """Visit some of a bag, and leave or split off the rest. None: there is no bag."""
        bags = list(self.replica.blocks)
        if not bags:
            return None
        block, items = rng.choice(bags)
        lo, hi = map(int, items.split(b"-"))
        at = min(hi, lo + rng.randint(1, 40))
        cut = rng.randint(at, hi)
        total, made = self.replica.total, []
        for some in ((at, cut), (cut, hi)):
            size = some[1] - some[0]
            if size:
                made.append((Block(total, total + size, 0), b"%d-%d" % some))
                total += size
        part = Part(1, block.lo, block.hi, 0, 0.0)
        added = self.replica.step(made, part, b"%d-%d" % (lo, at), at - lo)
        return self.word(made, added.results)

    def word(self, blocks: list[tuple[Block, bytes]], results: list[tuple[Kept, bytes]]) -> Keep:
        self.number += 1
        keep = self.replica.header(self.number)
        keep = replace(keep, reign=self.reign)
        keep.blocks = [block for block, _ in blocks]
        keep.results = [kept for kept, _ in results]
        keep.blobs = [blob for _, blob in (*blocks, *results)]
        self.replica.stamp(keep)
        return keep


def adds_up(replica: BagReplica) -> None:
    """Every number of the tree is visited or in a bag, and none is twice."""
    if not replica.total:
        return
    parts = [blob for _, blob in replica.blocks]
    parts += [blob for _, blob in replica._results_in(None) if blob]
    seen = sorted(tuple(map(int, part.split(b"-"))) for part in parts)
    assert seen[0][0] == 0
    assert seen[-1][1] == TREE
    assert all(one[1] == other[0] for one, other in pairwise(seen))
    replica.audit()
    assert not replica.unbacked


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_copy_hears_it_has_one_account_that_adds_up(seed: int) -> None:
    """Two leaders went on from one account. A copy hears words and pages of both, some lost, some twice."""
    rng = Random(seed)
    first = Leader(A, 16)
    words = [first.roots()]
    words += [word for word in (first.step(rng) for _ in range(6)) if word is not None]
    second = Leader(B, 33, first.replica)
    said: list[list[Keep]] = [words, []]
    for number, leader in enumerate((first, second)):
        for _ in range(30):
            word = leader.step(rng)
            if word is not None:
                said[number].append(word)
            if rng.random() < 0.2:
                said[number] += list(leader.replica.pages())
    copy = BagReplica(SPEC, first.reign)
    stream = [list(each) for each in said]
    while any(stream):
        words = rng.choice([each for each in stream if each])
        keep = words.pop(0)
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            copy.join(keep)
            adds_up(copy)


def test_a_word_that_does_not_follow_is_not_joined() -> None:
    rng = Random(1)
    leader = Leader(A, 16)
    words = [leader.roots(), leader.step(rng), leader.step(rng)]
    copy = BagReplica(SPEC, leader.reign)
    for word in (words[0], words[2]):  # a log has lost a record
        assert word is not None
        copy.join(word)
    assert copy.at == (16, A, 1)
    adds_up(copy)


def test_a_copy_that_has_only_heard_of_an_account_knows_that_it_lacks_it() -> None:
    rng = Random(1)
    leader = Leader(A, 16)
    leader.roots()
    word = leader.step(rng)
    assert word is not None
    copy = BagReplica(SPEC, leader.reign)
    copy.join(word)
    assert (copy.total, copy.unbacked) == (0, [(0, 1)])
    for page in leader.replica.pages():
        copy.join(page)
    adds_up(copy)
    assert copy.at == leader.replica.at


def test_an_account_that_is_over_holds() -> None:
    rng = Random(1)
    first = Leader(A, 16)
    first.roots()
    second = Leader(B, 33, first.replica)
    while first.step(rng) is not None:
        pass
    second.step(rng)
    assert first.replica.ended
    assert first.replica.rank > second.replica.rank
    for page in second.replica.pages():
        first.replica.join(page)
    assert first.replica.ended
    for page in first.replica.pages():
        assert second.replica.takes(page)
        added = second.replica.join(page)
    assert added.replaced
    assert second.replica.ended
    adds_up(second.replica)


def test_grants_of_two_ledgers_of_a_peer_never_have_one_name() -> None:
    """A step that was said for the first is told apart from one for the second, which began anew."""
    grants = count(1).__next__
    bag = [(Block(0, 9, 0), b"roots")]
    before, after = (NumberedBags(bag, 9, 0, grants) for _ in range(2))
    ledgers = [(ledger, ledger.lease(A, 9.0)) for ledger in (before, after)]
    lids = [taken[0].lid for _, taken in ledgers if taken is not None]
    assert lids[0] != lids[1]
    verdict = after.commit(A, lids[0], CommittedStep(1, 9, 0, b"", [], 9.0))
    assert isinstance(verdict, Stale)


@pytest.mark.parametrize("kept", [True, False])
def test_a_step_uses_up_the_numbers_of_its_bag_and_numbers_what_it_makes(kept: bool) -> None:
    ledger = NumberedBags([(Block(0, 4, 0), b"roots")], 4, 0, count(1).__next__)
    taken = ledger.lease(A, 9.0)
    assert taken is not None
    lid = taken[0].lid
    split_off = [(Lease(lid + 1, 0, 5), b"child")]
    step = ledger.commit(A, lid, CommittedStep(1, 2, 3, b"rest", split_off, 9.0, kept=kept))
    assert isinstance(step, Stepped)
    assert step.intervals == [(0, 4)]
    assert step.made == [(Block(4, 9, 0), b"child"), (Block(9, 12, 0), b"rest")]
    ledger.audit()
    ledger.fence(A)
    ledger.audit()
    assert not ledger.leases


def test_each_kind_of_job_has_its_kind_of_copy() -> None:
    reign = Reign(16, 1, A, [])
    assert isinstance(replica_of(SPEC, reign), BagReplica)
    assert type(replica_of(replace(SPEC, kind=JobKind.MAP), reign)) is Replica
