"""Lines that are too many: they go through memory instead of the pipe, and are counted exactly. Without processes."""

from __future__ import annotations

import io
import os
import random
import threading
from collections.abc import Iterator

import pytest

from stealmesh.workers.output_ring import BEGUN, RING_OCTETS, SPOKE, WRITTEN, OutputRing, RingReader
from stealmesh.workers.printed import LINES_AT_ONCE, OutputPipe
from stealmesh.workers.printing import CALLER, Printing

from .test_printing import Handle, Here

# ---------------------------------------------------------------- the memory


@pytest.fixture
def ends() -> Iterator[tuple[OutputRing, RingReader]]:
    reader = RingReader()
    yield OutputRing.of(os.dup(reader.far_end.fileno())), reader
    reader.close()


Ends = tuple[OutputRing, RingReader]


def test_what_is_put_down_is_read_and_what_is_written_over_is_not(ends: Ends) -> None:
    writer, reader = ends
    rng, said = random.Random(1), b""
    for number in range(4000):
        octets = b"%d " % number + b"x" * rng.randrange(200) + b"\n"
        writer.put(octets, 1)
        said += octets
        if rng.random() < 0.01:
            end, lines = reader.written() or (0, 0)
            assert (end, lines) == (len(said), number + 1)
            start = rng.randrange(max(0, end - 2 * RING_OCTETS), end)
            octets, first = reader.copy(start, end)
            assert first == max(start, end - RING_OCTETS)
            assert octets == said[first:end]
            most = rng.randrange(1, RING_OCTETS)
            assert (
                writer.end_of(start, most) == said[max(start, end - min(most, RING_OCTETS)) : end]
            )


@pytest.mark.parametrize("halves", [3, 7])
def test_more_than_there_is_room_for_leaves_its_end(ends: Ends, halves: int) -> None:
    writer, reader = ends
    writer.put(b"before\n", 1)
    octets = os.urandom(halves * RING_OCTETS // 2)
    writer.put(octets, 0)
    assert reader.copy(0, 10**9) == (octets[-RING_OCTETS:], 7 + len(octets) - RING_OCTETS)


def test_what_may_be_half_written_is_not_read(ends: Ends) -> None:
    writer, reader = ends
    writer.put(bytes(RING_OCTETS), 0)
    writer.words[BEGUN] = RING_OCTETS + 100  # and it writes just now
    assert reader.written() is None
    octets, first = reader.copy(0, RING_OCTETS)
    assert (first, len(octets)) == (100, RING_OCTETS - 100)


def test_a_task_that_writes_nonsense_there_harms_nobody(ends: Ends) -> None:
    writer, reader = ends
    for word in (2**64 - 1, 2**40, 0):
        writer.words[WRITTEN] = word
        for begun in (2**64 - 1, word, 0):
            writer.words[BEGUN] = begun
            assert len(reader.copy(0, 2**64)[0]) <= RING_OCTETS


# ---------------------------------------------------------------- a worker that prints too much

Talk = tuple[Printing, Here, OutputPipe, list[bytes]]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """What has room is set by the tests, and not by the time that they take."""
    monkeypatch.setattr(OutputPipe, "_refill", lambda self: None)
    told: list[bytes] = []
    pipe, here, talk = OutputPipe(), Here(), Printing()
    pipe.widen()
    talk._pipe, talk._here, talk.tell = pipe.far_end.fileno(), lambda: here, told.append
    talk._ring = OutputRing.of(os.dup(pipe.ring.far_end.fileno()))
    talk._ring_words, talk._put = talk._ring.words, talk._ring.put
    talk.knows(pipe.sign)
    talk.mode = CALLER
    yield talk, here, pipe, told
    pipe.close()


def prints(talk: Printing, here: Here, text: str) -> None:
    """As `print` does."""
    assert talk._here() is here
    write = talk._writer(1, io.TextIOWrapper(io.BytesIO()))
    for piece in (text, "\n"):
        write(piece)


def told_of(pipe: OutputPipe) -> dict[tuple[int, int, int], tuple[list[bytes], int]]:
    found, pipe.said = pipe.said, {}
    return {key: (b"".join(texts).splitlines(), dropped) for key, (texts, dropped) in found.items()}


def floods(talk: Printing, here: Here, pipe: OutputPipe, handle: Handle) -> None:
    """Until its lines go into the ring."""
    for number in range(LINES_AT_ONCE + 1):
        prints(talk, here, f"early {number}")
    pipe.look(handle)
    assert pipe.ring.beyond


def flooded(talk: Talk, **chunks: tuple[int, int]) -> Handle:
    """A worker with these chunks, whose lines go into the ring from now on."""
    printing, here, pipe, _ = talk
    handle = Handle(**chunks)
    floods(printing, here, pipe, handle)
    told_of(pipe)
    return handle


def test_lines_that_nobody_will_see_cost_no_system_call_and_are_counted(talk: Talk) -> None:
    printing, here, pipe, told = talk
    handle = Handle(c7=(0, 1))
    floods(printing, here, pipe, handle)
    ((lines, dropped),) = told_of(pipe).values()
    assert len(lines) + dropped == LINES_AT_ONCE + 1
    for number in range(20_000):
        prints(printing, here, f"line {number}")
    with pytest.raises(BlockingIOError):
        os.read(pipe.fd, 1)
    printing.chunk_ends()
    end, lines_put = SPOKE.unpack(told[-1])
    assert lines_put == 20_000
    pipe.read(handle)
    pipe.take(end, lines_put, handle)
    ((lines, dropped),) = told_of(pipe).values()
    assert len(lines) + dropped == 20_000


def test_what_has_room_is_passed_on_from_the_ring_in_order(talk: Talk) -> None:
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 1))
    for number in range(50):
        prints(printing, here, f"line {number}")
    pipe._lines, pipe._room = 30.0, 10_000.0
    assert pipe.look(handle)
    ((lines, dropped),) = told_of(pipe).values()
    assert lines[:30] == [b"line %d" % number for number in range(30)]
    assert len(lines) + dropped == 50


