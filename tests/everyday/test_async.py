"""`async def` functions, many at a time on one worker's event loop, and plain functions in its threads.

Nothing here is timed. Tasks meet: each waits until as many have come as ought to run side by side. If they
do not, the patience of the test runs out.
"""

# ruff: noqa: ASYNC110, ASYNC230, ASYNC240, ASYNC251 - these tasks touch files, and block, on purpose

from __future__ import annotations

import asyncio
import functools
import hashlib
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import pytest

import stealmesh
from stealmesh.tasks import is_coroutine

from .programs import start

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0
Mesh: Any = stealmesh.Mesh


@pytest.fixture(scope="module")
def two() -> Iterator[Any]:
    with Mesh(workers=2) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def threaded() -> Iterator[Any]:
    with Mesh(workers=1, threads=4) as mesh:
        yield mesh


async def double(x: int) -> int:
    await asyncio.sleep(0.001)
    return 2 * x


async def meet(place: str, company: int, x: int) -> int:
    """Come to this place, and wait until this number has come."""
    Path(place, str(x)).touch()
    while len(os.listdir(place)) < company:
        await asyncio.sleep(0.01)
    return x


async def flaky(log: str, fails: int, x: int) -> int:
    await asyncio.sleep(0.001)
    with Path(log).open("a") as file:
        file.write(f"{x}\n")
    if Path(log).read_text().split().count(str(x)) <= fails:
        raise ValueError(f"not yet, {x}")
    return x


class Callable:
    def __init__(self, more: int) -> None:
        self.more = more

    async def __call__(self, x: int) -> int:
        await asyncio.sleep(0)
        return x + self.more

    async def method(self, x: int) -> int:
        return x + self.more


# ---------------------------------------------------------------- coroutines


def test_two_hundred_run_side_by_side_on_two_workers(two: Any, tmp_path: Path) -> None:
    """Each task waits for all the others."""
    for place, go in (
        (tmp_path / "submit", lambda f: [two.submit(f, x) for x in range(200)]),
        (tmp_path / "map", lambda f: two.map(f, range(200))),
    ):
        place.mkdir()
        found = go(functools.partial(meet, str(place), 200))
        values = [
            each.result(PATIENCE_SECONDS) if hasattr(each, "result") else each for each in found
        ]
        assert values == list(range(200))


def test_types_say_what_a_task_awaits(two: stealmesh.Mesh) -> None:
    """mypy checks the rest of this test."""
    future: stealmesh.Future[int] = two.submit(double, 4)
    plain: stealmesh.Future[str] = two.submit(str, 4)
    mapped: Iterator[int] = two.map(double, range(3))
    assert_type(two.submit(double, 4), stealmesh.Future[int])
    assert_type(two.options(priority=1).submit(double, 4), stealmesh.Future[int])
    assert (future.result(PATIENCE_SECONDS), plain.result(PATIENCE_SECONDS)) == (8, "4")
    assert list(mapped) == [0, 2, 4]


def test_concurrency_bounds_what_runs_side_by_side() -> None:
    async def crowd(x: int) -> int:
        loop: Any = asyncio.get_running_loop()
        loop.inside = getattr(loop, "inside", 0) + 1
        loop.most = max(getattr(loop, "most", 0), loop.inside)
        await asyncio.sleep(0.02)
        loop.inside -= 1
        return int(loop.most)

    with Mesh(workers=1, concurrency=7) as mesh:
        assert max(mesh.map(crowd, range(100))) == 7


def test_every_kind_of_job(two: Any) -> None:
    assert two.submit(double, 4).result(PATIENCE_SECONDS) == 8
    assert list(two.map(double, range(500))) == [2 * x for x in range(500)]
    assert list(two.map(double, iter([3, 1, 2]), chunksize=2)) == [6, 2, 4]
    total = two.map_reduce(double, range(500), operator.add)
    assert total.result(PATIENCE_SECONDS) == 2 * sum(range(500))
    assert sorted(two.map(double, range(50), ordered=False)) == [2 * x for x in range(50)]
    assert two.launch(double, range(20)).result() == [2 * x for x in range(20)]


