"""Which chunk a steal led to: what the arrows of a trace and the links of spans are made of.

Decides only that: it is the thief's first chunk, after the steal, of what was given. Refuses to know how it is drawn.

A map of a million items has a million chunks and as many steals, so nothing here walks all chunks for a steal: chunks
lie in the order of their items, and a steal is looked up among those that it gave.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening


class ChunksAt:
    """The chunks of one job at one node."""

    def __init__(self, chunks: list[Happening]) -> None:
        self._by_item = sorted(
            (each for each in chunks if each.entry.what != "step"), key=lambda each: each.entry.lo
        )
        self._lows = [each.entry.lo for each in self._by_item]
        steps = sorted(
            (each for each in chunks if each.entry.what == "step"), key=lambda each: each.at
        )
        self._ends = [each.at for each in steps]
        self._next_step: list[Happening] = []
        """For each step, in order of their ends: the one that began first of those from there on."""
        for each in reversed(steps):
            known = self._next_step[-1] if self._next_step else each
            self._next_step.append(known if known.begun < each.begun else each)
        self._next_step.reverse()

    def first_of(self, gave: Happening) -> Happening | None:
        """An explore bag has no items that could be told apart: then it is the next step of the job."""
        lo, hi = (bisect_left(self._lows, item) for item in (gave.entry.lo, gave.entry.hi))
        later = [each for each in self._by_item[lo:hi] if each.at >= gave.at]
        step = bisect_left(self._ends, gave.at)
        later += self._next_step[step : step + 1]
        return min(later, key=lambda each: each.begun, default=None)


def first_chunks(found: list[Happening]) -> Iterator[tuple[Happening, Happening | None]]:
    """Each steal that a victim told of, with the chunk that came of it, if one is known."""
    chunks: dict[tuple[PeerId, bytes], list[Happening]] = {}
    for each in found:
        if each.entry.kind == RingKind.CHUNK:
            chunks.setdefault((each.peer, each.entry.about), []).append(each)
    places = {place: ChunksAt(several) for place, several in chunks.items()}
    for each in found:
        if each.entry.kind == RingKind.STEAL and each.entry.what == "gave":
            there = places.get((each.entry.peer, each.entry.about))
            yield each, None if there is None else there.first_of(each)
