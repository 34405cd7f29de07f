"""Actors in virtual time: their calls run in order, in one life, and every call is answered."""

from __future__ import annotations

import pytest

from stealmesh_engine.events import Drain, Tick
from stealmesh_engine.holding.actor_turns import ActorTurns
from stealmesh_engine.holding.actors import Actors
from stealmesh_engine.holding.slots import Chunk
from stealmesh_engine.ledger.lives import Lives
from stealmesh_protocol.messages import Grant, JobKind
from stealmesh_sim.kernel import Breach
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.random_worlds import run
from stealmesh_sim.work import CostLaw

from .scenes import Scene, scene

QUICK = CostLaw("const", 0.0001)
SLOW = CostLaw("const", 0.05)


def actor(told: Scene, calls: int, law: CostLaw = SLOW, **wishes: object) -> VirtualProgram:
    wish = Wish(JobKind.SUBMIT, calls, law, told.world.now, actor=True, **wishes)  # type: ignore[arg-type]
    return told.submit(wish)


def home_of(told: Scene, program: VirtualProgram) -> Process:
    """The node where it lives, as soon as it lives somewhere."""
    told.until(lambda: any(node.actors for node in told.nodes if node.alive))
    return next(
        node for node in told.nodes if node.alive and program.job in node.core.holder.actors.lives
    )


def failed(told: Scene, program: VirtualProgram) -> int:
    return told.world.checkers.accounts[program.job].failed


@pytest.mark.parametrize("law", [QUICK, SLOW, CostLaw("pareto", 0.01)])
def test_calls_run_in_order_at_one_node(law: CostLaw) -> None:
    told = scene(3)
    program = actor(told, 400, law)
    home = home_of(told, program)
    told.finish(within=60.0)
    assert home.items == 400
    assert failed(told, program) == 0
    told.until(lambda: not home.actors or all(not a.ready for a in home.actors.values()))


def test_two_actors_live_at_two_nodes() -> None:
    told = scene(2)
    programs = [actor(told, 20) for _ in range(2)]
    told.run(0.5)
    assert sorted(len(node.core.holder.actors.lives) for node in told.nodes) == [1, 1]
    told.finish()
    assert [failed(told, program) for program in programs] == [0, 0]


def kill_process(told: Scene, program: VirtualProgram) -> None:
    home = home_of(told, program)
    told.until(lambda: any(each.running is not None for each in home.actors.values()))
    next(each for each in home.actors.values() if each.running is not None).kill()


def test_a_dead_process_without_restarts_fails_all_calls_by_name() -> None:
    told = scene(2)
    program = actor(told, 100, feed_seconds=0.3)
    told.run(0.5)
    kill_process(told, program)
    told.finish()
    ran = sum(node.items for node in told.nodes)
    assert failed(told, program) == 100 - ran
    assert ran < 100


@pytest.mark.parametrize("retries", [0, 1])
def test_a_dead_process_with_restarts_fails_what_had_begun(retries: int) -> None:
    told = scene(2)
    program = actor(told, 100, restarts=3, retries=retries)
    for _ in range(2):
        told.run(1.0)
        kill_process(told, program)
    told.finish()
    assert failed(told, program) == (0 if retries else 2)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_dead_node(retries: int) -> None:
    told = scene(3)
    program = actor(told, 100, restarts=3, retries=retries)
    told.run(1.0)
    told.world.crash(home_of(told, program))
    told.finish(within=60.0)
    if retries:
        assert failed(told, program) == 0
    else:
        assert 1 <= failed(told, program) <= 3


def test_a_node_that_leaves_finishes_what_runs() -> None:
    told = scene(3)
    program = actor(told, 60, restarts=1)
    told.run(1.0)
    home_of(told, program).hear(Drain())
    told.finish(within=60.0)
    assert failed(told, program) == 0


def test_an_idle_actor_dies_by_name_and_outlives_a_long_silence() -> None:
    told = scene(2)
    program = actor(told, 2, QUICK, block_items=1, feed_seconds=200.0)
    told.run(100.0)
    assert home_of(told, program)
    told.finish(within=200.0)
    assert failed(told, program) == 0


def test_what_is_cancelled_before_it_begins_does_not_run() -> None:
    told = scene(1)
    program = actor(told, 100, cancels=[(0.5, 50, 90)])
    told.finish()
    assert sum(node.items for node in told.nodes) == 60
    assert failed(told, program) == 0