def test_whatever_is_a_coroutine_function(two: Any) -> None:
    async def both(x: int, y: int) -> int:
        return x * y

    for fn in (Callable(1), Callable(1).method, functools.partial(both, 1), both):
        assert is_coroutine(fn)
    others: list[Any] = [len, Callable, functools.partial(int, base=2), lambda x: double(x)]
    assert not any(map(is_coroutine, others))
    assert list(two.map(Callable(5), range(3))) == [5, 6, 7]
    assert two.submit(Callable(5).method, 1).result(PATIENCE_SECONDS) == 6
    assert list(two.map(functools.partial(both, 3), range(3))) == [0, 3, 6]
    assert list(two.map(both, range(3), range(3))) == [0, 1, 4]
    lambdas = [two.submit(functools.partial(both, n), n) for n in range(40)]  # used once each
    assert [each.result(PATIENCE_SECONDS) for each in lambdas] == [n * n for n in range(40)]


def test_one_that_fails_fails_alone(two: Any) -> None:
    async def third(x: int) -> int:
        await asyncio.sleep(0.001)
        if x % 3 == 2:
            raise KeyError(x)
        if x % 3 == 1:
            sys.exit(x)
        return x

    futures = [two.submit(third, x) for x in range(60)]
    kinds = Counter(type(each.exception(PATIENCE_SECONDS)).__name__ for each in futures)
    assert kinds == {"NoneType": 20, "KeyError": 20, "SystemExit": 20}
    with pytest.raises(KeyError) as raised:
        list(two.map(third, [0, 2]))
    assert "third" in raised.value.__cause__.text  # type: ignore[union-attr]
    with pytest.raises(KeyError):
        two.map_reduce(third, [0, 3, 2], operator.add).result(PATIENCE_SECONDS)


def test_a_task_that_cancels_itself_fails_alone(two: Any) -> None:
    async def cancels(x: int) -> int:
        if x == 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(10)
        async with asyncio.TaskGroup() as group:  # needs a task that is not being cancelled
            group.create_task(asyncio.sleep(0))
        return x

    futures = [two.submit(cancels, x) for x in range(6)]
    errors = [each.exception(PATIENCE_SECONDS) for each in futures]
    assert [error is None for error in errors] == [True] * 3 + [False] + [True] * 2
    chunk = two.options(chunksize=6).map(_or_none(cancels), range(6))
    assert list(chunk) == [0, 1, 2, None, 4, 5]


def _or_none(fn: Any) -> Any:
    async def call(x: int) -> int | None:
        try:
            return int(await fn(x))
        except asyncio.CancelledError:
            return None

    return call


def test_retries(two: Any, tmp_path: Path) -> None:
    view = two.options(retries=2)
    fn = functools.partial(flaky, str(tmp_path / "log"), 2)
    assert list(view.map(fn, range(20))) == list(range(20))
    fn = functools.partial(flaky, str(tmp_path / "other"), 3)
    with pytest.raises(ValueError, match="not yet, 7"):
        view.submit(fn, 7).result(PATIENCE_SECONDS)
    assert (tmp_path / "other").read_text().split() == ["7"] * 3


def test_a_timeout_cancels_its_own_item_only(two: Any, tmp_path: Path) -> None:
    async def wait(x: int) -> int:
        try:
            await asyncio.sleep(3600 if x == 5 else 0.05)
        except asyncio.CancelledError:
            (tmp_path / "cancelled").write_text(str(x))
            raise
        return os.getpid()

    view = two.options(timeout=3.0)
    futures = [view.submit(wait, x) for x in range(20)]
    with pytest.raises(
        stealmesh.TaskTimeout, match=r"item \d+ of .*wait ran longer than its timeout"
    ):
        futures[5].result(PATIENCE_SECONDS)
    pids = {each.result(PATIENCE_SECONDS) for x, each in enumerate(futures) if x != 5}
    assert (tmp_path / "cancelled").read_text() == "5"
    assert two.submit(wait, 0).result(PATIENCE_SECONDS) in pids, "its process has survived"


def test_a_timeout_holds_for_one_that_blocks(two: Any) -> None:
    """Its process is ended, and what ran beside it runs again."""

    async def wait(x: int) -> int:
        if x == 3:
            time.sleep(3600)
        await asyncio.sleep(0.01)
        return x

    futures = [two.options(timeout=0.3).submit(wait, x) for x in range(6)]
    with pytest.raises(stealmesh.TaskTimeout):
        futures[3].result(PATIENCE_SECONDS)


