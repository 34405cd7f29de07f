"""Reading an iterable into blocks for the ledger, never far ahead of what has been done with it.

A thread a job, as in `multiprocessing.Pool.imap`: the input may be slow, and its reader must
not wait for it. Blocks grow from one item to as many as fill a message; those of a slow
input stay small, so that its first items do not wait for its last. What turns out larger than its
neighbours were is cut again, so that neither a message nor the memory is full of it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stealmesh.client.results import Unshippable, fault_of_size, pack_items
from stealmesh.client.session import ProgramLink
from stealmesh_engine.events import CloseInput, Feed
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.messages import Block, JobSpec

BLOCK_ITEMS_MAX = 1 << 15
BLOCK_OCTETS_MAX = 128 * 1024
BLOCK_OCTETS_LARGE = 4 * 1024 * 1024
"""A larger one is cut in two, unless it is one item."""
LOOK_ITEMS = 256
"""So often a look at an item of a growing block: is it larger than those before?"""
_NUMBERS = frozenset({int, float, bool, type(None)})
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
                items, ended, error = _gather(self._items, wanted)
                octets = 0
                for block, blob in packed_blocks(items, fed, self._spec.name):
                    self._link.post(Feed(self._spec.job, block, blob))
                    fed = block.hi
                    octets += len(blob)
                if ended:
                    break
                size = _next_size(len(items), len(items), octets, time.monotonic() - began)
        except BaseException as raised:  # noqa: BLE001  an item that cannot be sent
            error = raised
        self._ended(fed, error)
        self._link.post(CloseInput(self._spec.job))


def blocks_of(
    items: Iterable[Any], name: str, slice_items: int | None = None
) -> Iterator[tuple[Block, bytes]]:
    """The same blocks for a reader that has the time to wait for them; none is in two slices."""
    fed, size, ended = 0, 1, False
    source = iter(items)
    while not ended:
        gathered, ended, error = _gather(source, size)
        octets = 0
        for block, blob in packed_blocks(gathered, fed, name):
            yield block, blob
            fed = block.hi
            octets += len(blob)
        if error is not None:
            raise error
        if not ended:
            size = _next_size(len(gathered), len(gathered), octets, 0.0)
            if slice_items is not None:
                size = min(size, slice_items - fed % slice_items)


def packed_blocks(items: list[Any], first: int, name: str) -> Iterator[tuple[Block, bytes]]:
    """These items as blocks of a bearable size. Raises CannotShip, behind the blocks before the item
    that is to blame."""
    if not items:
        return
    try:
        codec, blob = pack_items(items, first, name)
    except Unshippable as culprit:
        yield from packed_blocks(items[: culprit.offset], first, name)
        raise
    if len(blob) > BLOCK_OCTETS_LARGE and len(items) > 1:
        del blob
        middle = len(items) // 2
        yield from packed_blocks(items[:middle], first, name)
        yield from packed_blocks(items[middle:], first + middle, name)
        return
    too_large = fault_of_size(len(blob), f"item {first} of {name}")
    if too_large is not None:
        raise too_large
    yield Block(first, first + len(items), codec), blob


def _gather(source: Iterator[Any], size: int) -> tuple[list[Any], bool, BaseException | None]:
    """The next items, at most `size`, fewer if they turn out large; is that the end of the input; and
    what it raised there (an exception of the user's, any)."""
    items: list[Any] = []
    octets = 0
    try:
        while len(items) < size and octets < BLOCK_OCTETS_LARGE:
            wanted = min(size, len(items) + LOOK_ITEMS)
            items.extend(itertools.islice(source, wanted - len(items)))
            if len(items) < wanted:
                return items, True, None
            octets += LOOK_ITEMS * _octets_of(items[-1])
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
        return items, True, error
    return items, False, None


def _octets_of(item: Any) -> int:
    """About what it takes when it is packed."""
    if type(item) in _NUMBERS:
        return 8
    try:
        return len(vx.pack(item)[1])
    except CannotShip:
        return 0  # it will be named in its turn


def _next_size(size: int, items: int, octets: int, seconds: float) -> int:
    """Blocks of a quick input grow until they are worth a message; those of a slow one shrink."""
    fit = max(1, int(BLOCK_OCTETS_MAX * items / max(octets, 1)))
    size = max(1, size // 2) if seconds > BLOCK_SECONDS else size * 4
    return min(size, fit, BLOCK_ITEMS_MAX)
