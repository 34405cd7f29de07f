"""functools.singledispatch and singledispatchmethod: an implementation that is added or replaced is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.running import run, write

pytestmark = pytest.mark.real

DISPATCHING = """
    import functools
    @functools.singledispatch
    def sd(x): return "any"
    @sd.register
    def _(x: int): return "int"
    class C:
        @functools.singledispatchmethod
        def g(self, x): return "any"
        @g.register
        def _(self, x: int): return "int"
        def other(self, x): return "other"
        class Inner:
            @functools.singledispatchmethod
            @classmethod
            def g(cls, x): return "any"
            def stays(self): pass
    class Sub(C): pass
    def helper(x): return sd(x), C().g(x), Sub().g(x), C.Inner.g(x)
    """
CHANGES = """
    def task(): return helper(1), helper(1.5), sd(1.5)
    def check(mesh, of_int, of_float, inner_int, inner_float):
        right = (*[of_int] * 3, inner_int), (*[of_float] * 3, inner_float), of_float
        for f in (task, lambda: task()):
            assert mesh.submit(f).result() == right, (mesh.submit(f).result(), right)
        assert mesh.submit(sd, 1).result() == of_int
        assert mesh.submit(sd, 1.5).result() == of_float
        assert mesh.submit(C().g, 1.5).result() == of_float
    if __name__ == "__main__":
        with stealmesh.Mesh(workers=1) as mesh:
            check(mesh, "int", "any", "any", "any")
            sd.register(float, lambda x: "float")
            C.__dict__["g"].register(float, lambda self, x: "float")
            C.Inner.__dict__["g"].register(float, classmethod(lambda cls, x: "inner"))
            check(mesh, "int", "float", "any", "inner")
            sd.register(float, lambda x: "new")
            C.__dict__["g"].register(float, lambda self, x: "new")
            check(mesh, "int", "new", "any", "inner")
            sd.register(int, lambda x: "other")
            C.__dict__["g"].register(int, C.other)
            check(mesh, "other", "new", "any", "inner")
    """


def program(*parts: str) -> str:
    import textwrap

    return "\n".join(map(textwrap.dedent, parts))


def test_implementations_of_the_programs_file(tmp_path: Path) -> None:
    run(tmp_path, program("import stealmesh", DISPATCHING, CHANGES))


def test_implementations_of_another_module(tmp_path: Path) -> None:
    write(tmp_path, dispatching=DISPATCHING)
    run(tmp_path, program("import stealmesh", "from dispatching import *", CHANGES))


def test_an_implementation_of_another_module_from_before_the_first_submit(tmp_path: Path) -> None:
    write(tmp_path, dispatching=DISPATCHING)
    run(
        tmp_path,
        """
        import stealmesh, dispatching
        @dispatching.sd.register
        def _(x: float): return "float"
        def task(): return dispatching.sd(1.5)
        if __name__ == "__main__":
            with stealmesh.Mesh(workers=1) as mesh:
                assert mesh.submit(task).result() == "float"
                assert mesh.submit(dispatching.helper, 1.5).result()[0] == "float"
        """,
    )
