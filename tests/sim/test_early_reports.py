"""Reports that come before those of what went into their items: the owner's side of results that go from node to node.

Stories, bounds, and mutants that are noticed. The nodes' side: test_inputs_from_afar.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.test_graphs import counted, finish, graph, stencil

from stealmesh_engine.ledger import early_reports
from stealmesh_engine.ledger.crediting import Crediting, _only
from stealmesh_engine.ledger.early_reports import EarlyReports
from stealmesh_engine.ledger.edges import JobEdges
from stealmesh_engine.ledger.from_afar import FromAfar
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_protocol import values as vx
from stealmesh_protocol.messages import JobKind, Part, Report
from stealmesh_sim.graphs import GraphProgram, GraphWish, Knot
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw

from .scenes import Scene, scene
from .test_inputs_from_afar import Mutate, late_reports

# ---------------------------------------------------------------- stories


def test_a_report_that_comes_early_waits_for_what_went_into_it() -> None:
    told = scene(2, workers=1)
    program = graph(told, stencil(2, 3), seconds=0.01)
    told.until(lambda: counted(told, "follow-ons") == 8)
    late_reports(told, program, 5)
    told.until(lambda: counted(told, "results-early") > 0)
    edges = told.client.core.owner.jobs[program.streams[0].job].edges
    assert edges is not None
    assert list(edges.early)
    finish(told)
    assert len(program.account.results) == 12
    assert counted(told, "results-dropped") == 0
    assert counted(told, "leases-expired") == 0


def test_what_is_made_of_what_came_early_is_no_lie() -> None:
    """In one step the owner hears what an early result was made of, and what its node has made of it. (On a real mesh six
    of 2,400 cells were taken for what cannot have run, and two hundred were withdrawn.)"""
    told = scene(2, workers=1)
    program = graph(told, stencil(2, 3), seconds=0.01)
    told.until(lambda: counted(told, "follow-ons") == 8)
    late_reports(told, program, 5)
    owner, job = told.client.core.owner, program.streams[0].job
    edges = owner.jobs[job].edges
    assert edges is not None
    told.until(lambda: any(item in edges.early for item in range(8)))
    early = next(item for item in range(8) if item in edges.early)
    holder = edges.follows[early][0]
    for _, lacks in edges.into(early):
        place = edges.places.at(lacks)
        if lacks not in edges.results and place is not None:
            part = Part(place[1], lacks, lacks + 1, vx.PLAIN, 0.01)
            owner.report(place[0], Report(job, [part], [b"\x91\xc0"]), told.world.now)
    assert early not in edges.follows, "all that went into it counts"
    after = next(item for item, (at, _) in edges.follows.items() if at == holder and item > early)
    part = Part(edges.follows[after][1], after, after + 1, vx.PLAIN, 0.01)
    before = set(edges.into(after)) - {(edges, early)}
    edges.results |= {at: None for of, at in before if of is edges}  # type: ignore[misc]
    assert edges.not_yet(holder, part, b"\x91\xc0") == ([after], [])
    edges.results.clear()


def test_a_report_that_waits_ends_with_its_lease() -> None:
    """The maker dies before its own report is heard: what was made of that does not count, and runs again."""
    told = scene(2, workers=1)
    program = graph(told, stencil(2, 3), seconds=0.01)
    told.until(lambda: counted(told, "follow-ons") == 8)
    maker = late_reports(told, program, 5)
    told.until(lambda: counted(told, "results-early") > 0)
    told.world.crash(maker)
    finish(told)
    assert len(program.account.results) == 12
    assert counted(told, "results-dropped") > 0


def test_a_job_that_ends_with_what_came_early_ends() -> None:
    """The report that completes it is one of another job."""
    told = scene(2, workers=1)
    knots = [Knot(0, 0, []), Knot(0, 1, []), Knot(1, 0, [0, 1])]
    streams = [Wish(JobKind.SUBMIT, count, CostLaw("const", 0.01)) for count in (2, 1)]
    wish = GraphWish(knots, streams, told.world.now, 1000, in_one_step=True)
    program = GraphProgram(told.world, told.client, wish)
    told.programs += program.streams  # type: ignore[arg-type]
    told.until(lambda: counted(told, "follow-ons") == 1)
    late_reports(told, program, 0, stream=1)
    finish(told)
    assert len(program.account.results) == 3
    assert counted(told, "results-early") == 1


# ---------------------------------------------------------------- bounds


def test_reports_beyond_the_bound_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are dropped, and the item runs again: a peer may say what it likes."""
    monkeypatch.setattr(early_reports, "EARLY_OCTETS_MAX", 0)
    told = scene(2, workers=1)
    program = graph(told, stencil(2, 3), seconds=0.01)
    told.until(lambda: counted(told, "follow-ons") == 8)
    late_reports(told, program, 5)
    finish(told)
    assert len(program.account.results) == 12
    assert counted(told, "results-premature") > 0


def test_one_report_waits_for_each_item() -> None:
    reports = EarlyReports()
    part = Part(1, 5, 6, 0, 0.1)
    assert reports.keep(5, (b"a", part, b"xyz"))
    assert not reports.keep(5, (b"b", part, b"xyz"))
    assert 5 in reports
    reports.audit({5})
    assert reports.take(5) == (b"a", part, b"xyz")
    assert reports.take(5) is None
    reports.audit(())


# ---------------------------------------------------------------- parts that come early in part


