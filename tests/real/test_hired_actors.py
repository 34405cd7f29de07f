"""Programs that wait for each call of an actor hire its process: SIGKILL of it and of its node, and all that a call can do.

A call writes its number into a log before it answers. So the log says what ran, in which order, and how often.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.conftest import node_pids
from tests.real.test_hires import PATIENCE_SECONDS, calls_said, hired_items, kill_all

import stealmesh

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


class Keeper:
    """Counts, and writes down what it is asked."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.total = 0

    def add(self, number: int) -> int:
        with open(self.log, "a", encoding="ascii") as file:
            file.write(f"{number}\n")
        self.total += 1
        return self.total

    def waits_for(self, path: str) -> int:
        while not os.path.exists(path):
            time.sleep(0.005)
        self.total += 1
        return self.total

    def raises(self) -> None:
        raise LookupError(self.total)

    def large(self) -> bytes:
        return bytes(100_000)

    def reports(self) -> int:
        stealmesh.report(1, 2)
        return self.total

    def asks_for_another(self) -> int:
        return stealmesh.here().submit(double, 21).result()

    def pid(self) -> int:
        return os.getpid()

    def ends(self) -> None:
        os._exit(3)


def double(number: int) -> int:
    return 2 * number


def until_hired(mesh: stealmesh.Mesh, keeper: stealmesh.Actor) -> None:
    """Until calls have gone straight to the process: it is hired from then on."""
    hires = mesh._life.driver.core.hires  # type: ignore[union-attr]
    until = time.monotonic() + PATIENCE_SECONDS
    while not any(job.hire is not None and job.hire.served for job in hires._hired.values()):
        keeper.pid().result()
        assert time.monotonic() < until, "nobody is hired"


