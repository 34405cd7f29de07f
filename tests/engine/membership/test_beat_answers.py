"""Who beats to us hears us with our own beats, and waits no longer than before."""

from __future__ import annotations

from tests.engine.wire import Host, Wire, ring

from stealmesh_engine.events import Heard, Tick
from stealmesh_protocol.messages import Ack, Beat, Role


def ring_of_four() -> tuple[Wire, Host, Host]:
    """A mesh with three supernodes; one of them, and the node that is none."""
    wire, _, nodes = ring(4)
    wire.until(lambda: sum(node.core.me.role is Role.SUPER for node in nodes) == 3)
    wire.advance(1.0)
    leaf = next(node for node in nodes if node.core.me.role is Role.PLAIN)
    return wire, next(node for node in nodes if node is not leaf), leaf


def beat_to(observer: Host, leaf: Host) -> None:
    link = next(link for link, line in observer.core.links.lines.items() if line.peer == leaf.id)
    digest = leaf.core.membership.leaf.digest_for(observer.id)
    observer.step(Heard(link, Beat(0, digest), 0, 0, 50))


def acks(wire: Wire, by: Host, to: Host) -> int:
    return sum(
        said.by == by.name and said.to == to.name and type(said.message) is Ack
        for said in wire.said
    )


def test_a_later_beat_is_answered_with_ours() -> None:
    wire, observer, leaf = ring_of_four()
    wire.hush()
    beat_to(observer, leaf)
    assert acks(wire, observer, leaf) == 0
    observer.core.heartbeats.due = wire.now
    observer.step(Tick())
    assert acks(wire, observer, leaf) == 1


def test_the_first_beat_is_answered_at_once_and_so_is_one_after_a_silence() -> None:
    wire, observer, leaf = ring_of_four()
    wire.losing.append(lambda said: said.by == leaf.name and type(said.message) is Beat)
    wire.advance(1.2)  # three beats of the observer: the first two answer what it had heard
    wire.hush()
    beat_to(observer, leaf)
    assert acks(wire, observer, leaf) == 1


def test_a_silent_peer_is_answered_twice_and_no_more() -> None:
    wire, observer, leaf = ring_of_four()
    beat_to(observer, leaf)
    wire.losing.append(lambda said: said.by == leaf.name and type(said.message) is Beat)
    wire.hush()
    wire.advance(1.4)
    assert acks(wire, observer, leaf) == 2


def test_who_hears_our_beat_hears_no_answer() -> None:
    """A peer may be both: one that beats to us, and an owner to which we beat."""
    wire, observer, leaf = ring_of_four()
    beat_to(observer, leaf)
    wire.hush()
    observer.core.membership.answers.say([leaf.id], wire.now)
    observer.step()
    assert acks(wire, observer, leaf) == 0


def test_a_peer_without_a_link_is_not_dialled_for_an_answer() -> None:
    wire, observer, leaf = ring_of_four()
    beat_to(observer, leaf)
    wire.part([observer], [leaf])
    peer = observer.core.links.peers[leaf.id]
    peer.dial_at = peer.dialling = None
    others = [host.id for host in wire.hosts if host is not leaf]
    observer.core.membership.answers.say(others, wire.now)
    assert observer.core.effects == []
    assert peer.dial_at is None


def test_no_beat_of_an_observer_leaves_its_leaf_out() -> None:
    """The periods of the two differ by up to a fifth. With one answer for each beat of the leaf, it would now and then
    hear nothing for two periods."""
    wire, observer, leaf = ring_of_four()
    heard = [wire.now]
    gaps = []
    for _ in range(6_000):  # out of step: members change all the time
        leaf.core.view.changes += 1
        observer.core.view.changes += 1
        wire.advance(0.01)
        at = leaf.core.links.peers[observer.id].heard_at
        if at != heard[-1]:
            gaps.append(at - heard[-1])
            heard.append(at)
    assert len(gaps) >= 100
    assert max(gaps[1:]) <= 1.1 * wire.config.beat_seconds + 1e-6
