"""Which chunk a steal led to: what the arrows of a trace and the links of spans are made of.

Decides only that: it is the thief's first chunk, after the steal, of what was given. Refuses to know how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening


def chunks_by_place(found: list[Happening]) -> dict[tuple[PeerId, bytes], list[Happening]]:
    """The chunks of each job at each node."""
    chunks: dict[tuple[PeerId, bytes], list[Happening]] = {}
    for each in found:
        if each.entry.kind == RingKind.CHUNK:
            chunks.setdefault((each.peer, each.entry.about), []).append(each)
    return chunks


def first_chunks(found: list[Happening]) -> Iterator[tuple[Happening, tuple[PeerId, int]]]:
    """Each steal that a victim told of, with the chunk that came of it: its node and its number there."""
    chunks = chunks_by_place(found)
    for each in found:
        if each.entry.kind == RingKind.STEAL and each.entry.what == "gave":
            made = first_of(each, chunks.get((each.entry.peer, each.entry.about), []))
            if made is not None:
                yield each, (made.peer, made.entry.number)


def first_of(gave: Happening, chunks: list[Happening]) -> Happening | None:
    """An explore bag has no items that could be told apart: then it is the next chunk of the job."""
    lo, hi = gave.entry.lo, gave.entry.hi
    later = (
        each
        for each in chunks
        if each.at >= gave.at and (each.entry.what == "step" or lo <= each.entry.lo < hi)
    )
    return min(later, key=lambda each: each.begun, default=None)
