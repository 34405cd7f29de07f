"""Links come up, carry messages both ways, and their ends are told: each side, each reason."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from stealmesh.security import MeshKey
from stealmesh.transport import Transport, TransportError
from stealmesh_engine.events import Heard, LinkDown, LinkUp, Probed
from stealmesh_protocol.messages import Bye, Steal

from .conftest import MakeSide
from .sides import KEY, Side, accepted_by, link_between, process, until
from .standin import StandInCodec

pytestmark = pytest.mark.real


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nonces(heard: list[Heard]) -> list[int]:
    return [event.message.nonce for event in heard if isinstance(event.message, Steal)]


@pytest.mark.parametrize("key", [KEY, None], ids=["curve", "insecure"])
def test_messages_travel_both_ways_in_order(
    make_side: MakeSide, address: str, key: MeshKey | None
) -> None:
    a, b = make_side(key=key), make_side(address, key=key)
    link = link_between(a, b)
    for number in range(500):
        a.transport.send(link, Steal(number, 1), seq=number + 1, ack=7)
    until(lambda: len(b.heard()) == 500, a, b)
    assert nonces(b.heard()) == list(range(500))
    assert {(event.seq - event.message.nonce, event.ack) for event in b.heard()} == {(1, 7)}  # type: ignore[attr-defined]
    back = accepted_by(b)
    assert back % 2 == 1
    for number in range(500):
        b.transport.send(back, Steal(number, 1), seq=number + 1)
    until(lambda: len(a.heard(link)) == 500, a, b)
    assert nonces(a.heard(link)) == list(range(500))


def test_two_addresses_are_one_inbox(make_side: MakeSide, ipc_dir: Path) -> None:
    b = make_side("tcp://127.0.0.1:0", f"ipc://{ipc_dir}/x")
    a = make_side()
    for endpoint in b.transport.endpoints:
        a.transport.send(link_between(a, b, endpoint), Steal(1, 1))
    until(lambda: len({event.link for event in b.heard()}) == 2, a, b)
    assert isinstance(a.codec, StandInCodec)
    assert a.codec.compress_asked == [False, False], "one host: never worth it"
    assert b.transport.peer_address(1)


@pytest.mark.parametrize("kind", ["tcp", "ipc", "ipc-left-over"])
def test_nobody_there_is_refused(make_side: MakeSide, ipc_dir: Path, kind: str) -> None:
    a = make_side()
    endpoint = f"tcp://127.0.0.1:{free_port()}" if kind == "tcp" else f"ipc://{ipc_dir}/x"
    if kind == "ipc-left-over":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{ipc_dir}/x")
    link = a.dial(endpoint)
    until(lambda: a.down_reason(link), a)
    assert a.down_reason(link) == "connection refused"
    assert not a.is_up(link)


@pytest.mark.parametrize(
    "endpoint", ["tcp://", "nonsense", "tcp://127.0.0.1:x", "ipc://" + "x" * 200]
)
def test_a_bad_address_is_a_link_that_goes_down(make_side: MakeSide, endpoint: str) -> None:
    a = make_side()
    link = a.dial(endpoint)
    until(lambda: a.down_reason(link), a)
    assert "address" in str(a.down_reason(link))


def test_a_silent_listener_is_no_answer(make_side: MakeSide) -> None:
    a = make_side()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        link = a.dial(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        until(lambda: a.down_reason(link), a)
    assert a.down_reason(link) == "no answer"


def test_messages_sent_before_the_link_is_up_arrive(make_side: MakeSide, address: str) -> None:
    a, b = make_side(), make_side(address)
    link = a.dial(b.endpoint)
    a.transport.send(link, Steal(1, 1))
    a.transport.send(link, Steal(2, 1), seq=1)
    assert a.transport.queued_octets(link) > 0
    until(lambda: len(b.heard()) == 2, a, b)
    assert a.transport.queued_octets(link) == 0


# ---------------------------------------------------------------- ends


def test_hangup_says_what_was_sent_and_both_sides_forget(make_side: MakeSide, address: str) -> None:
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    for number in range(300):  # more than libzmq takes at once
        a.transport.send(link, Steal(number, 1), seq=number + 1)
    a.transport.send(link, Bye("done"))
    a.transport.hangup(link)
    until(lambda: b.told(LinkDown), a, b)
    assert nonces(b.heard()) == list(range(300))
    assert isinstance(b.heard()[-1].message, Bye)
    assert b.events.index(b.told(LinkDown)[0]) == len(b.events) - 1, "its last words come first"
    assert not a.told(LinkDown), "a hangup is answered by nothing"
    a.transport.send(link, Steal(1, 1))
    assert a.transport.counters["dropped:sent-to-a-gone-link"] == 1


def test_the_acceptor_hangs_up_and_hears_no_more(make_side: MakeSide, address: str) -> None:
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    a.transport.send(link, Steal(1, 1))
    until(b.heard, a, b)
    b.transport.send(accepted_by(b), Bye("enough"))
    b.transport.hangup(accepted_by(b))
    until(lambda: a.heard(link), a, b)
    a.transport.send(link, Steal(2, 1))
    until(lambda: b.transport.counters.get("dropped:ending"), a, b)
    a.transport.hangup(link)
    c = link_between(a, b)
    a.transport.send(c, Steal(3, 1))
    until(lambda: len(b.heard()) == 2, a, b)
    assert nonces(b.heard()) == [1, 3]
    assert not b.told(LinkDown)


def test_last_words_of_an_acceptor_are_heard_before_its_end(
    make_side: MakeSide, address: str
) -> None:
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    a.transport.send(link, Steal(0, 1))
    until(b.heard, a, b)
    for number in range(50):
        b.transport.send(accepted_by(b), Steal(number, 1))
    b.transport.close()
    until(lambda: a.down_reason(link), a)
    assert nonces(a.heard(link)) == list(range(50))


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_a_killed_acceptor_is_noticed(make_side: MakeSide, ipc_dir: Path, kind: str) -> None:
    a = make_side()
    with process("listen", "tcp://127.0.0.1:0" if kind == "tcp" else f"ipc://{ipc_dir}/x") as peer:
        link = a.dial(peer.endpoint)
        a.transport.send(link, Steal(1, 1))
        until(lambda: a.heard(link), a)
        peer.kill()
        until(lambda: a.down_reason(link), a)
    assert a.down_reason(link) == "connection closed"


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_of_several_diallers_the_killed_one_is_named(
    make_side: MakeSide, address: str, victim: int
) -> None:
    b = make_side(address)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(process("dial", b.endpoint)) for _ in range(3)]
        until(lambda: len(b.heard()) == 3, b)
        links = dict(zip(nonces(b.heard()), (event.link for event in b.heard()), strict=True))
        peers[victim].kill()
        until(lambda: b.told(LinkDown), b)
        assert b.told(LinkDown) == [LinkDown(links.pop(peers[victim].pid), "connection closed")]
        for link in links.values():
            b.transport.send(link, Steal(1, 1))  # would find out that a peer is gone
        b.pump()
        assert len(b.told(LinkDown)) == 1


def test_descriptors_used_again_do_not_confuse(make_side: MakeSide, address: str) -> None:
    """Connections come and go on the same few descriptors; each end names its own link."""
    b = make_side(address)
    stays = make_side()
    staying = link_between(stays, b)
    stays.transport.send(staying, Steal(999, 1))
    until(b.heard, stays, b)
    number_of_staying = accepted_by(b)
    for round_number in range(20):
        a = make_side()
        link = link_between(a, b)
        a.transport.send(link, Steal(round_number, 1))
        a.transport.close()
        until(lambda n=round_number: len(b.told(LinkDown)) == n + 1, b)  # type: ignore[misc]
        assert b.told(LinkDown)[-1].link == b.heard()[-1].link
    assert number_of_staying not in {event.link for event in b.told(LinkDown)}
    assert len(b.heard()) == 21


def test_a_new_process_on_the_same_port_never_gets_old_mail(make_side: MakeSide) -> None:
    a = make_side()
    with process("record", "tcp://127.0.0.1:0") as first:
        endpoint = first.endpoint
        link = a.dial(endpoint)
        until(lambda: a.is_up(link), a)
        first.signal(signal.SIGSTOP)
        for number in range(2000):
            a.transport.send(link, Steal(number, 1), seq=number + 1)
        assert a.transport.queued_octets(link) > 0
        first.kill()
    with process("record", endpoint) as second:
        until(lambda: a.down_reason(link), a)
        again = a.dial(endpoint)
        until(lambda: a.is_up(again), a)
        a.transport.send(again, Steal(123456, 1))
        a.pump()
        assert second.line() == "123456"
    assert a.transport.counters["dropped:unsent"] > 0


# ---------------------------------------------------------------- probes


def test_probes(make_side: MakeSide, address: str, ipc_dir: Path) -> None:
    a, b = make_side(), make_side(address)
    questions = {
        b.endpoint: True,
        f"tcp://127.0.0.1:{free_port()}": False,
        f"ipc://{ipc_dir}/nobody": False,
        "tcp://no-such-name.invalid:1": None,
        "ipc://" + "x" * 200: None,
        "tcp://127.0.0.1:0": None,
    }
    for endpoint in questions:
        a.transport.probe(endpoint)
    until(lambda: len(a.told(Probed)) == len(questions), a, b)
    assert {event.endpoint: event.listening for event in a.told(Probed)} == questions


def test_a_probe_without_an_answer_ends(make_side: MakeSide) -> None:
    """A full backlog: the kernel drops further calls, as a firewall would."""
    a = make_side()
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for caller in (one, two):
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        a.transport.probe(f"tcp://127.0.0.1:{full.getsockname()[1]}")
        until(lambda: a.told(Probed), a)
    assert a.told(Probed)[0].listening is None


# ---------------------------------------------------------------- the process


def test_a_forked_child_is_told_so() -> None:
    side = Side(["tcp://127.0.0.1:0"])
    child = os.fork()
    if child == 0:
        try:
            side.transport.settle()
        except TransportError as error:
            side.transport.close()
            os._exit(7 if "spawn" in str(error) else 1)
        os._exit(2)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    finally:
        side.transport.close()


def test_addresses_that_cannot_be_bound(ipc_dir: Path, make_side: MakeSide) -> None:
    taken = make_side("tcp://127.0.0.1:0", f"ipc://{ipc_dir}/taken")
    (ipc_dir / "file").write_text("precious")
    for endpoint, remedy in {
        taken.transport.endpoints[0]: "choose another port",
        taken.transport.endpoints[1]: "in use",
        f"ipc://{ipc_dir}/file": "a file is there",
        f"ipc://{ipc_dir}/no/such/dir": "make it first",
        f"ipc://{ipc_dir}/{'x' * 200}": "shorter",
        "tcp://203.0.113.1:0": "no such address",
        "pigeon://x": "tcp://address:port",
    }.items():
        with pytest.raises(TransportError, match=remedy):
            Transport(KEY, [endpoint], codec=StandInCodec())
    assert (ipc_dir / "file").read_text() == "precious"


def test_a_socket_left_behind_by_a_dead_process_is_replaced(
    ipc_dir: Path, make_side: MakeSide
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{ipc_dir}/x")
    a, b = make_side(), make_side(f"ipc://{ipc_dir}/x")
    assert link_between(a, b) == 0


def test_without_a_key_only_loopback(make_side: MakeSide) -> None:
    with pytest.raises(TransportError, match=r"127\.0\.0\.1"):
        Transport(None, ["tcp://0.0.0.0:0"], codec=StandInCodec())
    assert make_side("tcp://0.0.0.0:0", key=None, public=True).endpoint


def test_link_ups_are_told_once(make_side: MakeSide, address: str) -> None:
    a, b = make_side(), make_side(address)
    links = [link_between(a, b) for _ in range(5)]
    assert [event.link for event in a.told(LinkUp)] == links