def heard_by_all(mesh: Any) -> None:
    """Return when the nodes have heard of all that this program has said so far."""
    for _ in range(2):  # the first may overtake what other threads say
        mesh.status()


def test_what_has_not_begun_is_cancelled(two: Any, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    futures = [two.submit(functools.partial(meet, str(place), 201), x) for x in range(1000)]
    while len(list(place.iterdir())) < 200:
        time.sleep(0.05)
    began = {int(each.name) for each in place.iterdir()}
    assert all(each.cancel() for each in futures[500:])
    heard_by_all(two)
    (place / "go").touch()
    assert [each.result(PATIENCE_SECONDS) for each in futures[:500]] == list(range(500))
    came = {int(each.name) for each in place.iterdir() if each.name != "go"}
    assert came == began | set(range(500))


def _prepare_the_second_process(place: str) -> None:
    """The first is the worker's own. The second is the one for coroutines."""
    first = Path(place, "first")
    if not first.exists():
        first.touch()
        return
    while not Path(place, "go").exists():
        time.sleep(0.02)


def test_what_waits_for_its_process_is_cancelled(tmp_path: Path) -> None:
    """The orders have gone to the process for coroutines, and it is not up yet."""

    async def task(x: int) -> int:
        (tmp_path / str(x)).touch()
        return x

    initial = {"initializer": _prepare_the_second_process, "initargs": (str(tmp_path),)}
    with Mesh(workers=1, concurrency=10, **initial) as mesh:
        try:
            futures = [mesh.submit(task, x) for x in range(8)]
            heard_by_all(mesh)
            time.sleep(0.2)  # if nodes told that they run, cancel() would refuse
            cancelled = [each.cancel() for each in futures[::2]]
            heard_by_all(mesh)
        finally:
            (tmp_path / "go").touch()
        assert all(cancelled)
        assert [each.result(PATIENCE_SECONDS) for each in futures[1::2]] == [1, 3, 5, 7]
        assert mesh.submit(task, 9).result(PATIENCE_SECONDS) == 9
    assert {each.name for each in tmp_path.iterdir()} == {"first", "go", *"13579"}


@pytest.mark.slow
def test_the_loop_lives_on_whatever_tasks_leave_there(two: Any) -> None:
    async def untidy(x: int) -> tuple[int, int]:
        loop = asyncio.get_running_loop()

        async def rest() -> None:
            await asyncio.sleep(0.001 * x)
            if x % 3 == 0:
                sys.exit(3)
            if x % 3 == 1:
                raise ValueError("nobody waits for me")
            await asyncio.sleep(3600)

        loop.kept = [*getattr(loop, "kept", []), loop.create_task(rest())]  # type: ignore[attr-defined]
        if x == 7:
            loop.stop()
        await asyncio.sleep(0.002)
        return os.getpid(), id(loop)

    with Mesh(workers=1) as mesh:
        seen = {each for _ in range(3) for each in mesh.map(untidy, range(30))}
    assert len(seen) == 1, "one process, and one loop in it"


def test_plain_tasks_are_not_held_up(two: Any, tmp_path: Path) -> None:
    """All places for coroutines are taken, and they wait for a plain task."""
    place = tmp_path / "place"
    place.mkdir()
    futures = [two.submit(functools.partial(meet, str(place), 201), x) for x in range(200)]

    def plain() -> str:
        (place / "plain").touch()
        return "done"

    while len(list(place.iterdir())) < 200:
        time.sleep(0.01)
    assert two.submit(plain).result(PATIENCE_SECONDS) == "done"
    assert [each.result(PATIENCE_SECONDS) for each in futures] == list(range(200))


def test_tasks_inside_of_coroutines_and_threads(two: Any, threaded: Any) -> None:
    """They wait by `await` or by `result()`, and what one leaves is run before its result counts."""
    assert list(two.map(waits_inside, range(5))) == [2 * x * x for x in range(5)]
    assert two.submit(leaves_inside, 3).result(PATIENCE_SECONDS) == [3, 9]
    with pytest.raises(KeyError):
        two.submit(fails_inside).result(PATIENCE_SECONDS)
    assert list(threaded.map(sums_inside, range(20))) == [sum(range(x)) for x in range(20)]


async def waits_inside(x: int) -> int:
    here = stealmesh.here()
    twice = here.submit(pow, x, 2)
    await asyncio.sleep(0)
    return int(await twice) + here.submit(pow, x, 2).result()


async def leaves_inside(x: int) -> list[int]:
    seen = [x]
    stealmesh.here().submit(lambda: seen.append(x * x))
    return seen


async def fails_inside() -> None:
    stealmesh.here().submit(os._exit, 1)
    raise KeyError


def sums_inside(x: int) -> int:
    return sum(each.result() for each in [stealmesh.here().submit(int, n) for n in range(x)])


def test_a_coroutine_that_a_plain_function_returns_is_named_with_its_remedy(two: Any) -> None:
    with pytest.raises(stealmesh.CannotShip, match="submit the async function itself"):
        two.submit(lambda: double(1)).result(PATIENCE_SECONDS)


def test_what_cannot_be_a_coroutine(two: Any) -> None:
    async def visit(bag: list[int], limit: int) -> Any:
        return limit, bag

    with pytest.raises(TypeError, match="must be a plain function"):
        two.explore(visit, [1], operator.add)
    with pytest.raises(TypeError, match="must be a plain function"):
        two.map(stealmesh.vectorized(visit), range(3))


def test_an_initializer_is_a_plain_function() -> None:
    """Nothing would await it, and it would not have run."""

    async def begin() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="plain function"):
        Mesh(workers=1, initializer=begin)


