"""Rings: bounded, counted, read page by page; what repeats is one entry in a while."""

from __future__ import annotations

from stealmesh_engine.base.rings import REASONS_MAX, REPEATS_SECONDS, Rings, octets_of
from stealmesh_engine.effects import Effect, WorthSaying
from stealmesh_protocol.journal_messages import JournalEntry, RingKind
from stealmesh_protocol.limits import ENTRY_DETAIL_CHARS_MAX, ENTRY_WORDS_CHARS_MAX
from stealmesh_protocol.messages import JournalPage

JOB = bytes(20)


def some(rings: Rings, chunks: int = 10, steals: int = 4) -> None:
    """Chunks and steals, by turns."""
    for each in range(max(chunks, steals)):
        if each < chunks:
            rings.ran(1.0 + each, "done", JOB, "f", 0, each, each + 1, each)
        if each < steals:
            rings.note(1.0 + each, RingKind.STEAL, "gave", count=each)


def test_each_ring_keeps_its_latest_and_counts_all() -> None:
    rings = Rings(3, 2, [])
    some(rings)
    found, more = rings.page(0, 0, 1 << 20)
    assert [(e.kind, e.lo or e.count) for e in found] == [(1, 2), (1, 3), (0, 7), (0, 8), (0, 9)]
    assert not more
    assert rings.told() == [10, 4, 0, 0, 0, 0, 0, 0]


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    rings = Rings(100, 100, [])
    some(rings)
    numbers: list[int] = []
    mark, more, pages = 0, True, 0
    while more:
        found, more = rings.page(mark, 0, 500)
        assert found, "a page has at least one entry"
        assert sum(map(octets_of, found)) <= 500
        numbers += [entry.number for entry in found]
        mark, pages = found[-1].number + 1, pages + 1
    assert numbers == list(range(14))
    assert pages > 3
    assert rings.page(mark, 0, 500) == ([], False)


def test_kinds_are_chosen_by_bits() -> None:
    rings = Rings(100, 100, [])
    some(rings)
    found, _ = rings.page(0, 1 << RingKind.STEAL, 1 << 20)
    assert {entry.kind for entry in found} == {RingKind.STEAL}


def test_a_size_of_zero_switches_a_ring_off() -> None:
    effects: list[Effect] = []
    rings = Rings(0, 0, effects)
    some(rings)
    rings.note(1.0, RingKind.DEATH, "worker died", aloud=True)
    rings.refused(1.0, "wrong-key")
    assert rings.page(0, 0, 1 << 20) == ([], False)
    assert sum(rings.told()) == 0
    assert effects == []


def test_a_flood_is_one_entry_in_a_while_with_its_count() -> None:
    effects: list[Effect] = []
    rings = Rings(0, 100, effects)
    for each in range(1000):
        rings.refused(10.0 + each * 0.001, "wrong-key")
        rings.settle(10.0 + each * 0.001)
    assert [e.entry.count for e in effects if isinstance(e, WorthSaying)] == [1]
    rings.settle(10.0 + REPEATS_SECONDS)
    told = [e.entry.count for e in effects if isinstance(e, WorthSaying)]
    assert told == [1, 999], "none is forgotten"
    rings.settle(20.0 + REPEATS_SECONDS)
    assert len(effects) == 2, "and nothing is told of no more"


def test_invented_reasons_do_not_grow_for_ever() -> None:
    rings = Rings(0, 10_000, [])
    for each in range(1000):
        rings.refused(1.0, f"reason-{each}")
    rings.settle(1.0 + REPEATS_SECONDS)
    found, _ = rings.page(0, 0, 1 << 20)
    assert len(found) <= REASONS_MAX + 2
    assert sum(entry.count for entry in found) == 1000


def test_an_entry_is_never_larger_on_the_wire_than_it_is_taken_for() -> None:
    import msgspec

    rings = Rings(1, 1, [])
    huge = "\U0001f600" * 5000
    big = (1 << 63) - 1
    rings.ran(1e10, huge[:ENTRY_WORDS_CHARS_MAX], bytes(24), huge, (1 << 31) - 1, big - 1, big, 1.0, big, huge[:ENTRY_DETAIL_CHARS_MAX])  # fmt: skip
    rings.note(1e10, RingKind.DEATH, huge, name=huge, about=bytes(24), peer=bytes(16), worker=(1 << 31) - 1, items=(big, big), count=big, detail=huge)  # fmt: skip
    found, _ = rings.page(0, 0, 1 << 20)
    for entry in found:
        assert len(msgspec.msgpack.encode(entry)) <= octets_of(entry)
        _passes(entry)


def _passes(entry: JournalEntry) -> None:
    from stealmesh_protocol.checks import CHECKS

    CHECKS[JournalPage](JournalPage(1, 1e10, 0.0, entry.number + 1, False, [], [entry]))
