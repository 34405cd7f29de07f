"""Actors as programs use them, with real processes and SIGKILL.

Nothing here is timed: calls write files when they begin, and wait for files. Each object writes down what it
did, in a file of its own life, so that a call that ran twice is seen.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh

from .programs import start

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0
Mesh: Any = stealmesh.Mesh


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    with Mesh(workers=2) as mesh:
        yield mesh


class Counter:
    """Counts, and writes down each call that it begins."""

    step = 1

    def __init__(self, start: int = 0, log: str = "") -> None:
        self.count = start
        self.log = log

    def add(self, more: int = 1) -> int:
        self.count += more
        if self.log:
            with Path(self.log, str(os.getpid())).open("a") as file:
                file.write(f"{more} ")
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def parent(self) -> int:
        return os.getppid()

    def fail(self, text: str) -> None:
        raise KeyError(text)

    def end(self) -> None:
        os._exit(7)

    def wait_for(self, place: str, name: str) -> int:
        """Say that it has begun, and wait until another file is there."""
        Path(place, f"begun-{name}").touch()
        until(lambda: Path(place, f"go-{name}").exists())
        return self.count

    async def later(self, more: int) -> int:
        before = self.count
        await asyncio.sleep(0.01)
        assert self.count == before, "another call ran meanwhile"
        return self.add(more)

    @staticmethod
    def double(value: int) -> int:
        return 2 * value


def fib(n: int) -> int:
    if n < 2:
        return n
    here = stealmesh.here()
    left = here.submit(fib, n - 1)
    right: int = here.submit(fib, n - 2).result()
    return int(left.result()) + right


class Lengths:
    def __init__(self, own: Any) -> None:
        self.kept = own

    def fib(self, n: int) -> int:
        return fib(n)

    def of(self, value: Any) -> int:
        return len(value)

    def own(self) -> int:
        return len(self.kept)


class Refuses:
    def __init__(self, place: str) -> None:
        with Path(place, "made").open("a") as file:
            file.write("x")
        raise ValueError("never")

    def any(self) -> None: ...


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def got(future: Any) -> Any:
    return future.result(PATIENCE_SECONDS)


def died(future: Any) -> stealmesh.ActorDied:
    error = future.exception(PATIENCE_SECONDS)
    assert isinstance(error, stealmesh.ActorDied), error
    return error


def written(place: Path) -> list[int]:
    """The calls of all lives that have been written down."""
    return sorted(int(word) for file in place.glob("[0-9]*") for word in file.read_text().split())


# ------------------------------------------------------------ calls


def test_calls_run_in_their_order(mesh: Any) -> None:
    with mesh.actor(Counter, 10) as counter:
        futures = [counter.add() for _ in range(5_000)]
        assert [got(each) for each in futures] == list(range(11, 5_011))
        assert got(counter.add(more=5)) == 5_015
        assert got(counter.double(4)) == 8


@pytest.mark.slow
def test_a_hundred_thousand_calls(mesh: Any) -> None:
    with mesh.actor(Counter) as counter:
        futures = [counter.add() for _ in range(100_000)]
        assert [got(each) for each in futures] == list(range(1, 100_001))


def test_each_thread_has_its_order(mesh: Any) -> None:
    counter, seen = mesh.actor(Counter), {}

    def caller(name: int) -> None:
        seen[name] = [got(each) for each in [counter.add() for _ in range(300)]]

    threads = [threading.Thread(target=caller, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(value for each in seen.values() for value in each) == list(range(1, 1_201))
    assert all(each == sorted(each) for each in seen.values())


def test_it_has_a_process_of_its_own(mesh: Any) -> None:
    first, second = mesh.actor(Counter), mesh.actor(Counter)
    pids = {got(first.pid()), got(second.pid())}
    pids |= {got(mesh.submit(os.getpid)) for _ in range(10)}
    assert len(pids) >= 3
    assert got(first.add()) == got(second.add()) == 1


def test_coroutines_run_one_after_the_other(mesh: Any) -> None:
    with mesh.actor(Counter) as counter:
        assert [got(each) for each in [counter.later(1) for _ in range(5)]] == [1, 2, 3, 4, 5]


def test_a_result_may_be_an_argument_and_nothing_overtakes_it(mesh: Any, tmp_path: Path) -> None:
    one, other = mesh.actor(Counter), mesh.actor(Counter)
    slow = one.wait_for(str(tmp_path), "slow")
    futures = [other.add(1), other.add(slow), other.add(3), other.add(mesh.submit(abs, -4))]
    assert got(futures[0]) == 1
    until(lambda: (tmp_path / "begun-slow").exists())
    assert not any(each.done() for each in futures[1:])
    (tmp_path / "go-slow").touch()
    assert [got(each) for each in futures] == [1, 1, 4, 8]


def test_a_value_on_the_mesh_is_an_argument_like_others(mesh: Any) -> None:
    many, few = mesh.scatter(list(range(1000))), mesh.scatter([1, 2, 3])
    lengths = mesh.actor(Lengths, many)
    futures = [lengths.of(few), lengths.of("ab"), lengths.of(many), lengths.own()]
    assert [got(each) for each in futures] == [3, 2, 1000, 1000]


def test_the_constructor_may_be_given_futures(mesh: Any) -> None:
    """Anywhere in its arguments. An actor that is made again is made of their results, so it keeps them."""
    start = mesh.submit(abs, -5)
    counter = mesh.options(restarts=1).actor(Counter, start=start)
    assert got(counter.add(1)) == 6
    assert isinstance(counter.end().exception(PATIENCE_SECONDS), stealmesh.ActorDied)
    assert got(counter.add(2)) == 7
    assert got(mesh.actor(Lengths, {"a": [start], "b": start}).own()) == 2
    with pytest.raises(ZeroDivisionError):
        mesh.actor(Counter, mesh.submit(divmod, 1, 0))


def test_a_method_may_have_tasks_of_its_own(mesh: Any) -> None:
    assert got(mesh.actor(Lengths, "").fib(12)) == 144


def test_an_input_that_fails_fails_its_call_alone(mesh: Any) -> None:
    counter = mesh.actor(Counter)
    broken = mesh.submit(int, "x")
    futures = [counter.add(1), counter.add(broken), counter.add(2)]
    assert isinstance(futures[1].exception(PATIENCE_SECONDS), ValueError)
    assert [got(futures[0]), got(futures[2])] == [1, 3]


def test_a_call_that_has_not_begun_is_cancelled(mesh: Any, tmp_path: Path) -> None:
    counter = mesh.actor(Counter)
    running = counter.wait_for(str(tmp_path), "call")
    until(lambda: (tmp_path / "begun-call").exists())
    futures = [counter.add(each) for each in (1, 10, 100)]
    assert futures[1].cancel()
    (tmp_path / "go-call").touch()
    assert got(running) == 0
    assert [got(futures[0]), got(futures[2])] == [1, 101]


# ------------------------------------------------------------ errors


def test_what_a_method_raises_comes_back(mesh: Any) -> None:
    with mesh.options(retries=3).actor(Counter) as counter:
        futures = [counter.add(), counter.fail("this"), counter.add()]
        error = futures[1].exception(PATIENCE_SECONDS)
        assert isinstance(error, KeyError)
        assert error.args == ("this",)
        assert [got(futures[0]), got(futures[2])] == [1, 2]


def test_what_the_constructor_raises_every_call_raises(mesh: Any, tmp_path: Path) -> None:
    refuses = mesh.actor(Refuses, str(tmp_path))
    for _ in range(3):
        assert isinstance(refuses.any().exception(PATIENCE_SECONDS), ValueError)
    assert (tmp_path / "made").read_text() == "x"


def test_what_makes_no_sense_is_said_at_once(mesh: Any) -> None:
    counter = mesh.actor(Counter)
    for name in ("count", "step", "ad", "_secret"):
        with pytest.raises(AttributeError):
            getattr(counter, name)
    with pytest.raises(TypeError, match="belongs to the program"):
        pickle.dumps(counter)
    with pytest.raises(stealmesh.CannotShip, match="belongs to the program"):
        got(mesh.submit(id, counter))
    with pytest.raises(TypeError):
        mesh.actor(len)
    with pytest.raises(ValueError, match="durable"):
        mesh.options(durable=True).actor(Counter)
    with pytest.raises(ValueError, match="speculate"):
        mesh.options(speculate=True).actor(Counter)
    with pytest.raises(ValueError, match="max_parallel"):
        mesh.options(max_parallel=1).actor(Counter)
    with pytest.raises(ValueError, match="restarts"):
        mesh.options(restarts=-1)


def test_a_class_that_cannot_be_loaded_fails_its_calls(mesh: Any) -> None:
    class Unloadable:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    counter = mesh.actor(Counter, Unloadable())
    assert isinstance(counter.add().exception(PATIENCE_SECONDS), stealmesh.CannotLoad)


@pytest.mark.slow
def test_a_call_that_takes_too_long_ends_its_actor(mesh: Any, tmp_path: Path) -> None:
    counter = mesh.options(timeout=10.0, restarts=1).actor(Counter)
    assert got(counter.add(5)) == 5
    late, next_one = counter.wait_for(str(tmp_path), "never"), counter.add(1)
    assert isinstance(late.exception(PATIENCE_SECONDS), stealmesh.TaskTimeout)
    assert got(next_one) == 1
    assert len(counter.deaths) == 1


# ------------------------------------------------------------ deaths


def test_without_restarts_a_dead_actor_stays_dead(mesh: Any, tmp_path: Path) -> None:
    counter = mesh.actor(Counter)
    pid = got(counter.pid())
    running = counter.wait_for(str(tmp_path), "call")
    waiting = [counter.add() for _ in range(50)]
    until(lambda: (tmp_path / "begun-call").exists())
    os.kill(pid, signal.SIGKILL)
    for future in (running, *waiting, counter.add()):
        assert "SIGKILL" in str(died(future))
    assert len(counter.deaths) == 1


def test_an_actor_that_dies_while_it_has_nothing_to_do(mesh: Any) -> None:
    counter = mesh.actor(Counter)
    os.kill(got(counter.pid()), signal.SIGKILL)
    until(lambda: counter.deaths)
    assert len(died(counter.add()).deaths) == 1


def test_with_restarts_what_had_begun_fails_and_the_rest_runs(mesh: Any, tmp_path: Path) -> None:
    counter = mesh.options(restarts=2).actor(Counter, 100)
    assert got(counter.add()) == 101
    pid = got(counter.pid())
    running = counter.wait_for(str(tmp_path), "call")
    waiting = [counter.add() for _ in range(1_000)]
    until(lambda: (tmp_path / "begun-call").exists())
    os.kill(pid, signal.SIGKILL)
    error = died(running)
    assert len(error.deaths) == 1
    assert "made again" in str(error)
    done = [got(each) for each in waiting if each.exception(PATIENCE_SECONDS) is None]
    assert done == list(range(101, 101 + len(done)))
    assert all(isinstance(each.exception(), stealmesh.ActorDied | None) for each in waiting)
    assert done, "all that was behind it failed as well"
    assert got(counter.pid()) != pid


@pytest.mark.parametrize("retries", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_no_call_runs_twice_unless_it_may(retries: int, tmp_path: Path) -> None:
    """Its process is killed again and again in the middle of a stream of calls."""
    with Mesh(workers=1) as mesh:
        view = mesh.options(restarts=100, retries=retries)
        counter = view.actor(Counter, log=str(tmp_path))
        futures = [counter.add(each) for each in range(1, 3_001)]
        killed = 0
        for at in (300, 1_200, 2_100):
            until(lambda at=at: bool(sum(each.done() for each in futures) >= at))  # type: ignore[misc]
            files = sorted(tmp_path.glob("[0-9]*"), key=lambda file: file.stat().st_mtime)
            if not futures[-1].done() and runs(int(files[-1].name)):
                os.kill(int(files[-1].name), signal.SIGKILL)
                killed += 1
        failed = 0
        for future in futures:
            error = future.exception(PATIENCE_SECONDS)
            assert error is None or isinstance(error, stealmesh.ActorDied)
            failed += error is not None
        ran = written(tmp_path)
        assert killed
        if retries:
            assert not failed
            assert set(ran) == set(range(1, 3_001))
        else:
            assert len(ran) == len(set(ran)), "a call ran twice"
            assert len(ran) >= 3_000 - failed
        for file in tmp_path.glob("[0-9]*"):
            calls = [int(word) for word in file.read_text().split()]
            assert calls == sorted(calls), "calls ran out of order"


@pytest.mark.parametrize("restarts", [0, 1])
def test_its_node_is_killed(restarts: int, tmp_path: Path) -> None:
    with Mesh(nodes=2, workers=1) as mesh:
        counter = mesh.options(restarts=restarts).actor(Counter, log=str(tmp_path))
        assert got(counter.add(1)) == 1
        pid, node = got(counter.pid()), node_of(mesh, got(counter.parent()))
        running = counter.wait_for(str(tmp_path), "call")
        waiting = [counter.add(each) for each in range(2, 40)]
        until(lambda: (tmp_path / "begun-call").exists())
        os.kill(node, signal.SIGKILL)
        died(running)
        errors = [each.exception(PATIENCE_SECONDS) for each in waiting]
        assert all(isinstance(each, stealmesh.ActorDied | None) for each in errors)
        if restarts:
            assert got(counter.add(0)) < 1_000
            assert got(counter.pid()) != pid
        else:
            assert None not in errors
            died(counter.add(0))
        ran = written(tmp_path)
        assert len(ran) == len(set(ran)), "a call ran twice"
        until(lambda: not runs(pid))


def node_of(mesh: Any, fork_server: int) -> int:
    """The node above this fork server."""
    stat = Path(f"/proc/{fork_server}/stat").read_text()
    parent = int(stat.rpartition(")")[2].split()[1])
    assert parent in {node["pid"] for node in mesh.status()["nodes"]}
    return parent


def test_a_task_that_ends_its_process_costs_one_life_each(mesh: Any) -> None:
    counter = mesh.options(restarts=1).actor(Counter)
    assert got(counter.add()) == 1
    assert "exit status 7" in str(died(counter.end()))
    assert got(counter.add()) == 1
    assert len(died(counter.end()).deaths) == 2
    assert "not made again" in str(died(counter.add()))


# ------------------------------------------------------------ ends


def test_shutdown_finishes_what_is_pending_and_ends_the_process(mesh: Any) -> None:
    counter = mesh.actor(Counter)
    pid = got(counter.pid())
    futures = [counter.add() for _ in range(500)]
    counter.shutdown()
    assert [each.result(0) for each in futures] == list(range(1, 501))
    with pytest.raises(RuntimeError, match="shut down"):
        counter.add()
    counter.shutdown()
    until(lambda: not runs(pid))


def test_an_actor_that_was_never_called_ends(mesh: Any) -> None:
    mesh.actor(Counter).shutdown()


def test_a_forgotten_handle_ends_its_actor(mesh: Any) -> None:
    counter = mesh.actor(Counter)
    pid = got(counter.pid())
    method = counter.add
    del counter
    gc.collect()
    assert got(method(3)) == 3
    last = method(4)
    del method
    gc.collect()
    assert got(last) == 7
    until(lambda: not runs(pid))


def test_the_mesh_finishes_calls_and_ends_actors(tmp_path: Path) -> None:
    with Mesh(workers=1) as mesh:
        counter = mesh.actor(Counter, log=str(tmp_path))
        pid = got(counter.pid())
        futures = [counter.add(each) for each in range(1_000)]
    assert all(each.exception(0) is None for each in futures)
    assert written(tmp_path) == list(range(1_000))
    with pytest.raises(RuntimeError):
        counter.add()
    until(lambda: not runs(pid))


def test_ctrl_c_ends_actors(tmp_path: Path) -> None:
    program = start(
        """
        import os, pathlib, time
        import stealmesh

        class Sleeper:
            def sleep(self):
                pathlib.Path("pid").write_text(str(os.getpid()))
                pathlib.Path("begun").touch()
                time.sleep(1000)

        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                sleeper = mesh.actor(Sleeper)
                sleeper.sleep().result()
        """,
        tmp_path,
    )
    until(lambda: (tmp_path / "begun").exists())
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=PATIENCE_SECONDS)
    assert program.returncode
    until(lambda: not runs(int((tmp_path / "pid").read_text())))
