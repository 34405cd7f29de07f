"""Strangers: what comes to the port without the mesh key, or speaks something else. Rows 1 to 6.

The node is real, and so are the connections; the reaction is a closed connection and a counter `refused:…`.
Nothing that a stranger says reaches the engine.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.hostile import zmtp
from tests.hostile.insider import HungUp, Insider
from tests.hostile.place import HonestJob, NodeProcess, Place
from tests.hostile.zmtp import Caller, CurveCaller, command, frame, greeting, metadata
from tests.patience import until

import stealmesh
from stealmesh.transport.sockets import HANDSHAKE_SECONDS
from stealmesh_protocol.messages import Ack, Refused

pytestmark = pytest.mark.real

needs_sodium = pytest.mark.skipif(zmtp.sodium() is None, reason="no libsodium for CURVE by hand")
OTHER_KEY = stealmesh.Key(b"o" * 32)
HTTP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4
TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)


# ---------------------------------------------------------------- row 1


def drip(callers: list[Caller], octets: bytes, over: threading.Event) -> None:
    """Slow-loris: an octet now and then, never a whole greeting."""
    for octet in octets:
        if over.wait(HANDSHAKE_SECONDS / len(octets)):
            return
        for caller in callers:
            caller.say(bytes([octet]))


def test_what_stands_still_is_closed_and_its_descriptors_come_back(
    place: Place, beside: HonestJob
) -> None:
    """Silent ones, half a handshake, and an octet a moment: all have the same few seconds."""
    before = place.node.descriptors()
    over = threading.Event()
    with (
        place.counts("refused:", times=90),
        contextlib.ExitStack() as stack,
    ):

        def calling(count: int, says: bytes = b"") -> list[Caller]:
            callers = [stack.enter_context(Caller(place.address)) for _ in range(count)]
            for caller in callers:
                caller.say(says)
            return callers

        silent = calling(50)
        half = calling(20, greeting())
        quarter = calling(10, greeting()[:11])
        slow = calling(10)
        # Nearly all of them: the honest program, which has just come, hires a worker, and that takes some with it.
        until(lambda: place.node.descriptors() >= before + 80, "they are connected")
        dripping = threading.Thread(target=drip, args=(slow, greeting(), over), daemon=True)
        dripping.start()
        for caller in [*silent, *half, *quarter, *slow]:
            caller.rest()  # until the node hangs up
        over.set()
        dripping.join()  # before its sockets are closed
    until(lambda: place.node.descriptors() <= before + 2, "the descriptors came back")


# ---------------------------------------------------------------- rows 2, 3 and 6

CLAIMS = {"1 GiB": 1 << 30, "2**63-1": (1 << 63) - 1, "2**64-1": (1 << 64) - 1}
NULL = greeting(b"NULL") + command(b"READY", metadata(Socket_Type=b"DEALER", Identity=b"\1x"))
PLAIN = greeting(b"PLAIN") + command(b"HELLO", b"\5admin\5admin")
STRANGE = {
    "HTTP": HTTP,
    "TLS": TLS,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n" * 8,
    "random": os.urandom(4096),
    "ZMTP 1.0": b"\x01\x00" + bytes(64),
    "ZMTP 1.0 with an id": b"\x06\x00peer1" + b"\x02\x00x" * 30,
    "ZMTP 2.0": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00" + bytes(64),
    "ZMTP 3.0 NULL": NULL,
    "ZMTP 3.0 PLAIN": PLAIN,
    "a mechanism that is none": greeting(b"GSSAPI-2"),
    "a server like us": greeting(server=True) + command(b"WELCOME", bytes(160)),
    "HELLO of 3 octets": greeting() + command(b"HELLO", b"\1\0\0"),
    "HELLO of zeros": greeting() + command(b"HELLO", b"\1\0" + bytes(192)),
    "a command without a name": greeting() + frame(b"", zmtp.COMMAND),
    "a command of another length": greeting() + frame(b"\xffHELLO", zmtp.COMMAND),
    "INITIATE at once": greeting() + command(b"INITIATE", bytes(300)),
    "MESSAGE at once": greeting() + frame(b"\x07MESSAGE" + bytes(40)),
    "READY at once": greeting() + command(b"READY", metadata(Socket_Type=b"DEALER")),
    "ERROR": greeting() + command(b"ERROR", b"\xff"),
    "reserved bits": greeting() + bytes([0xF8, 3]) + b"abc",
    **{
        f"a {kind} of {name}": greeting() + frame(bytes(64), flags | zmtp.LONG, claims=octets)
        for kind, flags in (("frame", 0), ("command", zmtp.COMMAND))
        for name, octets in CLAIMS.items()
    },
}
STAYS_OPEN = ("ZMTP 1.0", "ZMTP 1.0 with an id", "ZMTP 2.0")
"""libzmq answers an old greeting as an old peer, and hangs up with the handshake's time: see row 1."""


