"""Stories of durable calls that go into others: the graph runs to its end, whatever dies."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace
from tests.marks import later

from stealmesh_bench.seeds import replay
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable import call_edges, inputs, retention
from stealmesh_engine.durable.primary import Primary
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.put_off import DEFER_SECONDS_MIN
from stealmesh_engine.ledger.why_owned import why_item, why_job
from stealmesh_protocol.ids import short_form
from stealmesh_protocol.messages import Fetch, JobKind
from stealmesh_protocol.values import UNSENDABLE, VALUE_LOST, failures_of
from stealmesh_sim.durable_graphs import CANCELLED, FAILED, CallGraph, CallLauncher, run, value_of
from stealmesh_sim.durable_programs import DurableReader
from stealmesh_sim.graphs import Knot
from stealmesh_sim.process import Process
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw

from .durable_scenes import DurableScene, durable_scene
from .scenes import SEED_ADDRESS

TOGETHER = 5
DIAMOND = [[], [0], [0], [1, 2]]


@dataclass
class Submitted:
    """A graph, and the calls of the program that submits it."""

    scene: DurableScene
    graph: CallGraph
    calls: list[CallLauncher]

    @property
    def accepted(self) -> bool:
        return all(each.accepted_whole for each in self.calls)

    def until_accepted(self) -> None:
        self.scene.until(lambda: self.accepted)

    def kill_program(self) -> None:
        self.scene.world.crash(self.scene.client)

    def primary(self, at: int) -> Process:
        return self.scene.at_home(self.calls[at])

    def lead(self, at: int) -> Primary:
        return self.scene.lead(self.primary(at), self.calls[at])

    def heirs(self) -> list[DurableReader]:
        other = self.scene.newcomer("other")
        return [DurableReader(self.scene.world, other, each.work) for each in self.calls]

    def collected(self, readers: list[DurableReader] | None = None, within: float = 60.0) -> None:
        """Each call came to what a sequential evaluation says, and no primary asks for anything any more."""
        readers = readers or list(self.calls)
        self.scene.until(lambda: all(each.done for each in readers), within=within)
        assert not any(each.gone or each.missing for each in readers)
        values: list[int] = []
        for at, knot in enumerate(self.graph.knots):
            values.append(value_of(at, [values[each] for each in knot.inputs]))
        assert [self.graph.found[at] for at in range(len(values))] == values
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        nodes = [each for each in self.scene.nodes if each.alive]
        self.scene.until(
            lambda: all(each.core.durable.state.inputs.is_empty for each in nodes), within=5.0
        )


def submitted(
    scene: DurableScene, knots: list[list[int]], *, seconds: float = 0.5, fails: int = -1
) -> Submitted:
    graph = CallGraph([Knot(0, 0, each, at == fails) for at, each in enumerate(knots)])
    calls: list[CallLauncher] = []
    for _ in knots:
        law = CostLaw("const", seconds)
        wish = Wish(JobKind.SUBMIT, 1, law, scene.world.now, fed=True, function="shared")
        calls.append(CallLauncher(scene.world, scene.client, wish, graph, calls))
    return Submitted(scene, graph, calls)


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_graph_is_done_and_collected(nodes: int) -> None:
    told = submitted(durable_scene(nodes), DIAMOND)
    told.until_accepted()
    assert not told.calls[0].done
    told.collected(within=10.0)


def test_the_rest_of_the_graph_runs_after_the_programs_death() -> None:
    told = submitted(durable_scene(4), DIAMOND, seconds=2.0)
    told.until_accepted()
    told.kill_program()
    told.scene.run(10.0)
    assert told.graph.found == {}, "nobody has read anything"
    told.collected(told.heirs(), within=1.0)


@pytest.mark.parametrize("disks", [True, False])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_the_primary_of_any_call_dies(at: int, disks: bool) -> None:
    told = submitted(durable_scene(5, disks=disks), DIAMOND, seconds=1.0)
    told.until_accepted()
    told.kill_program()
    told.scene.crash(told.primary(at))
    told.collected(told.heirs())


def test_every_primary_dies_one_after_the_other() -> None:
    told = submitted(durable_scene(5), [[], [0], [1], [2]], seconds=1.5)
    told.until_accepted()
    told.kill_program()
    for at in range(4):
        told.scene.until(lambda: told.scene.home(told.calls[0]) is not None)
        told.scene.until(lambda at=at: told.scene.home(told.calls[at]) is not None)  # type: ignore[misc]
        primary = told.primary(at)
        told.scene.crash(primary)
        told.scene.run(4.0)
        told.scene.restart(primary)
        told.scene.run(2.0)
    told.collected(told.heirs())


def test_all_nodes_die_at_once_and_come_back() -> None:
    told = submitted(durable_scene(4), DIAMOND, seconds=3.0)
    told.until_accepted()
    told.kill_program()
    told.scene.run(3.5)
    for node in list(told.scene.nodes):
        told.scene.crash(node)
    for node in list(told.scene.nodes):
        told.scene.restart(node)
    told.scene.run(1.0)
    told.collected(told.heirs())


def running(told: Submitted, at: int) -> list[Process]:
    """Which nodes run this call."""
    job = told.calls[at].job
    return [
        node
        for node in told.scene.nodes
        if node.alive and any(each.job == job for each in node.core.dispatcher.slots.running())
    ]


def with_a_holder_elsewhere(*, runs_again: bool = False) -> tuple[Submitted, Process, int]:
    """One of four calls runs, into each of which another goes, at a node that does not keep it. Its primary dies.
    Returns who runs it, and its number. `runs_again`: the first time it asks to run once more."""
    pairs: list[list[int]] = [[], [0], [], [2], [], [4], [], [6]]
    told = submitted(durable_scene(5, workers=1), pairs, seconds=6.0)
    for at in (1, 3, 5, 7) if runs_again else ():
        told.calls[at].work.again = {0: [DEFER_SECONDS_MIN]}
    told.until_accepted()
    told.kill_program()
    told.scene.until(lambda: all(running(told, at) for at in (1, 3, 5, 7)))
    told.scene.run(0.5)
    for at in (1, 3, 5, 7):
        (holder,) = running(told, at)
        if holder not in told.scene.keepers(told.calls[at]):
            told.scene.crash(told.primary(at))
            return told, holder, at
    raise AssertionError("their keepers run them all")


def test_what_runs_when_its_primary_dies_runs_on_with_what_it_was_given() -> None:
    """A new primary asks for the inputs of items that no holder has, and for no others."""
    told, holder, at = with_a_holder_elsewhere()
    told.scene.until(lambda: told.scene.home(told.calls[at]) is not None)
    told.scene.until(lambda: told.calls[at].job in told.primary(at).core.owner.jobs)
    told.scene.run(0.5)
    assert running(told, at) == [holder]
    assert not told.lead(at).edges.needed  # type: ignore[union-attr]
    told.collected(told.heirs())


def test_what_was_left_with_its_holder_waits_for_its_inputs_when_that_dies() -> None:
    told, holder, at = with_a_holder_elsewhere()
    told.scene.until(lambda: told.scene.home(told.calls[at]) is not None)
    told.scene.until(lambda: told.calls[at].job in told.primary(at).core.owner.jobs)
    told.scene.run(0.5)
    assert running(told, at) == [holder]
    told.scene.crash(holder)
    told.collected(told.heirs())


def test_what_runs_again_under_a_new_primary_waits_for_its_inputs_as_well() -> None:
    """Once: its time came before they did, and it was free without them: the primary fell over that."""
    told, holder, at = with_a_holder_elsewhere(runs_again=True)
    told.scene.until(lambda: told.scene.home(told.calls[at]) is not None)
    told.scene.until(lambda: told.calls[at].job in told.primary(at).core.owner.jobs)
    reader = told.primary(at).core.durable.state.inputs.reader
    right, world = reader.read, told.scene.world

    def read_late(job: bytes, now: float) -> None:
        """The primary of its input is slow to answer."""
        world.after(1.0, lambda: right(job, world.now))

    reader.read = read_late  # type: ignore[method-assign]
    ledger = told.lead(at).owner.jobs[told.calls[at].job].ledger
    told.scene.run(0.5)
    assert running(told, at) == [holder]
    told.scene.until(lambda: told.calls[at - 1].job in reader.jobs)
    assert isinstance(ledger, IndexedLedger)
    assert ledger.put_off is not None, "it was to run again"
    told.collected(told.heirs())


def test_a_failure_goes_on_with_the_name_of_the_first_that_had_it() -> None:
    told = submitted(durable_scene(4), [[], [0], [1], [2], []], fails=1)
    told.until_accepted()
    told.kill_program()
    heirs = told.heirs()
    told.scene.until(lambda: all(each.done for each in heirs), within=20.0)
    found = told.graph.found
    assert [isinstance(found[at], int) for at in range(5)] == [True, False, False, False, True]
    assert [found[at] for at in (1, 2, 3)] == [FAILED] * 3
    primary = told.lead(3).replica
    ((_, blob),) = primary.following(0, told.lead(3).replication.unsettled)
    (failure,) = failures_of(blob)
    assert failure.of.startswith(f"durable call {told.calls[1].work.spec.name} (")
    told.nothing_is_left()


def test_a_cancelled_call_cancels_what_it_goes_into_and_nothing_else() -> None:
    told = submitted(durable_scene(4), [[], [0], [1], []], seconds=1.0)
    told.until_accepted()
    told.graph.cancelled.add(0)
    told.calls[0].abolish()
    told.scene.until(lambda: all(each.done for each in told.calls), within=20.0)
    assert [each.state for each in told.calls] == [CANCELLED] * 3 + ["done"]
    told.nothing_is_left()


def failed_as(told: Submitted, at: int, kind: str, text: str) -> None:
    """This call has failed like this, as its primary has it."""
    told.scene.until(lambda: told.scene.home(told.calls[at]) is not None)
    told.scene.until(lambda: told.lead(at).replica.ended, within=60.0)
    ((_, blob),) = told.lead(at).replica.following(0, IntervalSet())
    (failure,) = failures_of(blob)
    assert failure.kind == kind
    assert text in failure.text


def test_a_result_that_is_lost_fails_what_it_goes_into_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The primary of the third has it, and dies; and no other node keeps it any more."""
    monkeypatch.setattr(inputs, "PATIENCE", 1.0)
    scene = durable_scene(4, primary_patience_seconds=8.0)
    told = submitted(scene, [[], [], [0, 1]], seconds=0.1)
    told.graph.may_lose = True
    told.calls[1].work.law = CostLaw("const", 20.0)
    told.until_accepted()
    scene.until(lambda: told.calls[0].done)
    told.kill_program()
    for node in scene.nodes:
        node.core.durable.state.drop(told.calls[0].job)
    scene.crash(told.primary(2))
    failed_as(told, 2, VALUE_LOST, short_form(told.calls[0].job))
    told.nothing_is_left()


