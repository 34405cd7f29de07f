"""Reading an iterable into blocks for the ledger, never far ahead of what has been done with it.

A thread a job, as in `multiprocessing.Pool.imap`: the input may be slow, and its reader must
not wait for it. Blocks grow from one item to as many as fill a message; those of a slow
input stay small, so that its first items do not wait for its last.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from stealmesh.program.outcomes import pack_items
from stealmesh_engine.events import CloseInput, Feed
from stealmesh_protocol.messages import Block, JobSpec

if TYPE_CHECKING:
    from stealmesh.program.link import ProgramLink

BLOCK_ITEMS_MAX = 1 << 15
BLOCK_OCTETS_MAX = 128 * 1024
BLOCK_SECONDS = 0.005
"""A block of a slow iterable is sent after so long, however small it is."""


class Feeder:
    """The thread that reads one job's input.

    `room(fed, size)` blocks until more is wanted and says how many items, at most `size`, and 0
    when nothing is wanted any more;
    `ended(fed, error)` hears how many items there were and what the input raised, if it did.
    """

    def __init__(
        self,
        link: ProgramLink,
        spec: JobSpec,
        items: Iterator[Any],
        room: Callable[[int, int], int],
        ended: Callable[[int, BaseException | None], None],
    ) -> None:
        self._link = link
        self._spec = spec
        self._items = items
        self._room = room
        self._ended = ended
        threading.Thread(target=self._read, name="stealmesh-read", daemon=True).start()

    def _read(self) -> None:
        fed, size = 0, 1
        error: BaseException | None = None
        try:
            while error is None and (wanted := self._room(fed, size)):
                began = time.monotonic()
                block, error = self._gather(wanted)
                if block:
                    codec, blob = pack_items(block, fed, self._spec.name)
                    hi = fed + len(block)
                    self._link.post(Feed(self._spec.job, Block(fed, hi, codec), blob))
                    fed = hi
                if len(block) < wanted:
                    break
                size = _next_size(wanted, len(block), len(blob), time.monotonic() - began)
        except BaseException as raised:  # noqa: BLE001  an item that cannot be sent
            error = raised
        self._ended(fed, error)
        self._link.post(CloseInput(self._spec.job))

    def _gather(self, size: int) -> tuple[list[Any], BaseException | None]:
        """The next block, and what the input raised after it (an exception of the user's, any)."""
        block: list[Any] = []
        try:
            block.extend(itertools.islice(self._items, size))
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
            return block, error
        return block, None


def blocks_of(
    items: Iterable[Any], name: str, slice_items: int | None = None
) -> Iterator[tuple[Block, bytes]]:
    """The same blocks for a reader that has the time to wait for them; none is in two slices."""
    fed, size = 0, 1
    source = iter(items)
    while block := list(itertools.islice(source, size)):
        codec, blob = pack_items(block, fed, name)
        yield Block(fed, fed + len(block), codec), blob
        fed += len(block)
        size = _next_size(size, len(block), len(blob), 0.0)
        if slice_items is not None:
            size = min(size, slice_items - fed % slice_items)


def _next_size(size: int, items: int, octets: int, seconds: float) -> int:
    """Blocks of a quick input grow until they are worth a message; those of a slow one shrink."""
    fit = max(1, int(BLOCK_OCTETS_MAX * items / max(octets, 1)))
    size = max(1, size // 2) if seconds > BLOCK_SECONDS else size * 4
    return min(size, fit, BLOCK_ITEMS_MAX)
