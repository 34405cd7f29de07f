"""Stories with an end: what goes wrong, when exactly, and what must be true all the same.

The checkers of the virtual world watch every event of each (every item once and with its value,
accounts that add up, one holder a lease); the tests add what this story is about.
"""

from __future__ import annotations

import pytest

from stealmesh_engine.events import Drain
from stealmesh_protocol.messages import JobKind, PeerState
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw

from .scenes import FINE, SEED_ADDRESS, Scene, scene


def stolen_by(told: Scene, program: VirtualProgram) -> list[int]:
    """Numbers of the nodes that hold a lease of the job."""
    return [n for n, node in enumerate(told.nodes) if told.holds(node, program)]


# ---------------------------------------------------------------- nothing goes wrong


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT])
def test_nothing_goes_wrong_and_nothing_is_done_twice(kind: JobKind) -> None:
    told = scene(5)
    wish = Wish(kind, 600, FINE, told.world.now, block_items=7, feed_seconds=0.001)
    told.submit(wish)
    begun = told.world.now
    told.finish()
    busy = sum(node.busy_seconds for node in told.nodes)
    assert busy == pytest.approx(6.0)  # 600 items of 10 ms, each run once
    assert told.world.now - begun < 1.3  # ten workers: 0.6 s, and not much more
    assert all(node.items for node in told.nodes)
    for process in told.world.processes:
        assert process.core.counters.get("peers-declared-dead", 0) == 0


def test_all_kinds_at_once() -> None:
    told = scene(4)
    told.map(300)
    told.explore()
    told.submit(Wish(JobKind.REDUCE, 300, CostLaw("pareto", 0.01, 3), told.world.now))
    told.submit(Wish(JobKind.SUBMIT, 50, FINE, told.world.now, block_items=1, feed_seconds=0.01))
    told.finish()


def test_views_may_be_preset() -> None:
    told = scene(3)
    world = told.world
    extra = [world.node(f"x{number}", seeds=None) for number in range(5)]
    world.preset_views()
    for process in extra:
        process.wake()
    told.until(lambda: not world.checkers.disagreement(), within=5.0)


# ---------------------------------------------------------------- deaths around a steal


def test_the_thief_dies_right_after_the_split() -> None:
    told = scene(3)
    program = told.map(600)
    told.until(lambda: len(stolen_by(told, program)) == 3)
    victim = stolen_by(told, program)[0]
    thief = next(node for n, node in enumerate(told.nodes) if n != victim)
    told.world.crash(thief)
    told.finish()
    assert thief.core.thief.fed


def test_the_victim_dies_before_its_split_is_heard_of() -> None:
    told = scene(3)
    program = told.map(600)
    told.until(lambda: told.nodes[0].busy_seconds > 0.1)
    victim = max(told.nodes, key=lambda node: node.core.dispatcher.queued_seconds())
    told.world.network.cut(victim.place, told.client.place)
    given = victim.core.victim.given
    told.until(lambda: victim.core.victim.given > given)
    told.world.crash(victim)
    told.world.network.mend(victim.place, told.client.place)
    told.finish()
    assert told.state_of(told.client, victim) is PeerState.DEAD
    assert program.done


def test_the_victim_dies_after_the_split() -> None:
    told = scene(3)
    program = told.map(600)
    told.until(lambda: len(stolen_by(told, program)) == 3)
    victim = max(told.nodes, key=lambda node: node.core.victim.given)
    told.world.crash(victim)
    told.finish()
    assert victim.core.victim.given


def test_thief_and_victim_die_together() -> None:
    told = scene(4)
    program = told.map(800)
    told.until(lambda: len(stolen_by(told, program)) == 4)
    for node in told.nodes[:3]:
        told.world.crash(node)
    told.finish()
    assert told.nodes[3].items


# ---------------------------------------------------------------- late, not dead


def test_a_late_owner_is_waited_for() -> None:
    told = scene(3)
    program = told.map(1200)
    told.until(lambda: told.owned(program).ledger.figures().done > 100)
    told.world.pause(told.client)
    told.world.after(10.0, told.world.resume, told.client)
    told.run(9.9)
    assert all(told.counted("jobs-orphaned", node) == 0 for node in told.nodes)
    # They go on with what they hold; one share at most lies between each victim and its thief.
    assert sum(node.busy_seconds for node in told.nodes) > 5.0
    told.finish()
    assert told.counted("leases-expired") == 0
    assert told.counted("results-dropped") == 0


def test_a_falsely_accused_node_refutes_and_is_told_what_it_lost() -> None:
    told = scene(3)
    program = told.map(4000)
    late = told.nodes[1]
    told.until(lambda: told.holds(late, program))
    told.world.pause(late)
    told.run(5.6)
    assert told.state_of(told.client, late) is PeerState.SUSPECT
    assert told.owned(program).ledger.held_by(late.member.id) == []
    stale = list(late.core.holder.jobs[program.job].bags.leases)
    told.world.resume(late)
    told.run(1.0)
    assert late.core.me.incarnation == 2
    assert told.state_of(told.client, late) is PeerState.ALIVE
    held = late.core.holder.jobs[program.job].bags.leases
    assert not set(stale) & set(held)
    assert held, "an accused node is an ordinary thief afterwards"
    told.finish()


