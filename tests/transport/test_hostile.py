"""Strangers, liars, gluttons and sleepers: only the guilty link notices them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator

import pytest
import zmq

from stealmesh.host.security import MeshKey
from stealmesh.transport import curve_keys, links
from stealmesh.transport import transport as transport_module
from stealmesh.transport.zap import ZapHandler
from stealmesh_engine.events import Garbled, Heard, LinkDown, LinkUp
from stealmesh_protocol.messages import FnPut, Refused, Status, Steal

from .conftest import MakeSide
from .sides import KEY, Side, accepted_by, link_between, process, until
from .standin import HEADER, MAGIC

pytestmark = pytest.mark.real

OTHER_KEY = MeshKey(b"o" * 32)
MIB = 1 << 20


@pytest.fixture
def stranger() -> Iterator[zmq.Socket[bytes]]:
    """A bare DEALER that may send anything; it has no key yet."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, b"\x01stranger")
        yield dealer


def give_key(dealer: zmq.Socket[bytes], key: MeshKey, *, client: MeshKey | None = None) -> None:
    dealer.setsockopt(zmq.CURVE_SERVERKEY, curve_keys(key).server_public)
    dealer.setsockopt(zmq.CURVE_PUBLICKEY, curve_keys(client or key).peer_public)
    dealer.setsockopt(zmq.CURVE_SECRETKEY, curve_keys(client or key).peer_secret)


def still_works(a: Side, b: Side) -> None:
    before = len(b.heard())
    link = link_between(a, b)
    a.transport.send(link, Steal(7, 1))
    until(lambda: len(b.heard()) > before, a, b)


def was_refused(side: Side) -> bool:
    return any(reason.startswith("refused:") for reason in side.transport.counters)


def resident_octets() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# ---------------------------------------------------------------- who may come in


def test_a_wrong_key_is_named_refused_and_costs_nothing(make_side: MakeSide, address: str) -> None:
    a, b, wrong = make_side(), make_side(address), make_side(key=OTHER_KEY)

    def fail() -> None:
        link = wrong.dial(b.endpoint)
        until(lambda: wrong.down_reason(link), wrong, b)
        assert "did not accept this mesh key" in str(wrong.down_reason(link))
        assert OTHER_KEY.fingerprint() in str(wrong.down_reason(link))

    for _ in range(20):
        fail()
    before = resident_octets()
    for _ in range(60):
        fail()
    assert resident_octets() - before < 8 * MIB
    until(lambda: b.transport.counters.get("refused:wrong-key") == 80, wrong, b)
    assert not wrong.told(LinkUp)
    still_works(a, b)


def test_the_right_server_key_is_not_enough(
    make_side: MakeSide, stranger: zmq.Socket[bytes]
) -> None:
    """Without the ZAP handler libzmq would let in each client that knows the inbox's public key."""
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    give_key(stranger, KEY, client=OTHER_KEY)
    stranger.connect(b.endpoint)
    until(lambda: b.transport.counters.get("refused:unknown-client-key"), b)
    still_works(a, b)
    assert not b.told(Garbled)


