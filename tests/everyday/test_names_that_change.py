"""Names that come, go and change where the program's text does not say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.running import run, write

pytestmark = pytest.mark.real


@pytest.mark.parametrize("names", ["{}", '{"__name__": "other"}', '{"__name__": "__main__"}'])
def test_variables_of_functions_that_exec_has_made(tmp_path: Path, names: str) -> None:
    """Set, changed in place, deleted, come to be, and those of a helper."""
    run(
        tmp_path,
        f"""
        import stealmesh
        ns = {names}
        exec('''if True:
            A = 3
            LIST = [1]
            class C:
                x = 1
            def f(): return A + h()
            def h(): return A
            def g(): return LIST[-1], C.x
            def absent():
                try:
                    return h() and LATER
                except NameError:
                    return "none"
            def len_of(): return len(LIST)
        ''', ns)
        with stealmesh.Mesh(workers=1) as mesh:
            def got(name): return mesh.submit(ns[name]).result()
            assert (got("f"), got("g"), got("absent"), got("len_of")) == (6, (1, 1), "none", 1)
            ns["A"] = 4
            ns["LIST"].append(2)
            ns["C"].x = 2
            ns["LATER"] = "there"
            now = got("f"), got("g"), got("absent"), got("len_of")
            assert now == (8, (2, 2), "there", 2), now
            exec("def h(): return 10", ns)
            ns["len"] = lambda given: "own"
            del ns["LATER"]
            now = got("f"), got("absent"), got("len_of")
            assert now == (14, "none", "own"), now
        """,
    )


def test_names_of_a_module_that_come_and_go(tmp_path: Path) -> None:
    """Before the first submit and after it; and they can come back. One mesh after the other: a worker that never had
    the change is left alone."""
    write(tmp_path, plain="def f(): return 1\ndef g(): return 2\nclass K: pass\n")
    run(
        tmp_path,
        """
        import stealmesh, plain
        NAMES = "x", "f", "g", "K", "late"
        def has(): return [n for n in NAMES if hasattr(plain, n)]
        def by_dict(): return [n for n in NAMES if n in plain.__dict__]
        def listed(): return [n for n in NAMES if n in dir(plain)]
        def calls(): return getattr(plain, "f", lambda: None)()
        def check(mesh, *right):
            for task in (has, by_dict, listed, lambda: has()):
                got = mesh.submit(task).result()
                assert got == list(right), (got, right)
            assert mesh.submit(calls).result() == (1 if "f" in right else None)
        f, K = plain.f, plain.K
        plain.x = 1
        for _ in range(2):
            with stealmesh.Mesh(workers=1) as mesh:
                check(mesh, "x", "f", "g", "K")
                del plain.x, plain.f
                check(mesh, "g", "K")
                plain.f = f
                del plain.K
                check(mesh, "f", "g")
                plain.K, plain.x = K, 1
                check(mesh, "x", "f", "g", "K")
        """,
    )


def test_names_that_a_module_binds_itself_are_its_own(tmp_path: Path) -> None:
    """Those in a branch that was not taken, and those that its functions bind (`global`)."""
    write(
        tmp_path,
        own="""
            import os
            if "IN_PROGRAM" not in os.environ:
                elsewhere = 1
            def makes():
                global late
                late = 1
            """,
    )
    run(
        tmp_path,
        """
        import os
        os.environ["IN_PROGRAM"] = "1"
        import stealmesh, own
        def has(): return hasattr(own, "elsewhere"), hasattr(own, "late")
        def begin(): del os.environ["IN_PROGRAM"]
        if __name__ == "__main__":
            own.makes()
            with stealmesh.Mesh(workers=1, initializer=begin) as mesh:
                assert mesh.submit(has).result() == (True, False)
        """,
    )