def test_a_short_pause_costs_nothing() -> None:
    told = scene(3)
    told.map(1200)
    told.run(0.3)
    told.world.pause(told.nodes[1])
    told.world.after(1.0, told.world.resume, told.nodes[1])
    told.finish()
    assert told.nodes[1].core.me.incarnation == 1
    assert told.counted("results-dropped") == 0


# ---------------------------------------------------------------- lives and addresses


def test_a_new_life_on_the_same_address_gets_none_of_the_old_ones_mail() -> None:
    told = scene(3)
    program = told.map(2000)
    told.until(lambda: told.holds(told.nodes[1], program))
    old = told.nodes[1]
    told.world.crash(old)
    heir = told.world.restart(old, seeds=[SEED_ADDRESS])
    told.run(1.5)
    assert told.state_of(told.client, old) is PeerState.DEAD
    assert told.state_of(told.client, heir) is PeerState.ALIVE
    told.finish()
    assert heir.items


def test_all_nodes_die_and_some_come_back() -> None:
    told = scene(3)
    told.map(900)
    told.run(0.5)
    for node in told.nodes:
        told.world.crash(node)
    told.run(5.0)
    heir = told.world.restart(told.nodes[2], seeds=[SEED_ADDRESS])
    told.run(2.0)
    assert heir.items, "an address that the client had only heard of is knocked at, too"
    told.world.restart(told.nodes[0], seeds=[])
    told.world.node("elsewhere", seeds=[SEED_ADDRESS], workers=2, ready_seconds=0.1)
    told.finish()


def test_a_machine_that_is_off_is_missed_within_seconds() -> None:
    told = scene(4)
    off = told.nodes[2]
    told.world.crash(off, silent=True)
    told.until(lambda: told.state_of(told.client, off) is PeerState.DEAD, within=2.7)
    told.until(lambda: not told.world.checkers.disagreement(), within=1.0)


def test_a_dead_process_is_missed_within_a_second() -> None:
    told = scene(4)
    dead = told.nodes[2]
    told.world.crash(dead)
    told.until(lambda: told.state_of(told.client, dead) is PeerState.DEAD, within=0.8)
    told.until(lambda: not told.world.checkers.disagreement(), within=0.2)


def test_a_machine_is_missed_though_nobody_ever_had_a_link_with_it() -> None:
    told = scene(2)
    world = told.world
    ghost = world.node("ghost", seeds=[SEED_ADDRESS])
    told.until(lambda: told.state_of(told.nodes[1], ghost) is PeerState.ALIVE)
    world.crash(ghost, silent=True)
    late = world.node("late", seeds=[SEED_ADDRESS])
    told.until(lambda: told.state_of(late, ghost) is not None)
    told.until(lambda: not world.checkers.disagreement(), within=10.0)


# ---------------------------------------------------------------- links


def test_links_that_break_all_the_time_lose_and_double_nothing() -> None:
    told = scene(3)
    program = told.map(3000)
    world, links, here = told.world, told.world.network, told.client.place
    while not program.done:
        for node in told.nodes:
            links.cut(node.place, here)
            links.cut(here, node.place)
        for connection in links.open_connections():
            if here in {pipe.source.place for pipe in connection.pipes}:
                links.reset(connection)
        told.run(0.2)
        for node in told.nodes:
            links.mend(node.place, here)
            links.mend(here, node.place)
        told.run(0.9)
        assert world.now < 60
    told.finish()
    assert told.counted("leases-expired") == 0
    assert told.counted("results-dropped") == 0
    assert sum(node.busy_seconds for node in told.nodes) == pytest.approx(30.0)


def test_reports_that_were_not_acknowledged_are_said_again() -> None:
    told = scene(1)
    told.map(400)
    world, node = told.world, told.nodes[0]
    told.run(0.1)
    world.network.cut(node.place, told.client.place)
    told.until(lambda: len(node.core.links.peers[told.client.member.id].channel.unacked) > 5)
    for connection in world.network.open_connections():
        world.network.reset(connection)
    world.network.mend(node.place, told.client.place)
    told.finish()
    assert node.busy_seconds == pytest.approx(4.0), "nothing had to be run again"


def test_a_cut_in_one_direction_stops_nothing_for_good() -> None:
    told = scene(3)
    told.map(1500)
    told.run(0.3)
    told.world.network.cut(told.nodes[1].place, told.client.place)
    told.run(6.0)
    told.world.network.mend(told.nodes[1].place, told.client.place)
    told.finish()


def test_two_islands_find_each_other_again() -> None:
    told = scene(4)
    links = told.world.network
    left = [told.nodes[0].place, told.nodes[1].place, told.client.place]
    right = [told.nodes[2].place, told.nodes[3].place]
    pairs = [(a, b) for a in left for b in right] + [(b, a) for a in left for b in right]
    told.map(1500)
    told.run(0.2)
    for pair in pairs:
        links.cut(*pair)
    told.run(30.0)
    assert told.state_of(told.nodes[0], told.nodes[3]) is PeerState.DEAD
    assert told.state_of(told.nodes[3], told.nodes[0]) is PeerState.DEAD
    for pair in pairs:
        links.mend(*pair)
    told.until(lambda: not told.world.checkers.disagreement(), within=10.0)
    told.finish()