def in_one_part(told: Scene) -> tuple[GraphProgram, JobEdges, bytes, int]:
    """Items 4 and 5 follow, under one lease, and item 4 waits for another node as well."""
    program = graph(told, [[], [], [], [], [0, 1, 2, 3], [4], [5]], seconds=1.0, in_one_step=True)
    told.until(lambda: counted(told, "follow-ons") == 3)
    edges = told.client.core.owner.jobs[program.streams[0].job].edges
    assert edges is not None
    holder, lid = edges.follows[4]
    assert edges.follows[5] == edges.follows[6] == (holder, lid)
    return program, edges, holder, lid


def test_what_a_worker_handed_on_waits_with_what_was_early() -> None:
    """A part of three items: its first needs one that another node has not told of yet."""
    told = scene(2, workers=1)
    _, edges, holder, lid = in_one_part(told)
    part = Part(lid, 4, 7, vx.PLAIN, 0.3)
    assert edges.not_yet(holder, part, b"\x93\xc0\xc0\xc0") == ([], [4, 5, 6])
    own = [item for item in range(4) if (edges.places.at(item) or [b""])[0] == holder]
    edges.results |= dict.fromkeys(own)  # type: ignore[arg-type]
    assert edges.not_yet(holder, part, b"\x93\xc0\xc0\xc0") == ([4, 5, 6], [])
    edges.follows = dict(reversed(edges.follows.items()))
    part = Part(lid, 4, 70, vx.PLAIN, 0.3)
    assert edges.not_yet(holder, part, b"\x93\xc0\xc0\xc0") == ([4, 5, 6], []), "in their order"
    part = Part(lid, 5, 7, vx.PLAIN, 0.3)
    assert edges.not_yet(holder, part, b"\x92\xc0\xc0") == ([], [5, 6])
    edges.results.clear()


def test_a_failure_behind_what_was_early_is_counted_once() -> None:
    told = scene(2, workers=1)
    program, _, holder, lid = in_one_part(told)
    owner = told.client.core.owner
    job = owner.job(program.streams[0].job, IndexedJob)
    assert job is not None
    codec, blob = vx.pack_outcomes([1, 2, 3], [vx.Failure(2, vx.RAISED)])
    report = (holder, Part(lid, 4, 7, codec, 0.3, 1), blob)
    for item in (4, 5):
        owner.crediting.early(job, item, report, told.world.now)
        assert job.line().failed == 0
    owner.crediting.early(job, 6, report, told.world.now)
    assert job.line().failed == 1
    told.client.core.effects.clear()


def test_of_a_part_that_is_judged_in_pieces_each_counts_once() -> None:
    """Failures, seconds and results that stay belong to their piece."""
    codec, blob = vx.pack_outcomes([1, 2, 3], [vx.Failure(2, vx.RAISED)])
    part = Part(9, 4, 7, codec, 0.3, 1, ((5, 1000),))
    pieces = [_only(part, blob, item, item + 1) for item in (4, 5, 6)]
    assert [piece.failed for piece in pieces] == [0, 0, 1]
    assert [piece.stays for piece in pieces] == [(), ((5, 1000),), ()]
    assert sum(piece.seconds for piece in pieces) == pytest.approx(0.3)
    assert {(piece.lo, piece.hi) for piece in pieces} == {(4, 7)}
    lacking = _only(Part(9, 4, 7, vx.LACKING, 0.0), b"why", 5, 6)
    assert (lacking.lo, lacking.hi) == (5, 6)


def test_what_cannot_have_run_is_not_kept() -> None:
    """Its input is at the same node, which would have said so before."""
    told = scene(2, workers=1)
    program, edges, holder, lid = in_one_part(told)
    owner = told.client.core.owner
    report = Report(program.streams[0].job, [Part(lid, 6, 7, vx.PLAIN, 0.1)], [b"\x91\xc0"])
    owner.report(holder, report, told.world.now)
    assert 6 not in edges.early
    assert counted(told, "results-premature") == 1
    told.run(0.1)
    finish(told)
    assert len(program.account.results) == 7


# ---------------------------------------------------------------- each rule has a mutant that is noticed


def early_ones_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EarlyReports, "keep", lambda *args: False)


def early_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobEdges, "not_yet", lambda *args: ([], []))


def early_ones_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FromAfar, "came_early", lambda *args: None)


def early_ones_count_after_their_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Crediting.early

    def early(self: Crediting, job: Any, item: int, report: Any, now: float) -> None:
        _, part, blob = report
        for lid, lent in job.ledger.leases.items():
            if lent.open.covers(item, item + 1):
                moved = Part(lid, part.lo, part.hi, part.codec, part.seconds)
                right(self, job, item, (lent.holder, moved, blob), now)
                return

    monkeypatch.setattr(Crediting, "early", early)


@pytest.mark.parametrize(
    ("mutant", "story"),
    [
        (early_ones_are_thrown_away, test_a_report_that_comes_early_waits_for_what_went_into_it),
        (early_ones_count, test_a_report_that_comes_early_waits_for_what_went_into_it),
        (early_ones_wait_for_ever, test_a_report_that_comes_early_waits_for_what_went_into_it),
        (early_ones_count_after_their_lease, test_a_report_that_waits_ends_with_its_lease),
    ],
)
def test_a_mutant_is_noticed(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutate, story: Callable[[], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  an assertion, a breach, or what a core raises
        story()
