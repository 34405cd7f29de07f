"""Looks at a mesh: in a large one, past peers that lie, and at jobs that have lost their program."""

from __future__ import annotations

from typing import Any

import msgspec

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.effects import CalledOff, LookReady
from stealmesh_engine.events import AskCallOff, AskLook, Drain
from stealmesh_engine.ledger.jobs_around import KEPT_MAX, OWNER_GONE, JobsAround, one_a_job
from stealmesh_engine.ledger.why import Fact, Why
from stealmesh_engine.looks import OPEN_MAX, Answer
from stealmesh_engine.status import job_dict
from stealmesh_protocol.ids import JobId, job_id
from stealmesh_protocol.messages import JobKind, JobLine, LookAt, Seen, Topic
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .scenes import SEED_ADDRESS, Scene, scene
from .test_looking import SLOW, ask

# ---------------------------------------------------------------- a large mesh


def stacks(told: Scene, eye: Process, job: JobId, item: int) -> list[Answer]:
    answers: list[LookReady] = []
    eye.listener = lambda process, effect: (
        answers.append(effect) if isinstance(effect, LookReady) else None
    )
    eye.hear(AskLook(2, Topic.STACKS, job, item))
    told.until(lambda: bool(answers))
    return [msgspec.msgpack.decode(each, type=Answer) for each in answers[0].answers]


def test_a_stuck_item_in_a_mesh_of_a_hundred_nodes_is_found_within_a_second() -> None:
    world = World(1, audit=False, hashing=False)
    nodes = [world.node(f"n{at}", seeds=[SEED_ADDRESS] if at else []) for at in range(100)]
    told = Scene(world, nodes, world.client("client", seeds=[SEED_ADDRESS]))
    world.preset_views()
    told.run(0.5)
    program = told.map(400, law=CostLaw("const", 0.02), endless=frozenset({123}))
    told.until(lambda: told.owned(program).ledger.figures().done == 399, within=60.0)
    eye = told.world.client("eye", seeds=[SEED_ADDRESS])
    told.run(1.0)
    before, sent = told.world.now, told.world.network.messages
    story = ask(told, program.job, 123, by=eye)
    assert story["why"] == "running"
    assert story["nodes_answered"] >= 100
    assert told.world.now - before < 1.0
    assert told.world.network.messages - sent < 2500, (
        "a question and an answer a node, beside the beats"
    )
    before = told.world.now
    found = [
        (answer, each) for answer in stacks(told, eye, program.job, 123) for each in answer.workers
    ]
    assert told.world.now - before < 1.0
    ((answer, worker),) = found
    assert answer.name == story["node"]
    assert (worker.stacks[0].job, worker.stacks[0].job_name) == (program.job.hex(), "job1")


# ---------------------------------------------------------------- peers that lie, and floods


def test_what_cannot_be_read_is_counted_and_nobody_speaks_for_another() -> None:
    told = scene(2, workers=1)
    program = told.map(1, law=SLOW)
    eye = told.world.client("eye", seeds=[SEED_ADDRESS])
    told.run(1.0)
    looks, now = eye.core.looks, told.world.now
    one, two = (node.member.id for node in told.nodes)
    looks.ask(AskLook(7, Topic.EXPLAIN, program.job, 0), now)
    for blob in (b"", b"\xc1", b"\x81\xa2id\x05", b"\x91" * 1000):
        looks.ask(AskLook(8, Topic.EXPLAIN, program.job, 0), now)
        looks.answered(one, Seen(8, [blob]), now)
        looks.answered(one, Seen(8, [blob]), now)
    assert eye.core.counters["looks-unreadable"] == 4, "each once"
    lie = msgspec.msgpack.encode(Answer(two.hex(), "n1", owns=True, owned=[Fact(Why.DONE)]))
    looks.answered(one, Seen(7, [lie]), now)
    (answer,) = [a for a in looks._open[7].answers if a.owns]
    assert (answer.id, answer.name) == (one.hex(), "n0"), "it speaks under its own name"
    looks.answered(b"stranger".ljust(16), Seen(7, [lie]), now)
    assert len(looks._open[7].answers) == 2, "ours, and that one"


def test_a_node_asks_the_program_only_if_that_is_one_and_forwards_its_word_alone() -> None:
    told = scene(2, workers=1)
    program = told.map(1, law=SLOW)
    told.run(1.0)
    node, liar = told.nodes
    number = 99
    node.core.looks.asked(
        liar.member.id,
        LookAt(number, Topic.EXPLAIN, liar.member.id + b"\0\0\0\1", 0, True),
        told.world.now,
    )
    assert node.core.counters["looks-dropped"] == 1
    node.core.looks.asked(
        liar.member.id, LookAt(number, Topic.EXPLAIN, program.job, 0, True), told.world.now
    )
    ((own, owed),) = node.core.looks._owed.items()
    node.core.looks.answered(liar.member.id, Seen(own, [b"lie"]), told.world.now)
    assert node.core.looks._owed == {own: owed}
    told.run(1.0)
    assert not node.core.looks._owed
    assert node.core.looks.until is None


