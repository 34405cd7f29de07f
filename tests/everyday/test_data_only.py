"""Data-only mode: registered functions on plain data, and no pickle in any process, in either direction.

Each process of the mesh writes down what it does with pickle: a hook that Python calls before a pickle names a
class or function, and counters in front of `pickle.loads` and `pickle.dumps`. The same program in the usual mode
shows that these see pickles where there are some.
"""

from __future__ import annotations

import functools
import json
import operator
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.everyday.running import PATIENCE_SECONDS, environment, write
from tests.everyday.test_passed_over import Mesh

import stealmesh
from stealmesh import registered
from stealmesh.client.by_name import NO_CODE
from stealmesh.examples import primes, uts
from stealmesh.functions import Shipped, Unchanging
from stealmesh.tasks import Each, RetryOn, Star
from stealmesh_protocol import values
from stealmesh_protocol.data_only import RUNTIME
from stealmesh_protocol.errors import CannotLoad, CannotShip, NotRegistered, RemoteProtocolError
from stealmesh_protocol.ids import digest_of

SPY = """
import os, pickle, sys

def tell(what):
    with open(os.environ["SPY"], "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

tell("began")
sys.addaudithook(lambda event, args: tell(f"{event} {args}") if event == "pickle.find_class" else None)

def counted(function):
    def call(*args, **kwargs):
        tell(function.__name__)
        return function(*args, **kwargs)
    return call

pickle.loads, pickle.dumps = counted(pickle.loads), counted(pickle.dumps)
"""

TOOLS = """
import os
import numpy
import stealmesh

def who(*_): return os.getpid()
def sizes(array): return int(array.sum()), array * 2
def fails(kind): raise {"value": ValueError, "own": Own}[kind]("bad", 3)
def spread(n): return n, [n - 1, n - 1] if n else []
def children(n):
    with stealmesh.here() as mesh:
        return sum(mesh.map(abs, range(-n, 0))) + mesh.submit(who, [1]).result() * 0
def objects(n): return [object()] if n == 3 else n
class Own(LookupError): pass
def _hidden(): return 1
"""

PROGRAM = """
import functools, json, operator, sys
import numpy
import stealmesh, tools
from stealmesh.examples import primes, uts

def outcome(future):
    try:
        return future.result(60)
    except Exception as error:
        return [type(error).__name__, [k.__name__ for k in type(error).__mro__], str(error), str(error.__cause__)]

if __name__ == "__main__":
    modules = [tools, uts, "stealmesh.examples.primes"] if sys.argv[1] == "data" else None
    told = {}
    with stealmesh.Mesh(nodes=2, workers=1, functions=modules) as mesh:
        tree = uts.TREES["T1-d7"]
        visit = functools.partial(uts.visit_tree, "T1-d7")
        told["uts"] = mesh.explore(visit, [uts.root(tree)], uts.combine_counts).result()
        told["primes"] = mesh.map_reduce(primes.is_prime, range(10**5), operator.add).result()
        told["sieve"] = mesh.map_reduce(stealmesh.vectorized(primes.count_primes), range(10**6), operator.add).result()
        told["listed"] = sum(mesh.map(primes.is_prime, [*range(1000)]))
        told["pairs"] = list(mesh.map(operator.add, [1, 2], [3, 4]))
        told["array"] = [type(v).__name__ for v in mesh.submit(tools.sizes, numpy.arange(5)).result()]
        told["large"] = mesh.submit(tools.sizes, numpy.ones(100_000)).result()[0]
        told["input"] = mesh.submit(operator.add, mesh.submit(operator.add, 1, 2), 4).result()
        told["nested"] = mesh.submit(tools.children, 4).result()
        told["each"] = mesh.explore(stealmesh.each(tools.spread), [3], operator.add).result()
        told["durable"] = mesh.launch(primes.is_prime, range(1000), operator.add).result()
        told["durable items"] = list(mesh.launch(primes.is_prime, [2, 3, 4]).results())
        told["pids"] = sorted(set(mesh.map(tools.who, range(2000))))
        if modules:
            told["value"] = outcome(mesh.submit(tools.fails, "value"))
            told["own"] = outcome(mesh.submit(tools.fails, "own"))
            told["lambda"] = outcome(mesh.submit(lambda: 1))
            told["object"] = outcome(mesh.submit(tools.who, object()))
            told["object array"] = outcome(mesh.submit(tools.who, numpy.array([None])))
            told["object back"] = outcome(mesh.submit(tools.objects, 3))
            for name, call in {
                "scatter": lambda: mesh.scatter([1]),
                "actor": lambda: mesh.actor(tools.Own),
                "another": lambda: stealmesh.Mesh(),
                "retry_on": lambda: mesh.options(retries=1, retry_on=tools.Own).map(tools.who, [1]),
                "ship": lambda: mesh.options(ship=["tools"]).map(tools.who, [1]),
            }.items():
                try:
                    told[name] = repr(call())
                except (stealmesh.MeshError, ValueError) as error:
                    told[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(told))
"""


