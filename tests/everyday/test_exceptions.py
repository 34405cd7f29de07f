"""A task's exception reaches the caller as its own type, with all it carries; or as a stand-in."""

from __future__ import annotations

import gc
import pickle
import threading
import urllib.error
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.everyday import value_tasks as tasks

import stealmesh
from stealmesh_protocol.errors import RemoteTraceback
from stealmesh_protocol.raised import bases_of, opened_exception, packed_exception, stand_in

pytestmark = pytest.mark.real

PATIENCE = 120


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


def raised(mesh: stealmesh.Mesh, kind: str) -> Any:
    future: stealmesh.Future[Any] = mesh.submit(tasks.raises, kind)
    with pytest.raises(BaseException) as caught:
        future.result(PATIENCE)
    assert future.exception() is caught.value
    return caught.value


@pytest.mark.parametrize("kind", ["falsy", "truthless"])
def test_nobody_asks_an_exception_for_its_truth(mesh: stealmesh.Mesh, kind: str) -> None:
    """Row 9: a false one gave None, one that raises ended the mesh."""
    error = raised(mesh, kind)
    assert type(error) in (tasks.Falsy, tasks.Truthless)
    with pytest.raises(type(error)):
        list(mesh.map(tasks.raises, [kind]))
    with pytest.raises(type(error)):
        mesh.map_reduce(tasks.raises, [kind], max).result(PATIENCE)
    job = mesh.launch(tasks.raises, [kind])
    assert [type(each) for each in job.results(PATIENCE, return_exceptions=True)] == [type(error)]


def test_nor_one_that_an_input_raised() -> None:
    """The job still knows it when the mesh goes, and must not ask it then either."""

    def items() -> Iterator[int]:
        yield 1
        raise tasks.Truthless("from an input")

    with stealmesh.Mesh(workers=1) as mesh:
        results = mesh.map(tasks.same, items())
        assert next(results) == 1
        with pytest.raises(tasks.Truthless):
            next(results)
        half_read = mesh.map(tasks.same, items())
        assert next(half_read) == 1
        mesh._link.close(stealmesh.MeshClosed("for the test"))
        with pytest.raises((tasks.Truthless, stealmesh.MeshClosed)):
            next(half_read)


WITH_A_LOCK: list[Any] = [[], threading.Lock()]
WAYS: dict[str, Callable[[stealmesh.Mesh], object]] = {
    "result": lambda mesh: mesh.submit(tasks.raises, "falsy").result(PATIENCE),
    "map": lambda mesh: list(mesh.map(tasks.raises, ["falsy"])),
    "gather": lambda mesh: mesh.gather([{"deep": mesh.submit(tasks.raises, "falsy")}]),
    "argument": lambda mesh: mesh.submit(len, threading.Lock()).result(PATIENCE),
    "function": lambda mesh: mesh.submit(threading.Lock().acquire).result(PATIENCE),
    "again": lambda mesh: [mesh.submit(len, each).result(PATIENCE) for each in WITH_A_LOCK],
}


class Local:
    """Weak references to it can be had."""


def returns_after(way: Callable[[stealmesh.Mesh], object], mesh: stealmesh.Mesh) -> Any:
    local = Local()
    try:
        way(mesh)
    except Exception:  # noqa: BLE001 - what it raises is other tests' business
        return weakref.ref(local)
    raise AssertionError("it raises nothing")


@pytest.mark.parametrize("way", WAYS)
def test_an_error_does_not_keep_the_callers_variables(mesh: stealmesh.Mesh, way: str) -> None:
    """An error has the frames that it came through. A future in one of these made a circle, and the Refs in the
    frames of the program stayed on the nodes until the collector came by."""
    gc.disable()
    try:
        assert returns_after(WAYS[way], mesh)() is None
    finally:
        gc.enable()


