"""Why an item waits: a world for each reason that there is, asked for through the mesh by a program at its edge.

The test walks the whole list. Where a state lasts for no step, or needs a peer that lies, the world is brought as
far as it goes and the rest is set by hand; then the pure functions are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.durable.primary import Gathering
from stealmesh_engine.durable.why_kept import why_kept
from stealmesh_engine.effects import LookReady
from stealmesh_engine.events import (
    AskLook,
    CancelItems,
    Feed,
    OpenJob,
)
from stealmesh_engine.holding.slots import Chunk
from stealmesh_engine.holding.why_here import why_here
from stealmesh_engine.ledger.mishaps import OUTCOMES_MAX, Mishaps
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.why import WORDS, Fact, Why
from stealmesh_engine.ledger.why_owned import why_free, why_item
from stealmesh_engine.looks import Answer, story_of
from stealmesh_protocol.ids import JobId, digest_of, job_id
from stealmesh_protocol.messages import (
    Block,
    FnPut,
    JobKind,
    JobSpec,
    Report,
    Resources,
    Seen,
    Topic,
    ValuePut,
)
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .durable_scenes import durable_scene
from .scenes import SEED_ADDRESS, Scene, scene
from .test_graphs import graph

SLOW = CostLaw("const", 5.0)
QUICK = CostLaw("const", 0.001)
GPU: Resources = (("GPU", 1),)

Found = list[Fact] | dict[str, Any]
WORLDS: dict[Why, Callable[[], Found]] = {}


def world_of(*reasons: Why) -> Callable[[Callable[..., Found]], Callable[..., Found]]:
    """This world shows these reasons."""

    def enter(make: Callable[..., Found]) -> Callable[..., Found]:
        for reason in reasons:
            takes = make.__code__.co_argcount
            WORLDS[reason] = partial(make, reason) if takes else make
        return make

    return enter


def ask(told: Scene, job: JobId, item: int = -1, by: Process | None = None) -> dict[str, Any]:
    """What a program at the edge of the mesh is told."""
    eye = by or told.world.client("eye", seeds=[SEED_ADDRESS])
    if by is None:
        told.run(1.0)
    answers: list[LookReady] = []
    before = eye.listener

    def listen(process: Process, effect: Any) -> None:
        if isinstance(effect, LookReady):
            answers.append(effect)
        elif before is not None:
            before(process, effect)

    eye.listener = listen
    eye.hear(AskLook(1, Topic.EXPLAIN, job, item))
    told.until(lambda: bool(answers))
    read = [msgspec.msgpack.decode(each, type=Answer) for each in answers[0].answers]
    return story_of(read, job, item)


def owned(told: Scene, program: VirtualProgram) -> IndexedJob:
    job = told.owned(program)
    assert isinstance(job, IndexedJob)
    return job


def free(told: Scene, program: VirtualProgram, item: int = 0) -> list[Fact]:
    """What the ledger says of an item that no node has."""
    owner = told.client.core.owner
    return [why_free(owner, told.owned(program), item, told.world.now)]


def here(told: Scene, program: VirtualProgram, item: int) -> list[Fact]:
    """What the nodes say."""
    found = [why_here(n.core.holder, program.job, item, told.world.now) for n in told.nodes]
    return [fact for fact in found if fact is not None]


def loses(told: Scene, kind: type, by: Process | None = None) -> None:
    """No such message arrives any more (from this process)."""
    send = told.world.network.send

    def lossy(process: Process, effect: Any) -> None:
        if not (isinstance(effect.message, kind) and by in (None, process)):
            send(process, effect)

    told.world.network.send = lossy  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("why", list(Why))
def test_every_reason_has_a_world_in_which_it_is_found(why: Why) -> None:
    found = WORLDS[why]()
    if isinstance(found, dict):
        reasons = [found["why"], *(fact["why"] for fact in found["facts"])]
        words = [found["told"], *(fact["told"] for fact in found["facts"])]
    else:
        reasons, words = [fact.why for fact in found], [fact.told for fact in found]
    assert why.value in reasons
    beginning = WORDS[why].partition("{")[0]
    assert any(told.startswith(beginning) for told in words)


# ---------------------------------------------------------------- over


@world_of(Why.DONE, Why.FAILED)
def some_done() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=CostLaw("const", 1.0), failing=frozenset({1}))
    told.until(lambda: owned(told, program).ledger.credited.size >= 2)
    story = ask(told, program.job)
    assert any(fact["many"] == 1 for fact in story["facts"] if fact["why"] == "failed")
    return story


@world_of(Why.ENDED)
def failed_long_ago() -> Found:
    """It was said to be done."""
    told = scene(1, workers=1)
    program = told.map(9, law=CostLaw("const", 1.0))
    told.until(lambda: owned(told, program).ledger.credited.size >= 2)
    mishaps = owned(told, program).mishaps = Mishaps()
    assert ask(told, program.job, 0)["why"] == "done"
    for item in range(3, 4 + OUTCOMES_MAX):
        mishaps.add(item, b"")
    return ask(told, program.job, 0)


@world_of(Why.CANCELLED, Why.STOPPING)
def stopped() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=SLOW)
    told.run(1.0)
    (chunk,) = told.nodes[0].core.holder.slots.running()
    chunk.stop(0, 1, told.world.now)
    stopping = here(told, program, 0)
    told.client.hear(CancelItems(program.job, [(0, 1)], stop=True))
    told.run(0.01)
    story = ask(told, program.job, 0)
    assert story["why"] == "cancelled"
    return [*stopping, Fact(Why(story["why"]))]


@world_of(Why.JOB_OVER)
def over() -> Found:
    told = scene(1)
    program = told.map(3)
    told.finish()
    return ask(told, program.job, 1)


@world_of(Why.OWNER_GONE)
def its_program_is_gone() -> Found:
    told = scene(2)
    program = told.map(4, law=SLOW)
    told.run(2.0)
    told.world.crash(told.client)
    told.run(15.0)
    return ask(told, program.job, 1)


# ---------------------------------------------------------------- not there yet


def fed(told: Scene, items: int, **more: Any) -> JobId:
    """A job that gets its items one by one, and stays open."""
    job = job_id(told.client.member.id, 900)
    spec = JobSpec(job, JobKind.SUBMIT, told.client.member.id, "calls", digest_of(b"f"), **more)
    told.client.hear(OpenJob(spec, 0, 0, True, {spec.function: b"f"}))
    for item in range(items):
        told.client.hear(Feed(job, Block(item, item + 1, 0), b""))
    return job


@world_of(Why.NO_SUCH_ITEM)
def no_such_item() -> Found:
    told = scene(1, workers=1)
    return ask(told, told.map(4, law=SLOW).job, 99)


@world_of(Why.NOT_SUBMITTED)
def not_submitted() -> Found:
    told = scene(0 + 1, workers=1)
    told.world.crash(told.nodes[0])
    told.run(5.0)
    job = fed(told, 0)
    told.run(0.1)
    return ask(told, job, 3, by=told.client)


@world_of(Why.READER_BEHIND)
def the_reader_is_behind() -> Found:
    told = scene(1, workers=1)
    return ask(told, told.map(9, law=SLOW, window=2).job, 5)


@world_of(Why.NOT_ACCEPTED)
def not_accepted() -> Found:
    from stealmesh_protocol.messages import Accepted

    told = durable_scene(3)
    loses(told, Accepted)
    launcher = told.launch(20, accepted=False)
    told.run(0.5)
    return ask(told, launcher.job, 3, by=told.client)


@world_of(Why.DEPENDENCY)
def an_input_is_missing() -> Found:
    told = scene(1, workers=1)
    told.run(1.0)
    job = graph(told, [[], [0]], seconds=5.0).streams[0].job
    told.run(1.0)
    owner = told.client.core.owner
    (fact,) = why_item(owner, owner.jobs[job], 1, told.world.now)
    assert fact.told == f"it waits for the results of {owner.jobs[job].spec.name}/0"
    return ask(told, job, 1)


@world_of(Why.FOLLOWS)
def it_is_handed_on_in_a_chain() -> Found:
    """A link that is at its node before the one above it is done."""
    told = scene(1, workers=1)
    told.run(1.0)
    job = graph(told, [[], *([at] for at in range(5))], seconds=2.0).streams[0].job
    told.run(1.0)
    found = [
        fact for at in (1, 2, 5) for fact in [why_here(told.nodes[0].core.holder, job, at, 0.0)]
    ]
    name = told.client.core.owner.jobs[job].spec.name
    assert [fact.text for fact in found if fact is not None] == [f"{name}/{at}" for at in (0, 1, 4)]
    return [fact for fact in found if fact is not None]


# ---------------------------------------------------------------- waits by itself


@world_of(Why.RETRY)
def fails_and_is_tried_again() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=QUICK, again={1: [-1.0] * 40}, retries=40)
    job = owned(told, program)
    told.until(
        lambda: (
            (p := job.ledger.put_off) is not None and p.size > 0 and p.until(1) > told.world.now + 3
        )
    )
    return ask(told, program.job, 1)


@world_of(Why.DEFERRED)
def puts_itself_off() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=QUICK, again={1: [30.0]})
    told.run(1.0)
    story = ask(told, program.job, 1)
    (fact,) = (fact for fact in story["facts"] if fact["why"] == "deferred")
    assert 20.0 < fact["seconds"] < 30.0
    return story


# ---------------------------------------------------------------- free


@world_of(Why.FREE)
def free_for_a_moment() -> Found:
    told = scene(1, workers=1)
    return free(told, told.map(4, law=SLOW))


@world_of(Why.MADE_AGAIN)
def made_again() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=SLOW)
    told.run(1.0)
    job = owned(told, program)
    job.ledger.free.add(3, 4)
    job.ledger.leases.clear()
    job.ledger.again.add(3)
    return why_item(told.client.core.owner, job, 3, told.world.now)


@world_of(Why.MAX_PARALLEL)
def all_lanes_are_used() -> Found:
    told = scene(1, workers=2)
    program = told.map(9, law=SLOW, max_parallel=1)
    told.run(1.0)
    story = ask(told, program.job, 7)
    assert story["told"].startswith("max_parallel: 1 may run at once")
    return story


@world_of(Why.URGENT_ROUND)
def its_round_is_to_come() -> Found:
    told = scene(1, workers=1)
    told.map(9, law=SLOW)
    program = told.map(4000, law=SLOW, priority=5)
    told.run(1.0)
    return ask(told, program.job, 3999)


def with_actor(told: Scene, calls: int = 12) -> VirtualProgram:
    program = told.submit(
        Wish(JobKind.SUBMIT, calls, SLOW, told.world.now, actor=True, restarts=1, block_items=1)
    )
    told.run(1.0)
    return program


@world_of(Why.ACTOR_TURN, Why.CALL_BEFORE)
def calls_before(reason: Why) -> Found:
    told = scene(1, workers=1)
    program = with_actor(told)
    return ask(told, program.job, 11 if reason is Why.ACTOR_TURN else 1)


@world_of(Why.ACTOR_DEAD)
def its_actor_is_dead() -> Found:
    told = scene(1, workers=1)
    program = with_actor(told)
    lives = told.owned(program).lives
    assert lives is not None
    lives.deaths += ["it fell", "it fell again"]
    return free(told, program, 11)


@world_of(Why.ACTOR_HOME_AWAY)
def its_home_leaves() -> Found:
    told = scene(1, workers=1)
    program = with_actor(told, calls=1)
    told.client.core.owner.candidates.away[told.nodes[0].member.id] = None
    return free(told, program)


@world_of(Why.STARTING)
def its_process_starts() -> Found:
    told = scene(1, workers=1)
    program = with_actor(told)
    for slot in told.nodes[0].core.holder.slots.actors.values():
        slot.up = False
    return here(told, program, 0)


@world_of(Why.COPIES_NOT_SAFE, Why.NO_ROOM_FOR_RESULTS)
def its_keepers_hold_it_back(reason: Why) -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=SLOW)
    crowded = reason is Why.NO_ROOM_FOR_RESULTS
    told.owned(program).keeping = SimpleNamespace(may_lease=lambda: False, crowded=crowded)
    return free(told, program)


@world_of(Why.LESSER_SIDE)
def a_cut() -> Found:
    told = scene(3, config=Config(partition="majority"))
    program = told.map(4, law=SLOW)
    told.client.core.owner.placement.side.lesser = True
    return free(told, program)


@world_of(Why.NO_NODES)
def no_node_is_left() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=SLOW)
    told.world.crash(told.nodes[0])
    told.run(5.0)
    return ask(told, program.job, 1, by=told.client)


@world_of(Why.NODES_AWAY)
def all_nodes_are_away() -> Found:
    told = scene(1, workers=1)
    program = told.map(4, law=SLOW)
    told.client.core.owner.candidates.away[told.nodes[0].member.id] = None
    (fact,) = free(told, program)
    assert fact.text == "n0 is leaving"
    return [fact]


@world_of(Why.NO_PYTHON)
def another_python() -> Found:
    world = World(1)
    node = world.node("n0", workers=1, runtime="cpython-3.12")
    told = Scene(world, [node], world.client("client", seeds=[SEED_ADDRESS]))
    told.run(3.0)
    program = told.map(4, law=SLOW, runtime="cpython-3.11")
    told.run(1.0)
    story = ask(told, program.job, 1)
    assert "1 node runs cpython-3.12" in story["told"]
    return story


def with_gpus(*resources: Resources) -> Scene:
    world = World(1)
    nodes = [
        world.node(f"n{at}", seeds=[SEED_ADDRESS] if at else [], workers=4, resources=each)
        for at, each in enumerate(resources)
    ]
    told = Scene(world, nodes, world.client("client", seeds=[SEED_ADDRESS]))
    told.run(6.0)
    return told


@world_of(Why.NO_RESOURCES)
def its_gpu_is_gone() -> Found:
    told = with_gpus((), GPU)
    program = told.map(100, law=SLOW, resources=GPU)
    told.run(1.0)
    told.world.crash(told.nodes[1])
    told.run(8.0)
    return ask(told, program.job, 50)


@world_of(Why.RESOURCES_TAKEN)
def its_gpu_is_taken() -> Found:
    told = with_gpus(GPU)
    program = told.map(9, law=SLOW, resources=GPU)
    told.run(1.0)
    story = ask(told, program.job, 7)
    assert story["told"] == "the node's resources are in use: GPU 1 of 1"
    return story


@world_of(Why.DECLINED)
def nobody_has_its_module() -> Found:
    told = scene(2)
    program = told.map(4, law=SLOW)
    for node in told.nodes:
        told.owned(program).passing().unfit(
            node.member.id, "no module named pandas", told.world.now
        )
    (fact,) = free(told, program)
    assert fact.text.count("no module named pandas") == 2
    return [fact]


# ---------------------------------------------------------------- leased


@world_of(Why.LEASED)
def its_node_does_not_answer() -> Found:
    told = scene(2, workers=1)
    program = told.map(1, law=SLOW)
    told.run(1.0)
    holder = next(node for node in told.nodes if told.holds(node, program))
    eye = told.world.client("eye", seeds=[SEED_ADDRESS])
    told.run(1.0)
    loses(told, Seen, by=holder)
    asked = told.world.now
    story = ask(told, program.job, 0, by=eye)
    assert told.world.now - asked <= 1.0, (
        "those that do not answer are waited for no longer than that"
    )
    (fact,) = (fact for fact in story["facts"] if fact["why"] == "leased")
    assert 1.5 < fact["seconds"] < 4.0
    assert fact["text"] == holder.name
    return story


@world_of(Why.RUNNING)
def it_runs() -> Found:
    told = scene(1, workers=1)
    program = told.map(1, law=SLOW)
    told.run(1.0)
    story = ask(told, program.job, 0)
    assert story["told"].startswith("it runs on worker 0, for 2.")
    assert story["node"] == "n0"
    return story


def with_chunks(told: Scene) -> tuple[VirtualProgram, Chunk]:
    """Cheap items, until many are in one chunk and one waits behind it."""
    program = told.map(400_000, law=QUICK)
    slots = told.nodes[0].core.holder.slots
    told.until(
        lambda: any(
            s.running and s.queued and s.running.hi - s.running.lo > 2
            for s in slots.by_worker.values()
        )
    )
    slot = next(iter(slots.by_worker.values()))
    assert slot.running is not None
    return program, slot.running


@world_of(Why.IN_CHUNK, Why.NEXT_AT_WORKER, Why.QUEUED)
def in_a_chunk() -> Found:
    told = scene(1, workers=1)
    program, chunk = with_chunks(told)
    queued = told.nodes[0].core.holder.slots.by_worker[0].queued
    assert queued is not None
    facts = [
        *here(told, program, chunk.hi - 1),
        *here(told, program, queued.lo),
        *here(told, program, 300_000),
    ]
    assert facts[2].count > 200_000, "behind how many"
    return facts


@world_of(Why.CHILDREN)
def it_waits_for_its_children() -> Found:
    told = scene(1, workers=1)
    program = told.map(1, law=SLOW)
    told.run(1.0)
    (chunk,) = told.nodes[0].core.holder.slots.running()
    chunk.waits = True
    return ask(told, program.job, 0)


@world_of(Why.LANE_BUSY)
def its_lane_is_busy() -> Found:
    told = scene(1, workers=1)
    program = told.map(3000, law=QUICK, max_parallel=1, endless=frozenset({900}))
    held = told.nodes[0].core.holder.jobs

    def stands() -> bool:
        leases = held[program.job].bags.leases.values() if program.job in held else ()
        return any(lease.busy and lease.untouched for lease in leases)

    told.until(stands)
    lease = next(iter(held[program.job].bags.leases.values()))
    return here(told, program, lease.untouched.first)


@world_of(Why.FUNCTION_COMES)
def its_function_comes() -> Found:
    told = scene(1, workers=1)
    loses(told, FnPut)
    program = told.map(4, law=SLOW)
    told.run(1.0)
    return ask(told, program.job, 2)


def with_values(told: Scene) -> VirtualProgram:
    loses(told, ValuePut)
    program = told.submit(
        Wish(JobKind.MAP, 4, SLOW, told.world.now, fed=True, block_items=1, values=1)
    )
    told.run(1.0)
    return program


@world_of(Why.VALUE_COMES)
def its_value_comes() -> Found:
    told = scene(1, workers=1)
    return ask(told, with_values(told).job, 2)


@world_of(Why.VALUE_MADE_AGAIN, Why.VALUE_HAS_NO_ROOM)
def its_value_waits(reason: Why) -> Found:
    told = scene(1, workers=1)
    program = with_values(told)
    copies = told.nodes[0].core.values.copies
    (fetch,) = copies.fetches.values()
    fetch.made_again = reason is Why.VALUE_MADE_AGAIN
    fetch.asked_at, copies.held_back = None, True
    return here(told, program, 2)


@world_of(Why.RESULTS_UNHEARD, Why.NO_WORKER, Why.NODE_LEAVES)
def its_node_begins_nothing(reason: Why) -> Found:
    told = scene(1, workers=1)
    program = told.map(9, law=SLOW)
    told.run(1.0)
    holder = told.nodes[0].core.holder
    if reason is Why.RESULTS_UNHEARD:
        holder.jobs[program.job].unsettled_octets = 1 << 40
    elif reason is Why.NODE_LEAVES:
        holder.dispatcher.draining = True
    else:
        holder.slots.by_worker.clear()
    return here(told, program, 7)


@world_of(Why.KEPT_APART)
def it_may_not_run_beside_that() -> Found:
    told = scene(1, workers=1)
    program = told.map(9, law=SLOW)
    told.run(1.0)
    holder = told.nodes[0].core.holder
    held = holder.jobs[program.job]
    held.bags.together = 4
    held.spec = msgspec.structs.replace(held.spec, code=b"a" * 16)
    other = Chunk(99, job_id(b"x" * 16, 1), 1, 0, 1, 0, 0.0, None, together=4, code=b"b" * 16)
    holder.slots.beside[0] = {99: other}
    return here(told, program, 7)


@world_of(Why.REPORT_UNDER_WAY)
def its_report_is_under_way() -> Found:
    told = scene(1, workers=1)
    program = told.map(2, law=CostLaw("const", 0.5))
    loses(told, Report)
    told.run(0.9)
    return here(told, program, 0)


# ---------------------------------------------------------------- durable jobs


@world_of(Why.NO_PRIMARY, Why.GATHERING)
def its_primary_is_gone(reason: Why) -> Found:
    told = durable_scene(4)
    launcher = told.launch(2000, law=CostLaw("const", 0.05))
    told.run(1.0)
    home = told.at_home(launcher)
    if reason is Why.GATHERING:
        told.lead(home, launcher).gathering = Gathering(0.0, [], 1)
        state, client = home.core.durable.state, home.core.durable.client
        return why_kept(state, client, launcher.job)
    told.crash(home)
    left = [node for node in told.nodes if node.alive]
    told.until(lambda: any(launcher.job in n.core.durable.state.candidacies for n in left))
    return [
        fact
        for node in left
        for fact in why_kept(node.core.durable.state, node.core.durable.client, launcher.job)
    ]


@world_of(Why.RESULT_NOT_SAFE)
def its_result_is_not_safe() -> Found:
    told = durable_scene(3, commit_seconds=5.0)
    launcher = told.launch(40, law=CostLaw("const", 0.2))
    told.until(
        lambda: any(j.unsettled for n in told.nodes for j in n.core.holder.jobs.values()),
        within=60.0,
    )
    holder = next(n for n in told.nodes if any(j.unsettled for j in n.core.holder.jobs.values()))
    (lo, _), *_ = next(iter(holder.core.holder.jobs.values())).unsettled
    fact = why_here(holder.core.holder, launcher.job, lo, told.world.now)
    assert fact is not None
    return [fact]
