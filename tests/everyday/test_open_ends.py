"""Open connections and sockets in arguments, functions and results, as in the standard library's pools.

They travelled as bare numbers: a task wrote to another descriptor of its worker, or to none, and closed it.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.programs import run
from tests.hostile.place import Place

import stealmesh
from stealmesh.shipping.open_ends import handed_over

pytestmark = pytest.mark.real

PATIENCE = 60.0


@pytest.fixture(scope="module")
def mesh() -> Any:
    with stealmesh.Mesh(workers=2) as running:
        yield running


@pytest.fixture
def ends() -> Iterator[tuple[Any, Any]]:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield ours, theirs


def heard(end: Any) -> Any:
    assert end.poll(PATIENCE)
    return end.recv()


def say(end: Any, word: Any) -> Any:
    end.send(word)
    return word


def say_to(named: dict[str, Any], word: Any) -> Any:
    return say(named["end"], word)


def fetched(_: int) -> Any:
    """One end; the other one is written to beside, and closed."""
    far, near = multiprocessing.Pipe()

    def write() -> None:
        with far:
            far.send("from a task")

    threading.Thread(target=write).start()
    return near


def say_once(end: Any, pids: str) -> None:
    """The first time it takes its worker along."""
    with Path(pids).open("a") as file:
        file.write(f"{os.getpid()}\n")
    end.send("once")
    os.kill(os.getpid(), signal.SIGKILL)


def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("way", ["argument", "inside", "partial", "closure", "method"])
def test_a_connection_is_handed_over(mesh: stealmesh.Mesh, ends: tuple[Any, Any], way: str) -> None:
    ours, theirs = ends
    calls = {
        "argument": lambda: mesh.submit(say, theirs, 1),
        "inside": lambda: mesh.submit(say_to, {"end": theirs}, 1),
        "partial": lambda: mesh.submit(partial(say, theirs), 1),
        "closure": lambda: mesh.submit(lambda: theirs.send(1)),
        "method": lambda: mesh.submit(theirs.send, 1),
    }
    calls[way]().result(PATIENCE)
    assert heard(ours) == 1
    theirs.send("still open here")
    assert heard(ours) == "still open here"


def test_a_connection_for_each_of_many_items(mesh: stealmesh.Mesh, ends: tuple[Any, Any]) -> None:
    ours, theirs = ends
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(heard(ours) for _ in range(200)))
    reader.start()
    assert list(mesh.map(say, [theirs] * 200, range(200))) == list(range(200))
    reader.join(PATIENCE)
    assert sorted(found) == list(range(200))


def test_a_socket_is_handed_over(mesh: stealmesh.Mesh) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        assert mesh.submit(socket.socket.sendall, theirs, b"hello").result(PATIENCE) is None
        assert ours.recv(9) == b"hello"


def test_a_result_is_one(mesh: stealmesh.Mesh) -> None:
    with contextlib.closing(mesh.submit(fetched, 1).result(PATIENCE)) as near:
        assert heard(near) == "from a task"


def test_a_closed_one_is_refused_by_name(mesh: stealmesh.Mesh) -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    theirs.close()
    with pytest.raises(stealmesh.CannotShip, match=r"Connection\).*closed"):
        mesh.submit(say, theirs, 1).result(PATIENCE)


def test_one_that_was_fetched_is_fetched_by_no_second_worker(
    ends: tuple[Any, Any], tmp_path: Path
) -> None:
    """It has one reader: the item fails, and says why, where the library's own pool is broken."""
    ours, theirs = ends
    with stealmesh.Mesh(workers=1) as alone:
        call = alone.submit(say_once, theirs, str(tmp_path / "pids"))
        with pytest.raises(stealmesh.CannotLoad, match="Connection is fetched once"):
            call.result(PATIENCE)
        assert heard(ours) == "once"
        assert alone.submit(same, 1).result(PATIENCE) == 1


def test_elsewhere_the_item_fails_by_name_and_its_worker_goes_on(
    ends: tuple[Any, Any], tmp_path: Path
) -> None:
    place = Place(tmp_path)
    try:
        workers = place.me()["worker_pids"]
        with pytest.raises(stealmesh.CannotLoad, match="only within a local mesh"):
            place.mesh.submit(say, ends[1], 1).result(PATIENCE)
        assert place.mesh.submit(same, 1).result(PATIENCE) == 1
        assert place.me()["worker_pids"] == workers
    finally:
        place.close()


SHARED = """
import multiprocessing

import stealmesh

counter = multiprocessing.Value("i", 0)
array = multiprocessing.Array("d", 3)
raw = multiprocessing.RawArray("d", 3)
lock = multiprocessing.Lock()
queue = multiprocessing.Queue()
event = multiprocessing.Event()
nested = {"locks": [multiprocessing.RLock()]}


def count():
    with counter.get_lock():
        counter.value += 1


def write():
    array[0] = 1.0


def write_raw():
    raw[0] = 1.0


def guarded():
    with lock:
        pass


def put():
    queue.put(1)


def say():
    event.set()


def inside():
    with nested["locks"][0]:
        pass


if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        for task in (count, write, write_raw, guarded, put, say, inside):
            try:
                print(mesh.submit(task).result())
            except stealmesh.CannotShip as refused:
                print(str(refused).partition("the global ")[2].partition(":")[0], "Manager" in str(refused))
"""


def test_globals_that_only_children_share_are_refused_by_name(tmp_path: Path) -> None:
    """Each worker made its own from the program's text: a lock that guarded nothing, a counter that stayed 0."""
    done = run(SHARED, tmp_path)
    names = ("counter", "array", "raw", "lock", "queue", "event", "nested")
    assert done.stdout.splitlines() == [f"'{name}' True" for name in names], done.stderr


def test_so_are_those_of_the_programs_modules(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(
        "import multiprocessing\n"
        "lock = multiprocessing.Lock()\n"
        "def guarded():\n"
        "    with lock:\n"
        "        return 1\n"
    )
    source = """
        import stealmesh
        import shared

        with stealmesh.Mesh(workers=1) as mesh:
            try:
                print(mesh.submit(shared.guarded).result())
            except stealmesh.CannotShip as refused:
                print("shared.lock" in str(refused), "Manager" in str(refused))
    """
    done = run(source, tmp_path)
    assert done.stdout == "True True\n", done.stderr


def test_shared_memory_goes_nowhere_as_a_copy(mesh: stealmesh.Mesh) -> None:
    """As an argument it did, and what the task wrote was lost. Plain ctypes travel as ever."""
    with pytest.raises(stealmesh.CannotShip, match="through inheritance"):
        mesh.submit(same, multiprocessing.RawArray("d", 3)).result(PATIENCE)
    assert mesh.submit(same, ctypes.c_double(2.5)).result(PATIENCE).value == 2.5


def test_a_class_of_that_name_is_not_taken_for_it() -> None:
    class Connection:
        pass

    Connection.__module__ = "multiprocessing.connection"
    assert handed_over(Connection()) is NotImplemented


def test_a_descendant_is_pickled_in_its_own_way() -> None:
    class Own(Connection):
        def __reduce__(self) -> Any:
            return str, ("own",)

    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        own = Own(os.dup(theirs.fileno()))
        with own:
            assert handed_over(own) is NotImplemented
            assert pickle.loads(pickle.dumps(own)) == "own"
