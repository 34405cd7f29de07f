"""Stories of durable jobs: any process may die, the job goes on, and what was credited is not run again."""

from __future__ import annotations

import pytest

from stealmesh.store.logfile import FILE
from stealmesh.store.records import OPENING_OCTETS
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable import locate as asking
from stealmesh_protocol.messages import JobKind, Role, Supply
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw

from .durable_scenes import DurableScene, durable_scene
from .scenes import SEED_ADDRESS

KINDS = pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE])
SLOW = CostLaw("const", 0.05)


@KINDS
@pytest.mark.parametrize("disks", [True, False])
def test_a_durable_job_is_done_and_collected(kind: JobKind, disks: bool) -> None:
    scene = durable_scene(disks=disks)
    job = scene.launch(500, kind=kind)
    scene.collected(job, within=3.0)
    assert len(scene.keepers(job)) == 3


def test_all_workers_of_the_mesh_work_on_it_those_of_its_home_too() -> None:
    scene = durable_scene(3, workers=2)
    job = scene.launch(600, law=SLOW)
    scene.collected(job, within=600 * 0.05 / 6 * 1.3)
    assert all(node.items > 100 for node in scene.nodes)


def test_one_node_alone_keeps_and_runs_a_job() -> None:
    scene = durable_scene(1)
    job = scene.launch(100)
    scene.collected(job)


def test_the_submitter_dies_and_another_program_collects() -> None:
    scene = durable_scene()
    job = scene.launch(600)
    scene.half_done(job)
    scene.world.crash(scene.client)
    scene.run(10.0)
    other = scene.attach(job, scene.nodes[2])
    scene.collected(other)
    assert other.position == 600


@KINDS
@pytest.mark.parametrize("disks", [True, False])
@pytest.mark.parametrize("silent", [True, False])
def test_the_home_dies_and_another_keeper_goes_on(kind: JobKind, disks: bool, silent: bool) -> None:
    scene = durable_scene(4, disks=disks)
    job = scene.launch(1000, kind=kind)
    scene.half_done(job)
    home = scene.at_home(job)
    scene.world.checkers.note_safe()
    scene.world.crash(home, silent=silent)
    scene.collected(job, within=20.0)
    assert scene.repeated(job) == 0
    assert scene.home(job) not in (None, home)


def test_what_holders_have_survives_their_home_though_nothing_of_it_is_safe() -> None:
    """They keep results until they are told, and claim them from the next home."""
    scene = durable_scene(4, workers=1, replicas=2)
    job = scene.launch(200, law=CostLaw("const", 0.3))
    scene.until(lambda: scene.safe_items(job) >= 12)
    home = scene.at_home(job)
    (keeper,) = (n for n in scene.keepers(job) if n is not home)
    scene.world.network.cut(home.place, keeper.place)
    scene.run(1.2)  # too short for an alarm
    lead = scene.lead(home, job)
    kept = [
        interval
        for _, _, told in lead.replication._pending
        for who, interval in told
        if who != home.member.id
    ]
    assert len(kept) >= 3
    for lo, hi in kept:
        scene.world.checkers.safe.setdefault(job.job, IntervalSet()).add(lo, hi)
    scene.world.crash(home)
    scene.world.network.mend(home.place, keeper.place)
    scene.collected(job, within=60.0)
    assert scene.repeated(job) == 0


def test_what_runs_when_its_home_dies_runs_on() -> None:
    scene = durable_scene(4, workers=2)
    job = scene.launch(60, law=CostLaw("const", 3.0))
    scene.until(lambda: scene.safe_items(job) >= 6)
    scene.run(0.5)
    home = scene.at_home(job)
    survivors = [node for node in scene.nodes if node is not home]
    running = [chunk for node in survivors for chunk in node.core.dispatcher.slots.running()]
    assert len(running) == 6
    safe = scene.world.checkers.safe.setdefault(job.job, IntervalSet())
    for chunk in running:
        safe.add(chunk.lo, chunk.hi)
    scene.world.crash(home)
    scene.collected(job, within=60.0)
    assert scene.repeated(job) == 0


