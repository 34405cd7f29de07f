"""Meshes, clusters and schedulers that are broken on purpose, behind the few calls that this takes.

Each peer is opened as its own documentation starts it on one machine for people who want it to
survive something: four workers, its defaults for retries and time limits, every process on its
own. An adapter says which processes play which part; it knows nothing of signals and figures.
dask.distributed and Ray are optional: their adapters import them when they are opened.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from stealmesh_bench.stand import BenchError

WORKERS = 4
MEETING_SECONDS_MAX = 60.0

Task = Callable[[int], int]
Finished = tuple[int, Any]
"""The index of a task and its result, or the exception that came instead of it."""


class ChaosPeer(Protocol):
    def parts(self) -> dict[str, list[list[int]]]:
        """Process ids by part: "worker", "node" (a supervisor with what it supervises),
        "supervisor" and "centre". A part that a peer does not have is left out."""

    def start(self, task: Task, items: Sequence[int]) -> None:
        """Submit one task an item, each by itself."""

    def finished(self) -> list[Finished]:
        """Those that ended since the last look; waits a little if there are none."""


# ---------------------------------------------------------------- Stealmesh


class StealmeshPeer:
    """Four node processes of one worker each, not replaced; the program knows the first one only."""

    def __init__(self, mesh: Any) -> None:
        self.mesh = mesh
        self._pending: dict[int, Any] = {}

    def parts(self) -> dict[str, list[list[int]]]:
        nodes = [node for node in self.mesh.status()["nodes"] if node["role"] != "client"]
        entry = next(node for node in nodes if node["name"] == "entry")
        return {
            "worker": [node["worker_pids"] for node in nodes],
            "supervisor": [[node["pid"]] for node in nodes],
            "node": [[node["pid"], *node["worker_pids"]] for node in nodes],
            "centre": [[entry["pid"]]],
        }

    def start(self, task: Task, items: Sequence[int]) -> None:
        self._pending |= {item: self.mesh.submit(task, item) for item in items}

    def finished(self) -> list[Finished]:
        done = [item for item, future in self._pending.items() if future.done()]
        if not done:
            time.sleep(0.02)
        return [(item, _outcome(self._pending.pop(item).result)) for item in done]


@contextmanager
def open_stealmesh(directory: Path) -> Iterator[ChaosPeer]:
    from stealmesh.host.security import MeshKey
    from stealmesh.mesh import Mesh

    key = directory / "mesh.key"
    MeshKey.generate().save(key)
    with ExitStack() as ends:
        command = [
            sys.executable, "-m", "stealmesh", "node", "--nworkers", "1", "--no-peer-cache",
            "--key-file", str(key), "--listen", "tcp://127.0.0.1:0",
        ]  # fmt: skip
        first = _process(ends, [*command, "--name", "entry"], directory / "entry.log")
        address = _told(first, directory / "entry.log", "listens at ").split()[0]
        for number in range(1, WORKERS):
            log = directory / f"node{number}.log"
            _process(ends, [*command, "--name", f"node{number}", "--seed", address], log)
        mesh = ends.enter_context(Mesh(address, key=key))
        until = time.monotonic() + MEETING_SECONDS_MAX
        while sum(node["workers"] for node in mesh.status()["nodes"]) < WORKERS:
            if time.monotonic() > until:
                raise BenchError("the nodes did not all meet the program")
        yield StealmeshPeer(mesh)


# ---------------------------------------------------------------- dask.distributed


class DaskPeer:
    """`dask scheduler` and four times `dask worker` (each a nanny with its worker), as processes."""

    def __init__(self, client: Any, scheduler: int, nannies: list[int]) -> None:
        self.client = client
        self._scheduler = scheduler
        self._nannies = nannies
        self._pending: dict[int, Any] = {}

    def parts(self) -> dict[str, list[list[int]]]:
        workers = {
            parent: pid for pid, parent in self.client.run(_pid_and_parent).values()
        }  # its parent is its nanny
        if set(workers) != set(self._nannies):
            raise BenchError(f"workers of {sorted(workers)}, nannies {self._nannies}")
        return {
            "worker": [[workers[nanny]] for nanny in self._nannies],
            "supervisor": [[nanny] for nanny in self._nannies],
            "node": [[nanny, workers[nanny]] for nanny in self._nannies],
            "centre": [[self._scheduler]],
        }

    def start(self, task: Task, items: Sequence[int]) -> None:
        self._pending |= {item: self.client.submit(task, item, pure=False) for item in items}

    def finished(self) -> list[Finished]:
        done = [item for item, future in self._pending.items() if future.done()]
        if not done:
            time.sleep(0.02)
        good = {item: self._pending.pop(item) for item in done}
        fine = {item: future for item, future in good.items() if future.status == "finished"}
        try:
            values = self.client.gather(fine, errors="raise") if fine else {}
        except Exception:  # noqa: BLE001  # one by one, then: some result was lost on the way
            values = {}
        return [
            (item, values[item] if item in values else _outcome(partial(future.result, 10)))
            for item, future in good.items()
        ]


def _pid_and_parent() -> tuple[int, int]:
    return os.getpid(), os.getppid()


@contextmanager
def open_dask(directory: Path) -> Iterator[ChaosPeer]:
    from distributed import Client

    where = directory / "scheduler.json"
    with ExitStack() as ends:
        dask = [sys.executable, "-m", "dask"]
        file = ["--scheduler-file", str(where)]
        scheduler = _process(
            ends,
            [*dask, "scheduler", *file, "--port", "0", "--no-dashboard"],
            directory / "scheduler.log",
        )
        options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(directory)]
        nannies = [
            _process(ends, [*dask, "worker", *file, *options], directory / f"worker{number}.log")
            for number in range(WORKERS)
        ]
        _until(where.exists, "the scheduler does not come up")
        client = Client(scheduler_file=str(where), timeout=MEETING_SECONDS_MAX)
        client.wait_for_workers(WORKERS, timeout=MEETING_SECONDS_MAX)
        yield DaskPeer(client, scheduler.pid, [nanny.pid for nanny in nannies])


# ---------------------------------------------------------------- Ray


class RayPeer:
    """`ray.init(num_cpus=4)`: a GCS, a raylet that commands all workers, and four workers."""

    def __init__(self, ray: Any, mark: str) -> None:
        self._ray = ray
        self._mark = mark
        self._pending: dict[Any, int] = {}

    def parts(self) -> dict[str, list[list[int]]]:
        nap = self._ray.remote(_nap)
        pids: set[int] = set()
        until = time.monotonic() + MEETING_SECONDS_MAX
        while len(pids) < WORKERS:
            if time.monotonic() > until:
                raise BenchError(f"only {len(pids)} workers of Ray were ever seen")
            pids = set(self._ray.get([nap.remote() for _ in range(WORKERS)]))
        return {
            "worker": [[pid] for pid in sorted(pids)],
            "supervisor": [[self._daemon("raylet")]],
            "centre": [[self._daemon("gcs_server")]],
        }

    def start(self, task: Task, items: Sequence[int]) -> None:
        remote = self._ray.remote(_call)  # it takes plain functions only
        self._pending |= {remote.remote(task, item): item for item in items}

    def finished(self) -> list[Finished]:
        ids = list(self._pending)
        done, _ = self._ray.wait(ids, num_returns=len(ids), timeout=0.05, fetch_local=True)
        return [
            (self._pending.pop(each), _outcome(partial(self._ray.get, each, timeout=10)))
            for each in done
        ]

    def _daemon(self, name: str) -> int:
        (pid,) = [
            pid
            for pid in marked(self._mark)
            if os.path.basename(_command(pid).split("\0")[0]) == name
        ]
        return pid


def _call(task: Task, item: int) -> int:
    return task(item)


def _nap() -> int:
    time.sleep(0.5)
    return os.getpid()


@contextmanager
def open_ray(directory: Path) -> Iterator[ChaosPeer]:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        yield RayPeer(ray, str(directory))
    finally:
        ray.shutdown()


PEERS: dict[str, Callable[[Path], Any]] = {
    "stealmesh": open_stealmesh,
    "dask": open_dask,
    "ray": open_ray,
}
NEEDS = {"stealmesh": "stealmesh", "dask": "distributed", "ray": "ray"}
"""What has to be importable."""


# ---------------------------------------------------------------- processes

MARK = "PEER_CHAOS_RUN"
"""In the environment of every process of a run; its parent may have died."""


def marked(run: str) -> list[int]:
    """The living processes of a run, ourselves left out."""
    mark = f"{MARK}={run}\0".encode()
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and mark in _environ(entry)
    ]


def pick(groups: list[list[int]], count: int, seed: int) -> list[int]:
    """The processes of `count` randomly chosen groups, flattened."""
    if len(groups) < count:
        raise BenchError(f"only {len(groups)} of {count} are there")
    return [pid for group in Random(seed).sample(groups, count) for pid in group]


def _process(ends: ExitStack, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    ends.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _told(process: subprocess.Popen[bytes], log: Path, words: str) -> str:
    """What stands behind these words in what the process says."""

    def said() -> bool:
        if process.poll() is not None:
            raise BenchError(f"{log.name}: ended: {log.read_text()}")
        return words in log.read_text()

    _until(said, f"{words!r} was never said in {log}")
    return log.read_text().partition(words)[2]


def _until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + MEETING_SECONDS_MAX
    while not holds():
        if time.monotonic() > until:
            raise BenchError(what)
        time.sleep(0.02)


def _outcome(result: Callable[[], Any]) -> Any:
    """The result, or the exception raised instead."""
    try:
        return result()
    except BaseException as error:  # dask's CancelledError is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return error


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes() + b"\0"
    except OSError:  # ended meanwhile, or not ours to read
        return b""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
