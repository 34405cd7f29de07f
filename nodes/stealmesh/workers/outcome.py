"""What a chunk sends back: results, partials and failures, packed within bounds.

Decides which results cannot travel, and makes a failure of each. Refuses to know how they came about
(run.py).
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one item's failure.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stealmesh.shipping import versions
from stealmesh.workers import failures, wire
from stealmesh.workers.failures import (
    Failures,
    is_lacking_for_an_item,
    kind_of,
    unloadable,
    unopened,
    unsendable,
)
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.staying import PutsAway, is_heavy
from stealmesh_protocol import limits, values
from stealmesh_protocol.errors import CannotLoad, MeshError
from stealmesh_protocol.unasked import is_a, traceback_of
from stealmesh_protocol.values import LACKING, UNLOADABLE, UNSENDABLE

REMARKS_OCTETS = 64 * 1024
"""Room for remarks beside results."""

TOO_LARGE = f"at most {limits.BLOB_OCTETS_MAX >> 20} MiB travel in one message"
SIZE_REMEDY = "write it to a file or a store that the program sees and return its name"


class ChunkOrder(msgspec.Struct):
    """An order without its number: the parts of RunChunk and its JobSpec that a worker needs."""

    kind: int
    function: bytes
    combine: bytes
    start: int
    step: int
    vectorized: bool
    retries: int
    lo: int
    hi: int
    blocks: list[list[Any]]
    """Each: lo, hi, codec, key in the cache (or empty), blob (if there is no key)."""
    code: bytes = b""
    """The bundle of the program's own modules, by its digest."""
    awaits: bool = False
    """Its items are coroutines."""
    timeout: float = 0.0
    """Of a coroutine, in seconds; 0: none. Others are stopped by the node."""
    name: str = ""
    """The job's, if there is a timeout to speak of."""
    values: Sequence[bytes] = ()
    """The values that it needs; their descriptors come with it, in this order."""
    keeps: bool = False
    """Its process keeps an object for these items: no other could run one of them."""
    output: int = 0
    """Where what its tasks print goes (printing.py)."""
    job: bytes = b""
    """The name of its job, if results may stay here."""
    stays_from: int = 0
    """Results of this many octets and more do; 0: none."""
    memory: int = 0
    """Octets of them that may lie in memory; the rest goes to disk."""
    directory: str = ""
    """Where on disk; empty: where temporary files go."""
    away: PutsAway | None = None
    """What does that, once the order is loaded."""

    @property
    def hands_on(self) -> bool:
        """Does each of its items but the first need the result of the one before it?"""
        return bool(self.blocks) and self.blocks[-1][2] == wire.BEHIND


class ChunkOutcome(msgspec.Struct):
    codec: int
    blob: bytes
    seconds: float
    failed: int = 0
    done: int = 0
    """It covers this number of the chunk's items."""


def pack_results(
    results: Sequence[Any], failures: Failures, seconds: float, away: PutsAway | None = None
) -> ChunkOutcome:
    if away is not None and (failures.records or is_heavy(results, away.least)):
        results, away = _put_away(results, failures, away), None
    if failures.records:
        return _pack_failures(results, failures, seconds)
    try:
        codec, blob = values.pack_list(results)
        if away is not None and len(blob) >= away.least:
            return pack_results(_put_away(results, failures, away), failures, seconds)
        if len(blob) <= limits.BLOB_OCTETS_MAX:
            return ChunkOutcome(codec, blob, seconds)
        fault: BaseException = OverflowError(f"the chunk's results together: {TOO_LARGE}")
    except BaseException as error:
        fault = error
    return _pack_failures(_without_unsendable(results, failures, fault), failures, seconds)


def _put_away(results: Sequence[Any], failures: Failures, away: PutsAway) -> Sequence[Any]:
    """Where there is no room for them, one by one: an item whose result has none fails."""
    if not isinstance(results, list):
        return results  # an array, of a vectorized function
    try:
        return away(results)
    except BaseException as error:
        end_if_forked(error)
        known = {record.offset for record in failures.records}
        for offset, result in enumerate(results):
            if offset not in known and result is not None:
                failures.add(offset, unsendable(result, error), kind=UNSENDABLE)
        failures.records.sort(key=lambda record: record.offset)
        return []


