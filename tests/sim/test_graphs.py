"""Graphs in virtual time: random worlds against a sequential evaluation, stories, and mutants that are noticed.

More worlds: `python -m stealmesh_bench.seeds --graphs --worlds 3000`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from stealmesh_bench.seeds import replay
from stealmesh_engine.effects import InputFailed, InputWithdrawn
from stealmesh_engine.events import CancelItems, Drain, Feed
from stealmesh_engine.holding import belief, dispatcher
from stealmesh_engine.holding.bags import Bags
from stealmesh_engine.holding.follow_ons import FollowOns
from stealmesh_engine.holding.indexed_bags import HeldLease, IndexedBags
from stealmesh_engine.ledger.edges import JobEdges
from stealmesh_engine.ledger.graph import Graph
from stealmesh_engine.ledger.queues import Queues
from stealmesh_protocol import given
from stealmesh_protocol import values as vx
from stealmesh_protocol.messages import Block, JobKind, Part, Report
from stealmesh_sim import graphs
from stealmesh_sim.graphs import GraphProgram, GraphWish, GraphWork, Knot
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.workers import VirtualWorker

from .scenes import Scene, scene

Mutate = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    "first", [1, *(pytest.param(first, marks=pytest.mark.slow) for first in range(30, 230, 10))]
)
def test_random_graphs(first: int) -> None:
    """Each item gets the very results that count, or fails with what failed first; in the end nothing is left."""
    follow_ons = 0
    for seed in range(first, first + 10):
        outcome = graphs.run(seed)
        assert not outcome.breach, f"{outcome.breach}\n    {replay(seed, 'graphs')}"
        follow_ons += outcome.counters.get("follow-ons-run", 0)
    assert follow_ons


@pytest.mark.parametrize("seed", [1820, 1898, 20601, 40534])
def test_worlds_in_which_something_was_wrong(seed: int) -> None:
    outcome = graphs.run(seed)
    assert not outcome.breach, f"{outcome.breach}\n    {replay(seed, 'graphs')}"


# ---------------------------------------------------------------- stories


def graph(
    told: Scene,
    inputs: Iterable[list[int]],
    *,
    seconds: float = 0.005,
    stays: dict[int, int] | None = None,
    holds_seconds: float = 0.0,
    in_one_step: bool = False,
    **wishes: Any,
) -> GraphProgram:
    """One job: item n has these inputs."""
    knots = [Knot(0, at, each) for at, each in enumerate(inputs)]
    stream = Wish(JobKind.SUBMIT, len(knots), CostLaw("const", seconds), **wishes)
    wish = GraphWish(knots, [stream], told.world.now, 1000, stays=stays or {})
    wish.holds_seconds = holds_seconds
    wish.in_one_step = in_one_step
    program = GraphProgram(told.world, told.client, wish)
    told.programs += program.streams  # type: ignore[arg-type]
    return program


def chain(length: int) -> list[list[int]]:
    return [[at - 1] if at else [] for at in range(length)]


def counted(told: Scene, name: str) -> int:
    return sum(told.counted(name, process) for process in told.world.processes)


def finish(told: Scene) -> None:
    told.finish()
    told.run(1.0)
    graphs.nothing_is_left(told.world)


def test_a_chain_follows_itself() -> None:
    """All but its first item run with results that never left the node."""
    told = scene(3, workers=2)
    program = graph(told, chain(300), seconds=0.001)
    finish(told)
    assert len(program.account.results) == 300
    assert counted(told, "follow-ons-run") == 299
    assert counted(told, "follow-ons-withdrawn") == 0


def test_what_needs_results_of_two_nodes_waits_for_both() -> None:
    told = scene(2, workers=1)
    slow = graph(told, [[], [], [0, 1]], seconds=0.5)
    finish(told)
    assert len(slow.account.results) == 3


def test_a_result_that_is_on_its_way_is_found() -> None:
    """An item follows one that its node has just done."""
    told = scene(1, workers=1)
    program = graph(told, [[]], seconds=0.05)
    stream = program.streams[0]
    knots = program.wish.knots
    account = program.account
    told.until(lambda: bool(counted(told, "follow-ons-run")) or stream.done)
    assert len(account.results) == len(knots)


@pytest.mark.parametrize("chains", [1, 3])
def test_a_worker_hands_results_on(chains: int) -> None:
    """A chain of short items needs a word of the node for many of them. It is told of in few parts, which count."""
    told = scene(2, workers=2)
    inputs = [[at - 1] if at % 200 else [] for at in range(200 * chains)]
    program = graph(told, inputs, seconds=0.0001, in_one_step=True)
    finish(told)
    assert len(program.account.results) == len(inputs)
    assert counted(told, "follow-ons-handed-on") > 0.7 * len(inputs)
    assert counted(told, "results-premature") == 0


def handed_on(told: Scene, **wishes: Any) -> tuple[GraphProgram, Process, VirtualWorker]:
    """A chain that a worker is in the middle of: at least twenty of its items wait at the worker, or are done."""
    program = graph(told, chain(400), seconds=0.0002, in_one_step=True, **wishes)

    def at_work() -> list[tuple[Process, VirtualWorker]]:
        return [
            (node, worker)
            for node in told.nodes
            for worker in node.workers
            if worker.running is not None and worker.running.hi - worker.running.lo >= 20
        ]

    told.until(lambda: bool(at_work()))
    return program, *at_work()[0]


def test_what_was_handed_on_comes_back_from_a_dead_worker() -> None:
    """Also what the program has looked at meanwhile: it cancels another item of the job."""
    told = scene(2, workers=2)
    program, _, worker = handed_on(told)
    program._cancel(399)
    told.run(0.0005)
    worker.kill()
    finish(told)
    assert len(program.account.results) == 399


def test_what_was_handed_on_is_lost_with_its_node() -> None:
    told = scene(2, workers=2)
    program, node, _ = handed_on(told)
    told.world.crash(node)
    finish(told)
    assert len(program.account.results) == 400


def test_what_was_handed_on_is_not_begun_behind_an_item_that_is_put_off() -> None:
    told = scene(1, workers=1)
    program, _, worker = handed_on(told, retries=2, again={item: [-1.0, 0.0] for item in (90, 95)})
    assert worker.running is not None
    finish(told)
    assert len(program.account.results) == 400
    assert counted(told, "results-premature") == 0


def test_what_was_handed_on_behind_a_failure_fails_with_it() -> None:
    told = scene(1, workers=1)
    knots = [Knot(0, at, [at - 1] if at else [], fails=at == 100) for at in range(200)]
    stream = Wish(JobKind.SUBMIT, 200, CostLaw("const", 0.0001))
    wish = GraphWish(knots, [stream], told.world.now, 1000, in_one_step=True)
    program = GraphProgram(told.world, told.client, wish)
    told.programs += program.streams  # type: ignore[arg-type]
    finish(told)
    assert program.account.failed == {100}
    assert program.account.spared == dict.fromkeys(range(101, 200), 100)
    assert counted(told, "results-premature") == 0
    assert counted(told, "follow-ons-handed-on") > 50


def test_what_was_handed_on_may_be_cancelled() -> None:
    """Its worker does it all, and what is behind the item that is not wanted counts for nothing."""
    told = scene(1, workers=1)
    program, _, worker = handed_on(told)
    assert worker.running is not None
    item = worker.running.hi - 2
    program._cancel(item)
    finish(told)
    assert set(program.account.results) == set(range(item))


def lent_together(told: Scene) -> tuple[GraphProgram, Any, bytes, int]:
    """Follow-ons that their node has, under one lease."""
    program = graph(told, chain(6), seconds=1.0, in_one_step=True)
    told.until(lambda: counted(told, "follow-ons") == 5)
    edges = told.client.core.owner.jobs[program.streams[0].job].edges
    assert edges is not None
    holder, lid = edges.follows[2]
    assert edges.follows[3] == (holder, lid)
    return program, edges, holder, lid


@pytest.mark.parametrize("what", ["right", "failed", "put off", "stays", "another lease", "alone"])
def test_a_part_may_bring_what_goes_into_its_own_items(what: str) -> None:
    """If that is a result, before it, under the same lease."""
    told = scene(1, workers=1)
    _, edges, holder, lid = lent_together(told)
    lo, codec, blob = 2, vx.PLAIN, b"\x92\xc0\xc0"
    stays: tuple[tuple[int, int], ...] = ()
    if what == "failed":
        codec, blob = vx.pack_outcomes([1, 2], [vx.Failure(0, vx.RAISED)])
    elif what == "put off":
        codec = vx.AGAIN
    elif what == "stays":
        stays = ((2, 1000),)
    elif what == "another lease":
        edges.places.put(2, 3, (holder, lid + 1, 0))
    elif what == "alone":
        lo, blob = 3, b"\x91\xc0"
    part = Part(lid, lo, 4, codec, 0.1, 0, stays)
    edges.results[1] = object()  # so that only item 3 is asked for
    assert edges.not_yet(holder, part, blob) == ([], [] if what == "right" else [3])
    edges.results.clear()


def test_what_is_made_again_has_what_its_own_part_brought() -> None:
    """An item's result stays, and the one that went into it has come in the same part."""
    told = scene(1, workers=1)
    _, edges, _, lid = lent_together(told)
    fed = edges.ledger.inputs.at(3)
    part = Part(lid, 2, 4, vx.PLAIN, 0.1, 0, ((3, 1000),))
    ((_, blob),) = edges.recipes([fed], part, b"\x92\xa4made\xc0")
    assert b"made" in blob
    assert given.places_in(blob, 0) == 1