def test_a_quiet_worker_goes_back_to_its_pipe_and_the_order_stays(talk: Talk) -> None:
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 1))
    prints(printing, here, "in the ring")
    pipe.ring.beyond = False
    prints(printing, here, "in the pipe")
    pipe._lines, pipe._room = 100.0, 10_000.0
    pipe.read(handle)
    assert told_of(pipe) == {(7, 0, 1): ([b"in the ring", b"in the pipe"], 0)}
    assert pipe.tail(7, 0).endswith("in the ring\nin the pipe\n")
    pipe._lines = 1000.0
    pipe.ring.beyond = True
    assert pipe.look(handle), "and looks once more"
    assert not pipe.ring.beyond
    assert not pipe.look(handle)


def test_lines_of_several_items_are_counted_for_their_chunk(talk: Talk) -> None:
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 500))
    for _ in range(300):
        here.results.append(None)
        prints(printing, here, "one line each")
    pipe._lines, pipe._room = 2.0, 10_000.0
    pipe.look(handle)
    assert told_of(pipe) == {
        (7, 1, 2): ([b"one line each"], 0),
        (7, 2, 3): ([b"one line each"], 0),
        (7, 0, 500): ([], 298),
    }


def test_a_failed_item_has_its_end_although_others_wrote_over_it(talk: Talk) -> None:
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 9))
    here.results.append(None)
    for number in range(5000):
        prints(printing, here, f"fails {number}")
    printing.item_failed()
    here.results.append(None)
    for number in range(20_000):
        prints(printing, here, f"well {number}")
    pipe.read(handle)
    assert pipe.tail(7, 1).endswith("fails 4998\nfails 4999\n")
    assert len(pipe.tail(7, 1)) == 16 * 1024
    assert told_of(pipe) == {}, "it is no line that is told again"


def test_the_end_of_a_failed_item_is_told_once_and_as_nobody_elses(talk: Talk) -> None:
    """Once: an item that failed without a word had the lines of the one before, and these had them twice; also across
    chunks, which may be another program's."""
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 9))
    here.results.append(None)
    prints(printing, here, "fails")
    printing.item_failed()
    here.results.append(None)
    printing.item_failed()  # it has said nothing
    here.results.append(None)
    pipe.ring.beyond = False
    prints(printing, here, "in the pipe")
    pipe.read(handle)
    assert pipe.tail(7, 1) == "fails\n"
    assert pipe.tail(7, 2) == ""
    pipe.ring.beyond = True
    prints(printing, here, "of 7")
    printing.chunk_ends()
    handle = Handle(c8=(0, 9))
    pipe.read(handle)
    here.number, here.results = 8, []
    printing.item_failed()
    assert pipe.read(handle) == 0, "nor does it cost anything"
    assert pipe.tail(8, 0) == ""


