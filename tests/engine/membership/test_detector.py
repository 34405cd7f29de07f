"""Suspicion, refutation, verdict; and what we may not blame on others."""

from __future__ import annotations

import pytest

from stealmesh_engine.membership.detector import Detector

PEER, OTHER = b"peer", b"other"


def watching(refute_seconds: float = 0.5) -> Detector:
    detector = Detector(refute_seconds)
    detector.watch(PEER, 10.0, 1.5)
    return detector


@pytest.mark.parametrize(
    ("now", "suspects"), [(10.0, 0), (11.0, 0), (11.499, 0), (11.5, 1), (99.0, 1)]
)
def test_silence_makes_suspect_after_its_patience(now: float, suspects: int) -> None:
    found = watching().look(now)
    assert len(found.suspects) == suspects
    assert not found.ripe  # a suspect has a chance to answer first, however late we look


@pytest.mark.parametrize(("after", "dead"), [(0.0, 0), (0.499, 0), (0.5, 1), (9.0, 1)])
def test_a_suspect_is_dead_after_its_chance_to_answer(after: float, dead: int) -> None:
    detector = watching()
    detector.look(12.0)
    assert len(detector.look(12.0 + after).ripe) == dead


def test_a_look_is_put_off_when_all_have_been_heard_since() -> None:
    detector = watching()
    assert detector.look_at == 11.5
    detector.heard(PEER, 10.8)
    detector.put_off(until=11.5, now=11.0)
    assert detector.look_at == pytest.approx(12.3)  # when PEER can be silent, and not later


def test_a_look_at_the_silent_is_not_put_off() -> None:
    detector = watching()
    detector.watch(OTHER, 10.9, 1.5)
    detector.heard(OTHER, 11.0)
    detector.put_off(until=12.0, now=11.2)
    assert detector.look_at == 11.5


def test_a_look_that_is_due_or_comes_later_stays_as_it_is() -> None:
    detector = watching()
    detector.heard(PEER, 11.4)
    detector.put_off(until=11.4, now=11.0)
    assert detector.look_at == 11.5
    detector.put_off(until=12.0, now=11.5)
    assert detector.look_at == 11.5


def test_nobody_is_left_to_look_at() -> None:
    detector = watching()
    detector.forget(PEER)
    detector.put_off(until=12.0, now=11.0)
    assert detector.look_at is None


def test_who_is_judged_is_watched_no_more() -> None:
    detector = watching()
    detector.look(12.0)
    assert detector.look(13.0).ripe == [PEER]
    detector.forget(PEER)
    assert detector.look(99.0).ripe == []
    assert detector.next_look() is None


def test_a_verdict_may_wait() -> None:
    detector = watching()
    detector.look(12.0)
    assert detector.look(12.5).ripe == [PEER]
    detector.wait(PEER, 12.5)
    assert detector.look(12.9).ripe == []
    assert detector.look(13.0).ripe == [PEER]


def test_a_sign_of_life_clears_a_suspicion() -> None:
    detector = watching()
    assert not detector.heard(PEER, 11.0)  # there was none
    detector.look(12.5)
    assert detector.heard(PEER, 12.6)
    assert detector.look(13.1).ripe == []
    assert detector.look(14.1).suspects == [PEER]


def test_strangers_are_not_judged() -> None:
    detector = watching()
    assert not detector.heard(OTHER, 11.0)
    detector.forget(OTHER)
    detector.forget(PEER)
    assert detector.look(99.0).suspects == []


@pytest.mark.parametrize(
    ("asleep", "now", "suspects"),
    [(0.0, 11.6, 1), (1.0, 11.6, 0), (1.0, 12.5, 1), (60.0, 71.4, 0), (60.0, 71.5, 1)],
)
def test_the_late_blame_nobody(asleep: float, now: float, suspects: int) -> None:
    """Seconds in which we were not running are not seconds of silence."""
    detector = watching()
    detector.forgive(asleep, 11.0)
    assert len(detector.look(now).suspects) == suspects


def test_the_late_do_not_cut_a_chance_to_answer_short() -> None:
    detector = watching()
    detector.look(12.0)
    detector.forgive(5.0, 17.0)
    assert detector.look(17.4).ripe == []
    assert detector.look(17.5).ripe == [PEER]


def test_inbox_first() -> None:
    """The host delivers what has arrived before it lets time pass: then nobody is found silent
    while his beat lies unread, even if we look very late."""
    detector = watching()
    detector.heard(PEER, 50.0)
    assert detector.look(50.0).suspects == []


@pytest.mark.parametrize(("suspected", "soonest"), [(False, 11.5), (True, 12.5)])
def test_when_to_look_next(suspected: bool, soonest: float) -> None:
    detector = watching()
    if suspected:
        detector.look(12.0)
    assert detector.next_look() == soonest
    detector.watch(OTHER, 0.0, 1.0)
    assert detector.next_look() == 1.0


def test_watching_again_begins_anew() -> None:
    detector = watching()
    detector.look(12.0)
    detector.watch(PEER, 12.1, 5.0)
    assert detector.look(17.0).suspects == []
    assert detector.look(17.1).suspects == [PEER]


def test_who_is_awaited_becomes_suspect_sooner() -> None:
    """Its watch gives it time to come; somebody says that it is silent, or an observer of its has died."""
    detector = Detector(0.5)
    detector.watch(PEER, 10.0, 3.0)
    assert detector.is_awaited(PEER, 1.5)
    looks = [detector.look_at]
    detector.hurry(PEER, 1.0, 10.3)
    looks.append(detector.look_at)
    assert looks == [13.0, 11.0]
    assert not detector.look(10.9).suspects
    assert detector.look(11.0).suspects == [PEER]


def test_nobody_is_given_more_time_by_hurrying() -> None:
    detector = Detector(0.5)
    detector.watch(PEER, 10.0, 3.0)
    detector.hurry(PEER, 4.0, 10.3)
    assert detector.look(13.0).suspects == [PEER]


def test_who_has_been_awaited_for_longer_is_suspect_at_once() -> None:
    detector = Detector(0.5)
    detector.watch(PEER, 10.0, 3.0)
    detector.hurry(PEER, 1.0, 11.7)
    assert not detector.look(11.6).suspects
    assert detector.look(11.7).suspects == [PEER]


def test_who_is_heard_or_suspect_or_unknown_is_not_awaited() -> None:
    detector = Detector(0.5)
    assert not detector.is_awaited(PEER, 1.5)
    detector.watch(PEER, 10.0, 1.5)
    assert not detector.is_awaited(PEER, 1.5)
    detector.watch(PEER, 10.0, 3.0)
    detector.look(13.0)
    assert not detector.is_awaited(PEER, 1.5)
