"""One worker, several programs: each has processes of its own, and the core is told nothing of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stealmesh.shipping.bundle import Entry, Parcel
from stealmesh.workers import pool as pool_module
from stealmesh_engine.events import ChunkDone, Retracted, WorkerLost, WorkerReady
from stealmesh_protocol.ids import digest_of

from .conftest import Gate
from .host import Host, block

pytestmark = pytest.mark.real

Hosts = Callable[..., Host]


def bundle(version: str) -> bytes:
    text = f"NAME = {version!r}\nseen = []\n".encode()
    return msgspec.msgpack.encode(
        Parcel(None, [Entry("lib", "/nowhere/lib.py", is_package=False, source=text)])
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


def test_few_are_set_aside_and_not_for_long(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in "abcdef":
        host.results(order(host, version))
    assert len(host.pool.worker_pids()) <= 1 + pool_module.ASIDE_MAX
    monkeypatch.setattr(pool_module, "ASIDE_SECONDS_MAX", 0.0)
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


def test_the_nursery_dies_with_all_of_them(host: Host) -> None:
    host.results(order(host, "a"))
    host.results(order(host, "b"))
    pids = host.pool.worker_pids()
    nursery = host.pool._nursery
    assert nursery is not None
    nursery.kill()
    host.take(WorkerLost)
    host.take(WorkerReady)
    assert host.results(order(host, "a"))[0][0] == "a"
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