def test_nothing_is_safe_while_no_keeper_hears_the_home() -> None:
    scene = durable_scene(3)
    job = scene.launch(1000)
    scene.until(lambda: scene.safe_items(job) >= 100)
    home = scene.at_home(job)
    others = [n for n in scene.nodes if n is not home]
    scene.run(0.02)
    for other in others:
        scene.world.network.cut(home.place, other.place)
    before, have = scene.safe_items(job), scene.lead(home, job).replica.covered.size
    scene.run(0.8)  # too short for an alarm
    assert scene.lead(home, job).replica.covered.size > have + 30
    assert scene.safe_items(job) <= before + 20
    for other in others:
        scene.world.network.mend(home.place, other.place)
    scene.collected(job)


def test_holders_forget_what_is_safe() -> None:
    scene = durable_scene(3)
    job = scene.launch(1000)
    scene.half_done(job)
    kept = sum(len(node.core.holder.jobs[job.job].unsettled) for node in scene.nodes)
    assert kept < 30


def test_home_after_home_dies() -> None:
    scene = durable_scene(6, disks=False)
    job = scene.launch(1500)
    for _ in range(4):
        enough = scene.safe_items(job) + 150
        while scene.safe_items(job) < enough:
            scene.run(0.01)
        scene.crash(scene.at_home(job))
        scene.until(lambda: scene.home(job) is not None)
        scene.until(lambda: scene.lead(scene.at_home(job), job).gathering is None)
        scene.until(lambda: len(scene.keepers(job)) >= min(3, sum(n.alive for n in scene.nodes)))
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_a_keeper_that_dies_is_replaced() -> None:
    scene = durable_scene(5, disks=False)
    job = scene.launch(1500, law=SLOW)
    scene.half_done(job)
    home = scene.at_home(job)
    victim = next(n for n in scene.keepers(job) if n is not home)
    scene.crash(victim)
    scene.until(lambda: len(scene.keepers(job)) == 3, within=5.0)
    replaced = scene.lead(home, job).replica
    scene.until(lambda: len(replaced.configuration.seats) == 3, within=5.0)
    weights = {n.core.durable.state.replicas[job.job].covered.size for n in scene.keepers(job)}
    assert min(weights) > 700
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_two_keepers_die_at_once_and_the_third_goes_on() -> None:
    scene = durable_scene(5, disks=False, lone_replica_seconds=3.0)
    job = scene.launch(2000)
    scene.half_done(job)
    home = scene.at_home(job)
    other = next(n for n in scene.keepers(job) if n is not home)
    scene.world.crash(home)
    scene.world.crash(other)
    scene.collected(job, within=40.0)


@KINDS
def test_everything_stops_and_starts_again(kind: JobKind) -> None:
    """SIGKILL of every process, the client too; then the nodes, one after the other."""
    scene = durable_scene(3)
    job = scene.launch(1000, kind=kind)
    scene.half_done(job)
    scene.world.checkers.note_safe()
    for process in (scene.client, *scene.nodes):
        scene.world.crash(process)
    scene.run(5.0)
    for node in list(scene.nodes):
        scene.restart(node)
        scene.run(0.7)
    other = scene.attach(job)
    scene.collected(other)
    assert scene.repeated(job) == 0