def test_what_begins_in_a_line_or_a_mark_begins_with_the_next_line(talk: Talk) -> None:
    """Lines shorter than a mark: a piece of one was passed on."""
    printing, here, pipe, _ = talk
    rng, said = random.Random(1), set[bytes]()
    here.number = 10  # its marks have the octet that ends lines
    handle = flooded(talk, c10=(0, 10**6))
    for number in range(4000):
        here.results.append(None)
        line = f"{number}" * rng.randrange(1, 4)
        prints(printing, here, line)
        said.add(line.encode())
        end, lines = pipe.ring.last_words()
        if end > 2 * RING_OCTETS - 5000:
            pipe.ring.read_to = pipe.ring.told_lines = 0
            pipe._lines, pipe._room = 3.0, 10_000.0
            pipe.take(end, lines, handle)
            shown = [line for found, _ in told_of(pipe).values() for line in found]
            assert len(shown) == 3
            assert said.issuperset(shown)


def test_a_dead_worker_has_left_its_last_words(talk: Talk) -> None:
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 1))
    for number in range(20_000):
        prints(printing, here, f"line {number}")
    pipe.read(handle)
    pipe.all_over(handle)
    assert pipe.last_of(7).endswith("line 19998\nline 19999\n")
    assert len(pipe.last_of(7)) == 16 * 1024
    ((lines, dropped),) = told_of(pipe).values()
    assert len(lines) + dropped == 20_000


def test_other_threads_and_forked_children_stay_with_the_pipe(talk: Talk) -> None:
    printing, _, pipe, _ = talk
    handle = flooded(talk, c7=(0, 1))
    thread = threading.Thread(target=printing.said, args=(b"of a thread\n",))
    thread.start()
    thread.join()
    assert pipe.ring.last_words() == (0, 0)
    printing._forks()
    printing._is_forked()
    printing.said(b"of a child\n")
    assert pipe.ring.last_words() == (0, 0)
    pipe._lines, pipe._room = 100.0, 10_000.0
    pipe.read(handle)
    assert told_of(pipe) == {(7, 0, 1): ([b"of a thread", b"of a child"], 0)}


def test_a_line_of_another_thread_goes_into_the_pipe(talk: Talk) -> None:
    """The ring has one writer, also while the same item goes on there."""
    printing, here, pipe, _ = talk
    flooded(talk, c7=(0, 9))
    prints(printing, here, "in the ring")
    assert printing._ring is not None
    lines = printing._ring.lines
    thread = threading.Thread(target=prints, args=(printing, here, "another's"))
    thread.start()
    thread.join()
    assert printing._ring.lines == lines
    assert b"another's\n" in os.read(pipe.fd, 4096)


def test_after_a_line_in_the_pipe_the_next_in_the_ring_has_its_mark(talk: Talk) -> None:
    """Else the node would not know that the next one in the pipe comes behind it."""
    printing, here, pipe, _ = talk
    flooded(talk, c7=(0, 9))
    for beyond in (True, False, True):
        pipe.ring.beyond = beyond
        prints(printing, here, "line")
        assert printing._in_ring == beyond


def test_another_thread_leaves_the_rest_of_a_line_to_its_writer(talk: Talk) -> None:
    """The thread that listens to the node ends a part of a chunk in the middle of a line."""
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 9))
    prints(printing, here, "whole")
    printing._parts[1].append("half ")
    for each in (printing.flush, printing.chunk_ends):
        thread = threading.Thread(target=each)
        thread.start()
        thread.join()
    with pytest.raises(BlockingIOError):
        os.read(pipe.fd, 1)
    prints(printing, here, "line")
    pipe._lines, pipe._room = 100.0, 10_000.0
    pipe.look(handle)
    assert told_of(pipe) == {(7, 0, 1): ([b"whole", b"half line"], 0)}


def test_behind_the_rest_of_an_earlier_line_the_next_has_a_mark_again(talk: Talk) -> None:
    """A flush puts down what another item left without an end."""
    printing, here, pipe, _ = talk
    handle = flooded(talk, c7=(0, 9))
    printing.said(b"no end")
    here.results.append(None)
    prints(printing, here, "first")
    printing.flush()
    prints(printing, here, "second")
    pipe._lines, pipe._room = 100.0, 10_000.0
    pipe.look(handle)
    assert told_of(pipe)[7, 1, 2][0] == [b"first", b"second"]


def test_the_node_waits_while_another_chunk_has_spoken_already(talk: Talk) -> None:
    printing, here, pipe, told = talk
    handle = flooded(talk, c7=(0, 1), c8=(1, 2))
    prints(printing, here, "of 7")
    printing.chunk_ends()
    here.number = 8
    prints(printing, here, "of 8")
    assert pipe.look(handle), "its answer is about to be read"
    assert told_of(pipe) == {}
    end, lines = SPOKE.unpack(told[-1])
    pipe.take(end, lines, handle)
    assert told_of(pipe) == {(7, 0, 1): ([], 1)}
    del handle.outstanding[7]
    pipe.look(handle)
    assert told_of(pipe) == {(8, 1, 2): ([], 1)}
