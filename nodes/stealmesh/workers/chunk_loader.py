"""Makes arguments of an order: loads its functions, opens its blocks, and calls `run` or `explore`.

Decides what stays loaded between two orders. Refuses to know sockets (process.py) and how items run.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pickle import loads
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from stealmesh.shipping import importer, opening, versions
from stealmesh.shipping.opening import Piece
from stealmesh.workers import explore, failures, forked, nesting, run, wire
from stealmesh.workers.blob_mirror import BlobMirror
from stealmesh.workers.division import Listener
from stealmesh.workers.explore import Step
from stealmesh.workers.outcome import ChunkOrder, ChunkOutcome, all_failed, all_unopened, remarked
from stealmesh.workers.own_values import OWN_OCTETS_MAX, MadeForEach, holds_values
from stealmesh.workers.shared_words import WorkerWords
from stealmesh.workers.staying import PutsAway
from stealmesh_protocol.data_only import PICKLES
from stealmesh_protocol.errors import NotRegistered
from stealmesh_protocol.values import ITEMS

if TYPE_CHECKING:
    from stealmesh.registered import Registry


@dataclass(slots=True)
class OpenBlock:
    """The block that chunks are cut from, unpacked once. Items before `upto` were handed out.

    A task may change an item that it was given, so none is handed out twice: another attempt
    gets it from the blob.
    """

    key: bytes
    items: list[Any]
    upto: int


class Loaded(msgspec.Struct):
    """An order that is ready to run."""

    chunk: ChunkOrder
    function: Any
    combine: Any
    items: run.Items
    again: run.Again
    watch: tuple[run.Begins, run.Ends, run.Tells] | None = None

    def run(self) -> ChunkOutcome:
        return run.run(self.chunk, self.function, self.combine, self.items, self.again, self.watch)


@dataclass(slots=True)
class ChunkLoader:
    """Turns an order into arguments for `run` and `explore`: functions loaded, blocks opened."""

    line: memoryview
    where: str
    listener: Listener
    tasks_max: int = 0
    """After this number of tasks the process makes room for a fresh one; 0: never."""
    threads: int = 0
    """Orders run side by side, plain functions in this number of threads; 0: one by one."""
    functions: dict[bytes, tuple[Any, tuple[Piece, ...], tuple[versions.Other, ...]]] = field(
        default_factory=dict
    )
    """By digest: the function (None: each order gets one of its own), the pieces that must be in place when it is
    called, and the packages that are here in another version."""
    code: bytes = b""
    """The bundle that modules are imported from."""
    limits: dict[bytes, int] = field(default_factory=dict)
    """By function: how many items of an explore bag to visit at once, as last learned."""
    open: OpenBlock | None = None
    now: tuple[ChunkOrder, BlobMirror] | None = None
    """The chunk that runs."""
    registry: Registry | None = None
    """Data-only mode: what may be called here."""

    def be_data_only(self, modules: list[str]) -> None:
        """Run what these modules show, and nothing else. Raises what the modules raise when they are imported."""
        from stealmesh.registered import Registry

        PICKLES.forbid()
        self.registry = Registry(modules)

    def luggage(self) -> nesting.Luggage:
        """What children of the task that runs need elsewhere."""
        assert self.now is not None, "a task runs"
        chunk, mirror = self.now
        return nesting.Luggage(
            mirror.get(chunk.function),
            self.functions[chunk.function][0] is nesting.call_child,
            chunk.code,
            mirror.get(chunk.code) if chunk.code else b"",
        )

    def work(self, number: int, chunk: ChunkOrder, mirror: BlobMirror) -> ChunkOutcome:
        loaded = self.load(number, chunk, mirror)
        outcome = loaded if isinstance(loaded, ChunkOutcome) else loaded.run()
        if versions.news:
            outcome.codec, outcome.blob = remarked(outcome.codec, outcome.blob)
        return outcome

    def load(self, number: int, chunk: ChunkOrder, mirror: BlobMirror) -> Loaded | ChunkOutcome:
        """The order, ready to run; or what came of it, as something could not be loaded."""
        self.now = chunk, mirror
        if chunk.stays_from:
            chunk.away = PutsAway(number, chunk, chunk.lo)
        if versions.met:
            versions.begin()
        try:
            if chunk.code != self.code:
                self._settle_in(chunk.code, mirror)
            function = self._load(chunk.function, mirror)
            combine = self._load(chunk.combine, mirror) if chunk.combine else None
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            forked.end_if_forked(error)
            # A function that cannot be loaded here may be loaded elsewhere.
            return all_failed(chunk, error, self.where, lacking=True)
        try:
            items = self._items(chunk, mirror)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            forked.end_if_forked(error)
            return all_unopened(chunk, error, self.where)
        if chunk.kind == wire.SUBMIT and len(items) > 1 and not self.functions[chunk.function][0]:
            blob = mirror.get(chunk.function)
            function = MadeForEach(lambda: self._made(blob)[0])
        kept = chunk if not self.threads else self._with_blobs(chunk, mirror)
        again = partial(self._again, kept, mirror)
        if len(items) == 1:
            return Loaded(chunk, function, combine, items, again)
        in_parts = chunk.kind != wire.REDUCE
        begins = partial(self.listener.begins, number, chunk.lo, in_parts, chunk.away)
        watch = (begins, self.listener.ends, self.listener.tells)
        return Loaded(chunk, function, combine, items, again, watch)

    def explore(self, chunk: ChunkOrder, mirror: BlobMirror) -> Iterator[Step]:
        for step in self._explore(chunk, mirror):
            if versions.news and step.partial:
                codec, blob = remarked(step.partial[0], step.partial[1:])
                step.partial = bytes([codec]) + blob
            yield step

    def _explore(self, chunk: ChunkOrder, mirror: BlobMirror) -> Iterator[Step]:
        if versions.met:
            versions.begin()
        try:
            if chunk.code != self.code:
                self._settle_in(chunk.code, mirror)
            visit = self._load(chunk.function, mirror)
            combine = self._load(chunk.combine, mirror)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            yield explore.bag_failed(error, self.where, lacking=True)
            return
        try:
            _, _, _, key, blob = chunk.blocks[0]
            bag = explore.open_bag(mirror.take(key) if key else blob)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            lacking = failures.is_lacking_for_an_item(error)
            yield explore.bag_failed(error, self.where, lacking=lacking)
            return
        pace = explore.VisitPace(self.limits.get(chunk.function, explore.LIMIT_FIRST))
        words = WorkerWords(self.line)
        yield from explore.explore(visit, combine, bag, chunk.retries, words, pace)
        self.limits[chunk.function] = pace.limit

    def drop_forgotten(self, mirror: BlobMirror) -> None:
        """Drop what was made of forgotten blobs."""
        if not mirror.forgotten:
            return
        for key in mirror.forgotten:
            self.functions.pop(key, None)
            if self.open is not None and self.open.key == key:
                self.open = None
        mirror.forgotten.clear()

    def _settle_in(self, code: bytes, mirror: BlobMirror) -> None:
        if not code:
            return
        if self.registry is not None:
            raise NotRegistered("code that a program brings")
        assert not self.code, "the pool gives a worker the work of one program only"
        self.code = code
        importer.settle_in(mirror.get(code))

    def _load(self, digest: bytes, mirror: BlobMirror) -> Any:
        known = self.functions.get(digest)
        if known is None:
            before = versions.met
            versions.begin()
            blob = mirror.get(digest)
            made, pieces = self._made(blob)
            kept = None if len(blob) <= OWN_OCTETS_MAX and holds_values(made) else made
            self.functions[digest] = (kept, pieces, versions.met)
            versions.add(before)
            return made
        if known[0] is None:
            return self._made(mirror.get(digest))[0]
        if known[1]:
            living = opening.living()
            assert living is not None, "what has pieces was loaded by it"
            living.apply(known[1])
        if known[2]:
            versions.add(known[2])
        return known[0]

    def _made(self, blob: bytes) -> tuple[Any, tuple[Piece, ...]]:
        return load_function(blob) if self.registry is None else (self.registry.opened(blob), ())

    def _items(self, chunk: ChunkOrder, mirror: BlobMirror) -> run.Items:
        if chunk.step:
            first = chunk.start + chunk.lo * chunk.step
            return range(first, first + (chunk.hi - chunk.lo) * chunk.step, chunk.step)
        items: list[Any] = []
        sealed = False
        for block in chunk.blocks:
            if block[0] < chunk.hi and chunk.lo < block[1]:
                items += self._cut(chunk, block, mirror)
                sealed |= block[2] == ITEMS
        if chunk.hands_on:
            return run.handed_on(items, self.where, chunk.stays_from)
        return run.sealed(items, self.where) if sealed else items

    def _cut(self, chunk: ChunkOrder, block: list[Any], mirror: BlobMirror) -> list[Any]:
        low, high, codec, key, blob = block
        codec = ITEMS if codec == wire.BEHIND else codec
        lo, hi = max(chunk.lo, low) - low, min(chunk.hi, high) - low
        if not key:
            return run.open_block(codec, blob)[lo:hi]
        if self.open is None or self.open.key != key or self.open.upto > lo:
            self.open = OpenBlock(key, run.open_block(codec, mirror.get(key)), 0)
        items = self.open.items[lo:hi]
        self.open.upto = hi
        return items

    def _with_blobs(self, chunk: ChunkOrder, mirror: BlobMirror) -> ChunkOrder:
        """The same order, with what the mirror has of it: it may run while other orders are read, which
        change the mirror."""
        blocks = [
            [lo, hi, codec, b"", mirror.get(key) if key else blob]
            for lo, hi, codec, key, blob in chunk.blocks
        ]
        return replace(chunk, blocks=blocks)

    def _again(self, chunk: ChunkOrder, mirror: BlobMirror, lo: int, hi: int) -> run.Items:
        """Items [lo, hi) of the chunk as they were sent, for another attempt.

        They were handed out before, so `_cut` opens their block anew.
        """
        return self._items(replace(chunk, lo=chunk.lo + lo, hi=chunk.lo + hi), mirror)


def load_function(blob: bytes) -> tuple[Any, tuple[Piece, ...]]:
    """A function, and the pieces of the program that it reaches. When a module is missing, look again:
    its file may be younger than our start. Raises what a module raises when it is imported."""
    try:
        return _load(blob)
    except ImportError:
        importlib.invalidate_caches()
        return _load(blob)


def _load(blob: bytes) -> tuple[Any, tuple[Piece, ...]]:
    living = opening.living()
    return (loads(blob), ()) if living is None else living.load(blob)
