"""A node in surroundings that lie or lack something. Rows 45 and 49, and the limits of issue 13's point 6.

What runs out is told in a line and refused, and what is there already goes on. The limits are the kernel's own:
RLIMIT_NOFILE, RLIMIT_FSIZE, a small tmpfs in a user and mount namespace, and the pids controller. Where a machine
has no such thing the test says so and is skipped.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.everyday.running import finish
from tests.hostile.place import MIB, NodeProcess, Place, square
from tests.hostile.zmtp import Caller
from tests.patience import until

import stealmesh
from stealmesh.host.security import MeshKey

pytestmark = pytest.mark.real

NOTHING_NEW = (3, 20_000)
"""RLIMIT_NOFILE: what is open stays open, and nothing else can be."""

# ---------------------------------------------------------------- row 45


def test_out_of_descriptors_while_accepting(fresh: Callable[..., Place]) -> None:
    """Strangers take every descriptor that the node may have. It says so, its links go on, and when the strangers
    have gone new peers come in."""
    place = fresh()
    most = place.node.descriptors() + 30
    with place.unharmed() as beside:
        resource.prlimit(place.node.pid, resource.RLIMIT_NOFILE, (most, most))
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(Caller(place.address))
            until(lambda: place.node.descriptors() >= most - 1, "nothing is left")
            beside.goes_on()
            place.node.says("ulimit -n")
        with place.insider() as late:
            late.introduce()
        assert "Traceback" not in place.node.said()


@pytest.mark.slow
def test_out_of_descriptors_while_connecting(fresh: Callable[..., Place], tmp_path: Path) -> None:
    """A seed that no descriptor was left for is dialled when there are some again."""
    with socket.create_server(("127.0.0.9", 0)) as taken:
        seed = f"tcp://127.0.0.9:{taken.getsockname()[1]}"
    place = fresh("--seed", seed, "--join-timeout", "1000")
    with place.unharmed() as beside:
        resource.prlimit(place.node.pid, resource.RLIMIT_NOFILE, NOTHING_NEW)
        place.node.says("ulimit -n")
        other = NodeProcess(tmp_path, "seed", "--listen", seed, key=place.key_file)
        try:
            other.address()
            beside.goes_on()
            assert place.me()["sees"] == 1
            resource.prlimit(place.node.pid, resource.RLIMIT_NOFILE, (20_000, 20_000))
            place.node.says("accepts connections again")
            until(lambda: place.me()["sees"] == 2, "dialled after all")
        finally:
            other.close()


def test_too_few_descriptors_to_start_are_one_line(tmp_path: Path) -> None:
    MeshKey.generate().save(tmp_path / "key")
    few = (30, 30)
    node = NodeProcess(
        tmp_path, "poor", key=tmp_path / "key",
        before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few),
    )  # fmt: skip
    assert node.process.wait(60) in (1, 2)
    assert "ulimit -n" in node.said()
    assert "Traceback" not in node.said()


# ---------------------------------------------------------------- disks and /dev/shm


def in_small_rooms(*mounts: tuple[Path, str]) -> tuple[str, ...]:
    """The words that give a process these small file systems, in a namespace of its own."""
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    script = "".join(f"mount -t tmpfs -o size={size} tmpfs {path} && " for path, size in mounts)
    return ("unshare", "-Urm", "sh", "-c", script + 'exec "$@"', "--")


LAUNCHES = """
import functools, operator, os, sys, stealmesh
with stealmesh.Mesh(sys.argv[1], key=sys.argv[2]) as mesh:
    kept = mesh.launch(len, [os.urandom(8000)] * 12)
    try:
        mesh.launch(functools.partial(operator.concat, os.urandom(300_000)), [b""] * 3)
    except stealmesh.JobRefused as error:
        print(error)
    print(list(kept.results()) == [8000] * 12)
