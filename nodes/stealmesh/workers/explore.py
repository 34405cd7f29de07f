"""Runs explore jobs: visits a bag until it is empty, and gives half of it away when that is wanted.

Decides how many items one visit takes, when to report, and what is shared. It is given functions and
items, never an order or a socket. In the blobs of explore jobs (bags, rests, spares, partials) the
first octet is the codec, as they travel without one beside them.
"""

# ruff: noqa: BLE001 - user code may raise anything, and each of its errors is one item's failure.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from stealmesh.returned import visited
from stealmesh.workers import present
from stealmesh.workers.again import may_try_again, undeferred
from stealmesh.workers.failures import Failures, kind_of, unloadable, unsendable
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.outcome import TOO_LARGE
from stealmesh_protocol import limits, values
from stealmesh_protocol.raised import headline
from stealmesh_protocol.values import LACKING, RAISED, UNSENDABLE

LIMIT_FIRST = 64
LIMIT_MAX = 1 << 30
LIMIT_GROWTH_MAX = 4
VISIT_SECONDS = 0.005
"""How long a visit should take. A thief waits up to this time for a share of the bag."""
STEP_SECONDS = 0.5
STEP_COST_MAX = 0.1
"""Share of the time that taking stock may cost: the longer packing takes, the rarer it is."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Step:
    """What a bag reports between two visits. The last step has `remaining` 0."""

    partial: bytes = b""
    rest: bytes = b""
    remaining: int = 0
    items: int = 0
    seconds: float = 0.0
    spares: list[tuple[int, bytes]] = field(default_factory=list)
    failed: int = 0


class BagFlags(Protocol):
    """What the node wants from a running bag."""

    def is_share_wanted(self) -> bool: ...
    def shared(self) -> None: ...


@dataclass(slots=True)
class VisitPace:
    """How many items to visit at once, learned from visit to visit."""

    limit: int = LIMIT_FIRST

    def learn(self, seconds: float) -> None:
        factor = min(LIMIT_GROWTH_MAX, VISIT_SECONDS / max(seconds, 1e-9))
        self.limit = min(LIMIT_MAX, max(1, int(self.limit * factor)))


_NOTHING = object()


class _Gains:
    """What a bag's visits have brought since the last step."""

    def __init__(self, combine: Any) -> None:
        self._combine = combine
        self._clear()

    def _clear(self) -> None:
        self._partial: Any = _NOTHING
        self._items = 0
        self._seconds = 0.0

    def add(self, gained: Any, items: int) -> None:
        empty = self._partial is _NOTHING
        self._partial = gained if empty else self._combine(self._partial, gained)
        self._items += items

    def spend(self, seconds: float) -> None:
        self._seconds += seconds

    def take_stock(self, bag: list[Any], spare: list[Any]) -> Step:
        """Pack it all, and begin anew."""
        step = Step(
            partial=b"" if self._partial is _NOTHING else _tagged(values.pack(self._partial)),
            rest=pack_bag(bag) if bag else b"",
            remaining=len(bag),
            items=self._items,
            seconds=self._seconds,
            spares=[(len(spare), pack_bag(spare))] if spare else [],
        )
        octets = len(step.partial) + len(step.rest) + sum(len(blob) for _, blob in step.spares)
        if octets > limits.BLOB_OCTETS_MAX:  # they travel in one message
            raise OverflowError(
                f"the partial result and the bag together have {octets:,} octets: {TOO_LARGE}"
            )
        self._clear()
        return step


def explore(
    visit: Any,
    combine: Any,
    bag: list[Any],
    retries: int,
    flags: BagFlags,
    pace: VisitPace,
    clock: Clock = perf_counter,
) -> Iterator[Step]:
    """Visit a bag until it is empty, giving half away whenever that is wanted.

    Every step tells what was gained since the one before, exactly once.
    """
    gains = _Gains(combine)
    spare: list[Any] = []
    told, pause = clock(), STEP_SECONDS
    here = present.begins(())
    while bag:
        begun, limit, before = clock(), pace.limit, len(bag)
        attempts: list[str] = []
        try:
            gained, bag = _visit(visit, bag, limit, retries, attempts)
            here.item_over()
            gains.add(gained, limit if bag else min(limit, before))
        except BaseException as error:
            end_if_forked(error)
            present.item_failed()
            here.ends()
            yield _failed_step(undeferred(error), RAISED, [*attempts, headline(error)])
            return
        now = clock()
        gains.spend(now - begun)
        if bag:  # an empty bag says nothing about how long `limit` items take
            pace.learn(now - begun)
        bag, spare = _share(bag, flags)
        if bag and (spare or now - told >= pause):
            try:
                step = gains.take_stock(bag, spare)
            except BaseException as error:
                here.ends()
                yield _failed_step(unsendable(bag, error), UNSENDABLE)
                return
            told = clock()
            pause = max(STEP_SECONDS, (told - now) / STEP_COST_MAX)
            yield step
    here.ends()
    try:
        step = gains.take_stock(bag, spare)
    except BaseException as error:
        step = _failed_step(unsendable(bag, error), UNSENDABLE)
    yield step


def _visit(
    visit: Any, bag: list[Any], limit: int, retries: int, attempts: list[str]
) -> tuple[Any, list[Any]]:
    """All attempts but the last get a copy of the bag, as a visit may empty what it is given."""
    for _ in range(retries):
        try:
            return visited(visit, visit(list(bag), limit))
        except BaseException as error:
            end_if_forked(error)
            present.item_failed()
            if not may_try_again(error):
                raise
            attempts.append(headline(error))
    return visited(visit, visit(bag, limit))


def _share(bag: list[Any], flags: BagFlags) -> tuple[list[Any], list[Any]]:
    """Returns what is kept and what is given away: every other item, as neighbours tend to be alike."""
    if len(bag) >= 2 and flags.is_share_wanted():
        flags.shared()
        return bag[0::2], bag[1::2]
    return bag, []


def _failed_step(
    error: BaseException, kind: str, attempts: Sequence[str] = (), *, lacking: bool = False
) -> Step:
    failures = Failures()
    failures.add(0, error, attempts, kind)
    codec, blob = values.pack_outcomes(None, failures.records)
    if lacking or failures.lacking:
        codec = LACKING
    return Step(partial=_tagged((codec, blob)), failed=1)


def bag_failed(error: BaseException, where: str, *, lacking: bool) -> Step:
    """A bag or its functions could not be opened here."""
    return _failed_step(unloadable(error, where), kind_of(error), lacking=lacking)


def pack_bag(items: list[Any]) -> bytes:
    return _tagged(values.pack_list(items))


def open_bag(blob: bytes) -> list[Any]:
    return values.unpack_list(blob[0], blob[1:])


def _tagged(packed: tuple[int, bytes]) -> bytes:
    codec, blob = packed
    return b"%c%b" % (codec, blob)
