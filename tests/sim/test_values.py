"""Values that live on the mesh: a chunk runs where its values are whole, copies spread in a tree, and go.

Each story is told in a virtual mesh; random worlds play them with deaths, cuts, steals and cancels; and each
rule has a mutant that a world notices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.config import Config
from stealmesh_engine.data.copies import AGAIN_SECONDS, STALLED_SECONDS, Copies
from stealmesh_engine.data.directory import Account, Directory
from stealmesh_engine.data.stored import NothingNeeded, Stored
from stealmesh_engine.events import ReleaseValue
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_engine.holding.needed_here import NeededHere
from stealmesh_engine.holding.shortage import Shortage
from stealmesh_engine.holding.stock import Stock
from stealmesh_protocol.messages import JobKind, ValueAt, ValueDrop, ValueSeek
from stealmesh_protocol.values import VALUE_LOST, failures_of
from stealmesh_sim import random_worlds
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw, VirtualTree

from .scenes import FINE, Scene, must_notice, scene

KINDS = [JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT, JobKind.EXPLORE]
LARGE = 3_000_000


def needy(
    told: Scene, kind: JobKind = JobKind.MAP, items: int = 60, **more: object
) -> VirtualProgram:
    """A job whose items need values; all of it is released when it is done."""
    tree = VirtualTree(5, 6, 4) if kind is JobKind.EXPLORE else None
    law = more.pop("law", FINE)
    more.setdefault("values", 3)
    wish = Wish(kind, items, law, told.world.now, fed=True, block_items=5, tree=tree, **more)  # type: ignore[arg-type]
    return told.submit(wish)


def nothing_is_left(told: Scene) -> None:
    told.finish()
    keeping = told.world.checkers.values.still_keeping
    told.until(lambda: not keeping(told.client.member.id), within=5.0)


def test_what_is_needed_anew_is_asked_for_anew() -> None:
    """In one step a node hears that a value goes, and gets an item that needs it: the owner makes it again. The item is
    not lost. (World 1898 of graphs: a line stood still between the two.)"""
    told = scene(1)
    copies, owner = told.nodes[0].core.values.copies, told.client.member.id
    gone, other = owner + bytes(7) + b"\x01", owner + bytes(7) + b"\x02"
    for value in (gone, other):
        copies.stored.add(value, 10)
        copies.dropped(owner, ValueDrop(value), told.world.now)
    copies.want((gone,))
    assert gone in copies.fetches
    news = told.nodes[0].core.values.take_news()
    assert list(news) == [other]
    copies.fetches.clear()
    told.nodes[0].core.effects.clear()


def test_a_link_that_brings_nothing_for_too_long_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its other end may have given it up, and we have not heard of it. (World 1820 of graphs.)"""
    told = scene(2)
    (node, source), owner = told.nodes, told.client.member.id
    core, now = node.core, told.world.now
    renewed: list[bytes] = []
    monkeypatch.setattr(core.links, "renew", lambda peer, now: renewed.append(peer))
    core.values.copies.want((owner + bytes(8),))
    fetch = core.values.copies.fetches[owner + bytes(8)]
    fetch.asked_at = now
    fetch.take_from(source.member.id, now)
    core.values.copies.beat(now + 0.9 * STALLED_SECONDS, 60.0)
    assert renewed == []
    core.values.copies.beat(now + STALLED_SECONDS, 60.0)
    assert renewed == [source.member.id]
    core.values.copies.fetches.clear()
    core.effects.clear()


