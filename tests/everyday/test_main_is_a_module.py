"""The program's own file is a module in workers, as under multiprocessing, with a guard or without."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.running import finish, run, write

pytestmark = pytest.mark.real


@pytest.mark.parametrize("guard", ['if __name__ == "__main__":', "if True:"])
def test_the_programs_file_is_there(tmp_path: Path, guard: str) -> None:
    """Rows 22, 23, 24, 25, and their like: class-level locks, cached properties, single dispatch
    methods, enums, dataclasses with slots, named tuples, abstract classes."""
    run(
        tmp_path,
        f"""
        import abc, collections, dataclasses, enum, functools, multiprocessing, pickle, threading
        from concurrent.futures import ProcessPoolExecutor
        import stealmesh

        STATE = None
        def prepare(value):
            global STATE
            STATE = value
        def state(_): return STATE

        calls = []
        @functools.lru_cache
        def cached(x):
            calls.append(x)
            return 2 * x
        def many(x): return [cached(x) for _ in range(3)], len(calls), cached.cache_info().hits
        @functools.cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        @functools.singledispatch
        def area(x): return "any"
        @area.register
        def _(x: int): return "int"
        def areas(_): return area(1), area("s")

        class Slotted:
            __slots__ = ("a",)
            def __init__(self, a): self.a = a
            def __eq__(self, other): return type(other) is Slotted and self.a == other.a
        class Guarded:
            lock = threading.Lock()
            made = 0
            def __init__(self):
                with self.lock:
                    type(self).made += 1
            @functools.cached_property
            def square(self): return 49
            @functools.singledispatchmethod
            def show(self, x): return "any"
            @show.register
            def _(self, x: int): return "int"
        class Color(enum.Enum):
            RED = 1
        @dataclasses.dataclass(slots=True, frozen=True)
        class Point:
            x: int
            y: int = 0
        Pair = collections.namedtuple("Pair", "a b")
        class Base(abc.ABC):
            @abc.abstractmethod
            def go(self): ...
        class Child(Base):
            def go(self): return type(self).__name__

        def slotted(x): return Slotted(x)
        def guarded(_):
            it = Guarded()
            return it.square, it.show(1), it.show("s"), Guarded.made
        def reopened(data): return pickle.loads(data)
        def unnamed(data):
            import sys
            return type(pickle.loads(data)).__name__
        def dumped(x): return pickle.dumps(Slotted(x))
        def kinds(_): return Color.RED, Point(1, 2), Pair(1, 2), Child().go()
        def one(x): return x + 1
        def pooled(method):
            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map(one, [1, 2])
        def executor(_):
            with ProcessPoolExecutor(2) as pool:
                return list(pool.map(one, [1, 2]))

        {guard}
            with stealmesh.Mesh(workers=1, initializer=prepare, initargs=(5,)) as mesh:
                go = lambda f, x=0: mesh.submit(f, x).result()
                assert go(state) == 5
                assert list(mesh.map(state, [0, 1])) == [5, 5]
                results, made, hits = go(many, 4)
                assert results == [8] * 3 and made == 1 and hits == 2, (results, made, hits)
                assert go(many, 4)[1:] == (1, 5)
                assert go(cached, 3) == 6
                assert go(fib, 50) == 12586269025
                assert go(areas) == ("int", "any")
                assert go(area, 1) == "int"
                assert go(slotted, 3) == Slotted(3)
                assert list(mesh.map(slotted, [3, 4])) == [Slotted(3), Slotted(4)]
                assert go(guarded) == (49, "int", "any", 1)
                assert go(guarded) == (49, "int", "any", 2)
                assert Guarded.made == 0
                assert go(reopened, pickle.dumps(Slotted(9))) == Slotted(9)
                assert go(unnamed, pickle.dumps(Point(9, 9))) == "Point"
                assert pickle.loads(go(dumped, 7)) == Slotted(7)
                assert go(kinds) == (Color.RED, Point(1, 2), Pair(1, 2), "Child")
                assert go(pooled, "fork") == [2, 3]
                assert go(executor) == [2, 3]
                if __file__ and {guard!r}.startswith("if __name__"):
                    assert go(pooled, "spawn") == [2, 3]
                assert mesh.submit(isinstance, Slotted(1), Slotted).result()
        """,
    )


def test_the_programs_classes_are_never_touched(tmp_path: Path) -> None:
    """Row 3. Own inputs: a class inside a function, of a string that was executed, an exception."""
    run(
        tmp_path,
        """
        import stealmesh, time
        class Box:
            count = 0
            def __init__(self, x): self.x = x
            def show(self): return "old"
        class Oops(Exception):
            level = 1
        def local():
            class Inner:
                count = 0
                def __init__(self, x): self.x = x
            return Inner
        Inner = local()
        Hidden = local()
        exec("class Made:\\n  count = 0\\n  def __init__(self, x): self.x = x")
        def box(x): return Box(x)
        def inner(x): return Hidden(x)
        def made(x): return Made(x)
        def oops(x): raise Oops(x)
        with stealmesh.Mesh(workers=1) as mesh:
            first = [mesh.submit(f, 1) for f in (box, inner, made)]
            [f.exception() for f in first]
            Box.count = Hidden.count = Made.count = 7
            Oops.level = 7
            Box.show = lambda self: "new"
            for future, kind in zip(first, (Box, Hidden, Made)):
                assert future.result().x == 1
                assert type(future.result()) is kind, (future.result(), kind)
                assert kind.count == 7
            for f, kind in ((box, Box), (inner, Hidden), (made, Made)):
                for item in mesh.map(f, [1, 2]):
                    assert type(item) is kind and kind.count == 7, f
            assert Box(1).show() == "new" and mesh.submit(box, 1).result().show() == "new"
            error = mesh.submit(oops, 1).exception()
            assert type(error) is Oops and Oops.level == 7
        """,
    )


def test_tracebacks_show_file_line_and_text(tmp_path: Path) -> None:
    """Row 26: the program's file, a module of its own, `-c`, a doctest, a notebook's cell, IPython."""
    write(
        tmp_path,
        helper="""
            def deep(x):
                return 1 // x  # in helper
            """,
    )
    text = run(
        tmp_path,
        """
        import stealmesh, helper, doctest, linecache
        def bad(x):
            return 1 // x  # in program
        def deep(x): return helper.deep(x)
        def example():
            '''
            >>> def broken(x):
            ...     return 1 // x  # in doctest
            >>> told(broken)
            '''
        def told(f):
            try:
                mesh.submit(f, 0).result()
            except ZeroDivisionError as error:
                print(error.__cause__.text)
        with stealmesh.Mesh(workers=1) as mesh:
            told(bad)
            told(deep)
            told(lambda x: 1 // x)  # lambda
            doctest.run_docstring_examples(example, {"told": told})
            cell = "def cell(x):\\n    return 1 // x  # in cell\\n"
            name = "/tmp/ipykernel_1/123.py"
            linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
            exec(compile(cell, name, "exec"))
            told(cell)if callable(cell) else told(globals()["cell"])
        """,
    )
    assert f'File "{tmp_path}/program.py", line 4, in bad\n    return 1 // x  # in program' in text
    assert f'File "{tmp_path}/helper.py", line 3, in deep\n    return 1 // x  # in helper' in text
    assert "told(lambda x: 1 // x)  # lambda" in text
    assert 'File "<doctest' in text
    assert "    return 1 // x  # in doctest" in text
    assert 'File "/tmp/ipykernel_1/123.py", line 2, in cell\n    return 1 // x  # in cell' in text


@pytest.mark.parametrize("way", ["-c", "-"])
def test_a_program_without_a_file(tmp_path: Path, way: str) -> None:
    """`-c` and standard input: the same habits, as far as the text can be had."""
    text = """
import functools, pickle, stealmesh
K = 1
@functools.lru_cache
def f(x): return x + K
class C:
    __slots__ = ("a",)
    def __init__(self, a): self.a = a
    def __reduce__(self): return C, (self.a,)
class D:
    count = 0
def g(x): return pickle.loads(pickle.dumps(C(x))).a + f(x)
def made(x):
    D.count += 1
    return D.count
def back(x): return C(x)
with stealmesh.Mesh(workers=1) as mesh:
    assert mesh.submit(g, 1).result() == 3
    assert [mesh.submit(made, 1).result() for _ in range(3)] == [1, 2, 3]
    assert type(mesh.submit(back, 1).result()) is C
    assert mesh.submit(lambda c: c.a, C(4)).result() == 4
    K = 2
    assert mesh.submit(lambda x: x + K, 1).result() == 3
print("well")
"""
    out = finish(tmp_path, way, text) if way == "-c" else finish(tmp_path, way, stdin=text)
    assert out.strip() == "well"


def test_nothing_of_the_file_runs_but_definitions(tmp_path: Path) -> None:
    """A program without a guard: what it does at its top is done once, however much is made from its
    text. Own inputs: a file that it writes, a mesh that it starts, a module that nodes lack."""
    run(
        tmp_path,
        """
        import threading
        import stealmesh
        import sys, types
        only_here = types.ModuleType("only_here")
        with open("log.txt", "a") as log:
            log.write("once\\n")
        lock = threading.RLock()
        class Locked:
            lock = threading.Lock()
            def go(self):
                with self.lock, lock:
                    return 1
        def go(_): return Locked().go()
        mesh = stealmesh.Mesh(nodes=2, workers=1)
        assert list(mesh.map(go, range(50))) == [1] * 50
        mesh.shutdown()
        assert open("log.txt").read() == "once\\n"
        """,
    )


def test_spawned_children_of_a_program_without_guard_start_no_mesh(tmp_path: Path) -> None:
    """As multiprocessing refuses to start children there: a mesh would start itself for ever."""
    run(
        tmp_path,
        """
        import multiprocessing, sys
        import stealmesh
        if multiprocessing.current_process().name != "MainProcess":
            try:
                stealmesh.Mesh(workers=1)
            except RuntimeError as error:
                assert "__main__" in str(error)
                sys.exit(7)
        else:
            context = multiprocessing.get_context("spawn")
            child = context.Process(target=print)
            child.start()
            child.join()
            assert child.exitcode == 7, child.exitcode
        """,
    )