@pytest.mark.parametrize(
    ("first", "upto"),
    [(1, 4), *(pytest.param(at, at + 10, marks=pytest.mark.slow) for at in range(4, 94, 10))],
)
def test_random_worlds(first: int, upto: int) -> None:
    for seed in range(first, upto):
        outcome = run(seed, actors=True, placed=seed % 3 == 0)
        assert not outcome.breach, f"{outcome.breach}, in the world {seed} of actors"


# ---------------------------------------------------------------- each rule earns its place


def a_node_dies(told: Scene) -> None:
    program = actor(told, 100, restarts=3)
    told.run(1.0)
    told.world.crash(home_of(told, program))
    told.finish(within=60.0)


def test_without_the_doubt_a_call_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was leased to a dead node may have run there."""
    monkeypatch.setattr(Lives, "divide", lambda self, lo, hi: ([(lo, hi)], []))
    with pytest.raises(Breach, match="runs for the 2"):
        a_node_dies(scene(3))


def a_node_leaves(told: Scene) -> None:
    program = actor(told, 40, CostLaw("const", 0.5), restarts=1)
    told.run(1.2)
    home_of(told, program).hear(Drain())
    told.run(0.1)
    lives = told.owned(program).lives
    assert lives is not None
    assert not lives.home, "a life began before all calls of the one before it were over"
    told.finish(within=60.0)


def test_the_next_life_waits_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    a_node_leaves(scene(3))
    monkeypatch.setattr(Lives, "has_room", lambda self, leases: not self.dead)
    with pytest.raises(AssertionError, match="a life began before"):
        a_node_leaves(scene(3))


def dear_calls_among_cheap_ones(told: Scene) -> None:
    """One in a hundred takes a hundred times as long as the others."""
    program = actor(told, 3_000, CostLaw("skewed", 0.0006), block_items=1_000)
    told.finish(within=60.0)
    assert failed(told, program) == 0


def test_what_waits_behind_a_chunk_does_not_overtake_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dear_calls_among_cheap_ones(scene(1))
    monkeypatch.setattr(
        ActorTurns, "_may_follow", lambda self, held, slot, now: slot.queued is None
    )
    monkeypatch.setattr(Chunk, "in_order", property(lambda self: False, lambda self, value: None))
    with pytest.raises(Breach, match="in one life"):
        dear_calls_among_cheap_ones(scene(1))


def an_idle_home_dies(told: Scene) -> list[str]:
    program = actor(told, 2, QUICK, block_items=1, feed_seconds=60.0, restarts=1)
    told.run(2.0)
    told.world.crash(home_of(told, program), silent=True)
    told.run(30.0)
    lives = told.owned(program).lives
    assert lives is not None
    deaths = list(lives.deaths)
    told.finish(within=100.0)
    return deaths


def test_the_home_of_an_idle_actor_is_watched() -> None:
    assert an_idle_home_dies(scene(3))


def lives_after_a_false_alarm(told: Scene) -> int:
    """The owner takes the home for dead, which is not. How many processes has the actor in the end?"""
    program = actor(told, 3000, restarts=3, retries=9)
    told.run(1.0)
    home, owner = home_of(told, program), told.client.core.owner
    owner.candidates.away[home.member.id] = None
    owner.fence(home.member.id, told.world.now)
    told.client.hear(Tick())
    told.run(20.0)
    return sum(each.ready for node in told.nodes for each in node.actors.values())


def test_a_life_that_its_owner_has_given_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lives_after_a_false_alarm(scene(3)) == 1
    monkeypatch.setattr(Actors, "revoked", lambda *_: None)
    assert lives_after_a_false_alarm(scene(3)) == 2


def a_home_loses_its_life(told: Scene) -> int:
    """Its node closes the job although it goes on, as after a long silence. Who hears of that?"""
    program = actor(told, 2, QUICK, block_items=1, feed_seconds=5.0, restarts=1)
    told.run(2.0)
    home_of(told, program).core.holder.closed(program.job, told.world.now, stop=True)
    told.run(0.1)
    owned = told.owned(program)
    told.finish(within=60.0)
    assert owned.lives is not None
    return len(owned.lives.deaths)


def test_no_life_begins_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_home_loses_its_life(scene(1)) == 1

    def belongs(self: Actors, grant: Grant, now: float, *, leaving: bool) -> bool:
        if grant.spec.job not in self.lives:
            self.lives[grant.spec.job] = grant.spec.life
            self._slots.begin_actor(grant.spec.job)
        return True

    monkeypatch.setattr(Actors, "belongs", belongs)
    assert a_home_loses_its_life(scene(1)) == 0
