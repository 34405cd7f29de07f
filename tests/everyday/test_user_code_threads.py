"""The program's own code never runs in the mesh's thread: it may wait, sleep, and raise anything."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.everyday import value_tasks as tasks
from tests.patience import until

import stealmesh
from stealmesh.client.user_threads import Strand, UserThreads

pytestmark = pytest.mark.real

PATIENCE = 120


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=2) as running:
        yield running


def waiting(mesh: stealmesh.Mesh) -> tuple[stealmesh.Future[Any], threading.Event]:
    """A future that is over only after its callbacks were added."""
    return mesh.submit(time.sleep, 0.2), threading.Event()


def raiser(kind: type[BaseException]) -> Callable[[Any], None]:
    def callback(future: Any) -> None:
        raise kind("in a callback")

    return callback


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, ZeroDivisionError])
def test_what_a_callback_raises_is_logged(
    mesh: stealmesh.Mesh, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """Row 10: the mesh was dead. The words are the standard library's."""
    future, called = waiting(mesh)
    future.add_done_callback(raiser(kind))
    future.add_done_callback(lambda _: called.set())
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        assert called.wait(PATIENCE)
    assert [record.name for record in caplog.records] == ["concurrent.futures"]
    assert "exception calling callback for <Future" in caplog.text
    assert kind.__name__ in caplog.text
    assert mesh.submit(tasks.same, 1).result(PATIENCE) == 1