def test_everything_stops_and_starts_twice() -> None:
    """The tails that the first crash tore off are not in the way of what is written after it."""
    scene = durable_scene(3, seed=4)
    job = scene.launch(1500)
    for share in (0.3, 0.6):
        while scene.safe_items(job) < 1500 * share:
            scene.run(0.01)
        scene.world.checkers.note_safe()
        for node in scene.nodes:
            disk = node.disk
            scene.world.crash(node)
            assert disk is not None
            disk.platter.files[FILE].octets += b"\x00\x00\x10\x00torn"
        for node in list(scene.nodes):
            scene.restart(node)
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_what_is_safe_is_on_the_disks() -> None:
    """Disks that take their time: what was not made sure of is gone, and no one relied on it."""
    scene = durable_scene(3, commit_seconds=0.2)
    job = scene.launch(1000)
    scene.half_done(job)
    scene.run(0.17)  # between two commits
    scene.world.checkers.note_safe()
    for node in scene.nodes:
        scene.world.crash(node)
    for node in list(scene.nodes):
        scene.restart(node)
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_a_copy_that_lags_behind_does_not_lead_before_it_has_caught_up() -> None:
    scene = durable_scene(3)
    job = scene.launch(1000)
    scene.until(lambda: scene.safe_items(job) >= 100)
    home = scene.at_home(job)
    late, other = (n for n in scene.nodes if n is not home)
    scene.world.network.cut(home.place, late.place)
    scene.run(0.8)  # too short for an alarm
    scene.world.checkers.note_safe()
    assert scene.safe_items(job) > late.core.durable.state.replicas[job.job].covered.size + 50
    for node in scene.nodes:
        scene.world.crash(node)
    scene.world.network.mend(home.place, late.place)
    scene.restart(late)
    scene.run(3.0)
    assert scene.home(job) is None
    scene.restart(other)
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_a_holder_was_away_when_the_home_changed() -> None:
    """It comes back with leases of a former reign; no lease of the new one has the same name."""
    scene = durable_scene(5, replicas=2)
    job = scene.launch(400, law=CostLaw("const", 1.0))
    scene.until(lambda: scene.safe_items(job) >= 20)

    def has(node: Process) -> int:
        held = node.core.holder.jobs.get(job.job)
        return 0 if held is None else held.bags.queued_items

    keepers = scene.keepers(job)
    holder = max((n for n in scene.nodes if n not in keepers), key=has)
    assert has(holder) >= 10
    others = [n for n in scene.nodes if n is not holder] + [scene.client]
    links = scene.world.network
    for other in others:
        links.cut(holder.place, other.place)
        links.cut(other.place, holder.place)
    scene.crash(scene.at_home(job))
    scene.until(
        lambda: (
            scene.home(job) is not None
            and scene.lead(scene.at_home(job), job).replication.settled > 0
        )
    )
    scene.run(1.0)
    assert has(holder)
    for other in others:
        links.mend(holder.place, other.place)
        links.mend(other.place, holder.place)
    scene.collected(job, within=120.0)


def test_a_submit_is_accepted_when_two_hold_it() -> None:
    scene = durable_scene(3)
    job = scene.launch(100, accepted=False)
    scene.until(lambda: job.accepted)
    assert (
        sum(len(n.disk.octets) > OPENING_OCTETS + 200 for n in scene.nodes if n.disk is not None)
        >= 2
    )


def test_a_single_node_stops_and_starts_again() -> None:
    scene = durable_scene(1)
    job = scene.launch(300)
    scene.half_done(job)
    scene.crash(scene.nodes[0])
    scene.run(1.0)
    scene.restart(scene.nodes[0])
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_what_a_late_disk_remembers_still_counts() -> None:
    """The third node comes back when the others have long gone on: nothing is doubled."""
    scene = durable_scene(3)
    job = scene.launch(1000)
    scene.half_done(job)
    for node in scene.nodes:
        scene.crash(node)
    first, second, third = scene.nodes
    scene.restart(first)
    scene.restart(second)
    scene.until(lambda: scene.home(job) is not None, within=20.0)
    scene.run(3.0)
    scene.restart(third)
    scene.collected(job)
    assert scene.repeated(job) == 0
    scene.until(lambda: len(scene.keepers(job)) == 3)


def test_the_home_is_cut_off_and_comes_back() -> None:
    """Two homes for a while; the lower reign resigns and what it has is joined."""
    scene = durable_scene(4)
    job = scene.launch(3000, law=CostLaw("const", 0.02))
    scene.half_done(job)
    home = scene.at_home(job)
    others = [n for n in scene.nodes if n is not home] + [scene.client]
    links = scene.world.network
    for other in others:
        links.cut(home.place, other.place)
        links.cut(other.place, home.place)
    scene.run(8.0)
    assert scene.home(job) not in (None, home)
    assert job.job in home.core.durable.state.primaries
    for other in others:
        links.mend(home.place, other.place)
        links.mend(other.place, home.place)
    scene.until(lambda: job.job not in home.core.durable.state.primaries, within=20.0)
    scene.collected(job, within=60.0)


def test_the_home_stands_still_and_wakes_up_deposed() -> None:
    scene = durable_scene(4)
    job = scene.launch(2000, law=CostLaw("const", 0.02))
    scene.half_done(job)
    home = scene.at_home(job)
    scene.world.checkers.note_safe()
    scene.world.pause(home)
    scene.until(lambda: scene.home(job) not in (None, home), within=15.0)
    scene.run(2.0)
    scene.world.resume(home)
    scene.until(lambda: job.job not in home.core.durable.state.primaries, within=20.0)
    scene.collected(job, within=60.0)
    assert scene.repeated(job) == 0


