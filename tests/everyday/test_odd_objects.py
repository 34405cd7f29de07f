"""A task's exception or result may answer anything to anybody who asks it. The mesh does not ask.

Each such object ended a worker process three times, hung it, or hid the task's error behind another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.everyday import odd_tasks as tasks

import stealmesh
from stealmesh_protocol.raised import PART_OCTETS_MAX, opened_exception, packed_exception

pytestmark = pytest.mark.real

PATIENCE = 60


@pytest.fixture(scope="module")
def mesh() -> Iterator[stealmesh.Mesh]:
    with stealmesh.Mesh(workers=1) as running:
        yield running


def caught(future: Any) -> BaseException:
    """Python's own way to catch it asks nothing."""
    try:
        future.result(PATIENCE)
    except BaseException as error:  # noqa: BLE001 - some are no Exception
        return error
    raise AssertionError("it raises nothing")


def is_one(error: BaseException, kind: type[BaseException]) -> bool:
    return issubclass(type(error), kind) and not issubclass(type(error), stealmesh.WorkerDied)


@pytest.mark.parametrize("kind", tasks.RAISED)
def test_raised(mesh: stealmesh.Mesh, kind: str) -> None:
    cls = tasks.RAISED[kind]
    assert is_one(caught(mesh.submit(tasks.raises, kind)), cls)
    assert is_one(caught(mesh.submit(tasks.raises_on_the_loop, kind)), cls)
    patient = mesh.options(retries=1, retry_on=(ValueError, tasks.NoInstances))
    assert is_one(caught(patient.submit(tasks.raises, kind)), cls)
    assert is_one(caught(mesh.map_reduce(tasks.raises, [kind], max)), cls)
    assert type(caught(mesh.submit(tasks.raises_from, kind))) is tasks.Plain
    try:
        mesh.gather([mesh.submit(tasks.raises, kind)])
    except BaseException as error:  # noqa: BLE001 - some are no Exception
        is_its_own = is_one(error, cls)
    assert is_its_own


@pytest.mark.parametrize("kind", tasks.RAISED)
def test_raised_in_a_map(mesh: stealmesh.Mesh, kind: str) -> None:
    job = mesh.options(chunksize=3).launch(tasks.raises_if_named, ["", kind, ""])
    first, error, last = job.results(PATIENCE, return_exceptions=True)
    assert (first, last) == ("", "")
    assert is_one(error, tasks.RAISED[kind])
    assert mesh.submit(int, 1).result(PATIENCE) == 1


@pytest.mark.parametrize("kind", tasks.RETURNED)
def test_returned(mesh: stealmesh.Mesh, kind: str) -> None:
    named = type.__repr__(tasks.RETURNED[kind]).split("'")[1]
    for returns in (tasks.returns, tasks.returns_on_the_loop):
        with pytest.raises(stealmesh.CannotShip, match=named):
            mesh.submit(returns, kind).result(PATIENCE)
    with pytest.raises(stealmesh.CannotShip, match=named):
        mesh.options(keep=True).submit(tasks.returns, kind).result(PATIENCE)


@pytest.mark.parametrize("kind", tasks.RETURNED)
def test_returned_among_others(mesh: stealmesh.Mesh, kind: str) -> None:
    job = mesh.options(chunksize=3).launch(tasks.returns, [None, kind, None])
    first, odd, last = job.results(PATIENCE, return_exceptions=True)
    assert (first, type(odd), last) == (1, stealmesh.CannotShip, 1)


def test_what_can_travel_does_whatever_else_it_answers(mesh: stealmesh.Mesh) -> None:
    assert type(mesh.submit(tasks.returns_an_awkward_one).result(PATIENCE)) is tasks.Awkward
    future = mesh.submit(tasks.returns_an_awkward_one_on_the_loop)
    assert type(future.result(PATIENCE)) is tasks.Awkward
    future = mesh.submit(tasks.returns_what_is_like_an_array)
    assert type(future.result(PATIENCE)) is tasks.LikeAnArray
    assert mesh.submit(tasks.takes, tasks.Awkward()).result(PATIENCE) == 1


def test_gathered_beside_a_future(mesh: stealmesh.Mesh) -> None:
    odd = tasks.ValueWithoutClass()
    gathered = mesh.gather([odd, mesh.submit(int, 1)])
    assert gathered[0] is odd
    assert gathered[1] == 1


