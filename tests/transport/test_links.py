"""Links come up, carry messages both ways, and their ends are told: each side, each reason."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from stealmesh.host.security import MeshKey
from stealmesh.transport import Transport, TransportError, link_table
from stealmesh.transport import transport as transport_module
from stealmesh.transport.links import Port
from stealmesh.transport.sockets import FILES_REMEDY
from stealmesh_engine.events import Event, Heard, LinkDown, LinkUp, Probed
from stealmesh_protocol.limits import COUNTED_OCTETS_MIN, TAKEN_OCTETS
from stealmesh_protocol.messages import Bye, FnPut, StatusGet, Steal

from .conftest import MakeSide
from .sides import KEY, LIMIT_SECONDS, Side, accepted_by, link_between, process, until
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


def test_a_message_costs_one_look(
    make_side: MakeSide, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the socket that it came by: whether there is another. That there is one, its descriptor has said."""
    looks: Counter[bool] = Counter()
    look = Port.is_readable

    def counting(port: Port) -> bool:
        looks[port.link is None] += 1
        return look(port)

    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    monkeypatch.setattr(Port, "is_readable", counting)
    for number in range(100):
        a.transport.send(link, Steal(number, 1), seq=number + 1)
        until(lambda: len(b.heard()) == number + 1, a, b)  # noqa: B023  called at once
    assert looks[True] <= 150  # 200 if it asked first each time


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


@pytest.mark.parametrize("backlog", [5, 0], ids=["accepts but is silent", "does not even accept"])
def test_a_silent_listener_is_no_answer(make_side: MakeSide, backlog: int) -> None:
    a = make_side()
    with socket.socket() as silent, socket.socket() as one, socket.socket() as two:
        silent.bind(("127.0.0.1", 0))
        silent.listen(backlog)
        for caller in (one, two):  # with a full backlog the kernel drops further calls
            caller.setblocking(False)
            caller.connect_ex(silent.getsockname())
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


