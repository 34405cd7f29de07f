"""Stories of durable explore jobs: any process may die, and the sum over the tree is right, once."""

from __future__ import annotations

import pytest

from stealmesh_engine.durable import replica, retention
from stealmesh_engine.durable.bag_replica import BagReplica
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.durable_programs import DurableReader, Launcher
from stealmesh_sim.process import Process
from stealmesh_sim.work import CostLaw, VirtualTree

from .durable_scenes import DurableScene, durable_scene

TREE = VirtualTree(3, 9, 4)
"""3,650 nodes."""


class SearchScene(DurableScene):
    def search(self, tree: VirtualTree = TREE, seconds: float = 0.005) -> Launcher:
        return self.launch(1, kind=JobKind.EXPLORE, law=CostLaw("const", seconds), tree=tree)

    def account(self, reader: DurableReader) -> BagReplica:
        found = self.lead(self.at_home(reader), reader).replica
        assert isinstance(found, BagReplica)
        return found

    def share_done(self, reader: DurableReader, share: float) -> None:
        """Wait until this share of the tree is in the account."""
        wanted = share * reader.work.expected[0]
        self.until(
            lambda: self.home(reader) is not None and self.account(reader).visited >= wanted,
            within=60.0,
        )

    def came_right(self, reader: DurableReader, *, within: float = 60.0) -> None:
        """The reader has all of it (the checkers compare it with a plain search), and no node has any."""
        self.until(lambda: reader.done, within=within)
        assert not reader.gone, reader.gone
        assert not reader.missing
        held = self.world.checkers.still_holding
        self.until(lambda: not held(reader.job), within=40.0)

    def part(self, side: list[Process], rest: list[Process]) -> None:
        """Nothing gets from one side to the other."""
        for one, other in ((side, rest), (rest, side)):
            self.world.network.wall_off([p.place for p in one], [p.place for p in other])

    def heal(self, side: list[Process], rest: list[Process]) -> None:
        for one, other in ((side, rest), (rest, side)):
            self.world.network.tear_down([p.place for p in one], [p.place for p in other])

    def sides(self, reader: DurableReader) -> tuple[list[Process], list[Process]]:
        """The home, a node without a copy and the program; and the others, with two keepers."""
        home, keepers = self.at_home(reader), self.keepers(reader)
        node = next(each for each in self.nodes if each not in keepers)
        rest = [each for each in self.nodes if each not in (home, node)]
        return [home, self.client, node], rest

    def leaders(self, reader: DurableReader, among: list[Process]) -> list[Process]:
        return [n for n in among if n.alive and reader.job in n.core.durable.state.primaries]

    def visited(self) -> int:
        """By all workers, also what did not count."""
        return sum(process.items for process in self.world.processes)

    def others(self, home: Process) -> list[Process]:
        return [node for node in self.nodes if node is not home and node.alive]


def search_scene(nodes: int = 4, **knobs: object) -> SearchScene:
    scene = durable_scene(nodes, **knobs)  # type: ignore[arg-type]
    return SearchScene(scene.world, scene.nodes, scene.client)


@pytest.mark.parametrize("disks", [True, False])
def test_a_durable_search_is_done_and_collected(disks: bool) -> None:
    scene = search_scene(disks=disks)
    job = scene.search()
    scene.came_right(job)
    assert len(scene.keepers(job)) == 3
    assert scene.visited() == job.work.expected[0]
    line = scene.lead(scene.at_home(job), job).line()
    assert (line.state, line.done, line.total) == ("done", scene.visited(), scene.visited())


def test_the_program_dies_and_another_one_gets_the_sum() -> None:
    scene = search_scene()
    job = scene.search()
    scene.share_done(job, 0.2)
    scene.world.crash(scene.client)
    scene.share_done(job, 0.6)
    other = scene.attach(job, scene.nodes[2])
    scene.came_right(other)


@pytest.mark.parametrize(("disks", "silent"), [(True, True), (False, False)])
def test_the_home_dies_and_another_keeper_goes_on(disks: bool, silent: bool) -> None:
    scene = search_scene(disks=disks)
    job = scene.search()
    scene.share_done(job, 0.5)
    had, home = scene.account(job).visited, scene.at_home(job)
    scene.world.crash(home, silent=silent)
    scene.until(lambda: scene.home(job) is not None, within=20.0)
    assert scene.account(job).visited > 0.8 * had  # not from the roots
    scene.came_right(job)


