"""Settings of the interpreter that a program makes hold in its tasks, as in the children of the standard pools.

`getcontext().prec = 50` at the head of a program, and tasks computed with 28 digits; a recursion limit, a locale,
`warnings.simplefilter("error")`, `logging.basicConfig(level=INFO)`, `numpy.seterr` were lost as well.
"""

from __future__ import annotations

import decimal
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from tests.everyday.programs import run
from tests.hostile.place import Place

import stealmesh
from stealmesh.shipping import setting_kinds, settings

pytestmark = pytest.mark.real

PATIENCE = 60.0
THIRDS = {9: "0.333333333", 28: "0." + 28 * "3", 50: "0." + 50 * "3"}


@pytest.fixture(scope="module")
def mesh() -> Any:
    with stealmesh.Mesh(workers=1) as running:
        yield running


def third(_: object = None) -> str:
    return str(Decimal(1) / 3)


async def third_of_a_coroutine() -> str:
    return third()


def third_of_a_child() -> Any:
    return stealmesh.here().submit(third).result()


def thirds_of_children() -> Any:
    return list(stealmesh.here().map(third, range(3)))


def busy_third(seconds: float) -> str:
    time.sleep(seconds)
    return third()


class Divider:
    def third(self) -> str:
        return third()


def warned() -> str:
    try:
        warnings.warn("of old", FutureWarning, stacklevel=1)
    except FutureWarning:
        return "raised"
    return "shown"


def sets_its_own() -> int:
    decimal.getcontext().prec = 9
    return decimal.getcontext().prec


@pytest.mark.parametrize("precision", [50, 9, 28])
@pytest.mark.parametrize(
    "way", ["submit", "map", "child", "children", "coroutine", "actor", "reduce", "builtin"]
)
def test_digits_are_the_programs(mesh: stealmesh.Mesh, way: str, precision: int) -> None:
    calls: dict[str, Any] = {
        "submit": lambda: [mesh.submit(third).result(PATIENCE)],
        "map": lambda: list(mesh.map(third, range(5))),
        "child": lambda: [mesh.submit(third_of_a_child).result(PATIENCE)],
        "children": lambda: mesh.submit(thirds_of_children).result(PATIENCE),
        "coroutine": lambda: [mesh.submit(third_of_a_coroutine).result(PATIENCE)],
        "actor": lambda: [mesh.actor(Divider).third().result(PATIENCE)],
        "reduce": lambda: [mesh.map_reduce(third, range(5), max).result(PATIENCE)],
        "builtin": lambda: [str(mesh.submit(divmod, Decimal(1), Decimal(3)).result(PATIENCE)[0] + Decimal(1) / 3)],
    }  # fmt: skip
    with decimal.localcontext() as here:
        here.prec = precision
        assert set(calls[way]()) == {THIRDS[precision]}


def test_a_function_of_the_library_has_them_too(mesh: stealmesh.Mesh) -> None:
    for precision in (50, 28):
        with decimal.localcontext() as here:
            here.prec = precision
            found = mesh.submit(Decimal.sqrt, Decimal(2)).result(PATIENCE)
            assert found == Decimal(2).sqrt()


def test_a_thread_that_has_set_nothing_counts_as_the_main_thread(mesh: stealmesh.Mesh) -> None:
    """Callbacks submit, and libraries from threads of their own."""
    found: list[str] = []

    def submit() -> None:
        found.append(mesh.submit(third).result(PATIENCE))
        found.append(mesh.submit(lambda: third()).result(PATIENCE))  # which this thread packs

    for precision in (50, 28):
        with decimal.localcontext() as here:
            here.prec = precision
            submit()
            thread = threading.Thread(target=submit)
            thread.start()
            thread.join(PATIENCE)
    assert found == 4 * [THIRDS[50]] + 4 * [THIRDS[28]]


def test_a_callback_submits_with_what_its_call_began(mesh: stealmesh.Mesh) -> None:
    following: Future[Any] = Future()

    def submit(_: object) -> None:
        following.set_result(mesh.submit(third))

    with decimal.localcontext() as here:
        here.prec = 50
        mesh.submit(third).add_done_callback(submit)
        assert following.result(PATIENCE).result(PATIENCE) == THIRDS[50]


def test_each_thread_submits_with_its_own(mesh: stealmesh.Mesh) -> None:
    assert mesh.submit(third).result(PATIENCE) == THIRDS[28]
    found: dict[int, set[str]] = {}

    def submit(precision: int) -> None:
        decimal.getcontext().prec = precision
        found[precision] = {mesh.submit(third).result(PATIENCE) for _ in range(10)}

    threads = [threading.Thread(target=submit, args=(each,)) for each in THIRDS]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert found == {precision: {text} for precision, text in THIRDS.items()}


