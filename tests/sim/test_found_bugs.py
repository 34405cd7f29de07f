"""What random worlds found in the core, as the shortest story of each. None may come back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from stealmesh_engine.effects import Dial
from stealmesh_engine.holding.poison import timed_out, worker_died
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import JobKind, Message, PeerState, Role, Sated, Steal, View
from stealmesh_protocol.values import unpack_outcomes
from stealmesh_sim.network import Station
from stealmesh_sim.programs import Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .scenes import FINE, SEED_ADDRESS, Scene, scene


def count_said(world: World, *kinds: type) -> dict[int, int]:
    """From now on, count how often each process says something of these kinds."""
    said: dict[int, int] = {}
    send = world.network.send

    def counting(process: Station, effect) -> None:  # type: ignore[no-untyped-def]
        if isinstance(effect.message, kinds):
            said[process.number] = said.get(process.number, 0) + 1
        send(process, effect)

    world.network.send = counting  # type: ignore[method-assign]
    return said


def test_a_node_whose_last_worker_died_does_not_spin() -> None:
    """A thief's next look-out stayed due while there was no worker to feed: the host was called
    again and again at the same moment."""
    told = scene(2, workers=1)
    told.map(2000)
    told.run(0.1)
    told.world.respawn_seconds = 5.0
    told.nodes[1].workers[0].kill()
    heard = told.nodes[1].heard
    told.run(4.0)
    assert told.nodes[1].heard - heard < 1000
    told.finish()


def test_what_the_node_says_of_a_lost_item_is_a_blob() -> None:
    """The codec and the blob came back packed into a tuple, inside another tuple."""
    told = scene(1)
    program = told.submit(Wish(JobKind.MAP, 10, FINE, told.world.now))
    for codec, blob in (timed_out(program.work.spec, 3), worker_died(program.work.spec, 3, ["x"])):
        values, failures = unpack_outcomes(codec, blob)
        assert values == []
        assert len(failures) == 1
    told.finish()


def test_a_node_that_was_fenced_hears_of_the_end_or_forgets_the_job() -> None:
    """A node held for dead was struck off the list of those to be told, and kept the job
    for ever after it had refuted."""
    told = scene(3)
    program = told.map(1500)
    late = told.nodes[1]
    told.until(lambda: told.holds(late, program))
    told.world.pause(late)
    told.until(lambda: program.done, within=30.0)
    told.run(3.0)
    told.world.resume(late)
    told.run(late.core.config.lease_seconds + 3.0)
    assert program.job not in late.core.holder.jobs


def test_lateness_is_forgiven_once() -> None:
    """A host that tells many things after a pause, one by one, forgave the pause with each of
    them: leases and suspicions moved minutes into the future."""
    told = scene(2)
    program = told.map(6000)
    told.until(lambda: told.holds(told.nodes[1], program))
    told.world.pause(told.client)
    told.run(5.0)
    told.world.resume(told.client)
    deadlines = [lent.deadline for lent in told.owned(program).ledger.leases.values()]
    assert max(deadlines) <= told.world.now + told.client.core.config.lease_seconds + 0.001
    heard = [watch.heard for watch in told.client.core.detector.watches.values()]
    assert max(heard) <= told.world.now + 0.001
    told.finish(within=60.0)


def test_a_thief_that_was_fed_by_a_lifeline_asks_again() -> None:
    """Work from a lifeline answers no question, so it did not end the thief's silence: a node
    with a small share was idle for up to two seconds beside full ones."""
    told = scene(5, workers=1)
    for node in told.nodes:
        node.core.thief.silent_until = told.world.now + 100.0
    program = told.map(2000)
    told.until(lambda: all(told.holds(node, program) for node in told.nodes), within=1.0)
    assert all(node.core.thief.silent_until == 0.0 for node in told.nodes)
    told.finish()


def test_a_forgotten_peer_may_still_talk() -> None:
    """Two links with one peer, and the peer forgotten: what came over the second one belonged
    to no peer and raised KeyError."""
    told = scene(3)
    world, node = told.world, told.nodes[1]
    other = told.nodes[2]
    line = next(n for n, each in node.core.links.lines.items() if each.peer == other.member.id)
    core = node.core
    peer = core.links.peers[other.member.id]
    peer.link = None  # as if another link had carried the words, and had just broken
    core.links.forget(other.member.id)
    assert line not in core.links.lines
    told.run(5.0)
    told.until(lambda: not world.checkers.disagreement(), within=10.0)


def test_a_dialler_that_was_forgotten_learns_of_it() -> None:
    """An inbox cannot close what others dialled: a forgotten peer went on talking to
    somebody who did not listen any more, until silence was taken for death."""
    told = scene(2)
    first, second = told.nodes
    dialled = {
        n.name: [each for each in n.core.links.lines.values() if each.dialled] for n in told.nodes
    }
    acceptor, dialler = (first, second) if dialled["n1"] else (second, first)
    before = dialler.core.links.peers[acceptor.member.id].link
    acceptor.core.links.forget(dialler.member.id)
    acceptor.wake()
    told.run(1.0)
    after = dialler.core.links.peers[acceptor.member.id].link
    assert after not in (None, before)
    assert dialler.core.me.incarnation == 1


def test_a_new_life_buries_the_one_before_it() -> None:
    """No peer had a link with the old life, all were refused at its address by the new one,
    and so the old life was never judged."""
    told = scene(3)
    world = told.world
    ghost = world.node("ghost", seeds=[SEED_ADDRESS])
    told.until(lambda: told.state_of(told.nodes[2], ghost) is PeerState.ALIVE)
    world.crash(ghost, silent=True)
    world.restart(ghost, seeds=[SEED_ADDRESS])
    told.until(lambda: not world.checkers.disagreement(), within=0.3)
    assert all(told.state_of(node, ghost) is PeerState.DEAD for node in told.nodes)


def test_a_client_without_any_node_looks_for_all_it_ever_knew() -> None:
    """All nodes died, and one came back at an address that was no seed: a seed that had once
    answered was never dialled again, and no other was looked for."""
    told = scene(4)
    program = told.map(300)
    told.run(0.05)
    for node in told.nodes:
        told.world.crash(node)
    told.run(1.0)
    heir = told.world.restart(told.nodes[3], seeds=[])
    told.finish()
    assert heir.items
    assert program.done


def test_a_node_that_waits_for_a_function_does_not_beg() -> None:
    """Its bags were full and its workers idle, because the function was still on its way: it
    asked everybody for more, got it, and asked again."""
    told = scene(4)
    late = told.nodes[3]
    told.world.network.cut(late.place, told.client.place)
    program = told.map(2000, law=CostLaw("const", 0.005))
    told.until(lambda: told.holds(late, program), within=1.5)
    said = count_said(told.world, Steal, Sated)
    told.run(0.2)
    assert said.get(late.number, 0) == 0
    told.world.network.mend(late.place, told.client.place)
    told.finish()


def test_a_function_that_two_jobs_share_is_not_given_up_with_one() -> None:
    """The end of one job took the function off the list of those to wait for, and the other job
    was started without it."""
    told = scene(1)
    told.world.network.cut(told.nodes[0].place, told.client.place)
    for _ in range(2):
        told.submit(Wish(JobKind.MAP, 50, FINE, told.world.now, function="shared"))
    first, second = told.programs
    told.run(0.2)
    told.nodes[0].core.holder.closed(first.job, told.world.now, stop=False)
    told.nodes[0].wake()
    told.run(0.1)
    told.world.network.mend(told.nodes[0].place, told.client.place)
    told.until(lambda: second.done, within=5.0)


def test_busy_nodes_do_not_rob_each_other() -> None:
    """Nodes with workers busy for seconds had no stock and so felt hungry: the last queued
    items went round among them, hundreds of steals a second."""
    told = scene(4, workers=1)
    told.map(30, law=CostLaw("const", 0.5))
    told.run(1.5)
    given = sum(node.core.victim.given for node in told.nodes)
    told.finish()
    assert sum(node.core.victim.given for node in told.nodes) - given < 40


def test_a_thief_does_not_shout_while_it_is_fed_in_crumbs() -> None:
    """Every crumb took the thief's name off all lists and put it back on: a dozen messages each."""
    told = scene(6, workers=4)
    said = count_said(told.world, Steal, Sated)
    told.submit(
        Wish(JobKind.REDUCE, 450, CostLaw("const", 0.02), told.world.now, window=11, block_items=1)
    )
    told.run(1.0)
    assert max(said.values()) < 250
    told.finish()


