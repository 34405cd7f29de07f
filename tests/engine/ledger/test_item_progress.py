"""Which words about running items count, and that no word outlives its item."""

from __future__ import annotations

from stealmesh_engine.ledger import item_progress
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.item_progress import ItemProgress

ADA, BOB = b"a" * 16, b"b" * 16


def leased(items: int = 10) -> tuple[IndexedLedger, ItemProgress, int]:
    ledger = IndexedLedger(items, items)
    lease = ledger.lease(ADA, 9.0)
    assert lease is not None
    return ledger, ItemProgress(), lease.lid


def test_the_latest_word_of_an_item_is_kept() -> None:
    ledger, words, lid = leased()
    assert words.hear(ledger, ADA, lid, 3, 1.0, 4.0)
    assert words.hear(ledger, ADA, lid, 3, 2.0, 4.0)
    assert words.line(ledger) == ((3, 2.0, 4.0),)


def test_an_item_that_is_over_has_no_word() -> None:
    ledger, words, lid = leased()
    words.hear(ledger, ADA, lid, 3, 1.0, -1.0)
    ledger.credit(ADA, lid, 3, 4)
    assert words.line(ledger) == ()
    assert not words.hear(ledger, ADA, lid, 3, 4.0, 4.0)


def test_an_item_that_another_has_by_now_has_no_word_of_the_first() -> None:
    ledger, words, lid = leased()
    words.hear(ledger, ADA, lid, 3, 3.0, 4.0)
    ledger.fence(ADA)
    assert words.line(ledger) == ()
    again = ledger.lease(BOB, 9.0)
    assert again is not None
    assert words.line(ledger) == ()
    assert not words.hear(ledger, ADA, lid, 3, 4.0, 4.0), "a late word"
    assert not words.hear(ledger, ADA, again.lid, 3, 4.0, 4.0), "in another's name"
    assert words.hear(ledger, BOB, again.lid, 3, 1.0, 4.0)
    assert words.line(ledger) == ((3, 1.0, 4.0),)


def test_words_do_not_pile_up() -> None:
    """A million items that each speak once leave no more than a few words, although nobody looks."""
    ledger, words, lid = leased(10_000)
    for item in range(10_000):
        words.hear(ledger, ADA, lid, item, 1.0, 1.0)
        ledger.credit(ADA, lid, item, item + 1)
    assert len(words) <= 2 * item_progress.WORDS_MIN


def test_a_line_shows_some() -> None:
    ledger, words, lid = leased(100)
    for item in range(100):
        words.hear(ledger, ADA, lid, item, 1.0, 2.0)
    assert len(words.line(ledger)) == item_progress.WORDS_IN_LINE_MAX
