"""Nodes that cannot: with another Python, or without a module. What they cannot run others run, and it
is said; an item fails only when no node is left to be asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stealmesh_engine.ledger.crediting import Crediting
from stealmesh_engine.ledger.passed_over import PassedOver
from stealmesh_protocol.messages import JobKind
from stealmesh_sim import durable_worlds, random_worlds
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.durable_programs import Launcher
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import VirtualTree
from stealmesh_sim.world import World

from .scenes import FINE, SEED_ADDRESS, Scene

OURS, OTHER = "cpython-3.11", "cpython-3.12"
WITHOUT = frozenset({"pandas"})
ALL: frozenset[str] = frozenset()
KINDS = [JobKind.MAP, JobKind.REDUCE, JobKind.SUBMIT, JobKind.EXPLORE]


def add(world: World, number: int, lacks: frozenset[str] = ALL, runtime: str = OURS) -> Process:
    seeds = [SEED_ADDRESS] if number else []
    return world.node(f"n{number}", seeds=seeds, workers=2, lacks=lacks, runtime=runtime)


def mesh(*lacks: frozenset[str], runtimes: tuple[str, ...] = ()) -> Scene:
    """One node for each set of missing modules, and a client."""
    world = World(1)
    runtimes = runtimes or (OURS,) * len(lacks)
    nodes = [add(world, *each) for each in zip(range(len(lacks)), lacks, runtimes, strict=True)]
    client = world.client("client", seeds=[SEED_ADDRESS])
    told = Scene(world, nodes, client)

    def sweep() -> None:
        world.checkers.sweep()
        world.after(0.05, sweep)

    sweep()
    told.run(2.0)
    return told


def wish(
    told: Scene, kind: JobKind = JobKind.MAP, items: int = 300, **more: object
) -> VirtualProgram:
    tree = VirtualTree(5, 7, 4) if kind is JobKind.EXPLORE else None
    made = Wish(
        kind, items, FINE, told.world.now, block_items=7, runtime=OURS, tree=tree, **more  # type: ignore[arg-type]
    )  # fmt: skip
    return told.submit(made)


def failed(told: Scene, program: VirtualProgram) -> int:
    return told.world.checkers.accounts[program.job].failed


# ---------------------------------------------------------------- a module is missing


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_node_lacks_others_do(kind: JobKind) -> None:
    """The first node is asked first, and has nothing of what the job needs."""
    told = mesh(WITHOUT, ALL, ALL)
    program = wish(told, kind, module="pandas")
    told.finish()
    assert failed(told, program) == 0
    assert told.nodes[0].items == 0
    assert all(node.items for node in told.nodes[1:])
    # One look is enough: a node that keeps what it cannot run fails one item after the other, quickly.
    assert told.counted("items-passed-over") < 20


@pytest.mark.parametrize("kind", KINDS)
def test_what_everybody_lacks_fails_with_everybodys_reason(kind: JobKind) -> None:
    told = mesh(WITHOUT, WITHOUT, WITHOUT)
    blobs: list[bytes] = []
    program = wish(told, kind, items=20, module="pandas")
    before = told.client.listener
    assert before is not None

    def listen(process: Process, effect: object) -> None:
        blobs.append(getattr(effect, "blob", b""))
        before(process, effect)

    told.client.listener = listen
    told.finish()
    assert failed(told, program) > 0
    first = blobs[0]
    assert first.count(b"'pandas' is not importable") == 3
    assert sum(name in first for name in (b"n0: ", b"n1: ", b"n2: ")) == 2  # and the last one's own


def test_items_that_find_out_while_they_run_cost_the_others_nothing() -> None:
    """Some items of the job import a module, most do not: a node without it goes on with the others."""
    told = mesh(WITHOUT, ALL)
    program = wish(told, module="pandas", needy=frozenset(range(40, 300, 25)))
    told.finish()
    assert failed(told, program) == 0
    assert told.nodes[0].items > 50


def test_one_item_that_nobody_can_run_spoils_no_node_for_the_others() -> None:
    told = mesh(WITHOUT, WITHOUT)
    program = wish(told, module="pandas", needy=frozenset({0}))
    told.finish()
    assert failed(told, program) == 1
    assert all(node.items > 50 for node in told.nodes)


def test_nodes_that_join_in_the_middle() -> None:
    """Two with the module and one without: nothing fails."""
    told = mesh(ALL)
    program = wish(told, items=1000, module="pandas")
    told.run(0.3)
    for number, lacks in ((1, WITHOUT), (2, ALL), (3, ALL)):
        told.nodes.append(add(told.world, number, lacks))
    told.finish()
    assert failed(told, program) == 0
    assert [bool(node.items) for node in told.nodes] == [True, False, True, True]


def test_the_only_one_who_could_dies() -> None:
    """What is left is tried once more by those who had declined, and fails: nothing hangs."""
    told = mesh(WITHOUT, ALL, WITHOUT)
    program = wish(told, items=400, module="pandas")
    told.until(lambda: told.nodes[1].items > 50)
    told.world.crash(told.nodes[1])
    told.finish()
    assert 0 < failed(told, program) < 400


def test_a_late_comer_who_can_saves_the_rest() -> None:
    """Long items: the only node that can is busy with one each when it dies, and another joins."""
    told = mesh(WITHOUT, ALL)
    told.world.crash(told.nodes[1], silent=True)  # no one has noticed yet
    program = wish(told, items=50, module="pandas")
    told.run(0.2)
    told.nodes.append(add(told.world, 2))
    told.finish()
    assert failed(told, program) == 0


def test_a_module_that_is_installed_later_is_found() -> None:
    told = mesh(WITHOUT, ALL)
    program = wish(told, items=20_000, module="pandas")
    told.run(1.0)
    told.nodes[0].lacks = ALL
    told.finish(within=200.0)
    assert failed(told, program) == 0
    assert told.nodes[0].items > 2000


def test_a_thief_that_cannot_is_not_fed_again_and_again() -> None:
    told = mesh(ALL, ALL, WITHOUT)
    program = wish(told, items=2000, module="pandas")
    told.finish()
    assert failed(told, program) == 0
    splits = sum(node.core.victim.given for node in told.nodes)
    taken = sum(node.core.thief.fed for node in told.nodes)
    assert splits - taken < 10  # those that came back
    assert told.nodes[2].items == 0


# ---------------------------------------------------------------- another Python


@pytest.mark.parametrize("kind", KINDS)
def test_another_python_is_never_leased_to(kind: JobKind) -> None:
    told = mesh(ALL, ALL, ALL, runtimes=(OTHER, OURS, OTHER))
    program = wish(told, kind, items=400)
    told.finish()
    assert failed(told, program) == 0
    assert [bool(node.items) for node in told.nodes] == [False, True, False]
    assert told.counted("leases-declined") == 0
    assert sum(node.core.victim.given for node in told.nodes) == 0


def test_a_hungry_stranger_stands_in_nobodys_way() -> None:
    """Thieves wait in a line; the first ones have another Python."""
    told = mesh(ALL, ALL, ALL, ALL, runtimes=(OURS, OTHER, OTHER, OURS))
    told.run(5.0)  # all have left their names
    program = wish(told, items=400)
    told.finish()
    assert failed(told, program) == 0
    assert told.nodes[3].items > 100


def test_a_job_that_nobody_can_run_waits_and_says_so() -> None:
    told = mesh(ALL, ALL, runtimes=(OTHER, OTHER))
    program = wish(told)
    told.run(1.0)
    assert not told.client.complaints
    told.run(3.0)
    (complaint,) = told.client.complaints
    assert "2 nodes run cpython-3.12; job1 needs cpython-3.11" in complaint
    assert "start a node" in complaint
    (line,) = told.client.core.owner.lines()
    assert line.state.startswith("waiting: 2 nodes run cpython-3.12")
    told.nodes.append(add(told.world, 2))
    told.finish()
    assert failed(told, program) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_and_in_the_end_it_fails(kind: JobKind) -> None:
    told = mesh(ALL, runtimes=(OTHER,))
    program = wish(told, kind, items=3000 if kind is JobKind.MAP else 20)
    told.finish(within=40.0)
    assert failed(told, program) > 0
    assert told.nodes[0].items == 0
    assert not told.counted("results-dropped")


def test_a_durable_job_waits_for_its_python() -> None:
    told = mesh(ALL, ALL, runtimes=(OTHER, OTHER))
    for node in told.nodes:
        node.disk = VirtualDisk(told.world.network.rng)
        node.hear(node.disk.attach(node))
    launcher = Launcher(
        told.world, told.client, Wish(JobKind.MAP, 100, FINE, told.world.now, runtime=OURS)
    )
    told.run(60.0)
    assert launcher.accepted
    assert not launcher.done
    told.nodes.append(add(told.world, 2))
    told.until(lambda: launcher.done)
    assert told.nodes[2].items == 100


def test_a_node_that_is_granted_byte_code_of_another_python_declines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An owner that cannot know (or does not look)."""
    monkeypatch.setattr("stealmesh_engine.ledger.candidates.suits", lambda spec, member: True)
    told = mesh(ALL, ALL, runtimes=(OTHER, OURS))
    program = wish(told)
    told.finish()
    assert failed(told, program) == 0
    assert told.nodes[0].items == 0
    assert told.counted("leases-declined") >= 1