def test_the_holder_of_a_token_gets_no_results_of_others() -> None:
    told = submitted(durable_scene(3), [[], [0], [0]], seconds=0.5)
    told.graph.may_lose = True
    told.calls[1].work.spec = replace(told.calls[1].work.spec, guest="ada")
    told.until_accepted()
    failed_as(told, 1, VALUE_LOST, inputs.NOT_THEIRS)
    told.scene.until(lambda: told.calls[2].done)
    assert isinstance(told.graph.found[2], int)


def test_nor_if_its_primary_has_them_for_another() -> None:
    told = submitted(durable_scene(1), [[], [], [0, 1], [0]], seconds=0.2)
    told.graph.may_lose = True
    told.calls[1].work.law = CostLaw("const", 5.0)
    late = told.calls[3]
    late.work.spec = replace(late.work.spec, guest="ada")
    late.by_name, late.held_until = True, told.scene.world.now + 3.0
    told.until_accepted()
    inputs_there = told.primary(2).core.durable.state.inputs
    assert told.calls[0].job in inputs_there.results
    failed_as(told, 3, VALUE_LOST, inputs.NOT_THEIRS)
    told.scene.until(lambda: told.calls[2].done)
    assert isinstance(told.graph.found[2], int)


def test_results_without_room_at_a_primary_come_when_all_others_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "ROOM_SHARE", 40 / (1024 << 20))
    told = submitted(durable_scene(1), [*([[]] * 7), [0, 1, 2, 3, 4, 5, 6], [6, 0], [5]])
    told.calls[6].work.law = CostLaw("const", 4.0)
    asked = told.scene.nodes[0].core.durable.state.inputs
    told.until_accepted()
    told.kill_program()
    told.scene.run(3.0)
    assert all(told.lead(at).replica.ended for at in (0, 1, 2, 3, 4, 5, 9))
    assert 0 < asked.octets <= 40
    assert len(asked.results) < 4
    told.collected(told.heirs())
    assert not asked.octets


