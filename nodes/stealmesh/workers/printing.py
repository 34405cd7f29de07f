"""In a worker: what `sys.stdout` and `sys.stderr` are, and where what tasks print goes.

Decides by the order that begins (`JobSpec.output`): to the standard files that the worker has from its node, as
in any child process; to its node, by a pipe, for the caller; or nowhere. Descriptors 1 and 2 go there, too, so C
code and child processes are heard. All of a process is in one pipe, so its order is that of the writing; and
what is in the pipe is the node's, however the worker ends.

Whose line it is: Python's own prints are preceded by a mark (`MARK`) when another item than before prints.
What comes without one is said by what C code or a child process wrote, and belongs to the item that printed
last, or to the chunk that runs. A chunk in which nothing is printed costs one look at an attribute.

While its node drops lines, as they are too many, they go into memory that both share instead of the pipe: that costs
no system call (`output_ring.py`). What is written into the pipe after that says where in the order its place is.

Refuses to know who reads it, and how much of it arrives: the node never lets the pipe stay full, and drops
what is too much (`printed.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import struct
import sys
import termios
import threading
from _thread import get_ident
from collections.abc import Callable, Sized
from typing import Any, Protocol

from stealmesh.workers.output_ring import BEYOND, CHUNK, SPOKE, OutputRing

Voice = tuple[int, int]
"""A chunk and one of its items. -1: any of them. (0, -1): whatever runs."""

NOBODY: Voice = (0, -1)
NODE, CALLER, NONE = range(3)
"""As `Output` has them: importing the messages would cost a worker 30 ms at its start."""

SIGN_OCTETS = 12
"""Of what a mark begins with, which is another one for each process: a task prints it by accident never."""
MARK = struct.Struct("<Qq")
"""Behind the sign: chunk, item."""
MARK_OCTETS = SIGN_OCTETS + MARK.size
RING_BEFORE = -2
"""In place of an item: what lies in the ring up to here, the chunk's place in the mark, was said before."""
ONLY_END = -3
"""In place of an item: what follows is the end of what the item of the last mark has said into the ring, up to the
chunk's place in the mark."""
END_OCTETS = 16 * 1024
"""What goes with a failure: as much as `TEXT_OCTETS_MAX` lets the node keep."""
PARTS_MAX = 256
REST_OCTETS_MAX = 8192
"""An unfinished line that is longer goes as far as it is."""


class Speaks(Protocol):
    """What runs in this process (`reporting.Here`)."""

    @property
    def results(self) -> Sized: ...

    def voice(self) -> Voice | None: ...