# ---------------------------------------------------------------- random worlds, and broken rules

SEEDS = range(1, 9)


def test_random_worlds_in_which_not_everybody_can() -> None:
    for seed in SEEDS:
        outcome = random_worlds.run(seed, unlike=True)
        assert not outcome.breach, f"--unlike --one {seed}: {outcome.breach}"


def test_random_durable_worlds_in_which_not_everybody_can() -> None:
    for seed in range(1, 7):
        outcome = durable_worlds.run(seed, unlike=True)
        assert not outcome.breach, f"--durable --unlike --one {seed}: {outcome.breach}"


def what_one_lacks_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other node is asked, as before."""
    monkeypatch.setattr(Crediting, "_passed_over", lambda *args: False)


def byte_code_goes_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stealmesh_engine.ledger.candidates.suits", lambda spec, member: True)
    monkeypatch.setattr("stealmesh_engine.holding.holder.suits", lambda spec, member: True)


def who_declined_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner without a memory goes round in circles."""
    monkeypatch.setattr(PassedOver, "barred", lambda self, at, now: {})


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], int, set[str]]] = [
    (what_one_lacks_fails, 1, {"passing"}),
    (byte_code_goes_anywhere, 16, {"runtime"}),
    (who_declined_is_asked_again, 1, {"progress", "load"}),
]


@pytest.mark.parametrize(
    ("mutate", "first", "kinds"), MUTANTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_rule_is_found(
    mutate: Callable[[pytest.MonkeyPatch], None],
    first: int,
    kinds: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    outcomes = (random_worlds.run(seed, unlike=True) for seed in range(first, first + 25))
    outcome = next((each for each in outcomes if each.breach), None)
    assert outcome is not None, f"nobody noticed that {mutate.__name__}"
    assert outcome.kind in kinds, outcome.breach
