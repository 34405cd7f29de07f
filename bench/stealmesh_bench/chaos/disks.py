"""Which disks of a durable job's replicas are damaged, where, and what must survive.

Pure: the logs of all nodes, a seed and a target give the damaged logs. What is left is found by
comparing octets, not by the reader that is on trial: a record that lies where it lay, unchanged,
on any disk, is there.

minority: one of three. The others have everything, but not in time: one lags behind (its disk was
slow), one comes back late. A primary that takes the damaged log for whole goes on without the third.
all: every replica is damaged. Nothing is lost only if each gives what it still has: in each log one
bit is flipped, each time in other items. What is cut from all logs is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from stealmesh.store import read
from stealmesh.store.records import LogReading
from stealmesh_protocol.messages import Keep
from stealmesh_sim.platters import spoilt

MINORITY, ALL = "minority", "all"


@dataclass(slots=True)
class Damage:
    """What happens to the logs."""

    logs: dict[int, bytes] = field(default_factory=dict)
    """Node → its log from now on."""
    late: set[int] = field(default_factory=set)
    """Nodes that come back later than the others."""
    left: set[int] = field(default_factory=set)
    """Items with an unharmed result on some disk."""


def damage(
    logs: dict[int, bytes], how: str, target: str, rng: Random, slow: int | None = None
) -> Damage:
    """Draw it. `slow`: the node with the disk that lagged behind."""
    before = {number: read(octets) for number, octets in logs.items()}
    has = {number: _items_of(reading.records) for number, reading in before.items()}
    replicas = [number for number in sorted(logs) if has[number]]
    drawn = Damage()
    if target == ALL:
        gone: set[int] = set()
        for number in replicas:
            spared = _records(before[number], without=gone)
            # In the first half: what comes after it is much.
            some = spared[: max(1, len(spared) // 2)]
            drawn.logs[number] = _spoil_one(logs[number], how, rng, some, gone)
    elif replicas:
        candidates = [number for number in replicas if number != slow] or replicas
        victim = rng.choice(candidates)
        drawn.late = {number for number in candidates if number != victim}
        # Only the victim and the late nodes have these: no other node can tell that they are missing.
        lacked = has[victim].intersection(*(has[number] for number in drawn.late))
        lacked -= has.get(slow, set()) if slow is not None else set()
        some = _records(before[victim], among=lacked) or _records(before[victim])
        drawn.logs[victim] = _spoil_one(logs[victim], how, rng, some, set())
    after = {**logs, **drawn.logs}
    for number in replicas:
        drawn.left |= untouched(before[number], logs[number], after[number])
    return drawn


_Record = tuple[set[int], tuple[int, int]]
"""The items of a record, and where it lies."""


def _records(
    reading: LogReading, *, among: set[int] | None = None, without: set[int] | None = None
) -> list[_Record]:
    """Records with results: with some of these, with none of those."""
    pairs = zip(reading.records, reading.places, strict=True)
    found = [(_items_of([record]), place) for record, place in pairs if record.results]
    if among is not None:
        return [each for each in found if each[0] & among]
    return [each for each in found if not each[0] & (without or set())]


def _spoil_one(octets: bytes, how: str, rng: Random, some: list[_Record], gone: set[int]) -> bytes:
    """One log; a bit is flipped in one of these records, so its items are gone."""
    if how != "bitflip":
        return spoilt(octets, how, rng)
    if not some:
        return octets
    items, (begin, end) = rng.choice(some)
    gone |= items
    at = rng.randrange(begin, end)
    return octets[:at] + bytes([octets[at] ^ 1 << rng.randrange(8)]) + octets[at + 1 :]


def untouched(reading: LogReading, before: bytes, after: bytes) -> set[int]:
    """Items of records that lie where they lay."""
    records = [
        record
        for record, (begin, end) in zip(reading.records, reading.places, strict=True)
        if after[begin:end] == before[begin:end]
    ]
    return _items_of(records)


def _items_of(records: list[Keep]) -> set[int]:
    return {
        item for record in records for kept in record.results for item in range(kept.lo, kept.hi)
    }