def log_of(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


# ---------------------------------------------------------------- what a call can do


def test_calls_that_come_alone_go_straight_to_the_process(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    before = hired_items(mesh)
    with mesh.actor(Keeper, str(tmp_path / "log")) as keeper:
        until_hired(mesh, keeper)
        assert [keeper.add(at).result() for at in range(300)] == list(range(1, 301))
    assert hired_items(mesh) - before > 200
    assert log_of(tmp_path / "log") == list(range(300))


def test_calls_keep_their_order_among_those_that_come_at_once(
    mesh: stealmesh.Mesh, tmp_path: Path
) -> None:
    chance = random.Random(7)
    with mesh.actor(Keeper, str(tmp_path / "log")) as keeper:
        made = 0
        while made < 3_000:
            several = chance.choice((1, 1, 1, 1, 2, 3, 40))
            futures = [keeper.add(made + at) for at in range(several)]
            made += several
            assert [each.result() for each in futures] == list(range(made - several + 1, made + 1))
    assert log_of(tmp_path / "log") == list(range(made))


def test_calls_that_need_more_than_an_answer(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    with mesh.actor(Keeper, str(tmp_path / "log")) as keeper:
        for _ in range(3):
            until_hired(mesh, keeper)
            with pytest.raises(LookupError, match="0"):
                keeper.raises().result()
            assert len(keeper.large().result()) == 100_000
            assert keeper.reports().result() == 0
            assert keeper.asks_for_another().result() == 42


def test_a_long_call_is_shown_and_the_next_one_waits(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    with mesh.actor(Keeper, str(tmp_path / "log")) as keeper:
        until_hired(mesh, keeper)
        long = keeper.waits_for(str(tmp_path / "go"))
        until = time.monotonic() + PATIENCE_SECONDS
        while not long.running():
            assert time.monotonic() < until
            time.sleep(0.005)
        behind = [keeper.add(at) for at in range(5)]
        (tmp_path / "go").touch()
        assert long.result() == 1
        assert [each.result() for each in behind] == [2, 3, 4, 5, 6]


def test_two_threads_call_one_actor(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    with mesh.actor(Keeper, str(tmp_path / "log")) as keeper:
        found: list[int] = []

        def calls(first: int) -> None:
            found.extend(keeper.add(first + at).result() for at in range(400))

        threads = [threading.Thread(target=calls, args=(first,)) for first in (0, 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert sorted(found) == list(range(1, 801))
    log = log_of(tmp_path / "log")
    assert [each for each in log if each < 1000] == list(range(400))
    assert [each for each in log if each >= 1000] == list(range(1000, 1400))


PRINTS = """
import stealmesh

class Speaker:
    def says(self, number):
        print(f"call {number}")
        return number

with stealmesh.Mesh(workers=2) as mesh:
    with mesh.options(output="caller").actor(Speaker) as speaker:
        for at in range(60):
            assert speaker.says(at).result() == at
"""


def test_what_a_call_prints_comes_home_in_order(tmp_path: Path) -> None:
    assert calls_said(tmp_path, PRINTS) == [str(at) for at in range(60)]


# ---------------------------------------------------------------- deaths


def deaths(tmp_path: Path, kills: int, chance: random.Random, *, nodes: bool) -> None:
    """Processes of an actor, or their nodes, are killed at random moments. No call runs twice, none overtakes another,
    and one that did not return says that its actor died."""
    log, died, calls = tmp_path / "log", 0, 0
    returned: list[int] = []
    with (
        stealmesh.Mesh(nodes=2 if nodes else 1, workers=1) as mesh,
        mesh.options(restarts=100 * kills).actor(Keeper, str(log)) as keeper,
    ):
        for _ in range(kills):
            until_hired_again(mesh, keeper)
            pids = node_pids(mesh)[:1] if nodes else [keeper.pid().result(PATIENCE_SECONDS)]
            timer = threading.Timer(chance.uniform(0.0, 0.02), kill_all, [pids])
            timer.start()
            while timer.is_alive():
                future = keeper.add(calls)
                if future.exception(timeout=PATIENCE_SECONDS) is None:
                    returned.append(calls)
                else:
                    assert isinstance(future.exception(), stealmesh.ActorDied)
                    died += 1
                calls += 1
            timer.join()
        over = keeper.method("add")(calls)
        if over.exception(timeout=PATIENCE_SECONDS) is None:
            returned.append(calls)
    ran = log_of(log)
    assert ran == sorted(set(ran)), "a call ran twice, or before an earlier one"
    assert set(returned) <= set(ran)
    assert died <= kills


def until_hired_again(mesh: stealmesh.Mesh, keeper: stealmesh.Actor) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return until_hired(mesh, keeper)
        except stealmesh.ActorDied:
            assert time.monotonic() < until


@pytest.mark.parametrize("nodes", [False, True], ids=["process", "node"])
def test_deaths(tmp_path: Path, nodes: bool) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    deaths(tmp_path, 5, random.Random(seed), nodes=nodes)


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "kills"), [(False, 150), (True, 50)], ids=["process", "node"])
def test_many_deaths(tmp_path: Path, nodes: bool, kills: int) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    deaths(tmp_path, kills, random.Random(seed), nodes=nodes)


def test_a_call_that_ends_its_process_is_named(mesh: stealmesh.Mesh, tmp_path: Path) -> None:
    with mesh.options(restarts=1).actor(Keeper, str(tmp_path / "log")) as keeper:
        until_hired(mesh, keeper)
        with pytest.raises(stealmesh.ActorDied, match="Keeper died while this call ran"):
            keeper.ends().result(timeout=PATIENCE_SECONDS)
        assert keeper.add(1).result(timeout=PATIENCE_SECONDS) == 1
        assert len(keeper.deaths) == 1


class Hoarder:
    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def keeps(self, octets: int) -> int:
        self.kept.append(os.urandom(octets))
        return len(self.kept)


def test_an_actor_near_its_memory_limit_is_not_ended() -> None:
    """A worker is replaced then. With its process an actor would lose its object."""
    with (
        stealmesh.Mesh(workers=1, memory_limit="512M") as mesh,
        mesh.actor(Hoarder) as hoarder,
    ):
        assert [hoarder.keeps(8_000_000).result() for _ in range(56)] == list(range(1, 57))
        assert hoarder.deaths == []
