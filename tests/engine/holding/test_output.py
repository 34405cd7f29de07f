"""What tasks print on its way to their owner: at once, in order, before results, and within bounds at each peer."""

from __future__ import annotations

import pytest
from tests.engine.wire import Host, Wire, pair, ring

from stealmesh_engine.base.output_room import LINE_COSTS
from stealmesh_engine.effects import JobPrinted
from stealmesh_engine.events import ChunkDone, ItemsPrinted
from stealmesh_engine.holding import output
from stealmesh_engine.ledger import output as at_the_owner
from stealmesh_protocol.codec import encode
from stealmesh_protocol.ids import JobId
from stealmesh_protocol.limits import TEXT_OCTETS_MAX, TEXTS_MAX
from stealmesh_protocol.messages import Grant, Output, Printed, Report, Role, Text

LINE = b"x" * 99 + b"\n"


def working(items: int = 4) -> tuple[Wire, Host, Host, JobId, int]:
    """A client whose job runs on a node, and the chunk."""
    wire, client, node = pair()
    job = client.open(items, output=Output.CALLER)
    chunk = node.running()
    assert chunk is not None
    wire.advance(1.0)
    wire.hush()
    return wire, client, node, job, chunk.chunk


def shown(client: Host) -> list[tuple[str, int, int, bytes, int]]:
    return [
        (effect.node, *text) for effect in client.take_told(JobPrinted) for text in effect.texts
    ]


def test_the_first_line_goes_at_once() -> None:
    wire, client, node, job, chunk = working()
    node.step(ItemsPrinted(0, chunk, 0, 1, b"hello\n"))
    assert shown(client) == [("node", 0, 1, b"hello\n", 0)]
    assert wire.take(Printed) == [Printed(job, [Text(0, 1)], [b"hello\n"])]


def test_later_lines_go_together_within_a_fifth_of_a_second() -> None:
    wire, client, node, _, chunk = working()
    for number in range(100):
        node.step(ItemsPrinted(0, chunk, 0, 1, b"%d\n" % number))
        wire.advance(0.001)
    wire.advance(0.2 - 0.05)
    assert b"".join(text for *_, text, _ in shown(client)) == b"".join(
        b"%d\n" % number for number in range(100)
    )
    assert len(wire.take(Printed)) <= 4


def test_it_comes_before_the_result_of_its_item() -> None:
    wire, client, node, job, chunk = working(1)
    node.step(ItemsPrinted(0, chunk, 0, 1, b"first\n"))
    wire.hush()
    node.step(ItemsPrinted(0, chunk, 0, 1, b"last\n"), ChunkDone(0, chunk, 0, b"r", 0.01))
    kinds = [type(said.message) for said in wire.said if said.by == "node"]
    assert kinds.index(Printed) < kinds.index(Report)
    assert [text for *_, text, _ in shown(client)] == [b"first\n", b"last\n"]
    assert client.is_done(job)


def test_a_chunk_that_the_worker_has_begun_before_we_know() -> None:
    """It is queued here: the end of the one before it is told behind the line."""
    wire, client, node = pair()
    client.open(4000, output=Output.CALLER)
    wire.work(lambda: len(node.work.get(0, ())) == 2, item_seconds=0.01)
    queued = node.work[0][1]
    node.step(ItemsPrinted(0, queued.chunk, queued.lo, queued.lo + 1, b"early\n"))
    wire.advance(0.1)
    assert ("node", queued.lo, queued.lo + 1, b"early\n", 0) in shown(client)


def test_lines_of_too_many_items_are_counted_for_the_program_too() -> None:
    wire, client, node, _, chunk = working(4 * TEXTS_MAX)
    node.step(*(ItemsPrinted(0, chunk, at, at + 1, b"x\n", 1) for at in range(3 * TEXTS_MAX)))
    wire.advance(0.2)
    told = shown(client)
    lines = sum(text.count(b"\n") for *_, text, _ in told)
    assert 0 < lines < 3 * TEXTS_MAX
    assert lines + sum(dropped for *_, dropped in told) == 6 * TEXTS_MAX
    assert all(0 <= lo < hi <= 3 * TEXTS_MAX for _, lo, hi, _, _ in told)


def test_what_an_item_has_left_running_speaks_for_its_job() -> None:
    wire, client, node, _, chunk = working(4)
    node.step(ItemsPrinted(0, chunk, 0, 1, b"mine\n"))
    node.step(ItemsPrinted(0, 0, 0, 0, b"of a thread\n"))
    wire.advance(0.1)
    assert shown(client)[-1] == ("node", 0, 0, b"of a thread\n", 0)


def test_it_is_counted_where_no_job_wants_it() -> None:
    wire, client, node = pair()
    client.open(4)
    chunk = node.running()
    assert chunk is not None
    node.step(ItemsPrinted(0, chunk.chunk, 0, 1, b"a\nb\n"), ItemsPrinted(0, 77, 0, 1, b"c\n"))
    wire.advance(0.2)
    assert shown(client) == []
    assert node.core.counters["output-of-nothing"] == 3


def test_a_quiet_task_costs_no_message() -> None:
    wire, client, node, job, _ = working(1)
    node.finish()
    wire.advance(1.0)
    assert wire.take(Printed) == []
    assert client.is_done(job)


