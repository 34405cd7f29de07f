"""What an idle mesh costs, counted in virtual time: moments in which a core wakes up, and messages.

Each rule that saves some of them is told once with the rule and once without.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from tests.engine.wire import Host, Wire, ring

from stealmesh_engine.core import NodeCore
from stealmesh_engine.membership.beat_answers import ACK, BeatAnswers
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.presence.heartbeats import CALM_SECONDS, SPREAD, Heartbeats
from stealmesh_protocol.messages import Ack, Beat, Nothing, Promote, Role, Steal

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

SECONDS = 20.0


def calm_mesh(workers: int = 0) -> tuple[Wire, list[Host], Host]:
    """Three supernodes, a leaf and a client, which beat at random moments at first. Returns the supernodes and the
    leaf."""
    wire, _, nodes = ring(4, workers=workers)
    wire.until(lambda: sum(node.core.me.role is Role.SUPER for node in nodes) == 3)
    rng = Random("calm")
    for host in wire.hosts:
        host.core.heartbeats.due = wire.now + rng.uniform(0.0, 0.5)
    wire.advance(CALM_SECONDS + 30.0)
    wire.hush()
    supers = [node for node in nodes if node.core.me.role is Role.SUPER]
    return wire, supers, next(node for node in nodes if node not in supers)


def moments_a_second(monkeypatch: pytest.MonkeyPatch, wire: Wire, hosts: list[Host]) -> list[float]:
    """How often each of these wakes up. What happens at one moment of virtual time is one wake-up."""
    moments: dict[NodeCore, set[float]] = {host.core: set() for host in wire.hosts}
    steps = NodeCore.steps

    def counted(core: NodeCore, now: float, events: list[object]) -> list[object]:
        moments[core].add(now)
        return steps(core, now, events)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(NodeCore, "steps", counted)
    wire.advance(SECONDS)
    return [len(moments[host.core]) / SECONDS for host in hosts]


def test_an_idle_peer_wakes_up_with_the_beats_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire, supers, leaf = calm_mesh()
    assert max(moments_a_second(monkeypatch, wire, [*supers, leaf])) <= 2.1


def no_rule(*arguments: object) -> None: ...


def at_once(answers: BeatAnswers, peer: bytes, now: float) -> None:
    answers._links.send(peer, ACK, now)


@pytest.mark.parametrize(
    ("where", "rule", "instead", "moments"),
    [
        (Heartbeats, "with_others", no_rule, 6.0),
        (BeatAnswers, "owe", at_once, 3.0),
        (Detector, "put_off", no_rule, 2.5),
    ],
    ids=["beats in step", "answers with beats", "looks put off"],
)
def test_without_the_rule_it_wakes_up_more_often(
    monkeypatch: pytest.MonkeyPatch,
    where: type,
    rule: str,
    instead: Callable[..., None],
    moments: float,
) -> None:
    monkeypatch.setattr(where, rule, instead)
    wire, supers, leaf = calm_mesh()
    assert max(moments_a_second(monkeypatch, wire, [*supers, leaf])) >= moments


def test_an_idle_peer_says_eight_messages_a_second() -> None:
    wire, supers, leaf = calm_mesh(workers=1)
    wire.advance(SECONDS)
    for host in [*supers, leaf]:
        own = [type(said.message) for said in wire.said if said.by == host.name]
        mesh = sum(kind in (Beat, Ack) for kind in own)
        work = sum(kind in (Steal, Nothing) for kind in own)
        assert mesh + work == len(own)
        # A supernode beats to two others and answers two peers, twice a second.
        assert mesh <= 8 * 1.1 * SECONDS
        assert work <= 3 * SECONDS


# ---------------------------------------------------------------- when somebody is gone


def test_in_step_all_beat_at_once() -> None:
    _, supers, leaf = calm_mesh()
    begun = {host.core.heartbeats._rates._beaten_at for host in [*supers, leaf]}
    assert len(begun) == 1


def test_a_death_brings_beats_out_of_step() -> None:
    """What the first beat of any supernode sets right comes sooner if they do not all beat at once."""
    wire, supers, leaf = calm_mesh()
    wire.kill(supers[0])
    wire.until(lambda: all(h.core.view.is_dead(supers[0].id) for h in [*supers[1:], leaf]))
    for host in [*supers[1:], leaf]:
        beats = host.core.heartbeats
        assert not beats.in_step
        assert beats.due is not None
        planned = beats.due
        beats.with_others(planned - 1e-6)
        assert beats.due == planned


def test_work_brings_the_beats_of_its_holder_out_of_step_until_it_is_done() -> None:
    """Hints go from node to node with a beat each: in step each would wait for a whole period."""
    wire, supers, leaf = calm_mesh(workers=1)
    nodes = [*supers, leaf]
    client = next(host for host in wire.hosts if host not in nodes)
    job = client.open(1)
    holder = next(host for host in nodes if host.running())
    assert not holder.core.heartbeats.in_step
    wire.advance(2.0)
    holder.core.heartbeats.begin(wire.now)
    assert not holder.core.heartbeats.in_step
    holder.finish()
    assert client.is_done(job)
    wire.advance(2.0)
    assert holder.core.heartbeats.in_step


def test_out_of_step_the_next_beat_comes_at_any_moment_of_a_period() -> None:
    wire, supers, _ = calm_mesh()
    beats, period = supers[0].core.heartbeats, wire.config.beat_seconds
    waits = []
    for _ in range(300):
        latest = beats.begin(wire.now)
        beats.fall_out_of_step(wire.now)
        assert beats.due is not None
        assert beats.due <= latest
        waits.append(beats.due - wire.now)
    assert min(waits) < 0.05 * period
    assert max(waits) > 0.95 * period


def test_many_deaths_do_not_make_many_beats() -> None:
    wire, supers, _ = calm_mesh()
    beats = supers[0].core.heartbeats
    beats.fall_out_of_step(wire.now)
    planned = beats.due
    for _ in range(1000):
        beats.fall_out_of_step(wire.now)
    assert beats.due == planned


def test_beats_are_in_step_again_when_the_members_have_been_the_same_for_a_while() -> None:
    wire, supers, _ = calm_mesh()
    core = supers[0].core
    core.view.changes += 1
    core.heartbeats.begin(wire.now)
    for seconds, moves in [(0.0, False), (CALM_SECONDS - 0.6, False), (CALM_SECONDS, True)]:
        now = wire.now + seconds
        due = core.heartbeats.begin(now)
        core.heartbeats.with_others(due - 1e-6)
        assert (core.heartbeats.due != due) is moves


def test_a_beat_goes_early_only_with_another_near_its_time() -> None:
    wire, supers, _ = calm_mesh()
    beats = supers[0].core.heartbeats
    period = wire.config.beat_seconds
    due = beats.begin(wire.now)
    beats.with_others(wire.now + 0.84 * period)
    assert beats.due == due
    beats.with_others(wire.now + 0.86 * period)
    assert beats.due == wire.now + 0.86 * period


def test_out_of_step_periods_differ_by_a_fifth() -> None:
    """What has come into step by chance does not stay there."""
    wire, supers, _ = calm_mesh()
    core = supers[0].core
    core.view.changes += 1
    periods = [core.heartbeats.begin(wire.now) - wire.now for _ in range(300)]
    assert max(periods) - min(periods) > 0.18 * wire.config.beat_seconds


def test_no_period_is_longer_than_it_was() -> None:
    """Detection rests on it: three beats fit into the silence that makes a peer suspect."""
    wire, supers, _ = calm_mesh()
    beats = supers[0].core.heartbeats
    periods = [beats.begin(wire.now) - wire.now for _ in range(1000)]
    assert max(periods) <= (1 + SPREAD) * wire.config.beat_seconds


def test_a_supernode_is_replaced_as_soon_as_before() -> None:
    """Its two fellows ask the leaf with the first beat of either."""
    wire, supers, leaf = calm_mesh()
    wire.kill(supers[0])
    wire.until(lambda: leaf.core.me.role is Role.SUPER, 1.0)
    assert wire.take(Promote)
