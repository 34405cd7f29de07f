"""What befalls whole meshes: deaths, false alarms, poison, leaving; each told from start to end."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Left, StatusReady, StopWorker
from stealmesh_engine.events import (
    AskStatus,
    CancelItems,
    CancelJob,
    CloseInput,
    Drain,
    Feed,
    Heard,
    Join,
    OpenJob,
    Release,
    Tick,
)
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import (
    Block,
    Bye,
    Closed,
    Commit,
    FnGet,
    FnPut,
    Grant,
    JobKind,
    JobSpec,
    Lease,
    PeerState,
    Report,
    Returned,
    Revoked,
    Role,
    Split,
    View,
)

from .wire import CODE, FUNCTION, Host, Wire, pair, ring


def once(items: int) -> dict[int, int]:
    return dict.fromkeys(range(items), 1)


def all_idle(wire: Wire) -> None:
    """Nothing is left of any job in any living node."""
    wire.advance(20.0)
    for host in wire.hosts:
        if host.alive:
            assert not host.core.owner.jobs
            assert all(held.bags.empty for held in host.core.holder.jobs.values())


# ---------------------------------------------------------------- plain work


def test_a_job_from_start_to_end() -> None:
    wire, client, node = pair()
    job = client.open(3)
    (grant,) = wire.take(Grant, by=client)
    assert grant.leases == [Lease(granted_lease(1), 0, 3)]
    assert len(wire.take(FnGet, by=node)) == 1
    (put,) = wire.take(FnPut, by=client)
    assert put.blobs == [CODE]
    first = node.finish()
    assert (first.lo, first.hi) == (0, 1), "one item while nothing is known of its cost"
    (report,) = wire.take(Report, by=node)
    assert [(part.lo, part.hi) for part in report.parts] == [(0, 1)]
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(3)
    wire.take(Report)
    (closed,) = wire.take(Closed, by=client)
    assert closed.job == job
    assert wire.custody_said() == []
    assert job not in node.core.holder.jobs


@pytest.mark.parametrize(
    ("nodes", "workers", "items"), [(1, 1, 1), (1, 4, 500), (3, 2, 1000), (8, 1, 2000)]
)
def test_every_item_is_delivered_once(nodes: int, workers: int, items: int) -> None:
    wire, client, _ = ring(nodes, workers=workers)
    job = client.open(items)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(items)
    all_idle(wire)


def test_all_nodes_take_part() -> None:
    wire, client, nodes = ring(4)
    job = client.open(4000)
    wire.work(lambda: client.is_done(job))
    assert min(node.core.answers.executed for node in nodes) > 400


def test_a_job_that_is_opened_before_there_are_nodes_waits_for_them() -> None:
    wire = Wire()
    client = wire.add("client", workers=0, role=Role.CLIENT, seeds=["tcp://node:1"])
    job = client.open(5)
    wire.advance(1.0)
    assert client.core.owner.lines()[0].state == "waiting"
    wire.add("node")
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(5)


def test_an_empty_job_is_done_at_once() -> None:
    _, client, _ = pair()
    job = client.open(0)
    assert client.is_done(job)


def test_items_beyond_the_release_wait() -> None:
    wire, client, _node = pair()
    job = job_id(client.id, 1)
    spec = JobSpec(job, JobKind.MAP, client.id, "held", FUNCTION, step=1)
    client.step(OpenJob(spec, 10, 4, functions={FUNCTION: CODE}))
    wire.work(lambda: len(client.delivered(job)) == 4)
    wire.advance(1.0)
    assert not client.is_done(job)
    client.step(Release(job, 10))
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(10)


def test_blocks_travel_with_their_leases() -> None:
    wire, client, node = pair()
    job = job_id(client.id, 1)
    spec = JobSpec(job, JobKind.MAP, client.id, "fed", FUNCTION)
    client.step(OpenJob(spec, open_ended=True, functions={FUNCTION: CODE}))
    for lo in (0, 5):
        client.step(Feed(job, Block(lo, lo + 5, 1), b"items from %d" % lo))
    chunk = node.running()
    assert chunk is not None
    assert chunk.blocks == [(Block(0, 5, 1), b"items from 0")]
    wire.work(lambda: len(client.delivered(job)) == 10)
    assert not client.is_done(job)
    client.step(CloseInput(job))
    assert client.is_done(job)
    assert client.delivered(job) == once(10)


def test_priority_goes_first() -> None:
    wire, client, _node = pair()
    low = client.open(5, number=1)
    high = client.open(5, number=2, priority=9)
    wire.work(lambda: client.is_done(high))
    assert len(client.delivered(low)) <= 2


# ---------------------------------------------------------------- deaths


@pytest.mark.parametrize("victims", [1, 2, 3])
def test_a_death_delays_and_changes_nothing(victims: int) -> None:
    wire, client, nodes = ring(4)
    job = client.open(3000)
    wire.work(lambda: len(client.delivered(job)) > 500)
    for node in nodes[:victims]:
        wire.kill(node)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(3000)
    assert client.core.counters["peers-declared-dead"] == victims


def test_a_process_death_is_noticed_at_once() -> None:
    """Nothing listens where it was: no need to wait for silence."""
    wire, client, nodes = ring(2)
    wire.kill(nodes[0])
    wire.until(lambda: not client.core.view.is_alive(nodes[0].id), 0.8)
    assert nodes[1].core.view.members[nodes[0].id].state is PeerState.DEAD


def test_the_last_node_dies_and_a_new_one_finishes() -> None:
    wire, client, node = pair()
    job = client.open(50)
    wire.work(lambda: len(client.delivered(job)) > 5)
    wire.kill(node)
    wire.advance(1.0)
    assert client.core.owner.lines()[0].state == "waiting"
    again = wire.add("again")
    again.endpoint = node.endpoint
    wire.work(lambda: client.is_done(job), 60.0)
    assert client.delivered(job) == once(50)


def test_a_client_that_dies_takes_its_jobs_with_it() -> None:
    wire, client, nodes = ring(2)
    client.open(1000)
    wire.advance(0.5)
    wire.kill(client)
    wire.advance(20.0)
    for node in nodes:
        assert not node.core.holder.jobs
        assert node.core.counters.get("jobs-orphaned", 0) <= 1
    assert sum(node.core.counters.get("jobs-orphaned", 0) for node in nodes) >= 1


# ---------------------------------------------------------------- false alarms


def silence(wire: Wire, host: Host) -> None:
    """It lives and is connected, but nothing it says arrives."""
    wire.losing.append(lambda said: said.by == host.name)


def test_a_false_alarm_is_refuted_and_costs_only_work() -> None:
    wire, client, nodes = ring(2)
    muted, _other = nodes
    job = client.open(400)
    wire.work(lambda: len(client.delivered(job)) > 20)
    silence(wire, muted)
    wire.until(lambda: not client.core.owner.jobs[job].ledger.held_by(muted.id), 5.5)
    assert not client.core.view.is_well(muted.id)
    wire.losing.clear()
    wire.until(lambda: client.core.view.is_well(muted.id), 10.0)
    assert muted.core.me.incarnation >= 1
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(400)
    all_idle(wire)


def test_a_fenced_holder_is_told_and_becomes_an_ordinary_thief() -> None:
    wire, client, nodes = ring(2)
    muted, _other = nodes
    job = client.open(400)
    wire.advance(0.2)
    silence(wire, muted)
    wire.until(lambda: not client.core.owner.jobs[job].ledger.held_by(muted.id), 5.5)
    stale = set(muted.core.holder.jobs[job].bags.leases)
    assert stale
    wire.losing.clear()
    wire.advance(2.0)
    told = {lid for message in wire.take(Revoked, by=client) for lid in message.lids}
    held = muted.core.holder.jobs.get(job)
    assert stale <= told or held is None or not stale & set(held.bags.leases)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(400)


def test_an_accused_says_at_once_that_it_lives() -> None:
    wire, _client, nodes = ring(2)
    one, other = nodes
    link = next(at for at, line in one.core.links.lines.items() if line.peer == other.id)
    accused = replace(one.core.me, state=PeerState.DEAD)
    one.step(Heard(link, View([accused])))
    wire.advance(0.05)
    refuted = [record for view in wire.take(View, by=one) for record in view.members]
    assert one.core.me in refuted
    assert one.core.me.incarnation == 1
    assert other.core.view.members[one.id].incarnation == 1


def test_both_halves_of_a_broken_mesh_go_on_and_meet_again() -> None:
    wire, client, nodes = ring(4)
    job = client.open(2000)
    wire.work(lambda: len(client.delivered(job)) > 100)
    wire.part([client, *nodes[:2]], nodes[2:])
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(2000)
    wire.advance(5.0)
    wire.mend()
    wire.until(lambda: all(len(node.core.view.nodes()) == 4 for node in nodes), 300.0)


def test_the_late_judge_nobody() -> None:
    """A peer that was asleep for a minute takes nobody for dead, and no lease of its jobs ages."""
    wire, client, node = pair()
    job = client.open(50)
    wire.now += 60.0
    client.step(Tick())
    assert not any("suspects" in line for line in client.core.journal.of())
    assert client.core.counters.get("peers-declared-dead", 0) == 0
    assert client.core.counters.get("leases-expired", 0) == 0
    node.step(Tick())
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(50)
    assert any("was late" in line for line in client.core.journal.of())


def test_a_lease_that_nobody_names_runs_out() -> None:
    """The backstop: a holder that has lost its lease without a death or a word."""
    wire, client, node = pair()
    job = client.open(50)
    node.core.holder.closed(job, wire.now, stop=True)
    wire.work(lambda: client.is_done(job), 40.0)
    assert client.core.counters["leases-expired"] == 1
    assert client.delivered(job) == once(50)


# ---------------------------------------------------------------- poison


def test_an_item_that_kills_its_workers_fails_by_name_and_its_neighbours_are_saved() -> None:
    wire, client, node = pair()
    job = client.open(60)
    node.finish(seconds=0.0005)
    died = 0
    for _ in range(300):
        if client.is_done(job):
            break
        chunk = node.running()
        if chunk is None:
            wire.advance(0.05)
        elif chunk.lo <= 13 < chunk.hi:
            died += 1
            node.lose_worker(0, f"signal {died}")
        else:
            node.finish(seconds=0.0005 * (chunk.hi - chunk.lo))
    assert client.delivered(job) == once(60)
    (failure,) = client.failures()
    assert failure.kind == "worker-died"
    assert len(failure.attempts) == 3
    assert failure.attempts[-1] in failure.text
    assert "item 13" in failure.text
    assert 3 <= died <= 5, "once or twice in company, then alone"
    (line,) = [line for line in client.core.owner.lines() if line.job == job]
    assert (line.done, line.failed) == (60, 1)


def test_a_worker_that_dies_idle_blames_nobody() -> None:
    wire, client, node = pair()
    node.lose_worker(0)
    job = client.open(3)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(3)
    assert client.failures() == []


def test_a_worker_that_we_stopped_blames_nobody() -> None:
    wire, client, node = pair()
    job = client.open(3)
    for _ in range(10):
        node.lose_worker(0, "stopped", blame=False)
    wire.work(lambda: client.is_done(job))
    assert client.failures() == []
    assert client.delivered(job) == once(3)


def test_a_task_that_runs_over_its_time_fails_and_the_rest_goes_on() -> None:
    wire, client, _node = pair()
    job = client.open(3, timeout=2.0)
    wire.advance(1.9)
    assert client.failures() == []
    wire.advance(0.2)
    (failure,) = client.failures()
    assert failure.kind == "timeout"
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(3)


def test_an_explore_bag_that_kills_its_workers_fails_and_the_job_ends() -> None:
    _wire, client, node = pair()
    job = client.open(1, JobKind.EXPLORE)
    client.step(CloseInput(job))
    for attempt in range(3):
        assert node.running() is not None
        node.lose_worker(0, f"signal {attempt}")
    assert client.is_done(job)
    (failure,) = client.failures()
    assert failure.kind == "worker-died"


# ---------------------------------------------------------------- explore


def unfold(wire: Wire, client: Host, job: bytes, depth: int, *, kill: Host | None = None) -> int:
    """Every node's worker unfolds what it has of a binary tree; returns the items visited."""
    bags: dict[tuple[str, int], bytes] = {}
    for turn in range(20_000):
        if client.is_done(job):
            return turn
        if kill is not None and turn == 40:
            wire.kill(kill)
        for host in wire.hosts:
            chunk = host.running()
            if not host.alive or chunk is None:
                continue
            key = host.name, chunk.chunk
            rest = bytearray(bags.pop(key, chunk.blocks[0][1]))
            level = rest.pop()
            if level < depth:
                rest += bytes([level + 1, level + 1])
            spares = []
            if 0 in host.sharing and len(rest) > 1:
                spares, rest = [bytes(rest[::2])], rest[1::2]
            if rest:
                bags[key] = bytes(rest)
            host.visit(0, bytes(rest), spares=spares)
        wire.advance(0.005)
    raise AssertionError("it has no end")


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_a_tree_is_visited_exactly(nodes: int) -> None:
    wire, client, all_nodes = ring(nodes)
    job = client.open(1, JobKind.EXPLORE)
    client.step(CloseInput(job))
    ledger = client.core.owner.jobs[job].ledger
    unfold(wire, client, job, 7)
    assert ledger.figures().done == 2**8 - 1
    assert all(node.core.answers.executed for node in all_nodes)