@pytest.mark.parametrize("kind", [JobKind.MAP, JobKind.REDUCE])
def test_the_home_dies_while_it_is_fed(kind: JobKind) -> None:
    scene = durable_scene(4)
    job = scene.launch(600, kind=kind, fed=True, block_items=7, feed_seconds=0.02)
    scene.until(lambda: scene.safe_items(job) >= 150)
    scene.crash(scene.at_home(job))
    scene.collected(job)
    assert job.accepted_whole
    assert scene.repeated(job) == 0


def test_inputs_survive_a_full_stop() -> None:
    scene = durable_scene(3)
    job = scene.launch(900, fed=True, block_items=50)
    scene.until(lambda: job.accepted_whole)
    scene.world.crash(scene.client)
    scene.half_done(job)
    for node in scene.nodes:
        scene.crash(node)
    scene.run(1.0)
    for node in list(scene.nodes):
        scene.restart(node)
    other = scene.attach(job)
    scene.collected(other)
    assert scene.repeated(job) == 0


def test_the_home_dies_before_it_has_accepted() -> None:
    scene = durable_scene(4)
    job = scene.launch(200, accepted=False)
    scene.until(lambda: scene.home(job) is not None)
    assert not job.accepted
    scene.world.crash(scene.at_home(job))
    scene.collected(job)


def test_a_cancelled_job_ends_everywhere() -> None:
    scene = durable_scene(3)
    job = scene.launch(2000, law=SLOW)
    scene.until(lambda: scene.safe_items(job) > 20)
    job.abolish()
    scene.until(lambda: job.done)
    assert job.state == "cancelled"
    scene.until(lambda: not scene.world.checkers.still_holding(job.job))
    # And it stays so, also for those who were away.
    for node in scene.nodes:
        scene.world.crash(node)
    for node in list(scene.nodes):
        scene.restart(node)
    other = scene.attach(job)
    scene.until(lambda: other.done)
    assert other.state == "cancelled"


def test_results_expire() -> None:
    scene = durable_scene(3, keep_seconds=5.0)
    job = scene.launch(50)
    scene.collected(job)
    scene.until(lambda: not scene.keepers(job), within=15.0)
    scene.run(0.1)  # the disks, too
    for node in scene.nodes:
        scene.world.crash(node)
    for node in list(scene.nodes):
        scene.restart(node)
    scene.run(5.0)
    assert not scene.keepers(job)
    other = scene.attach(job)
    scene.until(lambda: other.done)
    assert other.gone == "expired"


def test_a_job_that_everybody_lost_is_lost_loudly() -> None:
    """Its submitter, its keepers and all holders: there is no one to rebuild it from."""
    scene = durable_scene(3, disks=False, primary_patience_seconds=8.0)
    job = scene.launch(2000, law=SLOW)
    scene.until(lambda: scene.safe_items(job) > 20)
    other = scene.attach(job)
    scene.until(lambda: other.state == "running")
    for process in (scene.client, *scene.nodes):
        scene.world.crash(process)
    for node in list(scene.nodes):
        scene.restart(node)
    scene.until(lambda: other.done, within=30.0)
    assert other.gone == "nobody knows it"


def test_an_unknown_job_is_not_waited_for_forever() -> None:
    scene = durable_scene(2, primary_patience_seconds=5.0)
    job = scene.launch(10)
    scene.collected(job)
    job.work.spec = type(job.work.spec)(  # a job without an owner
        bytes(20), job.work.spec.kind, bytes(16), "ghost", bytes(16)
    )
    ghost = scene.attach(job)
    scene.until(lambda: ghost.done, within=15.0)
    assert ghost.gone == "nobody knows it"