def test_a_constructor_of_its_own(mesh: stealmesh.Mesh) -> None:
    """Row 27: it was a TaskFailed, which `except TwoArguments` misses."""
    error = raised(mesh, "two arguments")
    assert type(error) is tasks.TwoArguments
    assert (error.code, error.text, str(error)) == (404, "raised", "404: raised")
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise TwoArguments(404" in error.__cause__.text


def test_http_errors(mesh: stealmesh.Mesh) -> None:
    """Row 27."""
    error = raised(mesh, "http")
    assert type(error) is urllib.error.HTTPError
    assert (error.code, error.reason, error.url) == (404, "not found", "http://nowhere")
    assert str(error) == "HTTP Error 404: not found"


def test_what_cannot_travel_is_left_behind_and_named(mesh: stealmesh.Mesh) -> None:
    """Row 27: one that holds a lock."""
    error = raised(mesh, "lock")
    assert (type(error), str(error), error.code) == (tasks.HoldsALock, "holds a lock", 7)
    assert "lock, a lock" in error.__notes__[0]
    error = raised(mesh, "lock in arguments")
    assert type(error) is tasks.LockInArguments
    assert error.args == ("holds a lock", "<a lock, left behind in the worker>")


@pytest.mark.parametrize(
    ("kind", "cls", "code"), [("slots", tasks.Slotted, 3), ("frozen", tasks.Frozen, 4)]
)
def test_unusual_classes(mesh: stealmesh.Mesh, kind: str, cls: type, code: int) -> None:
    error = raised(mesh, kind)
    assert (type(error), error.code) == (cls, code)


def test_one_that_says_wrongly_how_to_rebuild_it(mesh: stealmesh.Mesh) -> None:
    error = raised(mesh, "own reduce")
    assert (type(error), error.args) == (tasks.OwnReduce, ("says it wrongly",))


def test_those_of_python_keep_what_they_carry(mesh: stealmesh.Mesh) -> None:
    error = raised(mesh, "unicode")
    assert (type(error), error.object, error.start) == (UnicodeDecodeError, b"\xff", 0)
    error = raised(mesh, "os error")
    assert (type(error), error.errno, error.filename) == (FileNotFoundError, 2, "/nowhere/at/all")


def test_causes_contexts_notes_and_groups(mesh: stealmesh.Mesh) -> None:
    error = raised(mesh, "from")
    assert (type(error), error.__notes__) == (ValueError, ["a note"])
    assert (type(error.__cause__), error.__cause__.code) == (tasks.TwoArguments, 1)
    assert type(error.__cause__.__cause__) is RemoteTraceback
    error = raised(mesh, "context")
    assert (type(error.__context__), error.__context__.code) == (tasks.TwoArguments, 2)
    error = raised(mesh, "group")
    assert [type(each) for each in error.exceptions] == [tasks.TwoArguments, ValueError]
    assert error.exceptions[0].code == 3


def test_a_type_that_nobody_else_can_have(mesh: stealmesh.Mesh) -> None:
    """Row 27: else a subclass of both TaskFailed and its nearest type that can be had."""
    with pytest.raises(stealmesh.TaskFailed, match="of a class that stays here") as caught:
        mesh.submit(tasks.raises_a_local_class, 1).result(PATIENCE)
    assert isinstance(caught.value, tasks.TwoArguments)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, stealmesh.TaskFailed)
    assert isinstance(again, tasks.TwoArguments)
    assert str(again) == str(caught.value)


# ---------------------------------------------------------------- without a mesh


class Circular(Exception):
    def __init__(self, key: str) -> None:
        super().__init__("around", key)
        self.me = self
        self.__cause__ = self


class Large(Exception):
    def __init__(self, octets: int) -> None:
        super().__init__("large")
        self.load = bytes(octets)
        self.code = 1


class Opaque(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.lock = __import__("threading").Lock()

    def __str__(self) -> str:
        with self.lock:
            return "needs its lock to speak"


def test_one_that_leads_back_to_itself() -> None:
    there: Any = opened_exception(packed_exception(Circular("k")))
    assert there.me is there
    assert there.__cause__ is there


def test_a_large_one_leaves_its_load_behind() -> None:
    there: Any = opened_exception(packed_exception(Large(5_000_000)))
    assert (type(there), there.code, hasattr(there, "load")) == (Large, 1, False)


def test_one_that_cannot_speak_without_what_stays_behind_has_a_stand_in() -> None:
    error = Opaque(1, 2)
    assert packed_exception(error) == b""
    there = stand_in("Opaque: needs its lock to speak", tuple(bases_of(type(error))))
    assert isinstance(there, Opaque)
    assert isinstance(there, stealmesh.TaskFailed)
    assert str(there) == "Opaque: needs its lock to speak"


@pytest.mark.parametrize("name", ["no.such.module:Error", "builtins:NoSuch", "os:path", "::", ""])
def test_a_stand_in_for_what_is_not_here(name: str) -> None:
    assert type(stand_in("text", (name,))) is stealmesh.TaskFailed


@pytest.mark.parametrize(
    "base", [OSError, KeyError, SystemExit, UnicodeDecodeError, ExceptionGroup]
)
def test_a_stand_in_for_every_layout(base: type[BaseException]) -> None:
    there = stand_in("text", (f"builtins:{base.__name__}",))
    assert isinstance(there, stealmesh.TaskFailed)
    assert str(there) == "text"


def test_a_stand_in_for_a_group_is_a_group() -> None:
    """`except*` takes groups apart, so one without members would not be caught there."""
    there: Any = stand_in("text", ("no.such.module:Group", "builtins:ExceptionGroup"))
    assert isinstance(there, ExceptionGroup)
    assert isinstance(there, stealmesh.TaskFailed)
    assert [type(each) for each in there.exceptions] == [stealmesh.TaskFailed]
    again = pickle.loads(pickle.dumps(there))
    assert (type(again), str(again)) == (type(there), "text")
