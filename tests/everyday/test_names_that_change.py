"""Names that come, go and change where the program's text does not say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.running import run

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