def busy_thirds_of_children() -> list[tuple[int, str]]:
    return list(stealmesh.here().map(busy_third_and_where, [0.2] * 6))


def busy_third_and_where(seconds: float) -> tuple[int, str]:
    return os.getpid(), busy_third(seconds)


def test_children_that_go_elsewhere_have_them() -> None:
    with decimal.localcontext() as here, stealmesh.Mesh(workers=2) as two:
        here.prec = 50
        found = two.submit(busy_thirds_of_children).result(PATIENCE)
    assert {text for _, text in found} == {THIRDS[50]}, found


def test_tasks_side_by_side_have_them() -> None:
    with decimal.localcontext() as here, stealmesh.Mesh(workers=1, threads=3) as side:
        here.prec = 50
        assert set(side.map(busy_third, [0.05] * 6)) == {THIRDS[50]}


def test_what_a_task_sets_is_its_workers_until_the_program_says_another(
    mesh: stealmesh.Mesh,
) -> None:
    """As with a module's variables: a worker is told once."""
    assert mesh.submit(sets_its_own).result(PATIENCE) == 9
    with decimal.localcontext() as here:
        here.prec = 50
        assert mesh.submit(third).result(PATIENCE) == THIRDS[50]
    assert mesh.submit(third).result(PATIENCE) == THIRDS[28]


def test_an_initializer_has_the_last_word() -> None:
    with decimal.localcontext() as here:
        here.prec = 50
        with stealmesh.Mesh(workers=1, initializer=sets_its_own) as own:
            assert own.submit(third).result(PATIENCE) == THIRDS[9]


def test_filters_of_warnings_are_as_they_are_at_the_submit(mesh: stealmesh.Mesh) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert mesh.submit(warned).result(PATIENCE) == "raised"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert mesh.submit(warned).result(PATIENCE) == "shown"
        warnings.filterwarnings("error", "of OLD", FutureWarning)
        assert mesh.submit(warned).result(PATIENCE) == "raised"


@pytest.fixture
def timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(3.5)
    yield
    socket.setdefaulttimeout(before)


def test_a_timeout_comes_and_goes(mesh: stealmesh.Mesh, timeout: None) -> None:
    assert mesh.submit(socket.getdefaulttimeout).result(PATIENCE) == 3.5
    socket.setdefaulttimeout(None)
    assert mesh.submit(socket.getdefaulttimeout).result(PATIENCE) is None


def test_on_another_node_as_well(tmp_path: Path) -> None:
    place = Place(tmp_path)
    try:
        with decimal.localcontext() as here:
            here.prec = 50
            assert place.mesh.submit(third).result(PATIENCE) == THIRDS[50]
        with stealmesh.Mesh(place.address, key=place.key) as another:
            assert another.submit(third).result(PATIENCE) == THIRDS[28]
    finally:
        place.close()


PROGRAM = """
import locale
import logging
import os
import sys

import numpy

import stealmesh

sys.setrecursionlimit(5000)
sys.set_int_max_str_digits(10_000)
locale.setlocale(locale.LC_ALL, "C.UTF-8")
logging.basicConfig(level=logging.INFO, format="<%(levelname)s %(message)s>")
logging.getLogger("quiet").setLevel(logging.ERROR)
numpy.seterr(divide="raise")
numpy.set_printoptions(precision=2)


def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)


def divided():
    try:
        numpy.float64(1) / numpy.float64(0)
    except FloatingPointError:
        return "raised"


def look():
    logging.info("from a task")
    logging.getLogger("quiet").warning("not this")
    return [
        deep(3000),
        len(str(10**6000)),
        locale.setlocale(locale.LC_NUMERIC),
        divided(),
        str(numpy.array([1.23456])),
        logging.getLogger().level,
        len(logging.getLogger().handlers),
    ]


if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        print(mesh.submit(look).result())
        logging.getLogger().setLevel(logging.WARNING)
        numpy.seterr(divide="ignore")
        found = mesh.submit(look).result()
        print(found[3], *found[-2:])
"""


def test_what_a_program_sets_at_its_head(tmp_path: Path) -> None:
    done = run(PROGRAM, tmp_path)
    first, second = done.stdout.splitlines()
    assert first == "[3000, 6001, 'C.UTF-8', 'raised', '[1.23]', 20, 1]", done.stderr
    assert second == "None 30 1"
    assert done.stderr.count("<INFO from a task>") == 1
    assert "not this" not in done.stderr


