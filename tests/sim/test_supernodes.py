"""Membership with supernodes: each rule as a story, told once with the rule and once without.

A rule that can be left out would be none: so most stories run twice, and the second time
the rule is taken out and the promise must break.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest

from stealmesh_engine.config import Config
from stealmesh_engine.effects import Send
from stealmesh_engine.membership import verdicts
from stealmesh_engine.membership.dissemination import Dissemination
from stealmesh_engine.membership.reconnect import Reconnect
from stealmesh_engine.membership.supernodes import Supernodes
from stealmesh_engine.membership.suspicion import Suspicions
from stealmesh_engine.membership.verdicts import Verdicts
from stealmesh_engine.presence import heartbeats
from stealmesh_engine.stealing.thief import HINT_SECONDS
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_engine.view.observers import LEAF_OBSERVERS, supers_wanted
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Beat, Digests, JobKind, PeerState, Role, View
from stealmesh_sim import membership_scale as scale
from stealmesh_sim.membership_scale import is_super, mesh, until
from stealmesh_sim.network import Station
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .scenes import scene

with_and_without = pytest.mark.parametrize("rule", [True, False], ids=["with", "without"])


def declared_dead(members: list[Process]) -> int:
    return sum(p.core.counters.get("peers-declared-dead", 0) for p in members)


def supers_of(members: list[Process]) -> list[Process]:
    return [p for p in members if p.alive and is_super(p)]


def a_leaf(members: list[Process]) -> Process:
    return next(p for p in members if not is_super(p))


def by_id(members: list[Process], peer: bytes) -> Process:
    return next(p for p in members if p.member.id == peer)


def part(world: World, one: Process, others: list[Process], *, both: bool = True) -> None:
    for other in others:
        world.network.cut(one.place, other.place)
        if both:
            world.network.cut(other.place, one.place)


def join(world: World, one: Process, others: list[Process]) -> None:
    for other in others:
        world.network.mend(one.place, other.place)
        world.network.mend(other.place, one.place)


# ---------------------------------------------------------------- deaths are found


@pytest.mark.parametrize("nodes", [32, 120])
def test_a_machine_that_is_off_is_missed_in_time(nodes: int) -> None:
    found = scale.detection(nodes, kills=16)
    assert found.missed == 0
    assert found.first_p50 <= 2.0
    assert found.first_p99 <= 2.5
    assert found.everybody_p99 <= 2.7


def test_a_process_that_is_gone_is_missed_at_once() -> None:
    found = scale.detection(60, kills=12, silent=False)
    assert found.missed == 0
    assert found.everybody_p99 <= 0.8


# ---------------------------------------------------------------- the living are not


@with_and_without
def test_who_stands_still_is_not_dead(rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rule:
        monkeypatch.setattr(Suspicions, "probed", lambda self, endpoint: None)
    false, still, hours = scale.false_verdicts(60, node_hours=2.0)
    assert hours >= 2.0
    assert false == 0
    assert (still == 0) is rule


def test_who_stands_still_for_a_minute_is_dead_and_comes_back() -> None:
    world, members = mesh(12)
    late, seen_by = a_leaf(members), supers_of(members)
    world.pause(late)
    world.run(world.now + 3.0)
    states = {p.core.view.members[late.member.id].state for p in seen_by}
    assert states == {PeerState.SUSPECT}
    world.run(world.now + world.config.stalled_seconds)
    states = {p.core.view.members[late.member.id].state for p in seen_by}
    assert states == {PeerState.DEAD}
    world.resume(late)
    assert until(world, lambda: not world.checkers.disagreement(), 5.0) < 5.0
    assert late.core.me.state is PeerState.ALIVE


@with_and_without
def test_who_goes_off_while_it_stands_still_is_dead_soon(
    rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by seed 11071: it was believed in for a minute."""
    if not rule:
        monkeypatch.setattr(verdicts, "PROBE_SECONDS", 1e9)
    world, members = mesh(12)
    late = a_leaf(members)
    world.pause(late)
    world.run(world.now + 4.0)
    world.crash(late, silent=True)
    took = until(world, lambda: not world.checkers.disagreement(), 20.0)
    assert (took < 10.0) is rule