def test_without_the_zap_handler_no_client_comes_in(make_side: MakeSide) -> None:
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    assert b.transport._zap is not None
    b.transport._zap.close()
    b.transport._zap = None
    link = a.dial(b.endpoint)
    until(lambda: a.down_reason(link), a, b)
    assert not a.is_up(link)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_zap_handler_that_ends_is_started_again(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever ended it: until then the node refused everybody, for ever and in silence."""
    a, b, c = make_side(), make_side("tcp://127.0.0.1:0"), make_side()
    handler = b.transport._zap
    assert handler is not None
    still_works(a, b)
    with monkeypatch.context() as broken:
        broken.setattr(ZapHandler, "_answer", lambda self, request: 1 / 0)
        link = c.dial(b.endpoint)
        until(lambda: not handler._thread.is_alive(), b, c)
    assert not c.is_up(link)
    b.transport.look_again()
    assert b.transport.counters["restarted:admission"] == 1
    assert "started again" in capfd.readouterr().err
    d = make_side()
    again = d.dial(b.endpoint)
    until(lambda: d.is_up(again), b, d)
    still_works(a, b)
    b.transport.look_again()
    assert b.transport.counters["restarted:admission"] == 1


@pytest.mark.parametrize("direction", ["in", "out"])
def test_encrypted_and_insecure_do_not_mix(make_side: MakeSide, direction: str) -> None:
    mine, theirs = (None, KEY) if direction == "in" else (KEY, None)
    a, b = make_side(key=mine), make_side("tcp://127.0.0.1:0", key=theirs)
    link = a.dial(b.endpoint)
    a.transport.send(link, Steal(1, 1))
    until(lambda: a.down_reason(link), a, b)
    # The side that sees the mismatch first hangs up; the other one only sees the hanging up.
    assert "--insecure" in str(a.down_reason(link)) or "this mesh key" in str(a.down_reason(link))
    until(lambda: was_refused(b), a, b)
    assert not a.is_up(link)
    assert not b.heard()


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n" * 8,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "zmtp 1": b"\x01\x00" + bytes(64),
    "zmtp 2": b"\xff" + bytes(8) + b"\x7f\x01\x05" + bytes(64),
    "a gibibyte": b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(47) + b"\x06\0\0\0\0\x40\0\0\0",
    "random": os.urandom(4096),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_on_the_port(make_side: MakeSide, garbage: bytes) -> None:
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    host, _, port = b.endpoint.removeprefix("tcp://").rpartition(":")
    before = resident_octets()
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(garbage)
        still_works(a, b)
    until(lambda: was_refused(b), b)
    assert resident_octets() - before < 32 * MIB
    assert not b.told(Garbled)


def test_something_else_listens_there(make_side: MakeSide) -> None:
    a = make_side()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        link = a.dial(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        a.transport.send(link, Steal(1, 1))
        with server.accept()[0] as caller:
            caller.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" * 3)
            until(lambda: a.down_reason(link), a)
    assert a.down_reason(link) == "something else than a Stealmesh node listens there"


def test_claimed_automatic_routing_ids_hurt_nobody(make_side: MakeSide) -> None:
    """libzmq's automatic ids are the same in every process and count up; it aborts when the next one
    is taken. Key holders can take them, but none of ours ever needs one."""
    a = make_side()
    hello = [HEADER.pack(MAGIC, 0, 9, 0, 0), b"\x90"]
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())

        def call(endpoint: str, routing_id: bytes | None) -> zmq.Socket[bytes]:
            caller = stack.enter_context(context.socket(zmq.DEALER))
            caller.setsockopt(zmq.LINGER, 0)
            if routing_id is not None:
                caller.setsockopt(zmq.ROUTING_ID, routing_id)
            give_key(caller, KEY)
            caller.connect(endpoint)
            caller.send_multipart(hello)
            return caller

        model = stack.enter_context(process("ids", "tcp://127.0.0.1:0"))
        call(model.endpoint, None)
        first = int(model.line(), 16)
        fresh = stack.enter_context(process("listen", "tcp://127.0.0.1:0"))
        for claimed in range(first, first + 16):
            call(fresh.endpoint, claimed.to_bytes(5, "big")).recv_multipart()  # taken now
        for number in range(5):
            link = a.dial(fresh.endpoint)
            a.transport.send(link, Steal(number, 1))
            until(lambda link=link: a.heard(link), a)  # type: ignore[misc]
    assert not a.told(LinkDown)


# ---------------------------------------------------------------- what they say


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b""], "frames"),
        ([b"x"] * 34, "frames"),
        ([b"x"] * 35, "too-many-frames"),
        ([b"x"] * 25_000, "too-many-frames"),
        ([HEADER.pack(b"no", 0, 9, 0, 0), b"\x90"], "magic"),
    ],
    ids=["empty", "34 frames", "35 frames", "25000 frames", "magic"],
)
def test_what_is_no_message_puts_the_link_into_quarantine(
    make_side: MakeSide, stranger: zmq.Socket[bytes], frames: list[bytes], reason: str
) -> None:
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    give_key(stranger, KEY)
    stranger.connect(b.endpoint)
    stranger.send_multipart(frames)
    until(b.garbled, b)
    stranger.send_multipart([HEADER.pack(MAGIC, 0, 9, 0, 0), b"\x90"])
    stranger.send_multipart(frames)
    until(lambda: b.transport.counters.get("dropped:quarantined") == 2, b)
    assert b.garbled() == [reason]
    assert b.transport.counters[f"garbled:{reason}"] == 1
    assert not b.heard()
    still_works(a, b)
    # The connection's end is told like any other's, and a new one starts afresh.
    again = stranger.context.socket(zmq.DEALER)
    again.setsockopt(zmq.ROUTING_ID, stranger.getsockopt(zmq.ROUTING_ID))
    give_key(again, KEY)
    stranger.close()
    until(lambda: b.told(LinkDown, b.told(Garbled)[0].link), b)
    again.connect(b.endpoint)
    again.send_multipart([HEADER.pack(MAGIC, 0, 9, 0, 0), b"\x90"])
    until(lambda: len(b.heard()) == 2, b)
    again.close(0)


def test_an_unknown_kind_is_counted_and_the_link_goes_on(
    make_side: MakeSide, stranger: zmq.Socket[bytes]
) -> None:
    b = make_side("tcp://127.0.0.1:0")
    give_key(stranger, KEY)
    stranger.connect(b.endpoint)
    stranger.send_multipart([HEADER.pack(MAGIC, 0, 200, 0, 0), b"\x90"])
    stranger.send_multipart([HEADER.pack(MAGIC, 0, 9, 0, 0), b"\x90"])
    until(b.heard, b)
    assert b.transport.counters["garbled:kind"] == 1
    assert not b.garbled(), "the core would end the link for it"


def test_a_frame_that_is_too_big_ends_the_connection(
    make_side: MakeSide, stranger: zmq.Socket[bytes]
) -> None:
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    give_key(stranger, KEY)
    stranger.connect(b.endpoint)
    stranger.send_multipart([HEADER.pack(MAGIC, 0, 9, 0, 0), b"\x90"])
    until(b.heard, b)
    stranger.send(bytes(3 * MIB))
    until(lambda: b.told(LinkDown), b)
    assert not b.garbled()
    still_works(a, b)


def test_a_flood_does_not_keep_the_driver_from_its_other_work(
    make_side: MakeSide, stranger: zmq.Socket[bytes]
) -> None:
    b = make_side("tcp://127.0.0.1:0")
    give_key(stranger, KEY)
    stranger.connect(b.endpoint)
    for _ in range(900):
        stranger.send_multipart([HEADER.pack(MAGIC, 0, 9, 0, 0), b"\x90"], zmq.NOBLOCK)
    most = 0
    while len(b.heard()) < 900:
        b.transport.epoll.poll(min(1.0, b.transport.wait_seconds()))
        for fd in list(b.transport.fds):
            events = b.transport.ready(fd)
            most = max(most, len(events))
            b.events += events
            if len(events) == transport_module.MESSAGES_AT_ONCE:
                assert b.transport.wait_seconds() == 0.0, "more is waiting and it must say so"
        events = b.transport.settle()
        most = max(most, len(events))
        b.events += events
    assert most <= transport_module.MESSAGES_AT_ONCE


# ---------------------------------------------------------------- bulk and sleepers


@pytest.mark.parametrize("direction", ["dialler", "acceptor"])
def test_a_big_message_arrives_and_small_ones_overtake_it(
    make_side: MakeSide, address: str, direction: str
) -> None:
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    a.transport.send(link, Steal(0, 1))
    until(b.heard, a, b)
    sender, receiver, via = (a, b, link) if direction == "dialler" else (b, a, accepted_by(b))
    blob = os.urandom(MIB) * 64
    sender.transport.send(via, FnPut(b"d" * 16, [blob]), seq=1)
    assert sender.transport.queued_octets(via) > 32 * MIB
    for number in range(100):
        sender.transport.send(via, Steal(number, 1))
    sender.transport.send(via, FnPut(b"e" * 16, [b"behind it"]), seq=2)

    def heard() -> list[Heard]:
        return [event for event in receiver.heard() if isinstance(event.message, FnPut)]

    until(lambda: len(heard()) == 2, a, b)
    assert heard()[0].message.blobs == [blob]  # type: ignore[attr-defined]
    assert (heard()[0].seq, heard()[1].seq) == (1, 2)
    ahead = receiver.heard()[: receiver.heard().index(heard()[0])]
    assert sum(isinstance(event.message, Steal) for event in ahead) >= 100
    assert sender.transport.queued_octets(via) == 0


@pytest.mark.parametrize("role", ["dialler", "acceptor"])
def test_a_peer_that_does_not_read_holds_up_nobody_else(
    make_side: MakeSide, address: str, role: str
) -> None:
    b, other = make_side(address), make_side()
    good = link_between(other, b)
    other.transport.send(good, Steal(0, 1))
    until(b.heard, b, other)
    to_good = accepted_by(b)
    arguments = ("listen", "tcp://127.0.0.1:0") if role == "acceptor" else ("dial", b.endpoint)
    with process(*arguments) as sleeper:
        if role == "acceptor":
            to_sleeper = b.dial(sleeper.endpoint)
            until(lambda: b.is_up(to_sleeper), b)
        else:
            until(lambda: len(b.heard()) == 2, b)
            to_sleeper = accepted_by(b)
        sleeper.signal(signal.SIGSTOP)
        for number in range(1, 3001):
            b.transport.send(to_sleeper, FnPut(b"d" * 16, [bytes(4096)]), seq=number)
        held = b.transport.queued_octets(to_sleeper)
        assert held > MIB
        for number in range(500):
            b.transport.send(to_good, Steal(number, 1))
        until(lambda: len(other.heard()) == 500, b, other)
        assert b.transport.queued_octets(to_sleeper) > MIB
        assert b.transport.queued_octets(to_good) == 0
        assert not b.told(LinkDown)
        sleeper.signal(signal.SIGCONT)
        until(lambda: b.transport.queued_octets(to_sleeper) == 0, b)
        sleeper.signal(signal.SIGSTOP)
        for number in range(3001, 6001):
            b.transport.send(to_sleeper, FnPut(b"d" * 16, [bytes(4096)]), seq=number)
        sleeper.kill()
        until(lambda: b.told(LinkDown), b)
    assert b.transport.counters["dropped:unsent"] > 0
    assert b.told(LinkDown)[0].link == to_sleeper


def test_control_messages_for_a_sleeper_are_bounded(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "CONTROL_QUEUE_MAX", 100)
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    link = link_between(a, b)
    # b is not pumped: libzmq and the kernel fill up, then the queue does.
    fillers = 0
    while not a.transport.queued_octets(link):
        a.transport.send(link, Refused("filler", "." * 200_000))
        fillers += 1
    for number in range(150):
        a.transport.send(link, Steal(number, 1))
    assert a.transport.counters["dropped:control-queue-full"] == 51
    until(lambda: a.transport.queued_octets(link) == 0, a, b)
    until(lambda: len(b.heard()) == fillers - 1 + 100, a, b)
    nonces = [e.message.nonce for e in b.heard() if isinstance(e.message, Steal)]
    assert nonces == list(range(50, 150)), "the oldest went"


def test_the_bound_on_frames_is_the_documented_one() -> None:
    assert links.FRAMES_MAX == 34
    assert isinstance(Heard(1, Steal(1, 1)), Heard)


def test_views_and_answers_for_a_sleeper_are_bounded_in_octets(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "CONTROL_OCTETS_MAX", MIB)
    monkeypatch.setattr(transport_module, "ANSWERS_OCTETS_MAX", 8 * MIB)
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    link = link_between(a, b)
    # b is not pumped: it asks and asks and never reads what it is told.
    for number in range(100):
        a.transport.send(link, Status(number, [bytes(250_000)]))
    assert a.transport.queued_octets(link) <= 8 * MIB + 260_000
    answers = a.transport.counters["dropped:answer-too-much"]
    assert answers > 50
    for _ in range(1000):
        a.transport.send(link, Refused("as large as a view", "." * 200_000))
    assert a.transport.queued_octets(link) <= 9 * MIB + 260_000
    views = a.transport.counters["dropped:control-queue-full"]
    assert views > 500
    a.transport.send(link, FnPut(b"d" * 16, [bytes(MIB)]), seq=1)
    until(lambda: a.transport.queued_octets(link) == 0, a, b)
    until(lambda: len(b.heard()) == 100 - answers + 1000 - views + 1, a, b)
    assert any(event.seq == 1 for event in b.heard()), "custody is never dropped"