def run(directory: Path, mode: str) -> tuple[dict[str, Any], list[str]]:
    """What the program tells, and what its processes did with pickle."""
    write(directory, program=PROGRAM, tools=TOOLS, spy__sitecustomize=SPY)
    surroundings = environment()
    surroundings["PYTHONPATH"] += f":{directory / 'spy'}"
    spied = directory / "spied"
    done = subprocess.run(
        [sys.executable, "program.py", mode],
        cwd=directory,
        env={**surroundings, "SPY": str(spied)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), spied.read_text().splitlines()


RIGHT = {
    "uts": list(uts.TREES["T1-d7"].expected or ()), "primes": primes.PI[10**5], "sieve": primes.PI[10**6],
    "listed": 168, "pairs": [4, 6], "array": ["int", "ndarray"], "large": 100_000, "input": 7, "nested": 10,
    "each": 11, "durable": 168, "durable items": [True, True, False],
}  # fmt: skip


@pytest.mark.real
def test_nothing_is_pickled_or_unpickled_in_any_process(tmp_path: Path) -> None:
    told, spied = run(tmp_path, "data")
    assert {name: told[name] for name in RIGHT} == RIGHT
    began = {line.split()[0] for line in spied if line.endswith("began")}
    assert len(began) >= 1 + 2 + 2, "the program, two nodes and two fork servers"
    assert [line for line in spied if not line.endswith("began")] == []
    assert_refusals(told)


def assert_refusals(told: dict[str, Any]) -> None:
    name, kinds, text, cause = told["value"]
    assert (name, text) == ("ValueError", "('bad', 3)")
    assert "this ran on node" in cause
    name, kinds, text, cause = told["own"]
    assert {"TaskFailed", "LookupError"} <= set(kinds)
    assert text == "Own: ('bad', 3)"
    assert told["lambda"][0] == "NotRegistered"
    assert "--functions" in told["lambda"][2]
    assert told["object"][0] == "CannotShip"
    assert "value[0][0] is a object" in told["object"][2]
    assert "dtype object" in told["object array"][2]
    assert told["object back"][0] == "CannotShip"
    assert "object" in told["object back"][2]
    for what in ("scatter", "actor", "retry_on", "ship"):
        assert told[what].startswith("CannotShip: "), told[what]
    assert told["another"].startswith("ValueError: functions: ")


@pytest.mark.slow
@pytest.mark.real
def test_the_spy_sees_pickles_in_the_usual_mode(tmp_path: Path) -> None:
    told, spied = run(tmp_path, "code")
    assert {name: told[name] for name in RIGHT} == RIGHT
    done = {line.split()[1] for line in spied}
    assert {"loads", "dumps", "pickle.find_class"} <= done
    worker = {line.split()[0] for line in spied if "pickle.find_class" in line}
    assert worker & set(map(str, told["pids"])), "also in workers"


# ---------------------------------------------------------------- beside programs that send code


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.close()


@pytest.mark.real
def test_a_program_that_sends_code_is_told_so_or_passes_over_the_node(mixed: Mesh) -> None:
    """At once: no node that comes could help, other than one of the other kind."""
    mixed.node("data", functions=["stealmesh.examples.primes"])
    mesh = mixed.program()
    reduced = mesh.map_reduce(lambda n: n, range(3), operator.add)
    with pytest.raises(NotRegistered, match="--functions") as caught:
        mesh.submit(primes.is_prime, 7).result(PATIENCE_SECONDS)
    assert "1 node runs data-only" in str(caught.value)
    assert type(reduced.exception(PATIENCE_SECONDS)) is NotRegistered
    mixed.node("code")
    mixed.program(nodes=2)
    assert sum(mesh.map(lambda n: n + 1, range(500))) == 500 * 501 // 2
    assert mixed.status()["data"]["executed"] == 0


class Bomb:
    """Opening its pickle leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.real
def test_a_program_that_poses_as_data_only_has_nothing_opened(mixed: Mesh, tmp_path: Path) -> None:
    """It says the right mode, and sends pickles all the same: as the function, and as its argument."""
    mixed.node("data", functions=["stealmesh.examples.primes"])
    mesh = mixed.program()
    mesh._maker._runtime = RUNTIME
    trace = tmp_path / "trace"
    for function in (functools.partial(print, Bomb(trace)), print):
        with pytest.raises(NotRegistered):
            mesh.submit(function).result(PATIENCE_SECONDS)
    named = registered.Registry(["stealmesh.examples.primes"]).packed(primes.is_prime)
    shipped = Shipped(primes.is_prime, Unchanging(), digest_of(named), named, NO_CODE)
    mesh._maker.ship = lambda options, fn: shipped  # type: ignore[method-assign]
    with pytest.raises(CannotLoad, match="data-only mode"):
        mesh.submit(primes.is_prime, Bomb(trace)).result(PATIENCE_SECONDS)
    assert mesh.submit(primes.is_prime, 7).exception(PATIENCE_SECONDS) is not None
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace))).close()
    assert trace.exists(), "where it is opened, it does leave one"


OTHER_WAY = """
import sys, stealmesh
from stealmesh.examples import primes, uts
with stealmesh.Mesh(sys.argv[1], key=stealmesh.Key(bytes.fromhex(sys.argv[2])), functions=[primes, uts]) as mesh:
    print(sum(mesh.map(primes.is_prime, range(1000))))
    try:
        mesh.submit(uts.root_state, 1).result(60)
    except stealmesh.MeshError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.real
def test_a_function_that_no_node_has(mixed: Mesh, tmp_path: Path) -> None:
    """The program has registered more than the nodes have; a node that takes code is not asked."""
    mixed.node("code")
    mixed.node("data", functions=["stealmesh.examples.primes"])
    write(tmp_path, program=OTHER_WAY)
    argv = [sys.executable, "program.py", mixed.seeds[0], mixed.key.secret.hex()]
    out = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)  # fmt: skip
    first, second = out.stdout.splitlines()
    assert first == "168"
    assert second.startswith("NotRegistered item 0 of ")
    assert "stealmesh.examples.uts:root_state" in second
    assert "node data" in second


