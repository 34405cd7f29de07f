"""One worker, several programs: each has processes of its own, and the core is told nothing of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stealmesh.shipping.bundle import BundleContents, ModuleEntry
from stealmesh.workers import explore as exploring
from stealmesh.workers import misfits, processes
from stealmesh_engine.events import BagStep, ChunkDone, Retracted, WorkerLost, WorkerReady
from stealmesh_protocol.ids import digest_of
from stealmesh_protocol.messages import Block, JobKind
from stealmesh_protocol.values import LACKING

from .conftest import Gate
from .host import Host, block, shipped

pytestmark = pytest.mark.real

Hosts = Callable[..., Host]


def bundle(version: str) -> bytes:
    text = f"NAME = {version!r}\nseen = []\n".encode()
    return msgspec.msgpack.encode(
        BundleContents(None, [ModuleEntry("lib", "/nowhere/lib.py", is_package=False, source=text)])
    )


def who(_: Any) -> tuple[str, int, int]:
    import lib  # type: ignore[import-not-found]

    lib.seen.append(lib.NAME)
    return lib.NAME, os.getpid(), len(lib.seen)


def order(host: Host, version: str, function: Any = who, items: int = 1) -> int:
    code = bundle(version)
    spec = host.spec(function, code=digest_of(code))
    blocks = [block(0, list(range(items)))]
    return host.order(spec, 0, items, blocks, function, code=code)


def test_each_program_has_its_own_process(host: Host) -> None:
    got: dict[str, tuple[set[int], int]] = {}
    for version in ("a", "b", "a", "b", "a"):
        ((name, pid, seen),) = host.results(order(host, version))
        assert name == version
        pids, count = got.setdefault(version, ({pid}, 0))
        got[version] = (pids | {pid}, count + 1)
        assert seen == count + 1, "it has forgotten what it had imported"
    assert all(len(pids) == 1 for pids, _ in got.values())
    assert not [e for e in host.log if isinstance(e, WorkerLost)]
    assert len([e for e in host.log if isinstance(e, WorkerReady)]) == 1
    assert len(host.pool.worker_pids()) == 2


def test_an_order_waits_until_the_other_program_has_ended(host: Host, gate: Gate) -> None:
    first = order(host, "a", gate.task())
    gate.wait_until_entered()
    second = order(host, "b")
    assert not [e for e in host.log if isinstance(e, ChunkDone)]
    gate.let_go()
    assert host.results(first) == [0]
    assert host.results(second)[0][0] == "b"


def test_an_order_that_waits_can_be_taken_back(host: Host, gate: Gate) -> None:
    first = order(host, "a", gate.task())
    gate.wait_until_entered()
    second = order(host, "b")
    assert host.pool.retract(0) == Retracted(0, second)
    gate.let_go()
    assert host.results(first) == [0]
    assert host.results(order(host, "b"))[0][0] == "b"


def test_a_death_tells_what_ran_and_forgets_what_waited(host: Host, gate: Gate) -> None:
    first = order(host, "a", gate.task())
    gate.wait_until_entered()
    order(host, "b")
    os.kill(host.pool.worker_pids()[0], signal.SIGKILL)
    lost = host.take(WorkerLost)
    assert (lost.worker, lost.running, lost.blame) == (0, first, True)
    host.take(WorkerReady)
    assert host.results(order(host, "b"))[0][0] == "b"


def test_one_that_is_set_aside_may_die_unnoticed(host: Host) -> None:
    ((_, pid, _),) = host.results(order(host, "a"))
    host.results(order(host, "b"))
    os.kill(pid, signal.SIGKILL)
    host.until(lambda: pid not in host.pool.worker_pids())
    ((name, again, seen),) = host.results(order(host, "a"))
    assert (name, seen) == ("a", 1)
    assert again != pid
    assert not [e for e in host.log if isinstance(e, WorkerLost)]


def test_a_second_process_of_a_program_takes_the_place_of_the_first(host: Host) -> None:
    """The one that was set aside first was forgotten: it lived on, unknown."""
    ((_, first, _),) = host.results(order(host, "a"))
    ((_, other, _),) = host.results(order(host, "b"))
    os.kill(other, signal.SIGKILL)
    host.take(WorkerReady)
    ((_, second, _),) = host.results(order(host, "a"))
    assert first != second
    assert {first, second} <= set(host.pool.worker_pids())
    host.results(order(host, "b"))
    assert second in host.pool.worker_pids()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{first}/exe"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_few_are_set_aside_and_not_for_long(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in "abcdef":
        host.results(order(host, version))
    assert len(host.pool.worker_pids()) <= 1 + processes.ASIDE_MAX
    monkeypatch.setattr(processes, "ASIDE_SECONDS_MAX", 0.0)
    host.until(lambda: len(host.pool.worker_pids()) == 1)


def test_stopping_what_is_about_to_begin(host: Host, gate: Gate) -> None:
    """The process of the other program may still be starting."""
    host.results(order(host, "a"))
    order(host, "b", gate.task())
    host.pool.stop(0, "enough", blame=False)
    lost = host.take(WorkerLost)
    assert (lost.worker, lost.running, lost.blame) == (0, None, False)
    host.take(WorkerReady)
    assert host.results(order(host, "b"))[0][0] == "b"


def test_what_needs_no_bundle_runs_in_any_process(host: Host) -> None:
    ((_, pid, _),) = host.results(order(host, "a"))
    assert host.results(host.run(lambda _: os.getpid(), [0])) == [pid]


def test_an_initializer_runs_in_the_processes_of_each_program(hosts: Hosts) -> None:
    import cloudpickle

    def prepare(value: str) -> None:
        import lib

        lib.ready = value

    def look(_: Any) -> Any:
        import lib

        return lib.NAME, lib.ready

    host = hosts(initializer=cloudpickle.dumps((prepare, ("yes",))), code=bundle("a"))
    assert host.results(order(host, "a", look)) == [("a", "yes")]
    assert host.results(order(host, "b", look)) == [("b", "yes")]


def test_the_fork_server_dies_with_all_of_them(host: Host) -> None:
    host.results(order(host, "a"))
    host.results(order(host, "b"))
    pids = host.pool.worker_pids()
    server = host.pool._processes.forks._process
    assert server is not None
    server.kill()
    host.take(WorkerLost)
    host.take(WorkerReady)
    assert host.results(order(host, "a"))[0][0] == "a"
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------- an initializer that fits one program only


def fits_only(name: str) -> bytes:
    import cloudpickle

    def prepare() -> None:
        import lib

        if name != lib.NAME:
            raise ValueError(f"this is {lib.NAME}\n  that is sure")

    blob: bytes = cloudpickle.dumps((prepare, ()))
    return blob


def test_what_no_process_can_be_prepared_for_is_declined(hosts: Hosts) -> None:
    """It came back as untouched after each failed start, and was tried again without end."""
    host = hosts(initializer=fits_only("a"), code=bundle("a"))
    chunk = again_until_answered(host, lambda: order(host, "b", items=3))
    done = host.done(chunk)
    assert (done.codec, done.failed) == (LACKING, 3)
    failures = host.failures(chunk)
    assert [failure.offset for failure in failures] == [0, 1, 2]
    assert "initializer" in failures[0].text
    assert "this is b" in failures[0].text
    assert "node here" in failures[0].text
    assert lives(host) == misfits.TRIES_MAX
    # Its own program is none the worse for it, and the other one is not tried again at once.
    assert host.results(order(host, "a"))[0][0] == "a"
    assert host.done(order(host, "b")).codec == LACKING
    assert host.results(order(host, "a"))[0][0] == "a"
    assert lives(host) == misfits.TRIES_MAX


def test_a_bag_is_declined_likewise_and_what_waits_behind_it_is_run(
    hosts: Hosts, gate: Gate
) -> None:
    host = hosts(initializer=fits_only("a"), code=bundle("a"))
    again_until_answered(host, lambda: order(host, "b"))
    first = order(host, "a", gate.task())
    gate.wait_until_entered()
    code, combine = bundle("b"), who
    spec = host.spec(
        who, JobKind.EXPLORE, combine=digest_of(shipped(combine)), code=digest_of(code)
    )
    bag = (Block(0, 2, 0), exploring.pack_bag([1, 2]))
    explored = host.order(spec, 0, 2, [bag], who, combine, code=code)
    last = order(host, "a")
    gate.let_go()
    assert host.results(first) == [0]
    step = host.wait(lambda e: getattr(e, "chunk", None) == explored)
    assert isinstance(step, BagStep)
    assert (step.partial[0], step.failed, step.remaining, step.items) == (LACKING, 1, 0, 0)
    assert host.results(last)[0][0] == "a"


def test_it_is_tried_again_after_a_while(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    host = hosts(initializer=fits_only("a"), code=bundle("a"))
    again_until_answered(host, lambda: order(host, "b"))
    monkeypatch.setattr(misfits, "SECONDS", 0.0)
    host.until(lambda: not host.pool.misfits.known)
    monkeypatch.undo()
    again_until_answered(host, lambda: order(host, "b"))
    assert lives(host) == 2 * misfits.TRIES_MAX


def test_a_start_that_fails_only_now_and_then_costs_nothing(hosts: Hosts, tmp_path: Path) -> None:
    import cloudpickle

    path = str(tmp_path / "tries")

    def prepare() -> None:
        import lib

        with open(path, "a+") as file:
            file.write(lib.NAME)
            file.seek(0)
            if lib.NAME == "b" and file.read().count("b") % 3:
                raise OSError("not yet")

    host = hosts(initializer=cloudpickle.dumps((prepare, ())), code=bundle("a"))
    chunk = again_until_answered(host, lambda: order(host, "b"))
    assert host.results(chunk)[0][0] == "b"
    assert not host.pool.misfits.known


def lives(host: Host) -> int:
    """How many processes could not be prepared."""
    lost = [event for event in host.log if isinstance(event, WorkerLost)]
    assert not [event for event in lost if event.running is not None or event.blame]
    return len(lost)


def again_until_answered(host: Host, order: Callable[[], int]) -> int:
    """What a worker had when it was lost is given to it again, as its node does."""
    for _ in range(10):
        chunk = order()
        event = host.wait(lambda e: isinstance(e, WorkerLost | ChunkDone))
        if isinstance(event, ChunkDone):
            assert event.chunk == chunk
            return chunk
        host.take(WorkerReady)
    raise AssertionError("it comes back for ever")