def test_a_tree_is_visited_exactly_although_a_node_dies() -> None:
    wire, client, nodes = ring(3)
    job = client.open(1, JobKind.EXPLORE)
    client.step(CloseInput(job))
    ledger = client.core.owner.jobs[job].ledger
    unfold(wire, client, job, 8, kill=nodes[0])
    assert ledger.figures().done == 2**9 - 1


def test_a_commit_of_a_fenced_holder_does_not_count() -> None:
    wire, client, nodes = ring(2)
    job = client.open(1, JobKind.EXPLORE)
    client.step(CloseInput(job))
    first = next(node for node in nodes if node.running() is not None)
    silence(wire, first)
    wire.until(lambda: not client.core.owner.jobs[job].ledger.held_by(first.id), 5.5)
    wire.losing.clear()
    wire.hush()
    first.visit(0, b"ab", spares=[b"c"])
    wire.advance(3.0)
    assert wire.take(Commit)
    ledger = client.core.owner.jobs[job].ledger
    assert ledger.figures().done == 0
    second = next(node for node in nodes if node.running() is not None)
    second.visit(0, b"")
    assert client.is_done(job)


# ---------------------------------------------------------------- leaving


def test_a_node_that_leaves_hands_back_what_it_has_not_begun() -> None:
    wire, client, nodes = ring(2)
    job = client.open(500)
    wire.work(lambda: len(client.delivered(job)) > 20)
    leaving = max(nodes, key=lambda node: node.core.holder.jobs[job].bags.queued_items)
    wire.hush()
    leaving.step(Drain())
    assert wire.take(Returned, by=leaving)
    assert not leaving.take_told(Left), "its worker is still busy"
    while leaving.running() is not None:
        leaving.finish()
    wire.advance(0.1)
    assert leaving.take_told(Left)
    assert {bye.reason for bye in wire.take(Bye, by=leaving)} == {"leaving"}
    assert client.core.view.members[leaving.id].state is PeerState.LEFT
    wire.kill(leaving)
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(500)
    assert client.core.counters.get("peers-declared-dead", 0) == 0
    assert client.core.counters.get("results-dropped", 0) == 0