def sent(told: Scene) -> list[int]:
    """How often the client, then each node, has sent pieces, in octets of values."""
    return [process.shelf.sent for process in (told.client, *told.nodes)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function_needs", [0, 2])
def test_a_chunk_runs_where_its_values_are(kind: JobKind, function_needs: int) -> None:
    """The checkers look into the shelf of each node that hands a chunk to a worker."""
    if kind is JobKind.EXPLORE and not function_needs:
        function_needs = 1
    told = scene(3)
    needy(told, kind, function_needs=function_needs)
    nothing_is_left(told)
    assert told.world.checkers.values.needed > 5


def test_a_value_goes_in_a_tree() -> None:
    """Sixteen nodes need it; its owner sends it twice or so, and no link carries more than a few copies."""
    told = scene(16)
    needy(told, JobKind.SUBMIT, items=96, values=1, value_octets=LARGE, law=CostLaw("const", 0.2))
    nothing_is_left(told)
    assert sum(told.counted("values-fetched", node) for node in told.nodes) == 16
    octets = sent(told)
    assert sum(octets) == 16 * LARGE
    assert octets[0] <= 4 * LARGE


def test_neighbours_hand_a_value_over() -> None:
    """On one host nothing is sent, and each node has a copy."""
    told = scene(4, one_host=True)
    needy(told, JobKind.SUBMIT, items=24, values=1, value_octets=LARGE, law=CostLaw("const", 0.2))
    nothing_is_left(told)
    assert sum(sent(told)) == 0
    assert sum(node.shelf.adopted for node in told.nodes) == 4


def test_a_neighbour_that_hands_nothing_over_sends_pieces() -> None:
    told = scene(2, one_host=True)
    told.world.shelf_of = lambda peer: None  # type: ignore[method-assign]
    needy(told, JobKind.SUBMIT, values=1, value_octets=LARGE)
    nothing_is_left(told)
    assert sum(sent(told)) == 2 * LARGE


def test_items_without_values_run_while_others_wait() -> None:
    told = scene(1)
    plain = told.map(40)
    program = needy(told, JobKind.SUBMIT, value_octets=LARGE, items=10)
    nothing_is_left(told)
    assert plain.done
    assert program.done


def test_a_copy_whose_node_dies_is_replaced_by_another() -> None:
    """The node that most take from is killed while they do."""
    told = scene(6)
    program = needy(
        told,
        JobKind.SUBMIT,
        items=60,
        values=1,
        value_octets=16_000_000,
        law=CostLaw("const", 0.1),
    )
    accounts = told.client.core.values.directory.accounts
    (account,) = [accounts[value] for value in program.values]
    told.until(lambda: len(account.copies) > 1 and len(account.taking) > 1)
    source = next(peer for peer in account.taking.values() if peer != told.client.member.id)
    victim = next(node for node in told.nodes if node.member.id == source)
    told.world.crash(victim)
    nothing_is_left(told)


def test_a_copy_of_the_dead_is_not_waited_for() -> None:
    """Once: the taker had heard of the death before its program, which named the dead node: ten seconds went by."""
    told = scene(3)
    program = needy(
        told, JobKind.SUBMIT, items=60, values=1, value_octets=1_000_000, law=CostLaw("const", 0.1)
    )
    (value,) = program.values
    told.until(lambda: all(value in node.core.values.copies.whole for node in told.nodes))
    taker, victim, _ = told.nodes
    told.world.crash(victim)
    told.until(lambda: taker.core.view.is_dead(victim.member.id))
    asked: list[ValueSeek] = []
    taker.core.values.copies.stored.remove(value)
    taker.core.values.copies.want((value,))
    links, owner = taker.core.links, told.client.member.id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links.sending, "send", lambda peer, message, now: asked.append(message))
        taker.core.values.copies.start(told.world.now)
        for _ in range(3):  # it has yet to hear of the death
            here = ValueAt(value, 1_000_000, victim.member.id, 0)
            taker.core.values.copies.located(owner, here, told.world.now)
    assert [each.avoid for each in asked] == [[], [victim.member.id]], "no storm, and no silence"
    assert not taker.core.values.copies.fetches[value].source
    began = told.world.now
    told.until(lambda: value in taker.core.values.copies.whole, within=2 * AGAIN_SECONDS)
    assert told.world.now - began < 2 * AGAIN_SECONDS
    nothing_is_left(told)