def test_steps_that_no_keeper_has_never_were() -> None:
    """A home that its keepers cannot hear counts on. When it dies, what it alone had is done again, once."""
    scene = search_scene(5, replicas=2)
    job = scene.search()
    scene.share_done(job, 0.3)
    home = scene.at_home(job)
    (keeper,) = (node for node in scene.keepers(job) if node is not home)
    scene.world.network.cut(home.place, keeper.place)
    had = scene.account(job).visited
    scene.run(1.0)  # too short for an alarm
    alone = scene.account(job).visited
    assert alone > had + 100
    scene.world.crash(home)
    scene.world.network.mend(home.place, keeper.place)
    scene.until(lambda: scene.home(job) not in (None, home), within=20.0)
    assert scene.account(job).visited < alone
    scene.came_right(job)


@pytest.mark.slow
def test_home_after_home_dies() -> None:
    scene = search_scene(6, disks=False)
    job = scene.search(seconds=0.01)
    for share in (0.15, 0.3, 0.45, 0.6):
        scene.share_done(job, share)
        scene.world.crash(scene.at_home(job))
        scene.until(lambda: scene.home(job) is not None, within=20.0)
        living = sum(node.alive for node in scene.nodes)
        scene.until(lambda: len(scene.keepers(job)) >= min(3, living), within=20.0)  # noqa: B023
    scene.came_right(job)


@pytest.mark.slow
def test_holders_die_one_after_the_other() -> None:
    scene = search_scene(6)
    job = scene.search(seconds=0.01)
    for share in (0.2, 0.4, 0.6):
        scene.share_done(job, share)
        keepers = scene.keepers(job)
        scene.world.crash(next(node for node in scene.nodes if node.alive and node not in keepers))
    scene.came_right(job)


def test_everything_stops_and_starts_again() -> None:
    """What the disks have counts: nobody begins at the roots."""
    scene = search_scene(4)
    job = scene.search(seconds=0.01)
    for share in (0.3, 0.6):
        scene.share_done(job, share)
        for node in scene.nodes:
            scene.world.crash(node)
        for node in list(scene.nodes):
            scene.restart(node)
        scene.until(lambda: scene.home(job) is not None, within=30.0)
        assert scene.account(job).visited > 0.7 * share * job.work.expected[0]
    scene.came_right(job)


def test_both_sides_of_a_cut_go_on_and_one_account_holds() -> None:
    scene = search_scene(6, seed=3)
    job = scene.search(seconds=0.02)
    scene.share_done(job, 0.2)
    side, rest = scene.sides(job)
    scene.part(side, rest)
    scene.until(lambda: bool(scene.leaders(job, rest)), within=30.0)
    scene.run(3.0)
    assert scene.leaders(job, side)
    assert scene.leaders(job, rest)
    scene.heal(side, rest)
    scene.came_right(job, within=90.0)
    assert len(scene.leaders(job, scene.nodes)) == 1


def test_a_former_home_leads_again_after_a_cut() -> None:
    """It had gone on by itself. What it leads with then is the other side's account, and nothing of its own. All nodes
    keep the job: of some the primary could need the former home no more."""
    scene = search_scene(5, disks=False, lone_replica_seconds=3.0, replicas=5)
    job = scene.search(seconds=0.04)
    scene.share_done(job, 0.2)
    home = scene.at_home(job)
    rest = [node for node in scene.keepers(job) if node is not home]
    side = [scene.client, *(node for node in scene.nodes if node not in rest)]
    scene.part(side, rest)
    scene.until(lambda: bool(scene.leaders(job, rest)), within=30.0)
    scene.run(1.0)
    assert home in scene.leaders(job, side)
    scene.heal(side, rest)
    scene.until(lambda: len(scene.leaders(job, scene.nodes)) == 1, within=20.0)
    leader = scene.at_home(job)
    assert leader in rest
    scene.until(lambda: home in scene.keepers(job), within=20.0)
    scene.run(1.0)
    for node in scene.nodes:
        if node is not home:
            scene.world.crash(node)
    node = scene.world.node("late", seeds=home.member.endpoints, workers=2)
    scene.until(lambda: home in scene.leaders(job, scene.nodes), within=20.0)
    assert not job.done
    scene.nodes.append(node)
    scene.came_right(job, within=120.0)