def test_a_node_that_leaves_gets_no_more_work() -> None:
    wire, client, nodes = ring(2)
    nodes[0].step(Drain())
    job = client.open(10)
    wire.work(lambda: client.is_done(job))
    assert nodes[0].core.answers.executed == 0


def test_a_running_explore_bag_goes_back_when_it_takes_stock() -> None:
    wire, client, nodes = ring(2)
    job = client.open(1, JobKind.EXPLORE)
    client.step(CloseInput(job))
    leaving, other = sorted(nodes, key=lambda node: node.running() is None)
    leaving.visit(0, b"ab")
    leaving.step(Drain())
    wire.advance(0.2)
    assert not leaving.take_told(Left), "what its worker is at would be lost"
    leaving.visit(0, b"b")
    wire.advance(0.2)
    assert leaving.take_told(Left)
    chunk = other.running()
    assert chunk is not None
    assert chunk.blocks[0][1] == b"b"
    other.visit(0, b"")
    assert client.is_done(job)
    assert not any("items-run-for-nothing" in node.core.counters for node in nodes)


def test_draining_twice_is_draining_once() -> None:
    wire, _, node = pair()
    node.step(Drain())
    node.step(Drain())
    wire.advance(1.0)
    assert len(node.take_told(Left)) == 1


# ---------------------------------------------------------------- cancelling