def test_a_value_goes_when_its_program_does() -> None:
    told = scene(3)
    program = needy(told, JobKind.SUBMIT, items=400)
    told.until(lambda: any(node.core.values.copies.whole for node in told.nodes))
    told.world.crash(told.client)
    keeping = told.world.checkers.values.still_keeping
    told.until(lambda: not keeping(program.owner.member.id), within=20.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_is_gone_fails_what_needs_it_by_name(kind: JobKind) -> None:
    """The program releases a value that its own items need, which a real program does not."""
    told = scene(2)
    needs = 1 if kind is JobKind.EXPLORE else 0
    wish = Wish(
        kind, 40, FINE, told.world.now + 1.0, fed=True, block_items=5, values=1, function_needs=needs,
        tree=VirtualTree(5, 6, 4) if kind is JobKind.EXPLORE else None,
    )  # fmt: skip
    told.world.checkers.values.lost_by_name = True
    program = VirtualProgram(told.world, told.client, wish)
    told.programs.append(program)
    told.until(lambda: program.opened_at is not None)
    (value,) = program.values
    told.client.hear(ReleaseValue(value))
    blobs: list[Any] = []
    before = told.client.listener
    assert before is not None

    def listen(process: object, effect: object) -> None:
        blobs.append(effect)
        before(process, effect)  # type: ignore[arg-type]

    told.client.listener = listen
    told.finish()
    failures = [
        failure
        for effect in blobs
        if hasattr(effect, "blob") and effect.part.failed
        for failure in failures_of(effect.blob[1:] if kind is JobKind.EXPLORE else effect.blob)
    ]
    assert failures
    assert {failure.kind for failure in failures} == {VALUE_LOST}
    assert all(value.hex() in failure.text for failure in failures)


def test_a_link_that_breaks_loses_no_value() -> None:
    """Both links of a node break again and again while it takes a value: questions and pieces are lost."""
    told = scene(2)
    needy(told, JobKind.SUBMIT, items=20, values=1, value_octets=20_000_000)
    for _ in range(6):
        told.run(0.004)
        for connection in told.world.network.open_connections():
            told.world.network.reset(connection)
    nothing_is_left(told)


def bounded(octets: int = 1_000_000) -> Config:
    return Config(store_memory_octets=octets)


def test_copies_go_to_make_room() -> None:
    """Room for two of three values: the third comes when the first is needed no more, and not ahead of that."""
    told = scene(1, workers=1, config=bounded())
    law = CostLaw("const", 0.1)
    needy(told, JobKind.SUBMIT, items=15, values=3, value_octets=400_000, law=law)
    stored, most = told.nodes[0].core.values.copies.stored, 0
    while not told.programs[0].done:
        told.run(0.01)
        most = max(most, len(stored.whole))
    nothing_is_left(told)
    assert stored.dropped_octets == 400_000
    assert stored.fetched_octets == 1_200_000
    assert most == 2


def test_what_runs_keeps_what_it_needs() -> None:
    """One value is larger than the bound; items that need all of them run nevertheless."""
    told = scene(2, config=bounded())
    needy(told, JobKind.SUBMIT, items=60, values=4, value_octets=1_500_000)
    needy(told, JobKind.MAP, items=60, values=3, value_octets=400_000, function_needs=2)
    nothing_is_left(told)
    assert told.world.checkers.values.needed > 5


def test_a_node_without_room_waits_until_work_ends() -> None:
    """Neither memory nor disk has room for more than two values, and workers have nothing to do."""
    told = scene(1, workers=12, config=bounded(600_000))
    told.nodes[0].shelf.octets_max = 700_000
    law = CostLaw("const", 0.1)
    for _ in range(2):
        needy(told, JobKind.SUBMIT, items=15, values=3, value_octets=300_000, law=law)
    nothing_is_left(told)
    assert told.counted("values-without-room", told.nodes[0]) > 0


def test_a_value_that_never_fits_fails_what_needs_it_by_name() -> None:
    told = scene(1)
    told.nodes[0].shelf.octets_max = 10_000
    told.world.checkers.values.lost_by_name = True
    needy(told, JobKind.SUBMIT, items=20, values=1, value_octets=30_000)
    nothing_is_left(told)
    assert told.counted("values-lost", told.nodes[0]) == 1


@given(st.lists(st.integers(1, 100), max_size=12), st.integers(1, 400), st.integers(0, 200))
def test_what_goes_first(sizes: list[int], octets_max: int, coming: int) -> None:
    """The least recently needed, only as much as must, and never the last copy nor what is in use."""
    names = [bytes([number]) * 24 for number in range(len(sizes))]
    stored = Stored(octets_max)
    for name, octets in zip(names, sizes, strict=True):
        stored.add(name, octets)
    last, in_use = set(names[::3]), set(names[1::3])
    stored.needed = InUse(in_use)
    for name in names[:2]:
        stored.used(name)
    before = list(stored.whole)
    gone = list(stored.to_drop(coming, lambda value: value in last))
    stored.audit()
    free = [name for name in before if name not in last | in_use]
    assert gone == free[: len(gone)]
    if stored.exceeds(coming):
        assert gone == free
    elif gone:
        stored.add(gone[-1], sizes[names.index(gone[-1])])
        assert stored.exceeds(coming)


class InUse(NothingNeeded):
    def __init__(self, values: set[bytes]) -> None:
        self._values = values

    def in_use(self) -> set[bytes]:
        return self._values


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "seed", [905, *(pytest.param(seed, marks=SLOW) for seed in range(906, 936))]
)
def test_random_worlds_with_values(seed: int) -> None:
    outcome = random_worlds.run(seed, valued=True)
    assert not outcome.breach, "\n".join([*outcome.story[-40:], outcome.breach])