def test_exit_in_a_callback_of_what_is_over_is_logged_too(
    mesh: stealmesh.Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    future = mesh.submit(tasks.same, 1)
    future.result(PATIENCE)
    future.add_done_callback(lambda _: sys.exit(3))
    assert "SystemExit: 3" in caplog.text


def test_a_callback_may_wait_and_ask(mesh: stealmesh.Mesh) -> None:
    """Row 11: TimeoutError and deadlock."""
    future, called = waiting(mesh)
    seen: list[Any] = []

    def callback(done: Any) -> None:
        seen.append(len(mesh.status()["nodes"]))
        seen.append(mesh.submit(tasks.same, 2).result(PATIENCE))
        seen.extend(mesh.map(tasks.same, range(3)))
        seen.append(mesh.map_reduce(tasks.same, range(4), max).result(PATIENCE))
        called.set()

    future.add_done_callback(callback)
    assert called.wait(PATIENCE)
    assert seen == [2, 2, 0, 1, 2, 3]


def test_a_callback_that_blocks_delays_nobody(mesh: stealmesh.Mesh) -> None:
    """Row 11: all results were late. Here it blocks for as long as others are not through."""
    future, called = waiting(mesh)
    release, others = threading.Event(), threading.Event()

    def blocks(_: Any) -> None:
        release.wait(PATIENCE)
        called.set()

    future.add_done_callback(blocks)
    future.result(PATIENCE)
    assert mesh.submit(tasks.same, 1).result(PATIENCE) == 1
    later, _ = waiting(mesh)
    later.add_done_callback(lambda _: others.set())
    assert others.wait(PATIENCE), "a callback waits behind one that blocks"
    assert not called.is_set()
    release.set()
    assert called.wait(PATIENCE)


def test_callbacks_of_one_future_run_in_order(mesh: stealmesh.Mesh) -> None:
    future, called = waiting(mesh)
    order: list[int] = []
    future.add_done_callback(lambda _: time.sleep(0.1))
    for number in range(5):
        future.add_done_callback(lambda _, number=number: order.append(number))  # type: ignore[misc]
    future.add_done_callback(lambda _: called.set())
    assert called.wait(PATIENCE)
    assert order == list(range(5))


def test_results_are_opened_by_those_who_ask(mesh: stealmesh.Mesh) -> None:
    tasks.Remembers.opened.clear()
    future = mesh.submit(tasks.remembers, 1)
    concurrent.futures.wait([future], PATIENCE)
    assert not tasks.Remembers.opened
    assert "not opened yet" in repr(future)
    assert future.result() is future.result()
    assert tasks.Remembers.opened == [threading.get_ident()]


def test_two_that_ask_at_once_open_it_once(mesh: stealmesh.Mesh) -> None:
    tasks.Remembers.opened.clear()
    futures = [mesh.submit(tasks.remembers, i) for i in range(100)]
    both = threading.Barrier(2)

    def ask() -> list[Any]:
        both.wait(PATIENCE)
        return [future.result(PATIENCE) for future in futures]

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        one, two = threads.submit(ask), threads.submit(ask)
    assert all(a is b for a, b in zip(one.result(), two.result(), strict=True))
    assert len(tasks.Remembers.opened) == 100


def test_the_mesh_s_thread_opens_and_ends_nothing(mesh: stealmesh.Mesh) -> None:
    """Neither the finalizer of an argument nor that of a result or a callback runs there."""
    tasks.Finalized.ended.clear()
    for _ in range(50):
        mesh.submit(tasks.bare, tasks.Finalized())
        future = mesh.submit(tasks.same, tasks.Finalized())
        future.add_done_callback(partial(print, tasks.Finalized(), file=io.StringIO()))
        del future
    # Two arguments, a callback and a result in each round. Results come in any order, and a thread that has
    # nothing to do keeps what it called last.
    until(lambda: gc.collect() >= 0 and len(tasks.Finalized.ended) >= 195, "all but a few end")
    assert "stealmesh" not in tasks.Finalized.ended


def test_the_standard_library_s_waits(mesh: stealmesh.Mesh) -> None:
    futures = [mesh.submit(tasks.returns, kind) for kind in ["good", "setstate", "good"]]
    done = set(concurrent.futures.as_completed(futures, PATIENCE))
    assert done == set(futures)
    failing = [mesh.submit(time.sleep, 60), mesh.submit(tasks.returns, "setstate")]
    first = concurrent.futures.wait(failing, PATIENCE, concurrent.futures.FIRST_EXCEPTION)
    assert first.done == {failing[1]}, "what cannot be opened is an exception as any other"
    again = concurrent.futures.wait(failing, PATIENCE, concurrent.futures.FIRST_EXCEPTION)
    assert again.done == {failing[1]}
    failing[0].cancel()


def test_awaiting(mesh: stealmesh.Mesh) -> None:
    async def main() -> list[Any]:
        futures = [mesh.submit(tasks.remembers, i) for i in range(20)]
        found = [one.number for one in await asyncio.gather(*map(asyncio.wrap_future, futures))]
        with pytest.raises(stealmesh.CannotLoad):
            await mesh.submit(tasks.returns, "setstate")
        with pytest.raises(tasks.Falsy):
            await mesh.submit(tasks.raises, "falsy")
        return found

    assert asyncio.run(main()) == list(range(20))


def test_combiners_of_two_jobs_do_not_wait_for_each_other(mesh: stealmesh.Mesh) -> None:
    release = threading.Event()

    def slow(a: int, b: int) -> int:
        if threading.current_thread().name == "stealmesh-callbacks":
            release.wait(PATIENCE)
        return a + b

    first = mesh.map_reduce(tasks.bare, [[i] for i in range(2000)], tasks_slow(slow, release))
    assert mesh.map_reduce(tasks.bare, range(10), max).result(PATIENCE) == 1
    release.set()
    assert first.result(PATIENCE) == 2000


class tasks_slow:  # noqa: N801 - reads as a phrase
    """Combines here by `slow`, in workers by adding: an event does not travel."""

    def __init__(self, slow: Callable[[int, int], int], release: threading.Event) -> None:
        self._slow: Callable[[int, int], int] | None = slow

    def __getstate__(self) -> dict[str, Any]:
        return {"_slow": None}

    def __call__(self, a: int, b: int) -> int:
        return a + b if self._slow is None else self._slow(a, b)


def test_shutdown_waits_for_callbacks() -> None:
    ran = threading.Event()
    with stealmesh.Mesh(workers=1) as mesh:
        future = mesh.submit(time.sleep, 0.2)

        def callback(_: Any) -> None:
            time.sleep(0.3)
            ran.set()

        future.add_done_callback(callback)
    assert ran.is_set()


# ---------------------------------------------------------------- the threads themselves


def test_work_runs_one_after_another_as_long_as_it_gets_on() -> None:
    threads = UserThreads()
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        inside += 1
        most = max(most, inside)
        done += 1
        inside -= 1

    for _ in range(200):
        threads.run(*[work] * 10)
    assert threads.wait_until_quiet(PATIENCE)
    assert (most, done) == (1, 2000)
    threads.end()


def test_behind_stuck_work_another_thread_goes_on() -> None:
    threads = UserThreads()
    release, through = threading.Event(), threading.Semaphore(0)
    for _ in range(5):
        threads.run(lambda: release.wait(PATIENCE))
        threads.run(through.release)
    for _ in range(5):
        assert through.acquire(timeout=PATIENCE)
    release.set()
    assert threads.wait_until_quiet(PATIENCE)
    threads.end()


def test_threads_that_have_nothing_to_do_end() -> None:
    threads = UserThreads()
    release = threading.Event()
    many = threading.Semaphore(0)

    def work() -> None:
        many.release()
        release.wait(PATIENCE)

    threads.run(*[work] * 8)
    for _ in range(8):
        assert many.acquire(timeout=PATIENCE)
    release.set()
    assert threads.wait_until_quiet(PATIENCE)
    threads.end()
    until = time.monotonic() + PATIENCE
    while any(t.name == "stealmesh-callbacks" for t in threading.enumerate()):
        if time.monotonic() > until or threads_of_others():
            break
        time.sleep(0.01)
    assert threads_of_others() or not any(
        thread.name == "stealmesh-callbacks" for thread in threading.enumerate()
    )


def threads_of_others() -> bool:
    """The module's mesh has such threads, too."""
    return any(thread.name == "stealmesh" for thread in threading.enumerate())


def test_a_strand_keeps_its_order() -> None:
    threads = UserThreads()
    strand = Strand(threads)
    order: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            time.sleep(0.1)  # stuck, for the others' eyes
        order.append(number)

    for number in range(10):
        strand.put(lambda number=number: work(number))  # type: ignore[misc]
        threads.run(lambda: None)
    assert threads.wait_until_quiet(PATIENCE)
    assert order == list(range(10))
    threads.end()


def test_callbacks_that_all_shut_the_mesh_down_do_not_wait_for_each_other() -> None:
    mesh = stealmesh.Mesh(workers=2)
    together, through = threading.Barrier(2), threading.Semaphore(0)

    def callback(_: Any) -> None:
        together.wait(PATIENCE)
        mesh.shutdown()
        time.sleep(0.1)
        through.release()

    for future in [mesh.submit(time.sleep, 0.1) for _ in range(2)]:
        future.add_done_callback(callback)
    ender = threading.Thread(target=mesh.shutdown)
    ender.start()
    ender.join(PATIENCE)
    assert not ender.is_alive()
    assert through.acquire(blocking=False), "shutdown waits for both of them"
    assert through.acquire(blocking=False)


def test_where_no_thread_can_be_started_who_waits_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From Python 3.12 on none can be while the interpreter ends: `atexit` is then."""
    monkeypatch.setattr(UserThreads, "_start_thread", lambda self, target: False)
    mesh = stealmesh.Mesh(workers=1)
    told = []
    value = mesh.map_reduce(abs, range(10), max)
    value.add_done_callback(lambda future: told.append(future.result()))
    ender = threading.Thread(target=mesh.shutdown, daemon=True)
    ender.start()
    ender.join(PATIENCE)
    assert not ender.is_alive()
    assert told == [9]


def test_functions_that_nobody_uses_end_in_threads_of_the_program(mesh: stealmesh.Mesh) -> None:
    """What they hold may have finalizers."""
    tasks.Finalized.ended.clear()

    def holding(number: int, held: tasks.Finalized) -> Callable[[], Any]:
        return lambda: (number, held is None)

    for number in range(30):
        assert mesh.submit(holding(number, tasks.Finalized())).result(PATIENCE) == (number, False)
    until = time.monotonic() + PATIENCE
    while len(tasks.Finalized.ended) < 30 and time.monotonic() < until:
        time.sleep(0.1)
        mesh.submit(tasks.same, 1).result(PATIENCE)
    assert len(tasks.Finalized.ended) >= 30
    assert "stealmesh" not in tasks.Finalized.ended