"""
"""A program of its own: the modules of the whole suite, which travel with a job, need more than the disk has."""


def test_a_small_disk_refuses_what_does_not_fit_and_a_full_shm_is_not_needed(
    fresh: Callable[..., Place], tmp_path: Path
) -> None:
    """--state has 1 MiB, and a quarter of it may be promised; /dev/shm has no octet left. What fits is kept, what does
    not is refused by name, and the node goes on with its other work."""
    state, empty = tmp_path / "state", tmp_path / "empty"
    state.mkdir()
    empty.mkdir()
    small = in_small_rooms((state, "1m"), (Path("/dev/shm"), "4k"))
    place = fresh("--state", str(state), "--nworkers", "2", command=small)
    place.node.says("has room for")
    with place.unharmed():
        said = finish(empty, "-c", LAUNCHES, place.address, str(place.key_file)).splitlines()
    assert "keep_octets_max" in said[0]
    assert said[1:] == ["True"]


@pytest.mark.slow
def test_a_disk_that_others_fill_ends_the_node_with_a_word(
    fresh: Callable[..., Place], tmp_path: Path
) -> None:
    """What was promised cannot be kept here any more: others that keep the jobs go on (decision 016)."""
    state = tmp_path / "state"
    state.mkdir()
    place = fresh("--state", str(state), command=in_small_rooms((state, "1m")))
    inside = Path(f"/proc/{place.node.pid}/root{state}") / "another"
    with contextlib.suppress(OSError):
        inside.write_bytes(bytes(MIB))

    def launch() -> None:
        with contextlib.suppress(stealmesh.MeshClosed):  # when the test is over
            place.mesh.launch(square, range(9))

    threading.Thread(target=launch, daemon=True).start()
    place.node.says("No space left on device; trying again")
    assert place.node.process.wait(60) == 1
    assert "the log of durable jobs fails" in place.node.said()
    assert "Traceback" not in place.node.said()


def test_a_full_disk_at_the_start_is_one_line(tmp_path: Path) -> None:
    MeshKey.generate().save(tmp_path / "key")
    state = tmp_path / "state"
    state.mkdir()
    small = in_small_rooms((state, "4k"))
    small = (
        *small[:4],
        small[4].replace("exec", f"head -c 4096 /dev/zero > {state}/x; exec"),
        "--",
    )
    node = NodeProcess(tmp_path, "full", "--state", str(state), key=tmp_path / "key", command=small)
    assert node.process.wait(60) in (1, 2)
    assert "make room" in node.said()
    assert "Traceback" not in node.said()


# ---------------------------------------------------------------- processes


@pytest.fixture
def few_processes() -> Iterator[Path]:
    """A group of processes that can be bounded (RLIMIT_NPROC does not bind root)."""
    group = Path(f"/sys/fs/cgroup/pids/stealmesh-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no pids controller for us: {error}")
    try:
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), "all have ended")
        group.rmdir()


def test_out_of_processes_a_worker_is_started_when_there_is_room(
    few_processes: Path, tmp_path: Path
) -> None:
    """The only worker is killed while no process may be made: the node says so and stays, and its work goes on
    when there is room again."""
    place = Place(
        tmp_path, name="bounded",
        before=lambda: (few_processes / "cgroup.procs").write_text(str(os.getpid())) and None,
    )  # fmt: skip
    try:
        (worker,) = place.me()["worker_pids"]
        (few_processes / "pids.max").write_text("1")
        os.kill(worker, signal.SIGKILL)
        assert "ulimit -u" in place.node.says("could not be forked")
        assert place.node.lives()
        assert place.me()["pid"] == place.node.pid, "it answers"
        waiting = place.mesh.submit(square, 12)
        (few_processes / "pids.max").write_text("max")
        assert waiting.result(timeout=60) == 144
        assert "Traceback" not in place.node.said()
    finally:
        place.close()


# ---------------------------------------------------------------- row 49


def test_a_wall_clock_that_jumps_a_day_ends_nothing(
    fresh: Callable[..., Place], tmp_path: Path
) -> None:
    clock = tmp_path / "jump"
    clock.write_text("0")
    place = fresh(rigged=("clock",), environment={"HOSTILE_CLOCK": str(clock)})
    dead = place.counters().get("peers-declared-dead", 0)
    with place.unharmed() as beside:
        job = place.mesh.launch(square, range(50))
        for seconds in (86_400, -86_400, 0):
            clock.write_text(str(seconds))
            beside.goes_on()
            with place.insider() as late:
                late.introduce()
                assert late.is_answered()
        assert list(job.results()) == [n * n for n in range(50)]
    assert place.counters().get("peers-declared-dead", 0) == dead