def test_as_an_argument_it_is_refused_by_name(mesh: stealmesh.Mesh) -> None:
    for value in (tasks.ValueWithoutClass(), tasks.NoClass(), tasks.ValueWithoutAttributes()):
        with pytest.raises(stealmesh.CannotShip):
            mesh.submit(tasks.takes, value).result(PATIENCE)
        with pytest.raises(stealmesh.CannotShip, match="item 0 of"):
            list(mesh.map(tasks.takes, [value]))


@pytest.mark.parametrize("kind", tasks.RAISED)
def test_raised_inside_a_task_and_by_an_actor(mesh: stealmesh.Mesh, kind: str) -> None:
    cls = tasks.RAISED[kind]
    assert is_one(caught(mesh.submit(tasks.raises_inside, kind)), cls)
    actor: Any = mesh.actor(tasks.Actor)
    assert is_one(caught(actor.raises(kind)), cls)
    assert actor.counts().result(PATIENCE) == 1


@pytest.mark.parametrize("kind", tasks.RETURNED)
def test_returned_inside_a_task_and_by_an_actor(mesh: stealmesh.Mesh, kind: str) -> None:
    named = type.__repr__(tasks.RETURNED[kind])
    assert mesh.submit(tasks.returns_inside, kind).result(PATIENCE) == named
    actor: Any = mesh.actor(tasks.Actor)
    with pytest.raises(stealmesh.CannotShip):
        actor.returns(kind).result(PATIENCE)
    assert actor.counts().result(PATIENCE) == 1


# ---------------------------------------------------------------- exceptions that hold exceptions


@pytest.mark.parametrize("kind", tasks.HOLDING)
def test_those_that_hold_others(mesh: stealmesh.Mesh, kind: str) -> None:
    """One that holds itself kept its worker busy for ever, and with it all tasks behind it."""
    assert type(caught(mesh.submit(tasks.raises_one_that_holds, kind))) is tasks.Plain
    assert mesh.submit(int, 1).result(PATIENCE) == 1


def test_a_circle_is_a_circle_again() -> None:
    one: Any = opened_exception(packed_exception(tasks.of_itself()))
    assert one.args == (one,)
    one = opened_exception(packed_exception(tasks.of_each_other()))
    assert one.args[0].args == (one,)


def test_a_group_with_a_constructor_of_its_own(mesh: stealmesh.Mesh) -> None:
    """It was a TaskFailed that neither `except Coded` nor `except*` caught."""
    seen: list[Any] = []
    try:
        mesh.submit(tasks.raises_coded).result(PATIENCE)
    except* ValueError as group:
        seen.append(group.exceptions)
    except* TypeError as group:
        seen.append(group.exceptions)
    assert [str(members[0]) for members in seen] == ["1", "2"]
    error: Any = caught(mesh.submit(tasks.raises_coded))
    assert (type(error), error.message, error.code) == (tasks.Coded, "several", 7)
    assert error.args[2] == 7


def test_members_that_cannot_travel_leave_the_group_whole(mesh: stealmesh.Mesh) -> None:
    error: Any = caught(mesh.submit(tasks.raises_coded_with_odd_members))
    assert (type(error), error.code) == (tasks.Coded, 7)
    kinds = (tasks.NoEqualClass, tasks.Plain, ValueError)
    assert all(map(issubclass, map(type, error.exceptions), kinds))


def test_a_long_message_is_whole_or_says_what_is_missing(mesh: stealmesh.Mesh) -> None:
    """It was "<a str, left behind in the worker>"."""
    short = PART_OCTETS_MAX // 4
    assert str(caught(mesh.submit(tasks.raises_a_long_message, short))) == "é" * short
    text = str(caught(mesh.submit(tasks.raises_a_long_message, 10**6)))
    kept, _, rest = text.partition("... (")
    assert set(kept) == {"é"}
    assert rest == f"{10**6 - len(kept):,} more characters were left behind in the worker)"
    assert len(kept) > PART_OCTETS_MAX // 3
    error = caught(mesh.submit(tasks.raises_many_long_messages, 10**6, 20))
    assert type(error) is ValueError
    assert all("more characters were left behind" in each for each in error.args)