@pytest.mark.parametrize("given", [{"concurrency": 0}, {"concurrency": 1.5}, {"threads": 0}])
def test_bad_values_raise_at_the_call(given: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(given))):
        Mesh(workers=1, **given)


def test_threads_are_for_the_mesh_s_own_workers() -> None:
    with pytest.raises(ValueError, match="--nthreads"):
        Mesh("tcp://127.0.0.1:1", threads=2)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle(tmp_path: Path) -> None:
    """Every result arrives once, and none of the hundred neighbours is blamed."""

    async def work(x: int) -> int:
        await asyncio.sleep(0.02)
        if x == 77 and not (tmp_path / "dead").exists():
            (tmp_path / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with Mesh(workers=2) as mesh:
        assert list(mesh.map(work, range(600))) == list(range(600))


def test_one_that_always_kills_is_found_and_named() -> None:
    async def work(x: int) -> int:
        await asyncio.sleep(0.01)
        if x == 41:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with Mesh(workers=1) as mesh:
        futures = [mesh.submit(work, x) for x in range(100)]
        with pytest.raises(stealmesh.WorkerDied, match="item 41 "):
            futures[41].result(PATIENCE_SECONDS)
        assert all(each.result(PATIENCE_SECONDS) == x for x, each in enumerate(futures) if x != 41)


@pytest.mark.slow
def test_nodes_killed_in_the_middle(tmp_path: Path) -> None:
    async def work(x: int) -> int:
        await asyncio.sleep(0.05)
        return x

    with Mesh(nodes=3, workers=1) as mesh:
        results = mesh.map(work, range(3000))
        got = [next(results) for _ in range(10)]
        nodes = [each["pid"] for each in mesh.status()["nodes"] if each["role"] != "client"]
        os.kill(nodes[-1], signal.SIGKILL)
        assert got + list(results) == list(range(3000))


@pytest.mark.slow
def test_ctrl_c(tmp_path: Path) -> None:
    program = start(
        """
        import asyncio
        import stealmesh

        async def forever(x):
            if x == 50:
                print("running", flush=True)
            await asyncio.sleep(3600)

        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                list(mesh.map(forever, range(1000)))
        """,
        tmp_path,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.slow
def test_workers_that_are_replaced_after_some_tasks() -> None:
    async def pid(x: int) -> int:
        await asyncio.sleep(0.001)
        return os.getpid()

    with Mesh(workers=1, max_tasks_per_child=10, concurrency=5) as mesh:
        pids = Counter(mesh.map(pid, range(40)))
    assert sum(pids.values()) == 40
    assert max(pids.values()) <= 10 + 5
    assert len(pids) >= 3


def test_a_task_that_forks(two: Any) -> None:
    async def forks(x: int) -> int:
        pid = os.fork() if x % 2 else 0
        if x % 2 and not pid:
            await asyncio.sleep(0)  # the copy comes back to the loop
            return -1
        if pid:
            await asyncio.to_thread(os.waitpid, pid, 0)
        return x

    assert [two.submit(forks, x).result(PATIENCE_SECONDS) for x in range(6)] == list(range(6))


# ---------------------------------------------------------------- threads


def test_four_run_side_by_side_in_one_worker(threaded: Any) -> None:
    """Each waits for three others of its own process."""

    def together(x: int) -> int:
        globals().setdefault("barrier", threading.Barrier(4)).wait(PATIENCE_SECONDS)
        return os.getpid()

    futures = [threaded.submit(together, x) for x in range(8)]
    assert len({each.result(PATIENCE_SECONDS) for each in futures}) == 1
    assert len(set(threaded.map(together, range(8)))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("work", ["pbkdf2", "zlib"])
def test_what_releases_the_lock(threaded: Any, work: str) -> None:
    data = os.urandom(200_000)

    def pbkdf2(x: int) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", b"%d" % x, b"salt", 2000)

    def crush(x: int) -> int:
        return zlib.crc32(zlib.compress(data + b"%d" % x, 6))

    fn: Any = pbkdf2 if work == "pbkdf2" else crush
    assert list(threaded.map(fn, range(40))) == [fn(x) for x in range(40)]


def test_everything_else_holds_in_threads(threaded: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def trouble(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        if x == 4:
            sys.exit("four")
        return x

    def second_time(x: int) -> int:
        with log.open("a") as file:
            file.write(f"{x};")
        if f"{x};{x};" not in log.read_text() and log.read_text().count(f"{x};") < 2:
            raise ValueError(x)
        return x

    futures = [threaded.submit(trouble, x) for x in range(8)]
    kinds = [type(each.exception(PATIENCE_SECONDS)).__name__ for each in futures]
    assert kinds == ["NoneType"] * 3 + ["ValueError", "SystemExit"] + ["NoneType"] * 3
    assert list(threaded.map(trouble, range(10, 5000))) == list(range(10, 5000))
    assert list(threaded.options(retries=1).map(second_time, range(100, 110))) == list(
        range(100, 110)
    )
    assert threaded.map_reduce(trouble, range(10, 5000), operator.add).result(
        PATIENCE_SECONDS
    ) == sum(range(10, 5000))
    squares = threaded.map(stealmesh.vectorized(lambda chunk: [x * x for x in chunk]), range(999))
    assert list(squares) == [x * x for x in range(999)]
    visit = stealmesh.each(lambda n: (1, [n - 1, n - 2] if n > 1 else []))
    assert threaded.explore(visit, [12], operator.add).result(PATIENCE_SECONDS) == 465
    assert threaded.submit(double, 3).result(PATIENCE_SECONDS) == 6


@pytest.mark.slow
def test_a_dear_item_in_a_thread_is_not_waited_for(threaded: Any, tmp_path: Path) -> None:
    """Its neighbours' results come, and what is behind it in its chunk runs elsewhere."""
    go = tmp_path / "go"

    def task(x: int) -> int:
        while x == 4000 and not go.exists():
            time.sleep(0.01)
        return x

    came = []
    for value in threaded.map(task, range(8000), ordered=False):
        came.append(value)
        if len(came) == 7999:
            assert 4000 not in came
            go.touch()
    assert sorted(came) == list(range(8000))


def test_a_timeout_and_a_death_in_threads() -> None:
    def task(x: int) -> int:
        if x == 2:
            time.sleep(3600)  # it alone has a timeout
        if x == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return x

    with Mesh(workers=1, threads=4) as mesh:
        brief = mesh.options(timeout=3.0)
        futures = [(brief if x == 2 else mesh).submit(task, x) for x in range(12)]
        assert isinstance(futures[2].exception(PATIENCE_SECONDS), stealmesh.TaskTimeout)
        assert isinstance(futures[9].exception(PATIENCE_SECONDS), stealmesh.WorkerDied)
        good = [x for x in range(12) if x not in (2, 9)]
        assert [futures[x].result(PATIENCE_SECONDS) for x in good] == good


def test_a_thread_that_forks(threaded: Any) -> None:
    def forks(x: int) -> int:
        pid = os.fork()
        if not pid:
            sys.exit(3)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert list(threaded.map(forks, range(8))) == [3] * 8


def test_initializers_run_in_each_process(tmp_path: Path) -> None:
    def task(x: int) -> bool:
        return hasattr(sys, "prepared")

    async def coroutine(x: int) -> bool:
        return hasattr(sys, "prepared")

    with Mesh(workers=1, initializer=setattr, initargs=(sys, "prepared", 1)) as mesh:
        assert all(mesh.map(task, range(3)))
        assert all(mesh.map(coroutine, range(3)))


async def counted_async(directory: str) -> int:
    """How many of these ran at once when this one did."""
    mark = Path(directory) / f"{os.getpid()}-{id(asyncio.current_task())}"
    mark.touch()
    await asyncio.sleep(0.02)
    running = len(list(Path(directory).iterdir()))
    mark.unlink()
    return running


def counted(directory: str) -> int:
    return asyncio.run(counted_async(directory))


@pytest.mark.parametrize("asked", [{"max_parallel": 3}, {"resources": {"licence": 1}}])
def test_bounds_hold_for_what_runs_side_by_side(tmp_path: Path, asked: dict[str, Any]) -> None:
    """They count items, however many of them one worker runs side by side."""
    functions: dict[str, Any] = {"coroutines": counted_async, "threads": counted}
    with stealmesh.Mesh(workers=2, threads=4, resources={"licence": 3}) as mesh:
        for place, fn in functions.items():
            (tmp_path / place).mkdir()
            most = list(mesh.options(**asked).map(fn, [str(tmp_path / place)] * 40))
            assert max(most) <= 3
            assert len(most) == 40


# ---------------------------------------------------------------- report()


class Words:
    """What tasks say. It lets them go once it has heard `enough`."""

    def __init__(self, go: Path, enough: set[tuple[int, float, float | None]]) -> None:
        self.heard: set[tuple[int, float, float | None]] = set()
        self.go, self.enough = go, enough

    def __call__(self, index: int, done: float, total: float | None) -> None:
        self.heard.add((index, done, total))
        if self.enough <= self.heard:
            self.go.touch()


def test_each_coroutine_speaks_for_itself(two: Any, tmp_path: Path) -> None:
    """All run at once, speak at once, and wait until all that they said was heard."""
    go = tmp_path / "go"

    async def speaks(x: int) -> int:
        stealmesh.report(1, x + 10)
        await asyncio.sleep(0.01)
        if x % 2:
            await asyncio.create_task(_says(2, x + 10))
        else:
            await asyncio.to_thread(stealmesh.report, 2, x + 10)
        while not go.exists():
            await asyncio.sleep(0.02)
        return x

    words = Words(go, {(x, 2, x + 10) for x in range(60)})
    assert list(two.options(report=words).map(speaks, range(60))) == list(range(60))
    assert words.heard <= {(x, done, x + 10) for x in range(60) for done in (1, 2)}


async def _says(done: float, total: float) -> None:
    stealmesh.report(done, total)


def test_each_thread_speaks_for_its_own_task(threaded: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def speaks(x: int) -> int:
        stealmesh.report(1, x + 10)
        asyncio.run(_says(2, x + 10))
        stealmesh.report(3, x + 10)
        while not go.exists():
            time.sleep(0.02)
        return x

    words = Words(go, {(x, 3, x + 10) for x in range(4)})
    assert list(threaded.options(report=words).map(speaks, range(4))) == list(range(4))
    assert words.heard <= {(x, done, x + 10) for x in range(4) for done in (1, 2, 3)}


def test_what_a_coroutine_left_behind_says_nothing_for_others(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def leaves(x: int) -> int:
        async def goes_on() -> None:
            while not go.exists():
                stealmesh.report(100 + x, 1000)
                await asyncio.sleep(0.01)

        loop: Any = asyncio.get_running_loop()
        loop.left = loop.create_task(goes_on())
        await asyncio.sleep(0.05)
        return x

    async def speaks(x: int) -> int:
        stealmesh.report(1, 4)
        await asyncio.sleep(0.3)  # the other one has its turn, if it has any
        stealmesh.report(2, 4)
        while not go.exists():
            await asyncio.sleep(0.02)
        return x

    words = Words(go, {(0, 2, 4)})
    with Mesh(workers=1) as mesh:
        assert mesh.submit(leaves, 0).result(PATIENCE_SECONDS) == 0
        future = mesh.options(report=words).submit(speaks, 0)
        assert future.result(PATIENCE_SECONDS) == 0
    assert words.heard == {(0, 1, 4), (0, 2, 4)}