def test_cancelled_items_are_not_run_and_not_delivered() -> None:
    wire, client, nodes = ring(2)
    job = client.open(1000)
    wire.work(lambda: len(client.delivered(job)) > 10)
    client.step(CancelItems(job, [(100, 1000)]))
    wire.work(lambda: client.is_done(job))
    delivered = client.delivered(job)
    assert set(range(100)) <= set(delivered)
    assert set(delivered.values()) == {1}
    assert sum(node.core.answers.executed for node in nodes) < 400


def test_cancelling_the_rest_ends_the_job() -> None:
    _, client, node = pair()
    job = client.open(10)
    client.step(CancelItems(job, [(0, 10)]))
    assert client.is_done(job)
    node.finish()  # what ran, ran for nothing
    assert client.delivered(job) == {}
    assert node.core.counters["items-run-for-nothing"] == 1


def test_cancelling_a_job_closes_it_everywhere() -> None:
    wire, client, nodes = ring(3)
    job = client.open(1000)
    wire.work(lambda: len(client.delivered(job)) > 50)
    before = client.delivered(job)
    client.step(CancelJob(job))
    assert client.is_done(job)
    assert all(job not in node.core.holder.jobs for node in nodes)
    for node in nodes:
        while node.running() is not None:
            node.finish()
    assert client.delivered(job) == before
    all_idle(wire)