def test_hangup_says_what_was_sent_and_both_sides_forget(
    make_side: MakeSide, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The time that last words are given must not decide a test on a busy machine.
    monkeypatch.setattr(transport_module, "FLUSH_SECONDS", 60.0)
    monkeypatch.setattr(link_table, "LINGER_MILLISECONDS", 60_000)
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    for number in range(300):  # more than libzmq takes at once
        a.transport.send(link, Steal(number, 1), seq=number + 1)
    a.transport.send(link, Bye("done"))
    a.transport.hangup(link)
    sockets = len(a.transport.fds)
    until(lambda: not a.transport.queued_octets(link), a)
    assert len(a.transport.fds) == sockets, "closed, and nobody has read it yet"
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


def who_ends(closer: str, a: Side, b: Side) -> tuple[Side, int, Side, int]:
    """A link from a to b: who is to end it and its number there, who is to listen and its number there."""
    link = link_between(a, b)
    a.transport.send(link, Steal(0, 1))
    until(b.heard, a, b)
    dialler, acceptor = (a, link), (b, accepted_by(b))
    return (*acceptor, *dialler) if closer == "acceptor" else (*dialler, *acceptor)


@pytest.mark.parametrize("octets", [10, TAKEN_OCTETS // 51], ids=["small", "large"])
@pytest.mark.parametrize("closer", ["acceptor", "dialler"])
def test_last_words_are_heard_before_the_end(
    make_side: MakeSide, address: str, closer: str, octets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the listener looks only when all is over, and at the end first: with as much unread
    as a hang-up does not wait for (see flow.py)."""
    # How busy the machine is must not decide it.
    monkeypatch.setattr(link_table, "LINGER_MILLISECONDS", 60_000)
    talker, via, listener, _ = who_ends(closer, make_side(), make_side(address))
    before = len(listener.heard())
    for number in range(50):
        talker.transport.send(via, FnPut(number.to_bytes(16, "big"), [bytes(octets)]), number + 1)
    talker.transport.close(flush_seconds=60.0)
    listener.transport.epoll.poll(LIMIT_SECONDS)
    for fd in reversed(list(listener.transport.fds)):
        listener.events += listener.transport.ready(fd)  # the monitor stands behind its socket
    until(lambda: listener.told(LinkDown), listener)
    assert [event.seq for event in listener.heard()[before:]] == list(range(1, 51))
    assert isinstance(listener.events[-1], LinkDown)


@pytest.mark.parametrize("read", [1, 64, 127, 128, 200])
@pytest.mark.parametrize("closer", ["acceptor", "dialler"])
def test_small_last_words_that_nobody_waits_for_are_not_lost(
    make_side: MakeSide, address: str, closer: str, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They must all find room in the listener's queue, wherever it stands: see UNREAD_MESSAGES_MAX."""
    monkeypatch.setattr(link_table, "LINGER_MILLISECONDS", 60_000)
    talker, via, listener, _ = who_ends(closer, make_side(), make_side(address))
    window = talker.transport._links[via].send_flow
    del listener.events[:]
    for number in range(read):
        talker.transport.send(via, Steal(number, 1))
    until(lambda: len(listener.heard()) == read and window.is_read(), talker, listener)
    del listener.events[:]
    said = 0
    while window.sent + COUNTED_OCTETS_MIN - window.taken < TAKEN_OCTETS:
        talker.transport.send(via, Steal(said, 1))
        said += 1
        until(lambda: not talker.transport.queued_octets(via), talker)
    talker.transport.close(flush_seconds=60.0)
    until(lambda: listener.told(LinkDown), listener)
    assert nonces(listener.heard()) == list(range(said))
    assert said >= TAKEN_OCTETS // COUNTED_OCTETS_MIN - read % 128 - 2


@pytest.mark.parametrize("closer", ["acceptor", "dialler", "dialler hangs up"])
def test_many_last_words_are_waited_for(
    make_side: MakeSide, address: str, closer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than all buffers hold. The listener says TAKEN while it reads, and the kernel answers what is
    said to a closed socket by throwing away what it has not delivered: so it is not closed yet."""
    monkeypatch.setattr(transport_module, "FLUSH_SECONDS", 60.0)
    monkeypatch.setattr(link_table, "LINGER_MILLISECONDS", 60_000)
    talker, via, listener, answer = who_ends(closer, make_side(), make_side(address))
    before = len(listener.heard())
    for number in range(100):
        talker.transport.send(via, FnPut(number.to_bytes(16, "big"), [bytes(50_000)]), number + 1)
    listener.transport.send(answer, Steal(2, 1))
    sockets = len(talker.transport.fds)
    if closer == "dialler hangs up":
        talker.transport.hangup(via)
        until(lambda: not talker.transport.queued_octets(via), talker)
        assert len(talker.transport.fds) == sockets, "closed, and nobody has read it yet"
        until(lambda: listener.told(LinkDown), talker, listener)
    else:
        closing = threading.Thread(target=talker.transport.close, args=(60.0,))
        closing.start()
        closing.join(0.2)
        assert closing.is_alive(), "closed, and nobody has read it yet"
        until(lambda: listener.told(LinkDown), listener)
        closing.join()
    end = "ending" if closer == "dialler hangs up" else "closing"
    assert talker.transport.counters[f"dropped:{end}"] == 1, (
        "nobody is there to hear it, and it shows"
    )
    assert [event.seq for event in listener.heard()[before:]] == list(range(1, 101))


def test_last_words_to_the_dead_are_waited_for_by_nobody(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_table, "LINGER_MILLISECONDS", 60_000)
    a = make_side()
    with process("listen", "tcp://127.0.0.1:0") as peer:
        link = a.dial(peer.endpoint)
        a.transport.send(link, Steal(1, 1))
        until(lambda: a.heard(link), a)
        peer.signal(signal.SIGSTOP)
        for number in range(200):
            a.transport.send(link, FnPut(number.to_bytes(16, "big"), [bytes(50_000)]), number + 1)
        closing = threading.Thread(target=a.transport.close, args=(3600.0,))
        closing.start()
        peer.kill()
        closing.join(LIMIT_SECONDS)
    assert not closing.is_alive()


def test_more_than_one_turn_of_last_words(make_side: MakeSide, address: str) -> None:
    """The end is known before the 201st message is read; it is told after the last one."""
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    for number in range(250):
        a.transport.send(link, Steal(number, 1), seq=number + 1)
        a.pump()
    a.transport.close()
    b.transport.epoll.poll(LIMIT_SECONDS)
    for fd in reversed(list(b.transport.fds)):
        b.events += b.transport.ready(fd)
    until(lambda: b.told(LinkDown), b)
    assert nonces(b.heard()) == list(range(250))
    assert isinstance(b.events[-1], LinkDown)


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


# ---------------------------------------------------------------- turns


def test_a_signal_that_a_send_swallowed_is_made_good_by_settle(
    make_side: MakeSide, address: str
) -> None:
    """A ZeroMQ descriptor fires once; sending looks at the same mailbox and may put the signal out."""
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    a.transport.send(link, Steal(0, 1))
    until(b.heard, a, b)
    a.pump()
    b.transport.send(accepted_by(b), Steal(1, 1))
    assert a.transport.epoll.poll(LIMIT_SECONDS), "the answer is there, unread"
    a.transport.send(link, Steal(2, 1))
    assert a.transport.wait_seconds() == 0.0
    assert [type(event) for event in a.transport.settle()] == [Heard]


def test_another_thread_sends_while_the_owner_sleeps() -> None:
    """Under one lock, and without waking the owner unless settle() had something to tell."""
    with process("listen", "tcp://127.0.0.1:0") as echo:
        a = Side()
        lock, stop = threading.Lock(), threading.Event()
        heard = threading.Semaphore(0)

        def tell(events: list[Event]) -> None:
            a.events += events
            for event in events:
                if isinstance(event, Heard):
                    heard.release()

        def own() -> None:
            while not stop.is_set():
                fired = a.transport.epoll.poll(min(0.05, a.transport.wait_seconds()))
                with lock:
                    for fd, _ in fired:
                        tell(a.transport.ready(fd))
                    tell(a.transport.settle())

        link = a.dial(echo.endpoint)
        until(lambda: a.is_up(link), a)
        owner = threading.Thread(target=own)
        owner.start()
        try:
            for number in range(1000):
                with lock:
                    a.transport.send(link, Steal(number, 1))
                    tell(a.transport.settle())
            for _ in range(1000):
                assert heard.acquire(timeout=LIMIT_SECONDS)
        finally:
            stop.set()
            owner.join()
            a.transport.close()
        assert nonces(a.heard()) == list(range(1000))


def test_out_of_descriptors_is_a_link_that_goes_down(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = make_side(), make_side("tcp://127.0.0.1:0")
    monkeypatch.setattr(transport_module, "raise_descriptor_limit", lambda: 0)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    hoard: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                hoard.append(os.dup(0))
        link = a.dial(b.endpoint)
        assert a.transport.settle() == [LinkDown(link, f"out of file descriptors: {FILES_REMEDY}")]
        a.transport.probe(b.endpoint)
        assert a.transport.settle() == [Probed(b.endpoint, None)]
        with pytest.raises(TransportError, match="ulimit -n"):
            Transport(KEY, codec=StandInCodec(), epoll=a.transport.epoll)
        for _ in range(5):  # socket, monitor and connection find room one after the other
            os.close(hoard.pop())
            a.transport.hangup(a.dial(b.endpoint))
            a.pump()
    finally:
        for descriptor in hoard:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert link_between(a, b) != link


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


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "gone"])
def test_who_has_gone_while_its_request_lay_unread_is_not_served(
    make_side: MakeSide, address: str, stays: bool
) -> None:
    a, b = make_side(), make_side(address)
    link = link_between(a, b)
    a.transport.send(link, Steal(1, 1))
    until(b.heard, a, b)
    a.transport.send(link, StatusGet(1))
    a.transport.send(link, Steal(2, 1))
    if not stays:
        a.transport.hangup(link)
        # b sleeps; in its inbox lie the messages, in its monitor the end of their connection.
        assert b.transport._table.accepted is not None
        b.transport._table.accepted._monitor.poll(int(LIMIT_SECONDS * 1000))
    until(lambda: len(nonces(b.heard())) == 2, a, b)
    kinds = [type(event.message) for event in b.heard()][1:]
    assert kinds == ([StatusGet, Steal] if stays else [Steal]), "what else it said still counts"
    assert b.transport.counters.get("dropped:asked-and-gone", 0) == (0 if stays else 1)