class Printing:
    """The standard files of this process."""

    def __init__(self) -> None:
        self.mode = NODE
        """Where the output of what began last goes. Read before each chunk."""
        self.tell: Callable[[bytes], object] = lambda told: None
        """Tells the node that the chunk which is about to be answered has printed something, and how much is in
        the ring."""
        self.before_output: Callable[[], object] = lambda: None
        """Called before something of an item goes to the node."""
        self.quiet = False
        """Nothing has been printed since the last flush."""
        self.out: Any = None
        self.err: Any = None
        """`sys.stdout` and `sys.stderr`, unless a task has replaced them."""
        self.beside = False
        """Orders run side by side: what comes without a mark may be any of theirs."""
        self._here: Callable[[], Speaks]
        self._parts: dict[int, list[str]] = {1: [], 2: []}
        """By descriptor: the unfinished line of the item that runs, where one runs at a time."""
        self._results: Sized = ()
        self._at = -1
        """The list of results, and how many it had, when we last looked whose line it is."""
        self._now: Voice | None = None
        """Whose it was."""
        self._pipe = -1
        self._ring: OutputRing | None = None
        self._in_ring = False
        """What was said last is there, and not in the pipe."""
        self._ring_words: Any = None
        """Its words, where lines may go there."""
        self._put: Any = None
        self._ring_marked: Voice | None = None
        """Whose the lines there are."""
        self._goes_on = False
        """What is printed now is of the same item as what was put down there last."""
        self._loop = get_ident()
        """The thread that runs tasks."""
        self._ring_from = 0
        """Where there the item that speaks has begun, or its end was told."""
        self._sign = b""
        self._real: tuple[int, int] = (-1, -1)
        self._marked: Voice | None = None
        """Whom the node takes what comes next for."""
        self._rests: dict[Voice | None, bytes] = {}
        """Unfinished lines."""
        self._lock: Any = threading.RLock()
        self._fixed: Voice | None = None
        """In a process that a task has forked: the item that did it."""
        self._forked = False

    def settle_in(
        self, pipe: int, ring: int, here: Callable[[], Speaks], tell: Callable[[bytes], object]
    ) -> None:
        """Before any user code runs: take the place of what Python opened."""
        self._pipe, self._here, self.tell = pipe, here, tell
        self._ring, self._loop = OutputRing.of(ring), get_ident()
        self._real = os.dup(1), os.dup(2)  # now: a task may close them
        self.out = sys.stdout = _stream(sys.stdout, 1, self)
        self.err = sys.stderr = _stream(sys.stderr, 2, self)
        os.register_at_fork(before=self._forks, after_in_child=self._is_forked)

    def knows(self, sign: bytes) -> None:
        self._sign = sign

    def goes_to(self, mode: int) -> None:
        """What begins now has its output go there."""
        if not self._sign:
            return  # its node knows no marks
        _flush()
        if mode == NONE:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            ends = nowhere, nowhere
        else:
            ends = (self._pipe, self._pipe) if mode == CALLER else self._real
        os.dup2(ends[0], 1)
        os.dup2(ends[1], 2)
        if mode == NONE:
            os.close(nowhere)
        self.mode, self._at = mode, -1
        if not self.beside and self._ring is not None:
            self._ring_words, self._put = self._ring.words, self._ring.put
        for fd, stream in ((1, self.out), (2, self.err)):
            self._connect(fd, stream)

    def tell_of_unread(self) -> None:
        """C code, or a program that a task has started, may have printed what the node has not read yet."""
        if self.mode != CALLER or self._forked:
            return
        room = bytearray(4)
        try:
            fcntl.ioctl(self._pipe, termios.FIONREAD, room)
        except OSError:
            return
        if any(room):
            self._tell_spoke()

    def chunk_ends(self) -> None:
        """What comes next without a mark is not this chunk's."""
        with self._lock:
            spoken, self._at = not self.quiet, -1
            if self._may_flush():
                self._flush_rests()
                self._mark_end()
            self.quiet = True
        if spoken and self.mode == CALLER and not self._forked:
            self._tell_spoke()

    def _tell_spoke(self) -> None:
        ring = self._ring
        self.tell(SPOKE.pack(0, 0) if ring is None else SPOKE.pack(ring.at, ring.lines))

    def item_failed(self) -> None:
        """Before the next one may write over what it has said: the end of that goes along, once."""
        if self._in_ring:
            with self._lock:
                self._flush_rests()
                ring = self._ring
                end = b"" if ring is None else ring.end_of(self._ring_from, END_OCTETS)
                if end and ring is not None:
                    only = (
                        self._marking(self._ring_marked) + self._sign + MARK.pack(ring.at, ONLY_END)
                    )
                    self._out(only + end + self._marking(self._marked))
                    self._ring_from = ring.at

    # ------------------------------------------------------------ prints

    def _connect(self, fd: int, stream: Any) -> None:
        """While output goes to the caller, have pieces of lines come to us, in the context of the task that prints
        them. Where one item runs at a time it is a shorter way, too: `print(a, b)` writes four pieces."""
        if not isinstance(stream, io.TextIOWrapper):
            return
        for each in (stream, stream.buffer):
            vars(each).pop("write", None)
            vars(each).pop("flush", None)
        if self.mode != CALLER:
            return
        plain_flush = type(stream).flush

        def flush() -> None:
            plain_flush(stream)
            self.flush()

        def write(octets: Any, /) -> int:
            octets = bytes(octets)
            self.said(octets)
            return len(octets)

        def write_text(text: str, /) -> int:
            if type(text) is not str:
                return type(stream).write(stream, text)  # which says what is wrong
            self.said(text.encode("utf-8", "backslashreplace"))
            return len(text)

        stream.write = write_text if self.beside else self._writer(fd, stream)  # type: ignore[method-assign]
        stream.flush = flush  # type: ignore[method-assign]
        stream.buffer.write = write

    def _writer(self, fd: int, stream: io.TextIOWrapper) -> Callable[[str], int]:
        plain, parts, here = type(stream).write, self._parts[fd], self._here()
        add, clear, say, join = parts.append, parts.clear, self._say, "".join
        words, put, loop = self._ring_words, self._put, self._loop

        def write(text: str, /) -> int:
            """Once for each piece of a line, so it is written for speed."""
            if type(text) is not str:
                return plain(stream, text)
            results = here.results
            if len(results) != self._at or results is not self._results:
                if self.mode != CALLER:
                    return plain(stream, text)
                self._another(results)
            add(text)
            if "\n" in text:
                if not (self._goes_on and words[BEYOND] and text == "\n" and get_ident() == loop):
                    say(parts)
                    return len(text)
                # One more line, of the same item, into the ring: as `_say` does it, without its calls.
                try:
                    octets = join(parts).encode()
                except UnicodeEncodeError:
                    octets = _octets_of(join(parts))
                clear()
                put(octets, 1)
                self.quiet = False  # last: the listener may have ended a part meanwhile
            elif len(parts) > PARTS_MAX:
                say(parts)
            return len(text)

        return write

    def _another(self, results: Sized) -> None:
        """Another item prints than before."""
        with self._lock:
            self._flush_parts()
            self.quiet = False
            self._results, self._at, self._now = results, len(results), self._voice()
            self._goes_on = False

    def _say(self, parts: list[str]) -> None:
        """The whole lines of these."""
        with self._lock:
            text = "".join(parts)
            parts.clear()
            end = text.rfind("\n") + 1 or len(text)
            if end < len(text):
                parts.append(text[end:])
                text = text[:end]
            if text:
                self._write(self._now, _octets_of(text))

    def _flush_parts(self) -> None:
        for parts in self._parts.values():
            if parts:
                text = "".join(parts)
                parts.clear()
                self._write(self._now, _octets_of(text))

    def _voice(self) -> Voice | None:
        return self._fixed if self._forked else self._here().voice()

    def said(self, octets: bytes) -> None:
        """Some of a line, or some lines."""
        with self._lock:
            self.quiet = False
            voice = self._voice()
            self._flush_parts()
            rest = self._rests.pop(voice, b"")
            if rest:
                octets = rest + octets
            if octets[-1:] == b"\n" or len(octets) > REST_OCTETS_MAX:
                self._write(voice, octets)
                return
            whole = octets.rfind(b"\n") + 1
            if whole:
                self._write(voice, octets[:whole])
                octets = octets[whole:]
            self._rests[voice] = octets

    def flush(self) -> None:
        with self._lock:
            if self._may_flush():
                self._flush_rests()

    def _may_flush(self) -> bool:
        """While lines go into the ring, another thread must not put the rest of one into the pipe."""
        return not self._in_ring or get_ident() == self._loop

    def _flush_rests(self) -> None:
        self._flush_parts()
        rests, self._rests = self._rests, {}
        for voice, rest in rests.items():
            self._write(voice, rest)

    def _write(self, voice: Voice | None, octets: bytes) -> None:
        self.before_output()
        if self._goes_into_ring():
            self._into_ring(voice, octets)
            self.quiet = False
            return
        if self._in_ring and get_ident() == self._loop and self._ring is not None:
            self._in_ring = self._goes_on = False
            before = self._sign + MARK.pack(self._ring.at, RING_BEFORE)
            octets = before + self._marking(voice) + octets
            self._marked = voice
        elif voice != self._marked:
            octets = self._marking(voice) + octets
            self._marked = voice
        if self.beside:
            octets += self._marking(None)
            self._marked = None
        self._out(octets)
        self.quiet = False

    def _mark_end(self) -> None:
        """What comes next is nobody's."""
        if self._marked is not None:
            self._marked = None
            self._out(self._marking(None))
        if self._ring is not None:
            self._ring_from = self._ring.at  # what comes there next has a mark of its own

    def _marking(self, voice: Voice | None) -> bytes:
        return self._sign + MARK.pack(*(voice or NOBODY))

    def _out(self, octets: bytes) -> None:
        try:
            left = memoryview(octets)
            while left:
                left = left[os.write(self._pipe, left) :]
        except OSError:
            pass  # the node is gone, and this process is about to be

    # ------------------------------------------------------------ the ring

    def _goes_into_ring(self) -> bool:
        """The ring has one writer, and so needs no lock: the thread that runs tasks."""
        words = self._ring_words
        return words is not None and words[BEYOND] != 0 and get_ident() == self._loop

    def _into_ring(self, voice: Voice | None, octets: bytes) -> None:
        ring = self._ring
        assert ring is not None
        lines = octets.count(b"\n")
        if voice is not self._ring_marked or not self._in_ring:
            self._in_ring, self._ring_marked = True, voice
            octets = self._marking(voice) + octets
            ring.words[CHUNK] = 0 if voice is None else voice[0]
            self._ring_from = ring.at + MARK_OCTETS
        self._goes_on = voice is self._now
        ring.put(octets, lines)

    # ------------------------------------------------------------ forks

    def _forks(self) -> None:
        if self.mode == CALLER and not self._forked:
            self._fixed = self._here().voice()

    def _is_forked(self) -> None:
        """Another thread, which is not here, may have held the lock. Unfinished lines are the parent's."""
        self._lock, self._rests, self._forked = threading.RLock(), {}, True
        self._ring_words = self._ring = None  # it has one writer
        self._in_ring = self._goes_on = False
        for parts in self._parts.values():
            parts.clear()
        self._at = -1