def test_cancelling_an_explore_job_stops_its_workers() -> None:
    _wire, client, node = pair()
    job = client.open(1, JobKind.EXPLORE)
    assert node.running() is not None
    client.step(CancelJob(job))
    assert node.running() is None
    assert [e for e in node.told if isinstance(e, StopWorker)] == []  # performed, not told
    assert node.core.dispatcher.slots.running() == []


# ---------------------------------------------------------------- rude and confused peers


def granted_by(wire: Wire, node: Host) -> tuple[int, Grant]:
    link = next(link for link, line in node.core.links.lines.items() if line.peer)
    grant = next(said.message for said in wire.said if isinstance(said.message, Grant))
    assert isinstance(grant, Grant)
    return link, grant


def test_a_grant_that_comes_twice_is_taken_once() -> None:
    wire, client, node = pair()
    job = client.open(5)
    link, grant = granted_by(wire, node)
    heard = node.core.links.peers[client.id].channel.heard
    node.step(Heard(link, grant, heard + 1, 0, 100))
    assert node.core.counters["grants-refused"] == 1
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(5)


def test_an_empty_report_is_no_report() -> None:
    wire, client, node = pair()
    job = client.open(5)
    node.core.links.send(client.id, Split(job, [Lease(granted_lease(1), 3, 3)], node.id), wire.now)
    node.finish()
    report = next(said.message for said in wire.said if isinstance(said.message, Report))
    empty = type(report.parts[0])(granted_lease(1), 2, 2, 0, 0.0)
    node.core.links.send(client.id, Report(job, [empty], [b""]), wire.now)
    node.step(Tick())
    wire.work(lambda: client.is_done(job))
    assert client.delivered(job) == once(5)