def test_strange_octets_are_refused_at_once(place: Place, beside: HonestJob) -> None:
    """Also what claims to be large: nothing is set aside for a claim (the height of memory is measured)."""
    for name, octets in STRANGE.items():
        with (
            place.counts("refused:"),
            Caller(place.address) as caller,
        ):
            caller.say(octets)
            if name in STAYS_OPEN:
                with contextlib.suppress(OSError):  # it has hung up already
                    caller.socket.shutdown(socket.SHUT_WR)
            answer = caller.rest()
            assert len(answer) < 256, f"{name}: it was answered with {answer[:300]!r}"
    beside.goes_on()


@contextlib.contextmanager
def http_server(heard: list[bytes], host: str = "127.0.0.1") -> Iterator[str]:
    """Something else that listens: it answers in HTTP whatever it is told, and keeps it."""

    def serve() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            with caller:
                heard.append(caller.recv(65536))
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" * 3)

    with socket.create_server((host, 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://{host}:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_our_own_call_at_an_http_port_says_so_and_tells_it_nothing(
    place: Place, beside: HonestJob, tmp_path: Path
) -> None:
    heard: list[bytes] = []
    with http_server(heard) as endpoint:
        node = NodeProcess(tmp_path, "caller", "--seed", endpoint, key=place.key_file)
        try:
            node.says("something else than a Stealmesh node listens there")
            assert node.lives(), "it tries on"
        finally:
            node.close()
    for octets in heard:
        # But for the octets of the signature that are the routing id's length, to look like ZMTP 1.
        assert octets[9:] == greeting()[9 : len(octets)], "no more than a greeting in clear"


# ---------------------------------------------------------------- row 4


def test_another_server_key_is_refused_and_named(place: Place, beside: HonestJob) -> None:
    with place.counts("refused:wrong-key"):
        with pytest.raises(stealmesh.JoinRefused) as refused:
            stealmesh.Mesh(place.address, key=OTHER_KEY)
        assert "did not accept this mesh key" in str(refused.value)
        assert OTHER_KEY.fingerprint() in str(refused.value)


@needs_sodium
def test_the_right_server_key_with_an_unknown_client_key_is_refused(
    place: Place, beside: HonestJob
) -> None:
    with (
        place.counts("refused:unknown-client-key"),
        CurveCaller(place.address, place.key, client=OTHER_KEY) as caller,
    ):
        assert not caller.enter(b"\1stranger")


@needs_sodium
def test_a_handshake_that_was_overheard_is_worth_nothing(place: Place, beside: HonestJob) -> None:
    """The same octets once more: the node's cookie is another, so INITIATE does not open."""
    with CurveCaller(place.address, place.key) as honest:
        honest.greet()
        hello = honest.hello()
        honest.say(hello)
        honest.welcomed()
        initiate = honest.initiate(b"\1replayed")
        honest.say(initiate)
        assert honest.frame()[1][:6] == b"\x05READY"
    with place.counts("refused:wrong-key"), Caller(place.address) as thief:
        thief.say(greeting() + hello)
        thief.take(64)
        assert thief.frame()[1][:8] == b"\x07WELCOME"
        thief.say(initiate)
        assert thief.rest() == b"", "no READY"


# ---------------------------------------------------------------- row 5


def enters(place: Place) -> bool:
    """Is a holder of the key let in now?"""
    with Insider(place.address, place.key) as late:
        late.say(Ack())
        try:
            return late.hears(Refused).code == "no-session"  # somebody has heard it
        except HungUp:
            return False


def test_without_its_gate_a_node_lets_nobody_in_and_works_on(
    fresh: Callable[..., Place], tmp_path: Path
) -> None:
    """The thread that admits callers fails at the first TCP caller after the program, which came by a
    local socket like the workers' own."""
    switch = tmp_path / "fail"
    place = fresh(rigged=("gate-raises",), environment={"HOSTILE_SWITCH": str(switch)})
    with place.unharmed():
        switch.touch()
        with ThreadPoolExecutor(2) as two:
            assert list(two.map(enters, [place, place])) == [False, False], "fails closed"
        place.node.says("the gate is at fault")


@pytest.mark.slow
def test_a_slow_gate_holds_up_only_who_stands_at_it(
    fresh: Callable[..., Place], tmp_path: Path
) -> None:
    switch = tmp_path / "slow"
    place = fresh(rigged=("gate-slow",), environment={"HOSTILE_SWITCH": str(switch)})
    with place.unharmed() as beside:
        switch.touch()
        with Insider(place.address, place.key) as late:
            late.say(Ack())
            beside.goes_on()
            assert not late.heard
            assert late.hears(Refused).code == "no-session"