@pytest.mark.parametrize("workers", [8])
def test_a_million_lines_are_bounded_counted_and_late_for_nothing(workers: int) -> None:
    """A node that gets as much as its host lets through (`workers/printed.py`), every 40 ms."""
    wire, client, (node,) = ring(1, workers=workers)
    client.open(workers, output=Output.CALLER, chunk_items=1)
    chunks = [node.work[worker][0] for worker in range(workers)]
    wire.advance(1.0)
    client.take_told(JobPrinted)
    lines = 0
    for _ in range(100):
        for worker, chunk in enumerate(chunks):
            text = LINE * (TEXT_OCTETS_MAX // len(LINE))
            lines += 1250
            here = text.count(b"\n")
            node.step(ItemsPrinted(worker, chunk.chunk, chunk.lo, chunk.lo + 1, text, 1250 - here))
        waiting = node.core.holder.printouts.unsaid.values()
        assert sum(sum(map(len, each.blobs)) for each in waiting) <= output.OCTETS_AT_ONCE
        wire.advance(0.04)
    for chunk in chunks:
        node.finish(chunk.worker)
    wire.advance(1.0)
    told = shown(client)
    octets = sum(len(text) for *_, text, _ in told)
    assert lines == 1_000_000
    assert octets <= output.OCTETS_AT_ONCE + 5.0 * output.OCTETS_A_SECOND
    seen = sum(text.count(b"\n") for *_, text, _ in told)
    assert seen + sum(lost for *_, lost in told) == lines
    assert node.core.counters["output-dropped"] == lines - seen
    for said in wire.take(Printed):
        encode(said)  # each is within the bounds of the wire
    assert client.delivered(client.core.me.id + b"\0\0\0\1").total() == workers


# ---------------------------------------------------------------- a peer that lies


def test_an_owner_takes_no_more_than_it_can_show() -> None:
    """Whatever a node sends: the program gets so much, and the number of the others."""
    wire, client, node, job, _ = working()
    blobs = [LINE * 160] * 4
    for _ in range(1000):
        node.core.links.send(client.id, Printed(job, [Text(0, 1)] * 4, blobs), wire.now)
    node.step()
    told = shown(client)
    assert sum(len(text) for *_, text, _ in told) <= at_the_owner.OCTETS_AT_ONCE
    assert sum(text.count(b"\n") + lost for *_, text, lost in told) == 1000 * 4 * 160


def test_output_of_other_peoples_jobs_is_not_shown() -> None:
    wire, client, node = pair()
    stranger = wire.add("stranger", workers=0, seeds=[node.endpoint])
    wire.advance(3.0)
    job = client.open(4, output=Output.CALLER)
    said = Printed(job, [Text(0, 1)], [b"a lie\n"])
    wire.advance(1.0)
    grants = [each for each in wire.said if isinstance(each.message, Grant)]
    assert all(each.to == "node" for each in grants)
    stranger.core.links.connect(client.id, wire.now)
    stranger.core.links.send(node.id, said, wire.now)
    stranger.step()
    wire.advance(1.0)
    client.core.owner.printouts.printed(stranger.id, client.core.owner.jobs[job], said, wire.now)
    assert shown(client) == []
    assert client.core.counters["output-too-late"] == 1


def test_output_that_was_not_asked_for_is_rude() -> None:
    wire, client, node = pair()
    job = client.open(4)
    wire.advance(1.0)
    node.core.links.send(client.id, Printed(job, [Text(0, 1)], [b"?\n"]), wire.now)
    node.step()
    assert shown(client) == []
    assert client.core.counters["rude-printed-unasked"] == 1


def test_a_client_is_no_place_to_print_to() -> None:
    """It hears of its own jobs only, and what comes too late is counted."""
    wire, client, node, job, _ = working(1)
    node.finish()
    wire.advance(1.0)
    assert client.core.me.role is Role.CLIENT
    node.core.links.send(client.id, Printed(job, [Text(0, 1)], [b"late\n"]), wire.now)
    node.step()
    assert shown(client) == []
    assert client.core.counters["output-too-late"] == 1


@pytest.mark.parametrize(
    ("text", "blob"),
    [(Text(0, 1, 0), b""), (Text(0, 0, 0), b""), (Text(3, 9, 0), b""), (Text(0, 1, 2**62), b"")],
)
def test_nothing_said_again_and_again_takes_the_room_of_one(text: Text, blob: bytes) -> None:
    """A holder that says an empty text for ever made the home of a durable job count room that is not taken, until
    it kept no output of that job any more."""
    kept = at_the_owner.KeptOutput()
    for _ in range(2 * at_the_owner.KEPT_OCTETS_A_JOB // LINE_COSTS):
        kept.add(text, blob)
    assert kept.octets == LINE_COSTS


def test_kept_output_stays_within_its_room() -> None:
    kept = at_the_owner.KeptOutput()
    for item in range(1000):
        kept.add(Text(item, item + 1, 0), bytes([10]) * 5000)
    assert kept.octets <= at_the_owner.KEPT_OCTETS_A_JOB
    assert kept.of(999)[1] == [bytes([10]) * 5000]
    assert kept.of(0) == ([], [])