def stencil(nodes: int, steps: int) -> list[list[int]]:
    """Two columns a node; each item needs its neighbours of the step before."""
    width = 2 * nodes
    rows: list[list[list[int]]] = [[[]] * width]
    for step in range(steps - 1):
        near = [[x for x in (c - 1, c, c + 1) if 0 <= x < width] for c in range(width)]
        rows.append([[step * width + x for x in each] for each in near])
    return [each for row in rows for each in row]


def efficiency(nodes: int, seconds: float, steps: int = 30) -> float:
    told = scene(nodes, workers=1)
    told.run(2.0)
    program = graph(told, stencil(nodes, steps), seconds=seconds)
    begun = told.world.now
    told.until(lambda: program.streams[0].done)
    assert counted(told, "follow-ons-withdrawn") <= steps
    return 2 * steps * seconds / (told.world.now - begun)


@pytest.mark.parametrize(
    ("nodes", "bound"), [(2, 0.95), pytest.param(8, 0.8, marks=pytest.mark.slow)]
)
def test_a_stencil_keeps_all_nodes_busy(nodes: int, bound: float) -> None:
    """Items of a millisecond. If all followed to where their inputs are, one node would have most of them:
    0.51 and 0.29. If none followed: 0.76 and 0.67."""
    assert efficiency(nodes, 0.001) > bound


