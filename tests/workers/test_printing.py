"""What a worker's prints look like in its pipe, and what a node makes of it: without processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from stealmesh.workers import printing
from stealmesh.workers.output_ring import OutputRing
from stealmesh.workers.printed import LINE_OCTETS_MAX, LINES_AT_ONCE, OutputPipe
from stealmesh.workers.printing import CALLER, MARK, NODE, Printing


class Handle:
    """A worker with orders."""

    def __init__(self, **chunks: tuple[int, int]) -> None:
        self.outstanding = {int(name[1:]): bounds for name, bounds in chunks.items()}
        self.beside = False

    def running(self) -> int | None:
        return next(iter(self.outstanding), None)


class Here:
    """What runs in the worker."""

    def __init__(self) -> None:
        self.results: list[object] = []
        self.number: int | None = 7

    def voice(self) -> tuple[int, int] | None:
        return None if self.number is None else (self.number, len(self.results))


@pytest.fixture
def pipe() -> Iterator[OutputPipe]:
    pipe = OutputPipe()
    pipe.widen()
    yield pipe
    pipe.close()


def said(pipe: OutputPipe, handle: Any) -> dict[tuple[int, int, int], tuple[bytes, int]]:
    pipe.read(handle)
    found, pipe.said = pipe.said, {}
    return {key: (b"".join(texts), dropped) for key, (texts, dropped) in found.items()}


def wrote(pipe: OutputPipe, *pieces: bytes | tuple[int, int]) -> None:
    for piece in pieces:
        octets = piece if isinstance(piece, bytes) else pipe.sign + MARK.pack(*piece)
        os.write(pipe.far_end.fileno(), octets)


@pytest.fixture
def talk(pipe: OutputPipe) -> tuple[Printing, Here, list[str]]:
    here, told, talk = Here(), [], Printing()
    talk._pipe, talk._here, talk.tell = (
        pipe.far_end.fileno(),
        lambda: here,
        lambda _: told.append(""),
    )
    talk._ring = OutputRing.of(os.dup(pipe.ring.far_end.fileno()))
    talk._ring_words, talk._put = talk._ring.words, talk._ring.put
    talk.knows(pipe.sign)
    talk.mode = CALLER
    return talk, here, told


Talk = tuple[Printing, Here, list[str]]


def test_marks_say_whose_line_it_is(pipe: OutputPipe, talk: Talk) -> None:
    printing, here, _ = talk
    printing.said(b"zero\n")
    here.results.append(None)
    printing.said(b"one\n")
    os.write(pipe.far_end.fileno(), b"a child's\n")
    assert said(pipe, Handle(c7=(0, 3))) == {
        (7, 0, 1): (b"zero\n", 0),
        (7, 1, 2): (b"one\na child's\n", 0),
    }


def test_the_node_hears_of_a_chunk_that_has_printed_before_its_answer(talk: Talk) -> None:
    printing, _, told = talk
    printing.chunk_ends()
    told.clear()
    printing.chunk_ends()
    assert told == [], "a quiet chunk says nothing"
    printing.said(b"hello\n")
    printing.chunk_ends()
    assert told == [""]
    printing.mode = NODE
    printing.quiet = False
    printing.chunk_ends()
    assert told == [""], "what goes elsewhere is not the node's"


def test_behind_its_chunk_a_mark_means_nothing(pipe: OutputPipe, talk: Talk) -> None:
    printing, _, _ = talk
    printing.said(b"mine\n")
    printing.chunk_ends()
    os.write(pipe.far_end.fileno(), b"of the next\n")
    assert said(pipe, Handle(c7=(0, 1), c8=(1, 3)))[7, 0, 1] == (b"mine\nof the next\n", 0)
    os.write(pipe.far_end.fileno(), b"of the next\n")
    assert said(pipe, Handle(c8=(1, 3))) == {(8, 1, 3): (b"of the next\n", 0)}


def test_a_mark_in_two_reads(pipe: OutputPipe) -> None:
    handle = Handle(c7=(0, 9))
    mark = pipe.sign + MARK.pack(7, 4)
    for cut in range(1, len(mark)):
        wrote(pipe, b"x\n" + mark[:cut])
        pipe.read(handle)
        wrote(pipe, mark[cut:] + b"y\n")
        assert said(pipe, handle)[7, 4, 5][0].endswith(b"y\n")
        assert pipe.tails.popitem()[1].endswith(b"y\n")


def test_a_lie_about_a_chunk_is_nobodys(pipe: OutputPipe) -> None:
    wrote(pipe, (99, 1), b"not mine\n", (7, -5), b"or whose\n", (7, 2**40), b"far away\n")
    assert said(pipe, Handle(c7=(0, 2))) == {
        (0, 0, 0): (b"not mine\n", 0),
        (7, 0, 2): (b"or whose\nfar away\n", 0),
    }


def test_lines_are_cut_counted_and_remembered(pipe: OutputPipe) -> None:
    handle = Handle(c7=(0, 1))
    wrote(pipe, (7, 0), b"x" * 50_000 + b"\n")
    ((text, dropped),) = said(pipe, handle).values()
    assert (len(text) <= LINE_OCTETS_MAX + 20, dropped) == (True, 0)
    wrote(pipe, b"short\n" * 20_000)
    ((text, dropped),) = said(pipe, handle).values()
    shown = text.count(b"\n")
    assert 0 < shown <= LINES_AT_ONCE
    assert shown + dropped == 20_000
    assert pipe.tail(7, 0).endswith("short\nshort\n")
    assert len(pipe.tail(7, 0)) == 16 * 1024


def test_an_unfinished_line_ends_with_its_chunk(pipe: OutputPipe) -> None:
    handle = Handle(c7=(0, 1))
    wrote(pipe, (7, 0), b"1 %\r", b"50 %\r", b"100 %")
    assert said(pipe, handle) == {}
    pipe.chunk_over(7)
    assert pipe.said == {(7, 0, 1): ([b"\r100 %\n"], 0)}
    assert pipe.tails == {}


def test_a_thousand_items_with_unfinished_lines_are_bounded(pipe: OutputPipe) -> None:
    handle = Handle(c7=(0, 1000))
    for item in range(1000):
        wrote(pipe, (7, item), b"?")
        pipe.read(handle)
    assert len(pipe.tails) <= 64
    assert len(pipe._partials) <= 64


def test_orders_of_the_pipe_and_of_the_wire_agree() -> None:
    from stealmesh_protocol.messages import Output

    assert [Output.NODE, Output.CALLER, Output.NONE] == [
        printing.NODE, printing.CALLER, printing.NONE,
    ]  # fmt: skip


def test_a_forked_child_speaks_for_the_item_that_forked_it(pipe: OutputPipe, talk: Talk) -> None:
    printing, here, told = talk
    here.results.append(None)
    printing._forks()
    here.number = None  # the child forgets what runs here
    printing._is_forked()
    printing.said(b"child\n")
    printing.chunk_ends()
    assert said(pipe, Handle(c7=(0, 5))) == {(7, 1, 2): (b"child\n", 0)}
    assert told == [], "it does not speak to the node"