BACK_AND_FORTH = """
import decimal
import stealmesh

def third():
    return len(str(decimal.Decimal(1) / 3))

def digits():
    return decimal.getcontext().prec

if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        found = []
        for precision in (28, 50, 28):
            decimal.getcontext().prec = precision
            found += [mesh.submit(third).result() - 2, mesh.submit(digits).result()]
        print(found)
"""


def test_a_program_that_has_nothing_of_its_own_any_more_says_so(tmp_path: Path) -> None:
    done = run(BACK_AND_FORTH, tmp_path)
    assert done.stdout == "[28, 28, 50, 50, 28, 28]\n", done.stderr


# ---------------------------------------------------------------- without a mesh


def test_a_program_that_sets_nothing_says_nothing(tmp_path: Path) -> None:
    done = run("from stealmesh.shipping import settings\nprint(settings.taken())", tmp_path)
    assert done.stdout == "None\n", done.stderr


@pytest.mark.parametrize("name", setting_kinds.KINDS)
def test_what_is_read_can_be_made(name: str) -> None:
    kind = setting_kinds.KINDS[name]
    before = kind.now()
    kind.put(before)
    assert kind.now() == before


CHANGES: dict[str, Callable[[], Any]] = {
    "precision": lambda: setattr(decimal.getcontext(), "prec", 30),
    "rounding": lambda: setattr(decimal.getcontext(), "rounding", decimal.ROUND_UP),
    "trap": lambda: decimal.getcontext().traps.__setitem__(decimal.Inexact, True),
    "filter": lambda: warnings.simplefilter("ignore", UserWarning),
    "recursion": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7),
    "timeout": lambda: socket.setdefaulttimeout(1.25),
    "level": lambda: logging.getLogger().setLevel(logging.CRITICAL),
    "errors of numpy": lambda: numpy.seterr(over="raise"),
    "handler": lambda: logging.getLogger().addHandler(logging.NullHandler()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_submit_sees_the_change(change: str) -> None:
    root, timeout = logging.getLogger(), socket.getdefaulttimeout()
    level, handlers, errors = root.level, list(root.handlers), numpy.geterr()
    with decimal.localcontext(), warnings.catch_warnings():
        seen = settings.SettingsSeen()
        assert seen.still()
        CHANGES[change]()
        still = seen.still()
    socket.setdefaulttimeout(timeout)
    root.setLevel(level)
    numpy.seterr(**errors)
    root.handlers[:] = handlers
    assert not still


def test_a_level_that_a_logger_has_no_more_is_gone() -> None:
    kind, logger = setting_kinds.KINDS["logging"], logging.getLogger("stealmesh.tests.leveled")
    level, disabled, named, shown = kind.now()
    kind.put([level, disabled, {**named, logger.name: logging.ERROR}, shown])
    assert logger.level == logging.ERROR
    kind.put([level, disabled, named, shown])
    assert logger.level == logging.NOTSET


def test_a_recursion_limit_is_never_lowered() -> None:
    """Tasks inside tasks may run on it (`nested/family.py`)."""
    before = sys.getrecursionlimit()
    setting_kinds.KINDS["recursion limit"].put(before - 100)
    assert sys.getrecursionlimit() == before


def test_what_the_program_leaves_again_is_what_the_worker_had(
    monkeypatch: pytest.MonkeyPatch, timeout: None
) -> None:
    """And not what a fresh process has: its variables, or its flags, may say something else."""
    monkeypatch.setattr(settings, "_told", {})
    monkeypatch.setattr(settings, "_began", {})
    settings.put(msgspec.msgpack.encode({"socket timeout": [1.0]}))
    assert socket.getdefaulttimeout() == 1.0
    settings.put(msgspec.msgpack.encode({}))
    assert socket.getdefaulttimeout() == 3.5


def test_a_locale_that_a_machine_has_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    kind = setting_kinds.KINDS["locale"]
    before = kind.now()
    kind.put({"LC_TIME": "xx_XX.UTF-8"})
    assert "'xx_XX.UTF-8'" in capsys.readouterr().err
    assert kind.now() == before


def test_what_is_not_known_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of a later version has more kinds."""
    monkeypatch.setattr(settings, "_told", {})
    settings.put(b"\x81\xa7another\x01")
    assert settings._told == {"another": 1}