def test_a_flood_of_questions_has_a_bound() -> None:
    told = scene(2, workers=1)
    told.map(1, law=SLOW)
    eyes = [told.world.client(f"eye{each}", seeds=[SEED_ADDRESS]) for each in range(5)]
    told.run(1.0)
    node = next(node for node in told.nodes if node.core.holder.slots.running())
    for number in range(500):
        asks = eyes[number // 100].member.id
        node.core.looks.asked(asks, LookAt(number, Topic.STACKS), told.world.now)
    assert len(node.core.looks._owed) == OPEN_MAX
    assert node.core.counters["looks-dropped"] == 500 - OPEN_MAX
    told.run(2.0)
    assert not node.core.looks._owed
    assert node.core.next_deadline() is not None


# ---------------------------------------------------------------- jobs that have lost their program


def kept(told: Scene, program: VirtualProgram) -> dict[str, Any]:
    found = one_a_job(
        [line for node in told.nodes if node.alive for line in node.core.around.lines()]
    )
    return job_dict(found[program.job])


def test_a_job_that_ended_is_shown_when_its_program_has_left() -> None:
    told = scene(3)
    program = told.map(40, failing=frozenset({7}))
    told.until(lambda: program.done)
    told.client.hear(Drain())
    told.run(3.0)
    assert not told.client.alive
    line = kept(told, program)
    assert (line["state"], line["done"], line["failed"]) == ("done", 40, 1)
    assert line["ended"]
    knows = [node for node in told.nodes if node.core.around.ended(program.job)]
    told.world.crash(knows[0])
    assert len(knows) >= 2, "the death of one node does not take the list along"
    assert kept(told, program)["state"] == "done"


def test_a_job_whose_program_was_killed_ended_with_it() -> None:
    told = scene(3)
    program = told.map(400, law=CostLaw("const", 0.1))
    told.run(3.0)
    told.world.crash(told.client)
    told.run(15.0)
    line = kept(told, program)
    assert line["state"] == OWNER_GONE
    assert 0 < line["done"] < 400
    assert (line["leased"], line["free"]) == (0, 0)


def test_nobody_can_write_the_history_of_others() -> None:
    around = JobsAround(counters := Counters())
    me, you = b"m" * 16, b"y" * 16
    lines = [
        JobLine(job_id(each, 1), JobKind.MAP, "f", "running", 9, 3, 0, 3, 3, 0, 0)
        for each in (me, you)
    ]
    around.heard(me, lines, 0.0)
    around.gone(me, 1.0, 1.5e9)
    assert [line.job for line in around.lines()] == [job_id(me, 1)]
    assert counters["job-lines-not-theirs"] == 1
    for number in range(3000):
        line = JobLine(
            job_id(you, number), JobKind.MAP, "f", "done", 1, 1, 0, 0, 0, 0, 0, ended=1.0
        )
        around.heard(you, [line], 0.0)
        around.gone(you, 0.0, 1.5e9)
    assert len(around.lines()) == KEPT_MAX


def test_the_line_that_has_come_furthest_counts() -> None:
    job = job_id(b"m" * 16, 1)

    def line(state: str, done: int, ended: float = 0.0) -> JobLine:
        return JobLine(job, JobKind.MAP, "f", state, 9, done, 0, 0, 0, 0, 0, ended=ended)

    gone, early, late, over = (
        line(OWNER_GONE, 8, 2.0),
        line("running", 3),
        line("running", 5),
        line("done", 9, 1.0),
    )
    assert one_a_job([gone, early, late])[job] is late
    assert one_a_job([early, over, late, gone])[job] is over
    assert one_a_job([gone])[job] is gone


# ---------------------------------------------------------------- ending a program's job from outside


def test_a_job_is_called_off_at_its_program_alone() -> None:
    told = scene(3, workers=1)
    program = told.map(4, law=SLOW)
    eye = told.world.client("eye", seeds=[SEED_ADDRESS])
    told.run(1.0)
    ended: list[tuple[Process, JobId]] = []
    answers: list[LookReady] = []

    def listen(process: Process, effect: Any) -> None:
        if isinstance(effect, CalledOff):
            ended.append((process, effect.job))
        elif isinstance(effect, LookReady):
            answers.append(effect)

    for process in (told.client, eye, *told.nodes):
        process.listener = listen
    other = job_id(program.job[:16], 99)
    for nonce, job in ((1, program.job), (2, other)):
        eye.hear(AskCallOff(nonce, job))
    told.until(lambda: len(answers) == 2)
    assert ended == [(told.client, program.job)], "once, and only what is open there"
    owns = {
        ready.nonce: [answer.id for answer in map(read_answer, ready.answers) if answer.owns]
        for ready in answers
    }
    assert owns == {1: [told.client.member.id.hex()], 2: []}


def read_answer(blob: bytes) -> Answer:
    return msgspec.msgpack.decode(blob, type=Answer)
