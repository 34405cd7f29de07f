"""Virtual links misbehave as ZeroMQ's do, and no worse: order, loss only at a break, cuts, lanes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from stealmesh_engine.effects import Dial, Hangup, Probe, Send
from stealmesh_engine.events import Event, Heard, LinkDown, LinkUp, Probed
from stealmesh_protocol.messages import Ack, Bye, Closed, FnGet
from stealmesh_sim.network import Connection, Latency
from stealmesh_sim.process import Process
from stealmesh_sim.world import World

JOB = b"j" * 20
A, B = "tcp://a:1", "tcp://b:1"


@dataclass
class Ends:
    """Two processes with sleeping cores: the test speaks and hears for them."""

    world: World
    a: Process
    b: Process
    told: dict[str, list[Event]] = field(default_factory=lambda: {"a": [], "b": []})

    def send(self, process: Process, link: int, number: int) -> None:
        """Custody when there is a number, otherwise control."""
        message = Closed(JOB) if number else Ack()
        self.world.network.send(process, Send(link, message, number, 0))

    def heard(self, name: str) -> list[int]:
        return [event.seq for event in self.told[name] if isinstance(event, Heard)]

    def downs(self, name: str) -> list[str]:
        return [event.reason for event in self.told[name] if isinstance(event, LinkDown)]

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    @property
    def connection(self) -> Connection:
        return self.world.network.open_connections()[-1]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    world = World(7, latency=Latency(0.001, 2.0))
    a = world.node("a", seeds=None, endpoint=A, workers=0)
    b = world.node("b", seeds=None, endpoint=B, workers=0)
    both = Ends(world, a, b)

    def hear(process: Process, event: Event) -> None:
        if process.alive and not process.paused:
            both.told[process.name].append(event)

    monkeypatch.setattr(Process, "hear", hear)
    return both


@pytest.fixture
def linked(ends: Ends) -> Ends:
    ends.world.network.dial(ends.a, Dial(2, B))
    ends.run(0.1)
    assert ends.told["a"] == [LinkUp(2)]
    assert ends.told["b"] == [], "the acceptor hears of a link with its first message"
    ends.send(ends.a, 2, 0)
    ends.run(0.1)
    (first,) = ends.told["b"]
    assert isinstance(first, Heard)
    assert first.link == 1, "accepted links are odd"
    ends.told["b"].clear()
    return ends


def test_everything_arrives_once_and_in_order(linked: Ends) -> None:
    for number in range(1, 101):
        linked.send(linked.a, 2, number)
        linked.send(linked.b, 1, number)
        linked.run(0.0003)
    linked.run(0.1)
    assert linked.heard("a") == linked.heard("b") == list(range(1, 101))


def test_nobody_listens(ends: Ends) -> None:
    ends.world.network.dial(ends.a, Dial(2, "tcp://nobody:1"))
    ends.world.network.probe(ends.a, Probe("tcp://nobody:1"))
    ends.world.network.probe(ends.a, Probe(B))
    ends.run(0.1)
    assert ends.downs("a") == ["connection refused"]
    assert Probed("tcp://nobody:1", False) in ends.told["a"]
    assert Probed(B, True) in ends.told["a"]


def test_a_machine_that_is_off_says_nothing(ends: Ends) -> None:
    ends.world.crash(ends.b, silent=True)
    ends.world.network.dial(ends.a, Dial(2, B))
    ends.world.network.probe(ends.a, Probe(B))
    ends.run(2.0)
    assert ends.told["a"] == [Probed(B, None)]
    ends.run(2.0)
    assert ends.downs("a") == ["no answer"]


def test_a_paused_process_shakes_no_hands(ends: Ends) -> None:
    ends.world.pause(ends.b)
    ends.world.network.dial(ends.a, Dial(2, B))
    ends.run(1.0)
    assert ends.told["a"] == []
    ends.b.paused = False
    ends.run(0.2)
    assert ends.told["a"] == [LinkUp(2)]


def test_a_prefix_arrives_when_a_connection_breaks(linked: Ends) -> None:
    lengths = set()
    for _ in range(40):
        before = len(linked.heard("b"))
        for number in range(1, 11):
            linked.send(linked.a, 2, number)
        linked.world.network.reset(linked.connection)
        linked.run(0.1)
        arrived = linked.heard("b")[before:]
        assert arrived == list(range(1, len(arrived) + 1))
        lengths.add(len(arrived))
        assert linked.downs("a")[-1] == linked.downs("b")[-1] == "connection closed"
        linked.world.network.dial(linked.a, Dial(2, B))
        linked.run(0.1)
        linked.send(linked.a, 2, 0)
        linked.run(0.1)
    assert 0 in lengths
    assert 10 in lengths
    assert len(lengths) > 3
    assert len(linked.downs("a")) == len(linked.downs("b")) == 40


def test_a_cut_tells_nobody_and_loses_nothing(linked: Ends) -> None:
    links = linked.world.network
    links.cut(linked.a.place, linked.b.place)
    for number in range(1, 6):
        linked.send(linked.a, 2, number)
        linked.send(linked.b, 1, number)
    linked.run(10.0)
    assert linked.heard("b") == []
    assert linked.heard("a") == [1, 2, 3, 4, 5], "the other direction is open"
    links.mend(linked.a.place, linked.b.place)
    linked.run(1.0)
    assert linked.heard("b") == [1, 2, 3, 4, 5]
    assert linked.downs("a") == linked.downs("b") == []


def test_the_kernel_gives_up_on_a_long_cut(linked: Ends) -> None:
    linked.world.network.cut(linked.a.place, linked.b.place)
    linked.send(linked.a, 2, 1)
    linked.run(14.0)
    assert linked.downs("a") == linked.downs("b") == []
    linked.run(12.0)
    assert linked.downs("a") == linked.downs("b") == ["timed out"]
    assert linked.heard("b") == []


def test_no_dialling_through_a_cut(ends: Ends) -> None:
    ends.world.network.cut(ends.b.place, ends.a.place)
    ends.world.network.dial(ends.a, Dial(2, B))
    ends.run(4.0)
    assert ends.downs("a") == ["no answer"]


def test_control_overtakes_custody_while_a_link_stands_still(linked: Ends) -> None:
    linked.send(linked.a, 2, 1)  # on the wire already
    linked.world.network.stall(linked.connection, 0.5)
    for number in (2, 0, 3, 0):
        linked.send(linked.a, 2, number)
    linked.world.network.send(linked.a, Send(2, Bye("idle"), 0, 0))
    linked.run(0.4)
    assert linked.heard("b") == []
    linked.run(0.4)
    assert linked.heard("b") == [1, 0, 0, 2, 3, 0], "BYE does not overtake"
    assert isinstance(linked.told["b"][-1], Heard)
    assert isinstance(linked.told["b"][-1].message, Bye)


def test_what_was_said_before_a_hangup_goes_out(linked: Ends) -> None:
    for number in (1, 2, 3):
        linked.send(linked.a, 2, number)
    linked.world.network.hangup(linked.a, Hangup(2))
    linked.send(linked.b, 1, 9)
    linked.run(0.1)
    assert linked.heard("b") == [1, 2, 3]
    assert linked.downs("b") == ["connection closed"]
    assert linked.told["a"] == [LinkUp(2)]
    assert linked.world.network.connections == {}


def test_an_acceptor_can_only_stop_listening(linked: Ends) -> None:
    linked.send(linked.b, 1, 1)
    linked.world.network.hangup(linked.b, Hangup(1))
    linked.send(linked.a, 2, 1)
    linked.run(0.1)
    assert linked.heard("a") == [1]
    assert linked.heard("b") == []
    assert linked.downs("a") == []
    linked.world.network.hangup(linked.a, Hangup(2))
    linked.run(0.1)
    assert linked.world.network.connections == {}


def test_a_crash_closes_connections_and_the_address(linked: Ends) -> None:
    linked.world.crash(linked.b)
    linked.run(0.1)
    assert linked.downs("a") == ["connection closed"]
    linked.world.network.dial(linked.a, Dial(4, B))
    linked.run(0.1)
    assert linked.downs("a") == ["connection closed", "connection refused"]


def test_a_crash_is_told_to_a_dialler_whose_first_word_has_not_arrived(ends: Ends) -> None:
    ends.world.network.dial(ends.a, Dial(2, B))
    ends.run(0.1)
    ends.world.network.stall(ends.connection, 1.0)
    ends.send(ends.a, 2, 1)
    ends.world.crash(ends.b)
    ends.run(2.0)
    assert ends.downs("a") == ["connection closed"]


def test_a_restart_resets_what_a_silent_machine_left_open(linked: Ends) -> None:
    linked.world.crash(linked.b, silent=True)
    linked.run(3.0)
    assert linked.downs("a") == []
    linked.world.restart(linked.b)
    linked.run(0.1)
    assert linked.downs("a") == ["connection closed"]


def test_a_message_into_a_gone_link_is_counted(linked: Ends) -> None:
    lost = linked.world.network.lost
    linked.world.network.send(linked.a, Send(99, FnGet(b"d" * 16), 0, 0))
    assert linked.world.network.lost == lost + 1
