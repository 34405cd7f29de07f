"""Holders of the key whose frames are no messages. Rows 7 to 13, and 27 to 32.

The cases are those of the codec's own test; here they come over CURVE to a real node. The reaction is the one of
SPEC.md section 8: counted by reason, the session ends, and nothing more of the connection is read.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable

import pytest
from tests.hostile import zmtp
from tests.hostile.place import HonestJob, Place, changed
from tests.hostile.zmtp import CurveCaller
from tests.patience import until
from tests.protocol.test_codec_hostile import CASES
from tests.transport import sides
from tests.transport.standin import HEADER, MAGIC

from stealmesh.transport.links import FRAMES_MAX
from stealmesh_protocol import limits
from stealmesh_protocol.codec import encode
from stealmesh_protocol.messages import Ack, StatusGet, Welcome

pytestmark = pytest.mark.real

needs_sodium = pytest.mark.skipif(zmtp.sodium() is None, reason="no libsodium for CURVE by hand")
OTHERWISE = {
    "no frames": "a DEALER cannot say them",
    "first frame too long": "libzmq ends the connection: row 7",
    "a hundred thousand frames": "row 9",
}
GOES_ON = ("unknown kind", "kind 0", "unknown flag")
"""What a later minor version may say: dropped, and the link goes on (SPEC.md, section 8)."""


def test_what_is_no_message_is_counted_by_reason_and_ends_the_session(
    place: Place, beside: HonestJob
) -> None:
    """All at once, each over a connection of its own. What such a connection says next is not read."""
    cases = {name: case for name, case in CASES.items() if name not in OTHERWISE}
    wanted = Counter(f"garbled:{reason}" for _, reason in cases.values())
    before = place.counters()
    with contextlib.ExitStack() as stack:
        for name, (frames, _) in cases.items():
            liar = stack.enter_context(place.insider())
            assert isinstance(liar.introduce(), Welcome)
            liar.frames(frames)
            if name in GOES_ON:
                liar.say(StatusGet(5))
        until(
            lambda: wanted <= Counter(changed(before, place.counters())),
            f"{wanted - Counter(changed(before, place.counters()))}",
        )
    now = changed(before, place.counters())
    assert {name: now.get(name) for name in wanted} == wanted


def test_after_it_nothing_more_is_read(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar:
        liar.introduce()
        with place.counts("garbled:magic"):
            liar.frames([b"GET / HTTP/1.1\r\n" + bytes(60)])
        with place.counts("dropped:", times=20):
            for number in range(20):
                liar.say(StatusGet(number))
        liar.heard.clear()
    with place.insider() as again:  # and a new connection starts afresh
        assert isinstance(again.introduce(), Welcome)


def test_an_unknown_kind_is_dropped_and_the_link_goes_on(place: Place, beside: HonestJob) -> None:
    with place.insider() as newer:
        newer.introduce()
        for name in GOES_ON:
            with place.counts("garbled:kind", "garbled:flags"):
                newer.frames(CASES[name][0])
        newer.say(Ack())
        assert isinstance(newer.introduce(), Welcome)


# ---------------------------------------------------------------- rows 7 to 9


def test_a_frame_that_is_too_large_ends_its_connection(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar:
        liar.introduce()
        liar.frames([bytes(limits.FRAME_OCTETS_MAX + 1)])
        liar.hangs_up()


@needs_sodium
def test_a_claim_behind_the_handshake_sets_nothing_aside(place: Place, beside: HonestJob) -> None:
    for octets in (1 << 30, (1 << 63) - 1, (1 << 64) - 1):
        with CurveCaller(place.address, place.key) as liar:
            assert liar.enter(b"\1" + os.urandom(16))
            liar.say(zmtp.frame(b"\x07MESSAGE" + bytes(64), zmtp.LONG, claims=octets))
            assert liar.rest() == b""


@needs_sodium
def test_forged_and_repeated_frames_are_not_heard(place: Place, beside: HonestJob) -> None:
    """A flipped bit, and a frame that was overheard: CURVE's nonces only grow. libzmq does not close such a
    connection but reads it no more (see SECURITY.md)."""
    before = place.counters().get("rude-no-session", 0)
    with (
        CurveCaller(place.address, place.key) as forger,
        CurveCaller(place.address, place.key) as repeater,
    ):
        for each in (forger, repeater):
            assert each.enter(b"\1" + os.urandom(16))
        good = forger.message(encode(Ack())[0])
        forger.say(good[:-1] + bytes([good[-1] ^ 1]))
        forger.say(forger.message(encode(Ack())[0]))
        good = repeater.message(encode(Ack())[0])
        repeater.say(good)
        assert b"no-session" in next(repeater.heard())
        repeater.say(good + repeater.message(encode(Ack())[0]))
        beside.goes_on()
        assert place.counters()["rude-no-session"] == before + 1


@pytest.mark.parametrize("parts", [FRAMES_MAX + 1, 100_000])
def test_too_many_parts_are_drained_and_not_kept(
    place: Place, beside: HonestJob, parts: int
) -> None:
    with place.insider() as liar:
        liar.introduce()
        with place.counts("garbled:too-many-frames"):
            liar.frames([encode(Ack())[0]] + [b""] * parts)
        with place.counts("dropped:"):
            liar.say(StatusGet(1))


# ---------------------------------------------------------------- row 13


@needs_sodium
def test_routing_ids_are_nobody_s_name(place: Place, beside: HonestJob) -> None:
    """Empty, of zeros, too long, of an honest shape, and one that is taken: none of them is an identity."""
    for identity in (b"", bytes(5), bytes(17), b"x" * 255, b"y" * 256, b"z" * 70_000):
        with CurveCaller(place.address, place.key) as caller:
            if not caller.enter(identity):
                assert len(identity) > 255
                continue
            caller.say(caller.message(encode(Ack())[0]))
            if len(identity) <= 255:
                assert next(caller.heard())[:2] == b"SM"
    routing_id = b"\1" + os.urandom(16)
    with place.insider(routing_id=routing_id) as first:
        assert isinstance(first.introduce(), Welcome)
        with place.insider(routing_id=routing_id) as second:
            assert isinstance(second.introduce(), Welcome), "the later one has it"


@needs_sodium
def test_libzmq_s_next_automatic_ids_are_not_known_in_advance(
    fresh: Callable[..., Place],
) -> None:
    """libzmq ends the process if the automatic id that comes next is taken. It draws the first one from rand(),
    which is the same in each process that does not seed it."""
    place = fresh()
    with place.unharmed(), contextlib.ExitStack() as stack:
        for number in range(guess := automatic_id_elsewhere(), guess + 24):
            claimer = stack.enter_context(CurveCaller(place.address, place.key))
            assert claimer.enter(b"\0" + (number % (1 << 32)).to_bytes(4, "big"))
            claimer.say(claimer.message(encode(Ack())[0]))
            assert b"no-session" in next(claimer.heard())
        for _ in range(16):
            nameless = stack.enter_context(CurveCaller(place.address, place.key))
            assert nameless.enter(b"")
            nameless.say(nameless.message(encode(Ack())[0]))
            assert b"no-session" in next(nameless.heard())


def automatic_id_elsewhere() -> int:
    """The automatic id that another process gives to its first caller without one."""
    with (
        sides.process("ids", "tcp://127.0.0.1:0") as model,
        CurveCaller(model.endpoint, sides.KEY) as nameless,
    ):
        assert nameless.enter(b"")
        nameless.say(nameless.message(HEADER.pack(MAGIC, 0, 9, 0, 0), more=True))
        nameless.say(nameless.message(b"\x90"))
        return int(model.line(), 16)