@pytest.mark.parametrize("rule", [True, False], ids=["with", "without"])
def test_a_home_is_found_that_is_no_supernode(rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is older than the supernodes, and none of its keepers became one."""
    if not rule:
        monkeypatch.setattr(asking, "ASKED_MAX", 3)
    for seed in range(1, 20):
        scene = durable_scene(12, seed=seed, settle_seconds=0.2, primary_patience_seconds=8.0)
        job = scene.launch(40, law=SLOW)
        scene.run(4.0)
        if all(keeper.core.me.role is Role.PLAIN for keeper in scene.keepers(job)):
            break
    else:
        pytest.fail("in every mesh a keeper has become a supernode")
    assert sum(node.core.me.role is Role.SUPER for node in scene.nodes) == 3
    other = scene.attach(job)
    scene.until(lambda: other.done, within=15.0)
    assert (other.gone == "") is rule


def _octets(scene: DurableScene) -> int:
    return max(node.core.durable.state.octets for node in scene.nodes)


def test_without_room_a_launch_is_refused_and_says_why() -> None:
    scene = durable_scene(1, keep_octets_max=2000, keep_seconds=1e6)
    first = scene.launch(400, collects=False)
    scene.until(lambda: scene.nodes[0].core.durable.retention.crowded, within=20.0)
    second = scene.launch(10, accepted=False)
    scene.until(lambda: second.done)
    assert "keep_octets_max" in second.refusal
    assert not first.done


def test_work_waits_for_room_and_goes_on_when_results_are_collected() -> None:
    scene = durable_scene(3, keep_octets_max=3000)
    job = scene.launch(2000, law=SLOW, collects=False)
    scene.until(
        lambda: scene.nodes[0].core.durable.retention.crowded or scene.safe_items(job) == 2000
    )
    scene.run(5.0)
    stuck_at = scene.safe_items(job)
    assert stuck_at < 2000
    assert _octets(scene) < 3000 + 30000
    reader = scene.attach(job)
    scene.collected(reader, within=60.0)


def test_inputs_that_are_said_again_need_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client says again what it has no answer to; the home may have it by then."""
    scene = durable_scene(4)
    job = scene.launch(40, fed=True, law=CostLaw("const", 0.05))
    scene.until(lambda: job.accepted_whole)
    home = scene.home(job)
    assert home is not None
    inputs = list(scene.lead(home, job).replica.blocks)
    again = Supply(job.job, [block for block, _ in inputs], blobs=[blob for _, blob in inputs])
    monkeypatch.setattr("stealmesh_engine.durable.requests.INPUTS_SHARE", 0.0)
    home.core.durable.requests.supplied(scene.client.member.id, again, scene.world.now)
    assert "launches-refused" not in home.core.counters
    scene.collected(job)


def test_inputs_that_leave_no_room_for_results_are_refused() -> None:
    """A job whose inputs nearly filled the room stood still for ever. Each block has about ten octets here."""
    scene = durable_scene(3, keep_octets_max=6000)
    fits = scene.launch(40, fed=True, block_items=1)
    scene.collected(fits)
    large = scene.launch(800, fed=True, block_items=1, law=SLOW, feed_seconds=0.001)
    scene.until(lambda: large.done, within=20.0)
    assert "results need the rest" in large.refusal
    assert any(node.core.counters.get("launches-refused") for node in scene.nodes)
    scene.until(lambda: _octets(scene) < 3000, within=20.0)
    scene.collected(scene.launch(40, fed=True, block_items=1))


def test_the_log_is_written_anew_when_most_of_it_is_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stealmesh_engine.durable.wal.SLACK_OCTETS", 20_000)
    scene = durable_scene(1)
    for _ in range(3):
        scene.collected(scene.launch(300))
    disk = scene.nodes[0].disk
    assert disk is not None
    job = scene.launch(2000, law=CostLaw("const", 0.005))
    scene.half_done(job)
    scene.crash(scene.nodes[0])
    assert len(disk.octets) < 300_000
    scene.restart(scene.nodes[0])
    scene.collected(job)
    assert scene.repeated(job) == 0


def test_a_home_and_keepers_that_came_back_as_leaves_are_found() -> None:
    """After a full stop other nodes may be supernodes than those that kept the job."""
    scene = durable_scene(8, seed=5)  # all three are heard before the new home begins
    launcher = scene.launch(800, law=SLOW, collects=False)
    scene.half_done(launcher)
    kept = scene.keepers(launcher)
    assert len(kept) == 3
    for node in list(scene.nodes):
        scene.crash(node)
    scene.world.crash(scene.client)
    for number, node in enumerate(scene.nodes):
        role = "plain" if node in kept else "super"
        scene.nodes[number] = scene.world.restart(node, seeds=[SEED_ADDRESS], role=role)
    scene.until(lambda: scene.home(launcher) is not None)
    scene.run(3.0)
    reader = scene.attach(launcher)
    scene.collected(reader)
    assert scene.repeated(reader) == 0