def _octets_of(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


class _Tap(io.RawIOBase):
    """What is under a standard file. Above it are Python's own layers, written in C: a flush of nothing costs
    nothing here."""

    def __init__(self, fd: int, printing: Printing) -> None:
        self._file = io.FileIO(fd, "wb", closefd=False)
        self._printing = printing
        self.name = f"<{'stdout' if fd == 1 else 'stderr'}>"
        self.mode = "wb"

    def write(self, octets: Any) -> int | None:
        printing = self._printing
        printing.quiet = False
        if printing.mode == NODE:
            return self._file.write(octets)
        if printing.mode == CALLER:
            printing.said(bytes(octets))
        return memoryview(octets).nbytes

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._printing.mode == NODE and self._file.isatty()

    def writable(self) -> bool:
        return True


class _Octets(io.BufferedWriter):
    """`sys.stdout.buffer`. A class of ours, so that its methods can be replaced."""


def _stream(before: Any, fd: int, printing: Printing) -> Any:
    """The same stream as before, with our octets below. It takes any text: what cannot be written is escaped."""
    if not isinstance(before, io.TextIOWrapper):
        return before  # there is none
    stream = io.TextIOWrapper(
        _Octets(_Tap(fd, printing)),
        encoding=before.encoding,
        errors="backslashreplace",
        line_buffering=True,  # lines of several workers do not mix
    )
    stream.mode = "w"  # type: ignore[misc]
    if fd == 1:
        sys.__stdout__ = stream  # type: ignore[misc]
    else:
        sys.__stderr__ = stream  # type: ignore[misc]
    return stream


def _flush() -> None:
    for file in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            file.flush()


HERE = Printing()
