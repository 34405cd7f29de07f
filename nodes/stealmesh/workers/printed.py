"""In a node: what one worker process prints, as it comes out of its pipe.

Decides which item a line belongs to, what is too much, and what is kept as the end of an item's output for the
case that it fails. Refuses to know when a pipe is read (`outlets.py`), and how a line got into it (`printing.py`).
What is beyond the bounds is counted and dropped. After the first dropped line, the worker puts its lines into a
ring (`output_ring.py`) until it has been quiet for a moment. There the node reads only what it passes on.

A dead worker's pipe and its ring have all that it wrote. So the end of its output is known after SIGKILL, too.

Idea: the marks in the stream are the escape sequences of terminals.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Protocol

from stealmesh.workers.output_ring import SPOKE, RingReader
from stealmesh.workers.printing import MARK, MARK_OCTETS, ONLY_END, RING_BEFORE, SIGN_OCTETS
from stealmesh_protocol.limits import INDEX_MAX, TEXT_OCTETS_MAX
from stealmesh_protocol.printed import tail_of

PIPE_OCTETS = 256 * 1024
READ_OCTETS_MAX = 1024 * 1024
"""At once from one worker: about 0.2 ms."""
LINES_A_SECOND = 500
LINES_AT_ONCE = 1000
"""That one worker passes on: more than a person can read."""
OCTETS_A_SECOND = 64 * 1024
LINES_AGAIN = 100
"""With room for this number, lines come through the pipe again."""
LINE_OCTETS_MAX = 8 * 1024
"""A longer line is cut."""
CUT = " […]\n".encode()
ITEMS_MAX = 64
"""Of each worker: items with an unfinished line, or with a known end of their output."""
SAID_MAX = 256
"""Texts at once."""
F_SETPIPE_SZ = 1031

Key = tuple[int, int, int]
"""A chunk, and the items of it that may have printed it. (0, 0, 0): nothing that runs."""

NOTHING: Key = (0, 0, 0)
SOMEBODY = (0, -1)
"""What a mark says when no item speaks."""


class Ordered(Protocol):
    """What its worker was ordered to do."""

    outstanding: dict[int, tuple[int, int]]
    beside: bool

    def running(self) -> int | None: ...


class OutputPipe:
    """What one worker process prints."""

    __slots__ = (
        "_at", "_carry", "_is_wide", "_key", "_lines", "_only_end", "_partials", "_remembered_to", "_ring_key",
        "_room", "far_end", "fd", "ring", "said", "sign", "spoken", "tails", "until",
    )  # fmt: skip

    def __init__(self) -> None:
        self.fd, far = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        self.far_end = os.fdopen(far, "wb", buffering=0)
        # No line ends with its first octet, and waits for the rest.
        self.sign = b"\0" + os.urandom(SIGN_OCTETS - 1)
        self.spoken = False
        """Something has come a moment ago, or is kept. Read before each answer."""
        self.said: dict[Key, tuple[list[bytes], int]] = {}
        """What is to be passed on: lines, and how many are missing behind them."""
        self.tails: dict[Key, bytes] = {}
        self._partials: dict[Key, bytes] = {}
        self._carry = b""
        """Perhaps the beginning of a mark."""
        self._key: tuple[int, int] = SOMEBODY
        """What the last mark said."""
        self._ring_key: tuple[int, int] = SOMEBODY
        """The same of the ring."""
        self._only_end = False
        """What comes was said before, and is wanted as the end of what an item printed that has failed."""
        self._room = float(TEXT_OCTETS_MAX)
        self._lines = float(LINES_AT_ONCE)
        self._at = time.monotonic()
        self._is_wide = False
        self.ring = RingReader()
        self.until: tuple[int, int] | None = None
        """What its worker had put into the ring when its last chunk ended: octets and lines."""
        self._remembered_to = 0
        """How far `tails` has what was put into the ring."""

    def chunk_spoke(self, payload: bytes | memoryview) -> None:
        """Its worker is about to answer. Raises struct.error."""
        self.spoken, self.until = True, SPOKE.unpack(payload)

    def read(self, handle: Ordered) -> int:
        """Read what there is. Returns the number of octets; -1: it has ended."""
        total = 0
        self._refill()
        while total < READ_OCTETS_MAX:
            try:
                octets = os.read(self.fd, PIPE_OCTETS)
            except BlockingIOError:
                break
            if not octets:
                return -1
            total += len(octets)
            self._cut(octets, handle)
        return total

    def look(self, handle: Ordered) -> int:
        """Read the pipe, and take what has come through the ring, between two answers of its worker. Returns what
        `read` does, and 1 at least if one should look again in a moment."""
        written = self.ring.written()  # first: what is in the pipe by then was said before that
        octets = self.read(handle)
        if 0 <= octets < READ_OCTETS_MAX and self._is_in_use(written, handle):
            return max(octets, 1)
        return octets

    def _is_in_use(self, written: tuple[int, int] | None, handle: Ordered) -> bool:
        ring, running = self.ring, handle.running()
        if not ring.beyond and ring.read_to == ring.last_words()[0]:
            return False
        if written is None or (running is not None and ring.chunk not in (0, running)):
            return True  # more than this chunk has spoken, and the answer between the two is about to be read
        self._refill()
        if written == (ring.read_to, ring.told_lines) and self._lines >= LINES_AGAIN:
            ring.beyond = False  # and look once more: its worker may just have read that word
        self.take(*written, handle)
        return True

    def take(self, end: int, lines: int | None, handle: Ordered) -> None:
        """What has come through the ring up to there, as far as there is room: the rest is counted. Lines None:
        their number there is not known, and a later call counts what is missing."""
        ring = self.ring
        if end <= ring.read_to:
            return
        self._refill()
        octets, start = ring.copy(ring.read_to, end)
        several = start > ring.read_to
        """Perhaps more than one item has said what is missing."""
        ring.read_to = end
        first, *pieces = octets.split(self.sign)
        if several:
            self._ring_key = SOMEBODY
            first = _whole_lines_of(first)
        taken = self._told_of(first, handle)
        for piece in pieces:
            if self._lines < 1.0:
                break
            if self._marks(piece):
                taken += self._told_of(piece[MARK.size :], handle)
        if pieces:
            self._marks(pieces[-1])
            several = True
        ring.told_lines += taken
        if lines is not None and lines > ring.told_lines:
            whose = SOMEBODY if several else self._ring_key
            self._missing(self._whose(handle, whose), lines - ring.told_lines)
            ring.told_lines = lines

    def remember(self, end: int, handle: Ordered) -> None:
        """Have `tails` what was put into the ring up to there."""
        octets, start = self.ring.copy(self._remembered_to, end)
        first, *pieces = octets.split(self.sign)
        if start > self._remembered_to:
            self._keep_end(_whole_lines_of(first), handle, SOMEBODY)
        self._remembered_to = max(self._remembered_to, end)
        for piece in pieces:
            if len(piece) > MARK.size:
                self._keep_end(piece[MARK.size :], handle, MARK.unpack_from(piece))

    def widen(self) -> None:
        """Much is coming. Not from the start: what all pipes of a user may hold together is bounded."""
        if not self._is_wide:
            self._is_wide = True
            with contextlib.suppress(OSError):  # there are many
                fcntl.fcntl(self.fd, F_SETPIPE_SZ, PIPE_OCTETS)

    def chunk_over(self, chunk: int) -> None:
        """Its lines are finished, and none of its items can fail any more."""
        for key in [key for key in self._partials if key[0] == chunk]:
            self._pass_on(key, self._partials.pop(key) + b"\n")
        for key in [key for key in self.tails if key[0] == chunk]:
            del self.tails[key]

    def all_over(self, handle: Ordered) -> None:
        """The process is dead, and its pipe is read."""
        end, lines = self.ring.last_words()
        self.take(end, lines, handle)
        self.remember(end, handle)
        for key in list(self._partials):
            self._pass_on(key, self._partials.pop(key) + b"\n")

    @property
    def has_rests(self) -> bool:
        return bool(self.tails or self._partials)

    def tail(self, chunk: int, item: int) -> str:
        """The end of what this item printed, as far as it is known who did."""
        found = [
            text
            for (number, lo, hi), text in self.tails.items()
            if number == chunk and lo <= item < hi
        ]
        return tail_of(b"".join(found)) if found else ""

    def last_of(self, chunk: int) -> str:
        """The end of what the item printed that spoke last."""
        found = [text for key, text in self.tails.items() if key[0] == chunk]
        return tail_of(found[-1]) if found else ""

    def close(self) -> None:
        os.close(self.fd)
        self.far_end.close()
        self.ring.close()

    # ------------------------------------------------------------ inside

    def _refill(self) -> None:
        now = time.monotonic()
        seconds = now - self._at
        self._room = min(TEXT_OCTETS_MAX, self._room + seconds * OCTETS_A_SECOND)
        self._lines = min(LINES_AT_ONCE, self._lines + seconds * LINES_A_SECOND)
        self._at = now

    def _cut(self, octets: bytes, handle: Ordered) -> None:
        """Take out the marks."""
        first, *others = (self._carry + octets).split(self.sign)
        self._carry = b""
        last = others.pop() if others else None
        self._text(first if last is not None else self._without_carry(first), handle)
        for piece in others:
            self._marked(piece, handle)
        if last is None:
            return
        if len(last) < MARK.size:
            self._carry = self.sign + last
        else:
            self._marked(last[: MARK.size] + self._without_carry(last[MARK.size :]), handle)

    def _without_carry(self, octets: bytes) -> bytes:
        sign = self.sign
        if octets[-1:] and octets[-1] in sign:
            for length in range(len(sign) - 1, 0, -1):
                if octets.endswith(sign[:length]):
                    self._carry = octets[-length:]
                    return octets[:-length]
        return octets

    def _marked(self, piece: bytes, handle: Ordered) -> None:
        if len(piece) < MARK.size:
            return  # a task has copied our sign
        place, item = MARK.unpack_from(piece)
        self._only_end = item == ONLY_END
        if item == RING_BEFORE:
            self.take(place, None, handle)
            self.remember(place, handle)
        elif item == ONLY_END:
            self._remembered_to = max(self._remembered_to, place)
        else:
            self._key = place, item
        self._text(piece[MARK.size :], handle)

    def _marks(self, piece: bytes) -> bool:
        """In the ring: whose is what follows?"""
        if len(piece) < MARK.size:
            return False
        self._ring_key = MARK.unpack_from(piece)
        return True

    def _text(self, octets: bytes, handle: Ordered) -> None:
        if octets:
            self._keep_end(octets, handle, self._key)
            if not self._only_end:
                self._tell(self._whose(handle, self._key), octets)

    def _told_of(self, octets: bytes, handle: Ordered) -> int:
        """Of the ring: how many lines these are. They are passed on or counted."""
        if not octets:
            return 0
        self._tell(self._whose(handle, self._ring_key), octets)
        return octets.count(b"\n")

    def _keep_end(self, octets: bytes, handle: Ordered, said: tuple[int, int]) -> None:
        key = self._whose(handle, said)
        if key is not NOTHING and octets:
            self._remember(key, octets)

    def _tell(self, key: Key, octets: bytes) -> None:
        octets = self._partials.pop(key, b"") + octets
        end = octets.rfind(b"\n") + 1
        if end < len(octets):
            rest = octets[end:]
            over = rest.rfind(b"\r", 0, -1)
            if over > 0:
                rest = rest[over:]  # of a progress bar: how far it is now
            if len(self._partials) >= ITEMS_MAX:
                oldest = next(iter(self._partials))
                self._pass_on(oldest, self._partials.pop(oldest) + b"\n")
            self._partials[key] = rest[: LINE_OCTETS_MAX + 1]
        if end:
            self._pass_on(key, octets[:end])

    def _whose(self, handle: Ordered, said: tuple[int, int]) -> Key:
        chunk, item = said
        bounds = handle.outstanding.get(chunk)
        if bounds is None:
            running = handle.running()
            if chunk or running is None or (len(handle.outstanding) > 1 and handle.beside):
                return NOTHING
            chunk, item, bounds = running, -1, handle.outstanding[running]
        lo, hi = bounds
        return (chunk, item, item + 1) if lo <= item < hi else (chunk, lo, hi)

    def _remember(self, key: Key, octets: bytes) -> None:
        if len(octets) < TEXT_OCTETS_MAX:
            octets = (self.tails.pop(key, b"") + octets)[-TEXT_OCTETS_MAX:]
        else:
            octets = octets[-TEXT_OCTETS_MAX:]
            self.tails.pop(key, None)
        if len(self.tails) >= ITEMS_MAX:
            del self.tails[next(iter(self.tails))]
        self.tails[key] = octets

    def _pass_on(self, key: Key, lines: bytes) -> None:
        """Whole lines, as far as there is room."""
        texts, dropped = self.said.get(key) or ([], 0)
        at = 0
        if not dropped and len(self.said) < SAID_MAX:
            at = self._take(lines, texts)
        self.said[key] = (texts, dropped)
        if at < len(lines):
            self._missing(key, lines.count(b"\n", at))

    def _missing(self, key: Key, lines: int) -> None:
        """These had no room, and more will have none."""
        self._room = self._lines = 0.0
        self.ring.beyond = True
        texts, dropped = self.said.get(key) or ([], 0)
        self.said[key] = (texts, min(dropped + lines, INDEX_MAX))

    def _take(self, lines: bytes, texts: list[bytes]) -> int:
        """As much as there is room for. Returns where the rest begins."""
        at = 0
        while at < len(lines) and self._lines >= 1.0:
            end = lines.rfind(b"\n", at, at + int(self._room)) + 1
            if end:
                piece = lines[at:end]
                piece = piece if len(piece) <= LINE_OCTETS_MAX else _cut_long(piece)
            elif self._room >= LINE_OCTETS_MAX + len(CUT):  # and the line is longer than that
                end = lines.find(b"\n", at) + 1
                piece = lines[at : at + LINE_OCTETS_MAX] + CUT
            else:
                break
            count = piece.count(b"\n")
            if count > self._lines:
                count = int(self._lines)
                piece = b"\n".join([*piece.split(b"\n", count)[:count], b""])
                end = _after(lines, at, count)
            texts.append(piece)
            self._room -= len(piece)
            self._lines -= count
            at = end
        return at


def _whole_lines_of(octets: bytes) -> bytes:
    """What begins somewhere: perhaps in a line, perhaps in a mark."""
    _, _, lines = octets[MARK_OCTETS:].partition(b"\n")
    return lines


def _after(lines: bytes, at: int, count: int) -> int:
    """Where this number of lines ends."""
    for _ in range(count):
        at = lines.index(b"\n", at) + 1
    return at


def _cut_long(lines: bytes) -> bytes:
    return b"".join(
        line if len(line) <= LINE_OCTETS_MAX else line[:LINE_OCTETS_MAX] + CUT
        for line in lines.splitlines(keepends=True)
    )