def test_control_overtakes_custody_on_a_slow_link_and_nothing_else_does() -> None:
    told = scene(3)
    told.explore(depth=9)
    for _ in range(20):
        for connection in told.world.network.open_connections():
            told.world.network.stall(connection, 0.2)
        told.run(0.4)
    told.finish(within=60.0)


# ---------------------------------------------------------------- explore


def test_a_search_survives_the_deaths_of_searchers() -> None:
    told = scene(4)
    program = told.explore(depth=9)
    for node in told.nodes[1:]:
        told.until(lambda node=node: told.holds(node, program))  # type: ignore[misc]
        told.run(0.2)
        told.world.crash(node)
    told.finish(within=120.0)
    account = told.world.checkers.accounts[program.job]
    assert (account.count, account.total) == program.work.expected
    assert [told.state_of(told.client, node) for node in told.nodes[1:]] == 3 * [PeerState.DEAD]


def test_a_search_is_shared() -> None:
    told = scene(4)
    program = told.explore(depth=9)
    begun = told.world.now
    told.finish()
    assert told.world.now - begun < 2.0 * program.work.ideal_seconds / 8
    assert all(node.items for node in told.nodes)


# ---------------------------------------------------------------- leaving


def test_a_node_that_drains_hands_everything_back() -> None:
    told = scene(3)
    program = told.map(1500)
    told.until(lambda: all(told.holds(node, program) for node in told.nodes))
    leaving = told.nodes[1]
    leaving.hear(Drain())
    told.until(lambda: leaving.left, within=1.0)
    assert not leaving.core.dispatcher.queued_seconds()
    told.finish()
    assert told.state_of(told.client, leaving) is PeerState.LEFT
    assert sum(node.busy_seconds for node in told.nodes) == pytest.approx(15.0)
    assert told.counted("results-dropped") == 0


def test_a_draining_node_finishes_what_runs() -> None:
    told = scene(2)
    program = told.map(20, law=CostLaw("const", 1.0))
    told.until(lambda: all(told.holds(node, program) for node in told.nodes))
    leaving = told.nodes[1]
    told.run(0.5)
    leaving.hear(Drain())
    told.until(lambda: leaving.left, within=2.0)
    assert leaving.items
    told.finish()
    assert sum(node.busy_seconds for node in told.nodes) == pytest.approx(20.0)


@pytest.mark.parametrize("silent", [False, True])
def test_jobs_of_a_dead_owner_are_dropped(silent: bool) -> None:
    told = scene(3)
    program = told.map(100_000)
    told.run(0.5)
    told.world.crash(told.client, silent=silent)
    told.run(40.0 if silent else 20.0)
    assert told.world.checkers.still_holding(program.job) == []
    assert all(worker.running is None for node in told.nodes for worker in node.workers)


# ---------------------------------------------------------------- bad items


def test_a_poison_item_fails_by_name_and_its_neighbours_are_saved() -> None:
    told = scene(2)
    program = told.submit(
        Wish(JobKind.MAP, 400, CostLaw("const", 0.002), told.world.now, killers={123: 99})
    )
    told.finish()
    account = told.world.checkers.accounts[program.job]
    assert account.failed == 1
    assert account.delivered.size == 400
    assert 3 <= 99 - program.work.killers[123] <= 5


def test_an_item_that_kills_once_is_forgiven() -> None:
    told = scene(2)
    program = told.submit(
        Wish(JobKind.REDUCE, 400, CostLaw("const", 0.002), told.world.now, killers={123: 1})
    )
    told.finish()
    assert told.world.checkers.accounts[program.job].failed == 0


def test_an_item_that_never_ends_is_stopped() -> None:
    told = scene(2)
    program = told.submit(
        Wish(
            JobKind.MAP, 100, FINE, told.world.now, endless=frozenset({5, 50}), timeout=0.5
        )
    )  # fmt: skip
    told.finish()
    assert told.world.checkers.accounts[program.job].failed == 2


def test_items_that_fail_are_counted() -> None:
    told = scene(2)
    program = told.submit(
        Wish(JobKind.MAP, 300, FINE, told.world.now, failing=frozenset({1, 2, 250}))
    )
    told.finish()
    assert told.world.checkers.accounts[program.job].failed == 3


def test_cancelled_items_are_not_delivered() -> None:
    told = scene(2)
    program = told.submit(Wish(JobKind.MAP, 2000, FINE, told.world.now, cancels=[(0.5, 100, 1900)]))
    told.finish()
    assert sum(node.busy_seconds for node in told.nodes) < 5.0
    account = told.world.checkers.accounts[program.job]
    assert account.delivered.covers(1900, 2000)
    assert not account.delivered.covers(0, 2000)