def test_a_result_never_comes_before_what_went_into_it() -> None:
    """Reports of a chain wait for company, but not if what follows is of another job. (World 173.)"""
    told = scene(1, workers=1)
    knots = [Knot(at % 2, at // 2, [at - 1] if at else []) for at in range(40)]
    streams = [Wish(JobKind.SUBMIT, 20, CostLaw("const", 0.0001)) for _ in range(2)]
    program = GraphProgram(told.world, told.client, GraphWish(knots, streams, told.world.now, 1000))
    told.programs += program.streams  # type: ignore[arg-type]
    finish(told)
    assert counted(told, "follow-ons-run") > 10
    assert counted(told, "results-premature") == 0


@pytest.mark.parametrize("loss", ["crash", "worker", "drain"])
def test_what_follows_a_lost_item_runs_again(loss: str) -> None:
    """And with the result of its second run."""
    told = scene(3, workers=2)
    program = graph(told, chain(40), seconds=0.05)
    told.until(lambda: len(program.account.results) == 5)
    node = next(node for node in told.nodes if node.core.holder.follow_ons.waiting)
    if loss == "crash":
        told.world.crash(node)
    elif loss == "worker":
        next(worker for worker in node.workers if worker.running).kill()
    else:
        told.world.tell(node, Drain())
    finish(told)
    assert len(program.account.results) == 40


def test_what_follows_a_stolen_item_does_not_wait_where_it_was() -> None:
    told = scene(1, workers=1)
    program = graph(told, [*([] for _ in range(8)), *([at] for at in range(8))], seconds=0.3)
    told.until(lambda: counted(told, "follow-ons") == 8)
    told.nodes.append(told.world.node("n1", seeds=["tcp://n0:7077"], workers=1))
    told.until(lambda: counted(told, "follow-ons-withdrawn") > 0)
    finish(told)
    assert len(program.account.results) == 16
    assert told.nodes[1].items > 2


def test_a_failure_passes_on_at_once() -> None:
    told = scene(2, workers=1)
    knots = [Knot(0, 0, []), Knot(0, 1, [], fails=True), Knot(0, 2, [0, 1]), Knot(0, 3, [2])]
    law = CostLaw("turning", 1.0, turn=99)
    stream = Wish(JobKind.SUBMIT, 4, law, endless=frozenset([0]), timeout=20.0)
    program = GraphProgram(
        told.world, told.client, GraphWish(knots, [stream], told.world.now, 1000)
    )
    told.until(lambda: set(program.account.spared) == {2, 3}, within=2.0)
    assert program.account.spared == {2: 1, 3: 1}


def test_a_cancellation_passes_on_at_once() -> None:
    told = scene(2, workers=1)
    program = graph(told, chain(10), seconds=1.0)
    told.until(lambda: 0 in program.account.results)
    program._cancel(3)
    assert set(program.account.spared) == set(range(4, 10))
    finish(told)


def test_what_waits_for_a_stopped_item_fails_as_that_does() -> None:
    """By its name, as deep as the graph is."""
    told = scene(2, workers=1)
    program = graph(told, chain(10), seconds=1.0)
    program.wish.stops.add(3)
    told.until(lambda: 2 in program.account.results)
    program._cancel(3)
    assert program.account.spared == dict.fromkeys(range(4, 10), 3)
    finish(told)


@pytest.mark.parametrize("stops", [False, True])
def test_what_is_made_of_a_dropped_result_ends_with_it(stops: bool) -> None:
    """The program cancels, or stops, an item that is done. It has not heard so, and drops the result."""
    told = scene(1, workers=1)
    program = graph(told, chain(4), seconds=1.0)
    stream = program.streams[0]
    told.until(lambda: 1 in program.account.results)
    program.account.cancelled.add(1)
    program.wish.stops |= {1} if stops else set()
    program._tell(CancelItems(stream.job, [(1, 2)], stops, stops))
    assert program.account.spared == dict.fromkeys((2, 3), 1 if stops else None)
    told.run(2.0)
    graphs.nothing_is_left(told.world)


def test_a_new_item_fails_with_what_was_spared_in_the_same_step() -> None:
    """It is fed behind a report, unread so far, that fails what goes into what goes into it."""
    told = scene(1, workers=1)
    knots = [Knot(0, 0, []), Knot(0, 1, [0]), Knot(0, 2, [1])]
    stream = Wish(JobKind.SUBMIT, 3, CostLaw("const", 5.0))
    wish = GraphWish(knots, [stream], told.world.now, 2, pause_seconds=100.0)
    program = GraphProgram(told.world, told.client, wish)
    job = program.streams[0].job
    told.until(lambda: counted(told, "follow-ons") == 1)
    core = told.client.core
    edges = core.owner.jobs[job].edges
    assert edges is not None
    place = edges.places.at(0)
    assert place is not None
    holder, lid, _ = place
    codec, blob = vx.pack_outcomes(None, [vx.Failure(0, vx.RAISED, text="oh")])
    core.owner.report(holder, Report(job, [Part(lid, 0, 1, codec, 0.1, 1)], [blob]), told.world.now)
    item = Block(2, 3, vx.ITEMS), given.item_apart((vx.PLAIN, b"\xc0"), 1, {})
    effects = core.steps(told.world.now, [Feed(job, *item, ((job, 1),))])
    failed = [each for each in effects if isinstance(each, InputFailed | InputWithdrawn)]
    assert [each.intervals for each in failed] == [[(1, 2)], [(2, 3)]]
    assert all(isinstance(each, InputFailed) and each.item == 0 for each in failed)


def test_a_result_of_what_cannot_have_run_is_not_believed() -> None:
    """A node says that it has done an item before the one that goes into it."""
    told = scene(1, workers=1)
    program = graph(told, chain(3), seconds=1.0)
    told.until(lambda: counted(told, "follow-ons") == 2)
    owner, job = told.client.core.owner, program.streams[0].job
    edges = owner.jobs[job].edges
    assert edges is not None
    holder, lid = edges.follows[1]
    owner.report(holder, Report(job, [Part(lid, 1, 2, 0, 0.1)], [b"\x90"]), told.world.now)
    assert not told.owned(program.streams[0]).ledger.credited  # type: ignore[arg-type, attr-defined]
    told.run(0.1)
    finish(told)
    assert len(program.account.results) == 3


def test_what_was_withdrawn_comes_again_with_what_goes_into_it() -> None:
    """Its node still has the item as it came first, since others of the job are there. (World 2019: the node
    refused the second grant as rude, and the lease ran out.)"""
    told = scene(1, workers=1)
    program = graph(told, [[], [0], *([] for _ in range(6))], seconds=0.5)
    told.until(lambda: counted(told, "follow-ons") == 1)
    owner, job = told.client.core.owner, program.streams[0].job
    edges = owner.jobs[job].edges
    assert edges is not None
    holder, lid = edges.follows[1]
    owner.report(holder, Report(job, [Part(lid, 1, 2, 0, 0.1)], [b"\x90"]), told.world.now)
    finish(told)
    assert len(program.account.results) == 8
    assert counted(told, "rude-blocks") == 0
    assert counted(told, "leases-expired") == 0


def test_a_result_under_another_lease_is_not_taken() -> None:
    told = scene(1, workers=1)
    graph(told, chain(2), seconds=1.0)
    follow_ons = told.nodes[0].core.holder.follow_ons
    told.until(lambda: bool(follow_ons.awaited))
    (name,) = follow_ons.awaited
    held = told.nodes[0].core.holder.jobs[name[0]]
    follow_ons.came(held, Part(name[2] + 1, 0, 1, 0, 0.1), b"\x91\xc0", told.world.now)
    assert name in follow_ons.awaited
    finish(told)


@pytest.mark.parametrize("octets", [1, 1000])
def test_a_result_that_stays_goes_into_what_waits(octets: int) -> None:
    """1: all of them stay, and nothing follows. Else: only large ones do, as turns out."""
    told = scene(3, workers=2)
    program = graph(told, chain(20), stays={0: octets})
    finish(told)
    assert len(program.account.results) == 20
    assert told.world.checkers.values.needed >= 19
    assert bool(counted(told, "follow-ons")) == (octets > 1)
    assert not told.world.checkers.values.still_keeping(told.client.member.id)


def test_nothing_follows_what_stays_again_and_again() -> None:
    """The first large result has all that follows it withdrawn, and later ones find nothing that does."""
    told = scene(1, workers=1)
    program = graph(told, chain(60), stays={0: 1000}, in_one_step=True)
    finish(told)
    assert len(program.account.results) == 60
    assert 0 < counted(told, "follow-ons-withdrawn") <= 60


def test_what_waited_is_made_again_with_what_went_into_it() -> None:
    """A node dies with results, and with those that they were made of."""
    told = scene(3, workers=1)
    program = graph(told, chain(10), seconds=0.02, stays={0: 5000}, holds_seconds=2.0)
    told.until(lambda: len(program.account.results) == 10)
    for node in told.nodes[:2]:
        told.world.crash(node)
    told.until(lambda: told.counted("values-made-again") > 0)
    finish(told)
    assert not told.world.checkers.values.still_keeping(told.client.member.id)


def test_results_go_when_nothing_needs_them() -> None:
    told = scene(2, workers=1)
    program = graph(told, [[], *([0] for _ in range(20)), []], seconds=0.02)
    told.run(0.001)
    edges = told.client.core.owner.jobs[program.streams[0].job].edges
    assert edges is not None
    told.until(lambda: 0 in edges.results)
    told.until(lambda: 0 not in edges.results)
    finish(told)


# ---------------------------------------------------------------- each rule has a mutant that is noticed


def what_follows_stays_when_its_input_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "moved", lambda *args: None)


def any_lease_of_an_input_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of a run that does not count goes into what follows."""
    right = FollowOns.came

    def came(self: FollowOns, held: Any, part: Any, blob: bytes, now: float) -> None:
        for name in list(self.awaited):
            if name[0] == held.spec.job and part.lo <= name[1] < part.hi:
                right(self, held, replace(part, lid=name[2]), blob, now)
                break

    monkeypatch.setattr(FollowOns, "came", came)


def follow_ons_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexedBags, "_withhold", lambda *args: None)
    monkeypatch.setattr(Bags, "is_waiting", lambda *args: False)
    monkeypatch.setattr(IndexedBags, "is_waiting", lambda *args: False)


def what_comes_back_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    right = JobEdges.lost

    def lost(self: JobEdges, lo: int, hi: int) -> list[int]:
        right(self, lo, hi)
        return []

    monkeypatch.setattr(JobEdges, "lost", lost)
    monkeypatch.setattr(JobEdges, "audit", lambda self: None)


def failures_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "failed", lambda *args: None)
    monkeypatch.setattr(JobEdges, "audit", lambda self: None)


def cancellations_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "cancelled", lambda *args: None)
    monkeypatch.setattr(JobEdges, "audit", lambda self: None)


def what_waits_for_a_stopped_item_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Graph.cancelled
    monkeypatch.setattr(Graph, "cancelled", lambda *args, fail: right(*args))


def dropped_results_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "_users", lambda *args: [])


def failures_of_this_step_are_cancellations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "_spared_by", lambda *args: None)


def a_result_is_dropped() -> None:
    test_what_is_made_of_a_dropped_result_ends_with_it(False)


def results_are_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "let_go", lambda *args: None)


def nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "_try", lambda *args: None)


def withdrawn_follow_ons_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FollowOns, "tidy", lambda *args: None)


def what_cannot_have_run_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "not_yet", lambda *args: ([], []))


def one_input_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    right = JobEdges.waits_for

    def waits_for(self: JobEdges, item: int, names: Any, missing: int) -> None:
        right(self, item, names, min(missing, 1))

    monkeypatch.setattr(JobEdges, "waits_for", waits_for)
    monkeypatch.setattr(JobEdges, "audit", lambda self: None)
    monkeypatch.setattr(Graph, "_try", lambda *args: None)


def crashes() -> None:
    test_what_follows_a_lost_item_runs_again("crash")


def what_comes_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief, "is_same_item", lambda *args: False)


def all_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queues, "does_better", lambda *args: True)
    monkeypatch.setattr(Queues, "best_maker", lambda self, inputs, workers: (inputs[0][0], 0.0))


def busy() -> None:
    test_a_stencil_keeps_all_nodes_busy(2, 0.95)


def what_follows_takes_octets_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "name_of_staying", lambda *args: None)


def recipes_lack_what_goes_into_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "recipes", lambda self, fed, part, blob: fed)


def nobody_hears_what_it_goes_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "fed_by", lambda *args: ())


def a_large_result_goes() -> None:
    test_a_result_that_stays_goes_into_what_waits(1000)


def nothing_is_made_in_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "_made_in", lambda *args: None)


def what_a_worker_has_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node forgets what goes into it."""

    def is_follow_on(self: HeldLease, item: int) -> bool:
        return self.waiting is not None and self.waiting.covers(item, item + 1)

    monkeypatch.setattr(HeldLease, "is_follow_on", is_follow_on)


def workers_go_on_behind_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphWork, "goes_to", lambda self, chunk, lo, hi: hi)