def test_results_stay_for_a_call_that_no_node_can_run_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: it was free, and did not count as one that waits. What went into it was dropped for room, and the
    primary fell when a node came that could run it."""
    monkeypatch.setattr(inputs, "ROOM_SHARE", 0.0)
    told = submitted(durable_scene(1), [[], [0], [0]], seconds=1.0)
    late = told.calls[2]
    late.work.spec = replace(late.work.spec, resources=(("gpu", 1),))
    told.until_accepted()
    told.scene.until(lambda: told.calls[1].done)
    told.scene.run(1.0)
    told.scene.nodes.append(
        told.scene.world.node("gpu", seeds=[SEED_ADDRESS], resources=(("gpu", 1),))
    )
    told.collected()


def test_results_that_no_message_can_carry_together_fail_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_edges, "BLOB_OCTETS_MAX", 20)
    told = submitted(durable_scene(3), [[], [], [0], [0, 1]])
    told.graph.may_lose = True
    told.until_accepted()
    failed_as(told, 3, UNSENDABLE, "hand on the names of files")
    told.scene.until(lambda: told.calls[2].done)
    assert isinstance(told.graph.found[2], int)
    told.nothing_is_left()


def test_a_collected_call_stays_while_it_goes_into_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program has its result, and the primary has more calls than it keeps."""
    monkeypatch.setattr(retention, "CALLS_KEPT_MAX", 0)
    told = submitted(durable_scene(4), [[], [], [0, 1]], seconds=0.1)
    told.calls[1].work.law = CostLaw("const", 6.0)
    told.until_accepted()
    told.scene.until(lambda: told.calls[0].done)
    told.scene.run(3.0)
    primary = told.primary(2)
    told.scene.crash(primary)
    told.collected()