@pytest.mark.slow
def test_random_worlds_need_values() -> None:
    assert sum(random_worlds.run(seed, valued=True).needed for seed in range(900, 905)) > 100


# ---------------------------------------------------------------- mutants


def lacks_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copies, "lacks", lambda self, needs: False)


def blocks_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexedBags, "_withhold", lambda *args: None)


def jobs_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    def restock(self: Stock, held: HeldJob) -> None:
        if held.bags.queued_items and not self._functions.lacks(held.spec):
            self.setdefault(held.spec.job, None)
        else:
            self.pop(held.spec.job, None)

    patch.setattr(Stock, "restock", restock)


def never_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Account, "known", lambda self: [])


def copies_stay_without_owner(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copies, "_forget", lambda self, value, why: None)


def nobody_lets_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexedBags, "let_in", lambda self: None)


def asks_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copies, "beat", lambda self, now, patience: None)
    patch.setattr(Copies, "met", lambda self, peer, now: None)


def clings_to_its_source(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copies, "_elsewhere", lambda self, value, fetch, now: None)


def counts_no_copies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Directory, "held", lambda self, peer, message, now: None)


def sends_all_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Directory, "_source_for", lambda self, taker, account: self._me)


def loses_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shortage, "_fail", lambda *arguments: None)
    patch.setattr(Shortage, "_fail_all", lambda *arguments: None)


def drops_what_is_in_use(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NeededHere, "in_use", lambda self: set())


def drops_without_saying(patch: pytest.MonkeyPatch) -> None:
    """The host keeps the octets."""
    patch.setattr(Stored, "to_drop", lambda self, coming, spared: [])


def fetches_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NeededHere, "is_idle", lambda self: True)
    patch.setattr(Copies, "_must_wait", lambda self, fetch, others, now: False)


def never_waits_for_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NeededHere, "will_end", lambda self: False)


def waits_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NeededHere, "is_idle", lambda self: False)


def in_submits() -> None:
    test_a_chunk_runs_where_its_values_are(JobKind.SUBMIT, 0)


def in_maps() -> None:
    test_a_chunk_runs_where_its_values_are(JobKind.MAP, 2)


def lost_in_submits() -> None:
    test_a_value_that_is_gone_fails_what_needs_it_by_name(JobKind.SUBMIT)


MUTANTS = [
    (lacks_nothing, in_maps),
    (blocks_do_not_wait, in_submits),
    (jobs_do_not_wait, in_maps),
    (never_dropped, in_submits),
    (copies_stay_without_owner, test_a_value_goes_when_its_program_does),
    (nobody_lets_in, in_submits),
    pytest.param(asks_once, test_a_link_that_breaks_loses_no_value, marks=SLOW),
    pytest.param(
        clings_to_its_source, test_a_copy_whose_node_dies_is_replaced_by_another, marks=SLOW
    ),
    pytest.param(counts_no_copies, test_a_value_goes_in_a_tree, marks=SLOW),
    pytest.param(sends_all_itself, test_a_value_goes_in_a_tree, marks=SLOW),
    (loses_nothing, lost_in_submits),
    (drops_what_is_in_use, test_copies_go_to_make_room),
    (drops_without_saying, test_copies_go_to_make_room),
    (fetches_ahead, test_copies_go_to_make_room),
    (never_waits_for_room, test_a_node_without_room_waits_until_work_ends),
    (waits_for_ever, test_what_runs_keeps_what_it_needs),
]


@pytest.mark.parametrize(("mutant", "story"), MUTANTS)
def test_a_story_notices_when_a_rule_is_missing(
    mutant: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    must_notice(story, mutant, monkeypatch)