def all_follow_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "stays", property(lambda self: False, lambda self, stays: None))


def nothing_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_behind", lambda *args: 0)


def what_was_handed_on_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back as if it lacked nothing."""
    right = IndexedBags.put_back

    def put_back(self: IndexedBags, lid: int, lo: int, hi: int) -> bool:
        for at in range(lo, hi):
            fed = self.inputs.at(at)
            if fed is not None and fed[0].inputs:
                self.inputs.add(replace(fed[0], inputs=()), fed[1])
        return right(self, lid, lo, hi)

    monkeypatch.setattr(IndexedBags, "put_back", put_back)


def results_are_handed_on() -> None:
    test_a_worker_hands_results_on(1)


STORIES: list[tuple[Mutate, Callable[[], None]]] = [
    (
        what_follows_stays_when_its_input_moves,
        test_what_follows_a_stolen_item_does_not_wait_where_it_was,
    ),
    (follow_ons_run_at_once, test_a_chain_follows_itself),
    (what_comes_back_is_free, crashes),
    (failures_stay_where_they_are, test_a_failure_passes_on_at_once),
    (cancellations_stay_where_they_are, test_a_cancellation_passes_on_at_once),
    (
        what_waits_for_a_stopped_item_is_cancelled,
        test_what_waits_for_a_stopped_item_fails_as_that_does,
    ),
    (dropped_results_are_used, a_result_is_dropped),
    (
        failures_of_this_step_are_cancellations,
        test_a_new_item_fails_with_what_was_spared_in_the_same_step,
    ),
    (results_are_kept_for_ever, test_results_go_when_nothing_needs_them),
    (nothing_follows, test_a_chain_follows_itself),
    (withdrawn_follow_ons_wait_on, test_a_cancellation_passes_on_at_once),
    (any_lease_of_an_input_will_do, test_a_result_under_another_lease_is_not_taken),
    (
        what_cannot_have_run_is_believed,
        test_a_result_of_what_cannot_have_run_is_not_believed,
    ),
    (
        what_comes_again_is_refused,
        test_what_was_withdrawn_comes_again_with_what_goes_into_it,
    ),
    (all_follow, busy),
    (nothing_follows, busy),
    (what_follows_takes_octets_unasked, a_large_result_goes),
    (recipes_lack_what_goes_into_them, test_what_waited_is_made_again_with_what_went_into_it),
    (nobody_hears_what_it_goes_into, a_large_result_goes),
    (nothing_is_made_in_a_part, results_are_handed_on),
    (nothing_is_made_in_a_part, test_what_is_made_again_has_what_its_own_part_brought),
    (all_follow_what_stays, test_nothing_follows_what_stays_again_and_again),
    (nothing_is_handed_on, results_are_handed_on),
    (
        what_a_worker_has_does_not_wait,
        test_what_was_handed_on_comes_back_from_a_dead_worker,
    ),
    (
        what_was_handed_on_stays_away,
        test_what_was_handed_on_comes_back_from_a_dead_worker,
    ),
    (
        workers_go_on_behind_a_failure,
        test_what_was_handed_on_behind_a_failure_fails_with_it,
    ),
    (one_input_is_enough, test_what_needs_results_of_two_nodes_waits_for_both),
]


@pytest.mark.parametrize(
    ("mutant", "story"), STORIES, ids=[f"{m.__name__}-{n}" for n, (m, _) in enumerate(STORIES)]
)
def test_a_mutant_is_noticed(
    mutant: Mutate, story: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  an assertion, a breach, or what a core raises
        story()