def test_work_is_not_given_away_while_its_owner_is_late() -> None:
    """What a victim gave lay between it and the thief until a late owner wrote it down: after a
    second all work did."""
    told = scene(3)
    program = told.map(3000)
    told.until(lambda: told.owned(program).ledger.figures().done > 100)
    told.world.pause(told.client)
    told.run(1.5)
    given = sum(node.core.victim.given for node in told.nodes)
    told.run(2.0)
    assert sum(node.core.victim.given for node in told.nodes) == given
    assert any(worker.running for node in told.nodes for worker in node.workers)
    told.world.resume(told.client)
    told.finish()


def test_a_seed_that_is_being_dialled_when_its_peer_is_forgotten_is_dialled_again() -> None:
    """The link went with the peer, and the seed waited for the link's end for ever."""
    told = scene(1)
    links = told.client.core.links
    seed = links.seeds[SEED_ADDRESS]
    node = told.nodes[0]
    told.world.crash(node)
    told.run(1.0)
    told.world.restart(node, seeds=[])

    def is_half_introduced() -> bool:
        dialled = [peer.dialling for peer in links.peers.values()]
        return seed.dialling is not None and seed.dialling in dialled

    told.until(is_half_introduced, within=10.0)
    caught = next(p for p, peer in links.peers.items() if peer.dialling == seed.dialling)
    links.forget(caught)
    assert seed.dialling is None
    told.until(lambda: bool(links.is_ready(caught)), within=10.0)