@pytest.mark.slow
def test_a_holder_was_away_when_the_home_changed() -> None:
    """What it did for the former home does not count for the new one, whatever its leases are called."""
    scene = search_scene(5)
    job = scene.search(seconds=0.01)
    scene.share_done(job, 0.3)
    home, keepers = scene.at_home(job), scene.keepers(job)
    holder = next(node for node in scene.nodes if node not in keepers)
    rest = [node for node in scene.nodes if node is not holder]
    scene.part([holder], rest)
    scene.run(0.3)
    scene.world.crash(home)
    scene.until(lambda: scene.home(job) not in (None, home), within=20.0)
    scene.heal([holder], rest)
    scene.came_right(job)


def test_all_keepers_are_lost_and_the_program_gives_the_roots_again() -> None:
    scene = search_scene(5, disks=False)
    job = scene.search(seconds=0.01)
    scene.share_done(job, 0.4)
    for node in scene.keepers(job):
        scene.world.crash(node)
    scene.came_right(job, within=90.0)


@pytest.mark.slow
def test_all_keepers_and_the_program_are_lost_and_readers_are_told() -> None:
    scene = search_scene(5, disks=False, primary_patience_seconds=8.0)
    job = scene.search(seconds=0.01)
    scene.share_done(job, 0.4)
    other = scene.attach(job)
    scene.run(1.0)
    scene.world.crash(scene.client)
    for node in scene.keepers(job):
        scene.world.crash(node)
    scene.until(lambda: other.done, within=90.0)
    assert other.gone or other.missing


@pytest.mark.slow
def test_a_keeper_that_is_being_filled_leads_with_what_it_has_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The account comes in many pages. One that has some of them alone has nothing, and not a part."""
    _small_pages(monkeypatch)
    scene = search_scene(5, replicas=2)
    job = scene.search(seconds=0.01)
    scene.share_done(job, 0.4)
    home = scene.at_home(job)
    for _ in range(3):
        (keeper,) = (node for node in scene.keepers(job) if node is not home)
        scene.world.crash(keeper)
        scene.until(lambda: len(scene.keepers(job)) == 2, within=20.0)
        scene.run(0.0005)
    scene.world.crash(home)
    for node in list(scene.nodes):
        if not node.alive:
            scene.restart(node)
    scene.came_right(job, within=120.0)


@pytest.mark.slow
def test_a_reader_never_mixes_two_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides of a cut come to the end, in different parts. A reader has half of one when it meets the
    other: it begins again."""
    _small_pages(monkeypatch)
    scene = search_scene(6, seed=3)
    job = scene.search()
    scene.share_done(job, 0.3)
    home = scene.at_home(job)
    side, rest = scene.sides(job)
    scene.part(side, rest)
    scene.until(lambda: job.done, within=60.0)
    scene.until(
        lambda: any(scene.lead(n, job).replica.ended for n in scene.leaders(job, rest)),
        within=60.0,
    )
    second = scene.world.client("second", seeds=home.member.endpoints)
    scene.run(1.0)
    scene.part([second], rest)
    reader = DurableReader(scene.world, second, job.work)
    scene.until(lambda: reader.position > 10, within=20.0)
    assert not reader.done
    for node in (home, side[2]):
        scene.world.crash(node)
    scene.heal([second], rest)
    before = reader.account
    scene.until(lambda: reader.done, within=60.0)
    assert reader.account != before


def test_of_very_many_calls_the_oldest_go_that_were_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "CALLS_KEPT_MAX", 5)
    scene = search_scene(1)
    single = {"kind": JobKind.SUBMIT, "fed": True, "block_items": 1}
    calls = [scene.launch(1, **single) for _ in range(12)]  # type: ignore[arg-type]
    unread = scene.launch(1, collects=False, **single)  # type: ignore[arg-type]
    scene.until(lambda: all(call.done for call in calls))
    node = scene.nodes[0].core.durable.state
    scene.until(lambda: len(node.replicas) == 6)
    assert unread.job in node.replicas
    assert calls[-1].job in node.replicas
    assert calls[0].job in node.gone


def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "PAGE_ENTRIES", 3)