def test_explain_names_the_durable_calls_that_a_call_waits_for() -> None:
    """Once, it said that it waits for others."""
    told = submitted(durable_scene(3), [[], [], [0, 1]], seconds=0.5)
    told.calls[1].work.law = CostLaw("const", 5.0)
    told.until_accepted()
    told.scene.until(lambda: told.calls[0].done)
    owner, now = told.primary(2).core.owner, told.scene.world.now
    job = owner.jobs[told.calls[2].job]
    wanted = f"it waits for the results of durable call {short_form(told.calls[1].job)}"
    assert [each.told for each in why_item(owner, job, 0, now)] == [wanted]
    assert [each.told for each in why_job(owner, job, now)] == [wanted]
    told.collected()


def test_many_calls_at_one_home_ask_for_an_input_once() -> None:
    scene = durable_scene(1)
    said: list[Fetch] = []
    right = scene.nodes[0].core.links.send

    def send(peer: bytes, message: object, now: float) -> None:
        if isinstance(message, Fetch) and message.into:
            said.append(message)
        right(peer, message, now)  # type: ignore[arg-type]

    scene.nodes[0].core.links.send = send  # type: ignore[method-assign,assignment]
    told = submitted(scene, [[], *([0] for _ in range(20))], seconds=0.2)
    told.until_accepted()
    told.collected()
    assert 1 <= len(said) <= 5


@pytest.mark.parametrize("first", [1, *later(6, 11, 16)])
def test_random_worlds_with_durable_graphs(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        outcome = run(seed)
        assert not outcome.breach, f"{outcome.breach}\n    {replay(seed, 'durable-graphs')}"