def test_an_introduction_that_is_not_answered_is_given_up() -> None:
    """A process that listens and never answers kept its seed busy for ever."""
    world = World(1)
    node = world.node("n0", seeds=[], workers=1)
    world.run(0.1)
    client = world.client("client", seeds=[SEED_ADDRESS])
    world.run(0.10099)
    while not client.core.links.lines or not client.ends:
        world.step()
    world.pause(node)
    world.run(world.now + 7.0)
    assert client.core.counters["rude-no-welcome"] >= 1
    world.resume(node)
    world.run(world.now + 10.0)
    assert client.core.links.joined


def test_idle_neighbours_of_a_rich_node_find_it() -> None:
    """Long items, a short queue at a node where no name stood: idle nodes were silent
    for two seconds at a time, though its beats said what it had."""
    told = scene(2, workers=1)
    for node in told.nodes:
        node.core.thief.silent_until = told.world.now + 100.0
        node.core.victim.hungry.clear()
        node.core.thief.standing.clear()
    program = told.map(400)
    told.until(lambda: all(told.holds(node, program) for node in told.nodes), within=1.2)
    told.finish()


@pytest.mark.parametrize("nodes", [1, 2])
def test_scene_is_what_the_stories_believe(nodes: int) -> None:
    told: Scene = scene(nodes)
    assert len(told.nodes) == nodes
    assert not told.world.checkers.disagreement()


def test_a_node_that_was_alone_asks_whom_it_meets() -> None:
    """Alone it had fallen silent for longer and longer, and stayed so after it had met a mesh."""
    told = scene(2, workers=1)
    world = told.world
    told.map(1000)
    told.run(0.1)
    alone = world.node("alone", seeds=["tcp://nobody:7077", SEED_ADDRESS], workers=1)
    for node in told.nodes:
        world.network.cut(alone.place, node.place)
    told.run(2.5)
    for node in told.nodes:
        world.network.mend(alone.place, node.place)
    asked = alone.core.thief.asked
    told.until(lambda: alone.core.links.joined, within=10.0)
    assert alone.core.thief.asked == asked + 1
    told.finish()


def test_two_links_dialled_by_one_side_may_be_chosen_differently() -> None:
    """A client dialled a node twice, as a seed and as a member. Each side kept the link that was
    ready last, the client closed the other one, and the node believed that no link was left."""
    told = scene(1)
    node, client = told.nodes[0], told.client
    us, them = client.core.links, node.core.links
    first = us.peers[node.member.id].link
    them_first = them.peers[client.member.id].link
    assert first is not None
    us.peers[node.member.id].link = None
    us.connect(node.member.id, told.world.now)
    client.wake()
    told.until(lambda: len(them.lines) == 2)
    told.run(0.01)
    them.peers[client.member.id].link = them_first  # as if it had been ready last over there
    told.world.network.reset(client.ends[first][0])
    told.run(0.2)
    assert them.is_ready(client.member.id)
    assert us.is_ready(node.member.id)
    told.map(50)
    told.finish()


def test_known_work_is_given_before_crumbs_of_unknown_cost() -> None:
    """A job that a node had never run, having better to do, went first and one item at a time;
    long queued items of known cost were not given away."""
    told = scene(1, workers=1)
    long = told.map(60, law=CostLaw("const", 0.1))
    told.run(0.5)
    told.map(600, law=CostLaw("const", 0.002))
    told.run(0.01)
    victim = told.nodes[0].core.victim
    assert len(victim.dispatcher.stock) == 2
    (richest,) = victim._richest(b"", told.world.now)
    assert richest.spec.job == long.job


def test_of_equal_jobs_none_waits_for_the_others_to_end() -> None:
    """A node went on with the job that came first as long as it had items of it: a stream that is
    refilled in time starved everybody else."""
    told = scene(1, workers=1)
    long = told.map(20_000)
    told.until(lambda: told.holds(told.nodes[0], long))
    short = told.map(50)
    start = told.world.now
    told.until(lambda: short.done)
    assert not long.done
    assert told.world.now < start + 2.0
    told.finish(within=300.0)