# ---------------------------------------------------------------- names


@pytest.fixture(scope="module")
def registry() -> registered.Registry:
    return registered.Registry(["stealmesh.examples.primes", "stealmesh.examples.uts"])


def called(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


@pytest.mark.parametrize(
    "function",
    [
        primes.is_prime, operator.add, functools.partial(primes.is_prime, 7), Star(operator.add),
        Each(primes.is_prime, operator.add),  # type: ignore[arg-type]
        RetryOn(primes.is_prime, (ValueError, OSError)),
        functools.partial(uts.visit_tree, "T1", limit=3),
    ],
    ids=called,
)  # fmt: skip
def test_what_has_a_name_is_the_same_on_the_other_side(
    registry: registered.Registry, function: Any
) -> None:
    there = registry.opened(registry.packed(function))
    assert type(there) is type(function)
    assert registry.packed(there) == registry.packed(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda n: n, len, print, functools.lru_cache, primes._count_odd, uts.Tree, eval,
        functools.partial(eval, "1"), operator.methodcaller("x"), [].append,
    ],
    ids=called,
)  # fmt: skip
def test_what_has_none_is_refused_by_name(registry: registered.Registry, function: Any) -> None:
    with pytest.raises(NotRegistered, match="is not registered here"):
        registry.packed(function)


def test_arguments_that_are_no_plain_data(registry: registered.Registry) -> None:
    with pytest.raises(CannotShip, match="plain data only"):
        registry.packed(functools.partial(operator.add, {1}))


def said(data: Any) -> bytes:
    return registered.MARK + values.pack(data, plain_only=True)[1]


def nested(depth: int) -> Any:
    one: Any = ["name", "operator:add"]
    for _ in range(depth):
        one = ["star", one]
    return one


@pytest.mark.parametrize(
    ("blob", "error"),
    [
        (b"\x80\x05K\x01.", NotRegistered),
        (b"", NotRegistered),
        (said(["name", "os:system"]), NotRegistered),
        (said(["name", "builtins:eval"]), NotRegistered),
        (said(["name", "stealmesh.examples.primes:isqrt"]), NotRegistered),
        (said(["partial", ["name", "os:system"], [], {}]), NotRegistered),
        (said(["name"]), RemoteProtocolError),
        (said(["retry", ["name", "operator:add"], ["SystemExit"]]), RemoteProtocolError),
        (said(["each", ["name", "operator:add"]]), RemoteProtocolError),
        (said(nested(50)), RemoteProtocolError),
        (registered.MARK + b"\xc1", RemoteProtocolError),
        (registered.MARK, RemoteProtocolError),
    ],
)
def test_a_blob_that_names_nothing_of_ours(
    registry: registered.Registry, blob: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        registry.opened(blob)


def test_a_module_shows_what_it_lists_or_what_is_public_and_its_own(tmp_path: Path) -> None:
    import types

    open_module, listed = types.ModuleType("m"), types.ModuleType("l")
    code = "from os import getcwd\ndef f(): pass\ndef _g(): pass\nclass C: pass\nx = 1\n"
    exec(code, open_module.__dict__)
    exec(code + "__all__ = ['getcwd', '_g', 'C', 'x', 'missing']", listed.__dict__)
    assert set(registered.shown_by(open_module)) == {"f"}
    assert set(registered.shown_by(listed)) == {"getcwd", "_g"}
    with pytest.raises(ValueError, match="no public functions"):
        registered.Registry(["this"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"functions": []}, "name a module"),
        ({"functions": ["stealmesh.examples.primes"], "initializer": print}, "initializer"),
        ({"functions": ["not a name"]}, "not the name of a module"),
    ],
)
def test_arguments_of_a_mesh_that_do_not_go_together(arguments: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        stealmesh.Mesh(**arguments)