def _without_unsendable(
    results: Sequence[Any], failures: Failures, fault: BaseException
) -> list[Any]:
    """The results, with None and a failure for each that cannot travel.

    `fault` is the error of packing them together. If each can travel alone (there was no memory
    for all, for example), all fail with it.
    """
    known = len(failures.records)
    room = limits.BLOB_OCTETS_MAX
    sendable = list(results)
    for offset, result in enumerate(sendable):
        try:
            _, blob = values.pack(result)
            _check_size(blob)
            if len(blob) > room:
                raise OverflowError(f"the results of its chunk together: {TOO_LARGE}")
            room -= len(blob)
        except BaseException as error:
            sendable[offset] = None
            failures.add(offset, unsendable(result, error), kind=UNSENDABLE)
    if len(failures.records) > known:
        return sendable
    failed = {record.offset for record in failures.records}
    told = unsendable(results, fault)
    for offset in range(len(sendable)):
        if offset not in failed:
            failures.add(offset, told, kind=UNSENDABLE)
    return []


def pack_partial(results: Sequence[Any], failures: Failures, seconds: float) -> ChunkOutcome:
    if not failures.records:
        try:
            codec, blob = values.pack(results[0])
            _check_size(blob)
            return ChunkOutcome(codec, blob, seconds)
        except BaseException as error:
            failures.add(0, unsendable(results[0], error), kind=UNSENDABLE)
    return _pack_failures((), failures, seconds)


def _check_size(blob: bytes) -> None:
    if len(blob) > limits.BLOB_OCTETS_MAX:
        raise OverflowError(f"packed, it has {len(blob):,} octets, and {TOO_LARGE}: {SIZE_REMEDY}")


def _pack_failures(results: Sequence[Any], failures: Failures, seconds: float) -> ChunkOutcome:
    assert failures.records
    try:
        codec, blob = values.pack_outcomes(results, failures.records)
        _check_size(blob)
    except BaseException as error:  # a good result beside the failed ones cannot be sent: find it
        known = {record.offset for record in failures.records}
        good = [None if offset in known else result for offset, result in enumerate(results)]
        good = _without_unsendable(good, failures, error)
        failures.records.sort(key=lambda record: record.offset)
        codec, blob = values.pack_outcomes(good, failures.records)
    if failures.lacking:
        codec = LACKING
    return ChunkOutcome(codec, blob, seconds, len(failures.records))


def all_failed(
    chunk: ChunkOrder, error: BaseException, where: str, *, lacking: bool = False
) -> ChunkOutcome:
    """The function or the items could not be loaded here: no item was executed."""
    return _all_failed(chunk, unloadable(error, where), kind_of(error), lacking=lacking)


def all_unopened(chunk: ChunkOrder, error: BaseException, where: str) -> ChunkOutcome:
    """The items could not be opened: they were packed together, or it is a single one."""
    lacking = is_lacking_for_an_item(error) and not chunk.keeps
    if not is_a(error, MeshError):
        return all_failed(chunk, error, where, lacking=lacking)
    told = CannotLoad(unopened(error, where)).with_traceback(traceback_of(error))
    return _all_failed(chunk, told, UNLOADABLE, lacking=lacking)


def _all_failed(
    chunk: ChunkOrder, told: BaseException, kind: str, *, lacking: bool
) -> ChunkOutcome:
    failures = Failures()
    failures.lacking = lacking
    items = 1 if chunk.hands_on else chunk.hi - chunk.lo  # the others do not begin
    count = 1 if chunk.kind == wire.REDUCE else items
    for offset in range(count):
        failures.add(offset, told, kind=kind)
    outcome = _pack_failures((), failures, 0.0)
    outcome.done = items
    return outcome


def remarked(codec: int, blob: bytes) -> tuple[int, bytes]:
    """The same results, with remarks on this machine's packages that the program has not had yet.

    Blobs that are no results are left as they are: their failures say it in their own words."""
    if not blob or codec == LACKING or len(blob) > limits.BLOB_OCTETS_MAX - REMARKS_OCTETS:
        return codec, blob
    told = [values.OtherVersion(failures.WHERE, *other) for other in versions.news.values()]
    versions.news.clear()
    return values.with_remarks(codec, blob, told)