@with_and_without
def test_a_cut_between_a_leaf_and_one_home_is_no_death(
    rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rule:
        monkeypatch.setattr(Verdicts, "_hearing_observers", lambda self, peer, asked_at, now: [])
        monkeypatch.setattr(Suspicions, "voted", lambda self, voter, message, now: None)
    world, members = mesh(24)
    leaf = a_leaf(members)
    home = by_id(members, leaf.core.membership.leaf.observers[0])
    part(world, leaf, [home])
    world.run(world.now + 8.0)
    assert (declared_dead(members) == 0) is rule


def test_a_false_rumour_about_a_neighbour_is_no_reason_to_watch_it() -> None:
    """Found in world 11: a leaf that had heard its neighbour within a moment of the rumour waited for
    it to speak again, which neighbours do not do, and took it for dead every two seconds."""
    world, members = mesh(12)
    leaf = a_leaf(members)
    known = next(p for p in members if not is_super(p) and leaf.core.links.is_ready(p.member.id))
    peer = known.member.id
    leaf.core.links.peers[peer].heard_at = world.now
    leaf.core.consequences.learn(
        [msgspec.structs.replace(known.core.me, state=PeerState.DEAD)], world.now
    )
    leaf.core.consequences.learn([msgspec.structs.replace(known.core.me, incarnation=9)], world.now)
    leaf.wake()
    world.run(world.now + 5.0)
    assert declared_dead(members) == 0


def test_two_observers_do_not_keep_a_dead_leaf_alive() -> None:
    """Found in world 5103: each acquitted the leaf because the other had, in turn, for ever."""
    world, members = mesh(24)
    leaf = a_leaf(members)
    homes = [by_id(members, peer) for peer in leaf.core.membership.leaf.observers]
    world.crash(leaf, silent=True)
    for home in homes:  # as if each had been told by the one before it, just now
        world.run(world.now + 0.55)
        home.core.detector.watch(leaf.member.id, world.now, 1.5)
    assert until(world, lambda: not world.checkers.disagreement(), 5.0) < 5.0


@with_and_without
def test_a_supernode_that_is_cut_off_doubts_itself(rule: bool) -> None:
    """For a few seconds: what it believes then would be told to everybody as soon as it is back."""
    config = replace(Config(), doubt_seconds=5.0 if rule else 0.0)
    world, members = mesh(24, config=config)
    alone = supers_of(members)[0]
    others = [p for p in members if p is not alone]
    part(world, alone, others)
    world.run(world.now + 5.0)
    believes_dead = len(alone.core.view.dead())
    join(world, alone, others)
    assert until(world, lambda: not world.checkers.disagreement(), 10.0) < 10.0
    accused = sum(bool(p.core.membership.supernodes.refuted_at) for p in others)
    assert (believes_dead == 0) is rule
    assert (accused == 0) is rule


def test_all_the_others_may_really_be_dead() -> None:
    """The doubt has an end."""
    world, members = mesh(5)
    alone = supers_of(members)[0]
    for process in members:
        if process is not alone:
            world.crash(process, silent=True)
    assert until(world, lambda: len(alone.core.view.nodes()) == 1, 12.0) < 12.0


@with_and_without
def test_the_late_judge_nobody(rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supernode that stood still itself has heard no one for as long."""
    if not rule:
        monkeypatch.setattr("stealmesh_engine.core.LATE_SECONDS", 1e9)
        monkeypatch.setattr(Verdicts, "_doubts_itself", lambda self, now: False)
    world, members = mesh(24)
    late = supers_of(members)[0]
    inbox_lost = late.hear
    world.pause(late)
    late.hear = lambda event: None  # type: ignore[method-assign]  # nothing lies unread: all is silent
    world.run(world.now + 2.5)
    late.hear = inbox_lost  # type: ignore[method-assign]
    world.resume(late)
    suspects = [line for line in late.core.journal.of() if "suspects" in line]
    assert (not suspects) is rule


# ---------------------------------------------------------------- who serves


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 15, 16, 40, 400])
def test_a_mesh_has_the_supernodes_that_it_should(nodes: int) -> None:
    world = World(1, audit=False, hashing=False)
    world.node("n0", seeds=[], workers=0)
    for number in range(1, nodes):
        world.node(f"n{number}", seeds=["tcp://n0:7077"], workers=0)
    wanted = supers_wanted(nodes)
    took = until(world, lambda: len(supers_of(world.processes)) >= wanted, 15.0)
    world.run(world.now + 2.0)
    assert took < (8.0 if nodes > 1 else 12.0)  # who is alone waits for company first
    assert 2 * len(supers_of(world.processes)) <= 3 * wanted  # who asks may not know all yet
    assert world.checkers.disagreement() == ""


@with_and_without
@pytest.mark.parametrize("apart_seconds", [0.2, 4.0])
def test_nodes_that_a_program_makes_known_to_each_other_do_not_all_serve(
    apart_seconds: float, rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local mesh: no node knows another before the program has dialled them all."""
    if not rule:
        monkeypatch.setattr(Supernodes, "_is_calm", lambda self, now: True)
    world = World(1, audit=False, hashing=False)
    members = [world.node(f"n{number}", seeds=[]) for number in range(12)]
    world.run(apart_seconds)
    world.client("client", seeds=[f"tcp://n{number}:7077" for number in range(12)])
    world.run(world.now + 10.0)
    assert not world.checkers.disagreement()
    assert (len(supers_of(members)) == supers_wanted(12)) is rule


def first_candidate(node: Process) -> PeerId:
    (found,) = node.core.membership.supernodes._candidates(1, node.world.now)
    return found


def test_a_suspect_is_not_asked_to_serve() -> None:
    world, members = mesh(24)
    node = supers_of(members)[0]
    first = first_candidate(node)
    node.core.detector.watch(first, world.now - 5.0, 1.0)
    node.core.detector.look(world.now)
    assert first_candidate(node) != first


@pytest.mark.parametrize("answers", [True, False])
def test_a_candidate_that_cannot_be_dialled_is_passed_over_soon(answers: bool) -> None:
    world, members = mesh(24)
    node = supers_of(members)[0]
    supernodes, first = node.core.membership.supernodes, first_candidate(node)
    supernodes._ask(first, world.now)
    if answers:
        supernodes.probed(by_id(members, first).member.endpoints[0], world.now)
    (at_once,) = supernodes._candidates(1, world.now + 0.3)
    (after_a_beat,) = supernodes._candidates(1, world.now + 0.5)
    (after_long,) = supernodes._candidates(1, world.now + 3.5)
    assert at_once == first
    assert (after_a_beat == first) is answers
    assert after_long != first, "it has been asked, and does not serve"
    supernodes._candidates(1, world.now + 31.0)
    assert not supernodes._probing, "nothing is remembered of it for ever"


def test_who_has_doubted_itself_in_vain_believes_it_of_all() -> None:
    """The first verdicts made the others too few to be doubted, and so they were acquitted."""
    world, members = mesh(12)
    last = supers_of(members)[0]
    for process in members:
        if process is not last:
            world.crash(process, silent=True)
    view = last.core.view
    assert until(world, lambda: len(view.nodes()) < 12, 15.0) < 15.0
    assert until(world, lambda: len(view.nodes()) == 1, 5.0) < 1.0
    assert last.core.counters["doubts"] == 1


@pytest.mark.slow
@with_and_without
def test_when_all_supernodes_die_a_few_leaves_serve_and_not_all(
    rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it each of them learns of all others at once, and ranks them all with every word."""
    if not rule:
        monkeypatch.setattr(MembershipView, "_knows_a_part", lambda self: False)
    world, members = mesh(200)
    world.run(world.now + 6.0)
    for process in supers_of(members):
        world.crash(process)
    living, whole = list(world.living()), 0
    begun = world.now
    while world.now < begun + 5.0:
        world.run(world.now + 0.05)
        whole = max(whole, sum(len(p.core.view.nodes()) == len(living) for p in living))
    assert (whole < 0.2 * len(living)) is rule, f"{whole} leaves have come to know everybody"
    assert until(world, lambda: not world.checkers.disagreement(), 10.0) < 10.0
    assert len(supers_of(members)) <= 5 * supers_wanted(len(living))


@with_and_without
def test_leaves_that_may_not_serve_alone_serve_together(
    rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the last of those who may is gone."""
    if not rule:
        monkeypatch.setattr(MembershipView, "untell", lambda self: None)
    world, members = mesh(12)
    supers = supers_of(members)
    for process in members:
        if process not in supers:
            me = process.core.me
            process.core.view.renew(eligible=False, incarnation=me.incarnation + 1)
            process.core.membership.news.tell(process.core.view.me, world.now)
    world.run(world.now + 3.0)
    for process in supers:
        world.crash(process)
    living = list(world.living())
    world.run(world.now + 5.0)
    assert all(p.core.view.serves() for p in living) is rule
    assert world.checkers.disagreement() == ""


def test_fixed_supernodes_that_fall_silent_do_not_make_leaves_know_everybody() -> None:
    """Who serves by order (`--role super`) may not be chosen; that is no reason to serve in its stead."""
    world, members = mesh(40)
    leaf = a_leaf(members)
    view = leaf.core.view
    for record in list(view.members.values()):
        fixed = msgspec.structs.replace(record, eligible=False, incarnation=record.incarnation + 1)
        view.join(fixed, world.now)
    view.renew(eligible=False)
    assert view.supers_count
    leaf.core.membership.supernodes._serve_the_unobserved(world.now, world.now - 60.0)
    assert view.told is not None


@with_and_without
def test_supernodes_are_replaced(rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rule:
        monkeypatch.setattr(Supernodes, "asked", lambda self, now: None)
    world, members = mesh(40)
    for process in supers_of(members)[:2]:
        world.crash(process, silent=True)
    wanted = supers_wanted(38)
    took = until(world, lambda: len(supers_of(members)) >= wanted, 10.0)
    assert (took < 10.0) is rule


def test_four_in_ten_die_and_a_quarter_of_the_supernodes_with_them() -> None:
    restored, agreed = scale.catastrophe(150)
    assert restored <= 10.0
    assert agreed <= 15.0


@with_and_without
def test_leaves_that_hear_no_supernode_serve_themselves(
    rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rule:
        monkeypatch.setattr(Supernodes, "_serve_the_unobserved", lambda self, now, since: None)
    world, members = mesh(40)
    for process in supers_of(members):
        world.crash(process, silent=True)
    took = until(world, lambda: bool(supers_of(members)), 10.0)
    assert (took < 10.0) is rule
    if rule:
        assert until(world, lambda: not world.checkers.disagreement(), 25.0) < 25.0


@with_and_without
@pytest.mark.parametrize(
    ("nodes", "owner", "guard"),
    [(72, Reconnect, "_ask_the_way"), (64, Dissemination, "tidy")],
    ids=["who has no home asks the way", "who is named by nobody is forgotten"],
)
def test_all_supernodes_go_off_and_nobody_believes_in_them_for_long(
    nodes: int, owner: type, guard: str, rule: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word: some never heard who served now, some believed in one that no view named."""
    if not rule:
        monkeypatch.setattr(owner, guard, lambda self, now: None)
    world, members = mesh(nodes)
    world.run(world.now + 20.0)
    for process in supers_of(members):
        world.crash(process, silent=True)
    took = until(world, lambda: not world.checkers.disagreement(), 30.0)
    assert (took < 15.0) is rule


def test_a_leaf_takes_another_home_for_one_that_is_silent() -> None:
    world, members = mesh(40)
    leaf = a_leaf(members)
    lost = leaf.core.membership.leaf.observers[0]
    world.crash(by_id(members, lost), silent=True)
    world.run(world.now + 3.0)
    homes = leaf.core.membership.leaf.observers
    assert lost not in homes
    assert len(homes) == LEAF_OBSERVERS


def test_everybody_starts_again() -> None:
    assert scale.restart(150) <= 15.0


def test_the_role_is_what_was_said() -> None:
    world = World(1)
    world.node("n0", seeds=[], role="plain")
    for number in range(1, 7):
        role = "super" if number == 3 else "plain" if number < 6 else "auto"
        world.node(f"n{number}", seeds=["tcp://n0:7077"], role=role)
    world.run(6.0)
    roles = [p.core.me.role for p in world.processes]
    assert [n for n, role in enumerate(roles) if role is Role.SUPER] == [3, 6]


def test_a_mesh_of_plain_nodes_does_without() -> None:
    world = World(1)
    world.node("n0", seeds=[], role="plain")
    others = [world.node(f"n{n}", seeds=["tcp://n0:7077"], role="plain") for n in range(1, 8)]
    world.run(3.0)
    assert world.checkers.disagreement() == ""
    world.crash(others[2], silent=True)
    assert until(world, lambda: not world.checkers.disagreement(), 3.0) < 3.0


@with_and_without
def test_who_is_taken_for_dead_again_and_again_does_not_serve(rule: bool) -> None:
    told = scene(2)
    candidate = told.world.node("n9", seeds=["tcp://n0:7077"], role="plain")
    told.run(1.0)
    core = candidate.core
    core.view.renew(eligible=True)
    if rule:
        core.membership.supernodes.refuted_at = [
            told.world.now - 3,
            told.world.now - 2,
            told.world.now - 1,
        ]
    core.membership.supernodes.asked(told.world.now)
    assert (core.me.role is Role.PLAIN) is rule


def test_too_many_stop_one_at_a_time_and_not_soon() -> None:
    config = replace(Config(), surplus_seconds=20.0)
    world, members = mesh(24, config=config)
    for process in [p for p in members if not is_super(p)][:5]:
        process.core.membership.supernodes._serve(world.now, "a test")
        process.wake()
    world.run(world.now + 15.0)
    assert len(supers_of(members)) == 10
    counts = []
    for _ in range(40):
        world.run(world.now + 5.0)
        counts.append(len(supers_of(members)))
    assert counts[-1] == 7  # half again as many as five are borne
    assert all(a - b in (0, 1) for a, b in pairwise(counts))
    assert world.checkers.disagreement() == ""


# ---------------------------------------------------------------- herds


@with_and_without
def test_a_herd_is_let_in_bit_by_bit(rule: bool) -> None:
    """No node introduces itself to more than a fixed number in a second, and all get in."""
    config = replace(Config(), attach_a_second=40.0 if rule else 1e9)
    world = World(1, config=config, audit=False, hashing=False)
    first = world.node("n0", seeds=[], workers=0)
    world.run(1.0)
    for number in range(1, 200):
        world.node(f"n{number}", seeds=["tcp://n0:7077"], workers=0)
    world.run(world.now + 1.0)
    admitted = sum(1 for line in first.core.journal.of() if "talks to" in line)
    assert (
        admitted <= 120
    ) is rule  # forty at once, forty in the second, those who became supernodes
    assert until(world, lambda: not world.checkers.disagreement(), 20.0) < 20.0
    assert all(is_super(p) for p in world.living() if p.core.counters.get("refused-busy"))


def test_a_leaf_that_has_homes_leaves_the_seed_alone() -> None:
    world, members = mesh(100)
    seed = a_leaf(members)
    late = [world.node(f"late{n}", seeds=[seed.member.endpoints[0]], workers=0) for n in range(30)]
    world.run(world.now + 5.0)
    assert world.checkers.disagreement() == ""
    linked = sum(p.core.links.is_ready(seed.member.id) for p in late)
    assert linked <= 12, "but for those whose lifeline it is, or who are its"
    assert all(p.core.me.incarnation == 1 for p in [*members, *late])


# ---------------------------------------------------------------- what is told to which peer


@with_and_without
def test_lost_news_are_made_up_for(rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rule:
        monkeypatch.setattr(Dissemination, "compare", lambda self, peer_id, digest, now: None)
    world, members = mesh(60)
    world.crash(a_leaf(members), silent=True)
    send = world.network.send

    def losing(process: Station, effect: Send) -> None:
        if not isinstance(effect.message, View | Digests):
            send(process, effect)

    world.network.send = losing  # type: ignore[method-assign]
    world.run(world.now + 4.0)
    assert world.checkers.disagreement(), "two of five supernodes have not heard of it"
    world.network.send = send  # type: ignore[method-assign]
    took = until(world, lambda: not world.checkers.disagreement(), 5.0)
    assert (took < 5.0) is rule


def test_what_a_leaf_holds_and_says_does_not_grow_with_the_mesh() -> None:
    small, large = scale.load(40, seconds=5.0), scale.load(400, seconds=5.0)
    for found in (small, large):
        assert found.messages_a_second <= 15.0
        assert found.octets_a_second <= 2000.0
        assert found.links <= 32
        assert found.members <= 48
    assert large.messages_a_second == pytest.approx(small.messages_a_second, rel=0.1)
    assert large.octets_a_second == pytest.approx(small.octets_a_second, rel=0.1)


def test_the_lifelines_that_homes_give_hold_a_mesh_together() -> None:
    world, members = mesh(80)
    for process in [p for p in members if not is_super(p)][:20]:
        world.crash(process)
    for number in range(10):
        world.node(f"late{number}", seeds=["tcp://n0:7077"], workers=0)
    world.run(world.now + 6.0)
    assert world.checkers.disagreement() == ""
    living = list(world.living())
    edges = {p.member.id: p.core.view.lifelines(6) for p in living}
    for graph in (edges, _backwards(edges)):
        seen, front = {living[0].member.id}, [living[0].member.id]
        while front:
            new = [to for to in graph[front.pop()] if to not in seen]
            seen.update(new)
            front.extend(new)
        assert seen == set(edges)


def _backwards(edges: dict[bytes, list[bytes]]) -> dict[bytes, list[bytes]]:
    turned: dict[bytes, list[bytes]] = {peer: [] for peer in edges}
    for peer, targets in edges.items():
        for to in targets:
            turned[to].append(peer)
    return turned


def test_a_join_or_a_death_changes_the_lifelines_of_few() -> None:
    world, members = mesh(200)
    view: MembershipView = supers_of(members)[0].core.view
    peers = view.nodes()[:]
    before = {peer: view.neighbours(peer, 6) for peer in peers}
    view.judge(a_leaf(members).member.id, PeerState.DEAD, world.now)
    changed = [p for p in view.nodes() if view.neighbours(p, 6) != before[p]]
    assert len(changed) <= 6


@with_and_without
def test_a_leaf_with_work_to_spare_does_not_beat_to_everybody_it_knows(
    monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    if not rule:
        monkeypatch.setattr(heartbeats, "HINTS_A_BEAT", 1000)
    world, members = mesh(24, workers=1)
    client = world.client("client", seeds=["tcp://n0:7077"])
    world.run(world.now + 1.0)
    VirtualProgram(world, client, Wish(JobKind.REDUCE, 20_000, CostLaw("const", 0.01), world.now))
    world.run(world.now + 3.0)
    leaf = max((p for p in members if not is_super(p)), key=links_of)
    assert links_of(leaf) > 10
    beats: list[Send] = []
    send = world.network.send

    def listening(process: Station, effect: Send) -> None:
        if process is leaf and isinstance(effect.message, Beat):
            beats.append(effect)
        send(process, effect)

    world.network.send = listening  # type: ignore[method-assign]
    world.run(world.now + 2.0)
    assert leaf.core.dispatcher.queued_seconds() > HINT_SECONDS, (
        "or else there is nothing to hint at"
    )
    rounds = 2.0 / (0.9 * world.config.beat_seconds) + 1
    whom = len(leaf.core.membership.leaf.observers) + 1 + 1  # the owner, and one hint
    assert (len(beats) <= rounds * whom) is rule


def links_of(process: Process) -> int:
    return sum(1 for _ in process.core.links.ready())
