"""Every error survives the way between processes with all that it carries."""

import concurrent.futures
import copy
import inspect
import pickle

import cloudpickle
import pytest

from stealmesh_protocol import errors
from stealmesh_protocol.errors import (
    REMEDIES,
    ActorDied,
    CannotLoad,
    CannotShip,
    CannotStart,
    Defer,
    JobLost,
    JobRefused,
    JoinRefused,
    LocalProtocolError,
    MeshClosed,
    MeshError,
    NotAllowed,
    NotRegistered,
    OtherVersionWarning,
    ProtocolError,
    RemoteProtocolError,
    RemoteTraceback,
    ResourcesMissing,
    Severity,
    StoreFull,
    TaskFailed,
    TaskOutOfMemory,
    TaskStopped,
    TaskTimeout,
    ValueLost,
    WorkerDied,
)

ONE_OF_EACH = [
    MeshError("text"),
    TaskFailed("ValueError: x"),
    WorkerDied("died", ["signal 11", "signal 9"]),
    ActorDied("died", ["signal 9"]),
    TaskTimeout("slow"),
    TaskOutOfMemory("too much"),
    TaskStopped("stopped"),
    Defer(2.5),
    CannotShip("no", "value.lock (a lock)"),
    CannotLoad("no"),
    ResourcesMissing("nobody has GPU=1"),
    ValueLost("its program is gone", "a0b1.5"),
    StoreFull("10 of 10 octets are taken"),
    NotRegistered("squares"),
    JobLost([(0, 5), (7, 9)], "ab12"),
    JobLost([(0, 5)], "ab12", "nobody has them"),
    CannotStart("no file descriptors"),
    JobRefused("there is no room"),
    MeshClosed("closed"),
    NotAllowed("this token only looks"),
    JoinRefused("version", "too old"),
    JoinRefused("odd", "text", "do this"),
    ProtocolError("reason", "text"),
    LocalProtocolError("size", "too much"),
    RemoteProtocolError("kind", "text", Severity.DROP),
    RemoteTraceback("Traceback"),
    OtherVersionWarning("numpy"),
]


def test_none_is_forgotten() -> None:
    classes = {
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    }
    assert {type(error) for error in ONE_OF_EACH} == classes - {Severity}


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_pickling_keeps_everything(error: Exception) -> None:
    ways = (
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(2, 6)),
        lambda e: pickle.loads(cloudpickle.dumps(e)),
        copy.copy,
        copy.deepcopy,
    )
    error.add_note("a note")
    for way in ways:
        there = way(error)
        assert type(there) is type(error)
        assert (there.args, str(there), vars(there)) == (error.args, str(error), vars(error))
    error.__notes__.clear()


def test_the_family() -> None:
    assert issubclass(TaskTimeout, TimeoutError)
    assert issubclass(MeshClosed, concurrent.futures.BrokenExecutor)
    others = (RemoteTraceback, OtherVersionWarning)
    assert all(isinstance(e, MeshError) for e in ONE_OF_EACH if type(e) not in others)


def test_what_they_say() -> None:
    assert "[0, 5), [7, 9)" in str(JobLost([(0, 5), (7, 9)]))
    assert "and 92 more" in str(JobLost([(i, i + 1) for i in range(100)]))
    assert JobLost([(0, 5)]).missing == [(0, 5)]
    for code, remedy in REMEDIES.items():
        assert JoinRefused(code).remedy == remedy
        assert remedy in str(JoinRefused(code))
    assert JoinRefused("who knows").remedy
    assert "squares" in str(NotRegistered("squares"))