def test_who_reports_what_is_not_his_is_told_so() -> None:
    wire, client, nodes = ring(2)
    job = client.open(5)
    holder, liar = sorted(nodes, key=lambda node: node.running() is None)
    wire.hush()
    part = Report(job, [], [])
    holder.finish()
    part = wire.take(Report)[0]
    liar.core.links.send(
        client.id,
        Report(job, [type(part.parts[0])(granted_lease(1), 1, 5, 0, 0.0)], [b"lies"]),
        wire.now,
    )
    liar.step(Tick())
    (revoked,) = wire.take(Revoked, by=client)
    assert revoked.lids == [granted_lease(1)]
    assert client.delivered(job) == {0: 1}
    assert client.core.counters["results-dropped"] == 4


def test_work_for_a_client_is_refused() -> None:
    """And a peer that insists does not keep both sides busy with nothing else."""
    wire, client, node = pair()
    job = job_id(node.id, 1)
    spec = JobSpec(job, JobKind.MAP, node.id, "wrong", FUNCTION, step=1)
    grant, peer = Grant(spec, [Lease(granted_lease(1), 0, 3)]), node.core.links.peers[client.id]
    # An honest node's `send` would not say it.
    node.core.links.sending._say(client.id, peer, grant, peer.channel.number(grant))
    node.step(Tick())
    wire.advance(60.0)
    assert not client.core.holder.jobs
    # It is said again on every link that follows, so the links follow each other ever more slowly.
    assert 1 <= client.core.counters["rude-out-of-place"] <= 200


# ---------------------------------------------------------------- status and determinism


def test_status_collects_what_the_nodes_say() -> None:
    import msgspec

    wire, client, _nodes = ring(3)
    client.open(100)
    client.step(AskStatus(7))
    wire.advance(0.2)
    (ready,) = client.take_told(StatusReady)
    seen = [msgspec.msgpack.decode(snapshot) for snapshot in ready.snapshots]
    assert ready.nonce == 7
    assert sorted(each["name"] for each in seen) == ["client", "node-0", "node-1", "node-2"]
    assert seen[0]["jobs"][0]["total"] == 100


def test_status_does_not_wait_for_the_dead() -> None:
    wire, client, nodes = ring(2)
    silence(wire, nodes[0])
    client.step(AskStatus(1))
    wire.advance(1.2)
    (ready,) = client.take_told(StatusReady)
    assert len(ready.snapshots) == 2


def trace(seed: int) -> list[str]:
    wire = Wire(Config())
    nodes = [wire.add("n0", seed=seed)]
    nodes += [wire.add(f"n{n}", seeds=[nodes[0].endpoint], seed=seed) for n in (1, 2)]
    client = wire.add("c", workers=0, role=Role.CLIENT, seeds=[nodes[0].endpoint], seed=seed)
    wire.advance(1.0)
    job = client.open(300)
    wire.work(lambda: len(client.delivered(job)) > 100)
    wire.kill(nodes[1])
    wire.work(lambda: client.is_done(job))
    return [f"{said.by} {said.to} {said.message}" for said in wire.said]


def test_the_same_seed_tells_the_same_story() -> None:
    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_time_may_stand_still() -> None:
    core = NodeCore(Wire().add("x").core.me, config=Config(), rng=Random(0), audit=True)
    core.step(5.0, Join([]))
    for _ in range(10):
        core.step(5.0, Tick())
    due = core.next_deadline()
    assert due is not None
    assert due > 5.0
