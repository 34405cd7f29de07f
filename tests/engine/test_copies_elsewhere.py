"""What a node remembers of its takers: who has a copy, too, and how long the journey took."""

from __future__ import annotations

from stealmesh_engine.data.copies_elsewhere import WINDOW_OCTETS, CopiesElsewhere
from stealmesh_engine.data.journeys import Journeys

OWNER, PEER, OTHER = b"owner".ljust(16), b"peer".ljust(16), b"other".ljust(16)
VALUE = OWNER + bytes(8)
LARGE = 4 * WINDOW_OCTETS


def seconds_after(octets: int, *, gone: bytes = b"") -> float:
    """How long as much is thought to travel, when a taker has asked for the first and the last of a value."""
    journeys = Journeys()
    elsewhere = CopiesElsewhere(journeys)
    elsewhere.served(VALUE, PEER, 0, 1, octets, 10.0)
    elsewhere.gone(gone)
    elsewhere.served(VALUE, PEER, octets - 1, octets, octets, 18.0)
    return journeys.seconds(octets - WINDOW_OCTETS, PEER)


def test_a_journey_is_measured_from_the_first_octets_to_the_last() -> None:
    assert seconds_after(LARGE) == 8.0
    assert seconds_after(LARGE, gone=OTHER) == 8.0


def test_a_taker_that_is_gone_measures_nothing() -> None:
    assert seconds_after(LARGE, gone=PEER) < 1.0


def test_what_is_asked_for_at_once_measures_nothing() -> None:
    """Of a small value all is asked for before any of it has come."""
    assert seconds_after(2 * WINDOW_OCTETS - 1) < 1.0


def test_owner_and_takers_have_it_too() -> None:
    elsewhere = CopiesElsewhere(Journeys())
    elsewhere.note(VALUE, PEER, {VALUE: 1})
    assert elsewhere.is_also_at(VALUE, OWNER)
    assert elsewhere.is_also_at(VALUE, PEER)
    assert not elsewhere.is_also_at(VALUE, OTHER)
