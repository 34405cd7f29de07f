"""Room for bulk: how much is under way, and that nothing ever waits for a word that does not come."""

from __future__ import annotations

import os
from random import Random

import pytest

from stealmesh.transport import WireCodec
from stealmesh.transport.flow import OCTETS_FIRST, OCTETS_MAX, OCTETS_MIN, ReceiveFlow, SendFlow
from stealmesh_engine.events import Heard
from stealmesh_protocol.codec import KIND_AT
from stealmesh_protocol.limits import MESSAGE_BUFFER_OCTETS, PIECE_OCTETS, TAKEN_OCTETS
from stealmesh_protocol.messages import Beat, Bye, FnPut, Status, Steal, Taken

from .conftest import MakeSide
from .sides import Side, link_between, until

MIB = 1 << 20


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_sizes_all_of_it_gets_through(seed: int) -> None:
    chance = Random(seed)
    window, intake = SendFlow(), ReceiveFlow()
    window.octets_max = OCTETS_MIN
    for _ in range(200):
        octets = chance.choice([4096, 50_000, PIECE_OCTETS, MESSAGE_BUFFER_OCTETS])
        assert window.has_room(octets), "all that was sent has been taken, and no word is to come"
        while window.has_room(octets):
            window.put(octets, 0.0)
            if intake.take(octets):
                window.heard(intake.octets, 0.0)
            if chance.random() < 0.3:
                break


def test_the_last_word_on_what_was_taken_is_not_shed(make_side: MakeSide) -> None:
    """The other side would wait for it for ever."""
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    link = a.transport._links[link_between(a, b)]
    said = [Taken(1), Taken(2), *(Steal(number, 1) for number in range(5))]
    for message in said:
        link.queue(link.control, WireCodec().encode(message, 0, 0, False))  # type: ignore[arg-type]
    for _ in range(5):
        link.shed()
    kinds = [item[0][KIND_AT] for item in link.control]  # type: ignore[index]
    assert kinds == [Steal.TAG, Taken.TAG]
    link.clear()


def under_way(window: SendFlow, octets: int, now: float) -> int:
    """Fill it up."""
    count = 0
    while window.has_room(octets):
        window.put(octets, now)
        count += 1
    return count


def test_a_quick_line_gets_more_and_a_full_one_less() -> None:
    window = SendFlow()
    now = 0.0
    for _ in range(100):
        under_way(window, PIECE_OCTETS, now)
        now += 0.001
        window.heard(window.sent, now)
    assert window.octets_max == OCTETS_MAX
    for _ in range(10):
        under_way(window, PIECE_OCTETS, now)
        now += 0.2
        window.heard(window.sent, now)
    assert window.octets_max == OCTETS_MIN
    assert under_way(window, PIECE_OCTETS, now) * PIECE_OCTETS <= 2 * TAKEN_OCTETS


def test_a_long_way_is_not_a_full_line() -> None:
    window = SendFlow()
    now = 0.0
    for _ in range(100):
        under_way(window, PIECE_OCTETS, now)
        now += 0.15
        window.heard(window.sent, now)
    assert window.octets_max == OCTETS_MAX


@pytest.mark.parametrize("claim", [-1, 0, 10**15])
def test_claims_that_cannot_be_change_nothing(claim: int) -> None:
    window = SendFlow()
    window.put(5000, 0.0)
    window.heard(claim, 1.0)
    assert (window.taken, window.octets_max) == (0, OCTETS_FIRST)


# ---------------------------------------------------------------- on sockets


@pytest.fixture
def pair(make_side: MakeSide, address: str) -> tuple[Side, Side, int]:
    a, b = make_side(codec=WireCodec()), make_side(address, codec=WireCodec())
    return a, b, link_between(a, b)


@pytest.mark.real
@pytest.mark.parametrize("blobs", [[1 * MIB - 1000] * 48, [48 * MIB]], ids=["many", "one"])
def test_a_beat_passes_bulk_that_nobody_reads_yet(
    pair: tuple[Side, Side, int], blobs: list[int]
) -> None:
    a, b, link = pair
    for number, octets in enumerate(blobs):
        a.transport.send(
            link, FnPut(b"d" * 16, [os.urandom(MIB) * (octets // MIB + 1)]), number + 1
        )
        a.pump()
    a.transport.send(link, Beat(1, 0))
    assert a.transport.queued_octets(link) > 40 * MIB, "the link has room for a little of it"
    until(lambda: b.heard(), a, b)
    until(lambda: any(isinstance(event.message, Beat) for event in b.heard()), a, b)
    assert sum(event.octets for event in b.heard()) < 8 * MIB
    until(lambda: len(b.heard()) == len(blobs) + 1, a, b)


@pytest.mark.real
def test_a_large_answer_lets_beats_pass_too(pair: tuple[Side, Side, int]) -> None:
    """It may be lost like any control message, but it is as long as any other."""
    a, b, link = pair
    for number in range(40):
        a.transport.send(link, Status(number, [os.urandom(900_000)]))
    a.transport.send(link, Beat(1, 0))
    until(lambda: any(isinstance(event.message, Beat) for event in b.heard()), a, b)
    assert sum(event.octets for event in b.heard()) < 8 * MIB
    until(lambda: len(b.heard()) == 41, a, b)


@pytest.mark.real
def test_last_words_wait_for_no_room(pair: tuple[Side, Side, int]) -> None:
    a, b, link = pair
    for number in range(10):
        a.transport.send(link, FnPut(b"d" * 16, [os.urandom(900_000)]), seq=number + 1)
    a.transport.send(link, Bye("leaving"))
    a.transport.hangup(link)
    until(lambda: len(b.heard()) == 11, a, b)
    assert isinstance(b.heard()[-1].message, Bye)
    assert all(isinstance(event, Heard) for event in b.heard())
