"""A herd gets in at the rate that was set, and a newcomer that is turned away comes back in time."""

from __future__ import annotations

from random import Random

from stealmesh_engine.links.admission import RETRY_SECONDS_MAX, Admission


def test_a_small_herd_gets_in_at_once() -> None:
    door = Admission(100.0, Random(1))
    assert [door.retry_after(1.0) for _ in range(100)] == [0.0] * 100
    assert door.retry_after(1.0) > 0.0


def test_a_large_one_at_the_rate_that_was_set() -> None:
    door = Admission(100.0, Random(1))
    admitted = sum(door.retry_after(tick / 1000) == 0.0 for tick in range(5000))
    assert 590 <= admitted <= 600  # what the bucket holds, and a hundred a second


def test_the_longer_the_line_the_later_one_is_to_come_back_within_reason() -> None:
    door = Admission(100.0, Random(1))
    waits = [door.retry_after(1.0) for _ in range(1000)][100:]
    early, late = waits[:20], waits[-300:]
    assert max(early) < 0.5
    assert min(late) >= 0.5 * RETRY_SECONDS_MAX
    assert max(late) <= 1.5 * RETRY_SECONDS_MAX
    assert max(late) - min(late) > 0.5 * RETRY_SECONDS_MAX, "spread out"