def test_a_program_out_of_reach_of_half_the_nodes_is_alone_in_that() -> None:
    """Its verdicts went round the mesh and were refuted, again and again; and parts that nodes out
    of its reach had stolen were granted to them, and lay there until their leases ran out."""
    told = scene(4, workers=1)
    program = told.map(1500)
    told.run(0.5)
    start, here = told.world.now, told.client.place
    deaf = told.nodes[2:]
    for node in deaf:
        told.world.network.cut(node.place, here)
        told.world.network.cut(here, node.place)
    while not program.done:
        told.run(0.05)
        assert not told.world.checkers.disagreement(), "all nodes hear each other all the time"
        assert told.world.now < start + 12.0, "two workers need 7 s for what is left"
    assert told.counted("leases-expired") == 0
    assert all(node.core.me.incarnation == 1 for node in told.nodes), "nobody had to refute"
    for node in deaf:
        told.world.network.mend(node.place, here)
        told.world.network.mend(here, node.place)
    program = told.map(400)
    told.until(lambda: all(told.holds(node, program) for node in deaf))
    told.finish()


def test_who_speaks_but_does_not_hear_gets_no_work() -> None:
    """A program heard the beats of nodes that its grants did not reach: what it granted them lay
    between the two until the leases ran out, again and again."""
    told = scene(4, workers=1)
    program = told.map(1500)
    told.run(0.5)
    start, here = told.world.now, told.client.place
    deaf = told.nodes[2:]
    for node in deaf:
        told.world.network.cut(here, node.place)
    told.until(lambda: program.done)
    assert told.world.now < start + 12.0, "two workers need 7 s for what is left"
    assert told.counted("leases-expired") == 0
    for node in deaf:
        told.world.network.mend(here, node.place)
    program = told.map(400)
    told.until(lambda: all(told.holds(node, program) for node in deaf))
    told.finish()


@pytest.mark.parametrize("number", [0, 1], ids=["seed", "member"])
def test_a_program_looks_again_where_it_hears_nobody(number: int) -> None:
    """A machine had gone off without a word, no one was left to say so, and the link with it looked
    well for ever: the program never dialled the new life at that address."""
    told = scene(2)
    node, here = told.nodes[number], told.client.place
    dialled: list[str] = []
    dial = told.world.network.dial

    def noting(dialler: Station, effect: Dial) -> None:
        if dialler is told.client:
            dialled.append(effect.endpoint)
        dial(dialler, effect)

    told.world.network.dial = noting  # type: ignore[method-assign]
    told.world.network.cut(node.place, here)
    told.run(15.0)
    assert set(dialled) == set(node.member.endpoints)
    told.world.network.mend(node.place, here)
    told.map(400)
    told.finish()


def test_what_a_node_holds_that_only_its_program_cannot_hear_is_freed_at_once() -> None:
    """Others heard it refute, and said so: that cleared it with the program as well, and what it
    held lay there until the leases ran out."""
    told = scene(3, workers=1)
    program = told.map(900)
    told.until(lambda: told.holds(told.nodes[1], program))
    told.world.network.cut(told.nodes[1].place, told.client.place)
    start = told.world.now
    told.until(lambda: program.done, within=12.0)
    assert told.counted("leases-expired") == 0
    assert told.world.now > start + 3.0, "it was to be missed while the job ran"
    told.world.network.mend(told.nodes[1].place, told.client.place)
    told.finish()


def test_who_has_missed_a_refutation_hears_it_again() -> None:
    """A supernode answered no accusation that it had refuted before. One that had missed that held it for stalled
    from then on, and told it nothing of other nodes (world 571 of actors that are called alone)."""
    told = scene(2)
    told.world.crash(told.client)  # it would set them right
    told.run(10.0)
    accuser, accused = told.nodes[0].core, told.nodes[1].core
    missed = replace(accused.me, role=Role.PLAIN, state=PeerState.SUSPECT)
    accused.view.renew(incarnation=missed.incarnation + 1)
    accuser.view._set(missed)
    accuser.links.learns(missed)
    told.until(lambda: told.state_of(told.nodes[0], told.nodes[1]) is PeerState.ALIVE, within=5.0)
    told.finish()


def test_only_an_accusation_is_answered_and_only_to_who_makes_it() -> None:
    told = scene(2)
    core, now, other = told.nodes[1].core, told.world.now, told.nodes[0].member.id
    suspect = replace(core.me, state=PeerState.SUSPECT)
    core.view.renew(incarnation=core.me.incarnation + 1)
    said: list[tuple[PeerId, Message]] = []

    def send(peer_id: PeerId, message: Message, now: float) -> bool:
        said.append((peer_id, message))
        return True

    core.links.send = send  # type: ignore[method-assign]
    core.membership.learn(replace(suspect, state=PeerState.ALIVE), now, other)
    core.membership.learn(suspect, now)
    assert not said
    core.membership.learn(suspect, now, other)
    assert said == [(other, View([core.view.me]))]
