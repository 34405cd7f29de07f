"""Reading an iterable into blocks for the ledger, never far ahead of what has been done with it.

Decides how many items a block has. One thread a job reads its input, as in `multiprocessing.Pool.imap`,
because the input may be slow and the reader of the results must not wait for it. Blocks grow from one
item to as many as fill a message. Those of a slow input stay small, so that its first items do not wait
for its last. A block that turns out too large for a message is cut again. Refuses to know what the items
mean.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stealmesh import refs
from stealmesh.client.inputs import with_results
from stealmesh.client.needs import BLOCK_NEEDS_MAX, must_fit_one_order
from stealmesh.client.results import Unshippable, fault_of_size, pack_items
from stealmesh.client.session import ProgramLink
from stealmesh.refs import Grip
from stealmesh_engine.events import CloseInput, Feed
from stealmesh_protocol import values as vx
from stealmesh_protocol.apart import packed_apart
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.messages import Block, JobSpec

REFS_END = (
    "a durable job outlives this program, and what this program has scattered does not: give the job the data "
    "itself, or the name of a file that all nodes see"
)
BLOCK_ITEMS_MAX = 1 << 15
BLOCK_OCTETS_MAX = 128 * 1024
BLOCK_OCTETS_LARGE = 4 * 1024 * 1024
"""A larger one is cut in two, unless it is one item."""
LOOK_ITEMS = 256
"""After this number of items one is measured: it may be larger than those before."""
_NUMBERS = frozenset({int, float, bool, type(None)})
BLOCK_SECONDS = 0.005
"""Blocks become smaller when reading one takes longer than this."""


class Feeder:
    """The thread that reads one job's input.

    `room(fed, size)` blocks until more items are wanted and returns how many, at most `size`; 0 ends
    the reading. `ended(fed, error)` is called once with the number of items and with the exception
    that the input raised, or None. `lends(lo, hi, grips)`: closed Refs are among these items, and so may be
    among their results.
    """

    def __init__(
        self,
        link: ProgramLink,
        spec: JobSpec,
        items: Iterator[Any],
        room: Callable[[int, int], int],
        ended: Callable[[int, BaseException | None], None],
        lends: Callable[[int, int, list[Grip]], None] = lambda lo, hi, grips: None,
    ) -> None:
        self._link = link
        self._spec = spec
        self._items = items
        self._room = room
        self._ended = ended
        self._lends = lends
        threading.Thread(target=self._read, name="stealmesh-read", daemon=True).start()

    def _read(self) -> None:
        fed, size = 0, 1
        error: BaseException | None = None
        try:
            while error is None and (wanted := self._room(fed, size)):
                began = time.monotonic()
                items, ended, error = _gather(self._items, wanted)
                octets = 0
                lends: list[Grip] = []
                for block, blob in packed_blocks(items, fed, self._spec.name, lends):
                    if lends:
                        self._lends(block.lo, block.hi, list(lends))
                    if block.needs:  # `items` has the Refs until here
                        self._link.needs.hold(self._spec.job, block.lo, block.hi, block.needs)
                    self._link.post(Feed(self._spec.job, block, blob))
                    fed = block.hi
                    octets += len(blob)
                if ended:
                    break
                size = _next_size(len(items), octets, time.monotonic() - began)
        except BaseException as raised:  # noqa: BLE001  an item that cannot be sent
            error = raised
        self._ended(fed, error)
        self._link.post(CloseInput(self._spec.job))


def blocks_of(
    items: Iterable[Any], name: str, slice_items: int | None = None
) -> Iterator[tuple[Block, bytes]]:
    """The same blocks, read in the caller's thread. None crosses the border of a slice. Raises what the
    input raises, and CannotShip."""
    fed, size, ended = 0, 1, False
    source = iter(items)
    while not ended:
        gathered, ended, error = _gather(source, size)
        octets = 0
        for block, blob in packed_blocks(gathered, fed, name):
            if block.needs:
                raise CannotShip(REFS_END)
            yield block, blob
            fed = block.hi
            octets += len(blob)
        if error is not None:
            raise error
        if not ended:
            size = _next_size(len(gathered), octets, 0.0)
            if slice_items is not None:
                size = min(size, slice_items - fed % slice_items)


def packed_blocks(
    items: list[Any], first: int, name: str, lends: list[Grip] | None = None
) -> Iterator[tuple[Block, bytes]]:
    """These items as blocks that fit into messages. Raises CannotShip for an item that cannot be sent,
    after the blocks before it. `lends`: has what keeps the closed Refs of a block when that is yielded, and perhaps
    of others."""
    if not items:
        return
    try:
        ((codec, blob), inputs), needs = refs.noting(
            lambda: packed_apart(lambda items: pack_items(items, first, name), items), lends=lends
        )
    except Unshippable as culprit:
        yield from packed_blocks(items[: culprit.offset], first, name, lends)
        raise
    if inputs:
        yield from _blocks_with_inputs(items, first, name, lends)
        return
    too_much = len(blob) > BLOCK_OCTETS_LARGE or len(needs) > BLOCK_NEEDS_MAX
    if too_much and len(items) > 1:
        del blob
        middle = len(items) // 2
        yield from packed_blocks(items[:middle], first, name, lends)
        yield from packed_blocks(items[middle:], first + middle, name, lends)
        return
    too_large = fault_of_size(len(blob), f"item {first} of {name}")
    if too_large is not None:
        raise too_large
    must_fit_one_order(needs, name)
    yield Block(first, first + len(items), codec, needs), blob


def _blocks_with_inputs(
    items: list[Any], first: int, name: str, lends: list[Grip] | None
) -> Iterator[tuple[Block, bytes]]:
    """The same for items that hold futures: each is a block of its own, once its inputs are over."""
    for at, item in enumerate(items, first):
        entry, needs = refs.noting(functools.partial(_entry_of, item), lends=lends)
        must_fit_one_order(needs, name)
        blob = vx.join_entries([entry])
        too_large = fault_of_size(len(blob), f"item {at} of {name}")
        if too_large is not None:
            raise too_large
        yield Block(at, at + 1, vx.ITEMS, needs), blob


def _entry_of(item: Any) -> tuple[int, bytes]:
    packed, inputs = packed_apart(vx.pack, item)
    return with_results(packed, inputs) if inputs else packed


def _gather(source: Iterator[Any], size: int) -> tuple[list[Any], bool, BaseException | None]:
    """The next items (at most `size`, fewer if they are large), whether the input has ended, and the
    exception that it raised there."""
    items: list[Any] = []
    octets = 0
    try:
        while len(items) < size and octets < BLOCK_OCTETS_LARGE:
            wanted = min(size, len(items) + LOOK_ITEMS)
            items.extend(itertools.islice(source, wanted - len(items)))
            if len(items) < wanted:
                return items, True, None
            octets += LOOK_ITEMS * _octets_of(items[-1])
    except BaseException as error:  # noqa: BLE001  the input's own exception: it is the caller's
        return items, True, error
    return items, False, None


def _octets_of(item: Any) -> int:
    """About how many octets the packed item has."""
    if type(item) in _NUMBERS:
        return 8
    try:
        return len(vx.pack(item)[1])
    except CannotShip:
        return 0  # it will be named in its turn


def _next_size(items: int, octets: int, seconds: float) -> int:
    """Blocks of a quick input grow until they are worth a message; those of a slow one shrink."""
    fit = max(1, int(BLOCK_OCTETS_MAX * items / max(octets, 1)))
    size = max(1, items // 2) if seconds > BLOCK_SECONDS else items * 4
    return min(size, fit, BLOCK_ITEMS_MAX)
