"""`stealmesh cancel` ends jobs of programs that run: what their threads see of it, and that they go on.

The command itself is in `tests/cli/test_looking.py`, the way of the message in `tests/sim/test_looks.py`.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from tests.patience import until

import stealmesh
from stealmesh_protocol.errors import NotAllowed, TaskStopped

pytestmark = pytest.mark.real


def waits_for(path: str) -> Any:
    """Runs until it is stopped."""
    Path(path).touch()
    threading.Event().wait()
    raise AssertionError


class Waiting:
    def wait(self, path: str) -> Any:
        return waits_for(path)


@pytest.fixture
def meshes() -> Iterator[tuple[stealmesh.Mesh, stealmesh.Mesh]]:
    """A program's mesh with two workers, and the same mesh as another program sees it."""
    mesh = stealmesh.Mesh(nodes=1, workers=2)
    try:
        with stealmesh.Mesh(mesh.address, key=mesh.key_file) as other:
            yield mesh, other
    finally:
        mesh._abandon()  # it would wait for calls that no test has ended


def the_job(mesh: stealmesh.Mesh) -> bytes:
    """Nodes hear of it with the program's next heartbeat."""
    (line,) = until(
        lambda: [line for line in mesh.status()["jobs"] if line["name"] == "the job"], "the job"
    )
    return bytes.fromhex(line["id"])


def ends_with(read: Callable[[], Any], *errors: type[BaseException]) -> None:
    with pytest.raises(errors):
        read()


def test_calls_that_run_are_stopped_and_those_that_wait_are_cancelled(
    meshes: tuple[stealmesh.Mesh, stealmesh.Mesh],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mesh, other = meshes
    view = mesh.options(name="the job")
    calls = [view.submit(waits_for, str(tmp_path / str(number))) for number in range(4)]
    until(lambda: len(list(tmp_path.iterdir())) == 2 and sum(c.running() for c in calls) == 2, "")
    ran = [call for call in calls if call.running()]
    assert other.looking.call_off(the_job(other))
    for call in calls:
        ends_with(call.result, TaskStopped if call in ran else CancelledError)
    assert len(list(tmp_path.iterdir())) == 2, "none of the others has begun"
    assert mesh.submit(operator.add, 1, 2).result() == 3, (
        "the workers are free, and the mesh goes on"
    )
    until(lambda: "job the job was cancelled from outside" in capsys.readouterr().err, "a word")


@pytest.mark.parametrize("kind", ["map", "reduce", "explore", "actor"])
def test_each_kind_of_job_ends(
    meshes: tuple[stealmesh.Mesh, stealmesh.Mesh], tmp_path: Path, kind: str
) -> None:
    mesh, other = meshes
    paths = [str(tmp_path / str(number)) for number in range(4)]
    view = mesh.options(name="the job")
    read: Callable[[], Any]
    if kind == "map":
        results = view.map(waits_for, paths)
        read = lambda: next(results)  # noqa: E731
    elif kind == "reduce":
        read = view.map_reduce(waits_for, paths, operator.add).result
    elif kind == "explore":
        read = view.explore(stealmesh.each(waits_for), paths, operator.add).result
    else:
        read = view.actor(Waiting).wait(paths[0]).result
    until(lambda: list(tmp_path.iterdir()), "it runs")
    assert other.looking.call_off(the_job(other))
    ends_with(read, CancelledError, TaskStopped)
    assert sum(mesh.map(operator.neg, range(100))) == -4950
    until(lambda: not other.looking.call_off(bytes(20)), "nobody has that job")


def test_a_submit_token_ends_no_job_of_others(
    meshes: tuple[stealmesh.Mesh, stealmesh.Mesh], tmp_path: Path
) -> None:
    from stealmesh.host.issuing import issued
    from stealmesh.host.security import load_key
    from stealmesh_protocol.passes import KeyRole

    mesh, _ = meshes
    call = mesh.options(name="the job").submit(waits_for, str(tmp_path / "0"))
    key = load_key(mesh.key_file)
    guest = issued(key, KeyRole.SUBMIT, "laptop")  # type: ignore[arg-type]
    with stealmesh.Mesh(mesh.address, key=guest) as other:
        until(lambda: call.running(), "it runs")
        with pytest.raises(NotAllowed, match="use the mesh key, or end that program"):
            other.looking.call_off(the_job(other))
        other.looking.refusal = None  # as a client of its own making would
        assert not other.looking.call_off(the_job(other))
        until(lambda: mesh.status()["counters"].get("rude-key-role"), "counted")
    assert call.running()
    assert call.stop()
